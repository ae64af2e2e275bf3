"""An XML file cut into units, the elements that stand next to each other by the thousand, each parsed on its own by lxml.

No parser goes on after a fault, so the file is cut before it is parsed: by where the units begin and end. Some hundred units
at a time are parsed as one piece; it holds if the parser sees as many elements as the scan saw starts. Where it does not,
the units are cut one by one. What is no whole unit and no sound tag around units is damage: a range of bytes up to the next
place where a unit can begin, or the element around the units ends.
"""

import re
from collections.abc import Generator, Iterator, Sequence
from itertools import islice, pairwise

from lxml import etree

from connectors.xmlform import Form, Place, Plain
from connectors.xmlpiece import Pieces
from connectors.xmlplaces import LARGEST, WINDOW, Places
from connectors.xmltags import (
    BLANKS,
    SECTIONS,
    TOKEN,
    alike,
    holds_itself,
    local,
    nests,
    same_local,
    section_end,
    start_of,
    start_of_raw,
    text_of,
)
from connectors.xmltext import XmlText
from connectors.xmlunits import Cut, Damage, Frame, Sibling, Units
from migrate.errors import SourceError

_UNITS, _BYTES = 256, 1 << 18  # of one piece: small trees stay in the processor's cache
_REPEATED, _SMALL = 2, 1 << 14  # a unit occurs at least so often, and has at most so many bytes on average
_PROBED = 64 << 20
_LONGEST_TAG = 1 << 12  # up to where its name ends
_STRAY = etree.XPath("boolean(text()[normalize-space()])")


def unit_level(text: XmlText, steps: Sequence[str]) -> int:
    """Which element of a path from the root is the unit: the outermost that repeats and is small, else the last.

    The larger the unit, the more is in one tree where columns can reach up; what stands around units is slow to read.
    """
    counts = [0] * len(steps)
    starts = [start_of(local(step)) for step in steps]
    probed = min(text.size, _PROBED)
    for at in range(text.start, probed, WINDOW):
        data = text.read(at, at + WINDOW)
        for level in range(1, len(steps) - 1):
            counts[level] += sum(1 for _ in starts[level].finditer(data))
    for level in range(1, len(steps) - 1):
        if counts[level] >= _REPEATED and probed / counts[level] <= _SMALL:
            return level
    return len(steps) - 1


Steps = Generator[Units | Damage, None, int]


class Walk:
    """All units of a file and all damage, in order. Raises SourceError where it has a DTD or is no XML at all.

    Once walked, `opened` are the elements around the units with their wanted children, those behind units too, by their
    number; `stray` is the line of the first text that stands beside the units, 0 where there is none. `beside` are the
    elements of other names beside the units and beside the elements around them: which step of the path stands there, name.
    With `anywhere` only those whose name differs in case or namespace alone.

    `values`: where in units all stands that is wanted of them, if that is one value at each place. Most units then come plain.
    """

    def __init__(self, text: XmlText, cut: Cut, values: frozenset[Place] | None = None) -> None:
        self.opened: list[etree._Element] = []
        self.stray = 0
        self.beside: dict[tuple[int, str], Sibling] = {}
        self._text = text
        self._file = Places(text)
        self._pieces = Pieces()
        self._cut = cut
        self._values = values
        self._form: tuple[object, Form | None] = (None, None)  # what it holds for, and what is known of it
        self._stack: list[Frame] = []
        self._good = text.start  # behind the last unit and the last tag that were sound
        self._begun = self._ended = self._cut_off = False
        self._ahead: tuple[int, int] | None = None  # text before the root
        self._nested = False  # units were seen that hold elements of their own name
        self._candidate = start_of(local(cut.path[-1]))

    def __iter__(self) -> Iterator[Units | Damage]:
        at = self._text.start
        while True:
            begin, token = self._next(at)
            if begin < 0:
                break
            if isinstance(token, str):
                at = yield from self._broken(begin, token)
                continue
            if token["doctype"]:
                raise _refused(self._text, self._file.line(begin))
            end = begin + len(token[0])
            if token["start"] is not None:
                at = yield from self._started(begin, end, token)
            else:
                at = yield from self._closed(begin, end, token["end"])
        if not self._begun:
            raise SourceError(f"{self._text.name} is no XML: it has no element", hint="look at its first lines")
        if self._cut_off:
            return
        if self._stack:
            names = ", ".join(f"<{text_of(frame.raw)}>" for frame in reversed(self._stack))
            yield self._damage(
                self._good, self._text.size, f"the file ends before {names} is closed: it may be cut off"
            )
        elif self._text.read(self._good, self._good + WINDOW).strip(BLANKS):
            yield self._damage(self._good, self._text.size, "text follows the end of the document")

    # ------------------------------------------------------------------------------------------- the tags around units

    def _started(self, begin: int, end: int, token: "re.Match[bytes]") -> Steps:
        """A start tag. Returns where to go on."""
        if self._ended:
            return (yield from self._broken(begin, "an element follows the end of the document"))
        if self._ahead:
            yield self._damage(*self._ahead, "text stands before the document", doubt=False)
            self._ahead = None
        self._begun = True
        raw, level = token["start"], len(self._stack)
        anywhere, path = self._cut.anywhere, self._cut.path
        sought = path[-1] if anywhere else path[level] if level < len(path) else ""
        named = bool(sought) and same_local(raw, sought)
        if named or anywhere:
            tag: etree._Element | str | None = None
            if named or b"xmlns" in token["attributes"]:
                tag = self._parsed(token[0] if token["empty"] else token[0] + b"</" + raw + b">")
            if isinstance(tag, str):
                return (yield from self._broken(begin, tag))
            if named and tag is not None and tag[0].tag == sought:
                if anywhere or level == len(path) - 1:
                    return (yield from self._units(begin, raw))
                self._good = end
            if anywhere and alike(text_of(raw).rpartition(":")[2], sought):
                self._note(begin, token)
            if anywhere or self._good == end:
                around = self._stack[-1].element if self._stack else etree.Element("r")
                self._stack.append(
                    Frame(raw, around if tag is None else tag[0], len(self.opened), self._file.line(begin))
                )
                if not anywhere:
                    self.opened.append(self._stack[-1].element)
                return end if not token["empty"] else (yield from self._closed(begin, end, raw))
        if level > 1 and raw == self._stack[-1].raw and self._file.sound_up_to < self._text.size:
            # Elements that contain their like, or one whose end tag is lost: in a broken file rather that.
            yield self._damage(
                self._good, begin, f"line {self._file.line(begin)}: <{text_of(raw)}> begins before the last one ends"
            )
            self._stack.pop()
            self._good = begin
            return begin
        return (yield from self._passed(begin, end, token))

    def _passed(self, begin: int, end: int, token: "re.Match[bytes]") -> Steps:
        """An element that is not on the path. Returns where it ends."""
        stop = end if token["empty"] else self._file.skip(token["start"], begin)
        if not stop:
            return (yield from self._broken(begin, f"the element <{text_of(token['start'])}> is not closed"))
        self._note(begin, token)
        wanted = self._cut.wanted.get(len(self._stack) - 1)
        if wanted and stop - begin > LARGEST:
            if self._tag(token) in wanted:  # a NULL in its place would be a loss that nobody sees
                raise SourceError(
                    f"{self._text.name}:{self._file.line(begin)}: a column reads from <{text_of(token['start'])}>, which is "
                    f"larger than {LARGEST >> 20} MB",
                    hint="take the column out of the project file, or make what stands there a table of its own",
                )
        elif wanted:
            found = self._parsed(self._text.read(begin, stop))
            if isinstance(found, str):
                return (yield from self._broken(begin, found, stop))
            if found[0].tag in wanted:
                self._stack[-1].element.append(found[0])
        if not self._stack:
            self._ended, self._good = True, stop
        return stop

    def _note(self, begin: int, token: "re.Match[bytes]") -> None:
        """Keep in mind an element beside those that are looked for."""
        if not self._stack:
            return
        parent = self._stack[-1].number
        known = self.beside.setdefault(
            (0 if self._cut.anywhere else len(self._stack), self._tag(token)), Sibling(0, -1)
        )
        known.line = known.line or self._file.line(begin)
        known.many = known.many or known.parent == parent
        known.parent = parent

    def _tag(self, token: "re.Match[bytes]") -> str:
        """The name of a start tag as `{uri}local`; as it is written where its namespaces are not well-formed."""
        raw = token["start"]
        if b"xmlns" in token["attributes"]:
            parsed = self._parsed(token[0] if token["empty"] else token[0] + b"</" + raw + b">")
            return text_of(raw) if isinstance(parsed, str) else str(parsed[0].tag)
        prefix, _, name = text_of(raw).rpartition(":")
        uri = self._stack[-1].element.nsmap.get(prefix or None) if self._stack else None
        return f"{{{uri}}}{name}" if uri else text_of(raw)

    def _closed(self, begin: int, end: int, raw: bytes) -> Steps:
        """An end tag. Returns where to go on."""
        names = [frame.raw for frame in self._stack]
        if raw not in names:
            due = f" where </{text_of(names[-1])}> is due" if names else " and closes nothing"
            return (yield from self._broken(begin, f"</{text_of(raw)}> stands here{due}"))
        if raw != names[-1]:
            reason = (
                f"line {self._file.line(begin)}: </{text_of(raw)}> stands here where </{text_of(names[-1])}> is due"
            )
            yield self._damage(self._good, end, reason)
            self._good = end
        while self._stack.pop().raw != raw:
            pass
        self._ended = not self._stack
        if not self._cut.anywhere or self._ended:
            self._good = end
        return end

    # ------------------------------------------------------------------------------------------------------- the units

    def _units(self, begin: int, raw: bytes) -> Steps:
        """Units from `begin` on, as long as one follows the other. Returns where to go on."""
        start, most, window, form = start_of_raw(raw), 16, WINDOW >> 6, self._form_of(raw)
        careful = at = begin  # units are cut one by one up to `careful`
        while True:
            if at >= careful:
                data, offset = self._file.having(at, window)
                places = [found.start() for found in islice(start.finditer(data, offset, offset + window), most)]
                first = 0
                while first + 1 < len(places):
                    last = min(first + _UNITS, len(places) - 1)
                    while last > first + 1 and places[last] - places[first] > _BYTES:
                        last = (first + last + 1) // 2
                    sound = yield from self._piece(data, places[first : last + 1], form)
                    first += sound
                    if first < last:
                        careful = self._file.base + places[last]
                        break
                at += places[first] - offset if places else 0
                self._good = at
                most, window = min(most * 4, WINDOW), min(window * 4, WINDOW)
            stop = self._end_of_unit(raw, at)
            if not stop:
                return (yield from self._broken(at, self._endless(raw, at)))
            unit = self._parsed(self._text.read(at, stop), self._file.line(at))
            if isinstance(unit, str):
                yield self._damage(at, stop, unit, doubt=not nests(self._text.read(at, stop)))
                self._count(1)
            elif unit[0].tag != self._cut.path[-1]:  # a piece may end just before one of another namespace
                return at
            else:
                yield self._sound([unit[0]], [at - self._file.base, stop - self._file.base], [self._file.line(at)])
            self._good = stop
            begin, token = self._next(stop)
            if isinstance(token, str) or token["start"] != raw or b"xmlns" in token["attributes"]:
                return stop
            at = begin

    def _end_of_unit(self, raw: bytes, begin: int) -> int:
        """Behind the end tag of a unit; 0 if it has none.

        A unit that holds elements of its own name is one if the file is sound up to its end. In a broken file the end
        tag that seems to be its own may be another's.
        """
        stop = self._file.close(raw, begin)
        if not stop or self._nested:
            return stop
        data = self._text.read(begin, stop)
        if len(start_of_raw(raw).findall(data)) > 1 and holds_itself(data, raw):
            self._nested = stop <= self._file.sound_up_to
            return stop if self._nested else 0
        return stop

    def _endless(self, raw: bytes, begin: int) -> str:
        """Why a unit has no end: another begins before it, or it is too large."""
        size = WINDOW >> 8
        while True:
            another = start_of_raw(raw).search(self._text.read(begin, begin + size), 1)
            if another or begin + size >= self._text.size:
                return f"the element <{text_of(raw)}> is not closed where the next begins"
            if size >= LARGEST:
                break
            size *= 4
        if self._file.sound_up_to < begin + size:
            return f"the element <{text_of(raw)}> is not closed within {LARGEST >> 20} MB"
        return f"the element <{text_of(raw)}> is larger than {LARGEST >> 20} MB, the most that is read as one"

    def _form_of(self, raw: bytes) -> Form | None:
        """What is known of units of this name in the scope that is open."""
        if self._values is None:
            return None
        scope = raw, self._stack[-1].element.nsmap if self._stack else None
        if self._form[0] != scope:
            self._form = scope, Form(raw, self._values)
        return self._form[1]

    def _piece(self, data: bytes, places: Sequence[int], form: Form | None) -> Generator[Units | Damage, None, int]:
        """The units that begin at all but the last of these places. Returns how many of them are sound, from the first on."""
        runs = form.runs(data, places) if form else ((0, len(places) - 1, None),)
        for first, stop, plain in runs:
            within = places[first : stop + 1]
            elements: Sequence[etree._Element] = ()
            if plain is None:
                found = self._elements(data, within)
                if found is None:
                    return first
                elements = found
                if form:
                    form.learn((data[a:b], unit) for (a, b), unit in zip(pairwise(within), found, strict=True))
            yield self._sound(elements, within, self._file.lines(data, within), plain)
        return len(places) - 1

    def _elements(self, data: bytes, places: Sequence[int]) -> Sequence[etree._Element] | None:
        """The units that begin at all but the last of these places; None unless each is one whole unit."""
        root = self._parsed(data[places[0] : places[-1]])
        if isinstance(root, str):
            return None
        elements = list(root.iterchildren(self._cut.path[-1]))
        if not len(elements) == len(places) - 1 == len(root):
            return None
        if not self.stray and _STRAY(root):
            self.stray = self._file.line(self._file.base + places[0])
        return elements

    def _sound(
        self,
        elements: Sequence[etree._Element],
        places: Sequence[int],
        lines: Sequence[int],
        plain: Plain | None = None,
    ) -> Units:
        """Units that begin at all but the last of these places in the data at hand."""
        starts = [self._file.base + place for place in places[:-1]]
        sizes = [stop - start for start, stop in pairwise(places)]
        return Units(elements, starts, sizes, lines, tuple(self._stack), self._count(len(starts)), plain)

    def _count(self, units: int) -> int:
        if not self._stack:
            return 0
        before = self._stack[-1].units
        self._stack[-1].units += units
        return before

    def _parsed(self, data: bytes, line: int = 0) -> etree._Element | str:
        return self._pieces.parsed(data, self._stack[-1].element.nsmap if self._stack else {}, line)

    # --------------------------------------------------------------------------------------------------------- damage

    def _broken(self, at: int, reason: str, stop: int = 0) -> Steps:
        """Damage from the last sound thing to the next place to go on at, which is returned."""
        line = self._file.line(at)
        end = self._resume(max(at + 1, stop))
        yield self._damage(self._good, end, f"line {line}: {reason}")
        self._good = end
        self._cut_off = end >= self._text.size
        return end

    def _resume(self, at: int) -> int:
        """Where the next unit may begin, or the element around it end; the file's end where neither comes."""
        around = re.escape(self._stack[-1].raw) if self._stack else rb"(?!)"
        pattern = re.compile(self._candidate.pattern + rb"|</" + around + rb"\s*>|<!--|<!\[CDATA\[|<\?")
        size = WINDOW >> 8
        while at < self._text.size:
            data, position = self._file.having(at, size)
            stop = min(position + size, len(data))
            while found := pattern.search(data, position, stop):
                if found[0] not in SECTIONS:
                    return self._file.base + found.start()
                position = section_end(data, found[0], found.end(), stop) or found.end()
            if self._file.base + stop >= self._text.size:
                break
            at += size - _LONGEST_TAG if size >= LARGEST else 0
            size = min(size * 4, LARGEST)
        return self._text.size

    def _damage(self, start: int, end: int, reason: str, *, doubt: bool = True) -> Damage:
        """A damage. Where tags are amiss, what follows may belong elsewhere: a part of the file may be lost in between."""
        head = self._text.read(start, min(end, start + WINDOW))
        start += len(head) - len(head.lstrip(BLANKS))
        tail = self._text.read(max(start, end - WINDOW), end)
        end -= len(tail) - len(tail.rstrip(BLANKS))
        end = max(end, start)
        line = self._file.line(start)
        for frame in self._stack if doubt else ():
            frame.doubt = frame.doubt or line
        data = self._text.read(start, min(end, start + LARGEST))
        rule = "structure"
        try:
            data[: -3 if end - start > LARGEST else None].decode("utf-8")
        except UnicodeDecodeError as error:
            where = self._file.line(start + error.start)
            what = f"byte 0x{data[error.start]:02x} is" if self._text.exact else "a byte there is"
            rule, reason = "encoding", f"line {where}: {what} not valid {self._text.encoding}"
        return Damage(start, end, line, self._file.line(end), reason, rule)

    # ---------------------------------------------------------------------------------------------------------- tokens

    def _next(self, at: int) -> tuple[int, "re.Match[bytes] | str"]:
        """The next tag from `at` on and where it begins, or what is wrong there; -1 at the file's end."""
        size = 1 << 14
        while True:
            data, offset = self._file.having(at, size)
            begin = data.find(b"<", offset)
            last = self._file.base + len(data) >= self._text.size
            if begin < 0 and last:
                return -1, ""
            beside = data[offset : begin if begin >= 0 else None].strip(BLANKS)
            if beside and not self._begun:
                self._ahead = self._ahead or (at, self._file.base + begin)
            elif beside and begin >= 0:
                wrong = self._parsed(beside) if self._stack else "text follows the end of the document"
                if isinstance(wrong, str):
                    return at, wrong
                self.stray = self.stray or self._file.line(at)
            token = TOKEN.match(data, begin) if begin >= 0 else None
            if token and token["section"]:
                end = section_end(data, token[0], token.end(), len(data))
                if end:
                    at = self._file.base + end
                    continue
                token = None
            if token or last or len(data) - offset >= LARGEST:
                return self._file.base + begin, token or "no well-formed tag, comment or section begins here"
            if begin < 0:
                at = self._file.base + len(data)
            size *= 4


def _refused(text: XmlText, line: int) -> SourceError:
    return SourceError(
        f"{text.name}:{line}: the file has a document type (DOCTYPE), and such files are not read: what it declares can "
        "replace text, read other files or fill the memory",
        hint="remove the DOCTYPE; where entities are used, resolve them first: xmllint --noent --dropdtd",
    )
