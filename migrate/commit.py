"""The commit protocol: one chunk, one transaction; its rows, rejects and ledger entry stand or fall together.

1.  The first statement that touches a table claims the chunk. Whoever comes second finds the stored entry, and that is
    the answer; so a connection lost during COMMIT is simply tried again.
2.  Under the table's shared lock the run's fencing epoch and the table's generation are checked: a run that was taken
    over, or whose table was truncated for a new generation, writes nothing.
3.  Every row was numbered where it was read. The ordinals of loaded, merged, filtered and rejected rows must partition
    `0..read-1`: counts alone would let a drop and a doubling cancel.
4.  `loaded` is what the server says it stored, never what was sent.
5.  Errors of SQLSTATE classes 22 and 23 reject rows; 08, 40, 53 and 57 try the whole chunk again; any other ends the run.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

import numpy as np
import numpy.typing as npt
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import errors as pgerrors

from migrate import checksum, ledger, quarantine
from migrate.core import Chunk, Entry, Flow, Ordinals, Reject, Step
from migrate.errors import FindingsError, GateError, InternalError, RetryableError, TargetError
from migrate.personal import TELLS_NO_VALUE
from migrate.target import (
    MAX_REFUSALS,
    Connection,
    ForeignKeyScreen,
    Refusal,
    UniqueScreen,
    Writer,
    deadlocked,
    explain,
    explained,
    passing,
)

ATTEMPTS = 8
"""How often a chunk is tried before the run gives up with exit 75."""

# What values mean must not depend on the role's settings.
# A connection that broke on our side only may still hold the claim on the server's: the server is told to notice within
# a minute, and the next attempt not to wait for ever. Local to the transaction, for a pooler may hand the session on.
BOUNDS = """
SET LOCAL lock_timeout = '60s';
SET LOCAL tcp_keepalives_idle = 20;
SET LOCAL tcp_keepalives_interval = 10;
SET LOCAL tcp_keepalives_count = 3;
SET LOCAL client_min_messages = warning;
SET LOCAL timezone = 'UTC';
SET LOCAL datestyle = 'ISO, YMD';
SET LOCAL intervalstyle = 'postgres';
SET LOCAL lc_monetary = 'C';
"""

_LONGEST_PAUSE = 20.0  # seconds; the pauses 0.2, 0.4, … add up to more than a failover of Aurora takes


def backoff(attempt: int) -> float:
    """Seconds to wait before trying again, twice as long each time."""
    return min(0.2 * 2.0**attempt, _LONGEST_PAUSE)


def enter(
    conn: Connection, migration: str, table: str, epoch: int, generation: int | None, *, exclusive: bool = False
) -> None:
    """Take a table's lock until the transaction ends, and see that this run may still write this generation.

    `generation` None: any will do. Raises GateError for a run that was taken over, or whose table was started over.
    """
    conn.execute(BOUNDS)
    ledger.lock(conn, migration, table, exclusive=exclusive)
    current, filling = ledger.fence(conn, migration, table)
    if current != epoch:
        raise GateError(
            f"run {epoch} of {migration} was taken over by run {current}",
            hint="Nothing is lost: what this run committed stands. See `migrate status`.",
        )
    if generation is not None and filling != generation:
        raise GateError(
            f"{table} is at generation {filling}, this run was filling generation {generation}",
            hint="Another command started the table over. See `migrate status`.",
        )


@dataclass(slots=True)
class Tally:
    """What one attempt at a chunk has seen so far."""

    read: int = 0
    inserted: int = 0
    loaded: list[Ordinals] = field(default_factory=list)
    merged: list[Ordinals] = field(default_factory=list)
    filtered: list[Ordinals] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    orphans: list[tuple[int, str, str]] = field(default_factory=list)
    refused: int = 0
    sums: checksum.Sums = field(default_factory=checksum.zero)

    def entry(self, chunk: Chunk) -> Entry:
        """The chunk's load entry. Raises InternalError unless the ordinals of all fates partition `0..read-1`."""
        loaded, merged, filtered = (_joined(part) for part in (self.loaded, self.merged, self.filtered))
        rejected = np.fromiter((r.ordinal for r in self.rejects), np.int64, len(self.rejects))
        every = np.concatenate((loaded, merged, filtered, rejected))
        if len(every) != self.read or not np.array_equal(np.sort(every), np.arange(self.read)):
            raise InternalError(
                f"{chunk.table}, chunk {chunk.ordinal}: {_imbalance(every, self.read)}",
                hint="Nothing of this chunk was written. Please report this with the project file.",
            )
        return Entry(
            "load",
            chunk,
            self.read,
            len(loaded),
            len(merged),
            len(filtered),
            len(rejected),
            checksum.pack(self.sums),
        )


def _joined(parts: Sequence[Ordinals]) -> Ordinals:
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _imbalance(every: Ordinals, read: int) -> str:
    """Which source rows have no fate, or more than one."""
    within = every[(every >= 0) & (every < read)]
    times = np.bincount(within, minlength=read)
    lost, doubled = np.flatnonzero(times == 0), np.flatnonzero(times > 1)
    strange = len(every) - len(within)
    parts = [
        f"{len(rows)} source rows {what} (ordinals {', '.join(map(str, rows[:5]))}{', …' if len(rows) > 5 else ''})"
        for rows, what in ((lost, "have no fate"), (doubled, "have more than one fate"))
        if len(rows)
    ]
    if strange:
        parts.append(f"{strange} fates belong to no source row")
    return "the accounting does not balance: " + "; ".join(parts)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The chunk is committed: its entry, and whether this call did it or an earlier one had."""

    entry: Entry
    again: bool
    attempts: int


PARTLY_NULL = "{} is NULL, and the rest of what names its parent is not: MATCH FULL refuses that ({})"
"""Why a row is an orphan: which columns are NULL, and by which foreign key."""

Policy = Literal["reject", "null", "keep"]
"""What becomes of a row whose parent does not exist."""


class Committer:
    """Commits the chunks of one table over one connection. Not for sharing between threads."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        writer: Writer,
        hasher: checksum.Hasher,
        screens: Sequence[tuple[ForeignKeyScreen, Policy]],
        *,
        uniques: Sequence[UniqueScreen] = (),
        epoch: int,
        abort: bool = False,
        personal: Collection[str] = (),
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        """`abort`: a chunk with a rejected row is not committed; of `personal` columns it says no value.

        `pause` waits some seconds between attempts; the engine's returns early, or raises, when a stop is asked for.
        """
        self._connect = connect
        self._connection: Connection | None = None
        self._writer = writer
        self._hasher = hasher
        self._screens = screens
        self._uniques = uniques
        self._epoch = epoch
        self._abort = abort
        self._personal = personal
        self._pause = pause

    def commit(self, chunk: Chunk, flow: Flow) -> Receipt:
        """Commit a chunk exactly once, trying again where that may help.

        Raises GateError (fenced), TargetError, RetryableError (the retries are used up), InternalError, or what the
        flow raises; in each case nothing of the chunk is in the target.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._once(chunk, flow, attempt)
            except (psycopg.Error, RetryableError) as error:
                # A connection that was lost while connecting has been explained already.
                if isinstance(error, psycopg.Error) and not passing(error):
                    raise explain(error, doing=f"load {chunk.table}, chunk {chunk.ordinal}") from error
                if attempt == ATTEMPTS:
                    raise self._exhausted(chunk, error) from error
                if isinstance(error, psycopg.Error) and deadlocked(error):
                    self._pause(0.05 * attempt)
                else:
                    self.close()
                    self._pause(backoff(attempt - 1))
        raise AssertionError("unreachable")

    def _exhausted(self, chunk: Chunk, error: psycopg.Error | RetryableError) -> RetryableError:
        doing = f"load {chunk.table}, chunk {chunk.ordinal}"
        why = explain(error, doing=doing) if isinstance(error, psycopg.Error) else error
        return RetryableError(
            f"{why.message} (tried {ATTEMPTS} times)", hint="Run the same command again: it goes on at this chunk."
        )

    def _once(self, chunk: Chunk, flow: Flow, attempt: int) -> Receipt:
        conn = self._connected()
        began = datetime.now(UTC)
        try:
            with conn.transaction():
                conn.execute(BOUNDS)
                ledger.claim(conn, chunk, self._epoch)
                enter(conn, chunk.migration, chunk.table, self._epoch, chunk.generation)
                # A deferred constraint would pass the savepoints and then kill the COMMIT.
                conn.execute("SET CONSTRAINTS ALL IMMEDIATE")
                tally = Tally()
                for step in flow():
                    self._take(conn, step, tally)
                if self._abort and tally.rejects:
                    raise _aborted(chunk, min(tally.rejects, key=lambda r: r.ordinal), self._personal)
                entry = tally.entry(chunk)
                quarantine.write(conn, chunk, tally.rejects)
                loaded = set(np.concatenate([*tally.loaded, np.empty(0, np.int64)]).tolist()) if tally.orphans else ()
                ledger.write_orphans(conn, chunk, (o for o in tally.orphans if o[0] in loaded))
                ledger.write_entry(conn, entry, self._epoch, began, tally.inserted)
        except pgerrors.UniqueViolation as error:
            if error.diag.schema_name != conn.ledger or error.diag.table_name != "claim":
                raise
            return Receipt(self._stored(conn, chunk), again=True, attempts=attempt)
        return Receipt(entry, again=False, attempts=attempt)

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        return self._connection

    def _take(self, conn: Connection, step: Step, tally: Tally) -> None:
        """Load one step and add its fates to the tally."""
        tally.read += step.read
        tally.merged.append(step.merged)
        tally.filtered.append(step.filtered)
        tally.rejects += step.rejects
        rows, ordinals = step.rows, step.ordinals
        if rows.num_rows != len(ordinals):
            raise InternalError(f"a step has {rows.num_rows} rows and {len(ordinals)} ordinals")
        for screen, policy in self._screens:
            orphans = screen.orphans(conn, rows, self._writer.table)
            if not orphans:
                continue
            if policy == "reject":
                tally.rejects += self._orphaned(step, screen, rows, ordinals[orphans], orphans)
                rows, ordinals = _without(rows, ordinals, orphans)
                continue
            columns = screen.foreign_key.columns
            tally.orphans += [(int(o), column, policy) for o in ordinals[orphans] for column in columns]
            if policy == "null":
                rows = nulled(rows, columns, orphans)
        for unique in self._uniques:
            standing = unique.standing(conn, rows, self._writer.table)
            if standing:
                tally.rejects += self._taken(step, unique, ordinals[standing])
                rows, ordinals = _without(rows, ordinals, standing)
        loaded = self._writer.write(conn, rows, refusals_left=MAX_REFUSALS - tally.refused)
        tally.refused += len(loaded.refused)
        tally.inserted += loaded.inserted
        if loaded.refused:
            tally.rejects += self._refused(step, ordinals, loaded.refused)
            rows, ordinals = _without(rows, ordinals, [r.index for r in loaded.refused])
        if loaded.rows != len(ordinals):
            raise InternalError(f"{loaded.rows} rows were stored, {len(ordinals)} were to be loaded")
        tally.loaded.append(ordinals)
        if rows.num_rows:
            tally.sums += checksum.add(*self._hasher(rows))

    def _orphaned(
        self, step: Step, screen: ForeignKeyScreen, rows: pa.RecordBatch, ordinals: Ordinals, indices: Sequence[int]
    ) -> list[Reject]:
        key = screen.foreign_key
        values = rows.select(list(key.columns)).take(pa.array(indices)).to_pylist()
        origins = step.locate([int(o) for o in ordinals])
        return [
            Reject(
                int(ordinal),
                "foreign_key",
                PARTLY_NULL.format(", ".join(c for c in key.columns if value[c] is None), key.name)
                if None in value.values()
                else f"no row of {key.parent} has {_pairs(key.parent_columns, value.values())} ({key.name})",
                origin,
                key.columns[0],
                None if value[key.columns[0]] is None else _shown(value[key.columns[0]]),
            )
            for ordinal, value, origin in zip(ordinals, values, origins, strict=True)
        ]

    @staticmethod
    def _taken(step: Step, unique: UniqueScreen, ordinals: Ordinals) -> list[Reject]:
        chosen = [int(o) for o in ordinals]
        names = ", ".join(unique.columns)
        why = f"a row that was in {'.'.join(unique.relation)} before has the same {names}"
        origins = step.locate(chosen)
        return [Reject(o, "unique", why, origin, unique.columns[0]) for o, origin in zip(chosen, origins, strict=True)]

    def _refused(self, step: Step, ordinals: Ordinals, refused: Sequence[Refusal]) -> list[Reject]:
        chosen = [int(ordinals[r.index]) for r in refused]
        return [
            Reject(
                ordinal,
                _RULES.get(r.sqlstate, "refused"),
                f"the server refused it: {r.message} [{r.sqlstate}]",
                origin,
                r.column,
            )
            for ordinal, r, origin in zip(chosen, refused, step.locate(chosen), strict=True)
        ]

    def _stored(self, conn: Connection, chunk: Chunk) -> Entry:
        with explained(f"read the entry of {chunk.table}, chunk {chunk.ordinal}"):
            entry = ledger.stored_entry(conn, chunk)
        if entry is None:
            raise TargetError(
                f"{chunk.table}, chunk {chunk.ordinal} is claimed but has no entry: the ledger was changed by hand",
                hint=f"Compare {conn.ledger}.claim and {conn.ledger}.entry; `migrate run --restart` starts over.",
            )
        return entry

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _aborted(chunk: Chunk, reject: Reject, personal: Collection[str]) -> FindingsError:
    places = ("file", "line", "sheet", "row")
    place = ", ".join(f"{k} {v}" for k, v in reject.origin.locator.items() if k in places)
    column = f", column {reject.column}" if reject.column else ""
    # The message goes to logs, reports and notifications.
    unsure = bool(personal) and reject.column is None and reject.rule not in TELLS_NO_VALUE
    reason = f"(personal; its rule is {reject.rule})" if unsure or reject.column in personal else reject.reason
    return FindingsError(
        f"{chunk.table}: a bad row{f' ({place})' if place else ''}{column}: {reason}",
        hint="Bad rows abort the run (`on_bad_row`, --on-error): nothing of this chunk was loaded. Mend the row or the mapping "
        "and run the same command again, or say `--on-error quarantine`.",
    )


_RULES = {
    "23505": "unique",
    "23503": "foreign_key",
    "23502": "not_null",
    "23514": "check",
    "23P01": "exclusion",
    "22001": "length",
    "22003": "range",
    "22008": "range",
    "22007": "type",
    "22P02": "type",
    "22021": "encoding",
}
"""What a refusal's SQLSTATE is called in the quarantine; the screens use the same words."""


def _without(rows: pa.RecordBatch, ordinals: Ordinals, indices: Sequence[int]) -> tuple[pa.RecordBatch, Ordinals]:
    keep: npt.NDArray[np.bool_] = np.ones(len(ordinals), np.bool_)
    keep[list(indices)] = False
    return rows.filter(pa.array(keep)), ordinals[keep]


def nulled(rows: pa.RecordBatch, columns: Sequence[str], indices: Sequence[int]) -> pa.RecordBatch:
    """Rows with some columns of some of them NULL."""
    places = pa.array(np.isin(np.arange(rows.num_rows), list(indices)))
    for column in columns:
        at = rows.schema.get_field_index(column)
        values = rows.column(at)
        rows = rows.set_column(at, rows.schema.field(at), pc.if_else(places, pa.scalar(None, values.type), values))
    return rows


def _pairs(names: Sequence[str], values: object) -> str:
    return ", ".join(f"{n} = {_shown(v)}" for n, v in zip(names, values, strict=True))  # type: ignore[call-overload]


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return str(UUID(bytes=value)) if len(value) == 16 else value.hex()
    return str(value)
