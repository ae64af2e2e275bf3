"""Workbooks written part by part, so that tests say exactly what stands in them; openpyxl rounds what it is given."""

import struct
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
FORMATS = ("General", "yyyy-mm-dd", "yyyy-mm-dd hh:mm:ss", "hh:mm:ss", "[h]:mm:ss", "0.00")
GENERAL, DATE, DATETIME, TIME, DURATION, FIXED = range(6)
"""The styles of every workbook here."""


@dataclass
class Page:
    """A sheet: the XML inside its sheetData, and what stands around it."""

    rows: str | bytes
    state: str = "visible"
    merged: Sequence[str] = ()
    tables: Sequence[str] = ()
    before: str = ""


@dataclass
class Book:
    pages: Mapping[str, Page]
    strings: Sequence[str] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    epoch_1904: bool = False
    prefix: str = ""

    def write(self, path: Path) -> Path:
        p = f"{self.prefix}:" if self.prefix else ""
        xmlns = f'xmlns{":" + self.prefix if self.prefix else ""}="{MAIN}" xmlns:r="{RELATIONS}"'
        sheets = "".join(
            f'<{p}sheet name={quoteattr(name)} sheetId="{i}" state="{page.state}" r:id="rId{i}"/>'
            for i, (name, page) in enumerate(self.pages.items(), 1)
        )
        names = "".join(
            f"<{p}definedName name={quoteattr(k)}>{escape(v)}</{p}definedName>" for k, v in self.names.items()
        )
        formats = "".join(f'<numFmt numFmtId="{164 + i}" formatCode={quoteattr(f)}/>' for i, f in enumerate(FORMATS))
        styles = "".join(f'<xf numFmtId="{164 + i if i else 0}"/>' for i in range(len(FORMATS)))
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
            z.writestr("[Content_Types].xml", "<Types/>")
            z.writestr("_rels/.rels", _relations([("officeDocument", "xl/workbook.xml")]))
            z.writestr(
                "xl/workbook.xml",
                f'<{p}workbook {xmlns}><{p}workbookPr date1904="{int(self.epoch_1904)}"/><{p}sheets>{sheets}</{p}sheets>'
                f"<{p}definedNames>{names}</{p}definedNames></{p}workbook>",
            )
            pages = [("worksheet", f"worksheets/sheet{i}.xml") for i in range(1, len(self.pages) + 1)]
            z.writestr(
                "xl/_rels/workbook.xml.rels",
                _relations([*pages, ("styles", "styles.xml"), ("sharedStrings", "sharedStrings.xml")]),
            )
            z.writestr(
                "xl/styles.xml",
                f'<styleSheet xmlns="{MAIN}"><numFmts>{formats}</numFmts><cellStyleXfs><xf numFmtId="14"/></cellStyleXfs>'
                f"<cellXfs>{styles}</cellXfs></styleSheet>",
            )
            strings = "".join(s if s.startswith("<si") else f"<si><t>{escape(s)}</t></si>" for s in self.strings)
            z.writestr("xl/sharedStrings.xml", f'<sst xmlns="{MAIN}">{strings}</sst>')
            number = 0
            for i, page in enumerate(self.pages.values(), 1):
                merged = "".join(f'<{p}mergeCell ref="{ref}"/>' for ref in page.merged)
                rows = page.rows if isinstance(page.rows, bytes) else page.rows.encode()
                head = f'<?xml version="1.0" encoding="UTF-8"?>\n<{p}worksheet {xmlns}>{page.before}<{p}sheetData>'
                tail = f"</{p}sheetData>" + (f"<{p}mergeCells>{merged}</{p}mergeCells>" if merged else "")
                z.writestr(f"xl/worksheets/sheet{i}.xml", head.encode() + rows + f"{tail}</{p}worksheet>".encode())
                parts = []
                for table in page.tables:
                    number += 1
                    z.writestr(f"xl/tables/table{number}.xml", table)
                    parts.append(("table", f"../tables/table{number}.xml"))
                if parts:
                    z.writestr(f"xl/worksheets/_rels/sheet{i}.xml.rels", _relations(parts))
        return path


def _relations(parts: Iterable[tuple[str, str]]) -> str:
    each = "".join(
        f'<Relationship Id="rId{i}" Type="{RELATIONS}/{k}" Target="{t}"/>' for i, (k, t) in enumerate(parts, 1)
    )
    return f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{each}</Relationships>'


def letters(column: int) -> str:
    return (letters(column // 26 - 1) if column > 25 else "") + chr(65 + column % 26)


def number(ref: str, value: object, style: int = 0) -> str:
    return f'<c r="{ref}"' + (f' s="{style}"' if style else "") + f"><v>{value}</v></c>"


def shared(ref: str, index: int) -> str:
    return f'<c r="{ref}" t="s"><v>{index}</v></c>'


def inline(ref: str, text: str) -> str:
    space = ' xml:space="preserve"' if text != text.strip() else ""
    return f'<c r="{ref}" t="inlineStr"><is><t{space}>{escape(text)}</t></is></c>'


def truth(ref: str, value: bool) -> str:
    return f'<c r="{ref}" t="b"><v>{int(value)}</v></c>'


def error(ref: str, text: str) -> str:
    return f'<c r="{ref}" t="e"><v>{text}</v></c>'


def row(r: int, *cells: str) -> str:
    return f'<row r="{r}">{"".join(cells)}</row>'


def lines(*rows: Sequence[str | None], first: int = 1) -> str:
    """Rows of texts, None for blank cells."""
    return "".join(
        row(r, *(inline(f"{letters(c)}{r}", text) for c, text in enumerate(texts) if text is not None))
        for r, texts in enumerate(rows, first)
    )


# ------------------------------------------------------------------------------------------------------------ .xlsb


def _record(kind: int, data: bytes = b"") -> bytes:
    head = bytes([kind]) if kind < 128 else bytes([kind & 0x7F | 0x80, kind >> 7])
    size = len(data)
    length = b""
    while True:
        size, low = size >> 7, size & 0x7F
        length += bytes([low | (0x80 if size else 0)])
        if not size:
            return head + length + data


def _wide(text: str) -> bytes:
    units = text.encode("utf-16-le")
    return struct.pack("<I", len(units) // 2) + units


Value = tuple[str, object, int]
"""How a cell is stored (rk, real, bool, error, text, shared, rich, formula …), its value, its style."""


def binary_cell(column: int, kind: str, value: object, style: int = 0) -> bytes:
    head = struct.pack("<II", column, style)
    match kind, value:
        case "rk", int() as whole:
            return _record(2, head + struct.pack("<i", whole << 2 | 2))
        case "hundredths", int() as whole:
            return _record(2, head + struct.pack("<i", whole << 2 | 3))
        case "real", float() as real:
            return _record(5, head + struct.pack("<d", real))
        case "formula", float() as real:
            return _record(9, head + struct.pack("<d", real) + bytes(6))
        case "bool", bool() as true:
            return _record(4, head + bytes([true]))
        case "error", int() as code:
            return _record(3, head + bytes([code]))
        case "text", str() as text:
            return _record(6, head + _wide(text))
        case "rich", str() as text:
            return _record(62, head + b"\0" + _wide(text))
        case "shared", int() as index:
            return _record(7, head + struct.pack("<I", index))
    raise AssertionError(kind)


def write_xlsb(
    path: Path,
    rows: Mapping[int, Sequence[tuple[int, str, object, int]]],
    strings: Sequence[str] = (),
    merged: Sequence[tuple[int, int, int, int]] = (),
    *,
    epoch_1904: bool = False,
) -> Path:
    """A workbook of one sheet, `Kunden`: row from 1 → (column, kind, value, style)."""
    book = _record(131) + _record(153, struct.pack("<III", int(epoch_1904), 0, 0))
    book += _record(143) + _record(156, struct.pack("<II", 0, 1) + _wide("rId1") + _wide("Kunden")) + _record(144)
    last = max((column for cells in rows.values() for column, *_ in cells), default=0)
    parts = [_record(129) + _record(148, struct.pack("<4I", min(rows) - 1, max(rows) - 1, 0, last)) + _record(145)]
    for r, cells in rows.items():
        parts.append(_record(0, struct.pack("<IIHBBI", r - 1, 0, 300, 0, 0, 0)))
        parts += (binary_cell(*cell) for cell in cells)
    sheet = b"".join(parts) + _record(146)
    if merged:
        sheet += _record(177, struct.pack("<I", len(merged)))
        sheet += b"".join(_record(176, struct.pack("<4I", *area)) for area in merged) + _record(178)
    styles = _record(278) + _record(615, struct.pack("<I", len(FORMATS)))
    styles += b"".join(_record(44, struct.pack("<H", 164 + i) + _wide(f)) for i, f in enumerate(FORMATS)) + _record(616)
    xf = struct.Struct("<HHHHHBBHH")
    styles += _record(626, struct.pack("<I", 1)) + _record(47, xf.pack(0xFFFF, 14, 0, 0, 0, 0, 0, 0, 0)) + _record(627)
    styles += _record(617, struct.pack("<I", len(FORMATS)))
    styles += b"".join(_record(47, xf.pack(0, 164 + i if i else 0, 0, 0, 0, 0, 0, 0, 0)) for i in range(len(FORMATS)))
    styles += _record(618) + _record(279)
    sst = _record(159, struct.pack("<II", len(strings), len(strings)))
    sst += b"".join(_record(19, b"\0" + _wide(text)) for text in strings) + _record(160)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("[Content_Types].xml", "<Types/>")
        z.writestr("_rels/.rels", _relations([("officeDocument", "xl/workbook.bin")]))
        related = [
            ("worksheet", "worksheets/sheet1.bin"),
            ("styles", "styles.bin"),
            ("sharedStrings", "sharedStrings.bin"),
        ]
        z.writestr("xl/_rels/workbook.bin.rels", _relations(related))
        z.writestr("xl/workbook.bin", book + _record(132))
        z.writestr("xl/worksheets/sheet1.bin", sheet + _record(130))
        z.writestr("xl/styles.bin", styles)
        z.writestr("xl/sharedStrings.bin", sst)
    return path
