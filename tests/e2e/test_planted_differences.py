"""Differences planted in a loaded target, over every pair of types: all of them are found by key and column, and no other."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers import Postgres

from e2e.rig import Rig
from e2e.typepairs import PAIRS, TARGETS, mapping, values

MOOD = "CREATE TYPE mood AS ENUM ('sad', 'ok', 'very glad');"
Pair = tuple[str, str]


@dataclass(frozen=True)
class Field:
    """A column of both sides, and the source's values by row."""

    name: str
    source: str
    target: str
    held: tuple[str | None, ...]


def fields(pairs: Sequence[Pair], rows: int, dice: random.Random) -> list[Field]:
    """Columns whose rows hold each value in turn, and NULL now and then."""
    made = []
    for n, (source, target) in enumerate(pairs):
        given_ = values(source, target)
        held = tuple(None if dice.random() < 0.1 else dice.choice(given_) for _ in range(rows))
        made.append(Field(f"c{n}", source, target, held))
    return made


def literal(value: str | None, kind: str) -> str:
    return "NULL" if value is None else "'" + value.replace("'", "''") + f"'::{TARGETS[kind].sql}"


def load(rig: Rig, source_url: str, columns: Sequence[Field], rows: int) -> None:
    """Fill a PostgreSQL source, and load it."""
    with psycopg.connect(source_url, autocommit=True) as conn:
        conn.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public;" + MOOD)
        conn.execute(f"CREATE TABLE t (id bigint PRIMARY KEY, {', '.join(f'{c.name} {c.source}' for c in columns)})")
        for at in range(rows):
            row = ", ".join(literal(c.held[at], c.source) for c in columns)
            conn.execute(f"INSERT INTO t VALUES ({at}, {row})")
    rig.forget(MOOD + f"CREATE TABLE t (id bigint PRIMARY KEY, {', '.join(f'{c.name} {c.target}' for c in columns)})")
    rig.environment["SOURCE_URL"] = source_url
    taken = ", ".join(f'{c.name}: "{mapping(c.source, c.target, c.name)}"' for c in columns)
    rig.write(
        "migrate.yaml",
        "migration: pairs\ntarget: ${env:TARGET_URL}\ntimezone: UTC\nsources: {old: '${env:SOURCE_URL}'}\ntables:\n"
        f"  t: {{from: old.t, key: id, columns: {{id: id, {taken}}}}}\n",
    )
    rig.migrate("run", "--batch-rows", "50")


@dataclass(frozen=True)
class Plant:
    """A statement that damages one row, and what has to be said of it."""

    sql: str
    expected: frozenset[tuple[str, str, str | None]]


def plants(columns: Sequence[Field], rows: int) -> Iterator[Callable[[int], Plant]]:
    """Every change of every column, NULL instead of a value and a value instead of NULL; given the row it is planted in."""
    for c in columns:
        for change in TARGETS[c.target].changes:
            yield _update(c, change.format(c=c.name))
        yield _update(c, "NULL")
        yield _update(c, literal(TARGETS[c.target].values[0], c.target), null=True)
        if c.target in ("text", "varchar(80)"):
            yield _update(c, "''", null=True)


def _update(c: Field, to: str, *, null: bool = False) -> Callable[[int], Plant]:
    return lambda row: Plant(
        f"UPDATE t SET {c.name} = {to} WHERE id = {row} AND {c.name} IS {'' if null else 'NOT '}NULL "
        f"AND ({c.name} IS DISTINCT FROM ({to})::{TARGETS[c.target].sql}) RETURNING id",
        frozenset({("rows.differ", f"id={row}", c.name)}),
    )


def planted(rig: Rig, damage: Sequence[Callable[[int], Plant]], rows: int) -> set[tuple[str, str, str | None]]:
    """Damage a row with each plant that takes; what has to be found."""
    expected: set[tuple[str, str, str | None]] = set()
    free = list(range(rows))
    with psycopg.connect(rig.url, autocommit=True) as conn:
        for plant in damage:
            for row in list(free):
                made = plant(row)
                if takes(conn, made):
                    expected |= made.expected
                    free.remove(row)
                    break
            else:
                raise AssertionError(f"no row takes {plant(0).sql}")
    return expected


def takes(conn: psycopg.Connection[tuple[object, ...]], plant: Plant) -> bool:
    """Plant it, unless the row holds that very value, or the column would not hold the new one."""
    try:
        return bool(conn.execute(plant.sql.encode()).fetchall())
    except (psycopg.DataError, psycopg.errors.InvalidTextRepresentation):
        return False


def found(rig: Rig) -> set[tuple[str, str, str | None]]:
    """What verifying the rows finds; the command's exit code has to agree."""
    ended = rig.try_("verify", "--output", "json")
    errors = [f for f in ended.json()["findings"] if f["severity"] == "error" and f["check"].startswith("rows.")]
    assert "Traceback" not in ended.said
    assert ended.code == (3 if errors else 0), ended.said
    return {(f["check"], f["key"], f["column"]) for f in errors}


@pytest.fixture
def source(postgres: Postgres) -> Iterator[str]:
    postgres.drop("pairs_source")
    yield postgres.create("pairs_source")
    postgres.drop("pairs_source")


def test_every_change_of_every_type_pair_is_found(rig: Rig, source: str) -> None:
    rows = 600
    columns = fields(PAIRS, rows, random.Random(5))
    load(rig, source, columns, rows)
    assert rig.fates("t") == (rows, rows, 0, 0, 0)
    assert found(rig) == set()
    damage = list(plants(columns, rows))
    expected = planted(rig, damage, rows - 20)
    rig.sql(
        "DELETE FROM t WHERE id = 590; INSERT INTO t (id) VALUES (5000);"
        "UPDATE t a SET (c0, c9) = (SELECT c0, c9 FROM t b WHERE b.id = 1183 - a.id) WHERE id IN (591, 592)"
    )
    swapped = {c.name for c in (columns[0], columns[9]) if c.held[591] != c.held[592]}
    expected |= {("rows.differ", f"id={i}", c) for i in (591, 592) for c in swapped}
    expected |= {("rows.missing", "id=590", None), ("rows.extra", "id=5000", None)}
    assert len(damage) >= 200
    assert found(rig) == expected
    rig.migrate("verify", "--fixup", "-y")
    assert found(rig) == set()


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32), pairs=st.lists(st.sampled_from(PAIRS), min_size=1, max_size=12), rows=st.integers(1, 90)
)
def test_random_schemas(rig: Rig, source: str, seed: int, pairs: list[Pair], rows: int) -> None:
    dice = random.Random(seed)
    columns = fields(pairs, rows, dice)
    load(rig, source, columns, rows)
    expected: set[tuple[str, str, str | None]] = set()
    chosen = dice.sample(range(rows), dice.randint(0, rows))
    with psycopg.connect(rig.url, autocommit=True) as conn:
        for row in chosen:
            made = dice.choice(list(plants(columns, rows)))(row)
            if takes(conn, made):
                expected |= made.expected
    assert found(rig) == expected


def test_copies_of_a_row_without_a_key_are_counted(rig: Rig) -> None:
    """A doubled row, one that lost a copy, and one of which two copies became another."""
    lines = [f"{n % 7},name {n % 7}" for n in range(70)]
    rig.write("log.csv", "\n".join(["n,said", *lines]) + "\n")
    rig.sql("CREATE TABLE log (n int, said text)")
    rig.write(
        "migrate.yaml",
        "migration: m\ntarget: ${env:TARGET_URL}\nsources: {f: {files: log.csv, encoding: utf-8, delimiter: comma}}\n"
        "tables: {log: {from: f.log, columns: {n: n, said: said}}}\n",
    )
    rig.migrate("run")
    rig.sql(
        "INSERT INTO log VALUES (1, 'name 1'); DELETE FROM log WHERE ctid = (SELECT min(ctid) FROM log WHERE n = 2);"
        "UPDATE log SET said = 'other' WHERE ctid IN (SELECT ctid FROM log WHERE n = 3 LIMIT 2)"
    )
    findings = rig.migrate("verify", "--output", "json", code=3).json()["findings"]
    assert {(f["check"], f["key"], f["expected"], f["actual"]) for f in findings if f["check"].startswith("rows.")} == {
        ("rows.extra", "n=1, said='name 1'", "10", "11"),
        ("rows.missing", "n=2, said='name 2'", "10", "9"),
        ("rows.missing", "n=3, said='name 3'", "10", "8"),
        ("rows.extra", "n=3, said='other'", "0", "2"),
    }
    rig.migrate("verify", "--fixup", "-y")
    assert rig.sql("SELECT n, said, count(*) FROM log GROUP BY 1, 2 ORDER BY 1") == [
        (n, f"name {n}", 10) for n in range(7)
    ]
