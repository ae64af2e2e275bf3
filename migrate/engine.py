"""Runs a plan: opens sources, compiles mappings, and drives worker threads over the chunks; says what happens as events."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from collections.abc import Mapping as Dictionary
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar, cast

import pyarrow as pa

from connectors.union import Union, part_of
from mappings.compile import Context, Mapping, compile_table, hashed
from mappings.ddl import quote
from mappings.dedupe import Ballot
from mappings.references import Parent, Reference, ReferenceFault, parent_column
from mappings.spec import Budget, SourceSpec, TableSpec
from migrate import checksum, crosswalk, drift, election, ledger, lifecycle
from migrate.commit import ATTEMPTS, Committer, Policy, Receipt, backoff
from migrate.core import (
    Chunk,
    Estimated,
    Event,
    Finding,
    ForeignKey,
    OnEvent,
    Partition,
    Source,
    Table,
    TargetTable,
    Viewed,
    Watermarked,
)
from migrate.crosswalk import Keys
from migrate.errors import FindingsError, RetryableError, UsageError
from migrate.governor import Governor
from migrate.ledger import TableState
from migrate.pipeline import Pipeline
from migrate.plan import (
    BatchSize,
    Cut,
    Plan,
    Seen,
    TablePlan,
    decide,
    in_knots,
    in_levels,
    reference_key,
    refuse_cycles,
    upsert_key,
    widen,
)
from migrate.project import Project, open_source
from migrate.settle import Settled, settle
from migrate.target import Connection, ForeignKeyScreen, UniqueScreen, Writer, catalogue, connect, explained

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line may change about a run."""

    jobs: int = 2
    size: BatchSize = field(default_factory=BatchSize)
    restart: bool = False
    max_rejects: Budget | None = None
    on_bad_row: str | None = None
    may_delete: bool = False


@dataclass(slots=True)
class Session:
    """A loaded project with its open sources and a connection to the target: what most commands need.

    In a dry run, `standing` gives for each target the real table whose rows new ones may meet by a key, and
    `samples` stand in for the tables' sources where it is a canary; of tables that are not `rehearsed` the real ledger knows.
    """

    project: Project
    conn: Connection
    context: Context
    sources: dict[str, Source] = field(default_factory=dict)
    samples: Dictionary[str, Source] = field(default_factory=dict)
    standing: Dictionary[str, tuple[str, str] | None] = field(default_factory=dict)
    rehearsed: frozenset[str] | None = None
    governor: Governor = field(default_factory=Governor)
    _keys: dict[tuple[str, tuple[str, ...]], Keys] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def connect(self) -> Connection:
        """Another connection to the target, for a thread of its own."""
        return connect(self.project.target, ledger=self.conn.ledger)

    def keys(self, table: str, columns: tuple[str, ...]) -> Keys:
        """The target keys of a table's losers and survivors: as just elected, or else as the ledger has them."""
        with self._lock:
            if (table, columns) not in self._keys:
                stored: Iterable[pa.Table] = ()
                inside = self.rehearsed is None or table in self.rehearsed
                with self.connect() if inside else connect(self.project.target) as conn:
                    if ledger.exists(conn):
                        stored = list(crosswalk.stored_keys(conn, self.migration, table, columns))
                self._keys[table, columns] = Keys(columns, stored)
            return self._keys[table, columns]

    def elected(self, table: str, columns: tuple[str, ...], ballot: Ballot | None, schema: pa.Schema) -> None:
        """Take note of an election whose results are not published yet."""
        with self._lock:
            self._keys[table, columns] = Keys(columns, ballot.keys(columns, schema) if ballot is not None else ())

    def forget(self) -> None:
        """Share nothing with the session that this one is a copy of, but for its sources."""
        self._keys, self._lock = {}, threading.Lock()

    def again(self, operation: Callable[[Connection], T], pause: Callable[[float], object]) -> T:
        """Do something that may be done twice, reconnecting where the connection was lost meanwhile."""
        for attempt in range(1, ATTEMPTS):
            try:
                return operation(self.conn)
            except RetryableError:
                pause(backoff(attempt))
                self.conn.close()
                with suppress(RetryableError):
                    self.conn = connect(self.project.target, ledger=self.conn.ledger)
        return operation(self.conn)

    def source(self, name: str) -> Source:
        if name not in self.sources:
            self.sources[name] = self.governor.governed(name, open_source(self.project, name))
        return self.sources[name]

    def source_of(self, spec: TableSpec) -> Source:
        """What a table is read from, where it is called `spec.source_table`."""
        if spec.name in self.samples:
            return self.samples[spec.name]
        if len(spec.origins) == 1:
            return self.source(spec.origins[0][0])
        if spec.came_from not in self.sources:
            parts = [(f"{name}.{table}", self.source(name), table) for name, table in spec.origins]
            self.sources[spec.came_from] = Union([(label, s, s.schema(table)) for label, s, table in parts])
        return self.sources[spec.came_from]

    def reopen(self, spec: TableSpec) -> None:
        """Let go of what a table is read from, so that its next reader sees it as it is then."""
        for name in {spec.came_from, *(name for name, _ in spec.origins)}:
            source = self.sources.pop(name, None)
            if source is not None and hasattr(source, "close"):
                source.close()

    @property
    def migration(self) -> str:
        return self.project.spec.migration

    def close(self) -> None:
        self.conn.close()
        for source in self.sources.values():
            if hasattr(source, "close"):
                source.close()


@contextmanager
def session(project: Project, governor: Governor | None = None) -> Iterator[Session]:
    """Open a project for work; without a governor, as fast as it goes."""
    # It gives memory back, a tenth of all that is used; not every build of Arrow has it.
    with suppress(NotImplementedError):
        pa.set_memory_pool(pa.jemalloc_memory_pool())
    spec = project.spec
    context = Context(
        migration=spec.migration,
        path=spec.path,
        timezone=spec.timezone,
        lookups=project.lookups,
        functions=project.functions,
        tables=tuple(spec.tables),
    )
    opened = Session(project, connect(project.target), context, governor=governor or Governor())
    try:
        yield opened
    finally:
        opened.close()


def compiled(work: Session, names: Sequence[str]) -> list[Mapping]:
    """Compile tables against source schema and target catalogue; the faults of all of them at once as one UsageError."""
    mappings, faults, broken = [], [], []
    tables = work.project.spec.tables
    referenced = {c.reference.table for t in tables.values() for c in t.columns if c.reference is not None}
    targets = {name: _target(work, tables[name]) for name in dict.fromkeys((*names, *sorted(referenced)))}
    work.context = replace(work.context, parents={n: Parent(tables[n], targets[n]) for n in sorted(referenced)})
    for name in names:
        spec, table = tables[name], None
        try:
            table = work.source_of(spec).schema(spec.source_table)
            mapping = compile_table(spec, table, targets[name], work.context)
            mappings.append(_with_options(mapping, work.project.sources))
        except UsageError as error:
            faults.append(error)
            if table is not None:
                broken.append((spec, table))
    if broken:
        states = _states(work)
        found = (_drift(work, s, None, table, targets[s.name], states.get(s.name)) for s, table in broken)
        drift.refuse([f for findings in found for f in findings], [f.message for f in faults])
    if faults:
        told = "\n".join(f.message for f in faults)
        databases = any(work.project.sources[name].url for spec, _ in broken for name, _ in spec.origins)
        unseen = _UNSEEN if databases and '" is not in the source' in told else ""
        raise UsageError(told, hint=next((f.hint for f in faults if f.hint), unseen))
    return mappings


_UNSEEN = "A column that the source's user may not read is not seen either: GRANT SELECT ON its table."


def drifted(work: Session, mapping: Mapping, state: TableState | None) -> list[Finding]:
    """What has changed at both sides since the table was planned; nothing where it was not."""
    return _drift(work, mapping.spec, mapping, mapping.source, mapping.target, state)


def _drift(
    work: Session,
    spec: TableSpec,
    mapping: Mapping | None,
    table: Table,
    target: TargetTable | None,
    state: TableState | None,
) -> list[Finding]:
    if state is None:
        return []
    now = drift.source(table, _estimate(work, spec))
    with explained(f"read the ledger for {spec.name}"):
        return drift.found(work.conn, work.migration, state, spec, mapping, now, target)


def _estimate(work: Session, spec: TableSpec) -> int:
    """About how many rows a table's source has, by its engine; 0 where that does not tell."""
    if spec.name in work.samples:
        return 0
    sources = [(work.source(name), table) for name, table in spec.origins]
    return sum(cast(Estimated, s).estimate([table])[0] for s, table in sources if hasattr(s, "estimate"))


def _target(work: Session, spec: TableSpec) -> TargetTable | None:
    """A target table as the catalogue has it, with the foreign keys that are off while it is being loaded."""
    with explained(f"read the catalogue for {spec.name}"):
        target = catalogue(work.conn, spec.target_schema, spec.target_name)
        if target is None or not ledger.exists(work.conn):
            return target
        return lifecycle.with_suspended(work.conn, work.migration, spec.name, target)


def _with_options(mapping: Mapping, sources: Dictionary[str, SourceSpec]) -> Mapping:
    """How sources are read is part of what their rows become; of several, their order and names are too."""
    read = [(origin, _options(sources[origin[0]], origin[1])) for origin in mapping.spec.origins]
    written = json.dumps(read[0][1] if len(read) == 1 else read, sort_keys=True, default=str)
    digest = hashlib.sha256(f"{mapping.digest}\n{written}".encode()).hexdigest()
    ways = {f"how {'.'.join(origin)} is read": f"#{hashed(options)}" for origin, options in read}
    several = {"the order of the sources": ", ".join(".".join(o) for o, _ in read)} if len(read) > 1 else {}
    return replace(mapping, digest=digest, parts={**mapping.parts, **ways, **several})


HOW_FAST = ("connections", "quiesced")
"""Options of a source that say nothing about what its rows are."""


def _options(source: SourceSpec, table: str) -> dict[str, Any]:
    """The options by which one table is read: those of a source's other tables are none of its business."""
    options = {name: value for name, value in source.options.items() if name not in HOW_FAST}
    if "tables" in options:
        options["tables"] = options["tables"].get(table)
    if "fields" in options:  # of a table, of those whose arrays it is made of, and of those that are made of its arrays
        related = {t: f"{table}/".startswith(f"{t}/") or t.startswith(f"{table}/") for t in options["fields"]}
        options["fields"] = {t: given for t, given in options["fields"].items() if related[t]}
    return options


def digest(mapping: Mapping) -> str:
    """What decides whether work that is done already is still the work asked for."""
    return f"{mapping.digest}/{mapping.spec.mode}/{','.join(mapping.spec.on)}"


def planned(work: Session, mappings: Sequence[Mapping], options: Options) -> Plan:
    """Decide what is to be done; reads sources and ledger, writes nothing."""
    states = _states(work)
    cuts = {m.spec.name: _cut(work, m) for m in mappings}
    seen = {m.spec.name: _seen(work, m.spec) for m in mappings}
    sizes = {m.spec.name: _size(work, m, options) for m in mappings}
    changed = {m.spec.name: drifted(work, m, states.get(m.spec.name)) for m in mappings if not options.restart}
    drift.refuse([finding for findings in changed.values() for finding in findings])
    others = _others(work, set(sizes))
    moved = _moved(work, in_knots(mappings, others), states, seen)
    plans = []
    for mapping in mappings:
        name = mapping.spec.name
        state = states.get(name)
        pinned = ledger.pinned(work.conn, work.migration, name, state.generation) if state else []
        plans.append(
            decide(
                mapping,
                state,
                digest(mapping),
                pinned,
                cuts[name],
                sizes[name],
                restart=options.restart,
                may_delete=options.may_delete,
                view=seen[name].view,
                changed=drift.of_mapping(work.conn, work.migration, state, mapping) if state else "",
                moved=moved.get(name, ()),
            )
        )
    empty = _empty(work, plans) if moved else set()
    widened = widen(plans, cuts, sizes, states, empty)
    widened = [replace(p, seen=seen[p.name], drift=changed.get(p.name, [])) for p in widened]
    lifecycle.refuse_outside_references(
        work.conn, [p.mapping.target for p in widened if p.truncate and p.mapping.target.exists]
    )
    for plan in widened:
        if not options.may_delete:
            lifecycle.refuse_to_delete(work.conn, work.migration, plan)
    plan_ = in_levels(work.migration, widened, others)
    # In a dry run, the real plan has been looked at before.
    finalized = set(work.project.spec.tables) if work.rehearsed is not None else set()
    finalized.update(name for name, state in states.items() if state.phase == "finalized")
    for each in plan_.tables:
        refuse_cycles(each, finalized)
        election.refuse_undecidable(each.mapping, each.knot)
    return plan_


def _moved(
    work: Session,
    knots: Dictionary[str, frozenset[str]],
    states: Dictionary[str, TableState],
    seen: Dictionary[str, Seen],
) -> dict[str, frozenset[str]]:
    """The knots, by their tables, that were interrupted and cannot be gone on with.

    Settling one reads rows again, and of a source that moves they are not those that were loaded. Where none was loaded
    yet, all of them are read in the new view.
    """
    planned = {name: knot & seen.keys() & states.keys() for name, knot in knots.items()}
    return {
        name: knot
        for name, knot in planned.items()
        if any(states[n].phase == "loading" and seen[n].view == "live" for n in knot)
        and any(ledger.chunks_done(work.conn, work.migration, n, states[n].generation) for n in knot)
    }


def _empty(work: Session, plans: Sequence[TablePlan]) -> set[str]:
    """The tables of which nothing was loaded yet, and whose targets hold no row."""
    found = set()
    for plan in plans:
        target, name = plan.mapping.target, plan.name
        if not target.exists or plan.action not in ("load", "resume"):
            continue
        if plan.before is None or not ledger.chunks_done(work.conn, work.migration, name, plan.generation):
            with explained(f"look into {target.qualified}"):
                row = work.conn.execute(f"SELECT FROM {quote(target.schema, target.name)} LIMIT 1").fetchone()
            if row is None:
                found.add(name)
    return found


def _states(work: Session) -> dict[str, TableState]:
    with explained("read the ledger"):
        return ledger.table_states(work.conn, work.migration) if ledger.exists(work.conn) else {}


def _seen(work: Session, spec: TableSpec) -> Seen:
    """In which views all that a table is read from is read."""
    readings = []
    for name in dict.fromkeys(source for source, _ in spec.origins) if spec.name not in work.samples else ():
        source = work.source(name)
        if hasattr(source, "view"):
            view, note = cast(Viewed, source).view()
            watermark = cast(Watermarked, source).watermark() if hasattr(source, "watermark") else None
            readings.append(ledger.Reading(name, view, note, watermark))
    return Seen(tuple(readings), _estimate(work, spec))


def _save_readings(work: Session, tables: Sequence[TablePlan], epoch: int, conn: Connection) -> None:
    """Note once more in which views tables were read: connections may have been lost since they were begun."""
    for plan in tables:
        seen = _seen(work, work.project.spec.tables[plan.name])
        ledger.save_readings(conn, work.migration, plan.name, plan.generation, epoch, seen.readings)


def _others(work: Session, planned: Collection[str]) -> dict[str, set[str]]:
    """The project's tables that are not planned, each with those that it references, declared or mapped."""
    specs = work.project.spec.tables
    by_target = {f"{s.target_schema}.{s.target_name}": name for name, s in specs.items()}
    found = {}
    for name, spec in specs.items():
        if name not in planned:
            target = _target(work, spec)
            declared = target.foreign_keys if target is not None else ()
            found[name] = {by_target[f.parent] for f in declared if f.parent in by_target}
            found[name] |= {c.reference.table for c in spec.columns if c.reference is not None}
    return found


def rehearsed(work: Session, mappings: Sequence[Mapping], options: Options) -> Plan:
    """The plan of a first load, whatever has been loaded: all partitions, as they would be cut now."""
    plans = []
    for mapping in mappings:
        size = _size(work, mapping, options)
        chunks = tuple(_cut(work, mapping)(size))
        seen = _seen(work, mapping.spec)
        plans.append(TablePlan(mapping, "load", "as a first load", 1, chunks, size, None, chunks, seen=seen))
    return in_levels(work.migration, plans)


def _size(work: Session, mapping: Mapping, options: Options) -> BatchSize:
    """How large a new chunk of a table may be: no larger than a cap on its source lets it be."""
    names = {name for name, _ in mapping.spec.origins}
    return replace(options.size, rows=work.governor.rows(names, options.size.rows))


def _cut(work: Session, mapping: Mapping) -> Cut:
    def cut(size: BatchSize) -> Sequence[Partition]:
        source = work.source_of(mapping.spec)
        return list(source.partitions(mapping.source, rows=size.rows, bytes=size.bytes))

    return cut


# ------------------------------------------------------------------------------------------------------------- running


class Stop:
    """A request to stop at the next chunk's edge, shared by signals, failing workers and the reject budget."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.cause: BaseException | None = None
        self._lock = threading.Lock()

    def __call__(self, cause: BaseException) -> None:
        with self._lock:
            if self.cause is None:
                self.cause = cause
        self._event.set()

    @property
    def asked(self) -> bool:
        return self._event.is_set()

    def check(self) -> None:
        """Raise the cause where a stop is asked for."""
        if self.cause is not None:
            raise self.cause

    def pause(self, seconds: float) -> None:
        """Wait between attempts; raises the cause where a stop is asked for meanwhile."""
        if self._event.wait(seconds):
            assert self.cause is not None
            raise self.cause


def run(work: Session, plan: Plan, epoch: int, options: Options, stop: Stop, on_event: OnEvent) -> None:
    """Carry out a plan. Raises what ended it early; what is committed stays."""
    elected: dict[str, lifecycle.Elected] = {}
    try:
        for each in plan.tables:
            if each.action in ("load", "redo", "add"):
                _elect(work, each, options, stop, on_event, elected)
        work.governor.rest()
        work.again(_alive, stop.pause)
        lifecycle.prepare(
            work.conn,
            work.migration,
            plan.tables,
            {p.name: digest(p.mapping) for p in plan.tables},
            epoch,
            elected,
            may_delete=options.may_delete,
        )
    finally:
        for one in elected.values():
            one.ballot.close()
    for plan_ in plan.tables:
        if plan_.action in ("load", "redo", "add", "resume"):
            ledger.save_readings(work.conn, work.migration, plan_.name, plan_.generation, epoch, plan_.seen.readings)
        if plan_.action in ("resume", "add") and plan_.before is not None and plan_.before.hash != checksum.NAME:
            # Another version hashed the first chunks: the sums cannot be compared any more, the rows still can.
            ledger.set_hash(work.conn, work.migration, plan_.name, "mixed")
    for level in plan.levels:
        work.again(_alive, stop.pause)
        _load(work, [p for p in level if p.action not in ("done", "finalize")], epoch, options, stop, on_event)
        stop.check()
        unsettled = [p for p in level if p.action not in ("done", "finalize")]
        if unsettled:
            # Settling may read chunks again, within a transaction that locks its tables: all waiting is done before.
            with work.governor.turn(_sources(work, unsettled), 0):
                _settle(work, unsettled, epoch, options, stop, on_event)
            work.again(partial(_save_readings, work, unsettled, epoch), stop.pause)
        for table in level:
            stop.check()
            if table.action == "done":
                lifecycle.refuse_missing_rows(work.conn, work.migration, table)
                on_event(Event("table", table.name, table.why))
                continue
            work.governor.rest()
            finalize = partial(
                lifecycle.finalize,
                migration=work.migration,
                plan=table,
                epoch=epoch,
                connect=work.connect,
            )
            work.again(finalize, stop.pause)
            on_event(Event("finalized", table.name))


def _alive(conn: Connection) -> None:
    """Find out that a connection was lost while it was idle: a paused run may be so for long."""
    with explained("reach the target"):
        conn.execute("SELECT 1")


def _sources(work: Session, plans: Iterable[TablePlan]) -> list[tuple[str, Source]]:
    """All that these tables are read from, by their names."""
    return [(name, work.source(name)) for name in dict.fromkeys(n for p in plans for n, _ in p.mapping.spec.origins)]


def _elect(
    work: Session,
    plan: TablePlan,
    options: Options,
    stop: Stop,
    on_event: OnEvent,
    elected: dict[str, lifecycle.Elected],
) -> None:
    referenced = tuple(dict.fromkeys(_referenced(work, plan.name)))
    ballot = elect(work, plan, options, stop, on_event)
    if ballot is not None:
        elected[plan.name] = lifecycle.Elected(ballot, referenced)


def elect(work: Session, plan: TablePlan, options: Options, stop: Stop, on_event: OnEvent) -> Ballot | None:
    """Find a table's duplicates, and make them known to the tables that reference it. The caller closes the ballot."""
    mapping = plan.mapping
    ballot = election.elect(
        mapping,
        work.context,
        work.source_of(mapping.spec),
        plan.chunks,
        plan.knot,
        work.keys,
        jobs=options.jobs,
        asked=stop.check,
        on_event=on_event,
    )
    if ballot is not None:
        merged, refused = ballot.tally()
        if merged or refused:
            words = [
                f"{merged:,} duplicates" if merged else "",
                f"{refused:,} rows whose key another has" if refused else "",
            ]
            on_event(Event("elected", plan.name, " and ".join(w for w in words if w)))
    for columns in dict.fromkeys(_referenced(work, plan.name)):
        work.elected(plan.name, columns, ballot, mapping.schema)
    return ballot


def _referenced(work: Session, name: str) -> Iterator[tuple[str, ...]]:
    """The target columns by which any table of the project references this one."""
    for spec in work.project.spec.tables.values():
        groups: dict[object, list[str]] = {}
        for column in spec.columns:
            reference = column.reference
            if reference is not None and reference.table == name:
                with suppress(ReferenceFault):  # not this table's fault, and told when that one is compiled
                    of = parent_column(reference, work.context.parents)
                    groups.setdefault((tuple(b.text for b in reference.by), reference.orphans), []).append(of)
        yield from (tuple(columns) for columns in groups.values())


def pipeline(work: Session, plan: TablePlan) -> Pipeline:
    """What becomes of the rows of a plan's generation; for one thread."""
    mapping = plan.mapping
    of = Chunk(work.migration, plan.name, plan.generation, 0)
    source = work.source_of(mapping.spec)
    return Pipeline(mapping, work.context, source, of, work.keys, work.connect)


def _settle(
    work: Session, tables: Sequence[TablePlan], epoch: int, options: Options, stop: Stop, on_event: OnEvent
) -> None:
    def settled(conn: Connection) -> dict[str, Settled]:
        def check_budget(plan: TablePlan) -> None:
            fates = ledger.fates(conn, work.migration, plan.name)[0]
            _Counter(plan, _budget(plan, options), _aborts(plan, options), fates.rejected, fates.read, 0).check()

        return settle(conn, work.migration, tables, epoch, partial(pipeline, work), check_budget)

    for name, turned in work.again(settled, stop.pause).items():
        if turned.message:
            on_event(Event("settled", name, turned.message))


@dataclass(slots=True)
class _Counter:
    """The reject budget of one table, and its progress, shared by the workers."""

    plan: TablePlan
    budget: Budget
    abort: bool
    rejected: int
    rows_done: int
    chunks_done: int
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, receipt: Receipt) -> Event:
        with self.lock:
            self.chunks_done += 1
            self.rows_done += receipt.entry.read
            self.rejected += receipt.entry.rejected
            return Event(
                "chunk",
                self.plan.name,
                "",
                len(self.plan.chunks),
                self.chunks_done,
                self.plan.rows,
                self.rows_done,
                receipt.entry,
                receipt.attempts,
            )

    def check(self) -> None:
        # A database only estimates its rows: what has been read is known.
        rows = max(self.plan.rows, self.rows_done)
        most = min(self.budget.rows, int(self.budget.fraction * rows))
        if self.rejected > most:
            raise FindingsError(
                f"{self.plan.name}: {self.rejected} rows rejected, and at most {most} may be",
                hint=f"See `migrate rejects list -s {self.plan.name}`. Mend the mapping, or raise the budget "
                f"(`max_rejects`, --max-rejects), and run the same command again: what is loaded stays.",
            )


def _load(
    work: Session, tables: Sequence[TablePlan], epoch: int, options: Options, stop: Stop, on_event: OnEvent
) -> None:
    tasks: SimpleQueue[tuple[_Counter, Partition]] = SimpleQueue()
    if not tables:
        return
    sums = {f.name: f for f in ledger.fates(work.conn, work.migration)}
    for table in tables:
        done = ledger.chunks_done(work.conn, work.migration, table.name, table.generation)
        before = sums[table.name]
        counter = _Counter(
            table, _budget(table, options), _aborts(table, options), before.rejected, before.read, len(done)
        )
        on_event(Event("table", table.name, table.why, len(table.chunks), len(done), table.rows, counter.rows_done))
        counter.check()
        for partition in table.chunks:
            if partition.ordinal not in done:
                tasks.put((counter, partition))
    jobs = min(options.jobs, tasks.qsize())
    if not jobs:
        return
    with ThreadPoolExecutor(jobs, thread_name_prefix="worker") as pool:
        workers = [pool.submit(_work, work, tasks, epoch, stop, on_event) for _ in range(jobs)]
        while not all(w.done() for w in workers):
            # Short waits on the main thread, so that signals reach it.
            time.sleep(0.05)
    for worker in workers:
        worker.result()
    if stop.cause is not None:
        raise stop.cause


def _read_from(work: Session, plan: TablePlan, partition: Partition) -> list[tuple[str, Source]]:
    """The sources that a chunk is read from, by their names: of several, the one that its part is of."""
    if len(plan.mapping.spec.origins) > 1 and plan.name not in work.samples:
        name = part_of(partition).partition(".")[0]
        return [(name, work.source(name))]
    return _sources(work, [plan])


def _aborts(table: TablePlan, options: Options) -> bool:
    return (options.on_bad_row or table.mapping.spec.on_bad_row) == "abort"


def _budget(table: TablePlan, options: Options) -> Budget:
    if _aborts(table, options):
        return Budget(rows=0, fraction=0.0)
    return options.max_rejects or table.mapping.spec.max_rejects


def _work(
    work: Session,
    tasks: "SimpleQueue[tuple[_Counter, Partition]]",
    epoch: int,
    stop: Stop,
    on_event: OnEvent,
) -> None:
    """One worker: takes chunks until there are none, or a stop is asked for. Keeps one table's tools at a time."""
    tools: Tools | None = None
    try:
        while not stop.asked:
            try:
                counter, partition = tasks.get_nowait()
            except Empty:
                return
            plan = counter.plan
            if tools is None or tools.plan is not plan:
                if tools is not None:
                    tools.close()
                tools = Tools(work, plan, epoch, stop, abort=counter.abort)
            with work.governor.turn(_read_from(work, plan, partition), max(1, partition.rows)):
                receipt = tools.commit(partition)
            event = counter.add(receipt)
            on_event(event)
            counter.check()
    except BaseException as error:  # noqa: BLE001 - whatever it is, the other workers must stop, and it is raised by run()
        stop(error)
    finally:
        if tools is not None:
            tools.close()


class Tools:
    """What one worker needs for one table."""

    def __init__(self, work: Session, plan: TablePlan, epoch: int, stop: Stop, *, abort: bool) -> None:
        mapping = plan.mapping
        self.plan = plan
        self._work = work
        self._pipeline = pipeline(work, plan)
        self._writer = Writer(
            mapping.target,
            mapping.schema,
            mapping.wires,
            upsert_key(mapping),
            work.standing.get(mapping.target.qualified),
        )
        self._hasher = checksum.Hasher(mapping.schema, mapping.wires, plan.bucket_key)
        self._committer = Committer(
            work.connect,
            self._writer,
            self._hasher,
            _screens(plan),
            uniques=_uniques(work, plan),
            epoch=epoch,
            abort=abort,
            personal=mapping.spec.personal,
            pause=stop.pause,
        )

    def commit(self, partition: Partition) -> Receipt:
        chunk = Chunk(self._work.migration, self.plan.name, self.plan.generation, partition.ordinal)
        return self._committer.commit(chunk, lambda: self._pipeline.steps(partition))

    def close(self) -> None:
        self._committer.close()
        self._pipeline.close()
        self._writer.close()
        self._hasher.close()


def _uniques(work: Session, plan: TablePlan) -> list[UniqueScreen]:
    """The keys that rows may not share with those that stood in the table before this migration."""
    mapping, target = plan.mapping, plan.mapping.target
    if mapping.spec.mode != "append":
        return []
    if target.qualified in work.standing:
        relation = work.standing[target.qualified]
    else:
        with work.connect() as conn:
            shared = ledger.table_states(conn, work.migration)[plan.name].ownership == "shared"
        relation = (target.schema, target.name) if shared else None
    if relation is None:
        return []
    keys = [k for k in dict.fromkeys((target.key, *target.uniques)) if k and set(k) <= set(mapping.columns)]
    return [UniqueScreen(key, mapping.schema, mapping.wires, relation) for key in keys]


def _screens(plan: TablePlan) -> list[tuple[ForeignKeyScreen, Policy]]:
    """The foreign keys and mapped references that a chunk can decide: not those within the table's knot."""
    mapping = plan.mapping
    references = {r.foreign_key: r for r in mapping.references if r.foreign_key is not None}
    inner = {key.name for key in plan.inner}
    keys: list[tuple[ForeignKey, Reference | None]] = [
        (key, references.get(key.name))
        for key in mapping.target.foreign_keys
        if set(key.columns) <= set(mapping.columns) and key.name not in inner
    ]
    keys += [(reference_key(r), r) for r in mapping.references if r.foreign_key is None and r.table not in plan.knot]
    screens: list[tuple[ForeignKeyScreen, Policy]] = []
    for key, reference in keys:
        # The key itself may be a uuid, which tells nobody which column of the source to look at.
        told = replace(key, name=f"{key.name}, by {', '.join(reference.by)}") if reference is not None else key
        policy = reference.orphans if reference is not None else "reject"
        screens.append((ForeignKeyScreen(told, mapping.schema, mapping.wires), policy))
    return screens


def selected(project: Project, select: Sequence[str], exclude: Sequence[str]) -> list[str]:
    """The tables that -s and --exclude leave. Raises UsageError for a name that is not a table of the project."""
    names = list(project.spec.tables)
    for name in (*select, *exclude):
        if name not in names:
            raise UsageError(f"no table {name!r} in {project.spec.path.name}", hint=f"Its tables: {', '.join(names)}.")
    chosen = [n for n in names if (not select or n in select) and n not in exclude]
    if not chosen:
        raise UsageError("no table is left to work on", hint=f"{project.spec.path.name} has: {', '.join(names)}.")
    return chosen
