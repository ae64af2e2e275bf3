"""Fates and reasons: what becomes of the rows of a batch."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapped import batch_of, column, compiled, context, mapped, slowly, target, texts

from mappings.mapper import Mapper
from migrate.core import Batch, Check, Origin, Reject
from migrate.errors import UsageError


def test_a_reject_says_what_where_and_why():
    rows = texts(CustomerID=["17", "18"], Born=["31.02.2020", "01.02.2020"], Amount=["x", "1"], Name=["abcd", "a"])
    to = target(column("name", "varchar(3)"), column("born", "date"), column("amount", "integer"))
    mapping = compiled(
        rows, {"name": "Name", "born": "parse_date(Born, 'DD.MM.YYYY')", "amount": "Amount"}, to, key=("customerid",)
    )
    step = Mapper(mapping, context())(batch_of(rows, first=1000))
    assert step.rejects == (
        Reject(
            ordinal=1000,
            rule="length",
            reason="4 characters are too long for character varying(3) (also failing: born, amount)",
            origin=Origin({"line": 1000}, b"row 1000", key="CustomerID=17"),
            column="name",
            value="abcd",
        ),
    )
    assert step.ordinals.tolist() == [1001]


def test_long_values_are_shortened():
    step = mapped(texts(x=["y" * 5000]), {"c": "x"}, target(column("c", "integer")))
    assert len(step.rejects[0].value) == 200


@pytest.mark.parametrize(("kind", "written"), [("DOUBLE", "double precision[]"), ("FLOAT", "real[]")])
def test_lists_of_doubles_load_and_only_what_was_written_endless_is_endless(kind, written):
    rows = texts(x=["2.5", None, "x", "inf", "1e30"])
    to = target(column("c", written))
    step = mapped(rows, {"c": f"list_transform([x, NULL], lambda e: CAST(e AS {kind}))"}, to)
    assert step.rows.column(0).to_pylist()[0] == [2.5, None]
    assert step.ordinals.tolist() == [0, 1, 3, 4]
    made = mapped(rows, {"c": f"[CAST(CAST(x AS DOUBLE) * 1e300 AS {kind})]"}, to)
    assert [r.ordinal for r in made.rejects] == ([2, 4] if kind == "DOUBLE" else [0, 2, 4])


@pytest.mark.parametrize(
    ("expression", "written", "good", "rules"),
    [
        ("CAST(split(x, ';') AS INTEGER[])", "integer[]", [[300], None, [5, 7]], {1: "precision", 2: "type"}),
        ("split(x, ';')::DECIMAL(5,1)[]", "text", None, {}),
        ("CAST(x AS TINYINT)", "smallint", [None], {0: "range", 1: "precision", 2: "type", 4: "type"}),
    ],
)
def test_casts_of_text_round_nothing(expression, written, good, rules):
    rows = texts(x=["300", "12.7", "1_000", None, "5;7"])
    if good is None:
        with pytest.raises(UsageError, match="array_to_string"):
            mapped(rows, {"c": expression}, target(column("c", written)))
        return
    step = mapped(rows, {"c": expression}, target(column("c", written)))
    assert step.rows.column(0).to_pylist() == good
    assert {r.ordinal: r.rule for r in step.rejects} == rules


@pytest.mark.parametrize("reader", ["json_extract_string(x, '$.a')", "json_extract(x, '$.a')"])
def test_what_cannot_be_read_rejects_its_row_and_not_the_batch(reader):
    rows = texts(x=['{"a": 12.0}', '{"a": 12.7}', '{"a": null}', "{}", "not JSON", None, '{"a": "7"}'])
    step = mapped(rows, {"c": f"CAST({reader} AS INTEGER)"}, target(column("c", "integer")))
    assert step.rows.column(0).to_pylist() == [12, None, None, None, 7]
    assert [(r.ordinal, r.rule) for r in step.rejects] == [(1, "precision"), (4, "expression")]


def test_a_moment_without_an_offset_is_not_taken_for_utc():
    rows = texts(x=["2021-01-02 03:04:05+02", "2021-01-02 03:04:05"])
    step = mapped(rows, {"c": "CAST(x AS TIMESTAMPTZ)"}, target(column("c", "timestamptz")))
    assert [(r.ordinal, r.reason) for r in step.rejects] == [(1, "no offset in the text, so the moment is unknown")]


@pytest.mark.parametrize("name", ["m", "u", "e", "t", "s"])
def test_a_source_column_may_bear_any_name(name):
    rows = texts(**{name: ["01.02.2020 12:00"]})
    columns = {
        "a": f"parse_timestamp({name}, 'DD.MM.YYYY HH24:MI', zone := 'Europe/Berlin')",
        "b": f"split({name}, ' ')",
    }
    step = mapped(rows, columns, target(column("a", "timestamptz"), column("b", "varchar(20)[]")))
    assert step.ordinals.tolist() == [0]


def test_what_is_filtered_is_never_called_bad():
    rows = texts(x=["1", "bad", "bad", None], keep=["y", "n", None, "y"])
    step = mapped(rows, {"c": "x"}, target(column("c", "integer", nullable=False)), where="keep = 'y'")
    assert step.ordinals.tolist() == [0]
    assert step.filtered.tolist() == [1, 2]
    assert [(r.ordinal, r.rule) for r in step.rejects] == [(3, "not_null")]


def test_a_condition_that_cannot_be_decided_rejects():
    rows = texts(x=["1", "bad", "2"])
    step = mapped(rows, {"c": "x"}, target(column("c", "text")), where="CAST(x AS INTEGER) > 1")
    assert step.filtered.tolist() == [0]
    assert [(r.ordinal, r.rule, r.column, r.reason) for r in step.rejects] == [
        (1, "where", None, "where: not a plain decimal number")
    ]


def test_rejects_of_the_reader_are_passed_on():
    rows = texts(x=["1"])
    early = Reject(7, "structure", "a stray quote", Origin({"line": 7}, b""))
    batch = Batch(rows, np.array([6]), lambda wanted: [], (early,))
    step = Mapper(compiled(rows, {"c": "x"}, None), context())(batch)
    assert step.rejects == (early,)
    assert step.read == 2


@pytest.mark.parametrize(
    ("expression", "rule", "reason"),
    [
        ("1 / CAST(x AS INTEGER)", "expression", "division by zero"),
        ("CAST(x AS INTEGER) % 0", "expression", "division by zero"),
        ("CAST('9223372036854775807' || x AS BIGINT)", "range", "out of range"),
        ("CAST('1.239' || x AS DECIMAL(10,2)) * 2", "precision", "round"),
        ("CAST('12.7' || x AS INTEGER) + 1", "precision", "round"),
        ("CAST('2021-01-01 10:00:0' || x AS DATE) + 1", "precision", "time of day"),
        ("coalesce(CASE WHEN x = '0' THEN error('boom') END, 'z')", "expression", "boom"),
        ("CAST('x' || x AS INTEGER) IS NULL", "type", "number"),
        ("pow(10.0, 400 + CAST(x AS INTEGER))", "range", "finite"),
        ("exp(1000 + CAST(x AS INTEGER))", None, ""),
        ("coalesce(parse_date(x, 'YYYY-MM-DD'), DATE '2020-01-01')", "type", "not a date"),
        ("list_transform([x], lambda e: CAST(e || '.7' AS INTEGER))[1]", "precision", "round"),
    ],
)
def test_expressions_fail_loudly(expression, rule, reason):
    step = mapped(texts(x=["0"]), {"c": expression})
    assert len(step.rejects) == 1
    assert step.rejects[0].rule == (rule or step.rejects[0].rule)
    assert reason in step.rejects[0].reason
    assert "\n" not in step.rejects[0].reason


def test_null_stays_null_through_a_compound_expression():
    step = mapped(texts(x=[None, "1"]), {"c": "CAST(x AS INTEGER) + 1"})
    assert step.rows.column(0).to_pylist() == [None, 2]


def test_words_for_null_are_null_before_expressions_see_them():
    rows = texts(x=["", "NULL", "n/a", "null", "a"])
    step = mapped(rows, {"c": "coalesce(x, '?')", "d": "x"}, nullif=("", "NULL", "n/a"))
    assert step.rows.column(0).to_pylist() == ["?", "?", "?", "null", "a"]
    assert step.rows.column(1).to_pylist() == [None, None, None, "null", "a"]


@pytest.mark.parametrize(("policy", "expected"), [("strip", "ab"), ("replace:?", "a?b"), ("reject", None)])
def test_the_policy_for_nul(policy, expected):
    step = mapped(texts(x=["a\0b"]), {"c": "x"}, nul=policy)
    assert step.rows.column(0).to_pylist() == ([] if expected is None else [expected])
    assert [r.rule for r in step.rejects] == (["nul"] if expected is None else [])


def test_nul_made_by_an_expression_is_found():
    assert [r.rule for r in mapped(texts(x=["a"]), {"c": "x || chr(0)"}).rejects] == ["nul"]


CHECKS = [
    ("(qty > 0)", ["1", "0", "-1", None], [1, 2]),
    ("((qty >= 0) AND (qty <= (10)::numeric))", ["0", "11", None, "5"], [1]),
    ("((qty < 0) OR (qty IS NULL))", ["0", None, "-5", "1"], [0, 3]),
    ("(qty = ANY (ARRAY[1, 2, 3]))", ["1", "4", None, "3"], [1]),
    ("(qty <> ALL (ARRAY[1, 2]))", ["1", "4", None, "2"], [0, 3]),
    ("(NOT (qty = 1))", ["1", "2", None, "1"], [0, 3]),
]


@pytest.mark.parametrize(("text", "values", "bad"), CHECKS)
def test_checks_are_screened(text, values, bad):
    step = mapped(texts(x=values), {"qty": "x"}, target(column("qty", "integer"), checks=[Check("qty_ok", text)]))
    assert [(r.ordinal, r.rule, r.column) for r in step.rejects] == [(i, "check", "qty") for i in bad]
    assert all("qty_ok" in r.reason for r in step.rejects)


def test_checks_on_text_and_across_columns():
    checks = [
        Check("one_of", "((s)::text = ANY ((ARRAY['A'::character varying, 'B'::character varying])::text[]))"),
        Check("long", "(length((s)::text) > 0)"),
        Check("order", "(a <= b)"),
        Check("regex", "(s ~ '^A'::text)"),
        Check("collated", "((s)::text < 'B'::text)"),
    ]
    to = target(column("s", "varchar(3)"), column("a", "date"), column("b", "date"), checks=checks)
    rows = texts(
        s=["A", "C", "", "B"], a=["2020-01-01", "2020-01-01", "2020-01-01", "2020-01-02"], b=["2020-01-01"] * 4
    )
    mapping = compiled(rows, {"s": "s", "a": "a", "b": "b"}, to)
    assert mapping.unscreened == ("regex", "collated")
    step = mapped(rows, {"s": "s", "a": "a", "b": "b"}, to)
    assert {r.ordinal: r.reason for r in step.rejects} == {
        1: "breaks the constraint one_of",
        2: "breaks the constraint one_of and long",
        3: "breaks the constraint order",
    }


def user(function, style="pandas", arguments=("VARCHAR",), returns="VARCHAR"):
    return context(
        functions={
            "mine": SimpleNamespace(
                name="mine", source_text="", callable=function, arguments=arguments, returns=returns, style=style
            )
        }
    )


def test_user_functions_on_series_and_on_arrow():
    rows = texts(x=["a", None, "b"])
    assert mapped(rows, {"c": "mine(x)"}, ctx=user(lambda s: s.str.upper())).rows.column(0).to_pylist() == [
        "A",
        None,
        "B",
    ]
    arrow = user(lambda a: pc.binary_length(a), "arrow", returns="INTEGER")
    assert mapped(rows, {"c": "mine(x)"}, ctx=arrow).rows.column(0).to_pylist() == [1, None, 1]


def test_a_user_function_that_raises_rejects_its_row():
    def fail(series: pd.Series) -> pd.Series:
        if (series == "b").any():
            raise ValueError("b is not allowed")
        return series

    step = mapped(texts(x=["a", "b", "c"]), {"c": "mine(x)"}, ctx=user(fail))
    assert step.ordinals.tolist() == [0, 2]
    assert [(r.rule, r.reason) for r in step.rejects] == [("expression", "b is not allowed")]


def test_a_user_function_that_returns_too_little_rejects():
    step = mapped(texts(x=["a", "b"]), {"c": "mine(x)"}, ctx=user(lambda s: s.iloc[:0]))
    assert len(step.rejects) == 2
    assert "mine returned 0 values for 1 rows" in step.rejects[0].reason


NUMBERS = pa.schema([("i", pa.int64()), ("d", pa.decimal128(12, 4)), ("f", pa.float64()), ("t", pa.timestamp("ns"))])


@pytest.mark.parametrize(
    ("name", "value", "written", "expected"),
    [
        ("i", 2**40, "integer", "range"),
        ("i", 7, "integer", 7),
        ("i", 7, "numeric(3,2)", "7.00"),
        ("i", 70, "numeric(3,2)", "range"),
        ("i", 2**40, "real", float(2**40)),
        ("d", "1.2300", "numeric(5,2)", "1.23"),
        ("d", "1.2345", "numeric(5,2)", "precision"),
        ("d", "1234.0000", "numeric(5,2)", "range"),
        ("d", "12.0000", "integer", 12),
        ("d", "12.5000", "integer", "precision"),
        ("d", "12.5000", "numeric", "12.5000"),
        ("f", 0.1, "numeric(5,2)", "0.10"),
        ("f", 0.125, "numeric(5,2)", "precision"),
        ("f", float("inf"), "numeric(5,2)", "range"),
        ("f", 1e300, "real", "range"),
        ("f", 3.0, "integer", 3),
        ("f", 3.5, "integer", "precision"),
        ("f", 3.5, "text", "3.5"),
    ],
)
def test_typed_sources_are_exact_too(name, value, written, expected):
    from decimal import Decimal

    kind = NUMBERS.field(name).type
    rows = pa.RecordBatch.from_pydict({"x": pa.array([Decimal(value) if pa.types.is_decimal(kind) else value], kind)})
    step = mapped(rows, {"c": "x"}, target(column("c", written)))
    if step.rejects:
        assert step.rejects[0].rule == expected
    else:
        got = step.rows.column(0)[0].as_py()
        assert (str(got) if isinstance(got, Decimal) else got) == expected


def test_char_is_padded_as_postgres_stores_it(monkeypatch):
    rows = texts(x=["a", "abc", "ab ", "é", "abc  ", None])
    for _ in range(2):
        step = mapped(rows, {"c": "x"}, target(column("c", "char(3)")))
        assert step.rows.column(0).to_pylist() == ["a  ", "abc", "ab ", "é  ", "abc", None]
        slowly(monkeypatch)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.tuples(
            *[
                st.one_of(
                    st.none(), st.sampled_from(["1", "2", "x", "", "31.01.2020", "abcd", "y"]), st.text(max_size=5)
                )
            ]
            * 3
        ),
        max_size=30,
    )
)
def test_ordinals_always_partition_and_nothing_turns_into_null(rows):
    a, b, c = ([row[i] for row in rows] for i in range(3))
    batch = texts(a=a, b=b, c=c)
    to = target(
        column("i", "integer"),
        column("d", "date"),
        column("t", "varchar(3)", nullable=False),
        checks=[Check("k", "(i <> 2)")],
    )
    step = mapped(batch, {"i": "a", "d": "parse_date(b, 'DD.MM.YYYY')", "t": "trim(c)"}, to, where="c <> 'y'")
    for source, made in ((a, 0), (b, 1), (c, 2)):
        assert [source[i] is None for i in step.ordinals] == [v is None for v in step.rows.column(made).to_pylist()]


def test_one_mapper_maps_many_batches_of_changing_shapes():
    to = target(column("i", "integer"), column("s", "varchar(2)"))
    rows = texts(i=["1"], s=["a"])
    mapper = Mapper(compiled(rows, {"i": "i", "s": "s"}, to), context())
    for i, s, good in (
        (["1", "2"], ["a", "b"], 2),
        (["x", "2"], ["a", "bcd"], 0),
        ([], [], 0),
        (["1"], ["abc"], 0),
        (["5"], ["é"], 1),
    ):
        step = mapper(batch_of(texts(i=i, s=s)))
        assert step.rows.num_rows == good
        assert step.read == len(i)


def test_json_too_deep_to_be_read_again_is_rejected_and_its_neighbours_are_not():
    deep = ["[" * n + "]" * n for n in (1, 500, 501, 3000)]
    step = mapped(texts(x=deep), {"c": "x"}, target(column("c", "jsonb")))
    assert step.ordinals.tolist() == [0, 1]
    assert {r.ordinal: r.reason for r in step.rejects} == dict.fromkeys((2, 3), "JSON nested more than 500 levels deep")


def test_a_time_with_time_zone_needs_an_offset():
    step = mapped(
        texts(x=["10:00", "10:00+01", "10:00:00.5Z", "11:00 -0330"]), {"c": "x"}, target(column("c", "timetz"))
    )
    assert step.ordinals.tolist() == [1, 2, 3]
    assert "has no offset" in step.rejects[0].reason
