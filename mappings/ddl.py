"""The SQL text that makes target tables; the statements are run elsewhere."""

from collections.abc import Sequence

from migrate.core import ForeignKey, TargetTable

_MOST_COLUMNS = 1600
FEWER_COLUMNS = "Leave some out, keep those in one column (`rest: pack_rest()`), or make two tables of it."


def too_wide(columns: int) -> str:
    """What is wrong with a table of so many columns, of which `FEWER_COLUMNS` are needed; "" where PostgreSQL takes it."""
    return f"{columns:,} columns, and PostgreSQL takes {_MOST_COLUMNS:,} at most" if columns > _MOST_COLUMNS else ""


def quote(*names: str) -> str:
    """A PostgreSQL identifier, or a dotted path of them."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def columns(names: Sequence[str]) -> str:
    """A comma-separated list of quoted column names."""
    return ", ".join(quote(name) for name in names)


def create_table(table: TargetTable, *, unlogged: bool = False) -> str:
    """CREATE TABLE for a table made from the mapping: its columns and NOT NULLs. Only a dry run's may be unlogged."""
    lines = [f"{quote(c.name)} {c.type}{'' if c.nullable else ' NOT NULL'}" for c in table.columns]
    return (
        f"CREATE {'UNLOGGED ' if unlogged else ''}TABLE {quote(table.schema, table.name)} (\n    "
        + ",\n    ".join(lines)
        + "\n)"
    )


def add_key(table: TargetTable) -> str:
    """ALTER TABLE that builds the primary key of a table made from the mapping."""
    return f"ALTER TABLE {quote(table.schema, table.name)} ADD PRIMARY KEY ({columns(table.key)})"


def add_foreign_key(table: TargetTable, key: ForeignKey) -> str:
    """ALTER TABLE that builds a foreign key of a table made from the mapping, under a name of the server's choice."""
    parent = f"{quote(key.parent_schema, key.parent_name)} ({columns(key.parent_columns)})"
    return f"ALTER TABLE {quote(table.schema, table.name)} ADD FOREIGN KEY ({columns(key.columns)}) REFERENCES {parent}"
