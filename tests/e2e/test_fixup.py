"""`migrate verify`: differing rows repaired, compared with the source as it is now, while it moves, and after a kill."""

import os
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from e2e.rig import Ended, Rig

PROJECT = """\
migration: mend
target: ${env:TARGET_URL}
sources: {old: sqlite:///old.db}
defaults: {max_rejects: 100%}
tables:
  people: {from: old.people, key: id, columns: {id: id, name: name, born: born}}
  pets: {from: old.pets, columns: {owner: owner, name: name}}
"""
TABLES = """
CREATE TABLE people (id bigint PRIMARY KEY, name text, born date);
CREATE TABLE pets (owner bigint, name text);
"""
PEOPLE = 500


def equal(ended: Ended) -> list[str]:
    """The tables that are said to be equal."""
    return [line.partition(":")[0] for line in ended.out.splitlines() if ": equal" in line]


def named(ended: Ended) -> list[str]:
    """What is said of single rows."""
    return [line for line in ended.out.splitlines() if "id=" in line or "owner=" in line]


def old(rig: Rig, script: str) -> None:
    with closing(sqlite3.connect(Path(rig.folder) / "old.db")) as source, source:
        source.executescript(script)


@pytest.fixture
def loaded(rig: Rig) -> Rig:
    born = [f"'{1910 + n % 90}-01-01'" if n != 7 else "'never'" for n in range(PEOPLE + 1)]
    people = ",".join(f"({n}, 'Name {n}', {born[n]})" for n in range(1, PEOPLE + 1))
    old(
        rig,
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, born DATE); CREATE TABLE pets (owner INTEGER, name TEXT);"
        f"INSERT INTO people VALUES {people};"
        "INSERT INTO pets VALUES (1, 'Rex'), (1, 'Rex'), (2, NULL), (NULL, 'Tom'), (3, 'Kit');",
    )
    rig.sql(TABLES)
    rig.write("migrate.yaml", PROJECT)
    rig.migrate("run", "--batch-rows", "100")
    rig.migrate("verify")
    return rig


DAMAGE = """
UPDATE people SET name = name || ' ' WHERE id IN (3, 300);
UPDATE people SET born = NULL, name = NULL WHERE id = 4;
DELETE FROM people WHERE id IN (5, 450);
DELETE FROM pets WHERE ctid = (SELECT min(ctid) FROM pets WHERE name = 'Rex');
UPDATE pets SET name = 'Tim' WHERE name = 'Tom';
"""


def contents(rig: Rig) -> tuple[object, object]:
    return rig.sql("TABLE people ORDER BY id"), rig.sql("TABLE pets ORDER BY owner, name")


def test_what_differs_is_repaired_and_nothing_else(loaded: Rig) -> None:
    clean = contents(loaded)
    loaded.sql(DAMAGE)
    untouched = loaded.sql(
        "SELECT id, xmin::text, ctid::text FROM people WHERE id NOT IN (3, 300, 4, 5, 450) ORDER BY 1"
    )
    ended = loaded.migrate("verify", "--fixup", code=3)  # Tim is not the source's, and was not deleted
    assert "rows repaired: 2 inserted, 3 updated" in ended.out
    assert "rows repaired: 2 inserted; 1 that are not the source's were left: -y deletes them" in ended.out
    assert "a row of the target was not loaded by this migration: owner=NULL, name='Tim'" in ended.out
    assert loaded.sql("TABLE people ORDER BY id") == clean[0]
    ended = loaded.migrate("verify", "--fixup", "-y")
    assert "rows repaired: 1 deleted" in ended.out
    assert contents(loaded) == clean
    assert untouched == loaded.sql(
        "SELECT id, xmin::text, ctid::text FROM people WHERE id NOT IN (3, 300, 4, 5, 450) ORDER BY 1"
    )
    assert equal(loaded.migrate("verify")) == ["people", "pets"]
    assert loaded.fates("people") == (PEOPLE, PEOPLE - 1, 0, 0, 1)
    kinds = loaded.sql("SELECT DISTINCT name, chunk FROM migrate_ledger.entry WHERE kind = 'fixup' ORDER BY 1, 2")
    assert [chunk for name, chunk in kinds if name == "people"] == [0, 2, 4]


def test_rows_that_would_take_others_along_are_not_deleted(loaded: Rig) -> None:
    loaded.sql(
        "INSERT INTO people VALUES (999, 'Extra', NULL);"
        "CREATE TABLE notes (person bigint REFERENCES people ON DELETE CASCADE); INSERT INTO notes VALUES (999)"
    )
    ended = loaded.migrate("verify", "-s", "people", "--fixup", "-y", code=4)
    assert "rows of others would go or change with them: notes (notes_person_fkey)" in ended.said
    assert loaded.sql("SELECT * FROM notes") == [(999,)]


def test_what_the_server_refuses_is_said_and_undone(loaded: Rig) -> None:
    loaded.sql(
        "UPDATE people SET name = 'x' WHERE id = 3;"
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'hands off'; END $$;"
        "CREATE TRIGGER no BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION no()"
    )
    ended = loaded.migrate("verify", "-s", "people", "--fixup", code=7)
    assert "repair people, chunk 0" in ended.said
    assert "hands off" in ended.said
    assert loaded.value("SELECT name FROM people WHERE id = 3") == "x"


def test_rows_that_exchange_unique_values_are_repaired(loaded: Rig) -> None:
    exchange = "UPDATE people SET name = CASE id WHEN 3 THEN 'Name 4' ELSE 'Name 3' END WHERE id IN (3, 4)"
    loaded.sql(exchange + "; CREATE UNIQUE INDEX once ON people (name)")
    assert "2 updated" in loaded.migrate("verify", "-s", "people", "--fixup").said
    assert loaded.sql("SELECT id, name FROM people WHERE id IN (3, 4) ORDER BY id") == [(3, "Name 3"), (4, "Name 4")]
    loaded.sql(f"DROP INDEX once; {exchange}; CREATE UNIQUE INDEX once ON people (lower(name))")
    said = loaded.migrate("verify", "-s", "people", "--fixup", code=3).said
    assert "exchange values of once" in said
    assert "Drop once, repair, and create it again" in said
    assert "Name 4" not in said.partition("exchange values")[2]


def test_a_source_that_changed_is_compared_and_followed(loaded: Rig) -> None:
    old(
        loaded,
        "UPDATE people SET name = 'Renamed' WHERE id = 11; INSERT INTO people VALUES (501, 'New', '1999-09-09');"
        "DELETE FROM people WHERE id = 12; UPDATE pets SET name = 'Kat' WHERE name = 'Kit'",
    )
    ended = loaded.migrate("verify", "-s", "people", "--against", "source", code=3)
    assert "id=11: name should be 'Renamed' and is 'Name 11'" in ended.out
    assert "a row of the target was not loaded by this migration: id=12" in ended.out
    assert "a loaded row is not in the target: id=501" in ended.out
    loaded.migrate("verify", "--against", "source", "--fixup", "-y")
    assert loaded.sql("SELECT id, name FROM people WHERE id IN (11, 12, 501) ORDER BY 1") == [
        (11, "Renamed"),
        (501, "New"),
    ]
    assert loaded.sql("SELECT count(*) FROM pets WHERE name IN ('Kit', 'Kat')") == [(1,)]
    assert equal(loaded.migrate("verify")) == ["people", "pets"]
    assert equal(loaded.migrate("verify", "--against", "source")) == ["people", "pets"]
    assert loaded.fates("people") == (PEOPLE, PEOPLE - 1, 0, 0, 1)


def test_the_target_is_repaired_before_a_changed_source_is_followed(loaded: Rig) -> None:
    loaded.sql("UPDATE people SET name = 'x' WHERE id = 3")
    old(loaded, "UPDATE people SET name = 'Renamed' WHERE id = 11")
    ended = loaded.migrate("verify", "-s", "people", "--against", "source", "--fixup", code=4)
    assert "people: the target is not what was loaded either" in ended.said
    assert "Repair that first" in ended.said
    assert loaded.value("SELECT name FROM people WHERE id = 3") == "x"


def test_a_row_beside_one_that_the_source_changed_is_not_repaired_by_guess(loaded: Rig) -> None:
    """Both in one bucket: its sum does not tell which row is as it was loaded, and the source is no measure any more."""
    old(loaded, "UPDATE people SET name = 'Renamed ' || id WHERE id % 2 = 0")
    loaded.sql("UPDATE people SET name = 'damaged' WHERE id % 2 = 1 AND id <> 7")
    ended = loaded.migrate("verify", "-s", "people", "--fixup", code=3)
    assert (
        "for the source does not hold any more what was loaded beside them: `migrate run --restart -s people`"
        in ended.out
    )
    assert "buckets the source does not map any more to what was loaded" in ended.out
    assert loaded.value("SELECT count(*) FROM people WHERE name LIKE 'Renamed%'") == 0
    left = loaded.value("SELECT count(*) FROM people WHERE name = 'damaged'")
    assert 0 < left < PEOPLE / 2 - 1, "rows of buckets that the source did not change are repaired"


def test_of_two_copies_the_one_that_came_later_is_deleted(loaded: Rig) -> None:
    """Not the row that was loaded, nor that of the table itself where an inheriting one holds its twin."""
    loaded.sql("CREATE TABLE staff () INHERITS (people); INSERT INTO staff SELECT * FROM people WHERE id = 12")
    loaded.sql("INSERT INTO pets VALUES (2, NULL)")
    before = loaded.sql("SELECT ctid::text FROM pets ORDER BY ctid LIMIT 5")
    loaded.migrate("verify", "--fixup", "-y")
    assert loaded.value("SELECT count(*) FROM ONLY people WHERE id = 12") == 1
    assert loaded.sql("SELECT ctid::text FROM pets ORDER BY ctid") == before


def test_rows_that_a_policy_may_hide_are_not_called_equal(loaded: Rig) -> None:
    role = f"seer_{os.getpid()}"
    loaded.sql(f"INSERT INTO people VALUES (9999, 'hidden', NULL); CREATE ROLE {role} LOGIN SUPERUSER")
    try:
        seen = replace(loaded, url=loaded.url.replace("postgres@", f"{role}@"))
        loaded.sql("ALTER TABLE people ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON people USING (id < 1000)")
        assert "id=9999" in seen.migrate("verify", "-s", "people", code=3).out
        loaded.sql(f"ALTER ROLE {role} NOSUPERUSER; GRANT ALL ON ALL TABLES IN SCHEMA public, migrate_ledger TO {role}")
        loaded.sql(f"GRANT ALL ON SCHEMA public, migrate_ledger TO {role}")
        loaded.sql(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA migrate_ledger TO {role}")
        ended = seen.migrate("verify", "-s", "people", code=4)
        assert "row-level security may hide rows of public.people from the target's user" in ended.said
    finally:
        loaded.sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_buckets_below_the_first_one_are_not_taken_for_equal(loaded: Rig) -> None:
    loaded.sql("UPDATE pets SET name = 'Tim' WHERE name = 'Tom'")
    ended = loaded.migrate("verify", "-s", "pets", "--from-bucket", "1023", code=3)
    assert "pets: 2 sums of buckets below 1023 differ as well, and are not looked into" in ended.out
    assert "Proved" not in loaded.try_("report").out


def test_a_verification_goes_on_only_with_one_that_looked_at_as_much(loaded: Rig) -> None:
    for more in ("--all-constraints",), ("--live", "1"):
        assert loaded.killed_at("verified", 1, "verify").code < 0
        assert "interrupted" not in loaded.migrate("verify", *more).out
        assert loaded.killed_at("verified", 1, "verify", *more).code < 0
        assert "people: equal (verified at " in loaded.migrate("verify", *more).out


def test_live_finds_a_row_again_whose_key_has_a_null(rig: Rig) -> None:
    old(
        rig,
        "CREATE TABLE t (a TEXT, b TEXT, v TEXT); INSERT INTO t VALUES ('1', 'x', 'v'), ('2', NULL, 'w'), (NULL, NULL, 'z')",
    )
    rig.sql("CREATE TABLE t (a text, b text, v text, UNIQUE (a, b))")
    head = PROJECT.partition("tables:")[0]
    rig.write("migrate.yaml", head + "tables:\n  t: {from: old.t, columns: {a: a, b: b, v: v}}\n")
    rig.migrate("run")
    rig.sql("UPDATE t SET v = 'W' WHERE a = '2'; INSERT INTO t VALUES ('9', NULL, 'more'), (NULL, NULL, 'most')")
    said = rig.migrate("verify", "--live", "1", code=3).out
    assert "a row of the target was not loaded by this migration: a='9', b=NULL, v='more'" in said
    assert "a row of the target was not loaded by this migration: a=NULL, b=NULL, v='most'" in said
    assert "a row of the target was not loaded by this migration: a='2', b=NULL, v='W'" in said
    assert "a loaded row is not in the target: a='2', b=NULL, v='w'" in said
    assert "v='z'" not in said


def test_a_difference_that_goes_away_within_the_lag_is_none(loaded: Rig) -> None:
    loaded.sql("UPDATE people SET name = 'late' WHERE id IN (20, 21); DELETE FROM people WHERE id = 22")

    def arrive() -> None:
        time.sleep(2.5)
        with psycopg.connect(loaded.url, autocommit=True) as conn:
            conn.execute(
                "UPDATE people SET name = 'Name ' || id WHERE id = 20; INSERT INTO people VALUES (22, 'Name 22', '1932-01-01')"
            )

    arriving = threading.Thread(target=arrive)
    arriving.start()
    ended = loaded.migrate("verify", "-s", "people", "--live", "3", code=3)
    arriving.join()
    assert named(ended) == ["error: people: id=21: name should be 'Name 21' and is 'late'"]


def test_live_needs_a_key(loaded: Rig) -> None:
    loaded.sql("UPDATE pets SET name = 'Tim' WHERE name = 'Tom'")
    ended = loaded.migrate("verify", "-s", "pets", "--live", "1", code=4)
    assert "without a key its rows cannot be found again" in ended.said


def test_a_killed_verification_goes_on(loaded: Rig) -> None:
    loaded.sql("UPDATE people SET name = 'x' WHERE id = 3; UPDATE pets SET name = 'Tim' WHERE name = 'Tom'")
    assert loaded.killed_at("verified", 1, "verify").code < 0
    loaded.sql("UPDATE people SET name = 'Name 3' WHERE id = 3")
    ended = loaded.migrate("verify", code=3)
    assert "people: 2 differences (verified at " in ended.out
    assert "before this verification was interrupted)" in ended.out
    assert "error: people: id=3: name should be 'Name 3' and is 'x'" in ended.out
    assert "pets: 2 differences" in ended.out
    ended = loaded.migrate("verify", code=3)
    assert equal(ended) == ["people"], "one that came to its end is not gone on with"


def test_options_about_rows_are_refused_where_none_are_compared(loaded: Rig) -> None:
    assert "--level counts compares no rows" in loaded.migrate("verify", "--level", "counts", "--fixup", code=2).said


def test_a_partitioned_target_is_repaired_where_its_rows_stand(rig: Rig) -> None:
    old(
        rig,
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, born DATE); CREATE TABLE pets (owner INTEGER, name TEXT);"
        + "INSERT INTO people VALUES "
        + ",".join(f"({n}, 'Name {n}', NULL)" for n in range(100)),
    )
    rig.sql(
        "CREATE TABLE people (id bigint PRIMARY KEY, name text, born date) PARTITION BY RANGE (id);"
        "CREATE TABLE p1 PARTITION OF people FOR VALUES FROM (0) TO (50);"
        "CREATE TABLE p2 PARTITION OF people FOR VALUES FROM (50) TO (1000); CREATE TABLE pets (owner bigint, name text)"
    )
    rig.write("migrate.yaml", PROJECT)
    rig.migrate("run")
    rig.sql(
        "UPDATE people SET name = 'x' WHERE id IN (1, 51); INSERT INTO people VALUES (500); DELETE FROM people WHERE id = 60"
    )
    ended = rig.migrate("verify", code=3)
    assert sum("should be 'Name " in line for line in named(ended)) == 2
    assert "was not loaded by this migration: id=500" in ended.out
    rig.migrate("verify", "--fixup", "-y")
    assert rig.sql("SELECT count(*), count(*) FILTER (WHERE name = 'Name ' || id) FROM people") == [(100, 100)]
