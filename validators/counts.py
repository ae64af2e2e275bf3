"""Counts: source, ledger and target each count for themselves, and the integrity equation stands beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from migrate.core import Finding


@dataclass(frozen=True, slots=True)
class Counts:
    """What each side says about one table.

    `source` and `ledger` are the rows that the load read, by chunk; `read` and the fates are of all entries, replays included.
    `all_new`: no row may have overwritten one that was there.
    """

    table: str
    target: str
    source: Mapping[int, int]
    ledger: Mapping[int, int]
    read: int
    loaded: int
    merged: int
    filtered: int
    rejected: int
    inserted: int
    rows_before: int
    target_rows: int
    quarantined: int
    odd_chunks: Sequence[int] = ()
    all_new: bool = False


def compare(counts: Counts) -> list[Finding]:
    """Every difference between the three, each with the chunk where it shows."""
    findings = []

    def differ(check: str, message: str, expected: object, actual: object, key: str | None = None) -> None:
        text = f"{counts.table}: {message}"
        findings.append(Finding(check, "error", counts.table, text, key, str(expected), str(actual)))

    for chunk in sorted(counts.source.keys() | counts.ledger.keys()):
        there, here = counts.source.get(chunk), counts.ledger.get(chunk)
        if there != here:
            differ(
                "counts.source",
                f"chunk {chunk} has {_n(there)} rows at the source and {_n(here)} in the ledger",
                there,
                here,
                f"chunk {chunk}",
            )
    for chunk in counts.odd_chunks:
        message = f"chunk {chunk} is planned, claimed or entered, but not all three"
        differ("counts.ledger", message, "all three", "not all", f"chunk {chunk}")
    fates = counts.loaded + counts.merged + counts.filtered + counts.rejected
    if counts.read != fates:
        differ("counts.equation", f"{counts.read} rows were read, and {fates} have a fate", counts.read, fates)
    if counts.quarantined != counts.rejected:
        differ(
            "counts.quarantine",
            f"{counts.rejected} rows were rejected, and {counts.quarantined} are in quarantine",
            counts.rejected,
            counts.quarantined,
        )
    if counts.inserted > counts.loaded or (counts.all_new and counts.inserted != counts.loaded):
        differ(
            "counts.loaded",
            f"{counts.loaded} rows were loaded by the ledger's entries, and {counts.inserted} are new in the target by them",
            counts.loaded,
            counts.inserted,
        )
    expected = counts.rows_before + counts.inserted
    if counts.target_rows != expected:
        before = f"{counts.rows_before} before and " if counts.rows_before else ""
        differ(
            "counts.target",
            f"{counts.target} holds {counts.target_rows} rows; {before}{counts.inserted} new ones make {expected}",
            expected,
            counts.target_rows,
        )
    return findings


def _n(rows: int | None) -> str:
    return "no" if rows is None else str(rows)
