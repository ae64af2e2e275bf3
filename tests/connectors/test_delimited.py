"""Delimited files as a source: what a user sees of values, columns, files, encodings, locators and refusals."""

import csv
import gzip
import io
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.delimited import detect, open_files
from connectors.registry import open_source
from migrate.core import Reject, Source
from migrate.errors import SourceError, UsageError

Rows = list[dict[str, str | None]]


def read(
    source: Source, table: str, size: int = 1 << 23, columns: Sequence[str] | None = None
) -> tuple[Rows, list[Reject]]:
    """All rows and rejects of a table; checks that every ordinal has one fate and that counting agrees."""
    described = source.schema(table)
    rows: Rows = []
    rejects: list[Reject] = []
    for number, partition in enumerate(source.partitions(described, rows=1 << 40, bytes=size)):
        assert partition.ordinal == number
        for batch in source.read(partition, columns or described.schema.names):
            fates = sorted([*batch.ordinals.tolist(), *(reject.ordinal for reject in batch.rejects)])
            assert fates == list(range(source.count(partition)))  # type: ignore[attr-defined]
            assert batch.rows.num_rows == len(batch.ordinals)
            rows += batch.rows.to_pylist()
            rejects += batch.rejects
    return rows, rejects


def one(tmp_path: Path, data: bytes, name: str = "t.csv", **options: Any) -> Source:
    (tmp_path / name).write_bytes(data)
    return open_files({"t": [name]}, options, tmp_path)


def values(tmp_path: Path, data: bytes, **options: Any) -> list[tuple[str | None, ...]]:
    rows, rejects = read(one(tmp_path, data, **options), "t")
    assert not rejects
    return [tuple(row.values()) for row in rows]


# ---------------------------------------------------------------------------------------------------------- the values


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'a,b\n"x, y",2\n', [("x, y", "2")]),
        (b'a,b\n1,"ha ""ha"" ha"\n3,4', [("1", 'ha "ha" ha'), ("3", "4")]),
        (b'a,b\n"",\n,""\n', [("", None), (None, "")]),
        (b'key,val\n1,"{""type"": ""Point"", ""xy"": [1.0, 2.0]}"\n', [("1", '{"type": "Point", "xy": [1.0, 2.0]}')]),
        (b'a,b\n"Once upon\na time",5\n', [("Once upon\na time", "5")]),
        (b'a,b\r\n"Once upon\r\na time",5\r\n', [("Once upon\r\na time", "5")]),
        (b'a,b\n1,"ha\n""ha""\nha"\n', [("1", 'ha\n"ha"\nha')]),
        ("a,b\n1,ʤ\n漢字,😀\n".encode(), [("1", "ʤ"), ("漢字", "😀")]),
        ("a,b\n37°36'37.8\"N 121°2'17.9\"W,Modesto\n5\" pipe,x\n".encode(),
         [("37°36'37.8\"N 121°2'17.9\"W", "Modesto"), ('5" pipe', "x")]),
        (b"a,b\n1,2\r\n5,6\n\n\r\n7,8", [("1", "2"), ("5", "6"), ("7", "8")]),
        (b"a,b\r1,2\r\r\"x\n\"\"y\r\n\",4", [("1", "2"), ('x\n"y\r\n', "4")]),
        (b"a,b\r\n\"1\r\",\"\r\"\r\n\"\r\r\n\",2", [("1\r", "\r"), ("\r\r\n", "2")]),
        (b"a,b\n\x00,x\x00y\n", [("\0", "x\0y")]),
        (b"a,b\n  x , y\t\n", [("  x ", " y\t")]),
        ("a,b\n\ufeffx,y\n".encode(), [("\ufeffx", "y")]),
        (b"a\n\n\"\"\nx\n", [("",), ("x",)]),
    ],
    ids=range(16),
)  # fmt: skip
def test_reads(tmp_path: Path, data: bytes, expected: list[tuple[str | None, ...]]) -> None:
    assert values(tmp_path, data) == expected


def test_bare_quotes_beside_bytes_that_are_no_utf8(tmp_path: Path) -> None:
    data = b"id,at,city\n1,37\xb036'37.8\"N 121\xb02'17.9\"W,Modesto\n"
    expected = [("1", "37°36'37.8\"N 121°2'17.9\"W", "Modesto")]
    assert values(tmp_path, data, encoding="latin-1") == values(tmp_path, data) == expected
    rows, [reject] = read(one(tmp_path, data, encoding="utf-8"), "t")
    assert (rows, reject.rule, reject.column) == ([], "encoding", "at")


texts = st.text(
    alphabet=st.one_of(st.sampled_from(",;\"\n\r\\'\0 aN\ufeff\x1a"), st.characters(codec="utf-8")), max_size=8
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(texts, texts, texts), min_size=1, max_size=12), st.integers(1, 60), st.data())
def test_what_the_csv_module_writes_is_read_back(
    tmp_path: Path, table: list[tuple[str, str, str]], size: int, data: st.DataObject
) -> None:
    out = io.StringIO(newline="")
    quoting = data.draw(st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]))
    terminator = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    encoding = data.draw(st.sampled_from(["utf-8", "utf-16-le", "utf-16-be"]))
    csv.writer(out, quoting=quoting, lineterminator=terminator).writerows([("a", "b", "c"), *table])
    source = one(tmp_path, out.getvalue().encode(encoding), encoding=encoding, delimiter=",", quote='"', escape="none")
    rows, rejects = read(source, "t", size)
    assert not rejects
    assert [tuple(row.values()) for row in rows] == table


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(['"', '""', ",", "\n", "\r\n", "\r", "\\", "\\N", "x", "é", "\0", '"y"']), max_size=40),
       st.integers(1, 40), st.sampled_from(["none", "\\"]), st.sampled_from(["reject", "pad"]))  # fmt: skip
def test_any_text_in_any_slices_gives_the_same_rows_and_rejects(
    tmp_path: Path, parts: list[str], size: int, escape: str, ragged: str
) -> None:
    data = "".join(["a,b\n", *parts]).encode()
    options = {"delimiter": ",", "quote": '"', "escape": escape, "ragged": ragged, "encoding": "utf-8"}
    source = one(tmp_path, data, **options, nulls=["", "\\N"])
    whole, whole_rejects = read(source, "t")
    rows, rejects = read(source, "t", size)
    assert rows == whole
    assert [(reject.rule, reject.origin) for reject in rejects] == [(r.rule, r.origin) for r in whole_rejects]
    for reject in rejects:
        assert data[reject.origin.locator["start"] : reject.origin.locator["end"]] == reject.origin.raw


def test_no_slice_ends_inside_quotes(tmp_path: Path) -> None:
    """Whatever its size: also where several quoted fields in a row hold line ends."""
    data = b'a,b,c\n"","000\n11111111","222\n33333333"\n' + b'"x\ny","x\ny","x\ny"\n' * 20
    expected = [("", "000\n11111111", "222\n33333333"), *[("x\ny",) * 3] * 20]
    for size in range(1, 80):
        rows, rejects = read(one(tmp_path, data), "t", size)
        assert not rejects, size
        assert [tuple(row.values()) for row in rows] == expected, size


def test_columns_are_chosen_and_ordered(tmp_path: Path) -> None:
    source = one(tmp_path, b"a,b,c\n1,2,3\n4,5\n")
    rows, rejects = read(source, "t", columns=["c", "a"])
    assert [list(row.items()) for row in rows] == [[("c", "3"), ("a", "1")]]
    assert len(rejects) == 1
    [partition] = source.partitions(source.schema("t"), rows=10, bytes=1000)
    [batch] = source.read(partition, ["b"])
    assert batch.rows.schema == pa.schema([("b", pa.string())])
    [batch] = source.read(partition, [])
    assert batch.ordinals.tolist() == [0]


def test_nulls_are_unquoted_texts(tmp_path: Path) -> None:
    data = b'a,b\nNULL,"NULL"\n,""\n'
    assert values(tmp_path, data) == [("NULL", "NULL"), (None, "")]
    assert values(tmp_path, data, nulls=["NULL"]) == [(None, "NULL"), ("", "")]
    assert values(tmp_path, data, nulls=[]) == [("NULL", "NULL"), ("", "")]


def test_escapes_are_literal_and_their_null_is_no_letter(tmp_path: Path) -> None:
    data = b'a,b\n\\N,N\nx\\,y,"say \\"hi\\""\nback\\\\slash,two\\\nlines\n",\\N,",a\\,\\N\n'
    options = {"escape": "\\", "quote": '"', "delimiter": ",", "nulls": ["\\N"]}
    assert values(tmp_path, data, **options) == [
        (None, "N"), ("x,y", 'say "hi"'), ("back\\slash", "two\nlines"), (",N,", "a,N"),
    ]  # fmt: skip


def test_pad_makes_missing_trailing_fields_null_and_still_rejects_extra_ones(tmp_path: Path) -> None:
    source = one(tmp_path, b'a,b,c\n1,2,3\n4\n5,"6"\n7,8,9,10\n11,12,13\n', ragged="pad", nulls=["-"])
    rows, [reject] = read(source, "t")
    assert [tuple(row.values()) for row in rows] == [
        ("1", "2", "3"), ("4", None, None), ("5", "6", None), ("11", "12", "13"),
    ]  # fmt: skip
    assert (reject.rule, reject.reason) == ("fields", "expected 3 fields, found 4")
    rows, _ = read(source, "t", columns=["c"])
    assert [row["c"] for row in rows] == ["3", None, None, "13"]


# --------------------------------------------------------------------------------------------------------- the rejects


def test_a_ragged_row_says_where_it_is(tmp_path: Path) -> None:
    data = b'a,b\r\n1,"x\r\ny"\r\n1,2,3\r\n5,6\r\n7'
    rows, [extra, cut] = read(one(tmp_path, data), "t")
    assert [row["a"] for row in rows] == ["1", "5"]
    assert (extra.ordinal, extra.rule, extra.reason) == (1, "fields", "expected 2 fields, found 3")
    assert extra.origin.locator == {"file": "t.csv", "line": 4, "last_line": 4, "start": 15, "end": 20}
    assert extra.origin.raw == b"1,2,3"
    assert cut.reason == "expected 2 fields, found 1; the file ends here without a line end: it may be cut off"
    assert (cut.origin.locator["line"], cut.origin.raw) == (6, b"7")


def test_a_broken_region_is_one_reject_up_to_the_next_good_row(tmp_path: Path) -> None:
    data = b'a,b,c\n1,2,3\n4,"runaway,6\nx\n"7",8"\n10,"11",12\n13,"14"15,16\n17,18,19\n'
    rows, [runaway, junk] = read(one(tmp_path, data), "t")
    assert [row["a"] for row in rows] == ["1", "10", "17"]
    assert (runaway.rule, runaway.ordinal) == ("structure", 1)
    assert runaway.reason == "the quote that opens field 2 is not closed; the next 2 lines did not read as rows either"
    assert runaway.origin.raw == b'4,"runaway,6\nx\n"7",8"'
    assert (runaway.origin.locator["line"], runaway.origin.locator["last_line"]) == (3, 5)
    assert junk.reason == "text follows the closing quote of field 2"
    assert (junk.origin.locator["line"], junk.origin.locator["last_line"]) == (7, 7)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=repr)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_a_carriage_return_inside_a_row_neither_cuts_it_nor_makes_one_up(tmp_path: Path, end: bytes, size: int) -> None:
    lines = [
        b"id;a;b", b"1;x;y", b"2;first part\rsecond part", b"3;x;y", b"4;x;one\rtwo;three;four", b"5;x;y",
        b'6;"q\rq";y', b'7;"q"\r8;x;y', b'9;"q' + end + b'10;x;y";z\r', b'11;a\r"x";y', b"12;x;y", b"13;x\r;y",
    ]  # fmt: skip
    data = end.join([line if line[-1:] != b"\r" else line + b"z" for line in lines]) + end
    rows, rejects = read(one(tmp_path, data), "t", size)
    assert [row["id"] for row in rows] == ["1", "3", "5", "6", "12"]
    assert [row["a"] for row in rows] == ["x", "x", "x", "q\rq", "x"]
    assert {(reject.rule, reject.reason) for reject in rejects} == {
        ("structure", "a carriage return stands inside the row")
    }
    places = [(reject.origin.locator["line"], reject.origin.locator["last_line"]) for reject in rejects]
    assert places == [(3, 3), (5, 5), (8, 8), (9, 10), (11, 11), (13, 13)]
    assert [reject.origin.raw for reject in rejects[:2]] == [lines[2], lines[4]]


def test_the_line_end_is_detected_and_pinned(tmp_path: Path) -> None:
    source = one(tmp_path, b"note\r\ra,b\r1,2\r3\r", skip_lines=2)
    [note] = source.schema("t").notes
    assert "lines end in CR (detected)" in note
    [partition] = source.partitions(source.schema("t"), rows=99, bytes=99)
    assert json.loads(partition.token)["dialect"]["line_end"] == "\r"
    rows, [reject] = read(source, "t")
    assert (rows, reject.rule, reject.origin.locator["line"]) == ([{"a": "1", "b": "2"}], "fields", 5)
    # A line feed that comes only after all that was looked at: it is no end of a line, and no part of a value either.
    late = b"a,b\r" + b"1,2\r" * 100_000 + b"3,4\n5\r6,7\n8,9\r10,11"
    rows, rejects = read(one(tmp_path, late), "t")
    assert len(rows) == 100_001
    assert [(r.reason, r.origin.locator["line"], r.origin.raw) for r in rejects] == [
        ("a line feed stands inside the row", 100_002, b"3,4\n5"),
        ("a line feed stands inside the row", 100_003, b"6,7\n8,9"),
    ]


def test_a_record_past_the_limit_is_cut_out_and_its_bytes_are_kept_up_to_64_kib(tmp_path: Path) -> None:
    data = b"a,b\n1,2\n3," + b"x" * 100_000 + b"\n5,6\n"
    rows, [reject] = read(one(tmp_path, data, max_record_bytes=1000), "t", 100)
    assert [row["a"] for row in rows] == ["1", "5"]
    assert reject.reason == (
        "the record is longer than max_record_bytes allows (the first 65536 of 100002 bytes are kept)"
    )
    assert len(reject.origin.raw) == 65536
    assert reject.origin.locator["end"] - reject.origin.locator["start"] == 100_002
    assert len(read(one(tmp_path, data), "t")[0]) == 3


def test_undecodable_bytes_reject_their_row_alone(tmp_path: Path) -> None:
    data = "nom,ville\nRené,Évreux\n".encode("cp1252") + b"a,\x81b\nc,d\n"
    rows, [reject] = read(one(tmp_path, data, encoding="cp1252"), "t")
    assert [tuple(row.values()) for row in rows] == [("René", "Évreux"), ("c", "d")]
    assert (reject.rule, reject.column, reject.ordinal) == ("encoding", "ville", 1)
    assert reject.reason == "byte 0x81 at byte 24 of the file is not valid cp1252"
    assert reject.value == "\\x81b"
    assert reject.origin.raw == b"a,\x81b"


def test_lone_surrogates_and_half_a_unit_in_utf_16(tmp_path: Path) -> None:
    data = "a,b\n1,😀\n".encode("utf-16") + b"\x00\xd8,\x00x\x00\n\x003\x00,\x004\x00\n\x005\x00,\x006\x00z"
    rows, [lone, half] = read(one(tmp_path, data), "t")
    assert [tuple(row.values()) for row in rows] == [("1", "😀"), ("3", "4")]
    assert lone.reason == "bytes 0x00d8 at byte 20 of the file are not valid utf-16-le"
    assert (lone.column, lone.origin.raw) == ("a", b"\x00\xd8,\x00x\x00")
    assert half.origin.raw == b"5\x00,\x006\x00z"
    assert half.origin.locator == {"file": "t.csv", "line": 5, "last_line": 5, "start": 36, "end": 43}


def test_locate_gives_the_bytes_of_any_row(tmp_path: Path) -> None:
    data = 'a;b\nä;1\nö;"x\ny"\nü;3\n'.encode("cp1252")
    source = one(tmp_path, data, encoding="cp1252")
    [partition] = source.partitions(source.schema("t"), rows=10, bytes=1000)
    [batch] = source.read(partition, ["a"])
    last, middle = batch.locate([2, 1])
    assert middle.raw == 'ö;"x\ny"'.encode("cp1252")
    assert middle.locator == {"file": "t.csv", "line": 3, "last_line": 4, "start": 8, "end": 15}
    assert (last.locator["line"], last.raw) == (5, b"\xfc;3")


# -------------------------------------------------------------------------------------------------------- the dialects


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_unicode_is_detected_with_and_without_a_mark(tmp_path: Path, encoding: str) -> None:
    text = "name;city\r\n" + 'Zoë;"Köln;\n"\r\n' * 50 + "李;北京\r\n"
    source = one(tmp_path, text.encode(encoding))
    assert "delimiter ';' (detected)" in source.schema("t").notes[0]
    for size in (1, 50, 1 << 20):
        rows, rejects = read(source, "t", size)
        assert not rejects
        assert len(rows) == 51
        assert tuple(rows[0].values()) == ("Zoë", "Köln;\n")
        assert tuple(rows[50].values()) == ("李", "北京")


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", "Müller;Straße 5 – „Hof“\nGarçon;Crème brûlée 3 €\nPeña;Año 12\n"),
        ("cp1250", "Łukasz;Święty Jan ąęćżź\nJiří;Dvořák, Plzeň\nŻółw;gęś\n"),
        ("cp1251", "Иванов;улица Ленина, дом 5\nПетров;Москва, площадь Победы\nСидоров;Новосибирск\n"),
        ("cp850", "Müller;Straße fünf, Köln\nGarçon;Crème brûlée\nPeña;Año señor\n"),
        ("mac-roman", "Müller;Straße fünf, Köln\nGarçon;Crème brûlée\nPeña;Año señor\n"),
    ],
)
def test_single_byte_encodings_are_detected(tmp_path: Path, encoding: str, text: str) -> None:
    (tmp_path / "t.csv").write_bytes(("name;text\n" + text * 10).encode(encoding))
    assert detect(tmp_path / "t.csv").encoding == encoding
    rows, _ = read(open_files({"t": ["t.csv"]}, {}, tmp_path), "t")
    assert rows[0]["text"] == text.split("\n")[0].split(";")[1]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", "\x01", "^"])
@pytest.mark.parametrize("quote", ['"', "'"])
def test_delimiter_and_quote_are_detected(tmp_path: Path, delimiter: str, quote: str) -> None:
    lines = [
        "id,name,price;eur",
        "1,O Brien and sons; etc,1;50",
        f"2,{quote}a,b{quote},2;75",
        f"3,{quote}c{quote},4;00",
    ]
    data = "\n".join(lines).replace(";", "." if delimiter == "," else ",,").replace(",", delimiter)
    (tmp_path / "t.csv").write_text(data)
    found = detect(tmp_path / "t.csv")
    assert (found.delimiter, found.quote, found.escape) == (delimiter, quote, "")


def test_apostrophes_are_no_quotes_and_paths_have_no_escapes(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("name;dir\nO'Brien;C:\\new\\\n'tis;\"D:\\\"\nRock 'n' roll;x\n")
    found = detect(tmp_path / "t.csv")
    assert (found.delimiter, found.quote, found.escape) == (";", '"', "")


def test_backslash_escapes_are_detected_where_nothing_else_explains_the_text(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n" + '"he said \\"no, never\\" twice","x"\n' * 20)
    assert detect(tmp_path / "t.csv").escape == "\\"


@pytest.mark.parametrize(
    "data",
    [
        b"id,v\r\n1,C:\\\r\n2,b\r\n3,c,c\r\n",  # a value that ends in a backslash, and a ragged row
        b'id,v\n1,C:\\\n2,b\n3,c,c\n4,5\\" pipe\n',
        b'id,v\n1,"D:\\"\n2,b\n3,"run\n4,"D:\\"\n',  # a quote that is not closed
        b'id,v\n1,"C:\\new"\n2,"5\\" pipe"\n3,c\n',  # a broken row, which is not worth the backslash of another
        b'id,v\n1,a\\,b\n2,"C:\\""\n3,5\\"\n',
        b'id;v\n1;"\\"\n2;x\\;y\n3;C:\\;z\n',  # ragged, but not broken
    ],
    ids=range(6),
)
def test_no_escape_is_detected_where_none_is_needed(tmp_path: Path, data: bytes) -> None:
    source = one(tmp_path, data)
    assert detect(tmp_path / "t.csv").escape == ""
    rows, rejects = read(source, "t")
    assert rejects
    assert sum(str(row["v"]).count("\\") for row in rows) + sum(
        r.origin.raw.count(b"\\") for r in rejects
    ) == data.count(b"\\")
    assert not any("\r" in str(row["v"]) for row in rows)


def test_damage_does_not_mislead_the_detection(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "a;b;c\n" + '1;"x, y";2,5\n' * 10 + '1;"run;2\n' + '3;"O\'Neil";4,0\n' * 40 + '1;"a"b;3\n'
    )
    found = detect(tmp_path / "t.csv")
    assert (found.delimiter, found.quote) == (";", '"')


def test_given_options_win_and_are_told_apart_from_detected_ones(tmp_path: Path) -> None:
    source = one(tmp_path, b"a;b\n'x;y';\"2\n", delimiter=";", quote="'", encoding="cp1252")
    assert source.schema("t").notes == ("t.csv: cp1252 (given), delimiter ';' (given), quote \"'\" (given), 2 columns",)
    assert read(source, "t")[0] == [{"a": "x;y", "b": '"2'}]
    assert values(tmp_path, b'a,b\n"x,"y"\n', quote="none", delimiter="comma") == [('"x', '"y"')]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delimeter": ";"}, "unknown option 'delimeter'"),
        ({"delimiter": ";;"}, "option 'delimiter' must be one ASCII character, not ';;'"),
        ({"delimiter": "§"}, "option 'delimiter' must be one ASCII character"),
        ({"quote": "\n"}, "option 'quote' must be one ASCII character"),
        ({"delimiter": "'", "quote": "'"}, "must be three different characters"),
        ({"header": "yes"}, "option 'header' must be true or false, not 'yes'"),
        ({"nulls": "NULL"}, "option 'nulls' must be a list of texts"),
        ({"columns": ["a", "A"]}, "option 'columns'"),
        ({"skip_lines": -1}, "option 'skip_lines' must be a whole number of at least 0"),
        ({"max_record_bytes": True}, "option 'max_record_bytes'"),
        ({"ragged": "drop"}, "option 'ragged' must be reject or pad"),
        ({"encoding": "utf-99"}, "unknown encoding 'utf-99'"),
        ({"encoding": "shift_jis"}, "encoding 'shift_jis' is not supported"),
        ({"encoding": "utf-32"}, "encoding 'utf-32' is not supported"),
        ({"encoding": "cp037"}, "encoding 'cp037' is not supported"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        one(tmp_path, b"a,b\n1,2\n", **options)
    assert message in caught.value.message


# --------------------------------------------------------------------------------------------------------- the headers


def columns(source: Source) -> list[str]:
    names: list[str] = source.schema("t").schema.names
    return names


def test_header_names_are_trimmed_completed_and_told_apart(tmp_path: Path) -> None:
    source = one(tmp_path, b'\n Name ,,name,"Na,me",Name,Name_2,007\n1,2,3,4,5,6,7\n')
    assert columns(source) == ["Name", "column_2", "name_3", "Na,me", "Name_4", "Name_2", "007"]
    assert (
        source.schema("t")
        .notes[0]
        .endswith(
            "7 columns, header renamed: field 2 without a name -> 'column_2', 'name' (second) -> 'name_3', "
            "'Name' (third) -> 'Name_4'"
        )
    )
    assert read(source, "t")[0][0]["Name_2"] == "6"


def test_a_file_without_a_header(tmp_path: Path) -> None:
    assert columns(one(tmp_path, b"1,2\n3,4\n", header=False)) == ["column_1", "column_2"]
    assert values(tmp_path, b"1,2\n3,4\n", header=False, columns=["x", "y"]) == [("1", "2"), ("3", "4")]
    assert columns(one(tmp_path, b"1,2\n3,4\n", header=False, columns=["x", "y"])) == ["x", "y"]
    assert columns(one(tmp_path, b"a,b\n3,4\n", columns=["x", "y"])) == ["x", "y"]
    assert values(tmp_path, b"a,b\n3,4\n", columns=["x", "y"]) == [("3", "4")]


def test_lines_before_the_header_are_skipped(tmp_path: Path) -> None:
    source = one(tmp_path, b'Report "of\r\n\r2024;;\r\na,b\r\n1,2\r\n3\r\n', skip_lines=2)
    rows, [reject] = read(source, "t")
    assert rows == [{"a": "1", "b": "2"}]
    assert reject.origin.locator["line"] == 5


def test_files_without_rows(tmp_path: Path) -> None:
    assert values(tmp_path, b"a,b\n") == values(tmp_path, b"a,b") == []
    assert list(one(tmp_path, b"a,b\n\n").partitions(one(tmp_path, b"a,b\n\n").schema("t"), rows=1, bytes=1)) == []
    assert values(tmp_path, b"", columns=["a"]) == []
    for nothing in (b"", b"\n\n", b"\xef\xbb\xbf"):
        with pytest.raises(SourceError, match=r"t\.csv is empty: it has no header"):
            one(tmp_path, nothing).schema("t")


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (b'a,"b\n1,2\n', {}, "t.csv:1: the first record is broken: the quote that opens field 2 is not closed"),
        (b"a,b\r1,2\n", {}, "t.csv:1: the first record is broken: a carriage return stands inside the row"),
        (b"a,b\xff\n1,2\n", {"encoding": "utf-8"}, "t.csv:1: the header is not valid utf-8: byte 0xff at byte 3"),
        (b"a,b\n1,2\n", {"columns": ["x"]}, "t.csv:1: the header has 2 fields, but 'columns' names 1"),
        (b"PK\x03\x04...", {}, "t.csv is a zip archive or an Excel workbook, not delimited text"),
    ],
)
def test_unreadable_headers(tmp_path: Path, data: bytes, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError) as caught:
        one(tmp_path, data, **options).schema("t")
    assert caught.value.message == message
    assert caught.value.hint


# ----------------------------------------------------------------------------------------------------------- the files


def test_globs_name_tables_by_stem(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "orders.csv").write_bytes(b"id\n1\n")
    (tmp_path / "in" / "customers.csv.gz").write_bytes(gzip.compress(b"id\n7\n"))
    (tmp_path / "in" / ".hidden.csv").write_bytes(b"id\n")
    source = open_files({"": ["in/*.csv*"]}, {}, tmp_path)
    assert sorted(source.tables()) == ["customers", "orders"]
    assert read(source, "customers")[0] == [{"id": "7"}]
    (tmp_path / "in" / "orders.txt").write_bytes(b"id\n2\n")
    with pytest.raises(UsageError, match=r"in/orders\.csv and in/orders\.txt would both be the table 'orders'"):
        open_files({"": ["in/*"]}, {}, tmp_path)
    with pytest.raises(SourceError, match=r"no file matches 'in/\*\.tsv'"):
        open_files({"": ["in/*.tsv"]}, {}, tmp_path)
    with pytest.raises(UsageError, match="no table 'nope' among the files"):
        source.schema("nope")


def test_a_file_under_several_names_is_read_once_and_the_notes_say_so(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "t.csv").write_bytes(b"id\n1\n")
    (tmp_path / "u.csv").write_bytes(b"id\n1\n")  # the same text, but another file
    (tmp_path / "link.csv").symlink_to("t.csv")
    (tmp_path / "folder").symlink_to(".")
    names = ["t.csv", "./t.csv", "sub/../t.csv", str(tmp_path / "t.csv"), "folder/t.csv", "*.csv"]
    source = open_files({"t": names}, {}, tmp_path)
    assert read(source, "t")[0] == [{"id": "1"}, {"id": "1"}]
    [note] = [note for note in source.schema("t").notes if "read once" in note]
    assert note.startswith("t.csv: ")
    assert all(name in note for name in ("./t.csv", "sub/../t.csv", "folder/t.csv", "link.csv"))
    assert not any("read once" in note for note in open_files({"u": ["u.csv"]}, {}, tmp_path).schema("u").notes)

    stems = open_files({"": ["t.csv", "./t.csv", "link.csv"]}, {}, tmp_path)
    assert sorted(stems.tables()) == ["link", "t"]  # two names, two tables
    assert read(stems, "t")[0] == read(stems, "link")[0] == [{"id": "1"}]


def test_files_of_one_table_may_differ_in_dialect_and_in_the_order_of_columns(tmp_path: Path) -> None:
    (tmp_path / "a1.csv").write_bytes(b"id,name\n1,x\n")
    (tmp_path / "a2.csv").write_bytes("name;id\nö;2\n".encode("cp1252"))
    source = open_files({"a": ["a*.csv"]}, {}, tmp_path)
    assert read(source, "a")[0] == [{"id": "1", "name": "x"}, {"id": "2", "name": "ö"}]
    assert len(source.schema("a").notes) == 2
    (tmp_path / "a3.csv").write_bytes(b"id,nom\n3,y\n")
    with pytest.raises(SourceError) as caught:
        open_files({"a": ["a*.csv"]}, {}, tmp_path).schema("a")
    assert (
        caught.value.message
        == "a3.csv has no column 'name' and an extra column 'nom'; its table's first file is a1.csv"
    )


def test_gzip_reads_as_its_text_and_says_so(tmp_path: Path) -> None:
    lines = [f"{i},{'x' * (i % 50)}" for i in range(2000)]
    text = "\n".join(["id,v", *lines, "bad", ""]).encode()
    packed = gzip.compress(text[:9000]) + gzip.compress(text[9000:])
    source = one(tmp_path, packed, "t.csv.gz")
    rows, [reject] = read(source, "t", 4096)
    assert [row["id"] for row in rows] == [str(i) for i in range(2000)]
    locator = reject.origin.locator
    assert locator["decompressed"] is True
    assert text[locator["start"] : locator["end"]] == b"bad"
    assert locator["line"] == 2002


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: data[:30] + b"\xff\xff\xff" + data[33:]])
def test_damaged_gzip_is_named(tmp_path: Path, damage: Any) -> None:
    packed = gzip.compress("\n".join(f"{i},{i * i}" for i in range(5000)).encode())
    with pytest.raises(SourceError, match=r"t\.csv\.gz: the gzip data is cut off or damaged"):
        one(tmp_path, damage(packed), "t.csv.gz").schema("t")


@pytest.mark.parametrize(
    "change",
    [lambda d: d[:-1] + b"9", lambda d: d + b"7,8\n", lambda d: d[:-4], lambda d: b"b,a" + d[3:], lambda d: b""],
    ids=["other bytes", "longer", "shorter", "other header", "empty"],
)
def test_a_file_that_changed_after_the_plan_is_refused(tmp_path: Path, change: Any) -> None:
    data = b"a,b\n1,2\n3,4\n5,6"
    source = one(tmp_path, data)
    partitions = list(source.partitions(source.schema("t"), rows=10, bytes=5))
    (tmp_path / "t.csv").write_bytes(change(data))
    for reader in (source, open_files({"t": ["t.csv"]}, {}, tmp_path)):
        for ask in (lambda p, reader=reader: list(reader.read(p, ["a"])), lambda p, reader=reader: reader.count(p)):
            with pytest.raises(SourceError, match=r"t\.csv has changed since the plan") as caught:
                ask(partitions[-1])
            assert "migrate run --restart" in caught.value.hint


def test_a_line_without_end_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.delimited._LONGEST", 1 << 16)
    source = one(tmp_path, b"a,b\n1,2\n" + bytes(1 << 18), max_record_bytes=1000)
    with pytest.raises(SourceError, match=r"t\.csv:3: no end of the record within 65536 bytes"):
        list(source.partitions(source.schema("t"), rows=10, bytes=1 << 10))


def test_an_unknown_column_is_named(tmp_path: Path) -> None:
    source = one(tmp_path, b"a,b\n1,2\n")
    [partition] = source.partitions(source.schema("t"), rows=10, bytes=100)
    with pytest.raises(SourceError, match=r"t\.csv has no column 'A'"):
        list(source.read(partition, ["A"]))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    source = one(tmp_path, b"a,b\n1,2\n")
    [partition] = source.partitions(source.schema("t"), rows=10, bytes=100)
    (tmp_path / "t.csv").unlink()
    with pytest.raises(SourceError, match=r"t\.csv: no such file or directory"):
        list(source.read(partition, ["a"]))


def test_a_token_is_compact_json_that_another_process_can_read_by(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"a,b\n" + b"1,2\n" * 100)
    partitions = list(one(tmp_path, b"a,b\n" + b"1,2\n" * 100).partitions(
        one(tmp_path, b"a,b\n" + b"1,2\n" * 100).schema("t"), rows=30, bytes=1 << 20))  # fmt: skip
    assert [partition.rows for partition in partitions] == [30, 30, 30, 10]
    assert [partition.bytes for partition in partitions] == [120, 120, 120, 40]
    token = json.loads(partitions[1].token)
    assert (token["file"], token["start"], token["end"], token["line"]) == ("t.csv", 124, 244, 32)
    # Options that would read the file otherwise do not matter any more: the plan has pinned the dialect.
    other = open_files({"t": ["t.csv"]}, {"delimiter": ";", "header": False}, tmp_path)
    [batch] = other.read(partitions[1], ["b"])
    assert batch.rows.to_pylist() == [{"b": "2"}] * 30


def test_threads_read_the_same_source_at_once(tmp_path: Path) -> None:
    lines = [f"{i},é\x81{i}" if i % 100 == 7 else f"{i},é{i}" for i in range(20_000)]
    data = "\n".join(["id,v", *lines]).encode("latin-1")
    source = one(tmp_path, gzip.compress(data), "t.csv.gz", encoding="cp1252")
    partitions = list(source.partitions(source.schema("t"), rows=1 << 40, bytes=10_000))
    results: dict[int, tuple[Any, list[Any]]] = {}

    def work(share: int) -> None:
        for partition in partitions[share::4]:
            [batch] = source.read(partition, ["id", "v"])
            results[partition.ordinal] = batch.rows.to_pylist(), [reject.origin.raw for reject in batch.rejects]

    threads = [threading.Thread(target=work, args=(share,)) for share in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = [row["id"] for ordinal in sorted(results) for row in results[ordinal][0]]
    rejected = [raw for ordinal in sorted(results) for raw in results[ordinal][1]]
    assert rows == [str(i) for i in range(20_000) if i % 100 != 7]
    assert rejected == [line.encode("latin-1") for line in lines[7::100]]


def test_the_registry_opens_by_scheme(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"a\n1\n")
    assert open_source("files", {"": ["t.csv"]}, {}, tmp_path).tables() == ("t",)
    with pytest.raises(UsageError, match=r"no connector reads 'ftp' sources; there are: .*files"):
        open_source("ftp", "ftp://x")
