"""Gathers a report from the ledger: where each table stands, and what a person would type next."""

from collections.abc import Sequence

from migrate import ledger, quarantine
from migrate.project import Project
from migrate.target import Connection
from reports.model import RejectCount, RejectSample, Report, RunReport, TableReport, VerificationResult


def gather(conn: Connection, project: Project, names: Sequence[str]) -> Report:
    """The report of some tables of a migration; reads the ledger only."""
    migration = project.spec.migration
    if not ledger.exists(conn):
        return Report(migration, (), (), (), tuple(names), "migrate run")
    states = ledger.table_states(conn, migration)
    fates = {f.name: f for f in ledger.fates(conn, migration)}
    counts = quarantine.counts(conn, migration)
    samples = quarantine.samples(conn, migration)
    verifications = ledger.verifications(conn, migration)
    tables = []
    for name in names:
        if name not in states:
            continue
        state, f = states[name], fates[name]
        personal = set(project.spec.tables[name].personal)
        rejects = tuple(
            RejectCount(
                rule,
                column,
                reject_state,
                rows,
                tuple(
                    RejectSample(
                        where(r.locator),
                        r.key,
                        "(personal)" if column in personal else r.value,
                        "(personal)" if column in personal else r.reason,
                    )
                    for r in samples.get((name, rule, column), ())
                ),
            )
            for table, rule, column, reject_state, rows in counts
            if table == name
        )
        checked = tuple(
            VerificationResult(level, at, found, current)
            for table, level, at, found, current in verifications
            if table == name
        )
        tables.append(
            TableReport(
                name,
                state.target,
                state.mode,
                state.generation,
                state.phase,
                f.chunks,
                f.chunks_done,
                f.read,
                f.loaded,
                f.merged,
                f.filtered,
                f.rejected,
                state.rows_before,
                f.seconds,
                rejects,
                checked,
            )
        )
    runs = tuple(
        RunReport(r.epoch, r.command, r.version, r.started, r.finished, r.outcome) for r in ledger.runs(conn, migration)
    )
    findings = tuple(f for f in ledger.findings(conn, migration) if f.table in names)
    errors = any(f.severity == "error" for f in findings)
    missing = tuple(n for n in names if n not in states)
    return Report(migration, tuple(tables), runs, findings, missing, _next(tables, missing, errors))


def where(locator: dict[str, object]) -> str:
    """file:line, as editors and terminals make it clickable; file[sheet!cell] for a row of a workbook."""
    if "sheet" in locator:
        return f"{locator['file']}[{locator['sheet']}!{locator.get('cell') or locator['cells']}]"
    if "file" in locator:
        return f"{locator['file']}:{locator.get('line', '')}"
    return ", ".join(f"{k}={v}" for k, v in locator.items())


def _next(tables: Sequence[TableReport], missing: Sequence[str], findings: bool) -> str:
    if missing or any(not t.complete for t in tables):
        return "migrate run"
    if findings:
        return "migrate report --format json"
    if any(not any(v.current and v.level == "rows" for v in t.verifications) for t in tables):
        return "migrate verify"
    if any(t.open_rejects for t in tables):
        return "migrate rejects list"
    return "migrate report"
