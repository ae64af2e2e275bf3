"""The URL of a database: its parts, checked, and its options; no message repeats what may be a secret."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from urllib.parse import parse_qsl, unquote, urlsplit

from migrate.errors import UsageError


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """scheme://user:password@host:port/database?option=value, each part decoded; "" and None where it is missing."""

    scheme: str
    user: str
    password: str = field(repr=False)
    host: str
    port: int | None
    database: str
    options: Mapping[str, str] = field(repr=False)


def parse(url: str, options: Sequence[str]) -> DatabaseUrl:
    """The parts of a URL. Raises UsageError for one that is none, and for an option that is not among `options`."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UsageError(
            "the source's URL cannot be read",
            hint="Write scheme://user:password@host:port/database; escape special characters of the password (@ is %40).",
        ) from None
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in given:
        if name not in options:
            near = get_close_matches(name, options, 1)
            hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(options) or 'none'}."
            raise UsageError(f"unknown option {name!r} in the source's URL", hint=hint)
    return DatabaseUrl(
        parts.scheme,
        unquote(parts.username or ""),
        unquote(parts.password or ""),
        parts.hostname or "",
        port,
        unquote(parts.path.lstrip("/")),
        given,
    )
