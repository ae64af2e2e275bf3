"""The values of records in parsed units, one list a row, and what of a record no column reads.

Each record's children are gone through once, by a tree of what the columns want: what is not wanted is seen as well, and so
is a second value for a column.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import numpy as np
import pyarrow as pa
from lxml import etree

from connectors.spool import BATCH_ROWS
from connectors.xmlform import NIL, Place
from connectors.xmlpath import XSI, Column, Records
from connectors.xmltags import local
from connectors.xmlunits import Damage, Frame, Sibling, Units

_SILENT = frozenset({NIL, f"{{{XSI}}}type", f"{{{XSI}}}schemaLocation", f"{{{XSI}}}noNamespaceSchemaLocation"})
_NULL = object()  # a value that is there and says that it is none
_BATCH_BYTES, _PACKED = 8 << 20, 256
_LOOKED = 16  # pieces that are looked at for text beside elements: as many at first, then one in as many
_TAG: Any = attrgetter("tag")
_BESIDE = etree.XPath("(//*[*][text()[normalize-space()]])[position() <= 20]")

META = pa.schema(
    [
        ("·start", pa.int64()),  # of the unit that the record is in
        ("·size", pa.int64()),
        ("·line", pa.int64()),
        ("·last", pa.int64()),  # of damage; 0 for records
        ("·number", pa.int64()),  # of the record among the elements of its local name in its unit, from 0
        *((name, pa.string()) for name in ("·rule", "·reason", "·column", "·value")),
    ]
)
"""What a row of a spool begins with; the columns follow. A row with a rule is a reject."""

Row = list[str | object | None]


@dataclass(slots=True)
class Wanted:
    """What the columns want of an element: its text, attributes and children; and what there was besides."""

    slot: int = -1
    attributes: dict[str, int] = field(default_factory=dict)
    children: dict[str, "Wanted"] = field(default_factory=dict)
    texts: dict[str, int] = field(default_factory=dict)  # of children of which the text is wanted and nothing else
    unread: set[str] = field(default_factory=set)


class Repeated(Exception):
    """A second value for a slot in one record."""

    def __init__(self, slot: int, first: object, second: object) -> None:
        super().__init__(slot)
        self.slot = slot
        self.values = [value for value in (first, second) if isinstance(value, str)]


def fill(element: etree._Element, wanted: Wanted, row: Row) -> None:
    """Put an element's values into their slots. Raises Repeated. The hot loop: what it does, it does for every element."""
    items: Any = element.items()
    for name, value in items:
        slot = wanted.attributes.get(name, -1)
        if slot >= 0:
            if row[slot] is not None:
                raise Repeated(slot, row[slot], value)
            row[slot] = value
        elif name not in _SILENT:
            wanted.unread.add("@" + name)
    slot = wanted.slot
    if slot >= 0:
        found = _value(element, items)
        if row[slot] is not None:
            raise Repeated(slot, row[slot], found)
        row[slot] = found
        if not wanted.children:
            return
    children, texts = wanted.children, wanted.texts
    for child in element:
        tag = child.tag
        slot = texts.get(tag, -1)
        if slot >= 0 and not len(child) and not child.keys():
            text = child.text or ""
            if row[slot] is not None:
                raise Repeated(slot, row[slot], text)
            row[slot] = text
        elif (below := children.get(tag)) is None:
            wanted.unread.add(tag)
        else:
            fill(child, below, row)


def _value(element: etree._Element, items: Sequence[tuple[Any, Any]]) -> object:
    """The whole text of an element, that of its children included; empty and nil is NULL."""
    text = "".join(map(str, element.itertext())) if len(element) else element.text or ""
    if not text and any(name == NIL and value.strip() in ("true", "1") for name, value in items):
        return _NULL
    return text


def compile_columns(columns: Sequence[tuple[int, Column]]) -> Wanted:
    """The tree of what these columns want, each with its slot."""
    root = Wanted()
    for slot, column in columns:
        node = root
        for step in column.steps:
            node = node.children.setdefault(step, Wanted())
        if column.attribute is None:
            node.slot = slot
        else:
            node.attributes[column.attribute] = slot
    _note_texts(root)
    return root


def _note_texts(wanted: Wanted) -> None:
    for tag, below in wanted.children.items():
        if below.slot >= 0 and not below.children and not below.attributes:
            wanted.texts[tag] = below.slot
        _note_texts(below)


class Extractor:
    """Rows of one table from the units of one file, collected into batches.

    `unit` says which step of the records' path is the unit. `opened` are the elements around the units, where columns want
    children of theirs. `beside` names an element with text beside its children that no column reads, if there is one.
    `siblings` are the elements of other names beside the records, where these stand in something that is a unit.
    """

    def __init__(self, records: Records, unit: int, opened: Sequence[etree._Element] = ()) -> None:
        self.records = records
        self.schema = pa.schema([*META, *((column.name, pa.string()) for column in records.columns)])
        self.wanted: Wanted = Wanted()
        self.beside = ""
        self.siblings: dict[str, Sibling] = {}
        self._inner = records.steps[unit + 1 :]
        self._unit_tag = records.steps[unit]
        self._alike = "{*}" + local(records.steps[-1])
        self._opened = opened
        self._width = len(records.columns)
        self._places = [slot for slot, column in enumerate(records.columns) if column.position]
        self._above: list[tuple[int, Wanted]] = []  # elements inside the unit, by how far above the record
        self._around: list[tuple[int, Wanted]] = []  # elements around the unit, by their number from the root
        by_level: dict[int, list[tuple[int, Column]]] = {0: []}
        for slot, column in enumerate(records.columns):
            if not column.position:
                by_level.setdefault(column.up, []).append((slot, column))
        for up, columns in by_level.items():
            level = len(records.steps) - 1 - up
            wanted = compile_columns(columns)
            if up == 0:
                self.wanted = wanted
            elif level >= unit:
                self._above.append((up, wanted))
            else:
                self._around.append((level, wanted))
        self._flat = not self._inner and not records.anywhere  # a record is a unit
        self._own = {slot: (column.steps, column.attribute) for slot, column in by_level[0]}
        self._looked = 0
        self._packed: list[pa.RecordBatch] = []
        self._filled = self._bytes = 0  # rows packed and bytes read since the last batch
        self._clear()

    def _clear(self) -> None:
        self._columns: list[list[object]] = [[] for _ in range(self._width)]
        self._starts: list[int] = []
        self._sizes: list[int] = []
        self._lines: list[int] = []
        self._lasts: dict[int, int] = {}
        self._numbers: list[int] = []
        self._rejects: dict[int, tuple[str, str, str | None, str | None]] = {}

    @property
    def captured(self) -> dict[int, frozenset[str]]:
        """The children that are wanted of the elements around the units, by their number from the root."""
        return {level: frozenset(wanted.children) for level, wanted in self._around if wanted.children}

    @property
    def values(self) -> frozenset[Place] | None:
        """Where in a unit all stands that the columns want of it, if each unit is a record; None otherwise."""
        return frozenset(self._own.values()) if self._flat else None

    def take(self, found: Units | Damage) -> Iterator[pa.RecordBatch]:
        """The rows of some units, or the one reject of a damage; batches as they are full."""
        if isinstance(found, Damage):
            number = self._place(found.start, found.end - found.start, found.line, 0)
            self._lasts[number] = found.last
            self._add([self._rejected(number, found.rule, found.reason, None)])
        else:
            self._take(found)
        if len(self._starts) >= _PACKED:
            self._pack()
        if self._filled >= BATCH_ROWS or self._bytes >= _BATCH_BYTES:
            yield self.rest()

    def rest(self) -> pa.RecordBatch:
        """What is left, as a batch."""
        self._pack()
        batch = pa.concat_batches(self._packed)
        self._packed.clear()
        self._filled = self._bytes = 0
        return batch

    def _pack(self) -> None:
        """Turn the rows at hand into Arrow while they are in the processor's cache."""
        count = len(self._starts)
        lasts = np.zeros(count, np.int64)
        lasts[list(self._lasts)] = list(self._lasts.values())
        numbers = [self._starts, self._sizes, self._lines, lasts, self._numbers]
        words = [pa.nulls(count, pa.string())] * 4
        if self._rejects:
            told = zip(*(self._rejects.get(i, (None,) * 4) for i in range(count)), strict=True)
            words = [pa.array(list(each), pa.string()) for each in told]
        batch = pa.RecordBatch.from_arrays(
            [*(pa.array(np.asarray(each, np.int64)) for each in numbers), *words, *map(_texts, self._columns)],
            schema=self.schema,
        )
        self._packed.append(batch)
        self._filled += count
        self._clear()

    def _take(self, units: Units) -> None:
        base, fault = self._surroundings(units.frames)
        self._bytes += sum(units.sizes)
        if units.plain is None:
            self._looked += 1
            if not self.beside and (self._looked < _LOOKED or self._looked % _LOOKED == 0):
                self.beside = self._text_beside(units.elements[0])
        if self._flat:
            self._take_flat(units, base, fault)
            return
        rows: list[Row] = []
        for place, unit in enumerate(units.elements, units.before + 1):
            at = place - units.before - 1
            numbers = {element: number for number, element in enumerate(unit.iter(self._alike))}
            for element, position, above in self._records(unit, place, base, units.lines[at]):
                number = self._place(units.starts[at], units.sizes[at], units.lines[at], numbers[element])
                if fault is not None:
                    rows.append(self._rejected(number, *fault))
                elif isinstance(above, Repeated):
                    rows.append(self._repeated(number, above))
                else:
                    rows.append(self._row(number, element, above, position))
        self._add(rows)

    def _take_flat(self, units: Units, base: Row, fault: tuple[str, str, str | None] | None) -> None:
        first, count = len(self._starts), len(units.starts)
        self._starts += units.starts
        self._sizes += units.sizes
        self._lines += units.lines
        self._numbers += [0] * count
        if fault is not None:
            self._add([self._rejected(first + at, *fault) for at in range(count)])
        elif units.plain is None:
            self._add([self._row(first + i, unit, base, units.before + i + 1) for i, unit in enumerate(units.elements)])
        else:
            for slot, column in enumerate(self._columns):
                if slot in self._places:
                    column += map(str, range(units.before + 1, units.before + count + 1))
                elif slot not in self._own:
                    column += [base[slot]] * count
                elif (at := units.plain.places.get(self._own[slot])) is not None:
                    column += units.plain.columns[at]
                else:
                    column += [None] * count

    def _row(self, number: int, element: etree._Element, above: Row, position: int) -> Row:
        row = above.copy()
        for slot in self._places:
            row[slot] = str(position)
        try:
            fill(element, self.wanted, row)
        except Repeated as repeated:
            return self._repeated(number, repeated)
        return row

    def _add(self, rows: Sequence[Row]) -> None:
        for column, values in zip(self._columns, zip(*rows, strict=True), strict=bool(rows)):
            column += values

    def _text_beside(self, unit: etree._Element) -> str:
        """The name of an element in this unit or its siblings that has text beside its children, which no column reads."""
        read = {tag for tag, wanted in _all_wanted(self.wanted, self.records.steps[-1]) if wanted.slot >= 0}
        mine = {tag for tag, _ in _all_wanted(self.wanted, self.records.steps[-1])}
        found: Any = _BESIDE(unit)
        return next((str(element.tag) for element in found if element.tag in mine and element.tag not in read), "")

    def elements(self, unit: etree._Element) -> Iterator[etree._Element]:
        """The records in a unit."""
        return (element for element, _, _ in self._records(unit, 0, [], 0))

    def _records(
        self, unit: etree._Element, place: int, base: Row, line: int
    ) -> Iterator[tuple[etree._Element, int, Row | Repeated]]:
        """The records in a unit, each with its position and a row that holds what stands in the elements above it."""
        for root in unit.iter(self._unit_tag) if self.records.anywhere else (unit,):
            if not self._inner:
                yield root, place, base
                continue
            for parent in _below(root, self._inner[:-1]):
                above = self._row_above(parent, base)
                for tag, count in Counter(map(_TAG, parent)).items():
                    if tag != self._inner[-1]:
                        known = self.siblings.setdefault(tag, Sibling(line, 0))
                        known.many = known.many or count > 1
                for position, element in enumerate(parent.iterchildren(self._inner[-1]), 1):
                    yield element, position, above

    def _row_above(self, parent: etree._Element, base: Row) -> Row | Repeated:
        row = base.copy()
        for up, wanted in self._above:
            element = parent
            for _ in range(up - 1):
                element = element.getparent()  # type: ignore[assignment]
            try:
                fill(element, wanted, row)
            except Repeated as repeated:
                return repeated
        return row

    def _surroundings(self, frames: Sequence[Frame]) -> tuple[Row, tuple[str, str, str | None] | None]:
        """A row with what stands in the elements around the units; and why that is no use, if it is not."""
        base: Row = [None] * self._width
        for level, wanted in self._around:
            frame = frames[level]
            if level and frame.doubt:
                reason = f"it is not sure that it belongs to the element on line {frame.line}: on line {frame.doubt} {_DAMAGED}"
                return base, ("structure", reason, None)
            element = self._opened[frame.number] if self._opened else frame.element
            try:
                fill(element, wanted, base)
            except Repeated as repeated:
                column = self.records.columns[repeated.slot]
                return base, ("repeated", _repeated(column), column.name)
        if self._places and not self._inner and frames and frames[-1].doubt:
            column = self.records.columns[self._places[0]]
            return base, (
                "structure",
                f"its position() is not sure: on line {frames[-1].doubt} {_DAMAGED}",
                column.name,
            )
        return base, None

    def _repeated(self, number: int, repeated: Repeated) -> Row:
        column = self.records.columns[repeated.slot]
        values = ", ".join(value[:60] for value in repeated.values)
        return self._rejected(number, "repeated", _repeated(column), column.name, values)

    def _place(self, start: int, size: int, line: int, number: int) -> int:
        """Note where the next row stands. Returns its number since the last pack."""
        self._starts.append(start)
        self._sizes.append(size)
        self._lines.append(line)
        self._numbers.append(number)
        return len(self._starts) - 1

    def _rejected(self, number: int, rule: str, reason: str, column: str | None, value: str | None = None) -> Row:
        self._rejects[number] = rule, reason, column, value
        return [None] * self._width


def _texts(values: Sequence[object]) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except pa.ArrowException:  # there is a NULL of the file's own
        return pa.array([None if value is _NULL else value for value in values], pa.string())


_DAMAGED = "the file is damaged, and a part of it may be lost"


def _repeated(column: Column) -> str:
    return f"{column.path} stands in it more than once: a column has one value; what repeats is a table of its own"


def _below(element: etree._Element, steps: Sequence[str]) -> Iterator[etree._Element]:
    if not steps:
        yield element
    for child in element.iterchildren(steps[0]) if steps else ():
        yield from _below(child, steps[1:])


def _all_wanted(wanted: Wanted, tag: str) -> Iterator[tuple[str, Wanted]]:
    yield tag, wanted
    for name, below in wanted.children.items():
        yield from _all_wanted(below, name)


def unread(wanted: Wanted, prefix: str = "") -> Iterator[str]:
    """The paths that were seen and that no column reads, names as `{uri}local`."""
    for name in sorted(wanted.unread):
        yield prefix + name
    for step, below in wanted.children.items():
        yield from unread(below, f"{prefix}{step}/")
