"""A report as text for a terminal, or for a pipe: rich renders both."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from reports.model import Report, TableReport, to_json

_BRIEF = 400  # characters
_FATES = ("read", "loaded", "merged", "filtered", "rejected")


def printable(text: str) -> str:
    """Text from data as it may safely be shown: no control characters that would move a terminal's cursor."""
    return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" if ord(c) < 256 else "�" for c in text)


def brief(text: str) -> str:
    """A message as a terminal shows it: a row without a key is named by all its columns, which may be hundreds."""
    text = printable(text)
    return text if len(text) <= _BRIEF else f"{text[:_BRIEF]}… ({len(text) - _BRIEF:,} more characters)"


def render_json(value: Report | Mapping[str, Any] | Sequence[Any]) -> str:
    return json.dumps(to_json(value) if isinstance(value, Report) else value, indent=2, ensure_ascii=False, default=str)


def render(report: Report, console: Console) -> None:
    """The sentence, the fates by table, the rejects by rule, the verifications, the next command."""
    console.print(Text(report.sentence, style="bold green" if report.accounted else "bold yellow"))
    if report.tables:
        console.print(_fates(report.tables))
    rejects = _rejects(report.tables)
    if rejects.row_count:
        console.print(rejects)
    for table in report.tables:
        for v in table.verifications:
            result = "equal" if not v.findings else f"{v.findings:,} differences"
            age = "" if v.current else " (of an earlier load: run `migrate verify` again)"
            console.print(f"verified {table.name} by {v.level}: {result}{age}", highlight=False, markup=False)
    for finding in report.findings[:20]:
        console.print(Text(brief(f"{finding.severity}: {finding.message}"), style="red"))
    if len(report.findings) > 20:
        console.print(f"… and {len(report.findings) - 20:,} more: migrate report --format json", markup=False)
    console.print(Text(f"Next: {report.next_command}", style="cyan"))


def _fates(tables: Sequence[TableReport]) -> Table:
    grid = Table(box=None, header_style="dim", pad_edge=False)
    grid.add_column("table", no_wrap=True)
    for fate in _FATES:
        grid.add_column(fate, justify="right", no_wrap=True)
    grid.add_column("state", no_wrap=True)
    for t in tables:
        state = t.phase if t.complete else f"{t.phase} {t.chunks_done}/{t.chunks} chunks"
        numbers = [f"{getattr(t, fate):,}" for fate in _FATES]
        grid.add_row(
            escape(t.name), *numbers, state if t.balanced else "DOES NOT BALANCE", style=None if t.balanced else "red"
        )
    return grid


def _rejects(tables: Sequence[TableReport]) -> Table:
    grid = Table(box=None, header_style="dim", pad_edge=False, title="Rejected rows", title_justify="left")
    for name, justify in (
        ("table", "left"),
        ("rows", "right"),
        ("rule", "left"),
        ("column", "left"),
        ("state", "left"),
    ):
        grid.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    grid.add_column("for example", overflow="fold")
    for t in tables:
        for r in t.rejects:
            sample = printable(f"{r.where}: {r.sample}" if r.where else r.sample or "")
            grid.add_row(*map(escape, (t.name, f"{r.rows:,}", r.rule, r.column or "", r.state, sample)))
    return grid


def render_rows(names: Sequence[str], rows: Iterable[Sequence[Any]], console: Console) -> None:
    """A plain table of values."""
    grid = Table(box=None, header_style="dim", pad_edge=False)
    for name in names:
        grid.add_column(name, overflow="fold")
    for row in rows:
        grid.add_row(*(escape(printable("" if v is None else f"{v:,}" if isinstance(v, int) else str(v))) for v in row))
    console.print(grid)
