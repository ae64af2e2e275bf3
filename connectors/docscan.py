"""What a scan of documents finds: for each field that is wanted, in each document, what kind of value stands there, and where.

Documents are spans of one buffer, BSON or JSON; a `Form` knows which. Nothing is decoded before a column asks for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Data = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]
Kinds = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

# Kinds of values: BSON's own numbers (https://bsonspec.org/spec.html), and NUMBER for JSON's.
ABSENT, DOUBLE, STRING, OBJECT, ARRAY, BINARY, UNDEFINED, OBJECTID, BOOLEAN, DATE, NULL = range(11)
REGEX, DBPOINTER, CODE, SYMBOL, SCOPED, INT32, TIMESTAMP, INT64, DECIMAL, NUMBER = range(11, 21)
MAXKEY, MINKEY = 127, 255
NOTHING = (NULL, UNDEFINED)

Type = Literal["text", "integer", "double", "decimal", "boolean", "moment", "objectid", "binary", "uuid", "json"]
"""What a field is read as. A value of any kind is json; of the others each takes only what it can hold exactly."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A field to look for. `at`: its place in `Scan.cells`. `fields`: looked for in it, where it is an object."""

    name: str
    at: int
    fields: tuple["Wanted", ...] = ()


@dataclass(frozen=True, slots=True)
class Cells:
    """One value for each document (or element): its kind, ABSENT where there is none, and its bytes in the buffer.

    The span holds the value alone: of a BSON string its length prefix too, of a JSON one its quotes, of objects and arrays all.
    """

    kinds: Kinds
    starts: Offsets
    ends: Offsets

    def take(self, at: Offsets) -> "Cells":
        """Those at these places."""
        return Cells(self.kinds[at], self.starts[at], self.ends[at])


@dataclass(frozen=True, slots=True)
class Others:
    """Fields that stand in documents, or in objects of theirs that are looked into, and are not wanted.

    `documents[i]` is the document's place; `within[i]` is `Wanted.at` of the object that it stands in, -1 the document itself.
    """

    documents: Offsets
    within: Offsets
    name_starts: Offsets
    name_ends: Offsets
    cells: Cells


@dataclass(frozen=True, slots=True)
class Scan:
    """`cells[w.at]` for each wanted field. `faults`: documents, by their place, that are none, with why.

    A key that an object holds twice is a fault: one of its values would be lost.
    """

    cells: Sequence[Cells]
    others: Others
    faults: Mapping[int, str]


class Form(Protocol):
    """BSON or JSON. Vectorised: no loop over documents, but for those with faults."""

    def scan(self, data: Data, starts: Offsets, ends: Offsets, wanted: Sequence[Wanted], /) -> Scan:
        """Look for fields in the documents at `starts[i]:ends[i]`."""
        ...

    def elements(self, data: Data, cells: Cells, /) -> tuple[Offsets, Cells, Mapping[int, str]]:
        """The elements of arrays, in their order: which of the cells each is of, and itself. Cells of other kinds have none.

        Last the arrays, by their place among the cells, that are damaged inside, with why: their elements are not given.
        """
        ...

    def values(self, data: Data, cells: Cells, type_: Type, /) -> tuple[pa.Array, Mask]:
        """The values as `ARROW[type_]`, and which of them are not exactly of that type (NULL there).

        An absent value is NULL, and so is a null one, save that json has it as `null`.
        """
        ...

    def names(self, data: Data, starts: Offsets, ends: Offsets, /) -> list[str]:
        """Names of fields as texts."""
        ...


ARROW: Mapping[Type, pa.DataType] = {
    "text": pa.string(),
    "integer": pa.int64(),
    "double": pa.float64(),
    "decimal": pa.string(),  # as PostgreSQL's numeric reads it: a Decimal128 may have 6,000 digits
    "boolean": pa.bool_(),
    "moment": pa.timestamp("us", "UTC"),
    "objectid": pa.string(),  # 24 hexadecimal digits
    "binary": pa.binary(),
    "uuid": pa.string(),
    "json": pa.string(),  # extended JSON, relaxed (https://github.com/mongodb/specifications, extended-json)
}
