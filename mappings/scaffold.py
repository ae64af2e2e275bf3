"""A first project file from source tables and samples of their rows: what `migrate init` writes.

The guesses are cautious: what does not clearly look like a number, a date or money stays text, digits with a leading
zero stay text, and no value of the sample is repeated in the file.
"""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from mappings.sql import identifier, literal
from migrate.core import Reference, Table

SCHEMA_FILE = "migrate.schema.json"
_ENOUGH = 0.95  # of a column's sample must look like what is guessed; the rest would be rejected, and a comment says so
_SAMPLE = 2_000

_INTEGER = r"-?(0|[1-9][0-9]{0,17})"
_DECIMAL = r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,9})?"
_CURRENCY = r"(€|\$|£|EUR|USD|GBP|CHF)"
_MONEY = {
    "de": rf"{_CURRENCY}? ?-?([1-9][0-9]{{0,2}}(\.[0-9]{{3}})+|[0-9]+)(,[0-9]{{1,4}})? ?{_CURRENCY}?",
    "en": rf"-?{_CURRENCY}? ?-?([1-9][0-9]{{0,2}}(,[0-9]{{3}})+|[0-9]+)(\.[0-9]{{1,4}})? ?{_CURRENCY}?",
}
_BOOLEANS = (
    *({"true", "false"}, {"yes", "no"}, {"y", "n"}, {"t", "f"}),
    *({"ja", "nein"}, {"j", "n"}, {"wahr", "falsch"}, {"oui", "non"}),
)
_D, _DD = "([1-9]|0[1-9]|[12][0-9]|3[01])", "(0[1-9]|[12][0-9]|3[01])"
_M, _MM = "([1-9]|0[1-9]|1[0-2])", "(0[1-9]|1[0-2])"
_MON = "(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
_YYYY = "(1[6-9]|20)[0-9]{2}"
_DATES = {  # the strict before the lax, for a tie goes to the first; two-digit years are left to people
    "YYYY-MM-DD": f"{_YYYY}-{_MM}-{_DD}",
    "DD.MM.YYYY": rf"{_DD}\.{_MM}\.{_YYYY}",
    "DD/MM/YYYY": f"{_DD}/{_MM}/{_YYYY}",
    "MM/DD/YYYY": f"{_MM}/{_DD}/{_YYYY}",
    "DD-MM-YYYY": f"{_DD}-{_MM}-{_YYYY}",
    "YYYY/MM/DD": f"{_YYYY}/{_MM}/{_DD}",
    "YYYYMMDD": f"{_YYYY}{_MM}{_DD}",
    "DD-MON-YYYY": f"{_DD}-{_MON}-{_YYYY}",
    "D.M.YYYY": rf"{_D}\.{_M}\.{_YYYY}",
    "D/M/YYYY": f"{_D}/{_M}/{_YYYY}",
    "M/D/YYYY": f"{_M}/{_D}/{_YYYY}",
}
_TIMES = {
    " HH24:MI:SS": " ([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]",
    " HH24:MI": " ([01][0-9]|2[0-3]):[0-5][0-9]",
    " HH24:MI:SS.US": r" ([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{1,6}",
}
_MOMENTS = _DATES | {
    date + time.replace(" ", gap): day + moment.replace(" ", gap)
    for time, moment in _TIMES.items()
    for date, day in _DATES.items()
    for gap in (" ", "T")
    if gap == " " or date == "YYYY-MM-DD"
}
_NEVER_A_NUMBER = re.compile(r"phone|tel|fax|mobil|zip|plz|post|iban|bic|ssn|vat|account|konto", re.IGNORECASE)
_LIKELY_KEY = re.compile(r"(id|nr|no|num|number|key|code)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Guess:
    """A target column's expression, its type where the expression does not say it, and what to tell about it."""

    expression: str
    type: str = ""
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """A source to write down. `kind` is the key of its files, which are table → globs ("" → as the kind has it).

    `tables` are a name for the target, the source's table and some of its rows, as texts; `options` are reading options,
    keys as in the project file. Of a database `url` is what is written of it, and `references` are by its tables' names.
    """

    name: str
    kind: str
    files: Mapping[str, Sequence[str]]
    tables: Sequence[tuple[str, Table, pa.RecordBatch | None]]
    options: Mapping[str, Any] = field(default_factory=dict)
    url: str = ""
    references: Mapping[str, Sequence[Reference]] = field(default_factory=dict)


def scaffold(migration: str, drafts: Sequence[Draft]) -> str:
    """The text of a first project file, with comments; it parses."""
    sources = _unique(_letter_first(snake_case(draft.name)) for draft in drafts)
    lines = [
        f"# yaml-language-server: $schema={SCHEMA_FILE}",
        "# What goes where. Every expression below is a guess from a sample: look at each, then `migrate check`.",
        "",
        f"migration: {_scalar(snake_case(migration))}  # the namespace of every uuid that is made: never change it",
        "target: ${env:TARGET_URL}  # postgresql://host:5432/database, from the environment",
        "# timezone: Europe/Berlin  # of times that name no zone",
        "",
        "sources:",
    ]
    for source, draft in zip(sources, drafts, strict=True):
        if draft.url:
            lines.append(f"  {_scalar(source)}: {_scalar(draft.url)}")
        else:
            lines += [f"  {_scalar(source)}:", *_files(draft.kind, draft.files), *_options(draft.options, "    ")]
    lines += ["", "tables:"]
    tables = [(source, draft, *table) for source, draft in zip(sources, drafts, strict=True) for table in draft.tables]
    names = _unique(_letter_first(snake_case(name)) for _, _, name, _, _ in tables)
    targets = {(source, table.name): name for name, (source, _, _, table, _) in zip(names, tables, strict=True)}
    keys = {(source, table.name): table.key for source, _, _, table, _ in tables}
    for target, (source, draft, _, table, sample) in zip(names, tables, strict=True):
        referenced = _References(
            {r.columns: targets.get((source, r.table), "") for r in draft.references.get(table.name, ())},
            {
                r.columns
                for r in draft.references.get(table.name, ())
                if keys.get((source, r.table)) == r.parent_columns and len(r.columns) == 1
            },
        )
        lines += _table(target, source, table, sample, referenced)
    return "\n".join(lines).rstrip() + "\n"


def snake_case(name: str) -> str:
    """`CustomerID` → `customer_id`, `Straße (privat)` → `strasse_privat`; never empty, never over 63 bytes."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", name.replace("ß", "ss")) if not unicodedata.combining(c))
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", bare)
    return _cut(re.sub(r"\W+|_+", "_", split).strip("_").lower()).strip("_") or "unnamed"


# --------------------------------------------------------------------------------------------------------------- tables


def _files(kind: str, files: Mapping[str, Sequence[str]]) -> list[str]:
    if set(files) == {""}:
        return [f"    {kind}:", *(f"      - {_scalar(glob)}" for glob in files[""])]
    lines = [f"    {kind}:"]
    for table, globs in files.items():
        written = _scalar(globs[0]) if len(globs) == 1 else "[" + ", ".join(map(_flow, globs)) + "]"
        lines.append(f"      {_scalar(table)}: {written}")
    return lines


@dataclass(frozen=True, slots=True)
class _References:
    """The columns of a table that reference another, by whose name ("": it is not drafted), and which the format can say."""

    tables: Mapping[tuple[str, ...], str]
    plain: Collection[tuple[str, ...]]

    def of(self, column: str) -> tuple[str, str]:
        """(the table that a column references by itself, a comment on what cannot be written)."""
        for columns, table in self.tables.items():
            if column in columns:
                if table and columns in self.plain:
                    return table, ""
                whom = table or "a table that is left out"
                return "", f"references {whom}" + (f", with {', '.join(columns)}" if len(columns) > 1 else "")
        return "", ""


def _table(name: str, source: str, table: Table, sample: pa.RecordBatch | None, references: _References) -> list[str]:
    columns = table.schema.names
    values = {column: _texts(sample, column) for column in columns}
    guesses = {column: _guess(column, values[column]) for column in columns}
    targets = dict(zip(columns, _unique(snake_case(column) for column in columns), strict=True))
    key = list(table.key) or _key(columns, sample, guesses)
    lines = [f"  {name}:"]
    lines += [f"    # {_one_line(note)}" for note in table.notes]
    lines.append(f"    from: {_scalar(f'{source}.{table.name}')}")
    if key:
        written = ", ".join(map(_flow, key))
        why = "" if table.key else "  # unique in the sample; the target's primary key may differ"
        lines.append(f"    key: {f'[{written}]' if len(key) > 1 else _scalar(key[0])}{why}")
        made = ", ".join(_flow(targets[column]) for column in key)
        if table.key:
            lines.append(f"    primary_key: {f'[{made}]' if len(key) > 1 else made}")
        else:
            lines.append(f"    # primary_key: {made}  # for a table that the toolkit makes")
    lines.append("    mode: append  # or upsert, or replace")
    lines.append("    columns:")
    for column in columns:
        guess = guesses[column]
        written = _scalar(guess.expression)
        if guess.type:
            written = f"{{value: {_flow(guess.expression)}, type: {_flow(guess.type)}}}"
        parent, comment = references.of(column)
        if parent:
            written = f"{{references: {_flow(parent)}, by: {_flow(guess.expression)}}}"
        comment = "; ".join(filter(None, (guess.comment, comment)))
        lines.append(f"      {_scalar(targets[column])}: {written}{'  # ' if comment else ''}{comment}")
    return [*lines, ""]


def _texts(sample: pa.RecordBatch | None, column: str) -> list[str | None]:
    if sample is None or column not in sample.schema.names:
        return []
    try:
        return list(pc.cast(sample.column(column).slice(0, _SAMPLE), pa.string()).to_pylist())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # bytes that are no text, or nested values: no guess
        return []


def _key(columns: Sequence[str], sample: pa.RecordBatch | None, guesses: Mapping[str, _Guess]) -> list[str]:
    """The column that seems to identify a row: unique, never empty, named like a key before others."""
    found = []
    for column in columns:
        values = _texts(sample, column)
        whole = guesses[column].type in ("", "bigint") and "(" not in guesses[column].expression.strip('"')
        if len(values) > 1 and all(values) and len(set(values)) == len(values) and whole:
            found.append(column)
    return sorted(found, key=lambda column: _LIKELY_KEY.search(column) is None)[:1]


# -------------------------------------------------------------------------------------------------------------- guesses


def _guess(column: str, values: Sequence[str | None]) -> _Guess:
    name = quoted(column)
    texts = [value.strip() for value in values if value is not None and value.strip()]
    if not texts or _NEVER_A_NUMBER.search(column):
        return _Guess(name)
    if {text.lower() for text in texts} in _BOOLEANS:
        return _Guess(f"parse_bool({name})")
    return _date(name, texts) or _number(name, texts) or _Guess(name)


def _date(name: str, texts: Sequence[str]) -> _Guess | None:
    """Take formats, the one that fits most values first, until enough of the sample is covered."""
    left, formats = list(texts), list[str]()
    while left:
        fits = {each: _matching(pattern, left) for each, pattern in _MOMENTS.items()}
        best = max(fits, key=lambda each: fits[each])
        if not fits[best] or fits[best] < (1 - _ENOUGH) * len(texts):
            break
        formats.append(best)
        left = [text for text in left if not re.fullmatch(_MOMENTS[best], text)]
    if not formats or len(left) > (1 - _ENOUGH) * len(texts):
        return None
    slashed = [each for each in formats if re.match("DD?/MM?/", each)]
    swapped = [re.sub("(DD?)/(MM?)/", r"\2/\1/", each) for each in slashed]
    both = any(
        _matching(_MOMENTS[one], texts) == _matching(_MOMENTS[other], texts)
        for one, other in zip(slashed, swapped, strict=True)
    )
    doubt = "day first or month first? the sample fits both" if both else ""
    function = "parse_timestamp" if any("HH24" in each for each in formats) else "parse_date"
    comment = "; ".join(filter(None, (doubt, _misfits(len(left), len(texts)))))
    return _Guess(f"{function}({name}, {', '.join(map(literal, formats))})", comment=comment)


def _number(name: str, texts: Sequence[str]) -> _Guess | None:
    def enough(pattern: str) -> bool:
        return _matching(pattern, texts) >= _ENOUGH * len(texts)

    def misfits(pattern: str) -> str:
        return _misfits(len(texts) - _matching(pattern, texts), len(texts))

    if enough(_INTEGER):
        return _Guess(name, "bigint", misfits(_INTEGER))
    if enough(_DECIMAL):
        scale = max(len(text.partition(".")[2]) for text in texts if re.fullmatch(_DECIMAL, text))
        three = all(re.fullmatch(r"-?[0-9]{1,3}\.[0-9]{3}", text) for text in texts)
        comment = "thousands or decimals? the sample fits both" if three else misfits(_DECIMAL)
        return _Guess(name, f"numeric({18 + scale},{scale})", comment)
    plain = [text for text in texts if re.fullmatch("[0-9]+", text)]
    if any(text.startswith("0") and len(text) > 1 for text in plain):
        return None
    locale = max(_MONEY, key=lambda each: _matching(_MONEY[each], texts))
    if enough(_MONEY[locale]) and len(plain) < len(texts):
        fits = [each for each in _MONEY if _matching(_MONEY[each], texts) == _matching(_MONEY[locale], texts)]
        comment = (
            f"thousands or decimals? the sample fits {' and '.join(fits)}" if len(fits) > 1 else misfits(_MONEY[locale])
        )
        return _Guess(f"parse_money({name}, {literal(locale)})", comment=comment)
    return None


def _matching(pattern: str, texts: Iterable[str]) -> int:
    return sum(re.fullmatch(pattern, text) is not None for text in texts)


def _misfits(count: int, total: int) -> str:
    return f"{count} of {total} in the sample do not fit" if count else ""


# -------------------------------------------------------------------------------------------------------------- writing


def quoted(name: str) -> str:
    """A source column's name as an expression spells it: bare where SQL can read it so, else in double quotes."""
    if re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) and name.lower() not in _keywords():
        return name
    return identifier(name)


def _keywords() -> frozenset[str]:
    rows = duckdb.execute(
        "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category <> 'unreserved'"
    ).fetchall()
    return frozenset(word for (word,) in rows)


def _scalar(text: str) -> str:
    """The text as a YAML scalar that reads back as itself, plain where that can be."""
    return _spelled(text, lambda plain: f"{plain}: {plain}")


def _flow(text: str) -> str:
    """The same between brackets."""
    return _spelled(text, lambda plain: f"{{{plain}: {plain}, x: y}}")


def _spelled(text: str, inside: Callable[[str], str]) -> str:
    if not text.isprintable():
        return yaml.dump(text, default_style='"', allow_unicode=True, width=float("inf")).rstrip("\n")
    return text if _reads_back(text, inside(text)) else "'" + text.replace("'", "''") + "'"


def _reads_back(text: str, document: str) -> bool:
    """Whether YAML takes the first key and the first value of the document for this text."""
    try:
        node = yaml.compose(document, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return False
    if not isinstance(node, yaml.MappingNode) or len(node.value) != 1 + document.startswith("{"):
        return False
    return all(each.value == text and each.tag == "tag:yaml.org,2002:str" for each in node.value[0])


def _options(options: Mapping[str, Any], indent: str) -> list[str]:
    lines = []
    for option, value in options.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{_scalar(option)}:", *_options(value, indent + "  ")]
        else:
            lines.append(f"{indent}{_scalar(option)}: {_option(value)}")
    return lines


def _option(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_flow(str(each)) for each in value) + "]"
    return {"\t": "tab", "": "none"}.get(value) or _scalar(str(value))


def _one_line(note: str) -> str:
    return "".join(c if c.isprintable() else " " for c in note)


def _letter_first(name: str) -> str:
    return name if name[0].isalpha() else _cut(f"t_{name}")


def _unique(names: Iterable[str]) -> list[str]:
    taken: dict[str, None] = {}  # a set that keeps its order
    for name in names:
        candidate, number = name, 1
        while candidate in taken:
            number += 1
            candidate = f"{_cut(name, 63 - len(f'_{number}'))}_{number}"
        taken[candidate] = None
    return list(taken)


def _cut(name: str, size: int = 63) -> str:
    return name.encode()[:size].decode(errors="ignore")
