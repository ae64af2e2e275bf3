"""A first project file from source tables and samples of their rows: what `migrate init` writes.

The guesses are cautious: what does not clearly look like a number, a date or money stays text, digits with a leading
zero stay text, and no value of the sample is repeated in the file.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import combinations
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from mappings.ddl import FEWER_COLUMNS, too_wide
from mappings.links import Linked, Links, linked
from mappings.sql import identifier, literal
from migrate.core import Reference, Table, suggested

SCHEMA_FILE = "migrate.schema.json"
_ENOUGH = 0.95  # of a column's sample must look like what is guessed; the rest would be rejected, and a comment says so
_SAMPLE = 2_000
_FEW = 2  # rows, of fewer of which nothing is unique
_TOGETHER = 4  # columns named like keys, of which two together may be one
_LONGEST = 63  # bytes of a name in PostgreSQL
_SYSTEM_COLUMNS = ("tableoid", "xmin", "cmin", "xmax", "cmax", "ctid")  # which each of its tables has

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
_LIKE_A_DATE = r"[0-9]{1,4}[-./]([0-9]{1,2}|[A-Za-z]{3})[-./][0-9]{1,4}.*|[0-9]{8}.*"
"""What all formats of dates have in common: most columns are told by it alone that they hold none."""

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
    keys as in the project file, and all that there is of an API. Of a database `url` is what is written of it, `notes` are what
    to say of it, `references` and `doubts` (column → what a person must decide) are by its tables' names.
    """

    name: str
    kind: str
    files: Mapping[str, Sequence[str]]
    tables: Sequence[tuple[str, Table, pa.RecordBatch | None]]
    options: Mapping[str, Any] = field(default_factory=dict)
    url: str = ""
    references: Mapping[str, Sequence[Reference]] = field(default_factory=dict)
    doubts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def parted(self, table: str) -> tuple[str, str]:
        """The documents and the array whose elements a table's rows are: `orders/lines`. Elsewhere a slash is part of a name."""
        root, _, inner = table.partition("/") if "fields" in self.options else (table, "", "")
        return root, inner


@dataclass(frozen=True, slots=True)
class _Named:
    """A name for the target, and what to tell where it is not simply the source's own in snake_case."""

    name: str
    comment: str = ""


def scaffold(migration: str, drafts: Sequence[Draft]) -> str:
    """The text of a first project file, with comments; it parses."""
    sources = unique(draft.name for draft in drafts)
    whence = "Every expression below is a guess from a sample: look at each, then `migrate check`."
    if drafts and all(draft.url for draft in drafts):
        whence = (
            "Keys, types and references are the database's own. Decide what the comments ask, then `migrate check`."
        )
    lines = [
        f"# yaml-language-server: $schema={SCHEMA_FILE}",
        f"# What goes where. {whence}",
        "",
        f"migration: {_scalar(snake_case(migration))}  # the namespace of every uuid that is made: never change it",
        "target: ${env:TARGET_URL}  # postgresql://host:5432/database, from the environment",
        "# timezone: Europe/Berlin  # of times that name no zone",
        "",
        "sources:",
    ]
    for source, draft in zip(sources, drafts, strict=True):
        lines += [f"  # {_one_line(note)}" for note in draft.notes]
        if draft.url and not draft.options:
            lines.append(f"  {_scalar(source)}: {_scalar(draft.url)}")
        elif draft.url:
            lines += [f"  {_scalar(source)}:", f"    url: {_scalar(draft.url)}", *_options(draft.options, "    ")]
        else:
            lines += [f"  {_scalar(source)}:", *_files(draft.kind, draft.files), *_options(draft.options, "    ")]
    lines += ["", "tables:"]
    tables = [(source, draft, *table) for source, draft in zip(sources, drafts, strict=True) for table in draft.tables]
    names = _named([name for _, _, name, _, _ in tables], letter_first=True)
    targets = [_named(table.schema.names) for *_, table, _ in tables]
    guesses = [_guesses(table, sample) for *_, table, sample in tables]
    keys: dict[str, list[str]] = {}
    for guessed, (source, draft, _, table, sample) in zip(guesses, tables, strict=True):
        own, found = table.schema.names, [*table.key]
        if draft.parted(table.name)[1]:
            found = found or _of_elements(table, keys.get(f"{source}.{table.name.rpartition('/')[0]}", []))
            own = _own(table)
        keys[f"{source}.{table.name}"] = found or _key(own, sample, guessed)
    links = linked(
        {
            f"{source}.{table.name}": Linked(
                named.name,
                tuple(keys[f"{source}.{table.name}"]),
                {column: target.name for column, target in zip(table.schema.names, columns, strict=True)},
                bool(table.key),
                [
                    replace(r, table=f"{source}.{r.table}")
                    for r in (
                        *draft.references.get(table.name, ()),
                        *(_belonging(table, keys, source) if draft.parted(table.name)[1] else ()),
                    )
                ],
            )
            for named, columns, (source, draft, _, table, _) in zip(names, targets, tables, strict=True)
        }
    )
    for named, columns, guessed, (source, draft, _, table, _) in zip(names, targets, guesses, tables, strict=True):
        made = dict(zip(table.schema.names, columns, strict=True))
        doubts = draft.doubts.get(table.name, {})
        key = keys[f"{source}.{table.name}"]
        root, inner = draft.parted(table.name)
        start = [f"    from: {_scalar(f'{source}.{root}')}", *([f"    unnest: {_scalar(inner)}"] if inner else [])]
        lines += _table(named, start, table, guessed, key, made, links, doubts, typed=bool(draft.url))
    return "\n".join(lines).rstrip() + "\n"


def snake_case(name: str) -> str:
    """`CustomerID` → `customer_id`, `Straße (privat)` → `strasse_privat`; never empty, never over 63 bytes."""
    return _cut(_snake(name)).strip("_") or "unnamed"


def unique(names: Iterable[str]) -> list[str]:
    """In snake_case, a letter first, each only once: `source`, `source_2`."""
    return _unique(_letter_first(snake_case(name)) for name in names)


# --------------------------------------------------------------------------------------------------------------- tables


def _files(kind: str, files: Mapping[str, Sequence[str]]) -> list[str]:
    if not files:  # an API, which is told by its options
        return []
    if set(files) == {""}:
        return [f"    {kind}:", *(f"      - {_scalar(glob)}" for glob in files[""])]
    lines = [f"    {kind}:"]
    for table, globs in files.items():
        written = _scalar(globs[0]) if len(globs) == 1 else "[" + ", ".join(map(_flow, globs)) + "]"
        lines.append(f"      {_scalar(table)}: {written}")
    return lines


def _table(
    named: _Named,
    start: Sequence[str],
    table: Table,
    guesses: Mapping[str, _Guess],
    key: Sequence[str],
    targets: Mapping[str, _Named],
    links: Links,
    doubts: Mapping[str, str],
    *,
    typed: bool,
) -> list[str]:
    """`start`: what the rows are taken from, and the array whose elements they are. `typed`: the source's own catalogue has said
    what its columns are, and what identifies a row."""
    columns, inner = table.schema.names, len(start) > 1
    notes = [*((named.comment,) if named.comment else ()), *table.notes]
    if typed and not key:
        notes.append("no key at the source: say `key:` if columns identify a row; without it only append is possible")
    if inner and not any(column.startswith("_parent.") for column in key):
        notes.append("nothing here is sure to say whose elements these are: its parent has no key that was found")
    if wrong := too_wide(len(columns)):
        notes.append(f"{wrong}: `migrate check` refuses it. {FEWER_COLUMNS}")
    lines = [f"  {named.name}:"]
    lines += [f"    # {_one_line(note)}" for note in notes]
    lines += start
    if key:
        whole = ", ".join(map(_flow, key))
        whence = "its parent's, and its place there" if inner and "_position" in key else "unique in the sample"
        why = "" if table.key else f"  # {whence}; the target's primary key may differ"
        lines.append(f"    key: {f'[{whole}]' if len(key) > 1 else _scalar(key[0])}{why}")
        made = ", ".join(_flow(targets[column].name) for column in key)
        made = f"[{made}]" if len(key) > 1 else made
        if table.key:
            lines.append(f"    primary_key: {made}")
        else:
            lines.append(f"    # primary_key: {made}  # for a table that the toolkit makes")
    lines.append("    mode: append  # or upsert, or replace")
    lines.append("    columns:")
    around = [c for c in columns if inner and c.startswith("_parent.")]
    named_like_keys = [c for c in around if c in key or _LIKELY_KEY.search(c)]
    beside = [c for c in around if c not in (named_like_keys or around[:1])]  # an element has to know whose it is
    if beside:
        lines.append(f"      # of the parent there are too: {_one_line(', '.join(map(quoted, beside)))}")
    for column in columns:
        if column in beside:
            continue
        if column in table.refused:
            lines.append(
                f"      # {_one_line(f'{column} is left out, for it cannot be read: {table.refused[column]}')}"
            )
            continue
        guess, target = guesses[column], targets[column]
        written = _scalar(guess.expression)
        if guess.type:
            written = f"{{value: {_flow(guess.expression)}, type: {_flow(guess.type)}}}"
        link = links.links.get((named.name, target.name))
        if link is not None:
            by = ", ".join(_flow(quoted(each)) for each in link.by)
            which = "" if link.only else f"column: {_flow(link.column)}, "
            written = f"{{references: {_flow(link.table)}, {which}by: {f'[{by}]' if len(link.by) > 1 else by}}}"
        said = (target.comment, guess.comment, links.comment((named.name, target.name)), doubts.get(column, ""))
        comment = _one_line("; ".join(filter(None, said)))
        lines.append(f"      {_scalar(target.name)}: {written}{'  # ' if comment else ''}{comment}")
    return [*lines, ""]


def _own(table: Table) -> list[str]:
    """The columns but those of what elements are in: that may have more of them."""
    return [c for c in table.schema.names if c != "_position" and not c.startswith("_parent.")]


def _of_elements(table: Table, parent: Sequence[str]) -> list[str]:
    """The key of an array's elements: that of what the array is in, and their place in it; nothing where that has none."""
    key = [*(f"_parent.{column}" for column in parent), "_position"]
    return key if parent and set(key) <= set(table.schema.names) else []


def _belonging(table: Table, keys: Mapping[str, Sequence[str]], source: str) -> list[Reference]:
    """What the elements of an array say of what the array is in, where that has a key."""
    around = table.name.rpartition("/")[0]
    parent = tuple(keys.get(f"{source}.{around}", ())) if around else ()
    held = tuple(f"_parent.{column}" for column in parent)
    return [Reference(held, around, parent)] if parent and set(held) <= set(table.schema.names) else []


def _texts(sample: pa.RecordBatch | None, column: str) -> list[str | None]:
    if sample is None or column not in sample.schema.names:
        return []
    try:
        return list(pc.cast(sample.column(column).slice(0, _SAMPLE), pa.string()).to_pylist())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # bytes that are no text, or nested values: no guess
        return []


def _key(columns: Sequence[str], sample: pa.RecordBatch | None, guesses: Mapping[str, _Guess]) -> list[str]:
    """The columns that seem to identify a row: unique in all of the sample, never empty; one before two, named like a key before
    others."""
    if sample is None or sample.num_rows < _FEW:
        return []
    whole = [
        column
        for column in columns
        if guesses[column].type in ("", "bigint")
        and "(" not in guesses[column].expression.strip('"')
        and all(text and not text.startswith(("[", "{")) for text in _texts(sample, column))
    ]
    named_so = [column for column in whole if _LIKELY_KEY.search(column)]
    one = [(column,) for column in sorted(whole, key=lambda column: column not in named_so)]
    return next((list(key) for key in [*one, *combinations(named_so[:_TOGETHER], 2)] if _identifies(sample, key)), [])


def _identifies(sample: pa.RecordBatch, key: Sequence[str]) -> bool:
    try:
        table = pa.table({str(at): sample.column(column) for at, column in enumerate(key)})
        return bool(table.group_by(table.column_names).aggregate([]).num_rows == sample.num_rows)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowKeyError):  # values that cannot be compared
        return False


# -------------------------------------------------------------------------------------------------------------- guesses

_MADE = {"parse_bool": "boolean", "parse_date": "date", "parse_timestamp": "timestamp", "parse_money": "numeric"}


def looks_like(table: Table, sample: pa.RecordBatch) -> dict[str, tuple[str, str]]:
    """What a sample's texts that nobody gave a type look like: the PostgreSQL type of each, and what to tell about it."""
    guesses = _guesses(table, sample)
    return {
        field.name: (guess.type or _MADE.get(guess.expression.partition("(")[0], "text"), guess.comment)
        for field in table.schema
        if (guess := guesses[field.name]) and _untyped(field)
    }


def _guesses(table: Table, sample: pa.RecordBatch | None) -> dict[str, _Guess]:
    return {
        field.name: _guess(field.name, _texts(sample, field.name)) if _untyped(field) else _Guess(quoted(field.name))
        for field in table.schema
    }


def _untyped(field: pa.Field) -> bool:
    return pa.types.is_string(field.type) and not suggested(field)


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
    if _matching(_LIKE_A_DATE, texts) < _ENOUGH * len(texts):
        return None
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
    fits = re.compile(pattern).fullmatch
    return sum(fits(text) is not None for text in texts)


def _misfits(count: int, total: int) -> str:
    return f"{count} of {total} in the sample do not fit" if count else ""


# -------------------------------------------------------------------------------------------------------------- writing


def quoted(name: str) -> str:
    """A source column's name as an expression spells it: bare where SQL can read it so, else in double quotes."""
    if re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) and name.lower() not in _keywords():
        return name
    return identifier(name)


@cache
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


_SIGNS = {"\t": "tab", "": "none"}


def _options(options: Mapping[str, Any], indent: str) -> list[str]:
    lines = []
    for option, value in options.items():
        if isinstance(value, Mapping):
            inner = _options(value, indent + "  ")  # a key without anything in it would be null
            lines += [f"{indent}{_scalar(option)}:", *inner] if inner else []
        else:
            sign = _SIGNS.get(value) if option in ("delimiter", "quote", "escape") else None
            lines.append(f"{indent}{_scalar(option)}: {sign or _option(value)}")
    return lines


def _option(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_flow(str(each)) for each in value) + "]"
    return _scalar(str(value))


def _one_line(note: str) -> str:
    return "".join(c if c.isprintable() else " " for c in note)


def _snake(name: str) -> str:
    bare = "".join(c for c in unicodedata.normalize("NFKD", name.replace("ß", "ss")) if not unicodedata.combining(c))
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", bare)
    return re.sub(r"\W+|_+", "_", split).strip("_").lower()


def _named(names: Sequence[str], *, letter_first: bool = False) -> list[_Named]:
    """Names for the target, with what became of those that are too long or taken."""
    wanted = [_letter_first(snake_case(name)) if letter_first else snake_case(name) for name in names]
    finals = _unique(wanted, () if letter_first else _SYSTEM_COLUMNS)
    made = []
    for name, first, final in zip(names, wanted, finals, strict=True):
        long = f"{name}: cut to the 63 bytes that a name may have" if len(_snake(name).encode()) > _LONGEST else ""
        made.append(_Named(final, long or (f"{name}: {first} is taken" if final != first else "")))
    return made


def _letter_first(name: str) -> str:
    return name if name[0].isalpha() else _cut(f"t_{name}")


def _unique(names: Iterable[str], never: Sequence[str] = ()) -> list[str]:
    taken: dict[str, None] = {}  # a set that keeps its order
    for name in names:
        candidate, number = name, 1
        while candidate in taken or candidate in never:
            number += 1
            candidate = f"{_cut(name, _LONGEST - len(f'_{number}'))}_{number}"
        taken[candidate] = None
    return list(taken)


def _cut(name: str, size: int = _LONGEST) -> str:
    return name.encode()[:size].decode(errors="ignore")
