"""The load on a source is governed: a cap on rows, others' statements first, a pause by signal."""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psycopg
import pymysql
import pytest
from servers import MariaDB

from e2e.rig import Rig, Running, differences, state_of

ROWS = 3000
TABLE = "  t: {from: s.t, key: id, primary_key: id, columns: {id: {value: id, type: int}, name: name}}\n"


def files(rig: Rig, rows: int = ROWS, limits: str = "") -> None:
    rig.write("t.csv", "id,name\n" + "".join(f"{n},name {n}\n" for n in range(rows)))
    source = f'{{files: "t.csv"{f", limits: {limits}" if limits else ""}}}'
    rig.write("migrate.yaml", f"migration: m\ntarget: ${{env:TARGET_URL}}\nsources:\n  s: {source}\ntables:\n{TABLE}")


def database(rig: Rig, mariadb: MariaDB, name: str, rows: int, *, limits: str = "", user: str = "tester") -> None:
    mariadb.execute(
        name,
        "CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(20) NOT NULL)",
        f"INSERT INTO t SELECT seq, CONCAT('name ', seq) FROM seq_1_to_{rows}",
        "ANALYZE TABLE t",
    )
    rig.environment["SOURCE_URL"] = mariadb.url(name, user)
    source = f'{{url: "${{env:SOURCE_URL}}"{f", limits: {limits}" if limits else ""}}}'
    rig.write("migrate.yaml", f"migration: m\ntarget: ${{env:TARGET_URL}}\nsources:\n  s: {source}\ntables:\n{TABLE}")


def loaded(rig: Rig) -> int:
    made = rig.value("SELECT to_regclass('t') IS NOT NULL")
    return int(rig.value("SELECT count(*) FROM t")) if made else 0


def some(rig: Rig, running: Running) -> int:
    """Wait until some rows are there."""
    for _ in range(1000):
        if loaded(rig) or running.process.poll() is not None:
            break
        time.sleep(0.02)
    return loaded(rig)


def said(running: Running, text: str, times: int = 1) -> None:
    """Wait until it has said something."""
    running.until(lambda lines: sum(text in line for line in lines) >= times)
    assert sum(text in line for line in running.errors()) >= times, "".join(running.errors())


def most_within(rig: Rig, seconds: float) -> int:
    """The most rows of chunks whose reading began within any such time, by the ledger."""
    chunks = rig.sql("SELECT extract(epoch FROM began)::float8, read FROM migrate_ledger.entry ORDER BY 1")
    return max(sum(read for at, read in chunks if first <= at <= first + seconds) for first, _ in chunks)


def spread(rig: Rig, generation: int) -> float:
    """Seconds between the beginnings of a generation's first and last chunk."""
    query = "SELECT extract(epoch FROM max(began) - min(began))::float8 FROM migrate_ledger.entry WHERE generation = %s"
    return float(rig.value(query, generation))


def hung_up(rig: Rig) -> None:
    """What is idle for long is lost: to a firewall, to a server that restarts."""
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    assert rig.value(f"SELECT count(pg_terminate_backend(pid)) {others}")


@contextmanager
def statement(mariadb: MariaDB, database: str, user: str = "") -> Iterator[pymysql.connections.Connection]:  # type: ignore[type-arg]
    """Somebody's statement runs until this is left: as root, or as the very user of the run."""
    connection = (
        pymysql.connect(host="127.0.0.1", port=mariadb.port, user=user, password="geheim@1", database=database)
        if user
        else mariadb.connect(database)
    )
    number = connection.thread_id()  # type: ignore[no-untyped-call]

    def run() -> None:
        with connection, connection.cursor() as cursor, suppress(pymysql.Error):
            cursor.execute("SELECT SLEEP(120)")

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield connection
    finally:
        mariadb.execute("mysql", f"KILL QUERY {number}")
        thread.join()


# --------------------------------------------------------------------------------------------------------------- the cap


def test_rows_come_no_faster_than_the_cap(rig: Rig) -> None:
    files(rig)
    began = time.monotonic()
    rig.migrate("run", "--batch-rows", "100", "-j", "3", "--max-rows-per-second", "1000")
    took = time.monotonic() - began
    # Twice: read, and looked through for its key. A second's half may be caught up with, and a chunk is not cut.
    assert took > 2 * ROWS / 1000 - 0.5 - 0.3
    assert most_within(rig, 1.0) <= 1000 * 1.5 + 300
    assert rig.fates("t") == (ROWS, ROWS, 0, 0, 0)


def test_the_cap_of_a_database_holds_for_all_workers(rig: Rig, mariadb: MariaDB, source_database: str) -> None:
    database(rig, mariadb, source_database, 6000)
    rig.migrate("run", "--batch-rows", "200", "-j", "4", "--max-rows-per-second", "2000")
    assert rig.fates("t") == (6000, 6000, 0, 0, 0)
    assert most_within(rig, 1.0) <= 2000 * 1.5 + 800
    assert 2 < spread(rig, 1) < 15


def test_the_cap_of_the_project_file_and_the_one_that_wins(rig: Rig) -> None:
    files(rig, 2000, "{rows_per_second: 500}")
    rig.migrate("run", "--batch-rows", "100")
    assert most_within(rig, 1.0) <= 500 * 1.5 + 200
    assert spread(rig, 1) > 3
    rig.migrate("run", "--restart", "--batch-rows", "100", "--max-rows-per-second", "1000000")
    assert spread(rig, 2) < 3


def test_a_table_of_several_sources_waits_for_the_one_that_a_chunk_is_of(
    rig: Rig, mariadb: MariaDB, source_database: str
) -> None:
    database(rig, mariadb, source_database, 500, limits="{load: 0, rows_per_second: 400}")
    rig.write("u.csv", "id,name\n" + "".join(f"{n},name {n}\n" for n in range(1000, 1500)))
    project = (rig.folder / "migrate.yaml").read_text()
    files_ = '  f: {files: "u.csv", columns: [id, name]}\ntables:\n'
    both = "  t: {from: [f.u, s.t], mode: append, columns: {id: {value: 'id::int'}, name: name}}\n"
    rig.write("migrate.yaml", project.replace("tables:\n", files_).replace(TABLE, both))
    fault = rig.migrate("run", "--batch-rows", "50", code=2).err
    assert "is string in f.u and int32 in s.t" in fault
    mariadb.execute(source_database, "ALTER TABLE t MODIFY id VARCHAR(10) NOT NULL")
    with statement(mariadb, source_database):
        running = rig.start("run", "--batch-rows", "50", "-j", "2")
        said(running, "more than 0: waiting")
        time.sleep(1.5)
        assert loaded(rig) == 500
    assert running.end().code == 0
    assert rig.fates("t") == (1000, 1000, 0, 0, 0)


def test_a_verification_is_capped_too(rig: Rig) -> None:
    files(rig, 2000)
    rig.migrate("run", "--batch-rows", "100")
    with psycopg.connect(rig.url) as conn:
        conn.execute("UPDATE t SET name = 'other' WHERE id = 7")  # so that the source is read again
    began = time.monotonic()
    rig.migrate("verify", code=3)
    free = time.monotonic() - began
    began = time.monotonic()
    ended = rig.migrate("verify", "--max-rows-per-second", "1000", code=3)
    assert time.monotonic() - began > free + 1.0
    assert "name 7" in ended.said


def test_under_a_cap_a_chunk_is_worth_ten_seconds_of_it_at_most(rig: Rig) -> None:
    files(rig, 2000)
    plan = rig.migrate("plan", "--output", "json").json()
    assert len(plan["levels"][0][0]["chunks"]) == 1
    files(rig, 2000, "{rows_per_second: 50}")
    plan = rig.migrate("plan", "--output", "json").json()
    chunks = [chunk["rows"] for chunk in plan["levels"][0][0]["chunks"]]
    assert len(chunks) >= 4
    assert max(chunks) <= 600  # lines are not of one length


def test_limits_that_are_none_are_faults_of_the_project_file(rig: Rig) -> None:
    files(rig, 10, "{rows_per_second: 0}")
    assert "limits.rows_per_second must be a whole number of at least 1" in rig.migrate("plan", code=2).err
    files(rig, 10, "{load: 3}")  # files are never busy
    assert 'unknown key "load"' in rig.migrate("plan", code=2).err


# ---------------------------------------------------------------------------------------------------- others' statements


@pytest.mark.parametrize("user", ["", "tester"])
def test_others_statements_come_first(rig: Rig, mariadb: MariaDB, source_database: str, user: str) -> None:
    """Also where somebody else uses the very user of the run."""
    database(rig, mariadb, source_database, 500)
    with statement(mariadb, source_database, user):
        running = rig.start("run", "--batch-rows", "50", "--max-source-load", "0", "-j", "3")
        said(running, "s runs 1 other statements, more than 0: waiting")
        time.sleep(2)
        assert loaded(rig) == 0
        assert running.process.poll() is None
    ended = running.end()
    assert ended.code == 0
    assert ended.err.count("waiting") == 1
    assert ended.err.count("s is quiet again: going on.") == 1
    assert rig.fates("t") == (500, 500, 0, 0, 0)


def test_our_own_statements_are_no_load(rig: Rig, mariadb: MariaDB, source_database: str) -> None:
    """Not even those of another source on the same server."""
    database(rig, mariadb, source_database, 20_000)
    project = (rig.folder / "migrate.yaml").read_text()
    second = TABLE.replace("  t: {from: s.t", "  u: {from: r.t")
    source = '  r: {url: "${env:SOURCE_URL}", limits: {load: 0}}\n'
    rig.write("migrate.yaml", project.replace("tables:\n", f"{source}tables:\n") + second)
    ended = rig.migrate("run", "--batch-rows", "500", "--max-source-load", "0", "-j", "4")
    assert "waiting" not in ended.err
    assert rig.fates("u") == (20_000, 20_000, 0, 0, 0)


def test_a_busy_database_holds_up_no_other_source(rig: Rig, mariadb: MariaDB, source_database: str) -> None:
    database(rig, mariadb, source_database, 500, limits="{load: 0}")
    rig.write("u.csv", "id,name\n" + "".join(f"{n},name {n}\n" for n in range(500)))
    project = (rig.folder / "migrate.yaml").read_text()
    second = TABLE.replace("  t: {from: s.t", "  u: {from: f.u")
    rig.write("migrate.yaml", project.replace("tables:\n", '  f: {files: "u.csv"}\ntables:\n') + second)
    with statement(mariadb, source_database):
        running = rig.start("run", "--batch-rows", "50", "-j", "12")
        said(running, "more than 0: waiting")
        for _ in range(500):
            if rig.value("SELECT to_regclass('u') IS NOT NULL") and rig.value("SELECT count(*) FROM u") == 500:
                break
            time.sleep(0.02)
        assert rig.value("SELECT count(*) FROM u") == 500
        assert loaded(rig) == 0
    assert running.end().code == 0
    assert rig.fates("t") == (500, 500, 0, 0, 0)


def test_a_user_who_does_not_see_others_statements(rig: Rig, mariadb: MariaDB, source_database: str) -> None:
    database(rig, mariadb, source_database, 500, limits="{load: 0}", user="blind")
    mariadb.execute(
        "mysql",
        "CREATE OR REPLACE USER blind@'127.0.0.1' IDENTIFIED BY 'geheim@1'",
        f"GRANT SELECT ON `{source_database}`.* TO blind@'127.0.0.1'",
    )
    with statement(mariadb, source_database):
        ended = rig.migrate("run", "--batch-rows", "50", "-j", "3")
    assert ended.err.count("s does not say how busy it is: the limit of its load is not applied") == 1
    assert rig.fates("t") == (500, 500, 0, 0, 0)


def test_a_source_that_does_not_say_how_busy_it_is(rig: Rig) -> None:
    files(rig, 10)
    told = rig.migrate("run", "-q", "--max-source-load", "5").err
    assert told.count("s does not say how busy it is: the limit of its load is not applied") == 1


def test_ctrl_c_while_it_waits_for_others(rig: Rig, mariadb: MariaDB, source_database: str) -> None:
    database(rig, mariadb, source_database, 500)
    with statement(mariadb, source_database):
        running = rig.start("run", "--batch-rows", "50", "--max-source-load", "0")
        said(running, "more than 0: waiting")
        began = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        ended = running.end()
        assert time.monotonic() - began < 5
    assert ended.code == 143
    assert "Traceback" not in ended.said
    rig.migrate("run")
    assert rig.fates("t") == (500, 500, 0, 0, 0)


def test_a_verification_waits_for_others_too(rig: Rig, mariadb: MariaDB, source_database: str) -> None:
    database(rig, mariadb, source_database, 500, limits="{load: 0}")
    rig.migrate("run")
    with statement(mariadb, source_database):
        running = rig.start("verify", "--level", "counts")
        said(running, "more than 0: waiting")
        time.sleep(1)
        assert running.process.poll() is None
    assert running.end().code == 0


# --------------------------------------------------------------------------------------------------------------- a pause


def test_a_signal_pauses_and_another_goes_on(
    rigs: Callable[[str], Rig], mariadb: MariaDB, source_database: str
) -> None:
    rig, clean = rigs("paused"), rigs("clean")
    database(rig, mariadb, source_database, ROWS)
    running = rig.start("run", "-v", "--batch-rows", "100", "--max-rows-per-second", "1500", "--log-format", "json")
    some(rig, running)
    running.process.send_signal(signal.SIGUSR1)
    said(running, "Paused.")
    time.sleep(0.5)
    before = loaded(rig)
    assert 0 < before < ROWS
    time.sleep(1)
    assert loaded(rig) == before
    assert rig.value("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'") == 0
    assert (
        rig.value(
            "SELECT count(*) FROM pg_locks WHERE locktype IN ('relation', 'advisory') AND pid <> pg_backend_pid() "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        == 0
    )
    hung_up(rig)
    theirs = mariadb.execute("mysql", f"SELECT id FROM information_schema.processlist WHERE db = '{source_database}'")
    assert theirs
    mariadb.execute("mysql", *(f"KILL {number}" for (number,) in theirs))
    running.process.send_signal(signal.SIGUSR2)
    ended = running.end()
    assert ended.code == 0, ended.said
    assert [e["state"] for e in ended.events() if e["event"] == "governed"] == ["paused", ""]
    [process] = [e["message"] for e in ended.events() if e["event"] == "process"]
    assert f"kill -USR1 {running.process.pid} pauses" in process
    clean.environment["SOURCE_URL"] = rig.environment["SOURCE_URL"]
    clean.migrate("run", "--batch-rows", "100")
    assert differences(state_of(rig.url), state_of(clean.url)) == []


def test_a_pause_from_before_the_first_chunk(rig: Rig) -> None:
    files(rig)
    running = rig.start("run", "--batch-rows", "100", "-v")
    said(running, "kill -USR1")
    running.process.send_signal(signal.SIGUSR1)
    said(running, "Paused.")
    time.sleep(1)
    assert loaded(rig) == 0
    running.process.send_signal(signal.SIGUSR2)
    assert running.end().code == 0
    assert rig.fates("t") == (ROWS, ROWS, 0, 0, 0)


def test_a_paused_dry_run_stops_at_once_and_leaves_nothing(rig: Rig) -> None:
    files(rig)
    running = rig.start("run", "--canary", "50", "--batch-rows", "100", "-v")
    said(running, "kill -USR1")
    running.process.send_signal(signal.SIGUSR1)
    said(running, "Paused.")
    began = time.monotonic()
    running.process.send_signal(signal.SIGINT)
    ended = running.end()
    assert time.monotonic() - began < 8
    assert ended.code == 130
    assert rig.value("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'migrate%'") == 0


def test_a_paused_run_stops_at_once_and_is_resumed(rig: Rig) -> None:
    files(rig)
    running = rig.start("run", "--batch-rows", "100", "--max-rows-per-second", "1500")
    some(rig, running)
    running.process.send_signal(signal.SIGUSR1)
    said(running, "Paused.")
    began = time.monotonic()
    running.process.send_signal(signal.SIGINT)
    ended = running.end()
    assert time.monotonic() - began < 5
    assert ended.code == 130
    assert "Traceback" not in ended.said
    assert 0 < loaded(rig) < ROWS
    rig.migrate("run")
    assert rig.fates("t") == (ROWS, ROWS, 0, 0, 0)


def test_a_pause_while_duplicates_are_looked_for(rig: Rig) -> None:
    files(rig)
    running = rig.start("run", "--batch-rows", "100", "--max-rows-per-second", "1000", "--log-format", "json")
    running.until(lambda lines: any('"electing"' in line for line in lines))
    running.process.send_signal(signal.SIGUSR1)
    said(running, "Paused.")
    time.sleep(0.5)
    seen = len([line for line in running.errors() if json.loads(line)["event"] == "electing"])
    time.sleep(1)
    assert len([line for line in running.errors() if json.loads(line)["event"] == "electing"]) == seen
    hung_up(rig)
    running.process.send_signal(signal.SIGUSR2)
    ended = running.end()
    assert ended.code == 0, ended.said
    assert rig.fates("t") == (ROWS, ROWS, 0, 0, 0)


def test_ctrl_c_while_a_check_is_throttled(rig: Rig) -> None:
    """It reads what is expected of a source side by side, and its threads must not be waited for."""
    files(rig, 200_000, "{rows_per_second: 10}, expect: {t: {columns: {id: integer, name: text}}}")
    running = rig.start("check")
    time.sleep(4)
    assert running.process.poll() is None
    began = time.monotonic()
    running.process.send_signal(signal.SIGINT)
    ended = running.end()
    assert time.monotonic() - began < 5
    assert ended.code == 130
