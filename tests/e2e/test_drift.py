"""What has changed at either side since a table was planned is said, from what to what, before a row is moved."""

import sqlite3
from pathlib import Path

import pytest

from e2e.rig import Rig
from migrate import engine
from migrate.core import Finding
from migrate.engine import Options
from migrate.errors import FindingsError, MigrateError
from migrate.plan import notes
from migrate.project import load

PROJECT = """\
migration: m
target: ${env:TARGET_URL}
sources:
  old: sqlite:///old.db
tables:
  people:
    from: old.people
    mode: MODE
    columns: {id: id, name: name, town: town}
"""
SOURCE = "CREATE TABLE people (id integer PRIMARY KEY, name text, town text, born text);"
TARGET = (
    "CREATE TYPE place AS ENUM ('Bonn', 'Kiel'); CREATE TABLE towns (town text PRIMARY KEY); "
    "CREATE TABLE people (id int PRIMARY KEY, name varchar(20), town place, note text, CONSTRAINT long CHECK (name <> ''))"
)


def source(folder: Path, *statements: str) -> None:
    connection = sqlite3.connect(folder / "old.db")
    for statement in statements:
        connection.executescript(statement)
    connection.close()


def loaded(rig: Rig, mode: str = "append") -> None:
    source(rig.folder, SOURCE, "INSERT INTO people VALUES (1, 'Ann', 'Bonn', '1990'), (2, 'Bob', 'Kiel', NULL)")
    rig.write("migrate.yaml", PROJECT.replace("MODE", mode))
    rig.sql(TARGET)
    rig.migrate("run")


def planned(rig: Rig, *, restart: bool = False) -> tuple[list[Finding], list[str]]:
    """What a run would be told that does not stop it, as findings and as the plan's notes."""
    with engine.session(load(rig.folder / "migrate.yaml", {"TARGET_URL": rig.url})) as work:
        plan = engine.planned(work, engine.compiled(work, ["people"]), Options(restart=restart))
        return [f for table in plan.tables for f in table.drift], [n for table in plan.tables for n in notes(table)]


def stopped(rig: Rig) -> str:
    with pytest.raises(FindingsError) as error:
        planned(rig)
    assert "migrate run --restart -s people" in error.value.hint
    return error.value.message


def remade(folder: Path, columns: str, taken: str) -> None:
    source(
        folder,
        f"ALTER TABLE people RENAME TO was; CREATE TABLE people ({columns}); INSERT INTO people SELECT {taken} FROM was; "
        "DROP TABLE was",
    )


@pytest.mark.parametrize(
    ("columns", "taken", "says"),
    [
        ("id integer PRIMARY KEY, name text, town_name text, born text", "id, name, town, born",
         'error: people: old.people: the column "town" (text) is gone: was it renamed to "town_name"?'),
        ("id integer PRIMARY KEY, name text, place text, born text", "id, name, town, born",
         'error: people: old.people: the column "town" (text) is gone: was it renamed to "place"?'),
        ("id integer PRIMARY KEY, name blob, town text, born text", "id, name, town, born",
         'error: people: old.people: the column "name" was text and is bytes'),
        ("id integer, name text PRIMARY KEY, town text, born text", "id, name, town, born",
         "error: people: old.people: no key any more: id"),
    ],
    ids=["a column renamed", "another in its place", "a type", "the key"],
)  # fmt: skip
def test_a_source_that_changed_stops_the_run_with_what_changed(rig: Rig, columns: str, taken: str, says: str) -> None:
    loaded(rig)
    remade(rig.folder, columns, taken)
    assert says in stopped(rig)


def test_changes_of_the_source_that_the_mapping_does_not_read_are_warnings(rig: Rig) -> None:
    loaded(rig)
    remade(rig.folder, "id integer PRIMARY KEY, name text NOT NULL, town text, age integer", "id, name, town, 3")
    findings, said = planned(rig)
    assert {f.severity for f in findings} == {"warning"}
    told = [
        'old.people: the column "name" is NOT NULL now',
        'old.people: the column "born" (text) is gone; the mapping does not read it',
        'old.people: a new column "age" (bigint), which the mapping does not read',
    ]
    assert [n for n in said if n.startswith("old.people")] == told
    for command in ("run", "plan", "check", "verify"):
        ended = rig.migrate(command)
        assert all(line in " ".join(ended.said.split()) for line in told), ended.said


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("ALTER TABLE people RENAME town TO towns", 'the column "town" (place (Bonn, Kiel)) is gone: was it renamed to "towns"?'),
        ("ALTER TABLE people ALTER name TYPE varchar(10)",
         'the column "name" was character varying(20) and is character varying(10)'),
        ("ALTER TYPE place ADD VALUE 'Jena'", 'the column "town" was place (Bonn, Kiel) and is place (Bonn, Kiel, Jena)'),
        ("ALTER TABLE people ALTER name SET NOT NULL", 'the column "name" is NOT NULL now'),
        ("ALTER TABLE people ADD needed int NOT NULL DEFAULT 1, ALTER needed DROP DEFAULT",
         'a new column "needed" (integer), which is NOT NULL'),
        ("ALTER TABLE people DROP CONSTRAINT long, ADD CONSTRAINT long CHECK (name <> 'x')",
         "the check long was ((name)::text <> ''::text) and is ((name)::text <> 'x'::text)"),
    ],
    ids=["renamed", "a type", "a label", "NOT NULL", "a column that is needed", "a check"],
)  # fmt: skip
def test_a_target_that_changed_stops_the_run_with_what_changed(rig: Rig, change: str, says: str) -> None:
    loaded(rig, "replace")
    # A default that is dropped needs a statement of its own.
    for statement in change.split(", ALTER needed"):
        rig.sql(statement if statement.startswith("ALTER") else f"ALTER TABLE people ALTER needed{statement}")
    assert f"error: people: public.people: {says}" in stopped(rig)


def test_keys_matter_while_a_table_is_being_loaded_and_are_warnings_afterwards(rig: Rig) -> None:
    loaded(rig)
    rig.sql("ALTER TABLE people ADD UNIQUE (note), ADD extra int, ADD FOREIGN KEY (note) REFERENCES towns")
    told = [
        'public.people: a new column "extra" (integer), which is not mapped',
        "public.people: a new unique key (note)",
        "public.people: a new foreign key (note): references public.towns (town)",
    ]
    findings, _ = planned(rig)
    assert [f.message.removeprefix("people: ") for f in findings] == told
    rig.sql("UPDATE migrate_ledger.mapped_table SET phase = 'loading'")
    assert f"error: people: {told[1]}" in stopped(rig)


def test_what_changed_is_taken_as_it_is_by_a_restart(rig: Rig) -> None:
    loaded(rig)
    rig.sql("ALTER TABLE people ALTER name TYPE varchar(10)")
    for command in ("run", "plan", "verify", "check"):
        assert "character varying(20) and is character varying(10)" in rig.migrate(command, code=3).said
    assert rig.value("SELECT count(*) FROM migrate_ledger.run") == 1
    rig.migrate("run", "--restart")
    rig.migrate("run")
    rig.migrate("verify")


def test_a_mapping_that_follows_a_renamed_column_is_a_changed_mapping(rig: Rig) -> None:
    """Who mends the mapping has seen it; what the mapping says now is what was not loaded."""
    loaded(rig, "replace")
    source(rig.folder, "ALTER TABLE people RENAME town TO place")
    rig.write("migrate.yaml", PROJECT.replace("MODE", "replace").replace("town: town", "town: place"))
    rig.migrate("run")
    assert rig.value("SELECT max(generation) FROM migrate_ledger.mapped_table") == 2
    assert planned(rig)[0] == []


def test_a_fault_of_the_mapping_alone_is_not_called_a_change(rig: Rig) -> None:
    loaded(rig)
    source(rig.folder, "ALTER TABLE people DROP born")
    rig.write("migrate.yaml", PROJECT.replace("MODE", "append").replace("town: town", "town: twon"))
    with pytest.raises(MigrateError) as error:
        planned(rig)
    assert error.value.exit_code == 2
    assert 'Did you mean "town"?' in error.value.message


def test_what_the_toolkit_does_to_a_table_itself_is_no_change(rig: Rig) -> None:
    """A table that it makes gets its foreign keys at the end; those of a cycle are off meanwhile."""
    source(rig.folder, SOURCE, "CREATE TABLE towns (town text PRIMARY KEY)", "INSERT INTO towns VALUES ('Bonn')")
    source(rig.folder, "INSERT INTO people VALUES (1, 'Ann', 'Bonn', '1990')")
    project = PROJECT.replace("MODE", "replace").replace("town: town", "town: {references: towns, by: town}")
    towns = "  towns: {from: old.towns, primary_key: town, mode: replace, columns: {town: town}}\n"
    rig.write("migrate.yaml", project.replace("    mode", "    primary_key: id\n    mode") + towns)
    rig.migrate("run")
    assert rig.value("SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND conrelid = 'people'::regclass") == 1
    assert planned(rig)[0] == []
