"""What a stranger found in verification, proof and reports: each as it was reported."""

import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from e2e.rig import Rig

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


EQUAL = "Equal row by row"  # and yet not proved: SQLite's file may be written while it is read


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


BAD = "checks: {bad: SELECT id / 0 FROM t, none: SELECT id FROM t WHERE id < 0}"


def with_more(more: str) -> str:
    return T.replace("}}\n", f"}}, {more}}}\n")


def test_a_check_that_fails_hides_nothing_else(rig: Rig) -> None:
    rig = loaded(rig, with_more(BAD))
    rig.sql("UPDATE t SET name = 'other' WHERE id = 2")
    ended = rig.migrate("verify", code=2)
    assert "id=2: name" in ended.out
    assert "tables.t.checks.bad" in ended.err
    said = report(rig, 3)
    assert "id=2: name" in said
    assert "division by zero" in said


def test_a_parent_that_has_no_such_column_hides_nothing_else(rig: Rig) -> None:
    rig = loaded(rig, with_more("expect: {foreign: {id: t.nothing}}"))
    rig.sql("UPDATE t SET name = 'other' WHERE id = 2")
    ended = rig.migrate("verify", code=2)
    assert "id=2: name" in ended.out
    assert "id=2: name" in report(rig, 3)


def test_check_refuses_what_the_target_cannot_answer(rig: Rig) -> None:
    rig.sql(TABLE)
    with closing(sqlite3.connect(Path(rig.folder) / "old.db")) as source, source:
        source.executescript("CREATE TABLE t (id INTEGER PRIMARY KEY, born DATE, d DOUBLE, name TEXT)")
    rig.write(
        "migrate.yaml",
        HEAD
        + with_more(
            "expect: {foreign: {id: t.nothing, name: nowhere.id}}, "
            "checks: {bad: SELECT idd FROM t, slow: 'SELECT id, pg_sleep(60) FROM t'}"
        ),
    )
    said = rig.migrate("check", code=3).out
    assert 'public.t has no column "nothing"' in said
    assert "there is no table public.nowhere" in said
    assert 'tables.t.checks.bad: column "idd" does not exist' in said
    assert "slow" not in said


def test_a_check_that_fails_quotes_no_personal_value(rig: Rig) -> None:
    rig = loaded(rig, with_more("personal: [name], checks: {bad: 'SELECT id FROM t WHERE name::int = 1'}"))
    rig.sql("UPDATE t SET name = 'PERS1'")
    ended = rig.migrate("verify", code=2)
    assert "22P02" in ended.err
    for said in (ended.said, report(rig, 3), rig.migrate("report", "--format", "json", code=3).out):
        assert "PERS1" not in said
    assert "PERS1" not in str(rig.sql("SELECT * FROM migrate_ledger.finding"))


@pytest.mark.parametrize("personal", [True, False])
def test_a_trigger_that_speaks_of_a_personal_value_is_not_repeated(rig: Rig, personal: bool) -> None:
    rig = loaded(rig, with_more("personal: [name]") if personal else T)
    rig.sql("UPDATE t SET name = 'other' WHERE id = 1; UPDATE t SET name = 'PERS1' WHERE id = 2")
    rig.sql(
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no %', old.name; END $$; "
        "CREATE TRIGGER f BEFORE UPDATE ON t FOR EACH ROW WHEN (old.id = 2) EXECUTE FUNCTION f()"
    )
    said = rig.migrate("verify", "--fixup", code=7).said
    assert "P0001" in said
    assert ("PERS1" in said) is not personal


def test_what_is_asked_no_more_is_said_no_more(rig: Rig) -> None:
    rig = loaded(rig, with_more("checks: {some: SELECT id FROM t}"))
    rig.migrate("verify", code=3)
    rig.write("migrate.yaml", HEAD + T)
    rig.migrate("verify")
    assert EQUAL in report(rig, 0)


# --------------------------------------------------------------------------------------- what a verification says, and how long


def junit(rig: Rig) -> str:
    return rig.migrate("report", "--format", "junit", code=3).out


@pytest.mark.parametrize(
    ("damage", "level"),
    [
        ("DROP TABLE t", "rows"),
        ("ALTER TABLE t DROP COLUMN name", "counts"),
    ],
)
def test_a_verification_that_does_not_end_leaves_no_proof(rig: Rig, damage: str, level: str) -> None:
    rig = loaded(rig)
    rig.migrate("verify")
    assert EQUAL in report(rig, 0)
    rig.sql(damage)
    assert rig.try_("verify", "--level", level).code in (2, 3)
    said = report(rig, 3)
    assert "Not proved: the last verification of t did not end." in said
    assert "equal" not in said
    assert "Next: migrate verify" in said
    assert "Not proved" in rig.try_("status").out
    assert 'name="verification.unended"' in junit(rig)
    assert "failure message" in junit(rig)


def test_a_verification_that_is_killed_leaves_no_proof(rig: Rig) -> None:
    rig = loaded(rig)
    rig.migrate("verify")
    waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with psycopg.connect(rig.url) as conn:
        conn.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        running = rig.start("verify")
        running.until(lambda _: bool(rig.sql(waits)))
        running.kill()
    assert "Not proved: the last verification of t did not end." in report(rig, 3)
    rig.migrate("verify")
    assert EQUAL in report(rig, 0)


def test_a_wider_verification_replaces_what_narrower_ones_found(rig: Rig) -> None:
    rig = loaded(rig)
    rig.sql("INSERT INTO t VALUES (9)")
    rig.migrate("verify", "--level", "counts", code=3)
    rig.sql("DELETE FROM t WHERE id = 9")
    rig.migrate("verify")
    assert EQUAL in report(rig, 0)


# ------------------------------------------------------------------------------------------------------------- the ledger


@pytest.mark.parametrize("level", ["counts", "rows"])
def test_loaded_rows_of_the_ledger_are_held_against_the_target(rig: Rig, level: str) -> None:
    rig = loaded(rig)
    rig.sql("UPDATE migrate_ledger.entry SET loaded = loaded - 1, filtered = filtered + 1")
    said = rig.migrate("verify", "--level", level, code=3).out
    assert "2 rows were loaded by the ledger's entries, and 3 are new in the target by them" in said


@pytest.mark.parametrize(
    ("sequence", "says"),
    [
        ("MAXVALUE 3; SELECT setval('q', 3)", "has no value left"),
        ("MAXVALUE 3 CYCLE; SELECT setval('q', 3)", "gives 1 next, and 3 stands in the table already"),
    ],
)
def test_the_next_value_of_a_sequence_is_the_one_that_it_really_gives(rig: Rig, sequence: str, says: str) -> None:
    rig = loaded(rig)
    rig.sql(f"CREATE SEQUENCE q {sequence}; ALTER TABLE t ALTER id SET DEFAULT nextval('q')")
    said = rig.migrate("verify", "--level", "counts", code=3).out
    assert says in said
    rig.sql(said.partition("Mend it: ")[2].strip())
    rig.migrate("verify", "--level", "counts")
    rig.sql("INSERT INTO t (name) VALUES ('new')")
    assert rig.value("SELECT max(id) FROM t") == 4


def of_a_file(rig: Rig) -> str:
    """A loaded table of a file, of which three rows were replayed."""
    lines = "id,n\n" + "".join(f"{n},x\n" for n in range(1, 50))
    rig.write("a.csv", f"{lines}50,\n51,\n52,\n")
    rig.sql("CREATE TABLE a (id int PRIMARY KEY, n text NOT NULL)")
    rig.write(
        "migrate.yaml",
        HEAD.replace("  old: sqlite:///old.db\n", "") + "  a: {from: f.a, key: id, columns: {id: id, n: n}}\n",
    )
    rig.migrate("run")
    rig.write("fixed/a.csv", "id,n\n50,y\n51,y\n52,y\n")
    rig.migrate("rejects", "replay", "-s", "a", "--from", "fixed/a.csv")
    rig.migrate("verify")
    return lines


def test_replayed_rows_that_are_lost_are_named_once_by_their_rejects(rig: Rig) -> None:
    of_a_file(rig)
    rig.sql("UPDATE a SET n = 'z' WHERE id = 50; DELETE FROM a WHERE id = 51")
    said = rig.migrate("verify", code=3).out
    assert said.count("are not in the target as it loaded them") == 1
    assert "2 rows that `migrate rejects replay` loaded" in said
    assert "the rejects that it replayed: 1 (id=50), 2 (id=51), 3 (id=52)" in said


def test_damage_is_told_though_the_file_was_edited_since(rig: Rig) -> None:
    lines = of_a_file(rig)
    rig.write("a.csv", f"{lines}50,\n51,\n52,mended\n")
    assert "a.csv has changed since the plan was made" in rig.migrate("verify", code=6).err
    rig.sql("UPDATE a SET n = 'z' WHERE id = 1; DELETE FROM a WHERE id = 2")
    counted = rig.migrate("verify", "--level", "counts", code=3).out
    assert "public.a holds 51 rows; 52 new ones make 52" in counted
    assert "the source was not counted: a.csv has changed since the plan was made" in counted
    said = rig.migrate("verify", code=3).out
    assert "2 of 1024 sums differ" in said
    assert "which rows cannot be said: a.csv has changed since the plan was made" in said
    assert "2 of 1024 sums differ" in report(rig, 3)
    rig.migrate("verify", "--against", "source", code=6)
