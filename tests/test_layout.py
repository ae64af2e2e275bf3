"""Which columns of a source are not shown, for a personal target column is made of them."""

from pathlib import Path

import pytest

from mappings.spec import parse
from migrate.layout import personal

PROJECT = """\
migration: m
target: postgresql://h/d
sources: {s: {files: {t: t.csv, u: u.csv}}}
tables:
  a: {from: s.t, columns: {x: %s, y: Other}, personal: [x]}
  b: {from: [s.u, s.t], to: b, columns: {z: Plain}}
"""


@pytest.mark.parametrize(
    ("expression", "column", "hidden"),
    [
        ("Name", "Name", True),
        ("Name", "NAME", True),
        ("Name", "Na", False),
        ("Name", "Other", False),
        ("Name", "Plain", False),
        ("upper(trim(Name)) || Ort", "Ort", True),
        ("'\"First Name\" || x'", "First Name", True),
        ('\'"5"" pipe"\'', '5" pipe', True),
        ("'\"a.b\"'", "axb", False),
        ("pack_rest()", "Anything", True),
    ],
)
def test_a_column_that_a_personal_one_is_made_of_is_hidden(expression: str, column: str, hidden: bool) -> None:
    tables = parse(PROJECT % expression, Path("migrate.yaml")).tables.values()
    assert personal(tables, ("s", "t"))(column) == hidden
    assert not personal(tables, ("s", "u"))(column)
