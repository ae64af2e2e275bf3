"""What is to be done with each table, decided from the project, the sources and the ledger; nothing is written here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from typing import Any, Literal

from mappings.compile import Mapping as CompiledMapping
from migrate.core import Partition
from migrate.errors import GateError
from migrate.ledger import TableState

Action = Literal["load", "resume", "add", "redo", "finalize", "done"]
"""load: the first filling. resume: go on with a pinned plan. add: new partitions of a source that grew. redo: a new
generation. finalize: all chunks are in, keys and sequences are not. done: nothing is left to do."""


@dataclass(frozen=True, slots=True)
class BatchSize:
    """How large a partition may be: whichever of the two is reached first."""

    rows: int = 200_000
    bytes: int = 8 << 20


Cut = Callable[[BatchSize], Sequence[Partition]]
"""Cuts a source table into partitions of a size; reads the source."""


@dataclass(frozen=True, slots=True)
class TablePlan:
    """One table's part of the plan. `chunks` are all partitions of its generation, `fresh` those not pinned yet."""

    mapping: CompiledMapping
    action: Action
    why: str
    generation: int
    chunks: tuple[Partition, ...]
    size: BatchSize
    before: TableState | None
    fresh: tuple[Partition, ...] = ()
    truncate: bool = False

    @property
    def name(self) -> str:
        return self.mapping.spec.name

    @property
    def bucket_key(self) -> tuple[str, ...]:
        """The columns that choose a row's bucket: those that the generation was begun with."""
        if self.before is not None and self.before.generation == self.generation:
            return tuple(self.before.bucket_key)
        return bucket_key(self.mapping)

    @property
    def rows(self) -> int:
        """Estimated source rows."""
        return sum(p.rows for p in self.chunks)


@dataclass(frozen=True, slots=True)
class Plan:
    """Every selected table, in levels: a level's tables reference tables of earlier levels only."""

    migration: str
    levels: tuple[tuple[TablePlan, ...], ...]

    @property
    def tables(self) -> tuple[TablePlan, ...]:
        return tuple(t for level in self.levels for t in level)


def upsert_key(mapping: CompiledMapping) -> tuple[str, ...]:
    """The target columns that upsert matches on; () for the other modes."""
    return (mapping.spec.on or mapping.target.key) if mapping.spec.mode == "upsert" else ()


def bucket_key(mapping: CompiledMapping) -> tuple[str, ...]:
    """The target columns that identify a row: its primary key, or a unique one, where they are mapped; else ()."""
    return _key_among(mapping, set(mapping.columns))


def finding_key(mapping: CompiledMapping) -> tuple[str, ...]:
    """The mapped target columns by which one row can be found, or (): of a unique key with a NULL, many may be equal."""
    return _key_among(mapping, {c.column.name for c in mapping.cells if not c.column.nullable})


def _key_among(mapping: CompiledMapping, columns: set[str]) -> tuple[str, ...]:
    """The first key of the target whose columns are all among these, and hashed; else ()."""
    usable = {c for c, w in zip(mapping.columns, mapping.wires, strict=True) if w.hashed and c in columns}
    candidates = [upsert_key(mapping), mapping.target.key, *mapping.target.uniques]
    return next((tuple(k) for k in candidates if k and set(k) <= usable), ())


def decide(
    mapping: CompiledMapping,
    state: TableState | None,
    digest: str,
    pinned: Sequence[Partition],
    cut: Cut,
    size: BatchSize,
    *,
    restart: bool,
) -> TablePlan:
    """Decide one table. `size` is for new generations: one that was begun keeps the size it was begun with.

    Raises GateError where going on would need rows to be removed that this migration may not remove.
    """
    mode = mapping.spec.mode
    name = mapping.spec.name
    if state is None:
        chunks = tuple(cut(size))
        return TablePlan(mapping, "load", "first load", 1, chunks, size, None, chunks, mode == "replace")

    def redo(why: str) -> TablePlan:
        if mode == "append" and state.ownership == "shared":
            raise GateError(
                f"{name}: {why}, but its rows were appended to a table that already held {state.rows_before} others",
                hint="The appended rows cannot be told from those. Use `mode: upsert`, or empty the table by hand.",
            )
        chunks = tuple(cut(size))
        return TablePlan(mapping, "redo", why, state.generation + 1, chunks, size, state, chunks, mode != "upsert")

    if state.target != mapping.target.qualified:
        raise GateError(
            f"{name}: its rows went to {state.target}, the project now says {mapping.target.qualified}",
            hint="Give the new target a table of its own in the project file.",
        )
    if restart:
        return redo("--restart")
    if not mapping.target.exists:
        raise GateError(
            f"{name}: {state.target} was dropped since it was loaded",
            hint=f"`migrate run --restart -s {name}` makes and loads it again.",
        )
    if state.oid != mapping.target.oid:
        raise GateError(
            f"{name}: {state.target} was dropped and made anew since it was loaded",
            hint=f"`migrate run --restart -s {name}` loads it again.",
        )
    if state.digest != digest:
        why = "the mapping or the target's columns changed since it was loaded"
        if mode == "append":
            raise GateError(
                f"{name}: {why}",
                hint=f"`migrate run --restart -s {name}` loads it again from the start; or use mode replace or upsert.",
            )
        return redo(why)
    begun = BatchSize(state.batch_rows, state.batch_bytes)
    if state.phase == "loading":
        return TablePlan(mapping, "resume", "resumed where it stopped", state.generation, tuple(pinned), begun, state)
    if state.phase == "loaded":
        return TablePlan(
            mapping, "finalize", "loaded, not yet finalized", state.generation, tuple(pinned), begun, state
        )
    chunks = tuple(cut(begun))
    known, now = {p.token for p in pinned}, {p.token for p in chunks}
    if known == now:
        return TablePlan(mapping, "done", "already loaded", state.generation, tuple(pinned), begun, state)
    if known < now and mode == "upsert":
        # A new row may overwrite one that an older file loaded: only an election over all of them knows.
        return redo("the source has grown")
    if known < now:
        new = [p for p in chunks if p.token not in known]
        fresh = tuple(replace(p, ordinal=len(pinned) + n) for n, p in enumerate(new))
        return TablePlan(
            mapping, "add", "the source has grown", state.generation, (*pinned, *fresh), begun, state, fresh
        )
    if mode == "append":
        raise GateError(
            f"{name}: source files that were already loaded have changed",
            hint=f"`migrate run --restart -s {name}` loads it again; or use mode replace or upsert.",
        )
    return redo("the source changed since it was loaded")


def widen(plans: Sequence[TablePlan], cuts: Mapping[str, Cut], size: BatchSize) -> list[TablePlan]:
    """Truncating a table truncates those that reference it: plan their reload too. Raises GateError where one may not be."""
    planned = {p.mapping.target.qualified: p for p in plans}
    changed = True
    while changed:
        changed = False
        for name, plan in planned.items():
            parents = [planned[f.parent] for f in plan.mapping.target.foreign_keys if f.parent in planned]
            cause = next((p for p in parents if p.truncate and p.name != plan.name), None)
            if cause is None or plan.truncate or not plan.mapping.target.exists:
                continue
            if plan.mapping.spec.mode != "replace":
                raise GateError(
                    f"{cause.name} is to be emptied ({cause.why}), and {plan.name} references it",
                    hint=f"Give {plan.name} `mode: replace` as well, or leave {cause.name} out with --exclude.",
                )
            chunks = tuple(cuts[plan.name](size))
            why = f"{cause.name} is loaded again"
            generation = 1 if plan.before is None else plan.before.generation + 1
            planned[name] = TablePlan(plan.mapping, "redo", why, generation, chunks, size, plan.before, chunks, True)
            changed = True
    return list(planned.values())


def in_levels(migration: str, plans: Sequence[TablePlan]) -> Plan:
    """Order tables by foreign keys. Raises GateError for a cycle among them."""
    by_target = {p.mapping.target.qualified: p for p in plans}
    graph = {
        t: {f.parent for f in p.mapping.target.foreign_keys if f.parent in by_target and f.parent != t}
        for t, p in by_target.items()
    }
    sorter = TopologicalSorter(graph)
    try:
        sorter.prepare()
    except CycleError as error:
        cycle = " → ".join(error.args[1])
        raise GateError(
            f"tables reference each other in a cycle: {cycle}",
            hint="Drop one of these foreign keys for the migration and add it again after it.",
        ) from None
    levels = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        levels.append(tuple(by_target[t] for t in ready))
        sorter.done(*ready)
    return Plan(migration, tuple(levels))


def refuse_self_references(plan: TablePlan) -> None:
    """A parent in another chunk may come later: rows would be refused for want of it. Raises GateError."""
    table = plan.mapping.target
    key = next((f for f in table.foreign_keys if f.parent == table.qualified), None)
    if key is not None and set(key.columns) <= set(plan.mapping.columns) and len(plan.chunks) > 1:
        raise GateError(
            f"{plan.name} references itself ({key.name}) and has {len(plan.chunks)} chunks: a parent may come after its child",
            hint="Load it in one chunk (a larger --batch-bytes), or drop the foreign key for the migration.",
        )


def to_json(plan: Plan) -> dict[str, Any]:
    """The plan for people and programs: what is done with each table, why, and the partitions' tokens."""
    return {
        "format": 1,
        "migration": plan.migration,
        "levels": [[_table(t) for t in level] for level in plan.levels],
        "notes": [f"{t.name}: {note}" for t in plan.tables for note in notes(t)],
    }


def _table(plan: TablePlan) -> dict[str, Any]:
    spec, target = plan.mapping.spec, plan.mapping.target
    return {
        "table": plan.name,
        "source": spec.came_from,
        "view": "pinned",
        "target": target.qualified,
        "creates": not target.exists,
        "truncates": plan.truncate and target.exists,
        "mode": spec.mode,
        "action": plan.action,
        "why": plan.why,
        "generation": plan.generation,
        "rows": plan.rows,
        "digest": plan.mapping.digest,
        "chunks": [{"chunk": p.ordinal, "rows": p.rows, "bytes": p.bytes, "token": p.token} for p in plan.chunks],
    }


def notes(plan: TablePlan) -> list[str]:
    """What a person should know before the run: detection's choices, cautions, and that the table is new."""
    table = plan.mapping.target
    said = [*plan.mapping.source.notes, *cautions(plan.mapping)]
    if not table.exists:
        said.append(f"{table.qualified} will be created")
    return said


def cautions(mapping: CompiledMapping) -> list[str]:
    """What the target will do of its own: triggers that fire, checks that only it can decide."""
    said = []
    if mapping.target.triggers:
        said.append(f"user triggers will fire for each row: {', '.join(mapping.target.triggers)}")
    if mapping.unscreened:
        said.append(f"checked by the server only: {', '.join(mapping.unscreened)}")
    return said
