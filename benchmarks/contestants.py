"""The tools that are compared: how each is installed, and the command that loads one file into one table."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from data import COLUMNS, TABLE, Input
from server import Server
from workspace import environment, install

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Job:
    """One file to load into the table that stands empty in `database`; `scratch` is an empty folder for the tool."""

    input: Input
    server: Server
    database: str
    scratch: Path
    jobs: int

    @property
    def url(self) -> str:
        return self.server.url(self.database)


@dataclass(frozen=True, slots=True)
class Contestant:
    """`install` makes the tool ready and gives its version; `command` writes what it needs to the scratch folder."""

    name: str
    what: str
    install: Callable[[], str]
    command: Callable[[Job], list[str]]
    environment: Callable[[Job], Mapping[str, str]]

    def env(self, job: Job) -> dict[str, str]:
        """The tool's process environment: a home of its own, so that nothing is kept from run to run."""
        return {"PATH": os.environ["PATH"], "HOME": str(job.scratch), "LC_ALL": "C.UTF-8", **self.environment(job)}


def _nothing(job: Job) -> Mapping[str, str]:
    return {}


# ------------------------------------------------------------------------------------------------ the server's own COPY


def _server_copy(options: str, binary: bool) -> Callable[[Job], list[str]]:
    def command(job: Job) -> list[str]:
        file = job.input.binary if binary else job.input.csv
        statement = f"copy {TABLE} from '{file}' ({options})"
        return [str(job.server.bin / "psql"), "-X", "-v", "ON_ERROR_STOP=1", "-c", statement, job.url]

    return command


def _no_install() -> str:
    return "the server's own"


# ----------------------------------------------------------------------------------------------------------------- ours


def _install_ours() -> str:
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _ours(job: Job) -> list[str]:
    project = job.scratch / "migrate.yaml"
    columns = "\n".join(f"      {name}: {name}" for name in COLUMNS)
    files = f'{{files: {{lineitem: "{job.input.csv}"}}}}'
    project.write_text(f"""\
migration: benchmark
target: ${{env:TARGET_URL}}
sources:
  tpch: {job.input.database or files}
tables:
  lineitem:
    from: tpch.lineitem
    to: {TABLE}
    key: [l_orderkey, l_linenumber]
    mode: replace
    max_rejects: {max(job.input.damaged * 2, 1)}
    columns:
{columns}
""")
    migrate = Path(sys.executable).with_name("migrate")
    return [str(migrate), "run", "-c", str(project), "-y", "-j", str(job.jobs)]


# ------------------------------------------------------------------------------------------------------------------ dlt


def _install_dlt() -> str:
    adbc = ("adbc-driver-postgresql==1.13.0", "adbc-driver-manager==1.13.0")
    mysql = ("connectorx==0.4.6", "sqlalchemy==2.1.9", "pymysql==1.2.0")
    install("dlt", "dlt[postgres,parquet,sql_database]==1.31.0", *adbc, *mysql)
    return "1.31.0"


def _dlt(job: Job) -> list[str]:
    arguments = [
        job.input.database.replace("mysql://", "mysql+pymysql://") or str(job.input.csv),
        job.url,
        *TABLE.split("."),
        *(f"{name}={type_}" for name, type_ in COLUMNS.items()),
    ]
    return [str(environment("dlt") / "bin" / "python"), str(HERE / "load_with_dlt.py"), *arguments]


def _dlt_env(job: Job) -> Mapping[str, str]:
    return {
        "DLT_DATA_DIR": str(job.scratch),
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "RUNTIME__LOG_LEVEL": "WARNING",
        "LOAD__WORKERS": str(job.jobs),
        "DATA_WRITER__FILE_MAX_ITEMS": "1000000",  # several files, so that its loaders have something to share
        "EXTRACT__DATA_WRITER__FILE_MAX_ITEMS": "1000000",
    }


# ------------------------------------------------------------------------------------------------------------- pgloader


def _install_pgloader() -> str:
    if shutil.which("pgloader") is None:
        if os.geteuid() != 0:
            raise SystemExit("pgloader is not installed: sudo apt-get install pgloader, or leave it out with --only")
        print("installing Debian's pgloader", flush=True)
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "pgloader"], check=True)
    query = ["dpkg-query", "-W", "-f", "${Version}", "pgloader"]
    return subprocess.run(query, capture_output=True, text=True, check=True).stdout


def _pgloader(job: Job) -> list[str]:
    script = job.scratch / "lineitem.load"
    columns = ", ".join(COLUMNS)
    if job.input.database:
        script.write_text(f"""\
LOAD DATABASE FROM {job.input.database} INTO {job.url}
  WITH data only, include no drop, workers = {job.jobs}, concurrency = 1, batch rows = 25000, prefetch rows = 50000
  INCLUDING ONLY TABLE NAMES MATCHING 'lineitem'
  ALTER SCHEMA '{job.input.database.rpartition("/")[2]}' RENAME TO '{TABLE.partition(".")[0]}';
""")
        return ["pgloader", "--root-dir", str(job.scratch), "--client-min-messages", "warning", str(script)]
    script.write_text(f"""\
LOAD CSV
  FROM '{job.input.csv}' ({columns})
  INTO {job.url}
  TARGET TABLE {TABLE} ({columns})
  WITH skip header = 1, fields optionally enclosed by '"', fields terminated by ',',
       workers = {job.jobs}, concurrency = 1, batch rows = 25000, prefetch rows = 50000;
""")
    return ["pgloader", "--root-dir", str(job.scratch), "--client-min-messages", "warning", str(script)]


# ---------------------------------------------------------------------------------------------------------------- sling


def _install_sling() -> str:
    install("sling", "sling==1.3.5")
    return "1.3.5"


def _sling(job: Job) -> list[str]:
    # The binary itself: the wheel's Python wrapper loses its exit code.
    program = next(environment("sling").glob("lib/*/site-packages/sling_linux_*/bin/sling-linux-*"))
    flags = {
        **_sling_source(job),
        "--columns": "{" + ", ".join(f"{name}: {_sling_type(type_)}" for name, type_ in COLUMNS.items()) + "}",
        "--tgt-conn": "TARGET",
        "--tgt-object": TABLE,
        "--tgt-options": "{use_bulk: true, adjust_column_type: false}",
        "--mode": "truncate",
    }
    return [str(program), "run", *(word for flag in flags.items() for word in flag)]


def _sling_source(job: Job) -> dict[str, str]:
    if job.input.database:
        return {"--src-conn": "SOURCE", "--src-stream": f"{job.input.database.rpartition('/')[2]}.lineitem"}
    return {
        "--src-stream": f"file://{job.input.csv}",
        "--src-options": "{format: csv, header: true, delimiter: ','}",
    }


def _sling_type(type_: str) -> str:
    return {"bigint": "bigint", "integer": "integer", "date": "date", "numeric(15,2)": "decimal(15,2)"}.get(
        type_, "text"
    )


def _sling_env(job: Job) -> Mapping[str, str]:
    return {
        "TARGET": f"{job.url}?sslmode=disable",
        **({"SOURCE": job.input.database} if job.input.database else {}),
        "SLING_DISABLE_TELEMETRY": "true",
        "SLING_HOME_DIR": str(job.scratch),
        "SLING_LOADED_AT_COLUMN": "false",  # else it adds a column to the target table
    }


CONTESTANTS = {
    contestant.name: contestant
    for contestant in (
        Contestant("limit", "server's COPY, binary file", _no_install, _server_copy("format binary", True), _nothing),
        Contestant(
            "copy-csv", "server's COPY, CSV file", _no_install, _server_copy("format csv, header", False), _nothing
        ),
        Contestant("ours", "migrate run", _install_ours, _ours, lambda job: {"TARGET_URL": job.url}),
        Contestant("dlt", "pyarrow, parquet, ADBC", _install_dlt, _dlt, _dlt_env),
        Contestant("pgloader", "LOAD CSV", _install_pgloader, _pgloader, _nothing),
        Contestant("sling", "run --mode truncate", _install_sling, _sling, _sling_env),
    )
}
