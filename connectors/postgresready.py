"""PostgreSQL before a run: version, encoding, connections, privileges, timeouts, the log, and what a standby allows."""

from collections.abc import Callable, Iterator
from typing import Any

from connectors import ready
from migrate.core import Notice, Watermark

Ask = Callable[[str], list[tuple[Any, ...]]]
SEES_OTHERS = "SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')"
_OLDEST = 12


def server_notices(
    ask: Ask, connections: int, expected: int, watermark: Watermark | None, live: bool
) -> Iterator[Notice]:
    """What there is to say of the server. `connections`: that a run takes; `expected`: seconds that it lasts; `live`: others
    write meanwhile."""
    [(release, number, database, user, encoding, standby)] = ask(
        "SELECT current_setting('server_version'), current_setting('server_version_num')::int / 10000, "
        "current_database()::text, current_user::text, getdatabaseencoding()::text, pg_is_in_recovery()"
    )
    said = f"PostgreSQL {release}, database {database}, user {user}{', a standby' if standby else ''}"
    if number < _OLDEST:
        hint = f"It is older than what this was tried with ({_OLDEST}): rehearse with --dry-run."
        yield Notice("warning", "version", said, hint)
    else:
        yield Notice("ok", "version", said)
    yield _encoding(encoding)
    yield _free(ask, connections)
    yield from _timeouts(ask, expected, user)
    if standby:
        yield _standby(ask, expected)
    if live:
        yield _log(ask, watermark, bool(standby))
    [(sees,)] = ask(SEES_OTHERS)
    if not sees:
        yield Notice("ok", "privileges", "pg_read_all_stats is not granted: the load by others is not seen")


def _free(ask: Ask, taken: int) -> Notice:
    """By what every user may see: of the sessions of others it is told only whose they are."""
    [found] = ask(
        "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int "
        "- COALESCE(current_setting('reserved_connections', true)::int, 0), "
        "(SELECT sum(numbackends)::int FROM pg_stat_database), "
        "(SELECT datconnlimit FROM pg_database WHERE datname = current_database()), "
        "(SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database()), "
        "(SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user AND NOT rolsuper), "
        "(SELECT count(*)::int FROM pg_stat_activity WHERE usename = current_user)"
    )
    limits = ("max_connections", "the database's CONNECTION LIMIT", "the user's CONNECTION LIMIT")
    pairs = zip(found[::2], found[1::2], limits, strict=True)
    most, used, limit = min(
        ((most, used, limit) for most, used, limit in pairs if most is not None and most >= 0),
        key=lambda each: each[0] - each[1],
    )
    return ready.connections(max(0, most - used), most, taken, limit)


def _timeouts(ask: Ask, expected: int, user: str) -> Iterator[Notice]:
    """Of this user's sessions: the one that holds the snapshot is idle in its transaction for as long as the load takes."""
    costs = {
        "statement_timeout": "a statement that takes longer is cancelled",
        "idle_in_transaction_session_timeout": "the session that holds the snapshot is ended by it, and what is read then "
        "sees a later moment",
        "transaction_timeout": "all sessions are ended by it, and with them the snapshot",
    }
    names = ", ".join(f"'{name}'" for name in costs)
    for name, after in ask(
        f"SELECT name::text, setting::int8 FROM pg_settings WHERE name IN ({names}) AND setting::int8 > 0"
    ):
        said = f"{name} is {after / 1000:g} s: {costs[name]}; {ready.took(expected)}"
        if after / 1000 < 2 * expected:
            hint = f"ALTER ROLE {user} SET {name} = 0 for the time of the migration."
            yield Notice("warning", "timeouts", said, hint)
        else:
            yield Notice("ok", "timeouts", said)
    # In minutes; gone since 17.
    found = ask("SELECT setting::int FROM pg_settings WHERE name = 'old_snapshot_threshold'")
    after = found[0][0] if found else -1
    if 0 <= after * 60 < 2 * expected:
        said = f"old_snapshot_threshold is {after} min: older snapshots are lost; {ready.took(expected)}"
        hint = "Set old_snapshot_threshold = -1 and restart the server, or read a standby."
        yield Notice("warning", "timeouts", said, hint)


def _standby(ask: Ask, expected: int) -> Notice:
    """What is replayed may remove rows that a snapshot still needs: then the one that waits too long loses."""
    [(feedback, delay)] = ask(
        "SELECT current_setting('hot_standby_feedback')::bool, (SELECT min(setting::int8) FILTER (WHERE setting::int8 >= 0) "
        "FROM pg_settings WHERE name IN ('max_standby_streaming_delay', 'max_standby_archive_delay'))"
    )
    if delay is None:
        return Notice("ok", "standby", "it waits with the replay for as long as somebody reads")
    if delay / 1000 >= 2 * expected:
        return Notice("ok", "standby", f"it waits with the replay for {delay / 1000:g} s; {ready.took(expected)}")
    said = f"a reader that hinders the replay is cancelled after {delay / 1000:g} s; {ready.took(expected)}"
    if feedback:
        said = f"hot_standby_feedback is on: the primary keeps what is read, but for locks on tables: {said}"
        return Notice("ok", "standby", said)
    hint = (
        "Set hot_standby_feedback = on, or max_standby_streaming_delay and max_standby_archive_delay = -1, for the time of "
        "the migration."
    )
    return Notice("warning", "standby", f"hot_standby_feedback is off: {said}", hint)


def _log(ask: Ask, watermark: Watermark | None, standby: bool) -> Notice:
    """Whether a change feed can take over: it needs a logical slot, which alone keeps the log from its making on."""
    [(level, most, used, own)] = ask(
        "SELECT current_setting('wal_level'), current_setting('max_replication_slots')::int, count(*), "
        "count(*) FILTER (WHERE slot_type = 'logical' AND database = current_database() "
        "AND restart_lsn IS NOT NULL) FROM pg_replication_slots"
    )
    if level != "logical":
        where = "of the primary" if standby else "and restart the server"
        hint = f"For a change feed after the load: wal_level = logical {where} (on RDS and Aurora: rds.logical_replication)."
        return Notice("warning", "log", f"wal_level is {level}: nothing can take over the changes after the load", hint)
    if watermark is None:
        return Notice(
            "warning", "log", "its position may not be read: there is no watermark", "Ask a direct connection."
        )
    if own:
        return Notice("ok", "log", f"wal_level is logical; {own} logical slots keep the log of this database")
    if used >= most:
        hint = "Drop a slot that nobody needs, or raise max_replication_slots."
        return Notice("warning", "log", f"all {most} replication slots are taken: a change feed finds none", hint)
    said = "no logical slot keeps the log of this database: changes after the load may be gone before a feed takes them"
    hint = "Make the slot of the change feed before the load: SELECT pg_create_logical_replication_slot(…)."
    return Notice("warning", "log", said, hint)


def _encoding(name: str) -> Notice:
    if name == "SQL_ASCII":
        said = "SQL_ASCII: the server keeps whatever bytes it is given, and a text that is no UTF-8 fails its chunk"
        hint = (
            "Rehearse with --dry-run; where it fails, mend the texts at the source, or read a view that converts them."
        )
        return Notice("warning", "encoding", said, hint)
    return Notice("ok", "encoding", name if name == "UTF8" else f"{name}, which the server converts")
