"""The types that a source's columns are promised to have: each as the expression and the PostgreSQL type that prove it."""

import re

from mappings.formats import parse_format
from mappings.functions import LOCALES
from mappings.spelling import UnknownType, parse_type
from mappings.sql import identifier, literal


def promised(written: str) -> tuple[str, str] | None:
    """The expression over the column {x} and the PostgreSQL type of a type as the project file writes it.

    None for `text`, which every value is. `date DD.MM.YYYY` and `timestamp …` are read in these formats, `decimal de` as
    that locale writes amounts, `boolean` by parse_bool's words, any other type as PostgreSQL writes it. ValueError says
    what is wrong, as the end of the sentence "column x …".
    """
    written = written.strip()
    word, _, rest = written.partition(" ")
    kind = word.lower()
    if written.lower() == "text":
        return None
    if kind in ("date", "timestamp") and rest and not rest.lower().startswith(("with ", "without ")):
        return _moment(kind, rest.split(" or "))
    if amount := re.fullmatch(r"(?i)((?:decimal|numeric)(?: ?\( ?\d+ ?(?:, ?\d+ ?)?\))?) ([a-z]+)", written):
        if amount[2].lower() not in LOCALES:
            raise ValueError(f'has no known locale in "{written}": there are {", ".join(LOCALES)}')
        type_ = amount[1] if "(" in amount[1] else "numeric(38,10)"
        return f"parse_money({{x}}, {literal(amount[2].lower())})", _known(type_, written)
    if kind in ("boolean", "bool") and not rest:
        return "parse_bool({x})", "boolean"
    return "{x}", _known(written, written)


def expression(column: str, proof: str) -> str:
    """The proof's expression over this column."""
    return proof.replace("{x}", identifier(column))


def _moment(kind: str, formats: list[str]) -> tuple[str, str]:
    try:
        read = [parse_format(each.strip()) for each in formats]
    except ValueError as error:
        raise ValueError(f"has a format that cannot be read: {error}") from None
    if kind == "date" and any(each.timed for each in read):
        raise ValueError("has a time of day in its format, and is a date: write timestamp")
    if len({each.zoned for each in read}) > 1:
        raise ValueError("has formats with and without TZ: either all have it or none")
    type_ = "timestamptz" if read[0].zoned else kind
    return f"parse_{kind}({{x}}, {', '.join(literal(each.written) for each in read)})", type_


def _known(type_: str, written: str) -> str:
    try:
        parse_type(type_)
    except UnknownType as error:
        raise ValueError(f'has no type that is known: "{written}". {error.hint}') from None
    return type_
