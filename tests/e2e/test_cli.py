"""The commands as users meet them: exit codes, what goes to which stream, what is refused and what is said next."""

import base64
import json
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
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
    mode: MODE
    columns: {id: {value: id, type: int}, name: {value: name, type: varchar(10)}}
    primary_key: id
  orders:
    from: crm.orders
    key: id
    mode: MODE
    columns: {id: {value: id, type: int}, customer: {value: customer, type: int}}
    primary_key: id
"""
CUSTOMERS = "CREATE TABLE customers (id int PRIMARY KEY, name varchar(10) NOT NULL);"
ORDERS = "CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers);"


@pytest.fixture
def shop(rig: Rig) -> Rig:
    """Two small tables; nothing in the target yet."""
    mode(rig, "append")
    rig.write("landing/customers.csv", "id,name\n" + "".join(f"{n},Name {n}\n" for n in range(1, 101)))
    rig.write("landing/orders.csv", "id,customer\n" + "".join(f"{n},{n % 100 + 1}\n" for n in range(1, 201)))
    return rig


def mode(rig: Rig, word: str, project: str = PROJECT) -> None:
    rig.write("migrate.yaml", project.replace("MODE", word))


def count(rig: Rig, table: str) -> int:
    return int(rig.value(f"SELECT count(*) FROM {table}"))


# ------------------------------------------------------------------------------------------------------- the happy path


def test_tables_are_made_loaded_verified_and_reported(shop: Rig) -> None:
    shop.migrate("check")
    plan = shop.migrate("plan")
    assert "public.customers will be created" in plan.out
    run = shop.migrate("run")
    assert "All 300 source rows are accounted for: 300 loaded" in run.out
    assert (count(shop, "customers"), count(shop, "orders")) == (100, 200)
    assert shop.migrate("status").out.rstrip().endswith("migrate verify")
    assert "customers: equal" in shop.migrate("verify").out
    assert shop.migrate("status").out.rstrip().endswith("migrate report")
    shop.migrate("report")
    assert "already loaded" in shop.migrate("plan").out
    shop.migrate("run")
    assert (count(shop, "customers"), count(shop, "orders")) == (100, 200)


def test_progress_is_plain_lines_where_there_is_no_terminal(shop: Rig) -> None:
    run = shop.migrate("run")
    assert "\x1b" not in run.said
    assert "\r" not in run.said
    assert "customers: 1/1 chunks, 100 rows" in run.err
    assert shop.migrate("run", "-q", "--restart").err == ""


def test_the_log_is_json_lines_where_asked(shop: Rig) -> None:
    events = shop.migrate("run", "--log-format", "json").events()
    chunks = [e for e in events if e["event"] == "chunk"]
    assert sum(e["read"] for e in chunks) == sum(e["loaded"] for e in chunks) == 300
    shop.write("landing/customers.csv", "id,name\n1,other\n")
    refused = shop.migrate("run", "--log-format", "json", code=3).events()
    assert refused[-1]["exit"] == 3
    assert "--restart" in refused[-1]["hint"]


def test_json_is_all_that_standard_output_holds(shop: Rig) -> None:
    shop.write("landing/customers_2.csv", "id,name\n901,a name too long\n")
    plan = shop.migrate("plan", "--output", "json").json()
    assert [t["table"] for level in plan["levels"] for t in level] == ["customers", "orders"]
    assert all(part["ok"] for part in shop.migrate("check", "--output", "json").json())
    run = shop.migrate("run", "--max-rejects", "5", "--output", "json").json()
    assert {t["name"]: t["loaded"] for t in run["tables"]} == {"customers": 100, "orders": 200}
    assert shop.migrate("status", "--output", "json").json()["tables"]
    assert shop.migrate("report", "--format", "json").json()["tables"]
    verified = shop.migrate("verify", "--output", "json").json()
    assert (verified["findings"], len(verified["tables"])) == ([], 2)
    (reject,) = shop.migrate("rejects", "list", "--output", "json").json()
    assert (reject["rule"], reject["column"], reject["key"]) == ("length", "name", "id=901")
    shown = shop.migrate("rejects", "show", str(reject["id"]), "--output", "json").json()
    assert shown == [reject]
    replayed = shop.migrate("rejects", "replay", str(reject["id"]), "--output", "json", code=3)
    assert replayed.out == "" or json.loads(replayed.out)


def test_a_plan_can_be_written_to_a_file(shop: Rig) -> None:
    shop.migrate("plan", "-o", "plan.json")
    plan = json.loads((shop.folder / "plan.json").read_text())
    (customers,) = (t for level in plan["levels"] for t in level if t["table"] == "customers")
    assert (customers["action"], customers["creates"]) == ("load", True)
    assert customers["chunks"][0]["token"]


# ---------------------------------------------------------------------------------------------------------- exit codes


def test_usage_and_configuration(shop: Rig) -> None:
    assert "No such option" in shop.migrate("run", "--no-such-flag", code=2).err
    assert "no table 'orderz'" in shop.migrate("run", "-s", "orderz", code=2).err
    assert "migrate.yaml" in shop.migrate("run", "-c", "missing.yaml", code=2).err.replace(
        "missing.yaml", "migrate.yaml"
    )
    mode(shop, "append", PROJECT.replace("value: name", "value: nmae"))
    said = shop.migrate("run", code=2).err
    assert "migrate.yaml:11:" in said
    assert '"nmae"' in said
    assert 'Did you mean "name"?' in said


def test_rejects_over_the_budget(shop: Rig) -> None:
    shop.write(
        "landing/customers.csv",
        "id,name\n" + "".join(f"{n},Name {n}\n" for n in range(1, 101)) + "101,far too long\n" * 3,
    )
    said = shop.migrate("run", code=3).err
    assert "3 rows rejected, and at most 1 may be" in said
    assert "--max-rejects" in said
    assert count(shop, "customers") == 100, "what was committed stays"
    assert shop.migrate("status").out.rstrip().endswith("migrate run")
    shop.migrate("run", "--max-rejects", "3")
    assert (count(shop, "customers"), count(shop, "orders")) == (100, 200)


def test_the_first_bad_row_aborts_where_asked(shop: Rig) -> None:
    shop.write("landing/customers.csv", "id,name\n1,a\n2,far too long\n3,c\n")
    ended = shop.migrate("run", "--on-error", "abort", code=3)
    assert "a bad row (file landing/customers.csv, line 3), column name" in ended.err
    assert "--on-error quarantine" in ended.err
    assert count(shop, "customers") == 0, "a chunk with a bad row was committed"
    shop.migrate("run", "--on-error", "quarantine", "--max-rejects", "1")
    assert count(shop, "customers") == 2


def test_a_source_that_is_missing_or_changed_under_a_run(shop: Rig) -> None:
    (shop.folder / "landing/orders.csv").rename(shop.folder / "landing/hidden")
    assert "landing/orders.csv" in shop.migrate("run", code=6).err
    (shop.folder / "landing/hidden").rename(shop.folder / "landing/orders.csv")
    ended = shop.killed_at("committed", 1, "run", "-j", "1", "--batch-rows", "20")
    assert ended.code == -9
    landing = shop.folder / "landing/customers.csv"
    content = landing.read_text()
    landing.write_text(content.replace("Name 99", "Name XX"))
    said = shop.migrate("run", code=6).err
    assert "customers.csv has changed since the plan was made" in said
    assert "--restart" in said
    landing.write_text(content)
    shop.migrate("run")
    assert (count(shop, "customers"), count(shop, "orders")) == (100, 200)


def test_a_target_that_refuses(shop: Rig) -> None:
    shop.sql("CREATE VIEW customers AS SELECT 1 AS id, 'x' AS name")
    assert "is a view" in shop.migrate("run", code=7).err
    shop.environment["TARGET_URL"] = shop.url + "_missing"
    said = shop.migrate("run", code=7).err
    assert "does not exist" in said
    assert "target's URL" in said


def test_a_target_that_cannot_be_reached_is_worth_retrying(shop: Rig) -> None:
    shop.environment["TARGET_URL"] = f"postgresql://someone:Geheim-123@127.0.0.1:{free_port()}/nowhere"
    for command in ("run", "status", "check"):
        assert "Geheim" not in shop.migrate(command, code=75).said


def test_nothing_to_verify_yet(shop: Rig) -> None:
    assert "migrate run" in shop.migrate("verify", code=4).err


# ------------------------------------------------------------------------------------------------------------- refusals


def test_replace_asks_before_it_deletes_rows_of_others(shop: Rig) -> None:
    mode(shop, "replace")
    shop.sql(CUSTOMERS + "INSERT INTO customers VALUES (1000, 'stranger')")
    said = shop.migrate("run", code=4).err
    assert "would delete 1 rows of public.customers" in said
    assert "--yes" in said
    assert count(shop, "customers") == 1
    shop.migrate("run", "--yes")
    assert count(shop, "customers") == 100
    shop.migrate("run", "--restart")
    assert count(shop, "customers") == 100


def test_replace_refuses_while_a_table_outside_references_it(shop: Rig) -> None:
    mode(shop, "replace")
    shop.sql(CUSTOMERS + "CREATE TABLE visits (id int, customer int REFERENCES customers)")
    said = shop.migrate("run", "--yes", code=4).err
    assert "public.visits references it" in said
    assert shop.value("SELECT to_regclass('orders')") is None
    shop.sql("DROP TABLE visits")
    shop.migrate("run", "--yes")


def test_append_refuses_what_would_need_rows_to_be_removed(shop: Rig) -> None:
    shop.migrate("run")
    shop.write(
        "migrate.yaml", (shop.folder / "migrate.yaml").read_text().replace("value: name,", "value: upper(name),")
    )
    said = shop.migrate("run", code=4).err
    assert "the mapping changed since it was loaded" in said
    assert "migrate run --restart -s customers" in said
    assert shop.value("SELECT name FROM customers WHERE id = 1") == "Name 1"
    shop.migrate("verify", code=4)
    shop.migrate("run", "--restart", "-s", "customers")
    assert shop.value("SELECT name FROM customers WHERE id = 1") == "NAME 1"
    assert count(shop, "customers") == 100
    shop.write("landing/customers.csv", "id,name\n1,one\n")
    assert "what was already loaded from" in shop.migrate("run", code=3).err
    shop.migrate("run", "--restart", "-s", "customers")
    assert shop.sql("TABLE customers") == [(1, "ONE")]


def test_append_among_the_rows_of_others_cannot_be_started_over(shop: Rig) -> None:
    shop.sql(CUSTOMERS + ORDERS + "INSERT INTO customers VALUES (1000, 'stranger')")
    shop.migrate("run")
    assert count(shop, "customers") == 101
    shop.migrate("run", "--restart", "-s", "customers", code=4)
    assert count(shop, "customers") == 101
    shop.migrate("verify")


def test_new_files_of_a_glob_are_added(shop: Rig) -> None:
    shop.migrate("run")
    shop.write("landing/customers_2.csv", "id,name\n201,two\n202,two\n")
    assert "the source has grown" in shop.migrate("plan").out
    shop.migrate("run")
    assert (count(shop, "customers"), count(shop, "orders")) == (102, 200)
    shop.migrate("verify")


# -------------------------------------------------------------------------------------------------------- the quarantine


def test_rejects_are_listed_shown_waived_and_replayed(shop: Rig) -> None:
    shop.sql(CUSTOMERS + ORDERS)
    shop.write("landing/orders.csv", "id,customer\n1,1\n2,555\n3,\n4,x\n")
    shop.migrate("run", "--max-rejects", "50%")
    listed = shop.migrate("rejects", "list").out
    assert "landing/orders.csv:3" in listed
    assert "id=2" in listed
    assert "foreign_key" in listed
    assert "landing/orders.csv:5" in listed
    rejects = {r["rule"]: r["id"] for r in shop.migrate("rejects", "list", "--output", "json").json()}
    shown = shop.migrate("rejects", "show", str(rejects["foreign_key"])).out
    assert "2,555" in shown
    assert "no row of public.customers has id = 555" in shown
    assert "no reject 999" in shop.migrate("rejects", "show", "999", code=2).err

    said = shop.migrate("rejects", "replay", str(rejects["foreign_key"]), code=3).said
    assert "still bad" in said
    shop.sql("INSERT INTO customers VALUES (555, 'late')")
    assert "1 of 1 open rejects replayed" in shop.migrate("rejects", "replay", str(rejects["foreign_key"])).out
    assert shop.sql("SELECT customer FROM orders WHERE id = 2") == [(555,)]

    shop.migrate("rejects", "waive", str(rejects["type"]), code=2)  # a waiver says who and why
    shop.migrate("rejects", "waive", str(rejects["type"]), "--note", "junk, says Ms Weber")
    assert "Ms Weber" in shop.migrate("rejects", "show", str(rejects["type"])).out
    shop.migrate("rejects", "waive", str(rejects["type"]), "--note", "again", code=3)
    assert "No open rejects" in shop.migrate("rejects", "list").out
    assert shop.fates("orders") == (4, 3, 0, 0, 1)


def test_a_fixed_file_mends_its_own_rows_only(shop: Rig) -> None:
    """Rejects without a key are told by their lines, and two files have the same lines."""
    shop.write("landing/customers.csv", "id,name\n1,one\n2,two,more\n3,three\n4,four,more\n")
    shop.write("landing/customers_2.csv", "id,name\n11,one\n12,two,more\n13,far too long\n")
    shop.sql("CREATE TABLE customers (id int, name varchar(10))")
    shop.migrate("run", "--max-rejects", "10", "-s", "customers")
    shop.write("mended/customers.csv", "id,name\n1,one\n2,two\n3,three\n4,four\n")
    shop.write("mended/rows.csv", "id,name\n2,two\n4,four\n")
    shop.write("mended/customers_2.csv", "id,name\n11,one\n12,two\n13,short\n")
    replay = ("rejects", "replay", "-s", "customers", "--from")
    assert "customers_2.csv" in shop.migrate(*replay, "mended/rows.csv", code=2).err
    assert count(shop, "customers") == 3
    shop.migrate(*replay, "mended/customers.csv", code=3)
    assert shop.sql("SELECT id FROM customers ORDER BY id") == [(1,), (2,), (3,), (4,), (11,)]
    shop.migrate(*replay, "mended/customers_2.csv")
    assert shop.sql("SELECT id FROM customers ORDER BY id") == [(1,), (2,), (3,), (4,), (11,), (12,), (13,)]
    shop.migrate("verify", "-s", "customers")


def test_lines_that_have_moved_are_not_taken_for_rejected_ones(shop: Rig) -> None:
    """Rows that were loaded already must not come in again under the name of a rejected one."""
    shop.write("landing/customers.csv", "id,name\n1,one\n2,two,more\n3,three\n4,four,more\n5,five\n")
    shop.sql("CREATE TABLE customers (id int, name varchar(10))")
    shop.migrate("run", "--max-rejects", "10", "-s", "customers")
    loaded = [(1,), (3,), (5,)]
    for name, text in (
        ("only the mended rows", "id,name\n2,two\n4,four\n"),
        ("a row taken out", "id,name\n1,one\n3,three\n4,four\n5,five\n"),
        ("a row put in", "id,name\n0,zero\n1,one\n2,two\n3,three\n4,four\n5,five\n"),
    ):
        shop.write("mended.csv", text)
        ended = shop.migrate("rejects", "replay", "-s", "customers", "--from", "mended.csv", code=3)
        assert "found by its line" in ended.out, name
        assert shop.sql("SELECT id FROM customers ORDER BY id") == loaded, name
    shop.write("mended.csv", "id,name\n1,one\n2,two\n3,three\n4,four\n5,five\n")
    shop.migrate("rejects", "replay", "-s", "customers", "--from", "mended.csv")
    assert shop.sql("SELECT id FROM customers ORDER BY id") == [(1,), (2,), (3,), (4,), (5,)]
    shop.migrate("verify", "-s", "customers")


# ------------------------------------------------------------------------------------------------------------- discretion


def test_secrets_are_never_said_nor_kept(shop: Rig) -> None:
    secret = "Ge/heim@:123"  # what a URL has to escape
    shop.sql("DROP ROLE IF EXISTS secretive")
    shop.sql(f"CREATE ROLE secretive LOGIN SUPERUSER PASSWORD '{secret}'")
    _, _, place = shop.url.partition("@")
    shop.environment.update(DB_USER="secretive", DB_PASSWORD=secret, TABLES="landing")
    text = PROJECT.replace("${env:TARGET_URL}", "postgresql://${env:DB_USER}:${env:DB_PASSWORD}@" + place)
    shop.write("migrate.yaml", text.replace("MODE", "replace"))
    shop.write("landing/customers_2.csv", "id,name\n901,far too long\n")
    said = [
        shop.try_(*arguments).said
        for arguments in (
            ("check",), ("plan",), ("plan", "--output", "json"), ("run", "--max-rejects", "10"), ("status",), ("verify",),
            ("rejects", "list"), ("rejects", "replay"), ("report", "--format", "json"), ("run", "-v", "-s", "nothing"),
            ("run", "--restart", "--log-format", "json"),
        )
    ]  # fmt: skip
    assert count(shop, "customers") == 100
    shop.environment["DB_PASSWORD"] = secret + "x"
    shop.write("migrate.yaml", (shop.folder / "migrate.yaml").read_text().replace("@127", ":@127"))
    said += [shop.try_("run", "-v").said, shop.try_("check").said]
    shop.write("migrate.yaml", text.replace(place, f"127.0.0.1:{free_port()}/x"))
    said += [shop.try_("run", "-v").said, shop.try_("check", "-v").said]
    assert all(said)
    for form in (secret, "Ge%2Fheim", "heim@:123"):
        assert not [text for text in said if form in text]
    kept = [
        row[0]
        for (table,) in shop.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'migrate_ledger'")
        for row in shop.sql(f"SELECT t::text FROM migrate_ledger.{table} t")
    ]
    assert kept
    assert not [row for row in kept if "heim" in row]
    shop.sql("REASSIGN OWNED BY secretive TO postgres")
    shop.sql("DROP ROLE secretive")


def test_reading_commands_write_nothing(shop: Rig) -> None:
    shop.sql(CUSTOMERS)
    before = dump(shop)
    for arguments in (("status",), ("plan",), ("check",), ("report",), ("rejects", "list")):
        shop.try_(*arguments)
    shop.migrate("verify", code=4)
    assert shop.value("SELECT to_regnamespace('migrate_ledger')") is None
    assert dump(shop) == before


def dump(rig: Rig) -> list[tuple[object, ...]]:
    return rig.sql("SELECT oid, relname, relnamespace FROM pg_class ORDER BY oid")


HEAVY = (
    "pyarrow",
    "pandas",
    "duckdb",
    "psycopg",
    "numpy",
    "sqlalchemy",
    "rich",
    "yaml",
    "pgpq",
    "ftfy",
    "great_expectations",
)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"], ["rejects", "replay", "--help"]])
def test_help_imports_no_heavy_library(arguments: list[str], tmp_path: Path) -> None:
    program = (
        "import sys\nfrom migrate.cli import main\n"
        f"try:\n    main({arguments!r}, prog_name='migrate')\n"
        f"except SystemExit as ended:\n    assert not ended.code\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)\n"
    )
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "COVERAGE_PROCESS_START": ""}
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert ended.stderr.splitlines()[-1] == "[]"
    assert ended.stdout


def test_output_that_nobody_reads_any_more_is_no_error(shop: Rig) -> None:
    shop.write("landing/customers.csv", "id,name\n" + "".join(f"{n},far too long\n" for n in range(3000)))
    shop.migrate("run", "--max-rejects", "100%")
    ended = subprocess.run(
        f"{sys.executable} -m migrate rejects list --limit 3000 | head -n 1; exit ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", cwd=shop.folder, env=shop.environ(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_table_taken_over_by_a_newer_run_is_left_alone(shop: Rig) -> None:
    with psycopg.connect(shop.url, autocommit=True) as conn:
        shop.migrate("run", "-s", "orders")
        conn.execute("BEGIN; LOCK TABLE orders IN EXCLUSIVE MODE")
        old = shop.start("run", "--restart", "-s", "orders")
        old.until(lambda _: bool(shop.value("SELECT count(*) FROM pg_locks WHERE NOT granted")))
        new = shop.start("run", "-s", "orders")
        new.until(lambda _: shop.value("SELECT epoch FROM migrate_ledger.migration") == 3)
        conn.execute("ROLLBACK")
    ended = [old.end(), new.end()]
    # The older run may have emptied the table before it was taken over; then the newer one says that rows are missing.
    assert {e.code for e in ended} <= {0, 3, 4}, [e.said for e in ended]
    shop.migrate("run", "-s", "orders")
    assert count(shop, "orders") == 200
    shop.migrate("verify", "-s", "orders")


def test_a_full_disk_is_no_bug_of_ours(shop: Rig) -> None:
    ended = subprocess.run(
        f"{sys.executable} -m migrate plan --output json > /dev/full",
        shell=True, executable="/bin/bash", cwd=shop.folder, env=shop.environ(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 1, ended.stderr
    assert "No space left on device" in ended.stderr
    assert "bug" not in ended.stderr


def test_a_terminal_sees_bars_with_rows_and_rate(shop: Rig) -> None:
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "migrate", "run", "--batch-bytes", "1KB"]
    environment = {**shop.environ(), "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(command, cwd=shop.folder, env=environment, stdout=subprocess.PIPE, stderr=slave) as process:
        os.close(slave)
        seen = b""
        with suppress(OSError):  # the terminal is gone when the process is
            while piece := os.read(master, 65536):
                seen += piece
        assert process.stdout is not None
        report = process.stdout.read().decode()
    os.close(master)
    assert process.returncode == 0, seen
    shown = seen.decode()
    assert re.search(r"customers .*\d+ rows .*rows/s", shown)
    assert "1 rejected" not in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "the cursor stays hidden"
    assert "source rows are accounted for" in report
    assert "\x1b" not in report, "what goes to a pipe has no colours"


def test_an_at_sign_in_a_password_does_not_show_half_of_it(shop: Rig) -> None:
    shop.environment["TARGET_URL"] = "postgresql://u:ge@heim@127.0.0.1:1/x"
    for command in ("check", "run", "status"):
        ended = shop.migrate(command, code=2)
        assert "more than one @" in ended.err
        assert "heim" not in ended.said


@pytest.mark.parametrize("place", [".", "./"])
def test_a_folder_is_no_glob(shop: Rig, place: str) -> None:
    shop.write("migrate.yaml", (shop.folder / "migrate.yaml").read_text().replace("landing/orders.csv", place))
    assert f"no file matches '{place}'" in shop.migrate("plan", code=6).err


def test_no_table_left_is_said(shop: Rig) -> None:
    assert "no table is left" in shop.migrate("run", "--exclude", "customers", "--exclude", "orders", code=2).err


def test_the_schema_is_written_where_that_can_be(shop: Rig) -> None:
    for command in (("schema",), ("plan",), ("init", "landing/", "--yes")):
        said = shop.migrate(*command, "-o", "nowhere/x.json", code=2).err
        assert "nowhere/x.json cannot be written: No such file or directory" in said
        assert "landing cannot be written: Is a directory" in shop.migrate(*command, "-o", "landing", code=2).err
    assert "File name too long" in shop.migrate("report", "--format", "html", "-o", "x" * 300, code=2).err
    shop.migrate("schema", "-o", "x.json")
    assert json.loads((shop.folder / "x.json").read_text())["title"]


def test_listings_mask_what_is_personal(shop: Rig) -> None:
    text = (shop.folder / "migrate.yaml").read_text()
    shop.write("migrate.yaml", text.replace("    key: id\n", "    key: id\n    personal: [name]\n", 1))
    shop.write("landing/customers.csv", "id,name\n1,a\n2,secretive person\n")
    shop.migrate("run", "-s", "customers", "--max-rejects", "1")
    for listing in (("rejects", "list"), ("rejects", "list", "--output", "json"), ("report",), ("status",)):
        said = shop.migrate(*listing, "-s", "customers").said
        assert "secretive" not in said
        assert base64.b64encode(b"2,secretive person").decode()[:16] not in said
    [reject] = json.loads(shop.migrate("rejects", "list", "--output", "json").out)
    assert "secretive person" in shop.migrate("rejects", "show", str(reject["id"])).out, (
        "asked for by its number, it is shown"
    )
    assert "--note is empty" in shop.migrate("rejects", "waive", str(reject["id"]), "--note", " ", code=2).err


def test_what_an_older_load_was_found_to_be_does_not_fail_the_new_one(shop: Rig) -> None:
    shop.migrate("run")
    shop.sql("UPDATE customers SET name = 'x' WHERE id = 1")
    shop.migrate("verify", code=3)
    shop.migrate("report", code=3)
    assert shop.migrate("run", "--restart").out.rstrip().endswith("Next: migrate verify")
    shop.migrate("verify")
