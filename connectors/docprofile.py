"""What the documents of a table are like: of each field the kinds of its values, and which columns these make."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from connectors.docfields import PARENT, POSITION, REST, VALUE, Field, Level, Path, columns, leaves, parts_of
from connectors.docscan import (
    ABSENT,
    ARRAY,
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
    NOTHING,
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
    Type,
)

_MANY = 100  # names from which on an object is a map rather than a record
_MOST = 500  # columns that are found in documents
_WIDE = 2_000  # different names that are looked at in documents, or in the elements of an array
_ALL = 20_000  # fields that are looked at in one file or collection
_MOSTLY = 0.9
_DEEP = 50  # objects and arrays around a field, beyond which it is not looked at
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
    NULL: "null",
    UNDEFINED: "undefined",
}
_NUMBERS: set[Type] = {"integer", "double", "decimal"}


@dataclass(slots=True)
class Room:
    """How many more fields may be kept of all that is looked at, so that names which are data do not fill the memory."""

    left: int = _ALL


@dataclass(slots=True)
class Seen:
    """What values of a field are like. `fields` are those of its objects, in the order in which they first stood; `elements` what
    its arrays hold. `more`: some fields of its objects are not kept, for there are too many, or they stand too deep.
    """

    kinds: dict[int, int] = field(default_factory=dict)
    whole: bool = True
    fields: dict[str, "Seen"] = field(default_factory=dict)
    elements: "Seen | None" = None
    more: bool = False
    room: Room = field(default_factory=Room, repr=False)

    def at(self, paths: Sequence[Path]) -> "Seen | None":
        """What stands in the arrays at these paths; None where it was not looked at."""
        seen = self
        for path in paths:
            for name in path:
                if name not in seen.fields:
                    return None if seen.more else Seen()
                seen = seen.fields[name]
            if seen.elements is None:
                return None if seen.more else Seen()
            seen = seen.elements
        return seen

    @property
    def types(self) -> set[Type]:
        number: Type = "integer" if self.whole else "decimal"
        extended = _EXTENDED.get(frozenset(self.fields))
        found = {
            number if kind == NUMBER else extended or "json" if kind == OBJECT else _TYPES.get(kind, "json")
            for kind in self.kinds
            if kind not in NOTHING
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
        return self.kinds.keys() <= {OBJECT, *NOTHING} and alike and frozenset(self.fields) not in _EXTENDED


def note(form: Form, data: Data, cells: Cells, seen: Seen, depth: int = 0, most: int = _WIDE) -> None:
    """Add values to what is known of a field, of the fields in it, and of the elements of arrays in these, to any depth.

    `most`: the different names that its objects may have. In documents and elements further ones are not looked at; an object
    within them that has so many is a map, of which no field is kept.
    """
    for kind, count in zip(*np.unique(cells.kinds[cells.kinds != ABSENT], return_counts=True), strict=True):
        seen.kinds[int(kind)] = seen.kinds.get(int(kind), 0) + int(count)
    if seen.whole and NUMBER in seen.kinds:
        numbers = cells.take(np.flatnonzero(cells.kinds == NUMBER))
        seen.whole = not form.values(data, numbers, "integer")[1].any()
    objects = cells.take(np.flatnonzero(cells.kinds == OBJECT))
    if not len(objects.kinds) or (seen.more and not seen.fields):
        return
    others = form.scan(data, objects.starts, objects.ends, ()).others
    names = pa.array(form.names(data, others.name_starts, others.name_ends), pa.string()).dictionary_encode()
    distinct = names.dictionary.to_pylist()
    if most == _MANY and len(seen.fields.keys() | distinct) >= _MANY:
        seen.room.left += sum(map(_size, seen.fields.values()))
        seen.more, seen.fields = True, {}
        return
    codes = names.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    edges = np.searchsorted(codes[order], np.arange(len(distinct) + 1))
    for name in distinct:  # its own fields first: what is in the first ones must not take the room of the last
        if name not in seen.fields and (further := _further(seen, depth + 1, len(seen.fields) < most)):
            seen.fields[name] = further
    for number, name in enumerate(distinct):
        if name in seen.fields:
            values = others.cells.take(order[edges[number] : edges[number + 1]])
            note(form, data, values, seen.fields[name], depth + 1, _MANY)
            _note_elements(form, data, values, seen.fields[name], depth + 2)


def _note_elements(form: Form, data: Data, values: Cells, seen: Seen, depth: int) -> None:
    """The same of what stands in those values of a field that are arrays; of arrays in arrays nothing is asked."""
    arrays = values.take(np.flatnonzero(values.kinds == ARRAY))
    if not len(arrays.kinds) or (seen.more and seen.elements is None):
        return
    _, elements, _ = form.elements(data, arrays)
    if len(elements.kinds):
        seen.elements = seen.elements or _further(seen, depth)
    if seen.elements is not None:
        note(form, data, elements, seen.elements, depth)


def _further(seen: Seen, depth: int, room: bool = True) -> Seen | None:
    """What is to be known of one more field of it, or of its elements; None where there is no room, or they stand too deep."""
    if not room or seen.room.left <= 0 or depth > _DEEP:
        seen.more = True
        return None
    seen.room.left -= 1
    return Seen(room=seen.room)


def looked(paths: tuple[Path, ...], look: Callable[[tuple[Path, ...]], Seen]) -> Seen:
    """What stands in the arrays at these paths. `look` finds it in the documents: all at once, or of what is not kept alone."""
    seen = look(()).at(paths)
    return look(paths) if seen is None else seen


def unknown(
    table: str, declared: Mapping[str, Level], seen: Callable[[str, tuple[Path, ...]], Seen]
) -> tuple[str, ...]:
    """Which of a table and those around it nobody declared, and in which nothing stands."""
    name, paths = parts_of(table)
    around = ["/".join((name, *map(".".join, paths[:depth]))) for depth in range(len(paths) + 1)]
    return tuple(
        each for depth, each in enumerate(around) if each not in declared and not seen(name, paths[:depth]).kinds
    )


def missed(seen: Seen) -> list[str]:
    """What to tell where fields of documents, or of elements, were not looked at."""
    many = f"more than {_WIDE:,}" if len(seen.fields) == _WIDE else f"with all that is in it, more than {_ALL:,}"
    said = f"it has {many} different fields: those that came later are no columns, and stand in {REST}"
    return [said] if seen.more or seen.room.left <= 0 else []


def _size(seen: Seen) -> int:
    """How many are kept in it, with itself."""
    return 1 + sum(map(_size, seen.fields.values())) + (_size(seen.elements) if seen.elements else 0)


def found(seen: Seen, path: Path = ()) -> Level:
    """A level as its values are: objects that are alike become columns, what is mixed stays JSON."""
    if path and not seen.kinds.keys() <= {OBJECT, *NOTHING}:
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
        if not name or (top and (name in (REST, POSITION) or f"{name}.".startswith(PARENT))):
            continue
        if inner.record and "." not in name and _tellable(inner.fields):
            fields.append(Field(name, None, _found(inner)))
        else:
            fields.append(Field(name, types.pop() if len(types) == 1 else "json" if types else "text"))
    if top:  # a name with a dot in it may be the path of another column
        paths = [".".join(path) for path, _ in leaves(fields, ())]
        fields = [each for each in fields if "." not in each.name or paths.count(each.name) == 1]
        first = {each.name.casefold(): each.name for each in reversed(fields)}  # no column is told by its case alone
        fields = [each for each in fields if first[each.name.casefold()] == each.name]
    return tuple(fields)


def _tellable(names: Iterable[str]) -> bool:
    """Whether each could be part of a column's name, and is told from the others whatever their case."""
    names = list(names)
    return all(each and "." not in each for each in names) and len({each.casefold() for each in names}) == len(names)


def mixtures(seen: Seen, level: Level) -> dict[str, str]:
    """How often values of each kind stand in the columns that hold several, by the columns' names; and which hold none."""
    told = {}
    for name, column in columns(level).items():
        inner = _value(seen, column.path)
        counts = {kind: n for kind, n in inner.kinds.items() if kind not in NOTHING} if inner else {}
        if inner and not counts:
            told[name] = f"no value was seen: {column.type} is a guess"
        if len(counts) > 1:
            of = sum(counts.values())
            shares = sorted(((n, _called(kind)) for kind, n in counts.items()), reverse=True)
            told[name] = "values are " + ", ".join(f"{called} ({_share(n, of)})" for n, called in shares)
    return told


def held(seen: Seen, above: Path = ()) -> tuple[list[str], list[str]]:
    """The paths, with / between names, of the arrays of objects in an object and in the objects in it, for further down they are
    parts of something; and the paths of what is none."""
    taken, left = [], []
    for name, inner in seen.fields.items():
        path = "/".join((*above, name))
        plain = bool(name) and "/" not in name
        if plain and inner.elements is not None and OBJECT in inner.elements.kinds:
            taken.append(path)
        elif plain and not above and (found := held(inner, (name,)))[0]:
            taken += found[0]
            left += found[1]
        else:
            left.append(path or '""')
    return taken, [*left, *(["/".join((*above, "…"))] if seen.more else [])]


def kinds(seen: Seen) -> dict[str, dict[str, int]]:
    """How often each kind of value stands in each field, by its path: `lines[].sku` is one of the elements of `lines`.

    A field that objects do not have counts as missing in them.
    """
    return _elements(seen, VALUE) | _kinds(seen, "")


def _kinds(seen: Seen, above: str) -> dict[str, dict[str, int]]:
    told: dict[str, dict[str, int]] = {}
    for name, inner in seen.fields.items():
        path, missing = above + name, seen.kinds.get(OBJECT, 0) - sum(inner.kinds.values())
        told[path] = _counted(inner) | ({"missing": missing} if missing > 0 else {})
        told |= _kinds(inner, f"{path}.")
        if inner.elements is not None:
            told |= _elements(inner.elements, f"{path}[]") | _kinds(inner.elements, f"{path}[].")
    return told


def _elements(seen: Seen, path: str) -> dict[str, dict[str, int]]:
    """What elements are of which not all are objects."""
    return {} if seen.kinds.keys() <= {OBJECT} else {path: _counted(seen)}


def _counted(seen: Seen) -> dict[str, int]:
    """The most frequent first."""
    return {_called(kind): count for kind, count in sorted(seen.kinds.items(), key=lambda each: -each[1])}


def _called(kind: int) -> str:
    return _CALLED.get(kind, f"type {kind}")


def _value(seen: Seen, path: Path) -> Seen | None:
    """What stands at a path in objects."""
    inner: Seen | None = seen
    for step in path:
        inner = inner.fields.get(step) if inner else None
    return inner


def _mostly_arrays(seen: Seen) -> bool:
    """Whether a field is an array, but for some values, whose rows are rejected."""
    values = sum(count for kind, count in seen.kinds.items() if kind not in NOTHING)
    return seen.kinds.get(ARRAY, 0) > _MOSTLY * values


def _share(part: int, whole: int) -> str:
    """A percentage that is neither 0 nor 100 unless it is so."""
    return f"{part:,}" if 100 * part < whole else f"{min(99, round(100 * part / whole))} %"


def inner_tables(table: str, seen: Seen) -> list[str]:
    """The tables that the arrays of objects in a table's documents or elements would be, and those in them, to any depth."""
    path = parts_of(table)[1][-1:]
    tables = []
    for name, column in columns(found(seen, *path)).items():
        inner = _value(seen, column.path)
        if inner is None or inner.elements is None or not _mostly_arrays(inner):
            continue
        within = f"{table}/{name}"
        if parts_of(within)[1][-1:] == (column.path,) and found(inner.elements, column.path).fields:
            tables += [within, *inner_tables(within, inner.elements)]
    return tables
