"""Workbooks as a source: what a user sees of values, tables, places, damages and refusals."""

import datetime as dt
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import xlwt
from workbooks import (
    DATE,
    DATETIME,
    DURATION,
    FIXED,
    TIME,
    Book,
    Page,
    error,
    inline,
    lines,
    number,
    row,
    shared,
    truth,
    write_xlsb,
)

from connectors.cells import form_of
from connectors.excel import open_files
from connectors.registry import open_source
from migrate.core import Reject, Source
from migrate.errors import SourceError, UsageError

Rows = list[dict[str, str | None]]
HEAD = row(1, inline("A1", "id"), inline("B1", "x"))


def read(
    source: Source, table: str, columns: Sequence[str] | None = None, rows: int = 1 << 40
) -> tuple[Rows, list[Reject]]:
    """All rows and rejects of a table; checks that every ordinal has one fate and that counting agrees."""
    described = source.schema(table)
    found: Rows = []
    rejects: list[Reject] = []
    for position, partition in enumerate(source.partitions(described, rows=rows, bytes=1 << 40)):
        assert partition.ordinal == position
        for batch in source.read(partition, columns or described.schema.names):
            fates = sorted([*batch.ordinals.tolist(), *(reject.ordinal for reject in batch.rejects)])
            assert fates == list(range(source.count(partition)))  # type: ignore[attr-defined]
            found += batch.rows.to_pylist()
            rejects += batch.rejects
    return found, rejects


def table_of(
    tmp_path: Path, body: str, *, options: dict[str, Any] | None = None, **book: Any
) -> tuple[Rows, list[Reject]]:
    """The rows and rejects of a sheet with this XML."""
    Book({"Kunden": Page(body)}, **book).write(tmp_path / "t.xlsx")
    source = open_files({"": ["t.xlsx"]}, options or {}, tmp_path)
    return read(source, source.tables()[0])


def value_of(tmp_path: Path, cell: str, **book: Any) -> str | None:
    """What a cell B2 reads as; the reason if its row is rejected."""
    rows, rejects = table_of(tmp_path, HEAD + row(2, number("A2", 1), cell), **book)
    return rejects[0].reason if rejects else rows[0]["x"]


# -------------------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("1", "1"),
        ("1.0", "1"),
        ("-0", "0"),
        ("0.10000000000000001", "0.1"),
        ("0.30000000000000004", "0.30000000000000004"),
        ("1E+22", "10000000000000000000000"),
        ("1.5E-7", "0.00000015"),
        ("-12.50", "-12.5"),
        ("12345678901234567890", "12345678901234567890"),
        ("1.234567890123456789012", "1.234567890123456789012"),
        ("007", "7"),
        (".5", "0.5"),
        ("NaN", "'NaN' is no number in x (Kunden!B2)"),
        ("12,5", "'12,5' is no number in x (Kunden!B2)"),
    ],
)
def test_numbers_are_their_shortest_exact_digits(tmp_path: Path, written: str, expected: str) -> None:
    assert value_of(tmp_path, number("B2", written)) == expected


@pytest.mark.parametrize(
    ("written", "style", "expected", "of_1904"),
    [
        ("43861", DATE, "2020-01-31", "2024-02-01"),
        ("43861.5", DATE, "2020-01-31 12:00:00", "2024-02-01 12:00:00"),
        ("43861", DATETIME, "2020-01-31 00:00:00", "2024-02-01 00:00:00"),
        ("43861.520833333336", DATETIME, "2020-01-31 12:30:00", "2024-02-01 12:30:00"),
        ("43861.52083912037", DATETIME, "2020-01-31 12:30:00.500000", "2024-02-01 12:30:00.500000"),
        ("43861.999999999993", DATETIME, "2020-02-01 00:00:00", "2024-02-02 00:00:00"),
        ("0.52083333333333337", TIME, "12:30:00", "12:30:00"),
        ("0", TIME, "00:00:00", "00:00:00"),
        ("1.25", TIME, "1900-01-01 06:00:00", "1904-01-02 06:00:00"),
        ("0.5", DATETIME, "12:00:00", "1904-01-01 12:00:00"),
        ("1.25", DURATION, "30:00:00", "30:00:00"),
        ("-0.5", DURATION, "-12:00:00", "-12:00:00"),
        ("60", FIXED, "60", "60"),
        ("59", DATE, "1900-02-28", "1904-02-29"),
        ("60", DATE, "no date: 60, which Excel shows as 1900-02-29 in x (Kunden!B2)", "1904-03-01"),
        ("61", DATE, "1900-03-01", "1904-03-02"),
        ("0", DATE, "no date: 0, which Excel shows as day 0 of January 1900 in x (Kunden!B2)", "1904-01-01"),
        ("-1", DATE, *["no date: -1, which is outside Excel's calendar in x (Kunden!B2)"] * 2),
        ("2958466", DATE, *["no date: 2958466, which is outside Excel's calendar in x (Kunden!B2)"] * 2),
        ("soon", DATE, *["'soon' is no number in x (Kunden!B2)"] * 2),
    ],
)
def test_dates_are_what_the_format_makes_of_a_number(
    tmp_path: Path, written: str, style: int, expected: str, of_1904: str
) -> None:
    assert value_of(tmp_path, number("B2", written, style)) == expected
    assert value_of(tmp_path, number("B2", written, style), epoch_1904=True) == of_1904


@pytest.mark.parametrize(
    ("code", "form"),
    [
        ("General", 0),
        ("0.00E+00", 0),
        ('#,##0.00 "Stück, dh. days"', 0),
        ("[Red]-#,##0\\ \\d", 0),
        ("yyyy\\-mm\\-dd", 1),
        ("[$-407]d. mmmm yyyy;@", 1),
        ("mmm", 1),
        ("dd/mm/yyyy hh:mm", 2),
        ("h:mm AM/PM", 3),
        ("mm:ss.0", 3),
        ("[h]:mm:ss", 4),
        ("[mm]:ss", 4),
    ],
)
def test_formats_say_what_a_number_is(code: str, form: int) -> None:
    assert form_of(164, code) == form


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (truth("B2", True), "true"),
        (truth("B2", False), "false"),
        (inline("B2", " as it is "), " as it is "),
        (inline("B2", "a & b < c"), "a & b < c"),
        (inline("B2", "#N/A"), "#N/A"),
        (inline("B2", "2020-01-31T12:30:00"), "2020-01-31T12:30:00"),
        (inline("B2", "one_x000D_\ntwo_x005F_"), "one\r\ntwo_"),
        ('<c r="B2" t="inlineStr"><is><t>a&#252;&#xe4;</t></is></c>', "aüä"),
        ('<c r="B2" t="inlineStr"><is><r><t>ri</t></r><r><rPr><b/></rPr><t>ch</t></r></is></c>', "rich"),
        ('<c r="B2" t="inlineStr"><is><t></t></is></c>', ""),
        ('<c r="B2" t="str"><f>A1&amp;""</f><v></v></c>', ""),
        ('<c r="B2" t="str"><f>A1</f><v>a &amp; b</v></c>', "a & b"),
        ('<c r="B2"><f>A2*2</f><v>2</v></c>', "2"),
        ('<c r="B2"><f t="shared" si="0"/><v>2</v></c>', "2"),
        ('<c r="B2" t="d"><v>2020-01-31T12:30:00</v></c>', "2020-01-31 12:30:00"),
        ('<c r="B2" s="1"/>', None),
        ('<c r="B2"><v></v></c>', None),
        ('<c r="B2" t="n" s="1"><v>43861</v></c>', "2020-01-31"),
        ('<c r="B2"><f>A2*2</f></c>', "a formula that was never calculated in x (Kunden!B2)"),
        ('<c r="B2"><f>A2*2</f><v></v></c>', "a formula that was never calculated in x (Kunden!B2)"),
        (error("B2", "#REF!"), "#REF! in x (Kunden!B2)"),
    ],
)
def test_every_other_cell_is_its_text(tmp_path: Path, cell: str, expected: str | None) -> None:
    assert value_of(tmp_path, cell) == expected


def test_shared_strings_are_joined_from_their_runs_without_the_phonetic_ones(tmp_path: Path) -> None:
    rich = "<si><r><t>Mül</t></r><r><t xml:space='preserve'>ler </t></r><rPh sb='0' eb='1'><t>ミュラー</t></rPh></si>"
    strings = ["plain", rich, "<si><t/></si>", '<si><t xml:space="preserve"> a &amp; b</t></si>']
    body = HEAD + "".join(row(r, number(f"A{r}", r), shared(f"B{r}", r - 2)) for r in range(2, 6))
    rows, _ = table_of(tmp_path, body, strings=strings)
    assert [r["x"] for r in rows] == ["plain", "Müller ", "", " a & b"]
    with pytest.raises(SourceError, match="refers to a shared string that is not there"):
        table_of(tmp_path, HEAD + row(2, shared("A2", 7)), strings=strings)


# ------------------------------------------------------------------------------------------------- rows and their places


def test_blank_rows_are_no_rows_and_shift_no_place(tmp_path: Path) -> None:
    body = lines(["id", "x"], first=3) + lines(["1", "a"], first=5) + row(6, '<c r="A6" s="1"/>', inline("B6", ""))
    body += row(9, inline("A9", "2"), error("B9", "#N/A"))
    rows, rejects = table_of(tmp_path, body)
    assert rows == [{"id": "1", "x": "a"}]
    [reject] = rejects
    assert reject.origin.locator == {"file": "t.xlsx", "sheet": "Kunden", "row": 9, "cells": "A9:B9", "cell": "B9"}
    assert (reject.rule, reject.reason, reject.column, reject.value) == ("cell", "#N/A in x (Kunden!B9)", "x", "#N/A")
    assert json.loads(reject.origin.raw) == {"A": "2", "B": "#N/A"}


def test_error_cells_reject_their_row_or_are_null(tmp_path: Path) -> None:
    body = HEAD + row(2, error("A2", "#DIV/0!"), error("B2", "#N/A")) + row(3, number("A3", 3), number("B3", 0, DATE))
    body += row(4, number("A4", 4), '<c r="B4"><f>A1</f></c>')
    rows, rejects = table_of(tmp_path, body)
    assert rows == []
    assert rejects[0].reason == "#DIV/0! in id (Kunden!A2); B2 cannot be read either"
    rows, rejects = table_of(tmp_path, body, options={"errors": "null"})
    assert rows == [{"id": None, "x": None}, {"id": "3", "x": None}]
    assert [r.reason for r in rejects] == ["a formula that was never calculated in x (Kunden!B4)"]


def test_an_error_in_a_column_that_nothing_reads_rejects_nothing(tmp_path: Path) -> None:
    Book({"Kunden": Page(HEAD + row(2, number("A2", 1), error("B2", "#N/A")))}).write(tmp_path / "t.xlsx")
    source = open_files({"": ["t.xlsx"]}, {}, tmp_path)
    assert read(source, "Kunden", ["id"]) == ([{"id": "1"}], [])


def test_what_stands_beside_the_columns_rejects_its_row(tmp_path: Path) -> None:
    body = lines(["id", "x"], ["1", "a"], ["2", "b", None, "note"], [None, None, "alone"])
    rows, rejects = table_of(tmp_path, body)
    assert rows == [{"id": "1", "x": "a"}]
    assert [(r.rule, r.reason) for r in rejects] == [
        ("fields", "Kunden!D3 holds something beside the table's columns A to B"),
        ("fields", "Kunden!C4 holds something beside the table's columns A to B"),
    ]
    assert json.loads(rejects[0].origin.raw) == {"A": "2", "B": "b", "D": "note"}
    within = {"tables": {"t": {"range": "A:B"}}}
    assert table_of(tmp_path, body, options=within) == ([{"id": "1", "x": "a"}, {"id": "2", "x": "b"}], [])


def test_slices_tile_the_rows_and_are_read_again_by_another_process(tmp_path: Path) -> None:
    body = HEAD + "".join(row(r, number(f"A{r}", r), inline(f"B{r}", f"n{r}")) for r in range(2, 20_002))
    Book({"Kunden": Page(body)}).write(tmp_path / "t.xlsx")
    source = open_files({"": ["t.xlsx"]}, {}, tmp_path)
    table = source.schema("Kunden")
    partitions = list(source.partitions(table, rows=5_000, bytes=1 << 40))
    assert sum(p.rows for p in partitions) == 20_000
    assert len(partitions) > 3
    other = open_files({"": ["t.xlsx"]}, {}, tmp_path)
    found = [r["id"] for p in reversed(partitions) for b in other.read(p, ["id"]) for r in reversed(b.rows.to_pylist())]
    assert found == [str(r) for r in range(20_001, 1, -1)]


def test_a_file_that_has_changed_is_refused(tmp_path: Path) -> None:
    Book({"Kunden": Page(HEAD + row(2, number("A2", 1)))}).write(tmp_path / "t.xlsx")
    source = open_files({"": ["t.xlsx"]}, {}, tmp_path)
    [partition] = source.partitions(source.schema("Kunden"), rows=10, bytes=1 << 20)
    Book({"Kunden": Page(HEAD + row(2, number("A2", 2)))}).write(tmp_path / "t.xlsx")
    with pytest.raises(SourceError, match="has changed since the plan was made"):
        list(source.read(partition, ["id"]))


# -------------------------------------------------------------------------------------------------- where a table stands


def test_headers_of_two_rows_are_joined_and_merged_ones_spread(tmp_path: Path) -> None:
    body = lines(
        ["Liste"], [], ["Nr", "Adresse", None, "Adresse"], [None, "Ort", "PLZ", "Ort"], ["1", "Ulm", "89", "x"]
    )
    Book({"Kunden": Page(body, merged=["A3:A4", "B3:C3", "A6:B6"])}).write(tmp_path / "t.xlsx")
    source = open_files({"": ["t.xlsx"]}, {"tables": {"t": {"header": "3-4"}}}, tmp_path)
    assert source.schema("t").schema.names == ["Nr", "Adresse Ort", "Adresse PLZ", "Adresse Ort_2"]
    [note] = source.schema("t").notes
    assert note == (
        "t.xlsx: sheet 'Kunden', header in row 3-4, columns A to D (4), "
        "header renamed: 'Adresse Ort' (second) -> 'Adresse Ort_2', 1 merged area among the rows"
    )
    assert len(read(source, "t")[0]) == 1


def test_merged_cells_have_their_value_once_or_fill_their_area(tmp_path: Path) -> None:
    body = lines(["land", "ort", "n"], ["DE", "Ulm", "1"], [None, "Bonn", "2"], [None, None, "3"], ["FR", "Lyon", None])
    body += row(7, error("A7", "#N/A"), inline("C7", "7")) + lines([None, None, "8"], first=8)
    Book({"Kunden": Page(body, merged=["A2:A4", "B5:C5", "A7:A8"])}).write(tmp_path / "t.xlsx")
    rows, rejects = read(open_files({"": ["t.xlsx"]}, {}, tmp_path), "Kunden")
    assert [r["land"] for r in rows] == ["DE", None, None, "FR", None]
    rows, rejects = read(open_files({"": ["t.xlsx"]}, {"merged": "fill"}, tmp_path), "Kunden")
    assert [tuple(r.values()) for r in rows] == [
        ("DE", "Ulm", "1"), ("DE", "Bonn", "2"), ("DE", None, "3"), ("FR", "Lyon", "Lyon"),
    ]  # fmt: skip
    assert [r.origin.locator["cell"] for r in rejects] == ["A7", "A8"]


def test_ranges_names_and_tables_say_where(tmp_path: Path) -> None:
    table = (
        '<table xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" id="1" name="T" displayName="Umsatz" '
        'ref="C3:D6" totalsRowCount="1"><tableColumns><tableColumn name="id"/><tableColumn name="x"/></tableColumns></table>'
    )
    bare = table.replace("Umsatz", "Kahl").replace('totalsRowCount="1"', 'headerRowCount="0"').replace("C3:D6", "C4:D5")
    body = lines(
        ["Titel"], [], ["no", None, "id", "x"], ["no", None, "1", "a"], [None, None, "2", "b"], ["", "", "9", "sum"]
    )
    book = Book(
        {"Deckblatt": Page(lines(["nichts"])), "Zahlen 1": Page(body, tables=[table, bare])},
        names={"Liste": "'Zahlen 1'!$C$3:$D$5", "Rest": "Weg!#REF!"},
    )
    book.write(tmp_path / "t.xlsx")
    two = [{"id": "1", "x": "a"}, {"id": "2", "x": "b"}]
    for where in (
        {"range": "Umsatz"},
        {"range": "kahl"},
        {"range": "liste", "sheet": "Zahlen 1"},
        {"sheet": "2", "range": "C3:D5"},
        {"sheet": "zahlen 1", "range": "$C$4:$D$5", "header": "none", "columns": ["id", "x"]},
        {"sheet": "Zahlen 1", "range": "C4:D5", "header": "3"},
    ):
        source = open_files({"": ["t.xlsx"]}, {"tables": {"t": where}}, tmp_path)
        assert read(source, "t") == (two, []), where
    for where, said in (
        ({"range": "Umsätze"}, "has no name or table 'Umsätze'"),
        ({"sheet": "Zahlen"}, "has no sheet 'Zahlen'"),
        ({"sheet": "3"}, "has no sheet '3'"),
        ({"range": "Liste", "sheet": "1"}, "Liste stands in sheet 'Zahlen 1', not in '1'"),
        ({"sheet": "2", "range": "C3:D5", "columns": ["a"]}, "has 2 columns, C to D, but 'columns' names 1"),
        ({"sheet": "2", "range": "H3:K5"}, "nothing stands where table 't' should"),
    ):
        with pytest.raises(SourceError) as raised:
            open_files({"": ["t.xlsx"]}, {"tables": {"t": where}}, tmp_path).schema("t")
        assert said in raised.value.message
        assert raised.value.hint
    with pytest.raises(SourceError) as raised:
        open_files({"": ["t.xlsx"]}, {"tables": {"t": {"sheet": "Zahlen"}}}, tmp_path).schema("t")
    assert raised.value.hint == "did you mean 'Zahlen 1'? There are: 'Deckblatt', 'Zahlen 1'"


def test_each_visible_sheet_is_a_table_and_goes_on_over_all_workbooks(tmp_path: Path) -> None:
    def book(*ids: str, **more: Page) -> Book:
        return Book({"Kunden": Page(lines(["id"], *([i] for i in ids))), "Leer": Page(""), **more})

    book("1", "2", Geheim=Page(lines(["x"], ["9"]), state="hidden")).write(tmp_path / "a.xlsx")
    book("3", Extra=Page(lines(["y"], ["8"]))).write(tmp_path / "b.xlsx")
    (tmp_path / "~$a.xlsx").write_bytes(b"owner")
    source = open_files({"": ["*.xlsx"]}, {}, tmp_path)
    assert source.tables() == ("Kunden", "Extra")
    assert read(source, "Kunden")[0] == [{"id": "1"}, {"id": "2"}, {"id": "3"}]
    assert "a.xlsx: not read because hidden: 'Geheim'" in source.schema("Kunden").notes
    [warning] = source.schema("Extra").warnings
    assert warning.startswith("a.xlsx has no sheet 'Extra', or an empty one")
    assert open_files({"": ["*.xlsx"]}, {"hidden": True}, tmp_path).tables() == ("Kunden", "Geheim", "Extra")
    Book({"Kunden": Page(lines(["nr"], ["1"]))}).write(tmp_path / "b.xlsx")
    with pytest.raises(SourceError, match=r"b.xlsx has no column 'id' and an extra column 'nr'"):
        open_files({"": ["*.xlsx"]}, {}, tmp_path).schema("Kunden")


def test_sheets_that_no_table_reads_are_named_once_a_file(tmp_path: Path) -> None:
    """By the table that is asked for first: which of them are mapped the source does not know."""
    pages = {name: Page(lines(["id"], ["1"])) for name in ("Kunden", "Lager", "Preise")}
    Book({**pages, "Leer": Page("")}).write(tmp_path / "a.xlsx")
    more = {"Alt": Page(lines(["id"])), "Geheim": Page(lines(["id"], ["9"]), state="hidden")}
    Book({**pages, **more}, names={"preise": "Preise!$A$1:$A$2"}).write(tmp_path / "b.xlsx")
    tables = {"k": {"sheet": "Kunden"}, "p": {"range": "preise"}, "l": {"sheet": 2}}
    source = open_files({"": ["b.xlsx"]}, {"tables": tables}, tmp_path)
    for _ in range(2):
        assert source.schema("l").warnings == ("b.xlsx: no table reads sheet 'Alt', where something stands",)
        assert source.schema("k").warnings == ()
    assert "b.xlsx: not read because hidden: 'Geheim'" in source.schema("l").notes
    del tables["l"], tables["p"]
    source = open_files({"": ["*.xlsx"]}, {"tables": tables}, tmp_path)
    assert source.schema("k").warnings == (
        "a.xlsx: no table reads sheets 'Lager', 'Preise', where something stands",
        "b.xlsx: no table reads sheets 'Lager', 'Preise', 'Alt', where something stands",
    )
    # A table that is not there says so itself, and takes nothing from what is said of the others.
    source = open_files({"": ["a.xlsx"]}, {"tables": tables | {"x": {"sheet": "Lagre"}}}, tmp_path)
    assert source.schema("k").warnings == ("a.xlsx: no table reads sheets 'Lager', 'Preise', where something stands",)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sheet": "x"}, "unknown option 'sheet'"),
        ({"errors": "skip"}, "option 'errors' must be reject or null"),
        ({"hidden": "yes"}, "option 'hidden' must be true or false"),
        ({"tables": {"t": {"header": "0"}}}, "header must be a row"),
        ({"tables": {"t": {"header": "4-3"}}}, "header must be a row"),
        ({"tables": {"t": {"columns": ["a", "A"]}}}, "stands there twice"),
        ({"tables": {"t": {"sheets": "x"}}}, "unknown key 'sheets'"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    Book({"Kunden": Page(HEAD)}).write(tmp_path / "t.xlsx")
    with pytest.raises(UsageError, match=said):
        open_source("excel", {"": ["t.xlsx"]}, options, tmp_path)


# ----------------------------------------------------------------------------------------------------- what is refused


def encrypted() -> bytes:
    return b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512) + "EncryptedPackage".encode("utf-16-le") + bytes(512)


def whole(tmp_path: Path) -> bytes:
    body = HEAD + "".join(row(r, number(f"A{r}", r * 7919 % 1000), inline(f"B{r}", str(r))) for r in range(2, 3000))
    return Book({"Kunden": Page(body)}).write(tmp_path / "whole.xlsx").read_bytes()


def flipped(data: bytes) -> bytes:
    """A byte of the sheet's compressed data turned over."""
    at = data.index(b"xl/worksheets/sheet1.xml") + 2_000
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def changed(data: bytes, part: str, old: bytes, new: bytes) -> bytes:
    """The workbook with a part that says something else."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(made, "w") as target:
        for name in source.namelist():
            text = source.read(name)
            assert name != part or old in text
            target.writestr(name, text.replace(old, new, 1) if name == part else text)
    return made.getvalue()


SHEET = "xl/worksheets/sheet1.xml"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda data: b"", "is empty"),
        (lambda data: encrypted(), "is protected by a password"),
        (lambda data: data[: len(data) // 2], "is cut off or damaged"),
        (lambda data: flipped(data), "damaged"),
        (lambda data: b"<html><body><table><tr><td>1</td></tr></table>", "is a web page (HTML)"),
        (lambda data: b"\xef\xbb\xbf\n<!DOCTYPE html>", "is a web page (HTML)"),
        (lambda data: b"id;name\n1;a\n", "is text, not a workbook"),
        (lambda data: "id\tname\n".encode("utf-16"), "is text, not a workbook"),
        (lambda data: b"\x89PNG\r\n\x1a\n\0\0\0", "is not a workbook"),
        (lambda data: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2040), "is cut off, damaged, or no Excel file"),
        (
            lambda data: b'<?xml version="1.0"?><Workbook xmlns="urn:schemas-microsoft-com:office:spreadsheet">',
            "of 2003",
        ),
        (lambda data: changed(data, SHEET, b"</sheetData>", b""), "it ends in the middle"),
        (lambda data: changed(data, SHEET, b'<row r="9">', b'<row r="8">'), "stands"),
        (lambda data: changed(data, SHEET, b'<c r="B9"', b'<c r="A9"'), "cell A9 stands behind others of its row"),
        (lambda data: changed(data, SHEET, b'<c r="B9"', b'<c r="B8"'), "cell B8 stands in row 9"),
        (lambda data: changed(data, SHEET, b'<c r="B9" t="inlineStr"', b'<c r="B9" t="z"'), "of the type 'z'"),
        (lambda data: changed(data, SHEET, b"</is></c></row>", b"</is></row>"), "damaged"),
        (lambda data: changed(data, "xl/workbook.xml", b"</sheets>", b""), "is damaged: xl/workbook.xml"),
        (lambda data: changed(data, "xl/_rels/workbook.xml.rels", b"sheet1.xml", b"sheet9.xml"), "it has no"),
    ],
)
@pytest.mark.parametrize("suffix", ["xlsx", "xls"])
def test_what_is_no_sound_workbook_is_said_to_be_so(tmp_path: Path, make: Any, said: str, suffix: str) -> None:
    (tmp_path / f"t.{suffix}").write_bytes(make(whole(tmp_path)))
    with pytest.raises(SourceError) as raised:
        read(open_files({"": [f"t.{suffix}"]}, {}, tmp_path), "Kunden")
    assert said in raised.value.message
    assert f"t.{suffix}" in raised.value.message
    assert raised.value.hint


TWICE = b'</sheetData><x:sheetData xmlns:x="m"><row r="10"><c r="A10"><v>1</v></c></row></x:sheetData>'
DECLARED = b'<!DOCTYPE worksheet [<!ENTITY who "me">]><worksheet'


@pytest.mark.parametrize(
    ("part", "old", "new", "said"),
    [
        (SHEET, b"</sheetData>", TWICE, "sheet 'Kunden': it has a second sheetData"),
        (SHEET, b"</sheetData>", b"</sheetData>" + b" " * (3 << 20) + TWICE[12:], "a second sheetData"),
        (SHEET, b"<sheetData>", b"<sheetData/><sheetData>", "a second sheetData"),
        (SHEET, b"<worksheet", DECLARED, "sheet 'Kunden': it has a document type"),
        (SHEET, b"<t>9</t>", b"<t>&who; 9</t>", "sheet 'Kunden': row 9 has an & that"),
        (SHEET, b"<t>9</t>", b"<t><!-- read by lxml -->&who;</t>", "sheet 'Kunden': it has an & that"),
        (SHEET, b"<t>9</t>", b"<t>A & 9</t>", "row 9 has an & that"),
        (
            "xl/workbook.xml",
            b"<workbook ",
            b'<!DOCTYPE workbook [<!ENTITY who "me">]><workbook ',
            "workbook.xml: it has a",
        ),
    ],
)
@pytest.mark.parametrize("options", [{}, {"tables": {"Kunden": {"range": "A1:B4"}}}])
def test_rows_and_texts_that_would_be_read_past_are_refused(
    tmp_path: Path, part: str, old: bytes, new: bytes, said: str, options: dict[str, Any]
) -> None:
    """A second lot of rows, and references to what a document type declares; also behind the end of a range."""
    (tmp_path / "t.xlsx").write_bytes(changed(whole(tmp_path), part, old, new))
    with pytest.raises(SourceError) as raised:
        read(open_files({"": ["t.xlsx"]}, options, tmp_path), "Kunden")
    assert raised.value.message.startswith("t.xlsx is damaged: ")
    assert said in raised.value.message
    assert "who" not in raised.value.message
    assert raised.value.hint == "open it in Excel and save it anew"


def test_references_that_xml_has_are_the_characters_that_they_stand_for(tmp_path: Path) -> None:
    assert value_of(tmp_path, '<c r="B2" t="str"><v>&lt;&amp;who;&gt;&#233;&#xE9;</v></c>') == "<&who;>éé"


def test_every_place_where_a_file_may_be_cut_off_is_noticed(tmp_path: Path) -> None:
    data = whole(tmp_path)
    for size in range(1, len(data) - 1, max(len(data) // 40, 1)):
        (tmp_path / "t.xlsx").write_bytes(data[:size])
        with pytest.raises(SourceError):
            read(open_files({"": ["t.xlsx"]}, {}, tmp_path), "Kunden")


# ------------------------------------------------------------------------------------------------------- other formats


def test_workbooks_of_excel_97_are_read_to_the_same_texts(tmp_path: Path) -> None:
    book = xlwt.Workbook()
    sheet = book.add_sheet("Kunden")
    hidden = book.add_sheet("Geheim")
    hidden.visibility = 1
    hidden.write(0, 0, "x")
    hidden.write(1, 0, "y")
    date, moment = (xlwt.easyxf(num_format_str=code) for code in ("yyyy-mm-dd", "dd/mm/yyyy hh:mm"))
    for column, name in enumerate(["id", "x", "land"]):
        sheet.write(2, column, name)
    values: list[tuple[Any, Any, str | None]] = [
        (1.0, None, "1"),
        (0.1, None, "0.1"),
        (1e22, None, "10000000000000000000000"),
        (dt.date(2020, 1, 31), date, "2020-01-31"),
        (dt.datetime(2020, 1, 31, 12, 30), moment, "2020-01-31 12:30:00"),
        (True, None, "true"),
        ("1.0", None, "1.0"),
        ("Größe & 文", None, "Größe & 文"),
        (None, date, None),
    ]
    for r, (value, style, _) in enumerate(values, 4):
        sheet.write(r, 0, r + 1)
        sheet.write(r, 1, value, style or xlwt.Style.default_style)
    sheet.write_merge(4, 6, 2, 2, "DE")
    sheet.row(20).set_cell_error(1, 0x2A)
    sheet.write(20, 0, "bad")
    book.save(str(tmp_path / "t.xls"))
    source = open_files({"": ["t.xls"]}, {"merged": "fill"}, tmp_path)
    assert source.tables() == ("Kunden",)
    rows, [reject] = read(source, "Kunden")
    assert [r["x"] for r in rows] == [text for _, _, text in values]
    assert [r["land"] for r in rows[:4]] == ["DE", "DE", "DE", None]
    assert (reject.reason, reject.origin.locator["row"]) == ("#N/A in x (Kunden!B21)", 21)
    book.dates_1904 = True
    book.save(str(tmp_path / "t.xls"))
    rows, _ = read(open_files({"": ["t.xls"]}, {}, tmp_path), "Kunden")
    assert rows[3]["x"] == "2024-02-01"  # xlwt writes the same number, which means another day then
    data = (tmp_path / "t.xls").read_bytes()
    for size in range(600, len(data), 700):
        (tmp_path / "t.xls").write_bytes(data[:size])
        with pytest.raises(SourceError):
            read(open_files({"": ["t.xls"]}, {"merged": "fill"}, tmp_path), "Kunden")


def test_binary_workbooks_are_read_to_the_same_texts_as_calamine_reads(tmp_path: Path) -> None:
    import fastexcel

    head = [(0, "text", "id", 0), (1, "text", "x", 0)]
    cells: list[tuple[str, object, int, str]] = [
        ("rk", -7, 0, "-7"),
        ("hundredths", 1234, 0, "12.34"),
        ("real", 0.1, 0, "0.1"),
        ("real", 0.30000000000000004, 0, "0.30000000000000004"),
        ("formula", 1e22, 0, "10000000000000000000000"),
        ("real", 43861.0, DATE, "2020-01-31"),
        ("real", 43861.520833333336, DATETIME, "2020-01-31 12:30:00"),
        ("bool", True, 0, "true"),
        ("text", "Größe 文", 0, "Größe 文"),
        ("rich", "bunt", 0, "bunt"),
        ("shared", 1, 0, "zwei"),
    ]
    rows = {3: head} | {
        5 + i: [(0, "rk", i, 0), (1, kind, value, style)] for i, (kind, value, style, _) in enumerate(cells)
    }
    rows[40] = [(0, "rk", 40, 0), (1, "error", 0x17, 0)]
    write_xlsb(tmp_path / "t.xlsb", rows, ["eins", "zwei"], merged=[(4, 5, 2, 2)])
    found, [reject] = read(open_files({"": ["t.xlsb"]}, {}, tmp_path), "Kunden")
    assert [r["x"] for r in found] == [text for *_, text in cells]
    assert reject.reason == "#REF! in x (Kunden!B40)"
    sheet = fastexcel.read_excel(tmp_path / "t.xlsb").load_sheet(0, header_row=None, dtypes="string", skip_rows=0)
    theirs = [text for text in sheet.to_arrow().column(1).to_pylist() if text is not None]
    # calamine cuts numbers to nine decimals, and has no rich texts
    agreed = [text for *_, text in cells if text not in ("0.30000000000000004", "bunt")]
    assert [text.replace(" 00:00:00", "") for text in theirs[1:] if text != "0.3"] == agreed
    write_xlsb(tmp_path / "t.xlsb", rows, ["eins", "zwei"], epoch_1904=True)
    assert read(open_files({"": ["t.xlsb"]}, {}, tmp_path), "Kunden")[0][5]["x"] == "2024-02-01"


def test_workbooks_with_macros_are_workbooks(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(["id"])
    book.active.append([1])
    book.save(tmp_path / "t.xlsm")
    assert read(open_files({"": ["t.xlsm"]}, {}, tmp_path), "Sheet") == ([{"id": "1"}], [])
