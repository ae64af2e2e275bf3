"""PostgreSQL as a source: the server spells every type that the driver would change, and all sessions share one snapshot.

A table without a key is cut by the places of its rows (ctid); partitions of a table are read as part of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from secrets import token_hex
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from connectors import ready
from connectors.keyrange import Slice
from connectors.postgresready import SEES_OTHERS, server_notices
from connectors.relational import Catalogue, Field, Opened, Relation, Select, Session, several, unknown_table
from connectors.sqlsession import Connection, Ways
from migrate.core import Kind, Measure, Notice, Reference, View, Watermark
from migrate.errors import SourceError

_OURS = f"migrate {token_hex(4)}"
"""What the connections of this process are called at the server: of several sources on one server, none is load to another."""

_PATIENCE = {"connect_timeout": "10"}  # seconds, where the URL does not say
_SETTINGS = (
    f"SET application_name = '{_OURS}'",
    "SET datestyle = 'ISO'",
    "SET intervalstyle = 'postgres'",
    "SET timezone = 'UTC'",
    "SET extra_float_digits = 3",
    "SET bytea_output = 'hex'",
    "SET standard_conforming_strings = on",
    "SET row_security = off",  # a row that the user may not see is to be an error, not missing
)
_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_INTEGERS = {"int2": pa.int16(), "int4": pa.int32(), "int8": pa.int64()}
_PLAIN = (
    "json",
    "jsonb",
    "uuid",
    "inet",
    "cidr",
    "macaddr",
    "macaddr8",
    "interval",
    "time",
    "timetz",
    "xml",
    "bit",
    "varbit",
)
_WIDEST = 38  # digits of a decimal128
_ASIDE = 2  # connections besides those that read: one asks the catalogue, one holds the snapshot
_TABLES = ("r", "p", "f")
_HEIRS = (
    "WITH RECURSIVE h AS (SELECT inhrelid FROM pg_inherits WHERE inhparent = {oid} "
    "UNION SELECT i.inhrelid FROM pg_inherits i JOIN h ON i.inhparent = h.inhrelid) "
    "SELECT c.oid::regclass::text FROM h JOIN pg_class c ON c.oid = h.inhrelid WHERE NOT c.relispartition ORDER BY 1"
)
"""Tables that inherit; a partition is a part of its table, and not listed for itself."""
_ALL_SCHEMAS = "n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname NOT LIKE 'pg\\_temp%'"


class Postgres:
    """`Engine` of PostgreSQL ≥ 12."""

    def __init__(self, url: sa.URL, *, quiesced: bool, connections: int) -> None:
        # Of a database that knows no encoding (SQL_ASCII) the driver would make bytes of every text, the version's too.
        arguments = {"client_encoding": "UTF8", **({} if "connect_timeout" in url.query else _PATIENCE)}
        self._engine = sa.create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=arguments)
        self._quiesced = quiesced
        self._connections = connections
        self._snapshot = ""
        self._holder: Connection | None = None

    # ------------------------------------------------------------------------------------------------------- catalogue

    def names(self) -> Sequence[str]:
        """The tables of the schema in which a name needs none; other ones, and views, are read where the project names them."""
        return [table for schema, table, kind in self._listed if schema == self._schema and kind in _TABLES]

    def offers(self) -> Sequence[tuple[str, str]]:
        """The views of that schema, and the tables and views of all others as schema.table."""
        return [
            (
                table if schema == self._schema else f"{schema}.{table}",
                "table of another schema" if kind in _TABLES else "view",
            )
            for schema, table, kind in self._listed
            if schema != self._schema or kind not in _TABLES
        ]

    @property
    def _listed(self) -> list[tuple[Any, ...]]:
        """(schema, table, kind) of all that can be read."""
        return self._ask(
            "SELECT n.nspname::text, c.relname::text, c.relkind::text "
            "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            f"WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND {_ALL_SCHEMAS} ORDER BY 1, 2"
        )

    @cached_property
    def _schema(self) -> str | None:
        """The one in which a name needs no schema; None where the user has none."""
        [(name,)] = self._ask("SELECT current_schema()::text")
        return None if name is None else str(name)

    def relation(self, name: str, /) -> Relation:
        oid, schema, table, kind, rows, size, twins = self._named(name)
        if kind == "p":
            [(rows, size)] = self._ask(
                "SELECT COALESCE(SUM(GREATEST(c.reltuples, 0)), 0)::int8, COALESCE(SUM(pg_table_size(c.oid)), 0)::int8 "
                f"FROM pg_partition_tree({oid}) t JOIN pg_class c ON c.oid = t.relid WHERE t.isleaf AND c.relkind = 'r'"
            )
        columns = self._ask(
            "SELECT a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull, t.typtype::text, "
            "CASE t.typtype WHEN 'd' THEN b.typname ELSE t.typname END::text, "
            "CASE t.typtype WHEN 'd' THEN format_type(t.typbasetype, t.typtypmod) ELSE format_type(a.atttypid, a.atttypmod) END "
            "FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type b ON b.oid = t.typbasetype "
            f"WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
        )
        fields = tuple(_field(*row) for row in columns)
        key, ranged, nullable = self._keys(oid)
        notes = []
        if kind != "r" and not ranged:
            notes.append(
                "it has no index to cut it by: it is one slice, read in one go, and resumed from its beginning"
            )
        elif not ranged:
            notes.append("it has no index to cut it by: it is cut by the places of its rows (ctid)")
        elif not key:
            notes.append(f"it has no unique key: it is cut by the index on {ranged[0]}")
        if heirs := [heir for (heir,) in self._ask(_HEIRS.format(oid=oid))]:
            notes.append(
                f"its rows are also those of {', '.join(heirs)}, which inherit from it: load either it or them"
            )
        if twins:
            notes.append(f"there is also {', '.join(twins)}, whose name differs in case only")
        names = [f.name.lower() for f in fields]
        if len(set(names)) < len(names):
            notes.append("some of its columns' names differ in case only")
        rows = max(0, int(rows))
        row_bytes = int(size) // rows if rows else 0
        return Relation(name, schema, table, fields, key, ranged, nullable, rows, row_bytes, tuple(notes))

    def _named(self, name: str) -> tuple[Any, ...]:
        """(oid, schema, table, kind, rows, bytes, names that differ in case only)."""
        candidates = [("current_schema()", name)]
        candidates += [(_text(name[:i]), name[i + 1 :]) for i, letter in enumerate(name) if letter == "."]
        for schema, table in candidates:
            found = self._ask(
                "SELECT c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text, c.reltuples::int8, "
                "CASE WHEN c.relkind IN ('r', 'm') THEN pg_table_size(c.oid) ELSE 0 END "
                "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
                f"WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname = {schema} "
                f"AND lower(c.relname) = lower({_text(table)})"
            )
            exact = [row for row in found if row[2] == table] or (found if len(found) == 1 else [])
            if exact:
                return (*exact[0], [row[2] for row in found if row[2] != exact[0][2]])
        raise unknown_table(name, [*self.names(), *(offered for offered, _ in self.offers())])

    def _keys(self, oid: int) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
        """The columns that identify a row, those to cut by, and whether the latter may be NULL."""
        indexes = self._ask(
            "SELECT i.indisunique AND i.indimmediate, bool_and(a.attnotnull), array_agg(a.attname::text ORDER BY k.n) "
            "FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam AND m.amname = 'btree' "
            "CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, n) "
            "JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum "
            f"WHERE i.indrelid = {oid} AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND k.n <= i.indnkeyatts "
            "GROUP BY i.indexrelid, i.indisprimary, i.indisunique, i.indimmediate, c.relname "
            "ORDER BY i.indisprimary DESC, i.indisunique DESC, count(*), c.relname"
        )
        for unique, sure, columns in indexes:
            if unique and sure:
                return tuple(columns), tuple(columns), False
        if not indexes:
            return (), (), False
        leading = indexes[0][2][0]
        [(sure,)] = self._ask(
            f"SELECT attnotnull FROM pg_attribute WHERE attrelid = {oid} AND attname = {_text(leading)}"
        )
        return (), (leading,), not sure

    def references(self, relation: Relation, /) -> list[Reference]:
        rows = self._ask(
            "SELECT f.oid::int8, a.attname::text, n.nspname::text, c.relname::text, b.attname::text FROM pg_constraint f "
            "JOIN pg_class c ON c.oid = f.confrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
            "CROSS JOIN LATERAL unnest(f.conkey, f.confkey) WITH ORDINALITY k(here, there, n) "
            "JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.here "
            "JOIN pg_attribute b ON b.attrelid = f.confrelid AND b.attnum = k.there "
            # A reference to or from a partitioned table has a copy for each partition.
            f"WHERE f.contype = 'f' AND f.conparentid = 0 AND f.conrelid = {self._named(relation.name)[0]} "
            "ORDER BY f.conname, k.n"
        )
        return ready.references(rows, self._schema or "")

    def load(self) -> int | None:
        """The statements of others, whoever's, of the whole server; None for a user who does not see those of other users.

        A target on the same server is no load either: what this machine's `migrate` does there.
        """
        [(sees,)] = self._ask(SEES_OTHERS)
        if not sees:
            return None
        [(running,)] = self._ask(
            "SELECT count(*) FROM pg_stat_activity s, (SELECT client_addr FROM pg_stat_activity WHERE pid = pg_backend_pid()) me "
            "WHERE s.backend_type = 'client backend' AND s.state IN ('active', 'fastpath function call') "
            f"AND s.application_name <> '{_OURS}' "
            "AND NOT (s.application_name = 'migrate' AND s.client_addr IS NOT DISTINCT FROM me.client_addr)"
        )
        return int(running)

    # -------------------------------------------------------------------------------------------------------- preflight

    def preflight(self, relations: Sequence[Relation], watermark: Watermark | None) -> Iterator[Notice]:
        """The server, then each table; nothing that takes long."""
        live = not self._quiesced and not self._read_only
        yield from server_notices(self._ask, self._connections + _ASIDE, ready.seconds(relations), watermark, live)
        yield from ready.tables(relations, lambda r: chain(self._readable(r), self._unheld(r)), self.doubts)

    def _readable(self, relation: Relation) -> Iterator[Notice]:
        """Raises what the server says where no column may be read, or rows are hidden from this user."""
        hidden = self._hidden(relation)
        self._fetch_none(relation, hidden)
        if hidden:
            said = f"columns that may not be read: {', '.join(sorted(hidden))}"
            table = self.quoted(relation.schema, relation.table)
            yield Notice("warning", relation.name, said, f"GRANT SELECT ON {table} TO the source's user.")

    def _hidden(self, relation: Relation) -> set[str]:
        """The columns that are not granted."""
        rows = self._ask(
            f"SELECT attname::text FROM pg_attribute WHERE attrelid = {self._named(relation.name)[0]} AND attnum > 0 "
            "AND NOT attisdropped AND NOT has_column_privilege(attrelid, attnum, 'SELECT')"
        )
        return {name for (name,) in rows}

    def _fetch_none(self, relation: Relation, hidden: set[str]) -> None:
        names = [self.quoted(f.name) for f in relation.fields if f.name not in hidden]
        self._ask(f"SELECT {', '.join(names) or '*'} FROM {self.quoted(relation.schema, relation.table)} LIMIT 0")

    def _unheld(self, relation: Relation) -> Iterator[Notice]:
        if self._named(relation.name)[3] == "f" and not self._quiesced:
            said = "it is a foreign table: no snapshot of this server holds it, and what is written meanwhile is read or not"
            hint = "Let nobody write to it during the load (then say `quiesced: true`), or read its own server."
            yield Notice("warning", relation.name, said, hint)

    def doubts(self, relation: Relation, /) -> Mapping[str, str]:
        """Among the first rows of a table: moments and numbers that are none, as infinity and NaN."""
        hidden = self._hidden(relation)
        self._fetch_none(relation, hidden)
        if self._named(relation.name)[3] in ("v", "f"):  # the first rows may cost as much as all of them
            return {}
        fields = [f for f in relation.fields if f.name not in hidden and _may_be_none(f)]
        if not fields:
            return {}
        reader = Connection(self._engine, Ways(lambda: (*_SETTINGS, _BEGIN), self._spell_first, server_texts=True))
        try:
            return ready.rejecting(fields, reader.stream(Select(relation, tuple(fields), "", 8 << 20, Slice())))
        finally:
            reader.close()

    def _spell_first(self, select: Select) -> str:
        """Any rows, those that come first: in no order, which would read all of them."""
        chosen = ", ".join(f.select for f in select.fields)
        table = self.quoted(select.relation.schema, select.relation.table)
        return f"SELECT {chosen} FROM {table} AS t LIMIT {ready.SAMPLE}"

    def _ask(self, sql: str) -> list[tuple[Any, ...]]:
        return self._catalogue.query(sql)

    @cached_property
    def _catalogue(self) -> Catalogue:
        return Catalogue(lambda: self._connected(_SETTINGS))

    # ------------------------------------------------------------------------------------------------------------- SQL

    def quoted(self, *names: str) -> str:
        return ".".join(_name(name) for name in names)

    def literal(self, field: Field, text: str, /) -> str:
        """Of no type of its own: the server takes it for one of the column's."""
        if pa.types.is_binary(field.type) and not text.startswith("\\x"):
            text = "\\x" + text
        return _text(text)

    def boundary(self, relation: Relation, where: str, rows: int, /) -> str:
        # With the table's name: a cast keeps the column's, and ORDER BY would take the text of that name.
        names = [f"t.{_name(name)}" for name in relation.ranged]
        condition = f" WHERE {where}" if where else ""
        limited = f"ORDER BY {', '.join(names)} LIMIT 1 OFFSET {rows - 1}"
        texts = ", ".join(f"{name}::text" for name in names)
        return f"SELECT {texts} FROM {self.quoted(relation.schema, relation.table)} AS t{condition} {limited}"

    def slices(self, relation: Relation, session: Session, rows: int, /) -> Iterator[Slice]:
        if not any("(ctid)" in note for note in relation.notes):
            yield Slice(own="all")
            return
        table = self.quoted(relation.schema, relation.table)
        [(pages,)] = session.query(
            f"SELECT pg_relation_size({_text(table)}::regclass) / current_setting('block_size')::int8"
        )
        each = int(pages) * rows // relation.rows if relation.rows else rows // 100
        each = max(1, each)
        starts = range(0, max(1, int(pages)), each)
        for start in starts:
            last = start + each >= int(pages)
            yield Slice(own=f"{start}:{'' if last else start + each}")

    def within(self, slice_: Slice, /) -> str:
        if slice_.own in (None, "all"):
            return ""
        start, _, end = str(slice_.own).partition(":")
        parts = [f"ctid >= '({int(start)},0)'::tid"] if int(start) else []
        parts += [f"ctid < '({int(end)},0)'::tid"] if end else []
        return " AND ".join(parts)

    def spell(self, select: Select) -> str:
        relation = select.relation
        where = f" WHERE {select.where}" if select.where else ""
        order = [f"t.{_name(name)}" for name in relation.ranged]
        if any("(ctid)" in note for note in relation.notes):
            order = ["t.ctid"]
        elif not relation.key:
            order.append('(t.*)::text COLLATE "C"')  # rows that are equal in all columns alone may change places
        chosen = ", ".join(f.select for f in select.fields)
        return f"SELECT {chosen} FROM {self.quoted(relation.schema, relation.table)} AS t{where} ORDER BY {', '.join(order)}"

    def measure(self, field: Field, measure: Measure, /) -> str | None:
        name = _name(field.name)
        if measure.quantity == "values":
            return f"count({name})"
        clock = f"({name} AT TIME ZONE 'UTC')" if pa.types.is_timestamp(field.type) and field.type.tz else name
        minute = f"extract(epoch FROM date_trunc('minute', {clock}))::int8::numeric * 1000000"
        values = {
            "number": f"{name}::int8" if "::int8" in field.select else name,  # an oid has no sum
            "real": f"{name}::float8",
            "boolean": f"{name}::int",
            "day": f"({name} - DATE '1970-01-01')",
            "moment": f"({minute} + extract(microseconds FROM {clock})::int8)",
            "text": _unicode(field, "text"),
            "padded": _unicode(field, "padded"),
            "bytes": name,
        }
        value = values.get(measure.kind)
        if value is None:
            return None
        if measure.kind in ("day", "moment"):
            # Infinity is in no sum; such a row is rejected, and asked for once more alike.
            value = f"CASE WHEN isfinite({name}) THEN {value} END"
        if measure.kind == "number" and pa.types.is_decimal(field.type):
            # Nor is NaN, which is the greatest number there.
            value = f"CASE WHEN abs({name}) < 1e{field.type.precision - field.type.scale} THEN {value} END"
        ways = {
            "sum": f"sum({value})::text",
            "least": f"min({value})::text",
            "most": f"max({value})::text",
            "length": f"sum({'octet_length' if measure.kind == 'bytes' else 'length'}({value}))",
            "digest": _digest(value, 8),
        }
        return ways[measure.quantity]

    def together(self, parts: Sequence[tuple[Field, Kind]], /) -> str:
        told = ", ".join(f"coalesce({_unicode(field, kind)}, chr(29))" for field, kind in parts)
        return _digest(f"concat_ws(chr(28), {told})", 15)

    # -------------------------------------------------------------------------------------------------------- sessions

    def open(self, count: int, /) -> Opened:
        """The position is read before the snapshot is made, which a session of its own holds open."""
        watermark = self._position()
        consistent = self._export()
        sessions = several(count, self.reopen)
        view: View = "pinned" if self._quiesced or self._read_only else "live"
        if view == "pinned":
            why = "declared as quiesced" if self._quiesced else "its database is read-only"
            return Opened(sessions, view, consistent, watermark, f"pinned: {why}")
        how = "one snapshot for all connections" if consistent else "each connection has a snapshot of its own"
        return Opened(sessions, view, consistent, watermark, f"live: {how}, which ends with this command")

    def _export(self) -> bool:
        holder = self._connected((*_SETTINGS, _BEGIN))
        try:
            [(self._snapshot,)] = holder.query("SELECT pg_export_snapshot()")
        except SourceError:  # a pooler or a relative of PostgreSQL that cannot
            holder.close()
            return False
        self._holder = holder
        return True

    def close(self) -> None:
        """The session that holds the snapshot open, and so the snapshot; and the one for questions of the catalogue."""
        self._catalogue.close()
        if self._holder is not None:
            self._holder.close()
            self._holder, self._snapshot = None, ""

    def reopen(self) -> Session:
        if self._snapshot:
            try:
                return self._connected((*_SETTINGS, _BEGIN, f"SET TRANSACTION SNAPSHOT {_text(self._snapshot)}"))
            except SourceError:  # who held it is gone, and with it the snapshot
                self._snapshot = ""
        return self._connected((*_SETTINGS, _BEGIN, "SELECT 1"))

    def _position(self) -> Watermark | None:
        try:
            [(standby,)] = self._ask("SELECT pg_is_in_recovery()")
            function = "pg_last_wal_replay_lsn" if standby else "pg_current_wal_lsn"
            [(lsn,)] = self._ask(f"SELECT {function}()::text")
        except SourceError:
            return None
        return Watermark("lsn", str(lsn)) if lsn else None

    @cached_property
    def _read_only(self) -> bool:
        """Whether the database is so by its own setting, and not by ours."""
        [(setting,)] = self._ask(
            "SELECT count(*) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase AND s.setrole = 0 "
            "WHERE d.datname = current_database() AND 'default_transaction_read_only=on' = ANY(s.setconfig)"
        )
        return bool(setting)

    def _connected(self, begin: Sequence[str]) -> Connection:
        return Connection(self._engine, Ways(lambda: begin, self.spell, server_texts=True))


# ------------------------------------------------------------------------------------------------------------- the types


def _field(name: str, native: str, nullable: bool, category: str, base: str, spelled: str) -> Field:
    """A column from its row of the catalogue. `base` and `spelled` are a domain's own type."""
    quoted = f"t.{_name(name)}"
    kind: pa.DataType = pa.string()
    select, suggested = f"{quoted}::text", ""
    modifier = [
        int(n)
        for n in spelled.partition("(")[2].partition(")")[0].replace(" ", "").split(",")
        if n.lstrip("-").isdigit()
    ]
    if base in _INTEGERS:
        kind, select = _INTEGERS[base], quoted
    elif base == "oid":
        kind, select, suggested = pa.int64(), f"{quoted}::int8", "bigint"
    elif base == "bool":
        kind, select = pa.bool_(), quoted
    elif base == "float4":
        kind = pa.float32()
    elif base == "float8":
        kind = pa.float64()
    elif base == "numeric":
        suggested = spelled
        if len(modifier) == 2 and modifier[0] <= _WIDEST and 0 <= modifier[1] <= modifier[0]:
            kind = pa.decimal128(*modifier)
    elif base == "money":
        select, suggested = f"{quoted}::numeric::text", "numeric"
    elif base == "date":
        kind = pa.date32()
    elif base == "timestamp":
        kind, suggested = pa.timestamp("us"), f"timestamp({modifier[0]})" if modifier else "timestamp"
    elif base == "timestamptz":
        kind, select = pa.timestamp("us", "UTC"), f"({quoted} AT TIME ZONE 'UTC')::text"
        suggested = f"timestamptz({modifier[0]})" if modifier else "timestamptz"
    elif base == "bytea":
        kind, select = pa.binary(), quoted
    elif base in ("varchar", "bpchar", "text"):
        # The blanks that fill a char(n) mean nothing, and a cast takes them off.
        select = f"{quoted}::text" if base == "bpchar" else quoted
        suggested = f"{'char' if base == 'bpchar' else 'varchar'}({modifier[0]})" if modifier else ""
    elif category != "e" and (
        base in _PLAIN or base.endswith("range") or (base.startswith("_") and "." not in spelled)
    ):
        suggested = spelled if category in "bdrm" else ""
    return Field(name, native, kind, select, nullable, suggested)


def _unicode(field: Field, kind: Kind) -> str:
    """SQL of a text. What fills a char(n) is not in it."""
    text = f"{_name(field.name)}::text"
    return f"rtrim({text}, ' ')" if kind == "padded" and not field.native.startswith("character(") else text


def _digest(value: str, digits: int) -> str:
    return f"sum(('x' || left(md5({value}), {digits}))::bit({4 * digits})::int8)"


def _may_be_none(field: Field) -> bool:
    """Whether PostgreSQL has values of the type that it is read as none of."""
    return bool(pa.types.is_temporal(field.type) or pa.types.is_decimal(field.type))


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
