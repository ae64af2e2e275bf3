"""What the contract of a database connector needs of each engine: a rig that makes tables, writes and looks at the server."""

import json
import os
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast
from urllib.parse import urlsplit

import mssql_python
import oracledb
import psycopg
import pyarrow as pa
import pytest
import sqlalchemy as sa
from servers import MariaDB, MySQL, Postgres

from connectors import oracledriver, sqlserverdriver
from connectors.dburl import DatabaseUrl, parse
from connectors.generic import Generic
from connectors.registry import open_url
from connectors.relational import Tables
from migrate.core import Partition, Reject


class Rig(Protocol):
    """One engine. Tables have a column `n` that numbers their rows, beside those of their kind.

    `kinds` are the columns of each kind, of those that the engine has. `uncut`: those of which the connector makes one slice.
    `transaction` begins and ends one. `bad` are a type, a value of it that can be read, and one that cannot, in SQL.
    """

    name: str
    kinds: Mapping[str, str]
    uncut: Sequence[str]
    transaction: tuple[str, str]
    bad: tuple[str, str, str]
    host: str
    port: int

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements beside the reader; the rows of the last one."""
        ...

    def insert(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None: ...

    def place(self, port: int = 0) -> tuple[str, str]:
        """A connector's scheme, and the URL; by way of a port of this machine where one is given."""
        ...

    def open(self, *, port: int = 0, **options: Any) -> Tables: ...

    def close(self) -> None:
        """Close every source that was opened, also where a test has failed."""
        ...

    def running(self) -> list[str] | None:
        """The statements that run at the server; None where there is no server."""
        ...


GENERIC = "generic"


def opened(scheme: str, url: str, options: Mapping[str, Any]) -> Tables:
    """A source. GENERIC is the engine of dialects that have none of their own, over a dialect that has one."""
    if scheme == GENERIC:
        return Tables(Generic(sa.make_url(url), quiesced=options.get("quiesced", False)), options.get("connections", 4))
    return cast(Tables, open_url(scheme, url, options))


@dataclass(kw_only=True)
class Opening:
    """Keeps what a rig has opened, so that a failed test leaves nothing open."""

    sources: list[Tables] = field(default_factory=list)
    host: str = "127.0.0.1"
    uncut: ClassVar[Sequence[str]] = ()
    transaction: ClassVar[tuple[str, str]] = ("BEGIN", "COMMIT")

    def place(self, port: int = 0) -> tuple[str, str]:
        raise NotImplementedError

    def open(self, *, port: int = 0, **options: Any) -> Tables:
        self.sources.append(opened(*self.place(port), options))
        return self.sources[-1]

    def close(self) -> None:
        for source in self.sources:
            source.close()


@dataclass
class SQLiteRig(Opening):
    file: Path
    name: str = "sqlite"
    port: int = 0
    kinds: ClassVar[Mapping[str, str]] = {
        "whole": "k INTEGER PRIMARY KEY, n INT",
        "composite": "a INT, b TEXT, n INT, PRIMARY KEY (a, b)) WITHOUT ROWID --",
        "text": "k TEXT COLLATE NOCASE, n INT, PRIMARY KEY (k)) WITHOUT ROWID --",
        "decimal": "k DECIMAL(20,4) PRIMARY KEY, n INT) WITHOUT ROWID --",
        "date": "k DATE PRIMARY KEY, n INT) WITHOUT ROWID --",
        "moment": "k DATETIME PRIMARY KEY, n INT) WITHOUT ROWID --",
        "bytes": "k BLOB PRIMARY KEY, n INT) WITHOUT ROWID --",
        "uuid": "k UUID PRIMARY KEY, n INT) WITHOUT ROWID --",
        "indexed": "k INT, n INT",
        "keyless": "k INT, n INT",
        "wide": "k INTEGER PRIMARY KEY, w TEXT",
    }
    bad: ClassVar[tuple[str, str, str]] = ("INT", "7", "'seven'")

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.file, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = wal")
            for statement in statements:
                rows = connection.execute(statement).fetchall()
            return rows

    def insert(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        spelled = [tuple(str(v) if not isinstance(v, int | bytes | None) else v for v in row) for row in rows]
        with closing(sqlite3.connect(self.file)) as connection:
            connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' for _ in rows[0])})", spelled)
            connection.commit()

    def place(self, port: int = 0) -> tuple[str, str]:
        return "sqlite", f"sqlite:///{self.file}"

    def running(self) -> list[str] | None:
        return None


@dataclass
class PostgresRig(Opening):
    url: str
    server: Postgres
    name: str = "postgres"
    kinds: ClassVar[Mapping[str, str]] = {
        "whole": "k BIGINT PRIMARY KEY, n INT",
        "composite": "a INT, b TEXT, n INT, PRIMARY KEY (a, b)",
        "text": "k TEXT COLLATE ci PRIMARY KEY, n INT",
        "decimal": "k NUMERIC(20,4) PRIMARY KEY, n INT",
        "date": "k DATE PRIMARY KEY, n INT",
        "moment": "k TIMESTAMP(6) PRIMARY KEY, n INT",
        "bytes": "k BYTEA PRIMARY KEY, n INT",
        "uuid": "k UUID PRIMARY KEY, n INT",
        "indexed": "k INT, n INT",
        "keyless": "k INT, n INT",
        "wide": "k INT PRIMARY KEY, w TEXT",
    }
    bad: ClassVar[tuple[str, str, str]] = ("DATE", "'2020-02-29'", "'infinity'")

    @property
    def port(self) -> int:
        return self.server.port

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def insert(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        with psycopg.connect(self.url) as connection, connection.cursor() as cursor:
            cursor.executemany(f"INSERT INTO {table} VALUES ({', '.join('%s' for _ in rows[0])})", rows)

    def place(self, port: int = 0) -> tuple[str, str]:
        return "postgresql", self.url.replace(f":{self.port}/", f":{port or self.port}/")

    def running(self) -> list[str] | None:
        rows = self.execute(
            "SELECT query FROM pg_stat_activity "
            "WHERE state = 'active' AND pid <> pg_backend_pid() AND datname = current_database()"
        )
        return [row[0] for row in rows]


@dataclass
class GenericRig(PostgresRig):
    """What SQLAlchemy knows of PostgreSQL, by the engine of which no dialect is one's own."""

    name: str = GENERIC
    kinds: ClassVar[Mapping[str, str]] = {
        **PostgresRig.kinds,
        "composite": "a INT, b VARCHAR(20), n INT, PRIMARY KEY (a, b)",
        "text": "k VARCHAR(20) PRIMARY KEY, n INT",
    }
    # Moments, bytes and UUIDs do not survive the way into a text and back into a literal of whatever dialect.
    uncut: ClassVar[Sequence[str]] = ("moment", "bytes", "uuid", "keyless")
    bad: ClassVar[tuple[str, str, str]] = ("NUMERIC(9,2)", "1.25", "'NaN'")

    def place(self, port: int = 0) -> tuple[str, str]:
        return GENERIC, super().place(port)[1].replace("postgresql://", "postgresql+psycopg://")


@dataclass
class MySQLRig(Opening):
    database: str
    server: MySQL
    name: str = "mysql"
    kinds: ClassVar[Mapping[str, str]] = {
        "whole": "k BIGINT PRIMARY KEY, n INT",
        "composite": "a INT, b VARCHAR(20) COLLATE utf8mb4_bin, n INT, PRIMARY KEY (a, b)",
        "text": "k VARCHAR(20) COLLATE utf8mb4_unicode_ci PRIMARY KEY, n INT",
        "decimal": "k DECIMAL(20,4) PRIMARY KEY, n INT",
        "date": "k DATE PRIMARY KEY, n INT",
        "moment": "k DATETIME(6) PRIMARY KEY, n INT",
        "bytes": "k VARBINARY(20) PRIMARY KEY, n INT",
        "indexed": "k INT, n INT, INDEX (k)",
        "keyless": "k INT, n INT",
        "wide": "k INT PRIMARY KEY, w LONGTEXT",
    }
    uncut: ClassVar[Sequence[str]] = ("keyless",)
    transaction: ClassVar[tuple[str, str]] = ("START TRANSACTION", "COMMIT")
    bad: ClassVar[tuple[str, str, str]] = ("DATE", "'2020-02-29'", "'2020-00-00'")

    @property
    def port(self) -> int:
        return self.server.port

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        return self.server.execute(self.database, "SET sql_mode = ''", *statements)

    def insert(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        spelled = [tuple(str(v) if isinstance(v, uuid.UUID) else v for v in row) for row in rows]
        with self.server.connect(self.database) as connection, connection.cursor() as cursor:
            cursor.executemany(f"INSERT INTO {table} VALUES ({', '.join('%s' for _ in rows[0])})", spelled)

    def place(self, port: int = 0) -> tuple[str, str]:
        return "mysql", self.server.url(self.database, port=port)

    def running(self) -> list[str] | None:
        rows = self.execute(
            "SELECT info FROM information_schema.processlist "
            f"WHERE info IS NOT NULL AND id <> CONNECTION_ID() AND db = '{self.database}'"
        )
        return [str(row[0]) for row in rows]


@dataclass
class MariaRig(MySQLRig):
    server: MariaDB
    name: str = "mariadb"
    kinds: ClassVar[Mapping[str, str]] = {
        **MySQLRig.kinds,
        "text": "k VARCHAR(20) COLLATE utf8mb4_general_nopad_ci PRIMARY KEY, n INT",
        "uuid": "k UUID PRIMARY KEY, n INT",
    }


@dataclass
class OracleRig(Opening):
    """A user's schema, whose tables `t`, `u`, `big` and `r` are dropped."""

    url: str
    name: str = "oracle"
    kinds: ClassVar[Mapping[str, str]] = {
        "whole": "k NUMBER(19) PRIMARY KEY, n NUMBER(9)",
        "composite": "a NUMBER(9), b VARCHAR2(20 CHAR), n NUMBER(9), PRIMARY KEY (a, b)",
        "text": "k VARCHAR2(20 CHAR) PRIMARY KEY, n NUMBER(9)",
        "decimal": "k NUMBER(20,4) PRIMARY KEY, n NUMBER(9)",
        "date": "k DATE PRIMARY KEY, n NUMBER(9)",
        "moment": "k TIMESTAMP(6) PRIMARY KEY, n NUMBER(9)",
        "bytes": "k RAW(20) PRIMARY KEY, n NUMBER(9)",
        "indexed": "k NUMBER(9), n NUMBER(9)",
        "keyless": "k NUMBER(9), n NUMBER(9)",
        "wide": "k NUMBER(9) PRIMARY KEY, w CLOB",
    }
    transaction: ClassVar[tuple[str, str]] = ("", "")  # all statements that are run at once are one
    bad: ClassVar[tuple[str, str, str]] = ("DATE", "DATE '2020-02-29'", "DATE '-0044-03-15'")

    def __post_init__(self) -> None:
        self.host, self.port = _where(self.url, 1521)
        self._connection = oracledriver.connect(parse(self.url, oracledriver.URL_OPTIONS))
        self._drop()

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = []
        with self._connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
                rows = list(cursor.fetchall()) if cursor.description else []
        self._connection.commit()
        return rows

    def insert(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        sizes = {datetime: oracledb.DB_TYPE_TIMESTAMP}
        kept = [tuple(None if value in ("", b"") else value for value in row) for row in rows]
        with self._connection.cursor() as cursor:
            cursor.setinputsizes(
                *(oracledb.DB_TYPE_CLOB if len(str(v)) > 4000 else sizes.get(type(v)) for v in kept[0])
            )
            cursor.executemany(
                f"INSERT INTO {table} VALUES ({', '.join(f':{at + 1}' for at in range(len(rows[0])))})", kept
            )
        self._connection.commit()

    def place(self, port: int = 0) -> tuple[str, str]:
        return "oracle", _through(self.url, port)

    def running(self) -> list[str] | None:
        return [
            str(row[0])
            for row in self.granted(
                "SELECT q.sql_text FROM v$session s JOIN v$sql q ON q.sql_id = s.sql_id "
                "WHERE s.status = 'ACTIVE' AND s.username = USER AND s.sid <> SYS_CONTEXT('USERENV', 'SID')",
                "SELECT_CATALOG_ROLE",
            )
        ]

    def granted(self, sql: str, grant: str) -> list[tuple[Any, ...]]:
        """What only some users may ask."""
        try:
            return self.execute(sql)
        except oracledb.DatabaseError:
            pytest.skip(f"the user of MIGRATE_TEST_ORACLE_URL needs: GRANT {grant} TO it")

    def close(self) -> None:
        super().close()
        self._drop()
        self._connection.close()

    def _drop(self) -> None:
        for table in ("t", "u", "big", "r"):
            with suppress(oracledb.DatabaseError):
                self.execute(f"DROP TABLE {table} CASCADE CONSTRAINTS PURGE")


@dataclass
class SqlServerRig(Opening):
    """A database of its own, whose sessions may stand in a snapshot."""

    url: str
    name: str = "sqlserver"
    kinds: ClassVar[Mapping[str, str]] = {
        "whole": "k BIGINT PRIMARY KEY, n INT",
        "composite": "a INT, b NVARCHAR(20) COLLATE Latin1_General_100_BIN2, n INT, PRIMARY KEY (a, b)",
        "text": "k NVARCHAR(20) COLLATE Latin1_General_100_CI_AS PRIMARY KEY, n INT",
        "decimal": "k DECIMAL(20,4) PRIMARY KEY, n INT",
        "date": "k DATE PRIMARY KEY, n INT",
        "moment": "k DATETIME2(6) PRIMARY KEY, n INT",
        "bytes": "k VARBINARY(20) PRIMARY KEY, n INT",
        "uuid": "k UNIQUEIDENTIFIER PRIMARY KEY, n INT",
        "indexed": "k INT, n INT",
        "keyless": "k INT, n INT",
        "wide": "k INT PRIMARY KEY, w NVARCHAR(MAX)",
    }
    uncut: ClassVar[Sequence[str]] = ("keyless",)
    transaction: ClassVar[tuple[str, str]] = ("BEGIN TRANSACTION", "COMMIT")
    bad: ClassVar[tuple[str, str, str]] = ("DATETIME2(7)", "'2020-02-29T12:00:00'", "'2020-02-29T12:00:00.1234567'")

    def __post_init__(self) -> None:
        self.host, self.port = _where(self.url, 1433)
        self.database = f"contract_{uuid.uuid4().hex[:12]}"
        self._run(
            parse(self.url, sqlserverdriver.URL_OPTIONS),
            f"CREATE DATABASE {self.database}",
            f"ALTER DATABASE {self.database} SET ALLOW_SNAPSHOT_ISOLATION ON",
        )

    @cached_property
    def _here(self) -> DatabaseUrl:
        return parse(self.place()[1], sqlserverdriver.URL_OPTIONS)

    @staticmethod
    def _run(url: DatabaseUrl, *statements: str) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = []
        with (
            closing(mssql_python.connect(sqlserverdriver.connection_string(url), autocommit=True)) as connection,
            closing(connection.cursor()) as cursor,
        ):
            for statement in statements:
                cursor.execute(statement)
                rows = [tuple(row) for row in cursor.fetchall()] if cursor.description else []
        return rows

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        return self._run(self._here, *statements)

    def insert(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        spelled = ", ".join(f"({', '.join(map(_spelled, row))})" for row in rows)
        self.execute(f"INSERT INTO {table} VALUES {spelled}")

    def place(self, port: int = 0) -> tuple[str, str]:
        parts = urlsplit(_through(self.url, port))
        return "mssql", parts._replace(path=f"/{self.database}").geturl()

    def running(self) -> list[str] | None:
        rows = self.execute(
            "SELECT s.text FROM sys.dm_exec_requests r CROSS APPLY sys.dm_exec_sql_text(r.sql_handle) s "
            "WHERE r.database_id = DB_ID() AND r.session_id <> @@SPID"
        )
        return [str(row[0]) for row in rows]

    def close(self) -> None:
        super().close()
        self._run(
            parse(self.url, sqlserverdriver.URL_OPTIONS),
            f"ALTER DATABASE {self.database} SET SINGLE_USER WITH ROLLBACK IMMEDIATE",
            f"DROP DATABASE {self.database}",
        )


def _where(url: str, port: int) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "127.0.0.1", parts.port or port


def _through(url: str, port: int) -> str:
    """The URL by way of a port of this machine."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{port}").geturl() if port else url


def _spelled(value: Any) -> str:
    """A value in SQL Server's SQL."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"0x{value.hex()}"
    if isinstance(value, int | Decimal):
        return format(value, "f") if isinstance(value, Decimal) else str(value)
    text = value.isoformat() if isinstance(value, date) else str(value)
    return "N'" + text.replace("'", "''") + "'"


def made(rig: Rig, kind: str, rows: Sequence[tuple[Any, ...]], table: str = "t") -> None:
    """A table of a kind with these rows."""
    rig.execute(
        f"CREATE TABLE {table} ({rig.kinds[kind]}\n)" if "--" not in rig.kinds[kind] else _cut(table, rig.kinds[kind])
    )
    if kind == "indexed" and "INDEX" not in rig.kinds[kind]:
        rig.execute(f"CREATE INDEX {table}_k ON {table} (k)")
    if rows:
        rig.insert(table, rows)


def _cut(table: str, columns: str) -> str:
    return f"CREATE TABLE {table} ({columns.replace(' --', '')}"


def partitions(source: Tables, rows: int, table: str = "t") -> list[Partition]:
    return list(source.partitions(source.schema(table), rows=rows, bytes=1 << 24))


def named(source: Tables, table: str, *columns: str) -> list[str]:
    """Columns as the source calls them: some engines write names in capitals."""
    names = {name.lower(): name for name in source.schema(table).schema.names}
    return [names[column] for column in columns]


def numbers(source: Tables, parts: Sequence[Partition], column: str = "n") -> list[int]:
    """The rows of all partitions by their number, in the order in which they were read."""
    found: list[int] = []
    for part in parts:
        for batch in source.read(part, named(source, part.table, column)):
            assert batch.rejects == ()
            found += batch.rows.column(0).to_pylist()
    return found


Told = tuple[int, str, str | None, str, str, bytes]


def told(reject: Reject) -> Told:
    """All that is said of a reject."""
    return (reject.ordinal, reject.rule, reject.column, reject.reason, str(reject.origin.locator), reject.origin.raw)


def contents(source: Tables, part: Partition, columns: Sequence[str]) -> tuple[pa.Table, list[int], list[Told]]:
    """A partition's rows, ordinals and rejects."""
    batches = list(source.read(part, columns))
    ordinals = [int(o) for batch in batches for o in batch.ordinals]
    rejects = [told(r) for batch in batches for r in batch.rejects]
    schema = pa.schema([source.schema(part.table).schema.field(c).remove_metadata() for c in columns])
    rows = pa.Table.from_batches([b.rows for b in batches]) if batches else schema.empty_table()
    return rows, ordinals, rejects


def slowly(asked: Mapping[str, Any]) -> Any:
    """What `slow.py` prints of a source that it reads."""
    command = [sys.executable, str(Path(__file__).with_name("slow.py")), json.dumps(asked)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)
