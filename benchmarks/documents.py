"""How fast BSON documents become columns, beside `bson.decode` with pyarrow's inference, and pymongoarrow with a schema.

    python benchmarks/documents.py [--documents 500000] [--rounds 5]

500,000 documents of nine fields, one of them an object of three and one an array of texts, in raw batches of 16 MB as a cursor
gives them; no server. `decode`: a dict of each document, and `RecordBatch.from_pylist` of a batch. `pymongoarrow` (in an
environment of its own) is given the type of every field. `ours`: every field typed, the object's fields as columns, the array as
JSON. Each runs in a process of its own, on one thread; rounds are interleaved, and ratios are taken within a round. The
file is kept under `benchmarks/.work`.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

from workspace import WORK, environment, install

BATCH = 16 << 20


def generate(path: Path, documents: int) -> None:
    """Batches, each behind its size."""
    from bson import Decimal128, ObjectId, encode

    dice = random.Random(1)
    begin = datetime(2015, 1, 1, tzinfo=UTC)
    with path.open("wb") as out:
        batch = bytearray()
        for i in range(documents):
            document = {
                "_id": ObjectId(dice.randbytes(12)),
                "name": f"Jürgen Müller-{dice.randint(0, 10**6)}",
                "email": f"person{i}@example.com",
                "visits": dice.randint(0, 5000),
                "score": dice.random() * 100,
                "since": begin + timedelta(seconds=dice.randint(0, 3 * 10**8)),
                "active": dice.random() < 0.7,
                "balance": Decimal128(Decimal(dice.randint(-(10**8), 10**8)).scaleb(-2)),
                "address": {"street": f"Long Street {i % 999}", "city": "Köln", "zip": f"{i % 90_000:05d}"},
                "tags": [f"tag{dice.randint(0, 99)}" for _ in range(dice.randint(0, 5))],
            }
            encoded = encode(document)
            if len(batch) + len(encoded) > BATCH:
                out.write(len(batch).to_bytes(8, "little") + batch)
                batch = bytearray()
            batch += encoded
        out.write(len(batch).to_bytes(8, "little") + batch)


def batches(path: Path) -> Iterator[bytes]:
    """Whole documents, up to 16 MB together."""
    with path.open("rb") as file:
        while size := int.from_bytes(file.read(8), "little"):
            yield file.read(size)


def ours(path: Path) -> Iterator[int]:
    import numpy as np
    import pyarrow as pa

    from connectors.bsonscan import BSON, documents
    from connectors.docscan import Wanted

    fields = (Wanted("street", 9), Wanted("city", 10), Wanted("zip", 11))
    top = ("_id", "name", "email", "visits", "score", "since", "active", "balance", "tags")
    wanted = [*(Wanted(name, at) for at, name in enumerate(top)), Wanted("address", 12, fields)]
    types = {"_id": "objectid", "visits": "integer", "score": "double", "since": "moment", "active": "boolean"}
    types |= {"balance": "decimal", "tags": "json"}
    for batch in batches(path):
        data = np.frombuffer(batch, np.uint8)
        starts, ends = documents(batch)
        found = BSON.scan(data, starts, ends, wanted)
        assert not found.faults
        assert not len(found.others.documents)
        columns = {}
        for each in (*wanted[:-1], *fields):
            column, wrong = BSON.values(data, found.cells[each.at], types.get(each.name, "text"))
            assert not wrong.any()
            columns[each.name] = column
        yield pa.RecordBatch.from_pydict(columns).num_rows


def decode(path: Path) -> Iterator[int]:
    import bson
    import pyarrow as pa
    from bson.codec_options import CodecOptions

    options = CodecOptions(tz_aware=True)
    for batch in batches(path):
        rows = bson.decode_all(batch, options)
        for row in rows:  # the two that pyarrow does not know
            row["_id"] = str(row["_id"])
            row["balance"] = str(row["balance"])
        yield pa.RecordBatch.from_pylist(rows).num_rows


def pymongoarrow(path: Path) -> Iterator[int]:
    import pyarrow as pa
    from bson.codec_options import CodecOptions
    from pymongoarrow.api import Schema
    from pymongoarrow.context import PyMongoArrowContext
    from pymongoarrow.types import Decimal128Type, ObjectIdType

    address = pa.struct([("street", pa.string()), ("city", pa.string()), ("zip", pa.string())])
    fields = {"_id": ObjectIdType(), "name": pa.string(), "email": pa.string(), "visits": pa.int64()}
    fields |= {"score": pa.float64(), "since": pa.timestamp("ms"), "active": pa.bool_(), "balance": Decimal128Type()}
    schema = Schema({**fields, "address": address, "tags": pa.list_(pa.string())})
    for batch in batches(path):
        context = PyMongoArrowContext(schema, codec_options=CodecOptions())
        context.process_bson_stream(batch)
        yield context.finish().num_rows


CONTESTANTS = {"ours": ours, "decode": decode, "pymongoarrow": pymongoarrow}


def measured(name: str, path: Path) -> dict[str, float]:
    python = str(environment(name) / "bin" / "python") if name == "pymongoarrow" else sys.executable
    command = [python, __file__, "--contestant", name, "--file", str(path)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--documents", type=int, default=500_000)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--contestant", choices=CONTESTANTS)
    options.add_argument("--file", type=Path)
    given = options.parse_args()
    if given.contestant:
        sys.path.insert(0, str(Path(__file__).parents[1]))
        rows = CONTESTANTS[given.contestant](given.file)
        count = next(rows)  # imports and what is set up once are not what is compared
        wall, cpu = time.perf_counter(), time.process_time()
        timed = sum(rows)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        peak = getrusage(RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"rows": count + timed, "wall": timed / wall, "cpu": timed / cpu, "peak": peak}))
        return
    WORK.mkdir(exist_ok=True)
    path = WORK / f"documents-{given.documents}.bson"
    if not path.exists():
        generate(path, given.documents)
    install("pymongoarrow", "pymongoarrow==1.15.0")
    print(f"{given.documents:,} documents, {path.stat().st_size / 1e6:.0f} MB\n")
    rounds = [{name: measured(name, path) for name in CONTESTANTS} for _ in range(given.rounds)]
    assert {found["rows"] for each in rounds for found in each.values()} == {given.documents}
    for name in CONTESTANTS:
        wall, cpu = (statistics.median(each[name][what] for each in rounds) for what in ("wall", "cpu"))
        ratio = statistics.median(each["ours"]["cpu"] / each[name]["cpu"] for each in rounds)
        peak = max(each[name]["peak"] for each in rounds)
        print(
            f"{name:12} {wall:10,.0f} documents/s {cpu:10,.0f} a CPU second   ours is {ratio:.2f} of it   peak {peak:.0f} MB"
        )


if __name__ == "__main__":
    main()
