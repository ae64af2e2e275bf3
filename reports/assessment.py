"""What sources hold and what their migration asks of people: as a terminal, a page and programs are shown it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Literal

from rich.console import Console
from rich.text import Text

from migrate.core import Notice
from reports.html import framed
from reports.markup import NOTHING, Cell, Column, Html, Row, join, number, table, tag, text, words
from reports.model import plain
from reports.sections import utc
from reports.terminal import brief, printable, render_rows

FORMAT = 1
"""The version of the JSON form."""

State = Literal["as it is", "decisions", "work"]
_LISTED = 60  # tasks that a terminal shows
_NAMES = 20  # of tables, in one line
_ROWS_A_SECOND, _BYTES_A_SECOND = 100_000, 20 << 20  # which a load is expected to manage
_UNITS = (("TB", 40), ("GB", 30), ("MB", 20), ("kB", 10))


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """A column, by the rows that were looked at.

    `type` is what it would be in PostgreSQL, `filled` how many values are not NULL, `blank` how many texts hold nothing but
    blanks, `distinct` how many different values there are (about, where all rows were read), `shortest` and `longest` the
    lengths of texts in characters and of binaries in bytes, `least` and `most` the extremes of numbers and times. `kinds`: of a
    field of documents how many values of each kind there are, whatever column they are read into.
    """

    name: str
    type: str
    filled: int = 0
    blank: int = 0
    distinct: int | None = None
    shortest: int | None = None
    longest: int | None = None
    least: str | None = None
    most: str | None = None
    kinds: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Task:
    """Something that a person has to look at, and about how long that takes. `column` is None where it is about the table."""

    kind: str
    said: str
    minutes: int
    column: str | None = None


@dataclass(frozen=True, slots=True)
class TableProfile:
    """A table of a source. `rows` and `bytes` are None where nobody knows; `counted`: rows were, and are no estimate.

    `looked` rows were read of which `rejected` could not be. `refers` are the tables its references name, `mapped` the tables of
    the project that are made from it. `notes` say how it is read. `fields` are all those of documents, by their paths, with how
    often each kind of value stands there. `minutes` include those of its tasks.
    """

    name: str
    rows: int | None
    counted: bool
    bytes: int | None
    columns: tuple[ColumnProfile, ...]
    key: tuple[str, ...]
    refers: tuple[str, ...]
    looked: int
    rejected: int
    mapped: tuple[str, ...]
    tasks: tuple[Task, ...]
    notes: tuple[str, ...] = ()
    fields: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    minutes: int = 0
    state: State = "as it is"


@dataclass(frozen=True, slots=True)
class SourceProfile:
    """A source. `view` says at which moment it is read; `watermark` is what changes could be followed from, `further` what it has
    that is read only where it is named: the names of each kind; `failure` why it could not be looked at."""

    name: str
    view: str = ""
    watermark: str = ""
    notices: tuple[Notice, ...] = ()
    tables: tuple[TableProfile, ...] = ()
    further: Mapping[str, Sequence[str]] = field(default_factory=dict)
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Assessment:
    """Everything that was looked at. `full`: all rows were read, not the first ones. `notes` are of what was not looked at."""

    made: str
    full: bool
    sources: tuple[SourceProfile, ...]
    next_command: str
    notes: tuple[str, ...] = ()

    @property
    def tables(self) -> list[tuple[str, TableProfile]]:
        return [(source.name, each) for source in self.sources for each in source.tables]

    @property
    def minutes(self) -> int:
        return sum(each.minutes for _, each in self.tables)

    @property
    def rows(self) -> int:
        """About how many, as far as it is known."""
        return sum(each.rows or 0 for _, each in self.tables)

    @property
    def bytes(self) -> int:
        """About how many, as far as it is known."""
        return sum(each.bytes or 0 for _, each in self.tables)

    @property
    def seconds(self) -> int:
        """About how long a load takes."""
        return ceil(max(self.rows / _ROWS_A_SECOND, self.bytes / _BYTES_A_SECOND))

    @property
    def inventory(self) -> str:
        """In a sentence, how much there is."""
        about = "" if all(each.counted for _, each in self.tables) else "about "
        unknown = sum(each.rows is None for _, each in self.tables)
        said = f"{_many(len(self.sources), 'source')}, {_many(len(self.tables), 'table')}, {about}{_many(self.rows, 'row')}"
        said += f", {sized(self.bytes)}" if self.bytes else ""
        return said + (f"; of {_many(unknown, 'table')} the rows are not known" if unknown else "") + "."

    @property
    def effort(self) -> str:
        """In a sentence, what there is to do."""
        states = [each.state for _, each in self.tables]
        plain_, decisions, work = (states.count(state) for state in ("as it is", "decisions", "work"))
        parts = [
            f"{_many(plain_, 'table')} can be taken as {'it is' if plain_ == 1 else 'they are'}" if plain_ else "",
            f"{decisions:,} need{'s' * (decisions == 1)} decisions" if decisions else "",
            f"{work:,} need{'s' * (work == 1)} work" if work else "",
        ]
        if not any(parts):
            failed = any(source.failure for source in self.sources)
            return "Nothing could be looked at." if failed else "There is nothing to migrate."
        took = f"about {lasting(self.minutes * 60)} of a person's time, and {lasting(self.seconds)} of loading"
        return f"{', '.join(filter(None, parts))}: {took}."


def hinted(said: str, hint: str) -> str:
    """Two sentences, or one."""
    return f"{said.rstrip('. ')}. {hint}" if hint else said


def sized(size: int) -> str:
    """Bytes, in words."""
    for unit, power in _UNITS:
        if size >= 1 << power:
            return f"{size / (1 << power):.1f} {unit}"
    return f"{size:,} bytes"


def lasting(seconds: float) -> str:
    """A time, in words: no finer than an estimate is."""
    minutes = max(1, round(seconds / 60))
    return f"{minutes} min" if minutes < 90 else f"{round(minutes / 60):,} h"


def to_json(assessment: Assessment) -> dict[str, Any]:
    """The JSON form."""
    derived: dict[str, Any] = {"inventory": assessment.inventory, "effort": assessment.effort}
    derived |= {"minutes": assessment.minutes, "seconds": assessment.seconds}
    return {"format": FORMAT, **derived, **plain(assessment)}


# ---------------------------------------------------------------------------------------------------------- a terminal


def render(assessment: Assessment, console: Console, *, columns: bool) -> None:
    """What there is, what a person has to do, and the next command; `columns`: each column, too."""
    console.print(Text(assessment.inventory, style="bold"))
    console.print(Text(assessment.effort, style="bold"))
    for each_source in assessment.sources:
        _source(each_source, console)
    several = len(assessment.sources) > 1
    if assessment.tables:
        console.print()
        heads = ("table", "rows", "size", "columns", "key", "refers to", "state", "minutes")
        render_rows(heads, [_line(source, each, several) for source, each in assessment.tables], console)
    for note in assessment.notes:
        console.print(Text(brief(note), style="yellow"))
    tasks = [(_named(source, t, several), task) for source, t in assessment.tables for task in t.tasks]
    if tasks:
        console.print("\nWhat needs a person:")
        lines = [(name, task.column or "", brief(task.said), task.minutes) for name, task in tasks[:_LISTED]]
        render_rows(("table", "column", "what", "minutes"), lines, console)
        if len(tasks) > _LISTED:
            console.print(f"… and {len(tasks) - _LISTED:,} more: --output json, or --report", markup=False)
    if columns:
        for name, each in assessment.tables:
            console.print(Text(f"\n{_named(name, each, several)}: {_looked(assessment, each)}"))
            render_rows(_HEADS, [_column(each, c) for c in each.columns], console)
    for name, each in assessment.tables:
        for note in each.notes:
            console.print(Text(brief(f"{_named(name, each, several)}: {note}"), style="dim"))
    console.print(Text(printable(f"Next: {assessment.next_command}"), style="cyan"))


_HEADS = ("column", "type", "filled", "different", "length", "from", "to", "kinds")


def _source(source: SourceProfile, console: Console) -> None:
    if source.failure:
        console.print(Text(f"{source.name}: {brief(source.failure)}", style="red"))
        return
    said = [notice.said for notice in source.notices if notice.what == "version"]
    said += [each for each in (source.view, source.watermark) if each]
    if said:
        console.print(Text(f"{source.name}: {brief('; '.join(said))}"))
    for notice in source.notices:
        if notice.level != "ok":
            text_ = f"{source.name}, {notice.what}: {hinted(notice.said, notice.hint)}"
            console.print(Text(brief(text_), style="yellow" if notice.level == "warning" else "red"))
    for what, names in source.further.items():
        console.print(
            Text(brief(f"{source.name}: not looked at, for {what} are read only where they are named: {_some(names)}"))
        )


def _line(source: str, t: TableProfile, several: bool) -> Sequence[Any]:
    size = "" if t.bytes is None else sized(t.bytes)
    return (
        _named(source, t, several), _rows(t), size, len(t.columns), ", ".join(t.key), _some(t.refers), t.state, t.minutes,
    )  # fmt: skip


def _rows(t: TableProfile) -> str:
    return "unknown" if t.rows is None else f"{t.rows:,}" if t.counted else f"about {t.rows:,}"


def _column(t: TableProfile, c: ColumnProfile) -> Sequence[Any]:
    return (
        c.name, c.type, share(c.filled - c.blank, t.looked - t.rejected), c.distinct, _length(c), c.least, c.most, _kinds(c),
    )  # fmt: skip


def _length(c: ColumnProfile) -> str:
    if c.longest is None:
        return ""
    return f"{c.longest:,}" if c.shortest == c.longest else f"{c.shortest:,} to {c.longest:,}"


def _kinds(c: ColumnProfile) -> str:
    return ", ".join(f"{kind} {count:,}" for kind, count in c.kinds.items())


def _looked(assessment: Assessment, t: TableProfile) -> str:
    which = "all" if assessment.full else "the first"
    rejected = f", of which {t.rejected:,} cannot be read" if t.rejected else ""
    return f"{which} {_many(t.looked, 'row')} looked at{rejected}"


def _named(source: str, t: TableProfile, several: bool) -> str:
    return f"{source}.{t.name}" if several else t.name


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMES]) + (f" and {len(names) - _NAMES:,} more" if len(names) > _NAMES else "")


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def share(part: int, whole: int) -> str:
    """A percentage that is neither 0 nor 100 unless it is so."""
    if not whole:
        return ""
    if part in (0, whole):
        return f"{100 * part // whole} %"
    return f"{min(99.9, max(0.1, 100 * part / whole)):.1f} %"


# --------------------------------------------------------------------------------------------------------------- a page


def render_html(assessment: Assessment) -> str:
    """The same as one page, with every column."""
    head = join(
        [
            tag(
                "p", tag("span", Html("Assessment")), tag("span", Html("made "), utc(assessment.made)), class_="eyebrow"
            ),
            tag("h1", text(assessment.inventory), class_="open"),
            tag("p", text(assessment.effort), class_="sentence"),
            *(tag("p", text(note), class_="proof") for note in assessment.notes),
            tag("p", Html("Next: "), tag("code", text(assessment.next_command)), class_="next"),
        ],
        "\n",
    )
    parts = [
        ("tables", "Tables", _tables_part(assessment)),
        ("tasks", "What needs a person", _tasks_part(assessment)),
        ("sources", "Sources", _sources_part(assessment)),
        ("columns", "Columns", _columns_part(assessment)),
    ]
    foot = tag("p", Html("Minutes are estimates by fixed rates, to compare tables: they promise no date."))
    return framed("Assessment", head, [part for part in parts if part[2]], foot)


def _tables_part(assessment: Assessment) -> Html:
    columns = [Column("Source"), Column("Table"), Column("Rows", numeric=True), Column("Size", numeric=True)]
    columns += [Column("Columns", numeric=True), Column("Key"), Column("Refers to"), Column("State")]
    columns += [Column("Minutes", numeric=True)]
    rows = [
        Row(
            [
                words(source),
                words(t.name),
                Cell(text(_rows(t)), str(-1 if t.rows is None else t.rows)),
                Cell(text("–" if t.bytes is None else sized(t.bytes)), str(-1 if t.bytes is None else t.bytes)),
                number(len(t.columns)),
                words(", ".join(t.key) or "–"),
                words(", ".join(t.refers) or "–"),
                words(t.state, "muted" if t.state == "as it is" else "warn"),
                number(t.minutes),
            ],
            t.state != "as it is",
        )
        for source, t in assessment.tables
    ]
    return table("tables-title", columns, rows) if rows else tag("p", Html("There are none."))


def _tasks_part(assessment: Assessment) -> Html:
    columns = [
        Column("Source"),
        Column("Table"),
        Column("Column"),
        Column("What", sort=""),
        Column("Minutes", numeric=True),
    ]
    rows = [
        Row([words(source), words(t.name), words(task.column or "–"), words(task.said, "long"), number(task.minutes)])
        for source, t in assessment.tables
        for task in t.tasks
    ]
    return table("tasks-title", columns, rows) if rows else NOTHING


def _sources_part(assessment: Assessment) -> Html:
    columns = [Column("Source"), Column("About"), Column("What", sort="")]
    rows = []
    for source in assessment.sources:
        said = [("failure", source.failure, True)] if source.failure else []
        said += [(n.what, hinted(n.said, n.hint), n.level != "ok") for n in source.notices if n.what != "view"]
        said += [("view", source.view, False)] if source.view else []
        said += [("changes", source.watermark, False)] if source.watermark else []
        said += [
            (what, f"read only where they are named: {_some(names)}", False) for what, names in source.further.items()
        ]
        said += [(t.name, note, False) for t in source.tables for note in t.notes]
        rows += [
            Row([words(source.name), words(what, "warn" if look else ""), words(s, "long")], look)
            for what, s, look in said
        ]
    return table("sources-title", columns, rows) if rows else NOTHING


def _columns_part(assessment: Assessment) -> Html:
    columns = [Column("Source"), Column("Table"), Column("Column"), Column("Type"), Column("Filled", numeric=True)]
    columns += [
        Column("Different", numeric=True),
        Column("Length", sort=""),
        Column("From", sort=""),
        Column("To", sort=""),
    ]
    columns += [Column("Kinds", sort="")]
    rows = []
    for source, t in assessment.tables:
        for c in t.columns:
            filled = share(c.filled - c.blank, t.looked - t.rejected) or "–"
            cells = [
                words(source),
                words(t.name),
                words(c.name),
                words(c.type),
                Cell(text(filled), str(c.filled - c.blank)),
            ]
            cells += [number(c.distinct), words(_length(c) or "–"), words(c.least or "–"), words(c.most or "–")]
            rows.append(Row([*cells, words(_kinds(c) or "–", "long")]))
    return table("columns-title", columns, rows) if rows else NOTHING
