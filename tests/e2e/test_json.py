"""JSON into PostgreSQL: documents and what their arrays hold, each accounted for, damage rejected, kills survived."""

import gzip
import json
import signal
import sys

import pytest

from e2e.rig import Rig, state_of

ORDERS = """\
{"_id": 1, "customer": {"name": "Müller", "city": "Ulm"}, "total":10.50, "lines": [{"sku": "A", "qty": 2}, {"sku": "B", "qty":1}]}
{"_id": 2, "customer": {"name": "Zo\\u00e9", "city": null}, "total": "ten", "lines": []}
{"_id": 3, "customer": {"name": "Ola", "city": "Rom"}, "total": 3, "lines": [{"sku": "C", "qty": 5}, {"sku": "D", "qty": "x"}]}

{"_id": 4, "customer": {"name": "lost, "city": "Rom"}, "total": 4, "lines": [{"sku": "E", "qty": 1}]}
{"_id": 5, "customer": {"name": "Ida", "city": "Ulm", "vip": true}, "total": 5, "lines": null, "note": "by hand"}
{"_id": 6, "customer": {"name": "Eva", "city": "Ulm"}, "total": 6, "lines": "none"}
"""
PROJECT = """\
migration: m
target: ${env:TARGET_URL}
defaults: {max_rejects: 100%}
sources:
  shop:
    json: {orders: "in/orders.*"}
    fields:
      orders: {_id: integer, customer: {name: text, city: text}, total: decimal, lines: json}
      orders/lines: {sku: text, qty: integer}
tables:
  orders:
    from: shop.orders
    key: _id
    primary_key: id
    columns: {id: _id, customer: '"customer.name"', city: '"customer.city"', total: total, rest: _rest}
  order_lines:
    from: shop.orders
    unnest: lines
    key: [_parent._id, _position]
    columns: {order_id: {references: orders, by: '"_parent._id"'}, n: _position, sku: sku, qty: qty}
"""
DDL = """
CREATE TABLE orders (id int PRIMARY KEY, customer text NOT NULL, city text, total numeric NOT NULL, rest jsonb);
CREATE TABLE order_lines (order_id int REFERENCES orders, n int, sku text, qty int, PRIMARY KEY (order_id, n));
"""


def loaded(rig: Rig, name: str = "in/orders.jsonl", data: str = ORDERS) -> None:
    rig.write("migrate.yaml", PROJECT)
    rig.write(name, gzip.compress(data.encode()) if name.endswith(".gz") else data)
    rig.sql(DDL)


def as_array(lines: str) -> str:
    return '{"day": "2024-05-01", "data": [' + ",\n".join(line for line in lines.splitlines() if line) + '], "n": 6}'


def check_all(rig: Rig) -> None:
    assert rig.sql("SELECT id, customer, city, total::text, rest FROM orders ORDER BY 1") == [
        (1, "Müller", "Ulm", "10.50", None),
        (3, "Ola", "Rom", "3", None),
        (5, "Ida", "Ulm", "5", {"note": "by hand", "customer": {"vip": True}}),
        (6, "Eva", "Ulm", "6", None),
    ]
    assert rig.sql("SELECT * FROM order_lines ORDER BY 1, 2") == [(1, 1, "A", 2), (1, 2, "B", 1), (3, 1, "C", 5)]
    assert rig.fates("orders") == (6, 4, 0, 0, 2)
    assert rig.fates("order_lines") == (6, 3, 0, 0, 3)  # a line, the document that is broken, and what is no array


def test_documents_and_their_arrays_are_loaded_and_each_is_accounted_for(rig: Rig) -> None:
    loaded(rig)
    assert "in/orders.jsonl: read as JSON Lines" in rig.migrate("check").said
    rig.migrate("run")
    check_all(rig)
    rig.migrate("verify")
    rejects = rig.sql(
        "SELECT name, rule, convert_from(reason, 'UTF8'), locator->>'line', raw FROM migrate_ledger.reject "
        "ORDER BY name, (locator->>'start')::int"
    )
    assert [(name, rule, line) for name, rule, _, line, _ in rejects] == [
        ("order_lines", "type", "3"), ("order_lines", "structure", "5"), ("order_lines", "type", "7"),
        ("orders", "type", "2"), ("orders", "structure", "5"),
    ]  # fmt: skip
    assert bytes(rejects[0][4]) == b'{"sku": "D", "qty": "x"}'
    assert bytes(rejects[4][4]).decode() == ORDERS.splitlines()[4]
    assert 'total: "ten" is no decimal' in rejects[3][2]
    assert "is no valid JSON at byte 40" in rejects[4][2]
    mended = ORDERS.replace('"ten"', "10").replace('"lost', '"lost"').replace('"x"', "7")
    rig.write("mended.jsonl", mended)
    rig.migrate("rejects", "replay", "-s", "orders", "--from", "mended.jsonl")
    assert rig.sql("SELECT id, customer FROM orders ORDER BY 1")[1] == (2, "Zoé")
    assert rig.fates("orders") == (6, 6, 0, 0, 0)


def test_an_array_within_an_object_gives_the_same_rows(rig: Rig) -> None:
    loaded(rig, "in/orders.json.gz", as_array(ORDERS))
    rig.write("migrate.yaml", PROJECT.replace("    fields:", "    records: data\n    fields:"))
    assert "holds an array of documents at data" in rig.migrate("check").said
    rig.migrate("run")
    check_all(rig)
    rig.migrate("verify")


def test_a_document_with_fields_that_no_column_takes_is_rejected(rig: Rig) -> None:
    loaded(rig)
    rig.write("migrate.yaml", PROJECT.replace(", rest: _rest", ""))
    rig.migrate("run")
    assert rig.fates("orders") == (6, 3, 0, 0, 3)
    [(reason,)] = rig.sql("SELECT convert_from(reason, 'UTF8') FROM migrate_ledger.reject WHERE rule = 'fields'")
    assert "has fields that no column takes: customer.vip, note; map the column _rest" in reason


def keys_of(rig: Rig, table: str) -> list[str | None]:
    return [
        None if key is None else bytes(key).decode()
        for (key,) in rig.sql("SELECT key FROM migrate_ledger.reject WHERE name = %s ORDER BY chunk, ordinal", table)
    ]


def test_rows_that_could_not_be_read_have_their_keys_and_are_replayed_by_them(rig: Rig) -> None:
    strange = '{"_id": "seven", "customer": {"name": "Ada"}, "total": 7}\n{"customer": {"name": "Bo"}, "total": "8"}\n'
    loaded(rig, data=ORDERS + strange)
    rig.migrate("run")
    assert keys_of(rig, "orders") == ["_id=2", None, None, None]
    assert keys_of(rig, "order_lines") == ["_parent._id=3, _position=2", None, None]
    assert "_id=2" in rig.migrate("rejects", "list", "-s", "orders").out
    # Elsewhere in another form, other rows gone, and one still bad.
    rig.write("mended.jsonl", '\n\n{"_id": 2, "customer": {"name": "Zoé"},\t"total": "10"}\n')
    still = rig.migrate("rejects", "replay", "-s", "orders", "--from", "mended.jsonl", code=3)
    assert 'is still bad: total: "10" is no decimal' in still.said
    rig.write("mended.jsonl", '\n\n{"_id": 2, "customer": {"name": "Zoé"},\t"total": 10, "lines": []}\n')
    rig.migrate("rejects", "replay", "-s", "orders", "--from", "mended.jsonl", code=3)
    assert rig.fates("orders") == (8, 5, 0, 0, 3)
    assert rig.sql("SELECT customer, total::text FROM orders WHERE id = 2") == [("Zoé", "10")]
    rig.write("mended.jsonl", '{"_id": 3, "lines": [{"sku": "C", "qty": 5}, {"sku": "D", "qty": 7}], "total": 3}\n')
    rig.migrate("rejects", "replay", "-s", "order_lines", "--from", "mended.jsonl", code=3)
    assert rig.fates("order_lines") == (6, 4, 0, 0, 2)
    assert rig.sql("SELECT * FROM order_lines WHERE order_id = 3 ORDER BY n") == [(3, 1, "C", 5), (3, 2, "D", 7)]
    rig.migrate("verify")


def document(number: int, *lines: tuple[str, object]) -> str:
    return json.dumps({"_id": number, "total": 3, "lines": [{"sku": s, "qty": q} for s, q in lines]}) + "\n"


def test_an_element_that_moved_is_not_taken_for_the_one_that_was_rejected(rig: Rig) -> None:
    source = {
        1: [("C", "x"), ("D", 7)],
        2: [("C", 5), ("D", "x")],
        3: [("C", "x"), ("D", "y")],
        4: [("C", "x"), ("D", 7), ("E", "x")],
    }
    loaded(rig, data="".join(document(number, *lines) for number, lines in source.items()))
    rig.write("migrate.yaml", PROJECT.replace("customer: '\"customer.name\"', ", ""))
    rig.sql("ALTER TABLE orders ALTER customer DROP NOT NULL")
    rig.migrate("run")
    before = rig.sql("SELECT * FROM order_lines ORDER BY 1, 2")
    assert before == [(1, 2, "D", 7), (2, 1, "C", 5), (4, 2, "D", 7)]
    replay = ("rejects", "replay", "-s", "order_lines", "--from", "mended.jsonl")
    for number, mended, why in (
        (1, [("D", 7)], "of its parent it has 1, and the source 2"),  # taken out
        (1, [("D", 7), ("E", 8)], "what was loaded from 2 is not the same there"),
        (1, [("D", 7), ("D", "y")], "what was loaded from 2 is not the same there"),
        (2, [("B", 1), ("C", 5), ("D", 7)], "of its parent it has 3, and the source 2"),  # put before
        (3, [("D", 7)], "of its parent it has 1, and the source 2"),
        (4, [("D", 7), ("E", 8), ("F", 9)], "what was loaded from 2 is not the same there"),
    ):
        rig.write("mended.jsonl", document(number, *mended))
        said = rig.migrate(*replay, code=3).said
        assert "0 of 6 open rejects replayed" in said
        assert f"another may stand there in mended.jsonl: {why}" in said
        assert "Keep all elements there, each in its place, and mend only those that were rejected" in said
        assert rig.sql("SELECT * FROM order_lines ORDER BY 1, 2") == before
    # What to do about it; an array that is not mended does not keep the others from it.
    wholes = [document(n, *((sku, 6 if isinstance(qty, str) else qty) for sku, qty in source[n])) for n in (1, 2, 4)]
    rig.write("mended.jsonl", "".join(wholes) + document(3, ("D", 7)))
    assert "4 of 6 open rejects replayed" in rig.migrate(*replay, code=3).said
    assert rig.sql("SELECT * FROM order_lines ORDER BY 1, 2") == [
        (1, 1, "C", 6), (1, 2, "D", 7), (2, 1, "C", 5), (2, 2, "D", 6), (4, 1, "C", 6), (4, 2, "D", 7), (4, 3, "E", 6),
    ]  # fmt: skip


def test_the_places_around_an_element_are_compared_to_any_depth_and_whatever_their_spelling(rig: Rig) -> None:
    rig.write(
        "migrate.yaml",
        """\
migration: m
target: ${env:TARGET_URL}
defaults: {max_rejects: 100%}
sources:
  shop:
    json: {orders: orders.jsonl}
    fields: {orders: {_id: text}, orders/lines: {sku: text}, orders/lines/taxes: {code: text, rate: integer}}
tables:
  t:
    from: shop.orders
    unnest: lines/taxes
    key: [_parent._parent._id, _parent._position, _position]
    columns: {id: '"_parent._parent._id"', l: '"_parent._position"', n: _position, code: code, rate: rate, rest: _rest}
""",
    )
    rig.sql("CREATE TABLE t (id text, l int, n int, code text, rate int, rest jsonb)")
    first, second = (
        '{"taxes":[{"code":"C","rate":"x"}]}',
        '{"taxes":[{"code":"D","rate":7,"more":{"a":1.50,"b":[1,2]}}]}',
    )
    rig.write("orders.jsonl", f'{{"_id":"o","lines":[{first},{second}]}}\n')
    rig.migrate("run")
    replay = ("rejects", "replay", "-s", "t", "--from", "mended.jsonl")
    rig.write("mended.jsonl", f'{{"_id":"o","lines":[{second}]}}\n')
    assert "is a place, and another may stand there" in rig.migrate(*replay, code=3).said
    assert rig.sql("SELECT l, n, code FROM t") == [(2, 1, "D")]
    second = '{"taxes": [{"rate": 7, "code": "D", "more": {"a": 1.50, "b": [1, 2]}}]}'
    rig.write("mended.jsonl", f'{{"_id": "o", "lines": [{first.replace(chr(34) + "x" + chr(34), "5")}, {second}]}}\n')
    rig.migrate(*replay)
    assert rig.sql("SELECT l, n, code, rate FROM t ORDER BY 1") == [(1, 1, "C", 5), (2, 1, "D", 7)]


def test_a_key_that_stands_twice_tells_no_row_that_could_not_be_read(rig: Rig) -> None:
    loaded(rig, data=ORDERS.replace('"_id": 2', '"_id": 1'))
    rig.migrate("run")
    assert keys_of(rig, "orders")[0] == "_id=1"
    rig.write(
        "mended.jsonl",
        '{"_id": 1, "customer": {"name": "A"}, "total": 1}\n{"_id": 1, "customer": {"name": "B"}, "total": "x"}\n',
    )
    said = rig.migrate("rejects", "replay", "-s", "orders", "--from", "mended.jsonl", code=3).said
    assert "its key _id=1 stands 2 times in mended.jsonl, and its line does not tell it" in said
    assert rig.fates("orders")[1] == 4


def test_a_canary_and_several_sources_know_the_keys_too(rig: Rig) -> None:
    loaded(rig)
    rig.write("in/more.jsonl", '{"_id": 9, "customer": {"name": "Max"}, "total": "nine"}\n')
    project = PROJECT.replace('{orders: "in/orders.*"}', '{orders: "in/orders.*", more: in/more.jsonl}')
    project = project.replace(
        "      orders/lines:", "      more: {_id: integer, customer: {name: text}, total: decimal}\n      orders/lines:"
    )
    rig.write("migrate.yaml", project.replace("from: shop.orders\n    key", "from: [shop.orders, shop.more]\n    key"))
    assert "_id=9" in rig.migrate("run", "--canary", "7", "-s", "orders", "--output", "json").out
    rig.migrate("run", "-s", "orders")
    assert keys_of(rig, "orders") == ["_id=2", None, "_id=9"]


def test_values_that_do_not_fit_may_stand_in_the_rest(rig: Rig) -> None:
    loaded(rig)
    rig.write("migrate.yaml", PROJECT.replace("    fields:", "    mixed: rest\n    fields:"))
    rig.sql("ALTER TABLE orders ALTER total DROP NOT NULL")
    rig.migrate("run")
    assert rig.sql("SELECT total, rest FROM orders WHERE id = 2") == [(None, {"total": "ten"})]


def test_a_run_that_is_killed_and_resumed_equals_a_clean_one(rig: Rig) -> None:
    line = '{{"_id": {n}, "customer": {{"name": "c{n}", "city": "x"}}, "total": {n}.5, "lines": [{{"sku": "A", "qty": {n}}}]}}\n'
    data = "".join(line.format(n=n) if n % 50 else '{"_id": }\n' for n in range(1, 2_001))
    for name, text in (("in/orders.jsonl", data), ("in/orders.json", as_array(data))):
        for form in ("jsonl", "json"):
            (rig.folder / f"in/orders.{form}").unlink(missing_ok=True)
        loaded(rig, name, text)
        if name.endswith("json"):
            rig.write("migrate.yaml", PROJECT.replace("    fields:", "    records: data\n    fields:"))
        rig.migrate("run", "--batch-rows", "100")
        clean = state_of(rig.url)
        assert clean["fates"]["orders"] == (2_000, 1_960, 0, 0, 40)
        rig.forget(DDL)
        rig.killed_at("claim", 5, "run", "--batch-rows", "100")
        rig.killed_at("claim", 12, "run", "--batch-rows", "100")
        rig.migrate("run", "--batch-rows", "100")
        again = state_of(rig.url)
        assert {each: again[each] for each in ("rows", "fates", "rejects", "sums")} == {
            each: clean[each] for each in ("rows", "fates", "rejects", "sums")
        }
        rig.sql("DROP SCHEMA IF EXISTS migrate_ledger CASCADE")
        rig.sql("DROP TABLE order_lines, orders")


def test_a_changed_file_is_refused(rig: Rig) -> None:
    loaded(rig)
    rig.killed_at("claim", 1, "run")
    rig.write("in/orders.jsonl", ORDERS.replace("Ola", "Ole"))
    assert "in/orders.jsonl has changed since the plan was made" in rig.migrate("run", code=6).err
    rig.write("in/orders.jsonl", ORDERS)
    rig.migrate("run")
    check_all(rig)


def test_init_writes_what_runs(rig: Rig) -> None:
    good = [json.loads(line) for line in ORDERS.splitlines() if line and '"lost' not in line and '"none"' not in line]
    good[1]["total"], good[2]["lines"][1]["qty"] = 10, 7
    rig.write("in/orders.jsonl", "".join(json.dumps(each) + "\n" for each in good))
    rig.write("in/config.json", '{"not": "rows"')
    rig.migrate("init", "in")
    written = (rig.folder / "migrate.yaml").read_text(encoding="utf-8")
    assert "unnest: lines" in written
    assert "orders/lines:\n        sku: text" in written  # what is not declared is never dropped
    assert "in/config.json is neither" in written
    rig.migrate("check")
    rig.migrate("run")
    rig.migrate("verify")
    assert rig.value("SELECT count(*) FROM orders") == 4
    assert rig.value("SELECT sum(qty) FROM orders_lines") == 15


DEEP = """\
{"id": 1, "cart": {"lines": [{"sku": "A", "taxes": [{"code": "V", "parts": [{"p": 1}, {"p": 2}]}, {"code": "W"}]}, {"sku": "B"}]}}
{"id": 2, "cart": {"lines": []}}
{"id": 3, "cart": {"lines": [{"sku": "A", "taxes": [{"code": "V", "parts": [{"p": 3}]}]}]}}
"""


def test_arrays_in_the_elements_of_arrays_get_tables_that_belong_together(rig: Rig) -> None:
    rig.write("in/docs.jsonl", DEEP)
    said = rig.migrate("init", "in").said
    assert "4 tables" in said
    rig.migrate("check")
    rig.migrate("run")
    assert rig.sql("SELECT parent_id, position, sku FROM docs_cart_lines ORDER BY 1, 2") == [
        (1, 1, "A"), (1, 2, "B"), (3, 1, "A"),
    ]  # fmt: skip
    assert rig.sql(
        "SELECT d.id, l.sku, t.code, p.p FROM docs_cart_lines_taxes_parts p "
        "JOIN docs_cart_lines_taxes t ON (t.parent__parent_id, t.parent__position, t.position) = "
        "(p.parent__parent__parent_id, p.parent__parent__position, p.parent__position) "
        "JOIN docs_cart_lines l ON (l.parent_id, l.position) = (t.parent__parent_id, t.parent__position) "
        "JOIN docs d ON d.id = l.parent_id ORDER BY 4"
    ) == [(1, "A", "V", 1), (1, "A", "V", 2), (3, "A", "V", 3)]
    rig.migrate("verify")
    assert rig.fates("docs_cart_lines_taxes") == (3, 3, 0, 0, 0)
    rig.write("in/docs.jsonl", DEEP.replace('"id": 3', '"id": "three"'))
    rig.migrate("run", "--restart", "--max-rejects", "100%", code=0)
    assert rig.fates("docs") == (3, 2, 0, 0, 1)
    assert rig.fates("docs_cart_lines_taxes") == (3, 2, 0, 0, 1)  # nothing that belongs to nobody
    assert rig.fates("docs_cart_lines_taxes_parts") == (3, 2, 0, 0, 1)


STRANGE = """\
{"id": 1, "a": "x", "balance": 10.5, "Name": "A", "name": "b", "": "e", "lines": [{"sku": "s", "qty": 1, "_parent": {"id": 7}}]}
{"id": 2, "a": "y", "balance": 1e-7, "lines": [{"sku": "t", "qty": 1E3}]}
{"id": 3, "a": "z", "balance": 1E22, "lines": []}
"""


def test_what_strangers_lost(rig: Rig) -> None:
    """A field that is known and not mapped, names that differ in case only or are empty, numbers with an exponent."""
    rig.write("in/docs.jsonl", STRANGE)
    rig.migrate("init", "in")
    text = (rig.folder / "migrate.yaml").read_text(encoding="utf-8")
    assert "parent_id" in text  # an element that knows whose it is
    rig.migrate("check")
    rig.migrate("run")
    assert rig.sql("SELECT id, balance::text FROM docs ORDER BY id") == [
        (1, "10.5"),
        (2, "0.0000001"),
        (3, "10000000000000000000000"),
    ]
    assert rig.value("SELECT rest FROM docs WHERE id = 1") == {"name": "b", "": "e"}
    assert rig.value("SELECT rest FROM docs_lines WHERE sku = 's'") == {"_parent": {"id": 7}}
    assert rig.value("SELECT count(*) FROM docs_lines l JOIN docs d ON d.id = l.parent_id") == 2
    rig.migrate("verify")
    several = "  several: {from: json.docs, key: id, columns: {id: id, rest: _rest}}\n"
    rig.write("migrate.yaml", text.partition("tables:")[0] + "tables:\n" + several)
    rig.migrate("run")
    assert rig.value("SELECT rest FROM several WHERE id = 2") == {"a": "y", "balance": 1e-7}  # lines are docs_lines
    assert rig.value("SELECT rest->>'Name' FROM several WHERE id = 1") == "A"


SOON = "import connectors.attention, sys; connectors.attention.EVERY = 0.0; from migrate.cli import main; main(sys.argv[1:])"


def test_a_long_look_for_fields_says_how_far_it_is_and_can_be_stopped(rig: Rig) -> None:
    line = '{"id": 1, "lines": [{"sku": "A", "taxes": [{"code": "V"}]}], "note": "x"}\n'
    rig.write("in/docs.jsonl", line * (48 << 20 >> 6))
    running = rig.start("init", "in", command=(sys.executable, "-c", SOON))
    running.until(lambda lines: any("in/docs.jsonl is looked through for fields" in each for each in lines))
    running.process.send_signal(signal.SIGINT)
    ended = running.end()
    assert ended.code == 130
    assert "Traceback" not in ended.err
    assert ended.out == ""  # what may be in a pipe is clean
    assert not (rig.folder / "migrate.yaml").exists()
    rig.write("in/docs.jsonl", line)
    project = (
        PROJECT.partition("    fields:")[0] + "tables: {docs: {from: shop.orders, columns: {id: id, rest: _rest}}}\n"
    )
    rig.write("migrate.yaml", project.replace("in/orders.*", "in/docs.jsonl"))
    for command in ("check", "plan"):
        said = rig.try_(command, "--output", "json", command=(sys.executable, "-c", SOON))
        assert "shop.orders: in/docs.jsonl is looked through for fields, 100 %" in said.err
        said.json()


def test_a_file_that_is_one_object_gives_a_table_for_each_of_its_arrays(rig: Rig) -> None:
    document = {
        "made": "2020-01-01",
        "Genre": [{"GenreId": n, "Name": f"Ä{n}"} for n in range(1, 6)],
        "data": {"Album": [{"AlbumId": n, "tracks": [{"no": at} for at in range(n)]} for n in range(1, 4)], "none": []},
        "Link": [{"GenreId": a, "AlbumId": b, "w": a + b} for a in range(1, 6) for b in range(1, 4)],
        "words": ["x"],
    }
    rig.write("all.json", json.dumps(document, indent=1))
    told = rig.migrate("init", "all.json").said
    written = (rig.folder / "migrate.yaml").read_text()
    assert "Album: data/Album" in written
    # What is no table is told, on the terminal and in the file.
    for text in (written, told):
        assert "not taken, for these are no arrays of objects, or stand deeper: made, data/none, words" in text
    assert "key: [GenreId, AlbumId]  # unique in the sample" in written
    rig.migrate("check")
    rig.migrate("run")
    counts = {t: rig.value(f"SELECT count(*) FROM {t}") for t in ("genre", "album", "link", "album_tracks")}
    assert counts == {"genre": 5, "album": 3, "link": 15, "album_tracks": 6}
    rig.migrate("verify")
    wrong = written.replace("Album: data/Album", "Album: data/Nowhere")
    rig.write("migrate.yaml", wrong)
    assert "no array was found at data/Nowhere" in rig.migrate("check", code=3).said
    rig.write("migrate.yaml", wrong.replace("Album: data/Nowhere", "Alubm: data/Album"))
    assert "records: no table 'Alubm' among the files" in rig.migrate("check", code=3).said


@pytest.mark.parametrize(("name", "text"), [("orders.jsonl", ""), ("orders.jsonl", "\n\n"), ("orders.json", "[]")])
def test_an_empty_file_says_what_to_declare_and_then_is_loaded(rig: Rig, name: str, text: str) -> None:
    loaded(rig, f"in/{name}", text)
    fields = PROJECT[PROJECT.index("    fields:") : PROJECT.index("tables:")]
    rig.write("migrate.yaml", PROJECT.replace(fields, ""))
    told = (
        'table "orders": shop.orders holds no documents, so its fields are not known. Declare them in the source, as in '
        "fields: {orders: {_id: integer, customer: {name: text, city: text}, total: decimal}}, with their types; or take "
    )
    of_lines = (
        'table "order_lines": shop.orders holds no documents, so its fields are not known. Declare them in the source, as in '
        "fields: {orders: {_id: integer}, orders/lines: {sku: text, qty: integer}}, with their types; or take the table out."
    )
    for command in ("plan", "run"):
        err = rig.migrate(command, code=2).err
        assert told in err
        assert of_lines in err
        assert "is not in the source" not in err
    assert told in rig.migrate("check", code=3).said
    shown = "    fields: {orders: {_id: integer, customer: {name: text, city: text}, total: decimal}, "
    rig.write("migrate.yaml", PROJECT.replace(fields, shown + "orders/lines: {sku: text, qty: integer}}\n"))
    rig.migrate("check")
    rig.migrate("run")
    report = rig.migrate("report", "--format", "json").json()
    assert (report["accounted"], report["totals"]["read"], len(report["tables"])) == (True, 0, 2)
    assert rig.migrate("verify").said.count("equal") == 2
    rig.migrate("verify", "--level", "aggregates")


def test_what_init_writes_of_an_empty_file_runs(rig: Rig) -> None:
    rig.write("in/docs.jsonl", "")
    rig.write("in/more.json", '[{"id": 1, "lines": []}, {"id": 2}]')
    rig.migrate("init", "in")
    checked = {each["what"]: each for each in rig.migrate("check", "--output", "json").json()}
    assert checked["docs, source"]["level"] == "warning"
    assert "no document stands in it" in checked["docs, source"]["said"]
    rig.migrate("run")
    assert "docs: equal" in rig.migrate("verify").out
    assert rig.value("SELECT count(*) FROM docs") == 0


def test_an_array_of_which_no_document_has_an_element_is_told_as_that(rig: Rig) -> None:
    loaded(rig, data='{"_id": 1, "customer": {"name": "A"}, "total": 1}\n')
    fields = PROJECT[PROJECT.index("    fields:") : PROJECT.index("tables:")]
    rig.write("migrate.yaml", PROJECT.replace(fields, ""))
    assert (
        "no array lines with elements stands in in/orders.jsonl" in rig.migrate("run", "-s", "order_lines", code=6).err
    )


def test_arrays_of_one_name_are_tables_of_their_own_however_the_file_is_written(rig: Rig) -> None:
    document = {
        "x": {"rows": [{"a": 1}]},
        "y": {"rows": [{"a": 2}]},
        "x_rows": [{"a": 3}],
        "": [{"a": 4}],
        "p/q": [{"a": 5}],
    }
    for indent in (None, 2):
        rig.write("all.json", json.dumps(document, indent=indent))
        said = rig.migrate("init", "all.json", "-y").said
        written = (rig.folder / "migrate.yaml").read_text()
        assert [line.split()[1] for line in written.splitlines() if line.strip().startswith("from:")] == [
            "all.x_rows",
            "all.y_rows",
            "all.x_rows_2",
        ]
        assert 'stand deeper: "", p/q' in said


def test_elements_know_their_parent_also_where_its_key_is_of_several_kinds(rig: Rig) -> None:
    documents = [{"id": n if n % 5 else f"x{n}", "lines": [{"k": n}] if n != 7 else "oops"} for n in range(1, 31)]
    rig.write("o.json", json.dumps(documents))
    rig.migrate("init", "o.json")
    rig.migrate("check")
    rig.migrate("run", "--max-rejects", "2", code=0)
    assert rig.sql("SELECT parent_id::text, k FROM o_lines WHERE k IN (4, 5) ORDER BY k") == [("4", 4), ('"x5"', 5)]
    assert (rig.value("SELECT count(*) FROM o_lines"), rig.fates("o_lines")[4]) == (29, 1)
    rig.migrate("verify")


def test_what_is_a_list_is_no_key(rig: Rig) -> None:
    rig.write("o.json", json.dumps([{"a": 1, "tags": [n]} for n in range(5)]))
    rig.migrate("init", "o.json")
    assert "    key:" not in (rig.folder / "migrate.yaml").read_text()


def test_an_empty_file_hides_no_other_fault_of_its_tables(rig: Rig) -> None:
    rig.write("in/orders.jsonl", "")
    fields = PROJECT[PROJECT.index("    fields:") : PROJECT.index("tables:")]
    project = PROJECT.replace(fields, "").replace("total: total,", "total: no_such_function(total),")
    rig.write("migrate.yaml", project.replace("sku: sku,", "sku: {value: sku, type: varcharr},"))
    err = rig.migrate("plan", code=2).err
    assert 'there is no function "no_such_function"' in err
    assert 'column "sku": ' in err
    assert "varcharr" in err
    assert err.count("holds no documents, so its fields are not known") == 2
    assert "is not in the source" not in err


def test_a_file_that_holds_no_rows_leaves_a_note_and_no_source_beside_an_object_of_arrays(rig: Rig) -> None:
    rig.write("in/all.json", json.dumps({"a": [{"x": 1}], "n": 2}))
    rig.write("in/words.json", "no JSON")
    said = rig.migrate("init", "in").said
    written = (rig.folder / "migrate.yaml").read_text()
    for text in (said, written):
        assert "left out: in/words.json" in text
    rig.migrate("check")
    rig.migrate("run")
    assert rig.value("SELECT count(*) FROM a") == 1
