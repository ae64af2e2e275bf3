"""Which rows of a text column may not be exact in a target type: found by looking at bytes, erring on the side of doubt.

A batch with a few bad rows must not send all the others through the slow way. Each function takes a string array and gives a
mask of the rows that need a closer look; Arrow's cast of the rest is then tried, and is the judge of whether that was right.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Mask = npt.NDArray[np.bool_]
Doubt = Callable[[pa.Array], Mask]

_DIGITS, _NOT_DIGITS = (ord("0"), ord("9")), 9
_MONTH_DAYS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], np.int16)
_LEAP = np.array([y % 4 == 0 and (y % 100 != 0 or y % 400 == 0) for y in range(10_000)])
_ISO = len("2021-01-31")
_MANY = 32  # one position in so many bytes: then it is faster to name every byte's row than to search for each


def buffers(texts: pa.Array) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """The bytes of a string array and the offsets of its values in them, the first of them 0."""
    _, offsets, data = texts.buffers()
    at = (
        np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
        if offsets
        else np.zeros(1, np.int32)
    )
    return (np.frombuffer(data, np.uint8) if data else np.zeros(0, np.uint8))[at[0] : at[-1]], at - at[0]


def _owners(positions: npt.NDArray[np.intp], at: npt.NDArray[np.int32]) -> npt.NDArray[np.intp]:
    """The rows that bytes belong to."""
    if len(positions) * _MANY < at[-1]:
        return np.searchsorted(at, positions, "right") - 1
    return np.repeat(np.arange(len(at) - 1), np.diff(at))[positions]


def of_text(longest: int | None, *, ascii_only: bool = False) -> Doubt:
    """Rows with a NUL, or with more bytes than characters are allowed."""

    def doubt(texts: pa.Array) -> Mask:
        data, at = buffers(texts)
        mask: Mask = np.diff(at) > longest if longest is not None else np.zeros(len(texts), np.bool_)
        strange = data == 0
        if ascii_only:
            strange |= data > 127
        mask[_owners(np.flatnonzero(strange), at)] = True
        return mask

    return doubt


def of_number(digits: int, scale: int) -> Doubt:
    """Rows that are anything but `-`, at most `digits` digits and, among them, at most `scale` after one point."""

    def doubt(texts: pa.Array) -> Mask:
        data, at = buffers(texts)
        sizes = np.diff(at)
        strange = np.flatnonzero((data - np.uint8(_DIGITS[0])) > _NOT_DIGITS)
        owners, signs = _owners(strange, at), data[strange]
        point, minus = signs == ord("."), signs == ord("-")
        mask: Mask = (sizes == 0) | (sizes > digits - scale)
        # Longer than the digits before the point alone may be: then the point's place decides.
        points, rows = strange[point], owners[point]
        before, after = points - at[rows], at[rows + 1] - points - 1
        fits = (before > 0) & (after > 0) & (after <= scale) & (before <= digits - scale)
        mask[rows[fits]] = False
        mask[rows[~fits]] = True
        mask[rows[1:][np.diff(rows) == 0]] = True  # a second point
        mask[owners[minus & (strange != at[owners])]] = True
        mask[owners[minus & (sizes[owners] == 1)]] = True
        mask[owners[~(point | minus)]] = True
        return mask

    return doubt


def of_date(texts: pa.Array) -> Mask:
    """Rows that are not an ISO date of the calendar, from the year 1 on."""
    data, at = buffers(texts)
    mask: Mask = np.diff(at) != _ISO
    rows = np.flatnonzero(~mask)
    if not len(rows):
        return mask
    # gathered ten bytes at a time, then a row for each place in the text
    tens = np.ndarray((len(data) - _ISO + 1,), f"V{_ISO}", data, 0, (1,))
    text = np.ascontiguousarray(tens[at[rows]].view(np.uint8).reshape(-1, _ISO).T)
    digit = text - np.uint8(ord("0"))
    fine = (text[4] == ord("-")) & (text[7] == ord("-"))
    for place in (0, 1, 2, 3, 5, 6, 8, 9):
        fine &= digit[place] <= 9
    number = digit.astype(np.int16)
    year = number[0] * 1000 + number[1] * 100 + number[2] * 10 + number[3]
    month = np.clip(number[5] * 10 + number[6], 0, 13) % 13
    day = number[8] * 10 + number[9]
    leap = (month == 2) & _LEAP[np.where(fine, year, 0)]
    fine &= (year > 0) & (month > 0) & (day > 0) & (day <= _MONTH_DAYS[month] + leap)
    mask[rows[~fine]] = True
    return mask
