"""Evidence: a folder with all that the ledger says of a migration, for those who were not there, and a manifest of it.

Neither personal values nor secrets are in it: what may be either is left out, not only what is known to be.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from migrate import ledger, manifest
from migrate.engine import Session
from migrate.errors import UsageError, redact
from migrate.personal import masked_finding
from migrate.status import gather
from reports import html
from reports.model import Report, plain, to_json

FORMAT = 1
"""The version of plan.json and receipts.jsonl."""

Redact = Callable[[str], str]


def refuse_unwritable(folder: Path) -> None:
    """Raise UsageError where something stands already: evidence is never written over."""
    if not os.path.lexists(folder):
        if not folder.parent.is_dir():
            raise UsageError(f"there is no folder {folder.parent}", hint="Make it first.")
    elif not folder.is_dir() or any(folder.iterdir()):
        what = "is not empty" if folder.is_dir() else "is no folder"
        raise UsageError(f"{folder} {what}", hint="Evidence goes into a folder of its own: name one that is not there.")


def write(work: Session, names: Sequence[str], folder: Path, key: Ed25519PrivateKey | None) -> Report:
    """Write the evidence of some tables, all as of one moment, whole or not at all; gives the report in it."""
    folder = folder.resolve()
    part = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        part.mkdir()
        with work.conn.transaction():
            work.conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            report = shown(gather(work.conn, work.project, names), work)
            clean = partial(redact, secrets=work.project.secrets)
            loaded = [t.name for t in report.tables]
            written = [
                _write(part / "report.json", [_dump(to_json(report), indent=2)]),
                _write(part / "report.html", [html.render(report)]),
                _write(part / "plan.json", [_dump(_plan(work, loaded, clean), indent=2)]),
                _write(part / "receipts.jsonl", _receipts(work, loaded)),
                _write(part / "findings.jsonl", (f"{_dump(plain(f))}\n" for f in report.findings)),
            ]
        manifest.write(part, written, work.migration, key)
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return report


def shown(report: Report, work: Session) -> Report:
    """The report as evidence shows it: stricter with what may be personal than a report is, and without any secret."""
    tables = work.project.spec.tables
    findings = tuple(masked_finding(f, tables[f.table], strictly=True) for f in report.findings)
    clean: Report = _without(partial(redact, secrets=work.project.secrets), replace(report, findings=findings))
    return clean


def _without(clean: Redact, value: Any) -> Any:
    """Frozen data with every text in it made clean."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, tuple):
        return tuple(_without(clean, v) for v in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _without(clean, getattr(value, f.name)) for f in fields(value)})
    return value


def _plan(work: Session, names: Sequence[str], clean: Redact) -> dict[str, Any]:
    """What was pinned of each table's current generation."""
    states = ledger.table_states(work.conn, work.migration)
    digests = ledger.plan_digests(work.conn, work.migration)
    return {
        "format": FORMAT,
        "migration": work.migration,
        "tables": [
            {
                "table": name,
                "source": work.project.spec.tables[name].came_from,
                **{
                    part: getattr(states[name], part)
                    for part in (
                        *("target", "mode", "generation", "phase", "ownership", "created", "rows_before", "batch_rows"),
                        *("batch_bytes", "bucket_key", "parents", "digest", "hash"),
                    )
                },
                "plan": digests.get(name, ""),
                "chunks": list(_chunks(work, name, states[name].generation, clean)),
            }
            for name in names
        ],
    }


def _chunks(work: Session, name: str, generation: int, clean: Redact) -> Iterator[dict[str, Any]]:
    """The slices. A database's are bounded by keys, which are rows' values: of these only the plan's digest is told."""
    sources = [work.project.sources[source] for source, _ in work.project.spec.tables[name].origins]
    files = all(source.url is None for source in sources)
    for p in ledger.pinned(work.conn, work.migration, name, generation):
        token = clean(p.token) if files else None
        yield {"chunk": p.ordinal, "rows": p.rows, "bytes": p.bytes, "slice": token}


def _receipts(work: Session, names: Sequence[str]) -> Iterator[str]:
    for receipt in ledger.receipts(work.conn, work.migration, names) if names else ():
        yield f"{_dump(receipt)}\n"


def _dump(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _write(file: Path, parts: Iterable[str]) -> str:
    """Write a file part by part; gives its name."""
    with file.open("wb") as out:
        for part in parts:
            out.write(
                part.encode("utf-8", "backslashreplace")
            )  # half a pair of surrogates is spelled out, as JSON does
    return file.name
