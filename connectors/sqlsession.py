"""A connection by SQLAlchemy that reads a source: small results, streams bounded by bytes, and the driver's errors as ours."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy import exc

from connectors.relational import Select
from connectors.sqlvalues import column
from migrate.errors import MigrateError, RetryableError, SourceError, redact

_FIRST, _MOST = 64, 10_000  # rows of the first and of the largest fetch
_AGAIN = "Run the same command again: it goes on from there."
_LOST_STATES = ("08", "40", "53", "57", "55P03")
_LOST_WORDS = (
    *(
        "refused",
        "timed out",
        "timeout",
        "reset by peer",
        "unreachable",
        "closed the connection",
        "connection is closed",
    ),
    *("could not translate", "name or service", "resolve host", "starting up", "shutting down", "recovery mode"),
    *("too many", "database is locked", "database table is locked", "broken pipe", "lost connection", "ssl eof"),
)
_HINTS = {
    "password": "Check user and password in the source's URL; special characters are escaped there (@ is %40).",
    "authentication": "Check user and password in the source's URL; special characters are escaped there (@ is %40).",
    "row-level security": "Read as a user who sees all rows (BYPASSRLS): rows that it may not see would be missing in silence.",
    "permission": "Grant the source's user SELECT on the table and USAGE on its schema.",
    "denied": "Grant the source's user the right to read, or check user and password in the source's URL.",
    "invalid byte sequence": "Mend the text at the source, or read a view that converts it.",
    "does not exist": "Check the database's name in the source's URL.",
    "unknown database": "Check the database's name in the source's URL.",
    "not a database": "The file is no SQLite database, or it is encrypted.",
    "unable to open": "It may not be read; in a folder that may not be written, a file in WAL mode needs `quiesced: true`.",
    "locked": "Somebody writes to it: wait until they are done, and run the same command again.",
    "too many": "The server has no connection left: lower `connections`, or wait.",
    "refused": "Check host and port in the source's URL, and whether the server may be reached from here.",
    "translate": "Check host and port in the source's URL, and whether the server may be reached from here.",
    "server does not support ssl": "Take sslmode out of the source's URL where the way there is safe; or set up TLS there.",
    "invalid connection option": "The URL's options are those of libpq: for TLS it is sslmode=require.",
    "invalid response to ssl": "That port does not speak PostgreSQL: check host and port in the source's URL.",
    "expected authentication request": "That port does not speak PostgreSQL: check host and port in the source's URL.",
    "resolve": "Check host and port in the source's URL, and whether the server may be reached from here.",
}


@dataclass(frozen=True, slots=True)
class Ways:
    """What differs among engines: `begin` are the statements that open a view, `spell` the SQL of a stream.

    `loose` are native types whose columns hold anything; `server_texts`: a text is the server's spelling of its value.
    """

    begin: Callable[[], Sequence[str]]
    spell: Callable[[Select], str]
    loose: Callable[[str], bool] = lambda native: False
    server_texts: bool = False


class Connection:
    """`Session` over SQLAlchemy. For one thread at a time."""

    def __init__(self, engine: sa.Engine, ways: Ways) -> None:
        self._engine = engine
        self._ways = ways
        with explained(engine.url):
            self._connection = engine.connect()
        try:
            for statement in ways.begin():
                self.run(statement)
        except BaseException:
            self.close()
            raise

    def run(self, sql: str) -> None:
        with explained(self._engine.url):
            self._connection.exec_driver_sql(sql, execution_options={"no_parameters": True}).close()

    def query(self, sql: str, /) -> list[tuple[Any, ...]]:
        try:
            with explained(self._engine.url):
                result = self._connection.exec_driver_sql(sql, execution_options={"no_parameters": True})
                return [tuple(row) for row in result.fetchall()]
        except SourceError:
            self._begin_again()
            raise

    def stream(self, select: Select, /) -> Iterator[pa.RecordBatch]:
        options = {"no_parameters": True, "stream_results": True, "max_row_buffer": _FIRST}
        try:
            with explained(self._engine.url):
                result = self._connection.exec_driver_sql(self._ways.spell(select), execution_options=options)
            cursor = result.cursor
            try:
                for rows in _portions(result, select.bytes, self._engine.url):
                    yield self._batch(rows, select)
            finally:
                with suppress(MigrateError), explained(self._engine.url):
                    result.close()
                # A cursor whose connection was lost while it was closed stays open, and says so when it is collected.
                with suppress(self._engine.dialect.loaded_dbapi.Error):
                    if cursor is not None:
                        cursor.close()
        except SourceError:
            self._begin_again()
            raise

    def _batch(self, rows: Sequence[Sequence[Any]], select: Select) -> pa.RecordBatch:
        arrays = [
            column(values, field, loose=self._ways.loose(field.native), server_texts=self._ways.server_texts)
            for field, values in zip(select.fields, zip(*rows, strict=True), strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, [str(at) for at in range(len(arrays))])

    def _begin_again(self) -> None:
        """A statement that failed ends the transaction of some engines: the next one stands in the view again."""
        with suppress(MigrateError), explained(self._engine.url):
            driver = self._connection.connection.dbapi_connection
            if driver is not None:
                driver.rollback()
            self._connection.rollback()
            for statement in self._ways.begin():
                self.run(statement)

    def close(self) -> None:
        with suppress(exc.SQLAlchemyError, OSError):
            self._connection.close()


def _portions(result: "sa.CursorResult[Any]", limit: int, url: sa.URL) -> Iterator[list[Any]]:
    """Rows of about `limit` bytes a time, fetched in steps that grow only while rows are small."""
    rows: list[Any] = []
    size, step = 0, _FIRST
    while True:
        with explained(url):
            some = result.fetchmany(step)
        if not some:
            break
        fetched = _bytes(some)
        rows += some
        size += fetched
        each = max(1, fetched // len(some))
        step = max(1, min(2 * step, _MOST, limit // 4 // each))
        if size >= limit:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows


def _bytes(rows: Sequence[Any]) -> int:
    """About what the rows take in memory: the lengths of texts and bytes, and eight bytes for anything else."""
    total = 0
    for values in zip(*rows, strict=True):
        if any(kind in (str, bytes) for kind in set(map(type, values))):
            total += sum(len(value) if isinstance(value, str | bytes) else 8 for value in values)
        else:
            total += 8 * len(values)
    return total


@contextmanager
def explained(url: sa.URL) -> Iterator[None]:
    """Turn the errors of SQLAlchemy and its drivers into ours; none repeats the password."""
    try:
        yield
    except exc.DBAPIError as error:
        cause = error.orig if error.orig is not None else error
        said = str(cause).strip() or type(cause).__name__
        if url.password:
            said = redact(said, [str(url.password)])
        message = f"{url.host or url.database or url.drivername}: {said}"
        state = str(getattr(cause, "sqlstate", None) or "")
        words = said.lower()
        hint = next((hint for word, hint in _HINTS.items() if word in words), "")
        lost = error.connection_invalidated or any(word in words for word in _LOST_WORDS)
        if state.startswith(_LOST_STATES) or (lost and not state):
            raise RetryableError(message, hint=hint or _AGAIN) from error
        if "does not exist" in words and ("column" in words or "relation" in words):
            hint = "It has changed since it was looked at: run `migrate plan` again."
        raise SourceError(message, hint=hint or "Ask who runs the source: it refuses what is read.") from error
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{url.host or url.database}: a text is not what the database's encoding says: {error.reason}",
            hint="Mend the text at the source, or read a view that converts it.",
        ) from None
    except exc.SQLAlchemyError as error:
        raise SourceError(f"{url.host or url.drivername}: {type(error).__name__}: {error._message()}") from error
