"""What a report says, as frozen data: every rendering (terminal, JSON, HTML, …) is made from this one model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from migrate.core import Finding, View

FORMAT = 1
"""The version of the JSON form."""

FATES = ("loaded", "merged", "filtered", "rejected")
"""What may become of a row that was read, in the order in which it is told."""

COMPARING = ("counts", "aggregates", "rows")
"""The levels of verification that compare both sides, the farthest-reaching last; others look at one side."""


@dataclass(frozen=True, slots=True)
class RejectSample:
    """One rejected row, as it may be shown: personal values are masked already. `id` is its number in the quarantine."""

    where: str
    key: str | None
    value: str | None
    reason: str
    id: int | None = None


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

    @property
    def said(self) -> str:
        """The result in a word or two."""
        good, bad = ("met", "unexpected") if self.level == "expectations" else ("equal", "differences")
        return f"{self.findings:,} {bad}" if self.findings else good


@dataclass(frozen=True, slots=True)
class Found(Finding):
    """A difference, and the level of the verification that found it."""

    level: str = ""


@dataclass(frozen=True, slots=True)
class SourceReading:
    """In which view a source was read that is not simply pinned; `watermark`: changes after it are not in what was read."""

    source: str
    view: View
    note: str
    watermark: str | None = None


@dataclass(frozen=True, slots=True)
class Throughput:
    """How fast one run read: `rows[i]` rows in the `i`-th `step` (in seconds) after `began`, all tables together."""

    epoch: int
    began: str
    step: float
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TableReport:
    """One mapped table: where it stands, the fates of its rows, and why some were rejected.

    `digest` is that of all that decides what a row becomes, `plan` that of the slices it is read in, `hash` the name of the
    row hash whose sums were kept.
    """

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
    digest: str = ""
    hash: str = ""
    plan: str = ""
    readings: tuple[SourceReading, ...] = ()

    @property
    def balanced(self) -> bool:
        return self.read == self.loaded + self.merged + self.filtered + self.rejected

    @property
    def complete(self) -> bool:
        return self.phase == "finalized" and self.chunks == self.chunks_done

    @property
    def open_rejects(self) -> int:
        return sum(r.rows for r in self.rejects if r.state == "open")

    @property
    def compared(self) -> bool:
        """Whether what is loaded now was compared row by row and found equal."""
        return any(v.current and v.level == "rows" and not v.findings for v in self.verifications)


@dataclass(frozen=True, slots=True)
class RunReport:
    epoch: int
    command: str
    version: str
    started: str
    finished: str | None
    outcome: str | None


@dataclass(frozen=True, slots=True)
class Failure:
    """What ended a run early, as it was said to who started it."""

    message: str
    hint: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class Report:
    """A whole migration. `next_command` is what a person would type next.

    `dry_run`: what is told would happen, and nothing of it has. `done_before`: tables that a dry run left out, because
    nothing is to be done with them. `versions`: (what, version) of tool, target and libraries. `made`: when, in UTC.
    `failure`: what ended the run that this report is made by.
    """

    migration: str
    tables: tuple[TableReport, ...]
    runs: tuple[RunReport, ...]
    findings: tuple[Found, ...]
    not_started: tuple[str, ...]
    next_command: str
    dry_run: bool = False
    done_before: tuple[str, ...] = ()
    versions: tuple[tuple[str, str], ...] = ()
    made: str = ""
    failure: Failure | None = None
    throughput: tuple[Throughput, ...] = ()

    @property
    def accounted(self) -> bool:
        """Every row of every selected table has one fate, no verification says otherwise, and no run ended early."""
        return (
            bool(self.tables or self.done_before)
            and self.failure is None
            and not self.not_started
            and all(t.balanced and t.complete for t in self.tables)
            and not any(f.severity == "error" for f in self.findings)
        )

    @property
    def totals(self) -> dict[str, int]:
        """Read and each fate, over all tables."""
        return {fate: sum(getattr(t, fate) for t in self.tables) for fate in ("read", *FATES)}

    @property
    def sentence(self) -> str:
        """The report in one sentence; a dry run's says what would be."""
        state = self._would if self.dry_run else self._state
        if self.failure is None:
            return state
        ended = "was stopped safely" if self.failure.exit_code in STOPPED else "ended early"
        return f"The {'dry ' if self.dry_run else ''}run {ended} (exit {self.failure.exit_code}). {state}"

    @property
    def proof(self) -> str:
        """What is proved beyond the accounting, or what is wanting to it; nothing where the accounting itself is wanting."""
        if self.dry_run or not self.tables or not self.accounted:
            return ""
        if open_ := [t.name for t in self.tables if not t.compared]:
            narrow = any(
                v.current and v.level in COMPARING for t in self.tables if not t.compared for v in t.verifications
            )
            last = ", or not by the last verification" if narrow else ""
            return f"Not proved yet: {_named(open_)}: not compared row by row since the load{last}."
        if moving := [t.name for t in self.tables if any(r.view == "live" for r in t.readings)]:
            return f"Equal row by row, and yet not proved: the source of {_named(moving)} moved while it was read."
        warnings = len(self.findings)  # there are no others where all is accounted for
        but = f", but for what {_counted(warnings, 'warning')} of the verification name{'s' * (warnings == 1)}"
        return f"Proved: source and target are equal row by row{but if warnings else ''}."

    @property
    def _state(self) -> str:
        if not self.tables:
            return "Nothing has been loaded yet."
        total, fates = self.totals, self._fates
        if unbalanced := self._unbalanced:
            return f"The accounting of {_named(unbalanced)} does not balance."
        if unended := [f.table for f in self.findings if of_no_end(f)]:
            return f"Not proved: the last verification of {_named(unended)} did not end."
        if errors := self._differences:
            return f"{_counted(errors, 'difference was', 'differences were')} found between source and target."
        if unexpected := self._unexpected:
            return f"The target is not as expected: {_counted(unexpected, 'finding')} of expectations and checks."
        if unfinished := self._unfinished:
            return f"Not finished: {_named(unfinished)}. Of {_counted(total['read'], 'row')} read so far: {fates}."
        are = "source row is" if total["read"] == 1 else "source rows are"
        return f"All {total['read']:,} {are} accounted for: {fates}."

    @property
    def _would(self) -> str:
        if not self.tables:
            return "Nothing would be done: every table is loaded already." if self.done_before else "Nothing was tried."
        read, fates = _counted(self.totals["read"], "source row"), self._fates
        if unbalanced := self._unbalanced:
            return f"Would not be accounted for: the accounting of {_named(unbalanced)} does not balance."
        if errors := sum(f.severity == "error" for f in self.findings):
            return f"Would leave {_counted(errors, 'difference')} between source and target."
        if unfinished := self._unfinished:
            return f"Would not finish: {_named(unfinished)}. Of {read} tried so far: {fates}."
        return f"Would account for all {read}: {fates}. Nothing has been written."

    @property
    def _differences(self) -> int:
        return sum(f.severity == "error" and not of_expectations(f) and not of_no_end(f) for f in self.findings)

    @property
    def _unexpected(self) -> int:
        return sum(f.severity == "error" and of_expectations(f) for f in self.findings)

    @property
    def _fates(self) -> str:
        total = self.totals
        return ", ".join(f"{total[fate]:,} {fate}" for fate in FATES if total[fate]) or "none"

    @property
    def _unbalanced(self) -> list[str]:
        return [t.name for t in self.tables if not t.balanced]

    @property
    def _unfinished(self) -> list[str]:
        return [t.name for t in self.tables if not t.complete] + list(self.not_started)


def of_expectations(finding: Finding) -> bool:
    """Whether a finding says that the target is not as expected, and not that it differs from the source."""
    return finding.check.startswith(("expect.", "check."))


def of_no_end(finding: Finding) -> bool:
    """Whether a finding says that the last verification of its table did not end, and not what is wrong."""
    return finding.check == "verification.unended"


STOPPED = (130, 143)
"""The exit codes of a stop that was asked for."""

_NAMED = 5


def _named(names: Sequence[str]) -> str:
    """Names for a sentence: the first few, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names) if more <= 1 else f"{', '.join(names[:_NAMED])} and {more:,} more"


def _counted(n: int, one: str, many: str = "") -> str:
    return f"{n:,} {one if n == 1 else many or one + 's'}"


DERIVED: Mapping[type, Sequence[str]] = {
    Report: ("accounted", "sentence", "proof", "totals"),
    TableReport: ("balanced", "complete"),
    RejectCount: ("sample", "where"),
}
"""What the JSON form says besides the fields of a class."""


def to_json(report: Report) -> dict[str, Any]:
    """The JSON form: the model's fields, dates in ISO 8601, and what it derives."""
    return {"format": FORMAT, **plain(report)}


def plain(value: Any) -> Any:
    """Frozen data as JSON has it: objects and arrays."""
    if is_dataclass(value) and not isinstance(value, type):
        names = (*DERIVED.get(type(value), ()), *(f.name for f in fields(value)))
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(v) for v in value]
    return value
