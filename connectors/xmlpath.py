"""The paths of a table in an XML file, a small part of XPath: checked and compiled once, names as `{uri}local`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from migrate.errors import UsageError

XML = "http://www.w3.org/XML/1998/namespace"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
_KNOWN = {"xml": XML, "xsi": XSI}
_NAME = r"[^\W\d][\w.-]*(?::[^\W\d][\w.-]*)?"
_RECORD = re.compile(rf"//?{_NAME}(/{_NAME})*")
_COLUMN = re.compile(
    rf"(?P<up>(\.\./)*)(?:(?P<steps>{_NAME}(?:/{_NAME})*)(?:/@(?P<of>{_NAME}))?|@(?P<attribute>{_NAME}))"
)
_RECORDS = "A record is a path from the root, as in /orders/order, or //order for one at any depth."
_COLUMNS = (
    "A column is @no, ship/city, ship/@code, . for the record's whole text, position(), or what stands in an element "
    "around the record: ../@no, ../../head/date. There are no predicates, no functions and no * in it."
)


@dataclass(frozen=True, slots=True)
class Column:
    """`up` elements above the record, then down the `steps`, then to `attribute` or, where there is none, to the text.

    `position`: instead of all that, the record's place among the siblings of its name, from 1.
    """

    name: str
    path: str
    up: int = 0
    steps: tuple[str, ...] = ()
    attribute: str | None = None
    position: bool = False


@dataclass(frozen=True, slots=True)
class Records:
    """The elements that are a table's rows. `steps` are their names from the root, or, with `anywhere`, from any element.

    `columns` is empty where the project file names none; then they are found in the files.
    """

    table: str
    path: str
    steps: tuple[str, ...]
    anywhere: bool
    columns: tuple[Column, ...]
    namespaces: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def counted(self) -> bool:
        return any(column.position for column in self.columns)


def compile_table(table: str, record: str, columns: Mapping[str, str], namespaces: Mapping[str, str]) -> Records:
    """Compile a table's paths. UsageError says which is wrong and what paths there are."""
    where = f"tables.{table}.record"
    if not _RECORD.fullmatch(record):
        raise UsageError(f'{where}: the path "{record}" is not one that is understood', hint=_RECORDS)
    anywhere = record.startswith("//")
    steps = _steps(record.lstrip("/"), namespaces, where)
    compiled = tuple(_column(table, name, path, namespaces) for name, path in columns.items())
    first: dict[object, str] = {}
    for column in compiled:
        what = (column.up, column.steps, column.attribute, column.position)
        if first.setdefault(what, column.name) != column.name:
            raise UsageError(
                f'tables.{table}.columns.{column.name}: "{column.path}" is the column {first[what]} already',
                hint="Use one source column in as many expressions as you like.",
            )
        if column.up >= len(steps):
            hint = "Write the path from the root, as in /orders/order/line, to reach further up." if anywhere else ""
            raise UsageError(
                f'tables.{table}.columns.{column.name}: "{column.path}" reaches above {record}',
                hint=hint or f"There are {len(steps) - 1} elements around the record.",
            )
        if column.position and anywhere and len(steps) == 1:
            raise UsageError(
                f"tables.{table}.columns.{column.name}: position() has no meaning for {record}",
                hint="Write the path from the root, as in /orders/order.",
            )
    return Records(table, record, steps, anywhere, compiled, dict(namespaces))


def compile_tables(options: Mapping[str, Any]) -> dict[str, Records]:
    """The tables of a source by name, from the options `namespaces` and `tables` as the project file gives them."""
    namespaces = options.get("namespaces", {})
    return {
        table: compile_table(table, given["record"], given.get("columns") or {}, namespaces)
        for table, given in options.get("tables", {}).items()
    }


def shown(name: str, namespaces: Mapping[str, str]) -> str:
    """A `{uri}local` name with the prefix that is declared for it, or as it is."""
    uri, _, local = name.rpartition("}")
    if not uri:
        return name
    prefix = next((p for p, u in (*namespaces.items(), *_KNOWN.items()) if u == uri[1:]), None)
    return f"{prefix}:{local}" if prefix else name


def shown_path(path: str, namespaces: Mapping[str, str]) -> str:
    """The same for a path of such names; a URI may hold slashes."""
    return re.sub(r"\{[^}]*\}[^/]+", lambda name: shown(name[0], namespaces), path)


def _column(table: str, name: str, path: str, namespaces: Mapping[str, str]) -> Column:
    where = f"tables.{table}.columns.{name}"
    if path == "position()":
        return Column(name, path, position=True)
    if path == ".":
        return Column(name, path)
    parts = _COLUMN.fullmatch(path)
    if not parts:
        raise UsageError(f'{where}: the path "{path}" is not one that is understood', hint=_COLUMNS)
    attribute = parts["attribute"] or parts["of"]
    return Column(
        name,
        path,
        up=len(parts["up"]) // 3,
        steps=_steps(parts["steps"], namespaces, where) if parts["steps"] else (),
        attribute=_expanded(attribute, namespaces, where) if attribute else None,
    )


def _steps(path: str, namespaces: Mapping[str, str], where: str) -> tuple[str, ...]:
    return tuple(_expanded(name, namespaces, where) for name in path.split("/"))


def _expanded(name: str, namespaces: Mapping[str, str], where: str) -> str:
    prefix, colon, local = name.rpartition(":")
    if not colon:
        return name
    uri = namespaces.get(prefix) or _KNOWN.get(prefix)
    if uri is None:
        declared = ", ".join(namespaces) or "none"
        raise UsageError(
            f'{where}: the prefix "{prefix}" is not declared',
            hint=f"Declare it: namespaces: {{{prefix}: its URI}}. Declared: {declared}.",
        )
    return f"{{{uri}}}{local}"
