"""MySQL and MariaDB as a source: the server writes a slice as one text, Arrow reads it.

A statement gives a whole slice in a single row: `SELECT COUNT(*), GROUP_CONCAT(<the row as text>)`. So no Python object is
made per row, nothing is fetched before it is asked for, and every session can stand in one consistent snapshot.
docs/adr/0012 has the measurements that this rests on. Slices whose text exceeds what the server may put into one row are
fetched row by row, in the same form.
"""

import re
import ssl
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, Literal

import pyarrow as pa
import pymysql
from pymysql.cursors import SSCursor

from connectors import ready
from connectors.dburl import DatabaseUrl, parse
from connectors.keyrange import Slice
from connectors.mysqltext import PLAIN, QUOTED, in_order, literal, nulls, parsed, put, row_of, surely
from connectors.mysqltypes import BYTES, LONG, NUMBERS, TEXTS, Described, bare, described, most_bytes
from connectors.ready import SAMPLE
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
from migrate.core import Kind, Measure, Notice, Reference, Source, View, Watermark
from migrate.errors import InternalError, MigrateError, RetryableError, SourceError, UsageError

URL_OPTIONS = ("ssl", "ssl_ca", "ssl_cert", "ssl_key", "ssl_verify_identity", "unix_socket", "connect_timeout")
_LOST = {
    *(1040, 1053, 1077, 1152, 1158, 1159, 1160, 1161, 1184, 1205, 1213, 1317, 1927),
    *(2002, 2003, 2006, 2013, 2055, 4031),
}
_ASIDE = 2  # connections besides those that read: one asks the catalogue, one holds the lock or ends a statement
_SEEING = {"PROCESS", "ALL PRIVILEGES"}  # either shows the statements of other users
_TRANSACTIONAL = ("innodb", "rocksdb", "ndbcluster")
_SORTED = ("BTREE", "HASH")  # kinds of indexes that a key may have
_LOCK_SECONDS = 3  # no reader of the source waits longer than this for our lock
_DDL_SECONDS = 60  # how long a reader waits for who changes the definition of its table
_TRIES = 5
_LONGEST_TIMEOUT = 31_536_000  # seconds, by PyMySQL
_GREETED: set[tuple[str, int]] = set()
"""The servers that this process has been connected to: one that is silent then is only slow."""
_OURS: set[tuple[str, int]] = set()
"""The connections of this process, by server and number: of several sources on one server, none is load to another."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to read a MySQL or MariaDB source; every one may stand beside `url:` in the project file.

    | option      | type          | default | meaning                                                           |
    |-------------|---------------|---------|-------------------------------------------------------------------|
    | connections | whole number  | 4       | at most so many connections at once                                |
    | quiesced    | true or false | false   | nobody writes to the source: what is read twice is the same         |
    | zero_dates  | text          | reject  | what `0000-00-00` makes of its row; `null`: NULL; `text`: the column is text |
    """

    connections: int = CONNECTIONS
    quiesced: bool = False
    zero_dates: Literal["reject", "null", "text"] = "reject"


def open_url(url: str, options: Mapping[str, Any]) -> Source:
    """A database as a source. Raises UsageError for a wrong URL or option; connects at the first question."""
    chosen = given(Options, options, "MySQL and MariaDB")
    return Tables(
        MySQL(parse(url, URL_OPTIONS, database_in="mysql://user:password@host:3306/database"), chosen),
        chosen.connections,
    )


class MySQL:
    """`Engine` of MySQL ≥ 5.7 and MariaDB ≥ 10.3."""

    def __init__(self, url: DatabaseUrl, options: Options) -> None:
        self._url = url
        self._options = options
        self._quoted: set[str] = set()

    # ------------------------------------------------------------------------------------------------------- catalogue

    def names(self) -> Sequence[str]:
        """The tables of the URL's database; views, and other databases' tables, are read where the project names them."""
        rows = self._catalogue.query(
            f"SELECT table_name FROM information_schema.tables WHERE table_schema = {_text(self._url.database)} "
            "AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') ORDER BY table_name"
        )
        return [table for (table,) in rows]

    def offers(self) -> Sequence[tuple[str, str]]:
        """The views of the URL's database, and the tables and views of the server's others as database.table."""
        here = self._url.database
        rows = self._catalogue.query(
            "SELECT table_schema, table_name, table_type FROM information_schema.tables "
            "WHERE table_schema NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys') "
            "AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED', 'VIEW') ORDER BY table_schema, table_name"
        )
        return [
            (
                table if schema == here else f"{schema}.{table}",
                f"{'view' if kind == 'VIEW' else 'table'}{'' if schema == here else ' of another database'}",
            )
            for schema, table, kind in rows
            if kind == "VIEW" or schema != here
        ]

    def relation(self, name: str, /) -> Relation:
        schema, table, kind, engine, rows, row_bytes = self._named(name)
        columns = self._columns(schema, table)
        ranged, key, nullable, index, why = self._keys(schema, table, {c.field.name: c for c in columns})
        notes = [note for c in columns for note in c.notes]
        notes += self._notes(kind, engine, ranged, key, why)
        return Relation(
            name,
            schema,
            table,
            tuple(c.field for c in columns),
            key,
            ranged,
            nullable,
            int(rows or 0),
            int(row_bytes or 0),
            tuple(notes),
            tuple(self._zero_dates(schema, table, columns)),
            index=index,
        )

    def _named(self, name: str) -> tuple[Any, ...]:
        """The catalogue's row of a table: of this database, or of another as schema.table."""
        candidates = [(self._url.database, name)]
        candidates += [(name[:i], name[i + 1 :]) for i, letter in enumerate(name) if letter == "."]
        for schema, table in candidates:
            found = self._catalogue.query(
                "SELECT table_schema, table_name, table_type, engine, table_rows, avg_row_length "
                f"FROM information_schema.tables WHERE table_schema = {_text(schema)} AND table_name = {_text(table)}"
            )
            exact = [row for row in found if row[1] == table] or found
            if exact:
                return exact[0]
        raise unknown_table(name, self.names())

    def _columns(self, schema: str, table: str) -> list[Described]:
        rows = self._catalogue.query(
            "SELECT column_name, data_type, column_type, is_nullable, character_set_name, numeric_precision, numeric_scale, "
            "datetime_precision, character_maximum_length, extra FROM information_schema.columns "
            f"WHERE table_schema = {_text(schema)} AND table_name = {_text(table)} ORDER BY ordinal_position"
        )
        checks = self._json_columns(schema, table)
        return [
            described(
                *row,
                json=row[0] in checks,
                quoted=self.quoted(row[0]),
                zero_dates=self._options.zero_dates,
                axes=not self._maria and self._version >= (8,),
            )
            for row in rows
        ]

    def _json_columns(self, schema: str, table: str) -> set[str]:
        """MariaDB's JSON is LONGTEXT with a CHECK."""
        if not self._maria:
            return set()
        rows = self._catalogue.query(
            "SELECT check_clause FROM information_schema.check_constraints "
            f"WHERE constraint_schema = {_text(schema)} AND table_name = {_text(table)}"
        )
        return {str(clause)[len("json_valid(`") : -2] for (clause,) in rows if str(clause).startswith("json_valid(`")}

    def _keys(
        self, schema: str, table: str, columns: Mapping[str, Described]
    ) -> tuple[tuple[str, ...], tuple[str, ...], bool, str, str]:
        """The columns to cut by, those that identify a row, whether the former may be NULL, the index of the latter.

        And which key or index is none to cut by as a whole, and why; "" where there is none such.
        """
        indexes: dict[str, list[tuple[Any, ...]]] = {}
        for row in self._catalogue.query(
            "SELECT index_name, non_unique, column_name, sub_part, nullable, index_type FROM information_schema.statistics "
            f"WHERE table_schema = {_text(schema)} AND table_name = {_text(table)} ORDER BY index_name, seq_in_index"
        ):
            indexes.setdefault(row[0], []).append(row)
        ordered = sorted(indexes.items(), key=lambda item: (item[0] != "PRIMARY", len(item[1]), item[0]))
        faults = {name: [_uncut(p, columns.get(p[2])) for p in parts] for name, parts in ordered}
        for name, parts in ordered:
            if not any(faults[name]) and all(int(p[1]) == 0 and p[4] != "YES" for p in parts):
                key = tuple(p[2] for p in parts)
                return key, key, False, name, ""
        found = [(parts[0], next(filter(None, faults[name]))) for name, parts in ordered if any(faults[name])]
        why = next(
            (f"its {'index' if int(p[1]) else 'key'} cannot be cut by: {w}" for p, w in found if p[5] in _SORTED), ""
        )
        # Any index that can be cut by as a whole, else one whose first column can.
        for name, parts in sorted(ordered, key=lambda item: (any(faults[item[0]]), int(item[1][0][1]), item[0])):
            if not faults[name][0]:
                return (parts[0][2],), (), parts[0][4] == "YES", "", why
        return (), (), False, "", why

    def _notes(
        self, kind: str, engine: str | None, ranged: Sequence[str], key: Sequence[str], why: str
    ) -> Iterator[str]:
        if not ranged:
            yield f"{why or 'it has no index to cut it by'}: it is one slice, read in one go, and resumed from its beginning"
        elif not key:
            yield f"{why or 'it has no unique key'}: it is cut by the index on {ranged[0]}"
        if kind != "VIEW" and engine is not None and engine.lower() not in _TRANSACTIONAL:
            yield f"its engine is {engine}: no snapshot holds it still while it is read"

    def _zero_dates(self, schema: str, table: str, columns: Sequence[Described]) -> Iterator[str]:
        """How many values the policy makes NULL: what is not NULL at the source is not to become so without a word."""
        dated = [c.field for c in columns if c.field.null]
        if not dated:
            return
        sums = ", ".join(f"COALESCE(SUM({self.quoted(f.name)} = {_text(f.null)}), 0)" for f in dated)
        [counts] = self._catalogue.query(f"SELECT {sums} FROM {self.quoted(schema, table)}")
        for each, count in zip(dated, counts, strict=True):
            if int(count):
                yield f"{each.name}: {int(count):,} zero dates become NULL (zero_dates: null)"

    def load(self) -> int | None:
        """The statements that run and are not of this process, whoever's; None without PROCESS, which shows no other user's."""
        if not self._granted & _SEEING:
            return None
        [(host, port)] = self._catalogue.query("SELECT @@hostname, @@port")
        server = f"{host}:{port}"
        ours = ", ".join(["CONNECTION_ID()", *(str(number) for of, number in tuple(_OURS) if of == server)])
        [(running,)] = self._catalogue.query(
            "SELECT COUNT(*) FROM information_schema.processlist WHERE command NOT IN ('Sleep', 'Daemon', 'Binlog Dump', "
            "'Binlog Dump GTID', 'Connect', 'Slave_IO', 'Slave_SQL', 'Slave_worker') "
            f"AND user NOT IN ('system user', 'event_scheduler') AND id NOT IN ({ours})"
        )
        return int(running)

    def references(self, relation: Relation, /) -> list[Reference]:
        rows = self._catalogue.query(
            "SELECT constraint_name, column_name, referenced_table_schema, referenced_table_name, referenced_column_name "
            f"FROM information_schema.key_column_usage WHERE table_schema = {_text(relation.schema)} "
            f"AND table_name = {_text(relation.table)} AND referenced_table_name IS NOT NULL "
            "ORDER BY constraint_name, ordinal_position"
        )
        return ready.references(rows, self._url.database)

    # -------------------------------------------------------------------------------------------------------- preflight

    def preflight(self, relations: Sequence[Relation], watermark: Watermark | None) -> Iterator[Notice]:
        """Version, connections, privileges, log and its retention, engines, character sets; nothing that takes long."""
        oldest = (10, 3) if self._maria else (5, 7)
        said = f"{'MariaDB' if self._maria else 'MySQL'} {self.version}, database {self._url.database}, user {self._url.user}"
        if self._version < oldest:
            hint = f"It is older than what this was tried with ({'.'.join(map(str, oldest))}): rehearse with --dry-run."
            yield Notice("warning", "version", said, hint)
        else:
            yield Notice("ok", "version", said)
        yield self._free()
        yield from self._privileges()
        yield from self._log(watermark, ready.seconds(relations))
        yield from ready.tables(relations, lambda r: chain(self._readable(r), self._unheld(r)), self.doubts)

    def _free(self) -> Notice:
        [(most, own)] = self._catalogue.query("SELECT @@global.max_connections, @@max_user_connections")
        [(_, used)] = self._catalogue.query("SHOW GLOBAL STATUS LIKE 'Threads_connected'")
        taken = self._options.connections + _ASIDE
        if int(own) and int(own) < taken:
            hint = f"Lower `connections` of this source to {max(1, int(own) - _ASIDE)}, or raise the user's limit."
            return Notice("warning", "connections", f"its user may have {own}, and a run takes up to {taken}", hint)
        return ready.connections(int(most) - int(used), int(most), taken, "max_connections")

    def _privileges(self) -> Iterator[Notice]:
        """What is granted on the whole server, and what the lack of it costs."""
        granted = self._granted
        if self._options.quiesced:
            yield Notice("ok", "privileges", "nobody writes to it, as is declared: no lock is needed for one snapshot")
        elif granted & {"RELOAD", "FLUSH_TABLES", "ALL PRIVILEGES"}:
            yield Notice(
                "ok", "privileges", "RELOAD: all connections get one snapshot behind a lock of some milliseconds"
            )
        else:
            said = (
                "RELOAD is not granted: all connections see one moment only if nothing is written for as long as it takes "
                "to begin, else moments a little apart"
            )
            yield Notice(
                "warning", "privileges", said, "GRANT RELOAD ON *.* TO the source's user, or quiet the source."
            )
        if not granted & _SEEING:
            yield Notice("ok", "privileges", "PROCESS is not granted: the load by others is not seen")

    @cached_property
    def _granted(self) -> frozenset[str]:
        """The privileges on the whole server."""
        return granted(str(grant) for (grant,) in self._catalogue.query("SHOW GRANTS"))

    def _log(self, watermark: Watermark | None, seconds: int) -> Iterator[Notice]:
        on, form = (self._variable(name) for name in ("log_bin", "binlog_format"))
        if on == "OFF":
            hint = "For a change feed after the load: log_bin and binlog_format=ROW in the server's configuration."
            yield Notice("warning", "binary log", "it is off: nothing can take over the changes after the load", hint)
            return
        if watermark is None:
            grant = "BINLOG MONITOR" if self._maria and self._version >= (10, 5) else "REPLICATION CLIENT"
            hint = f"GRANT {grant} ON *.* TO the source's user."
            yield Notice("warning", "binary log", "its position may not be read: there is no watermark", hint)
        if form and form.upper() != "ROW":
            hint = "SET GLOBAL binlog_format = 'ROW' before the load."
            yield Notice("warning", "binary log", f"its format is {form}: a change feed needs ROW", hint)
        kept = self._kept()
        took = ready.took(seconds)
        if kept and kept < 2 * seconds:
            hint = "Raise binlog_expire_logs_seconds (or expire_logs_days) for the time of the migration."
            yield Notice("warning", "binary log", f"it is kept for {kept / 3600:.1f} h, and {took}", hint)
        else:
            yield Notice(
                "ok", "binary log", f"kept {f'for {kept / 3600:.0f} h' if kept else 'until it is purged'}; {took}"
            )

    def _kept(self) -> float:
        """Seconds that the binary log is kept; 0: for ever."""
        for variable, unit in (("binlog_expire_logs_seconds", 1), ("expire_logs_days", 86_400)):
            if kept := float(self._variable(variable) or 0):
                return kept * unit
        return 0

    def _variable(self, name: str) -> str:
        """A global variable of the server; "" where its version does not have it."""
        found = self._catalogue.query(f"SHOW GLOBAL VARIABLES LIKE '{name}'")
        return str(found[0][1]) if found else ""

    def _readable(self, relation: Relation) -> Iterator[Notice]:
        """Whether all of its columns may be read: the catalogue hides those that are not granted."""
        table = self.quoted(relation.schema, relation.table)
        self._fetch_none(relation)
        try:
            self._catalogue.query(f"SELECT * FROM {table} LIMIT 0")
        except SourceError:
            said = f"only {len(relation.fields)} of its columns may be read; the others are not even seen"
            yield Notice("warning", relation.name, said, f"GRANT SELECT ON {table} TO the source's user.")

    def _fetch_none(self, relation: Relation) -> None:
        """Raises what the server says where the columns may not be read."""
        names = ", ".join(self.quoted(f.name) for f in relation.fields)
        self._catalogue.query(f"SELECT {names} FROM {self.quoted(relation.schema, relation.table)} LIMIT 0")

    def _unheld(self, relation: Relation) -> Iterator[Notice]:
        engine = str(self._named(relation.name)[3] or "")
        if engine and engine.lower() not in _TRANSACTIONAL and not self._options.quiesced:
            said = f"its engine is {engine}: no snapshot holds it still, and what is written meanwhile is read or not"
            hint = (
                "Let nobody write to it during the load (then say `quiesced: true`), or ALTER TABLE … ENGINE = InnoDB."
            )
            yield Notice("warning", relation.name, said, hint)

    def doubts(self, relation: Relation, /) -> Mapping[str, str]:
        """Among the first rows: dates that are none, and UTF-8 in columns that say otherwise. Of a view, only if it can be read.

        The first rows of a view may cost as much as all of them.
        """
        if self._named(relation.name)[2] == "VIEW":
            self._fetch_none(relation)
            return {}
        return {**self._no_dates(relation), **self._encodings(relation)}

    def _no_dates(self, relation: Relation) -> dict[str, str]:
        """Columns with a date that has no year, month or day."""
        dated = [f for f in relation.fields if bare(f.native) in ("date", "datetime", "timestamp") and not f.null]
        dated = [f for f in dated if not pa.types.is_string(f.type)]
        if not dated:
            return {}
        names = [self.quoted(f.name) for f in dated]
        # An index that holds all of the columns would be read instead of the first rows: that is as good a sample.
        sample = f"SELECT {', '.join(names)} FROM {self.quoted(relation.schema, relation.table)} LIMIT {SAMPLE}"
        sums = ", ".join(f"SUM(YEAR({name}) = 0 OR MONTH({name}) = 0 OR DAYOFMONTH({name}) = 0)" for name in names)
        [counts] = self._catalogue.query(f"SELECT COUNT(*), {sums} FROM ({sample}) s")
        return {
            f.name: f"{int(count):,} of the first {int(counts[0]):,} are dates such as 0000-00-00, which reject their row: "
            "the source's `zero_dates` says otherwise"
            for f, count in zip(dated, counts[1:], strict=True)
            if int(count or 0)
        }

    def _encodings(self, relation: Relation) -> dict[str, str]:
        """Columns that are declared as latin1 and hold the bytes of UTF-8: a sample of values that are not plain ASCII."""
        table = self.quoted(relation.schema, relation.table)
        found: dict[str, str] = {}
        for each in relation.fields:
            if "CONVERT(" not in each.select:
                continue
            name = self.quoted(each.name)
            sample = self._catalogue.query(
                f"SELECT HEX(s.v) FROM (SELECT {name} v FROM {table} LIMIT {SAMPLE}) s "
                "WHERE LENGTH(CONVERT(s.v USING utf8mb4)) > CHAR_LENGTH(s.v)"
            )
            found |= ready.mistaken(each.name, [bytes.fromhex(text) for (text,) in sample])
        return found

    # ------------------------------------------------------------------------------------------------------------- SQL

    def quoted(self, *names: str) -> str:
        return ".".join(map(_name, names))

    def literal(self, field: Field, text: str, /) -> str:
        """Of the column's own kind: a number that is compared with a text is compared as a double, and loses digits."""
        native = bare(field.native)
        if native in NUMBERS:
            return text
        if native in BYTES:
            return f"x'{text}'"
        return _text(text)

    def boundary(self, relation: Relation, where: str, rows: int, /) -> str:
        names = [self.quoted(name) for name in relation.ranged]
        texts = []
        for name, quoted in zip(relation.ranged, names, strict=True):
            native = bare(relation.field(name).native)
            shown = f"HEX({quoted})" if native in BYTES else quoted
            texts.append(f"CAST(CONVERT({shown} USING utf8mb4) AS BINARY)" if native in TEXTS else shown)
        limited = f"ORDER BY {', '.join(names)} LIMIT 1 OFFSET {rows - 1}"
        condition = f" WHERE {where}" if where else ""
        return f"SELECT {', '.join(texts)} FROM {self.quoted(relation.schema, relation.table)}{condition} {limited}"

    def measure(self, field: Field, measure: Measure, /) -> str | None:
        quoted = self.quoted(field.name)
        if field.null:
            quoted = f"NULLIF({quoted}, {_text(field.null)})"
        if measure.quantity == "values":
            return f"COUNT({quoted if field.nullable or field.null else '*'})"  # which reads no value
        values = {
            "number": f"{quoted}+0" if bare(field.native) in ("year", "bit") else quoted,
            "real": field.select,
            "boolean": f"{quoted}+0",
            "day": f"TO_DAYS({quoted}) - 719528",  # DATEDIFF reads the other day anew for each row
            "moment": f"TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', {quoted})",
            "text": self._unicode(field, "text"),
            "padded": self._unicode(field, "padded"),
            "bytes": quoted,
        }
        value = values.get(measure.kind)
        if value is None:
            return None
        ways = {
            "sum": f"SUM({value})",
            "least": f"MIN({value})",
            "most": f"MAX({value})",
            "length": f"SUM({'LENGTH' if measure.kind == 'bytes' else 'CHAR_LENGTH'}({value}))",
            "digest": _digest(value, 8),
        }
        return ways[measure.quantity]

    def together(self, parts: Sequence[tuple[Field, Kind]], /) -> str | None:
        """None where they might be longer than a packet: the server makes NULL of that."""
        most = [most_bytes(field) for field, _ in parts]
        if None in most or sum(filter(None, most)) + len(most) > self._packet:
            return None
        told = ", ".join(f"IFNULL({self._unicode(field, kind)}, x'1d')" for field, kind in parts)
        return _digest(f"CONCAT_WS(x'1c', {told})", 15)

    def _unicode(self, field: Field, kind: Kind) -> str:
        text = f"CONVERT({self.quoted(field.name) if field.strange else field.select} USING utf8mb4)"
        return f"TRIM(TRAILING ' ' FROM {text})" if kind == "padded" else text

    @cached_property
    def _packet(self) -> int:
        [(packet,)] = self._catalogue.query("SELECT @@max_allowed_packet")
        return int(packet)

    def slices(self, relation: Relation, session: Session, rows: int, /) -> Iterator[Slice]:
        yield Slice(own="all")

    def within(self, slice_: Slice, /) -> str:
        return ""

    # -------------------------------------------------------------------------------------------------------- sessions

    def open(self, count: int, /) -> Opened:
        """Sessions in one snapshot: behind a lock of a few milliseconds, or between two equal positions of the log."""
        sessions = several(count, self._connected)
        try:
            for held in (self._locked, *[self._between] * _TRIES):
                with held() as same:
                    for session in sessions:
                        session.begin()
                    found = same()
                if found is not None:
                    return self._opened(sessions, found)
            for session in sessions:
                session.begin()
        except BaseException:
            for session in sessions:
                session.close()
            raise
        note = (
            "live: each connection has a snapshot of its own, a little apart from the others' "
            "(RELOAD was not granted, and the log never stood still)"
        )
        return Opened(sessions, self._view, False, self._position(), note)

    def _opened(self, sessions: Sequence["_Connection"], found: Watermark | str) -> Opened:
        watermark = found if isinstance(found, Watermark) else None
        if self._view == "pinned":
            return Opened(sessions, "pinned", True, watermark, "pinned: declared as quiesced")
        note = "live: one snapshot for all connections, which ends with this command"
        return Opened(sessions, "live", True, watermark, note + ("" if watermark else "; it has no binary log"))

    @property
    def _view(self) -> View:
        return "pinned" if self._options.quiesced else "live"

    @contextmanager
    def _locked(self) -> Iterator[Callable[[], Watermark | str | None]]:
        """Nothing is written meanwhile; None where the lock is not granted, or somebody works too long to wait for it."""
        lock = self._connected()
        try:
            lock.query(f"SET SESSION lock_wait_timeout = {_LOCK_SECONDS}")
            try:
                lock.query("FLUSH TABLES WITH READ LOCK")
            except MigrateError:
                yield lambda: None
                return
            yield lambda: self._position() or "locked"
            lock.query("UNLOCK TABLES")
        finally:
            lock.close()

    @contextmanager
    def _between(self) -> Iterator[Callable[[], Watermark | str | None]]:
        """Nothing was written meanwhile if the log has not moved; without a log nobody can tell."""
        before = self._position()
        yield lambda: before if before is not None and self._position() == before else None

    def _position(self) -> Watermark | None:
        """The end of the binary log: as GTIDs where the server has them."""
        catalogue = self._catalogue
        try:
            if self._maria:
                [(gtid,)] = catalogue.query("SELECT @@global.gtid_binlog_pos")
            else:
                [(mode, gtid)] = catalogue.query("SELECT @@global.gtid_mode, @@global.gtid_executed")
                gtid = str(gtid).replace("\n", "") if mode == "ON" else ""
            if gtid:
                return Watermark("gtid", str(gtid))
            statement = (
                "SHOW BINARY LOG STATUS" if self._version >= (8, 4) and not self._maria else "SHOW MASTER STATUS"
            )
            found = catalogue.query(statement)
        except SourceError:  # REPLICATION CLIENT is not granted
            return None
        return Watermark("binlog", f"{found[0][0]}:{found[0][1]}") if found else None

    def close(self) -> None:
        """The connection for questions of the catalogue; one asked later makes another."""
        self._catalogue.close()

    def reopen(self) -> Session:
        session = self._connected()
        session.begin()
        return session

    def _connected(self) -> "_Connection":
        return _Connection(self._url, self._quoted)

    @cached_property
    def _catalogue(self) -> Catalogue:
        return Catalogue(self._connected)

    @cached_property
    def version(self) -> str:
        [(version,)] = self._catalogue.query("SELECT VERSION()")
        return str(version)

    @property
    def _maria(self) -> bool:
        return "mariadb" in self.version.lower()

    @property
    def _version(self) -> tuple[int, ...]:
        numbers = self.version.partition("-")[0].split(".")
        return tuple(int(n) for n in numbers if n.isdigit())


class _Connection:
    """`Session` over PyMySQL."""

    def __init__(self, url: DatabaseUrl, quoted: set[str] | None = None) -> None:
        """`quoted` are the relations, shared by all sessions, of which a value holds a sign of the plain spelling."""
        self._url = url
        self._quoted = set() if quoted is None else quoted
        self._connection = _connect(url)
        # A snapshot is gone with its connection: it is kept while the others work, and while a slow reader takes its time.
        kept = "wait_timeout = 604800, net_write_timeout = 3600, net_read_timeout = 3600"
        # What the server's configuration says of others' statements would end ours in silence after so many rows.
        kept += ", sql_select_limit = 18446744073709551615, sql_big_selects = 1"
        # An ALTER TABLE waits for the end of our transactions, and who reads the table anew waits for it: neither would ever end.
        kept += f", lock_wait_timeout = {_DDL_SECONDS}"
        self.query(f"SET SESSION time_zone = '+00:00', sql_mode = '', group_concat_max_len = 1048576, {kept}")
        [(packet, host, port, number)] = self.query("SELECT @@max_allowed_packet, @@hostname, @@port, CONNECTION_ID()")
        self._packet = int(packet)
        self.server, self.number = f"{host}:{port}", int(number)
        _OURS.add((self.server, self.number))

    def begin(self) -> None:
        """Read in one snapshot from here on."""
        self.query("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        self.query("START TRANSACTION WITH CONSISTENT SNAPSHOT")

    def query(self, sql: str, /) -> list[tuple[Any, ...]]:
        with _explained(self._url):
            cursor = self._connection.cursor()
            cursor.execute(sql)
            return [tuple(_decoded(value) for value in row) for row in cursor.fetchall()]

    def stream(self, select: Select, /) -> Iterator[pa.RecordBatch]:
        relation = ".".join(_name(part) for part in (select.relation.schema, select.relation.table))
        where = f" WHERE {select.where}" if select.where else ""
        block = None if select.slice.own else self._block(select, relation, where)
        if block is not None:
            yield from block
            return
        ranged = ", ".join(_name(name) for name in select.relation.ranged)
        order = f" ORDER BY {ranged}" if ranged else ""
        beside = self._too_long(select.fields)
        values = [f"IF({is_long}, {_raw(select.fields[at])}, '')" for at, is_long in beside.items()]
        row = ", ".join([row_of(select.fields, QUOTED, beside), *values])
        yield from self._rows(f"SELECT {row} FROM {relation}{where}{order}", select, list(beside))

    def _too_long(self, fields: Sequence[Field]) -> dict[int, str]:
        """SQL of whether a value is so long that the server may make NULL of its text, by the places of the fields.

        It does so, with no more than a warning, where the result of a function exceeds max_allowed_packet. A text takes up to
        four times the bytes of its value, and all of them stand in one row.
        """
        places = [at for at, each in enumerate(fields) if bare(each.native) in LONG]
        most = self._packet // (4 * (len(places) + 1))
        return {at: f"COALESCE(LENGTH({_name(fields[at].name)}), 0) > {most}" for at in places}

    def _block(self, select: Select, relation: str, where: str) -> list[pa.RecordBatch] | None:
        """All rows in one text; None where the server cannot put as much into one."""
        limit = min(self._packet, 4 * select.bytes)
        whole = _whole_numbers(select)
        index = f" FORCE INDEX ({_name(select.relation.index)})" if whole else ""
        order = "" if whole else f" ORDER BY {', '.join(_name(name) for name in select.relation.ranged)}"
        self.query(f"SET SESSION group_concat_max_len = {limit}")
        for spelling in (QUOTED,) if relation in self._quoted else (PLAIN, QUOTED):
            counted = nulls(select.fields) if spelling is PLAIN else "0"
            longer = " OR ".join(self._too_long(select.fields).values())
            longer = f"COALESCE(MAX({longer}), 0)" if longer else "0"
            texts = f"GROUP_CONCAT({row_of(select.fields, spelling)}{order} SEPARATOR {literal(spelling.after)})"
            with _explained(self._url):
                cursor = self._connection.cursor()
                cursor.execute(f"SELECT COUNT(*), {counted}, {longer}, {texts} FROM {relation}{index}{where}")
                [(found, null_count, too_long, text)] = cursor.fetchall()
            count = int(found)
            if count and (text is None or len(text) >= limit or int(too_long)):
                return None
            if not count:
                return []
            if spelling is PLAIN:
                cells = surely(text, select.fields, count, int(null_count))
                if cells is None:
                    self._quoted.add(relation)
                    continue
            else:
                cells = parsed(text, select.fields, QUOTED)
            if cells.num_rows != count:
                raise InternalError(f"{select.relation.name}: {count} rows were counted, and {cells.num_rows} arrived")
            return [in_order(cells, select.fields, whole)]
        raise AssertionError("the second spelling always returns")

    def _rows(self, sql: str, select: Select, beside: Sequence[int]) -> Iterator[pa.RecordBatch]:
        """Row by row, as many at a time as make `bytes`; `beside` are the fields whose long values come beside their row."""
        with _explained(self._url):
            cursor = self._connection.cursor(SSCursor)
            cursor.execute(sql)
        done = False
        try:
            lines: list[bytes] = []
            long: dict[int, dict[int, bytes]] = {}
            size = 0
            while True:
                with _explained(self._url):
                    row = cursor.fetchone()
                if row is None:
                    done = True
                elif None in row:
                    raise SourceError(
                        f"{select.relation.name}: a row is longer than the {self._packet:,} bytes that the server makes of one",
                        hint="Raise max_allowed_packet at the source's server.",
                    )
                else:
                    for at, value in zip(beside, row[1:], strict=True):
                        if value:
                            long.setdefault(at, {})[len(lines)] = value
                    lines.append(row[0])
                    size += sum(map(len, row))
                if lines and (done or size >= select.bytes):
                    yield put(parsed(b"".join(lines), select.fields, QUOTED), select.fields, long)
                    lines, long, size = [], {}, 0
                if done:
                    return
        finally:
            if not done:
                self._cancel()
            with suppress(pymysql.Error, OSError):
                cursor.close()

    def _cancel(self) -> None:
        """End the running statement at the server; the transaction, and so the snapshot, stays."""
        with suppress(MigrateError):
            killer = _Connection(self._url)
            killer.query(f"KILL QUERY {self.number}")
            killer.close()

    def close(self) -> None:
        _OURS.discard((self.server, self.number))
        with suppress(pymysql.Error, OSError):
            self._connection.close()


def _uncut(part: Sequence[Any], column: Described | None) -> str:
    """Why slices cannot be cut by a part of an index, from its row of the catalogue; "" where they can."""
    _, _, name, prefix, _, kind = part
    if column is None:
        return f"column {name} may not be read" if name else "it is of an expression"
    if prefix is not None:
        return f"it holds only the beginning of column {name}"
    native = bare(column.field.native)
    if not column.comparable:
        return f"column {name} is {'an' if native[0] in 'aeiou' else 'a'} {native}"
    return "" if kind == "BTREE" else f"it is of the kind {kind}"


def _digest(value: str, digits: int) -> str:
    return f"SUM(CAST(CONV(LEFT(MD5({value}), {digits}), 16, 10) AS UNSIGNED))"


def _raw(field: Field) -> str:
    """SQL of a long value that no function makes longer: the server puts texts into UTF-8 only as it sends them."""
    if field.strange:
        return f"IF(COALESCE({field.select} NOT LIKE '{field.strange}%', FALSE), {_name(field.name)}, NULL)"
    if bare(field.native) in TEXTS and field.select == _name(field.name):
        return f"CAST({field.select} AS BINARY)"
    return _name(field.name) if bare(field.native) in BYTES | TEXTS else field.select


def granted(grants: Iterable[str]) -> frozenset[str]:
    """The privileges on the whole server among the rows of SHOW GRANTS."""
    found = (re.match(r"GRANT (.*?) ON \*\.\* TO ", grant) for grant in grants)
    # MySQL 8 has rows of their own for its dynamic privileges, without a blank between them.
    return frozenset(name.strip() for grant in found if grant for name in grant[1].upper().split(","))


def _whole_numbers(select: Select) -> list[int]:
    """Where among the fields the columns of a key of whole numbers are; [] for any other key.

    Such rows are put in order here: the server reads them by the key's index anyway, and sorting costs it half as much again.
    """
    if not select.relation.key or select.relation.key != select.relation.ranged:
        return []
    kinds = {f.name: f.type for f in select.fields}
    if not all(name in kinds and pa.types.is_integer(kinds[name]) for name in select.relation.key):
        return []
    names = [f.name for f in select.fields]
    return [names.index(name) for name in select.relation.key]


# ----------------------------------------------------------------------------------------------------------- the driver


def _connect(url: DatabaseUrl) -> "pymysql.connections.Connection[Any]":
    options = url.options
    arguments: dict[str, Any] = {}
    if options.get("ssl", "").lower() in ("1", "true", "yes", "") and any(o.startswith("ssl") for o in options):
        try:
            arguments["ssl"] = _tls(options)
        except OSError as error:
            files = ", ".join(options[name] for name in ("ssl_ca", "ssl_cert", "ssl_key") if name in options)
            raise UsageError(
                f"no TLS with {files or 'the certificates of this machine'}: {error.strerror or error}",
                hint="Check ssl_ca, ssl_cert and ssl_key in the source's URL: files in PEM.",
            ) from error
    timeout = options.get("connect_timeout", "10")
    if not timeout.isascii() or not timeout.isdigit() or not 0 < int(timeout) <= _LONGEST_TIMEOUT:
        raise UsageError(
            "connect_timeout in the source's URL is no number of seconds", hint="Write connect_timeout=10."
        )
    if "unix_socket" in options:
        arguments["unix_socket"] = options["unix_socket"]
    where = (url.options.get("unix_socket") or url.host or "localhost", url.port or 3306)
    try:
        with _explained(url):
            connection = pymysql.connect(
                host=url.host or "localhost",
                port=url.port or 3306,
                user=url.user,
                password=url.password.encode(),  # which PyMySQL would do in latin1
                database=url.database,
                charset="utf8mb4",
                use_unicode=False,
                autocommit=True,
                conv={},
                connect_timeout=int(timeout),
                read_timeout=int(timeout),
                **arguments,
            )
    except (MigrateError, struct.error, IndexError) as error:
        why = _no_greeting(error, int(timeout))
        if not why or where in _GREETED:
            raise
        raise SourceError(
            f"{where[0]}:{where[1]}: nothing there speaks MySQL: {why}",
            hint="Check host and port in the source's URL; connect_timeout=60 in it waits longer for a slow server.",
        ) from error
    connection._read_timeout = None  # type: ignore[attr-defined]  # only the greeting and the login are waited for so
    _GREETED.add(where)
    return connection


def _no_greeting(error: Exception, seconds: int) -> str:
    """What is wrong with what a server has said first; "" where it may be MySQL nevertheless."""
    cause = error.__cause__
    if isinstance(cause, pymysql.err.OperationalError) and cause.args[0] == 2013 and "timed out" in str(cause):
        return f"no answer within {seconds} s"
    foreign = not isinstance(error, MigrateError) or isinstance(cause, pymysql.err.InternalError)
    return "what it says is something else" if foreign else ""


def _tls(options: Mapping[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options.get("ssl_ca"))
    context.check_hostname = options.get("ssl_verify_identity", "true").lower() not in ("0", "false", "no")
    if "ssl_ca" not in options and not context.check_hostname:
        context.verify_mode = ssl.CERT_NONE
    if "ssl_cert" in options:
        context.load_cert_chain(options["ssl_cert"], options.get("ssl_key"))
    return context


@contextmanager
def _explained(url: DatabaseUrl) -> Iterator[None]:
    """Turn the driver's errors into ours."""
    where = url.options.get("unix_socket") or f"{url.host or 'localhost'}:{url.port or 3306}"
    try:
        yield
    except (pymysql.Error, OSError) as error:
        code, said = (error.args[0], error.args[-1]) if error.args else (0, "")
        if isinstance(said, bytes):
            said = said.decode("utf-8", "replace")
        message = f"{where}: {said} ({code})"
        if isinstance(error, OSError | pymysql.err.InterfaceError) or code in _LOST:
            raise RetryableError(
                message, hint=_HINTS.get(code, "Run the same command again: it goes on from there.")
            ) from error
        raise SourceError(message, hint=_HINTS.get(code, "")) from error


_HINTS = {
    1044: "The user may not use this database: GRANT SELECT ON database.* TO the source's user.",
    1045: "Check user and password in the source's URL; special characters are escaped there (@ is %40).",
    1049: "Check the database's name in the source's URL.",
    1142: "GRANT SELECT ON the table TO the source's user.",
    1143: "GRANT SELECT ON the table TO the source's user.",
    1040: "The server has no connection left: lower `connections`, or wait.",
    1205: "Somebody changes the table (SHOW PROCESSLIST: metadata lock), and waits for who reads it: end their statement.",
    1203: "Lower `connections` of this source, or raise the user's limit (max_user_connections).",
    1226: "Lower `connections` of this source, or raise the user's limit (MAX_USER_CONNECTIONS).",
    3159: "Add ?ssl=true to the source's URL, and ssl_ca=FILE where its certificate is of an authority of your own.",
    2026: "Take ssl out of the source's URL where the way there is safe; or set up TLS at the server.",
    2003: "Check host and port in the source's URL, and whether the server may be reached from here.",
    2002: "Check host and port in the source's URL, and whether the server may be reached from here.",
}


def _decoded(value: Any) -> Any:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def _text(value: str) -> str:
    """A text as SQL, whatever the sql_mode says of backslashes.

    A literal, not a CONVERT: that has a collation of its own, and does not compare with a column of another.
    """
    return f"_utf8mb4 x'{value.encode().hex()}'" if "\\" in value else "'" + value.replace("'", "''") + "'"


def _name(name: str) -> str:
    return f"`{name.replace('`', '``')}`"
