"""Verification of what still moves: a difference counts only once it has stood unchanged for longer than the lag."""

from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np
import pyarrow as pa

from migrate.errors import GateError
from migrate.rowdiff import Differences, Side, side_of, together, without_equals
from migrate.sides import Sides
from validators import rows as comparing

_ROUNDS = 20

_Standing = dict[int, tuple[list[int], list[int]]]


def lasting(sides: Sides, found: Differences, lag: float, pause: Callable[[float], object]) -> Differences:
    """The differences that stay as they are while `lag` seconds pass; looked at again until each has gone or stayed.

    Raises GateError for rows without a key, which cannot be found again.
    """
    if not found:
        return found
    if not sides.key:
        raise GateError(
            f"{sides.state.name}: without a key its rows cannot be found again while they change",
            hint="Verify it without --live, while nobody writes to it.",
        )
    now = _standing(found)
    for _ in range(_ROUNDS):
        before = now
        pause(lag)
        found = _again(sides, found)
        now = _standing(found)
        if all(before.get(key) == state for key, state in now.items()):
            break
    return found


def _standing(found: Differences) -> _Standing:
    """By the hash of a key, the hashes of its rows on both sides."""
    standing: _Standing = {}
    for parts in found.parts:
        for at, side in enumerate(parts):
            for key, hash_ in zip(side.keys.tolist(), side.hashes.tolist(), strict=True):
                standing.setdefault(key, ([], []))[at].append(hash_)
    return standing


def _again(sides: Sides, found: Differences) -> Differences:
    """The rows of the same keys, read once more on both sides, where they still differ."""
    wire = sides.mapping.schema.names
    sides.work.reopen(sides.mapping.spec)
    parts = []
    for source, target in found.parts:
        keys, _ = comparing.counted(np.concatenate([source.keys, target.keys]))
        asked = pa.concat_batches([source.rows.select(wire), target.rows.select(wire)])
        here = together(sides, [side_of(sides, rows, -1) for rows in sides.of_keys(asked)])
        there = _of_source(sides, keys, _chunks(source, target))
        parts.append(without_equals(there, here))
    # What is not about single rows cannot be looked at again, and stands.
    return replace(found, parts=[(there, here) for there, here in parts if len(there.keys) or len(here.keys)], moved=0)


def _chunks(source: Side, target: Side) -> Collection[int] | None:
    """Where the source's rows were read; None: anywhere, for a row that only the target has may be anywhere in the source."""
    alone = ~comparing.among(target.keys, comparing.counted(source.keys)[0])
    return None if alone.any() or (source.chunks < 0).any() else set(source.chunks.tolist())


def _of_source(sides: Sides, keys: comparing.Hashes, chunks: Collection[int] | None) -> Side:
    some = [p for p in sides.partitions if chunks is None or p.ordinal in chunks]
    parts = []
    for chunk, rows in sides.mapped(some):
        side = side_of(sides, rows, chunk)
        parts.append(side.take(np.flatnonzero(comparing.among(side.keys, keys))))
    return together(sides, parts)
