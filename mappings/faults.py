"""Faults in the project file: where, what, what was probably meant; and the one error that lists them all."""

import difflib
import os
import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from migrate.errors import UsageError


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A place in the project file, both counted from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """Something wrong in the project file: printed as `migrate.yaml:12:7: message`, its hint after it."""

    mark: Mark
    message: str
    hint: str = ""


Runs = tuple[tuple[int, Mark], ...]
"""Where a scalar's text stands in the file: from each offset on (until the next one) characters stand side by side."""


def along(runs: Runs, offset: int) -> Mark:
    """The place of the text's character number `offset`, counted from 0."""
    start, mark = runs[max(0, bisect_right(runs, offset, key=lambda run: run[0]) - 1)]
    return Mark(mark.line, mark.column + max(0, offset - start))


def suggest(word: str, candidates: Iterable[str]) -> str:
    """' Did you mean "email"?' for the candidate that looks most like `word`, or '' where none does."""
    known = {candidate.casefold(): candidate for candidate in candidates}
    close = difflib.get_close_matches(word.casefold(), known, n=1, cutoff=0.6)
    return f' Did you mean "{known[close[0]]}"?' if close else ""


_NOT_THERE = "is not in the source."


def not_there(column: str, columns: Sequence[str]) -> str:
    """That a source has no such column, and which may be meant."""
    return f'column "{column}" {_NOT_THERE}{suggest(column, columns)}'


def says_not_there(fault: Fault) -> bool:
    """Whether a fault is that a column is not in the source, or comes of it."""
    return _NOT_THERE in fault.message


def faults_error(path: Path, faults: Sequence[Fault]) -> UsageError:
    """One error for all faults, a line each, in the order of the file; the path is one that can be clicked."""
    return UsageError("\n".join(_line(path, fault) for fault in sorted(set(faults))))


def shown(path: Path) -> str:
    """The path as seen from the current folder, where that is shorter than the whole."""
    try:
        relative = os.path.relpath(path)
    except ValueError:  # another drive
        return str(path)
    return min(relative, str(path), key=len)


def _line(path: Path, fault: Fault) -> str:
    message, hint = _one_line(fault.message), fault.hint.strip()
    if hint and message[-1:] not in ".?!":
        message += "."
    return f"{shown(path)}:{fault.mark.line}:{fault.mark.column}: {message}{' ' if hint else ''}{hint}"


def _one_line(message: str) -> str:
    """The message without the line breaks, control characters and logins that names and others' errors may hold."""
    joined = re.sub(r"\s*[\r\n]\s*", " ", message)
    joined = re.sub(r"://[^\s\"]*@", "://***@", joined)
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in joined)
