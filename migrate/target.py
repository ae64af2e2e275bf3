"""PostgreSQL as the target: connect, read its catalogue, copy batches in, say what it refused."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pgpq
import psycopg
import pyarrow as pa
import pyarrow.csv
from pgpq.encoders import StringEncoderBuilder
from pgpq.schema import Jsonb
from psycopg import errors as pgerrors
from psycopg.rows import scalar_row

from mappings.ddl import columns, quote
from migrate import checksum
from migrate.core import Check, Column, ForeignKey, TargetTable, Wire
from migrate.errors import MigrateError, RetryableError, TargetError

LEDGER = "migrate_ledger"
"""The schema of the ledger."""


class Connection(psycopg.Connection[Any]):
    """A connection to the target that knows in which schema its ledger is: a dry run has a shadow of it."""

    ledger: str = LEDGER


ROW_FAULTS = frozenset({"22", "23"})
"""SQLSTATE classes that one row's values cause: data exceptions and constraint violations."""

# A key too large for its index, JSON nested too deep, and a trigger's RAISE EXCEPTION are one row's fault as well.
_ROW_FAULT_STATES = frozenset({"54000", "54001", "P0001"})

RETRIED = frozenset({"08", "40", "53", "57"})
"""SQLSTATE classes that pass: connections, serialization and deadlocks, resources, operator intervention."""

# A writer that has become a reader after a failover, a lock not granted in time.
_RETRIED_STATES = frozenset({"25006", "55P03"})

MAX_REFUSALS = 64
"""Rows of one chunk that the server may refuse before the chunk fails: past that, it is the mapping that is wrong."""

_COPY_ROWS = 16_384


# ---------------------------------------------------------------------------------------------------------- connecting


def connect(url: str, *, application: str = "migrate", ledger: str = LEDGER) -> Connection:
    """A connection in autocommit, so that every transaction is spelled out. Raises RetryableError or TargetError.

    Nothing is prepared on the server and nothing is SET for the session: both break behind a transaction pooler.
    """
    try:
        connection = Connection.connect(
            url,
            autocommit=True,
            # What is sent is UTF-8, whatever PGCLIENTENCODING, the role or the database would have it be.
            client_encoding="UTF8",
            application_name=application,
            connect_timeout=10,
            keepalives_idle=30,
            keepalives_interval=10,
            keepalives_count=3,
            prepare_threshold=None,
        )
    except psycopg.Error as error:
        raise explain(error, doing="connect to the target") from None
    # Fencing reads what others committed while a lock was waited for: a snapshot taken before would be blind to it.
    connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    connection.ledger = ledger
    return connection


def passing(error: psycopg.Error) -> bool:
    """Whether trying again may help. An error without a SQLSTATE is a lost connection."""
    state = error.sqlstate
    if state is None:
        return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    return state[:2] in RETRIED or state in _RETRIED_STATES


def explain(error: psycopg.Error, *, doing: str, personal: bool = False) -> MigrateError:
    """Any error of the driver as ours, without row values and without the connection's secrets.

    `personal`: what functions and triggers of users say may quote a personal value, and is left out.
    """
    state, text = error.sqlstate, without_values(error.sqlstate, _primary(error), personal=personal)
    if state is not None and state.startswith("28"):
        return TargetError(f"cannot {doing}: {text} [{state}]", hint="Check user and password in the target's URL.")
    if state == "3D000":
        return TargetError(f"cannot {doing}: {text} [{state}]", hint="Create the database, or mend the target's URL.")
    if state == "42501":
        return TargetError(
            f"cannot {doing}: {text} [{state}]", hint="Grant the missing privilege to the target's user."
        )
    if state is None and _HOPELESS.search(text):
        return TargetError(
            f"cannot {doing}: {text}", hint="Check host, database, user and password in the target's URL."
        )
    if passing(error):
        return RetryableError(
            f"cannot {doing}: {text}{f' [{state}]' if state else ''}",
            hint="Is the target up and reachable? Run the same command again: it goes on where it stopped.",
        )
    return TargetError(f"cannot {doing}: {text}{f' [{state}]' if state else ''}")


_TELLS_NO_VALUE = ("2201B", "22012", *("08", "0A", "25", "28", "3D", "40", "42", "53", "54", "55", "57", "58"))
"""SQLSTATEs, or their classes, whose messages name the statement and its parts, or the server's state, and no row's values."""


def without_values(state: str | None, text: str, *, personal: bool = False) -> str:
    """A message of the server without the value that those of data exceptions quote, which may hold quotes itself.

    `personal`: there may be values in it that nobody is to see, so doubt is decided against showing any of it.
    """
    if not state or state.startswith(_TELLS_NO_VALUE):
        return text
    if personal:
        return "what the server says is not shown, it may quote a personal value"
    return re.sub('".*"', '"…"', text) if state.startswith("22") else text


# The driver gives no SQLSTATE for a connection that the server refused: 28P01, 28000, 3D000, 42501 by their words.
_HOPELESS = re.compile(
    r"password authentication failed|no password supplied|no pg_hba\.conf entry|permission denied for database|"
    r'(role|database) ".*" does not exist|invalid (URI|connection option|port)'
)

_PASSWORD = re.compile(r"(password=)\S+|(://[^:/@\s]*:)[^@\s]*@")


def _primary(error: psycopg.Error) -> str:
    text = error.diag.message_primary or str(error).strip() or type(error).__name__
    return _PASSWORD.sub(lambda m: f"{m[1] or m[2]}***{'@' if m[2] else ''}", " ".join(text.split()))


@contextmanager
def explained(doing: str, *, personal: bool = False) -> Iterator[None]:
    """Turn the driver's errors into ours, as `explain` does."""
    try:
        yield
    except psycopg.Error as error:
        raise explain(error, doing=doing, personal=personal) from error


# ----------------------------------------------------------------------------------------------------------- catalogue

_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod) AS declared, a.attnotnull, a.attgenerated, a.attidentity,
       a.atthasdef, a.atttypid::oid, a.atttypmod,
       pg_get_serial_sequence(%(regclass)s, a.attname) AS sequence
FROM pg_attribute a
WHERE a.attrelid = %(regclass)s::regclass AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""

# A domain's base is found level by level; its checks and NOT NULL hold at each of them.
_TYPES = """
WITH RECURSIVE level AS (
    SELECT %(oid)s::oid AS oid, %(mod)s::int AS mod, 0 AS depth
    UNION ALL
    SELECT t.typbasetype, t.typtypmod, depth + 1 FROM level JOIN pg_type t USING (oid) WHERE t.typtype = 'd'
)
SELECT t.oid, t.typname, t.typtype, t.typnotnull, level.mod, t.typelem, t.typcategory,
       format_type(t.oid, level.mod),
       (SELECT array_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid),
       (SELECT array_agg(ARRAY[c.conname, pg_get_expr(c.conbin, 0)]) FROM pg_constraint c WHERE c.contypid = t.oid
        AND c.contype = 'c')
FROM level JOIN pg_type t USING (oid) ORDER BY depth
"""

_CONSTRAINTS = """
SELECT c.conname, c.contype,
       (SELECT array_agg(a.attname ORDER BY k.n) FROM unnest(c.conkey) WITH ORDINALITY k(attnum, n)
        JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum) AS columns,
       fn.nspname, f.relname,
       (SELECT array_agg(a.attname ORDER BY k.n) FROM unnest(c.confkey) WITH ORDINALITY k(attnum, n)
        JOIN pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k.attnum) AS parent_columns,
       CASE WHEN c.contype = 'c' THEN pg_get_expr(c.conbin, c.conrelid) END, c.confmatchtype = 'f'
FROM pg_constraint c
LEFT JOIN pg_class f ON f.oid = c.confrelid
LEFT JOIN pg_namespace fn ON fn.oid = f.relnamespace
WHERE c.conrelid = %(regclass)s::regclass AND c.contype IN ('c', 'f')
ORDER BY c.conname
"""

# ON CONFLICT cannot use a deferrable key, nor one that covers some rows or an expression.
_INDEXES = """
SELECT i.indisprimary,
       (SELECT array_agg(a.attname ORDER BY k.n) FROM unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY k(attnum, n)
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum)
FROM pg_index i
WHERE i.indrelid = %(regclass)s::regclass AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
  AND i.indexprs IS NULL
ORDER BY i.indisprimary DESC, i.indexrelid
"""

_TRIGGERS = """
SELECT tgname FROM pg_trigger WHERE tgrelid = %(regclass)s::regclass AND NOT tgisinternal AND tgenabled IN ('O', 'A')
ORDER BY tgname
"""

_NUMERIC_OFFSET = 4  # PostgreSQL's VARHDRSZ, which every type modifier of a variable-length type includes


def catalogue(conn: Connection, schema: str, name: str) -> TargetTable | None:
    """The table as the target has it, or None. Raises TargetError where the name is something else than a table."""
    regclass = quote(schema, name)
    kind = conn.execute(
        "SELECT relkind, c.oid::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
        "WHERE nspname = %s AND relname = %s",
        [schema, name],
    ).fetchone()
    if kind is None:
        return None
    if kind[0] not in ("r", "p"):
        what = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}.get(kind[0], "not a table")
        raise TargetError(f"target {schema}.{name} is {what}", hint="Rows can be loaded into tables only.")
    parameters = {"regclass": regclass}
    checks: list[Check] = []
    found = []
    for row in conn.execute(_COLUMNS, parameters).fetchall():
        column, domain_checks = _column(conn, row)
        found.append(column)
        checks += domain_checks
    foreign_keys = []
    for conname, kind_, cols, parent_schema, parent, parent_columns, expression, full in conn.execute(
        _CONSTRAINTS, parameters
    ):
        if kind_ == "f":
            key_of = tuple(parent_columns)
            foreign_keys.append(ForeignKey(conname, tuple(cols), parent_schema, parent, key_of, full=full))
        else:
            checks.append(Check(conname, expression))
    key: tuple[str, ...] = ()
    uniques = []
    for primary, cols in conn.execute(_INDEXES, parameters):
        uniques.append(tuple(cols))
        if primary:
            key = tuple(cols)
    with conn.cursor(row_factory=scalar_row) as cursor:
        triggers = tuple(cursor.execute(_TRIGGERS, parameters))
    constraints = tuple(uniques), tuple(foreign_keys), tuple(checks)
    return TargetTable(schema, name, tuple(found), key, *constraints, True, triggers, kind[1])


def count_rows(conn: Connection, table: TargetTable) -> int:
    """How many rows the table holds, by counting them."""
    row = conn.execute(f"SELECT count(*) FROM {quote(table.schema, table.name)}").fetchone()
    return int(row[0]) if row else 0


def _column(conn: Connection, row: Sequence[Any]) -> tuple[Column, list[Check]]:
    name, _declared, not_null, generated, identity, has_default, oid, typmod, sequence = row
    levels = conn.execute(_TYPES, {"oid": oid, "mod": typmod}).fetchall()
    *domains, base = levels
    checks = [Check(c[0], c[1], name) for level in domains for c in level[9] or ()]
    nullable = not (not_null or any(level[3] for level in domains))
    _, typname, _, _, mod, _, _, spelled, labels, _ = base
    column = Column(
        name,
        spelled,
        typname,
        _modifier(typname.removeprefix("_"), mod),
        nullable,
        bool(has_default or identity),
        generated != "" or identity == "a",
        tuple(labels or ()),
        sequence,
    )
    return column, checks


def _modifier(typname: str, mod: int) -> tuple[int, ...]:
    if mod < 0:
        return ()
    if typname == "numeric":
        packed = mod - _NUMERIC_OFFSET
        scale = packed & 0x7FF
        return (packed >> 16 & 0xFFFF, scale - 0x800 if scale > 1000 else scale)
    if typname in ("varchar", "bpchar"):
        return (mod - _NUMERIC_OFFSET,)
    return (mod,)


def references_from_outside(conn: Connection, tables: Sequence[TargetTable]) -> list[tuple[str, str]]:
    """(constraint, table) of every foreign key that points at `tables` from a table that is not among them."""
    names = [t.qualified for t in tables]
    return conn.execute(
        """
        SELECT c.conname, cn.nspname || '.' || cl.relname
        FROM pg_constraint c
        JOIN pg_class cl ON cl.oid = c.conrelid JOIN pg_namespace cn ON cn.oid = cl.relnamespace
        JOIN pg_class pl ON pl.oid = c.confrelid JOIN pg_namespace pn ON pn.oid = pl.relnamespace
        WHERE c.contype = 'f' AND c.conparentid = 0
          AND pn.nspname || '.' || pl.relname = ANY(%(names)s) AND cn.nspname || '.' || cl.relname <> ALL(%(names)s)
        ORDER BY 2, 1
        """,
        {"names": names},
    ).fetchall()


# ------------------------------------------------------------------------------------------------------------- copying


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row that the server would not take, by its index in the batch."""

    index: int
    sqlstate: str
    message: str
    column: str | None
    constraint: str | None


@dataclass(frozen=True, slots=True)
class Loaded:
    """What became of one batch: rows written (of them `inserted` are new, not overwritten), and the refused ones."""

    rows: int
    inserted: int
    refused: tuple[Refusal, ...]


class TooManyRefusals(TargetError):
    """More refusals in one chunk than isolating is for."""


class Writer:
    """Writes batches of one wire schema into one table. Not for sharing between threads."""

    def __init__(
        self,
        table: TargetTable,
        schema: pa.Schema,
        wires: Sequence[Wire],
        upsert_on: Sequence[str] = (),
        before: tuple[str, str] | None = None,
    ) -> None:
        """`before`: where the table is a clone to be upserted into, the real one (schema, name) with the rows it has."""
        self.table = table
        self._schema = schema
        self._names = columns(schema.names)
        self._relation = quote(table.schema, table.name)
        self._on = tuple(upsert_on)
        self._brought = _brought(table, schema.names, before) if before is not None and self._on else ""
        self._text = any(w.encoder == "text" for w in wires)
        self._encoders = {
            field.name: StringEncoderBuilder.new_with_output(field, Jsonb())
            if wire.encoder == "jsonb"
            else pgpq.ArrowToPostgresBinaryEncoder.infer_encoder(field)
            for field, wire in zip(schema, wires, strict=True)
            if not self._text
        }
        self._duckdb: duckdb.DuckDBPyConnection | None = None

    def write(self, conn: Connection, batch: pa.RecordBatch, *, refusals_left: int) -> Loaded:
        """Write a batch inside the caller's transaction, isolating the rows that the server refuses.

        The place of a refused row is taken from the server's own context where it gives one, and by halving where it
        does not; either way a row counts as refused only when it fails alone. Raises TooManyRefusals, TargetError, or
        the driver's error where trying again may help.
        """
        if not batch.schema.equals(self._schema):
            raise TargetError(f"{self.table.qualified}: batch schema differs from the target's wire schema")
        done = inserted = 0
        refused: list[Refusal] = []
        # A stack of ranges still to write, the next one last; attempts are bounded because refusals are.
        todo = [(0, batch.num_rows)] if batch.num_rows else []
        while todo:
            start, stop = todo.pop()
            try:
                with conn.transaction():
                    new = self._attempt(conn, batch.slice(start, stop - start))
            except psycopg.Error as error:
                if not _of_a_row(error):
                    raise
                if stop - start == 1:
                    refused.append(_refusal(error, start))
                    if len(refused) > refusals_left:
                        raise TooManyRefusals(_histogram(self.table, refused), hint=_SYSTEMATIC) from None
                    continue
                todo += reversed(_split(start, stop, _failed_line(error)))
                continue
            done += stop - start
            inserted += new
        return Loaded(done, inserted, tuple(refused))

    def _attempt(self, conn: Connection, batch: pa.RecordBatch) -> int:
        """One COPY of all rows; the number of rows that are new. Raises TargetError where the server stored fewer."""
        if not self._on:
            stored = inserted = self.copy_into(conn, self._relation, batch)
        else:
            stage = quote("migrate_stage")
            self.stage(conn, stage, batch)
            if self._brought:
                self._bring(conn, alone=batch.num_rows == 1)
            same = " AND ".join(f"t.{quote(n)} = s.{quote(n)}" for n in self._on)
            row = conn.execute(f"SELECT count(*) FROM {stage} s JOIN {self._relation} t ON {same}").fetchone()
            assert row is not None
            rest = [n for n in self._schema.names if n not in self._on] or list(self._on)
            update = ", ".join(f"{quote(n)} = EXCLUDED.{quote(n)}" for n in rest)
            stored = conn.execute(
                f"INSERT INTO {self._relation} ({self._names}) SELECT {self._names} FROM {stage} "
                f"ON CONFLICT ({columns(self._on)}) DO UPDATE SET {update}"
            ).rowcount
            inserted = stored - row[0]
            conn.execute(f"DROP TABLE {stage}")
        if stored != batch.num_rows:
            raise TargetError(
                f"{self.table.qualified}: {batch.num_rows} rows were sent and the server stored {stored}",
                hint="A trigger or rule on the table discards rows"
                + (f" (triggers: {', '.join(self.table.triggers)})" if self.table.triggers else "")
                + ". Disable it for the migration, then run the same command again.",
            )
        return inserted

    def _bring(self, conn: Connection, *, alone: bool) -> None:
        """Bring into the clone the real rows that the staged ones meet by any key, so that the server judges as it would.

        A real row that breaks a constraint that was never validated cannot be brought: the staged row that meets it is
        isolated as a refused one would be, and then goes without.
        """
        try:
            with conn.transaction():
                conn.execute(self._brought)
        except psycopg.Error as error:
            if not (alone and _of_a_row(error)):
                raise

    def stage(self, conn: Connection, stage: str, batch: pa.RecordBatch) -> None:
        """Put rows into a temporary table of their columns in the relation, until the transaction ends."""
        conn.execute(
            f"CREATE TEMP TABLE {stage} ON COMMIT DROP AS SELECT {self._names} FROM {self._relation} WITH NO DATA"
        )
        self.copy_into(conn, stage, batch)

    def copy_into(self, conn: Connection, relation: str, batch: pa.RecordBatch) -> int:
        """COPY rows of the wire schema into any relation with these columns; how many the server stored."""
        form = "csv" if self._text else "binary"
        with conn.cursor() as cursor:
            with cursor.copy(f"COPY {relation} ({self._names}) FROM STDIN (FORMAT {form})") as copy:
                for piece in self._as_csv(batch) if self._text else self._as_binary(batch):
                    copy.write(piece)
            return cursor.rowcount

    def _as_binary(self, batch: pa.RecordBatch) -> Iterator[bytes]:
        encoder = pgpq.ArrowToPostgresBinaryEncoder.new_with_encoders(self._schema, self._encoders)
        yield encoder.write_header()
        for at in range(0, batch.num_rows, _COPY_ROWS):
            yield encoder.write_batch(batch.slice(at, _COPY_ROWS))
        yield encoder.finish()

    def _as_csv(self, batch: pa.RecordBatch) -> Iterator[bytes]:
        """NULL is an empty field, the empty string a quoted one, as COPY reads CSV."""
        if self._duckdb is None:
            self._duckdb = duckdb.connect(config={"threads": 1})
        terms = ", ".join(_text_form(field) for field in self._schema)
        self._duckdb.register("batch", batch)
        table = self._duckdb.sql(f"SELECT {terms} FROM batch").to_arrow_table()
        self._duckdb.unregister("batch")
        options = pa.csv.WriteOptions(include_header=False, quoting_style="needed")
        for piece in table.to_batches(max_chunksize=_COPY_ROWS):
            out = io.BytesIO()
            pa.csv.write_csv(piece, out, options)
            yield out.getvalue()

    def close(self) -> None:
        if self._duckdb is not None:
            self._duckdb.close()


def _brought(clone: TargetTable, mapped: Sequence[str], real: tuple[str, str]) -> str:
    """SQL that copies into a clone the rows of the real table that share a key with a staged row.

    What is in the clone with the same key is that row already, or what has overwritten it. Sorted, so that two
    transactions seldom wait for each other crosswise.
    """
    # Generated columns cannot be written; an identity can.
    names = columns([c.name for c in clone.columns if not c.generated or c.sequence is not None])
    keys = [k for k in dict.fromkeys((clone.key, *clone.uniques)) if k and set(k) <= set(mapped)]
    return "; ".join(
        f"INSERT INTO {quote(clone.schema, clone.name)} ({names}) OVERRIDING SYSTEM VALUE "
        f"SELECT {names} FROM {quote(*real)} p WHERE EXISTS (SELECT FROM {quote('migrate_stage')} s WHERE "
        + " AND ".join(f"s.{quote(c)} = p.{quote(c)}" for c in key)
        + f") ORDER BY {columns(key)} ON CONFLICT DO NOTHING"
        for key in keys
    )


def _text_form(field: pa.Field) -> str:
    """DuckDB SQL that writes a column as PostgreSQL's text input reads it."""
    name = quote(field.name)
    if pa.types.is_binary(field.type):
        return f"'\\x' || hex({name}) AS {name}"
    if pa.types.is_fixed_size_binary(field.type):
        return f"lower(hex({name})) AS {name}"
    if pa.types.is_list(field.type):
        element = "replace(replace(x::VARCHAR, '\\', '\\\\'), '\"', '\\\"')"
        if pa.types.is_binary(field.type.value_type):
            element = "'\\\\x' || hex(x)"
        elif pa.types.is_temporal(field.type.value_type):
            element = checksum.written("x", field.type.value_type)
        item = f"lambda x: CASE WHEN x IS NULL THEN 'NULL' ELSE '\"' || {element} || '\"' END"
        return (
            f"CASE WHEN {name} IS NOT NULL THEN '{{' || array_to_string(list_transform({name}, {item}), ',') || '}}' "
            f"END AS {name}"
        )
    if pa.types.is_temporal(field.type):
        return f"{checksum.written(name, field.type)} AS {name}"
    return name


_COPY_LINE = re.compile(r"^COPY [^\n]*, line (\d+)", re.MULTILINE)


def _of_a_row(error: psycopg.Error) -> bool:
    state = error.sqlstate or ""
    return state[:2] in ROW_FAULTS or state in _ROW_FAULT_STATES


def _failed_line(error: psycopg.Error) -> int | None:
    """The row, counted from 1, that a failed COPY names in its context; a foreign key's check names none."""
    match = _COPY_LINE.search(error.diag.context or "")
    return int(match[1]) if match else None


def _split(start: int, stop: int, line: int | None) -> list[tuple[int, int]]:
    """Smaller ranges, in order: around the line that failed, or halves."""
    if line is not None and 1 <= line <= stop - start:
        at = start + line - 1
        return [r for r in ((start, at), (at, at + 1), (at + 1, stop)) if r[0] < r[1]]
    middle = (start + stop) // 2
    return [(start, middle), (middle, stop)]


def _refusal(error: psycopg.Error, index: int) -> Refusal:
    diag = error.diag
    return Refusal(index, error.sqlstate or "", _primary(error), diag.column_name or None, diag.constraint_name or None)


def _histogram(table: TargetTable, refused: Sequence[Refusal]) -> str:
    kinds: dict[str, int] = {}
    for r in refused:
        kind = f"{r.sqlstate} {r.constraint or r.column or without_values(r.sqlstate, r.message)}"
        kinds[kind] = kinds.get(kind, 0) + 1
    listed = ", ".join(f"{n} × {kind}" for kind, n in sorted(kinds.items(), key=lambda item: -item[1]))
    return f"{table.qualified}: the server refused more than {MAX_REFUSALS} rows of one chunk: {listed}"


_SYSTEMATIC = (
    f"So many break a rule that only the server can check. Keep them out with `where`, mend the mapping or the "
    f"constraint. For up to {MAX_REFUSALS} in each chunk, smaller chunks help: --restart --batch-rows 1000."
)


def deadlocked(error: psycopg.Error) -> bool:
    """Whether the server broke a deadlock or a serialization cycle: retried at once rather than after a pause."""
    return isinstance(error, (pgerrors.DeadlockDetected, pgerrors.SerializationFailure))


# ------------------------------------------------------------------------------------------- keys asked for in the target


class _Keys:
    """Asks the server about the distinct keys of a batch in one query, so that rows need not be isolated one by one."""

    def __init__(self, names: Sequence[str], schema: pa.Schema, wires: Sequence[Wire]) -> None:
        self._columns = list(names)
        indices = [schema.get_field_index(c) for c in names]
        numbered = pa.field("migrate_n", pa.int32())
        self._schema = pa.schema([numbered, *(schema.field(i) for i in indices)])
        self._wires = [Wire(pa.int32()), *(wires[i] for i in indices)]

    def rows_where(self, conn: Connection, batch: pa.RecordBatch, table: TargetTable, condition: str) -> list[int]:
        """Indices of the rows whose key meets an SQL condition on its columns of `k`; a key with a NULL never does.

        `k` has the types and collations that the columns have in `table`.
        """
        keys = pa.table({c: batch.column(c) for c in self._columns})
        distinct = keys.group_by(self._columns, use_threads=False).aggregate([]).combine_chunks().drop_null()
        if not distinct.num_rows:
            return []
        numbers = pa.array(range(distinct.num_rows), pa.int32())
        sent = pa.record_batch([numbers, *(distinct[c].combine_chunks() for c in self._columns)], schema=self._schema)
        stage = quote("migrate_keys")
        relation = quote(table.schema, table.name)
        conn.execute(
            f"CREATE TEMP TABLE {stage} ON COMMIT DROP AS "
            f"SELECT 0 AS migrate_n, {columns(self._columns)} FROM {relation} WITH NO DATA"
        )
        writer = Writer(TargetTable("pg_temp", "migrate_keys", ()), self._schema, self._wires)
        writer.copy_into(conn, stage, sent)
        writer.close()
        with conn.cursor(row_factory=scalar_row) as cursor:
            met = cursor.execute(f"SELECT migrate_n FROM {stage} k WHERE {condition}").fetchall()
        conn.execute(f"DROP TABLE {stage}")
        if not met:
            return []
        hits = distinct.take(pa.array(met))
        marked = keys.append_column("migrate_row", pa.array(range(keys.num_rows)))
        joined = marked.join(hits, keys=self._columns, join_type="left semi", use_threads=False)
        return sorted(joined["migrate_row"].to_pylist())


def partly_null(rows: pa.RecordBatch, names: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Of which rows some of these columns are NULL and some are not."""
    nulls = np.array([rows.column(name).is_null().to_numpy(zero_copy_only=False) for name in names])
    partly: npt.NDArray[np.bool_] = np.any(nulls, axis=0) & ~np.all(nulls, axis=0)
    return partly


def _stands_in(schema: str, name: str, theirs: Sequence[str], ours: Sequence[str]) -> str:
    """SQL: whether a relation has a row whose columns `theirs` are the columns `ours` of `k`."""
    same = " AND ".join(f"p.{quote(p)} = k.{quote(c)}" for p, c in zip(theirs, ours, strict=True))
    return f"EXISTS (SELECT FROM {quote(schema, name)} p WHERE {same})"


class ForeignKeyScreen:
    """Finds rows whose parent is missing with one anti-join a batch."""

    def __init__(self, foreign_key: ForeignKey, schema: pa.Schema, wires: Sequence[Wire]) -> None:
        self.foreign_key = foreign_key
        self._keys = _Keys(foreign_key.columns, schema, wires)
        parents = [(foreign_key.parent_schema, foreign_key.parent_name), *foreign_key.elsewhere]
        self._missing = " AND ".join(
            f"NOT {_stands_in(*parent, foreign_key.parent_columns, foreign_key.columns)}" for parent in parents
        )

    def orphans(self, conn: Connection, batch: pa.RecordBatch, child: TargetTable) -> list[int]:
        """Indices of the rows whose parent does not exist. A NULL in the key means that no parent is asked for.

        Under MATCH FULL only a key that is NULL altogether means that.
        """
        missing = self._keys.rows_where(conn, batch, child, self._missing)
        partly = np.flatnonzero(partly_null(batch, self.foreign_key.columns)) if self.foreign_key.full else ()
        return sorted({*missing, *map(int, partly)})


class UniqueScreen:
    """Finds rows whose unique key a row of `relation` (schema, name) has already, with one semi-join a batch."""

    def __init__(
        self, names: Sequence[str], schema: pa.Schema, wires: Sequence[Wire], relation: tuple[str, str]
    ) -> None:
        self.columns = tuple(names)
        self.relation = relation
        self._keys = _Keys(names, schema, wires)
        self._standing = _stands_in(*relation, names, names)

    def standing(self, conn: Connection, batch: pa.RecordBatch, table: TargetTable) -> list[int]:
        """Indices of the rows whose key stands in the relation. A NULL in the key is equal to nothing.

        `table` is where the batch is to be loaded: the relation itself, or its clone. Two rows of the batch that share
        a key are the server's to refuse.
        """
        return self._keys.rows_where(conn, batch, table, self._standing)
