"""A PostgreSQL type as people spell it, to what PostgreSQL's catalogue says of a column made with that spelling."""

import re

from mappings.faults import suggest

_ALL_FIELDS = 0x7FFF  # of an interval: the upper half of its modifier
_MOST_LETTERS, _MOST_BITS, _MOST_DIGITS = 10_485_760, 83_886_080, 1000


class UnknownType(ValueError):
    """A type that a made table cannot have, or that is not understood; `hint` says what to write."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


# pg_type.typname, and how format_type() spells it
_NAMES = {
    "bool": "boolean",
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "float4": "real",
    "float8": "double precision",
    "varchar": "character varying",
    "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone",
    "time": "time without time zone",
    "timetz": "time with time zone",
    "varbit": "bit varying",
}
_SAME = """
    bytea text name citext xml json jsonb jsonpath uuid date interval numeric bpchar bit money oid inet cidr macaddr
    macaddr8 point line lseg box path polygon circle tsvector tsquery pg_lsn xid xid8 int4range int8range numrange
    tsrange tstzrange daterange int4multirange int8multirange nummultirange tsmultirange tstzmultirange datemultirange
"""
_SPELLED = {**_NAMES, **{name: name for name in _SAME.split()}, "char": '"char"'}
_BIT, _CHAR = ("bit",), ("character", "char", "national character", "national char", "nchar")
_WORDS = {
    **{name: name for name in _SPELLED if name != "char"},
    **{spelled: name for name, spelled in _NAMES.items()},
    **dict.fromkeys(_CHAR, "bpchar"),
    **{f"{name} varying": "varchar" for name in _CHAR},
    '"char"': "char",
    "int": "int4",
    "float": "float8",
    "decimal": "numeric",
    "dec": "numeric",
}
_SERIALS = ("serial", "bigserial", "smallserial", "serial2", "serial4", "serial8")
_ELSEWHERE = {
    "blob": "bytea",
    "binary": "bytea",
    "varbinary": "bytea",
    "raw": "bytea",
    "clob": "text",
    "nclob": "text",
    "string": "text",
    "ntext": "text",
    "mediumtext": "text",
    "longtext": "text",
    "varchar2": "varchar",
    "nvarchar": "varchar",
    "nvarchar2": "varchar",
    "number": "numeric",
    "double": "double precision",
    "tinyint": "smallint",
    "mediumint": "integer",
    "datetime": "timestamp",
    "datetime2": "timestamp",
    "smalldatetime": "timestamp(0)",
    "datetimeoffset": "timestamptz",
    "uniqueidentifier": "uuid",
}
_LENGTHS = {"varchar": _MOST_LETTERS, "bpchar": _MOST_LETTERS, "bit": _MOST_BITS, "varbit": _MOST_BITS}
_CLOCKS = ("time", "timetz", "timestamp", "timestamptz", "interval")
_ARRAY = r"\s*(?:(?:\[\s*\d*\s*\]\s*)+|\barray\s*(?:\[\s*\d+\s*\])?)"
_MODIFIED = r"([^()]*?)\s*\(\s*([^()]*?)\s*\)\s*([^()]*)"


def parse_type(text: str) -> tuple[str, str, tuple[int, ...]]:
    """format_type()'s spelling, typname and modifier, as the catalogue gives them, of a type as a person writes it.

    `dec(10,2)` is ("numeric(10,2)", "numeric", (10, 2)). Raises UnknownType for what is not a built-in type: nothing is
    guessed, for then a table would look different to the run that makes it and to the next one.
    """
    written = " ".join(text.split())
    spelled = written if '"' in written else written.lower()
    array = re.search(_ARRAY + "$", spelled)
    if array:
        spelled = spelled[: array.start()].strip()
    name, given = spelled, None
    if found := re.fullmatch(_MODIFIED, spelled):
        name, given = f"{found[1]} {found[3]}".strip(), found[2]
        if found[3] and not re.fullmatch(r"with(out)? time zone", found[3]):
            name = spelled  # only these words may follow
    base = _WORDS.get(name)
    if base is None:
        raise _unknown(written, name)
    numbers = _numbers(written, given)
    if name == "float" and numbers:
        base, numbers = ("float4" if _within(written, numbers, 1, 53) <= 24 else "float8"), ()
    elif name in (*_BIT, *_CHAR) and not numbers:
        numbers = (1,)
    modifier = _modifier(written, base, numbers)
    spelled = _spelled(base, modifier)
    return (f"{spelled}[]", f"_{base}", modifier) if array else (spelled, base, modifier)


def _numbers(written: str, given: str | None) -> tuple[int, ...]:
    """What stands in the parentheses; () where there are none."""
    if given is None:
        return ()
    if not re.fullmatch(r"[+-]?\d+(\s*,\s*[+-]?\d+)*", given):
        raise UnknownType(f'"{written}" is no type', "Between the parentheses stand whole numbers: numeric(10,2).")
    return tuple(int(part) for part in given.split(","))


def _modifier(written: str, base: str, numbers: tuple[int, ...]) -> tuple[int, ...]:
    """The modifier as the catalogue's column has it; UnknownType where the type takes none, or not this one."""
    if not numbers:
        return ()
    if base == "numeric":
        precision, scale = (*numbers, 0)[:2]
        if len(numbers) > 2 or not (1 <= precision <= _MOST_DIGITS and -_MOST_DIGITS <= scale <= _MOST_DIGITS):
            hint = f"numeric(precision, scale) has a precision of 1 to {_MOST_DIGITS} digits and a scale up to that."
            raise UnknownType(f'"{written}" is no type', hint)
        return precision, scale
    if base in _LENGTHS:
        return (_within(written, numbers, 1, _LENGTHS[base]),)
    if base in _CLOCKS:
        digits = _within(written, numbers, 0, 6)
        return (_ALL_FIELDS << 16 | digits if base == "interval" else digits,)
    raise UnknownType(f'"{written}" is no type', f"{_SPELLED[base]} takes no numbers in parentheses.")


def _within(written: str, numbers: tuple[int, ...], least: int, most: int) -> int:
    if len(numbers) != 1 or not least <= numbers[0] <= most:
        raise UnknownType(f'"{written}" is no type', f"In its parentheses stands one number from {least} to {most}.")
    return numbers[0]


def _spelled(base: str, modifier: tuple[int, ...]) -> str:
    """format_type()'s spelling."""
    name = _SPELLED[base]
    if not modifier:
        return name
    if base == "bpchar":
        name = "character"
    shown = modifier if base != "interval" else (modifier[0] & 0xFFFF,)
    head, space, tail = name.partition(" ") if base in _CLOCKS else (name, "", "")
    return f"{head}({','.join(map(str, shown))}){space}{tail}"


def _unknown(written: str, name: str) -> UnknownType:
    said = f'"{written}" is no type that a table made here can have'
    first = name.partition(" ")[0].partition("(")[0]
    if name in _SERIALS:
        hint = "Use bigint, and an identity column on a table that exists."
    elif first in _ELSEWHERE:
        hint = f"PostgreSQL's own is {_ELSEWHERE[first]}."
    elif first == "interval":
        hint = "Use interval, or interval(0) to interval(6)."
    else:
        near = suggest(name, _WORDS).strip()
        hint = f"{near} " if near else ""
        hint += (
            "For an enum, a domain or an extension's type make the table yourself: its columns' types are then used."
        )
    return UnknownType(said, hint)
