"""Layouts: the columns, rows and values that a source was expected to have beside those that it has."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from migrate.core import Finding, Severity

SAMPLES = 5
"""Values of a column that a finding shows."""


@dataclass(frozen=True, slots=True)
class Misfits:
    """The values of a column that are not what it promises: how many, and some of them as (place, value to show)."""

    column: str
    type: str
    count: int
    samples: Sequence[tuple[str, str]] = ()


def columns(
    table: str,
    expected: Sequence[str],
    found: Mapping[str, Sequence[str]],
    *,
    any_order: bool = False,
    severity: Severity = "error",
) -> list[Finding]:
    """What is wrong with the columns of each file (or other part) of a table: one finding for each that differs."""
    findings = []
    for part, names in found.items():
        faults = list(_faults(expected, names, any_order))
        if faults:
            message = f"{part}: {'; '.join(faults)}"
            finding = Finding("layout.columns", severity, table, message, part, ", ".join(expected), ", ".join(names))
            findings.append(finding)
    return findings


def _faults(expected: Sequence[str], found: Sequence[str], any_order: bool) -> Iterator[str]:
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    renamed: dict[str, str] = {}
    for name in missing:
        folded = {other.strip().casefold(): other for other in extra if other not in renamed.values()}
        exact = folded.get(name.strip().casefold())
        near = get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
        place = expected.index(name)
        there = found[place] if place < len(found) else None
        if exact is not None:
            renamed[name] = exact
            yield f'the column "{name}" is spelled "{exact}" there'
        elif near:
            renamed[name] = folded[near[0]]
            yield f'no column "{name}", but "{renamed[name]}", which is not expected: was it renamed?'
        elif there in folded.values():
            renamed[name] = str(there)
            yield f'no column "{name}", but "{there}" in its place, which is not expected'
        else:
            yield f'no column "{name}"'
    for name in extra:
        if name not in renamed.values():
            yield f'a column "{name}" that is not expected'
    if any_order:
        return
    now = [name for name in found if name in expected or name in renamed.values()]
    then = [renamed.get(name, name) for name in expected if name in found or name in renamed]
    moved = next(((a, b) for a, b in zip(then, now, strict=True) if a != b), None)
    if moved is not None:
        yield f'another order of columns: "{moved[1]}" stands where "{moved[0]}" should; they are {", ".join(found)}'


def rows(table: str, least: int, most: int | None, actual: int, *, severity: Severity = "error") -> list[Finding]:
    """Whether a table has as many rows as it should."""
    if actual >= least and (most is None or actual <= most):
        return []
    wanted = f"{least:,}" if least == most else f"at least {least:,}" if actual < least else f"at most {most:,}"
    message = f"{actual:,} row{'s' * (actual != 1)}, and {wanted} are expected"
    return [Finding("layout.rows", severity, table, message, None, wanted, str(actual))]


def values(table: str, misfits: Sequence[Misfits], *, severity: Severity = "error") -> list[Finding]:
    """A finding for each column with values that are not of its type."""
    findings = []
    for each in misfits:
        many = f"{each.count:,} values are" if each.count != 1 else "1 value is"
        shown = ", ".join(f"{place} {value}" for place, value in each.samples)
        more = ", …" if each.count > len(each.samples) else ""
        message = f"column {each.column}: {many} not {each.type}: {shown}{more}"
        findings.append(Finding("layout.values", severity, table, message, each.column, each.type, str(each.count)))
    return findings
