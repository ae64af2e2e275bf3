"""What the compiler refuses, how it says so, and what a digest stands for."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from mapped import column, compiled, context, table_spec, target, texts

from mappings.compile import compile_table
from migrate.core import Check, Table
from migrate.errors import UsageError

ROWS = texts(CustomerID=["1"], Email=["a@b"], Total=["1.5"], Status=["A"])


def refusal(columns, to=None, rows=ROWS, ctx=None, **kw) -> str:
    with pytest.raises(UsageError) as caught:
        compiled(rows, columns, to, ctx, **kw)
    return caught.value.message


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("emial", 'column "emial" is not in the source. Did you mean "Email"?'),
        ("lower(emial)", '10:15: column "emial" is not in the source.'),
        ("lowr(Email)", 'there is no function "lowr". Did you mean "lower"?'),
        ("pars_date(Email, 'YYYY')", 'Did you mean "parse_date"?'),
        ("(SELECT 1)", "a subquery cannot be used"),
        ("Email IN (SELECT 1)", "a subquery cannot be used"),
        ("sum(Total)", "sum is an aggregate"),
        ("row_number() OVER ()", "a window function cannot be used"),
        ("unnest([1])", "unnest cannot be used"),
        ("*", "a star cannot be used"),
        ("columns('x')", "a star cannot be used"),
        ("$1", "a parameter cannot be used"),
        ("?", "a parameter cannot be used"),
        ("random()", "differs from run to run"),
        ("now()", "differs from run to run"),
        ("current_timestamp", "differs from run to run"),
        ("current_date", "differs from run to run"),
        ("gen_random_uuid()", "differs from run to run"),
        ("nextval('s')", "differs from run to run"),
        ("age(TIMESTAMP '2020-01-01')", "differs from run to run"),
        ("uuid()", "uuid is used as uuid(x"),
        ("read_csv('/etc/passwd')", "reads what is not in the source row"),
        ("read_text('/etc/passwd')", "reads what is not in the source row"),
        ("current_setting('x')", "cannot be used"),
        ("getvariable('x')", "cannot be used"),
        ("pg_sleep(1)", "cannot be used"),
        ("query('SELECT 1')", "cannot be used"),
        ("lower(Email", "syntax error"),
        ("'unclosed", "unterminated"),
        ("Email, Total", "not one SQL expression"),
        ("Email FROM t", "not one SQL expression"),
        ("1; DROP TABLE x", "not one SQL expression"),
        ("", "SELECT clause without selection list"),
        ("Total * 2", "No function matches"),
        ("Total = 1", "compares text with a number"),
        ("CASE WHEN Total > 1 THEN 'a' END", "compares text with a number"),
        ("nullif(Total, 0)", "compares text with a number"),
        ("CASE Total WHEN 1 THEN 'one' END", "compares text with a number"),
        ("Status IN (1, 2)", "compares text with a number"),
        ("parse_date(Email)", "parse_date is used as parse_date(x, format…)"),
        ("parse_date(Email, Status)", "a format must be a constant text"),
        ("parse_date(Email, 'DD.MM')", "needs one year"),
        ("parse_date(Email, 'YYYY-MM-DD HH24')", "has a time of day"),
        ("parse_timestamp(Email, 'YYYY-MM-DD', zone := 'Europe/Berln')", "Europe/Berln"),
        ("parse_timestamp(Email, 'YYYY-MM-DD', zon := 'Europe/Berlin')", 'Did you mean "zone"?'),
        ("parse_money(Total, 'xx')", "locale 'xx' is not known"),
        ("pack(lower(Email))", "pack takes source columns"),
        ("CAST(Total AS nonsense)", "nonsense"),
        ("'x'::DATE", "invalid date"),
        ("Email.field", "Email"),
        ("Email AS e", 'ends with a name, "e", which an expression does not have'),
        ("Email Total", 'ends with a name, "Total", which an expression does not have'),
        ("[[Email]]::INTEGER[][]", "a cast to INTEGER[][] reads text as it sees fit"),
        ("Email::INTEGER[]", "a cast to INTEGER[] reads text as it sees fit"),
        ("[Email]::TINYINT[]", "a cast to TINYINT[] reads text as it sees fit"),
        ("CAST(Email AS STRUCT(a INTEGER)).a", "reads text as it sees fit"),
        ("list_transform([[Email]], lambda l: CAST(l AS INTEGER[]))", "reads text as it sees fit"),
    ],
)
def test_what_is_refused(expression, said):
    message = refusal({"c": expression})
    assert said in message
    assert message.startswith("migrate.yaml:10:")
    assert len(message.splitlines()) == 1


def test_a_name_after_an_expression_is_told_from_a_column_of_two_words():
    rows = texts(**{"First Name": ["a"], "First": ["b"]})
    assert "write '\"First Name\"'" in refusal({"c": "First Name"}, rows=rows)
    assert compiled(rows, {"c": '"First Name"'}, None).reads == ("First Name",)


def test_all_faults_at_once_in_the_order_of_the_file():
    to = target(
        column("id", "integer"),
        column("born", "date", nullable=False),
        column("raw", "bytea"),
        column("g", "text", generated=True),
    )
    message = refusal(
        {"id": "CustomrID", "emial": "Email", "raw": "Email", "g": "Email"}, to, where="Statu = 'x'", key=("Nr",)
    )
    assert message.splitlines() == [
        'migrate.yaml:5:3: column "born" of public.t is NOT NULL: it must be mapped',
        'migrate.yaml:5:3: key: column "Nr" is not in the source.',
        'migrate.yaml:7:12: column "Statu" is not in the source. Did you mean "Status"?',
        'migrate.yaml:10:9: column "CustomrID" is not in the source. Did you mean "CustomerID"?',
        'migrate.yaml:11:9: column "emial" is not in public.t.',
        'migrate.yaml:12:9: column "raw" is bytea, and varchar does not become that. unhex(x) or from_base64(x) reads '
        "bytes from text, encode(x) gives the text's own",
        'migrate.yaml:13:9: column "g" is generated by the target: it cannot be written. Leave it out; an identity takes '
        "the source's values once it is GENERATED BY DEFAULT.",
    ]


@pytest.mark.parametrize(
    ("expression", "written", "hint"),
    [
        ("Email", "timestamptz", "zone := "),
        ("CAST(Email AS DATE)", "integer", "not become"),
        ("CAST(Email AS DATE)", "boolean", "write a comparison"),
        ("CAST(Email AS TIMESTAMPTZ)", "timestamp", "AT TIME ZONE"),
        ("CAST(Email AS TIMESTAMPTZ)", "date", "::DATE"),
        ("encode(Email)", "text", "decode(x)"),
        ("Email", "integer[]", "split("),
        ("[Email]", "text", "array_to_string"),
        ("CAST(Total AS DOUBLE)", "numeric", "DECIMAL(38,10)"),
    ],
)
def test_types_that_do_not_become_another(expression, written, hint):
    assert hint in refusal({"c": expression}, target(column("c", written)))


def test_where_must_be_a_condition():
    assert "where must be true or false, not a varchar" in refusal({"c": "Email"}, where="Email")


def test_names_are_found_in_any_case_and_only_what_is_read_is_asked_for():
    mapping = compiled(ROWS, {"a": "EMAIL", "b": "lower(status)"}, None, key=("customerid",))
    assert mapping.reads == ("CustomerID", "Email", "Status")


KEY = column("k", "integer", nullable=False)
REST = column("v", "text")


def keyed(*columns, **kw):
    return dataclasses.replace(target(*columns), **kw)


@pytest.mark.parametrize(
    ("to", "options", "said"),
    [
        (keyed(KEY, REST), {}, "mode upsert needs a key, and public.t has no primary key. Give the table"),
        (keyed(KEY, REST, uniques=(("k",),)), {}, "Say `on: [k]`."),
        (None, {}, "`primary_key: [...]`"),
        (None, {"on": ("k",)}, "upsert on [k]: that is no unique key of public.t"),
        (None, {"on": ("k",), "primary_key": ("v",)}, "Name all columns of one unique key: [v]."),
        (keyed(KEY, REST), {"on": ("k",)}, "Make a unique index on them"),
        (keyed(KEY, REST, key=("k",)), {"on": ("v",)}, "Name all columns of one unique key: [k]."),
        (keyed(KEY, REST, key=("k", "v")), {"on": ("k",)}, "Name all columns of one unique key: [k, v]."),
        (keyed(KEY, column("i", "integer", nullable=False, has_default=True), key=("i",)), {}, '"i" is not mapped'),
        (keyed(column("k", "integer"), uniques=(("k",),)), {"on": ("k",)}, '"k" may be NULL'),
        (keyed(column("k", "citext", nullable=False), key=("k",)), {}, "citext, and equal values"),
        (keyed(column("k", "numeric", nullable=False), key=("k",)), {}, "numeric, and equal values"),
        (keyed(column("k", "numeric(40,2)", nullable=False), key=("k",)), {}, "numeric(40,2), and equal values"),
        (keyed(column("k", "interval", nullable=False), key=("k",)), {}, "interval, and equal values"),
        (keyed(column("k", "jsonb", nullable=False), key=("k",)), {}, "jsonb, and equal values"),
        (keyed(column("k", "bpchar", nullable=False), key=("k",)), {}, "bpchar, and equal values"),
    ],
)
def test_an_upsert_without_a_sure_key_is_refused(to, options, said):
    columns = {"k": "CustomerID", "v": "Email"}
    if to is not None:
        columns = {name: text for name, text in columns.items() if to.column(name)}
    if to is not None and to.column("i"):
        columns = {"k": "CustomerID"}
    message = refusal(columns, to, mode="upsert", **options)
    assert said in message
    assert all(line.startswith("migrate.yaml:5:3: ") for line in message.splitlines())


@pytest.mark.parametrize(
    "written",
    ["integer", "text", "varchar(5)", "char(3)", "numeric(10,2)", "date", "timestamptz", "uuid", "text[]", "real"],
)
def test_an_upsert_with_a_sure_key_compiles(written):
    to = keyed(column("k", written, nullable=False), REST, uniques=(("k",),))
    text = "split(Email, ',')" if written == "text[]" else "Email"
    compiled(ROWS, {"k": text, "v": "Email"}, to, context(timezone="UTC"), mode="upsert", on=("k",))
    compiled(ROWS, {"k": "Email", "v": "Total"}, None, mode="upsert", primary_key=("k",))
    two = keyed(KEY, dataclasses.replace(REST, nullable=False), key=("k", "v"))
    compiled(ROWS, {"k": "CustomerID", "v": "Email"}, two, mode="upsert", on=("v", "k"))


def test_a_table_made_from_the_mapping():
    rows = pa.schema(
        [
            ("t", pa.string()),
            ("i", pa.int64()),
            ("d", pa.decimal128(12, 3)),
            ("day", pa.date32()),
            ("b", pa.binary()),
            ("ts", pa.timestamp("us")),
            ("tz", pa.timestamp("us", "UTC")),
            ("f", pa.float64()),
            ("l", pa.list_(pa.string())),
        ]
    )
    made = compiled(
        rows, {n: n for n in rows.names} | {"u": "uuid(t)", "j": "pack(t)"}, None, primary_key=("i",)
    ).target
    assert not made.exists
    assert made.key == ("i",)
    assert {c.name: c.type for c in made.columns} == {
        "t": "text",
        "i": "bigint",
        "d": "numeric(12,3)",
        "day": "date",
        "b": "bytea",
        "ts": "timestamp without time zone",
        "tz": "timestamp with time zone",
        "f": "double precision",
        "l": "text[]",
        "u": "uuid",
        "j": "jsonb",
    }
    assert [c.name for c in made.columns if not c.nullable] == ["i"]


def function(source: str = "def f(x): return x"):
    return SimpleNamespace(
        name="f", source_text=source, callable=lambda x: x, arguments=("VARCHAR",), returns="VARCHAR", style="arrow"
    )


def digest(columns=None, to=None, ctx=None, **kw) -> str:
    return compiled(ROWS, columns or {"a": "lookup('codes', f(Email))"}, to, ctx or basis(), **kw).digest


def basis(**kw):
    return context({"codes": {"a": "b"}, "unused": {"x": "y"}}, {"f": function()}, **kw)


def test_a_digest_changes_with_whatever_changes_a_row():
    same = digest()
    changed = {
        "lookup": digest(ctx=dataclasses.replace(basis(), lookups={"codes": {"a": "c"}})),
        "function": digest(ctx=dataclasses.replace(basis(), functions={"f": function("def f(x): return None")})),
        "migration": digest(ctx=basis(migration="other")),
        "zone": digest(ctx=basis(timezone="UTC")),
        "expression": digest({"a": "lower(Email)"}),
        "where": digest(where="Status = 'A'"),
        "nullif": digest(nullif=("",)),
        "nul": digest(nul="strip"),
        "type": digest(to=target(column("a", "varchar(5)"))),
        "not null": digest(to=target(column("a", "text", nullable=False))),
        "check": digest(to=target(column("a", "text"), checks=[Check("c", "(a <> 'x'::text)")])),
    }
    assert len({same, *changed.values()}) == len(changed) + 1


def test_a_digest_is_the_same_wherever_the_project_lies():
    assert digest(ctx=basis(path=Path("/elsewhere/migrate.yaml"))) == digest()
    assert digest(ctx=dataclasses.replace(basis(), lookups={"unused": {}, "codes": {"a": "b"}})) == digest()
    assert digest() == digest()


REFUSED = Table("t", ROWS.schema, refused={"Email": "it is masked; GRANT UNMASK TO that user, or leave it out"})


@pytest.mark.parametrize(
    ("columns", "more", "line"),
    [
        ({"id": "CustomerID", "mail": "lower(Email)"}, {}, "migrate.yaml:11:9"),
        ({"id": "CustomerID"}, {"where": "Email IS NOT NULL"}, "migrate.yaml:5:3"),
        ({"id": "CustomerID"}, {"key": ("Email",)}, "migrate.yaml:5:3"),
        ({"id": "CustomerID", "rest": "pack_rest()"}, {}, "migrate.yaml:11:9"),
    ],
)
def test_a_column_that_must_not_be_read_is_refused_where_it_is(columns, more, line):
    with pytest.raises(UsageError) as caught:
        compile_table(table_spec(columns, **more), REFUSED, None, context())
    assert f'{line}: column "Email" of the source cannot be read: it is masked; GRANT UNMASK' in caught.value.message


def test_a_column_that_must_not_be_read_hinders_nobody_who_does_not_read_it():
    mapping = compile_table(table_spec({"id": "CustomerID"}, where="Status = 'A'"), REFUSED, None, context())
    assert mapping.reads == ("CustomerID", "Status")
