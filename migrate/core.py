"""Every protocol and frozen type that the rooms share; imports nothing of ours.

The flow of one chunk: a connector reads a `Partition` as `Batch`es, a mapping turns each into a `Step`, and the commit
protocol turns the steps into rows, rejects and one `Entry` in the target, in one transaction.
"""

import decimal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import reduce
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ordinals = npt.NDArray[np.int64]
"""Row numbers within one partition, counted from 0 at the source's edge; each source row has exactly one."""

Locator = Mapping[str, Any]
"""Where a source row stands, as JSON: {"file", "line", "last_line", "start", "end"} for text, {"key": …} elsewhere."""


# ---------------------------------------------------------------------------------------------------- the source's side


@dataclass(frozen=True, slots=True)
class Table:
    """A source table. `schema` is what `Source.read` yields; `notes` say what detection decided or had to rename.

    `warnings` are what a person must know before believing that all is read: files without rows, paths that match nothing.
    `refused` are columns that must not be read, for what came would not be their values: each with why, and what mends it.
    `unknown` are the tables, it and those around it, whose columns nobody knows: they are not declared, and nothing stands there.
    """

    name: str
    schema: pa.Schema
    key: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


SUGGESTED = b"postgresql"
"""The key of a source column's metadata that says which PostgreSQL type suits it, where its Arrow type alone does not."""


def suggested(field: pa.Field) -> str:
    """The PostgreSQL type that the source suggests for a column; "" where it suggests none."""
    said: bytes = (field.metadata or {}).get(SUGGESTED, b"")
    return said.decode()


PLACE = b"place"
"""The key of a source column's metadata that says that it is a row's place among its like, where another may come to stand."""


@dataclass(frozen=True, slots=True)
class Partition:
    """A re-readable slice of a source table. Partitions are disjoint and together complete.

    `token` is the connector's own JSON; it crosses processes and is pinned in the ledger. Where it is an object with a `file`,
    that is what people are told. `rows` and `bytes` are
    estimates, for progress only (0: unknown).
    """

    table: str
    ordinal: int
    token: str
    rows: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Origin:
    """A source row as it stood before anything read it: where, its raw bytes and, once mapped, its source key."""

    locator: Locator
    raw: bytes
    key: str | None = None


Locate = Callable[[Sequence[int]], Sequence[Origin]]
"""The origins of rows, asked for by their ordinals. Called only for the few rows that are rejected."""


@dataclass(frozen=True, slots=True)
class Reject:
    """A source row that was not loaded, with why, where and what it was."""

    ordinal: int
    rule: str
    reason: str
    origin: Origin
    column: str | None = None
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of a partition. `ordinals[i]` numbers `rows[i]`; `rejects` are the rows that could not be read.

    `partial`, where a source has it: of each of the rejects, in their order, what could be read of these columns, NULL elsewhere.
    """

    rows: pa.RecordBatch
    ordinals: Ordinals
    locate: Locate
    rejects: tuple[Reject, ...] = ()
    partial: pa.RecordBatch | None = None


class Source(Protocol):
    """Anything that rows can be read from. Connectors raise `SourceError` for what the source does wrong."""

    def tables(self) -> Sequence[str]: ...

    def schema(self, table: str, /) -> Table: ...

    def partitions(self, table: Table, /, *, rows: int, bytes: int) -> Iterator[Partition]:
        """Cut the table into slices of about `rows` rows or `bytes` bytes, whichever is smaller."""
        ...

    def read(self, partition: Partition, /, columns: Sequence[str]) -> Iterator[Batch]:
        """Read the slice; the same rows, ordinals and rejects each time, or SourceError if the source has changed."""
        ...


class Counted(Protocol):
    """A source that can count a partition's rows by other means than `read`."""

    def count(self, partition: Partition, /) -> int: ...


class Headed(Protocol):
    """A source that can say which columns each file of a table has, in its order, also where they differ."""

    def headers(self, table: str, /) -> Mapping[str, Sequence[str]]: ...


View = Literal["pinned", "asof", "live"]
"""Whether a source is immutable, read as of one moment, or moving under the reader."""


@dataclass(frozen=True, slots=True)
class Watermark:
    """A position in a source's log of changes: those after it are not in what was read. `kind`: gtid, binlog, lsn, scn."""

    kind: str
    value: str


class Viewed(Protocol):
    """A source that is not simply pinned."""

    def view(self) -> tuple[View, str]:
        """Its view, and what to tell people of it."""
        ...


class Watermarked(Protocol):
    """A source that can say from where changes have to be taken to miss none."""

    def watermark(self) -> Watermark | None: ...


@dataclass(frozen=True, slots=True)
class Notice:
    """Something about a source that was looked at before a run, and what to do where it is not as it should be."""

    level: Literal["ok", "warning", "error"]
    what: str
    said: str
    hint: str = ""


class Loaded(Protocol):
    """A source that can say how busy it is."""

    def load(self) -> int | None:
        """How many statements run there that are not this source's own; None where that may not be known."""
        ...


class Attended(Protocol):
    """A source that may have long work to do before its tables are known."""

    def attended(self, pause: Callable[[float], object], tell: Callable[[str], None], /) -> None:
        """How it waits, which raises where a stop is asked for meanwhile, and who hears how far it is."""
        ...


class Preflight(Protocol):
    """A source that knows what a run over it needs."""

    def preflight(self, tables: Sequence[str], /) -> Sequence[Notice]: ...


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key of a source table: its columns, and those of the table that they refer to, which it may be itself."""

    columns: tuple[str, ...]
    table: str
    parent_columns: tuple[str, ...]


class Related(Protocol):
    """A source that knows which tables refer to which."""

    def references(self, table: str, /) -> Sequence[Reference]: ...


class Estimated(Protocol):
    """A source that knows about how much there is."""

    def estimate(self, tables: Sequence[str], /) -> tuple[int, int]:
        """About how many rows and how many bytes these tables hold there, all together; 0: unknown."""
        ...


class Doubtful(Protocol):
    """A source that looks at some rows of a table for what a person must decide."""

    def doubts(self, table: str, /) -> Mapping[str, str]:
        """What was found in columns, by their names; no value is repeated."""
        ...


class Offering(Protocol):
    """A source that has more than its `tables`: it is read where it is named."""

    def offers(self) -> Sequence[tuple[str, str]]:
        """Names, and what each is: "view", "table of another database" or "table of another schema"."""
        ...


class Nested(Protocol):
    """A source of documents, whose fields the project file declares."""

    def arrays(self, table: str, /) -> Sequence[str]:
        """The tables that arrays of objects in a table's documents would be: `orders/lines`, then `orders/lines/taxes`."""
        ...

    def fields(self, tables: Sequence[str], /) -> Mapping[str, Any]:
        """For each of these tables its fields, as the project file spells them."""
        ...

    def kinds(self, table: str, /) -> Mapping[str, Mapping[str, int]]:
        """Of each field of a table's documents, by its path, how often each kind of value stands there, or none does."""
        ...


Kind = Literal["number", "real", "boolean", "day", "moment", "text", "padded", "bytes", "other"]
"""What two engines must mean alike of a column: days and microseconds count from 1970-01-01 (UTC), texts are Unicode
characters, `padded` ones without blanks at their end."""

Quantity = Literal["values", "sum", "least", "most", "length", "digest"]
"""values: how many are not NULL. length: the sum of characters, or of bytes. digest: the sum of the first 32 bits of the MD5 of
each value's UTF-8 bytes, or of its own, as a number without sign."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A quantity of a source column; or, with columns `beside` it, the digest of all their texts of a row together.

    That is of the texts in this order with U+001C between two of them, U+001D instead of NULL, and of 60 bits: so it stands
    for the texts' lengths, too, and tells in which row a text is.
    """

    column: str
    kind: Kind
    quantity: Quantity
    beside: tuple[tuple[str, Kind], ...] = ()


def rank(value: Decimal) -> tuple[bool, Decimal]:
    """Where a value stands among others: NaN equals itself and is the greatest, as databases have it."""
    return (True, Decimal(0)) if value.is_nan() else (False, value)


_EXACT = decimal.Context(prec=300_000, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN, traps=[])
"""For numbers of any digits that PostgreSQL has: Python's own context rounds what it adds to 28 digits."""


def total(values: Iterable[Decimal]) -> Decimal:
    """The exact sum."""
    return reduce(_EXACT.add, values, Decimal(0))


def difference(value: Decimal, less: Decimal) -> Decimal:
    """`value - less`, exactly."""
    return _EXACT.subtract(value, less)


class Aggregated(Protocol):
    """A source whose own engine computes aggregates."""

    def computes(self, table: str, measure: Measure, /) -> bool:
        """Whether the engine has this quantity, exactly."""
        ...

    def aggregates(
        self, table: str, measures: Sequence[Measure], keys: Sequence[tuple[Any, ...]] | None, /
    ) -> Sequence[Decimal | None]:
        """Of all rows, or of those with some values of `Table.key`, as the JSON of their `Origin.raw` has them; None of no value.

        Only what it `computes` may be asked.
        """
        ...


# ---------------------------------------------------------------------------------------------------- the target's side


@dataclass(frozen=True, slots=True)
class Column:
    """A target column as PostgreSQL's catalogue has it. `type` is `format_type()`'s spelling of the base type.

    `base` is the bare type name (`pg_type.typname`, domains resolved), `modifier` its length or (precision, scale),
    `labels` an enum's members. `generated` columns (always identity or stored) cannot be written.
    """

    name: str
    type: str
    base: str
    modifier: tuple[int, ...] = ()
    nullable: bool = True
    has_default: bool = False
    generated: bool = False
    labels: tuple[str, ...] = ()
    sequence: str | None = None


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A reference to a parent row. `elsewhere`: further relations (schema, name) in which the parent may stand.

    `full`: it is MATCH FULL, so that a key of which only some columns are NULL is an orphan's; else such a key names nobody.
    """

    name: str
    columns: tuple[str, ...]
    parent_schema: str
    parent_name: str
    parent_columns: tuple[str, ...]
    elsewhere: tuple[tuple[str, str], ...] = ()
    full: bool = False

    @property
    def parent(self) -> str:
        return f"{self.parent_schema}.{self.parent_name}"


@dataclass(frozen=True, slots=True)
class Check:
    """A CHECK constraint of a table, or of a column's domain; `expression` as `pg_get_expr` writes it."""

    name: str
    expression: str
    column: str | None = None


@dataclass(frozen=True, slots=True)
class TargetTable:
    """A target table: as it exists, or (`exists` false) as the mapping will make it. `name` is schema.table, unquoted."""

    schema: str
    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    uniques: tuple[tuple[str, ...], ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    checks: tuple[Check, ...] = ()
    exists: bool = True
    triggers: tuple[str, ...] = ()
    oid: int = 0

    @property
    def qualified(self) -> str:
        return f"{self.schema}.{self.name}"

    def column(self, name: str) -> Column | None:
        return next((c for c in self.columns if c.name == name), None)


@dataclass(frozen=True, slots=True)
class Wire:
    """How one target column travels: the exact Arrow type of the last batch, and the encoder it needs.

    `encoder` is "" where the Arrow type alone says it, "jsonb" where the bytes need its version prefix, and "text" where
    only PostgreSQL's own text input takes the type: one such column makes the whole table travel as CSV.
    `hashed` is false where our text may differ from PostgreSQL's canonical one, so that rows cannot be compared by it.
    """

    arrow: pa.DataType
    encoder: Literal["", "jsonb", "text"] = ""
    hashed: bool = True


@dataclass(frozen=True, slots=True)
class Described:
    """A column as it stood when its table was planned: the `type` that decides how it is read or written, and how people
    write it; `optional`: rows may leave it out."""

    type: str
    shown: str
    nullable: bool = True
    optional: bool = True


@dataclass(frozen=True, slots=True)
class Description:
    """A source or target table as it stood when it was planned, to tell later what has changed.

    `columns` are in their order; `rules` are its key and constraints, by what they are called; `rows`: about how many, as its
    engine estimates (0: unknown).
    """

    columns: Mapping[str, Described]
    rules: Mapping[str, str] = field(default_factory=dict)
    rows: int = 0


# ------------------------------------------------------------------------------------------------------------ the flow


@dataclass(frozen=True, slots=True)
class Step:
    """One batch after the mapping. The ordinals of `rows`, `merged`, `filtered` and `rejects` partition what was read.

    `rows` has exactly the mapping's wire schema; `ordinals[i]` numbers `rows[i]`.
    """

    read: int
    rows: pa.RecordBatch
    ordinals: Ordinals
    merged: Ordinals
    filtered: Ordinals
    rejects: tuple[Reject, ...]
    locate: Locate


Flow = Callable[[], Iterator[Step]]
"""Called afresh for each attempt at a chunk: data, not a mutable tally."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A partition under a mapping: the unit of commit."""

    migration: str
    table: str
    generation: int
    ordinal: int


@dataclass(frozen=True, slots=True)
class Entry:
    """What happened to a chunk's rows, immutable and signed: a chunk, table or run is the sum of its entries."""

    kind: Literal["load", "settle", "replay", "fixup"]
    chunk: Chunk
    read: int = 0
    loaded: int = 0
    merged: int = 0
    filtered: int = 0
    rejected: int = 0
    sums: bytes = field(default=b"", repr=False)

    @property
    def balanced(self) -> bool:
        return self.read == self.loaded + self.merged + self.filtered + self.rejected


Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A difference: something that should be equal and is not. Of a row, `key` and `column` say where."""

    check: str
    severity: Severity
    table: str
    message: str
    key: str | None = None
    expected: str | None = None
    actual: str | None = None
    column: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a person watching a run would want to know; `kind` says which of the fields count.

    `state` is what is being done, if it is not the loading of chunks: "paused", "waiting for …", "reading the target".
    """

    kind: Literal[
        "table",
        "electing",
        "elected",
        "chunk",
        "settled",
        "finalized",
        "replayed",
        "verifying",
        "stopping",
        "governed",
        "fetching",
    ]
    table: str = ""
    message: str = ""
    chunks: int = 0
    chunks_done: int = 0
    rows: int = 0
    rows_done: int = 0
    entry: Entry | None = None
    attempts: int = 1
    state: str = ""


OnEvent = Callable[[Event], None]
