"""Named functions: what SQL lacks for legacy data. Each compiles a call into DuckDB SQL that is NULL where it fails."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mappings.convert import local, zones
from mappings.faults import suggest
from mappings.formats import Format, parse_format, reading, trimmed
from mappings.sql import BETWEEN, ROW, identifier, literal


class CallError(ValueError):
    """A call that cannot be compiled; its text says why and what is right."""


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument: its SQL, its type, and what it says where it is a constant text or a bare source column."""

    sql: str
    type: str
    constant: str | None = None
    column: str | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """What a call may know about its mapping."""

    migration: str
    table: str
    source_columns: tuple[str, ...]
    lookups: Mapping[str, Mapping[str, str]]
    unread: Callable[[], tuple[str, ...]]
    tables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rendered:
    """A call as SQL. It failed where `given` holds and `value` is NULL; `reason` is then "rule<0x1f>reason"."""

    value: str
    given: str = "false"
    reason: str = "NULL"
    reads: tuple[str, ...] = ()


Once = Callable[[str, Callable[[str], str]], str]
"""(SQL, body) → the body's SQL over a name for the SQL's value, which is computed once."""


@dataclass(frozen=True, slots=True)
class Call:
    arguments: tuple[Argument, ...]
    named: Mapping[str, Argument]
    scope: Scope
    once: Once

    def constant(self, index: int, what: str) -> str:
        argument = self.arguments[index]
        if argument.constant is None:
            raise CallError(f"{what} must be a constant text")
        return argument.constant


@dataclass(frozen=True, slots=True)
class Function:
    """A named function: how to compile it, and its paragraph of the reference."""

    name: str
    signature: str
    doc: str
    examples: tuple[tuple[str, str], ...]  # expression, result as text
    render: Callable[[Call], Rendered] = field(repr=False)
    arity: tuple[int, int | None] = (1, 1)
    options: tuple[str, ...] = ()
    version: int = 1


FUNCTIONS: dict[str, Function] = {}


def _named(
    signature: str,
    doc: str,
    *examples: tuple[str, str],
    arity: tuple[int, int | None] = (1, 1),
    options: tuple[str, ...] = (),
    version: int = 1,
) -> Callable[[Callable[[Call], Rendered]], Callable[[Call], Rendered]]:
    name = signature.partition("(")[0]

    def register(render: Callable[[Call], Rendered]) -> Callable[[Call], Rendered]:
        FUNCTIONS[name] = Function(name, signature, " ".join(doc.split()), examples, render, arity, options, version)
        return render

    return register


def _text(argument: Argument) -> str:
    return argument.sql if argument.type == "VARCHAR" else f"CAST({argument.sql} AS VARCHAR)"


def _because(rule: str, reason: str) -> str:
    return literal(rule + BETWEEN + reason)


# ---------------------------------------------------------------------------------------------------------------- time


def _formats(call: Call, start: int = 1) -> list[Format]:
    try:
        return [parse_format(call.constant(i, "a format")) for i in range(start, len(call.arguments))]
    except ValueError as error:
        raise CallError(str(error)) from None


@_named(
    "parse_date(x, format…)",
    """A date in any of the formats, tried in order. Formats are written `DD.MM.YYYY` or `%d.%m.%Y`; the fields are YYYY, YY
    (00 to 68 are 2000 to 2068, 69 to 99 are 1969 to 1999), MM, M (one or two digits), MON and MONTH (English names), DD,
    D. Blanks around the text are ignored; impossible dates (31.02.) are refused.""",
    ("parse_date('31.12.1999', 'DD.MM.YYYY', 'YYYY-MM-DD')", "1999-12-31"),
    arity=(2, None),
)
def _parse_date(call: Call) -> Rendered:
    formats = _formats(call)
    if timed := [f.written for f in formats if f.timed]:
        raise CallError(
            f"{timed[0]!r} has a time of day that a date would drop: parse_timestamp(…)::DATE drops it openly"
        )
    x = _text(call.arguments[0])
    value = f"CAST({_first(call, x, formats)} AS DATE)"
    return Rendered(value, f"{x} IS NOT NULL", _because("type", f"not a date in {_either(formats)}"))


@_named(
    "parse_timestamp(x, format…, zone := '…', ambiguous := 'first'|'last')",
    """A timestamp in any of the formats, tried in order; besides the fields of parse_date: HH24 or HH, HH12 with AM, MI, SS,
    US (up to six digits of a second), TZ (an offset as +0200). With `zone` the text is that zone's wall clock and the result
    is a timestamptz: an hour that was skipped when clocks changed is refused, and so is one that came twice unless
    `ambiguous` says which one is meant.""",
    ("parse_timestamp('31.12.1999 23:59', 'DD.MM.YYYY HH24:MI')", "1999-12-31 23:59:00"),
    ("parse_timestamp('2021-07-01 12:00', 'YYYY-MM-DD HH24:MI', zone := 'Europe/Berlin')", "2021-07-01 10:00:00+00"),
    arity=(2, None),
    options=("zone", "ambiguous"),
)
def _parse_timestamp(call: Call) -> Rendered:
    formats = _formats(call)
    x = _text(call.arguments[0])
    zone = call.named.get("zone")
    ambiguous = call.named.get("ambiguous")
    which = "reject" if ambiguous is None else ambiguous.constant
    if which not in ("reject", "first", "last"):
        raise CallError("ambiguous must be 'first' or 'last'")
    if len({f.zoned for f in formats}) > 1:
        raise CallError("either all formats have TZ or none")
    value = _first(call, x, formats)
    reason = f"not a timestamp in {_either(formats)}"
    if formats[0].zoned and zone is not None:
        raise CallError("a format with TZ needs no zone")
    if zone is not None:
        if zone.constant is None:
            raise CallError("zone must be a constant text such as 'Europe/Berlin'")
        if zone.constant not in zones():
            raise CallError(f'there is no zone "{zone.constant}".{suggest(zone.constant, zones())}')
        value = local(value, zone.constant, which)
        reason += f", or a time that {zone.constant} does not have, or has twice (clocks were changed)"
    elif ambiguous is not None:
        raise CallError("ambiguous needs a zone")
    return Rendered(value, f"{x} IS NOT NULL", _because("type", reason))


def _first(call: Call, x: str, formats: list[Format]) -> str:
    return call.once(trimmed(x), lambda t: f"coalesce({', '.join(reading(t, f) for f in formats)}, NULL)")


@_named(
    "excel_date(x [, epoch])",
    """The timestamp that a serial number stands for, as dates are stored in Excel: 1 is 1900-01-01 and the fraction is the
    time of day. The epoch is 1900, or 1904 as in workbooks of old Macs. What no calendar has is refused: day 0, and day 60,
    which Excel takes for 1900-02-29. Times are read to the microsecond, or to the millisecond that all digits mean.""",
    ("excel_date('43861')", "2020-01-31 00:00:00"),
    ("excel_date('43861.5208333333')", "2020-01-31 12:30:00"),
    ("excel_date('42399', 1904)", "2020-01-31 00:00:00"),
    arity=(1, 2),
)
def _excel_date(call: Call) -> Rendered:
    epoch = "1900" if len(call.arguments) == 1 else call.arguments[1].constant or call.arguments[1].sql
    if epoch not in ("1900", "1904"):
        raise CallError("the epoch must be 1900 or 1904")
    x = _text(call.arguments[0])
    value = call.once(trimmed(x), lambda t: _serial(t, epoch))
    return Rendered(value, f"{x} IS NOT NULL", _because("type", f"not a serial number of a day, counted from {epoch}"))


def _serial(t: str, epoch: str) -> str:
    """SQL: the timestamp that the serial number t stands for, or NULL."""
    whole = f"TRY_CAST(split_part({t}, '.', 1) AS INTEGER)"
    micros = f"CAST(round(TRY_CAST('0.' || split_part({t}, '.', 2) || '0' AS DOUBLE) * 86400000000) AS BIGINT)"
    # half a unit of the last digit is what the text leaves open; the digits of a double leave open a microsecond
    open_ = f"least(499, greatest(1, ceil(43200000000 / pow(10, length(split_part({t}, '.', 2))))))"
    millis = f"(({micros} + 500) // 1000 * 1000)"
    exact = f"CASE WHEN abs({micros} - {millis}) <= {open_} THEN {millis} ELSE {micros} END"
    if epoch == "1904":
        first, last, day = 0, 2_957_003, f"DATE '1904-01-01' + {whole}"
    else:
        first, last, day = 1, 2_958_465, f"DATE '1899-12-30' + {whole} + CAST({whole} < 60 AS INTEGER)"
    sound = f"{whole} BETWEEN {first} AND {last}" + (f" AND {whole} <> 60" if epoch == "1900" else "")
    return (
        f"CASE WHEN regexp_full_match({t}, '[0-9]{{1,7}}([.][0-9]*)?') AND {sound} "
        f"THEN CAST({day} AS TIMESTAMP) + to_microseconds({exact}) END"
    )


def _either(formats: list[Format]) -> str:
    return " or ".join(f.written for f in formats)


# --------------------------------------------------------------------------------------------------------------- money

_SPACES = " \u00a0\u202f\u2009"
LOCALES = {
    # locale → decimal sign, thousands separators
    "de": (",", "." + _SPACES),
    "at": (",", "." + _SPACES),
    "es": (",", "." + _SPACES),
    "it": (",", "." + _SPACES),
    "nl": (",", "." + _SPACES),
    "pt": (",", "." + _SPACES),
    "dk": (",", "." + _SPACES),
    "fr": (",", _SPACES),
    "pl": (",", _SPACES),
    "cz": (",", _SPACES),
    "se": (",", _SPACES),
    "no": (",", _SPACES),
    "fi": (",", _SPACES),
    "ru": (",", _SPACES),
    "en": (".", "," + _SPACES),
    "us": (".", "," + _SPACES),
    "gb": (".", "," + _SPACES),
    "ch": (".", "'’" + _SPACES),
}
_CURRENCY = r"(?:[$€£¥₽₺₹₩฿]|zł|Kč|kr\.?|Fr\.|CHF|EUR|USD|GBP|JPY|PLN|CZK|SEK|NOK|DKK|HUF|[A-Z]{3})"


@_named(
    "parse_money(x, locale)",
    """An exact decimal(38,10) from an amount as people write it: a currency sign or code before or behind, thousands
    separators in their right places only, a sign before or behind, or parentheses for a negative amount. The locale says which
    sign is the decimal one: de, at, es, it, nl, pt, dk (1.234,50) · fr, pl, cz, se, no, fi, ru (1 234,50) · en, us, gb
    (1,234.50) · ch (1'234.50).""",
    ("parse_money('1.234,50 €', 'de')", "1234.5000000000"),
    ("parse_money('($1,234.5)', 'en')", "-1234.5000000000"),
    arity=(2, 2),
)
def _parse_money(call: Call) -> Rendered:
    locale = call.constant(1, "the locale").lower()
    if locale not in LOCALES:
        raise CallError(f"locale {locale!r} is not known; known are {', '.join(LOCALES)}")
    x = _text(call.arguments[0])
    value = call.once(x, lambda t: _amount(t, *LOCALES[locale]))
    return Rendered(value, f"{x} IS NOT NULL", _because("type", f"not an amount as {locale} writes it"))


def _amount(t: str, point: str, groups: str) -> str:
    """SQL: the decimal that t says, or NULL."""
    mark, blank = re.escape(point), f"[{_SPACES}\t\r\n]*"
    # a group of thousands never begins with 0: 0,005 is a decimal that somebody else wrote
    grouped = "|".join(rf"[1-9]\d{{0,2}}(?:{re.escape(g)}\d{{3}})+" for g in groups)
    number = rf"(?:(?:{grouped}|\d+)(?:{mark}\d{{1,10}}0*|{mark}[-–—]{{1,2}}|{mark})?|{mark}\d{{1,10}}0*)"
    before = rf"(?:[-+−]{blank})?{_CURRENCY}?{blank}(?:[-+−]{blank})?{number}{blank}{_CURRENCY}?"
    behind = rf"{_CURRENCY}?{blank}{number}{blank}{_CURRENCY}?{blank}[-+−]{blank}{_CURRENCY}?"
    within = rf"{_CURRENCY}?{blank}\({blank}{_CURRENCY}?{blank}{number}{blank}{_CURRENCY}?{blank}\){blank}{_CURRENCY}?"
    shape = literal(f"{blank}(?:{before}|{behind}|{within}){blank}")
    # a sign on either side of the currency is one too many
    twice = literal(rf"{blank}[-+−]{blank}{_CURRENCY}?{blank}[-+−].*")
    # the shape has been checked: what is neither digit nor decimal sign only decorates, but for the minus of "5,--"
    dropped = literal(rf"{mark}[-–—]{{1,2}}|(?:Fr|kr)[.]")
    bare = f"regexp_replace({t}, {dropped}, '', 'g')"
    digits = f"regexp_replace({bare}, {literal(f'[^0-9{mark}]')}, '', 'g')"
    minus = f"CASE WHEN regexp_matches({bare}, '[-−(]') THEN '-' ELSE '' END"
    slow = (
        f"CASE WHEN regexp_full_match({t}, {shape}) AND NOT regexp_full_match({t}, {twice}) "
        f"THEN TRY_CAST({minus} || replace({digits}, ',', '.') AS DECIMAL(38,10)) END"
    )
    # most amounts are bare numbers
    simple = literal(rf"-?\d{{1,28}}(?:{mark}\d{{1,10}})?")
    fast = f"CASE WHEN regexp_full_match({t}, {simple}) THEN TRY_CAST(replace({t}, ',', '.') AS DECIMAL(38,10)) END"
    return f"coalesce({fast}, {slow})"


# ---------------------------------------------------------------------------------------------------------- small words

_TRUE: tuple[str, ...] = (
    "1",
    "t",
    "true",
    "y",
    "yes",
    "on",
    "x",
    "j",
    "ja",
    "wahr",
    "w",
    "o",
    "oui",
    "vrai",
    "s",
    "si",
    "sí",
    "sì",
    "sim",
    "verdadero",
)
_TRUE += ("vero", "verdadeiro", "da", "tak", "ano", "igen", "evet", "是")
_FALSE: tuple[str, ...] = (
    "0",
    "f",
    "false",
    "n",
    "no",
    "off",
    "nein",
    "falsch",
    "non",
    "faux",
    "falso",
    "não",
    "nao",
    "nee",
    "nie",
    "ne",
    "nem",
    "hayır",
)
_FALSE += ("否", "nej")


@_named(
    "parse_bool(x [, true, false])",
    """True or false from words: yes, y, true, t, on, 1, x, ja, j, wahr, oui, vrai, si, sim … and no, n, false, f, off, 0, nein,
    falsch, non, faux, não …, in any case. With two more arguments, only those: lists of texts, as ['aktiv', 'A'] and
    ['gesperrt'].""",
    ("parse_bool('Ja')", "true"),
    ("parse_bool('A', ['A'], ['G', 'S'])", "true"),
    arity=(1, 3),
)
def _parse_bool(call: Call) -> Rendered:
    x = _text(call.arguments[0])
    if len(call.arguments) == 2:
        raise CallError("give both the true texts and the false ones")
    if len(call.arguments) == 3:
        yes, no = (_texts(a) for a in call.arguments[1:])
        value = f"CASE WHEN trim({x}) IN {yes} THEN true WHEN trim({x}) IN {no} THEN false END"
    else:
        word = f"lower(trim({x}))"
        value = f"CASE WHEN {word} IN {_in(_TRUE)} THEN true WHEN {word} IN {_in(_FALSE)} THEN false END"
    return Rendered(value, f"{x} IS NOT NULL", _because("type", "neither true nor false"))


def _in(words: tuple[str, ...]) -> str:
    return "(" + ", ".join(literal(word) for word in words) + ")"


def _texts(argument: Argument) -> str:
    if argument.constant is not None:
        return f"({literal(argument.constant)})"
    if not argument.type.startswith("VARCHAR[") or "'" not in argument.sql:
        raise CallError("the texts must be a list such as ['A', 'B']")
    return f"({argument.sql.removeprefix('list_value(').removesuffix(')')})"


@_named(
    "fix_encoding(x)",
    """Text that was decoded with the wrong encoding, mended (ftfy); clean text is left alone, and so is what might be meant:
    `Ã…kesson` stays.""",
    ("fix_encoding('MÃ¼ller')", "Müller"),
)
def _fix_encoding(call: Call) -> Rendered:
    x = _text(call.arguments[0])
    return Rendered(f"CASE WHEN strlen({x}) = length({x}) THEN {x} ELSE mend_encoding({x}) END")


@_named(
    "uuid(x… [, table := '…'])",
    """A UUID that depends only on the migration's name, a table of it (this one unless `table` names another) and the legacy
    key as text, so that a child finds its parent's UUID without asking. Keys must have the same text on both sides.""",
    ("uuid('C-17', table := 'customers')", "a uuid that is always the same"),
    arity=(1, None),
    options=("table",),
)
def _uuid(call: Call) -> Rendered:
    other = call.named.get("table")
    if other is not None and other.constant is None:
        raise CallError("table must be a constant text")
    table = call.scope.table if other is None else other.constant
    if other is not None and call.scope.tables and table not in call.scope.tables:
        raise CallError(f'there is no table "{table}" in the project.{suggest(str(table), call.scope.tables)}')
    space = literal(f"{call.scope.migration}\x1f{table}\x1f")
    texts = [_text(a) for a in call.arguments]
    key = " || chr(31) || ".join(texts)
    return Rendered(f"CAST(md5({space} || {key}) AS UUID)")


@_named(
    "lookup(table, x [, default])",
    "What the code table says for x; a code that it lacks is refused unless there is a default (which may be NULL).",
    ("lookup('countries', 'D')", "DE"),
    arity=(2, 3),
)
def _lookup(call: Call) -> Rendered:
    table = call.arguments[0].constant
    if table is None:
        raise CallError("the code table's name must be a constant text")
    if table not in call.scope.lookups:
        raise CallError(f'there is no code table "{table}".{suggest(table, call.scope.lookups)}')
    x = _text(call.arguments[1])
    found = f"look_up({literal(table)}, {x})"
    if len(call.arguments) == 3:
        default = call.arguments[2]
        return Rendered(f"CASE WHEN {x} IS NOT NULL THEN coalesce({found}, {_text(default)}) END")
    return Rendered(found, f"{x} IS NOT NULL", _because("lookup", f"{table} has no such code"))


@_named(
    "pack(column…)",
    "A JSON object of these source columns.",
    ("pack(a, b)", '{"a":"…","b":"…"}'),
    arity=(1, None),
)
def _pack(call: Call) -> Rendered:
    columns = [a.column for a in call.arguments]
    if None in columns:
        raise CallError("pack takes source columns; json_object('name', expression) takes any")
    return _object(tuple(c for c in columns if c is not None))


@_named(
    "pack_rest()",
    "A JSON object of all source columns that no other expression of this table reads.",
    ("pack_rest()", '{"fax":"…"}'),
    arity=(0, 0),
)
def _pack_rest(call: Call) -> Rendered:
    return _object(call.scope.unread())


def _object(columns: tuple[str, ...]) -> Rendered:
    quoted = [f'{literal(c)}, "{c.replace(chr(34), chr(34) * 2)}"' for c in columns]
    return Rendered(f"json_object({', '.join(quoted)})", reads=columns)


@_named(
    "split(x, separator)",
    "A list of the texts between separators, without blanks around them; no text at all is an empty list.",
    ("split('a, b', ',')", "[a, b]"),
    arity=(2, 2),
)
def _split(call: Call) -> Rendered:
    x = _text(call.arguments[0])
    separator = literal(call.constant(1, "the separator"))
    parts = f"list_transform(string_split({x}, {separator}), lambda s: trim(s))"
    return Rendered(f"CASE WHEN trim({x}) = '' THEN CAST([] AS VARCHAR[]) ELSE {parts} END")


@_named(
    "error(x)",
    "Rejects the row with this reason, for use inside CASE.",
    ("CASE WHEN Kind = 'D' THEN error('deleted in the source') ELSE Name END", "the name"),
)
def _error(call: Call) -> Rendered:
    x = _text(call.arguments[0])
    # a NULL text that the optimizer cannot see to be one, or it would drop the failure with the call
    return Rendered(
        f"nullif(left(CAST({identifier(ROW)} AS VARCHAR), 0), '')",
        "true",
        f"concat({literal('expression' + BETWEEN)}, coalesce({x}, 'error'))",
    )
