"""A table in a worksheet: where it stands, what its columns are called, and its rows as batches of texts."""

import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from connectors.cells import Cells, letters
from connectors.dialect import clean_names
from connectors.spool import BATCH_ROWS
from connectors.workbook import Area, Merge, Named, Sheet, Workbook, parse_area
from migrate.errors import SourceError

Texts = Mapping[int, str]
"""The texts of a row by column."""

_WHOLE = Area(None, None, None, None)
_SMALL = 16 << 20  # bytes of a sheet that is read through for its merged cells; those made by people are smaller


@dataclass(frozen=True, slots=True)
class Definition:
    """Where a table stands, as the project file says it. `header`: its rows; () is none, None the first that holds any."""

    sheet: str | None = None
    range: str | None = None
    header: tuple[int, ...] | None = None
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a table stands in one workbook. JSON-able by `dump`.

    Its rows are those from `top` (to `bottom`), its columns the letters from `left` on. `bounded`: what stands beside
    them is no concern of the table's.
    """

    sheet: str
    left: int
    top: int
    bottom: int | None
    bounded: bool
    columns: tuple[str, ...]
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def right(self) -> int:
        return self.left + len(self.columns) - 1

    def dump(self) -> dict[str, Any]:
        parts = asdict(self)
        del parts["notes"]
        return parts

    @staticmethod
    def load(parts: Mapping[str, Any]) -> "Layout":
        return Layout(**{**parts, "columns": tuple(parts["columns"])})


# --------------------------------------------------------------------------------------------------- where it stands


def resolve(book: Workbook, definition: Definition, file: str) -> Layout | None:
    """Where the table stands in this workbook; None if nothing does stand there. Raises SourceError with what there is."""
    sheet, area, named = _place(book, definition, file)
    header = () if named and named.columns else definition.header
    blocks: Iterable[Cells] = book.cells(sheet)
    if header is None:
        first = _first_row(blocks, area)
        if first is None:
            return None
        header, blocks = (first[0],), (first[1],)
    several = len(header) > 1
    merged = book.merged(sheet) if several or book.size(sheet) <= _SMALL else ()
    notes = [f"sheet {sheet.name!r}"]
    if header:
        texts = _header(blocks, header, area, merged)
        shown = "-".join(str(row) for row in dict.fromkeys((header[0], header[-1])))
        left, width = _extent(texts, area)
        if not width:
            raise SourceError(
                f"{file}: row {shown} of sheet {sheet.name!r} names no column",
                hint="say where the header is (header: 3) or that there is none (header: none, columns: [...])",
            )
        names, renamed = clean_names([texts.get(column, "") for column in range(left, left + width)])
        top = max(header[-1] + 1, area.top or 1)
        notes.append(f"header in row {shown}")
    else:
        left, width = _used(blocks, area)
        given = named.columns if named and named.columns else ()
        if not (width or definition.columns or given):
            return None
        if area.left is None and definition.columns:
            width = len(definition.columns)
        names, renamed = clean_names(given) if given else (tuple(f"column_{i + 1}" for i in range(width)), [])
        top = area.top or 1
        notes.append("no header")
    if definition.columns:
        if len(definition.columns) != len(names):
            raise SourceError(
                f"{file}: the table in sheet {sheet.name!r} has {len(names)} columns, {letters(left)} to "
                f"{letters(left + len(names) - 1)}, but 'columns' names {len(definition.columns)}",
                hint="make the option 'columns' as long as the table is wide, or give its range",
            )
        names, renamed = definition.columns, []
    notes.append(f"columns {letters(left)} to {letters(left + len(names) - 1)} ({len(names)})")
    notes += [f"header renamed: {', '.join(renamed)}"] if renamed else []
    notes += ["dates count from 1904"] if book.epoch_1904 else []
    bottom = area.bottom if named is None or area.bottom is None else area.bottom - named.totals
    notes += ["without the row of totals"] if named and named.totals else []
    layout = Layout(sheet.name, left, top, bottom, area.left is not None and area.right is not None, tuple(names))
    if inside := sum(1 for each in merged if _meets(each, layout)):
        notes.append(f"{inside} merged area{'s' * (inside != 1)} among the rows")
    return replace(layout, notes=(f"{file}: {', '.join(notes)}",))


def find_sheet(book: Workbook, wanted: str | None, file: str) -> Sheet:
    """The sheet of this name, or else the visible one of this number from 1. Raises SourceError with those there are."""
    sheets = book.sheets()
    visible = [sheet for sheet in sheets if sheet.visible]
    name = wanted or "1"
    for same in (
        lambda sheet: sheet.name == name,
        lambda sheet: sheet.name.strip().casefold() == name.strip().casefold(),
    ):
        if found := next(filter(same, sheets), None):
            return found
    if name.isdecimal() and 1 <= int(name) <= len(visible):
        return visible[int(name) - 1]
    names = {sheet.name.casefold(): sheet.name for sheet in sheets}
    near = get_close_matches(name.casefold(), names, 1)
    there = ", ".join(repr(sheet.name) + ("" if sheet.visible else " (hidden)") for sheet in sheets) or "no worksheet"
    raise SourceError(
        f"{file} has no sheet {name!r}",
        hint=f"did you mean {names[near[0]]!r}? There are: {there}" if near else f"there are: {there}",
    )


def _place(book: Workbook, definition: Definition, file: str) -> tuple[Sheet, Area, Named | None]:
    """The sheet and the area, and the name that said so."""
    if definition.range is None:
        return find_sheet(book, definition.sheet, file), _WHOLE, None
    area = parse_area(definition.range)
    if area is not None:
        return find_sheet(book, definition.sheet, file), area, None
    names = {name.casefold(): (name, named) for name, named in book.names().items()}
    if definition.range.casefold() not in names:
        near = get_close_matches(definition.range.casefold(), names, 1)
        there = ", ".join(name for name, _ in names.values()) or "none"
        raise SourceError(
            f"{file} has no name or table {definition.range!r}",
            hint=f"did you mean {names[near[0]][0]!r}?"
            if near
            else f"its names are: {there}; cells are given as B3:K500",
        )
    name, named = names[definition.range.casefold()]
    sheet = find_sheet(book, named.sheet, file)
    if definition.sheet is not None and find_sheet(book, definition.sheet, file) != sheet:
        raise SourceError(
            f"{file}: {name} stands in sheet {sheet.name!r}, not in {definition.sheet!r}", hint="leave out the sheet"
        )
    return sheet, named.area, named


def _inside(cells: Cells, area: Area) -> npt.NDArray[np.bool_]:
    """Which cells are in the area and hold something."""
    holds = cells.holding()
    holds &= cells.columns >= (area.left or 0)
    holds &= cells.rows >= (area.top or 0)
    if area.right is not None:
        holds &= cells.columns <= area.right
    if area.bottom is not None:
        holds &= cells.rows <= area.bottom
    return holds


def _first_row(blocks: Iterable[Cells], area: Area) -> tuple[int, Cells] | None:
    """The first row that holds anything, and the block that has it."""
    for cells in blocks:
        inside = np.flatnonzero(_inside(cells, area))
        if inside.size:
            return int(cells.rows[inside[0]]), cells
        if area.bottom is not None and cells.rows[-1] > area.bottom:
            return None
    return None


def _used(blocks: Iterable[Cells], area: Area) -> tuple[int, int]:
    """The first column and the number of them: the area's, or else those that the first rows use."""
    if area.left is not None and area.right is not None:
        return area.left, area.right - area.left + 1
    for cells in blocks:
        columns = cells.columns[_inside(cells, area)]
        if columns.size:
            left = int(columns.min()) if area.left is None else area.left
            return left, int(columns.max()) - left + 1
    return area.left or 0, 0


def _header(blocks: Iterable[Cells], rows: Sequence[int], area: Area, merged: Sequence[Merge]) -> dict[int, str]:
    """The names of columns: the texts of these rows, a merged one over all its columns, joined from above."""
    texts: dict[int, dict[int, str]] = {row: {} for row in range(rows[0], rows[-1] + 1)}
    within = Area(area.left, rows[0], area.right, rows[-1])
    for cells in blocks:
        for i in np.flatnonzero(_inside(cells, within)).tolist():
            texts[int(cells.rows[i])][int(cells.columns[i])] = " ".join(cells.text(i).split())
        if cells.rows[-1] >= rows[-1]:
            break
    for each in merged:
        text = texts.get(each.top, {}).get(each.left)
        for column in range(each.left, each.right + 1) if text else ():
            if area.right is None or column <= area.right:
                texts[each.top].setdefault(column, text or "")
    joined: dict[int, str] = {}
    for row in texts.values():
        for column, text in row.items():
            joined[column] = f"{joined[column]} {text}" if joined.get(column) else text
    return joined


def _extent(texts: Texts, area: Area) -> tuple[int, int]:
    """The first column and their number: the area's edges, or else those of the header."""
    named = [column for column, text in texts.items() if text]
    if not named:
        return 0, 0
    left = min(named) if area.left is None else area.left
    return left, (max(named) if area.right is None else area.right) - left + 1


def _meets(area: Merge, layout: Layout) -> bool:
    beside = area.right < layout.left or area.left > layout.right
    return not beside and area.top >= layout.top and (layout.bottom is None or area.top <= layout.bottom)


# ----------------------------------------------------------------------------------------------------------- its rows


def spool_schema(layout: Layout) -> pa.Schema:
    """A row of a spool: its number in the sheet, what is odd about it (JSON, or NULL), and the table's columns."""
    return pa.schema([("", pa.int32()), ("", pa.string()), *((name, pa.string()) for name in layout.columns)])


def batches(blocks: Iterator[Cells], layout: Layout, merged: Sequence[Merge] | None) -> Iterator[pa.RecordBatch]:
    """The rows that are not blank, BATCH_ROWS at a time. `merged`: areas whose first cell's value fills them.

    What is odd about a row: {"faults": [[column, reason], …], "beside": {letters: text}}, columns from 0 in the table.
    """
    schema = spool_schema(layout)
    filler = _Filler([each for each in merged or () if _meets(each, layout)], layout)
    rest = pa.RecordBatch.from_pylist([], schema)
    ended = False
    for cells in blocks:
        if ended:  # read on all the same: that the sheet is sound is known at its end
            continue
        batch = _rows(cells, layout, filler, schema)
        missing = min(BATCH_ROWS - rest.num_rows, batch.num_rows)
        rest = pa.concat_batches([rest, batch.slice(0, missing)]) if rest.num_rows else batch.slice(0, missing)
        while rest.num_rows == BATCH_ROWS:
            yield rest
            rest, missing = batch.slice(missing, BATCH_ROWS), missing + BATCH_ROWS
        ended = layout.bottom is not None and bool(cells.rows.size) and bool(cells.rows[-1] > layout.bottom)
    if rest.num_rows:
        yield rest


def _rows(cells: Cells, layout: Layout, filler: "_Filler", schema: pa.Schema) -> pa.RecordBatch:
    edges = (layout.left, layout.right) if layout.bounded else (None, None)
    holds = _inside(cells, Area(edges[0], layout.top, edges[1], layout.bottom))
    begins = np.flatnonzero(np.diff(cells.rows, prepend=0))  # the first cell of each row
    alive = np.logical_or.reduceat(holds, begins)
    rows = cells.rows[begins[alive]]
    lengths = np.diff(begins, append=cells.rows.size)
    live = np.repeat(alive, lengths)
    position = np.repeat(np.cumsum(alive) - 1, lengths)
    column = cells.columns - layout.left
    own = (column >= 0) & (column < len(layout.columns)) & live
    index = np.full((len(layout.columns), rows.size), -1, np.int64)
    index[column[own], position[own]] = np.flatnonzero(own)
    faults = filler(cells, rows, index)
    odd = _odd(index, faults)
    for i in np.flatnonzero(holds & ~own).tolist():
        beside = odd.setdefault(int(position[i]), {}).setdefault("beside", {})
        beside[letters(int(cells.columns[i]))] = cells.text(i)
    said: list[str | None] = [None] * rows.size
    for at, parts in odd.items():
        said[at] = json.dumps(parts, ensure_ascii=False)
    pool, places = filler.texts(cells)
    columns = [_taken(pool, places, each) for each in index]
    return pa.RecordBatch.from_arrays(
        [pa.array(rows, pa.int32()), pa.array(said, pa.string()), *columns], schema=schema
    )


def _taken(pool: pa.StringArray, places: npt.NDArray[np.int64], which: npt.NDArray[np.int64]) -> pa.StringArray:
    """The texts of these cells, NULL for -1."""
    blank = which < 0
    return pool.take(pa.array(places[which], mask=blank if blank.any() else None))


def _odd(index: npt.NDArray[np.int64], faults: Mapping[int, str]) -> dict[int, dict[str, Any]]:
    """The faults by row, each with its column."""
    odd: dict[int, dict[str, Any]] = {}
    if faults:
        for at, column in np.argwhere(np.isin(index.T, list(faults))).tolist():
            odd.setdefault(at, {}).setdefault("faults", []).append([column, faults[int(index[column, at])]])
    return odd


class _Filler:
    """Puts the value of merged cells in all of them, also where they go on in the next block."""

    def __init__(self, areas: Sequence[Merge], layout: Layout) -> None:
        self._areas = sorted(areas, key=lambda area: area.top)
        self._tops = [area.top for area in self._areas]
        self._layout = layout
        self._next = 0
        self._open: list[tuple[Merge, str, str | None]] = []
        self._more: list[str] = []

    def __call__(self, cells: Cells, rows: npt.NDArray[np.int64], index: npt.NDArray[np.int64]) -> Mapping[int, str]:
        """Fill in `index`, with places behind those of the cells; the faults, of both."""
        self._more = []
        if not self._areas or not rows.size:
            return cells.faults
        last = int(cells.rows[-1])
        stop = bisect_right(self._tops, last)
        for area in self._areas[self._next : stop]:
            first, behind = np.searchsorted(cells.rows, (area.top, area.top + 1))
            at = int(first + np.searchsorted(cells.columns[first:behind], area.left))
            if at < behind and cells.columns[at] == area.left:
                self._open.append((area, cells.text(at), cells.faults.get(at)))
        self._next = stop
        faults = dict(cells.faults)
        for area, text, fault in self._open:
            place = cells.rows.size + len(self._more)
            self._more.append(text)
            if fault is not None:
                faults[place] = fault
            above, below = np.searchsorted(rows, (area.top, area.bottom + 1))
            left = max(area.left - self._layout.left, 0)
            part = index[left : area.right - self._layout.left + 1, above:below]
            part[part < 0] = place
        self._open = [each for each in self._open if each[0].bottom > last]
        return faults

    def texts(self, cells: Cells) -> tuple[pa.StringArray, npt.NDArray[np.int64]]:
        """The pool that `index` is filled from, and the places in it."""
        if not self._more:
            return cells.pool, cells.places
        places = np.concatenate([cells.places, len(cells.pool) + np.arange(len(self._more))])
        return pa.concat_arrays([cells.pool, pa.array(self._more, pa.string())]), places


def header_rows(text: str) -> tuple[int, ...] | None:
    """`none` as (), `3` as (3,), `3-4` as (3, 4); None for what is neither."""
    if text.strip().lower() == "none":
        return ()
    found = re.fullmatch(r"\s*([1-9][0-9]{0,6})(?:\s*-\s*([1-9][0-9]{0,6}))?\s*", text)
    if found is None or (found[2] and int(found[2]) < int(found[1])):
        return None
    return (int(found[1]), int(found[2])) if found[2] else (int(found[1]),)
