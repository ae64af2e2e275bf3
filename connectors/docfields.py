"""The fields of documents that are columns: as they are declared, what their columns are called, and how a slice keeps them.

The columns of an object's fields are called by their path, `customer.city`. A table has `levels`: its documents, then the
elements of an array in them, then of an array in those. Of fields that no column takes, `_rest` holds one JSON object.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast, get_args

import pyarrow as pa

from connectors.docscan import ARROW, Type
from migrate.core import PLACE, SUGGESTED, suggested
from migrate.errors import UsageError

REST, POSITION, PARENT, VALUE = "_rest", "_position", "_parent.", "value"
_SUGGESTED: Mapping[Type, bytes] = {"decimal": b"numeric", "uuid": b"uuid", "json": b"jsonb"}

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

    `fields` are those of objects; `value` is the type of elements that are none; `arrays` are fields whose elements are declared
    as a table of their own.
    """

    path: Path = ()
    fields: tuple[Field, ...] = ()
    value: Type | None = None
    arrays: tuple[Path, ...] = ()


Levels = tuple[Level, ...]


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

    return [[level.path, fields(level.fields), level.value, level.arrays] for level in levels]


def load(dumped: Sequence[Any]) -> Levels:
    """What `dump` made."""

    def fields(several: Sequence[Any]) -> tuple[Field, ...]:
        return tuple(
            Field(name, cast(Type, each)) if isinstance(each, str) else Field(name, None, fields(each))
            for name, each in several
        )

    return tuple(
        Level(tuple(path), fields(several), value, tuple(map(tuple, arrays))) for path, several, value, arrays in dumped
    )


def parts_of(table: str) -> tuple[str, tuple[Path, ...]]:
    """What `orders/cart.lines/taxes` names: the documents, and the path of each array in what is around it."""
    name, *steps = table.split("/")
    return name, tuple(tuple(step.split(".")) for step in steps)


def levels_of(table: str, declared: Mapping[str, Level], found: Callable[[str, tuple[Path, ...]], Level]) -> Levels:
    """The levels of a table called `orders/lines/taxes`, each as it is declared, else as it is found at these paths of arrays."""
    name, paths = parts_of(table)
    steps = [".".join(path) for path in paths]
    levels = []
    for depth in range(len(paths) + 1):
        path: Path = paths[depth - 1] if depth else ()
        above = "/".join((name, *steps[:depth]))
        level = declared.get(above) or found(name, paths[:depth])
        inner = (each.removeprefix(f"{above}/") for each in declared if each.startswith(f"{above}/"))
        arrays = tuple(tuple(step.split(".")) for step in inner if "/" not in step)
        levels.append(replace(level, path=path, arrays=arrays))
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
    return {".".join(path): Column(path, type_) for path, type_ in leaves(level.fields, ())}


def leaves(fields: Sequence[Field], above: Path) -> Iterator[tuple[Path, Type]]:
    for each in fields:
        if each.type:
            yield (*above, each.name), each.type
        else:
            yield from leaves(each.fields, (*above, each.name))


def _names(level: Level) -> Iterator[str]:
    return (".".join(path) for path, _ in leaves(level.fields, ()))


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
        yield pa.field(POSITION, pa.int64(), metadata={PLACE: b""})
        for each in _schema(levels[:-1]):
            # What else is JSON would be repeated for each element; an identity may be, where its values are of several kinds.
            if suggested(each) != "jsonb" or each.name.lower().endswith("id"):
                yield each.with_name(PARENT + each.name)


def _arrow(name: str, type_: Type) -> pa.Field:
    suits = _SUGGESTED.get(type_)
    return pa.field(name, ARROW[type_], metadata={SUGGESTED: suits} if suits else None)
