"""One hierarchy of errors, one level deep; each class is an exit code.

    MigrateError    1  failed
    ├── UsageError     2  the command line or the project file is wrong
    ├── FindingsError  3  mismatch, rejects over budget, or a source or target that changed since it was planned
    ├── GateError      4  refused: wrong state, locked, or taken over by another run
    ├── SourceError    6  the source cannot be read
    ├── TargetError    7  the target cannot be written
    ├── InternalError 12  the toolkit contradicts itself: a bug
    ├── RetryableError 75 connection, lock or serialization failures that outlasted the retries
    └── Stopped     130/143 a safe stop was asked for

A bad row is a `Reject` and a difference is a `Finding`; an error means that the work cannot go on.
"""

import re
from collections.abc import Iterable
from functools import partial

_SURE = 8  # characters of a secret that no word holds by chance
_IN_URL = re.compile(r"(?<=://)[^\s/?#]*@|(?P<name>[?&]\w+=)[^\s&]*")
"""Where secrets stand in a URL: user and password, and the values of options."""


class MigrateError(Exception):
    """`message` says what is wrong and where; `hint` what to do next. Neither ever holds a secret."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(MigrateError):
    exit_code = 2


class FindingsError(MigrateError):
    exit_code = 3


class GateError(MigrateError):
    exit_code = 4


class SourceError(MigrateError):
    exit_code = 6


class TargetError(MigrateError):
    exit_code = 7


class InternalError(MigrateError):
    exit_code = 12


class RetryableError(MigrateError):
    exit_code = 75


class Stopped(MigrateError):
    """A signal asked for a stop, and the chunk in hand was finished first."""

    exit_code = 130


def redact(text: str, secrets: Iterable[str]) -> str:
    """The text with every secret in it replaced by ***; short ones only in URLs and where they are no part of a word."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        plain = re.escape(secret)
        if len(secret) < _SURE:
            text = _IN_URL.sub(partial(_masked, secret), text)
            plain = (r"(?<!\w)" if _word(secret[0]) else "") + plain + (r"(?!\w)" if _word(secret[-1]) else "")
        text = re.sub(plain, "***", text)
    return text


def _masked(secret: str, part: re.Match[str]) -> str:
    name = part["name"] or ""
    return name + part[0].removeprefix(name).replace(secret, "***")


def _word(letter: str) -> bool:
    return re.match(r"\w", letter) is not None
