"""A report as an Excel workbook: numbers are numbers, and nothing that stands in the data is ever a formula."""

import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.styles import Alignment, Font
from openpyxl.utils import get_column_letter

from reports.model import FATES, RejectSample, Report
from reports.terminal import printable

ROWS = 1_048_575
"""How many rows a sheet holds below its head."""

LETTERS = 32_767
"""How many characters a cell holds."""

_BOLD = Font(bold=True)
_WIDEST, _TIME = 80, "yyyy-mm-dd hh:mm:ss"

Rows = Iterable[Sequence[Any]]


def render(report: Report) -> bytes:
    """The workbook: Summary, Tables, Rejects, Findings, Duplicates, Runs."""
    book = Workbook(write_only=True)
    _sheet(book, "Summary", ("What", "Value"), (30, _WIDEST), _summary(report))
    fates = ("read", *FATES)
    _sheet(
        book,
        "Tables",
        ("Table", "From", "To", "Mode", *fates, "Balanced", "State", "Chunks done", "Chunks", "Rows before", "Seconds",
         "Open rejects", "Verified", "Mapping digest", "Plan digest", "Row hash"),
        (28, 28, 28, 10, *[14] * 5, 10, 12, 12, 10, 12, 10, 13, 22, 20, 20, 20),
        (
            (t.name, t.source, t.target, t.mode, *(getattr(t, fate) for fate in fates), "yes" if t.balanced else "NO",
             t.phase, t.chunks_done, t.chunks, t.rows_before, t.seconds, t.open_rejects,
             ", ".join(f"{v.level}: {v.findings or 'equal'}" for v in t.verifications if v.current) or "not yet",
             t.digest, t.plan, t.hash)
            for t in report.tables
        ),
    )  # fmt: skip
    _sheet(
        book,
        "Rejects",
        ("Table", "Rule", "Column", "State", "Rows", "Example", "Where", "Key", "Value", "Reason", "Reject"),
        (28, 14, 20, 10, 10, 9, 40, 30, 30, _WIDEST, 10),
        _rejects(report),
    )
    _sheet(
        book,
        "Findings",
        ("Table", "Level", "Check", "Severity", "Key", "Expected", "Actual", "What was found"),
        (28, 12, 18, 10, 30, 30, 30, _WIDEST),
        ((f.table, f.level, f.check, f.severity, f.key, f.expected, f.actual, f.message) for f in report.findings),
    )
    _sheet(
        book,
        "Duplicates",
        ("Table", "Rule", "Survivor", "Merged into it"),
        (28, 28, 40, 40),
        (
            (t.name, c.rule, c.survivor, loser)
            for t in report.tables
            for c in (t.duplicates.samples if t.duplicates else ())
            for loser in c.losers
        ),
    )
    _sheet(
        book,
        "Runs",
        ("Run", "Command", "Started", "Finished", "Outcome", "Version"),
        (8, 28, 20, 20, 14, 12),
        ((r.epoch, r.command, _moment(r.started), _moment(r.finished), r.outcome, r.version) for r in report.runs),
    )
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


def _summary(report: Report) -> Iterator[Sequence[Any]]:
    yield "Migration", report.migration
    yield "Made (UTC)", _moment(report.made)
    yield "Dry run", "yes: nothing of this has happened" if report.dry_run else "no"
    yield "Accounted for", "yes" if report.accounted else "NO"
    yield "In a sentence", report.sentence
    yield "Proof", report.proof
    if report.failure:
        yield "Ended by", f"{report.failure.message} (exit {report.failure.exit_code})"
    yield from ((name, n) for name, n in report.totals.items())
    yield "Next", report.next_command
    yield from (("Not started", name) for name in report.not_started)
    yield from (("Loaded before", name) for name in report.done_before)
    yield from report.versions
    if len(report.findings) > ROWS:
        yield "Findings", f"the first {ROWS:,} of {len(report.findings):,}; --format csv has them all"


def _rejects(report: Report) -> Iterator[Sequence[Any]]:
    """The examples; their rows are counted once, beside the first, so that the column adds up."""
    for t in report.tables:
        for r in t.rejects:
            yield t.name, r.rule, r.column, r.state, r.rows, 1, *_sample(r.samples[0] if r.samples else None)
            for n, s in enumerate(r.samples[1:], 2):
                yield t.name, r.rule, r.column, r.state, None, n, *_sample(s)


def _sample(s: RejectSample | None) -> Sequence[Any]:
    return () if s is None else (s.where, s.key, s.value, s.reason, s.id)


def _sheet(book: Workbook, title: str, heads: Sequence[str], widths: Sequence[int], rows: Rows) -> None:
    """A sheet whose head stays in sight and filters; everything that lays it out has to be said before its rows."""
    sheet = book.create_sheet(title)
    sheet.freeze_panes = "A2"
    for at, width in enumerate(widths, 1):
        sheet.column_dimensions[get_column_letter(at)].width = width
    sheet.append([_cell(sheet, head, bold=True) for head in heads])
    n = 0
    for row in rows:
        if n == ROWS:
            break
        sheet.append([_cell(sheet, value) for value in row])
        n += 1
    sheet.auto_filter.ref = f"A1:{get_column_letter(len(heads))}{n + 1}"


def _cell(sheet: Any, value: Any, *, bold: bool = False) -> Any:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        cell = WriteOnlyCell(sheet, value)
        cell.number_format = (
            _TIME if isinstance(value, datetime) else "#,##0.0" if isinstance(value, float) else "#,##0"
        )
        return cell
    value = printable(value)  # XML has no control characters
    if len(value) > LETTERS:
        value = f"{value[: LETTERS - 40]}… {len(value) - LETTERS + 40:,} more characters"
    cell = WriteOnlyCell(sheet, value)
    # A text, whatever it looks like: openpyxl takes "=1+1" for a formula and "#N/A" for an error. The prefix keeps it one
    # when it is edited in Excel.
    cell.data_type = "s"
    if value[0] in "=+-@":
        cell.quotePrefix = True
    if bold:
        cell.font = _BOLD
    elif "\n" in value:
        cell.alignment = Alignment(wrap_text=True, vertical="top")
    return cell


def _moment(at: str | None) -> datetime | str | None:
    """A time as Excel has it: in UTC, without a zone."""
    try:
        return datetime.fromisoformat(at).astimezone(UTC).replace(tzinfo=None) if at else None
    except ValueError:
        return at
