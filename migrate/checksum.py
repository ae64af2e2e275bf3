"""Canonical forms and the row hash: how two sides show, without comparing every row, that they hold the same rows.

Each row of the last Arrow batch before encoding is hashed (all mapped columns, key included, so that swaps show) and
added into the bucket its target key hashes to. A target row carries no chunk, so chunks cannot be read again; buckets can.
The sum does not cancel pairs as XOR does. Sums are kept as two halves modulo 2**64, so they add and subtract exactly.
"""

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from migrate.core import Wire
from migrate.prepared import Prepared

BUCKETS = 1024
NAME = f"duckdb-{duckdb.__version__}/hash/v3"
"""Recorded beside every sum: hashes of another name cannot be compared."""

_WIDE = 18
"""Digits past which DuckDB keeps a decimal in 128 bits."""

_BELOW = np.uint64(64 - 10)
"""The bits of a key's hash that do not choose its bucket."""

Hashes = npt.NDArray[np.uint64]

Sums = npt.NDArray[np.int64]
"""Shape (3, BUCKETS): rows, and the sums of the hashes' low and high 32 bits, both modulo 2**64."""


class Hasher:
    """Hashes batches of one wire schema. Not for sharing between threads."""

    def __init__(self, schema: pa.Schema, wires: Sequence[Wire], key: Sequence[str]) -> None:
        """`key` are the columns that choose the bucket (`bucket_of`); without any, the whole row does."""
        self._json = [i for i, w in enumerate(wires) if w.encoder == "jsonb"]
        self._counted = {i: kind for i, f in enumerate(schema) if (kind := _counted(f.type)) is not None}
        # DuckDB takes names that differ in case only for the same: columns go by their places.
        self._places = [f"c{i}" for i in range(len(schema))]
        fields = [f.with_name(place) for f, place in zip(schema, self._places, strict=True)]
        forms = [form_of(f.type, w) for f, w in zip(fields, wires, strict=True)]
        terms = [form.sql(_quoted(f.name), f.type) for f, form in zip(fields, forms, strict=True) if form.hashed]
        row = f"hash({', '.join(terms)})" if terms else "hash(0)"
        at = [schema.get_field_index(name) for name in key]
        of_key = [forms[i].sql(_quoted(fields[i].name), fields[i].type) for i in at]
        key_hash = f"hash({', '.join(of_key)})" if of_key else row
        shown = [_shown(f, form) for f, form in zip(fields, forms, strict=True) if form.hashed]
        self._hashed = [name for name, w in zip(schema.names, wires, strict=True) if w.hashed] or ["nothing"]
        self._texts = f"SELECT {', '.join(shown) or '0'} FROM batch"
        self._hashes = f"SELECT {key_hash} AS key, {row} AS hash FROM "
        self._names = schema.names
        self._connection = duckdb.connect(config={"threads": 1})
        self._prepared: Prepared | None = None

    def __call__(self, batch: pa.RecordBatch) -> tuple[Hashes, Hashes]:
        """The hash of each row's key, and of the row, in the batch's order."""
        batch = self._canonical(batch.select(self._names))
        for i, kind in self._counted.items():
            batch = batch.set_column(i, batch.schema.field(i).name, batch.column(i).cast(kind))
        batch = batch.rename_columns(self._places)
        if self._prepared is None:
            self._prepared = Prepared(self._connection, "hashes", batch, lambda relation: self._hashes + relation)
        result = self._prepared(batch)
        return result["key"].to_numpy(), result["hash"].to_numpy()

    def texts(self, batch: pa.RecordBatch) -> pa.Table:
        """The hashed columns as text, to be shown: as PostgreSQL writes them, and equal where the hash takes them for equal."""
        batch = self._canonical(batch)
        for i in self._json:
            batch = batch.set_column(
                i, batch.schema.field(i).name, pc.replace_substring_regex(batch.column(i), _MARKED, r"\1")
            )
        self._connection.register("batch", batch.select(self._names).rename_columns(self._places))
        result = self._connection.sql(self._texts).to_arrow_table()
        self._connection.unregister("batch")
        return result.rename_columns(self._hashed)

    def _canonical(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        for i in self._json:
            canonical = pa.array(
                [None if v is None else canonical_json(v) for v in batch.column(i).to_pylist()], pa.string()
            )
            batch = batch.set_column(i, batch.schema.field(i).name, canonical)
        return batch

    def close(self) -> None:
        self._connection.close()


def bucket_of(keys: Hashes) -> npt.NDArray[np.int64]:
    """The buckets of keys: in the order of their hashes, so that rows in this order go bucket by bucket."""
    return (keys >> _BELOW).astype(np.int64)


def first_of(bucket: int) -> int:
    """The least hash of a key in a bucket."""
    return bucket << int(_BELOW)


def add(keys: Hashes, hashes: Hashes) -> Sums:
    """The sums of some rows."""
    sums = np.zeros((3, BUCKETS), np.int64)
    buckets = bucket_of(keys)
    # bincount adds doubles: exact below 2**53, that is for up to 2**21 rows of 32 bits at once.
    for at in range(0, len(hashes), 1 << 21):
        b, h = buckets[at : at + (1 << 21)], hashes[at : at + (1 << 21)]
        sums[0] += np.bincount(b, minlength=BUCKETS)
        sums[1] += np.bincount(b, weights=(h & np.uint64(0xFFFFFFFF)).astype(np.float64), minlength=BUCKETS).astype(
            np.int64
        )
        sums[2] += np.bincount(b, weights=(h >> np.uint64(32)).astype(np.float64), minlength=BUCKETS).astype(np.int64)
    return sums


def zero() -> Sums:
    return np.zeros((3, BUCKETS), np.int64)


def pack(sums: Sums) -> bytes:
    return zlib.compress(sums.astype("<i8").tobytes(), 1)


def unpack(packed: bytes) -> Sums:
    return np.frombuffer(zlib.decompress(packed), "<i8").astype(np.int64).reshape(3, BUCKETS)


def unequal(a: Sums, b: Sums) -> npt.NDArray[np.int64]:
    """The buckets that differ."""
    return np.flatnonzero((a != b).any(axis=0))


def canonical_json(text: str) -> str:
    """JSON as jsonb holds it: keys sorted, the last of repeated keys, numbers by value and not by spelling."""
    try:
        value = json.loads(text, parse_float=_number, parse_int=_number)
        canonical: str = json.dumps(value, sort_keys=True, separators=(",", ":"))
    except RecursionError:  # not one of our rows: those are never nested so deep
        return text
    return canonical


def _number(text: str) -> Any:
    number = Decimal(text)
    return (
        int(number) if number == number.to_integral_value() and number.adjusted() < 400 else f"\0{number.normalize()}"
    )


_MARKED = r'"\\u0000([^"]*)"'
"""A number that is no integer, as canonical_json writes it: by its value, and unlike any text."""


def _counted(kind: pa.DataType) -> pa.DataType | None:
    """Lists of dates and times are hashed as lists of their integers: their text would depend on the time zone."""
    if not pa.types.is_list(kind) or not pa.types.is_temporal(kind.value_type):
        return None
    return pa.list_(pa.int32() if pa.types.is_date32(kind.value_type) else pa.int64())


# ------------------------------------------------------------------------------------------------------ canonical forms

Sql = Callable[[str, pa.DataType], str]
"""DuckDB SQL of a column (its quoted name, its type) such that its `hash` tells apart what differs, and nothing else."""


def _value(x: str, _: pa.DataType) -> str:
    return x


def _zero(x: str, _: pa.DataType) -> str:
    return f"(CASE WHEN {x} = 0 THEN 0 ELSE {x} END)"


def _digits(x: str, kind: pa.DataType) -> str:
    """DuckDB's hash of a number of 128 bits is the same for 0 and -1, as it is the XOR of two halves; their texts differ."""
    return f"{x}::VARCHAR" if kind.precision > _WIDE else x


def _items(x: str, kind: pa.DataType) -> str:
    """DuckDB's hash of a list is the same for NULL, [], [NULL] and [0]; their texts differ."""
    items = x
    if pa.types.is_floating(kind.value_type):
        items = f"list_transform({x}, lambda x: CASE WHEN x = 0 THEN 0 ELSE x END)"
    return f"(CASE WHEN {x} IS NOT NULL THEN to_json({items})::VARCHAR END)"


@dataclass(frozen=True, slots=True)
class Form:
    """When two values are equal: of which PostgreSQL types, by which rule (both for people), and as SQL that is hashed."""

    types: str
    rule: str
    holds: Callable[[pa.DataType, Wire], bool]
    sql: Sql = _value
    hashed: bool = True


FORMS = (
    Form(
        "types that only PostgreSQL's own text input takes: interval, inet, ranges, money, …",
        "not compared: PostgreSQL spells them in its own way",
        lambda _, wire: not wire.hashed,
        hashed=False,
    ),
    Form(
        "jsonb",
        "by value: the order of keys, blanks and the spelling of numbers (1.0, 1) do not count, the last of repeated keys does",
        lambda _, wire: wire.encoder == "jsonb",
    ),
    Form(
        "numeric without a scale, numeric(p,s) of more than 38 digits excepted",
        "digit by digit, as PostgreSQL keeps it: 1.5 is not 1.50",
        lambda _, wire: wire.encoder == "text",
    ),
    Form("numeric(p,s)", "the number at the column's scale: 1.5 is 1.50", lambda k, _: pa.types.is_decimal(k), _digits),
    Form(
        "real, double precision",
        "bit by bit, whatever the text: 0.1 is 1e-1; -0.0 is 0.0, and NaN is NaN",
        lambda k, _: pa.types.is_floating(k),
        _zero,
    ),
    Form(
        "arrays of these, but of numeric, json, char, uuid and bytea",
        "element by element, in their order; NULL, {} and {NULL} differ",
        lambda k, _: pa.types.is_list(k),
        _items,
    ),
    Form(
        "timestamptz",
        "the microsecond in UTC, whatever the zone that it was written in; infinity",
        lambda k, _: pa.types.is_timestamp(k) and k.tz is not None,
    ),
    Form("date, time, timestamp", "the day, the microsecond; infinity; no zone", lambda k, _: pa.types.is_temporal(k)),
    Form(
        "bytea, uuid",
        "byte by byte, whatever the spelling",
        lambda k, _: pa.types.is_binary(k) or pa.types.is_fixed_size_binary(k),
    ),
    Form(
        "text, varchar, char(n), enums, json, xml, citext, name",
        "character by character: case, blanks and Unicode's forms (é as one character or as two) count, '' is not NULL; "
        "char(n) is filled with blanks up to n, as PostgreSQL stores it",
        lambda k, _: pa.types.is_string(k),
    ),
    Form(
        "smallint, integer, bigint, boolean", "the value", lambda k, _: pa.types.is_integer(k) or pa.types.is_boolean(k)
    ),
)
"""The canonical form of every type; the first that holds is a column's. What a mapped value has to be before it comes here
(its type, its scale, its padding) is the conversion's business, for a value that would have to change is rejected."""


def form_of(kind: pa.DataType, wire: Wire) -> Form:
    """The form of a column by how it travels."""
    return next(form for form in FORMS if form.holds(kind, wire))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _shown(field: pa.Field, form: Form) -> str:
    name, kind = _quoted(field.name), field.type
    if pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return f"lower(hex({name}))"
    if pa.types.is_list(kind) and pa.types.is_temporal(kind.value_type):
        items = f"list_transform({name}, lambda x: {written('x', kind.value_type)})"
        return f"(CASE WHEN {name} IS NOT NULL THEN to_json({items})::VARCHAR END)"
    return written(name, kind) if pa.types.is_temporal(kind) else f"{form.sql(name, kind)}::VARCHAR"


def written(x: str, kind: pa.DataType) -> str:
    """DuckDB SQL of a date's or time's text as PostgreSQL reads and writes it: BC at the end, zoned times in UTC."""
    zone = ""
    if pa.types.is_timestamp(kind) and kind.tz:
        x, zone = f"timezone('UTC', {x})", "+00"
    text = f"{x}::VARCHAR"
    if pa.types.is_time(kind):
        return text
    after_christ = f"CASE WHEN contains({text}, ' (BC)') THEN replace({text}, ' (BC)', '') || '{zone} BC'"
    return f"({after_christ} WHEN isfinite({x}) THEN {text} || '{zone}' ELSE {text} END)"
