"""JSON texts as documents: the structure of all that stand in a buffer is found at once; only what is asked for is looked at.

RFC 8259 alone says what is JSON: a C parser checks all documents together, and what it refuses is judged one by one. So all that
is gone through here is known to be valid, and a few facts carry the scan: a quote that no backslash escapes begins or ends a
string; what stands outside of strings is structure; a string before a colon is a name.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors.docscan import (
    ARRAY,
    BOOLEAN,
    NULL,
    NUMBER,
    OBJECT,
    STRING,
    Cells,
    Data,
    Mask,
    Offsets,
    Others,
    Scan,
    Type,
    Wanted,
)
from connectors.jsonvalues import read_values, spans

__all__ = ["JSON", "JsonForm", "judge"]

_QUOTE, _OPEN, _CLOSE, _COMMA, _COLON = 1, 2, 3, 4, 5
_BACKSLASH = ord("\\")
_LONGEST_TOKEN = 12  # characters that may be cut off at the end of a text, such as `\\ud83d\\ude00` or `false`
_MANY_BLANKS = 32  # blanks around a value beyond which they are no longer skipped one by one
_CONSTANT = re.compile(r'"(?:[^"\\]|\\.)*"|(NaN|-?Infinity)', re.DOTALL)


def _table(entries: Mapping[str, int], rest: int = 0) -> Data:
    table = np.full(256, rest, np.uint8)
    for signs, value in entries.items():
        table[[ord(sign) for sign in signs]] = value
    return table


_CLASS = _table({'"': _QUOTE, "{[": _OPEN, "}]": _CLOSE, ",": _COMMA, ":": _COLON})
_KIND = _table({"{": OBJECT, "[": ARRAY, '"': STRING, "tf": BOOLEAN, "n": NULL}, NUMBER)
_BLANK = _table({" \t\r\n": 1}).astype(np.bool_)
_RAW = msgspec.json.Decoder(type=msgspec.Raw)  # checks a text without making anything of it


class JsonForm:
    """`Form` of documents that are JSON texts in UTF-8. Their spans ascend, and may have blanks around the text."""

    def scan(self, data: Data, starts: Offsets, ends: Offsets, wanted: Sequence[Wanted], /) -> Scan:
        text = _gathered(data, starts, ends)
        faults = text.faults()
        fields = _Fields(text, faults)
        cells, others = fields.found(wanted)
        return Scan(cells, others, dict(sorted(faults.items())))

    def elements(self, data: Data, cells: Cells, /) -> tuple[Offsets, Cells]:
        arrays = np.flatnonzero(cells.kinds == ARRAY)
        text = _gathered(data, cells.starts[arrays], cells.ends[arrays])
        outer = np.flatnonzero((text.levels == 1) & (text.classes != _QUOTE))
        at, closing = text.at[outer], text.classes[outer] == _CLOSE
        first = np.flatnonzero(~closing)
        starts, ends = trimmed(text.data, at[first] + 1, at[first + 1] if first.size else at[first])
        there = starts < ends  # nothing stands in an empty array
        of = text.documents[outer[first[there]]]
        found = text.cells(starts[there], ends[there], of)
        return arrays[of], found

    def values(self, data: Data, cells: Cells, type_: Type, /) -> tuple[pa.Array, Mask]:
        return read_values(data, cells, type_)

    def names(self, data: Data, starts: Offsets, ends: Offsets, /) -> list[str]:
        coded = spans(data, starts, ends).dictionary_encode()
        distinct = [_name(each) for each in coded.dictionary.to_pylist()]
        return [distinct[code] for code in coded.indices.to_pylist()]


JSON = JsonForm()


def judge(document: bytes) -> str | None:
    """Why a text is no JSON object, by RFC 8259; None if it is one. The reason names the byte within the document."""
    try:
        text = document.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"byte {error.start} (0x{document[error.start]:02x}) is not valid UTF-8"
    try:
        value = json.loads(text, parse_float=str, parse_int=str, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        return f"is no valid JSON at byte {len(text[: error.pos].encode())}: {_said(error.msg)}"
    except _Constant as error:
        place = next((found.start() for found in _CONSTANT.finditer(text) if found[1]), 0)
        return f"is no valid JSON at byte {len(text[:place].encode())}: {error} is no number of JSON"
    except RecursionError:
        return "is nested too deep to be read"
    return None if isinstance(value, dict) else "is no object"


def never_ends(text: bytes) -> bool:
    """Whether no document that begins like this is one, however it goes on."""
    decoded = text.decode("utf-8", "replace")
    try:
        json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=_no_constant).raw_decode(decoded)
    except json.JSONDecodeError as error:
        return not error.msg.startswith("Unterminated string") and len(decoded) - error.pos > _LONGEST_TOKEN
    except (_Constant, RecursionError):
        return True
    return False


def _said(message: str) -> str:
    return "text follows the end of the document" if message == "Extra data" else message[:1].lower() + message[1:]


class _Constant(Exception):
    """NaN, Infinity or -Infinity."""


def _no_constant(name: str) -> None:
    raise _Constant(name)


def _name(raw: bytes) -> str:
    """A field's name from what stands between its quotes."""
    return str(json.loads(b'"' + raw + b'"')) if b"\\" in raw else raw.decode()


# ----------------------------------------------------------------------------------------------------------- structure


@dataclass(frozen=True)
class _Text:
    """Documents one after another, a comma between two. `begins[i]:stops[i]` is document i; `shift[i]` leads back to the data."""

    data: Data
    begins: Offsets
    stops: Offsets
    shift: Offsets

    @cached_property
    def _tokens(self) -> tuple[Offsets, Data, Offsets, Mask]:
        """Quotes and the structure outside of strings: place, class and document of each; and the documents of odd quotes."""
        classes = _CLASS[self.data]
        at = np.flatnonzero(classes)
        classes = classes[at]
        at, classes = _unescaped(self.data, at, classes)
        ends = np.searchsorted(at, self.stops)
        begins = np.searchsorted(at, self.begins)
        documents = np.repeat(np.arange(len(self.begins)), ends - begins)
        inner = np.ones(len(at), np.bool_)
        inner[ends[ends < len(at)]] = False  # the comma behind each document
        at, classes = at[inner], classes[inner]
        quotes = classes == _QUOTE
        odd = np.bincount(documents[quotes], minlength=len(self.begins)) % 2 == 1
        if odd.any():  # what is string and what is not is unknown there
            kept = ~odd[documents]
            at, classes, documents, quotes = at[kept], classes[kept], documents[kept], quotes[kept]
        kept = quotes | (np.cumsum(quotes) % 2 == 0)
        return at[kept], classes[kept], documents[kept], odd

    @property
    def at(self) -> Offsets:
        return self._tokens[0]

    @property
    def classes(self) -> Data:
        return self._tokens[1]

    @property
    def documents(self) -> Offsets:
        return self._tokens[2]

    @cached_property
    def levels(self) -> Offsets:
        """How deep each token stands: 1 for the document's own braces and what stands between them."""
        opens, closes = self.classes == _OPEN, self.classes == _CLOSE
        depth = np.cumsum(opens.astype(np.int64) - closes)
        first = np.searchsorted(self.documents, np.arange(len(self.begins)))
        before = np.append(0, depth)[first]
        levels: Offsets = depth + closes - before[self.documents]
        return levels

    def faults(self) -> dict[int, str]:
        """The documents that are none. They are parsed all together; where that fails, by halves down to the bad ones.

        Together they are parsed as an array: a document that would take from its neighbour does not end at the depth where it
        began, or has a comma there, and is never parsed together with others.
        """
        count = len(self.begins)
        opens, closes = self.classes == _OPEN, self.classes == _CLOSE
        deep = np.bincount(self.documents, opens.astype(np.int64) - closes, count)
        outside = np.bincount(self.documents, (self.levels <= 0), count)
        alone = self._tokens[3] | (deep != 0) | (outside != 0)
        there = np.zeros(count, np.bool_)
        first = np.searchsorted(self.documents, np.arange(count))
        inside = first < len(self.at)
        there[inside] = (self.data[self.at[first[inside]]] == ord("{")) & (
            self.documents[first[inside]] == np.flatnonzero(inside)
        )
        alone |= ~there
        doubtful = np.append(0, np.cumsum(alone))
        text = self.data.data
        faults: dict[int, str] = {}
        left = [(0, count)] if count else []
        while left:
            first_one, last = left.pop()
            if doubtful[last] == doubtful[first_one] and _valid(text[self.begins[first_one] : self.stops[last - 1]]):
                continue
            if last - first_one > 1:
                middle = (first_one + last) // 2
                left += [(middle, last), (first_one, middle)]
                continue
            reason = judge(bytes(text[self.begins[first_one] : self.stops[first_one]]))
            if reason or alone[first_one]:
                faults[first_one] = reason or "is no valid JSON"
        return faults

    def cells(self, starts: Offsets, ends: Offsets, documents: Offsets) -> Cells:
        shift = self.shift[documents]
        return Cells(_KIND[self.data[starts]], starts + shift, ends + shift)


def trimmed(data: Data, starts: Offsets, ends: Offsets) -> tuple[Offsets, Offsets]:
    """Spans without the blanks at their edges."""
    starts, ends = starts.copy(), ends.copy()
    for _ in range(_MANY_BLANKS):
        left = np.flatnonzero(starts < ends)
        ahead = left[_BLANK[data[starts[left]]]]
        behind = left[_BLANK[data[ends[left] - 1]]]
        if not ahead.size and not behind.size:
            return starts, ends
        starts[ahead] += 1
        ends[behind] -= starts[behind] < ends[behind]
    solid = np.flatnonzero(~_BLANK[data])
    after = np.append(solid, data.size)[np.searchsorted(solid, starts)]
    before = np.append(-1, solid)[np.searchsorted(solid, ends)] + 1
    starts = np.minimum(after, ends)
    return starts, np.maximum(before, starts)


def outline(data: Data) -> tuple[Offsets, Mask]:
    """The braces and brackets outside of strings of a text that begins outside of one; and which of them open."""
    classes = _CLASS[data]
    at = np.flatnonzero((classes != 0) & (classes <= _CLOSE))
    at, classes = _unescaped(data, at, classes[at])
    quotes = classes == _QUOTE
    outside = ~quotes & (np.cumsum(quotes) % 2 == 0)
    return at[outside], classes[outside] == _OPEN


def faults(data: Data, starts: Offsets, ends: Offsets) -> dict[int, str]:
    """The documents that are none, by their place, with why; not those in which a name stands twice."""
    return _gathered(data, starts, ends).faults()


def _unescaped(data: Data, at: Offsets, classes: Data) -> tuple[Offsets, Data]:
    """Without the quotes before which an odd number of backslashes stands."""
    quotes = np.flatnonzero(classes == _QUOTE)
    doubtful = quotes[data[at[quotes] - 1] == _BACKSLASH] if quotes.size else quotes
    if not doubtful.size:
        return at, classes
    slashes = np.flatnonzero(data == _BACKSLASH)
    first = np.maximum.accumulate(np.where(np.diff(slashes, prepend=-2) != 1, np.arange(slashes.size), 0))
    last = np.maximum(np.searchsorted(slashes, at[doubtful]) - 1, 0)
    # Before the first byte numpy finds the last one: it must be looked at whether the backslash is the one before.
    escaped = ((last - first[last]) % 2 == 0) & (slashes[last] == at[doubtful] - 1)
    kept = np.ones(at.size, np.bool_)
    kept[doubtful[escaped]] = False
    return at[kept], classes[kept]


def _gathered(data: Data, starts: Offsets, ends: Offsets) -> _Text:
    """The documents of a buffer as one text, without what lies between them."""
    sizes = ends - starts
    begins = np.append(0, np.cumsum(sizes + 1))[:-1].astype(np.int64)
    if not len(starts):
        return _Text(np.empty(0, np.uint8), begins, begins, begins)
    lists = pa.LargeListArray.from_arrays(pa.array([0, len(starts)], pa.int64()), spans(data, starts, ends))
    joined = pc.binary_join(lists, pa.scalar(b",", pa.large_binary()))[0].as_buffer()
    return _Text(np.frombuffer(joined, np.uint8), begins, begins + sizes, starts - begins)


def _valid(text: memoryview) -> bool:
    """Whether documents, each of which ends where it should, are an array's elements."""
    whole = b"".join((b"[", text, b"]"))
    try:
        _RAW.decode(whole)
        if not whole.isascii():
            whole.decode("utf-8")  # which the parser does not check
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


# -------------------------------------------------------------------------------------------------------------- fields


_Other = tuple[Offsets, Offsets, Offsets, Data, Offsets, Offsets]
"""Of fields that are not wanted: document, object around, number among all, kind, start, end."""


class _Fields:
    """The fields of all objects of valid documents, ordered by their depth, so that those of one object stand together."""

    def __init__(self, text: _Text, faults: dict[int, str]) -> None:
        good = np.ones(len(text.begins), np.bool_)
        good[list(faults)] = False
        self._text, self._good, self._faults = text, good, faults
        of_good = good[text.documents]
        structure = np.flatnonzero((text.classes != _QUOTE) & of_good)
        levels = text.levels[structure].astype(np.uint16)
        order = np.argsort(levels, kind="stable")
        tokens = structure[order]  # by level, then by place
        self._levels = levels[order]
        self._place = np.empty(len(order), np.int64)  # of the structure's tokens in that order
        self._place[order] = np.arange(len(order))
        self._numbers = order
        self._at = text.at[tokens]
        classes = text.classes[tokens]
        self._around = np.maximum.accumulate(np.where(classes == _OPEN, np.arange(len(order)), 0))
        self._colons = np.flatnonzero(classes == _COLON)
        names = tokens[self._colons]
        self._name_starts, self._name_ends = text.at[names - 2] + 1, text.at[names - 1]
        self._documents = text.documents[names]
        self._codes, self._names = self._coded()
        self._twice()

    def _coded(self) -> tuple[Offsets, dict[str, int]]:
        """Each field's name by a number, the same however it is escaped."""
        coded = spans(self._text.data, self._name_starts, self._name_ends).dictionary_encode()
        distinct = coded.dictionary.to_pylist()
        codes = coded.indices.to_numpy().astype(np.int64)
        numbers: dict[str, int] = {}
        same = np.empty(len(distinct), np.int64)
        for at, raw in enumerate(distinct):
            name = _name(raw)
            same[at] = numbers.setdefault(name, at)
            if b"\\" in raw and not _encodable(name):
                for document in np.unique(self._documents[codes == at]).tolist():
                    self._faults.setdefault(document, "the name of a field holds half of a surrogate pair")
        return same[codes], numbers

    def _twice(self) -> None:
        """Objects that hold a name twice are faults of their documents."""
        if not self._colons.size:
            return
        pairs = self._around[self._colons] * (int(self._codes.max()) + 1) + self._codes
        ordered = np.sort(pairs)
        again = ordered[1:][ordered[1:] == ordered[:-1]]
        if not again.size:
            return
        for field in np.flatnonzero(np.isin(pairs, again))[::-1].tolist():  # the last field told of is the first
            document = int(self._documents[field])
            name = _name(self._text.data[self._name_starts[field] : self._name_ends[field]].tobytes())
            place = self._name_starts[field] - 1 - self._text.begins[document]
            shown = name.encode("utf-8", "backslashreplace").decode()
            self._faults[document] = f"an object holds the name {shown!r} twice, first at byte {place}"

    def found(self, wanted: Sequence[Wanted]) -> tuple[Sequence[Cells], Others]:
        """The wanted fields, looked for level by level, and the others in the objects that are looked into."""
        count = len(self._good)
        good = self._good.copy()
        good[list(self._faults)] = False
        cells = {each.at: _nothing(count) for each in _every(wanted)}
        others: list[_Other] = []
        owners = np.full(len(self._at), -1, np.int64)  # of the objects that are looked into: their place among `inside`
        inside: list[tuple[int, Sequence[Wanted]]] = [(-1, wanted)]
        owners[: np.searchsorted(self._levels, 1, "right")] = 0
        level = 1
        colon_levels = self._levels[self._colons]
        while inside:
            first, last = np.searchsorted(colon_levels, [level, level + 1])
            fields = np.arange(first, last)
            owner = owners[self._around[self._colons[fields]]]
            kept = (owner >= 0) & good[self._documents[fields]]
            fields, owner = fields[kept], owner[kept]
            which, within = self._which(fields, owner, inside)
            colons = self._colons[fields]
            documents = self._documents[fields]
            starts, ends = trimmed(
                self._text.data, self._at[colons] + 1, self._at[colons + 1] if colons.size else colons
            )
            kinds = _KIND[self._text.data[starts]]
            shift = self._text.shift[documents]
            rest = np.flatnonzero(which < 0)
            others.append((documents[rest], within[rest], fields[rest], kinds[rest], starts[rest], ends[rest]))
            next_inside: list[tuple[int, Sequence[Wanted]]] = []
            next_owners = np.full(len(self._at), -1, np.int64)
            order = np.argsort(which, kind="stable")
            edges = np.searchsorted(which[order], np.arange(len(cells) + 1))
            asked = [each for _, several in inside for each in several]
            for number, each in enumerate(asked):
                these = order[edges[number] : edges[number + 1]]
                cell, at = cells[each.at], documents[these]
                cell.kinds[at] = kinds[these]
                cell.starts[at] = starts[these] + shift[these]
                cell.ends[at] = ends[these] + shift[these]
                if each.fields:
                    objects = these[kinds[these] == OBJECT]
                    opened = self._place[self._numbers[colons[objects]] + 1]
                    next_owners[opened] = len(next_inside)
                    next_inside.append((each.at, each.fields))
            inside, owners, level = next_inside, next_owners, level + 1
        return [cells[at] for at in sorted(cells)], self._others(others)

    def _which(
        self, fields: Offsets, owner: Offsets, inside: Sequence[tuple[int, Sequence[Wanted]]]
    ) -> tuple[Offsets, Offsets]:
        """The number of the wanted field that each field is, -1 for none, and `Wanted.at` of the object that it stands in."""
        every = [each.name for _, several in inside for each in several]
        small = np.zeros(int(self._codes.max(initial=0)) + 1, np.int64)
        known: dict[str, int] = {}
        for name in every:
            if name in self._names:
                small[self._names[name]] = known.setdefault(name, len(known) + 1)
        table = np.full((len(inside), len(known) + 1), -1, np.int64)
        number = 0
        for row, (_, several) in enumerate(inside):
            for each in several:
                if each.name in known:
                    table[row, known[each.name]] = number
                number += 1
        within = np.array([at for at, _ in inside], np.int64)
        return table[owner, small[self._codes[fields]]], within[owner]

    def _others(self, found: Sequence[_Other]) -> Others:
        documents, within, fields, starts, ends = (
            np.concatenate([each[part] for each in found]) for part in (0, 1, 2, 4, 5)
        )
        kinds = np.concatenate([each[3] for each in found])
        order = np.argsort(starts, kind="stable")  # as they stand in the text
        documents, within, fields = documents[order], within[order], fields[order]
        shift = self._text.shift[documents]
        cells = Cells(kinds[order], starts[order] + shift, ends[order] + shift)
        return Others(documents, within, self._name_starts[fields] + shift, self._name_ends[fields] + shift, cells)


def _encodable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _every(wanted: Sequence[Wanted]) -> list[Wanted]:
    return [each for one in wanted for each in (one, *_every(one.fields))]


def _nothing(count: int) -> Cells:
    return Cells(np.zeros(count, np.uint8), np.zeros(count, np.int64), np.zeros(count, np.int64))
