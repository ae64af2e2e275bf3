"""Gathers a report from the ledger: where each table stands, and what a person would type next."""

import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from itertools import groupby

from mappings.dedupe import Summary
from mappings.spec import TableSpec
from migrate import crosswalk, ledger, quarantine
from migrate.personal import masked, masked_finding, masked_summary
from migrate.project import Project
from migrate.target import Connection
from reports.model import (
    Cluster,
    Duplicates,
    Found,
    OrphanCount,
    RejectCount,
    RejectSample,
    Report,
    RunReport,
    SourceReading,
    TableReport,
    Throughput,
    VerificationResult,
    of_no_end,
)

STEPS = 60
"""Into how many steps the throughput of a run is cut."""


def gather(conn: Connection, project: Project, names: Sequence[str]) -> Report:
    """The report of some tables of a migration; reads the ledger only."""
    migration = project.spec.migration
    made, used = datetime.now(UTC).isoformat(timespec="seconds"), versions(conn)
    if not ledger.exists(conn):
        return Report(migration, (), (), (), tuple(names), "migrate run", versions=used, made=made)
    states = ledger.table_states(conn, migration)
    fates = {f.name: f for f in ledger.fates(conn, migration)}
    counts = quarantine.counts(conn, migration)
    samples = quarantine.samples(conn, migration)
    verifications = ledger.verifications(conn, migration)
    merged, orphans = crosswalk.summaries(conn, migration), ledger.orphans(conn, migration)
    plans = ledger.plan_digests(conn, migration)
    tables = []
    for name in names:
        if name not in states:
            continue
        state, f = states[name], fates[name]
        readings = ledger.readings(conn, migration, name)
        spec = project.spec.tables[name]
        rejects = tuple(
            RejectCount(
                rule,
                column,
                reject_state,
                rows,
                tuple(
                    RejectSample(where(r.locator), r.key, r.value, r.reason, r.id)
                    for r in (masked(row, spec) for row in samples.get((name, rule, column, reject_state), ()))
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
                source=spec.came_from,
                duplicates=_duplicates(merged.get(name), spec),
                orphans=tuple(OrphanCount(c, policy, n) for table, c, policy, n in orphans if table == name),
                notes=(
                    *_read_in(readings),
                    *(
                        f"the foreign key {key.name} is off until the table is finalized: {definition}"
                        for key, definition in ledger.suspended(conn, migration, name)
                    ),
                ),
                digest=state.digest,
                hash=state.hash,
                plan=plans.get(name, ""),
                readings=tuple(
                    SourceReading(
                        r.source, r.view, r.note, f"{r.watermark.kind} {r.watermark.value}" if r.watermark else None
                    )
                    for r in readings
                ),
            )
        )
    runs = tuple(
        RunReport(r.epoch, r.command, r.version, r.started, r.finished, r.outcome) for r in ledger.runs(conn, migration)
    )
    findings = tuple(
        Found(**asdict(masked_finding(f, project.spec.tables[f.table])), level=level)
        for level, f in ledger.findings(conn, migration)
        if f.table in names
    )
    errors = any(f.severity == "error" and not of_no_end(f) for f in findings)
    missing = tuple(n for n in names if n not in states)
    return Report(
        migration,
        tuple(tables),
        runs,
        findings,
        missing,
        _next(tables, missing, errors),
        versions=used,
        made=made,
        throughput=_throughput(ledger.throughput(conn, migration, names, STEPS)),
    )


def _throughput(found: Sequence[tuple[int, str, float, int, float]]) -> tuple[Throughput, ...]:
    """By run, whole rows in each step: the steps add up to what was read."""
    runs = []
    for (epoch, began, step), several in groupby(found, lambda row: row[:3]):
        in_step = {n: rows for *_, n, rows in several}
        total, told, rows = 0.0, 0, []
        for n in range(STEPS):
            total += in_step.get(n, 0.0)
            rows.append(round(total) - told)
            told += rows[-1]
        runs.append(Throughput(epoch, began, step, tuple(rows)))
    return tuple(runs)


def _read_in(readings: Sequence[ledger.Reading]) -> Iterator[str]:
    """The views of each source, and the watermark of the first: whatever changed after it has to be taken from there."""
    by_source: dict[str, list[ledger.Reading]] = {}
    for each in readings:
        by_source.setdefault(each.source, []).append(each)
    for source, several in by_source.items():
        times = f", in {len(several)} runs, each at a moment of its own" if len(several) > 1 else ""
        at = several[0].watermark
        since = f"; its changes count from {at.kind} {at.value}" if at is not None else ""
        yield f"{source} was read {several[0].note}{times if several[0].view == 'live' else ''}{since}"


def _duplicates(found: Summary | None, spec: TableSpec) -> Duplicates | None:
    if found is None:
        return None
    samples = tuple(Cluster(*sample) for sample in masked_summary(found, spec).samples)
    return Duplicates(found.rows, found.clusters, found.by_rule, samples)


def versions(conn: Connection) -> tuple[tuple[str, str], ...]:
    """What took part, each with its version."""
    return (
        ("aurora-migrate", installed_version("aurora-migrate")),
        ("Python", platform.python_version()),
        ("PostgreSQL", conn.info.parameter_status("server_version") or "unknown"),
        ("DuckDB", installed_version("duckdb")),
        ("PyArrow", installed_version("pyarrow")),
    )


def where(locator: dict[str, object]) -> str:
    """file:line, as editors and terminals make it clickable; file[sheet!cell] for a row of a workbook."""
    if "sheet" in locator:
        return f"{locator['file']}[{locator['sheet']}!{locator.get('cell') or locator['cells']}]"
    if "file" in locator:
        return f"{locator['file']}:{locator.get('line', '')}" + (
            f" {locator['element']}" if "element" in locator else ""
        )
    if "table" in locator:
        return f"{locator['table']}[{locator.get('key') or 'row {}'.format(locator['row'])}]"
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
