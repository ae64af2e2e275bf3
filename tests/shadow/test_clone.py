"""Clones take and refuse what the real tables do, and those are only read."""

from typing import Any

import pytest

from migrate import shadow
from migrate.target import Connection, connect

from .rig import PARTITIONS, SHADOW, ZOO, attempt, both, cloned, table


def test_a_zoo_of_tables_is_cloned_as_it_is(conn: Connection) -> None:
    conn.execute(ZOO)
    names = ["shop.customers", "shop.serials", "shop.parent", "shop.child"]
    before = [definition(conn, "shop", n) for n in ("customers", "serials", "parent", "child")]
    clones = cloned(conn, *names)
    assert clones.notes == ()
    assert [definition(conn, SHADOW.schema, n) for n in ("customers", "serials", "parent", "child")] == before
    assert [definition(conn, "shop", n) for n in ("customers", "serials", "parent", "child")] == before
    for name in names:
        real, clone = table(conn, name), clones.tables[name]
        assert [c.name for c in clone.columns] == [c.name for c in real.columns]
        assert (clone.key, set(clone.uniques), clone.exists) == (real.key, set(real.uniques), True)
        assert (clone.schema, clone.name) == (SHADOW.schema, real.name)
        assert clone.oid != real.oid


def definition(conn: Connection, schema: str, name: str) -> list[tuple[Any, ...]]:
    """All that the catalogue says of a table's columns, constraints, indexes and sequences, without the schema's name."""
    oid = f"'{schema}.{name}'::regclass"
    found = conn.execute(
        f"""
        SELECT 'column', attname, format_type(atttypid, atttypmod), attnotnull::text, attidentity::text || attgenerated::text,
               pg_get_expr(adbin, adrelid), attcollation::regcollation::text, attstorage::text
        FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE attrelid = {oid} AND attnum > 0 AND NOT attisdropped
        UNION ALL
        SELECT 'constraint', conname, replace(pg_get_constraintdef(oid), ' NOT VALID', ''), condeferrable::text,
               condeferred::text, NULL, NULL, NULL
        FROM pg_constraint WHERE conrelid = {oid} AND contype IN ('c', 'p', 'u', 'x', 'f')
        UNION ALL
        SELECT 'index', indexrelid::regclass::text, pg_get_indexdef(indexrelid), NULL, NULL, NULL, NULL, NULL
        FROM pg_index WHERE indrelid = {oid}
        UNION ALL
        SELECT 'sequence', attname, pg_get_serial_sequence('{schema}.{name}', attname), format_type(seqtypid, NULL),
               seqstart || '/' || seqincrement || '/' || seqmin || '/' || seqmax, seqcache::text, seqcycle::text,
               pg_sequence_last_value(seqrelid)::text
        FROM pg_attribute JOIN pg_sequence ON seqrelid = pg_get_serial_sequence('{schema}.{name}', attname)::regclass
        WHERE attrelid = {oid} AND attnum > 0 AND NOT attisdropped
        ORDER BY 1, 2
        """
    ).fetchall()
    return [tuple(v.replace(f"{schema}.", "").replace("shop.", "") if v else v for v in row) for row in found]


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param("(name) VALUES ('a')", id="defaults"),
        pytest.param("(name) SELECT 'n' || i FROM generate_series(1, 4) i", id="four"),
        pytest.param("(name) SELECT 'n' || i FROM generate_series(1, 10) i", id="identity-exhausted"),
        pytest.param("(name) VALUES ('')", id="check"),
        pytest.param("(name) VALUES (NULL)", id="not-null"),
        pytest.param("(name) VALUES ('old')", id="not-valid-check"),
        pytest.param("(name) VALUES (repeat('x', 13))", id="length"),
        pytest.param("(name, mood) VALUES ('a', 'sad'::text::shop.mood), ('b', 'mad'::text::shop.mood)", id="enum"),
        pytest.param("(name, price) VALUES ('a', 0)", id="domain-check"),
        pytest.param("(name, price) VALUES ('a', 1)", id="both-or-none"),
        pytest.param("(name, code) VALUES ('a', NULL)", id="domain-not-null"),
        pytest.param("(name, code) VALUES ('a', '123456789')", id="domain-length"),
        pytest.param("(id, name) VALUES (10, 'a'), (10, 'b')", id="primary-key"),
        pytest.param("(name, no) VALUES ('a', 600), ('b', 601)", id="exclusion"),
        pytest.param("(name, no) VALUES ('a', 300), ('b', 301)", id="no-exclusion"),
        pytest.param(
            "(name, price, born) VALUES ('A ', 1, '2000-01-01'), (' a', 2, '2000-01-01')", id="unique-expression"
        ),
        pytest.param("(name, folded) VALUES ('a', 'b')", id="generated"),
        pytest.param("(name, born) VALUES ('a', '1899-01-01')", id="no-inherit-check"),
        pytest.param(
            '(name, "Odd ""one"" it") SELECT \'a\', string_agg(md5(i::text), \'\') FROM generate_series(1, 400) i',
            id="wide",
        ),
    ],
)
def test_a_clone_takes_and_refuses_what_the_real_table_does(conn: Connection, rest: str) -> None:
    conn.execute(ZOO)
    cloned(conn, "shop.customers")
    for _ in range(2):  # the second time on sequences that have moved
        both(conn, "shop.customers", f"{SHADOW.schema}.customers", rest)


def test_a_deferred_key_of_a_clone_is_refused_at_the_same_moment(conn: Connection) -> None:
    conn.execute(ZOO)
    cloned(conn, "shop.customers")
    for name in ("shop.customers", f"{SHADOW.schema}.customers"):
        with conn.transaction(force_rollback=True):
            conn.execute(f"INSERT INTO {name} (name, no) VALUES ('a', 1), ('b', 1)")
            assert attempt(conn, "SET CONSTRAINTS ALL IMMEDIATE") == ("23505", "later")


def test_of_two_keys_that_a_row_breaks_the_same_one_refuses(conn: Connection) -> None:
    conn.execute(
        """CREATE SCHEMA shop; CREATE TABLE shop.t (a int, b int);
        CREATE UNIQUE INDEX z ON shop.t (a); ALTER TABLE shop.t ADD CONSTRAINT y PRIMARY KEY (b), ADD CONSTRAINT x UNIQUE (a);
        CREATE UNIQUE INDEX w ON shop.t ((a + b)); INSERT INTO shop.t VALUES (1, 1)"""
    )
    cloned(conn, "shop.t")
    conn.execute(f"INSERT INTO {SHADOW.schema}.t VALUES (1, 1)")
    for row, first in (("(1, 1)", "z"), ("(0, 1)", "y"), ("(1, 2)", "z"), ("(2, 0)", "w")):
        assert both(conn, "shop.t", f"{SHADOW.schema}.t", f"VALUES {row}") == ("23505", first)


def test_sequences_go_on_where_the_real_ones_stand_and_leave_them_there(conn: Connection) -> None:
    conn.execute(ZOO)
    clones = cloned(conn, "shop.serials", "shop.customers")
    assert clones.tables["shop.serials"].column("id").sequence == f"{SHADOW.schema}.serials_id_seq"  # type: ignore[union-attr]
    insert = f"INSERT INTO {SHADOW.schema}.serials (note) VALUES ('x') RETURNING id, small, big"
    assert attempt(conn, insert) == ((5, 1, 7001),)
    assert attempt(conn, insert) == ((6, 2, 7002),)
    attempt(conn, f"INSERT INTO {SHADOW.schema}.customers (name) VALUES ('a')")
    assert conn.execute("SELECT last_value, is_called FROM shop.serials_id_seq").fetchone() == (5, False)
    assert conn.execute("SELECT last_value, is_called FROM shop.serials_big_seq").fetchone() == (7000, True)
    assert conn.execute("""SELECT last_value, is_called FROM shop."It's odd" """).fetchone() == (-1, False)


def test_clones_are_unlogged_and_a_flattened_child_stands_alone(conn: Connection) -> None:
    conn.execute(ZOO)
    cloned(conn, "shop.parent", "shop.child")
    kinds = conn.execute(
        f"SELECT relname, relpersistence FROM pg_class WHERE relnamespace = '{SHADOW.schema}'::regnamespace "
        "AND relkind = 'r' ORDER BY 1"
    ).fetchall()
    assert kinds == [("child", "u"), ("parent", "u")]
    assert (
        conn.execute(f"SELECT count(*) FROM pg_inherits WHERE inhrelid = '{SHADOW.schema}.child'::regclass") is not None
    )
    for rest in ("VALUES (1, 'a', 2)", "VALUES (1, 'a', 1)", "VALUES (1, 'none', 3)"):
        both(conn, "shop.child", f"{SHADOW.schema}.child", rest)
    assert conn.execute(f"SELECT count(*) FROM {SHADOW.schema}.parent").fetchone() == (0,)


# ------------------------------------------------------------------------------------------- nothing real is touched


def test_real_tables_are_locked_no_stronger_than_a_select_and_nothing_of_them_changes(
    conn: Connection, target_url: str
) -> None:
    conn.execute(ZOO + PARTITIONS)
    conn.execute(
        "INSERT INTO shop.customers (name) VALUES ('a'); INSERT INTO shop.log (at, kind) VALUES ('2024-05-01', 'a')"
    )
    names = ["shop.customers", "shop.serials", "shop.child", "shop.log", "shop.refers"]
    before = fingerprint(conn)
    with connect(target_url) as other:
        with other.transaction():
            clones = cloned(other, *names, kept=["shop.customers"])
            assert clones.tables["shop.customers"].name == "customers"
            locks = conn.execute(
                "SELECT DISTINCT relation::regclass::text, mode FROM pg_locks JOIN pg_class c ON c.oid = relation "
                "WHERE pid = %s AND relnamespace = 'shop'::regnamespace",
                [other.info.backend_pid],
            ).fetchall()
            assert {lock for lock in locks if lock[1] != "AccessShareLock"} == set()
            assert ("shop.customers", "AccessShareLock") in locks
            # A writer and a DDL that a writer would allow get by meanwhile.
            with conn.transaction():
                conn.execute("SET LOCAL lock_timeout = '1s'; ANALYZE shop.customers; SELECT 1")
        for rest in ("customers (name) VALUES ('b')", "serials DEFAULT VALUES", "log (at, kind) VALUES (now(), 'b')"):
            other.execute(f"INSERT INTO {SHADOW.schema}.{rest}")
        other.execute(f"INSERT INTO {SHADOW.schema}.refers (customer) SELECT id FROM shop.customers")
        assert fingerprint(conn) == before
        assert shadow.sweep(other, SHADOW)
    assert fingerprint(conn) == before


def fingerprint(conn: Connection) -> list[Any]:
    """Row versions of everything in schema shop and of all that the catalogue says of it, and where the sequences stand."""
    relations = conn.execute(
        "SELECT oid, relkind FROM pg_class WHERE relnamespace = 'shop'::regnamespace ORDER BY oid"
    ).fetchall()
    oids = [r[0] for r in relations]
    found: list[Any] = [relations]
    for catalog, column in (
        ("pg_class", "oid"),
        ("pg_attribute", "attrelid"),
        ("pg_constraint", "conrelid"),
        ("pg_constraint", "confrelid"),
        ("pg_trigger", "tgrelid"),
        ("pg_trigger", "tgconstrrelid"),
        ("pg_index", "indrelid"),
        ("pg_sequence", "seqrelid"),
        ("pg_depend", "refobjid"),
    ):
        rows = conn.execute(
            f"SELECT ctid::text, xmin::text, xmax::text FROM {catalog} WHERE {column} = ANY(%s) ORDER BY 1", [oids]
        ).fetchall()
        if catalog == "pg_class":  # relhastriggers, relchecks…; VACUUM and ANALYZE change it in place
            rows = conn.execute(
                "SELECT oid, relhastriggers, relchecks, relhasindex, relrowsecurity FROM pg_class WHERE oid = ANY(%s) "
                "ORDER BY 1",
                [oids],
            ).fetchall()
        found.append((catalog, rows))
    for name, kind in conn.execute(
        "SELECT oid::regclass::text, relkind FROM pg_class WHERE relnamespace = 'shop'::regnamespace AND relkind IN ('r', 'S') "
        "ORDER BY oid"
    ).fetchall():
        what = "ctid::text, xmin::text, xmax::text" if kind == "r" else "last_value, is_called, log_cnt"
        found.append((name, conn.execute(f"SELECT {what} FROM {name}").fetchall()))
    return found


# ---------------------------------------------------------------------------------------------------------- partitions


def test_a_partition_tree_is_cloned_leaf_by_leaf(conn: Connection) -> None:
    conn.execute(ZOO + PARTITIONS)
    parts = ("log", "log_2024", "log_2024_a", "log_2024_rest", "log_other", "hashed", "hashed_0")
    before = [definition(conn, "shop", n) for n in parts]
    assert cloned(conn, "shop.log", "shop.hashed").notes == ()
    assert [definition(conn, SHADOW.schema, n) for n in parts] == before
    tree = """SELECT relname, pg_get_expr(relpartbound, oid), pg_get_partkeydef(oid) FROM pg_class
        WHERE relkind IN ('r', 'p') AND relnamespace = %s::regnamespace AND relname ~ '^(log|hashed)' ORDER BY 1"""
    assert conn.execute(tree, ["shop"]).fetchall() == conn.execute(tree, [SHADOW.schema]).fetchall()


@pytest.mark.parametrize(
    "rest",
    [
        "(at, kind) VALUES ('2024-05-01', 'a'), ('2024-05-02', 'b'), ('1999-01-01', 'c')",
        "(at) VALUES ('2024-05-01'), ('2025-05-01')",
        "(at, kind, n) VALUES ('2024-05-01', 'a', 1), ('2024-05-01', 'a', 1)",
        "(at, kind, n) VALUES ('2024-05-01', 'b', 1), ('2024-05-01', 'b', 1)",
        "(at, kind, n) VALUES ('2024-05-01', 'a', 100)",
        "(at, kind) VALUES ('2026-05-01', 'bad')",
        "(id, at, kind) VALUES (1, '2024-05-01', 'a'), (1, '2024-05-01', 'a')",
        "(id, at) VALUES (1, '2026-05-01'), (1, '2026-05-01')",
        "(id, at) VALUES (1, NULL)",
    ],
)
def test_a_cloned_tree_takes_and_refuses_what_the_real_one_does(conn: Connection, rest: str) -> None:
    conn.execute(ZOO + PARTITIONS)
    cloned(conn, "shop.log")
    first = both(conn, "shop.log", f"{SHADOW.schema}.log", rest)
    assert first
    where = "SELECT tableoid::regclass::text, id, kind FROM {}.log ORDER BY id, at"
    real = conn.execute(where.format("shop")).fetchall()
    shadowed = conn.execute(where.format(SHADOW.schema)).fetchall()
    assert [(t.replace("shop.", ""), *r) for t, *r in real] == [
        (t.replace(f"{SHADOW.schema}.", ""), *r) for t, *r in shadowed
    ]


def test_a_partition_as_the_target_keeps_its_bounds(conn: Connection) -> None:
    conn.execute(ZOO + PARTITIONS)
    clones = cloned(conn, "shop.log_2024_a", "shop.hashed_0")
    assert clones.notes == ()
    for rest in (
        "(id, at, kind) VALUES (1, '2024-05-01', 'a')",
        "(id, at, kind) VALUES (1, '2024-05-01', 'b')",
        "(id, at, kind) VALUES (1, '2023-05-01', 'a')",
    ):
        with conn.transaction():
            first = attempt(conn, f"INSERT INTO shop.log_2024_a {rest} RETURNING *")
            second = attempt(conn, f"INSERT INTO {SHADOW.schema}.log_2024_a {rest} RETURNING *")
        assert first[0] == second[0], rest
    assert [
        attempt(conn, f"INSERT INTO {SHADOW.schema}.hashed_0 VALUES ({i}) RETURNING id")[0] for i in range(1, 9)
    ] == [
        attempt(conn, f"INSERT INTO shop.hashed_0 OVERRIDING SYSTEM VALUE VALUES ({i}) RETURNING id")[0]
        for i in range(1, 9)
    ]


def test_a_tree_and_one_of_its_partitions_share_their_clone(conn: Connection) -> None:
    conn.execute(ZOO + PARTITIONS)
    clones = cloned(conn, "shop.log_2024_a", "shop.log")
    leaf = clones.tables["shop.log_2024_a"]
    conn.execute(f"INSERT INTO {leaf.schema}.{leaf.name} (id, at, kind) VALUES (1, '2024-05-01', 'a')")
    assert attempt(conn, f"INSERT INTO {SHADOW.schema}.log (id, at, kind) VALUES (1, '2024-05-01', 'a')")[0] == "23505"
