"""The contract of every database connector, on a real server each: what is in the source is read exactly once."""

import gc
import threading
import time
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from contract import BYTES, TEXTS, MariaRig, PostgresRig, Rig, SQLiteRig, contents, made, numbers, partitions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers import Proxy

from migrate.errors import RetryableError

ENGINES = ("sqlite", "postgres", "mariadb")
SERVERS = ENGINES[1:]


@pytest.fixture(params=ENGINES)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    made = made_rig(request, request.param, tmp_path)
    yield made
    made.close()  # a snapshot left open by a failed test would keep the server from dropping its database


@pytest.fixture(params=SERVERS)
def server_rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    made = made_rig(request, request.param, tmp_path)
    yield made
    made.close()


def made_rig(request: pytest.FixtureRequest, name: str, folder: Path) -> Rig:
    if name == "sqlite":
        return SQLiteRig(folder / "source.db")
    if name == "postgres":
        rig = PostgresRig(request.getfixturevalue("target_url"), request.getfixturevalue("postgres"))
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


def keys_of(rig: Rig, kind: str) -> list[tuple[Any, ...]]:
    """The keys of a kind that the engine's collation takes for different ones."""
    if kind != "text":
        return [(*key, n) for n, key in enumerate(KEYS[kind])]
    kept: dict[str, str] = {}
    for text in TEXTS:
        kept.setdefault(text.casefold() if rig.name == "sqlite" or not text.isascii() else text.lower(), text)
    plain = (
        [t for t in kept.values() if t not in ("ä", "Ä", "é", "zß", "😁")] if rig.name == "mariadb" else kept.values()
    )
    return [(text, n) for n, text in enumerate(plain)]


@pytest.mark.parametrize("kind", [*KEYS, "text"])
@pytest.mark.parametrize("size", [1, 3, 7])
def test_partitions_tile_a_table_by_any_key(rig: Rig, kind: str, size: int) -> None:
    rows = keys_of(rig, kind)
    made(rig, kind, rows)
    source = rig.open()
    parts = partitions(source, size)
    assert sorted(numbers(source, parts)) == list(range(len(rows)))
    assert len(parts) >= len(rows) // size
    assert [source.count(p) for p in parts] == [len(numbers(source, [p])) for p in parts]
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


@pytest.mark.parametrize("kind", ["whole", "indexed", "keyless", "composite"])
def test_a_partition_read_again_gives_the_same(rig: Rig, kind: str) -> None:
    rows = keys_of(rig, kind) if kind in KEYS else [(n % 3 or None, n) for n in range(40)]
    made(rig, kind, rows)
    source = rig.open()
    names = source.schema("t").schema.names
    for part in partitions(source, 5):
        once = contents(source, part, names)
        assert once[1] == list(range(len(once[1])))
        assert contents(source, part, names) == once
        back, ordinals, _ = contents(source, part, names[::-1])
        assert (back.select(names), ordinals) == once[:2]
        assert contents(source, part, ["n"])[0] == once[0].select(["n"])
    source.close()


def test_memory_stays_bounded_while_rows_are_wide_and_the_consumer_slow(rig: Rig) -> None:
    made(rig, "wide", [])
    for first in range(0, 400, 50):
        rig.insert("t", [(n, chr(97 + n % 26) * 200_000) for n in range(first, first + 50)])
    source = rig.open(connections=1)
    parts = list(source.partitions(source.schema("t"), rows=100_000, bytes=8 << 20))
    tracemalloc.start()
    rows = 0
    for part in parts:
        for batch in source.read(part, ["k", "w"]):
            rows += batch.rows.num_rows
            assert batch.rows.nbytes < 40 << 20
            time.sleep(0.01)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == 400
    assert peak < 60 << 20  # of 80 MB
    source.close()


def test_closing_early_ends_the_statement_at_the_server(server_rig: Rig) -> None:
    rig = server_rig
    made(rig, "keyless", [(n, n) for n in range(10)])
    rig.execute("CREATE TABLE big (a INT, w TEXT)")
    for _ in range(6):
        rig.insert("big", [(n, "x" * 60_000) for n in range(100)])
    source = rig.open(connections=1)
    part = partitions(source, 10_000_000, "big")[0]
    reading = source.read(part, ["a", "w"])
    next(reading)
    reading.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 5
    while any("big" in statement for statement in rig.running() or []):
        assert time.monotonic() < deadline, rig.running()
        time.sleep(0.05)
    assert sorted(numbers(source, partitions(source, 100))) == list(range(10))  # and its connection goes on
    source.close()


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # psycopg's, of a cursor whose DECLARE was cut
def test_a_cut_connection_is_retryable_and_the_partition_is_read_again(server_rig: Rig) -> None:
    rig = server_rig
    made(rig, "wide", [(n, "x" * 100_000) for n in range(300)])
    state = {"cut": 0}

    def cut(data: bytes) -> bool:
        if state["cut"] and (b"FETCH" in data or b"SELECT" in data):
            state["cut"] -= 1
            return True
        return False

    proxy = Proxy(rig.port, cut)
    try:
        source = rig.open(port=proxy.port, connections=1)
        part = partitions(source, 10_000_000)[0]
        assert numbers(source, [part], "k") == list(range(300))
        state["cut"] = 3  # as often as it tries by itself
        with pytest.raises(RetryableError) as caught:
            numbers(source, [part], "k")
        assert caught.value.hint
        del caught
        gc.collect()
        state["cut"] = 0
        assert numbers(source, [part], "k") == list(range(300))
        source.close()
    finally:
        proxy.close()


def test_readers_side_by_side_see_one_moment(rig: Rig) -> None:
    made(rig, "whole", [(n, 0) for n in range(200)])
    made(rig, "whole", [(n, 0) for n in range(200)], "u")
    over = threading.Event()

    def write() -> None:
        at = 0
        while not over.is_set():
            at = (at + 1) % 200
            begin = "BEGIN" if rig.name != "mariadb" else "START TRANSACTION"
            rig.execute(
                begin,
                f"UPDATE t SET n = n + 1 WHERE k = {at}",
                f"UPDATE u SET n = n + 1 WHERE k = {199 - at}",
                "COMMIT",
            )

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
            assert "own" in note
        source.close()
    finally:
        over.set()
        writer.join()


WATERMARKS: dict[str, tuple[str, Callable[[Rig], str]]] = {
    "postgres": ("lsn", lambda rig: str(rig.execute("SELECT pg_current_wal_lsn()::text")[0][0])),
    "mariadb": ("gtid", lambda rig: str(rig.execute("SELECT @@global.gtid_binlog_pos")[0][0])),
}


def test_the_watermark_is_where_the_log_stood_before(server_rig: Rig) -> None:
    made(server_rig, "whole", [(1, 1)])
    kind, position = WATERMARKS[server_rig.name]
    before = position(server_rig)
    source = server_rig.open()
    assert source.view()[0] == "live"
    server_rig.insert("t", [(2, 2)])
    mark = source.watermark()
    assert mark is not None
    assert mark.kind == kind
    if kind == "gtid":
        assert mark.value == before
    else:
        later = f"SELECT '{before}'::pg_lsn <= '{mark.value}' AND '{mark.value}' < pg_current_wal_lsn()"
        assert server_rig.execute(later) == [(True,)]
    source.close()


def test_a_source_that_nobody_writes_to_is_pinned(rig: Rig) -> None:
    made(rig, "whole", [(1, 0)])
    source = rig.open(quiesced=True)
    assert source.view()[0] == "pinned"
    assert numbers(source, partitions(source, 5)) == [0]
    source.close()
