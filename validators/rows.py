"""Rows: two sides of a table merged on the key, so that each difference has a name."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from migrate.core import Finding

LIMIT = 100_000
"""Findings of one table that are listed one by one."""

Hashes = npt.NDArray[np.uint64]
_SHOWN = 200  # characters of a value


@dataclass(frozen=True, slots=True)
class Shape:
    """What the findings of a table need to know: its key, columns shown in quotes, and those that are not shown.

    `replayed` rows that a replay loaded could not be told from others: an extra row may be one of them.
    """

    table: str
    key: tuple[str, ...]
    quoted: frozenset[str] = frozenset()
    personal: frozenset[str] = frozenset()
    replayed: int = 0

    def show(self, column: str, value: str | None) -> str:
        if value is None:
            return "NULL"
        if column in self.personal:
            return "(personal)"
        text = repr(value) if column in self.quoted else value
        return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"

    def name(self, row: dict[str, Any]) -> str:
        """A row by its key, or by all its columns where it has none or a part of it is NULL."""
        keyed = bool(self.key) and all(row[k] is not None for k in self.key)
        return ", ".join(f"{c}={self.show(c, row[c])}" for c in (self.key if keyed else row))


def unmatched(a: Hashes, b: Hashes) -> Hashes:
    """The hashes that one side has more often than the other, sorted."""
    (of_a, times_a), (of_b, times_b) = counted(a), counted(b)
    every = np.sort(np.concatenate([of_a, of_b]))
    again = np.zeros(len(every) + 1, np.bool_)
    again[1:-1] = every[1:] == every[:-1]
    single = every[~(again[1:] | again[:-1])]
    both_a, both_b = ~among(of_a, single), ~among(of_b, single)
    oftener = of_a[both_a][times_a[both_a] != times_b[both_b]]
    return np.sort(np.concatenate([single, oftener]))


def counted(hashes: Hashes) -> tuple[Hashes, npt.NDArray[np.intp]]:
    """The distinct hashes, sorted, and how often each is there; `np.unique` is several times slower than a sort."""
    ordered = np.sort(hashes)
    first = np.flatnonzero(np.concatenate([np.ones(min(1, len(ordered)), np.bool_), ordered[1:] != ordered[:-1]]))
    return ordered[first], np.diff(first, append=len(ordered))


def among(hashes: Hashes, distinct: Hashes) -> npt.NDArray[np.bool_]:
    """Which of the hashes are among others, which are distinct and sorted.

    Searched for in their order, for a search that jumps about misses the processor's cache each time.
    """
    if not len(distinct):
        return np.zeros(len(hashes), np.bool_)
    if len(distinct) < len(hashes):
        at = np.minimum(np.searchsorted(distinct, hashes), len(distinct) - 1)
        here: npt.NDArray[np.bool_] = distinct[at] == hashes
        return here
    ordered = np.sort(hashes)
    at = np.minimum(np.searchsorted(distinct, ordered), len(distinct) - 1)
    return ~among(hashes, counted(ordered[distinct[at] != ordered])[0])


@dataclass(frozen=True, slots=True)
class Rows:
    """Different rows of one side, each with its hash and how often it stands there.

    `texts` are the compared columns. No two rows have the same hash.
    """

    texts: pa.Table
    hashes: Hashes
    counts: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Row:
    values: dict[str, Any]
    hash: int
    count: int


def compare(shape: Shape, source: Rows, target: Rows) -> Iterator[Finding]:
    """Missing, extra and differing rows of two sides."""
    there, here = _by_key(shape, source), _by_key(shape, target)
    for key in [*there, *(k for k in here if k not in there)]:
        yield from _of_one_key(shape, there.get(key, []), here.get(key, []))


def _by_key(shape: Shape, rows: Rows) -> dict[tuple[Any, ...], list[_Row]]:
    found: dict[tuple[Any, ...], list[_Row]] = {}
    for values, hash_, count in zip(rows.texts.to_pylist(), rows.hashes.tolist(), rows.counts.tolist(), strict=True):
        key = tuple(values[k] for k in shape.key)
        found.setdefault((hash_,) if not key or None in key else (*key, ""), []).append(_Row(values, hash_, count))
    return found


def _of_one_key(shape: Shape, there: Sequence[_Row], here: Sequence[_Row]) -> Iterator[Finding]:
    name = shape.name((there or here)[0].values)
    many, few = sum(r.count for r in there), sum(r.count for r in here)
    if many > few:
        message = f"{shape.table}: a loaded row is not in the target: {name}"
        yield Finding("rows.missing", "error", shape.table, message, name, str(many), str(few))
    elif few > many:
        what = "a row of the target was not loaded by this migration"
        if shape.replayed:
            what = f"a row of the target is not the source's; it may be one of the {shape.replayed} replayed here"
        yield Finding("rows.extra", "error", shape.table, f"{shape.table}: {what}: {name}", name, str(many), str(few))
    else:
        for expected, actual in zip(_surplus(there, here), _surplus(here, there), strict=False):
            for column, value in expected.values.items():
                if value != actual.values[column]:
                    want, have = shape.show(column, value), shape.show(column, actual.values[column])
                    message = f"{shape.table}: {name}: {column} should be {want} and is {have}"
                    yield Finding("rows.differ", "error", shape.table, message, name, want, have, column)


def _surplus(a: Sequence[_Row], b: Sequence[_Row]) -> list[_Row]:
    """The rows that `a` has more often."""
    counts = {row.hash: row.count for row in b}
    return [row for row in a if row.count > counts.get(row.hash, 0)]
