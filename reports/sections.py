"""The parts of a report's page, each a heading with its tables: fates, rejects, verification, loads and the rest."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from html import escape

from reports.markup import NOTHING, Cell, Column, Html, Row, join, number, table, tag, text, words
from reports.model import (
    COMPARING,
    FATES,
    Cluster,
    Found,
    RejectCount,
    RejectSample,
    Report,
    RunReport,
    SourceReading,
    TableReport,
    Throughput,
    VerificationResult,
    of_expectations,
    of_no_end,
)
from reports.pictures import bar, steps

FINDINGS = 500
"""How many findings the page shows; the JSON form has them all."""

SIGNS = {"loaded": "=", "merged": "+", "filtered": "+", "rejected": "+"}
"""What stands before each fate where they are written as the equation."""

_RUNS = 30
_PICTURES = 5
_LOSERS = 12


def sections(report: Report) -> Iterator[tuple[str, str, Html]]:
    """(anchor, title, content) of each section that has something to say."""
    yield "tables", "Tables", _tables(report)
    yield "rejects", "Rejected rows", _rejects(report.tables, dry_run=report.dry_run)
    yield "duplicates", "Merged rows", _duplicates(report.tables)
    yield "orphans", "Orphans", _orphans(report.tables)
    yield "verification", "Verification", _verification(report)
    yield "loads", "Loads", _loads(report.tables)
    yield "speed", "Throughput", _speed(report.throughput)
    yield "origins", "Origins", _origins(report.tables)
    yield "runs", "Runs", _runs(report.runs)


def _tables(report: Report) -> Html:
    columns = [
        Column("Table"),
        Column("Fates", sort=""),
        Column("read", numeric=True),
        *(Column(fate, numeric=True, sign=SIGNS[fate]) for fate in FATES),
        Column("State"),
        Column("Verified"),
    ]
    rows = [_fates(report, t) for t in report.tables]
    unknown = [number(None)] * 5
    for names, state, look in (
        (report.not_started, "not started", True),
        (report.done_before, "loaded before: nothing to do", False),
    ):
        rows += [
            Row([words(name), Cell(NOTHING), *unknown, words(state, "warn" if look else "muted"), Cell(NOTHING)], look)
            for name in names
        ]
    if not rows:
        return NOTHING
    totals = report.totals
    total = Row([words(f"{len(rows):,} tables"), Cell(NOTHING), *map(number, totals.values()), *[Cell(NOTHING)] * 2])
    return table("tables-title", columns, rows, total if len(rows) > 1 else None)


def _fates(report: Report, t: TableReport) -> Row:
    wrong = _wrong(report, t)
    waiting = f"{t.open_rejects:,} rejected, open" if t.open_rejects else ""
    complete = ["complete"] if t.balanced and t.complete else []
    state = join((text(part) for part in (*complete, *wrong, waiting) if part), " · ")
    counts = [number(getattr(t, fate)) for fate in ("read", *FATES)]
    style = "state warn" if wrong else "state open" if waiting else "state"
    cells = [words(t.name), Cell(_bar(t), style="picture"), *counts, Cell(state, style=style), _verified(report, t)]
    return Row(cells, bool(wrong or waiting))


def _wrong(report: Report, t: TableReport) -> list[str]:
    """Why a table's rows are not accounted for, in words."""
    found = []
    if not t.balanced:
        found.append(f"does not balance: {t.read:,} ≠ {sum(getattr(t, fate) for fate in FATES):,}")
    if not t.complete:
        found.append(f"{t.phase}, {t.chunks_done:,} of {t.chunks:,} chunks")
    theirs = [f for f in report.findings if f.severity == "error" and f.table == t.name]
    if any(map(of_no_end, theirs)):
        found.append("the last verification did not end")
    errors = [of_expectations(f) for f in theirs if not of_no_end(f)]
    if differences := errors.count(False):
        found.append(f"{differences:,} difference{'s' * (differences != 1)}")
    if unexpected := errors.count(True):
        found.append(f"{unexpected:,} unexpected")
    return found


def _verified(report: Report, t: TableReport) -> Cell:
    if report.dry_run and not t.verifications:
        return words("–", "muted")
    current = [v for v in t.verifications if v.current]
    if differences := max((v.findings for v in current if v.level in COMPARING), default=0):
        return words(f"✕ {differences:,} difference{'s' * (differences != 1)}", "warn")
    if unexpected := sum(v.findings for v in current if v.level not in COMPARING):
        return words(f"✕ {unexpected:,} unexpected", "warn")
    best = max((v.level for v in current if v.level in COMPARING), key=COMPARING.index, default=None)
    if best is None:
        return words("an earlier load" if t.verifications and not current else "not yet", "muted short")
    return words(f"✓ equal ({best})", "short")


def _bar(t: TableReport) -> Html:
    share = 1.0 if t.complete or not t.chunks else t.chunks_done / t.chunks
    return bar(f"{t.name}, {t.read:,} rows read", {fate: getattr(t, fate) for fate in FATES}, share)


def _rejects(tables: Sequence[TableReport], *, dry_run: bool) -> Html:
    columns = [
        Column("Table"),
        Column("Rule"),
        Column("Column"),
        Column("rows", numeric=True),
        Column("State"),
        Column("For example", sort=""),
    ]
    rows = [
        Row(
            [
                words(t.name),
                words(r.rule),
                words(r.column or "–"),
                number(r.rows),
                words(r.state, "open" if r.state == "open" else ""),
                Cell(_samples(r), style="long"),
            ],
            r.state == "open",
        )
        for t in tables
        for r in t.rejects
    ]
    if not rows:
        return tag("p", Html("No row was rejected."), class_="muted") if tables else NOTHING
    lead = Html(
        "All of them: <code>migrate rejects list</code>. Reject 12 whole, with its raw bytes: "
        "<code>migrate rejects show 12</code>. Once mended: <code>migrate rejects replay</code>."
    )
    if dry_run:
        lead = Html(
            "Of each kind the first few. The quarantine of a dry run is gone with it; the run itself keeps all of them."
        )
    return join([tag("p", lead, class_="lead"), table("rejects-title", columns, rows)])


def _samples(r: RejectCount) -> Html:
    if not r.samples:
        return NOTHING
    return _folded([_sample(s) for s in r.samples], "more examples")


def _folded(items: Sequence[Html], more: str) -> Html:
    """The first item, and the others to be opened."""
    rest = (
        tag("details", tag("summary", Html(escape(more))), *(tag("div", i, class_="item") for i in items[1:]))
        if items[1:]
        else NOTHING
    )
    return join([tag("div", items[0], class_="item"), rest])


def _sample(s: RejectSample) -> Html:
    parts = [tag("code", text(s.where), class_="place")] if s.where else []
    if s.key:
        parts.append(tag("span", text(s.key), class_="muted"))
    parts.append(text(s.reason))
    if s.value is not None and s.value not in s.reason:
        parts.append(tag("span", Html("value "), tag("code", text(s.value)), class_="value"))
    if s.id is not None:
        parts.append(tag("span", Html(f"reject {s.id}"), class_="reject-id"))
    return join(parts, " ")


def _duplicates(tables: Sequence[TableReport]) -> Html:
    columns = [
        Column("Table"),
        Column("rows merged", numeric=True),
        Column("survivors", numeric=True),
        Column("By rule"),
        Column("Survivor ← rows that live on in it", sort=""),
    ]
    rows = []
    for t in tables:
        d = t.duplicates
        if d is not None and d.rows:
            rules = "; ".join(f"{rule}: {n:,}" for rule, n in d.by_rule)
            samples = [_cluster(c) for c in d.samples]
            shown = _folded(samples, "more examples") if samples else NOTHING
            cells = [
                words(t.name),
                number(d.rows),
                number(d.clusters),
                words(rules or "–"),
                Cell(shown, style="long"),
            ]
            rows.append(Row(cells))
        elif t.merged:
            # Without a rule for duplicates, rows merge by the key of an upsert only.
            said = words("a later row with the same key overwrote them", "muted")
            rows.append(Row([words(t.name), number(t.merged), number(None), words("upsert"), said]))
    return table("duplicates-title", columns, rows) if rows else NOTHING


def _cluster(c: Cluster) -> Html:
    more = len(c.losers) - _LOSERS
    losers = join((tag("code", text(loser)) for loser in c.losers[:_LOSERS]), ", ")
    rest = tag("span", Html(f" and {more:,} more"), class_="muted") if more > 0 else NOTHING
    return join([tag("code", text(c.survivor), class_="place"), Html(" ← "), losers, rest, _rule(c)])


def _rule(c: Cluster) -> Html:
    return tag("span", Html(" by "), text(c.rule), class_="muted") if c.rule else NOTHING


def _orphans(tables: Sequence[TableReport]) -> Html:
    columns = [Column("Table"), Column("Column"), Column("rows", numeric=True), Column("What became of them")]
    rows = [
        Row([words(t.name), words(o.column), number(o.rows), words(o.policy)], bool(o.rows))
        for t in tables
        for o in t.orphans
    ]
    if not rows:
        return NOTHING
    lead = tag("p", Html("Rows whose parent does not exist, and that were loaded all the same."), class_="lead")
    return join([lead, table("orphans-title", columns, rows)])


def _verification(report: Report) -> Html:
    columns = [
        Column("Table"),
        Column("Level"),
        Column("Result"),
        Column("found", numeric=True),
        Column("When"),
    ]
    rows = [
        Row(
            [
                words(t.name),
                words(v.level),
                words(_result(v)),
                number(v.findings),
                Cell(utc(v.at), v.at),
            ],
            bool(v.findings) and v.current,
        )
        for t in report.tables
        for v in t.verifications
    ]
    if not report.tables or (report.dry_run and not rows and not report.findings):
        return NOTHING
    never = [t.name for t in report.tables if not t.verifications]
    parts = []
    if never and len(never) == len(report.tables):
        parts.append(tag("p", Html("No table has been verified yet."), class_="lead"))
    elif never:
        listed = join((text(name) for name in never[:20]), ", ")
        more = f" and {len(never) - 20:,} more" if len(never) > 20 else ""
        parts.append(tag("p", Html("Not verified yet: "), listed, Html(f"{more}."), class_="lead"))
    if rows:
        parts.append(table("verification-title", columns, rows))
    if report.findings:
        parts.append(_findings(report.findings))
    return join(parts, "\n")


def _result(v: VerificationResult) -> str:
    if not v.current:
        return "of an earlier load: verify again"
    if v.level in COMPARING:
        return "✕ differs" if v.findings else "✓ equal"
    return "✕ not as expected" if v.findings else "✓ as expected"


def _findings(findings: Sequence[Found]) -> Html:
    columns = [
        Column("Table"),
        Column("Level"),
        Column("Check"),
        Column("Severity"),
        Column("Key"),
        Column("Expected"),
        Column("Actual"),
        Column("What was found"),
    ]
    ordered = sorted(findings, key=lambda f: f.severity != "error")
    rows = [
        Row(
            [
                words(f.table),
                words(f.level or "–"),
                words(f.check),
                words(f.severity, "warn" if f.severity == "error" else ""),
                words(f.key or "–"),
                Cell(tag("code", text("–" if f.expected is None else f.expected))),
                Cell(tag("code", text("–" if f.actual is None else f.actual))),
                words(f.message.removeprefix(f"{f.table}: "), "long"),
            ],
            f.severity == "error",
        )
        for f in ordered[:FINDINGS]
    ]
    heading = tag("h3", Html(f"Findings ({len(findings):,})"), id="findings-title")
    more = len(findings) - FINDINGS
    rest = (
        tag("p", Html(f"… and {more:,} more: <code>migrate report --format json</code>"), class_="lead")
        if more > 0
        else NOTHING
    )
    return join([heading, table("findings-title", columns, rows), rest])


def _loads(tables: Sequence[TableReport]) -> Html:
    columns = [
        Column("Table"),
        Column("From"),
        Column("To"),
        Column("Mode"),
        Column("generation", numeric=True),
        Column("rows before", numeric=True),
        Column("chunks", numeric=True),
        Column("time", numeric=True),
        Column("rows/s", numeric=True),
    ]
    rows = []
    for t in tables:
        chunks = Cell(Html(f"{t.chunks:,}" if t.complete else f"{t.chunks_done:,} of {t.chunks:,}"), str(t.chunks))
        took = Cell(Html(escape(duration(t.seconds))), f"{t.seconds:.3f}")
        speed = number(round(t.read / t.seconds) if t.seconds > 0 else None)
        name = join([text(t.name), *(tag("div", text(note), class_="note") for note in t.notes)])
        rows.append(
            Row(
                [
                    Cell(name, t.name),
                    words(t.source or "–"),
                    words(t.target),
                    words(t.mode),
                    number(t.generation),
                    number(t.rows_before),
                    chunks,
                    took,
                    speed,
                ]
            )
        )
    if not rows:
        return NOTHING
    said = "Time runs from a table's first chunk to its last, over all runs and the pauses between them."
    return join([tag("p", Html(escape(said)), class_="lead"), table("loads-title", columns, rows)])


def _speed(throughput: Sequence[Throughput]) -> Html:
    figures = [_one_run(t) for t in throughput[:_PICTURES] if sum(t.rows)]
    if not figures:
        return NOTHING
    said = "Rows read by each run, all tables together, while it was reading; a chunk's rows are spread over its time."
    return join([tag("p", Html(escape(said)), class_="lead"), *figures])


def _one_run(t: Throughput) -> Html:
    total, seconds = sum(t.rows), t.step * len(t.rows)
    mean, most = round(total / seconds), round(max(t.rows) / t.step)
    said = f"Run {t.epoch:,}: {total:,} rows in {duration(seconds)}, {mean:,} rows/s on average, {most:,} at the most"
    began = _parsed(t.began)
    ended = NOTHING if began is None else utc((began + timedelta(seconds=seconds)).isoformat())
    picture = steps(f"Rows per second over time. {said}", t.rows)
    return tag("figure", tag("figcaption", Html(escape(said))), picture, tag("div", utc(t.began), ended, class_="ends"))


def _origins(tables: Sequence[TableReport]) -> Html:
    columns = [
        Column("Table"),
        Column("View of the source"),
        Column("Changes count from"),
        Column("Mapping digest"),
        Column("Plan digest"),
        Column("Row hash"),
    ]
    rows = [
        Row(
            [
                words(t.name),
                _lines([_view(r) for r in t.readings] or [Html("pinned by its contents")]),
                _lines([tag("code", text(r.watermark)) for r in t.readings if r.watermark] or [Html("–")]),
                *(Cell(tag("code", text(digest), class_="digest")) for digest in (t.digest or "–", t.plan or "–")),
                words(t.hash or "–"),
            ],
            any(r.view == "live" for r in t.readings),
        )
        for t in tables
    ]
    if not rows:
        return NOTHING
    said = (
        "What the loads rest on: in which view the source was read, the digest of all that decides what a row becomes, that of "
        "the slices it was read in, and the hash whose sums were kept."
    )
    return join([tag("p", Html(escape(said)), class_="lead"), table("origins-title", columns, rows)])


def _view(r: SourceReading) -> Html:
    return join([text(r.source), Html(f" <b>{escape(r.view)}</b>: "), text(r.note)])


def _lines(parts: Sequence[Html]) -> Cell:
    return Cell(join(tag("div", part) for part in parts))


def _runs(runs: Sequence[RunReport]) -> Html:
    columns = [
        Column("Run", sort="number"),
        Column("Command"),
        Column("Started"),
        Column("Took", sort="number"),
        Column("Outcome"),
        Column("Version"),
    ]
    rows = []
    for run in runs[:_RUNS]:
        wrong = run is runs[0] and run.outcome != "ok"  # what came of earlier ones is history
        outcome = run.outcome or "not known: it goes on, or was killed"
        took = _seconds_between(run.started, run.finished)
        rows.append(
            Row(
                [
                    number(run.epoch),
                    Cell(tag("code", text(run.command))),
                    Cell(utc(run.started), run.started),
                    Cell(Html(escape("–" if took is None else duration(took))), f"{took or 0:.3f}"),
                    words(outcome, "warn" if wrong else ""),
                    words(run.version),
                ],
                wrong,
            )
        )
    if not rows:
        return NOTHING
    more = len(runs) - _RUNS
    rest = (
        tag("p", Html(f"… and {more:,} earlier ones: <code>migrate report --format json</code>"))
        if more > 0
        else NOTHING
    )
    return join([table("runs-title", columns, rows), rest])


# ----------------------------------------------------------------------------------------------------------------- times


def duration(seconds: float) -> str:
    """A time span as one says it: 0.4 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60:02} min"


def _seconds_between(started: str, finished: str | None) -> float | None:
    begin, end = _parsed(started), _parsed(finished or "")
    return None if begin is None or end is None else (end - begin).total_seconds()


def utc(at: str) -> Html:
    """A time in UTC, to the second."""
    moment = _parsed(at)
    return text(at) if moment is None else tag("time", Html(f"{moment:%Y-%m-%d %H:%M:%S} UTC"), datetime=at)


def _parsed(at: str) -> datetime | None:
    try:
        return datetime.fromisoformat(at)
    except ValueError:
        return None
