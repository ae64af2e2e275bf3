"""A batch with a few bad rows: the rest goes straight through Arrow, and the answer is that of the slow way."""

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mappings.direct import direct
from mappings.spelling import parse_type
from mappings.typemap import wire_of
from migrate.core import Column

COLUMNS = [
    Column("c", "integer", "int4"),
    Column("c", "smallint", "int2"),
    Column("c", "bigint", "int8", nullable=False),
    Column("c", "numeric(6,2)", "numeric", (6, 2)),
    Column("c", "numeric(3,3)", "numeric", (3, 3)),
    Column("c", "date", "date"),
    Column("c", "character varying(4)", "varchar", (4,)),
    Column("c", "character(3)", "bpchar", (3,)),
    Column("c", "text", "text"),
]
NUMBERS = st.from_regex(r"[-+]?[0-9]{0,12}\.?[0-9]{0,4}", fullmatch=True)
DATES = st.from_regex(r"[0-9]{4}-[01][0-9]-[0-3][0-9]", fullmatch=True)
TEXTS = st.one_of(NUMBERS, DATES, st.text(max_size=6), st.sampled_from(["", "-", ".", "1.", ".5", "--1", "1-", "0x1F"]))


@pytest.mark.parametrize("column", COLUMNS, ids=lambda c: c.type)
@given(texts=st.lists(st.one_of(st.none(), TEXTS), max_size=12), offset=st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_what_is_not_in_doubt_is_what_each_row_alone_gives(
    column: Column, texts: list[str | None], offset: int
) -> None:
    way = direct(column, wire_of(column), pa.string())
    assert way is not None
    array = pa.array(["pad"] * offset + texts, pa.string()).slice(offset)
    most = way.most(array)
    if most is None:  # some row's bytes look fine and Arrow says no: the whole column takes the slow way
        return
    made, doubtful = most
    assert made.type == wire_of(column).arrow
    for place, text in enumerate(texts):
        alone = way.all(pa.array([text], pa.string()))
        if doubtful[place]:
            assert not made[place].is_valid
        else:
            assert alone is not None
            assert made[place].equals(alone[0])


@pytest.mark.parametrize(
    ("column", "good", "bad"),
    [
        (
            COLUMNS[0],
            ["1", "-99999999", "000012"],
            ["12.7", "1e3", "0x1F", "1_000", "", "12345678901", "-", "1-2", " 1"],
        ),
        (COLUMNS[3], ["1.23", "-1.2", "9999.99", "7"], ["1.239", "1.2.3", "99999.99", ".5", "5.", "1,2", "1e-5", "x"]),
        (
            COLUMNS[5],
            ["2000-02-29", "1992-12-31"],
            ["1900-02-29", "2021-13-01", "2021-00-10", "2021-1-1", "31.12.1999", "0000-01-01"],
        ),
        (COLUMNS[6], ["abcd", "é"], ["abcde", "a\0"]),
        (COLUMNS[7], ["abc", "a"], ["abcd", "é", "\0"]),
    ],
    ids=lambda v: v.type if isinstance(v, Column) else "",
)
def test_bad_rows_are_in_doubt_and_good_ones_are_not(column: Column, good: list[str], bad: list[str]) -> None:
    way = direct(column, wire_of(column), pa.string())
    assert way is not None
    most = way.most(pa.array([*good, *bad], pa.string()))
    assert most is not None
    assert most[1].tolist() == [False] * len(good) + [True] * len(bad)


def test_rows_in_doubt_keep_their_place_among_the_others() -> None:
    way = direct(COLUMNS[0], wire_of(COLUMNS[0]), pa.string())
    assert way is not None
    texts = [str(i) if i % 97 else f" {i}" for i in range(1000)]
    most = way.most(pa.array(texts, pa.string()))
    assert most is not None
    assert np.flatnonzero(most[1]).tolist() == list(range(0, 1000, 97))


WHOLE = st.integers(0, 10**38 - 1).map(str)
SCALES = st.integers(1, 38).flatmap(lambda p: st.tuples(st.just(p), st.integers(0, p)))


@given(scale=SCALES, texts=st.lists(st.one_of(WHOLE, st.tuples(WHOLE, WHOLE).map(".".join)), min_size=1, max_size=5))
@settings(max_examples=600, deadline=None)
@example(scale=(37, 37), texts=["35"])
@example(scale=(38, 36), texts=["737026595574238058607.7"])
def test_a_decimal_is_exact_or_left_to_the_slow_way(scale: tuple[int, int], texts: list[str]) -> None:
    """Arrow's own cast multiplies past 128 bits in silence."""
    column = Column("c", f"numeric{scale}", "numeric", scale)
    way = direct(column, wire_of(column), pa.string())
    assert way is not None
    array = pa.array(texts, pa.string())
    made = way.all(array)
    assert made is None or [Decimal(t) for t in texts] == made.to_pylist()
    most = way.most(array)
    if most is not None:
        made, doubtful = most
        assert [None if d else Decimal(t) for t, d in zip(texts, doubtful, strict=True)] == made.to_pylist()


# --------------------------------------------------------------------------------------------- values that have a type

MICRO = pa.timestamp("us")


def typed(spelled: str, *, nullable: bool = True) -> Column:
    return Column("c", *parse_type(spelled), nullable=nullable)


@pytest.mark.parametrize(
    ("taken", "into", "values", "made"),
    [
        (pa.int64(), "bigint", [1, None, -(2**63)], [1, None, -(2**63)]),
        (pa.int8(), "smallint", [-128, 127], [-128, 127]),
        (pa.uint8(), "smallint", [0, 255], [0, 255]),
        (pa.uint32(), "bigint", [2**32 - 1], [2**32 - 1]),
        (pa.decimal128(5, 2), "numeric(8,4)", ["1.25"], [Decimal("1.2500")]),
        (pa.bool_(), "boolean", [True, None], [True, None]),
        (pa.binary(), "bytea", [b"", None], [b"", None]),
        (MICRO, "timestamp(3)", [1_000, -2_000], [1_000, -2_000]),
        (MICRO, "timestamp", [1], [1]),
        (pa.date32(), "date", [0, -2440588], [0, -2440588]),
        # a closer look: rounding, a day that PostgreSQL does not have, infinity
        (MICRO, "timestamp(3)", [1_001], None),
        (pa.date32(), "date", [-2440589], None),
        (pa.date32(), "date", [2**31 - 1], None),
    ],
)
def test_values_of_the_columns_own_type_or_of_a_narrower_one(
    taken: pa.DataType, into: str, values: list[object], made: list[object] | None
) -> None:
    column = typed(into)
    way = direct(column, wire_of(column), taken)
    assert way is not None
    numbers = {MICRO: pa.int64(), pa.date32(): pa.int32()}
    array = (
        pa.array(values, pa.string()).cast(taken)
        if pa.types.is_decimal(taken)
        else pa.array(values, numbers.get(taken, taken)).view(taken)
    )
    found = way.all(array)
    if made is None:
        assert found is None
        return
    assert found.type == wire_of(column).arrow
    kind = numbers.get(taken)
    assert (found.view(kind) if kind is not None else found).to_pylist() == made


@pytest.mark.parametrize(
    ("taken", "into"),
    [
        (pa.int64(), "integer"),
        (pa.uint64(), "bigint"),
        (pa.decimal128(10, 2), "numeric(10,1)"),
        (pa.decimal128(10, 2), "numeric(9,2)"),
        (MICRO, "timestamptz"),
        (pa.float64(), "double precision"),
        (pa.int32(), "text"),
    ],
)
def test_what_may_not_fit_has_no_short_way(taken: pa.DataType, into: str) -> None:
    assert direct(typed(into), wire_of(typed(into)), taken) is None


def test_null_where_there_may_be_none_is_looked_at() -> None:
    column = typed("bigint", nullable=False)
    way = direct(column, wire_of(column), pa.int64())
    assert way is not None
    assert way.all(pa.array([1, None], pa.int64())) is None
