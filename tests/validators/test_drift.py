"""How much of a change matters: what no server of the tests can be brought to say by itself."""

import pytest

from migrate.core import Described, Description
from validators.drift import of_mapping, of_source

A = {"a": Described("string", "varchar(20)")}


@pytest.mark.parametrize(
    ("before", "now", "differs"),
    [(10_000, 4_999, True), (10_000, 5_000, False), (10_000, 20_001, True), (10_000, 20_000, False), (10, 900, False),
     (0, 10_000, False), (10_000, 0, False)],
)  # fmt: skip
def test_a_number_of_rows_is_a_warning_where_it_is_another_table_s(before: int, now: int, differs: bool) -> None:
    found = list(of_source("t", "s.t", Description(A, rows=before), Description(A, rows=now), ["a"]))
    assert [(f.check, f.severity) for f in found] == ([("drift.rows", "warning")] if differs else [])


def test_a_longer_text_is_read_as_before() -> None:
    (finding,) = of_source("t", "s.t", Description(A), Description({"a": Described("string", "varchar(40)")}), ["a"])
    assert (finding.severity, finding.expected, finding.actual) == ("warning", "varchar(20)", "varchar(40)")


@pytest.mark.parametrize(("packs", "severity"), [(True, "error"), (False, "warning")])
def test_a_new_column_matters_where_the_mapping_packs_what_is_left(packs: bool, severity: str) -> None:
    now = Description({**A, "b": Described("string", "text")})
    assert [f.severity for f in of_source("t", "s.t", Description(A), now, ["a", "b"], packs=packs)] == [severity]


def test_what_is_kept_by_its_hash_is_named_and_not_shown() -> None:
    before = {"the code table iso": "#1", "where": "x > 1", "column a": "a"}
    assert of_mapping(before, {"the code table iso": "#2", "where": "x > 1", "column a": "b"}) == [
        "the code table iso was changed",
        "column a was a and is b",
    ]
