"""Where the documents of a JSON file stand: lines, or the elements of an array; and how a broken array is gone through.

Planning, reading and counting all go through the same functions, so they cannot disagree. In an array a lost quote or brace hides
where documents end; then the next one is looked for that begins as the others do: by the same name, and on a line of its own if
they have one.
"""

import re
from dataclasses import dataclass

import numpy as np

from connectors.docscan import Data, Offsets
from connectors.documents import Damage
from connectors.jsonscan import outline, trimmed

LF = ord("\n")
_BLANKS = b" \t\r\n"
_FIRST = re.compile(rb'\{[ \t\r\n]*"(?:[^"\\]|\\.)*"[ \t\r\n]*:', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Cut:
    """The documents of a buffer, and what lies between them and is none. `end`: up to where all is settled.

    `open`: what comes after `end` is a document that does not end in the buffer. `closed`: at `end` stands the bracket that
    ends the array, or whatever else closes more than was opened.
    """

    starts: Offsets
    ends: Offsets
    stray: tuple[Damage, ...]
    end: int
    open: bool = False
    closed: bool = False


def lines(data: Data) -> Cut:
    """Each line that is not blank is a document."""
    breaks = np.flatnonzero(data == LF)
    starts = np.append(0, breaks + 1)
    ends = np.append(breaks, data.size)
    starts, ends = trimmed(data, starts, ends)
    there = starts < ends
    return Cut(starts[there], ends[there], (), data.size)


def array(data: Data) -> Cut:
    """Elements of an array. The buffer begins before one of them, or between two."""
    at, opens = outline(data)
    depth = np.cumsum(np.where(opens, 1, -1))
    over = np.flatnonzero(depth < 0)
    closed = bool(over.size)
    limit = int(at[over[0]]) if closed else data.size
    if closed:
        at, opens, depth = at[: over[0]], opens[: over[0]], depth[: over[0]]
    starts, ends = at[opens & (depth == 1)], at[~opens & (depth == 0)] + 1
    is_open = len(starts) > len(ends)
    end = int(starts[-1]) if is_open else limit
    starts = starts[: len(ends)]
    stray = _stray(data, np.append(0, ends), np.append(starts, end))
    return Cut(starts, ends, stray, end, is_open, closed and not is_open)


def _stray(data: Data, starts: Offsets, ends: Offsets) -> tuple[Damage, ...]:
    """What stands between documents beside commas and blanks."""
    found = []
    starts, ends = trimmed(data, starts, ends)
    commas = (ends - starts == 1) & (data[np.minimum(starts, data.size - 1)] == ord(",")) if data.size else starts < 0
    for at in np.flatnonzero((starts < ends) & ~commas).tolist():
        start, end = int(starts[at]), int(ends[at])
        text = data[start:end].tobytes()
        start += len(text) - len(text.lstrip(_BLANKS + b","))
        end -= len(text) - len(text.rstrip(_BLANKS + b","))
        if start < end:
            found.append(Damage(start, end, "stands between documents, and is no object"))
    return tuple(found)


def signature(data: bytes) -> re.Pattern[bytes] | None:
    """How documents begin in an array whose elements begin `data`, by its first two: their indent, and the first name."""
    found = array(np.frombuffer(data, np.uint8))
    at = int(found.starts[: len(found.ends) + 1][1 if len(found.starts) > 1 else 0]) if len(found.starts) else found.end
    first = _FIRST.match(data, at)
    if not first:
        return None
    indent = data[:at][len(data[:at].rstrip(b" \t")) :]
    alone = data[: at - len(indent)].endswith(b"\n")
    return re.compile((rb"(?<=\n)" + re.escape(indent) if alone else rb"") + rb"(" + re.escape(first[0]) + rb")")


def restart(data: bytes, after: int, end: int, begin: re.Pattern[bytes] | None) -> int:
    """Where the next document may begin behind a place; -1 if none does before `end`.

    Where documents do not begin on lines of their own a comma has to be before it: an object in a field is none.
    """
    for found in begin.finditer(data, after + 1, end) if begin else ():
        if begin and (begin.pattern.startswith(b"(?<=") or data[after : found.start(1)].rstrip(_BLANKS).endswith(b",")):
            return found.start(1)
    return -1


def pieces(data: Data, cuts: list[int], end: int) -> tuple[Offsets, Offsets, tuple[Damage, ...]]:
    """The documents of an array's slice and its damage. Documents begin anew at `cuts`; the slice ends at `end`."""
    starts, ends = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    damage: list[Damage] = []
    for first, last in zip([0, *cuts], [*cuts, end], strict=True):
        found = array(data[first:last])
        starts.append(found.starts + first)
        ends.append(found.ends + first)
        damage += [Damage(each.start + first, each.end + first, each.reason) for each in found.stray]
        rest = data[first + found.end : last].tobytes()
        stop = first + found.end + len(rest.rstrip(_BLANKS + b","))
        if stop > first + found.end:
            reason = (
                "the document does not end where the next begins"
                if found.open
                else f"{chr(rest[0])} stands here, and closes nothing"
            )
            damage.append(Damage(first + found.end, stop, reason))
    return np.concatenate(starts), np.concatenate(ends), tuple(damage)
