"""Holds sources against what the project file expects of them, before a row is moved: columns, rows, values, trailers."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from collections.abc import Mapping as Dictionary
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import Any, cast

import numpy as np

from mappings.compile import Mapping, compile_table
from mappings.faults import Fault, faults_error, suggest
from mappings.mapper import Mapper
from mappings.promise import expression, promised
from mappings.spec import ColumnSpec, Expectation, Expected, TableSpec, bound, words
from migrate.core import Counted, Finding, Headed, Partition, Source, Table
from migrate.engine import Session
from migrate.errors import FindingsError
from migrate.plan import BatchSize
from migrate.status import where
from validators import schema as comparing
from validators.schema import SAMPLES, Misfits
from validators.values import Held, Wanted, finding

_SHOWN = 60  # characters of a value
_HINT = (
    "Nothing was written. Ask for files as they were agreed, or let `expect:` say what they are now; with "
    "`severity: warning` there they are loaded all the same."
)

Origin = tuple[str, str]
"""A source and a table of it."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What was found in a source table: how many rows (None: not counted), how many values of promised types."""

    findings: Sequence[Finding] = ()
    rows: int | None = None
    values: int = 0


def promises(work: Session, names: Sequence[str]) -> list[tuple[Origin, Expected]]:
    """The source tables of which something is expected, that these tables are read from; each once."""
    origins = dict.fromkeys(origin for name in names for origin in work.project.spec.tables[name].origins)
    sources = work.project.sources
    return [
        (origin, sources[origin[0]].expect[origin[1]]) for origin in origins if origin[1] in sources[origin[0]].expect
    ]


def headers(work: Session, names: Sequence[str]) -> list[Finding]:
    """What is wrong with the columns of all files of these tables; reads their heads only."""
    return [finding for origin, expected in promises(work, names) for finding in columns(work, origin, expected)]


def contents(work: Session, names: Sequence[str], jobs: int) -> list[Finding]:
    """What is wrong with the rows and values of these tables' sources, which are read once where anything is expected."""
    looks = (look(work, origin, expected, jobs) for origin, expected in promises(work, names))
    return [finding for looked in looks for finding in looked.findings]


def accepted(findings: Iterable[Finding]) -> list[str]:
    """The findings as lines, where all of them are warnings. Raises FindingsError with all lines where one is an error."""
    found = list(findings)
    lines = [f"{f.table}: {f.message}" for f in found]
    if any(f.severity == "error" for f in found):
        raise FindingsError("\n".join(lines), hint=_HINT)
    return lines


def columns(work: Session, origin: Origin, expected: Expected) -> list[Finding]:
    """What is wrong with the columns of each file of a source table."""
    if not expected.columns:
        return []
    source, name = work.source(origin[0]), ".".join(origin)
    found = (
        cast(Headed, source).headers(origin[1])
        if hasattr(source, "headers")
        else {name: source.schema(origin[1]).schema.names}
    )
    wanted = [column for column, _ in expected.columns]
    return comparing.columns(name, wanted, found, any_order=expected.any_order, severity=expected.severity)


def look(work: Session, origin: Origin, expected: Expected, jobs: int, *, trailers: bool = False) -> Looked:
    """Count a source table's rows and hold its values against their types, as far as that is expected.

    `trailers`: cut it in any case, for then its connector holds the trailers against the rows. Raises SourceError where
    it cannot be read.
    """
    source, name = work.source(origin[0]), ".".join(origin)
    typed = {c: written for c, written in expected.columns if written and promised(written) is not None}
    if not (typed or expected.counted or expected.of_rows or trailers):
        return Looked()
    table, size = source.schema(origin[1]), BatchSize()
    partitions = list(source.partitions(table, rows=size.rows, bytes=size.bytes))
    # Of a column that is missing `columns` tells.
    typed = {c: written for c, written in typed.items() if c in table.schema.names}
    unmet = _of_rows(work, origin, expected, source, table, partitions) if expected.of_rows else []
    if not (typed or expected.counted):
        return Looked(unmet)
    findings: list[Finding] = list(unmet)
    if typed:
        mapping = _mapping(work, origin, table, typed)
        seen = _seen(work, source, mapping, partitions, jobs, personal(work.project.spec.tables.values(), origin))
        rows = seen.rows
        found = [
            Misfits(c, written, seen.misfits[c], seen.samples[c]) for c, written in typed.items() if seen.misfits[c]
        ]
        findings[:0] = comparing.values(name, found, severity=expected.severity)
    else:
        rows = sum(_count(source, table, partition) for partition in partitions)
    findings[:0] = comparing.rows(name, expected.least, expected.most, rows, severity=expected.severity)
    return Looked(findings, rows, seen.values if typed else 0)


def _count(source: Source, table: Table, partition: Partition) -> int:
    if hasattr(source, "count"):
        return cast(Counted, source).count(partition)
    batches = source.read(partition, table.schema.names[:1])
    return sum(len(batch.ordinals) + len(batch.rejects) for batch in batches)


def _mapping(work: Session, origin: Origin, table: Table, typed: dict[str, str]) -> Mapping:
    """A mapping of each column to the type that it should have, named like the column's place in `typed`."""
    mark = work.project.sources[origin[0]].mark
    proofs = [(column, promised(written)) for column, written in typed.items()]
    specs = tuple(
        ColumnSpec(str(place), expression(column, proof[0]), mark, proof[1])
        for place, (column, proof) in enumerate(proofs)
        if proof is not None
    )
    return compile_table(TableSpec("expected", (origin,), "", "expected", specs, mark), table, None, work.context)


@dataclass(slots=True)
class _Seen:
    """What was seen of some partitions: rows, values looked at, and by column the misfits and some of them."""

    rows: int = 0
    values: int = 0
    misfits: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def add(self, other: "_Seen") -> None:
        self.rows += other.rows
        self.values += other.values
        self.misfits += other.misfits
        for column, some in other.samples.items():
            known = self.samples.setdefault(column, [])
            known += some[: SAMPLES - len(known)]


def _seen(
    work: Session,
    source: Source,
    mapping: Mapping,
    partitions: Sequence[Partition],
    jobs: int,
    hidden: Callable[[str], bool],
) -> _Seen:
    """Read all partitions, some side by side; what is seen is put together in their order."""
    mappers: SimpleQueue[Mapper] = SimpleQueue()
    for _ in range(jobs):
        mappers.put(Mapper(mapping, work.context))
    every = _Seen()
    try:
        with ThreadPoolExecutor(jobs, thread_name_prefix="layout") as pool:
            try:
                for seen in pool.map(partial(_partition, source, mapping, mappers, hidden), partitions):
                    every.add(seen)
            except BaseException:
                work.governor.end()  # the pool waits for its threads, and these may wait for the governor
                raise
    finally:
        while not mappers.empty():
            mappers.get().close()
    return every


def _partition(
    source: Source,
    mapping: Mapping,
    mappers: "SimpleQueue[Mapper]",
    hidden: Callable[[str], bool],
    partition: Partition,
) -> _Seen:
    names = [cell.expression.reads[0] for cell in mapping.cells]
    seen = _Seen()
    mapper = mappers.get()
    try:
        for batch in source.read(partition, mapping.reads):
            seen.rows += len(batch.ordinals) + len(batch.rejects)
            seen.values += len(batch.ordinals) * len(names)
            for place, mask in mapper.misfits(batch.rows).items():
                column = names[int(place)]
                some = seen.samples.setdefault(column, [])
                at = mask.nonzero()[0][: SAMPLES - len(some)].tolist()
                origins = batch.locate([int(batch.ordinals[i]) for i in at])
                seen.misfits[column] += int(mask.sum())
                for i, origin in zip(at, origins, strict=True):
                    value = "(personal)" if hidden(column) else _shown(batch.rows.column(column)[i].as_py())
                    some.append((where(dict(origin.locator)), value))
    finally:
        mappers.put(mapper)
    return seen


def _of_rows(
    work: Session, origin: Origin, expected: Expected, source: Source, table: Table, partitions: Sequence[Partition]
) -> list[Finding]:
    """What rows are not, of what they are expected to be: one reading more, in order, of the columns that it is about.

    Raises UsageError for a column that the source does not have, or a regular expression that is none.
    """
    place = f"sources.{origin[0]}.expect.{origin[1]}"
    names = table.schema.names
    faults = [
        Fault(each.mark, f'{place}.{each.kind}: {".".join(origin)} has no column "{column}"', suggest(column, names))
        for each in expected.of_rows
        for column in each.columns
        if column not in names
    ]
    if faults:
        raise faults_error(work.project.spec.path, faults)
    wanted = {each.label: each for each in expected.of_rows}
    columns = list(dict.fromkeys(column for each in expected.of_rows for column in each.columns))
    held: Held | None = None
    try:
        held = Held([Wanted(e.label, e.kind, e.columns, _meant(e), e.severity) for e in expected.of_rows])
        for partition in partitions:
            for batch in source.read(partition, columns):
                held.add(partition.ordinal, batch.rows, batch.ordinals)
        seen = held.seen()
    except ValueError as error:
        fault = Fault(next(e.mark for e in expected.of_rows if e.kind == "regex"), f"{place}.{error}")
        raise faults_error(work.project.spec.path, [fault]) from None
    finally:
        if held is not None:
            held.close()
    shown = _places(source, partitions, columns, {place for _, found in seen for place in found.samples})
    hidden = personal(work.project.spec.tables.values(), origin)
    findings = []
    for each, found in seen:
        samples = []
        for at in found.samples:
            locator, row = shown[at]
            values = ("(personal)" if hidden(c) else "NULL" if row[c] is None else _shown(row[c]) for c in each.columns)
            samples.append(f"{locator} {', '.join(values)}")
        findings.append(finding(".".join(origin), each, words(wanted[each.label]), found, samples))
    return findings


def _meant(each: Expectation) -> Dictionary[str, Any]:
    """The arguments of an expectation, bounds as what they mean."""
    if each.kind != "between":
        return each.arguments
    return {name: None if value is None else bound(value) for name, value in each.arguments.items()}


def _places(
    source: Source, partitions: Sequence[Partition], columns: Sequence[str], wanted: Collection[tuple[int, int]]
) -> dict[tuple[int, int], tuple[str, dict[str, object]]]:
    """Where a few rows stand, and what stands there, by partition and ordinal: read once more."""
    found = {}
    for partition in partitions:
        ordinals = [ordinal for part, ordinal in sorted(wanted) if part == partition.ordinal]
        for batch in source.read(partition, columns) if ordinals else ():
            for at in np.flatnonzero(np.isin(batch.ordinals, ordinals)):
                ordinal = int(batch.ordinals[at])
                [origin] = batch.locate([ordinal])
                row = {column: batch.rows.column(column)[int(at)].as_py() for column in columns}
                found[partition.ordinal, ordinal] = (where(dict(origin.locator)), row)
    return found


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def personal(tables: Iterable[TableSpec], origin: Origin) -> Callable[[str], bool]:
    """Whether a column of a source table may be what some table makes a personal column of: its name stands there."""
    made = [
        column.expression
        for table in tables
        if origin in table.origins
        for column in table.columns
        if column.name in table.personal
    ]
    packs = any("pack" in text.lower() for text in made)

    def hidden(column: str) -> bool:
        spelled = re.escape(column.replace('"', '""'))
        return packs or any(re.search(rf"(?i)(?<!\w){spelled}(?!\w)", text) for text in made)

    return hidden
