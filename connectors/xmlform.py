"""Plain units of one form, read by a pattern that is learnt from units the parser has read: what matches is well-formed.

Most files hold one kind of unit: the same tags in the same order, some of them left out now and then, and nothing but text
in between. The pattern spells out every tag, and its texts hold only characters and references that need no parser. So a
match is a proof, and its groups are the values. What does not match is the parser's, with the same result.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import TypeVar

from lxml import etree

from connectors.xmlpath import XSI
from connectors.xmltags import TOKEN

NIL = f"{{{XSI}}}nil"

Place = tuple[tuple[str, ...], str | None]
"""The steps to an element from the unit, and the attribute or, for its text, None."""

# To learn from a unit takes as long as to match some hundred: so many times at first, then once for each so many matched.
_TRIES, _EACH = 64, 512
_LEARNT = 4  # units of one run
_LONGEST = 1 << 16  # bytes of a pattern, some 150 columns: longer ones save nothing and take long to compile
_SHORT = 8  # runs of fewer units on average cost more than they save
_PASSED = 63  # pieces at most that are not tried after one that was tried in vain
_BLANK = rb"[ \t\r\n]*+"
# To a character by its number: tab, line feed, return, U+0020 to U+270F, U+0020 to U+CFFF; others are the parser's to judge.
_DECIMAL = rb"#(?:9|1[03]|3[2-9]|[4-9]\d|[1-9]\d\d\d?)"
_HEXADECIMAL = rb"#x(?:0?[9AaDd]|[2-9A-Fa-f][\dA-Fa-f]|[1-9A-Fa-f][\dA-Fa-f]{2}|[1-9A-Ca-c][\dA-Fa-f]{3})"
_REFERENCE = rb"&(?:amp|lt|gt|quot|apos|" + _DECIMAL + rb"|" + _HEXADECIMAL + rb");"
# The ampersand last: it may be the first character of what only looks like a reference.
_REFERENCES = {b"&lt;": b"<", b"&gt;": b">", b"&quot;": b'"', b"&apos;": b"'", b"&amp;": b"&"}
_CHARACTERS = rb"[^<&\x00-\x08\x0b-\x1f]*+"  # a return is one of another line end in the parser's eyes
_TEXT = _CHARACTERS + b"(?:" + _REFERENCE + _CHARACTERS + b")*"
_CHARACTERS_IN = {quote: rb"[^<&\x00-\x1f" + quote + rb"]*+" for quote in (b'"', b"'")}  # a parser makes blanks of some
_ATTRIBUTE = re.compile(rb"""\s([^\s=]+)\s*=\s*(["'])(.*?)\2""", re.DOTALL)
_ANY_REFERENCE = re.compile(_REFERENCE)
# What text must not hold, in UTF-8, by its first byte: a byte is found faster than a sequence.
_NO_XML = ((b"]", (b"]]>",)), (b"\xef", (b"\xef\xbf\xbe", b"\xef\xbf\xbf")))


@dataclass(frozen=True, slots=True)
class Plain:
    """The values of some units: `columns[places[p]][i]` is the i-th unit's value at p, in UTF-8; None: it is not there."""

    columns: Sequence[Sequence[bytes | None]]
    places: Mapping[Place, int]


@dataclass(frozen=True, slots=True)
class _Attribute:
    raw: bytes
    name: str
    quote: bytes
    optional: bool = False


@dataclass(frozen=True, slots=True)
class _Element:
    """`filled`: seen as <a>…</a>; `empty`: seen as <a/>; `nil`: its only attribute where it was seen to be no value.

    `follows` are the names of attributes and of children that were seen one behind the other; those of attributes end in =.
    """

    raw: bytes
    name: str
    attributes: tuple[_Attribute, ...] = ()
    children: "tuple[_Element, ...]" = ()
    follows: frozenset[tuple[bytes, bytes]] = frozenset()
    optional: bool = False
    filled: bool = False
    empty: bool = False
    nil: bytes = b""


_Item = TypeVar("_Item", _Attribute, _Element)


class Form:
    """What the units of one name in one scope of namespaces look like, as far as it was learnt.

    `wanted` are the places of which the values are read. An element of which the text is wanted holds no others.
    """

    def __init__(self, raw: bytes, wanted: frozenset[Place]) -> None:
        self._raw = raw
        self._wanted = wanted
        self._known: _Element | None = None
        self._pattern: re.Pattern[bytes] | None = None
        self._places: dict[Place, int] = {}
        self._tries: float = _TRIES
        self._vain = self._passed = (
            0  # how many pieces to pass over after the last one in vain, and how many are left of them
        )

    def runs(self, data: bytes, starts: Sequence[int]) -> Iterator[tuple[int, int, Plain | None]]:
        """(first, stop, values) of units that are of this form, (first, stop, None) of others: all of them, in order.

        `starts` are all places in a range of the data where a unit seems to begin, and the end of the range. If the first
        of a run is where a unit begins, all of a run of this form are whole units with nothing but blanks behind each.
        """
        count = len(starts) - 1
        if self._pattern is None or self._passed:
            self._passed -= 1 if self._passed else 0
            yield 0, count, None
            return
        places = self._places  # those of this pattern: between two runs another may be learnt
        found = list(self._pattern.finditer(data, starts[0], starts[-1]))
        begins = {match.start(): match for match in found} if len(found) < count else {}
        edges = [i for i in range(1, count) if (starts[i] in begins) != (starts[i - 1] in begins)] if begins else []
        if not found or _SHORT * len(edges) > count:
            self._vain = self._passed = min(2 * self._vain + 1, _PASSED)
            yield 0, count, None
            return
        self._vain = 0
        for first, stop in pairwise((0, *edges, count)):
            run = [begins[at] for at in starts[first:stop] if at in begins] if begins else found
            sound = bool(run) and _characters(data[starts[first] : starts[stop]])
            yield first, stop, self._values(run, places) if sound else None

    def _values(self, found: Sequence["re.Match[bytes]"], places: Mapping[Place, int]) -> Plain:
        self._tries += len(found) / _EACH
        columns: list[Sequence[bytes | None]] = [*zip(*(match.groups() for match in found), strict=True)]
        for i, column in enumerate(columns):
            if b"&" in b"".join(filter(None, column)):
                columns[i] = _resolved(column)
        return Plain(columns, places)

    def learn(self, units: Iterable[tuple[bytes, etree._Element]]) -> None:
        """Take up some of these, which the parser has read and which are not of this form, if there is a form for both."""
        taught = 0
        for data, unit in units:
            if self._tries < 1 or taught == _LEARNT:
                return
            if not (self._pattern and self._pattern.fullmatch(data)):
                taught += 1
                self._tries -= 1
                self._take_up(data, unit)

    def _take_up(self, data: bytes, unit: etree._Element) -> None:
        seen = _seen(data, unit)
        known = _merged(self._known, seen) if self._known and seen else seen
        if known is None:
            return
        groups: list[Place | None] = []
        spelt = _spelt(known, (), self._wanted, groups)
        if spelt is None or len(spelt) > _LONGEST:
            return
        pattern = re.compile(spelt + _BLANK + rb"(?=<" + re.escape(self._raw) + rb"[\s/>]|\Z)")
        if pattern.fullmatch(data):  # it does not if there is text beside elements, or what needs a parser
            self._known, self._pattern = known, pattern
            self._vain = self._passed = 0
            self._places = {place: i for i, place in enumerate(groups) if place is not None}


def _characters(data: bytes) -> bool:
    """Whether there are only characters that XML has, of those that the pattern does not look at."""
    if any(first in data and any(wrong in data for wrong in sequences) for first, sequences in _NO_XML):
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _resolved(values: Sequence[bytes | None]) -> Sequence[bytes | None]:
    text = b"\0".join([value or b"" for value in values])  # which none of them holds
    if b"&#" in text:
        text = _ANY_REFERENCE.sub(_character, text)
    else:
        for reference, character in _REFERENCES.items():
            text = text.replace(reference, character)
    return [None if value is None else new for value, new in zip(values, text.split(b"\0"), strict=True)]


def _character(found: "re.Match[bytes]") -> bytes:
    named = _REFERENCES.get(found[0])
    if named is not None:
        return named
    digits = found[0][2:-1]
    return chr(int(digits[1:], 16) if digits.startswith(b"x") else int(digits)).encode()


def _seen(data: bytes, unit: etree._Element) -> _Element | None:
    """A unit as its tags are written, with the parser's names for them; None if a pattern cannot say it."""
    elements = unit.iter()
    opened: list[tuple[_Element, list[_Element]]] = []
    at = 0
    while (at := data.find(b"<", at)) >= 0:
        token = TOKEN.match(data, at)
        if token is None or token["section"] or token["doctype"]:
            return None
        at = token.end()
        if token["start"] is not None:
            begun = _begun(token, next(elements))
            if begun is None or any(begun.raw == around.raw for around, _ in opened):
                return None
            opened.append((begun, []))
        if token["start"] is None or token["empty"]:
            element, children = opened.pop()
            if not _unlike(children):
                return None
            follows = element.follows | {(a.raw, b.raw) for a, b in pairwise(children)}
            element = replace(element, children=tuple(children), follows=follows)
            if not opened:
                return element
            opened[-1][1].append(element)
    return None


def _begun(token: "re.Match[bytes]", element: etree._Element) -> _Element | None:
    names = [(str(name), str(value)) for name, value in element.items()]
    raws = _ATTRIBUTE.findall(token["attributes"])
    # Names that begin with xml have a meaning of their own: xmlns, xml:id.
    if len(raws) != len(names) or any(raw.lower().startswith(b"xml") for raw, _, _ in raws):
        return None
    empty = bool(token["empty"])
    if any(name == NIL for name, _ in names):
        sure = empty and len(names) == 1 and names[0][1] in ("true", "1")
        return _Element(token["start"], str(element.tag), nil=token["attributes"]) if sure else None
    attributes = tuple(
        _Attribute(raw + b"=", name, quote) for (raw, quote, _), (name, _) in zip(raws, names, strict=True)
    )
    follows = frozenset((a.raw, b.raw) for a, b in pairwise(attributes))
    return _Element(token["start"], str(element.tag), attributes, follows=follows, filled=not empty, empty=empty)


def _unlike(items: Sequence[_Attribute] | Sequence[_Element]) -> bool:
    return len({item.name for item in items}) == len(items)


def _merged(one: _Element, other: _Element) -> _Element | None:
    """What is both elements; None if there is no order in which both have their children, or one has text instead."""
    if (one.nil and other.nil and one.nil != other.nil) or (one.filled and not one.children and other.children):
        return None
    follows = one.follows | other.follows
    attributes = _woven(one.attributes, other.attributes, _same_quote, follows)
    children = _woven(one.children, other.children, _merged, follows)
    if attributes is None or children is None:
        return None
    return replace(
        one,
        attributes=tuple(attributes),
        children=tuple(children),
        follows=follows,
        filled=one.filled or other.filled,
        empty=one.empty or other.empty,
        nil=one.nil or other.nil,
    )


def _same_quote(one: _Attribute, other: _Attribute) -> _Attribute | None:
    return one if one.quote == other.quote else None


def _woven(
    one: Sequence[_Item],
    other: Sequence[_Item],
    both: Callable[[_Item, _Item], _Item | None],
    follows: frozenset[tuple[bytes, bytes]],
) -> list[_Item] | None:
    """The items of two sequences in one order that keeps to all that was seen; what is not in both is optional."""
    new = {item.raw: item for item in other}
    items: dict[bytes, _Item] = {}
    for item in one:
        merged = both(item, new.pop(item.raw)) if item.raw in new else replace(item, optional=True)
        if merged is None:
            return None
        items[item.raw] = merged
    items |= {raw: replace(item, optional=True) for raw, item in new.items()}
    graph: TopologicalSorter[bytes] = TopologicalSorter(dict.fromkeys(items, ()))
    for before, behind in follows:
        if before in items and behind in items:
            graph.add(behind, before)
    try:
        woven = [items[raw] for raw in graph.static_order()]
    except CycleError:
        return None
    return woven if _unlike(woven) else None


def _spelt(
    element: _Element, steps: tuple[str, ...], wanted: frozenset[Place], groups: list[Place | None]
) -> bytes | None:
    """The pattern of an element; its groups are added. None if text is wanted that is not between two tags."""

    def value(place: Place, text: bytes) -> bytes:
        if place not in wanted:
            return text
        groups.append(place)
        return b"(" + text + b")"

    start = b""
    for attribute in element.attributes:
        text = _CHARACTERS_IN[attribute.quote]
        found = value((steps, attribute.name), text + b"(?:" + _REFERENCE + text + b")*")
        one = rb"[ \t\r\n]++" + re.escape(attribute.raw) + attribute.quote + found + attribute.quote
        start += _optional(one, rb"[ \t\r\n]++" + re.escape(attribute.raw)) if attribute.optional else one
    start += _BLANK
    end = b"</" + re.escape(element.raw) + _BLANK + b">"
    ways = []
    if element.children:
        if (steps, None) in wanted:
            return None
        inner = b""
        for child in element.children:
            spelt = _spelt(child, (*steps, child.name), wanted, groups)
            if spelt is None:
                return None
            begin = b"<" + re.escape(child.raw) + rb"[\s/>]"
            inner += _optional(spelt + _BLANK, begin) if child.optional else spelt + _BLANK
        tail = b">" + _BLANK + inner + end
        ways.append(start + (b"(?:/>|" + tail + b")" if element.empty else tail))
    elif element.filled and element.empty:
        groups.append(None)
        empty = b"(?(%d)" % len(groups)
        ways.append(start + b"(/)?>" + value((steps, None), empty + b"|" + _TEXT + b")") + empty + b"|" + end + b")")
    elif element.filled:
        ways.append(start + b">" + value((steps, None), _TEXT) + end)
    elif element.empty:
        ways.append(start + b"/>" + value((steps, None), b""))
    if element.nil:
        ways.append(re.escape(element.nil) + _BLANK + b"/>")
    return b"<" + re.escape(element.raw) + (ways[0] if len(ways) == 1 else b"(?:" + b"|".join(ways) + b")")


def _optional(pattern: bytes, begin: bytes) -> bytes:
    """What may be left out, but only where it does not begin: so that a search never goes back to leave out what it found."""
    return b"(?:" + pattern + b"|(?!" + begin + b"))"
