"""Which row of a cluster survives, and whose value a column takes: the rules of `keep` and `columns` as SQL orders."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mappings.sql import identifier

_RULE = re.compile(r"\s*(\w+)\s*(?:\((.*)\))?\s*", re.DOTALL)
_BY_VALUE = ("latest", "earliest")
KEEP = ("first", "last", *_BY_VALUE, "most_complete")
CHOOSE = ("filled", *_BY_VALUE, "most_complete", "most_frequent")


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as written; `by` is the text of its expression, which begins at character `at` of the rule."""

    how: str
    by: str | None = None
    at: int = 0


def parse_rule(text: str, allowed: Sequence[str]) -> Rule | None:
    """A rule as it is written: `first`, `latest(ChangedAt)`; None where it is none of those allowed."""
    found = _RULE.fullmatch(text)
    if found is None or found[1] not in allowed or (found[1] in _BY_VALUE) != bool(found[2] and found[2].strip()):
        return None
    return Rule(found[1], found[2], found.start(2) if found[2] else 0)


@dataclass(frozen=True, slots=True)
class Order:
    """A rule over standing rows: `column` is where the value that it orders by is kept ("" where there is none)."""

    how: str
    column: str = ""


def held(column: str) -> str:
    """The name under which DuckDB has a column of the rows: like no name of ours, and unlike any other's in whatever case."""
    return f"v·{column.encode().hex()}"


def preferred(order: Order) -> str:
    """The ORDER BY term of `keep` that puts the preferred row first; NULL comes last. `pos` is the source's order."""
    value = identifier(held(order.column))
    terms = {
        "first": "pos",
        "last": "pos DESC",
        "latest": f"{value} DESC NULLS LAST",
        "earliest": f"{value} ASC NULLS LAST",
        "most_complete": '"·complete" DESC',
    }
    return terms[order.how]


def chosen(column: str, order: Order, survivors: str) -> tuple[str, str]:
    """(window column or "", aggregate over a cluster) in SQL: the `pos` of the row whose value of `column` lives on.

    `survivors` are the terms of `keep`, which break ties. A NULL is never chosen: where no row has a value, the aggregate
    is NULL.
    """
    value, window = identifier(held(column)), ""
    if order.how == "filled":
        by = survivors
    elif order.how == "most_complete":
        by = f"length(CAST({value} AS VARCHAR)) DESC, {survivors}"
    elif order.how == "most_frequent":
        times = '"·times"'
        window = f"count({value}) OVER (PARTITION BY cluster, {value}) AS {times}"
        by = f"{times} DESC, {survivors}"
    else:
        by = f"{preferred(order)}, {survivors}"
    return window, f"first(pos ORDER BY {by}) FILTER (WHERE {value} IS NOT NULL)"
