"""The ledger: its tables in the target's schema `migrate_ledger` (a dry run's: in a shadow of it), and every query on them.

Entries are immutable and signed; a chunk, a table or a run is the sum of its entries. Nothing here decides anything:
the commit protocol (`commit.py`) and the engine do. Values of rows are kept in `reject`
(`quarantine.py`) and `finding` only.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from psycopg.rows import class_row, dict_row, scalar_row
from psycopg.types.json import Json

from migrate.core import Chunk, Described, Description, Entry, Finding, ForeignKey, Partition, View, Watermark
from migrate.errors import GateError
from migrate.target import Connection

VERSION = 4

_DDL = """
CREATE SCHEMA IF NOT EXISTS {ledger};

CREATE TABLE IF NOT EXISTS {ledger}.meta (version int PRIMARY KEY);

-- One row a migration: `epoch` is the fencing token, raised by each run that takes over.
CREATE TABLE IF NOT EXISTS {ledger}.migration (
    migration text PRIMARY KEY,
    epoch bigint NOT NULL DEFAULT 0
);

CREATE TABLE IF NOT EXISTS {ledger}.run (
    migration text NOT NULL REFERENCES {ledger}.migration,
    epoch bigint NOT NULL,
    command text NOT NULL,
    version text NOT NULL,
    started timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished timestamptz,
    outcome text,
    PRIMARY KEY (migration, epoch)
);

-- One row a mapped table: which filling of it (`generation`) is current, and what that filling is made of.
CREATE TABLE IF NOT EXISTS {ledger}.mapped_table (
    migration text NOT NULL REFERENCES {ledger}.migration,
    name text NOT NULL,
    target text NOT NULL,
    oid bigint NOT NULL,
    mode text NOT NULL CHECK (mode IN ('append', 'upsert', 'replace')),
    generation int NOT NULL,
    digest text NOT NULL,
    ownership text NOT NULL CHECK (ownership IN ('ours', 'shared')),
    created boolean NOT NULL,
    rows_before bigint NOT NULL,
    batch_rows bigint NOT NULL,
    batch_bytes bigint NOT NULL,
    bucket_key text[] NOT NULL,
    hash text NOT NULL,
    parents text[] NOT NULL,
    phase text NOT NULL CHECK (phase IN ('loading', 'loaded', 'finalized')),
    changed timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (migration, name)
);

-- What a filling was planned from: source and target table, and the mapping by its parts. `json` keeps the columns' order.
CREATE TABLE IF NOT EXISTS {ledger}.description (
    migration text NOT NULL,
    name text NOT NULL,
    generation int NOT NULL,
    side text NOT NULL CHECK (side IN ('source', 'target', 'mapping')),
    described json NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (migration, name, generation, side)
);

-- The pinned plan: a resumed run never plans again.
CREATE TABLE IF NOT EXISTS {ledger}.partition (
    migration text NOT NULL,
    name text NOT NULL,
    generation int NOT NULL,
    chunk int NOT NULL,
    token text NOT NULL,
    rows bigint NOT NULL,
    bytes bigint NOT NULL,
    PRIMARY KEY (migration, name, generation, chunk)
);

-- The first statement of a chunk's transaction inserts here, so that a chunk can be committed once only.
CREATE TABLE IF NOT EXISTS {ledger}.claim (
    migration text NOT NULL,
    name text NOT NULL,
    generation int NOT NULL,
    chunk int NOT NULL,
    epoch bigint NOT NULL,
    PRIMARY KEY (migration, name, generation, chunk)
);

CREATE TABLE IF NOT EXISTS {ledger}.entry (
    entry bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    migration text NOT NULL,
    name text NOT NULL,
    generation int NOT NULL,
    chunk int NOT NULL,
    kind text NOT NULL CHECK (kind IN ('load', 'settle', 'replay', 'fixup')),
    epoch bigint NOT NULL,
    read bigint NOT NULL,
    loaded bigint NOT NULL,
    merged bigint NOT NULL,
    filtered bigint NOT NULL,
    rejected bigint NOT NULL,
    inserted bigint NOT NULL,
    sums bytea NOT NULL,
    began timestamptz NOT NULL,
    ended timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (read = loaded + merged + filtered + rejected),
    FOREIGN KEY (migration, name, generation, chunk) REFERENCES {ledger}.claim
);
CREATE INDEX IF NOT EXISTS entry_chunk ON {ledger}.entry (migration, name, generation, chunk);
CREATE UNIQUE INDEX IF NOT EXISTS entry_one_load ON {ledger}.entry (migration, name, generation, chunk)
    WHERE kind = 'load';

-- The quarantine. Raw values are bytes: jsonb would refuse a NUL.
CREATE TABLE IF NOT EXISTS {ledger}.reject (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    migration text NOT NULL,
    name text NOT NULL,
    generation int NOT NULL,
    chunk int NOT NULL,
    ordinal bigint NOT NULL,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'replayed', 'waived')),
    rule text NOT NULL,
    "column" text,
    value bytea,
    reason bytea NOT NULL,
    key bytea,
    locator json NOT NULL,
    raw bytea NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    settled timestamptz,
    note text,
    FOREIGN KEY (migration, name, generation, chunk) REFERENCES {ledger}.claim
);
CREATE UNIQUE INDEX IF NOT EXISTS reject_row ON {ledger}.reject (migration, name, generation, chunk, ordinal);

-- Rows that are not loaded because of another one: merged into it, or rejected for a unique key. Elected before the load.
CREATE TABLE IF NOT EXISTS {ledger}.crosswalk (
    migration text NOT NULL,
    name text NOT NULL,
    generation int NOT NULL,
    chunk int NOT NULL,
    ordinal bigint NOT NULL,
    by_chunk int NOT NULL,
    by_ordinal bigint NOT NULL,
    fate text NOT NULL CHECK (fate IN ('merged', 'rejected')),
    rule text NOT NULL,
    hash bigint NOT NULL,
    loser text,
    survivor text,
    PRIMARY KEY (migration, name, generation, chunk, ordinal)
);
CREATE INDEX IF NOT EXISTS crosswalk_by ON {ledger}.crosswalk (migration, name, generation, by_chunk, by_ordinal);

-- The target keys of losers and survivors, where they differ: Arrow batches, for children to follow their parents.
CREATE TABLE IF NOT EXISTS {ledger}.crosswalk_key (
    migration text NOT NULL,
    name text NOT NULL,
    generation int NOT NULL,
    columns text[] NOT NULL,
    part int NOT NULL,
    keys bytea NOT NULL,
    PRIMARY KEY (migration, name, generation, columns, part)
);

-- Values that survivors take from other rows of their cluster: Arrow batches by chunk and column.
CREATE TABLE IF NOT EXISTS {ledger}.override (
    migration text NOT NULL,
    name text NOT NULL,
    generation int NOT NULL,
    chunk int NOT NULL,
    "column" text NOT NULL,
    part int NOT NULL,
    rows bytea NOT NULL,
    PRIMARY KEY (migration, name, generation, chunk, "column", part)
);

-- Rows whose parent does not exist and that are loaded all the same, their reference NULL or kept.
CREATE TABLE IF NOT EXISTS {ledger}.orphan (
    migration text NOT NULL,
    name text NOT NULL,
    generation int NOT NULL,
    chunk int NOT NULL,
    ordinal bigint NOT NULL,
    "column" text NOT NULL,
    policy text NOT NULL CHECK (policy IN ('null', 'keep')),
    PRIMARY KEY (migration, name, generation, chunk, ordinal, "column")
);

-- In which view a run has read a source that is not simply pinned, and from where its changes have to be taken after it.
CREATE TABLE IF NOT EXISTS {ledger}.reading (
    migration text NOT NULL,
    name text NOT NULL,
    generation int NOT NULL,
    epoch bigint NOT NULL,
    source text NOT NULL,
    view text NOT NULL CHECK (view IN ('pinned', 'asof', 'live')),
    note text NOT NULL,
    watermark_kind text,
    watermark text,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (migration, name, generation, epoch, source)
);

-- Foreign keys within a cycle, or from a table to itself: off while the table is loaded, on again when it is finalized.
CREATE TABLE IF NOT EXISTS {ledger}.suspended (
    migration text NOT NULL,
    name text NOT NULL,
    "constraint" text NOT NULL,
    columns text[] NOT NULL,
    parent_schema text NOT NULL,
    parent_name text NOT NULL,
    parent_columns text[] NOT NULL,
    definition text NOT NULL,
    PRIMARY KEY (migration, name, "constraint")
);

CREATE TABLE IF NOT EXISTS {ledger}.finding (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    migration text NOT NULL,
    name text NOT NULL,
    level text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    "check" text NOT NULL,
    severity text NOT NULL,
    message text NOT NULL,
    key text,
    expected text,
    actual text,
    "column" text
);
CREATE TABLE IF NOT EXISTS {ledger}.verification (
    migration text NOT NULL,
    name text NOT NULL,
    generation int NOT NULL,
    level text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    findings bigint NOT NULL,
    PRIMARY KEY (migration, name, level)
);

-- The verification that was begun and has not come to its end: the next one of its kind goes on with it.
CREATE TABLE IF NOT EXISTS {ledger}.verifying (
    migration text PRIMARY KEY,
    level text NOT NULL,
    against text NOT NULL,
    began timestamptz NOT NULL DEFAULT clock_timestamp()
);
"""

Phase = Literal["loading", "loaded", "finalized"]
Ownership = Literal["ours", "shared"]


@dataclass(frozen=True, slots=True)
class TableState:
    """Where a mapped table stands. `bucket_key` are the columns that chose the buckets; `hash` names the row hash.

    `parents` are the tables that it references by the mapping, each as name/generation: whom its rows have followed.
    """

    name: str
    target: str
    oid: int
    mode: str
    generation: int
    digest: str
    ownership: Ownership
    created: bool
    rows_before: int
    batch_rows: int
    batch_bytes: int
    bucket_key: list[str]
    hash: str
    parents: list[str]
    phase: Phase


@dataclass(frozen=True, slots=True)
class Reading:
    """In which view a source is, or was, read that is not simply pinned by its contents."""

    source: str
    view: View
    note: str
    watermark: Watermark | None = None


@dataclass(frozen=True, slots=True)
class Fates:
    """The sum of entries: what became of the rows of one mapped table."""

    name: str
    chunks: int
    chunks_done: int
    read: int
    loaded: int
    merged: int
    filtered: int
    rejected: int
    inserted: int
    seconds: float = 0.0

    @property
    def balanced(self) -> bool:
        return self.read == self.loaded + self.merged + self.filtered + self.rejected


def alone(state: TableState, fates: Fates) -> bool:
    """Whether the target table holds nothing but rows that this migration inserted."""
    return state.rows_before == 0 and fates.inserted == fates.loaded


@dataclass(frozen=True, slots=True)
class Run:
    epoch: int
    command: str
    version: str
    started: str
    finished: str | None
    outcome: str | None


# An arbitrary constant so that two first runs at once do not race on CREATE SCHEMA.
_CREATION_LOCK = 0x6D696772


def exists(conn: Connection) -> bool:
    """Whether this target has a ledger; read-only verbs must not make one. Raises GateError for another format's."""
    row = conn.execute("SELECT to_regclass(%s) IS NOT NULL", [f"{conn.ledger}.meta"]).fetchone()
    if row is None or not row[0]:
        return False
    version = conn.execute(f"SELECT max(version) FROM {conn.ledger}.meta").fetchone()
    if version is not None and version[0] not in (None, VERSION):
        raise GateError(
            f"the ledger in {conn.ledger} is of format {version[0]}, and this version reads and writes format {VERSION}",
            hint="Finish the migration with the version of migrate that began it, or drop the schema to start over.",
        )
    return True


def create(conn: Connection) -> None:
    """Make the ledger where it is missing."""
    if exists(conn):
        return
    with conn.transaction():
        conn.execute("SELECT pg_advisory_xact_lock(%s)", [_CREATION_LOCK])
        conn.execute("SET LOCAL client_min_messages = warning")
        conn.execute(_DDL.format(ledger=conn.ledger))
        conn.execute(f"INSERT INTO {conn.ledger}.meta VALUES (%s) ON CONFLICT DO NOTHING", [VERSION])


def _utc(column: str) -> str:
    """SQL that spells a moment in ISO 8601, whatever the role's DateStyle and zone are."""
    return f"to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.USZ')"


# ------------------------------------------------------------------------------------------------------- runs, fencing


def begin_run(conn: Connection, migration: str, command: str, version: str) -> int:
    """Raise the fencing epoch and record the run that holds it. Workers of an older epoch stop at their next chunk."""
    with conn.transaction():
        row = conn.execute(
            f"INSERT INTO {conn.ledger}.migration (migration, epoch) VALUES (%s, 1) "
            f"ON CONFLICT (migration) DO UPDATE SET epoch = migration.epoch + 1 RETURNING epoch",
            [migration],
        ).fetchone()
        assert row is not None
        epoch = int(row[0])
        conn.execute(
            f"INSERT INTO {conn.ledger}.run (migration, epoch, command, version) VALUES (%s, %s, %s, %s)",
            [migration, epoch, command, version],
        )
    return epoch


def end_run(conn: Connection, migration: str, epoch: int, outcome: str) -> None:
    conn.execute(
        f"UPDATE {conn.ledger}.run SET finished = clock_timestamp(), outcome = %s WHERE migration = %s AND epoch = %s",
        [outcome, migration, epoch],
    )


def runs(conn: Connection, migration: str) -> list[Run]:
    """All runs, the latest first."""
    with conn.cursor(row_factory=class_row(Run)) as cursor:
        return cursor.execute(
            f"SELECT epoch, command, version, {_utc('started')} AS started, {_utc('finished')} AS finished, outcome "
            f"FROM {conn.ledger}.run "
            f"WHERE migration = %s ORDER BY epoch DESC",
            [migration],
        ).fetchall()


def lock(conn: Connection, migration: str, name: str, *, exclusive: bool) -> None:
    """Take the table's lock until the transaction ends: shared for a chunk, exclusive for truncate, DDL and settle."""
    function = "pg_advisory_xact_lock" if exclusive else "pg_advisory_xact_lock_shared"
    conn.execute(f"SELECT {function}(hashtextextended(%s, 0))", [f"{conn.ledger}/{migration}/{name}"])


def fence(conn: Connection, migration: str, name: str) -> tuple[int, int | None]:
    """The epoch that may write now, and the table's current generation (None: not prepared)."""
    row = conn.execute(
        f"SELECT m.epoch, t.generation FROM {conn.ledger}.migration m "
        f"LEFT JOIN {conn.ledger}.mapped_table t ON t.migration = m.migration AND t.name = %s WHERE m.migration = %s",
        [name, migration],
    ).fetchone()
    return (0, None) if row is None else (int(row[0]), row[1])


# ------------------------------------------------------------------------------------------------------ tables, plans


_STATE = (
    "name, target, oid, mode, generation, digest, ownership, created, rows_before, batch_rows, batch_bytes, "
    "bucket_key, hash, parents, phase"
)


def table_states(conn: Connection, migration: str) -> dict[str, TableState]:
    with conn.cursor(row_factory=class_row(TableState)) as cursor:
        rows = cursor.execute(
            f"SELECT {_STATE} FROM {conn.ledger}.mapped_table WHERE migration = %s", [migration]
        ).fetchall()
    return {row.name: row for row in rows}


def save_table(conn: Connection, migration: str, state: TableState) -> None:
    names = _STATE.split(", ")
    conn.execute(
        f"INSERT INTO {conn.ledger}.mapped_table (migration, {_STATE}) VALUES ({', '.join(['%s'] * (len(names) + 1))}) "
        f"ON CONFLICT (migration, name) DO UPDATE SET ({_STATE}, changed) = "
        f"({', '.join(f'EXCLUDED.{n}' for n in names)}, clock_timestamp())",
        [migration, *(getattr(state, n) for n in names)],
    )


Side = Literal["source", "target", "mapping"]


def save_description(
    conn: Connection, migration: str, name: str, generation: int, side: Side, described: Description | Mapping[str, str]
) -> None:
    """Keep what a filling is planned from; the mapping by its parts, in words."""
    form = described if isinstance(described, Mapping) else asdict(described)
    conn.execute(
        f"INSERT INTO {conn.ledger}.description (migration, name, generation, side, described) "
        f"VALUES (%s, %s, %s, %s, %s) ON CONFLICT (migration, name, generation, side) DO UPDATE SET "
        f"(described, at) = (EXCLUDED.described, clock_timestamp())",
        [migration, name, generation, side, Json(form)],
    )


def descriptions(
    conn: Connection, migration: str, name: str, generation: int
) -> tuple[Description, Description, dict[str, str]]:
    """What a filling was planned from: the source table, the target table, the mapping by its parts."""
    rows: dict[str, Any] = dict(
        conn.execute(
            f"SELECT side, described FROM {conn.ledger}.description WHERE migration = %s AND name = %s AND generation = %s",
            [migration, name, generation],
        ).fetchall()
    )
    source, target = (
        Description(
            {c: Described(**d) for c, d in rows[side]["columns"].items()}, rows[side]["rules"], rows[side]["rows"]
        )
        for side in ("source", "target")
    )
    return source, target, rows["mapping"]


def set_hash(conn: Connection, migration: str, name: str, hash_name: str) -> None:
    conn.execute(
        f"UPDATE {conn.ledger}.mapped_table SET hash = %s WHERE migration = %s AND name = %s",
        [hash_name, migration, name],
    )


def set_phase(conn: Connection, migration: str, name: str, phase: Phase) -> None:
    conn.execute(
        f"UPDATE {conn.ledger}.mapped_table SET phase = %s, changed = clock_timestamp() WHERE migration = %s AND name = %s",
        [phase, migration, name],
    )


def pin(conn: Connection, migration: str, name: str, generation: int, partitions: Iterable[Partition]) -> None:
    """Write the plan of a generation, or what a grown source adds to it."""
    with conn.cursor() as cursor, cursor.copy(f"COPY {conn.ledger}.partition FROM STDIN") as copy:
        for p in partitions:
            copy.write_row((migration, name, generation, p.ordinal, p.token, p.rows, p.bytes))


def pinned(conn: Connection, migration: str, name: str, generation: int) -> list[Partition]:
    rows = conn.execute(
        f"SELECT name, chunk, token, rows, bytes FROM {conn.ledger}.partition "
        f"WHERE migration = %s AND name = %s AND generation = %s ORDER BY chunk",
        [migration, name, generation],
    ).fetchall()
    return [Partition(*row) for row in rows]


def chunks_done(conn: Connection, migration: str, name: str, generation: int) -> set[int]:
    with conn.cursor(row_factory=scalar_row) as cursor:
        return set(
            cursor.execute(
                f"SELECT chunk FROM {conn.ledger}.entry "
                f"WHERE migration = %s AND name = %s AND generation = %s AND kind = 'load'",
                [migration, name, generation],
            )
        )


# ------------------------------------------------------------------------------------------------------------- entries


def claim(conn: Connection, chunk: Chunk, epoch: int) -> None:
    """Claim a chunk; raises psycopg.errors.UniqueViolation where it has been committed already."""
    conn.execute(
        f"INSERT INTO {conn.ledger}.claim VALUES (%s, %s, %s, %s, %s)",
        [chunk.migration, chunk.table, chunk.generation, chunk.ordinal, epoch],
    )


def write_entry(conn: Connection, entry: Entry, epoch: int, began: datetime, inserted: int) -> None:
    chunk = entry.chunk
    conn.execute(
        f"INSERT INTO {conn.ledger}.entry (migration, name, generation, chunk, kind, epoch, read, loaded, merged, filtered, "
        f"rejected, inserted, sums, began) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        [
            chunk.migration,
            chunk.table,
            chunk.generation,
            chunk.ordinal,
            entry.kind,
            epoch,
            entry.read,
            entry.loaded,
            entry.merged,
            entry.filtered,
            entry.rejected,
            inserted,
            entry.sums,
            began,
        ],
    )


def stored_entry(conn: Connection, chunk: Chunk) -> Entry | None:
    """The load entry of a chunk, as committed."""
    row = conn.execute(
        f"SELECT read, loaded, merged, filtered, rejected, sums FROM {conn.ledger}.entry "
        f"WHERE migration = %s AND name = %s AND generation = %s AND chunk = %s AND kind = 'load'",
        [chunk.migration, chunk.table, chunk.generation, chunk.ordinal],
    ).fetchone()
    return None if row is None else Entry("load", chunk, *row)


def save_readings(
    conn: Connection, migration: str, name: str, generation: int, epoch: int, readings: Sequence[Reading]
) -> None:
    """Note in which views a run reads a table, before it loads a row of it; and once more, for what became of the views."""
    for each in readings:
        at = each.watermark
        conn.execute(
            f"INSERT INTO {conn.ledger}.reading (migration, name, generation, epoch, source, view, note, watermark_kind, "
            f"watermark) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) "
            "ON CONFLICT (migration, name, generation, epoch, source) DO UPDATE SET note = excluded.note",
            [
                *(migration, name, generation, epoch, each.source, each.view, each.note),
                *((at.kind, at.value) if at is not None else (None, None)),
            ],
        )


def readings(conn: Connection, migration: str, name: str) -> list[Reading]:
    """In which views the current generation was read, the first run first: changes count from its watermark."""
    rows = conn.execute(
        f"SELECT r.source, r.view, r.note, r.watermark_kind, r.watermark FROM {conn.ledger}.reading r "
        f"JOIN {conn.ledger}.mapped_table t USING (migration, name, generation) "
        f"WHERE migration = %s AND name = %s ORDER BY r.epoch, r.source",
        [migration, name],
    ).fetchall()
    return [Reading(s, v, n, Watermark(kind, at) if kind is not None else None) for s, v, n, kind, at in rows]


def fates(conn: Connection, migration: str, name: str | None = None) -> list[Fates]:
    """Each mapped table's current generation, or that of one of them: the sums of its entries."""
    with conn.cursor(row_factory=class_row(Fates)) as cursor:
        return cursor.execute(
            f"""
            SELECT t.name,
                   (SELECT count(*) FROM {conn.ledger}.partition p
                    WHERE (p.migration, p.name, p.generation) = (t.migration, t.name, t.generation))::bigint AS chunks,
                   count(e.entry) FILTER (WHERE e.kind = 'load') AS chunks_done,
                   coalesce(sum(e.read), 0)::bigint AS read, coalesce(sum(e.loaded), 0)::bigint AS loaded,
                   coalesce(sum(e.merged), 0)::bigint AS merged, coalesce(sum(e.filtered), 0)::bigint AS filtered,
                   coalesce(sum(e.rejected), 0)::bigint AS rejected,
                   coalesce(sum(e.inserted), 0)::bigint AS inserted,
                   coalesce(extract(epoch FROM max(e.ended) - min(e.began)), 0)::float8 AS seconds
            FROM {conn.ledger}.mapped_table t
            LEFT JOIN {conn.ledger}.entry e
                ON (e.migration, e.name, e.generation) = (t.migration, t.name, t.generation)
            WHERE t.migration = %(migration)s AND (%(name)s::text IS NULL OR t.name = %(name)s)
            GROUP BY t.migration, t.name, t.generation ORDER BY t.name
            """,
            {"migration": migration, "name": name},
        ).fetchall()


def receipts(conn: Connection, migration: str, names: Sequence[str]) -> Iterable[dict[str, Any]]:
    """Every entry of some tables, of all generations, in the order in which they were written; of their sums the SHA-256."""
    with conn.cursor(row_factory=dict_row) as cursor:
        yield from cursor.stream(
            f"SELECT e.entry, e.name AS table, e.generation, e.generation = t.generation AS current, e.chunk, e.kind, "
            f"e.epoch AS run, e.read, e.loaded, e.merged, e.filtered, e.rejected, e.inserted, {_utc('e.began')} AS began, "
            f"{_utc('e.ended')} AS ended, encode(sha256(e.sums), 'hex') AS sums_sha256 "
            f"FROM {conn.ledger}.entry e JOIN {conn.ledger}.mapped_table t USING (migration, name) "
            f"WHERE e.migration = %s AND e.name = ANY(%s) ORDER BY e.entry",
            [migration, list(names)],
        )


def plan_digests(conn: Connection, migration: str) -> dict[str, str]:
    """By table, the SHA-256 of the SHA-256s of all slices of the current generation, in their order."""
    return dict(
        conn.execute(
            f"SELECT name, encode(sha256(string_agg(sha256(convert_to(token, 'UTF8')), ''::bytea ORDER BY chunk)), 'hex') "
            f"FROM {conn.ledger}.partition JOIN {conn.ledger}.mapped_table USING (migration, name, generation) "
            f"WHERE migration = %s GROUP BY name",
            [migration],
        ).fetchall()
    )


def throughput(
    conn: Connection, migration: str, names: Sequence[str], steps: int
) -> list[tuple[int, str, float, int, float]]:
    """(run, when it began to read, seconds of a step, step, rows read in it) of the current generations, the latest run first.

    The rows of a chunk are spread evenly over the time that it took. Steps in which nothing was read are left out.
    """
    return conn.execute(
        f"""
        WITH chunk AS (
            SELECT e.epoch, e.read, e.began, greatest(e.ended, e.began + interval '1 millisecond') AS ended
            FROM {conn.ledger}.entry e JOIN {conn.ledger}.mapped_table t USING (migration, name, generation)
            WHERE e.migration = %(migration)s AND e.name = ANY(%(names)s) AND e.kind = 'load' AND e.read > 0
        ), run AS (
            SELECT epoch, min(began) AS first, extract(epoch FROM max(ended) - min(began))::float8 / %(steps)s AS step
            FROM chunk GROUP BY epoch
        ), placed AS (
            SELECT epoch, first, step, read, extract(epoch FROM began - first)::float8 / step AS lo,
                   extract(epoch FROM ended - first)::float8 / step AS hi
            FROM chunk JOIN run USING (epoch)
        )
        SELECT epoch, {_utc("first")}, step, n,
               sum(read * greatest(0, least(hi, n + 1) - greatest(lo, n)) / (hi - lo))::float8
        FROM placed, generate_series(floor(lo)::int, least(ceil(hi)::int, %(steps)s) - 1) n
        GROUP BY epoch, first, step, n ORDER BY epoch DESC, n
        """,
        {"migration": migration, "names": list(names), "steps": steps},
    ).fetchall()


def sums(conn: Connection, migration: str, name: str, generation: int) -> Iterable[tuple[str, bytes]]:
    """Kind and bucket sums of every entry, to be added up."""
    with conn.cursor() as cursor:
        yield from cursor.stream(
            f"SELECT kind, sums FROM {conn.ledger}.entry WHERE migration = %s AND name = %s AND generation = %s",
            [migration, name, generation],
        )


def rows_read(conn: Connection, migration: str, name: str, generation: int) -> dict[int, int]:
    """Rows that the load read, by chunk, as the source has them since a fixup; a replay's rows are not the source's."""
    rows = conn.execute(
        f"SELECT chunk, sum(read)::bigint FROM {conn.ledger}.entry "
        f"WHERE migration = %s AND name = %s AND generation = %s AND kind IN ('load', 'fixup') GROUP BY chunk",
        [migration, name, generation],
    ).fetchall()
    return {row[0]: row[1] for row in rows}


def unbalanced_chunks(conn: Connection, migration: str, name: str, generation: int) -> list[int]:
    """Claimed chunks without a load entry, and load entries beyond the plan: both must be none."""
    with conn.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute(
            f"""
            SELECT coalesce(c.chunk, e.chunk, p.chunk)
            FROM (SELECT chunk FROM {conn.ledger}.claim
                  WHERE migration = %(m)s AND name = %(n)s AND generation = %(g)s) c
            FULL JOIN (SELECT chunk FROM {conn.ledger}.entry WHERE migration = %(m)s AND name = %(n)s
                       AND generation = %(g)s AND kind = 'load') e USING (chunk)
            FULL JOIN (SELECT chunk FROM {conn.ledger}.partition
                  WHERE migration = %(m)s AND name = %(n)s AND generation = %(g)s) p USING (chunk)
            WHERE e.chunk IS NULL OR c.chunk IS NULL OR p.chunk IS NULL ORDER BY 1
            """,
            {"m": migration, "n": name, "g": generation},
        ).fetchall()


# ------------------------------------------------------------------------------------- orphans, suspended constraints


def write_orphans(conn: Connection, chunk: Chunk, orphans: Iterable[tuple[int, str, str]]) -> None:
    """(ordinal, column, policy) of rows that are loaded without their parent."""
    with conn.cursor() as cursor, cursor.copy(f"COPY {conn.ledger}.orphan FROM STDIN") as copy:
        for row in orphans:
            copy.write_row((chunk.migration, chunk.table, chunk.generation, chunk.ordinal, *row))


def rejected(conn: Connection, chunk: Chunk, *, replayed: bool = True) -> list[int]:
    """The ordinals of a chunk's rows that are, or (`replayed`) were, in quarantine."""
    still = "" if replayed else " AND state <> 'replayed'"
    with conn.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute(
            f"SELECT ordinal FROM {conn.ledger}.reject "
            f"WHERE migration = %s AND name = %s AND generation = %s AND chunk = %s{still}",
            [chunk.migration, chunk.table, chunk.generation, chunk.ordinal],
        ).fetchall()


def excluded_chunks(conn: Connection, migration: str, name: str, generation: int) -> list[int]:
    """The chunks of which some rows are not in the target: merged, filtered, or rejected and not replayed."""
    with conn.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute(
            f"SELECT chunk FROM {conn.ledger}.entry WHERE migration = %s AND name = %s AND generation = %s "
            f"GROUP BY chunk HAVING sum(merged) > 0 OR sum(filtered) > 0 OR sum(rejected) > 0 ORDER BY chunk",
            [migration, name, generation],
        ).fetchall()


def overridden_columns(conn: Connection, migration: str, name: str, generation: int) -> set[str]:
    """The columns in which survivors have values of other rows."""
    with conn.cursor(row_factory=scalar_row) as cursor:
        return set(
            cursor.execute(
                f'SELECT DISTINCT "column" FROM {conn.ledger}.override '
                f"WHERE migration = %s AND name = %s AND generation = %s",
                [migration, name, generation],
            ).fetchall()
        )


def orphaned(conn: Connection, chunk: Chunk) -> list[tuple[int, str, str]]:
    """(ordinal, column, policy) of a chunk's rows that were loaded without their parent."""
    return conn.execute(
        f'SELECT ordinal, "column", policy FROM {conn.ledger}.orphan '
        f"WHERE migration = %s AND name = %s AND generation = %s AND chunk = %s",
        [chunk.migration, chunk.table, chunk.generation, chunk.ordinal],
    ).fetchall()


def nulled(conn: Connection, chunk: Chunk) -> list[tuple[int, str]]:
    """(ordinal, column) of a chunk's references that became NULL for want of a parent."""
    return [(ordinal, column) for ordinal, column, policy in orphaned(conn, chunk) if policy == "null"]


def orphans(conn: Connection, migration: str) -> list[tuple[str, str, str, int]]:
    """(table, column, policy, rows) of the current generations."""
    return conn.execute(
        f'SELECT o.name, o."column", o.policy, count(*) FROM {conn.ledger}.orphan o '
        f"JOIN {conn.ledger}.mapped_table t USING (migration, name, generation) "
        f"WHERE o.migration = %s GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
        [migration],
    ).fetchall()


def suspend(conn: Connection, migration: str, name: str, key: ForeignKey, definition: str) -> None:
    conn.execute(
        f"INSERT INTO {conn.ledger}.suspended VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
        [
            migration,
            name,
            key.name,
            list(key.columns),
            key.parent_schema,
            key.parent_name,
            list(key.parent_columns),
            definition,
        ],
    )


def suspended(conn: Connection, migration: str, name: str) -> list[tuple[ForeignKey, str]]:
    """The foreign keys of a table that are off at the moment, with their definitions."""
    rows = conn.execute(
        f'SELECT "constraint", columns, parent_schema, parent_name, parent_columns, definition '
        f"FROM {conn.ledger}.suspended WHERE migration = %s AND name = %s ORDER BY 1",
        [migration, name],
    ).fetchall()
    return [(ForeignKey(r[0], tuple(r[1]), r[2], r[3], tuple(r[4]), full=_full(r[5])), r[5]) for r in rows]


def _full(definition: str) -> bool:
    """Whether a foreign key is MATCH FULL, by its definition; a name may say so as well."""
    return " MATCH FULL" in re.sub(r'"[^"]*"', "", definition)


def resumed(conn: Connection, migration: str, name: str) -> None:
    """A table's foreign keys are on again."""
    conn.execute(f"DELETE FROM {conn.ledger}.suspended WHERE migration = %s AND name = %s", [migration, name])


# ------------------------------------------------------------------------------------------------------------ findings


UNENDED = "verification"
"""The level under which a verification that began stands until it ends; its finding says that it did not."""

_WIDER = {"counts": ["counts", "aggregates", "rows"], "aggregates": ["aggregates", "rows"], "rows": ["rows"]}
"""By level of verification, itself and those that hold it."""


def withdraw(conn: Connection, migration: str, names: Sequence[str], level: str) -> None:
    """A verification of tables begins: until it has ended, what older ones said is not their last word."""
    with conn.transaction():
        for name, state in table_states(conn, migration).items():
            if name not in names or state.phase != "finalized":
                continue
            message = f"{name}: not proved: the last verification, by {level}, did not end"
            found = Finding("verification.unended", "error", name, message)
            save_findings(conn, migration, name, state.generation, UNENDED, [found])


def conclude(
    conn: Connection, migration: str, name: str, generation: int, level: str, findings: Sequence[Finding]
) -> None:
    """A verification of a table ended: it replaces those that it holds, and where it found a difference those that hold it."""
    with conn.transaction():
        forget(conn, migration, name, [UNENDED, *(n for n, wider in _WIDER.items() if level in wider)])
        if any(f.severity == "error" for f in findings):
            forget(conn, migration, name, _WIDER[level])
        save_findings(conn, migration, name, generation, level, findings)


def forget(conn: Connection, migration: str, name: str, levels: Sequence[str]) -> None:
    """What a table's verifications of some levels said."""
    for kept in ("finding", "verification"):
        conn.execute(
            f"DELETE FROM {conn.ledger}.{kept} WHERE migration = %s AND name = %s AND level = ANY(%s)",
            [migration, name, list(levels)],
        )


def save_findings(
    conn: Connection, migration: str, name: str, generation: int, level: str, findings: Sequence[Finding]
) -> None:
    """Replace what an earlier verification of this level found; the differences among it are counted."""
    with conn.transaction():
        conn.execute(
            f"DELETE FROM {conn.ledger}.finding WHERE migration = %s AND name = %s AND level = %s",
            [migration, name, level],
        )
        into = f'{conn.ledger}.finding (migration, name, level, "check", severity, message, key, expected, actual, "column")'
        with conn.cursor() as cursor, cursor.copy(f"COPY {into} FROM STDIN") as copy:
            for f in findings:
                shown = map(_clean, (f.message, f.key, f.expected, f.actual))
                copy.write_row((migration, name, level, f.check, f.severity, *shown, f.column))
        conn.execute(
            f"INSERT INTO {conn.ledger}.verification (migration, name, generation, level, findings) "
            f"VALUES (%s, %s, %s, %s, %s) ON CONFLICT (migration, name, level) DO UPDATE SET "
            f"(generation, at, findings) = (EXCLUDED.generation, clock_timestamp(), EXCLUDED.findings)",
            [migration, name, generation, level, sum(f.severity == "error" for f in findings)],
        )


def _clean(text: str | None) -> str | None:
    # A finding is shown, never compared: PostgreSQL's text cannot hold a NUL.
    return None if text is None else text.replace("\0", "␀")


def verifications(conn: Connection, migration: str) -> list[tuple[str, str, str, int, bool]]:
    """(table, level, when, findings, of what is loaded now: no row was entered since) of tables of which the last one ended."""
    return conn.execute(
        f"SELECT v.name, v.level, {_utc('v.at')}, v.findings, v.generation = t.generation AND {_nothing_since(conn)} "
        f"FROM {conn.ledger}.verification v "
        f"JOIN {conn.ledger}.mapped_table t USING (migration, name) WHERE v.migration = %s AND NOT EXISTS (SELECT FROM "
        f"{conn.ledger}.verification u WHERE (u.migration, u.name, u.level) = (v.migration, v.name, %s)) ORDER BY 1, 2",
        [migration, UNENDED],
    ).fetchall()


def _nothing_since(conn: Connection) -> str:
    """SQL: nothing was entered for the table `t` since its verification `v`, which has not seen what a run or a replay adds."""
    return (
        f"NOT EXISTS (SELECT FROM {conn.ledger}.entry e WHERE (e.migration, e.name, e.generation) = "
        f"(t.migration, t.name, t.generation) AND e.ended > v.at)"
    )


def begin_verification(conn: Connection, migration: str, level: str, against: str) -> datetime:
    """When the verification began: now, or when the one of this kind did that has not come to its end.

    `against` is all that it looks at beside its level, as `How.what` says it.
    """
    with conn.transaction():
        conn.execute(
            f"DELETE FROM {conn.ledger}.verifying WHERE migration = %s AND (level, against) <> (%s, %s)",
            [migration, level, against],
        )
        row = conn.execute(
            f"INSERT INTO {conn.ledger}.verifying (migration, level, against) VALUES (%s, %s, %s) "
            f"ON CONFLICT (migration) DO UPDATE SET level = EXCLUDED.level RETURNING began",
            [migration, level, against],
        ).fetchone()
    assert row is not None
    began: datetime = row[0]
    return began


def end_verification(conn: Connection, migration: str) -> None:
    conn.execute(f"DELETE FROM {conn.ledger}.verifying WHERE migration = %s", [migration])


def verified_since(conn: Connection, migration: str, level: str, began: datetime) -> dict[str, str]:
    """The tables that were verified since a moment, as they are loaded now, and when."""
    rows = conn.execute(
        f"SELECT v.name, {_utc('v.at')} FROM {conn.ledger}.verification v "
        f"JOIN {conn.ledger}.mapped_table t USING (migration, name, generation) "
        f"WHERE v.migration = %s AND v.level = %s AND v.at >= %s AND {_nothing_since(conn)}",
        [migration, level, began],
    ).fetchall()
    return dict(rows)


def findings(conn: Connection, migration: str) -> list[tuple[str, Finding]]:
    """(level, finding) of the last verifications of what is loaded now: a new generation is yet to be verified."""
    rows = conn.execute(
        f'SELECT f.level, f."check", f.severity, f.name, f.message, f.key, f.expected, f.actual, f."column" '
        f"FROM {conn.ledger}.finding f "
        f"JOIN {conn.ledger}.verification v USING (migration, name, level) "
        f"JOIN {conn.ledger}.mapped_table t ON t.migration = f.migration AND t.name = f.name AND t.generation = v.generation "
        f"WHERE f.migration = %s ORDER BY f.id",
        [migration],
    ).fetchall()
    return [(level, Finding(*row)) for level, *row in rows]
