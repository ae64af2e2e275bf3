"""Reads target rows back as Arrow batches of the very wire schema they were written with, to be hashed again."""

from collections.abc import Iterator, Sequence

import duckdb
import pyarrow as pa
import pyarrow.csv

from mappings.ddl import quote
from migrate.core import TargetTable, Wire
from migrate.target import Connection

BEYOND = "migrate_beyond"
"""The last column of every batch: what the row holds that the wire types cannot, as JSON."""

PLACE = "migrate_place"
"""The column before it, where it is asked for: where a row stands."""

_BLOCK = 8 << 20  # bytes of CSV that become one batch
_LAST = "'294247-01-10 04:00:54.775806+00'"  # the last microsecond that Arrow and DuckDB count


def read_back(
    conn: Connection,
    table: TargetTable,
    schema: pa.Schema,
    wires: Sequence[Wire],
    where: str = "",
    place: str = "",
) -> Iterator[pa.RecordBatch]:
    """Stream `SELECT columns FROM table` by COPY as CSV, in which NULL and '' differ.

    Batches have the wire schema, PLACE where `place` is SQL for it, and BEYOND: NULL, or a JSON object of the row's values that
    the wire type cannot hold (NaN, timestamps past its last, arrays of several dimensions), which are NULL in their own
    columns. Columns that are not hashed are NULL throughout. Session settings that change PostgreSQL's output are set for
    the transaction only.
    """
    terms = [_spelled(field) if wire.hashed else "NULL" for field, wire in zip(schema, wires, strict=True)]
    beyond = {f.name: test for f, w in zip(schema, wires, strict=True) if w.hashed and (test := _beyond(f)) is not None}
    if place:
        schema = schema.append(pa.field(PLACE, pa.string()))
        terms.append(place)
    terms.append(_texts_beyond(beyond) if beyond else "NULL")
    sql = f"COPY (SELECT {', '.join(terms)} FROM {quote(table.schema, table.name)} {where}) TO STDOUT (FORMAT csv)"
    parser = _Parser(schema.append(pa.field(BEYOND, pa.string())))
    with conn.transaction():
        conn.execute(
            "SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL bytea_output = 'hex'; "
            "SET LOCAL extra_float_digits = 3; SET LOCAL intervalstyle = 'postgres'"
        )
        with conn.cursor() as cursor, cursor.copy(sql) as copy:
            buffer = bytearray()
            for row in copy:  # COPY hands over one row at a time, always whole
                buffer += row
                if len(buffer) >= _BLOCK:
                    yield parser(bytes(buffer))
                    buffer.clear()
            if buffer:
                yield parser(bytes(buffer))


def _spelled(field: pa.Field) -> str:
    """PostgreSQL SQL that writes a column so that `_Parser` reads it exactly."""
    name, kind = quote(field.name), field.type
    if pa.types.is_fixed_size_binary(kind):
        return f"replace({name}::text, '-', '')"
    if pa.types.is_binary(kind):
        return f"encode({name}, 'hex')"
    if pa.types.is_temporal(kind):
        return _counted(name, kind)
    if pa.types.is_list(kind):
        text = f"array_to_json({name})::text"
        if pa.types.is_temporal(kind.value_type):
            counted = f"json_agg({_counted('e', kind.value_type)} ORDER BY n)::text"
            items = f"(SELECT coalesce({counted}, '[]') FROM unnest({name}) WITH ORDINALITY AS u(e, n))"
            text = f"CASE WHEN {name} IS NOT NULL THEN {items} END"
        return f"CASE WHEN NOT ({_beyond(field)}) OR {name} = '{{}}' THEN {text} END"
    if pa.types.is_decimal(kind):
        return f"nullif({name}, 'NaN')"
    return name


def _counted(x: str, kind: pa.DataType) -> str:
    """PostgreSQL SQL of a date as days and of a time as microseconds since 1970; infinity as DuckDB has it."""
    if pa.types.is_time(kind):
        return f"(extract(epoch FROM {x}) * 1000000)::bigint"
    if pa.types.is_date(kind):
        number, largest = f"{x} - date '1970-01-01'", 2**31 - 1
    else:
        number, largest = f"(extract(epoch FROM {x}) * 1000000)::bigint", 2**63 - 1
    infinite = f"CASE WHEN {x} > '2000-01-01' THEN {largest} ELSE -{largest} END"
    held = f"CASE WHEN NOT isfinite({x}) THEN {infinite}"
    if pa.types.is_timestamp(kind):
        return f"{held} WHEN {x} <= {_LAST} THEN {number} END"
    return f"{held} ELSE {number} END"


def _beyond(field: pa.Field) -> str | None:
    """PostgreSQL SQL of "the wire type cannot hold this value", or None where it holds all."""
    name, kind = quote(field.name), field.type
    if pa.types.is_timestamp(kind):
        return f"isfinite({name}) AND {name} > {_LAST}"
    if pa.types.is_decimal(kind):
        return f"{name} = 'NaN'"
    if pa.types.is_list(kind):
        shape = f"array_ndims({name}) > 1 OR array_lower({name}, 1) <> 1"
        if pa.types.is_timestamp(kind.value_type):
            shape += f" OR EXISTS (SELECT FROM unnest({name}) e WHERE isfinite(e) AND e > {_LAST})"
        return shape
    return None


def _texts_beyond(tests: dict[str, str]) -> str:
    # json_build_object takes 100 arguments only.
    names = ", ".join("'" + name.replace("'", "''") + "'" for name in tests)
    values = ", ".join(f"CASE WHEN {test} THEN {quote(name)}::text END" for name, test in tests.items())
    some = " OR ".join(f"({test})" for test in tests.values())
    return f"CASE WHEN {some} THEN json_strip_nulls(json_object(ARRAY[{names}], ARRAY[{values}]))::text END"


class _Parser:
    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        direct = {f.name: _parsed(f.type) for f in schema}
        self._convert = pa.csv.ConvertOptions(
            column_types=direct,
            null_values=[""],
            true_values=["t"],
            false_values=["f"],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )
        self._read = pa.csv.ReadOptions(column_names=schema.names, use_threads=False, block_size=1 << 30)
        self._parse = pa.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)
        self._sql = None
        if any(_converted(f) for f in schema):
            self._duckdb = duckdb.connect(config={"threads": 1})
            self._sql = f"SELECT {', '.join(_converted(f) or quote(f.name) for f in schema)} FROM parsed"

    def __call__(self, block: bytes) -> pa.RecordBatch:
        parsed = pa.csv.read_csv(
            pa.BufferReader(block), read_options=self._read, parse_options=self._parse, convert_options=self._convert
        )
        if self._sql is not None:
            self._duckdb.register("parsed", parsed)
            parsed = self._duckdb.sql(self._sql).to_arrow_table()
            self._duckdb.unregister("parsed")
        return parsed.cast(self._schema).combine_chunks().to_batches()[0]


def _parsed(kind: pa.DataType) -> pa.DataType:
    """The type that Arrow's CSV reader reads a column as: exact, and cast or converted afterwards."""
    if pa.types.is_temporal(kind):
        return pa.int32() if pa.types.is_date(kind) else pa.int64()
    if pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind) or pa.types.is_list(kind):
        return pa.string()
    return kind


def _converted(field: pa.Field) -> str | None:
    """DuckDB SQL of what Arrow's CSV reader cannot read."""
    name, kind = quote(field.name), field.type
    if pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return f"unhex({name}) AS {name}"
    if pa.types.is_list(kind):
        return f"from_json({name}, '[\"{_duck(_parsed(kind.value_type))}\"]') AS {name}"
    return None


def _duck(kind: pa.DataType) -> str:
    described = duckdb.from_arrow(pa.table({"x": pa.array([], kind)})).types[0]
    return str(described)
