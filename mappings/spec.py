"""The project file's text as frozen dataclasses; every fault in it is found at once and carries file:line:column."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mappings.faults import Fault, Mark, Runs, along, faults_error, suggest
from mappings.keys import PROJECT
from mappings.nodes import Reader, Scalar, compose
from mappings.shapes import Record

__all__ = [
    "Budget",
    "ColumnSpec",
    "Fault",
    "FunctionSpec",
    "LookupSpec",
    "Mark",
    "NotifySpec",
    "ProjectSpec",
    "SourceSpec",
    "TableSpec",
    "faults_error",
    "parse",
    "suggest",
]

Mode = Literal["append", "upsert", "replace"]
KINDS = ("files", "excel", "xml")
"""The kinds of files, each by the key that names them in a source."""
_START = Mark(1, 1)


@dataclass(frozen=True, slots=True)
class Budget:
    """How many rows of one table may be rejected before the run stops: the smaller of the two."""

    rows: int = 10_000
    fraction: float = 0.01


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """A target column and the SQL expression that makes it; `mark` is where the text of that begins."""

    name: str
    expression: str
    mark: Mark
    type: str | None = None
    nullable: bool = True
    runs: Runs = field(default=(), repr=False)
    type_mark: Mark | None = None

    def at(self, offset: int) -> Mark:
        """Where the expression's character number `offset` (from 0) stands, whichever way YAML quotes the text."""
        return along(self.runs or ((0, self.mark),), offset)


@dataclass(frozen=True, slots=True)
class TableSpec:
    """One mapped table. `on` is upsert's target key ((): the primary key); `nul` says what a NUL in text becomes."""

    name: str
    source: str
    source_table: str
    target_schema: str
    target_name: str
    columns: tuple[ColumnSpec, ...]
    mark: Mark
    key: tuple[str, ...] = ()
    mode: Mode = "append"
    on: tuple[str, ...] = ()
    where: str | None = None
    where_mark: Mark = _START
    primary_key: tuple[str, ...] = ()
    nullif: tuple[str, ...] = ()
    nul: str = "reject"  # reject | strip | any replacement text given as `nul: {replace: "…"}` → "replace:…"
    on_bad_row: Literal["quarantine", "abort"] = "quarantine"
    max_rejects: Budget = Budget()
    personal: tuple[str, ...] = ()
    where_runs: Runs = field(default=(), repr=False)
    key_marks: tuple[Mark, ...] = ()  # where each name of `key` stands
    from_mark: Mark = _START
    to_mark: Mark = _START

    def where_at(self, offset: int) -> Mark:
        """Where the condition's character number `offset` (from 0) stands."""
        return along(self.where_runs or ((0, self.where_mark),), offset)


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """A source: files of a kind with reading options, or a URL. References (`${env:X}`) are still unresolved in it.

    `kind` names the connector of files: files (delimited text), excel, xml.
    """

    name: str
    mark: Mark
    kind: str = "files"
    url: str | None = field(default=None, repr=False)
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # table → globs; "" → a table per file
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that the project file names; () where the files themselves say which there are."""
        return tuple(self.options.get("tables", ())) or tuple(table for table in self.files if table)


@dataclass(frozen=True, slots=True)
class LookupSpec:
    """A code table: written in the project file, or two columns of a CSV file."""

    name: str
    mark: Mark
    entries: Mapping[str, str] = field(default_factory=dict)
    file: str | None = None
    key: str | None = None
    value: str | None = None


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """A user's function from a Python file; types are DuckDB's names."""

    name: str
    mark: Mark
    file: str
    function: str
    arguments: tuple[str, ...] = ("VARCHAR",)
    returns: str = "VARCHAR"
    style: Literal["pandas", "arrow"] = "pandas"


@dataclass(frozen=True, slots=True)
class NotifySpec:
    """Who is told how a run ended. `command` is split into its words; references are still unresolved in all of it."""

    mark: Mark
    command: tuple[str, ...] = field(default=(), repr=False)
    webhook: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    on: frozenset[str] = frozenset({"success", "failure"})


@dataclass(frozen=True, slots=True)
class ProjectSpec:
    """The whole project file as written."""

    path: Path
    migration: str
    target: str = field(repr=False)
    timezone: str | None
    sources: Mapping[str, SourceSpec]
    tables: Mapping[str, TableSpec]
    lookups: Mapping[str, LookupSpec]
    functions: Mapping[str, FunctionSpec]
    references: tuple[tuple[str, Mark], ...] = ()  # each `${env:NAME}`, with its place
    target_mark: Mark = _START
    notify: NotifySpec | None = None


def parse(text: str, path: Path) -> ProjectSpec:
    """Read a project file's text. UsageError lists every fault, a line each, in the order of the file."""
    reader = Reader(text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n"))
    root = compose(reader)
    record = PROJECT.read(reader, root) if root is not None else None
    if record is None:
        raise faults_error(path, reader.faults)
    sources = {name.value: _source(name, value) for name, value in record.get("sources", ())}
    defaults = record.get("defaults", Record(record.mark, {}, {}))
    read = [(name, table) for name, table in record.get("tables", ()) if table is not None]
    tables = {name.value: _table(name, table, defaults) for name, table in read}
    for name, table in read:
        _check_table(reader, table, tables[name.value], sources if "sources" in record.values else None)
    _check_targets(reader, tables.values())
    notify = _notify(reader, record)
    if reader.faults:
        raise faults_error(path, reader.faults)
    zone: Scalar | None = record.get("timezone")
    return ProjectSpec(
        path=path,
        migration=record.get("migration").value,
        target=record.get("target").value,
        timezone=zone.value if zone else None,
        sources=sources,
        tables=tables,
        lookups={name.value: _lookup(name, value) for name, value in record.get("lookups", ())},
        functions={name.value: _function(name, value) for name, value in record.get("functions", ())},
        references=tuple(reader.references),
        target_mark=record.get("target").mark,
        notify=notify,
    )


# ------------------------------------------------------------------------------------------------ from what was read


def _source(name: Scalar, value: Scalar | Record | None) -> SourceSpec:
    if not isinstance(value, Record):
        return SourceSpec(name.value, _mark(value, name.mark), url=_text(value))
    kind = next((kind for kind in KINDS if kind in value.keys), "files")
    files = value.get(kind, ())
    tabled = bool(files) and not isinstance(files[0], Scalar)
    return SourceSpec(
        name.value,
        name.mark,
        kind,
        files={table.value: _plain(globs) for table, globs in files} if tabled else {"": _plain(files)},
        options={option: _plain(given) for option, given in value.values.items() if option != kind},
    )


def _table(name: Scalar, record: Record, defaults: Record) -> TableSpec:
    def given(key: str, default: Any) -> Any:
        return record.get(key, defaults.get(key, default))

    source, _, source_table = _text(record.get("from")).partition(".")
    schema, dot, target = _text(record.get("to")).rpartition(".")
    where: Scalar | None = record.get("where")
    nul: str | Record = given("nul", "reject")
    return TableSpec(
        name=name.value,
        source=source,
        source_table=source_table,
        target_schema=schema if dot else "public",
        target_name=target or name.value,
        columns=tuple(_column(column, value) for column, value in record.get("columns", ())),
        mark=name.mark,
        key=_plain(record.get("key", ())),
        mode=given("mode", "append"),
        on=_plain(record.get("on", ())),
        where=where.value if where else None,
        where_mark=where.mark if where else _START,
        primary_key=_plain(record.get("primary_key", ())),
        nullif=_plain(given("nullif", ())),
        nul=nul if isinstance(nul, str) else "replace:" + _text(nul.get("replace")),
        on_bad_row=given("on_bad_row", "quarantine"),
        max_rejects=_budget(given("max_rejects", None)),
        personal=_plain(record.get("personal", ())),
        where_runs=where.runs if where else (),
        key_marks=tuple(each.mark for each in record.get("key", ())),
        from_mark=_mark(record.get("from"), name.mark),
        to_mark=_mark(record.get("to"), name.mark),
    )


def _column(name: Scalar, value: Scalar | Record | None) -> ColumnSpec:
    written = value if isinstance(value, Record) else Record(name.mark, {} if value is None else {"value": value}, {})
    expression: Scalar = written.get("value", Scalar("", name.mark, ()))  # without one, a fault has said so already
    type_: Scalar | None = written.get("type")
    return ColumnSpec(
        name=name.value,
        expression=expression.value,
        mark=expression.mark,
        type=type_.value if type_ else None,
        nullable=written.get("null", True),
        runs=expression.runs,
        type_mark=type_.mark if type_ else None,
    )


def _budget(given: int | float | Record | None) -> Budget:
    if given is None:
        return Budget()
    if isinstance(given, int):
        return Budget(given, 1.0)
    if isinstance(given, float):
        return Budget(fraction=given / 100)
    if "percent" not in given.values:
        return Budget(given.get("rows", Budget().rows), 1.0 if "rows" in given.values else Budget().fraction)
    return Budget(given.get("rows", Budget().rows), given.get("percent") / 100)


def _lookup(name: Scalar, value: Record | Sequence[tuple[Scalar, Scalar]]) -> LookupSpec:
    if not isinstance(value, Record):
        return LookupSpec(name.value, name.mark, entries={code.value: text.value for code, text in value})
    columns = {"key": value.get("key").value, "value": value.get("value").value}
    return LookupSpec(name.value, value.get("file").mark, file=value.get("file").value, **columns)


def _function(name: Scalar, record: Record) -> FunctionSpec:
    given: dict[str, Any] = {"name": name.value, "function": name.value, "mark": record.get("file").mark}
    given.update((key, _plain(value)) for key, value in record.values.items())
    return FunctionSpec(**given)


def _notify(reader: Reader, record: Record) -> NotifySpec | None:
    given: Record | None = record.get("notify")
    if given is None:
        return None
    mark = record.keys["notify"]
    if not {"command", "webhook"} & given.keys.keys():
        reader.fault(mark, "notify names neither a command nor a webhook", "Name one, or both.")
    if "headers" in given.keys and "webhook" not in given.keys:
        reader.fault(given.keys["headers"], "notify.headers says nothing without a webhook")
    webhook: Scalar | None = given.get("webhook")
    try:
        command = shlex.split(_text(given.get("command")))
    except ValueError:
        command = []  # a fault has said so already
    on = _plain(given.get("on", ())) or ("success", "failure")
    return NotifySpec(
        mark, tuple(command), webhook.value if webhook else None, _plain(given.get("headers", ())) or {}, frozenset(on)
    )


def _plain(value: Any) -> Any:
    """The value without its place: a list as a tuple, a mapping as a dict."""
    if isinstance(value, Record):
        return {key: _plain(each) for key, each in value.values.items()}
    if isinstance(value, tuple) and value and isinstance(value[0], tuple):
        return {name.value: _plain(each) for name, each in value}
    if isinstance(value, tuple):
        return tuple(_plain(each) for each in value)
    return value.value if isinstance(value, Scalar) else value


def _text(value: Scalar | None) -> str:
    return value.value if value else ""


def _mark(value: Scalar | None, default: Mark) -> Mark:
    return value.mark if value else default


# --------------------------------------------------------------------------------------------- what must fit together


def _check_table(reader: Reader, record: Record, table: TableSpec, sources: Mapping[str, SourceSpec] | None) -> None:
    origin: Scalar | None = record.get("from")
    if origin and "." in origin.value and sources is not None:
        source = sources.get(table.source)
        if source is None:
            message = f'tables.{table.name} reads from the source "{table.source}", which is not declared'
            reader.fault(origin.mark, message, suggest(table.source, sources))
        elif (named := source.tables) and table.source_table not in named:
            message = f'the source "{table.source}" has no table "{table.source_table}"'
            reader.fault(origin.mark, message, suggest(table.source_table, named))
    targets = [column.name for column in table.columns]
    for key in ("on", "primary_key", "personal") if "columns" in record.values else ():
        for name in record.get(key, ()):
            if name.value not in targets:
                message = f'tables.{table.name}.{key}: the column "{name.value}" is not among its columns'
                reader.fault(name.mark, message, suggest(name.value, targets))
    if "on" in record.keys and table.mode != "upsert" and not ("mode" in record.keys and "mode" not in record.values):
        reader.fault(record.keys["on"], f'tables.{table.name}: "on" says nothing without `mode: upsert`')


def _check_targets(reader: Reader, tables: Iterable[TableSpec]) -> None:
    first: dict[tuple[str, str], TableSpec] = {}
    for table in tables:
        other = first.setdefault((table.target_schema, table.target_name), table)
        if other is not table:
            message = (
                f"tables.{table.name} writes {table.target_schema}.{table.target_name}, as tables.{other.name} does"
            )
            reader.fault(table.mark, message, "Give one of them another `to`.")
