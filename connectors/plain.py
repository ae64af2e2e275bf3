"""Text whose quotes all stand where fields open and close: nearly all text there is, and proved without a scan."""

import numpy as np

from connectors.marks import CR, LF, Grammar, Positions, places


def quotes_in_place(text: bytes, grammar: Grammar) -> Positions | None:
    """The quotes of text that begins at a record's start; None where one of them, an escape or a CR needs the scanner.

    In place means: each quote with an even number follows a delimiter, a line end or nothing, so it opens a field; the next
    one is followed by a delimiter or a line end, so it closes it; and so on. Nothing but LF or CRLF ends a line.
    """
    if grammar.line_end != LF or (grammar.escape is not None and grammar.escape in text):
        return None
    units = np.frombuffer(text, np.uint8)
    if b"\r" in text:
        returns = np.flatnonzero(units == CR)
        if returns[-1] == units.size - 1 or not (units[returns + 1] == LF).all():
            return None
    if grammar.quote is None or grammar.quote not in text:
        return np.empty(0, np.int64)
    quotes = places(units, grammar.quote)
    opens, closes = quotes[0::2], quotes[1::2]
    before = units[opens[1:] - 1] if opens[0] == 0 else units[opens - 1]
    if not ((before == grammar.delimiter) | (before == LF)).all():
        return None
    if closes.size and closes[-1] == units.size - 1:
        closes = closes[:-1]
    after = units[closes + 1]
    if not ((after == grammar.delimiter) | (after == LF) | (after == CR)).all():
        return None
    return quotes


def last_line_end(text: bytes, quotes: Positions) -> int:
    """Behind the last line end outside quotes, or 0; `quotes` as `quotes_in_place` gives them."""
    end = text.rfind(b"\n") + 1
    while (before := int(np.searchsorted(quotes, end))) % 2:  # inside quotes; there may be others between these and it
        end = text.rfind(b"\n", 0, int(quotes[before - 1])) + 1
    return end
