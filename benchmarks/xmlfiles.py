"""How fast XML is read, beside bare loops over lxml's iterparse that read the same fields and do nothing else.

    python benchmarks/xmlfiles.py [--records 300000] [--rounds 5]

`findtext` asks each record for its fields by path, as most programs do. `children` goes through the children once with their
order hard-coded, the fastest loop we could write. `ours` parses into a spool of Arrow batches with the place of every record,
and reads all of them back. Each runs in a process of its own; rounds are interleaved, and ratios are taken within a round. The
file is generated under `benchmarks/.work`; a second one of four times the size shows whether memory grows with it.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

WORK = Path(__file__).parent / ".work"
COLUMNS = {
    "no": "@no",
    "state": "@state",
    "day": "day",
    "customer": "customer",
    "code": "ship/@code",
    "city": "ship/city",
    "zip": "ship/zip",
    "total": "total",
    "currency": "total/@currency",
    "note": "note",
}


def generate(path: Path, records: int) -> None:
    dice = random.Random(1)
    with path.open("w", encoding="utf-8") as out:
        out.write('<?xml version="1.0" encoding="UTF-8"?>\n<orders day="2024-01-01">\n')
        for i in range(records):
            out.write(
                f'  <order no="{i}" state="open">\n    <day>2024-0{dice.randint(1, 9)}-1{dice.randint(0, 9)}</day>\n'
                f'    <customer>Müller &amp; Söhne {i % 977}</customer>\n    <ship code="{i % 7}">\n'
                f"      <city>Köln</city>\n      <zip>{i % 90_000:05d}</zip>\n    </ship>\n"
                f'    <total currency="EUR">{i / 7:.2f}</total>\n    <note>{"x" * dice.randint(0, 40)}</note>\n  </order>\n'
            )
        out.write("</orders>\n")


def findtext(path: Path) -> int:
    from lxml import etree

    count = 0
    for _, order in etree.iterparse(path, tag="order"):
        ship, total = order.find("ship"), order.find("total")
        _row = (
            *(order.get("no"), order.get("state"), order.findtext("day"), order.findtext("customer"), ship.get("code")),
            *(ship.findtext("city"), ship.findtext("zip"), total.text, total.get("currency"), order.findtext("note")),
        )
        count += 1
        order.clear()
        while order.getprevious() is not None:
            del order.getparent()[0]
    return count


def children(path: Path) -> int:
    from lxml import etree

    count = 0
    for _, order in etree.iterparse(path, tag="order"):
        row = [order.get("no"), order.get("state")]
        for child in order:
            if len(child):
                row.append(child.get("code"))
                row += [grandchild.text for grandchild in child]
            else:
                row.append(child.text)
                if child.tag == "total":
                    row.append(child.get("currency"))
        count += 1
        order.clear()
        while order.getprevious() is not None:
            del order.getparent()[0]
    return count


def ours(path: Path) -> int:
    from connectors.xmlrecords import open_files

    tables = {"orders": {"record": "/orders/order", "columns": COLUMNS}}
    source = open_files({"": [path.name]}, {"tables": tables}, path.parent)
    table = source.schema("orders")
    count = 0
    for partition in source.partitions(table, rows=100_000, bytes=8 << 20):
        for batch in source.read(partition, table.schema.names):
            count += batch.rows.num_rows
    return count


CONTESTANTS = {"findtext": findtext, "children": children, "ours": ours}


def measured(name: str, path: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--contestant", name, "--file", str(path)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--records", type=int, default=300_000)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--contestant", choices=CONTESTANTS)
    options.add_argument("--file", type=Path)
    given = options.parse_args()
    if given.contestant:
        sys.path.insert(0, str(Path(__file__).parents[1]))
        if given.contestant == "ours":
            import pandas  # noqa: F401 - pyarrow loads it at some point, and imports are not what is compared

            import connectors.xmlrecords  # noqa: F401
        wall, cpu = time.perf_counter(), time.process_time()
        count = CONTESTANTS[given.contestant](given.file)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        peak = getrusage(RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"rows": count, "wall": wall, "cpu": cpu, "peak": peak}))
        return
    WORK.mkdir(exist_ok=True)
    small, large = WORK / f"orders-{given.records}.xml", WORK / f"orders-{4 * given.records}.xml"
    for path, records in ((small, given.records), (large, 4 * given.records)):
        if not path.exists():
            generate(path, records)
    print(f"{given.records:,} records, {small.stat().st_size / 1e6:.0f} MB\n")
    rounds = [{name: measured(name, small) for name in CONTESTANTS} for _ in range(given.rounds)]
    assert {found["rows"] for each in rounds for found in each.values()} == {given.records}
    for name in CONTESTANTS:
        wall = statistics.median(given.records / each[name]["wall"] for each in rounds)
        cpu = statistics.median(given.records / each[name]["cpu"] for each in rounds)
        ratio = statistics.median(each[name]["cpu"] / each["ours"]["cpu"] for each in rounds)
        peak = max(each[name]["peak"] for each in rounds)
        print(
            f"{name:10} {wall:10,.0f} rows/s {cpu:10,.0f} rows/CPU s   ours is {ratio:.2f} of it   peak {peak:.0f} MB"
        )
    print(f"ours, a file of four times the size: peak {measured('ours', large)['peak']:.0f} MB")


if __name__ == "__main__":
    main()
