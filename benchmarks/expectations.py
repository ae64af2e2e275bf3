"""What expectations cost: the client's memory and time of `migrate verify --level counts` with and without them.

python benchmarks/expectations.py --rows 6000000
"""

import argparse
import os
import shutil
import sys

from measure import run
from server import running
from workspace import RUNS

PROJECT = """\
migration: bench
target: ${{env:TARGET_URL}}
sources: {{f: {{files: "*.csv", encoding: utf-8, delimiter: comma}}}}
tables:
  people:
    from: f.people
    key: id
    columns: {{id: id, name: name, email: email, total: total, born: born, state: state}}
    {expect}
"""
EXPECT = """expect:
      not_null: [email, name]
      unique: [email, [name, born]]
      accepted_values: {state: [A, B, C]}
      between: {total: {least: 0, most: 999}, born: {least: 2000-01-01}}
      regex: {email: '@'}
"""
# Not the tree's memory, as elsewhere: importing calls `uname`, which for a moment is counted with all of its parent's.
PROGRAM = """
from migrate.cli import main
try:
    main()
finally:
    print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
DDL = """
CREATE TABLE people (id int PRIMARY KEY, name text, email text, total numeric(10, 2), born date, state text);
"""
FILL = """
INSERT INTO people SELECT i, 'name ' || i, CASE WHEN i % {unmet} = 0 THEN 'none' ELSE 'a' || i || '@example.com' END,
       i % 1000, date '2000-01-01' + i % 5000, (array['A', 'B', 'C'])[1 + i % 3]
FROM generate_series(2, {rows}) i;
UPDATE migrate_ledger.mapped_table SET rows_before = {rows} - 1;
VACUUM ANALYZE people;
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=6_000_000)
    given = parser.parse_args()
    folder = RUNS / "expectations"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "people.csv").write_text("id,name,email,total,born,state\n1,name 1,a1@example.com,1,2000-01-02,B\n")
    with running() as server, server.database("bench_run", DDL) as database:
        environment = {**os.environ, "TARGET_URL": server.url(database)}

        def migrate(what: str, *arguments: str, code: int = 0) -> float:
            before = server.cpu()
            command = [sys.executable, "-c", PROGRAM, *arguments]
            usage = run(command, env=environment, folder=folder, log=folder / "log", timeout=1800)
            server.settle(database)
            if usage.exit_code != code:
                raise SystemExit((folder / "log").read_text())
            cpu, peak = server.cpu() - before, int((folder / "log").read_text().split()[-1]) / 1024
            print(
                f"{what}: {usage.wall:.1f} s, CPU {usage.cpu:.1f} + {cpu:.1f} s, client's peak {peak:,.0f} MB",
                flush=True,
            )
            return peak

        (folder / "migrate.yaml").write_text(PROJECT.format(expect=""))
        migrate("load of one row", "run", "-q")
        # What one statement makes stands for rows that were there before: it is the table's size that counts.
        for unmet in (10**9, 3_000, 3):
            with server.connect(database) as connection:
                connection.execute("DELETE FROM people WHERE id > 1")
                for statement in FILL.format(rows=given.rows, unmet=unmet).split(";")[:-1]:
                    connection.execute(statement.encode())
            (folder / "migrate.yaml").write_text(PROJECT.format(expect=""))
            plain = migrate("without expectations", "verify", "--level", "counts")
            (folder / "migrate.yaml").write_text(PROJECT.format(expect=EXPECT))
            what = f"8 expectations, {given.rows // unmet:,} addresses that are none"
            peak = migrate(what, "verify", "--level", "counts", code=0 if unmet > given.rows else 3)
            print(f"  adds {peak - plain:,.0f} MB", flush=True)
    shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
