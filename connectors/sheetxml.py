"""The XML of a worksheet and of its shared strings, some whole rows at a time: with numpy where it is plain, else by lxml.

Plain is what Excel and most writers write: the cells' references, styles and types in this order, and no markup but
what values need. Each block is proved to be plain, tag by tag, before it is read so; what is not goes through lxml, to
the same result. Memory is bounded by the block either way.
"""

import re
from collections.abc import Iterator
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
_NAMED = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
_PADDING = bytes(48)  # so that words and attributes may be looked at behind the last tag

Words = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class RawCells:
    """Cells as the XML has them: `texts` are indices for SHARED, serial numbers for dates."""

    rows: Ints
    columns: Ints
    kinds: npt.NDArray[np.uint8]
    styles: Ints
    texts: pa.StringArray


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
    rest = b""
    found = None
    while data := stream.read(_BLOCK):
        rest += data
        found = found or re.search(rb"</(\w+:)?sheetData>|<(\w+:)?sheetData\s*/>", rest)
        if found is None:
            rest = rest[-64:]
    behind = rest[found.end() :] if found else b""
    return [ref.decode() for ref in re.findall(rb"<(?:\w+:)?mergeCell\b[^>]*?\bref=[\"']([A-Z0-9:]+)", behind)]


# -------------------------------------------------------------------------------------------------------------- blocks


def _blocks(stream: IO[bytes], around: bytes, item: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Blocks of whole items of the element `around`, each with the start and end tags that make a document of it.

    A prefix of the main namespace is taken off, and line ends are those of XML.
    """
    data = stream.read(_BLOCK)
    opening = re.compile(rb"<((?:\w+:)?)%b(?=[\s/>])[^>]*?(/?)>" % around)
    while not (found := opening.search(data)):
        more = stream.read(_BLOCK)
        if not more or len(data) > _LONGEST:
            raise Malformed(f"there is no {around.decode()} in it")
        data += more
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or re.match(
        rb"(\xef\xbb\xbf)?<\?xml[^>]*encoding=[\"'](?!utf-8)", data, re.I
    ):
        raise Malformed("it is not encoded in UTF-8")
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
    end = 0 if empty else data.find(closing)
    while end < 0:
        cut = data.rfind(last) + len(last)
        if cut >= len(last):
            yield from _block(data[:cut], head, tail, prefix)
            data = data[cut:]
        more = stream.read(_BLOCK)
        if not more:
            raise Malformed("it ends in the middle")
        if len(data) > _LONGEST:
            raise Malformed(f"no end of a {item.decode()} within {_LONGEST >> 20} MB")
        seen = max(len(data) - len(closing), 0)
        data += more
        end = data.find(closing, seen)
    if not empty:
        yield from _block(data[:end], head, tail, prefix)
    while stream.read(_BLOCK):  # to the end, where its checksum is compared
        pass


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
_CELL, _ROW, _NO_CELL, _NO_ROW = _word(b'<c r="'), _word(b'<row r="'), _word(b"</c>"), _word(b"</row>")
_VALUE, _NO_VALUE, _IS, _NO_IS = _word(b"<v>"), _word(b"</v>"), _word(b"<is>"), _word(b"</is>")
_T, _NO_T, _T_SPACE, _SI, _NO_SI = _word(b"<t>"), _word(b"</t>"), _word(b"<t xml:s"), _word(b"<si>"), _word(b"</si>")
_SPACE = (_word(b'pace="pr'), _word(b'eserve">'))
_TYPES = {  # what follows the style, its length, the kind
    b' t="s"': SHARED,
    b' t="n"': NUMBER,
    b' t="b"': BOOLEAN,
    b' t="e"': ERROR,
    b' t="str"': TEXT,
    b' t="inlineStr"': TEXT,
}
_FORMULAS = np.array([_word(b"<f>"), _word(b"<f "), _word(b"<f/")], np.uint64)
_NO_INTS = np.array([], np.int64)
_NONE = RawCells(_NO_INTS, _NO_INTS, np.array([], np.uint8), _NO_INTS, pa.array([], pa.string()))


def _tags(block: bytes) -> tuple[Ints, Words, Words]:
    """Where tags begin, the word at each byte, and the word at each tag."""
    data = block + _PADDING
    at = np.flatnonzero(np.frombuffer(data, np.uint8, len(block)) == 60)
    words: Words = np.ndarray((len(data) - 7,), "<u8", data, 0, (1,))
    return at, words, words[at]


def _digits(words: Words) -> tuple[Ints, Ints]:
    """How many of the bytes before the first quote there are (0 if none is), and the number they spell (-1: none)."""
    bytes_ = words.view(np.uint8).reshape(-1, 8)
    quote = bytes_ == 34
    count = np.where(quote.any(1), quote.argmax(1), 0)
    number = np.zeros(words.size, np.int64)
    for place in range(7):
        within = place < count
        digit = bytes_[:, place].astype(np.int64) - 48
        number = np.where(within, np.where((digit < 0) | (digit > 9) | (number < 0), -1, number * 10 + digit), number)
    return count, np.where(count > 0, number, -1)


def _plain_cells(block: bytes) -> RawCells | None:
    """The cells of a block if it is plain, None if it is not."""
    at, words, tags = _tags(block)
    if not at.size:
        return None
    row_at = np.flatnonzero(tags == _ROW)
    cell_at = np.flatnonzero(tags & _mask(6) == _CELL)
    row_ends = np.flatnonzero(tags & _mask(6) == _NO_ROW)
    if not row_at.size or row_at[0] != 0:
        return None
    following = row_ends[row_ends + 1 < at.size] + 1
    if not (tags[following] == _ROW).all():
        return None
    row_words = words[at[row_at] + 8]
    row_digits, row_numbers = _digits(row_words)
    if (row_numbers < 1).any() or (np.diff(row_numbers) < 1).any():
        return None  # out of order, which the other way finds words for
    row_words = row_words & _MASKS[row_digits + 1]
    counts = np.diff(np.append(np.searchsorted(cell_at, row_at), cell_at.size))
    size = cell_at.size
    if not size:
        return None if row_ends.size + row_at.size != at.size else _NONE
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
    styles, kinds = np.zeros(size, np.int64), np.zeros(size, np.uint8)
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
    tags = np.append(tags, np.zeros(6, np.uint64))  # so that tags may be looked at behind the last
    at = np.append(at, np.full(6, len(block)))
    inner = np.where(empty, np.uint64(0), tags[next_])
    formula = np.flatnonzero((inner & _mask(2) == _word(b"<f")) & np.isin(inner & _mask(3), _FORMULAS))
    has_formula = np.zeros(size, np.bool_)
    if formula.size:
        has_formula[formula] = True
        closed = tags[next_[formula] + 1] & _mask(4) == _word(b"</f>")
        next_[formula] += 1 + closed
        inner[formula] = tags[next_[formula]]
    valued = inner & _mask(3) == _VALUE
    bare = inner & _mask(4) == _NO_CELL
    begin, stop = np.zeros(size, np.int64), np.zeros(size, np.int64)
    spans = np.where(empty, 1, next_ - cell_at + 1)
    v = np.flatnonzero(valued)
    after = next_[v]
    if not ((tags[after + 1] & _mask(4) == _NO_VALUE) & (tags[after + 2] & _mask(4) == _NO_CELL)).all():
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
    if int(spans.sum()) + row_at.size + row_ends.size != at.size - 6:
        return None
    held = (stop > begin) | ((kinds == TEXT) & ~(empty | bare)) | has_formula
    kinds[has_formula & (stop <= begin) & (bare | (kinds != TEXT))] = FORMULA
    here = np.flatnonzero(held)
    texts = _texts(block, begin[here], stop[here])
    if texts is None:
        return None
    kinds = kinds[here]
    if (kinds == TEXT).any() and b"&" in block:
        texts = _unescaped(texts, kinds == TEXT)
    return RawCells(row_numbers[owners[here]], columns[here], kinds, styles[here], texts)


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
    types = follows[typed]
    lengths = np.zeros(typed.size, np.int64)
    for name, kind in _TYPES.items():
        match = types & _mask(min(len(name), 8)) == _word(name[:8])
        if len(name) > 8:
            match &= words[place[typed] + 8] & _mask(len(name) - 8) == _word(name[8:])
        kinds[typed[match]] = kind
        lengths[match] = len(name)
    place[typed] += lengths
    follows[typed] = words[place[typed]]
    return bool(lengths.all())


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
    if not at.size or at.size % 4:
        return None
    four = tags.reshape(-1, 4)
    begin = at.reshape(-1, 4)[:, 1]
    spaced = four[:, 1] == _T_SPACE
    plain = (four[:, 0] & _mask(4) == _SI) & (four[:, 2] & _mask(4) == _NO_T) & (four[:, 3] & _mask(5) == _NO_SI)
    plain &= (four[:, 1] & _mask(3) == _T) | (
        spaced & (words[begin + 8] == _SPACE[0]) & (words[begin + 16] == _SPACE[1])
    )
    if not plain.all():
        return None
    texts = _texts(block, begin + np.where(spaced, 24, 3), at.reshape(-1, 4)[:, 2])
    return None if texts is None else _unescaped(texts, None)


def _texts(block: bytes, begin: Ints, stop: Ints) -> pa.StringArray | None:
    """These parts of a block as texts; None if it is not UTF-8, which lxml has words for."""
    if not block.isascii():
        try:
            block.decode()
        except UnicodeDecodeError:
            return None
    offsets = np.empty(2 * begin.size + 1, np.int32)
    offsets[0:-1:2], offsets[1::2] = begin, np.maximum(stop, begin)
    offsets[-1] = offsets[-2] if begin.size else 0
    every = pa.StringArray.from_buffers(2 * begin.size, pa.py_buffer(offsets), pa.py_buffer(block))
    return every.take(pa.array(np.arange(begin.size, dtype=np.int32) * 2))


def _unescaped(texts: pa.StringArray, which: npt.NDArray[np.bool_] | None) -> pa.StringArray:
    escaped = pc.match_substring(texts, "&")
    return rewritten(texts, escaped if which is None else pc.and_(escaped, pa.array(which)), _entities)


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
        raise Malformed(str(error)) from error


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
