"""The commands `migrate dedupe …`: what would be merged, before a row is loaded; and who was merged into whom, after it."""

import csv
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from migrate.command import (
    Common,
    Group,
    Sparing,
    chosen,
    common,
    console,
    governed,
    named_on_the_command_line,
    opened,
    print_json,
    run_options,
    spares,
    stopping,
)
from migrate.errors import GateError

if TYPE_CHECKING:
    from mappings.dedupe import Summary

_HEADER = ("table", "fate", "rule", "loser", "survivor", "chunk", "row", "by_chunk", "by_row")


@click.group(cls=Group)
def dedupe() -> None:
    """Duplicates: which rows are the same, and which of them live on."""


@dedupe.command()
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write every pair as CSV to a file ('-': here).")
@spares
@common
def preview(flags: Common, out: Path | None, sparing: Sparing) -> None:
    """Find the duplicates in the sources as they are now; writes nothing to source or target.

    \b
    migrate dedupe preview
    migrate dedupe preview -s customers -o duplicates.csv
    """
    from migrate import engine
    from migrate.personal import masked_summary
    from reports.progress import watcher

    found: list[tuple[str, Summary, int]] = []
    with opened(flags, sparing.governor) as work, governed(flags, work.governor):
        options = run_options(flags, restart=True)
        mappings = engine.compiled(work, chosen(flags, work.project))
        tables = engine.rehearsed(work, mappings, options).tables
        stop = engine.Stop()
        work.governor.pause = stop.pause
        with (
            _writing(out) as write,
            stopping(flags, stop),
            watcher(flags.log_format, quiet=flags.quiet) as watch,
        ):
            work.governor.on_event = watch
            for plan in tables:
                ballot = engine.elect(work, plan, options, stop, watch)
                if ballot is None:
                    continue
                try:
                    short = masked_summary(ballot.summary(), plan.mapping.spec)
                    found.append((plan.name, short, ballot.tally()[1]))
                    if out is not None:
                        for batch in ballot.losers():
                            write(_pairs(plan.name, batch.to_pydict()))
                finally:
                    ballot.close()
    if out is not None and str(out) == "-":
        return
    _show(flags, found)
    if out is not None:
        click.echo(f"Wrote {out}.", err=flags.output == "json")


def _pairs(table: str, columns: dict[str, list[Any]]) -> Iterator[tuple[Any, ...]]:
    names = ("fate", "rule", "loser", "survivor", "chunk", "ordinal", "by_chunk", "by_ordinal")
    for row in zip(*(columns[name] for name in names), strict=True):
        yield (table, *row)


@contextmanager
def _writing(out: Path | None) -> "Iterator[Any]":
    """A function that writes rows of CSV."""
    if out is None:
        yield lambda rows: None
    elif str(out) == "-":
        yield _writer(sys.stdout)
    else:
        with named_on_the_command_line(out):
            file = out.open("w", encoding="utf-8", newline="")
        with file:
            yield _writer(file)


def _writer(file: TextIO) -> Any:
    writer = csv.writer(file)
    writer.writerow(_HEADER)
    return writer.writerows


def _show(flags: Common, found: "Sequence[tuple[str, Summary, int]]") -> None:
    if flags.output == "json":
        print_json(
            [
                {
                    "table": name,
                    "merged": s.rows,
                    "clusters": s.clusters,
                    "by_rule": dict(s.by_rule),
                    "rejected": refused,
                    "largest": [{"survivor": a, "losers": list(b), "rule": c} for a, b, c in s.samples],
                }
                for name, s, refused in found
            ]
        )
        return
    from reports.terminal import printable, render_rows

    if not any(s.rows or refused for _, s, refused in found):
        click.echo("No duplicates." if found else "No table has `dedupe`, or a unique key.")
        return
    for name, s, refused in found:
        if s.rows:
            click.secho(f"{name}: {s.rows:,} rows would be merged into {s.clusters:,} others", bold=True)
            render_rows(("rule", "rows"), s.by_rule, console())
            for survivor, losers, rule in s.samples:
                click.echo(printable(f"  {survivor} ← {', '.join(losers)}   ({rule})"))
        if refused:
            click.echo(f"{name}: {refused:,} rows would be rejected: another one has their key, and comes before them")


@dedupe.command()
@click.option("-o", "--out", type=click.Path(path_type=Path), default="-", show_default=True, help="The file to write.")
@common
def export(flags: Common, out: Path) -> None:
    """Write who was merged into whom, as CSV: the crosswalk of what is loaded.

    \b
    migrate dedupe export -s customers -o crosswalk.csv
    """
    from migrate import crosswalk, ledger

    with opened(flags) as work:
        names = chosen(flags, work.project)
        if not ledger.exists(work.conn):
            raise GateError("Nothing has been loaded yet.", hint="`migrate dedupe preview -o FILE` says what would be.")
        with _writing(out) as write:
            rows: Iterable[tuple[Any, ...]] = crosswalk.pairs(work.conn, work.migration, names)
            write(rows)
    if str(out) != "-":
        click.echo(f"Wrote {out}.", err=flags.output == "json")
