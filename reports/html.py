"""A report as one HTML file that needs nothing beside it: no network, no other file, and no script to be read.

Scripts only add sorting and a filter. The page's policy names its one style and its one script by their hashes, so that
nothing that stands in the data can run or be fetched.
"""

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from html import escape
from importlib.resources import files

from reports.markup import NOTHING, Html, join, plain, tag, text
from reports.model import FATES, STOPPED, Report
from reports.pictures import PATTERNS, bar
from reports.sections import SIGNS, sections, utc


def render(report: Report) -> str:
    """The page of a report."""
    title = f"{report.migration}: {_verdict(report)[1].lower()}"
    parts = [part for part in sections(report) if part[2]]
    return framed(title, _head(report), parts, _foot(report), dry_run=report.dry_run)


def framed(
    title: str, head: Html, parts: Sequence[tuple[str, str, Html]], foot: Html = NOTHING, *, dry_run: bool = False
) -> str:
    """A page of these parts, each (anchor, title, content), one of them `tables`."""
    style, script = (_asset(name) for name in ("page.css", "page.js"))
    policy = f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{plain(title)}</title>
<style>{style}</style>
</head>
<body{' class="dry-run"' if dry_run else ""}>
<a class="skip" href="#tables">Skip to the tables</a>
{PATTERNS}
<header>
{head}
</header>
{_navigation(parts, dry_run=dry_run)}
<main>
{join(_section(*part) for part in parts)}
</main>
<footer>
{foot}
</footer>
<p class="aside" id="said" role="status"></p>
<script>{script}</script>
</body>
</html>
"""


@cache
def _asset(name: str) -> str:
    return files("reports").joinpath(name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


# ------------------------------------------------------------------------------------------------------------- the head


def _verdict(report: Report) -> tuple[str, str, str]:
    """(class, words, sign) of the whole."""
    if report.failure is not None:
        stopped = report.failure.exit_code in STOPPED
        return ("open", "Stopped safely", "■") if stopped else ("bad", "Ended early", "✕")
    if report.accounted:
        return "good", "Every row would be accounted for" if report.dry_run else "Every row is accounted for", "✓"
    if not report.tables:
        return "open", "Nothing loaded yet", "○"
    if not all(t.balanced for t in report.tables):
        return "bad", "The accounting does not balance", "✕"
    if any(f.severity == "error" for f in report.findings):
        return "bad", "Source and target differ", "✕"
    return "open", "Not finished", "○"


def _head(report: Report) -> Html:
    style, verdict, sign = _verdict(report)
    dry = (
        '<p class="dry"><strong>Dry run.</strong> Nothing of this has happened: no row was written to the target.</p>'
        if report.dry_run
        else ""
    )
    made = tag("span", Html("made "), utc(report.made)) if report.made else NOTHING
    parts = [
        Html(dry),
        tag("p", tag("span", Html("Migration "), tag("b", text(report.migration))), made, class_="eyebrow"),
        tag("h1", Html(f'<span aria-hidden="true">{sign}</span> {escape(verdict)}'), class_=style),
        tag("p", text(report.sentence), class_="sentence"),
        tag("p", text(report.proof), class_="proof") if report.proof else NOTHING,
        _failure(report),
        _equation(report) if report.tables else NOTHING,
        tag("p", Html("Next: "), tag("code", text(report.next_command)), class_="next"),
    ]
    return join(parts, "\n")


def _failure(report: Report) -> Html:
    failure = report.failure
    if failure is None:
        return NOTHING
    hint = tag("p", text(failure.hint)) if failure.hint else NOTHING
    said = tag("p", tag("strong", text(failure.message)))
    return tag("div", said, hint, tag("p", Html(f"Exit code {failure.exit_code}."), class_="muted"), class_="failure")


def _equation(report: Report) -> Html:
    """read = loaded + merged + filtered + rejected, as large as what it says; the picture below it uses its signs."""
    totals = report.totals
    equal = totals["read"] == sum(totals[fate] for fate in FATES)
    terms = [tag("span", tag("b", Html(f"{totals['read']:,}")), Html(" <span>read</span>"), class_="term")]
    for fate in FATES:
        sign = SIGNS[fate] if equal or fate != "loaded" else "≠"
        swatch = f'<svg class="swatch" aria-hidden="true"><rect class="{fate}" width="100%" height="100%"/></svg>'
        counted = tag("b", Html(f"{totals[fate]:,}"), class_="" if totals[fate] else "zero")
        terms += [tag("i", Html(sign)), tag("span", counted, Html(f" <span>{swatch}{fate}</span>"), class_="term")]
    label = f"All tables, {totals['read']:,} rows read"
    picture = bar(label, {fate: totals[fate] for fate in FATES}, large=True)
    scale = tag("p", Html("In proportion, beyond a least width at which each part is seen."), class_="scale")
    return join([tag("p", join(terms, " "), class_="equation"), picture, scale])


def _navigation(parts: Sequence[tuple[str, str, Html]], *, dry_run: bool) -> Html:
    links = [tag("li", tag("a", Html(escape(title)), href=f"#{anchor}")) for anchor, title, _ in parts]
    dry = tag("strong", Html("Dry run"), class_="dry-mark") if dry_run else NOTHING
    tools = Html(
        '<div class="tools" hidden>'
        '<label>Filter <input type="search" id="filter" autocomplete="off" spellcheck="false"></label>'
        '<label><input type="checkbox" id="look"> only what needs attention</label>'
        '<output id="shown" for="filter look"></output></div>'
    )
    return tag("nav", dry, tag("ul", *links), tools, aria_label="Sections")


def _foot(report: Report) -> Html:
    listed = [tag("span", text(what), Html(" "), text(which)) for what, which in report.versions]
    return tag("p", join(listed, " · "))


def _section(anchor: str, title: str, content: Html) -> Html:
    heading = tag("h2", Html(escape(title)), id=f"{anchor}-title")
    return tag("section", heading, Html("\n"), content, id=anchor, aria_labelledby=f"{anchor}-title")
