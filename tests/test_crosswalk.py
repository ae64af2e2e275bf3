"""Children follow their parents' survivors: the lookup is a dictionary's, whatever the type of the key."""

import uuid
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrate.crosswalk import Keys, Trail, overridden, replaced

Key = tuple[Any, ...]

STAMP = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1))
KINDS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "int2": (pa.int16(), st.integers(-(2**15), 2**15 - 1)),
    "int4": (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    "int8": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "text": (pa.string(), st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=4)),
    "uuid": (pa.binary(16), st.uuids().map(lambda u: u.bytes)),
    "numeric(9,2)": (pa.decimal128(9, 2), st.decimals(-9999999, 9999999, places=2)),
    "numeric(38,10)": (pa.decimal128(38, 10), st.integers(-(10**38) + 1, 10**38 - 1).map(lambda n: decimal(n, 10))),
    "date": (pa.date32(), st.dates(date(1, 1, 1), date(9999, 12, 31))),
    "timestamp": (pa.timestamp("us"), STAMP),
    "timestamptz": (pa.timestamp("us", "UTC"), STAMP.map(lambda d: d.replace(tzinfo=UTC))),
    "bool": (pa.bool_(), st.booleans()),
    "bytea": (pa.binary(), st.binary(max_size=4)),
    "float8": (pa.float64(), st.floats(allow_nan=False, allow_infinity=True)),
}
COMPOSITE = [
    ("text", "text"),
    ("int4", "uuid"),
    ("date", "text", "int8"),
    ("numeric(38,10)", "bool"),
    ("timestamptz", "text"),
]


def decimal(unscaled: int, places: int) -> Decimal:
    return Decimal((int(unscaled < 0), tuple(map(int, str(abs(unscaled)))), -places))


def table(kinds: Sequence[pa.DataType], rows: Sequence[Key], names: Sequence[str]) -> pa.RecordBatch:
    arrays = [pa.array([row[i] for row in rows], kind) for i, kind in enumerate(kinds)]
    return pa.RecordBatch.from_arrays(arrays, names=list(names))


def follow(keys: Keys, rows: pa.RecordBatch, *columns: str, numbers: Sequence[bool] = ()) -> pa.RecordBatch:
    trail = Trail(keys, columns, numbers=numbers)
    try:
        return trail(rows)
    finally:
        trail.close()


def followed(
    kinds: Sequence[pa.DataType], pairs: Sequence[tuple[Key, Key]], children: Sequence[Key], parts: int = 1
) -> list[Key]:
    """The references of children, given (loser's key, survivor's key) pairs."""
    n = len(kinds)
    of_parent, of_child = [f"p{i}" for i in range(n)], [f"c{i}" for i in range(n)]
    names = [*(f"l·{c}" for c in of_parent), *(f"s·{c}" for c in of_parent)]
    cut = [pairs[i::parts] for i in range(parts)]
    keys = Keys(of_parent, [table([*kinds, *kinds], [(*a, *b) for a, b in part], names) for part in cut if part])
    assert len(keys) == len(pairs)
    rows = table(kinds, children, of_child).append_column("other", pa.array(range(len(children))))
    found = follow(keys, rows, *of_child)
    assert found.schema == rows.schema
    assert found["other"] == rows["other"]
    return list(zip(*(found[c].to_pylist() for c in of_child), strict=True))


def by_dictionary(pairs: Sequence[tuple[Key, Key]], children: Sequence[Key]) -> list[Key]:
    known = dict(pairs)
    return [known.get(child, child) if None not in child else child for child in children]


@st.composite
def cases(draw: st.DrawFn, names: Sequence[str]) -> tuple[list[tuple[Key, Key]], list[Key]]:
    """Some losers, each once, and children: of losers, of survivors, of strangers, and with NULLs."""
    one = st.tuples(*(KINDS[name][1] for name in names))
    losers = draw(st.lists(one, min_size=1, max_size=8, unique=True))
    survivors = draw(st.lists(one, min_size=len(losers), max_size=len(losers)))
    partly = st.tuples(*(st.one_of(st.none(), KINDS[name][1]) for name in names))
    children = draw(st.lists(st.one_of(st.sampled_from([*losers, *survivors]), partly, one), max_size=20))
    if draw(st.booleans()):
        losers[0] = tuple(None for _ in names)
    return list(zip(losers, survivors, strict=True)), children


@pytest.mark.parametrize("names", [*((name,) for name in KINDS), *COMPOSITE], ids=" ".join)
def test_references_follow_as_a_dictionary_says(names: tuple[str, ...]) -> None:
    @settings(max_examples=12, deadline=None)
    @given(cases(names), st.integers(1, 3))
    def law(case: tuple[list[tuple[Key, Key]], list[Key]], parts: int) -> None:
        pairs, children = case
        assert followed([KINDS[n][0] for n in names], pairs, children, parts) == by_dictionary(pairs, children)

    law()


@settings(max_examples=25, deadline=None)
@given(cases(("int4", "text")))
def test_keys_of_the_same_hash_are_told_apart(case: tuple[list[tuple[Key, Key]], list[Key]]) -> None:
    pairs, children = case

    def constant(self: Any, batch: pa.RecordBatch) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
        return np.zeros(batch.num_rows, np.int64), np.full(batch.num_rows, 7, np.uint64)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("migrate.checksum.Hasher.__call__", constant)
        assert followed([pa.int32(), pa.string()], pairs, children) == by_dictionary(pairs, children)


def test_a_child_of_a_narrower_type_follows_and_keeps_its_own() -> None:
    """A child's int4 or text may name a parent's int8 or varchar; where a value fits, it is found."""
    keys = Keys(["id"], [table([pa.int64()] * 2, [(1, 2), (2**40, 3)], ["l·id", "s·id"])])
    rows = pa.RecordBatch.from_pydict({"parent": pa.array([1, None, 3, 1], pa.int32())})
    found = follow(keys, rows, "parent")
    assert found.schema == rows.schema
    assert found["parent"].to_pylist() == [2, None, 3, 2]


NUMERIC = (pa.string(), [("1", "2.50"), ("10.00", "7"), ("0.50", "3"), ("-20", "4.0"), ("100", "9.25"), ("0", "6")])
DECIMAL = (pa.decimal128(9, 2), [(Decimal(a).quantize(Decimal("0.01")), Decimal(b)) for a, b in NUMERIC[1]])


@pytest.mark.parametrize(
    ("parent", "child", "held", "expected"),
    [
        pytest.param(
            NUMERIC, pa.string(), "1.0 1.00 10 .5 0.5 -20.0 100 1000 0.00", "2.50 2.50 7 .5 3 4.0 9.25 1000 6"
        ),
        pytest.param(NUMERIC, pa.decimal128(9, 1), "1.0 10.0 0.5 100.0 5.0", "2.5 7.0 3.0 100.0 5.0"),
        pytest.param(NUMERIC, pa.int32(), "1 10 100 -20 0", "1 7 100 4 6"),
        pytest.param(NUMERIC, pa.float64(), "1.0 0.5 -20", "2.5 3.0 4.0"),
        pytest.param(DECIMAL, pa.string(), "1.000 10 0.5 1.001", "2.5 7 3 1.001"),
        pytest.param((pa.int64(), [(1, 20)]), pa.string(), "1.0 1 1.5", "20 20 1.5"),
    ],
)
def test_numbers_are_followed_by_what_they_are_and_not_by_how_they_are_spelled(
    parent: tuple[pa.DataType, list[Key]], child: pa.DataType, held: str, expected: str
) -> None:
    kind, pairs = parent
    keys = Keys(["id"], [table([kind] * 2, pairs, ["l·id", "s·id"])])

    def column(words: str) -> pa.Array:
        number = {pa.int32(): int, pa.float64(): float, pa.string(): str}.get(child, Decimal)
        return pa.array([number(w) for w in words.split()], child)

    found = follow(keys, pa.RecordBatch.from_pydict({"p": column(held)}), "p", numbers=[True])
    if pa.types.is_string(child):
        assert [Decimal(w) for w in found["p"].to_pylist()] == [Decimal(w) for w in expected.split()]
    else:
        assert found["p"] == column(expected)


def test_texts_are_followed_by_how_they_are_spelled() -> None:
    keys = Keys(["id"], [table([pa.string()] * 2, [("1", "2")], ["l·id", "s·id"])])
    assert follow(keys, pa.RecordBatch.from_pydict({"p": ["1.0", "1"]}), "p")["p"].to_pylist() == ["1.0", "2"]


def test_hundred_thousand_losers_are_followed_by_a_million_children_at_once() -> None:
    n = 100_000
    ids = [uuid.UUID(int=i * 2**64 + 5).bytes for i in range(2 * n)]
    keys = Keys(["id"], [table([pa.binary(16)] * 2, list(zip(ids[:n], ids[n:], strict=True)), ["l·id", "s·id"])])
    children = pa.RecordBatch.from_pydict({"parent": pa.array(ids * 5, pa.binary(16))})
    found = follow(keys, children, "parent")
    assert found["parent"].to_pylist() == (ids[n:] * 2) * 5


def test_nobody_lost_means_nothing_to_follow() -> None:
    assert len(Keys(["id"], ())) == 0


# ------------------------------------------------------------------------------------------------------------ overrides


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.lists(st.one_of(st.none(), st.text(max_size=2)), max_size=2)), max_size=8),
    st.data(),
)
def test_values_under_the_mask_are_replaced_and_no_others(values: list[Any], data: st.DataObject) -> None:
    kind = pa.list_(pa.string())
    mask = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
    by = [["new", str(i)] for i in range(sum(mask))]
    found = replaced(pa.array(values, kind), np.array(mask, np.bool_), pa.array(by, kind))
    new = iter(by)
    assert found.to_pylist() == [next(new) if m else v for v, m in zip(values, mask, strict=True)]


def test_chosen_values_find_their_rows_by_ordinal() -> None:
    rows = pa.RecordBatch.from_pydict({"a": pa.array(["x", "y", None]), "b": [1, 2, 3]})
    ordinals = np.array([4, 7, 9])
    values = {
        "a": (np.array([1, 7, 9, 12]), pa.array(["no", "Y", "Z", "no"])),
        "b": (np.array([5]), pa.array([50])),
    }
    assert overridden(rows, ordinals, values).to_pydict() == {"a": ["x", "Y", "Z"], "b": [1, 2, 3]}
    assert overridden(rows.slice(0, 0), ordinals[:0], values).num_rows == 0
