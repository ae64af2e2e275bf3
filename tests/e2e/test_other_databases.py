"""SQLite and PostgreSQL as sources, by the commands that a user types."""

import sqlite3

import psycopg
from servers import Postgres

from e2e.rig import Rig


def test_a_sqlite_file_beside_the_project(rig: Rig) -> None:
    with sqlite3.connect(rig.folder / "old.db") as old:
        old.executescript(
            "CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, born DATE, balance DECIMAL(10,2));"
            "CREATE TABLE orders (no INTEGER, customer INTEGER, at DATETIME);"
            "INSERT INTO customers VALUES (1, 'Ann', '1970-01-01', 1.10), (2, 'Bob', 'nope', 2), (3, 'Zoë', NULL, 'x');"
            "INSERT INTO orders VALUES (1, 1, '2020-01-01 10:00:00'), (2, 9, NULL);"
        )
    old.close()
    rig.migrate("init", "sqlite:///old.db")
    rig.migrate("run", "--max-rejects", "100%")
    assert rig.sql("SELECT id, name, born::text, balance::text FROM customers") == [(1, "Ann", "1970-01-01", "1.10")]
    assert rig.fates("customers") == (3, 1, 0, 0, 2)
    said = rig.migrate("rejects", "list").said
    assert "'nope' of the source's DATE is no date" in said
    assert "'x' of the source's DECIMAL(10,2) is no number of 10 digits, 2 of them decimals" in said
    assert rig.sql('SELECT no, customer, "at"::text FROM orders ORDER BY no') == [
        (1, 1, "2020-01-01 10:00:00"),
        (2, 9, None),
    ]
    verified = rig.migrate("verify").said
    assert verified.count("equal") == 2
    rig.sql("UPDATE orders SET customer = 8 WHERE no = 2")
    assert "customer: the sum should be 10 by the source, and is 9" in rig.migrate("verify", code=3).said


def test_init_and_check_of_a_sqlite_file(rig: Rig) -> None:
    with sqlite3.connect(rig.folder / "old.db") as old:
        old.executescript(
            "CREATE TABLE customers (id INTEGER PRIMARY KEY, born DATE);"
            "CREATE TABLE orders (no INTEGER PRIMARY KEY, customer INTEGER REFERENCES customers);"
            "CREATE VIEW young AS SELECT id FROM customers WHERE born > '2000';"
            "INSERT INTO customers VALUES (1, '1970-01-01'), (2, 'nope');"
            "INSERT INTO orders VALUES (1, 1);"
        )
    old.close()
    told = "born: 1 of the first 2 are no date, and reject their row"
    assert f"customers: {told}" in rig.migrate("init", "sqlite:///old.db").said
    written = (rig.folder / "migrate.yaml").read_text()
    assert "customer: {references: customers, by: customer}" in written
    assert "# views are left out unless -s names them: young" in written
    assert "from: old.young" not in written
    checked = rig.migrate("check").said
    assert f"warn old, customers: {told}" in checked
    assert "ok   old, integrity: PRAGMA quick_check finds no damage" in checked
    assert "warn old, writers: it was written to" in checked


def test_a_postgresql_source(rig: Rig, postgres: Postgres) -> None:
    source = postgres.create(f"src{abs(hash(rig.url)) % 10**9}")
    try:
        with psycopg.connect(source, autocommit=True) as conn:
            conn.execute(
                "CREATE TABLE t (id bigint PRIMARY KEY, n numeric, tags text[], at timestamptz, j jsonb, d date)"
            )
            conn.execute(
                "INSERT INTO t VALUES (1, 1.500, '{a,\"b c\"}', '2020-01-01 12:00+02', '{\"a\": 1}', '2020-02-29')"
            )
            conn.execute("INSERT INTO t VALUES (2, NULL, NULL, NULL, NULL, 'infinity')")
        rig.environment["SOURCE_URL"] = source
        rig.write(
            "migrate.yaml",
            "migration: m\ntarget: ${env:TARGET_URL}\nsources:\n  old: ${env:SOURCE_URL}\ntables:\n  t:\n    from: old.t\n"
            "    key: id\n    primary_key: id\n    max_rejects: 50%\n"
            "    columns: {id: id, n: n, tags: tags, at: '\"at\"', j: j, d: d}\n",
        )
        plan = rig.migrate("plan", "--output", "json").json()
        [[table]] = plan["levels"]
        assert table["view"] == "live"
        assert table["watermarks"]["old"].startswith("lsn ")
        rig.migrate("run")
        assert rig.fates("t") == (2, 1, 0, 0, 1)
        assert rig.sql("SELECT n::text, tags, at AT TIME ZONE 'UTC' = '2020-01-01 10:00', j, d::text FROM t") == [
            ("1.500", '{a,"b c"}', True, {"a": 1}, "2020-02-29")
        ]
        rig.migrate("verify")
    finally:
        postgres.drop(source.rpartition("/")[2])


def test_a_key_that_was_dropped_between_two_runs_is_told(rig: Rig, postgres: Postgres) -> None:
    """The slices that were pinned are spans of a key; by another they would be other rows."""
    source = postgres.create(f"key{abs(hash(rig.url)) % 10**9}")

    def ask(sql: str) -> None:
        with psycopg.connect(source, autocommit=True) as conn:
            conn.execute(sql.encode())

    try:
        ask(
            "CREATE TABLE t (a int NOT NULL CONSTRAINT by_a UNIQUE, b text NOT NULL CONSTRAINT by_b UNIQUE);"
            "INSERT INTO t SELECT n, 'b' || 999 - n FROM generate_series(1, 300) n; ANALYZE t"
        )
        rig.environment["SOURCE_URL"] = source
        rig.sql("CREATE TABLE t (a int, b text)")
        rig.write(
            "migrate.yaml",
            "migration: m\ntarget: ${env:TARGET_URL}\nsources: {old: '${env:SOURCE_URL}'}\n"
            "tables: {t: {from: old.t, columns: {a: a, b: b}}}\n",
        )
        assert rig.killed_at("committed", 1, "run", "--batch-rows", "100").code < 0
        ask("ALTER TABLE t DROP CONSTRAINT by_a")
        ended = rig.migrate("run", code=3)
        assert "old.t: the key was a and is b" in ended.said
        ask("ALTER TABLE t ADD CONSTRAINT by_a UNIQUE (a)")
        rig.migrate("run")
        assert rig.fates("t") == (300, 300, 0, 0, 0)
    finally:
        postgres.drop(source.rpartition("/")[2])
