"""JSON files as a source: JSON Lines, or an array of objects, cut between documents, and read again with the same result."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from connectors import docfields, docprofile, documents
from connectors.attention import Attention, Pause, Tell
from connectors.docfields import Level, Levels
from connectors.docprofile import Seen
from connectors.docscan import Data, Offsets
from connectors.documents import Damage
from connectors.found import aliases, find, once
from connectors.jsoncut import LF, array, lines, pieces, restart, signature
from connectors.jsonscan import JSON, faults, judge, never_ends
from connectors.textfile import TextFile, fingerprint, identity_of, open_text
from migrate.core import Batch, Origin, Partition, Source, Table
from migrate.errors import SourceError, UsageError

_CHANGED = "put the file back as it was, or start over with: migrate run --restart"
_PROBE = 1 << 20  # bytes in which the form is found, and the average length of a document
_FOUND = 4 << 20  # bytes that are looked through at once for fields
_HEAD = 64 << 20  # bytes within which the array must begin, and that may follow it
_LONGEST = 256 << 20  # bytes: a document beyond this is none, and would fill the memory
_CAREFUL = 1 << 16  # bytes that are cut at once behind a damage
_BOM = b"\xef\xbb\xbf"
_BLANKS = b" \t\r\n"


def open_files(files: Mapping[str, Sequence[str]], options: Mapping[str, Any], base: Path) -> Source:
    """JSON files as a source. `files` as for delimited text; `orders/lines` is what the array `lines` in `orders` holds.

    Options: `form` (lines, array; else detected), `records` (the path of the array in the file's object, `data/items`; or table →
    path), `fields` (table → name → type or map), `mixed` (reject, rest). Raises UsageError, and SourceError if a glob matches no
    file.
    """
    found = find(files, base)
    unique = {table: once(paths, base) for table, paths in found.items()}
    notes = {table: tuple(aliases(found[table], unique[table], base)) for table in found}
    fields = {
        table: docfields.fields_of(given, f"fields.{table}") for table, given in options.get("fields", {}).items()
    }
    for table in fields:
        if table.partition("/")[0] not in unique:
            raise UsageError(f"fields: no table {table!r} among the files", hint=f"There are: {', '.join(unique)}.")
    records = options.get("records", "")
    if isinstance(records, Mapping):
        for table in records:
            if table not in unique:
                hint = f"There are: {', '.join(unique)}."
                raise UsageError(f"records: no table {table!r} among the files", hint=hint)
    wanted = _Options(options.get("form", ""), records, options.get("mixed", "reject") == "rest")
    return JsonFiles(unique, wanted, fields, base, notes)


@dataclass(frozen=True, slots=True)
class _Options:
    form: str
    records: str | Mapping[str, str]
    mixed: bool

    def within(self, table: str) -> str:
        """The path of the array in the files of a table; "" where these are the array, or lines."""
        return self.records if isinstance(self.records, str) else self.records.get(table, "")


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where documents begin in a file, and how. `line`: that of byte `start`. `head`: what must be closed behind an array."""

    lines: bool
    start: int
    line: int
    note: str
    head: bytes = b""
    begin: re.Pattern[bytes] | None = None


@dataclass(frozen=True, slots=True)
class _Token:
    """All that reading a slice again needs. `line` is the physical line (from 1) of byte `start`.

    Of an array's slice: documents begin anew at `cuts` and end before `stop`, counted from `start`; `extra` are damages by their
    places in the file, as [start, end, reason].
    """

    file: str
    size: int
    start: int
    end: int
    line: int
    hash: str
    lines: bool
    stop: int
    cuts: tuple[int, ...] = ()
    extra: tuple[tuple[int, int, str], ...] = ()
    mixed: bool = False
    levels: Any = ()


@dataclass(frozen=True)
class _Slice:
    """A slice at hand. Places are from its start."""

    token: _Token
    data: bytes
    compressed: bool

    @cached_property
    def view(self) -> Data:
        return np.frombuffer(self.data, np.uint8)

    @cached_property
    def found(self) -> tuple[Offsets, Offsets, tuple[Damage, ...]]:
        """The documents' starts and ends, and what else lies there."""
        if self.token.lines:
            cut = lines(self.view)
            return cut.starts, cut.ends, ()
        starts, ends, damage = pieces(self.view, list(self.token.cuts), self.token.stop)
        extra = (Damage(a - self.token.start, b - self.token.start, why) for a, b, why in self.token.extra)
        return starts, ends, (*damage, *extra)

    @cached_property
    def _breaks(self) -> Offsets:
        return np.flatnonzero(self.view == LF)

    def locate(self, start: int, end: int) -> Origin:
        line, last = np.searchsorted(self._breaks, [start, max(start, end - 1)])
        more = {"decompressed": True} if self.compressed else {}
        locator = {
            "file": self.token.file,
            "line": self.token.line + int(line),
            "last_line": self.token.line + int(last),
            "start": self.token.start + start,
            "end": self.token.start + end,
        }
        return Origin(locator | more, self.data[start:end])


class JsonFiles:
    """`Source` and `Counted` over the files of each table. Safe to read from several threads."""

    def __init__(
        self,
        files: Mapping[str, tuple[str, ...]],
        options: _Options,
        fields: Mapping[str, Level],
        base: Path,
        notes: Mapping[str, tuple[str, ...]],
    ) -> None:
        self._files = files
        self._options = options
        self._fields = fields
        self._base = base
        self._notes = notes
        self._known: dict[object, Seen] = {}
        self._lock = Lock()
        self._attention = Attention()

    def attended(self, pause: Pause, tell: Tell) -> None:
        """Who waits while fields are looked for, and hears how far it is."""
        self._attention = Attention(pause, tell)

    def tables(self) -> Sequence[str]:
        return tuple(self._files)

    def schema(self, table: str, /) -> Table:
        """The columns: those that are declared, else those that the documents hold. `notes` tell how each file is read."""
        levels = self._resolved(table)
        notes = [*self._notes.get(table, ())]
        warnings = []
        for name in self._names(table):
            with _opened(self._base / name, name) as file:
                layout = self._layout(table, file)
                notes.append(f"{name}: {layout.note}")
                if not any(True for _ in _slices(file, layout, 1, _PROBE)):
                    warnings.append(f"{name}: no document stands in it")
        if table not in self._fields:
            notes += [f"{table}: {said}" for said in docprofile.missed(self._seen(*docfields.parts_of(table)))]
        if not docfields.columns(levels[-1]):
            notes.append(f"{table}: no fields were found: all is in {docfields.REST}")
        unknown = docprofile.unknown(table, self._fields, self._seen)
        return Table(table, docfields.schema(levels), (), tuple(notes), tuple(warnings), unknown=unknown)

    def partitions(self, table: Table, /, *, rows: int, bytes: int) -> Iterator[Partition]:
        """Slices that end between documents, as large as both bounds allow unless one document is larger."""
        levels = docfields.dump(self._resolved(table.name))
        ordinal = 0
        for name in self._names(table.name):
            with _opened(self._base / name, name) as file:
                for token, count in _slices(file, self._layout(table.name, file), rows, bytes):
                    token = replace(token, mixed=self._options.mixed, levels=levels)
                    yield Partition(table.name, ordinal, _dump(token), count, token.end - token.start)
                    ordinal += 1

    def read(self, partition: Partition, /, columns: Sequence[str]) -> Iterator[Batch]:
        """The slice as one batch, with these columns in this order.

        Raises SourceError if the file has changed since the plan.
        """
        token = _load(partition.token)
        levels = docfields.load(token.levels)
        known = docfields.schema(levels).names
        unknown = [column for column in columns if column not in known]
        if unknown:
            raise SourceError(f"{token.file} has no column {unknown[0]!r}", hint=f"it has: {', '.join(known)}")
        at_hand = self._slice(token)
        starts, ends, damage = at_hand.found
        yield documents.read(
            JSON,
            at_hand.view,
            starts,
            ends,
            levels,
            columns,
            at_hand.locate,
            damage=damage,
            mixed=token.mixed,
        )

    def count(self, partition: Partition, /) -> int:
        """The number of documents, or of elements in them, and of what is broken, by the scan alone."""
        token = _load(partition.token)
        at_hand = self._slice(token)
        starts, ends, damage = at_hand.found
        return documents.count(JSON, at_hand.view, starts, ends, docfields.load(token.levels), damage)

    def arrays(self, table: str) -> Sequence[str]:
        return docprofile.inner_tables(table, self._seen(*docfields.parts_of(table)))

    def doubts(self, table: str, /) -> Mapping[str, str]:
        """How often each kind of value stands in fields that hold several, where these were looked for."""
        if table in self._fields:
            return {}
        return docprofile.mixtures(self._seen(*docfields.parts_of(table)), self._resolved(table)[-1])

    def kinds(self, table: str, /) -> Mapping[str, Mapping[str, int]]:
        return docprofile.kinds(self._seen(*docfields.parts_of(table)))

    def fields(self, tables: Sequence[str], /) -> Mapping[str, Any]:
        return {table: docfields.declared(self._resolved(table)[-1]) for table in tables}

    # ---------------------------------------------------------------------------------------------------------- details

    def _names(self, table: str) -> tuple[str, ...]:
        base = table.partition("/")[0]
        if base not in self._files:
            raise UsageError(f"no table {table!r} among the files", hint=f"there are: {', '.join(self._files)}")
        return self._files[base]

    def _layout(self, table: str, file: TextFile) -> "_Layout":
        return _layout(file, self._options.form, self._options.within(table.partition("/")[0]))

    def _slice(self, token: _Token) -> _Slice:
        with _opened(self._base / token.file, token.file) as file:
            data = file.read(token.start, token.end)
            if file.size != token.size:
                raise SourceError(f"{token.file} has changed since the plan was made", hint=_CHANGED)
            if fingerprint(data) != token.hash:
                raise SourceError(
                    f"{token.file} has changed since the plan was made, between bytes {token.start} and {token.end}",
                    hint=_CHANGED,
                )
            return _Slice(token, data, file.compressed)

    def _resolved(self, table: str) -> Levels:
        """The table's levels, each as declared, else as found in all of its files."""
        return docfields.levels_of(table, self._fields, self._found)

    def _found(self, table: str, paths: tuple[docfields.Path, ...]) -> Level:
        path = paths[-1] if paths else ()
        seen = self._seen(table, paths)
        if paths and not seen.kinds and self._seen(table, ()).kinds:
            raise SourceError(
                f"no array {'.'.join(path)} with elements stands in {', '.join(self._files[table][:3])}",
                hint=f"check the path, or declare what it may hold: fields: {{{'/'.join((table, *map('.'.join, paths)))}: …}}",
            )
        return docprofile.found(seen, path)

    def _seen(self, table: str, paths: tuple[docfields.Path, ...]) -> Seen:
        """What all documents of a table, or elements in them, are like; looked at once for each state of the files."""
        state = tuple(_state(self._base / name) for name in self._names(table))

        def look(paths: tuple[docfields.Path, ...]) -> Seen:
            if (table, paths, state) not in self._known:
                self._known[table, paths, state] = self._looked(table, paths)
            return self._known[table, paths, state]

        with self._lock:
            return docprofile.looked(paths, look)

    def _looked(self, table: str, paths: tuple[docfields.Path, ...]) -> Seen:
        """One pass over all documents."""
        seen, names, number, at, size = Seen(), self._names(table), 0, 0, 1

        def said() -> str:
            which = f", file {number:,} of {len(names):,}" if len(names) > 1 else ""
            return f"{table}: {names[number - 1]} is looked through for fields, {100 * at // size} %{which}"

        passed = self._attention.to(said)
        for name in names:
            number += 1
            with _opened(self._base / name, name) as file:
                size = file.size
                for token, _ in _slices(file, self._layout(table, file), 1 << 40, _FOUND):
                    at_hand = _Slice(token, file.read(token.start, token.end), file.compressed)
                    starts, ends, _ = at_hand.found
                    cells = documents.elements(JSON, at_hand.view, starts, ends, paths)
                    docprofile.note(JSON, at_hand.view, cells, seen)
                    at = token.end
                    passed()
        return seen


def _state(path: Path) -> object:
    try:
        return identity_of(path.stat())
    except OSError:  # opening it will tell
        return path


def _dump(token: _Token) -> str:
    return json.dumps(asdict(token), separators=(",", ":"), ensure_ascii=False)


def _load(text: str) -> _Token:
    parts = json.loads(text)
    return _Token(**{**parts, "cuts": tuple(parts["cuts"]), "extra": tuple(map(tuple, parts["extra"]))})


def _opened(path: Path, name: str) -> Any:
    return open_text(path, name, "JSON", "give it to the connector of its kind")


# ---------------------------------------------------------------------------------------------------------- the layout


def arrays_in(path: Path, name: str) -> tuple[list[str], list[str]]:
    """The paths of the arrays of objects in a file that is one object, and of what else stands there; none for any other file.

    What is larger than the object around an array may be is not looked through, nor what is called JSON Lines.
    """
    nothing: tuple[list[str], list[str]] = [], []
    if re.search(r"\.(jsonl|ndjson)(\.gz)?$", name.lower()):
        return nothing
    with _opened(path, name) as file:
        data = file.read(0, min(file.size, _HEAD))
        text = data.removeprefix(_BOM).strip(_BLANKS)
        if file.size > _HEAD or not text.startswith(b"{") or judge(text) is not None:
            return nothing
        view = np.frombuffer(text, np.uint8)
        seen = Seen()
        edges = np.array([0]), np.array([len(text)])
        docprofile.note(JSON, view, documents.elements(JSON, view, *edges, ()), seen)
        taken, left = docprofile.held(seen)
        return (taken, left) if taken else nothing


def _layout(file: TextFile, form: str, records: str) -> _Layout:
    """How a file holds its documents: as it is said, else as its first bytes look."""
    head = file.read(0, _PROBE)
    if head[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in head[:4]:
        raise SourceError(
            f"{file.name} is not in UTF-8, but in UTF-16 or UTF-32",
            hint=f"convert it first: iconv -f UTF-16 -t UTF-8 {Path(file.name).name}",
        )
    start = len(_BOM) if head.startswith(_BOM) else 0
    text = head[start:].lstrip(_BLANKS)
    if records:
        return _within(file, start, records)
    given, form = form, form or ("array" if text.startswith(b"[") else "lines")
    if form == "lines":
        if not given and text and not _by_line(text, len(head) < file.size):
            raise SourceError(
                f"{file.name} is neither an array of objects nor JSON Lines: few of its first lines are objects",
                hint="say which array in it holds the rows, records: data/items; or say form: lines, or form: array",
            )
        return _Layout(True, start, 1, "read as JSON Lines: a document on each line")
    if not text.startswith(b"["):
        raise SourceError(
            f"{file.name} does not begin with the bracket of an array", hint="say form: lines, or records:"
        )
    return _arrayed(file, start, len(head) - len(text), "read as an array of documents")


def _by_line(text: bytes, more: bool) -> bool:
    """Whether at least half of the first lines are objects."""
    first = text.split(b"\n", 50)[:50]
    whole = [each for each in (first[:-1] if more and len(first) > 1 else first) if each.strip(_BLANKS)]
    return 2 * sum(judge(each.strip(_BLANKS)) is None for each in whole) >= len(whole)


def _arrayed(file: TextFile, begin: int, bracket: int, note: str) -> _Layout:
    """The layout of an array whose bracket stands there; the document around it begins at `begin`."""
    head = file.read(begin, bracket + 1)
    line = head.count(b"\n") + 1
    first = file.read(bracket + 1, bracket + 1 + _PROBE)
    return _Layout(False, bracket + 1, line, note, head, signature(first))


def _within(file: TextFile, start: int, records: str) -> _Layout:
    """The layout of an object that holds the array. Raises SourceError where there is none at that path."""
    size = _PROBE
    while True:
        data = file.read(start, start + size)
        text = data.decode("utf-8", "ignore")
        place = _place(text, records.split("/"))
        if place is not None:
            bracket = start + len(text[:place].encode())
            return _arrayed(file, start, bracket, f"read as an object that holds an array of documents at {records}")
        if start + size >= file.size or size >= _HEAD:
            raise SourceError(
                f"{file.name}: no array was found at {records}",
                hint="records: is the path of the array from the file's outermost object: names with / between them",
            )
        size *= 8


def _place(text: str, path: Sequence[str]) -> int | None:
    """Where the array at a path begins; None where it was not found."""
    decoder = json.JSONDecoder(parse_int=str, parse_float=str)

    def solid(at: int) -> int:
        while text[at] in " \t\r\n,:":
            at += 1
        return at

    try:
        at = solid(0)
        for name in path:
            if text[at] != "{":
                return None
            at = solid(at + 1)
            while True:
                found, at = decoder.raw_decode(text, at)
                at = solid(at)
                if found == name:
                    break
                _, at = decoder.raw_decode(text, at)
                at = solid(at)
        return at if text[at] == "[" else None
    except (IndexError, ValueError, RecursionError):
        return None


# ------------------------------------------------------------------------------------------------------------ the slices


def _slices(file: TextFile, layout: _Layout, rows: int, size: int) -> Iterator[tuple[_Token, int]]:
    """One scan from start to end: slices, and about how many documents are in each."""
    total = file.size
    wanted = max(min(size, rows * _average(file, layout)), 1)
    yield from (_by_lines if layout.lines else _by_array)(file, layout, total, wanted)
    if file.size != total:
        raise SourceError(f"{file.name} is still being written to", hint="run again when it is complete")


def _average(file: TextFile, layout: _Layout) -> int:
    """The average length of a document in bytes, rounded up."""
    data = file.read(layout.start, layout.start + _PROBE)
    if layout.lines:
        return -(-len(data) // max(len(lines(np.frombuffer(data, np.uint8)).starts), 1))
    way = _Way(data, layout.start + len(data) >= file.size, layout, file, layout.start)
    way.run()
    return -(-max(way.end, 1) // max(way.documents + len(way.cuts), 1))


def _by_lines(file: TextFile, layout: _Layout, total: int, wanted: int) -> Iterator[tuple[_Token, int]]:
    start, line, window = layout.start, layout.line, wanted
    while start < total:
        data = file.read(start, start + window)
        end = len(data) if start + len(data) >= total else data.rfind(b"\n") + 1
        if not end:
            if window > _LONGEST:
                raise _endless(file, line, "line")
            window *= 2
            continue
        data = data[:end]
        count = len(lines(np.frombuffer(data, np.uint8)).starts)
        if count:
            yield _Token(file.name, total, start, start + end, line, fingerprint(data), True, end), count
        start, line, window = start + end, line + data.count(b"\n"), wanted


def _endless(file: TextFile, line: int, what: str) -> SourceError:
    return SourceError(
        f"{file.name}:{line}: no end of the {what} within {_LONGEST >> 20} MB",
        hint="look at the file from there on, and mend or remove what is no document",
    )


def _by_array(file: TextFile, layout: _Layout, total: int, wanted: int) -> Iterator[tuple[_Token, int]]:
    start, line, window, done = layout.start, layout.line, wanted, False
    while not done:
        data = file.read(start, start + window)
        final = start + len(data) >= total
        way = _Way(data, final, layout, file, start)
        way.run()
        if way.short:
            if window > _LONGEST:
                raise _endless(file, line, "document")
            window *= 2
            continue
        done, end, extra = way.done, way.end, way.extra
        if done and extra:
            end = max(end, extra[-1][1] - start)
        if way.documents or way.cuts or extra or data[: way.end].strip(_BLANKS + b","):
            whole = data[:end] if end <= len(data) else file.read(start, start + end)
            token = _Token(
                file.name, total, start, start + end, line, fingerprint(whole), False, way.end, tuple(way.cuts), extra
            )
            yield token, way.documents + len(way.cuts) + len(extra)
        start, line, window = start + end, line + data[:end].count(b"\n"), wanted


class _Way:
    """The way through a window of an array: where its documents begin anew behind damage, and how far it is settled."""

    def __init__(self, data: bytes, final: bool, layout: _Layout, file: TextFile, start: int) -> None:
        self._data, self._final, self._layout, self._file, self._start = data, final, layout, file, start
        self.cuts: list[int] = []
        self.documents = 0
        self.end = 0  # of what is settled
        self.extra: tuple[tuple[int, int, str], ...] = ()
        self.done = False  # the array, or the file, ends here
        self.short = False  # no document ends in the window

    def run(self) -> None:
        view, step = np.frombuffer(self._data, np.uint8), len(self._data)
        while True:
            base = self.end
            upto = min(base + step, len(self._data))
            cut = array(view[base:upto])
            swallowing = self._swallowing(view[base:upto], cut.starts, cut.ends)
            if swallowing is not None:
                sound, again = swallowing
                self.documents += sound
                self._cut(base + again)
                step = _CAREFUL
                continue
            self.documents += len(cut.starts)
            self.end = base + cut.end
            if cut.closed:
                if self._closes():
                    return
            elif upto < len(self._data):
                step = step * (8 if not len(cut.starts) else 2)
                continue
            elif not self._final and not (cut.open and never_ends(self._data[self.end :])):
                self.short = not self.documents and not self.cuts and not self.end
                return
            elif not cut.open:
                self._ended(len(self._data))
                return
            again = restart(self._data, self.end, len(self._data), self._layout.begin)
            if again >= 0:
                self._cut(again)
                step = _CAREFUL
            elif self._final:
                self.end = len(self._data)
                self._ended(self.end)
                return
            else:  # no other document begins in the window
                self.short = True
                return

    def _cut(self, at: int) -> None:
        self.cuts.append(at)
        self.end = at

    def _swallowing(self, view: Data, starts: Offsets, ends: Offsets) -> tuple[int, int] | None:
        """The first document that is none and in which another one begins: its number, and where that is."""
        text = view.tobytes() if len(starts) else b""
        for each in sorted(faults(view, starts, ends)):
            again = restart(text, int(starts[each]), int(ends[each]), self._layout.begin)
            if again >= 0:
                return each, again
        return None

    def _ended(self, end: int) -> None:
        """The file ends, and the array does not."""
        self.done = True
        place = self._start + end
        self.extra = ((place, place, "the file ends before its array does: documents may be missing"),)

    def _closes(self) -> bool:
        """Whether the array ends here. What follows it must be no more than what is to be closed."""
        if self._data[self.end : self.end + 1] != b"]":
            return False
        begin = self._start + self.end + 1
        tail = self._file.read(begin, begin + _HEAD)
        if begin + len(tail) < self._file.size:
            raise SourceError(
                f"{self._file.name}: more than {_HEAD >> 20} MB follow the end of the array at byte {begin}",
                hint="look at the file there; what is no part of the array must be taken out",
            )
        wrapped = self._layout.head.lstrip(_BLANKS)[:1] == b"{"
        if wrapped:
            fine = judge(self._layout.head + b"]" + tail) is None
        else:
            fine = not tail.strip(_BLANKS)
            if not fine and restart(self._data, self.end, len(self._data), self._layout.begin) >= 0:
                return False  # a bracket too much: documents follow
        self.done = True
        if not fine:
            why = "what follows the array does not end the document" if wrapped else "stands behind the array's end"
            self.extra = ((begin, self._file.size, why),)
        return True
