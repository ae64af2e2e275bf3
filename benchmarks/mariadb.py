"""The MariaDB that `--source mariadb` reads from: Debian's server on a free port, lineitem loaded from the same CSV."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pymysql
from data import COLUMNS, Input
from measure import cpu_seconds
from workspace import WORK

USER, PASSWORD = "bench", "unasked"
SETTINGS = {"innodb-buffer-pool-size": "2G", "innodb-flush-log-at-trx-commit": "0", "local-infile": "1"}


class Maria:
    """A running server. `database` names the one that holds lineitem at a scale."""

    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self.pid = pid

    def url(self, database: str, scheme: str = "mysql") -> str:
        return f"{scheme}://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def cpu(self) -> float:
        return cpu_seconds(self.pid)

    def prepare(self, clean: Input, scale: float) -> str:
        """The database with lineitem, loaded at the first call and read through once."""
        name = f"tpch_{str(scale).replace('.', '_')}"
        connection = pymysql.connect(
            host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, local_infile=True, autocommit=True
        )
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = %s AND table_name = 'done'", [name]
            )
            row = cursor.fetchone()
            assert row is not None
            if not row[0]:
                print(f"loading {clean.csv} into MariaDB", flush=True)
                cursor.execute(f"DROP DATABASE IF EXISTS {name}")
                cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
                columns = ", ".join(f"{c} {_type(t)} NOT NULL" for c, t in COLUMNS.items())
                cursor.execute(f"CREATE TABLE {name}.lineitem ({columns}, PRIMARY KEY (l_orderkey, l_linenumber))")
                cursor.execute(
                    f"LOAD DATA LOCAL INFILE '{clean.csv}' INTO TABLE {name}.lineitem FIELDS TERMINATED BY ',' "
                    "OPTIONALLY ENCLOSED BY '\"' IGNORE 1 LINES"
                )
                cursor.execute(f"ANALYZE TABLE {name}.lineitem")
                cursor.execute(f"CREATE TABLE {name}.done (at INT)")
            cursor.execute(f"SELECT COUNT(*) FROM {name}.lineitem FORCE INDEX (PRIMARY) WHERE l_tax >= 0")
        return name


def _type(postgresql: str) -> str:
    return postgresql.replace("character varying", "varchar").replace("character", "char").replace("numeric", "decimal")


@contextmanager
def running() -> Iterator[Maria]:
    """The server, its data made at the first call, stopped at the end."""
    if shutil.which("mariadbd") is None:
        raise SystemExit("MariaDB is not installed: sudo apt-get install mariadb-server")
    folder = WORK / "mariadb"
    data = folder / "data"
    as_root = os.geteuid() == 0
    user = ["--user=mysql"] if as_root else []
    if not data.exists():
        folder.mkdir(parents=True, exist_ok=True)
        if as_root:
            shutil.chown(folder, "mysql")
        install = ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--skip-test-db", *user]
        subprocess.run([*install, "--auth-root-authentication-method=normal"], check=True, stdout=subprocess.DEVNULL)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    options = [f"--{name}={value}" for name, value in SETTINGS.items()]
    server = subprocess.Popen(
        [
            *("mariadbd", "--no-defaults", f"--datadir={data}", f"--socket={folder / 'socket'}", *user, *options),
            *(f"--pid-file={folder / 'pid'}", f"--port={port}", "--bind-address=127.0.0.1", "--server-id=1"),
            *("--log-bin", "--binlog-format=ROW", f"--log-error={folder / 'log'}"),
        ]
    )
    try:
        _admit(folder / "socket")
        yield Maria(port, server.pid)
    finally:
        server.terminate()
        server.wait(60)


def _admit(path: Path) -> None:
    """Wait for the server, and make the benchmark's user."""
    for _ in range(600):
        try:
            connection = pymysql.connect(unix_socket=str(path), user="root", autocommit=True)
            break
        except pymysql.OperationalError:
            time.sleep(0.1)
    else:
        raise SystemExit(f"MariaDB does not start: see {path.with_name('log')}")
    with connection, connection.cursor() as cursor:
        cursor.execute("SET sql_log_bin = 0")
        cursor.execute(f"CREATE OR REPLACE USER {USER}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'")
        cursor.execute(f"GRANT ALL ON *.* TO {USER}@'127.0.0.1'")
