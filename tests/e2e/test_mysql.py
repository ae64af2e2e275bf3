"""MySQL and MariaDB as a source, from a real MariaDB into a real PostgreSQL, by the commands that a user types."""

import json
import threading
from pathlib import Path

import pytest
from servers import MariaDB, Proxy

from connectors.mysql import open_url
from connectors.relational import Tables
from e2e.rig import Rig

TYPES = Path(__file__).with_name("mysql_types.sql")


def filled(mariadb: MariaDB, database: str, statements: str, mode: str = "") -> None:
    """Run statements that end in a semicolon at a line's end."""
    with mariadb.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute(f"SET sql_mode = '{mode}', time_zone = '+00:00'")
        for statement in statements.split(";\n"):
            if statement.strip():
                cursor.execute(statement)


def project(rig: Rig, source: str, tables: str) -> None:
    rig.environment["SOURCE_URL"] = source
    rig.write(
        "migrate.yaml", f"migration: m\ntarget: ${{env:TARGET_URL}}\nsources:\n  erp: {_SOURCE}\ntables:\n{tables}"
    )


_SOURCE = "${env:SOURCE_URL}"


def columns(mariadb: MariaDB, database: str, table: str) -> str:
    """A mapping of every column to one of the same name."""
    rows = mariadb.execute(
        database,
        f"SELECT column_name FROM information_schema.columns WHERE table_schema = '{database}' AND table_name = '{table}' "
        "ORDER BY ordinal_position",
    )
    quoted = [json.dumps('"' + name.replace('"', '""') + '"', ensure_ascii=False) for (name,) in rows]
    targets = [json.dumps(name, ensure_ascii=False) for (name,) in rows]
    return "".join(f"      {target}: {column}\n" for target, column in zip(targets, quoted, strict=True))


PEOPLE = """
CREATE TABLE people (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, name VARCHAR(40) NOT NULL, boss INT, born DATE);
"""
PEOPLE_PROJECT = """\
  people:
    from: erp.people
    key: id
    primary_key: id
    columns: {id: id, name: name, boss: boss, born: born}
"""


def people(mariadb: MariaDB, database: str, count: int) -> None:
    filled(mariadb, database, PEOPLE)
    with mariadb.connect(database) as connection, connection.cursor() as cursor:
        rows = [(i, f"name {i}", i // 2 or None, "1970-01-01") for i in range(1, count + 1)]
        cursor.executemany("INSERT INTO people VALUES (%s, %s, %s, %s)", rows)
        cursor.execute("ANALYZE TABLE people")


# ------------------------------------------------------------------------------------------------------------- the types


@pytest.fixture
def hard(rig: Rig, mariadb: MariaDB, source_database: str) -> Rig:
    filled(mariadb, source_database, TYPES.read_text(encoding="utf-8"))
    every = columns(mariadb, source_database, "every")
    project(
        rig,
        mariadb.url(source_database),
        f"  every:\n    from: erp.every\n    key: id\n    primary_key: id\n    max_rejects: 100%\n    columns:\n{every}",
    )
    return rig


def test_every_type_arrives_exactly_or_is_rejected(hard: Rig, mariadb: MariaDB, source_database: str) -> None:
    hard.migrate("run")
    assert hard.fates("every") == (6, 3, 0, 0, 3)
    rejects = hard.sql('SELECT key, rule, "column", value FROM migrate_ledger.reject ORDER BY ordinal')
    assert [r[1:] for r in rejects] == [
        ("cell", "da", b"0000-00-00"),
        ("cell", "da", b"2020-00-00"),
        ("nul", "v", b"nul\x00inside"),
    ]
    # As both servers spell them: what no client between them has made of it.
    exact = [
        *("ti", "tiu", "t1", "si", "siu", "mi", "miu", "i", "iu", "bi", "biu"),
        *("d1", "d38", "d65", "da", "v", "v_lat", "v_bin", "v_u16", "v_sj", "tt"),
        *("tx", "mt", "lt", "e", "s", "u", "gv", "gs", "inv"),
    ]
    exact += ['"Odd name""with\'all"', '"select"', '"ünï"', "c", "c_lat", "tm", "tm6", "g", "p", "i6"]
    spelled = [f"({c})::text" if c not in ("c", "c_lat") else f"rtrim({c})" for c in exact]
    spelled[exact.index("i6")] = "host(i6)"
    here = hard.sql(f"SELECT {', '.join(spelled)} FROM every ORDER BY id")
    asked = ["`Odd name\"with'all`" if c.startswith('"Odd') else c.replace('"', "`") for c in exact]
    asked = [f"CAST({c} AS CHAR)" if c not in ("g", "p") else f"ST_AsText({c})" for c in asked]
    there = mariadb.execute(source_database, f"SELECT {', '.join(asked)} FROM every WHERE id < 3 ORDER BY id")
    there = [tuple(_without_srid(a) for a in row) for row in there]
    for found, wanted in zip(here, there, strict=True):
        by_name = zip(exact, map(_without_srid, found), wanted, strict=True)
        assert [(name, a, b) for name, a, b in by_name if a != b] == []
    moments = hard.sql(
        "SELECT dt::text, dt6::text, ts AT TIME ZONE 'UTC', ts3 AT TIME ZONE 'UTC' FROM every WHERE id = 2"
    )
    assert [str(m) for m in moments[0]] == [
        "9999-12-31 23:59:59",
        "9999-12-31 23:59:59.999999",
        "2038-01-19 03:14:07",
        "2038-01-19 03:14:07.999000",
    ]
    numbers = "SELECT f::float8, f2::float8, db, r, b1, b8, b64, y, z, dz::text FROM every WHERE id = 1"
    assert hard.sql(numbers) == [
        (-3.4028230607370965e38, -999.9998779296875, -1.7976931348623157e308, 5e-324, False, 0, 0, 1901, 42, "1.500")
    ]
    assert hard.sql("SELECT bn, vb, tb, bl, mb, lb FROM every WHERE id IN (1, 2) ORDER BY id") == [
        (bytes(8), b"", b"", b"", b"", b""),
        (b"\x01\x02" + bytes(6), b'\x00\xff"', b"\r\n", b',"', b"\\", b"\xff\xfe\xfd"),
    ]
    assert hard.value("SELECT j FROM every WHERE id = 2") == {"a": [1, 2.5, "é"], "b": None}
    assert hard.sql("SELECT count(*) FILTER (WHERE e IS NULL), count(*) FROM every WHERE id = 0") == [(1, 1)]
    types = "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'every'::regclass"
    made = dict(hard.sql(types))
    wanted = {"biu": "numeric(20,0)", "d65": "numeric(65,30)", "v": "character varying(100)", "u": "uuid", "j": "jsonb"}
    wanted |= {
        "ts3": "timestamp(3) with time zone",
        "dt": "timestamp(0) without time zone",
        "b1": "boolean",
        "y": "smallint",
    }
    assert {name: made[name] for name in wanted} == wanted


def _without_srid(text: str | None) -> str | None:
    return None if text is None else text.removeprefix("SRID=4326;")


def test_aggregates_of_both_engines_are_equal_and_see_what_the_row_hash_cannot(hard: Rig) -> None:
    hard.migrate("run")
    said = hard.migrate("verify", "--level", "aggregates").said
    assert "every: equal" in said
    assert "compared by number only: d65, i6, j" in said
    hard.migrate("verify")
    # A reader that takes an empty value for NULL deceives the hash, which is made of what it read.
    hard.sql("UPDATE every SET vb = NULL WHERE vb = ''")
    found = hard.migrate("verify", "--level", "aggregates", code=3).said
    assert "every: vb: values that are not NULL should be 2 by the source, and is 1 in the target" in found
    hard.sql("UPDATE every SET vb = '' WHERE id = 1")
    hard.sql("UPDATE every SET dt6 = dt6 + interval '1 microsecond', v = 'sTraße' WHERE id = 1")
    found = hard.migrate("verify", "--level", "aggregates", code=3).said
    assert "every: dt6: the sum should be" in found
    assert "every: v: the sum of lengths should be" in found
    assert "the sum of digests" in found


def test_zero_dates_are_what_the_source_says(rig: Rig, mariadb: MariaDB, source_database: str) -> None:
    filled(
        mariadb,
        source_database,
        "CREATE TABLE t (id INT PRIMARY KEY, d DATE, m DATETIME(3));\n"
        "INSERT INTO t VALUES (1, '0000-00-00', '0000-00-00 00:00:00'), (2, '2020-02-29', NULL), (3, '2020-00-01', NULL);\n",
    )
    tables = "  t: {from: erp.t, key: id, primary_key: id, max_rejects: 100%, columns: {id: id, d: d, m: m}}\n"
    project(rig, mariadb.url(source_database), tables)
    text = (rig.folder / "migrate.yaml").read_text()
    rig.write("migrate.yaml", text.replace(_SOURCE, f"{{url: '{_SOURCE}', zero_dates: null}}"))
    plan = rig.migrate("plan").said
    assert "d: 1 zero dates become NULL (zero_dates: null)" in plan
    rig.migrate("run")
    assert rig.fates("t") == (3, 2, 0, 0, 1)
    assert rig.sql("SELECT id, d::text, m::text FROM t ORDER BY id") == [(1, None, None), (2, "2020-02-29", None)]
    assert "t: equal" in rig.migrate("verify").said
    rig.sql("DROP TABLE t")
    rig.sql("DROP SCHEMA migrate_ledger CASCADE")
    rig.write("migrate.yaml", text.replace(_SOURCE, f"{{url: '{_SOURCE}', zero_dates: text}}"))
    rig.migrate("run")
    assert rig.sql("SELECT d FROM t ORDER BY id") == [("0000-00-00",), ("2020-02-29",), ("2020-00-01",)]


# ---------------------------------------------------------------------------------------- a source that moves meanwhile


def test_the_view_and_the_watermark_are_told_and_kept(rig: Rig, mariadb: MariaDB, source_database: str) -> None:
    people(mariadb, source_database, 50)
    project(rig, mariadb.url(source_database), PEOPLE_PROJECT)
    plan = rig.migrate("plan", "--output", "json").json()
    [[table]] = plan["levels"]
    assert table["view"] == "live"
    [(position,)] = mariadb.execute("mysql", "SELECT @@global.gtid_binlog_pos")
    assert table["watermarks"] == {"erp": f"gtid {position}"}
    said = rig.migrate("run").said
    assert "erp was read live: one snapshot for all connections" in said
    assert f"its changes count from gtid {position}" in said
    mariadb.execute(source_database, "DELETE FROM people WHERE id = 7")
    assert "already loaded; its source moves" in rig.migrate("run").said
    assert rig.value("SELECT count(*) FROM people") == 50
    found = rig.migrate("verify", code=3).said
    assert "50 in the ledger" in found
    rig.migrate("run", "--restart", "--yes")
    assert rig.value("SELECT count(*) FROM people") == 49


def test_all_readers_see_one_moment(rig: Rig, mariadb: MariaDB, source_database: str) -> None:
    """Two tables whose sums are equal in every transaction are so in the target, whatever is written while they are read."""
    filled(
        mariadb,
        source_database,
        "CREATE TABLE a (id INT PRIMARY KEY, n INT NOT NULL);\nCREATE TABLE b (id INT PRIMARY KEY, n INT NOT NULL);\n"
        "INSERT INTO a SELECT seq, 0 FROM seq_1_to_3000;\nINSERT INTO b SELECT seq, 0 FROM seq_1_to_3000;\n"
        "ANALYZE TABLE a, b;\n",
    )
    tables = "".join(
        f"  {t}: {{from: erp.{t}, key: id, primary_key: id, columns: {{id: id, n: n}}}}\n" for t in ("a", "b")
    )
    project(rig, mariadb.url(source_database), tables)
    over = threading.Event()

    def write() -> None:
        with mariadb.connect(source_database) as connection, connection.cursor() as cursor:
            at = 0
            while not over.is_set():
                at = at % 3000 + 1
                cursor.execute("START TRANSACTION")
                cursor.execute("UPDATE a SET n = n + 1 WHERE id = %s", [at])
                cursor.execute("UPDATE b SET n = n + 1 WHERE id = %s", [3001 - at])
                cursor.execute("COMMIT")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        rig.migrate("run", "--batch-rows", "100", "-j", "3")
    finally:
        over.set()
        writer.join()
    [(a, b)] = rig.sql("SELECT (SELECT sum(n) FROM a), (SELECT sum(n) FROM b)")
    assert a == b > 0


def test_a_killed_run_goes_on_at_the_chunk_although_rows_came_and_went(
    rig: Rig, mariadb: MariaDB, source_database: str
) -> None:
    people(mariadb, source_database, 1000)
    project(rig, mariadb.url(source_database), PEOPLE_PROJECT)
    assert rig.killed_at("committed", 4, "run", "--batch-rows", "100", "-j", "1").code == -9
    done = rig.value("SELECT count(*) FROM people")
    assert 0 < done < 1000
    mariadb.execute(
        source_database,
        "DELETE FROM people WHERE id = 990",
        "INSERT INTO people VALUES (-5, 'before all', NULL, NULL), (5000, 'after all', NULL, NULL)",
    )
    said = rig.migrate("run", "--batch-rows", "100").said
    assert "in 2 runs, each at a moment of its own" in said
    here = {row[0] for row in rig.sql("SELECT id FROM people")}
    there = {row[0] for row in mariadb.execute(source_database, "SELECT id FROM people")}
    # What came into a chunk that was loaded before is in no chunk of the second run: a change feed's business.
    assert here == there - {-5}
    assert rig.value("SELECT count(*) FROM people") == 1000


def test_duplicates_of_a_source_that_moves_are_found_anew_after_an_interruption(
    rig: Rig, mariadb: MariaDB, source_database: str
) -> None:
    people(mariadb, source_database, 400)
    tables = PEOPLE_PROJECT.replace("    columns", "    dedupe: {match: [[born, boss]]}\n    columns")
    project(rig, mariadb.url(source_database), tables)
    assert rig.killed_at("committed", 2, "run", "--batch-rows", "100", "-j", "1").code == -9
    mariadb.execute(source_database, "INSERT INTO people VALUES (900, 'late', 5, '1970-01-01')")
    said = rig.migrate("run", "--batch-rows", "100", "--yes").said
    assert "interrupted, and the source has moved since its duplicates were found" in said
    read, loaded, merged, *_ = rig.fates("people")
    assert (read, loaded + merged) == (401, 401)
    assert rig.value("SELECT count(*) FROM people WHERE boss = 5") == 1
    project_text = (rig.folder / "migrate.yaml").read_text()
    rig.write("migrate.yaml", project_text.replace(_SOURCE, f"{{url: '{_SOURCE}', quiesced: true}}"))
    assert "pinned: declared as quiesced" in rig.migrate("plan").said


def test_a_lost_connection_is_made_again_and_nothing_is_doubled(
    rig: Rig, mariadb: MariaDB, source_database: str
) -> None:
    people(mariadb, source_database, 2000)
    blocks = 0

    def cut(data: bytes) -> bool:
        nonlocal blocks
        blocks += b"GROUP_CONCAT(" in data
        return b"GROUP_CONCAT(" in data and blocks in (3, 9)

    proxy = Proxy(mariadb.port, cut)
    try:
        project(rig, mariadb.url(source_database, port=proxy.port), PEOPLE_PROJECT)
        said = rig.migrate("run", "--batch-rows", "100", "-j", "2").said
    finally:
        proxy.close()
    assert proxy.cuts == 2
    assert "2 connections were lost, and what replaced them sees a later moment" in said
    assert rig.fates("people") == (2000, 2000, 0, 0, 0)
    assert rig.value("SELECT sum(id) FROM people") == 2001000


def test_a_server_that_restarts_meanwhile(rig: Rig, mariadb: MariaDB, source_database: str) -> None:
    """What is read after it is read in a later moment, and the report says so."""
    people(mariadb, source_database, 2000)
    project(rig, mariadb.url(source_database), PEOPLE_PROJECT)
    running = rig.start("run", "--batch-rows", "100", "-j", "2", "--max-rows-per-second", "700", "--log-format", "json")
    running.until(lambda lines: any('"chunks_done": 3' in line for line in lines))
    mariadb.stop()
    mariadb.start()
    ended = running.end()
    assert ended.code == 0, ended.said
    assert "sees a later moment" in ended.out
    assert rig.fates("people") == (2000, 2000, 0, 0, 0)
    assert rig.value("SELECT sum(id) FROM people") == 2001000


def test_a_reject_that_was_mended_at_the_source_is_found_by_its_key(
    rig: Rig, mariadb: MariaDB, source_database: str
) -> None:
    filled(
        mariadb,
        source_database,
        "CREATE TABLE t (id INT PRIMARY KEY, d DATE);\n"
        "INSERT INTO t VALUES (1, '2020-01-01'), (2, '2020-01-02'), (3, '0000-00-00'), (4, '2020-01-04');\n",
    )
    project(
        rig,
        mariadb.url(source_database),
        "  t: {from: erp.t, key: id, primary_key: id, max_rejects: 100%, columns: {id: id, d: d}}\n",
    )
    rig.migrate("run")
    assert "t[id=3]" in rig.migrate("rejects", "list").said
    filled(mariadb, source_database, "UPDATE t SET d = '2020-01-03' WHERE id = 3;\nDELETE FROM t WHERE id = 1;\n")
    rig.migrate("rejects", "replay", "--yes")
    assert rig.sql("SELECT id, d::text FROM t WHERE id = 3") == [(3, "2020-01-03")]
    assert rig.fates("t") == (4, 4, 0, 0, 0)


# ------------------------------------------------------------------------------------------------------ texts, messages


def test_texts_with_the_signs_that_separate_them_arrive(rig: Rig, mariadb: MariaDB, source_database: str) -> None:
    filled(mariadb, source_database, "CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(20), b VARCHAR(20) NOT NULL);\n")
    hard = [
        "",
        "\x1e",
        "\x1f",
        "\n",
        "\r",
        "\x1e\x1f\n",
        '"',
        '""',
        ",",
        "a\x1fb\nc",
        "\\",
        "\\N",
        "NULL",
        " ",
        "ä\x85 ",
    ]
    rows = [(n, a, b) for n, (a, b) in enumerate((a, b) for a in [None, *hard] for b in hard)]
    with mariadb.connect(source_database) as connection, connection.cursor() as cursor:
        cursor.executemany("INSERT INTO t VALUES (%s, %s, %s)", rows)
    project(
        rig,
        mariadb.url(source_database),
        "  t: {from: erp.t, key: id, primary_key: id, columns: {id: id, a: a, b: b}}\n",
    )
    rig.migrate("run", "--batch-rows", "7")
    assert rig.sql("SELECT id, a, b FROM t ORDER BY id") == rows
    assert "t: equal" in rig.migrate("verify").said


def test_a_column_alone_whose_last_row_is_null(rig: Rig, mariadb: MariaDB, source_database: str) -> None:
    filled(mariadb, source_database, "CREATE TABLE t (a VARCHAR(20));\nINSERT INTO t VALUES ('x'), (''), (NULL);\n")
    project(rig, mariadb.url(source_database), "  t: {from: erp.t, columns: {a: a}}\n")
    plan = rig.migrate("plan").said
    assert "no index to cut it by: it is one slice" in plan
    rig.migrate("run")
    assert rig.sql("SELECT a FROM t ORDER BY a NULLS LAST") == [("",), ("x",), (None,)]


def test_values_larger_than_the_server_puts_into_one_row(rig: Rig, mariadb: MariaDB, source_database: str) -> None:
    """A slice whose text exceeds max_allowed_packet comes row by row."""
    filled(
        mariadb,
        source_database,
        "CREATE TABLE t (id INT PRIMARY KEY, a LONGTEXT, b LONGBLOB);\n"
        "INSERT INTO t SELECT seq, REPEAT(CHAR(97 + seq USING utf8mb4), 3000000), REPEAT(X'FF00', 400000) FROM seq_1_to_9;\n",
    )
    project(rig, mariadb.url(source_database), "  t: {from: erp.t, key: id, columns: {id: id, a: a, b: b}}\n")
    rig.migrate("run")
    assert rig.sql("SELECT count(*), min(length(a)), max(length(b)), count(DISTINCT a) FROM t") == [
        (9, 3000000, 800000, 9)
    ]


def test_a_user_who_may_only_read_gets_a_view_all_the_same(rig: Rig, mariadb: MariaDB, source_database: str) -> None:
    people(mariadb, source_database, 30)
    mariadb.execute("mysql", "CREATE OR REPLACE USER reader@'127.0.0.1' IDENTIFIED BY 'lesen'")
    mariadb.execute("mysql", f"GRANT SELECT ON `{source_database}`.people TO reader@'127.0.0.1'")
    project(rig, mariadb.url(source_database, "reader", "lesen"), PEOPLE_PROJECT)
    said = rig.migrate("run").said
    assert rig.fates("people")[:2] == (30, 30)
    assert "erp was read live" in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda url: url.replace("geheim%401", "falsch"), "Access denied for user 'tester'"),
        (lambda url: url.rpartition("/")[0] + "/nowhere", "Unknown database 'nowhere'"),
        (
            lambda url: url.replace("127.0.0.1", "127.0.0.1:1").replace(":1:", ":1#:").partition("#")[0] + "/x",
            "127.0.0.1:1",
        ),
        (lambda url: url + "?sll=true", "unknown option 'sll' in the source's URL"),
        (lambda url: url.rpartition("/")[0], "names no database"),
    ],
)
def test_what_is_wrong_with_the_source_is_said_without_its_password(
    rig: Rig, mariadb: MariaDB, source_database: str, change: object, message: str
) -> None:
    people(mariadb, source_database, 3)
    project(rig, change(mariadb.url(source_database)), PEOPLE_PROJECT)  # type: ignore[operator]
    ended = rig.try_("run")
    assert ended.code in (2, 6, 75)
    assert message in ended.said
    assert "Traceback" not in ended.said
    assert "geheim" not in ended.said
    assert "falsch" not in ended.said


def test_a_table_that_is_not_there_is_said_with_those_that_are(
    rig: Rig, mariadb: MariaDB, source_database: str
) -> None:
    people(mariadb, source_database, 3)
    project(rig, mariadb.url(source_database), PEOPLE_PROJECT.replace("erp.people", "erp.peopel"))
    ended = rig.migrate("run", code=2)
    assert "no table 'peopel' at the source" in ended.said
    assert "did you mean 'people'?" in ended.said


def test_a_dry_run_leaves_nothing_behind_and_says_what_a_run_does(
    rig: Rig, mariadb: MariaDB, source_database: str
) -> None:
    people(mariadb, source_database, 200)
    filled(mariadb, source_database, "UPDATE people SET born = '0000-00-00' WHERE id % 50 = 0;\n")
    tables = PEOPLE_PROJECT.replace("boss: boss", "boss: {references: people, by: boss, orphans: reject}")
    project(rig, mariadb.url(source_database), tables.replace("    columns", "    max_rejects: 50%\n    columns"))
    dry = rig.migrate("run", "--dry-run", "--output", "json").json()
    assert rig.sql("SELECT tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')") == []
    rig.migrate("run")
    [table] = dry["tables"]
    assert (table["read"], table["loaded"], table["merged"], table["filtered"], table["rejected"]) == rig.fates(
        "people"
    )
    assert rig.fates("people")[4] > 4  # those with a zero date, and whoever has one of them above
    assert "people: equal" in rig.migrate("verify").said


def test_a_statement_that_is_not_needed_any_more_ends_at_the_server(mariadb: MariaDB, source_database: str) -> None:
    filled(
        mariadb,
        source_database,
        "CREATE TABLE t (a LONGTEXT);\nINSERT INTO t SELECT REPEAT('x', 100000) FROM seq_1_to_2000;\n",
    )
    source = open_url(mariadb.url(source_database), {"connections": 1})
    assert isinstance(source, Tables)
    running = "SELECT info FROM information_schema.processlist WHERE info LIKE '%`.`t`%' AND id <> CONNECTION_ID()"
    try:
        table = source.schema("t")
        [partition] = source.partitions(table, rows=100, bytes=1 << 20)
        rows = source.read(partition, ["a"])
        next(rows)
        assert mariadb.execute("mysql", running)
        rows.close()  # type: ignore[attr-defined]
        assert not mariadb.execute("mysql", running)
        assert sum(len(batch.ordinals) for batch in source.read(partition, ["a"])) == 2000
    finally:
        source.close()


# ---------------------------------------------------------------------------------------------------------- init, check

SHOP = """
CREATE TABLE Customers (CustomerID INT PRIMARY KEY, `Full Name` VARCHAR(80) NOT NULL, mail VARCHAR(100) UNIQUE, born DATE);
CREATE TABLE employees (id INT PRIMARY KEY, boss INT, name VARCHAR(40) CHARACTER SET latin1,
  FOREIGN KEY (boss) REFERENCES employees (id));
CREATE TABLE orders (no INT, year YEAR, customer INT NOT NULL, clerk INT, total DECIMAL(12,2), `when` DATETIME(3), took TIME,
  PRIMARY KEY (no, year), FOREIGN KEY (customer) REFERENCES Customers (CustomerID),
  FOREIGN KEY (clerk) REFERENCES employees (id));
CREATE TABLE `order lines` (no INT, year YEAR, line INT, `select` VARCHAR(10), PRIMARY KEY (no, year, line),
  FOREIGN KEY (no, year) REFERENCES orders (no, year));
CREATE TABLE logs (at DATETIME, `text` VARCHAR(200));
CREATE TABLE tmp_x (a INT);
CREATE TABLE `dot.ted Tab``le` (`a.b` INT PRIMARY KEY);
CREATE VIEW v AS SELECT * FROM Customers;
INSERT INTO Customers VALUES (1, 'Ann O''Hara', 'a@b', NULL), (2, 'Bob "B"', NULL, '1970-01-01');
INSERT INTO employees VALUES (1, NULL, 'Boss'), (2, 1, CONVERT(X'4DC3BC6C6C6572' USING latin1)), (3, 2, 'Zoe');
INSERT INTO orders VALUES (1, 2020, 1, 2, 9.99, '2020-01-01 10:00:00.123', '10:00:00'), (1, 2021, 2, NULL, 0, NULL, NULL);
INSERT INTO `order lines` VALUES (1, 2020, 1, 'x'), (1, 2020, 2, NULL);
INSERT INTO logs VALUES ('2020-01-01', 'x'), (NULL, 'y');
"""


def test_init_writes_a_project_that_loads_without_a_secret_in_it(
    rig: Rig, mariadb: MariaDB, source_database: str
) -> None:
    filled(mariadb, source_database, SHOP)
    said = rig.migrate("init", mariadb.url(source_database), "--exclude", "tmp_*").said
    written = (rig.folder / "migrate.yaml").read_text()
    name = source_database.upper()
    for text in (said, written):
        assert "geheim" not in text
        assert "tester" not in text
    assert (
        f"mysql://${{env:{name}_USER}}:${{env:{name}_PASSWORD}}@127.0.0.1:{mariadb.port}/{source_database}" in written
    )
    assert f"export {name}_PASSWORD=…" in said
    assert "tmp_x" not in written
    assert "customer: {references: customers, by: customer}" in written
    assert "boss: {references: employees, by: boss}" in written
    assert "'no': {references: orders, column: 'no', by: ['no', year]}" in written
    assert "year: {references: orders, column: year, by: ['no', year]}" in written
    rig.environment.update({f"{name}_USER": "tester", f"{name}_PASSWORD": "geheim@1"})
    checked = rig.migrate("check").said
    assert "1 of 1 values with accents are UTF-8 in a column that says otherwise" in checked
    assert "fix_encoding(name) mends them" in checked
    rig.migrate("run")
    assert rig.sql("SELECT full_name FROM customers ORDER BY customer_id") == [("Ann O'Hara",), ('Bob "B"',)]
    assert rig.sql('SELECT no, year, line, "select" FROM order_lines ORDER BY line') == [
        (1, 2020, 1, "x"),
        (1, 2020, 2, None),
    ]
    verified = rig.migrate("verify").said
    assert verified.count("equal") == 6
    assert "dot_ted_tab_le: equal" in verified


def test_init_of_some_tables(rig: Rig, mariadb: MariaDB, source_database: str) -> None:
    filled(mariadb, source_database, SHOP)
    rig.migrate("init", mariadb.url(source_database), "-s", "order*")
    written = (rig.folder / "migrate.yaml").read_text()
    assert "from: " + source_database + ".orders" in written
    assert "Customers" not in written
    assert "# references a table that is left out" in written
    ended = rig.migrate("init", mariadb.url(source_database), "-s", "nothing*", "--yes", code=2)
    assert "No table of the source is selected by -s nothing*." in ended.said


def test_check_says_what_a_restricted_user_lacks(rig: Rig, mariadb: MariaDB, source_database: str) -> None:
    filled(mariadb, source_database, SHOP)
    mariadb.execute("mysql", "CREATE OR REPLACE USER narrow@'127.0.0.1' IDENTIFIED BY 'eng'")
    mariadb.execute("mysql", f"GRANT SELECT (id, name) ON `{source_database}`.employees TO narrow@'127.0.0.1'")
    mariadb.execute("mysql", f"GRANT SELECT ON `{source_database}`.logs TO narrow@'127.0.0.1'")
    tables = "  logs: {from: erp.logs, columns: {at: '\"at\"'}}\n"
    project(
        rig, mariadb.url(source_database, "narrow", "eng"), tables + "  orders: {from: erp.orders, columns: {no: no}}\n"
    )
    both = rig.migrate("check", code=3).said
    assert "FAIL erp, orders: no table 'orders' at the source" in both
    assert "ok   erp, version: MariaDB" in both
    project(rig, mariadb.url(source_database, "narrow", "eng"), tables)
    said = rig.migrate("check").said
    assert "ok   erp, view: live: one snapshot for all connections" in said
    assert "ok   erp, version: MariaDB" in said
    mariadb.execute("mysql", "SET GLOBAL binlog_expire_logs_seconds = 60")
    try:
        assert "Raise binlog_expire_logs_seconds" in rig.migrate("check").said
    finally:
        mariadb.execute("mysql", "SET GLOBAL binlog_expire_logs_seconds = 0")


def test_a_small_table_cut_by_a_column_with_null_gives_each_row_once(
    rig: Rig, mariadb: MariaDB, source_database: str
) -> None:
    filled(
        mariadb,
        source_database,
        "CREATE TABLE t (a INT, b INT, KEY (a));\nINSERT INTO t VALUES (1, 1), (NULL, 2), (NULL, 3), (2, 4);\n",
    )
    project(rig, mariadb.url(source_database), "  t: {from: erp.t, columns: {a: a, b: b}}\n")
    rig.migrate("run")
    assert rig.sql("SELECT b FROM t ORDER BY b") == [(1,), (2,), (3,), (4,)]
