"""Slices of a table between two keys: how they are cut, written as SQL and kept in a partition's token.

Every boundary is the upper end of one slice and the lower end of the next, in the same words: `k <= x` and `k > x`. So the
slices tile the table whatever the key's type and collation, and whatever is inserted meanwhile, for it is the engine that
compares. A key column that may be NULL has a slice of its own for NULL.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

Key = tuple[str, ...]
"""A key's values as texts that the engine's `literal` makes SQL of."""


@dataclass(frozen=True, slots=True)
class Slice:
    """The rows with `after` < key <= `upto`; None: no limit at that end. `null`: the rows whose key is NULL instead.

    `own` is a slice by the engine's own means (ROWIDs, physical places), which only the engine understands.
    """

    after: Key | None = None
    upto: Key | None = None
    null: bool = False
    own: str | None = None

    def dump(self, table: str, by: Key) -> str:
        """A partition's token: the slice, the table that it is of, and the columns by which that is cut and ordered.

        In ASCII, for a key may hold what no UTF-8 has.
        """
        parts = {k: v for k, v in asdict(self).items() if v not in (None, False)}
        return json.dumps({"table": table, "by": by, **parts})

    @staticmethod
    def load(token: str) -> "tuple[str, Key, Slice]":
        parts = json.loads(token)
        table, by = str(parts.pop("table")), tuple(parts.pop("by"))
        ends = {end: tuple(parts[end]) for end in ("after", "upto") if end in parts}
        return table, by, Slice(**{**parts, **ends})


def condition(slice_: Slice, columns: Sequence[str], literals: Callable[[Key], Sequence[str]]) -> str:
    """SQL of "is in the slice" over quoted columns; "" where the slice is the whole table.

    A comparison of whole rows would be shorter, but SQL Server and Oracle have none and MySQL does not use an index for it.
    """
    if slice_.null:
        return f"{columns[0]} IS NULL"
    parts = []
    if slice_.after is not None:
        parts.append(_beyond(columns, literals(slice_.after), ">", ">"))
    if slice_.upto is not None:
        parts.append(_beyond(columns, literals(slice_.upto), "<", "<="))
    return " AND ".join(parts)


def _beyond(columns: Sequence[str], values: Sequence[str], strict: str, last: str) -> str:
    """Lexicographically beyond a key. What comes first bounds the leading column, so that an index can be used."""
    if len(columns) == 1:
        return f"{columns[0]} {last} {values[0]}"
    ways = []
    for at in range(len(columns)):
        equal = [f"{c} = {v}" for c, v in zip(columns[:at], values[:at], strict=True)]
        ways.append(" AND ".join([*equal, f"{columns[at]} {last if at == len(columns) - 1 else strict} {values[at]}"]))
    return f"{columns[0]} {strict}= {values[0]} AND ({' OR '.join(f'({way})' for way in ways)})"


def cut(boundary: Callable[[Slice], Key | None], after: Key | None = None, until: Key | None = None) -> Iterator[Slice]:
    """Slices of a table, or of a span of it, in the order of its key; the last one ends where the span does.

    `boundary` gives the key at which a slice that reaches to the span's end is full, None where it never is.
    """
    while True:
        upto = boundary(Slice(after, until))
        yield Slice(after, until if upto is None else upto)
        if upto is None or upto == until:
            return
        after = upto
