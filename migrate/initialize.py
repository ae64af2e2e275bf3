"""`migrate init`: a first project file from the files and databases it is given."""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pyarrow as pa

from connectors.registry import open_source, open_url
from connectors.xmlrecords import propose
from mappings.scaffold import SCHEMA_FILE, Draft, scaffold, snake_case
from mappings.schema import json_schema
from migrate.command import named_on_the_command_line
from migrate.core import Related, Source, Table
from migrate.errors import UsageError

_SAMPLE_BYTES = 4 << 20
_SUFFIXES = {
    "files": (".csv", ".tsv", ".txt", ".dat", ".psv", ".csv.gz", ".tsv.gz", ".txt.gz"),
    "excel": (".xlsx", ".xlsm", ".xlsb", ".xls"),
    "xml": (".xml", ".xml.gz"),
}
"""What the names of each kind of files end in; a file that is given by its name and ends otherwise is delimited text."""


def write(
    given: Sequence[str],
    migration: str | None,
    out: Path,
    *,
    overwrite: bool,
    select: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> list[str]:
    """Write the project file and its schema for files, folders and databases; what to tell.

    `select` and `exclude` are patterns of a database's tables. Raises UsageError rather than overwrite a file.
    """
    if out.exists() and not overwrite:
        raise UsageError(f"{out} exists already.", hint="Give another name with -o, or --yes to overwrite it.")
    urls = [each for each in given if "://" in each]
    found = list(itertools.chain.from_iterable(_expanded(Path(each)) for each in given if "://" not in each))
    if not found and not urls:
        raise UsageError(
            "There are no files to read there.",
            hint=f"Files ending in {', '.join(itertools.chain(*_SUFFIXES.values()))} are looked for in a folder.",
        )
    base = out.resolve().parent
    by_kind = {kind: [path for path in found if _kind(path) == kind] for kind in _SUFFIXES}
    drafts = [draft for kind, paths in by_kind.items() if paths for draft in _DRAFTERS[kind](paths, base)]
    told: list[str] = []
    for url in urls:
        draft, exported = _database(url, base, select, exclude)
        drafts.append(draft)
        told += exported
    name = migration or snake_case(base.name) or "migration"
    schema = json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
    for path, text in ((out, scaffold(name, drafts)), (base / SCHEMA_FILE, schema)):
        with named_on_the_command_line(path):
            path.write_text(text, encoding="utf-8")
    tables = [table for draft in drafts for table in draft.tables]
    return [
        *(_told(draft, table, note) for draft in drafts for _, table, _ in draft.tables for note in table.notes),
        *told,
        f"Wrote {out} and {SCHEMA_FILE} (its schema, for editors): {len(tables)} tables.",
        "Next: look at it, export TARGET_URL=postgresql://user@host:5432/database, then `migrate check`.",
    ]


def _told(draft: Draft, table: Table, note: str) -> str:
    """A note of a file names it already."""
    return f"{table.name}: {note}" if draft.url else note


def _database(url: str, base: Path, select: Sequence[str], exclude: Sequence[str]) -> tuple[Draft, list[str]]:
    """A database, with what to export for it: user and password of its URL are in no file."""
    scheme, _, rest = url.partition("://")
    login, at, place = rest.rpartition("@")
    name = snake_case(urlsplit(f"//{place}").path.rpartition("/")[2].partition(".")[0] or scheme)
    source = open_url(scheme.partition("+")[0], url, {}, base)
    try:
        chosen = [t for t in source.tables() if _chosen(t, select, exclude)]
        if not chosen:
            raise UsageError(
                "No table of the source is selected.", hint=f"There are: {', '.join(source.tables()) or 'none'}."
            )
        tables = [(table, source.schema(table), None) for table in chosen]
        related = cast(Related, source).references if hasattr(source, "references") else lambda _: ()
        references = {table: related(table) for table in chosen}
    finally:
        if hasattr(source, "close"):
            source.close()
    user, colon, _ = login.partition(":")
    names = [f"{name.upper()}_{part}" for part, there in (("USER", user), ("PASSWORD", colon)) if there]
    login = ":".join(f"${{env:{each}}}" for each in names)
    exported = [f"export {each}=… before the next command: it is not in the file." for each in names]
    return Draft(name, "", {}, tables, {}, f"{scheme}://{login}{at}{place}", references), exported


def _chosen(table: str, select: Sequence[str], exclude: Sequence[str]) -> bool:
    wanted = not select or any(fnmatchcase(table, pattern) for pattern in select)
    return wanted and not any(fnmatchcase(table, pattern) for pattern in exclude)


def _delimited(paths: Sequence[Path], base: Path) -> list[Draft]:
    return [_draft("files", "files", paths, {}, base)]


def _excel(paths: Sequence[Path], base: Path) -> list[Draft]:
    return [_draft("excel", "excel", paths, {}, base)]


def _xml(paths: Sequence[Path], base: Path) -> list[Draft]:
    """One source for all files with the same tables: what the first of them holds says which columns there are."""
    alike: dict[tuple[str, ...], tuple[list[Path], dict[str, Any]]] = {}
    for path in paths:
        options = propose(path)
        records = tuple(sorted(table["record"] for table in options["tables"].values()))
        alike.setdefault(records, ([], options))[0].append(path)
    return [_draft("xml", "xml", several, options, base) for several, options in alike.values()]


_DRAFTERS: dict[str, Callable[[Sequence[Path], Path], list[Draft]]] = {
    "files": _delimited,
    "excel": _excel,
    "xml": _xml,
}


def _draft(name: str, kind: str, paths: Sequence[Path], options: Mapping[str, Any], base: Path) -> Draft:
    files = {"": tuple(_relative(path, base) for path in paths)}
    source = open_source(kind, files, options, base)
    return Draft(name, kind, files, [_sampled(source, table) for table in source.tables()], options)


def _kind(path: Path) -> str:
    return next((kind for kind, suffixes in _SUFFIXES.items() if path.name.lower().endswith(suffixes)), "files")


def _expanded(path: Path) -> list[Path]:
    if path.is_dir():
        every = tuple(itertools.chain(*_SUFFIXES.values()))
        return sorted(
            p for p in path.iterdir() if p.name.lower().endswith(every) and not p.name.startswith((".", "~$"))
        )
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
