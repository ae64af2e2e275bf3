"""Oracle's SQL of aggregates: those that are exact, and equal to what PostgreSQL computes of the same values; no others.

Left out are sums that may have more digits than a NUMBER holds, lengths and digests of texts whose bytes are not those of
UTF-8, and what the server cannot compute of LOB and LONG.
"""

import re
from dataclasses import dataclass

import pyarrow as pa

from connectors.oracletypes import as_text, bare
from connectors.relational import Field
from migrate.core import Measure, Quantity

_SUMMED = 26  # digits of a column whose sum is exact: 38 are for certain, and no table has more than 10¹² rows
_DIGITS = {pa.int16(): 4, pa.int32(): 9, pa.int64(): 18}
_EMPTY = 0xD41D8CD9
"""The first 32 bits of the MD5 of no bytes: blanks that fill a CHAR are an empty text to PostgreSQL, and NULL to Oracle."""
_SHORT = 1333  # UTF-16 units whose UTF-8 surely fits the 4,000 bytes of a text
_PLAIN = ("NUMBER", "FLOAT", "BINARY_FLOAT", "BINARY_DOUBLE", "DATE", "RAW", "CHAR", "VARCHAR2", "NCHAR", "NVARCHAR2")


@dataclass(frozen=True, slots=True)
class Encoded:
    """The database's character sets: of CHAR and VARCHAR2, and of NCHAR and NVARCHAR2; "" where it does not tell."""

    usual: str = ""
    national: str = ""


def aggregate(field: Field, quoted: str, measure: Measure, encoded: Encoded) -> str | None:
    """SQL of a quantity, whose value is fetched as text, or as a number that the driver gives exactly."""
    kind = bare(field.native)
    if measure.quantity == "values":
        return _values(kind, quoted)
    match measure.kind:
        case "number" if kind == "NUMBER":
            return None if measure.quantity == "sum" and not _summed(field) else _whole(measure.quantity, quoted)
        case "real" if kind in ("BINARY_FLOAT", "BINARY_DOUBLE") and measure.quantity in ("least", "most"):
            return f"{_WAYS[measure.quantity]}(TO_BINARY_DOUBLE({quoted}))"
        case "boolean" if kind == "BOOLEAN":
            return _whole(measure.quantity, f"CASE WHEN {quoted} THEN 1 WHEN NOT {quoted} THEN 0 END")
        case "moment" if kind == "DATE" or kind.startswith("TIMESTAMP"):
            return _whole(measure.quantity, _microseconds(kind, quoted))
        case "text" | "padded":
            return _of_text(field, kind, quoted, measure, encoded)
        case "bytes":
            return _of_bytes(kind, quoted, measure.quantity)
    return None


_WAYS = {"sum": "SUM", "length": "SUM", "digest": "SUM", "least": "MIN", "most": "MAX"}


def _whole(quantity: Quantity, value: str) -> str:
    """Spelled by the server: the driver makes doubles of numbers whose digits no column declares."""
    return f"TO_CHAR({_WAYS[quantity]}({value}), 'TM9', 'NLS_NUMERIC_CHARACTERS=''.,''')"


def _values(kind: str, quoted: str) -> str | None:
    if kind in ("LONG", "LONG RAW"):  # of which there is no expression
        return None
    return f"COUNT({quoted})" if kind in _PLAIN else f"COUNT(CASE WHEN {quoted} IS NOT NULL THEN 1 END)"


def _summed(field: Field) -> bool:
    """Whether the column's sum is exact: of what is fetched as text the catalogue does not promise the digits."""
    digits = _DIGITS.get(field.type) or (field.type.precision if pa.types.is_decimal(field.type) else None)
    return not as_text(field) and digits is not None and digits <= _SUMMED


def _microseconds(kind: str, quoted: str) -> str:
    """Since 1970, from the parts of the date: by subtraction, those before 1582 would be counted in the Julian calendar."""
    moment = quoted
    if kind == "DATE" or kind.endswith("LOCAL TIME ZONE"):
        moment = f"CAST({quoted} AS TIMESTAMP(9))"  # the session's time zone is UTC
    elif kind.endswith("TIME ZONE"):
        moment = f"SYS_EXTRACT_UTC({quoted})"

    def part(name: str) -> str:
        return f"EXTRACT({name} FROM {moment})"

    months = f"({part('YEAR')} * 12 + {part('MONTH')} - 3)"  # since March of the year 0: so a leap day ends its year
    year = f"FLOOR({months} / 12)"
    days = (
        f"365 * {year} + FLOOR({year} / 4) - FLOOR({year} / 100) + FLOOR({year} / 400) "
        f"+ FLOOR((153 * MOD({months}, 12) + 2) / 5) + {part('DAY')} - 719469"
    )
    return f"((({days}) * 24 + {part('HOUR')}) * 60 + {part('MINUTE')}) * 60000000 + {part('SECOND')} * 1000000"


def _of_text(field: Field, kind: str, quoted: str, measure: Measure, encoded: Encoded) -> str | None:
    national = kind.startswith("N")
    if kind not in ("CHAR", "VARCHAR2", "NCHAR", "NVARCHAR2"):
        return None
    if (encoded.national if national else encoded.usual) != ("AL16UTF16" if national else "AL32UTF8"):
        return None
    text = f"RTRIM({quoted})" if measure.kind == "padded" else quoted
    if measure.quantity == "length":
        return _whole("length", f"LENGTH4({text})")
    if national:
        length = int(re.sub(r"\D", "", field.native.partition("(")[2]) or _SHORT + 1)
        if length > _SHORT or encoded.usual != "AL32UTF8":
            return None
        text = f"TO_CHAR({text})"
    empty = f" WHEN {quoted} IS NOT NULL THEN {_EMPTY}" if measure.kind == "padded" else ""
    return _whole("digest", f"CASE WHEN {text} IS NOT NULL THEN {_hashed(text)}{empty} END")


def _of_bytes(kind: str, quoted: str, quantity: Quantity) -> str | None:
    if kind == "BLOB":
        return _whole(quantity, f"DBMS_LOB.GETLENGTH({quoted})") if quantity == "length" else None
    if kind != "RAW":
        return None
    if quantity == "length":
        return _whole(quantity, f"VSIZE({quoted})")
    return _whole(quantity, f"CASE WHEN {quoted} IS NOT NULL THEN {_hashed(quoted)} END")


def _hashed(value: str) -> str:
    """Of NULL there is a hash too: it is asked of values only."""
    return f"TO_NUMBER(SUBSTR(RAWTOHEX(STANDARD_HASH({value}, 'MD5')), 1, 8), 'XXXXXXXX')"
