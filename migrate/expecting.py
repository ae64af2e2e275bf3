"""Holds loaded tables against what the project file expects of them: Great Expectations' answers and users' queries as findings.

Both only read. Rows are listed by the database as text and streamed; personal values are masked before anything keeps them.
"""

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

import psycopg
from psycopg import ClientCursor
from psycopg import errors as pgerrors

from mappings.compile import Mapping as CompiledMapping
from mappings.ddl import quote
from mappings.faults import Fault, Mark, faults_error, suggest
from mappings.spec import CheckSpec, Expectation, TableSpec, bound, words
from mappings.typemap import FLOATS, INTEGERS, TEXTS
from migrate import ledger
from migrate.core import Column, Finding, Severity, TargetTable
from migrate.engine import Session
from migrate.errors import RetryableError, UsageError
from migrate.ledger import TableState
from migrate.plan import finding_key
from migrate.target import RETRIED, Connection, explain, explained, passing, without_values
from reports.model import of_expectations
from validators import expectations as asking
from validators.expectations import Expected, Place, Unanswered, Unmet
from validators.rows import LIMIT, Shape

LEVEL = "expectations"
"""The level of verification under which the ledger keeps what is found here."""

_PATIENCE = "5min"
"""How long a user's query may take."""

_NAMED_BY = 3  # columns of a query by which its rows are named
_MORE = ".more"
"""After a check's name: the number of its rows past LIMIT."""
_FETCHED = 5_000
_TEXT_TYPES = frozenset({25, 1042, 1043})  # text, char(n), varchar(n)


@dataclass(frozen=True, slots=True)
class _Listing:
    """Rows to list: a statement with its parameters, and its columns, of which those of the shape's key come first.

    `place` and `mark` are where the project file asks for it; `words` say what was expected, "" for a check.
    """

    check: str
    place: str
    mark: Mark
    severity: Severity
    statement: str
    parameters: Mapping[str, Any] | None
    columns: tuple[str, ...]
    shape: Shape
    words: str = ""
    ordered: bool = False


# ------------------------------------------------------------------------------------------------ before anything is run


def refuse_faults(work: Session, mappings: Sequence[CompiledMapping]) -> None:
    """UsageError with every expectation that cannot be: its name, its arguments, a column that is not there. Runs none."""
    faults = [fault for m in mappings for each in m.spec.expect for fault in _faults(m.spec, m.target, each)]
    if faults:
        raise faults_error(work.project.spec.path, faults)


def refuse_unanswerable(work: Session, mapping: CompiledMapping) -> None:
    """UsageError with every parent that is not there and every query that PostgreSQL cannot plan. Runs none.

    Nothing is said of a table that a run is yet to make.
    """
    spec, faults = mapping.spec, []
    tables = {(t.target_schema, t.target_name) for t in work.project.spec.tables.values()}
    with explained("look for what expectations name"):
        for each in spec.expect:
            if each.kind == "foreign" and (fault := _no_parent(work, spec, each, tables)) is not None:
                faults.append(fault)
    for check in spec.checks:
        try:
            with _reading(work.conn):
                work.conn.execute(f"EXPLAIN {_described(check)}".encode())
        except pgerrors.UndefinedTable as error:
            with explained("look for the project's tables"):
                made = all(_columns_of(work, path) for path in tables)
            if made:
                faults.append(_refused(work, f"tables.{spec.name}.checks.{check.name}", check.mark, error))
        except psycopg.Error as error:
            faults.append(_refused(work, f"tables.{spec.name}.checks.{check.name}", check.mark, error))
    if faults:
        raise faults_error(work.project.spec.path, faults)


def _no_parent(work: Session, spec: TableSpec, each: Expectation, tables: Collection[tuple[str, str]]) -> Fault | None:
    """Where `foreign` names what is not there. `tables` are the project's own, which a run may be yet to make."""
    path, column = _parent(work, each)
    place = f"tables.{spec.name}.expect.{each.label}"
    known = _columns_of(work, path)
    if not known and path not in tables:
        return Fault(each.mark, f"{place}: there is no table {'.'.join(path)}")
    if known and column not in known:
        return Fault(each.mark, f'{place}: {".".join(path)} has no column "{column}"', suggest(column, known))
    return None


def _columns_of(work: Session, path: tuple[str, str]) -> list[str]:
    """The columns of a table or view; none of one that is not there."""
    rows = work.conn.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
        [quote(*path)],
    ).fetchall()
    return [row[0] for row in rows]


def _described(check: CheckSpec) -> str:
    """A query as a subquery: so it can be a query only, and one."""
    statement = check.query.strip().rstrip(";")
    return f"SELECT * FROM ({statement}\n) AS described LIMIT 0"


def _faults(spec: TableSpec, target: TargetTable, each: Expectation) -> Iterator[Fault]:
    place = f"tables.{spec.name}.expect.{each.label}"
    known = [column.name for column in target.columns]
    own = each.kind.startswith("expect_")
    if own and each.kind not in (names := asking.names()):
        yield Fault(
            each.mark, f'tables.{spec.name}.expect: there is no expectation "{each.kind}"', suggest(each.kind, names)
        )
        return
    given = (
        _own_columns(each) if own and each.kind != "expect_column_to_exist" else [(c, each.mark) for c in each.columns]
    )
    missing = [(column, mark) for column, mark in given if column not in known]
    for column, mark in missing:
        yield Fault(mark, f'{place}: {target.qualified} has no column "{column}"', suggest(column, known))
    if missing:
        return
    try:
        expected = _expected(target, each)
    except ValueError as error:
        yield Fault(each.mark, f"{place}: {error}")
        return
    if own:
        may = asking.arguments(each.kind)
        for name in each.arguments:
            if name not in may:
                hint = suggest(name, may) or f"It takes {', '.join(may)}."
                yield Fault(each.marks.get(name, each.mark), f'{place}: {each.kind} has no argument "{name}"', hint)
    if expected is not None:
        for name, said in asking.faults(expected.name, expected.arguments):
            told = f"{place}: {name}: {said}" if name else f"{place} {said}" if "cannot" in said else f"{place}: {said}"
            yield Fault(each.marks.get(name, each.mark), told)


def _own_columns(each: Expectation) -> list[tuple[str, Any]]:
    """The columns among the arguments of an expectation by its own name, each with its place."""
    found = []
    for name in ("column", "column_A", "column_B", "column_list"):
        value = each.arguments.get(name, ())
        for column in [value] if isinstance(value, str) else value if isinstance(value, list) else ():
            found.append((str(column), each.marks.get(name, each.mark)))
    return found


def by_check(findings: Sequence[Finding]) -> dict[str, int]:
    """How much each expectation and check has found, rows that are not listed included."""
    found: dict[str, int] = {}
    for each in filter(of_expectations, findings):
        rows = int(each.actual or 0) if each.check.endswith(_MORE) else 1
        check = each.check.removesuffix(_MORE)
        found[check] = found.get(check, 0) + rows
    return found


# ------------------------------------------------------------------------------------ in Great Expectations' own words


def _expected(target: TargetTable, each: Expectation) -> Expected | None:
    """What is asked for; None of what we ask ourselves. ValueError for a value that its column cannot have."""
    arguments, column = each.arguments, each.columns[0] if each.columns else ""
    if each.kind == "foreign":
        return None
    if each.kind == "unique" and len(each.columns) > 1:
        given: dict[str, Any] = {"column_list": list(each.columns), "ignore_row_if": "any_value_is_missing"}
        return Expected(each.label, "expect_compound_columns_to_be_unique", given, each.severity)
    if each.kind == "accepted_values":
        given = {"column": column, "value_set": _values(target.column(column), arguments["values"])}
        return Expected(each.label, "expect_column_values_to_be_in_set", given, each.severity)
    if each.kind == "between":
        given = {"min_value": _bound(arguments["least"]), "max_value": _bound(arguments["most"])}
        given = {name: value for name, value in given.items() if value is not None}
        return Expected(each.label, "expect_column_values_to_be_between", {"column": column, **given}, each.severity)
    if each.kind in ("length", "rows"):
        given = {"min_value": arguments["least"], "max_value": arguments["most"]}
        name = "expect_table_row_count_to_be_between"
        if each.kind == "length":
            name, given = "expect_column_value_lengths_to_be_between", {"column": column, **given}
        return Expected(each.label, name, given, each.severity)
    ours = {
        "not_null": "expect_column_values_to_not_be_null",
        "unique": "expect_column_values_to_be_unique",
        "regex": "expect_column_values_to_match_regex",
    }
    if each.kind in ours:
        return Expected(each.label, ours[each.kind], {"column": column, **arguments}, each.severity)
    given = dict(arguments)
    if isinstance(given.get("value_set"), list) and isinstance(given.get("column"), str):
        given["value_set"] = _values(target.column(given["column"]), given["value_set"])
    return Expected(each.label, each.kind, given, each.severity)


def _values(column: Column | None, texts: Sequence[str]) -> list[Any]:
    """Texts as values of the column's type, as the driver sends them."""
    base = column.base if column is not None else "text"
    ways: dict[str, Any] = {
        **dict.fromkeys(INTEGERS, int),
        **dict.fromkeys((*FLOATS, "numeric"), Decimal),
        "bool": {"true": True, "false": False}.__getitem__,
        "date": date.fromisoformat,
        "timestamp": datetime.fromisoformat,
        "timestamptz": datetime.fromisoformat,
        "uuid": UUID,
    }
    found = []
    for text in texts:
        try:
            found.append(ways.get(base, str)(text))
        except (ValueError, KeyError, InvalidOperation):
            raise ValueError(f'"{text}" is no {column.type if column else base}') from None
    return found


def _bound(text: str | None) -> Any:
    """A bound as Great Expectations takes it: it compares with a double, so a whole number must be one."""
    value = None if text is None else bound(text)
    if isinstance(value, Decimal):
        if value == value.to_integral_value() and int(float(value)) != value:
            raise ValueError(f"{text} is beyond what Great Expectations compares exactly; write it as a check in SQL")
        return float(value)
    return value


# ------------------------------------------------------------------------------------------------------- what is found


def verify(work: Session, mapping: CompiledMapping, state: TableState) -> tuple[list[Finding], UsageError | None]:
    """What is not as expected, kept in the ledger, and a UsageError with all that could not be evaluated."""
    spec = mapping.spec
    if not (spec.expect or spec.checks):
        ledger.forget(work.conn, work.migration, state.name, [LEVEL])  # of expectations that are asked no more
        return [], None
    findings: list[Finding] = []
    faults: list[Fault] = []
    for each in _found(work, mapping):
        if isinstance(each, Fault):
            faults.append(each)
            findings.append(Finding("expect.unanswered", "error", spec.name, each.message))
        else:
            findings.append(each)
    with explained(f"keep what was found of {spec.name}"):
        ledger.save_findings(work.conn, work.migration, state.name, state.generation, LEVEL, findings)
    return findings, faults_error(work.project.spec.path, faults) if faults else None


def _found(work: Session, mapping: CompiledMapping) -> Iterator[Finding | Fault]:
    """All findings, those past LIMIT as numbers."""
    room = LIMIT
    for each in _unexpected(work, mapping):
        if isinstance(each, _Listing):
            for found in _listed(work, each, room):
                room = max(room - 1, 0)
                yield found
        else:
            yield each


def _unexpected(work: Session, mapping: CompiledMapping) -> Iterator[_Listing | Finding | Fault]:
    spec, target = mapping.spec, mapping.target
    key = finding_key(mapping)
    strings = frozenset(c.name for c in target.columns if c.base in TEXTS or c.labels)
    # A row without a key is named by all that is mapped.
    named = key or mapping.columns
    shape = Shape(spec.name, named, strings, frozenset(spec.personal))
    asked = [(each, expected) for each in spec.expect if (expected := _expected(target, each)) is not None]
    if asked:
        place = Place(target.schema, target.name, named, lambda: _reader(work))
        by_expected = {id(expected): each for each, expected in asked}
        for answer in asking.examine(place, [expected for _, expected in asked]):
            each = by_expected[id(answer.expected)]
            if isinstance(answer, Unanswered):
                yield _fault(work, f"tables.{spec.name}.expect.{each.label}", each, answer)
            else:
                yield _unmet(spec, each, answer, shape, bool(key))
    for each in spec.expect:
        if each.kind == "foreign":
            yield _orphans(work, mapping, each, shape, bool(key))
    for check in spec.checks:
        yield from _check(work, spec, check)


def _reader(work: Session) -> Any:
    """A connection whose transactions cannot write, for somebody who brings his own."""
    connection = work.connect()
    connection.autocommit = False
    connection.read_only = True
    return connection


def _personal_somewhere(work: Session) -> bool:
    """Whether the project has personal values: then a query may meet them, whichever table it is of."""
    return any(spec.personal for spec in work.project.spec.tables.values())


def _fault(work: Session, place: str, each: Expectation, answer: Unanswered) -> Fault:
    """Why there is no answer. RetryableError where the same question may get one."""
    error = getattr(pgerrors, answer.cause, None)
    state = getattr(error, "sqlstate", None)
    if (state and state[:2] in RETRIED) or (answer.cause in ("OperationalError", "InterfaceError") and not state):
        raise RetryableError(f"{place}: {answer.why}", hint="Is the target up? Run the same command again.")
    said = without_values(state, answer.why, personal=_personal_somewhere(work))
    return Fault(each.mark, f"{place} could not be evaluated: {said}{f' [{state}]' if state else ''}")


def _unmet(spec: TableSpec, each: Expectation, answer: Unmet, shape: Shape, keyed: bool) -> _Listing | Finding:
    check, said = f"expect.{each.label}", words(each)
    if answer.statement:
        columns = (*shape.key, *answer.columns)
        parameters = {**answer.parameters, answer.limit: None}
        place = f"tables.{spec.name}.expect.{each.label}"
        return _Listing(
            check, place, each.mark, each.severity, answer.statement, parameters, columns, shape, said, keyed
        )
    observed = answer.observed
    if observed is not None and {column for column, _ in _own_columns(each)} & shape.personal:
        observed = "(personal)"
    message = f"{spec.name}: {each.label}: expected {said}" + (f", and it is {observed}" if observed else "")
    return Finding(check, each.severity, spec.name, message, None, said, observed)


def _parent(work: Session, each: Expectation) -> tuple[tuple[str, str], str]:
    """The table and the column of it that `foreign` names."""
    *path, column = each.arguments["parent"].split(".")
    spec = work.project.spec.tables.get(path[0]) if len(path) == 1 else None
    if spec is not None:
        return (spec.target_schema, spec.target_name), column
    return (path[0] if len(path) == 2 else "public", path[-1]), column


def _orphans(work: Session, mapping: CompiledMapping, each: Expectation, shape: Shape, keyed: bool) -> _Listing:
    """The rows whose value stands in no row of another table."""
    path, column = _parent(work, each)
    parent = quote(*path)
    own, of = quote(each.columns[0]), quote(mapping.target.schema, mapping.target.name)
    chosen = ", ".join(f"child.{quote(c)}" for c in (*shape.key, each.columns[0]))
    statement = (
        f"SELECT {chosen} FROM {of} AS child WHERE child.{own} IS NOT NULL "
        f"AND NOT EXISTS (SELECT FROM {parent} AS parent WHERE parent.{quote(column)} = child.{own})"
    )
    columns = (*shape.key, each.columns[0])
    check, place = f"expect.{each.label}", f"tables.{shape.table}.expect.{each.label}"
    return _Listing(check, place, each.mark, each.severity, statement, None, columns, shape, words(each), keyed)


def _check(work: Session, spec: TableSpec, check: CheckSpec) -> Iterator[_Listing | Fault]:
    """A user's query, once the database has said which columns it has."""
    place = f"tables.{spec.name}.checks.{check.name}"
    statement = check.query.strip().rstrip(";")
    try:
        with _reading(work.conn):
            result = work.conn.execute(_described(check).encode()).pgresult
            assert result is not None
            names: list[str] = []
            for i in range(result.nfields):
                name = (result.fname(i) or b"").decode()
                names.append(f"{name} ({i + 1})" if name in names else name)
            hidden = _personal(work, [(result.ftable(i), result.ftablecol(i)) for i in range(result.nfields)])
            texts = [name for i, name in enumerate(names) if result.ftype(i) in _TEXT_TYPES]
    except psycopg.Error as error:
        yield _refused(work, place, check.mark, error)
        return
    personal = frozenset(name for i, name in enumerate(names) if i in hidden)
    shape = Shape(spec.name, tuple(names[:_NAMED_BY]), frozenset(texts), personal)
    yield _Listing(f"check.{check.name}", place, check.mark, check.severity, statement, None, tuple(names), shape)


def _personal(work: Session, origins: Sequence[tuple[int, int]]) -> set[int]:
    """Which of a query's columns may hold personal values: doubt is decided against showing.

    `origins` are the table and the column's number that each is, 0 where it is no column of a table but computed.
    """
    personal = {name for spec in work.project.spec.tables.values() for name in spec.personal}
    if not personal:
        return set()
    known = work.conn.execute(
        "SELECT attrelid::bigint, attnum FROM pg_attribute JOIN pg_class c ON c.oid = attrelid "
        "WHERE attrelid = ANY(%s::oid[]) AND c.relkind IN ('r', 'p') AND attnum <> 0 AND attname <> ALL(%s)",
        [[table for table, _ in origins], list(personal)],
    ).fetchall()
    return {i for i, origin in enumerate(origins) if origin not in known}


@contextmanager
def _reading(conn: Connection) -> Iterator[None]:
    """A transaction that cannot write, and whose statements end in time."""
    with conn.transaction():
        conn.execute("SET TRANSACTION READ ONLY")
        conn.execute(f"SET LOCAL statement_timeout = '{_PATIENCE}'")
        yield


def _refused(work: Session, place: str, mark: Mark, error: psycopg.Error) -> Fault:
    """Why a query gave no answer. RetryableError where it may give one another time."""
    if isinstance(error, pgerrors.QueryCanceled):
        return Fault(mark, f"{place} took longer than {_PATIENCE} and was stopped")
    told = explain(error, doing=f"evaluate {place}", personal=_personal_somewhere(work))
    if passing(error):
        raise told from error
    return Fault(mark, told.message, told.hint)


def _listed(work: Session, each: _Listing, room: int) -> Iterator[Finding | Fault]:
    """A finding for each row, `room` at most; then one that says how many more there are."""
    table, shape = each.shape.table, each.shape
    names = [f"c{i}" for i in range(len(each.columns))]
    rows = f"({each.statement}\n) AS listed({', '.join(names)})"
    order = f" ORDER BY {', '.join(names[: len(shape.key)])}" if each.ordered else ""
    texts = f"SELECT {', '.join(f'{name}::text' for name in names)} FROM {rows}{order} LIMIT {room + 1}"
    try:
        with _reading(work.conn):
            with work.conn.cursor(name="migrate_unexpected") as cursor:
                cursor.itersize = _FETCHED
                cursor.execute(texts.encode(), each.parameters)
                for n, values in enumerate(cursor):
                    if n == room:
                        break
                    yield _of_row(each, dict(zip(each.columns, values, strict=True)))
                else:
                    return
            count = work.conn.execute(f"SELECT count(*) FROM {rows}".encode(), each.parameters).fetchone()
    except psycopg.Error as error:
        yield _refused(work, each.place, each.mark, error)
        return
    assert count is not None
    statement = ClientCursor(work.conn).mogrify(each.statement, each.parameters)
    command = f"psql -c {shlex.quote(' '.join(statement.split()))}"
    message = f"{table}: {each.check}: {count[0] - room:,} more rows; all of them: {command}"
    yield Finding(each.check + _MORE, each.severity, table, message, None, each.words or None, str(count[0] - room))


def _of_row(each: _Listing, row: Mapping[str, str | None]) -> Finding:
    shape = each.shape
    name = shape.name(dict(row))
    own = each.columns[len(shape.key) :]
    found = ", ".join(f"{column}={shape.show(column, row[column])}" for column in own)
    if not each.words:
        message = f"{shape.table}: {each.check}: {', '.join(part for part in (name, found) if part)}"
        return Finding(each.check, each.severity, shape.table, message, name, None, found or None)
    message = f"{shape.table}: {name}: {found or 'this row'}: expected {each.words}"
    return Finding(each.check, each.severity, shape.table, message, name, each.words, found or None)
