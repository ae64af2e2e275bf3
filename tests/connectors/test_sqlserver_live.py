"""SQL Server as a source, against a real one: slices tile, rows come again alike, types are exact, statements end.

MIGRATE_TEST_SQLSERVER_URL is a URL of it (mssql://sa:…@host/master?trust_server_certificate=yes) whose user may make databases.
"""

import json
import os
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from connectors.dburl import DatabaseUrl, parse
from connectors.keyrange import Slice
from connectors.relational import Select, Tables
from connectors.sqlserver import URL_OPTIONS, Options, SqlServer, _Connection
from connectors.sqlserverdriver import Driver, connect
from migrate.core import Measure, Partition, Reference
from migrate.errors import RetryableError, SourceError, UsageError

URL = os.environ.get("MIGRATE_TEST_SQLSERVER_URL", "")
pytestmark = pytest.mark.skipif(not URL, reason="no SQL Server: set MIGRATE_TEST_SQLSERVER_URL to a URL of one")


class Server:
    """A database of its own on the server."""

    def __init__(self) -> None:
        self._master = parse(URL, URL_OPTIONS)
        name = f"migrate_test_{uuid.uuid4().hex[:12]}"
        self.url = replace(self._master, database=name)
        self._control(f"CREATE DATABASE [{name}]", f"ALTER DATABASE [{name}] SET ALLOW_SNAPSHOT_ISOLATION ON")
        self._driver = connect(self.url)
        self.run("SET QUOTED_IDENTIFIER, ANSI_PADDING, ANSI_WARNINGS, ARITHABORT ON")

    def _control(self, *statements: str) -> None:
        driver = connect(self._master)
        for statement in statements:
            driver.query(statement)
        driver.close()

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = []
        for statement in statements:
            found = self._driver.query(statement)
        return found

    def another(self) -> Driver:
        return connect(self.url)

    def set(self, option: str) -> None:
        self._control(f"ALTER DATABASE [{self.url.database}] SET {option}")

    def close(self) -> None:
        self._driver.close()
        self._control(
            f"ALTER DATABASE [{self.url.database}] SET SINGLE_USER WITH ROLLBACK IMMEDIATE",
            f"DROP DATABASE [{self.url.database}]",
        )


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def name(server: Server) -> Iterator[str]:
    """Of a table that the test makes."""
    table = f"t_{uuid.uuid4().hex[:10]}"
    yield table
    with suppress(Exception):
        server.run(f"IF OBJECT_ID('{table}') IS NOT NULL DROP TABLE [{table}]")


def source(url: DatabaseUrl, **options: Any) -> Tables:
    chosen = Options(**options)
    return Tables(SqlServer(url, chosen), chosen.connections)


def rows(of: Tables, table: str, columns: Sequence[str], size: int = 1 << 30) -> list[list[tuple[Any, ...]]]:
    """What each slice gives."""
    found = []
    for partition in of.partitions(of.schema(table), rows=size, bytes=1 << 30):
        values: list[tuple[Any, ...]] = []
        for batch in of.read(partition, columns):
            assert not batch.rejects
            values += [tuple(row.values()) for row in batch.rows.to_pylist()]
        assert of.count(partition) == len(values)
        found.append(values)
    return found


NUMBERS = (
    "SELECT TOP (600) ROW_NUMBER() OVER (ORDER BY (SELECT 1)) AS n FROM sys.all_columns a CROSS JOIN sys.all_columns b"
)


KEYS = {
    "integers": ("k int NOT NULL PRIMARY KEY", "n - 300"),
    "extreme integers": (
        "k bigint NOT NULL PRIMARY KEY",
        "CASE n WHEN 1 THEN -9223372036854775808 WHEN 2 THEN 9223372036854775807 ELSE n END",
    ),
    "text of any case": (
        "k varchar(40) COLLATE Latin1_General_CI_AS NOT NULL PRIMARY KEY",
        "CONCAT('k''', n % 7, 'Ä', n)",
    ),
    "Unicode": ("k nvarchar(40) NOT NULL PRIMARY KEY", "CONCAT(NCHAR(19968 + n % 50), N'\\', NCHAR(10), n)"),
    "uuid": ("k uniqueidentifier NOT NULL PRIMARY KEY", "NEWID()"),
    "moments": (
        "k datetime2(7) NOT NULL PRIMARY KEY",
        "DATEADD(nanosecond, n * 100, CAST('2020-01-01' AS datetime2(7)))",
    ),
    "old moments": ("k datetime NOT NULL PRIMARY KEY", "DATEADD(ms, n * 10, CAST('20200101' AS datetime))"),
    "moments of a zone": (
        "k datetimeoffset(3) NOT NULL PRIMARY KEY",
        "TODATETIMEOFFSET(DATEADD(minute, n, CAST('2020-01-01' AS datetime2(3))), n % 600)",
    ),
    "decimals": ("k decimal(38, 10) NOT NULL PRIMARY KEY", "CAST(n AS decimal(38, 10)) / 7 - 30"),
    "money": ("k money NOT NULL PRIMARY KEY", "CAST(n AS money) / 100"),
    "bytes": ("k varbinary(20) NOT NULL PRIMARY KEY", "CAST(n AS varbinary(20))"),
    "filled text": ("k char(10) NOT NULL PRIMARY KEY", "CAST(n AS char(10))"),
    "hierarchies": ("k hierarchyid NOT NULL PRIMARY KEY", "hierarchyid::Parse(CONCAT('/', n, '/1/'))"),
    "two columns": ("k int NOT NULL, j nvarchar(9) NOT NULL, PRIMARY KEY (k, j)", "n % 5"),
    "repeated, with NULL": ("k int NULL, INDEX i (k)", "CASE WHEN n % 3 = 0 THEN NULL ELSE n % 40 END"),
    "no key": ("k int NULL", "n % 40"),
}


@pytest.mark.parametrize("key", KEYS)
def test_slices_tile_the_table_and_come_again_alike_while_rows_are_written(server: Server, name: str, key: str) -> None:
    columns, value = KEYS[key]
    other = ", j" if ", j " in columns else ""
    server.run(
        f"CREATE TABLE [{name}] ({columns}, n int NOT NULL)",
        f"INSERT INTO [{name}] (k, n{other}) SELECT {value}, n{', CAST(n AS nvarchar(9))' if other else ''} FROM ({NUMBERS}) x",
    )
    of = source(server.url, connections=2)
    try:
        partitions = list(of.partitions(of.schema(name), rows=50, bytes=1 << 30))
        assert len(partitions) > 5 or key == "no key"
        server.run(f"UPDATE [{name}] SET n = n + 10000 WHERE n % 50 = 0")
        first = [[r for b in of.read(p, ["n"]) for r in b.rows.column(0).to_pylist()] for p in partitions]
        again = [[r for b in of.read(p, ["n"]) for r in b.rows.column(0).to_pylist()] for p in partitions]
        assert first == again
        assert sorted(n for some in first for n in some) == list(range(1, 601))  # as the snapshot has them
        assert sum(of.count(p) for p in partitions) == 600
    finally:
        of.close()


TYPES = {
    "bit": ("bit", "1"),
    "tinyint": ("tinyint", "255"),
    "smallint": ("smallint", "-32768"),
    "int": ("int", "-2147483648"),
    "bigint": ("bigint", "9223372036854775807"),
    "d38": ("decimal(38, 10)", "1234567890123456789012345678.0123456789"),
    "money": ("money", "-922337203685477.5808"),
    "smallmoney": ("smallmoney", "214748.3647"),
    "float": ("float", "1.7976931348623157E308"),
    "real": ("real", "1.1754944E-38"),
    "date": ("date", "'0001-01-01'"),
    "time0": ("time(0)", "'23:59:59'"),
    "time7": ("time(7)", "'23:59:59.1234560'"),
    "datetime": ("datetime", "'9999-12-31T23:59:59.997'"),
    "smalldatetime": ("smalldatetime", "'1900-01-01'"),
    "dt0": ("datetime2(0)", "'0001-01-01'"),
    "dt7": ("datetime2(7)", "'9999-12-31T23:59:59.9999990'"),
    "offset": ("datetimeoffset(7)", "'2020-06-01T12:00:00.5+05:30'"),
    "char": ("char(5)", "'ä'"),
    "nchar": ("nchar(5)", "N'𝄞'"),
    "varchar": ("varchar(20)", "'ä€ '"),
    "nvarchar": ("nvarchar(20)", "N'𝄞日 '"),
    "vmax": ("varchar(max)", "REPLICATE(CAST('ä' AS varchar(max)), 100000)"),
    "nmax": ("nvarchar(max)", "REPLICATE(CAST(N'日' AS nvarchar(max)), 100000)"),
    "text": ("text", "'alt'"),
    "ntext": ("ntext", "N'日'"),
    "binary": ("binary(4)", "0x01"),
    "varbinary": ("varbinary(9)", "0x00FF"),
    "bmax": ("varbinary(max)", "CAST(REPLICATE(CAST('ab' AS varchar(max)), 10000) AS varbinary(max))"),
    "image": ("image", "0xFFFE"),
    "uuid": ("uniqueidentifier", "'6F9619FF-8B86-D011-B42D-00C04FC964FF'"),
    "variant": ("sql_variant", "CAST('2020-01-01' AS datetime2(7))"),
    "xml": ("xml", "N'<a b=\"1\">ä</a>'"),
    "hierarchy": ("hierarchyid", "'/1/2/'"),
    "geo": ("geography", "geography::STGeomFromText('POINT(1 2)', 4326)"),
    "sparse": ("int SPARSE", "7"),
}
EXPECTED = {
    "bit": "True",
    "tinyint": "255",
    "smallint": "-32768",
    "int": "-2147483648",
    "bigint": "9223372036854775807",
    "d38": "1234567890123456789012345678.0123456789",
    "money": "-922337203685477.5808",
    "smallmoney": "214748.3647",
    "float": "1.7976931348623157e+308",
    "date": "0001-01-01",
    "time0": "23:59:59",
    "time7": "23:59:59.123456",
    "datetime": "9999-12-31 23:59:59.997000",
    "smalldatetime": "1900-01-01 00:00:00",
    "dt0": "0001-01-01 00:00:00",
    "dt7": "9999-12-31 23:59:59.999999",
    "offset": "2020-06-01 06:30:00.500000+00:00",
    "char": "ä",
    "nchar": "𝄞",
    "varchar": "ä€ ",
    "nvarchar": "𝄞日 ",
    "vmax": "ä" * 100_000,
    "nmax": "日" * 100_000,
    "text": "alt",
    "ntext": "日",
    "binary": "b'\\x01\\x00\\x00\\x00'",
    "varbinary": "b'\\x00\\xff'",
    "bmax": str(b"ab" * 10_000),
    "image": "b'\\xff\\xfe'",
    "uuid": "6f9619ff-8b86-d011-b42d-00c04fc964ff",
    "variant": "datetime2:2020-01-01 00:00:00.0000000",
    "xml": '<a b="1">ä</a>',
    "hierarchy": "/1/2/",
    "geo": "SRID=4326;POINT (1 2)",
    "sparse": "7",
}


def test_every_type_arrives_exactly_and_null_stays_null(server: Server, name: str) -> None:
    columns = ", ".join(f"[{c}] {kind}" + ("" if "SPARSE" in kind else " NULL") for c, (kind, _) in TYPES.items())
    server.run(
        f"CREATE TABLE [{name}] (id int NOT NULL PRIMARY KEY, {columns}, computed AS id * 2, version rowversion)",
        f"INSERT INTO [{name}] (id, {', '.join(f'[{c}]' for c in TYPES)}) "
        f"VALUES (1, {', '.join(value for _, value in TYPES.values())})",
        f"INSERT INTO [{name}] (id) VALUES (2)",
    )
    of = source(server.url)
    try:
        full, empty = rows(of, name, [*TYPES, "computed", "version"])[0]
        got = dict(zip([*TYPES, "computed", "version"], full, strict=True))
        assert {c: str(got[c]) for c in EXPECTED} == EXPECTED
        assert got["real"] == pytest.approx(1.1754944e-38)
        assert got["computed"] == 2
        assert len(got["version"]) == 8
        assert all(value is None for value in empty[: len(TYPES)])
        notes = " ".join(of.schema(name).notes)
        assert "its offset is not kept" in notes
    finally:
        of.close()


@pytest.mark.parametrize("kind", ["datetime2(7)", "time(7)", "datetimeoffset(7)"])
def test_a_seventh_digit_rejects_its_row(server: Server, name: str, kind: str) -> None:
    server.run(
        f"CREATE TABLE [{name}] (id int PRIMARY KEY, c {kind})",
        f"INSERT INTO [{name}] VALUES (1, '12:00:00.1234567'), (2, '12:00:00.1234560'), (3, NULL)",
    )
    of = source(server.url)
    try:
        [partition] = of.partitions(of.schema(name), rows=10, bytes=1 << 20)
        batches = list(of.read(partition, ["id", "c"]))
        assert [r.column for b in batches for r in b.rejects] == ["c"]
        assert [i for b in batches for i in b.rows.column(0).to_pylist()] == [2, 3]
    finally:
        of.close()


def test_names_with_any_character_in_any_schema(server: Server) -> None:
    server.run(
        "CREATE SCHEMA [Odd Schema]",
        'CREATE TABLE [Odd Schema].[t.a[b]]"\'] ([select] int PRIMARY KEY, [x]] "y] nvarchar(5))',
        "INSERT INTO [Odd Schema].[t.a[b]]\"'] VALUES (1, N'ü')",
    )
    of = source(server.url)
    try:
        table = "Odd Schema.t.a[b]\"'"
        assert table in of.tables()
        assert rows(of, table, ["select", 'x] "y']) == [[(1, "ü")]]
        with pytest.raises(UsageError, match="no table 'nowhere'"):
            of.schema("nowhere")
    finally:
        of.close()


def test_a_temporal_table_and_its_history_are_two(server: Server, name: str) -> None:
    server.run(
        f"CREATE TABLE [{name}] (id int PRIMARY KEY, a datetime2(6) GENERATED ALWAYS AS ROW START HIDDEN NOT NULL, "
        "b datetime2(6) GENERATED ALWAYS AS ROW END HIDDEN NOT NULL, PERIOD FOR SYSTEM_TIME (a, b)) "
        f"WITH (SYSTEM_VERSIONING = ON (HISTORY_TABLE = dbo.[{name}_old]))",
        f"INSERT INTO [{name}] (id) VALUES (1)",
    )
    of = source(server.url)
    try:
        assert {name, f"{name}_old"} <= set(of.tables())
        assert of.schema(name).schema.names == ["id", "a", "b"]
        assert f"its history is the table dbo.{name}_old" in " ".join(of.schema(name).notes)
        assert "history" in " ".join(of.schema(f"{name}_old").notes)
    finally:
        of.close()
        server.run(
            f"ALTER TABLE [{name}] SET (SYSTEM_VERSIONING = OFF)", f"DROP TABLE [{name}]", f"DROP TABLE [{name}_old]"
        )


def test_rows_that_a_policy_hides_are_warned_of(server: Server, name: str) -> None:
    server.run(
        f"CREATE TABLE [{name}] (id int PRIMARY KEY)",
        f"CREATE FUNCTION dbo.f_{name}(@id int) RETURNS TABLE WITH SCHEMABINDING AS RETURN SELECT 1 AS ok WHERE @id < 0",
        f"CREATE SECURITY POLICY p_{name} ADD FILTER PREDICATE dbo.f_{name}(id) ON dbo.[{name}] WITH (STATE = ON)",
    )
    try:
        assert f"the security policy p_{name} filters its rows" in source(server.url).schema(name).warnings[0]
    finally:
        server.run(f"DROP SECURITY POLICY p_{name}", f"DROP FUNCTION dbo.f_{name}")


HALF = "CONVERT(nvarchar(9), 0x61003DD8)"  # a, and the first half of a pair


def test_half_of_a_pair_rejects_its_row_and_ends_a_slice_where_it_stands(server: Server, name: str) -> None:
    """In a key, a text, a long text and a variant; U+FFFD, a byte order mark and a whole pair arrive as they are."""
    server.run(
        f"CREATE TABLE [{name}] (k nvarchar(20) COLLATE Latin1_General_BIN2 PRIMARY KEY, n int, t nvarchar(20), "
        "m nvarchar(max), v sql_variant)",
        f"INSERT INTO [{name}] VALUES (N'a', 1, {HALF}, N'x', 1), (N'b', 2, N'x', REPLICATE({HALF}, 3), 1), "
        f"(N'c', 3, N'x', N'x', {HALF}), ({HALF}, 4, N'x', N'x', 1), "
        "(N'd', 5, NCHAR(65533), CONVERT(nvarchar(9), 0xFFFE6100), CONVERT(nvarchar(9), 0x3DD800DE))",
        *(f"INSERT INTO [{name}] VALUES (CONCAT({HALF}, N'{n}'), {n}, N'x', N'x', 1)" for n in range(6, 9)),
    )
    of = source(server.url)
    try:
        loaded: list[tuple[Any, ...]] = []
        refused: list[tuple[str | None, str]] = []
        for size in (1, 2, 100):
            loaded, refused = [], []
            for partition in of.partitions(of.schema(name), rows=size, bytes=1 << 30):
                for batch in of.read(Partition(name, 0, partition.token), ["k", "n", "t", "m", "v"]):
                    loaded += [tuple(row.values()) for row in batch.rows.to_pylist()]
                    refused += [(r.column, json.loads(r.origin.raw)["n"]) for r in batch.rejects]
                    assert all(r.rule == "cell" and "is no text" in r.reason for r in batch.rejects)
            assert loaded == [("d", 5, "\ufffd", "\ufeffa", "nvarchar:😀")]
            assert sorted(refused, key=lambda r: int(r[1])) == [
                ("t", "1"), ("m", "2"), ("v", "3"), ("k", "4"), ("k", "6"), ("k", "7"), ("k", "8"),
            ]  # fmt: skip
    finally:
        of.close()


@pytest.fixture
def reader(server: Server) -> Iterator[DatabaseUrl]:
    """A login that may read the tables, and nothing else."""
    name = f"reader_{uuid.uuid4().hex[:10]}"
    password = f"Xx9-{uuid.uuid4().hex}"
    server.run(
        f"CREATE LOGIN [{name}] WITH PASSWORD = '{password}', CHECK_POLICY = OFF",
        f"CREATE USER [{name}] FOR LOGIN [{name}]",
        f"GRANT SELECT ON SCHEMA::dbo TO [{name}]",
    )
    yield replace(server.url, user=name, password=password)
    with suppress(Exception):
        server.run(f"DROP USER [{name}]", f"DROP LOGIN [{name}]")


def test_masked_columns_are_refused_where_they_are_read(server: Server, name: str, reader: DatabaseUrl) -> None:
    server.run(
        f"CREATE TABLE [{name}] (id int PRIMARY KEY, email nvarchar(80) MASKED WITH (FUNCTION = 'email()'))",
        f"INSERT INTO [{name}] VALUES (1, N'ada@example.org')",
        f"CREATE VIEW [v_{name}] AS SELECT id, email AS shown FROM [{name}]",
    )
    of = source(reader)
    try:
        assert set(of.schema(name).refused) == {"email"}
        assert rows(of, name, ["id"]) == [[(1,)]]
        with pytest.raises(SourceError, match="GRANT UNMASK TO that user"):
            rows(of, name, ["id", "email"])
        assert "passes on what is masked" in " ".join(of.schema(f"v_{name}").warnings)
        server.run(f"GRANT UNMASK TO [{reader.user}]")
        with_it = source(reader)
        assert with_it.schema(name).refused == {}
        assert rows(with_it, name, ["email"]) == [[("ada@example.org",)]]
        with_it.close()
    finally:
        of.close()
        server.run(f"DROP VIEW [v_{name}]")


def test_encrypted_columns_are_refused_where_they_are_read(server: Server, name: str) -> None:
    server.run(
        f"CREATE COLUMN MASTER KEY [m_{name}] WITH (KEY_STORE_PROVIDER_NAME = N'NONE', KEY_PATH = N'nowhere')",
        f"CREATE COLUMN ENCRYPTION KEY [e_{name}] WITH VALUES (COLUMN_MASTER_KEY = [m_{name}], ALGORITHM = 'RSA_OAEP', "
        "ENCRYPTED_VALUE = 0x0123456789)",
        f"CREATE TABLE [{name}] (id int PRIMARY KEY, secret varbinary(20) ENCRYPTED WITH (COLUMN_ENCRYPTION_KEY = [e_{name}], "
        "ENCRYPTION_TYPE = RANDOMIZED, ALGORITHM = 'AEAD_AES_256_CBC_HMAC_SHA_256'))",
        f"INSERT INTO [{name}] (id) VALUES (1)",
    )
    of = source(server.url)
    try:
        assert rows(of, name, ["id"]) == [[(1,)]]
        with pytest.raises(SourceError, match="Always Encrypted"):
            rows(of, name, ["id", "secret"])
    finally:
        of.close()
        server.run(
            f"DROP TABLE [{name}]", f"DROP COLUMN ENCRYPTION KEY [e_{name}]", f"DROP COLUMN MASTER KEY [m_{name}]"
        )


# -------------------------------------------------------------------------------------- preflight, load, references, doubts


def noticed(of: Tables, tables: Sequence[str]) -> dict[tuple[str, str], str]:
    """What is said, by level and what it is of; several of one kind together."""
    found: dict[tuple[str, str], str] = {}
    for notice in of.preflight(tables):
        said = f"{notice.said} {notice.hint}"
        found[notice.level, notice.what] = f"{found.get((notice.level, notice.what), '')} {said}"
    return found


def test_preflight_by_an_administrator(server: Server, name: str) -> None:
    server.run(f"CREATE TABLE [{name}] (n int)", f"CREATE TABLE [{name}_k] (id int PRIMARY KEY)")
    of = source(server.url)
    try:
        found = noticed(of, [name, f"{name}_k"])
        assert not [what for level, what in found if level == "error"]
        assert server.url.database in found["ok", "version"]
        assert "READ_WRITE, compatibility level" in found["ok", "database"]
        assert "ALLOW_SNAPSHOT_ISOLATION is ON" in found["ok", "isolation"]
        assert "code page" in found["ok", "collation"]
        assert "the load by others is seen" in found["ok", "privileges"]
        assert "free beside the 5" in found["ok", "connections"]
        assert "it has no key" in found["warning", name]
        assert "sp_cdc_enable_db" in found["warning", "changes"]
        assert ("warning", f"{name}_k") not in found
    finally:
        of.close()
        server.run(f"DROP TABLE [{name}_k]")


def test_preflight_by_who_may_only_read(server: Server, name: str, reader: DatabaseUrl) -> None:
    server.run(
        f"CREATE TABLE [{name}] (id int PRIMARY KEY, a int, b int)", f"DENY SELECT ON [{name}] (b) TO [{reader.user}]"
    )
    of = source(reader)
    try:
        found = noticed(of, [name])
        assert "GRANT VIEW DEFINITION" in found["warning", "privileges"]
        assert "GRANT VIEW DATABASE STATE" in found["warning", "privileges"]
        assert "columns that may not be read: b" in found["warning", name]
        assert ("error", name) not in found
        assert of.load() is None
        server.run(f"DENY SELECT ON [{name}] TO [{reader.user}]")
        assert "GRANT SELECT ON" in noticed(of, [name])["error", name]
    finally:
        of.close()


def test_change_tracking_gives_the_watermark_and_its_retention_is_held_against_the_load(
    server: Server, name: str
) -> None:
    server.run(f"CREATE TABLE [{name}] (id int PRIMARY KEY)")
    server.set("CHANGE_TRACKING = ON (CHANGE_RETENTION = 1 MINUTES, AUTO_CLEANUP = ON)")
    try:
        of = source(server.url)
        watermark = of.watermark()
        assert watermark is not None
        assert watermark.kind == "change_tracking"
        found = noticed(of, [name])
        assert "CHANGE_RETENTION = n DAYS" in found["warning", "changes"]
        assert "ENABLE CHANGE_TRACKING" in found["warning", name]
        server.run(f"ALTER TABLE [{name}] ENABLE CHANGE_TRACKING")
        assert ("warning", name) not in noticed(of, [name])
        of.close()
    finally:
        with suppress(Exception):
            server.run(f"ALTER TABLE [{name}] DISABLE CHANGE_TRACKING")
        server.set("CHANGE_TRACKING = OFF")


def test_the_load_is_that_of_others(server: Server) -> None:
    of = source(server.url, connections=2)
    other = server.another()
    [(number,)] = other.query("SELECT @@SPID")

    def busy() -> None:
        with suppress(Exception):
            other.query("SELECT COUNT_BIG(*) FROM sys.all_columns a, sys.all_columns b, sys.all_columns c")

    try:
        of.view()
        before = of.load()
        assert before is not None
        worker = threading.Thread(target=busy)
        worker.start()
        time.sleep(2)
        assert (of.load() or 0) > before
        server.run(f"KILL {number}")
        worker.join(60)
    finally:
        of.close()


def test_references_views_and_doubts(server: Server, name: str) -> None:
    server.run(
        f"CREATE TABLE [{name}] (tenant int, id int, up int, t varchar(20) COLLATE Latin1_General_CI_AS, at time(7), "
        f"PRIMARY KEY (tenant, id), CONSTRAINT [f_{name}] FOREIGN KEY (tenant, up) REFERENCES [{name}] (tenant, id))",
        f"INSERT INTO [{name}] VALUES (1, 1, NULL, CAST(0x4DC3BC6C6C6572 AS varchar(20)), '12:00:00.1234567')",
        f"ALTER TABLE [{name}] NOCHECK CONSTRAINT [f_{name}]",
        f"CREATE VIEW [v_{name}] AS SELECT id FROM [{name}]",
    )
    of = source(server.url)
    try:
        assert of.references(name) == [Reference(("tenant", "up"), name, ("tenant", "id"))]
        assert (f"v_{name}", "view") in of.offers()
        assert f"v_{name}" not in of.tables()
        assert rows(of, f"v_{name}", ["id"]) == [[(1,)]]
        doubts = of.doubts(name)
        assert set(doubts) == {"tenant", "up", "t", "at"}
        assert "fix_encoding(t)" in doubts["t"]
        assert "1 of the first 1 have a seventh digit" in doubts["at"]
        assert "is_not_trusted" in doubts["up"]
        assert of.doubts(f"v_{name}") == {}
        assert of.estimate([name])[0] == 1
        with pytest.raises(UsageError, match="is in another database"):
            of.schema("master.dbo.spt_values")
    finally:
        of.close()
        server.run(f"DROP VIEW [v_{name}]")


# ---------------------------------------------------------------------------------------- views, statements, connections


def test_a_snapshot_does_not_move_and_the_watermark_is_before_it(server: Server, name: str) -> None:
    server.run(f"CREATE TABLE [{name}] (id int PRIMARY KEY, n int)", f"INSERT INTO [{name}] VALUES (1, 1)")
    of = source(server.url, connections=1)
    try:
        assert of.view()[0] == "live"
        writer = threading.Thread(
            target=lambda: [
                server.run(f"UPDATE [{name}] SET n = n + 1"),
                server.run(f"INSERT INTO [{name}] VALUES (2, 2)"),
            ]
        )
        writer.start()
        writer.join()
        assert rows(of, name, ["id", "n"]) == [[(1, 1)]]
    finally:
        of.close()
    assert rows(source(server.url), name, ["id", "n"]) == [[(1, 2), (2, 2)]]


def test_a_read_only_database_is_pinned(server: Server, name: str) -> None:
    server.run(f"CREATE TABLE [{name}] (id int PRIMARY KEY)")
    server.set("READ_ONLY WITH ROLLBACK IMMEDIATE")
    try:
        of = source(server.url)
        assert of.view() == ("pinned", "pinned: the database is READ_ONLY")
        of.close()
    finally:
        server.set("READ_WRITE WITH ROLLBACK IMMEDIATE")
        server._driver = server.another()


def test_a_stream_that_is_left_early_ends_at_the_server_and_its_snapshot_stays(server: Server, name: str) -> None:
    server.run(
        f"CREATE TABLE [{name}] (id int NOT NULL PRIMARY KEY, t nchar(900) NOT NULL)",
        f"INSERT INTO [{name}] SELECT n, N'x' FROM ({NUMBERS.replace('600', '60000')}) x",
    )
    engine = SqlServer(server.url, Options())
    relation = engine.relation(name)
    session = engine.open(1).sessions[0]
    assert isinstance(session, _Connection)
    try:
        [(number,)] = session.query("SELECT @@SPID")
        stream = session.stream(Select(relation, relation.fields, "", 1 << 16, Slice()))
        next(stream)
        server.run(f"DELETE FROM [{name}] WHERE id = 1")
        stream.close()  # type: ignore[attr-defined]
        assert server.run(f"SELECT COUNT(*) FROM sys.dm_exec_requests WHERE session_id = {number}") == [(0,)]
        assert [tuple(r) for r in session.query(f"SELECT COUNT(*) FROM [{name}]")] == [(60000,)]
    finally:
        session.close()


def test_a_connection_that_is_lost_is_one_to_be_tried_again(server: Server, name: str) -> None:
    server.run(f"CREATE TABLE [{name}] (id int PRIMARY KEY)", f"INSERT INTO [{name}] SELECT n FROM ({NUMBERS}) x")
    of = source(server.url, connections=1)
    try:
        with of._pool.lent() as session:
            [(number,)] = session.query("SELECT @@SPID")
        server.run(f"KILL {number}")
        with pytest.raises(RetryableError), of._pool.lent() as session:
            session.query("SELECT 1")
        assert len(rows(of, name, ["id"], 100)) > 1
    finally:
        of.close()


def test_aggregates_are_those_of_the_rows(server: Server, name: str) -> None:
    server.run(
        f"CREATE TABLE [{name}] (id int PRIMARY KEY, t nvarchar(20), m datetime2(7), b varbinary(9))",
        f"INSERT INTO [{name}] VALUES (2147483647, N'𝄞 ', '1970-01-02T00:00:00.5', 0x0102), (2147483646, NULL, NULL, NULL)",
    )
    of = source(server.url)
    asked = [
        Measure("id", "number", "sum"),
        Measure("t", "text", "values"),
        Measure("t", "text", "length"),
        Measure("m", "moment", "sum"),
        Measure("b", "bytes", "length"),
        Measure("b", "bytes", "digest"),
    ]
    try:
        found = of.aggregates(name, asked, None)
        assert found is not None
        assert [int(v or 0) for v in found] == [4294967293, 1, 2, 86400500000, 2, 0x0CB988D0]
    finally:
        of.close()


def test_what_is_wrong_is_said_without_the_password(server: Server) -> None:
    for url, said in (
        (replace(server.url, password="falsch-99"), "Check user and password"),
        (replace(server.url, database="nowhere-at-all"), "Check the database's name"),
    ):
        with pytest.raises(SourceError) as caught:
            source(url).tables()
        assert said in caught.value.hint
        assert "falsch-99" not in caught.value.message
