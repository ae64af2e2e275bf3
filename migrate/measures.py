"""Aggregates of both sides: asks the source's engine and the target for the same quantities of each column.

The two computations share nothing, neither driver nor mapping: so they see what the row hash cannot, a fault of the reader.
Of rows that were not loaded the source is asked once more, by their keys, and that is taken off.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar, cast

import numpy as np
import pyarrow as pa

from mappings.cells import Cell
from mappings.compile import Mapping
from mappings.ddl import quote
from mappings.typemap import INTEGERS
from migrate import ledger
from migrate.core import Aggregated, Chunk, Finding, Kind, Measure, Partition, Quantity, Table, suggested
from migrate.engine import Session
from migrate.ledger import TableState
from migrate.pipeline import Pipeline
from validators import aggregates as validator
from validators.aggregates import Answer

T = TypeVar("T")
Key = tuple[Any, ...]

_MOST_KEYS = 200_000  # rows that are asked for by their keys
_LEAVES_ROOM = 400  # aggregates in one statement
_TOGETHER = 90  # texts of one digest: PostgreSQL's functions take up to 100 arguments


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
    asked = [each for each in _asked(work, mapping, state) if engine.computes(table.name, each.measure)]
    if not asked:
        return [_uncovered(name, "the source's engine computes none of them")]
    keys = None
    if chunks := ledger.excluded_chunks(work.conn, work.migration, name, state.generation):
        keys = _excluded(work, mapping, state, [p for p in partitions if p.ordinal in chunks])
        if keys is None:
            return [_uncovered(name, "rows that were not loaded have no key to ask the source for, or are too many")]
    ask = partial(_answers, work, mapping, engine, keys)
    texts = _texts(asked, lambda measure: engine.computes(table.name, measure))
    if len(texts) > 1:
        # The lengths and digests of each text cost most of all, and only say in which of them a difference is.
        own = [(each.columns, quantity) for each in texts for quantity in ("length", "digest")]
        later = [each for each in asked if (each.columns, each.measure.quantity) in own]
        answers = ask([*(each for each in asked if each not in later), _joined(texts)])
        if answers[-1].differs:
            answers += ask(later)
    else:
        answers = ask(asked)
    live = any(reading.view == "live" for reading in ledger.readings(work.conn, work.migration, name))
    moved = "; the source moves: it may have changed since" if live else ""
    columns = list(dict.fromkeys(each.columns[0] for each in asked))
    answers.sort(key=lambda answer: columns.index(answer.columns[0]))
    findings = validator.compare(name, answers, moved)
    left = [c.column.name for c in mapping.cells if c.column.name not in columns]
    weak = sorted(set(columns) - {each.columns[0] for each in asked if each.measure.quantity != "values"})
    bounded = sorted({each.columns[0] for each in asked if each.measure.kind == "real"} - set(weak))
    if left or weak or bounded:
        parts = [f"not compared by aggregates: {', '.join(left)}"] if left else []
        parts += [f"compared by number only: {', '.join(weak)}"] if weak else []
        parts += [f"compared by number, least and greatest only: {', '.join(bounded)}"] if bounded else []
        findings.append(_uncovered(name, "; ".join(parts), whole=False))
    return findings


def _uncovered(name: str, why: str, *, whole: bool = True) -> Finding:
    said = f"{name}: aggregates were not compared: {why}" if whole else f"{name}: {why}"
    return Finding("aggregates.uncovered", "warning", name, said)


# ------------------------------------------------------------------------------------------------ what can be compared


@dataclass(frozen=True, slots=True)
class _Asked:
    """A quantity that both sides are asked for. `value` is the target's SQL of what it is of in each row."""

    columns: tuple[str, ...]
    measure: Measure
    value: str

    @property
    def aggregate(self) -> str:
        """The target's SQL of it."""
        digits = 15 if self.measure.beside else 8
        ways = {
            "values": f"count({self.value})",
            "sum": f"sum({self.value})",
            "least": f"min({self.value})",
            "most": f"max({self.value})",
            "length": f"sum({'octet_length' if self.measure.kind == 'bytes' else 'length'}({self.value}))",
            "digest": f"sum(('x' || left(md5({self.value}), {digits}))::bit({4 * digits})::bigint)",
        }
        return ways[self.measure.quantity]


def _asked(work: Session, mapping: Mapping, state: TableState) -> Iterator[_Asked]:
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
            for quantity in validator.QUANTITIES[kind]:
                measure = Measure(cell.expression.column, kind, quantity)
                yield _Asked((cell.column.name,), measure, _value(cell, kind, quantity))


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
    if base == "uuid" and suggested(field) == "uuid":
        return "text"
    if base == "numeric" and not cell.column.modifier:
        return "other"
    return "text" if base in ("text", "varchar") or cell.column.labels else "padded" if base == "bpchar" else "other"


def _value(cell: Cell, kind: Kind, quantity: Quantity) -> str:
    """PostgreSQL's SQL of a value. An epoch by the minute is exact in a double, which it is before PostgreSQL 14.

    Infinity is a number that no finite values add up to, so that it differs from what any source holds: none has it loaded.
    """
    column = quote(cell.column.name)
    if quantity == "values":
        return column
    clock = f"({column} AT TIME ZONE 'UTC')" if cell.column.base == "timestamptz" else column
    minute = f"extract(epoch FROM date_trunc('minute', {clock}))::bigint::numeric * 1000000"
    values = {
        "real": f"{column}::float8",  # not a float's own shorter text
        "boolean": f"{column}::int",
        "day": f"({column} - DATE '1970-01-01')",
        "moment": f"({minute} + extract(microseconds FROM {clock})::bigint)",
        "text": f"{column}::text",
        "padded": f"{column}::text",  # which the blanks that fill it are not in
    }
    value = values.get(kind, column)
    if kind not in ("day", "moment"):
        return value
    far = f"WHEN {column} > 'epoch' THEN {validator.INFINITE} WHEN {column} IS NOT NULL THEN -{validator.INFINITE}"
    return f"CASE WHEN isfinite({column}) THEN {value} {far} END"


def _texts(asked: Sequence[_Asked], computes: Callable[[Measure], bool]) -> list[_Asked]:
    """The digests of texts that the source's engine has of all of them together, too."""
    texts: list[_Asked] = []
    for each in asked:
        if each.measure.quantity == "digest" and each.measure.kind in ("text", "padded") and len(texts) < _TOGETHER:
            before = texts or [each]  # whether the first one can be among them is asked of it beside itself
            if computes(_joined([*before, each]).measure):
                texts.append(each)
    return texts


def _joined(texts: Sequence[_Asked]) -> _Asked:
    """The digest of all of these texts of a row together."""
    first, *others = (each.measure for each in texts)
    measure = replace(first, beside=tuple((other.column, other.kind) for other in others))
    value = f"concat_ws(chr(28), {', '.join(f'coalesce({each.value}, chr(29))' for each in texts)})"
    return _Asked(tuple(each.columns[0] for each in texts), measure, value)


# ------------------------------------------------------------------------------------------------------ the two sides


def _answers(
    work: Session, mapping: Mapping, engine: Aggregated, keys: Sequence[Key] | None, asked: Sequence[_Asked]
) -> list[Answer]:
    """What both sides say, at the same time. `keys` are those of the rows that were not loaded; None: all were."""
    table, measures = mapping.source.name, [each.measure for each in asked]
    with ThreadPoolExecutor(1) as beside:
        in_target = beside.submit(_of_target, work, mapping, asked)
        try:
            source = _some_at_a_time(lambda some: engine.aggregates(table, some, None), measures)
            without: Sequence[Decimal | None] = [None for _ in measures]
            if keys is not None:
                found = _some_at_a_time(lambda some: engine.aggregates(table, some, keys), measures)
                without = [Decimal(0) if value is None else value for value in found]
            target = in_target.result()
        except KeyboardInterrupt:
            work.conn.cancel()  # else it would be waited for
            raise
    return [
        Answer(each.columns, each.measure, *values)
        for each, *values in zip(asked, source, without, target, strict=True)
    ]


def _some_at_a_time(ask: Callable[[Sequence[T]], Sequence[Decimal | None]], asked: Sequence[T]) -> list[Decimal | None]:
    rooms = range(0, len(asked), _LEAVES_ROOM)
    return [value for first in rooms for value in ask(asked[first : first + _LEAVES_ROOM])]


def _of_target(work: Session, mapping: Mapping, asked: Sequence[_Asked]) -> list[Decimal | None]:
    relation = quote(mapping.target.schema, mapping.target.name)

    def ask(some: Sequence[_Asked]) -> list[Decimal | None]:
        wanted = ", ".join(f"({each.aggregate})::text" for each in some)
        row = work.conn.execute(f"SELECT {wanted} FROM {relation}").fetchone()
        assert row is not None
        return [None if value is None else Decimal(value) for value in row]

    return _some_at_a_time(ask, asked)


def _excluded(work: Session, mapping: Mapping, state: TableState, partitions: Sequence[Partition]) -> list[Key] | None:
    """The source keys of rows that were not loaded; None where they have none, or are too many to ask for."""
    key = mapping.source.key
    if not key:
        return None
    of = Chunk(work.migration, state.name, state.generation, 0)
    source = work.source_of(mapping.spec)
    whole = Pipeline(mapping, work.context, source, of, work.keys, work.connect)
    keys: list[Key] = []
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
                    if not values.keys() >= set(
                        key
                    ):  # an element of an array: the document that it is in has no such key
                        return None
                    keys.append(tuple(values[name] for name in key))
            if len(keys) > _MOST_KEYS:
                return None
    finally:
        whole.close()
    return keys
