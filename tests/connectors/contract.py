"""What the contract of a database connector needs of each engine: a rig that makes tables, writes and looks at the server."""

import sqlite3
import uuid
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

import psycopg
import pyarrow as pa
from servers import MariaDB, Postgres

from connectors.registry import open_url
from connectors.relational import Tables
from migrate.core import Partition


class Rig(Protocol):
    """One engine. Tables have a column `n` that numbers their rows, beside those of their kind."""

    name: str
    kinds: Mapping[str, str]
    port: int

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements beside the reader; the rows of the last one."""
        ...

    def insert(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None: ...

    def open(self, *, port: int = 0, **options: Any) -> Tables: ...

    def close(self) -> None:
        """Close every source that was opened, also where a test has failed."""
        ...

    def running(self) -> list[str] | None:
        """The statements that run at the server; None where there is no server."""
        ...


TEXTS = (
    *(
        "",
        " ",
        "  ",
        "a",
        "A",
        "b",
        "B",
        "ä",
        "Ä",
        "é",
        "e",
        "a ",
        "a'b",
        'a"b',
        "a\\b",
        "a\\'b",
        "%",
        "a%b",
        "_",
        "😀",
        "😁",
    ),
    *("a\x01b", "a\tb", "a\nb", "\x1e", "\x1f", "zß", "zss", "Zz", ":x", "{x}", "--", "/*"),
)
BYTES = (
    b"",
    b"\x00",
    b"\x00\x00",
    b"'",
    b"\\",
    b"\xff",
    b"\xff\xff",
    b"\x80abc",
    b"%s",
    *(bytes([n, 1]) for n in range(0, 250, 9)),
)


@dataclass(kw_only=True)
class Opening:
    """Keeps what a rig has opened, so that a failed test leaves nothing open."""

    opened: list[Tables] = field(default_factory=list)

    def close(self) -> None:
        for source in self.opened:
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

    def open(self, *, port: int = 0, **options: Any) -> Tables:
        self.opened.append(cast(Tables, open_url("sqlite", f"sqlite:///{self.file}", options)))
        return self.opened[-1]

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

    def open(self, *, port: int = 0, **options: Any) -> Tables:
        url = self.url.replace(f":{self.port}/", f":{port or self.port}/")
        self.opened.append(cast(Tables, open_url("postgresql", url, options)))
        return self.opened[-1]

    def running(self) -> list[str] | None:
        rows = self.execute(
            "SELECT query FROM pg_stat_activity "
            "WHERE state = 'active' AND pid <> pg_backend_pid() AND datname = current_database()"
        )
        return [row[0] for row in rows]


@dataclass
class MariaRig(Opening):
    database: str
    server: MariaDB
    name: str = "mariadb"
    kinds: ClassVar[Mapping[str, str]] = {
        "whole": "k BIGINT PRIMARY KEY, n INT",
        "composite": "a INT, b VARCHAR(20) COLLATE utf8mb4_bin, n INT, PRIMARY KEY (a, b)",
        "text": "k VARCHAR(20) COLLATE utf8mb4_general_nopad_ci PRIMARY KEY, n INT",
        "decimal": "k DECIMAL(20,4) PRIMARY KEY, n INT",
        "date": "k DATE PRIMARY KEY, n INT",
        "moment": "k DATETIME(6) PRIMARY KEY, n INT",
        "bytes": "k VARBINARY(20) PRIMARY KEY, n INT",
        "uuid": "k UUID PRIMARY KEY, n INT",
        "indexed": "k INT, n INT, INDEX (k)",
        "keyless": "k INT, n INT",
        "wide": "k INT PRIMARY KEY, w LONGTEXT",
    }

    @property
    def port(self) -> int:
        return self.server.port

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        return self.server.execute(self.database, *statements)

    def insert(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        spelled = [tuple(str(v) if isinstance(v, uuid.UUID) else v for v in row) for row in rows]
        with self.server.connect(self.database) as connection, connection.cursor() as cursor:
            cursor.executemany(f"INSERT INTO {table} VALUES ({', '.join('%s' for _ in rows[0])})", spelled)

    def open(self, *, port: int = 0, **options: Any) -> Tables:
        self.opened.append(cast(Tables, open_url("mysql", self.server.url(self.database, port=port), options)))
        return self.opened[-1]

    def running(self) -> list[str] | None:
        rows = self.execute(
            "SELECT info FROM information_schema.processlist "
            "WHERE info IS NOT NULL AND id <> CONNECTION_ID() AND user = 'tester'"
        )
        return [str(row[0]) for row in rows]


def made(rig: Rig, kind: str, rows: Sequence[tuple[Any, ...]], table: str = "t") -> None:
    """A table of a kind with these rows."""
    rig.execute(
        f"CREATE TABLE {table} ({rig.kinds[kind]}\n)" if "--" not in rig.kinds[kind] else _cut(table, rig.kinds[kind])
    )
    if kind == "indexed" and rig.name != "mariadb":
        rig.execute(f"CREATE INDEX {table}_k ON {table} (k)")
    if rows:
        rig.insert(table, rows)


def _cut(table: str, columns: str) -> str:
    return f"CREATE TABLE {table} ({columns.replace(' --', '')}"


def partitions(source: Tables, rows: int, table: str = "t") -> list[Partition]:
    return list(source.partitions(source.schema(table), rows=rows, bytes=1 << 24))


def numbers(source: Tables, parts: Sequence[Partition], column: str = "n") -> list[int]:
    """The rows of all partitions by their number, in the order in which they were read."""
    found: list[int] = []
    for part in parts:
        for batch in source.read(part, [column]):
            assert batch.rejects == ()
            found += batch.rows.column(0).to_pylist()
    return found


def contents(
    source: Tables, part: Partition, columns: Sequence[str]
) -> tuple[pa.Table, list[int], list[tuple[int, str]]]:
    """A partition's rows, ordinals and rejects."""
    batches = list(source.read(part, columns))
    ordinals = [int(o) for batch in batches for o in batch.ordinals]
    rejects = [(r.ordinal, r.reason) for batch in batches for r in batch.rejects]
    schema = pa.schema([source.schema(part.table).schema.field(c).remove_metadata() for c in columns])
    rows = pa.Table.from_batches([b.rows for b in batches]) if batches else schema.empty_table()
    return rows, ordinals, rejects
