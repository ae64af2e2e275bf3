"""What a run leaves for those who did not watch it: a page and a notification, however it ends."""

import csv
import io
import json
import re
import signal
import sys
from pathlib import Path
from typing import Any

import jsonschema
import openpyxl
import psycopg
import pytest
from junitparser import JUnitXml
from servers import free_port

from e2e.rig import Rig

PROJECT = """\
migration: acme
target: ${env:TARGET_URL}
sources:
  crm:
    files: {customers: "landing/customers*.csv", orders: landing/orders.csv}
tables:
  customers:
    from: crm.customers
    key: id
    columns: {id: {value: id, type: int}, name: {value: name, type: varchar(10)}}
    primary_key: id
  orders:
    from: crm.orders
    key: id
    columns: {id: {value: id, type: int}, customer: {value: customer, type: int}}
    primary_key: id
"""
TELL = """\
import json, os, sys
with open("told.jsonl", "a") as told:
    told.write(json.dumps({**json.load(sys.stdin), "env": os.environ["MIGRATE_OUTCOME"]}) + "\\n")
"""


@pytest.fixture
def shop(rig: Rig) -> Rig:
    """Two small tables, and a command that writes down what it is told."""
    rig.write("tell.py", TELL)
    rig.write("migrate.yaml", f"{PROJECT}notify:\n  command: {sys.executable} tell.py\n")
    rig.write("landing/customers.csv", "id,name\n" + "".join(f"{n},Name {n}\n" for n in range(1, 101)))
    rig.write("landing/orders.csv", "id,customer\n" + "".join(f"{n},{n % 100 + 1}\n" for n in range(1, 201)))
    return rig


def told(shop: Rig) -> list[dict[str, Any]]:
    """What the command was told, run by run; secrets are in none of it."""
    text = (shop.folder / "told.jsonl").read_text()
    assert shop.url not in text
    return [json.loads(line) for line in text.splitlines()]


def page(shop: Rig, name: str = "report.html") -> str:
    return (shop.folder / name).read_text(encoding="utf-8")


def test_a_page_is_written_at_the_end_of_a_run_and_whenever_it_is_asked_for(shop: Rig) -> None:
    run = shop.migrate("run", "--report", "report.html", "--output", "json")
    assert run.json()["accounted"], "standard output is the report's alone"
    assert "Wrote report.html." in run.err
    assert "All 300 source rows are accounted for: 300 loaded." in page(shop)
    for what in ("PostgreSQL", "DuckDB", "crm.customers", "migrate verify"):
        assert what in page(shop)
    assert shop.migrate("report", "--format", "html").out == "Wrote migrate-report.html.\n"
    shop.migrate("verify")
    shop.migrate("report", "--format", "html", "-o", "again.html")
    assert "✓ equal (rows)" in page(shop, "again.html")
    [body] = told(shop)
    assert (body["outcome"], body["exit"], body["env"], body["error"]) == ("ok", 0, "ok", None)
    assert body["text"] == "acme: All 300 source rows are accounted for: 300 loaded."
    assert {t["name"]: (t["read"], t["loaded"], t["complete"]) for t in body["tables"]} == {
        "customers": (100, 100, True),
        "orders": (200, 200, True),
    }
    assert Path(body["report"]) == shop.folder / "report.html"
    assert body["started"] <= body["finished"]
    assert not [p.name for p in shop.folder.iterdir() if p.name.startswith(".")], "no half of a page is left"


def test_the_json_report_says_what_took_part_and_when(shop: Rig) -> None:
    shop.migrate("run")
    form = shop.migrate("report", "--format", "json").json()
    assert [what for what, _ in form["versions"]] == ["aurora-migrate", "Python", "PostgreSQL", "DuckDB", "PyArrow"]
    assert all(version[0].isdigit() for _, version in form["versions"])
    assert form["made"].endswith("+00:00")
    assert [t["source"] for t in form["tables"]] == ["crm.customers", "crm.orders"]
    assert form["totals"] == {"read": 300, "loaded": 300, "merged": 0, "filtered": 0, "rejected": 0}


def test_every_form_goes_to_a_file_or_through_a_pipe_and_fits_the_schema(shop: Rig) -> None:
    shop.write("landing/customers_2.csv", "id,name\n901,a name too long\n")
    shop.migrate("run", "--max-rejects", "5")
    shop.migrate("verify")
    schema = shop.migrate("schema", "--of", "report").json()
    form = shop.migrate("report", "--format", "json").json()
    jsonschema.validate(form, schema)
    [run] = form["throughput"]
    assert (sum(run["rows"]), run["epoch"]) == (301, 1)
    assert form["proof"] == "Proved: source and target are equal row by row."
    for t in form["tables"]:
        assert re.fullmatch("[0-9a-f]{64}", t["plan"])
        assert t["digest"]
        assert t["hash"].startswith("duckdb-")
    [line] = csv.DictReader(io.StringIO(shop.migrate("report", "--format", "csv").out))
    assert (line["kind"], line["table"], line["rows"], line["check"]) == ("rejects", "customers", "1", "length")
    assert line["where"] == "landing/customers_2.csv:2"
    assert shop.migrate("report", "--format", "junit", "-o", "out.xml").out == "Wrote out.xml.\n"
    suites = JUnitXml.fromfile(str(shop.folder / "out.xml"))
    assert (suites.tests, suites.failures, suites.skipped) == (6, 0, 0)
    assert shop.migrate("report", "--format", "xlsx").out == "Wrote migrate-report.xlsx.\n"
    book = openpyxl.load_workbook(shop.folder / "migrate-report.xlsx")
    assert [row[4].value for row in book["Tables"].iter_rows(min_row=2)] == [101, 200]
    shop.sql("UPDATE orders SET customer = 7 WHERE id = 9")
    shop.migrate("verify", code=3)
    assert 'name="rows.differ"' in shop.migrate("report", "--format", "junit", code=3).out
    first = next(csv.DictReader(io.StringIO(shop.migrate("report", "--format", "csv", code=3).out)))
    assert (first["level"], first["check"], first["key"], first["actual"]) == ("rows", "rows.differ", "id=9", "7")
    jsonschema.validate(shop.migrate("report", "--format", "json", code=3).json(), schema)


def test_a_dry_run_and_its_run_are_compared(shop: Rig) -> None:
    shop.write("landing/customers_2.csv", "id,name\n901,a name too long\n")
    shop.write("a.json", shop.migrate("run", "--dry-run", "--max-rejects", "5", "--output", "json").out)
    shop.write("b.json", shop.migrate("run", "--max-rejects", "5", "--output", "json").out)
    same = shop.migrate("report", "--compare", "a.json", "b.json").out
    assert "The fates of rows are the same: 2 tables compared." in same
    assert "A: dry run of acme" in same
    assert not shop.migrate("report", "--compare", "a.json", "b.json", "--output", "json").json()["tables"][0][
        "differences"
    ]
    shop.write("landing/customers_3.csv", "id,name\n902,this one as well\n903,Zoë\n")
    shop.write("c.json", shop.migrate("run", "--max-rejects", "5", "--output", "json").out)
    differs = shop.migrate("report", "--compare", "b.json", "c.json", code=3)
    lines = [line.split() for line in differs.out.splitlines()]
    assert ["customers", "read", "101", "103", "+2"] in lines
    assert ["customers", "rejected", "1", "2", "+1"] in lines
    assert not any(line[0] == "orders" for line in lines if line)
    said = shop.migrate("report", "--compare", "b.json", "c.json", "--format", "html", "-o", "ab.html", code=3).out
    assert said == "Wrote ab.html.\n"
    assert "The fates of rows differ in 1 of 2 tables: customers." in page(shop, "ab.html")
    shop.write("bad.json", '{"format": 1}')
    for pair, why in (
        (("nowhere.json", "a.json"), "nowhere.json cannot be read: No such file"),
        (("a.json", "bad.json"), "bad.json: it is no report"),
        (("migrate.yaml", "a.json"), "migrate.yaml: it is no JSON"),
    ):
        assert why in shop.migrate("report", "--compare", *pair, code=2).err
    assert "no form csv" in shop.migrate("report", "--compare", "a.json", "b.json", "--format", "csv", code=2).err


def test_what_the_notification_command_prints_is_an_event_among_json_lines(shop: Rig) -> None:
    shop.environment["WORD"] = "Geheim-123"
    command = "sh -c 'cat >told.txt; echo said {}; echo \"${env:WORD}\" >&2'"
    shop.write("migrate.yaml", f"{PROJECT}notify:\n  command: {json.dumps(command)}\n")
    events = shop.migrate("run", "--log-format", "json").events()
    said = [e["message"] for e in events if e["event"] == "notify"]
    assert said == ["said {}", "***"]
    assert "said {}\n" in shop.migrate("run").err, "as it is, where the log is text"


def test_a_page_that_cannot_be_written_is_refused_before_the_run(shop: Rig) -> None:
    for where, why in (("nowhere/report.html", "there is no folder nowhere"), ("landing", "it is a folder")):
        assert why in shop.migrate("run", "--report", where, code=2).err
    assert not shop.value("SELECT to_regclass('migrate_ledger.run') IS NOT NULL")
    assert "another --format than table" in shop.migrate("report", "-o", "x.html", code=2).err


def test_a_link_or_a_device_is_written_into_and_not_replaced(shop: Rig) -> None:
    shop.migrate("run")
    shop.write("there/report.html", "")
    (shop.folder / "here.html").symlink_to("there/report.html")
    shop.migrate("report", "--format", "html", "-o", "here.html")
    assert (shop.folder / "here.html").is_symlink()
    assert "All 300 source rows" in page(shop, "there/report.html")
    assert "All 300 source rows" in shop.migrate("report", "--format", "html", "-o", "/dev/stdout").out
    assert Path("/dev/stdout").is_symlink()


def test_a_run_that_fails_leaves_a_page_that_says_why_and_how_far_it_came(shop: Rig) -> None:
    shop.write("landing/customers_2.csv", "id,name\n" + "".join(f"{n},a name too long\n" for n in range(901, 911)))
    ended = shop.migrate("run", "-s", "customers", "--report", "report.html", "--max-rejects", "5", "-j", "1", code=3)
    assert "10 rows rejected" in ended.err
    said = page(shop)
    assert (
        "The run ended early (exit 3). Not finished: customers. Of 110 rows read so far: 100 loaded, 10 rejected."
        in said
    )
    assert "customers: 10 rows rejected, and at most 5 may be" in said
    assert "id=901" in said
    [body] = told(shop)
    assert (body["outcome"], body["exit"], body["env"]) == ("findings", 3, "findings")
    assert "10 rows rejected" in body["error"]["message"]
    assert [t["rejected"] for t in body["tables"]] == [10]
    shop.migrate("run", "--report", "report.html", "--max-rejects", "20")
    assert "ended early" not in page(shop)


def test_a_run_that_fails_before_it_loads_does_not_leave_the_page_of_an_earlier_success(shop: Rig) -> None:
    shop.migrate("run", "--report", "report.html")
    (shop.folder / "landing/orders.csv").unlink()
    shop.migrate("run", "--report", "report.html", code=6)
    assert "The run ended early (exit 6)." in page(shop)
    assert "Every row is accounted for" not in page(shop)
    assert [(b["outcome"], b["exit"]) for b in told(shop)] == [("ok", 0), ("failed", 6)]


def test_a_target_that_cannot_be_reached_is_told_too(shop: Rig) -> None:
    shop.write("report.html", "of an earlier run")
    shop.environment["TARGET_URL"] = f"postgresql://me:hunter2@127.0.0.1:{free_port()}/x"
    ended = shop.try_("run", "--report", "report.html")
    assert ended.code == 75
    assert "cannot connect to the target" in ended.err.splitlines()[-2], "the run's own error is the last that is said"
    assert "report.html was not written" in ended.err
    assert page(shop) == "of an earlier run"
    [body] = told(shop)
    assert (body["outcome"], body["exit"], body["tables"], body["report"]) == ("failed", 75, [], None)
    assert "hunter2" not in json.dumps(body) + ended.said


def test_a_safe_stop_is_told_as_one(shop: Rig) -> None:
    shop.migrate("run")
    with psycopg.connect(shop.url) as conn:
        shop.write("landing/customers_2.csv", "id,name\n1001,x\n")
        conn.execute("LOCK TABLE customers IN EXCLUSIVE MODE")
        running = shop.start("run", "--report", "report.html")
        running.until(lambda lines: any("customers" in line for line in lines))
        running.process.send_signal(signal.SIGTERM)
        running.until(lambda lines: any("Stopping" in line for line in lines))
        conn.rollback()
    assert running.end().code == 143
    assert "The run was stopped safely (exit 143)." in page(shop)
    assert [(b["outcome"], b["exit"]) for b in told(shop)] == [("ok", 0), ("stopped", 143)]


def test_a_notification_that_fails_is_a_warning_and_changes_nothing(shop: Rig) -> None:
    port = free_port()
    shop.environment["HOOK"] = f"http://127.0.0.1:{port}/T0PSECRET"
    shop.environment["no_proxy"] = "127.0.0.1"
    shop.write(
        "migrate.yaml", f"{PROJECT}notify: {{command: ./nothing-there, webhook: '${{env:HOOK}}', on: success}}\n"
    )
    run = shop.migrate("run")
    assert "The notification command ./nothing-there failed: it does not start" in run.err
    assert "The webhook at 127.0.0.1 was not told: Connection refused, 3 times." in run.err
    assert "T0PSECRET" not in run.said
    assert "All 300 source rows are accounted for" in run.out


def test_personal_values_reach_neither_the_page_nor_a_notification(shop: Rig) -> None:
    text = (shop.folder / "migrate.yaml").read_text()
    text = text.replace("    key: id\n", "    key: name\n    personal: [name]\n", 1)
    shop.write("migrate.yaml", text)
    shop.write("landing/customers.csv", b"id,name\n1,a\n2,secretive person\n3,sp\xff\n4,secret,person\n")
    shop.migrate("run", "-s", "customers", "--max-rejects", "3", "--report", "report.html")
    listed = [shop.migrate("report", "--format", "json", "-s", "customers").said, shop.migrate("rejects", "list").said]
    shop.migrate("run", "-s", "customers", "--restart", "--on-error", "abort", "--report", "abort.html", code=3)
    for said in (page(shop), page(shop, "abort.html"), json.dumps(told(shop)), *listed):
        assert "secret" not in said
        assert "sp\\xff" not in said
        assert "name=a" not in said, "the source's key, where a personal column is made of it"
    assert "(personal; `migrate rejects show" in page(shop)
    assert "landing/customers.csv:3" in page(shop)
