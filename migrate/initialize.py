"""`migrate init`: a first project file from the files it is given."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pyarrow as pa

from connectors.registry import open_source
from mappings.scaffold import SCHEMA_FILE, scaffold, snake_case
from mappings.schema import json_schema
from migrate.core import Source, Table
from migrate.errors import UsageError

_SAMPLE_BYTES = 4 << 20
_SUFFIXES = (".csv", ".tsv", ".txt", ".dat", ".psv", ".csv.gz", ".tsv.gz", ".txt.gz")


def write(files: Sequence[Path], migration: str | None, out: Path, *, overwrite: bool) -> list[str]:
    """Write the project file and its schema; what to tell. Raises UsageError rather than overwrite a file."""
    if out.exists() and not overwrite:
        raise UsageError(f"{out} exists already.", hint="Give another name with -o, or --yes to overwrite it.")
    found = list(itertools.chain.from_iterable(_expanded(path) for path in files))
    if not found:
        raise UsageError(
            "There are no delimited files there.",
            hint=f"Files ending in {', '.join(_SUFFIXES)} are looked for in a folder.",
        )
    base = out.resolve().parent
    globs = tuple(_relative(path, base) for path in found)
    source = open_source("files", {"": globs}, {}, base)
    tables = [_sampled(source, name) for name in source.tables()]
    name = migration or snake_case(base.name) or "migration"
    out.write_text(scaffold(name, tables, "files", {"": globs}), encoding="utf-8")
    (base / SCHEMA_FILE).write_text(json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    told = [note for _, table, _ in tables for note in table.notes]
    return [
        *told,
        f"Wrote {out} and {SCHEMA_FILE} (its schema, for editors): {len(tables)} tables.",
        "Next: look at it, export TARGET_URL=postgresql://user@host:5432/database, then `migrate check`.",
    ]


def _expanded(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(p for p in path.iterdir() if p.name.lower().endswith(_SUFFIXES))
    if not path.exists():
        raise UsageError(f"{path} does not exist.")
    return [path]


def _relative(path: Path, base: Path) -> str:
    path = path.resolve()
    return str(path.relative_to(base)) if path.is_relative_to(base) else str(path)


def _sampled(source: Source, name: str) -> tuple[str, Table, pa.RecordBatch | None]:
    table = source.schema(name)
    for partition in itertools.islice(source.partitions(table, rows=10_000, bytes=_SAMPLE_BYTES), 1):
        for batch in source.read(partition, table.schema.names):
            return name, table, cast(pa.RecordBatch, batch.rows)
    return name, table, None
