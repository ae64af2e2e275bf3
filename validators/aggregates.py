"""Aggregates: what source and target each compute of a column by their own engine, and which of them must be equal."""

from collections.abc import Mapping, Sequence
from decimal import Decimal

from migrate.core import Finding, Kind, Measure, Quantity

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
    """Every difference. `columns[i]` is the target column of `measures[i]`; `without` are those of rows not loaded.

    Least and greatest values of all rows only bound those of the loaded ones where some were not loaded.
    """
    findings = []
    for column, measure, whole, gone, here in zip(columns, measures, source, without, target, strict=True):
        if measure.quantity in ("least", "most"):
            if _beyond(measure.quantity, whole, here, sure=gone is None):
                findings.append(_finding(table, column, measure, whole, here, note))
            continue
        expected = (whole or Decimal(0)) - (gone or Decimal(0))
        if expected != (here or Decimal(0)):
            findings.append(_finding(table, column, measure, expected, here, note))
    return findings


def _beyond(quantity: Quantity, whole: Decimal | None, here: Decimal | None, *, sure: bool) -> bool:
    if sure or whole is None or here is None:
        return sure and whole != here
    return here < whole if quantity == "least" else here > whole


def _finding(
    table: str, column: str, measure: Measure, expected: Decimal | None, actual: Decimal | None, note: str
) -> Finding:
    source = "" if measure.column == column else f" (the source's {measure.column})"
    message = (
        f"{table}: {column}{source}: {_WORDS[measure.quantity]} should be {_shown(expected)} by the source, "
        f"and is {_shown(actual)} in the target{note}"
    )
    return Finding(f"aggregates.{measure.quantity}", "error", table, message, None, _shown(expected), _shown(actual))


def _shown(value: Decimal | None) -> str:
    return "none" if value is None else format(value, "f") if abs(value.adjusted()) < 40 else str(value)
