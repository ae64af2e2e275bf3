"""Aggregates: what source and target each compute of a column by their own engine, and which of them must be equal."""

from collections.abc import Mapping, Sequence
from decimal import Decimal

from migrate.core import Finding, Kind, Measure, Quantity, rank

QUANTITIES: Mapping[Kind, Sequence[Quantity]] = {
    "number": ("values", "sum", "least", "most"),
    "real": ("values", "least", "most"),  # the sum of floats depends on their order
    "boolean": ("values", "sum"),
    "day": ("values", "sum", "least", "most"),
    "moment": ("values", "sum", "least", "most"),
    "text": ("values", "length", "digest"),
    "padded": ("values", "length", "digest"),
    "bytes": ("values", "length", "digest"),
    "other": ("values",),
}
"""What is asked of each kind of column."""

_WORDS: Mapping[Quantity, str] = {
    "values": "values that are not NULL",
    "sum": "the sum",
    "least": "the least value",
    "most": "the greatest value",
    "length": "the sum of lengths",
    "digest": "the sum of digests",
}


def compare(
    table: str,
    columns: Sequence[str],
    measures: Sequence[Measure],
    source: Sequence[Decimal | None],
    without: Sequence[Decimal | None],
    target: Sequence[Decimal | None],
    note: str = "",
) -> list[Finding]:
    """A finding for each column in which the sides differ. `columns[i]` is the target column of `measures[i]`; `without` are
    the quantities of rows that were not loaded.

    Least and greatest values of all rows only bound those of the loaded ones where some were not loaded.
    """
    differences: dict[str, list[tuple[Measure, Decimal | None, Decimal | None]]] = {}
    for column, measure, whole, gone, here in zip(columns, measures, source, without, target, strict=True):
        expected = whole
        if measure.quantity in ("least", "most"):
            differs = _beyond(measure.quantity, whole, here, sure=gone is None)
        else:
            expected = (whole or Decimal(0)) - (gone or Decimal(0))
            differs = expected != (here or Decimal(0))
        if differs:
            differences.setdefault(column, []).append((measure, expected, here))
    return [_finding(table, column, found, note) for column, found in differences.items()]


def _beyond(quantity: Quantity, whole: Decimal | None, here: Decimal | None, *, sure: bool) -> bool:
    if sure or whole is None or here is None:
        return sure and (whole is None or here is None or rank(whole) != rank(here)) and whole is not here
    return rank(here) < rank(whole) if quantity == "least" else rank(here) > rank(whole)


def _finding(
    table: str, column: str, found: Sequence[tuple[Measure, Decimal | None, Decimal | None]], note: str
) -> Finding:
    measure, expected, actual = found[0]
    source = "" if measure.column == column else f" (the source's {measure.column})"
    more = ", ".join(_WORDS[m.quantity] for m, _, _ in found[1:])
    message = (
        f"{table}: {column}{source}: {_WORDS[measure.quantity]} should be {_plain(expected)} by the source, "
        f"and is {_plain(actual)} in the target{f'; so differs {more}' if more else ''}{note}"
    )
    return Finding(f"aggregates.{measure.quantity}", "error", table, message, None, _plain(expected), _plain(actual))


def _plain(value: Decimal | None) -> str:
    return "none" if value is None else format(value, "f") if abs(value.adjusted()) < 40 else str(value)
