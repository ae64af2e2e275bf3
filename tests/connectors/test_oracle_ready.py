"""Oracle without a server: what `init`, `check`, the governor and `verify --level aggregates` ask, and what they make of it."""

from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pyarrow as pa
import pytest
from oraclerig import Answer, Column, Script, catalogue, column, ora

from migrate.core import Kind, Measure, Quantity, Reference
from migrate.errors import SourceError
from migrate.measures import _Asked, _value

ID = column("ID", "NUMBER", precision=9, scale=0, nullable=False)
ONE = pa.table({"id": pa.array([Decimal(1)], pa.decimal128(9, 0)), "name": ["x"]})
"""What a table holds where it does not matter."""
UNICODE: dict[str, Answer] = {
    "nls_database_parameters": [("NLS_CHARACTERSET", "AL32UTF8"), ("NLS_NCHAR_CHARACTERSET", "AL16UTF16")]
}
LATIN: dict[str, Answer] = {
    "nls_database_parameters": [("NLS_CHARACTERSET", "WE8MSWIN1252"), ("NLS_NCHAR_CHARACTERSET", "AL16UTF16")]
}
FINE: dict[str, Answer] = {
    **UNICODE,
    "'CON_NAME'": [("ORCL", "LEGACY", "READER")],
    "product_component_version": [("19.0.0.0.0",)],
    "user_resource_limits": [("UNLIMITED",)],
    "V$RESOURCE_LIMIT": [("processes", 80, "300"), ("sessions", 100, "472")],
    "V$SESSION": [(0,)],
    "redaction_columns": [],
    "all_policies": [],
    "undo_retention": [("3600",)],
    "supplemental_log_data_min": [("ARCHIVELOG", "YES", "YES", "NO")],
    "V$ARCHIVED_LOG": [(86_400,)],
    "WHERE 1 = 0": [],
}
"""A server on which everything is as a run would have it."""


def noticed(answers: dict[str, Answer], **options: Any) -> dict[str, tuple[str, str]]:
    """What was looked at → (the worst level, all that was said)."""
    columns: dict[str, Answer] = {**answers, **catalogue([ID], primary=("ID",), rows=20_000_000)}
    found: dict[str, tuple[str, str]] = {}
    for each in Script(columns, ONE).source(**options).preflight(["T"]):
        level, said = found.get(each.what, ("ok", ""))
        worst = max((level, each.level), key=["ok", "warning", "error"].index)
        found[each.what] = (worst, f"{said}{each.said} {each.hint}\n")
    return found


def test_a_server_that_has_all_it_needs() -> None:
    found = noticed(FINE)
    assert {what for what, (level, _) in found.items() if level != "ok"} == {"version"}
    assert "Oracle 19.0.0.0.0, database ORCL, container LEGACY, user READER" in found["version"][1]
    assert "has not been tried on a real server yet" in found["version"][1]
    assert "220 of 300 free beside the 5 that a run takes" in found["connections"][1]
    assert "undo_retention is 3,600 s; the load of these tables takes about 4 min" in found["undo"][1]
    assert "the oldest log that is there begins 24.0 h ago" in found["log"][1]


def test_what_may_not_be_asked_is_said_to_be_unknown_with_the_grant_that_shows_it() -> None:
    found = noticed({k: v for k, v in FINE.items() if k in ("'CON_NAME'", "WHERE 1 = 0")})
    assert "error" not in {level for level, _ in found.values()}
    for what, view in (
        ("character set", "NLS_DATABASE_PARAMETERS"),
        ("connections", "V_$RESOURCE_LIMIT"),
        ("undo", "V_$PARAMETER"),
        ("log", "V_$DATABASE"),
        ("privileges", "V_$SESSION"),
        ("privileges", "REDACTION_COLUMNS"),
    ):
        assert f"GRANT SELECT ON {view} TO the source's user" in found[what][1]
        assert "not known" in found[what][1] or "may not be read" in found[what][1]
    kept = noticed({**FINE, "V$ARCHIVED_LOG": ora(942)})["log"]
    assert kept[0] == "warning"
    assert "GRANT SELECT ON V_$ARCHIVED_LOG" in kept[1]


@pytest.mark.parametrize(
    ("answers", "what", "said"),
    [
        (LATIN, "character set", "WE8MSWIN1252: the server converts it to UTF-8"),
        ({"user_resource_limits": [("4",)]}, "connections", "its user may have 4, and a run takes up to 5"),
        ({"user_resource_limits": [("4",)]}, "connections", "Lower `connections` of this source to 3"),
        ({"V$RESOURCE_LIMIT": [("sessions", 471, "472")]}, "connections", "raise the parameter sessions"),
        ({"undo_retention": [("300",)]}, "undo", "undo_retention is 300 s; the load of these tables takes about 4 min"),
        ({"supplemental_log_data_min": [("NOARCHIVELOG", "NO", "NO", "NO")]}, "log", "nothing can take over"),
        ({"supplemental_log_data_min": [("ARCHIVELOG", "NO", "NO", "NO")]}, "log", "ADD SUPPLEMENTAL LOG DATA, before"),
        (
            {"supplemental_log_data_min": [("ARCHIVELOG", "IMPLICIT", "NO", "NO")], "all_log_groups": []},
            "log",
            "changes of T are logged without their keys",
        ),
        ({"V$ARCHIVED_LOG": [(120,)]}, "log", "See that archived logs are kept"),
        ({"V$ARCHIVED_LOG": [(None,)]}, "log", "begins 0.0 h ago"),
        ({"all_policies": [("BRANCH",)]}, "T", "the policy BRANCH may hide rows from the source's user"),
        ({"redaction_columns": [("CARD",)]}, "T", "CARD: redacted for users who have no exemption"),
    ],
)
def test_what_is_not_as_a_run_would_have_it(answers: dict[str, Answer], what: str, said: str) -> None:
    level, all_said = noticed({**FINE, **answers})[what]
    assert level == "warning"
    assert said in all_said


def test_a_user_who_is_exempt_is_hidden_nothing() -> None:
    exempt: dict[str, Answer] = {"session_privs": [("EXEMPT ACCESS POLICY",), ("EXEMPT REDACTION POLICY",)]}
    hiding: dict[str, Answer] = {"all_policies": [("BRANCH",)], "redaction_columns": [("CARD",)]}
    assert "T" not in noticed({**FINE, **hiding, **exempt})
    answers: dict[str, Answer] = {**hiding, **catalogue([ID], primary=("ID",))}
    assert len(Script(answers).source().schema("T").warnings) == 2  # also told by plan and run


def test_a_table_whose_log_groups_have_its_key_is_as_it_should_be() -> None:
    answers: dict[str, Answer] = {
        "supplemental_log_data_min": [("ARCHIVELOG", "YES", "NO", "NO")],
        "all_log_groups": [("OWN", "T")],
    }
    assert noticed({**FINE, **answers})["log"][0] == "ok"


def test_a_source_at_rest_needs_neither_undo_nor_log() -> None:
    found = noticed(FINE, quiesced=True)
    assert "undo" not in found
    assert "log" not in found


def test_without_an_scn_the_grant_is_said() -> None:
    script = Script({**FINE, **catalogue([ID], primary=("ID",), scn=None)}, ONE)
    found = {each.what: each for each in script.source().preflight(["T"])}
    assert found["undo"].level == "warning"
    assert "there is no watermark" in found["undo"].said
    assert "DBMS_FLASHBACK" in found["undo"].hint


def test_a_table_that_may_not_be_read_as_of_the_scn_is_an_error_that_says_the_grant() -> None:
    level, said = noticed({**FINE, "WHERE 1 = 0": ora(1031, "insufficient privileges")})["T"]
    assert level == "error"
    assert "GRANT SELECT, FLASHBACK ON the table" in said


def test_the_readable_is_asked_with_the_scn_and_no_rows() -> None:
    script = Script({**FINE, **catalogue([ID], primary=("ID",))}, ONE)
    list(script.source().preflight(["T"]))
    assert 'SELECT t."ID" FROM "OWN"."T" AS OF SCN 4711 t WHERE 1 = 0' in script.asked


# --------------------------------------------------------------------------------------------------------------- doubts


def test_first_rows_that_would_be_rejected_are_told_by_their_columns() -> None:
    columns = [ID, column("BORN", "DATE"), column("NAME", "VARCHAR2", length=9), column("DOC", "CLOB")]
    rows = pa.table(
        {
            "id": pa.array([Decimal(1), Decimal(2)], pa.decimal128(9, 0)),
            "born": ["-0044-03-15 00:00:00", "1999-12-31 00:00:00"],
            "name": pa.array([b"ok", b"\xe4"]).view(pa.string()),
        }
    )
    script = Script({**UNICODE, **catalogue(columns, primary=("ID",))}, rows)
    assert script.source().doubts("T") == {
        "BORN": "1 of the first 2 are no date and time, and reject their row",
        "NAME": "1 of the first 2 are no text, and reject their row",
    }
    read = next(sql for sql in script.asked if " c0" in sql)
    assert "DOC" not in read
    assert read.endswith('FROM "OWN"."T" AS OF SCN 4711 t WHERE ROWNUM <= 2000 ORDER BY t."ID"')


def test_utf_8_in_a_database_that_says_otherwise_is_told() -> None:
    names = [ID, column("NAME", "VARCHAR2", length=9)]
    stored: dict[str, Answer] = {"CAST_TO_RAW": [("C3BC",), ("5C",), ("C3A4",), ("E4",)]}
    script = Script({**LATIN, **stored, **catalogue(names, primary=("ID",))}, ONE)
    assert script.source().doubts("T") == {
        "NAME": "2 of 3 values with accents are UTF-8 in a column that says otherwise: fix_encoding(NAME) mends them"
    }
    assert Script({**UNICODE, **stored, **catalogue(names, primary=("ID",))}, ONE).source().doubts("T") == {}
    assert (
        Script({**LATIN, **catalogue(names, primary=("ID",))}, ONE).source().doubts("T") == {}
    )  # UTL_RAW is not granted


def test_the_first_rows_of_a_view_are_not_looked_at() -> None:
    """But one that cannot be read is told."""
    assert Script({"WHERE 1 = 0": [], **catalogue([ID], kind="view")}).source().doubts("T") == {}
    with pytest.raises(SourceError, match="view has errors"):
        Script({"WHERE 1 = 0": ora(4063, "view has errors"), **catalogue([ID], kind="view")}).source().doubts("T")


# ------------------------------------------------------------------------------------------------- references, views, load


def test_foreign_keys_of_several_columns_and_to_other_schemas() -> None:
    keys: dict[str, Answer] = {
        "constraint_type = 'R'": [
            ("FK1", "A", "OWN", "P", "X"),
            ("FK1", "B", "OWN", "P", "Y"),
            ("FK2", "C", "HR", "EMPLOYEES", "ID"),
        ]
    }
    script = Script({**keys, **catalogue([ID])})
    assert script.source().references("T") == [
        Reference(("A", "B"), "P", ("X", "Y")),
        Reference(("C",), "HR.EMPLOYEES", ("ID",)),
    ]


def test_views_are_offered_and_not_among_the_tables() -> None:
    source = Script(catalogue([ID], kind="view", names=[("OWN", "V"), ("HR", "W")])).source()
    assert source.tables() == []
    assert source.offers() == [("HR.W", "view"), ("V", "view")]
    with pytest.raises(Exception, match="no table 'VV'") as raised:
        source.schema("VV")
    assert "did you mean 'V'" in cast(SourceError, raised.value).hint


def test_the_load_of_others_is_that_of_no_process_of_ours() -> None:
    script = Script({"V$SESSION": [(3,)]})
    assert script.source().load() == 3
    [asked] = [sql for sql in script.asked if "V$SESSION" in sql]
    for part in ("s.status = 'ACTIVE'", "me.process", "me.machine", "NOT LIKE '%(P___)'", "wait_class = 'Idle'"):
        assert part in asked
    assert Script({"V$SESSION": ora(942)}).source().load() is None


# ------------------------------------------------------------------------------------------------------------ aggregates


def spelled(
    given: Column, meant: Kind, quantity: Quantity, encoded: dict[str, Answer] = UNICODE, **more: Any
) -> str | None:
    engine = Script({**encoded, **catalogue([given], **more)}).engine()
    return engine.measure(engine.relation("T").field("X"), Measure("X", meant, quantity))


TM9 = "'TM9', 'NLS_NUMERIC_CHARACTERS=''.,'''"
MD5 = "TO_NUMBER(SUBSTR(RAWTOHEX(STANDARD_HASH({}, 'MD5')), 1, 8), 'XXXXXXXX')"
NAME = column("X", "VARCHAR2", length=20)


@pytest.mark.parametrize(
    ("given", "kind", "quantity", "sql"),
    [
        (NAME, "text", "values", 'COUNT("X")'),
        (column("X", "CLOB"), "text", "values", 'COUNT(CASE WHEN "X" IS NOT NULL THEN 1 END)'),
        (column("X", "NUMBER", precision=9, scale=2), "number", "sum", f'TO_CHAR(SUM("X"), {TM9})'),
        (column("X", "NUMBER", precision=38, scale=2), "number", "most", f'TO_CHAR(MAX("X"), {TM9})'),
        (column("X", "BINARY_FLOAT"), "real", "least", 'MIN(TO_BINARY_DOUBLE("X"))'),
        (
            column("X", "BOOLEAN"),
            "boolean",
            "sum",
            f'TO_CHAR(SUM(CASE WHEN "X" THEN 1 WHEN NOT "X" THEN 0 END), {TM9})',
        ),
        (NAME, "text", "length", f'TO_CHAR(SUM(LENGTH4("X")), {TM9})'),
        (
            NAME,
            "text",
            "digest",
            f'TO_CHAR(SUM(CASE WHEN "X" IS NOT NULL THEN {MD5.format(chr(34) + "X" + chr(34))} END), {TM9})',
        ),
        (column("X", "RAW", length=16), "bytes", "length", f'TO_CHAR(SUM(VSIZE("X")), {TM9})'),
        (column("X", "BLOB"), "bytes", "length", f'TO_CHAR(SUM(DBMS_LOB.GETLENGTH("X")), {TM9})'),
    ],
)
def test_an_aggregate_is_spelled_by_the_server(given: Column, kind: Kind, quantity: Quantity, sql: str) -> None:
    assert spelled(given, kind, quantity) == sql


@pytest.mark.parametrize(
    ("given", "kind", "quantity", "encoded", "more"),
    [
        (
            column("X", "NUMBER", precision=27, scale=2),
            "number",
            "sum",
            UNICODE,
            {},
        ),  # may have more digits than a NUMBER
        (column("X", "NUMBER", scale=0), "number", "sum", UNICODE, {}),
        (column("X", "NUMBER", precision=9, scale=2), "number", "sum", UNICODE, {"kind": "view"}),  # no promise
        (column("X", "NUMBER"), "text", "digest", UNICODE, {}),
        (column("X", "CLOB"), "text", "length", UNICODE, {}),
        (column("X", "CLOB"), "text", "digest", UNICODE, {}),
        (column("X", "BLOB"), "bytes", "digest", UNICODE, {}),
        (column("X", "LONG"), "text", "values", UNICODE, {}),
        (NAME, "text", "length", LATIN, {}),
        (NAME, "text", "digest", LATIN, {}),
        (NAME, "text", "digest", {}, {}),  # NLS_DATABASE_PARAMETERS may not be read
        (column("X", "NVARCHAR2", length=20), "text", "digest", LATIN, {}),
        (column("X", "NVARCHAR2", length=2000), "text", "digest", UNICODE, {}),
        (column("X", "INTERVAL YEAR(2) TO MONTH", scale=0), "text", "length", UNICODE, {}),
    ],
)
def test_what_may_differ_is_left_out(
    given: Column, kind: Kind, quantity: Quantity, encoded: dict[str, Answer], more: dict[str, Any]
) -> None:
    assert spelled(given, kind, quantity, encoded, **more) is None


def test_aggregates_are_asked_as_of_the_scn_and_by_keys() -> None:
    script = Script({**UNICODE, "SUM(": [("12.5",)], "MAX(": [(".5",)], **catalogue([ID], primary=("ID",))})
    source = script.source()
    total, most = Measure("ID", "number", "sum"), Measure("ID", "number", "most")
    assert source.computes("T", total)
    assert not source.computes("T", replace(total, kind="text", quantity="digest", beside=(("ID", "text"),)))
    assert [str(v) for v in source.aggregates("T", [total], None)] == ["12.5"]
    assert script.asked[-1] == f'SELECT TO_CHAR(SUM("ID"), {TM9}) FROM "OWN"."T" AS OF SCN 4711'
    assert [str(v) for v in source.aggregates("T", [most], [("1",), ("7",)])] == ["0.5"]
    assert script.asked[-1].endswith('AS OF SCN 4711 WHERE ("ID" = 1) OR ("ID" = 7)')


ORACLE = """
CREATE SCHEMA ora;
CREATE FUNCTION ora.to_char(numeric, text, text) RETURNS text LANGUAGE sql AS 'SELECT $1::text';
CREATE FUNCTION ora.length4(text) RETURNS int LANGUAGE sql AS 'SELECT length($1)';
CREATE FUNCTION ora.vsize(bytea) RETURNS int LANGUAGE sql AS 'SELECT octet_length($1)';
CREATE FUNCTION ora.standard_hash(text, text) RETURNS bytea LANGUAGE sql AS $$SELECT decode(md5($1), 'hex')$$;
CREATE FUNCTION ora.standard_hash(bytea, text) RETURNS bytea LANGUAGE sql AS $$SELECT decode(md5($1), 'hex')$$;
CREATE FUNCTION ora.rawtohex(bytea) RETURNS text LANGUAGE sql AS $$SELECT upper(encode($1, 'hex'))$$;
CREATE FUNCTION ora.to_number(text, text) RETURNS numeric LANGUAGE sql AS $$SELECT ('x' || $1)::bit(32)::int8$$;
CREATE FUNCTION ora.sys_extract_utc(timestamptz) RETURNS timestamp LANGUAGE sql AS $$SELECT $1 AT TIME ZONE 'UTC'$$;
CREATE FUNCTION ora.nulled(text) RETURNS text LANGUAGE sql AS $$SELECT NULLIF(rtrim($1), '')$$;
SET search_path = ora, pg_catalog, public;
"""
"""What PostgreSQL does not have, as Oracle's manual describes it: so that the arithmetic is computed, if not by Oracle."""


MOMENTS = [
    "0001-01-01 00:00:00",
    "0004-02-29 12:00:00",
    "1500-02-28 23:59:59",
    "1582-10-04 00:00:00",
    "1582-10-15 00:00:00.000001",
    "1900-02-28 23:59:59.999999",
    "1900-03-01 00:00:00",
    "1969-12-31 23:59:59.5",
    "1970-01-01 00:00:00",
    "2000-02-29 01:02:03.000004",
    "2100-03-01 00:00:00",
    "9999-12-31 23:59:59.999999",
]


@pytest.mark.parametrize(
    ("given", "kind", "target", "values"),
    [
        (column("X", "TIMESTAMP(6)", scale=6), "moment", "timestamp", MOMENTS),
        (column("X", "DATE"), "moment", "timestamp", MOMENTS),
        (column("X", "TIMESTAMP(6) WITH TIME ZONE", scale=6), "moment", "timestamptz", [f"{m}+00" for m in MOMENTS]),
        (column("X", "NUMBER", precision=20, scale=4), "number", "numeric", ["-1234567890123456.7891", "0", None]),
        (column("X", "CHAR", length=5), "padded", "char(5)", ["ab   ", "     ", "ä😁   ", None]),
        (NAME, "text", "text", ["ab ", "ä😁", " ", None]),
        (column("X", "RAW", length=16), "bytes", "bytea", [b"\x00\xff", None]),
    ],
)
def test_an_aggregate_is_what_the_target_computes(
    conn: psycopg.Connection[Any], given: Column, kind: Kind, target: str, values: list[Any]
) -> None:
    """Oracle's RTRIM makes NULL of nothing but blanks, and so does the function in its place."""
    cell = cast(Any, SimpleNamespace(column=SimpleNamespace(name="X", base=target)))
    quantities: dict[str, tuple[Quantity, ...]] = {"padded": ("length", "digest"), "text": ("length", "digest")}
    quantities["bytes"] = quantities["text"]
    conn.execute(ORACLE)
    conn.execute(f'CREATE TABLE public.t ("X" {target})')  # type: ignore[arg-type]
    for value in values:
        conn.execute("TRUNCATE public.t")
        conn.execute("INSERT INTO public.t VALUES (%s)", [value])
        for quantity in quantities.get(kind, ("sum", "least", "most")):
            sql = spelled(given, kind, quantity)
            assert sql is not None
            ours = _Asked(("X",), Measure("X", kind, quantity), _value(cell, kind, quantity)).aggregate
            asked = f"{sql.replace('RTRIM(', 'ora.nulled(')}, ({ours})::text"
            row = conn.execute(f"SELECT {asked} FROM public.t").fetchone()  # type: ignore[arg-type]
            assert row is not None
            there, here = (Decimal(v or 0) for v in row)
            assert (value, quantity, there) == (value, quantity, here)
