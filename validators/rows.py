"""Rows: two sides of a table merged on the key, so that each difference has a name."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from migrate.core import Finding

LIMIT = 100_000
"""Findings of one table that are listed one by one."""

HASH = "migrate_hash"
"""The last column of a side: each row's hash. The others are the compared columns, as text."""

Hashes = npt.NDArray[np.uint64]
_Rows = list[dict[str, Any]]
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
        return ", ".join(f"{c}={self.show(c, row[c])}" for c in (self.key if keyed else row) if c != HASH)


def unmatched(a: Hashes, b: Hashes) -> Hashes:
    """The hashes that one side has more often than the other, sorted."""
    values, places = np.unique(np.concatenate([a, b]), return_inverse=True)
    there, here = (np.bincount(part, minlength=len(values)) for part in (places[: len(a)], places[len(a) :]))
    different: Hashes = values[there != here]
    return different


def compare(shape: Shape, source: pa.Table, target: pa.Table) -> Iterator[Finding]:
    """Missing, extra and differing rows of two sides."""
    there, here = _by_key(shape, source), _by_key(shape, target)
    for key in [*there, *(k for k in here if k not in there)]:
        yield from _of_one_key(shape, there.get(key, []), here.get(key, []))


def _by_key(shape: Shape, rows: pa.Table) -> dict[tuple[Any, ...], _Rows]:
    found: dict[tuple[Any, ...], _Rows] = {}
    for row in rows.to_pylist():
        key = tuple(row[k] for k in shape.key)
        found.setdefault((row[HASH],) if not key or None in key else (*key, ""), []).append(row)
    return found


def _of_one_key(shape: Shape, there: _Rows, here: _Rows) -> Iterator[Finding]:
    name = shape.name((there or here)[0])
    counts = str(len(there)), str(len(here))
    if len(there) > len(here):
        message = f"{shape.table}: a loaded row is not in the target: {name}"
        yield Finding("rows.missing", "error", shape.table, message, name, *counts)
    elif len(here) > len(there):
        what = "a row of the target was not loaded by this migration"
        if shape.replayed:
            what = f"a row of the target is not the source's; it may be one of the {shape.replayed} replayed here"
        yield Finding("rows.extra", "error", shape.table, f"{shape.table}: {what}: {name}", name, *counts)
    elif sorted(r[HASH] for r in there) != sorted(r[HASH] for r in here):
        for column in there[0]:
            expected, actual = [r[column] for r in there], [r[column] for r in here]
            if column != HASH and expected != actual:
                want, have = next(
                    (shape.show(column, e), shape.show(column, a))
                    for e, a in zip(expected, actual, strict=True)
                    if e != a
                )
                message = f"{shape.table}: {name}: {column} should be {want} and is {have}"
                yield Finding("rows.differ", "error", shape.table, message, name, want, have)
