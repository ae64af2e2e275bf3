"""Aggregates of both sides: asks the source's engine and the target for the same quantities of each column.

The two computations share nothing, neither driver nor mapping: so they see what the row hash cannot, a fault of the reader.
Of rows that were not loaded the source is asked once more, by their keys, and that is taken off.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import cast

import numpy as np
import pyarrow as pa

from mappings.cells import Cell
from mappings.compile import Mapping
from mappings.ddl import quote
from mappings.typemap import INTEGERS
from migrate import ledger
from migrate.core import SUGGESTED, Aggregated, Chunk, Finding, Kind, Measure, Partition, Quantity, Table
from migrate.engine import Session
from migrate.ledger import TableState
from migrate.pipeline import Pipeline
from validators import aggregates as validator

_MOST_KEYS = 200_000  # rows that are asked for by their keys
_LEAVES_ROOM = 400  # aggregates in one statement


def compare(work: Session, mapping: Mapping, state: TableState, partitions: Sequence[Partition]) -> list[Finding]:
    """The differences between the aggregates of both sides, and a warning where these cannot be had."""
    name = state.name
    fates = ledger.fates(work.conn, work.migration, name)[0]
    source = work.source_of(mapping.spec)
    if not hasattr(source, "aggregates"):
        return []
    if not ledger.alone(state, fates):
        return [_uncovered(name, "its rows stand among others in the target")]
    engine, table = cast(Aggregated, source), mapping.source
    asked = [each for each in _asked(work, mapping, state) if engine.computes(table.name, _measure(*each))]
    measures = [_measure(*each) for each in asked]
    if not measures:
        return [_uncovered(name, "the source's engine computes none of them")]
    whole = _of(lambda some: engine.aggregates(table.name, some, None), measures)
    without: Sequence[Decimal | None] = [None] * len(measures)
    if chunks := ledger.excluded_chunks(work.conn, work.migration, name, state.generation):
        keys = _excluded(work, mapping, state, [p for p in partitions if p.ordinal in chunks])
        if keys is None:
            return [_uncovered(name, "rows that were not loaded have no key to ask the source for, or are too many")]
        found = _of(lambda some: engine.aggregates(table.name, some, keys), measures)
        without = [Decimal(0) if value is None else value for value in found]
    target = _of_target(work, mapping, asked)
    columns = [cell.column.name for cell, _, _ in asked]
    live = any(reading.view == "live" for reading in ledger.readings(work.conn, work.migration, name))
    moved = "; the source moves: it may have changed since" if live else ""
    findings = validator.compare(name, columns, measures, whole, without, target, moved)
    left = [c.column.name for c in mapping.cells if c.column.name not in columns]
    weak = sorted(set(columns) - {cell.column.name for cell, _, quantity in asked if quantity != "values"})
    if left or weak:
        parts = [f"not compared by aggregates: {', '.join(left)}"] if left else []
        parts += [f"compared by number only: {', '.join(weak)}"] if weak else []
        findings.append(_uncovered(name, "; ".join(parts), whole=False))
    return findings


def _uncovered(name: str, why: str, *, whole: bool = True) -> Finding:
    said = f"{name}: aggregates were not compared: {why}" if whole else f"{name}: {why}"
    return Finding("aggregates.uncovered", "warning", name, said)


# ------------------------------------------------------------------------------------------------ what can be compared


def _asked(work: Session, mapping: Mapping, state: TableState) -> Iterator[tuple[Cell, Kind, Quantity]]:
    """The quantities of each column that holds what the source's does, neither computed, taken over nor redirected."""
    conn, migration = work.conn, work.migration
    changed = {column for table, column, _, _ in ledger.orphans(conn, migration) if table == state.name}
    changed |= ledger.overridden_columns(conn, migration, state.name, state.generation)
    for reference in mapping.references:
        if len(work.keys(reference.table, reference.parent_columns)):
            changed |= set(reference.columns)
    for cell in mapping.cells:
        if cell.expression.column is None or cell.column.name in changed:
            continue
        kind = kind_of(mapping.source, cell, texts_change=bool(mapping.spec.nullif) or mapping.spec.nul != "reject")
        if kind is not None:
            yield from ((cell, kind, quantity) for quantity in validator.QUANTITIES[kind])


def kind_of(source: Table, cell: Cell, *, texts_change: bool) -> Kind | None:
    """What both sides mean by a column; `other` where only the number of values must be equal, None where not even that."""
    field = source.schema.field(cell.expression.column)
    kind, base = field.type, cell.column.base
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        return "number" if base in (*INTEGERS, "numeric") else "other"
    if pa.types.is_boolean(kind):
        return "boolean" if base == "bool" else "other"
    if pa.types.is_floating(kind):
        return "real" if base == ("float4" if kind == pa.float32() else "float8") else "other"
    if pa.types.is_date(kind):
        return "day" if base == "date" else "other"
    if pa.types.is_timestamp(kind):
        return "moment" if base == ("timestamptz" if kind.tz else "timestamp") else "other"
    if pa.types.is_binary(kind):
        return "bytes" if base == "bytea" else "other"
    if not pa.types.is_string(kind):
        return "other"
    if texts_change:
        return None
    if base == "uuid" and (field.metadata or {}).get(SUGGESTED) == b"uuid":
        return "text"
    if base == "numeric" and not cell.column.modifier:
        return "other"
    return "text" if base in ("text", "varchar") or cell.column.labels else "padded" if base == "bpchar" else "other"


# ------------------------------------------------------------------------------------------------------ the two sides


def _measure(cell: Cell, kind: Kind, quantity: Quantity) -> Measure:
    return Measure(cell.expression.column or "", kind, quantity)


def _of(
    ask: Callable[[Sequence[Measure]], Sequence[Decimal | None]], measures: Sequence[Measure]
) -> list[Decimal | None]:
    """The source's answers, some at a time."""
    rooms = range(0, len(measures), _LEAVES_ROOM)
    return [value for first in rooms for value in ask(measures[first : first + _LEAVES_ROOM])]


def _of_target(work: Session, mapping: Mapping, asked: Sequence[tuple[Cell, Kind, Quantity]]) -> list[Decimal | None]:
    relation = quote(mapping.target.schema, mapping.target.name)
    found: list[Decimal | None] = []
    for first in range(0, len(asked), _LEAVES_ROOM):
        wanted = ", ".join(f"({_expression(*each)})::text" for each in asked[first : first + _LEAVES_ROOM])
        row = work.conn.execute(f"SELECT {wanted} FROM {relation}").fetchone()
        assert row is not None
        found += [None if value is None else Decimal(value) for value in row]
    return found


def _expression(cell: Cell, kind: Kind, quantity: Quantity) -> str:
    """PostgreSQL's SQL of a quantity. An epoch by the minute is exact in a double, which it is before PostgreSQL 14."""
    column = quote(cell.column.name)
    if quantity == "values":
        return f"count({column})"
    clock = f"({column} AT TIME ZONE 'UTC')" if cell.column.base == "timestamptz" else column
    minute = f"extract(epoch FROM date_trunc('minute', {clock}))::bigint::numeric * 1000000"
    values = {
        "real": f"{column}::float8",  # not a float's own shorter text
        "boolean": f"{column}::int",
        "day": f"({column} - DATE '1970-01-01')",
        "moment": f"({minute} + extract(microseconds FROM {clock})::bigint)",
        "text": f"{column}::text",
        "padded": f"rtrim({column}::text, ' ')",
    }
    value = values.get(kind, column)
    ways = {
        "sum": f"sum({value})",
        "least": f"min({value})",
        "most": f"max({value})",
        "length": f"sum({'octet_length' if kind == 'bytes' else 'length'}({value}))",
        "digest": f"sum(('x' || left(md5({value}), 8))::bit(32)::bigint)",
    }
    return ways[quantity]


def _excluded(
    work: Session, mapping: Mapping, state: TableState, partitions: Sequence[Partition]
) -> list[tuple[str, ...]] | None:
    """The source keys of rows that were not loaded; None where they have none, or are too many to ask for."""
    key = mapping.source.key
    if not key:
        return None
    of = Chunk(work.migration, state.name, state.generation, 0)
    source = work.source_of(mapping.spec)
    whole = Pipeline(mapping, work.context, source, of, work.keys, work.connect)
    keys: list[tuple[str, ...]] = []
    try:
        for partition in partitions:
            chunk = Chunk(work.migration, state.name, state.generation, partition.ordinal)
            gone = np.array(ledger.rejected(work.conn, chunk, replayed=False), np.int64)
            for step in whole.steps(partition):
                refused = step.ordinals[np.isin(step.ordinals, gone)]
                origins = list(step.locate([int(o) for o in (*refused, *step.merged, *step.filtered)]))
                origins += [r.origin for r in step.rejects if r.ordinal in gone]
                for origin in origins:
                    values = json.loads(origin.raw)
                    keys.append(tuple(str(values[name]) for name in key))
            if len(keys) > _MOST_KEYS:
                return None
    finally:
        whole.close()
    return keys
