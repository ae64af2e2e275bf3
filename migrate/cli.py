"""The commands: parse, call, render, exit code; nothing else. Heavy modules are imported by the commands that need them."""

import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING

import click

from migrate.command import (
    Common,
    Group,
    Sparing,
    chosen,
    common,
    console,
    governed,
    loaded,
    named_on_the_command_line,
    opened,
    print_json,
    print_report,
    recorded,
    redacted,
    run_options,
    say,
    show_report,
    spares,
    stopping,
    takes,
)
from migrate.duplicates import dedupe
from migrate.errors import FindingsError, MigrateError, RetryableError, UsageError
from migrate.rejects import rejects
from migrate.report import report

if TYPE_CHECKING:
    from mappings.compile import Mapping
    from migrate.conclude import Ending
    from migrate.core import Finding
    from migrate.engine import Options, Session
    from migrate.verify import Result
    from reports.progress import Watcher


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(installed_version("aurora-migrate"), prog_name="migrate")
def main() -> None:
    """Move legacy data into Aurora PostgreSQL, and account for every row.

    \b
    migrate demo                          see it all on made-up data, nothing to set up
    migrate init landing/*.csv            write a first migrate.yaml from files, or from the URL of a database or API
    migrate assess                        what is there, and what does its migration ask of people?
    migrate check                         are project, sources and target ready?
    migrate dedupe preview                which rows are the same, and which of them live on?
    migrate run                           load; run it again to go on where it stopped
    migrate verify                        prove that source and target hold the same rows
    migrate rejects list                  rows that were not loaded, each with its reason

    Exit codes: 0 ok, 1 failed, 2 usage or configuration, 3 findings (differences, rejects over budget,
    what changed since the plan), 4 refused (wrong state, taken over), 6 source, 7 target, 12 a bug, 75 worth retrying,
    130/143 stopped safely.
    """


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
@click.argument("sources", nargs=-1, required=True)
@click.option(
    "-s",
    "--select",
    multiple=True,
    metavar="PATTERN",
    help="Only such tables of a database, as in 'crm_*'; a view by its name, tables of other databases or schemas as 'other.*'.",
)
@click.option("--exclude", multiple=True, metavar="PATTERN", help="No such tables of a database.")
@click.option(
    "--full",
    is_flag=True,
    help="Look for fields in all documents of a MongoDB, not only at both ends of a large collection.",
)
@click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="'NAME: VALUE'",
    help="What a REST API is sent with each request. What authorises stands in the file as a variable of the environment.",
)
@click.option("--migration", default=None, help="The migration's name [default: the folder's].")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), default="migrate.yaml", show_default=True, help="The file to write."
)
@takes("yes", "verbose")
def init(
    flags: Common,
    sources: tuple[str, ...],
    select: tuple[str, ...],
    exclude: tuple[str, ...],
    full: bool,
    headers: tuple[str, ...],
    migration: str | None,
    out: Path,
) -> None:
    """Write a first project file from files, folders, databases and REST APIs, with what was detected and guessed.

    User and password of a database's URL, and what authorises at an API, are not written: the file takes them from the
    environment. An API is asked for the first pages of each list, and how it gives the others is found by asking for one.

    \b
    migrate init landing/*.csv
    migrate init landing/ --migration acme -o acme.yaml
    migrate init orders.xml prices.xlsx
    migrate init mysql://reader:secret@erp:3306/legacy --exclude 'tmp_*'
    migrate init mysql://reader:secret@erp/legacy -s 'crm_*' -s v_balances -s 'archive.*'
    migrate init 'mongodb://reader:secret@mongo/shop?authSource=admin' --full
    migrate init https://api.example.com/v2/orders --header 'Authorization: Bearer ${env:API_TOKEN}'
    migrate init 'https://api.example.com/v2/orders?status=all&per_page=100' https://api.example.com/v2/customers
    """
    from migrate.initialize import secrets, write

    flags.secrets = secrets(sources, headers)
    tell = partial(_tell, flags)
    for line in write(
        sources,
        migration,
        out,
        overwrite=flags.yes,
        select=select,
        exclude=exclude,
        full=full,
        headers=headers,
        tell=tell,
    ):
        click.echo(redacted(flags, line))


def _tell(flags: Common, said: str) -> None:
    """How far a long look at a source is, on standard error."""
    if not flags.quiet:
        say(flags, "fetching", redacted(flags, said))


@main.command()
@click.argument("sources", nargs=-1)
@click.option(
    "-s",
    "--select",
    multiple=True,
    metavar="PATTERN",
    help="Only such tables of a database, as in 'crm_*'; without SOURCES: only this table of the project.",
)
@click.option("--exclude", multiple=True, metavar="PATTERN", help="No such tables.")
@click.option("--full", is_flag=True, help="Read every row, not only the first 10,000 of each table.")
@click.option("--columns", is_flag=True, help="List each column, too, with what its values are like.")
@click.option(
    "--report", "page", type=click.Path(path_type=Path), metavar="FILE", help="Write all of it as an HTML page, too."
)
@takes("config", "output", "log_format", "verbose", "quiet")
def assess(
    flags: Common,
    sources: tuple[str, ...],
    select: tuple[str, ...],
    exclude: tuple[str, ...],
    full: bool,
    columns: bool,
    page: Path | None,
) -> None:
    """What is there, what is it like, and what does its migration ask of people? Reads the sources only; no target is needed.

    Inventory: tables, rows, sizes, keys, references. Profile: of each column how many values are filled and different, their
    lengths and extremes; of documents the kinds of each field's values. Effort: what needs a person, by fixed rates.

    Without SOURCES those of the project file are looked at; tables that it does not map are named.

    \b
    migrate assess mysql://reader:secret@erp:3306/legacy
    migrate assess landing/ --report assessment.html
    migrate assess --full --columns
    migrate assess --output json | jq '.sources[].tables[] | select(.state != "as it is") | .name'
    """
    from migrate.assess import assess as look
    from migrate.engine import selected
    from migrate.project import parsed, resolved, without_target
    from reports import assessment as forms
    from reports.progress import watcher

    environ = dict(os.environ)
    left: Sequence[str] = ()
    if sources:
        from mappings.spec import parse
        from migrate.initialize import drafted, secrets
        from migrate.initrest import is_api

        flags.secrets = secrets(sources)
        if any(map(is_api, sources)):
            hint = (
                "`migrate init` with the same URL writes one; then `migrate assess`, which records what the API gives."
            )
            raise UsageError("An API is assessed by its project file.", hint=hint)
        made = drafted(sources, None, Path.cwd(), partial(_tell, flags), select=select, exclude=exclude, full=full)
        spec, environ, left = parse(made.text, Path("migrate.yaml")), environ | dict(made.environ), made.left
    else:
        spec = parsed(flags.config)
    project = resolved(without_target(spec), environ)
    flags.secrets = tuple({*flags.secrets, *project.secrets})
    some = select or exclude
    tables = (list(project.spec.tables) if sources else selected(project, select, exclude)) if some else None
    governor = Sparing().governor(project)
    with governed(flags, governor), watcher(flags.log_format, quiet=flags.quiet, transient=True) as watch:
        found, failures = look(project, tables, governor, watch, full=full, given=bool(sources))
    found = replace(found, notes=tuple(left))
    if page is not None:
        with named_on_the_command_line(page):
            page.write_text(redacted(flags, forms.render_html(found)), encoding="utf-8")
    if flags.output == "json":
        print_json(forms.to_json(found))
    else:
        forms.render(found, console(), columns=columns)
    for failure in failures:
        raise failure


@main.command()
@common
def check(flags: Common) -> None:
    """Is everything ready? Reads the project file, the sources' heads and the target's catalogue; writes to neither.

    A database is asked for its version, connections, privileges, snapshot, log and some rows. Each result is ok, a
    warning (warn: a run may go on) or a failure (FAIL), with how to mend it.

    Sources with trailers, and those of which the project file expects rows or types, are read to their ends. An API that is
    not recorded yet is fetched first.
    """
    from migrate.check import check as examine

    with opened(flags, Sparing().governor) as work, governed(flags, work.governor):
        results = examine(work, chosen(flags, work.project), flags.jobs)
    if flags.output == "json":
        print_json([{"ok": r.ok, "level": r.level, "what": r.what, "said": redacted(flags, r.said)} for r in results])
    else:
        for r in results:
            mark, colour = {"ok": ("ok  ", "green"), "warning": ("warn", "yellow")}.get(r.level, ("FAIL", "red"))
            click.secho(f"{mark} ", fg=colour, nl=False)
            click.echo(redacted(flags, f"{r.what}: {r.said.removeprefix('warning: ')}"))
    if not all(r.ok for r in results):
        raise FindingsError("Not ready.", hint="Mend what is marked FAIL, then `migrate check` again.")


@main.command()
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write the plan as JSON to a file.")
@click.option("--restart", is_flag=True, help="As `migrate run --restart` would plan.")
@common
def plan(flags: Common, out: Path | None, restart: bool) -> None:
    """Show what `migrate run` would do with each table, and why; writes nothing to source or target.

    Exit code 3 where source or target changed since a table was planned, and that matters.
    """
    from migrate import engine, expecting
    from migrate.plan import to_json

    # A cap bounds the size of chunks; a source may have to be fetched first, and tells of it.
    with opened(flags, Sparing().governor) as work, governed(flags, work.governor):
        mappings = engine.compiled(work, chosen(flags, work.project))
        expecting.refuse_faults(work, mappings)
        planned = engine.planned(work, mappings, run_options(flags, restart=restart))
    form = to_json(planned)
    if out is not None:
        import json

        with named_on_the_command_line(out):
            out.write_text(json.dumps(form, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        click.echo(f"Wrote {out}.")
    elif flags.output == "json":
        print_json(form)
    else:
        from reports.terminal import render_rows

        rows = [
            (level, t["table"], t["source"], t["target"], t["action"], t["why"], len(t["chunks"]), t["rows"])
            for level, tables in enumerate(form["levels"], 1)
            for t in tables
        ]
        render_rows(("level", "table", "from", "to", "action", "why", "chunks", "rows (about)"), rows, console())
        for line in form["notes"]:
            click.echo(line)


@main.command()
@click.option("--restart", is_flag=True, help="Start the selected tables over: truncate, new generation, load again.")
@click.option(
    "--report",
    "page",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the report as an HTML page at the end, also where the run fails.",
)
@click.option("--dry-run", is_flag=True, help="Do it all in a shadow of the target, report, and leave nothing behind.")
@click.option(
    "--canary",
    type=click.IntRange(1),
    metavar="N",
    help="A dry run of N rows of each table, and of all rows that they refer to.",
)
@spares
@common
def run(flags: Common, restart: bool, page: Path | None, dry_run: bool, canary: int | None, sparing: Sparing) -> None:
    """Load the tables. Run it again after any interruption: it goes on where it stopped, and nothing is doubled.

    A dry run is the real one, into a shadow schema that is dropped at the end: same code, same constraints, same report.

    \b
    migrate run --canary 1000
    migrate run --dry-run --report rehearsal.html
    migrate run
    migrate run -s customers -s orders -j 4
    migrate run --max-rejects 2%
    migrate run --restart -s customers
    migrate run --report report.html
    migrate run -v --max-rows-per-second 50000 --max-source-load 20

    kill -USR1 PID pauses before the next chunk, kill -USR2 PID goes on; -v tells the PID.
    """
    from migrate import engine, layout, rehearsal
    from migrate.conclude import concluded
    from reports.progress import watcher

    project = loaded(flags)
    names = chosen(flags, project)
    with (
        concluded(flags, project, names, page) as ending,
        engine.session(project, sparing.governor(project)) as work,
        governed(flags, work.governor),
    ):
        options = run_options(flags, restart=restart)
        warnings = layout.accepted(layout.headers(work, names))
        mappings = engine.compiled(work, names)
        warnings += [f"{m.spec.name}: {told}" for m in mappings for told in m.source.warnings]
        planned = engine.planned(work, mappings, options)
        warnings += [finding.message for table in planned.tables for finding in table.drift]
        # What was pinned before was looked at before, and has not changed since: its hashes say so.
        fresh = [table.name for table in planned.tables if table.fresh]
        warnings += layout.accepted(layout.contents(work, fresh, options.jobs))
        for line in warnings:
            say(flags, "warning", redacted(flags, line))
        if dry_run or canary is not None:
            _rehearse(flags, work, mappings, options, ending, names, canary)
            return
        rehearsal.sweep(work)
        with recorded(flags, work, "run --restart" if restart else "run") as epoch:
            stop = engine.Stop()
            with stopping(flags, stop), watcher(flags.log_format, quiet=flags.quiet) as watch:
                work.governor.pause, work.governor.on_event = stop.pause, watch
                engine.run(work, planned, epoch, options, stop, watch)
        ending.report = print_report(flags, work, names)
        if not ending.report.accounted:
            raise FindingsError("Not everything is accounted for.", hint="See the report above.")


def _rehearse(
    flags: Common,
    work: "Session",
    mappings: "Sequence[Mapping]",
    options: "Options",
    ending: "Ending",
    names: "Sequence[str]",
    canary: int | None,
) -> None:
    """The run in a shadow, and its report."""
    from dataclasses import replace

    from migrate import engine
    from migrate.rehearsal import rehearsal
    from migrate.status import gather
    from reports.model import Failure, Report
    from reports.progress import watcher

    stop = engine.Stop()
    work.governor.pause = stop.pause
    with (
        stopping(flags, stop),
        rehearsal(work, mappings, options, stop, canary=canary) as shadow,
        recorded(flags, shadow.work, "run --dry-run" if canary is None else f"run --canary {canary}") as epoch,
    ):

        def reported(failure: MigrateError | None) -> Report:
            report = gather(shadow.work.conn, work.project, [n for n in names if n not in shadow.done_before])
            report = shadow.of_the_real(replace(report, done_before=shadow.done_before))
            if failure is not None:
                said = redacted(flags, failure.message), redacted(flags, failure.hint)
                report = replace(report, failure=Failure(*said, failure.exit_code))
            show_report(flags, report)
            for note in shadow.notes if flags.output == "table" else ():
                click.echo(note)
            return report

        try:
            with watcher(flags.log_format, quiet=flags.quiet) as watch:
                work.governor.on_event = watch
                engine.run(shadow.work, shadow.plan, epoch, options, stop, watch)
        except RetryableError:
            raise
        except MigrateError as error:
            error.message, error.hint = shadow.named(error.message), shadow.named(error.hint)
            ending.report = reported(error)
            raise
        ending.report = reported(None)
        if not ending.report.accounted:
            raise FindingsError("Not everything would be accounted for.", hint="See the report above.")


@main.command()
@common
def status(flags: Common) -> None:
    """Where each table stands, and the next command to type. Exit code 0 whatever it says."""
    with opened(flags) as work:
        print_report(flags, work, chosen(flags, work.project))


main.add_command(report)


@main.command()
@click.option(
    "--level",
    type=click.Choice(["counts", "aggregates", "rows"]),
    default="rows",
    show_default=True,
    help="How far to look.",
)
@click.option(
    "--against",
    type=click.Choice(["target", "source"]),
    default="target",
    show_default=True,
    help="Compare rows with the target as it was loaded, or with the source as it is now.",
)
@click.option("--from-bucket", type=click.IntRange(0, 1023), default=0, help="List differing rows from this bucket on.")
@click.option(
    "--fixup", is_flag=True, help="Repair the rows that differ, and verify again; with -y delete what is too much."
)
@click.option(
    "--live",
    type=click.FloatRange(min=0.1),
    is_flag=False,
    flag_value=5.0,
    metavar="[SECONDS]",
    help="A difference counts only once it has stood so long [5].",
)
@click.option("--restart", is_flag=True, help="Verify everything, also what an interrupted verification has done.")
@click.option(
    "--all-constraints",
    "every",
    is_flag=True,
    help="Look at the rows also for constraints that PostgreSQL itself guarantees, and do not trust its indexes.",
)
@spares
@common
def verify(
    flags: Common,
    level: str,
    against: str,
    from_bucket: int,
    fixup: bool,
    live: float | None,
    restart: bool,
    every: bool,
    sparing: Sparing,
) -> None:
    """Compare source, ledger and target. Exit code 3 on a difference.

    Each level holds the target against its constraints, too, and against the keys and references that the mapping promises.

    \b
    counts      source, ledger and target count for themselves; the integrity equation stands beside them
    aggregates  besides, sums, extremes and digests of each column, computed by the source's engine and by the target
    rows        besides, the checksums kept in flight against the target as it is now; differing rows are named

    \b
    migrate verify --level counts                 in seconds
    migrate verify                                every row of it
    migrate verify --against source -s invoices   reads the source once more, and maps it
    migrate verify --fixup                        makes the rows that differ what the source maps to
    migrate verify --live 30                      while changes still arrive

    One that was interrupted goes on: tables that it has verified are not verified again.
    """
    from migrate import ledger
    from migrate.errors import GateError
    from migrate.expecting import by_check
    from migrate.verify import How, verify_all
    from reports.model import of_expectations
    from reports.progress import watcher

    if (fixup or live or against == "source" or from_bucket) and level != "rows":
        raise UsageError(
            f"--level {level} compares no rows", hint="Leave --level out, or the options that are about rows."
        )
    with opened(flags, sparing.governor) as work, governed(flags, work.governor):
        names = chosen(flags, work.project)
        if not ledger.exists(work.conn):
            raise GateError("Nothing has been loaded yet.", hint="`migrate run` loads.")
        how = How(level, against, from_bucket, live or 0.0, restart, every, may_delete=flags.yes)  # type: ignore[arg-type]
        results: list[Result] = []
        with recorded(flags, work, "verify --fixup") if fixup else nullcontext() as epoch:
            watching: Watcher
            verifying = verify_all(work, names, replace(how, epoch=epoch, on_event=lambda event: watching(event)))
            while True:
                # Results go to standard output: no bar is in their way.
                with watcher(flags.log_format, quiet=flags.quiet, transient=True) as watching:
                    result = next(verifying, None)
                if result is None:
                    break
                results.append(result)
                if flags.output == "table":
                    _print_result(flags, result)
    findings = [f for r in results for f in r.findings]
    if flags.output == "json":
        tables = [
            {
                "table": r.table,
                "level": level,
                **({"error": r.failure.message} if r.failure else {}),
                **(
                    {
                        "differences": r.differences,
                        "verified_before": r.before,
                        "unexpected": by_check(r.findings),
                        "constraints": r.constraints,
                    }
                    if r.ended
                    else {}
                ),
            }
            for r in results
        ]
        print_json({"tables": tables, "findings": [asdict(f) for f in findings]})
    else:
        _print_findings([f for f in findings if f.severity == "error" or of_expectations(f)])
    for failure in (r.failure for r in results if r.failure is not None):
        raise failure
    if any(f.severity == "error" for f in findings):
        raise FindingsError(_summed_up(findings), hint="`migrate report --format json` lists every finding.")


def _print_result(flags: Common, result: "Result") -> None:
    from migrate.expecting import by_check
    from reports.model import of_expectations

    name, n = result.table, result.differences
    if result.failure is not None and not result.ended:
        click.secho(f"{name}: not verified: {redacted(flags, result.failure.message)}", fg="red")
        return
    differences = [f for f in result.findings if not of_expectations(f)]
    said = f"{n:,} difference{'s' * (n != 1)}" if n else "equal"
    said += "".join(f", {f.message.removeprefix(f'{name}: ')}" for f in differences if f.severity == "warning")
    said += "".join(f", {count:,} unexpected by {check}" for check, count in by_check(result.findings).items())
    ways = {"looked at": "looked at", "guaranteed": "guaranteed by the target", "left out": "left out"}
    held = {words: len(result.constraints[way]) for way, words in ways.items() if result.constraints.get(way)}
    said += f"; constraints: {', '.join(f'{n} {words}' for words, n in held.items())}" if held else ""
    if result.before is not None:
        said += f" (verified at {result.before}, before this verification was interrupted)"
    failed = any(f.severity == "error" for f in result.findings)
    click.secho(f"{name}: {said}", fg="red" if failed else "green")


def _summed_up(findings: "Sequence[Finding]") -> str:
    from reports.model import of_expectations

    errors = [f for f in findings if f.severity == "error"]
    if all(f.check.startswith("constraints.") for f in errors):
        return "The target does not keep its constraints."
    return "The target is not as expected." if all(map(of_expectations, errors)) else "Source and target differ."


def _print_findings(findings: "Sequence[Finding]") -> None:
    from reports.terminal import brief

    for f in findings[:50]:
        click.secho(brief(f"{f.severity}: {f.message}"), fg="red" if f.severity == "error" else "yellow")
    if len(findings) > 50:
        click.echo(f"… and {len(findings) - 50:,} more: migrate report --format json")


main.add_command(dedupe)
main.add_command(rejects)


@main.command()
@click.option(
    "--of",
    type=click.Choice(["project", "report"]),
    default="project",
    show_default=True,
    help="Of the project file, or of `report --format json`.",
)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write it to a file.")
@takes()
def schema(_flags: Common, of: str, out: Path | None) -> None:
    """Print the JSON Schema of the project file, for editors, or of a report, for programs."""
    if of == "report":
        from reports.schema import schema_text
    else:
        from mappings.schema import schema_text
    text = schema_text()
    if out is None:
        click.echo(text, nl=False)
    else:
        with named_on_the_command_line(out):
            out.write_text(text, encoding="utf-8")
