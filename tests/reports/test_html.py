"""The page's text: what the data says is only ever text, every number stands there, and its policy names its own parts."""

import base64
import hashlib
import re
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import HOSTILE, company, different, dry, failed, hostile, many

from reports import html
from reports.markup import LIMIT, text
from reports.model import FATES, Failure, Found, Report
from reports.pictures import bar
from reports.sections import FINDINGS, duration

VOID = {"meta", "wbr", "input"}


@dataclass
class Parsed(HTMLParser):
    """A page's elements and texts; everything that is opened must be closed."""

    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.texts.append(data)


def parsed(page: str) -> Parsed:
    found = Parsed()
    found.feed(page)
    found.close()
    assert found.open == []
    return found


@pytest.mark.parametrize("report", [company(), different(), failed(), dry(), many(100), many(500), hostile()])
def test_the_page_is_well_formed_and_refers_to_nothing(report: Report) -> None:
    page = parsed(html.render(report))
    assert {"script", "style"} <= {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        assert tag not in ("link", "img", "iframe", "form", "base", "object"), tag
        assert not [name for name in attributes if name in ("src", "style") or name.startswith("on")], attributes
        assert (attributes.get("href") or "#").startswith("#")


def test_its_policy_names_its_style_and_script_by_hash_and_allows_nothing_else() -> None:
    page = html.render(company())
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    parts = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert parts["default-src"] == "'none'"
    for directive, tag in (("style-src", "style"), ("script-src", "script")):
        [content] = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert parts[directive] == f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def test_hostile_values_are_shown_as_they_are_and_do_nothing() -> None:
    page = html.render(hostile())
    found = parsed(page)
    assert [tag for tag, _ in found.tags].count("script") == 1
    said = "".join(found.texts)
    assert "</script><script>alert(1)</script>\\u202egnp.exe\\x00\\x1b[2J\\n&\"'<img src=https://evil.test/x" in said
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page)
    page.encode("utf-8")  # no half of a surrogate pair is left


@given(st.text(st.characters()))
def test_any_text_is_escaped_and_what_cannot_be_seen_is_spelled_out(value: str) -> None:
    found = parsed(text(value))
    said = "".join(found.texts)
    if value.isprintable() and len(value) <= LIMIT:
        assert said == value
    assert said.isprintable()
    assert {tag for tag, _ in found.tags} <= {"bdi", "span", "wbr"}


def test_a_long_value_is_cut_and_says_by_how_much() -> None:
    assert "… 4,000 more characters" in html.render(hostile())
    assert "".join(parsed(text("x" * (LIMIT + 1))).texts) == "x" * LIMIT + " … 1 more characters"


def test_every_number_of_every_table_is_there() -> None:
    report = many(100)
    page = html.render(report)
    for t in report.tables:
        numbers = "".join(
            f'<td class="n{"" if n else " zero"}" data-key="{n}">{n:,}</td>'
            for n in (getattr(t, fate) for fate in ("read", *FATES))
        )
        assert numbers in page, t.name


@given(
    st.fixed_dictionaries({fate: st.one_of(st.integers(0, 3), st.integers(0, 10**15)) for fate in FATES}),
    st.floats(0.05, 1.0),
)
def test_a_bar_shows_every_fate_that_occurs_and_is_as_long_as_what_is_done(
    counts: dict[str, int], share: float
) -> None:
    for large in (True, False):
        parts = re.findall(r'class="(\w+)" x="([\d.]+)%" width="([\d.]+)%"', bar("t", counts, share, large=large))
        assert [name for name, _, _ in parts] == [fate for fate in FATES if counts[fate]]
        widths = [float(width) for _, _, width in parts]
        least, length = 0.7 if large else 2.1, 100 * share if widths else 0
        assert all(width >= least - 0.01 for width in widths)
        # Where nearly nothing is done, what must be seen is longer than what is done.
        assert sum(widths) == pytest.approx(max(length, least * len(widths)), abs=0.1)
        order = sorted(zip((counts[name] for name, _, _ in parts), widths, strict=True))
        assert [width for _, width in order] == sorted(widths), "more rows are never shorter"


def test_what_is_wrong_is_said_in_words() -> None:
    def said(report: Report) -> str:
        return " ".join("".join(parsed(html.render(report)).texts).split())

    tilted = replace(company().tables[0], loaded=1)
    wrong = said(replace(company(), tables=(tilted,)))
    assert "The accounting does not balance" in wrong
    assert "does not balance: 1,204,377 ≠" in wrong
    assert "≠" in wrong.split("Next:")[0]
    assert "loading, 131 of 412 chunks" in said(failed())
    assert "cannot copy into public.bestellungen" in said(failed())
    assert "not started" in said(failed())
    assert "loaded before: nothing to do" in said(dry())
    assert "✕ 620 differences" in said(different())
    assert "No row was rejected." in said(replace(company(), tables=(company().tables[2],)))
    assert "Nothing loaded yet" in said(Report("m", (), (), (), ("a",), "migrate run"))
    stopped = replace(failed(), failure=Failure("Stopped safely.", "Run it again.", 130))
    assert "■ Stopped safely" in said(stopped)


def test_errors_come_before_warnings_and_the_rest_is_counted() -> None:
    report = different()
    page = html.render(report)
    assert page.count("data-look", page.index('id="findings-title"'), page.index('id="loads"')) == FINDINGS
    assert f"… and {len(report.findings) - FINDINGS} more" in page
    few = replace(report, findings=(Found("a", "warning", "t", "first"), Found("b", "error", "t", "second")))
    assert html.render(few).index("second") < html.render(few).index("first")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 s"), (59.9, "59.9 s"), (200.4, "3 min 20 s"), (3599.9, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_time_spans_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said


# ------------------------------------------------------------------------------------------------------------ the colours


def palettes() -> list[dict[str, str]]:
    """The light and the dark palette of the style sheet."""
    blocks = re.findall(r":root \{(.*?)\}", html._asset("page.css"), re.DOTALL)
    assert len(blocks) == 2
    return [dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in blocks]


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_texts_and_marks_stand_out_from_their_ground(scheme: int) -> None:
    palette = palettes()[scheme]
    for name in ("ink", "muted", "good", "bad", "open", "dry", "link"):
        for ground in ("page", "raised"):
            assert contrast(palette[name], palette[ground]) >= 4.5, (name, ground)
    for mark, ground in (
        ("loaded", "page"),
        ("rejected", "page"),
        ("merged-line", "merged-ground"),
        ("merged-line", "page"),
        ("filtered-dot", "filtered-ground"),
        ("filtered-dot", "page"),
        ("strong-line", "page"),
    ):
        assert contrast(palette[mark], palette[ground]) >= 3, (mark, ground)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("blindness", ["protan", "deutan", "tritan"])
def test_the_fates_stay_apart_for_the_colour_blind(scheme: int, blindness: str) -> None:
    """Loaded and rejected are both plain: they must differ for everyone (Machado 2009, full severity)."""
    matrices = {
        "protan": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
        "deutan": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
        "tritan": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
    }
    palette = palettes()[scheme]

    def seen(colour: str) -> list[float]:
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        return [sum(w * c for w, c in zip(row, rgb, strict=True)) for row in matrices[blindness]]

    distance = sum((a - b) ** 2 for a, b in zip(seen(palette["loaded"]), seen(palette["rejected"]), strict=True)) ** 0.5
    assert distance > 60


def test_hostile_is_what_it_says() -> None:
    assert not HOSTILE.isprintable()
