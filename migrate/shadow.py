"""The shadow of a dry run: a schema with clones of the target's tables, in which the real run is rehearsed, and then dropped.

A clone takes and refuses what the real table would: columns, types, defaults, checks, keys, indexes, partitions and foreign
keys are its own. Real tables and sequences are only read, under ACCESS SHARE; nothing in the shadow references them.

Nothing is kept outside the two schemas, so a dry run that was killed leaves nothing that `sweep` does not drop.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import errors as pgerrors
from psycopg.rows import scalar_row

from mappings.ddl import quote
from migrate.core import ForeignKey, TargetTable
from migrate.errors import GateError, RetryableError, TargetError
from migrate.picture import Default, Number, Picture, picture
from migrate.shadow_ddl import Site, Statement, fitted, literal, made, rewritten, statements, unambiguous
from migrate.target import Connection, catalogue, explain, explained

_MARK = "The shadow of a dry run. Its end, or the next command, drops this schema."

# How long a command waits for another one's locks before it says so.
_PATIENCE = "SET LOCAL lock_timeout = '10s'; SET LOCAL client_min_messages = warning"


@dataclass(frozen=True, slots=True)
class Shadow:
    """The two schemas of a migration's dry run. Their names need no quotes."""

    schema: str
    ledger: str


@dataclass(frozen=True, slots=True)
class Clones:
    """The tables to load into, by the qualified name of the real one, and what a dry run with them does not exercise."""

    tables: dict[str, TargetTable]
    notes: tuple[str, ...]


def names(migration: str) -> Shadow:
    """Where a migration's dry run takes place: the same schemas each time, so that the next command finds them."""
    return Shadow(fitted(f"migrate_shadow_{migration}"), fitted(f"migrate_ledger_shadow_{migration}"))


def sweep(conn: Connection, shadow: Shadow) -> bool:
    """Drop both schemas; whether there was one.

    Raises GateError where a schema of that name is not a dry run's, RetryableError while another dry run is `held`.
    """
    with explained("drop the shadow of a dry run"), conn.transaction():
        _alone(conn, shadow)
        there = _schemas(conn, shadow)
        for schema, comment in there:
            if comment != _MARK:
                raise GateError(
                    f"schema {schema} is where a dry run would take place, and no dry run made it",
                    hint=f"Rename or drop it: ALTER SCHEMA {schema} RENAME TO …",
                )
        if there:
            conn.execute("DROP SCHEMA " + ", ".join(quote(schema) for schema, _ in there) + " CASCADE")
    return bool(there)


@contextmanager
def held(conn: Connection, shadow: Shadow) -> Iterator[None]:
    """While this lasts, no other command sweeps the shadow; where the process or its connection dies, it is over.

    For after `clone`, on a connection that does nothing else meanwhile: it is in a transaction, but without a snapshot,
    so that nothing is kept from VACUUM. Raises RetryableError where another command is about to sweep.
    """
    with explained("hold the shadow of a dry run"), conn.transaction():
        conn.execute(_PATIENCE)
        _locked(conn, shadow, "pg_advisory_xact_lock_shared")
        # A statement without parameters, for it closes the portal of the one before, and with it the snapshot.
        conn.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        yield


def _alone(conn: Connection, shadow: Shadow) -> None:
    conn.execute(_PATIENCE)
    _locked(conn, shadow, "pg_advisory_xact_lock")


def _locked(conn: Connection, shadow: Shadow, function: str) -> None:
    try:
        conn.execute(f"SELECT {function}(hashtextextended(%s, 0))", [shadow.schema])
    except pgerrors.LockNotAvailable:
        raise RetryableError(
            f"another dry run of this migration is at work in {shadow.schema}",
            hint="Wait until it has ended, then run the same command again.",
        ) from None


def _schemas(conn: Connection, shadow: Shadow) -> list[tuple[str, str | None]]:
    return conn.execute(
        "SELECT nspname, obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = ANY(%s) ORDER BY 1",
        [[shadow.schema, shadow.ledger]],
    ).fetchall()


# ------------------------------------------------------------------------------------------------------------- cloning


def clone(
    conn: Connection,
    shadow: Shadow,
    tables: Sequence[TargetTable],
    kept: Collection[str],
    deferred: Collection[tuple[str, str]] = (),
) -> Clones:
    """Make both schemas, and in the first a clone of each table that exists, all in one transaction.

    `kept`: qualified names of tables whose rows the run would leave (append, upsert): their rows may be parents beside
    the clone's. Tables that the mapping will make are only given their place. `deferred`: (qualified table, foreign key) that
    are not checked row by row: where real rows may be parents too, nothing stands in for them.
    Raises TargetError for a missing privilege, GateError where there is a shadow already: sweep first.
    """
    with explained("clone the target's tables for the dry run"), conn.transaction():
        _alone(conn, shadow)
        if _schemas(conn, shadow):
            raise GateError(
                f"another dry run of this migration has begun in {shadow.schema}",
                hint="Run the same command again: it drops what a dry run has left.",
            )
        existing = [t for t in tables if t.exists]
        _refuse_missing_privileges(conn, existing)
        for schema in (shadow.schema, shadow.ledger):
            conn.execute(f"CREATE SCHEMA {quote(schema)}; COMMENT ON SCHEMA {quote(schema)} IS {literal(_MARK)}")
        seen = _picture(conn, [t.oid for t in existing])
        site = replace(_site(conn, shadow, seen, tables, kept), deferred=frozenset(deferred))
        notes = _carry_out(conn, list(statements(site, conn.info.server_version)))
        _set_numbers(conn, site)
        notes += _notes(conn, site)
        found = {t.qualified: _addressed(conn, site, t) for t in tables}
    return Clones(found, tuple(notes))


def _refuse_missing_privileges(conn: Connection, existing: Sequence[TargetTable]) -> None:
    (database, role, may_create) = _row(
        conn, "SELECT current_database(), current_user, has_database_privilege(current_database(), 'CREATE')"
    )
    if not may_create:
        raise TargetError(
            f"{role} may not make schemas in database {database}, and a dry run takes place in one of its own",
            hint=f"GRANT CREATE ON DATABASE {quote(database)} TO {quote(role)};",
        )
    with conn.cursor(row_factory=scalar_row) as cursor:
        unreadable = cursor.execute(
            "SELECT format('%%I.%%I', nspname, relname) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
            "WHERE c.oid = ANY(%s) AND NOT has_table_privilege(c.oid, 'SELECT') ORDER BY 1",
            [[t.oid for t in existing]],
        ).fetchall()
    if unreadable:
        raise TargetError(
            f"{role} may not read {', '.join(unreadable)}, and a dry run clones them",
            hint=f"GRANT SELECT ON {', '.join(unreadable)} TO {quote(role)};",
        )


def _row(conn: Connection, question: str) -> tuple[Any, ...]:
    row = conn.execute(question).fetchone()
    assert row is not None
    return tuple(row)


def _picture(conn: Connection, oids: Sequence[int]) -> Picture:
    """The picture, read with nothing in the search path, so that the server writes every name in full."""
    (path,) = _row(conn, "SELECT current_setting('search_path')")
    conn.execute("SELECT set_config('search_path', 'pg_catalog', true)")
    seen = picture(conn, oids)
    # Functions that defaults call may need it.
    conn.execute("SELECT set_config('search_path', %s, true)", [path])
    return seen


def _site(
    conn: Connection, shadow: Shadow, seen: Picture, tables: Sequence[TargetTable], kept: Collection[str]
) -> Site:
    suspects = [(d, r) for d in seen.defaults if d.writes for r in seen.relations if r.oid == d.relation]
    pairs = [*seen.names(), *((t.schema, t.name) for t in tables), *(made(r, d) for d, r in suspects)]
    site = Site(seen, shadow.schema, unambiguous(pairs), frozenset(kept), frozenset())
    return replace(site, writing=frozenset((r.oid, d.column) for d, r in suspects if _writes(conn, site, d)))


def _writes(conn: Connection, site: Site, default: Default) -> bool:
    """Whether evaluating a default is refused where nothing may be written; any other error is the default's own."""
    try:
        with conn.transaction(force_rollback=True):
            conn.execute("SET LOCAL transaction_read_only = on")
            conn.execute(f"SELECT {rewritten(site, default, tried=True)}")
    except pgerrors.ReadOnlySqlTransaction:
        return True
    except psycopg.Error as error:
        if error.sqlstate is None or error.sqlstate[:2] in ("08", "57"):
            raise
    return False


def _carry_out(conn: Connection, todo: Sequence[Statement]) -> list[str]:
    """Run all statements in one exchange; where the server refuses one, one by one, to note what can be done without."""
    spoken = [s for s in todo if s.sql]
    notes = [f"{s.about}: not exercised" for s in todo if not s.sql]
    if not spoken:
        return notes
    try:
        with conn.transaction():
            conn.execute(";\n".join(s.sql for s in spoken))
        return notes
    except psycopg.Error as error:
        if not _about_a_definition(error):
            raise
    for statement in spoken:
        try:
            with conn.transaction():
                conn.execute(statement.sql)
        except psycopg.Error as error:
            if not statement.about or not _about_a_definition(error):
                raise
            notes.append(f"{statement.about}: not exercised ({explain(error, doing='clone it').message})")
    return notes


def _about_a_definition(error: psycopg.Error) -> bool:
    """Whether the server understood the statement and cannot do it: 42 names and types, 0A what it does not support."""
    return (error.sqlstate or "")[:2] in ("42", "0A") and error.sqlstate != "42501"


def _set_numbers(conn: Connection, site: Site) -> None:
    """Let each sequence of the shadow give next what the real one would: it is read, never drawn from."""
    numbers = site.picture.numbers
    readable = [n for n in numbers if n.readable]
    state: dict[int, tuple[int, bool]] = {n.oid: (n.last, True) for n in numbers if n.last is not None}
    if readable:
        reading = " UNION ALL ".join(f"SELECT {n.oid}, last_value, is_called FROM {n.spelled}" for n in readable)
        state |= {oid: (last, called) for oid, last, called in conn.execute(reading).fetchall()}
    setting = [_set(site, n, *state[n.oid]) for n in numbers if n.oid in state]
    if setting:
        conn.execute("; ".join(setting))


def _set(site: Site, number: Number, last: int, called: bool) -> str:
    return f"SELECT setval({literal(site.at(number.pair))}, {last}, {called})"


def _addressed(conn: Connection, site: Site, table: TargetTable) -> TargetTable:
    """The table as it stands in the shadow; its foreign keys are those of the real one, to the parents of the dry run."""
    name = site.names[table.schema, table.name]
    if not table.exists:
        return replace(table, schema=site.schema, name=name)
    found = catalogue(conn, site.schema, name)
    assert found is not None
    references = tuple(_readdressed(site, f) for f in table.foreign_keys)
    # The triggers of a clone are foreign keys: there is nothing to caution against.
    return replace(found, foreign_keys=references, triggers=())


def _readdressed(site: Site, key: ForeignKey) -> ForeignKey:
    parent = next((r for r in site.picture.relations if r.pair == (key.parent_schema, key.parent_name)), None)
    if parent is None:
        return key
    elsewhere = (parent.pair,) if site.keeps(parent) else ()
    return replace(key, parent_schema=site.schema, parent_name=site.names[parent.pair], elsewhere=elsewhere)


# --------------------------------------------------------------------------------------------------- what is left out

_NOT_EXERCISED = """
WITH relation AS (SELECT c.*, n.nspname || '.' || c.relname AS qualified FROM pg_class c
                  JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY(%(oids)s))
SELECT qualified || ': trigger ' || tgname || ': not exercised'
FROM relation JOIN pg_trigger ON tgrelid = relation.oid AND NOT tgisinternal AND tgenabled IN ('O', 'A')
UNION ALL
SELECT qualified || ': row security: not exercised' FROM relation WHERE relrowsecurity
UNION ALL
SELECT qualified || ': rule ' || rulename || ': not exercised'
FROM relation JOIN pg_rewrite ON ev_class = relation.oid AND ev_enabled IN ('O', 'A')
UNION ALL
SELECT qualified || ': a foreign table: an ordinary one stands in for it' FROM relation WHERE relkind = 'f'
UNION ALL
SELECT 'event trigger ' || evtname || ': fires for the tables of the dry run too' FROM pg_event_trigger
WHERE evtenabled IN ('O', 'A')
UNION ALL
-- What UniqueScreen cannot ask: an expression, some rows, an operator, NULLs that are equal, a key of one partition.
SELECT qualified || ': ' || i.relname || ' is not compared with the rows that are there already'
FROM relation JOIN pg_index x ON x.indrelid = relation.oid JOIN pg_class i ON i.oid = x.indexrelid
WHERE relation.oid = ANY(%(kept)s) AND (x.indisunique OR x.indisexclusion) AND x.indislive
  AND (x.indisexclusion OR NOT x.indimmediate OR x.indpred IS NOT NULL OR x.indexprs IS NOT NULL
       OR coalesce((to_jsonb(x) ->> 'indnullsnotdistinct')::boolean, false) OR relation.oid = ANY(%(partitions)s))
  AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = x.indexrelid)
ORDER BY 1
"""


def _notes(conn: Connection, site: Site) -> list[str]:
    picture_ = site.picture
    with conn.cursor(row_factory=scalar_row) as cursor:
        parameters = {
            "oids": [r.oid for r in picture_.relations],
            "kept": [r.oid for r in picture_.relations if site.keeps(r)],
            "partitions": [r.oid for r in picture_.relations if r.parent is not None],
        }
        notes = cursor.execute(_NOT_EXERCISED, parameters).fetchall()
    for relation in picture_.relations:
        notes += [
            f"{relation.qualified}.{d.column}: its default writes, so that the dry run puts "
            f"{'numbers of its own' if d.category in ('N', 'S') else 'NULL'} in its place"
            for d in picture_.defaults
            if d.relation == relation.oid and (d.relation, d.column) in site.writing
        ]
    return [str(note) for note in notes]
