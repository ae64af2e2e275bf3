"""Laws of workbooks: what is written is what is read, however it is written, and by either way of reading its XML."""

import datetime as dt
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import openpyxl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from workbooks import DATE, DATETIME, DURATION, TIME, Book, Page, inline, letters, number, shared, truth, write_xlsb

from connectors import sheetxml
from connectors.excel import open_files

DAYS = st.dates(dt.date(1900, 3, 1), dt.date(9999, 12, 31))
CLOCKS = st.times().map(lambda t: t.replace(microsecond=t.microsecond // 1000 * 1000))
NEAR = st.dates(dt.date(1900, 3, 1), dt.date(2199, 12, 31))  # a double tells the milliseconds of these days
WORDS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], include_characters="\t\n"), min_size=1, max_size=12
).filter(lambda text: "_x" not in text)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**15), 10**15),
    st.floats(allow_nan=False, allow_infinity=False),
    st.decimals(-(10**9), 10**9, places=2).map(float),
    WORDS,
    DAYS,
    st.builds(dt.datetime.combine, NEAR, CLOCKS),
    CLOCKS,
    st.timedeltas(dt.timedelta(days=-900), dt.timedelta(days=900)).map(
        lambda t: dt.timedelta(seconds=int(t.total_seconds()))
    ),
)
TABLES = st.lists(st.lists(VALUES, min_size=3, max_size=3), min_size=1, max_size=12)


def serial(value: Any) -> float:
    """What Excel stores for a moment."""
    if isinstance(value, dt.timedelta):
        return value / dt.timedelta(days=1)
    if isinstance(value, dt.time):
        return (dt.datetime.combine(dt.date(2000, 1, 1), value) - dt.datetime(2000, 1, 1)) / dt.timedelta(days=1)
    moment = value if isinstance(value, dt.datetime) else dt.datetime.combine(value, dt.time())
    return (moment - dt.datetime(1899, 12, 30)) / dt.timedelta(days=1)


def expected(value: Any) -> str | None:
    match value:
        case None | str():
            return value
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case float():
            if abs(value) < 1e17 and value == int(value):
                return str(int(value))  # a whole number stands as it is written
            text = format(Decimal(repr(value)), "f")
            text = text.rstrip("0").rstrip(".") if "." in text else text
            return "0" if text == "-0" else text
        case dt.timedelta():
            seconds = abs(int(value.total_seconds()))
            text = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
            return f"-{text}" if value < dt.timedelta() else text
        case _:
            return str(value)


def style_of(value: Any) -> int:
    kinds = ((dt.datetime, DATETIME), (dt.date, DATE), (dt.time, TIME), (dt.timedelta, DURATION))
    return next((style for kind, style in kinds if isinstance(value, kind)), 0)


def cell(ref: str, value: Any, strings: list[str], way: int) -> str:
    """A cell as one of several programs would write it."""
    match value:
        case None:
            return ("", f'<c r="{ref}" s="1"/>', f'<c r="{ref}" s="1"></c>')[way % 3]
        case bool():
            return truth(ref, value)
        case str() if way % 2:
            strings.append(value)
            return shared(ref, len(strings) - 1)
        case str() if way % 4 == 2:
            return f'<c r="{ref}" t="str"><f>A1</f><v>{escape(value)}</v></c>'
        case str():
            return inline(ref, value)
        case _:
            digits = value if isinstance(value, int | float) else serial(value)
            text = str(digits) if isinstance(digits, int) else format(digits, ".17g")
            plain = number(ref, text, style_of(value))
            return (plain, plain.replace("><v>", ' t="n"><v>'), plain.replace("<v>", '<f t="x">A1</f><v>', 1))[way % 3]


def sheet(table: list[list[Any]], strings: list[str], ways: Callable[[int], int], quirk: str) -> str:
    rows = [["a", "b", "c"], *table]
    text = ""
    for r, values in enumerate(rows, 1):
        cells = "".join(cell(f"{letters(c)}{r}", v, strings, ways(r * 3 + c)) for c, v in enumerate(values))
        text += f'<row r="{r}" spans="1:3">{cells}</row>'
    match quirk:
        case "pretty":
            return (
                text.replace("<row", "\r\n  <row").replace("<c ", "\r\n    <c ").replace("</row>", "\r\n  </row>\r\n")
            )
        case "comment":
            return text.replace("</row>", "</row><!-- a < b -->", 1)
        case "no references":
            return text if 's="1"/>' in text or any(None in values for values in table) else _without_references(text)
        case "more attributes":
            return text.replace('<c r="A', '<c cm="1" r="A')
    return text


def _without_references(text: str) -> str:
    import re

    return re.sub(r'<(row|c) r="[A-Z0-9]+"', r"<\1", text)


QUIRKS = st.sampled_from(["", "", "pretty", "comment", "no references", "more attributes"])


def rows_of(folder: Path, name: str, table: str = "Kunden") -> list[tuple[str | None, ...]]:
    source = open_files({"": [name]}, {}, folder)
    described = source.schema(table)
    found: list[tuple[str | None, ...]] = []
    for partition in source.partitions(described, rows=1 << 40, bytes=1 << 40):
        for batch in source.read(partition, described.schema.names):
            assert not batch.rejects, batch.rejects
            found += [tuple(row.values()) for row in batch.rows.to_pylist()]
    return found


@contextmanager
def reading(*, plain: bool, block: int) -> Iterator[None]:
    """Reads XML without the way for plain blocks, and in blocks of another size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sheetxml, "_BLOCK", block)
        if not plain:
            patch.setattr(sheetxml, "_plain_cells", lambda _: None)
            patch.setattr(sheetxml, "_plain_strings", lambda _: None)
        yield


def meant(table: list[list[Any]]) -> list[tuple[str | None, ...]]:
    return [tuple(expected(v) for v in values) for values in table if any(v is not None for v in values)]


relaxed = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@relaxed
@given(
    table=TABLES,
    ways=st.lists(st.integers(0, 11), min_size=7, max_size=7),
    quirk=QUIRKS,
    prefix=st.sampled_from(["", "", "x"]),
)
def test_what_is_written_is_read_by_either_way(
    tmp_path: Path, table: list[list[Any]], ways: list[int], quirk: str, prefix: str
) -> None:
    strings: list[str] = []
    body = sheet(table, strings, lambda i: ways[i % 7], quirk)
    if prefix:
        for name in ("row", "c", "v", "is", "t", "f"):
            body = body.replace(f"<{name} ", f"<{prefix}:{name} ").replace(f"<{name}>", f"<{prefix}:{name}>")
            body = body.replace(f"</{name}>", f"</{prefix}:{name}>")
    Book({"Kunden": Page(body)}, strings=strings, prefix=prefix).write(tmp_path / "t.xlsx")
    assert rows_of(tmp_path, "t.xlsx") == meant(table)
    with reading(plain=False, block=1 << 20):
        assert rows_of(tmp_path, "t.xlsx") == meant(table)
    with reading(plain=True, block=100):
        assert rows_of(tmp_path, "t.xlsx") == meant(table)


def test_plain_sheets_are_read_the_fast_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def slow(*_: Any) -> Any:
        raise AssertionError("a plain block went through lxml")

    monkeypatch.setattr(sheetxml, "_parsed_cells", slow)
    monkeypatch.setattr(sheetxml, "_parsed_strings", slow)
    table = [[1, "x & y", dt.date(2020, 1, 31)], [0.1, "  spaced", None], [True, "ü", dt.datetime(2020, 1, 31, 12, 30)]]
    for way in range(12):
        strings: list[str] = []
        Book({"Kunden": Page(sheet(table, strings, lambda _, way=way: way, ""))}, strings=strings).write(
            tmp_path / "t.xlsx"
        )
        assert rows_of(tmp_path, "t.xlsx") == meant(table)
    book = openpyxl.Workbook()
    for values in [["a", "b", "c"], *table]:
        book.active.append(values)
    book.save(tmp_path / "o.xlsx")
    assert rows_of(tmp_path, "o.xlsx", "Sheet") == meant(table)


COLUMNS: list[st.SearchStrategy[Any]] = [
    st.integers(1, 10**9),
    st.sampled_from(
        ["Müller & Söhne", "O'Brien", "<none>", "  two  ", "Größe: 5\" × 3'", "日本", "line\nbreak", "007", "1e5"]
    ),
    st.one_of(st.none(), DAYS),
    st.one_of(st.none(), st.builds(dt.datetime.combine, NEAR, CLOCKS.map(lambda t: t.replace(microsecond=0)))),
    st.decimals(-(10**7), 10**7, places=2).map(float),
    st.booleans(),
    st.one_of(st.none(), WORDS),
]


@relaxed
@given(
    rows=st.lists(st.tuples(*COLUMNS), min_size=1, max_size=20),
    blank=st.sets(st.integers(0, 20), max_size=4),
    data=st.data(),
)
def test_workbooks_of_another_program_go_round(
    tmp_path: Path, rows: list[tuple[Any, ...]], blank: set[int], data: st.DataObject
) -> None:
    book = openpyxl.Workbook()
    page = book.active
    page.title = "Kunden"
    top, left = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 30))
    at = top
    for i, values in enumerate([("Nr", "Name", "Geboren", "Gesehen", "Betrag", "Aktiv", "Notiz"), *rows]):
        for j, value in enumerate(values):
            if value is not None:
                page.cell(at, left + j, value)
        at += 1 + (i in blank)
    book.save(tmp_path / "t.xlsx")
    assert rows_of(tmp_path, "t.xlsx") == [tuple(expected(v) for v in values) for values in rows]


@relaxed
@given(table=TABLES, epoch_1904=st.just(False))
def test_binary_workbooks_hold_the_same(tmp_path: Path, table: list[list[Any]], epoch_1904: bool) -> None:
    rows: dict[int, list[tuple[int, str, object, int]]] = {1: [(c, "text", name, 0) for c, name in enumerate("abc")]}
    for r, values in enumerate(table, 2):
        rows[r] = []
        for c, value in enumerate(values):
            match value:
                case None:
                    continue
                case bool():
                    rows[r].append((c, "bool", value, 0))
                case str():
                    rows[r].append((c, ("text", "rich")[r % 2], value, 0))
                case int() | float() if value and abs(value) >= 1 << 53:
                    continue  # whose digits nobody wrote down
                case int() if abs(value) < 1 << 29:
                    rows[r].append((c, "rk", value, 0))
                case int() | float():
                    rows[r].append((c, "real", float(value), 0))
                case _:
                    rows[r].append((c, "formula", float(serial(value)), style_of(value)))
    write_xlsb(tmp_path / "t.xlsb", rows, epoch_1904=epoch_1904)
    kept = [[None if isinstance(v, int | float) and abs(v) >= 1 << 53 else v for v in values] for values in table]
    assert rows_of(tmp_path, "t.xlsb") == meant(kept)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_the_digits_of_a_number_mean_the_same_double_and_are_the_fewest(values: list[float]) -> None:
    from connectors.cells import numbers

    made, faults = numbers(pa.array([format(value, ".17g") for value in values], pa.string()))
    assert not faults
    for value, text in zip(values, made.to_pylist(), strict=True):
        assert struct.pack("<d", float(text)) == struct.pack("<d", value + 0.0 if value else 0.0)
        assert text == expected(value)
