"""Any database that has an SQLAlchemy dialect as a source: SQLite and PostgreSQL by engines of their own, others generically."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from connectors.generic import Generic
from connectors.postgres import Postgres
from connectors.relational import CONNECTIONS, Engine, Tables, given
from connectors.sqlite import SQLite, file_of
from migrate.core import Source
from migrate.errors import UsageError


@dataclass(frozen=True, slots=True)
class Options:
    """How to read any other database; every one may stand beside `url:` in the project file.

    | option      | type          | default | meaning                                                            |
    |-------------|---------------|---------|--------------------------------------------------------------------|
    | connections | whole number  | 4       | at most so many connections at once                                |
    | quiesced    | true or false | false   | nobody writes to the source: what is read twice is the same        |
    | base        | text          |         | the folder of a relative SQLite path: that of the project file     |
    """

    connections: int = CONNECTIONS
    quiesced: bool = False
    base: str = ""


def open_url(url: str, options: Mapping[str, Any]) -> Source:
    """A database as a source. Raises UsageError for a wrong URL or option; connects at the first question."""
    chosen = given(Options, options, "other databases")
    parsed = _parsed(re.sub(r"^postgres(?=[+:])", "postgresql", url))
    return Tables(_engine(parsed, chosen), chosen.connections)


def _engine(url: sa.URL, options: Options) -> Engine:
    backend = url.get_backend_name()
    if backend == "sqlite":
        return SQLite(file_of(url, options.base), quiesced=options.quiesced)
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    try:
        dialect = url.get_dialect()
        dialect.import_dbapi()
    except (exc.NoSuchModuleError, ImportError) as error:
        raise _missing(url, error) from None
    if dialect.is_async:
        raise UsageError(f"{url.drivername} is an asynchronous driver", hint=f"Write {backend}:// with another driver.")
    if url.drivername == "postgresql+psycopg":
        return Postgres(url, quiesced=options.quiesced, connections=options.connections)
    return Generic(url, quiesced=options.quiesced)


def _parsed(url: str) -> sa.URL:
    try:
        return sa.make_url(url)
    except (exc.ArgumentError, ValueError):
        raise UsageError(
            "the source's URL cannot be read",
            hint="Write scheme://user:password@host:port/database; escape special characters of the password (@ is %40).",
        ) from None


_PACKAGES = {
    "db2": "ibm_db_sa",
    "ibm_db_sa": "ibm_db_sa",
    "snowflake": "snowflake-sqlalchemy",
    "redshift": "sqlalchemy-redshift",
    "cockroachdb": "sqlalchemy-cockroachdb",
    "firebird": "sqlalchemy-firebird",
    "hana": "sqlalchemy-hana",
    "teradatasql": "teradatasqlalchemy",
    "access": "sqlalchemy-access",
    "sybase": "sqlalchemy-sybase",
    "sqlanywhere": "sqlalchemy-sqlany",
    "informix": "sqlalchemy-informix",
    "vertica": "sqlalchemy-vertica-python",
    "duckdb": "duckdb-engine",
    "bigquery": "sqlalchemy-bigquery",
    "databricks": "databricks-sqlalchemy",
}


def _missing(url: sa.URL, error: Exception) -> UsageError:
    """Of a dialect, or of the driver beneath it, that is not installed."""
    backend = url.get_backend_name()
    if isinstance(error, ImportError):
        driver = error.name or url.get_driver_name()
        return UsageError(f"the driver {driver} of {url.drivername} is not installed", hint=f"pip install {driver}")
    package = _PACKAGES.get(backend)
    hint = (
        f"pip install {package}"
        if package
        else f"Install the SQLAlchemy dialect of {backend} beside this program, or check the spelling."
    )
    return UsageError(f"no dialect for {url.drivername} is installed", hint=hint)
