"""Constraints: the statements that look for rows which break a rule of the target or of the mapping, and what they found."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from psycopg.sql import Identifier

from migrate.core import Finding, ForeignKey, Severity
from validators.rows import LIMIT, Shape

Kind = Literal["foreign key", "unique key", "NOT NULL", "check"]

CHECKS = {"foreign key": "orphan", "unique key": "duplicate", "NOT NULL": "null", "check": "check"}
"""The names of findings, after `constraints.`, by the kind of rule."""

JOINS = ("foreign key", "unique key")
"""The rules that compare rows with others. The rest of them take one pass over the table, as counting it does."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What must hold of a table's rows: a constraint of the target, or (`promised`) what only the mapping says.

    `broken` is SQL of "this row breaks it", over a row `t`; of a unique key, of "this row counts", and no two such rows may
    have the same `terms` (SQL as well). `told` ends the sentence "the row …" in a finding. `guaranteed`: PostgreSQL itself
    holds it, at all times. `weak` says why a declared one is less than it looks, and how to mend that. `allowed` rows may
    break it.
    """

    kind: Kind
    name: str
    columns: tuple[str, ...]
    broken: str
    told: str
    terms: tuple[str, ...] = ()
    guaranteed: bool = False
    promised: bool = False
    weak: str = ""
    allowed: int = 0

    @property
    def title(self) -> str:
        return self.name if self.promised else f"{self.kind} {self.name}"


# ---------------------------------------------------------------------------------------------------------------- rules


def foreign_key(key: ForeignKey, *, promised: bool = False, weak: str = "", allowed: int = 0) -> Rule:
    """Every row has its parent. Never guaranteed: triggers hold it, and what was written while they were off is not held."""
    ours = [f"t.{_quoted(c)}" for c in key.columns]
    same = " AND ".join(f"p.{_quoted(p)} = {c}" for p, c in zip(key.parent_columns, ours, strict=True))
    parents = ((key.parent_schema, key.parent_name), *key.elsewhere)
    missing = [f"NOT EXISTS (SELECT FROM {_quoted(*parent)} p WHERE {same})" for parent in parents]
    broken = " AND ".join([*(f"{c} IS NOT NULL" for c in ours), *missing])
    if key.full and len(ours) > 1:
        broken = f"({broken}) OR num_nulls({', '.join(ours)}) BETWEEN 1 AND {len(ours) - 1}"
    told = f"names no row of {key.parent} ({', '.join(key.parent_columns)})"
    return Rule("foreign key", key.name, key.columns, broken, told, promised=promised, weak=weak, allowed=allowed)


def unique_key(
    name: str,
    columns: Sequence[str],
    terms: Sequence[str] = (),
    *,
    where: str = "",
    nulls_equal: bool = False,
    guaranteed: bool = False,
    promised: bool = False,
    weak: str = "",
) -> Rule:
    """No two rows share a key. `terms`: the index's own, where it is over expressions; `where`: which rows it covers."""
    terms = tuple(terms) or tuple(f"t.{_quoted(c)}" for c in columns)
    counts = [f"({where})"] if where else []
    counts += [] if nulls_equal else [f"{term} IS NOT NULL" for term in terms]
    told = "shares its key with another"
    return Rule(
        "unique key", name, tuple(columns), " AND ".join(counts) or "true", told, terms, guaranteed, promised, weak
    )


def not_null(column: str, *, name: str = "", guaranteed: bool = False, promised: bool = False, weak: str = "") -> Rule:
    """A column is never NULL."""
    broken, told = f"t.{_quoted(column)} IS NULL", f"has no {column}"
    return Rule("NOT NULL", name or column, (column,), broken, told, (), guaranteed, promised, weak)


def check(
    name: str,
    columns: Sequence[str],
    expression: str,
    *,
    domain: bool = False,
    guaranteed: bool = False,
    weak: str = "",
) -> Rule:
    """A CHECK holds, which NULL does as well. `expression`: as PostgreSQL writes it; a `domain`'s speaks of VALUE."""
    broken = f"NOT ({expression})"
    if domain:
        broken = f"EXISTS (SELECT FROM (SELECT t.{_quoted(columns[0])} AS value) v WHERE {broken})"
    told = f"breaks the check {name}"
    return Rule("check", name, tuple(columns), broken, told, (), guaranteed, False, weak)


# ----------------------------------------------------------------------------------------------------------- statements


def statement(schema: str, table: str, rule: Rule, key: Sequence[str], limit: int) -> tuple[tuple[str, ...], str]:
    """(columns, SQL): the rows that break a rule, one for each distinct set of these columns, with their number last.

    Values come as text, no longer than anybody would read. The columns are those of the row's key and of the rule.
    """
    if rule.allowed:
        return (), f"SELECT count(*) FROM {_quoted(schema, table)} t WHERE {rule.broken}"
    if rule.terms:
        names = rule.columns if len(rule.columns) == len(rule.terms) else rule.terms
        shown, having = list(rule.terms), " HAVING count(*) > 1"
    else:
        names = tuple(dict.fromkeys((*key, *rule.columns)))
        shown, having = [f"t.{_quoted(n)}" for n in names], ""
    texts = [f"left(({term})::text, 1000)" for term in shown]
    grouped = ", ".join(shown if rule.terms else texts)
    return tuple(names), (
        f"SELECT {', '.join([*texts, 'count(*)'])} FROM {_quoted(schema, table)} t WHERE {rule.broken} "
        f"GROUP BY {grouped or '()'}{having or ' HAVING count(*) > 0'} "
        f"ORDER BY {', '.join(str(n + 1) for n in range(len(shown))) or '1'} LIMIT {limit}"
    )


def sequence(schema: str, table: str, column: str, of: str) -> str:
    """SQL of one row, if the column's sequence will run into what stands there, or has no next value. `of`: its quoted name.

    The row: what the sequence gives next, NULL where it is exhausted; the farthest value that stands in the column; whether
    there is room for one past that; whether it rises.
    """
    name, relation = _quoted(column), _quoted(schema, table)
    following = "s.last_value::numeric + CASE WHEN s.is_called THEN q.seqincrement ELSE 0 END"
    return (
        f"WITH sequence AS (SELECT q.*, CASE WHEN {following} BETWEEN q.seqmin AND q.seqmax THEN {following} "
        f"WHEN q.seqcycle THEN CASE WHEN q.seqincrement > 0 THEN q.seqmin ELSE q.seqmax END END AS following "
        f"FROM {of} s, pg_sequence q WHERE q.seqrelid = {_literal(of)}::regclass), "
        f"held AS (SELECT max({name}) AS most, min({name}) AS least FROM {relation}), "
        f"far AS (SELECT q.*, CASE WHEN q.seqincrement > 0 THEN x.most ELSE x.least END AS far FROM sequence q, held x) "
        f"SELECT following, far, far + seqincrement::numeric BETWEEN seqmin AND seqmax AND far BETWEEN seqmin AND seqmax, "
        f"seqincrement > 0 FROM far WHERE following IS NULL "
        f"OR CASE WHEN seqincrement > 0 THEN far >= following ELSE far <= following END"
    )


def _quoted(*names: str) -> str:
    return Identifier(*names).as_string()


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


# ------------------------------------------------------------------------------------------------------------- findings


def violations(
    shape: Shape, rule: Rule, columns: Sequence[str], found: Sequence[Sequence[Any]], *, among: bool
) -> Iterator[Finding]:
    """A finding for each set of rows that a statement found. `among`: rows of others are in the table as well.

    What only the mapping promises, it promises of its own rows: among others it is a warning.
    """
    severity: Severity = "warning" if among and rule.promised else "error"
    others = "; it may be a row of others" if severity == "warning" else ""
    name = f"constraints.{CHECKS[rule.kind]}"
    if rule.allowed:
        rows = sum(row[-1] for row in found)
        if rows > rule.allowed:
            message = f"{shape.table}: {rows:,} rows name no parent by {rule.title}, and {rule.allowed:,} of them were kept so"
            yield Finding(name, severity, shape.table, message + others, None, str(rule.allowed), str(rows))
        return
    if columns == rule.terms and shape.personal:  # of an expression it is not known whether it shows a personal value
        shape = replace(shape, personal=frozenset(columns))
    for *values, rows in found:
        row = dict(zip(columns, values, strict=True))
        if rule.terms:
            key = ", ".join(f"{c}={shape.show(c, row[c])}" for c in columns)
            told, what = f"{rows:,} rows share {key}", f"{rule.title} lets one have it"
        else:
            key = shape.name(row) if row else f"{rows:,} rows"
            theirs = ", ".join(f"{c}={shape.show(c, row[c])}" for c in rule.columns if c in row and c not in shape.key)
            many = f"{rows:,} rows with {key}" if rows > 1 and row else key
            told = f"{many}: {theirs}" if theirs and shape.key and rule.kind != "NOT NULL" else many
            what = f"{rule.told}, by {rule.title}" if rule.kind != "check" else rule.told
        message = f"{shape.table}: {told}: {what}{others}"
        yield Finding(name, severity, shape.table, message, key, "0" if not rule.terms else "1", str(rows))


def behind(shape: Shape, schema: str, table: str, column: str, of: str, found: Sequence[Any]) -> Finding:
    """The finding that a sequence will give a value that is taken, or none, with the statement that mends it.

    `found`: as `sequence` gives it.
    """
    following, far, room, rises = found
    at = shape.show(column, None if far is None else str(far))
    farthest = f"SELECT {'max' if rises else 'min'}({_quoted(column)}) FROM {_quoted(schema, table)}"
    mends = f"SELECT setval({_literal(of)}, ({farthest}));" if far is not None else f"ALTER SEQUENCE {of} RESTART;"
    if far is not None and not room:
        mends = f"ALTER SEQUENCE {of} AS bigint {'NO MAXVALUE' if rises else 'NO MINVALUE'}; {mends}"
    if following is None:
        said = "has no value left: an insert after cutover would fail"
    else:
        said = f"gives {following} next, and {at} stands in the table already: an insert after cutover would fail or repeat it"
    message = f"{shape.table}: the sequence {of} of {column} {said}. Mend it: {mends}"
    expected = "a value" if far is None else f"past {at}"
    actual = "none" if following is None else str(following)
    return Finding("constraints.sequence", "error", shape.table, message, column, expected, actual)


def weakness(table: str, rule: Rule, *, looked: bool) -> Finding:
    """The warning that a declared constraint is less than it looks, though no row is known to break it."""
    held = "every row meets it" if looked else "rows are held against it from --level aggregates on"
    return Finding(
        "constraints.weak", "warning", table, f"{table}: {rule.title}: {held}, but it is {rule.weak}", rule.name
    )


def invalid_index(table: str, index: str, qualified: str, *, unique: bool) -> Finding:
    """An index that was not built to its end: PostgreSQL never reads it, and a unique one does not hold for all rows."""
    message = f"{table}: the {'unique ' if unique else ''}index {index} is INVALID. Mend it: REINDEX INDEX {qualified};"
    return Finding("constraints.index", "error", table, message, index, "valid", "invalid")


def switched_off(table: str, name: str, tables: Sequence[str], *, constraint: bool) -> Finding:
    """Triggers that do not fire: those of a constraint, which then is not enforced, or one of the user's."""
    mends = " ".join(
        f"ALTER TABLE {t} ENABLE TRIGGER {'ALL' if constraint else Identifier(name).as_string()};" for t in tables
    )
    what = f"the constraint {name} is not enforced, its triggers are" if constraint else f"the trigger {name} is"
    message = f"{table}: {what} disabled on {', '.join(tables)}. Enable before cutover: {mends}"
    return Finding("constraints.trigger", "error" if constraint else "warning", table, message, name, "on", "off")


def unread(table: str, what: str) -> Finding:
    """The warning that the user may not read what a statement needs."""
    message = f"{table}: {what} was not looked at: the target's user may not read what it needs. GRANT SELECT on it"
    return Finding("constraints.unread", "warning", table, message, what)


def uncomputed(table: str, what: str, sqlstate: str) -> Finding:
    """A rule that fails on some row instead of being true or false; no value is repeated."""
    message = (
        f"{table}: {what} cannot be computed for some row [{sqlstate}], so that it is not known which rows meet it"
    )
    return Finding("constraints.check", "error", table, message, what)


def more(table: str) -> Finding:
    """The warning that not everything is listed."""
    message = f"{table}: there are more than these {LIMIT:,} findings of constraints: mend them and verify again"
    return Finding("constraints.more", "warning", table, message)
