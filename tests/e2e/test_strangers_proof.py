"""What a stranger found in verification, proof and reports: each as it was reported."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from e2e.rig import Ended, Rig

HEAD = """\
migration: m
target: ${env:TARGET_URL}
defaults: {max_rejects: 100%}
sources:
  old: sqlite:///old.db
  f: {files: "*.csv", delimiter: comma}
tables:
"""
T = "  t: {from: old.t, key: id, columns: {id: id, born: born, d: d, name: name}}\n"
TABLE = "CREATE TABLE t (id bigint PRIMARY KEY, born date, d double precision, name text)"


def loaded(rig: Rig, tables: str = T, more: str = "") -> Rig:
    with closing(sqlite3.connect(Path(rig.folder) / "old.db")) as source, source:
        source.executescript(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, born DATE, d DOUBLE, name TEXT);"
            "INSERT INTO t VALUES (1, '1970-01-01', 0.5, 'a'), (2, '1980-01-01', 1.5, 'b'), (3, NULL, NULL, 'c')"
        )
    rig.sql(f"{TABLE};{more}")
    rig.write("migrate.yaml", HEAD + tables)
    rig.migrate("run")
    return rig


def report(rig: Rig, code: int) -> str:
    """What the report says on a terminal."""
    return rig.migrate("report", code=code).out


# ---------------------------------------------------------------------------------------------------- measures of both sides


@pytest.mark.parametrize("value", ["infinity", "-infinity"])
@pytest.mark.parametrize("level", ["aggregates", "rows"])
def test_an_infinite_date_is_a_difference_like_any_other(rig: Rig, level: str, value: str) -> None:
    """Left out of the sum, it would be as much as the day that it took the place of."""
    loaded(rig).sql(f"UPDATE t SET born = '{value}' WHERE id = 1")
    said = rig.migrate("verify", "--level", level, code=3).out
    assert "t: born: the sum should be 3652 by the source, and is " + value in said


def test_it_is_said_of_floats_how_far_they_are_compared(rig: Rig) -> None:
    rig.sql("CREATE TABLE was (id int PRIMARY KEY, d float8); INSERT INTO was VALUES (1, 0.5), (2, 1.5)")
    rig.sql("CREATE TABLE a (id int PRIMARY KEY, d float8)")
    tables = "  a: {from: here.was, key: id, columns: {id: id, d: d}}\n"
    rig.write("migrate.yaml", HEAD.replace("  old:", "  here: ${env:TARGET_URL}\n  old:") + tables)
    rig.migrate("run")
    said = rig.migrate("verify", "--level", "aggregates").out
    assert "compared by number, least and greatest only: d" in said


def test_a_row_too_many_where_the_source_has_none_stops_no_repair(rig: Rig) -> None:
    rig.write("a.csv", "id\n")
    tables = "  a: {from: f.a, key: id, columns: {id: id}}\n"
    loaded(rig, tables + T, "CREATE TABLE a (id int PRIMARY KEY)")
    rig.sql("INSERT INTO a VALUES (7)")
    left = rig.migrate("verify", "--fixup", code=3)
    assert "1 that are not the source's were left" in left.out
    assert "t: equal" in left.out
    refused = rig.migrate("verify", "--fixup", "-y", code=4)
    assert "Delete them by hand" in refused.err
    assert "t: equal" in refused.out


# -------------------------------------------------------------------------------------------------------------- expectations


def test_a_file_is_held_against_a_regular_expression(rig: Rig) -> None:
    rig.write("l.csv", "id,email\n1,Qa@x\n2,b@x\n")
    rig.sql("CREATE TABLE l (id int PRIMARY KEY, email text)")
    source = 'sources: {s: {files: {l: l.csv}, delimiter: comma, expect: {l: {regex: {email: "^Q"}}}}}\n'
    rig.write(
        "migrate.yaml",
        "migration: m\ntarget: ${env:TARGET_URL}\n"
        f"{source}tables:\n  l: {{from: s.l, key: id, columns: {{id: id, email: email}}}}\n",
    )
    assert "l.csv:3" in rig.migrate("check", code=3).out
    assert "regex" in rig.migrate("run", code=3).said
