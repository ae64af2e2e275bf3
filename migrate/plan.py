"""What is to be done with each table, decided from the project, the sources and the ledger; nothing is written here."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mappings.compile import Mapping as CompiledMapping
from mappings.references import Reference
from migrate.core import Finding, ForeignKey, Partition, View
from migrate.errors import FindingsError, GateError
from migrate.ledger import Reading, TableState

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
class Seen:
    """In which views a table's sources are read, () where they are files, which are pinned by their contents; how many rows."""

    readings: tuple[Reading, ...] = ()
    rows: int = 0  # as the engines of databases estimate

    @property
    def view(self) -> View:
        """Only as firm as the least firm of them."""
        return max((r.view for r in self.readings), key=("pinned", "asof", "live").index, default="pinned")

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(f"{r.source} is {r.note}" for r in self.readings)


@dataclass(frozen=True, slots=True)
class TablePlan:
    """One table's part of the plan. `chunks` are all partitions of its generation, `fresh` those not pinned yet.

    `parents` are the tables that the mapping references, each as name/generation. `knot` are the planned tables that it
    is in a cycle of references with, itself included where it references itself, `knot_targets` their targets,
    schema.table; `knot_beyond` are those of the cycle that are not planned. `drift` is what has changed and does not matter.
    """

    mapping: CompiledMapping
    action: Action
    why: str
    generation: int
    chunks: tuple[Partition, ...]
    size: BatchSize
    before: TableState | None
    fresh: tuple[Partition, ...] = ()
    truncate: bool = False
    parents: tuple[str, ...] = ()
    knot: frozenset[str] = frozenset()
    knot_targets: frozenset[str] = frozenset()
    knot_beyond: frozenset[str] = frozenset()
    seen: Seen = field(default_factory=Seen)
    drift: Sequence[Finding] = ()

    @property
    def inner(self) -> tuple[ForeignKey, ...]:
        """The references within the knot, declared or only mapped: what they refer to may be loaded later than they are.

        Settling looks for their orphans, and a declared one is off until the table is finalized.
        """
        target = self.mapping.target
        within = [r for r in self.mapping.references if r.table in self.knot]
        mapped = set(self.mapping.columns)
        declared = [f for f in target.foreign_keys if f.parent in self.knot_targets and set(f.columns) <= mapped]
        named = {f.name for f in declared}
        made = [reference_key(r) for r in within if r.foreign_key not in named and r.orphans != "keep"]
        return (*declared, *made)

    @property
    def kept(self) -> tuple[ForeignKey, ...]:
        """The references within the knot whose orphans are kept: settling counts them."""
        return tuple(reference_key(r) for r in self.mapping.references if r.table in self.knot and r.orphans == "keep")

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


def reference_key(reference: Reference) -> ForeignKey:
    """A reference that is only mapped, as the foreign key that it would be."""
    name = f"the reference to {reference.table}"
    return ForeignKey(name, reference.columns, *reference.address, reference.parent_columns, reference.elsewhere)


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
    may_delete: bool = False,
    view: View = "pinned",
    changed: str = "the mapping changed since it was loaded",
    moved: Collection[str] = (),
) -> TablePlan:
    """Decide one table. `changed` says what of the mapping did, where it did. `size` is for new generations: one that was
    begun keeps the size it was begun with. `moved` are the tables of its knot where that has to be begun anew.

    What was found out about a source that moves ends with the session that read it: a load that rests on an election is
    begun anew where it was interrupted, and one that is done is not held against what the source has become since.
    Raises GateError where going on would need rows to be removed that this migration may not remove.
    """
    mode = mapping.spec.mode
    name = mapping.spec.name
    if state is None:
        chunks = tuple(cut(size))
        return TablePlan(mapping, "load", "first load", 1, chunks, size, None, chunks, mode == "replace")

    def redo(why: str) -> TablePlan:
        if mode == "append" and state.ownership == "shared" and moved:
            raise GateError(
                f"{name}: {why}, but its rows were appended to a table that already held {state.rows_before} others",
                hint="If nobody has written to the source since, say `quiesced: true` there and run again; else use "
                "`mode: replace` and put those others back afterwards. All else is loaded by "
                f"`migrate run {' '.join(f'--exclude {n}' for n in sorted(moved))}`.",
            )
        if mode == "append" and state.ownership == "shared":
            raise GateError(
                f"{name}: {why}, but its rows were appended to a table that already held {state.rows_before} others",
                hint="The appended rows cannot be told from those. Use `mode: upsert`, or empty the table by hand.",
            )
        if mode == "upsert" and mapping.spec.dedupe is not None and not may_delete:
            raise GateError(
                f"{name}: {why}, and rows that survived in the load before would stay beside those that survive now",
                hint="An upsert removes nothing. Use `mode: replace`; or run with --yes, if that is meant.",
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
        if mode == "append":
            raise GateError(
                f"{name}: {changed}",
                hint=f"`migrate run --restart -s {name}` loads it again from the start; or use mode replace or upsert.",
            )
        return redo(changed)
    begun = BatchSize(state.batch_rows, state.batch_bytes)
    if state.phase in ("loading", "loaded") and moved:
        return redo("interrupted in a cycle of references, and the source has moved since")
    if state.phase == "loading" and view == "live" and mapping.dedupe is not None:
        return redo("interrupted, and the source has moved since its duplicates were found")
    if state.phase == "loading":
        return TablePlan(mapping, "resume", "resumed where it stopped", state.generation, tuple(pinned), begun, state)
    if state.phase == "loaded":
        return TablePlan(
            mapping, "finalize", "loaded, not yet finalized", state.generation, tuple(pinned), begun, state
        )
    if view == "live":
        why = "already loaded; its source moves, and --restart would load it again as it is now"
        return TablePlan(mapping, "done", why, state.generation, tuple(pinned), begun, state)
    chunks = tuple(cut(begun))
    known, now = {p.token for p in pinned}, {p.token for p in chunks}
    if known == now:
        return TablePlan(mapping, "done", "already loaded", state.generation, tuple(pinned), begun, state)
    if known < now and (mode == "upsert" or mapping.spec.dedupe is not None):
        # A new row may survive one that an older file loaded: only an election over all of them knows.
        return redo("the source has grown")
    if known < now:
        new = [p for p in chunks if p.token not in known]
        fresh = tuple(replace(p, ordinal=len(pinned) + n) for n, p in enumerate(new))
        return TablePlan(
            mapping, "add", "the source has grown", state.generation, (*pinned, *fresh), begun, state, fresh
        )
    if mode == "append":
        raise FindingsError(
            f"{name}: what was already loaded from {mapping.spec.came_from} has changed: {_changes(pinned, chunks)}",
            hint=f"`migrate run --restart -s {name}` loads it again; or use mode replace or upsert.",
        )
    return redo("the source changed since it was loaded")


def _changes(pinned: Sequence[Partition], now: Sequence[Partition]) -> str:
    """What became of slices that were pinned: in which files, as far as their tokens tell, and how many rows there are."""
    left = {p.token for p in now}
    other = [p for p in pinned if p.token not in left]
    files = dict.fromkeys(file for p in other if (file := named_file(p.token)))
    where = f" (of {', '.join(files)})" if files else ""
    rows = [sum(p.rows for p in each) for each in (pinned, now)]
    return f"{len(other)} of {len(pinned)} slices{where} are not there as they were; about {rows[0]:,} rows then, {rows[1]:,} now"


def named_file(token: str) -> str | None:
    """The file that a slice is of, where its connector says so in its token; that of a part's, where several are one."""
    said = json.loads(token)
    if not isinstance(said, dict):
        return None
    return named_file(said["token"]) if "token" in said else said.get("file")


def widen(
    plans: Sequence[TablePlan],
    cuts: Mapping[str, Cut],
    sizes: Mapping[str, BatchSize],
    states: Mapping[str, TableState],
    empty: Collection[str] = (),
) -> list[TablePlan]:
    """Plan what the reload of a table entails. Raises GateError where it may not be.

    Truncating a table truncates those that reference it, which asks for nothing where they are `empty` and nothing was
    loaded. And where a parent was, or is to be, loaded anew since its children were, these have to follow its survivors
    again, and to look for it again.
    """
    planned = {p.name: p for p in plans}
    changed = True
    while changed:
        changed = False
        for name, plan in planned.items():
            if plan.truncate or not plan.mapping.target.exists:
                continue
            cause = _truncated(plan, planned) or _anew(plan, planned, states)
            if cause is None:
                continue
            parent, why, truncated = cause
            mode = plan.mapping.spec.mode
            if name not in empty and (mode == "append" or (mode == "upsert" and truncated)):
                raise GateError(
                    f"{why}, and {name} references it",
                    hint=f"Give {name} `mode: replace` as well, or leave {parent} out with --exclude."
                    if parent in planned
                    else f"`migrate run --restart -s {name}` loads it again.",
                )
            chunks = tuple(cuts[name](sizes[name]))
            generation = 1 if plan.before is None else plan.before.generation + 1
            truncate = mode == "replace" or (truncated and name in empty)
            planned[name] = TablePlan(
                plan.mapping,
                "redo",
                f"{parent} is loaded again",
                generation,
                chunks,
                sizes[name],
                plan.before,
                chunks,
                truncate,
            )
            changed = True
    return [replace(p, parents=_parents(p, planned, states)) for p in planned.values()]


def _truncated(plan: TablePlan, planned: Mapping[str, TablePlan]) -> tuple[str, str, bool] | None:
    """(parent, why, true) where a table that this one references by a foreign key is to be emptied."""
    parents = {f.parent for f in plan.mapping.target.foreign_keys}
    for other in planned.values():
        if other.truncate and other.name != plan.name and other.mapping.target.qualified in parents:
            return other.name, f"{other.name} is to be emptied ({other.why})", True
    return None


def _anew(
    plan: TablePlan, planned: Mapping[str, TablePlan], states: Mapping[str, TableState]
) -> tuple[str, str, bool] | None:
    """(parent, why, false) where a table that this one references by its mapping is another load than the one it followed."""
    if plan.before is None or plan.action in ("load", "redo"):
        return None
    for followed, now in zip(plan.before.parents, _parents(plan, planned, states), strict=False):
        if followed != now:
            parent = now.rpartition("/")[0]
            return parent, f"{parent} is loaded again", False
    return None


def _parents(plan: TablePlan, planned: Mapping[str, TablePlan], states: Mapping[str, TableState]) -> tuple[str, ...]:
    def generation(name: str) -> int:
        return planned[name].generation if name in planned else states[name].generation if name in states else 0

    names = sorted({r.table for r in plan.mapping.references} - {plan.name})
    return tuple(f"{name}/{generation(name)}" for name in names)


def in_levels(migration: str, plans: Sequence[TablePlan], others: Mapping[str, set[str]] | None = None) -> Plan:
    """Order tables by what they reference, declared or mapped. Tables of a cycle are in one level, and know their knot.

    `others` are tables that are not planned, each with what it references: cycles go through them as well.
    """
    planned = {p.name: p for p in plans}
    reach = _reach([p.mapping for p in plans], others or {})
    knots = _knots(reach)
    knotted = {
        name: replace(
            plan,
            knot=knots[name] & planned.keys(),
            knot_targets=frozenset(planned[n].mapping.target.qualified for n in knots[name] if n in planned),
            knot_beyond=knots[name] - planned.keys(),
        )
        for name, plan in planned.items()
    }
    levels: list[tuple[TablePlan, ...]] = []
    placed: set[str] = set()
    while len(placed) < len(planned):
        ready = sorted(n for n in planned if n not in placed and (reach[n] & planned.keys()) - knots[n] <= placed)
        levels.append(tuple(knotted[n] for n in ready))
        placed.update(ready)
    return Plan(migration, tuple(levels))


def in_knots(mappings: Sequence[CompiledMapping], others: Mapping[str, set[str]]) -> dict[str, frozenset[str]]:
    """The tables that each of these is in a cycle of references with, itself included where it references itself.

    `others` are as `in_levels` has them.
    """
    knots = _knots(_reach(mappings, others))
    return {m.spec.name: knots[m.spec.name] for m in mappings}


def _knots(reach: Mapping[str, set[str]]) -> dict[str, frozenset[str]]:
    return {name: frozenset(n for n in there if name in reach.get(n, ())) for name, there in reach.items()}


def _reach(mappings: Sequence[CompiledMapping], others: Mapping[str, set[str]]) -> dict[str, set[str]]:
    by_target = {m.target.qualified: m.spec.name for m in mappings}
    parents = dict(others) | {
        m.spec.name: {by_target[f.parent] for f in m.target.foreign_keys if f.parent in by_target}
        | {r.table for r in m.references}
        for m in mappings
    }
    return {name: _reached(name, parents) for name in parents}


def _reached(name: str, parents: Mapping[str, set[str]]) -> set[str]:
    """All tables that a table references, directly or not; itself only if it does so in a cycle."""
    found: set[str] = set()
    left = list(parents[name])
    while left:
        each = left.pop()
        if each not in found:
            found.add(each)
            left += parents.get(each, ())
    return found


def refuse_cycles(plan: TablePlan, finalized: Collection[str]) -> None:
    """Raise GateError for what cannot be settled: half a cycle, an upsert in one, keys that only the server can compare."""
    mapping, mode = plan.mapping, plan.mapping.spec.mode
    missing = sorted(plan.knot_beyond - set(finalized))
    if missing and plan.action != "done":
        raise GateError(
            f"{plan.name} and {', '.join(missing)} reference each other in a cycle: they are loaded and settled together",
            hint=f"Select all of them: -s {plan.name} {' '.join(f'-s {n}' for n in missing)}",
        )
    for key in plan.inner:
        if mode == "upsert":
            # An orphan is found when all is loaded, and the row that it has overwritten is gone by then.
            raise GateError(
                f"{plan.name}: mode upsert, and {key.name} is a reference within a cycle or to the table itself",
                hint="Use mode replace or append, or drop the foreign key for the migration and map no reference.",
            )
        for column in key.columns:
            if not mapping.wires[mapping.columns.index(column)].hashed:
                kind = next(c.column.type for c in mapping.cells if c.column.name == column)
                raise GateError(
                    f"{plan.name}: {key.name} is a reference within a cycle or to the table itself, and {column} is {kind}: "
                    f"PostgreSQL spells that in its own way, so that orphans could not be found at the source",
                    hint="Drop the foreign key for the migration, and add it again afterwards.",
                )


def to_json(plan: Plan) -> dict[str, Any]:
    """The plan for people and programs: what is done with each table, why, and the partitions' tokens."""
    return {
        "format": 1,
        "migration": plan.migration,
        "levels": [[_table(t) for t in level] for level in plan.levels],
        "notes": [*_views(plan.tables), *(f"{t.name}: {note}" for t in plan.tables for note in notes(t))],
    }


def _views(tables: Sequence[TablePlan]) -> list[str]:
    """In which views the sources are read, each said once; with its tables where not all are read so."""
    by_note: dict[str, list[str]] = {}
    for table in tables:
        for note in table.seen.notes:
            by_note.setdefault(note, []).append(table.name)
    every = len(tables)
    return [note if len(names) == every else f"{note} ({', '.join(names)})" for note, names in by_note.items()]


def _table(plan: TablePlan) -> dict[str, Any]:
    spec, target = plan.mapping.spec, plan.mapping.target
    return {
        "table": plan.name,
        "source": spec.came_from,
        "view": plan.seen.view,
        "watermarks": {r.source: f"{r.watermark.kind} {r.watermark.value}" for r in plan.seen.readings if r.watermark},
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
    changed = [f.message.removeprefix(f"{plan.name}: ") for f in plan.drift]
    said = [
        *changed,
        *plan.mapping.source.warnings,
        *plan.mapping.source.notes,
        *cautions(plan.mapping),
    ]
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
    told = set(mapping.sure) | (
        {rule.columns for rule in mapping.dedupe.rules} if mapping.dedupe is not None else set()
    )
    for key in dict.fromkeys((mapping.target.key, *mapping.target.uniques)):
        if key and set(key) <= set(mapping.columns) and key not in told:
            said.append(
                f"which rows share the key ({', '.join(key)}) only the server can tell: it refuses all but the first"
            )
    return said
