"""Where the units that matter to a record scanner stand in a text: quotes, line ends, escapes, delimiters."""

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

LF, CR = 10, 13

# What surrounds a quote. AT_START: a field can begin here; TWIN: another quote follows directly; AT_END: a
# delimiter, a line end or the end follows; SECOND: another quote stands directly before.
AT_START, TWIN, AT_END, SECOND = 1, 2, 4, 8


@dataclass(frozen=True, slots=True)
class Grammar:
    """What the scanner must know of a dialect: ASCII codes, the number of fields, and the longest record, in units.

    `line_end` is LF, and then CR LF ends a line too, or CR.
    """

    delimiter: int
    quote: int | None
    escape: int | None
    fields: int
    max_record: int
    line_end: int = LF


def split(record: bytes, grammar: Grammar) -> list[tuple[int, int]]:
    """The fields of one record as (start, end), quotes included. A broken record is split as well as it can be."""
    escape = b"" if grammar.escape is None else bytes([grammar.escape])
    plain = re.compile(b"[" + re.escape(bytes([grammar.delimiter]) + escape) + b"]")
    quoted = None if grammar.quote is None else re.compile(b"[" + re.escape(bytes([grammar.quote]) + escape) + b"]")
    fields: list[tuple[int, int]] = []
    start, size = 0, len(record)
    while True:
        at = start
        if quoted is not None and record[at : at + 1] == bytes([grammar.quote or 0]):
            at += 1
            while found := quoted.search(record, at):
                at = found.end()
                if record[at - 1] == grammar.quote and record[at : at + 1] != found.group():
                    break
                at += 1
            else:
                at = size
        while found := plain.search(record, at):
            at = found.end()
            if record[at - 1] == grammar.delimiter:
                break
            at += 1
        if found is None:
            return [*fields, (start, size)]
        fields.append((start, at - 1))
        start = at


def places(units: Bytes, unit: int) -> Positions:
    """Where a unit stands: as `np.flatnonzero` of the comparison, twice as fast, for eight are looked at at once."""
    hits = units == unit
    whole = hits.size - hits.size % 8
    eights = hits[:whole].view(np.uint64)
    some = np.flatnonzero(eights != 0)
    among = np.flatnonzero(eights[some].view(np.bool_))
    return np.concatenate(((some[among >> 3] << 3) + (among & 7), whole + np.flatnonzero(hits[whole:])))


class Marks:
    """The positions of what matters in one text. Unless `final`, more text follows.

    `line_ends` are the last units of every physical line end, `widths` how many units each has, `soft` whether an
    escape makes it literal (None: never). `strays` are the CRs and LFs that neither end a line nor are literal by an
    escape. `quotes` are the quotes no escape makes literal, `around` what surrounds each. `escaped[i]` says whether an
    escape makes unit i literal (None: there is no escape). `pending`: the last unit is a CR whose LF may be yet to come.
    """

    def __init__(self, text: bytes, grammar: Grammar, *, final: bool) -> None:
        self.text, self.grammar, self.final = text, grammar, final
        self.size = len(text)
        self.units = np.frombuffer(text, np.uint8)
        self.escaped = self._find_escaped()
        self._find_line_ends()
        self._find_quotes()

    def _find_escaped(self) -> npt.NDArray[np.bool_] | None:
        """Whether each unit (and what would follow the last) is taken literally because of an escape before it."""
        escape = self.grammar.escape
        if escape is None or escape not in self.text:
            return None
        escapes = np.flatnonzero(self.units == escape)
        first = np.flatnonzero(np.diff(escapes, prepend=-2) != 1)  # of each run of escapes: they pair up from its start
        offset = np.arange(escapes.size) - np.repeat(first, np.diff(first, append=escapes.size))
        escaped = np.zeros(self.size + 1, np.bool_)
        escaped[escapes[offset % 2 == 0] + 1] = True
        return escaped

    def _find_line_ends(self) -> None:
        units, text = self.units, self.text
        by_return = self.grammar.line_end == CR
        returns = text.count(b"\r")
        ends = places(units, self.grammar.line_end)
        strays = np.empty(0, np.int64)
        self.pending = not by_return and not self.final and text.endswith(b"\r")
        if by_return:
            strays = np.flatnonzero(units == LF)
        elif returns and returns != text.count(b"\r\n"):
            lone = units == CR
            lone[:-1] &= units[1:] != LF
            lone[-1] &= not self.pending
            strays = np.flatnonzero(lone)
        self.strays: Positions = strays if self.escaped is None else strays[~self.escaped[strays]]
        widths = np.ones(ends.size, np.int64)
        if returns and not by_return:
            before = np.maximum(ends - 1, 0)
            pair = (units[ends] == LF) & (units[before] == CR)
            if self.escaped is not None:
                pair &= ~self.escaped[before]
            widths += pair
        self.line_ends: Positions = ends
        self.widths: Positions = widths
        self.soft = None if self.escaped is None else self.escaped[ends]

    def _find_quotes(self) -> None:
        quote = self.grammar.quote
        if quote is None or quote not in self.text:
            self.quotes, self.around = np.empty(0, np.int64), np.empty(0, np.uint8)
            return
        quotes = places(self.units, quote)
        if self.escaped is not None:
            quotes = quotes[~self.escaped[quotes]]
        if quotes.size and not self.final and quotes[-1] == self.size - 1:
            quotes = quotes[:-1]  # what follows it is yet to come
        before = self.units.take(quotes - 1, mode="clip")
        after = self.units.take(quotes + 1, mode="clip")
        starts = (before == self.grammar.delimiter) | (before == self.grammar.line_end)
        ends = (after == self.grammar.delimiter) | (after == LF) | (after == CR)
        twins = after == quote
        if self.escaped is not None:
            starts &= ~self.escaped[np.maximum(quotes - 1, 0)]
        if quotes.size and quotes[0] == 0:
            starts[0] = True
        if quotes.size and quotes[-1] == self.size - 1:
            ends[-1], twins[-1] = True, False
        around = starts * np.uint8(AT_START)
        around |= ends * np.uint8(AT_END)
        around |= twins * np.uint8(TWIN)
        around[1:] |= twins[:-1] * np.uint8(SECOND)
        self.quotes, self.around = quotes, around

    @cached_property
    def delimiters(self) -> Positions:
        found = np.flatnonzero(self.units == self.grammar.delimiter)
        return found if self.escaped is None else found[~self.escaped[found]]

    @cached_property
    def hard_ends(self) -> Positions:
        """Where the text of each line ends, if an escape has not made its line end literal."""
        ends = self.line_ends - self.widths + 1
        return ends if self.soft is None else ends[~self.soft]

    @cached_property
    def hard_starts(self) -> Positions:
        """Where the line after each of them starts."""
        return 1 + (self.line_ends if self.soft is None else self.line_ends[~self.soft])
