"""Verification: gathers what source, ledger and target say, and lets the validators find the differences."""

import time
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Mapping as MappingOf
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, cast

from mappings.compile import Mapping
from mappings.ddl import quote
from migrate import checksum, constraints, drift, expecting, fixup, ledger, live, measures, quarantine, rowdiff
from migrate.core import Counted, Finding, OnEvent, Partition
from migrate.engine import Session, compiled, digest, drifted
from migrate.errors import FindingsError, GateError, MigrateError, SourceError
from migrate.ledger import TableState
from migrate.plan import finding_key
from migrate.sides import Sides
from migrate.target import count_rows, explained
from reports.model import of_expectations
from validators import counts as counting

Level = Literal["counts", "aggregates", "rows"]
"""Each holds those before it."""


@dataclass(frozen=True, slots=True)
class How:
    """How a table is verified, beside the level.

    `against`: rows are compared with what was loaded, or with the source as it is now. `from_bucket`: rows are compared from
    this bucket on. `lag`: seconds that a difference has to stand before it counts; 0: it counts at once. `restart`: what an
    interrupted verification has done is done again. `every`: constraints that PostgreSQL guarantees are looked at too.
    `epoch`: of the run that repairs what differs, if it is to be repaired, `may_delete` rows that are not the source's too.
    """

    level: Level = "rows"
    against: Literal["target", "source"] = "target"
    from_bucket: int = 0
    lag: float = 0.0
    restart: bool = False
    every: bool = False
    epoch: int | None = None
    may_delete: bool = False
    pause: Callable[[float], object] = time.sleep
    on_event: OnEvent = lambda event: None

    @property
    def what(self) -> str:
        """What a verification has to have looked at, beside its level, for this one to go on with it."""
        parts = [
            self.against,
            *(["all constraints"] if self.every else []),
            *([f"from bucket {self.from_bucket}"] if self.from_bucket else []),
            *([f"lag {self.lag:g}"] if self.lag else []),
        ]
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Result:
    """What verifying a table came to: findings, and why it, or an expectation, could not be done.

    `before`: when an earlier command has done it. `ended`: both sides were compared.
    `constraints`: those "looked at", those "guaranteed" by the target, those "left out" at the level.
    """

    table: str
    findings: Sequence[Finding] = ()
    failure: MigrateError | None = None
    before: str | None = None
    constraints: MappingOf[str, Sequence[str]] = field(default_factory=dict)
    ended: bool = True

    @property
    def differences(self) -> int:
        return sum(f.severity == "error" and not of_expectations(f) for f in self.findings)


def verify_all(work: Session, names: Sequence[str], how: How) -> Iterator[Result]:
    """Verify tables, each as its turn comes; one that cannot be verified does not leave the others unverified.

    Where the same verification was interrupted, this one goes on: what it has verified since it began is not done again.
    """
    before: dict[str, str] = {}
    with explained("write the ledger"):
        if how.restart:
            ledger.end_verification(work.conn, work.migration)
        began = ledger.begin_verification(work.conn, work.migration, how.level, how.what)
        if how.epoch is None and not how.from_bucket:
            before = ledger.verified_since(work.conn, work.migration, how.level, began)
        found_before = ledger.findings(work.conn, work.migration) if before else []
        ledger.withdraw(work.conn, work.migration, [n for n in names if n not in before], how.level)
    mappings = compiled(work, names)
    expecting.refuse_faults(work, mappings)
    for mapping in mappings:
        name = mapping.spec.name
        if name in before:
            levels = (how.level, expecting.LEVEL)
            kept = [f for level, f in found_before if f.table == name and level in levels]
            yield Result(name, kept, before=before[name])
            continue
        try:
            yield verify(work, mapping, how)
        except MigrateError as error:
            yield Result(name, failure=error, ended=False)
    ledger.end_verification(work.conn, work.migration)


def verify(work: Session, mapping: Mapping, how: How) -> Result:
    """Verify one table and keep the findings in the ledger. Raises GateError for a table that is not loaded."""
    states = ledger.table_states(work.conn, work.migration)
    state = states.get(mapping.spec.name)
    if state is None or state.phase != "finalized":
        raise GateError(
            f"{mapping.spec.name} is not loaded yet",
            hint="`migrate run` loads it; `migrate status` says where it stands.",
        )
    if not mapping.target.exists:
        raise FindingsError(
            f"{mapping.spec.name}: the target has no table {mapping.target.qualified} any more",
            hint=f"Put it back, or load it again: `migrate run --restart -s {mapping.spec.name}`.",
        )
    changed = drifted(work, mapping, state)
    drift.refuse(changed)
    if state.digest != digest(mapping):
        raise GateError(
            f"{mapping.spec.name}: {drift.of_mapping(work.conn, work.migration, state, mapping)}",
            hint="Verify with the project file that loaded it, or run `migrate run` first.",
        )
    partitions = ledger.pinned(work.conn, work.migration, state.name, state.generation)
    with explained(f"verify {state.name}", personal=bool(mapping.spec.personal)):
        _refuse_hidden(work, mapping)
        repaired = []
        if how.level == "rows" and how.epoch is not None:
            repaired = _repaired(work, mapping, state, partitions, how)
        unread = None
        try:
            findings = _in_numbers(work, mapping, state, partitions, how)
        except SourceError as error:
            if how.against == "source" or how.lag:
                raise
            # The ledger still tells what was loaded, and the target whether it holds that.
            unread, findings = error, counts(work, mapping, state, None)
        if how.lag and any(f.severity == "error" for f in findings):
            how.pause(how.lag)
            work.reopen(mapping.spec)
            findings = _in_numbers(work, mapping, state, partitions, how)
        if how.level == "rows":
            findings += rows(work, mapping, state, partitions, how)
        rules = constraints.rules_of(work, mapping)
        findings += changed
        findings += constraints.compare(work, mapping, state, rules, how.level, every=how.every)
        findings += repaired
        if unread is not None:
            if not any(f.severity == "error" for f in findings):
                raise unread
            message = f"{state.name}: the source was not counted: {unread.message}; {unread.hint}"
            findings.append(Finding("counts.unread", "error", state.name, message))
        # First, for what is saved at the level is not looked at again by a verification that goes on.
        expected, failure = expecting.verify(work, mapping, state)
        ledger.conclude(work.conn, work.migration, state.name, state.generation, how.level, findings)
    held = constraints.described(rules, how.level, every=how.every)
    return Result(state.name, findings + expected, failure, constraints=held)


def _refuse_hidden(work: Session, mapping: Mapping) -> None:
    """Raise GateError where policies of the table may hide rows from this user: what is not seen is not compared."""
    row = work.conn.execute(
        "SELECT row_security_active(to_regclass(%s))", [quote(mapping.target.schema, mapping.target.name)]
    ).fetchone()
    if row is not None and row[0]:
        raise GateError(
            f"{mapping.spec.name}: row-level security may hide rows of {mapping.target.schema}.{mapping.target.name} "
            f"from the target's user",
            hint="Verify as its owner, or as a user with BYPASSRLS.",
        )


def _in_numbers(
    work: Session, mapping: Mapping, state: TableState, partitions: Sequence[Partition], how: How
) -> list[Finding]:
    findings = counts(work, mapping, state, _counted(work, mapping, partitions))
    return findings if how.level == "counts" else findings + measures.compare(work, mapping, state, partitions)


def counts(work: Session, mapping: Mapping, state: TableState, there: MappingOf[int, int] | None) -> list[Finding]:
    """Count in ledger and target, and hold that against the source's rows by chunk, where these could be counted."""
    conn, name = work.conn, state.name
    read = ledger.rows_read(conn, work.migration, name, state.generation)
    fates = ledger.fates(conn, work.migration, name)[0]
    return counting.compare(
        counting.Counts(
            name,
            state.target,
            read if there is None else there,
            read,
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
            all_new=state.mode != "upsert",
        )
    )


def _counted(work: Session, mapping: Mapping, partitions: Sequence[Partition]) -> dict[int, int]:
    """The source's rows by chunk, counted by its own means where it has any."""
    source = work.source_of(mapping.spec)
    if hasattr(source, "count"):
        return {p.ordinal: cast(Counted, source).count(p) for p in partitions}
    return {p.ordinal: sum(len(b.ordinals) + len(b.rejects) for b in source.read(p, mapping.reads)) for p in partitions}


def rows(
    work: Session, mapping: Mapping, state: TableState, partitions: Sequence[Partition], how: How
) -> list[Finding]:
    """Compare the target as it is now with the sums kept in flight, or with the source as it is now; name what differs."""
    uncovered = [c for c, w in zip(mapping.columns, mapping.wires, strict=True) if not w.hashed]
    findings = []
    if uncovered:
        message = f"{state.name}: {', '.join(uncovered)}: not compared, PostgreSQL spells these types in its own way"
        findings.append(Finding("rows.uncovered", "warning", state.name, message))
    with _sides(work, mapping, state, partitions, how) as (sides, alone):
        return findings + rowdiff.findings(sides, _different(sides, how, alone=alone))


@contextmanager
def _sides(
    work: Session, mapping: Mapping, state: TableState, partitions: Sequence[Partition], how: How
) -> Iterator[tuple[Sides, bool]]:
    """The table's two sides, and whether it holds nothing but rows of this migration."""
    fates = ledger.fates(work.conn, work.migration, state.name)[0]
    alone = ledger.alone(state, fates)
    key = tuple(state.bucket_key) if alone else finding_key(mapping)
    if not alone and not key:
        raise GateError(
            f"{state.name}: its rows stand among {state.rows_before} others and have no key to find them by",
            hint="`migrate verify --level counts` works; for rows, map a primary key, or a unique one that is NOT NULL.",
        )
    sides = Sides(work, mapping, state, partitions, key, fates.loaded, how.on_event)
    try:
        yield sides, alone
    finally:
        sides.close()


def _different(sides: Sides, how: How, *, alone: bool) -> rowdiff.Differences:
    found = _by_sums(sides, how) if alone else rowdiff.among_others(sides)
    return live.lasting(sides, found, how.lag, how.pause) if how.lag else found


def _by_sums(sides: Sides, how: How) -> rowdiff.Differences:
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
    unequal = checksum.unequal(kept, now)
    buckets = unequal[unequal >= how.from_bucket]
    found = rowdiff.Differences()
    if len(buckets):
        found = _in_buckets(sides, buckets, kept, now, replays)
    if below := len(unequal) - len(buckets):
        message = (
            f"{state.name}: {below} sums of buckets below {how.from_bucket} differ as well, and are not looked into"
        )
        found.findings.append(Finding("rows.below", "error", state.name, message))
    return found


def _in_buckets(
    sides: Sides,
    buckets: rowdiff.Buckets,
    kept: checksum.Sums,
    now: checksum.Sums,
    replays: Sequence[checksum.Sums],
) -> rowdiff.Differences:
    state = sides.state
    try:
        found = rowdiff.of_buckets(sides, buckets, kept, now, replays)
    except SourceError as error:
        message = (
            f"{state.name}: {len(buckets)} of {checksum.BUCKETS} sums differ from those kept in flight, so the target is not "
            f"what was loaded; which rows cannot be said: {error.message}"
        )
        return rowdiff.Differences(findings=[Finding("rows.sums", "error", state.name, message)])
    if not found and not found.replayed and not found.moved:
        message = (
            f"{state.name}: {len(buckets)} of {checksum.BUCKETS} sums differ from those kept in flight, and yet the source maps "
            f"to what the target holds: the source or the ledger was changed since"
        )
        found.findings.append(Finding("rows.sums", "error", state.name, message))
    return found


# ----------------------------------------------------------------------------------------------------------- repairing


def _repaired(
    work: Session, mapping: Mapping, state: TableState, partitions: Sequence[Partition], how: How
) -> list[Finding]:
    """Repair what differs; what was done, as a finding. To be verified again."""
    assert how.epoch is not None
    with _sides(work, mapping, state, partitions, how) as (sides, alone):
        loaded = replace(how, against="target", lag=0.0)
        if how.against == "source" and any(
            f.severity == "error" for f in rows(work, mapping, state, partitions, loaded)
        ):
            raise GateError(
                f"{state.name}: the target is not what was loaded either",
                hint="Repair that first: `migrate verify --fixup`, without --against source.",
            )
        found = _different(sides, how, alone=alone)
        if not found:
            return []
        grown = _grown(work, mapping, state, partitions) if how.against == "source" else None
        safe, doubtful = rowdiff.without_buckets(found, found.drifted)
        done = fixup.fixup(sides, safe, how.epoch, may_delete=how.may_delete, grown=grown)
    message = f"{state.name}: {done.message}"
    if doubtful:
        message += (
            f"; {doubtful:,} were left, for the source does not hold any more what was loaded beside them: "
            f"`migrate run --restart -s {state.name}` loads the table anew"
        )
    return [Finding("rows.repaired", "warning", state.name, message)]


def _grown(work: Session, mapping: Mapping, state: TableState, partitions: Sequence[Partition]) -> dict[int, int]:
    """By how many rows the source's chunks have grown since they were read."""
    read = ledger.rows_read(work.conn, work.migration, state.name, state.generation)
    there = _counted(work, mapping, partitions)
    return {chunk: n - read.get(chunk, 0) for chunk, n in there.items()}
