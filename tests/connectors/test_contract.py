"""The contract of every database connector, on a real server each: what is in the source is read exactly once.

What is not there is skipped with what it takes to have it; the same of files stands in test_contract_files.py.
"""

import gc
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
from contract import (
    GenericRig,
    MariaRig,
    MySQLRig,
    OracleRig,
    PostgresRig,
    Rig,
    SQLiteRig,
    SqlServerRig,
    contents,
    made,
    named,
    numbers,
    partitions,
    slowly,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers import MySQL, Proxy
from texts import BYTES, TEXTS

from connectors.relational import Tables
from migrate.core import Partition
from migrate.errors import RetryableError

ELSEWHERE = {
    "mysql": "MIGRATE_TEST_MYSQL_URL",
    "mysql57": "MIGRATE_TEST_MYSQL57_URL",
    "oracle": "MIGRATE_TEST_ORACLE_URL",
    "sqlserver": "MIGRATE_TEST_SQLSERVER_URL",
}
"""Engines that the tests do not start themselves: the variable with the URL of one."""

ENGINES = ("sqlite", "postgres", "generic", "mariadb", *(name for name in ELSEWHERE if os.environ.get(ELSEWHERE[name])))


@pytest.mark.parametrize("name", ELSEWHERE)
def test_the_contract_holds_of_this_engine_too(name: str) -> None:
    """Where there is none, this stands for all that follows."""
    if name not in ENGINES:
        variable = ELSEWHERE[name]
        pytest.skip(
            f"nothing here is tried on {name}: docker compose up -d --wait {name}, export {variable} (docs/testing.md)"
        )


@pytest.fixture(params=ENGINES)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    made = made_rig(request, request.param, tmp_path)
    yield made
    made.close()  # a snapshot left open by a failed test would keep the server from dropping its database


@pytest.fixture
def server_rig(rig: Rig) -> Rig:
    if rig.name == "sqlite":
        pytest.skip("SQLite is a file: no server runs its statements, and no connection is lost")
    return rig


def made_rig(request: pytest.FixtureRequest, name: str, folder: Path) -> Rig:
    if name in ELSEWHERE:
        url = os.environ.get(ELSEWHERE[name], "")
        if not url:
            pytest.skip(
                f"no {name}: docker compose up -d --wait {name}, and export {ELSEWHERE[name]} (docs/testing.md)"
            )
        if name == "oracle":
            return OracleRig(url)
        if name == "sqlserver":
            return SqlServerRig(url)
        server, database = MySQL(url), f"s{abs(hash(request.node.nodeid)) % 10**12}"
        server.create(database)
        request.addfinalizer(lambda: server.execute("mysql", f"DROP DATABASE `{database}`"))
        return MySQLRig(database, server)
    if name == "sqlite":
        return SQLiteRig(folder / "source.db")
    if name in ("postgres", "generic"):
        kind = PostgresRig if name == "postgres" else GenericRig
        rig = kind(request.getfixturevalue("target_url"), request.getfixturevalue("postgres"))
        # The embedded server is built without ICU, so it has no collation that ignores case.
        rig.execute('CREATE COLLATION ci FROM "C"')
        return rig
    return MariaRig(request.getfixturevalue("source_database"), request.getfixturevalue("mariadb"))


LOW, HIGH = -(2**63), 2**63 - 1
KEYS: dict[str, list[tuple[Any, ...]]] = {
    "whole": [(k,) for k in (LOW, LOW + 1, -7, -1, 0, 1, 2, 3, 1000, 1001, HIGH - 1, HIGH)],
    "composite": [(a, b) for a in (-1, 0, 7) for b in ("", "a", "A", "b'", "ä", "z\\")],
    "decimal": [
        (Decimal(k),) for k in ("-9999999999999999.9999", "-0.0001", "0", "0.0001", "1", "1.5", "12345678.1234")
    ],
    "date": [(date(1000, 1, 1) + timedelta(days=97531 * n),) for n in range(30)] + [(date(9999, 12, 31),)],
    "moment": [(datetime(2020, 2, 29, 23, 59, 59, 999990) + timedelta(microseconds=3 * n),) for n in range(20)],
    "bytes": [(b,) for b in BYTES],
    "uuid": [(uuid.UUID(int=(n * 0x1234567890ABCDEF1234567890ABCDEF) % 2**128, version=4),) for n in range(25)],
}


KEYS["text"] = [(text,) for text in TEXTS]


def filled(rig: Rig, kind: str) -> dict[int, tuple[Any, ...]]:
    """A table of a kind with all keys that the engine takes for different ones, by their numbers."""
    if kind not in rig.kinds:
        pytest.skip(f"{rig.name} has no type of this kind: {kind}")
    made(rig, kind, [])
    rows = [(*key, n) for n, key in enumerate(KEYS[kind])]
    if kind not in ("text", "composite", "bytes"):
        rig.insert("t", rows)
    for row in rows if kind in ("text", "composite", "bytes") else ():
        with suppress(Exception):  # equal to one before it, or NULL: by what the engine says of case, blanks and ''
            rig.insert("t", [row])
    kept = {int(n): KEYS[kind][int(n)] for (n,) in rig.execute("SELECT n FROM t")}
    assert len(kept) >= len(rows) // 2
    return kept


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("size", [1, 3, 7])
def test_partitions_tile_a_table_by_any_key(rig: Rig, kind: str, size: int) -> None:
    rows = filled(rig, kind)
    source = rig.open()
    parts = partitions(source, size)
    assert sorted(numbers(source, parts)) == sorted(rows)
    if kind in rig.uncut:
        assert len(parts) == 1
    else:
        assert len(parts) >= len(rows) // size
    assert [source.count(p) for p in parts] == [len(numbers(source, [p])) for p in parts]
    source.close()


@pytest.mark.parametrize("kind", KEYS)
def test_values_arrive_exactly_or_reject_their_row(rig: Rig, kind: str) -> None:
    rows = filled(rig, kind)
    source = rig.open()
    names = named(source, "t", "n", *(("a", "b") if kind == "composite" else ("k",)))
    found, rejected = {}, 0
    for part in partitions(source, 4):
        values, ordinals, rejects = contents(source, part, names)
        assert sorted([*ordinals, *(reject[0] for reject in rejects)]) == list(range(source.count(part)))
        rejected += len(rejects)
        found |= {int(n): tuple(map(_plain, key)) for n, *key in zip(*values.to_pydict().values(), strict=True)}
    wanted = {n: tuple(map(_plain, rows[n])) for n in found}
    assert found == wanted
    assert len(found) + rejected == len(rows)
    # What SQLite keeps of a decimal that no double holds is not the number that was written.
    assert rejected <= (1 if (rig.name, kind) == ("sqlite", "decimal") else 0)
    source.close()


def _plain(value: Any) -> Any:
    """A key's value alike of all engines: a number, a text, bytes, or a moment."""
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    return str(value) if isinstance(value, uuid.UUID) else value


def test_what_cannot_be_read_is_rejected_by_its_key_each_time_alike(rig: Rig) -> None:
    kind, good, bad = rig.bad
    key = rig.kinds["indexed"].split()[1].rstrip(",")
    rig.execute(
        f"CREATE TABLE r (k {key} NOT NULL, n {key}, v {kind}, PRIMARY KEY (k))",
        *(f"INSERT INTO r VALUES ({100 + n}, {n}, {bad if n % 7 == 3 else good})" for n in range(60)),
    )
    source = rig.open()
    names = source.schema("r").schema.names
    parts = partitions(source, 16, "r")
    once = [contents(source, part, names) for part in parts]
    source.close()
    source = rig.open(connections=2)
    assert [contents(source, part, names) for part in reversed(parts)] == once[::-1]
    assert len(parts) == 4
    read = [int(n) for rows, _, _ in once for n in rows.column(1).to_pylist()]
    assert sorted(read) == [n for n in range(60) if n % 7 != 3]
    for rows, ordinals, rejects in once:
        assert sorted([*ordinals, *(reject[0] for reject in rejects)]) == list(range(len(rows) + len(rejects)))
    rejects = [reject for _, _, some in once for reject in some]
    assert [(rule, column) for _, rule, column, *_ in rejects] == [("cell", names[2])] * 9
    where = [int(locator.rpartition("=")[2].rstrip("'}")) for *_, locator, _ in rejects]
    assert sorted(where) == [100 + n for n in range(60) if n % 7 == 3]
    narrow, ordinals, none = contents(source, parts[0], names[:2])
    assert (len(narrow), ordinals, none) == (len(ordinals), list(range(len(ordinals))), [])
    source.close()


@pytest.mark.parametrize("kind", ["indexed", "keyless"])
def test_keys_that_are_null_or_doubled_are_read_once(rig: Rig, kind: str) -> None:
    rows = [(None if n % 3 == 0 else n % 5, n) for n in range(60)]
    made(rig, kind, rows)
    source = rig.open()
    parts = partitions(source, 4)
    assert sorted(numbers(source, parts)) == list(range(60))
    assert sum(source.count(p) for p in parts) == 60
    source.close()


@pytest.mark.parametrize("kind", ["whole", "indexed", "keyless"])
@pytest.mark.parametrize("count", [0, 1])
def test_a_table_of_no_row_or_one(rig: Rig, kind: str, count: int) -> None:
    made(rig, kind, [(5, 0)][:count])
    source = rig.open()
    assert numbers(source, partitions(source, 3)) == list(range(count))
    source.close()


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys=st.sets(st.integers(LOW, HIGH) | st.integers(-20, 20), max_size=40), size=st.integers(1, 9))
def test_random_keys_are_tiled(rig: Rig, keys: set[int], size: int) -> None:
    rig.execute("DROP TABLE IF EXISTS t")
    made(rig, "whole", [(k, n) for n, k in enumerate(keys)])
    source = rig.open(connections=1)
    assert sorted(numbers(source, partitions(source, size))) == list(range(len(keys)))
    source.close()


@pytest.mark.parametrize("kind", ["whole", "indexed", "keyless"])
def test_rows_that_stay_are_read_once_although_others_come_and_go(rig: Rig, kind: str) -> None:
    """Between the plan and the reading, in another session: the view of the first is gone."""
    made(rig, kind, [(2 * n, n) for n in range(50)])
    source = rig.open()
    parts = partitions(source, 6)
    source.close()
    rig.execute("DELETE FROM t WHERE n IN (0, 5, 6, 23, 49)")
    rig.insert("t", [(k, 2000 + k) for k in (-5, 11, 13, 51, 999)])
    source = rig.open()
    found = [n for n in numbers(source, parts) if n < 1000]
    assert sorted(found) == [n for n in range(50) if n not in (0, 5, 6, 23, 49)]
    assert len(numbers(source, parts)) == len(set(numbers(source, parts))) == 50
    source.close()


@pytest.mark.parametrize("kind", ["whole", "indexed", "keyless"])
def test_what_was_there_is_read_once_while_others_write(rig: Rig, kind: str) -> None:
    """In the same session, from before the table is cut until after its last row is read."""
    made(rig, kind, [(10 * n, n) for n in range(150)])
    over, written = threading.Event(), [0]

    def write() -> None:
        while not over.is_set():
            at = written[0]
            rig.execute(f"INSERT INTO t VALUES ({10 * (at * 7 % 150) + 1 + at // 150}, {1000 + at})")
            written[0] += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        source = rig.open(connections=2)
        parts = partitions(source, 9)
        last = time.monotonic() + 10
        while written[0] <= 3 and time.monotonic() < last:  # a table that is one slice is read too soon for its writer
            time.sleep(0.01)
        found: list[int] = []
        for part in parts:
            found += numbers(source, [part])
            time.sleep(0.01)
    finally:
        over.set()
        writer.join()
    assert written[0] > 3
    assert sorted(n for n in found if n < 1000) == list(range(150))
    assert len(found) == len(set(found))
    source.close()


@pytest.mark.parametrize("kind", ["whole", "indexed", "keyless", "composite"])
def test_a_partition_read_again_gives_the_same(rig: Rig, kind: str) -> None:
    if kind in KEYS:
        filled(rig, kind)
    else:
        made(rig, kind, [(n % 3 or None, n) for n in range(40)])
    source = rig.open()
    names = source.schema("t").schema.names
    for part in partitions(source, 5):
        once = contents(source, part, names)
        assert once[1] == list(range(len(once[1])))
        assert contents(source, part, names) == once
        back, ordinals, _ = contents(source, part, names[::-1])
        assert (back.select(names), ordinals) == once[:2]
        last = named(source, "t", "n")
        assert contents(source, part, last)[0] == once[0].select(last)
    source.close()


def test_memory_stays_bounded_while_rows_are_wide_and_the_consumer_slow(rig: Rig) -> None:
    """Of a process of its own: of 240 MB in chunks of 8 MB, a few chunks."""
    made(rig, "wide", [(0, "x")])
    made(rig, "wide", [], "u")
    for first in range(0, 1200, 50):
        rig.insert("u", [(n, chr(97 + n % 26) * 200_000) for n in range(first, first + 50)])
    source = rig.open(connections=1)
    columns = named(source, "u", "k", "w")
    source.close()
    read = [{"url": [*rig.place(), {"connections": 1}], "table": table} for table in ("t", "u")]
    told = slowly({"read": read, "columns": columns})
    assert told["rows"] == 1200
    assert told["grown"] < 128 << 20, told


def test_closing_early_ends_the_statement_at_the_server(server_rig: Rig) -> None:
    rig = server_rig
    made(rig, "keyless", [(n, n) for n in range(10)])
    made(rig, "wide", [], "big")
    for first in range(0, 600, 100):
        rig.insert("big", [(n, "x" * 60_000) for n in range(first, first + 100)])
    source = rig.open(connections=1)
    part = partitions(source, 10_000_000, "big")[0]
    reading = source.read(part, source.schema("big").schema.names)
    next(reading)
    reading.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 5
    while any("big" in statement.lower() for statement in rig.running() or []):
        assert time.monotonic() < deadline, rig.running()
        time.sleep(0.05)
    assert sorted(numbers(source, partitions(source, 100))) == list(range(10))  # and its connection goes on
    source.close()


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # psycopg's, of a cursor whose DECLARE was cut
def test_a_lost_connection_is_retryable_and_its_partition_alone_is_read_again(server_rig: Rig) -> None:
    rig = server_rig
    made(rig, "wide", [])
    rig.insert("t", [(n, "x" * 60_000) for n in range(300)])
    down = threading.Event()
    proxy = Proxy(rig.port, lambda data: down.is_set(), rig.host)
    try:
        source = rig.open(port=proxy.port, connections=1)
        parts = partitions(source, 50)
        assert len(parts) >= 6
        found: list[int] = []
        for at, part in enumerate(parts):
            if at == 3:
                down.set()
                with pytest.raises(RetryableError) as caught:
                    _keys(source, part)
                assert caught.value.hint
                del caught
                gc.collect()
                down.clear()
            found += _keys(source, part)
        assert sorted(found) == list(range(300))
        assert proxy.cuts >= 3  # it tried by itself before it gave up
        source.close()
    finally:
        proxy.close()


def _keys(source: Tables, part: Partition) -> list[int]:
    """The keys of wide rows, which are read whole."""
    names = named(source, "t", "k", "w")
    return [int(k) for batch in source.read(part, names) for k in batch.rows.column(0).to_pylist()]


def test_readers_side_by_side_see_one_moment(rig: Rig) -> None:
    made(rig, "whole", [(n, 0) for n in range(200)])
    made(rig, "whole", [(n, 0) for n in range(200)], "u")
    over = threading.Event()

    def write() -> None:
        at = 0
        while not over.is_set():
            at = (at + 1) % 200
            begin, end = rig.transaction
            changes = (f"UPDATE t SET n = n + 1 WHERE k = {at}", f"UPDATE u SET n = n + 1 WHERE k = {199 - at}")
            rig.execute(*filter(None, (begin, *changes, end)))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        time.sleep(0.1)
        source = rig.open(connections=2)
        sums: dict[str, int] = {}

        def read(table: str) -> None:
            sums[table] = sum(numbers(source, partitions(source, 20, table)))

        readers = [threading.Thread(target=read, args=(table,)) for table in ("t", "u")]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        view, note = source.view()
        assert view == "live"
        if source._pool.opened.consistent:
            assert sums["t"] == sums["u"]
        else:
            assert "own" in note or "each statement" in note
        source.close()
    finally:
        over.set()
        writer.join()


def _log(rig: Rig) -> tuple[str, str]:
    """Where a MySQL's log stands."""
    mode, done = rig.execute("SELECT @@global.gtid_mode, @@global.gtid_executed")[0]
    if mode == "ON":
        return "gtid", str(done).replace("\n", "")
    found = rig.execute("SHOW MASTER STATUS")[0]
    return "binlog", f"{found[0]}:{found[1]}"


_SCN = "SELECT DBMS_FLASHBACK.GET_SYSTEM_CHANGE_NUMBER FROM DUAL"
POSITIONS: dict[str, Callable[[Rig], tuple[str, str]]] = {
    "postgres": lambda rig: ("lsn", str(rig.execute("SELECT pg_current_wal_lsn()::text")[0][0])),
    "mariadb": lambda rig: ("gtid", str(rig.execute("SELECT @@global.gtid_binlog_pos")[0][0])),
    "mysql": _log,
    "oracle": lambda rig: ("scn", str(cast(OracleRig, rig).granted(_SCN, "EXECUTE ON DBMS_FLASHBACK")[0][0])),
}


def test_the_watermark_is_where_the_log_stood_before(rig: Rig) -> None:
    made(rig, "whole", [(1, 1)])
    if rig.name not in POSITIONS:
        source = rig.open()
        assert source.watermark() is None  # what has no log, or one that is not kept unless somebody asks for it
        source.close()
        return
    kind, before = POSITIONS[rig.name](rig)
    source = rig.open()
    assert source.view()[0] == "live"
    rig.insert("t", [(2, 2)])
    after = POSITIONS[rig.name](rig)[1]
    mark = source.watermark()
    assert mark is not None
    assert mark.kind == kind
    if kind == "lsn":
        assert _lsn(before) <= _lsn(mark.value) < _lsn(after)
    elif kind == "scn":
        assert int(before) <= int(mark.value) < int(after)
    else:
        assert mark.value == before
    source.close()


def _lsn(text: str) -> int:
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def test_a_source_that_nobody_writes_to_is_pinned(rig: Rig) -> None:
    made(rig, "whole", [(1, 0)])
    source = rig.open(quiesced=True)
    assert source.view()[0] == "pinned"
    assert numbers(source, partitions(source, 5)) == [0]
    source.close()
