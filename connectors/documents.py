"""Documents as rows: their columns, what no column takes, values that do not fit, and the elements of their arrays."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors.docfields import PARENT, POSITION, REST, VALUE, Level, Levels, Path, columns, schema
from connectors.docscan import ABSENT, ARRAY, NOTHING, OBJECT, Cells, Data, Form, Mask, Offsets, Scan, Type, Wanted
from connectors.typed import plain
from migrate.core import Batch, Origin, Reject

_RAW_LIMIT = 64 << 10  # of what is broken, how many bytes are kept
_LISTED = 5  # names in a reject
_SHOWN = 200  # characters of a value in a reject


@dataclass(frozen=True, slots=True)
class Damage:
    """What lies between documents and is none, or in the place of an array: where in the buffer, `path` in its document, and why
    it is one row that is rejected."""

    start: int
    end: int
    reason: str
    rule: str = "structure"
    path: str = ""


@dataclass(frozen=True, slots=True)
class _Column:
    """A column's values, for each unit of a level; which do not fit, and where they stand."""

    values: pa.Array
    wrong: Mask
    cells: Cells
    type: str

    def of(self, units: Offsets) -> "_Column":
        """The column of other units, each of which takes its value from one here, or (-1) has none."""
        none = units < 0
        if len(self.wrong) == 0:
            nowhere = np.zeros(len(units), np.int64)
            absent = Cells(nowhere.astype(np.uint8), nowhere, nowhere)
            return _Column(pa.nulls(len(units), self.values.type), none & False, absent, self.type)
        cells = self.cells.take(units)
        cells.kinds[none] = ABSENT
        values = self.values.take(pa.array(units, mask=none))
        return _Column(values, self.wrong[units] & ~none, cells, self.type)


def _column(form: Form, data: Data, cells: Cells, type_: Type) -> _Column:
    """A column of these values; a number is spelled out, as PostgreSQL's numeric is written without an exponent."""
    values, wrong = form.values(data, cells, type_)
    return _Column(plain(values) if type_ == "decimal" else values, wrong, cells, type_)


@dataclass(frozen=True, slots=True)
class _Units:
    """What is a row, or holds rows: documents, or elements of arrays in them. `above`: columns of what is around each."""

    cells: Cells
    above: Mapping[str, _Column] = field(default_factory=dict)


@dataclass
class _Wrong:
    """Rows that are rejected: the first reason for each counts."""

    form: Form
    data: Data
    rejects: dict[int, tuple[str, str, str | None, str | None]] = field(default_factory=dict)

    def type(self, rows: Offsets, cells: Cells, column: str, what: str) -> None:
        """`cells[i]` does not fit in the column, and stands in `rows[i]`."""
        texts = self.form.values(self.data, cells, "json")[0].to_pylist()
        for row, text in zip(rows.tolist(), texts, strict=True):
            shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
            self.rejects.setdefault(row, ("type", f"{column}: {shown} is no {what}", column, shown))


Locate = Callable[[int, int], Origin]
"""The origin of what stands at `start:end` of the buffer."""


def read(
    form: Form,
    data: Data,
    starts: Offsets,
    ends: Offsets,
    levels: Levels,
    asked: Sequence[str],
    locate: Locate,
    *,
    damage: Sequence[Damage] = (),
    mixed: bool = False,
) -> Batch:
    """The documents at `starts[i]:ends[i]`, which ascend, as rows with these columns.

    `mixed`: a value that does not fit its column stands in `_rest`, if that is asked for. Rows are numbered as they stand.
    """
    units, bad = _descend(form, data, starts, ends, levels, asked)
    bad = [*bad, *damage]
    count = len(units.cells.kinds)
    begins = np.concatenate([units.cells.starts, np.array([each.start for each in bad], np.int64)])
    stops = np.concatenate([units.cells.ends, np.array([each.end for each in bad], np.int64)])
    order = np.argsort(begins, kind="stable")
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.arange(len(order))
    begins, stops = begins[order], stops[order]
    wrong = _Wrong(form, data)
    arrays_, faults = _last(form, data, units, levels, asked, wrong, mixed)
    told = {int(numbers[row]): why for row, why in wrong.rejects.items()}
    told |= {int(numbers[row]): ("structure", why, None, None) for row, why in faults.items()}
    told |= {int(numbers[count + at]): (each.rule, each.reason, None, None) for at, each in enumerate(bad)}

    def origins(ordinals: Sequence[int]) -> Sequence[Origin]:
        return [origin(int(order[ordinal]), int(begins[ordinal]), int(stops[ordinal])) for ordinal in ordinals]

    def origin(row: int, start: int, end: int) -> Origin:
        path = _path(units, levels, row) if row < count else bad[row - count].path
        return _within(locate(start, end), path)

    rejected = sorted(told)
    rejects = tuple(
        _reject(ordinal, origin, *told[ordinal]) for ordinal, origin in zip(rejected, origins(rejected), strict=True)
    )
    good = np.ones(count, np.bool_)
    good[[*wrong.rejects, *faults]] = False
    fields = schema(levels)
    rows = pa.RecordBatch.from_struct_array(
        pa.StructArray.from_arrays(arrays_, fields=[fields.field(name).remove_metadata() for name in asked])
        if asked
        else pa.array([{}] * count, pa.struct([]))
    )
    if not rejected:
        return Batch(rows, numbers, origins)
    at = order[rejected]
    partial = rows.take(pa.array(at, mask=at >= count)) if asked else None
    return Batch(rows.filter(pa.array(good)), numbers[:count][good], origins, rejects, partial)


def numbered(batch: Batch, first: int) -> Batch:
    """A batch whose rows are numbered from `first` on."""
    if not first:
        return batch
    rejects = tuple(replace(each, ordinal=each.ordinal + first) for each in batch.rejects)

    def locate(ordinals: Sequence[int]) -> Sequence[Origin]:
        return batch.locate([ordinal - first for ordinal in ordinals])

    return replace(batch, ordinals=batch.ordinals + first, locate=locate, rejects=rejects)


def _path(units: _Units, levels: Levels, row: int) -> str:
    """Where an element stands in its document: `lines[2].taxes[1]`, counted from 1 as `_position` is."""
    depths = range(1, len(levels))
    at = (units.above[PARENT * (len(levels) - 1 - depth) + POSITION].values[row] for depth in depths)
    return ".".join(f"{'.'.join(levels[depth].path)}[{each}]" for depth, each in zip(depths, at, strict=True))


def _within(origin: Origin, path: str) -> Origin:
    """The origin of what stands at a path in a document: of many such the document's key is the same."""
    if not path:
        return origin
    key = origin.locator.get("key")
    more = {"key": f"{key}, {path}"} if key is not None else {"element": path}
    return replace(origin, locator={**origin.locator, **more})


def _reject(ordinal: int, origin: Origin, rule: str, reason: str, column: str | None, value: str | None) -> Reject:
    """Of what is broken only the beginning is kept: it may be a large part of the source."""
    if rule == "structure" and len(origin.raw) > _RAW_LIMIT:
        reason += f" (the first {_RAW_LIMIT} of {len(origin.raw)} bytes are kept)"
        origin = replace(origin, raw=origin.raw[:_RAW_LIMIT])
    return Reject(ordinal, rule, reason, origin, column, value)


def count(form: Form, data: Data, starts: Offsets, ends: Offsets, levels: Levels, damage: Sequence[Damage] = ()) -> int:
    """The number of rows that `read` would tell of."""
    if len(levels) == 1:
        return len(starts) + len(damage)
    units, bad = _descend(form, data, starts, ends, levels, ())
    return len(units.cells.kinds) + len(bad) + len(damage)


def elements(form: Form, data: Data, starts: Offsets, ends: Offsets, paths: Sequence[Path]) -> Cells:
    """What is at the end of these paths of arrays."""
    levels = (Level(), *(Level(path) for path in paths))
    return _descend(form, data, starts, ends, levels, ())[0].cells


def _descend(
    form: Form, data: Data, starts: Offsets, ends: Offsets, levels: Levels, asked: Sequence[str]
) -> tuple[_Units, list[Damage]]:
    """The units of the last level; and what stands in the place of arrays, or is no document."""
    units = _Units(Cells(np.full(len(starts), OBJECT, np.uint8), starts, ends))
    bad: list[Damage] = []
    for depth, (level, below) in enumerate(pairwise(levels)):
        reach = PARENT * (len(levels) - 1 - depth)
        own = columns(level)
        names = [name.removeprefix(reach) for name in asked if name.startswith(reach)]
        names = [name for name in names if name in own]
        scan, at, objects = _scanned(form, data, units.cells, [below.path, *(own[name].path for name in names)])
        bad += [Damage(int(starts[each]), int(ends[each]), why) for each, why in scan.faults.items() if not depth]
        place = ".".join(below.path)
        held = scan.cells[at[below.path]]
        of, cells, broken = form.elements(data, held)
        strange = np.flatnonzero(~np.isin(held.kinds, (ABSENT, *NOTHING, ARRAY))).tolist()
        told = dict.fromkeys(strange, (f"{place} is no array", "type"))
        told |= {each: (why, "structure") for each, why in broken.items()}
        for each, (why, rule) in told.items():
            path = ".".join(filter(None, (_path(units, levels[: depth + 1], int(objects[each])), place)))
            bad.append(Damage(int(held.starts[each]), int(held.ends[each]), why, rule, path))
        above: dict[str, _Column] = {}
        for name in names:
            cell, type_ = scan.cells[at[own[name].path]], own[name].type
            above[PARENT + name] = _column(form, data, cell, type_).of(of)
        above |= {PARENT + name: column.of(objects[of]) for name, column in units.above.items()}
        positions = pa.array(np.arange(len(of)) - np.searchsorted(of, of) + 1, pa.int64())
        above[POSITION] = _Column(positions, np.zeros(len(of), np.bool_), cells, "integer")
        units = _Units(cells, above)
    return units, bad


def _scanned(form: Form, data: Data, cells: Cells, paths: Sequence[Path]) -> tuple[Scan, Mapping[Path, int], Offsets]:
    """A scan of those cells that are objects for these paths, and which cells those are."""
    tree: dict[str, Any] = {}
    for path in paths:
        inner = tree
        for name in path:
            inner = inner.setdefault(name, {})
    at: dict[Path, int] = {}

    def wanted(names: Mapping[str, Any], above: Path) -> tuple[Wanted, ...]:
        found_ = []
        for name, inner in names.items():
            path = (*above, name)
            number = at[path] = len(at)
            found_.append(Wanted(name, number, wanted(inner, path)))
        return tuple(found_)

    asked = wanted(tree, ())
    objects = np.flatnonzero(cells.kinds == OBJECT)
    return form.scan(data, cells.starts[objects], cells.ends[objects], asked), at, objects


def _last(
    form: Form, data: Data, units: _Units, levels: Levels, asked: Sequence[str], wrong: _Wrong, mixed: bool
) -> tuple[list[pa.Array], Mapping[int, str]]:
    """The asked columns of the last level, a value for each unit; and the documents that are none."""
    level, cells = levels[-1], units.cells
    own = columns(level)
    ready = dict(units.above)
    faults: Mapping[int, str] = {}
    if level.value:
        ready[VALUE] = _column(form, data, cells, level.value)
    else:
        scan, at, objects = _scanned(form, data, cells, [column.path for column in own.values()])
        faults = {int(objects[each]): why for each, why in scan.faults.items()}
        strange = np.flatnonzero(~np.isin(cells.kinds, (OBJECT, *NOTHING)))
        for row, text in zip(
            strange.tolist(), form.values(data, cells.take(strange), "json")[0].to_pylist(), strict=True
        ):
            wrong.rejects.setdefault(row, ("type", "the element is no object", None, text[:_SHOWN]))
        places = np.full(len(cells.kinds), -1, np.int64)
        places[objects] = np.arange(len(objects))
        rest = _Rest(form, data, scan, {number: path for path, number in at.items()}, len(objects))
        spare = mixed and REST in asked
        for path, number in at.items():
            name, held = ".".join(path), scan.cells[number]
            if name in own and own[name].path == path:
                if name not in asked:
                    if REST in asked and path not in level.arrays:  # what the mapping does not ask for, no column takes
                        rest.add(path, np.flatnonzero(held.kinds != ABSENT), held)
                    continue
                column = _column(form, data, held, own[name].type)
                if spare and column.wrong.any():
                    rest.add(path, np.flatnonzero(column.wrong), held)
                    column = _Column(column.values, np.zeros_like(column.wrong), held, column.type)
                ready[name] = column.of(places)
            else:
                misfits = np.flatnonzero(~np.isin(held.kinds, (ABSENT, *NOTHING, OBJECT)))
                if spare:
                    rest.add(path, misfits, held)
                else:
                    wrong.type(objects[misfits], held.take(misfits), name, "object")
        if REST in asked:
            none = np.zeros(len(objects), np.bool_)
            ready[REST] = _Column(rest.texts(), none, cells.take(objects), "json").of(places)
        else:
            rest.refuse(wrong, objects)
    for name in asked:
        if ready[name].wrong.any():
            rows = np.flatnonzero(ready[name].wrong)
            wrong.type(rows, ready[name].cells.take(rows), name, ready[name].type)
    return [ready[name].values for name in asked], faults


class _Rest:
    """The fields of objects that no column takes, as one JSON object for each, nested as they stood."""

    def __init__(self, form: Form, data: Data, scan: Scan, paths: Mapping[int, Path], count: int) -> None:
        self._form, self._data, self._count = form, data, count
        self._parts: dict[Path, list[tuple[Offsets, pa.Array, pa.Array]]] = {}  # of an object: rows, names, values
        self._others, self._paths = scan.others, {-1: (), **paths}

    def add(self, path: Path, rows: Offsets, cells: Cells) -> None:
        """What stands at this path in these rows belongs here."""
        if rows.size:
            texts = self._form.values(self._data, cells.take(rows), "json")[0]
            self._part(path[:-1], rows, [path[-1]] * len(rows), texts)

    def _part(self, path: Path, rows: Offsets, names: Sequence[str], texts: pa.Array) -> None:
        coded = pa.array(names, pa.string()).dictionary_encode()
        quoted = pa.array([json.dumps(each, ensure_ascii=False) for each in coded.dictionary.to_pylist()], pa.string())
        self._parts.setdefault(path, []).append((rows, quoted.take(coded.indices), texts))

    def _names(self, at: Offsets) -> list[str]:
        return self._form.names(self._data, self._others.name_starts[at], self._others.name_ends[at])

    def texts(self) -> pa.Array:
        """The objects, NULL where nothing is left."""
        for within in np.unique(self._others.within).tolist():
            at = np.flatnonzero(self._others.within == within)
            texts = self._form.values(self._data, self._others.cells.take(at), "json")[0]
            self._part(self._paths[within], self._others.documents[at], self._names(at), texts)
        while self._parts and (path := max(self._parts, key=len)):
            rows, objects = self._objects(self._parts.pop(path))
            self._part(path[:-1], rows, [path[-1]] * len(rows), objects)
        if not self._parts:
            return pa.nulls(self._count, pa.string())
        rows, objects = self._objects(self._parts[()])
        places = np.full(self._count, -1, np.int64)
        places[rows] = np.arange(len(rows))
        return objects.take(pa.array(places, mask=places < 0))

    @staticmethod
    def _objects(parts: Sequence[tuple[Offsets, pa.Array, pa.Array]]) -> tuple[Offsets, pa.Array]:
        """One object for each row that has parts, and those rows."""
        rows = np.concatenate([each for each, _, _ in parts])
        pairs = [pc.binary_join_element_wise(names, texts, ":") for _, names, texts in parts]
        order = np.argsort(rows, kind="stable")
        distinct, first = np.unique(rows[order], return_index=True)
        ordered = pa.concat_arrays(pairs).take(pa.array(order))
        lists = pa.ListArray.from_arrays(pa.array(np.append(first, len(rows)), pa.int32()), ordered)
        return distinct, pc.binary_join_element_wise("{", pc.binary_join(lists, ","), "}", "")

    def refuse(self, wrong: _Wrong, objects: Offsets) -> None:
        """Reject the rows that have fields which no column takes."""
        left: dict[int, list[str]] = {}
        every = np.arange(len(self._others.documents))
        for row, within, name in zip(
            self._others.documents.tolist(), self._others.within.tolist(), self._names(every), strict=True
        ):
            left.setdefault(int(objects[row]), []).append(".".join((*self._paths[within], name or '""')))
        for row, names in left.items():
            shown = ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
            reason = f"has fields that no column takes: {shown}; map the column {REST}, or declare them under fields:"
            wrong.rejects.setdefault(row, ("fields", reason, None, None))
