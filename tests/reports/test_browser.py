"""The page in a real browser: nothing leaves it, nothing fails in it, and it can be used by keyboard and read aloud."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route
from samples import company, different, dry, failed, hostile, many

from reports import html
from reports.compare import compare, render_html
from reports.model import Report

SAMPLES: dict[str, Callable[[], Report | str]] = {
    "company": company,
    "different": different,
    "failed": failed,
    "dry": dry,
    "100 tables": lambda: many(100),
    "hostile": hostile,
    "comparison": lambda: render_html(compare(many(20), failed())),
}


@dataclass
class Opened:
    """A page that is open, and what it did besides showing itself."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


Open = Callable[..., Opened]


@pytest.fixture
def open_page(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    contexts = []

    def open_(report: Report | str, *, scheme: str = "light", scripts: bool = True, width: int = 1280) -> Opened:
        file = tmp_path / "report.html"
        file.write_text(report if isinstance(report, str) else html.render(report), encoding="utf-8")
        context = browser.new_context(
            color_scheme=scheme,  # type: ignore[arg-type]
            java_script_enabled=scripts,
            viewport={"width": width, "height": 900},
        )
        context.set_default_timeout(5_000)
        contexts.append(context)
        opened = Opened(context.new_page())

        def only_itself(route: Route) -> None:
            opened.requests.append(route.request.url)
            if route.request.url == file.as_uri():
                route.continue_()
            else:
                route.abort()

        context.route("**/*", only_itself)
        opened.page.on("console", lambda message: opened.complaints.append(message.text))
        opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        opened.page.on("dialog", lambda dialog: opened.complaints.append(f"dialog: {dialog.message}"))
        opened.page.goto(file.as_uri())
        return opened

    yield open_
    for context in contexts:
        context.close()


@pytest.mark.parametrize("name", SAMPLES)
def test_nothing_leaves_the_page_and_nothing_fails_in_it(name: str, open_page: Open) -> None:
    opened = open_page(SAMPLES[name]())
    opened.page.wait_for_load_state("networkidle")
    assert opened.complaints == []
    assert opened.requests == [opened.page.url]


def test_what_the_data_would_run_or_fetch_is_refused_by_the_policy(open_page: Open) -> None:
    opened = open_page(company())
    opened.page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "document.title = 'taken over'";
        const image = document.createElement("img");
        image.src = "https://evil.test/x.png";
        document.body.append(script, image);
    }""")
    opened.page.wait_for_timeout(200)
    assert opened.page.title() == "nordwind: every row is accounted for"
    assert opened.requests == [opened.page.url]
    assert len(opened.complaints) == 2
    assert all("Content Security Policy" in said for said in opened.complaints)


# ------------------------------------------------------------------------------------------------- keyboard and filter


def column(page: Page, section: str, name: str) -> list[str]:
    """The texts of a column, as they stand."""
    return page.evaluate(  # type: ignore[no-any-return]
        """([section, name]) => {
            const table = document.querySelector(`#${section} table`);
            const at = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent.includes(name));
            return [...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) => row.cells[at].textContent);
        }""",
        [section, name],
    )


@pytest.mark.parametrize("number", [3, 100])
def test_tables_sort_by_keyboard(number: int, open_page: Open) -> None:
    page = open_page(company() if number == 3 else many(number)).page
    before = column(page, "tables", "read")
    button = page.locator("#tables thead").get_by_role("button", name="read")
    button.focus()
    page.keyboard.press("Enter")
    head = button.locator("xpath=ancestor::th")
    assert head.get_attribute("aria-sort") == "descending"
    numbers = [int(text.replace(",", "")) for text in column(page, "tables", "read")]
    assert numbers == sorted(numbers, reverse=True)
    assert len(numbers) == number
    assert [f"{n:,}" for n in numbers] != before or number == 1
    assert page.locator("#said").inner_text() == "Sorted by read, descending."
    page.keyboard.press("Space")
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(page, "tables", "read") == [f"{n:,}" for n in sorted(numbers)]
    page.locator("#tables thead").get_by_role("button", name="Table").press("Enter")
    assert head.get_attribute("aria-sort") is None, "one column at a time is sorted by"
    names = column(page, "tables", "Table")
    assert names[0].casefold() <= names[-1].casefold()
    assert page.locator("#tables tfoot").inner_text().startswith(f"{number:,} tables"), "the sum stays where it is"


def test_the_keyboard_reaches_the_page_in_its_order(open_page: Open) -> None:
    page = open_page(company()).page
    reached = []
    for _ in range(14):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent.trim() || document.activeElement.id"))
    assert reached[:3] == ["Skip to the tables", "Tables", "Rejected rows"]
    assert reached[10:14] == ["filter", "look", "Table", "read"]


def test_the_filter_leaves_rows_that_hold_every_word_and_says_how_many(open_page: Open) -> None:
    page = open_page(many(100)).page
    page.get_by_role("searchbox", name="Filter").fill("KUNDE_ dépôt")
    left = column(page, "tables", "Table")
    assert left
    assert all("kunde_" in name and "dépôt" in name for name in left)
    assert page.locator("#shown").inner_text().endswith(f"of {page.locator('main tbody tr').count()} rows")
    assert "hidden by the filter" in page.locator("#tables .filtered-out").inner_text(), "or a print would mislead"
    page.keyboard.press("Escape")
    assert len(column(page, "tables", "Table")) == 100
    assert page.locator(".filtered-out").count() == 0
    page.get_by_label("only what needs attention").check()
    assert all("open" in state for state in column(page, "tables", "State"))


def test_without_scripts_the_page_says_the_same(open_page: Open) -> None:
    with_scripts, without = (open_page(company(), scripts=scripts).page for scripts in (True, False))
    said = [page.locator("main").inner_text() for page in (with_scripts, without)]
    assert said[0] == said[1]
    assert not without.locator("#filter").is_visible(), "what does nothing is not shown"
    without.locator("#rejects summary").first.click()
    assert without.locator("#rejects details .item").first.is_visible()


# ------------------------------------------------------------------------------------------------------- accessibility

AUDIT = """() => {
    const wrong = [];
    const all = (selector) => [...document.querySelectorAll(selector)];
    const ids = all("[id]").map((e) => e.id);
    if (new Set(ids).size !== ids.length) wrong.push("an id stands twice");
    if (!document.documentElement.lang) wrong.push("no language");
    if (all("h1").length !== 1 || all("main").length !== 1) wrong.push("not one h1, one main");
    let level = 1;
    for (const h of all("h1, h2, h3")) {
        const here = Number(h.tagName[1]);
        if (here > level + 1) wrong.push(`${h.textContent}: a level of heading is left out`);
        level = here;
    }
    for (const e of all("[aria-labelledby]")) {
        if (!document.getElementById(e.getAttribute("aria-labelledby"))?.textContent) wrong.push("labelled by nothing");
    }
    for (const e of all("input")) if (!e.labels.length || !e.labels[0].textContent.trim()) wrong.push("an input without a label");
    for (const e of all("svg:not([aria-hidden])")) if (!e.getAttribute("aria-label")) wrong.push("a picture without words");
    for (const e of all("button, a, summary")) if (!e.textContent.trim()) wrong.push("a control without a name");
    for (const e of all("th")) if (!["col", "row"].includes(e.scope)) wrong.push("a th without scope");
    for (const t of all("table")) {
        if (!t.hasAttribute("aria-labelledby")) wrong.push("a table without a name");
        const width = t.tHead.rows[0].cells.length;
        for (const row of t.rows) if (row.cells.length !== width) wrong.push("a row of another width");
    }
    for (const e of all("a[href^='#']")) if (!document.querySelector(e.getAttribute("href"))) wrong.push("a link to nowhere");
    return wrong;
}"""

CONTRAST = """() => {
    const parse = (color) => (color.match(/[\\d.]+/g) ?? []).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = (e) => {
        for (; e; e = e.parentElement) {
            const color = parse(getComputedStyle(e).backgroundColor);
            if (color.length === 3 || color[3] === 1) return color;
        }
        return [255, 255, 255];
    };
    const low = {};
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node; (node = walker.nextNode());) {
        const e = node.parentElement;
        if (!node.textContent.trim() || !e.checkVisibility() || e.closest("script")) continue;
        const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
        const ratio = (a + 0.05) / (b + 0.05);
        if (ratio < 4.5) low[`${e.tagName}.${e.className}`] = ratio.toFixed(2);
    }
    return low;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", SAMPLES)
def test_everything_has_a_name_and_every_text_can_be_read(name: str, scheme: str, open_page: Open) -> None:
    page = open_page(SAMPLES[name](), scheme=scheme).page
    assert page.evaluate(AUDIT) == []
    assert page.evaluate(CONTRAST) == {}, "AA asks for 4.5:1"


def violations(page: Page) -> list[tuple[str, str]]:
    """What axe-core finds: (rule, the first element that breaks it)."""
    found = Axe().run(page).response["violations"]
    return [(v["id"], v["nodes"][0]["html"][:200]) for v in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", [name for name in SAMPLES if name not in ("100 tables", "different")])
def test_axe_finds_nothing(name: str, scheme: str, open_page: Open) -> None:
    assert violations(open_page(SAMPLES[name](), scheme=scheme).page) == []


def test_axe_finds_what_is_wrong(open_page: Open) -> None:
    page = open_page(company()).page
    page.evaluate("document.querySelector('#filter').labels[0].replaceWith(document.querySelector('#filter'))")
    page.evaluate("document.querySelector('.lead').style.color = '#ccc'")
    assert {rule for rule, _ in violations(page)} >= {"label", "color-contrast"}


@pytest.mark.parametrize("number", [40, pytest.param(500, marks=pytest.mark.soak)])
def test_axe_finds_nothing_among_many_tables(number: int, open_page: Open) -> None:
    """Five hundred keep axe busy for a minute or more."""
    page = open_page(many(number)).page
    page.set_default_timeout(600_000)
    assert violations(page) == []


def test_five_hundred_tables_open_sort_and_filter_at_once(open_page: Open) -> None:
    opened = open_page(many(500))
    page = opened.page
    assert (opened.complaints, opened.requests) == ([], [page.url])
    took = page.evaluate("""async () => {
        const began = performance.now();
        [...document.querySelectorAll("#tables thead button")][2].click();
        document.getElementById("filter").value = "kunde";
        document.getElementById("filter").dispatchEvent(new Event("input"));
        await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
        return performance.now() - began;
    }""")
    assert took < 3_000, "milliseconds, on a busy machine"
    assert 0 < len(column(page, "tables", "Table")) < 500
    assert page.evaluate(AUDIT) == []


@pytest.mark.parametrize("width", [700, 1000, 1280])
def test_the_head_of_a_table_hides_none_of_its_rows(width: int, open_page: Open) -> None:
    page = open_page(many(100), width=width).page
    hidden = page.evaluate("""() => [...document.querySelectorAll("main table")].filter((table) =>
        table.tBodies[0].rows.length
        && table.tBodies[0].rows[0].getBoundingClientRect().top < table.tHead.rows[0].cells[0].getBoundingClientRect().bottom - 1
    ).map((table) => table.getAttribute("aria-labelledby"))""")
    assert hidden == []


def test_the_throughput_is_drawn_and_said(open_page: Open) -> None:
    page = open_page(company()).page
    first = page.locator("#speed figure").first
    assert first.locator("figcaption").inner_text().startswith("Run 2: 16,472,500 rows in 23 min 24 s, ")
    box = first.locator("svg path").bounding_box()
    assert box is not None
    assert box["width"] > 500
    assert box["height"] > 50
    assert "Rows per second over time" in (first.get_by_role("img").get_attribute("aria-label") or "")


@pytest.mark.parametrize("number", [3, 100])
def test_it_prints(number: int, open_page: Open) -> None:
    page = open_page(company() if number == 3 else many(number)).page
    pdf = page.pdf(prefer_css_page_size=True)
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) >= number // 20 + 2


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("name", ["company", "hostile", "100 tables"])
def test_the_page_is_never_wider_than_the_window(name: str, width: int, open_page: Open) -> None:
    page = open_page(SAMPLES[name](), width=width).page
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_dry_run_is_marked_wherever_one_looks(open_page: Open) -> None:
    page = open_page(dry()).page
    assert page.locator("header").inner_text().startswith("DRY RUN.")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    mark = page.locator("nav .dry-mark")
    box = mark.bounding_box()
    assert box is not None
    assert 0 <= box["y"] < 900, "the mark stays in sight"
    assert open_page(company()).page.locator(".dry, .dry-mark").count() == 0


def test_on_paper_every_example_is_open_and_the_tools_are_gone(open_page: Open) -> None:
    page = open_page(company()).page
    page.emulate_media(media="print")
    assert page.locator("#rejects details .item").first.is_visible()
    assert not page.locator("nav").is_visible()
    heads = page.evaluate("getComputedStyle(document.querySelector('#tables thead th'), '::before').content")
    assert heads == '"Table"', "a head that is repeated on the next page holds its name"
