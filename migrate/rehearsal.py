"""The dry run: the real run's code over clones of the target's tables in a shadow, which is dropped at the end.

A canary is a dry run of a sample of each table's rows, closed under references: what a sampled row refers to is in it too.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from mappings.compile import Mapping as CompiledMapping
from mappings.mapper import Mapper
from mappings.references import Reference
from migrate import engine, ledger, shadow
from migrate.canary import Sampled, spread
from migrate.core import Ordinals
from migrate.engine import Options, Session, Stop
from migrate.errors import RetryableError
from migrate.plan import Plan, TablePlan
from migrate.target import connect
from reports.model import Report

_SHOWN = re.compile(r"\((personal|may be personal); `migrate rejects show \d+` says why\)")
"""What a listing says instead of a personal value: the row can be asked for only while there is a quarantine."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A dry run that can begin: its own session and plan, what it leaves out, and what it does not exercise.

    `names` gives for each table of the shadow, schema.table, the real one.
    """

    work: Session
    plan: Plan
    done_before: tuple[str, ...]
    notes: tuple[str, ...]
    names: Mapping[str, str]

    def named(self, text: str) -> str:
        """A text that speaks of the real tables."""
        for shadowed, real in self.names.items():
            text = text.replace(shadowed, real)
        return _SHOWN.sub(r"(\1)", text)

    def of_the_real(self, report: Report) -> Report:
        """The dry run's report, which speaks of the real tables."""

        tables = [
            replace(
                table,
                target=self.named(table.target),
                rejects=tuple(
                    replace(r, samples=tuple(replace(s, reason=self.named(s.reason), id=None) for s in r.samples))
                    for r in table.rejects
                ),
            )
            for table in report.tables
        ]
        return replace(
            report, tables=tuple(tables), dry_run=True, next_command="migrate run" if tables else "migrate status"
        )


def sweep(work: Session) -> None:
    """Drop what a killed dry run of this migration has left; one that is at work is left alone."""
    with suppress(RetryableError):
        shadow.sweep(work.conn, shadow.names(work.migration))


@contextmanager
def rehearsal(
    work: Session, mappings: Sequence[CompiledMapping], options: Options, stop: Stop, *, canary: int | None = None
) -> Iterator[Rehearsal]:
    """What `migrate run` would do now, set up in a shadow; the shadow is gone when this is left, whatever happens.

    Refuses what the run would refuse. Tables that a run would go on with are rehearsed from their first row.
    """
    real = engine.planned(work, mappings, options)
    todo = [p for p in real.tables if p.action != "done"]
    place = shadow.names(work.migration)
    shadow.sweep(work.conn, place)
    kept = [p.mapping.target.qualified for p in todo if p.mapping.spec.mode != "replace" and p.mapping.target.exists]
    deferred = [(p.mapping.target.qualified, key.name) for p in todo for key in p.inner]
    clones = shadow.clone(work.conn, place, [p.mapping.target for p in todo], kept, deferred)
    try:
        with connect(work.project.target) as holder, shadow.held(holder, place):
            inside = replace(
                work,
                conn=connect(work.project.target, ledger=place.ledger),
                samples={},
                rehearsed=frozenset(p.name for p in todo),
                standing={clones.tables[p.mapping.target.qualified].qualified: _standing(p) for p in todo},
            )
            inside.forget()
            try:
                ledger.create(inside.conn)
                moved = {p.name: _moved(p.mapping, clones, todo, kept) for p in todo}
                if canary is not None:
                    inside.samples = _sample(inside, list(moved.values()), options, canary, stop)
                plan = engine.planned(inside, list(moved.values()), replace(options, restart=False, may_delete=True))
                done = tuple(p.name for p in real.tables if p.action == "done")
                longest_first = sorted(clones.tables.items(), key=lambda pair: -len(pair[1].qualified))
                names = {clone.qualified: real_name for real_name, clone in longest_first}
                notes = (*clones.notes, *(note for p in todo for note in _not_compared(p)))
                yield Rehearsal(inside, plan, done, notes, names)
            finally:
                inside.conn.close()
    finally:
        with connect(work.project.target) as conn:
            shadow.sweep(conn, place)


def _standing(plan: TablePlan) -> tuple[str, str] | None:
    """The real table, where rows stay in it that new ones may meet by a key: under append only those of others do."""
    table, mode = plan.mapping.target, plan.mapping.spec.mode
    shared = plan.before is None or plan.before.ownership == "shared"
    return (table.schema, table.name) if table.exists and (mode == "upsert" or (mode == "append" and shared)) else None


def _not_compared(plan: TablePlan) -> Iterator[str]:
    """The keys of which the mapping gives a part only: what the rest of a new row's is, the target's defaults say."""
    mapping, target = plan.mapping, plan.mapping.target
    if mapping.spec.mode == "replace" or not target.exists:
        return
    mapped = set(mapping.columns)
    for key in dict.fromkeys((target.key, *target.uniques)):
        if mapped & set(key) and not set(key) <= mapped:
            yield f"{target.qualified}: the key {', '.join(key)} is not compared with the rows that are there already"


def _moved(
    mapping: CompiledMapping, clones: shadow.Clones, todo: Sequence[TablePlan], kept: Sequence[str]
) -> CompiledMapping:
    """The mapping, into the shadow: its target, and where the parents of its references are."""
    inside = {p.name for p in todo}

    def moved(reference: Reference) -> Reference:
        qualified = ".".join(reference.address)
        if reference.table not in inside:
            return replace(reference, enforced=False)
        there = clones.tables[qualified]
        elsewhere = (reference.address,) if qualified in kept else ()
        return replace(reference, address=(there.schema, there.name), elsewhere=elsewhere, enforced=not elsewhere)

    return replace(
        mapping,
        target=clones.tables[mapping.target.qualified],
        references=tuple(moved(r) for r in mapping.references),
    )


# --------------------------------------------------------------------------------------------------------------- canary


@dataclass(frozen=True, slots=True)
class _Link:
    """Columns of a table that name rows of another one by its columns."""

    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]


@dataclass(slots=True)
class _Picks:
    """The rows picked of one table, by partition; `new` have not been asked yet for what they refer to."""

    taken: dict[int, Ordinals] = field(default_factory=dict)
    new: dict[int, Ordinals] = field(default_factory=dict)

    def add(self, chunk: int, ordinals: Ordinals) -> None:
        fresh = np.setdiff1d(ordinals, self.taken.get(chunk, ordinals[:0]))
        if len(fresh):
            self.taken[chunk] = np.union1d(self.taken.get(chunk, fresh), fresh)
            self.new[chunk] = np.union1d(self.new.get(chunk, fresh), fresh)


def _sample(
    work: Session, mappings: Sequence[CompiledMapping], options: Options, n: int, stop: Stop
) -> dict[str, Sampled]:
    """`n` rows of each table, spread evenly, and all rows that they refer to, directly or not."""
    plan = engine.rehearsed(work, mappings, options)
    tables = {p.name: p for p in plan.tables}
    picks = {name: _Picks() for name in tables}
    for name, table in tables.items():
        for chunk, ordinals in spread(table.chunks, n).items():
            picks[name].add(chunk, ordinals)
    links = {name: _links(table, tables) for name, table in tables.items()}
    while any(p.new for p in picks.values()):
        for level in reversed(plan.levels):
            for table in level:
                new, picks[table.name].new = picks[table.name].new, {}
                for link, keys in _referred(work, table, links[table.name], new):
                    stop.check()
                    _pick(work, tables[link.parent], link.parent_columns, keys, picks[link.parent])
    return {
        name: Sampled(work.source_of(table.mapping.spec), table.chunks, picks[name].taken)
        for name, table in tables.items()
    }


def _links(table: TablePlan, tables: Mapping[str, TablePlan]) -> list[_Link]:
    by_target = {p.mapping.target.qualified: p.name for p in tables.values()}
    mapping = table.mapping
    found = [_Link(r.columns, r.table, r.parent_columns) for r in mapping.references if r.table in tables]
    found += [
        _Link(f.columns, by_target[f.parent], f.parent_columns)
        for f in mapping.target.foreign_keys
        if f.parent in by_target and set(f.columns) <= set(mapping.columns)
    ]
    return [
        link for link in dict.fromkeys(found) if set(link.parent_columns) <= set(tables[link.parent].mapping.columns)
    ]


def _referred(
    work: Session, table: TablePlan, links: Sequence[_Link], picks: Mapping[int, Ordinals]
) -> Iterator[tuple[_Link, pa.Table]]:
    """The keys that picked rows refer to, by link."""
    if not links or not picks:
        return
    names = {c for link in links for c in link.columns}
    narrow = table.mapping.with_cells([c for c in table.mapping.cells if c.column.name in names])
    batches = [rows for _, rows, _ in _mapped(work, table, narrow, picks)]
    if not batches:
        return
    whole = pa.Table.from_batches(batches)
    for link in links:
        keys = whole.select(list(link.columns)).drop_null().rename_columns(list(link.parent_columns))
        if keys.num_rows:
            yield link, keys


def _pick(work: Session, parent: TablePlan, columns: Sequence[str], keys: pa.Table, picks: _Picks) -> None:
    """Pick the parent's rows that have these keys."""
    narrow = parent.mapping.with_cells([c for c in parent.mapping.cells if c.column.name in columns])
    wanted = keys.cast(pa.schema([narrow.schema.field(c) for c in keys.schema.names])).combine_chunks()
    for chunk, rows, ordinals in _mapped(work, parent, narrow, None):
        numbered = pa.Table.from_batches([rows.select(list(columns))]).append_column("·at", pa.array(ordinals))
        hits = numbered.join(wanted, keys=list(columns), join_type="left semi", use_threads=False)
        if hits.num_rows:
            picks.add(chunk, np.sort(hits["·at"].to_numpy()))


def _mapped(
    work: Session, table: TablePlan, mapping: CompiledMapping, picks: Mapping[int, Ordinals] | None
) -> Iterator[tuple[int, pa.RecordBatch, Ordinals]]:
    """(chunk, rows, ordinals) of some rows, or of all."""
    source = work.source_of(table.mapping.spec)
    mapper = Mapper(mapping, work.context)
    try:
        for partition in table.chunks:
            if picks is not None and partition.ordinal not in picks:
                continue
            for batch in source.read(partition, mapping.reads):
                step = mapper(batch)
                rows, ordinals = step.rows, step.ordinals
                if picks is not None:
                    keep = np.isin(ordinals, picks[partition.ordinal])
                    rows, ordinals = rows.filter(pa.array(keep)), ordinals[keep]
                if rows.num_rows:
                    yield partition.ordinal, rows, ordinals
    finally:
        mapper.close()
