"""`migrate assess`: what sources hold, what their columns are like, and what their migration asks of people. Writes nothing."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain
from math import ceil
from typing import cast

import pyarrow as pa

from mappings.ddl import FEWER_COLUMNS, too_wide
from mappings.scaffold import looks_like
from mappings.spec import TableSpec
from mappings.typemap import inferred
from migrate.core import (
    Batch,
    Estimated,
    Event,
    Nested,
    Notice,
    Offering,
    Partition,
    Preflight,
    Reject,
    Related,
    Source,
    Table,
    Viewed,
    Watermark,
    Watermarked,
    suggested,
)
from migrate.errors import MigrateError, SourceError, Stopped, UsageError
from migrate.governor import Governor
from migrate.personal import made_from
from migrate.profile import Held, profile
from migrate.project import Project, open_source
from reports.assessment import Assessment, ColumnProfile, SourceProfile, State, TableProfile, Task, hinted, share

MINUTES = {
    "table": (10, "each table: its mapping is looked at; and half a minute for each of its columns"),
    "unreadable": (120, "the table cannot be read: it is missing, broken, or not granted"),
    "wide": (240, "it has more columns than PostgreSQL takes"),
    "refused": (60, "a column that cannot be read as it is"),
    "error": (60, "the source says that something keeps the table from being read"),
    "key": (30, "no key at the source, and none in the project file"),
    "reference": (20, "a reference to a table that is not among those looked at"),
    "doubt": (
        15,
        "the source says something that a person must decide: mixed kinds of values, impossible dates, encodings",
    ),
    "rejects": (15, "rows that cannot be read as their columns are declared"),
    "nul": (15, "texts with NUL characters, which PostgreSQL does not take"),
    "warning": (15, "what `check` warns of: files without rows, paths that match nothing"),
    "large": (15, "single values of a megabyte and more"),
    "guess": (
        10,
        "a type, a format or a key was guessed, and not all of the sample fits or the guess is not the only one",
    ),
    "json": (10, "a field of documents that stays JSON"),
    "unmapped": (10, "no table of the project is made from it"),
}
"""About how many minutes each thing takes a person, and what it is."""

_WORK = {"unreadable", "wide", "refused", "error"}
_LOOKED = 10_000  # rows that are looked at, unless all are
_SAMPLE_BYTES = 4 << 20
_SLICE_ROWS, _SLICE_BYTES = 200_000, 8 << 20
_LARGE = 1 << 20  # characters or bytes of one value
_BATCH = 2_000  # rows of which guesses are made
_NO_VALUES, _NUMBERS = {"null", "undefined", "missing"}, {"int", "long", "double", "decimal", "number"}
_SURELY = 0.9  # an estimate of different values errs by a few in a hundred
_LISTED = 10  # names in a message
_FEW = 2  # rows of which nothing can be said
_AT_ONCE = 100  # columns that all rows are read for together: each takes some megabytes
_READABLE = 60  # characters of a position

Watch = Callable[[Event], None]


def assess(
    project: Project, tables: Sequence[str] | None, governor: Governor, watch: Watch, *, full: bool, given: bool = False
) -> tuple[Assessment, list[MigrateError]]:
    """Look at the project's sources, all of them or those of some of its tables; with what could not be looked at.

    `full`: at every row. `given`: the project was drafted from its sources, so that what it leaves out is nobody's slip.
    """
    specs = [project.spec.tables[name] for name in (project.spec.tables if tables is None else tables)]
    mapped: dict[str, dict[str, list[TableSpec]]] = {}
    for spec in specs:
        for whence, table in spec.origins:
            mapped.setdefault(whence, {}).setdefault(table, []).append(spec)
    names = list(project.sources) if tables is None else list(mapped)
    found, failures = [], list[MigrateError]()
    for name in names:
        look = _Look(name, mapped.get(name, {}), _personal(project, name), watch, full, tables is None, given)
        try:
            with _opened(project, name, governor, full=full) as source:
                found.append(look.source(source))
        except Stopped:
            raise
        except MigrateError as error:
            failures.append(error)
            found.append(SourceProfile(name, failure=_said(error)))
    following = "migrate init, with the same sources" if given else "migrate check"
    made = datetime.now(UTC).isoformat(timespec="seconds")
    return Assessment(made, full, tuple(found), following), failures


@contextmanager
def _opened(project: Project, name: str, governor: Governor, *, full: bool) -> Iterator[Source]:
    spec = project.sources[name]
    if full and spec.url is not None and spec.url.startswith("mongodb"):
        # Its fields are looked for in all documents, too.
        options = {**spec.options, "profile": "all"}
        project = replace(project, sources={**project.sources, name: replace(spec, options=options)})
    source = governor.governed(name, open_source(project, name))
    try:
        yield source
    finally:
        if hasattr(source, "close"):
            source.close()


def _said(error: MigrateError) -> str:
    return hinted(error.message, error.hint)


def _personal(project: Project, source: str) -> dict[str, frozenset[str]]:
    """Of each table of a source, whatever tables are selected."""
    found: dict[str, frozenset[str]] = {}
    for spec in project.spec.tables.values():
        for table in (table for name, table in spec.origins if name == source):
            found[table] = found.get(table, frozenset()) | made_from(spec)
    return found


def _around(source: Source, table: str) -> str:
    """The table that the array stands in whose elements a table's rows are; "" where they are none."""
    return table.rpartition("/")[0] if hasattr(source, "arrays") else ""


def _short(mark: Watermark) -> str:
    """A position as people read it: a token of a hundred characters tells them nothing."""
    return f"{mark.kind} {mark.value}" if len(mark.value) <= _READABLE else f"its {mark.kind}"


@dataclass(frozen=True, slots=True)
class _Look:
    """How one source is looked at. `mapped`: by its tables, those of the project that are made from them; `personal`: columns of
    its tables, in small letters, that personal ones are made of."""

    name: str
    mapped: Mapping[str, Sequence[TableSpec]]
    personal: Mapping[str, frozenset[str]]
    watch: Watch
    full: bool
    every: bool
    given: bool

    def source(self, source: Source) -> SourceProfile:
        names = self._tables(source)
        notices = list(cast(Preflight, source).preflight(names)) if hasattr(source, "preflight") else []
        of_tables = {name: [n for n in notices if n.what == name and n.level != "ok"] for name in names}
        tables = [self._table(source, name, names, of_tables[name]) for name in names]
        view = cast(Viewed, source).view()[1] if hasattr(source, "view") else ""
        mark = cast(Watermarked, source).watermark() if hasattr(source, "watermark") else None
        further: dict[str, list[str]] = {}
        for name, what in cast(Offering, source).offers() if self.every and hasattr(source, "offers") else ():
            if name not in names:
                further.setdefault(f"{what}s", []).append(name)
        return SourceProfile(
            self.name,
            view,
            f"changes could be followed from {_short(mark)}" if mark else "",
            tuple(n for n in notices if n.what not in of_tables),
            tuple(tables),
            further,
        )

    def _tables(self, source: Source) -> list[str]:
        """What is looked at: all that there is, or what the project's tables are made from."""
        names = dict.fromkeys(source.tables()) if self.every else {}
        if self.every and hasattr(source, "arrays"):
            for name in list(names):
                try:
                    names |= dict.fromkeys(cast(Nested, source).arrays(name))
                except SourceError:  # the table itself tells of it
                    continue
        return list(names | dict.fromkeys(self.mapped))

    def _table(self, source: Source, name: str, names: Sequence[str], notices: Sequence[Notice]) -> TableProfile:
        specs = self.mapped.get(name, ())
        mapped = tuple(spec.name for spec in specs)
        try:
            table = source.schema(name)
            read = _Read(source, table, self.full, self.watch)
            held = read.held()
        except (SourceError, UsageError) as error:
            task = _task("unreadable", f"cannot be read: {_said(error)}")
            return _concluded(TableProfile(name, None, False, None, (), (), (), 0, 0, mapped, (task,)))
        fields = cast(Nested, source).kinds(name) if hasattr(source, "kinds") else {}
        guesses = looks_like(table, read.sample) if read.sample is not None else {}
        hidden = self._hidden(source, name)
        columns = [
            replace(_column(f, h, guesses, hidden), kinds=fields.get(f.name, {}))
            for f, h in zip(read.fields, held, strict=True)
        ]
        references = cast(Related, source).references(name) if hasattr(source, "references") else ()
        around = _around(source, name)
        refers = dict.fromkeys([*([around] if around else []), *(r.table for r in references)])
        tasks = [
            *_of_table(table),
            *self._of_key(table, read, columns, [spec.key for spec in specs]),
            *(_of_notice(table, notice) for notice in notices),
            *_of_columns(table, read, held, guesses),
        ]
        tasks += _of_kinds(columns, {each.column for each in tasks})
        tasks += _of_fields(fields, [column.name for column in columns])
        tasks += _of_json(table, read, {*names, *(f"{name}/{each.column}" for each in tasks)})
        left = [each for each in refers if each not in names]
        tasks += [_task("reference", f"refers to {each}, which is not among the tables") for each in left]
        if not specs and not self.given:
            tasks.append(_task("unmapped", "no table of the project is made from it: is it meant to be left behind?"))
        return _concluded(
            TableProfile(
                name,
                read.rows,
                read.whole,
                read.bytes,
                tuple(columns),
                table.key,
                tuple(refers),
                read.looked,
                sum(read.rejected.values()),
                mapped,
                tuple(tasks),
                table.notes,
                fields,
            )
        )

    def _hidden(self, source: Source, table: str) -> frozenset[str]:
        """The columns whose values are not shown; elements have those of what they are in, too."""
        around = _around(source, table)
        above = {f"_parent.{column}" for column in self._hidden(source, around)} if around else set()
        return self.personal.get(table, frozenset()) | above

    def _of_key(
        self, table: Table, read: "_Read", columns: Sequence[ColumnProfile], said: Sequence[Sequence[str]]
    ) -> Iterator[Task]:
        """Where the source has no key, and the project says none or has guessed it."""
        if table.key or not read.looked:
            return
        if not all(said or [()]):
            yield _task("key", f"no key at the source: {_unique(read, columns)}")
        elif self.given and not _around(read.source, table.name):  # of elements it is their parent's, and their place
            yield _guessed_key(read, columns, said[0])


def _guessed_key(read: "_Read", columns: Sequence[ColumnProfile], key: Sequence[str]) -> Task:
    """What `init` takes from a sample is looked at in all rows that were read; of all rows different values are estimated."""
    rows = read.looked - sum(read.rejected.values())
    least = _SURELY * rows if read.full else rows
    twice = [c for c in columns if [c.name] == list(key) and c.distinct is not None and c.distinct < least]
    said = f"no key at the source: `migrate init` takes {', '.join(key)}, unique in its sample"
    about = [c for c in columns if [c.name] == list(key)] if read.full else []
    found = [
        f"of {rows:,} rows looked at it has {'about ' * read.full}{c.distinct:,} different values"
        for c in twice or about
    ]
    return _task("key" if twice else "guess", f"{said}, {'but ' if twice else ''}{found[0]}" if found else said)


def _concluded(table: TableProfile) -> TableProfile:
    kinds = {task.kind for task in table.tasks}
    state: State = "work" if kinds & _WORK else "decisions" if kinds else "as it is"
    minutes = MINUTES["table"][0] + ceil(len(table.columns) / 2) + sum(task.minutes for task in table.tasks)
    return replace(table, minutes=minutes, state=state)


def _task(kind: str, said: str, column: str | None = None) -> Task:
    return Task(kind, said, MINUTES[kind][0], column)


# ----------------------------------------------------------------------------------------------------------- the rows


@dataclass
class _Read:
    """The rows of a table that are looked at, and what reading them told. `rows` and `bytes`: of the whole table, if known."""

    source: Source
    table: Table
    full: bool
    watch: Watch
    rows: int | None = None
    bytes: int | None = None
    looked: int = 0
    rejected: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    sample: pa.RecordBatch | None = None
    whole: bool = True  # all rows were looked at

    @property
    def fields(self) -> list[pa.Field]:
        return [f for f in self.table.schema if f.name not in self.table.refused]

    def held(self) -> list[Held]:
        """Each column that can be read; of all rows so many in one pass that the memory is bounded."""
        self._estimate()
        most = _AT_ONCE if self.full else len(self.fields)
        found: list[Held] = []
        for first in range(0, len(self.fields), max(1, most)):
            self.looked, self.rejected, self.sample = 0, Counter(), None if not first else self.sample
            fields = self.fields[first : first + most]
            names = [f.name for f in (self.fields if not first else fields)]
            rows = chain.from_iterable(self._batches(part, names) for part in self._slices())
            found += profile(
                pa.schema(fields), (batch.select([f.name for f in fields]) for batch in rows), exact=not self.full
            )
        if not self.fields:
            self.whole = False  # nothing is read
        if self.whole:
            self.rows = self.looked
        return found

    def _estimate(self) -> None:
        """What is in arrays has no number and no bytes of its own."""
        if hasattr(self.source, "estimate") and not _around(self.source, self.table.name):
            rows, size = cast(Estimated, self.source).estimate([self.table.name])
            self.rows, self.bytes = rows or None, size or None

    def _slices(self) -> Iterator[Partition]:
        """Those that are read. Of a source that does not know how much it holds, the others are counted."""
        estimated = hasattr(self.source, "estimate")
        if self.full:
            parts = self.source.partitions(self.table, rows=_SLICE_ROWS, bytes=_SLICE_BYTES)
        else:
            parts = self.source.partitions(self.table, rows=_LOOKED, bytes=_SAMPLE_BYTES)
        rows = size = 0
        for part in parts:
            rows, size = rows + part.rows, size + part.bytes
            if self.full or self.looked < _LOOKED:
                yield part
                continue
            self.whole = False
            if estimated:
                return
            self._tell(rows)
        if not estimated and not _around(self.source, self.table.name):
            self.rows, self.bytes = rows, size

    def _batches(self, part: Partition, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows of a slice; of one that is a whole large table only the first."""
        with closing(cast(Generator[Batch], self.source.read(part, names))) as batches:
            for batch in batches:
                if not self.full and self.looked >= _LOOKED:
                    self.whole = False
                    return
                self.looked += batch.rows.num_rows + len(batch.rejects)
                self.rejected.update(map(_what, batch.rejects))
                better = self.sample is None or self.sample.num_rows < min(_BATCH, batch.rows.num_rows)
                if batch.rows.num_rows and better and len(names) == len(self.fields):
                    self.sample = batch.rows
                self._tell(self.looked)
                yield batch.rows

    def _tell(self, rows: int) -> None:
        self.watch(
            Event("verifying", self.table.name, state="looking", rows=max(rows + 1, self.rows or 0), rows_done=rows)
        )


def _what(reject: Reject) -> tuple[str, str | None]:
    return reject.rule, reject.column


# ---------------------------------------------------------------------------------------------------------- the columns


def _column(
    field_: pa.Field, held: Held, guesses: Mapping[str, tuple[str, str]], hidden: frozenset[str]
) -> ColumnProfile:
    """A column with the type that it would have in PostgreSQL; no value of one that is personal is shown."""
    type_ = suggested(field_) or guesses.get(field_.name, ("", ""))[0] or inferred(held.profile.type) or "text"
    found = replace(held.profile, type=type_)
    return replace(found, least=None, most=None) if field_.name.casefold() in hidden else found


def _of_table(table: Table) -> Iterator[Task]:
    if wrong := too_wide(len(table.schema)):
        yield _task("wide", f"{wrong}. {FEWER_COLUMNS}")
    for column, why in table.refused.items():
        yield _task("refused", f"cannot be read: {why}", column)
    for warning in table.warnings:
        yield _task("warning", warning)


def _unique(read: _Read, columns: Sequence[ColumnProfile]) -> str:
    """Which columns could identify a row."""
    rows = read.looked - sum(read.rejected.values())
    least = _SURELY * rows if read.full else rows
    if rows < _FEW:
        return "too few rows to tell what identifies one; without one a table can only be appended to"
    found = [c.name for c in columns if c.filled == rows and not c.blank and (c.distinct or 0) >= least]
    if not found:
        return "no single column that was looked at is unique; without one a table can only be appended to"
    seems = "seems to be" if read.full else "is, in the rows looked at,"
    return f"{', '.join(found[:5])} {seems} unique"


def _of_notice(table: Table, notice: Notice) -> Task:
    """What the source says of a table; of a column where it begins with its name."""
    column, colon, rest = notice.said.partition(": ")
    known = bool(colon) and column in table.schema.names
    if known:
        return _task("error" if notice.level == "error" else "doubt", rest, column)
    return _task("error" if notice.level == "error" else "doubt", hinted(notice.said, notice.hint))


def _of_columns(
    table: Table, read: _Read, held: Sequence[Held], guesses: Mapping[str, tuple[str, str]]
) -> Iterator[Task]:
    for (rule, column), count in read.rejected.items():
        said = f"{count:,} of {read.looked:,} rows looked at cannot be read, by the rule {rule}: they would be rejected"
        yield _task("rejects", said, column)
    for each in held:
        name = each.profile.name
        if each.nuls:
            said = f"{each.nuls:,} values hold a NUL character, which PostgreSQL does not take: see `nul`"
            yield _task("nul", said, name)
        if (each.profile.longest or 0) >= _LARGE:
            yield _task(
                "large", f"values of up to {each.profile.longest:,} characters or bytes: use smaller --batch-rows", name
            )
        if guesses.get(name, ("", ""))[1]:
            yield _task("guess", guesses[name][1], name)


def _of_kinds(columns: Sequence[ColumnProfile], known: Collection[str | None]) -> Iterator[Task]:
    """Fields that hold several kinds of values; an int, a long and a double are numbers all."""
    for each in columns:
        there = {kind: count for kind, count in each.kinds.items() if kind not in _NO_VALUES}
        if len(there) > 1 and not there.keys() <= _NUMBERS and each.name not in known:
            of = sum(there.values())
            said = ", ".join(f"{kind} ({share(count, of)})" for kind, count in there.items())
            yield _task("doubt", f"values are {said}", each.name)


def _of_fields(fields: Collection[str], columns: Sequence[str]) -> Iterator[Task]:
    """Fields of documents that no column takes."""
    taken = set(columns)
    within = {name[: at.start()] for name in columns for at in re.finditer(r"\.", name)}
    left = [name for name in fields if name not in within and not any(head in taken for head in _heads(name))]
    if left:
        several = ", ".join(left[:_LISTED]) + (" and others" if len(left) > _LISTED else "")
        yield _task(
            "doubt", f"{len(left):,} fields that no column takes stand in _rest, or reject their row: {several}"
        )


def _heads(field_: str) -> Iterator[str]:
    """A path, and those of what is around it."""
    yield field_
    for at in re.finditer(r"\.|\[", field_):
        yield field_[: at.start()]


def _of_json(table: Table, read: _Read, known: Collection[str]) -> Iterator[Task]:
    """What stays JSON, but for arrays that are tables of their own, and columns of which something was said already."""
    for field_ in read.fields:
        own = field_.name != "_rest" and not field_.name.startswith("_parent.")
        if suggested(field_) == "jsonb" and own and f"{table.name}/{field_.name}" not in known:
            said = "stays JSON: are there fields in it that should be columns, or a table?"
            yield _task("json", said, field_.name)
