"""What the contract of a connector of files needs of each form: how a table with some damaged rows is written, and opened."""

import csv
import gzip
import io
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import xlwt
from workbooks import Book, Page, error, inline, row, write_xlsb

from connectors.registry import open_source
from migrate.core import Source

Row = tuple[str, str]
"""A number, and a text."""


@dataclass(frozen=True)
class Form:
    """A form of file with a table `t` of the columns n and v. `bare` are characters that it cannot hold."""

    name: str
    kind: str
    write: Callable[[Path, Sequence[Row], Collection[int]], None]
    options: Mapping[str, object]
    bare: str = ""

    def made(self, folder: Path, rows: Sequence[Row], damaged: Collection[int] = ()) -> Path:
        """The file; rows whose places are among `damaged` cannot be read."""
        path = folder / f"t.{self.name}"
        self.write(path, rows, damaged)
        return path

    def place(self, folder: Path) -> tuple[str, dict[str, list[str]], Mapping[str, object], str]:
        """What `open_source` wants, as JSON."""
        return self.kind, {"": [f"t.{self.name}"]}, self.options, str(folder)

    def open(self, folder: Path) -> Source:
        kind, files, options, base = self.place(folder)
        return open_source(kind, files, options, Path(base))


def _csv(rows: Sequence[Row], damaged: Collection[int]) -> bytes:
    out = io.StringIO(newline="")
    out.write("n,v\r\n")
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    for at, each in enumerate(rows):
        if at in damaged:
            out.write(f'"{each[0]}","a quote"that closes too early\r\n')
        else:
            writer.writerow(each)
    return out.getvalue().encode()


def _xml(rows: Sequence[Row], damaged: Collection[int]) -> bytes:
    parts = ["<t>\n"]
    for at, (number, text) in enumerate(rows):
        end = "w" if at in damaged else "v"
        written = escape(text, {"\r": "&#13;"})
        parts.append(f'<x n="{number}"><v>{written}</{end}></x>\n')
    return "".join([*parts, "</t>\n"]).encode()


def _jsonl(rows: Sequence[Row], damaged: Collection[int]) -> bytes:
    lines = [json.dumps({"n": number, "v": text}, ensure_ascii=at % 2 == 0) for at, (number, text) in enumerate(rows)]
    return "".join(line.replace(":", "", at in damaged) + "\n" for at, line in enumerate(lines)).encode()


def _json(rows: Sequence[Row], damaged: Collection[int]) -> bytes:
    """The elements of an array; damaged ones lack their last quote."""
    texts = [json.dumps({"n": number, "v": text}, ensure_ascii=at % 2 == 0) for at, (number, text) in enumerate(rows)]
    return (
        "[" + ",\n".join(text[:-2] + "}" if at in damaged else text for at, text in enumerate(texts)) + "]"
    ).encode()


def _xlsx(path: Path, rows: Sequence[Row], damaged: Collection[int]) -> None:
    cells = [row(1, inline("A1", "n"), inline("B1", "v"))]
    for at, (number, text) in enumerate(rows):
        value = error(f"B{at + 2}", "#N/A") if at in damaged else inline(f"B{at + 2}", text.replace("\r", "_x000D_"))
        cells.append(row(at + 2, inline(f"A{at + 2}", number), value))
    Book({"t": Page("".join(cells))}).write(path)


def _xlsb(path: Path, rows: Sequence[Row], damaged: Collection[int]) -> None:
    cells: dict[int, list[tuple[int, str, object, int]]] = {1: [(0, "text", "n", 0), (1, "text", "v", 0)]}
    for at, (number, text) in enumerate(rows):
        value: tuple[int, str, object, int] = (1, "error", 42, 0) if at in damaged else (1, "text", text, 0)
        cells[at + 2] = [(0, "text", number, 0), value]
    write_xlsb(path, cells)


def _xls(path: Path, rows: Sequence[Row], damaged: Collection[int]) -> None:
    book = xlwt.Workbook()
    sheet = book.add_sheet("t")
    for at, each in enumerate([("n", "v"), *rows]):
        sheet.write(at, 0, each[0])
        if at - 1 in damaged:
            sheet.row(at).set_cell_error(1, "#REF!")
        else:
            sheet.row(at).set_cell_text(1, each[1])  # `write` takes an empty text for a blank cell
    book.save(str(path))


def _plain(made: Callable[[Sequence[Row], Collection[int]], bytes]) -> Callable[..., None]:
    return lambda path, rows, damaged: path.write_bytes(made(rows, damaged))


def _packed(made: Callable[[Sequence[Row], Collection[int]], bytes]) -> Callable[..., None]:
    return lambda path, rows, damaged: path.write_bytes(gzip.compress(made(rows, damaged), 1, mtime=0))


_CONTROLS = "".join(map(chr, {*range(32)} - {9, 10, 13}))
_RECORDS = {"tables": {"t": {"record": "/t/x", "columns": {"n": "@n", "v": "v"}}}}
FORMS = {
    form.name: form
    for form in (
        Form("csv", "files", _plain(_csv), {}),
        Form("csv.gz", "files", _packed(_csv), {}),
        Form("xlsx", "excel", _xlsx, {}, _CONTROLS),
        Form("xlsb", "excel", _xlsb, {"tables": {"t": {"sheet": "Kunden"}}}),
        Form("xls", "excel", _xls, {}),
        Form("jsonl", "json", _plain(_jsonl), {}),
        Form("json", "json", _plain(_json), {}),
        Form("json.gz", "json", _packed(_json), {}),
        Form("xml", "xml", _plain(_xml), _RECORDS, _CONTROLS),
        Form("xml.gz", "xml", _packed(_xml), _RECORDS, _CONTROLS),
    )
}
