"""The column types of MySQL and MariaDB: how each is fetched, what it is read as, and what suits it in PostgreSQL."""

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from connectors.relational import Field

INTEGERS = {"tinyint": 8, "smallint": 16, "mediumint": 32, "int": 32, "integer": 32, "bigint": 64}
NUMBERS = {*INTEGERS, "decimal", "float", "double", "year"}
BYTES = {"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "bit"}
TEXTS = {"char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set"}
_GEOMETRIES = {
    *("geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon"),
    *("geometrycollection", "geomcollection"),
}
LONG = {"text", "mediumtext", "longtext", "blob", "mediumblob", "longblob", "json", *_GEOMETRIES}
"""Types of whose values no bound is known that matters."""
_UTF8 = ("utf8", "utf8mb3", "utf8mb4", "ascii")
_WHOLE = ("latin1", "ucs2", "utf16", "utf16le", "utf32")
"""Character sets of which each character is one of Unicode."""
STRANGE = "\x1e no character of Unicode: "
"""What stands before the hexadecimal digits of a text that has a character which is not in Unicode."""
_SIGNED = {8: pa.int8(), 16: pa.int16(), 32: pa.int32(), 64: pa.int64()}
_UNSIGNED = {8: pa.uint8(), 16: pa.uint16(), 32: pa.uint32(), 64: pa.uint64()}
_WIDEST = 38  # digits of a decimal128


@dataclass(frozen=True, slots=True)
class Described:
    """A column, what to tell people of it, and whether slices may be cut by it."""

    field: Field
    notes: tuple[str, ...] = ()
    comparable: bool = True


def bare(native: str) -> str:
    """`int(10) unsigned` → `int`."""
    return native.partition("(")[0].partition(" ")[0]


def described(
    name: str,
    kind: str,
    native: str,
    nullable: str,
    charset: str | None,
    precision: object,
    scale: object,
    fraction: object,
    length: object,
    extra: str,
    *,
    json: bool,
    quoted: str,
    zero_dates: Literal["reject", "null", "text"],
    axes: bool,
) -> Described:
    """A column from its row of information_schema. `quoted` is its name in SQL, `json` whether its CHECK says so.

    `axes`: the server writes coordinates in the order of their reference system, unless it is told another.
    """
    kind, native, extra = kind.lower(), native.lower(), extra.lower()
    notes = [f"{name}: invisible at the source, and read"] if "invisible" in extra else []
    select, arrow, suggested, comparable, null, strange = quoted, pa.string(), "", True, "", ""
    if kind in INTEGERS:
        arrow = (_UNSIGNED if "unsigned" in native else _SIGNED)[INTEGERS[kind]]
        select = f"{quoted}+0" if "zerofill" in native else quoted
    elif kind == "decimal":
        digits, places = int(str(precision)), int(str(scale))
        arrow = pa.decimal128(digits, places) if digits <= _WIDEST else pa.string()
        suggested = f"numeric({digits},{places})"
        select = f"{quoted}+0" if "zerofill" in native else quoted
    elif kind in ("float", "double"):
        # As it stands a float is shown with six digits.
        arrow, select = (pa.float32(), f"{quoted}+0e0") if kind == "float" else (pa.float64(), quoted)
        comparable = False
    elif kind == "bit":
        wide = native != "bit(1)"
        arrow, select, suggested = (pa.uint64(), f"{quoted}+0", "") if wide else (pa.bool_(), f"{quoted}+0", "boolean")
        comparable = False
    elif kind == "year":
        arrow, select = pa.int16(), f"{quoted}+0"
    elif kind in ("date", "datetime", "timestamp"):
        arrow, suggested = _moment(kind, int(str(fraction or 0)))
        if zero_dates == "text":
            arrow, suggested = pa.string(), ""
        elif zero_dates == "null":
            digits = int(str(fraction or 0))
            null = "0000-00-00" if kind == "date" else "0000-00-00 00:00:00" + ("." + "0" * digits if digits else "")
    elif kind == "time":
        notes.append(f"{name}: {native} is read as text, for it reaches from -838:59:59 to 838:59:59")
    elif kind in BYTES:
        arrow, select = pa.binary(), f"HEX({quoted})"
    elif kind in TEXTS:
        charset = charset or "utf8mb4"
        select = quoted if charset in _UTF8 else f"CONVERT({quoted} USING utf8mb4)"
        if charset not in (*_UTF8, *_WHOLE):
            strange = STRANGE
            select = _sound(quoted, select)
        if kind in ("char", "varchar") and length:
            suggested = f"{'char' if kind == 'char' else 'varchar'}({length})"
        if json:
            suggested = "jsonb"
        comparable = kind in ("char", "varchar")
    elif kind == "json":
        select, suggested, comparable = f"CAST({quoted} AS CHAR)", "jsonb", False
    elif kind in _GEOMETRIES:
        srid, text = f"ST_SRID({quoted})", f"ST_AsText({quoted})"
        # EWKT has x, the longitude, first: MySQL 8 would write the latitude first where that is what EPSG says.
        placed = f"ST_AsText({quoted}, 'axis-order=long-lat')" if axes else text
        select = f"IF({srid} = 0, {text}, CONCAT('SRID=', {srid}, ';', {placed}))"
        notes.append(f"{name}: {native} is read as text (EWKT)")
        comparable = False
    elif kind in ("uuid", "inet4", "inet6"):
        select, suggested = f"CAST({quoted} AS CHAR)", "uuid" if kind == "uuid" else "inet"
        comparable = kind == "uuid"
    else:
        select, comparable = f"CAST({quoted} AS CHAR)", False
        notes.append(f"{name}: {native} is read as text")
    field = Field(name, native, arrow, select, nullable != "NO", suggested, null, strange)
    return Described(field, tuple(notes), comparable)


def most_bytes(field: Field) -> int | None:
    """What a text takes at most in UTF-8; None of a type that is not bounded by a good deal less than memory is."""
    kind = bare(field.native)
    if kind in ("char", "varchar"):
        return 4 * int(field.native.partition("(")[2].partition(")")[0])
    if kind in ("enum", "set"):
        return 4 * len(field.native)
    return {"tinytext": 4 * 255, "text": 4 * 65_535}.get(kind)


def _sound(quoted: str, converted: str) -> str:
    """SQL of a text in UTF-8. The server makes `?` of what is not in Unicode: then there are more of them than there were."""
    fewer = " = ".join(f"CHAR_LENGTH(REPLACE({text}, '?', ''))" for text in (converted, quoted))
    sound = f"LOCATE('?', {converted}) = 0 OR {fewer}"
    return f"IF({quoted} IS NULL OR {sound}, {converted}, CONCAT('{STRANGE}', HEX({quoted})))"


def _moment(kind: str, fraction: int) -> tuple[pa.DataType, str]:
    if kind == "date":
        return pa.date32(), "date"
    if kind == "datetime":
        return pa.timestamp("us"), f"timestamp({fraction})"
    return pa.timestamp("us", "UTC"), f"timestamptz({fraction})"
