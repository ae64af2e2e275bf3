"""Values of BSON as columns of Arrow: all of a column at once, exactly, or told as wrong."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from bson.decimal128 import Decimal128

from connectors import bsonjson, typed
from connectors.bytespans import Part, eights, fixed, fours, pieces, placed, spans
from connectors.docscan import (
    ABSENT,
    ARROW,
    BINARY,
    BOOLEAN,
    DATE,
    DECIMAL,
    DOUBLE,
    INT32,
    INT64,
    NULL,
    OBJECTID,
    STRING,
    SYMBOL,
    UNDEFINED,
    Cells,
    Data,
    Mask,
    Offsets,
    Type,
)

Words = npt.NDArray[np.uint64]

_WHOLE = 2**53  # up to this size a double tells whole numbers apart
_INT64 = 2**63
_OLD, _UUID, _OWN = 2, 4, 128  # subtypes of binary: with its size twice, a UUID, and from here on the user's own
_FIRST_MOMENT = -210_866_803_200_000  # 4714-11-24 BC, PostgreSQL's first day, in ms of 1970
_LAST_MOMENT = (_INT64 - 1) // 1000
_BIAS, _GREATEST = 6176, 6111  # of a Decimal128's exponent: what is added to it, and what it is at most
_NO_COEFFICIENT = divmod(10**34, 2**64)  # the first that has too many digits
_COEFFICIENT = np.uint64(2**49 - 1)  # its bits in the upper half
_WRITTEN = 38  # exponents up to this size Arrow writes


def values(data: Data, cells: Cells, type_: Type) -> tuple[pa.Array, Mask]:
    """The values as `ARROW[type_]`, and which of them are not exactly of that type (NULL there), as `Form.values` has it.

    A value that is undefined is null. A UUID is binary of subtype 4: the bytes of 3 stand in an order that depends on the driver
    which wrote them, so they are wrong.
    """
    if type_ == "json":
        return bsonjson.texts(data, cells)
    found = placed(len(cells.kinds), _PARTS[type_](data, cells), ARROW[type_])
    none = np.isin(cells.kinds, (ABSENT, NULL, UNDEFINED))
    return found, ~none & found.is_null().to_numpy(zero_copy_only=False)


def _rows(cells: Cells, *kinds: int) -> Offsets:
    mask = cells.kinds == kinds[0]
    for kind in kinds[1:]:
        mask |= cells.kinds == kind
    return np.flatnonzero(mask)


# ----------------------------------------------------------------------------------------------------------------- numbers


def _int32s(data: Data, cells: Cells) -> tuple[Offsets, Offsets]:
    rows = _rows(cells, INT32)
    return rows, fours(data, cells.starts[rows]).astype(np.int64)


def _int64s(data: Data, cells: Cells, kind: int = INT64) -> tuple[Offsets, Offsets]:
    rows = _rows(cells, kind)
    return rows, eights(data, cells.starts[rows]).view(np.int64)


def _doubles(data: Data, cells: Cells) -> tuple[Offsets, npt.NDArray[np.float64]]:
    rows = _rows(cells, DOUBLE)
    return rows, eights(data, cells.starts[rows]).view(np.float64)


def _integer(data: Data, cells: Cells) -> list[Part]:
    rows, doubles = _doubles(data, cells)
    whole = (np.abs(doubles) <= _WHOLE) & (np.trunc(doubles) == doubles)
    parts = [_int32s(data, cells), _int64s(data, cells), (rows[whole], doubles[whole].astype(np.int64))]
    return [*_arrays(parts), *_decimal_integers(data, cells)]


def _double(data: Data, cells: Cells) -> list[Part]:
    rows, whole = _int64s(data, cells)
    as_double = whole.astype(np.float64)
    same = as_double < _INT64
    same[same] = as_double[same].astype(np.int64) == whole[same]
    small, numbers = _int32s(data, cells)
    return _arrays([_doubles(data, cells), (small, numbers.astype(np.float64)), (rows[same], as_double[same])])


def _decimal(data: Data, cells: Cells) -> list[Part]:
    rows, doubles = _doubles(data, cells)
    texts = pc.cast(pa.array(doubles), pa.string())
    if not np.isfinite(doubles).all():
        texts = pc.replace_substring(pc.replace_substring(texts, "nan", "NaN"), "inf", "Infinity")
    whole = [
        (rows, pc.cast(found, pa.string())) for rows, found in _arrays([_int32s(data, cells), _int64s(data, cells)])
    ]
    return [*whole, (rows, texts), *_decimal_texts(data, cells)]


def _arrays(parts: Sequence[tuple[Offsets, npt.NDArray[Any]]]) -> list[Part]:
    return [(rows, pa.array(found)) for rows, found in parts if len(rows)]


def _decimals(data: Data, cells: Cells) -> tuple[Offsets, Words, Words, Offsets]:
    """Rows with a Decimal128, its bits' lower and upper half, and its exponent. What has too many digits is left out.

    For NaN, infinities and a second form of zero, which no driver writes, the exponent is over `_GREATEST`.
    """
    rows = _rows(cells, DECIMAL)
    low, high = eights(data, cells.starts[rows]), eights(data, cells.starts[rows] + 8)
    exponents = ((high >> np.uint64(49)) & np.uint64(0x3FFF)).astype(np.int64) - _BIAS
    top = high & _COEFFICIENT
    fine = (
        (exponents > _GREATEST)
        | (top < _NO_COEFFICIENT[0])
        | ((top == _NO_COEFFICIENT[0]) & (low < _NO_COEFFICIENT[1]))
    )
    return rows[fine], low[fine], high[fine], exponents[fine]


def _decimal_texts(data: Data, cells: Cells) -> list[Part]:
    rows, low, high, exponents = _decimals(data, cells)
    negative, top = high >> np.uint64(63) != 0, high & _COEFFICIENT
    halves = np.empty((len(rows), 2), np.uint64)  # as Arrow has them: the complement of two where negative
    halves[:, 0] = np.where(negative, ~low + np.uint64(1), low)
    halves[:, 1] = np.where(negative, ~top + (low == 0), top)
    parts = []
    for exponent in np.unique(exponents[exponents <= _GREATEST]).tolist():
        same = exponents == exponent
        kind = pa.decimal128(38, -exponent if abs(exponent) <= _WRITTEN else 0)
        found = pa.Array.from_buffers(kind, int(same.sum()), [None, pa.py_buffer(halves[same])]).cast(pa.string())
        if abs(exponent) > _WRITTEN:
            found = pc.binary_join_element_wise(found, f"E{exponent}", "")
        parts.append((rows[same], found))
    odd = np.flatnonzero(exponents > _GREATEST)
    texts = [str(_decimal128(low[row], high[row])) for row in odd]
    return [*parts, (rows[odd], pa.array(texts, pa.string()))]


def _decimal_integers(data: Data, cells: Cells) -> list[Part]:
    rows, low, high, exponents = _decimals(data, cells)
    plain = (high & _COEFFICIENT == 0) & (low < _INT64) & (exponents <= 0) & (exponents >= -18)
    whole, rest = np.divmod(low[plain].astype(np.int64), 10 ** -exponents[plain])
    signed = np.where(high[plain] >> np.uint64(63) != 0, -whole, whole)
    others = []
    for row in np.flatnonzero(~plain).tolist():
        number = _decimal128(low[row], high[row]).to_decimal()
        if number.is_finite() and (not number or number.adjusted() < 19):
            integer = int(number)
            if integer == number and -_INT64 <= integer < _INT64:
                others.append((rows[row], integer))
    found = _arrays([(rows[plain][rest == 0], signed[rest == 0])])
    return [*found, (np.array([row for row, _ in others], np.int64), pa.array([i for _, i in others], pa.int64()))]


def _decimal128(low: np.uint64, high: np.uint64) -> Decimal128:
    return Decimal128.from_bid(low.tobytes() + high.tobytes())


# ----------------------------------------------------------------------------------------------------------- other values


def _text(data: Data, cells: Cells) -> list[Part]:
    rows = _rows(cells, STRING, SYMBOL)
    texts, bad = typed.cast(spans(data, cells.starts[rows] + 4, cells.ends[rows] - 1), pa.string())
    return [(rows, texts)] if bad is None else [(rows[~bad], texts.filter(pa.array(~bad)))]


def _boolean(data: Data, cells: Cells) -> list[Part]:
    rows = _rows(cells, BOOLEAN)
    bytes_ = data[cells.starts[rows]]
    return _arrays([(rows[bytes_ < 2], bytes_[bytes_ < 2] == 1)])


def _moment(data: Data, cells: Cells) -> list[Part]:
    rows, millis = _int64s(data, cells, DATE)
    held = (millis >= _FIRST_MOMENT) & (millis <= _LAST_MOMENT)
    return [(rows[held], pa.array(millis[held] * 1000).cast(ARROW["moment"]))]


def _objectid(data: Data, cells: Cells) -> list[Part]:
    rows = _rows(cells, OBJECTID)
    return [(rows, fixed(pieces(data, cells.starts[rows], 12).tobytes().hex().encode(), 24))]


def _binary(data: Data, cells: Cells) -> list[Part]:
    rows = _rows(cells, BINARY)
    starts, ends = cells.starts[rows] + 5, cells.ends[rows]
    subtypes = data[starts - 1]
    old = np.flatnonzero((subtypes == _OLD) & (ends - starts >= 4))
    old = old[fours(data, starts[old]) == ends[old] - starts[old] - 4]
    starts[old] += 4
    held = (subtypes == 0) | (subtypes >= _OWN)
    held[old] = True
    return [(rows[held], spans(data, starts[held], ends[held]))]


def _uuid(data: Data, cells: Cells) -> list[Part]:
    rows = _rows(cells, BINARY)
    starts, ends = cells.starts[rows] + 5, cells.ends[rows]
    held = (data[starts - 1] == _UUID) & (ends - starts == 16)
    digits = np.frombuffer(pieces(data, starts[held], 16).tobytes().hex().encode(), np.uint8).reshape(-1, 32)
    texts = np.full((len(digits), 36), ord("-"), np.uint8)
    texts[:, [at for at in range(36) if at not in (8, 13, 18, 23)]] = digits
    return [(rows[held], fixed(texts.tobytes(), 36))]


_PARTS: Mapping[str, Callable[[Data, Cells], list[Part]]] = {
    "text": _text,
    "integer": _integer,
    "double": _double,
    "decimal": _decimal,
    "boolean": _boolean,
    "moment": _moment,
    "objectid": _objectid,
    "binary": _binary,
    "uuid": _uuid,
}
