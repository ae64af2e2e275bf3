"""Promised types: what fits them is exactly what a mapping of that expression and type would load."""

from functools import cache

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapped import batch_of, context, texts

from mappings.compile import compile_table
from mappings.faults import Mark
from mappings.mapper import Mapper
from mappings.promise import expression, promised
from mappings.spec import ColumnSpec, TableSpec
from migrate.core import Table

TYPES = ["integer", "varchar(3)", "date DD.MM.YYYY or YYYY-MM-DD", "decimal(6,2) de", "decimal en", "boolean", "uuid"]
TYPES += [
    "timestamp YYYY-MM-DD HH24:MI",
    "timestamp YYYY-MM-DD HH24:MI TZ",
    "date",
    "numeric",
    "double precision",
    "time",
]

NAMES = [f'c "{n}"' for n in range(len(TYPES))]


def mapper(written: list[str], schema: pa.Schema) -> Mapper:
    proofs = [promised(each) for each in written]
    columns = tuple(
        ColumnSpec(str(n), expression(schema.names[n], proof[0]), Mark(1, 1), proof[1])
        for n, proof in enumerate(proofs)
        if proof is not None
    )
    spec = TableSpec("t", (("s", "t"),), "public", "t", columns, Mark(1, 1))
    return Mapper(compile_table(spec, Table("t", schema), None, context()), context())


@cache
def mappers() -> tuple[Mapper, list[Mapper]]:
    """One for all types together, and one for each of them."""
    schema = texts(**{name: [] for name in NAMES}).schema
    return mapper(TYPES, schema), [mapper([TYPES[n]], pa.schema([schema.field(n)])) for n in range(len(TYPES))]


values = st.none() | st.text(st.sampled_from("0123456789.,-: €abcTja+Z\0é"), max_size=12)
values |= st.sampled_from(
    ["31.12.1999", "30.02.1999", "1999-12-31", "1.234,50", "1,234.5", "ja", "12:30", "1999-12-31 23:59"]
)
values |= st.sampled_from(
    ["1999-12-31 23:59 +0100", "12345678901", "1e3", "6f9619ff-8b86-d011-b42d-00c04fc964ff", "12.0", ""]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(values, min_size=1, max_size=30))
def test_a_value_fits_exactly_where_it_would_be_loaded(column: list[str | None]) -> None:
    rows = texts(**dict.fromkeys(NAMES, column))
    together, alone = mappers()
    misfits = together.misfits(rows)
    for n, written in enumerate(TYPES):
        rejected = [reject.ordinal for reject in alone[n](batch_of(rows.select([NAMES[n]]))).rejects]
        assert misfits[str(n)].nonzero()[0].tolist() == rejected if rejected else str(n) not in misfits, written


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("strng", 'has no type that is known: "strng"'),
        ("varchar2(20)", "PostgreSQL's own is varchar"),
        ("decimal xx", "has no known locale"),
        ("date DD", "has a format that cannot be read"),
        ("date YYYY-MM-DD HH24", "write timestamp"),
        ("timestamp YYYY-MM-DD HH24:MI TZ or YYYY-MM-DD", "either all have it or none"),
    ],
)
def test_what_is_no_type_is_told(written: str, says: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        promised(written)
    assert says in str(caught.value)


def test_every_value_is_text_and_types_of_several_words_are_types() -> None:
    assert promised(" Text ") is None
    assert promised("timestamp with time zone") == ("{x}", "timestamp with time zone")
    assert promised("character varying(5)") == ("{x}", "character varying(5)")
