"""From a DuckDB value to a PostgreSQL column, exactly, or the reason why not.

DuckDB's casts are lax ('12.7' becomes 13, '2021-01-01 10:00' loses its time), so no conversion here trusts one: a text
is accepted where the value's own text is the source's, else where a pattern proves that nothing is lost.
"""

import functools
import re
from dataclasses import dataclass, replace

import duckdb
import pyarrow as pa

from mappings.runtime import DEEPEST
from mappings.sql import BETWEEN, identifier, literal
from mappings.typemap import FLOATS, INTEGERS, JSONS, WIRES, fixed, fraction, keeps_seconds, wire_of
from migrate.core import Column

NUMERIC_TYPES = re.compile(r"(U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|DECIMAL\(\d+,\d+\)|FLOAT|DOUBLE|BIGNUM)$")
_INTEGER_TYPES = re.compile(r"(U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER)$")
_NUMBER = r"\s*[+-]?(\d+(\.\d*)?|\.\d+)\s*"
_YEAR = r"(\d{3,5}[1-9]|\d{2,4}[1-9]\d|\d{1,3}[1-9]\d\d|[1-9]\d{3,5})"  # four to six digits, not all zero
_DAY = _YEAR + r"[-/]\d{1,2}[-/]\d{1,2}( \(BC\))?"
_CLOCK = r"\d{1,2}:\d{2}(:\d{2}(\.\d{0,6}0*)?)?"
_LONG_CLOCK = r"\d{1,2}:\d{2}(:\d{2}(\.\d*)?)?"
_MIDNIGHT = r"0{1,2}:00(:00(\.0*)?)?"
_OFFSET = r" ?(Z|[+-]\d{2}(:?\d{2})?)"
_AMOUNT = r"\s*-?\$?(\d{1,3}(,\d{3})+|\d+)(\.\d*)?\s*"
_SPANS = ("tsrange", "tstzrange", "tsmultirange", "tstzmultirange")
_FLOATING = r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*"
_UNFINISHED = r"(?i)\s*[+-]?(inf|infinity|nan)\s*"

# PostgreSQL counts dates from Julian day 0; DuckDB's own types end before PostgreSQL's do at the other side.
_FIRST_DAY = "DATE '4714-11-24 (BC)'"
_FIRST_MOMENT = "TIMESTAMP '4714-11-24 (BC) 00:00:00'"


@dataclass(frozen=True, slots=True)
class Conversion:
    """SQL from an expression's value {x} to a column's {v}: the value, whether it failed, and "rule<0x1f>reason" if so.

    `fails` may be NULL, which means no.
    """

    value: str
    fails: str
    reason: str

    def of(self, x: str) -> str:
        return self.value.replace("{x}", x)

    def failing(self, x: str, v: str) -> str:
        return self.fails.replace("{x}", x).replace("{v}", v)

    def why(self, x: str, v: str) -> str:
        return self.reason.replace("{x}", x).replace("{v}", v)


def said(rule: str, reason: str) -> str:
    """A SQL literal that carries a rule and its reason."""
    return literal(rule + BETWEEN + reason)


def convert(source: str, column: Column, timezone: str | None = None) -> Conversion | str:
    """The conversion from a DuckDB type to a column, with its screens; or what to do instead, where there is none."""
    base = column.base
    if base.startswith("_"):
        if wire_of(column).encoder != "text":
            return listed(source, column, timezone)
        if source.endswith("[]") and base not in ("_bytea", "_uuid"):
            return _array_text(source, column, timezone)
        if _altered(column):
            return f"split(x, ',') makes a list: inside one text, the server would cut or round what {column.type} cannot hold"
    if source == '"NULL"':
        source = "VARCHAR"
    made = _plain(source, column, timezone)
    if isinstance(made, str):
        return made
    return _screened(made, column)


def _plain(source: str, column: Column, timezone: str | None) -> Conversion | str:
    base = column.base
    if source == "BLOB" and base not in ("bytea", "uuid"):
        return "decode(x), hex(x) or to_base64(x) makes text of bytes"
    if source.endswith("]") or source.startswith(("STRUCT", "MAP", "UNION")):
        if base in JSONS:
            return Conversion("CAST(to_json({x}) AS VARCHAR)", "false", "NULL")
        return (
            "to_json(x) makes JSON text of it" if source.startswith("STRUCT") else "array_to_string(x, ',') makes text"
        )
    if base in INTEGERS or base in FLOATS or (base == "numeric" and fixed(column)):
        return _number(source, column)
    if base in ("date", "timestamp", "timestamptz", "time"):
        return _moment(source, base, timezone)
    if base == "bool":
        return _boolean(source)
    if base == "uuid":
        return _uuid(source)
    if base == "bytea":
        return _bytes(source)
    if base == "numeric":
        return _unbounded(source, column)
    if base == "money":
        return _money(source)
    if base == "interval" and not keeps_seconds(column):
        return f"{column.type} would drop what is finer than its last field: make the column an interval"
    if base in JSONS:
        return _json(source)
    return _text(source)


def _same(kept: str) -> Conversion:
    return Conversion(kept, "false", "NULL")


def _text(source: str) -> Conversion:
    return _same("{x}" if source == "VARCHAR" else "CAST({x} AS VARCHAR)")


def _exact(cast: str, accepted: str, reason: str) -> Conversion:
    """From text: the value's own text is the source's, or a pattern says that the cast lost nothing."""
    pattern = literal(accepted)
    fails = (
        "CASE WHEN CAST({v} AS VARCHAR) = {x} THEN false WHEN {x} IS NULL THEN false "
        f"ELSE {{v}} IS NULL OR NOT regexp_full_match({{x}}, {pattern}) END"
    )
    return Conversion(cast, fails, reason)


def _through_text(made: Conversion) -> Conversion:
    """The same conversion from a type whose text DuckDB writes exactly."""
    parts = (part.replace("{x}", "CAST({x} AS VARCHAR)") for part in (made.value, made.fails, made.reason))
    return Conversion(*parts)


def _number(source: str, column: Column) -> Conversion | str:
    base = column.base
    name = _spelled(column)
    duck = WIRES[base][0] if base in WIRES else f"DECIMAL({column.modifier[0]},{column.modifier[1]})"
    if source == duck:
        return _same("{x}")
    if base in FLOATS:
        if source in ("FLOAT", "DOUBLE") or _INTEGER_TYPES.match(source) or source.startswith("DECIMAL"):
            lost = said("range", f"too large for {name}")
            value = f"CAST({{x}} AS {duck})" if duck == "DOUBLE" else f"TRY_CAST({{x}} AS {duck})"
            rounded = source in ("DOUBLE", "FLOAT") and duck == "FLOAT"
            fails = "({v} IS NULL AND {x} IS NOT NULL) OR (isinf({v}) AND NOT isinf(CAST({x} AS DOUBLE)))"
            return Conversion(value, fails + (" OR ({v} = 0 AND {x} <> 0)" if rounded else ""), lost)
        if source == "VARCHAR":
            return _float(duck, name)
        return f"a {source.lower()} is no number"
    scale = column.modifier[1] if base == "numeric" else 0
    shape = literal(_NUMBER)
    reason = (
        f"CASE WHEN NOT regexp_full_match({{x}}, {shape}) THEN {said('type', 'not a plain decimal number')} "
        f"WHEN regexp_matches({{x}}, {literal(rf'[.][0-9]{{{scale}}}[0-9]*[1-9]')}) "
        f"THEN {said('precision', f'{name} would round it')} ELSE {said('range', f'out of range for {name}')} END"
    )
    digits = rf"(\d+(\.\d{{0,{scale}}}0*)?|\.\d{{1,{scale}}}0*)" if scale else r"\d+(\.0*)?"
    made = _exact(f"TRY_CAST({{x}} AS {duck})", rf"\s*[+-]?{digits}\s*", reason)
    if source == "VARCHAR":
        return made
    if _INTEGER_TYPES.match(source) or source.startswith("DECIMAL"):
        value = f"TRY_CAST({{x}} AS {duck})"
        back = f"TRY_CAST({{v}} AS {source})"
        # a value that does not go back into its own type may still be exact: let its digits decide
        slow = _through_text(made)
        fails = f"CASE WHEN {{x}} IS NULL THEN false WHEN {back} = {{x}} THEN false ELSE {slow.fails} END"
        return Conversion(value, fails, slow.reason)
    if source in ("DOUBLE", "FLOAT"):
        return _from_double(source, duck, name)
    if source == "BOOLEAN" and base in INTEGERS:
        return _same(f"CAST({{x}} AS {duck})")
    return f"a {source.lower()} is no number: say which number it is, for example with epoch(x)"


def _from_double(source: str, duck: str, name: str) -> Conversion:
    """Exact where casting back gives the same double: its shortest text has no more digits than the target keeps."""
    value = f"CASE WHEN isfinite({{x}}) THEN TRY_CAST({{x}} AS {duck}) END"
    fails = f"CASE WHEN {{x}} IS NULL THEN false ELSE coalesce(CAST({{v}} AS {source}) <> {{x}}, true) END"
    reason = f"CASE WHEN {{v}} IS NULL THEN {said('range', f'out of range for {name}')} "
    reason += f"ELSE {said('precision', f'{name} would round it')} END"
    return Conversion(value, fails, reason)


def _float(duck: str, name: str) -> Conversion:
    shape, unfinished = literal(_FLOATING), literal(_UNFINISHED)
    lost = "(isinf({v}) OR ({v} = 0 AND regexp_matches({x}, '^[^eE]*[1-9]')))"
    fails = (
        f"CASE WHEN {{x}} IS NULL THEN false WHEN {{v}} IS NULL THEN true "
        f"WHEN regexp_full_match({{x}}, {shape}) THEN {lost} ELSE NOT regexp_full_match({{x}}, {unfinished}) END"
    )
    reason = (
        f"CASE WHEN regexp_full_match({{x}}, {shape}) THEN {said('range', f'out of range for {name}')} "
        f"ELSE {said('type', 'not a number')} END"
    )
    return Conversion(f"TRY_CAST({{x}} AS {duck})", fails, reason)


def _moment(source: str, base: str, timezone: str | None) -> Conversion | str:
    zoned, naive = "TIMESTAMP WITH TIME ZONE", "TIMESTAMP"
    if source in ("TIMESTAMP_S", "TIMESTAMP_MS"):
        widened = _moment(naive, base, timezone)
        if isinstance(widened, str):
            return widened
        parts = (p.replace("{x}", "CAST({x} AS TIMESTAMP)") for p in (widened.value, widened.fails, widened.reason))
        return Conversion(*parts)
    if source == "TIMESTAMP_NS":
        source, through = "VARCHAR", _through_text
    else:
        through = _itself
    if base == "time":
        if source == "TIME":
            return _same("{x}")
        if source == "VARCHAR":
            reason = f"CASE WHEN regexp_full_match(trim({{x}}), {literal(_LONG_CLOCK)}) "
            reason += f"THEN {_cut('not a time of day')} ELSE {said('type', 'not a time of day')} END"
            return through(_exact("TRY_CAST({x} AS TIME)", rf"\s*{_CLOCK}\s*", reason))
        return "x::TIME takes the time of day"
    if base == "date":
        if source == "DATE":
            return _same("{x}")
        if source in ("VARCHAR", naive):
            shape = rf"\s*{_DAY}([ T]{_MIDNIGHT})?\s*"
            whole = literal(rf"{_DAY}[ T]{_LONG_CLOCK}")
            reason = (
                f"CASE WHEN {{v}} IS NOT NULL AND regexp_full_match(trim({{x}}), {whole}) "
                f"THEN {said('precision', 'date would drop its time of day')} "
                f"ELSE {said('type', 'not a date (YYYY-MM-DD): parse_date(x, format) reads others')} END"
            )
            made = _exact("TRY_CAST({x} AS DATE)", shape, reason)
            return _through_text(made) if source == naive else through(made)
        return "x::DATE takes its date" if source == zoned else f"a {source.lower()} is no date"
    shape = rf"\s*{_DAY}([ T]{_CLOCK})?\s*"
    long = rf"{_DAY}([ T]{_LONG_CLOCK})?"
    if base == "timestamp":
        if source in (naive, "DATE"):
            return _same("{x}" if source == naive else "CAST({x} AS TIMESTAMP)")
        if source != "VARCHAR":
            return "x AT TIME ZONE 'Europe/Berlin' gives the wall clock of a zone"
        reason = (
            f"CASE WHEN regexp_full_match(trim({{x}}), {literal(long)}) THEN {_cut('not a timestamp')} "
            f"WHEN regexp_full_match(trim({{x}}), {literal(long + _OFFSET)}) "
            f"THEN {said('type', 'timestamp would drop its offset: use timestamptz, or AT TIME ZONE')} "
            f"ELSE {said('type', _NO_TIMESTAMP)} END"
        )
        return through(_exact("TRY_CAST({x} AS TIMESTAMP)", shape, reason))
    if source == zoned:
        return _same("{x}")
    if timezone is None and source in (naive, "VARCHAR", "DATE"):
        return (
            "say which zone its times are in: parse_timestamp(x, format, zone := 'Europe/Berlin'), or `timezone:` in the "
            "project; where every text has an offset, CAST(x AS TIMESTAMPTZ)"
        )
    if source in (naive, "DATE"):
        assert timezone is not None
        stamp = "{x}" if source == naive else "CAST({x} AS TIMESTAMP)"
        reason = said("type", f"{timezone} has no such time, or has it twice (clocks were changed)")
        return Conversion(local(stamp, timezone), "{x} IS NOT NULL AND {v} IS NULL", reason)
    if source == "VARCHAR":
        return through(offset_text(timezone))
    return f"a {source.lower()} is no timestamp"


def _itself(made: Conversion) -> Conversion:
    return made


_NO_TIMESTAMP = "not a timestamp (YYYY-MM-DD HH:MI:SS): parse_timestamp(x, format) reads others"


def _cut(otherwise: str) -> str:
    """The reason for a text of the right shape: too many digits, or a day or an hour that does not exist."""
    return (
        f"CASE WHEN regexp_matches({{x}}, '[.][0-9]{{6}}[0-9]*[1-9]') THEN {said('precision', 'finer than a microsecond')} "
        f"ELSE {said('type', otherwise)} END"
    )


def offset_text(timezone: str | None) -> Conversion:
    """Text to timestamptz: by the offset in the text, else in the project's zone, else it is refused."""
    stamp = rf"\s*{_DAY}[ T]{_CLOCK}"
    with_offset, without = literal(stamp + rf"{_OFFSET}\s*"), literal(rf"\s*{_DAY}([ T]{_CLOCK})?\s*")
    long = literal(rf"{_DAY}([ T]{_LONG_CLOCK})?({_OFFSET})?")
    # DuckDB's own cast would read an offset-less text as UTC
    read = f"WHEN regexp_full_match({{x}}, {with_offset}) THEN TRY_CAST({{x}} AS TIMESTAMPTZ) "
    plain = ""
    if timezone is not None:
        wall = local("TRY_CAST({x} AS TIMESTAMP)", timezone)
        plain = f"WHEN regexp_full_match({{x}}, {without}) THEN {wall} "
        lacking = said("type", f"{timezone} has no such time, or has it twice (clocks were changed)")
    else:
        lacking = said("type", "no offset in the text, so the moment is unknown")
    reason = (
        f"CASE WHEN regexp_full_match(trim({{x}}), {long}) THEN "
        f"CASE WHEN regexp_matches({{x}}, '[.][0-9]{{6}}[0-9]*[1-9]') THEN {said('precision', 'finer than a microsecond')} "
        f"WHEN regexp_full_match({{x}}, {without}) AND TRY_CAST({{x}} AS TIMESTAMP) IS NOT NULL THEN {lacking} "
        f"ELSE {said('type', 'not a timestamp')} END ELSE {said('type', _NO_TIMESTAMP)} END"
    )
    return Conversion(f"CASE {read}{plain}END", "{x} IS NOT NULL AND {v} IS NULL", reason)


def local(stamp: str, zone: str, ambiguous: str = "reject") -> str:
    """The moment of a zone's wall clock; NULL in the hour that was skipped, and in the one that came twice unless told.

    The zone's offsets a day before and a day after give the two moments that a wall clock can mean; those are real that
    show the same wall clock again.
    """
    z = literal(zone)
    m = identifier("·m")  # a source column of a plain name would win over m's fields

    def moment(day: str) -> str:
        near = f"u {day} INTERVAL 1 DAY"
        return f"u - (timezone({z}, {near}) - timezone('UTC', {near}))"

    def real(moment: str) -> str:
        return f"timezone({z}, {moment}) = timezone('UTC', {m}.u)"

    twice = {
        "first": f"least({m}.a, {m}.b)",
        "last": f"greatest({m}.a, {m}.b)",
        "reject": f"CASE WHEN {m}.a = {m}.b THEN {m}.a END",
    }
    chosen = (
        f"CASE WHEN {real(f'{m}.a')} AND {real(f'{m}.b')} THEN {twice[ambiguous]} "
        f"WHEN {real(f'{m}.a')} THEN {m}.a WHEN {real(f'{m}.b')} THEN {m}.b END"
    )
    pair = f"{{'u': u, 'a': {moment('-')}, 'b': {moment('+')}}}"
    return f"list_transform(list_transform([timezone('UTC', {stamp})], lambda u: {pair}), lambda {m}: {chosen})[1]"


@functools.cache
def zones() -> frozenset[str]:
    """The names of the time zones that DuckDB knows."""
    with duckdb.connect() as connection:
        return frozenset(name for (name,) in connection.execute("SELECT name FROM pg_timezone_names()").fetchall())


def _boolean(source: str) -> Conversion | str:
    if source == "BOOLEAN":
        return _same("{x}")
    if source != "VARCHAR" and not _INTEGER_TYPES.match(source):
        return f"a {source.lower()} is neither true nor false: write a comparison"
    value = (
        "CASE lower(trim({x})) WHEN 't' THEN true WHEN 'f' THEN false WHEN '1' THEN true WHEN '0' THEN false "
        "WHEN 'true' THEN true WHEN 'false' THEN false WHEN 'y' THEN true WHEN 'n' THEN false "
        "WHEN 'yes' THEN true WHEN 'no' THEN false WHEN 'on' THEN true WHEN 'off' THEN false END"
    )
    reason = said("type", "neither true nor false: parse_bool(x) knows more words")
    made = Conversion(value, "{x} IS NOT NULL AND {v} IS NULL", reason)
    return made if source == "VARCHAR" else _through_text(made)


def _uuid(source: str) -> Conversion | str:
    if source == "UUID":
        return _same("unhex(replace(CAST({x} AS VARCHAR), '-', ''))")
    if source == "BLOB":
        return Conversion("{x}", "octet_length({x}) <> 16", said("type", "a uuid has 16 bytes"))
    if source != "VARCHAR":
        return "uuid(x) makes a uuid of a key"
    shape = literal(
        r"(?i)\s*([0-9a-f]{8}(-?[0-9a-f]{4}){4}[0-9a-f]{8}|\{[0-9a-f]{8}(-?[0-9a-f]{4}){4}[0-9a-f]{8}\})\s*"
    )
    value = f"CASE WHEN regexp_full_match({{x}}, {shape}) THEN unhex(translate({{x}}, '-{{}} \t\r\n\f', '')) END"
    return Conversion(value, "{x} IS NOT NULL AND {v} IS NULL", said("type", "not a uuid: uuid(x) makes one of a key"))


def _bytes(source: str) -> Conversion | str:
    if source == "BLOB":
        return _same("{x}")
    if source == "UUID":
        return _same("unhex(replace(CAST({x} AS VARCHAR), '-', ''))")
    return "unhex(x) or from_base64(x) reads bytes from text, encode(x) gives the text's own"


def _unbounded(source: str, column: Column) -> Conversion | str:
    """numeric that no decimal128 holds: decimal text of any length in PostgreSQL's own spelling."""
    if source in ("DOUBLE", "FLOAT"):
        return "x::DECIMAL(38,10) says how many digits to keep"
    if source != "VARCHAR" and not NUMERIC_TYPES.match(source):
        return f"a {source.lower()} is no number"
    shape = literal(_NUMBER)
    marked = r"\1·\2\3"
    parts = r"\s*\+?(-?)0*(\d*)(\.\d+)?\.?\s*"
    digits = f"regexp_replace({{x}}, {literal('^' + parts + '$')}, {literal(marked)})"
    number = f"replace(replace({digits}, '·.', '·0.'), '·', '')"
    value = (
        f"CASE WHEN regexp_full_match({{x}}, {shape}) THEN "
        f"CASE WHEN regexp_matches({{x}}, '[1-9]') THEN {number} "
        "ELSE '0' || regexp_extract({x}, '\\.0+') END END"
    )
    fails = (
        "{x} IS NOT NULL AND ({v} IS NULL OR (strlen({v}) > 16383 AND "
        "(strlen(split_part(ltrim({v}, '-'), '.', 1)) > 131072 OR strlen(split_part({v}, '.', 2)) > 16383)))"
    )
    plain = said("type", "not a plain decimal number")
    if column.modifier:
        name = _spelled(column)
        rounds, exceeds = _beyond(*column.modifier)
        fails = f"{{x}} IS NOT NULL AND ({{v}} IS NULL OR {rounds} OR {exceeds})"
        reason = (
            f"CASE WHEN {{v}} IS NULL THEN {plain} WHEN {rounds} THEN {said('precision', f'{name} would round it')} "
            f"ELSE {said('range', f'out of range for {name}')} END"
        )
    else:
        reason = f"CASE WHEN {{v}} IS NULL THEN {plain} ELSE {said('range', 'more digits than numeric has')} END"
    made = Conversion(value, fails, reason)
    return made if source == "VARCHAR" else _through_text(made)


def _beyond(precision: int, scale: int) -> tuple[str, str]:
    """SQL of "has digits below the scale" and "has digits above the precision" of a decimal text {v}, digit by digit."""
    whole = "ltrim(split_part(ltrim({v}, '-'), '.', 1), '0')"
    part = "split_part({v}, '.', 2)"
    if scale < 0:
        rounds = f"(rtrim({part}, '0') <> '' OR ltrim(right({whole}, {-scale}), '0') <> '')"
    else:
        rounds = f"(strlen(rtrim({part}, '0')) > {scale})"
    exceeds = f"strlen({whole}) > {max(0, precision - scale)}"
    if scale > precision:
        exceeds += f" OR ltrim(left({part}, {scale - precision}), '0') <> ''"
    return rounds, f"({exceeds})"


def _money(source: str) -> Conversion | str:
    """money reads a comma anywhere as nothing ('1,5' is 15.00) and rounds to cents: only whole cents, plainly written."""
    if source in ("DOUBLE", "FLOAT"):
        return "x::DECIMAL(18,2) says how many digits to keep"
    if source != "VARCHAR" and not NUMERIC_TYPES.match(source):
        return f"a {source.lower()} is no amount"
    shape = literal(_AMOUNT)
    fails = (
        f"{{x}} IS NOT NULL AND (NOT regexp_full_match({{x}}, {shape}) OR regexp_matches({{x}}, {literal(_finer(2))}))"
    )
    reason = (
        f"CASE WHEN regexp_full_match({{x}}, {shape}) THEN {said('precision', 'money would round it to cents')} "
        f"ELSE {said('type', 'not a plain amount (-1234.56): parse_money(x, locale) reads others')} END"
    )
    made = Conversion("{x}", fails, reason)
    return made if source == "VARCHAR" else _through_text(made)


def _finer(digits: int) -> str:
    """The pattern of a fraction with more digits than these, zeros at its end aside."""
    return f"[.][0-9]{{{digits}}}[0-9]*[1-9]"


def _altered(column: Column) -> bool:
    """Whether the server itself cuts or rounds elements of this array, where it is given one text for all of them."""
    base = column.base[1:]
    if base in ("numeric", "varchar", "bpchar"):
        return bool(column.modifier)
    return base in ("char", "name", "money", "interval", "time", "timetz", *_SPANS)


def _json(source: str) -> Conversion:
    if source not in ("VARCHAR", "JSON"):
        return _same("CAST(to_json({x}) AS VARCHAR)")
    value = "{x}" if source == "VARCHAR" else "CAST({x} AS VARCHAR)"
    return _same(value)


# ------------------------------------------------------------------------------------------------------------- screens


def _screened(made: Conversion, column: Column) -> Conversion:
    """The conversion with what PostgreSQL would refuse, cut or round of its result."""
    base, modifier = column.base, column.modifier
    name = _spelled(column)
    extra: list[tuple[str, str]] = []
    if base in ("date", "timestamp", "timestamptz"):
        first = _FIRST_DAY if base == "date" else _FIRST_MOMENT
        stamp = "{v}" if base != "timestamptz" else "timezone('UTC', {v})"
        early = said("range", "before 4714-11-24 BC, PostgreSQL's first day")
        extra.append(("NOT isfinite({v})", said("range", "infinite, and no source means that")))
        extra.append((f"{stamp} < {first}", early))
    if base in ("time", "timestamp", "timestamptz") and modifier and modifier[0] < 6:
        unit = 10 ** (6 - modifier[0])
        micros = "epoch_us({v})"
        extra.append((f"{micros} % {unit} <> 0", said("precision", f"{name} would round it")))
    if base == "varchar" and modifier:
        extra.append((f"strlen({{v}}) > {modifier[0]} AND length({{v}}) > {modifier[0]}", _too_long("{v}", name)))
    if base in ("interval", "timetz", *_SPANS):
        finer = f"regexp_matches({{v}}, {literal(_finer(fraction(column)))})"
        extra.append((finer, said("precision", f"{name} would round it")))
    if base == "timetz":
        extra.append((_NO_OFFSET, said("type", "has no offset, as in 10:00+01: the server would take it for UTC")))
    if base == "interval":
        extra.append(
            (_loose_interval(fraction(column)), said("precision", f"{name} may round it: write it in seconds"))
        )
        years = f"regexp_matches({{v}}, {literal(_PART_OF_YEARS)})"
        extra.append((years, said("precision", "interval rounds a fraction of years to months: write it in months")))
    if base == "char":
        extra.append(("strlen({v}) > 1", said("length", f"longer than the one byte of {name}")))
    if base == "name":
        extra.append(("strlen({v}) > 63", said("length", "longer than the 63 bytes of a name")))
    if base == "bpchar" and modifier:
        # blanks at the end mean nothing in char(n), and PostgreSQL stores it padded: so do we, to the byte
        bare = f"rtrim({made.value}, ' ')" if made.value != "{x}" else "rtrim({x}, ' ')"
        kept = f"{bare} || repeat(' ', greatest(0, {modifier[0]} - length({bare})))"
        made = replace(made, value=kept)
        extra.append((f"strlen({{v}}) > {modifier[0]} AND length({{v}}) > {modifier[0]}", _too_long("{v}", name)))
    if column.labels:
        labels = ", ".join(literal(label) for label in column.labels)
        extra.append((f"{{v}} NOT IN ({labels})", said("enum", f"not one of the labels of {column.type}")))
    if base in JSONS:
        extra.append((_BAD_JSON, "json_fault({v})"))
    if wire_of(column).arrow == pa.string():
        extra.append(
            ("contains({v}, chr(0))", said("nul", "contains a NUL character, which PostgreSQL's text cannot hold"))
        )
    if not extra:
        return made
    fails = " OR ".join(f"({test})" for test, _ in [(made.fails, ""), *extra] if test != "false")
    whens = "".join(f"WHEN {test} THEN {reason} " for test, reason in extra)
    reason = f"CASE {whens}END" if made.fails == "false" else f"CASE WHEN {made.fails} THEN {made.reason} {whens}END"
    return Conversion(made.value, fails, reason)


_NO_OFFSET = r"NOT regexp_matches({v}, '(?i)(z|[a-z]{3,}|[+-][0-9]{1,2}(:?[0-9]{2}){0,2})\s*$')"
_PART_OF_YEARS = r"(?i)[.][0-9]*[1-9][0-9]*\s*(y|de|c|mil(s?\b|le))"


def _loose_interval(digits: int) -> str:
    """SQL of "counts milli- or microseconds, and perhaps finer than so many digits of a second"."""
    if digits < 6:
        pattern = r"(?i)[0-9.]\s*(ms|milli|us|micro)"
    else:
        pattern = rf"(?i)({_finer(3)}[0-9]*\s*(ms|milli)|{_finer(0)}[0-9]*\s*(us|micro))"
    return f"regexp_matches({{v}}, {literal(pattern)})"


# DuckDB's json_valid lets trailing commas and NaN through: only a text that might hold one is read again, strictly
_BAD_JSON = (
    "CASE WHEN {v} IS NULL THEN false WHEN NOT json_valid({v}) THEN true "
    r"WHEN regexp_matches({v}, ',\s*[\]}]|[nN][aA][nN]|[iI][nN][fF]|\\u') "
    r"OR strlen({v}) > DEEPEST AND length(regexp_replace({v}, '[^\[{]', '', 'g')) > DEEPEST "
    "THEN json_fault({v}) IS NOT NULL END"
).replace("DEEPEST", str(DEEPEST))


def _too_long(v: str, name: str) -> str:
    return f"concat('length{BETWEEN}', length({v}), ' characters are too long for {name}')"


def _spelled(column: Column) -> str:
    return column.type.replace("'", "''") or column.base


def listed(source: str, column: Column, timezone: str | None) -> Conversion | str:
    """A list, element by element; a NULL element stays NULL."""
    if not source.endswith("[]") or source.endswith("[][]"):
        return "split(x, ',') or [x, y] makes a list"
    base = column.base[1:]
    item = replace(column, base=base, type=column.type.removesuffix("[]"))
    one = convert(source[:-2], item, timezone)
    if isinstance(one, str):
        return one
    value = f"list_transform({{x}}, lambda e: {one.of('e')})"
    failing = one.failing("e", one.of("e"))
    bad = f"list_filter({{x}}, lambda e: coalesce({failing}, false))"
    reason = f"list_transform({bad}[1:1], lambda e: {one.why('e', one.of('e'))})[1]"
    return Conversion(value, f"len({bad}) > 0", reason)


def _array_text(source: str, column: Column, timezone: str | None) -> Conversion | str:
    """A list whose array only PostgreSQL's text input takes: each element converted and screened, then quoted."""
    made = listed(source, column, timezone)
    if isinstance(made, str):
        return made
    escaped = "replace(replace(CAST(e AS VARCHAR), '\\', '\\\\'), '\"', '\\\"')"
    quoted = f"CASE WHEN e IS NULL THEN 'NULL' ELSE '\"' || {escaped} || '\"' END"
    text = f"'{{' || array_to_string(list_transform({made.value}, lambda e: {quoted}), ',') || '}}'"
    return Conversion(f"CASE WHEN {{x}} IS NOT NULL THEN {text} END", made.fails, made.reason)
