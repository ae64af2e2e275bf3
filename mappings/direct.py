"""Whole batches of text straight into a target's type by Arrow alone, where the whole batch can be proved exact.

Most columns of most files are plain texts that a target column takes as they stand. Each conversion here returns the finished
array, or None where a single row might need a closer look: then the doubtful rows, or all of them, go through DuckDB's
screens. What it returns is what those would have made.
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


def direct(column: Column, wire: Wire) -> Direct | None:
    """The fast way into a column, or None where there is none."""
    ways = _ways(column, wire)
    return None if ways is None else Direct(*ways, column.nullable)


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
