"""XML files as a source: each table's records from all files, parsed once into a spool that is read slice by slice."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors.found import aliases, match, once
from connectors.spool import Spool, Spools
from connectors.xmlextract import META, Extractor, unread
from connectors.xmlform import Place
from connectors.xmlorigin import Origins
from connectors.xmloutline import Node, columns_of, note, outline, paths, proposed, uris, with_prefixes
from connectors.xmlpath import Records, compile_table, compile_tables, shown, shown_path
from connectors.xmlscan import Walk, unit_level
from connectors.xmltags import alike
from connectors.xmltext import XmlText, identify, open_xml
from connectors.xmlunits import Cut, Units
from migrate.core import PLACE, Batch, Partition, Reject, Source, Table
from migrate.errors import SourceError, UsageError

__all__ = ["XmlFiles", "open_files", "propose"]

_CHANGED = "put the file back as it was, or start over with: migrate run --restart"
_NAMED = 12  # names that a message lists


def open_files(files: Mapping[str, Sequence[str]], options: Mapping[str, Any], base: Path) -> Source:
    """XML files as a source of all-text tables; each table is read from all files.

    `files` holds globs relative to `base` under the name "". `options`: `tables`, name → {record, columns}, and
    `namespaces`, prefix → URI. Raises UsageError for a wrong path, SourceError if a glob matches no file.
    """
    tables = compile_tables(options)
    found = match(files[""], base)
    unique = once(found, base)
    return XmlFiles(unique, tables, base, tuple(aliases(found, unique, base)))


def propose(path: Path) -> dict[str, Any]:
    """Options for a source of this file, for a first project file. Raises SourceError if it cannot be read as XML."""
    with open_xml(path, path.name) as text:
        for _ in Walk(text, Cut(("",), False)):  # which refuses what is no XML, or has a DTD
            break
        top = outline(text)
    if not top.children:
        raise SourceError(f"{path.name} is no XML that can be read", hint="look at its first lines")
    return proposed(top)


@dataclass(frozen=True, slots=True)
class _Token:
    """All that reading a slice again needs: the file by its hash, the table by its paths, the batches of its spool.

    `record` is how many records precede the slice.
    """

    file: str
    size: int
    hash: str
    path: str
    columns: dict[str, str]
    namespaces: dict[str, str]
    first: int
    stop: int
    record: int

    def dump(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class _Parsed:
    """What a parse of a file tells of a table beside its rows."""

    size: int
    hash: str
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


class XmlFiles:
    """`Source` and `Counted` over XML files. Safe to read from several threads."""

    def __init__(
        self, files: Sequence[str], tables: Mapping[str, Records], base: Path, notes: Sequence[str] = ()
    ) -> None:
        self._files = files
        self._tables = dict(tables)
        self._base = base
        self._notes = tuple(notes)
        self._spools = Spools()
        self._parsed: dict[object, _Parsed] = {}

    def tables(self) -> Sequence[str]:
        return tuple(self._tables)

    def schema(self, table: str, /) -> Table:
        """The columns, all of them text; `notes` name what no column reads. Parses all files of the source."""
        if table not in self._tables:
            raise UsageError(f"no table {table!r} in the XML files", hint=f"there are: {', '.join(self._tables)}")
        records = self._resolved(table)
        notes = [*self._notes]
        warnings: list[str] = []
        counts, nulls = [], [0] * len(records.columns)
        for name in self._files:
            spool, parsed = self._spool(name, records)
            counts.append(sum(spool.rows))
            nulls = [n + more for n, more in zip(nulls, spool.nulls[len(META) :], strict=True)]
            notes += parsed.notes
            warnings += parsed.warnings
        if any(counts):
            empty = (name for name, count in zip(self._files, counts, strict=True) if not count)
            warnings += [f"{name}: no element matches {records.path}" for name in empty]
            never = [c for c, n in zip(records.columns, nulls, strict=True) if n == sum(counts)]
            warnings += [
                f"column {c.name}: {c.path} matches nothing in any file, so that it is NULL throughout" for c in never
            ]
        else:
            notes.append(self._nothing(records))
        place = {PLACE: b""}
        schema = pa.schema(
            [pa.field(c.name, pa.string(), metadata=place if c.position else None) for c in records.columns]
        )
        return Table(table, schema, (), tuple(notes), tuple(warnings))

    def partitions(self, table: Table, /, *, rows: int, bytes: int) -> Iterator[Partition]:
        """Slices of whole batches of each file's spool."""
        records = self._resolved(table.name)
        ordinal = 0
        for name in self._files:
            spool, parsed = self._spool(name, records)
            record = 0
            for first, stop in spool.ranges(rows, bytes):
                count, size = sum(spool.rows[first:stop]), sum(spool.sizes[first:stop])
                columns = {column.name: column.path for column in records.columns}
                token = _Token(
                    *(name, parsed.size, parsed.hash, records.path, columns, dict(records.namespaces)),
                    *(first, stop, record),
                )
                yield Partition(table.name, ordinal, token.dump(), count, size)
                ordinal, record = ordinal + 1, record + count

    def read(self, partition: Partition, /, columns: Sequence[str]) -> Iterator[Batch]:
        """The slice as one batch, with these columns in this order.

        Raises SourceError if the file has changed since the plan.
        """
        token = _Token(**json.loads(partition.token))
        missing = [column for column in columns if column not in token.columns]
        if missing:
            raise SourceError(
                f"{token.file}: the table {partition.table} has no column {missing[0]!r}",
                hint=f"it has: {', '.join(token.columns)}",
            )
        rows = self._slice(partition, token)
        rejected = pc.is_valid(rows.column("·rule"))
        origins = Origins(self._base / token.file, token.file, token.path, token.record, rows)
        bad = np.flatnonzero(rejected.to_numpy(zero_copy_only=False)) if rejected.num_chunks else np.empty(0, np.int64)
        told = rows.select(["·rule", "·reason", "·column", "·value"]).take(pa.array(bad)).to_pylist()
        rejects = tuple(
            Reject(int(at), why["·rule"], why["·reason"], origin, why["·column"], why["·value"])
            for at, why, origin in zip(bad, told, origins(bad.tolist()), strict=True)
        )
        good = rows.select(list(columns))
        if rejects:
            good = good.filter(pc.invert(rejected))
        ordinals = np.setdiff1d(np.arange(rows.num_rows), bad, assume_unique=True)
        yield Batch(_one(good, columns, len(ordinals)), ordinals, origins, rejects)

    def count(self, partition: Partition, /) -> int:
        """The number of records, rejected ones included, as the parse counted them."""
        return int(self._slice(partition, _Token(**json.loads(partition.token))).num_rows)

    # ------------------------------------------------------------------------------------------------------- the spools

    def _slice(self, partition: Partition, token: _Token) -> pa.Table:
        records = compile_table(partition.table, token.path, token.columns, token.namespaces)
        spool, parsed = self._spool(token.file, records)
        if (parsed.size, parsed.hash) != (token.size, token.hash):
            raise SourceError(f"{token.file} has changed since the plan was made", hint=_CHANGED)
        return spool.read(token.first, token.stop)

    def _spool(self, name: str, records: Records) -> tuple[Spool, _Parsed]:
        """The table's records in one file as it is now, parsed with those of all tables that share its units."""
        state = identify(self._base / name, name)
        key = (name, state, _key(records))
        spool = self._spools.get(key, lambda: self._parse(name, state, records))
        return spool, self._parsed[key]

    def _parse(self, name: str, state: object, records: Records) -> Spool:
        with open_xml(self._base / name, name) as text:
            level = _unit(text, records)
            tables = [records, *(other for other in self._tables.values() if _share(text, level, records, other))]
            extractors = _extractors(text, tables, level)
            walk = Walk(text, _cut(extractors, records, level), _values(extractors))
            spools = Spool.several([extractor.schema for extractor in extractors], _batches(walk, extractors))
            size, hash_ = text.size, text.file.fingerprint(0, text.size)
        if identify(self._base / name, name) != state:
            raise SourceError(f"{name} is still being written to", hint="run again when it is complete")
        for extractor, spool in zip(extractors, spools, strict=True):
            key = (name, state, _key(extractor.records))
            beside, warnings = self._beside(name, extractor, walk, level)
            notes = (*self._noted(name, extractor, walk), *beside)
            self._parsed[key] = _Parsed(size, hash_, notes, tuple(warnings))
            self._spools.put(key, spool)
        return spools[0]

    def _noted(self, name: str, extractor: Extractor, walk: Walk) -> Iterator[str]:
        """What of the records is not read by any column of this table, nor is a table's record itself."""
        records = extractor.records
        own = len(records.steps)
        inner = {
            "/".join(other.steps[own : own + depth])
            for other in self._tables.values()
            if other.steps[:own] == records.steps
            for depth in range(1, len(other.steps) - own + 1)
        }
        if records.anywhere and own == 1:
            inner.add(records.steps[0])
        left = [shown_path(path, records.namespaces) for path in unread(extractor.wanted) if path not in inner]
        if left:
            yield f"{name}: no column of {records.table} reads {_listed(left)}"
        if extractor.beside:
            yield f"{name}: text beside child elements is not read, as in {shown(extractor.beside, records.namespaces)}"
        if walk.stray:
            yield f"{name}:{walk.stray}: text beside the records is not read"

    def _beside(self, name: str, extractor: Extractor, walk: Walk, level: int) -> tuple[list[str], list[str]]:
        """Notes and warnings on the elements beside the records, and beside those around them, that nothing reads.

        What is spelled almost like a record, or repeats as records do, may be rows; what stands there once is the file's head.
        """
        records, own = extractor.records, len(extractor.records.steps) - 1
        above = records.steps[:own]
        found = {(at, tag): each for (at, tag), each in walk.beside.items() if at <= level}
        found |= {(own, tag): each for tag, each in extractor.siblings.items()}
        told = any(other.steps == above for other in self._tables.values())  # as what its columns do not read
        almost: list[str] = []
        several: list[str] = []
        once: list[str] = []
        for (at, tag), sibling in found.items():
            if tag in self._known(records, at):
                continue
            shown_tag = shown(tag, records.namespaces)
            if alike(tag, records.steps[at]):
                almost.append(f"{shown_tag} (line {sibling.line})")
            elif at == own and sibling.many:
                several.append(f"{shown_tag} (line {sibling.line})")
            elif at == own and not told:
                once.append(shown_tag)
        warnings = []
        if almost:
            warnings.append(
                f"{name}: not read, though the name differs in case or namespace only from one of {records.path}: "
                + _listed(almost)
            )
        if several:
            warnings.append(
                f"{name}: elements repeat beside {records.path}, and no table reads them: {_listed(several)}"
            )
        return [f"{name}: beside {records.path}, not read: {_listed(once)}"] if once else [], warnings

    def _known(self, records: Records, at: int) -> set[str]:
        """The names that some table reads where step `at` of these records stands: on the way to records, or as columns."""
        around = records.steps[:at]
        known = {other.steps[0] for other in self._tables.values() if other.anywhere}
        for other in self._tables.values():
            if not other.anywhere and other.steps[:at] == around:
                known.update(other.steps[at : at + 1])
            for column in other.columns:
                up = len(other.steps) - column.up
                if column.up and up == at and other.steps[:up] == around:
                    known.update(column.steps[:1])
        return known

    # ----------------------------------------------------------------------------------------------------- the columns

    def _resolved(self, table: str) -> Records:
        """The table with its columns, found in the files where the project file names none."""
        records = self._tables[table]
        if records.columns:
            return records
        top = Node()
        for name in self._files:
            with open_xml(self._base / name, name) as text:
                level = _unit(text, records)
                [extractor] = _extractors(text, [records], level)
                for found in Walk(text, _cut([extractor], records, level)):
                    for unit in found.elements if isinstance(found, Units) else ():
                        for element in extractor.elements(unit):
                            note(element, top)
        if not top.count:
            self._nothing(records)
            raise SourceError(
                f"no element matches {records.path}, so that its columns cannot be found",
                hint=f"name them: tables.{table}.columns",
            )
        namespaces = with_prefixes(records.namespaces, top)
        columns, repeated = columns_of(top, namespaces)
        if not columns:
            raise SourceError(
                f"{records.path} has neither attributes nor children that are one value",
                hint=f"name the columns: tables.{table}.columns; what repeats is a table of its own: {', '.join(repeated)}",
            )
        self._tables[table] = compile_table(table, records.path, columns, namespaces)
        return self._tables[table]

    def _nothing(self, records: Records) -> str:
        """A note on a table without a record, where what should hold it is empty. Raises SourceError otherwise."""
        there: dict[str, None] = {}
        used: dict[str, None] = {}
        for name in self._files:
            with open_xml(self._base / name, name) as text:
                top = outline(text)
            holder: Node | None = top
            for step in records.steps[:-1]:
                holder = holder.children.get(step) if holder else None
            if holder and not holder.children and not records.anywhere and len(records.steps) > 1:
                return f"{name}: {records.path.rpartition('/')[0]} is empty"
            there.update(dict.fromkeys(paths(top, records.namespaces)))
            used.update(uris(top))
        names = list(there)
        undeclared = [uri for uri in used if uri not in records.namespaces.values()]
        hint = "Correct the path."
        if undeclared:
            hint = f'Elements there are in the namespace "{undeclared[0]}": declare it, namespaces: {{ns: {undeclared[0]}}}, '
            hint += "and write its prefix in the paths: /ns:orders/ns:order."
        raise SourceError(
            f"no element matches {records.path} (table {records.table}) in {', '.join(self._files[:3])}; "
            f"there are: {_listed(names)}",
            hint=hint,
        )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _key(records: Records) -> object:
    columns = tuple((column.name, column.path) for column in records.columns)
    return records.path, columns, tuple(records.namespaces.items())


def _unit(text: XmlText, records: Records) -> int:
    return 0 if records.anywhere else unit_level(text, records.steps)


def _share(text: XmlText, level: int, one: Records, other: Records) -> bool:
    """Whether two tables' records are in the same units, so that one parse serves both."""
    return (
        bool(one.columns and other.columns)
        and _key(one) != _key(other)
        and one.anywhere == other.anywhere
        and one.steps[: level + 1] == other.steps[: level + 1]
        and _unit(text, other) == level
    )


def _extractors(text: XmlText, tables: Sequence[Records], level: int) -> list[Extractor]:
    """An extractor for each table. Children of elements around the units may stand behind them: they are read first."""
    extractors = [Extractor(records, level) for records in tables]
    cut = _cut(extractors, tables[0], level)
    if not cut.wanted:
        return extractors
    first = Walk(text, cut)
    for _ in first:
        pass
    return [Extractor(records, level, first.opened) for records in tables]


def _cut(extractors: Sequence[Extractor], records: Records, level: int) -> Cut:
    wanted: dict[int, frozenset[str]] = {}
    for extractor in extractors:
        for at, names in extractor.captured.items():
            wanted[at] = wanted.get(at, frozenset()) | names
    return Cut(records.steps[: level + 1], records.anywhere, wanted)


def _values(extractors: Sequence[Extractor]) -> frozenset[Place] | None:
    """What all columns of all tables want of a unit, if it is one record in each; None otherwise."""
    values = [extractor.values for extractor in extractors]
    return frozenset[Place]().union(*(each or () for each in values)) if None not in values else None


def _batches(walk: Walk, extractors: Sequence[Extractor]) -> Iterator[tuple[int, pa.RecordBatch]]:
    for found in walk:
        for number, extractor in enumerate(extractors):
            for batch in extractor.take(found):
                yield number, batch
    for number, extractor in enumerate(extractors):
        yield number, extractor.rest()


def _one(rows: pa.Table, columns: Sequence[str], count: int) -> pa.RecordBatch:
    """The rows as one batch."""
    schema = pa.schema([(column, pa.string()) for column in columns])
    if not columns:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * count, pa.struct([])))
    batches = rows.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=schema)
