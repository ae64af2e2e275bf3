"""The law of a clone: it takes a row exactly if the real table takes it, refuses it for the same reason, stores the same."""

from typing import Any

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from migrate import shadow
from migrate.target import Connection

from .rig import SHADOW, attempt, cloned

TYPES: dict[str, tuple[list[str], list[str], list[str]]] = {
    "int": (["0", "1", "2", "2147483648", "'x'"], ["{0} > 0", "{0} % 2 = 0"], ["1", "nextval('shop.own')"]),
    "smallint": (["0", "1", "40000"], ["{0} < 2"], ["'7'::smallint"]),
    "numeric(4,1)": (["0", "1.25", "999.9", "1000", "'NaN'"], ["{0} >= 1"], ["round(2.25, 1)"]),
    "text": (["''", "'a'", "'A'", "'ä'"], ["{0} <> ''", "lower({0}) = {0}"], ["'d'", "current_user"]),
    'text COLLATE "C"': (["'a'", "'B'", "'ä'"], ["{0} < 'b'"], ["upper('c')"]),
    "varchar(3)": (["''", "'abc'", "'abcd'", "'abc '"], ["length({0}) < 3"], ["'abcd'"]),
    "char(2)": (["'a'", "'a '", "'abc'"], ["{0} = 'a'"], ["'b'"]),
    "date": (["'2020-02-29'", "'2021-02-29'", "'infinity'"], ["{0} < 'infinity'"], ["CURRENT_DATE"]),
    "timestamptz": (["'2020-01-01'", "now()"], ["{0} <= now()"], ["now()"]),
    "jsonb": (["'{{}}'", "'{{'", "'null'"], ["jsonb_typeof({0}) = 'object'"], ["'[1]'"]),
    "int[]": (["'{{1}}'", "'{{1,NULL}}'", "'1'"], ["cardinality({0}) > 0"], ["ARRAY[1, 2]"]),
    "shop.small": (["1", "9", "10"], ["{0} <> 1"], ["3"]),
    "shop.colour": (["'red'", "'blue'"], ["{0} <> 'red'"], ["'green'"]),
    "int4range": (["'[1,3)'", "'[2,4)'", "'[3,1)'"], ["NOT isempty({0})"], ["'[5,6)'"]),
}
"""Type: values, good and bad; checks; defaults."""

TEXTS = ("text", 'text COLLATE "C"', "varchar(3)", "char(2)")


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[tuple[str, str]]]:
    """The statements that make shop.t, and its writable columns with their types."""
    lines, writable = [], []
    kinds = draw(st.lists(st.sampled_from(sorted(TYPES)), min_size=1, max_size=4))
    names = ["a", "Ünder score", 'q"uote', "select"][: len(kinds)]
    for name, kind in zip(names, kinds, strict=True):
        quoted = '"' + name.replace('"', '""') + '"'
        line = f"{quoted} {kind}"
        if draw(st.booleans()):
            line += " NOT NULL"
        if draw(st.integers(0, 2)) == 0:
            line += f" DEFAULT {draw(st.sampled_from(TYPES[kind][2])).format()}"
        if draw(st.integers(0, 2)) == 0:
            line += f" CHECK ({draw(st.sampled_from(TYPES[kind][1])).format(quoted)})"
        if draw(st.integers(0, 2)) == 0:
            line += " UNIQUE"
        lines.append(line)
        writable.append((quoted, kind))
    quoted, kind = draw(st.sampled_from(writable))
    extra = draw(st.sampled_from(["", "key", "identity", "serial", "generated"]))
    if extra == "key":
        lines.append(f"CONSTRAINT the_key PRIMARY KEY ({', '.join(q for q, _ in writable)})")
    elif extra == "identity":
        lines.append("id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY (MAXVALUE 3)")
    elif extra == "serial":
        lines.append("id smallserial UNIQUE")
    elif extra == "generated":
        lines.append(f"made boolean NOT NULL GENERATED ALWAYS AS ({quoted} IS NOT NULL) STORED CHECK (made)")
    if kind == "int4range":
        lines.append(f"EXCLUDE USING gist ({quoted} WITH &&)")
    statements = [f"CREATE TABLE shop.t ({', '.join(lines)})"]
    index = draw(st.sampled_from(["", "partial", "expression"]))
    if index == "partial":
        statements.append(f"CREATE UNIQUE INDEX ON shop.t ((1)) WHERE {quoted} IS NULL")
    elif index == "expression" and kind in TEXTS:
        statements.append(f"CREATE UNIQUE INDEX ON shop.t (lower({quoted}::text))")
    return statements, writable


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_clone_takes_a_row_exactly_if_the_real_table_takes_it(conn: Connection, data: st.DataObject) -> None:
    statements, writable = data.draw(tables())
    conn.execute("DROP SCHEMA IF EXISTS shop CASCADE")
    shadow.sweep(conn, SHADOW)
    conn.execute(
        "CREATE SCHEMA shop; CREATE SEQUENCE shop.own MAXVALUE 4; CREATE DOMAIN shop.small AS int CHECK (VALUE < 10);"
        "CREATE TYPE shop.colour AS ENUM ('red', 'green')"
    )
    for statement in statements:
        try:
            conn.execute(statement)
        except psycopg.Error:
            return  # a type that has no such index, an expression that is not immutable
    assert cloned(conn, "shop.t").notes == ()
    rows = data.draw(
        st.lists(
            st.tuples(*(st.sampled_from([*TYPES[kind][0], "NULL", "DEFAULT", "DEFAULT"]) for _, kind in writable)),
            min_size=1,
            max_size=8,
        )
    )
    columns = ", ".join(quoted for quoted, _ in writable)
    with conn.transaction():
        for row in rows:
            values = f"({columns}) VALUES ({', '.join(value.format() for value in row)})"
            assert answer(conn, "shop", values) == answer(conn, SHADOW.schema, values), (statements, values)
    everything = "SELECT t::text FROM {}.t ORDER BY ctid"
    assert (
        conn.execute(everything.format("shop")).fetchall() == conn.execute(everything.format(SHADOW.schema)).fetchall()
    )


def answer(conn: Connection, schema: str, values: str) -> tuple[Any, ...]:
    return attempt(conn, f"INSERT INTO {schema}.t {values} RETURNING t::text")
