"""SQLite and PostgreSQL by SQLAlchemy: values arrive exactly or reject their row; no message holds the password."""

import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest

from connectors.alchemy import open_url
from connectors.relational import Tables
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
        "c": "ab   ",
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
