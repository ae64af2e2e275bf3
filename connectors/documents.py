"""Tables out of documents: which fields are columns, what becomes of the others, of values that do not fit, and of arrays.

The columns of an object's fields are called by their path, `customer.city`. A table has `levels`: its documents, then the
elements of an array in them, then of an array in those. Of fields that no column takes, `_rest` holds one JSON object.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, cast, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors.docscan import (
    ABSENT,
    ARRAY,
    ARROW,
    BINARY,
    BOOLEAN,
    CODE,
    DATE,
    DECIMAL,
    DOUBLE,
    INT32,
    INT64,
    MAXKEY,
    MINKEY,
    NULL,
    NUMBER,
    OBJECT,
    OBJECTID,
    REGEX,
    STRING,
    SYMBOL,
    TIMESTAMP,
    UNDEFINED,
    Cells,
    Data,
    Form,
    Mask,
    Offsets,
    Scan,
    Type,
    Wanted,
)
from migrate.core import SUGGESTED, Batch, Origin, Reject
from migrate.errors import UsageError

REST, POSITION, PARENT, VALUE = "_rest", "_position", "_parent.", "value"
_SUGGESTED: Mapping[Type, bytes] = {"decimal": b"numeric", "uuid": b"uuid", "json": b"jsonb"}
_RAW_LIMIT = 64 << 10  # of what is broken, how many bytes are kept
_LISTED = 5  # names in a reject
_SHOWN = 200  # characters of a value in a reject
_MANY = 100  # names from which on an object is a map rather than a record
_MOST = 500  # columns that are found in documents
_TYPES: Mapping[int, Type] = {
    STRING: "text",
    BOOLEAN: "boolean",
    OBJECTID: "objectid",
    DATE: "moment",
    BINARY: "binary",
    DECIMAL: "decimal",
    INT32: "integer",
    INT64: "integer",
    DOUBLE: "double",
}
_EXTENDED: Mapping[frozenset[str], Type] = {  # the objects of extended JSON, by the names in them
    frozenset({"$oid"}): "objectid",
    frozenset({"$date"}): "moment",
    frozenset({"$numberInt"}): "integer",
    frozenset({"$numberLong"}): "integer",
    frozenset({"$numberDouble"}): "double",
    frozenset({"$numberDecimal"}): "decimal",
    frozenset({"$binary"}): "binary",
    frozenset({"$binary", "$type"}): "binary",
    frozenset({"$uuid"}): "uuid",
}

_CALLED: Mapping[int, str] = {
    DOUBLE: "double",
    STRING: "string",
    OBJECT: "object",
    ARRAY: "array",
    BINARY: "binary",
    OBJECTID: "ObjectId",
    BOOLEAN: "boolean",
    DATE: "date",
    REGEX: "regular expression",
    CODE: "code",
    SYMBOL: "symbol",
    INT32: "int",
    TIMESTAMP: "timestamp",
    INT64: "long",
    DECIMAL: "decimal",
    NUMBER: "number",
    MINKEY: "MinKey",
    MAXKEY: "MaxKey",
}
_NUMBERS: set[Type] = {"integer", "double", "decimal"}
_NOTHING = (NULL, UNDEFINED)

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an object: what it is read as, or (`type` None) an object whose own fields are columns."""

    name: str
    type: Type | None = None
    fields: tuple["Field", ...] = ()


@dataclass(frozen=True, slots=True)
class Level:
    """Documents, or elements of the array at `path` in those of the level before.

    `fields` are those of objects; `value` is the type of elements that are none.
    """

    path: Path = ()
    fields: tuple[Field, ...] = ()
    value: Type | None = None


Levels = tuple[Level, ...]


@dataclass(frozen=True, slots=True)
class Damage:
    """What lies between documents and is none: its place in the buffer, and why it is one row that is rejected."""

    start: int
    end: int
    reason: str
    rule: str = "structure"


# ------------------------------------------------------------------------------------------------------- what is asked


def fields_of(given: Any, place: str) -> Level:
    """A level's fields as the project file has them: a map of name to type or map; or a type, of elements that are no objects.

    Raises UsageError.
    """
    if isinstance(given, str):
        return Level(value=_type(given, place))
    level = Level(fields=_fields(given, place))
    twice = [name for name in columns(level) if list(_names(level)).count(name) > 1]
    if twice:
        raise UsageError(f"{place}: two fields would be the column {twice[0]!r}", hint="Declare one of them as json.")
    reserved = [each for each in columns(level) if each in (REST, POSITION) or each.startswith(PARENT)]
    if reserved:
        raise UsageError(f"{place}: the column {reserved[0]} is made by the toolkit", hint="Leave the field out.")
    return level


def _fields(given: Any, place: str) -> tuple[Field, ...]:
    return tuple(
        Field(name, fields=_fields(inner, f"{place}.{name}"))
        if isinstance(inner, Mapping)
        else Field(name, _type(inner, f"{place}.{name}"))
        for name, inner in given.items()
    )


def _type(given: Any, place: str) -> Type:
    if given not in get_args(Type):
        raise UsageError(f"{place}: {given!r} is no type of a field", hint=f"There are: {', '.join(get_args(Type))}.")
    return cast(Type, given)


def declared(level: Level) -> Any:
    """A level's fields as `fields_of` reads them."""

    def fields(several: Sequence[Field]) -> dict[str, Any]:
        return {each.name: each.type or fields(each.fields) for each in several}

    return level.value or fields(level.fields)


def dump(levels: Levels) -> list[Any]:
    """Levels as JSON."""

    def fields(several: Sequence[Field]) -> list[Any]:
        return [[each.name, each.type if each.type else fields(each.fields)] for each in several]

    return [[list(level.path), fields(level.fields), level.value] for level in levels]


def load(dumped: Sequence[Any]) -> Levels:
    """What `dump` made."""

    def fields(several: Sequence[Any]) -> tuple[Field, ...]:
        return tuple(
            Field(name, cast(Type, each)) if isinstance(each, str) else Field(name, None, fields(each))
            for name, each in several
        )

    return tuple(Level(tuple(path), fields(several), value) for path, several, value in dumped)


def levels_of(table: str, declared: Mapping[str, Level], found: Callable[[str, tuple[Path, ...]], Level]) -> Levels:
    """The levels of a table called `orders/lines/taxes`, each as it is declared, else as it is found at these paths of arrays."""
    name, *steps = table.split("/")
    paths = tuple(tuple(step.split(".")) for step in steps)
    levels = []
    for depth in range(len(paths) + 1):
        path: Path = paths[depth - 1] if depth else ()
        level = declared.get("/".join((name, *steps[:depth])))
        levels.append(replace(level, path=path) if level else found(name, paths[:depth]))
    return tuple(levels)


# ---------------------------------------------------------------------------------------------------------- the columns


@dataclass(frozen=True, slots=True)
class Column:
    path: Path
    type: Type


def columns(level: Level) -> dict[str, Column]:
    """The columns of a level's own fields, by their names."""
    if level.value:
        return {VALUE: Column((), level.value)}
    return {".".join(path): Column(path, type_) for path, type_ in _leaves(level.fields, ())}


def _leaves(fields: Sequence[Field], above: Path) -> Iterator[tuple[Path, Type]]:
    for each in fields:
        if each.type:
            yield (*above, each.name), each.type
        else:
            yield from _leaves(each.fields, (*above, each.name))


def _names(level: Level) -> Iterator[str]:
    return (".".join(path) for path, _ in _leaves(level.fields, ()))


def schema(levels: Levels) -> pa.Schema:
    """A table's columns: its own; of elements their `_position` and what their parents hold; at last `_rest`."""
    fields = list(_schema(levels))
    if not levels[-1].value:
        fields.append(_arrow(REST, "json"))
    return pa.schema(fields)


def _schema(levels: Levels) -> Iterator[pa.Field]:
    for name, column in columns(levels[-1]).items():
        yield _arrow(name, column.type)
    if len(levels) > 1:
        yield pa.field(POSITION, pa.int64())
        for each in _schema(levels[:-1]):
            if (each.metadata or {}).get(SUGGESTED) != b"jsonb":
                yield each.with_name(PARENT + each.name)


def _arrow(name: str, type_: Type) -> pa.Field:
    suggested = _SUGGESTED.get(type_)
    return pa.field(name, ARROW[type_], metadata={SUGGESTED: suggested} if suggested else None)


# ----------------------------------------------------------------------------------------------------------- finding out


@dataclass
class Seen:
    """What values of a field are like. `fields` are those of its objects, in the order in which they first stood."""

    kinds: dict[int, int] = field(default_factory=dict)
    whole: bool = True
    fields: dict[str, "Seen"] = field(default_factory=dict)

    @property
    def types(self) -> set[Type]:
        number: Type = "integer" if self.whole else "decimal"
        extended = _EXTENDED.get(frozenset(self.fields))
        found = {
            number if kind == NUMBER else extended or "json" if kind == OBJECT else _TYPES.get(kind, "json")
            for kind in self.kinds
            if kind not in _NOTHING
        }
        if extended in ("double", "decimal", "integer") and NUMBER in self.kinds:
            found.discard(number)  # relaxed extended JSON writes some numbers plainly
            found.add(extended)
        if found <= _NUMBERS and len(found) > 1:  # an int is a double too, of a long only its digits are sure
            found = {"decimal" if "decimal" in found or INT64 in self.kinds else "double"}
        return found

    @property
    def record(self) -> bool:
        """Whether its objects have about the same fields."""
        objects = self.kinds.get(OBJECT, 0)
        held = sum(sum(each.kinds.values()) for each in self.fields.values())
        alike = 0 < len(self.fields) < _MANY and 2 * held >= objects * len(self.fields)
        return self.kinds.keys() <= {OBJECT, *_NOTHING} and alike and frozenset(self.fields) not in _EXTENDED


def note(form: Form, data: Data, cells: Cells, seen: Seen) -> None:
    """Add values to what is known of a field."""
    for kind, count in zip(*np.unique(cells.kinds[cells.kinds != ABSENT], return_counts=True), strict=True):
        seen.kinds[int(kind)] = seen.kinds.get(int(kind), 0) + int(count)
    if seen.whole and NUMBER in seen.kinds:
        numbers = _of(cells, np.flatnonzero(cells.kinds == NUMBER))
        seen.whole = not form.values(data, numbers, "integer")[1].any()
    objects = _of(cells, np.flatnonzero(cells.kinds == OBJECT))
    if not len(objects.kinds):
        return
    others = form.scan(data, objects.starts, objects.ends, ()).others
    names = pa.array(form.names(data, others.name_starts, others.name_ends), pa.string()).dictionary_encode()
    codes = names.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    edges = np.searchsorted(codes[order], np.arange(len(names.dictionary) + 1))
    for number, name in enumerate(names.dictionary.to_pylist()):
        inner = _of(others.cells, order[edges[number] : edges[number + 1]])
        note(form, data, inner, seen.fields.setdefault(name, Seen()))


def found(seen: Seen, path: Path = ()) -> Level:
    """A level as its values are: objects that are alike become columns, what is mixed stays JSON."""
    if path and not seen.kinds.keys() <= {OBJECT, *_NOTHING}:
        types = seen.types
        return Level(path, value=types.pop() if len(types) == 1 else "json")
    return Level(path, _found(seen, top=True))


def _found(seen: Seen, *, top: bool = False) -> tuple[Field, ...]:
    several = list(seen.fields.items())
    if len(several) > _MOST:
        often = sorted(several, key=lambda each: -sum(each[1].kinds.values()))[:_MOST]
        several = [each for each in several if each in often]
    fields = []
    for name, inner in several:
        types = inner.types
        if top and (name in (REST, POSITION) or name.startswith(PARENT)):
            continue
        if inner.record and not any("." in each for each in (name, *inner.fields)):
            fields.append(Field(name, None, _found(inner)))
        else:
            fields.append(Field(name, types.pop() if len(types) == 1 else "json" if types else "text"))
    if top:  # a name with a dot in it may be the path of another column
        paths = [".".join(path) for path, _ in _leaves(fields, ())]
        fields = [each for each in fields if "." not in each.name or paths.count(each.name) == 1]
    return tuple(fields)


def mixtures(seen: Seen, level: Level) -> dict[str, str]:
    """How often values of each kind stand in the columns that hold several, by the columns' names."""
    told = {}
    for name, column in columns(level).items():
        inner: Seen | None = seen
        for step in column.path:
            inner = inner.fields.get(step) if inner else None
        kinds = {kind: n for kind, n in inner.kinds.items() if kind not in _NOTHING} if inner else {}
        if len(kinds) > 1:
            of = sum(kinds.values())
            shares = sorted(((n, _CALLED.get(kind, f"type {kind}")) for kind, n in kinds.items()), reverse=True)
            told[name] = "values are " + ", ".join(f"{called} ({_share(n, of)})" for n, called in shares)
    return told


def _share(part: int, whole: int) -> str:
    """A percentage that is neither 0 nor 100 unless it is so."""
    return f"{part:,}" if 100 * part < whole else f"{min(99, round(100 * part / whole))} %"


def arrays(seen: Seen) -> list[Path]:
    """The paths of the arrays in objects that are columns."""
    nested = [(name, *path) for name, inner in seen.fields.items() if inner.record for path in arrays(inner)]
    return [(name,) for name, inner in seen.fields.items() if inner.kinds.keys() - {*_NOTHING} == {ARRAY}] + nested


def _of(cells: Cells, at: Offsets) -> Cells:
    return Cells(cells.kinds[at], cells.starts[at], cells.ends[at])


# --------------------------------------------------------------------------------------------------------------- reading


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
        cells = _of(self.cells, units)
        cells.kinds[none] = ABSENT
        values = self.values.take(pa.array(units, mask=none))
        return _Column(values, self.wrong[units] & ~none, cells, self.type)


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
        return [locate(int(begins[ordinal]), int(stops[ordinal])) for ordinal in ordinals]

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
    if not good.all():
        rows = rows.filter(pa.array(good))
    return Batch(rows, numbers[:count][good], origins, rejects)


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
        for each in np.flatnonzero(~np.isin(held.kinds, (ABSENT, *_NOTHING, ARRAY))).tolist():
            bad.append(Damage(int(held.starts[each]), int(held.ends[each]), f"{place} is no array", "type"))
        of, cells, broken = form.elements(data, held)
        bad += [Damage(int(held.starts[each]), int(held.ends[each]), why) for each, why in broken.items()]
        above: dict[str, _Column] = {}
        for name in names:
            cell, type_ = scan.cells[at[own[name].path]], own[name].type
            above[PARENT + name] = _Column(*form.values(data, cell, type_), cell, type_).of(of)
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
        ready[VALUE] = _Column(*form.values(data, cells, level.value), cells, level.value)
    else:
        scan, at, objects = _scanned(form, data, cells, [column.path for column in own.values()])
        faults = {int(objects[each]): why for each, why in scan.faults.items()}
        strange = np.flatnonzero(~np.isin(cells.kinds, (OBJECT, *_NOTHING)))
        for row, text in zip(
            strange.tolist(), form.values(data, _of(cells, strange), "json")[0].to_pylist(), strict=True
        ):
            wrong.rejects.setdefault(row, ("type", "the element is no object", None, text[:_SHOWN]))
        places = np.full(len(cells.kinds), -1, np.int64)
        places[objects] = np.arange(len(objects))
        rest = _Rest(form, data, scan, {number: path for path, number in at.items()}, len(objects))
        spare = mixed and REST in asked
        for path, number in at.items():
            name, held = ".".join(path), scan.cells[number]
            if name in own and own[name].path == path:
                if name not in asked and not spare:
                    continue
                column = _Column(*form.values(data, held, own[name].type), held, own[name].type)
                if spare and column.wrong.any():
                    rest.add(path, np.flatnonzero(column.wrong), held)
                    column = _Column(column.values, np.zeros_like(column.wrong), held, column.type)
                ready[name] = column.of(places)
            else:
                misfits = np.flatnonzero(~np.isin(held.kinds, (ABSENT, *_NOTHING, OBJECT)))
                if spare:
                    rest.add(path, misfits, held)
                else:
                    wrong.type(objects[misfits], _of(held, misfits), name, "object")
        if REST in asked:
            none = np.zeros(len(objects), np.bool_)
            ready[REST] = _Column(rest.texts(), none, _of(cells, objects), "json").of(places)
        else:
            rest.refuse(wrong, objects)
    for name in asked:
        if ready[name].wrong.any():
            rows = np.flatnonzero(ready[name].wrong)
            wrong.type(rows, _of(ready[name].cells, rows), name, ready[name].type)
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
            texts = self._form.values(self._data, _of(cells, rows), "json")[0]
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
            texts = self._form.values(self._data, _of(self._others.cells, at), "json")[0]
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
            left.setdefault(int(objects[row]), []).append(".".join((*self._paths[within], name)))
        for row, names in left.items():
            shown = ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
            reason = f"has fields that no column takes: {shown}; map the column {REST}, or declare them under fields:"
            wrong.rejects.setdefault(row, ("fields", reason, None, None))
