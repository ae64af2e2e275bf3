"""XML into PostgreSQL: parents and children from one file, foreign keys between them, and what is done about bad records."""

import json

from e2e.rig import Rig

ORDERS = """<?xml version="1.0" encoding="windows-1252"?>
<orders day="2024-05-01">
  <order no="1"><customer>Müller &amp; Söhne</customer><total>10.50</total>
    <line><sku>A</sku><qty>2</qty></line>
    <line><sku>B</sku><qty>1</qty></line>
  </order>
  <order no="2"><customer>Zoé</customer><total>zehn</total></order>
  <order no="3"><customer>Ola</customer><total>3</total>
    <line><sku>C</sku><qty>5</qty></line>
    <line><sku>D</sku><qty>x</qty></line>
  </order>
  <order no="4"><customer>lost<total>4</total></order>
  <order no="5"><customer>Ida</customer><total>5</total></order>
</orders>
"""
PROJECT = """\
migration: m
target: ${env:TARGET_URL}
defaults: {max_rejects: 100%}
sources:
  shop:
    xml: "in/*.xml"
    tables:
      orders:
        record: /orders/order
        columns: {no: "@no", customer: customer, total: total, day: "../@day"}
      lines:
        record: /orders/order/line
        columns: {order_no: "../@no", n: position(), sku: sku, qty: qty}
tables:
  orders:
    from: shop.orders
    key: no
    columns: {no: no, customer: customer, total: total, day: day}
  order_lines:
    from: shop.lines
    key: [order_no, n]
    columns: {order_no: order_no, n: n, sku: sku, qty: qty}
"""
DDL = """
CREATE TABLE orders (no int PRIMARY KEY, customer text NOT NULL, total numeric(10,2) NOT NULL, day date NOT NULL);
CREATE TABLE order_lines (order_no int REFERENCES orders, n int, sku text, qty int, PRIMARY KEY (order_no, n));
"""


def loaded(rig: Rig, data: str = ORDERS) -> None:
    rig.write("migrate.yaml", PROJECT)
    rig.write("in/orders.xml", data.encode("cp1252"))
    rig.sql(DDL)


def test_parents_and_children_are_loaded_and_every_record_is_accounted_for(rig: Rig) -> None:
    loaded(rig)
    assert "ok   order_lines, source: 4 columns" in rig.migrate("check").out
    rig.migrate("run")
    assert rig.sql("SELECT no, customer, total::text, day::text FROM orders ORDER BY 1") == [
        (1, "Müller & Söhne", "10.50", "2024-05-01"),
        (3, "Ola", "3.00", "2024-05-01"),
        (5, "Ida", "5.00", "2024-05-01"),
    ]
    assert rig.sql("SELECT * FROM order_lines ORDER BY 1, 2") == [(1, 1, "A", 2), (1, 2, "B", 1), (3, 1, "C", 5)]
    assert rig.fates("orders") == (5, 3, 0, 0, 2)
    assert rig.fates("order_lines") == (5, 3, 0, 0, 2)  # a line, and the order that is broken
    rig.migrate("verify")
    rejects = rig.sql(
        "SELECT name, rule, locator->>'line', locator->>'last_line', raw FROM migrate_ledger.reject ORDER BY 1, 3"
    )
    assert [(name, line, last) for name, _, line, last, _ in rejects] == [
        ("order_lines", "10", "10"), ("order_lines", "12", "12"), ("orders", "12", "12"), ("orders", "7", "7"),
    ]  # fmt: skip
    assert bytes(rejects[0][4]) == b"<line><sku>D</sku><qty>x</qty></line>"
    assert "Opening and ending tag mismatch" in rig.migrate("rejects", "list").out


def test_a_mended_file_is_replayed(rig: Rig) -> None:
    loaded(rig)
    rig.migrate("run")
    mended = ORDERS.replace("zehn", "10").replace("<qty>x<", "<qty>7<").replace("lost<", "Eva</customer><")
    rig.write("mended.xml", mended.encode("cp1252"))
    rig.migrate("rejects", "replay", "-s", "orders", "--from", "mended.xml")
    rig.migrate("rejects", "replay", "-s", "order_lines", "--from", "mended.xml", code=3)  # order 4 has no line to find
    assert rig.sql("SELECT no, customer FROM orders ORDER BY 1") == [
        (1, "Müller & Söhne"), (2, "Zoé"), (3, "Ola"), (4, "Eva"), (5, "Ida"),
    ]  # fmt: skip
    assert rig.value("SELECT qty FROM order_lines WHERE sku = 'D'") == 7
    assert rig.fates("orders") == (5, 5, 0, 0, 0)


def test_a_record_that_moved_is_not_taken_for_the_one_that_was_rejected(rig: Rig) -> None:
    loaded(rig, ORDERS.replace("<qty>5<", "<qty>x<").replace("<sku>D</sku><qty>x<", "<sku>D</sku><qty>7<"))
    rig.migrate("run")
    assert rig.sql("SELECT * FROM order_lines WHERE order_no = 3") == [(3, 2, "D", 7)]
    replay = ("rejects", "replay", "-s", "order_lines", "--from", "mended.xml")
    order = "<orders day='x'><order no='3'>%s<line><sku>D</sku><qty>7</qty></line></order></orders>"
    rig.write("mended.xml", order % "")
    said = rig.migrate(*replay, code=3).said
    assert "its key order_no=3, n=1 is a place, and another may stand there in mended.xml" in said
    assert rig.sql("SELECT * FROM order_lines WHERE order_no = 3") == [(3, 2, "D", 7)]
    rig.write("mended.xml", order % "<line><sku>C</sku><qty>6</qty></line>")
    rig.migrate(*replay, code=3)  # the broken order is still open
    assert rig.sql("SELECT * FROM order_lines WHERE order_no = 3 ORDER BY n") == [(3, 1, "C", 6), (3, 2, "D", 7)]


def test_records_that_share_a_line_are_not_taken_for_each_other(rig: Rig) -> None:
    rig.write(
        "migrate.yaml",
        PROJECT.partition("      lines:")[0]
        + "tables:\n  t:\n    from: shop.orders\n    columns: {no: no, total: total}\n",
    )
    data = "<orders day='x'><order no='1'><total>1</total></order><order no='2'><total>?</total></order>\n" \
        "<order no='3'><total>?</total></order></orders>"  # fmt: skip
    rig.write("in/orders.xml", data)
    rig.sql("CREATE TABLE t (no int, total int)")
    rig.migrate("run")
    rig.write("mended.xml", data.replace("?", "7"))
    rig.migrate("rejects", "replay", "-s", "t", "--from", "mended.xml", code=3)
    assert rig.sql("SELECT * FROM t ORDER BY 1") == [(1, 1), (3, 7)]
    assert rig.fates("t") == (3, 2, 0, 0, 1)


def test_a_changed_file_is_refused(rig: Rig) -> None:
    loaded(rig)
    rig.killed_at("claim", 1, "run")
    rig.write("in/orders.xml", ORDERS.replace("Ola", "Ole").encode("cp1252"))
    assert "in/orders.xml has changed since the plan was made" in rig.migrate("run", code=6).err
    rig.write("in/orders.xml", ORDERS.encode("cp1252"))
    rig.migrate("run")
    assert rig.fates("orders") == (5, 3, 0, 0, 2)


def test_a_document_type_is_refused(rig: Rig) -> None:
    loaded(rig, '<?xml version="1.0"?><!DOCTYPE orders [<!ENTITY e SYSTEM "file:///etc/passwd">]><orders>&e;</orders>')
    assert "document type" in rig.migrate("run", code=6).err


def test_init_writes_what_runs(rig: Rig) -> None:
    good = ORDERS.replace("zehn", "10").replace("<qty>x<", "<qty>7<").replace("lost<", "Eva</customer><")
    rig.write("orders.xml", good.encode("cp1252"))
    rig.write("customers.csv", "name;city\nIda;Ulm\n")
    rig.migrate("init", "orders.xml", "customers.csv")
    written = (rig.folder / "migrate.yaml").read_text(encoding="utf-8")
    assert "    xml:\n      - orders.xml\n    tables:\n      order:\n        record: /orders/order\n" in written
    assert "          order_no: ../@no\n          position: position()\n" in written
    rig.migrate("check")
    rig.migrate("run")
    rig.migrate("verify")
    assert rig.sql('SELECT no, customer, total::text FROM "order" ORDER BY 1')[0] == (1, "Müller & Söhne", "10.50")
    assert rig.sql("SELECT order_no, position, sku, qty FROM line ORDER BY 1, 2")[-1] == (3, 2, "D", 7)
    assert rig.value("SELECT count(*) FROM customers") == 1
    state = json.loads(rig.migrate("report", "--format", "json").out)
    assert state
