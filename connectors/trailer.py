"""The lines at a file's end that are no records but say how many there are: found, and refused elsewhere."""

import re
from dataclasses import dataclass

import numpy as np

from connectors.scan import Records
from connectors.textfile import TextFile, to_units, unit_width, whole_units
from migrate.errors import SourceError, UsageError

_LINE_ENDS = {"\n": re.compile(rb"\r?\n"), "\r": re.compile(rb"\r")}
_BLOCK = 1 << 16  # units of text at the end in which a trailer is looked for first,
_LONGEST = 1 << 24  # and at most: no trailer is that long
_CUT_OFF = (
    "The file may be cut off: fetch it again. If it never has a trailer, take `trailer` out, or mend its pattern."
)


@dataclass(frozen=True, slots=True)
class Trailer:
    """The last lines of a file, from byte `start` on; `rows` is how many records they say the file holds."""

    start: int
    lines: int
    rows: int | None


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """A trailer's pattern, which a line matches from its beginning. Raises UsageError where it is no pattern."""
    try:
        return re.compile(f"^(?:{pattern})", re.MULTILINE)
    except re.error as error:
        raise UsageError(
            f"option 'trailer' is no regular expression: {error.msg}",
            hint=r"write it as in '^TRL;(?P<rows>\d+)', and flags as in (?i:…)",
        ) from None


def find_trailer(file: TextFile, begin: int, encoding: str, line_end: str, pattern: re.Pattern[str]) -> Trailer | None:
    """The trailer at the file's end, behind byte `begin`; blank lines there are passed over.

    It is all lines that match where the pattern has a group `rows`, for then their number is proved, and otherwise the last
    one only. Raises SourceError where its lines contradict each other, or give no number.
    """
    width, block = unit_width(encoding), _BLOCK
    while True:
        start = max(begin, file.size - (file.size - begin) % width - block * width)
        data = file.read(start, file.size)
        units = to_units(whole_units(data, encoding), encoding)
        spans, at = [], 0
        for end in _LINE_ENDS[line_end].finditer(units):
            spans.append((at, end.start()))
            at = end.end()
        spans.append((at, len(units)))
        found: list[tuple[int, re.Match[str]]] = []
        for index in range(len(spans) - 1, -1, -1):
            first, last = (position * width for position in spans[index])
            if index == 0 and start > begin:
                break  # it may have begun before the block
            if first == last:
                continue
            match = pattern.match(data[first:last].decode(encoding, "replace"))
            if match is None:
                return _trailer(file, start, found)
            found.append((first, match))
            if "rows" not in pattern.groupindex:  # nothing will tell how many of such lines were rows after all
                return _trailer(file, start, found)
        if start == begin or block >= _LONGEST:
            return _trailer(file, start, found)
        block *= 2


def _trailer(file: TextFile, start: int, found: list[tuple[int, re.Match[str]]]) -> Trailer | None:
    if not found:
        return None
    counts = "rows" in found[0][1].re.groupindex
    said = [match["rows"] for _, match in found if counts and match["rows"] is not None]
    if counts and not said:
        raise SourceError(f"{file.name}: the trailer does not say how many records there are", hint=_CUT_OFF)
    strange = [text for text in said if not re.fullmatch("[0-9]{1,18}", text.strip())]
    if strange:
        raise SourceError(
            f"{file.name}: the trailer's number of records is {strange[0]!r}, which is no whole number",
            hint=r"let the group match the digits only: (?P<rows>\d+)",
        )
    numbers = {int(text) for text in said}
    if len(numbers) > 1:
        raise SourceError(
            f"{file.name}: the trailer's lines contradict each other: they say {' and '.join(map(str, sorted(numbers)))} records",
            hint="give the group `rows` to one kind of line only, or mend the file",
        )
    return Trailer(start + found[-1][0], len(found), next(iter(numbers), None))


def missing(file: TextFile, encoding: str, line_end: str) -> SourceError:
    """The error for a file whose last line is no trailer."""
    line, size = 1, 8 << 20
    for at in range(0, file.size, size):
        units = to_units(file.read(at, at + size), encoding)
        line += (units if at + size < file.size else units.rstrip(b"\r\n")).count(line_end.encode())
    return SourceError(f"{file.name}:{line}: the file ends without the trailer that it should have", hint=_CUT_OFF)


def refuse_within(
    file: TextFile, data: bytes, records: Records, line: int, encoding: str, line_end: str, pattern: re.Pattern[str]
) -> None:
    """Raise SourceError if one of the records is a trailer; `data`, on physical line `line`, is what they were found in."""
    text = data.decode(encoding, "replace")
    text = text.replace("\r\n", "\n") if line_end == "\n" else text.replace("\n", " ").replace("\r", "\n")
    at = counted = number = 0
    first: set[int] | None = None
    while match := pattern.search(text, at):
        end = text.find("\n", match.start())
        end = len(text) if end < 0 else end
        number += text.count("\n", counted, match.start())
        counted = match.start()
        if pattern.match(text[match.start() : end]):  # what matched may have gone beyond its line
            first = first or set(np.searchsorted(records.line_ends, records.starts).tolist())
            if number in first:
                raise SourceError(
                    f"{file.name}:{line + number}: a trailer stands here, before the file's end",
                    hint="files may have been joined into one: read them as several files of one table; "
                    "or the pattern matches rows: make it narrower",
                )
        if end == len(text):
            return
        at = end + 1
