"""The commands: parse, call, render, exit code; nothing else. Heavy modules are imported by the commands that need them."""

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

from migrate.errors import FindingsError, InternalError, MigrateError, Stopped, UsageError

if TYPE_CHECKING:
    from types import FrameType

    from mappings.spec import Budget
    from migrate.core import Finding
    from migrate.engine import Options, Session, Stop
    from migrate.project import Project

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
    except MigrateError as error:
        _trace(flags)
        _complain(flags, error)
        sys.exit(error.exit_code)
    except click.ClickException:
        raise
    except KeyboardInterrupt:
        _say(flags, "stopped", "Stopped; whatever was in hand is rolled back.")
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        # The reader of our output has gone, as `| head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:  # noqa: BLE001 - the last line of defence: a message and exit 12 rather than a traceback
        _trace(flags)
        if type(error).__module__.startswith("psycopg"):
            from migrate.target import explain

            ours = explain(error, doing="go on")  # type: ignore[arg-type]
            _complain(flags, ours)
            sys.exit(ours.exit_code)
        hint = "Nothing that was committed is lost. Run again with -v for the traceback, and please report it."
        _complain(flags, InternalError(f"This is a bug in migrate: {type(error).__name__}: {error}", hint=hint))
        sys.exit(InternalError.exit_code)


def _trace(flags: Common) -> None:
    """The traceback, for those who ask for it, without secrets."""
    if flags.verbose:
        click.echo(_redacted(flags, traceback.format_exc()), err=True)


def _complain(flags: Common, error: MigrateError) -> None:
    message, hint = _redacted(flags, error.message), _redacted(flags, error.hint)
    if flags.log_format == "json":
        import json

        line = {"event": "error", "exit": error.exit_code, "message": message, "hint": hint}
        click.echo(json.dumps(line, ensure_ascii=False), err=True)
        return
    click.secho(message, fg="yellow" if isinstance(error, Stopped) else "red", err=True)
    if hint:
        click.echo(hint, err=True)


def _redacted(flags: Common, text: str) -> str:
    if not flags.secrets:
        return text
    from migrate.project import redact

    return redact(text, flags.secrets)


class Group(click.Group):
    """Lists the commands in the order in which a migration needs them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(installed_version("aurora-migrate"), prog_name="migrate")
def main() -> None:
    """Move legacy data into Aurora PostgreSQL, and account for every row.

    \b
    migrate demo                          see it all on made-up data, nothing to set up
    migrate init landing/*.csv            write a first migrate.yaml from files
    migrate check                         are project, sources and target ready?
    migrate run                           load; run it again to go on where it stopped
    migrate verify                        prove that source and target hold the same rows
    migrate rejects list                  rows that were not loaded, each with its reason

    Exit codes: 0 ok, 1 failed, 2 usage or configuration, 3 findings (differences, rejects over budget),
    4 refused (wrong state, taken over), 6 source, 7 target, 12 a bug, 75 worth retrying, 130/143 stopped safely.
    """


# ------------------------------------------------------------------------------------------------------------- helpers


def _project(flags: Common) -> "Project":
    from migrate.project import load

    project = load(flags.config, os.environ)
    flags.secrets = project.secrets
    return project


@contextmanager
def _session(flags: Common) -> "Iterator[Session]":
    from migrate.engine import session

    with session(_project(flags)) as work:
        yield work


def _names(flags: Common, project: "Project") -> list[str]:
    from migrate.engine import selected

    return selected(project, flags.select, flags.exclude)


def _options(flags: Common, *, restart: bool = False) -> "Options":
    from migrate.engine import Options
    from migrate.plan import BatchSize

    size = BatchSize(flags.batch_rows, flags.batch_bytes)
    return Options(flags.jobs, size, restart, flags.max_rejects, flags.on_error, flags.yes)


@contextmanager
def _stopping(flags: Common, stop: "Stop") -> Iterator[None]:
    """The first Ctrl-C or SIGTERM stops at the next chunk's edge; the second one at once."""
    signals = (signal.SIGINT, signal.SIGTERM)

    def first(number: int, _frame: "FrameType | None") -> None:
        for each in signals:
            signal.signal(each, second)
        _say(flags, "stopping", "Stopping when the chunks in hand are committed. Once more to stop at once.")
        cause = Stopped("Stopped safely.", hint="Run the same command again: it goes on where it stopped.")
        cause.exit_code = 128 + number
        stop(cause)

    def second(number: int, _frame: "FrameType | None") -> None:
        _say(flags, "stopped", "Stopped at once; chunks in flight are rolled back. Run the same command again.")
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


def _say(flags: Common, event: str, message: str) -> None:
    """A line on standard error, in the format that was asked for."""
    if flags.log_format == "json":
        import json

        message = json.dumps({"event": event, "message": message}, ensure_ascii=False)
    click.echo(message, err=True)


def _print_json(value: Any) -> None:
    from reports.terminal import render_json

    click.echo(render_json(value))


def _console() -> Any:
    from rich.console import Console

    # A pipe has no width; a table that is cut off would lose what is asked for.
    return Console(width=None if sys.stdout.isatty() else 200)


def _print_report(flags: Common, work: "Session", names: Sequence[str]) -> bool:
    """Print the report; whether everything is accounted for."""
    from migrate.status import gather
    from reports.terminal import render

    report = gather(work.conn, work.project, names)
    if flags.output == "json":
        _print_json(report)
    else:
        render(report, _console())
    return report.accounted


# ------------------------------------------------------------------------------------------------------------ commands


@main.command()
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path), default="demo", show_default=True, help="Where to make it."
)
@takes("verbose")
def demo(flags: Common, folder: Path) -> None:
    """See everything on made-up legacy data: an embedded PostgreSQL, dirty CSV files, run, verify, report.

    \b
    migrate demo
    migrate demo --dir /tmp/acme
    """
    from migrate.demo import show

    show(folder)


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--migration", default=None, help="The migration's name [default: the folder's].")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), default="migrate.yaml", show_default=True, help="The file to write."
)
@takes("yes", "verbose")
def init(flags: Common, files: tuple[Path, ...], migration: str | None, out: Path) -> None:
    """Write a first project file from delimited files, with what was detected and guessed.

    \b
    migrate init landing/*.csv
    migrate init landing/ --migration acme -o acme.yaml
    """
    from migrate.initialize import write

    for line in write(files, migration, out, overwrite=flags.yes):
        click.echo(line)


@main.command()
@common
def check(flags: Common) -> None:
    """Is everything ready? Reads the project file, the sources' heads and the target's catalogue; writes nothing."""
    from migrate.check import check as examine

    with _session(flags) as work:
        results = examine(work, _names(flags, work.project))
    if flags.output == "json":
        _print_json([{"ok": r.ok, "what": r.what, "said": r.said} for r in results])
    else:
        for r in results:
            click.secho(f"{'ok  ' if r.ok else 'FAIL'} ", fg="green" if r.ok else "red", nl=False)
            click.echo(f"{r.what}: {r.said}")
    if not all(r.ok for r in results):
        raise FindingsError("Not ready.", hint="Mend what is marked FAIL, then `migrate check` again.")


@main.command()
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write the plan as JSON to a file.")
@click.option("--restart", is_flag=True, help="As `migrate run --restart` would plan.")
@common
def plan(flags: Common, out: Path | None, restart: bool) -> None:
    """Show what `migrate run` would do with each table, and why; writes nothing to source or target."""
    from migrate import engine
    from migrate.plan import to_json

    with _session(flags) as work:
        mappings = engine.compiled(work, _names(flags, work.project))
        planned = engine.planned(work, mappings, _options(flags, restart=restart))
    form = to_json(planned)
    if out is not None:
        import json

        out.write_text(json.dumps(form, indent=2, ensure_ascii=False) + "\n")
        click.echo(f"Wrote {out}.")
    elif flags.output == "json":
        _print_json(form)
    else:
        from reports.terminal import render_rows

        rows = [
            (level, t["table"], t["source"], t["target"], t["action"], t["why"], len(t["chunks"]), t["rows"])
            for level, tables in enumerate(form["levels"], 1)
            for t in tables
        ]
        render_rows(("level", "table", "from", "to", "action", "why", "chunks", "rows (about)"), rows, _console())
        for line in form["notes"]:
            click.echo(line)


@main.command()
@click.option("--restart", is_flag=True, help="Start the selected tables over: truncate, new generation, load again.")
@common
def run(flags: Common, restart: bool) -> None:
    """Load the tables. Run it again after any interruption: it goes on where it stopped, and nothing is doubled.

    \b
    migrate run
    migrate run -s customers -s orders -j 4
    migrate run --max-rejects 2%
    migrate run --restart -s customers
    """
    from migrate import engine
    from reports.progress import watcher

    with _session(flags) as work:
        names = _names(flags, work.project)
        options = _options(flags, restart=restart)
        mappings = engine.compiled(work, names)
        planned = engine.planned(work, mappings, options)
        with _recorded(flags, work, "run --restart" if restart else "run") as epoch:
            stop = engine.Stop()
            with _stopping(flags, stop), watcher(flags.log_format, quiet=flags.quiet) as watch:
                engine.run(work, planned, epoch, options, stop, watch)
        if not _print_report(flags, work, names):
            raise FindingsError("Not everything is accounted for.", hint="See the report above.")


@contextmanager
def _recorded(flags: Common, work: "Session", command: str) -> Iterator[int]:
    """A run in the ledger, with how it ended."""
    from migrate import ledger
    from migrate.target import connect, explained

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
            with connect(work.project.target) as conn:
                ledger.end_run(conn, work.migration, epoch, outcome)
        except MigrateError as error:
            _say(flags, "warning", _redacted(flags, f"The ledger does not know how this run ended: {error.message}"))


@main.command()
@common
def status(flags: Common) -> None:
    """Where each table stands, and the next command to type. Exit code 0 whatever it says."""
    with _session(flags) as work:
        _print_report(flags, work, _names(flags, work.project))


@main.command()
@click.option("--format", "form", type=click.Choice(["table", "json"]), default=None, help="As --output.")
@common
def report(flags: Common, form: str | None) -> None:
    """The report of the migration so far. Exit code 3 unless every row is accounted for."""
    flags.output = form or flags.output
    with _session(flags) as work:
        if not _print_report(flags, work, _names(flags, work.project)):
            raise FindingsError("Not everything is accounted for.", hint="See the report.")


@main.command()
@click.option(
    "--level", type=click.Choice(["counts", "rows"]), default="rows", show_default=True, help="How far to look."
)
@common
def verify(flags: Common, level: str) -> None:
    """Compare source, ledger and target. Exit code 3 on a difference.

    \b
    counts   source, ledger and target count for themselves; the integrity equation stands beside them
    rows     besides, the checksums kept in flight against the target as it is now; differing rows are named
    """
    from migrate import engine, ledger
    from migrate.errors import GateError
    from migrate.verify import verify as examine

    with _session(flags) as work:
        names = _names(flags, work.project)
        if not ledger.exists(work.conn):
            raise GateError("Nothing has been loaded yet.", hint="`migrate run` loads.")
        findings: list[Finding] = []
        results: list[dict[str, object]] = []
        failures: list[MigrateError] = []
        for mapping in engine.compiled(work, names):
            name = mapping.spec.name
            try:
                found = examine(work, mapping, level)  # type: ignore[arg-type]
            except MigrateError as error:
                # One table that cannot be verified must not leave the others unverified.
                failures.append(error)
                results.append({"table": name, "level": level, "error": error.message})
                if flags.output == "table":
                    click.secho(f"{name}: not verified: {_redacted(flags, error.message)}", fg="red")
                continue
            findings += found
            errors = sum(f.severity == "error" for f in found)
            results.append({"table": name, "level": level, "differences": errors})
            if flags.output == "table":
                said = f"{errors:,} differences" if errors else "equal"
                said += "".join(f", {f.message.removeprefix(f'{name}: ')}" for f in found if f.severity == "warning")
                click.secho(f"{name}: {said}", fg="red" if errors else "green")
    if flags.output == "json":
        from dataclasses import asdict

        _print_json({"tables": results, "findings": [asdict(f) for f in findings]})
    else:
        _print_findings([f for f in findings if f.severity == "error"])
    if failures:
        raise failures[0]
    if any(f.severity == "error" for f in findings):
        raise FindingsError("Source and target differ.", hint="`migrate report --format json` lists every difference.")


def _print_findings(findings: "Sequence[Finding]") -> None:
    from reports.terminal import printable

    for f in findings[:50]:
        click.secho(printable(f"{f.severity}: {f.message}"), fg="red" if f.severity == "error" else "yellow")
    if len(findings) > 50:
        click.echo(f"… and {len(findings) - 50:,} more: migrate report --format json")


# ------------------------------------------------------------------------------------------------------------- rejects


@main.group(cls=Group)
def rejects() -> None:
    """The quarantine: rows that were not loaded, each with its place, raw bytes, rule and reason."""


@rejects.command("list")
@click.option("--rule", help="Only this rule.")
@click.option(
    "--state",
    type=click.Choice(["open", "replayed", "waived", "all"]),
    default="open",
    show_default=True,
    help="Only this state.",
)
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many.")
@common
def rejects_list(flags: Common, rule: str | None, state: str, limit: int) -> None:
    """List rejected rows.

    \b
    migrate rejects list -s customers --rule type
    migrate rejects list --output json --limit 100000 > rejects.json
    """
    from migrate import ledger
    from migrate.status import where

    with _session(flags) as work:
        found = (
            ledger.rejects(
                work.conn,
                work.migration,
                names=_names(flags, work.project),
                rule=rule,
                state=None if state == "all" else state,
                limit=limit + 1,
            )
            if ledger.exists(work.conn)
            else []
        )
    if flags.output == "json":
        _print_json([_reject_json(r) for r in found[:limit]])
        return
    if not found:
        click.echo("No rejected rows." if state == "all" else f"No {state} rejects.")
        return
    from reports.terminal import render_rows

    names = (
        "id",
        "table",
        "where",
        "key",
        "rule",
        "column",
        "value",
        "reason",
        *(("state",) if state == "all" else ()),
    )
    rows = [
        (str(r.id), r.name, where(r.locator), r.key, r.rule, r.column, r.value, r.reason, r.state)[: len(names)]
        for r in found[:limit]
    ]
    render_rows(names, rows, _console())
    if len(found) > limit:
        click.echo(f"… and more: --limit {limit * 10}")


def _reject_json(r: Any) -> dict[str, Any]:
    import base64

    return {
        "id": r.id, "table": r.name, "state": r.state, "rule": r.rule, "column": r.column, "value": r.value,
        "reason": r.reason, "key": r.key, "locator": r.locator, "raw_base64": base64.b64encode(r.raw).decode(),
        "note": r.note,
    }  # fmt: skip


@rejects.command("show")
@click.argument("ids", nargs=-1, required=True, type=int)
@common
def rejects_show(flags: Common, ids: tuple[int, ...]) -> None:
    """Show rejected rows whole: where they stand, what they were, why they were rejected."""
    from migrate.status import where
    from reports.terminal import printable

    with _session(flags) as work:
        found = _rejects_by_id(work, ids)
    if flags.output == "json":
        _print_json([_reject_json(r) for r in found])
        return
    for r in found:
        place = "".join(f", {k} {r.locator[k]}" for k in ("start", "end") if k in r.locator)
        click.secho(f"reject {r.id}, table {r.name}, {r.state}", bold=True)
        click.echo(printable(f"  where   {where(r.locator)}{place}"))
        click.echo(printable(f"  key     {r.key or '(none)'}"))
        click.echo(printable(f"  rule    {r.rule}{f' on {r.column}' if r.column else ''}"))
        click.echo(printable(f"  reason  {r.reason}"))
        if r.value is not None:
            click.echo(printable(f"  value   {r.value!r}"))
        click.echo(printable(f"  raw     {r.raw[:4096].decode('utf-8', 'backslashreplace')}"))
        if r.note:
            click.echo(printable(f"  note    {r.note}"))


def _rejects_by_id(work: "Session", ids: Sequence[int]) -> list[Any]:
    from migrate import ledger

    found = ledger.rejects(work.conn, work.migration, ids=ids) if ledger.exists(work.conn) else []
    missing = set(ids) - {r.id for r in found}
    if missing:
        raise UsageError(
            f"no reject {', '.join(map(str, sorted(missing)))} in {work.migration}",
            hint="`migrate rejects list` says which there are.",
        )
    return found


@rejects.command("replay")
@click.argument("ids", nargs=-1, type=int)
@click.option(
    "--from", "fixed", type=click.Path(path_type=Path), help="A file with the rows mended, under the same header."
)
@common
def rejects_replay(flags: Common, ids: tuple[int, ...], fixed: Path | None) -> None:
    """Load rejected rows after all: from a fixed file, or from where they stood.

    In a fixed file a row is found by its source key or, where the reject has none, by its line. Rows that are still bad stay
    in quarantine.

    \b
    migrate rejects replay -s customers --from landing/customers_fixed.csv
    migrate rejects replay 17 18
    """
    from migrate import engine, ledger
    from migrate.replay import replay
    from reports.terminal import printable

    with _session(flags) as work:
        names = sorted({r.name for r in _rejects_by_id(work, ids)}) if ids else _names(flags, work.project)
        if fixed is not None and len(names) != 1:
            raise UsageError("A fixed file belongs to one table.", hint="Say which with -s TABLE.")
        outcomes = []
        with _recorded(flags, work, "rejects replay") as epoch:
            for mapping in engine.compiled(work, names):
                name = mapping.spec.name
                open_ones = ledger.rejects(work.conn, work.migration, names=[name], ids=ids or None, state="open")
                outcomes.append((name, len(open_ones), replay(work, mapping, epoch, open_ones, fixed)))
    still = [pair for _, _, outcome in outcomes for pair in outcome.still_bad]
    lost = [reject_id for _, _, outcome in outcomes for reject_id in outcome.not_found]
    if flags.output == "json":
        _print_json(
            {
                "tables": [{"table": n, "open": o, "replayed": r.replayed, "rows": r.rows} for n, o, r in outcomes],
                "still_bad": [{"id": reject_id, "reason": reason} for reject_id, reason in still],
                "not_found": lost,
            }
        )
    else:
        for name, count, outcome in outcomes:
            click.echo(f"{name}: {outcome.replayed:,} of {count:,} open rejects replayed, {outcome.rows:,} rows loaded")
        for reject_id, reason in still[:50]:
            click.echo(printable(f"  {reject_id} is still bad: {reason}"))
        if lost:
            shown = ", ".join(map(str, lost[:20])) + (", …" if len(lost) > 20 else "")
            click.echo(f"  not found in {fixed}: {shown}")
            click.echo(
                "  A row without a key is found by its line, in a copy of the source whose other lines are as they were."
            )
    if still or lost:
        count = len(still) + len(lost)
        raise FindingsError(
            f"{count:,} {'reject is' if count == 1 else 'rejects are'} still open.",
            hint="`migrate rejects show ID` shows one.",
        )


@rejects.command("waive")
@click.argument("ids", nargs=-1, required=True, type=int)
@click.option("--note", required=True, help="Who decided, and why; kept in the ledger.")
@common
def rejects_waive(flags: Common, ids: tuple[int, ...], note: str) -> None:
    """Accept that rows stay out. They remain in the ledger and count as rejected.

    \b
    migrate rejects waive 17 18 --note "test data, agreed with Ms Weber on 3 March"
    """
    from migrate import ledger

    with _session(flags) as work:
        _rejects_by_id(work, ids)
        waived = ledger.settle_rejects(work.conn, ids, "waived", note)
    if flags.output == "json":
        _print_json({"waived": waived})
    else:
        click.echo(f"{waived} waived.")
    if waived < len(set(ids)):
        raise FindingsError(
            f"{len(set(ids)) - waived} of {len(set(ids))} were not open any more.",
            hint="`migrate rejects list --state all`",
        )


@main.command()
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write it to a file.")
def schema(out: Path | None) -> None:
    """Print the JSON Schema of the project file, for editors."""
    import json

    from mappings.schema import json_schema

    text = json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
    if out is None:
        click.echo(text, nl=False)
    else:
        out.write_text(text)
