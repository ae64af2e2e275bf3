"""Oracle before a run: version, character set, sessions, undo, the log. A view that is not granted is said to be unknown."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from connectors import ready
from connectors.oraclecatalogue import REDACTED, Ask
from connectors.oraclemeasure import Encoded
from connectors.relational import Relation
from migrate.core import Notice
from migrate.errors import SourceError

_UNICODE = ("AL32UTF8", "UTF8")
_ASIDE = 1  # a connection besides those that read: it asks the catalogue


def tried(ask: Ask, sql: str) -> list[tuple[Any, ...]] | None:
    """None where the user may not ask."""
    try:
        return ask(sql)
    except SourceError:
        return None


def encoded(ask: Ask) -> Encoded:
    rows = tried(
        ask,
        "SELECT parameter, value FROM nls_database_parameters WHERE parameter IN ('NLS_CHARACTERSET', 'NLS_NCHAR_CHARACTERSET')",
    )
    found = dict(rows or [])
    return Encoded(str(found.get("NLS_CHARACTERSET", "")), str(found.get("NLS_NCHAR_CHARACTERSET", "")))


def may_be_mistaken(name: str) -> bool:
    """Whether texts in a database of this character set may be UTF-8 all the same."""
    return bool(name) and name not in _UNICODE


def server_notices(ask: Ask, connections: int, sets: Encoded, exempt: Collection[str]) -> Iterator[Notice]:
    """What there is to say of the server. `connections`: that read at once; `exempt`: `exemptions`."""
    yield _version(ask)
    yield _characters(sets.usual)
    yield from _sessions(ask, connections)
    if tried(ask, LOAD) is None:
        said = "V$SESSION may not be read: the load by others is not seen"
        yield Notice("ok", "privileges", said, _grant("V_$SESSION"))
    if "EXEMPT REDACTION POLICY" not in exempt and tried(ask, f"SELECT COUNT(*) FROM {REDACTED}") is None:
        said = "whether columns are redacted for the source's user, who would get made-up values, is not known"
        yield Notice("ok", "privileges", said, _grant("REDACTION_COLUMNS"))


LOAD = (
    "SELECT COUNT(*) FROM V$SESSION s, V$SESSION me WHERE me.sid = SYS_CONTEXT('USERENV', 'SID') AND s.type = 'USER' "
    "AND s.status = 'ACTIVE' AND NOT (s.state = 'WAITING' AND s.wait_class = 'Idle') "
    "AND NVL(s.program, ' ') NOT LIKE '%(P___)' AND NOT (s.sid = me.sid OR (NVL(s.machine, ' ') = NVL(me.machine, ' ') "
    "AND NVL(s.process, ' ') = NVL(me.process, ' ')))"
)
"""The statements of others at this instance. Not: those of this process, and the servers of a parallel query, which is one."""


def undo_notice(ask: Ask, scn: int | None, expected: int) -> Notice:
    """How long the server can tell what stood there at the SCN, beside the time of the load."""
    if scn is None:
        said = "no SCN is to be had: there is no watermark, and each connection sees a moment of its own"
        hint = "GRANT EXECUTE ON DBMS_FLASHBACK TO the source's user, or SELECT ON V_$DATABASE."
        return Notice("warning", "undo", said, hint)
    found = tried(ask, "SELECT value FROM V$PARAMETER WHERE name = 'undo_retention'")
    if not found:
        said = f"undo_retention is not known: how long SCN {scn} can be read; {ready.took(expected)}"
        return Notice("warning", "undo", said, _grant("V_$PARAMETER"))
    kept = int(found[0][0])
    said = f"undo_retention is {kept:,} s; {ready.took(expected)}"
    if kept < 2 * expected:
        hint = "Raise undo_retention (and the undo tablespace) for the time of the migration: undo that is gone stops a load."
        return Notice("warning", "undo", said, hint)
    return Notice("ok", "undo", said)


def log_notices(ask: Ask, relations: Sequence[Relation], expected: int) -> Iterator[Notice]:
    """Whether a change feed can take over from the SCN."""
    found = tried(
        ask,
        "SELECT log_mode, supplemental_log_data_min, supplemental_log_data_pk, supplemental_log_data_all FROM V$DATABASE",
    )
    if not found:
        said = "ARCHIVELOG and supplemental logging are not known: whether anything can take over the changes after the load"
        yield Notice("warning", "log", said, _grant("V_$DATABASE"))
        return
    [(mode, least, primary, every)] = found
    if mode == "NOARCHIVELOG":
        hint = "For a change feed after the load: ALTER DATABASE ARCHIVELOG, with the database mounted."
        yield Notice("warning", "log", "NOARCHIVELOG: nothing can take over the changes after the load", hint)
        return
    if least == "NO":
        hint = "For a change feed after the load: ALTER DATABASE ADD SUPPLEMENTAL LOG DATA, before the load."
        yield Notice("warning", "log", "supplemental logging is off: the log does not tell rows apart", hint)
    elif "YES" not in (primary, every):
        yield from _log_groups(ask, relations)
    yield _archived(ask, expected)


def _log_groups(ask: Ask, relations: Sequence[Relation]) -> Iterator[Notice]:
    """Where the database does not log the keys of all tables, each table has to say so."""
    found = tried(
        ask,
        "SELECT owner, table_name FROM all_log_groups WHERE log_group_type IN ('PRIMARY KEY LOGGING', 'ALL COLUMN LOGGING')",
    )
    lacking = [r.name for r in relations if (r.schema, r.table) not in {tuple(row) for row in found or []}]
    if lacking:
        said = f"changes of {', '.join(lacking)} are logged without their keys: a change feed cannot tell which rows they are of"
        hint = "ALTER TABLE … ADD SUPPLEMENTAL LOG DATA (PRIMARY KEY) COLUMNS, or (ALL) where there is no key, before the load."
        yield Notice("warning", "log", said, hint)


def _archived(ask: Ask, expected: int) -> Notice:
    sql = "SELECT ROUND((SYSDATE - MIN(first_time)) * 86400) FROM V$ARCHIVED_LOG WHERE deleted = 'NO'"
    found = tried(ask, sql)
    took = ready.took(expected)
    if found is None:
        said = f"ARCHIVELOG; how long logs are kept is not known; {took}"
        return Notice("warning", "log", said, _grant("V_$ARCHIVED_LOG"))
    seconds = int(found[0][0] or 0)
    said = f"ARCHIVELOG; the oldest log that is there begins {seconds / 3600:.1f} h ago; {took}"
    if seconds < 2 * expected:
        hint = (
            "See that archived logs are kept until the change feed has read them (on RDS: "
            "rdsadmin.rdsadmin_util.set_configuration('archivelog retention hours', …))."
        )
        return Notice("warning", "log", said, hint)
    return Notice("ok", "log", said)


def _version(ask: Ask) -> Notice:
    hint = "This connector has not been tried on a real server yet: rehearse with --dry-run, and verify."
    [(database, container, user)] = ask(
        "SELECT SYS_CONTEXT('USERENV', 'DB_NAME'), SYS_CONTEXT('USERENV', 'CON_NAME'), SYS_CONTEXT('USERENV', 'SESSION_USER') "
        "FROM DUAL"
    )
    found = tried(ask, "SELECT version FROM product_component_version WHERE product LIKE 'Oracle%'")
    version = str(found[0][0]) if found else "of a version that it does not tell"
    place = database if container in (None, database) else f"{database}, container {container}"
    return Notice("warning", "version", f"Oracle {version}, database {place}, user {user}", hint)


def _characters(name: str) -> Notice:
    if not name:
        return Notice("warning", "character set", "it is not known", _grant("NLS_DATABASE_PARAMETERS"))
    if name in _UNICODE:
        return Notice("ok", "character set", name)
    said = (
        f"{name}: the server converts it to UTF-8. Bytes that clients stored without a conversion of their own arrive as other "
        "characters, or as a sign of replacement, without an error; aggregates compare texts by number only"
    )
    hint = "Look at texts with accents in a dry run; fix_encoding mends UTF-8 that was stored so."
    return Notice("warning", "character set", said, hint)


def _sessions(ask: Ask, connections: int) -> Iterator[Notice]:
    taken = connections + _ASIDE
    own = tried(ask, "SELECT limit FROM user_resource_limits WHERE resource_name = 'SESSIONS_PER_USER'")
    most = str(own[0][0]).strip() if own else ""
    if most.isdigit() and int(most) < taken:
        hint = f"Lower `connections` of this source to {max(1, int(most) - _ASIDE)}, or raise the profile's SESSIONS_PER_USER."
        yield Notice("warning", "connections", f"its user may have {most}, and a run takes up to {taken}", hint)
    found = tried(
        ask,
        "SELECT resource_name, current_utilization, TRIM(limit_value) FROM V$RESOURCE_LIMIT "
        "WHERE resource_name IN ('processes', 'sessions')",
    )
    limits = [(int(limit), int(used), name) for name, used, limit in found or [] if str(limit).isdigit()]
    if limits:
        limit, used, name = min(limits, key=lambda each: each[0] - each[1])
        yield ready.connections(max(0, limit - used), limit, taken, f"the parameter {name}")
    elif found is None:
        said = f"how many are free beside the {taken} that a run takes is not known"
        yield Notice("ok", "connections", said, _grant("V_$RESOURCE_LIMIT"))


def _grant(view: str) -> str:
    return f"GRANT SELECT ON {view} TO the source's user shows it."
