"""Ctrl-C and SIGTERM: a stop at a chunk's edge, said in words, with an exit code of its own, and nothing to repair."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from e2e import shop
from e2e.rig import Rig, differences, state_of

RUN = ("run", "-j", "2", "--log-format", "json", *shop.BATCH)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_at_a_chunks_edge_and_the_same_command_goes_on(
    number: signal.Signals, code: int, rigs: Callable[[str], Rig]
) -> None:
    rig, undisturbed = rigs("stopped"), rigs("clean")
    shop.make(undisturbed)
    undisturbed.migrate(*RUN)
    rig.forget(shop.TABLES)

    running = rig.start(*RUN)
    running.until(lambda lines: any('"event": "chunk"' in line for line in lines))
    running.process.send_signal(number)
    asked = time.monotonic()
    ended = running.end(within=30)
    assert time.monotonic() - asked < 5
    assert ended.code == code
    assert "Traceback" not in ended.said
    assert ended.events()[-1]["exit"] == code
    assert "same command again" in ended.events()[-1]["hint"]

    done = rig.value("SELECT count(*) FROM migrate_ledger.entry")
    planned = rig.value("SELECT count(*) FROM migrate_ledger.partition")
    assert 0 < done < planned
    assert rig.value("SELECT count(*) FROM migrate_ledger.claim") == done
    assert rig.value("SELECT outcome FROM migrate_ledger.run") == f"exit {code}"
    status = rig.migrate("status")
    assert status.out.rstrip().endswith("migrate run")

    rig.migrate(*RUN)
    assert differences(state_of(rig.url), state_of(undisturbed.url)) == []


@pytest.mark.parametrize(("number", "codes"), [(signal.SIGINT, {130}), (signal.SIGTERM, {143, -signal.SIGTERM})])
def test_the_second_signal_stops_at_once(number: signal.Signals, codes: set[int], rig: Rig) -> None:
    shop.make(rig, customers=200, orders=200, prices=150)
    with held(rig, "customers"):
        running = rig.start("run", *shop.BATCH)
        waiting_for_the_lock(rig)
        running.process.send_signal(number)
        running.until(lambda lines: any("Once more to stop at once" in line for line in lines))
        time.sleep(0.5)
        assert running.process.poll() is None, "the first signal waits for the chunk in hand"
        running.process.send_signal(number)
        asked = time.monotonic()
        ended = running.end(within=10)
        assert time.monotonic() - asked < 5
    assert ended.code in codes
    assert "Traceback" not in ended.said
    rig.migrate("run", *shop.BATCH)
    rig.migrate("verify")


@contextmanager
def held(rig: Rig, table: str) -> Iterator[None]:
    """Somebody else locks a table, so that a chunk takes long."""
    with psycopg.connect(rig.url) as conn:
        conn.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE")
        yield


def waiting_for_the_lock(rig: Rig) -> None:
    until = time.monotonic() + 20
    while not rig.value(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'relation' AND application_name = 'migrate'"
    ):
        assert time.monotonic() < until, "no worker ever waited for the lock"
        time.sleep(0.05)


def test_ctrl_c_outside_a_load_is_an_exit_code_too(rig: Rig) -> None:
    shop.make(rig, customers=50, orders=50, prices=50)
    rig.migrate("run")
    with psycopg.connect(rig.url) as conn:
        conn.execute("LOCK TABLE prices IN ACCESS EXCLUSIVE MODE")
        running = rig.start("verify")
        waiting_for_the_lock(rig)
        running.process.send_signal(signal.SIGINT)
        ended = running.end(within=10)
    assert ended.code == 130
    assert "Traceback" not in ended.said
