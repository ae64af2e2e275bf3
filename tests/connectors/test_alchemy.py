"""SQLite and PostgreSQL by SQLAlchemy: values arrive exactly or reject their row; no message holds the password."""

import os
import sqlite3
import time
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
from servers import MariaDB

from connectors.alchemy import open_url
from connectors.relational import Tables
from migrate.core import Reference
from migrate.errors import MigrateError, UsageError


def rows_of(source: Tables, table: str) -> tuple[list[dict[str, Any]], list[tuple[int, str | None, str]]]:
    """(rows, (ordinal, column, reason) of rejects) of a table in one partition."""
    rows, rejects = [], []
    described = source.schema(table)
    for part in source.partitions(described, rows=1000, bytes=1 << 20):
        for batch in source.read(part, described.schema.names):
            rows += batch.rows.to_pylist()
            rejects += [(r.ordinal, r.column, r.reason) for r in batch.rejects]
    return rows, rejects


@pytest.mark.parametrize(
    ("declared", "stored", "read"),
    [
        ("INT", "5", 5),
        ("INT", "'abc'", None),
        ("INT", "'0x1F'", None),
        ("INT", "1.5", None),
        ("INT", "9223372036854775807", 2**63 - 1),
        ("TEXT", "x'616263'", None),
        ("TEXT", "CAST(x'ff' AS TEXT)", None),
        ("TEXT", "5", "5"),
        ("BLOB", "'abc'", None),
        ("BLOB", "x'00ff'", b"\x00\xff"),
        ("DECIMAL(10,2)", "1.1", Decimal("1.10")),
        ("DECIMAL(10,2)", "0.1 + 0.2", None),
        ("DECIMAL(10,2)", "123456789", None),
        ("DECIMAL(37,37)", "35", None),
        ("DECIMAL", "0.1", "0.1"),
        ("DECIMAL", "'abc'", None),
        ("REAL", "'nan'", None),
        ("REAL", "9e999", float("inf")),
        ("BOOLEAN", "1", True),
        ("BOOLEAN", "2", None),
        ("BOOLEAN", "'true'", None),
        ("DATE", "'2020-02-29'", "2020-02-29"),
        ("DATE", "'2021-02-29'", None),
        ("DATE", "18262", None),
        ("DATETIME", "'2020-02-29 23:59:59.123456'", "2020-02-29 23:59:59.123456"),
        ("DATETIME", "1582934400", None),
        ("", "2.5", "2.5"),
    ],
)
def test_a_value_of_sqlite_is_of_the_declared_type_or_rejects_its_row(
    tmp_path: Path, declared: str, stored: str, read: Any
) -> None:
    with closing(sqlite3.connect(tmp_path / "s.db")) as connection:
        connection.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, v {declared})")
        connection.execute(f"INSERT INTO t VALUES (1, NULL), (2, {stored}), (3, NULL)")
        connection.commit()
    source = cast(Tables, open_url("sqlite:///s.db", {"base": str(tmp_path)}))
    rows, rejects = rows_of(source, "t")
    source.close()
    if read is None:
        assert [row["id"] for row in rows] == [1, 3]
        assert [(ordinal, column) for ordinal, column, _ in rejects] == [(1, "v")]
    else:
        value = rows[1]["v"]
        assert (str(value) if declared.startswith("DATE") else value) == read
        assert rejects == []
    assert all(row["v"] is None for row in rows if row["id"] != 2)


def test_values_that_a_driver_of_postgresql_would_change_arrive_as_they_are(target_url: str) -> None:
    with psycopg.connect(target_url, autocommit=True) as connection:
        connection.execute(
            """CREATE TABLE t (id int PRIMARY KEY, n numeric, i interval, a text[], j json, r int4range, c char(5),
            tz timestamptz, ti time, d date, p numeric(10,2), "Odd % na""me:x" text)"""
        )
        connection.execute(
            """INSERT INTO t VALUES (1, 1e-30 + 12345678901234567890123456789, '1 mon 03:04:05.6',
            '{"a,b",NULL}', '{"a":  1}', '[1,5)',
            'ab', '2020-01-01 00:00:00+02', '24:00', '2020-01-01', 1.5, '100%')"""
        )
        connection.execute("INSERT INTO t (id, d) VALUES (2, 'infinity'), (3, '0044-03-15 BC')")
        connection.execute("INSERT INTO t (id, tz) VALUES (4, '-infinity')")
        connection.execute("INSERT INTO t (id, p) VALUES (5, 'NaN')")
    source = cast(Tables, open_url(target_url, {}))
    [row], rejects = rows_of(source, "t")
    assert {name: str(value) for name, value in row.items()} == {
        "id": "1",
        "n": "12345678901234567890123456789.000000000000000000000000000001",
        "i": "1 mon 03:04:05.6",
        "a": '{"a,b",NULL}',
        "j": '{"a":  1}',
        "r": "[1,5)",
        "c": "ab",
        "tz": "2019-12-31 22:00:00+00:00",
        "ti": "24:00:00",
        "d": "2020-01-01",
        "p": "1.50",
        'Odd % na"me:x': "100%",
    }
    assert [column for _, column, _ in rejects] == ["d", "d", "tz", "p"]
    source.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("db2+ibm_db://h/x", "ibm_db_sa"),
        ("foo://u:geheim@h/x", "spelling"),
        ("sqlite://", "names no file"),
        ("nothing", "cannot be read"),
    ],
)
def test_a_url_that_cannot_be_opened_says_what_to_do(url: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_url(url, {})
    assert said in caught.value.message + caught.value.hint
    assert "geheim" not in caught.value.message + caught.value.hint


def test_an_unknown_database_is_said_without_the_password(target_url: str) -> None:
    url = target_url.replace("postgres@", "postgres:geheim%401@") + "x"
    with pytest.raises(MigrateError) as caught:
        open_url(url, {}).tables()
    assert "does not exist" in caught.value.message
    assert "name in the source's URL" in caught.value.hint
    assert "geheim" not in caught.value.message


# --------------------------------------------------------------------------------------------------- what init and check ask


def test_a_sqlite_file_tells_its_references_and_what_its_first_rows_hold(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "s.db")) as made:
        made.executescript(
            "CREATE TABLE P (a INT, b TEXT, PRIMARY KEY (a, b));"
            "CREATE TABLE c (id INTEGER PRIMARY KEY, x INT, y TEXT, up INT REFERENCES C, d DATE,"
            " FOREIGN KEY (x, y) REFERENCES p, FOREIGN KEY (d) REFERENCES gone);"
            "CREATE VIEW v AS SELECT id FROM c;"
            "INSERT INTO c VALUES (1, 5, 'a', NULL, 'nope'), (2, 'abc', x'00', 1, '2020-01-01');"
        )
    source = cast(Tables, open_url("sqlite:///s.db", {"base": str(tmp_path)}))
    assert source.tables() == ["P", "c"]
    assert source.offers() == [("v", "view")]
    assert source.references("c") == [
        Reference(("x", "y"), "P", ("a", "b")),
        Reference(("up",), "c", ("id",)),
    ]
    doubts = source.doubts("c")
    assert sorted(doubts) == ["d", "x", "y"]
    assert doubts["d"] == "1 of the first 2 are no date, and reject their row"
    assert source.doubts("v") == {}
    assert source.schema("v").schema.names == ["id"]
    source.close()


def noticed(source: Tables, *tables: str) -> dict[str, tuple[str, str]]:
    found = {each.what: (each.level, f"{each.said} {each.hint}") for each in source.preflight(tables)}
    source.close()
    return found


def test_a_damaged_sqlite_file_is_told_before_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "s.db"
    with closing(sqlite3.connect(file)) as made:
        made.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
        made.executemany("INSERT INTO t VALUES (?, ?)", [(n, "x" * 500) for n in range(500)])
        made.commit()
    found = noticed(cast(Tables, open_url(f"sqlite:///{file}", {})), "t")
    assert found["integrity"][0] == "ok"
    assert "in UTF-8" in found["version"][1]
    with file.open("r+b") as opened:
        opened.seek(40 * 4096)
        opened.write(b"\xff" * 4096)
    level, said = noticed(cast(Tables, open_url(f"sqlite:///{file}", {})), "t")["integrity"]
    assert level == "error"
    assert "the file is damaged: " in said
    assert ".recover" in said


def test_a_sqlite_file_that_is_being_written_is_told(tmp_path: Path) -> None:
    file = tmp_path / "s.db"
    with closing(sqlite3.connect(file)) as made:
        made.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
        made.commit()
    level, said = noticed(cast(Tables, open_url(f"sqlite:///{file}", {})), "t")["writers"]
    assert level == "warning"
    assert "s ago; it is not in WAL mode: whoever writes waits until the command ends" in said
    assert "writers" not in noticed(cast(Tables, open_url(f"sqlite:///{file}", {"quiesced": True})), "t")
    old = time.time() - 3600
    os.utime(file, (old, old))
    assert noticed(cast(Tables, open_url(f"sqlite:///{file}", {})), "t")["writers"][0] == "ok"
    with closing(sqlite3.connect(file)) as writer:
        writer.execute("PRAGMA journal_mode = wal")
        os.utime(file, (old, old))
        writer.execute("INSERT INTO t VALUES (1)")  # what is in the log only
        writer.commit()
        os.utime(file, (old, old))
        level, said = noticed(cast(Tables, open_url(f"sqlite:///{file}", {})), "t")["writers"]
    assert level == "warning"
    assert "in WAL mode: others may write meanwhile" in said


def test_a_view_that_cannot_be_read_hides_nothing_else(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "s.db")) as made:
        made.executescript("CREATE TABLE t (id INTEGER PRIMARY KEY); CREATE VIEW broken AS SELECT id FROM gone;")
    found = noticed(cast(Tables, open_url("sqlite:///s.db", {"base": str(tmp_path)})), "broken", "t")
    assert found["broken"][0] == "error"
    assert "gone" in found["broken"][1]
    assert found["integrity"][0] == "ok"


def test_a_database_of_a_dialect_tells_what_its_inspector_knows(mariadb: MariaDB, source_database: str) -> None:
    """MariaDB as a database that has no connector of its own."""
    mariadb.execute(
        source_database,
        "CREATE TABLE p (a INT, b VARCHAR(9), PRIMARY KEY (a, b))",
        "CREATE TABLE c (id INT PRIMARY KEY, x INT, y VARCHAR(9), d DATE, FOREIGN KEY (x, y) REFERENCES p (a, b))",
        "CREATE VIEW v AS SELECT id FROM c",
        "INSERT INTO p VALUES (1, 'a'), (2, 'b')",
        "SET sql_mode = ''",
        "INSERT INTO c VALUES (1, 1, 'a', '0000-00-00'), (2, NULL, NULL, '2020-01-01')",
    )
    url = mariadb.url(source_database).replace("mysql://", "mysql+pymysql://")
    source = cast(Tables, open_url(url, {}))
    assert source.tables() == ["c", "p"]
    assert ("v", "view") in source.offers()
    assert source.references("c") == [Reference(("x", "y"), "p", ("a", "b"))]
    assert source.doubts("v") == {}
    parts = list(source.partitions(source.schema("p"), rows=1, bytes=1 << 20))
    assert [row for part in parts for batch in source.read(part, ["a", "b"]) for row in batch.rows.to_pylist()] == [
        {"a": 1, "b": "a"},
        {"a": 2, "b": "b"},
    ]
    found = noticed(source, "c", "p", "v")
    assert found["version"][0] == "warning"
    assert "mysql 10" in found["version"][1] or "mariadb 10" in found["version"][1]
    assert "no way to one moment" in found["view"][1]
    assert found["c"][0] == "warning"
    assert found["c"][1].startswith("d: 1 of the first 2 are no date")
