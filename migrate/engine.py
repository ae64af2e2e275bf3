"""Runs a plan: opens sources, compiles mappings, and drives worker threads over the chunks; says what happens as events."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from queue import Empty, SimpleQueue
from typing import TypeVar

import duckdb
import numpy as np
import pyarrow as pa

from mappings.compile import Context, Mapping, compile_table
from mappings.mapper import Mapper
from mappings.spec import Budget, SourceSpec
from migrate import checksum, ledger, lifecycle
from migrate.commit import ATTEMPTS, Committer, Receipt, backoff
from migrate.core import Chunk, Event, Flow, OnEvent, Ordinals, Origin, Partition, Source, Step
from migrate.errors import FindingsError, RetryableError, UsageError
from migrate.plan import (
    BatchSize,
    Cut,
    Plan,
    TablePlan,
    decide,
    in_levels,
    refuse_self_references,
    upsert_key,
    widen,
)
from migrate.project import Project, open_source
from migrate.target import Connection, ForeignKeyScreen, Writer, catalogue, connect, explained

ELECTION_MEMORY = "1GB"

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
    """A loaded project with its open sources and a connection to the target: what most commands need."""

    project: Project
    conn: Connection
    context: Context
    sources: dict[str, Source] = field(default_factory=dict)

    def again(self, operation: Callable[[Connection], T], pause: Callable[[float], object]) -> T:
        """Do something that may be done twice, reconnecting where the connection was lost meanwhile."""
        for attempt in range(1, ATTEMPTS):
            try:
                return operation(self.conn)
            except RetryableError:
                pause(backoff(attempt))
                self.conn.close()
                with suppress(RetryableError):
                    self.conn = connect(self.project.target)
        return operation(self.conn)

    def source(self, name: str) -> Source:
        if name not in self.sources:
            self.sources[name] = open_source(self.project, name)
        return self.sources[name]

    @property
    def migration(self) -> str:
        return self.project.spec.migration

    def close(self) -> None:
        self.conn.close()


@contextmanager
def session(project: Project) -> Iterator[Session]:
    """Open a project for work."""
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
    opened = Session(project, connect(project.target), context)
    try:
        yield opened
    finally:
        opened.close()


def compiled(work: Session, names: Sequence[str]) -> list[Mapping]:
    """Compile tables against source schema and target catalogue; the faults of all of them at once as one UsageError."""
    mappings, faults = [], []
    for name in names:
        spec = work.project.spec.tables[name]
        try:
            table = work.source(spec.source).schema(spec.source_table)
            with explained(f"read the catalogue for {name}"):
                target = catalogue(work.conn, spec.target_schema, spec.target_name)
            mapping = compile_table(spec, table, target, work.context)
            mappings.append(
                replace(
                    mapping, digest=_with_options(mapping.digest, work.project.sources[spec.source], spec.source_table)
                )
            )
        except UsageError as error:
            faults.append(error)
    if faults:
        raise UsageError("\n".join(f.message for f in faults), hint=next((f.hint for f in faults if f.hint), ""))
    return mappings


def _with_options(digest: str, source: SourceSpec, table: str) -> str:
    """How a source is read is part of what its rows become."""
    options = dict(source.options)
    if "tables" in options:  # of which the others are none of this table's business
        options["tables"] = options["tables"].get(table)
    written = json.dumps(options, sort_keys=True, default=str)
    return hashlib.sha256(f"{digest}\n{written}".encode()).hexdigest()


def digest(mapping: Mapping) -> str:
    """What decides whether work that is done already is still the work asked for."""
    return f"{mapping.digest}/{mapping.spec.mode}/{','.join(mapping.spec.on)}"


def planned(work: Session, mappings: Sequence[Mapping], options: Options) -> Plan:
    """Decide what is to be done; reads sources and ledger, writes nothing."""
    known = ledger.exists(work.conn)
    states = ledger.table_states(work.conn, work.migration) if known else {}
    cuts = {m.spec.name: _cut(work, m) for m in mappings}
    plans = []
    for mapping in mappings:
        name = mapping.spec.name
        state = states.get(name)
        pinned = ledger.pinned(work.conn, work.migration, name, state.generation) if state else []
        plans.append(decide(mapping, state, digest(mapping), pinned, cuts[name], options.size, restart=options.restart))
    widened = widen(plans, cuts, options.size)
    lifecycle.refuse_outside_references(
        work.conn, [p.mapping.target for p in widened if p.truncate and p.mapping.target.exists]
    )
    for plan in widened:
        refuse_self_references(plan)
        if not options.may_delete:
            lifecycle.refuse_to_delete(work.conn, work.migration, plan)
    return in_levels(work.migration, widened)


def _cut(work: Session, mapping: Mapping) -> Cut:
    def cut(size: BatchSize) -> Sequence[Partition]:
        source = work.source(mapping.spec.source)
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

    def pause(self, seconds: float) -> None:
        """Wait between attempts; raises the cause where a stop is asked for meanwhile."""
        if self._event.wait(seconds):
            assert self.cause is not None
            raise self.cause


def run(work: Session, plan: Plan, epoch: int, options: Options, stop: Stop, on_event: OnEvent) -> None:
    """Carry out a plan. Raises what ended it early; what is committed stays."""
    lifecycle.prepare(
        work.conn,
        work.migration,
        plan.tables,
        {p.name: digest(p.mapping) for p in plan.tables},
        epoch,
        lambda p: elect(work, p),
        may_delete=options.may_delete,
    )
    for plan_ in plan.tables:
        if plan_.action in ("resume", "add") and plan_.before is not None and plan_.before.hash != checksum.NAME:
            # Another version hashed the first chunks: the sums cannot be compared any more, the rows still can.
            ledger.set_hash(work.conn, work.migration, plan_.name, "mixed")
    for level in plan.levels:
        _load(work, [p for p in level if p.action not in ("done", "finalize")], epoch, options, stop, on_event)
        for table in level:
            if stop.cause is not None:
                raise stop.cause
            if table.action == "done":
                lifecycle.refuse_missing_rows(work.conn, work.migration, table)
                on_event(Event("table", table.name, table.why))
                continue
            if table.action != "finalize":
                _settle(work, table, epoch, stop, on_event)
            finalize = partial(
                lifecycle.finalize,
                migration=work.migration,
                plan=table,
                epoch=epoch,
                connect=partial(connect, work.project.target),
            )
            work.again(finalize, stop.pause)
            on_event(Event("finalized", table.name))


def _settle(work: Session, table: TablePlan, epoch: int, stop: Stop, on_event: OnEvent) -> None:
    turned = work.again(
        lambda conn: lifecycle.settle(conn, work.migration, table, epoch, lambda c, o: origins(work, table, c, o)),
        stop.pause,
    )
    if turned:
        on_event(Event("settled", table.name, f"{turned} merged rows rejected with their survivor"))


def origins(work: Session, table: TablePlan, chunk: int, ordinals: Sequence[int]) -> Iterator[Origin]:
    """Where some rows of a chunk stand; reads the partition again."""
    wanted = np.array(ordinals)
    source = work.source(table.mapping.spec.source)
    for batch in source.read(table.chunks[chunk], table.mapping.reads):
        yield from batch.locate([int(o) for o in wanted[np.isin(wanted, batch.ordinals)]])


@dataclass(slots=True)
class _Counter:
    """The reject budget of one table, and its progress, shared by the workers."""

    plan: TablePlan
    budget: int
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
        if self.rejected > self.budget:
            raise FindingsError(
                f"{self.plan.name}: {self.rejected} rows rejected, and at most {self.budget} may be",
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


def _aborts(table: TablePlan, options: Options) -> bool:
    return (options.on_bad_row or table.mapping.spec.on_bad_row) == "abort"


def _budget(table: TablePlan, options: Options) -> int:
    spec = table.mapping.spec
    if _aborts(table, options):
        return 0
    budget = options.max_rejects or spec.max_rejects
    return min(budget.rows, int(budget.fraction * table.rows))


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
            event = counter.add(tools.commit(partition))
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
        table = mapping.target
        self.plan = plan
        self._work = work
        self._mapper = Mapper(mapping, work.context)
        upsert_on = upsert_key(mapping)
        self._writer = Writer(table, mapping.schema, mapping.wires, upsert_on)
        self._hasher = checksum.Hasher(mapping.schema, mapping.wires, plan.bucket_key)
        screens = [
            ForeignKeyScreen(f, mapping.schema, mapping.wires)
            for f in table.foreign_keys
            if set(f.columns) <= set(mapping.columns) and f.parent != table.qualified
        ]
        target = work.project.target
        self._committer = Committer(
            lambda: connect(target), self._writer, self._hasher, screens, epoch=epoch, abort=abort, pause=stop.pause
        )

    def commit(self, partition: Partition) -> Receipt:
        chunk = Chunk(self._work.migration, self.plan.name, self.plan.generation, partition.ordinal)
        return self._committer.commit(chunk, self._flow(chunk, partition))

    def _flow(self, chunk: Chunk, partition: Partition) -> Flow:
        mapping = self.plan.mapping
        source = self._work.source(mapping.spec.source)

        def flow() -> Iterator[Step]:
            gone = self._superseded(chunk)
            for batch in source.read(partition, mapping.reads):
                step = self._mapper(batch)
                yield _merge(step, gone) if len(gone) else step

        return flow

    def _superseded(self, chunk: Chunk) -> Ordinals:
        if self.plan.mapping.spec.mode != "upsert":
            return np.empty(0, np.int64)
        with connect(self._work.project.target) as conn:
            return np.array(ledger.superseded(conn, chunk), np.int64)

    def close(self) -> None:
        self._committer.close()
        self._mapper.close()
        self._writer.close()
        self._hasher.close()


def _merge(step: Step, gone: Ordinals) -> Step:
    """Take superseded rows out of a step: they live on in the row that overwrites them."""
    lost = np.isin(step.ordinals, gone)
    if not lost.any():
        return step
    return Step(
        step.read,
        step.rows.filter(pa.array(~lost)),
        step.ordinals[~lost],
        np.concatenate((step.merged, step.ordinals[lost])),
        step.filtered,
        step.rejects,
        step.locate,
    )


def elect(work: Session, plan: TablePlan) -> Iterator[tuple[int, int, int, int]]:
    """Find the source rows that a later row with the same upsert key overwrites, over all fresh partitions.

    The last one in the source's order survives, whatever the number of workers. Only rows that pass `where` and the
    mapping take part. Out of core: DuckDB spills past ELECTION_MEMORY.
    """
    mapping = plan.mapping
    key = upsert_key(mapping)
    names = ", ".join(f"k{i}" for i in range(len(key)))
    mapper = Mapper(mapping, work.context)
    source = work.source(mapping.spec.source)
    with duckdb.connect(config={"memory_limit": ELECTION_MEMORY}) as db:
        made = False
        for partition in plan.fresh:
            for batch in source.read(partition, mapping.reads):
                step = mapper(batch)
                keys = pa.table(
                    {
                        **{f"k{i}": step.rows.column(k) for i, k in enumerate(key)},
                        "chunk": pa.repeat(pa.scalar(partition.ordinal, pa.int32()), len(step.ordinals)),
                        "ordinal": pa.array(step.ordinals),
                    }
                )
                db.register("batch", keys)
                db.execute("INSERT INTO keys SELECT * FROM batch" if made else "CREATE TABLE keys AS FROM batch")
                db.unregister("batch")
                made = True
        mapper.close()
        if not made:
            return
        losers = db.execute(
            f"SELECT chunk, ordinal, last.chunk, last.ordinal FROM ("
            f"SELECT chunk, ordinal, first_value({{'chunk': chunk, 'ordinal': ordinal}}) OVER w AS last, "
            f"row_number() OVER w AS n FROM keys WINDOW w AS (PARTITION BY {names} ORDER BY chunk DESC, ordinal DESC)"
            f") WHERE n > 1 ORDER BY chunk, ordinal"
        )
        while rows := losers.fetchmany(10_000):
            yield from rows


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
