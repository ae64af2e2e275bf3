"""Replay: quarantined rows once more into the table, from where they stood or from a fixed file.

A replay is an insert of its own, with an entry of its own; it never changes what was read, loaded or merged before. A row is
flipped from open to replayed in the transaction that loads it. A row that is still bad stays in quarantine as it is.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from connectors.union import Union, part_of
from mappings.compile import Mapping as CompiledMapping
from mappings.mapper import Mapper, key_text, unread_keys
from migrate import checksum, crosswalk, drift, ledger, quarantine
from migrate.commit import enter
from migrate.core import PLACE, Batch, Chunk, Entry, Ordinals, Partition, Source, Table, suggested
from migrate.engine import Session, digest, drifted
from migrate.errors import GateError, UsageError
from migrate.ledger import TableState
from migrate.lifecycle import advance_sequences
from migrate.pipeline import Follower, only
from migrate.plan import finding_key
from migrate.project import open_file
from migrate.quarantine import QuarantinedRow
from migrate.target import MAX_REFUSALS, Refusal, TooManyRefusals, Writer, explained

_TOGETHER = 1000  # rejects in one transaction

Wanted = Mapping[int, Sequence[int]]
"""Reject id → the ordinals, in the batch at hand, of the rows that stand for it."""


@dataclass(slots=True)
class Outcome:
    """What became of the rows that were asked for."""

    replayed: int = 0
    rows: int = 0
    still_bad: list[tuple[int, str]] = field(default_factory=list)
    not_found: list[int] = field(default_factory=list)


def replay(
    work: Session,
    mapping: CompiledMapping,
    epoch: int,
    rejects: Sequence[QuarantinedRow],
    fixed: Path | None,
    source: str | None = None,
) -> Outcome:
    """Replay open rejects of one table, from a fixed file or from where they stood.

    In a fixed file a reject is found by its source key or, where it has none, by its physical lines. Of a table that is read
    from several source tables it mends the rejects of one, `source` as in "crm.customers". Raises GateError for a table
    that is not finished or whose mapping has changed since, UsageError where it is not clear what is mended.
    """
    states = ledger.table_states(work.conn, work.migration)
    state = states.get(mapping.spec.name)
    if state is None or state.phase != "finalized":
        raise GateError(f"{mapping.spec.name} is not loaded yet", hint="`migrate run` first.")
    drift.refuse(drifted(work, mapping, state))
    if state.digest != digest(mapping):
        raise GateError(
            f"{state.name}: {drift.of_mapping(work.conn, work.migration, state, mapping)}",
            hint="A changed mapping is a new load: `migrate run`.",
        )
    left = {r.id: r for r in rejects if r.state == "open"}
    # Merged into a row that was rejected: they live on in it again as soon as it is loaded, and are never loaded themselves.
    followers = [left.pop(i) for i in [r.id for r in left.values() if r.rule == "survivor"]]
    unclear: dict[int, str] = {}
    if fixed is None:
        found = _from_source(work, mapping, state, left, unclear)
    else:
        part = _part(mapping, fixed, source)
        partitions = ledger.pinned(work.conn, work.migration, state.name, state.generation)
        if len(mapping.spec.origins) > 1:
            partitions = [p for p in partitions if part_of(p) == part]
            mended = {p.ordinal for p in partitions}
            left = {r.id: r for r in left.values() if r.chunk in mended}
        file = _opened(work, mapping, fixed, part)
        moved = _moved(work, mapping, partitions, file, fixed, left)
        sought = {i: r for i, r in left.items() if i not in moved}
        unclear = _unclear(work, mapping, partitions, file, fixed, sought)
        found = _from_file(work, mapping, state, file, _sought(fixed, sought, unclear))
        unclear |= moved
    replayer = _Replayer(work, mapping, state, epoch, mended=fixed is not None)
    try:
        replayer.replay(replayer.mapped(found, left))
    finally:
        replayer.close()
    outcome = replayer.outcome
    lost = left.keys() - replayer.found
    outcome.still_bad += [(i, unclear[i]) for i in sorted(lost & unclear.keys())]
    outcome.not_found = sorted(lost - unclear.keys())
    _follow_survivors(work, state, epoch, followers, outcome)
    return outcome


def _follow_survivors(
    work: Session, state: TableState, epoch: int, followers: Sequence[QuarantinedRow], outcome: Outcome
) -> None:
    """Merge rejected rows into the survivors that were loaded after all."""
    of = Chunk(work.migration, state.name, state.generation, 0)
    for number, group in groupby(sorted(followers, key=lambda r: (r.chunk, r.ordinal)), key=lambda r: r.chunk):
        rows = list(group)
        chunk = Chunk(of.migration, of.table, of.generation, number)
        with explained(f"replay rejects of {state.name}, chunk {number}"), work.conn.transaction():
            enter(work.conn, chunk.migration, chunk.table, epoch, chunk.generation)
            waiting = crosswalk.rejected_survivors(work.conn, chunk)
            ids = [r.id for r in rows if r.ordinal not in waiting]
            outcome.still_bad += [
                (r.id, f"it lives on in {waiting[r.ordinal]}, which is still rejected: replay that row")
                for r in rows
                if r.ordinal in waiting
            ]
            if ids:
                merged = quarantine.settle(work.conn, ids, "replayed", "merged into its survivor")
                entry = Entry("replay", chunk, merged=merged, rejected=-merged, sums=checksum.pack(checksum.zero()))
                ledger.write_entry(work.conn, entry, epoch, datetime.now(UTC), 0)
                outcome.replayed += merged


@dataclass(frozen=True, slots=True)
class _Rows:
    """Mapped rows in the order in which they are inserted.

    `order` are the rejects that may be replayed, `ranks[i]` says which of them row i stands for, and `filtered` how many
    more rows of each the mapping's `where` excludes.
    """

    order: Sequence[QuarantinedRow]
    rows: pa.RecordBatch
    ranks: Ordinals
    filtered: Mapping[int, int]


class _Replayer:
    """Loads the rows that stand for rejects, committed some rejects of one chunk at a time."""

    def __init__(self, work: Session, mapping: CompiledMapping, state: TableState, epoch: int, *, mended: bool) -> None:
        self._work = work
        self._mapping = mapping
        self._state = state
        self._epoch = epoch
        self._mended = mended
        self._mapper = Mapper(mapping, work.context)
        self._follower = Follower(mapping.references, work.keys)
        # Without the upsert's key: a key that is there by now was written by a row that is newer than the rejected one.
        self._writer = Writer(mapping.target, mapping.schema, mapping.wires)
        self._hasher = checksum.Hasher(mapping.schema, mapping.wires, state.bucket_key)
        self.outcome = Outcome()
        self.found: set[int] = set()

    def close(self) -> None:
        self._mapper.close()
        self._follower.close()
        self._writer.close()
        self._hasher.close()

    def mapped(self, found: Iterable[tuple[Batch, Wanted]], left: Mapping[int, QuarantinedRow]) -> _Rows:
        """Map all rows that were found; a reject of which a single row is bad stays as it is.

        Of rows that share a key the first one is inserted, so under upsert the last of the source comes first.
        """
        batches: list[pa.RecordBatch] = []
        owners: list[int] = []
        filtered: Counter[int] = Counter()
        faults: dict[int, str] = {}
        for batch, wanted in found:
            owner = {o: reject_id for reject_id, ordinals in wanted.items() for o in ordinals}
            self.found.update(wanted)
            step = self._mapper(only(batch, np.fromiter(owner, np.int64)))
            batches.append(self._follower(step.rows))
            owners += [owner[int(o)] for o in step.ordinals]
            filtered.update(owner[int(o)] for o in step.filtered)
            for r in step.rejects:
                faults.setdefault(owner[r.ordinal], r.reason)
        self.outcome.still_bad += faults.items()
        order = sorted(
            (left[i] for i in self.found - faults.keys()),
            key=lambda r: (r.chunk, r.ordinal),
            reverse=self._mapping.spec.mode == "upsert",
        )
        rank = {r.id: at for at, r in enumerate(order)}
        ranks = np.array([rank.get(i, -1) for i in owners], np.int64)
        chosen = np.argsort(ranks, kind="stable")[np.count_nonzero(ranks < 0) :]
        rows = pa.concat_batches(batches) if batches else pa.RecordBatch.from_pylist([], self._mapping.schema)
        rows, ranks = self._overridden(rows.take(pa.array(chosen)), ranks[chosen], order), ranks[chosen]
        return _Rows(order, rows, ranks, filtered)

    def _overridden(self, rows: pa.RecordBatch, ranks: Ordinals, order: Sequence[QuarantinedRow]) -> pa.RecordBatch:
        """Rows with the values that survivors take over from their clusters; of a mended row, where it has none itself."""
        conn, state = self._work.conn, self._state
        for number in sorted({r.chunk for r in order}):
            values = crosswalk.overrides(conn, Chunk(self._work.migration, state.name, state.generation, number))
            if values:
                at = np.array([order[rank].ordinal if order[rank].chunk == number else -1 for rank in ranks], np.int64)
                for column, chosen in values.items():
                    lacking = rows.column(column).is_null().to_numpy(zero_copy_only=False)
                    of = np.where(lacking, at, -1) if self._mended else at
                    rows = crosswalk.overridden(rows, of, {column: chosen})
        return rows

    def replay(self, mapped: _Rows) -> None:
        """Insert the rows in their order, as many rejects in one transaction as are sound."""
        todo: list[list[int]] = []
        for _, group in groupby(range(len(mapped.order)), key=lambda at: mapped.order[at].chunk):
            ranks = list(group)
            todo += [ranks[at : at + _TOGETHER] for at in range(0, len(ranks), _TOGETHER)]
        todo.reverse()  # the next ones last
        while todo:
            some = todo.pop()
            number = mapped.order[some[0]].chunk
            chunk = Chunk(self._work.migration, self._state.name, self._state.generation, number)
            with explained(f"replay rejects of {self._state.name}, chunk {number}"):
                refused = self._together(chunk, mapped, some)
            if refused is None:  # more than isolating is for
                todo += [some[len(some) // 2 :], some[: len(some) // 2]]
            elif refused:
                self.outcome.still_bad += [(mapped.order[at].id, reason) for at, reason in refused.items()]
                rest = [at for at in some if at not in refused]
                todo += [rest] if rest else []

    def _together(self, chunk: Chunk, mapped: _Rows, some: Sequence[int]) -> dict[int, str] | None:
        """One transaction for all rows of some rejects, or for none if any of them is refused: which, and why.

        Rejects are told by their ranks. None: so many are refused that fewer have to be tried at once.
        """
        conn = self._work.conn
        first, last = np.searchsorted(mapped.ranks, (some[0], some[-1] + 1))
        keep = np.isin(mapped.ranks[first:last], some)
        rows, ranks = mapped.rows.slice(first, last - first).filter(pa.array(keep)), mapped.ranks[first:last][keep]
        ids = [mapped.order[at].id for at in some]
        with conn.transaction() as transaction:
            enter(conn, chunk.migration, chunk.table, self._epoch, chunk.generation)
            conn.execute("SET CONSTRAINTS ALL IMMEDIATE")
            try:
                loaded = self._writer.write(conn, rows, refusals_left=MAX_REFUSALS)
            except TooManyRefusals:
                if len(some) == 1:
                    raise
                transaction.force_rollback = True
                return None
            if loaded.refused:
                transaction.force_rollback = True
                return _blamed(loaded.refused, ranks)
            if quarantine.settle(conn, ids, "replayed", None) != len(ids):
                raise GateError("a reject is not open any more", hint="`migrate rejects list` says what is.")
            if loaded.rows:
                advance_sequences(conn, self._mapping)
            if self._state.hash != checksum.NAME:
                # Another version hashed what was loaded: the sums cannot be compared any more, the rows still can.
                ledger.set_hash(conn, chunk.migration, chunk.table, "mixed")
            filtered = sum(mapped.filtered.get(i, 0) for i in ids)
            entry = Entry(
                "replay",
                chunk,
                read=loaded.rows + filtered - len(ids),
                loaded=loaded.rows,
                filtered=filtered,
                rejected=-len(ids),
                sums=checksum.pack(checksum.add(*self._hasher(rows)) if loaded.rows else checksum.zero()),
            )
            ledger.write_entry(conn, entry, self._epoch, datetime.now(UTC), loaded.inserted)
        self.outcome.replayed += len(ids)
        self.outcome.rows += loaded.rows
        return {}


_STANDS = {
    "23505": " (a replay never overwrites: which row is newer only a run knows; mend the source file and run again)"
}
"""What to do about a refusal, by its SQLSTATE."""


def _blamed(refused: Sequence[Refusal], ranks: Ordinals) -> dict[int, str]:
    """The rejects that refused rows stand for, and why.

    Not those after a reject of several rows: its others were stored for the moment, and what they stood in the way of is
    to be tried again without them.
    """
    blamed: dict[int, str] = {}
    for refusal in refused:
        rank = int(ranks[refusal.index])
        blamed.setdefault(rank, f"the server refused it: {refusal.message}{_STANDS.get(refusal.sqlstate, '')}")
        if np.count_nonzero(ranks == rank) > 1:
            break
    return blamed


def _from_source(
    work: Session,
    mapping: CompiledMapping,
    state: TableState,
    left: Mapping[int, QuarantinedRow],
    unclear: dict[int, str],
) -> Iterator[tuple[Batch, Wanted]]:
    """The rejected rows where they stood: for parents that have come since, or constraints that went. Elements that may be others
    by now are none of them, and become `unclear`."""
    source = work.source_of(mapping.spec)
    partitions = ledger.pinned(work.conn, work.migration, state.name, state.generation)
    for number in sorted({r.chunk for r in left.values()}):
        rejects = [r for r in left.values() if r.chunk == number]
        for batch in source.read(partitions[number], mapping.reads):
            found = _still_there(batch, rejects)
            shifted = [i for i, ordinals in found.items() if _shifted(batch, ordinals[0], left[i], rejects)]
            unclear.update(dict.fromkeys(shifted, _SHIFTED))
            yield batch, {i: ordinals for i, ordinals in found.items() if i not in shifted}


_ELEMENT = re.compile(r", ([^\[\]]+\[[0-9]+\](?:\.[^\[\]]+\[[0-9]+\])*)$")
"""Where an element stands in its document, at the end of a locator's key: `_id=5, lines[2].taxes[1]`."""

_STEP = re.compile(r"\.?([^\[\]]+)\[([0-9]+)\]")

_SHIFTED = (
    "the array around it is not as it was when it was loaded, and another element may stand in its place: put the others back, "
    "or load all anew with `migrate run --restart`"
)


def _shifted(batch: Batch, ordinal: int, reject: QuarantinedRow, rejects: Sequence[QuarantinedRow]) -> bool:
    """Whether the array that an element of a document stands in has changed beside the rejected elements of it.

    The quarantine has the document as it was. Where an element was taken out, the next one stands in its place, and was loaded.
    """
    key = str(reject.locator.get("key", ""))
    place = _ELEMENT.search(key)
    if place is None or "table" not in reject.locator:
        return False
    document = key[: place.start(1)]
    places = [
        k.removeprefix(document) for k in (str(r.locator.get("key", "")) for r in rejects) if k.startswith(document)
    ]
    [now] = batch.locate([ordinal])
    try:
        return bool(_beside(reject.raw, place[1], places) != _beside(now.raw, place[1], places))
    except (ValueError, LookupError, TypeError):  # one of the elements is not there
        return True


def _beside(raw: bytes, place: str, places: Sequence[str]) -> Any:
    """The outermost array of a document around a place, without what stands at some places."""
    document = json.loads(raw)
    for each in places:
        within = document
        *around, (name, last) = _STEP.findall(each)
        for step, at in around:
            within = _at(within, step)[int(at) - 1]
        _at(within, name)[int(last) - 1] = None
    return _at(document, _STEP.findall(place)[0][0])


def _at(document: Any, path: str) -> Any:
    for name in path.split("."):
        document = document[name]
    return document


def _still_there(batch: Batch, rejects: Sequence[QuarantinedRow]) -> Wanted:
    """The rows of a batch that rejects are: by their numbers, and in a table of a database, which may move, by their keys."""
    there = {int(o) for o in batch.ordinals} | {r.ordinal for r in batch.rejects}
    keyed = [r for r in rejects if "table" in r.locator and "key" in r.locator]
    found = {r.id: [r.ordinal] for r in rejects if r not in keyed and r.ordinal in there}
    numbers = [r.ordinal for r in keyed if r.ordinal in there]
    at = dict(zip(numbers, (o.locator["key"] for o in batch.locate(numbers)), strict=True))
    found |= {r.id: [r.ordinal] for r in keyed if at.get(r.ordinal) == r.locator["key"]}
    moved = {r.locator["key"]: r.id for r in keyed if r.id not in found}
    if moved:
        every = sorted(there)
        for number, origin in zip(every, batch.locate(every), strict=True):
            key = origin.locator["key"]
            if key in moved:
                found[moved[key]] = [number]
            elif key.endswith("]") and (whole := key[: key.rindex("[")]) in moved:  # what was no array is one by now
                found.setdefault(moved[whole], []).append(number)
    return found


def _opened(work: Session, mapping: CompiledMapping, fixed: Path, part: str) -> tuple[Source, Table]:
    """The fixed file as a source, in the place of `part` where there are several. Raises UsageError where it lacks a column."""
    name, _, source_table = part.partition(".")
    source: Source = open_file(work.project, name, source_table, fixed)
    table = source.schema(source_table)
    whole = work.source_of(mapping.spec)
    if isinstance(whole, Union):
        try:
            source = whole.instead(part, source, table, mapping.reads)
        except UsageError as error:
            raise UsageError(f"{fixed}: {error.message}", hint=error.hint) from None
        return source, source.schema(mapping.spec.source_table)
    missing = [c for c in mapping.reads if c not in table.schema.names]
    if missing:
        raise UsageError(
            f"{fixed}: column {', '.join(missing)} is missing",
            hint=f"A fixed file has the header of {source_table}: {', '.join(mapping.source.schema.names)}.",
        )
    return source, table


def _part(mapping: CompiledMapping, fixed: Path, source: str | None) -> str:
    """The source table whose rows a fixed file mends. Raises UsageError where that is not clear."""
    parts = [f"{name}.{table}" for name, table in mapping.spec.origins]
    if source is None and len(parts) > 1:
        raise UsageError(
            f"{mapping.spec.name} is read from {len(parts)} source tables, and {fixed} does not say which of them it mends",
            hint=f"Say it: --source {' or --source '.join(parts)}.",
        )
    if source is not None and source not in parts:
        raise UsageError(
            f"{mapping.spec.name} is not read from {source}", hint=f"It is read from {' and '.join(parts)}."
        )
    return source or parts[0]


def _batches(source: Source, table: Table, mapping: CompiledMapping) -> Iterator[Batch]:
    for partition in source.partitions(table, rows=200_000, bytes=8 << 20):
        yield from source.read(partition, mapping.reads)


def _keys(batch: Batch, mapping: CompiledMapping) -> Iterator[tuple[int, str]]:
    """Each row's ordinal and its source key as the quarantine spells it; nothing for a table without one."""
    names = _key_of(mapping)
    rows = batch.rows.select(names).to_pylist() if names else []
    for ordinal, row in zip(batch.ordinals, rows, strict=bool(names)):
        yield int(ordinal), key_text(names, row)


def _all_keys(batch: Batch, mapping: CompiledMapping) -> Iterator[tuple[int, str]]:
    """The same, and of rows that could not be read, where their keys could be."""
    yield from _keys(batch, mapping)
    names = _key_of(mapping)
    keys = unread_keys(batch.partial, names) if names and batch.partial is not None else []
    yield from ((each.ordinal, key) for each, key in zip(batch.rejects, keys, strict=False) if key is not None)


def _key_of(mapping: CompiledMapping) -> list[str]:
    by_name = {name.lower(): name for name in reversed(mapping.source.schema.names)}
    return [by_name[name.lower()] for name in mapping.spec.key]


_Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class _Shape:
    """Columns of rows that have places: the key's that tell whose they are, the key's that are places, and those of JSON."""

    around: Sequence[str]
    places: Sequence[str]
    json: Collection[str]


_Standing = dict[_Key, list[tuple[_Key, tuple[object, ...] | None]]]
"""What stands in each array (or parent): the place of each row, and its values, None where they tell nothing."""


def _moved(
    work: Session,
    mapping: CompiledMapping,
    partitions: Sequence[Partition],
    file: tuple[Source, Table],
    fixed: Path,
    left: Mapping[int, QuarantinedRow],
) -> dict[int, str]:
    """The rejects whose key is a place at which the fixed file may have another row, and why.

    Where an element was taken out or put in, the next ones move, and one that was loaded would be loaded again as the mended
    one. So all places around must be those of the source, and at each what was loaded from there.
    """
    key, schema = _key_of(mapping), mapping.source.schema
    places = [name for name in key if PLACE in (schema.field(name).metadata or {})]
    if not places:
        return {}
    spelled = {field.name for field in schema if suggested(field) == "jsonb"}
    shape = _Shape([name for name in key if name not in places], places, spelled)
    source = work.source_of(mapping.spec)
    rejects = quarantine.rows(work.conn, work.migration, names=[mapping.spec.name])
    ids = {(r.chunk, r.ordinal): r.id for r in rejects}
    of: dict[int, _Key] = {}
    for partition in partitions:
        asked = [r.ordinal for r in left.values() if r.chunk == partition.ordinal]
        for batch in source.read(partition, mapping.reads) if asked else ():
            for ordinal, owner, _, _ in _placed(batch, shape, np.isin(batch.ordinals, asked)):
                of[ids.get((partition.ordinal, ordinal), -1)] = owner
    of = {i: owner for i, owner in of.items() if i in left}
    owners = set(of.values())
    was: _Standing = {owner: [] for owner in owners}
    now: _Standing = {owner: [] for owner in owners}
    for partition in partitions:
        for batch in source.read(partition, mapping.reads):
            for ordinal, owner, place, row in _placed(batch, shape, _among(batch, shape, owners)):
                if owner in was:
                    was[owner].append((place, None if (partition.ordinal, ordinal) in ids else row))
    for batch in _batches(*file, mapping):
        for _, owner, place, row in _placed(batch, shape, _among(batch, shape, owners)):
            if owner in now:
                now[owner].append((place, row))
    why = {owner: _differs(was[owner], now[owner]) for owner in owners if now[owner]}
    return {
        i: f"its key {left[i].key} is a place, and another may stand there in {fixed}: {different}. "
        "Keep all elements there, each in its place, and mend only those that were rejected"
        for i, owner in of.items()
        if (different := why.get(owner))
    }


def _differs(
    was: list[tuple[_Key, tuple[object, ...] | None]], now: list[tuple[_Key, tuple[object, ...] | None]]
) -> str:
    """How rows of one parent differ from what stood there, or ""."""
    if len(was) != len(now):
        return f"of its parent it has {len(now):,}, and the source {len(was):,}"
    for (place, row), (other, mended) in zip(sorted(was, key=_place), sorted(now, key=_place), strict=True):
        if place != other or (row is not None and row != mended):
            return f"what was loaded from {', '.join(map(str, place))} is not the same there"
    return ""


def _place(row: tuple[_Key, object]) -> Any:
    return row[0]


def _placed(
    batch: Batch, shape: _Shape, keep: npt.NDArray[np.bool_]
) -> Iterator[tuple[int, _Key, _Key, tuple[object, ...] | None]]:
    """Ordinal, parent, place and values of some rows; and without values, of those that could not be read but for their keys."""
    rows = batch.rows.filter(pa.array(keep)).to_pylist()
    for ordinal, row in zip(batch.ordinals[keep], rows, strict=True):
        values = tuple(_unspelled(value) if name in shape.json else value for name, value in row.items())
        yield int(ordinal), tuple(row[n] for n in shape.around), tuple(row[n] for n in shape.places), values
    if batch.partial is not None:
        keys = batch.partial.select([*shape.around, *shape.places]).to_pylist()
        for each, key in zip(batch.rejects, keys, strict=True):
            if None not in key.values():
                yield each.ordinal, tuple(key[n] for n in shape.around), tuple(key[n] for n in shape.places), None


def _unspelled(text: str | None) -> object:
    """What a JSON text says, however it is spaced: a mended file is often written by another program."""
    try:
        return None if text is None else json.loads(text, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return text


def _among(batch: Batch, shape: _Shape, owners: Collection[_Key]) -> npt.NDArray[np.bool_]:
    """The rows that may be of these parents: few of a large source are looked at one by one."""
    keep = np.ones(len(batch.ordinals), np.bool_)
    for at, name in enumerate(shape.around):
        column = batch.rows.column(name)
        wanted = pa.array({owner[at] for owner in owners}, column.type)
        keep &= pc.is_in(column, value_set=wanted).to_numpy(zero_copy_only=False)
    return keep


def _unclear(
    work: Session,
    mapping: CompiledMapping,
    partitions: Sequence[Partition],
    file: tuple[Source, Table],
    fixed: Path,
    left: Mapping[int, QuarantinedRow],
) -> dict[int, str]:
    """The rejects that their key does not tell, and why: it stands several times in the file, or on a loaded row too.

    Those other rows were loaded, and are not to be loaded again. A target with a unique key would refuse them; where it
    has none, the source is read once more to know.
    """
    sought = {r.key for r in left.values()} - {None}
    times: Counter[str] = Counter()
    loaded: set[str] = set()
    if sought:
        for batch in _batches(*file, mapping):
            times.update(key for _, key in _all_keys(batch, mapping) if key in sought)
    if sought and not finding_key(mapping):
        asked = {(r.chunk, r.ordinal) for r in left.values()}
        source = work.source_of(mapping.spec)
        for partition in partitions:
            for batch in source.read(partition, mapping.reads):
                keys = _keys(batch, mapping)
                loaded.update(k for o, k in keys if k in sought and (partition.ordinal, o) not in asked)
    return {
        r.id: f"its key {r.key} stands {where}, and its line does not tell it"
        for r in left.values()
        if r.key is not None
        and (
            where := f"{times[r.key]} times in {fixed}"
            if times[r.key] > 1
            else r.key in loaded and "on another row too"
        )
    }


def _from_file(
    work: Session,
    mapping: CompiledMapping,
    state: TableState,
    file: tuple[Source, Table],
    sought: tuple[Mapping[str, QuarantinedRow], Mapping[int, QuarantinedRow]],
) -> Iterator[tuple[Batch, Wanted]]:
    """The rejected rows in a fixed file, found by key, or by line where that does not tell them.

    Lines count only if the file is a copy of the source: if a row is missing or stands elsewhere there, or says something
    else without having been rejected, nothing is found by its line.
    """
    by_key, by_line = sought
    if by_line:
        standing, shared = _standing(work, mapping, state, by_line.values())
        by_line = {line: r for line, r in by_line.items() if line not in shared}
        missing, moved = set(standing), False
        for batch in _batches(*file, mapping):
            for _, line, row in _lines(batch):
                missing.discard(line)
                moved |= standing.get(line, row) != row
        if missing or moved:
            by_line = {}
    for batch in _batches(*file, mapping):
        wanted: dict[int, list[int]] = {}
        taken: set[int] = set()
        for ordinal, key in _all_keys(batch, mapping) if by_key else ():
            if key in by_key:
                wanted.setdefault(by_key[key].id, []).append(ordinal)
                taken.add(ordinal)
        if by_line:
            everything = [*map(int, batch.ordinals), *(r.ordinal for r in batch.rejects)]
            for ordinal, origin in zip(everything, batch.locate(everything), strict=True):
                reject = by_line.get(_lines_of(origin.locator)[0])
                if reject is not None and ordinal not in taken:
                    wanted.setdefault(reject.id, []).append(ordinal)
        yield batch, wanted


def _sought(
    fixed: Path, left: Mapping[int, QuarantinedRow], unclear: Collection[int]
) -> tuple[dict[str, QuarantinedRow], dict[int, QuarantinedRow]]:
    """The rejects by source key and, where that does not tell one row from all others, by physical line.

    A row that broke a unique constraint shares its key with a row that was loaded, which is not to be loaded again.
    Lines tell rows of one file only: raises UsageError where it is not clear which one `fixed` mends.
    """
    times = Counter(r.key for r in left.values())
    lined = [r for r in left.values() if r.key is None or r.rule == "unique" or times[r.key] > 1 or r.id in unclear]
    files = {str(r.locator["file"]) for r in lined}
    if len(files) > 1:
        named = {file for file in files if Path(file).name == fixed.name}
        if len(named) != 1:
            raise UsageError(
                f"{fixed}: some rejects can be told by their lines only, and they are in {len(files)} files",
                hint=f"Give the fixed file the name of the one that it mends: {', '.join(sorted(files))}.",
            )
    else:
        named = files
    others = left.keys() - {r.id for r in lined}
    claims = [(line, r) for r in lined if str(r.locator["file"]) in named for line in _lines_of(r.locator)]
    claimed = Counter(line for line, _ in claims)
    by_line = {line: r for line, r in claims if claimed[line] == 1}  # several records of XML can share a line
    return {key: r for r in left.values() if r.id in others and (key := r.key) is not None}, by_line


def _standing(
    work: Session, mapping: CompiledMapping, state: TableState, lined: Collection[QuarantinedRow]
) -> tuple[dict[int, tuple[object, ...]], set[int]]:
    """What stands at the source on the lines around some rejects of one file, rejected rows left out: they are mended.

    Around means their chunks and the next: where a chunk's last row was taken out, only that one shows it. Second: the
    lines on which a row begins that was not rejected; where a reject is on them too, they tell neither from the other.
    """
    partitions = ledger.pinned(work.conn, work.migration, state.name, state.generation)
    rejects = quarantine.rows(work.conn, work.migration, names=[state.name])
    [file] = {str(r.locator["file"]) for r in lined}
    chunks = {r.chunk + more for r in lined for more in (0, 1)} & set(range(len(partitions)))
    standing: dict[int, tuple[object, ...]] = {}
    others: set[int] = set()
    for chunk in chunks:
        rejected = [r.ordinal for r in rejects if r.chunk == chunk]
        mended = {_lines_of(r.locator)[0] for r in rejects if r.chunk == chunk}
        for batch in work.source_of(mapping.spec).read(partitions[chunk], mapping.reads):
            standing.update((line, row) for name, line, row in _lines(batch) if name == file and line not in mended)
            kept = [int(o) for o in batch.ordinals[~np.isin(batch.ordinals, rejected)]]
            others.update(_lines_of(o.locator)[0] for o in batch.locate(kept) if o.locator["file"] == file)
    return standing, others


def _lines(batch: Batch) -> Iterator[tuple[str, int, tuple[object, ...]]]:
    """Each row's file, its first physical line and its values."""
    rows = zip(*(column.to_pylist() for column in batch.rows.columns), strict=True)
    for origin, row in zip(batch.locate([int(o) for o in batch.ordinals]), rows, strict=True):
        yield str(origin.locator["file"]), _lines_of(origin.locator)[0], row


def _lines_of(locator: Mapping[str, Any]) -> range:
    """The physical lines of a row, at least one; in a workbook the row of its sheet, of which a table has one a file."""
    first = int(locator["line"] if "line" in locator else locator["row"])
    return range(first, int(locator.get("last_line", first)) + 1)
