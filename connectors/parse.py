"""One slice of delimited text → one batch: pyarrow splits the fields, the scanner says what a record is.

Records that the scanner finds broken and records with undecodable bytes never reach pyarrow. Whatever does must come
back as a row or as one with the wrong number of fields: anything else is a bug, and raises.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from connectors.dialect import Dialect, arrow_parse_options
from connectors.marks import LF
from connectors.plain import quotes_in_place
from connectors.scan import STRAY, Positions, Records, of_lines, scan, split
from connectors.textfile import to_units, to_utf8, undecodable, whole_units
from migrate.core import Batch, Origin, Reject
from migrate.errors import InternalError

_RAW_LIMIT = 64 << 10  # of a broken region's bytes, how many are kept
_VALUE_LIMIT = 200  # characters of a value that a reject shows
_BOM = b"\xef\xbb\xbf"


def parse_slice(
    data: bytes,
    dialect: Dialect,
    columns: Sequence[str],
    *,
    file: str,
    start: int,
    line: int,
    last: bool,
    plain: bool,
    compressed: bool,
) -> Batch:
    """Read the slice that begins at byte `start`, on physical line `line`, of `file`.

    `last`: the file ends with it. `plain`: none of its records is broken, as `settle` says.
    """
    units = to_units(whole_units(data, dialect.encoding), dialect.encoding)
    return _Slice(data, units, dialect, file, start, line, last, plain, compressed).batch(columns)


@dataclass(frozen=True)
class _Slice:
    """A slice and where it stands in its file. `lines`: each of its lines is a record."""

    data: bytes
    units: bytes
    dialect: Dialect
    file: str
    start: int
    line: int
    last: bool
    plain: bool
    compressed: bool
    lines: bool = False

    @cached_property
    def records(self) -> Records:
        return of_lines(self.units) if self.lines else scan(self.units, self.dialect.grammar, final=True)

    def batch(self, columns: Sequence[str]) -> Batch:
        rejects: list[Reject] = []
        text = self._unbroken()
        if text is not None:
            table, ragged = _split_fields(text, self.dialect, columns, self.dialect.columns)
            lines = int(np.count_nonzero(np.frombuffer(self.units, np.uint8) == LF)) + (not self.units.endswith(b"\n"))
            if not ragged and table.num_rows == lines:  # a row for each line: no scan is needed to tell where they are
                return Batch(_to_batch(table, columns), np.arange(lines), replace(self, lines=True).locate)
            ordinals = np.arange(self.records.starts.size)
        else:
            text, ordinals, rejects = self._sound()
            table, ragged = _split_fields(text, self.dialect, columns, self.dialect.columns)
        if table.num_rows + len(ragged) != ordinals.size or any(number > ordinals.size for number, _ in ragged):
            raise InternalError(
                f"{self.file}: {ordinals.size} records from byte {self.start} on were read as {table.num_rows} rows "
                f"and {len(ragged)} ragged ones",
                hint="report this with the bytes from there on",
            )
        if ragged:
            kept = np.ones(ordinals.size, np.bool_)
            kept[[number - 1 for number, _ in ragged]] = False
            wrong = [(int(ordinals[number - 1]), found) for number, found in ragged]
            ordinals = ordinals[kept]
            if self.dialect.ragged == "pad":
                short = [(ordinal, found) for ordinal, found in wrong if found < len(self.dialect.columns)]
                wrong = [(ordinal, found) for ordinal, found in wrong if found > len(self.dialect.columns)]
                table, ordinals = self._padded(table, ordinals, short, columns)
            rejects += [self._ragged(ordinal, found) for ordinal, found in wrong]
        rows = _to_batch(table, columns)
        return Batch(rows, ordinals, self.locate, tuple(sorted(rejects, key=lambda reject: reject.ordinal)))

    def _unbroken(self) -> bytes | None:
        """The text in UTF-8 if it is easily proved that none of its records is broken or undecodable; None otherwise."""
        if not self.plain:
            if len(self.units) > self.dialect.grammar.max_record:
                return None
            quotes = quotes_in_place(self.units, self.dialect.grammar)
            if quotes is None or len(quotes) % 2:
                return None
        try:
            return to_utf8(self.data, self.dialect.encoding)
        except UnicodeDecodeError:
            return None

    def _sound(self) -> tuple[bytes, Positions, list[Reject]]:
        """The records that are neither broken nor undecodable: their text in UTF-8 and their ordinals; and the others."""
        rejects = self._broken()
        sound = np.ones(self.records.starts.size, np.bool_)
        sound[list(self.records.broken)] = False
        try:
            text = to_utf8(self.data if sound.all() else self._joined(np.flatnonzero(sound)), self.dialect.encoding)
        except UnicodeDecodeError:
            undecoded = self._undecodable()
            rejects += undecoded
            sound[[reject.ordinal for reject in undecoded]] = False
            text = to_utf8(self._joined(np.flatnonzero(sound)), self.dialect.encoding)
        return text, np.flatnonzero(sound), rejects

    def locate(self, ordinals: Sequence[int], limit: int | None = None) -> list[Origin]:
        """Where these rows stand, and their bytes as they are in the file, at most `limit` of each."""
        index = np.asarray(ordinals, np.int64)
        width = self.dialect.width
        first, last = self.records.lines(index)
        places = zip(
            (self.records.starts[index] * width).tolist(),
            np.minimum(self.records.ends[index] * width, len(self.data)).tolist(),
            (self.line + first).tolist(),
            (self.line + last).tolist(),
            strict=True,
        )
        more = {"decompressed": True} if self.compressed else {}
        return [
            Origin(
                {
                    "file": self.file,
                    "line": line,
                    "last_line": last_line,
                    "start": self.start + begin,
                    "end": self.start + end,
                    **more,
                },
                self.data[begin : end if limit is None else min(end, begin + limit)],
            )
            for begin, end, line, last_line in places
        ]

    def _origin(self, ordinal: int, limit: int | None = None) -> Origin:
        return self.locate([ordinal], limit)[0]

    def _span(self, ordinal: int) -> tuple[int, int]:
        """The bytes of a record within the slice."""
        width = self.dialect.width
        return int(self.records.starts[ordinal]) * width, min(int(self.records.ends[ordinal]) * width, len(self.data))

    def _joined(self, ordinals: Positions) -> bytes:
        """These records with their line ends, in the file's encoding."""
        if not ordinals.size:
            return b""
        data, width = whole_units(self.data, self.dialect.encoding), self.dialect.width
        following = np.append(self.records.starts[1:], len(self.units)) * width
        starts = self.records.starts * width
        breaks = np.flatnonzero(np.diff(ordinals, prepend=-2) != 1)
        runs = zip(ordinals[breaks], ordinals[np.append(breaks[1:], ordinals.size) - 1], strict=True)
        return b"".join(data[int(starts[first]) : int(following[last])] for first, last in runs)

    # ------------------------------------------------------------------------------------------------------ the rejects

    def _broken(self) -> list[Reject]:
        rejects = []
        for ordinal, reason in self.records.broken.items():
            origin = self._origin(ordinal, _RAW_LIMIT)
            size = origin.locator["end"] - origin.locator["start"]
            kept = f" (the first {_RAW_LIMIT} of {size} bytes are kept)" if size > _RAW_LIMIT else ""
            lines = 0 if reason in STRAY.values() else origin.locator["last_line"] - origin.locator["line"]
            skipped = f"; the next {lines} line{'s' * (lines != 1)} did not read as rows either" if lines else ""
            rejects.append(Reject(ordinal, "structure", f"{reason}{skipped}{kept}", origin))
        return rejects

    def _ragged(self, ordinal: int, found: int) -> Reject:
        expected = len(self.dialect.columns)
        reason = f"expected {expected} field{'s' * (expected != 1)}, found {found}"
        at_end = self.last and self.records.ends[ordinal] == len(self.units)
        if at_end and found < expected:
            reason += "; the file ends here without a line end: it may be cut off"
        return Reject(ordinal, "fields", reason, self._origin(ordinal))

    def _undecodable(self) -> list[Reject]:
        """One reject for each record, not broken already, that holds undecodable bytes."""
        width, encoding = self.dialect.width, self.dialect.encoding
        faults = np.array(undecodable(whole_units(self.data, encoding), encoding), np.int64)
        owners = np.searchsorted(self.records.starts * width, faults, "right") - 1
        rejects = []
        for owner, first in zip(*np.unique(owners, return_index=True), strict=True):
            ordinal = int(owner)
            if ordinal in self.records.broken:
                continue
            position = int(faults[first])
            begin, end = self._span(ordinal)
            raw = self.data[position : position + width]
            unit = (position - begin) // width
            record = self.units[begin // width : -(-end // width)]
            fields = split(record, self.dialect.grammar)
            index = next((i for i, (_, stop) in enumerate(fields) if unit < stop), len(fields) - 1)
            column = self.dialect.columns[index] if index < len(self.dialect.columns) else None
            value = self.data[begin + fields[index][0] * width : begin + fields[index][1] * width]
            more = int(np.count_nonzero(owners == owner)) - 1
            reason = (
                f"byte{'s' * (len(raw) > 1)} 0x{raw.hex()} at byte {self.start + position} of the file "
                f"{'are' if len(raw) > 1 else 'is'} not valid {encoding}"
                + (f", nor {more} more in this row" if more else "")
            )
            shown = value.decode(encoding, "backslashreplace")[:_VALUE_LIMIT]
            rejects.append(Reject(ordinal, "encoding", reason, self._origin(ordinal), column, shown))
        return rejects

    def _padded(
        self, table: pa.Table, ordinals: Positions, short: Sequence[tuple[int, int]], columns: Sequence[str]
    ) -> tuple[pa.Table, Positions]:
        """The table with the rows that lack trailing fields put in their places, NULL where a field is missing."""
        tables, numbers = [table], [ordinals]
        for found in sorted({found for _, found in short}):
            group = np.array([ordinal for ordinal, count in short if count == found], np.int64)
            text = b"\n".join(to_utf8(self.data[slice(*self._span(int(o)))], self.dialect.encoding) for o in group)
            names = self.dialect.columns[:found]
            part, ragged = _split_fields(text, self.dialect, [c for c in columns if c in names], names)
            if ragged or part.num_rows != group.size:
                raise InternalError(f"{self.file}: {group.size} short rows were read as {part.num_rows}")
            nulls = pa.nulls(group.size, pa.string())
            tables.append(pa.table({c: part[c] if c in names else nulls for c in table.column_names}))
            numbers.append(group)
        merged = np.concatenate(numbers)
        order = np.argsort(merged, kind="stable")
        return pa.concat_tables(tables).take(pa.array(order)), merged[order]


def _split_fields(
    text: bytes, dialect: Dialect, columns: Sequence[str], names: Sequence[str]
) -> tuple[pa.Table, list[tuple[int, int]]]:
    """The wanted columns of UTF-8 text, and (number from 1, fields found) of each row that has not len(names) fields.

    At least one column is read even if none is wanted, so that the rows are counted.
    """
    wanted = list(columns) or [names[0]]
    if not text.lstrip(b"\r\n"):  # which copies nothing, unless blank lines come first
        return pa.table({name: pa.array([], pa.string()) for name in wanted}), []
    ragged: list[tuple[int, int]] = []

    def skip(row: pa_csv.InvalidRow) -> str:
        ragged.append((row.number, row.actual_columns))
        return "skip"

    if text.startswith(_BOM):
        text = b"\n" + text  # pyarrow would take it for a mark, but here it is a character
    text, nulls, stand_ins = _protect_nulls(text, dialect)
    table = pa_csv.read_csv(
        pa.BufferReader(text),
        read_options=pa_csv.ReadOptions(use_threads=False, block_size=len(text) + 16, column_names=list(names)),
        parse_options=arrow_parse_options(dialect, skip),
        convert_options=pa_csv.ConvertOptions(
            check_utf8=False,
            column_types=dict.fromkeys(wanted, pa.string()),
            include_columns=wanted,
            null_values=nulls,
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    for stand_in, literal in stand_ins.items():
        table = pa.table({name: pc.replace_substring(table[name], stand_in, literal) for name in table.column_names})
    return table, ragged


def _protect_nulls(text: bytes, dialect: Dialect) -> tuple[bytes, list[str], dict[str, str]]:
    """The text with NULLs such as `\\N` under the escape `\\` replaced by stand-ins that pyarrow can tell from `N`.

    Returns the stand-ins too, with what stands for them where the replacement hit more than a whole field.
    """
    nulls, stand_ins = [], {}
    for number, null in enumerate(dialect.nulls):
        if not dialect.escape or dialect.escape not in null:
            nulls.append(null)
            continue
        stand_in = f"\x1aNULL{number}\x1a"
        while stand_in.encode() in text:
            stand_in = f"\x1a{stand_in}"
        edge = re.escape(dialect.delimiter) + r"\r\n"
        text = re.sub(rf"(?<![^{edge}]){re.escape(null)}(?![^{edge}])".encode(), stand_in.encode(), text)
        nulls.append(stand_in)
        stand_ins[stand_in] = re.sub(re.escape(dialect.escape) + "(.)", r"\1", null, flags=re.DOTALL)
    return text, nulls, stand_ins


def _to_batch(table: pa.Table, columns: Sequence[str]) -> pa.RecordBatch:
    schema = pa.schema([(column, pa.string()) for column in columns])
    batches = table.select(list(columns)).combine_chunks().to_batches()
    if batches:
        return batches[0].cast(schema) if batches[0].schema != schema else batches[0]
    return pa.RecordBatch.from_pylist([], schema=schema)
