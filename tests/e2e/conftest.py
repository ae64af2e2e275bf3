"""The fixture of the end-to-end tests: a folder and a database for a project."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import Postgres

from e2e.rig import Rig


@pytest.fixture
def rig(target_url: str, tmp_path: Path) -> Rig:
    return Rig(tmp_path, target_url)


@pytest.fixture
def rigs(postgres: Postgres, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[str], Rig]]:
    """Makes as many rigs as a test wants to compare, each with a database of its own, over one folder."""
    made = []

    def make(name: str) -> Rig:
        database = f"e{abs(hash((request.node.nodeid, name))) % 10**12}"
        postgres.drop(database)
        made.append(database)
        return Rig(tmp_path, postgres.create(database))

    yield make
    for database in made:
        postgres.drop(database)
