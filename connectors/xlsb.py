"""Workbooks in Excel's binary format (`.xlsb`), streamed record by record, as [MS-XLSB] describes them."""

import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import IO

from connectors.cells import PLAIN, Cells, ErrorText, form_of, from_values
from connectors.workbook import Merge, Named, Sheet, damaged, part_of, relations

_ROW, _RK, _ERROR, _BOOLEAN, _REAL, _STRING, _SHARED = 0, 2, 3, 4, 5, 6, 7
_FORMULA_STRING, _FORMULA_NUMBER, _FORMULA_BOOLEAN, _FORMULA_ERROR, _RICH = 8, 9, 10, 11, 62
_ITEM, _FORMAT, _STYLE, _BOOK_PROPERTIES, _SHEET, _MERGED = 19, 44, 47, 153, 156, 176
_BEGIN_STYLES, _END_STYLES = 617, 618
_ERRORS = {
    0x00: "#NULL!", 0x07: "#DIV/0!", 0x0F: "#VALUE!", 0x17: "#REF!", 0x1D: "#NAME?", 0x24: "#NUM!", 0x2A: "#N/A",
    0x2B: "#GETTING_DATA",
}  # fmt: skip
_BOOK = "xl/workbook.bin"
_BLOCK, _LETTERS = 65_536, 4 << 20  # cells made text at a time, and characters of their texts


class Xlsb:
    """`Workbook` over an archive."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self._archive = archive
        self._name = name
        self._sheets: list[Sheet] = []
        self.epoch_1904 = False
        parts = relations(self._archive, _BOOK, self._name)
        for kind, data in self._records(_BOOK):
            if kind == _BOOK_PROPERTIES:
                self.epoch_1904 = bool(data[0] & 1)
            elif kind == _SHEET:
                state = struct.unpack_from("<I", data)[0]
                relation, end = _string(data, 8)
                type_, target = parts.get(relation, ("", ""))
                if type_ == "worksheet":
                    self._sheets.append(Sheet(_string(data, end)[0], state == 0, target))

    def sheets(self) -> Sequence[Sheet]:
        return self._sheets

    def names(self) -> Mapping[str, Named]:
        """None: what a name stands for is a compiled formula in this format."""
        return {}

    def size(self, sheet: Sheet, /) -> int:
        return self._archive.NameToInfo[sheet.place].file_size if sheet.place in self._archive.NameToInfo else 0

    def merged(self, sheet: Sheet, /) -> Sequence[Merge]:
        areas = [struct.unpack_from("<4I", data) for kind, data in self._records(sheet.place) if kind == _MERGED]
        return [Merge(left, top + 1, right, bottom + 1) for top, bottom, left, right in areas]

    def cells(self, sheet: Sheet, /) -> Iterator[Cells]:
        found: list[tuple[int, int, object, int]] = []
        row = letters = 0
        for kind, data in self._records(sheet.place):
            if kind == _ROW:
                if len(found) >= _BLOCK or letters >= _LETTERS:
                    yield from_values(found, epoch_1904=self.epoch_1904)
                    found, letters = [], 0
                number = struct.unpack_from("<I", data)[0] + 1
                if number <= row:
                    raise damaged(self._name, f"row {number} stands behind row {row}")
                row = number
            elif kind in _READERS:
                column, style = struct.unpack_from("<II", data)
                style &= 0xFFFFFF
                form = self._forms[style] if style < len(self._forms) else PLAIN
                value = self._value(kind, data)
                letters += len(value) if isinstance(value, str) else 0
                found.append((row, column, value, form))
        if found:
            yield from_values(found, epoch_1904=self.epoch_1904)

    def _value(self, kind: int, data: bytes) -> object:
        if kind == _SHARED:
            index: int = struct.unpack_from("<I", data, 8)[0]
            if index >= len(self._strings):
                raise damaged(self._name, f"there is no shared string {index}")
            return self._strings[index]
        return _READERS[kind](data)

    @cached_property
    def _forms(self) -> Sequence[int]:
        """For each style of cells, what it makes of a number."""
        codes: dict[int, str] = {}
        forms: list[int] = []
        within = False
        path = next((t for kind, t in relations(self._archive, _BOOK, self._name).values() if kind == "styles"), None)
        for kind, data in self._records(path) if path else ():
            if kind == _FORMAT:
                codes[struct.unpack_from("<H", data)[0]] = _string(data, 2)[0]
            elif kind in (_BEGIN_STYLES, _END_STYLES):
                within = kind == _BEGIN_STYLES
            elif kind == _STYLE and within:
                number = struct.unpack_from("<H", data, 2)[0]
                forms.append(form_of(number, codes.get(number)))
        return forms

    @cached_property
    def _strings(self) -> Sequence[str]:
        path = next(
            (t for kind, t in relations(self._archive, _BOOK, self._name).values() if kind == "sharedStrings"), None
        )
        return [_string(data, 1)[0] for kind, data in self._records(path) if kind == _ITEM] if path else []

    def _records(self, path: str) -> Iterator[tuple[int, bytes]]:
        """The records of a part: their types and their data."""
        with part_of(self._archive, path, self._name) as part:
            try:
                yield from _records(part)
            except (struct.error, IndexError, UnicodeDecodeError) as error:
                raise damaged(self._name, f"{path}: {error}") from error


def _records(part: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    data, at = b"", 0
    while True:
        if len(data) - at < 8 and (more := part.read(1 << 20)):
            data, at = data[at:] + more, 0
        if at == len(data):
            return
        kind = data[at]
        at += 1
        if kind & 0x80:
            kind = kind & 0x7F | (data[at] & 0x7F) << 7
            at += 1
        size = shift = 0
        while True:
            byte = data[at]
            at += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80 or shift == 28:
                break
        while len(data) - at < size:
            more = part.read(max(size - len(data) + at, 1 << 20))
            if not more:
                raise IndexError("a record ends too early")
            data, at = data[at:] + more, 0
        yield kind, data[at : at + size]
        at += size


def _string(data: bytes, at: int) -> tuple[str, int]:
    """The string at this place, and where it ends."""
    size = struct.unpack_from("<I", data, at)[0]
    if size == 0xFFFF_FFFF:
        return "", at + 4
    end = at + 4 + 2 * size
    if end > len(data):
        raise IndexError("a string ends too early")
    return data[at + 4 : end].decode("utf-16-le"), end


def _rk(data: bytes) -> float:
    packed = struct.unpack_from("<I", data, 8)[0]
    if packed & 2:
        value = float(struct.unpack_from("<i", data, 8)[0] >> 2)
    else:
        value = struct.unpack("<d", struct.pack("<Q", (packed & 0xFFFF_FFFC) << 32))[0]
    return value / 100 if packed & 1 else value


def _real(data: bytes) -> float:
    value: float = struct.unpack_from("<d", data, 8)[0]
    return value


def _boolean(data: bytes) -> bool:
    return bool(data[8])


def _error(data: bytes) -> ErrorText:
    return ErrorText(_ERRORS.get(data[8], f"#ERROR {data[8]}"))


_READERS: Mapping[int, Callable[[bytes], object]] = {
    _RK: _rk,
    _REAL: _real,
    _FORMULA_NUMBER: _real,
    _BOOLEAN: _boolean,
    _FORMULA_BOOLEAN: _boolean,
    _ERROR: _error,
    _FORMULA_ERROR: _error,
    _STRING: lambda data: _string(data, 8)[0],
    _FORMULA_STRING: lambda data: _string(data, 8)[0],
    _RICH: lambda data: _string(data, 9)[0],
    _SHARED: lambda data: struct.unpack_from("<I", data, 8)[0],
}
