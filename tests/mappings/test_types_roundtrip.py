"""Every type has a way in, to the byte: what we COPY reads back as what PostgreSQL itself makes of the same text."""

import csv
import io

import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mapped import column, context, mapped, one, slowly, target, texts
from pgpq import ArrowToPostgresBinaryEncoder

from migrate.core import Column
from migrate.errors import UsageError
from migrate.target import catalogue

NUMBERS = [
    "0",
    "-0",
    "1",
    "-1",
    " 7 ",
    "+7",
    "007",
    "12.00",
    ".5",
    "-.5",
    "5.",
    "1.239",
    "12.7",
    "1e3",
    "0x1F",
    "1_000",
]
NUMBERS += [
    "",
    " ",
    "abc",
    "1 2",
    "--1",
    "32767",
    "32768",
    "-32768",
    "-32769",
    "2147483647",
    "2147483648",
    "-2147483648",
]
NUMBERS += [
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "99999999999999999999999999999999999999",
]
NUMBERS += [
    "-99999999999999999999999999999999999999",
    "0.00000000000000000000000000000000000001",
    "1" + "0" * 60,
    "NaN",
]
NUMBERS += ["12345678.90", "12345678.905", "99999999.99", "100000000", "0.1", "1e-5", "1E5", "١٢", "1,5", "1\u00a0000"]
FLOATS = [
    "1.5",
    "-0.0",
    "1e-300",
    "1e300",
    "1e400",
    "1e-400",
    "nan",
    "NaN",
    "inf",
    "-Infinity",
    "0",
    "3.4e38",
    "3.5e38",
]
FLOATS += [
    "1e-45",
    "1e-50",
    "0.1",
    "1_0",
    "0x10",
    "abc",
    "",
    " 1 ",
    "4.9e-324",
    "1.7976931348623157e308",
    "0e0",
    "1e",
    ".",
]
DATES = ["2021-01-31", "2021-02-29", "2020-02-29", "0001-01-01", "0000-01-01", "9999-12-31", "10000-01-01", "2021-1-2"]
DATES += ["2021/01/02", "2021-01-02 10:00:00", "2021-01-02 00:00:00", "infinity", "epoch", "today", "20210102", "", "x"]
DATES += ["0044-03-15 (BC)", "44-3-15", "1900-02-29", "2021-13-01", "2021-00-10", " 2021-01-02 ", "2021-01-02T00:00:00"]
STAMPS = ["2021-01-02 03:04:05", "2021-01-02T03:04:05", "2021-01-02 03:04:05.123456", "2021-01-02 03:04:05.1234567"]
STAMPS += ["2021-01-02 03:04:05.1234560", "2021-01-02", "2021-01-02 03:04", "2021-01-02 03", "2021-01-02 24:00:00"]
STAMPS += [
    "2021-01-02 25:00:00",
    "2021-01-02 03:04:05Z",
    "2021-01-02 03:04:05+02",
    "0001-01-01 00:00:00",
    "infinity",
    "",
]
STAMPS += ["9999-12-31 23:59:59.999999", "1969-12-31 23:59:59.999999", "2021-02-30 00:00:00", "2021-01-02 03:04:60"]
ZONED = ["2021-07-01 12:00:00+02", "2021-07-01 12:00:00Z", "2021-07-01 12:00:00-05:30", "2021-07-01 12:00:00.5+00"]
TIMES = ["00:00:00", "23:59:59.999999", "24:00:00", "12:34", "1:02:03", "12:34:56.1234567", "25:00:00", "", "12"]
TEXT = [
    "",
    "a",
    "é",
    "😀",
    "e\u0301",
    "日本語",
    "a\tb",
    'quote"d',
    "back\\slash",
    "line\nbreak",
    "\\N",
    "\\.",
    "NULL",
    " x ",
]
TEXT += ["x" * 300, "a,b;c", "'", "\r\n", "\ufeffbom", "\u202e"]
BOOLS = ["t", "TRUE", "y", "yes", "on", "1", "f", "false", "n", "no", "off", "0", "2", "ja", "", "tr"]
UUIDS = [
    "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    "A0EEBC999C0B4EF8BB6D6BB9BD380A11",
    "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
]
UUIDS += ["", "a0eebc99", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1", "00000000-0000-0000-0000-000000000000"]
JSONS = [
    '{"a": 1}',
    "[1,]",
    "NaN",
    '"\\u0000"',
    '"\\ud800"',
    '"\\ud83d\\ude00"',
    "null",
    "",
    " 1 ",
    '{"a":1,"a":2}',
    "{'a':1}",
]
JSONS += ['"NaN,]"', "[1e400]", "[Infinity]", '"\\u00e9"', "[" * 50 + "]" * 50]
SPANS = [
    "1 day",
    "01:02:03",
    "-1 year 2 mons",
    "P1Y2M",
    "1.6 seconds",
    "1.600 s",
    "1.0 s",
    "600 ms",
    "1000 ms",
    "1.5 us",
]
SPANS += ["0.0000001 s", "0.123456 s", "1.1 years", ".5 year", "1.55 decades", "P1.5Y", "1.5 hours", "1 2:03:04.5"]
SPANS += [
    "P0001-02-03T04:05:06.7",
    "1.5 mon",
    "2 mils",
    "1.5 milliseconds",
    "1.5 mils",
    "-00:00:01.123",
    "@ 1 minute ago",
]
AMOUNTS = [
    "12.34",
    "1.239",
    "1.23",
    "1.2300",
    "-1.5",
    "$1,234.56",
    "1,5",
    "1,234",
    "-$2.00",
    "(1.50)",
    "1e2",
    "",
    "abc",
    "5.",
]
HARD = {
    "smallint": NUMBERS,
    "integer": NUMBERS,
    "bigint": NUMBERS,
    "numeric(10,2)": NUMBERS,
    "numeric(38,0)": NUMBERS,
    "numeric(38,38)": NUMBERS,
    "numeric(5,5)": NUMBERS,
    "numeric": NUMBERS,
    "real": FLOATS,
    "double precision": FLOATS,
    "date": DATES,
    "timestamp": STAMPS,
    "timestamp(3)": STAMPS,
    "timestamptz": [*STAMPS, *ZONED],
    "time": TIMES,
    "text": TEXT,
    "varchar(3)": TEXT,
    "varchar": TEXT,
    "char(3)": [*TEXT, "ab", "abc", "abcd", "abc   "],
    "name": [*TEXT, "n" * 63, "n" * 64, "é" * 32],
    "boolean": BOOLS,
    "uuid": UUIDS,
    "json": JSONS,
    "jsonb": JSONS,
    "interval": SPANS,
    "timetz": ["12:00:00+02", "00:00:00Z"],
    "inet": ["10.0.0.1/8", "::1"],
    "cidr": ["10.0.0.0/8"],
    "macaddr": ["08:00:2b:01:02:03"],
    "bit(3)": ["101"],
    "varbit": ["10101"],
    "point": ["(1,2)"],
    "box": ["(1,2),(3,4)"],
    "int4range": ["[1,5)", "empty"],
    "tsvector": ["a fat cat", "'quoted':1A"],
    "oid": ["4294967295"],
    '"char"': ["x", "", "abc", "é"],
    "inet[]": ["{10.0.0.1,::1}"],
    "numeric(40,2)": NUMBERS,
    "numeric(5,-2)": [*NUMBERS, "1200", "1234", "1200.0", "-9999900", "9999900", "12345600", "1200.5", "50"],
    "numeric(3,5)": [*NUMBERS, "0.00999", "0.01", "0.00123", "-0.001230", "0.000001", "0.009991"],
    "interval(0)": SPANS,
    "interval(3)": SPANS,
    "timetz(0)": ["10:00:00.6+00", "10:00:00.0+00", "10:00:00+02", "10:00+02"],
    "tsrange": ["[2021-01-01 00:00:00.123456,]", "[2021-01-01 00:00:00.1234567,]", "empty"],
    "money": AMOUNTS,
}


def send(asked: psycopg.Connection, written: str, rows: pa.RecordBatch, wire) -> None:
    asked.execute("DROP TABLE IF EXISTS way_in")
    asked.execute(f"CREATE TABLE way_in (c {written})")
    with asked.cursor() as cursor:
        if wire.encoder == "text":
            out = io.StringIO()
            writer = csv.writer(out, quoting=csv.QUOTE_NOTNULL if hasattr(csv, "QUOTE_NOTNULL") else csv.QUOTE_ALL)
            for value in rows.column(0).to_pylist():
                writer.writerow([value])
            with cursor.copy("COPY way_in FROM STDIN (FORMAT csv, NULL 'is-null')") as copy:
                copy.write(out.getvalue())
            return
        field = rows.schema.field(0)
        builder = ArrowToPostgresBinaryEncoder.infer_encoder(field)
        if wire.encoder == "jsonb":
            from pgpq.encoders import StringEncoderBuilder
            from pgpq.schema import Jsonb

            builder = StringEncoderBuilder.new_with_output(field, Jsonb())
        encoder = ArrowToPostgresBinaryEncoder.new_with_encoders(rows.schema, {field.name: builder})
        with cursor.copy("COPY way_in FROM STDIN (FORMAT binary)") as copy:
            copy.write(encoder.write_header())
            copy.write(encoder.write_batch(rows))
            copy.write(encoder.finish())


def landed(asked: psycopg.Connection, written: str, values: list[str | None]) -> dict[str, str]:
    """Each accepted text with what the target then shows; the others were rejected."""
    from mappings.typemap import wire_of

    to = column("c", written)
    step = mapped(texts(x=values), {"c": "x"}, target(to), context(timezone="UTC"))
    if step.rows.num_rows == 0:
        return {}
    send(asked, written, step.rows, wire_of(to))
    shown = [row[0] for row in asked.execute("SELECT c::text FROM way_in ORDER BY ctid").fetchall()]
    return dict(zip([values[i] for i in step.ordinals], shown, strict=True))


def meaning(asked: psycopg.Connection, written: str, text: str) -> str | None:
    """What PostgreSQL itself makes of the text; None if it refuses it."""
    try:
        asked.execute("DROP TABLE IF EXISTS says")
        asked.execute(f"CREATE TABLE says (c {written})")
        with asked.cursor().copy("COPY says FROM STDIN") as copy:
            copy.write_row((text,))
        return asked.execute("SELECT c::text FROM says").fetchone()[0]
    except psycopg.Error:
        return None


@pytest.mark.parametrize("written", HARD)
@pytest.mark.parametrize("way", ["short cut", "screens"])
def test_what_lands_is_what_postgres_reads(asked, monkeypatch, written, way):
    if way == "screens":
        slowly(monkeypatch)
    got = landed(asked, written, HARD[written])
    assert got, "nothing of this type came through"
    for text, shown in got.items():
        theirs = meaning(asked, written, _in_its_words(written, text))
        assert theirs == shown, (text, shown, theirs)


def _in_its_words(written: str, text: str) -> str:
    """The few spellings that DuckDB reads and PostgreSQL writes otherwise."""
    if written in ("smallint", "integer", "bigint") and "." in text:
        return text.split(".")[0]
    if written == "date":
        return text.replace("(BC)", "BC")
    if written == "boolean":
        return text
    return text


@pytest.mark.parametrize(
    "written", ["smallint", "integer", "bigint", "numeric(10,2)", "date", "timestamp", "text", "varchar(3)", "char(3)"]
)
def test_the_short_cut_makes_what_the_screens_make(monkeypatch, written):
    for value in HARD[written]:
        quick = one(value, written, ctx=context(timezone="UTC"))
        with monkeypatch.context() as patch:
            slowly(patch)
            assert one(value, written, ctx=context(timezone="UTC")) == quick, value


@pytest.mark.parametrize(
    ("value", "written", "rule"),
    [
        ("12.7", "integer", "precision"),
        ("1e3", "integer", "type"),
        ("0x1F", "integer", "type"),
        ("1_000", "integer", "type"),
        ("99999999999", "integer", "range"),
        ("1.239", "numeric(10,2)", "precision"),
        ("1e-5", "numeric(10,2)", "type"),
        ("123456789.00", "numeric(10,2)", "range"),
        ("2021-01-01 10:00:00", "date", "precision"),
        ("2021-02-30", "date", "type"),
        ("infinity", "date", "range"),
        ("2021-01-01 10:00:00.1234567", "timestamp", "precision"),
        ("2021-01-01 10:00:00.1234", "timestamp(3)", "precision"),
        ("2021-01-01 10:00:00+02", "timestamp", "type"),
        ("1e400", "double precision", "range"),
        ("1e-400", "double precision", "range"),
        ("1_0", "double precision", "type"),
        ("abcd", "varchar(3)", "length"),
        ("a\0b", "text", "nul"),
        ("[1,]", "jsonb", "type"),
        ('"\\u0000"', "jsonb", "nul"),
        ('"\\ud800"', "jsonb", "type"),
        ("maybe", "boolean", "type"),
        ("abc", "numeric", "type"),
        ("1" * 131073, "numeric", "range"),
        ("1.239", "numeric(40,2)", "precision"),
        ("1" * 39, "numeric(40,2)", "range"),
        ("abc", "numeric(40,2)", "type"),
        ("1234", "numeric(5,-2)", "precision"),
        ("12345678900", "numeric(5,-2)", "range"),
        ("0.01", "numeric(3,5)", "range"),
        ("0.000001", "numeric(3,5)", "precision"),
        ("1.239", "money", "precision"),
        ("1,5", "money", "type"),
        ("(1.50)", "money", "type"),
        ("1.6 seconds", "interval(0)", "precision"),
        ("600 ms", "interval(0)", "precision"),
        ("1.5 us", "interval", "precision"),
        ("1.1 years", "interval", "precision"),
        ("10:00:00.6+00", "timetz(0)", "precision"),
        ("10:00:00.1234567+00", "timetz", "precision"),
        ("[2021-01-01 00:00:00.1234567,]", "tsrange", "precision"),
        ("abc", '"char"', "length"),
        ("é", '"char"', "length"),
    ],
)
def test_lax_casts_do_not_leak(value, written, rule):
    assert one(value, written) == ("reject", rule)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("1.2300", "numeric(40,2)"),
        ("1" * 38 + ".25", "numeric(40,2)"),
        ("-1200.0", "numeric(5,-2)"),
        ("9999900", "numeric(5,-2)"),
        ("0.00999", "numeric(3,5)"),
        ("0", "numeric(3,5)"),
        ("$1,234.50", "money"),
        ("1.0 s", "interval(0)"),
        ("1.123456 s", "interval"),
        ("600 ms", "interval"),
        ("10:00:00.60+00", "timetz(1)"),
        ("x", '"char"'),
    ],
)
def test_what_fits_is_let_through(asked, value, written):
    assert landed(asked, written, [value])


NUMERICS = st.tuples(st.integers(1, 45), st.integers(-8, 45)).map(lambda p: f"numeric({p[0]},{p[1]})")
DECIMALS = st.from_regex(r"-?[0-9]{0,12}0{0,8}(\.0{0,4}[0-9]{0,8}0{0,3})?", fullmatch=True)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(written=NUMERICS, texts_=st.lists(DECIMALS, min_size=1, max_size=20, unique=True))
def test_a_numeric_lands_exactly_when_postgres_would_keep_its_value(asked, written, texts_):
    got = landed(asked, written, list(texts_))
    for text in texts_:
        theirs = meaning(asked, written, text)
        kept = theirs is not None and asked.execute("SELECT %s::numeric = %s::numeric", [text, theirs]).fetchone()[0]
        assert (text in got) == kept, (written, text, theirs)


@pytest.mark.parametrize(
    ("written", "whole"), [("interval(0)", "interval"), ("interval(3)", "interval"), ("timetz(0)", "timetz")]
)
def test_what_lands_has_lost_nothing(asked, written, whole):
    for text, shown in landed(asked, written, HARD[written]).items():
        assert asked.execute(f"SELECT %s::{whole} = %s::{whole}", [text, shown]).fetchone()[0], text


@pytest.mark.parametrize("written", ["numeric(5,2)[]", "varchar(2)[]", "interval[]", "money[]", '"char"[]', "name[]"])
def test_one_text_for_an_array_that_the_server_would_cut_is_refused(written):
    with pytest.raises(UsageError, match="makes a list"):
        mapped(texts(x=["{1.239}"]), {"c": "x"}, target(column("c", written)))
    step = mapped(texts(x=["1.239;x  "]), {"c": "split(x, ';')"}, target(column("c", "varchar(2)[]")))
    assert [r.rule for r in step.rejects] == ["length"]


def test_an_interval_without_seconds_is_refused(asked):
    asked.execute("DROP TABLE IF EXISTS spans")
    asked.execute("CREATE TABLE spans (c interval day to hour, d interval day to second(2))")
    table = catalogue(asked, "public", "spans")
    with pytest.raises(UsageError, match="would drop what is finer than its last field"):
        mapped(texts(x=["1 day 02:03:04"]), {"c": "x"}, table)
    step = mapped(texts(x=["1 day 02:03:04.25", "02:03:04.255"]), {"d": "x"}, table)
    assert [(r.ordinal, r.rule) for r in step.rejects] == [(1, "precision")]


ANY_TEXT = st.one_of(
    st.text(max_size=12),
    st.from_regex(r"[ +-]?\d{0,12}[.]?\d{0,6}([eE][+-]?\d{1,3})?", fullmatch=True),
    st.from_regex(
        r"\d{1,5}[-/.]\d{1,2}[-/.]\d{1,2}([ T]\d{1,2}:\d{2}(:\d{2}([.]\d{1,8})?)?)?(Z|[+-]\d{2})?", fullmatch=True
    ),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(ANY_TEXT.filter(lambda t: "\0" not in t and t.isprintable()), min_size=1, max_size=30, unique=True),
    data=st.data(),
)
def test_any_text_is_either_what_postgres_reads_or_a_reject(asked, values, data):
    written = data.draw(
        st.sampled_from(
            ["integer", "numeric(10,2)", "numeric", "date", "timestamp", "text", "varchar(3)", "double precision"]
        )
    )
    for text, shown in landed(asked, written, list(values)).items():
        assert shown is not None, "a NULL out of something"
        theirs = meaning(asked, written, _in_its_words(written, text))
        assert theirs == shown, (text, shown, theirs)


def test_arrays_with_nulls_and_quotes(asked):
    step = mapped(texts(x=['a, "b"', "", None, "c\\d,{e},NULL"]), {"c": "split(x, ',')"}, target(column("c", "text[]")))
    send(asked, "text[]", step.rows, _wire("text[]"))
    assert [r[0] for r in asked.execute("SELECT c FROM way_in ORDER BY ctid").fetchall()] == [
        ["a", '"b"'],
        [],
        None,
        ["c\\d", "{e}", "NULL"],
    ]


@pytest.mark.parametrize(
    ("written", "expression", "expected"),
    [
        ("integer[]", "split(x, ';')", "{1,2}"),
        ("bigint[]", "[x[1:1], NULL]", "{1,NULL}"),
        ("date[]", "['2021-01-02', NULL]", "{2021-01-02,NULL}"),
        ("timestamp[]", "['2021-01-02 03:04:05']", '{"2021-01-02 03:04:05"}'),
        ("boolean[]", "['t', 'f']", "{t,f}"),
        ("double precision[]", "['1.5']", "{1.5}"),
        ("varchar(2)[]", "split(x, ';')", "{1,2}"),
        ("numeric(5,1)[]", "[x[1:1], NULL]", "{1.0,NULL}"),
        ("varchar[]", "['a\"b', 'c\\d', '', 'NULL', 'é,{']", '{"a\\"b","c\\\\d","","NULL","é,{"}'),
    ],
)
def test_arrays_of_plain_types(asked, written, expression, expected):
    step = mapped(texts(x=["1;2"]), {"c": expression}, target(column("c", written)))
    assert not step.rejects
    send(asked, written, step.rows, _wire(written))
    assert asked.execute("SELECT c::text FROM way_in").fetchone()[0] == expected


def test_an_element_that_does_not_fit_rejects_its_row():
    step = mapped(texts(x=["1;2", "1;x", "1;2.5"]), {"c": "split(x, ';')"}, target(column("c", "integer[]")))
    assert list(step.ordinals) == [0]
    assert [r.rule for r in step.rejects] == ["type", "precision"]


def test_bytes(asked):
    step = mapped(texts(x=["00ff", "", "zz"]), {"c": "unhex(x)"}, target(column("c", "bytea")))
    send(asked, "bytea", step.rows, _wire("bytea"))
    assert [r[0] for r in asked.execute("SELECT c::text FROM way_in").fetchall()] == ["\\x00ff", "\\x"]
    assert len(step.rejects) == 1


def test_enums(asked):
    asked.execute("DROP TYPE IF EXISTS mood CASCADE")
    asked.execute("CREATE TYPE mood AS ENUM ('ok', 'sad')")
    to = Column("c", "mood", "mood", labels=("ok", "sad"))
    step = mapped(texts(x=["ok", "SAD", None, "sad"]), {"c": "x"}, target(to))
    assert [(r.ordinal, r.rule) for r in step.rejects] == [(1, "enum")]
    send(asked, "mood", step.rows, _wire("text"))
    assert [r[0] for r in asked.execute("SELECT c::text FROM way_in").fetchall()] == ["ok", None, "sad"]


def _wire(written: str):
    from mappings.typemap import wire_of

    return wire_of(column("c", written))
