"""Runs `migrate` and kills it with SIGKILL when it passes a named point for the N-th time.

    python killer.py POINT N -- run -c migrate.yaml

The points are laid around the product's own functions from outside, so that nothing in it knows of tests.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Generator
from typing import Any, Protocol

import psycopg
from psycopg._connection_base import BaseConnection

from migrate import commit, crosswalk, engine, ledger, lifecycle, quarantine, settle
from migrate.cli import main


class Passage(Protocol):
    """Counts a passage; at the last one it does `first`, and then dies."""

    def __call__(self, first: Callable[[], object] = ...) -> None: ...


def after(owner: Any, name: str, passed: Passage) -> None:
    original = getattr(owner, name)

    def wrapped(*args: Any, **named: Any) -> Any:
        result = original(*args, **named)
        passed()
        return result

    setattr(owner, name, wrapped)


def before(owner: Any, name: str, passed: Passage) -> None:
    original = getattr(owner, name)

    def wrapped(*args: Any, **named: Any) -> Any:
        passed()
        return original(*args, **named)

    setattr(owner, name, wrapped)


def in_copy(passed: Passage) -> None:
    """After a piece of rows has been handed to the socket, in a chunk's own COPY."""
    original = psycopg.Copy.write

    def write(copy: Any, piece: Any) -> None:
        original(copy, piece)
        if _in_worker():
            copy.connection.pgconn.flush()
            passed()

    psycopg.Copy.write = write  # type: ignore[method-assign,assignment]


def at_commit(passed: Passage, *, sent: bool) -> None:
    """A chunk's COMMIT: just before it is sent, or when it has been sent and nothing has come back."""
    original = BaseConnection._exec_command

    def execute(conn: Any, command: Any, *args: Any, **named: Any) -> Generator[Any, Any, Any]:
        def send() -> None:
            if sent:
                conn.pgconn.send_query(command)
                while conn.pgconn.flush():
                    pass

        if command == b"COMMIT" and _in_worker():
            passed(send)
        return (yield from original(conn, command, *args, **named))

    BaseConnection._exec_command = execute  # type: ignore[method-assign,assignment]


def after_statement(beginning: str, passed: Passage) -> None:
    """After a statement that begins so, before the transaction that it is in commits."""
    original = psycopg.Connection.execute

    def execute(conn: Any, query: Any, *args: Any, **named: Any) -> Any:
        cursor = original(conn, query, *args, **named)
        if isinstance(query, str) and query.startswith(beginning):
            passed()
        return cursor

    psycopg.Connection.execute = execute  # type: ignore[method-assign,assignment]


def _in_worker() -> bool:
    return threading.current_thread().name.startswith("worker")


POINTS: dict[str, Callable[[Passage], None]] = {
    "claim": lambda passed: after(ledger, "claim", passed),
    "copy": in_copy,
    "quarantine": lambda passed: after(quarantine, "write", passed),
    "commit": lambda passed: at_commit(passed, sent=False),
    "commit-sent": lambda passed: at_commit(passed, sent=True),
    "committed": lambda passed: after(commit.Committer, "_once", passed),
    "prepare": lambda passed: before(lifecycle, "prepare", passed),
    "truncate": lambda passed: after_statement("TRUNCATE", passed),
    "crosswalk": lambda passed: after(crosswalk, "publish", passed),
    "shadow-drop": lambda passed: after_statement("DROP SCHEMA", passed),
    "prepared": lambda passed: after(lifecycle, "prepare", passed),
    "settle": lambda passed: before(engine, "settle", passed),
    "settled": lambda passed: after(engine, "settle", passed),
    "settling": lambda passed: after(settle, "_account", passed),
    "settle-rejects": lambda passed: after(quarantine, "settle", passed),
    "entry": lambda passed: after(ledger, "write_entry", passed),
    "finalize": lambda passed: before(lifecycle, "finalize", passed),
    "finalized": lambda passed: after(lifecycle, "finalize", passed),
    "verified": lambda passed: after(ledger, "conclude", passed),
}


def run(point: str, passage: int, arguments: list[str]) -> None:
    lock = threading.Lock()
    left = passage

    def passed(first: Callable[[], object] = lambda: None) -> None:
        nonlocal left
        with lock:
            left -= 1
            if left == 0:
                first()
                os.kill(os.getpid(), signal.SIGKILL)

    POINTS[point](passed)
    main(arguments, prog_name="migrate")


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]), sys.argv[4:])
