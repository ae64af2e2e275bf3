"""The data: TPC-H lineitem as CSV at a scale, a damaged copy, and the binary file that the limit loads."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from damage import damage
from server import Server
from workspace import DATA, environment, install

TABLE = "bench.lineitem"
COLUMNS = {
    "l_orderkey": "bigint",
    "l_partkey": "bigint",
    "l_suppkey": "bigint",
    "l_linenumber": "integer",
    "l_quantity": "numeric(15,2)",
    "l_extendedprice": "numeric(15,2)",
    "l_discount": "numeric(15,2)",
    "l_tax": "numeric(15,2)",
    "l_returnflag": "character(1)",
    "l_linestatus": "character(1)",
    "l_shipdate": "date",
    "l_commitdate": "date",
    "l_receiptdate": "date",
    "l_shipinstruct": "character(25)",
    "l_shipmode": "character(10)",
    "l_comment": "character varying(44)",
}
"""TPC-H's own types; every column NOT NULL, no key and no index."""


@dataclass(frozen=True, slots=True)
class Input:
    """One input file. `content` is what the table must hold afterwards (see `content_of`); damaged: its rows only."""

    csv: Path
    binary: Path
    rows: int
    damaged: int = 0
    content: tuple[str, ...] = ()
    database: str = ""  # the URL of the MariaDB database that holds the same rows, where they are read from there


def ddl(*, logged: bool) -> str:
    columns = ", ".join(f"{name} {type_} not null" for name, type_ in COLUMNS.items())
    return f"create schema bench; create {'' if logged else 'unlogged '}table {TABLE} ({columns})"


def content_of(server: Server, database: str) -> tuple[str, ...]:
    """Row count and sums that a lost, doubled or altered row changes; read by a fresh session."""
    query = f"""select count(*), sum(l_orderkey), sum(l_partkey), sum(l_suppkey), sum(l_quantity), sum(l_extendedprice),
        sum(l_discount), sum(l_tax), sum(l_shipdate - date '1990-01-01'), sum(l_receiptdate - l_commitdate),
        sum(length(l_comment)), sum(ascii(l_returnflag) + ascii(l_linestatus)), sum(length(l_shipinstruct)),
        sum(length(l_shipmode)) from {TABLE}"""
    with server.connect(database) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return tuple(map(str, row))


def prepare(server: Server, scale: float, *, binary: bool) -> Input:
    """The clean input at a scale (1: 6M rows, 766 MB), made at the first call, with the limit's file if asked."""
    folder = DATA / f"sf{scale:g}"
    csv, packed, facts = folder / "lineitem.csv", folder / "lineitem.bin", folder / "lineitem.json"
    if not csv.exists():
        folder.mkdir(parents=True, exist_ok=True)
        install("tpchgen", "tpchgen-cli==4.0.0")
        print(f"generating {csv}", flush=True)
        command = [environment("tpchgen") / "bin" / "tpchgen-cli", "csv", "-s", f"{scale:g}", "--tables=lineitem"]
        part = folder / "part"
        subprocess.run([*command, f"--output-dir={part}"], check=True, stdout=subprocess.DEVNULL)
        (part / "lineitem.csv").rename(csv)  # only a whole file gets the name
        part.rmdir()
    if not facts.exists() or (binary and not packed.exists()):
        print(f"loading {csv} once, for its sums{' and its binary file' if binary else ''}", flush=True)
        with server.database("bench_reference", ddl(logged=False)) as database:
            with server.connect(database) as connection:
                connection.execute(f"copy {TABLE} from '{csv}' (format csv, header)".encode())
                if binary:
                    copy = f"copy {TABLE} to stdout (format binary)".encode()
                    part = packed.with_suffix(".part")
                    with part.open("wb") as out, connection.cursor().copy(copy) as rows:
                        for block in rows:
                            out.write(block)
                    part.rename(packed)
            facts.write_text(json.dumps(content_of(server, database)))
    content = tuple(json.loads(facts.read_text()))
    return Input(csv, packed, int(content[0]), content=content)


def warm(file: Path) -> None:
    """Read a file through once, so that its first reader does not pay for the disk."""
    with file.open("rb", buffering=0) as blocks:
        while blocks.read(8 << 20):
            pass


def spoil(clean: Input, percent: float) -> Input:
    """A copy of a clean input with `percent` of its rows damaged, made at the first call."""
    target = clean.csv.with_name(f"lineitem.bad{percent:g}.csv")
    count = target.with_suffix(".count")
    if not count.exists():
        print(f"damaging {percent:g} % of {clean.csv}", flush=True)
        count.write_text(str(damage(clean.csv, target, percent=percent)))
    damaged = int(count.read_text())
    return Input(target, clean.binary, clean.rows - damaged, damaged)
