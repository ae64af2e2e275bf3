"""SQLite files as a source. Types are those that the table declares; a value of another storage class rejects its row.

A table is cut by its rowid, which every ordinary table has; one WITHOUT ROWID is cut by its primary key.
"""

import json
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from connectors import ready
from connectors.keyrange import Slice
from connectors.relational import Field, Opened, Relation, Select, Session, several, unknown_table
from connectors.sqlsession import Connection, Ways
from migrate.core import Measure, Notice, Reference, View, Watermark
from migrate.errors import RetryableError, SourceError, UsageError

_TRIES = 5
_SAMPLE = 1000  # rows whose mean size is taken for all
_CHECKED = 10.0  # seconds that a file is looked through for damage
_RECENT = 60.0  # seconds
_ROWIDS = ("rowid", "_rowid_", "oid")
_TAGGED = re.compile("\x01([nrtb])(.*)", re.DOTALL)
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?", re.IGNORECASE)
_HEX = re.compile("([0-9a-f]{2})*")
_WIDEST = 38  # digits of a decimal128


class SQLite:
    """`Engine` of SQLite 3 files."""

    def __init__(self, file: Path, *, quiesced: bool) -> None:
        self._file = file
        self._quiesced = quiesced
        self._rowids: dict[str, str] = {}  # of the tables that are cut by it

    # ------------------------------------------------------------------------------------------------------- catalogue

    def names(self) -> Sequence[str]:
        return self._named("table")

    def offers(self) -> Sequence[tuple[str, str]]:
        """Its views."""
        return [(name, "view") for name in self._named("view")]

    def _named(self, kind: str) -> list[str]:
        rows = self._ask(
            f"SELECT name FROM sqlite_master WHERE type = {_text(kind)} "
            "AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
        )
        return [str(name) for (name,) in rows]

    def relation(self, name: str, /) -> Relation:
        found = self._ask(f"SELECT name, type, sql FROM sqlite_master WHERE name = {_text(name)} COLLATE NOCASE")
        found = [row for row in found if row[1] in ("table", "view")]
        if not found:
            raise unknown_table(name, [*self.names(), *self._named("view")])
        table, kind, sql = found[0]
        # hidden: 1 is of a virtual table's own, 2 and 3 are generated.
        info = self._ask(f'SELECT name, type, "notnull", pk, hidden FROM pragma_table_xinfo({_text(table)})')
        info = [row for row in info if row[4] != 1]
        fields = tuple(_field(column, native, not notnull) for column, native, notnull, _, _ in info)
        virtual = str(sql or "").lstrip().upper().startswith("CREATE VIRTUAL")
        keyed = [row for row in sorted(info, key=lambda row: row[3]) if row[3]]
        rowid = None if kind == "view" or virtual else self._rowid(table, [row[0] for row in info])
        bare = kind == "table" and not virtual and self._without_rowid(table)
        key: tuple[str, ...] = ()
        ranged: tuple[str, ...] = ()
        notes: list[str] = []
        if bare:
            key = ranged = tuple(row[0] for row in keyed)
        elif len(keyed) == 1 and str(keyed[0][1]).upper() == "INTEGER" and rowid and self._is_rowid(table):
            key = ranged = (keyed[0][0],)
        elif keyed and all(row[2] for row in keyed):
            key = tuple(row[0] for row in keyed)
        if rowid and not ranged:
            self._rowids[table] = rowid
            notes.append("it is cut by its rowid" + ("" if key else ": it has no key; a VACUUM numbers its rows anew"))
        elif not ranged:
            notes.append(
                "it has no rowid to cut it by: it is one slice, read in one go, and resumed from its beginning"
            )
        loose = [f.name for f in fields if _loose(f.native)]
        if loose:
            notes.append(f"{', '.join(loose)}: the type says nothing of the values, and they are read as text")
        rows, row_bytes = self._estimates(table, [row[0] for row in info]) if kind == "table" else (0, 0)
        return Relation(name, "", table, fields, key, ranged, False, rows, row_bytes, tuple(notes))

    def _rowid(self, table: str, columns: Sequence[str]) -> str | None:
        """A name of the rowid that no column has taken; None where the table has none."""
        if self._without_rowid(table):
            return None
        taken = {column.lower() for column in columns}
        return next((name for name in _ROWIDS if name not in taken), None)

    def _without_rowid(self, table: str) -> bool:
        found = self._ask(f"SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = {_text(table)}")
        return bool(found and found[0][0])

    def _is_rowid(self, table: str) -> bool:
        """INTEGER PRIMARY KEY is the rowid, but INTEGER PRIMARY KEY DESC is not, and may be NULL: then it has an index."""
        return not self._ask(f"SELECT 1 FROM pragma_index_list({_text(table)}) WHERE origin = 'pk'")

    def _estimates(self, table: str, columns: Sequence[str]) -> tuple[int, int]:
        lengths = ", ".join(f"AVG(COALESCE(LENGTH(CAST({_name(c)} AS BLOB)), 0))" for c in columns)
        [(rows,)] = self._ask(f"SELECT COUNT(*) FROM {_name(table)}")
        [means] = self._ask(f"SELECT {lengths} FROM (SELECT * FROM {_name(table)} LIMIT {_SAMPLE})")
        return int(rows), int(sum(filter(None, means))) + 8 * len(columns) if rows else 0

    def references(self, relation: Relation, /) -> list[Reference]:
        """A key that names no columns there means the primary key of that table."""
        rows = self._ask(
            'SELECT f.id, f."from", \'\', COALESCE(m.name, f."table"), COALESCE(f."to", p.name) '
            f"FROM pragma_foreign_key_list({_text(relation.table)}) f "
            "LEFT JOIN sqlite_master m ON m.type = 'table' AND m.name = f.\"table\" COLLATE NOCASE "
            'LEFT JOIN pragma_table_info(f."table") p ON p.pk = f.seq + 1 ORDER BY f.id, f.seq'
        )
        return ready.references((row for row in rows if row[4] is not None), "")

    # -------------------------------------------------------------------------------------------------------- preflight

    def preflight(self, relations: Sequence[Relation], watermark: Watermark | None) -> Iterator[Notice]:
        """The file and who else uses it, then each table."""
        [(encoding,)] = self._ask("PRAGMA encoding")
        [(mode,)] = self._ask("PRAGMA journal_mode")
        yield Notice("ok", "version", f"SQLite {sqlite3.sqlite_version} reads {self._file}, in {encoding}")
        yield self._whole()
        if not self._quiesced:
            yield self._written(str(mode).lower() == "wal")
        yield from ready.tables(relations, self._readable, self.doubts)

    def _whole(self) -> Notice:
        """Whether the file is damaged, as far as can be seen in a few seconds: rows on a damaged page may be missing."""
        until = time.monotonic() + _CHECKED
        with closing(self._open()) as connection:
            connection.set_progress_handler(lambda: time.monotonic() > until, 100_000)
            try:
                found = [str(said) for (said,) in connection.execute("PRAGMA quick_check(3)")]
            except sqlite3.OperationalError as error:
                if "interrupted" in str(error):
                    said = f"no damage was found within {_CHECKED:g} s; PRAGMA quick_check looks through all of it"
                    return Notice("ok", "integrity", said)
                hint = "Ask again: migrate check."
                return Notice("warning", "integrity", f"it could not be looked through: {error}", hint)
            except sqlite3.DatabaseError as error:
                found = [str(error)]
        if found == ["ok"]:
            return Notice("ok", "integrity", "PRAGMA quick_check finds no damage")
        hint = "Take a copy that is whole, or save what there is: sqlite3 old.db .recover | sqlite3 new.db. Rows may be missing."
        return Notice("error", "integrity", f"the file is damaged: {'; '.join(found[:3])}", hint)

    def _written(self, wal: bool) -> Notice:
        """Who writes is not known; when somebody last did is."""
        files = [self._file, Path(f"{self._file}-wal"), Path(f"{self._file}-journal")]
        ago = max(0.0, time.time() - max(file.stat().st_mtime for file in files if file.exists()))
        mode = (
            "in WAL mode: others may write meanwhile, and that is not read"
            if wal
            else "not in WAL mode: whoever writes waits until the command ends, or fails"
        )
        if ago > _RECENT:
            return Notice("ok", "writers", mode)
        hint = 'Stop who writes to it and say `quiesced: true`, or read a copy: sqlite3 old.db ".backup copy.db".'
        return Notice("warning", "writers", f"it was written to {ago:.0f} s ago; it is {mode}", hint)

    def _readable(self, relation: Relation) -> Iterator[Notice]:
        """Raises what a view says that cannot be read: the table beneath it may be gone."""
        names = ", ".join(_name(f.name) for f in relation.fields)
        self._ask(f"SELECT {names} FROM {_name(relation.table)} LIMIT 0")
        yield from ()

    def doubts(self, relation: Relation, /) -> Mapping[str, str]:
        """Among the first rows of a table: values of another kind than its column declares."""
        if relation.table not in self.names():  # the first rows of a view may cost as much as all of it
            return {}
        reader = Connection(self._engine, Ways(list, _spell_first, _loose))
        try:
            return ready.rejecting(
                relation.fields, reader.stream(Select(relation, relation.fields, "", 8 << 20, Slice()))
            )
        finally:
            reader.close()

    def _ask(self, sql: str) -> list[tuple[Any, ...]]:
        catalogue = self._connected([])
        try:
            return catalogue.query(sql)
        finally:
            catalogue.close()

    # ------------------------------------------------------------------------------------------------------------- SQL

    def quoted(self, *names: str) -> str:
        return ".".join(_name(name) for name in names if name)

    def literal(self, field: Field, text: str, /) -> str:
        """Without an affinity, so that a column of any type compares with it as it is sorted."""
        tagged = _TAGGED.fullmatch(text)
        if tagged is None:
            number = (
                pa.types.is_integer(field.type) or pa.types.is_floating(field.type) or pa.types.is_decimal(field.type)
            )
            if number:
                return text
            return f"x'{text}'" if pa.types.is_binary(field.type) else f"(x'{text.encode().hex()}' || '')"
        kind, value = tagged.groups()
        if kind == "r" and value.lower().endswith("inf"):
            return "-9e999" if value.startswith("-") else "9e999"  # SQLite has no other way to say it
        return value if kind in "nr" else f"x'{value}'" if kind == "b" else f"(x'{value}' || '')"

    def equals(self, field: Field, text: str, /) -> str:
        """A column of any type may hold values of another kind, of which the text tells none."""
        meant = [f"(x'{text.encode('utf-8', 'surrogatepass').hex()}' || '')"]
        if _NUMBER.fullmatch(text):
            meant.append(text)
        elif text in ("inf", "-inf"):
            meant.append(text.replace("inf", "9e999"))
        if _HEX.fullmatch(text):
            meant.append(f"x'{text}'")
        return f"{_name(field.name)} IN ({', '.join(meant)})"

    def boundary(self, relation: Relation, where: str, rows: int, /) -> str:
        names = [_name(name) for name in relation.ranged]
        texts = [
            f"CASE typeof({n}) WHEN 'text' THEN char(1) || 't' || hex({n}) WHEN 'blob' THEN char(1) || 'b' || hex({n}) "
            f"WHEN 'real' THEN char(1) || 'r' || quote({n}) ELSE CAST({n} AS TEXT) END"
            if not (relation.field(name).native.upper() == "INTEGER" and len(relation.ranged) == 1)
            else n
            for name, n in zip(relation.ranged, names, strict=True)
        ]
        condition = f" WHERE {where}" if where else ""
        order = f"ORDER BY {', '.join(names)} LIMIT 1 OFFSET {rows - 1}"
        return f"SELECT {', '.join(texts)} FROM {_name(relation.table)}{condition} {order}"

    def slices(self, relation: Relation, session: Session, rows: int, /) -> Iterator[Slice]:
        rowid = self._rowids.get(relation.table)
        if rowid is None:
            yield Slice(own="all")
            return
        after: int | None = None
        while True:
            where = "" if after is None else f" WHERE {rowid} > {after}"
            order = f"ORDER BY {rowid} LIMIT 1 OFFSET {rows - 1}"
            found = session.query(f"SELECT {rowid} FROM {_name(relation.table)}{where} {order}")
            upto = int(found[0][0]) if found else None
            yield Slice(own=json.dumps([rowid, after, upto]))
            if upto is None:
                return
            after = upto

    def within(self, slice_: Slice, /) -> str:
        if slice_.own in (None, "all"):
            return ""
        rowid, after, upto = json.loads(str(slice_.own))
        parts = [] if after is None else [f"{rowid} > {int(after)}"]
        parts += [] if upto is None else [f"{rowid} <= {int(upto)}"]
        return " AND ".join(parts)

    def spell(self, select: Select) -> str:
        relation = select.relation
        where = f" WHERE {select.where}" if select.where else ""
        rowid = self._rowids.get(relation.table)
        order = [_name(name) for name in relation.ranged] or ([rowid] if rowid else [])
        # Without either, rows that are equal in every column are the only ones that may change places.
        order = order or [f"{_name(f.name)} COLLATE BINARY" for f in relation.fields]
        chosen = ", ".join(f.select for f in select.fields)
        return f"SELECT {chosen} FROM {_name(relation.table)}{where} ORDER BY {', '.join(order)}"

    def measure(self, field: Field, measure: Measure, /) -> str | None:
        """Sums of doubles and digests are not to be had from SQLite alone."""
        name = _name(field.name)
        if measure.quantity == "values":
            return f"COUNT({name})"
        whole = (
            f"CASE typeof({name}) WHEN 'integer' THEN {name} END"  # a text is greater than all numbers, and no number
        )
        values = {"number": whole, "boolean": whole, "day": f"CAST(julianday({name}) - 2440587.5 AS INTEGER)"}
        if measure.kind in ("text", "bytes") and measure.quantity == "length":
            return f"SUM(LENGTH({name}))"
        if measure.kind not in values or not (measure.kind != "number" or pa.types.is_integer(field.type)):
            return None
        if measure.quantity == "sum":
            return _sum(values[measure.kind])
        ways = {"least": "MIN", "most": "MAX"}
        return f"{ways[measure.quantity]}({values[measure.kind]})" if measure.quantity in ways else None

    # -------------------------------------------------------------------------------------------------------- sessions

    def open(self, count: int, /) -> Opened:
        """Each session holds a read transaction; that all see one moment is known where nothing was committed meanwhile."""
        view: View = "pinned" if self._quiesced else "live"
        watcher = self._connected([])
        try:
            wal = str(watcher.query("PRAGMA journal_mode")[0][0]).lower() == "wal"
            for _ in range(_TRIES):
                before = watcher.query("PRAGMA data_version")
                sessions = several(count, self.reopen)
                same = watcher.query("PRAGMA data_version") == before
                if same or not wal:
                    break
                _close(sessions)
            else:
                sessions = several(count, self.reopen)
        finally:
            watcher.close()
        if self._quiesced:
            return Opened(sessions, view, True, None, "pinned: declared as quiesced")
        how = "one moment for all connections" if same or not wal else "each connection has a moment of its own"
        note = f"live: {how}, which ends with this command" + (
            "" if wal else "; nobody can write to the file meanwhile"
        )
        return Opened(sessions, view, same or not wal, None, note)

    def reopen(self) -> Session:
        return self._connected(["BEGIN", "SELECT COUNT(*) FROM sqlite_master"])

    def _connected(self, begin: Sequence[str]) -> Connection:
        return Connection(self._engine, Ways(lambda: begin, self.spell, _loose))

    @cached_property
    def _engine(self) -> sa.Engine:
        if not self._file.is_file():
            raise SourceError(f"there is no file {self._file}", hint="Check the path in the source's URL.")
        return sa.create_engine(
            sa.URL.create("sqlite", database=str(self._file)), creator=self._open, poolclass=NullPool
        )

    def _open(self) -> sqlite3.Connection:
        """Read-only. Without the folder's consent a file in WAL mode opens only as immutable, and then its log is not read:
        so only where nobody writes, and there is no log."""
        address = f"file:{quote(str(self._file.resolve()))}?mode=ro"
        try:
            return _opened(address)
        except sqlite3.OperationalError:
            logs = [Path(f"{self._file}{end}") for end in ("-wal", "-journal")]
            if not self._quiesced or any(log.exists() and log.stat().st_size for log in logs):
                raise
            return _opened(address + "&immutable=1")


def _spell_first(select: Select) -> str:
    chosen = ", ".join(f.select for f in select.fields)
    return f"SELECT {chosen} FROM {_name(select.relation.table)} LIMIT {ready.SAMPLE}"


def _opened(address: str) -> sqlite3.Connection:
    connection = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)
    # A text that is no UTF-8 is to be told in its row, not to end the statement.
    connection.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
    try:
        connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def _close(sessions: Sequence[Session]) -> None:
    for session in sessions:
        with suppress(SourceError, RetryableError):
            session.close()


# ------------------------------------------------------------------------------------------------------------- the types


def _field(name: str, native: str, nullable: bool) -> Field:
    """A column from its declared type, by the words that SQLite itself looks for, and by those that people mean."""
    bare, _, size = native.upper().partition("(")
    bare = bare.strip()
    kind: pa.DataType = pa.string()
    suggested = ""
    if bare in ("BOOL", "BOOLEAN"):
        kind = pa.bool_()
    elif bare == "DATE":
        kind = pa.date32()
    elif bare in ("DATETIME", "TIMESTAMP"):
        kind = pa.timestamp("us")
    elif bare == "JSON":
        suggested = "jsonb"
    elif "INT" in bare:
        kind = pa.int64()
    elif any(word in bare for word in ("CHAR", "CLOB", "TEXT")):
        pass
    elif "BLOB" in bare or bare in ("BINARY", "VARBINARY"):
        kind = pa.binary()
    elif any(word in bare for word in ("REAL", "FLOA", "DOUB")):
        kind = pa.float64()
    elif bare in ("NUMERIC", "DECIMAL", "DEC", "NUMBER", "MONEY", "CURRENCY"):
        kind, suggested = _decimal(size)
    return Field(name, native, kind, _name(name), nullable, suggested)


def _decimal(size: str) -> tuple[pa.DataType, str]:
    numbers = [int(n) for n in re.findall(r"\d+", size)]
    if not numbers:
        return pa.string(), "numeric"
    digits, places = numbers[0], numbers[1] if len(numbers) > 1 else 0
    fits = 0 < digits <= _WIDEST and places <= digits
    suggested = f"numeric({digits},{places})" if places <= digits else "numeric"
    return (pa.decimal128(digits, places), suggested) if fits else (pa.string(), suggested)


def _loose(native: str) -> bool:
    """Whether a declared type lets values of any kind in and says nothing of what is meant."""
    field = _field("", native, True)
    words = ("CHAR", "CLOB", "TEXT")
    return (
        pa.types.is_string(field.type)
        and not field.suggested.startswith("numeric")
        and not any(w in native.upper() for w in words)
    )


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def file_of(url: sa.URL, base: str) -> Path:
    """The file that a URL names, beneath `base` where it is relative. Raises UsageError where it names none."""
    if not url.database or url.database == ":memory:" or url.query:
        hint = "Write sqlite:///folder/file.db, or sqlite:////from/the/root.db, and nothing after it."
        raise UsageError("the source's URL names no file alone", hint=hint)
    return Path(base) / url.database


def _sum(value: str) -> str:
    """A sum of integers as text: SUM alone ends in an error past 2**63, so thousand millions and the rest are summed apart."""
    some, high, low = f"COUNT({value})", f"SUM({value} / 1000000000)", f"SUM({value} % 1000000000)"
    whole, rest = f"({high} + {low} / 1000000000)", f"({low} % 1000000000)"
    return (
        f"CASE WHEN {some} = 0 THEN NULL "
        f"WHEN {whole} > 0 AND {rest} < 0 THEN printf('%d%09d', {whole} - 1, 1000000000 + {rest}) "
        f"WHEN {whole} < 0 AND {rest} > 0 THEN printf('-%d%09d', -1 - {whole}, 1000000000 - {rest}) "
        f"WHEN {whole} < 0 OR {rest} < 0 THEN printf('-%d%09d', -{whole}, -{rest}) "
        f"ELSE printf('%d%09d', {whole}, {rest}) END"
    )
