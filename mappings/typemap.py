"""PostgreSQL types: which one a value becomes where nobody says, and how each travels (`Wire`)."""

import re

import pyarrow as pa

from migrate.core import Column, Wire

INTEGERS = {"int2": ("SMALLINT", pa.int16()), "int4": ("INTEGER", pa.int32()), "int8": ("BIGINT", pa.int64())}
FLOATS = {"float4": ("FLOAT", pa.float32()), "float8": ("DOUBLE", pa.float64())}
TEXTS = ("text", "varchar", "bpchar", "citext", "name", "xml")
JSONS = ("json", "jsonb")

WIRES: dict[str, tuple[str, pa.DataType]] = {
    **INTEGERS,
    **FLOATS,
    "bool": ("BOOLEAN", pa.bool_()),
    "bytea": ("BLOB", pa.binary()),
    "date": ("DATE", pa.date32()),
    "time": ("TIME", pa.time64("us")),
    "timestamp": ("TIMESTAMP", pa.timestamp("us")),
    "timestamptz": ("TIMESTAMP WITH TIME ZONE", pa.timestamp("us", "UTC")),
    "uuid": ("BLOB", pa.binary(16)),
    "json": ("VARCHAR", pa.string()),
    **{name: ("VARCHAR", pa.string()) for name in TEXTS},
}
_MICROSECONDS = 6
_SECOND = 12  # its bit in an interval's modifier, whose upper half says which fields it has
_LISTED = ("bool", *INTEGERS, *FLOATS, "text", "date", "timestamp", "timestamptz")


def inferred(duckdb_type: str) -> str | None:
    """The PostgreSQL type for a column whose type nobody gave, or None where an expression's type has none."""
    if found := re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", duckdb_type):
        return f"numeric({found[1]},{found[2]})"
    if duckdb_type.endswith("[]"):
        item = inferred(duckdb_type[:-2])
        return None if item is None or item.endswith("[]") else f"{item}[]"
    if duckdb_type.startswith(("STRUCT", "MAP")):
        return "jsonb"
    if duckdb_type.startswith("ENUM"):
        return "text"
    return _INFERRED.get(duckdb_type)


_INFERRED = {
    "VARCHAR": "text",
    "BOOLEAN": "boolean",
    "TINYINT": "smallint",
    "UTINYINT": "smallint",
    "SMALLINT": "smallint",
    "USMALLINT": "integer",
    "INTEGER": "integer",
    "UINTEGER": "bigint",
    "BIGINT": "bigint",
    "UBIGINT": "numeric(20,0)",
    "HUGEINT": "numeric",
    "UHUGEINT": "numeric",
    "FLOAT": "real",
    "DOUBLE": "double precision",
    "DATE": "date",
    "TIME": "time",
    "TIMESTAMP": "timestamp",
    "TIMESTAMP_S": "timestamp",
    "TIMESTAMP_MS": "timestamp",
    "TIMESTAMP_NS": "timestamp",
    "TIMESTAMP WITH TIME ZONE": "timestamptz",
    "INTERVAL": "interval",
    "UUID": "uuid",
    "JSON": "jsonb",
    "BLOB": "bytea",
}


def wire_of(column: Column) -> Wire:
    """How a column travels: in the exact Arrow type that COPY's binary form needs, or as text for PostgreSQL to read."""
    base = column.base
    if base in WIRES:
        return Wire(WIRES[base][1])
    if base == "jsonb":
        return Wire(pa.string(), "jsonb")
    if column.labels:
        return Wire(pa.string())
    if base == "numeric":
        if fixed(column):
            return Wire(pa.decimal128(*column.modifier))
        return Wire(pa.string(), "text", hashed=not column.modifier)
    if base.startswith("_") and base[1:] in _LISTED and not column.labels:
        return Wire(pa.list_(WIRES[base[1:]][1]))
    return Wire(pa.string(), "text", hashed=False)


def comparable(column: Column) -> bool:
    """Whether two values are equal for PostgreSQL exactly where they travel as the same value."""
    if column.base in ("citext", *JSONS) or (column.base == "bpchar" and not column.modifier):
        return False
    return wire_of(column).encoder == ""


def keeps_seconds(column: Column) -> bool:
    """Whether an interval column has the field of seconds: one that ends before drops what is finer."""
    return not column.modifier or bool(column.modifier[0] >> 16 & 1 << _SECOND)


def fraction(column: Column) -> int:
    """How many digits of a second's fraction a column of times or intervals keeps."""
    digits = column.modifier[0] & 0xFFFF if column.modifier else _MICROSECONDS
    return min(digits, _MICROSECONDS)


def fixed(column: Column) -> bool:
    """Whether a numeric column has a precision and scale that a decimal128 holds."""
    return len(column.modifier) == 2 and column.modifier[0] <= 38 and 0 <= column.modifier[1] <= column.modifier[0]
