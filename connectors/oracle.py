"""Oracle as a source: every statement reads as of one SCN, the driver gives Arrow, the server spells what it would change.

The SCN is a moment that any later session can read again, for as long as the server keeps its undo. But a command takes one
of its own, so the view is `live` unless the URL says which. Tables with a key are cut
by it, others by the places of their rows (ROWID). docs/oracle.md says what arrives as what.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from threading import RLock
from typing import Any

import oracledb
import pyarrow as pa

from connectors import oraclecatalogue as catalogue
from connectors import oracledriver as driver
from connectors import oracleready, ready
from connectors import oracletypes as types
from connectors.dburl import DatabaseUrl, parse
from connectors.keyrange import Slice
from connectors.oraclecatalogue import Keys, Named
from connectors.oraclemeasure import Encoded, aggregate
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
from migrate.core import Measure, Notice, Reference, Source, View, Watermark
from migrate.errors import MigrateError, SourceError

_SETTINGS = (
    "ALTER SESSION SET TIME_ZONE = '+00:00'",
    "ALTER SESSION SET NLS_CALENDAR = 'GREGORIAN' NLS_COMP = 'BINARY' NLS_SORT = 'BINARY' NLS_NUMERIC_CHARACTERS = '.,' "
    "NLS_DATE_FORMAT = 'SYYYY-MM-DD HH24:MI:SS' NLS_TIMESTAMP_FORMAT = 'SYYYY-MM-DD HH24:MI:SS.FF9'",
)
_SCN = (
    "SELECT TO_CHAR(DBMS_FLASHBACK.GET_SYSTEM_CHANGE_NUMBER) FROM DUAL",
    "SELECT TO_CHAR(CURRENT_SCN) FROM V$DATABASE",
    "SELECT TO_CHAR(TIMESTAMP_TO_SCN(SYSTIMESTAMP)) FROM DUAL",
)
_ROWS = 65_536  # the most that are fetched at once
_UNMEASURED_ROWS = 64  # of values whose length only reading them tells
_ROOM = 8  # times `Select.bytes`, which rows as wide as their types allow may take


@dataclass(frozen=True, slots=True)
class Options:
    """How to read an Oracle source; every one may stand beside `url:` in the project file.

    | option      | type          | default | meaning                                                   |
    |-------------|---------------|---------|-----------------------------------------------------------|
    | connections | whole number  | 4       | at most so many connections at once                        |
    | quiesced    | true or false | false   | nobody writes to the source: what is read twice is the same |
    """

    connections: int = CONNECTIONS
    quiesced: bool = False


def open_url(url: str, options: Mapping[str, Any]) -> Source:
    """A schema as a source. Raises UsageError for a wrong URL or option; connects at the first question."""
    wanted = given(Options, options, "Oracle")
    return Tables(Oracle(parse(url, driver.URL_OPTIONS), wanted), wanted.connections)


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is known of a relation beyond `Relation`. `remote`: it reads other databases, which have SCNs of their own."""

    kind: catalogue.Kind
    remote: bool = False

    @property
    def has_undo(self) -> bool:
        """Whether the server can tell what stood in it before."""
        return not self.remote and self.kind != "external"


class Oracle:
    """`Engine` of Oracle ≥ 12.1, which is as far back as the driver speaks."""

    def __init__(self, url: DatabaseUrl, options: Options, connect: Callable[[DatabaseUrl], Any] | None = None) -> None:
        """`connect` makes a connection of the driver."""
        driver.check(url)
        self._url = url
        self._options = options
        self._connect = driver.connect if connect is None else connect
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._lock = RLock()

    # ------------------------------------------------------------------------------------------------------- catalogue

    @cached_property
    def _own(self) -> str:
        """The schema whose tables are named without one."""
        return catalogue.own_schema(self._catalogue.query, self._url.options.get("schema", ""))

    def names(self) -> Sequence[str]:
        """The tables of the own schema; views, and other schemas' tables, are read where the project names them."""
        return [name for owner, name, kind in self._listed() if owner == self._own and kind != "view"]

    def offers(self) -> Sequence[tuple[str, str]]:
        """The views of the own schema, and the tables and views of all others as schema.table."""
        return [
            (name if owner == self._own else f"{owner}.{name}", kind if kind == "view" else "table of another schema")
            for owner, name, kind in self._listed()
            if kind == "view" or owner != self._own
        ]

    def _listed(self) -> list[tuple[str, str, catalogue.Kind]]:
        return catalogue.listed(self._catalogue.query, self._own)

    def relation(self, name: str, /) -> Relation:
        ask = self._catalogue.query
        found = catalogue.named(ask, name, self._own)
        if found is None:
            raise unknown_table(name, [*self.names(), *(offered for offered, _ in self.offers())])
        kind = found.kind
        columns = catalogue.columns(ask, found.schema, found.table)
        described = [types.described(c, _column(c.name), sure=kind in ("heap", "index")) for c in columns]
        fields = tuple(d.field for d in described if d.field is not None)
        if not fields:
            raise SourceError(
                f"{name} has no column that can be read", hint="Read a view of it, whose columns are of plain types."
            )
        comparable = {d.field.name for d in described if d.field is not None and d.comparable}
        keys = catalogue.keys(ask, found, columns, comparable)
        kept = _Kept(kind, kind == "view" and catalogue.is_remote(ask, found.schema, found.table))
        self._kept[found.schema, found.table] = kept
        notes = [note for d in described for note in d.notes]
        notes += self._notes(found, keys, [f.name for f in fields])
        warnings = [warning for d in described for warning in d.warnings]
        warnings += catalogue.guards(ask, found.schema, found.table, self._exempt)
        if self._scn is not None and not kept.has_undo:
            warnings.append(
                "its rows are read as they are when it is their turn: what is outside this database has no SCN"
            )
        return Relation(
            name,
            found.schema,
            found.table,
            fields,
            keys.key if {f.name for f in fields}.issuperset(keys.key) else (),
            keys.ranged,
            keys.nullable,
            found.rows,
            found.row_bytes,
            tuple(notes),
            tuple(warnings),
        )

    def _notes(self, found: Named, keys: Keys, names: Sequence[str]) -> Iterator[str]:
        if keys.ranged and not keys.key:
            yield f"it has no unique key: it is cut by the index on {keys.ranged[0]}"
        elif not keys.ranged and found.kind == "heap":
            yield "it has no index to cut it by: it is cut by the places of its rows (ROWID)"
            if found.moves and self._view == "live" and self._scn is None:
                yield "its rows may move (ENABLE ROW MOVEMENT): only as of an SCN do they stay where they are"
        elif not keys.ranged:
            yield (
                "it has no index to cut it by: it is one slice, which the server sorts, read in one go, "
                "and resumed from its beginning"
            )
        if found.twins:
            yield f"there is also {', '.join(found.twins)}, whose name differs in case only"
        if len({name.upper() for name in names}) < len(names):
            yield "some of its columns' names differ in case only"

    def references(self, relation: Relation, /) -> list[Reference]:
        found = catalogue.references(self._catalogue.query, relation.schema, relation.table)
        return ready.references(found, self._own)

    def load(self) -> int | None:
        """The statements of others at this instance; None where V$SESSION may not be read."""
        found = oracleready.tried(self._catalogue.query, oracleready.LOAD)
        return None if found is None else int(found[0][0])

    # -------------------------------------------------------------------------------------------------------- preflight

    def preflight(self, relations: Sequence[Relation], watermark: Watermark | None) -> Iterator[Notice]:
        """The server, then each table; nothing that takes long."""
        ask = self._catalogue.query
        yield from oracleready.server_notices(ask, self._options.connections, self._encoded, self._exempt)
        expected = ready.seconds(relations)
        if self._view != "pinned":
            yield oracleready.undo_notice(ask, self._scn, expected)
            yield from oracleready.log_notices(ask, relations, expected)
        yield from ready.tables(relations, self._readable, self.doubts)

    def _readable(self, relation: Relation) -> Iterator[Notice]:
        """Raises what the server says where it may not be read, or not as of the SCN."""
        for guard in catalogue.guards(self._catalogue.query, relation.schema, relation.table, self._exempt):
            yield Notice("warning", relation.name, guard)
        self._fetch_none(relation)

    def _fetch_none(self, relation: Relation) -> None:
        columns = ", ".join(_column(f.name) for f in relation.fields)
        table = self.quoted(relation.schema, relation.table)
        self._catalogue.query(f"SELECT {columns} FROM {table} t WHERE 1 = 0")

    def doubts(self, relation: Relation, /) -> Mapping[str, str]:
        """Among the first rows of a table: values that reject their row, and UTF-8 where the database says otherwise."""
        if self._kept[relation.schema, relation.table].kind in ("view", "external"):
            self._fetch_none(relation)  # the first rows may cost as much as all of them
            return {}
        fields = tuple(f for f in relation.fields if not types.is_large(f))
        found: dict[str, str] = {}
        if fields:
            session = self._connected()
            try:
                select = Select(relation, fields, f"ROWNUM <= {ready.SAMPLE}", 8 << 20, Slice())
                found = ready.rejecting(fields, session.stream(select))
            finally:
                session.close()
        if oracleready.may_be_mistaken(self._encoded.usual):
            for each in fields:
                if types.bare(each.native) in ("CHAR", "VARCHAR2"):
                    found |= ready.mistaken(each.name, self._accented(relation, each))
        return found

    def _accented(self, relation: Relation, field: Field) -> list[bytes]:
        """The bytes, as they are stored, of values that are not plain ASCII; of short ones, for others are too long as RAW."""
        start = f"SELECT {_column(field.name)} v FROM {self.quoted(relation.schema, relation.table)} t"
        rows = oracleready.tried(
            self._catalogue.query,
            f"SELECT RAWTOHEX(UTL_RAW.CAST_TO_RAW(SUBSTR(v, 1, 500))) FROM ({start} WHERE ROWNUM <= {ready.SAMPLE}) "
            "WHERE LENGTH(v) <= 500 AND ASCIISTR(SUBSTR(v, 1, 500)) <> SUBSTR(v, 1, 500)",
        )
        values = [bytes.fromhex(str(text)) for (text,) in rows or []]
        return [value for value in values if not value.isascii()]  # a backslash is spelled out too

    @cached_property
    def _exempt(self) -> set[str]:
        return catalogue.exemptions(self._catalogue.query)

    @cached_property
    def _encoded(self) -> Encoded:
        return oracleready.encoded(self._catalogue.query)

    # ------------------------------------------------------------------------------------------------------------- SQL

    def measure(self, field: Field, measure: Measure, /) -> str | None:
        return aggregate(field, self.quoted(field.name), measure, self._encoded)

    def quoted(self, *names: str) -> str:
        """A relation is spelled with the SCN that all is read as of."""
        sql = ".".join(_name(name) for name in names)
        return sql if len(names) == 1 else sql + self._as_of(names[0], names[1])

    def literal(self, field: Field, text: str, /) -> str:
        return types.literal(field, text)

    def boundary(self, relation: Relation, where: str, rows: int, /) -> str:
        """In the form that the optimizer knows: it walks along the index and stops at the `rows`-th row."""
        names = [_column(name) for name in relation.ranged]
        parts = [where] if where else []
        parts += [f"{names[0]} IS NOT NULL"] if relation.nullable else []
        condition = f" WHERE {' AND '.join(parts)}" if parts else ""
        keys = ", ".join(f"{name} k{at}" for at, name in enumerate(names))
        order = ", ".join(names)
        texts = ", ".join(
            types.boundary_text(_at(relation.field(name), f"k{at}"), f"k{at}")
            for at, name in enumerate(relation.ranged)
        )
        table = self.quoted(relation.schema, relation.table)
        inner = f"SELECT {keys} FROM {table} t{condition} ORDER BY {order}"
        within = ", ".join(f"k{at}" for at in range(len(names)))
        return f"SELECT {texts} FROM (SELECT {within}, ROWNUM n FROM ({inner}) WHERE ROWNUM <= {rows}) WHERE n = {rows}"

    def slices(self, relation: Relation, session: Session, rows: int, /) -> Iterator[Slice]:
        """By the places of every `rows`-th row, which one pass over the table finds."""
        if self._kept[relation.schema, relation.table].kind != "heap":
            yield Slice(own="all")
            return
        table = self.quoted(relation.schema, relation.table)
        found = session.query(
            f"SELECT ROWIDTOCHAR(r) FROM (SELECT ROWID r, ROW_NUMBER() OVER (ORDER BY ROWID) n FROM {table}) "
            f"WHERE MOD(n, {rows}) = 0 ORDER BY n"
        )
        after = ""
        for (place,) in found:
            yield Slice(own=f"{after}:{place}")
            after = str(place)
        yield Slice(own=f"{after}:")

    def within(self, slice_: Slice, /) -> str:
        if slice_.own in (None, "all"):
            return ""
        after, _, upto = str(slice_.own).partition(":")
        parts = [f"ROWID > CHARTOROWID({types.text_literal(after)})"] if after else []
        parts += [f"ROWID <= CHARTOROWID({types.text_literal(upto)})"] if upto else []
        return " AND ".join(parts)

    def spell(self, select: Select) -> str:
        """The statement of a slice, its rows in an order that is the same each time."""
        relation = select.relation
        where = f" WHERE {select.where}" if select.where else ""
        order = [_column(name) for name in relation.ranged]
        if self._kept[relation.schema, relation.table].kind == "heap":
            order += [] if relation.key and relation.key == relation.ranged else ["t.ROWID"]
        elif not order:
            order = [f.select for f in relation.fields if not types.is_large(f)]
        chosen = ", ".join(f"{f.select} c{at}" for at, f in enumerate(select.fields))
        ordered = f" ORDER BY {', '.join(order)}" if order else ""
        return f"SELECT {chosen} FROM {self.quoted(relation.schema, relation.table)} t{where}{ordered}"

    def widest(self, select: Select) -> str | None:
        """SQL of about the most bytes that a row's large values take; None where there is nothing to measure."""
        sizes = [types.measured(f, _column(f.name)) for f in select.fields]
        known = [size for size in sizes if size is not None]
        if not known:
            return None
        where = f" WHERE {select.where}" if select.where else ""
        return f"SELECT MAX({' + '.join(known)}) FROM {self.quoted(select.relation.schema, select.relation.table)} t{where}"

    # ----------------------------------------------------------------------------------------------------------- view

    @cached_property
    def _moment(self) -> tuple[int | None, bool]:
        """The SCN that all is read as of, and whether the database is open for reading only."""
        ask = self._catalogue.query
        read_only = False
        ask("SELECT 1 FROM DUAL")  # so that what fails below is a privilege, and no wrong password that is tried again
        with suppress(SourceError):
            read_only = ask("SELECT open_mode FROM V$DATABASE") == [("READ ONLY",)]
        if "scn" in self._url.options:
            return int(self._url.options["scn"]), read_only
        for statement in _SCN:
            try:
                [(scn,)] = ask(statement)
            except SourceError:  # not granted
                continue
            return int(scn), read_only
        return None, read_only

    @property
    def _view(self) -> View:
        """`asof` only where a later command reads as of the same SCN: it would take another one by itself."""
        with self._lock:
            _, read_only = self._moment
        if "scn" in self._url.options:
            return "asof"
        return "pinned" if self._options.quiesced or read_only else "live"

    @property
    def _scn(self) -> int | None:
        """What every statement reads as of; None: what stands there."""
        return None if self._view == "pinned" else self._moment[0]

    def _as_of(self, schema: str, table: str) -> str:
        kept = self._kept.get((schema, table), _Kept("heap"))
        return "" if self._scn is None or not kept.has_undo else f" AS OF SCN {self._scn}"

    def open(self, count: int, /) -> Opened:
        view = self._view
        scn, read_only = self._moment
        sessions = several(count, self.reopen)
        watermark = None if scn is None else Watermark("scn", str(scn))
        if view == "pinned":
            why = "its database is read-only" if read_only else "declared as quiesced"
            return Opened(sessions, view, True, watermark, f"pinned: {why}")
        if view == "asof":
            return Opened(sessions, view, True, watermark, f"as of SCN {scn}, as the source's URL says", True)
        if scn is not None:
            note = (
                f"live: all connections read as of SCN {scn}; a later command takes another one, unless the source's URL says "
                f"?scn={scn} and the server has kept its undo (undo_retention)"
            )
            return Opened(sessions, view, True, watermark, note, True)
        note = (
            "live: each connection has a read-only transaction of its own, a little apart from the others' "
            "(no SCN: grant EXECUTE ON DBMS_FLASHBACK or SELECT ON V_$DATABASE)"
        )
        return Opened(sessions, view, count == 1, watermark, note)

    def reopen(self) -> Session:
        session = self._connected()
        if self._view == "live" and self._scn is None:
            session.execute("SET TRANSACTION READ ONLY")
        return session

    def _connected(self) -> "_Connection":
        return _Connection(self._url, self._connect, self)

    @cached_property
    def _catalogue(self) -> Catalogue:
        return Catalogue(self._connected)

    def close(self) -> None:
        self._catalogue.close()


class _Connection:
    """`Session` over python-oracledb."""

    def __init__(self, url: DatabaseUrl, connect: Callable[[DatabaseUrl], Any], engine: Oracle) -> None:
        self._url = url
        self._engine = engine
        with driver.explained(url):
            self._connection = connect(url)
        for setting in _SETTINGS:
            self.execute(setting)

    def execute(self, sql: str) -> None:
        with driver.explained(self._url), self._connection.cursor() as cursor:
            cursor.execute(sql)

    def query(self, sql: str, /) -> list[tuple[Any, ...]]:
        with driver.explained(self._url), self._connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def stream(self, select: Select, /) -> Iterator[pa.RecordBatch]:
        """Frames of so many rows that about `bytes` are in memory; small frames are put together to one batch."""
        sql = self._engine.spell(select)
        with driver.explained(self._url):
            frames = self._connection.fetch_df_batches(
                sql, size=self._rows(select), requested_schema=types.requested(select.fields)
            )
        done = False
        held: list[pa.RecordBatch] = []
        size = 0
        try:
            while not done:
                with driver.explained(self._url):
                    frame = next(frames, None)
                done = frame is None
                batch = None if frame is None else _batch(frame, select.fields)
                # A text that is no UTF-8 makes bytes of its column in this frame alone.
                if held and (batch is None or batch.schema != held[0].schema or size >= select.bytes):
                    yield pa.concat_batches(held)
                    held, size = [], 0
                if batch is not None and batch.num_rows:
                    held.append(batch)
                    size += batch.nbytes
        finally:
            if not done:
                self._end(frames)

    def _rows(self, select: Select) -> int:
        """How many rows to fetch at once: by the engine's estimate, and not too many if they are as wide as can be."""
        widest = sum(types.fixed_bytes(f) for f in select.fields) or 1
        usual = min(select.relation.row_bytes or widest // 4 + 1, widest)
        rows = min(_ROWS, select.bytes // usual, _ROOM * select.bytes // widest)
        if any(types.is_large(f) and types.measured(f, "") is None for f in select.fields):
            rows = min(rows, _UNMEASURED_ROWS)
        measure = self._engine.widest(select)
        if measure is not None:
            [(most,)] = self.query(measure)
            rows = min(rows, select.bytes // (usual + int(most or 0)))
        return max(1, int(rows))

    def _end(self, frames: Any) -> None:
        """Close the statement at the server: it goes with the next message, so send one."""
        with suppress(MigrateError), driver.explained(self._url):
            frames.close()
            self._connection.ping()

    def close(self) -> None:
        with suppress(oracledb.Error, OSError):
            self._connection.close()


def _batch(frame: Any, fields: Sequence[Field]) -> pa.RecordBatch:
    """A frame of the driver's as a batch of the select's fields."""
    table = pa.table(frame)
    arrays = [
        types.received(f, pa.concat_arrays(column.chunks) if column.num_chunks != 1 else column.chunk(0))
        if column.num_chunks
        else pa.array([], f.type)
        for f, column in zip(fields, table.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, names=[f.name for f in fields])


def _at(field: Field, alias: str) -> Field:
    """The field where a subquery calls its column something else."""
    return replace(field, select=field.select.replace(_column(field.name), alias))


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _column(name: str) -> str:
    return f"t.{_name(name)}"
