"""A DuckDB statement that is planned once and run over one Arrow batch after the other."""

from collections.abc import Callable

import duckdb
import pyarrow as pa


class _Feed:
    """What DuckDB reads. Not `Prepared` itself: the connection would hold it, and it the connection, for ever."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.batch = batch

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        reader = pa.RecordBatchReader.from_batches(self.batch.schema, [self.batch])
        return reader.__arrow_c_stream__(requested_schema)


class Prepared:
    """A statement over one batch after the other, planned once: that costs far more than running it.

    All batches have the first one's schema.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        name: str,
        first: pa.RecordBatch,
        statement: Callable[[str], str],
    ) -> None:
        """`name` is a plain word; `statement` gives the SQL over the relation that it is told."""
        self._connection = connection
        self._relation, self._name = f"·{name}·batch", f'"·{name}"'
        self._empty = pa.RecordBatch.from_pylist([], first.schema)
        self._feed = _Feed(self._empty)
        connection.register(self._relation, self._feed)
        quoted = f'"{self._relation}"'
        connection.execute(f"PREPARE {self._name} AS {statement(quoted)}")

    def __call__(self, batch: pa.RecordBatch) -> pa.Table:
        """The statement's rows for this batch. Raises duckdb.Error."""
        self._feed.batch = batch
        try:
            return self._connection.sql(f"EXECUTE {self._name}").to_arrow_table()
        finally:
            self._feed.batch = self._empty  # an empty slice would keep the whole batch alive

    def close(self) -> None:
        self._connection.execute(f"DEALLOCATE {self._name}")
        self._connection.unregister(self._relation)
