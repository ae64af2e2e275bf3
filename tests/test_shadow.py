"""The shadow of a dry run on a real server: what the clones take and refuse, and that the real tables are only read."""

from collections.abc import Callable, Collection
from typing import Any

import psycopg
import pytest

from migrate import ledger, shadow
from migrate.core import Column, ForeignKey, TargetTable
from migrate.errors import GateError, RetryableError, TargetError
from migrate.shadow import Clones
from migrate.target import Connection, catalogue, connect

SHADOW = shadow.names("acme")


def table(conn: Connection, name: str) -> TargetTable:
    schema, _, plain = name.rpartition(".")
    found = catalogue(conn, schema or "public", plain)
    assert found is not None
    return found


def cloned(conn: Connection, *names: str, kept: Collection[str] = ()) -> Clones:
    return shadow.clone(conn, SHADOW, [table(conn, n) for n in names], kept)


def attempt(conn: Connection, sql: str) -> tuple[Any, ...]:
    """What an INSERT … RETURNING gives, or its SQLSTATE and the constraint's name; never the connection's transaction."""
    try:
        with conn.transaction():
            return tuple(conn.execute(sql).fetchall())
    except psycopg.Error as error:
        return error.sqlstate, error.diag.constraint_name


def both(conn: Connection, real: str, clone: str, rest: str) -> tuple[Any, ...]:
    """The same INSERT into the real table and its clone, in one transaction so that now() is equal; they must agree."""
    with conn.transaction():
        conn.execute("SET CONSTRAINTS ALL IMMEDIATE")
        first = attempt(conn, f"INSERT INTO {real} {rest} RETURNING *")
        second = attempt(conn, f"INSERT INTO {clone} {rest} RETURNING *")
    assert first == second, rest
    return first


# ------------------------------------------------------------------------------------------------------ names, sweeping


def test_two_migrations_never_share_a_shadow() -> None:
    names = ["a", "a_ledger", "ledger_a", "shadow_a", "x" * 48, "x" * 49, "x" * 62 + "a", "x" * 62 + "b"]
    schemas = [s for n in names for s in (shadow.names(n).schema, shadow.names(n).ledger)]
    assert len(set(schemas)) == 2 * len(names)
    assert all(len(s.encode()) <= 63 for s in schemas)
    assert shadow.names("acme") == SHADOW


def test_a_sweep_drops_both_schemas_and_says_whether_there_was_one(conn: Connection) -> None:
    conn.execute("CREATE TABLE people (id int PRIMARY KEY)")
    assert not shadow.sweep(conn, SHADOW)
    cloned(conn, "people")
    conn.ledger = SHADOW.ledger
    ledger.create(conn)
    assert ledger.exists(conn)
    assert shadow.sweep(conn, SHADOW)
    assert not ledger.exists(conn)
    assert schemas(conn) == []
    assert not shadow.sweep(conn, SHADOW)
    cloned(conn, "people")


def schemas(conn: Connection) -> list[str]:
    return [r[0] for r in conn.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'migrate%%'").fetchall()]


def test_a_schema_that_no_dry_run_made_is_not_dropped(conn: Connection) -> None:
    conn.execute(f"CREATE SCHEMA {SHADOW.schema}; CREATE TABLE {SHADOW.schema}.dear (id int)")
    with pytest.raises(GateError, match="migrate_shadow_acme .*no dry run made it") as caught:
        shadow.sweep(conn, SHADOW)
    assert "RENAME" in caught.value.hint
    assert conn.execute(f"SELECT count(*) FROM {SHADOW.schema}.dear").fetchone() == (0,)


def test_a_second_dry_run_neither_sweeps_nor_joins_the_first(
    conn: Connection, target_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow, "_PATIENCE", "SET LOCAL lock_timeout = '200ms'")
    conn.execute("CREATE TABLE people (id int)")
    with connect(target_url) as first, connect(target_url) as holder:
        cloned(first, "people")
        with shadow.held(holder, SHADOW), pytest.raises(RetryableError, match="another dry run .* migrate_shadow_acme"):
            shadow.sweep(conn, SHADOW)
        with pytest.raises(GateError, match="has begun"):
            cloned(conn, "people")
        with first.transaction():
            first.execute(f"INSERT INTO {SHADOW.schema}.people VALUES (1)")
            with pytest.raises(RetryableError, match="lock"):
                shadow.sweep(conn, SHADOW)
    assert shadow.sweep(conn, SHADOW)


def test_whoever_holds_a_shadow_keeps_nothing_from_vacuum(conn: Connection, target_url: str) -> None:
    with connect(target_url) as holder, shadow.held(holder, SHADOW):
        row = conn.execute(
            "SELECT state, backend_xmin, backend_xid FROM pg_stat_activity WHERE pid = %s", [holder.info.backend_pid]
        ).fetchone()
    assert row == ("idle in transaction", None, None)


def test_a_dry_run_killed_while_it_clones_leaves_nothing(conn: Connection, target_url: str) -> None:
    conn.execute("CREATE TABLE people (id serial PRIMARY KEY); CREATE TABLE pets (owner int REFERENCES people)")
    victim = connect(target_url)
    with pytest.raises(psycopg.OperationalError), victim.transaction():
        cloned(victim, "people", "pets")
        conn.execute("SELECT pg_terminate_backend(%s)", [victim.info.backend_pid])
        victim.execute("SELECT 1")
    victim.close()
    assert schemas(conn) == []
    assert not shadow.sweep(conn, SHADOW)


def test_a_dry_run_killed_later_is_swept_by_the_next(conn: Connection, target_url: str) -> None:
    conn.execute("CREATE TABLE people (id serial PRIMARY KEY)")
    victim, holder = connect(target_url), connect(target_url)
    cloned(victim, "people")
    with pytest.raises(RetryableError), shadow.held(holder, SHADOW):
        victim.execute(f"INSERT INTO {SHADOW.schema}.people DEFAULT VALUES")
        for killed in (victim, holder):
            conn.execute("SELECT pg_terminate_backend(%s, 5000)", [killed.info.backend_pid])
    victim.close()
    holder.close()
    assert shadow.sweep(conn, SHADOW)
    assert schemas(conn) == []


# ----------------------------------------------------------------------------------------------------------- privileges


@pytest.fixture
def role(conn: Connection) -> str:
    """A role that owns nothing and is no superuser."""
    conn.execute("DROP ROLE IF EXISTS mover; CREATE ROLE mover LOGIN")
    return "mover"


def test_missing_privileges_are_named_with_the_grant(conn: Connection, target_url: str, role: str) -> None:
    database = conn.info.dbname
    conn.execute('CREATE TABLE "The people" (id int); CREATE TABLE pets (id int); GRANT SELECT ON pets TO mover')
    tables = [table(conn, "The people"), table(conn, "pets")]
    with connect(target_url.replace("postgres@", f"{role}@")) as poor:
        with pytest.raises(TargetError, match="may not make schemas") as caught:
            shadow.clone(poor, SHADOW, tables, ())
        assert caught.value.hint == f'GRANT CREATE ON DATABASE "{database}" TO "mover";'
        conn.execute(caught.value.hint)
        with pytest.raises(TargetError, match=r'mover may not read public."The people"') as caught:
            shadow.clone(poor, SHADOW, tables, ())
        conn.execute(caught.value.hint)
        assert len(shadow.clone(poor, SHADOW, tables, ()).tables) == 2
        assert shadow.sweep(poor, SHADOW)
    conn.execute(f'REVOKE CREATE ON DATABASE "{database}" FROM mover; DROP OWNED BY mover; DROP ROLE mover')


def test_a_role_that_owns_nothing_can_rehearse(conn: Connection, target_url: str, role: str) -> None:
    conn.execute(
        f"""GRANT CREATE ON DATABASE "{conn.info.dbname}" TO mover;
        CREATE TABLE people (id serial PRIMARY KEY, name text CHECK (name <> '') DEFAULT 'x');
        SELECT setval('people_id_seq', 41);
        GRANT SELECT, INSERT ON people TO mover; GRANT USAGE ON people_id_seq TO mover"""
    )
    with connect(target_url.replace("postgres@", f"{role}@")) as poor:
        cloned(poor, "people")
        assert attempt(poor, f"INSERT INTO {SHADOW.schema}.people DEFAULT VALUES RETURNING *") == ((42, "x"),)
        shadow.sweep(poor, SHADOW)
    conn.execute("DROP OWNED BY mover; DROP ROLE mover")


# -------------------------------------------------------------------------------------------------------------- the zoo

ZOO = """
CREATE SCHEMA shop;
CREATE TYPE shop.mood AS ENUM ('sad', 'ok', 'Very "happy"');
CREATE DOMAIN shop.positive AS numeric(10,2) CHECK (VALUE > 0);
CREATE DOMAIN shop.code AS text COLLATE "C" NOT NULL DEFAULT 'none' CHECK (length(VALUE) <= 8);
CREATE FUNCTION shop.folded(t text) RETURNS text IMMUTABLE LANGUAGE sql RETURN lower(trim(t));
CREATE SEQUENCE shop.shared AS int START 7 INCREMENT 5 MINVALUE 2 MAXVALUE 1000 CACHE 3 CYCLE;
SELECT nextval('shop.shared');
DISCARD SEQUENCES; -- this session has numbers in its cache
CREATE SEQUENCE shop."It's odd" INCREMENT -1;

CREATE TABLE shop.customers (
    dropped int,
    id bigint GENERATED BY DEFAULT AS IDENTITY (START 10 INCREMENT 10 MAXVALUE 90) PRIMARY KEY,
    no int NOT NULL DEFAULT nextval('shop.shared'),
    "Odd ""one"" it" text DEFAULT 'it''s' || nextval('shop."It''s odd"'),
    name varchar(12) COLLATE "C" NOT NULL CONSTRAINT "named ""so"" it" CHECK (name <> ''),
    mood shop.mood DEFAULT 'ok',
    price shop.positive,
    code shop.code,
    born date CHECK (born > DATE '1900-01-01') NO INHERIT,
    folded text GENERATED ALWAYS AS (shop.folded(name)) STORED,
    made timestamptz NOT NULL DEFAULT now(),
    doc jsonb,
    tags text[] DEFAULT '{a,b}',
    CONSTRAINT both_or_none CHECK (num_nulls(price, born) <> 1),
    CONSTRAINT later UNIQUE (no) DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT apart EXCLUDE USING gist (int4range(no, no + 2) WITH &&) WHERE (no > 500)
);
ALTER TABLE shop.customers DROP COLUMN dropped;
ALTER TABLE shop.customers ADD CONSTRAINT old CHECK (name <> 'old') NOT VALID;
CREATE UNIQUE INDEX "by name" ON shop.customers (shop.folded(name) DESC, code) INCLUDE (born) WHERE born IS NOT NULL;
CREATE UNIQUE INDEX ON shop.customers (price) ;
CREATE INDEX tagged ON shop.customers USING gin (tags);
CREATE INDEX wide ON shop.customers ("Odd ""one"" it");

CREATE TABLE shop.serials (id serial, small smallserial, big bigserial, note text, PRIMARY KEY (id, small));
SELECT setval('shop.serials_id_seq', 5, false), setval('shop.serials_big_seq', 7000);

CREATE TABLE shop.parent (id int PRIMARY KEY, kind text NOT NULL CHECK (kind <> 'none'));
CREATE TABLE shop.child (extra int UNIQUE, CHECK (extra > id)) INHERITS (shop.parent);
"""


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
            "(name, \"Odd \"\"one\"\" it\") SELECT 'a', string_agg(md5(i::text), '') FROM generate_series(1, 400) i", id="wide"
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
        with pytest.raises(psycopg.errors.UniqueViolation) as caught, conn.transaction():
            conn.execute(f"INSERT INTO {name} (name, no) VALUES ('a', 1), ('b', 1)")
            conn.execute("SET CONSTRAINTS ALL IMMEDIATE")
        assert caught.value.diag.constraint_name == "later"


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
    assert conn.execute(f"SELECT count(*) FROM pg_inherits WHERE inhrelid = '{SHADOW.schema}.child'::regclass") is not None
    for rest in ("VALUES (1, 'a', 2)", "VALUES (1, 'a', 1)", "VALUES (1, 'none', 3)"):
        both(conn, "shop.child", f"{SHADOW.schema}.child", rest)
    assert conn.execute(f"SELECT count(*) FROM {SHADOW.schema}.parent").fetchone() == (0,)


# ------------------------------------------------------------------------------------------- nothing real is touched


def test_real_tables_are_locked_no_stronger_than_a_select_and_nothing_of_them_changes(
    conn: Connection, target_url: str
) -> None:
    conn.execute(ZOO + PARTITIONS)
    conn.execute("INSERT INTO shop.customers (name) VALUES ('a'); INSERT INTO shop.log (at, kind) VALUES ('2024-05-01', 'a')")
    names = ["shop.customers", "shop.serials", "shop.child", "shop.log", "shop.refers"]
    before = fingerprint(conn)
    with connect(target_url) as other:
        with other.transaction():
            clones = cloned(other, *names, kept=["shop.customers"])
            assert clones.notes == ()
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

PARTITIONS = """
CREATE TABLE shop.log (
    id bigserial, at timestamptz NOT NULL, kind text NOT NULL DEFAULT 'x' CHECK (kind <> 'bad'), n int DEFAULT 3,
    PRIMARY KEY (id, at, kind)
) PARTITION BY RANGE (at);
CREATE TABLE shop.log_2024 PARTITION OF shop.log FOR VALUES FROM ('2024-01-01Z') TO ('2025-01-01Z') PARTITION BY LIST (kind);
CREATE TABLE shop.log_2024_a PARTITION OF shop.log_2024 FOR VALUES IN ('a');
CREATE TABLE shop.log_2024_rest PARTITION OF shop.log_2024 DEFAULT;
CREATE TABLE shop.log_other (n int, kind text NOT NULL DEFAULT 'y', at timestamptz NOT NULL, id bigint NOT NULL,
                             CONSTRAINT log_kind_check CHECK (kind <> 'bad'));
ALTER TABLE shop.log ATTACH PARTITION shop.log_other DEFAULT;
ALTER TABLE shop.log_2024_a ADD CONSTRAINT small CHECK (n < 100);
CREATE UNIQUE INDEX only_there ON shop.log_2024_a (n);
CREATE INDEX ON shop.log (kind);
CREATE TABLE shop.hashed (id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY) PARTITION BY HASH (id);
CREATE TABLE shop.hashed_0 PARTITION OF shop.hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE shop.refers (customer bigint REFERENCES shop.customers, log bigint, log_at timestamptz, log_kind text,
                          FOREIGN KEY (log, log_at, log_kind) REFERENCES shop.log);
"""


def test_a_partition_tree_is_cloned_leaf_by_leaf(conn: Connection) -> None:
    conn.execute(ZOO + PARTITIONS)
    parts = ("log", "log_2024", "log_2024_a", "log_2024_rest", "log_other", "hashed", "hashed_0")
    before = [definition(conn, "shop", n) for n in parts]
    assert cloned(conn, "shop.log", "shop.hashed").notes == ()
    assert [definition(conn, SHADOW.schema, n) for n in parts] == before
    tree = "SELECT relname, pg_get_expr(relpartbound, oid), pg_get_partkeydef(oid) FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = %s::regnamespace AND relname LIKE ANY(ARRAY['log%%', 'hashed%%']) ORDER BY 1"
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
    assert [attempt(conn, f"INSERT INTO {SHADOW.schema}.hashed_0 VALUES ({i}) RETURNING id")[0] for i in range(1, 9)] == [
        attempt(conn, f"INSERT INTO shop.hashed_0 OVERRIDING SYSTEM VALUE VALUES ({i}) RETURNING id")[0]
        for i in range(1, 9)
    ]


def test_a_tree_and_one_of_its_partitions_share_their_clone(conn: Connection) -> None:
    conn.execute(ZOO + PARTITIONS)
    clones = cloned(conn, "shop.log_2024_a", "shop.log")
    leaf = clones.tables["shop.log_2024_a"]
    conn.execute(f"INSERT INTO {leaf.schema}.{leaf.name} (id, at, kind) VALUES (1, '2024-05-01', 'a')")
    assert attempt(conn, f"INSERT INTO {SHADOW.schema}.log (id, at, kind) VALUES (1, '2024-05-01', 'a')")[0] == "23505"
