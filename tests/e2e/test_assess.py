"""`migrate assess`: inventory, profile and effort of sources, with a project file and without one; nothing is written."""

import json
import signal
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bson import Decimal128, ObjectId
from servers import MariaDB, Mongo
from webserver import Reply, serving

from e2e.rig import Rig
from e2e.test_mysql import filled

LEGACY = """
CREATE TABLE customers (id INT PRIMARY KEY, name VARCHAR(40), born DATE, note TEXT);
CREATE TABLE orders (id INT PRIMARY KEY, customer INT, total DECIMAL(10,2), FOREIGN KEY (customer) REFERENCES customers (id));
CREATE TABLE log (at DATETIME, said TEXT);
CREATE TABLE empty_one (id INT PRIMARY KEY);
CREATE VIEW v_customers AS SELECT id FROM customers;
SET sql_mode = '';
INSERT INTO customers
  SELECT seq, IF(seq % 4 = 0, NULL, CONCAT('Zoë ', seq)), '1970-01-01' + INTERVAL seq DAY, '  ' FROM seq_1_to_200;
INSERT INTO customers VALUES (201, 'no date', '0000-00-00', 'x');
INSERT INTO orders SELECT seq, 1 + seq % 200, seq / 4 FROM seq_1_to_500;
INSERT INTO log VALUES ('2020-01-01', 'geheim'), ('2020-01-01', 'geheim');
"""


def of(assessed: Any, table: str) -> Any:
    [found] = [t for s in assessed["sources"] for t in s["tables"] if t["name"] == table]
    return found


def column(assessed: Any, table: str, name: str) -> Any:
    [found] = [c for c in of(assessed, table)["columns"] if c["name"] == name]
    return found


def files_of(folder: Path) -> set[str]:
    return {str(each.relative_to(folder)) for each in folder.rglob("*")}


def test_a_database_is_assessed_by_its_url_without_a_target_or_a_project(
    rig: Rig, mariadb: MariaDB, source_database: str
) -> None:
    filled(mariadb, source_database, LEGACY)
    rig.environment["TARGET_URL"] = ""
    ended = rig.migrate("assess", mariadb.url(source_database), "--output", "json")
    found = ended.json()
    [source] = found["sources"]
    assert [t["name"] for t in source["tables"]] == ["customers", "empty_one", "log", "orders"]
    assert source["further"] == {"views": ["v_customers"]}
    assert any("MariaDB" in notice["said"] for notice in source["notices"])
    customers, orders = of(found, "customers"), of(found, "orders")
    assert (customers["looked"], customers["rows"], customers["counted"], customers["key"]) == (201, 201, True, ["id"])
    assert orders["refers"] == ["customers"]
    name = column(found, "customers", "name")
    assert (name["type"], name["filled"], name["distinct"], name["longest"]) == ("varchar(40)", 150, 150, 7)
    assert column(found, "customers", "note")["blank"] == 200
    total = column(found, "orders", "total")
    assert (total["type"], total["least"], total["most"]) == ("numeric(10,2)", "0.25", "125.00")
    # What no date can hold would reject its row, and is said before a run.
    assert {t["column"] for t in customers["tasks"]} == {"born"}
    assert customers["rejected"] == 1
    assert (orders["state"], orders["tasks"]) == ("as it is", [])
    assert [t["kind"] for t in of(found, "log")["tasks"]] == ["key"]
    assert of(found, "empty_one")["rows"] == 0
    assert found["minutes"] == sum(t["minutes"] for t in source["tables"])
    shown = rig.migrate("assess", mariadb.url(source_database), "--columns").said
    for part in (
        "4 tables",
        "as they are",
        "no key at the source",
        "views are read only where they are named: v_customers",
    ):
        assert part in " ".join(shown.split())
    assert "geheim" not in ended.said + shown
    assert files_of(rig.folder) == set()


def test_a_project_is_told_which_tables_it_leaves_behind(rig: Rig, mariadb: MariaDB, source_database: str) -> None:
    filled(mariadb, source_database, LEGACY)
    rig.environment["SOURCE_URL"] = mariadb.url(source_database)
    rig.write(
        "migrate.yaml",
        "migration: m\ntarget: ${env:NO_TARGET_YET}\nsources: {erp: '${env:SOURCE_URL}'}\ntables:\n"
        "  people: {from: erp.customers, key: id, columns: {id: id, name: name, born: born}, personal: [born]}\n"
        "  lines: {from: erp.log, key: at, columns: {at: '\"at\"', said: said}}\n",
    )
    found = rig.migrate("assess", "--output", "json").json()
    assert of(found, "customers")["mapped"] == ["people"]
    kinds = {name: [t["kind"] for t in of(found, name)["tasks"]] for name in ("orders", "log")}
    assert kinds == {"orders": ["unmapped"], "log": []}  # the project itself says what identifies a row
    # The extremes of a column that is personal would be values of persons.
    assert (column(found, "customers", "born")["least"], column(found, "customers", "id")["least"]) == (None, "1")
    some = rig.migrate("assess", "-s", "people", "--output", "json").json()
    assert [t["name"] for t in some["sources"][0]["tables"]] == ["customers"]
    rig.migrate("assess", "-s", "people", "--report", "page.html")
    page = (rig.folder / "page.html").read_text()
    assert "What needs a person" in page
    assert "geheim" not in page


def test_dirty_files_are_assessed_by_a_sample_or_to_their_ends(rig: Rig) -> None:
    lines = [f"{n};{'x' if n % 2 else '  '};{n % 7},50;{n:05}" for n in range(30_000)]
    lines[29_000] = "29000;a\0b;1,00;29000"
    lines[29_500] = "29500;too;many;fields;here"
    rig.write("landing/items.csv", "no;text;price;plz\n" + "\n".join(lines) + "\n")
    rig.write("landing/none.csv", "a;b\n")
    first = rig.migrate("assess", "landing", "--output", "json").json()
    items = of(first, "items")
    assert not items["counted"]
    assert 10_000 <= items["looked"] < 30_000
    assert items["rows"] == 30_000
    assert (column(first, "items", "no")["type"], column(first, "items", "plz")["type"]) == ("bigint", "text")
    assert column(first, "items", "price")["type"] == "numeric"
    assert [t["kind"] for t in items["tasks"]] == ["guess"]  # the key
    full = rig.migrate("assess", "landing", "--full", "--output", "json").json()
    items = of(full, "items")
    assert (items["looked"], items["rows"], items["counted"], items["rejected"]) == (30_000, 30_000, True, 1)
    assert {"nul", "rejects"} <= {t["kind"] for t in items["tasks"]}
    assert abs(column(full, "items", "no")["distinct"] - 30_000) < 3_000
    assert column(full, "items", "text")["blank"] == 15_000 - 2
    assert of(full, "none")["rows"] == 0


def test_documents_are_assessed_with_their_arrays(rig: Rig, mongo: Mongo, mongo_database: str) -> None:
    with mongo.connect() as client:
        shop = client[mongo_database]
        shop.orders.insert_many(
            [
                {
                    "_id": ObjectId(f"65a0000000000000{n:08x}"),
                    "total": str(n) if n % 10 == 0 else n,
                    "price": Decimal128(f"{n}.5"),
                    "at": datetime(2020, 1, 1, tzinfo=UTC),
                    "lines": [{"sku": f"S{at}", "qty": at, "tags": ["x", 1]} for at in range(2)],
                    **({"late": True} if n % 100 == 0 else {}),
                }
                for n in range(1, 501)
            ]
        )
    found = rig.migrate("assess", mongo.url(mongo_database), "--output", "json").json()
    assert [t["name"] for t in found["sources"][0]["tables"]] == ["orders", "orders/lines"]
    orders, lines = of(found, "orders"), of(found, "orders/lines")
    assert (orders["looked"], lines["looked"], lines["rows"], lines["refers"]) == (500, 1000, 1000, ["orders"])
    assert column(found, "orders", "late")["filled"] == 5
    assert any(t["column"] == "total" and "10" in t["said"] for t in orders["tasks"])
    assert column(found, "orders/lines", "qty")["most"] == "1"
    assert column(found, "orders", "total")["kinds"] == {"int": 450, "string": 50}
    fields = orders["fields"]
    assert fields["late"] == {"boolean": 5, "missing": 495}
    assert fields["lines[].tags[]"] == {"string": 1000, "int": 1000}
    assert lines["fields"]["sku"] == {"string": 1000}


def test_what_cannot_be_read_hides_nothing_else_and_ends_with_an_error(rig: Rig) -> None:
    rig.write("a.csv", "id\n1\n")
    rig.write("half.json", '[{"id": 1}')
    rig.write("words.json", "no JSON at all")
    told = rig.migrate("assess", ".").said
    assert "left out: words.json" in told
    rig.migrate("assess", "words.json", "a.csv", code=6)  # whoever names it wants it
    assert "--select" in rig.migrate("assess", "a.csv", "-s", "b", code=2).err
    rig.write(
        "migrate.yaml",
        "migration: m\ntarget: ${env:TARGET_URL}\nsources: {a: {files: a.csv}, b: {files: 'gone/*.csv'}}\ntables:\n"
        "  one: {from: a.a, key: id, columns: {id: id}}\n  two: {from: b.b, key: id, columns: {id: id}}\n",
    )
    ended = rig.migrate("assess", "--output", "json", code=6)
    found = ended.json()
    assert of(found, "a")["rows"] == 1
    assert "no file matches" in found["sources"][1]["failure"]
    assert "gone" in ended.err


def test_the_json_is_all_of_it_and_standard_output_holds_nothing_else(rig: Rig) -> None:
    rig.write("a.csv", "id;when\n1;31.12.2020\n2;x\n" + "3;01.01.2021\n" * 40)
    ended = rig.migrate("assess", "a.csv", "--output", "json")
    found = json.loads(ended.out)
    assert found["format"] == 1
    assert of(found, "a")["columns"][1]["type"] == "date"
    assert any("do not fit" in t["said"] for t in of(found, "a")["tasks"])


def test_json_files_and_what_an_api_gave_are_assessed_alike(rig: Rig) -> None:
    orders = [{"id": n, "total": n if n % 2 else f"{n}", "lines": [{"sku": "a"}] * (n % 3)} for n in range(100)]
    rig.write("orders.json", json.dumps(orders))
    with serving(lambda _: Reply.of(orders)) as api:
        rig.write(
            "migrate.yaml",
            "migration: m\ntarget: ${env:TARGET_URL}\nsources:\n  files: {json: orders.json}\n"
            f"  api: {{rest: '{api.url}', tables: {{orders: {{path: orders}}}}}}\ntables:\n"
            "  a: {from: files.orders, key: id, columns: {id: id, rest: _rest}}\n"
            "  b: {from: api.orders, key: id, columns: {id: id, rest: _rest}}\n",
        )
        found = rig.migrate("assess", "--output", "json").json()
    files, api = found["sources"]
    assert [t["name"] for t in files["tables"]] == [t["name"] for t in api["tables"]] == ["orders", "orders/lines"]
    for source in (files, api):
        orders_, lines = source["tables"]
        assert orders_["fields"]["total"] == {"number": 50, "string": 50}
        assert (lines["rows"], [t["kind"] for t in lines["tasks"]]) == (99, ["key", "unmapped"])
        assert "total" in {t["column"] for t in orders_["tasks"]}


def test_of_a_large_table_without_a_key_only_the_first_rows_are_read(
    rig: Rig, mariadb: MariaDB, source_database: str
) -> None:
    filled(
        mariadb,
        source_database,
        "CREATE TABLE a_log (n INT, said TEXT);\nCREATE TABLE b (id INT PRIMARY KEY);\n"
        "INSERT INTO a_log SELECT seq, REPEAT('x', 100) FROM seq_1_to_300000;\nINSERT INTO b VALUES (1), (2);\n",
    )
    rig.sql("CREATE TABLE a_log (n int, said text)")
    rig.sql("INSERT INTO a_log SELECT n, repeat('x', 100) FROM generate_series(1, 300000) n")
    rig.sql("CREATE TABLE b (id int PRIMARY KEY)")
    rig.sql("INSERT INTO b VALUES (1), (2)")
    with sqlite3.connect(rig.folder / "old.db") as old:
        old.execute("CREATE TABLE a_log (n, said)")
        old.executemany("INSERT INTO a_log VALUES (?, ?)", ((n, "x" * 100) for n in range(300_000)))
        old.execute("CREATE TABLE b (id INTEGER PRIMARY KEY)")
        old.execute("INSERT INTO b VALUES (1), (2)")
    for url in (mariadb.url(source_database), rig.url, "sqlite:///old.db"):
        found = rig.migrate("assess", url, "--output", "json").json()
        log, b = of(found, "a_log"), of(found, "b")
        assert (log["counted"], 10_000 <= log["looked"] < 200_000, b["rows"]) == (False, True, 2), url
        full = rig.migrate("assess", url, "--full", "-s", "a_log", "--output", "json").json()
        assert (of(full, "a_log")["looked"], of(full, "a_log")["counted"]) == (300_000, True)


def test_a_stop_is_a_stop_and_nothing_is_left(rig: Rig) -> None:
    rig.write("big.csv", "id;name\n" + "".join(f"{n};name {n}\n" for n in range(2_000_000)))
    running = rig.start("assess", "--full", "big.csv", "--log-format", "json")
    running.until(lambda lines: any('"verifying"' in line for line in lines))
    running.process.send_signal(signal.SIGINT)
    ended = running.end()
    assert ended.code == 130
    assert "Traceback" not in ended.said
    assert files_of(rig.folder) == {"big.csv"}


def test_personal_columns_show_no_value_in_elements_and_whatever_is_selected(rig: Rig) -> None:
    people = [{"id": n, "born": n * 111, "lines": [{"x": n}]} for n in range(5)]
    rig.write("p.json", json.dumps(people))
    rig.write(
        "migrate.yaml",
        "migration: m\ntarget: ${env:TARGET_URL}\nsources: {f: {json: p.json}}\ntables:\n"
        "  people: {from: f.p, key: id, columns: {id: id, born: born, rest: _rest}, personal: [born]}\n"
        "  pub: {from: f.p, key: id, columns: {id: id, rest: _rest}}\n",
    )
    for more in ((), ("-s", "pub"), ("--full",)):
        found = rig.migrate("assess", "--output", "json", *more)
        assert "444" not in found.out
        assert column(found.json(), "p", "id")["most"] == "4"


def test_tables_without_columns_and_with_thousands(rig: Rig) -> None:
    rig.sql("CREATE TABLE nothing ()")
    rig.sql("CREATE TABLE good (id int PRIMARY KEY)")
    found = rig.migrate("assess", rig.url, "--output", "json").json()
    assert [t["name"] for t in found["sources"][0]["tables"]] == ["good", "nothing"]
    wide = [
        ",".join(f"c{n}" for n in range(1_700)),
        *(",".join(str(n * row) for n in range(1_700)) for row in range(20)),
    ]
    rig.write("wide.csv", "\n".join(wide) + "\n")
    for more in ((), ("--full",)):
        table = of(rig.migrate("assess", "wide.csv", "--output", "json", *more).json(), "wide")
        assert (len(table["columns"]), table["state"], table["rows"]) == (1_700, "work", 20)
        assert table["columns"][1_699]["filled"] == 20


def test_what_arrays_hold_is_not_known_before_it_is_read(rig: Rig) -> None:
    lines = "".join(
        json.dumps({"id": n, "lines": [{"x": 1}, {"x": 2}, {"x": 3}], "pad": "x" * 300}) + "\n" for n in range(20_000)
    )
    rig.write("o.jsonl", lines)
    found = rig.migrate("assess", "o.jsonl", "--output", "json").json()
    orders, held = of(found, "o"), of(found, "o/lines")
    assert (held["rows"], held["bytes"], held["counted"]) == (None, None, False)
    assert abs(orders["bytes"] - len(lines)) < 10_000
    assert "of 1 table the rows are not known" in found["inventory"]
    assert of(rig.migrate("assess", "o.jsonl", "--full", "--output", "json").json(), "o/lines")["rows"] == 60_000


def test_a_key_that_a_sample_made_believe_is_looked_at_again(rig: Rig) -> None:
    rig.write("dup.csv", "id;x\n" + "".join(f"{n % 15_000};{n}\n" for n in range(30_000)))
    tasks = of(rig.migrate("assess", "dup.csv", "--full", "--output", "json").json(), "dup")["tasks"]
    assert [t["kind"] for t in tasks] == ["key"] or "about" in tasks[0]["said"]


def test_a_nul_that_is_escaped_in_json_and_fields_that_are_no_columns_are_told(rig: Rig) -> None:
    documents = [{"id": n, "tags": ["a\0b" if n < 3 else "\\u0000"], "more": None} for n in range(10)]
    rig.write("o.json", json.dumps(documents))
    rig.write(
        "migrate.yaml",
        "migration: m\ntarget: ${env:TARGET_URL}\nsources: {f: {json: o.json, fields: {o: {id: integer, tags: json}}}}\ntables:\n"
        "  o: {from: f.o, key: id, columns: {id: id, tags: tags, rest: _rest}}\n",
    )
    tasks = of(rig.migrate("assess", "--output", "json").json(), "o")["tasks"]
    [nul] = [t for t in tasks if t["kind"] == "nul"]
    assert (nul["column"], nul["said"].startswith("3 values")) == ("tags", True)
    assert any("no column takes stand in _rest, or reject their row: more" in t["said"] for t in tasks)
