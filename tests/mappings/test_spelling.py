"""A type as people spell it is, before the table is made, what PostgreSQL's catalogue says of it after."""

import dataclasses
import re

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mapped import context, table_spec, texts

from mappings.compile import compile_table
from mappings.ddl import create_table
from mappings.spec import ColumnSpec, Mark
from mappings.spelling import UnknownType, parse_type
from migrate.core import Table
from migrate.errors import UsageError
from migrate.target import catalogue

SPELLINGS = """
    bool, boolean, int, integer, int2, int4, int8, smallint, bigint, real, float, float4, float8, double precision,
    float(1), float(24), float(25), float(53), numeric, decimal, dec, numeric(10), numeric(5,0), numeric(10,2),
    dec(10,2), decimal ( 10 , 2 ), numeric(5,-2), numeric(3,5), numeric(1000,0), numeric(40,2),
    char, character, nchar, national char, national character, char(3), character(3), nchar(4), national character(4),
    bpchar, bpchar(7), varchar, varchar(20), character varying, character varying(9), char varying(2), nchar varying(3),
    national character varying(5), national char varying, text, TEXT, "char", name,
    date, time, time(2), time without time zone, time(3) without time zone, timetz, timetz(0), time with time zone,
    time(4) with time zone, timestamp, timestamp(3), timestamp (0) without time zone, timestamp without time zone,
    timestamptz, timestamptz(6), timestamptz(1), timestamp with time zone, Timestamp(2)  With Time Zone,
    interval, interval(0), interval(3), interval(6), bit, bit(3), bit varying, bit varying(5), varbit, varbit(8),
    uuid, bytea, json, jsonb, jsonpath, xml, money, oid, inet, cidr, macaddr, macaddr8, point, line, lseg, box, path,
    polygon, circle, tsvector, tsquery, pg_lsn, xid, xid8, int4range, int8range, numrange, tsrange, tstzrange,
    daterange, int4multirange, tstzmultirange
"""
WRITTEN = [" ".join(s.split()) for s in re.split(r",(?![^(]*\))", SPELLINGS)]
"""Split at the commas that stand outside parentheses."""


def made(asked: psycopg.Connection, written: str):
    asked.execute("DROP TABLE IF EXISTS spelled")
    asked.execute(f"CREATE TABLE spelled (c {written})")
    table = catalogue(asked, "public", "spelled")
    assert table is not None
    return table


def of_catalogue(asked: psycopg.Connection, written: str) -> tuple[str, str, tuple[int, ...]]:
    (column,) = made(asked, written).columns
    return column.type, column.base, column.modifier


@pytest.mark.parametrize("written", WRITTEN)
def test_a_type_is_what_the_catalogue_says(asked, written):
    assert parse_type(written) == of_catalogue(asked, written)
    assert parse_type(written + "[]") == of_catalogue(asked, written + "[]")
    assert parse_type(parse_type(written)[0]) == parse_type(written), "its own spelling reads otherwise"


@pytest.mark.parametrize("written", ["int[3]", "int[][]", "int[2][2]", "text ARRAY", "varchar(5) array[4]", "int []"])
def test_arrays_however_they_are_written(asked, written):
    assert parse_type(written) == of_catalogue(asked, written)


PIECES = """
    numeric dec char character varying varchar national nchar bit time timestamp timestamptz interval with without zone
    float double precision int4 serial "char" array [] [2] (3) (0) (7) (10,2) (5,-1) ( 2 ) (54) () date bpchar
"""


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(st.sampled_from(PIECES.split()), min_size=1, max_size=5))
def test_whatever_is_understood_is_understood_as_postgres_does(asked, words):
    written = " ".join(words)
    try:
        parsed = parse_type(written)
    except UnknownType:
        return
    assert parsed == of_catalogue(asked, written)


@pytest.mark.parametrize("written", [*WRITTEN, "int[3]", "varchar(5)[]", "numeric(10,2)[]"])
def test_a_digest_is_the_same_before_and_after_the_table_is_made(asked, written):
    asked.execute("DROP TABLE IF EXISTS spelled")
    base, modifier = parse_type(written)[1:]
    value = {"bytea": "unhex(x)", "_int4": "split(x, ',')", "timestamptz": "x"}.get(base, "x")
    if base.startswith("_") and value == "x":
        value = "split(x, ',')"
    column = ColumnSpec("c", value, Mark(10, 9), type=written)
    spec = dataclasses.replace(table_spec({}), columns=(column,), target_name="spelled")
    source, ctx = Table("t", texts(x=["1"]).schema), context(timezone="UTC")
    before = compile_table(spec, source, None, ctx)
    asked.execute(create_table(before.target))
    after = compile_table(spec, source, catalogue(asked, "public", "spelled"), ctx)
    assert (after.digest, after.schema, after.wires) == (before.digest, before.schema, before.wires)
    assert after.cells[0].column.modifier == modifier


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("serial", "bigint, and an identity column"),
        ("bigserial", "bigint, and an identity column"),
        ("SMALLSERIAL", "bigint, and an identity column"),
        ("serial[]", "bigint, and an identity column"),
        ("mood", "For an enum, a domain"),
        ("app.mood", "For an enum, a domain"),
        ('"Mixed"', "For an enum, a domain"),
        ("posint", "For an enum, a domain"),
        ('text collate "C"', "For an enum, a domain"),
        ("varchr(5)", 'Did you mean "varchar"?'),
        ("interval day", "interval(0) to interval(6)"),
        ("interval day to second(3)", "interval(0) to interval(6)"),
        ("datetime", "timestamp"),
        ("varchar2(20)", "varchar"),
        ("number(10,2)", "numeric"),
        ("int unsigned", "For an enum, a domain"),
        ("int4(3)", "takes no numbers"),
        ("text(3)", "takes no numbers"),
        ("numeric(10,2,3)", "precision of 1 to 1000"),
        ("numeric(1001)", "precision of 1 to 1000"),
        ("numeric(0)", "precision of 1 to 1000"),
        ("numeric()", "whole numbers"),
        ("varchar(x)", "whole numbers"),
        ("varchar(0)", "from 1 to"),
        ("float(54)", "from 1 to 53"),
        ("timestamp(7)", "from 0 to 6"),
        ("varchar(5) varying", "For an enum, a domain"),
        ("", "For an enum, a domain"),
        ("text; drop table t", "For an enum, a domain"),
        ("[]", "For an enum, a domain"),
    ],
)
def test_what_is_not_understood_is_a_fault_with_its_place(written, hint):
    column = ColumnSpec("c", "x", Mark(10, 9), type=written, type_mark=Mark(10, 23))
    if not written:
        with pytest.raises(UnknownType):
            parse_type(written)
        return
    spec = dataclasses.replace(table_spec({}), columns=(column,))
    with pytest.raises(UsageError) as caught:
        compile_table(spec, Table("t", texts(x=["1"]).schema), None, context())
    assert caught.value.message.startswith('migrate.yaml:10:23: column "c": ')
    assert hint in caught.value.message
    assert written in caught.value.message
