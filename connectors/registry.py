"""URL scheme → opener of a source, through entry points, so that other distributions can add connectors."""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from migrate.core import Source
from migrate.errors import UsageError

GROUP = "aurora_migrate.connectors"

OTHERS = "sqlalchemy"
"""The connector of URLs whose scheme none has of its own."""


def open_url(scheme: str, url: str, options: Mapping[str, Any], base: Path = Path()) -> Source:
    """Open a database by its URL: by the connector of its scheme, else by the generic one. Raises as `open_source`.

    A database that is a file is looked for from `base`.
    """
    before, slashes, rest = url.partition("://")
    scheme, url = scheme.lower(), before.lower() + slashes + rest
    own = scheme in _known()
    return open_source(scheme, url, options) if own else open_source(OTHERS, url, {**options, "base": str(base)})


def open_source(url_scheme: str, *args: Any, **kwargs: Any) -> Source:
    """Open a source by the connector registered for `url_scheme` (files, excel, xml, json for files), with its own arguments.

    Raises UsageError if no connector has that scheme, and whatever the connector itself raises.
    """
    known = _known()
    if url_scheme not in known:
        raise UsageError(
            f"no connector reads {url_scheme!r} sources; there are: {', '.join(sorted(known)) or 'none'}",
            hint="check the spelling of the source's URL, or install the connector that provides this scheme",
        )
    source: Source = known[url_scheme].load()(*args, **kwargs)
    return source


@cache
def _known() -> Mapping[str, EntryPoint]:
    """The connectors by their schemes; read once, for that looks into every distribution that is installed."""
    return {point.name: point for point in entry_points(group=GROUP)}
