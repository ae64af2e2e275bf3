"""The drivers of SQL Server: Microsoft's own, whose rows are Arrow, and any of ODBC in its place; their errors as ours."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from connectors import utf16
from connectors.dburl import DatabaseUrl
from connectors.sqlservertypes import Column
from migrate.errors import RetryableError, SourceError, UsageError

URL_OPTIONS = (
    *("encrypt", "trust_server_certificate", "hostname_in_certificate", "server_certificate", "driver"),
    *("authentication", "application_intent", "multi_subnet_failover", "connect_timeout"),
)
_KEYWORDS = {
    "encrypt": "Encrypt",
    "trust_server_certificate": "TrustServerCertificate",
    "hostname_in_certificate": "HostnameInCertificate",
    "server_certificate": "ServerCertificate",
    "authentication": "Authentication",
    "application_intent": "ApplicationIntent",
    "multi_subnet_failover": "MultiSubnetFailover",
}
_SWITCHES = {"1": "yes", "true": "yes", "0": "no", "false": "no"}
_PORT = 1433
_MOST_ROWS = 65_536  # of a batch
_UNBOUND_ROWS = 64  # of the first batch of values without a bound
_PAGE = 8192


class Driver(Protocol):
    """A connection. Raises the errors of its driver, which `explained` turns into ours."""

    def query(self, sql: str) -> list[tuple[Any, ...]]: ...

    def batches(self, sql: str, columns: Sequence[Column], budget: int, row_bytes: int) -> Iterator[pa.RecordBatch]:
        """The rows, about `budget` bytes at a time; columns as they are `fetched`, but texts are texts already.

        Closing it early ends the statement.
        """
        ...

    def close(self) -> None: ...


def connect(url: DatabaseUrl) -> Driver:
    """A connection by the driver that the URL names, else by Microsoft's, else by any that ODBC knows.

    Raises SourceError and RetryableError as `explained`, UsageError for a timeout that is no number.
    """
    timeout = url.options.get("connect_timeout", "15")
    if not timeout.isdigit():
        raise UsageError("connect_timeout of the source's URL is no whole number", hint="Write seconds, e.g. 15.")
    if "driver" in url.options:
        return _Odbc(url, url.options["driver"], int(timeout))
    try:
        import mssql_python
    except ImportError:
        return _Odbc(url, "", int(timeout))
    # A pooled connection would come back with another reader's settings, and would not end with its session.
    mssql_python.pooling(enabled=False)
    with explained(url):
        return _Arrow(mssql_python.connect(connection_string(url), autocommit=True, timeout=int(timeout)))


def connection_string(url: DatabaseUrl, driver: str = "") -> str:
    """What ODBC connects by; values in braces, so that no character of a password has a meaning."""
    host, port = url.host or "localhost", url.port or _PORT
    tds = "tds" in driver.lower()
    parts = {"Driver": driver} if driver else {}
    parts |= {"Server": host, "Port": str(port)} if tds else {"Server": f"{host},{port}"}
    parts["Database"] = url.database
    if url.user:
        parts |= {"UID": url.user, "PWD": url.password}
    elif "authentication" not in url.options:
        parts["Trusted_Connection"] = "yes"
    for option, keyword in _KEYWORDS.items():
        if option in url.options:
            value = url.options[option]
            parts[keyword] = _SWITCHES.get(value.lower(), value)
    if tds:
        parts |= {"TDS_Version": "7.4", "ClientCharset": "UTF-8"}
    else:
        # A connection that the driver makes anew in silence would read at another moment.
        parts["ConnectRetryCount"] = "0"
    return "".join(f"{name}={_braced(value)};" for name, value in parts.items())


def _braced(value: str) -> str:
    return value if re.fullmatch(r"[\w.,-]+", value) else "{" + value.replace("}", "}}") + "}"


def settled(columns: Sequence[Column], arrays: Sequence[pa.Array]) -> pa.RecordBatch:
    """The columns in the types that they are to come in. Raises SourceError where a driver's type may have lost something."""
    found = [_settled(column, array) for column, array in zip(columns, arrays, strict=True)]
    return pa.RecordBatch.from_arrays(found, names=[str(at) for at in range(len(found))])


def _settled(column: Column, array: pa.Array) -> pa.Array:
    want, kind = column.fetched, array.type
    types = pa.types
    exact = (
        kind == want
        or (types.is_string(want) and types.is_large_string(kind))
        or (types.is_binary(want) and (types.is_large_binary(kind) or types.is_fixed_size_binary(kind)))
        or (types.is_integer(want) and (types.is_integer(kind) or types.is_boolean(kind)))
        or (types.is_boolean(want) and types.is_integer(kind))
        or (types.is_decimal(want) and types.is_decimal(kind))
        or (types.is_floating(want) and types.is_floating(kind))
        or (types.is_date(want) and types.is_date(kind))
        # Nanoseconds of 64 bits end in the year 2262, and what a driver makes of later ones is not to be seen any more.
        or (types.is_timestamp(want) and types.is_timestamp(kind) and kind.tz is None and kind.unit != "ns")
        or types.is_null(kind)
    )
    if not exact:
        raise SourceError(
            f"{column.name}: the driver gives {kind} for {column.native}, where {want} was expected",
            hint="Name another driver in the source's URL (driver=…), or report this.",
        )
    cells = array if kind == want else pc.cast(array, want)
    return utf16.texts(cells) if column.text else cells


def rows_at_once(columns: Sequence[Column], budget: int, row_bytes: int) -> tuple[int, bool]:
    """How many rows the first batch has, and whether that bounds the memory of later ones as well."""
    if all(column.size for column in columns):
        return max(1, min(_MOST_ROWS, budget // sum(column.size for column in columns))), True
    return max(1, min(_UNBOUND_ROWS, budget // max(1, row_bytes))), False


def next_rows(last: pa.RecordBatch, budget: int) -> int:
    """How many rows the next batch has, by what the last one took: never more than twice as many.

    A page's worth at least is allowed for each, for large values may follow upon many small ones.
    """
    count: int = last.num_rows
    size: int = last.nbytes
    return max(1, min(_MOST_ROWS, 2 * count, budget // max(_PAGE, size // max(1, count))))


def _rows(connection: Any, sql: str) -> list[tuple[Any, ...]]:
    """All rows of a statement; none of one that gives none."""
    cursor = connection.cursor()
    try:
        cursor.execute(sql)
        return [tuple(row) for row in cursor.fetchall()] if cursor.description else []
    finally:
        cursor.close()


class _Arrow:
    """`Driver` over mssql-python."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return _rows(self._connection, sql)

    def batches(self, sql: str, columns: Sequence[Column], budget: int, row_bytes: int) -> Iterator[pa.RecordBatch]:
        # Not by `arrow_reader`: the number of rows a batch is fixed there, and one that grows with them has no bound.
        cursor = self._connection.cursor()
        rows, bounded = rows_at_once(columns, budget, row_bytes)
        try:
            cursor.execute(sql)
            while (cells := cursor.arrow_batch(rows)).num_rows:
                yield settled(columns, cells.columns)
                rows = rows if bounded else next_rows(cells, budget)
        finally:
            cursor.close()  # which cancels at the server what has not been fetched

    def close(self) -> None:
        with suppress(Exception):
            self._connection.close()


class _Odbc:
    """`Driver` over pyodbc and an ODBC driver of the machine."""

    def __init__(self, url: DatabaseUrl, driver: str, timeout: int) -> None:
        try:
            import pyodbc
        except ImportError as error:
            raise SourceError(
                f"the ODBC driver manager cannot be loaded: {error}",
                hint="Install it (unixodbc), or leave `driver` out of the source's URL to use Microsoft's driver of Python.",
            ) from error
        known = pyodbc.drivers()
        if not driver:
            found = [name for name in known if "sql server" in name.lower()] or [n for n in known if "tds" in n.lower()]
            if not found:
                raise SourceError(
                    "no driver for SQL Server is installed",
                    hint="pip install mssql-python, or install an ODBC driver and name it in the source's URL: driver=…",
                )
            driver = sorted(found)[-1]
        elif driver not in known and "/" not in driver:
            raise SourceError(f"there is no ODBC driver {driver!r}", hint=f"There are: {', '.join(known) or 'none'}.")
        with explained(url):
            self._connection = pyodbc.connect(connection_string(url, driver), autocommit=True, timeout=timeout)
        self._connection.setdecoding(pyodbc.SQL_WCHAR, "utf-16le")
        self._connection.setdecoding(pyodbc.SQL_CHAR, "utf-8")

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return _rows(self._connection, sql)

    def batches(self, sql: str, columns: Sequence[Column], budget: int, row_bytes: int) -> Iterator[pa.RecordBatch]:
        cursor = self._connection.cursor()
        rows, bounded = rows_at_once(columns, budget, row_bytes)
        try:
            cursor.execute(sql)
            while found := cursor.fetchmany(rows):
                values = zip(columns, zip(*found, strict=True), strict=True)
                cells = settled(columns, [pa.array(some, column.fetched) for column, some in values])
                yield cells
                rows = rows if bounded else next_rows(cells, budget)
        finally:
            with suppress(Exception):
                cursor.cancel()
            cursor.close()

    def close(self) -> None:
        with suppress(Exception):
            self._connection.close()


# --------------------------------------------------------------------------------------------------------------- errors


@dataclass(frozen=True, slots=True)
class Failure:
    """What a driver says of an error: SQLSTATE and the server's number, as far as it tells them."""

    state: str
    number: int
    text: str


_STATES = {
    "Client unable to establish connection": "08001",
    "Connection not open": "08003",
    "Server rejected the connection": "08004",
    "Connection failure during transaction": "08007",
    "Communication link failure": "08S01",
    "Connection timeout expired": "HYT01",
    "Timeout expired": "HYT00",
    "Serialization failure": "40001",
    "Invalid authorization specification": "28000",
    "Base table or view not found": "42S02",
}
"""How mssql-python words SQLSTATEs: it tells neither them nor the server's numbers."""

_TEXTS = {
    r"Login failed for user": 18456,
    r"Cannot open (database|server)": 4060,
    r"permission was denied on the (object|column)": 229,
    r"Invalid object name": 208,
    r"was deadlocked on .* resources": 1205,
    r"Lock request time out": 1222,
    r"Snapshot isolation transaction (aborted|failed) .* (update conflict|modified by another)": 3960,
    r"Snapshot isolation transaction failed .* DDL": 3961,
    r"snapshot isolation is not allowed in this database": 3952,
    r"is not currently available": 40613,
    r"service has encountered an error processing your request": 40197,
    r"Not enough resources to process request": 49918,
    r"cannot be accessed or created when the session TRANSACTION ISOLATION LEVEL is set to SNAPSHOT": 41332,
    r"certificate verify failed|certificate chain|self.signed certificate": -1,
    r"Failed to load the driver|Can't open lib": -2,
    r"Error code 0x2749|Error code 0x274C|Error code 0x2AF9|Unable to connect": -3,
    r"Error code 0x2746|Error code 0x2745|Error code 0x68|Error code 0x20": 10054,
}
"""The server's numbers by its English words, which each session asks for. Below 0: the client's own faults."""

_LOST_STATES = ("08", "40", "HYT")
_RETRIED = {
    *(10053, 10054, 10060, 1205, 1222, 3960, 3961, 20006, 20009),
    *(40613, 40197, 40501, 49918, 49919, 49920, 10928, 10929, 4221, -3),
}
_AGAIN = "Run the same command again: it goes on from there."
_HINTS = {
    18456: "Check user and password in the source's URL; special characters are escaped there (@ is %40).",
    4060: "Check the database's name in the source's URL, and that the login has a user in it.",
    229: "GRANT SELECT ON the table TO the source's user.",
    230: "GRANT SELECT ON the column TO the source's user, or leave it out of the mapping.",
    208: "The table is not there any more, or the source's user may not see it.",
    1222: "Somebody holds a lock on the table: wait for them, or allow snapshots "
    "(ALTER DATABASE … SET ALLOW_SNAPSHOT_ISOLATION ON).",
    3952: "ALTER DATABASE … SET ALLOW_SNAPSHOT_ISOLATION ON, and wait until sys.databases says ON.",
    3961: "A table was altered while it was read. " + _AGAIN,
    41332: "A memory-optimized table cannot be read in a snapshot: stop its writers and say `quiesced: true`.",
    -1: "Give the server's certificate by server_certificate=…, or, where the network is trusted, "
    "trust_server_certificate=yes in the source's URL.",
    -2: "A library of the driver is missing: it needs libltdl7 and krb5's libgssapi. "
    "Or install an ODBC driver and name it in the source's URL: driver=…",
    -3: "Check host and port in the source's URL, and whether the server may be reached from here.",
    20009: "Check host and port in the source's URL, and whether the server may be reached from here.",
}


def failure(error: BaseException) -> Failure:
    """What an exception of either driver says."""
    words = str(getattr(error, "driver_error", ""))
    if words or not error.args:
        text = str(getattr(error, "ddbc_error", "") or words or error)
        state, number = _STATES.get(words, ""), 0
    else:
        state = str(error.args[0]) if len(error.args) > 1 else ""
        text = str(error.args[-1])
        numbers = re.findall(r"\((\d+)\) \(SQL", text)
        number = int(numbers[0]) if numbers else 0
    text = re.sub(r"^(\[[^\]]*\]\s*)+|\s*\(\d+\) \(SQL\w+\)\s*$", "", text).strip()
    if not number:
        number = next((n for words, n in _TEXTS.items() if re.search(words, text, re.IGNORECASE | re.DOTALL)), 0)
    return Failure(state, number, text)


@contextmanager
def explained(url: DatabaseUrl) -> Iterator[None]:
    """Turn a driver's errors into ours."""
    try:
        yield
    except (SourceError, RetryableError, UsageError, GeneratorExit, MemoryError):
        raise
    except Exception as error:  # the drivers have no class in common, and one of them may be missing
        raise ours(url, error) from error


def ours(url: DatabaseUrl, error: Exception) -> SourceError | RetryableError:
    """The error that a user sees. The password is in none of the drivers' messages, and is taken out even so."""
    found = failure(error)
    text = found.text.replace(url.password, "…") if url.password else found.text
    said = f" ({found.number})" if found.number > 0 else f" ({found.state})" if found.state else ""
    message = f"{url.host or 'localhost'}:{url.port or _PORT}: {text}{said}"
    lost = found.number in _RETRIED or (found.number not in _HINTS and found.state.startswith(_LOST_STATES))
    hint = _HINTS.get(found.number, "")
    return RetryableError(message, hint=hint or _AGAIN) if lost else SourceError(message, hint=hint)
