"""Pieces of a buffer gathered at once: words, spans as binary values, and columns put together of parts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from connectors.docscan import Data, Offsets

Part = tuple[Offsets, pa.Array]
"""Rows of a column, in order, and their values."""


def fours(data: Data, at: Offsets) -> npt.NDArray[np.int64]:
    """The signed little-endian numbers of four bytes at these positions."""
    return pieces(data, at, 4).view("<i4").astype(np.int64)


def eights(data: Data, at: Offsets) -> npt.NDArray[np.uint64]:
    """The unsigned little-endian numbers of eight bytes at these positions."""
    return pieces(data, at, 8).view("<u8")


def pieces(data: Data, at: Offsets, size: int) -> npt.NDArray[np.void]:
    """So many bytes from each position on; all of them lie in the data."""
    if not len(at):
        return np.zeros(0, f"V{size}")
    found: npt.NDArray[np.void] = np.ndarray(len(data) - size + 1, f"V{size}", data, 0, (1,))[at]
    return found


def spans(data: Data, starts: Offsets, ends: Offsets) -> pa.Array:
    """Binary values of these spans of the data."""
    cuts = np.empty(2 * len(starts), np.int64)
    cuts[::2], cuts[1::2] = starts, ends
    if (cuts[1:] >= cuts[:-1]).all():  # in order, Arrow copies them out of an array that is the data cut in pieces
        whole = pa.Array.from_buffers(
            pa.large_binary(), max(2 * len(starts) - 1, 0), [None, pa.py_buffer(cuts), pa.py_buffer(data)]
        )
        return whole.take(pa.array(np.arange(0, 2 * len(starts), 2))).cast(pa.binary())
    ends_there = np.cumsum(ends - starts)
    shifts = np.repeat(starts - ends_there + (ends - starts), ends - starts)
    copied = data[np.arange(len(shifts)) + shifts]
    return _binary(copied, np.append(0, ends_there))


def fixed(data: bytes, size: int) -> pa.Array:
    """ASCII texts of the same size each, which follow each other."""
    return _binary(np.frombuffer(data, np.uint8), np.arange(0, len(data) + 1, size)).cast(pa.string())


def placed(count: int, parts: Sequence[Part], kind: pa.DataType) -> pa.Array:
    """A column that holds the values of each part in its rows, NULL elsewhere."""
    parts = [part for part in parts if len(part[0])]
    if len(parts) == 1 and len(parts[0][0]) == count:
        return parts[0][1]
    at = np.full(count, -1)
    base = 0
    for rows, _ in parts:
        at[rows] = np.arange(base, base + len(rows))
        base += len(rows)
    return pa.concat_arrays([pa.nulls(0, kind), *(found for _, found in parts)]).take(pa.array(at, mask=at < 0))


def _binary(data: npt.NDArray[Any], cuts: Offsets) -> pa.Array:
    buffers = [None, pa.py_buffer(cuts.astype(np.int64)), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_binary(), len(cuts) - 1, buffers).cast(pa.binary())
