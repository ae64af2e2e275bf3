"""Delimited text files as a source: byte slices cut at record boundaries, read again and again with the same result."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa

from connectors.dialect import OPTION_NAMES, Dialect, Options, parse_options, resolve_dialect
from connectors.found import aliases, find, once
from connectors.parse import parse_slice
from connectors.scan import scan, settle
from connectors.textfile import TextFile, fingerprint, open_text, to_units, whole_units
from migrate.core import Batch, Partition, Source, Table
from migrate.errors import SourceError, UsageError

__all__ = ["OPTION_NAMES", "DelimitedFiles", "Dialect", "Options", "detect", "open_files"]

_CHANGED = "put the file back as it was, or start over with: migrate run --restart"
_LONGEST = 256 << 20  # bytes: a broken region beyond this and sixteen records is no text, and would fill the memory
_PROBE = 1 << 20  # bytes in which the average length of a record is measured


def open_files(files: Mapping[str, Sequence[str]], options: Mapping[str, Any], base: Path) -> Source:
    """Delimited files as a source of all-text tables.

    `files` maps a table to globs relative to `base`; under the name "" each file is a table named by its stem
    (`customers.csv.gz` is `customers`). A file that a table lists under several names is read once. `options`: see
    `Options`. Raises UsageError for a wrong option or an ambiguous name, SourceError if a glob matches no file.
    """
    found = find(files, base)
    unique = {table: once(paths, base) for table, paths in found.items()}
    notes = {table: tuple(aliases(found[table], unique[table], base)) for table in found}
    return DelimitedFiles(unique, parse_options(options), base, notes)


def detect(path: Path) -> Dialect:
    """What is detected for this file, for a first project file. Raises SourceError if it cannot be read as text."""
    with open_text(path, path.name) as file:
        dialect = resolve_dialect(file, Options())
    if dialect is None:
        raise _empty(path.name)
    return dialect


def _empty(name: str) -> SourceError:
    return SourceError(
        f"{name} is empty: it has no header to take column names from",
        hint="give the option columns: [...] if it may be empty, or leave it out",
    )


@dataclass(frozen=True, slots=True)
class _Token:
    """All that reading a slice again needs. `line` is the physical line (from 1) of byte `start`.

    `plain`: what has this hash was seen to hold no broken record.
    """

    file: str
    size: int
    head: str
    start: int
    end: int
    line: int
    hash: str
    dialect: Dialect
    plain: bool = False

    def dump(self) -> str:
        parts = asdict(self)
        del parts["dialect"]["notes"]
        return json.dumps(parts, separators=(",", ":"), ensure_ascii=False)

    @staticmethod
    def load(text: str) -> "_Token":
        parts = json.loads(text)
        dialect = parts.pop("dialect")
        dialect["columns"], dialect["nulls"] = tuple(dialect["columns"]), tuple(dialect["nulls"])
        return _Token(**parts, dialect=Dialect(**dialect))


class DelimitedFiles:
    """`Source` and `Counted` over the files of each table. Safe to read from several threads."""

    def __init__(
        self, files: Mapping[str, tuple[str, ...]], options: Options, base: Path, notes: Mapping[str, tuple[str, ...]]
    ) -> None:
        self._files = files
        self._notes = notes
        self._options = options
        self._base = base
        self._dialects: dict[tuple[str, int, int], Dialect | None] = {}
        self._lock = Lock()

    def tables(self) -> Sequence[str]:
        return tuple(self._files)

    def schema(self, table: str, /) -> Table:
        """The columns, all of them text; `notes` tell for each file what was detected and what was renamed."""
        if table not in self._files:
            raise UsageError(f"no table {table!r} among the files", hint=f"there are: {', '.join(self._files)}")
        columns: tuple[str, ...] = ()
        notes = [*self._notes[table]]
        for name in self._files[table]:
            with open_text(self._base / name, name) as file:
                dialect = self._dialect(file)
            if dialect is None:
                raise _empty(name)
            columns = columns or dialect.columns
            _same_columns(columns, dialect.columns, name, self._files[table][0])
            notes.extend(dialect.notes)
        return Table(table, pa.schema([(column, pa.string()) for column in columns]), (), tuple(notes))

    def partitions(self, table: Table, /, *, rows: int, bytes: int) -> Iterator[Partition]:
        """Slices that end at record boundaries, as large as both bounds allow unless one record is larger."""
        ordinal = 0
        for name in self._files[table.name]:
            with open_text(self._base / name, name) as file:
                dialect = self._dialect(file)
                if dialect is None:
                    raise _empty(name)
                _same_columns(tuple(table.schema.names), dialect.columns, name, self._files[table.name][0])
                for token, count in _slices(file, dialect, rows, bytes):
                    yield Partition(table.name, ordinal, token.dump(), count, token.end - token.start)
                    ordinal += 1

    def read(self, partition: Partition, /, columns: Sequence[str]) -> Iterator[Batch]:
        """The slice as one batch, with these columns in this order.

        Raises SourceError if the file has changed since the plan.
        """
        token = _Token.load(partition.token)
        unknown = [column for column in columns if column not in token.dialect.columns]
        if unknown:
            raise SourceError(
                f"{token.file} has no column {unknown[0]!r}", hint=f"it has: {', '.join(token.dialect.columns)}"
            )
        with open_text(self._base / token.file, token.file) as file:
            data = _verified(file, token)
            compressed = file.compressed
        yield parse_slice(
            data,
            token.dialect,
            columns,
            file=token.file,
            start=token.start,
            line=token.line,
            last=token.end == token.size,
            plain=token.plain,
            compressed=compressed,
        )

    def count(self, partition: Partition, /) -> int:
        """The number of records, broken ones included, by the scanner alone."""
        token = _Token.load(partition.token)
        with open_text(self._base / token.file, token.file) as file:
            data = _verified(file, token)
        units = to_units(whole_units(data, token.dialect.encoding), token.dialect.encoding)
        return int(scan(units, token.dialect.grammar, final=True).starts.size)

    def _dialect(self, file: TextFile) -> Dialect | None:
        """The file's dialect, resolved once for each of its states."""
        identity = (file.name, file.size, file.modified)
        with self._lock:
            if identity not in self._dialects:
                self._dialects[identity] = resolve_dialect(file, self._options)
            return self._dialects[identity]


def _same_columns(expected: Sequence[str], found: Sequence[str], name: str, first: str) -> None:
    missing, extra = ([c for c in a if c not in b] for a, b in ((expected, found), (found, expected)))
    if missing or extra:
        faults = [f"no column {column!r}" for column in missing] + [f"an extra column {column!r}" for column in extra]
        raise SourceError(
            f"{name} has {' and '.join(faults)}; its table's first file is {first}",
            hint="files of one table need the same column names; make it a table of its own otherwise",
        )


def _verified(file: TextFile, token: _Token) -> bytes:
    data = file.read(token.start, token.end)
    if file.size != token.size or file.fingerprint(0, token.dialect.data_start) != token.head:
        raise SourceError(f"{token.file} has changed since the plan was made", hint=_CHANGED)
    if fingerprint(data) != token.hash:
        raise SourceError(
            f"{token.file} has changed since the plan was made, between bytes {token.start} and {token.end}",
            hint=_CHANGED,
        )
    return data


def _slices(file: TextFile, dialect: Dialect, rows: int, size: int) -> Iterator[tuple[_Token, int]]:
    """One scan from start to end. Each slice is what the scanner settles of a window of the wanted size."""
    total, start, line, width = file.size, dialect.data_start, dialect.data_line, dialect.width
    head = file.fingerprint(0, start)
    wanted = min(size, rows * _average(file, dialect))
    window = wanted = max(wanted - wanted % width, width)
    while start < total:
        data = file.read(start, start + window)
        final = start + len(data) >= total
        units = to_units(whole_units(data, dialect.encoding), dialect.encoding)
        consumed, lines, count, plain = settle(units, dialect.grammar, final=final)
        if not consumed:
            window *= 2
            if window > max(_LONGEST, 16 * dialect.max_record_bytes):
                raise SourceError(
                    f"{file.name}:{line}: no end of the record within {window // 2} bytes; is this delimited text?",
                    hint="look at the file from this line on, and mend or remove what is not text",
                )
            continue
        end = min(start + consumed * width, total)
        if count:
            digest = fingerprint(memoryview(data)[: end - start])
            yield _Token(file.name, total, head, start, end, line, digest, dialect, plain), count
        line += lines
        start, window = end, wanted
    if file.size != total:
        raise SourceError(f"{file.name} is still being written to", hint="run again when it is complete")


def _average(file: TextFile, dialect: Dialect) -> int:
    """The average length of a record in bytes, rounded up."""
    start = dialect.data_start
    data = file.read(start, start + _PROBE)
    units = to_units(data[: len(data) - len(data) % dialect.width], dialect.encoding)
    records = scan(units, dialect.grammar, final=True)
    return -(-len(data) // max(int(records.starts.size), 1))
