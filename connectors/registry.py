"""URL scheme → opener of a source, through entry points, so that other distributions can add connectors."""

from importlib.metadata import entry_points
from typing import Any

from migrate.core import Source
from migrate.errors import UsageError

GROUP = "aurora_migrate.connectors"


def open_source(url_scheme: str, *args: Any, **kwargs: Any) -> Source:
    """Open a source by the connector registered for `url_scheme` (files, excel, xml for files), with its own arguments.

    Raises UsageError if no connector has that scheme, and whatever the connector itself raises.
    """
    known = {point.name: point for point in entry_points(group=GROUP)}
    if url_scheme not in known:
        raise UsageError(
            f"no connector reads {url_scheme!r} sources; there are: {', '.join(sorted(known)) or 'none'}",
            hint="check the spelling of the source's URL, or install the connector that provides this scheme",
        )
    source: Source = known[url_scheme].load()(*args, **kwargs)
    return source
