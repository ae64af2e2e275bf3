"""SQL Server without one: the SQL that is asked, the types, what errors mean, how rows are handed on."""

import importlib.util
import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, cast

import pyarrow as pa
import pytest

from connectors.dburl import DatabaseUrl, parse
from connectors.keyrange import Slice
from connectors.relational import Opened, Relation, Select, Tables
from connectors.sqlserver import URL_OPTIONS, Options, SqlServer, _Index, _keys, _State, open_url, statement
from connectors.sqlserverdriver import _Arrow, connection_string, failure, next_rows, ours, rows_at_once, settled
from connectors.sqlservertypes import Catalogued, Column, described, literal
from migrate.core import Measure, Partition, Watermark
from migrate.errors import RetryableError, SourceError, UsageError

LATIN = "Latin1_General_CI_AS"


def column(
    kind: str, length: int = 0, precision: int = 0, scale: int = 0, *, name: str = "c", **more: Any
) -> Catalogued:
    return Catalogued(name, kind, more.pop("declared", kind), length, precision, scale, collation=LATIN, **more)


# ------------------------------------------------------------------------------------------------------------ the types

TYPES = [
    (column("bit"), "[c]", pa.bool_(), ""),
    (column("tinyint"), "[c]", pa.uint8(), "smallint"),
    (column("smallint"), "[c]", pa.int16(), ""),
    (column("int"), "[c]", pa.int32(), ""),
    (column("bigint"), "[c]", pa.int64(), ""),
    (column("decimal", 17, 38, 10), "[c]", pa.decimal128(38, 10), "numeric(38,10)"),
    (column("money"), "CAST([c] AS decimal(19, 4))", pa.decimal128(19, 4), "numeric(19,4)"),
    (column("smallmoney"), "CAST([c] AS decimal(10, 4))", pa.decimal128(10, 4), "numeric(10,4)"),
    (column("float"), "[c]", pa.float64(), ""),
    (column("real"), "[c]", pa.float32(), ""),
    (column("date"), "[c]", pa.date32(), ""),
    (column("datetime"), "CAST([c] AS datetime2(3))", pa.timestamp("us"), "timestamp(3)"),
    (column("smalldatetime"), "CAST([c] AS datetime2(0))", pa.timestamp("us"), "timestamp(0)"),
    (column("datetime2", scale=6), "[c]", pa.timestamp("us"), "timestamp(6)"),
    (
        column("datetime2", scale=7),
        "LEFT(CONVERT(varchar(34), [c], 121), CASE WHEN DATEPART(nanosecond, [c]) % 1000 = 0 THEN 26 ELSE 27 END)",
        pa.timestamp("us"),
        "timestamp(6)",
    ),
    (
        column("datetimeoffset", scale=0),
        "LEFT(CONVERT(varchar(34), SWITCHOFFSET([c], '+00:00'), 121), 19)",
        pa.timestamp("us", "UTC"),
        "timestamptz(0)",
    ),
    (column("time", scale=3), "LEFT(CONVERT(varchar(34), [c], 121), 12)", pa.time64("us"), "time(3)"),
    (column("char", 5), "RTRIM(CAST([c] AS nvarchar(5)))", pa.string(), "char(5)"),
    (column("nchar", 10), "RTRIM([c])", pa.string(), "char(5)"),
    (column("varchar", 4000), "CAST([c] AS nvarchar(4000))", pa.string(), "varchar(4000)"),
    (column("varchar", 8000), "CAST([c] AS nvarchar(max))", pa.string(), "varchar(8000)"),
    (column("varchar", -1), "CAST([c] AS nvarchar(max))", pa.string(), ""),
    (column("nvarchar", 80), "[c]", pa.string(), "varchar(40)"),
    (column("ntext", 16), "CAST([c] AS nvarchar(max))", pa.string(), ""),
    (column("binary", 8), "[c]", pa.binary(), ""),
    (column("varbinary", -1), "[c]", pa.binary(), ""),
    (column("image", 16), "CAST([c] AS varbinary(max))", pa.binary(), ""),
    (column("timestamp", 8), "CAST([c] AS binary(8))", pa.binary(), ""),
    (column("uniqueidentifier", 16), "LOWER(CAST([c] AS char(36)))", pa.string(), "uuid"),
    (column("xml", -1), "CAST([c] AS nvarchar(max))", pa.string(), "xml"),
    (column("hierarchyid", 892), "[c].ToString()", pa.string(), ""),
    (
        column("geography", -1),
        "CASE WHEN [c] IS NOT NULL THEN CONCAT(N'SRID=', [c].STSrid, N';', [c].ToString()) END",
        pa.string(),
        "",
    ),
    (column("point", -1, declared="point", assembly=True), "CAST([c] AS varbinary(max))", pa.binary(), ""),
    (column("of tomorrow"), "CAST([c] AS nvarchar(max))", pa.string(), ""),
]


@pytest.mark.parametrize(
    ("given", "select", "kind", "suggested"), TYPES, ids=lambda v: v.kind if hasattr(v, "length") else ""
)
def test_each_type_is_fetched_as_what_holds_it(
    given: Catalogued, select: str, kind: pa.DataType, suggested: str
) -> None:
    found = described(given)
    assert (found.select, found.type, found.suggested) == (select, kind, suggested)


def test_a_text_is_sent_as_the_bytes_of_utf16() -> None:
    """A driver puts another character in the place of half of a pair, and loses a byte order mark."""
    sent = {
        "CAST([c] AS varbinary(80))": column("nvarchar", 80),
        "CAST(RTRIM([c]) AS varbinary(20))": column("nchar", 20),
        "CAST(CAST([c] AS nvarchar(4000)) AS varbinary(8000))": column("varchar", 4000),
        "CAST(RTRIM(CAST([c] AS nvarchar(5))) AS varbinary(10))": column("char", 5),
        "CAST(CAST([c] AS nvarchar(max)) AS varbinary(max))": column("varchar", 8000),
        f"CAST({described(column('sql_variant', 8016)).select} AS varbinary(max))": column("sql_variant", 8016),
        "LOWER(CAST([c] AS char(36)))": column("uniqueidentifier", 16),
        "LEFT(CONVERT(varchar(34), [c], 121), 12)": column("time", scale=3),
    }
    for sql, each in sent.items():
        assert described(each).sent == sql
    for kind in ("varchar", "text", "ntext", "xml", "of tomorrow"):
        assert described(column(kind, -1)).sent == "CAST(CAST([c] AS nvarchar(max)) AS varbinary(max))"


def test_what_changes_its_form_is_said() -> None:
    notes = {
        "c: varchar(20) is": column("varchar", 20, declared="Phone"),
        "its offset is not kept": column("datetimeoffset", scale=7),
        "hidden at the source, and read": column("datetime2", scale=7, hidden=True),
        "the type of each value, a colon, the value": column("sql_variant", 8016),
        "as text (EWKT)": column("geometry", -1),
        "the bytes that it is kept in": column("point", -1, declared="point", assembly=True),
    }
    for said, each in notes.items():
        assert said.replace("varchar(20) is", "Phone is varchar(20)") in " ".join(described(each).notes)


def test_a_seventh_digit_rejects_its_row_and_none_is_cut_in_silence() -> None:
    fetched = pa.array(["2020-01-01 00:00:00.1234567", "2020-01-01 00:00:00.123456", None])
    each = described(column("datetime2", scale=7, name="at"))
    relation = Relation("t", "dbo", "t", (each,), (), ())
    from connectors.relational import _Rows

    batch = _Rows(relation, (each,), pa.RecordBatch.from_arrays([fetched], ["0"]), 0).batch(["at"])
    assert [r.column for r in batch.rejects] == ["at"]
    assert "2020-01-01 00:00:00.1234567" in batch.rejects[0].reason
    assert list(batch.ordinals) == [1, 2]
    assert "is cut" in " ".join(described(column("datetime2", scale=7), "cut").notes)
    assert described(column("datetime2", scale=7), "text").type == pa.string()


# -------------------------------------------------------------------------------------------------------- keys and SQL


@pytest.mark.parametrize(
    ("of", "text", "sql"),
    [
        (column("int"), "-7", "-7"),
        (column("bigint"), "9223372036854775807", "CAST(9223372036854775807 AS bigint)"),
        (column("bit"), "True", "1"),
        (column("decimal", 17, 38, 10), "1E+3", "1000"),
        (column("money"), "1.5000", "CAST(1.5000 AS money)"),
        (column("date"), "2020-02-29", "CONVERT(date, '2020-02-29', 23)"),
        (column("datetime"), "2020-01-01T00:00:00.003", "CONVERT(datetime, '2020-01-01T00:00:00.003', 126)"),
        (
            column("datetime2", scale=7),
            "2020-01-01 01:02:03.1234567",
            "CONVERT(datetime2(7), '2020-01-01T01:02:03.1234567', 126)",
        ),
        (
            column("datetimeoffset", scale=0),
            "2020-01-01T01:02:03 +02:00",
            "CONVERT(datetimeoffset(0), '2020-01-01T01:02:03+02:00', 126)",
        ),
        (column("time", scale=7), "23:59:59.9999999", "CAST('23:59:59.9999999' AS time(7))"),
        (
            column("uniqueidentifier"),
            "6f9619ff-8b86-d011-b42d-00c04fc964ff",
            "CONVERT(uniqueidentifier, '6f9619ff-8b86-d011-b42d-00c04fc964ff')",
        ),
        (column("varbinary", 8), "00FF", "0x00ff"),
        (column("varchar", 20), "O'Brien", "'O''Brien'"),
        (column("nvarchar", 20), "O'Brien", "N'O''Brien'"),
        (column("varchar", 20), "Ünï", f"CAST(N'Ünï' COLLATE {LATIN} AS varchar(8000))"),
        (column("nvarchar", 20), "a\\\n", "CONVERT(nvarchar(4000), 0x61005c000a00)"),
        (column("hierarchyid", 892), "/1/2/", "CAST('/1/2/' AS hierarchyid)"),
    ],
)
def test_a_key_is_written_in_the_type_of_its_column(of: Catalogued, text: str, sql: str) -> None:
    assert literal(described(of), text) == sql


def test_no_text_ends_its_literal() -> None:
    for text in ("'; DROP TABLE t; --", "\\'", "’", "x' OR '1'='1"):
        for kind in ("varchar", "nvarchar", "uniqueidentifier", "date", "time", "hierarchyid", "datetime2"):
            sql = literal(described(column(kind, 40)), text)
            inside = sql[sql.index("'") + 1 : sql.rindex("'")] if "'" in sql else ""
            assert "'" not in inside.replace("''", "")


def relation(key: Sequence[str], ranged: Sequence[str], nullable: bool = False) -> Relation:
    fields = [
        column("int", name="a", nullable=nullable),
        column("nvarchar", 40, name="B]c"),
        column("varbinary", -1, name="blob"),
    ]
    return Relation("t", "my schema", "T]", tuple(described(f) for f in fields), tuple(key), tuple(ranged), nullable)


def engine(**options: Any) -> SqlServer:
    return SqlServer(parse("mssql://sa:geheim@db/erp", URL_OPTIONS), Options(**options))


def where(of: Relation, slice_: Slice) -> str:
    return Tables(engine())._where(of, slice_)


def test_the_sql_of_a_slice_of_a_composite_key() -> None:
    of = relation(["a", "B]c"], ["a", "B]c"])
    slice_ = Slice(("1", "x"), ("9", "y"))
    condition = (
        "[a] >= 1 AND (([a] > 1) OR ([a] = 1 AND [B]]c] > N'x')) AND "
        "[a] <= 9 AND (([a] < 9) OR ([a] = 9 AND [B]]c] <= N'y'))"
    )
    assert where(of, slice_) == condition
    assert statement(Select(of, of.fields, condition, 1, slice_)) == (
        "SELECT [a] AS c0, CAST([B]]c] AS varbinary(40)) AS c1, [blob] AS c2 FROM "
        f"[my schema].[T]]] WHERE {condition} ORDER BY [a], [B]]c]"
    )
    assert engine().boundary(of, condition, 500) == (
        f"SELECT CAST([a] AS bigint), CAST([B]]c] AS varbinary(40)) FROM [my schema].[T]]] WHERE {condition} "
        "ORDER BY [a], [B]]c] OFFSET 499 ROWS FETCH NEXT 1 ROWS ONLY"
    )


def test_the_slices_of_a_key_with_null_tile_the_table() -> None:
    of = relation([], ["a"], nullable=True)
    assert [where(of, s) for s in (Slice(null=True), Slice(), Slice(None, ("5",)), Slice(("5",), None))] == [
        "[a] IS NULL",
        "[a] IS NOT NULL",
        "[a] <= 5",
        "[a] > 5",
    ]


def test_rows_without_a_unique_key_come_in_an_order_that_tells_them_apart() -> None:
    """A collation takes 'a' and 'A' for equal, and a scan of a heap begins where it likes."""
    for ranged in ((), ("a",)):
        of = relation([], ranged)
        order = statement(Select(of, of.fields[:1], "", 1, Slice())).partition(" ORDER BY ")[2]
        assert order == (
            "[a], HASHBYTES('SHA2_256', CAST([B]]c] AS varbinary(max))), HASHBYTES('SHA2_256', CAST([blob] AS varbinary(max)))"
        )


def test_which_index_cuts_the_table() -> None:
    primary = _Index(2, True, True, ("id",), (False,))
    unique = _Index(1, False, True, ("u", "v"), (False, False))
    loose = _Index(2, False, True, ("n",), (True,))
    plain = _Index(1, False, False, ("p", "q"), (False, True))
    hashed = _Index(7, True, True, ("h",), (False,))
    assert _keys([unique, primary]) == (("id",), ("id",), False)
    assert _keys([loose, unique]) == (("u", "v"), ("u", "v"), False)
    assert _keys([loose, plain]) == ((), ("p",), False)
    assert _keys([loose]) == ((), ("n",), True)
    assert _keys([hashed, plain]) == (("h",), ("p",), False)
    assert _keys([hashed]) == (("h",), (), False)
    assert _keys([]) == ((), (), False)


def test_aggregates_neither_overflow_nor_depend_on_the_collation() -> None:
    of = engine()
    of.__dict__["_has_utf8"] = False

    def sql(each: Catalogued, kind: Any, quantity: Any) -> str | None:
        return of.measure(described(each), Measure("c", kind, quantity))

    assert sql(column("int"), "number", "sum") == "SUM(CAST([c] AS decimal(38, 0)))"
    assert sql(column("decimal", 9, 18, 4), "number", "most") == "MAX(CAST([c] AS decimal(38, 4)))"
    assert sql(column("text", 16), "text", "values") == "COUNT_BIG(CAST([c] AS nvarchar(max)))"
    assert sql(column("nvarchar", 20), "text", "length") == (
        "SUM(CAST(LEN(CAST([c] AS nvarchar(max)) COLLATE Latin1_General_100_CI_AS_SC + N'.') - 1 AS decimal(38, 0)))"
    )
    assert sql(column("nvarchar", 20), "text", "digest") is None  # before 2019 there is no UTF-8
    of.__dict__["_has_utf8"] = True
    assert "AS varchar(max))), 1, 4)" in (sql(column("nvarchar", 20), "text", "digest") or "")
    assert "SWITCHOFFSET([c], '+00:00')" in (sql(column("datetimeoffset", scale=3), "moment", "sum") or "")
    assert sql(column("time", scale=3), "other", "sum") is None


# ----------------------------------------------------------------------------------------------------------- the views


@pytest.mark.parametrize(
    ("state", "options", "count", "view", "alike", "said"),
    [
        (("s", True, "erp", True, False, False), {}, 4, "asof", True, "is a database snapshot of erp"),
        (("s", True, None, True, False, False), {}, 4, "pinned", True, "the database is READ_ONLY"),
        (("s", True, None, True, True, False), {}, 4, "live", False, "a little apart"),  # a standby is restored further
        (("s", True, None, False, False, False), {"quiesced": True}, 4, "pinned", True, "declared as quiesced"),
        (("s", True, None, False, False, False), {}, 1, "live", True, "one snapshot"),
        (("s", True, None, False, False, False), {}, 4, "live", False, "a little apart"),
        (
            ("a]b", False, None, False, False, False),
            {},
            4,
            "live",
            False,
            "ALTER DATABASE [a]]b] SET ALLOW_SNAPSHOT_ISOLATION ON",
        ),
    ],
)
def test_the_view_is_what_the_database_allows(
    state: tuple[Any, ...], options: dict[str, Any], count: int, view: str, alike: bool, said: str
) -> None:
    found = engine(**options)._view(_State(*state), count)
    assert found[:2] == (view, alike)
    assert said in found[2]


# ------------------------------------------------------------------------------------------------------------ the URL


def url(text: str) -> DatabaseUrl:
    return parse(text, URL_OPTIONS)


def test_no_character_of_a_password_has_a_meaning() -> None:
    found = connection_string(
        url("mssql://sa:p%3B%7Dx%3DY%40@db:1444/erp?encrypt=strict&trust_server_certificate=true")
    )
    assert "Server={db,1444};" in found or "Server=db,1444;" in found
    assert "PWD={p;}}x=Y@};" in found
    assert "Encrypt=strict;" in found
    assert "TrustServerCertificate=yes;" in found
    tds = connection_string(url("mssql://sa:x@db/erp"), "FreeTDS")
    assert "Server=db;Port=1433;" in tds
    assert "geheim" not in repr(url("mssql://sa:geheim@db/erp"))


def test_wrong_options_are_refused_before_anything_is_asked() -> None:
    with pytest.raises(UsageError, match="names no database"):
        open_url("mssql://sa@db", {})
    with pytest.raises(UsageError, match="zero_dates says nothing for SQL Server"):
        open_url("mssql://sa@db/erp", {"zero_dates": "null"})
    with pytest.raises(UsageError, match="seventh_digit is 'round'"):
        open_url("mssql://sa@db/erp", {"seventh_digit": "round"})
    with pytest.raises(UsageError, match="unknown option 'encypt'"):
        open_url("mssql://sa@db/erp?encypt=yes", {})


@pytest.mark.skipif(importlib.util.find_spec("mssql_python") is None, reason="mssql-python is not installed")
def test_a_server_that_is_not_there_is_said_without_a_password() -> None:
    with pytest.raises((RetryableError, SourceError)) as caught:
        open_url("mssql://sa:geheim@127.0.0.1:1/erp?connect_timeout=2", {}).tables()
    assert "127.0.0.1:1: " in caught.value.message
    assert caught.value.hint
    assert "geheim" not in caught.value.message + caught.value.hint + repr(caught.value.__cause__)


def test_an_odbc_driver_that_is_missing_is_said() -> None:
    with pytest.raises(SourceError) as caught:
        open_url("mssql://sa:geheim@127.0.0.1:1/erp?driver=Nowhere", {}).tables()
    assert "ODBC driver" in caught.value.message
    assert caught.value.hint


# ---------------------------------------------------------------------------------------------------------- the errors


class Driven(Exception):
    """As mssql-python raises."""

    def __init__(self, driver: str, server: str) -> None:
        super().__init__(f"Driver Error: {driver}; DDBC Error: {server}")
        self.driver_error, self.ddbc_error = driver, server


def odbc(state: str, number: int, text: str) -> Exception:
    """As pyodbc raises."""
    return Exception(
        state, f"[{state}] [Microsoft][ODBC Driver 18 for SQL Server][SQL Server]{text} ({number}) (SQLExecDirectW)"
    )


MS = "[Microsoft][SQL Server]"
LOST = [
    odbc("08S01", 10054, "TCP Provider: Error code 0x2746"),
    odbc("40001", 1205, "Transaction (Process ID 52) was deadlocked on lock resources with another process"),
    odbc("42000", 1222, "Lock request time out period exceeded."),
    odbc("HY000", 3960, "Snapshot isolation transaction aborted due to update conflict."),
    odbc("42000", 40613, "Database 'erp' on server 'x' is not currently available."),
    odbc("42000", 40197, "The service has encountered an error processing your request."),
    odbc("42000", 49918, "Cannot process request. Not enough resources to process request."),
    Driven("Communication link failure", "[Microsoft]Communication link failure"),
    Driven("Client unable to establish connection", "[Microsoft]TCP Provider: Error code 0x2749"),
    Driven(
        "Serialization failure",
        f"{MS}Transaction (Process ID 52) was deadlocked on lock resources with another process",
    ),
    Driven("Syntax error or access violation", f"{MS}Lock request time out period exceeded."),
]
WRONG = [
    (odbc("28000", 18456, "Login failed for user 'sa'."), "Check user and password"),
    (odbc("42000", 4060, 'Cannot open database "erp" requested by the login. The login failed.'), "Check the database's name"),
    (odbc("42000", 229, "The SELECT permission was denied on the object 't'"), "GRANT SELECT ON the table"),
    (odbc("42000", 230, "The SELECT permission was denied on the column 'c' of the object 't'"), "GRANT SELECT ON the column"),
    (odbc("42S02", 208, "Invalid object name 'dbo.t'."), "not there any more"),
    (Driven("Invalid authorization specification", f"{MS}Login failed for user 'sa'."), "Check user and password"),
    (Driven("Syntax error or access violation", f"{MS}The SELECT permission was denied on the object 't'"), "GRANT SELECT"),
    (Driven("Base table or view not found", f"{MS}Invalid object name 'dbo.t'."), "not there any more"),
    (Driven("Client unable to establish connection", "[Microsoft]certificate verify failed"), "trust_server_cert"),
    (Driven("Connection operation failed", "Failed to load the driver. Please read the documentation"), "libltdl7"),
]  # fmt: skip


@pytest.mark.parametrize("error", LOST, ids=str)
def test_what_passes_by_itself_is_tried_again(error: Exception) -> None:
    found = ours(url("mssql://sa:geheim@db/erp"), error)
    assert isinstance(found, RetryableError), failure(error)
    assert found.hint


@pytest.mark.parametrize(("error", "hint"), WRONG, ids=lambda v: str(v)[:40])
def test_what_a_person_has_to_mend_says_how(error: Exception, hint: str) -> None:
    found = ours(url("mssql://sa:geheim@db/erp"), error)
    assert isinstance(found, SourceError), failure(error)
    assert hint in found.hint


def test_a_message_says_its_number_once() -> None:
    found = ours(url("mssql://sa:x@db/erp"), odbc("42000", 4060, 'Cannot open database "erp".'))
    assert found.message == 'db:1433: Cannot open database "erp". (4060)'


def test_a_message_never_holds_the_password() -> None:
    found = ours(url("mssql://sa:geheim@db/erp"), odbc("HY000", 0, "near 'PWD=geheim'"))
    assert "geheim" not in found.message


# ------------------------------------------------------------------------------------ batches, from a connection's own


class Cursor:
    """A cursor that gives Arrow's own batches, as the driver does: no server speaks this protocol on a test machine."""

    def __init__(self, table: pa.Table, asked: list[Any]) -> None:
        self._table, self._asked, self._at = table, asked, 0
        self.description = [("c", None)]

    def execute(self, sql: str) -> None:
        self._asked.append(sql)

    def arrow_batch(self, rows: int) -> pa.RecordBatch:
        self._asked.append(rows)
        part = self._table.slice(self._at, rows).combine_chunks()
        self._at += part.num_rows
        return part.to_batches()[0] if part.num_rows else pa.RecordBatch.from_pylist([], part.schema)

    def close(self) -> None:
        self._asked.append("closed")


class Connection:
    def __init__(self, table: pa.Table) -> None:
        self.table, self.asked = table, list[Any]()

    def cursor(self) -> Cursor:
        return Cursor(self.table, self.asked)


def named(kind: str, length: int = 0) -> Column:
    return described(column(kind, length))


def utf16(*texts: str | None) -> list[bytes | None]:
    return [None if text is None else text.encode("utf-16-le", "surrogatepass") for text in texts]


class Rows:
    """A session that reads what a connection has, by the driver's own code."""

    def __init__(self, cells: pa.Table) -> None:
        self._driver = _Arrow(Connection(cells))

    def query(self, sql: str, /) -> list[tuple[Any, ...]]:
        raise AssertionError(sql)

    def stream(self, select: Select, /) -> Iterator[pa.RecordBatch]:
        return self._driver.batches(statement(select), [cast(Column, f) for f in select.fields], select.bytes, 0)

    def close(self) -> None:
        self._driver.close()


def test_half_of_a_pair_rejects_its_row_and_the_others_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a column and in the key; U+FFFD itself is a character as any other, and so is a byte order mark."""
    fields = [described(column("nvarchar", 20, name="k")), described(column("nvarchar", -1, name="t"))]
    of = Relation("t", "dbo", "t", tuple(fields), ("k",), ("k",))
    keys = utf16("a", "b", "c", "d\ud83d", "e")
    texts = utf16("\ufffd", "cut \ud83d", "\ufeff😀", "x", None)
    cells = pa.table({"k": pa.array(keys, pa.large_binary()), "t": pa.array(texts, pa.large_binary())})
    opened = Opened([Rows(cells)], "pinned", True, None, "")
    monkeypatch.setattr(SqlServer, "open", lambda self, count: opened)
    monkeypatch.setattr(SqlServer, "relation", lambda self, name: of)
    [batch] = Tables(engine(), 1).read(Partition("t", 0, Slice().dump("t", ("k",))), ["k", "t"])
    assert batch.rows.to_pylist() == [
        {"k": "a", "t": "\ufffd"},
        {"k": "c", "t": "\ufeff😀"},
        {"k": "e", "t": None},
    ]
    assert list(batch.ordinals) == [0, 2, 4]
    by_text, by_key = batch.rejects
    assert (by_text.rule, by_text.column, by_text.ordinal) == ("cell", "t", 1)
    assert by_text.reason == "t: 'cut \\ud83d' of the source's nvarchar(max) is no text"
    assert by_text.origin.locator == {"table": "t", "key": "k=b"}
    assert json.loads(by_text.origin.raw) == {"k": "b", "t": "cut \ud83d"}
    assert (by_key.column, by_key.ordinal, by_key.origin.locator["key"]) == ("k", 3, "k=d\\ud83d")
    assert (by_key.value, by_key.reason[:12]) == ("d\\ud83d", "k: 'd\\ud83d'")
    # What the source is asked for by such a key is that key.
    key = json.loads(by_key.origin.raw)["k"]
    assert engine().literal(fields[0], key) == "CONVERT(nvarchar(4000), 0x64003dd8)"


def test_a_key_with_half_of_a_pair_ends_a_slice_where_it_stands(asked: list[str]) -> None:
    """With another character in its place the next slice might begin before this one ends."""
    of = relation([], ["B]c"])
    session = engine().reopen()
    [(text,)] = session.query("SELECT a key")
    assert text == "d\ud83d"
    table, _, slice_ = Slice.load(Slice((text,), None).dump("t", ("k",)).encode().decode())
    assert (table, where(of, slice_)) == ("t", "[B]]c] > CONVERT(nvarchar(4000), 0x64003dd8)")


def test_batches_of_long_values_grow_slowly_and_stay_within_the_budget() -> None:
    connection = Connection(pa.table({"c": [("x" * 100_000).encode("utf-16-le")] * 300}))
    sizes = [b.nbytes for b in _Arrow(connection).batches("SELECT", [named("nvarchar", -1)], 4 << 20, 50_000)]
    assert max(sizes) <= 8 << 20
    assert sum(sizes) >= 300 * 100_000
    assert connection.asked[-1] == "closed"
    small = pa.RecordBatch.from_pydict({"c": ["x"] * 1000})
    assert next_rows(small, 8 << 20) == 1024  # many small values may be followed by large ones
    assert rows_at_once([named("nvarchar", 80), named("int")], 1 << 20, 0) == ((1 << 20) // 224, True)


def test_a_stream_that_is_left_early_ends_its_statement() -> None:
    connection = Connection(pa.table({"c": pa.array(range(100_000), pa.int32())}))
    stream = _Arrow(connection).batches("SELECT", [named("int")], 1 << 16, 4)
    next(stream)
    stream.close()
    assert connection.asked == ["SELECT", (1 << 16) // 64, "closed"]


def test_a_type_that_may_have_lost_something_is_refused() -> None:
    money = described(column("money"))
    assert settled([money], [pa.array([Decimal("1.5000")])]).column(0).type == pa.decimal128(19, 4)
    assert settled([named("uniqueidentifier")], [pa.array(["a"], pa.large_string())]).column(0).type == pa.string()
    for each, array in (
        (money, pa.array([1.5])),
        (named("int"), pa.array([1.0])),
        (named("varbinary", 8), pa.array(["00"])),
        (described(column("datetime2", scale=3)), pa.array([0], pa.timestamp("ns"))),
    ):
        with pytest.raises(SourceError, match="the driver gives"):
            settled([each], [array])


# ------------------------------------------------------------------------------------- sessions, over a driver that notes


class Noting:
    """A driver that answers as a database with snapshots and change data capture does, and notes what it is asked."""

    def __init__(self, asked: list[str]) -> None:
        self.asked = asked

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        self.asked.append(sql)
        if "FROM sys.databases" in sql:
            return [("erp", 1, None, False, False, True)]
        if "fn_cdc_get_max_lsn" in sql:
            return [("0x0000002A000001200003",)]
        if "@@SPID" in sql:
            return [("db", 51)]
        if "@@TRANCOUNT" in sql:
            return [(0,)]
        if "FROM sys.tables" in sql:
            return [("dbo", "t")]
        if "a key" in sql:
            return [("d\ud83d".encode("utf-16-le", "surrogatepass"),)]
        if "fails" in sql:
            raise odbc("22003", 8115, "Arithmetic overflow error")
        return []

    def close(self) -> None:
        self.asked.append("closed")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    noted: list[str] = []
    monkeypatch.setattr("connectors.sqlserver.connect", lambda url: Noting(noted))
    return noted


def test_the_watermark_is_read_before_the_first_snapshot_begins(asked: list[str]) -> None:
    opened = engine().open(2)
    assert (opened.view, opened.consistent) == ("live", False)
    assert opened.watermark == Watermark("lsn", "0x0000002A000001200003")
    at = [n for n, sql in enumerate(asked) if sql == "BEGIN TRANSACTION"]
    assert len(at) == 2
    assert next(n for n, sql in enumerate(asked) if "max_lsn" in sql) < at[0]
    # A snapshot's moment is that of the first thing that is read in it.
    assert asked[-2:] == ["SELECT TOP (1) 1 FROM [dbo].[t]"] * 2


def test_where_an_error_ended_the_snapshot_a_new_one_begins(asked: list[str]) -> None:
    session = engine().open(1).sessions[0]
    with pytest.raises(SourceError, match="Arithmetic overflow"):
        session.query("SELECT fails")
    assert asked[-3:] == ["SELECT fails", "SELECT @@TRANCOUNT", "BEGIN TRANSACTION"]


def test_nothing_is_begun_where_nobody_writes(asked: list[str]) -> None:
    assert engine(quiesced=True).open(2).view == "pinned"
    assert "BEGIN TRANSACTION" not in asked
