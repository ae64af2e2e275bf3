"""Several source tables as one: their rows one after the other, their columns side by side by name."""

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace

import pyarrow as pa

from migrate.core import Batch, Partition, Source, Table
from migrate.errors import SourceError, UsageError

ORIGIN = "_source"
"""The column that says which part a row is from."""


def part_of(partition: Partition) -> str:
    """The label of the part that a union's partition is of."""
    return str(json.loads(partition.token)["part"])


@dataclass(frozen=True, slots=True)
class _Part:
    """A source table, and its name for each column of the union that it has."""

    label: str
    source: Source
    table: Table
    names: Mapping[str, str]


class Union:
    """`Source` and `Counted` over parts, each a label, a source and a table of it; as safe with threads as these are.

    Columns are the same where their names are, whatever their case; a part without one reads as NULL there. Raises
    UsageError where the same column has two types, or where a part has a column `_source`.
    """

    def __init__(self, parts: Sequence[tuple[str, Source, Table]]) -> None:
        self.name = " + ".join(label for label, _, _ in parts)
        fields: dict[str, pa.Field] = {}
        first: dict[str, str] = {}
        self._parts: dict[str, _Part] = {}
        for label, source, table in parts:
            names: dict[str, str] = {}
            for field in table.schema:
                folded = field.name.casefold()
                if folded == ORIGIN:
                    raise UsageError(
                        f'{label} has a column "{field.name}": in a table of several sources that says where a row is from',
                        hint="give the source's columns other names with the option `columns:`",
                    )
                known = fields.setdefault(folded, field)
                first.setdefault(folded, label)
                if known.type != field.type:
                    raise UsageError(
                        f'"{known.name}" is {known.type} in {first[folded]} and {field.type} in {label}',
                        hint="read the two as tables of their own, or give the column another name in one of them",
                    )
                names[known.name] = field.name
            self._parts[label] = _Part(label, source, table, names)
        self._schema = pa.schema([*(field.with_nullable(True) for field in fields.values()), (ORIGIN, pa.string())])

    def instead(self, label: str, source: Source, table: Table, columns: Sequence[str]) -> "Union":
        """The same columns of one part alone, read from another source.

        Raises UsageError where that lacks any of `columns` which the part has.
        """
        own = self._parts[label].names
        there = {name.casefold(): name for name in table.schema.names}
        missing = [own[column] for column in columns if column in own and column.casefold() not in there]
        if missing:
            raise UsageError(
                f"column {', '.join(missing)} is missing",
                hint=f"It has the header of {label}: {', '.join(own.values())}.",
            )
        other = copy(self)
        names = {column: there[column.casefold()] for column in own if column.casefold() in there}
        other._parts = {label: _Part(label, source, table, names)}
        return other

    def tables(self) -> Sequence[str]:
        return (self.name,)

    def schema(self, table: str, /) -> Table:
        """All parts' columns, in the order of their first appearance, and `_source`."""
        if table != self.name:
            raise UsageError(f"no table {table!r} in {self.name}")
        said = []
        for part in self._parts.values():
            said += [f"{part.label}: {note}" for note in part.table.notes]
            lacking = [name for name in self._schema.names[:-1] if name not in part.names]
            said += [f"{part.label}: without {', '.join(lacking)}: NULL there"] if lacking else []
        warned = [f"{part.label}: {told}" for part in self._parts.values() for told in part.table.warnings]
        refused: dict[str, str] = {}
        for part in self._parts.values():
            own = {column: part.table.refused.get(name) for column, name in part.names.items()}
            refused |= {column: f"{part.label}: {why}" for column, why in own.items() if why}
        return Table(table, self._schema, (), tuple(said), tuple(warned), refused)

    def partitions(self, table: Table, /, *, rows: int, bytes: int) -> Iterator[Partition]:
        """The parts' own partitions, numbered on from part to part."""
        ordinal = 0
        for part in self._parts.values():
            for own in part.source.partitions(part.table, rows=rows, bytes=bytes):
                token = json.dumps({"part": part.label, "token": own.token}, ensure_ascii=False)
                yield replace(own, table=table.name, ordinal=ordinal, token=token)
                ordinal += 1

    def read(self, partition: Partition, /, columns: Sequence[str]) -> Iterator[Batch]:
        """The part's own batches with these columns; ordinals, rejects and places are the part's."""
        part, own = self._opened(partition)
        names = [part.names[column] for column in columns if column in part.names]
        # A batch without columns would have no rows.
        for batch in part.source.read(own, names or part.table.schema.names[:1]):
            partial = None if batch.partial is None else self._widened(batch.partial, part, columns)
            yield replace(batch, rows=self._widened(batch.rows, part, columns), partial=partial)

    def count(self, partition: Partition, /) -> int:
        """As the part counts its rows, if need be by reading them."""
        part, own = self._opened(partition)
        if hasattr(part.source, "count"):
            return int(part.source.count(own))
        batches = part.source.read(own, part.table.schema.names[:1])
        return sum(len(batch.ordinals) + len(batch.rejects) for batch in batches)

    def _opened(self, partition: Partition) -> tuple[_Part, Partition]:
        token = json.loads(partition.token)
        part = self._parts.get(token["part"])
        if part is None:
            raise SourceError(
                f"the plan reads {token['part']}, which is not among {self.name} any more",
                hint="put it back under `from:`, or start over with: migrate run --restart",
            )
        return part, replace(partition, table=part.table.name, token=token["token"])

    def _widened(self, rows: pa.RecordBatch, part: _Part, columns: Sequence[str]) -> pa.RecordBatch:
        fields = [self._schema.field(column) for column in columns]
        arrays = [
            rows.column(part.names[field.name])
            if field.name in part.names
            else pa.repeat(pa.scalar(part.label if field.name == ORIGIN else None, field.type), rows.num_rows)
            for field in fields
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))
