"""`migrate init`: a first project file from the files it is given."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pyarrow as pa

from connectors.registry import open_source
from mappings.scaffold import SCHEMA_FILE, Draft, scaffold, snake_case
from mappings.schema import json_schema
from migrate.core import Source, Table
from migrate.errors import UsageError

_SAMPLE_BYTES = 4 << 20
_SUFFIXES = {
    "files": (".csv", ".tsv", ".txt", ".dat", ".psv", ".csv.gz", ".tsv.gz", ".txt.gz"),
    "excel": (".xlsx", ".xlsm", ".xlsb", ".xls"),
}
"""The kind of source by how a file's name ends; a file that was named and ends otherwise is taken for delimited text."""


def write(files: Sequence[Path], migration: str | None, out: Path, *, overwrite: bool) -> list[str]:
    """Write the project file and its schema; what to tell. Raises UsageError rather than overwrite a file."""
    if out.exists() and not overwrite:
        raise UsageError(f"{out} exists already.", hint="Give another name with -o, or --yes to overwrite it.")
    found = list(itertools.chain.from_iterable(_expanded(path) for path in files))
    if not found:
        endings = ", ".join(itertools.chain.from_iterable(_SUFFIXES.values()))
        raise UsageError(
            "There are no files to read there.", hint=f"Files ending in {endings} are looked for in a folder."
        )
    base = out.resolve().parent
    by_kind: dict[str, list[str]] = {}
    for path in found:
        by_kind.setdefault(_kind(path) or "files", []).append(_relative(path, base))
    drafts = [_draft(kind, globs, base) for kind, globs in by_kind.items()]
    tables = [table for draft in drafts for table in draft.tables]
    name = migration or snake_case(base.name) or "migration"
    out.write_text(scaffold(name, drafts), encoding="utf-8")
    (base / SCHEMA_FILE).write_text(json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    told = [note for _, table, _ in tables for note in table.notes]
    return [
        *told,
        f"Wrote {out} and {SCHEMA_FILE} (its schema, for editors): {len(tables)} tables.",
        "Next: look at it, export TARGET_URL=postgresql://user@host:5432/database, then `migrate check`.",
    ]


def _kind(path: Path) -> str | None:
    return next((kind for kind, suffixes in _SUFFIXES.items() if path.name.lower().endswith(suffixes)), None)


def _expanded(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(p for p in path.iterdir() if _kind(p) and not p.name.startswith((".", "~$")))
    if not path.exists():
        raise UsageError(f"{path} does not exist.")
    return [path]


def _draft(kind: str, globs: Sequence[str], base: Path) -> Draft:
    """The source of one kind that these files make, with a sample of each table."""
    files = {"": tuple(globs)}
    source = open_source(kind, files, {}, base)
    return Draft(kind, [_sampled(source, name) for name in source.tables()], files, kind)


def _relative(path: Path, base: Path) -> str:
    path = path.resolve()
    return str(path.relative_to(base)) if path.is_relative_to(base) else str(path)


def _sampled(source: Source, name: str) -> tuple[str, Table, pa.RecordBatch | None]:
    table = source.schema(name)
    for partition in itertools.islice(source.partitions(table, rows=10_000, bytes=_SAMPLE_BYTES), 1):
        for batch in source.read(partition, table.schema.names):
            return name, table, cast(pa.RecordBatch, batch.rows)
    return name, table, None
