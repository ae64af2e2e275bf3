"""Places in an XML file: the bytes and the line there, where an element ends that begins there, where the first fault is."""

from collections.abc import Sequence
from functools import cached_property
from xml.parsers import expat

import numpy as np

from connectors.xmltags import SECTIONS, SLASH, balanced, ends_of, section_end
from connectors.xmltext import XmlText

LARGEST = 16 << 20
"""Bytes of the largest unit that is believed."""

WINDOW = 1 << 20
"""Bytes that are at hand at once, unless more are needed."""


class Places:
    """A file whose bytes, lines and elements are asked for nearly in order."""

    def __init__(self, text: XmlText) -> None:
        self.text = text
        self.base = 0  # where in the file the bytes at hand begin
        self._data = b""
        self._counted = (text.start, 1)  # a position, and the line that it is on
        self._wasted = 0  # bytes that were searched in vain for the end of an element
        self._pairs: tuple[int, int, dict[int, int]] = (0, 0, {})

    def having(self, at: int, size: int) -> tuple[bytes, int]:
        """Bytes of the file that hold `size` from `at` on, or all that there are, and where in them `at` is."""
        end = min(at + size, self.text.size)
        if not self.base <= at <= end <= self.base + len(self._data):
            self._data, self.base = self.text.read(at, at + max(size, WINDOW)), at
        return self._data, at - self.base

    def line(self, at: int) -> int:
        """The line that a place is on."""
        known, line = self._counted
        line += self.text.lines(known, at) if at >= known else -self.text.lines(at, known)
        self._counted = at, line
        return line

    def lines(self, data: bytes, places: Sequence[int]) -> list[int]:
        """The lines that all but the last of these places in the bytes at hand are on."""
        between = np.frombuffer(data, np.uint8, places[-1] - places[0], places[0])
        ends = np.flatnonzero(between == ord(self.text.line_end))
        first = self.line(self.base + places[0])
        self._counted = self.base + places[-1], first + len(ends)
        lines: list[int] = (np.searchsorted(ends, np.array(places[:-1]) - places[0]) + first).tolist()
        return lines

    def close(self, raw: bytes, begin: int) -> int:
        """Behind the end tag of the unit that begins at `begin`; 0 if it has none within a unit's size."""
        low, high, pairs = self._pairs
        if low <= begin < high:
            return pairs.get(begin, 0)
        size = WINDOW >> 6
        while True:
            data, offset = self.having(begin, size)
            data = data[offset : offset + size]
            last = begin + len(data) >= self.text.size
            stop, found = balanced(data, raw)
            if stop:
                return begin + stop
            if last or size >= LARGEST:
                break
            size *= 4
        # Units that do not end come in crowds, behind a lost end tag: each is looked up from now on.
        covered = len(data) if last else len(data) // 2
        self._pairs = begin, begin + covered, {begin + a: begin + b for a, b in found.items()}
        return 0

    def skip(self, raw: bytes, begin: int) -> int:
        """Behind the end tag of an element of any size that begins at `begin`; 0 if it has none."""
        data, offset = self.having(begin, WINDOW >> 6)  # most are small, and there may be as many as records
        stop, _ = balanced(data[offset : offset + (WINDOW >> 6)], raw)
        if stop and self._fault(begin, begin + stop) is None:
            return begin + stop
        pattern, depth, at = ends_of(raw), 0, begin
        # What is searched for in vain again and again, to the end of the file, is looked for nearby only.
        limit = self.text.size if self._wasted <= 16 * self.text.size else min(begin + (WINDOW >> 8), self.text.size)
        while at < limit:
            data = self.text.read(at, min(at + 4 * WINDOW, limit))
            position = 0
            while token := pattern.search(data, position):
                position = token.end()
                if token[0] in SECTIONS:
                    position = section_end(data, token[0], position, len(data)) or position
                elif data[token.start() + 1] == SLASH:
                    depth -= 1
                elif data[position - 2] != SLASH:
                    depth += 1
                if depth == 0 and token[0] not in SECTIONS:
                    return at + position if self._fault(begin, at + position) is None else 0
            rest = data.rfind(b"<", position)
            at += rest if rest > 0 and at + len(data) < limit else len(data)
        self._wasted += limit - begin
        return 0

    @cached_property
    def sound_up_to(self) -> int:
        """Where the first fault of the whole file is; its size if there is none."""
        fault = self._fault(self.text.start, self.text.size)
        return self.text.size if fault is None else fault

    def _fault(self, start: int, end: int) -> int | None:
        """Where what should be one element, and what may stand around it, is not well-formed."""
        parser = expat.ParserCreate("utf-8")
        try:
            for at in range(start, end, WINDOW):
                parser.Parse(self.text.read(at, min(at + WINDOW, end)))
            parser.Parse(b"", True)
        except expat.ExpatError:
            return start + parser.ErrorByteIndex
        return None
