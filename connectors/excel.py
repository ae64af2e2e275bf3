"""Excel workbooks as a source: tables in their sheets, every cell as text, every row with its place."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors.cells import letters
from connectors.found import aliases, match, once, same_columns
from connectors.openbook import open_workbook
from connectors.sheet import Definition, Layout, batches, header_rows, resolve, spool_schema
from connectors.spool import Spool, Spools
from connectors.workbook import File, Sheet, Workbook, open_file
from migrate.core import Batch, Origin, Partition, Reject, Source, Table
from migrate.errors import InternalError, SourceError, UsageError

_CHANGED = "put the file back as it was, or start over with: migrate run --restart"
_NULLABLE = ("#", "no date: ")  # how the faults begin that `errors: null` makes NULL


@dataclass(frozen=True, slots=True)
class Options:
    """How to read the workbooks of a source; every one may stand beside `excel:` in the project file.

    | option | type                       | default            | meaning                                                  |
    |--------|----------------------------|--------------------|----------------------------------------------------------|
    | tables | mapping of name to mapping | each visible sheet | sheet, range, header and columns of each table           |
    | hidden | true or false              | false              | whether hidden sheets are tables, where none is named    |
    | errors | text                       | reject             | what an error cell makes of its row; `null`: NULL instead |
    | merged | text                       | first              | whether merged cells have their value once, or `fill`    |
    """

    tables: Mapping[str, Definition] | None = None
    hidden: bool = False
    errors: Literal["reject", "null"] = "reject"
    merged: Literal["first", "fill"] = "first"


def open_files(files: Mapping[str, Sequence[str]], options: Mapping[str, Any], base: Path) -> Source:
    """Workbooks as a source of all-text tables.

    `files` is {"": globs}, relative to `base`; each table continues over all files, in their order. `options`: see
    `Options`. Raises UsageError for a wrong option, SourceError if a glob matches no file.
    """
    found = match(files[""], base)
    unique = once(found, base)
    return Workbooks(unique, parse_options(options), base, tuple(aliases(found, unique, base)))


def parse_options(given: Mapping[str, Any]) -> Options:
    """The options as a user wrote them. Raises UsageError for an unknown name or a value that does not fit."""
    known = [option.name for option in fields(Options)]
    for name, value in given.items():
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
            raise UsageError(f"unknown option {name!r} for workbooks", hint=hint)
        expected = {"hidden": (True, False), "errors": ("reject", "null"), "merged": ("first", "fill")}.get(name)
        if expected and (value not in expected or isinstance(value, bool) != isinstance(expected[0], bool)):
            raise UsageError(f"option {name!r} must be {' or '.join(str(e).lower() for e in expected)}, not {value!r}")
    tables = given.get("tables")
    return Options(
        **{name: value for name, value in given.items() if name != "tables"},
        tables=None if tables is None else {name: _definition(name, parts or {}) for name, parts in tables.items()},
    )


def _definition(table: str, parts: Mapping[str, Any]) -> Definition:
    known = [part.name for part in fields(Definition)]
    for name in parts:
        if name not in known:
            raise UsageError(f"unknown key {name!r} for table {table!r}", hint=f"there are: {', '.join(known)}")
    header = None
    if parts.get("header") is not None:
        header = header_rows(str(parts["header"]))
        if header is None:
            raise UsageError(
                f"table {table!r}: header must be a row, rows as in 3-4, or none, not {parts['header']!r}",
                hint="rows are counted as Excel does, from 1",
            )
    columns = parts.get("columns") or ()
    if len({name.strip().casefold() for name in columns}) < len(columns) or any(not name.strip() for name in columns):
        raise UsageError(f"table {table!r}: a name in columns is empty or stands there twice (case does not count)")
    sheet, area = (None if parts.get(name) is None else str(parts[name]) for name in ("sheet", "range"))
    return Definition(sheet, area, header, tuple(columns))


@dataclass(frozen=True, slots=True)
class _Token:
    """All that reading a slice again needs: batches `first` to `stop` - 1 of the table's spool, which are `rows` rows."""

    file: str
    size: int
    hash: str
    layout: Layout
    errors: str
    merged: str
    first: int
    stop: int
    rows: int

    def dump(self) -> str:
        parts = {name.name: getattr(self, name.name) for name in fields(self)} | {"layout": self.layout.dump()}
        return json.dumps(parts, separators=(",", ":"), ensure_ascii=False)

    @staticmethod
    def load(text: str) -> "_Token":
        parts = json.loads(text)
        return _Token(**{**parts, "layout": Layout.load(parts["layout"])})


class Workbooks:
    """`Source` and `Counted` over the tables of workbooks. Safe to read from several threads."""

    def __init__(self, files: Sequence[str], options: Options, base: Path, notes: Sequence[str]) -> None:
        self._files = files
        self._options = options
        self._base = base
        self._notes = notes
        self._spools = Spools()
        self._lock = RLock()
        self._hashes: dict[tuple[int, ...], str] = {}
        self._layouts: dict[tuple[tuple[int, ...], str], Layout | None] = {}
        self._teller: str | None = None

    def tables(self) -> Sequence[str]:
        return tuple(self._tables)

    def schema(self, table: str, /) -> Table:
        """The columns, all of them text; `notes` tell for each file where the table stands and what was renamed."""
        columns: tuple[str, ...] = ()
        notes = [*self._notes]
        for name, layout in self._standing(table):
            columns = columns or layout.columns
            same_columns(columns, layout.columns, name, self._tables[table][0])
            notes.extend(layout.notes)
        lacking = [name for name in self._files if name not in self._tables[table]]
        warnings = [f"{name} has no sheet {table!r}, or an empty one: nothing is read from it" for name in lacking]
        noted, warned = self._told(table)
        schema = pa.schema([(column, pa.string()) for column in columns])
        return Table(table, schema, (), (*notes, *noted), (*warnings, *warned))

    def partitions(self, table: Table, /, *, rows: int, bytes: int) -> Iterator[Partition]:
        """Slices of whole batches of the spool, which is made here if it was not yet."""
        ordinal = 0
        for name, layout in self._standing(table.name):
            same_columns(tuple(table.schema.names), layout.columns, name, self._tables[table.name][0])
            with open_file(self._base / name, name) as file:
                digest, size = self._fingerprint(file), file.size
                spool = self._spool(file, digest, layout, self._options.merged)
            for first, stop in spool.ranges(rows, bytes):
                count = sum(spool.rows[first:stop])
                token = _Token(
                    name, size, digest, layout, self._options.errors, self._options.merged, first, stop, count
                )
                yield Partition(table.name, ordinal, token.dump(), count, sum(spool.sizes[first:stop]))
                ordinal += 1

    def read(self, partition: Partition, /, columns: Sequence[str]) -> Iterator[Batch]:
        """The slice as one batch, with these columns in this order; an error cell counts if its column is one of them.

        Raises SourceError if the file has changed since the plan.
        """
        token = _Token.load(partition.token)
        unknown = [column for column in columns if column not in token.layout.columns]
        if unknown:
            raise SourceError(
                f"{token.file} has no column {unknown[0]!r}", hint=f"it has: {', '.join(token.layout.columns)}"
            )
        yield _Slice(self._rows(token), token).batch(columns)

    def count(self, partition: Partition, /) -> int:
        """The number of rows that are not blank, from the spool alone."""
        return int(self._rows(_Token.load(partition.token)).num_rows)

    # ------------------------------------------------------------------------------------------------- what stands where

    @cached_property
    def _tables(self) -> Mapping[str, Sequence[str]]:
        """The files of each table: all of them, or those with a sheet of its name."""
        if self._options.tables is not None:
            return dict.fromkeys(self._options.tables, self._files)
        found: dict[str, list[str]] = {}
        spelled: dict[str, str] = {}  # the first spelling of a name names the table
        for name in self._files:
            with open_file(self._base / name, name) as file, open_workbook(file) as book:
                for sheet in book.sheets():
                    if (sheet.visible or self._options.hidden) and self._layout(file, book, sheet.name):
                        table = spelled.setdefault(sheet.name.strip().casefold(), sheet.name)
                        found.setdefault(table, []).append(name)
        if not found:
            raise SourceError(
                f"no table in {', '.join(self._files)}: every sheet is empty or hidden",
                hint="hidden: true reads the hidden ones; tables: names where they stand",
            )
        return found

    def _told(self, table: str) -> tuple[Sequence[str], Sequence[str]]:
        """Notes and warnings on sheets that no table reads, for the table that was asked for first: not all may be mapped."""
        with self._lock:
            self._teller = self._teller or table
            return self._unread if self._teller == table else ((), ())

    @cached_property
    def _unread(self) -> tuple[Sequence[str], Sequence[str]]:
        """Notes on hidden sheets and warnings of visible ones that hold something, where no table reads them; by file."""
        notes: list[str] = []
        warnings: list[str] = []
        for name in self._files:
            with open_file(self._base / name, name) as file, open_workbook(file) as book:
                read = self._read(file, book)
                sheets = [sheet for sheet in book.sheets() if sheet.name not in read]
                hidden = [repr(sheet.name) for sheet in sheets if not sheet.visible]
                # Without `tables`, a visible sheet that is no table is an empty one.
                left = [s for s in sheets if s.visible and self._options.tables is not None and _holds(book, s)]
            if hidden and not self._options.hidden:
                notes.append(f"{name}: not read because hidden: {', '.join(hidden)}")
            if left:
                named = ", ".join(repr(sheet.name) for sheet in left)
                warnings.append(f"{name}: no table reads sheet{'s' * (len(left) > 1)} {named}, where something stands")
        return notes, warnings

    def _read(self, file: File, book: Workbook) -> set[str]:
        """The sheets that some table reads. A table that cannot be found reads none, as it will say itself."""
        found: set[str] = set()
        for table in self._tables:
            with suppress(SourceError):
                if file.name in self._tables[table] and (layout := self._layout(file, book, table)):
                    found.add(layout.sheet)
        return found

    def _standing(self, table: str) -> Iterator[tuple[str, Layout]]:
        """The files of a table, with where it stands in each."""
        if table not in self._tables:
            raise UsageError(f"no table {table!r} in the workbooks", hint=f"there are: {', '.join(self._tables)}")
        for name in self._tables[table]:
            with open_file(self._base / name, name) as file, open_workbook(file) as book:
                layout = self._layout(file, book, table)
            if layout is None:
                raise SourceError(
                    f"{name}: nothing stands where table {table!r} should",
                    hint="look at sheet and range under tables:, or leave the file out",
                )
            yield name, layout

    def _layout(self, file: File, book: Workbook, table: str) -> Layout | None:
        """Where a table stands, looked up once for each state of the file."""
        with self._lock:
            key = (file.state, table)
            if key not in self._layouts:
                known = self._options.tables
                definition = Definition(sheet=table) if known is None else known[table]
                self._layouts[key] = resolve(book, definition, file.name)
            return self._layouts[key]

    # --------------------------------------------------------------------------------------------------------- its rows

    def _rows(self, token: _Token) -> pa.Table:
        """The slice's rows, as its spool has them. Raises SourceError if the file has changed since the plan."""
        with open_file(self._base / token.file, token.file) as file:
            if file.size != token.size or self._fingerprint(file) != token.hash:
                raise SourceError(f"{token.file} has changed since the plan was made", hint=_CHANGED)
            spool = self._spool(file, token.hash, token.layout, token.merged)
        if token.stop > len(spool.rows) or sum(spool.rows[token.first : token.stop]) != token.rows:
            raise InternalError(
                f"{token.file}, sheet {token.layout.sheet!r}: batches {token.first} to {token.stop} are not the "
                f"{token.rows} rows of the plan",
                hint="report this; migrate run --restart plans anew",
            )
        return spool.read(token.first, token.stop)

    def _fingerprint(self, file: File) -> str:
        """The file's hash, computed once for each of its states."""
        state = file.state
        with self._lock:
            if state not in self._hashes:
                self._hashes[state] = file.fingerprint()
            return self._hashes[state]

    def _spool(self, file: File, digest: str, layout: Layout, merged: str) -> Spool:
        def make() -> Spool:
            state = file.state
            with open_workbook(file) as book:
                sheet = next((sheet for sheet in book.sheets() if sheet.name == layout.sheet), None)
                if sheet is None:
                    raise SourceError(f"{file.name} has changed since the plan was made", hint=_CHANGED)
                areas = book.merged(sheet) if merged == "fill" else None
                try:
                    spool = Spool(batches(book.cells(sheet), layout, areas), spool_schema(layout))
                except OSError as error:
                    raise SourceError(
                        f"{file.name}: its rows cannot be kept in {tempfile.gettempdir()}: {error.strerror or error}",
                        hint="make room there, or point TMPDIR at a larger disk",
                    ) from error
            if file.state != state:
                raise SourceError(f"{file.name} is still being written to", hint="run again when it is complete")
            return spool

        return self._spools.get((digest, layout, merged), make)


def _holds(book: Workbook, sheet: Sheet) -> bool:
    """Whether anything stands in a sheet; also where that cannot be read."""
    try:
        return any(cells.holding().any() for cells in book.cells(sheet))
    except SourceError:
        return True


@dataclass(frozen=True, slots=True)
class _Slice:
    """The rows of a partition, as the spool has them, and what to make of what is odd about some."""

    table: pa.Table
    token: _Token

    def batch(self, columns: Sequence[str]) -> Batch:
        layout, ordinals = self.token.layout, np.arange(self.table.num_rows)
        odd = self.table.column(1)
        values = {name: self.table.column(2 + layout.columns.index(name)) for name in columns}
        rejects: list[Reject] = []
        nulls: dict[str, list[int]] = {}
        if odd.null_count < len(odd):
            for ordinal in np.flatnonzero(odd.is_valid().to_numpy()).tolist():
                parts = json.loads(odd[ordinal].as_py())
                faults = [(c, said) for c, said in parts.get("faults", ()) if layout.columns[c] in values]
                if self.token.errors == "null":
                    for column, _ in (fault for fault in faults if fault[1].startswith(_NULLABLE)):
                        nulls.setdefault(layout.columns[column], []).append(ordinal)
                    faults = [fault for fault in faults if not fault[1].startswith(_NULLABLE)]
                if faults:
                    rejects.append(self._faulty(ordinal, faults))
                elif "beside" in parts:
                    rejects.append(self._wide(ordinal, parts["beside"]))
        for name, places in nulls.items():
            mask = np.zeros(self.table.num_rows, np.bool_)
            mask[places] = True
            values[name] = pc.if_else(pa.array(mask), pa.scalar(None, pa.string()), values[name])
        if rejects:
            keep = np.ones(self.table.num_rows, np.bool_)
            keep[[reject.ordinal for reject in rejects]] = False
            values = {name: column.filter(pa.array(keep)) for name, column in values.items()}
            ordinals = ordinals[keep]
        arrays = [values[name].combine_chunks() for name in columns]
        rows = pa.RecordBatch.from_arrays(arrays, schema=pa.schema([(name, pa.string()) for name in columns]))
        return Batch(rows, ordinals, self.locate, tuple(rejects))

    def locate(self, ordinals: Sequence[int]) -> list[Origin]:
        """Where these rows stand, and their cells as they were read: {letters: text} in JSON."""
        return [self._origin(int(ordinal)) for ordinal in ordinals]

    def _origin(self, ordinal: int, **more: str) -> Origin:
        layout = self.token.layout
        number = self.table.column(0)[ordinal].as_py()
        texts = {layout.left + i: self.table.column(2 + i)[ordinal].as_py() for i in range(len(layout.columns))}
        raw = {letters(column): text for column, text in texts.items() if text is not None}
        if odd := self.table.column(1)[ordinal].as_py():
            raw |= json.loads(odd).get("beside", {})
        cells = f"{letters(layout.left)}{number}:{letters(layout.right)}{number}"
        locator = {"file": self.token.file, "sheet": layout.sheet, "row": number, "cells": cells, **more}
        return Origin(locator, json.dumps(raw, ensure_ascii=False).encode())

    def _faulty(self, ordinal: int, faults: Sequence[tuple[int, str]]) -> Reject:
        layout = self.token.layout
        number = self.table.column(0)[ordinal].as_py()
        column, said = faults[0]
        cell = f"{letters(layout.left + column)}{number}"
        also = [f"{letters(layout.left + other)}{number}" for other, _ in faults[1:]]
        reason = f"{said} in {layout.columns[column]} ({layout.sheet}!{cell})"
        reason += f"; {', '.join(also)} cannot be read either" if also else ""
        value = self.table.column(2 + column)[ordinal].as_py()
        return Reject(ordinal, "cell", reason, self._origin(ordinal, cell=cell), layout.columns[column], value)

    def _wide(self, ordinal: int, beside: Mapping[str, str]) -> Reject:
        layout = self.token.layout
        number = self.table.column(0)[ordinal].as_py()
        cell = f"{next(iter(beside))}{number}"
        more = f" and {len(beside) - 1} more" if len(beside) > 1 else ""
        reason = (
            f"{layout.sheet}!{cell}{more} holds something beside the table's columns "
            f"{letters(layout.left)} to {letters(layout.right)}"
        )
        return Reject(ordinal, "fields", reason, self._origin(ordinal, cell=cell), None, next(iter(beside.values())))
