"""The named functions, as their users would try them."""

import datetime
import re
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapped import column, context, mapped, target, texts

from mappings.functions import FUNCTIONS
from mappings.reference import reference
from migrate.errors import UsageError

PLAIN = {"VARCHAR": "text", "DATE": "date"}


def value(x: str | None, expression: str, written: str = "text", **kw):
    step = mapped(texts(x=[x]), {"c": expression}, target(column("c", written)), **kw)
    if step.rejects:
        return step.rejects[0].rule
    return step.rows.column(0)[0].as_py()


DATE = datetime.date


@pytest.mark.parametrize(
    ("x", "formats", "expected"),
    [
        ("31.12.1999", "'DD.MM.YYYY'", DATE(1999, 12, 31)),
        ("31.12.1999", "'%d.%m.%Y'", DATE(1999, 12, 31)),
        ("1999-12-31", "'DD.MM.YYYY', 'YYYY-MM-DD'", DATE(1999, 12, 31)),
        (" 31.12.1999\t", "'DD.MM.YYYY'", DATE(1999, 12, 31)),
        ("31.02.1999", "'DD.MM.YYYY'", "type"),
        ("1.2.1999", "'DD.MM.YYYY'", "type"),
        ("1.2.1999", "'D.M.YYYY'", DATE(1999, 2, 1)),
        ("01.02.199", "'DD.MM.YYYY'", "type"),
        ("01.02.0000", "'DD.MM.YYYY'", "type"),
        ("0000-01-01", "'YYYY-M-D'", "type"),
        ("01.02.19991", "'DD.MM.YYYY'", "type"),
        ("01.02.68", "'DD.MM.YY'", DATE(2068, 2, 1)),
        ("01.02.69", "'DD.MM.YY'", DATE(1969, 2, 1)),
        ("19991231", "'YYYYMMDD'", DATE(1999, 12, 31)),
        ("1999123", "'YYYYMMDD'", "type"),
        ("31-DEC-1999", "'DD-MON-YYYY'", DATE(1999, 12, 31)),
        ("31 December 1999", "'DD MONTH YYYY'", DATE(1999, 12, 31)),
        ("29.02.1900", "'DD.MM.YYYY'", "type"),
        ("29.02.2000", "'DD.MM.YYYY'", DATE(2000, 2, 29)),
        ("", "'DD.MM.YYYY'", "type"),
        ("31/12/1999", "'DD.MM.YYYY'", "type"),
        (None, "'DD.MM.YYYY'", None),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_parse_date(x, formats, expected, nested):
    call = f"parse_date(x, {formats})"
    # deep inside an expression the same call must throw, not turn into NULL
    assert value(x, f"coalesce({call}, NULL)" if nested else call, "date") == expected


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.dates().map(lambda d: f"{d.day:02}.{d.month:02}.{d.year:04}"),
            st.from_regex(r"\s?\d{1,2}.\d{1,2}.\d{1,5}\s?", fullmatch=True),
        ),
        min_size=1,
        max_size=40,
    )
)
def test_parse_date_reads_what_a_strict_reader_reads(found):
    step = mapped(texts(x=found), {"c": "parse_date(x, 'DD.MM.YYYY')"}, target(column("c", "date")))
    expected = {}
    for i, text in enumerate(found):
        if re.fullmatch(r"[0-9]{2}\.[0-9]{2}\.[0-9]{4}", stripped := text.strip(" \t\n\v\f\r")):
            day, month, year = map(int, stripped.split("."))
            try:
                expected[i] = DATE(year, month, day)
            except ValueError:
                continue
    assert dict(zip(step.ordinals.tolist(), step.rows.column(0).to_pylist(), strict=True)) == expected


@pytest.mark.parametrize(
    ("x", "more", "expected"),
    [
        ("2021-07-01 12:00", "", "2021-07-01 10:00:00"),
        ("2021-01-01 12:00", "", "2021-01-01 11:00:00"),
        ("2021-03-28 02:30", "", "type"),  # skipped
        ("2021-10-31 02:30", "", "type"),  # twice
        ("2021-10-31 02:30", ", ambiguous := 'first'", "2021-10-31 00:30:00"),
        ("2021-10-31 02:30", ", ambiguous := 'last'", "2021-10-31 01:30:00"),
        ("2021-03-28 02:30", ", ambiguous := 'first'", "type"),
        ("2021-10-31 01:59", "", "2021-10-30 23:59:00"),
        ("2021-10-31 03:00", "", "2021-10-31 02:00:00"),
        ("2021-03-28 01:59", "", "2021-03-28 00:59:00"),
        ("2021-03-28 03:00", "", "2021-03-28 01:00:00"),
    ],
)
def test_clocks_that_change(x, more, expected):
    expression = f"parse_timestamp(x, 'YYYY-MM-DD HH24:MI', zone := 'Europe/Berlin'{more})"
    got = value(x, expression, "timestamptz")
    assert (got if isinstance(got, str) else f"{got:%Y-%m-%d %H:%M:%S}") == expected


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        ("2021-10-31 02:30:00", "type"),
        ("2021-07-01 12:00:00", 10),
        ("2021-07-01 12:00:00+00", 12),
        ("2021-03-28 02:30:00", "type"),
    ],
)
def test_the_project_zone_reads_texts_without_an_offset(x, expected):
    got = value(x, "x", "timestamptz", ctx=context(timezone="Europe/Berlin"))
    assert (got if isinstance(got, str) else got.hour) == expected


@pytest.mark.parametrize(
    ("x", "form", "expected"),
    [
        ("31.12.1999 23:59:58", "DD.MM.YYYY HH24:MI:SS", datetime.datetime(1999, 12, 31, 23, 59, 58)),
        ("12/31/1999 11:59 PM", "MM/DD/YYYY HH12:MI AM", datetime.datetime(1999, 12, 31, 23, 59)),
        ("1999-12-31T23:59:58.123456", "YYYY-MM-DDTHH24:MI:SS.US", datetime.datetime(1999, 12, 31, 23, 59, 58, 123456)),
        ("31.12.1999 24:00:00", "DD.MM.YYYY HH24:MI:SS", "type"),
        ("1999-12-31 23:59:58.1234567", "YYYY-MM-DD HH24:MI:SS.US", "type"),
    ],
)
def test_parse_timestamp(x, form, expected):
    assert value(x, f"parse_timestamp(x, '{form}')", "timestamp") == expected


@pytest.mark.parametrize(
    ("x", "locale", "expected"),
    [
        ("1.234,50 €", "de", "1234.50"),
        ("1.234.567,89", "de", "1234567.89"),
        ("1.23,50", "de", None),
        ("1.2345,50", "de", None),
        ("12.345", "de", "12345"),
        ("1,234.50", "de", None),
        ("1234,5", "de", "1234.5"),
        ("-1.234,50", "de", "-1234.50"),
        ("1.234,50-", "de", "-1234.50"),
        ("(1.234,50)", "de", "-1234.50"),
        ("1\u00a0234,50 EUR", "de", "1234.50"),
        ("EUR 5,--", "de", "5"),
        ("5,-", "de", "5"),
        ("-5,--", "de", "-5"),
        ("--5", "de", None),
        ("-5-", "de", None),
        ("5 5", "de", None),
        (",50", "de", "0.50"),
        ("", "de", None),
        ("€", "de", None),
        ("abc", "de", None),
        ("1e3", "de", None),
        ("$1,234.50", "en", "1234.50"),
        ("-$1,234.50", "en", "-1234.50"),
        ("$-1,234.50", "en", "-1234.50"),
        ("-$-1", "en", None),
        ("1.234,50", "en", None),
        ("1'234.50", "ch", "1234.50"),
        ("Fr. 1’234.50", "ch", "1234.50"),
        ("1 234,50 €", "fr", "1234.50"),
        ("1\u202f234\u202f567,5", "fr", "1234567.5"),
        ("1.234,50", "fr", None),
        ("0,12345678901", "de", None),
        ("0,1234567890", "de", "0.123456789"),
        ("99999999999999999999999999,99", "de", "99999999999999999999999999.99"),
        ("1,00000", "de", "1"),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_parse_money(x, locale, expected, nested):
    call = f"parse_money(x, '{locale}')"
    got = value(x, f"coalesce({call}, 0)" if nested else call, "numeric(38,10)")
    assert got == ("type" if expected is None else Decimal(expected))


def test_parse_money_then_rounds_nothing():
    assert value("1,239", "parse_money(x, 'de')", "numeric(10,2)") == "precision"


@pytest.mark.parametrize(
    ("x", "arguments", "expected"),
    [
        ("Ja", "", True),
        ("NON", "", False),
        (" wahr ", "", True),
        ("0", "", False),
        ("vielleicht", "", "type"),
        (None, "", None),
        ("A", ", ['A'], ['G', 'S']", True),
        ("S", ", ['A'], ['G', 'S']", False),
        ("ja", ", ['A'], ['G']", "type"),
        ("G", ", 'A', 'G'", False),
    ],
)
def test_parse_bool(x, arguments, expected):
    assert value(x, f"parse_bool(x{arguments})", "boolean") == expected


def test_fix_encoding_mends_what_is_broken_only():
    step = mapped(texts(x=["MÃ¼ller", "Müller", "plain", None, "MÃ¼ller"]), {"c": "fix_encoding(x)"})
    assert step.rows.column(0).to_pylist() == ["Müller", "Müller", "plain", None, "Müller"]


def test_a_child_finds_its_parent_by_uuid():
    parent = value("C-17", "uuid(x)", "uuid")
    assert value("C-17", "uuid(x, table := 't')", "uuid") == parent
    assert value("C-17", "uuid(concat('table :=', x), table := 't')", "uuid") == value(
        "table :=C-17", "uuid(x)", "uuid"
    )
    assert value("C-17", "UUID(x, Table := 'other')", "uuid") != parent
    assert value("C-18", "uuid(x)", "uuid") != parent
    assert value("C-17", "uuid(x)", "uuid", ctx=context(migration="another")) != parent
    assert value(None, "uuid(x)", "uuid") is None
    assert str(value("C-17", "uuid(x)", "text")).count("-") == 4


def test_lookup():
    ctx = context({"countries": {"D": "DE", "A": "AT"}})
    assert value("D", "lookup('countries', x)", ctx=ctx) == "DE"
    assert value("X", "lookup('countries', x)", ctx=ctx) == "lookup"
    assert value("X", "upper(lookup('countries', x))", ctx=ctx) == "lookup"
    assert value("X", "lookup('countries', x, '??')", ctx=ctx) == "??"
    assert value("X", "lookup('countries', x, NULL)", ctx=ctx) is None
    assert value(None, "lookup('countries', x)", ctx=ctx) is None


def test_lookup_in_a_code_table_that_is_not_there():
    with pytest.raises(UsageError, match=r'migrate.yaml:10:9: lookup: there is no code table "countrys".*"countries"'):
        value("D", "lookup('countrys', x)", ctx=context({"countries": {}}))


def test_pack_and_what_is_left():
    rows = texts(id=["1"], name=['A"b'], fax=[None], tel=["5"])
    step = mapped(rows, {"id": "id", "rest": "pack_rest()", "some": "pack(NAME, tel)"})
    assert step.rows.column(1).to_pylist() == ['{"fax":null}']
    assert step.rows.column(2).to_pylist() == ['{"name":"A\\"b","tel":"5"}']


def test_split():
    step = mapped(texts(x=["a, b ,c", "", None, "a,,b"]), {"c": "split(x, ',')"})
    assert step.rows.column(0).to_pylist() == [["a", "b", "c"], [], None, ["a", "", "b"]]


def test_an_author_may_refuse_a_row():
    step = mapped(texts(x=["a", "D"]), {"c": "CASE WHEN x = 'D' THEN error('deleted in the source') ELSE x END"})
    assert [(r.rule, r.reason) for r in step.rejects] == [("expression", "deleted in the source")]


@pytest.mark.parametrize("name", [n for n, f in FUNCTIONS.items() if n not in ("uuid", "pack", "pack_rest", "error")])
def test_the_examples_of_the_reference_are_true(name):
    for expression, expected in FUNCTIONS[name].examples:
        step = mapped(texts(x=["1"]), {"c": f"CAST({expression} AS VARCHAR)"}, ctx=context({"countries": {"D": "DE"}}))
        assert step.rows.column(0).to_pylist() == [expected]


def test_the_reference_is_what_the_code_says():
    page = Path(__file__).parents[2] / "docs" / "mapping.md"
    assert reference() in page.read_text(encoding="utf-8"), "run: python -m mappings.reference docs/mapping.md"


MOMENT = datetime.datetime


@pytest.mark.parametrize(
    ("x", "call", "expected"),
    [
        ("43861", "excel_date(x)", MOMENT(2020, 1, 31)),
        (" 43861 ", "excel_date(x, 1900)", MOMENT(2020, 1, 31)),
        ("42399", "excel_date(x, 1904)", MOMENT(2020, 1, 31)),
        ("42399", "excel_date(x, '1904')", MOMENT(2020, 1, 31)),
        ("1", "excel_date(x)", MOMENT(1900, 1, 1)),
        ("59", "excel_date(x)", MOMENT(1900, 2, 28)),
        ("60", "excel_date(x)", "type"),
        ("61", "excel_date(x)", MOMENT(1900, 3, 1)),
        ("60", "excel_date(x, 1904)", MOMENT(1904, 3, 1)),
        ("0", "excel_date(x)", "type"),
        ("0", "excel_date(x, 1904)", MOMENT(1904, 1, 1)),
        ("2958465", "excel_date(x)", MOMENT(9999, 12, 31)),
        ("2958466", "excel_date(x)", "type"),
        ("43861.5", "excel_date(x)", MOMENT(2020, 1, 31, 12)),
        ("43861.520833333336", "excel_date(x)", MOMENT(2020, 1, 31, 12, 30)),
        ("43861.5208333333", "excel_date(x)", MOMENT(2020, 1, 31, 12, 30)),
        ("43861.52083912037", "excel_date(x)", MOMENT(2020, 1, 31, 12, 30, 0, 500_000)),
        ("43861.999999999999", "excel_date(x)", MOMENT(2020, 2, 1)),
        ("-1", "excel_date(x)", "type"),
        ("31.01.2020", "excel_date(x)", "type"),
        ("", "excel_date(x)", "type"),
        ("99999999999", "excel_date(x)", "type"),
        (None, "excel_date(x)", None),
    ],
)
def test_excel_date(x, call, expected):
    assert value(x, call, "timestamp") == expected


def test_an_excel_date_without_a_time_is_a_date():
    assert value("43861", "excel_date(x)", "date") == DATE(2020, 1, 31)
    assert value("43861.5", "excel_date(x)", "date") == "precision"


def test_excel_knows_two_epochs():
    with pytest.raises(UsageError, match="the epoch must be 1900 or 1904"):
        value("1", "excel_date(x, 1901)", "timestamp")
