"""The sentence that a report is, and its JSON form."""

import json
from dataclasses import replace

import pytest
from samples import company, different, dry, failed

from reports.model import FORMAT, Failure, Found, Report, to_json
from reports.terminal import render_json


def test_the_sentence_of_what_was_loaded() -> None:
    report = company()
    assert report.sentence == (
        "All 19,934,806 source rows are accounted for: 19,920,812 loaded, 1,860 merged, 12,040 filtered, 94 rejected."
    )
    assert report.accounted
    assert different().sentence == "621 differences were found between source and target."
    assert not different().accounted
    one = replace(company(), findings=(Found("a", "error", "kunden", "x"), Found("b", "warning", "kunden", "y")))
    assert one.sentence == "1 difference was found between source and target."
    assert Report("m", (), (), (), ("a",), "migrate run").sentence == "Nothing has been loaded yet."


def test_the_sentence_of_a_run_that_ended_early_says_so_first() -> None:
    report = failed()
    assert report.sentence.startswith("The run ended early (exit 75). Not finished: bestellungen, société_régions. Of ")
    assert not report.accounted
    whole = replace(company(), failure=Failure("x", "", 4))
    assert whole.sentence.startswith("The run ended early (exit 4). All 19,934,806 source rows are accounted for")
    assert not whole.accounted, "a page beside a failed run must not look like success"
    assert replace(report, failure=Failure("x", "", 143)).sentence.startswith("The run was stopped safely (exit 143). ")


def test_a_dry_run_says_what_would_be() -> None:
    report = dry()
    assert report.sentence.startswith("Would account for all 19,934,489 source rows: 19,920,509 loaded")
    assert report.sentence.endswith("Nothing has been written.")
    assert report.accounted
    tilted = replace(report, tables=(replace(report.tables[0], loaded=1),))
    assert tilted.sentence == "Would not be accounted for: the accounting of kunden does not balance."
    unfinished = replace(report, not_started=tuple("abcdefgh"))
    assert unfinished.sentence.startswith("Would not finish: a, b, c, d, e and 3 more. Of 19,934,489 source rows tried")
    nothing = replace(report, tables=())
    assert nothing.sentence == "Nothing would be done: every table is loaded already."
    assert nothing.accounted
    assert replace(report, failure=Failure("x", "", 1)).sentence.startswith("The dry run ended early (exit 1). Would ")


@pytest.mark.parametrize("report", [company(), different(), failed(), dry()])
def test_the_json_form_holds_everything(report: Report) -> None:
    form = json.loads(render_json(report))
    assert form == to_json(report)
    assert (form["format"], FORMAT) == (1, 1)
    assert form["sentence"] == report.sentence
    assert form["totals"]["read"] == sum(t["read"] for t in form["tables"])
    kunden = form["tables"][0]
    assert kunden["duplicates"]["samples"][1]["losers"] == ["KundenNr=018823", "KundenNr=222104"]
    reject = kunden["rejects"][3]
    assert (reject["sample"], reject["where"]) == (reject["samples"][0]["reason"], reject["samples"][0]["where"])
    assert form["tables"][1]["orphans"] == [{"column": "vertreter_id", "policy": "set to NULL", "rows": 118}]
    assert form["versions"][0] == ["aurora-migrate", "0.1.0"]
