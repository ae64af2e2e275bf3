"""MongoDB as a source: each collection as a table, and each array in its documents as another, read as raw BSON."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from threading import RLock, Semaphore
from typing import Any, cast

import bson
import numpy as np
from bson import json_util
from pymongo import errors

from connectors import docfields, docprofile, documents, mongomeasure
from connectors.attention import Attention, Pause, Tell
from connectors.bsonscan import Bson
from connectors.bsonscan import documents as cut_up
from connectors.docfields import Level, Levels, Path
from connectors.docprofile import Seen
from connectors.docscan import Offsets
from connectors.mongoserver import CODEC, About, Server, explained
from connectors.mongoslices import REST, WHOLE, Slice, cut
from connectors.relational import CONNECTIONS, given, together
from migrate.core import Batch, Measure, Notice, Origin, Partition, Reference, Source, Table, View, Watermark
from migrate.errors import RetryableError, SourceError, UsageError

BSON = Bson()
_ATTEMPTS = 3
_REPLY = 8 << 20  # bytes that one answer of the server should have; it never gives more than 16 MB
_LOOKED = 10_000  # documents at each end, of a collection whose fields nobody declared
_SAMPLE = 2_000  # documents that are looked at for what a person must decide
_UNKNOWN = (9, 59, 115, 168, 238, 40324, 31325, 31249)  # codes of servers that lack an operator or a stage
_DOUBTFUL = (
    "Fields that no column takes reject their row unless the mapping asks for _rest; values that do not fit do unless the "
    "source says mixed: rest. Or declare them under fields:, as json where their types vary."
)
_A_SECOND = 50_000  # documents that a load is expected to manage
_PICKED = 1_000  # documents asked for by their keys at once


@dataclass(frozen=True, slots=True)
class Options:
    """What the project file may say of a MongoDB. `fields`: of tables, those that are columns, with their types.

    `profile`: whether fields that are not declared are looked for in the documents at both ends of a large collection, or in
    all. `mixed`: what becomes of a value that its column's type does not take: reject its row, or keep it in `_rest`.
    """

    connections: int = CONNECTIONS
    quiesced: bool = False
    profile: str = "ends"
    snapshot: bool = True
    mixed: str = "reject"
    fields: Mapping[str, Any] = field(default_factory=dict)


def open_url(url: str, options: Mapping[str, Any]) -> Source:
    """A database of a MongoDB server. Raises UsageError for a wrong option; nothing is connected to yet."""
    chosen = given(Options, options, "MongoDB")
    declared = {table: docfields.fields_of(fields, f"fields.{table}") for table, fields in chosen.fields.items()}
    server = Server(url, chosen.connections, quiesced=chosen.quiesced, snapshot=chosen.snapshot)
    return Collections(server, declared, chosen)


@dataclass(slots=True)
class Collections:
    """`Source` and all that it is able to do, over a database of MongoDB. Safe to read from several threads.

    A table is a collection, or `collection/lines`: the elements of the array `lines` in its documents.
    """

    server: Server
    declared: Mapping[str, Level]
    options: Options
    _abouts: dict[str, About] = field(default_factory=dict)
    _looks: dict[tuple[str, tuple[Path, ...]], Seen] = field(default_factory=dict)
    _able: dict[str, bool] = field(default_factory=dict)
    _attention: Attention = field(default_factory=Attention)
    _lock: Any = field(default_factory=RLock)
    _turns: Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._turns = Semaphore(self.options.connections)

    def tables(self) -> Sequence[str]:
        return self.server.names()

    def attended(self, pause: Pause, tell: Tell) -> None:
        """Who waits while fields are looked for, and hears how far it is."""
        self._attention = Attention(pause, tell)

    def offers(self) -> Sequence[tuple[str, str]]:
        return [(name, "view") for name in self.server.names(("view",))]

    def close(self) -> None:
        self.server.close()

    # ---------------------------------------------------------------------------------------------------------- fields

    def schema(self, table: str, /) -> Table:
        """Its columns; where nobody declared them, those that the documents have."""
        about, paths = self._known(table)
        schema = docfields.schema(self._fields(table))
        places = (docfields.PARENT * depth + docfields.POSITION for depth in reversed(range(len(paths))))
        key: tuple[str, ...] = (docfields.PARENT * len(paths) + "_id", *places)
        key = key if about.kind == "collection" and all(name in schema.names for name in key) else ()
        unknown = docprofile.unknown(table, self.declared, self._seen)
        return Table(table, schema, key, tuple(self._notes(table, about)), unknown=unknown)

    def _notes(self, table: str, about: About) -> Iterator[str]:
        if not about.sliced:
            yield f"it is a {about.kind}: it is one slice, read in one go, and resumed from its beginning"
        if table not in self.declared:
            yield from docprofile.missed(self._seen(*docfields.parts_of(table)))

    def _undeclared(self, table: str, about: About) -> Iterator[Notice]:
        if table not in self.declared:
            where = "all documents" if self._looks_at_all(about) else f"the first and the last {_LOOKED:,} documents"
            said = f"its fields are not declared, and were found in {where}: a new one changes its columns"
            yield Notice(
                "warning", table, said, "Declare them under fields: of the source; `migrate init` writes them."
            )

    def _looks_at_all(self, about: About) -> bool:
        return self.options.profile == "all" or (about.kind == "collection" and about.documents <= 2 * _LOOKED)

    def _known(self, table: str) -> tuple[About, tuple[Path, ...]]:
        """The collection of a table, and the paths of the arrays that its rows are elements of."""
        name, paths = docfields.parts_of(table)
        with self._lock:
            if name not in self._abouts:
                self._abouts[name] = self.server.about(name)
            return self._abouts[name], paths

    def _fields(self, table: str) -> Levels:
        """The levels of a table: its own, and those around it."""
        return docfields.levels_of(table, self.declared, self._level)

    def _level(self, name: str, paths: tuple[Path, ...]) -> Level:
        seen = self._seen(name, paths)
        return docprofile.found(seen, paths[-1] if paths else ())

    def arrays(self, table: str) -> Sequence[str]:
        return docprofile.inner_tables(table, self._seen(*docfields.parts_of(table)))

    def kinds(self, table: str, /) -> Mapping[str, Mapping[str, int]]:
        return docprofile.kinds(self._seen(*docfields.parts_of(table)))

    def fields(self, tables: Sequence[str], /) -> Mapping[str, Any]:
        return {table: docfields.declared(self._fields(table)[-1]) for table in tables}

    def _seen(self, name: str, paths: tuple[Path, ...]) -> Seen:
        """What the documents of a collection, or elements in them, are like; looked at once."""
        about, _ = self._known(name)

        def look(paths: tuple[Path, ...]) -> Seen:
            if (name, paths) not in self._looks:
                self._looks[name, paths] = self._profiled(about, paths)
            return self._looks[name, paths]

        with self._lock:
            return docprofile.looked(paths, look)

    def _profiled(self, about: About, paths: Sequence[Path]) -> Seen:
        """What is in all documents, or in those at both ends of a large collection: the same each time, so not in a sample."""
        seen = Seen()
        if self._looks_at_all(about) or not about.sliced:
            looks: list[dict[str, Any]] = [{"limit": 0 if self._looks_at_all(about) else 2 * _LOOKED}]
        else:
            looks = [{"sort": [("_id", way)], "limit": _LOOKED} for way in (1, -1)]
        looked = 0
        of = sum(each["limit"] for each in looks) or about.documents
        passed = self._attention.to(
            lambda: f"{about.name} is looked through for fields, {looked:,} of about {of:,} documents"
        )
        for look in looks:
            for answer in self._raw(about, {}, **look):
                data = np.frombuffer(answer, np.uint8)
                starts, ends = cut_up(answer)
                docprofile.note(BSON, data, documents.elements(BSON, data, starts, ends, paths), seen)
                looked += len(starts)
                passed()
        return seen

    # --------------------------------------------------------------------------------------------------------- reading

    def partitions(self, table: Table, /, *, rows: int, bytes: int) -> Iterator[Partition]:
        """Slices of so many documents; of so few that they have no more bytes, by the server's average."""
        about, _ = self._known(table.name)
        read: dict[str, Any] = {
            "table": table.name,
            "levels": docfields.dump(self._fields(table.name)),
            "mixed": self.options.mixed == "rest",
        }
        if about.size:
            rows = max(1, min(rows, bytes // about.size))
        if not about.sliced:
            token = replace(Slice(WHOLE), **read).dump()
            yield Partition(table.name, 0, token, about.documents, about.documents * about.size)
            return
        left = about.documents
        for ordinal, slice_ in enumerate(cut(lambda found: self._last(about, found, rows), partial(self._any, about))):
            full = rows if slice_.upto is not None else 0 if slice_.bracket == REST else max(0, left)
            left -= full
            yield Partition(table.name, ordinal, replace(slice_, **read).dump(), full, full * about.size)

    def _last(self, about: About, found: Mapping[str, Any], rows: int) -> Any | None:
        """The `_id` of document number `rows`; None where no more follow."""
        with self._reading(f"cut {about.name}") as session:
            cursor = self.server.collection(about.name).find(found, {"_id": 1}, session=session)
            there = list(cursor.sort("_id", 1).skip(rows - 1).limit(2))
        return there[0]["_id"] if len(there) == 2 else None

    def _any(self, about: About, found: Mapping[str, Any]) -> bool:
        with self._reading(f"cut {about.name}") as session:
            return self.server.collection(about.name).find_one(found, {"_id": 1}, session=session) is not None

    def read(self, partition: Partition, /, columns: Sequence[str]) -> Iterator[Batch]:
        """The slice's rows with these columns, in the order of `_id`."""
        slice_ = Slice.load(partition.token)
        about, _ = self._known(slice_.table)
        levels = docfields.load(slice_.levels)
        known = docfields.schema(levels).names
        missing = [column for column in columns if column not in known]
        if missing:
            raise SourceError(f"{slice_.table} has no column {missing[0]!r}", hint=f"it has: {', '.join(known)}")
        first, attempt = 0, 1
        while True:
            try:
                for answer in self._raw(about, slice_.filter()):
                    batch = _batch(slice_.table, answer, levels, columns, mixed=slice_.mixed)
                    yield documents.numbered(batch, first)
                    first += len(batch.ordinals) + len(batch.rejects)
                return
            except RetryableError:
                # What was handed out already cannot be taken back: then the whole chunk is tried again, by its reader.
                if first or attempt == _ATTEMPTS:
                    raise
                attempt += 1

    def _raw(
        self, about: About, found: Mapping[str, Any], *, sort: Sequence[tuple[str, int]] = (("_id", 1),), limit: int = 0
    ) -> Iterator[bytes]:
        """Documents as the server sends them, an answer at a time. A time series has no `_id` to sort by."""
        many = max(1, min(100_000, _REPLY // about.size)) if about.size else 10_000
        order = None if about.kind == "timeseries" else list(sort)
        with self._reading(f"read {about.name}") as session:
            cursor = self.server.collection(about.name).find_raw_batches(
                found,
                sort=order,
                limit=limit,
                batch_size=many,
                session=session,
                allow_disk_use=about.kind == "view" or None,
            )
            with closing(cursor):
                yield from cast(Iterable[bytes], cursor)  # the driver's types say documents

    @contextmanager
    def _reading(self, doing: str) -> Iterator[Any]:
        """A session to read with, one of so many at a time."""
        with self._turns, explained(doing), self.server.reading() as session:
            yield session

    def count(self, partition: Partition, /) -> int:
        """As the server counts them: documents, or what their arrays hold."""
        slice_ = Slice.load(partition.token)
        about, paths = self._known(slice_.table)
        found = slice_.filter()
        collection = self.server.collection(about.name)
        with self._reading(f"count {about.name}") as session:
            if not paths:
                return int(collection.count_documents(found, session=session))
            try:
                stages = [{"$match": found}, {"$group": {"_id": None, "n": {"$sum": mongomeasure.elements(paths)}}}]
                counted = list(collection.aggregate(stages, session=session))
                return int(counted[0]["n"]) if counted else 0
            except errors.OperationFailure as error:
                if error.code not in _UNKNOWN:
                    raise
        levels = tuple(Level(path) for path in ((), *paths))  # a server without these operators: then by its documents
        return sum(
            documents.count(BSON, np.frombuffer(answer, np.uint8), *cut_up(answer), levels)
            for answer in self._raw(about, found)
        )

    # ------------------------------------------------------------------------------------------------------ aggregates

    def computes(self, table: str, measure: Measure, /) -> bool:
        """Whether the server has this quantity exactly, and the operators that it takes."""
        about, _ = self._known(table)
        expressions = self._accumulators(table, measure)
        if expressions is None:
            return False
        with self._lock:
            tried = json_util.dumps(expressions)
            if tried not in self._able:
                stages: list[Any] = [{"$limit": 1}, {"$group": {"_id": None, **_named([expressions])}}]
                try:
                    self._aggregated(about, stages)
                    self._able[tried] = True
                except SourceError:
                    self._able[tried] = False
            return self._able[tried]

    def aggregates(
        self, table: str, measures: Sequence[Measure], keys: Sequence[tuple[Any, ...]] | None, /
    ) -> Sequence[Decimal | None]:
        """As the server computes them: of all documents, or of those with some values of `_id`, as JSON has them."""
        about, paths = self._known(table)
        asked = [self._accumulators(table, measure) or [] for measure in measures]
        stages: list[Any] = [*mongomeasure.unwound(paths), {"$group": {"_id": None, **_named(asked)}}]
        found: list[list[Decimal]] = [[] for _ in measures]
        for match in [{}] if keys is None else _picked(keys):
            for row in self._aggregated(about, [cast(Any, {"$match": match}), *stages]):
                for at, (measure, expressions) in enumerate(zip(measures, asked, strict=True)):
                    value = mongomeasure.result(measure, [row[f"m{at}_{n}"] for n in range(len(expressions))])
                    found[at] += [] if value is None else [value]
        return [together(measure.quantity, parts) for measure, parts in zip(measures, found, strict=True)]

    def _aggregated(self, about: About, stages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        with self._reading(f"ask {about.name} for aggregates") as session:
            return list(self.server.collection(about.name).aggregate(list(stages), session=session, allowDiskUse=True))

    def _accumulators(self, table: str, measure: Measure) -> list[Any] | None:
        levels = self._fields(table)
        depth, name = len(levels) - 1, measure.column
        while name.startswith(docfields.PARENT) and depth:
            depth, name = depth - 1, name.removeprefix(docfields.PARENT)
        column = docfields.columns(levels[depth]).get(name)
        around = [step for level in levels[1 : depth + 1] for step in level.path]
        if column is None or not all(mongomeasure.plain(each) for level in levels for each in level.path):
            return None
        return mongomeasure.accumulators(column.path, column.type, measure, mongomeasure.at(around) if around else "")

    # ----------------------------------------------------------------------------------------------- before and around

    def view(self) -> tuple[View, str]:
        return self.server.view()

    def watermark(self) -> Watermark | None:
        return self.server.watermark

    def load(self) -> int | None:
        return self.server.load()

    def estimate(self, tables: Sequence[str], /) -> tuple[int, int]:
        """By the statistics of the server; what arrays hold is in their documents' bytes."""
        abouts = {about.name: about for about, _ in map(self._known, tables)}.values()
        return sum(about.documents for about in abouts), sum(about.documents * about.size for about in abouts)

    def preflight(self, tables: Sequence[str], /) -> Sequence[Notice]:
        """What the server is, and of each table whether it can be read and what its fields do not take."""
        try:
            there = set(self.server.names(("collection", "view", "timeseries")))
            known = [table for table in tables if table.partition("/")[0] in there]
            found = list(self.server.preflight(max(60, self.estimate(known)[0] // _A_SECOND)))
        except (SourceError, RetryableError) as error:
            return [Notice("error", "connection", error.message, error.hint)]
        for table in tables:
            try:
                about, _ = self._known(table)
                found.append(Notice("ok", table, f"a {about.kind} of about {about.documents:,} documents"))
                found += self._undeclared(table, about)
                said = [f"{column}: {doubt}" for column, doubt in self.doubts(table).items()]
                found += [Notice("warning", table, each) for each in said[:-1]]
                found += [Notice("warning", table, said[-1], _DOUBTFUL)] if said else []
            except (SourceError, UsageError) as error:
                found.append(Notice("error", table, error.message, error.hint))
        return found

    def doubts(self, table: str, /) -> Mapping[str, str]:
        """Of documents by chance: fields that no column takes, and values that do not fit; where fields were looked for, how
        often each kind of value stands in those that hold several."""
        about, paths = self._known(table)
        levels = self._fields(table)
        data = self._sample(about)
        starts, ends = cut_up(data)
        names = docfields.schema(levels).names
        batch = documents.read(BSON, np.frombuffer(data, np.uint8), starts, ends, levels, names, _nowhere)
        looked = len(batch.ordinals) + len(batch.rejects)
        counts = Counter(r.column or "documents" for r in batch.rejects)
        told = {
            name: f"{n:,} of {looked:,} rows looked at hold a value that does not fit" for name, n in counts.items()
        }
        rest = batch.rows.column(docfields.REST).drop_null().to_pylist() if docfields.REST in names else []
        if rest:
            strange = ", ".join(dict.fromkeys(name or '""' for each in rest for name in json.loads(each)))
            told[docfields.REST] = (
                f"{len(rest):,} of {looked:,} rows looked at have fields that no column takes: {strange[:300]}"
            )
        found = table not in self.declared
        mixed = docprofile.mixtures(self._seen(about.name, paths), levels[-1]) if found else dict[str, str]()
        return {name: "; ".join(filter(None, (mixed.get(name), told.get(name)))) for name in {**mixed, **told}}

    def _sample(self, about: About) -> bytes:
        """Documents by chance, where the server can choose so, else the first ones."""
        collection = self.server.collection(about.name)
        with self._reading(f"look at {about.name}") as session:
            try:
                stages = [{"$sample": {"size": _SAMPLE}}] if about.sliced else [{"$limit": _SAMPLE}]
                return b"".join(cast(Iterable[bytes], collection.aggregate_raw_batches(stages, session=session)))
            except errors.OperationFailure:
                found = collection.find_raw_batches({}, limit=_SAMPLE, session=session)
                return b"".join(cast(Iterable[bytes], found))

    def references(self, table: str, /) -> Sequence[Reference]:
        """Fields of documents that are called after a collection, and whose values are `_id`s there."""
        levels = self._fields(table)
        if len(levels) > 1:
            return []
        there = self.server.names(("collection",))
        return [
            Reference((name,), collection, ("_id",))
            for name, column in docfields.columns(levels[0]).items()
            for collection in there
            if column.type != "json" and _called_after(name, collection) and self._refers(table, column, collection)
        ]

    def _refers(self, table: str, column: docfields.Column, collection: str) -> bool:
        """Whether some values of a field are all `_id`s of a collection."""
        path = ".".join(column.path)
        with self._reading(f"look at {table}") as session:
            some = self.server.collection(table).find({path: {"$ne": None}}, {path: 1}, limit=100, session=session)
            values = [_inner(each, column.path) for each in some]
            there = {"_id": {"$in": values}}
            many = self.server.collection(collection).count_documents(there, session=session) if values else 0
        return 0 < len({json_util.dumps(value) for value in values}) == many


def _inner(document: Any, path: Path) -> Any:
    for name in path:
        document = document.get(name) if isinstance(document, Mapping) else None
    return document


def _called_after(field: str, collection: str) -> bool:
    """Whether `customer_id`, `customerId` or `customer` could name a document of `customers`."""
    stem = re.sub(r"_?id$", "", field.rpartition(".")[2], flags=re.IGNORECASE).lower()
    names = {collection.lower(), collection.lower().removesuffix("s"), collection.lower().removesuffix("es")}
    return bool(stem) and (stem in names or (stem.endswith("y") and f"{stem[:-1]}ies" == collection.lower()))


def _batch(table: str, answer: bytes, levels: Levels, columns: Sequence[str], *, mixed: bool) -> Batch:
    starts, ends = cut_up(answer)
    locate = _origins(table, answer, starts, ends)
    return documents.read(BSON, np.frombuffer(answer, np.uint8), starts, ends, levels, columns, locate, mixed=mixed)


def _nowhere(start: int, end: int) -> Origin:
    return Origin({}, b"")


def _origins(table: str, data: bytes, starts: Offsets, ends: Offsets) -> Callable[[int, int], Origin]:
    """Where a row stands, by the `_id` of its document; its bytes are those of the document, as extended JSON."""

    def locate(start: int, end: int) -> Origin:
        at = max(0, int(np.searchsorted(starts, start, side="right")) - 1)
        place: dict[str, Any] = {"table": table}
        whole = data[int(starts[at]) : int(ends[at])]
        try:
            document = bson.decode(whole, CODEC)
        except bson.errors.BSONError:
            return Origin({**place, "row": at + 1}, json.dumps({"bson": whole.hex()}).encode())
        if "_id" in document:
            place["key"] = f"_id={_shown(document['_id'])}"
        text = json_util.dumps(document, json_options=json_util.CANONICAL_JSON_OPTIONS, ensure_ascii=False)
        return Origin(place, text.encode("utf-8", "backslashreplace"))

    return locate


def _shown(value: Any) -> str:
    return str(value) if isinstance(value, (str, int, float, bson.ObjectId)) else json_util.dumps(value)


def _named(asked: Sequence[Sequence[Any]]) -> dict[str, Any]:
    return {f"m{at}_{n}": each for at, several in enumerate(asked) for n, each in enumerate(several)}


def _picked(keys: Sequence[tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    """Filters for documents with these `_id`s, so many a time."""
    for first in range(0, len(keys), _PICKED):
        ids = [json_util.loads(json.dumps(key[0])) for key in keys[first : first + _PICKED]]
        yield {"_id": {"$in": ids}}
