"""Fixtures that every test may use: one PostgreSQL a session, a fresh database a test."""

import os
from collections.abc import Iterator

import psycopg
import pytest
from servers import Postgres

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
