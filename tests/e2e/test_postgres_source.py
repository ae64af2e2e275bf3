"""`migrate init`, `check`, `verify --level aggregates` and the governor on PostgreSQL as a source."""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
import pytest
from servers import Postgres

from e2e.rig import Rig

SCHEMA = """
CREATE TABLE groups (tenant int, name text, PRIMARY KEY (tenant, name));
CREATE TABLE customers (id int PRIMARY KEY, tenant int, grp text, boss int REFERENCES customers, born date, total numeric(6,2),
  FOREIGN KEY (tenant, grp) REFERENCES groups);
CREATE TABLE orders (id int, y int, customer int REFERENCES customers, PRIMARY KEY (id, y)) PARTITION BY RANGE (y);
CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM (0) TO (3000);
CREATE VIEW rich AS SELECT id FROM customers WHERE total > 100;
CREATE SCHEMA hr;
CREATE TABLE hr.staff (id int PRIMARY KEY, customer int REFERENCES public.customers);
CREATE VIEW hr.all_staff AS SELECT id FROM hr.staff;
INSERT INTO groups VALUES (1, 'a');
INSERT INTO customers VALUES (1, 1, 'a', NULL, 'infinity', 'NaN'), (2, NULL, NULL, 1, '2020-01-01', 1.5);
INSERT INTO orders SELECT n, 2020, 2 FROM generate_series(1, 3000) n;
INSERT INTO hr.staff VALUES (1, 2);
ANALYZE;
"""


@pytest.fixture
def source(postgres: Postgres, rig: Rig) -> Iterator[str]:
    """The URL of a database that is a source."""
    name = f"{rig.url.rpartition('/')[2]}s"
    postgres.drop(name)
    url = postgres.create(name)
    rig.environment["SOURCE_URL"] = url
    yield url
    postgres.drop(name)


def ran(url: str, *statements: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True, client_encoding="UTF8") as connection:
        for statement in statements:
            cursor = connection.execute(statement)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def narrow(source: str) -> Iterator[str]:
    """The URL of a user who may do nothing but connect."""
    ran(source, "DROP ROLE IF EXISTS narrow", "CREATE ROLE narrow LOGIN")
    yield source.replace("postgres@", "narrow@")
    ran(source, "DROP OWNED BY narrow", "DROP ROLE narrow")


TABLE = "  customers: {from: s.customers, key: id, primary_key: id, max_rejects: 100%, columns: {id: id}}\n"


def project(rig: Rig, url: str, tables: str = TABLE, options: str = "") -> None:
    rig.environment["SOURCE_URL"] = url
    rig.write(
        "migrate.yaml",
        "migration: m\ntarget: ${env:TARGET_URL}\nsources:\n  s: {url: '${env:SOURCE_URL}'" + options + "}\n"
        f"tables:\n{tables}",
    )


def results(rig: Rig, code: int = 0) -> dict[str, tuple[str, str]]:
    """What was looked at → (the worst level, all that was said)."""
    found: dict[str, tuple[str, str]] = {}
    for each in rig.migrate("check", "--output", "json", code=code).json():
        level, said = found.get(each["what"], ("ok", ""))
        worst = max((level, each["level"]), key=["ok", "warning", "failed"].index)
        found[each["what"]] = (worst, said + each["said"] + "\n")
    return found


# ----------------------------------------------------------------------------------------------------------------- init


def test_a_database_is_drafted_with_its_references_and_says_what_it_leaves_out(rig: Rig, source: str) -> None:
    ran(source, SCHEMA)
    said = rig.migrate("init", source).said
    written = (rig.folder / "migrate.yaml").read_text()
    lines = {line.strip() for line in written.splitlines()}
    for line in (
        "tenant: {references: groups, column: tenant, by: [tenant, grp]}",
        "boss: {references: customers, by: boss}",
        "customer: {references: customers, by: customer}",
        "# views are left out unless -s names them: hr.all_staff, rich",
        "# tables of other schemas are left out unless -s names them: hr.staff",
    ):
        assert line in lines
    assert "hr.staff" in said
    assert "born: 1 of the first 2 are no date, and reject their row" in said
    assert "total: 1 of the first 2 are no number of 6 digits, 2 of them decimals, and reject their row" in said
    rig.migrate("init", source, "-s", "customers", "-s", "hr.*", "-s", "rich", "--yes")
    written = (rig.folder / "migrate.yaml").read_text()
    name = source.rpartition("/")[2]
    assert f"from: {name}.hr.staff" in written
    assert f"from: {name}.rich" in written
    assert "hr.all_staff\n" not in written.replace("# views are left out unless -s names them: hr.all_staff\n", "")
    assert "customer: {references: customers, by: customer}" in written
    ended = rig.migrate("init", source, "-s", "stafff", "--yes", code=2)
    assert "No table of the source is selected by -s stafff." in ended.said


def test_a_database_whose_tables_are_all_in_another_schema_says_which(rig: Rig, source: str) -> None:
    ran(source, "CREATE SCHEMA hr", "CREATE TABLE hr.staff (id int)")
    assert "There are: hr.staff." in rig.migrate("init", source, code=2).said


# ---------------------------------------------------------------------------------------------------------------- check


def test_check_of_a_source_looks_at_the_server_and_at_each_table(rig: Rig, source: str) -> None:
    ran(source, SCHEMA)
    orders = "  orders: {from: s.orders, key: [id, y], primary_key: [id, y], columns: {id: id, y: y}}\n"
    project(rig, source, TABLE + orders)
    found = results(rig)
    assert re.match(r"PostgreSQL [\d.]+, database \w+, user postgres", found["s, version"][1])
    assert found["s, encoding"] == ("ok", "UTF8\n")
    assert found["s, connections"][0] == "ok"
    assert re.match(r"\d+ of 57 free beside the 6 that a run takes", found["s, connections"][1])
    assert found["s, view"][0] == "ok"
    level, said = found["s, log"]
    assert level == "warning"
    assert "wal_level is replica: nothing can take over the changes after the load" in said
    assert "s, timeouts" not in found
    level, said = found["s, customers"]
    assert level == "warning"
    assert "born: 1 of the first 2 are no date" in said
    # The rows of a partitioned table are those of its partitions.
    assert re.search(r"about 3,00\d rows, [\d.]+ kB by its own statistics", found["room"][1])
    project(rig, source, TABLE, ", quiesced: true")
    assert "s, log" not in results(rig)


def test_check_names_rows_that_are_hidden_from_the_user(rig: Rig, source: str, narrow: str) -> None:
    """Counts would be right without them."""
    ran(source, SCHEMA, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO narrow")
    ran(source, "ALTER TABLE customers ENABLE ROW LEVEL SECURITY", "CREATE POLICY p ON customers USING (id > 1)")
    project(rig, narrow)
    level, said = results(rig, code=3)["s, customers"]
    assert level == "failed"
    assert "row-level security" in said
    assert "BYPASSRLS" in said
    ran(source, "ALTER ROLE narrow BYPASSRLS")
    assert results(rig)["s, customers"][0] == "warning"  # for its infinity


def test_check_says_what_the_lack_of_privileges_costs(rig: Rig, source: str, narrow: str) -> None:
    ran(source, SCHEMA, "GRANT SELECT (id, tenant) ON customers TO narrow")
    project(rig, narrow)
    found = results(rig)
    assert found["s, privileges"] == ("ok", "pg_read_all_stats is not granted: the load by others is not seen\n")
    assert found["s, customers"][0] == "warning"
    assert "columns that may not be read: born, boss, grp, total" in found["s, customers"][1]
    assert found["s, connections"][0] == "ok"
    said = rig.migrate("init", narrow, "-s", "hr.*", "-o", "hr.yaml").said
    assert "hr.staff: 127.0.0.1: permission denied for schema hr" in said  # and it is drafted all the same
    ran(source, "REVOKE ALL ON customers FROM narrow", "GRANT pg_read_all_stats TO narrow")
    found = results(rig, code=3)
    assert found["s, customers"][0] == "failed"
    assert "permission denied" in found["s, customers"][1]
    assert "s, privileges" not in found


def test_check_counts_the_connections_of_the_user(rig: Rig, source: str, narrow: str) -> None:
    ran(source, SCHEMA, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO narrow", "ALTER ROLE narrow CONNECTION LIMIT 7")
    project(rig, narrow)
    level, said = results(rig)["s, connections"]
    assert level == "warning"
    assert re.search(r"[01] of 7 free beside the 6 that a run takes", said)
    assert "raise the user's CONNECTION LIMIT" in said


def test_check_compares_timeouts_with_the_time_of_the_load(rig: Rig, source: str, narrow: str) -> None:
    ran(source, SCHEMA, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO narrow")
    ran(source, "ALTER ROLE narrow SET idle_in_transaction_session_timeout = '100s'")
    project(rig, narrow)
    level, said = results(rig)["s, timeouts"]
    assert level == "warning"
    assert "idle_in_transaction_session_timeout is 100 s: the session that holds the snapshot is ended by it" in said
    assert "takes about 2 min, at 100,000 rows a second" in said
    assert "ALTER ROLE narrow SET idle_in_transaction_session_timeout = 0" in said
    ran(source, "ALTER ROLE narrow SET idle_in_transaction_session_timeout = '1h'")
    assert results(rig)["s, timeouts"][0] == "ok"


@pytest.fixture
def logical(postgres: Postgres, source: str) -> Iterator[str]:
    """The source's URL, on a server that writes a log which a change feed can read."""
    ran(postgres.url(), "ALTER SYSTEM SET wal_level = 'logical'")
    postgres.restart("fast")
    yield source
    ran(
        postgres.url(),
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots",
        "ALTER SYSTEM RESET wal_level",
    )
    postgres.restart("fast")


def test_check_says_whether_anything_keeps_the_log(rig: Rig, logical: str) -> None:
    ran(logical, SCHEMA)
    project(rig, logical)
    level, said = results(rig)["s, log"]
    assert level == "warning"
    assert "no logical slot keeps the log of this database" in said
    ran(logical, "SELECT pg_create_logical_replication_slot('feed', 'pgoutput')")
    assert results(rig)["s, log"] == ("ok", "wal_level is logical; 1 logical slots keep the log of this database\n")


def test_a_database_of_no_encoding_is_read_where_its_texts_are_utf_8(rig: Rig, postgres: Postgres, source: str) -> None:
    name = source.rpartition("/")[2]
    postgres.drop(name)
    ran(postgres.url(), f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    ran(
        source, "CREATE TABLE customers (id int PRIMARY KEY, t text)", "INSERT INTO customers VALUES (1, 'ä'), (2, 'x')"
    )
    project(rig, source, TABLE.replace("{id: id}", "{id: id, t: t}"))
    level, said = results(rig)["s, encoding"]
    assert level == "warning"
    assert "SQL_ASCII" in said
    rig.migrate("run")
    assert rig.sql("SELECT t FROM customers ORDER BY id") == [("ä",), ("x",)]
    ran(source, r"INSERT INTO customers VALUES (3, E'\xe4')")
    said = rig.migrate("run", "--restart", "--yes", code=6).said
    assert "invalid byte sequence" in said
    assert "Mend the text at the source" in said


# ----------------------------------------------------------------------------------------------------------- aggregates


def test_aggregates_of_numbers_that_are_none_are_equal(rig: Rig, source: str) -> None:
    ran(source, "CREATE TABLE customers (id int PRIMARY KEY, r float8, f real)")
    ran(
        source,
        "INSERT INTO customers VALUES (1, 'NaN', 0.1), (2, '-Infinity', 'Infinity'), (3, 0.1, -0.1), (4, NULL, NULL)",
    )
    project(rig, source, TABLE.replace("{id: id}", "{id: id, r: r, f: f}"))
    rig.migrate("run")
    assert "customers: equal" in rig.migrate("verify", "--level", "aggregates").said
    rig.sql("UPDATE customers SET r = 0.2 WHERE r = 'NaN'")
    found = rig.migrate("verify", "--level", "aggregates", code=3).said
    assert "r: the greatest value should be NaN by the source, and is 0.2 in the target" in found


# ------------------------------------------------------------------------------------------------------------- the load


@contextmanager
def statement(url: str) -> Iterator[None]:
    """Somebody's statement runs until this is left."""
    connection = psycopg.connect(url, autocommit=True)

    def run() -> None:
        with suppress(psycopg.Error):
            connection.execute("SELECT pg_sleep(60)")

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        connection.cancel()
        thread.join()
        connection.close()


def test_others_statements_come_first(rig: Rig, source: str) -> None:
    ran(source, "CREATE TABLE customers (id int PRIMARY KEY)", "INSERT INTO customers SELECT generate_series(1, 500)")
    project(rig, source)
    with statement(source):
        running = rig.start("run", "--batch-rows", "50", "--max-source-load", "0", "-j", "3")
        running.until(lambda lines: any("s runs 1 other statements, more than 0: waiting" in line for line in lines))
        time.sleep(1)
        assert running.process.poll() is None
    ended = running.end()
    assert ended.code == 0
    assert ended.err.count("waiting") == 1
    assert rig.fates("customers") == (500, 500, 0, 0, 0)


def test_our_own_statements_are_no_load_nor_those_at_a_target_of_the_same_server(rig: Rig, source: str) -> None:
    ran(source, "CREATE TABLE customers (id int PRIMARY KEY)", "INSERT INTO customers SELECT generate_series(1, 20000)")
    project(rig, source)
    ended = rig.migrate("run", "--batch-rows", "200", "--max-source-load", "0", "-j", "4")
    assert "waiting" not in ended.err


def test_a_user_who_does_not_see_others_statements_is_told(rig: Rig, source: str, narrow: str) -> None:
    ran(source, "CREATE TABLE customers (id int PRIMARY KEY)", "INSERT INTO customers SELECT generate_series(1, 50)")
    ran(source, "GRANT SELECT ON customers TO narrow")
    project(rig, narrow)
    assert "s does not say how busy it is" in rig.migrate("run", "--max-source-load", "0").err


# ------------------------------------------------------------------------------------------------------------- a standby


@pytest.fixture
def standby(postgres: Postgres, source: str) -> Iterator[str]:
    """The URL of the source at a standby of its server."""
    ran(source, SCHEMA)
    with postgres.standby() as port:
        yield source.replace(f":{postgres.port}/", f":{port}/")


def test_a_standby_that_cancels_readers_is_told_and_read(rig: Rig, standby: str) -> None:
    project(rig, standby)
    found = results(rig)
    assert "a standby" in found["s, version"][1]
    level, said = found["s, standby"]
    assert level == "warning"
    assert "hot_standby_feedback is off: a reader that hinders the replay is cancelled after 30 s" in said
    ran(standby, "ALTER SYSTEM SET hot_standby_feedback = on", "SELECT pg_reload_conf()")
    assert results(rig)["s, standby"][0] == "ok"
    rig.migrate("run")
    assert rig.fates("customers") == (2, 2, 0, 0, 0)
