"""References between mapped tables: a child's key is derived from how its parent makes it, never spelled twice."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import duckdb

from mappings import sql
from mappings.faults import Mark, suggest
from mappings.spec import ReferenceSpec, TableSpec
from mappings.sql import Node
from migrate.core import Column, TargetTable

Orphans = Literal["reject", "null", "keep"]
"""What becomes of a row whose parent does not exist."""


@dataclass(frozen=True, slots=True)
class Parent:
    """A table that others may reference: its mapping as written, and its target where that exists."""

    spec: TableSpec
    target: TargetTable | None

    @property
    def key(self) -> tuple[str, ...]:
        return self.target.key if self.target is not None else self.spec.primary_key

    @property
    def address(self) -> tuple[str, str]:
        return self.spec.target_schema, self.spec.target_name


@dataclass(frozen=True, slots=True)
class Reference:
    """Target columns that together name a row of another mapped table by `parent_columns`.

    `table` is the parent's name in the project, `address` its target (schema, name); `foreign_key` names the constraint
    that says the same, where the target has one. `by`: the expressions that identify the parent, for messages.
    `elsewhere`: further relations in which the parent may stand; `enforced`: whether a constraint may say so, where the
    target is made from the mapping; `padded`: whether blanks at the end of either side's
    text mean nothing; `widths` of the columns that are themselves padded (0: not); `numbers`: which columns are numbers, of
    which PostgreSQL calls two equal that are spelled differently.
    """

    columns: tuple[str, ...]
    table: str
    address: tuple[str, str]
    parent_columns: tuple[str, ...]
    orphans: Orphans
    foreign_key: str | None = None
    by: tuple[str, ...] = ()
    elsewhere: tuple[tuple[str, str], ...] = ()
    enforced: bool = True
    padded: bool = False
    widths: tuple[int, ...] = ()
    numbers: tuple[bool, ...] = ()


class ReferenceFault(ValueError):
    """Why a reference cannot be derived; `hint` says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def parent_column(reference: ReferenceSpec, parents: Mapping[str, Parent]) -> str:
    """The parent's target column that a reference means. Raises ReferenceFault."""
    parent = parents[reference.table]
    name = reference.column
    if name is None:
        if len(parent.key) != 1:
            has = f"a key of {len(parent.key)} columns" if parent.key else "no primary key"
            raise ReferenceFault(
                f'"{reference.table}" has {has}',
                f"Say which column is meant: column: {' or '.join(parent.key) or '…'}.",
            )
        name = parent.key[0]
    targets = [c.name for c in parent.spec.columns]
    if name not in targets:
        raise ReferenceFault(f'the column "{name}" of "{reference.table}" is not mapped.{suggest(name, targets)}')
    return name


def parent_type(reference: ReferenceSpec, parents: Mapping[str, Parent]) -> str | None:
    """The PostgreSQL type of what a reference means, where its target or its mapping says so. Raises ReferenceFault."""
    parent, name = parents[reference.table], parent_column(reference, parents)
    column = parent.target.column(name) if parent.target is not None else None
    if column is not None:
        return column.type
    spec = next(c for c in parent.spec.columns if c.name == name)
    if spec.type is None and spec.reference is not None:
        return parent_type(spec.reference, parents)
    return spec.type


def derived(
    connection: duckdb.DuckDBPyConnection,
    reference: ReferenceSpec,
    parents: Mapping[str, Parent],
    seen: Sequence[str] = (),
) -> tuple[str, str]:
    """(SQL over the child's source, the table whose `uuid()` it speaks of): the parent's expression, over what `by` says.

    Raises ReferenceFault where the parent's column is not made of its key alone, and sql.ParseError.
    """
    if reference.table in seen:
        raise ReferenceFault(
            f"the keys of {' and '.join(seen)} are made of each other", "Map one of them to a source column."
        )
    parent = parents[reference.table]
    name = parent_column(reference, parents)
    column = next(c for c in parent.spec.columns if c.name == name)
    if column.reference is not None:
        text, table = derived(connection, column.reference, parents, (*seen, reference.table))
    else:
        text, table = column.expression, reference.table
    root = sql.parse(connection, text)
    read = list(dict.fromkeys(sql.columns_read(root)))
    key = parent.spec.key or tuple(read)
    folded = [k.lower() for k in key]
    strange = [r for r in read if r.lower() not in folded]
    if strange or "pack_rest" in text.lower():
        raise ReferenceFault(
            f"{reference.table}.{name} is made of {' and '.join(strange) or 'other columns'}, and not of its key alone",
            f"Its key is [{', '.join(key)}]: add {' and '.join(strange) or 'them'} to it, or make {name} of the key.",
        )
    if len(reference.by) != len(key):
        raise ReferenceFault(
            f'"by" has {len(reference.by)} expressions, and the key of "{reference.table}" has {len(key)} columns',
            f"Its key is [{', '.join(key)}].",
        )
    given = {k: sql.parse(connection, by.text) for k, by in zip(folded, reference.by, strict=True)}
    holder = {"root": root}
    _replace(holder, "root", root, given)
    return sql.write(connection, holder["root"]), table


def _replace(container: dict[str, Node], key: str, node: Node, given: Mapping[str, Node]) -> None:
    if node["class"] == "COLUMN_REF":
        container[key] = {**given[node["column_names"][0].lower()], "alias": node.get("alias", "")}
        return
    for holder, place, child in list(sql.children(node)):
        _replace(holder, place, child, given)


def compile_references(
    spec: TableSpec,
    columns: Mapping[str, Column],
    target: TargetTable | None,
    parents: Mapping[str, Parent],
    fault: Callable[[Mark, str, str], None],
) -> tuple[Reference, ...]:
    """A table's references, by parent and by what they are made of: a parent's key of two columns is one reference."""
    found: dict[tuple[str, tuple[str, ...], Orphans], list[tuple[str, str]]] = {}
    for column in spec.columns:
        reference = column.reference
        if reference is None or column.name not in columns:
            continue
        try:
            name = parent_column(reference, parents)
        except ReferenceFault:  # said already, where the expression was derived
            continue
        parent = parents[reference.table].spec
        if parent.dedupe is not None and name in [chosen for chosen, _, _ in parent.dedupe.columns]:
            message = f'column "{column.name}" references {parent.name}.{name}, whose value duplicates may change'
            fault(reference.mark, message, f"Take {name} out of dedupe.columns of {parent.name}.")
        if reference.orphans == "null" and not columns[column.name].nullable:
            fault(reference.mark, f'column "{column.name}" is NOT NULL: it cannot become NULL for orphans', "")
        group = (reference.table, tuple(by.text for by in reference.by), reference.orphans)
        found.setdefault(group, []).append((column.name, name))
    made = []
    for (table, by, orphans), pairs in found.items():
        names, parent_columns = tuple(zip(*pairs, strict=True))
        address = parents[table].address
        mark = next(c.reference.mark for c in spec.columns if c.name == names[0] and c.reference is not None)
        declared = None
        for key in target.foreign_keys if target is not None else ():
            if set(key.columns) != set(names):
                continue
            same = set(zip(key.columns, key.parent_columns, strict=True)) == set(pairs)
            if same and (key.parent_schema, key.parent_name) == address:
                declared = key.name
            else:
                there = f"{key.parent} ({', '.join(key.parent_columns)})"
                fault(mark, f'column "{names[0]}": the target\'s foreign key {key.name} references {there}', "")
        if declared is not None and orphans == "keep":
            message = f'column "{names[0]}": orphans cannot be kept, the foreign key {declared} refuses them'
            fault(mark, message, "Say orphans: reject, or drop the foreign key.")
        padded = False
        widths = tuple(
            columns[n].modifier[0] if columns[n].base == "bpchar" and columns[n].modifier else 0 for n in names
        )
        for name, of in pairs:
            theirs = (parents[table].target or _NOTHING).column(of)
            padded |= "bpchar" in (columns[name].base, theirs.base if theirs is not None else "")
            if theirs is not None and _family(columns[name]) != _family(theirs):
                there = f"{table}.{of} is {theirs.type}"
                message = f'column "{name}" is {columns[name].type}, and {there}: the server compares no such two'
                fault(mark, message, "Give the column the parent's type.")
        numbers = tuple(columns[n].base in _NUMBERS for n in names)
        made.append(
            Reference(
                names,
                table,
                address,
                parent_columns,
                orphans,
                declared,
                by,
                padded=padded,
                widths=widths,
                numbers=numbers,
            )
        )
    return tuple(made)


_NOTHING = TargetTable("", "", ())
_NUMBERS = ("int2", "int4", "int8", "numeric", "float4", "float8")
_TEXTS = ("text", "varchar", "bpchar", "citext", "name")
_DAYS = ("date", "timestamp", "timestamptz")


def _family(column: Column) -> str:
    """What PostgreSQL compares with each other without a cast."""
    for family in (_NUMBERS, _TEXTS, _DAYS):
        if column.base in family:
            return family[0]
    return column.base
