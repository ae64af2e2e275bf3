"""What all commands share: their flags, errors as exit codes, opening a project, printing."""

import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from migrate.errors import InternalError, MigrateError, Stopped, UsageError

if TYPE_CHECKING:
    from types import FrameType

    from mappings.spec import Budget
    from migrate.core import Event
    from migrate.engine import Options, Session, Stop
    from migrate.governor import Governor
    from migrate.project import Project
    from reports.model import Report

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True)
class Common:
    """The flags that follow any command."""

    config: Path | None = None
    select: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    jobs: int = 2
    batch_rows: int = 200_000
    batch_bytes: int = 8 << 20
    on_error: str | None = None
    max_rejects: "Budget | None" = None
    output: str = "table"
    log_format: str = "text"
    yes: bool = False
    verbose: int = 0
    quiet: bool = False
    secrets: tuple[str, ...] = ()  # known once the project file is read; kept out of every message


class _Budget(click.ParamType[Any]):
    name = "N|P%"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from mappings.spec import Budget

        text = str(value).strip()
        try:
            if text.endswith("%"):
                return Budget(rows=sys.maxsize, fraction=float(text[:-1]) / 100)
            return Budget(rows=int(text), fraction=1.0)
        except ValueError:
            self.fail(f"{value!r} is neither a number of rows (500) nor a percentage (2%)", param, ctx)


class _Bytes(click.ParamType[Any]):
    name = "BYTES"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value).strip().upper().removesuffix("B")
        units = {"K": 10, "M": 20, "G": 30}
        shift = units.get(text[-1:], 0)
        try:
            size = int(float(text[: -1 if shift else None]) * (1 << shift))
        except ValueError:
            size = 0
        if size < 1:
            self.fail(f"{value!r} is no size such as 8MB", param, ctx)
        return size


_FLAGS: dict[str, Callable[[F], F]] = {
    "config": click.option(
        "-c",
        "--config",
        type=click.Path(path_type=Path),
        help="The project file [default: migrate.yaml, here or above].",
    ),
    "select": click.option("-s", "--select", multiple=True, metavar="TABLE", help="Only these tables of the project."),
    "exclude": click.option("--exclude", multiple=True, metavar="TABLE", help="All tables but these."),
    "jobs": click.option(
        "-j", "--jobs", type=click.IntRange(1, 64), default=2, show_default=True, help="Worker threads."
    ),
    "batch_rows": click.option(
        "--batch-rows", type=click.IntRange(1), default=200_000, show_default=True, help="Rows in a chunk, at most."
    ),
    "batch_bytes": click.option(
        "--batch-bytes", type=_Bytes(), default="8MB", show_default=True, help="Bytes in a chunk, about."
    ),
    "on_error": click.option(
        "--on-error",
        type=click.Choice(["abort", "quarantine"]),
        help="What a bad row does [default: as the project file says].",
    ),
    "max_rejects": click.option(
        "--max-rejects",
        type=_Budget(),
        help="Stop past so many rejected rows of a table [default: as the project file says].",
    ),
    "output": click.option(
        "--output",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="How results are printed.",
    ),
    "log_format": click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="How progress is said, on standard error.",
    ),
    "yes": click.option(
        "-y", "--yes", is_flag=True, help="Do not ask: replace may delete rows this migration did not load."
    ),
    "verbose": click.option("-v", "--verbose", count=True, help="Show tracebacks of errors."),
    "quiet": click.option("-q", "--quiet", is_flag=True, help="No progress."),
}


def takes(*names: str) -> Callable[[F], F]:
    """Add some of the common flags to a command and pass them as one `Common`; errors become messages and exit codes."""

    def decorate(function: F) -> F:
        @wraps(function)
        def command(**arguments: Any) -> None:
            flags = Common(**{name: arguments.pop(name) for name in names})
            _guarded(flags, lambda: function(flags, **arguments))

        for name in reversed(names):
            command = _FLAGS[name](command)
        return command  # type: ignore[return-value]

    return decorate


common: Callable[[F], F] = takes(*_FLAGS)


def _guarded(flags: Common, body: Callable[[], None]) -> None:
    try:
        body()
    except click.ClickException:
        raise
    except KeyboardInterrupt as error:
        ours = understood(error)
        say(flags, "stopped", ours.message)
        sys.exit(ours.exit_code)
    except BrokenPipeError:
        # The reader of our output has gone, as `| head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:  # noqa: BLE001 - the last line of defence: a message and exit 12 rather than a traceback
        _trace(flags)
        ours = understood(error)
        _complain(flags, ours)
        sys.exit(ours.exit_code)


def understood(error: BaseException) -> MigrateError:
    """Whatever ended a command, as a message, what to do next, and an exit code."""
    if isinstance(error, MigrateError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Stopped("Stopped; whatever was in hand is rolled back.")
    if isinstance(error, OSError):
        # A full disk, a folder that may not be written: not ours to call a bug.
        where = f"{error.filename}: " if error.filename else ""
        hint = "Nothing that was committed is lost. Mend it, then run the same command again."
        return MigrateError(f"{where}{error.strerror or error}", hint=hint)
    if type(error).__module__.startswith("psycopg"):
        from migrate.target import explain

        return explain(error, doing="go on")  # type: ignore[arg-type]
    hint = "Nothing that was committed is lost. Run again with -v for the traceback, and please report it."
    return InternalError(f"This is a bug in migrate: {type(error).__name__}: {error}", hint=hint)


def _trace(flags: Common) -> None:
    """The traceback, for those who ask for it, without secrets."""
    if flags.verbose:
        click.echo(redacted(flags, traceback.format_exc()), err=True)


def _complain(flags: Common, error: MigrateError) -> None:
    message, hint = redacted(flags, error.message), redacted(flags, error.hint)
    if flags.log_format == "json":
        import json

        line = {"event": "error", "exit": error.exit_code, "message": message, "hint": hint}
        click.echo(json.dumps(line, ensure_ascii=False), err=True)
        return
    click.secho(message, fg="yellow" if isinstance(error, Stopped) else "red", err=True)
    if hint:
        click.echo(hint, err=True)


def redacted(flags: Common, text: str) -> str:
    if not flags.secrets:
        return text
    from migrate.errors import redact

    return redact(text, flags.secrets)


class Group(click.Group):
    """Lists the commands in the order in which a migration needs them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


def loaded(flags: Common) -> "Project":
    from migrate.project import load

    project = load(flags.config, os.environ)
    flags.secrets = project.secrets
    return project


@contextmanager
def opened(flags: Common, governor: "Callable[[Project], Governor] | None" = None) -> "Iterator[Session]":
    from migrate.engine import session

    project = loaded(flags)
    with session(project, governor(project) if governor is not None else None) as work:
        yield work


def chosen(flags: Common, project: "Project") -> list[str]:
    from migrate.engine import selected

    return selected(project, flags.select, flags.exclude)


def run_options(flags: Common, *, restart: bool = False) -> "Options":
    from migrate.engine import Options
    from migrate.plan import BatchSize

    size = BatchSize(flags.batch_rows, flags.batch_bytes)
    return Options(flags.jobs, size, restart, flags.max_rejects, flags.on_error, flags.yes)


@contextmanager
def stopping(flags: Common, stop: "Stop") -> Iterator[None]:
    """The first Ctrl-C or SIGTERM stops at the next chunk's edge; the second one at once."""
    signals = (signal.SIGINT, signal.SIGTERM)

    def first(number: int, _frame: "FrameType | None") -> None:
        for each in signals:
            signal.signal(each, second)
        say(flags, "stopping", "Stopping when the chunks in hand are committed. Once more to stop at once.")
        cause = Stopped("Stopped safely.", hint="Run the same command again: it goes on where it stopped.")
        cause.exit_code = 128 + number
        stop(cause)

    def second(number: int, _frame: "FrameType | None") -> None:
        say(flags, "stopped", "Stopped at once; chunks in flight are rolled back. Run the same command again.")
        if sys.stderr.isatty():
            sys.stderr.write("\x1b[?25h")  # the progress bars hide the cursor
        # A worker may wait for the server as long as a lock is held: only the end of the process ends it.
        os._exit(128 + number)

    previous = {number: signal.signal(number, first) for number in signals}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@dataclass(frozen=True, slots=True)
class Sparing:
    """How the command line spares the sources."""

    rows_per_second: int | None = None
    load: int | None = None

    def governor(self, project: "Project") -> "Governor":
        """By these and by what the project file says of each source."""
        from mappings.spec import Limits
        from migrate.governor import Governor

        own = {name: source.limits for name, source in project.sources.items()}
        return Governor(own, Limits(self.rows_per_second, self.load))


def spares(function: F) -> F:
    """Add the flags of a command that reads its sources whole, and pass them as one `Sparing`."""

    @wraps(function)
    def command(*arguments: Any, **named: Any) -> Any:
        sparing = Sparing(named.pop("max_rows_per_second"), named.pop("max_source_load"))
        return function(*arguments, sparing=sparing, **named)

    rows = click.option(
        "--max-rows-per-second",
        type=click.IntRange(1),
        metavar="N",
        help="Read no faster, all sources and workers together [default: as each source's `limits` say].",
    )
    load = click.option(
        "--max-source-load",
        type=click.IntRange(0),
        metavar="N",
        help="Read on only while at most N statements of others run at the source [default: as its `limits` say].",
    )
    return rows(load(command))  # type: ignore[return-value]


@contextmanager
def governed(flags: Common, governor: "Governor") -> Iterator[None]:
    """SIGUSR1 pauses before the next chunk, SIGUSR2 goes on; where the system has such signals.

    What the governor has to say is a line on standard error, until somebody else listens.
    """

    def told(event: "Event") -> None:
        if not (flags.quiet and event.kind == "fetching"):
            say(flags, event.kind, redacted(flags, event.message))

    governor.on_event = told
    handlers = {"SIGUSR1": governor.hold, "SIGUSR2": governor.go_on}
    there = {getattr(signal, name): act for name, act in handlers.items() if hasattr(signal, name)}
    previous = {number: signal.signal(number, lambda *_, act=act: act()) for number, act in there.items()}
    if flags.verbose and there:
        pid = os.getpid()
        say(flags, "process", f"Process {pid}: kill -USR1 {pid} pauses, kill -USR2 {pid} goes on.")
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


_NO_PLACE = {
    errno.EACCES,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ENXIO,
    errno.EPERM,
    errno.EROFS,
    errno.ETXTBSY,
}
"""What is wrong with a file's name, or with who asks, and not with the disk."""


@contextmanager
def named_on_the_command_line(path: Path) -> Iterator[None]:
    """Around the writing of a file: UsageError where no file can be written there, as -o asks."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_PLACE:
            raise
        hint = "Name a file in a folder of yours."
        raise UsageError(f"{path} cannot be written: {error.strerror or error}", hint=hint) from error


def say(flags: Common, event: str, message: str) -> None:
    """A line on standard error, in the format that was asked for."""
    if flags.log_format == "json":
        import json

        message = json.dumps({"event": event, "message": message}, ensure_ascii=False)
    click.echo(message, err=True)


def print_json(value: Any) -> None:
    from reports.terminal import render_json

    click.echo(render_json(value))


def console() -> Any:
    from rich.console import Console

    # A pipe has no width; a table that is cut off would lose what is asked for.
    return Console(width=None if sys.stdout.isatty() else 200)


def print_report(flags: Common, work: "Session", names: Sequence[str]) -> "Report":
    """Gather the report and print it."""
    from migrate.status import gather

    show_report(flags, report := gather(work.conn, work.project, names))
    return report


def show_report(flags: Common, report: "Report") -> None:
    """Print a report."""
    from reports.terminal import render

    if flags.output == "json":
        print_json(report)
    else:
        render(report, console())


@contextmanager
def recorded(flags: Common, work: "Session", command: str) -> Iterator[int]:
    """A run in the ledger, with how it ended."""
    from migrate import ledger
    from migrate.target import explained

    with explained("write the ledger"):
        ledger.create(work.conn)
        epoch = ledger.begin_run(work.conn, work.migration, command, installed_version("aurora-migrate"))
    outcome = "failed"
    try:
        yield epoch
        outcome = "ok"
    except MigrateError as error:
        outcome = f"exit {error.exit_code}"
        raise
    finally:
        # The connection may be what failed.
        try:
            with work.connect() as conn:
                ledger.end_run(conn, work.migration, epoch, outcome)
        except MigrateError as error:
            say(flags, "warning", redacted(flags, f"The ledger does not know how this run ended: {error.message}"))
