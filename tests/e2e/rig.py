"""What the end-to-end tests share: a project in a folder, its commands as a user types them, and what a run left behind."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import psycopg

from migrate import checksum

KILLER = Path(__file__).with_name("killer.py")
COMMAND = (sys.executable, "-m", "migrate")


@dataclass(frozen=True)
class Ended:
    """A command that ended: its exit code and what it said."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        return self.out + self.err

    def json(self) -> Any:
        return json.loads(self.out)

    def events(self) -> list[dict[str, Any]]:
        """The lines of `--log-format json`."""
        return [json.loads(line) for line in self.err.splitlines()]


class Running:
    """A command that goes on beside the test, and what it has said so far."""

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._out: list[str] = []
        self._err: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=pair, daemon=True)
            for pair in ((self.process.stdout, self._out), (self.process.stderr, self._err))
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: IO[str], lines: list[str]) -> None:
        for line in stream:
            lines.append(line)

    def errors(self) -> list[str]:
        """The lines on standard error so far."""
        return list(self._err)

    def until(self, enough: Callable[[list[str]], bool], within: float = 30) -> None:
        """Wait until standard error has enough in it, or the command has ended."""
        last = time.monotonic() + within
        while not enough(self.errors()) and self.process.poll() is None:
            assert time.monotonic() < last, f"not within {within} s; it said:\n{''.join(self._err)}"
            time.sleep(0.005)

    def end(self, within: float = 120) -> Ended:
        """Wait for its end."""
        try:
            self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"did not end within {within} s; it said:\n{''.join(self._err)}") from None
        return self._ended()

    def kill(self) -> Ended:
        self.process.kill()
        self.process.wait()
        return self._ended()

    def _ended(self) -> Ended:
        for reader in self._readers:
            reader.join()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return Ended(self.process.returncode, "".join(self._out), "".join(self._err))


@dataclass(frozen=True)
class Rig:
    """A project folder and an empty database; the project file reaches it by `${env:TARGET_URL}`."""

    folder: Path
    url: str
    environment: dict[str, str] = field(default_factory=dict)

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def environ(self) -> dict[str, str]:
        return {**os.environ, "TARGET_URL": self.url, "PYTHONUNBUFFERED": "1", **self.environment}

    def start(self, *arguments: str, command: Sequence[str] = COMMAND) -> Running:
        return Running([*command, *arguments], self.folder, self.environ())

    def try_(self, *arguments: str, command: Sequence[str] = COMMAND) -> Ended:
        """Run a command to its end, whatever its exit code."""
        return self.start(*arguments, command=command).end()

    def migrate(self, *arguments: str, code: int = 0) -> Ended:
        """Run a command that has to end with this exit code."""
        ended = self.try_(*arguments)
        assert ended.code == code, f"migrate {' '.join(arguments)}: exit {ended.code}, not {code}\n{ended.said}"
        assert "Traceback" not in ended.said
        return ended

    def killed_at(self, point: str, passage: int, *arguments: str) -> Ended:
        """Run a command that kills itself with SIGKILL at the given passage of a named point."""
        return self.try_(*arguments, command=(sys.executable, str(KILLER), point, str(passage), "--"))

    def sql(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as conn:
            cursor = conn.execute(query, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def value(self, query: str, *parameters: Any) -> Any:
        return self.sql(query, *parameters)[0][0]

    def fates(self, table: str) -> tuple[int, int, int, int, int]:
        """(read, loaded, merged, filtered, rejected) of the current generation."""
        found: tuple[int, int, int, int, int] = state_of(self.url)["fates"][table]
        return found

    def forget(self, ddl: str) -> None:
        """Drop everything in the database, and make the tables of `ddl` anew."""
        self.sql("DROP SCHEMA IF EXISTS migrate_ledger CASCADE")
        self.sql("DROP SCHEMA public CASCADE")
        self.sql("CREATE SCHEMA public")
        self.sql(ddl)


def state_of(url: str) -> dict[str, Any]:
    """All that two runs must have in common to be called equal: contents, fates, sums, findings and rejects.

    Not run numbers, generations, attempts, times or the quarantine's own ids.
    """
    state: dict[str, Any] = {"rows": {}, "fates": {}, "sums": {}, "rejects": {}}
    with psycopg.connect(url, autocommit=True) as conn:
        tables = conn.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables "
            "WHERE schemaname NOT IN ('pg_catalog', 'information_schema', 'migrate_ledger') ORDER BY 1"
        ).fetchall()
        for (table,) in tables:
            state["rows"][table] = conn.execute(f"SELECT t::text FROM {table} t ORDER BY 1").fetchall()
        state["sequences"] = conn.execute(
            "SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = 'public'"
        ).fetchall()
        if conn.execute("SELECT to_regclass('migrate_ledger.meta')").fetchone() == (None,):
            return state
        current = "JOIN migrate_ledger.mapped_table t USING (migration, name, generation)"
        state["phases"] = conn.execute(
            "SELECT name, phase, ownership, rows_before FROM migrate_ledger.mapped_table ORDER BY 1"
        ).fetchall()
        for name, *fates in conn.execute(
            f"SELECT name, sum(read)::int, sum(loaded)::int, sum(merged)::int, sum(filtered)::int, sum(rejected)::int, "
            f"sum(inserted)::int FROM migrate_ledger.entry {current} GROUP BY name"
        ).fetchall():
            state["fates"][name] = tuple(fates[:5])
            state.setdefault("inserted", {})[name] = fates[5]
        for name, packed in conn.execute(f"SELECT name, sums FROM migrate_ledger.entry {current}").fetchall():
            state["sums"][name] = state["sums"].get(name, checksum.zero()) + checksum.unpack(packed)
        state["sums"] = {name: np.asarray(sums).tobytes() for name, sums in state["sums"].items()}
        state["rejects"] = conn.execute(
            f'SELECT name, chunk, ordinal, state, rule, "column", value, reason, key, locator, raw '
            f"FROM migrate_ledger.reject {current} ORDER BY name, chunk, ordinal"
        ).fetchall()
        state["crosswalk"] = conn.execute(
            f"SELECT name, chunk, ordinal, by_chunk, by_ordinal, fate, rule, c.hash, loser, survivor "
            f"FROM migrate_ledger.crosswalk c {current} ORDER BY 1, 2, 3"
        ).fetchall()
        state["orphans"] = conn.execute(
            f'SELECT name, chunk, ordinal, "column", policy FROM migrate_ledger.orphan {current} ORDER BY 1, 2, 3, 4'
        ).fetchall()
        state["suspended"] = conn.execute('SELECT name, "constraint" FROM migrate_ledger.suspended').fetchall()
        state["chunks"] = conn.execute(
            f"SELECT name, chunk, token FROM migrate_ledger.partition {current} ORDER BY 1, 2"
        ).fetchall()
    return state


def differences(here: dict[str, Any], there: dict[str, Any]) -> list[str]:
    """In what two states differ, short enough to read."""
    said = []
    for part in here.keys() | there.keys():
        a, b = here.get(part), there.get(part)
        if a == b:
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            for name in sorted(a.keys() | b.keys()):
                if a.get(name) != b.get(name):
                    said.append(f"{part} of {name}: {_short(a.get(name), b.get(name))}")
        else:
            said.append(f"{part}: {_short(a, b)}")
    return said


def _short(a: Any, b: Any) -> str:
    if isinstance(a, list) and isinstance(b, list):
        only_a, only_b = ([r for r in x if r not in y][:3] for x, y in ((a, b), (b, a)))
        return f"{len(a)} and {len(b)}; only here {only_a}; only there {only_b}"
    if isinstance(a, bytes):
        return "other bytes"
    return f"{a} and {b}"
