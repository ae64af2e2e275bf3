"""A table's mapping, compiled and checked against its source and target before a row is read; pure."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from collections.abc import Mapping as Dictionary
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from mappings.cells import Cell, Screen, value_name
from mappings.checks import screen
from mappings.convert import convert
from mappings.ddl import FEWER_COLUMNS, too_wide
from mappings.dedupe import Dedupe
from mappings.direct import direct
from mappings.expression import Compiler, Expression, ExpressionError, twin, unlike
from mappings.faults import Fault, Mark, faults_error, not_there, says_not_there, suggest
from mappings.functions import FUNCTIONS, Scope
from mappings.references import Parent, Reference, ReferenceFault, compile_references, derived, parent_type
from mappings.runtime import UserFunction, connect
from mappings.sameness import compile_dedupe
from mappings.spec import ColumnSpec, TableSpec, Written
from mappings.spelling import UnknownType, parse_type
from mappings.sql import BATCH, ROW, ParseError, identifier
from mappings.typemap import comparable, inferred, wire_of
from mappings.undeclared import example
from migrate.core import Column, Table, TargetTable, Wire, suggested


@dataclass(frozen=True)
class Context:
    """What a mapping may know of its project; `path` is the project file, for messages."""

    migration: str
    path: Path
    timezone: str | None
    lookups: Dictionary[str, Dictionary[str, str]]
    functions: Dictionary[str, UserFunction]
    tables: tuple[str, ...] = ()  # every mapped table; () where they are not known
    parents: Dictionary[str, Parent] = field(default_factory=dict)  # those that are referenced, by name


@dataclass(frozen=True)
class Mapping:
    """A compiled table. `columns`, `schema` and `wires` are what is written, in the target's order of the spec.

    `unscreened` are the CHECK constraints that only the server decides; `implicit` says which expressions change type on
    their way ("born: VARCHAR to date").
    """

    spec: TableSpec
    source: Table
    target: TargetTable
    columns: tuple[str, ...]
    schema: pa.Schema
    wires: tuple[Wire, ...]
    reads: tuple[str, ...]
    digest: str
    cells: tuple[Cell, ...]
    where: Expression | None
    screens: tuple[Screen, ...]
    unscreened: tuple[str, ...]
    implicit: tuple[str, ...]
    references: tuple[Reference, ...] = ()
    dedupe: Dedupe | None = None
    extra: tuple[Cell, ...] = ()  # what `dedupe` needs besides the target's columns
    sure: tuple[tuple[str, ...], ...] = ()  # unique keys that no two rows of the source share
    parts: Dictionary[str, str] = field(default_factory=dict)  # what the digest is of, for people; "#…": by its hash

    def with_cells(self, cells: Sequence[Cell]) -> "Mapping":
        """The same rows with other columns: some of the target's, or more. CHECKs are decided only where all are there."""
        names = {cell.column.name for cell in cells}
        read = {name for e in (*(c.expression for c in cells), self.where) if e is not None for name in e.reads}
        read.update(key for key in self.source.schema.names if key.lower() in {k.lower() for k in self.spec.key})
        return replace(
            self,
            columns=tuple(cell.column.name for cell in cells),
            schema=pa.schema([pa.field(cell.column.name, cell.wire.arrow) for cell in cells]),
            wires=tuple(cell.wire for cell in cells),
            cells=tuple(cells),
            reads=tuple(n for n in self.source.schema.names if n in read) or tuple(self.source.schema.names[:1]),
            screens=self.screens if names >= set(self.columns) else (),
            extra=(),
        )


def compile_table(spec: TableSpec, source: Table, target: TargetTable | None, context: Context) -> Mapping:
    """Compile; UsageError lists all faults with their places. Without a target, the table is made from the mapping."""
    connection = connect(context.lookups, context.functions)
    try:
        return _Compilation(spec, source, target, context, connection).run()
    finally:
        connection.close()


@dataclass
class _Compilation:
    spec: TableSpec
    source: Table
    target: TargetTable | None
    context: Context
    connection: duckdb.DuckDBPyConnection
    faults: list[Fault] = field(default_factory=list)
    implicit: list[str] = field(default_factory=list)
    read: set[str] = field(default_factory=set)  # the source's columns that an expression reads

    def run(self) -> Mapping:
        empty = self.source.schema.empty_table().append_column(ROW, pa.array([], pa.int64()))
        # A table of its own: each expression is bound to it, and to bind to Arrow's takes as long as it has columns.
        self.connection.register("·empty", empty)
        self.connection.execute(f'CREATE TEMP TABLE {identifier(BATCH)} AS FROM "·empty"')
        compiler = self._compiler()
        expressions, where = self._expressions(compiler)
        columns = self._columns(expressions)
        cells = tuple(self._cells(expressions, columns))
        references = compile_references(self.spec, columns, self.target, self.context.parents, self._fault)
        compiled = partial(self._compiled, compiler)
        dedupe, extra, sure = compile_dedupe(self.spec, self.target, self.source, cells, compiled, self._fault)
        self._check_key()
        self._check_refused(expressions, extra)
        self._check_target()
        if self.spec.mode == "upsert":
            self._check_upsert(columns)
        if self.target is None and (wrong := too_wide(len(columns))):
            self._fault(self.spec.mark, f'table "{self.spec.name}" has {wrong}', FEWER_COLUMNS)
        if self.faults and self.source.unknown:
            self._tell_unknown()
        if self.faults:
            raise faults_error(self.context.path, self.faults)
        target = self.target or self._made(tuple(columns.values()))
        screens, unscreened = self._screens(cells, target)
        names = tuple(cell.column.name for cell in cells)
        wires = tuple(cell.wire for cell in cells)
        read = {name for e in (*expressions.values(), where) if e is not None for name in e.reads} | set(self._key())
        in_order = tuple(name for name in self.source.schema.names if name in read)
        document = self._document(target, cells, where, references, dedupe)
        return Mapping(
            self.spec,
            self.source,
            target,
            names,
            pa.schema([pa.field(n, w.arrow) for n, w in zip(names, wires, strict=True)]),
            wires,
            in_order or tuple(self.source.schema.names[:1]),
            hashed(document),
            cells,
            where,
            screens,
            unscreened,
            tuple(self.implicit),
            references,
            dedupe,
            extra,
            sure,
            _parts(document),
        )

    # ---------------------------------------------------------------------------------------------------- expressions

    def _compiler(self) -> Compiler:
        read = self.read = set(self._key())
        scope = Scope(
            self.context.migration,
            self.spec.name,
            tuple(self.source.schema.names),
            self.context.lookups,
            lambda: tuple(name for name in self.source.schema.names if name not in read),
            tables=self.context.tables,
        )
        return Compiler(self.connection, tuple(self.source.schema.names), scope, self.context.functions)

    def _expressions(self, compiler: Compiler) -> tuple[dict[str, Expression], Expression | None]:
        read = self.read
        made: dict[str, Expression] = {}
        where = None
        if self.spec.where is not None:
            where = self._compiled(compiler, self.spec.where, None)
            if where is not None:
                read.update(where.reads)
                if where.type not in ("BOOLEAN", '"NULL"'):
                    self._fault(self.spec.where_at(0), f"where must be true or false, not a {where.type.lower()}")
        # what the others read decides what is left for pack_rest()
        rest = [c for c in self.spec.columns if "pack_rest" in c.expression.lower()]
        for column in [c for c in self.spec.columns if c not in rest] + rest:
            if column.reference is not None:
                expression = self._derived(compiler, column)
            else:
                expression = self._compiled(compiler, column.expression, column)
            if expression is not None:
                made[column.name] = expression
                read.update(expression.reads)
        return made, where

    def _derived(self, compiler: Compiler, column: ColumnSpec) -> Expression | None:
        """The expression of a reference: the parent's, over what `by` says of this source."""
        reference = column.reference
        assert reference is not None
        # each by itself first, for a fault in it has a place of its own
        if None in [self._compiled(compiler, by.text, by) for by in reference.by]:
            return None
        try:
            text, table = derived(self.connection, reference, self.context.parents)
            of_parent = replace(compiler, scope=replace(compiler.scope, table=table))
            return of_parent.compile(text)
        except ReferenceFault as error:
            self._fault(reference.mark, f'column "{column.name}": {error.message}', error.hint)
        except (ParseError, ExpressionError) as error:
            message = f'column "{column.name}": the key of "{reference.table}" does not suit this source: {error}'
            self._fault(reference.mark, message)
        return None

    def _compiled(self, compiler: Compiler, text: str, column: ColumnSpec | Written | None) -> Expression | None:
        at = self.spec.where_at if column is None else column.at
        try:
            return compiler.compile(text)
        except ExpressionError as error:
            for offset, message, hint in error.faults:
                self._fault(at(offset), message, hint)
            return None

    def _tell_unknown(self) -> None:
        """One fault in the place of those about columns, which cannot be in a source in which nothing stands."""
        fields = example(self.connection, self.spec, self.target, self.context.parents, self.source.unknown)
        if fields:
            what = "documents" if "/" not in self.source.unknown[0] else "elements"
            where = ".".join((self.spec.origins[0][0], self.source.unknown[0]))
            hint = f"Declare them in the source, as in {fields}, with their types; or take the table out."
            said = f'table "{self.spec.name}": {where} holds no {what}, so its fields are not known'
            self.faults = [fault for fault in self.faults if not says_not_there(fault)]
            self._fault(self.spec.from_mark, said, hint)

    # --------------------------------------------------------------------------------------------------------- target

    def _columns(self, expressions: Dictionary[str, Expression]) -> dict[str, Column]:
        """The target's columns, by the names that the mapping gives them."""
        found: dict[str, Column] = {}
        for spec in self.spec.columns:
            if self.target is not None:
                column = self.target.column(spec.name)
                if column is None:
                    names = [c.name for c in self.target.columns]
                    self._fault(
                        spec.mark, f'column "{spec.name}" is not in {self.target.qualified}.{suggest(spec.name, names)}'
                    )
                elif column.generated:
                    hint = "Leave it out; an identity takes the source's values once it is GENERATED BY DEFAULT."
                    self._fault(
                        spec.mark, f'column "{spec.name}" is generated by the target: it cannot be written', hint
                    )
                else:
                    found[spec.name] = column
            elif spec.name not in expressions:
                self._parsed(spec, spec.type)
            elif (made := self._new_column(spec, expressions[spec.name])) is not None:
                found[spec.name] = made
        return found

    def _new_column(self, spec: ColumnSpec, expression: Expression) -> Column | None:
        of_parent = parent_type(spec.reference, self.context.parents) if spec.reference is not None else None
        written = spec.type or of_parent or self._suggested(expression) or inferred(expression.type)
        if written is None:
            self._fault(
                spec.mark,
                f'column "{spec.name}": a {expression.type.lower()} has no type in PostgreSQL',
                "Give it a `type:`.",
            )
            return None
        parsed = self._parsed(spec, written)
        if parsed is None:
            return None
        return Column(spec.name, *parsed, spec.nullable and spec.name not in self.spec.primary_key)

    def _parsed(self, spec: ColumnSpec, written: str | None) -> tuple[str, str, tuple[int, ...]] | None:
        try:
            return parse_type(written) if written is not None else None
        except UnknownType as error:
            self._fault(spec.type_mark or spec.mark, f'column "{spec.name}": {error.message}', error.hint)
        return None

    def _suggested(self, expression: Expression) -> str | None:
        """The type that the source says suits a column, where it is taken as it stands and what is read becomes it."""
        if expression.column is None:
            return None
        said = suggested(self.source.schema.field(expression.column))
        if not said:
            return None
        try:
            column = Column("", *parse_type(said))
        except UnknownType:
            return None
        made = convert(expression.type, column, self.context.timezone)
        return None if isinstance(made, str) else said

    def _cells(self, expressions: Dictionary[str, Expression], columns: Dictionary[str, Column]) -> Iterator[Cell]:
        for spec in self.spec.columns:
            expression, column = expressions.get(spec.name), columns.get(spec.name)
            if expression is None or column is None:
                continue
            conversion = convert(expression.type, column, self.context.timezone)
            if isinstance(conversion, str):
                kind = expression.type.lower()
                self._fault(
                    spec.mark, f'column "{spec.name}" is {column.type}, and {kind} does not become that', conversion
                )
                continue
            wire = wire_of(column)
            if expression.type not in ("VARCHAR", '"NULL"') and conversion.fails != "false":
                self.implicit.append(f"{spec.name}: {expression.type} to {column.type}")
            taken = None if expression.column is None else self.source.schema.field(expression.column).type
            yield Cell(column, expression, conversion, wire, direct(column, wire, taken) if taken is not None else None)

    def _made(self, columns: tuple[Column, ...]) -> TargetTable:
        spec = self.spec
        return TargetTable(spec.target_schema, spec.target_name, columns, key=spec.primary_key, exists=False)

    def _key(self) -> tuple[str, ...]:
        by_name = {name.lower(): name for name in reversed(self.source.schema.names)}
        return tuple(by_name[k.lower()] for k in self.spec.key if k.lower() in by_name)

    def _check_key(self) -> None:
        names = {name.lower(): name for name in reversed(self.source.schema.names)}
        for index, key in enumerate(self.spec.key):
            if key.lower() not in names:
                mark = self.spec.key_marks[index] if index < len(self.spec.key_marks) else self.spec.mark
                self._fault(mark, f"key: {not_there(key, self.source.schema.names)}")
            elif twin(key, names[key.lower()], self.source.schema.names):
                mark = self.spec.key_marks[index] if index < len(self.spec.key_marks) else self.spec.mark
                self._fault(mark, f"key: {'. '.join(unlike(key, names[key.lower()]))}")

    def _check_refused(self, expressions: Dictionary[str, Expression], extra: Sequence[Cell]) -> None:
        read = self.read.union(*(cell.expression.reads for cell in extra))
        for name in read & self.source.refused.keys():
            marks = [c.mark for c in self.spec.columns if c.name in expressions and name in expressions[c.name].reads]
            why = self.source.refused[name]
            self._fault((*marks, self.spec.mark)[0], f'column "{name}" of the source cannot be read: {why}')

    def _check_target(self) -> None:
        mapped = {c.name for c in self.spec.columns}
        if self.target is None:
            for name in self.spec.primary_key:
                if name not in mapped:
                    self._fault(self.spec.mark, f'primary key: column "{name}" is not mapped.{suggest(name, mapped)}')
            return
        for column in self.target.columns:
            if not column.nullable and not column.has_default and not column.generated and column.name not in mapped:
                self._fault(
                    self.spec.mark, f'column "{column.name}" of {self.target.qualified} is NOT NULL: it must be mapped'
                )

    def _check_upsert(self, columns: Dictionary[str, Column]) -> None:
        """The key must find one row for sure: a unique one, never NULL, and equal here exactly where the server says so."""
        spec, target = self.spec, self.target
        key = spec.on or (target.key if target is not None else spec.primary_key)
        where = target.qualified if target is not None else f"{spec.target_schema}.{spec.target_name}"
        if not key:
            unique = sorted({*target.uniques}) if target is not None else []
            known = " or ".join(f"[{', '.join(names)}]" for names in unique)
            hint = f"Say `on: {known}`." if known else "Give the table a primary key, or its rows another mode."
            if target is None:
                hint = "Say which columns tell its rows apart: `primary_key: [...]`."
            return self._fault(spec.mark, f"mode upsert needs a key, and {where} has no primary key", hint)
        keys = [target.key, *target.uniques] if target is not None else [spec.primary_key]
        if set(key) not in [set(names) for names in keys if names]:
            hint = "Name all columns of one unique key: " if any(keys) else "Make a unique index on them, or "
            hint += " or ".join(f"[{', '.join(names)}]" for names in dict.fromkeys(keys) if names) or "use another mode"
            self._fault(spec.mark, f"upsert on [{', '.join(key)}]: that is no unique key of {where}", hint + ".")
        mapped = {c.name for c in spec.columns}
        for name in key:
            if name not in mapped:
                self._fault(spec.mark, f'upsert on [{", ".join(key)}]: column "{name}" is not mapped')
            column = columns.get(name)
            if column is None:
                continue
            if column.nullable:
                message = f'upsert on [{", ".join(key)}]: column "{name}" may be NULL, and NULLs never match each other'
                self._fault(spec.mark, message, "Make the column NOT NULL.")
            if not comparable(column):
                message = f'upsert on [{", ".join(key)}]: column "{name}" is {column.type}, and equal values of that'
                hint = "Use a key of numbers, times, text or uuids."
                self._fault(spec.mark, f"{message} may be written differently", hint)
        return None

    def _screens(self, cells: tuple[Cell, ...], target: TargetTable) -> tuple[tuple[Screen, ...], tuple[str, ...]]:
        by_name = {cell.column.name: cell.column for cell in cells}
        places = {name: index for index, name in enumerate(by_name)}
        values = ", ".join(f"CAST(NULL AS {_bound(cell)}) AS {value_name(i)}" for i, cell in enumerate(cells))
        screens: list[Screen] = []
        unscreened: list[str] = []
        for check in target.checks:
            used: list[int] = []

            def value(name: str, used: list[int] = used) -> str:
                used.append(places[name])
                return value_name(places[name])

            broken = screen(self.connection, check, by_name, value)
            if broken is not None:
                try:
                    self.connection.execute(f"SELECT {broken} FROM (SELECT {values})").fetchall()
                except duckdb.Error:
                    broken = None
            if broken is None:
                unscreened.append(check.name)
            else:
                screens.append(Screen(check.name, broken, tuple(sorted(set(used)))))
        return tuple(screens), tuple(unscreened)

    # --------------------------------------------------------------------------------------------------------- digest

    def _document(
        self,
        target: TargetTable,
        cells: tuple[Cell, ...],
        where: Expression | None,
        references: tuple[Reference, ...],
        dedupe: Dedupe | None,
    ) -> dict[str, Any]:
        """Whatever changes a row's fate or value; never where things are or who may see them."""
        expressions = [cell.expression for cell in cells] + ([where] if where is not None else [])
        called = sorted({name for e in expressions for name in e.functions})
        texts = " ".join(e.text for e in expressions)
        spec = self.spec
        return {
            "migration": self.context.migration,
            "table": spec.name,
            "target": [target.schema, target.name],
            "timezone": self.context.timezone,
            "columns": [
                [c.column.name, c.column.type, c.column.nullable, c.column.labels, c.expression.text] for c in cells
            ],
            "types": [c.expression.type for c in cells],
            "where": spec.where,
            "policies": [spec.key, spec.mode, spec.on, spec.nullif, spec.nul],  # as _POLICIES calls them
            # not the constraint that says the same: the one that finalizing makes would look like another mapping
            "references": [[r.columns, r.table, r.address, r.parent_columns, r.orphans] for r in references],
            "dedupe": dataclasses.astuple(dedupe) if dedupe is not None and spec.dedupe is not None else None,
            "checks": [dataclasses.astuple(check) for check in target.checks],
            "functions": {n: FUNCTIONS[n].version for n in called if n in FUNCTIONS},
            "user": {
                n: [f.source_text, list(f.arguments), f.returns, f.style]
                for n, f in self.context.functions.items()
                if n.lower() in called
            },
            "lookups": {n: dict(sorted(v.items())) for n, v in self.context.lookups.items() if n in texts},
            "packed": [list(e.reads) for e in expressions if "pack_rest" in e.functions],
        }

    def _fault(self, mark: Mark, message: str, hint: str = "") -> None:
        self.faults.append(Fault(mark, message, hint))


_POLICIES = ("key", "mode", "on", "nullif", "nul")


def hashed(document: Any) -> str:
    """The SHA-256 of whatever JSON can write, whatever the order of its keys."""
    written = json.dumps(document, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(written.encode()).hexdigest()


def _parts(document: Dictionary[str, Any]) -> dict[str, str]:
    """A digest's document by its parts: what is short in its own words, code tables and functions by their hash."""
    parts = {f"column {name}": text for name, _, _, _, text in document["columns"]}
    parts |= {
        f"the reference {', '.join(r[0])}": f"{r[1]} ({', '.join(r[3])}), orphans: {r[4]}"
        for r in document["references"]
    }
    for policy, value in zip(_POLICIES, document["policies"], strict=True):
        parts[policy] = value if isinstance(value, str) else ", ".join(value)
    parts |= {name: document[name] for name in ("where", "timezone") if document[name] is not None}
    parts |= {f"the function {name}": f"version {version}" for name, version in document["functions"].items()}
    parts |= {f"the function {name}": f"#{hashed(code)}" for name, code in document["user"].items()}
    parts |= {f"the code table {name}": f"#{hashed(entries)}" for name, entries in document["lookups"].items()}
    if document["dedupe"] is not None:
        parts["dedupe"] = f"#{hashed(document['dedupe'])}"
    return {part: text for part, text in parts.items() if text}


def _bound(cell: Cell) -> str:
    """The DuckDB type of a cell's value."""
    kind = cell.wire.arrow
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision},{kind.scale})"
    names = {
        pa.bool_(): "BOOLEAN",
        pa.int16(): "SMALLINT",
        pa.int32(): "INTEGER",
        pa.int64(): "BIGINT",
        pa.float32(): "FLOAT",
        pa.float64(): "DOUBLE",
        pa.date32(): "DATE",
        pa.time64("us"): "TIME",
        pa.timestamp("us"): "TIMESTAMP",
        pa.timestamp("us", "UTC"): "TIMESTAMPTZ",
        pa.string(): "VARCHAR",
    }
    return names.get(kind, "BLOB")
