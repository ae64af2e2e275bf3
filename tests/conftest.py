"""Fixtures that every test may use: one PostgreSQL, one MariaDB and one MongoDB a session, a fresh database a test."""

import os
import shutil
from collections.abc import Iterator

import psycopg
import pytest
from servers import MariaDB, Mongo, Postgres, Secantus

from migrate.target import Connection, connect


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.close()


@pytest.fixture
def target_url(postgres: Postgres, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an empty database."""
    name = f"t{abs(hash(request.node.nodeid)) % 10**12}"
    postgres.drop(name)
    yield postgres.create(name)
    postgres.drop(name)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDB]:
    if shutil.which("mariadbd") is None:
        if os.environ.get("CI"):
            pytest.fail("MariaDB is missing: make mariadb")
        pytest.skip("MariaDB is missing: sudo apt-get install mariadb-server")
    server = MariaDB()
    yield server
    server.close()


@pytest.fixture
def source_database(mariadb: MariaDB, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of an empty database on the MariaDB."""
    name = f"s{abs(hash(request.node.nodeid)) % 10**12}"
    mariadb.create(name)
    yield name
    mariadb.execute("mysql", f"DROP DATABASE `{name}`")


@pytest.fixture(scope="session")
def mongo() -> Iterator[Mongo]:
    """A real one where the variable names it; else the one of the development environment, which is always there."""
    if url := os.environ.get("MIGRATE_TEST_MONGODB_URL"):
        yield Mongo(url)
        return
    server = Secantus()
    yield server
    server.close()


@pytest.fixture
def mongo_database(mongo: Mongo, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of an empty database on the MongoDB."""
    name = f"s{abs(hash(request.node.nodeid)) % 10**12}"
    mongo.create(name)
    yield name
    mongo.drop(name)


@pytest.fixture
def conn(target_url: str) -> Iterator[Connection]:
    with connect(target_url) as connection:
        yield connection


def pytest_report_header() -> str:
    import duckdb
    import pyarrow

    return (
        f"psycopg {psycopg.__version__}, duckdb {duckdb.__version__}, pyarrow {pyarrow.__version__}, "
        f"CI={os.environ.get('CI', 'no')}"
    )
