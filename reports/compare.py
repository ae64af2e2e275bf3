"""Two reports side by side, as of a dry run and the run itself: what became of each table's rows, and what else differs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.console import Console
from rich.text import Text

from reports.html import framed
from reports.markup import Cell, Column, Html, Row, join, number, table, tag, text, words
from reports.model import COMPARING, FATES, Report, TableReport, plain
from reports.sections import utc
from reports.terminal import printable, render_rows

FORMAT = 1
"""The version of the JSON form."""

State = Literal["same", "differs", "only in A", "only in B", "left out"]
_SIDES = ("A", "B")


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not the same in both. `fate`: it is about what became of rows."""

    what: str
    a: int | str | None
    b: int | str | None
    fate: bool = False


@dataclass(frozen=True, slots=True)
class ComparedTable:
    """`state` is about fates only; "left out": a dry run had nothing to do with it."""

    name: str
    state: State
    differences: tuple[Difference, ...] = ()


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two reports, in short."""

    migration: str
    made: str
    dry_run: bool
    sentence: str
    totals: dict[str, int]


@dataclass(frozen=True, slots=True)
class Comparison:
    """`same`: each row of each table has the same fate in both, by their numbers."""

    a: Side
    b: Side
    tables: tuple[ComparedTable, ...]

    @property
    def same(self) -> bool:
        return all(t.state in ("same", "left out") for t in self.tables)

    @property
    def sentence(self) -> str:
        wrong = [t.name for t in self.tables if t.state not in ("same", "left out")]
        if not wrong:
            return (
                f"The fates of rows are the same: {len(self.tables):,} table{'s' * (len(self.tables) != 1)} compared."
            )
        named = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5:,} more" if len(wrong) > 5 else "")
        return f"The fates of rows differ in {len(wrong):,} of {len(self.tables):,} tables: {named}."


def compare(a: Report, b: Report) -> Comparison:
    """Compare table by table, in the order of A, then what only B has."""
    in_a, in_b = ({t.name: t for t in side.tables} for side in (a, b))
    names = dict.fromkeys((*in_a, *a.not_started, *in_b, *b.not_started))
    tables = tuple(_table(name, in_a.get(name), in_b.get(name), {*a.done_before, *b.done_before}) for name in names)
    return Comparison(_side(a), _side(b), tables)


def _side(report: Report) -> Side:
    return Side(report.migration, report.made, report.dry_run, report.sentence, report.totals)


def _table(name: str, a: TableReport | None, b: TableReport | None, left_out: set[str]) -> ComparedTable:
    if a is None or b is None:
        if a is None and b is None:
            return ComparedTable(name, "same")  # loaded in neither
        return ComparedTable(name, "left out" if name in left_out else "only in A" if b is None else "only in B")
    found = tuple(d for d in _differences(a, b) if d.a != d.b)
    return ComparedTable(name, "differs" if any(d.fate for d in found) else "same", found)


def _differences(a: TableReport, b: TableReport) -> Iterator[Difference]:
    for fate in ("read", *FATES):
        yield Difference(fate, getattr(a, fate), getattr(b, fate), fate=True)
    yield Difference("complete", _complete(a), _complete(b), fate=True)
    yield from _by_kind("rejected", *({_rule(r.rule, r.column, r.state): r.rows for r in t.rejects} for t in (a, b)))
    yield from _by_kind("merged", *(dict(t.duplicates.by_rule) if t.duplicates else {} for t in (a, b)))
    yield from _by_kind("orphans", *({o.column: o.rows for o in t.orphans} for t in (a, b)))
    for level in COMPARING:
        if (in_a := _found(a, level)) is not None and (in_b := _found(b, level)) is not None:
            yield Difference(f"differences by {level}", in_a, in_b)


def _complete(t: TableReport) -> str:
    return "yes" if t.complete else f"no: {t.phase}"


def _found(t: TableReport, level: str) -> int | None:
    """How many differences a verification found; None where there was none, as in a dry run."""
    return next((v.findings for v in t.verifications if v.level == level and v.current), None)


def _rule(rule: str, column: str | None, state: str) -> str:
    return " ".join(filter(None, (rule, column, "" if state == "open" else state)))


def _by_kind(what: str, a: dict[str, int], b: dict[str, int]) -> Iterator[Difference]:
    for kind in dict.fromkeys((*a, *b)):
        yield Difference(f"{what}: {kind}", a.get(kind, 0), b.get(kind, 0))


# ---------------------------------------------------------------------------------------------------------- renderings


def to_json(comparison: Comparison) -> dict[str, Any]:
    """The JSON form."""
    derived = {"same": comparison.same, "sentence": comparison.sentence}
    return {"format": FORMAT, **derived, **plain(comparison)}


def render(comparison: Comparison, console: Console) -> None:
    """On a terminal: what the two are, then every difference by table."""
    for name, side in zip(_SIDES, (comparison.a, comparison.b), strict=True):
        console.print(Text(printable(f"{name}: {_named(side)}. {side.sentence}")))
    console.print(Text(comparison.sentence, style="bold green" if comparison.same else "bold yellow"))
    rows = [
        (t.name, d.what, d.a, d.b, _change(d)) if d else (t.name, t.state, None, None, None)
        for t in comparison.tables
        for d in _told(t)
    ]
    if rows:
        render_rows(("table", "what", "A", "B", "change"), rows, console)


def _told(t: ComparedTable) -> Sequence[Difference | None]:
    """What is said of a table: its differences, or one None for that it stands on one side only."""
    return t.differences or ((None,) if t.state != "same" else ())


def _change(d: Difference) -> str:
    return f"{d.b - d.a:+,}" if isinstance(d.a, int) and isinstance(d.b, int) else ""


def _named(side: Side) -> str:
    return f"{'dry run' if side.dry_run else 'report'} of {side.migration}, made {side.made or 'at an unknown time'}"


def render_html(comparison: Comparison) -> str:
    """The same as a page."""
    style, sign = ("good", "✓") if comparison.same else ("bad", "✕")
    verdict = "The fates are the same" if comparison.same else "The fates differ"
    head = join(
        [
            tag("p", tag("span", Html("Comparison of "), tag("b", text(comparison.a.migration))), class_="eyebrow"),
            tag("h1", Html(f'<span aria-hidden="true">{sign}</span> {verdict}'), class_=style),
            tag("p", text(comparison.sentence), class_="sentence"),
        ],
        "\n",
    )
    parts = [("sides", "A and B", _sides_table(comparison)), ("tables", "Tables", _tables(comparison))]
    return framed(f"{comparison.a.migration}: {verdict.lower()}", head, parts)


def _sides_table(comparison: Comparison) -> Html:
    columns = [Column("Report"), Column("Made"), Column("What"), Column("In a sentence", sort="")]
    columns += [Column(name, numeric=True) for name in ("read", *FATES)]
    rows = [
        Row(
            [
                words(name),
                Cell(utc(side.made), side.made),
                words("dry run" if side.dry_run else "run"),
                words(side.sentence, "long"),
                *(number(side.totals[fate]) for fate in ("read", *FATES)),
            ]
        )
        for name, side in zip(_SIDES, (comparison.a, comparison.b), strict=True)
    ]
    return table("sides-title", columns, rows)


def _tables(comparison: Comparison) -> Html:
    columns = [Column("Table"), Column("State"), Column("What"), *(Column(s, numeric=True) for s in _SIDES)]
    columns.append(Column("change", numeric=True))
    rows = [_row(t, d) for t in comparison.tables for d in _told(t)]
    equal = sum(not _told(t) for t in comparison.tables)
    said = f"{equal:,} of {len(comparison.tables):,} tables are the same in all that is compared, and are not listed."
    lead = tag("p", Html(said), class_="lead")
    return join([lead, table("tables-title", columns, rows)]) if rows else lead


def _row(t: ComparedTable, d: Difference | None) -> Row:
    wrong = t.state not in ("same", "left out")
    state = words("same fates" if t.state == "same" else t.state, "warn" if wrong else "muted")
    if d is None:
        return Row([words(t.name), state, words("–"), *[number(None)] * 3], wrong)
    change = Cell(Html(_change(d) or "–"), str(d.b - d.a) if isinstance(d.a, int) and isinstance(d.b, int) else "0")
    return Row([words(t.name), state, words(d.what), _value(d.a), _value(d.b), change], d.fate)


def _value(value: int | str | None) -> Cell:
    return words(value) if isinstance(value, str) else number(value)
