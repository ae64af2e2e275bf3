"""Preflight: what has to be true before a run, each with what to do where it is not. Writes nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from mappings.compile import Mapping
from mappings.ddl import quote
from mappings.spec import Expected, TableSpec
from migrate import drift, expecting, layout, ledger
from migrate.core import Estimated, Notice, Preflight
from migrate.engine import Session, compiled, drifted
from migrate.errors import MigrateError
from migrate.plan import cautions
from migrate.target import explained

OLDEST = 13
"""The oldest PostgreSQL that Aurora still runs and that is tested against."""


@dataclass(frozen=True, slots=True)
class Result:
    """One thing that was looked at. `warned`: a run may go on, and a person should know."""

    ok: bool
    what: str
    said: str
    warned: bool = False

    @property
    def level(self) -> str:
        return "failed" if not self.ok else "warning" if self.warned else "ok"


def check(work: Session, names: Sequence[str], jobs: int = 1) -> list[Result]:
    """Look at the target, then at each table's source, mapping and target table; one failure does not hide the next.

    A source of which something is expected, or that has trailers, is read once.
    """
    results = [_tried("target", lambda: _server(work)), _tried("privileges", lambda: _privileges(work))]
    results.append(_tried("connections", lambda: _connections(work, jobs)))
    results += _sources(work, names)
    results += _room(work, names)
    looked_at: set[layout.Origin] = set()
    for name in names:
        spec = work.project.spec.tables[name]
        source = _source(work, f"{name}, source", spec)
        results.append(source)
        promised = [o for o in spec.origins if o not in looked_at and _promised(work, o)]
        results += [_layout(work, name, origin, jobs) for origin in promised]
        looked_at.update(promised)
        if source.ok:
            results += _mapped(work, name)
    return results


def _mapped(work: Session, name: str) -> list[Result]:
    """What rests on the table's mapping, which is compiled once."""
    what = f"{name}, mapping"
    try:
        [mapping] = compiled(work, [name])
        results = [Result(True, what, _mapping(work, mapping))]
    except MigrateError as error:
        return [_failed(what, error)]
    results += _drift(work, mapping)
    if mapping.spec.expect or mapping.spec.checks:
        results.append(_tried(f"{name}, expectations", lambda: _expectations(work, mapping)))
    return results


def _tried(what: str, look: Callable[[], str]) -> Result:
    try:
        return Result(True, what, look())
    except MigrateError as error:
        return _failed(what, error)


def _failed(what: str, error: MigrateError) -> Result:
    return Result(False, what, _hinted(error.message, error.hint))


def _hinted(said: str, hint: str) -> str:
    return f"{said}\n     {hint}" if hint else said


def _server(work: Session) -> str:
    with explained("ask the target for its version"):
        row = work.conn.execute(
            "SELECT current_setting('server_version'), current_setting('server_version_num')::int / 10000, "
            "current_database(), current_user, getdatabaseencoding(), pg_is_in_recovery()"
        ).fetchone()
    assert row is not None
    release, major, database, user, encoding, replica = row
    if replica:
        raise MigrateError("it is a read-only replica", hint="Give the writer's (cluster) endpoint.")
    if major < OLDEST:
        raise MigrateError(f"PostgreSQL {release} is too old", hint=f"At least {OLDEST} is needed.")
    if encoding != "UTF8":
        raise MigrateError(f"database {database} is encoded in {encoding}", hint="Create it with ENCODING 'UTF8'.")
    return f"PostgreSQL {release}, database {database}, user {user}"


def _privileges(work: Session) -> str:
    with explained("ask for privileges"):
        row = work.conn.execute(
            "SELECT to_regnamespace('migrate_ledger') IS NOT NULL, has_database_privilege(current_database(), 'CREATE'), "
            "has_database_privilege(current_database(), 'TEMP')"
        ).fetchone()
    assert row is not None
    there, may_create, may_temp = row
    if not there and not may_create:
        raise MigrateError(
            "the schema migrate_ledger is missing and may not be created",
            hint="GRANT CREATE ON DATABASE … TO the target's user, or create the schema for it.",
        )
    if not may_temp:
        raise MigrateError("temporary tables may not be made", hint="GRANT TEMP ON DATABASE … TO the target's user.")
    return "ledger " + ("exists" if there else "can be created")


def _connections(work: Session, jobs: int) -> str:
    """Each worker has one for its chunk and one for what it looks up; the run itself has one, and a spare one is kept.

    Counted by what every user may see: of the sessions of others it is told only whose they are.
    """
    with explained("ask for connections"):
        row = work.conn.execute(
            "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int "
            "- coalesce(current_setting('reserved_connections', true)::int, 0) "
            "- (SELECT sum(numbackends)::int FROM pg_stat_database), "
            "(SELECT datconnlimit - (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()) "
            "FROM pg_database WHERE datname = current_database() AND datconnlimit >= 0), "
            "(SELECT rolconnlimit - (SELECT count(*) FROM pg_stat_activity WHERE usename = current_user) "
            "FROM pg_roles WHERE rolname = current_user AND rolconnlimit >= 0)"
        ).fetchone()
    assert row is not None
    whose = ("max_connections", "the database's CONNECTION LIMIT", "the user's CONNECTION LIMIT")
    free, limit = min((left, limit) for left, limit in zip(row, whose, strict=True) if left is not None)
    needed = 2 * jobs + 2
    if free < needed:
        raise MigrateError(
            f"{max(0, free)} are free, and a run with {jobs} workers takes up to {needed}",
            hint=f"Close others, raise {limit}, or run with fewer workers (-j).",
        )
    return f"{free} free, a run with {jobs} workers takes up to {needed}"


def _room(work: Session, names: Sequence[str]) -> list[Result]:
    """What the sources say that they hold beside what PostgreSQL tells of itself: it does not tell how much disk is free."""
    total = [0, 0]
    for source, tables in _read(work, names).items():
        try:
            opened = work.source(source)
            if hasattr(opened, "estimate"):
                found = cast(Estimated, opened).estimate(tables)
                total = [a + b for a, b in zip(total, found, strict=True)]
        except MigrateError:  # said already, of the source
            continue
    rows, size = total
    if not size:
        return []
    try:
        with explained("ask for its size"):
            row = work.conn.execute(
                "SELECT pg_database_size(current_database()), (SELECT setting::bigint * 1024 FROM pg_settings "
                "WHERE name = 'temp_file_limit' AND setting::bigint >= 0)"
            ).fetchone()
    except MigrateError as error:
        return [_failed("room", error)]
    assert row is not None
    has, temporary = row
    said = (
        f"the source's tables are about {rows:,} rows, {_bytes(size)} by its own statistics, which may be old, without "
        f"indexes; the target's database is {_bytes(has)} now. PostgreSQL does not tell how much disk is free: look at its volume"
    )
    if temporary is not None and temporary < size:
        hint = "Raise temp_file_limit for the target's user: an index of a large table is sorted in temporary files."
        return [Result(True, "room", f"warning: {said}; temp_file_limit is {_bytes(temporary)}\n     {hint}", True)]
    return [Result(True, "room", said)]


def _bytes(size: int) -> str:
    for unit, power in (("TB", 4), ("GB", 3), ("MB", 2)):
        if size >= 1024**power:
            return f"{size / 1024**power:.1f} {unit}"
    return f"{max(1, size // 1024)} kB"


def _read(work: Session, names: Sequence[str]) -> dict[str, list[str]]:
    """The sources that tables are read from, each with its tables."""
    found: dict[str, list[str]] = {}
    for source, table in (origin for name in names for origin in work.project.spec.tables[name].origins):
        if table not in found.setdefault(source, []):
            found[source].append(table)
    return found


def _sources(work: Session, names: Sequence[str]) -> list[Result]:
    """What sources that know themselves what a run needs say of it."""
    results = []
    for name, tables in _read(work, names).items():
        try:
            source = work.source(name)
            if hasattr(source, "preflight"):
                results += [_noticed(name, each) for each in cast(Preflight, source).preflight(tables)]
        except MigrateError as error:
            results.append(_failed(name, error))
    return results


def _noticed(source: str, notice: Notice) -> Result:
    warned = notice.level == "warning"
    said = _hinted(f"{'warning: ' if warned else ''}{notice.said}", notice.hint)
    return Result(notice.level != "error", f"{source}, {notice.what}", said, warned)


def _source(work: Session, what: str, spec: TableSpec) -> Result:
    try:
        found = work.source_of(spec).schema(spec.source_table)
    except MigrateError as error:
        return _failed(what, error)
    said = "; ".join((*found.warnings, f"{len(found.schema.names)} columns", *found.notes))
    return Result(True, what, said, bool(found.warnings))


def _promised(work: Session, origin: layout.Origin) -> bool:
    source = work.project.sources[origin[0]]
    return origin[1] in source.expect or "trailer" in source.options


def _layout(work: Session, name: str, origin: layout.Origin, jobs: int) -> Result:
    source = work.project.sources[origin[0]]
    expected = source.expect.get(origin[1], Expected(origin[1]))
    trailers = "trailer" in source.options
    what = f"{name}, layout of {'.'.join(origin)}"
    try:
        findings = layout.columns(work, origin, expected)
        looked = layout.look(work, origin, expected, jobs, trailers=trailers)
    except MigrateError as error:
        return _failed(what, error)
    findings += looked.findings
    if findings:
        ok = all(finding.severity == "warning" for finding in findings)
        said = [("warning: " if ok else "") + finding.message for finding in findings]
        return Result(ok, what, "\n     ".join(said), warned=True)
    parts = [f"{len(expected.columns)} columns as expected"] if expected.columns else []
    parts += [f"{looked.rows:,} rows"] if looked.rows is not None else []
    parts += [f"{looked.values:,} values fit their types"] if looked.values else []
    parts += [f"{len(expected.of_rows)} expectations of rows are met"] if expected.of_rows else []
    parts += ["trailers as declared"] if trailers else []
    return Result(True, what, "; ".join(parts))


def _drift(work: Session, mapping: Mapping) -> list[Result]:
    """What has changed since the table was planned, if anything has."""
    name = mapping.spec.name
    what = f"{name}, since it was planned"
    try:
        if not ledger.exists(work.conn):
            return []
        findings = drifted(work, mapping, ledger.table_states(work.conn, work.migration).get(name))
        drift.refuse(findings)
    except MigrateError as error:
        return [_failed(what, error)]
    return [Result(True, what, f"warning: {f.message.removeprefix(f'{name}: ')}", True) for f in findings]


def _mapping(work: Session, mapping: Mapping) -> str:
    target = mapping.target
    if target.exists:
        with explained("ask for privileges"):
            row = work.conn.execute(
                "SELECT string_agg(p, ', ') FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'TRUNCATE']) p "
                "WHERE NOT has_table_privilege(format('%%I.%%I', %s::text, %s::text), p) "
                "AND (p IN ('SELECT', 'INSERT') OR p = %s)",
                [target.schema, target.name, {"replace": "TRUNCATE", "upsert": "UPDATE"}.get(mapping.spec.mode, "")],
            ).fetchone()
        if row is not None and row[0]:
            raise MigrateError(
                f"{target.qualified}: missing privileges {row[0]}",
                hint=f"GRANT {row[0]} ON {target.qualified} TO the target's user.",
            )
    else:
        _refuse_to_create(work, target.schema, target.qualified)
    created = "" if target.exists else " (will be created)"
    return "; ".join([f"{len(mapping.columns)} columns into {target.qualified}{created}", *cautions(mapping)])


def _refuse_to_create(work: Session, schema: str, table: str) -> None:
    """Raise MigrateError unless there is the schema, and tables may be made in it."""
    with explained("look for the schema"):
        row = work.conn.execute(
            "SELECT has_schema_privilege(to_regnamespace(%s)::oid, 'CREATE')", [quote(schema)]
        ).fetchone()
    assert row is not None
    if row[0] is None:
        hint = f"CREATE SCHEMA {quote(schema)}; or mend the table's `to` in the project file."
        raise MigrateError(f"{table} would be created, and there is no schema {schema}", hint=hint)
    if not row[0]:
        hint = f"GRANT CREATE ON SCHEMA {quote(schema)} TO the target's user, or create the table for it."
        raise MigrateError(f"{table} would be created, and no table may be made in schema {schema}", hint=hint)


def _expectations(work: Session, mapping: Mapping) -> str:
    """Whether what the table is expected to be can be asked; nothing is asked yet."""
    expecting.refuse_faults(work, [mapping])
    expecting.refuse_unanswerable(work, mapping)
    return f"{len(mapping.spec.expect)} expectations, {len(mapping.spec.checks)} checks in SQL; `migrate verify` asks"
