"""Date and time formats as people write them (`DD.MM.YYYY HH24:MI`) and SQL that reads them strictly."""

import re
from dataclasses import dataclass

from mappings.sql import literal

# token → (strptime's field, pattern, width or 0)
_TOKENS: dict[str, tuple[str, str, int]] = {
    "YYYY": ("%Y", r"(?:\d{3}[1-9]|\d{2}[1-9]\d|\d[1-9]\d{2}|[1-9]\d{3})", 4),  # there is no year 0
    "YY": ("%y", r"\d{2}", 2),
    "MONTH": ("%B", r"[A-Za-z]+", 0),
    "MON": ("%b", r"[A-Za-z]{3}", 0),
    "MM": ("%m", r"\d{2}", 2),
    "M": ("%m", r"\d{1,2}", 0),
    "DD": ("%d", r"\d{2}", 2),
    "D": ("%d", r"\d{1,2}", 0),
    "HH24": ("%H", r"\d{2}", 2),
    "HH12": ("%I", r"\d{2}", 2),
    "HH": ("%H", r"\d{2}", 2),
    "H24": ("%H", r"\d{1,2}", 0),
    "H": ("%H", r"\d{1,2}", 0),
    "MI": ("%M", r"\d{2}", 2),
    "SS": ("%S", r"\d{2}", 2),
    "US": ("%f", r"\d{1,6}", 0),
    "MS": ("%f", r"\d{1,3}", 0),
    "FF": ("%f", r"\d{1,6}", 0),
    "AM": ("%p", r"[AaPp][Mm]", 0),
    "PM": ("%p", r"[AaPp][Mm]", 0),
    "TZ": ("%z", r"[+-]\d{2}(?::?\d{2})?", 0),
}
_PERCENT = {
    "Y": "YYYY",
    "y": "YY",
    "m": "MM",
    "d": "DD",
    "B": "MONTH",
    "b": "MON",
    "H": "HH24",
    "I": "HH12",
    "M": "MI",
    "S": "SS",
    "f": "US",
    "p": "AM",
    "z": "TZ",
}
_WORD = re.compile("|".join(sorted(_TOKENS, key=len, reverse=True)), re.IGNORECASE)
_TIMES = {"%H", "%I", "%M", "%S", "%f", "%p", "%z"}

# what strptime itself would skip at either end: without it, the length and the separators say all
_BLANKS = r"chr(32) || chr(9) || chr(10) || chr(11) || chr(12) || chr(13)"


@dataclass(frozen=True, slots=True)
class Format:
    """A format in strptime's words, the pattern of a whole text in it, and the fixed texts between its fields."""

    written: str
    strptime: str
    pattern: str
    width: int  # in bytes; 0 where it varies
    fixed: tuple[tuple[int, str], ...]  # (position from 1, text)
    year: int  # where YYYY begins, from 1; 0 where it does not
    timed: bool
    zoned: bool


def parse_format(written: str) -> Format:
    """Read a format; ValueError says what is wrong with it."""
    directives: list[str] = []
    pattern: list[str] = []
    fixed: list[tuple[int, str]] = []
    seen: set[str] = set()
    width, rigid, at, year = 0, True, 0, 0
    while at < len(written):
        token, step = _next(written, at)
        at += step
        if token in _TOKENS:
            field, shape, size = _TOKENS[token]
            if field in seen:
                raise ValueError(f"{written!r} has {token} twice")
            seen.add(field)
            year = width + 1 if token == "YYYY" else year
            directives.append(field)
            pattern.append(shape)
            rigid = rigid and size > 0
            width += size
        else:
            directives.append(token.replace("%", "%%"))
            pattern.append(re.escape(token))
            fixed.append((width + 1, token))
            rigid = rigid and token.isascii()
            width += len(token)
    years = seen & {"%Y", "%y"}
    months = seen & {"%m", "%b", "%B"}
    if len(years) != 1 or len(months) != 1 or "%d" not in seen:
        raise ValueError(f"{written!r} needs one year (YYYY or YY), one month (MM, MON, MONTH) and a day (DD)")
    if ("%I" in seen) != ("%p" in seen):
        raise ValueError(f"{written!r}: HH12 and AM go together")
    return Format(
        written,
        "".join(directives),
        "".join(pattern),
        width if rigid else 0,
        tuple(fixed),
        year,
        bool(seen & _TIMES),
        "%z" in seen,
    )


def reading(x: str, form: Format) -> str:
    """SQL: the timestamp that `x` (already trimmed) says in this format, or NULL."""
    if form.width:
        tests = [f"strlen({x}) = {form.width}"]
        tests += [f"substr({x}, {at}, {len(text)}) = {literal(text)}" for at, text in form.fixed]
        tests += [f"substr({x}, {form.year}, 4) <> '0000'"] if form.year else []
        guard = " AND ".join(tests)
    else:
        guard = f"regexp_full_match({x}, {literal('(?:' + form.pattern + ')')})"
    return f"CASE WHEN {guard} THEN try_strptime({x}, {literal(form.strptime)}) END"


def trimmed(x: str) -> str:
    return f"trim({x}, {_BLANKS})"


def _next(written: str, at: int) -> tuple[str, int]:
    if written[at] == "%":
        letter = written[at + 1 : at + 2]
        if letter == "%":
            return "%", 2
        if letter not in _PERCENT:
            raise ValueError(f"{written!r}: %{letter} is not known")
        return _PERCENT[letter], 2
    if written[at] == '"':
        end = written.find('"', at + 1)
        if end < 0:
            raise ValueError(f"{written!r}: a quote is not closed")
        return written[at + 1 : end], end + 1 - at
    if found := _WORD.match(written, at):
        return found[0].upper(), len(found[0])
    if written[at].isalnum() and written[at].upper() != "T":
        raise ValueError(f'{written!r}: "{written[at:]}" is not known (fixed letters go in double quotes)')
    return written[at], 1
