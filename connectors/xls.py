"""Workbooks of Excel 97 to 2003 (`.xls`), by xlrd. They cannot be streamed, but a sheet ends at row 65,536."""

import io
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import xlrd
from xlrd.biffh import XLRDError
from xlrd.compdoc import CompDocError

from connectors.cells import PLAIN, Cells, ErrorText, form_of, from_values
from connectors.workbook import Merge, Named, Sheet
from migrate.errors import SourceError

_BLOCK = 4_096  # rows made text at a time
_DAMAGES = (XLRDError, CompDocError, struct.error, LookupError, ValueError, AssertionError, TypeError)


class Xls:
    """`Workbook` over the bytes of a file."""

    def __init__(self, data: bytes, name: str) -> None:
        self._name = name
        with self._readable():
            self._book = xlrd.open_workbook(
                file_contents=data, formatting_info=True, on_demand=True, ragged_rows=True, logfile=io.StringIO()
            )
            self._forms = [
                form_of(style.format_key, self._book.format_map[style.format_key].format_str)
                if style.format_key in self._book.format_map
                else PLAIN
                for style in self._book.xf_list
            ]
        self.epoch_1904 = self._book.datemode == 1

    def sheets(self) -> Sequence[Sheet]:
        with self._readable():
            names = self._book.sheet_names()
            return [Sheet(name, self._book.sheet_by_name(name).visibility == 0, name) for name in names]

    def names(self) -> Mapping[str, Named]:
        """None: what a name stands for is a formula in this format."""
        return {}

    def size(self, sheet: Sheet, /) -> int:
        return 0  # the sheet is in memory

    def merged(self, sheet: Sheet, /) -> Sequence[Merge]:
        with self._readable():
            merged = self._book.sheet_by_name(sheet.place).merged_cells
        return [Merge(left, top + 1, right - 1, bottom) for top, bottom, left, right in merged]

    def cells(self, sheet: Sheet, /) -> Iterator[Cells]:
        with self._readable():
            table = self._book.sheet_by_name(sheet.place)
            for start in range(0, table.nrows, _BLOCK):
                found: list[tuple[int, int, object, int]] = []
                for row in range(start, min(start + _BLOCK, table.nrows)):
                    kinds, values = table.row_types(row), table.row_values(row)
                    for column, (kind, value) in enumerate(zip(kinds, values, strict=True)):
                        if kind not in (xlrd.XL_CELL_EMPTY, xlrd.XL_CELL_BLANK):
                            form = self._forms[table.cell_xf_index(row, column)]
                            found.append((row + 1, column, _value(kind, value), form))
                if found:
                    yield from_values(found, epoch_1904=self.epoch_1904)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """What xlrd raises for a damaged file, as SourceError."""
        try:
            yield
        except _DAMAGES as error:
            if "encrypted" in str(error).lower():
                hint = "open it in Excel and save it without the password"
                raise SourceError(f"{self._name} is protected by a password", hint=hint) from error
            raise SourceError(
                f"{self._name} is cut off, damaged, or no Excel file: {error}",
                hint="transfer the file again, or open it in Excel and save it as .xlsx",
            ) from error


def _value(kind: int, value: Any) -> object:
    if kind == xlrd.XL_CELL_ERROR:
        return ErrorText(xlrd.error_text_from_code.get(value, f"#ERROR {value}"))
    if kind == xlrd.XL_CELL_BOOLEAN:
        return bool(value)
    return value
