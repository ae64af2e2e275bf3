"""Oracle's types: how a column of each is fetched, what it is read as, and what suits it in PostgreSQL.

The driver is trusted with texts, bytes, binary floats and numbers of a declared precision. It makes doubles of other numbers,
cuts what is finer than microseconds, drops time zones and fails at years before Christ: those arrive as text that the server
spells, and Arrow reads or refuses it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from connectors.relational import Field
from migrate.errors import SourceError

_WIDEST = 38  # digits of a decimal128
_INTEGERS = ((4, pa.int16()), (9, pa.int32()), (18, pa.int64()))
_TM9 = "'TM9', 'NLS_NUMERIC_CHARACTERS=''.,'''"
_DATE = "SYYYY-MM-DD HH24:MI:SS"
_NUMERAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(E[+-]?[0-9]+)?", re.IGNORECASE)
_MICROSECONDS = 6
_LOBS = {"CLOB": 3, "NCLOB": 3, "BLOB": 1, "BFILE": 1}  # bytes that a unit of its length may take
_UNMEASURED = {"LONG", "LONG RAW", "XMLTYPE", "JSON", "VECTOR", "SDO_GEOMETRY"}
_TEXTS = {"CHAR", "VARCHAR2", "VARCHAR", "NCHAR", "NVARCHAR2"}


@dataclass(frozen=True, slots=True)
class Column:
    """A row of ALL_TAB_COLS. `length` counts the characters of a text, the bytes of anything else."""

    name: str
    type: str
    owner: str | None = None
    precision: int | None = None
    scale: int | None = None
    length: int = 0
    nullable: bool = True
    virtual: bool = False
    hidden: bool = False
    distinct: int | None = None


@dataclass(frozen=True, slots=True)
class Described:
    """A column, what to tell people of it, and whether slices may be cut by it. No field: it cannot be read."""

    field: Field | None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    comparable: bool = False


class _Made(Protocol):
    def __call__(self, arrow: pa.DataType, select: str, suggested: str = "", native: str = "", /) -> Field: ...


def bare(native: str) -> str:
    """`TIMESTAMP(6) WITH TIME ZONE` → `TIMESTAMP WITH TIME ZONE`, `NUMBER(10,2)` → `NUMBER`."""
    return re.sub(r"\([^)]*\)", "", native)


def described(column: Column, quoted: str, *, sure: bool) -> Described:
    """A column from its row of the catalogue. `quoted` is its name in SQL.

    `sure`: that the catalogue knows the precision of its numbers, which it does for columns that are stored in a table.
    """
    kind = bare(column.type)
    notes = []
    if column.hidden:
        notes.append(f"{column.name}: invisible at the source, and read")
    elif column.virtual:
        notes.append(f"{column.name}: computed at the source, and read as any other")
    found = _described(column, kind, quoted, sure and not column.virtual)
    if found is None:
        owner = f"{column.owner}." if column.owner not in (None, "SYS", "PUBLIC") else ""
        warning = (
            f"{column.name}: {owner}{column.type} is a type that cannot be read, so this column is left out; "
            "to have it, read a view in which its parts are columns"
        )
        return Described(None, tuple(notes), (warning,))
    return Described(found.field, (*notes, *found.notes), (), found.comparable)


def _described(column: Column, kind: str, quoted: str, sure: bool) -> Described | None:
    def made(arrow: pa.DataType, select: str, suggested: str = "", native: str = "") -> Field:
        return Field(column.name, native or column.type, arrow, select, column.nullable, suggested)

    if kind in ("NUMBER", "FLOAT"):
        arrow, suggested, native = _number(column, kind)
        plain = sure and kind == "NUMBER" and column.precision is not None and not pa.types.is_string(arrow)
        select = quoted if plain else f"TO_CHAR({quoted}, {_TM9})"
        return Described(made(arrow, select, suggested, native), comparable=True)
    if kind in ("BINARY_FLOAT", "BINARY_DOUBLE"):
        return Described(made(pa.float32() if kind == "BINARY_FLOAT" else pa.float64(), quoted))
    if kind in _TEXTS:
        padded = kind in ("CHAR", "NCHAR")
        suggested = f"{'char' if padded else 'varchar'}({column.length})" if column.length else ""
        native = f"{kind}({column.length})" if column.length else kind
        return Described(made(pa.string(), quoted, suggested, native), comparable=True)
    if kind == "DATE":
        return Described(made(pa.timestamp("us"), spelled(kind, quoted), "timestamp(0)"), comparable=True)
    if kind.startswith("TIMESTAMP"):
        return _moment(column, kind, made, quoted)
    if kind.startswith("INTERVAL"):
        return Described(made(pa.string(), f"TO_CHAR({quoted})", "interval"))
    if kind == "RAW":
        return Described(made(pa.binary(), quoted, "", f"RAW({column.length})"), comparable=True)
    return _large(column, kind, made, quoted)


def _number(column: Column, kind: str) -> tuple[pa.DataType, str, str]:
    """What a number is read as, what suits it, and how its type is spelled."""
    if kind == "FLOAT":
        return pa.string(), "numeric", f"FLOAT({column.precision})"
    digits, scale = column.precision, column.scale
    if digits is None and scale is None:
        return pa.string(), "numeric", "NUMBER"
    native = f"NUMBER({'*' if digits is None else digits},{scale or 0})"
    digits, places = _WIDEST if digits is None else digits, scale or 0
    whole = max(0, digits - places)  # a negative scale has so many zeros before the point
    wide, places = max(whole + max(0, places), 1), max(0, places)
    if wide > _WIDEST:
        return pa.string(), f"numeric({wide},{places})" if column.precision is not None else "numeric", native
    if places == 0 and column.precision is not None:
        for limit, arrow in _INTEGERS:
            if wide <= limit:
                return arrow, "", native
    return pa.decimal128(wide, places), f"numeric({wide},{places})", native


def _moment(column: Column, kind: str, made: _Made, quoted: str) -> Described:
    fraction = min(column.scale if column.scale is not None else _MICROSECONDS, 9)
    notes: tuple[str, ...] = ()
    if fraction > _MICROSECONDS:
        notes = (f"{column.name}: a value finer than microseconds rejects its row",)
    digits = min(fraction, _MICROSECONDS)
    if kind == "TIMESTAMP":
        select = spelled(column.type, quoted, fraction)
        return Described(made(pa.timestamp("us"), select, f"timestamp({digits})"), notes, comparable=True)
    if kind == "TIMESTAMP WITH TIME ZONE":
        notes += (f"{column.name}: read as a moment in UTC; which time zone it was written in is lost",)
        moment = f"SYS_EXTRACT_UTC({quoted})"
    else:
        moment = quoted  # the server shows it in the session's time zone, which is UTC
    select = spelled("TIMESTAMP", moment, fraction)
    return Described(made(pa.timestamp("us", "UTC"), select, f"timestamptz({digits})"), notes)


def _large(column: Column, kind: str, made: _Made, quoted: str) -> Described | None:
    name = column.name
    if kind in ("CLOB", "NCLOB", "LONG"):
        return Described(made(pa.string(), quoted))
    if kind in ("BLOB", "LONG RAW"):
        return Described(made(pa.binary(), quoted))
    if kind == "BFILE":
        note = f"{name}: the contents of the file are read; one that the server cannot open fails its chunk"
        return Described(made(pa.binary(), f"TO_BLOB({quoted})"), (note,))
    if kind == "ROWID":
        return Described(made(pa.string(), f"ROWIDTOCHAR({quoted})", "text"))
    if kind == "UROWID":
        return Described(made(pa.string(), f"CAST({quoted} AS VARCHAR2(4000))", "text"))
    if kind == "BOOLEAN":
        return Described(made(pa.bool_(), quoted))
    if kind == "XMLTYPE":
        return Described(made(pa.string(), f"XMLSERIALIZE(CONTENT {quoted} AS CLOB)", "xml"))
    if kind == "JSON":
        # What is said of errors matters: unasked, the server makes NULL of a value that it cannot write.
        return Described(made(pa.string(), f"JSON_SERIALIZE({quoted} RETURNING CLOB ERROR ON ERROR)", "jsonb"))
    if kind == "VECTOR":
        note = f"{name}: VECTOR is read as text, as in [1.0E+000,2.5E+000]"
        return Described(made(pa.string(), f"FROM_VECTOR({quoted} RETURNING CLOB)", "text"), (note,))
    if kind == "SDO_GEOMETRY":
        srid, text = f"{quoted}.SDO_SRID", f"SDO_UTIL.TO_WKTGEOMETRY({quoted})"
        select = (
            f"CASE WHEN {quoted} IS NULL THEN NULL WHEN {srid} IS NULL THEN {text} "
            f"ELSE TO_CLOB('SRID=' || {srid} || ';') || {text} END"
        )
        note = f"{name}: SDO_GEOMETRY is read as text (EWKT) with Oracle's own SRID"
        return Described(made(pa.string(), select, "text"), (note,))
    return None


# ----------------------------------------------------------------------------------------------------------------- SQL


def spelled(native: str, sql: str, fraction: int = 0) -> str:
    """SQL of a DATE's or TIMESTAMP's text, with the sign of its year."""
    mask = _DATE if bare(native) == "DATE" or not fraction else f"{_DATE}.FF{fraction}"
    return f"LTRIM(TO_CHAR({sql}, '{mask}'))"


def boundary_text(field: Field, quoted: str) -> str:
    """SQL of a key's text that `literal` turns into the same key."""
    kind = bare(field.native)
    if kind in ("NUMBER", "FLOAT"):
        return f"TO_CHAR({quoted}, {_TM9})"
    if kind == "RAW":
        return f"RAWTOHEX({quoted})"
    return field.select


def literal(field: Field, text: str) -> str:
    """SQL of a key of the column's own type: of another one the column would be converted, and its index not used.

    Raises SourceError for a text that is no number where the column is one.
    """
    kind = bare(field.native)
    if kind in ("NUMBER", "FLOAT"):
        if not _NUMERAL.fullmatch(text):
            raise SourceError(f"{field.name}: {text!r} is no {field.native}")
        return text
    if kind == "RAW":
        return f"HEXTORAW({text_literal(text)})"
    if kind == "DATE" or kind.startswith("TIMESTAMP"):
        # With a blank for the sign of its year, as the mask has it, and as the server itself spells such literals.
        text = text if text.startswith("-") else f" {text}"
        mask = f"{_DATE}.FF9" if "." in text else _DATE
        moment = f"TO_{'DATE' if kind == 'DATE' else 'TIMESTAMP'}({text_literal(text)}, '{mask}')"
        return f"FROM_TZ({moment}, '+00:00')" if kind.endswith("ZONE") else moment
    return national(text) if kind.startswith("N") else text_literal(text)


def text_literal(text: str) -> str:
    return "'" + text.replace("'", "''").replace("\0", "'||CHR(0)||'") + "'"


def national(text: str) -> str:
    """A text of the national character set: a plain literal passes through the database's own, and loses what that has not."""
    if text.isascii() and "\0" not in text:
        return f"N{text_literal(text)}"
    units = text.encode("utf-16-be")
    coded = []
    for at in range(0, len(units), 2):
        unit = int.from_bytes(units[at : at + 2], "big")
        letter = chr(unit)
        coded.append(letter if letter.isascii() and letter.isalnum() else f"\\{unit:04X}")
    return f"UNISTR('{''.join(coded)}')"


# ----------------------------------------------------------------------------------------------------- what is fetched


def requested(fields: Sequence[Field]) -> pa.Schema:
    """What the driver is asked for. Whole numbers as decimals: making an integer, it cuts what stands behind the point."""
    return pa.schema([pa.field(f"c{at}", _asked(f)) for at, f in enumerate(fields)])


def _asked(field: Field) -> pa.DataType:
    if pa.types.is_integer(field.type) and not as_text(field):
        return pa.decimal128(next(limit for limit, arrow in _INTEGERS if arrow == field.type), 0)
    return pa.string() if as_text(field) else field.type


def as_text(field: Field) -> bool:
    """Whether the server spells the value, for Arrow to read."""
    return field.select.startswith(("TO_CHAR(", "LTRIM(TO_CHAR("))


def received(field: Field, cells: pa.Array) -> pa.Array:
    """Values of the driver's, of the field's type or as text; texts of which one is no UTF-8 as bytes."""
    kind = bare(field.native)
    if pa.types.is_large_string(cells.type) or pa.types.is_large_binary(cells.type):
        cells = cells.cast(pa.string() if pa.types.is_large_string(cells.type) else pa.binary())
    if pa.types.is_string(cells.type):
        if as_text(field):
            return _tidied(kind, cells)
        try:
            cells.validate(full=True)
        except pa.ArrowInvalid:  # the server passes on what it stores, and checks none of it
            return cells.view(pa.binary())
        return cells
    return cells.cast(field.type) if pa.types.is_integer(field.type) else cells


def _tidied(kind: str, texts: pa.Array) -> pa.Array:
    """The server's texts as PostgreSQL and Arrow read them."""
    if kind in ("NUMBER", "FLOAT"):
        return pc.replace_substring_regex(texts, r"^(-?)\.", r"\10.")
    if kind.startswith("INTERVAL DAY"):
        # To PostgreSQL the sign of the days says nothing of the hours: -01 02:00:00 would be 22 hours ago.
        texts = pc.replace_substring_regex(texts, r"^([+-])(\d+) (\d)", r"\1\2 \1\3")
    if kind.startswith(("INTERVAL DAY", "TIMESTAMP")):
        return pc.replace_substring_regex(texts, r"(\.\d{6})000$", r"\1")
    return texts


def fixed_bytes(field: Field) -> int:
    """The most that a value may take in memory, 0 for a large one, whose length no type limits."""
    kind = bare(field.native)
    if kind in _LOBS or kind in _UNMEASURED:
        return 0
    if kind in _TEXTS or kind == "RAW":
        length = int(re.sub(r"\D", "", field.native.partition("(")[2]) or 4000)
        return length if kind == "RAW" else min(4 * length, max(8000, length))
    return 4000 if kind == "UROWID" else 40


def measured(field: Field, quoted: str) -> str | None:
    """SQL of about the bytes that a large value takes; None where only reading it would tell."""
    unit = _LOBS.get(bare(field.native))
    return None if unit is None else f"NVL(DBMS_LOB.GETLENGTH({quoted}), 0) * {unit}"


def is_large(field: Field) -> bool:
    return fixed_bytes(field) == 0
