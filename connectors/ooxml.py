"""Workbooks in Office Open XML (`.xlsx`, `.xlsm`): streamed, so that memory does not grow with the sheet."""

import mmap
import re
import tempfile
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors import sheetxml
from connectors.cells import (
    PLAIN,
    UNCALCULATED,
    Assembly,
    Cells,
    Forms,
    form_of,
    moments,
    numbers,
    rewritten,
    unescape,
    unescaped,
)
from connectors.sheetxml import Malformed, RawCells
from connectors.workbook import (
    Merge,
    Named,
    Sheet,
    damaged,
    parse_area,
    parse_merge,
    parse_reference,
    part_of,
    relations,
    xml_part,
)

_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_STRICT_RELATION = "{http://purl.oclc.org/ooxml/officeDocument/relationships}id"
_ISO = r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?)?$"


_KEPT = 4  # workbooks whose shared strings are kept, since each is opened for its header and again for its rows
_strings: OrderedDict[Hashable, pa.LargeStringArray | pa.StringArray] = OrderedDict()
_strings_lock = threading.Lock()


class Xlsx:
    """`Workbook` over an archive; `identity` tells the state of its file from every other."""

    def __init__(self, archive: zipfile.ZipFile, name: str, identity: Hashable) -> None:
        self._archive = archive
        self._identity = identity
        self._name = name
        self._root = self._target("", "officeDocument") or "xl/workbook.xml"
        self._book = xml_part(self._archive, self._root, self._name)
        properties = next(iter(self._book.iter("{*}workbookPr")), None)
        self.epoch_1904 = properties is not None and properties.get("date1904") in ("1", "true")

    def sheets(self) -> Sequence[Sheet]:
        found = []
        relations = self._related(self._root)
        for element in self._book.iter("{*}sheet"):
            kind, target = relations.get(element.get(_RELATION) or element.get(_STRICT_RELATION) or "", ("", ""))
            if kind == "worksheet":
                found.append(Sheet(element.get("name"), element.get("state", "visible") == "visible", target))
        return found

    def names(self) -> Mapping[str, Named]:
        """Defined names that stand for one area, and the names of tables."""
        found: dict[str, Named] = {}
        for element in self._book.iter("{*}definedName"):
            reference = parse_reference(element.text or "")
            if reference and not element.get("name", "").startswith("_xlnm."):
                found[element.get("name")] = Named(*reference)
        for sheet in self.sheets():
            for kind, target in self._related(sheet.place).values():
                if kind == "table":
                    name, named = self._table(target, sheet.name)
                    found[name] = named
        return found

    def size(self, sheet: Sheet, /) -> int:
        return self._archive.NameToInfo[sheet.place].file_size if sheet.place in self._archive.NameToInfo else 0

    def merged(self, sheet: Sheet, /) -> Sequence[Merge]:
        with part_of(self._archive, sheet.place, self._name) as part:
            references = sheetxml.merged_areas(part)
        return [merge for merge in map(parse_merge, references) if merge]

    def cells(self, sheet: Sheet, /) -> Iterator[Cells]:
        try:
            with part_of(self._archive, sheet.place, self._name) as part:
                for raw in sheetxml.raw_cells(part):
                    yield self._finished(raw)
        except Malformed as error:
            raise damaged(self._name, f"sheet {sheet.name!r}: {error}") from error

    def _finished(self, raw: RawCells) -> Cells:
        """Each kind of cell made text in one go."""
        made = Assembly(raw.rows.size)
        number = raw.kinds == sheetxml.NUMBER
        forms = self._forms[np.where(raw.styles < self._forms.size, raw.styles, 0)]
        ways: Sequence[tuple[Any, Callable[[pa.StringArray, Any], tuple[pa.StringArray, Mapping[int, str]]]]] = (
            (number & (forms == PLAIN), lambda texts, _: numbers(texts)),
            (number & (forms != PLAIN), lambda texts, at: self._moments(texts, forms[at])),
            (raw.kinds == sheetxml.SHARED, lambda texts, _: (self._shared(texts), {})),
            (raw.kinds == sheetxml.BOOLEAN, lambda texts, _: (_boolean(texts), {})),
            (raw.kinds == sheetxml.TEXT, lambda texts, _: (unescape(texts), {})),
            (raw.kinds == sheetxml.MOMENT, lambda texts, _: (_iso(texts), {})),
            (raw.kinds == sheetxml.ERROR, lambda texts, _: (texts, dict(enumerate(texts.to_pylist())))),
            (raw.kinds == sheetxml.FORMULA, lambda texts, _: (texts, dict.fromkeys(range(len(texts)), UNCALCULATED))),
        )
        for chosen, text_of in ways:
            at = np.flatnonzero(chosen)
            if at.size:
                made.put(at, *text_of(raw.texts(at), at))
        return made.cells(raw.rows, raw.columns)

    def _moments(self, texts: pa.StringArray, forms: Forms) -> tuple[pa.StringArray, dict[int, str]]:
        faults: dict[int, str] = {}
        spelled = texts
        try:
            values = pc.cast(texts, pa.float64())
        except pa.ArrowInvalid:  # some are no numbers
            spelled, faults = numbers(texts)
            values = pc.cast(rewritten(spelled, _among(faults, len(texts)), lambda _: "-1"), pa.float64())
        behind = pc.subtract(pc.binary_length(spelled), pc.find_substring(spelled, "."))
        made, none = moments(
            values.to_numpy(),
            forms,
            epoch_1904=self.epoch_1904,
            digits=behind.to_numpy().astype(np.int64) - 1,
        )
        return (pc.if_else(_among(faults, len(texts)), texts, made) if faults else made), none | faults

    def _shared(self, indices: pa.StringArray) -> pa.StringArray:
        try:
            at = pc.cast(indices, pa.int64())
            taken = self._strings.take(at)
        except (pa.ArrowInvalid, IndexError) as error:
            raise Malformed(f"a cell refers to a shared string that is not there ({error})") from error
        return taken.cast(pa.string())

    # -------------------------------------------------------------------------------------------------------- the parts

    def _table(self, path: str, sheet: str) -> tuple[str, Named]:
        """A table's name, and what it stands for."""
        element = xml_part(self._archive, path, self._name)
        name = element.get("displayName") or element.get("name") or ""
        area = parse_area(element.get("ref", ""))
        if area is None:
            raise damaged(self._name, f"the table {name!r} stands nowhere")
        headed = element.get("headerRowCount", "1") != "0"
        columns = [" ".join(unescaped(each.get("name", "")).split()) for each in element.iter("{*}tableColumn")]
        return name, Named(sheet, area, () if headed else tuple(columns), int(element.get("totalsRowCount") or 0))

    def _related(self, part: str) -> dict[str, tuple[str, str]]:
        return relations(self._archive, part, self._name)

    def _target(self, part: str, kind: str) -> str | None:
        return next((target for found, target in self._related(part).values() if found == kind), None)

    @cached_property
    def _forms(self) -> Forms:
        """For each style of cells, what it makes of a number."""
        path = self._target(self._root, "styles")
        if path is None:
            return np.array([PLAIN], np.uint8)
        root = xml_part(self._archive, path, self._name)
        codes = {int(e.get("numFmtId")): e.get("formatCode") for e in root.iter("{*}numFmt") if e.get("numFmtId")}
        styles = next(iter(root.iter("{*}cellXfs")), ())
        forms = [form_of(number, codes.get(number)) for number in (int(e.get("numFmtId") or 0) for e in styles)]
        return np.array(forms or [PLAIN], np.uint8)

    @cached_property
    def _strings(self) -> pa.LargeStringArray | pa.StringArray:
        """The shared strings, mapped from a file without a name: a book may have more of them than memory."""
        path = self._target(self._root, "sharedStrings")
        if path is None:
            return pa.array([], pa.string())
        with _strings_lock:
            key = (self._identity, path)
            if key not in _strings:
                with (
                    part_of(self._archive, path, self._name) as part,
                    tempfile.TemporaryFile(prefix="migrate-") as file,
                ):
                    _strings[key] = _mapped(sheetxml.raw_strings(part), file)
                while len(_strings) > _KEPT:
                    _strings.popitem(last=False)
            _strings.move_to_end(key)
            return _strings[key]


def _mapped(blocks: Iterator[pa.StringArray], file: IO[bytes]) -> pa.LargeStringArray | pa.StringArray:
    offsets, size = [np.zeros(1, np.int64)], 0
    for block in blocks:
        texts = unescape(block)
        if len(texts):
            ends = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(
                np.int64
            )
            file.write(texts.buffers()[2][int(ends[0]) : int(ends[-1])])
            offsets.append(ends[1:] - ends[0] + size)
            size = int(offsets[-1][-1])
    file.flush()
    every = np.concatenate(offsets)
    data = pa.py_buffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) if size else pa.py_buffer(b"")
    if size < 1 << 31:
        return pa.StringArray.from_buffers(every.size - 1, pa.py_buffer(every.astype(np.int32)), data)
    return pa.LargeStringArray.from_buffers(every.size - 1, pa.py_buffer(every), data)


def _among(places: Iterable[int], size: int) -> pa.BooleanArray:
    """Which of so many are these."""
    mask = np.zeros(size, np.bool_)
    mask[list(places)] = True
    return pa.array(mask)


def _boolean(texts: pa.StringArray) -> pa.StringArray:
    return pc.if_else(pc.equal(texts, "1"), "true", pc.if_else(pc.equal(texts, "0"), "false", texts))


def _iso(texts: pa.StringArray) -> pa.StringArray:
    """`2020-01-31T12:30:00` with a blank, as every other moment has; midnight of a bare day stays a day."""
    return pa.array(
        [text.replace("T", " ", 1) if re.match(_ISO, text) else text for text in texts.to_pylist()], pa.string()
    )
