"""`migrate verify --fixup`: makes the target's differing rows what the source maps to, one transaction a chunk.

A row is overwritten in place, never deleted and written anew: other tables may hang on it. What the ledger says was loaded
is what the target then holds, so the entries add nothing to it, unless the source is what changed.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import psycopg
import pyarrow as pa

from mappings.ddl import quote
from migrate import checksum, ledger
from migrate.commit import enter
from migrate.core import Chunk, Entry
from migrate.errors import FindingsError, GateError
from migrate.readback import PLACE
from migrate.rowdiff import Differences, Side
from migrate.sides import Sides
from migrate.target import Writer, explained

_STAGE = "migrate_fixup"


@dataclass(slots=True)
class Repaired:
    """What was done to rows; `left`: rows that are not the source's and were not deleted."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    left: int = 0

    @property
    def message(self) -> str:
        parts = [
            f"{n:,} {what}"
            for n, what in ((self.inserted, "inserted"), (self.updated, "updated"), (self.deleted, "deleted"))
            if n
        ]
        said = f"rows repaired: {', '.join(parts) or 'none'}"
        return f"{said}; {self.left:,} that are not the source's were left: -y deletes them" if self.left else said


@dataclass(slots=True)
class _Work:
    """What is to be done in one chunk, as (side, index of a row): a row that is overwritten is (new, old)."""

    updates: list[tuple[Side, int, Side, int]] = field(default_factory=list)
    inserts: list[tuple[Side, int]] = field(default_factory=list)
    deletes: list[tuple[Side, int, str]] = field(default_factory=list)


def fixup(
    sides: Sides, found: Differences, epoch: int, *, may_delete: bool, grown: Mapping[int, int] | None
) -> Repaired:
    """Repair what was found. `may_delete`: rows that are not the source's too.

    `grown`: the source itself changed since the load, by so many rows in each chunk; then the entries say what changed.
    Raises GateError where deleting would take other tables' rows along, FindingsError where rows changed meanwhile or the
    server refuses one; then what other chunks repaired stands.
    """
    done = Repaired()
    by_chunk: dict[int, _Work] = {}
    surplus = [each for source, target in found.parts for each in _plan(sides, source, target, by_chunk)]
    _book(sides, surplus, grown or {}, by_chunk)
    extras = sum(len(w.deletes) for w in by_chunk.values())
    if not may_delete:
        done.left = extras
        for work in by_chunk.values():
            work.deletes.clear()
    elif extras:
        if not sides.partitions:
            raise GateError(
                f"{sides.state.name}: {extras:,} rows are not the source's, which had none: there is no chunk to enter it for",
                hint="Delete them by hand, or run without -y.",
            )
        _refuse_cascades(sides)
    for chunk, work in sorted(by_chunk.items()):
        if work.updates or work.inserts or work.deletes:
            with explained(f"repair {sides.state.name}, chunk {chunk}", personal=bool(sides.mapping.spec.personal)):
                _repair(sides, chunk, work, epoch, drifted=grown is not None)
            done.inserted += len(work.inserts)
            done.updated += len(work.updates)
            done.deleted += len(work.deletes)
    return done


def _plan(sides: Sides, source: Side, target: Side, by_chunk: dict[int, _Work]) -> list[tuple[Side, int, str]]:
    """Pair the rows of a key; of what is left, the source's are inserted, and the target's are returned, to be deleted."""
    first = _first(sides)
    theirs = {h: int(n) for h, n in zip(target.hashes.tolist(), target.counts.tolist(), strict=True)}
    ours = {h: int(n) for h, n in zip(source.hashes.tolist(), source.counts.tolist(), strict=True)}
    old: dict[int, list[int]] = {}
    keyed = _keyed(sides, target)
    for at, (key, hash_) in enumerate(zip(target.keys.tolist(), target.hashes.tolist(), strict=True)):
        if keyed[at] and theirs[hash_] > ours.get(hash_, 0):
            old.setdefault(key, []).append(at)
    overwritten: set[int] = set()
    keyed = _keyed(sides, source)
    for at, (key, hash_) in enumerate(zip(source.keys.tolist(), source.hashes.tolist(), strict=True)):
        missing = ours[hash_] - theirs.get(hash_, 0)
        chunk = int(source.chunks[at]) if source.chunks[at] >= 0 else first
        work = by_chunk.setdefault(chunk, _Work())
        if missing > 0 and keyed[at] and len(old.get(key, ())) == 1 and missing == 1:
            work.updates.append((source, at, target, old[key][0]))
            overwritten.add(old[key][0])
        elif missing > 0:
            work.inserts += [(source, at)] * missing
    return [
        (target, at, place)
        for at, hash_ in enumerate(target.hashes.tolist())
        if (surplus := theirs[hash_] - ours.get(hash_, 0)) > 0 and at not in overwritten
        for place in target.places[at][-surplus:]  # the last ones: those of tables that inherit, too
    ]


def _first(sides: Sides) -> int:
    """The chunk of what none can be told of; a source without rows has none."""
    return min((p.ordinal for p in sides.partitions), default=0)


def _book(
    sides: Sides, surplus: Sequence[tuple[Side, int, str]], grown: Mapping[int, int], by_chunk: dict[int, _Work]
) -> None:
    """Delete what is too much, each row in a chunk that lost one: that gained less than is inserted into it."""
    first = _first(sides)
    lost = Counter({chunk: len(work.inserts) for chunk, work in by_chunk.items()})
    lost.subtract(grown)
    for each in surplus:
        chunk = next((c for c, n in lost.items() if n > 0), first)
        lost[chunk] -= 1
        by_chunk.setdefault(chunk, _Work()).deletes.append(each)


def _keyed(sides: Sides, side: Side) -> Sequence[bool]:
    """Which rows have a key, whole."""
    if not sides.key:
        return [False] * len(side.keys)
    whole = np.ones(len(side.keys), np.bool_)
    for name in sides.key:
        whole &= side.rows.column(name).is_valid().to_numpy(zero_copy_only=False)
    listed: list[bool] = whole.tolist()
    return listed


def _repair(sides: Sides, number: int, work: _Work, epoch: int, *, drifted: bool) -> None:
    conn, state, mapping = sides.work.conn, sides.state, sides.mapping
    chunk = Chunk(sides.work.migration, state.name, state.generation, number)
    relation = quote(mapping.target.schema, mapping.target.name)
    writer = Writer(mapping.target, mapping.schema, mapping.wires)
    began = datetime.now(UTC)
    try:
        with conn.transaction():
            enter(conn, chunk.migration, chunk.table, epoch, chunk.generation, exclusive=True)
            conn.execute(f"LOCK TABLE {relation} IN SHARE ROW EXCLUSIVE MODE")
            _see_unchanged(sides, work)
            if work.deletes:
                sides.delete([place for _, _, place in work.deletes])
            if work.updates:
                _update(sides, writer, _rows(sides, [(side, at) for side, at, _, _ in work.updates]))
            if work.inserts:
                rows = _rows(sides, work.inserts)
                if writer.copy_into(conn, relation, rows) != rows.num_rows:
                    raise FindingsError(
                        f"{state.name}: the server did not store all rows that were missing",
                        hint=f"A trigger discards them: {', '.join(mapping.target.triggers) or 'see the table'}.",
                    )
            ledger.write_entry(conn, _entry(chunk, work, drifted=drifted), epoch, began, _gained(work, drifted=drifted))
    finally:
        writer.close()


def _gained(work: _Work, *, drifted: bool) -> int:
    return len(work.inserts) - len(work.deletes) if drifted else 0


def _entry(chunk: Chunk, work: _Work, *, drifted: bool) -> Entry:
    """What changes of what the ledger says: nothing, unless the source is what changed."""
    sums, gained = checksum.zero(), _gained(work, drifted=drifted)
    if drifted:
        new = [(side, at) for side, at, _, _ in work.updates] + work.inserts
        old = [(side, at) for _, _, side, at in work.updates] + [(side, at) for side, at, _ in work.deletes]
        for rows, sign in ((new, 1), (old, -1)):
            keys = np.array([side.keys[at] for side, at in rows], np.uint64)
            hashes = np.array([side.hashes[at] for side, at in rows], np.uint64)
            sums += sign * checksum.add(keys, hashes)
    return Entry("fixup", chunk, gained, gained, sums=checksum.pack(sums))


def _rows(sides: Sides, chosen: Sequence[tuple[Side, int]]) -> pa.RecordBatch:
    names = sides.mapping.schema.names
    return pa.concat_batches([side.rows.select(names).slice(at, 1) for side, at in chosen])


def _update(sides: Sides, writer: Writer, rows: pa.RecordBatch) -> None:
    conn, mapping, key = sides.work.conn, sides.mapping, sides.key
    relation, stage = quote(mapping.target.schema, mapping.target.name), quote(_STAGE)
    names = mapping.schema.names
    writer.stage(conn, stage, rows)
    rest = [name for name in names if name not in key]
    values = ", ".join(f"{quote(name)} = s.{quote(name)}" for name in rest)
    same = " AND ".join(f"t.{quote(name)} = s.{quote(name)}" for name in key)
    overwrite = f"UPDATE {relation} t SET {values} FROM {stage} s WHERE {same}"
    try:
        with conn.transaction():
            updated = conn.execute(overwrite).rowcount
    except psycopg.errors.UniqueViolation as error:
        freed = _freed(sides)
        if not freed:
            raise FindingsError(
                f"{sides.state.name}: rows that are to be overwritten exchange values of {error.diag.constraint_name}, which is "
                "checked row by row, or another row has their value",
                hint=f"Drop {error.diag.constraint_name}, repair, and create it again. Nothing of this chunk was repaired.",
            ) from None
        conn.execute(f"UPDATE {relation} t SET {freed} FROM {stage} s WHERE {same}")
        updated = conn.execute(overwrite).rowcount
    if updated != rows.num_rows:
        raise FindingsError(
            f"{sides.state.name}: {rows.num_rows:,} rows were to be overwritten by their key ({', '.join(key)}), "
            f"and {updated:,} would have been",
            hint="The key is not unique in the target, or a trigger discards the change. Nothing of this chunk was repaired.",
        )


def _freed(sides: Sides) -> str:
    """What makes room for values that rows exchange: NULL in the columns of unique keys, in one of each at least; or ''."""
    target = sides.mapping.target
    nullable = {c.name for c in target.columns if c.nullable}
    freed: set[str] = set()
    for key in target.uniques:
        able = [n for n in key if n in nullable and n in sides.mapping.schema.names and n not in sides.key]
        if not able and set(key) != set(sides.key):
            return ""
        freed.update(able)
    return ", ".join(f"{quote(name)} = NULL" for name in sorted(freed))


def _see_unchanged(sides: Sides, work: _Work) -> None:
    """Raise FindingsError unless the rows to be overwritten or deleted are still those that were compared."""
    expected = {side.places[at][0]: int(side.hashes[at]) for _, _, side, at in work.updates}
    expected |= {place: int(side.hashes[at]) for side, at, place in work.deletes}
    standing: dict[str, int] = {}
    for batch in sides.at(list(expected)):
        standing |= dict(zip(batch[PLACE].to_pylist(), sides.hashed(batch)[1].tolist(), strict=True))
    if standing != expected:
        raise FindingsError(
            f"{sides.state.name}: rows of the target changed after they were compared",
            hint="Somebody writes to the table. Nothing of this chunk was repaired: verify again.",
        )


def _refuse_cascades(sides: Sides) -> None:
    target = sides.mapping.target
    found = sides.work.conn.execute(
        "SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE contype = 'f' AND confrelid = to_regclass(%s) "
        "AND confdeltype IN ('c', 'n', 'd') ORDER BY 1, 2",
        [quote(target.schema, target.name)],
    ).fetchall()
    if found:
        listed = ", ".join(f"{table} ({name})" for table, name in found)
        raise GateError(
            f"{sides.state.name}: rows that are not the source's are not deleted, for rows of others would go or change with "
            f"them: {listed}",
            hint="Delete them by hand, or run without -y: all else is repaired.",
        )
