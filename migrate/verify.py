"""Verification: gathers what source, ledger and target say, and lets the validators find the differences."""

import json
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import combinations, islice
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mappings.compile import Mapping
from mappings.ddl import columns, quote
from migrate import checksum, constraints, drift, ledger, measures, quarantine
from migrate.core import Chunk, Counted, Finding, Partition
from migrate.engine import Session, digest, drifted
from migrate.errors import GateError
from migrate.ledger import TableState
from migrate.pipeline import Pipeline
from migrate.plan import finding_key
from migrate.readback import BEYOND, read_back
from migrate.settle import loaded
from migrate.target import Writer, count_rows, explained
from validators import counts as counting
from validators import rows as comparing

Level = Literal["counts", "aggregates", "rows"]
"""Each holds those before it."""

_Buckets = npt.NDArray[np.int64]
_ALL: _Buckets = np.arange(checksum.BUCKETS)
_NONE: comparing.Hashes = np.zeros(0, np.uint64)
_TOGETHER = 4_000_000  # rows whose hashes are held at once
_TRIED = 20_000  # combinations of rows that may be the replayed ones of a bucket


def verify(work: Session, mapping: Mapping, level: Level, *, every: bool = False) -> list[Finding]:
    """Verify one table, with `every` constraint, and keep the findings. Raises GateError where it is not loaded."""
    states = ledger.table_states(work.conn, work.migration)
    state = states.get(mapping.spec.name)
    if state is None or state.phase != "finalized":
        raise GateError(
            f"{mapping.spec.name} is not loaded yet",
            hint="`migrate run` loads it; `migrate status` says where it stands.",
        )
    changed = drifted(work, mapping, state)
    drift.refuse(changed)
    if state.digest != digest(mapping):
        raise GateError(
            f"{mapping.spec.name}: {drift.of_mapping(work.conn, work.migration, state, mapping)}",
            hint="Verify with the project file that loaded it, or run `migrate run` first.",
        )
    partitions = ledger.pinned(work.conn, work.migration, state.name, state.generation)
    with explained(f"verify {state.name}"):
        findings = changed + counts(work, mapping, state, partitions)
        findings += constraints.compare(work, mapping, state, level, every=every)
        if level != "counts":
            findings += measures.compare(work, mapping, state, partitions)
        if level == "rows":
            findings += rows(work, mapping, state, partitions)
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


def rows(work: Session, mapping: Mapping, state: TableState, partitions: Sequence[Partition]) -> list[Finding]:
    """Compare the sums kept in flight with the re-read target; merge on the key what is unequal."""
    name = state.name
    uncovered = [c for c, w in zip(mapping.columns, mapping.wires, strict=True) if not w.hashed]
    findings = []
    if uncovered:
        message = f"{name}: {', '.join(uncovered)}: not compared, PostgreSQL spells these types in its own way"
        findings.append(Finding("rows.uncovered", "warning", name, message))
    fates = ledger.fates(work.conn, work.migration, name)[0]
    alone = state.rows_before == 0 and fates.inserted == fates.loaded
    sides = _Sides(work, mapping, state, partitions, tuple(state.bucket_key))
    try:
        if not alone or state.hash != checksum.NAME:
            return findings + _among_others(sides)
        kept = checksum.zero()
        for kind, packed in ledger.sums(work.conn, work.migration, name, state.generation):
            kept += checksum.unpack(packed)
            if kind == "replay":
                sides.replays.append(checksum.unpack(packed))
        now = checksum.zero()
        for batch in sides.stored():
            now += checksum.add(*sides.hashed(batch))
        buckets = checksum.unequal(kept, now)
        return findings + _in_buckets(sides, buckets, np.maximum(kept[0], now[0])) if len(buckets) else findings
    finally:
        sides.close()


class _Sides:
    """The rows of a table as the source maps to them and as the target stores them, hashed alike and shown alike."""

    def __init__(
        self,
        work: Session,
        mapping: Mapping,
        state: TableState,
        partitions: Sequence[Partition],
        key: tuple[str, ...],
    ) -> None:
        self.work = work
        self.mapping = mapping
        self.state = state
        self.key = key
        self.replays: list[checksum.Sums] = []
        self._partitions = partitions
        self._hasher = checksum.Hasher(mapping.schema, mapping.wires, key)

    def close(self) -> None:
        self._hasher.close()

    def shape(self, key: tuple[str, ...], replayed: int = 0) -> comparing.Shape:
        strings = {
            f.name
            for f, w in zip(self.mapping.schema, self.mapping.wires, strict=True)
            if pa.types.is_string(f.type) and w.encoder != "text"
        }
        personal = frozenset(self.mapping.spec.personal)
        return comparing.Shape(self.state.name, key, frozenset(strings), personal, replayed)

    def mapped(self) -> Iterator[pa.RecordBatch]:
        """The source once more through the mapping, without what the ledger says was rejected or merged."""
        work, state = self.work, self.state
        of = Chunk(work.migration, state.name, state.generation, 0)
        source = work.source_of(self.mapping.spec)
        whole = Pipeline(self.mapping, work.context, source, of, work.keys, work.connect)
        try:
            for partition in self._partitions:
                chunk = Chunk(work.migration, state.name, state.generation, partition.ordinal)
                gone, nulls = np.array(ledger.rejected(work.conn, chunk), np.int64), ledger.nulled(work.conn, chunk)
                for step in whole.steps(partition):
                    rows, _ = loaded(step, gone, nulls)
                    if rows.num_rows:
                        yield rows
        finally:
            whole.close()

    def stored(self, where: str = "") -> Iterator[pa.RecordBatch]:
        """The target's rows, with the column BEYOND."""
        return read_back(self.work.conn, self.mapping.target, self.mapping.schema, self.mapping.wires, where)

    def hashed(self, batch: pa.RecordBatch) -> tuple[_Buckets, comparing.Hashes]:
        """Each row's bucket and hash; a row with values beyond the wire's types has a hash that no mapped row has."""
        of, hashes = self._hasher(batch)
        beyond = _beyond(batch)
        if beyond:
            hashes = hashes.copy()
            for at, values in beyond.items():
                hashes[at] ^= np.uint64(
                    int.from_bytes(blake2b(repr(values).encode(), digest_size=8).digest(), "little")
                )
        return of, hashes

    def shown(self, batch: pa.RecordBatch, hashes: comparing.Hashes) -> pa.Table:
        """The rows as the validators want them: texts and hash."""
        texts = self._hasher.texts(batch)
        for at, values in _beyond(batch).items():
            for column, text in values.items():
                i = texts.schema.get_field_index(column)
                mended = [
                    texts.column(i)[:at].combine_chunks(),
                    pa.array([text]),
                    texts.column(i)[at + 1 :].combine_chunks(),
                ]
                texts = texts.set_column(i, column, pa.chunked_array(mended, pa.string()))
        return texts.append_column(comparing.HASH, pa.array(hashes))

    def only(
        self, batches: Iterable[pa.RecordBatch], different: comparing.Hashes, buckets: _Buckets
    ) -> tuple[pa.Table, _Buckets]:
        """The rows of some hashes in some buckets, and which bucket each is in."""
        picked = [self.shown(pa.RecordBatch.from_pylist([], self.mapping.schema), _NONE)]
        places = [_ALL[:0]]
        for batch in batches:
            of, hashes = self.hashed(batch)
            keep = np.isin(hashes, different) & np.isin(of, buckets)
            if keep.any():
                picked.append(self.shown(batch.filter(pa.array(keep)), hashes[keep]))
                places.append(of[keep])
        return pa.concat_tables(picked), np.concatenate(places)


def _beyond(batch: pa.RecordBatch) -> dict[int, dict[str, str]]:
    """By row, the texts of the values that the wire types cannot hold."""
    if BEYOND not in batch.schema.names or batch[BEYOND].null_count == batch.num_rows:
        return {}
    texts = batch[BEYOND]
    return {int(at): json.loads(texts[int(at)].as_py()) for at in np.flatnonzero(texts.is_valid().to_numpy(False))}


def _in_buckets(sides: _Sides, buckets: _Buckets, rows_of: _Buckets) -> list[Finding]:
    """The differences in some buckets, as many of these at a time as memory holds the hashes of."""
    found: list[Finding] = []
    ends = np.cumsum(rows_of[buckets]) // _TOGETHER
    for turn in np.unique(ends):
        group = buckets[ends == turn]
        there, here = _hashes(sides, sides.mapped(), group), _hashes(sides, sides.stored(), group)
        there, unknown, lost = _with_replayed(sides, group, there, here)
        different = comparing.unmatched(there[1], here[1])
        some = _first(group, different, there, here)
        found += lost
        for source, target in _by_bucket(
            some, sides.only(sides.mapped(), different, some), sides.only(sides.stored(), different, some)
        ):
            found += comparing.compare(sides.shape(sides.key, unknown), source, target)
        if len(found) >= comparing.LIMIT or len(some) < len(group):
            return [*found[: comparing.LIMIT], _more(sides)]
    name = sides.state.name
    if not found:
        message = (
            f"{name}: {len(buckets)} of {checksum.BUCKETS} sums differ from those kept in flight, and yet the source maps "
            f"to what the target holds: the source or the ledger was changed since"
        )
        return [Finding("rows.sums", "error", name, message)]
    return found


def _by_bucket(
    buckets: _Buckets, source: tuple[pa.Table, _Buckets], target: tuple[pa.Table, _Buckets]
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Both sides of each bucket: to compare rows by their keys they become Python objects, so a few at a time."""
    for bucket in buckets:
        there, here = (rows.filter(pa.array(of == bucket)) for rows, of in (source, target))
        yield there, here


def _more(sides: _Sides) -> Finding:
    message = (
        f"{sides.state.name}: there are more than these {comparing.LIMIT:,} differences: mend them and verify again"
    )
    return Finding("rows.more", "warning", sides.state.name, message)


def _hashes(sides: _Sides, batches: Iterable[pa.RecordBatch], group: _Buckets) -> tuple[_Buckets, comparing.Hashes]:
    """The buckets and hashes of all rows in some buckets."""
    found: list[tuple[_Buckets, comparing.Hashes]] = [(np.zeros(0, np.int64), _NONE)]
    for batch in batches:
        of, hashes = sides.hashed(batch)
        keep = np.isin(of, group)
        found.append((of[keep], hashes[keep]))
    return np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found])


def _with_replayed(
    sides: _Sides,
    group: _Buckets,
    there: tuple[_Buckets, comparing.Hashes],
    here: tuple[_Buckets, comparing.Hashes],
) -> tuple[tuple[_Buckets, comparing.Hashes], int, list[Finding]]:
    """Add the rows that replays loaded, which the source does not hold, to its side.

    The ledger has only their sums by bucket: rows that are in the target, not in the source, and have that very sum, are
    they. Also gives the number of replayed rows that could not be found so, with a finding for each such bucket.
    """
    if not sides.replays:
        return there, 0, []
    name, unknown, lost = sides.state.name, 0, []
    extra_of, extra = [there[0]], [there[1]]
    spare = comparing.unmatched(there[1], here[1])
    for sums in sides.replays:
        for bucket in group[sums[0][group] > 0]:
            n = int(sums[0][bucket])
            candidates = np.intersect1d(here[1][here[0] == bucket], spare)
            want = sums[:, bucket]
            tried = islice(combinations(candidates, n), _TRIED)
            rows = next(
                (c for c in tried if (checksum.add(np.full(n, bucket), np.array(c))[:, bucket] == want).all()), None
            )
            if rows is None:
                unknown += n
                message = (
                    f"{name}: {n} rows that `migrate rejects replay` loaded are not in the target as it loaded them"
                )
                lost.append(Finding("rows.replayed", "error", name, message, None, str(n), None))
                continue
            spare = np.setdiff1d(spare, np.array(rows))
            extra_of.append(np.full(n, bucket))
            extra.append(np.array(rows))
    return (np.concatenate(extra_of), np.concatenate(extra)), unknown, lost


def _first(
    group: _Buckets,
    different: comparing.Hashes,
    there: tuple[_Buckets, comparing.Hashes],
    here: tuple[_Buckets, comparing.Hashes],
) -> _Buckets:
    """As many buckets as have LIMIT different rows, and at least one: both rows of a key are in the same bucket."""
    rows = np.maximum(*(np.bincount(of[np.isin(h, different)], minlength=checksum.BUCKETS) for of, h in (there, here)))
    before = np.cumsum(rows[group]) - rows[group]
    return group[before < comparing.LIMIT]


def _among_others(sides: _Sides) -> list[Finding]:
    """For rows among others: each batch of the source is looked up in the target by its key."""
    mapping, conn = sides.mapping, sides.work.conn
    key = finding_key(mapping)
    if not key:
        raise GateError(
            f"{sides.state.name}: its rows stand among {sides.state.rows_before} others and have no key to find them by",
            hint="`migrate verify --level counts` works; for rows, map a primary key, or a unique one that is NOT NULL.",
        )
    indices = [mapping.schema.get_field_index(k) for k in key]
    key_schema = pa.schema([mapping.schema.field(i) for i in indices])
    writer = Writer(mapping.target, key_schema, [mapping.wires[i] for i in indices])
    findings: list[Finding] = []
    relation, stage = quote(mapping.target.schema, mapping.target.name), quote("migrate_wanted")
    where = f"WHERE ({columns(key)}) IN (SELECT {columns(key)} FROM {stage})"
    for batch in sides.mapped():
        with conn.transaction():
            conn.execute(
                f"CREATE TEMP TABLE {stage} ON COMMIT DROP AS SELECT {columns(key)} FROM {relation} WITH NO DATA"
            )
            writer.copy_into(conn, stage, batch.select(list(key)))
            here = list(sides.stored(where))
        there = [batch]
        hashes = [np.concatenate([_NONE, *(sides.hashed(b)[1] for b in side)]) for side in (there, here)]
        different = comparing.unmatched(hashes[0], hashes[1])
        if len(different):
            source, target = (sides.only(side, different, _ALL)[0] for side in (there, here))
            findings += comparing.compare(sides.shape(key), source, target)
        if len(findings) >= comparing.LIMIT:
            findings = [*findings[: comparing.LIMIT], _more(sides)]
            break
    writer.close()
    return findings
