"""The XML of a worksheet and of its shared strings, some whole rows at a time: with numpy where it is plain, else by lxml.

Plain is what Excel and most writers write: the cells' references, styles and types in this order, and no markup but
what values need. Each block is proved to be plain, tag by tag, before it is read so; what is not goes through lxml, to
the same result. Memory is bounded by the block either way.
"""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from lxml import etree

from connectors.cells import Ints, column_of, rewritten

NUMBER, SHARED, BOOLEAN, ERROR, TEXT, MOMENT, FORMULA = range(7)
"""The kinds of cells: MOMENT is a date in ISO 8601, FORMULA one whose value was never calculated."""

_BLOCK = 1 << 20  # bytes of XML at a time: small enough for the processor's cache
_LONGEST = 256 << 20  # bytes: a row beyond this is none
_KINDS = {"n": NUMBER, "s": SHARED, "b": BOOLEAN, "e": ERROR, "str": TEXT, "inlineStr": TEXT, "d": MOMENT}
_ENTITY = re.compile("&(?:(amp|lt|gt|quot|apos)|#([0-9]+)|#x([0-9A-Fa-f]+));")
_NAMED = {"lt": "<", "gt": ">", "quot": '"', "apos": "'", "amp": "&"}  # & last, for what it begins is text
_FOREIGN = re.compile(rb"&(?!(?:amp|lt|gt|quot|apos|#[0-9]+|#x[0-9A-Fa-f]+);)")
_NUMBERED = re.compile(rb'<row r="([0-9]+)"')
_OVERLAP = 256  # bytes that are looked at again with what follows: more than the tag of an element with its prefix
_BEHIND = 6
_PADDING = bytes(48)  # so that words and attributes may be looked at behind the last tag

Words = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class RawCells:
    """Cells as the XML has them, each with its text at `places` in `pool`: an index if SHARED, a serial number if a date.

    `escaped`: texts may hold entities.
    """

    rows: Ints
    columns: Ints
    kinds: npt.NDArray[np.uint8]
    styles: Ints
    pool: pa.StringArray
    places: Ints
    escaped: bool = False

    def texts(self, at: Ints) -> pa.StringArray:
        """The texts of some cells."""
        texts = self.pool.take(pa.array(self.places[at]))
        return unescaped_entities(texts) if self.escaped else texts


DOCTYPE = "it has a document type (DOCTYPE), and what that declares would be lost"


class Malformed(ValueError):
    """What is wrong with the XML, or with the order of what it says."""


def raw_cells(stream: IO[bytes]) -> Iterator[RawCells]:
    """The cells of a worksheet part that are not blank, in blocks of whole rows. Reads the part to its end.

    Raises Malformed; what the stream raises comes through.
    """
    row = 0
    for block, head, tail in _blocks(stream, b"sheetData", b"row"):
        cells = _plain_cells(block)
        if cells is None:
            cells, row = _parsed_cells(head + block + tail, row)
        elif cells.rows.size:
            if cells.rows[0] <= row:
                raise Malformed(f"row {cells.rows[0]} stands behind row {row}")
            row = int(cells.rows[-1])
        if cells.rows.size:
            yield cells


def raw_strings(stream: IO[bytes]) -> Iterator[pa.StringArray]:
    """The shared strings, in blocks; without phonetic runs. Raises Malformed."""
    for block, head, tail in _blocks(stream, b"sst", b"si"):
        strings = _plain_strings(block)
        yield _parsed_strings(head + block + tail) if strings is None else strings


def merged_areas(stream: IO[bytes]) -> list[str]:
    """The references of merged cells, as in `A1:B2`, which stand behind the rows."""
    kept, found = b"", False
    while data := stream.read(_BLOCK):
        kept += data
        if not found:
            at = max(kept.find(b"<mergeCells"), kept.find(b":mergeCells"))
            found = at >= 0
            kept = kept[at if found else -16 :]
    return (
        [ref.decode() for ref in re.findall(rb"<(?:\w+:)?mergeCell\b[^>]*?\bref=[\"']([A-Z0-9:]+)", kept)]
        if found
        else []
    )


# -------------------------------------------------------------------------------------------------------------- blocks


def _blocks(stream: IO[bytes], around: bytes, item: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Blocks of whole items of the element `around`, each with the start and end tags that make a document of it.

    A prefix of the main namespace is taken off, and line ends are those of XML.
    """
    parts = _ahead(stream)
    data = next(parts, b"")
    opening = re.compile(rb"<((?:\w+:)?)%b(?=[\s/>])[^>]*?(/?)>" % around)
    while not (found := opening.search(data)):
        more = next(parts, b"")
        if not more or len(data) > _LONGEST:
            raise Malformed(f"there is no {around.decode()} in it")
        data += more
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or re.match(
        rb"(\xef\xbb\xbf)?<\?xml[^>]*encoding=[\"'](?!utf-8)", data, re.I
    ):
        raise Malformed("it is not encoded in UTF-8")
    if b"<!DOCTYPE" in data[: found.start()]:
        raise Malformed(DOCTYPE)
    prefix, empty = found[1], bool(found[2])
    root = re.search(rb"<[A-Za-z_][^>]*?/?>", data)
    assert root is not None
    names = re.sub(rb"\s*/?>$", b">", root[0]) if root.start() != found.start() else b""
    closing = b"</%b%b>" % (prefix, around)
    head, tail = names + b"<%b%b>" % (prefix, around), closing
    if names:
        tail += b"</" + re.match(rb"<([\w:.-]+)", names)[1] + b">"  # type: ignore[index]
    else:
        head = re.sub(rb"\s*/?>$", b">", found[0])
    last = b"</%b%b>" % (prefix, item)
    data = data[found.end() :]
    end = 0 if empty else _find(data, closing, 0)
    while end < 0:
        cut = data.rfind(last) + len(last)
        if cut >= len(last):
            yield from _block(data[:cut], head, tail, prefix)
            data = data[cut:]
        more = next(parts, b"")
        if not more:
            raise Malformed("it ends in the middle")
        if len(data) > _LONGEST:
            raise Malformed(f"no end of a {item.decode()} within {_LONGEST >> 20} MB")
        seen = max(len(data) - len(closing), 0)
        data += more
        end = _find(data, closing, seen)
    if not empty:
        yield from _block(data[:end], head, tail, prefix)
    # What follows is read to its end, where its checksum is compared; were there rows in it, they would be lost.
    again = re.compile(rb"<(?:[^\s<>/!?:]+:)?%b(?=[\s/>])" % around)
    data = data[end:]
    while data:
        if again.search(data):
            raise Malformed(f"it has a second {around.decode()}, and which of them counts is not said")
        more = next(parts, b"")
        data = data[-_OVERLAP:] + more if more else b""


def _ahead(stream: IO[bytes]) -> Iterator[bytes]:
    """The stream's bytes, each block decompressed by a thread while the last is being used."""
    with ThreadPoolExecutor(1, "migrate-inflate") as reader:
        coming = reader.submit(stream.read, _BLOCK)
        while part := coming.result():
            coming = reader.submit(stream.read, _BLOCK)
            yield part


def _find(data: bytes, closing: bytes, start: int) -> int:
    """Where the end tag is, -1 if nowhere: found by its name, since every other tag begins and ends as it does."""
    name = closing[2:-1]
    at = data.find(name, start)
    while at >= 0 and data[max(at - 2, 0) : at + len(name) + 1] != closing:
        at = data.find(name, at + 1)
    return at - 2 if at >= 0 else -1


def _block(data: bytes, head: bytes, tail: bytes, prefix: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    if not data.strip():
        return
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if prefix:
        data = data.replace(b"<" + prefix, b"<").replace(b"</" + prefix, b"</")
    yield data, head, tail


# --------------------------------------------------------------------------------------------------------------- plain


def _word(text: bytes) -> np.uint64:
    return np.uint64(int.from_bytes(text.ljust(8, b"\0"), "little"))


def _mask(size: int) -> np.uint64:
    return np.uint64((1 << 8 * size) - 1)


_MASKS = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)
_QUOTES, _ONES, _HIGHEST, _ZEROS, _SIXES, _UPPER = (
    np.uint64(byte * 0x0101010101010101) for byte in (0x22, 0x01, 0x80, 0x30, 0x06, 0xF0)
)
_SUMS = tuple(  # neighbouring digits, pairs and fours added up, each with its factor
    tuple(np.uint64(part) for part in parts)
    for parts in ((2561, 8, 0x00FF00FF00FF00FF), (6553601, 16, 0x0000FFFF0000FFFF), (42949672960001, 32, 0xFFFFFFFF))
)
_CELL, _ROW, _NO_CELL, _NO_ROW = _word(b'<c r="'), _word(b'<row r="'), _word(b"</c>"), _word(b"</row>")
_VALUE, _NO_VALUE, _IS, _NO_IS = _word(b"<v>"), _word(b"</v>"), _word(b"<is>"), _word(b"</is>")
_T, _NO_T, _T_SPACE, _SI, _NO_SI = _word(b"<t>"), _word(b"</t>"), _word(b"<t xml:s"), _word(b"<si>"), _word(b"</si>")
_SPACE = (_word(b'pace="pr'), _word(b'eserve">'))
_TYPES = np.full(256, 255, np.uint8)  # of one letter: the kind by the letter, 255 for none
_TYPES[list(b"snbe")] = SHARED, NUMBER, BOOLEAN, ERROR
_VALUE_ENDS = _word(b"</v></c>")
_FORMULAS = np.array([_word(b"<f>"), _word(b"<f "), _word(b"<f/")], np.uint64)
_NO_INTS = np.array([], np.int64)
_NONE = RawCells(_NO_INTS, _NO_INTS, np.array([], np.uint8), _NO_INTS, pa.array([], pa.string()), _NO_INTS)


def _tags(block: bytes) -> tuple[Ints, Words, Words]:
    """Where tags begin, the word at each byte, and the word at each tag; behind the last, six that are none."""
    data = block + _PADDING
    begin = np.flatnonzero(np.frombuffer(data, np.uint8, len(block)) == 60)
    at = np.full(begin.size + _BEHIND, len(block))
    at[: begin.size] = begin
    words: Words = np.ndarray((len(data) - 7,), "<u8", data, 0, (1,))
    return at, words, words[at]


def _digits(words: Words) -> tuple[Ints, Ints]:
    """How many bytes there are before the first quote, and the number that they spell: -1 where they are no 1 to 7 digits.

    All eight bytes of a word are looked at together: a byte is zero where its highest bit is left below.
    """
    zero = words ^ _QUOTES
    zero = (zero - _ONES) & ~zero & _HIGHEST
    count = np.bitwise_count((zero & (~zero + np.uint64(1))) - np.uint64(1)).astype(np.uint64) >> np.uint64(3)
    sound = (count > 0) & (count < 8)
    count[~sound] = 7
    shift = (np.uint64(8) - count) << np.uint64(3)
    digits = (words << shift) | (_ZEROS >> (np.uint64(64) - shift))
    sound &= ((digits & _UPPER) == _ZEROS) & (((digits + _SIXES) & _UPPER) == _ZEROS)
    number = digits & ~_UPPER
    for factor, width, mask in _SUMS:
        number = ((number * factor) >> width) & mask
    return count.astype(np.int64), np.where(sound, number.astype(np.int64), -1)


def _plain_cells(block: bytes) -> RawCells | None:
    """The cells of a block if it is plain, None if it is not."""
    at, words, tags = _tags(block)
    size = at.size - _BEHIND
    row_at = np.flatnonzero(tags == _ROW)
    cell_at = np.flatnonzero(tags & _mask(6) == _CELL)
    row_ends = np.flatnonzero(tags & _mask(6) == _NO_ROW)
    if not row_at.size or row_at[0] != 0:
        return None
    following = row_ends[row_ends + 1 < size] + 1
    if not (tags[following] == _ROW).all():
        return None
    row_words = words[at[row_at] + 8]
    row_digits, row_numbers = _digits(row_words)
    if (row_numbers < 1).any() or (np.diff(row_numbers) < 1).any():
        return None  # out of order, which the other way finds words for
    row_words = row_words & _MASKS[row_digits + 1]
    counts = np.diff(np.append(np.searchsorted(cell_at, row_at), cell_at.size))
    if not cell_at.size:
        return None if row_ends.size + row_at.size != size else _NONE
    owners = np.repeat(np.arange(row_at.size), counts)
    start = at[cell_at]

    # the reference: letters, then the row's own number and a quote
    reference = words[start + 6].view(np.uint8).reshape(-1, 8)
    first, second, third = (reference[:, i].astype(np.int64) - 64 for i in range(3))
    two = second > 0
    three = two & (third > 0)
    columns = np.where(two, first * 26 + second, first)
    columns = np.where(three, columns * 26 + third, columns) - 1
    sound = (first > 0) & (first < 27) & (second < 27) & (~two | (third < 27))
    place = start + 7 + two + three
    sound &= words[place] & _MASKS[row_digits + 1][owners] == row_words[owners]
    place += (row_digits + 1)[owners]
    sound[1:] &= (columns[1:] > columns[:-1]) | (np.diff(owners) > 0)
    if not sound.all():
        return None

    # style and type, whichever comes first
    follows = words[place]
    styles, kinds = np.zeros(cell_at.size, np.int64), np.zeros(cell_at.size, np.uint8)
    if not (
        _take_style(words, place, follows, styles)
        and _take_type(words, place, follows, kinds)
        and _take_style(words, place, follows, styles)
    ):
        return None

    # the tag's end, and what the cell holds
    ends = follows & _mask(1)
    empty = ends == np.uint64(47)
    if not (empty | (ends == np.uint64(62))).all():
        return None
    next_ = cell_at + 1
    inner = np.where(empty, np.uint64(0), tags[next_])
    formula = np.flatnonzero(inner & _mask(2) == _word(b"<f"))
    if not np.isin(inner[formula] & _mask(3), _FORMULAS).all():
        return None
    has_formula = np.zeros(cell_at.size, np.bool_)
    if formula.size:
        has_formula[formula] = True
        closed = tags[next_[formula] + 1] & _mask(4) == _word(b"</f>")
        next_[formula] += 1 + closed
        inner[formula] = tags[next_[formula]]
    valued = inner & _mask(3) == _VALUE
    bare = inner & _mask(4) == _NO_CELL
    begin, stop = start.copy(), start.copy()  # of what is empty too: places ascend
    spans = np.where(empty, 1, next_ - cell_at + 1)
    v = np.flatnonzero(valued)
    after = next_[v]
    closed = tags[after + 1] == _VALUE_ENDS  # both end tags at once
    if not closed.all():
        closed |= (tags[after + 1] & _mask(4) == _NO_VALUE) & (tags[after + 2] & _mask(4) == _NO_CELL)
        if not closed.all():
            return None
    begin[v], stop[v] = at[after] + 3, at[after + 1]
    spans[v] += 2
    inline = np.flatnonzero(~(empty | valued | bare))
    if inline.size:
        placed = _inline(tags, words, at, next_[inline])
        if placed is None or (kinds[inline] != TEXT).any() or has_formula[inline].any():
            return None
        begin[inline], stop[inline] = placed
        spans[inline] += 4
    if int(spans.sum()) + row_at.size + row_ends.size != size:
        return None
    held = (stop > begin) | ((kinds == TEXT) & ~(empty | bare)) | has_formula
    kinds[has_formula & (stop <= begin) & (bare | (kinds != TEXT))] = FORMULA
    here = np.flatnonzero(held)
    pool = _pool(block, begin[here], stop[here])
    if pool is None:
        return None
    rows, places = row_numbers[owners[here]], np.arange(here.size) * 2
    return RawCells(rows, columns[here], kinds[here], styles[here], pool, places, escaped=b"&" in block)


def _take_style(words: Words, place: Ints, follows: Words, styles: Ints) -> bool:
    """Take the style where it follows, and move on behind it; False if it is no number."""
    styled = np.flatnonzero(follows & _mask(4) == _word(b' s="'))
    if styled.size:
        digits, styles[styled] = _digits(words[place[styled] + 4])
        place[styled] += digits + 5
        follows[styled] = words[place[styled]]
    return bool((styles[styled] >= 0).all())


def _take_type(words: Words, place: Ints, follows: Words, kinds: npt.NDArray[np.uint8]) -> bool:
    """Take the type where it follows, and move on behind it; False if it is none of the usual ones."""
    typed = np.flatnonzero(follows & _mask(4) == _word(b' t="'))
    letters = follows[typed].view(np.uint8).reshape(-1, 8)
    single = letters[:, 5] == 34
    kinds[typed] = np.where(single, _TYPES[letters[:, 4]], 255)
    place[typed] += 6
    long = typed[~single]
    if long.size:
        names = words[place[long] - 2]
        string = names & _mask(4) == _word(b'str"')
        inline = (names == _word(b"inlineSt")) & (words[place[long] + 6] & _mask(2) == _word(b'r"'))
        kinds[long[string | inline]] = TEXT
        place[long] += np.where(inline, 8, 2)
    follows[typed] = words[place[typed]]
    return bool((kinds[typed] != 255).all())


def _inline(tags: Words, words: Words, at: Ints, first: Ints) -> tuple[Ints, Ints] | None:
    """Where the texts of `<is><t>…</t></is></c>` begin and end; None if any is written otherwise."""
    spaced = tags[first + 1] == _T_SPACE
    begin = at[first + 1]
    sound = tags[first] & _mask(4) == _IS
    sound &= (tags[first + 1] & _mask(3) == _T) | (
        spaced & (words[begin + 8] == _SPACE[0]) & (words[begin + 16] == _SPACE[1])
    )
    for more, word, size in ((2, _NO_T, 4), (3, _NO_IS, 5), (4, _NO_CELL, 4)):
        sound &= tags[first + more] & _mask(size) == word
    return (begin + np.where(spaced, 24, 3), at[first + 2]) if sound.all() else None


def _plain_strings(block: bytes) -> pa.StringArray | None:
    at, words, tags = _tags(block)
    if at.size == _BEHIND or (at.size - _BEHIND) % 4:
        return None
    four, ats = tags[:-_BEHIND].reshape(-1, 4), at[:-_BEHIND].reshape(-1, 4)
    begin = ats[:, 1]
    spaced = four[:, 1] == _T_SPACE
    plain = (four[:, 0] & _mask(4) == _SI) & (four[:, 2] & _mask(4) == _NO_T) & (four[:, 3] & _mask(5) == _NO_SI)
    plain &= (four[:, 1] & _mask(3) == _T) | (
        spaced & (words[begin + 8] == _SPACE[0]) & (words[begin + 16] == _SPACE[1])
    )
    if not plain.all():
        return None
    pool = _pool(block, begin + np.where(spaced, 24, 3), ats[:, 2])
    return None if pool is None else unescaped_entities(pool.take(pa.array(np.arange(len(four)) * 2)))


def _pool(block: bytes, begin: Ints, stop: Ints) -> pa.StringArray | None:
    """These parts of a block, and what stands between them, by turns; None if it is not UTF-8, which lxml has words for."""
    if not block.isascii():
        try:
            block.decode()
        except UnicodeDecodeError:
            return None
    if b"&" in block and (foreign := _FOREIGN.search(block)):
        *_, last = [0, *(int(number) for number in _NUMBERED.findall(block, 0, foreign.start()))]
        raise Malformed(_undefined(last))
    offsets = np.empty(2 * begin.size + 1, np.int32)
    offsets[0:-1:2], offsets[1::2] = begin, np.maximum(stop, begin)
    offsets[-1] = offsets[-2] if begin.size else 0
    return pa.StringArray.from_buffers(2 * begin.size, pa.py_buffer(offsets), pa.py_buffer(block))


def unescaped_entities(texts: pa.StringArray) -> pa.StringArray:
    escaped = pc.match_substring(texts, "&")
    if not pc.any(escaped).as_py():
        return texts
    some = texts.filter(escaped)
    if pc.any(pc.match_substring(some, "&#")).as_py():
        return rewritten(texts, escaped, _entities)
    for name, character in _NAMED.items():
        some = pc.replace_substring(some, f"&{name};", character)
    return pc.replace_with_mask(texts, escaped, some)


def _entities(text: str) -> str:
    def character(entity: re.Match[str]) -> str:
        if entity[1]:
            return _NAMED[entity[1]]
        code = int(entity[2]) if entity[2] else int(entity[3], 16)
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise Malformed(f"{entity[0]} is no character")
        return chr(code)

    return _ENTITY.sub(character, text)


# ---------------------------------------------------------------------------------------------------------------- lxml


def _document(data: bytes) -> Any:
    try:
        return etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True))
    except etree.XMLSyntaxError as error:
        if str(error).startswith("Entity "):
            raise Malformed(_undefined()) from error
        raise Malformed(str(error)) from error


def _undefined(row: int = 0) -> str:
    """What is said of a reference to an entity; not its name, which may be a part of what the cell says."""
    return f"{f'row {row}' if row else 'it'} has an & that begins neither &amp; &lt; &gt; &quot; &apos; nor &#…;"


def _local(element: Any) -> str:
    return etree.QName(element).localname if isinstance(element.tag, str) else ""


def _child(element: Any, name: str) -> Any:
    return next((child for child in element if _local(child) == name), None)


def _parsed_cells(document: bytes, row: int) -> tuple[RawCells, int]:
    """The cells of a block in a document of its own; `row` is the last row before it."""
    found: list[tuple[int, int, int, int, str]] = []
    for element in _document(document).iter("{*}row"):
        number = int(element.get("r") or row + 1)
        if number <= row:
            raise Malformed(f"row {number} stands behind row {row}")
        row, column = number, -1
        for cell in element:
            if _local(cell) != "c":
                continue
            reference = cell.get("r")
            place = re.fullmatch("([A-Z]{1,3})([0-9]{1,7})", reference) if reference else None
            if reference and (place is None or int(place[2]) != row):
                raise Malformed(f"cell {reference} stands in row {row}")
            number = column_of(place[1]) if place else column + 1
            if number <= column:
                raise Malformed(f"cell {reference} stands behind others of its row")
            column = number
            held = _held(cell)
            if held is not None:
                found.append((row, column, held[0], int(cell.get("s") or 0), held[1]))
    rows, columns, kinds, styles, texts = zip(*found, strict=True) if found else ((),) * 5
    return (
        RawCells(
            np.array(rows, np.int64),
            np.array(columns, np.int64),
            np.array(kinds, np.uint8),
            np.array(styles, np.int64),
            pa.array(texts, pa.string()),
            np.arange(len(texts)),
        ),
        row,
    )


def _held(cell: Any) -> tuple[int, str] | None:
    """The kind and the text of a cell; None if it is blank."""
    type_ = cell.get("t") or "n"
    if type_ not in _KINDS:
        raise Malformed(f"cell {cell.get('r')} is of the type {type_!r}")
    kind = _KINDS[type_]
    inline, value, formula = (_child(cell, name) for name in ("is", "v", "f"))
    if inline is not None and kind == TEXT:
        return TEXT, _string(inline)
    text = "" if value is None else "".join(value.itertext())
    if text or (kind == TEXT and value is not None):
        return kind, text
    return None if formula is None else (FORMULA, text)


def _string(element: Any) -> str:
    """The text of a string, in runs or not; phonetic runs and properties are none of it."""
    parts = []
    for child in element:
        if _local(child) == "t":
            parts.append("".join(child.itertext()))
        elif _local(child) == "r":
            parts.extend("".join(t.itertext()) for t in child if _local(t) == "t")
    return "".join(parts)


def _parsed_strings(document: bytes) -> pa.StringArray:
    return pa.array([_string(element) for element in _document(document) if _local(element) == "si"], pa.string())
