"""From the text of a database value to the Arrow type of its column: exactly, or told which values do not fit."""

from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_MOST_DIGITS, _MOST_DECIMALS = 131_072, 16_383  # of PostgreSQL's numeric, before and after the point

Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[Any]


def cast(texts: pa.Array, kind: pa.DataType) -> tuple[pa.Array, Mask | None]:
    """The values, and which of the texts are none of this type (NULL there); None where all are."""
    try:
        return _cast(texts, kind), None
    except (pa.ArrowInvalid, ValueError):
        pass
    bad = np.zeros(len(texts), np.bool_)
    _find(texts, kind, 0, bad)
    mask = pa.array(bad)
    return _cast(pc.if_else(mask, pa.scalar(None, texts.type), texts), kind), bad


def plain(numbers: pa.Array) -> pa.Array:
    """Texts of decimal numbers without exponents: few have one. One of more digits than numeric holds stays as it is."""
    marked = pc.match_substring_regex(numbers, "[eE]")
    if pc.any(marked).as_py() is not True:
        return numbers
    some = numbers.filter(marked).to_pylist()
    spelled = [_spelled_out(each) for each in some]
    return pc.replace_with_mask(numbers, pc.fill_null(marked, False), pa.array(spelled, pa.string()))


def _spelled_out(text: str) -> str:
    number = Decimal(text)
    exponent = number.as_tuple().exponent
    fits = isinstance(exponent, int) and exponent >= -_MOST_DECIMALS and number.adjusted() < _MOST_DIGITS
    return format(number, "f") if fits else text


def telling(values: pa.Array, wrong: pa.Array) -> pa.Array:
    """A column some of whose values are none of its type: `wrong` holds their texts, and NULL for the others."""
    return pa.StructArray.from_arrays([values, wrong], ["value", "wrong"])


def stranger(texts: pa.Array, mark: str) -> pa.Array:
    """Texts as `telling` has them, of which those that begin with the mark are none."""
    marked = pc.starts_with(texts, mark)
    if pc.any(marked).as_py() is not True:
        return texts
    none = pa.scalar(None, pa.string())
    return telling(pc.if_else(marked, none, texts), pc.if_else(marked, pc.utf8_slice_codeunits(texts, len(mark)), none))


def utf8(data: pa.Array) -> pa.Array:
    """Texts of bytes: as `telling` has them where some are no UTF-8, with their hexadecimal digits."""
    try:
        return pc.cast(data, pa.string())
    except pa.ArrowInvalid:
        pass
    bad = np.zeros(len(data), np.bool_)
    _find(data, pa.string(), 0, bad)
    wrong = [value.as_py().hex() if is_bad else None for value, is_bad in zip(data, bad, strict=True)]
    none = pa.scalar(None, data.type)
    return telling(pc.cast(pc.if_else(pa.array(bad), none, data), pa.string()), pa.array(wrong, pa.string()))


def told(cells: pa.Array) -> tuple[pa.Array, Mask]:
    """What `telling` was made of: the values, and which are none."""
    return cells.field("value"), cells.field("wrong").is_valid().to_numpy(zero_copy_only=False)


def _find(texts: pa.Array, kind: pa.DataType, start: int, bad: Mask) -> None:
    """Halve until a single text is what Arrow refuses: few are bad, and Arrow does not say which."""
    try:
        _cast(texts, kind)
    except (pa.ArrowInvalid, ValueError):
        if len(texts) == 1:
            bad[start] = True
            return
        half = len(texts) // 2
        _find(texts.slice(0, half), kind, start, bad)
        _find(texts.slice(half), kind, start + half, bad)


def _cast(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    if texts.type == kind:
        return texts
    if pa.types.is_time(kind):
        # Arrow has no cast of a text to a time of day, but one of a moment.
        moments = pc.binary_join_element_wise("1970-01-01", texts, " ", null_handling="emit_null")
        return pc.cast(pc.cast(moments, pa.timestamp(kind.unit)), kind)
    if pa.types.is_binary(kind):
        return _unhex(texts)
    if pa.types.is_timestamp(kind):
        # A text without an offset is the moment in UTC: the session's own zone has been set to that.
        moments = pc.cast(texts, pa.timestamp(kind.unit))
        if before_year_one(moments):
            raise ValueError("no such year")
        return moments.cast(kind) if kind.tz else moments
    if pa.types.is_date(kind):
        days = pc.cast(texts, kind)
        if before_year_one(days):
            raise ValueError("no such year")
        return days
    if pa.types.is_decimal(kind) and not _has_room(texts, kind):
        raise ValueError("more digits before the point than the type has")
    return pc.cast(texts, kind)


def before_year_one(moments: pa.Array) -> bool:
    """Whether there is a date or moment of the year 0, which Arrow reads, and no calendar has."""
    least = pc.min(moments)
    return bool(least.is_valid and pc.year(least).as_py() < 1)


def _has_room(texts: pa.Array, kind: pa.DataType) -> bool:
    """Arrow scales what it has read, and beyond 128 bits gives another number in silence: 35 as decimal(37,37) is 0.97…"""
    digits = pc.match_substring_regex(texts, rf"^[+-]?0*[0-9]{{0,{kind.precision - kind.scale}}}(\.[0-9]*)?$")
    return bool(pc.all(digits).as_py() is not False)


def _unhex(texts: pa.Array) -> pa.Array:
    """Binary values of hexadecimal texts. Raises ValueError where one has another character or half a byte."""
    _, offsets, data = texts.buffers()
    at = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    digits = bytes(data)[at[0] : at[-1]] if data is not None else b""
    values = bytes.fromhex(digits.decode("ascii"))  # blanks are skipped by it, so that lengths tell of them
    if (np.diff(at) % 2).any() or len(values) * 2 != len(digits):
        raise ValueError("no hexadecimal digits")
    valid = np.packbits(texts.is_valid().to_numpy(zero_copy_only=False), bitorder="little")
    ends = ((at - at[0]) // 2).astype(np.int32)
    return pa.Array.from_buffers(
        pa.binary(), len(texts), [pa.py_buffer(valid), pa.py_buffer(ends), pa.py_buffer(values)]
    )
