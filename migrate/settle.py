"""Settling: when a level is loaded, what its rows can only be judged by together is decided, in one transaction.

Rows that were merged into one that was rejected are rejected with it. Where tables reference each other in a cycle, or
themselves, a parent may have come after its child: orphans are found now, over all rows, and taken out again.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from mappings.ddl import quote
from migrate import checksum, crosswalk, ledger, quarantine
from migrate.commit import PARTLY_NULL, Policy, enter, nulled
from migrate.core import Chunk, Entry, ForeignKey, Ordinals, Reject, Step
from migrate.errors import GateError
from migrate.pipeline import Pipeline
from migrate.plan import TablePlan
from migrate.target import Connection, explained, partly_null

PipelineOf = Callable[[TablePlan], Pipeline]
"""Opens a table's pipeline; whoever opens it closes it."""


@dataclass(slots=True)
class Settled:
    """What settling turned: rows rejected with their survivor, orphans rejected, made NULL, kept."""

    with_survivor: int = 0
    orphans: int = 0
    nulled: int = 0
    kept: int = 0

    @property
    def message(self) -> str:
        parts = [
            f"{n:,} {what}"
            for n, what in (
                (self.with_survivor, "merged rows rejected with their survivor"),
                (self.orphans, "orphans rejected"),
                (self.nulled, "references to missing parents made NULL"),
                (self.kept, "references to missing parents kept"),
            )
            if n
        ]
        return ", ".join(parts)


def settle(
    conn: Connection,
    migration: str,
    plans: Sequence[TablePlan],
    epoch: int,
    pipeline_of: PipelineOf,
    check_budget: Callable[[TablePlan], None],
) -> dict[str, Settled]:
    """Settle the tables of a level; then they are `loaded`. Doing it again changes nothing.

    `check_budget` raises where a table has too many rejects; then nothing is settled. Raises GateError where a chunk is not
    committed, or rows that this migration did not load have no parent.
    """
    settled = {plan.name: Settled() for plan in plans}
    names = ", ".join(p.name for p in plans)
    with explained(f"settle {names}"), conn.transaction():
        for plan in sorted(plans, key=lambda p: p.name):  # always in the same order
            enter(conn, migration, plan.name, epoch, plan.generation, exclusive=True)
            missing = ledger.unbalanced_chunks(conn, migration, plan.name, plan.generation)
            if missing:
                raise GateError(
                    f"{plan.name}: {len(missing)} chunks are not committed, chunk {missing[0]} among them",
                    hint="Run the same command again.",
                )
        # One that was committed and whose answer was lost is tried again: there is nothing left to do.
        states = ledger.table_states(conn, migration)
        plans = [plan for plan in plans if states[plan.name].phase == "loading"]
        began = datetime.now(UTC)
        lost = _orphans(conn, plans)
        for plan in plans:
            if lost[plan.name]:
                _account(conn, migration, plan, epoch, began, lost[plan.name], pipeline_of, settled[plan.name])
        for plan in plans:
            settled[plan.name].with_survivor = _reject_with_survivors(conn, migration, plan, epoch, began, pipeline_of)
            check_budget(plan)
            ledger.set_phase(conn, migration, plan.name, "loaded")
    return settled


# -------------------------------------------------------------------------------------------------------------- orphans


@dataclass(frozen=True, slots=True)
class _Lost:
    """A reference of a table, the keys that it names and that do not exist, and how many rows of the target named them.

    `keys` is None where a part of the key was NULL, and MATCH FULL refuses that.
    """

    key: ForeignKey
    policy: Policy
    keys: pa.Table | None
    rows: int


def _orphans(conn: Connection, plans: Sequence[TablePlan]) -> dict[str, list[_Lost]]:
    """Take orphans out of the target, and those that become orphans thereby, until there are none."""
    lost: dict[str, list[_Lost]] = {plan.name: [] for plan in plans}
    changed = True
    while changed:
        changed = False
        for plan in plans:
            for key in plan.inner:
                for find in (_without_parent, _named_in_part):
                    found = find(conn, plan, key)
                    if found is not None:
                        lost[plan.name].append(found)
                        changed = True
    for plan in plans:
        kept = (_without_parent(conn, plan, key) for key in plan.kept)
        lost[plan.name] += [found for found in kept if found is not None]
    return lost


def _without_parent(conn: Connection, plan: TablePlan, key: ForeignKey) -> _Lost | None:
    mapping = plan.mapping
    relation = quote(mapping.target.schema, mapping.target.name)
    same = " AND ".join(f"p.{quote(p)} = c.{quote(c)}" for p, c in zip(key.parent_columns, key.columns, strict=True))
    named = " AND ".join(f"c.{quote(c)} IS NOT NULL" for c in key.columns)
    parents = ((key.parent_schema, key.parent_name), *key.elsewhere)
    missing = " AND ".join(f"NOT EXISTS (SELECT FROM {quote(*parent)} p WHERE {same})" for parent in parents)
    orphaned = f"{named} AND {missing}"
    fields = [mapping.schema.field(c) for c in key.columns]
    values = conn.execute(
        f"SELECT DISTINCT {', '.join(_selected(f'c.{quote(f.name)}', f.type) for f in fields)} "
        f"FROM {relation} c WHERE {orphaned}"
    ).fetchall()
    if not values:
        return None
    policy, rows = _taken_out(conn, plan, key, orphaned)
    keys = pa.table([_arrow([v[i] for v in values], f.type) for i, f in enumerate(fields)], schema=pa.schema(fields))
    return _Lost(key, policy, keys, rows)


def _named_in_part(conn: Connection, plan: TablePlan, key: ForeignKey) -> _Lost | None:
    """Under MATCH FULL, what names its parent by a part of the key only."""
    if not key.full or len(key.columns) == 1:
        return None
    given = ", ".join(f"c.{quote(c)}" for c in key.columns)
    policy, rows = _taken_out(conn, plan, key, f"num_nulls({given}) BETWEEN 1 AND {len(key.columns) - 1}")
    return _Lost(key, policy, None, rows) if rows else None


def _taken_out(conn: Connection, plan: TablePlan, key: ForeignKey, orphaned: str) -> tuple[Policy, int]:
    """Do with the orphans, by an SQL condition on a row `c`, what the mapping says: that, and with how many it was done."""
    relation = quote(plan.mapping.target.schema, plan.mapping.target.name)
    policy: Policy = next(
        (r.orphans for r in plan.mapping.references if r.orphans != "reject" and set(r.columns) == set(key.columns)),
        "reject",
    )
    if policy == "null":
        nulls = ", ".join(f"{quote(c)} = NULL" for c in key.columns)
        return policy, conn.execute(f"UPDATE {relation} c SET {nulls} WHERE {orphaned}").rowcount
    if policy == "keep":
        counted = conn.execute(f"SELECT count(*) FROM {relation} c WHERE {orphaned}").fetchone()
        return policy, int(counted[0]) if counted else 0
    return policy, conn.execute(f"DELETE FROM {relation} c WHERE {orphaned}").rowcount


def _selected(column: str, kind: pa.DataType) -> str:
    """A column as the driver gives it; what travels as text, as that text."""
    return f"{column}::text" if pa.types.is_string(kind) else column


def _arrow(values: list[object], kind: pa.DataType) -> pa.Array:
    """The driver's values as the wire's type."""
    if pa.types.is_fixed_size_binary(kind):
        return pa.array([v.bytes for v in values], kind)  # type: ignore[attr-defined]
    return pa.array(values, kind)


@dataclass(slots=True)
class _Found:
    """The source rows of one chunk that orphans were found to be."""

    rejects: list[Reject] = field(default_factory=list)
    orphans: list[tuple[int, str, str]] = field(default_factory=list)
    sums: checksum.Sums = field(default_factory=checksum.zero)
    rows: int = 0


def _account(
    conn: Connection,
    migration: str,
    plan: TablePlan,
    epoch: int,
    began: datetime,
    lost: Sequence[_Lost],
    pipeline_of: PipelineOf,
    settled: Settled,
) -> None:
    """Find the source rows of the orphans that were taken out, and turn their fates. Raises GateError for strangers."""
    hasher = checksum.Hasher(plan.mapping.schema, plan.mapping.wires, plan.bucket_key)
    pipeline = pipeline_of(plan)
    met = [0] * len(lost)
    try:
        for partition in plan.chunks:
            chunk = Chunk(migration, plan.name, plan.generation, partition.ordinal)
            gone = np.array(ledger.rejected(conn, chunk), np.int64)
            before = ledger.nulled(conn, chunk)
            found = _Found()
            for step in pipeline.steps(partition):
                rows, ordinals = loaded(step, gone, before)
                _match(plan, step, rows, ordinals, lost, met, hasher, found)
            if found.rejects or found.orphans:
                quarantine.write(conn, chunk, found.rejects)
                # Where the source has grown, those that are kept were counted when it was settled before.
                known = set(ledger.orphaned(conn, chunk))
                new = [orphan for orphan in found.orphans if orphan not in known]
                ledger.write_orphans(conn, chunk, new)
                n = len(found.rejects)
                entry = Entry("settle", chunk, loaded=-n, rejected=n, sums=checksum.pack(found.sums))
                ledger.write_entry(conn, entry, epoch, began, -n)
                settled.orphans += n
                settled.nulled += found.rows
                settled.kept += len({ordinal for ordinal, _, policy in new if policy == "keep"})
    finally:
        pipeline.close()
        hasher.close()
    strangers = [(each, n) for each, n in zip(lost, met, strict=True) if n != each.rows]
    if strangers:
        each, n = strangers[0]
        raise GateError(
            f"{plan.name}: {each.rows} rows of {plan.mapping.target.qualified} have no parent by {each.key.name}, and this "
            f"migration loaded {n} of them",
            hint="Rows of others have no parent. Mend them in the target, then run the same command again.",
        )


def _match(
    plan: TablePlan,
    step: Step,
    rows: pa.RecordBatch,
    ordinals: Ordinals,
    lost: Sequence[_Lost],
    met: list[int],
    hasher: checksum.Hasher,
    found: _Found,
) -> None:
    """Which rows of a step are orphans: taken in the order in which the target lost them."""
    for number, each in enumerate(lost):
        names = list(each.key.columns)
        hits = np.flatnonzero(partly_null(rows, names)) if each.keys is None else _among(rows.select(names), each.keys)
        if not len(hits):
            continue
        met[number] += len(hits)
        chosen = [int(ordinals[i]) for i in hits]
        if each.policy == "keep":
            found.orphans += [(o, name, "keep") for o in chosen for name in names]
            continue
        picked = rows.take(pa.array(hits))
        found.sums -= checksum.add(*hasher(picked))
        if each.policy == "null":
            rows = nulled(rows, names, [int(i) for i in hits])
            found.sums += checksum.add(*hasher(rows.take(pa.array(hits))))
            found.orphans += [(o, name, "null") for o in chosen for name in names]
            found.rows += len(chosen)
            continue
        key = each.key
        told = [
            f"no row of {key.parent} has {', '.join(key.parent_columns)} of this row's {', '.join(names)} ({key.name})"
        ] * len(chosen)
        if each.keys is None:
            nulls = ([n for n in names if row[n] is None] for row in picked.select(names).to_pylist())
            told = [PARTLY_NULL.format(", ".join(n), key.name) for n in nulls]
        found.rejects += [
            Reject(ordinal, "foreign_key", why, origin, names[0])
            for ordinal, why, origin in zip(chosen, told, step.locate(chosen), strict=True)
        ]
        keep = np.ones(rows.num_rows, np.bool_)
        keep[hits] = False
        rows, ordinals = rows.filter(pa.array(keep)), ordinals[keep]


def _among(rows: pa.RecordBatch, keys: pa.Table) -> Ordinals:
    """The indices of rows whose key is one of these."""
    marked = pa.Table.from_batches([rows]).append_column("·at", pa.array(np.arange(rows.num_rows)))
    joined = marked.join(keys, keys=rows.schema.names, join_type="left semi", use_threads=False)
    return np.sort(joined["·at"].to_numpy())


def loaded(step: Step, gone: Ordinals, nulls: Sequence[tuple[int, str]]) -> tuple[pa.RecordBatch, Ordinals]:
    """Of a step's rows those that are in the target, as they are there: not the rejected ones, lost references NULL."""
    rows, ordinals = step.rows, step.ordinals
    lost = np.isin(ordinals, gone)
    if lost.any():
        rows, ordinals = rows.filter(pa.array(~lost)), ordinals[~lost]
    for column in {column for _, column in nulls}:
        places = np.flatnonzero(np.isin(ordinals, [o for o, c in nulls if c == column]))
        if len(places):
            rows = nulled(rows, [column], [int(i) for i in places])
    return rows, ordinals


# ------------------------------------------------------------------------------------------------------------ survivors


def _reject_with_survivors(
    conn: Connection, migration: str, plan: TablePlan, epoch: int, began: datetime, pipeline_of: PipelineOf
) -> int:
    """Reject what was merged into a row that was rejected itself; the number of rows that this turned."""
    of = Chunk(migration, plan.name, plan.generation, 0)
    lost = crosswalk.losers_of_rejected(conn, of)
    if not lost:
        return 0
    pipeline = pipeline_of(plan)
    try:
        for number in sorted({row[0] for row in lost}):
            chunk = Chunk(migration, plan.name, plan.generation, number)
            wanted = {ordinal: (rule, survivor) for at, ordinal, rule, survivor in lost if at == number}
            rejects = list(_with_survivor(pipeline, plan, number, wanted))
            quarantine.write(conn, chunk, rejects)
            entry = Entry(
                "settle", chunk, merged=-len(rejects), rejected=len(rejects), sums=checksum.pack(checksum.zero())
            )
            ledger.write_entry(conn, entry, epoch, began, 0)
    finally:
        pipeline.close()
    return len(lost)


def _with_survivor(
    pipeline: Pipeline, plan: TablePlan, number: int, wanted: dict[int, tuple[str, str]]
) -> Iterator[Reject]:
    for step in pipeline.steps(plan.chunks[number]):
        here = [int(o) for o in step.merged if int(o) in wanted]
        for ordinal, origin in zip(here, step.locate(here), strict=True):
            rule, survivor = wanted[ordinal]
            why = f"it is the same as {survivor} (by {rule}), and that row, which was to live on, was rejected"
            yield Reject(ordinal, "survivor", why, origin)
