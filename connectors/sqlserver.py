"""SQL Server and Azure SQL as a source: its catalogue, its spelling of SQL, its views.

How values are fetched stands in `sqlservertypes`, how rows arrive and what the drivers' errors mean in `sqlserverdriver`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import pyarrow as pa

from connectors import ready, utf16
from connectors import sqlserverlook as look
from connectors.dburl import DatabaseUrl, parse
from connectors.keyrange import Slice
from connectors.relational import (
    CONNECTIONS,
    Catalogue,
    Field,
    Opened,
    Relation,
    Select,
    Session,
    Tables,
    given,
    several,
    unknown_table,
)
from connectors.sqlserverdriver import URL_OPTIONS, connect, explained
from connectors.sqlservertypes import Catalogued, Column, Fine, described, key_text, literal, name_of, unicode_text
from migrate.core import Measure, Notice, Reference, Source, View, Watermark
from migrate.errors import RetryableError, SourceError, UsageError

_FINE = ("reject", "text", "cut")
_PREPARE = (
    "SET LANGUAGE us_english; SET TEXTSIZE 2147483647; SET NOCOUNT ON; SET XACT_ABORT OFF; SET ROWCOUNT 0; "
    "SET QUOTED_IDENTIFIER, ANSI_NULLS, ANSI_PADDING, ANSI_WARNINGS, ARITHABORT, CONCAT_NULL_YIELDS_NULL ON; "
    "SET NUMERIC_ROUNDABORT OFF; SET LOCK_TIMEOUT 60000; SET TRANSACTION ISOLATION LEVEL "
)
_RANGES, _HASH = (1, 2), 7  # sys.indexes.type: clustered and other B-trees; a hash of a memory-optimized table
_GRAPH = (1, 3, 4, 6, 7)  # sys.columns.graph_type of columns that no query may name
_PAGE = 8192
_SHOWN = 5  # names in a message
_OURS: set[tuple[str, int]] = set()
"""The sessions of this process, by server and number: of several sources on one server, none is load to another."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to read a SQL Server source; every one may stand beside `url:` in the project file.

    | option        | type          | default | meaning                                                         |
    |---------------|---------------|---------|-----------------------------------------------------------------|
    | connections   | whole number  | 4       | at most so many connections at once                              |
    | quiesced      | true or false | false   | nobody writes to the source: what is read twice is the same       |
    | seventh_digit | text          | reject  | what 100 ns make of their row; `text`: the column is text; `cut` |
    """

    connections: int = CONNECTIONS
    quiesced: bool = False
    seventh_digit: Fine = "reject"


def open_url(url: str, options: Mapping[str, Any]) -> Source:
    """A database as a source. Raises UsageError for a wrong URL or option; connects at the first question."""
    chosen = given(Options, options, "SQL Server")
    if chosen.seventh_digit not in _FINE:
        raise UsageError(f"seventh_digit is {chosen.seventh_digit!r}", hint=f"It is one of: {', '.join(_FINE)}.")
    return Tables(
        SqlServer(parse(url, URL_OPTIONS, database_in="mssql://user:password@host:1433/database"), chosen),
        chosen.connections,
    )


@dataclass(frozen=True, slots=True)
class _Index:
    """An index that may cut a table or identify its rows: the columns of its key, in its order."""

    kind: int
    primary: bool
    unique: bool
    columns: tuple[str, ...]
    nullable: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class _State:
    """What the database says of how it can be read."""

    name: str
    snapshots: bool
    snapshot_of: str | None
    read_only: bool
    standby: bool
    cdc: bool


class SqlServer:
    """`Engine` of SQL Server ≥ 2012 and Azure SQL."""

    def __init__(self, url: DatabaseUrl, options: Options) -> None:
        self._url = url
        self._options = options
        self._catalogue = Catalogue(lambda: _Connection(url))
        self._in_snapshot = False
        self._numbers: dict[str, int] = {}  # of relations, in the catalogue

    # ------------------------------------------------------------------------------------------------------- catalogue

    def names(self) -> Sequence[str]:
        """The tables of the URL's database; views are read where the project names them."""
        return self._listed("U")

    def offers(self) -> Sequence[tuple[str, str]]:
        """The views. Another database has a log and snapshots of its own: it is a source of its own."""
        return [(name, "view") for name in self._listed("V")]

    def _listed(self, kind: str) -> list[str]:
        rows = self._catalogue.query(
            "SELECT s.name, o.name FROM sys.objects o JOIN sys.schemas s ON s.schema_id = o.schema_id "
            f"WHERE o.type = '{kind}' AND o.is_ms_shipped = 0 ORDER BY s.name, o.name"
        )
        own = [table for schema, table in rows if schema == self._schema]
        return [*own, *(f"{schema}.{table}" for schema, table in rows if schema != self._schema)]

    def relation(self, name: str, /) -> Relation:
        number, schema, table, is_view = self._named(name)
        self._numbers[name] = int(number)
        columns, refused, warnings = self._columns(number, schema, table)
        by_name = {c.name: c for c in columns if c.name not in refused}
        if not by_name:
            why = next(iter(refused.values()), "the source's user may see none")
            raise SourceError(f"{name} has no column that can be read: {why}")
        indexes = [index for index in self._indexes(number) if _usable(index, by_name)]
        key, ranged, nullable = _keys(indexes)
        rows, size = self._size(number)
        notes = [note for c in columns for note in c.notes]
        notes += self._notes(number, name, bool(is_view), ranged, key, columns)
        return Relation(
            name,
            schema,
            table,
            # Who needs any column at all takes the first.
            tuple(sorted(columns, key=lambda c: c.name in refused)),
            key,
            ranged,
            nullable,
            rows,
            size // rows if rows else 0,
            tuple(notes),
            (*warnings, *self._warnings(number, bool(is_view))),
            refused,
        )

    def _named(self, name: str) -> tuple[Any, ...]:
        """Number, schema, table and whether it is a view: in the user's own schema, or in another as schema.table."""
        candidates = [(self._schema, name)]
        candidates += [(name[:i], name[i + 1 :]) for i, letter in enumerate(name) if letter == "."]
        for schema, table in candidates:
            found = self._catalogue.query(
                "SELECT o.object_id, s.name, o.name, CASE o.type WHEN 'V' THEN 1 ELSE 0 END "
                "FROM sys.objects o JOIN sys.schemas s ON s.schema_id = o.schema_id "
                f"WHERE o.type IN ('U', 'V') AND s.name = {unicode_text(schema)} AND o.name = {unicode_text(table)}"
            )
            if found:
                return found[0]
        database = name.partition(".")[0]
        if name.count(".") > 1 and self._catalogue.query(
            f"SELECT 1 FROM sys.databases WHERE name = {unicode_text(database)} AND name <> DB_NAME()"
        ):
            raise UsageError(
                f"{name!r} is in another database, whose snapshot and whose log of changes are its own",
                hint=f"Make it a source of its own: the same URL with /{database} at its end.",
            )
        raise unknown_table(name, [*self.names(), *self._listed("V")])

    def _columns(self, number: int, schema: str, table: str) -> tuple[list[Column], dict[str, str], list[str]]:
        """The columns, those that must not be read and why, and what must be known of the others before they are believed."""
        facts = ("is_hidden", "graph_type", "encryption_type")
        extra = ", ".join(f"c.{fact}" if ("columns", fact) in self._facts else "NULL" for fact in facts)
        masked = "(SELECT m.is_masked FROM sys.masked_columns m WHERE m.object_id = c.object_id AND m.column_id = c.column_id)"
        extra += f", {masked if self._may_be_masked else 'NULL'}"
        # Since 2022 UNMASK may be granted on a table or a column too; before, the server says NULL to that.
        sees = f"HAS_PERMS_BY_NAME({unicode_text(self.quoted(schema, table))}, 'OBJECT', 'UNMASK', c.name, 'COLUMN')"
        rows = self._catalogue.query(
            "SELECT c.name, COALESCE(b.name, t.name), t.name, c.max_length, c.precision, c.scale, c.is_nullable, "
            f"c.collation_name, t.is_assembly_type & t.is_user_defined, {extra}, {sees} FROM sys.columns c "
            "JOIN sys.types t ON t.user_type_id = c.user_type_id "
            "LEFT JOIN sys.types b ON b.user_type_id = c.system_type_id AND b.is_user_defined = 0 "
            f"AND t.is_assembly_type = 0 WHERE c.object_id = {int(number)} ORDER BY c.column_id"
        )
        columns: list[Column] = []
        refused, warnings = dict[str, str](), list[str]()
        for (
            name,
            kind,
            declared,
            length,
            digits,
            scale,
            nullable,
            collation,
            clr,
            hidden,
            graph,
            sealed,
            masked,
            unmasked,
        ) in rows:
            if graph is not None and int(graph) in _GRAPH:
                continue
            found = Catalogued(
                *(str(name), str(kind), str(declared), int(length), int(digits), int(scale), bool(nullable)),
                *(str(collation or ""), bool(hidden), bool(clr)),
            )
            columns.append(described(found, self._options.seventh_digit))
            if sealed is not None:
                refused[name] = "it is encrypted for its own clients (Always Encrypted); leave it out of the mapping"
            elif masked and not unmasked and not self._may_unmask:
                refused[name] = (
                    "it is masked for the source's user, who gets made-up values; GRANT UNMASK TO that user, or leave it out "
                    "of the mapping"
                )
        alike = Counter(c.name.casefold() for c in columns)
        for twice in (c.name for c in columns if alike[c.name.casefold()] > 1):
            warnings.append(f"{twice}: another column's name differs from it only in case")
        return columns, refused, warnings

    def _indexes(self, number: int) -> list[_Index]:
        """Those that are whole: neither filtered, nor disabled, nor made up for tuning."""
        parts: dict[int, list[tuple[Any, ...]]] = {}
        for row in self._catalogue.query(
            "SELECT i.index_id, i.type, i.is_primary_key, i.is_unique, c.name, c.is_nullable FROM sys.indexes i "
            "JOIN sys.index_columns k ON k.object_id = i.object_id AND k.index_id = i.index_id AND k.key_ordinal > 0 "
            "JOIN sys.columns c ON c.object_id = k.object_id AND c.column_id = k.column_id "
            f"WHERE i.object_id = {int(number)} AND i.type IN (1, 2, 7) AND i.is_disabled = 0 AND i.has_filter = 0 "
            "AND i.is_hypothetical = 0 ORDER BY i.index_id, k.key_ordinal"
        ):
            parts.setdefault(int(row[0]), []).append(row)
        return [
            _Index(
                int(rows[0][1]),
                bool(rows[0][2]),
                bool(rows[0][3]),
                tuple(str(row[4]) for row in rows),
                tuple(bool(row[5]) for row in rows),
            )
            for rows in parts.values()
        ]

    def _size(self, number: int) -> tuple[int, int]:
        """Rows and bytes, as the server keeps count of them; 0 where it does not tell this user."""
        try:
            [found] = self._catalogue.query(
                f"SELECT SUM(row_count), SUM(CAST(used_page_count AS bigint)) * {_PAGE} FROM sys.dm_db_partition_stats "
                f"WHERE object_id = {int(number)} AND index_id IN (0, 1)"
            )
        except SourceError:
            [found] = self._catalogue.query(
                f"SELECT SUM(rows), 0 FROM sys.partitions WHERE object_id = {int(number)} AND index_id IN (0, 1)"
            )
        return int(found[0] or 0), int(found[1] or 0)

    def _notes(
        self,
        number: int,
        name: str,
        is_view: bool,
        ranged: Sequence[str],
        key: Sequence[str],
        columns: Sequence[Column],
    ) -> Iterator[str]:
        if not ranged:
            what = "a view" if is_view else "a table without an index to cut it by"
            yield (
                f"it is {what}: it is one slice, read in one go, and resumed from its beginning (physical places are not "
                "used, for rows move while they are read)"
            )
        elif not key:
            yield f"it has no unique key: it is cut by the index on {ranged[0]}"
        if not key:
            yield "its rows are sorted by all their columns at the source, so that they come in one order each time"
        if ("tables", "temporal_type") in self._facts:
            for kind, of in self._catalogue.query(
                "SELECT t.temporal_type, OBJECT_SCHEMA_NAME(t.history_table_id) + N'.' + OBJECT_NAME(t.history_table_id) "
                f"FROM sys.tables t WHERE t.object_id = {int(number)} AND t.temporal_type > 0"
            ):
                if int(kind) == 1:
                    yield "it holds the history of a system-versioned table"
                else:
                    yield f"it is system-versioned: its history is the table {of or 'that the server names'}"
        same = self._catalogue.query(
            "SELECT s.name + N'.' + o.name FROM sys.objects o JOIN sys.schemas s ON s.schema_id = o.schema_id "
            "JOIN sys.objects this ON LOWER(o.name) COLLATE Latin1_General_BIN = LOWER(this.name) COLLATE Latin1_General_BIN "
            "AND this.schema_id = o.schema_id AND this.object_id <> o.object_id "
            f"WHERE o.type IN ('U', 'V') AND this.object_id = {int(number)}"
        )
        for (other,) in same:
            yield f"its name differs from that of {other} only in case"

    def _warnings(self, number: int, is_view: bool) -> Iterator[str]:
        """A policy hides rows without a word, and who counts the others takes them for all; a view passes on what is masked."""
        if is_view and self._may_be_masked and not self._may_unmask:
            masked = self._catalogue.query(
                "SELECT OBJECT_SCHEMA_NAME(object_id) + N'.' + OBJECT_NAME(object_id) + N'.' + name "
                "FROM sys.masked_columns WHERE is_masked = 1 ORDER BY 1"
            )
            if masked:
                shown = ", ".join(str(each) for (each,) in masked[:_SHOWN]) + (", …" if len(masked) > _SHOWN else "")
                yield (
                    "it is a view, and passes on what is masked for the source's user, who gets made-up values: it must read "
                    f"none of {shown}, or GRANT UNMASK TO that user"
                )
        if ("security_predicates", "predicate_type") not in self._facts:
            return
        try:
            filters = self._catalogue.query(
                "SELECT p.name FROM sys.security_predicates f JOIN sys.security_policies p ON p.object_id = f.object_id "
                f"WHERE f.target_object_id = {int(number)} AND f.predicate_type = 0 AND p.is_enabled = 1"
            )
        except SourceError:
            return
        for (policy,) in filters:
            yield f"the security policy {policy} filters its rows: only those that the source's user may see are read"

    def load(self) -> int | None:
        """The statements that run and are not of this process, whoever's; None where the user is not shown others'."""
        [(server,)] = self._catalogue.query("SELECT @@SERVERNAME")
        return look.load(self._catalogue.query, [number for of, number in tuple(_OURS) if of == str(server)])

    def references(self, relation: Relation, /) -> list[Reference]:
        return look.references(self._catalogue.query, self._numbers[relation.name], self._schema)

    def preflight(self, relations: Sequence[Relation], watermark: Watermark | None) -> Iterator[Notice]:
        """What the server, the database and the tables let a run do; nothing that takes long."""
        state = self._state()
        looked = look.Looked(
            self._view(state, self._options.connections)[0],
            self._in_snapshot,
            state.cdc,
            self._options.connections,
            ("security_predicates", "predicate_type") in self._facts,
            ("tables", "is_memory_optimized") in self._facts,
        )
        ask = self._catalogue.query
        numbered = [(self._numbers[relation.name], relation) for relation in relations]
        yield from look.notices(ask, looked, numbered, watermark)
        yield from ready.tables(
            relations, lambda r: look.table_notices(ask, looked, self._numbers[r.name], r), self.doubts
        )

    def doubts(self, relation: Relation, /) -> Mapping[str, str]:
        digits = self._options.seventh_digit == "reject"
        return look.doubts(self._catalogue.query, self._numbers[relation.name], relation, digits=digits)

    @cached_property
    def _schema(self) -> str:
        """The one in which the user's tables need no schema."""
        [(name,)] = self._catalogue.query("SELECT COALESCE(SCHEMA_NAME(), N'dbo')")
        return str(name)

    @property
    def _may_be_masked(self) -> bool:
        return ("masked_columns", "is_masked") in self._facts

    @cached_property
    def _may_unmask(self) -> bool:
        [(may,)] = self._catalogue.query("SELECT HAS_PERMS_BY_NAME(QUOTENAME(DB_NAME()), 'DATABASE', 'UNMASK')")
        return bool(may)

    @cached_property
    def _facts(self) -> set[tuple[str, str]]:
        """What the catalogue of this version has and that of older ones has not, as view and column."""
        rows = self._catalogue.query(
            "SELECT OBJECT_NAME(object_id), name FROM sys.all_columns WHERE object_id IN (OBJECT_ID(N'sys.columns'), "
            "OBJECT_ID(N'sys.tables'), OBJECT_ID(N'sys.security_predicates'), OBJECT_ID(N'sys.masked_columns')) "
            "AND name IN ('is_hidden', 'graph_type', 'encryption_type', 'is_masked', 'temporal_type', 'is_memory_optimized', "
            "'predicate_type')"
        )
        return {(str(view), str(column)) for view, column in rows}

    @cached_property
    def _has_utf8(self) -> bool:
        """Since 2019. Without it the server cannot make the bytes of UTF-8 from a text."""
        [(count,)] = self._catalogue.query(f"SELECT COUNT(*) FROM sys.fn_helpcollations() WHERE name = '{_UTF8}'")
        return bool(count)

    # ------------------------------------------------------------------------------------------------------------- SQL

    def quoted(self, *names: str) -> str:
        return ".".join(map(name_of, names))

    def literal(self, field: Field, text: str, /) -> str:
        return literal(cast(Column, field), text)

    def boundary(self, relation: Relation, where: str, rows: int, /) -> str:
        names = [self.quoted(name) for name in relation.ranged]
        texts = [key_text(cast(Column, relation.field(name))) for name in relation.ranged]
        condition = f" WHERE {where}" if where else ""
        return (
            f"SELECT {', '.join(texts)} FROM {self.quoted(relation.schema, relation.table)}{condition} "
            f"ORDER BY {', '.join(names)} OFFSET {rows - 1} ROWS FETCH NEXT 1 ROWS ONLY"
        )

    def measure(self, field: Field, measure: Measure, /) -> str | None:
        """As `Measured`. Sums are of 38 digits: an int's own sum is an int, and overflows."""
        column = cast(Column, field)
        q, value = column.expression, column.select
        if measure.quantity == "values":
            return f"COUNT_BIG({value})"
        if measure.kind == "number":
            wide = f"CAST({value} AS decimal(38, {column.type.scale if pa.types.is_decimal(column.type) else 0}))"
            return _total(measure, wide)
        if measure.kind == "real":
            return None if measure.quantity == "sum" else _total(measure, f"CAST({q} AS float)")
        if measure.kind == "boolean":
            return _total(measure, f"CAST(CAST({q} AS int) AS decimal(38, 0))")
        if measure.kind == "day":
            return _total(measure, f"CAST(DATEDIFF(day, '19700101', {q}) AS decimal(38, 0))")
        if measure.kind == "moment":
            return _total(measure, _microseconds(column))
        if measure.kind == "bytes":
            if measure.quantity == "length":
                return f"SUM(CAST(DATALENGTH({value}) AS decimal(38, 0)))"
            return _digest(value) if measure.quantity == "digest" else None
        if measure.kind in ("text", "padded"):
            text = f"CAST({value} AS nvarchar(max))"
            text = f"RTRIM({text})" if measure.kind == "padded" else text
            if measure.quantity == "length":
                # LEN leaves blanks at the end out, and counts a character beyond the BMP once only by such a collation.
                return f"SUM(CAST(LEN({text} COLLATE Latin1_General_100_CI_AS_SC + N'.') - 1 AS decimal(38, 0)))"
            if measure.quantity == "digest" and self._has_utf8:
                return _digest(f"CAST({text} COLLATE {_UTF8} AS varchar(max))")
        return None

    def slices(self, relation: Relation, session: Session, rows: int, /) -> Iterator[Slice]:
        yield Slice(own="all")

    def within(self, slice_: Slice, /) -> str:
        return ""

    # -------------------------------------------------------------------------------------------------------- sessions

    def open(self, count: int, /) -> Opened:
        """Sessions that read in snapshots, where the database allows them."""
        state = self._state()
        view, alike, note = self._view(state, count)
        self._in_snapshot = view == "live" and state.snapshots
        # Before the first snapshot begins: a change that a snapshot has not seen is then surely after it.
        watermark = self._position(state.cdc)
        touched = self._touched() if self._in_snapshot else ""
        sessions = several(count, lambda: _Connection(self._url))
        try:
            if self._in_snapshot:
                for session in sessions:
                    session.begin()
                for session in sessions:
                    session.query(touched)
        except BaseException:
            for session in sessions:
                session.close()
            raise
        return Opened(sessions, view, alike, watermark, note)

    def reopen(self) -> Session:
        session = _Connection(self._url)
        if self._in_snapshot:
            session.begin()
        return session

    def close(self) -> None:
        self._catalogue.close()

    def _state(self) -> _State:
        rows = self._catalogue.query(
            "SELECT d.name, d.snapshot_isolation_state, CASE WHEN d.source_database_id IS NOT NULL "
            "THEN COALESCE(s.name, N'another database') END, d.is_read_only, d.is_in_standby, d.is_cdc_enabled "
            "FROM sys.databases d LEFT JOIN sys.databases s ON s.database_id = d.source_database_id "
            "WHERE d.name = DB_NAME()"  # not DB_ID(): in Azure it is another number than here
        )
        if not rows:  # a user of Azure SQL may see no more of it than that it is there
            return _State(self._url.database, False, None, False, False, False)
        name, snapshots, snapshot_of, read_only, standby, cdc = rows[0]
        return _State(str(name), int(snapshots or 0) == 1, snapshot_of, bool(read_only), bool(standby), bool(cdc))

    def _view(self, state: _State, count: int) -> tuple[View, bool, str]:
        """Its kind, whether all sessions see one moment, and what to say of it.

        A readable secondary is READ_ONLY by DATABASEPROPERTYEX, and moves: what counts is sys.databases.is_read_only.
        """
        if state.snapshot_of is not None:
            return "asof", True, f"asof: {state.name} is a database snapshot of {state.snapshot_of}"
        if state.read_only and not state.standby:
            return "pinned", True, "pinned: the database is READ_ONLY"
        if self._options.quiesced:
            return "pinned", True, "pinned: declared as quiesced"
        if state.snapshots and count == 1:
            return "live", True, "live: one snapshot, which ends with this command"
        if state.snapshots:
            return (
                "live",
                False,
                "live: each connection has a snapshot of its own, a little apart from the others' (`connections: 1`, a "
                "database snapshot or a READ_ONLY database gives one moment)",
            )
        return (
            "live",
            False,
            "live: each statement reads what is committed just then, for the database allows no snapshots "
            f"(ALTER DATABASE {name_of(state.name)} SET ALLOW_SNAPSHOT_ISOLATION ON)",
        )

    def _position(self, cdc: bool) -> Watermark | None:
        """The end of what change data capture has, else change tracking's version; None where neither is on, or granted."""
        ways = [("lsn", "SELECT CONVERT(varchar(22), sys.fn_cdc_get_max_lsn(), 1)")] if cdc else []
        ways.append(("change_tracking", "SELECT CAST(CHANGE_TRACKING_CURRENT_VERSION() AS varchar(20))"))
        for kind, sql in ways:
            try:
                [(value,)] = self._catalogue.query(sql)
            except SourceError:
                continue
            if value is not None:
                return Watermark(kind, str(value))
        return None

    def _touched(self) -> str:
        """SQL that reads a row of any table: only the first thing that is read fixes the moment of a snapshot."""
        slow = " AND is_memory_optimized = 0" if ("tables", "is_memory_optimized") in self._facts else ""
        found = self._catalogue.query(
            "SELECT TOP (1) SCHEMA_NAME(schema_id), name FROM sys.tables WHERE is_ms_shipped = 0 AND HAS_PERMS_BY_NAME("
            f"QUOTENAME(SCHEMA_NAME(schema_id)) + N'.' + QUOTENAME(name), 'OBJECT', 'SELECT') = 1{slow} ORDER BY object_id"
        )
        return f"SELECT TOP (1) 1 FROM {self.quoted(*found[0])}" if found else "SELECT 1"


def _usable(index: _Index, columns: Mapping[str, Column]) -> bool:
    return all(name in columns and columns[name].comparable for name in index.columns)


def _keys(indexes: Sequence[_Index]) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """The columns that identify a row, those to cut by, and whether the latter may be NULL."""
    sure = [i for i in indexes if i.unique and not any(i.nullable)]
    sure.sort(key=lambda i: (not i.primary, len(i.columns)))
    key = sure[0].columns if sure else ()
    for index in sure:
        if index.kind in _RANGES:
            return index.columns, index.columns, False
    for index in sorted((i for i in indexes if i.kind in _RANGES), key=lambda i: (i.nullable[0], i.kind)):
        return key, index.columns[:1], index.nullable[0]
    return key, (), False


# ---------------------------------------------------------------------------------------------------------- aggregates

_UTF8 = "Latin1_General_100_CI_AS_SC_UTF8"


def _total(measure: Measure, value: str) -> str | None:
    way = {"sum": "SUM", "least": "MIN", "most": "MAX"}.get(measure.quantity)
    return f"{way}({value})" if way else None


def _microseconds(column: Column) -> str:
    q = column.expression
    if column.kind == "datetimeoffset":
        q = f"CAST(SWITCHOFFSET({q}, '+00:00') AS datetime2(7))"
    elif column.kind in ("datetime", "smalldatetime"):
        q = column.select
    days = f"CAST(DATEDIFF(day, '19700101', {q}) AS decimal(19, 0)) * 86400000000"
    seconds = f"(DATEPART(hour, {q}) * 3600 + DATEPART(minute, {q}) * 60 + DATEPART(second, {q}))"
    return f"CAST({days} + CAST({seconds} AS decimal(19, 0)) * 1000000 + DATEPART(microsecond, {q}) AS decimal(38, 0))"


def _digest(value: str) -> str:
    return f"SUM(CAST(CONVERT(bigint, 0x00000000 + SUBSTRING(HASHBYTES('MD5', {value}), 1, 4)) AS decimal(38, 0)))"


# ------------------------------------------------------------------------------------------------------------- reading


def statement(select: Select) -> str:
    """SQL of a slice's rows, in an order that is the same each time."""
    columns = [cast(Column, f) for f in select.fields]
    shown = ", ".join(f"{c.sent} AS c{at}" for at, c in enumerate(columns))
    relation = select.relation
    order = [name_of(name) for name in relation.ranged]
    if not relation.key:
        # What is equal by all of these is alike in every value, so that it does not matter which comes first.
        order += [_sorted_by(cast(Column, f)) for f in relation.fields if f.name not in relation.refused]
    elif not set(relation.key) <= set(relation.ranged):
        order += [name_of(name) for name in relation.key]
    order = list(dict.fromkeys(order))
    where = f" WHERE {select.where}" if select.where else ""
    return (
        f"SELECT {shown} FROM {name_of(relation.schema)}.{name_of(relation.table)}{where} ORDER BY {', '.join(order)}"
    )


def _sorted_by(column: Column) -> str:
    """A column in an order that tells apart all its values: a collation does not, and long values cannot be sorted."""
    if column.text or column.kind in ("clr", "image", "binary", "varbinary", "hierarchyid", "geometry", "geography"):
        return f"HASHBYTES('SHA2_256', CAST({column.select} AS varbinary(max)))"
    return column.expression


class _Connection:
    """`Session` over a driver's connection."""

    def __init__(self, url: DatabaseUrl) -> None:
        self._url = url
        self._begun = False
        self._driver = connect(url)
        self.query(_PREPARE + "READ COMMITTED")
        [(server, number)] = self.query("SELECT @@SERVERNAME, @@SPID")
        self._number = (str(server), int(number))
        _OURS.add(self._number)

    def begin(self) -> None:
        """Read in a snapshot from here on; what is first read fixes its moment."""
        self.query("SET TRANSACTION ISOLATION LEVEL SNAPSHOT")
        self.query("BEGIN TRANSACTION")
        self._begun = True

    def query(self, sql: str, /) -> list[tuple[Any, ...]]:
        """As `Session.query`. Bytes are a text that must be exact: a key's, as it is `sent`."""
        with self._explained():
            rows = self._driver.query(sql)
        return [tuple(utf16.exact(v) if isinstance(v, bytes) else v for v in row) for row in rows]

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """As `explained`. Where an error has ended the snapshot, a new one begins: else each statement had its own."""
        try:
            with explained(self._url):
                yield
        except SourceError:
            if self._begun:
                with suppress(SourceError, RetryableError), explained(self._url):
                    [(open_,)] = self._driver.query("SELECT @@TRANCOUNT")
                    if not open_:
                        self._driver.query("BEGIN TRANSACTION")
            raise

    def stream(self, select: Select, /) -> Iterator[pa.RecordBatch]:
        columns = [cast(Column, f) for f in select.fields]
        with self._explained():
            yield from self._driver.batches(statement(select), columns, select.bytes, select.relation.row_bytes)

    def close(self) -> None:
        _OURS.discard(self._number)
        self._driver.close()
