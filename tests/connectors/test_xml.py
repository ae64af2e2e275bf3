"""XML files as a source: what a user sees of values, paths, tables, encodings, locators and refusals."""

import gzip
import json
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from lxml import etree

from connectors.xmlrecords import open_files
from migrate.core import Reject, Source
from migrate.errors import SourceError, UsageError

Rows = list[dict[str, str | None]]
ORDERS = {"record": "/orders/order", "columns": {"no": "@no", "date": "date", "city": "ship/city"}}


def opened(tmp_path: Path, data: bytes | str, namespaces: Mapping[str, str] | None = None, **tables: Any) -> Source:
    (tmp_path / "a.xml").write_bytes(data.encode() if isinstance(data, str) else data)
    return open_files({"": ["a.xml"]}, {"tables": tables, "namespaces": namespaces or {}}, tmp_path)


def read(source: Source, table: str, columns: Sequence[str] | None = None) -> tuple[Rows, list[Reject]]:
    """All rows and rejects of a table; checks that every ordinal has one fate and that counting agrees."""
    described = source.schema(table)
    rows: Rows = []
    rejects: list[Reject] = []
    for number, partition in enumerate(source.partitions(described, rows=5_000, bytes=1 << 22)):
        assert partition.ordinal == number
        for batch in source.read(partition, columns or described.schema.names):
            fates = sorted([*batch.ordinals.tolist(), *(reject.ordinal for reject in batch.rejects)])
            assert fates == list(range(source.count(partition)))  # type: ignore[attr-defined]
            assert batch.rows.num_rows == len(batch.ordinals)
            rows += batch.rows.to_pylist()
            rejects += batch.rejects
    return rows, rejects


def values(tmp_path: Path, data: bytes | str, columns: Mapping[str, str], record: str = "/r/x") -> list[Any]:
    rows, rejects = read(opened(tmp_path, data, t={"record": record, "columns": columns}), "t")
    assert not rejects
    return [tuple(row.values()) for row in rows]


# ---------------------------------------------------------------------------------------------------------- the values


@pytest.mark.parametrize(
    ("inside", "path", "expected"),
    [
        ("", "a", None),
        ("<a/>", "a", ""),
        ("<a></a>", "a", ""),
        ("<a> x\n </a>", "a", " x\n "),
        ("<a>x<!-- c -->y<?pi z?>w<![CDATA[<&]]></a>", "a", "xyw<&"),
        ("<a>Hello <b>big</b> world</a>", "a", "Hello big world"),
        ("<a>&lt;&#233;&amp;</a>", "a", "<é&"),
        ('<a xsi:nil="true"/>', "a", None),
        ('<a xsi:nil="1"> </a>', "a", " "),
        ('<a xsi:nil="false"/>', "a", ""),
        ('<a b="1"/>', "a/@b", "1"),
        ('<a b=""/>', "a/@b", ""),
        ("<a/>", "a/@b", None),
        ("<a><b/></a><a><c>1</c></a>", "a/c", "1"),
        ('<a xml:lang="de"/>', "a/@xml:lang", "de"),
        ('<a b="x&#10;y\nz"/>', "a/@b", "x\ny z"),
        ("<b>1</b><a>2</a>", ".", "12"),
    ],
)
def test_values(tmp_path: Path, inside: str, path: str, expected: str | None) -> None:
    data = f'<r xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><x>{inside}</x></r>'
    assert values(tmp_path, data, {"v": path}) == [(expected,)]


def test_a_second_value_is_never_dropped(tmp_path: Path) -> None:
    data = "<orders>\n<order no='1'><date>a</date><date>b</date></order>\n<order no='2'><date>c</date></order></orders>"
    rows, [reject] = read(opened(tmp_path, data, orders=ORDERS), "orders")
    assert [row["no"] for row in rows] == ["2"]
    assert (reject.rule, reject.column, reject.value) == ("repeated", "date", "a, b")
    assert (reject.origin.locator["line"], reject.origin.raw[:13]) == (2, b"<order no='1'")


def test_what_repeats_is_a_table_of_its_own(tmp_path: Path) -> None:
    """Its columns reach up, also to what stands behind the record; one parse serves both tables."""
    data = """<export day="1"><orders>
        <order no="1"><line q="1">a</line><line>b</line><head><date>d1</date></head></order>
        <order no="2"><head><date>d2</date></head><line q="3">c</line></order><order no="3"/></orders><by>me</by></export>"""
    columns = {
        "order": "../@no",
        "date": "../head/date",
        "n": "position()",
        "q": "@q",
        "t": ".",
        "day": "../../../@day",
    }
    lines = {"record": "/export/orders/order/line", "columns": columns | {"by": "../../../by"}}
    orders = {"record": "/export/orders/order", "columns": {"no": "@no", "n": "position()", "by": "../../by"}}
    source = opened(tmp_path, data, lines=lines, orders=orders)
    rows, rejects = read(source, "lines")
    assert not rejects
    assert [tuple(row.values()) for row in rows] == [
        ("1", "d1", "1", "1", "a", "1", "me"),
        ("1", "d1", "2", None, "b", "1", "me"),
        ("2", "d2", "1", "3", "c", "1", "me"),
    ]
    assert [tuple(row.values()) for row in read(source, "orders")[0]] == [(n, n, "me") for n in "123"]


@pytest.mark.parametrize("orders", [1, 2, 50])
def test_how_many_elements_stand_around_changes_no_row(tmp_path: Path, orders: int) -> None:
    inside = "".join(f"<o id='{i}'><l>{i}</l><l/><h>h{i}</h></o>" for i in range(orders))
    found = values(tmp_path, f"<r><g>{inside}</g></r>", {"id": "../@id", "h": "../h", "n": "position()"}, "/r/g/o/l")
    assert found == [(str(i), f"h{i}", n) for i in range(orders) for n in "12"]


def test_records_at_any_depth(tmp_path: Path) -> None:
    data = "<r><a><x n='1'><x n='2'/></x></a><x n='3'/><b><c><x n='4'/></c></b></r>"
    assert values(tmp_path, data, {"n": "@n"}, "//x") == [("1",), ("2",), ("3",), ("4",)]
    assert values(tmp_path, data, {"n": "@n"}, "/r/x") == [("3",)]
    assert values(tmp_path, data, {"n": "@n", "up": "../@n"}, "//x/x") == [("2", "1")]


def test_namespaces(tmp_path: Path) -> None:
    data = '<o xmlns="urn:a" xmlns:q="urn:b"><q:x q:n="1" n="2"><y>3</y></q:x><x/><p:x xmlns:p="urn:b" p:n="4"/></o>'
    table = {"record": "/a:o/b:x", "columns": {"qn": "@b:n", "n": "@n", "y": "a:y"}}
    rows, _ = read(opened(tmp_path, data, {"a": "urn:a", "b": "urn:b"}, t=table), "t")
    assert [tuple(row.values()) for row in rows] == [("1", "2", "3"), ("4", None, None)]


def test_columns_are_found_where_none_are_named(tmp_path: Path) -> None:
    data = """<orders><order no="1"><ship code="x"><city>K</city></ship><line/><line/></order>
        <order no="2" late="y"><note>a <b>c</b></note></order></orders>"""
    source = opened(tmp_path, data, t={"record": "/orders/order"})
    rows, _ = read(source, "t")
    assert rows == [
        {"no": "1", "late": None, "ship_code": "x", "ship_city": "K", "note": None},
        {"no": "2", "late": "y", "ship_code": None, "ship_city": None, "note": "a c"},
    ]
    assert "no column of t reads line" in " ".join(source.schema("t").notes)


def test_what_no_column_reads_is_told(tmp_path: Path) -> None:
    data = "<orders>stray<order no='1' by='me'>text<date day='1'/><line/><ship><zip/></ship></order></orders>"
    lines = {"record": "/orders/order/line", "columns": {"no": "../@no"}}
    notes = " ".join(opened(tmp_path, data, orders=ORDERS, lines=lines).schema("orders").notes)
    assert "no column of orders reads @by, date/@day, ship/zip" in notes
    assert "text beside child elements is not read, as in order" in notes
    assert "a.xml:1: text beside the records" in notes


@pytest.mark.parametrize("record", ["/orders/order", "//order"])
def test_records_under_another_spelling_are_a_warning(tmp_path: Path, record: str) -> None:
    """By case, by prefix, by a namespace of their own; how often does not count."""
    data = """<orders xmlns:s="urn:s"><order no="1"/>
        <Order no="2"/><s:order no="3"/>
        <order no="4" xmlns="urn:t"/><order no="5"/></orders>"""
    source = opened(tmp_path, data, {"s": "urn:s"}, orders=ORDERS | {"record": record})
    assert [row["no"] for row in read(source, "orders")[0]] == ["1", "5"]
    [warning] = (told for told in source.schema("orders").warnings if not told.startswith("column"))
    assert warning == (
        f"a.xml: not read, though the name differs in case or namespace only from one of {record}: "
        "Order (line 2), s:order (line 2), {urn:t}order (line 3)"
    )


def test_an_element_of_another_namespace_among_thousands_of_records_is_none_of_them(tmp_path: Path) -> None:
    """Wherever the cut into pieces falls; as a record it would have its attribute, and NULL where its children are."""
    count = 20_000
    for odd in (1, 15_000, count - 2):
        data = "".join(
            f"\n<order{' xmlns=' + chr(34) + 'urn:x' + chr(34) if i == odd else ''} no='{i}'><date>d</date></order>"
            for i in range(count)
        )
        table = {"record": "/r/order", "columns": {"no": "@no", "date": "date"}}
        source = opened(tmp_path, f"<r>{data}</r>", orders=table)
        rows, rejects = read(source, "orders")
        assert not rejects
        assert [row for row in rows if row["date"] is None or row["no"] == str(odd)] == []
        assert len(rows) == count - 1
        assert f"{{urn:x}}order (line {odd + 2})" in source.schema("orders").warnings[0]


def test_what_stands_beside_records_is_a_note_once_and_a_warning_if_it_repeats(tmp_path: Path) -> None:
    data = """<shop><head/><day/><order no="1"/>
        <credit no="2"/><order no="3"/><refund/><refund/><Refund/>
        <credit no="4"/></shop>"""
    orders = {"record": "/shop/order", "columns": {"no": "@no", "day": "../day"}}
    refunds = {"record": "/shop/refund", "columns": {"t": "."}}
    source = opened(tmp_path, data, orders=orders, refunds=refunds)
    table = source.schema("orders")
    assert table.warnings == ("a.xml: elements repeat beside /shop/order, and no table reads them: credit (line 2)",)
    assert "a.xml: beside /shop/order, not read: head, Refund" in table.notes
    credits = {"record": "/shop/credit", "columns": {"no": "@no"}}
    source = opened(tmp_path, data, orders=orders, refunds=refunds, credits=credits)
    assert source.schema("orders").warnings == ()
    assert any("Refund (line 2)" in told for told in source.schema("refunds").warnings)


def test_groups_and_children_under_another_spelling_are_a_warning(tmp_path: Path) -> None:
    """Elements around the records, and records inside what is parsed as one; headers of many groups are no rows."""
    group = "<g><title/><x n='1'/><X n='2'/><x n='3'/></g>"
    table = {"record": "/r/g/x", "columns": {"n": "@n"}}
    for groups in (f"{group}\n<G/>", f"{group * 4}\n<G/>"):  # the record is the unit, then the group is
        described = opened(tmp_path, f"<r>{groups}</r>", t=table).schema("t")
        [warning] = described.warnings
        assert warning.startswith(
            "a.xml: not read, though the name differs in case or namespace only from one of /r/g/x"
        )
        assert "G (line 2)" in warning
        assert "X (line 1)" in warning
        assert "a.xml: beside /r/g/x, not read: title" in described.notes
    g = {"record": "/r/g", "columns": {"title": "title"}}
    described = opened(tmp_path, f"<r>{group * 4}</r>", t=table, g=g).schema("t")
    assert not any("title" in told for told in described.notes)


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [("utf-8", ""), ("utf-8-sig", "UTF-8"), ("utf-16", "UTF-16"), ("utf-16-le", "utf-16"), ("utf-32", ""),
     ("cp1252", "windows-1252"), ("iso-8859-1", "ISO-8859-1"), ("shift_jis", "Shift_JIS"), ("gb18030", "gb18030")],
)  # fmt: skip
@pytest.mark.parametrize("packed", [False, True])
def test_encodings(tmp_path: Path, encoding: str, declared: str, packed: bool) -> None:
    text = "漢" if encoding in ("shift_jis", "gb18030", "utf-8", "utf-16", "utf-32") else "é"
    declaration = f'<?xml version="1.0" encoding="{declared}"?>\n' if declared else ""
    data = f"{declaration}<r>\n<x>{text}</x></r>".encode(encoding)
    source = opened(tmp_path, gzip.compress(data) if packed else data, t={"record": "/r/x", "columns": {"v": "."}})
    [partition] = source.partitions(source.schema("t"), rows=9, bytes=1 << 20)
    [batch] = source.read(partition, ["v"])
    assert batch.rows.to_pylist() == [{"v": text}]
    [origin] = batch.locate([0])
    assert (origin.locator["line"], origin.raw) == (3 if declared else 2, f"<x>{text}</x>".encode())


def test_bytes_that_the_encoding_does_not_have(tmp_path: Path) -> None:
    data = b'<?xml version="1.0" encoding="windows-1252"?>\n<r><x>\xe9</x>\n<x>\x81</x><x>3</x></r>'
    rows, [reject] = read(opened(tmp_path, data, t={"record": "/r/x", "columns": {"v": "."}}), "t")
    assert [row["v"] for row in rows] == ["é", "3"]
    assert (reject.rule, reject.origin.locator["line"]) == ("encoding", 3)
    assert "not valid cp1252" in reject.reason


# --------------------------------------------------------------------------------------------- the same as a parser's

names = st.sampled_from(["a", "b", "x", "line", "q:x"])
texts = st.text(
    st.one_of(st.sampled_from("<&>\"' \n]é漢"), st.characters(codec="utf-8", exclude_categories=["Cc"])), max_size=6
)


def clean(text: str) -> str:
    return "".join(c for c in text if c not in "\ufffe\uffff\r")


@st.composite
def elements(draw: st.DrawFn, depth: int = 0) -> str:
    name = "x" if depth == 1 else draw(names)
    attributes = "".join(
        f' {key}="{clean(value).replace("&", "&amp;").replace("<", "&lt;").replace(chr(34), "&quot;")}"'
        for key, value in draw(st.dictionaries(st.sampled_from(["n", "a", "q:n"]), texts, max_size=2)).items()
    )
    parts = []
    for _ in range(draw(st.integers(0, 4 if depth < 2 else 2))):
        kind = draw(st.sampled_from(["element", "element", "text", "cdata", "comment", "space"]))
        if kind == "element" and depth < 4:
            parts.append(draw(elements(depth=depth + 1)))
        elif kind == "text":
            parts.append(clean(draw(texts)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))
        elif kind == "cdata":
            parts.append("<![CDATA[" + clean(draw(texts)).replace("]", "") + "<x>]]>")
        elif kind == "comment":
            parts.append("<!-- <x n='0'> -->")
        else:
            parts.append("\n  ")
    if not parts and draw(st.booleans()):
        return f"<{name}{attributes}/>"
    return f"<{name}{attributes}>{''.join(parts)}</{name} >"


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(elements(depth=1), min_size=1, max_size=8), st.sampled_from(["/r/x", "/r/x/x", "/r/x/line", "//x", "/r/x/b/a"]),
       st.sampled_from(["utf-8", "utf-16", "utf-8-sig"]))  # fmt: skip
def test_any_file_is_read_as_a_parser_reads_it(tmp_path: Path, records: list[str], path: str, encoding: str) -> None:
    text = f'<!-- <x> --><r xmlns:q="urn:q" n="top">{"".join(records)}<head>h</head></r>'
    columns = {"n": "@n", "qn": "@q:n", "t": ".", "a": "a", "an": "a/@n", "bx": "b/x", "qx": "q:x"}
    up = {"un": "../@n", "p": "position()"} if path.startswith("/r") else {}
    (tmp_path / "a.xml").write_bytes(text.encode(encoding))
    options = {"tables": {"t": {"record": path, "columns": columns | up}}, "namespaces": {"q": "urn:q"}}
    source = open_files({"": ["a.xml"]}, options, tmp_path)
    root = etree.fromstring(text.encode(), etree.XMLParser(remove_comments=True))
    found = root.xpath(path, namespaces={"q": "urn:q"})
    if not found:
        holds = any(not len(each) for each in root.xpath(path.rpartition("/")[0] or "//nothing"))
        with suppress(SourceError) if holds else pytest.raises(SourceError, match="no element matches"):
            read(source, "t")
        return
    expected: list[Any] = []
    for element in found:
        row: dict[str, Any] = {}
        for name, column in columns.items():
            hits = [element] if column == "." else element.xpath(column, namespaces={"q": "urn:q"})
            row[name] = "repeated" if len(hits) > 1 else None
            if len(hits) == 1:
                row[name] = str(hits[0]) if "@" in column else "".join(hits[0].itertext())
        if up:
            row["un"] = element.getparent().get("n")
            row["p"] = str(1 + sum(1 for _ in element.itersiblings(element.tag, preceding=True)))
        expected.append("rejected" if "repeated" in row.values() else row)
    described = source.schema("t")
    got: dict[int, Any] = {}
    for partition in source.partitions(described, rows=9, bytes=1 << 20):
        for batch in source.read(partition, described.schema.names):
            got |= dict(zip(batch.ordinals.tolist(), batch.rows.to_pylist(), strict=True))
            got |= {reject.ordinal: "rejected" for reject in batch.rejects}
            assert {reject.rule for reject in batch.rejects} <= {"repeated"}
            origins = batch.locate(range(len(got)))
            for origin, element in zip(origins, found, strict=True):
                parsed = etree.fromstring(
                    b'<w xmlns:q="urn:q">' + origin.raw + b"</w>", etree.XMLParser(remove_comments=True)
                )
                element.tail = None
                assert etree.tostring(parsed[0], method="c14n") == etree.tostring(element, method="c14n")
    assert [got[i] for i in range(len(got))] == expected


# ------------------------------------------------------------------------------------------------- damage and attacks


def alike(seed: int) -> str:
    """Many records of nearly one form: fields left out, empty or in another order, and now and then one that no pattern knows."""
    draw = random.Random(seed)
    fields = draw.sample(["a", "b", "c", "d", "q:e", "long.name-1"], draw.randint(1, 5))
    plain = [
        "",
        " ",
        "1",
        "Müller",
        "漢字",
        "a &amp; b",
        "&lt;x&gt;",
        "&quot;q&quot;",
        "M&#252;ller&#xA;&#38;lt;",
        "&amp;#65;&#x20AC;&#9;&#13;",
        "l1\nl2",
        "\tt ",
        "x" * 50,
        "]]",
        ">",
    ]
    odd = [
        "&#00065;",
        "&#x1F600;",
        "<![CDATA[<a>no</a>]]>",
        "<!-- <a>no</a> -->",
        "l1\r\nl2",
        "<?pi <a> ?>",
        "<z>in</z>",
        "x<z/>y",
    ]
    oddly = draw.choice([0, 0, 0.02, 0.3])

    def text() -> str:
        return draw.choice(odd if draw.random() < oddly else plain)

    def element(name: str) -> str:
        if draw.random() < 0.1:
            return draw.choice([f"<{name}/>", f"<{name} />", f'<{name} k="v"/>'])
        gap = " " if draw.random() < oddly else ""
        key = draw.choice(["", "", f' k="{draw.choice(["1", "&amp;", "a b", "é"])}"', " k='x'"])
        return f"<{name}{key}{gap}>{text()}</{name}{gap}>"

    def record() -> str:
        order = fields[:]
        if draw.random() < oddly:
            draw.shuffle(order)
        inside = [element(f) for f in order if draw.random() < 0.95]
        if draw.random() < oddly:
            inside.append(element(draw.choice(fields)))
        blank = draw.choice(["", "\n  "])
        key = draw.choice([' n="1"', ' n="2" m="3"', "", " m='4'"])
        return f"<x{key}>{blank}{blank.join(inside)}{blank}</x>{blank}"

    return f'<r xmlns:q="urn:q">{"".join(record() for _ in range(draw.randint(5, 120)))}</r>'


ALIKE = {
    "n": "@n",
    "m": "@m",
    "a": "a",
    "b": "b",
    "ak": "a/@k",
    "e": "q:e",
    "l": "long.name-1",
    "c": "c",
    "dk": "d/@k",
}


def as_a_parser_reads(text: bytes) -> list[Any]:
    """The row of each record, "rejected" where a column has two values. Raises XMLSyntaxError if the file is not sound."""
    rows: list[Any] = []
    for element in etree.fromstring(text, etree.XMLParser(remove_comments=True, remove_pis=True)).iterchildren("x"):
        row: dict[str, Any] = {}
        for name, column in ALIKE.items():
            hits = element.xpath(column, namespaces={"q": "urn:q"})
            row[name] = "repeated" if len(hits) > 1 else None
            if len(hits) == 1:
                row[name] = str(hits[0]) if "@" in column else "".join(hits[0].itertext())
        rows.append("rejected" if "repeated" in row.values() else row)
    return rows


def as_we_read(path: Path, bytes: int) -> tuple[list[Any], set[str]]:
    """The same, and the rules of the rejects."""
    options = {"tables": {"t": {"record": "/r/x", "columns": ALIKE}}, "namespaces": {"q": "urn:q"}}
    source = open_files({"": [path.name]}, options, path.parent)
    described = source.schema("t")
    rows: list[Any] = []
    rules: set[str] = set()
    for partition in source.partitions(described, rows=1000, bytes=bytes):
        for batch in source.read(partition, list(ALIKE)):
            got = dict(zip(batch.ordinals.tolist(), batch.rows.to_pylist(), strict=True))
            got |= {reject.ordinal: "rejected" for reject in batch.rejects}
            rules |= {reject.rule for reject in batch.rejects}
            rows += [got[at] for at in range(len(got))]
    return rows, rules


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**9))
def test_many_alike_are_read_as_a_parser_reads_them(tmp_path: Path, seed: int) -> None:
    text = alike(seed).encode()
    (tmp_path / "a.xml").write_bytes(text)
    rows, rules = as_we_read(tmp_path / "a.xml", (700, 3000, 1 << 20)[seed % 3])
    assert rows == as_a_parser_reads(text)
    assert rules <= {"repeated"}


@pytest.mark.parametrize(
    ("inside", "key"),
    [
        *(
            (wrong, b"1")
            for wrong in (b"]]>", b"\xef\xbf\xbe", b"\xef\xbf\xbf", b"\xff", b"\xed\xa0\x80", b"\x0b", b"\0", b"&")
        ),
        *(
            (wrong, b"1")
            for wrong in (
                b"&nbsp;",
                b"&#0;",
                b"&#11;",
                b"&#31;",
                b"&#xFFFE;",
                b"&#xD800;",
                b"&#65",
                b"</a>",
                b"<b>",
                b"</x>",
                b"<a",
            )
        ),
        *((b"1", wrong) for wrong in (b"\x1f", b"\xc3", b"<", b"& ", b'"', b"\xef\xbf\xbf", b'" k="2')),
    ],
)
def test_one_bad_record_among_plain_ones_is_the_one_that_is_rejected(tmp_path: Path, inside: bytes, key: bytes) -> None:
    records = [
        b'<x n="%d"><a k="%s">%s</a></x>' % (i, *((key, inside) if i == 30 else (b"1", b"1"))) for i in range(60)
    ]
    (tmp_path / "a.xml").write_bytes(b'<r xmlns:q="urn:q">\n' + b"\n".join(records) + b"\n</r>")
    source = open_files({"": ["a.xml"]}, {"tables": {"t": {"record": "/r/x", "columns": {"n": "@n"}}}}, tmp_path)
    rows, rejects = read(source, "t")
    assert [row["n"] for row in rows] == [str(i) for i in range(60) if i != 30]
    assert {reject.origin.locator["line"] for reject in rejects} == {32}


PUT_IN = [
    *(
        b"<",
        b">",
        b"&",
        b'"',
        b"'",
        b"/",
        b" ",
        b"\n",
        b"\r",
        b"\t",
        b"=",
        b"\0",
        b"\x0b",
        b"\x1f",
        b"\x7f",
        b"text",
        b"",
    ),
    *(
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xef\xbf\xbe",
        b"\xef\xbf\xbf",
        b"]]>",
        b"<!--",
        b"-->",
        b"<![CDATA[",
        b"<?p ?>",
    ),
    *(
        b"<a>",
        b"</a>",
        b"<x>",
        b"</x>",
        b"<x ",
        b"</x><x>",
        b"&amp;",
        b"&#0;",
        b"&#65;",
        b"&foo;",
        b' n="1"',
        b' q:k="1"',
    ),
]


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**9))
@example(214738443)  # a vertical tab between two records
def test_one_spoilt_among_many_alike_is_read_as_a_parser_reads_it_or_rejected(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    text = alike(seed).encode()
    at = draw.randrange(text.index(b">") + 1, len(text) - 4)
    stop = at + draw.choice([0, 0, 1, 3])
    text = text[:at] + draw.choice(PUT_IN) + text[stop:]
    (tmp_path / "a.xml").write_bytes(text)
    try:
        expected = as_a_parser_reads(text)
    except etree.XMLSyntaxError:
        with suppress(SourceError):  # nothing is left that is a record
            assert as_we_read(tmp_path / "a.xml", 1 << 20)[1] & {"structure", "encoding"}
    else:
        rows, rules = as_we_read(tmp_path / "a.xml", 1 << 20)
        # A section that holds another's opener is taken for one that has lost its end, sound or not.
        assert rows == expected or ("structure" in rules and (b"<!" in text or b"<?" in text))


@pytest.mark.parametrize(
    ("data", "sound", "line", "reason"),
    [
        ("<r>\n<x n='1'/>\n<x n='2'><a>", "1", 3, "not closed"),
        ("<r>\n<x n='1'/>\n<x n='2'/>\n", "12", 4, "the file ends before <r> is closed"),
        ("<r>\n<x n='1'/>\n</r>\n<x n='2'/>", "1", 4, "follows the end"),
        ("<r>\n<x n='1'/>\n</r>\njunk", "1", 4, "follows the end"),
        ("<r>\n<x n='1'/>\n&no;\n<x n='2'/></r>", "12", 3, "Entity … not defined"),
        ("<r>\n<x n='1'/></q>\n<x n='2'/></r>", "12", 2, "</q> stands here"),
        ("<r>\n<x n='1'/>\n<x n='2'><a></x>\n<x n='3'/></r>", "13", 3, "mismatch"),
        ("<r>\n<x n='1'/>\n<y><x n='2'></y>\n<x n='3'/></r>", "13", 3, "<y> is not closed"),
    ],
)
def test_one_reject_for_what_is_broken(tmp_path: Path, data: str, sound: str, line: int, reason: str) -> None:
    rows, rejects = read(opened(tmp_path, data, t={"record": "/r/x", "columns": {"n": "@n"}}), "t")
    if "<y>" in data:  # whose inside is no record of this path, and the fault is told where it is found
        assert rejects
        assert {row["n"] for row in rows} <= {"1", "2", "3"}
        return
    [reject] = rejects
    assert "".join(str(row["n"]) for row in rows) == sound
    assert (reject.rule, reject.origin.locator["line"]) == ("structure", line)
    assert reason in reject.reason


def test_no_row_is_given_to_the_wrong_parent(tmp_path: Path) -> None:
    """A batch whose start is lost: its orders would seem to be those of the batch before."""
    batch = "<b id='{0}'>" + "".join(f"<x n='{{0}}{i:05d}'>{'y' * 200}</x>\n" for i in range(8_000)) + "</b>\n"
    whole = "<r>" + batch.format("1") + batch.format("2") + batch.format("3") + "</r>"
    table = {"record": "/r/b/x", "columns": {"id": "../@id", "n": "@n"}}
    assert len(read(opened(tmp_path, whole, t=table), "t")[0]) == 24_000
    start = whole.index("<x n='107000'>") + 5
    end = whole.index("<x n='200500'>") + 14
    rows, rejects = read(opened(tmp_path, whole[:start] + whole[end:], t=table), "t")
    assert rejects
    assert all(str(row["n"]).startswith(str(row["id"])) for row in rows)
    assert {row["n"] for row in rows if row["id"] == "3"} == {f"3{i:05d}" for i in range(8_000)}


def test_a_bad_character_makes_nobody_doubt_the_parent(tmp_path: Path) -> None:
    """Where the tags are in order no part of the file is lost; where they are not, the rest of the group is rejected."""
    group = "<g id='{}'>" + "".join(f"<x>{i}{'y' * 400}</x>\n" for i in range(100)) + "</g>"
    data = "<r>" + group.format(1) + group.format(2) + "</r>"
    table = {"record": "/r/g/x", "columns": {"id": "../@id", "v": ".", "n": "position()"}}
    rows, [reject] = read(opened(tmp_path, data.replace("50y", "50&y", 1), t=table), "t")
    assert len(rows) == 199
    assert [row["n"] for row in rows[49:51]] == ["50", "52"]
    assert reject.rule == "structure"
    rows, rejects = read(opened(tmp_path, data.replace("<x>50y", "<x><a>50y", 1), t=table), "t")
    assert (len(rows), len(rejects)) == (150, 50)
    assert "not sure that it belongs to the element on line 1" in rejects[1].reason


@pytest.mark.parametrize(
    "declared",
    [
        "<!DOCTYPE r>",
        '<!DOCTYPE r SYSTEM "http://localhost:1/x.dtd">',
        '<!DOCTYPE r [<!ENTITY e SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;"><!ENTITY e "&b;&b;&b;&b;&b;&b;">]>',
        "<!DOCTYPE r [<!ENTITY e '" + "x" * 100_000 + "'>]>",
    ],
    ids=["bare", "external", "file", "laughs", "quadratic"],
)
def test_document_types_are_refused(tmp_path: Path, declared: str) -> None:
    data = f"<?xml version='1.0'?>\n{declared}\n<r><x>{'&e;' * 100}</x></r>"
    with pytest.raises(SourceError, match=r"a\.xml:2: the file has a document type") as refused:
        opened(tmp_path, data, t={"record": "/r/x", "columns": {"v": "."}}).schema("t")
    assert "xmllint" in refused.value.hint


@pytest.mark.parametrize(
    "inside",
    [
        "<x>" * 50_000,
        "<x a='" * 100_000,
        "<!--" * 100_000,
        "<![CDATA[" * 100_000,
        "<y><x/>" * 10_000,
        "<x>" + "<a>" * 100_000 + "</a>" * 100_000 + "</x>",
        "<x " + "".join(f"a{i}='1' " for i in range(10_000)) + "/>",
        "</x>" * 100_000,
    ],
    ids=["open", "quotes", "comments", "sections", "others", "deep", "attributes", "closing"],
)
def test_hostile_files_end_soon(tmp_path: Path, inside: str) -> None:
    began = time.process_time()
    rows, rejects = read(
        opened(tmp_path, f"<r>{inside}<x>good</x></r>", t={"record": "/r/x", "columns": {"v": "."}}), "t"
    )
    assert rejects or len(rows) == 2
    assert time.process_time() - began < 40


def test_a_record_over_the_limit_is_one_reject(tmp_path: Path) -> None:
    data = b"<r>\n<x>1</x>\n<x>" + b"y" * (17 << 20) + b"</x>\n<x>3</x></r>"
    rows, [reject] = read(opened(tmp_path, data, t={"record": "/r/x", "columns": {"v": "."}}), "t")
    assert [row["v"] for row in rows] == ["1", "3"]
    assert reject.origin.locator["line"] == 3
    assert reject.reason == "line 3: the element <x> is larger than 16 MB, the most that is read as one"
    assert len(reject.origin.raw) == 64 << 10
    broken = data.replace(b"<x>1</x>", b"<x>1<x>")
    _, [reject, *_] = read(opened(tmp_path, broken, t={"record": "/r/x", "columns": {"v": "."}}), "t")
    assert "larger" not in reject.reason
    rows, rejects = read(
        opened(tmp_path, data.replace(b"y" * (5 << 20), b""), t={"record": "/r/x", "columns": {"v": "."}}), "t"
    )
    assert (len(rows), rejects) == (3, [])


def test_what_a_column_reads_around_the_records_is_never_null_for_its_size(tmp_path: Path) -> None:
    data = b"<r><head><day>1</day>" + b"<y/>" * (5 << 20) + b"</head>\n<x/></r>"
    source = opened(tmp_path, data, t={"record": "/r/x", "columns": {"day": "../head/day"}})
    with pytest.raises(SourceError, match=r"a\.xml:1: a column reads from <head>, which is larger than 16 MB"):
        source.schema("t")


# ----------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("record", "column", "said"),
    [
        ("orders/order", "@no", 'the path "orders/order"'),
        ("/orders/order[1]", "@no", "not one that is understood"),
        ("/orders/*", "@no", "not one that is understood"),
        ("/orders/p:order", "@no", 'the prefix "p" is not declared'),
        ("/orders/order", "text()", 'the path "text()"'),
        ("/orders/order", "a/@b/c", "not one that is understood"),
        ("/orders/order", "../../@no", "reaches above /orders/order"),
        ("//order", "../@no", "reaches above //order"),
        ("//order", "position()", "position() has no meaning"),
    ],
)
def test_a_wrong_path_says_what_is_allowed(tmp_path: Path, record: str, column: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        opened(tmp_path, "<orders/>", t={"record": record, "columns": {"c": column}})
    assert said in refused.value.message
    assert refused.value.hint


def test_two_columns_of_one_path_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is the column a already"):
        opened(tmp_path, "<r/>", t={"record": "/r", "columns": {"a": "@x", "b": "@x"}})


def test_a_path_that_matches_nothing_says_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no element matches /orders/order .*there are: /orders, /orders/ordr"):
        opened(tmp_path, "<orders><ordr/></orders>", t=ORDERS).schema("t")
    with pytest.raises(SourceError) as refused:
        opened(tmp_path, "<orders xmlns='urn:x'><order/></orders>", t=ORDERS).schema("t")
    assert 'namespace "urn:x"' in refused.value.hint
    source = opened(tmp_path, "<orders></orders>", t=ORDERS)
    assert read(source, "t") == ([], [])
    assert "a.xml: /orders is empty" in source.schema("t").notes


@pytest.mark.parametrize("data", ["", "hello", "\n\n"])
def test_what_is_no_xml(tmp_path: Path, data: str) -> None:
    with pytest.raises(SourceError, match="is no XML"):
        opened(tmp_path, data, t=ORDERS).schema("t")


def test_an_encoding_that_is_not_known_or_not_true(tmp_path: Path) -> None:
    for name, said in (("klingon", "not known"), ("utf-16", "first bytes are not in it"), ("rot13", "not known")):
        with pytest.raises(SourceError, match=said):
            opened(tmp_path, f"<?xml version='1.0' encoding='{name}'?><r/>", t=ORDERS).schema("t")


# --------------------------------------------------------------------------------------------------- slices and tokens


def test_slices_are_read_again_by_another_process(tmp_path: Path) -> None:
    data = "<orders>" + "".join(f"\n<order no='{i}'><date>{i}</date></order>" for i in range(20_000)) + "</orders>"
    source = opened(tmp_path, data, orders=ORDERS)
    partitions = list(source.partitions(source.schema("orders"), rows=5_000, bytes=1 << 30))
    assert len(partitions) == 5
    other = opened(tmp_path, data, orders=ORDERS)  # which has parsed nothing yet
    [batch] = other.read(partitions[3], ["date"])
    [origin] = batch.locate([5])
    assert batch.rows.column("date")[5].as_py() == str(origin.locator["record"] - 1)
    assert origin.locator["line"] == origin.locator["record"] + 1
    with pytest.raises(SourceError, match="no column 'x'"):
        list(other.read(partitions[0], ["x"]))
    opened(tmp_path, data.replace("19999", "19998"), orders=ORDERS)
    for reader in (source, other):
        with pytest.raises(SourceError, match=r"a\.xml has changed since the plan was made"):
            list(reader.read(partitions[0], ["date"]))
    assert json.loads(partitions[0].token)["file"] == "a.xml"


def test_several_files_and_names_of_one(tmp_path: Path) -> None:
    (tmp_path / "b.xml").write_text("<orders><order no='2'/></orders>")
    (tmp_path / "c.xml").write_text("<orders/>")
    (tmp_path / "a.xml").write_text("<orders><order no='1'/></orders>")
    source = open_files({"": ["*.xml", "./a.xml"]}, {"tables": {"t": ORDERS}}, tmp_path)
    assert [row["no"] for row in read(source, "t")[0]] == ["1", "2"]
    notes = source.schema("t").notes
    assert "a.xml: read once, although it is listed as ./a.xml too" in notes
    assert source.schema("t").warnings[0] == "c.xml: no element matches /orders/order"


def test_columns_are_chosen_and_ordered(tmp_path: Path) -> None:
    source = opened(tmp_path, "<orders><order no='1'><date>d</date></order></orders>", t=ORDERS)
    assert read(source, "t", ["date", "no"])[0] == [{"date": "d", "no": "1"}]
    [partition] = source.partitions(source.schema("t"), rows=9, bytes=9)
    [batch] = source.read(partition, [])
    assert (batch.rows.num_rows, batch.rows.num_columns) == (1, 0)


def test_a_column_that_no_file_fills_is_a_warning_and_no_other_is(tmp_path: Path) -> None:
    columns = {f"c{i}": f"@a{i}" for i in range(12)}
    data = "<r><x " + " ".join(f"a{i}='1'" for i in range(12) if i != 7) + "/></r>"
    described = opened(tmp_path, data, t={"record": "/r/x", "columns": columns}).schema("t")
    assert described.warnings == ("column c7: @a7 matches nothing in any file, so that it is NULL throughout",)
