"""A table parsed once into small Arrow batches in a temporary file, for formats that can only be read from their start.

Excel and XML have no record boundaries that one could cut at: without a spool each partition would parse all that stands
before it. A spool is a cache and nothing else: it is made again, with the same content, wherever it is missing.
"""

import os
import sys
import tempfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

import pyarrow as pa

BATCH_ROWS = 4_096
"""Rows of one batch of a spool, about; partitions are made of whole batches."""

_KEPT = 16  # spools at a time; each is a file in the temporary directory and a descriptor


class Spool:
    """The batches of one table, in order; safe to read from several threads. `rows[i]` and `sizes[i]` are of batch i.

    `nulls[j]` counts the NULLs of column j.
    """

    def __init__(self, batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> None:
        """Parse `batches` to their end, keeping one in memory at a time. What they raise ends the making."""
        with self._filling(schema) as write:
            for batch in batches:
                write(batch)

    @classmethod
    def several(cls, schemas: Sequence[pa.Schema], batches: Iterator[tuple[int, pa.RecordBatch]]) -> "list[Spool]":
        """Spools filled side by side from one parse: each batch comes with the number of its schema."""
        spools = [cls.__new__(cls) for _ in schemas]
        with ExitStack() as stack:
            fillings = zip(spools, schemas, strict=True)
            writes = [stack.enter_context(spool._filling(schema)) for spool, schema in fillings]
            for number, batch in batches:
                writes[number](batch)
        return spools

    @contextmanager
    def _filling(self, schema: pa.Schema) -> Iterator[Callable[[pa.RecordBatch], None]]:
        descriptor, path = tempfile.mkstemp(prefix="migrate-spool-", suffix=".arrow")
        if sys.platform == "linux":
            # Without a name from the first moment: whatever kills the process, no copy of the rows is left behind.
            os.unlink(path)
            self._remove = weakref.finalize(self, os.close, descriptor)
            path = f"/proc/self/fd/{descriptor}"
        else:
            os.close(descriptor)
            self._remove = weakref.finalize(self, _removed, path)
        self.rows: list[int] = []
        self.sizes: list[int] = []
        self.nulls = [0] * len(schema)

        def write(batch: pa.RecordBatch) -> None:
            writer.write_batch(batch)
            self.rows.append(batch.num_rows)
            self.sizes.append(batch.nbytes)
            self.nulls = [n + column.null_count for n, column in zip(self.nulls, batch.columns, strict=True)]

        with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            yield write
        self._source = pa.OSFile(path, "rb")  # mapped, all that was ever read would count as memory
        self._lock = threading.Lock()
        self._reader = pa.ipc.open_file(self._source)

    def read(self, first: int, stop: int) -> pa.Table:
        """Batches `first` to `stop` - 1 as one table."""
        with self._lock:
            batches = [self._reader.get_batch(i) for i in range(first, stop)]
        return pa.Table.from_batches(batches, self._reader.schema)

    def ranges(self, rows: int, size: int) -> Iterator[tuple[int, int]]:
        """Ranges [first, stop) of batches, each of about `rows` rows or `size` bytes, whichever is smaller."""
        first = taken = filled = 0
        for i, (n, nbytes) in enumerate(zip(self.rows, self.sizes, strict=True)):
            if i > first and (taken + n > rows or filled + nbytes > size):
                yield first, i
                first, taken, filled = i, 0, 0
            taken += n
            filled += nbytes
        if first < len(self.rows):
            yield first, len(self.rows)


def _removed(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


class Spools:
    """The spools of a source, made when first asked for and kept while there is room. Safe to use from several threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, Spool] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Spool]) -> Spool:
        """The spool of `key`, made by `make` where there is none; one that another thread is making is waited for."""
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    return self._kept[key]
            spool = make()
            self.put(key, spool)
            return spool

    def put(self, key: Hashable, spool: Spool) -> None:
        """Keep a spool that was made beside another."""
        with self._lock:
            self._kept[key] = spool
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
