"""Layouts compared: every difference has words, and equal layouts have none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validators.schema import Misfits, columns, rows, values

WANTED = ["KundenNr", "Name", "Geboren"]


def told(found: list[str], *, any_order: bool = False) -> str:
    findings = columns("crm.t", WANTED, {"t.csv": found}, any_order=any_order)
    return findings[0].message if findings else ""


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (WANTED, ""),
        (["KundenNr", "Name"], 't.csv: no column "Geboren"'),
        ([*WANTED, "Ort"], 't.csv: a column "Ort" that is not expected'),
        (["Kundennr", "Name", "Geboren"], 't.csv: the column "KundenNr" is spelled "Kundennr" there'),
        (["KundenNr", "Name", "Gebboren"], 't.csv: no column "Geboren", but "Gebboren", which is not expected: was it renamed?'),
        (["KundenNr", "Name", "DOB"], 't.csv: no column "Geboren", but "DOB" in its place, which is not expected'),
        (["Name", "KundenNr", "Geboren"],
         't.csv: another order of columns: "Name" stands where "KundenNr" should; they are Name, KundenNr, Geboren'),
        (["Geboren", "kundennr", "Name"],
         't.csv: the column "KundenNr" is spelled "kundennr" there; another order of columns: "Geboren" stands where '
         '"kundennr" should; they are Geboren, kundennr, Name'),
    ],
)  # fmt: skip
def test_each_difference_of_the_columns_has_its_words(found: list[str], says: str) -> None:
    assert told(found) == says


def test_an_order_that_does_not_matter_is_no_fault() -> None:
    assert told(WANTED[::-1], any_order=True) == ""
    assert told(["Geboren", "Name"], any_order=True) == 't.csv: no column "KundenNr"'


names = st.lists(st.sampled_from(["a", "A", "b", "ab", "abc", "x"]), unique=True, min_size=1)


@given(names, names, st.booleans())
def test_layouts_differ_exactly_where_something_is_said(expected: list[str], found: list[str], any_order: bool) -> None:
    same = sorted(expected) == sorted(found) if any_order else expected == found
    assert bool(columns("t", expected, {"f": found}, any_order=any_order)) == (not same)


@given(names, names)
def test_every_missing_and_every_extra_column_is_named(expected: list[str], found: list[str]) -> None:
    message = "".join(f.message for f in columns("t", expected, {"f": found}))
    assert all(f'"{name}"' in message for name in {*expected} ^ {*found})


@pytest.mark.parametrize(
    ("least", "most", "says"),
    [
        (3, 3, ""),
        (0, None, ""),
        (1, 3, ""),
        (2, 2, "3 rows, and 2 are expected"),
        (4, None, "3 rows, and at least 4 are expected"),
        (0, 2, "3 rows, and at most 2 are expected"),
        (1_000, 5_000, "3 rows, and at least 1,000 are expected"),
    ],
)
def test_rows_are_within_limits(least: int, most: int | None, says: str) -> None:
    assert [f.message for f in rows("t", least, most, 3)] == ([says] if says else [])


def test_a_column_with_misfits_is_said_with_some_of_them() -> None:
    misfits = [Misfits("a", "integer", 1, [("t.csv:2", "'x'")]), Misfits("b", "date", 2_000, [("t.csv:3", "''")])]
    first, second = values("t", misfits, severity="warning")
    assert first.message == "column a: 1 value is not integer: t.csv:2 'x'"
    assert second.message == "column b: 2,000 values are not date: t.csv:3 '', …"
    assert {f.severity for f in (first, second)} == {"warning"}
