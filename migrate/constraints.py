"""Holds a target table against its constraints and against what the mapping promises; says what was looked at."""

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import psycopg
from psycopg import errors as pgerrors

from mappings.compile import Mapping
from mappings.ddl import quote
from mappings.typemap import TEXTS, comparable
from migrate import ledger
from migrate.core import Finding
from migrate.engine import Session
from migrate.ledger import TableState
from migrate.plan import finding_key, reference_key
from migrate.target import Connection
from validators import constraints as validator
from validators.constraints import Rule
from validators.rows import LIMIT, Shape

# What PostgreSQL 18 has and older ones have not is asked for as JSON, which has no columns that may be missing.
_TABLES = "(SELECT %(regclass)s::regclass::oid UNION SELECT relid::oid FROM pg_partition_tree(%(regclass)s::regclass))"
_ENFORCED = "coalesce((to_jsonb(c) ->> 'conenforced')::boolean, true)"
_CALLS = """EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_constraint'::regclass AND d.objid = c.oid
            AND d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass))"""

_DECLARED = f"""
WITH RECURSIVE domain AS (
    SELECT a.attname, a.atttypid AS oid FROM pg_attribute a
    WHERE a.attrelid = %(regclass)s::regclass AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT d.attname, t.typbasetype FROM domain d JOIN pg_type t ON t.oid = d.oid WHERE t.typtype = 'd'
)
SELECT c.conname, c.contype::text, '' AS domain,
       coalesce((SELECT array_agg(a.attname::text ORDER BY k.n) FROM unnest(c.conkey) WITH ORDINALITY k(attnum, n)
                 JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum), ARRAY[]::text[]),
       pg_get_expr(c.conbin, c.conrelid), c.convalidated, {_ENFORCED}, {_CALLS}
FROM pg_constraint c WHERE c.conrelid = %(regclass)s::regclass AND c.contype IN ('c', 'f', 'n')
UNION ALL
SELECT c.conname, c.contype::text, c.contypid::regtype::text, ARRAY[d.attname::text], pg_get_expr(c.conbin, 0), c.convalidated,
       true, {_CALLS}
FROM domain d JOIN pg_constraint c ON c.contypid = d.oid WHERE c.contype = 'c'
ORDER BY 3, 1
"""

_INDEXES = """
SELECT c.relname, quote_ident(n.nspname) || '.' || quote_ident(c.relname), i.indisunique, i.indisvalid, i.indimmediate,
       ARRAY(SELECT pg_get_indexdef(i.indexrelid, k, false) FROM generate_series(1, i.indnkeyatts) k),
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY k(attnum, n)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum ORDER BY k.n),
       coalesce(pg_get_expr(i.indpred, i.indrelid), ''),
       coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.indrelid = %(regclass)s::regclass ORDER BY i.indisprimary DESC, c.relname
"""

# Keys and foreign keys that are checked by triggers, on whichever table these are, and the table's own triggers.
_OFF = f"""
SELECT c.contype::text, c.conname, array_agg(DISTINCT t.tgrelid::regclass::text ORDER BY t.tgrelid::regclass::text)
FROM pg_constraint c JOIN pg_trigger t ON t.tgconstraint = c.oid
WHERE c.conrelid IN {_TABLES} AND t.tgenabled NOT IN ('O', 'A') GROUP BY 1, 2
UNION ALL
SELECT '', t.tgname, ARRAY[t.tgrelid::regclass::text] FROM pg_trigger t
WHERE t.tgrelid IN {_TABLES} AND NOT t.tgisinternal AND t.tgenabled = 'D'
ORDER BY 1, 2
"""

# Those that identity columns have, and those that defaults ask for their next value, whoever owns them.
_SEQUENCES = """
SELECT a.attname, quote_ident(n.nspname) || '.' || quote_ident(s.relname)
FROM pg_attribute a
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum AND pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%%'
JOIN pg_depend p ON (p.classid = 'pg_class'::regclass AND p.refclassid = 'pg_class'::regclass AND p.refobjid = a.attrelid
                     AND p.refobjsubid = a.attnum AND p.deptype = 'i')
    OR (p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid AND p.refclassid = 'pg_class'::regclass)
JOIN pg_class s ON s.relkind = 'S' AND s.oid = CASE WHEN p.classid = 'pg_attrdef'::regclass THEN p.refobjid ELSE p.objid END
JOIN pg_namespace n ON n.oid = s.relnamespace
WHERE a.attrelid = %(regclass)s::regclass AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
ORDER BY a.attnum
"""


def compare(
    work: Session, mapping: Mapping, state: TableState, rules: Sequence[Rule], level: str, *, every: bool = False
) -> list[Finding]:
    """Hold a table against its constraints, `rules_of` it. At level `counts`, rules that compare rows with others are left out.

    `every`: look also at what PostgreSQL guarantees, and past its indexes.
    """
    conn = work.conn
    fates = ledger.fates(conn, work.migration, state.name)[0]
    among = not ledger.alone(state, fates)
    findings = [*_states(conn, mapping), *_sequences(conn, mapping)]
    for rule in rules:
        how = _how(rule, level, every=every)
        if how == "guaranteed":
            continue
        limit, found = LIMIT - len(findings), []
        if how == "looked at":
            found = _broken(conn, mapping, rule, limit, among=among, every=every)
        if rule.weak and not found:
            found = [validator.weakness(state.name, rule, looked=how == "looked at")]
        findings += found
        if len(findings) >= LIMIT:
            return [*findings[:LIMIT], validator.more(state.name)]
    return findings


def described(rules: Sequence[Rule], level: str, *, every: bool = False) -> dict[str, list[str]]:
    """For people, the names of rules by how `compare` deals with them: looked at, guaranteed, left out at this level."""
    found: dict[str, list[str]] = {"looked at": [], "guaranteed": [], "left out": []}
    for rule in rules:
        found[_how(rule, level, every=every)].append(rule.title)
    return found


def _how(rule: Rule, level: str, *, every: bool) -> str:
    if rule.guaranteed and not every:
        return "guaranteed"
    return "left out" if level == "counts" and rule.kind in validator.JOINS else "looked at"


def rules_of(work: Session, mapping: Mapping) -> list[Rule]:
    """What a table's target declares, and what the mapping promises of it."""
    rules = list(_declared(work.conn, mapping))
    return rules + list(_promised(work, mapping, {frozenset(r.columns) for r in rules if r.kind == "unique key"}))


def _broken(conn: Connection, mapping: Mapping, rule: Rule, limit: int, *, among: bool, every: bool) -> list[Finding]:
    """The rows that break a rule, in one statement; a warning where the user may not read what it needs."""
    target, name = mapping.target, mapping.spec.name
    shape = _shape(mapping)
    columns, sql = validator.statement(target.schema, target.name, rule, shape.key, limit)
    try:
        with conn.transaction():
            # Values are spelled as verification spells them, whatever the role's settings are.
            conn.execute("SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL bytea_output = 'hex'")
            if every:
                # An index whose order is broken would answer that its key is unique.
                conn.execute(
                    "SET LOCAL enable_indexscan = off; SET LOCAL enable_indexonlyscan = off; SET LOCAL enable_bitmapscan = off"
                )
            found = conn.execute(sql).fetchall()
    except pgerrors.InsufficientPrivilege:
        return [validator.unread(name, rule.title)]
    except psycopg.DataError as error:
        return [validator.uncomputed(name, rule.title, error.sqlstate or "")]
    return list(validator.violations(shape, rule, columns, found, among=among))


def _shape(mapping: Mapping) -> Shape:
    texts = {c.name for c in mapping.target.columns if c.base in TEXTS}
    key = finding_key(mapping) or mapping.spec.primary_key or _of_the_key(mapping)
    return Shape(mapping.spec.name, key, frozenset(texts), frozenset(mapping.spec.personal))


# ---------------------------------------------------------------------------------------------------------------- rules


def _asked(conn: Connection, mapping: Mapping, sql: str) -> list[tuple[Any, ...]]:
    return conn.execute(sql, {"regclass": quote(mapping.target.schema, mapping.target.name)}).fetchall()


def _declared(conn: Connection, mapping: Mapping) -> Iterator[Rule]:
    """The target's own constraints, each with what PostgreSQL's catalogue says of it.

    A check that calls a function of the user's is looked at: the function may have changed since, and may look elsewhere.
    """
    target = mapping.target
    relation = quote(target.schema, target.name)
    keys = {key.name: key for key in target.foreign_keys}
    unsure: dict[str, str] = {}  # NOT NULL columns that were never looked at
    for name, kind, domain, columns, expression, valid, enforced, calls in _asked(conn, mapping, _DECLARED):
        mends = f"ALTER {f'DOMAIN {domain}' if domain else f'TABLE {relation}'} VALIDATE CONSTRAINT {quote(name)};"
        weak = "NOT ENFORCED" if not enforced else "" if valid else f"NOT VALID. Mend it: {mends}"
        if kind == "f" and name in keys:
            yield validator.foreign_key(keys[name], weak=weak)
        elif kind == "n":
            unsure |= {columns[0]: weak} if weak else {}
        elif kind == "c":
            sound = not weak and not calls
            yield validator.check(name, columns, expression, domain=bool(domain), guaranteed=sound, weak=weak)
    for column in target.columns:
        if not column.nullable:
            weak = unsure.get(column.name, "")
            yield validator.not_null(column.name, guaranteed=not weak, weak=weak)
    for name, _, unique, valid, immediate, terms, columns, where, nulls_equal in _asked(conn, mapping, _INDEXES):
        if unique:
            plain = len(terms) == len(columns)
            yield validator.unique_key(
                name,
                columns,
                () if plain else terms,
                where=where,
                nulls_equal=nulls_equal,
                guaranteed=valid and immediate,
            )


def _promised(work: Session, mapping: Mapping, unique: Collection[frozenset[str]]) -> Iterator[Rule]:
    """What the mapping says of its rows and the target has no constraint for. `unique`: the keys that it has one for."""
    target, spec = mapping.target, mapping.spec
    for reference in mapping.references:
        if reference.foreign_key is None:
            kept = ledger.orphans(work.conn, work.migration) if reference.orphans == "keep" else []
            allowed = max((n for t, c, _, n in kept if t == spec.name and c in reference.columns), default=0)
            yield validator.foreign_key(reference_key(reference), promised=True, allowed=allowed)
    named: dict[tuple[str, ...], str] = {spec.primary_key: f"primary_key: {', '.join(spec.primary_key)}"}
    named.setdefault(_of_the_key(mapping), f"the source's key {', '.join(spec.key or mapping.source.key)}")
    for columns, name in named.items():
        if columns and frozenset(columns) not in unique:
            yield validator.unique_key(name, columns, promised=True)
    for rule in mapping.dedupe.rules if mapping.dedupe is not None and spec.dedupe is not None else ():
        cells = {cell.column.name: cell.column for cell in mapping.cells}
        told = [cells[c] for c in rule.columns if c in cells]
        # Other rules are over expressions that only DuckDB computes, or over values that the server compares otherwise.
        if len(told) == len(rule.columns) and all(map(comparable, told)) and frozenset(rule.columns) not in unique:
            filled = [f"{quote(c.name)} <> ''" for c in told if c.base in TEXTS and not rule.blank_matches]
            where = " AND ".join(filled)
            yield validator.unique_key(f"dedupe: [{rule.name}]", rule.columns, where=where, promised=True)
    promised = {c.name for c in spec.columns if not c.nullable} | set(spec.primary_key)
    for column in target.columns:
        if column.name in promised and column.nullable:
            yield validator.not_null(column.name, name=f"null: false of {column.name}", promised=True)


def _of_the_key(mapping: Mapping) -> tuple[str, ...]:
    """The target columns that hold the source's own key as it stands, or its uuid; () where none do, or of several sources."""
    key = {name.lower() for name in mapping.spec.key or mapping.source.key}
    if not key or len(mapping.spec.origins) > 1 or mapping.spec.mode == "upsert":
        return ()
    held: dict[str, str] = {}
    for cell in mapping.cells:
        if cell.expression.column is not None:
            held.setdefault(cell.expression.column.lower(), cell.column.name)
        elif (
            re.fullmatch(r"uuid\([^()]*\)", cell.expression.text) and {r.lower() for r in cell.expression.reads} == key
        ):
            return (cell.column.name,)
    return tuple(held[name] for name in sorted(key)) if key <= held.keys() else ()


# --------------------------------------------------------------------------------------------------- other states


def _states(conn: Connection, mapping: Mapping) -> Iterator[Finding]:
    """Indexes that are not valid, triggers that are off."""
    name = mapping.spec.name
    for index, qualified, unique, valid, *_ in _asked(conn, mapping, _INDEXES):
        if not valid:
            yield validator.invalid_index(name, index, qualified, unique=unique)
    for kind, trigger, tables in _asked(conn, mapping, _OFF):
        yield validator.switched_off(name, trigger, tables, constraint=bool(kind))


def _sequences(conn: Connection, mapping: Mapping) -> Iterator[Finding]:
    """Sequences that will run into what stands in their columns."""
    target, name = mapping.target, mapping.spec.name
    for column, of in _asked(conn, mapping, _SEQUENCES):
        try:
            with conn.transaction():
                row = conn.execute(validator.sequence(target.schema, target.name, column, of)).fetchone()
        except pgerrors.InsufficientPrivilege:
            yield validator.unread(name, f"the sequence {of}")
            continue
        if row is not None:
            yield validator.behind(_shape(mapping), target.schema, target.name, column, of, row)
