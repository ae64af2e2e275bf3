"""What the tests of the commit protocol share: a small target table and flows made by hand."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest

from migrate import checksum, ledger
from migrate.commit import Committer
from migrate.core import Chunk, Flow, Origin, Reject, Step, TargetTable, Wire
from migrate.ledger import TableState
from migrate.target import Connection, ForeignKeyScreen, Writer, catalogue, connect

SCHEMA = pa.schema([pa.field("id", pa.int64()), pa.field("name", pa.string())])
WIRES = (Wire(pa.int64()), Wire(pa.string()))


def batch(ids: Sequence[int], names: Sequence[str | None] | None = None) -> pa.RecordBatch:
    names = [f"n{i}" for i in ids] if names is None else names
    return pa.record_batch([pa.array(ids, pa.int64()), pa.array(names, pa.string())], schema=SCHEMA)


def locate(ordinals: Sequence[int]) -> list[Origin]:
    return [Origin({"file": "made.csv", "line": o + 2}, f"row {o}".encode(), f"id={o}") for o in ordinals]


def step(
    rows: pa.RecordBatch,
    ordinals: Sequence[int] | None = None,
    *,
    read: int | None = None,
    merged: Sequence[int] = (),
    filtered: Sequence[int] = (),
    rejected: Sequence[int] = (),
) -> Step:
    ordinals = range(rows.num_rows) if ordinals is None else ordinals
    read = len(ordinals) + len(merged) + len(filtered) + len(rejected) if read is None else read
    return Step(
        read,
        rows,
        np.array(ordinals, np.int64),
        np.array(merged, np.int64),
        np.array(filtered, np.int64),
        tuple(Reject(o, "type", "made bad", locate([o])[0]) for o in rejected),
        locate,
    )


def flow(*steps: Step) -> Flow:
    return lambda: iter(steps)


@dataclass
class Rig:
    """A prepared table `people` in generation 1 under epoch 1."""

    url: str
    conn: Connection
    table: TargetTable
    opened: list[Committer]

    def committer(
        self,
        *,
        epoch: int = 1,
        url: str | None = None,
        upsert_on: Sequence[str] = (),
        abort: bool = False,
        pause: Callable[[float], object] = lambda _: None,
    ) -> Committer:
        screens = [(ForeignKeyScreen(f, SCHEMA, WIRES), "reject") for f in self.table.foreign_keys]
        committer = Committer(
            lambda: connect(url or self.url),
            Writer(self.table, SCHEMA, WIRES, upsert_on),
            checksum.Hasher(SCHEMA, WIRES, ["id"]),
            screens,  # type: ignore[arg-type]
            epoch=epoch,
            abort=abort,
            pause=pause,
        )
        self.opened.append(committer)
        return committer

    @staticmethod
    def chunk(ordinal: int = 0, generation: int = 1) -> Chunk:
        return Chunk("acme", "people", generation, ordinal)

    def rows(self) -> list[tuple[object, ...]]:
        return self.conn.execute("SELECT id, name FROM people ORDER BY id, name").fetchall()

    def count(self, table: str) -> int:
        row = self.conn.execute(f"SELECT count(*) FROM migrate_ledger.{table}").fetchone()
        assert row is not None
        return int(row[0])


@pytest.fixture
def rig(conn: Connection, target_url: str) -> Iterator[Callable[..., Rig]]:
    """Makes a rig from the DDL of `people`."""
    opened: list[Committer] = []

    def make(ddl: str = "CREATE TABLE people (id bigint PRIMARY KEY, name text)") -> Rig:
        conn.execute(ddl)
        ledger.create(conn)
        ledger.begin_run(conn, "acme", "test", "0")
        state = TableState(
            "people", "public.people", 0, "append", 1, "d", "ours", False, 0, 1, 1, ["id"], checksum.NAME, [], "loading"
        )
        ledger.save_table(conn, "acme", state)
        table = catalogue(conn, "public", "people")
        assert table is not None
        return Rig(target_url, conn, table, opened)

    yield make
    for committer in opened:
        committer.close()
