"""What `migrate verify` costs beside the load that it proves, and beside other tools that compare tables.

    python benchmarks/verification.py                                   equal, clustered and scattered differences, 6M rows
    python benchmarks/verification.py --scale 0.2 --source postgresql --only ours,reladiff,validator
    python benchmarks/verification.py --scale 0.2 --source mariadb --only ours,reladiff

CPU seconds of client and servers together. `equal`: nothing differs. `clustered`: rows differ in 10 of the 1,024 buckets.
`scattered`: as many rows, in all of them. Others are told the equal tables.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb
import mariadb
from contestants import CONTESTANTS, Job
from data import COLUMNS, TABLE, Input, prepare
from measure import run
from server import Server, running
from workspace import RUNS, environment, install

KEY = ("l_orderkey", "l_linenumber")
ROWS = 6_000  # that differ
DATABASE, SOURCE = "bench_verify", "bench_source"


@dataclass(frozen=True, slots=True)
class Cost:
    """One run: seconds, and megabytes of the client's memory."""

    what: str
    wall_s: float
    client_cpu_s: float
    server_cpu_s: float
    peak_mb: float
    exit_code: int

    @property
    def cpu_s(self) -> float:
        return self.client_cpu_s + self.server_cpu_s

    def __str__(self) -> str:
        parts = f"client {self.client_cpu_s:6.2f}  servers {self.server_cpu_s:6.2f}  together {self.cpu_s:6.2f} CPU s"
        return f"{self.what:22} {parts}  wall {self.wall_s:6.2f} s  peak {self.peak_mb:5.0f} MB  exit {self.exit_code}"


def ddl() -> str:
    """Lineitem with its primary key, logged: as one would have it."""
    columns = ", ".join(f"{name} {type_} not null" for name, type_ in COLUMNS.items())
    return f"create schema bench; create table {TABLE} ({columns}, primary key ({', '.join(KEY)}))"


@dataclass(frozen=True, slots=True)
class Bench:
    server: Server
    maria: mariadb.Maria | None
    clean: Input
    job: Job

    def measured(self, what: str, command: list[str], env: dict[str, str]) -> Cost:
        self.server.settle(DATABASE)
        before = self._served()
        usage = run(command, env=env, folder=self.job.scratch, log=RUNS / f"verification-{what}.log", timeout=7200)
        self.server.settle(DATABASE)
        cost = Cost(what, usage.wall, usage.cpu, self._served() - before, usage.peak / 1e6, usage.exit_code)
        print(cost, flush=True)
        return cost

    def _served(self) -> float:
        return self.server.cpu() + (self.maria.cpu() if self.maria else 0.0)

    def ours(self) -> Iterator[Cost]:
        ours = CONTESTANTS["ours"]
        load, env = ours.command(self.job), ours.env(self.job)
        verify = [load[0], "verify", "-c", load[3]]
        yield self.measured("load", load, env)
        yield self.measured("counts", [*verify, "--level", "counts"], env)
        if self.clean.database:
            yield self.measured("aggregates", [*verify, "--level", "aggregates"], env)
        yield self.measured("equal", verify, env)
        for what, most in (("clustered", 10), ("scattered", 1024)):
            with self._damaged(most):
                yield self.measured(what, verify, env)

    @contextmanager
    def _damaged(self, buckets: int) -> Iterator[None]:
        """Some rows of the first buckets, changed; a bucket is what the first bits of the key's hash say."""
        keys = duckdb.sql(
            f"select {', '.join(KEY)} from read_csv('{self.clean.csv}') where (hash({', '.join(KEY)}) >> 54) < {buckets} "
            f"order by hash({', '.join(KEY)} , 1) limit {ROWS}"
        ).fetchall()
        update = f"update {TABLE} set l_partkey = -l_partkey from unnest(%s::bigint[], %s::int[]) d(a, b) "
        update += "where l_orderkey = a and l_linenumber = b"

        def turn() -> None:
            with self.server.connect(DATABASE) as connection:
                connection.execute(update.encode(), [list(each) for each in zip(*keys, strict=True)])

        turn()
        yield
        turn()

    def reladiff(self) -> Iterator[Cost]:
        install(
            "reladiff",
            "reladiff[postgresql,mysql]==0.6.0",
            "psycopg2-binary",
            "mysql-connector-python",
            "setuptools<81",
        )
        program = str(environment("reladiff") / "bin" / "reladiff")
        source = self.clean.database
        keys = [word for key in KEY for word in ("-k", key)]
        columns = [word for name in COLUMNS if name not in KEY for word in ("-c", name)]
        command = [program, source, "lineitem", self.server.url(DATABASE), TABLE, *keys, *columns]
        yield self.measured("reladiff", command, self._plain())

    def validator(self) -> Iterator[Cost]:
        install("validator", "google-pso-data-validator==7.7.0", "setuptools<81")
        program = str(environment("validator") / "bin" / "data-validation")
        env = self._plain() | {"PSO_DV_CONN_HOME": str(self.job.scratch)}
        for name, database in (("source", SOURCE), ("target", DATABASE)):
            add = ["connections", "add", "--connection-name", name, "Postgres", "--host", "127.0.0.1"]
            add += [
                "--port",
                str(self.server.port),
                "--user",
                "postgres",
                "--password",
                "unasked",
                "--database",
                database,
            ]
            run([program, *add], env=env, folder=self.job.scratch, log=RUNS / "validator-add.log", timeout=60)
        flags = [
            "-sc",
            "source",
            "-tc",
            "target",
            "-tbls",
            f"public.lineitem={TABLE}",
            "-pk",
            ",".join(KEY),
            "--hash",
            "*",
        ]
        yield self.measured("validator", [program, "validate", "row", *flags, "--format", "minimal"], env)

    def _plain(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.job.scratch), "LC_ALL": "C.UTF-8"}


@contextmanager
def bench(source: str, scale: float, jobs: int) -> Iterator[Bench]:
    """The servers, the data, and an empty table to load."""
    scratch = RUNS / "verification"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    with ExitStack() as stack:
        server = stack.enter_context(running())
        maria = stack.enter_context(mariadb.running()) if source == "mariadb" else None
        clean = prepare(server, scale, binary=False)
        database = ""
        if maria is not None:
            database = maria.url(maria.prepare(clean, scale))
        elif source == "postgresql":
            stack.enter_context(server.database(SOURCE, ddl()))
            with server.connect(SOURCE) as connection:
                connection.execute(f"copy {TABLE} from '{clean.csv}' (format csv, header)".encode())
                connection.execute(f"alter table {TABLE} set schema public".encode())
                connection.execute("vacuum analyze lineitem")
            database = server.url(SOURCE)
        clean = Input(clean.csv, clean.binary, clean.rows, content=clean.content, database=database)
        stack.enter_context(server.database(DATABASE, ddl()))
        yield Bench(server, maria, clean, Job(clean, server, DATABASE, scratch, jobs))
    shutil.rmtree(scratch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", choices=("csv", "postgresql", "mariadb"), default="csv", help="where rows are read")
    parser.add_argument("--scale", type=float, default=1.0, help="1 is 6 million rows (default)")
    parser.add_argument("--only", default="ours", help="from: ours, reladiff, validator")
    parser.add_argument("-j", "--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw figures here")
    options = parser.parse_args()
    with bench(options.source, options.scale, options.jobs) as on:
        contestants: dict[str, Callable[[], Iterator[Cost]]]
        contestants = {"ours": on.ours, "reladiff": on.reladiff, "validator": on.validator}
        costs = [cost for name in options.only.split(",") for cost in contestants[name]()]
    if options.json:
        options.json.write_text(json.dumps([asdict(cost) for cost in costs], indent=2))
    equal = next((c for c in costs if c.what == "equal"), None)
    aggregated = next((c for c in costs if c.what == "aggregates"), None)
    if equal is not None and aggregated is not None:
        print(f"rows alone, which is what others compare: {equal.cpu_s - aggregated.cpu_s:.2f} CPU s of `equal`")
    for cost in costs:
        if equal is not None and cost.what not in ("counts", "aggregates", "equal"):
            print(f"{cost.what}: {cost.cpu_s / equal.cpu_s:.2f} times the CPU of `equal`")


if __name__ == "__main__":
    sys.exit(main())
