"""The column types of SQL Server: how each is fetched, what it is read as, how a key of it is written in SQL."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

import pyarrow as pa

from connectors.relational import Field

Fine = Literal["reject", "text", "cut"]
"""What becomes of 100 ns, which neither Arrow's microseconds nor PostgreSQL hold."""

_INTEGERS = {"tinyint": pa.uint8(), "smallint": pa.int16(), "int": pa.int32(), "bigint": pa.int64()}
_MONEY = {"money": 19, "smallmoney": 10}
_UNICODE = {"nchar", "nvarchar"}
_TEXTS = {"char", "varchar", *_UNICODE}
_OLD_TEXTS = {"text": "varchar", "ntext": "nvarchar"}
_BYTES = {"binary", "varbinary"}
_LONGEST = 4000  # characters of an nvarchar that is none of (max)
_MICROSECONDS = 6
_UNKNOWN = 64  # bytes that a value of a short type takes at most


@dataclass(frozen=True, slots=True)
class Column(Field):
    """A field of SQL Server. `kind` is its base type, `expression` its quoted name, `collation` that of a text.

    `size` are the most bytes that a value takes in memory; 0: it has no bound. `comparable`: slices may be cut by it.
    `notes` are what to tell people of it.
    """

    kind: str = ""
    expression: str = ""
    collation: str = ""
    scale: int = 0
    size: int = 0
    comparable: bool = True
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> bool:
        """Whether it is fetched as Unicode text of any characters, and not as the text of a number or a moment."""
        return self.kind in _TEXTS or self.kind in _OLD_TEXTS or self.kind in ("xml", "sql_variant", "json", "other")

    @property
    def sent(self) -> str:
        """SQL of its value as it is fetched: a text as the bytes of UTF-16, of which no driver makes anything else."""
        if not self.text:
            return self.select
        return f"CAST({self.select} AS varbinary({self.size // 2 or 'max'}))"  # `size` is 4 bytes a code unit

    @property
    def fetched(self) -> pa.DataType:
        """What it comes as, before a text is cast to `type`."""
        if self.text:
            return pa.binary()
        written = self.kind in ("datetimeoffset", "time") or (self.kind == "datetime2" and self.scale > _MICROSECONDS)
        return pa.string() if written else self.type


@dataclass(frozen=True, slots=True)
class Catalogued:
    """A column as sys.columns has it; `kind` is the name of its base type, `declared` of the type that it was given.

    `length` is in bytes, -1 for (max). `assembly`: the type is one of a CLR assembly.
    """

    name: str
    kind: str
    declared: str
    length: int = 0
    precision: int = 0
    scale: int = 0
    nullable: bool = True
    collation: str = ""
    hidden: bool = False
    assembly: bool = False


def name_of(name: str) -> str:
    """A name in brackets."""
    return f"[{name.replace(']', ']]')}]"


def described(column: Catalogued, fine: Fine = "reject") -> Column:
    """How a column is read."""
    kind, q = column.kind.lower(), name_of(column.name)
    native = _native(column, kind)
    notes = [f"{column.name}: hidden at the source, and read"] if column.hidden else []
    if column.declared.lower() not in (kind, "sysname") and kind not in ("hierarchyid", "geometry", "geography"):
        notes.append(f"{column.name}: {column.declared} is {native}")
    select, arrow, suggested, size, comparable = q, pa.string(), "", _UNKNOWN, True
    if column.assembly:
        kind, size, comparable = "clr", 0, False
        arrow, select = pa.binary(), f"CAST({q} AS varbinary(max))"
        notes = [
            f"{column.name}: {column.declared} is a type of an assembly, and is read as the bytes that it is kept in"
        ]
    elif kind in _INTEGERS:
        arrow = _INTEGERS[kind]
        suggested = "smallint" if kind == "tinyint" else ""
    elif kind == "bit":
        arrow = pa.bool_()
    elif kind in ("decimal", "numeric"):
        arrow, suggested = pa.decimal128(column.precision, column.scale), f"numeric({column.precision},{column.scale})"
    elif kind in _MONEY:
        digits = _MONEY[kind]
        arrow, suggested = pa.decimal128(digits, 4), f"numeric({digits},4)"
        select = f"CAST({q} AS decimal({digits}, 4))"  # a driver may make a double of money
    elif kind in ("float", "real"):
        arrow, comparable = pa.float64() if kind == "float" else pa.float32(), False
    elif kind == "date":
        arrow = pa.date32()
    elif kind in ("datetime", "smalldatetime"):
        # A tick of a datetime is a third of 10 ms, which is written with three digits.
        digits = 3 if kind == "datetime" else 0
        arrow, suggested, select = pa.timestamp("us"), f"timestamp({digits})", f"CAST({q} AS datetime2({digits}))"
    elif kind in ("datetime2", "datetimeoffset", "time"):
        select, arrow, suggested = _clock(q, kind, column.scale, fine)
        if kind == "datetimeoffset":
            notes.append(f"{column.name}: {native} is read as the instant that it is; its offset is not kept")
        if column.scale > _MICROSECONDS and fine == "cut":
            notes.append(f"{column.name}: of {native} the seventh digit of a second is cut (seventh_digit: cut)")
    elif kind in _TEXTS or kind in _OLD_TEXTS:
        long = kind in _OLD_TEXTS or column.length == -1
        characters = column.length // 2 if kind in _UNICODE else column.length
        select = f"CAST({q} AS nvarchar(max))"
        if not long and characters <= _LONGEST:
            # The server itself translates its code pages: a driver needs tables for it that a machine may lack.
            select = q if kind in _UNICODE else f"CAST({q} AS nvarchar({characters}))"
        if kind in ("char", "nchar"):
            select = f"RTRIM({select})"
            notes.append(f"{column.name}: {native} is read without the blanks that fill it")
        if not long:
            suggested = f"{'char' if kind in ('char', 'nchar') else 'varchar'}({characters})"
        size = 0 if long or characters > _LONGEST else 4 * characters
        comparable = not long
    elif kind in _BYTES or kind == "image":
        long = kind == "image" or column.length == -1
        arrow, size, comparable = pa.binary(), 0 if long else max(1, column.length), not long
        select = f"CAST({q} AS varbinary(max))" if kind == "image" else q
    elif kind in ("timestamp", "rowversion"):
        arrow, select = pa.binary(), f"CAST({q} AS binary(8))"
        notes.append(f"{column.name}: {native} is read as its 8 bytes")
    elif kind == "uniqueidentifier":
        select, suggested = f"LOWER(CAST({q} AS char(36)))", "uuid"
    elif kind == "hierarchyid":
        select, size = f"{q}.ToString()", 0
        notes.append(f"{column.name}: {native} is read as text (/1/2/)")
    elif kind in ("geometry", "geography"):
        select = f"CASE WHEN {q} IS NOT NULL THEN CONCAT(N'SRID=', {q}.STSrid, N';', {q}.ToString()) END"
        size, comparable = 0, False
        notes.append(f"{column.name}: {native} is read as text (EWKT)")
    elif kind == "sql_variant":
        select, size, comparable = _variant(q), 0, False
        notes.append(f"{column.name}: {native} is read as text: the type of each value, a colon, the value")
    elif kind in ("xml", "json"):
        select, size, comparable = f"CAST({q} AS nvarchar(max))", 0, False
        suggested = "jsonb" if kind == "json" else "xml"
    else:
        kind, select, size, comparable = "other", f"CAST({q} AS nvarchar(max))", 0, False
        notes.append(f"{column.name}: {native} is read as text")
    return Column(
        column.name,
        native,
        arrow,
        select,
        column.nullable,
        suggested,
        kind=kind,
        expression=q,
        collation=column.collation,
        scale=column.scale,
        size=size,
        comparable=comparable,
        notes=tuple(notes),
    )


def _native(column: Catalogued, kind: str) -> str:
    if column.assembly:
        return column.declared
    if kind in ("decimal", "numeric"):
        return f"{kind}({column.precision},{column.scale})"
    if kind in ("datetime2", "datetimeoffset", "time"):
        return f"{kind}({column.scale})"
    if kind in _TEXTS or kind in _BYTES:
        length = column.length // 2 if kind in _UNICODE else column.length
        return f"{kind}({'max' if column.length == -1 else length})"
    return "rowversion" if kind == "timestamp" else kind


def _clock(q: str, kind: str, scale: int, fine: Fine) -> tuple[str, pa.DataType, str]:
    """SQL, type and suggestion of a time. A seventh digit other than 0 is in the text that is fetched, and refused there."""
    digits = min(scale, _MICROSECONDS)
    types = {
        "datetime2": (pa.timestamp("us"), f"timestamp({digits})"),
        "datetimeoffset": (pa.timestamp("us", "UTC"), f"timestamptz({digits})"),
        "time": (pa.time64("us"), f"time({digits})"),
    }
    arrow, suggested = types[kind]
    if kind == "datetime2" and scale <= _MICROSECONDS:
        return q, arrow, suggested
    whole = len("12:34:56") if kind == "time" else len("2000-01-01 12:34:56")
    moment = f"SWITCHOFFSET({q}, '+00:00')" if kind == "datetimeoffset" else q
    text = f"CONVERT(varchar(34), {moment}, 121)"
    length = whole + 1 + scale if scale else whole
    if scale > _MICROSECONDS and fine == "text":
        return f"CONVERT(varchar(34), {q}, 121)", pa.string(), ""
    if scale <= _MICROSECONDS or fine == "cut":
        return f"LEFT({text}, {min(length, whole + 1 + _MICROSECONDS)})", arrow, suggested
    odd = f"CASE WHEN DATEPART(nanosecond, {q}) % 1000 = 0 THEN {whole + 1 + _MICROSECONDS} ELSE {length} END"
    return f"LEFT({text}, {odd})", arrow, suggested


def _variant(q: str) -> str:
    """A sql_variant as its base type, a colon and its value, each in the form that loses nothing."""
    base = f"CAST(SQL_VARIANT_PROPERTY({q}, 'BaseType') AS nvarchar(128))"
    forms = {
        ("binary", "varbinary"): f"CONVERT(nvarchar(max), CAST({q} AS varbinary(8000)), 1)",
        ("float", "real"): f"CONVERT(nvarchar(max), CAST({q} AS float), 3)",
        ("money", "smallmoney"): f"CONVERT(nvarchar(max), CAST({q} AS money), 2)",
        ("datetime", "smalldatetime"): f"CONVERT(nvarchar(max), CAST({q} AS datetime), 121)",
        ("date",): f"CONVERT(nvarchar(max), CAST({q} AS date), 23)",
        ("time",): f"CONVERT(nvarchar(max), CAST({q} AS time(7)), 121)",
        ("datetime2",): f"CONVERT(nvarchar(max), CAST({q} AS datetime2(7)), 121)",
        ("datetimeoffset",): f"CONVERT(nvarchar(max), CAST({q} AS datetimeoffset(7)), 121)",
    }
    ways = " ".join(
        f"WHEN {base} IN ({', '.join(f'N{name!r}' for name in names)}) THEN {form}" for names, form in forms.items()
    )
    value = f"CASE {ways} ELSE CAST({q} AS nvarchar(max)) END"
    return f"CASE WHEN {q} IS NOT NULL THEN CONCAT({base}, N':', {value}) END"


# ------------------------------------------------------------------------------------------------------------- keys


def key_text(column: Column) -> str:
    """SQL of a key's value as the text that `literal` takes; a text as it is `sent`."""
    q, kind = column.expression, column.kind
    if kind in _INTEGERS or kind == "bit":
        return f"CAST({q} AS bigint)"
    if kind in ("decimal", "numeric", *_MONEY):
        return f"CAST({column.select} AS varchar(60))"
    if kind == "date":
        return f"CONVERT(char(10), {q}, 23)"
    if kind in ("datetime", "smalldatetime", "datetime2", "datetimeoffset", "time"):
        return f"CONVERT(varchar(34), {q}, {121 if kind == 'time' else 126})"
    if kind in _BYTES or kind in ("timestamp", "rowversion"):
        return f"CONVERT(varchar(max), CAST({q} AS varbinary(8000)), 2)"
    return column.sent


def literal(column: Column, text: str) -> str:
    """SQL of a key's value, which has the column's own type: so an index on it is used, and its order is the column's."""
    kind = column.kind
    if kind in _INTEGERS or kind == "bit":
        number = {"True": 1, "False": 0}.get(text)
        number = int(text) if number is None else number
        return f"CAST({number} AS bigint)" if kind == "bigint" else str(number)
    if kind in ("decimal", "numeric"):
        return f"{Decimal(text):f}"
    if kind in _MONEY:
        # Compared with a decimal the column would be made one, and its index be of no use.
        return f"CAST({Decimal(text):f} AS {kind})"
    if kind == "date":
        return f"CONVERT(date, '{_plain(text)}', 23)"
    if kind == "time":
        return f"CAST('{_plain(text)}' AS {column.native})"
    if kind in ("datetime", "smalldatetime", "datetime2", "datetimeoffset"):
        day, clock = text[:10], text[11:]  # a blank or a T between them
        moment = _plain(f"{day}T{clock}").replace(" ", "")
        if kind in ("datetime", "smalldatetime"):
            whole, _, fraction = moment.partition(".")
            moment = f"{whole}.{fraction[:3]}" if fraction else whole
        return f"CONVERT({column.native}, '{moment}', 126)"
    if kind in _BYTES or kind in ("timestamp", "rowversion"):
        return f"0x{bytes.fromhex(text).hex()}"
    if kind == "uniqueidentifier":
        return f"CONVERT(uniqueidentifier, '{_plain(text)}')"
    if kind == "hierarchyid":
        return f"CAST('{_plain(text)}' AS hierarchyid)"
    if kind in _UNICODE:
        return unicode_text(text)
    if text.isascii() and text.isprintable() and "\\" not in text:
        return "'" + text.replace("'", "''") + "'"
    collated = f"{unicode_text(text)} COLLATE {column.collation}" if column.collation else unicode_text(text)
    return f"CAST({collated} AS varchar(8000))"


def unicode_text(text: str) -> str:
    """A text as SQL. One with a backslash or a control character goes as bytes: a backslash before a line's end vanishes."""
    if "\\" in text or not text.replace(" ", "x").isprintable() or "\x00" in text:
        data = text.encode("utf-16-le", "surrogatepass").hex()
        return f"CONVERT(nvarchar({'max' if len(data) > 4 * _LONGEST else _LONGEST}), 0x{data})"
    return "N'" + text.replace("'", "''") + "'"


def _plain(text: str) -> str:
    return text.replace("'", "''")
