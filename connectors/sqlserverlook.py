"""What SQL Server says of itself before and during a run: isolation, privileges, logs of changes, load, doubts."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from connectors import ready
from connectors.relational import Relation
from connectors.sqlservertypes import Column, name_of, unicode_text
from migrate.core import Notice, Reference, View, Watermark
from migrate.errors import SourceError

Ask = Callable[[str], list[tuple[Any, ...]]]

_OLDEST = 11  # SQL Server 2012
_OLDEST_LEVEL = 110  # its compatibility level
_AZURE = 5  # SERVERPROPERTY('EngineEdition') of Azure SQL Database
_ASIDE = 1  # connections besides those that read: it asks the catalogue
_SHORT = 8_000  # bytes of a value that is looked at
_SECONDS = {1: 60, 2: 3600, 3: 86_400}  # of sys.change_tracking_databases.retention_period_units
_MICROSECONDS = 6  # digits
_DENIED = 5  # columns in a message


@dataclass(frozen=True, slots=True)
class Rights:
    """What the user may see: of what is defined, of sizes, of what others do."""

    definitions: bool
    sizes: bool
    others: bool


@dataclass(frozen=True, slots=True)
class Looked:
    """What is known of the source when it is asked: how it is read, and what of it the catalogue's version has.

    `in_snapshot`: each connection reads in a snapshot. `policies`: there may be security policies. `in_memory`: there may be
    memory-optimized tables.
    """

    view: View
    in_snapshot: bool
    cdc: bool
    connections: int
    policies: bool
    in_memory: bool


def rights(ask: Ask) -> Rights:
    """By what is granted to the user. A privilege that the version has not is no privilege."""
    database = ("VIEW DEFINITION", "VIEW DATABASE STATE", "VIEW DATABASE PERFORMANCE STATE")
    server = ("VIEW SERVER STATE", "VIEW SERVER PERFORMANCE STATE")
    asked = [f"HAS_PERMS_BY_NAME(QUOTENAME(DB_NAME()), 'DATABASE', '{name}')" for name in database]
    asked += [f"HAS_PERMS_BY_NAME(NULL, NULL, '{name}')" for name in server]
    [(defined, state, performance, server_state, server_performance, edition)] = ask(
        f"SELECT {', '.join(asked)}, CAST(SERVERPROPERTY('EngineEdition') AS int)"
    )
    sizes = bool(state or performance)
    others = bool(server_state or server_performance) or (edition == _AZURE and sizes)
    return Rights(bool(defined), sizes and bool(defined), others)


def load(ask: Ask, ours: Sequence[int]) -> int | None:
    """How many statements of other sessions than `ours` and the asking one run; None where those of others are not shown."""
    if not rights(ask).others:
        return None
    numbers = ", ".join(["@@SPID", *map(str, sorted(ours))])
    [(running,)] = ask(
        "SELECT COUNT(*) FROM sys.dm_exec_requests r JOIN sys.dm_exec_sessions s ON s.session_id = r.session_id "
        f"WHERE s.is_user_process = 1 AND r.session_id NOT IN ({numbers}) AND COALESCE(r.wait_type, N'') NOT IN "
        # Who waits for the clock or for a message does nothing; so does the capture job most of the time.
        "(N'WAITFOR', N'BROKER_RECEIVE_WAITFOR', N'SP_SERVER_DIAGNOSTICS_SLEEP')"
    )
    return int(running)


def references(ask: Ask, number: int, own: str) -> list[Reference]:
    """The foreign keys of a table. `own` is the schema whose tables are named without one."""
    rows = ask(
        "SELECT f.object_id, c.name, s.name, p.name, r.name FROM sys.foreign_keys f "
        "JOIN sys.foreign_key_columns k ON k.constraint_object_id = f.object_id "
        "JOIN sys.columns c ON c.object_id = k.parent_object_id AND c.column_id = k.parent_column_id "
        "JOIN sys.columns r ON r.object_id = k.referenced_object_id AND r.column_id = k.referenced_column_id "
        "JOIN sys.objects p ON p.object_id = f.referenced_object_id JOIN sys.schemas s ON s.schema_id = p.schema_id "
        f"WHERE f.parent_object_id = {int(number)} ORDER BY f.name, k.constraint_column_id"
    )
    return ready.references(rows, own)


# ------------------------------------------------------------------------------------------------------------ preflight


def notices(
    ask: Ask, looked: Looked, relations: Sequence[tuple[int, Relation]], watermark: Watermark | None
) -> Iterator[Notice]:
    """Of the server and its database; `relations` are those to be read, each with its number in the catalogue."""
    yield _version(ask)
    yield from _database(ask, looked)
    allowed = rights(ask)
    yield from _privileges(allowed, looked)
    yield from _connections(ask, allowed, looked.connections)
    if looked.view == "live":
        yield from _changes(ask, looked, relations, watermark)


def _version(ask: Ask) -> Notice:
    [(version, edition, database, user)] = ask(
        "SELECT CAST(SERVERPROPERTY('ProductVersion') AS nvarchar(128)), CAST(SERVERPROPERTY('Edition') AS nvarchar(128)), "
        "DB_NAME(), SUSER_SNAME()"
    )
    said = f"SQL Server {version}, {edition}, database {database}, user {user}"
    if int(str(version).partition(".")[0]) < _OLDEST:
        return Notice("warning", "version", said, "It is older than SQL Server 2012: rehearse with --dry-run.")
    return Notice("ok", "version", said)


def _database(ask: Ask, looked: Looked) -> Iterator[Notice]:
    rows = ask(
        "SELECT d.name, d.state_desc, d.compatibility_level, d.is_read_only, "
        "CAST(DATABASEPROPERTYEX(d.name, 'Updateability') AS nvarchar(60)), d.is_read_committed_snapshot_on, "
        "d.snapshot_isolation_state_desc, d.collation_name, CAST(COLLATIONPROPERTY(d.collation_name, 'CodePage') AS int) "
        "FROM sys.databases d WHERE d.name = DB_NAME()"
    )
    if not rows:
        said = "its settings may not be read, so that it is read as if it allowed no snapshots"
        yield Notice("warning", "database", said, "GRANT VIEW ANY DATABASE TO the source's login.")
        return
    [(name, state, level, read_only, updateability, committed, snapshots, collation, page)] = rows
    writable = "READ_ONLY" if read_only else "READ_WRITE"
    if not read_only and updateability == "READ_ONLY":
        writable = "a readable secondary, which follows its primary"
    said = f"{state}, {writable}, compatibility level {level}"
    if int(level) < _OLDEST_LEVEL:
        hint = f"What is sent is meant for level {_OLDEST_LEVEL} (SQL Server 2012) and above: rehearse with --dry-run."
        yield Notice("warning", "database", said, hint)
    else:
        yield Notice("ok", "database", said)
    yield _isolation(looked, name_of(str(name)), bool(committed), str(snapshots))
    yield Notice("ok", "collation", f"{collation}, code page {page}: the server itself makes Unicode of texts")


def _isolation(looked: Looked, database: str, committed: bool, snapshots: str) -> Notice:
    """`committed`: READ_COMMITTED_SNAPSHOT."""
    if looked.view != "live":
        return Notice("ok", "isolation", "nobody writes to what is read: no snapshot is needed")
    if snapshots == "ON":
        said = "ALLOW_SNAPSHOT_ISOLATION is ON: reading neither waits for writers nor holds them up"
        return Notice("ok", "isolation", said)
    allow = f"ALTER DATABASE {database} SET ALLOW_SNAPSHOT_ISOLATION ON, or let nobody write and say `quiesced: true`."
    if snapshots.startswith("IN_TRANSITION"):
        said = f"ALLOW_SNAPSHOT_ISOLATION is {snapshots}: snapshots are not to be had"
        return Notice("warning", "isolation", said, "Wait until sys.databases says ON: open transactions hold it up.")
    if committed:
        said = "READ_COMMITTED_SNAPSHOT is ON, ALLOW_SNAPSHOT_ISOLATION is OFF: each slice is read as of a moment of its own"
        return Notice("warning", "isolation", said, allow)
    said = (
        "READ_COMMITTED_SNAPSHOT and ALLOW_SNAPSHOT_ISOLATION are OFF: reading waits for writers and holds them up, and a row "
        "whose key changes meanwhile may be read twice or not at all"
    )
    return Notice("warning", "isolation", said, allow)


def _privileges(allowed: Rights, looked: Looked) -> Iterator[Notice]:
    """What is granted, and what the lack of it costs."""
    if looked.policies and not allowed.definitions:
        said = (
            "VIEW DEFINITION is not granted: security policies that hide rows, and masks behind a view, may not be seen"
        )
        yield Notice("warning", "privileges", said, "GRANT VIEW DEFINITION TO the source's user.")
    if not allowed.sizes:
        said = "VIEW DATABASE STATE is not granted: bytes are unknown, and slices are cut by numbers of rows alone"
        hint = "GRANT VIEW DATABASE STATE TO the source's user, and VIEW DEFINITION."
        yield Notice("warning", "privileges", said, hint)
    if allowed.others:
        yield Notice("ok", "privileges", "VIEW SERVER STATE: the load by others is seen")
    else:
        yield Notice("ok", "privileges", "VIEW SERVER STATE is not granted: the load by others is not seen")


def _connections(ask: Ask, allowed: Rights, connections: int) -> Iterator[Notice]:
    """This source has its connections already: what is left is what others may still ask for."""
    try:
        [(most, set_, used)] = ask(
            "SELECT @@MAX_CONNECTIONS, "
            "(SELECT CAST(value_in_use AS int) FROM sys.configurations WHERE name = N'user connections'), "
            "(SELECT COUNT(*) FROM sys.dm_exec_sessions WHERE is_user_process = 1)"
        )
    except SourceError:  # Azure SQL has no such setting: its tiers say how many
        return
    most, taken = int(set_ or most), connections + _ASIDE
    if not allowed.others:
        yield Notice("ok", "connections", f"a run takes {taken}; how many of {most} are taken is not seen")
        return
    yield ready.connections(most - int(used), most, taken, "the server's setting `user connections`")


def _changes(
    ask: Ask, looked: Looked, relations: Sequence[tuple[int, Relation]], watermark: Watermark | None
) -> Iterator[Notice]:
    """What takes over after the load: change data capture, else change tracking; how long it is kept, and of which tables."""
    tracked = ask(
        "SELECT d.name, t.retention_period, t.retention_period_units, t.is_auto_cleanup_on FROM sys.change_tracking_databases t "
        "JOIN sys.databases d ON d.database_id = t.database_id WHERE d.name = DB_NAME()"
    )
    if not looked.cdc and not tracked:
        said = "neither change data capture nor change tracking is on: nothing can take over the changes after the load"
        hint = "For a change feed: EXEC sys.sp_cdc_enable_db, and EXEC sys.sp_cdc_enable_table for each table, before the load."
        yield Notice("warning", "changes", said, hint)
        return
    capture = looked.cdc and (watermark is None or watermark.kind == "lsn")
    what = "change data capture" if capture else "change tracking"
    if watermark is None:
        said = f"{what} is on, and its position is not known: there is no watermark"
        hint = "Start the capture job (SQL Server Agent; EXEC sys.sp_cdc_start_job), and let the source's user read it."
        yield Notice("warning", "changes", said, hint)
    elif looked.cdc and not capture:
        said = "change data capture is on, and has no position yet: the watermark is change tracking's"
        hint = "Start the capture job (SQL Server Agent; EXEC sys.sp_cdc_start_job) before the load."
        yield Notice("warning", "changes", said, hint)
    seconds = ready.seconds([relation for _, relation in relations])
    took = ready.took(seconds)
    if capture:
        kept, longer = _captured(ask), "EXEC sys.sp_cdc_change_job @job_type = N'cleanup', @retention = minutes."
    else:
        [(name, period, unit, cleaned)] = tracked
        kept = int(period) * _SECONDS.get(int(unit), 0) if cleaned else 0
        longer = f"ALTER DATABASE {name_of(str(name))} SET CHANGE_TRACKING (CHANGE_RETENTION = n DAYS)."
    if kept is None:
        said = f"how long {what} is kept may not be read; {took}"
        hint = "See EXEC sys.sp_cdc_help_jobs, as db_owner: its retention is in minutes."
        yield Notice("warning", "changes", said, hint)
    elif kept and kept < 2 * seconds:
        yield Notice("warning", "changes", f"{what} is kept for {kept / 3600:.1f} h, and {took}", longer)
    else:
        until = f"for {kept / 3600:.0f} h" if kept else "until it is cleaned"
        yield Notice("ok", "changes", f"{what} is kept {until}; {took}")
    for number, relation in relations:
        yield from _untracked(ask, number, relation, what, capture)


def _captured(ask: Ask) -> int | None:
    """Seconds that the captured changes are kept; None where that may not be read."""
    of_server = (
        "SELECT j.retention FROM msdb.dbo.cdc_jobs j JOIN sys.databases d ON d.database_id = j.database_id "
        "WHERE d.name = DB_NAME() AND j.job_type = N'cleanup'"
    )
    for sql in (of_server, "SELECT retention FROM cdc.cdc_jobs WHERE job_type = N'cleanup'"):  # the latter in Azure SQL
        try:
            found = ask(sql)
        except SourceError:
            continue
        if found:
            return int(found[0][0]) * 60
    return None


def _untracked(ask: Ask, number: int, relation: Relation, what: str, capture: bool) -> Iterator[Notice]:
    """A table whose changes nobody notes; a view has none."""
    noted = "t.is_tracked_by_cdc" if capture else "CASE WHEN c.object_id IS NULL THEN 0 ELSE 1 END"
    found = ask(
        f"SELECT {noted} FROM sys.tables t LEFT JOIN sys.change_tracking_tables c ON c.object_id = t.object_id "
        f"WHERE t.object_id = {int(number)}"
    )
    if not found or found[0][0]:
        return
    schema, table = unicode_text(relation.schema), unicode_text(relation.table)
    hint = f"ALTER TABLE {name_of(relation.schema)}.{name_of(relation.table)} ENABLE CHANGE_TRACKING."
    if capture:
        hint = f"EXEC sys.sp_cdc_enable_table @source_schema = {schema}, @source_name = {table}, @role_name = NULL."
    yield Notice("warning", relation.name, f"{what} is on, but not for this table: its changes are lost", hint)


def table_notices(ask: Ask, looked: Looked, number: int, relation: Relation) -> Iterator[Notice]:
    """Whether its columns may be read, and what its rows and its engine do to a run. Raises SourceError as the server says."""
    of = f"{name_of(relation.schema)}.{name_of(relation.table)}"
    denied = [
        str(name)
        for (name,) in ask(
            "SELECT c.name FROM sys.columns c WHERE COALESCE(HAS_PERMS_BY_NAME("
            f"{unicode_text(of)}, 'OBJECT', 'SELECT', c.name, 'COLUMN'), 0) = 0 AND c.object_id = {int(number)} "
            "ORDER BY c.column_id"
        )
    ]
    denied = [f.name for f in relation.fields if f.name in denied and f.name not in relation.refused]
    unread = {*denied, *relation.refused}
    if denied:
        all_ = unread.issuperset(f.name for f in relation.fields)
        shown = ", ".join(denied[:_DENIED]) + (", …" if len(denied) > _DENIED else "")
        said = "it may not be read" if all_ else f"columns that may not be read: {shown}"
        hint = f"GRANT SELECT ON {of} TO the source's user" + ("." if all_ else ", or leave them out of the mapping.")
        yield Notice("error" if all_ else "warning", relation.name, said, hint)
        if all_:
            return
    fetch_none(ask, relation, unread)
    is_table = bool(ask(f"SELECT 1 FROM sys.tables WHERE object_id = {int(number)}"))
    if is_table and not relation.key:
        said = "it has no key: its rejected rows have a number and no name, and the server sorts all of its columns in tempdb"
        hint = "Give it a primary key, or a unique index over columns that are never NULL."
        yield Notice("warning", relation.name, said, hint)
    in_memory = f"SELECT 1 FROM sys.tables WHERE is_memory_optimized = 1 AND object_id = {int(number)}"
    if looked.in_memory and looked.in_snapshot and ask(in_memory):
        said = "it is memory-optimized: it cannot be read in a session's snapshot"
        yield Notice("error", relation.name, said, "Stop its writers, and say `quiesced: true`.")


def fetch_none(ask: Ask, relation: Relation, unread: Collection[str] = ()) -> None:
    """Raises what the server says where the columns may not be read."""
    names = ", ".join(name_of(f.name) for f in relation.fields if f.name not in unread)
    ask(f"SELECT TOP (0) {names} FROM {name_of(relation.schema)}.{name_of(relation.table)}")


# --------------------------------------------------------------------------------------------------------------- doubts


def doubts(ask: Ask, number: int, relation: Relation, *, digits: bool) -> Mapping[str, str]:
    """By columns: keys that the server has not checked, and among the first rows UTF-8 in a column that says otherwise.

    With `digits` also moments with a seventh digit of a second. Of a view, only whether it can be read: its first rows may
    cost as much as all of it.
    """
    fields = [cast(Column, f) for f in relation.fields if f.name not in relation.refused]
    if not ask(f"SELECT 1 FROM sys.tables WHERE object_id = {int(number)}"):
        fetch_none(ask, relation, relation.refused)
        return {}
    found = [*_unchecked(ask, number), *(_seventh(ask, relation, fields) if digits else ())]
    found += [*_encodings(ask, relation, fields)]
    return {column: "; ".join(said for name, said in found if name == column) for column, _ in found}


def _unchecked(ask: Ask, number: int) -> Iterator[tuple[str, str]]:
    for key, column in ask(
        "SELECT f.name, c.name FROM sys.foreign_keys f JOIN sys.foreign_key_columns k ON k.constraint_object_id = f.object_id "
        "JOIN sys.columns c ON c.object_id = k.parent_object_id AND c.column_id = k.parent_column_id "
        f"WHERE f.is_not_trusted = 1 AND f.parent_object_id = {int(number)} ORDER BY f.name, k.constraint_column_id"
    ):
        yield str(column), f"the server has not checked the foreign key {key} (is_not_trusted): there may be orphans"


def _seventh(ask: Ask, relation: Relation, fields: Sequence[Column]) -> Iterator[tuple[str, str]]:
    fine = [f for f in fields if f.kind in ("datetime2", "datetimeoffset", "time") and f.scale > _MICROSECONDS]
    if not fine:
        return
    sums = ", ".join(f"SUM(CASE WHEN DATEPART(nanosecond, {f.expression}) % 1000 <> 0 THEN 1 ELSE 0 END)" for f in fine)
    [counts] = ask(f"SELECT COUNT(*), {sums} FROM ({_sample(relation, [f.expression for f in fine])}) s")
    for each, count in zip(fine, counts[1:], strict=True):
        if int(count or 0):
            yield (
                each.name,
                f"{int(count):,} of the first {int(counts[0]):,} have a seventh digit of a second, which rejects their row: the "
                "source's `seventh_digit` says otherwise",
            )


def _encodings(ask: Ask, relation: Relation, fields: Sequence[Column]) -> Iterator[tuple[str, str]]:
    """Values that are not plain ASCII, in columns of a code page."""
    for each in fields:
        if each.kind not in ("char", "varchar", "text") or each.collation.upper().endswith("_UTF8"):
            continue
        sample = ask(
            "SELECT CONVERT(varchar(max), CAST(s.v AS varbinary(max)), 2) FROM "
            f"({_sample(relation, [f'CAST({each.expression} AS varchar(max)) AS v'])}) s "
            f"WHERE CAST(s.v AS nvarchar(max)) COLLATE Latin1_General_BIN LIKE N'%[^ -~]%' AND DATALENGTH(s.v) <= {_SHORT}"
        )
        values = [bytes.fromhex(str(text)) for (text,) in sample]
        yield from ready.mistaken(each.name, [value for value in values if not value.isascii()]).items()


def _sample(relation: Relation, columns: Sequence[str]) -> str:
    return f"SELECT TOP ({ready.SAMPLE}) {', '.join(columns)} FROM {name_of(relation.schema)}.{name_of(relation.table)}"
