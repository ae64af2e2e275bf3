"""What `migrate init` writes: it parses, guesses what a person would, and repeats no value."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mappings.formats import parse_format
from mappings.scaffold import _MOMENTS, Draft, quoted, scaffold, snake_case
from mappings.spec import ProjectSpec, parse
from migrate.core import Table


def batch(**columns: Sequence[str | None]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(columns, schema=pa.schema([(name, pa.string()) for name in columns]))


def written(sample: pa.RecordBatch, **more: object) -> str:
    table = Table("customers", sample.schema, notes=("encoding cp1252 (detected)",))
    return scaffold(
        "Acme 2", [Draft("crm", "files", {"customers": ["in/*.csv"]}, [("Customers", table, sample)], more)]
    )


def project(text: str) -> ProjectSpec:
    return parse(text, Path("migrate.yaml"))


def guess(values: Sequence[str | None], column: str = "X") -> tuple[str, str | None]:
    found = project(written(batch(**{column: values}))).tables["customers"].columns[0]
    return found.expression, found.type


def test_a_first_project_file() -> None:
    sample = batch(
        CustomerID=["1", "2", "3"],
        **{"First Name": ["Zoé", "Ola", None]},
        Order=["a", "b", "b"],
        Born=["01.02.1970", "1982-11-30", "31.12.1999"],
    )
    text = written(sample, encoding="cp1252", delimiter="\t", quote="", header=True, nulls=["", "NULL"])
    assert (
        text
        == """\
# yaml-language-server: $schema=migrate.schema.json
# What goes where. Every expression below is a guess from a sample: look at each, then `migrate check`.

migration: acme_2  # the namespace of every uuid that is made: never change it
target: ${env:TARGET_URL}  # postgresql://host:5432/database, from the environment
# timezone: Europe/Berlin  # of times that name no zone

sources:
  crm:
    files:
      customers: in/*.csv
    encoding: cp1252
    delimiter: tab
    quote: none
    header: true
    nulls: ['', 'NULL']

tables:
  customers:
    # encoding cp1252 (detected)
    from: crm.customers
    key: CustomerID  # unique in the sample; the target's primary key may differ
    # primary_key: customer_id  # for a table that the toolkit makes
    mode: append  # or upsert, or replace
    columns:
      customer_id: {value: CustomerID, type: bigint}
      first_name: '"First Name"'
      order: '"Order"'
      born: parse_date(Born, 'DD.MM.YYYY', 'YYYY-MM-DD')
"""
    )
    assert [c.expression for c in project(text).tables["customers"].columns][1:3] == ['"First Name"', '"Order"']


@pytest.mark.parametrize(
    ("values", "expression", "type_"),
    [
        (["1", "-20", None, " 3 "], "X", "bigint"),
        (["007", "8"], "X", None),
        (["1" * 19], "X", None),
        (["1.5", "-2", "0.25"], "X", "numeric(20,2)"),
        (["1.234,50 €", "12,00 €", "-3,10 €"], "parse_money(X, 'de')", None),
        (["$1,234.50", "12.00"], "parse_money(X, 'en')", None),
        (["1,50", "2,75"], "parse_money(X, 'de')", None),
        (["Ja", "nein", "ja"], "parse_bool(X)", None),
        (["0", "1"], "X", "bigint"),
        (["Y", None, "N"], "parse_bool(X)", None),
        (["20200131", "19991231"], "parse_date(X, 'YYYYMMDD')", None),
        (["1.2.2020", "13.12.2020"], "parse_date(X, 'D.M.YYYY')", None),
        (["12/31/2020", "01/02/2020"], "parse_date(X, 'MM/DD/YYYY')", None),
        (["31-Jan-2020"], "parse_date(X, 'DD-MON-YYYY')", None),
        (["2020-01-31 12:00:01"], "parse_timestamp(X, 'YYYY-MM-DD HH24:MI:SS')", None),
        (["2020-01-31T12:00"], "parse_timestamp(X, 'YYYY-MM-DDTHH24:MI')", None),
        (["01.02.70"], "X", None),
        (["31.31.2020"], "X", None),
        (["red", "1", "2"], "X", None),
        ([None, "", " "], "X", None),
        ([], "X", None),
    ],
)
def test_guesses(values: list[str | None], expression: str, type_: str | None) -> None:
    assert guess(values) == (expression, type_)


def test_what_does_not_fit_a_guess_is_counted_and_not_shown() -> None:
    text = written(batch(Born=["01.02.1970"] * 99 + ["secret"]))
    assert "born: parse_date(Born, 'DD.MM.YYYY')  # 1 of 100 in the sample do not fit" in text
    assert "secret" not in text


def test_doubts_are_told() -> None:
    assert "day first or month first? the sample fits both" in written(batch(D=["01/02/2020"]))
    assert "thousands or decimals? the sample fits both" in written(batch(D=["1.234", "2.500"]))
    assert guess(["0301234", "4412345"], "Phone") == ("Phone", None)
    assert guess(["4412345", "4412346"], "Phone") == ("Phone", None)


def test_the_key_is_unique_never_empty_and_named_like_one() -> None:
    def key(**columns: list[str | None]) -> tuple[str, ...]:
        return project(written(batch(**columns))).tables["customers"].key

    assert key(Name=["a", "b"], CustNo=["1", "2"]) == ("CustNo",)
    assert key(Name=["a", "b"], CustNo=["1", "1"]) == ("Name",)
    assert key(CustNo=["1", None]) == ()
    assert key(Born=["01.01.2000", "02.01.2000"]) == ()
    assert key(CustNo=["1"]) == ()


@pytest.mark.parametrize(
    ("name", "snake"),
    [
        ("CustomerID", "customer_id"),
        ("Straße (privat)", "strasse_privat"),
        ("HTTPServer2", "http_server2"),
        ("__a--b  c", "a_b_c"),
        ("Größe", "grosse"),
        ("Имя", "имя"),
        ("%%", "unnamed"),
    ],
)
def test_snake_case(name: str, snake: str) -> None:
    assert snake_case(name) == snake


def test_names_are_quoted_where_sql_needs_it() -> None:
    assert quoted("Phone") == "Phone"
    assert quoted("order") == '"order"'
    assert quoted('a"b') == '"a""b"'
    assert quoted("Größe") == '"Größe"'


def test_every_format_that_is_guessed_is_one_that_can_be_parsed() -> None:
    assert [parse_format(each).written for each in _MOMENTS] == list(_MOMENTS)


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=80).filter(
    str.strip
)  # a name of blanks alone is refused


@settings(max_examples=100, deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=6, unique=True), NAMES, NAMES, st.text(max_size=20))
def test_any_names_make_a_file_that_parses(columns: list[str], table: str, source: str, note: str) -> None:
    schema = pa.schema([(name, pa.string()) for name in columns])
    text = scaffold(
        "m", [Draft(source, "files", {table: ["a: b #.csv"]}, [(table, Table(table, schema, notes=(note,)), None)])]
    )
    (made,) = project(text).tables.values()
    assert [column.expression for column in made.columns] == [quoted(name) for name in columns]
    assert len({column.name for column in made.columns}) == len(columns)
    assert made.source_table == table


def test_a_column_that_cannot_be_read_is_left_out_with_the_reason() -> None:
    schema = pa.schema([("id", pa.int64()), ("email", pa.string())])
    table = Table("people", schema, ("id",), refused={"email": "it is masked for the source's user"})
    text = scaffold("m", [Draft("erp", "", {}, [("people", table, None)], url="mssql://x/erp")])
    assert "      # email is left out, for it cannot be read: it is masked for the source's user\n" in text
    assert "email:" not in text
    assert "      id: id\n" in text
