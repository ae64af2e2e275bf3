"""What the documents of a table are like: of each field the kinds of its values, and which columns these make."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from connectors.docfields import PARENT, POSITION, REST, Field, Level, Path, columns, leaves
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
    NUMBER,
    OBJECT,
    OBJECTID,
    REGEX,
    STRING,
    SYMBOL,
    TIMESTAMP,
    Cells,
    Data,
    Form,
    Type,
)

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


def note(form: Form, data: Data, cells: Cells, seen: Seen) -> None:
    """Add values to what is known of a field."""
    for kind, count in zip(*np.unique(cells.kinds[cells.kinds != ABSENT], return_counts=True), strict=True):
        seen.kinds[int(kind)] = seen.kinds.get(int(kind), 0) + int(count)
    if seen.whole and NUMBER in seen.kinds:
        numbers = cells.take(np.flatnonzero(cells.kinds == NUMBER))
        seen.whole = not form.values(data, numbers, "integer")[1].any()
    objects = cells.take(np.flatnonzero(cells.kinds == OBJECT))
    if not len(objects.kinds):
        return
    others = form.scan(data, objects.starts, objects.ends, ()).others
    names = pa.array(form.names(data, others.name_starts, others.name_ends), pa.string()).dictionary_encode()
    codes = names.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    edges = np.searchsorted(codes[order], np.arange(len(names.dictionary) + 1))
    for number, name in enumerate(names.dictionary.to_pylist()):
        inner = others.cells.take(order[edges[number] : edges[number + 1]])
        note(form, data, inner, seen.fields.setdefault(name, Seen()))


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
        inner: Seen | None = seen
        for step in column.path:
            inner = inner.fields.get(step) if inner else None
        kinds = {kind: n for kind, n in inner.kinds.items() if kind not in NOTHING} if inner else {}
        if inner and not kinds:
            told[name] = f"no value was seen: {column.type} is a guess"
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
    return [(name,) for name, inner in seen.fields.items() if inner.kinds.keys() - {*NOTHING} == {ARRAY}] + nested


def inner_tables(table: str, look: Callable[[str, tuple[Path, ...]], Seen]) -> list[str]:
    """The tables that the arrays of objects in a table's documents would be. `look`: what stands at paths of its arrays."""
    inner = {path: look(table, (path,)) for path in arrays(look(table, ()))}
    return [f"{table}/{'.'.join(path)}" for path, seen in inner.items() if found(seen, path).fields]
