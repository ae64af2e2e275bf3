"""The command `migrate report`: the report in every form, two of them compared, and evidence written and checked."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from migrate.command import (
    Common,
    chosen,
    common,
    console,
    named_on_the_command_line,
    opened,
    print_json,
    show_report,
)
from migrate.errors import FindingsError, UsageError

if TYPE_CHECKING:
    from reports.model import Report

_FORMS = ("table", "json", "html", "csv", "xlsx", "junit")
_FILES = {"html": "migrate-report.html", "xlsx": "migrate-report.xlsx"}
"""Forms that are for no terminal and no pipe, and what their file is called where -o does not say."""


@click.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMS),
    default=None,
    help="As --output; or html, one page that needs nothing beside it; csv of findings and rejects; xlsx; junit, for CI.",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="The file to write [default: migrate-report.html or .xlsx; the others go to standard output].",
)
@click.option(
    "--compare",
    nargs=2,
    type=click.Path(path_type=Path),
    metavar="A B",
    help="Compare two reports, JSON files as --format json writes them. Exit code 3 where the fates of rows differ.",
)
@click.option(
    "--evidence",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write report, plan, receipts and findings with a manifest of their digests into a folder that is not there yet.",
)
@click.option(
    "--sign-key",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Sign the evidence with this Ed25519 key (PEM).",
)
@click.option(
    "--check",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Is this evidence as it was written? Exit code 3 where a file was altered, added or is missing.",
)
@click.option(
    "--public-key",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Whose signature the evidence must have (PEM).",
)
@common
def report(
    flags: Common,
    form: str | None,
    out: Path | None,
    compare: tuple[Path, Path] | None,
    evidence: Path | None,
    sign_key: Path | None,
    check: Path | None,
    public_key: Path | None,
) -> None:
    """The report of the migration so far. Exit code 3 unless every row is accounted for.

    \b
    migrate report
    migrate report --format json > report.json
    migrate report --format html -o report.html
    migrate report --format junit -o migrate.xml
    migrate report --compare rehearsal.json report.json
    migrate report --evidence evidence/ --sign-key key.pem
    migrate report --check evidence/ --public-key public.pem
    """
    _refuse(form or flags.output, out, compare, evidence, sign_key, check, public_key)
    if check is not None:
        _check(flags, check, public_key)
    elif compare is not None:
        _compare(form or flags.output, out, *compare)
    elif evidence is not None:
        _evidence(flags, evidence, sign_key)
    else:
        _report(flags, form or flags.output, out)


def _refuse(
    form: str,
    out: Path | None,
    compare: tuple[Path, Path] | None,
    evidence: Path | None,
    sign_key: Path | None,
    check: Path | None,
    public_key: Path | None,
) -> None:
    """Raise UsageError for options that say nothing together."""
    if sum(each is not None for each in (compare, evidence, check)) > 1:
        raise UsageError("--compare, --evidence and --check are asked for one at a time.")
    if sign_key is not None and evidence is None:
        raise UsageError("--sign-key signs evidence.", hint="Say where to write it: --evidence DIR.")
    if public_key is not None and check is None:
        raise UsageError("--public-key checks the signature of evidence.", hint="Say of which: --check DIR.")
    if compare is not None and form not in ("table", "json", "html"):
        raise UsageError(f"A comparison has no form {form}.", hint="There are table, json and html.")
    if out is not None and (evidence is not None or check is not None):
        raise UsageError("-o names the file of a report or a comparison.", hint="Evidence goes where --evidence says.")
    if out is not None and form == "table":
        raise UsageError("-o names the file of another --format than table.", hint="For a table: > FILE.")


def _report(flags: Common, form: str, out: Path | None) -> None:
    from migrate.conclude import refuse_unwritable
    from migrate.status import gather

    out = out or (Path(_FILES[form]) if form in _FILES else None)
    if out is not None:
        refuse_unwritable(out)
    with opened(flags) as work:
        found = gather(work.conn, work.project, chosen(flags, work.project))
    if form == "table":
        show_report(flags, found)
    else:
        _put(_rendered(found, form), out)
    _refuse_unaccounted(found)


def _refuse_unaccounted(found: "Report") -> None:
    if not found.accounted:
        raise FindingsError("Not everything is accounted for.", hint="See the report.")


def _rendered(found: "Report", form: str) -> bytes:
    from reports import html, junit, listing, terminal, xlsx

    if form == "xlsx":
        return xlsx.render(found)
    if form == "json":
        text = terminal.render_json(found) + "\n"
    else:
        text = {"html": html.render, "csv": listing.render, "junit": junit.render}[form](found)
    return text.encode("utf-8", "backslashreplace")


def _put(content: bytes, out: Path | None) -> None:
    """Write to a file, or to standard output."""
    from migrate.conclude import write

    if out is None:
        click.echo(content, nl=False)
        return
    with named_on_the_command_line(out):
        write(out, content)
    click.echo(f"Wrote {out}.")


def _compare(form: str, out: Path | None, a: Path, b: Path) -> None:
    from migrate.conclude import refuse_unwritable
    from reports import compare
    from reports.terminal import render_json

    if form == "html":
        out = out or Path("migrate-comparison.html")
    if out is not None:
        refuse_unwritable(out)
    found = compare.compare(_read(a), _read(b))
    if form == "table":
        compare.render(found, console())
    elif form == "html":
        _put(compare.render_html(found).encode(), out)
    else:
        _put(f"{render_json(compare.to_json(found))}\n".encode("utf-8", "backslashreplace"), out)
    if not found.same:
        raise FindingsError("The fates of rows differ.", hint="See the comparison.")


def _read(file: Path) -> "Report":
    import json

    from reports.schema import from_json

    hint = "Make one: migrate report --format json > FILE; of a dry run: migrate run --dry-run --output json > FILE."
    try:
        return from_json(json.loads(file.read_bytes()))
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror or error}", hint=hint) from error
    except RecursionError as error:
        raise UsageError(f"{file}: it is no report", hint=hint) from error
    except ValueError as error:
        said = "it is no JSON" if isinstance(error, json.JSONDecodeError | UnicodeDecodeError) else error
        raise UsageError(f"{file}: {said}", hint=hint) from error


def _evidence(flags: Common, folder: Path, sign_key: Path | None) -> None:
    from migrate import evidence, manifest

    with named_on_the_command_line(folder):
        evidence.refuse_unwritable(folder)
    key = manifest.private_key(sign_key) if sign_key is not None else None
    with opened(flags) as work:
        names = chosen(flags, work.project)
        with named_on_the_command_line(folder):
            found = evidence.write(work, names, folder, key)
    by = f"signed by {manifest.fingerprint(key.public_key())}" if key else "not signed: --sign-key FILE signs it"
    click.echo(f"Wrote {folder}, {by}.")
    _refuse_unaccounted(found)


def _check(flags: Common, folder: Path, public_key: Path | None) -> None:
    from migrate import manifest
    from reports.terminal import printable

    key = manifest.public_key(public_key) if public_key is not None else None
    wrong, by = manifest.check(folder, key), manifest.signer(folder)
    if flags.output == "json":
        print_json({"ok": not wrong, "findings": wrong, "signed_by": by, "signature_checked": key is not None})
    else:
        for line in wrong:
            click.secho(printable(line), fg="red")
        if key is None and manifest.has_signature(folder):
            click.echo(f"The signature {manifest.SIGNATURE} was not looked at: --public-key FILE checks it.")
    if wrong:
        raise FindingsError(f"{folder} is not as it was written.", hint="Ask whoever wrote it for another copy.")
    if flags.output == "json":
        return
    click.secho("Nothing was altered, added or is missing since the manifest was written.", fg="green")
    if key is not None:
        click.echo(f"The signature is good: {by}.")
    else:
        said = "It is not signed" if by is None else f"It says that it is signed by {by}, which was not checked"
        click.echo(f"{said}: whoever can write the folder could have written all of it anew.")
