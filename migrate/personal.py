"""What of rejected and of differing rows may be shown, where the project calls some of a table's columns personal.

Only the text of the mapping is looked at, so the doubt is decided against showing: a value is masked too where the column
is made of a source column that a personal one is made of.
"""

import re
from dataclasses import replace
from functools import lru_cache
from typing import TypeVar

from mappings.dedupe import Summary
from mappings.spec import ColumnSpec, TableSpec
from migrate.core import Finding
from migrate.quarantine import QuarantinedRow

TELLS_NO_VALUE = frozenset({"structure", "fields", "encoding", "survivor", "check", "not_null", "unique", "length"})
"""Rules whose reason names places, bytes, sizes and constraints only, whichever column they are about."""

F = TypeVar("F", bound=Finding)

_NAMES_KEYS = frozenset({"unique", "survivor"})
"""Rules whose reason names another row by its source key."""

_WITHHELD = "values are not shown, they may be personal"

_SHOWN_MASKED = re.compile(r"[^\s,:]+(?:=| should be )(?:\(personal\)|NULL)(?: and is (?:\(personal\)|NULL))?")
"""A column whose value a finding shows masked already."""

_LITERAL = re.compile(r"'(?:[^']|'')*'")
_QUOTED = re.compile(r'"((?:[^"]|"")+)"')
_TYPE = re.compile(r"(?:::|\bas\b)\s*\w+", re.IGNORECASE)
_BARE = re.compile(r"[^\W\d]\w*(?!\w*\s*\()")
_WORDS_OF_SQL = frozenset(
    {"and", "or", "not", "null", "is", "in", "like", "ilike", "between", "case", "when", "then", "else", "end"}
    | {"cast", "try_cast", "as", "true", "false", "distinct", "from"}
)


def masked(row: QuarantinedRow, spec: TableSpec) -> QuarantinedRow:
    """The row without personal values, and without the raw bytes that hold them."""
    if not spec.personal:
        return row
    made_of = {c.name: _made_of(c) for c in spec.columns}
    of_personal = made_from(spec)
    hidden = f"`migrate rejects show {row.id}` says why)"
    if row.column in spec.personal:
        row = replace(row, value="(personal)", reason=f"(personal; {hidden}")
    elif row.column not in made_of or made_of[row.column] & of_personal or _of_several(row):
        # A source's column, one of the same source as a personal one, or the server did not say which.
        value = None if row.value is None else "(may be personal)"
        reason = row.reason if row.rule in TELLS_NO_VALUE else f"(may be personal; {hidden}"
        row = replace(row, value=value, reason=reason)
    if key_is_personal(spec):
        if row.rule in _NAMES_KEYS:
            row = replace(row, reason=f"(personal; {hidden}")
        locator = row.locator if "file" in row.locator else {"key": "(personal)"}
        row = replace(row, key=None if row.key is None else "(personal)", locator=locator)
    elif _names(str(row.locator.get("key", "")).casefold(), of_personal):
        # A database's own key, which the project need not have named.
        row = replace(row, locator={"key": "(personal)"})
    return replace(row, raw=b"")


def made_from(spec: TableSpec) -> frozenset[str]:
    """The source columns that personal columns are made of, their letters all small."""
    return frozenset[str]().union(*(_made_of(c) for c in spec.columns if c.name in spec.personal))


def doubtful(spec: TableSpec) -> frozenset[str]:
    """The target columns that are personal, or made of a source column that a personal one is made of."""
    made_of = {c.name: _made_of(c) for c in spec.columns}
    of_personal = made_from(spec)
    return frozenset(spec.personal) | {name for name, names in made_of.items() if names & of_personal}


def masked_finding(finding: F, spec: TableSpec, *, strictly: bool = False) -> F:
    """The difference without the values of columns that are, or may be, personal.

    What a check of another kind than ours says is taken as it is, or `strictly` not at all.
    """
    hidden, kind = doubtful(spec), finding.check.partition(".")[0]
    if not hidden or kind in ("counts", "verification") or finding.check.endswith(".uncovered"):
        return finding
    ours = kind in ("rows", "aggregates")
    if not ours and not strictly:
        return finding
    key, shown = finding.key or "", f"{finding.message}\n{finding.key or ''}"
    named = sorted(c for c in hidden if re.search(rf"(?<!\w){re.escape(c)}(?!\w)", _SHOWN_MASKED.sub("", shown)))
    if ours and not named:
        return finding
    keyed = any(key.startswith(f"{c.name}=") for c in spec.columns if c.name not in hidden)
    return replace(
        finding,
        message=": ".join([finding.table, *([", ".join(named)] if named else []), _WITHHELD]),
        key=finding.key if keyed and not _names(_SHOWN_MASKED.sub("", key), hidden) else finding.key and "(personal)",
        expected=finding.expected and "(may be personal)",
        actual=finding.actual and "(may be personal)",
    )


def _names(key: str, columns: frozenset[str]) -> bool:
    """Whether a key, as rows are named by it (`a=1, b=2`), has one of the columns in it."""
    return any(re.search(rf"(?:^|, ){re.escape(name)}=", key) for name in columns)


def key_is_personal(spec: TableSpec) -> bool:
    """Whether source keys, by which rows are named, hold what a personal column is made of."""
    return bool({name.casefold() for name in spec.key} & made_from(spec))


def masked_summary(found: Summary, spec: TableSpec) -> Summary:
    """Duplicates in short, without source keys that are personal."""
    if not key_is_personal(spec):
        return found
    samples = tuple(("(personal)", ("(personal)",) * len(losers), rule) for _, losers, rule in found.samples)
    return replace(found, samples=samples)


def _made_of(column: ColumnSpec) -> frozenset[str]:
    """The names in what a column is made of; of a reference, in what identifies the parent."""
    texts = [by.text for by in column.reference.by] if column.reference is not None else [column.expression]
    return frozenset[str]().union(*map(source_names, texts))


def _of_several(row: QuarantinedRow) -> bool:
    """Whether the reason names values of other columns too, as a foreign key's over several does."""
    return row.rule == "foreign_key" and ", " in row.reason


@lru_cache(maxsize=4096)
def source_names(expression: str) -> frozenset[str]:
    """The names in an SQL expression that may be columns, casefolded: no functions, types, literals or words of SQL."""
    bare = _LITERAL.sub(" ", expression)
    names = {*_QUOTED.findall(bare), *_BARE.findall(_TYPE.sub(" ", _QUOTED.sub(" ", bare)))}
    return frozenset(name.replace('""', '"').casefold() for name in names) - _WORDS_OF_SQL
