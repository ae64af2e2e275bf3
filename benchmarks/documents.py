"""How fast BSON documents become columns, beside `bson.decode` with pyarrow's inference, and pymongoarrow with a schema.

    python benchmarks/documents.py [--documents 500000] [--rounds 5] [--server [--url mongodb://…]]

500,000 documents of nine fields, one of them an object of three and one an array of texts, in raw batches of 16 MB as a cursor
gives them; no server. `decode`: a dict of each document, and `RecordBatch.from_pylist` of a batch. `pymongoarrow` (in an
environment of its own) is given the type of every field. `ours`: every field typed, the object's fields as columns, the array as
JSON. Each runs in a process of its own, on one thread; rounds are interleaved, and ratios are taken within a round. The
file is kept under `benchmarks/.work`.

`--server`: 20,000 such documents in a collection of a server (the tests' own, unless there is a URL), read 10 times over TCP: by
this connector, and by `find` with pyarrow's inference. What counts is the reader's own CPU time: the tests' server is slower than
either.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

from workspace import WORK, environment, install

BATCH = 16 << 20
COLLECTION = "people"
DOCUMENTS_OF_SERVER, PASSES = 20_000, 10


def made(documents: int) -> Iterator[dict[str, Any]]:
    from bson import Decimal128, ObjectId

    dice = random.Random(1)
    begin = datetime(2015, 1, 1, tzinfo=UTC)
    for i in range(documents):
        yield {
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


def generate(path: Path, documents: int) -> None:
    """Batches, each behind its size."""
    from bson import encode

    with path.open("wb") as out:
        batch = bytearray()
        for document in made(documents):
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


def ours_of_server(url: str) -> Iterator[int]:
    from connectors.mongodb import open_url

    fields = {"_id": "objectid", "name": "text", "email": "text", "visits": "integer", "score": "double"}
    fields |= {"since": "moment", "active": "boolean", "balance": "decimal", "tags": "json"}
    address = {"street": "text", "city": "text", "zip": "text"}
    source = open_url(url, {"fields": {COLLECTION: {**fields, "address": address}}, "quiesced": True})
    table = source.schema(COLLECTION)
    names = [each for each in table.schema.names if each != "_rest"]
    for _ in range(PASSES):
        for partition in source.partitions(table, rows=200_000, bytes=64 << 20):
            for batch in source.read(partition, names):
                assert not batch.rejects
                yield batch.rows.num_rows


def find(url: str) -> Iterator[int]:
    import pyarrow as pa
    from pymongo import MongoClient

    with MongoClient[dict[str, Any]](url, tz_aware=True) as client:
        for _ in range(PASSES):
            rows = list(client.get_default_database()[COLLECTION].find().sort("_id", 1))
            for row in rows:  # the two that pyarrow does not know
                row["_id"] = str(row["_id"])
                row["balance"] = str(row["balance"])
            yield pa.RecordBatch.from_pylist(rows).num_rows


CONTESTANTS = {"ours": ours, "decode": decode, "pymongoarrow": pymongoarrow}
OF_SERVER = {"ours of a server": ours_of_server, "find": find}


@contextmanager
def filled(url: str) -> Iterator[str]:
    """A database with the collection, on the tests' server unless there is a URL."""
    from pymongo import MongoClient

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from servers import Mongo, Secantus

    server = Mongo(url) if url else Secantus()
    server.create("benchmark")
    whole = server.url("benchmark")
    try:
        with MongoClient[dict[str, Any]](whole) as client:
            documents = list(made(DOCUMENTS_OF_SERVER))
            for first in range(0, len(documents), 2_000):
                client["benchmark"][COLLECTION].insert_many(documents[first : first + 2_000])
        yield whole
    finally:
        server.drop("benchmark")
        server.close()


def measured(name: str, source: str) -> dict[str, float]:
    python = str(environment(name) / "bin" / "python") if name == "pymongoarrow" else sys.executable
    command = [python, __file__, "--contestant", name, "--of", source]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--documents", type=int, default=500_000)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--server", action="store_true")
    options.add_argument("--url", default="")
    options.add_argument("--contestant", choices=CONTESTANTS | OF_SERVER)
    options.add_argument("--of")
    given = options.parse_args()
    if given.contestant:
        contend(given.contestant, given.of)
    elif given.server:
        with filled(given.url) as url:
            race(OF_SERVER, url, given.rounds, DOCUMENTS_OF_SERVER * PASSES)
    else:
        WORK.mkdir(exist_ok=True)
        path = WORK / f"documents-{given.documents}.bson"
        if not path.exists():
            generate(path, given.documents)
        install("pymongoarrow", "pymongoarrow==1.15.0")
        print(f"{path.stat().st_size / 1e6:.0f} MB")
        race(CONTESTANTS, str(path), given.rounds, given.documents)


def contend(name: str, source: str) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    rows = OF_SERVER[name](source) if name in OF_SERVER else CONTESTANTS[name](Path(source))
    count = next(rows)  # imports and what is set up once are not what is compared
    wall, cpu = time.perf_counter(), time.process_time()
    timed = sum(rows)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = getrusage(RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"rows": count + timed, "wall": timed / wall, "cpu": timed / cpu, "peak": peak}))


def race(contestants: Iterable[str], source: str, count: int, documents: int) -> None:
    """So many rounds; `ours` is the first."""
    names = list(contestants)
    print(f"{documents:,} documents\n")
    rounds = [{name: measured(name, source) for name in names} for _ in range(count)]
    assert {found["rows"] for each in rounds for found in each.values()} == {documents}
    for name in names:
        wall, cpu = (statistics.median(each[name][what] for each in rounds) for what in ("wall", "cpu"))
        ratio = statistics.median(each[names[0]]["cpu"] / each[name]["cpu"] for each in rounds)
        peak = max(each[name]["peak"] for each in rounds)
        print(
            f"{name:16} {wall:10,.0f} documents/s {cpu:10,.0f} a CPU second   ours is {ratio:.2f} of it   peak {peak:.0f} MB"
        )


if __name__ == "__main__":
    main()
