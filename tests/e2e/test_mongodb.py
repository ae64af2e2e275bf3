"""MongoDB into PostgreSQL, by the commands that a user types: every document accounted for, arrays as tables, proof."""

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import Decimal128, ObjectId, json_util
from pymongo.database import Database
from servers import Mongo

from e2e.rig import Rig

ORDERS = 600


@pytest.fixture
def shop(mongo: Mongo, mongo_database: str, rig: Rig) -> Iterator["Database[dict[str, Any]]"]:
    rig.environment["SOURCE_URL"] = mongo.url(mongo_database)
    with mongo.connect() as client:
        yield client[mongo_database]


def filled(shop: "Database[Any]") -> None:
    shop.customers.insert_many(
        [
            {
                "_id": n,
                "name": f"Zoë {n}",
                "born": datetime(1950 + n % 60, 1, 1),
                "address": {"city": "Köln", "zip": f"{n:05}"},
            }
            for n in range(1, 101)
        ]
    )
    shop.orders.insert_many(
        [
            {
                "_id": ObjectId(f"65a0000000000000{n:08x}"),
                "customer_id": 1 + n % 100,
                "total": Decimal128(f"{n}.50"),
                "at": datetime(2020, 1, 1, n % 24, tzinfo=UTC),
                "lines": [{"sku": f"S{at}", "qty": at + 1} for at in range(n % 4)],
            }
            for n in range(ORDERS)
        ]
    )


FIELDS = """
    fields:
      customers: {_id: integer, name: text, born: moment, address: {city: text, zip: text}}
      orders: {_id: objectid, customer_id: integer, total: decimal, at: moment, lines: json}
      orders/lines: {sku: text, qty: integer}
"""
TABLES = """
  customers: {from: shop.customers, key: _id, primary_key: id, columns: {id: _id, name: name, born: born, city: '"address.city"'}}
  orders:
    from: shop.orders
    key: _id
    primary_key: id
    columns:
      {id: _id, customer: {references: customers, by: customer_id}, total: {value: total, type: "numeric(12,2)"}, at: '"at"'}
  lines:
    from: shop.orders
    unnest: lines
    key: [_parent._id, _position]
    primary_key: [order_id, position]
    columns: {order_id: {references: orders, by: '"_parent._id"'}, position: _position, sku: sku, qty: qty}
"""


def project(rig: Rig, fields: str = FIELDS, tables: str = TABLES, mixed: str = "") -> None:
    rig.write(
        "migrate.yaml",
        "migration: m\ntarget: ${env:TARGET_URL}\nsources:\n  shop:\n    url: ${env:SOURCE_URL}\n    quiesced: true\n"
        f"{mixed}{fields.strip(chr(10))}\ndefaults: {{max_rejects: 100%}}\ntables:\n{tables.strip(chr(10))}\n",
    )


def test_a_database_is_drafted_checked_loaded_and_proved(rig: Rig, shop: "Database[Any]", mongo: Mongo) -> None:
    filled(shop)
    said = rig.migrate("init", rig.environment["SOURCE_URL"]).said
    text = (rig.folder / "migrate.yaml").read_text(encoding="utf-8")
    assert "geheim" not in said + text
    assert "unnest: lines" in text
    assert "customer_id: {references: customers, by: customer_id}" in text
    assert "{references: orders, by: '\"_parent._id\"'}" in text
    rig.environment.update(
        {
            part.partition("}")[0]: value
            for part in text.split("${env:")[1:]
            for end, value in (("_USER", "tester"), ("_PASSWORD", "geheim@1"))
            if part.partition("}")[0].endswith(end)
        }
    )
    checked = rig.migrate("check").said
    assert "orders/lines: a collection" in checked
    assert "log: the log of changes reaches back" in checked
    assert "snapshot: for how long the server keeps" in checked or "snapshot: kept for" in checked
    rig.migrate("run", "--batch-rows", "100")
    assert rig.fates("orders_lines") == (900, 900, 0, 0, 0)
    assert rig.value("SELECT count(*) FROM orders o JOIN customers c ON c.id = o.customer_id") == ORDERS
    assert rig.value("SELECT sum(qty) FROM orders_lines") == sum(sum(range(1, n % 4 + 1)) for n in range(ORDERS))
    verified = rig.migrate("verify").said
    assert verified.count("equal") == 3
    status = rig.migrate("status").said
    assert "proved" in status or "Equal row by row" in status


SOON = "import connectors.attention, sys; connectors.attention.EVERY = 0.0; from migrate.cli import main; main(sys.argv[1:])"


def test_arrays_in_the_elements_of_arrays_are_drafted_in_one_look_loaded_and_proved(
    rig: Rig, shop: "Database[Any]"
) -> None:
    shop.orders.insert_many(
        [
            {"_id": n, "lines": [{"sku": f"S{at}", "taxes": [{"code": "V"}, {"code": "W"}][:n]} for at in range(3)]}
            for n in range(3)
        ]
    )
    drafted = rig.try_("init", rig.environment["SOURCE_URL"], command=(sys.executable, "-c", SOON))
    assert drafted.err == "orders is looked through for fields, 3 of about 3 documents\n"
    text = (rig.folder / "migrate.yaml").read_text(encoding="utf-8")
    assert "unnest: lines/taxes" in text
    assert "primary_key: [parent__parent__id, parent__position, position]" in text
    url = next(line.partition(": ")[2] for line in text.splitlines() if "url: " in line)
    rig.write("migrate.yaml", text.replace(url, "${env:SOURCE_URL}"))
    rig.migrate("check")
    rig.migrate("run")
    assert rig.fates("orders_lines_taxes") == (9, 9, 0, 0, 0)
    assert rig.value(
        "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND conrelid = 'orders_lines_taxes'::regclass"
    )
    assert rig.sql(
        "SELECT parent__parent__id, parent__position, position, code FROM orders_lines_taxes ORDER BY 1, 2, 3 LIMIT 4"
    ) == [(1, 1, 1, "V"), (1, 2, 1, "V"), (1, 3, 1, "V"), (2, 1, 1, "V")]
    assert rig.migrate("verify").said.count("equal") == 3
    rig.migrate("verify", "--level", "aggregates")


def test_a_difference_is_found_by_the_servers_own_aggregates(rig: Rig, shop: "Database[Any]") -> None:
    filled(shop)
    project(rig)
    rig.migrate("run")
    assert rig.migrate("verify").said.count("equal") == 3
    rig.sql("UPDATE lines SET qty = qty + 1 WHERE ctid = (SELECT max(ctid) FROM lines WHERE position = 3)")
    said = rig.migrate("verify", "--level", "aggregates", code=3).said
    assert "lines: qty: the sum should be 1500 by the source, and is 1501" in said
    rig.migrate("verify", "-s", "lines", "--fixup")
    rig.migrate("verify")
    shop.customers.update_one({"_id": 7}, {"$set": {"name": "Ann"}})
    said = rig.migrate("verify", "--against", "source", "-s", "customers", code=3).said
    assert "id=7" in said


def test_what_does_not_fit_is_rejected_with_its_id_mended_and_replayed(rig: Rig, shop: "Database[Any]") -> None:
    filled(shop)
    shop.customers.update_one({"_id": 5}, {"$set": {"born": "long ago"}})
    shop.customers.update_one({"_id": 6}, {"$set": {"phone": "123"}})
    shop.orders.update_one({"customer_id": 8}, {"$set": {"lines": "none"}})
    project(rig)
    rig.migrate("run", "--batch-rows", "50")
    assert rig.fates("customers") == (100, 98, 0, 0, 2)
    assert rig.fates("orders") == (600, 588, 0, 0, 12)  # those of the two
    listed = rig.migrate("rejects", "list").said
    assert 'born: "long ago" is no moment' in listed
    assert "has fields that no column takes: phone" in listed
    assert "lines is no array" in listed
    assert "_id=5" in listed
    told = rig.sql(
        "SELECT locator->>'key', convert_from(key, 'UTF8') FROM migrate_ledger.reject WHERE name = 'customers' ORDER BY 1"
    )
    assert told == [("_id=5", "_id=5"), ("_id=6", "_id=6")]
    rig.migrate("verify")
    shop.customers.update_one({"_id": 5}, {"$set": {"born": datetime(1901, 1, 1)}})
    shop.customers.update_one({"_id": 6}, {"$unset": {"phone": ""}})
    rig.migrate("rejects", "replay", "-s", "customers")
    assert rig.value("SELECT count(*) FROM customers") == 100


def test_a_mended_element_is_replayed_and_none_that_came_to_stand_in_its_place(rig: Rig, shop: "Database[Any]") -> None:
    filled(shop)
    kept, taken, none = [each["_id"] for each in shop.orders.find({"lines": {"$size": 3}}).sort("_id", 1).limit(3)]
    shop.orders.update_many({"_id": {"$in": [kept, taken]}}, {"$set": {"lines.0.qty": "many"}})
    shop.orders.update_one({"_id": none}, {"$set": {"lines": {"sku": "S", "qty": 1}}})
    project(rig)
    rig.migrate("run")
    assert (rig.value("SELECT count(*) FROM lines"), rig.fates("lines")[4]) == (895, 3)
    shop.orders.update_one({"_id": kept}, {"$set": {"lines.0.qty": 7}})
    shop.orders.update_one({"_id": taken}, {"$pop": {"lines": -1}})  # the next one stands in its place, and was loaded
    shop.orders.update_one({"_id": none}, {"$set": {"lines": [{"sku": "A", "qty": 1}, {"sku": "B", "qty": 2}]}})
    said = rig.migrate("rejects", "replay", "-s", "lines", code=3).said
    assert "the array around it is not as it was when it was loaded" in said
    assert "not found" not in said
    held = {
        key: rig.sql("SELECT position, qty FROM lines WHERE order_id = %s ORDER BY position", str(key))
        for key in (kept, taken, none)
    }
    assert held == {kept: [(1, 7), (2, 2), (3, 3)], taken: [(2, 2), (3, 3)], none: [(1, 1), (2, 2)]}


def test_nothing_of_a_document_is_lost_where_the_rest_is_mapped(rig: Rig, shop: "Database[Any]") -> None:
    documents = [
        {"_id": n, "v": value, "w": {"deep": n, "more": [n, {"x": None}]}, f"only{n}": n}
        for n, value in enumerate(
            [1, "x", 2.5, None, True, Decimal128("1.10"), ObjectId(), [1], {"a": 1}, datetime(1960, 1, 1)]
        )
    ]
    shop.t.insert_many(documents)
    tables = "  t: {from: shop.t, key: _id, primary_key: id, columns: {id: _id, v: v, deep: '\"w.deep\"', rest: _rest}}"
    project(rig, "    fields: {t: {_id: integer, v: integer, w: {deep: integer}}}", tables, "    mixed: rest\n")
    rig.migrate("run")
    assert rig.fates("t") == (10, 10, 0, 0, 0)
    for n, v, deep, rest in rig.sql("SELECT id, v, deep, rest FROM t ORDER BY id"):
        whole = json.loads(json_util.dumps(documents[n], json_options=json_util.RELAXED_JSON_OPTIONS))
        again = {"_id": n, "w": {"deep": deep, **rest.pop("w")}, **({"v": v} if v is not None else {}), **rest}
        assert {k: x for k, x in again.items() if x is not None} == {k: x for k, x in whole.items() if x is not None}
    rig.migrate("verify")


def test_a_killed_load_goes_on_and_equals_a_clean_one(rig: Rig, shop: "Database[Any]") -> None:
    filled(shop)
    project(rig)
    killed = rig.killed_at("committed", 4, "run", "--batch-rows", "50", "-j", "1")
    assert killed.code == -9
    before = rig.value("SELECT count(*) FROM customers")
    assert 0 < before <= 100
    rig.migrate("run", "--batch-rows", "50")
    assert [rig.fates(table)[:2] for table in ("customers", "orders", "lines")] == [(100, 100), (600, 600), (900, 900)]
    assert rig.migrate("verify").said.count("equal") == 3


def test_a_wrong_password_is_said_and_never_repeated(rig: Rig, mongo: Mongo, mongo_database: str) -> None:
    project(rig)
    rig.environment["SOURCE_URL"] = "mongodb://tester:pa55w0rd@127.0.0.1:1/x?serverSelectionTimeoutMS=300"
    ended = rig.migrate("run", code=75)
    assert "Is the source up and reachable?" in ended.said
    assert "pa55w0rd" not in ended.said


def test_a_dry_run_leaves_nothing(rig: Rig, shop: "Database[Any]") -> None:
    filled(shop)
    project(rig)
    said = rig.migrate("run", "--dry-run").said
    assert "1,600" in said
    assert rig.value("SELECT to_regclass('customers') IS NULL")


def test_a_collection_without_documents_says_what_to_declare_and_then_is_loaded(
    rig: Rig, shop: "Database[Any]"
) -> None:
    shop.create_collection("customers")
    shop.create_collection("orders")
    project(rig, fields="")
    rig.sql("CREATE TABLE customers (id int PRIMARY KEY, name text, born timestamptz, city text)")
    err = rig.migrate("run", code=2).err
    assert (
        'table "customers": shop.customers holds no documents, so its fields are not known. Declare them in the source, as in '
        "fields: {customers: {_id: integer, name: text, born: moment, address: {city: text}}}" in err
    )
    assert "fields: {orders: {_id: text}, orders/lines: {sku: text, qty: text}}" in err
    project(rig)
    rig.migrate("check")
    rig.migrate("run")
    report = rig.migrate("report", "--format", "json").json()
    assert (report["accounted"], report["totals"]["read"], len(report["tables"])) == (True, 0, 3)
    assert rig.migrate("verify").said.count("equal") == 3
    shop.orders.insert_one({"_id": 1, "lines": []})
    project(
        rig,
        fields="\n    fields: {customers: {_id: integer}, orders: {_id: integer}}\n",
        tables=TABLES[TABLES.index("  lines:") :].replace(
            "{references: orders, by: '\"_parent._id\"'}", "'\"_parent._id\"'"
        ),
    )
    err = rig.migrate("plan", "--restart", code=3).err  # which is a change, too
    assert 'table "lines": shop.orders/lines holds no elements, so its fields are not known' in err
    assert "fields: {orders/lines: {sku: text, qty: integer}}" in err


def test_elements_know_their_document_whatever_its_id_is(shop: "Database[Any]", rig: Rig) -> None:
    ids = [1, "s", ObjectId("65a000000000000000000001"), 2.5, {"a": 1}]
    shop.things.insert_many([{"_id": each, "lines": [{"k": at}]} for at, each in enumerate(ids)])
    rig.migrate("init", rig.environment["SOURCE_URL"])
    written = (rig.folder / "migrate.yaml").read_text()
    name = written.split("{env:S")[1].split("_USER")[0]
    rig.environment.update({f"S{name}_USER": "tester", f"S{name}_PASSWORD": "geheim@1"})
    rig.migrate("check")
    rig.migrate("run")
    rows = rig.sql("SELECT k, t.id = l.parent__id FROM things_lines l JOIN things t ON t.id = l.parent__id ORDER BY k")
    assert rows == [(k, True) for k in range(5)]
    rig.migrate("verify")
