"""The commands `migrate rejects …`: list, show, replay and waive rows that were not loaded."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from migrate.command import Common, Group, chosen, common, console, opened, print_json, recorded
from migrate.errors import FindingsError, UsageError

if TYPE_CHECKING:
    from migrate.engine import Session
    from migrate.quarantine import QuarantinedRow


@click.group(cls=Group)
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
    """List rejected rows; values of columns that the project calls personal are masked.

    \b
    migrate rejects list -s customers --rule type
    migrate rejects list --output json --limit 100000 > rejects.json
    """
    from migrate import ledger, quarantine
    from migrate.personal import masked
    from migrate.status import where

    with opened(flags) as work:
        found = (
            quarantine.rows(
                work.conn,
                work.migration,
                names=chosen(flags, work.project),
                rule=rule,
                state=None if state == "all" else state,
                limit=limit + 1,
            )
            if ledger.exists(work.conn)
            else []
        )
        found = [masked(r, work.project.spec.tables[r.name]) for r in found]
    if flags.output == "json":
        print_json([_reject_json(r) for r in found[:limit]])
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
    render_rows(names, rows, console())
    if len(found) > limit:
        click.echo(f"… and more: --limit {limit * 10}")


def _reject_json(r: "QuarantinedRow") -> dict[str, Any]:
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

    with opened(flags) as work:
        found = _rejects_by_id(work, ids)
    if flags.output == "json":
        print_json([_reject_json(r) for r in found])
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
    from migrate import ledger, quarantine

    found = quarantine.rows(work.conn, work.migration, ids=ids) if ledger.exists(work.conn) else []
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
@click.option(
    "--source", metavar="SOURCE.TABLE", help="What --from mends, where a table is read from several source tables."
)
@common
def rejects_replay(flags: Common, ids: tuple[int, ...], fixed: Path | None, source: str | None) -> None:
    """Load rejected rows after all: from a fixed file, or from where they stood.

    In a fixed file a row is found by its source key or, where the reject has none, by its line. Rows that are still bad stay
    in quarantine.

    \b
    migrate rejects replay -s customers --from landing/customers_fixed.csv
    migrate rejects replay 17 18
    """
    from migrate import engine, quarantine
    from migrate.replay import replay
    from reports.terminal import printable

    with opened(flags) as work:
        names = sorted({r.name for r in _rejects_by_id(work, ids)}) if ids else chosen(flags, work.project)
        if source is not None and fixed is None:
            raise UsageError("--source says what a fixed file mends.", hint="Name the file: --from FILE.")
        if fixed is not None and len(names) != 1:
            raise UsageError("A fixed file belongs to one table.", hint="Say which with -s TABLE.")
        outcomes = []
        with recorded(flags, work, "rejects replay") as epoch:
            for mapping in engine.compiled(work, names):
                name = mapping.spec.name
                open_ones = quarantine.rows(work.conn, work.migration, names=[name], ids=ids or None, state="open")
                outcomes.append((name, len(open_ones), replay(work, mapping, epoch, open_ones, fixed, source)))
    still = [pair for _, _, outcome in outcomes for pair in outcome.still_bad]
    lost = [reject_id for _, _, outcome in outcomes for reject_id in outcome.not_found]
    if flags.output == "json":
        print_json(
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
            click.echo(f"  not found in {fixed or 'the source'}: {shown}")
            click.echo(
                "  A row without a key is found by its line, in a copy of the source whose other lines are as they were."
                if fixed
                else "  A row without a key cannot be told from others there: `migrate run --restart -s TABLE` loads all anew."
            )
    if still or lost:
        count = sum(o - r.replayed for _, o, r in outcomes)
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
    from migrate import quarantine

    if not note.strip():
        raise UsageError("--note is empty.", hint="Say who decided, and why: it is what an auditor will read.")
    with opened(flags) as work:
        _rejects_by_id(work, ids)
        waived = quarantine.settle(work.conn, ids, "waived", note)
    if flags.output == "json":
        print_json({"waived": waived})
    else:
        click.echo(f"{waived} waived.")
    if waived < len(set(ids)):
        raise FindingsError(
            f"{len(set(ids)) - waived} of {len(set(ids))} were not open any more.",
            hint="`migrate rejects list --state all`",
        )
