"""The record scanner against a scanner that reads one byte at a time, and the law that slices tile the file."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.scan import Grammar, of_lines, scan, settle, split

COMMA, QUOTE, BACKSLASH, LF, CR = map(ord, ',"\\\n\r')
OPEN, BROKEN = -1, -2


def line_end_at(text: bytes, at: int, grammar: Grammar) -> int:
    """How long the line end at `at` is; 0 if there is none."""
    if grammar.line_end == CR:
        return int(text[at] == CR)
    return 2 if text[at : at + 2] == b"\r\n" else int(text[at] == LF)


def record_at(text: bytes, at: int, grammar: Grammar) -> tuple[int, int, int, bool]:
    """End, number of fields and the start of what follows of the record at `at`, and whether a line break that ends no
    line stands in it; the end may be OPEN or BROKEN."""
    fields, size, stray = 1, len(text), False
    at_field_start, quoted = True, False
    while True:
        if at >= size:
            return (BROKEN if quoted else size), fields, size, stray
        unit = text[at]
        if unit == grammar.escape:
            if at + 1 == size:
                return BROKEN, fields, size, stray
            at, at_field_start = at + 2, False
        elif quoted:
            at += 1
            if unit == grammar.quote:
                if text[at : at + 1] == bytes([unit]):
                    at += 1
                elif at < size and text[at] not in (grammar.delimiter, 10, 13):
                    return BROKEN, fields, at, stray
                else:
                    quoted = False
        elif unit == grammar.quote and at_field_start:
            at, quoted, at_field_start = at + 1, True, False
        elif unit == grammar.delimiter:
            at, fields, at_field_start = at + 1, fields + 1, True
        elif width := line_end_at(text, at, grammar):
            return at, fields, at + width, stray
        else:
            stray = stray or unit in (CR, LF)
            at, at_field_start = at + 1, False


def lines_after(text: bytes, at: int, grammar: Grammar) -> list[tuple[int, int]]:
    """Where each line after the one at `at` starts, and where the one before it ends; an escaped line end is none."""
    found = []
    while at < len(text):
        if text[at] == grammar.escape:
            at += 2
        elif width := line_end_at(text, at, grammar):
            end, at = at, at + width
            found.append((at, end))
        else:
            at += 1
    return found


def naive(text: bytes, grammar: Grammar) -> list[tuple[int, int, bool]]:
    """(start, end, broken) of every record."""
    records, at = [], 0
    while at < len(text):
        end, _, after, stray = record_at(text, at, grammar)
        if end >= 0 and end - at <= grammar.max_record:
            if end > at:
                records.append((at, end, stray))
            at = after
            continue
        region = (len(text), len(text), len(text))
        for start, line_end in lines_after(text, at, grammar):
            if start - at >= grammar.max_record:
                region = (at, line_end, start)
                break
            if start == len(text):
                region = (at, line_end, start)
                break
            end, fields, after, stray = record_at(text, start, grammar)
            if end > start and not stray and fields == grammar.fields and end - start <= grammar.max_record:
                region = (at, line_end, start)
                break
        records.append((at, region[1], True))
        at = region[2]
    return records


def spans(text: bytes, grammar: Grammar) -> list[tuple[int, int, bool]]:
    found = scan(text, grammar, final=True)
    assert found.consumed == len(text)
    pairs = zip(found.starts.tolist(), found.ends.tolist(), strict=True)
    return [(start, end, i in found.broken) for i, (start, end) in enumerate(pairs)]


texts = st.one_of(
    st.text(alphabet='a,"\n\r\\', max_size=60).map(str.encode),
    st.lists(
        st.sampled_from(
            [b"a", b",", b'"', b'""', b'","', b"\n", b"\r\n", b"\r", b"\\", b'"x,"', b'\n"', b'"\n', b"bc,d\n"]
        ),
        max_size=40,
    ).map(b"".join),
)
grammars = st.builds(
    Grammar,
    delimiter=st.just(COMMA),
    quote=st.sampled_from([QUOTE, QUOTE, None]),
    escape=st.sampled_from([None, None, BACKSLASH]),
    fields=st.integers(1, 3),
    max_record=st.sampled_from([4, 12, 1000]),
    line_end=st.sampled_from([LF, LF, CR]),
)


@settings(max_examples=700, deadline=None)
@given(texts, grammars)
def test_agrees_with_a_scanner_that_reads_one_byte_at_a_time(text: bytes, grammar: Grammar) -> None:
    assert spans(text, grammar) == naive(text, grammar)


@settings(max_examples=700, deadline=None)
@given(st.one_of(texts, st.text(alphabet="a,\n", max_size=20).map(str.encode)), grammars, st.booleans())
def test_planning_settles_what_scanning_does(text: bytes, grammar: Grammar, final: bool) -> None:
    records = scan(text, grammar, final=final)
    settled = settle(text, grammar, final=final)
    assert settled[:2] == (records.consumed, records.line_count(records.consumed))
    assert (settled.records > 0) == (records.starts.size > 0)
    assert settled.records >= records.starts.size
    if settled.plain:
        alone = scan(text[: settled.consumed], grammar, final=True)
        assert not alone.broken
        assert alone.starts.tolist() == records.starts.tolist()


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from([b"a", b"b,c", b'"d"', b"\xc3\xa4"]), min_size=1),
    st.sampled_from([b"\n", b"\r\n"]),
    st.booleans(),
)
def test_lines_that_are_records_are_found_as_by_the_scan(lines: list[bytes], end: bytes, ended: bool) -> None:
    text = end.join(lines) + end * ended
    scanned, found = scan(text, Grammar(COMMA, QUOTE, None, 2, 1000), final=True), of_lines(text)
    for mine, its in ((scanned.starts, found.starts), (scanned.ends, found.ends), (scanned.line_ends, found.line_ends)):
        assert mine.tolist() == its.tolist()
    assert (scanned.broken, scanned.consumed) == (found.broken, found.consumed)


@settings(max_examples=700, deadline=None)
@given(texts, grammars, st.integers(1, 30))
def test_slices_scanned_alone_hold_the_records_of_the_whole(text: bytes, grammar: Grammar, window: int) -> None:
    whole, sliced, start, size = spans(text, grammar), [], 0, window
    while start < len(text):
        end = min(start + size, len(text))
        consumed = scan(text[start:end], grammar, final=end == len(text)).consumed
        if not consumed:
            size *= 2
            continue
        alone = spans(text[start : start + consumed], grammar)
        sliced += [(start + a, start + b, broken) for a, b, broken in alone]
        start, size = start + consumed, window
    assert sliced == whole


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from([b'"a"', b"b", b'5" c', b'"d""e"', b'"f\ng"', b'"', b"h\n", b'"i"j']),
        min_size=300,
        max_size=3000,
    )
)
def test_long_texts_that_mix_every_kind_of_quote(parts: list[bytes]) -> None:
    text = b",".join(parts).replace(b"\n,", b"\n")
    grammar = Grammar(COMMA, QUOTE, None, 3, 200)
    assert spans(text, grammar) == naive(text, grammar)


@pytest.mark.parametrize(
    ("record", "fields"),
    [
        (b"", [b""]),
        (b",", [b"", b""]),
        (b'"a,b",c', [b'"a,b"', b"c"]),
        (b'"a""b,",5" x', [b'"a""b,"', b'5" x']),
        (b'a\\,b,"c\\"d,e"', [b"a\\,b", b'"c\\"d,e"']),
        (b'"open, x', [b'"open, x']),
        (b'"a"x,b', [b'"a"x', b"b"]),
    ],
)
def test_split(record: bytes, fields: list[bytes]) -> None:
    found = split(record, Grammar(COMMA, QUOTE, BACKSLASH, 2, 1000))
    assert [record[start:end] for start, end in found] == fields


@settings(max_examples=500, deadline=None)
@given(texts, grammars)
def test_split_counts_the_fields_of_a_record(text: bytes, grammar: Grammar) -> None:
    for start, end, broken in spans(text, grammar):
        if not broken:
            assert len(split(text[start:end], grammar)) == record_at(text, start, grammar)[1]


def test_reasons() -> None:
    grammar = Grammar(COMMA, QUOTE, BACKSLASH, 2, 30)
    text = b'"a"x,b\n1,2\n1,"open\n1,2\n1,' + b"3" * 40 + b"\n1,2\n1,2\\"
    found = scan(text, grammar, final=True)
    assert found.broken == {
        0: "text follows the closing quote of field 1",
        2: "the quote that opens field 2 is not closed",
        4: "the record is longer than max_record_bytes allows",
        6: "the text ends in an escape character",
    }
    first, last = found.lines(np.arange(7))
    assert first.tolist() == last.tolist() == list(range(7))


@pytest.mark.parametrize(
    "line",
    [
        b'a,"bcd\n',
        b'a,"bc',
        b'a,"bc""\n',
        b'"\n',
        b'""\n"',
        b'a,"b"c,"d\n',
        b'"a" ,b\n',
        b"\n",
        b'",\n',
        b"a\rb,c\n",
        b'a\r"b,"c\n',
        b'"a\rb',
        b'"a"\rb,"c"d\n',
    ],
    ids=repr,
)
@pytest.mark.parametrize("limit", [100, 1 << 24])
def test_time_grows_with_the_size_alone(line: bytes, limit: int) -> None:
    """Eight times the text may take eight times as long, and not sixty-four."""
    took = []
    for size in (1 << 15, 1 << 18):
        text = line * (size // len(line))
        began = time.process_time()
        scan(text, Grammar(COMMA, QUOTE, None, 3, limit), final=True)
        took.append(time.process_time() - began)
    assert took[1] < 24 * took[0] + 0.1
