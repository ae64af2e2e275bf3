"""Preflight: what has to be true before a run, each with what to do where it is not. Writes nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from mappings.spec import Expected, TableSpec
from migrate import layout
from migrate.core import Notice, Preflight
from migrate.engine import Session, compiled
from migrate.errors import MigrateError
from migrate.plan import cautions
from migrate.target import explained

OLDEST = 13
"""The oldest PostgreSQL that Aurora still runs and that is tested against."""


@dataclass(frozen=True, slots=True)
class Result:
    """One thing that was looked at."""

    ok: bool
    what: str
    said: str


def check(work: Session, names: Sequence[str], jobs: int = 1) -> list[Result]:
    """Look at the target, then at each table's source, mapping and target table; one failure does not hide the next.

    A source of which something is expected, or that has trailers, is read once.
    """
    results = [_tried("target", lambda: _server(work)), _tried("privileges", lambda: _privileges(work))]
    results.append(_tried("connections", lambda: _connections(work, jobs)))
    results += _sources(work, names)
    looked_at: set[layout.Origin] = set()
    for name in names:
        spec = work.project.spec.tables[name]
        source = _tried(f"{name}, source", lambda spec=spec: _source(work, spec))  # type: ignore[misc]
        results.append(source)
        promised = [o for o in spec.origins if o not in looked_at and _promised(work, o)]
        results += [_layout(work, name, origin, jobs) for origin in promised]
        looked_at.update(promised)
        if source.ok:
            results.append(_tried(f"{name}, mapping", lambda name=name: _mapping(work, name)))  # type: ignore[misc]
    return results


def _tried(what: str, look: Callable[[], str]) -> Result:
    try:
        return Result(True, what, look())
    except MigrateError as error:
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
    """Each worker has one for its chunk and one for what it looks up; the run itself has one, and a spare one is kept."""
    with explained("ask for connections"):
        row = work.conn.execute(
            "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int, "
            "(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')"
        ).fetchone()
    assert row is not None
    free, needed = row[0] - row[1], 2 * jobs + 2
    if free < needed:
        raise MigrateError(
            f"{free} are free, and a run with {jobs} workers takes up to {needed}",
            hint="Close others, raise max_connections, or run with fewer workers (-j).",
        )
    return f"{free} free, a run with {jobs} workers takes up to {needed}"


def _sources(work: Session, names: Sequence[str]) -> list[Result]:
    """What sources that know themselves what a run needs say of it."""
    wanted: dict[str, list[str]] = {}
    for origin, table in (origin for name in names for origin in work.project.spec.tables[name].origins):
        wanted.setdefault(origin, []).append(table)
    results = []
    for name, tables in wanted.items():
        try:
            source = work.source(name)
            if hasattr(source, "preflight"):
                results += [
                    _noticed(name, each) for each in cast(Preflight, source).preflight(list(dict.fromkeys(tables)))
                ]
        except MigrateError as error:
            results.append(Result(False, name, _hinted(error.message, error.hint)))
    return results


def _noticed(source: str, notice: Notice) -> Result:
    warned = "warning: " if notice.level == "warning" else ""
    return Result(notice.level != "error", f"{source}, {notice.what}", _hinted(f"{warned}{notice.said}", notice.hint))


def _source(work: Session, spec: TableSpec) -> str:
    found = work.source_of(spec).schema(spec.source_table)
    return "; ".join((f"{len(found.schema.names)} columns", *found.warnings, *found.notes))


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
        return Result(False, what, _hinted(error.message, error.hint))
    findings += looked.findings
    if findings:
        ok = all(finding.severity == "warning" for finding in findings)
        said = [("warning: " if ok else "") + finding.message for finding in findings]
        return Result(ok, what, "\n     ".join(said))
    parts = [f"{len(expected.columns)} columns as expected"] if expected.columns else []
    parts += [f"{looked.rows:,} rows"] if looked.rows is not None else []
    parts += [f"{looked.values:,} values fit their types"] if looked.values else []
    parts += ["trailers as declared"] if trailers else []
    return Result(True, what, "; ".join(parts))


def _mapping(work: Session, name: str) -> str:
    [mapping] = compiled(work, [name])
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
    created = "" if target.exists else " (will be created)"
    return "; ".join([f"{len(mapping.columns)} columns into {target.qualified}{created}", *cautions(mapping)])
