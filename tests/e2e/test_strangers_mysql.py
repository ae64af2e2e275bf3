"""What strangers found in MySQL and MariaDB as sources: each as it was reported."""

from collections.abc import Iterator

import pytest
from servers import MariaDB

from e2e.rig import Rig
from e2e.test_mysql import filled, project


def loaded(rig: Rig, mariadb: MariaDB, database: str, statements: str, columns: str, *arguments: str) -> None:
    """Load the table `t` with its key `id`, and verify it."""
    filled(mariadb, database, statements)
    tables = f"  t: {{from: erp.t, key: id, primary_key: id, max_rejects: 100%, columns: {{{columns}}}}}\n"
    project(rig, mariadb.url(database), tables)
    rig.migrate("run", *arguments)
    assert "t: equal" in rig.migrate("verify").said


def test_a_return_at_the_end_of_a_row_arrives(rig: Rig, mariadb: MariaDB, source_database: str) -> None:
    """As in tables that were imported from a file of Windows. Arrow took it for a part of the row's end."""
    ddl = (
        "CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(9));\nINSERT INTO t VALUES (1, 'a\\r'), (2, 'b'), (3, '\\r');\n"
    )
    loaded(rig, mariadb, source_database, ddl, "id: id, a: a")
    assert rig.sql("SELECT a FROM t ORDER BY id") == [("a\r",), ("b",), ("\r",)]


@pytest.mark.parametrize("null", ["", "NOT NULL"])
def test_a_value_whose_text_is_longer_than_a_packet_arrives(
    rig: Rig, mariadb: MariaDB, source_database: str, null: str
) -> None:
    """The server makes NULL of it, with a warning that nobody reads."""
    ddl = (
        f"CREATE TABLE t (id INT PRIMARY KEY, a LONGBLOB {null}, b LONGTEXT CHARACTER SET latin1 {null});\n"
        "INSERT INTO t VALUES (1, X'00', 'x');\n"
        "INSERT INTO t SELECT 2, REPEAT(X'FF00', 4500000), REPEAT(_latin1 X'E4', 9000000);\n"
    )
    loaded(rig, mariadb, source_database, ddl, "id: id, a: a, b: b")
    assert rig.sql(
        "SELECT length(a), length(b), a = decode(repeat('ff00', length(a) / 2), 'hex') FROM t WHERE id = 2"
    ) == [(9_000_000, 9_000_000, True)]


def test_a_character_that_is_not_in_unicode_is_no_question_mark(
    rig: Rig, mariadb: MariaDB, source_database: str
) -> None:
    ddl = (
        "CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(9) CHARACTER SET sjis, b VARCHAR(9) CHARACTER SET cp1250);\n"
        "INSERT INTO t VALUES (1, '?', '?'), (2, X'8791', 'x'), (3, X'93FA', X'E1'), (4, 'x?', X'3F81'), (5, NULL, NULL);\n"
    )
    loaded(rig, mariadb, source_database, ddl, "id: id, a: a, b: b")
    assert rig.sql("SELECT * FROM t ORDER BY id") == [(1, "?", "?"), (3, "日", "á"), (5, None, None)]
    said = rig.migrate("rejects", "list").said
    assert "a: '8791' of the source's varchar(9) is no text" in said
    assert "b: '3F81' of the source's varchar(9) is no text" in said


def test_bytes_that_are_no_text_reject_their_row(rig: Rig, mariadb: MariaDB, source_database: str) -> None:
    ddl = (
        "CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(9) CHARACTER SET ascii, b VARCHAR(9));\n"
        "INSERT INTO t VALUES (1, 'a', 'b'), (2, X'E9', NULL), (3, NULL, 'x');\n"
    )
    loaded(rig, mariadb, source_database, ddl, "id: id, a: a, b: b")
    assert rig.sql("SELECT * FROM t ORDER BY id") == [(1, "a", "b"), (3, None, "x")]
    assert "a: 'e9' of the source's varchar(9) is no text" in rig.migrate("rejects", "list").said


def test_a_unique_key_cuts_where_there_is_no_primary_one(rig: Rig, mariadb: MariaDB, source_database: str) -> None:
    ddl = "CREATE TABLE t (id INT NOT NULL, UNIQUE `odd``name` (id));\nINSERT INTO t VALUES (3), (1), (2);\n"
    loaded(rig, mariadb, source_database, ddl, "id: id", "--batch-rows", "2")
    assert rig.sql("SELECT * FROM t ORDER BY id") == [(1,), (2,), (3,)]


def test_the_greatest_keys_beside_a_date_that_is_none(rig: Rig, mariadb: MariaDB, source_database: str) -> None:
    ddl = (
        "CREATE TABLE t (id BIGINT UNSIGNED PRIMARY KEY, d DATE);\n"
        "INSERT INTO t VALUES (18446744073709551615, '2020-01-01'), (9223372036854775808, 0), (1, NULL);\n"
    )
    loaded(rig, mariadb, source_database, ddl, "id: id, d: d")
    assert rig.sql("SELECT id::text FROM t ORDER BY id") == [("1",), ("18446744073709551615",)]


@pytest.fixture
def limited(mariadb: MariaDB) -> Iterator[None]:
    mariadb.execute("mysql", "SET GLOBAL sql_select_limit = 2, GLOBAL max_join_size = 2")
    yield
    mariadb.execute("mysql", "SET GLOBAL sql_select_limit = DEFAULT, GLOBAL max_join_size = DEFAULT")


@pytest.mark.usefixtures("limited")
def test_a_limit_of_the_server_ends_no_table_early(rig: Rig, mariadb: MariaDB, source_database: str) -> None:
    ddl = "CREATE TABLE t (id INT);\nINSERT INTO t VALUES (1), (2), (3);\n"
    filled(mariadb, source_database, ddl)
    project(rig, mariadb.url(source_database), "  t: {from: erp.t, columns: {id: id}}\n")
    rig.migrate("run")
    assert rig.value("SELECT count(*) FROM t") == 3


def test_a_password_beyond_latin1_and_options_that_are_none(rig: Rig, mariadb: MariaDB, source_database: str) -> None:
    filled(mariadb, source_database, "CREATE TABLE t (id INT PRIMARY KEY);\n")
    mariadb.execute("mysql", "CREATE OR REPLACE USER odd@'127.0.0.1' IDENTIFIED BY 'ä😀'")
    mariadb.execute("mysql", f"GRANT SELECT ON `{source_database}`.* TO odd@'127.0.0.1'")
    url = mariadb.url(source_database, "odd", "%C3%A4%F0%9F%98%80")
    tables = "  t: {from: erp.t, key: id, columns: {id: id}}\n"
    project(rig, url, tables)
    rig.migrate("run")
    project(rig, f"{url}?connect_timeout=soon", tables)
    assert "connect_timeout in the source's URL is no number of seconds" in rig.migrate("plan", code=2).said
    project(rig, f"{url}?ssl_ca=/nowhere.pem", tables)
    assert "/nowhere.pem: No such file" in rig.migrate("plan", code=2).said
