"""Texts that come as the bytes of UTF-16: made texts of Arrow all at once, those that are none told apart.

Drivers put U+FFFD in the place of half of a surrogate pair, lose a byte order mark at the beginning, or give nothing at all.
Of bytes nothing is lost, and what they say is decided here.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors import typed
from migrate.errors import SourceError

_LONE = 0xFFFD  # stands for half of a pair, in a value that is rejected


def texts(cells: pa.Array) -> pa.Array:
    """The texts of binary values in little-endian UTF-16. Where some hold half of a surrogate pair, as `typed.telling`.

    Raises SourceError where a value has half of a code unit.
    """
    _, offsets, data = cells.buffers()
    at = np.frombuffer(offsets, np.int32)[cells.offset : cells.offset + len(cells) + 1].astype(np.int64)
    if (np.diff(at) % 2).any():
        raise SourceError("the driver gives a part of a character", hint="Name another driver in the source's URL.")
    count = int(at[-1] - at[0]) // 2
    units = np.frombuffer(data, "<u2", count, int(at[0])) if count else np.zeros(0, "<u2")
    ends = (at - at[0]) // 2
    if not count or units.max() < 0x80:
        return _strings(cells, units.astype(np.uint8), ends)
    halves = (units & 0xF800) == 0xD800
    lone = _lone(units, halves, ends) if halves.any() else halves
    rows = np.unique(np.searchsorted(ends, np.flatnonzero(lone), "right") - 1)
    if len(rows):
        units = np.where(lone, np.uint16(_LONE), units)
    utf8 = np.frombuffer(units.tobytes().decode("utf-16-le").encode(), np.uint8)
    long = np.flatnonzero(units >= 0x80)
    more = np.where((units[long] < 0x800) | (halves & ~lone)[long], 1, 2)  # bytes over one; a pair's four are two each
    grown = np.concatenate([[0], np.cumsum(more)])
    found = _strings(cells, utf8, ends + grown[np.searchsorted(long, ends)])
    if not len(rows):
        return found
    bad = np.zeros(len(cells), np.bool_)
    bad[rows] = True
    told = pa.array([exact(cells[int(row)].as_py()).encode("utf-8", "surrogatepass") for row in rows], pa.binary())
    wrong = pc.replace_with_mask(pa.nulls(len(cells), pa.binary()), pa.array(bad), told)
    return typed.telling(pc.if_else(pa.array(bad), pa.scalar(None, pa.string()), found), wrong)


def exact(data: bytes) -> str:
    """The text of one value, half of a pair as what Python has for it."""
    return data.decode("utf-16-le", "surrogatepass")


def _lone(units: typed.Numbers, halves: typed.Mask, ends: typed.Numbers) -> typed.Mask:
    """Which of the halves have no other half beside them in the same value."""
    second = (units & 0xFC00) == 0xDC00
    first = halves & ~second
    begins = np.zeros(len(units) + 1, np.bool_)
    begins[ends] = True
    pairs = first[:-1] & second[1:] & ~begins[1:-1]
    lone = halves.copy()
    lone[:-1] &= ~pairs
    lone[1:] &= ~pairs
    return lone


def _strings(cells: pa.Array, data: typed.Numbers, ends: typed.Numbers) -> pa.Array:
    """Strings of these bytes in the place of the cells; with offsets of 64 bits, so that the cast sees where 32 are too few."""
    valid = None
    if cells.null_count:
        valid = pa.py_buffer(np.packbits(cells.is_valid().to_numpy(zero_copy_only=False), bitorder="little"))
    buffers = [valid, pa.py_buffer(np.ascontiguousarray(ends, np.int64)), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_string(), len(cells), buffers).cast(pa.string())
