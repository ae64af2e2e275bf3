"""Races `migrate run` against the server's own binary COPY and other loaders, on TPC-H lineitem as CSV.

    python benchmarks/bench.py --rounds 5 --json out.json                    everything, into unlogged tables
    python benchmarks/bench.py --only limit,ours --logged --unlogged         both kinds of table
    python benchmarks/bench.py --only ours --bad 1                           and a copy with 1 % of rows damaged
    python benchmarks/bench.py --only ours --scale 5 --rounds 1              peak memory at 30 million rows
    python benchmarks/bench.py --rounds 1 --scale 0.01                       the same path in seconds
    python benchmarks/bench.py --source mariadb --rounds 5                   the same rows, read from a MariaDB

Rounds are interleaved: each runs every contestant once, on an empty database of its own.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mariadb
from contestants import CONTESTANTS, Contestant, Job
from data import Input, content_of, ddl, prepare, spoil, warm
from figures import Run, bars, table
from measure import machine_cpu_seconds, run
from server import SETTINGS, Server, running
from workspace import RUNS


@dataclass(frozen=True, slots=True)
class Entrant:
    """A contestant with an input and a kind of table; `name` is how its figures are listed."""

    name: str
    contestant: Contestant
    input: Input
    logged: bool


def race(
    server: Server, entrant: Entrant, maria: mariadb.Maria | None, *, round_: int, jobs: int, timeout: float
) -> Run:
    """Load once into a fresh database, then count and sum what stands in the table."""
    database = "bench_run"
    scratch = RUNS / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    log = RUNS / f"{entrant.name}-{'logged' if entrant.logged else 'unlogged'}-{round_}.log"
    with server.database(database, ddl(logged=entrant.logged)):
        job = Job(entrant.input, server, database, scratch, jobs)
        command = entrant.contestant.command(job)
        machine, served = machine_cpu_seconds(), server.cpu()
        read = maria.cpu() if maria else 0.0
        usage = run(command, env=entrant.contestant.env(job), folder=scratch, log=log, timeout=timeout)
        server.settle(database)
        served, machine = server.cpu() - served, machine_cpu_seconds() - machine
        read = (maria.cpu() if maria else 0.0) - read
        content = content_of(server, database)
    rows = int(content[0])
    shutil.rmtree(scratch)
    return Run(
        name=entrant.name,
        logged=entrant.logged,
        round=round_,
        wall_s=usage.wall,
        client_cpu_s=usage.cpu,
        server_cpu_s=served,
        other_cpu_s=max(machine - usage.cpu - served - read, 0.0),
        source_cpu_s=read,
        peak_mb=usage.peak / 1e6,
        rows=rows,
        void=_fault(entrant.input, usage.exit_code, rows, log),
        altered=bool(entrant.input.content) and content != entrant.input.content,
    )


def _fault(input_: Input, exit_code: int, rows: int, log: Path) -> str:
    """Why a run does not count; "" if it does."""
    if exit_code != 0:
        return f"exit code {exit_code}: see {log}"
    if rows != input_.rows:
        return f"{rows} rows in the table, not {input_.rows}: see {log}"
    return ""


def entrants(options: argparse.Namespace, server: Server, maria: mariadb.Maria | None) -> Iterator[Entrant]:
    names: list[str] = options.only
    clean = prepare(server, options.scale, binary="limit" in names)
    if maria is not None:
        clean = replace(clean, database=maria.url(maria.prepare(clean, options.scale)))
    for logged in options.kinds:
        for name in names:
            yield Entrant(name, CONTESTANTS[name], clean, logged)
        if options.bad and "ours" in names:
            yield Entrant("ours-bad", CONTESTANTS["ours"], spoil(clean, options.bad), logged)


def facts(options: argparse.Namespace, server: Server, versions: dict[str, str]) -> dict[str, Any]:
    """What the figures depend on: the machine, the versions, the server's settings, the commit."""
    commit = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    cpu = next((line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")), "unknown")
    return {
        "commit": commit,
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "postgresql": server.version(),
        "packages": {name: version(name) for name in ("duckdb", "pyarrow", "pgpq", "psycopg", "numpy")},
        "contestants": versions,
        "settings": SETTINGS,
        "source": options.source,
        "scale": options.scale,
        "bad_percent": options.bad,
        "rounds": options.rounds,
        "jobs": options.jobs,
    }


def _cpuinfo() -> list[str]:
    return Path("/proc/cpuinfo").read_text().splitlines()


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--source", choices=("csv", "mariadb"), default="csv", help="where the rows are read from")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")
    parser.add_argument("--only", default=",".join(CONTESTANTS), help=f"from: {', '.join(CONTESTANTS)}")
    parser.add_argument("--scale", type=float, default=1.0, help="1 is 6 million rows, 766 MB (default)")
    parser.add_argument("--logged", action="append_const", dest="kinds", const=True, help="into logged tables")
    parser.add_argument("--unlogged", action="append_const", dest="kinds", const=False, help="unlogged (default)")
    parser.add_argument("--bad", type=float, default=0.0, metavar="PERCENT", help="run ours on damaged rows too")
    parser.add_argument("-j", "--jobs", type=int, default=2, help="worker threads, for those that take it (default 2)")
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds after which a run is killed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw figures here after every run")
    options = parser.parse_args(arguments)
    options.only = options.only.split(",")
    options.kinds = list(dict.fromkeys(options.kinds or [False]))
    if options.source == "mariadb":
        options.only = [name for name in options.only if name != "copy-csv"]
    if unknown := set(options.only) - set(CONTESTANTS):
        parser.error(f"no such contestant: {', '.join(sorted(unknown))}; there are {', '.join(CONTESTANTS)}")
    return options


def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    versions = {name: CONTESTANTS[name].install() for name in options.only}
    RUNS.mkdir(parents=True, exist_ok=True)
    with running() as server, mariadb.running() if options.source == "mariadb" else nullcontext() as maria:
        field = list(entrants(options, server, maria))
        machine = facts(options, server, versions)
        for file in dict.fromkeys(path for one in field for path in (one.input.csv, one.input.binary)):
            if file.exists():
                warm(file)
        runs: list[Run] = []
        for round_ in range(1, options.rounds + 1):
            for entrant in field:
                result = race(server, entrant, maria, round_=round_, jobs=options.jobs, timeout=options.timeout)
                print(result, flush=True)
                runs.append(result)
                if options.json:
                    figures = {"machine": machine, "runs": [asdict(one) for one in runs]}
                    options.json.write_text(json.dumps(figures, indent=1) + "\n")
    print()
    print(*(f"{name}: {fact}" for name, fact in machine.items()), sep="\n")
    for logged in options.kinds:
        chosen = [one for one in runs if one.logged == logged]
        print(f"\nInto {'logged' if logged else 'unlogged'} tables:\n\n{table(chosen)}\n")
        if options.scale >= 1:  # below, starting the programs is most of it
            print(*bars(chosen, logged=logged, source=options.source), sep="\n")
    return 1 if any(one.void or (one.altered and one.name == "ours") for one in runs) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
