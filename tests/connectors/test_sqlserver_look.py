"""What SQL Server is asked before and during a run, and what is said of its answers: from answers as a server gives them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from connectors import sqlserver
from connectors.dburl import parse
from connectors.keyrange import Slice
from connectors.relational import Tables
from connectors.sqlserver import URL_OPTIONS, Options, SqlServer
from migrate.core import Notice, Partition, Reference
from migrate.errors import SourceError, UsageError
from migrate.initialize import write

Rows = list[tuple[Any, ...]]

# In the order in which they are looked for in what is asked: the first one that stands in it answers.
ANSWERS: dict[str, Rows | Exception] = {
    "SET LANGUAGE": [],
    "SELECT @@SERVERNAME, @@SPID": [("db", 51)],
    "SELECT @@SERVERNAME": [("db",)],
    "SET TRANSACTION": [],
    "BEGIN TRANSACTION": [],
    "SCHEMA_NAME(), N'dbo'": [("dbo",)],
    "FROM sys.all_columns": [
        ("masked_columns", "is_masked"),
        ("columns", "encryption_type"),
        ("tables", "is_memory_optimized"),
        ("security_predicates", "predicate_type"),
    ],
    "'ProductVersion'": [("15.0.4298.1", "Standard Edition (64-bit)", "erp", "reader")],
    "d.state_desc": [("erp", "ONLINE", 150, False, "READ_WRITE", True, "ON", "Latin1_General_CI_AS", 1252)],
    "d.snapshot_isolation_state,": [("erp", 1, None, False, False, True)],
    "fn_cdc_get_max_lsn": [("0x0000002A000001200003",)],
    "CHANGE_TRACKING_CURRENT_VERSION": [(None,)],
    "'VIEW DEFINITION'": [(1, 1, None, 1, None, 3)],
    "'UNMASK')": [(0,)],
    "@@MAX_CONNECTIONS": [(32767, 0, 40)],
    "sys.change_tracking_databases": [],
    "msdb.dbo.cdc_jobs": [(4320,)],
    "cdc.cdc_jobs": SourceError("db:1433: Invalid object name 'cdc.cdc_jobs'. (208)"),
    "SELECT t.is_tracked_by_cdc": [(True,)],
    "CASE WHEN c.object_id IS NULL": [(0,)],
    "o.type = 'U'": [("dbo", "people"), ("sales", "orders")],
    "o.type = 'V'": [("dbo", "v_people"), ("sales", "v")],
    "'SELECT', c.name": [],
    "COALESCE(b.name, t.name)": [
        # name, base, declared, length, precision, scale, NULL, collation, CLR, hidden, graph, encrypted, masked, may see it
        ("id", "int", "int", 4, 10, 0, False, None, 0, None, None, None, False, None),
        ("name", "varchar", "varchar", 40, 0, 0, True, "Latin1_General_CI_AS", 0, None, None, None, False, None),
        ("at", "datetime2", "datetime2", 8, 27, 7, True, None, 0, None, None, None, False, None),
    ],
    "FROM sys.indexes": [(1, 1, True, True, "id", False)],
    "sys.dm_db_partition_stats": [(30_000_000, 3_000_000_000)],
    "FROM sys.objects o JOIN sys.schemas s ON s.schema_id = o.schema_id JOIN sys.objects this": [],
    "FROM sys.security_predicates": [],
    "is_not_trusted": [],
    "DATEPART(nanosecond": [(2000, 0)],
    "LIKE N'%[^ -~]%'": [],
    "sys.foreign_keys": [],
    "SELECT 1 FROM sys.databases": [],
    "WHERE is_memory_optimized = 1": [],
    "SELECT TOP (1) SCHEMA_NAME": [("dbo", "people")],
    "SELECT TOP (1) 1 FROM": [(1,)],
    "SELECT TOP (0)": [],
    "SELECT 1 FROM sys.tables": [(1,)],
    "is_masked = 1 ORDER BY": [("dbo.people.email",)],
    "s.name = N'dbo' AND o.name = N'people'": [(7, "dbo", "people", 0)],
    "s.name = N'dbo' AND o.name = N'v_people'": [(8, "dbo", "v_people", 1)],
    "WHERE o.type IN ('U', 'V')": [],
}


class Answering:
    """A driver that answers, and notes what it is asked; what nothing answers is a question that no test knows of."""

    def __init__(self, answers: dict[str, Rows | Exception], asked: list[str]) -> None:
        self.answers, self.asked = answers, asked

    def query(self, sql: str) -> Rows:
        self.asked.append(sql)
        found = next((rows for words, rows in self.answers.items() if words in sql), None)
        if found is None:
            pytest.fail(f"nothing answers {sql}")  # no Exception: those are taken for the driver's
        if isinstance(found, Exception):
            raise found
        return found

    def close(self) -> None:
        pass


class Site:
    """A source whose server answers as usual, but for `answers`."""

    def __init__(self, connect: Callable[[Any], None]) -> None:
        self.asked: list[str] = []
        self._connect = connect

    def source(self, answers: dict[str, Any] | None = None, **options: Any) -> Tables:
        given = {**(answers or {}), **{words: rows for words, rows in ANSWERS.items() if words not in (answers or {})}}
        self._connect(Answering(given, self.asked))
        chosen = Options(**options)
        return Tables(SqlServer(parse("mssql://reader:geheim@db/erp", URL_OPTIONS), chosen), chosen.connections)

    def said(self, answers: dict[str, Any] | None = None, **options: Any) -> list[Notice]:
        return list(self.source(answers, **options).preflight(["people"]))


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr("connectors.sqlserver._OURS", set())
    return Site(lambda driver: monkeypatch.setattr("connectors.sqlserver.connect", lambda url: driver))


def troubles(notices: Sequence[Notice]) -> list[tuple[str, str]]:
    return [(n.level, n.what) for n in notices if n.level != "ok" and n.what != "view"]


# ------------------------------------------------------------------------------------------------------------ preflight


def test_a_source_as_it_should_be_gives_no_warning_but_of_its_view(site: Site) -> None:
    found = site.said()
    assert [(n.what, n.said) for n in found if n.what != "view"] == [
        ("version", "SQL Server 15.0.4298.1, Standard Edition (64-bit), database erp, user reader"),
        ("database", "ONLINE, READ_WRITE, compatibility level 150"),
        ("isolation", "ALLOW_SNAPSHOT_ISOLATION is ON: reading neither waits for writers nor holds them up"),
        ("collation", "Latin1_General_CI_AS, code page 1252: the server itself makes Unicode of texts"),
        ("privileges", "VIEW SERVER STATE: the load by others is seen"),
        ("connections", "32727 of 32767 free beside the 5 that a run takes"),
        (
            "changes",
            "change data capture is kept for 72 h; the load of these tables takes about 6 min, at 100,000 rows a second",
        ),
    ]
    assert troubles(found) == []


AMISS: list[tuple[dict[str, Any], str, str, str, str]] = [
    (
        {"'ProductVersion'": [("10.50.6000.34", "Enterprise", "erp", "reader")]},
        *("warning", "version", "SQL Server 10.50", "rehearse with --dry-run"),
    ),
    (
        {"d.state_desc": [("erp", "ONLINE", 90, False, "READ_WRITE", True, "ON", "x", 1252)]},
        *("warning", "database", "compatibility level 90", "level 110"),
    ),
    ({"d.state_desc": []}, "warning", "database", "may not be read", "GRANT VIEW ANY DATABASE"),
    (
        {"d.state_desc": [("e]p", "ONLINE", 150, False, "READ_WRITE", True, "OFF", "x", 1252)]},
        *(
            "warning",
            "isolation",
            "each slice is read as of a moment of its own",
            "ALTER DATABASE [e]]p] SET ALLOW_SNAPSHOT",
        ),
    ),
    (
        {"d.state_desc": [("erp", "ONLINE", 150, False, "READ_WRITE", False, "OFF", "x", 1252)]},
        *("warning", "isolation", "may be read twice or not at all", "`quiesced: true`"),
    ),
    (
        {"d.state_desc": [("erp", "ONLINE", 150, False, "READ_WRITE", False, "IN_TRANSITION_TO_ON", "x", 1252)]},
        *("warning", "isolation", "snapshots are not to be had", "Wait until sys.databases says ON"),
    ),
    (
        {"'VIEW DEFINITION'": [(0, 1, None, 1, None, 3)]},
        *("warning", "privileges", "security policies that hide rows", "GRANT VIEW DEFINITION TO"),
    ),
    (
        {"'VIEW DEFINITION'": [(1, 0, None, 0, None, 3)]},
        *("warning", "privileges", "bytes are unknown", "GRANT VIEW DATABASE STATE TO"),
    ),
    (
        {"@@MAX_CONNECTIONS": [(32767, 42, 40)]},
        *("warning", "connections", "2 of 42 free beside the 5", "Lower `connections`"),
    ),
    (
        {"d.snapshot_isolation_state,": [("erp", 1, None, False, False, False)]},
        *("warning", "changes", "neither change data capture nor change tracking is on", "sp_cdc_enable_db"),
    ),
    (
        {"fn_cdc_get_max_lsn": [(None,)]},
        *("warning", "changes", "its position is not known: there is no watermark", "sp_cdc_start_job"),
    ),
    (
        {
            "fn_cdc_get_max_lsn": [(None,)],
            "CHANGE_TRACKING_CURRENT_VERSION": [("7",)],
            "sys.change_tracking_databases": [("erp", 2, 3, True)],
            "CASE WHEN c.object_id IS NULL": [(1,)],
        },
        *("warning", "changes", "the watermark is change tracking's", "Start the capture job"),
    ),
    (
        {"msdb.dbo.cdc_jobs": [(9,)]},
        *(
            "warning",
            "changes",
            "is kept for 0.1 h, and the load of these tables takes about 6 min",
            "sp_cdc_change_job",
        ),
    ),
    (
        {"msdb.dbo.cdc_jobs": SourceError("db:1433: The SELECT permission was denied (229)")},
        *("warning", "changes", "how long change data capture is kept may not be read", "sp_cdc_help_jobs"),
    ),
    (
        {"SELECT t.is_tracked_by_cdc": [(False,)]},
        *(
            "warning",
            "people",
            "not for this table",
            "sp_cdc_enable_table @source_schema = N'dbo', @source_name = N'people'",
        ),
    ),
    (
        {"'SELECT', c.name": [("name",)]},
        *("warning", "people", "columns that may not be read: name", "or leave them out of the mapping"),
    ),
    (
        {"'SELECT', c.name": [("id",), ("name",), ("at",)]},
        *("error", "people", "it may not be read", "GRANT SELECT ON [dbo].[people] TO the source's user."),
    ),
    (
        {
            "SELECT TOP (0)": SourceError(
                "db:1433: Could not use view or function 'x' because of binding errors. (4413)"
            )
        },
        *("error", "people", "binding errors", ""),
    ),
    ({"FROM sys.indexes": []}, "warning", "people", "it has no key", "Give it a primary key"),
    (
        {"WHERE is_memory_optimized = 1": [(1,)]},
        *("error", "people", "cannot be read in a session's snapshot", "`quiesced: true`"),
    ),
    (
        {"is_not_trusted": [("FK_boss", "name")]},
        *("warning", "people", "name: the server has not checked the foreign key FK_boss", ""),
    ),
    (
        {"DATEPART(nanosecond": [(2000, 17)]},
        *("warning", "people", "at: 17 of the first 2,000 have a seventh digit", ""),
    ),
    (
        {"LIKE N'%[^ -~]%'": [("4DC3BC6C6C6572",), ("C3A4",), ("E4",), ("0A",)]},
        *("warning", "people", "name: 2 of 3 values with accents are UTF-8", ""),
    ),
]


@pytest.mark.parametrize(("answers", "level", "what", "said", "hint"), AMISS, ids=lambda v: str(v)[:30])
def test_what_is_amiss_is_said_with_what_mends_it(
    site: Site, answers: dict[str, Any], level: str, what: str, said: str, hint: str
) -> None:
    found = site.said(answers)
    assert set(troubles(found)) == {(level, what)}
    [notice] = [n for n in found if n.level == level and n.what == what and said in n.said]
    assert hint in notice.hint
    assert bool(notice.hint) == bool(hint)


def test_change_tracking_is_held_against_its_own_retention(site: Site) -> None:
    tracking = {
        "d.snapshot_isolation_state,": [("erp", 1, None, False, False, False)],
        "CHANGE_TRACKING_CURRENT_VERSION": [("7",)],
        "CASE WHEN c.object_id IS NULL": [(1,)],
    }
    short = site.said({**tracking, "sys.change_tracking_databases": [("erp", 9, 1, True)]})
    [notice] = [n for n in short if n.what == "changes"]
    assert notice.said.startswith("change tracking is kept for 0.1 h, and the load")
    assert notice.hint == "ALTER DATABASE [erp] SET CHANGE_TRACKING (CHANGE_RETENTION = n DAYS)."
    for retention, said in ((("erp", 2, 3, True), "kept for 48 h"), (("erp", 2, 3, False), "kept until it is cleaned")):
        assert troubles(found := site.said({**tracking, "sys.change_tracking_databases": [retention]})) == []
        assert said in next(n.said for n in found if n.what == "changes")
    untracked = site.said(
        {**tracking, "sys.change_tracking_databases": [("erp", 2, 3, True)], "CASE WHEN c.object_id IS NULL": [(0,)]}
    )
    [notice] = [n for n in untracked if n.level == "warning" and n.what == "people"]
    assert notice.hint == "ALTER TABLE [dbo].[people] ENABLE CHANGE_TRACKING."


@pytest.mark.parametrize(
    ("state", "options", "writable"),
    [
        (("erp", 1, None, True, False, True), {}, "READ_ONLY"),
        (("erp", 1, "base", True, False, True), {}, "READ_ONLY"),
        (("erp", 1, None, False, False, True), {"quiesced": True}, "READ_WRITE"),
    ],
)
def test_of_what_nobody_writes_neither_snapshots_nor_changes_are_asked_for(
    site: Site, state: tuple[Any, ...], options: dict[str, Any], writable: str
) -> None:
    settings = ("erp", "ONLINE", 150, writable == "READ_ONLY", writable, False, "OFF", "x", 1252)
    answers = {
        "d.state_desc": [settings],
        "d.snapshot_isolation_state,": [state],
        "WHERE is_memory_optimized = 1": [(1,)],
    }
    found = site.said(answers, **options)
    assert troubles(found) == []
    assert "no snapshot is needed" in next(n.said for n in found if n.what == "isolation")
    assert writable in next(n.said for n in found if n.what == "database")
    assert not [n for n in found if n.what == "changes"]


def test_a_readable_secondary_is_told(site: Site) -> None:
    found = site.said({"d.state_desc": [("erp", "ONLINE", 150, False, "READ_ONLY", True, "ON", "x", 1252)]})
    assert "a readable secondary, which follows its primary" in next(n.said for n in found if n.what == "database")


def test_seventh_digits_are_no_doubt_where_the_source_says_what_becomes_of_them(site: Site) -> None:
    for choice in ("text", "cut"):
        assert site.source({"DATEPART(nanosecond": [(2000, 17)]}, seventh_digit=choice).doubts("people") == {}


def test_a_view_is_not_sampled(site: Site) -> None:
    source = site.source({"SELECT 1 FROM sys.tables": []})
    assert source.doubts("v_people") == {}
    assert site.asked[-1] == "SELECT TOP (0) [id], [name], [at] FROM [dbo].[v_people]"


# --------------------------------------------------------------------------------------------------- load and references


def test_the_load_is_that_of_other_sessions_than_this_process_has(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.sqlserver._OURS", {("db", 60), ("other", 61)})
    assert site.source({"sys.dm_exec_requests": [(3,)]}).load() == 3
    assert "r.session_id NOT IN (@@SPID, 51, 60)" in site.asked[-1]
    assert "s.is_user_process = 1" in site.asked[-1]


@pytest.mark.parametrize(
    ("granted", "seen"),
    [
        ((1, 1, None, 1, None, 3), 3),
        ((1, 0, 0, 0, 1, 3), 3),  # VIEW SERVER PERFORMANCE STATE, since 2022
        ((1, 1, None, 0, None, 3), None),
        ((1, 1, None, None, None, 5), 3),  # Azure SQL Database shows its own
        ((1, 0, None, None, None, 5), None),
        ((None, None, None, None, None, 3), None),
    ],
)
def test_a_load_of_which_one_sees_nothing_is_not_taken_for_none(
    site: Site, granted: tuple[Any, ...], seen: int | None
) -> None:
    answers = {"'VIEW DEFINITION'": [granted], "sys.dm_exec_requests": [(3,)]}
    assert site.source(answers).load() == seen


def test_sessions_are_this_processes_until_they_are_closed(site: Site) -> None:
    source = site.source()
    source.tables()
    assert list(sqlserver._OURS) == [("db", 51)]
    source.close()
    assert not sqlserver._OURS


def test_foreign_keys_of_several_columns_and_of_other_schemas(site: Site) -> None:
    rows = [
        (1, "tenant", "dbo", "groups", "tenant"),
        (1, "group", "dbo", "groups", "name"),
        (2, "boss", "dbo", "people", "id"),
        (3, "order", "sales", "orders", "no"),
    ]
    assert site.source({"sys.foreign_keys": rows}).references("people") == [
        Reference(("tenant", "group"), "groups", ("tenant", "name")),
        Reference(("boss",), "people", ("id",)),
        Reference(("order",), "sales.orders", ("no",)),
    ]
    assert "f.parent_object_id = 7 ORDER BY f.name, k.constraint_column_id" in site.asked[-1]


# ------------------------------------------------------------------------------------------------- names, columns, sizes


def test_views_are_offered_and_other_databases_are_sources_of_their_own(site: Site) -> None:
    source = site.source({"SELECT 1 FROM sys.databases": [(1,)]})
    assert source.tables() == ["people", "sales.orders"]
    assert source.offers() == [("v_people", "view"), ("sales.v", "view")]
    with pytest.raises(UsageError, match=r"'crm\.dbo\.t' is in another database") as caught:
        source.schema("crm.dbo.t")
    assert "the same URL with /crm at its end" in caught.value.hint
    with pytest.raises(UsageError, match="no table 'v_peple'") as caught:
        source.schema("v_peple")
    assert "v_people" in caught.value.hint


def test_how_much_there_is_is_estimated_by_the_server(site: Site) -> None:
    assert site.source().estimate(["people"]) == (30_000_000, 3_000_000_000)
    denied = SourceError("db:1433: VIEW DATABASE STATE permission was denied (262)")
    answers = {"sys.dm_db_partition_stats": denied, "FROM sys.partitions": [(30_000_000, 0)]}
    assert site.source(answers).estimate(["people"]) == (30_000_000, 0)


def columns(**more: tuple[Any, Any, Any]) -> dict[str, Any]:
    """A table whose columns are `id` and these texts: of each whether it is encrypted, masked, and shown even so."""
    rows = [("id", "int", "int", 4, 10, 0, False, None, 0, None, None, None, False, None)]
    for name, facts in more.items():
        rows.append((name, "nvarchar", "nvarchar", 80, 0, 0, True, "x", 0, None, None, *facts))  # type: ignore[arg-type]
    return {"COALESCE(b.name, t.name)": rows}


def test_columns_that_are_masked_or_encrypted_are_refused_where_they_are_read(site: Site) -> None:
    source = site.source(columns(email=(None, True, 0), salary=(1, False, None), phone=(None, True, 1)))
    table = source.schema("people")
    assert set(table.refused) == {"email", "salary"}
    assert "GRANT UNMASK TO that user, or leave it out of the mapping" in table.refused["email"]
    assert "Always Encrypted" in table.refused["salary"]
    assert table.warnings == ()
    partition = Partition("people", 0, Slice().dump("people", ("id",)))
    with pytest.raises(SourceError, match="column 'email' cannot be read: it is masked"):
        next(source.read(partition, ["id", "email"]))
    assert any("'OBJECT', 'UNMASK', c.name, 'COLUMN')" in sql for sql in site.asked)


def test_who_may_unmask_all_reads_all(site: Site) -> None:
    source = site.source({**columns(email=(None, True, 0)), "'UNMASK')": [(1,)]})
    assert source.schema("people").refused == {}


def test_a_masked_key_neither_names_rows_nor_cuts_them(site: Site) -> None:
    answers = {**columns(email=(None, True, 0)), "FROM sys.indexes": [(1, 1, True, True, "email", False)]}
    table = site.source(answers).schema("people")
    assert table.key == ()
    assert table.schema.names == ["id", "email"]
    answers = {"COALESCE(b.name, t.name)": columns(email=(None, True, 0))["COALESCE(b.name, t.name)"][1:]}
    with pytest.raises(SourceError, match="people has no column that can be read: it is masked"):
        site.source(answers).schema("people")


def test_a_view_may_pass_on_what_is_masked(site: Site) -> None:
    [warning] = site.source().schema("v_people").warnings
    assert "it must read none of dbo.people.email, or GRANT UNMASK" in warning
    assert site.source({"'UNMASK')": [(1,)]}).schema("v_people").warnings == ()
    assert site.source().schema("people").warnings == ()


def test_init_writes_what_the_server_says(site: Site, tmp_path: Path) -> None:
    site.source(
        {
            **columns(name=(None, False, None), email=(None, True, 0), boss=(None, False, None)),
            "o.type = 'U'": [("dbo", "people")],
            "is_not_trusted": [("FK_boss", "boss")],
            "sys.foreign_keys": [(2, "boss", "dbo", "people", "id")],
        }
    )
    told = write(["mssql://reader:geheim@db/erp"], "m", tmp_path / "migrate.yaml", overwrite=False)
    assert "views are left out unless -s names them: v_people, sales.v" in told
    text = (tmp_path / "migrate.yaml").read_text()
    assert "  erp: mssql://${env:ERP_USER}:${env:ERP_PASSWORD}@db/erp" in text
    assert "    key: id\n" in text
    assert "boss: {references: people, by: boss}  # the server has not checked the foreign key FK_boss" in text
    assert "# email is left out, for it cannot be read: it is masked" in text
    assert "geheim" not in text + " ".join(told)
