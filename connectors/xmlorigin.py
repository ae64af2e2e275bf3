"""Where a record of an XML file stands, to the byte and the line, and its text: looked up for the few that are asked for."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from connectors.xmltags import SECTIONS, TOKEN
from connectors.xmltext import XmlText, open_xml
from migrate.core import Origin

_RAW_LIMIT = 64 << 10  # of a damaged region's bytes, how many are kept
_META = ["·start", "·size", "·line", "·last", "·number"]


@dataclass(frozen=True)
class Origins:
    """The origins of the rows of one slice. `record` is how many records of the file precede it.

    Units are known by their first byte, records within them by their number among the elements of their local name.
    """

    file: Path
    name: str
    path: str
    record: int
    rows: pa.Table

    def __call__(self, ordinals: Sequence[int]) -> Sequence[Origin]:
        if not ordinals:
            return []
        with open_xml(self.file, self.name) as text:
            return list(self._origins(text, ordinals))

    @cached_property
    def _meta(self) -> Sequence[Sequence[Any]]:
        return [self.rows.column(name).to_pylist() for name in _META]

    def _origins(self, text: XmlText, ordinals: Sequence[int]) -> Iterator[Origin]:
        starts, sizes, lines, lasts, numbers = self._meta
        unit, spans = -1, [(0, 0)]
        data = b""
        for ordinal in ordinals:
            start, size, line = starts[ordinal], sizes[ordinal], lines[ordinal]
            if lasts[ordinal]:
                raw = text.read(start, start + min(size, _RAW_LIMIT))
                yield self._origin(text, ordinal, raw, start, start + size, line, lasts[ordinal])
                continue
            if start != unit:
                unit, data = start, text.read(start, start + size)
                spans = _spans(data, re.split("[/:]", self.path)[-1].encode())
            begin, end = spans[numbers[ordinal]] if numbers[ordinal] < len(spans) else (0, len(data.rstrip()))
            first = line + data.count(text.line_end, 0, begin)
            last = first + data.count(text.line_end, begin, end)
            yield self._origin(text, ordinal, data[begin:end], start + begin, start + end, first, last)

    def _origin(self, text: XmlText, ordinal: int, raw: bytes, start: int, end: int, line: int, last: int) -> Origin:
        locator: dict[str, Any] = {"file": self.name, "line": line, "last_line": last}
        if text.exact:  # in a copy the bytes are others
            locator |= {"start": start, "end": end}
        return Origin(locator | {"record": self.record + ordinal + 1, "path": self.path}, raw)


def _spans(data: bytes, name: bytes) -> list[tuple[int, int]]:
    """Where the elements of this name, whatever its prefix, begin and end, in the order of their first bytes."""
    opened: list[tuple[int, int]] = []  # first byte, which span
    found: list[tuple[int, int]] = []
    at = 0
    while (at := data.find(b"<", at)) >= 0:
        token = TOKEN.match(data, at)
        if token is None:  # the unit was parsed, so this does not come
            break
        begin, at = at, token.end()
        if token["section"]:
            mark = SECTIONS[token[0]]
            at = data.find(mark, at) + len(mark)
        if token["start"] is not None:
            named = token["start"].rpartition(b":")[2] == name
            opened.append((begin, len(found) if named else -1))
            if named:
                found.append((begin, at))
        if opened and (token["end"] is not None or token["empty"]):
            first, number = opened.pop()
            if number >= 0:
                found[number] = first, at
            if not opened:
                break
    return found
