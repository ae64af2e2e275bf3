"""What duplicates and references cost: the election alone over millions of keys, and a load with it beside the plain load.

python benchmarks/duplicates.py keys --rows 50000000          time and peak memory of one election
python benchmarks/duplicates.py load --rows 2000000           CPU of a load with dedupe and references over the plain one
"""

import argparse
import os
import resource
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from measure import run
from server import running
from workspace import RUNS

from mappings.dedupe import Ballot, Dedupe, KeyRule, Standing
from mappings.survivorship import Order

_BATCH = 200_000


def keys(rows: int, share: float) -> None:
    """Cast, elect and read an election of `rows` text keys, of which a share repeats another one."""
    ballot = Ballot(Dedupe((KeyRule("email", ("email",), merges=True),), (Order("last"),)), ("id", "email"))
    dice = np.random.default_rng(7)
    distinct = int(rows * (1 - share))

    def batch(chunk: int) -> pa.RecordBatch:
        first = chunk * _BATCH
        ids = np.arange(first, min(first + _BATCH, rows))
        people = np.where(ids < distinct, ids, (ids * 2_654_435_761) % max(distinct, 1))
        emails = pa.array(np.char.add(people.astype("U10"), "@example.com"))
        return pa.record_batch({"id": pa.array(ids), "email": emails})

    began = time.monotonic()
    chunks = -(-rows // _BATCH)
    for chunk in range(chunks):
        rows_ = batch(chunk)
        ballot.cast(chunk, rows_, np.arange(rows_.num_rows))
    cast = time.monotonic()
    candidates = ballot.candidates()
    for chunk, ordinals in candidates.items():
        some = batch(chunk).take(pa.array(ordinals))
        hashes = dice.integers(0, 2**63, len(ordinals)).astype(np.uint64)
        ballot.stand(chunk, Standing(some, ordinals, hashes, [None] * len(ordinals)))
    ballot.elect()
    merged, _ = ballot.tally()
    read = sum(b.num_rows for b in ballot.losers())
    read_keys = sum(b.num_rows for b in ballot.keys(("id",), batch(0).schema))
    ballot.close()
    assert merged == read == read_keys == rows - distinct, (merged, read, read_keys)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(
        f"{rows:,} keys, {merged:,} losers: cast {cast - began:.1f} s, elected and read {time.monotonic() - cast:.1f} s, "
        f"CPU {usage.ru_utime + usage.ru_stime:.1f} s, peak {peak:,.0f} MB"
    )


PROJECT = """\
migration: bench
target: ${{env:TARGET_URL}}
defaults: {{max_rejects: 100%, mode: replace}}
sources: {{f: {{files: "*.csv", encoding: utf-8, delimiter: comma}}}}
tables:
  customers:
    from: f.customers
    key: no
    columns: {{id: uuid(no), no: no, email: lower(email), name: name, born: born, city: city, balance: balance}}
    {dedupe}
  orders:
    from: f.orders
    key: no
    columns: {{no: no, customer: {customer}, total: total, day: day, note: note}}
"""
DDL = """
CREATE TABLE customers (id uuid NOT NULL, no int, email text, name text, born date, city text, balance numeric(12, 2));
CREATE TABLE orders (no int, customer uuid, total numeric(12, 2), day date, note text);
"""


def files(folder: Path, rows: int) -> None:
    """A third customers, a tenth of them duplicates; two thirds orders."""
    folder.mkdir(parents=True, exist_ok=True)
    dice = np.random.default_rng(11)
    n = rows // 3
    no = np.arange(1, n + 1)
    people = np.where(dice.random(n) < 0.1, dice.integers(1, n, n), no)

    def text(prefix: str, values: np.ndarray, suffix: str = "") -> np.ndarray:
        return np.char.add(np.char.add(prefix, values.astype("U12")), suffix)

    days = np.char.add("20", np.char.add((10 + no % 15).astype("U2"), "-0")).astype("U5")
    day = np.char.add(np.char.add(days, (1 + no % 9).astype("U1")), "-15")
    customers = pa.table(
        {
            "no": no,
            "email": text("Person", people, "@Example.com"),
            "name": text("Name ", no),
            "born": day,
            "city": text("City ", no % 997),
            "balance": np.round(dice.random(n) * 9999, 2),
        }
    )
    m = rows - n
    of = np.arange(1, m + 1)
    orders = pa.table(
        {
            "no": of,
            "customer": dice.integers(1, n, m),
            "total": np.round(dice.random(m) * 999, 2),
            "day": np.resize(day, m),
            "note": text("a note about order ", of),
        }
    )
    options = pa.csv.WriteOptions(quoting_style="needed")
    pa.csv.write_csv(customers, folder / "customers.csv", options)
    pa.csv.write_csv(orders, folder / "orders.csv", options)


def load(rows: int, rounds: int) -> None:
    """CPU seconds, client and server, of the load with duplicates and references over those of the plain load."""
    folder = RUNS / "duplicates"
    shutil.rmtree(folder, ignore_errors=True)
    files(folder, rows)
    kinds = {
        "plain": PROJECT.format(dedupe="", customer="""'uuid(customer, "table" := ''customers'')'"""),
        "dedupe": PROJECT.format(
            dedupe="dedupe: {match: email, keep: last}", customer="{references: customers, by: customer, column: id}"
        ),
    }
    ratios = []
    with running() as server:
        for round_ in range(rounds):
            spent = {}
            for kind, project in kinds.items():
                (folder / "migrate.yaml").write_text(project)
                with server.database("bench_run", DDL):
                    before = server.cpu()
                    usage = run(
                        [sys.executable, "-m", "migrate", "run", "-y", "-q"],
                        env={**os.environ, "TARGET_URL": server.url("bench_run")},
                        folder=folder,
                        log=folder / f"{kind}.log",
                        timeout=1800,
                    )
                    server.settle("bench_run")
                    if usage.exit_code:
                        raise SystemExit((folder / f"{kind}.log").read_text())
                    spent[kind] = usage.cpu + server.cpu() - before
                    peak = usage.peak / (1 << 20)
                    print(f"round {round_}, {kind}: {usage.wall:.1f} s, CPU {spent[kind]:.1f} s, peak {peak:,.0f} MB")
            ratios.append(spent["dedupe"] / spent["plain"])
    each = ", ".join(f"{r:.2f}" for r in ratios)
    print(f"CPU with duplicates and references over plain: {np.median(ratios):.2f} ({each})")
    shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["keys", "load"])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--share", type=float, default=0.1, help="of keys that repeat another one")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if given.what == "keys":
        keys(given.rows, given.share)
    else:
        load(given.rows, given.rounds)


if __name__ == "__main__":
    sys.exit(main())
