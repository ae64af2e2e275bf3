"""HTML from values: everything escaped, what cannot be seen made visible, tables that sort and read aloud well.

`Html` is a type of its own, so that the type checker finds a text that was not escaped.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal, NewType

Html = NewType("Html", str)

NOTHING = Html("")
LIMIT = 1_000  # characters of one value that the page shows
_WORD = 26
_BREAKS = re.compile(r"[\s_-]")


def plain(value: str) -> str:
    """A text for a place that holds no markup (the title, an attribute): control characters spelled out, escaped."""
    return escape("".join(c if c.isprintable() else spelled(c) for c in value))


def text(value: str, limit: int = LIMIT) -> Html:
    """A text from data: isolated, so that its direction turns nothing around it; control characters made visible."""
    more = len(value) - limit
    kept = value[:limit] if more > 0 else value
    # Lines break between words and after underscores; within a word only where it is longer than a column is wide.
    short = len(kept) <= _WORD and " " not in kept
    long = any(len(word) > _WORD for word in _BREAKS.split(kept))
    style = ' class="short"' if short else ' class="split"' if long else ""
    characters = "".join(map(_character, kept))
    if not short:
        characters = characters.replace("_", "_<wbr>")
    cut = f' <span class="muted">… {more:,} more characters</span>' if more > 0 else ""
    return Html(f"<bdi{style}>{characters}</bdi>{cut}")


def _character(c: str) -> str:
    if c.isprintable():
        return escape(c)
    name = unicodedata.name(c, "control character")
    return f'<span class="ctl" title="U+{ord(c):04X} {escape(name.lower())}">{spelled(c)}</span>'


def spelled(c: str) -> str:
    """A character that cannot be seen, as one writes it in a string: \\n, \\x1b, \\u202e."""
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
    if c in short:
        return short[c]
    return f"\\x{ord(c):02x}" if ord(c) < 0x100 else f"\\u{ord(c):04x}" if ord(c) < 0x10000 else f"\\U{ord(c):08x}"


def join(parts: Iterable[Html], between: str = "") -> Html:
    return Html(escape(between).join(parts))


def tag(name: str, *inner: Html, **attributes: str | bool) -> Html:
    """An element; `class_` is its class, and an attribute that is True stands alone."""
    given = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{plain(value)}"')
        for key, value in attributes.items()
        if value is not False and (value is True or value != "")
    )
    return Html(f"<{name}{given}>{''.join(inner)}</{name}>")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; `sign` stands before its name, as the equation's signs do; without `sort` it cannot be sorted."""

    name: str
    numeric: bool = False
    sign: str = ""
    sort: Literal["text", "number", ""] = "text"


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell; `key` is what it is sorted by where that is not its text."""

    inner: Html
    key: str = ""
    style: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A row, named by its first cell; `look`: something about it wants to be looked at."""

    cells: Sequence[Cell]
    look: bool = False
    anchor: str = ""


def number(n: int | None) -> Cell:
    """A number, a zero paler than the others; None is a dash."""
    if n is None:
        return Cell(Html("–"), "-1", "zero")
    return Cell(Html(f"{n:,}"), str(n), "" if n else "zero")


def words(value: str, style: str = "") -> Cell:
    return Cell(text(value), style=style)


def table(label: str, columns: Sequence[Column], rows: Sequence[Row], total: Row | None = None) -> Html:
    """A table; `label` is the id of the heading that names it."""
    heads = join(
        tag(
            "th",
            Html(f'<span class="sign">{escape(c.sign)} </span>' if c.sign else ""),
            Html(escape(c.name)),
            scope="col",
            class_="n" if c.numeric else "",
            data_sort="number" if c.numeric else c.sort,
        )
        for c in columns
    )
    body = Html("\n").join(_row(columns, row) for row in rows)
    foot = tag("tfoot", _row(columns, total)) if total is not None else NOTHING
    inner = tag("table", tag("thead", tag("tr", heads)), tag("tbody", Html(body)), foot, aria_labelledby=label)
    return tag("div", inner, class_="wide", role="group", aria_labelledby=label)


def _row(columns: Sequence[Column], row: Row) -> Html:
    cells = []
    for i, (column, cell) in enumerate(zip(columns, row.cells, strict=True)):
        style = " ".join(filter(None, ("n" if column.numeric else "", cell.style)))
        if i == 0:
            cells.append(tag("th", cell.inner, scope="row", class_=style, data_key=cell.key))
        else:
            cells.append(tag("td", cell.inner, class_=style, data_key=cell.key))
    return tag("tr", *cells, id=row.anchor, data_look=row.look)
