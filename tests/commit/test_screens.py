"""Keys asked for before rows are sent: missing parents, and unique keys that stand in the table already."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from migrate import shadow
from migrate.core import ForeignKey, TargetTable, Wire
from migrate.target import Connection, ForeignKeyScreen, UniqueScreen, catalogue

SCHEMA = pa.schema([pa.field("id", pa.int64()), pa.field("name", pa.string()), pa.field("token", pa.binary(16))])
WIRES = (Wire(pa.int64()), Wire(pa.string()), Wire(pa.binary(16)))


def batch(*rows: tuple[int | None, str | None]) -> pa.RecordBatch:
    ids, names = [r[0] for r in rows], [r[1] for r in rows]
    tokens = [None if i is None else i.to_bytes(16, "big") for i in ids]
    return pa.record_batch(
        [pa.array(ids, pa.int64()), pa.array(names, pa.string()), pa.array(tokens, pa.binary(16))], schema=SCHEMA
    )


def made(conn: Connection, ddl: str, name: str = "people") -> TargetTable:
    conn.execute(ddl)
    found = catalogue(conn, "public", name)
    assert found is not None
    return found


def standing(conn: Connection, table: TargetTable, rows: pa.RecordBatch, *names: str) -> list[int]:
    screen = UniqueScreen(names, SCHEMA, WIRES, ("public", "people"))
    with conn.transaction():
        found = screen.standing(conn, rows, table)
        assert screen.standing(conn, rows, table) == found  # nothing of the first question is in the way
    return found


PEOPLE = """
CREATE TABLE people (id bigint UNIQUE, name text, token uuid UNIQUE, UNIQUE (id, name));
INSERT INTO people VALUES (1, 'a', '00000000-0000-0000-0000-000000000001'), (2, NULL, NULL), (NULL, 'c', NULL);
"""


@pytest.mark.parametrize(
    ("rows", "names", "expected"),
    [
        pytest.param([(1, "x"), (3, "a"), (2, "x"), (1, None)], ["id"], [0, 2, 3], id="every-row-of-a-key"),
        pytest.param([(1, "a"), (1, "b"), (2, None), (None, "c")], ["id", "name"], [0], id="null-is-equal-to-nothing"),
        pytest.param([(2, "a"), (1, "a"), (3, "a")], ["token"], [1], id="uuid"),
        pytest.param([(None, None), (None, "a")], ["id"], [], id="only-nulls"),
        pytest.param([], ["id"], [], id="no-row"),
        pytest.param([(3, "x"), (3, "x")], ["id"], [], id="twice-in-the-batch-is-the-servers"),
    ],
)
def test_keys_that_stand_already_are_found(
    conn: Connection, rows: list[tuple[int | None, str | None]], names: list[str], expected: list[int]
) -> None:
    table = made(conn, PEOPLE)
    assert standing(conn, table, batch(*rows), *names) == expected


def test_the_types_of_the_target_decide_what_is_equal(conn: Connection) -> None:
    table = made(
        conn, "CREATE TABLE people (id int, name char(4) UNIQUE, token uuid); INSERT INTO people VALUES (1, 'a')"
    )
    assert standing(conn, table, batch((1, "a"), (2, "a  "), (3, "A")), "name") == [0, 1]


def test_a_dry_run_asks_the_real_table_for_what_its_clone_lacks(conn: Connection) -> None:
    table = made(conn, PEOPLE)
    clone = shadow.clone(conn, shadow.names("acme"), [table], ["public.people"]).tables["public.people"]
    assert standing(conn, clone, batch((1, "a"), (5, "b")), "id") == [0]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_the_screen_finds_is_what_the_server_would_refuse(conn: Connection, data: st.DataObject) -> None:
    pairs = st.tuples(st.none() | st.integers(0, 4), st.none() | st.sampled_from("ab"))
    there = data.draw(st.lists(pairs, unique=True, max_size=6))
    rows = data.draw(st.lists(pairs, max_size=12))
    conn.execute("DROP TABLE IF EXISTS people")
    table = made(conn, "CREATE TABLE people (id bigint, name text, token uuid, UNIQUE (id, name))")
    with conn.cursor() as cursor:
        cursor.executemany("INSERT INTO people VALUES (%s, %s)", there)
    refused = [i for i, row in enumerate(rows) if refuses(conn, row)]
    assert standing(conn, table, batch(*rows), "id", "name") == refused


def refuses(conn: Connection, row: tuple[Any, ...]) -> bool:
    """Whether the row alone is refused as a duplicate."""
    with conn.transaction(force_rollback=True):
        return conn.execute("INSERT INTO people VALUES (%s, %s) ON CONFLICT DO NOTHING", row).rowcount == 0


def test_a_parent_may_stand_in_any_of_several_relations(conn: Connection) -> None:
    child = made(
        conn,
        """CREATE TABLE parents (key bigint PRIMARY KEY); INSERT INTO parents VALUES (1);
        CREATE TABLE "Other parents" (key bigint); INSERT INTO "Other parents" VALUES (2), (1);
        CREATE TABLE people (id bigint, name text, token uuid)""",
    )
    one = ForeignKey("f", ("id",), "public", "parents", ("key",))
    two = ForeignKey("f", ("id",), "public", "parents", ("key",), (("public", "Other parents"),))
    rows = batch((1, "a"), (2, "b"), (3, "c"), (None, "d"), (3, "e"))
    found = []
    for key in (one, two):
        with conn.transaction():
            found.append(ForeignKeyScreen(key, SCHEMA, WIRES).orphans(conn, rows, child))
    assert found == [[1, 2, 4], [2, 4]]
