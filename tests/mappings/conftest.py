"""One database for the tests that ask PostgreSQL itself what a text means."""

from collections.abc import Iterator

import psycopg
import pytest
from servers import Postgres


@pytest.fixture(scope="session")
def asked(postgres: Postgres) -> Iterator[psycopg.Connection]:
    url = postgres.create("mappings")
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection:
        connection.execute("SET timezone = 'UTC'")
        yield connection
    postgres.drop("mappings")
