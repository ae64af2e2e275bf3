"""BSON documents of a batch read at once: step by step, the next element of every document that has one.

Documents of a collection are alike, so the name of an element is guessed from the one before it and compared in all documents
together; only where the guess fails is the name looked up. Sizes are checked before anything is read behind them: a document
that is no valid BSON as far as it is looked into is a fault.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from connectors.bsonvalues import values
from connectors.bytespans import eights, fours, spans
from connectors.docscan import (
    ABSENT,
    ARRAY,
    BINARY,
    BOOLEAN,
    CODE,
    DATE,
    DBPOINTER,
    DECIMAL,
    DOUBLE,
    INT32,
    INT64,
    MAXKEY,
    MINKEY,
    NULL,
    OBJECT,
    OBJECTID,
    REGEX,
    SCOPED,
    STRING,
    SYMBOL,
    TIMESTAMP,
    UNDEFINED,
    Cells,
    Data,
    Form,
    Kinds,
    Mask,
    Offsets,
    Others,
    Scan,
    Type,
    Wanted,
)
from migrate.errors import InternalError

Words = npt.NDArray[np.uint64]

_SMALLEST = 5  # bytes of an empty document: its size and a NUL
_FEW = 64  # so many objects that still have elements are gone through one by one: each step has a price
_KNOWN = 1024  # names that are learnt; an object may have names that are data
_PAD = 8  # NULs behind the data, so that words can be read at its end


def _table(nothing: int, entries: Mapping[int, int]) -> Offsets:
    table = np.full(256, nothing, np.int64)
    table[list(entries)] = list(entries.values())
    return table


# A value takes `_BASE` bytes (-1: BSON has no such type), and as many more as its first four say, at least `_LEAST` (-1: they say
# nothing). A NUL stands `_TAIL` bytes before its end (0: none).
_BASE = _table(
    -1,
    {DOUBLE: 8, STRING: 4, OBJECT: 0, ARRAY: 0, BINARY: 5, UNDEFINED: 0, OBJECTID: 12, BOOLEAN: 1, DATE: 8, NULL: 0}
    | {REGEX: 0, DBPOINTER: 16, CODE: 4, SYMBOL: 4, SCOPED: 0, INT32: 4, TIMESTAMP: 8, INT64: 8, DECIMAL: 16}
    | {MAXKEY: 0, MINKEY: 0},
)
_LEAST = _table(-1, {STRING: 1, OBJECT: 5, ARRAY: 5, BINARY: 0, DBPOINTER: 1, CODE: 1, SYMBOL: 1, SCOPED: 14})
_TAIL = _table(0, {STRING: 1, OBJECT: 1, ARRAY: 1, DBPOINTER: 13, CODE: 1, SYMBOL: 1, SCOPED: 1})

_FINE, _NAME, _TYPE, _SIZE, _OPEN = range(5)
_WHY = {
    _NAME: "a field's name has no end",
    _TYPE: "a field has a type that BSON has not",
    _SIZE: "a field's value is longer than what holds it",
    _OPEN: "a field's value does not end where its size says",
}


def documents(data: bytes) -> tuple[Offsets, Offsets]:
    """Where documents that follow each other begin and end. What has no plausible size is one document to the end, a fault."""
    starts = []
    at, end = 0, len(data)
    size = struct.Struct("<i").unpack_from
    while at + _SMALLEST <= end:
        starts.append(at)
        (length,) = size(data, at)
        if length < _SMALLEST or length > end - at:
            at = end
            break
        at += length
    if at < end:
        starts.append(at)
    begins = np.array(starts, np.int64)
    return begins, np.append(begins[1:], end)[: len(starts)]


@dataclass(frozen=True)
class Bson:
    """The `Form` of BSON."""

    def scan(self, data: Data, starts: Offsets, ends: Offsets, wanted: Sequence[Wanted], /) -> Scan:
        """Look for fields in the documents at `starts[i]:ends[i]`, which are in order."""
        cells = [_none(len(starts)) for _ in range(_count(wanted))]
        search = _Search(_Buffer.of(data), cells)
        search.look(np.arange(len(starts)), starts, ends, Wanted("", -1, tuple(wanted)))
        faulty = np.zeros(len(starts), np.bool_)
        faulty[list(search.faults)] = True
        if search.faults:
            for each in cells:
                each.kinds[faulty], each.starts[faulty], each.ends[faulty] = ABSENT, 0, 0
        return Scan(cells, _others(search.others, faulty), search.faults)

    def elements(self, data: Data, cells: Cells, /) -> tuple[Offsets, Cells, Mapping[int, str]]:
        """The elements of arrays, in their order: which of the cells each is of, and itself; and arrays that are none."""
        arrays = np.flatnonzero(cells.kinds == ARRAY)
        faults: dict[int, str] = {}
        steps = list(_steps(_Buffer.of(data), cells.starts[arrays], cells.ends[arrays], None, faults))
        owners = _joined([step.owners for step in steps])
        order = np.argsort(owners, kind="stable")  # steps follow each other in every array
        order = order[~np.isin(owners[order], list(faults))]
        return (
            arrays[owners[order]],
            Cells(
                _joined([step.kinds for step in steps], np.uint8)[order],
                _joined([step.starts for step in steps])[order],
                _joined([step.ends for step in steps])[order],
            ),
            {int(arrays[owner]): why for owner, why in faults.items()},
        )

    def values(self, data: Data, cells: Cells, type_: Type, /) -> tuple[pa.Array, Mask]:
        return values(data, cells, type_)

    def names(self, data: Data, starts: Offsets, ends: Offsets, /) -> list[str]:
        """Names of fields as texts; bytes that are no UTF-8 as `\\xff`."""
        return _texts(spans(data, starts, ends))


@dataclass(frozen=True)
class _Buffer:
    """The data of a batch, and NULs behind it."""

    data: Data

    @staticmethod
    def of(data: Data) -> "_Buffer":
        return _Buffer(np.concatenate([data, np.zeros(_PAD, np.uint8)]))

    @cached_property
    def _nuls(self) -> Offsets:
        return np.flatnonzero(self.data == 0)

    def nul(self, at: Offsets) -> Offsets:
        """Where the first NUL is, from each position on."""
        return self._nuls[np.searchsorted(self._nuls, at)]

    def words(self, at: Offsets) -> Words:
        return eights(self.data, np.minimum(at, len(self.data) - _PAD))


@dataclass(frozen=True, slots=True)
class _Step:
    """Elements of objects: `owners[i]` is the place of the object, `ids[i]` what `_Names` knows its name as.

    `apart`: no object has two of them.
    """

    owners: Offsets
    kinds: Kinds
    name_starts: Offsets
    name_ends: Offsets
    starts: Offsets
    ends: Offsets
    ids: Offsets
    apart: bool


class _Names:
    """Names of fields that objects of one kind have, and which follows which. 0 is none, or one that is not known."""

    def __init__(self, wanted: Iterable[str]) -> None:
        # BSON has no name with a NUL; what Python holds of half a surrogate pair is in no text.
        names = {name.encode("utf-8", "surrogatepass"): row for row, name in enumerate(wanted) if "\0" not in name}
        self._names: list[bytes] = []
        self._lengths = np.zeros(1, np.int64)
        self._words, self._masks = np.ones((1, 1), np.uint64), np.zeros((1, 1), np.uint64)  # 0 is what nothing matches
        self._rows = np.array([-1, *names.values()])
        self._next = np.array([*range(1, len(names) + 1), 0])
        self._learn(list(names))

    @property
    def count(self) -> int:
        return len(self._names) + 1

    def rows(self, ids: Offsets) -> Offsets:
        """Which of the wanted names they are, -1 for others."""
        return self._rows[ids]

    def begin(self, buffer: _Buffer, start: int, end: int) -> None:
        """Learn the names of an object, whatever is the matter with it, in the order in which they stand."""
        body = buffer.data[start + 4 : end - 1 + _PAD].tobytes()
        places = list(islice(_walked(body, end - start - 5), _KNOWN))
        at, name_ends = (np.array(places, np.int64).reshape(-1, 2) + start + 4).T
        named = (name_ends > at) & (name_ends < end)
        ids = self.find(buffer, at[named] + 1, name_ends[named])
        self._next[np.append(0, ids[:-1])[: len(ids)]] = ids

    def match(self, buffer: _Buffer, words: Words, at: Offsets, before: Offsets) -> tuple[Offsets, Offsets]:
        """What the elements at these positions are named, and where their names end; the names before them are given.

        `words` are the eight bytes of the elements: a type and seven of the name.
        """
        ids = self._next[before]
        hit = (words & self._masks[0][ids]) == self._words[0][ids]
        for more in range(1, len(self._words)):
            rows = np.flatnonzero(hit & (self._masks[more][ids] != 0))
            if not len(rows):
                break
            found = buffer.words(at[rows] + 8 * more) & self._masks[more][ids[rows]]
            hit[rows] = found == self._words[more][ids[rows]]
        ends = at + 1 + self._lengths[ids]
        if not hit.all():
            rows = np.flatnonzero(~hit)
            ends[rows] = buffer.nul(at[rows] + 1)
            ids[rows] = self.find(buffer, at[rows] + 1, ends[rows])
            self._next[before[rows]] = ids[rows]
        return ids, ends

    def find(self, buffer: _Buffer, starts: Offsets, ends: Offsets) -> Offsets:
        """What names are known as, once those that are not have been learnt if there is room."""
        texts = spans(buffer.data, starts, ends)
        ids = self._find(texts)
        if self.count < _KNOWN and not ids.all():
            new = pc.unique(texts.filter(pa.array(ids == 0)))[: _KNOWN - self.count]
            self._learn([name for name in new.to_pylist() if len(name) <= 255])
            ids = self._find(texts)
        return ids

    def _find(self, texts: pa.Array) -> Offsets:
        known = pa.array(self._names, pa.binary())
        found: Offsets = pc.fill_null(pc.index_in(texts, value_set=known), -1).to_numpy() + np.int64(1)
        return found

    def _learn(self, names: Sequence[bytes]) -> None:
        self._names += names
        self._lengths = np.append(self._lengths, [len(name) for name in names]).astype(np.int64)
        # Of each name: any type, its bytes, a NUL.
        size = max(len(self._words), (int(self._lengths.max()) + 9) // 8)
        self._words = _taller(self._words, size, (b"\0" + name for name in names))
        self._masks = _taller(self._masks, size, (b"\0" + b"\xff" * (len(name) + 1) for name in names))
        self._rows = np.append(self._rows, np.full(self.count - len(self._rows), -1))
        self._next = np.append(self._next, np.zeros(self.count - len(self._next), np.int64))


def _taller(table: Words, size: int, entries: Iterable[bytes]) -> Words:
    """A table whose columns are these entries too, each of so many words."""
    new = np.frombuffer(b"".join(entry.ljust(8 * size, b"\0") for entry in entries), "<u8").reshape(-1, size).T
    return np.hstack([np.pad(table, ((0, size - len(table)), (0, 0))), new])


def _steps(
    buffer: _Buffer, starts: Offsets, ends: Offsets, known: _Names | None, faults: dict[int, str]
) -> Iterator[_Step]:
    """The elements of objects or arrays, step by step. One that is not valid so far goes to the faults, and no further.

    Without names that are known all are known as 0.
    """
    data = buffer.data
    fine = (ends - starts >= _SMALLEST) & (fours(data, starts) == ends - starts)
    fine[fine] = data[ends[fine] - 1] == 0
    faults.update(dict.fromkeys(np.flatnonzero(~fine).tolist(), "it has not the size that it says, or no end"))
    owners = np.flatnonzero(fine)
    at, limits, before = starts[owners] + 4, ends[owners] - 1, np.zeros(len(owners), np.int64)
    while True:
        left = at < limits
        if not left.all():
            owners, at, limits, before = owners[left], at[left], limits[left], before[left]
        if len(owners) <= _FEW:
            break
        words = buffer.words(at)
        if known:
            ids, name_ends = known.match(buffer, words, at, before)
        else:
            ids, name_ends = before, buffer.nul(at + 1)
        kinds = words.astype(np.uint8)
        found, why = _sized(buffer, kinds, name_ends, limits)
        step = _Step(owners, kinds, at + 1, name_ends, name_ends + 1, found, ids, True)
        if why.any():
            fine = why == _FINE
            faults.update(_told(step, why, starts))
            step = _kept(step, fine)
            limits = limits[fine]
        if len(step.owners):
            yield step
        owners, at, before = step.owners, step.ends, step.ids
    if len(owners):
        yield from _rest(buffer, owners, at, limits, starts, known, faults)


def _rest(
    buffer: _Buffer,
    owners: Offsets,
    at: Offsets,
    limits: Offsets,
    starts: Offsets,
    known: _Names | None,
    faults: dict[int, str],
) -> Iterator[_Step]:
    """What is left in a few objects, all at once: here Python goes from element to element."""
    for owner, begin, limit in zip(owners.tolist(), at.tolist(), limits.tolist(), strict=True):
        places = np.array(list(_walked(buffer.data[begin : limit + _PAD].tobytes(), limit - begin)), np.int64)
        at, name_ends = (places + begin).T
        kinds = buffer.data[at]
        found, why = _sized(buffer, kinds, name_ends, np.full(len(at), limit))
        ids = known.find(buffer, at + 1, np.minimum(name_ends, limit)) if known else np.zeros(len(at), np.int64)
        step = _Step(np.full(len(at), owner), kinds, at + 1, name_ends, name_ends + 1, found, ids, False)
        if why.any():
            faults.update(_told(step, why, starts))
        else:
            yield step


_SIZES = [(base, least >= 0) for base, least in zip(_BASE.tolist(), _LEAST.tolist(), strict=True)]


def _walked(data: bytes, limit: int) -> Iterator[tuple[int, int]]:
    """Where elements and their names end, up to the limit or the first one that no other can follow: nothing is checked here."""
    size = struct.Struct("<i").unpack_from
    at = 0
    while at < limit:
        name_end = data.find(0, at + 1)
        yield at, name_end
        base, said = _SIZES[data[at]]
        if not at < name_end < limit or base < 0:
            return
        after = name_end + 1
        if data[at] == REGEX:
            after = data.find(0, data.find(0, after) + 1) + 1
        elif said:
            after += size(data, after)[0]
        if after + base <= name_end:
            return
        at = after + base


def _sized(buffer: _Buffer, kinds: Kinds, name_ends: Offsets, limits: Offsets) -> tuple[Offsets, npt.NDArray[np.uint8]]:
    """Where the values behind the names end, and why they do not (`_WHY`), before what they stand in does."""
    data, starts = buffer.data, np.minimum(name_ends + 1, limits)
    base = _BASE[kinds]
    ends = starts + base
    why = np.where(base < 0, np.uint8(_TYPE), np.uint8(_FINE))
    least = _LEAST[kinds]
    rows = np.flatnonzero(least >= 0)
    if len(rows):
        said = fours(data, starts[rows])
        ends[rows] += said
        right = (said >= least[rows]) & (ends[rows] <= limits[rows])
        tail = _TAIL[kinds[rows]]
        closed = (data[np.where(right, ends[rows] - tail, 0)] == 0) | (tail == 0)
        why[rows[~closed]] = _OPEN
        why[rows[~right]] = _SIZE
    rows = np.flatnonzero(kinds == REGEX)
    if len(rows):
        ends[rows] = buffer.nul(np.minimum(buffer.nul(starts[rows]) + 1, limits[rows])) + 1
    why[(ends > limits) & (why == _FINE)] = _SIZE
    why[name_ends >= limits] = _NAME
    return ends, why


def _told(step: _Step, why: npt.NDArray[np.uint8], starts: Offsets) -> dict[int, str]:
    """For each object with an element that is none, why."""
    rows = np.flatnonzero(why)[::-1]  # the first one of an object is what counts
    places = step.name_starts[rows] - 1 - starts[step.owners[rows]]
    told = zip(step.owners[rows].tolist(), why[rows].tolist(), places.tolist(), strict=True)
    return {owner: f"{_WHY[code]}, at byte {place}" for owner, code, place in told}


def _kept(step: _Step, mask: Mask) -> _Step:
    return _Step(
        *(step.owners[mask], step.kinds[mask], step.name_starts[mask], step.name_ends[mask]),
        *(step.starts[mask], step.ends[mask], step.ids[mask], step.apart),
    )


@dataclass(frozen=True, slots=True)
class _Other:
    """Fields that are not wanted, of one step."""

    documents: Offsets
    within: int
    step: _Step


@dataclass(frozen=True)
class _Search:
    """A scan under way, which fills cells."""

    buffer: _Buffer
    cells: Sequence[Cells]
    faults: dict[int, str] = field(default_factory=dict)
    others: list[_Other] = field(default_factory=list)

    def look(self, documents: Offsets, starts: Offsets, ends: Offsets, within: Wanted, path: str = "") -> None:
        """Look for the fields of `within` in objects; the one at `starts[i]` stands in `documents[i]`, at this path."""
        wanted = within.fields
        names = _Names(each.name for each in wanted)
        if len(starts):
            names.begin(self.buffer, int(starts[0]), int(ends[0]))
        faults: dict[int, str] = {}
        seen = np.zeros((1, len(starts)), np.uint64)
        doubtful = np.zeros(len(starts), np.bool_)
        for step in _steps(self.buffer, starts, ends, names, faults):
            rows = names.rows(step.ids)
            owners, of = step.owners, documents[step.owners]
            if step.apart:
                if names.count > 64 * len(seen):
                    seen = np.vstack([seen, np.zeros((names.count // 64 + 1 - len(seen), len(starts)), np.uint64)])
                place, bit = step.ids >> 6, np.uint64(1) << (step.ids & 63).astype(np.uint64)
                held = seen[place, owners]
                doubtful[owners] |= ((held & bit) != 0) | (step.ids == 0)
                seen[place, owners] = held | bit
            else:
                doubtful[owners] = True
            for row in [int(rows[0])] if (rows == rows[0]).all() else np.unique(rows).tolist():
                mask = rows == row
                found, places = (step, of) if mask.all() else (_kept(step, mask), of[mask])
                if row < 0:
                    self.others.append(_Other(places, within.at, found))
                    continue
                cells = self.cells[wanted[row].at]
                cells.kinds[places], cells.starts[places], cells.ends[places] = found.kinds, found.starts, found.ends
        doubtful[list(faults)] = False
        twice = np.flatnonzero(doubtful)
        faults |= _repeated(self.buffer, twice, starts[twice], ends[twice])
        for owner, why in faults.items():
            self.faults.setdefault(int(documents[owner]), path + why)
        for each in wanted:
            if each.fields:
                cells = self.cells[each.at]
                objects = np.flatnonzero(cells.kinds == OBJECT)
                self.look(objects, cells.starts[objects], cells.ends[objects], each, f"{path}{each.name}: ")


def _repeated(buffer: _Buffer, owners: Offsets, starts: Offsets, ends: Offsets) -> dict[int, str]:
    """For each of these objects that has a name twice, which."""
    if not len(owners):
        return {}
    steps = list(_steps(buffer, starts, ends, None, {}))
    of = _joined([step.owners for step in steps])
    order = np.argsort(of, kind="stable")
    name_starts = _joined([step.name_starts for step in steps])[order]
    name_ends = _joined([step.name_ends for step in steps])[order]
    texts = spans(buffer.data, name_starts, name_ends).dictionary_encode()
    keys = of[order] * len(texts.dictionary) + texts.indices.to_numpy()
    keys, times = np.unique(keys, return_counts=True)
    rows, codes = np.divmod(keys[times > 1], len(texts.dictionary))
    said = _texts(texts.dictionary.take(pa.array(codes)))
    return {owner: f"it has the field {name!r} twice" for owner, name in zip(owners[rows].tolist(), said, strict=True)}


def _texts(names: pa.Array) -> list[str]:
    return [name.decode("utf-8", "backslashreplace") for name in names.to_pylist()]


def _others(found: Sequence[_Other], faulty: Mask) -> Others:
    documents = _joined([each.documents for each in found])
    within = _joined([np.full(len(each.documents), each.within) for each in found])
    name_starts = _joined([each.step.name_starts for each in found])
    order = np.argsort(name_starts)
    order = order[~faulty[documents[order]]]
    return Others(
        *(documents[order], within[order], name_starts[order]),
        _joined([each.step.name_ends for each in found])[order],
        Cells(
            _joined([each.step.kinds for each in found], np.uint8)[order],
            _joined([each.step.starts for each in found])[order],
            _joined([each.step.ends for each in found])[order],
        ),
    )


def _joined(parts: Sequence[npt.NDArray[Any]], kind: npt.DTypeLike = np.int64) -> npt.NDArray[Any]:
    return np.concatenate(parts) if parts else np.zeros(0, kind)


def _none(count: int) -> Cells:
    return Cells(np.zeros(count, np.uint8), np.zeros(count, np.int64), np.zeros(count, np.int64))


def _count(wanted: Sequence[Wanted]) -> int:
    """How many cells they ask for."""
    if len({each.name for each in wanted}) < len(wanted):
        raise InternalError("a field is looked for twice", hint="report this with the mapping")
    return max((max(each.at + 1, _count(each.fields)) for each in wanted), default=0)


BSON: Form = Bson()
