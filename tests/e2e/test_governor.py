"""The load on a source is governed: a cap on rows, others' statements first, a pause by signal."""

import signal
import threading
import time

from servers import MariaDB

from e2e.rig import Rig, Running

ROWS = 3000


def files(rig: Rig, rows: int = ROWS) -> None:
    rig.write("t.csv", "id,name\n" + "".join(f"{n},name {n}\n" for n in range(rows)))
    rig.write(
        "migrate.yaml",
        'migration: m\ntarget: ${env:TARGET_URL}\nsources:\n  s: {files: "t.csv"}\n'
        "tables:\n  t: {from: s.t, key: id, primary_key: id, columns: {id: {value: id, type: int}, name: name}}\n",
    )


def loaded(rig: Rig) -> int:
    made = rig.value("SELECT to_regclass('t') IS NOT NULL")
    return int(rig.value("SELECT count(*) FROM t")) if made else 0


def some(rig: Rig, running: Running) -> int:
    """Wait until some rows are there."""
    for _ in range(400):
        if loaded(rig) or running.process.poll() is not None:
            break
        time.sleep(0.02)
    return loaded(rig)


def test_rows_come_no_faster_than_the_cap(rig: Rig) -> None:
    files(rig)
    began = time.monotonic()
    rig.migrate("run", "--batch-rows", "100", "-j", "3", "--max-rows-per-second", "1000")
    assert time.monotonic() - began > 2.5  # 3,000 rows, of which the first 100 need not wait, twice: read and elected
    assert rig.fates("t") == (ROWS, ROWS, 0, 0, 0)


def test_a_signal_pauses_and_another_goes_on(rig: Rig) -> None:
    files(rig)
    running = rig.start("run", "--batch-rows", "100", "--max-rows-per-second", "1500")
    some(rig, running)
    running.process.send_signal(signal.SIGUSR1)
    running.until(lambda lines: any("Paused." in line for line in lines))
    time.sleep(0.3)
    before = loaded(rig)
    assert 0 < before < ROWS
    time.sleep(1)
    assert loaded(rig) == before
    assert rig.value("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'") == 0
    running.process.send_signal(signal.SIGUSR2)
    ended = running.end()
    assert ended.code == 0
    assert "Going on." in ended.err
    assert rig.fates("t") == (ROWS, ROWS, 0, 0, 0)


def test_a_paused_run_stops_at_once_and_is_resumed(rig: Rig) -> None:
    files(rig)
    running = rig.start("run", "--batch-rows", "100", "--max-rows-per-second", "1500")
    some(rig, running)
    running.process.send_signal(signal.SIGUSR1)
    running.until(lambda lines: any("Paused." in line for line in lines))
    began = time.monotonic()
    running.process.send_signal(signal.SIGINT)
    ended = running.end()
    assert time.monotonic() - began < 5
    assert ended.code == 130
    rig.migrate("run")
    assert rig.fates("t") == (ROWS, ROWS, 0, 0, 0)


def test_others_statements_come_first(rig: Rig, mariadb: MariaDB, source_database: str) -> None:
    mariadb.execute(
        source_database,
        "CREATE TABLE t (id INT PRIMARY KEY)",
        "INSERT INTO t SELECT seq FROM seq_1_to_500",
        "CREATE OR REPLACE USER busy@localhost",
    )
    rig.environment["SOURCE_URL"] = mariadb.url(source_database)
    rig.write(
        "migrate.yaml",
        "migration: m\ntarget: ${env:TARGET_URL}\nsources:\n  erp: ${env:SOURCE_URL}\n"
        "tables:\n  t: {from: erp.t, key: id, columns: {id: id}}\n",
    )
    other = threading.Thread(target=mariadb.execute, args=(source_database, "SELECT SLEEP(4)"))
    other.start()
    try:
        running = rig.start("run", "--batch-rows", "50", "--max-source-load", "0")
        running.until(lambda lines: any("runs 1 other statements, more than 0: waiting" in line for line in lines))
        assert loaded(rig) == 0
        ended = running.end()
    finally:
        other.join()
    assert ended.code == 0
    assert "The source is quiet again: going on." in ended.err
    assert rig.fates("t") == (500, 500, 0, 0, 0)


def test_a_source_that_does_not_say_how_busy_it_is(rig: Rig) -> None:
    files(rig, 10)
    said = rig.migrate("run", "--max-source-load", "5").err
    assert "s does not say how busy it is: --max-source-load has no effect on it" in said
