"""What is masked of a rejected row, and what is not: doubt hides, and only where there is something to hide."""

from dataclasses import replace
from pathlib import Path

import pytest

from mappings.spec import TableSpec, parse
from migrate.core import Finding
from migrate.personal import masked, masked_finding, source_names
from migrate.quarantine import QuarantinedRow

PROJECT = """\
migration: acme
target: ${env:TARGET_URL}
sources: {crm: {files: "*.csv"}}
tables:
  people:
    from: crm.people
    key: KEY
    columns:
      id: uuid(No)
      email: lower(trim("E-Mail"))
      domain: split_part("E-Mail", '@', 2)
      born: CAST(Born AS date)
      joined: Joined::date
      total: parse_money(Total, 'de')
    personal: PERSONAL
"""
ROW = QuarantinedRow(
    7,
    "people",
    0,
    0,
    "open",
    "type",
    "total",
    "viel",
    "'viel' is no number",
    "No=1",
    {"file": "p.csv", "line": 2},
    b"raw",
    None,
)


def spec(personal: str = "[email, born]", key: str = "No") -> TableSpec:
    return parse(PROJECT.replace("PERSONAL", personal).replace("KEY", key), Path("migrate.yaml")).tables["people"]


@pytest.mark.parametrize("column", ["email", "born"])
def test_a_personal_column_shows_nothing(column: str) -> None:
    shown = masked(replace(ROW, column=column), spec())
    assert shown.value == "(personal)"
    assert shown.reason == "(personal; `migrate rejects show 7` says why)"
    assert shown.raw == b""


@pytest.mark.parametrize("column", ["domain", "E-Mail", None])
def test_what_may_hold_a_personal_value_shows_nothing_either(column: str | None) -> None:
    shown = masked(replace(ROW, column=column), spec())
    assert (shown.value, shown.reason) == ("(may be personal)", "(may be personal; `migrate rejects show 7` says why)")
    told = masked(replace(ROW, column=column, rule="encoding", reason="byte 0x81 at byte 9"), spec())
    assert (told.value, told.reason) == ("(may be personal)", "byte 0x81 at byte 9"), "a place is no value"


@pytest.mark.parametrize("column", ["total", "joined"])
def test_the_others_stay_as_they_are(column: str) -> None:
    row = replace(ROW, column=column)
    assert masked(row, spec()) == replace(row, raw=b"")
    assert masked(row, spec(personal="[]")) == row


def test_a_foreign_key_over_several_columns_names_them_all() -> None:
    one = replace(ROW, rule="foreign_key", reason="no row of x has (a=1) (fk)")
    assert masked(one, spec()).reason == one.reason
    two = replace(ROW, rule="foreign_key", reason="no row of x has (a=1, b=ada) (fk)")
    assert "ada" not in masked(two, spec()).reason


def test_a_key_that_a_personal_column_is_made_of_is_masked() -> None:
    assert masked(ROW, spec(key="no")).key == "No=1"
    shown = masked(replace(ROW, key="e-mail=ada@x"), spec(key="e-mail"))
    assert (shown.key, shown.locator) == ("(personal)", ROW.locator)
    keyed = masked(replace(ROW, key="e-mail=ada@x", locator={"key": "ada@x"}), spec(key="e-mail"))
    assert keyed.locator == {"key": "(personal)"}


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("lower(trim(Email))", {"email"}),
        ('"First Name" || \' Surname \' || "a""b"', {"first name", 'a"b'}),
        ("CASE WHEN a IS NULL THEN 'it''s b' ELSE cast(c AS varchar) END", {"a", "c"}),
        ("x::date + y", {"x", "y"}),
        ("parse_date (Born, 'DD.MM.YYYY')", {"born"}),
        ("'constant'", set()),
    ],
)
def test_the_names_in_an_expression(expression: str, names: set[str]) -> None:
    assert source_names(expression) == names


DIFFERS = Finding(
    "rows.differ",
    "error",
    "people",
    "people: id=7: domain should be 'a.org' and is 'b.org'",
    "id=7",
    "'a.org'",
    "'b.org'",
)


def test_a_difference_shows_no_value_of_a_column_that_is_or_may_be_personal() -> None:
    shown = masked_finding(replace(DIFFERS, key="total=7"), spec())
    assert shown.message == "people: domain: values are not shown, they may be personal"
    assert (shown.key, shown.expected, shown.actual) == ("total=7", "(may be personal)", "(may be personal)")
    extremes = Finding("aggregates.most", "error", "people", "people: born: the greatest …9", None, "9", "8")
    assert "9" not in str(masked_finding(extremes, spec()))
    keyless = replace(DIFFERS, message="people: a row: domain=a.org, total=1", key="domain=a.org, total=1")
    assert masked_finding(keyless, spec()).key == "(personal)"


@pytest.mark.parametrize(
    "finding",
    [
        replace(
            DIFFERS, message="people: total=7: joined should be 1 and is 2", key="total=7", expected="1", actual="2"
        ),
        replace(
            DIFFERS, message="people: total=7: email should be (personal) and is NULL", key="total=7", actual="NULL"
        ),
        Finding("counts.target", "error", "people", "people: 5 rows", None, "5", "4"),
        Finding("rows.uncovered", "warning", "people", "people: born: not compared"),
        Finding("verification.unended", "error", "people", "people: not proved: the last verification did not end"),
    ],
)
def test_a_difference_elsewhere_and_a_masked_one_stay_as_they_are(finding: Finding) -> None:
    assert masked_finding(finding, spec()) == finding
    assert masked_finding(finding, spec(), strictly=True) == finding


def test_what_other_checks_say_of_a_table_with_personal_columns_is_strictly_not_shown() -> None:
    other = Finding("regex.email", "error", "people", "people: 'ada@x' does not match", "total=7", None, "ada@x")
    assert masked_finding(other, spec()) == other
    shown = masked_finding(other, spec(), strictly=True)
    assert "ada" not in str(shown)
    assert shown.key == "total=7"
    assert masked_finding(replace(other, key="ada@x"), spec(), strictly=True).key == "(personal)"
    assert masked_finding(other, spec(personal="[]"), strictly=True) == other


def test_a_database_s_own_key_is_masked_where_a_personal_column_is_made_of_it() -> None:
    row = replace(ROW, key=None, locator={"table": "people", "key": "Region=4, E-Mail=ada@x"})
    assert masked(row, spec()).locator == {"key": "(personal)"}
    assert masked(replace(row, locator={"table": "people", "key": "Region=4"}), spec()).locator["key"] == "Region=4"
