"""The quarantine: the ledger's table of rows that were not loaded, each with its place, raw bytes, rule and reason."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from migrate.core import Chunk, Reject, TargetTable, Wire
from migrate.target import Connection, Writer


@dataclass(frozen=True, slots=True)
class QuarantinedRow:
    """A reject as the ledger keeps it."""

    id: int
    name: str
    chunk: int
    ordinal: int
    state: str
    rule: str
    column: str | None
    value: str | None
    reason: str
    key: str | None
    locator: dict[str, Any]
    raw: bytes
    note: str | None


_COLUMNS = pa.schema(
    [
        *((name, pa.string()) for name in ("migration", "name")),
        *((name, pa.int32()) for name in ("generation", "chunk")),
        ("ordinal", pa.int64()),
        *((name, pa.string()) for name in ("rule", "column")),
        *((name, pa.binary()) for name in ("value", "reason", "key")),
        ("locator", pa.string()),
        ("raw", pa.binary()),
    ]
)


def write(conn: Connection, chunk: Chunk, rejects: Sequence[Reject]) -> None:
    """Write rejects in one COPY: there may be as many as a chunk has rows."""
    if not rejects:
        return
    same = [chunk.migration, chunk.table, chunk.generation, chunk.ordinal]
    columns: list[list[Any]] = [
        *([value] * len(rejects) for value in same),
        [r.ordinal for r in rejects],
        [r.rule for r in rejects],
        [r.column for r in rejects],
        [_bytes(r.value) for r in rejects],
        [_bytes(r.reason) for r in rejects],
        [_bytes(r.origin.key) for r in rejects],
        [json.dumps(dict(r.origin.locator), ensure_ascii=False) for r in rejects],
        [r.origin.raw for r in rejects],
    ]
    batch = pa.record_batch(columns, schema=_COLUMNS)
    writer = Writer(TargetTable(conn.ledger, "reject", ()), _COLUMNS, [Wire(f.type) for f in _COLUMNS])
    writer.copy_into(conn, f"{conn.ledger}.reject", batch)


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode("utf-8", "surrogatepass")


def rows(
    conn: Connection,
    migration: str,
    *,
    names: Sequence[str] | None = None,
    ids: Sequence[int] | None = None,
    rule: str | None = None,
    state: str | None = None,
    limit: int | None = None,
) -> list[QuarantinedRow]:
    """Rejects of the current generations, oldest first."""
    found = conn.execute(
        f"""
        SELECT r.id, r.name, r.chunk, r.ordinal, r.state, r.rule, r."column", r.value, r.reason, r.key, r.locator,
               r.raw, r.note
        FROM {conn.ledger}.reject r
        JOIN {conn.ledger}.mapped_table t USING (migration, name, generation)
        WHERE r.migration = %(migration)s
          AND (%(names)s::text[] IS NULL OR r.name = ANY(%(names)s))
          AND (%(ids)s::bigint[] IS NULL OR r.id = ANY(%(ids)s))
          AND (%(rule)s::text IS NULL OR r.rule = %(rule)s)
          AND (%(state)s::text IS NULL OR r.state = %(state)s)
        ORDER BY r.name, r.chunk, r.ordinal LIMIT %(limit)s
        """,
        {
            "migration": migration,
            "names": None if names is None else list(names),
            "ids": None if ids is None else list(ids),
            "rule": rule,
            "state": state,
            "limit": limit,
        },
    ).fetchall()
    return [_row(row) for row in found]


def _row(row: Sequence[Any]) -> QuarantinedRow:
    values: tuple[Any, ...] = (*row[:7], _text(row[7]), _text(row[8]) or "", _text(row[9]), *row[10:])
    return QuarantinedRow(*values)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")


def counts(conn: Connection, migration: str) -> list[tuple[str, str, str | None, str, int]]:
    """(table, rule, column, state, rows) of the current generations, the most frequent first."""
    return conn.execute(
        f"""
        SELECT r.name, r.rule, r."column", r.state, count(*)
        FROM {conn.ledger}.reject r JOIN {conn.ledger}.mapped_table t USING (migration, name, generation)
        WHERE r.migration = %s GROUP BY 1, 2, 3, 4 ORDER BY 1, 5 DESC, 2, 3
        """,
        [migration],
    ).fetchall()


def samples(
    conn: Connection, migration: str, each: int = 5
) -> dict[tuple[str, str, str | None, str], list[QuarantinedRow]]:
    """The first few rejects of each (table, rule, column, state)."""
    found = conn.execute(
        f"""
        SELECT id, name, chunk, ordinal, state, rule, "column", value, reason, key, locator, ''::bytea, note
        FROM (SELECT r.*, row_number() OVER (PARTITION BY r.name, r.rule, r."column", r.state
                                             ORDER BY r.chunk, r.ordinal) AS n
              FROM {conn.ledger}.reject r JOIN {conn.ledger}.mapped_table t USING (migration, name, generation)
              WHERE r.migration = %s) first
        WHERE n <= %s ORDER BY name, rule, "column", n
        """,
        [migration, each],
    ).fetchall()
    sampled: dict[tuple[str, str, str | None, str], list[QuarantinedRow]] = {}
    for row in map(_row, found):
        sampled.setdefault((row.name, row.rule, row.column, row.state), []).append(row)
    return sampled


def settle(conn: Connection, ids: Sequence[int], state: str, note: str | None) -> int:
    """Turn open rejects into `state`; the number that were still open."""
    return conn.execute(
        f"UPDATE {conn.ledger}.reject SET state = %s, note = %s, settled = clock_timestamp() "
        f"WHERE id = ANY(%s) AND state = 'open'",
        [state, note, list(ids)],
    ).rowcount


def size(conn: Connection, migration: str, name: str, generation: int) -> int:
    """Rows in quarantine that were not replayed."""
    row = conn.execute(
        f"SELECT count(*) FROM {conn.ledger}.reject "
        f"WHERE migration = %s AND name = %s AND generation = %s AND state <> 'replayed'",
        [migration, name, generation],
    ).fetchone()
    return int(row[0]) if row else 0
