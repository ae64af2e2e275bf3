"""A report as text for a terminal, or for a pipe: rich renders both."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from reports.markup import spelled
from reports.model import FATES, Report, TableReport, to_json

_BRIEF = 400  # characters
_SAMPLES = 3  # of each rule
_LOSERS = 4  # of each cluster


def printable(text: str) -> str:
    """Text from data as it may safely be shown: no control characters that would move a terminal's cursor."""
    return "".join(c if c.isprintable() or c == "\n" else spelled(c) for c in text)


def brief(text: str) -> str:
    """A message as a terminal shows it: a row without a key is named by all its columns, which may be hundreds."""
    text = printable(text)
    return text if len(text) <= _BRIEF else f"{text[:_BRIEF]}… ({len(text) - _BRIEF:,} more characters)"


def render_json(value: Report | Mapping[str, Any] | Sequence[Any]) -> str:
    return json.dumps(to_json(value) if isinstance(value, Report) else value, indent=2, ensure_ascii=False, default=str)


def render(report: Report, console: Console) -> None:
    """The sentence, the fates by table, rejects, merged rows and orphans, the verifications, the next command."""
    if report.dry_run:
        console.print(Text(" DRY RUN: nothing of this has happened ", style="bold reverse"))
    console.print(Text(brief(report.sentence), style="bold green" if report.accounted else "bold yellow"))
    if report.proof:
        console.print(Text(report.proof))
    if report.tables:
        console.print(_fates(report.tables))
    for grid in (_rejects(report.tables), _duplicates(report.tables), _orphans(report.tables)):
        if grid.row_count:
            console.print(grid)
    if report.done_before:
        console.print(brief(f"nothing to do: {', '.join(report.done_before)}"), highlight=False, markup=False)
    for note in _notes(report.tables):
        console.print(Text(brief(note), style="yellow"))
    for table in report.tables:
        for v in table.verifications:
            age = "" if v.current else " (of an earlier load: run `migrate verify` again)"
            console.print(
                f"verified {printable(table.name)} by {v.level}: {v.said}{age}", highlight=False, markup=False
            )
    for finding in report.findings[:20]:
        console.print(Text(brief(f"{finding.severity}: {finding.message}"), style="red"))
    if len(report.findings) > 20:
        console.print(f"… and {len(report.findings) - 20:,} more: migrate report --format json", markup=False)
    console.print(Text(printable(f"Next: {report.next_command}"), style="cyan"))


def _notes(tables: Sequence[TableReport]) -> list[str]:
    """What is said of tables, once where it is said of several: how a source was read is the same for most of them."""
    by_note: dict[str, list[str]] = {}
    for table in tables:
        for note in table.notes:
            by_note.setdefault(note, []).append(table.name)
    return [
        f"{names[0]}: {note}"
        if len(names) == 1
        else note
        if len(names) == len(tables)
        else f"{note} ({', '.join(names)})"
        for note, names in by_note.items()
    ]


def _fates(tables: Sequence[TableReport]) -> Table:
    grid = Table(box=None, header_style="dim", pad_edge=False)
    grid.add_column("table", no_wrap=True)
    for fate in ("read", *FATES):
        grid.add_column(fate, justify="right", no_wrap=True)
    grid.add_column("state", no_wrap=True)
    for t in tables:
        state = t.phase if t.complete else f"{t.phase} {t.chunks_done}/{t.chunks} chunks"
        numbers = [f"{getattr(t, fate):,}" for fate in ("read", *FATES)]
        grid.add_row(
            _cell(t.name), *numbers, state if t.balanced else "DOES NOT BALANCE", style=None if t.balanced else "red"
        )
    return grid


def _rejects(tables: Sequence[TableReport]) -> Table:
    grid = _grid("Rejected rows", ("table", "rows", "rule", "column", "state"))
    for t in tables:
        for r in t.rejects:
            first, *more = [_sample(s.where, s.key, s.reason) for s in r.samples[:_SAMPLES]] or [""]
            grid.add_row(*map(_cell, (t.name, f"{r.rows:,}", r.rule, r.column or "", r.state, first)))
            for sample in more:
                grid.add_row("", "", "", "", "", _cell(sample))
    return grid


def _sample(where: str, key: str | None, reason: str) -> str:
    place = f"{where} ({key})" if where and key else where or key
    return f"{place}: {reason}" if place else reason


def _duplicates(tables: Sequence[TableReport]) -> Table:
    grid = _grid("Duplicates, merged into their survivors", ("table", "rows", "survivors", "by rule"))
    for t in tables:
        if t.duplicates is None or not t.duplicates.rows:
            continue
        d = t.duplicates
        rules = ", ".join(f"{rule} {rows:,}" for rule, rows in d.by_rule)
        samples = [
            f"{c.survivor} ← {', '.join(c.losers[:_LOSERS])}"
            + (f" and {len(c.losers) - _LOSERS:,} more" if len(c.losers) > _LOSERS else "")
            for c in d.samples[:_SAMPLES]
        ] or [""]
        grid.add_row(*map(_cell, (t.name, f"{d.rows:,}", f"{d.clusters:,}", rules, samples[0])))
        for sample in samples[1:]:
            grid.add_row("", "", "", "", _cell(sample))
    return grid


def _orphans(tables: Sequence[TableReport]) -> Table:
    grid = _grid("Orphans, loaded without their parent", ("table", "rows", "column"), last="policy")
    for t in tables:
        for o in t.orphans:
            grid.add_row(*map(_cell, (t.name, f"{o.rows:,}", o.column, o.policy)))
    return grid


def _grid(title: str, names: Sequence[str], last: str = "for example") -> Table:
    grid = Table(box=None, header_style="dim", pad_edge=False, title=title, title_justify="left")
    for name in names:
        grid.add_column(name, justify="right" if name in ("rows", "survivors") else "left", no_wrap=True)
    grid.add_column(last, overflow="fold")
    return grid


def _cell(text: str) -> str:
    return escape(brief(text))


def render_rows(names: Sequence[str], rows: Iterable[Sequence[Any]], console: Console) -> None:
    """A plain table of values."""
    grid = Table(box=None, header_style="dim", pad_edge=False)
    for name in names:
        grid.add_column(name, overflow="fold")
    for row in rows:
        grid.add_row(*(escape(printable("" if v is None else f"{v:,}" if isinstance(v, int) else str(v))) for v in row))
    console.print(grid)
