"""What to declare of documents that are not there yet: their fields, as far as a mapping says which they are."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import duckdb
import yaml

from mappings import sql
from mappings.references import Parent, ReferenceFault, parent_type
from mappings.spec import TableSpec
from mappings.spelling import UnknownType, parse_type
from migrate.core import TargetTable

_PARENT, _VALUE, _MADE = "_parent.", "value", ("_position", "_rest")
_TYPES = (
    {"int2": "integer", "int4": "integer", "int8": "integer", "numeric": "decimal", "bool": "boolean", "uuid": "uuid"}
    | {"float4": "double", "float8": "double", "timestamptz": "moment", "json": "json", "jsonb": "json"}
    | {"bytea": "binary"}
)


def example(
    connection: duckdb.DuckDBPyConnection,
    spec: TableSpec,
    target: TargetTable | None,
    parents: Mapping[str, Parent],
    unknown: Sequence[str],
) -> str:
    """The fields of these source tables that a mapping reads, as the project file would declare them; "" where it reads none.

    A field that is a target column as it stands is given the type that suits that, else `text`.
    """
    table = spec.source_table
    fields: dict[str, Any] = {}
    for name, type_ in _read(connection, spec, target, parents):
        own, level = name, table
        while own.startswith(_PARENT):
            own, level = own.removeprefix(_PARENT), level.rpartition("/")[0]
        if level not in unknown or own in _MADE:
            continue
        inner = fields.setdefault(level, {})
        *around, last = own.split(".")
        for step in around:
            inner = inner.setdefault(step, {})
            if not isinstance(inner, dict):  # `a` is read as it is, and `a.b` too
                break
        else:
            if inner.get(last, "text") == "text":
                inner[last] = type_
    written = {
        level: found[_VALUE] if "/" in level and found.keys() == {_VALUE} else found for level, found in fields.items()
    }
    flow = yaml.safe_dump(
        {"fields": written}, default_flow_style=True, sort_keys=False, width=10**6, allow_unicode=True
    )
    return flow.strip()[1:-1] if fields else ""


def _read(
    connection: duckdb.DuckDBPyConnection,
    spec: TableSpec,
    target: TargetTable | None,
    parents: Mapping[str, Parent],
) -> Iterator[tuple[str, str]]:
    """The source columns that a mapping reads, each with a type of a field."""
    for key in spec.key:
        yield key, "text"
    for column in spec.columns:
        made = target.column(column.name) if target is not None else None
        base, written = made.base if made is not None else "", column.type
        with suppress(ReferenceFault, UnknownType):
            if written is None and column.reference is not None:
                written = parent_type(column.reference, parents)
            base = base or (parse_type(written)[1] if written else "")
        for text in [by.text for by in column.reference.by] if column.reference else [column.expression]:
            yield from _columns(connection, text, _TYPES.get(base, "text"))
    if spec.where is not None:
        yield from _columns(connection, spec.where, "text")


def _columns(connection: duckdb.DuckDBPyConnection, text: str, type_: str) -> Iterator[tuple[str, str]]:
    """The columns of an expression, of this type where it is nothing else than one."""
    with suppress(sql.ParseError):
        root = sql.parse(connection, text)
        for name in sql.columns_read(root):
            yield name, type_ if root["class"] == "COLUMN_REF" else "text"
