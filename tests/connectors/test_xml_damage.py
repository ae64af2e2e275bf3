"""Five hundred planted damages in an XML file: each is rejected at its lines, and every other record is read unaltered."""

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from lxml import etree

from connectors.xmlrecords import open_files
from migrate.errors import SourceError

RECORDS, EVERY = 10_000, 20
COLUMNS = {"no": "@no", "name": "name", "city": "ship/city", "code": "ship/@code", "note": "note", "day": "../@day"}
Row = tuple[str, str, str, str, str | None, str]


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")


def written(row: Row, plain: bool) -> str:
    no, name, city, code, note, _ = row
    noted = "" if note is None else f"<note>{escaped(note)}</note>\n    "
    return (
        f'  <order no="{no}">\n    <name>{escaped(name)}</name>\n    {noted}<ship code="{escaped(code)}">'
        f"<city>{escaped(city) if plain else f'<![CDATA[{city}]]>'}</city></ship>\n  </order>\n"
    )


def lost_end(text: str) -> str:
    return text.replace("</order>", "")


def lost_start(text: str) -> str:
    return re.sub(r"<order [^>]*>", "", text)


def misspelled_start(text: str) -> str:
    return text.replace("<order ", "<ordre ")


def misspelled_end(text: str) -> str:
    return text.replace("</order>", "</ordre>")


def lost_inner_end(text: str) -> str:
    return text.replace("</name>", "")


def lost_inner_start(text: str) -> str:
    return text.replace("<city>", "")


def bad_byte(text: str) -> str:
    return text.replace("</name>", "\udcff</name>")


def bad_reference(text: str) -> str:
    return text.replace("</name>", "&#0;</name>")


def bare_ampersand(text: str) -> str:
    return text.replace("</name>", " & Co</name>")


def unknown_entity(text: str) -> str:
    return text.replace("</name>", "&nbsp;</name>")


def unclosed_section(text: str) -> str:
    return text.replace("]]>", "")


def unclosed_comment(text: str) -> str:
    return text.replace("<ship", "<!-- <ship")


def unclosed_quote(text: str) -> str:
    return re.sub(r'(code="[^"]*)"', r"\1", text)


def unquoted(text: str) -> str:
    return re.sub(r'no="(\d+)"', r"no=\1", text)


def twice(text: str) -> str:
    return text.replace("<order ", '<order no="9" ')


def control(text: str) -> str:
    return text.replace("</name>", "\x01</name>")


def bare_less(text: str) -> str:
    return text.replace("</name>", " < 5</name>")


def prefix(text: str) -> str:
    return text.replace("<name>", "<x:name>").replace("</name>", "</x:name>")


def cut(text: str) -> str:
    return text[: len(text) // 2]


DAMAGES: list[Callable[[str], str]] = [
    *(lost_end, lost_start, misspelled_start, misspelled_end, lost_inner_end, lost_inner_start, bad_byte),
    *(bad_reference, bare_ampersand, unknown_entity, unclosed_section, unclosed_comment, unclosed_quote, unquoted),
    *(twice, control, bare_less, prefix, cut),
]


def make(random_: random.Random, plain: bool) -> tuple[bytes, list[Row], dict[int, tuple[str, int, int]]]:
    """The file; its sound rows; for each damage its kind and the first and last line of what was damaged."""
    day = "2024-01-02"
    parts = ["<?xml version='1.0' encoding='UTF-8'?>\n", f'<orders day="{day}">\n']
    line = 3
    sound: list[Row] = []
    planted: dict[int, tuple[str, int, int]] = {}
    for i in range(RECORDS):
        row = (
            str(i),
            random_.choice(["Müller & Söhne", 'the "Inn"', "", "a<b", "two\nlines", "  "]),
            random_.choice(["Köln", "<order no='1'>", "", "]] >", "x\n\ny"]),
            random_.choice(["", "K&M", 'a"b']),
            random_.choice([None, "", "plain", "漢字😀"]),
            day,
        )
        text = written(row, plain)
        if i % EVERY == 7:
            damage = random_.choice([each for each in DAMAGES if not plain or each is not unclosed_section])
            text = damage(text)
            planted[i] = damage.__name__, line, line + text.count("\n")
        else:
            sound.append(row)
            if random_.random() < 0.02:
                text += random_.choice(["<!-- <order no='0'> -->", "<?pi x?>", "\n\n", "<other><deep a='1'/></other>"])
        parts.append(text)
        line += text.count("\n")
    parts.append("</orders>\n")
    return "".join(parts).encode("utf-8", "surrogateescape"), sound, planted


@pytest.mark.parametrize(("seed", "plain"), [(7, False), (8, False), (7, True), (8, True)])
def test_every_damage_is_rejected_and_every_other_record_is_read(tmp_path: Path, seed: int, plain: bool) -> None:
    """Plain records are read without a parser; those with a section are not."""
    data, sound, planted = make(random.Random(seed), plain)
    assert len(planted) == 500
    (tmp_path / "orders.xml").write_bytes(data)
    tables = {"orders": {"record": "/orders/order", "columns": COLUMNS}}
    source = open_files({"": ["orders.xml"]}, {"tables": tables}, tmp_path)
    table = source.schema("orders")
    rows: list[Row] = []
    rejects = []
    for partition in source.partitions(table, rows=3_000, bytes=1 << 20):
        for batch in source.read(partition, table.schema.names):
            rows += zip(*(column.to_pylist() for column in batch.rows.columns), strict=True)
            rejects += batch.rejects
    assert rows == sound
    assert {reject.rule for reject in rejects} == {"structure", "encoding"}
    found: dict[int, list[str]] = {}
    lines = data.split(b"\n")
    for reject in rejects:
        where = reject.origin.locator
        assert data[where["start"] : where["end"]] == reject.origin.raw
        assert lines[where["line"] - 1].endswith(reject.origin.raw.split(b"\n")[0])
        [hit] = [i for i, (_, first, last) in planted.items() if first <= where["line"] and where["last_line"] <= last]
        found.setdefault(hit, []).append(reject.reason)
    assert found.keys() == planted.keys()
    # What looks like a record in a section that is not closed any more is told apart from it, and rejected as well.
    assert {planted[i][0] for i, reasons in found.items() if len(reasons) > 1} <= {"unclosed_section"}


def grouped(random_: random.Random) -> tuple[bytes, list[tuple[int, int, Row]]]:
    """A file with groups of records, and for each record its bytes' place and its row of `GROUPED`."""
    parts, records, at, number = ['<r v="top">\n'], [], 12, 0
    for group in range(random_.choice([1, 2, 4])):
        parts.append(f'<g id="g{group}">\n')
        at += len(parts[-1])
        for _ in range(random_.choice([3, 8])):
            text = f'<o n="{number}"><a>a{number}</a><l/><l>x</l></o>\n'
            records.append((at, at + len(text), (str(number), f"a{number}", f"g{group}", "top")))
            parts.append(text)
            at, number = at + len(text), number + 1
        parts.append("</g>\n")
        at += len(parts[-1])
    return "".join([*parts, "</r>\n"]).encode(), records


GROUPED = {"n": "@n", "a": "a", "g": "../@id", "top": "../../@v"}


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_cut_out_or_put_in_no_other_record_is_altered(tmp_path: Path, seed: int) -> None:
    random_ = random.Random(seed)
    tables = {"t": {"record": "/r/g/o", "columns": GROUPED}}
    for _ in range(150):
        data, records = grouped(random_)
        at = random_.randrange(13, len(data))
        stop = at + random_.choice([0, 1, 1, 3, 10, 60, len(data)])
        put = random_.choice(
            [b"", b"<", b"<!--", b"<![CDATA[", b"&x;", b'"', b"</o>", b"</g>", b"<?", b"\0", b"\xff", b">"]
        )
        damaged = data[:at] + put + data[stop:]
        (tmp_path / "a.xml").write_bytes(damaged)
        source = open_files({"": ["a.xml"]}, {"tables": tables}, tmp_path)
        try:
            table = source.schema("t")
        except SourceError as error:
            if "no element matches" not in error.message:
                raise
            continue
        batches = [b for p in source.partitions(table, rows=9, bytes=999) for b in source.read(p, list(GROUPED))]
        rows = {row[0]: row for b in batches for row in zip(*(c.to_pylist() for c in b.rows.columns), strict=True)}
        for first, last, row in records:
            if (last <= at or first >= stop) and f'<g id="{row[2]}">'.encode() in damaged:
                assert rows.get(row[0], row) == row, damaged
        try:
            etree.fromstring(damaged)
        except etree.XMLSyntaxError:
            assert any(b.rejects for b in batches), damaged
