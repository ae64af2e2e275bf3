"""Going on after a broken record: where the next well-formed one begins, found in linear time whatever the text."""

import re
from functools import cached_property

import numpy as np

from connectors.marks import AT_END, AT_START, CR, TWIN, Marks, Positions

_FAILED, _OPEN = -1, -2  # in place of a record's end


class Resync:
    """The search for well-formed records in one text; what it learns about a quote serves every later search."""

    def __init__(self, marks: Marks) -> None:
        self.marks = marks
        self._memo: dict[int, tuple[int, int]] = {}

    def resume(self, begin: int) -> int | None:
        """Where to go on after the broken record at `begin`; None if that depends on text that is yet to come."""
        for line in range(int(np.searchsorted(self.marks.hard_ends, begin)), self.marks.hard_ends.size):
            start = int(self.marks.hard_starts[line])
            if start - begin >= self.marks.grammar.max_record:
                return start
            if start == self.marks.size:
                break
            if line + 1 < self.marks.hard_ends.size and not self._promising(start, int(self.marks.hard_ends[line + 1])):
                continue
            end, fields = self._parse(start)
            if end == _OPEN:
                if self.marks.size - start <= self.marks.grammar.max_record + 2:
                    return None
            elif end > start and fields == self.marks.grammar.fields and end - start <= self.marks.grammar.max_record:
                return start
        return self.marks.size if self.marks.final else None

    def _promising(self, start: int, end: int) -> bool:
        """Whether a well-formed record may begin with this line, by the line and the quote that comes next: much faster
        than `_parse`, and enough for most."""
        if self._patterns[0].fullmatch(self.marks.text, start, end):
            return True
        if not self._patterns[1].fullmatch(self.marks.text, start, end):
            return False
        following = int(np.searchsorted(self.marks.quotes, end))
        return following == self.marks.quotes.size or bool(self.marks.around[following] & (TWIN | AT_END))

    def _parse(self, at: int) -> tuple[int, int]:
        """Where the record that begins at `at` ends and how many fields it has; the end may be _FAILED or _OPEN.

        Once inside quotes the rest depends only on which quote comes next, so the outcome is remembered for each quote:
        many records that all run into the same quotes are parsed in linear time.
        """
        fields, visited = 1, []
        end: int | None = None
        while end is None:
            stop = int(np.searchsorted(self.marks.hard_ends, at))
            line_end = int(self.marks.hard_ends[stop]) if stop < self.marks.hard_ends.size else self.marks.size
            opener = int(np.searchsorted(self._opener_positions, at))
            opens = int(self._opener_positions[opener]) if opener < self._opener_positions.size else self.marks.size
            plain_end = min(line_end, opens)
            if self._strays_in(at, plain_end):
                end = _FAILED
                break
            fields += int(np.diff(np.searchsorted(self.marks.delimiters, (at, plain_end)))[0])
            if opens >= line_end:
                end = line_end
                if line_end == self.marks.size:
                    dangling = self.marks.escaped is not None and bool(self.marks.escaped[self.marks.size])
                    end = _OPEN if not self.marks.final else _FAILED if dangling else line_end
                break
            quote = int(self._openers[opener]) + 1
            while True:
                known = self._memo.get(quote)
                if known is not None:
                    end, fields = known[0], fields + known[1]
                    break
                visited.append((quote, fields))
                around = int(self.marks.around[quote]) if quote < self.marks.quotes.size else 0
                if quote >= self.marks.quotes.size:
                    end = _FAILED if self.marks.final else _OPEN
                elif around & TWIN:
                    quote += 2
                    continue
                elif not around & AT_END:
                    end = _FAILED
                else:
                    at = int(self.marks.quotes[quote]) + 1
                    if self.marks.pending and at == self.marks.size - 1:
                        end = _OPEN
                    elif at == self.marks.size or self.marks.text[at] != self.marks.grammar.delimiter:
                        end = _FAILED if self._strays_in(at, at + 1) else at
                    else:
                        at, fields = at + 1, fields + 1
                break
        for quote, before in visited:
            self._memo[quote] = (end, fields - before)
        return end, fields

    def _strays_in(self, start: int, end: int) -> bool:
        first, last = np.searchsorted(self.marks.strays, (start, end))
        return bool(first < last)

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
        """A line that is a whole record with the right number of fields; and one that ends inside quotes."""
        delimiter = re.escape(bytes([self.marks.grammar.delimiter]))
        escape = b"" if self.marks.grammar.escape is None else re.escape(bytes([self.marks.grammar.escape]))
        escaped = b"|%b." % escape if escape else b""
        stray = rb"\n" if self.marks.grammar.line_end == CR else rb"\r"
        field = b"(?:[^%b%b%b]++%b)*+" % (delimiter, escape, stray, escaped)
        opened = b"(?!)"
        if self.marks.grammar.quote is not None:
            quote = re.escape(bytes([self.marks.grammar.quote]))
            opened = b"%b(?:[^%b%b]++|%b%b%b)*+" % (quote, quote, escape, quote, quote, escaped)
            field = b"(?:%b%b(?=%b|\\Z)|(?!%b)%b)" % (opened, quote, delimiter, quote, field)
        more = max(self.marks.grammar.fields - 1, 0)
        return (
            re.compile(b"%b(?:%b%b){%d}" % (field, delimiter, field, more), re.DOTALL),
            re.compile(b"(?:%b%b)*+%b" % (field, delimiter, opened), re.DOTALL),
        )

    @cached_property
    def _openers(self) -> Positions:
        """The indices of the quotes that open a field wherever the text before them is unquoted."""
        return np.flatnonzero(self.marks.around & AT_START)

    @cached_property
    def _opener_positions(self) -> Positions:
        return self.marks.quotes[self._openers]
