"""What engines of databases look at alike before a run: how long it takes, connections, tables one by one, their first rows."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from connectors.relational import Field, Relation, in_words, read_as
from migrate.core import Notice, Reference
from migrate.errors import SourceError

SAMPLE = 2_000  # rows
_ROWS_A_SECOND = 100_000  # what a load is expected to manage, where nothing is known
_SPARE = 3  # connections that are left to others


def seconds(relations: Sequence[Relation]) -> int:
    """About how long the load of these tables takes, by the engine's estimates of their rows: at least a minute."""
    return max(60, sum(r.rows for r in relations) // _ROWS_A_SECOND)


def took(expected: int) -> str:
    """`seconds`, in words."""
    return f"the load of these tables takes about {expected // 60 + 1} min, at {_ROWS_A_SECOND:,} rows a second"


def connections(free: int, most: int, taken: int, limit: str) -> Notice:
    """This source has its connections already: `free` of `most` is what others may still ask for. `limit` is what to raise."""
    said = f"{free} of {most} free beside the {taken} that a run takes"
    if free < _SPARE:
        return Notice("warning", "connections", said, f"Lower `connections` of this source, or raise {limit}.")
    return Notice("ok", "connections", said)


def tables(
    relations: Sequence[Relation],
    look: Callable[[Relation], Iterable[Notice]],
    doubts: Callable[[Relation], Mapping[str, str]],
) -> Iterator[Notice]:
    """What there is to say of each table; one that cannot be read does not hide the others."""
    for relation in relations:
        try:
            yield from look(relation)
            for column, doubt in doubts(relation).items():
                yield Notice("warning", relation.name, f"{column}: {doubt}")
        except SourceError as error:
            yield Notice("error", relation.name, error.message, error.hint)


def references(rows: Iterable[Sequence[Any]], own: str) -> list[Reference]:
    """Foreign keys from rows of (constraint, column, schema, table, column there), those of one constraint in their order.

    A table of the schema `own` is named without it.
    """
    found: dict[Any, list[Sequence[Any]]] = {}
    for constraint, *parts in rows:
        found.setdefault(constraint, []).append(parts)
    return [
        Reference(
            tuple(str(p[0]) for p in parts),
            str(parts[0][2]) if parts[0][1] == own else f"{parts[0][1]}.{parts[0][2]}",
            tuple(str(p[3]) for p in parts),
        )
        for parts in found.values()
    ]


def rejecting(fields: Sequence[Field], batches: Iterable[pa.RecordBatch]) -> dict[str, str]:
    """Columns of which some of these rows hold what their type cannot: read as a run reads them, and told without a value."""
    wrong: dict[str, int] = {}
    seen = 0
    for batch in batches:
        seen += batch.num_rows
        for field, cells in zip(fields, batch.columns, strict=True):
            _, bad = read_as(field, cells)
            if bad is not None and bad.any():
                wrong[field.name] = wrong.get(field.name, 0) + int(bad.sum())
    kinds = {f.name: in_words(f.type) for f in fields}
    return {
        name: f"{count:,} of the first {seen:,} are no {kinds[name]}, and reject their row"
        for name, count in wrong.items()
    }


def mistaken(column: str, values: Sequence[bytes]) -> dict[str, str]:
    """Whether values with accents, in a column that is not declared as UTF-8, are UTF-8 nevertheless: as a doubt of it."""
    doubtful = sum(_is_utf8(value) for value in values)
    if not doubtful or 2 * doubtful <= len(values):
        return {}
    said = f"{doubtful} of {len(values)} values with accents are UTF-8 in a column that says otherwise"
    return {column: f"{said}: fix_encoding({column}) mends them"}


def _is_utf8(data: bytes) -> bool:
    try:
        return not data.decode("utf-8").isascii()
    except UnicodeDecodeError:
        return False
