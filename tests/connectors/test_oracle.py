"""Oracle without a server: statements, types, keys, errors, and the read path on genuine frames of the driver's."""

import json
import socket
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import oracledb
import psycopg
import pyarrow as pa
import pytest
from oracledb.arrow_impl import ArrowSchemaImpl
from oraclerig import URL, Answer, Column, Script, catalogue, column, dpy, ora

from connectors import oracletypes as types
from connectors.dburl import parse
from connectors.keyrange import Slice
from connectors.oracle import open_url
from connectors.oraclecatalogue import candidates, chosen
from connectors.oracledriver import URL_OPTIONS, explained
from connectors.relational import Select, Tables
from migrate.core import Partition
from migrate.errors import RetryableError, SourceError, UsageError

TM9 = "'TM9', 'NLS_NUMERIC_CHARACTERS=''.,'''"
ID = column("ID", "NUMBER", precision=9, scale=0, nullable=False)


def made(columns: list[Column], **more: Any) -> Script:
    return Script(catalogue(columns, **more))


def statement(script: Script) -> str:
    """The last one that read rows."""
    return next(sql for sql in reversed(script.asked) if " c0" in sql)


def contents(source: Tables, columns: list[str], table: str = "T", rows: int = 1000) -> tuple[list[Any], list[str]]:
    """All rows, and why others were rejected."""
    found: list[Any] = []
    reasons: list[str] = []
    for part in list(source.partitions(source.schema(table), rows=rows, bytes=1 << 24)):
        for batch in source.read(part, columns):
            found += batch.rows.to_pylist()
            reasons += [reject.reason for reject in batch.rejects]
    return found, reasons


def sliced(part: Partition) -> Slice:
    """What a partition's token says of its slice."""
    said = json.loads(part.token)
    ends = {end: tuple(said[end]) for end in ("after", "upto") if end in said}
    return Slice(null=said.get("null", False), own=said.get("own"), **ends)


# --------------------------------------------------------------------------------------------------------------- types

TYPES: list[tuple[Column, pa.DataType, str, str]] = [
    (column("X", "NUMBER", precision=4, scale=0), pa.int16(), 't."X"', ""),
    (column("X", "NUMBER", precision=9, scale=0), pa.int32(), 't."X"', ""),
    (column("X", "NUMBER", precision=18, scale=0), pa.int64(), 't."X"', ""),
    (column("X", "NUMBER", precision=19, scale=0), pa.decimal128(19, 0), 't."X"', "numeric(19,0)"),
    (column("X", "NUMBER", precision=38, scale=10), pa.decimal128(38, 10), 't."X"', "numeric(38,10)"),
    (column("X", "NUMBER", precision=3, scale=-2), pa.int32(), 't."X"', ""),
    (column("X", "NUMBER", precision=3, scale=5), pa.decimal128(5, 5), 't."X"', "numeric(5,5)"),
    (column("X", "NUMBER", precision=38, scale=-84), pa.string(), f'TO_CHAR(t."X", {TM9})', "numeric(122,0)"),
    (column("X", "NUMBER", precision=10, scale=127), pa.string(), f'TO_CHAR(t."X", {TM9})', "numeric(127,127)"),
    (column("X", "NUMBER"), pa.string(), f'TO_CHAR(t."X", {TM9})', "numeric"),
    (column("X", "NUMBER", scale=0), pa.decimal128(38, 0), f'TO_CHAR(t."X", {TM9})', "numeric(38,0)"),
    (column("X", "NUMBER", precision=9, scale=0, virtual=True), pa.int32(), f'TO_CHAR(t."X", {TM9})', ""),
    (column("X", "FLOAT", precision=126), pa.string(), f'TO_CHAR(t."X", {TM9})', "numeric"),
    (column("X", "BINARY_FLOAT"), pa.float32(), 't."X"', ""),
    (column("X", "BINARY_DOUBLE"), pa.float64(), 't."X"', ""),
    (column("X", "DATE"), pa.timestamp("us"), "LTRIM(TO_CHAR(t.\"X\", 'SYYYY-MM-DD HH24:MI:SS'))", "timestamp(0)"),
    (
        column("X", "TIMESTAMP(6)", scale=6),
        pa.timestamp("us"),
        "LTRIM(TO_CHAR(t.\"X\", 'SYYYY-MM-DD HH24:MI:SS.FF6'))",
        "timestamp(6)",
    ),
    (
        column("X", "TIMESTAMP(9)", scale=9),
        pa.timestamp("us"),
        "LTRIM(TO_CHAR(t.\"X\", 'SYYYY-MM-DD HH24:MI:SS.FF9'))",
        "timestamp(6)",
    ),
    (
        column("X", "TIMESTAMP(0) WITH TIME ZONE", scale=0),
        pa.timestamp("us", "UTC"),
        "LTRIM(TO_CHAR(SYS_EXTRACT_UTC(t.\"X\"), 'SYYYY-MM-DD HH24:MI:SS'))",
        "timestamptz(0)",
    ),
    (
        column("X", "TIMESTAMP(3) WITH LOCAL TIME ZONE", scale=3),
        pa.timestamp("us", "UTC"),
        "LTRIM(TO_CHAR(t.\"X\", 'SYYYY-MM-DD HH24:MI:SS.FF3'))",
        "timestamptz(3)",
    ),
    (column("X", "INTERVAL YEAR(2) TO MONTH", scale=0), pa.string(), 'TO_CHAR(t."X")', "interval"),
    (column("X", "INTERVAL DAY(2) TO SECOND(6)", scale=6), pa.string(), 'TO_CHAR(t."X")', "interval"),
    (column("X", "CHAR", length=3), pa.string(), 't."X"', "char(3)"),
    (column("X", "NVARCHAR2", length=20), pa.string(), 't."X"', "varchar(20)"),
    (column("X", "CLOB"), pa.string(), 't."X"', ""),
    (column("X", "LONG"), pa.string(), 't."X"', ""),
    (column("X", "RAW", length=16), pa.binary(), 't."X"', ""),
    (column("X", "BLOB"), pa.binary(), 't."X"', ""),
    (column("X", "LONG RAW"), pa.binary(), 't."X"', ""),
    (column("X", "BFILE"), pa.binary(), 'TO_BLOB(t."X")', ""),
    (column("X", "ROWID"), pa.string(), 'ROWIDTOCHAR(t."X")', "text"),
    (column("X", "UROWID"), pa.string(), 'CAST(t."X" AS VARCHAR2(4000))', "text"),
    (column("X", "BOOLEAN"), pa.bool_(), 't."X"', ""),
    (column("X", "XMLTYPE", owner="PUBLIC"), pa.string(), 'XMLSERIALIZE(CONTENT t."X" AS CLOB)', "xml"),
    (column("X", "JSON"), pa.string(), 'JSON_SERIALIZE(t."X" RETURNING CLOB ERROR ON ERROR)', "jsonb"),
    (column("X", "VECTOR"), pa.string(), 'FROM_VECTOR(t."X" RETURNING CLOB)', "text"),
]


@pytest.mark.parametrize(
    ("given", "arrow", "select", "suggested"), TYPES, ids=lambda p: p[1] if isinstance(p, tuple) else ""
)
def test_each_type_is_read_exactly_or_as_text(given: Column, arrow: pa.DataType, select: str, suggested: str) -> None:
    field = made([given]).engine().relation("T").field("X")
    assert (field.type, field.select, field.suggested) == (arrow, select, suggested)


def test_a_view_may_not_know_the_precision_of_its_numbers() -> None:
    """A table below it may have been altered since the view was compiled: then the driver would cut what it did not expect."""
    field = made([column("X", "NUMBER", precision=9, scale=0)], kind="view").engine().relation("T").field("X")
    assert field.select == f'TO_CHAR(t."X", {TM9})'
    assert field.type == pa.int32()


def test_an_object_type_is_named_and_not_left_out_in_silence() -> None:
    script = made([ID, column("HOME", "ADDRESS", owner="HR"), column("TAGS", "TAG_LIST", owner="OWN")], primary=("ID",))
    table = script.source().schema("T")
    assert table.schema.names == ["ID"]
    assert [w.split(":")[0] for w in table.warnings] == ["HOME", "TAGS"]
    assert "HR.ADDRESS" in table.warnings[0]


def test_a_table_of_which_nothing_can_be_read_is_an_error() -> None:
    with pytest.raises(SourceError, match="no column that can be read"):
        made([column("HOME", "ADDRESS", owner="HR")]).source().schema("T")


def test_what_is_lost_or_computed_is_said() -> None:
    columns = [
        column("Z", "TIMESTAMP(9) WITH TIME ZONE", scale=9),
        column("V", "VARCHAR2", length=3, virtual=True),
        column("H", "VARCHAR2", length=3, hidden=True),
        column("h", "VARCHAR2", length=3),
        column("G", "SDO_GEOMETRY", owner="MDSYS"),
        column("B", "BFILE"),
    ]
    notes = "\n".join(made(columns).source().schema("T").notes)
    for part in (
        "Z: a value finer",
        "time zone",
        "V: computed",
        "H: invisible",
        "differ in case",
        "G: ",
        "SRID",
        "B: ",
    ):
        assert part in notes


def test_the_driver_is_asked_for_decimals_never_for_whole_numbers() -> None:
    """Asked for an integer, it reads "1.5" as 1."""
    relation = made([ID, column("S", "VARCHAR2", length=3), column("B", "BINARY_DOUBLE")]).engine().relation("T")
    assert types.requested(relation.fields).types == [pa.decimal128(9, 0), pa.string(), pa.float64()]


# ----------------------------------------------------------------------------------------------------------- statements

WIDE = [
    ID,
    column("Name", "VARCHAR2", length=50),
    column("BORN", "DATE"),
    column("BALANCE", "NUMBER"),
    column("DOC", "CLOB"),
    column("SEEN", "TIMESTAMP(3) WITH TIME ZONE", scale=3),
]


def selected(script: Script, slice_: Slice, table: str = "T") -> str:
    engine = script.engine()
    source = Tables(engine, 1)
    relation = engine.relation(table)
    return engine.spell(Select(relation, relation.fields, source._where(relation, slice_), 1 << 23, slice_))


def test_a_slice_is_one_statement_as_of_the_scn() -> None:
    assert selected(made(WIDE, primary=("ID",)), Slice(("1",), ("7",))) == (
        'SELECT t."ID" c0, t."Name" c1, LTRIM(TO_CHAR(t."BORN", \'SYYYY-MM-DD HH24:MI:SS\')) c2, '
        f'TO_CHAR(t."BALANCE", {TM9}) c3, '
        't."DOC" c4, LTRIM(TO_CHAR(SYS_EXTRACT_UTC(t."SEEN"), \'SYYYY-MM-DD HH24:MI:SS.FF3\')) c5 '
        'FROM "OWN"."T" AS OF SCN 4711 t WHERE "ID" > 1 AND "ID" <= 7 ORDER BY t."ID"'
    )


COMPOSITE = [
    column("A", "VARCHAR2", length=9, nullable=False),
    column("D", "DATE", nullable=False),
    column("N", "NVARCHAR2", length=9, nullable=False),
]


def test_composite_keys_compare_by_literals_of_their_own_types() -> None:
    sql = selected(made(COMPOSITE, primary=("A", "D", "N")), Slice(upto=("o'x", "2020-02-29 23:59:59", "ä1\\😁")))
    moment = "TO_DATE(' 2020-02-29 23:59:59', 'SYYYY-MM-DD HH24:MI:SS')"
    text = "UNISTR('\\00E41\\005C\\D83D\\DE01')"
    assert sql.partition(" WHERE ")[2] == (
        f"\"A\" <= 'o''x' AND ((\"A\" < 'o''x') OR (\"A\" = 'o''x' AND \"D\" < {moment}) "
        f'OR ("A" = \'o\'\'x\' AND "D" = {moment} AND "N" <= {text})) ORDER BY t."A", t."D", t."N"'
    )


@pytest.mark.parametrize(
    ("kind", "text", "sql"),
    [
        (column("X", "NUMBER"), "-.5", "-.5"),
        (column("X", "NUMBER"), "1.2E+100", "1.2E+100"),
        (column("X", "RAW", length=16), "DEADBEEF", "HEXTORAW('DEADBEEF')"),
        (column("X", "CHAR", length=3), "a  ", "'a  '"),
        (column("X", "VARCHAR2", length=3), "a\0b", "'a'||CHR(0)||'b'"),
        (column("X", "NCHAR", length=3), "a'b", "N'a''b'"),
        (column("X", "DATE"), "-4712-01-01 00:00:00", "TO_DATE('-4712-01-01 00:00:00', 'SYYYY-MM-DD HH24:MI:SS')"),
        (
            column("X", "TIMESTAMP(9)", scale=9),
            "2020-01-01 00:00:00.123456789",
            "TO_TIMESTAMP(' 2020-01-01 00:00:00.123456789', 'SYYYY-MM-DD HH24:MI:SS.FF9')",
        ),
        (
            column("X", "TIMESTAMP(0)", scale=0),
            "2020-01-01 00:00:00",
            "TO_TIMESTAMP(' 2020-01-01 00:00:00', 'SYYYY-MM-DD HH24:MI:SS')",
        ),
    ],
)
def test_a_key_is_compared_as_the_column_is(kind: Column, text: str, sql: str) -> None:
    engine = made([kind]).engine()
    assert engine.literal(engine.relation("T").field("X"), text) == sql


def test_a_number_that_is_none_is_never_put_into_a_statement() -> None:
    engine = made([ID]).engine()
    with pytest.raises(SourceError, match="is no NUMBER"):
        engine.literal(engine.relation("T").field("ID"), "1 OR 1=1")


def test_a_boundary_walks_along_the_index_and_stops() -> None:
    engine = made(COMPOSITE, primary=("A", "D", "N")).engine()
    assert engine.boundary(engine.relation("T"), "\"A\" > 'x'", 500) == (
        "SELECT k0, LTRIM(TO_CHAR(k1, 'SYYYY-MM-DD HH24:MI:SS')), k2 FROM (SELECT k0, k1, k2, ROWNUM n FROM ("
        'SELECT t."A" k0, t."D" k1, t."N" k2 FROM "OWN"."T" AS OF SCN 4711 t WHERE "A" > \'x\' ORDER BY t."A", t."D", t."N"'
        ") WHERE ROWNUM <= 500) WHERE n = 500"
    )


def test_a_key_that_may_be_null_has_a_slice_for_null() -> None:
    answers = catalogue([column("K", "NUMBER", precision=9, scale=0)], indexes={"I": (False, ("K", "X"))})
    boundaries = iter([[("5",)], [("9",)], []])
    script = Script({**answers, "ROWNUM": lambda sql: next(boundaries)})
    source = script.source()
    parts = list(source.partitions(source.schema("T"), rows=4, bytes=1 << 20))
    assert [sliced(p) for p in parts] == [
        Slice(null=True),
        Slice(None, ("5",)),
        Slice(("5",), ("9",)),
        Slice(("9",), None),
    ]
    walks = [sql for sql in script.asked if "ROWNUM" in sql]
    assert 'WHERE "K" IS NOT NULL AND t."K" IS NOT NULL ORDER BY' in walks[0]
    assert 'WHERE "K" > 5 AND t."K" IS NOT NULL ORDER BY' in walks[1]
    assert 'WHERE "K" IS NULL ORDER BY t."K", t.ROWID' in selected(script, Slice(null=True))
    assert "cut by the index on K" in " ".join(source.schema("T").notes)


def test_a_table_without_an_index_is_cut_by_the_places_of_its_rows() -> None:
    answers = catalogue([column("A", "VARCHAR2", length=3)])
    script = Script({**answers, "MOD(n, 2)": [("AAA+",), ("AAB/",)]})
    source = script.source()
    parts = list(source.partitions(source.schema("T"), rows=2, bytes=1 << 20))
    assert [sliced(p).own for p in parts] == [":AAA+", "AAA+:AAB/", "AAB/:"]
    assert script.asked[-1] == (
        'SELECT ROWIDTOCHAR(r) FROM (SELECT ROWID r, ROW_NUMBER() OVER (ORDER BY ROWID) n FROM "OWN"."T" AS OF SCN 4711) '
        "WHERE MOD(n, 2) = 0 ORDER BY n"
    )
    assert selected(script, sliced(parts[1])) == (
        'SELECT t."A" c0 FROM "OWN"."T" AS OF SCN 4711 t '
        "WHERE ROWID > CHARTOROWID('AAA+') AND ROWID <= CHARTOROWID('AAB/') ORDER BY t.ROWID"
    )
    assert "ROWID" in " ".join(source.schema("T").notes)


def test_a_view_is_one_slice_in_an_order_that_is_the_same_each_time() -> None:
    script = made([column("A", "VARCHAR2", length=3), column("D", "CLOB"), column("N", "NUMBER")], kind="view")
    source = script.source()
    [part] = source.partitions(source.schema("T"), rows=2, bytes=1 << 20)
    assert selected(script, sliced(part)).endswith(
        f'FROM "OWN"."T" AS OF SCN 4711 t ORDER BY t."A", TO_CHAR(t."N", {TM9})'
    )
    assert "one slice" in " ".join(source.schema("T").notes)


def test_a_count_is_as_of_the_scn_too() -> None:
    script = Script({**catalogue([ID], primary=("ID",)), "COUNT(*)": [(3,)], "ROWNUM": []})
    source = script.source()
    [part] = source.partitions(source.schema("T"), rows=10, bytes=1 << 20)
    assert source.count(part) == 3
    assert script.asked[-1] == 'SELECT COUNT(*) FROM "OWN"."T" AS OF SCN 4711'


def test_names_with_quotes_and_blanks_are_quoted() -> None:
    assert made([ID]).engine().quoted('a "b" c') == '"a ""b"" c"'


# ----------------------------------------------------------------------------------------------------------------- keys

Indexes = Mapping[str, tuple[bool, tuple[str, ...]]]
SURE = [column(n, "NUMBER", precision=9, scale=0, nullable=False) for n in ("A", "B", "C")]
FLOATS = [column("F", "BINARY_DOUBLE", nullable=False), column("N", "NUMBER", precision=9, scale=0, distinct=3)]


@pytest.mark.parametrize(
    ("columns", "primary", "indexes", "rows", "expected"),
    [
        (SURE, ("A", "B"), {"U": (True, ("C",))}, 0, (("A", "B"), ("A", "B"), False)),
        (SURE, (), {"U": (True, ("A", "B")), "V": (True, ("C",)), "I": (False, ("A",))}, 0, (("C",), ("C",), False)),
        (SURE, (), {"I": (False, ("B", "A"))}, 0, ((), ("B",), False)),
        (FLOATS, ("F",), {}, 0, (("F",), (), False)),
        (FLOATS, (), {"I": (False, ("N",))}, 300, ((), ("N",), True)),
        (FLOATS, (), {"I": (False, ("N",))}, 301, ((), (), False)),
        (FLOATS, (), {"I": (True, ("N",))}, 301, ((), ("N",), True)),
        (FLOATS, (), {"I": (False, ("F",)), "J": (False, ("SYS_NC00003$",))}, 0, ((), (), False)),
    ],
)
def test_what_a_table_is_cut_by(
    columns: list[Column], primary: tuple[str, ...], indexes: Indexes, rows: int, expected: tuple[Any, ...]
) -> None:
    found = made(columns, primary=primary, indexes=indexes, rows=rows).engine().relation("T")
    assert (found.key, found.ranged, found.nullable) == expected


# ---------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("asked", "found", "expected"),
    [
        ("customers", ["CUSTOMERS", "Customers"], "CUSTOMERS"),
        ("Customers", ["CUSTOMERS", "Customers"], "Customers"),
        ('"Customers"', ["CUSTOMERS"], None),
        ('"Customers"', ["CUSTOMERS", "Customers"], "Customers"),
        ("customers", ["Customers"], "Customers"),
        ("customers", [], None),
    ],
)
def test_which_name_is_meant(asked: str, found: list[str], expected: str | None) -> None:
    assert chosen(asked, found) == expected


def test_a_name_that_may_be_several_is_an_error_that_names_them() -> None:
    with pytest.raises(UsageError, match="Customers, cUSTOMERS"):
        chosen("customers", ["Customers", "cUSTOMERS"])


def test_dots_may_be_part_of_a_schema_or_of_a_table() -> None:
    assert list(candidates("a.b.c", "OWN")) == [("OWN", "a.b.c"), ("a", "b.c"), ("a.b", "c")]
    assert list(candidates('"a.b".c', "OWN")) == [("OWN", '"a.b".c'), ('"a.b"', "c")]


def test_tables_of_other_schemas_are_named_with_theirs() -> None:
    names = [("OWN", "T"), ("OWN", "t"), ("HR", "EMPLOYEES")]
    script = made([ID], names=names)
    source = script.source()
    assert source.tables() == ["T", "t"]
    assert source.offers() == [("HR.EMPLOYEES", "table of another schema")]
    assert (source.engine.relation("hr.employees").schema, source.engine.relation("hr.employees").table) == names[2]
    assert source.engine.relation("t").table == "t"
    assert "there is also t" in " ".join(source.schema("T").notes)
    with pytest.raises(UsageError) as raised:
        source.schema("HR.EMPLOYES")
    assert "HR.EMPLOYEES" in raised.value.hint


# ---------------------------------------------------------------------------------------------------------- what is read

PEOPLE = [
    ID,
    column("NAME", "VARCHAR2", length=20),
    column("BORN", "DATE"),
    column("SEEN", "TIMESTAMP(9)", scale=9),
    column("BALANCE", "NUMBER"),
    column("LASTS", "INTERVAL DAY(2) TO SECOND(9)", scale=9),
    column("TOTAL", "NUMBER", precision=20, scale=4),
    column("PHOTO", "BLOB"),
    column("RATIO", "BINARY_DOUBLE"),
    column("ACTIVE", "BOOLEAN"),
]
ROWS = pa.table(
    {
        "id": [Decimal(1), Decimal(2), Decimal(3)],
        "name": ["Ä", "o'x", None],
        "born": ["1999-12-31 23:59:59", "-0044-03-15 00:00:00", "9999-12-31 00:00:00"],
        "seen": ["2020-01-01 00:00:00.123456000", None, "2020-01-01 00:00:00.123456789"],
        "balance": ["-.5", "1E+100", None],
        "lasts": ["-01 02:03:04.500000000", "+00 00:00:00.000000000", None],
        "total": [Decimal("1234567890123456.7891"), Decimal(0), None],
        "photo": [b"\x00\xff", b"", None],
        "ratio": [float("inf"), 0.1, None],
        "active": [True, False, None],
    }
)


def test_values_arrive_exactly_and_others_reject_their_row() -> None:
    script = Script({**catalogue(PEOPLE, primary=("ID",)), "ROWNUM": [], "GETLENGTH": [(2,)]}, ROWS)
    found, reasons = contents(script.source(), [c[0] for c in PEOPLE])
    assert [{k: str(v) for k, v in row.items()} for row in found] == [
        {
            "ID": "1",
            "NAME": "Ä",
            "BORN": "1999-12-31 23:59:59",
            "SEEN": "2020-01-01 00:00:00.123456",
            "BALANCE": "-0.5",
            "LASTS": "-01 -02:03:04.500000",
            "TOTAL": "1234567890123456.7891",
            "PHOTO": r"b'\x00\xff'",
            "RATIO": "inf",
            "ACTIVE": "True",
        }
    ]
    assert [reason.partition(" of the source")[0] for reason in reasons] == [
        "BORN: '-0044-03-15 00:00:00'",
        "SEEN: '2020-01-01 00:00:00.123456789'",
    ]


def test_a_text_that_is_no_utf_8_rejects_its_row_only() -> None:
    names = pa.array([b"ok", b"\xe4", b"fine"]).view(pa.string())
    script = Script(
        {**catalogue(PEOPLE[:2], primary=("ID",)), "ROWNUM": []}, ROWS.select(["id"]).append_column("name", names)
    )
    found, reasons = contents(script.source(), ["NAME"])
    assert found == [{"NAME": "ok"}, {"NAME": "fine"}]
    assert len(reasons) == 1
    assert "'e4'" in reasons[0]


@pytest.mark.parametrize(
    "text", ["-01 02:03:04.5", "+01 02:03:04.500000", "-00 00:00:00.000001", "+999999999 23:59:59.999999"]
)
def test_an_interval_means_to_postgresql_what_it_means_to_oracle(conn: psycopg.Connection[Any], text: str) -> None:
    field = made([PEOPLE[5]]).engine().relation("T").field("LASTS")
    [said] = types.received(field, pa.array([text])).to_pylist()
    days, _, clock = text[1:].partition(" ")
    hours, minutes, seconds = clock.split(":")
    whole = ((int(days) * 24 + int(hours)) * 60 + int(minutes)) * 60 + Decimal(seconds)
    row = conn.execute("SELECT extract(epoch FROM %s::interval)", (said,)).fetchone()
    assert row == (-whole if text[0] == "-" else whole,)


def test_an_interval_of_months_is_read_by_postgresql(conn: psycopg.Connection[Any]) -> None:
    row = conn.execute("SELECT '-12-03'::interval = '-147 months', '+000000001-02'::interval = '14 months'").fetchone()
    assert row == (True, True)


def numbers(count: int) -> pa.Table:
    return pa.table({"id": pa.array(range(count)).cast(pa.decimal128(19, 0)).cast(pa.decimal128(9, 0), safe=False)})


def test_frames_are_as_many_rows_as_fit_and_put_together() -> None:
    script = Script({**catalogue([ID], primary=("ID",), row_bytes=1000), "ROWNUM": []}, numbers(10_000))
    source = script.source()
    engine = source.engine
    relation = engine.relation("T")
    session = engine.reopen()
    batches = list(session.stream(Select(relation, relation.fields, "", 100_000, Slice())))
    assert script.sizes == [2500]  # 40 bytes at most, whatever the estimate says
    assert all(b.nbytes < 200_000 for b in batches)
    assert [v for b in batches for v in b.column(0).to_pylist()] == list(range(10_000))


def test_a_damaged_text_in_one_frame_does_not_hinder_the_others() -> None:
    names = pa.array([b"a"] * 4000 + [b"\xe4"] + [b"z"] * 3999).view(pa.string())
    script = made([ID, PEOPLE[1]], primary=("ID",))
    script.rows = numbers(8000).append_column("name", names)
    engine = script.engine()
    relation = engine.relation("T")
    stream = engine.reopen().stream(Select(relation, relation.fields, "", 100_000, Slice()))
    found = [value for batch in stream for value in batch.column(1).cast(pa.binary()).to_pylist()]
    assert len(script.sizes) == 1
    assert script.sizes[0] < 4000
    assert found == names.view(pa.binary()).to_pylist()


def test_large_values_are_measured_before_they_are_fetched() -> None:
    columns = [ID, column("DOC", "CLOB")]
    rows = numbers(10).append_column("doc", pa.array(["x" * 100] * 10))
    script = Script(
        {**catalogue(columns, primary=("ID",), row_bytes=50), "ROWNUM": [], "GETLENGTH": [(3_000_000,)]}, rows
    )
    source = script.source()
    found, _ = contents(source, ["ID", "DOC"])
    assert len(found) == 10
    assert script.sizes == [2]  # of 3 MB each, where 8 MB may be in memory
    assert any('MAX(NVL(DBMS_LOB.GETLENGTH(t."DOC"), 0) * 3)' in sql for sql in script.asked)


def test_values_that_cannot_be_measured_are_fetched_few_at_a_time() -> None:
    rows = numbers(100).append_column("doc", pa.array(["x"] * 100))
    script = Script({**catalogue([ID, column("DOC", "LONG")], primary=("ID",)), "ROWNUM": []}, rows)
    contents(script.source(), ["ID", "DOC"])
    assert script.sizes == [64]


def test_a_stream_that_is_closed_early_ends_its_statement() -> None:
    script = Script({**catalogue([ID], primary=("ID",)), "ROWNUM": []}, numbers(100_000))
    engine = script.engine()
    relation = engine.relation("T")
    session = engine.reopen()
    stream = session.stream(Select(relation, relation.fields, "", 1 << 14, Slice()))
    next(stream)
    reader = script.connections[-1]
    assert reader.open_statements == 1
    stream.close()  # type: ignore[attr-defined]
    assert (reader.open_statements, reader.pings) == (0, 1)


def test_a_lost_connection_is_replaced_and_the_chunk_read_again() -> None:
    script = Script({**catalogue([ID], primary=("ID",)), "ROWNUM": []}, numbers(5))
    script.fail_at = {0: ora(3113, "end-of-file on communication channel")}
    source = script.source()
    found, _ = contents(source, ["ID"])
    assert [row["ID"] for row in found] == [0, 1, 2, 3, 4]
    assert "later moment" not in source.view()[1]
    read = [sql for sql in script.asked if " c0" in sql]
    assert len(read) == 2
    assert read[0] == read[1]
    assert "AS OF SCN 4711" in read[1]


def test_undo_that_is_gone_says_what_to_do() -> None:
    script = Script({**catalogue([ID], primary=("ID",)), "ROWNUM": []}, numbers(5))
    script.fail_at = {0: ora(1555, 'snapshot too old: rollback segment number 9 with name "_SYSSMU9" too small')}
    with pytest.raises(SourceError) as raised:
        contents(script.source(), ["ID"])
    assert "undo_retention" in raised.value.hint
    assert "--restart" in raised.value.hint


# ------------------------------------------------------------------------------------------------------------- the view


def test_all_is_read_as_of_one_scn_which_is_the_watermark() -> None:
    """But not `asof`: the next command takes another SCN, and must not go on as if it read the same."""
    script = Script({**catalogue([ID], primary=("ID",)), "ROWNUM": []}, numbers(3))
    source = script.source(connections=3)
    view, note = source.view()
    assert view == "live"
    assert "all connections read as of SCN 4711" in note
    assert str(source.watermark()) == "Watermark(kind='scn', value='4711')"
    contents(source, ["ID"])
    assert "AS OF SCN 4711 t" in statement(script)
    assert sum("SYSTEM_CHANGE_NUMBER" in sql for sql in script.asked) == 1
    assert "SET TRANSACTION READ ONLY" not in script.asked


@pytest.mark.parametrize("granted", ["CURRENT_SCN", "TIMESTAMP_TO_SCN"])
def test_the_scn_is_had_in_whatever_way_is_granted(granted: str) -> None:
    answers: dict[str, Answer] = {**catalogue([ID], scn=None), granted: [("99",)]}
    source = Script(answers).source()
    assert str(source.watermark()) == "Watermark(kind='scn', value='99')"
    assert "as of SCN 99" in source.view()[1]


def test_without_an_scn_the_view_is_live_and_says_what_to_grant() -> None:
    script = Script({**catalogue([ID], primary=("ID",), scn=None), "ROWNUM": []}, numbers(3))
    source = script.source(connections=2)
    view, note = source.view()
    assert view == "live"
    assert "DBMS_FLASHBACK" in note
    assert source.watermark() is None
    assert script.asked.count("SET TRANSACTION READ ONLY") == 2
    contents(source, ["ID"])
    assert "AS OF" not in statement(script)


def test_a_source_at_rest_is_read_without_undo() -> None:
    script = Script({**catalogue([ID], primary=("ID",)), "ROWNUM": []}, numbers(3))
    source = script.source(quiesced=True)
    assert source.view() == ("pinned", "pinned: declared as quiesced")
    contents(source, ["ID"])
    assert "AS OF" not in statement(script)
    assert str(source.watermark()) == "Watermark(kind='scn', value='4711')"


def test_a_read_only_database_is_pinned() -> None:
    source = Script({**catalogue([ID]), "open_mode": [("READ ONLY",)]}).source()
    assert source.view() == ("pinned", "pinned: its database is read-only")


def test_a_later_command_can_read_at_the_same_scn() -> None:
    script = Script({**catalogue([ID], primary=("ID",)), "ROWNUM": []}, numbers(3))
    source = script.source(URL + "?scn=815")
    assert source.view()[0] == "asof"
    assert str(source.watermark()) == "Watermark(kind='scn', value='815')"
    contents(source, ["ID"])
    assert "AS OF SCN 815 t" in statement(script)


@pytest.mark.parametrize(("kind", "links"), [("view", 1), ("external", 0)])
def test_what_has_no_undo_here_is_read_as_it_is_with_a_warning(kind: str, links: int) -> None:
    script = Script(catalogue([ID], kind=kind, links=links), numbers(3))
    source = script.source()
    assert "has no SCN" in " ".join(source.schema("T").warnings)
    contents(source, ["ID"])
    assert "AS OF" not in statement(script)


def test_a_session_is_set_to_compare_and_spell_as_it_is_expected_to() -> None:
    script = made([ID])
    script.engine().reopen()
    settings = " ".join(sql for sql in script.asked if sql.startswith("ALTER SESSION"))
    for part in ("TIME_ZONE = '+00:00'", "NLS_COMP = 'BINARY'", "NLS_SORT = 'BINARY'", "'GREGORIAN'", "'.,'"):
        assert part in settings


# --------------------------------------------------------------------------------------------------------------- errors

DATABASE = parse(URL + "?wallet_password=wpw12345", URL_OPTIONS)


@pytest.mark.parametrize(
    "error",
    [
        *[ora(code) for code in (28, 1033, 1034, 1089, 3113, 3114, 3135, 12170, 12541, 12519, 2391)],
        *[dpy(code) for code in (1001, 4011, 6005)],
        OSError("broken pipe"),
    ],
    ids=str,
)
def test_lost_connections_are_tried_again(error: Exception) -> None:
    with pytest.raises(RetryableError) as raised, explained(DATABASE):
        raise error
    assert raised.value.hint
    assert raised.value.message.startswith("db.example:1521: ")
    assert "Help:" not in raised.value.message


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (ora(1017), "user and password"),
        (ora(12514), "service"),
        (ora(12505), "?sid="),
        (dpy(6001, 'Service "X" is not registered with the listener. (Similar to ORA-12514)'), "service"),
        (ora(942), "GRANT SELECT, FLASHBACK"),
        (ora(1031), "GRANT SELECT, FLASHBACK"),
        (ora(1045), "CREATE SESSION"),
        (ora(28001), "expired"),
        (ora(8181), "undo_retention"),
        (ora(12801, "error signaled in parallel query server P001\nORA-01555: snapshot too old"), "undo_retention"),
        (ora(1466), "--restart"),
        (dpy(4042), "--restart"),
        (dpy(3001), "tcps"),
        (dpy(3010), "12.1"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_what_must_be_mended_says_how(error: Exception, hint: str) -> None:
    with pytest.raises(SourceError) as raised, explained(DATABASE):
        raise error
    assert hint in raised.value.hint


def test_no_message_repeats_a_password() -> None:
    with pytest.raises(SourceError) as raised, explained(DATABASE):
        raise ora(1017, "logon denied for reader/geheim1, wallet wpw12345")
    assert "geheim1" not in raised.value.message + raised.value.hint
    assert "wpw12345" not in raised.value.message


def test_a_wrong_password_is_tried_once() -> None:
    """Servers lock a user after a few."""
    script = made([ID])
    tries = []

    def refused(url: Any) -> Any:
        tries.append(url)
        raise ora(1017, "invalid credential or not authorized; logon denied")

    script.connect = refused  # type: ignore[method-assign]
    with pytest.raises(SourceError):
        script.source().view()
    assert len(tries) == 1


def test_a_server_that_is_not_there_may_be_there_later() -> None:
    """With the driver itself."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    source = open_url(f"oracle://reader:geheim1@127.0.0.1:{port}/LEGACY", {})
    with pytest.raises(RetryableError) as raised:
        source.tables()
    assert "host and port" in raised.value.hint
    assert "geheim1" not in raised.value.message


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("oracle://u:p@host", "no service"),
        ("oracle://u:p@host/s?mode=root", "no mode"),
        ("oracle://u:p@host/s?scn=now", "whole number"),
        ("oracle://u:p@host/s?protocol=udp", "no protocol"),
        ("oracle://u:p@host/s?shema=X", "unknown option"),
    ],
)
def test_a_wrong_url_is_told_before_anything_is_connected(url: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        open_url(url, {})


def test_an_option_of_another_engine_is_refused() -> None:
    with pytest.raises(UsageError, match="zero_dates"):
        open_url(URL, {"zero_dates": "null"})


def test_a_schema_that_is_not_there_is_told() -> None:
    with pytest.raises(UsageError, match="no schema 'nobody'"):
        Script({**catalogue([ID]), "all_users": []}).source(URL + "?schema=nobody").schema("T")


def test_the_driver_takes_what_is_asked_of_it() -> None:
    """Its own check of each type; and its frames keep them."""
    relation = made([(f"X{n}", *each[0][1:]) for n, each in enumerate(TYPES)]).engine().relation("T")
    ArrowSchemaImpl.from_arrow_schema(types.requested(relation.fields))
    assert pa.table(oracledb.DataFrame._from_arrow(ROWS)).schema.types == ROWS.schema.types
