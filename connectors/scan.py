"""The record scanner: where the records of delimited text begin and end, and which of them are broken.

Planning, reading, counting and locating all go through `scan`, so they cannot disagree. Its grammar:

- LF and CR LF end a line, or, if the dialect says so, CR alone; a line end outside quotes ends a record; blank lines are
  not records.
- A quote opens a field only at the field's start; any other quote in an unquoted field is text (`5" pipe`).
- In a quoted field a doubled quote is text; the closing quote must be followed by a delimiter, a line end or the end.
- An escape character takes the meaning from the character after it, in and out of quotes.
- A CR outside quotes that ends no line (a LF, if CR ends them) breaks its record, and only that: whether a line was cut
  in two there or a value holds it, nobody knows.

A record is *broken* too if text follows its closing quote, if a quote stays open, or if it is longer than
`max_record_bytes`. Where it ends is not known then: a broken region begins there and ends before the next physical line
at which a well-formed record with the right number of fields begins (for want of one, at the first line past
`max_record_bytes`). It is one record.

Everything is vectorised over the positions of quotes and line ends; only broken regions are walked in Python, each
quote at most once, so that no input makes the scan quadratic.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from connectors.marks import AT_END, AT_START, CR, LF, SECOND, TWIN, Bytes, Grammar, Marks, Positions, places, split
from connectors.plain import last_line_end, quotes_in_place
from connectors.resync import Resync

__all__ = ["STRAY", "Grammar", "Positions", "Records", "Settled", "of_lines", "scan", "settle", "split"]

# Why a record is broken in which a line break stands that ends no line, by what does end lines.
STRAY = {LF: "a carriage return stands inside the row", CR: "a line feed stands inside the row"}

# What is known once a quote has been read. _PAIR: it was the first of a doubled quote.
_OUT, _IN, _PAIR, _BROKEN = 0, 1, 2, 3


def _automaton() -> npt.NDArray[np.uint8]:
    table = np.empty((4, 16), np.uint8)
    for around in range(16):
        table[_OUT, around] = _IN if around & AT_START else _OUT
        table[_IN, around] = _PAIR if around & TWIN else _OUT if around & AT_END else _BROKEN
        table[_PAIR, around] = _IN
        table[_BROKEN, around] = _BROKEN
    return table


_NEXT = _automaton()
_STRIDE = 32
_WALK = _STRIDE * _STRIDE


@dataclass(frozen=True, slots=True)
class Records:
    """The records of some text. Positions are in units: bytes, or 16-bit units of UTF-16.

    `starts[i]:ends[i]` is record i without its line end; `broken` maps the broken ones to the reason; `line_ends` are
    the last units of every physical line end; the text is settled up to `consumed`, which begins a record.
    """

    starts: Positions
    ends: Positions
    broken: dict[int, str]
    line_ends: Positions
    consumed: int

    def lines(self, index: Positions) -> tuple[Positions, Positions]:
        """The physical lines (counted from 0 at the text's start) on which records begin and end."""
        return (
            np.searchsorted(self.line_ends, self.starts[index]),
            np.searchsorted(self.line_ends, self.ends[index] - 1),
        )

    def line_count(self, upto: int) -> int:
        """How many physical lines end before this position."""
        return int(np.searchsorted(self.line_ends, upto))


def scan(text: bytes, grammar: Grammar, *, final: bool) -> Records:
    """Find the records of `text`, which begins at a record's start.

    Unless `final`, more text follows, and a record or broken region that is not over yet is left: see `consumed`.
    """
    return _Scan(Marks(text, grammar, final=final)).run()


def of_lines(text: bytes) -> Records:
    """What `scan` finds in text of which every line, ended by LF or CR LF, is known to be a record."""
    units = np.frombuffer(text, np.uint8)
    line_ends = places(units, LF)
    ends = line_ends - (units[line_ends - 1] == CR)
    if not text.endswith(b"\n"):
        ends = np.append(ends, len(text))
    starts = np.append(0, line_ends + 1)[: len(ends)]
    return Records(starts, ends, {}, line_ends, len(text))


class Settled(NamedTuple):
    """How far `scan` would settle a text, how many physical lines that is, and about how many records (0: none).

    `plain`: all its quotes are in place, and no record can be broken.
    """

    consumed: int
    lines: int
    records: int
    plain: bool


def settle(text: bytes, grammar: Grammar, *, final: bool) -> Settled:
    """What planning needs to know, which is less than `scan` finds.

    Text whose quotes are all in place, and where no record can be too long, is not scanned but only searched for its last
    line end.
    """
    quotes = None if final or len(text) > grammar.max_record else quotes_in_place(text, grammar)
    if quotes is None:
        records = scan(text, grammar, final=final)
        return Settled(records.consumed, records.line_count(records.consumed), int(records.starts.size), False)
    consumed = last_line_end(text, quotes)
    lines = int(np.count_nonzero(np.frombuffer(text, np.uint8, consumed) == LF)) if consumed else 0
    leading = len(text) - len(text.lstrip(b"\r\n"))
    return Settled(consumed, lines, lines if leading < consumed else 0, True)


def _regular(around: Bytes, state: int) -> Bytes:
    """The states after the longest prefix of quotes that open and close in turn, which is nearly always all of them."""
    if state == _OUT and around.size and not around[0] & AT_START:
        return around[:0]
    opening = 1 if state == _IN else 0
    opens, closes = around[opening::2], around[1 - opening :: 2]
    sound = around.size
    bad = (opens & (AT_START | SECOND)) == 0
    if bad.any():
        sound = min(sound, 2 * int(bad.argmax()) + opening)
    bad = (closes & (TWIN | AT_END)) == 0
    if bad.any():
        sound = min(sound, 2 * int(bad.argmax()) + 1 - opening)
    states = np.empty(around.size, np.uint8)
    states[opening::2] = _IN
    states[1 - opening :: 2] = closes & TWIN  # which is _PAIR, and otherwise _OUT
    return states[:sound]


def _automatic(around: Bytes, state: int) -> Bytes:
    """The states after each quote by the automaton itself: rows of _STRIDE quotes at once, from every state."""
    rows = -(-around.size // _STRIDE)
    padded = np.zeros(rows * _STRIDE, np.uint8)
    padded[: around.size] = around
    columns = padded.reshape(rows, _STRIDE).T
    reached = np.repeat(np.arange(4, dtype=np.uint8)[:, None], rows, axis=1)
    for column in columns:
        reached = _NEXT[reached, column]
    current = np.empty(rows, np.uint8)
    for row, following in enumerate(reached.T.tolist()):
        current[row] = state
        state = following[state]
    states = np.empty((_STRIDE, rows), np.uint8)
    for step, column in enumerate(columns):
        states[step] = current = _NEXT[current, column]
    return states.T.ravel()[: around.size]


class _Scan:
    """One scan of one text: the walk over its marks."""

    def __init__(self, marks: Marks) -> None:
        self.marks = marks
        self.resync = Resync(marks)
        self.starts: list[Positions] = []
        self.ends: list[Positions] = []
        self.broken: dict[int, str] = {}
        self.count = 0
        self.strays: list[Positions] = []

    def run(self) -> Records:
        begin, state, line, quote = 0, _OUT, 0, 0
        lines = self.marks.line_ends.size
        step = max(lines, 1)  # all at once, unless something is broken
        while begin < self.marks.size:
            upto = min(line + step, lines)
            limit = self.marks.size if upto == lines else int(self.marks.line_ends[upto - 1]) + 1
            states = self._walk(quote, int(np.searchsorted(self.marks.quotes, limit)), state)
            failed = bool(states.size) and states[-1] == _BROKEN
            settled = (
                int(np.searchsorted(self.marks.line_ends, self.marks.quotes[quote + states.size - 1]))
                if failed
                else upto
            )
            scanned = int(self.marks.line_ends[line - 1]) + 1 if line else 0
            self._find_strays(max(scanned, begin), limit, quote, states, state)
            begin, reason = self._emit(begin, self._hard(line, settled, quote, states, state))
            line, quote, state = upto, quote + states.size, int(states[-1]) if states.size else state
            step *= 2
            if not reason and failed:
                reason = self._describe(begin, quote - 1)
            elif not reason and upto == lines:
                reason = self._finish(begin, state)
                if not reason:
                    begin = self.marks.size if self.marks.final else begin
                    break
            if reason:
                resumed = self.resync.resume(begin)
                if resumed is None:
                    break
                self._forget_strays(begin)
                self._add_broken(begin, resumed, reason)
                begin, state, step = resumed, _OUT, 256
                line, quote = (
                    int(np.searchsorted(self.marks.line_ends, begin)),
                    int(np.searchsorted(self.marks.quotes, begin)),
                )
        empty = np.empty(0, np.int64)
        starts, ends = np.concatenate([empty, *self.starts]), np.concatenate([empty, *self.ends])
        self._break_at_strays(starts, ends)
        return Records(starts, ends, self.broken, self.marks.line_ends, begin)

    def _walk(self, first: int, last: int, state: int) -> Bytes:
        """The state after each of these quotes, up to and with the first that breaks the grammar."""
        around = self.marks.around[first:last]
        states = np.empty(around.size, np.uint8)
        at, step = 0, max(around.size, 1)
        while at < around.size:
            run = _regular(around[at : at + step], state)
            states[at : at + run.size] = run
            regular = run.size == min(step, around.size - at)
            at += run.size
            state = int(run[-1]) if run.size else state
            step *= 2
            if not regular:
                step = _WALK
                run = _automatic(around[at : at + _WALK], state)
                states[at : at + run.size] = run
                broken = np.flatnonzero(run == _BROKEN)
                if broken.size:
                    return states[: at + int(broken[0]) + 1]
                at += run.size
                state = int(run[-1])
        return states

    def _hard(self, line: int, upto: int, quote: int, states: Bytes, state: int) -> Positions:
        """The indices of those of these line ends that end a record."""
        hard = self._outside(self.marks.line_ends[line:upto], quote, states, state)
        if self.marks.soft is not None:
            hard &= ~self.marks.soft[line:upto]
        return line + np.flatnonzero(hard)

    def _outside(self, positions: Positions, quote: int, states: Bytes, state: int) -> npt.NDArray[np.bool_]:
        """Which of these positions are outside quotes, by the states after the quotes from `quote` on."""
        if not states.size:
            return np.full(positions.size, state == _OUT)
        places = np.searchsorted(self.marks.quotes[quote : quote + states.size], positions)
        outside: npt.NDArray[np.bool_] = np.concatenate([np.array([state], np.uint8), states])[places] == _OUT
        return outside

    def _emit(self, begin: int, hard: Positions) -> tuple[int, str]:
        """Add the records that these line ends end; where the next begins, and what is wrong if it is too long."""
        if not hard.size:
            return begin, ""
        after = self.marks.line_ends[hard] + 1
        starts = np.concatenate([np.array([begin], np.int64), after[:-1]])
        ends = after - self.marks.widths[hard]
        begin, reason = int(after[-1]), ""
        long = ends - starts > self.marks.grammar.max_record
        if long.any():
            first = int(long.argmax())
            begin, reason = int(starts[first]), self._too_long()
            starts, ends = starts[:first], ends[:first]
        filled = ends > starts
        if not filled.all():
            starts, ends = starts[filled], ends[filled]
        self._add(starts, ends)
        return begin, reason

    def _finish(self, begin: int, state: int) -> str:
        """Add the last record if no line end closes it, or say what is wrong with it."""
        if not self.marks.final:
            return self._too_long() if self.marks.size - begin > self.marks.grammar.max_record + 2 else ""
        if begin == self.marks.size:
            return ""
        if state == _IN:
            return self._describe(begin, None)
        if self.marks.size - begin > self.marks.grammar.max_record:
            return self._too_long()
        if self.marks.escaped is not None and self.marks.escaped[self.marks.size]:
            return "the text ends in an escape character"
        self._add(np.array([begin], np.int64), np.array([self.marks.size], np.int64))
        return ""

    def _add(self, starts: Positions, ends: Positions) -> None:
        self.starts.append(starts)
        self.ends.append(ends)
        self.count += starts.size

    # ----------------------------------------------------------------------------------- line breaks that end no line

    def _find_strays(self, start: int, limit: int, quote: int, states: Bytes, state: int) -> None:
        """Note the strays outside quotes from `start` to `limit`."""
        if not self.marks.strays.size:
            return
        first, last = np.searchsorted(self.marks.strays, (start, limit))
        found = self.marks.strays[first:last]
        if found.size:
            self.strays.append(found[self._outside(found, quote, states, state)])

    def _forget_strays(self, begin: int) -> None:
        """Forget those past `begin`: a broken region begins there, and what follows it is walked again."""
        while self.strays and (not self.strays[-1].size or self.strays[-1][-1] >= begin):
            kept = self.strays.pop()
            kept = kept[: np.searchsorted(kept, begin)]
            if kept.size:
                self.strays.append(kept)

    def _break_at_strays(self, starts: Positions, ends: Positions) -> None:
        if not self.strays or not starts.size:
            return
        strays = np.concatenate(self.strays)
        owners = np.maximum(np.searchsorted(starts, strays, "right") - 1, 0)
        owners = np.unique(owners[(starts[owners] <= strays) & (strays < ends[owners])])
        for owner in owners.tolist():
            self.broken.setdefault(owner, STRAY[self.marks.grammar.line_end])

    # --------------------------------------------------------------------------------------------------- broken regions

    def _add_broken(self, begin: int, resumed: int, reason: str) -> None:
        end = resumed
        line = int(np.searchsorted(self.marks.line_ends, resumed)) - 1
        if (
            line >= 0
            and self.marks.line_ends[line] + 1 == resumed
            and not (self.marks.soft is not None and self.marks.soft[line])
        ):
            end -= int(self.marks.widths[line])
        self.broken[self.count] = reason
        self._add(np.array([begin], np.int64), np.array([end], np.int64))

    def _too_long(self) -> str:
        return "the record is longer than max_record_bytes allows"

    def _describe(self, begin: int, failed: int | None) -> str:
        """What the quote `failed` (None: the missing one) breaks in the record at `begin`."""
        first = int(np.searchsorted(self.marks.quotes, begin))
        states = self._walk(first, self.marks.quotes.size if failed is None else failed, _OUT)
        outside = np.flatnonzero(states == _OUT)
        opening = int(self.marks.quotes[first + (int(outside[-1]) + 1 if outside.size else 0)])
        field = len(split(self.marks.text[begin:opening], self.marks.grammar))
        if failed is not None:
            line, last = np.searchsorted(self.marks.line_ends, (opening, self.marks.quotes[failed]))
            if line == last:
                return f"text follows the closing quote of field {field}"
        return f"the quote that opens field {field} is not closed"
