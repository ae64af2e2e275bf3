"""A REST API into PostgreSQL: what its server sent is in the target, whatever happens on the way, and it is asked once."""

import json
import signal
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from webserver import Api, Asked, Reply, by_page, first, serving

from e2e.rig import Rig

COUNT = 230
ORDERS: list[dict[str, Any]] = [
    {
        "id": n,
        "customer": {"name": f"Ünal {n}"},
        "total": n / 10,
        "lines": [{"sku": f"S{n}-{at}", "qty": at} for at in range(n % 3)],
    }
    for n in range(1, COUNT + 1)
]
LINES = [(order["id"], at, line["sku"]) for order in ORDERS for at, line in enumerate(order["lines"], 1)]
PROJECT = """\
migration: m
target: ${env:TARGET_URL}
sources:
  shop:
    rest: ${env:API}/v2
    headers: {Authorization: "Bearer ${env:API_TOKEN}"}
    record: landing/shop
    tables:
      orders:
        path: orders
        records: items
        params: {status: all}
        pages: {by: page, param: page, size_param: per_page, size: 10}
        total: total
        key: id
tables:
  orders:
    from: shop.orders
    key: id
    columns: {id: id, customer: '"customer.name"', total: total}
  lines:
    from: shop.orders
    unnest: lines
    columns: {order_id: {references: orders, by: '"_parent.id"'}, position: _position, sku: sku, qty: qty}
"""
DDL = """
CREATE TABLE orders (id int PRIMARY KEY, customer text NOT NULL, total numeric(10,1));
CREATE TABLE lines (order_id int REFERENCES orders, position int, sku text, qty int, PRIMARY KEY (order_id, position));
"""
PAGES = by_page(ORDERS, 10, total=True)
TOKEN = "t0k3n-of-the-api"


def right(asked: Asked) -> Reply:
    if asked.headers.get("Authorization") != f"Bearer {TOKEN}":
        return Reply.of({"error": f"bad token {asked.headers.get('Authorization')}"}, status=401)
    return PAGES(asked) if asked.path == "/v2/orders" else Reply(status=404)


@pytest.fixture
def api(rig: Rig) -> Iterator[Api]:
    with serving(right) as server:
        rig.environment.update(API=server.url, API_TOKEN=TOKEN)
        rig.write("migrate.yaml", PROJECT)
        rig.sql(DDL)
        yield server


def loaded(rig: Rig) -> None:
    assert rig.sql("SELECT id, customer, total::float8 FROM orders ORDER BY 1") == [
        (order["id"], order["customer"]["name"], order["total"]) for order in ORDERS
    ]
    assert rig.sql("SELECT order_id, position, sku FROM lines ORDER BY 1, 2") == LINES
    assert rig.fates("orders") == (COUNT, COUNT, 0, 0, 0)


def test_an_api_is_checked_loaded_and_verified_and_fetched_once(rig: Rig, api: Api) -> None:
    checked = rig.migrate("check")
    assert "ok   shop, orders, API: HTTP 200, 10 items on the first page; 230 in all; pages by page" in checked.out
    assert "shop.orders: 23 pages, 230 rows fetched, recorded in landing/shop/orders" in checked.err
    assert len(api.asked) == 24  # the preflight's, and each page once
    assert {(each.query["status"], each.query["per_page"]) for each in api.asked} == {("all", "10")}
    planned = rig.migrate("plan")
    assert "shop.orders/lines" in planned.out
    rig.migrate("run")
    loaded(rig)
    rig.migrate("run")
    assert "orders: equal" in rig.migrate("verify").out
    checked = rig.migrate("check")
    assert "ok   shop, orders, API: nothing is asked: 23 pages with 230 items, recorded until 20" in checked.out
    assert len(api.asked) == 24
    assert rig.sql("SELECT DISTINCT view FROM migrate_ledger.reading") in ([], [("pinned",)])


FAULTS = [
    Reply(status=500),
    Reply(status=500),
    PAGES(Asked("GET", "", {"page": "1"}, {})),
    Reply(PAGES(Asked("GET", "", {"page": "2"}, {})).body, cut=200),
    Reply(status=429, headers={"Retry-After": "1"}),
]


def test_an_api_that_fails_throttles_breaks_off_and_repeats_is_loaded_whole(rig: Rig, api: Api) -> None:
    api.answer = first(FAULTS, right, lambda asked: asked.query["page"] == "2")
    ended = rig.migrate("run")
    assert "HTTP 500 Internal Server Error; asked again in" in ended.err
    assert "page 2: its 10 items are those of page 1; asked again" in ended.err
    assert "the answer breaks off" in ended.err
    assert "HTTP 429 Too Many Requests; asked again in 1.0 s" in ended.err
    assert [page for page in api.pages("page") if page != "2"] == [str(n) for n in range(1, 24) if n != 2]
    assert api.pages("page").count("2") == 6
    loaded(rig)


def test_a_fetch_that_is_killed_goes_on_and_asks_no_page_twice(rig: Rig, api: Api) -> None:
    for page in (4, 5, 12, 20):

        def slow(asked: Asked, page: int = page) -> Reply:
            if int(asked.query["page"]) >= page:
                time.sleep(0.3)
            return right(asked)

        api.answer = slow
        before = len(api.asked)
        running = rig.start("run")
        end = time.monotonic() + 60
        while str(page) not in api.pages("page")[before:]:
            assert time.monotonic() < end, running.errors()
            time.sleep(0.01)
        running.kill()
    done = len((rig.folder / "landing/shop/orders/manifest.jsonl").read_bytes().splitlines()) - 1
    assert done >= 19
    api.answer = right
    rig.migrate("run")
    loaded(rig)
    asked = [int(page) for page in api.pages("page")]
    # A page in hand when the process was killed is asked for again; none that was recorded is.
    assert all(b in (a, a + 1) for a, b in pairwise(asked))
    assert len(asked) <= 23 + 4


def test_ctrl_c_stops_a_fetch_and_says_how_far_it_is(rig: Rig, api: Api) -> None:
    def slow(asked: Asked) -> Reply:
        time.sleep(0.05 if int(asked.query["page"]) < 6 else 2)
        return right(asked)

    api.answer = slow
    running = rig.start("run")
    end = time.monotonic() + 60
    while "6" not in api.pages("page"):
        assert time.monotonic() < end, running.errors()
        time.sleep(0.01)
    running.process.send_signal(signal.SIGINT)
    ended = running.end()
    assert ended.code == 130
    assert "Stopped; 5 pages of orders are recorded in landing/shop/orders." in ended.err
    assert "Traceback" not in ended.said
    api.answer = right
    rig.migrate("run")
    loaded(rig)


def test_a_run_that_was_killed_reads_the_recording_again(rig: Rig, api: Api) -> None:
    rig.killed_at("claim", 3, "run", "--batch-rows", "50")
    api.answer = lambda _: Reply(status=500)
    rig.migrate("run")
    loaded(rig)
    assert len(api.asked) == 23
    assert rig.value("SELECT count(*) FROM migrate_ledger.entry") > 5  # several pages a chunk, several chunks


def test_a_recording_that_was_altered_or_is_of_another_request_is_refused(rig: Rig, api: Api) -> None:
    rig.migrate("run")
    page = rig.folder / "landing/shop/orders/000003.json"
    body = page.read_bytes()
    page.write_bytes(body.replace(b"S25", b"S52"))
    assert "landing/shop/orders/000003.json has changed since it was recorded" in rig.migrate("verify", code=6).err
    page.write_bytes(body)
    rig.write("migrate.yaml", PROJECT.replace("status: all", "status: open"))
    ended = rig.migrate("plan", code=6)
    assert "landing/shop/orders is the recording of another request" in ended.err
    assert "Remove the folder landing/shop/orders" in ended.err


def test_a_refused_token_is_said_and_shown_nowhere(rig: Rig, api: Api) -> None:
    rig.environment["API_TOKEN"] = "an0ther-t0ken"
    ended = rig.migrate("run", code=6)
    assert "HTTP 401 Unauthorized: bad token ***" in ended.err
    assert "Look at the token" in ended.err
    assert "an0ther" not in ended.said + rig.try_("run", "-v").said
    checked = rig.migrate("check", code=3)
    assert "FAIL shop, orders, API" in checked.out
    assert "an0ther" not in checked.said
    rig.environment["API_TOKEN"] = TOKEN
    rig.migrate("run")
    loaded(rig)
    everything = b"".join(path.read_bytes() for path in (rig.folder / "landing").rglob("*") if path.is_file())
    assert TOKEN.encode() not in everything
    ledger = rig.sql("SELECT string_agg(to_jsonb(r)::text, '') FROM migrate_ledger.run r")
    assert TOKEN not in str(ledger)


def test_paging_by_number_without_total_and_key_is_a_warning_of_check(rig: Rig, api: Api) -> None:
    rig.write("migrate.yaml", PROJECT.replace("        total: total\n        key: id\n", ""))
    checked = rig.migrate("check")
    assert "warn shop, orders, paging: pages by page, with neither `total` nor `key`" in checked.out


def test_bad_items_are_rejected_and_replayed_from_a_mended_page(rig: Rig, api: Api) -> None:
    items = [*ORDERS[:7], {**ORDERS[7], "total": "x"}, {**ORDERS[8], "customer": {"name": None}}, {"total": 1}]
    api.answer = lambda asked: Reply.of({"items": items if asked.query["page"] == "1" else [], "total": 10})
    rig.write("migrate.yaml", PROJECT.replace("sources:", "defaults: {max_rejects: 100%}\nsources:").replace(
        "    record:", "    fields: {orders: {id: integer, customer: {name: text}, total: decimal, lines: json}}\n    record:")
    )  # fmt: skip
    rig.migrate("run", "-s", "orders")
    assert rig.fates("orders") == (10, 7, 0, 0, 3)
    [(_, unread), (file, raw), *_] = rig.sql("SELECT locator->>'file', raw FROM migrate_ledger.reject ORDER BY ordinal")
    assert file == "landing/shop/orders/000001.json"
    assert json.loads(bytes(unread)) == items[7]
    assert json.loads(bytes(raw)) == items[8]
    rig.write("mended.json", json.dumps({"items": [ORDERS[8], ORDERS[7]]}))
    rig.migrate("rejects", "replay", "-s", "orders", "--from", "mended.json", code=3)
    assert rig.sql("SELECT customer FROM orders WHERE id > 7 ORDER BY id") == [("Ünal 8",), ("Ünal 9",)]


def test_an_api_whose_list_is_empty_says_what_to_declare_and_then_is_loaded(rig: Rig, api: Api) -> None:
    api.answer = lambda asked: Reply.of({"items": [], "total": 0})
    err = rig.migrate("run", code=2).err
    assert "shop.orders holds no documents, so its fields are not known" in err
    assert "as in fields: {orders: {id: integer, customer: {name: text}, total: decimal}}, with their types" in err
    fields = "orders: {id: integer, customer: {name: text}, total: decimal}, orders/lines: {sku: text, qty: integer}"
    rig.write("migrate.yaml", PROJECT.replace("    record:", f"    fields: {{{fields}}}\n    record:"))
    rig.migrate("check")
    rig.migrate("run")
    assert rig.migrate("verify").out.count("equal") == 2


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("${env:API}/v2", "https://u:p@h/v2", "must hold no user"),
        ("${env:API}/v2", "https://h/v2?x=1", "without parameters"),
        ("by: page, param", "by: cursor, param", "lacks `next`"),
        ("size: 10}", "next: x}", "pages.next says nothing where pages are by page"),
        ("by: page,", "by: pages,", "page, offset, cursor, link or none"),
        ("      orders:\n        path: orders\n", "      ../up:\n        path: orders\n", "it names a folder"),
        ("    record:", "    oauth: {token_url: https://h, client_id: a, client_secret: b}\n    record:", "has both oauth and"),
    ],
)  # fmt: skip
def test_a_wrong_project_file_is_refused(rig: Rig, api: Api, old: str, new: str, said: str) -> None:
    rig.write("migrate.yaml", PROJECT.replace(old, new))
    assert said in rig.migrate("plan", code=2).err
    assert api.asked == []
