"""Which rows of a table's two sides differ: found by the sums of buckets, then by hashes, then named by their keys.

The target is read once and its hashes noted; where sums differ the source is read once more, and of it only rows are
kept whose hash the target lacks. Rows go in the order of their keys' hashes, in which both rows of a key stand together: so
of more differences than memory holds, the first ones are whole.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, islice

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from migrate import checksum, quarantine
from migrate.checksum import Hashes, bucket_of
from migrate.core import Finding
from migrate.personal import masked
from migrate.readback import PLACE
from migrate.sides import Mask, Sides, Within
from validators import rows as comparing

_TOGETHER = 16_000_000  # rows whose hashes are held at once
_FEW = checksum.BUCKETS // 8  # buckets: of more of them, rows are not chosen by their keys before they are mapped
_SHOWN_TOGETHER = 5_000  # rows that are Python objects at once
_NAMED = 20  # rejects that a finding names
_TRIED = 20_000  # combinations of rows that may be the replayed ones of a bucket
_LAST = np.uint64(2**64 - 1)
_NO_HASHES: Hashes = np.zeros(0, np.uint64)
_NO_NUMBERS = np.zeros(0, np.int64)

Buckets = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Side:
    """Different rows of one side, ordered by their keys' hashes; no two have the same hash.

    `counts`: how often each stands there. `chunks`: of the source, where it was read. `places`: of the target, where its
    copies stand.
    """

    rows: pa.RecordBatch
    keys: Hashes
    hashes: Hashes
    counts: npt.NDArray[np.int64]
    chunks: npt.NDArray[np.int64]
    places: Sequence[Sequence[str]] = ()

    def take(self, at: npt.NDArray[np.intp]) -> "Side":
        places = [self.places[i] for i in at] if self.places else ()
        rows = self.rows.take(pa.array(at))
        return Side(rows, self.keys[at], self.hashes[at], self.counts[at], self.chunks[at], places)


@dataclass(slots=True)
class Differences:
    """What differs, of what was looked at. `more`: rows past those, in the buckets from `bucket` on.

    `replayed` rows that a replay loaded could not be told from others; `moved` changed while they were compared.
    `drifted` are the buckets in which the source does not map to what was loaded from it: what it maps to there now is
    no measure of the target.
    """

    parts: list[tuple[Side, Side]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    replayed: int = 0
    moved: int = 0
    more: int = 0
    bucket: int | None = None
    drifted: set[int] = field(default_factory=set)

    def __len__(self) -> int:
        return sum(max(len(source.hashes), len(target.hashes)) for source, target in self.parts)


def of_buckets(
    sides: Sides, buckets: Buckets, kept: checksum.Sums, now: checksum.Sums, replays: Sequence[checksum.Sums]
) -> Differences:
    """The differences in some buckets, by the sums that were kept and those of the target now. After `Sides.sums`."""
    found = Differences()
    ends = np.cumsum(np.maximum(kept[0], now[0])[buckets]) // _TOGETHER
    for turn in np.unique(ends):
        _of_group(sides, buckets[ends == turn], kept, replays, found)
        if found.more or len(found) >= comparing.LIMIT:
            if found.bucket is None and (left := buckets[ends > turn]).size:
                found.bucket = int(left[0])
            break
    return found


def without_buckets(found: Differences, buckets: Collection[int]) -> tuple[Differences, int]:
    """The differences without those in some buckets, and how many rows these are."""
    if not buckets:
        return found, 0
    left_out, parts = np.array(sorted(buckets)), []
    for part in found.parts:
        source, target = (side.take(np.flatnonzero(~np.isin(bucket_of(side.keys), left_out))) for side in part)
        parts.append((source, target))
    safe = replace(found, parts=parts)
    return safe, len(found) - len(safe)


def _of_group(
    sides: Sides, group: Buckets, loaded: checksum.Sums, replays: Sequence[checksum.Sums], found: Differences
) -> None:
    """Add the differences in some buckets, of which all hashes are held."""
    member = np.zeros(checksum.BUCKETS, np.bool_)
    member[group] = True

    def within(keys: Hashes) -> Mask:
        inside: Mask = member[bucket_of(keys)]
        return inside

    here = _joined((keys, hashes) for keys, hashes, _ in sides.noted(within))
    there = _There(here[1])
    kept = _Kept(sides.mapping.schema)
    for chunk, batch in sides.mapped(within=within if len(group) < _FEW else None):
        keys, hashes = sides.hashed(batch)
        inside = np.flatnonzero(within(keys))
        lacking = inside[there.take(keys[inside], hashes[inside])]
        if lacking.size:
            kept.add(batch.take(pa.array(lacking)), keys[lacking], hashes[lacking], chunk)
    there.take(*_replayed(sides, group, there.different(), here, replays, found))
    found.drifted |= set(np.intersect1d(checksum.unequal(there.sums, loaded), group).tolist())
    different = there.different()
    if not len(different):
        return
    lacking_rows = kept.narrow()
    mine = np.flatnonzero(comparing.among(here[1], different))
    keys = np.sort(np.concatenate([there.keys(here[0][mine], here[1][mine]), here[0][mine]]))
    last = min(kept.last, keys[min(len(keys), comparing.LIMIT) - 1])
    beyond = keys[keys > last]
    if len(beyond):
        found.more, found.bucket = len(beyond), int(bucket_of(beyond[:1])[0])
    target = _of_target(sides, lambda keys: within(keys) & (keys <= last), different, found)
    found.parts.append((_of_source(lacking_rows, different, last, there, target), target))


def _joined(parts: Iterable[tuple[Hashes, Hashes]]) -> tuple[Hashes, Hashes]:
    some = [(_NO_HASHES, _NO_HASHES), *parts]
    return np.concatenate([k for k, _ in some]), np.concatenate([h for _, h in some])


class _There:
    """What the source holds, told by the hashes that the target has: how often each of these came, and those that it lacks.

    So no more is held of the source than of its differences.
    """

    def __init__(self, here: Hashes) -> None:
        self._standing, self._expected = comparing.counted(here)
        self._seen = np.zeros(len(self._standing), np.int64)
        self._lacking: list[tuple[Hashes, Hashes]] = []
        self.sums = checksum.zero()

    def take(self, keys: Hashes, hashes: Hashes) -> npt.NDArray[np.intp]:
        """Rows come; which of them the target lacks. They are looked for in the order of their hashes, as `among` does."""
        self.sums += checksum.add(keys, hashes)
        order = np.argsort(hashes)
        at = np.searchsorted(self._standing, hashes[order])
        hit = at < len(self._standing)
        hit[hit] = self._standing[at[hit]] == hashes[order][hit]
        np.add.at(self._seen, at[hit], 1)
        lacking = np.sort(order[~hit])
        if lacking.size:
            self._lacking.append((keys[lacking], hashes[lacking]))
        return lacking

    def different(self) -> Hashes:
        """The hashes that both sides do not have as often, sorted."""
        lacking, _ = comparing.counted(_joined(self._lacking)[1])
        return np.sort(np.concatenate([lacking, self._standing[self._seen != self._expected]]))

    def keys(self, keys: Hashes, hashes: Hashes) -> Hashes:
        """The keys of the source's different rows, each as often as it came; `keys`, `hashes`: of the target's different rows."""
        both, first = np.unique(hashes, return_index=True)
        often = self._seen[np.searchsorted(self._standing, both)]
        return np.concatenate([_joined(self._lacking)[0], np.repeat(keys[first], often)])

    def counts(self) -> tuple[Hashes, npt.NDArray[np.int64]]:
        """The hashes of the source's different rows, sorted, and how often each came."""
        lacking, counts = comparing.counted(_joined(self._lacking)[1])
        both = (self._seen != self._expected) & (self._seen > 0)
        values = np.concatenate([lacking, self._standing[both]])
        order = np.argsort(values)
        return values[order], np.concatenate([counts, self._seen[both]])[order]


class _Kept:
    """Rows of the source that the target lacks: those with the lowest hashes of keys, up to `last`, one of each hash."""

    def __init__(self, schema: pa.Schema) -> None:
        self.last = _LAST
        nothing = pa.RecordBatch.from_pylist([], schema)
        self._parts = [Side(nothing, _NO_HASHES, _NO_HASHES, _NO_NUMBERS, _NO_NUMBERS)]
        self._rows = 0

    def add(self, rows: pa.RecordBatch, keys: Hashes, hashes: Hashes, chunk: int) -> None:
        part = Side(rows, keys, hashes, np.ones(len(keys), np.int64), np.full(len(keys), chunk))
        self._parts.append(part.take(np.flatnonzero(keys <= self.last)))
        self._rows += len(self._parts[-1].keys)
        if self._rows > 2 * comparing.LIMIT:
            self.narrow()

    def narrow(self) -> Side:
        """Let go of repeated rows, and of those past LIMIT; what is left."""
        every = _concat(self._parts)
        _, first = np.unique(every.hashes, return_index=True)
        left = every.take(first[np.argsort(every.keys[first], kind="stable")])
        if len(left.keys) > comparing.LIMIT:
            self.last = min(self.last, left.keys[comparing.LIMIT - 1])
            left = left.take(np.flatnonzero(left.keys <= self.last))
        self._parts, self._rows = [left], len(left.keys)
        return left


def _ordered(side: Side) -> Side:
    return side.take(np.argsort(side.keys, kind="stable"))


def _concat(parts: Sequence[Side]) -> Side:
    return Side(
        pa.concat_batches([p.rows for p in parts]),
        np.concatenate([p.keys for p in parts]),
        np.concatenate([p.hashes for p in parts]),
        np.concatenate([p.counts for p in parts]),
        np.concatenate([p.chunks for p in parts]),
        [place for p in parts for place in p.places],
    )


def _of_source(kept: Side, different: Hashes, last: np.uint64, there: _There, target: Side) -> Side:
    """The source's different rows; those that the target has too, only not as often, are taken from there."""
    values, counts = there.counts()
    lacking = kept.take(np.flatnonzero(comparing.among(kept.hashes, different) & (kept.keys <= last)))
    both = target.take(np.flatnonzero(comparing.among(target.hashes, values)))
    every = _concat([lacking, replace(both, rows=both.rows.select(kept.rows.schema.names), places=())])
    every = _ordered(every)
    return replace(every, counts=counts[np.searchsorted(values, every.hashes)])


def _of_target(sides: Sides, within: Within, different: Hashes, found: Differences) -> Side:
    """The target's different rows, fetched by their places."""
    places: dict[int, list[str]] = {}
    for _, hashes, where in sides.noted(within):
        hit = np.flatnonzero(comparing.among(hashes, different))
        for hash_, place in zip(hashes[hit].tolist(), where.take(pa.array(hit)).to_pylist(), strict=True):
            places.setdefault(hash_, []).append(place)
    firsts = [each[0] for each in places.values()]
    now = together(sides, [side_of(sides, rows, -1) for rows in sides.at(firsts)])
    same = [places.get(h, [""])[0] == place for h, (place,) in zip(now.hashes.tolist(), now.places, strict=True)]
    every = _ordered(now.take(np.flatnonzero(same)))
    found.moved += len(firsts) - len(every.keys)
    copies = [places[h] for h in every.hashes.tolist()]
    return replace(every, counts=np.array([len(each) for each in copies], np.int64), places=copies)


# ------------------------------------------------------------------------------------------------- rows of replays


def _replayed(
    sides: Sides,
    group: Buckets,
    spare: Hashes,
    here: tuple[Hashes, Hashes],
    replays: Sequence[checksum.Sums],
    found: Differences,
) -> tuple[Hashes, Hashes]:
    """The rows that replays loaded, which the source does not hold, by their keys and hashes.

    The ledger has only their sums by bucket: rows that are in the target, not in the source (`spare`), and have that very
    sum, are they. Those that cannot be found so are counted in `found`.
    """
    if not replays:
        return _NO_HASHES, _NO_HASHES
    extra: list[tuple[Hashes, Hashes]] = []
    of = bucket_of(here[0])
    for sums in replays:
        for bucket in group[sums[0][group] > 0]:
            n = int(sums[0][bucket])
            candidates = np.intersect1d(here[1][of == bucket], spare)
            keys = np.full(n, checksum.first_of(int(bucket)), np.uint64)
            want = sums[:, bucket]
            tried = islice(combinations(candidates, n), _TRIED)
            rows = next((c for c in tried if (checksum.add(keys, np.array(c))[:, bucket] == want).all()), None)
            if rows is None:
                found.replayed += n
                continue
            spare = np.setdiff1d(spare, np.array(rows))
            extra.append((keys, np.array(rows)))
    return _joined(extra)


# ------------------------------------------------------------------------------------------------ among other rows


def among_others(sides: Sides) -> Differences:
    """For rows that stand among others: each batch of the source is looked up in the target by its key."""
    found = Differences()
    for chunk, batch in sides.mapped():
        there = side_of(sides, batch, chunk)
        here = together(sides, [side_of(sides, rows, -1) for rows in sides.of_keys(batch)])
        there, here = without_equals(there, here)
        if len(there.keys) or len(here.keys):
            found.parts.append((there, here))
        if len(found) >= comparing.LIMIT:
            found.bucket = 0
            break
    return found


def together(sides: Sides, parts: Sequence[Side]) -> Side:
    """Several parts of a side, or none."""
    return _concat([*parts, *([] if parts else [side_of(sides, sides.nothing, -1)])])


def without_equals(there: Side, here: Side) -> tuple[Side, Side]:
    """Both sides without the rows that both have as often."""
    different = comparing.unmatched(there.hashes, here.hashes)
    gone, come = (np.flatnonzero(comparing.among(side.hashes, different)) for side in (there, here))
    return there.take(gone), here.take(come)


def side_of(sides: Sides, rows: pa.RecordBatch, chunk: int) -> Side:
    """All of some rows, each for itself."""
    keys, hashes = sides.hashed(rows)
    places: Sequence[Sequence[str]] = ()
    if PLACE in rows.schema.names:
        places = [[place] for place in rows[PLACE].to_pylist()]
        rows = rows.drop_columns([PLACE])
    return Side(rows, keys, hashes, np.ones(len(keys), np.int64), np.full(len(keys), chunk), places)


# -------------------------------------------------------------------------------------------------------- findings


def findings(sides: Sides, found: Differences) -> list[Finding]:
    """Every difference named by key and column, as many as are listed one by one, and what else there is to say."""
    name, listed = sides.state.name, list(found.findings)
    shape = sides.shape(found.replayed)
    for source, target in found.parts:
        keys, _ = comparing.counted(np.concatenate([source.keys, target.keys]))
        for first in range(0, len(keys), _SHOWN_TOGETHER):
            low, high = keys[first], keys[min(first + _SHOWN_TOGETHER, len(keys)) - 1]
            listed += comparing.compare(shape, *(_shown(sides, side, low, high) for side in (source, target)))
            if len(listed) >= comparing.LIMIT:
                break
    if found.replayed:
        listed.insert(0, _lost(sides, found.replayed))
    if found.moved:
        message = f"{name}: {found.moved:,} rows of the target changed while they were compared: verify again"
        listed.append(Finding("rows.moved", "error", name, message, None, None, None))
    if len(found) and found.drifted and not found.replayed:
        message = (
            f"{name}: in {len(found.drifted)} of {checksum.BUCKETS} buckets the source does not map any more to what was "
            f"loaded: what should be there is what it maps to now"
        )
        listed.insert(0, Finding("rows.drifted", "warning", name, message))
    if found.more or found.bucket is not None or len(listed) > comparing.LIMIT:
        listed = [*listed[: comparing.LIMIT], _more(name, found)]
    return listed


def _shown(sides: Sides, side: Side, low: np.uint64, high: np.uint64) -> comparing.Rows:
    at = np.flatnonzero((side.keys >= low) & (side.keys <= high))
    some = side.take(at)
    return comparing.Rows(sides.shown(some.rows), some.hashes, some.counts)


def _lost(sides: Sides, rows: int) -> Finding:
    """Of rows that replays loaded and that are not there any more: the rejects that they are among."""
    work, spec = sides.work, sides.mapping.spec
    found = quarantine.rows(work.conn, work.migration, names=[spec.name], state="replayed", limit=_NAMED + 1)
    named = [f"{r.id}{f' ({r.key})' if r.key else ''}" for r in (masked(row, spec) for row in found[:_NAMED])]
    more = ", …" if len(found) > _NAMED else ""
    message = (
        f"{spec.name}: {rows} rows that `migrate rejects replay` loaded are not in the target as it loaded them; the rejects "
        f"that it replayed: {', '.join(named)}{more}"
    )
    return Finding("rows.replayed", "error", spec.name, message, None, str(rows), None)


def _more(name: str, found: Differences) -> Finding:
    many = f"{found.more:,} more rows differ" if found.more else "there may be more differences"
    message = f"{name}: besides these {comparing.LIMIT:,} differences {many}"
    if found.bucket:
        message += f", in buckets {found.bucket} to {checksum.BUCKETS - 1}: migrate verify -s {name} --from-bucket {found.bucket}"
    else:
        message += ": mend these and verify again"
    return Finding("rows.more", "warning", name, message)
