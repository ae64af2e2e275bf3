"""Texts from the bytes of UTF-16: each as it is, or told to be none; never another one."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import typed, utf16
from migrate.errors import SourceError

UNITS = st.sampled_from(
    [0, 0x41, 0x7F, 0x80, 0xE4, 0x7FF, 0x800, 0x65E5, 0xD83D, 0xDBFF, 0xDC00, 0xDE00, 0xFEFF, 0xFFFD, 0xFFFE]
)
VALUES = st.lists(st.none() | st.lists(UNITS, max_size=6), max_size=12)


def told(values: list[bytes | None], skip: int = 0) -> list[tuple[str | None, str | None]]:
    """Each value's text, and what it is where it is none."""
    found = utf16.texts(pa.array([*[b"x\x00"] * skip, *values], pa.binary()).slice(skip))
    if not pa.types.is_struct(found.type):
        found.validate(full=True)
        return [(text, None) for text in found.to_pylist()]
    texts, mask = typed.told(found)
    assert [wrong is not None for wrong in found.field("wrong").to_pylist()] == list(mask)
    shown = [None if w is None else w.decode("utf-8", "surrogatepass") for w in found.field("wrong").to_pylist()]
    return list(zip(texts.to_pylist(), shown, strict=True))


@settings(deadline=None)
@given(VALUES, st.integers(0, 3))
def test_a_text_is_what_its_bytes_are_or_is_told(values: list[list[int] | None], skip: int) -> None:
    data = [None if v is None else b"".join(unit.to_bytes(2, "little") for unit in v) for v in values]
    for value, (text, wrong) in zip(data, told(data, skip), strict=True):
        try:
            expected = None if value is None else value.decode("utf-16-le")
        except UnicodeDecodeError:
            assert (text, wrong) == (None, value and value.decode("utf-16-le", "surrogatepass"))
        else:
            assert (text, wrong) == (expected, None)


def test_two_halves_in_two_values_make_no_pair() -> None:
    halves = ["a\ud83d", "", "\ude00b", "\ufffd", "😀"]
    values = [text.encode("utf-16-le", "surrogatepass") for text in halves]
    assert told(list(values)) == [
        (None, "a\ud83d"),
        ("", None),
        (None, "\ude00b"),
        ("\ufffd", None),
        ("😀", None),
    ]


def test_a_part_of_a_character_is_an_error() -> None:
    with pytest.raises(SourceError, match="part of a character"):
        utf16.texts(pa.array([b"a\x00b"]))
