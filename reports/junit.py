"""A report as JUnit XML: a build is red where something is not accounted for, and says what.

One test suite a table, one test case for each of its checks. What a verification found makes a case of each check that
found it; a verification that found nothing is one case of its own name.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reports.model import FATES, Found, Report, TableReport
from reports.terminal import printable

FINDINGS = 100
"""How many findings of one check are written out; the others are counted."""


@dataclass(frozen=True, slots=True)
class _Case:
    """`failed`: why, in a sentence; `skipped`: why there is no result; `said`: more of it."""

    name: str
    failed: str = ""
    skipped: str = ""
    said: str = ""
    seconds: float = 0.0


def render(report: Report) -> str:
    """The XML, as Surefire's schema has it."""
    suites = [(t.name, list(_cases(report, t))) for t in report.tables]
    suites += [(name, [_Case("complete", failed="not started")]) for name in report.not_started]
    if report.failure is not None:
        said = f"{report.failure.message}\n{report.failure.hint}".strip()
        suites.append(
            ("run", [_Case("ended", f"exit {report.failure.exit_code}: {report.failure.message}", said=said)])
        )
    every = [case for _, cases in suites for case in cases]
    top = ET.Element("testsuites", {"name": _text(report.migration), **_totals(every)})
    for name, cases in suites:
        suite = ET.SubElement(top, "testsuite", {"name": _text(name), **_totals(cases)})
        for case in cases:
            _write(suite, f"{report.migration}.{name}", case)
    ET.indent(top)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(top, encoding="unicode") + "\n"


def _cases(report: Report, t: TableReport) -> Iterator[_Case]:
    fates = " + ".join(f"{getattr(t, fate):,} {fate}" for fate in FATES)
    yield _Case(
        "complete",
        "" if t.complete else f"{t.phase}, {t.chunks_done:,} of {t.chunks:,} chunks",
        seconds=t.seconds,
    )
    yield _Case("balanced", "" if t.balanced else f"{t.read:,} read is not {fates}")
    by_level: dict[str, list[Found]] = {}
    for f in report.findings:
        if f.table == t.name:
            by_level.setdefault(f.level, []).append(f)
    current = [v.level for v in t.verifications if v.current]
    for level in dict.fromkeys((*current, *by_level)):
        yield from _found(level, by_level.get(level, []))
    for v in t.verifications:
        if not v.current:
            yield _Case(v.level, skipped="of an earlier load: verify again")
    if not t.verifications and not by_level:
        yield _Case("verified", skipped="a dry run is not verified" if report.dry_run else "not verified yet")


def _found(level: str, findings: Sequence[Found]) -> Iterator[_Case]:
    """The checks that found something; the level itself where none of it is an error."""
    by_check: dict[str, list[Found]] = {}
    for f in findings:
        if f.severity == "error":
            by_check.setdefault(f.check, []).append(f)
    for check, several in by_check.items():
        more = f"\n… and {len(several) - FINDINGS:,} more" if len(several) > FINDINGS else ""
        said = "\n".join(f.message for f in several[:FINDINGS]) + more
        first = several[0].message if len(several) == 1 else f"{len(several):,} differences"
        yield _Case(check if check.startswith(f"{level}.") else f"{level}: {check}", first, said=said)
    if not by_check:
        yield _Case(level, said="\n".join(f"{f.severity}: {f.message}" for f in findings[:FINDINGS]))


def _totals(cases: Sequence[_Case]) -> dict[str, str]:
    failures, skipped = sum(bool(c.failed) for c in cases), sum(bool(c.skipped) for c in cases)
    return {
        "tests": str(len(cases)),
        "failures": str(failures),
        "errors": "0",
        "skipped": str(skipped),
        "time": f"{sum(c.seconds for c in cases):.3f}",
    }


def _write(suite: ET.Element, of: str, case: _Case) -> None:
    given = {"name": _text(case.name), "classname": _text(of), "time": f"{case.seconds:.3f}"}
    element = ET.SubElement(suite, "testcase", given)
    if case.failed:
        failure = ET.SubElement(element, "failure", {"message": _text(case.failed), "type": _text(case.name)})
        failure.text = _text(case.said)
    elif case.skipped:
        ET.SubElement(element, "skipped", {"message": case.skipped})
    elif case.said:
        ET.SubElement(element, "system-out").text = _text(case.said)


def _text(value: str) -> str:
    """A text that XML can hold: it has no control characters."""
    return printable(value)
