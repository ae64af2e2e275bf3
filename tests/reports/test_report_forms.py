"""A report for pipes, for Excel, for CI and for programs: what each kind of reader finds in it."""

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import openpyxl
import pytest
from junitparser import Failure as JUnitFailure
from junitparser import JUnitXml, Skipped
from samples import company, different, dry, failed, hostile, many

from reports import junit, listing, xlsx
from reports.model import Found, Report, to_json
from reports.schema import from_json, json_schema, schema_text
from reports.terminal import render_json

SAMPLES: list[Callable[[], Report]] = [company, different, failed, dry, lambda: many(100), hostile]


# ------------------------------------------------------------------------------------------------------ JSON and schema


def closed(schema: Any) -> Any:
    """The schema with every object closed, so that a field it does not name is seen."""
    if isinstance(schema, list):
        return [closed(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    shut = {"additionalProperties": False} if "properties" in schema else {}
    return {**{k: closed(v) for k, v in schema.items()}, **shut}


@pytest.mark.parametrize("make", SAMPLES)
def test_every_report_is_as_the_published_schema_says_and_is_read_again(make: Callable[[], Report]) -> None:
    form = json.loads(render_json(make()))
    jsonschema.validate(form, json_schema())
    jsonschema.validate(form, closed(json_schema()))
    assert to_json(from_json(form)) == form


def test_the_schema_is_itself_valid_and_the_one_that_is_published() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    published = Path(__file__).parents[2] / "docs/report.schema.json"
    assert published.read_text(encoding="utf-8") == schema_text(), "run `make docs`"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "it is of format 2, and this version reads format 1"),
        ({"tables": {}}, "report.tables is no array"),
        ({"dry_run": "no"}, "report.dry_run is 'no'"),
        ({"runs": [{"epoch": True}]}, "report.runs[0].epoch is True"),
        ({"runs": [{}]}, "report.runs[0]: missing 6 required positional arguments"),
        ({"versions": [["a"]]}, "report.versions[0] has 1 items and not 2"),
    ],
)
def test_what_is_no_report_is_said_to_be_none_and_where(change: dict[str, Any], said: str) -> None:
    form = to_json(company()) | change
    assert not jsonschema.Draft202012Validator(json_schema()).is_valid(form)
    with pytest.raises(ValueError, match=re.escape(said)):
        from_json(form)
    with pytest.raises(ValueError, match="it is no report"):
        from_json([1])


# ------------------------------------------------------------------------------------------------------------------ CSV


def test_the_csv_has_a_line_for_each_finding_and_each_kind_of_reject() -> None:
    report = different()
    lines = list(csv.DictReader(io.StringIO(listing.render(report))))
    found = [line for line in lines if line["kind"] == "finding"]
    assert len(found) == len(report.findings)
    assert found[0]["key"] == "id=700"
    assert (found[0]["level"], found[0]["expected"], found[0]["actual"]) == ("rows", "'Köln'", "'Koeln'")
    rejects = [line for line in lines if line["kind"] == "rejects"]
    assert sum(int(line["rows"]) for line in rejects) == sum(r.rows for t in report.tables for r in t.rejects)
    assert rejects[3]["where"] == "export/kunden_2019.csv:1046"


def test_no_control_character_is_in_the_csv_and_every_line_has_all_columns() -> None:
    text = listing.render(hostile())
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202e]", text)
    assert {len(line) for line in csv.reader(io.StringIO(text))} == {len(listing.COLUMNS)}


# ---------------------------------------------------------------------------------------------------------------- Excel


def opened(report: Report) -> Any:
    return openpyxl.load_workbook(io.BytesIO(xlsx.render(report)))


def records(book: Any, sheet: str) -> list[dict[str, Any]]:
    heads, *rows = book[sheet].iter_rows(values_only=True)
    return [dict(zip(heads, row, strict=True)) for row in rows]


def test_the_workbook_says_what_the_report_says_with_numbers_that_add_up() -> None:
    report = different()
    book = opened(report)
    assert book.sheetnames == ["Summary", "Tables", "Rejects", "Findings", "Duplicates", "Runs"]
    tables = records(book, "Tables")
    for fate, total in report.totals.items():
        assert sum(t[fate] for t in tables) == total
    assert sum(r["Rows"] or 0 for r in records(book, "Rejects")) == sum(
        r.rows for t in report.tables for r in t.rejects
    )
    assert [f["What was found"] for f in records(book, "Findings")] == [f.message for f in report.findings]
    assert {"Table": "kunden", "Rule": "email", "Survivor": "KundenNr=077120", "Merged into it": "KundenNr=077121"} in (
        records(book, "Duplicates")
    )
    [run, *_] = records(book, "Runs")
    assert (run["Run"], run["Started"]) == (3, datetime(2026, 11, 24, 22, 18))
    said = {r["What"]: r["Value"] for r in records(book, "Summary")}
    assert (said["In a sentence"], said["read"]) == (report.sentence, 19_934_806)


def test_heads_stay_in_sight_and_filter() -> None:
    for sheet in opened(company()):
        assert sheet.freeze_panes == "A2"
        assert sheet.auto_filter.ref == sheet.dimensions
        assert all(sheet.column_dimensions[c.column_letter].width >= 8 for c in sheet[1])


@pytest.mark.parametrize(
    "value", ["=1+1", "+1", "-1", "@SUM(A1)", "#N/A", "TRUE", "=cmd|' /C calc'!A0", " =1", "\t=1", "2026-11-24", "007"]
)
def test_a_text_is_a_text_whatever_it_looks_like(value: str) -> None:
    book = opened(replace(company(), findings=(Found("a", "error", "kunden", value, value, value, value),)))
    row = book["Findings"][2]
    for cell in (row[4], row[5], row[6], row[7]):
        assert cell.data_type == "s"
        assert cell.value == value.replace("\t", "\\t")
        assert cell.quotePrefix == (value[0] in "=+-@")


def test_what_no_cell_can_hold_is_spelled_out_or_cut() -> None:
    book = opened(hostile())
    assert "\\x00\\x1b[2J\n" in records(book, "Findings")[0]["Key"]
    assert "\\u202e" in records(book, "Findings")[0]["Key"]
    long = opened(replace(company(), findings=(Found("a", "error", "kunden", "x" * 40_000),)))
    said = records(long, "Findings")[0]["What was found"]
    assert len(said) <= xlsx.LETTERS
    assert said.endswith("… 7,273 more characters")


def test_a_sheet_is_never_longer_than_excel_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xlsx, "ROWS", 100)
    book = opened(different())
    assert len(records(book, "Findings")) == 100
    assert {"What": "Findings", "Value": "the first 100 of 623; --format csv has them all"} in records(book, "Summary")


# ---------------------------------------------------------------------------------------------------------------- JUnit


def cases(report: Report) -> dict[tuple[str, str], Any]:
    """By table and name, the result of each test case; None where it passed."""
    found = {}
    for suite in JUnitXml.fromstring(junit.render(report).encode()):
        for case in suite:
            assert (suite.name, case.name) not in found
            found[suite.name, case.name] = case.result[0] if case.result else None
    return found


def test_all_that_is_accounted_for_passes() -> None:
    found = cases(company())
    assert set(found) == {
        (t, c) for t in ("kunden", "bestellungen", "société_régions") for c in ("complete", "balanced", "rows")
    }
    assert not any(found.values())


def test_each_check_that_found_something_fails_and_says_what() -> None:
    found = cases(different())
    failure = found["kunden", "rows.differ"]
    assert isinstance(failure, JUnitFailure)
    assert failure.message == "620 differences"
    assert "id=700: ort should be 'Köln'" in failure.text
    assert f"and {620 - junit.FINDINGS} more" in failure.text
    assert isinstance(found["bestellungen", "counts.target"], JUnitFailure)
    assert found["kunden", "expectations"] is None, "a warning fails nothing"
    assert found["bestellungen", "rows"] is None
    whole = JUnitXml.fromstring(junit.render(different()).encode())
    assert (whole.failures, whole.tests) == (2, len(found))


def test_what_was_not_done_fails_or_is_skipped() -> None:
    found = cases(failed())
    assert found["bestellungen", "complete"].message == "loading, 131 of 412 chunks"
    assert found["société_régions", "complete"].message == "not started"
    assert found["run", "ended"].message.startswith("exit 75: cannot copy into")
    assert isinstance(found["kunden", "verified"], Skipped)
    tilted = replace(company(), tables=(replace(company().tables[0], loaded=1),))
    assert "1,204,377 read is not 1 loaded" in cases(tilted)["kunden", "balanced"].message


@pytest.mark.parametrize("make", SAMPLES)
def test_the_numbers_of_each_suite_are_those_of_its_cases(make: Callable[[], Report]) -> None:
    text = junit.render(make())
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", text)
    for suite in JUnitXml.fromstring(text.encode()):
        counted = (suite.tests, suite.failures, suite.skipped, suite.errors)
        suite.update_statistics()
        assert counted == (suite.tests, suite.failures, suite.skipped, suite.errors)
        for case in suite:
            assert len(case.result) <= 1, "some readers know one result a case only"
