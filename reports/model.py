"""What a report says, as frozen data: every rendering (terminal, JSON) is made from this one model."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from migrate.core import Finding

FORMAT = 1
"""The version of the JSON form."""


@dataclass(frozen=True, slots=True)
class RejectSample:
    """One rejected row, as it may be shown: personal values are masked already."""

    where: str
    key: str | None
    value: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class RejectCount:
    """How many rows of a table one rule rejected, with some of them as samples."""

    rule: str
    column: str | None
    state: str
    rows: int
    samples: tuple[RejectSample, ...] = ()

    @property
    def sample(self) -> str | None:
        return self.samples[0].reason if self.samples else None

    @property
    def where(self) -> str | None:
        return self.samples[0].where if self.samples else None


@dataclass(frozen=True, slots=True)
class Cluster:
    """A survivor and the rows that live on in it, by their source keys (or places, for tables without a key)."""

    survivor: str
    losers: tuple[str, ...]
    rule: str


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Rows that were merged into survivors: how many, by which rule, the largest clusters as samples."""

    rows: int
    clusters: int
    by_rule: tuple[tuple[str, int], ...] = ()
    samples: tuple[Cluster, ...] = ()


@dataclass(frozen=True, slots=True)
class OrphanCount:
    """Rows whose parent does not exist and that were loaded all the same; rejected ones are among the rejects."""

    column: str
    policy: str
    rows: int


@dataclass(frozen=True, slots=True)
class VerificationResult:
    level: str
    at: str
    findings: int
    current: bool


@dataclass(frozen=True, slots=True)
class TableReport:
    """One mapped table: where it stands, the fates of its rows, and why some were rejected."""

    name: str
    target: str
    mode: str
    generation: int
    phase: str
    chunks: int
    chunks_done: int
    read: int
    loaded: int
    merged: int
    filtered: int
    rejected: int
    rows_before: int
    seconds: float
    rejects: tuple[RejectCount, ...] = ()
    verifications: tuple[VerificationResult, ...] = ()
    duplicates: Duplicates | None = None
    orphans: tuple[OrphanCount, ...] = ()
    source: str = ""
    notes: tuple[str, ...] = ()

    @property
    def balanced(self) -> bool:
        return self.read == self.loaded + self.merged + self.filtered + self.rejected

    @property
    def complete(self) -> bool:
        return self.phase == "finalized" and self.chunks == self.chunks_done

    @property
    def open_rejects(self) -> int:
        return sum(r.rows for r in self.rejects if r.state == "open")


@dataclass(frozen=True, slots=True)
class RunReport:
    epoch: int
    command: str
    version: str
    started: str
    finished: str | None
    outcome: str | None


@dataclass(frozen=True, slots=True)
class Report:
    """A whole migration. `next_command` is what a person would type next.

    `dry_run`: what is told would happen, and nothing of it has. `done_before`: tables that a dry run left out, because
    nothing is to be done with them. `versions`: (what, version) of tool, target and libraries.
    """

    migration: str
    tables: tuple[TableReport, ...]
    runs: tuple[RunReport, ...]
    findings: tuple[Finding, ...]
    not_started: tuple[str, ...]
    next_command: str
    dry_run: bool = False
    done_before: tuple[str, ...] = ()
    versions: tuple[tuple[str, str], ...] = ()
    made: str = ""

    @property
    def accounted(self) -> bool:
        """Every row of every selected table has one fate, and no verification says otherwise."""
        return (
            bool(self.tables)
            and not self.not_started
            and all(t.balanced and t.complete for t in self.tables)
            and not any(f.severity == "error" for f in self.findings)
        )

    @property
    def sentence(self) -> str:
        """The report in one sentence."""
        if not self.tables:
            return "Nothing has been loaded yet."
        total = {
            k: sum(getattr(t, k) for t in self.tables) for k in ("read", "loaded", "merged", "filtered", "rejected")
        }
        fates = (
            ", ".join(f"{total[k]:,} {k}" for k in ("loaded", "merged", "filtered", "rejected") if total[k]) or "none"
        )
        unbalanced = [t.name for t in self.tables if not t.balanced]
        if unbalanced:
            return f"The accounting of {', '.join(unbalanced)} does not balance."
        errors = sum(f.severity == "error" for f in self.findings)
        if errors:
            return f"{errors:,} differences were found between source and target."
        unfinished = [t.name for t in self.tables if not t.complete] + list(self.not_started)
        if unfinished:
            return f"Not finished: {', '.join(unfinished)}. Of {total['read']:,} rows read so far: {fates}."
        return f"All {total['read']:,} source rows are accounted for: {fates}."


def to_json(report: Report) -> dict[str, Any]:
    """The JSON form: the model's fields, dates in ISO 8601, and what it derives."""
    plain = asdict(report)
    for table, plain_table in zip(report.tables, plain["tables"], strict=True):
        plain_table |= {"balanced": table.balanced, "complete": table.complete}
    form = {"format": FORMAT, "accounted": report.accounted, "sentence": report.sentence, **plain}
    return {key: _plain(value) for key, value in form.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(v) for v in value]
    return value
