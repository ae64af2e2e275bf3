"""Aggregates: what source and target each compute of a column by their own engine, and which of them must be equal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from migrate.core import Finding, Kind, Measure, Quantity, difference, rank

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

INFINITE = "1e30"
"""What stands for an infinite day or moment in the target: more than all finite ones of a table add up to."""

_FAR = Decimal(INFINITE) / 2

_WORDS: Mapping[Quantity, str] = {
    "values": "values that are not NULL",
    "sum": "the sum",
    "least": "the least value",
    "most": "the greatest value",
    "length": "the sum of lengths",
    "digest": "the sum of digests",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What both sides say of a quantity. `columns` are those of the target that it is of: several of a digest of texts together.

    `without` is the quantity of the rows that were not loaded; None where all were.
    """

    columns: tuple[str, ...]
    measure: Measure
    source: Decimal | None
    without: Decimal | None
    target: Decimal | None

    @property
    def expected(self) -> Decimal | None:
        """What the target should say. Least and greatest values of all rows only bound those of the loaded ones."""
        if self.measure.quantity in ("least", "most"):
            return self.source
        return difference(self.source or Decimal(0), self.without or Decimal(0))

    @property
    def differs(self) -> bool:
        quantity = self.measure.quantity
        if quantity in ("least", "most"):
            return _beyond(quantity, self.source, self.target, sure=self.without is None)
        return self.expected != (self.target or Decimal(0))


def compare(table: str, answers: Sequence[Answer], note: str = "") -> list[Finding]:
    """A finding for each column in which the sides differ; and one for texts that differ together, where none does alone."""
    differences: dict[tuple[str, ...], list[Answer]] = {}
    for answer in answers:
        if answer.differs:
            differences.setdefault(answer.columns, []).append(answer)
    alone = {a.columns[0] for a in answers if a.differs and a.measure.quantity == "digest" and not a.measure.beside}
    return [
        _mixed(table, found[0], note) if found[0].measure.beside else _finding(table, columns[0], found, note)
        for columns, found in differences.items()
        if not found[0].measure.beside or alone.isdisjoint(columns)
    ]


def _beyond(quantity: Quantity, whole: Decimal | None, here: Decimal | None, *, sure: bool) -> bool:
    if sure or whole is None or here is None:
        return sure and (whole is None or here is None or rank(whole) != rank(here)) and whole is not here
    return rank(here) < rank(whole) if quantity == "least" else rank(here) > rank(whole)


def _mixed(table: str, answer: Answer, note: str) -> Finding:
    """Of texts whose digests are equal column by column, and not row by row."""
    expected, actual = _plain(answer, answer.expected), _plain(answer, answer.target)
    message = (
        f"{table}: {', '.join(answer.columns)}: each column holds the source's texts, but not in the same rows: the sum of "
        f"digests of their rows should be {expected} by the source, and is {actual} in the target{note}"
    )
    return Finding("aggregates.digest", "error", table, message, None, expected, actual)


def _finding(table: str, column: str, found: Sequence[Answer], note: str) -> Finding:
    measure = found[0].measure
    expected, actual = _plain(found[0], found[0].expected), _plain(found[0], found[0].target)
    source = "" if measure.column == column else f" (the source's {measure.column})"
    more = ", ".join(_WORDS[answer.measure.quantity] for answer in found[1:])
    message = (
        f"{table}: {column}{source}: {_WORDS[measure.quantity]} should be {expected} by the source, "
        f"and is {actual} in the target{f'; so differs {more}' if more else ''}{note}"
    )
    return Finding(f"aggregates.{measure.quantity}", "error", table, message, None, expected, actual)


def _plain(answer: Answer, value: Decimal | None) -> str:
    if value is None:
        return "none"
    if answer.measure.kind in ("day", "moment") and abs(value) > _FAR:
        return "infinity" if value > 0 else "-infinity"
    return format(value, "f") if abs(value.adjusted()) < 40 else str(value)
