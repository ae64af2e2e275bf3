"""Oracle on a real server, where there is one: what it spells, compares and keeps, no script can say.

MIGRATE_TEST_ORACLE_URL=oracle://user:password@host:1521/service, a user that may create tables in its own schema.
"""

import os
import threading
from collections.abc import Iterator
from decimal import Decimal
from hashlib import md5
from typing import Any, cast

import oracledb
import pytest

from connectors import oracledriver
from connectors.dburl import parse
from connectors.oracle import open_url
from connectors.relational import Tables
from migrate.core import Kind, Measure, Partition, Quantity, Reference

URL = os.environ.get("MIGRATE_TEST_ORACLE_URL", "")
pytestmark = pytest.mark.skipif(
    not URL, reason="set MIGRATE_TEST_ORACLE_URL to oracle://user:password@host:1521/service"
)


class Server:
    def __init__(self) -> None:
        self.connection = oracledriver.connect(parse(URL, oracledriver.URL_OPTIONS))
        self.opened: list[Tables] = []
        self.made: list[str] = []

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = []
        with self.connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
                rows = list(cursor.fetchall()) if cursor.description else []
        self.connection.commit()
        return rows

    def table(self, name: str, columns: str) -> None:
        self.drop(f"TABLE {name}")
        self.execute(f"CREATE TABLE {name} {columns}")
        self.made.append(f"TABLE {name}")

    def drop(self, what: str) -> None:
        cascade = " CASCADE CONSTRAINTS PURGE" if what.startswith("TABLE") else ""
        try:
            self.execute(f"DROP {what}{cascade}")
        except oracledb.DatabaseError as error:
            if "ORA-00942" not in str(error):
                raise

    def open(self, **options: Any) -> Tables:
        self.opened.append(cast(Tables, open_url(URL, options)))
        return self.opened[-1]


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    for source in made.opened:
        source.close()
    for what in made.made:
        made.drop(what)
    made.connection.close()


def partitions(source: Tables, rows: int, table: str = "MT") -> list[Partition]:
    return list(source.partitions(source.schema(table), rows=rows, bytes=1 << 24))


def read(source: Tables, columns: list[str], rows: int = 1000, table: str = "MT") -> tuple[list[Any], list[str]]:
    found, reasons = [], []
    for part in partitions(source, rows, table):
        for batch in source.read(part, columns):
            found += batch.rows.to_pylist()
            reasons += [reject.reason for reject in batch.rejects]
    return found, reasons


def test_each_type_arrives_exactly_or_rejects(server: Server) -> None:
    server.table(
        "MT",
        "(ID NUMBER(9) PRIMARY KEY, N NUMBER, I INTEGER, P NUMBER(38,10), NEG NUMBER(3,-2), SMALL NUMBER(3,5), F FLOAT(126), "
        "BF BINARY_FLOAT, BD BINARY_DOUBLE, D DATE, T9 TIMESTAMP(9), TZ TIMESTAMP(6) WITH TIME ZONE, "
        "TL TIMESTAMP(6) WITH LOCAL TIME ZONE, YM INTERVAL YEAR TO MONTH, DS INTERVAL DAY TO SECOND(9), "
        "C CHAR(5 CHAR), NV NVARCHAR2(20), CL CLOB, NC NCLOB, B BLOB, R RAW(16), RI ROWID, X XMLTYPE)",
    )
    server.execute(
        "INSERT INTO MT (ID, N, I, P, NEG, SMALL, F, BF, BD, D, T9, TZ, TL, YM, DS, C, NV, CL, NC, B, R, X) VALUES (1, "
        "1234567890123456789012345678901234567890, 12345678901234567890123456789012345678, "
        "1234567890123456789012345678.0123456789, "
        "12345, 0.00123, 0.1, 0.1, BINARY_DOUBLE_INFINITY, TO_DATE('2020-02-29 23:59:59', 'YYYY-MM-DD HH24:MI:SS'), "
        "TO_TIMESTAMP('2020-02-29 23:59:59.123456', 'YYYY-MM-DD HH24:MI:SS.FF9'), "
        "TO_TIMESTAMP_TZ('2020-01-01 00:00:00 Europe/Berlin', 'YYYY-MM-DD HH24:MI:SS TZR'), "
        "TO_TIMESTAMP_TZ('2020-01-01 00:00:00 +02:00', 'YYYY-MM-DD HH24:MI:SS TZH:TZM'), "
        "INTERVAL '-1-2' YEAR TO MONTH, INTERVAL '-1 02:03:04.5' DAY TO SECOND, 'ab', UNISTR('\\00E4\\D83D\\DE01'), 'clob', "
        "UNISTR('\\00E4\\D83D\\DE01'), HEXTORAW('00FF'), HEXTORAW('DEAD'), XMLTYPE('<a>b</a>'))",
        "INSERT INTO MT (ID, N) VALUES (2, 1E125)",
        "INSERT INTO MT (ID, N) VALUES (3, -1E-130)",
        "INSERT INTO MT (ID, D) VALUES (4, TO_DATE('-0044-03-15', 'SYYYY-MM-DD'))",
        "INSERT INTO MT (ID, T9) VALUES (5, TO_TIMESTAMP('2020-01-01 00:00:00.123456789', 'YYYY-MM-DD HH24:MI:SS.FF9'))",
        "UPDATE MT SET RI = ROWID WHERE ID = 1",
    )
    found, reasons = read(server.open(), [f.name for f in server.open().schema("MT").schema])
    first = {name: str(value) for name, value in found[0].items()}
    place = first.pop("RI")
    assert len(place) == 18
    assert first == {
        "ID": "1",
        "N": "1234567890123456789012345678901234567890",
        "I": "12345678901234567890123456789012345678",
        "P": "1234567890123456789012345678.0123456789",
        "NEG": "12300",
        "SMALL": "0.00123",
        "F": "0.1",
        "BF": "0.10000000149011612",
        "BD": "inf",
        "D": "2020-02-29 23:59:59",
        "T9": "2020-02-29 23:59:59.123456",
        "TZ": "2019-12-31 23:00:00+00:00",
        "TL": "2019-12-31 22:00:00+00:00",
        "YM": "-01-02",
        "DS": "-01 -02:03:04.500000",
        "C": "ab   ",
        "NV": "ä😁",
        "CL": "clob",
        "NC": "ä😁",
        "B": r"b'\x00\xff'",
        "R": r"b'\xde\xad'",
        "X": first["X"],
    }
    assert "<a>b</a>" in first["X"]
    assert [Decimal(row["N"]) for row in found[1:]] == [Decimal("1E125"), Decimal("-1E-130")]
    assert [reason.split(":")[0] for reason in reasons] == ["D", "T9"]


DAY = "TO_DATE('{}-02-03 04:05:06', 'SYYYY-MM-DD HH24:MI:SS')"
MOMENT = "TO_TIMESTAMP('2020-01-01 00:00:00.{:09}', 'YYYY-MM-DD HH24:MI:SS.FF9')"
KEYS: dict[str, list[str]] = {
    "NUMBER(18)": [str(k) for k in (-(10**17), -7, -1, 0, 1, 2, 3, 1000, 10**17)],
    "NUMBER": ["-1E125", "-0.5", "0", "1E-130", "0.1", "1.5", "1E125", "123456789012345678901234567890.5"],
    "VARCHAR2(20)": ["' '", "'  '", "'a'", "'A'", "'a '", "'o''x'", "'a'||CHR(10)||'b'", "':x'", "'zß'"],
    "NVARCHAR2(20)": [r"UNISTR('\00E4')", r"UNISTR('\D83D\DE01')", "N'a'", r"UNISTR('\005C')", "N'Z'"],
    "CHAR(5)": ["'a'", "'b'", "'A'", "'a b'", "'zz'"],
    "RAW(16)": ["HEXTORAW('00')", "HEXTORAW('0000')", "HEXTORAW('FF')", "HEXTORAW('80AB')"],
    "DATE": [DAY.format(year) for year in ("-4712", " 1999", " 9999", " 0001")],
    "TIMESTAMP(9)": [MOMENT.format(n) for n in range(5)],
}


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("size", [1, 3])
def test_partitions_tile_a_table_by_any_key(server: Server, kind: str, size: int) -> None:
    keys = KEYS[kind]
    server.table("MT", f"(K {kind} PRIMARY KEY, N NUMBER(9))")
    server.execute(*[f"INSERT INTO MT VALUES ({key}, {n})" for n, key in enumerate(keys)])
    source = server.open()
    parts = partitions(source, size)
    assert len(parts) >= len(keys) // size
    assert sum(source.count(p) for p in parts) == len(keys)
    assert sorted(row["N"] for p in parts for b in source.read(p, ["N"]) for row in b.rows.to_pylist()) == list(
        range(len(keys))
    )


@pytest.mark.parametrize("index", [True, False])
def test_keys_that_are_null_or_doubled_are_read_once(server: Server, index: bool) -> None:
    server.table("MT", "(K NUMBER(9), N NUMBER(9))")
    if index:
        server.execute("CREATE INDEX MT_K ON MT (K)")
    server.execute(*[f"INSERT INTO MT VALUES ({'NULL' if n % 3 == 0 else n % 5}, {n})" for n in range(60)])
    source = server.open()
    parts = partitions(source, 4)
    assert len(parts) > 1
    twice = [[row["N"] for p in parts for b in source.read(p, ["N"]) for row in b.rows.to_pylist()] for _ in range(2)]
    assert twice[0] == twice[1]
    assert sorted(twice[0]) == list(range(60))


def test_what_is_written_meanwhile_is_not_read(server: Server) -> None:
    server.table("MT", "(K NUMBER(9) PRIMARY KEY, N NUMBER(9))")
    server.execute(*[f"INSERT INTO MT VALUES ({n}, {n})" for n in range(20)])
    source = server.open()
    parts = partitions(source, 5)
    server.execute("INSERT INTO MT VALUES (-1, -1)", "UPDATE MT SET N = 99 WHERE K = 7", "DELETE FROM MT WHERE K = 8")
    assert [row["N"] for p in parts for b in source.read(p, ["N"]) for row in b.rows.to_pylist()] == list(range(20))
    watermark = source.watermark()
    assert watermark is not None
    assert watermark.kind == "scn"


def test_names_of_any_spelling(server: Server) -> None:
    server.table('"Mt Mixed"', '("a b" NUMBER(9) PRIMARY KEY, "c\'d" VARCHAR2(9), "A B" NUMBER(9))')
    server.execute("INSERT INTO \"Mt Mixed\" VALUES (1, 'x', 2)")
    source = server.open()
    assert "Mt Mixed" in source.tables()
    assert read(source, ["a b", "c'd", "A B"], table="Mt Mixed")[0] == [{"a b": 1, "c'd": "x", "A B": 2}]
    assert read(source, ["a b"], table="mt mixed")[0] == [{"a b": 1}]


def test_a_view_an_index_organized_table_and_hidden_columns(server: Server) -> None:
    server.table(
        "MT", "(K NUMBER(9), N NUMBER(9), H NUMBER(9) INVISIBLE, V AS (N * 2), PRIMARY KEY (K)) ORGANIZATION INDEX"
    )
    server.execute(
        "INSERT INTO MT (K, N, H) VALUES (1, 2, 3)", "CREATE OR REPLACE VIEW MT_V AS SELECT K, N / 4 Q FROM MT"
    )
    server.made.insert(0, "VIEW MT_V")
    source = server.open()
    assert read(source, ["K", "N", "H", "V"])[0] == [{"K": 1, "N": 2, "H": 3, "V": "4"}]
    assert read(source, ["Q"], table="MT_V")[0] == [{"Q": "0.5"}]


def test_a_slow_reader_of_large_values_keeps_few_in_memory(server: Server) -> None:
    server.table("MT", "(K NUMBER(9) PRIMARY KEY, DOC CLOB, AT TIMESTAMP)")
    with server.connection.cursor() as cursor:
        cursor.setinputsizes(None, oracledb.DB_TYPE_CLOB)
        cursor.executemany("INSERT INTO MT VALUES (:1, :2, SYSTIMESTAMP)", [(n, "x" * 1_000_000) for n in range(40)])
    server.connection.commit()
    source = server.open()
    [part] = partitions(source, 1000)
    sizes = [(b.rows.num_rows, b.rows.nbytes) for b in source.read(part, ["K", "DOC"])]
    assert sum(rows for rows, _ in sizes) == 40
    assert max(size for _, size in sizes) < 64 << 20
    stream = source.read(part, ["K"])
    assert isinstance(next(stream).rows.column(0)[0].as_py(), int)
    stream.close()  # type: ignore[attr-defined]


def test_several_threads_read_at_once(server: Server) -> None:
    server.table("MT", "(K NUMBER(9) PRIMARY KEY)")
    server.execute(*[f"INSERT INTO MT VALUES ({n})" for n in range(200)])
    source = server.open(connections=3)
    found: list[int] = []

    def work(part: Partition) -> None:
        found.extend(row["K"] for b in source.read(part, ["K"]) for row in b.rows.to_pylist())

    threads = [threading.Thread(target=work, args=(part,)) for part in partitions(source, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(200))


# ------------------------------------------------------------------------------------- what init, check and verify ask


def test_what_is_asked_before_a_run_is_understood_whatever_is_granted(server: Server) -> None:
    server.table("MT", "(ID NUMBER(9) PRIMARY KEY, D DATE, V VARCHAR2(20))")
    server.execute(
        "INSERT INTO MT VALUES (1, TO_DATE('-0044-03-15', 'SYYYY-MM-DD'), 'ä')", "INSERT INTO MT (ID) VALUES (2)"
    )
    source = server.open()
    found = {each.what: each for each in source.preflight(["MT"])}
    assert [each for each in found.values() if each.level == "error"] == []
    assert {"version", "character set", "connections", "undo", "log", "MT"} <= found.keys()
    assert found["MT"].said == "D: 1 of the first 2 are no date and time, and reject their row"
    assert list(source.doubts("MT")) == ["D"]
    running = source.load()
    assert running is None or running >= 0


def test_a_parallel_statement_of_ours_is_no_load(server: Server) -> None:
    """Where V$SESSION may be read, and nobody else works on the server."""
    server.table("MT", "(ID NUMBER(9))")
    server.execute("INSERT INTO MT SELECT LEVEL FROM DUAL CONNECT BY LEVEL <= 100000", "ALTER TABLE MT PARALLEL 4")
    source = server.open()
    before = source.load()
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            partitions(source, 1000)

    thread = threading.Thread(target=work)
    thread.start()
    seen = [source.load() for _ in range(50)]
    stop.set()
    thread.join()
    assert before is None or max(n for n in seen if n is not None) <= before


def test_references_and_views_are_told(server: Server) -> None:
    server.table("MT", "(A NUMBER(9), B VARCHAR2(9), PRIMARY KEY (A, B))")
    server.table(
        "MT2",
        "(ID NUMBER(9) PRIMARY KEY, X NUMBER(9), Y VARCHAR2(9), UP NUMBER(9) REFERENCES MT2, "
        "CONSTRAINT MT2_X FOREIGN KEY (X, Y) REFERENCES MT)",
    )
    server.execute("CREATE OR REPLACE VIEW MT_V AS SELECT A FROM MT")
    server.made.insert(0, "VIEW MT_V")
    source = server.open()
    assert set(source.references("MT2")) == {
        Reference(("X", "Y"), "MT", ("A", "B")),
        Reference(("UP",), "MT2", ("ID",)),
    }
    assert "MT_V" not in source.tables()
    assert ("MT_V", "view") in source.offers()


AGGREGATES: list[tuple[str, str, Kind, Quantity, str]] = [
    ("N", "1234567890123456.7891", "number", "sum", "1234567890123456.7891"),
    ("D", "TO_DATE('1500-02-28 23:59:59', 'YYYY-MM-DD HH24:MI:SS')", "moment", "sum", "-14826672001000000"),
    ("TS", "TO_TIMESTAMP('1969-12-31 23:59:59.5', 'YYYY-MM-DD HH24:MI:SS.FF')", "moment", "least", "-500000"),
    ("TZ", "TO_TIMESTAMP_TZ('1970-01-01 02:00:00 +02:00', 'YYYY-MM-DD HH24:MI:SS TZH:TZM')", "moment", "most", "0"),
    ("TL", "TO_TIMESTAMP_TZ('1970-01-01 02:00:00 +02:00', 'YYYY-MM-DD HH24:MI:SS TZH:TZM')", "moment", "most", "0"),
    ("V", r"TO_CHAR(UNISTR('\00E4\D83D\DE01'))", "text", "length", "2"),
    ("V", r"TO_CHAR(UNISTR('\00E4\D83D\DE01'))", "text", "digest", str(int(md5("ä😁".encode()).hexdigest()[:8], 16))),
    ("NV", r"UNISTR('\00E4\D83D\DE01')", "text", "length", "2"),
    ("NV", r"UNISTR('\00E4\D83D\DE01')", "text", "digest", str(int(md5("ä😁".encode()).hexdigest()[:8], 16))),
    ("C", "'ab'", "padded", "length", "2"),
    ("C", "' '", "padded", "digest", str(0xD41D8CD9)),
    ("R", "HEXTORAW('00FF')", "bytes", "length", "2"),
    ("R", "HEXTORAW('00FF')", "bytes", "digest", str(int(md5(b"\x00\xff").hexdigest()[:8], 16))),
    ("B", "HEXTORAW('00FF')", "bytes", "length", "2"),
    ("B", "HEXTORAW('00FF')", "bytes", "values", "1"),
    ("CL", "'x'", "text", "values", "1"),
    ("BF", "0.1", "real", "most", "0.10000000149011612"),
    ("BD", "0.1", "real", "least", "0.1"),
]


@pytest.mark.parametrize(("name", "value", "kind", "quantity", "expected"), AGGREGATES)
def test_an_aggregate_is_what_postgresql_computes(
    server: Server, name: str, value: str, kind: Kind, quantity: Quantity, expected: str
) -> None:
    server.table(
        "MT",
        "(ID NUMBER(9) PRIMARY KEY, N NUMBER(20,4), D DATE, TS TIMESTAMP(6), TZ TIMESTAMP WITH TIME ZONE, "
        "TL TIMESTAMP WITH LOCAL TIME ZONE, V VARCHAR2(20), NV NVARCHAR2(20), C CHAR(5), R RAW(9), B BLOB, CL CLOB, "
        "BF BINARY_FLOAT, BD BINARY_DOUBLE)",
    )
    server.execute(f"INSERT INTO MT (ID, {name}) VALUES (1, {value})", "INSERT INTO MT (ID) VALUES (2)")
    source = server.open()
    measure = Measure(name, kind, quantity)
    if not source.computes("MT", measure):
        pytest.skip("the database's character set is not AL32UTF8")
    assert source.aggregates("MT", [measure], None) == [Decimal(expected)]
    assert source.aggregates("MT", [measure], [("1",)]) == [Decimal(expected)]


def test_an_empty_clob_is_a_value(server: Server) -> None:
    """Which it is to the server; a difference here is a reader that makes NULL of it."""
    server.table("MT", "(ID NUMBER(9) PRIMARY KEY, CL CLOB)")
    server.execute("INSERT INTO MT VALUES (1, EMPTY_CLOB())")
    source = server.open()
    assert source.aggregates("MT", [Measure("CL", "text", "values")], None) == [Decimal(1)]
    assert read(source, ["CL"])[0] == [{"CL": ""}]
