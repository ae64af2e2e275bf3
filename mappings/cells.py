"""A compiled column and a compiled CHECK: what the mapper runs."""

from dataclasses import dataclass, field

from mappings.convert import Conversion
from mappings.direct import Direct
from mappings.expression import Expression
from mappings.sql import identifier
from migrate.core import Column, Wire


@dataclass(frozen=True, slots=True)
class Cell:
    """One target column: its expression, the way of that into the column's type, and the short cut where there is one."""

    column: Column
    expression: Expression
    conversion: Conversion
    wire: Wire
    direct: Direct | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Screen:
    """A CHECK constraint that is decided here: `broken` is SQL over the values of `columns`, which `value_name` names."""

    name: str
    broken: str
    columns: tuple[int, ...]


def value_name(index: int) -> str:
    """The SQL name of a target column's value, by its place in `Mapping.columns`."""
    return identifier(f"·v{index}")
