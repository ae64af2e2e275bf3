"""Whole batches straight into a target's type by Arrow alone, where the whole batch can be proved exact.

Most columns of most sources are plain texts, or values of a type, that a target column takes as they stand. Each
conversion here returns the finished array, or None where a single row might need a closer look: then the doubtful rows, or
all of them, go through DuckDB's screens. What it returns is what those would have made.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mappings.doubt import Doubt, Mask, buffers, of_date, of_number, of_text
from migrate.core import Column, Wire

Convert = Callable[[pa.Array], pa.Array | None]

_ASCII = 127
_NINE = ord("9")  # above it stand the letters of 0x1F and 1e3
_HOUR_ONLY = len("2021-01-01 10")
_FIRST_DAY = -719162  # 0001-01-01
_JULIAN = -2440588  # 4714-11-24 BC, PostgreSQL's first day
_LAST = 2932896  # 9999-12-31: what is later is looked at more closely
_DAY = 86_400_000_000  # microseconds
_MICROSECONDS = 6  # digits
_EXACT = (pa.types.is_integer, pa.types.is_decimal128, pa.types.is_boolean, pa.types.is_binary)
_WIDEST = 38  # digits of a decimal
_DIGITS = {"int2": 4, "int4": 9, "int8": 18}  # so many fit whatever they are


@dataclass(frozen=True, slots=True)
class Direct:
    """The fast way from pa.string() into a column: for a whole batch, or for all but some doubtful rows."""

    convert: Convert
    doubt: Doubt | None
    nullable: bool

    def all(self, texts: pa.Array) -> pa.Array | None:
        """The finished column, or None where a single row might need a closer look."""
        return None if texts.null_count and not self.nullable else self.convert(texts)

    def most(self, texts: pa.Array) -> tuple[pa.Array, Mask] | None:
        """The column with NULL in doubtful rows, and which those are; None where they cannot be told."""
        if self.doubt is None:
            return None
        doubtful = self.doubt(texts)
        if texts.null_count:
            missing = texts.is_null().to_numpy(zero_copy_only=False)
            doubtful = doubtful & ~missing if self.nullable else doubtful | missing
        # Not if_else: it leaves the bytes of what it makes NULL in the buffer, which `convert` looks at.
        made = self.convert(texts.take(pa.array(np.arange(len(texts)), mask=doubtful)))
        return None if made is None else (made, doubtful)


def direct(column: Column, wire: Wire, taken: pa.DataType) -> Direct | None:
    """The fast way into a column from values of an Arrow type, or None where there is none."""
    if taken != pa.string():
        same = _same(column, wire, taken)
        return None if same is None else Direct(same, None, column.nullable)
    ways = _ways(column, wire)
    return None if ways is None else Direct(*ways, column.nullable)


def _same(column: Column, wire: Wire, taken: pa.DataType) -> Convert | None:
    """Values that are of the column's own type already, or of a narrower one whose every value it holds."""
    kind = wire.arrow
    if wire.encoder or column.labels or not _holds(kind, taken):
        return None
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        if pa.types.is_timestamp(kind) and column.modifier and column.modifier[0] < _MICROSECONDS:
            return _even(10 ** (_MICROSECONDS - column.modifier[0]))
        return _after_the_first_day
    return lambda values: values if values.type == kind else pc.cast(values, kind)


def _holds(kind: pa.DataType, taken: pa.DataType) -> bool:
    if kind == taken:
        tests = (*_EXACT, pa.types.is_date32, pa.types.is_timestamp)
        return any(test(kind) for test in tests)
    if pa.types.is_signed_integer(kind) and pa.types.is_integer(taken):
        return bool(taken.bit_width + pa.types.is_unsigned_integer(taken) <= kind.bit_width)
    if pa.types.is_decimal128(kind) and pa.types.is_decimal128(taken):
        return bool(taken.scale <= kind.scale and taken.precision - taken.scale <= kind.precision - kind.scale)
    return False


def _after_the_first_day(values: pa.Array) -> pa.Array | None:
    """PostgreSQL's days begin with Julian day 0, and it has two infinities that no source means."""
    first = _JULIAN if pa.types.is_date(values.type) else _JULIAN * _DAY
    last = _LAST if pa.types.is_date(values.type) else _LAST * _DAY
    numbers = values.view(pa.int32() if pa.types.is_date(values.type) else pa.int64())
    ends = pc.min_max(numbers).as_py()
    return values if ends["min"] is None or (ends["min"] >= first and ends["max"] <= last) else None


def _even(unit: int) -> Convert:
    """timestamp(n): only what is not rounded by it."""

    def run(values: pa.Array) -> pa.Array | None:
        finer = (values.view(pa.int64()).fill_null(0).to_numpy() % unit).any()
        return None if finer else _after_the_first_day(values)

    return run


def _ways(column: Column, wire: Wire) -> tuple[Convert, Doubt | None] | None:
    base, kind = column.base, wire.arrow
    if wire.encoder or column.labels:
        return (_labels(column), None) if column.labels else None
    if base in ("text", "varchar", "citext", "xml"):
        longest = column.modifier[0] if base == "varchar" and column.modifier else None
        return _text(longest), of_text(longest)
    if base == "bpchar" and column.modifier:
        return _padded(column.modifier[0]), of_text(column.modifier[0], ascii_only=True)
    if base in _DIGITS:
        return _number(kind), of_number(_DIGITS[base], 0)
    if base == "numeric":
        fitting = of_number(kind.precision, kind.scale)
        return _decimal(kind, fitting), fitting
    if base == "date":
        return _date, of_date
    if base == "timestamp" and (not column.modifier or column.modifier[0] >= 6):
        return _timestamp, None
    return None


def holds_nul(texts: pa.Array) -> bool:
    data, _ = buffers(texts)
    return bool(len(data)) and int(data.min()) == 0


def _number(kind: pa.DataType) -> Convert:
    def run(texts: pa.Array) -> pa.Array | None:
        data, _ = buffers(texts)
        return None if len(data) and int(data.max()) > _NINE else _cast(texts, kind)

    return run


def _decimal(kind: pa.DataType, doubt: Doubt) -> Convert:
    """Arrow's cast of 35 to decimal(37,37) multiplies past 128 bits and says nothing: no row that might is left to it."""
    number = _number(kind)

    def run(texts: pa.Array) -> pa.Array | None:
        sizes = np.diff(buffers(texts)[1])
        if len(sizes) and int(sizes.max()) + kind.scale > _WIDEST and (doubt(texts) & (sizes > 0)).any():
            return None
        return number(texts)

    return run


def _cast(texts: pa.Array, kind: pa.DataType) -> pa.Array | None:
    try:
        return pc.cast(texts, kind)
    except pa.ArrowInvalid:
        return None


def _text(longest: int | None) -> Convert:
    def run(texts: pa.Array) -> pa.Array | None:
        data, at = buffers(texts)
        if len(data) and int(data.min()) == 0:
            return None
        # no more bytes than characters are allowed: then there are no more characters either
        if longest is not None and len(data) and int(np.diff(at).max()) > longest:
            return None
        return texts

    return run


def _padded(size: int) -> Convert:
    """char(n): blanks up to n, as PostgreSQL stores it."""

    def run(texts: pa.Array) -> pa.Array | None:
        data, at = buffers(texts)
        if len(data) and (int(data.min()) == 0 or int(data.max()) > _ASCII):
            return None
        sizes = np.diff(at)
        if len(sizes) == 0 or int(sizes.max()) > size:
            return None
        return texts if int(sizes.min()) == size else pc.ascii_rpad(texts, size)

    return run


def _labels(column: Column) -> Convert:
    labels = pa.array(column.labels, pa.string())

    def run(texts: pa.Array) -> pa.Array | None:
        known = pc.is_in(texts, labels)
        return texts if known.true_count == len(texts) - texts.null_count else None

    return run


def _date(texts: pa.Array) -> pa.Array | None:
    days = _cast(texts, pa.date32())
    if days is None:
        return None
    first = pc.min(days.cast(pa.int32())).as_py()
    return days if first is None or first >= _FIRST_DAY else None


def _timestamp(texts: pa.Array) -> pa.Array | None:
    _, at = buffers(texts)
    if bool((np.diff(at) == _HOUR_ONLY).any()):
        return None
    moments = _cast(texts, pa.timestamp("us"))
    if moments is None:
        return None
    first = pc.min(moments.cast(pa.int64())).as_py()
    return moments if first is None or first >= _FIRST_DAY * 86_400_000_000 else None
