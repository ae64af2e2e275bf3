"""The project file's text as frozen dataclasses; every fault in it is found at once and carries file:line:column."""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from mappings.expectkeys import OF_ROWS, OWN
from mappings.faults import Fault, Mark, Runs, along, faults_error, suggest
from mappings.keys import PROJECT
from mappings.nodes import Reader, Scalar, compose
from mappings.shapes import Record

__all__ = [
    "Budget",
    "CheckSpec",
    "ColumnSpec",
    "Expectation",
    "Expected",
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
KINDS = ("files", "excel", "xml", "json")
"""The kinds of files, each by the key that names them in a source."""
_START = Mark(1, 1)


@dataclass(frozen=True, slots=True)
class Budget:
    """How many rows of one table may be rejected before the run stops: the smaller of the two."""

    rows: int = 10_000
    fraction: float = 0.01


@dataclass(frozen=True, slots=True)
class Written:
    """An expression as it is written in the file; `mark` is where it begins."""

    text: str
    mark: Mark
    runs: Runs = field(default=(), repr=False, compare=False)

    def at(self, offset: int) -> Mark:
        """Where the text's character number `offset` (from 0) stands, whichever way YAML quotes it."""
        return along(self.runs or ((0, self.mark),), offset)


@dataclass(frozen=True, slots=True)
class ReferenceSpec:
    """That a column names a row of another table. `column`: the parent's, None for its primary key."""

    table: str
    by: tuple[Written, ...]
    mark: Mark
    column: str | None = None
    orphans: Literal["reject", "null", "keep"] = "reject"


@dataclass(frozen=True, slots=True)
class DedupeSpec:
    """Which rows are the same (any rule, all of its columns), which one survives, and columns that choose for themselves."""

    match: tuple[tuple[Written, ...], ...]
    keep: tuple[Written, ...]
    columns: tuple[tuple[str, Mark, Written], ...]
    mark: Mark


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """A target column and the SQL expression that makes it, or the row that it refers to; `mark` is where that begins."""

    name: str
    expression: str
    mark: Mark
    type: str | None = None
    nullable: bool = True
    runs: Runs = field(default=(), repr=False)
    type_mark: Mark | None = None
    reference: ReferenceSpec | None = None

    def at(self, offset: int) -> Mark:
        """Where the expression's character number `offset` (from 0) stands, whichever way YAML quotes the text."""
        return along(self.runs or ((0, self.mark),), offset)


@dataclass(frozen=True, slots=True)
class Expectation:
    """Something that rows are expected to be. `kind` is a key of ours (`not_null`), or Great Expectations' own name.

    `columns` are those that the key itself names; an own name has them among its arguments. `marks`: where those stand.
    """

    kind: str
    mark: Mark
    columns: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    severity: Literal["error", "warning"] = "error"
    marks: Mapping[str, Mark] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What findings call it: `regex.email`, `unique.first+last`."""
        named = self.columns or tuple(
            each
            for name in ("column", "column_A", "column_B", "column_list")
            for given in (self.arguments.get(name, ()),)
            for each in ([given] if isinstance(given, str) else given if isinstance(given, list) else [])
        )
        return ".".join((self.kind, "+".join(map(str, named)))) if named else self.kind


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """A query in the target whose rows are findings."""

    name: str
    query: str
    mark: Mark
    severity: Literal["error", "warning"] = "error"


@dataclass(frozen=True, slots=True)
class TableSpec:
    """One mapped table. `on` is upsert's target key ((): the primary key); `nul` says what a NUL in text becomes.

    `origins` are the (source, table) pairs that it is read from, one after the other.
    """

    name: str
    origins: tuple[tuple[str, str], ...]
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
    dedupe: DedupeSpec | None = None
    where_runs: Runs = field(default=(), repr=False)
    key_marks: tuple[Mark, ...] = ()  # where each name of `key` stands
    from_mark: Mark = _START
    to_mark: Mark = _START
    expect: tuple[Expectation, ...] = ()
    checks: tuple[CheckSpec, ...] = ()

    @property
    def source_table(self) -> str:
        """What the table is called where it is read: in its source, or in the union of several."""
        return self.origins[0][1] if len(self.origins) == 1 else self.came_from

    @property
    def came_from(self) -> str:
        """The source tables, for people: `crm.customers + erp.kunden`."""
        return " + ".join(f"{source}.{table}" for source, table in self.origins)

    def where_at(self, offset: int) -> Mark:
        """Where the condition's character number `offset` (from 0) stands."""
        return along(self.where_runs or ((0, self.where_mark),), offset)


@dataclass(frozen=True, slots=True)
class Expected:
    """What a source table is expected to be. `columns` are (name, type), "" for a type that was not given; (): any.

    `most` is None where any number of rows is right; `of_rows` is what the rows themselves are to be.
    """

    table: str
    columns: tuple[tuple[str, str], ...] = ()
    any_order: bool = False
    least: int = 0
    most: int | None = None
    severity: Literal["error", "warning"] = "error"
    of_rows: tuple[Expectation, ...] = ()

    @property
    def counted(self) -> bool:
        return self.least > 0 or self.most is not None


@dataclass(frozen=True, slots=True)
class Limits:
    """How hard a source is worked, at most: rows read in a second; statements of others beside which it is read."""

    rows_per_second: int | None = None
    load: int | None = None


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """A source: files of a kind with reading options, or a URL. References (`${env:X}`) are still unresolved in it.

    `kind` names the connector of files: files (delimited text), excel, xml, json; or of an API: rest.
    """

    name: str
    mark: Mark
    kind: str = "files"
    url: str | None = field(default=None, repr=False)
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # table → globs; "" → a table per file
    options: Mapping[str, Any] = field(default_factory=dict)
    expect: Mapping[str, Expected] = field(default_factory=dict)
    limits: Limits = Limits()

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
    _check_references(reader, tables)
    for name, table in read:
        _check_table(reader, table, tables[name.value], sources if "sources" in record.values else None)
    _check_targets(reader, tables.values())
    for name, value in record.get("sources", ()):
        if isinstance(value, Record) and "rest" in value.keys:
            _check_api(reader, f"sources.{name.value}", value)
    read_from = {origin for table in tables.values() for origin in table.origins}
    for name, value in record.get("sources", ()):
        if isinstance(value, Record):
            _check_expected(reader, name.value, value, {table for source, table in read_from if source == name.value})
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
    if "url" in value.keys:
        options = {option: _plain(given) for option, given in value.values.items() if option not in ("url", "limits")}
        url, limits = _text(value.get("url")), _limits(value)
        return SourceSpec(name.value, value.keys["url"], url=url, options=options, limits=limits)
    if "rest" in value.keys:
        options = {"record": f"recorded/{name.value}"}
        options |= {
            option: _plain(given) for option, given in value.values.items() if option not in ("expect", "limits")
        }
        return SourceSpec(
            name.value, name.mark, "rest", options=options, expect=_all_expected(value), limits=_limits(value)
        )
    kind = next((kind for kind in KINDS if kind in value.keys), "files")
    files = value.get(kind, ())
    ours = (kind, "expect", "limits")
    tabled = bool(files) and not isinstance(files[0], Scalar)
    return SourceSpec(
        name.value,
        name.mark,
        kind,
        files={table.value: _plain(globs) for table, globs in files} if tabled else {"": _plain(files)},
        options={option: _plain(given) for option, given in value.values.items() if option not in ours},
        expect=_all_expected(value),
        limits=_limits(value),
    )


def _all_expected(source: Record) -> dict[str, Expected]:
    given = source.get("expect", ())
    return {table.value: _expected(table.value, each) for table, each in given if each is not None}


def _limits(source: Record) -> Limits:
    given: Record | None = source.get("limits")
    return Limits() if given is None else Limits(given.get("rows_per_second"), given.get("load"))


def _bounds(given: int | Record | None) -> tuple[int, int | None]:
    if given is None:
        return 0, None
    return (given, given) if isinstance(given, int) else (given.get("least", 0), given.get("most"))


def _expected(table: str, record: Record) -> Expected:
    columns = record.get("columns", ())
    least, most = _bounds(record.get("rows"))
    return Expected(
        table,
        tuple((each.value, "") if isinstance(each, Scalar) else (each[0].value, _text(each[1])) for each in columns),
        record.get("any_order", False),
        least,
        most,
        record.get("severity", "error"),
        tuple(_of_rows(record)),
    )


def _of_rows(record: Record) -> Iterator[Expectation]:
    """What tables and the files of a source can both be expected to be, an expectation for each column or combination."""
    severity = record.get("severity", "error")
    for column in record.get("not_null", ()):
        yield Expectation("not_null", column.mark, (column.value,), {}, severity)
    for combination in record.get("unique", ()):
        yield Expectation("unique", combination[0].mark, _plain(combination), {}, severity)
    for key in OF_ROWS[2:]:
        for column, given in record.get(key.name, ()):
            if given is not None:
                yield Expectation(key.name, column.mark, (column.value,), _limits_of(key.name, given), severity)


def _limits_of(kind: str, given: Any) -> dict[str, Any]:
    """The arguments of one of our own keys."""
    if kind == "accepted_values":
        return {"values": _plain(given)}
    if kind == "regex":
        return {"regex": given.value}
    if kind == "between":
        return {name: _text(given.get(name)) or None for name in ("least", "most")}
    least, most = _bounds(given)
    return {"least": least, "most": most}


def _table_expectations(record: Record | None) -> Iterator[Expectation]:
    if record is None:
        return
    yield from _of_rows(record)
    severity = record.get("severity", "error")
    for column, parent in record.get("foreign", ()):
        if parent is not None:
            yield Expectation("foreign", column.mark, (column.value,), {"parent": parent.value}, severity)
    if "rows" in record.values:
        least, most = _bounds(record.get("rows"))
        yield Expectation("rows", record.keys["rows"], (), {"least": least, "most": most}, severity)
    for name, given in record.get(OWN, ()):
        arguments = {key: _plain(value) for key, value in given.values.items() if key != "severity"}
        arguments = {key: list(value) if isinstance(value, tuple) else value for key, value in arguments.items()}
        own = given.get("severity") or severity
        yield Expectation(name.value, name.mark, (), arguments, own, given.keys)


def _table(name: Scalar, record: Record, defaults: Record) -> TableSpec:
    def given(key: str, default: Any) -> Any:
        return record.get(key, defaults.get(key, default))

    origins = (origin.value.partition(".") for origin in record.get("from", ()))
    inner = f"/{record.get('unnest').value}" if "unnest" in record.values else ""
    schema, dot, target = _text(record.get("to")).rpartition(".")
    where: Scalar | None = record.get("where")
    nul: str | Record = given("nul", "reject")
    return TableSpec(
        name=name.value,
        origins=tuple((source, table + inner) for source, _, table in origins),
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
        dedupe=_dedupe(record.get("dedupe")),
        where_runs=where.runs if where else (),
        key_marks=tuple(each.mark for each in record.get("key", ())),
        from_mark=_mark(next(iter(record.get("from", ())), None), name.mark),
        to_mark=_mark(record.get("to"), name.mark),
        expect=tuple(_table_expectations(record.get("expect"))),
        checks=tuple(_check(check, given) for check, given in record.get("checks", ()) if given is not None),
    )


def _check(name: Scalar, given: Scalar | Record) -> CheckSpec:
    query = given if isinstance(given, Scalar) else given.get("query")
    severity: Literal["error", "warning"] = "error" if isinstance(given, Scalar) else given.get("severity", "error")
    return CheckSpec(name.value, _text(query), _mark(query, name.mark), severity)


def _column(name: Scalar, value: Scalar | Record | None) -> ColumnSpec:
    written = value if isinstance(value, Record) else Record(name.mark, {} if value is None else {"value": value}, {})
    parent: Scalar | None = written.get("references")
    # without an expression, a fault has said so already
    expression: Scalar = written.get("value", Scalar("", parent.mark if parent else name.mark, ()))
    type_: Scalar | None = written.get("type")
    column: Scalar | None = written.get("column")
    reference = None
    if parent is not None:
        reference = ReferenceSpec(
            parent.value,
            tuple(_written(each) for each in written.get("by", ())),
            parent.mark,
            column.value if column else None,
            written.get("orphans", "reject"),
        )
    return ColumnSpec(
        name=name.value,
        expression=expression.value,
        mark=expression.mark,
        type=type_.value if type_ else None,
        nullable=written.get("null", True),
        runs=expression.runs,
        type_mark=type_.mark if type_ else None,
        reference=reference,
    )


def _dedupe(record: Record | None) -> DedupeSpec | None:
    if record is None:
        return None
    return DedupeSpec(
        tuple(tuple(_written(each) for each in rule) for rule in record.get("match", ())),
        tuple(_written(each) for each in record.get("keep", ())),
        tuple((name.value, name.mark, _written(rule)) for name, rule in record.get("columns", ()) if rule is not None),
        record.mark,
    )


def _written(scalar: Scalar) -> Written:
    return Written(scalar.value, scalar.mark, scalar.runs)


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
    for origin, (name, source_table) in zip(record.get("from", ()), table.origins, strict=True):
        if not source_table or sources is None:
            continue
        source = sources.get(name)
        if source is None:
            message = f'tables.{table.name} reads from the source "{name}", which is not declared'
            reader.fault(origin.mark, message, suggest(name, sources))
        elif (named := source.tables) and not {source_table, whole := source_table.partition("/")[0]} & set(named):
            message = f'the source "{name}" has no table "{whole}"'
            reader.fault(origin.mark, message, suggest(whole, named))
    expected: Record | None = record.get("expect")
    if expected is not None:
        _check_bounds(reader, f"tables.{table.name}.expect", expected)
    targets = [column.name for column in table.columns]
    for key in ("on", "primary_key", "personal") if "columns" in record.values else ():
        for name in record.get(key, ()):
            if name.value not in targets:
                message = f'tables.{table.name}.{key}: the column "{name.value}" is not among its columns'
                reader.fault(name.mark, message, suggest(name.value, targets))
    if "on" in record.keys and table.mode != "upsert" and not ("mode" in record.keys and "mode" not in record.values):
        reader.fault(record.keys["on"], f'tables.{table.name}: "on" says nothing without `mode: upsert`')


def _check_references(reader: Reader, tables: Mapping[str, TableSpec]) -> None:
    for table in tables.values():
        for column in table.columns:
            parent = column.reference
            if parent is not None and parent.table not in tables:
                place = f"tables.{table.name}.columns.{column.name}"
                message = f'{place} references the table "{parent.table}", which is not declared'
                reader.fault(parent.mark, message, suggest(parent.table, tables))
        targets = [column.name for column in table.columns]
        for name, mark, _ in table.dedupe.columns if table.dedupe else ():
            if name not in targets:
                message = f'tables.{table.name}.dedupe.columns: the column "{name}" is not among its columns'
                reader.fault(mark, message, suggest(name, targets))


def _check_expected(reader: Reader, source: str, record: Record, read: set[str]) -> None:
    """An expectation that nobody looks at would be worse than none."""
    for table, expected in record.get("expect", ()):
        place = f"sources.{source}.expect.{table.value}"
        if table.value not in read:
            hint = suggest(table.value, read) or "It is checked where a table is read: take it out, or map the table."
            reader.fault(table.mark, f"{place}: no table of the project reads {source}.{table.value}", hint)
        if expected is None:
            continue
        folded: dict[str, str] = {}
        for each in expected.get("columns", ()):
            name = each if isinstance(each, Scalar) else each[0]
            other = folded.setdefault(name.value.casefold(), name.value)
            if other != name.value:
                reader.fault(name.mark, f'{place}.columns: "{name.value}" and "{other}" differ in case only')
        _check_bounds(reader, place, expected)
        if not expected.keys.keys() - {"severity", "any_order"}:
            reader.fault(expected.mark, f"{place} expects nothing", "Say which `columns` or how many `rows`.")
        if "any_order" in expected.keys and "columns" not in expected.keys:
            reader.fault(expected.keys["any_order"], f'{place}: "any_order" says nothing without `columns`')


def _check_api(reader: Reader, place: str, source: Record) -> None:
    """That what says how an API is asked fits together."""
    headers = {name.value.lower() for name, _ in source.get("headers", ())}
    if "oauth" in source.keys and "authorization" in headers:
        reader.fault(source.keys["oauth"], f"{place} has both oauth and a header Authorization", "Take one out.")
    for table, resource in source.get("tables", ()):
        pages: Record | None = resource.get("pages") if resource is not None else None
        if pages is None:
            continue
        at, by = f"{place}.tables.{table.value}.pages", pages.get("by")
        if by == "cursor" and "next" not in pages.keys:
            reader.fault(pages.mark, f"{at} by cursor lacks `next`", "Say where in the body the next cursor stands.")
        if "size_param" in pages.keys and "size" not in pages.keys:
            reader.fault(pages.keys["size_param"], f"{at}.size_param says nothing without `size`")
        idle: dict[str, tuple[str, ...]] = {
            "page": ("next", "hosts"),
            "offset": ("next", "hosts"),
            "cursor": ("start", "hosts"),
            "link": ("param", "start"),
        }
        idle["none"] = ("param", "size_param", "size", "start", "next", "hosts")
        for key in idle.get(by, ()):
            if key in pages.keys:
                reader.fault(pages.keys[key], f"{at}.{key} says nothing where pages are by {by}")


def _check_bounds(reader: Reader, place: str, expected: Record) -> None:
    """That what lies between two bounds can be anything at all."""
    several = [
        (f"{key}.{column.value}", each) for key in ("length", "between") for column, each in expected.get(key, ())
    ]
    for name, given in (("rows", expected.get("rows")), *several):
        if not isinstance(given, Record):
            continue
        least, most = given.get("least"), given.get("most")
        if isinstance(least, int) and isinstance(most, int) and most < least:
            reader.fault(given.mark, f"{place}.{name}: `most` is less than `least`")
        if not given.keys:
            reader.fault(given.mark, f"{place}.{name} has neither `least` nor `most`")
        faults = [each for each in (least, most) if isinstance(each, Scalar) and bound(each.value) is None]
        for each in faults:
            reader.fault(each.mark, f"{place}.{name} must be a number or a date as in 2024-12-31, not {each.value!r}")
        if isinstance(least, Scalar) and isinstance(most, Scalar) and not faults:
            low, high = bound(least.value), bound(most.value)
            if type(low) is not type(high):
                reader.fault(given.mark, f"{place}.{name}: one of `least` and `most` is a number, the other a date")
            elif low > high:  # type: ignore[operator]
                reader.fault(given.mark, f"{place}.{name}: `most` is less than `least`")


def bound(text: str) -> Decimal | date | None:
    """What a bound of `between` means; None where that is nothing."""
    try:
        return date.fromisoformat(text) if re.fullmatch(r"\d{4}-\d\d-\d\d", text) else _number(text)
    except ValueError:
        return None


def words(each: Expectation) -> str:
    """What is expected, for people."""
    a = each.arguments
    if each.kind in ("between", "length", "rows"):
        unit = {"length": " characters", "rows": " rows"}.get(each.kind, "")
        least, most = a["least"] or None, a["most"]
        if least is not None and least == most:
            return f"{most}{unit}"
        return " and ".join(
            f"at {word} {value}{unit}" for word, value in (("least", least), ("most", most)) if value is not None
        )
    if each.kind == "accepted_values":
        return f"one of {', '.join(a['values'])}"
    plain = {"not_null": "not NULL", "unique": "unique"}
    if each.kind in plain:
        return plain[each.kind]
    if each.kind in ("regex", "foreign"):
        return f"matches {a['regex']}" if each.kind == "regex" else f"in {a['parent']}"
    given = ", ".join(f"{name}={value}" for name, value in a.items() if name not in ("column", "column_list"))
    return f"{each.kind}({given})"


def _number(text: str) -> Decimal | None:
    return Decimal(text) if re.fullmatch(r"[+-]?\d{1,28}(\.\d{1,28})?", text) else None


def _check_targets(reader: Reader, tables: Iterable[TableSpec]) -> None:
    first: dict[tuple[str, str], TableSpec] = {}
    for table in tables:
        other = first.setdefault((table.target_schema, table.target_name), table)
        if other is not table:
            message = (
                f"tables.{table.name} writes {table.target_schema}.{table.target_name}, as tables.{other.name} does"
            )
            reader.fault(table.mark, message, "Give one of them another `to`.")
