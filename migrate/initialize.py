"""`migrate init`: a first project file from the files, databases and APIs it is given."""

import itertools
import json
import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast
from urllib.parse import unquote

import pyarrow as pa

from connectors.jsonfiles import arrays_in
from connectors.registry import open_source, open_url
from connectors.xmlrecords import propose
from mappings.ddl import FEWER_COLUMNS, too_wide
from mappings.scaffold import SCHEMA_FILE, Draft, scaffold, snake_case, unique
from mappings.schema import json_schema
from migrate import initrest
from migrate.command import named_on_the_command_line
from migrate.core import Attended, Doubtful, Nested, Offering, Related, Source, Table
from migrate.errors import SourceError, UsageError
from migrate.project import ESCAPES, login_ends, passwords

_SAMPLE_BYTES = 4 << 20
_SHOWN = 20  # names in a message
_SUFFIXES = {
    "files": (".csv", ".tsv", ".txt", ".dat", ".psv", ".csv.gz", ".tsv.gz", ".txt.gz"),
    "excel": (".xlsx", ".xlsm", ".xlsb", ".xls"),
    "xml": (".xml", ".xml.gz"),
    "json": (".json", ".jsonl", ".ndjson", ".json.gz", ".jsonl.gz", ".ndjson.gz"),
}
"""What the names of each kind of files end in; a file that is given by its name and ends otherwise is delimited text."""

_Sampled = tuple[str, Table, pa.RecordBatch | None]
"""A name for the target, a table of the source, and some of its rows."""

_Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Drafted:
    """A first project file: its text, its tables, what to tell, what of it was left out, and the values of the variables that it
    takes secrets from."""

    text: str = field(repr=False)
    tables: Sequence[Table]
    told: Sequence[str]
    left: Sequence[str]
    environ: Mapping[str, str] = field(repr=False)


def write(
    given: Sequence[str],
    migration: str | None,
    out: Path,
    *,
    overwrite: bool,
    select: Sequence[str] = (),
    exclude: Sequence[str] = (),
    full: bool = False,
    headers: Sequence[str] = (),
    tell: _Tell = lambda _: None,
) -> list[str]:
    """Write the project file and its schema for files, folders, databases and REST APIs; what to tell.

    `select` and `exclude` are patterns of databases' tables. `full`: look for fields in all documents of a MongoDB.
    `headers`: what is sent to the API, `Name: value`. `tell` hears how far a long look is. Raises UsageError rather than
    overwrite a file.
    """
    if out.exists() and not overwrite:
        raise UsageError(f"{out} exists already.", hint="Give another name with -o, or --yes to overwrite it.")
    base = out.resolve().parent
    made = drafted(given, migration, base, tell, select=select, exclude=exclude, full=full, headers=headers)
    schema = json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
    for path, text in ((out, made.text), (base / SCHEMA_FILE, schema)):
        with named_on_the_command_line(path):
            path.write_text(text, encoding="utf-8")
    return [
        *made.told,
        *(f"export {each}=… before the next command." for each in made.environ),
        f"Wrote {out} and {SCHEMA_FILE} (its schema, for editors): {len(made.tables)} table{'s' * (len(made.tables) != 1)}.",
        "Next: look at it, export TARGET_URL=postgresql://user@host:5432/database, then `migrate check`.",
    ]


def drafted(
    given: Sequence[str],
    migration: str | None,
    base: Path,
    tell: _Tell,
    *,
    select: Sequence[str] = (),
    exclude: Sequence[str] = (),
    full: bool = False,
    headers: Sequence[str] = (),
) -> Drafted:
    """The project file that `write` writes into the folder `base`; nothing is written."""
    apis = initrest.requests([each for each in given if initrest.is_api(each)], headers)
    urls = [each for each in given if "://" in each and not initrest.is_api(each)]
    found = list(itertools.chain.from_iterable(_expanded(Path(each)) for each in given if "://" not in each))
    named = {Path(each) for each in given if "://" not in each and not Path(each).is_dir()}
    if (select or exclude) and not urls:
        hint = "Name the files, or take a table out of the project file."
        raise UsageError("--select and --exclude choose among the tables of databases.", hint=hint)
    if not found and not urls and not apis:
        raise UsageError(
            "There are no files to read there.",
            hint=f"Files ending in {', '.join(itertools.chain(*_SUFFIXES.values()))} are looked for in a folder.",
        )
    by_kind = {kind: [path for path in found if _kind(path) == kind] for kind in _SUFFIXES}
    drafts = [draft for kind, paths in by_kind.items() if paths for draft in _DRAFTERS[kind](paths, base, tell, named)]
    names = unique([*(draft.name for draft in drafts), *map(_source_name, urls)])[len(drafts) :]
    left = [note for draft in drafts for note in draft.notes]
    told = list(left)
    environ: dict[str, str] = {}
    for draft, said, asked in (
        *(_database(url, source, base, select, exclude, full, tell) for url, source in zip(urls, names, strict=True)),
        *(_api(api, tell) for api in apis),
    ):
        drafts.append(draft)
        told += said
        environ |= asked
    tables = [table for draft in drafts for _, table, _ in draft.tables]
    notes = [_told(draft, table, note) for draft in drafts for _, table, _ in draft.tables for note in table.notes]
    wide = [f"{t.name}: {wrong}. {FEWER_COLUMNS}" for t in tables if (wrong := too_wide(len(t.schema.names)))]
    text = scaffold(migration or snake_case(base.name) or "migration", drafts)
    return Drafted(text, tables, [*notes, *wide, *told], left, environ)


def secrets(given: Sequence[str], headers: Sequence[str] = ()) -> tuple[str, ...]:
    """What no message may have: passwords in the URLs among what is given, as written and as meant, and what an API is sent."""
    asked = initrest.requests([each for each in given if initrest.is_api(each)], headers)
    return (*passwords(each for each in given if "://" in each), *initrest.secrets(asked, os.environ))


def _told(draft: Draft, table: Table, note: str) -> str:
    """A note of a file names it already."""
    return f"{table.name}: {note}" if draft.url else note


# ------------------------------------------------------------------------------------------------------------ databases


def _source_name(url: str) -> str:
    """After its database, else after the kind of it."""
    scheme, _, place = _parted(url)
    return snake_case(re.split("[?#]", place)[0].rpartition("/")[2].partition(".")[0] or scheme)


def _parted(url: str) -> tuple[str, str, str]:
    """(scheme, user, password and host, what follows them). Raises UsageError where it is not certain that these end there."""
    scheme, _, rest = url.partition("://")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if not login_ends(url):
        raise UsageError("It cannot be told where user and password of the source's URL end.", hint=ESCAPES)
    return scheme, authority, rest[len(authority) :]


def _database(
    url: str, name: str, base: Path, select: Sequence[str], exclude: Sequence[str], full: bool, tell: _Tell
) -> tuple[Draft, list[str], dict[str, str]]:
    """A database, with what to tell of it, and the variables that its URL takes secrets from."""
    scheme = url.partition("://")[0].partition("+")[0]
    source = _heard(open_url(scheme, url, {"profile": "all"} if full and scheme == "mongodb" else {}, base), tell)
    try:
        there = source.tables()
        offers = cast(Offering, source).offers() if hasattr(source, "offers") else ()
        chosen = [t for t in there if _chosen(t, select, exclude)]
        further = [t for t, what in offers if _asked(t, what, select) and not _matches(t, exclude)]
        _refuse_idle(select, [*there, *(t for t, _ in offers)], [*chosen, *further], exclude)
        if not chosen and not further:
            every = _shortened([*there, *(t for t, _ in offers)])
            raise UsageError("No table of the source is selected.", hint=f"There are: {every or 'none'}.")
        nested = cast(Nested, source) if hasattr(source, "arrays") else None
        left = len(there) - len(chosen)
        for table in list(chosen) if nested else ():
            chosen += [each for each in cast(Nested, nested).arrays(table) if not _matches(each, exclude)]
        known, unread = _known(source, [*chosen, *further], select)
        tables = [(table.name, table, None) for table in known if len(table.schema)]
        related = cast(Related, source).references if hasattr(source, "references") else lambda _: ()
        references = {table: related(table) for table, _, _ in tables}
        doubts, unseen = _doubts(source, [table for table, _, _ in tables])
        options = {"fields": _declared(nested, [table for table, _, _ in tables])} if nested else {}
    finally:
        if hasattr(source, "close"):
            source.close()
    notes = [f"{table} is left out: {why}" for table, why in unread.items()]
    notes += [f"{table.name} is left out: it has no columns" for table in known if not len(table.schema)]
    notes += _left_out(left, [offer for offer in offers if offer[0] not in further])
    written, exported = _without_secrets(url, name)
    said = [f"{table}: {column}: {doubt}" for table, found in doubts.items() for column, doubt in found.items()]
    draft = Draft(name, "", {}, tables, options, written, references, doubts, notes)
    return draft, [*said, *unseen, *notes], exported


def _known(source: Source, tables: Sequence[str], select: Sequence[str]) -> tuple[list[Table], dict[str, str]]:
    """The tables, and why some cannot be read, such as a view of what is gone: that is an error only where it is asked for."""
    known, unread = [], dict[str, str]()
    for table in tables:
        try:
            known.append(source.schema(table))
        except SourceError as error:
            if table in select:
                raise
            unread[table] = error.message
    return known, unread


def _doubts(source: Source, tables: Sequence[str]) -> tuple[dict[str, Mapping[str, str]], list[str]]:
    """What a look at the first rows finds, and which tables could not be looked at."""
    found: dict[str, Mapping[str, str]] = {}
    unseen = []
    for table in tables if hasattr(source, "doubts") else ():
        try:
            found[table] = cast(Doubtful, source).doubts(table)
        except SourceError as error:
            unseen.append(f"{table}: {error.message}" + (f" {error.hint}" if error.hint else ""))
    return found, unseen


def _declared(source: Nested, tables: Sequence[str]) -> dict[str, Any]:
    """The fields of those tables in whose documents there are any."""
    return {table: fields for table, fields in source.fields(tables).items() if fields}


def _left_out(tables: int, offers: Sequence[tuple[str, str]]) -> Iterator[str]:
    if tables:
        yield f"{tables} tables of the source are left out by --select and --exclude"
    for kind, said in (("view", "views"), ("table of another schema", "tables of other schemas")):
        names = [name for name, what in offers if what == kind]
        if names:
            yield f"{said} are left out unless -s names them: {_shortened(names)}"


def _shortened(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


def _without_secrets(url: str, name: str) -> tuple[str, dict[str, str]]:
    """The URL as it is written, its user and password taken from the environment, and the variables with their values."""
    scheme, authority, place = _parted(url)
    login, at, host = authority.rpartition("@")
    user, colon, password = login.partition(":")
    stem = re.sub(r"\W", "", name.upper(), flags=re.ASCII).strip("_")
    stem = stem if stem[:1].isalpha() else "SOURCE"
    parts = {f"{stem}_USER": unquote(user)} if user else {}
    parts |= {f"{stem}_PASSWORD": unquote(password)} if colon else {}
    login = ":".join(f"${{env:{variable}}}" for variable in parts)
    if not user and colon:
        login = ":" + login

    def taken(found: re.Match[str]) -> str:
        variable = f"{stem}_{found[2].upper()}"
        parts.setdefault(variable, found[3])
        return f"{found[1]}{found[2]}=${{env:{variable}}}"

    place = re.sub(r"([?&])(user|\w*(?:password|passphrase))=([^&#]*)", taken, place, flags=re.IGNORECASE)
    return f"{scheme}://{login}{at}{host}{place}", parts


def _matches(table: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(table, pattern) for pattern in patterns)


def _chosen(table: str, select: Sequence[str], exclude: Sequence[str]) -> bool:
    return (not select or table in select or _matches(table, select)) and not _matches(table, exclude)


def _asked(table: str, what: str, select: Sequence[str]) -> bool:
    """A view is asked for by its name; a table of another database by a pattern that says which one, too."""
    return table in select or (
        not what.startswith("view") and _matches(table, [pattern for pattern in select if "." in pattern])
    )


def _refuse_idle(select: Sequence[str], there: Sequence[str], chosen: Sequence[str], exclude: Sequence[str]) -> None:
    """A pattern that selects nothing is a slip of the pen, and a table would be missed."""
    for pattern in select:
        if (
            pattern not in chosen
            and not _matches(pattern, exclude)
            and not any(fnmatchcase(t, pattern) for t in chosen)
        ):
            near = get_close_matches(pattern, there, 3)
            hint = f"Did you mean {' or '.join(near)}?" if near else f"There are: {_shortened(there) or 'none'}."
            raise UsageError(f"No table of the source is selected by -s {pattern}.", hint=hint)


# ----------------------------------------------------------------------------------------------------------------- APIs


def _api(asked: initrest.Request, tell: _Tell) -> tuple[Draft, list[str], dict[str, str]]:
    """A REST API, as `_database` tells of one: its fields are those of the pages that were seen."""
    tables, fields, doubts = list[_Sampled](), dict[str, Any](), dict[str, Mapping[str, str]]()
    with TemporaryDirectory() as folder:
        found = initrest.look(asked, os.environ, Path(folder))
        for source in found.pages:
            own, within, doubted, declared = _documents(source, tell)
            doubts |= doubted
            fields |= declared
            tables += [(name, replace(table, notes=()), sample) for name, table, sample in (*own, *within)]
    options = {**found.options, **({"fields": fields} if fields else {})}
    draft = Draft(asked.name, "", {}, tables, options, doubts=doubts, notes=found.notes)
    return draft, [*found.notes], {each: asked.kept[each] for each in found.exported}


# ---------------------------------------------------------------------------------------------------------------- files


def _delimited(paths: Sequence[Path], base: Path, _: _Tell, _named: Collection[Path]) -> list[Draft]:
    return [_draft("files", "files", paths, {}, base)]


def _excel(paths: Sequence[Path], base: Path, _: _Tell, _named: Collection[Path]) -> list[Draft]:
    return [_draft("excel", "excel", paths, {}, base)]


def _xml(paths: Sequence[Path], base: Path, _: _Tell, _named: Collection[Path]) -> list[Draft]:
    """One source for all files with the same tables: what the first of them holds says which columns there are."""
    alike: dict[tuple[str, ...], tuple[list[Path], dict[str, Any]]] = {}
    for path in paths:
        options = propose(path)
        records = tuple(sorted(table["record"] for table in options["tables"].values()))
        alike.setdefault(records, ([], options))[0].append(path)
    return [_draft("xml", "xml", several, options, base) for several, options in alike.values()]


def _json(paths: Sequence[Path], base: Path, tell: _Tell, named: Collection[Path]) -> list[Draft]:
    """One source of all files that hold rows, and one of each file that is an object with arrays of them."""
    each = list({_relative(path, base): path for path in paths}.values())
    held = {path: arrays_in(path, _relative(path, base)) for path in each}
    drafts = [_held(path, arrays, left, base, tell) for path, (arrays, left) in held.items() if arrays]
    rows = _rows([path for path in each if not held[path][0]], base, tell, named)
    if rows.tables:
        return [*drafts, rows]
    if not drafts:
        raise SourceError("no JSON file there holds rows", hint="; ".join(rows.notes))
    # No source is left of them: what became of them is told beside another one.
    return [*drafts[:-1], replace(drafts[-1], notes=[*drafts[-1].notes, *rows.notes])]


def _held(path: Path, arrays: Sequence[str], left: Sequence[str], base: Path, tell: _Tell) -> Draft:
    """A table for each array in a file's object, called as the array is. What else stands there is told."""
    last = [array.rpartition("/")[2] for array in arrays]
    wanted = [
        name if last.count(name) == 1 else array.replace("/", "_") for name, array in zip(last, arrays, strict=True)
    ]
    names = unique(wanted) if len(set(wanted)) < len(wanted) else wanted
    shown = _relative(path, base)
    files = dict.fromkeys(names, (shown,))
    options: dict[str, Any] = {"records": dict(zip(names, arrays, strict=True))}
    own, within, doubts, fields = _documents(open_source("json", files, options, base), tell)
    missed = f"{shown}: not taken, for these are no arrays of objects, or stand deeper: {_shortened(left)}"
    return Draft(
        path.name.partition(".")[0],
        "json",
        files,
        [*own, *within],
        {**options, "fields": fields},
        doubts=doubts,
        notes=[missed] if left else [],
    )


def _rows(paths: Sequence[Path], base: Path, tell: _Tell, named: Collection[Path]) -> Draft:
    """Files each of which is a table. Others are left out, but for `named` ones, where they stood in a folder, for configuration
    is JSON too."""
    readable, notes, doubts, fields = list[Path](), list[str](), dict[str, Mapping[str, str]](), dict[str, Any]()
    outer, inner = list[_Sampled](), list[_Sampled]()
    for path in paths:
        try:
            own, within, doubted, declared = _documents(open_source("json", _files_of([path], base), {}, base), tell)
        except SourceError as error:
            if path in named:
                raise
            notes.append(f"left out: {error.message}")
            continue
        doubts |= doubted
        fields |= declared
        outer, inner, readable = [*outer, *own], [*inner, *within], [*readable, path]
    files = _files_of(readable, base)
    open_source("json", files, {}, base)  # which refuses two files that would be the same table
    ordered = {table.name: fields[table.name] for _, table, _ in (*outer, *inner) if table.name in fields}
    return Draft("json", "json", files, [*outer, *inner], {"fields": ordered}, doubts=doubts, notes=notes)


def _documents(
    source: Source, tell: _Tell
) -> tuple[list[_Sampled], list[_Sampled], dict[str, Mapping[str, str]], dict[str, Any]]:
    """The tables of documents, those of arrays in them, doubts, and fields."""
    source = _heard(source, tell)
    own = [_sampled(source, table) for table in source.tables()]
    within = [_sampled(source, each) for table in source.tables() for each in cast(Nested, source).arrays(table)]
    names = [table.name for _, table, _ in (*own, *within)]
    return own, within, _doubts(source, names)[0], _declared(cast(Nested, source), names)


_DRAFTERS: dict[str, Callable[[Sequence[Path], Path, _Tell, Collection[Path]], list[Draft]]] = {
    "files": _delimited,
    "excel": _excel,
    "xml": _xml,
    "json": _json,
}


def _draft(name: str, kind: str, paths: Sequence[Path], options: Mapping[str, Any], base: Path) -> Draft:
    files = _files_of(paths, base)
    source = open_source(kind, files, options, base)
    return Draft(name, kind, files, [_sampled(source, table) for table in source.tables()], options)


def _files_of(paths: Sequence[Path], base: Path) -> dict[str, tuple[str, ...]]:
    return {"": tuple(_relative(path, base) for path in paths)}


def _kind(path: Path) -> str:
    return next((kind for kind, suffixes in _SUFFIXES.items() if path.name.lower().endswith(suffixes)), "files")


def _expanded(path: Path) -> list[Path]:
    if path.is_dir():
        every = tuple(itertools.chain(*_SUFFIXES.values()))
        return sorted(
            p
            for p in path.iterdir()
            if p.name.lower().endswith(every) and not p.name.startswith((".", "~$")) and p.name != SCHEMA_FILE
        )
    if not path.exists():
        raise UsageError(f"{path} does not exist.")
    return [path]


def _relative(path: Path, base: Path) -> str:
    path = path.resolve()
    return str(path.relative_to(base)) if path.is_relative_to(base) else str(path)


def _heard(source: Source, tell: _Tell) -> Source:
    """The source, whose long looks are heard of."""
    if hasattr(source, "attended"):
        cast(Attended, source).attended(time.sleep, tell)
    return source


def _sampled(source: Source, name: str) -> _Sampled:
    table = source.schema(name)
    for partition in itertools.islice(source.partitions(table, rows=10_000, bytes=_SAMPLE_BYTES), 1):
        for batch in source.read(partition, table.schema.names):
            return name, table, cast(pa.RecordBatch, batch.rows)
    return name, table, None
