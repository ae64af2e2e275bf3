"""A report's findings and rejects as CSV, for pipes: one line each, under one header."""

import csv
import io
from typing import Any

from reports.model import Report
from reports.terminal import printable

COLUMNS = (
    "kind", "table", "level", "check", "severity", "state", "rows", "column", "where", "key", "expected", "actual", "message",
)  # fmt: skip
"""`kind` is finding or rejects. Of rejects a line is one rule, column and state of a table: `where`, `key` and `message` are
those of the first row, `check` is the rule."""


def render(report: Report) -> str:
    """The CSV (RFC 4180, lines end with LF), values as they are but for control characters, which are spelled out."""
    stream = io.StringIO()
    lines = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    lines.writeheader()
    for f in report.findings:
        lines.writerow(
            _line(
                kind="finding",
                table=f.table,
                level=f.level,
                check=f.check,
                severity=f.severity,
                key=f.key,
                expected=f.expected,
                actual=f.actual,
                message=f.message,
            )
        )
    for t in report.tables:
        for r in t.rejects:
            key = r.samples[0].key if r.samples else None
            line = _line(kind="rejects", table=t.name, check=r.rule, state=r.state, rows=r.rows, column=r.column)
            lines.writerow(line | _line(where=r.where, key=key, message=r.sample))
    return stream.getvalue()


def _line(**given: Any) -> dict[str, Any]:
    return {name: printable(value) if isinstance(value, str) else value for name, value in given.items()}
