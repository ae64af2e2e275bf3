"""Two reports compared: what is the same, what differs, and whether it matters."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console
from samples import company, dry, failed, hostile, many

from reports.compare import Comparison, compare, render, render_html, to_json
from reports.model import Report


def said(comparison: Comparison) -> str:
    stream = io.StringIO()
    render(comparison, Console(file=stream, width=200))
    return stream.getvalue()


def fewer(report: Report) -> Report:
    """One row of the first table is filtered that was loaded."""
    kunden = report.tables[0]
    return replace(
        report, tables=(replace(kunden, loaded=kunden.loaded - 1, filtered=kunden.filtered + 1), *report.tables[1:])
    )


def test_a_dry_run_and_its_run_are_the_same() -> None:
    found = compare(dry(), company())
    assert found.same
    assert [(t.name, t.state) for t in found.tables] == [
        ("kunden", "same"),
        ("bestellungen", "same"),
        ("société_régions", "left out"),
    ]
    assert found.sentence == "The fates of rows are the same: 3 tables compared."
    text = said(found)
    assert text.startswith("A: dry run of nordwind, made 2026-11-24T22:45:10+00:00. Would account for all")
    assert "left out" in text


def test_another_fate_of_one_row_is_a_difference_and_shown() -> None:
    found = compare(company(), fewer(company()))
    assert not found.same
    assert found.sentence == "The fates of rows differ in 1 of 3 tables: kunden."
    [loaded] = [line.split() for line in said(found).splitlines() if " loaded " in line and line.startswith("kunden")]
    assert loaded == ["kunden", "loaded", "1,190,400", "1,190,399", "-1"]
    assert [d.what for d in found.tables[0].differences] == ["loaded", "filtered"]


def test_a_table_of_one_side_and_one_that_is_not_complete_are_differences() -> None:
    found = compare(company(), failed())
    states = {t.name: t.state for t in found.tables}
    assert states == {"kunden": "same", "bestellungen": "differs", "société_régions": "only in A"}
    [complete] = [d for d in found.tables[1].differences if d.what == "complete"]
    assert (complete.a, complete.b) == ("yes", "no: loading")
    assert {t.state for t in compare(failed(), company()).tables} == {"same", "differs", "only in B"}
    neither = replace(failed(), tables=())
    assert compare(neither, neither).same


def test_other_rules_for_as_many_rows_are_shown_and_are_no_other_fate() -> None:
    kunden = company().tables[0]
    other = replace(kunden.rejects[3], column="geburt")
    b = replace(
        company(),
        tables=(replace(kunden, rejects=(*kunden.rejects[:3], other, *kunden.rejects[4:])), *company().tables[1:]),
    )
    found = compare(company(), b)
    assert found.same
    assert {(d.what, d.a, d.b) for d in found.tables[0].differences} == {
        ("rejected: type geboren", 41, 0),
        ("rejected: type geburt", 0, 41),
    }


@pytest.mark.parametrize(
    ("a", "b"), [(company(), company()), (dry(), failed()), (hostile(), many(20)), (company(), fewer(company()))]
)
def test_every_rendering_says_the_same(a: Report, b: Report) -> None:
    found = compare(a, b)
    form = json.loads(json.dumps(to_json(found)))
    assert (form["format"], form["same"], form["sentence"]) == (1, found.same, found.sentence)
    assert [t["name"] for t in form["tables"]] == [t.name for t in found.tables]
    assert "\x1b" not in said(found)
    page = render_html(found)
    assert page.count("<script") == 1
    rows = sum(max(len(t.differences), t.state != "same") for t in found.tables)
    assert page.split('id="tables-title"')[1].count('scope="row"') == rows
