"""The tables of a database as a source: all that is alike whatever the engine.

An `Engine` knows its catalogue, its spelling of SQL and how its rows arrive. Slices, types, places of rows, the number of
connections and the one view that all of them read in are the same for each, and stand here.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from decimal import Decimal
from difflib import get_close_matches
from threading import Condition, Lock, RLock
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors import typed
from connectors.keyrange import Key, Slice, condition, cut
from migrate.core import (
    SUGGESTED,
    Batch,
    Kind,
    Measure,
    Notice,
    Ordinals,
    Origin,
    Partition,
    Quantity,
    Reference,
    Reject,
    Table,
    View,
    Watermark,
    rank,
    total,
)
from migrate.errors import RetryableError, SourceError, UsageError

T = TypeVar("T")

CONNECTIONS = 4
_SHOWN = 200  # characters of an offending value
_PICKED = 500  # keys in one condition
_ATTEMPTS = 3
_WORTH = 8  # slices that are worth a thread of their own to find them


@dataclass(frozen=True, slots=True)
class Field:
    """A column. `select` is the SQL of its value as it is fetched, `type` what it is read as: a text is cast to it.

    `native` is the type as the engine spells it, `suggested` the PostgreSQL type that suits it best. `null` is a text that
    is fetched for values which a policy makes NULL, `strange` what stands before the hexadecimal digits of a text that is none.
    """

    name: str
    native: str
    type: pa.DataType
    select: str
    nullable: bool = True
    suggested: str = ""
    null: str = ""
    strange: str = ""


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or view of the source. `name` is how the project file calls it.

    `key` are the columns that identify a row: unique and never NULL. `ranged` are those of an index by which it is cut into
    slices, of which only a single one may be `nullable`; () where the engine has to cut it by its own means. `rows` and
    `row_bytes` are the engine's estimates (0: unknown). `index` is the name of the key's index, where the engine needs it.
    `refused` is as of `Table`.
    """

    name: str
    schema: str
    table: str
    fields: tuple[Field, ...]
    key: tuple[str, ...] = ()
    ranged: tuple[str, ...] = ()
    nullable: bool = False
    rows: int = 0
    row_bytes: int = 0
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    index: str = ""

    def field(self, name: str) -> Field:
        return next(f for f in self.fields if f.name == name)


@dataclass(frozen=True, slots=True)
class Select:
    """What a reader asks for: these fields of the rows of a slice, in the order of the relation's `ranged` columns.

    `where` is SQL, "" for all rows. `bytes` is about how much may be in memory at once.
    """

    relation: Relation
    fields: tuple[Field, ...]
    where: str
    bytes: int
    slice: Slice


class Measured(Protocol):
    """An engine that computes aggregates."""

    def measure(self, field: Field, measure: Measure, /) -> str | None:
        """SQL of an aggregate, whose value is fetched as text or number; None where this engine has none that is exact."""
        ...


class MeasuredTogether(Protocol):
    """An engine that computes the digest of several texts of a row."""

    def together(self, parts: Sequence[tuple[Field, Kind]], /) -> str | None:
        """SQL of the digest of a `Measure` with columns beside it; None where it might fail, or not be exact."""
        ...


class Finding(Protocol):
    """An engine that finds a key's value by more than a comparison with its `literal`."""

    def equals(self, field: Field, text: str, /) -> str:
        """SQL of whether a column holds a value, from its text as `Origin.raw` has it."""
        ...


class Session(Protocol):
    """A connection that reads in a view. For one thread at a time."""

    def query(self, sql: str, /) -> list[tuple[Any, ...]]:
        """All rows of a small result. Raises SourceError, RetryableError where the connection is lost."""
        ...

    def stream(self, select: Select, /) -> Iterator[pa.RecordBatch]:
        """The rows in batches of the select's fields, each of its type or as text. The same rows in the same order each time.

        A column in which values are of another type than the field's is a struct of `value` (of the field's type) and `wrong`
        (the text of a value that is none; of one that is no Unicode its UTF-8 with halves of pairs in it): `typed.told`.

        Closing the iterator early ends the statement at the server too. Raises as `query` does.
        """
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Opened:
    """Sessions that read in one view: `view` says of which kind, `watermark` where changes after it begin.

    `consistent`: all of them see the same moment. `note` says it to people. `lasting`: a session in place of a lost one sees
    that moment too.
    """

    sessions: Sequence[Session]
    view: View
    consistent: bool
    watermark: Watermark | None
    note: str
    lasting: bool = False


class Engine(Protocol):
    """A database engine. Raises UsageError for a table that is not there, SourceError and RetryableError as `Session`."""

    def names(self) -> Sequence[str]:
        """The tables that the URL names, those of another schema as schema.table; not those that are only `offers`."""
        ...

    def relation(self, name: str, /) -> Relation: ...

    def open(self, count: int, /) -> Opened:
        """So many sessions, in one view where the engine can give one."""
        ...

    def reopen(self) -> Session:
        """One more session in the view, or one as near to it as can be, in place of one that was lost."""
        ...

    def quoted(self, *names: str) -> str:
        """A column, or a relation with its schema."""
        ...

    def literal(self, field: Field, text: str, /) -> str:
        """SQL of a key's value, from its text as `boundary` gave it; compared as the column itself compares."""
        ...

    def boundary(self, relation: Relation, where: str, rows: int, /) -> str:
        """SQL of one row or none: the texts of the `ranged` columns of the `rows`-th row, in their order, where `where` holds.

        That keeps NULL out, where the column may be NULL.
        """
        ...

    def slices(self, relation: Relation, session: Session, rows: int, /) -> Iterator[Slice]:
        """Slices of a table without an index to cut it by, by the engine's own means."""
        ...

    def within(self, slice_: Slice, /) -> str:
        """SQL of "is in this slice" for a slice of `slices`; "" for all rows."""
        ...


def unknown_table(name: str, known: Sequence[str]) -> UsageError:
    """The error of a table that is not there."""
    near = get_close_matches(name, known, 3)
    listed = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
    return UsageError(
        f"no table {name!r} at the source",
        hint=f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are: {listed or 'none'}",
    )


def given(options: type[T], values: Mapping[str, Any], engine: str) -> T:
    """The options of a source as its engine's dataclass. Raises UsageError for one that this engine does not have."""
    known = {f.name for f in fields(options)}  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise UsageError(f"{name} says nothing for {engine}", hint=f"There are: {', '.join(sorted(known))}.")
    return options(**values)


S = TypeVar("S", bound=Session)


def several(count: int, connect: Callable[[], S]) -> list[S]:
    """So many sessions, or none: where one cannot be had, those before it are closed."""
    sessions: list[S] = []
    try:
        for _ in range(count):
            sessions.append(connect())
    except BaseException:
        for session in sessions:
            _closed(session)
        raise
    return sessions


def _closed(session: Session | None) -> None:
    """Close a session, of which nothing is wanted any more."""
    if session is not None:
        with suppress(SourceError, RetryableError):
            session.close()


class Catalogue:
    """One connection for questions of any thread, made at the first and made anew where it was lost."""

    def __init__(self, connect: Callable[[], Session]) -> None:
        self._connect = connect
        self._session: Session | None = None
        self._lock = Lock()

    def query(self, sql: str, /) -> list[tuple[Any, ...]]:
        """As `Session.query`."""
        with self._lock:
            if self._session is not None:
                try:
                    return self._session.query(sql)
                except RetryableError:
                    self._drop()
            self._session = self._connect()
            return self._session.query(sql)

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()


class Pool:
    """A fixed number of sessions, lent to one reader at a time: the most that a source is burdened with."""

    def __init__(self, opened: Opened, reopen: Callable[[], Session]) -> None:
        self.opened = opened
        self._reopen = reopen
        self._free: list[Session | None] = list(opened.sessions)
        self._changed = Condition()
        self.replaced = 0

    @contextmanager
    def lent(self) -> Iterator[Session]:
        """A session; one whose connection is lost meanwhile is replaced when it is next needed."""
        with self._changed:
            while not self._free:
                self._changed.wait()
            session = self._free.pop()
        try:
            if session is None:
                session = self._reopen()
                self.replaced += 1
            yield session
        except RetryableError:
            _closed(session)
            session = None
            raise
        finally:
            with self._changed:
                self._free.append(session)
                self._changed.notify()

    def close(self) -> None:
        with self._changed:
            for session in self._free:
                _closed(session)
            self._free = [None for _ in self._free]


@dataclass(slots=True)
class Tables:
    """`Source`, `Counted`, `Viewed` and `Watermarked` over an engine. Safe to read from several threads."""

    engine: Engine
    connections: int = CONNECTIONS
    _relations: dict[str, Relation] = field(default_factory=dict)
    _opened: Pool | None = None
    _lock: Any = field(default_factory=RLock)

    def tables(self) -> Sequence[str]:
        return self.engine.names()

    def schema(self, table: str, /) -> Table:
        """Its columns with the types that they are read as; `SUGGESTED` in a column's metadata suggests a PostgreSQL type."""
        relation = self._relation(table)
        columns = [
            pa.field(f.name, f.type, f.nullable, {SUGGESTED: f.suggested.encode()} if f.suggested else None)
            for f in relation.fields
        ]
        return Table(table, pa.schema(columns), relation.key, relation.notes, relation.warnings, relation.refused)

    def partitions(self, table: Table, /, *, rows: int, bytes: int) -> Iterator[Partition]:
        """Slices of about `rows` rows, or fewer where the engine's estimate says that these exceed `bytes`."""
        relation = self._relation(table.name)
        if relation.row_bytes:
            rows = max(1, min(rows, bytes // relation.row_bytes))
        with self._pool.lent() as session:
            left = relation.rows
            for ordinal, slice_ in enumerate(self._slices(relation, session, rows)):
                size = rows if slice_.upto is not None or slice_.own is not None else 0 if slice_.null else max(0, left)
                left -= size
                yield Partition(
                    relation.name, ordinal, slice_.dump(relation.name, relation.ranged), size, size * relation.row_bytes
                )

    def read(self, partition: Partition, /, columns: Sequence[str]) -> Iterator[Batch]:
        """The slice's rows with these columns. A value that its type cannot hold rejects its row (rule `cell`)."""
        relation, slice_ = self._slice(partition)
        names = [f.name for f in relation.fields]
        missing = [column for column in columns if column not in names]
        if missing:
            raise SourceError(
                f"{relation.name} has no column {missing[0]!r} any more", hint=f"it has: {', '.join(names)}"
            )
        for column in columns:
            if column in relation.refused:
                raise SourceError(f"{relation.name}: column {column!r} cannot be read: {relation.refused[column]}")
        fetched = tuple(dict.fromkeys((*columns, *relation.key))) or (names[0],)
        fields = tuple(relation.field(name) for name in fetched)
        select = Select(relation, fields, self._where(relation, slice_), max(partition.bytes, 8 << 20), slice_)
        first, attempt = 0, 1
        while True:
            try:
                with self._pool.lent() as session:
                    for cells in session.stream(select):
                        yield _Rows(relation, fields, cells, first).batch(columns)
                        first += cells.num_rows
                return
            except SourceError as error:
                if relation.name not in error.message:
                    raise SourceError(f"{relation.name}: {error.message}", hint=error.hint) from error
                raise
            except RetryableError:
                # What was handed out already cannot be taken back: then the whole chunk is tried again, by its reader.
                if first or attempt == _ATTEMPTS:
                    raise
                attempt += 1

    def count(self, partition: Partition, /) -> int:
        """As the engine counts the slice's rows, in the same view."""
        relation, slice_ = self._slice(partition)
        return int(self._one(relation, ["COUNT(*)"], self._where(relation, slice_))[0])

    def _one(self, relation: Relation, expressions: Sequence[str], where: str) -> tuple[Any, ...]:
        """What the engine makes of rows, as one row."""
        sql = f"SELECT {', '.join(expressions)} FROM {self.engine.quoted(relation.schema, relation.table)}"
        with self._pool.lent() as session:
            [row] = session.query(f"{sql} WHERE {where}" if where else sql)
        return row

    def computes(self, table: str, measure: Measure, /) -> bool:
        """Whether the engine has this quantity."""
        return self._measured(self._relation(table), measure) is not None

    def _measured(self, relation: Relation, measure: Measure) -> str | None:
        """SQL of a quantity; None where the engine has none."""
        if not hasattr(self.engine, "measure"):
            return None
        if not measure.beside:
            return cast(Measured, self.engine).measure(relation.field(measure.column), measure)
        if not hasattr(self.engine, "together"):
            return None
        columns = ((measure.column, measure.kind), *measure.beside)
        return cast(MeasuredTogether, self.engine).together([(relation.field(name), kind) for name, kind in columns])

    def aggregates(
        self, table: str, measures: Sequence[Measure], keys: Sequence[Key] | None, /
    ) -> Sequence[Decimal | None]:
        """As the engine computes them in the same view: of the whole table, or of rows by their keys."""
        relation = self._relation(table)
        wanted = [str(self._measured(relation, m)) for m in measures]
        found: list[list[Decimal | None]] = []
        for where in [""] if keys is None else self._picked(relation, keys):
            row = self._one(relation, wanted, where)
            found.append([None if value is None else Decimal(str(value)) for value in row])
        columns = zip(*found, strict=True) if found else ([] for _ in measures)
        return [
            together(m.quantity, [v for v in some if v is not None]) for m, some in zip(measures, columns, strict=True)
        ]

    def _picked(self, relation: Relation, keys: Sequence[Key]) -> Iterator[str]:
        """Conditions that hold for rows with these keys, some of them each."""
        fields = [relation.field(name) for name in relation.key]
        for first in range(0, len(keys), _PICKED):
            ways = []
            for key in keys[first : first + _PICKED]:
                ways.append(" AND ".join(self._equals(f, v) for f, v in zip(fields, key, strict=True)))
            yield " OR ".join(f"({way})" for way in ways)

    def _equals(self, field: Field, text: str) -> str:
        if hasattr(self.engine, "equals"):
            return cast(Finding, self.engine).equals(field, text)
        return f"{self.engine.quoted(field.name)} = {self.engine.literal(field, text)}"

    def load(self) -> int | None:
        """How many statements of others run at the engine; None where it does not tell."""
        if not hasattr(self.engine, "load"):
            return None
        running: int | None = self.engine.load()
        return running

    def preflight(self, tables: Sequence[str], /) -> Sequence[Notice]:
        """What the engine says of itself, of the view and of these tables; one that is missing does not hide the others."""
        try:
            opened = self._pool.opened
        except SourceError as error:
            return [Notice("error", "connection", error.message, error.hint)]
        found = [Notice("ok" if opened.consistent else "warning", "view", opened.note)]
        relations = []
        for name in tables:
            try:
                relations.append(self._relation(name))
            except (SourceError, UsageError) as error:
                found.append(Notice("error", name, error.message, error.hint))
        if hasattr(self.engine, "preflight"):
            found += self.engine.preflight(relations, opened.watermark)
        return found

    def estimate(self, tables: Sequence[str], /) -> tuple[int, int]:
        """By the engine's estimates."""
        relations = [self._relation(name) for name in tables]
        return sum(r.rows for r in relations), sum(r.rows * r.row_bytes for r in relations)

    def doubts(self, table: str, /) -> Mapping[str, str]:
        """What the engine finds in some rows."""
        if not hasattr(self.engine, "doubts"):
            return {}
        found: Mapping[str, str] = self.engine.doubts(self._relation(table))
        return found

    def offers(self) -> Sequence[tuple[str, str]]:
        """What the engine reads besides its tables, where it tells."""
        if not hasattr(self.engine, "offers"):
            return ()
        found: Sequence[tuple[str, str]] = self.engine.offers()
        return found

    def references(self, table: str, /) -> Sequence[Reference]:
        """The foreign keys of a table, where its engine tells them."""
        if not hasattr(self.engine, "references"):
            return ()
        found: Sequence[Reference] = self.engine.references(self._relation(table))
        return found

    def view(self) -> tuple[View, str]:
        """Of which kind the view is that all is read in, and what to tell people of it."""
        opened = self._pool.opened
        lost = f"; {self._pool.replaced} connections were lost, and what replaced them sees a later moment"
        later = self._pool.replaced and opened.view == "live" and not opened.lasting
        return opened.view, opened.note + (lost if later else "")

    def watermark(self) -> Watermark | None:
        """The position from which changes must be taken so that none after the view is missed."""
        return self._pool.opened.watermark

    def close(self) -> None:
        with self._lock:
            if self._opened is not None:
                self._opened.close()
                self._opened = None
            if hasattr(self.engine, "close"):
                self.engine.close()

    @property
    def _pool(self) -> Pool:
        with self._lock:
            if self._opened is None:
                self._opened = Pool(self.engine.open(self.connections), self.engine.reopen)
            return self._opened

    def _slice(self, partition: Partition) -> tuple[Relation, Slice]:
        """The slice that a partition names. Raises SourceError where its table is cut in another way by now."""
        table, by, slice_ = Slice.load(partition.token)
        relation = self._relation(table)
        if by != relation.ranged:
            then, now = (", ".join(columns) or "no key" for columns in (by, relation.ranged))
            raise SourceError(
                f"{table}: it was planned to be read by {then}, and would be read by {now}: its keys or indexes have changed",
                hint="Give it that key back, or start the table over: `migrate run --restart`.",
            )
        return relation, slice_

    def _relation(self, name: str) -> Relation:
        with self._lock:
            if name not in self._relations:
                self._relations[name] = self.engine.relation(name)
            return self._relations[name]

    def _slices(self, relation: Relation, session: Session, rows: int) -> Iterator[Slice]:
        if not relation.ranged:
            yield from self.engine.slices(relation, session, rows)
            return

        def boundary(of: Session) -> Callable[[Slice], Key | None]:
            def full(open_: Slice) -> Key | None:
                found = of.query(self.engine.boundary(relation, self._where(relation, open_), rows))
                return tuple(str(text) for text in found[0]) if found else None

            return full

        if relation.nullable:
            yield Slice(null=True)
        spans = self._spans(relation, session, rows)
        if len(spans) == 1:
            yield from cut(boundary(session))
            return

        def walk(span: tuple[Key | None, Key | None]) -> list[Slice]:
            with self._pool.lent() as other:
                return list(cut(boundary(other), *span))

        with ThreadPoolExecutor(len(spans), thread_name_prefix="cut") as threads:
            for found in threads.map(walk, spans):
                yield from found

    def _spans(self, relation: Relation, session: Session, rows: int) -> list[tuple[Key | None, Key | None]]:
        """Spans of a large table that can be cut side by side: as many as there are sessions left, where its key is a number."""
        leading = relation.field(relation.ranged[0])
        count = min(self.connections - 1, relation.rows // (_WORTH * rows))
        if count < 2 or not pa.types.is_integer(leading.type):
            return [(None, None)]
        column = self.engine.quoted(leading.name)
        table = self.engine.quoted(relation.schema, relation.table)
        [(low, high)] = session.query(f"SELECT MIN({column}), MAX({column}) FROM {table}")
        ends: list[Key | None] = [None]
        for n in range(1, count) if low is not None else ():
            middle = int(low) + (int(high) - int(low)) * n // count
            found = session.query(self.engine.boundary(relation, f"{column} > {middle}", 1))
            key = tuple(str(text) for text in found[0]) if found else None
            if key is not None and key not in ends:
                ends.append(key)
        return list(zip(ends, [*ends[1:], None], strict=True))

    def _where(self, relation: Relation, slice_: Slice) -> str:
        if not relation.ranged:
            return self.engine.within(slice_)
        fields = [relation.field(name) for name in relation.ranged]

        def literals(key: Key) -> list[str]:
            return [self.engine.literal(f, text) for f, text in zip(fields, key, strict=True)]

        columns = [self.engine.quoted(f.name) for f in fields]
        where = condition(slice_, columns, literals)
        # A slice without an end is all of the table, but NULL has a slice of its own.
        return f"{columns[0]} IS NOT NULL" if relation.nullable and not where else where


def together(quantity: Quantity, values: Sequence[Decimal]) -> Decimal | None:
    """One quantity of several parts of a table."""
    if not values:
        return None
    if quantity in ("least", "most"):
        return (min if quantity == "least" else max)(values, key=rank)
    return total(values)


def read_as(field: Field, cells: pa.Array) -> tuple[pa.Array, typed.Mask | None]:
    """The values of a column as its field has it, from what a session gave; and which are none, where some may be."""
    if field.null and pa.types.is_string(cells.type):
        cells = pc.if_else(pc.equal(cells, field.null), pa.scalar(None, pa.string()), cells)
    if field.strange:
        cells = typed.stranger(cells, field.strange)
    if pa.types.is_struct(cells.type):
        return typed.told(cells)
    return typed.cast(cells, field.type) if cells.type != field.type else (cells, None)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows as they were fetched, numbered from `first`, and what becomes of those with a value that is none."""

    relation: Relation
    fields: tuple[Field, ...]
    cells: pa.RecordBatch
    first: int

    def batch(self, columns: Sequence[str]) -> Batch:
        values: dict[str, pa.Array] = {}
        bad: dict[str, typed.Mask] = {}
        for at, each in enumerate(self.fields):
            values[each.name], wrong = read_as(each, self.cells.column(at))
            if wrong is not None and each.name in columns:
                bad[each.name] = wrong
        ordinals: Ordinals = np.arange(self.first, self.first + self.cells.num_rows)
        arrays = [values[name] for name in columns]
        rejects: tuple[Reject, ...] = ()
        if bad:
            wrong = np.logical_or.reduce(list(bad.values()))
            rejects = tuple(self._reject(int(at), bad) for at in np.flatnonzero(wrong))
            arrays = [array.filter(pa.array(~wrong)) for array in arrays]
            ordinals = ordinals[~wrong]
        schema = pa.schema([pa.field(f.name, f.type) for f in (self.relation.field(name) for name in columns)])
        rows = pa.RecordBatch.from_arrays(arrays, schema=schema)
        return Batch(rows, ordinals, self.locate, rejects)

    def locate(self, ordinals: Sequence[int]) -> list[Origin]:
        """The rows' keys, and their values as they were fetched, as JSON."""
        return [self._origin(int(ordinal) - self.first) for ordinal in ordinals]

    def _origin(self, at: int) -> Origin:
        raw = {f.name: _shown(self.cells.column(i)[at]) for i, f in enumerate(self.fields)}
        place: dict[str, Any] = {"table": self.relation.name}
        if self.relation.key:
            place["key"] = _printable(", ".join(f"{name}={raw[name]}" for name in self.relation.key))
        else:
            place["row"] = self.first + at + 1
        # To JSON, what Python puts in the place of half of a pair is that half itself.
        return Origin(place, json.dumps(raw, ensure_ascii=False).encode("utf-8", "backslashreplace"))

    def _reject(self, at: int, bad: Mapping[str, typed.Mask]) -> Reject:
        columns = [name for name, mask in bad.items() if mask[at]]
        index = next(i for i, f in enumerate(self.fields) if f.name == columns[0])
        text = str(_shown(self.cells.column(index)[at])).removeprefix(self.fields[index].strange)
        shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
        also = f"; {', '.join(columns[1:])} cannot be read either" if columns[1:] else ""
        each = self.fields[index]
        zero = " (the source's zero_dates says what becomes of such)" if text.startswith("0000-") else ""
        reason = f"{columns[0]}: {shown!r} of the source's {each.native} is no {in_words(each.type)}{zero}{also}"
        return Reject(self.first + at, "cell", reason, self._origin(at), columns[0], _printable(shown))


def in_words(kind: pa.DataType) -> str:
    """What a type holds, in words."""
    if pa.types.is_date(kind):
        return "date"
    if pa.types.is_timestamp(kind):
        return "date and time"
    if pa.types.is_integer(kind):
        return f"whole number of {kind.bit_width} bits"
    if pa.types.is_decimal(kind):
        return f"number of {kind.precision} digits, {kind.scale} of them decimals"
    return {"float": "number", "double": "number", "bool": "truth value", "string": "text", "binary": "bytes"}.get(
        str(kind), str(kind)
    )


def _printable(text: str) -> str:
    r"""A text of which half of a pair is shown as \ud83d."""
    return text.encode("utf-8", "backslashreplace").decode()


def _shown(scalar: pa.Scalar) -> str | None:
    value = scalar.as_py()
    if isinstance(value, dict):
        wrong = value["wrong"]
        if isinstance(wrong, bytes):
            return wrong.decode("utf-8", "surrogatepass")
        value = value["value"] if wrong is None else wrong
    if isinstance(value, bytes):
        return value.hex()
    return None if value is None else str(value)
