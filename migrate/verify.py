"""Verification: gathers what source, ledger and target say, and lets the validators find the differences."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np

from mappings.compile import Mapping
from migrate import checksum, ledger, measures, quarantine, rowdiff
from migrate.core import Counted, Finding, Partition
from migrate.engine import Session, digest
from migrate.errors import GateError
from migrate.ledger import TableState
from migrate.plan import finding_key
from migrate.sides import Sides
from migrate.target import count_rows, explained
from validators import counts as counting

Level = Literal["counts", "aggregates", "rows"]
"""Each holds those before it."""


@dataclass(frozen=True, slots=True)
class Rows:
    """How rows are compared: the target with what was loaded, or with the `source` as it is now; from which bucket on."""

    against: Literal["target", "source"] = "target"
    first_bucket: int = 0


def verify(work: Session, mapping: Mapping, level: Level, how: Rows = Rows()) -> list[Finding]:
    """Verify one table and keep the findings in the ledger. Raises GateError for a table that is not loaded."""
    states = ledger.table_states(work.conn, work.migration)
    state = states.get(mapping.spec.name)
    if state is None or state.phase != "finalized":
        raise GateError(
            f"{mapping.spec.name} is not loaded yet",
            hint="`migrate run` loads it; `migrate status` says where it stands.",
        )
    if state.digest != digest(mapping):
        raise GateError(
            f"{mapping.spec.name}: the mapping or the target's columns changed since it was loaded",
            hint="Verify with the project file that loaded it, or run `migrate run` first.",
        )
    partitions = ledger.pinned(work.conn, work.migration, state.name, state.generation)
    with explained(f"verify {state.name}"):
        findings = counts(work, mapping, state, partitions)
        if level != "counts":
            findings += measures.compare(work, mapping, state, partitions)
        if level == "rows":
            findings += rows(work, mapping, state, partitions, how)
        ledger.save_findings(work.conn, work.migration, state.name, state.generation, level, findings)
    return findings


def counts(work: Session, mapping: Mapping, state: TableState, partitions: Sequence[Partition]) -> list[Finding]:
    """Count on each side."""
    conn, name = work.conn, state.name
    source = work.source_of(mapping.spec)
    if hasattr(source, "count"):
        there = {p.ordinal: cast(Counted, source).count(p) for p in partitions}
    else:
        there = {
            p.ordinal: sum(len(b.ordinals) + len(b.rejects) for b in source.read(p, mapping.reads)) for p in partitions
        }
    fates = ledger.fates(conn, work.migration, name)[0]
    return counting.compare(
        counting.Counts(
            name,
            state.target,
            there,
            ledger.rows_read(conn, work.migration, name, state.generation),
            fates.read,
            fates.loaded,
            fates.merged,
            fates.filtered,
            fates.rejected,
            fates.inserted,
            state.rows_before,
            count_rows(conn, mapping.target),
            quarantine.size(conn, work.migration, name, state.generation),
            ledger.unbalanced_chunks(conn, work.migration, name, state.generation),
        )
    )


def rows(
    work: Session, mapping: Mapping, state: TableState, partitions: Sequence[Partition], how: Rows
) -> list[Finding]:
    """Compare the target as it is now with the sums kept in flight, or with the source as it is now; name what differs."""
    name = state.name
    uncovered = [c for c, w in zip(mapping.columns, mapping.wires, strict=True) if not w.hashed]
    findings = []
    if uncovered:
        message = f"{name}: {', '.join(uncovered)}: not compared, PostgreSQL spells these types in its own way"
        findings.append(Finding("rows.uncovered", "warning", name, message))
    fates = ledger.fates(work.conn, work.migration, name)[0]
    alone = state.rows_before == 0 and fates.inserted == fates.loaded
    key = tuple(state.bucket_key) if alone else finding_key(mapping)
    if not alone and not key:
        raise GateError(
            f"{name}: its rows stand among {state.rows_before} others and have no key to find them by",
            hint="`migrate verify --level counts` works; for rows, map a primary key, or a unique one that is NOT NULL.",
        )
    sides = Sides(work, mapping, state, partitions, key)
    try:
        found = rowdiff.among_others(sides) if not alone else _by_sums(sides, how)
        return findings + rowdiff.findings(sides, found)
    finally:
        sides.close()


def _by_sums(sides: Sides, how: Rows) -> rowdiff.Differences:
    """The differences where the sums of the two sides are not the same."""
    work, state = sides.work, sides.state
    kept, replays = checksum.zero(), []
    from_source = how.against == "source" or state.hash != checksum.NAME
    for kind, packed in ledger.sums(work.conn, work.migration, state.name, state.generation):
        if kind == "replay":
            replays.append(checksum.unpack(packed))
        if kind == "replay" or not from_source:
            kept += checksum.unpack(packed)
    if from_source:
        for _, batch in sides.mapped():
            kept += checksum.add(*sides.hashed(batch))
    now = sides.sums()
    buckets = checksum.unequal(kept, now)
    buckets = buckets[buckets >= how.first_bucket]
    if not len(buckets):
        return rowdiff.Differences()
    found = rowdiff.of_buckets(sides, buckets, np.maximum(kept[0], now[0]), replays)
    if not found and not found.findings and not found.moved:
        message = (
            f"{state.name}: {len(buckets)} of {checksum.BUCKETS} sums differ from those kept in flight, and yet the source maps "
            f"to what the target holds: the source or the ledger was changed since"
        )
        found.findings.append(Finding("rows.sums", "error", state.name, message))
    return found
