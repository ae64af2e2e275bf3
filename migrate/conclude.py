"""How a run ends for those who do not watch it: the page that was asked for, and the notifications, whatever the end."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psycopg

from migrate.command import Common, named_on_the_command_line, redacted, say, understood
from migrate.errors import FindingsError, MigrateError, Stopped, UsageError
from migrate.notify import summary, tell
from migrate.project import Project
from migrate.status import gather
from migrate.target import connect
from reports.html import render
from reports.model import Failure, Report


@dataclass(slots=True)
class Ending:
    """What a command leaves for its end; without a report one is gathered, as after a failure."""

    report: Report | None = None


@contextmanager
def concluded(flags: Common, project: Project, names: Sequence[str], page: Path | None) -> Iterator[Ending]:
    """Write the page and tell who is to be told, however what is inside ends. Nothing here changes how it ends.

    Raises UsageError, before anything is done, for a page that could not be written.
    """
    if page is not None:
        refuse_unwritable(page)
    ending, error = Ending(), None
    started = datetime.now(UTC)
    try:
        yield ending
    except BrokenPipeError:
        raise
    except (Exception, KeyboardInterrupt) as raised:
        error = understood(raised)
        raise
    finally:
        try:
            _conclude(flags, project, names, page, ending, error, started)
        except KeyboardInterrupt:
            say(flags, "warning", "Interrupted: perhaps not everyone was told how the run ended.")


def _conclude(
    flags: Common,
    project: Project,
    names: Sequence[str],
    page: Path | None,
    ending: Ending,
    error: MigrateError | None,
    started: datetime,
) -> None:
    if page is None and project.notify is None:
        return
    said = (redacted(flags, error.message), redacted(flags, error.hint)) if error else ("", "")
    report = ending.report or _gathered(flags, project, names)
    if report is not None and error is not None and ending.report is None:
        report = replace(report, failure=Failure(*said, error.exit_code))
    if page is not None:
        page = _page(flags, page, report)
    if project.notify is None:
        return
    exit_code = error.exit_code if error else 0
    body = {
        **summary(project.spec.migration, report, _outcome(error), exit_code, said, page),
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    heard = partial(_heard, flags) if flags.log_format == "json" else None
    for failed in tell(project.notify, body, project.base, heard):
        say(flags, "warning", redacted(flags, failed))


def _heard(flags: Common, line: str) -> None:
    """A line of the notification command as one of the log's."""
    say(flags, "notify", redacted(flags, line))


def _outcome(error: MigrateError | None) -> str:
    if error is None:
        return "ok"
    return "findings" if isinstance(error, FindingsError) else "stopped" if isinstance(error, Stopped) else "failed"


def _gathered(flags: Common, project: Project, names: Sequence[str]) -> Report | None:
    """The report over a connection of its own: the command's may be what failed."""
    try:
        with connect(project.target) as conn:
            return gather(conn, project, names)
    except (MigrateError, psycopg.Error) as error:
        said = error.message if isinstance(error, MigrateError) else type(error).__name__
        say(flags, "warning", redacted(flags, f"The ledger cannot be read for the report: {said}"))
        return None


def _page(flags: Common, page: Path, report: Report | None) -> Path | None:
    """Write the page and say so; None where that was not possible."""
    if report is None:
        say(flags, "warning", f"{page} was not written: if there is one, it is of an earlier run.")
        return None
    try:
        write(page, render(report).encode())
    except OSError as error:
        again = "`migrate report --format html` makes it again."
        say(flags, "warning", f"{page} was not written: {error.strerror or error}. {again}")
        return None
    say(flags, "report", f"Wrote {page}.")
    return page.resolve()


def refuse_unwritable(page: Path) -> None:
    """Raise UsageError where a page surely cannot be written there: better before a run than after it."""
    with named_on_the_command_line(page):
        if page.is_dir():
            wrong = "it is a folder"
        elif not page.parent.is_dir():
            wrong = f"there is no folder {page.parent}"
        elif not _in_place(page) and not os.access(page.parent, os.W_OK):
            wrong = f"the folder {page.parent} may not be written"
        else:
            return
    raise UsageError(f"the report cannot be written to {page}: {wrong}", hint="Name a file in a folder of yours.")


def write(page: Path, content: bytes) -> None:
    """Write a file whole or not at all: somebody may be reading the one that is there."""
    if _in_place(page):
        page.write_bytes(content)
        return
    part = page.with_name(f".{page.name}.{os.getpid()}")
    try:
        part.write_bytes(content)
        part.replace(page)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _in_place(page: Path) -> bool:
    """Whether something is there that another file must not take the place of: a link, a pipe, a device."""
    return page.is_symlink() or (page.exists() and not page.is_file())
