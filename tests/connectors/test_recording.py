"""What an API gives is recorded whole and once, whatever happens on the way; what cannot be whole is refused."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from webserver import (
    Answer,
    Api,
    Asked,
    Reply,
    by_cursor,
    by_link,
    by_offset,
    by_page,
    first,
    serving,
    zipped,
)

from connectors import restclient
from connectors.recording import locked
from connectors.restapi import RestApi, open_api
from connectors.restclient import Access, Bounds, Client
from migrate.core import Source
from migrate.errors import GateError, MigrateError, RetryableError, SourceError

ITEMS = [{"id": n, "name": f"näme {n}", "sum": 1.10} for n in range(1, 26)]
PAGE: Mapping[str, Any] = {"path": "orders", "records": "items", "pages": {"by": "page"}}
CURSOR: Mapping[str, Any] = {
    "path": "orders", "records": "data/items", "pages": {"by": "cursor", "param": "after", "next": "meta/next"},
}  # fmt: skip


class Rest:
    """An API as a source, its table `orders`; pauses are noted and not made."""

    def __init__(self, api: Api, folder: Path, table: Mapping[str, Any], **source: Any) -> None:
        self.pauses: list[float] = []
        self.told: list[str] = []
        self.folder = folder / "rec/orders"
        options = {"rest": api.url, "record": "rec", "tables": {"orders": table}, **source}
        mask: Callable[[str], str] = source.pop("mask", str)
        options.pop("mask", None)
        self.source: Source = open_api(options, folder, mask)
        assert isinstance(self.source, RestApi)
        self.source.attended(self._pause, self.told.append)

    def _pause(self, seconds: float) -> None:
        if seconds:
            self.pauses.append(seconds)

    def rows(self) -> list[dict[str, Any]]:
        table = self.source.schema("orders")
        found = []
        for partition in self.source.partitions(table, rows=1000, bytes=1 << 20):
            for batch in self.source.read(partition, table.schema.names):
                assert not batch.rejects
                found += batch.rows.to_pylist()
        return found

    def ids(self) -> list[int]:
        return [row["id"] for row in self.rows()]

    def warnings(self) -> str:
        return "\n".join(self.source.schema("orders").warnings)

    def manifest(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "manifest.jsonl").read_text().splitlines()]


@contextmanager
def rest(answer: Answer, folder: Path, table: Mapping[str, Any] = PAGE, **source: Any) -> Iterator[tuple[Rest, Api]]:
    with serving(answer) as api:
        yield Rest(api, folder, table, **source), api


def wanted(items: Sequence[Mapping[str, Any]] = ITEMS) -> list[int]:
    return [item["id"] for item in items]


# ---------------------------------------------------------------------------------------------------------------- paging


def test_pages_by_number_end_with_an_empty_one(tmp_path: Path) -> None:
    with rest(by_page(ITEMS, 10), tmp_path) as (source, api):
        assert source.ids() == wanted()
        assert api.pages("page") == ["1", "2", "3", "4"]  # 3 is short; whether it is the last, only 4 says


def test_a_total_spares_the_empty_page(tmp_path: Path) -> None:
    with rest(by_page(ITEMS, 10, total=True), tmp_path, {**PAGE, "total": "total"}) as (source, api):
        assert source.ids() == wanted()
        assert api.pages("page") == ["1", "2", "3"]


@pytest.mark.parametrize("host", ["xn--zzzzzz--.com", "a..b"])
def test_a_host_that_there_cannot_be_is_an_error_of_the_source(tmp_path: Path, host: str) -> None:
    link = {"path": "orders", "records": "value", "pages": {"by": "link", "next": "@next"}}
    with rest(by_link(lambda: f"https://{host}", ITEMS, 10, header=False), tmp_path, link) as (source, api):
        with pytest.raises(SourceError, match="the link to the next page is no URL: its host is no name of one"):
            source.ids()
        api.answer = lambda _: Reply(status=302, headers={"Location": f"https://{host}/orders"})
        with pytest.raises(SourceError, match="/orders is no URL that can be asked: its host is no name of one"):
            source.ids()
    with pytest.raises(SourceError, match=r"/orders\?page=1 is no URL that can be asked: its host is no name of one"):
        open_api({"rest": f"https://{host}", "record": "other", "tables": {"orders": PAGE}}, tmp_path).schema("orders")


def test_a_short_page_in_the_middle_is_not_the_last(tmp_path: Path) -> None:
    pages = {"1": ITEMS[:10], "2": ITEMS[10:13], "3": ITEMS[13:], "4": []}
    with rest(lambda asked: Reply.of({"items": pages[asked.query["page"]]}), tmp_path) as (source, _):
        assert source.ids() == wanted()


def test_offsets_count_the_items_that_came(tmp_path: Path) -> None:
    pages = {"by": "offset", "size_param": "limit", "size": 8}
    table = {"path": "orders", "pages": pages, "total": "header"}
    with rest(by_offset(ITEMS, 8), tmp_path, table) as (source, api):
        assert source.ids() == wanted()
        assert api.pages("offset") == ["0", "8", "16", "24"]
        assert set(api.pages("limit")) == {"8"}


def test_cursors_are_followed_until_there_is_none(tmp_path: Path) -> None:
    with rest(by_cursor(ITEMS, 10), tmp_path, CURSOR) as (source, api):
        assert source.ids() == wanted()
        assert api.pages("after") == ["", "c10", "c20"]


@pytest.mark.parametrize("header", [True, False])
def test_links_are_followed_as_they_are(tmp_path: Path, header: bool) -> None:
    urls: list[str] = []
    own = {} if header else {"records": "value"}
    pages = {"by": "link"} if header else {"by": "link", "next": "@next"}
    with rest(by_link(lambda: urls[0], ITEMS, 10, header=header), tmp_path, {"path": "o", "pages": pages, **own}) as (
        source,
        api,
    ):
        urls.append(api.url)
        assert source.ids() == wanted()
        assert api.pages("at") == ["", "10", "20"]


def test_one_page_without_paging(tmp_path: Path) -> None:
    with rest(lambda _: Reply.of(ITEMS), tmp_path, {"path": "orders", "params": {"status": "all"}}) as (source, api):
        assert source.ids() == wanted()
        assert [(each.path, each.query) for each in api.asked] == [("/orders", {"status": "all"})]


def test_bodies_are_recorded_as_they_came_and_numbers_keep_their_digits(tmp_path: Path) -> None:
    body = b'{"items": [ {"id":1, "n":12345678901234567890.1234567890123456789,\t"t":"\\u00e9"} ]}\n'
    with rest(lambda _: zipped(Reply(body)), tmp_path, {**PAGE, "pages": {"by": "none"}}) as (source, _):
        [row] = source.rows()
        assert (row["id"], str(row["n"]), row["t"]) == (1, "12345678901234567890.1234567890123456789", "é")
        assert (source.folder / "000001.json").read_bytes() == body


def test_an_api_without_items_is_a_table_without_rows(tmp_path: Path) -> None:
    for name, document in (("a", {"items": []}), ("b", {"items": None})):
        with rest(lambda _, document=document: Reply.of(document), tmp_path / name) as (source, _):
            assert source.rows() == []


# --------------------------------------------------------------------------------------------------------- what goes wrong

PAGES = by_page(ITEMS, 10)
TWO = PAGES(Asked("GET", "", {"page": "2"}, {}))


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(Reply(status=500), id="500"),
        pytest.param(Reply(status=503, headers={"Retry-After": "7"}), id="503"),
        pytest.param(replace(TWO, cut=40), id="short"),
        pytest.param(replace(TWO, cut=0), id="nothing"),
        pytest.param(replace(TWO, cut=40, chunked=True), id="chunk"),
        pytest.param(zipped(TWO, cut=30), id="short gzip"),
        pytest.param(Reply(zipped(TWO).body[:-20], headers={"Content-Encoding": "gzip"}), id="gzip that ends early"),
        pytest.param(Reply(b"\x1f\x8bnot", headers={"Content-Encoding": "gzip"}), id="no gzip"),
        pytest.param(Reply(TWO.body[:-1]), id="JSON that lacks its last byte"),
        pytest.param(Reply(TWO.body[:-60]), id="JSON that ends early"),
        pytest.param(Reply(b"<html>try again</html>"), id="no JSON"),
    ],
)
def test_what_fails_twice_and_then_not_is_recorded_once(tmp_path: Path, bad: Reply) -> None:
    faulty = first([bad, bad], PAGES, lambda asked: asked.query["page"] == "2")
    with rest(faulty, tmp_path) as (source, api):
        assert source.ids() == wanted()
        assert api.pages("page") == ["1", "2", "2", "2", "3", "4"]
        assert len(source.pauses) == 2
        assert source.pauses[1] > 0.5  # twice the first one


def test_a_throttled_client_waits_as_long_as_it_is_told(tmp_path: Path) -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    bad = [Reply(status=429, headers={"Retry-After": "7"}), Reply(status=429, headers={"Retry-After": at})]
    with rest(first(bad, PAGES), tmp_path) as (source, _):
        assert source.ids() == wanted()
        assert source.pauses[0] == 7
        assert 30 < source.pauses[1] <= 40
        assert "HTTP 429 Too Many Requests; asked again in 7.0 s" in source.told[0]


def test_an_api_that_stays_away_ends_the_command_and_not_what_is_recorded(tmp_path: Path) -> None:
    def answer(asked: Asked) -> Reply:
        return PAGES(asked) if well or asked.query["page"] == "1" else Reply(status=503)

    well = False
    with rest(answer, tmp_path) as (source, api):
        with pytest.raises(RetryableError, match=r"orders, page 2.*HTTP 503.*; 1 pages with 10 rows are recorded"):
            source.ids()
        assert 200 < sum(source.pauses) <= restclient.PATIENCE
        well = True
        api.asked.clear()
        again = Rest(api, tmp_path, PAGE)
        assert again.ids() == wanted()
        assert api.pages("page") == ["2", "3", "4"]


def test_a_wait_that_is_too_long_is_not_begun(tmp_path: Path) -> None:
    with (
        rest(lambda _: Reply(status=429, headers={"Retry-After": "86400"}), tmp_path) as (source, _),
        pytest.raises(RetryableError, match="it asks to wait 86400 s"),
    ):
        source.ids()
    assert source.pauses == []


@pytest.mark.parametrize(
    ("reply", "said", "hint"),
    [
        (Reply.of({"error": {"message": "no such thing"}}, status=404), "HTTP 404 Not Found: no such thing", "the table's path"),
        (Reply.of({"message": "bad key s3cr3t"}, status=403), r"HTTP 403 Forbidden: bad key \*\*\*", "Look at the token"),
        (Reply(b"<h1>Oops</h1>" + b"x" * 999, 400), "HTTP 400 Bad Request: Oops x{190,200}$", ""),
        (Reply(b"<html>login</html>"), "no JSON.*: login", ""),
        (Reply.of({"data": []}), "holds nothing where the list of items should be, at items; it has: data", "records"),
        (Reply.of({"items": {"a": 1}}), "holds an object where the list", "records"),
        (Reply(b'{"items": [1], "items": [2]}'), "holds a name twice", ""),
    ],
)  # fmt: skip
def test_what_no_waiting_mends_is_said(tmp_path: Path, reply: Reply, said: str, hint: str) -> None:
    with rest(lambda _: reply, tmp_path, mask=lambda text: text.replace("s3cr3t", "***")) as (source, _):
        with pytest.raises(SourceError, match=said.removesuffix("$")) as raised:
            source.ids()
        assert hint in raised.value.hint


# ------------------------------------------------------------------------------------------------- nothing lost or doubled


def test_a_page_that_is_sent_once_more_is_asked_for_again(tmp_path: Path) -> None:
    repeat = PAGES(Asked("GET", "", {"page": "1"}, {}))
    with rest(first([repeat], PAGES, lambda asked: asked.query["page"] == "2"), tmp_path) as (source, api):
        assert source.ids() == wanted()
        assert api.pages("page") == ["1", "2", "2", "3", "4"]


def test_a_page_that_stays_the_same_is_an_error_and_no_endless_loop(tmp_path: Path) -> None:
    with rest(lambda _: Reply.of({"items": ITEMS[:10]}), tmp_path) as (source, api):
        with pytest.raises(
            SourceError, match=r"orders, page 2: .*its 10 items are those of page 1, also when asked again"
        ):
            source.ids()
        assert len(api.asked) == 3


def test_cursors_that_go_in_circles_are_an_error(tmp_path: Path) -> None:
    def answer(asked: Asked) -> Reply:
        number = len(api.asked)
        return Reply.of(
            {
                "data": {"items": [{"id": number}]},
                "meta": {"next": {"": "a", "a": "b", "b": "a"}[asked.query.get("after", "")]},
            }
        )

    with (
        rest(answer, tmp_path, CURSOR) as (source, api),
        pytest.raises(SourceError, match=r"page 3: .*the next page would be page 2 again"),
    ):
        source.ids()


def test_a_next_page_behind_the_last_for_ever_is_an_error(tmp_path: Path) -> None:
    def answer(asked: Asked) -> Reply:
        at = int(asked.query.get("after", "0"))
        return Reply.of({"data": {"items": ITEMS[at : at + 10]}, "meta": {"next": at + 10}})

    with (
        rest(answer, tmp_path, CURSOR) as (source, api),
        pytest.raises(SourceError, match="the last 50 pages hold no items, and each leads to another") as error,
    ):
        source.ids()
    assert len(api.asked) == 53
    assert "by page or offset" in error.value.hint


def test_a_run_that_goes_on_asks_for_fifty_more_empty_pages(tmp_path: Path) -> None:
    """As the hint says: an API may filter what it gives, and have items behind 120 empty pages."""

    def answer(asked: Asked) -> Reply:
        at = int(asked.query.get("after", "0"))
        return Reply.of({"data": {"items": ITEMS if at == 121 else []}, "meta": {"next": at + 1 if at < 121 else None}})

    with rest(answer, tmp_path, CURSOR) as (source, api):
        for asked in (50, 100):
            with pytest.raises(SourceError, match="the last 50 pages hold no items") as error:
                source.ids()
            assert len(api.asked) == asked
            assert "run the same command again: it goes on, for 50 more" in error.value.hint
            assert "remove the folder rec/orders" in error.value.hint
        assert source.ids() == wanted()
        assert len(api.asked) == 122


def moving(changes: Mapping[int, Callable[[list[Any]], None]], total: bool = True) -> Answer:
    """An API by offset over a table that others write to: before the nth request, this happens to it."""
    items = [dict(item) for item in ITEMS]
    asked_before = [0]

    def answer(asked: Asked) -> Reply:
        asked_before[0] += 1
        changes.get(asked_before[0], lambda _: None)(items)
        return by_offset(items, 10)(asked)

    return answer


OFFSET: Mapping[str, Any] = {"path": "orders", "pages": {"by": "offset"}, "key": ("id",), "total": "header"}


def test_items_that_come_again_are_no_rows(tmp_path: Path) -> None:
    shifted = moving({2: lambda items: items.insert(0, {"id": 0})})
    with rest(shifted, tmp_path, {**OFFSET, "total": ""}) as (source, _):
        assert source.ids() == wanted()
        assert "1 items came again with the same content, on page 2: they are no rows" in source.warnings()
        assert source.manifest()[2]["repeats"] == 1
        assert json.loads((source.folder / "000002.kept.json").read_bytes()) == ITEMS[10:19]
        assert len(json.loads((source.folder / "000002.json").read_bytes())) == 10


def test_a_row_that_was_shifted_away_is_missed_by_the_total(tmp_path: Path) -> None:
    inserted = moving({2: lambda items: items.insert(0, {"id": 0})})
    with rest(inserted, tmp_path, OFFSET) as (source, api):
        with pytest.raises(SourceError, match="orders: the API says 26 items, and its pages hold 25: fewer") as raised:
            source.ids()
        assert "Remove the folder rec/orders" in raised.value.hint
        asked = len(api.asked)
        with pytest.raises(SourceError, match="fewer"):  # and it is not asked on as if it could still become right
            Rest(api, tmp_path, OFFSET).ids()
        assert len(api.asked) == asked


def test_a_row_that_was_passed_over_because_another_was_deleted_is_told_by_the_total(tmp_path: Path) -> None:
    with rest(moving({2: lambda items: items.pop(0)}), tmp_path, OFFSET) as (source, _):
        assert 11 not in source.ids()
        assert "total went from 25 to 24: others wrote, and where a row was deleted" in source.warnings()


def test_a_total_that_changes_is_told(tmp_path: Path) -> None:
    with rest(moving({3: lambda items: items.append({"id": 26})}), tmp_path, OFFSET) as (source, _):
        assert source.ids() == list(range(1, 27))
        assert "total went from 25 to 26" in source.warnings()


def test_an_item_with_other_content_stays_a_row_and_is_told(tmp_path: Path) -> None:
    def changed(items: list[Any]) -> None:
        items.insert(0, {"id": 0})
        items[10]["name"] = "new"

    with rest(moving({2: changed}), tmp_path, {**OFFSET, "total": ""}) as (source, _):
        rows = source.rows()
        assert [row["name"] for row in rows if row["id"] == 10] == ["näme 10", "new"]
        assert "1 items came again with other content, on page 2: rows with the same id" in source.warnings()


def test_items_without_a_key_are_all_rows(tmp_path: Path) -> None:
    items = [{"id": None, "n": n // 3} for n in range(12)]
    with rest(by_offset(items, 4), tmp_path, OFFSET) as (source, _):
        assert [row["n"] for row in source.rows()] == [n // 3 for n in range(12)]


def test_more_items_than_the_total_are_an_error(tmp_path: Path) -> None:
    answer = by_cursor(ITEMS, 10)

    def less(asked: Asked) -> Reply:
        document = json.loads(answer(asked).body)
        return Reply.of({**document, "count": "20"})

    with (
        rest(less, tmp_path, {**CURSOR, "total": "count"}) as (source, _),
        pytest.raises(SourceError, match="says 20 items, and its pages hold 25: more"),
    ):
        source.ids()


# ------------------------------------------------------------------------------------------------------- the recording


def test_a_recording_is_read_and_the_api_is_not_asked(tmp_path: Path) -> None:
    with rest(PAGES, tmp_path) as (source, api):
        source.ids()
    again = Rest(api, tmp_path, PAGE)  # of a server that is gone
    assert again.ids() == wanted()
    [note, *_] = again.source.schema("orders").notes
    assert note.startswith("4 pages with 25 items, recorded until 20")
    assert note.endswith("in rec/orders; remove that folder to fetch again")


def test_a_recording_of_another_request_is_refused(tmp_path: Path) -> None:
    with rest(PAGES, tmp_path) as (source, api):
        source.ids()
        other = Rest(api, tmp_path, {**PAGE, "params": {"status": "open"}})
        with pytest.raises(
            SourceError, match=r'it has \{"params": \{\}\}, and .* \{"params": \{"status": "open"\}\}'
        ) as raised:
            other.ids()
        assert "Remove the folder rec/orders" in raised.value.hint


def test_a_page_that_was_altered_is_refused(tmp_path: Path) -> None:
    with rest(PAGES, tmp_path) as (source, api):
        source.ids()
        page = source.folder / "000002.json"
        body = page.read_bytes()
        page.write_bytes(body.replace(b'"id": 12', b'"id": 21'))
        with pytest.raises(SourceError, match=r"rec/orders/000002.json has changed since it was recorded"):
            Rest(api, tmp_path, PAGE).ids()
        page.unlink()
        with pytest.raises(SourceError, match=r"000002.json: No such file"):
            Rest(api, tmp_path, PAGE).ids()
        page.write_bytes(body)
        assert Rest(api, tmp_path, PAGE).ids() == wanted()


@pytest.mark.parametrize("cut", range(0, 120, 7))
def test_a_manifest_that_was_broken_off_anywhere_is_gone_on_with(tmp_path: Path, cut: int) -> None:
    """As if the machine had stopped within its last lines."""
    with rest(moving({}), tmp_path, OFFSET) as (source, api):
        source.ids()
        manifest = source.folder / "manifest.jsonl"
        lines = manifest.read_bytes().splitlines(keepends=True)
        # The second and third page and the end are missing; of the second a part is there. Keys of it were written.
        with sqlite3.connect(source.folder / "keys.sqlite") as keys:
            keys.execute(
                "CREATE TABLE key (key TEXT, content TEXT, page INTEGER, PRIMARY KEY (key, content)) WITHOUT ROWID"
            )
            keys.execute("INSERT INTO key VALUES ('[[\"number\",\"11\"]]', 'x', 2)")
        keys.close()
        manifest.write_bytes(b"".join(lines[:2]) + lines[2][:cut])
        api.asked.clear()
        again = Rest(api, tmp_path, OFFSET)
        assert again.ids() == wanted()
        assert api.pages("offset") == ["10", "20"]
        assert again.warnings() == ""


def test_a_manifest_that_is_none_is_refused(tmp_path: Path) -> None:
    with rest(PAGES, tmp_path) as (source, api):
        source.ids()
        manifest = source.folder / "manifest.jsonl"
        lines = manifest.read_text().splitlines(keepends=True)
        for text in ("hello\n", "".join(lines[:2] + lines[3:]), '{"format": 9}\n', lines[0] + "[]\n"):
            manifest.write_text(text)
            with pytest.raises(SourceError, match="no manifest of this version") as raised:
                Rest(api, tmp_path, PAGE).ids()
            assert "Remove the folder" in raised.value.hint


def test_only_one_fetches_at_a_time(tmp_path: Path) -> None:
    with rest(PAGES, tmp_path) as (source, _):
        with (
            locked(source.folder, "rec/orders"),
            pytest.raises(GateError, match=r"rec/orders is being fetched by another process \(pid \d"),
        ):
            source.ids()
        assert source.ids() == wanted()


# ------------------------------------------------------------------------------------------------------ secrets and hosts


def secrets_of(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.rglob("manifest.jsonl"))


def test_headers_and_secret_parameters_are_sent_and_shown_nowhere(tmp_path: Path) -> None:
    urls: list[str] = []

    def answer(asked: Asked) -> Reply:
        if asked.query.get("api_key") != "k3y" or asked.headers.get("X-Token") != "t0k3n":
            return Reply.of({"message": f"{asked.query} is wrong"}, status=403)
        at = int(asked.query.get("at", 0))
        links = {"Link": f'<{urls[0]}/o?api_key=k3y&at={at + 10}>; rel="next"'} if at < 20 else {}
        return Reply.of(ITEMS[at : at + 10], headers=links)

    table = {"path": "o", "params": {"api_key": "k3y", "all": "1"}, "pages": {"by": "link"}}
    with rest(answer, tmp_path, table, headers={"X-Token": "t0k3n"}) as (source, api):
        urls.append(api.url)
        assert source.ids() == wanted()
        assert "k3y" not in secrets_of(tmp_path)
        lines = (source.folder / "manifest.jsonl").read_text().splitlines()
        (source.folder / "manifest.jsonl").write_text("\n".join(lines[:2]) + "\n")
        assert Rest(api, tmp_path, table, headers={"X-Token": "t0k3n"}).ids() == wanted()  # goes on by a recorded link
        with pytest.raises(MigrateError) as raised:
            Rest(api, tmp_path / "b", {**table, "params": {"api_key": "other"}}).ids()
        assert "api_key=***" in raised.value.message
        assert "other" not in raised.value.message.partition("HTTP 403")[0]


def test_a_secret_that_the_api_puts_into_its_links_is_kept_for_as_long_as_they_are_followed(tmp_path: Path) -> None:
    urls: list[str] = []

    def answer(asked: Asked) -> Reply:
        at = int(asked.query.get("at", 0))
        if at and asked.query.get("token") != f"s3cr3t{at}":
            return Reply.of({"message": "no"}, status=403)
        links = {"Link": f'<{urls[0]}/o?token=s3cr3t{at + 10}&at={at + 10}>; rel="next"'} if at < 20 else {}
        return Reply.of(ITEMS[at : at + 10], headers=links)

    with rest(answer, tmp_path, {"path": "o", "pages": {"by": "link"}}) as (source, api):
        urls.append(api.url)
        assert source.ids() == wanted()
        manifest = source.folder / "manifest.jsonl"
        assert "s3cr3t" not in manifest.read_text()
        assert "token=***" in manifest.read_text()
        assert Rest(api, tmp_path, {"path": "o", "pages": {"by": "link"}}).ids() == wanted()


def test_an_item_that_holds_a_name_twice_is_rejected_alone(tmp_path: Path) -> None:
    page = Reply(body=b'[{"id": 1}, {"id": 2, "id": 3}, {"id": 4}]')
    with rest(lambda _: page, tmp_path, {"path": "o", "pages": {"by": "none"}, "key": ("id",)}) as (made, _):
        source = made.source
        [partition] = source.partitions(source.schema("orders"), rows=1000, bytes=1 << 20)
        [batch] = source.read(partition, ["id"])
        assert batch.rows.to_pylist() == [{"id": 1}, {"id": 4}]
        assert [each.reason for each in batch.rejects] == ["an object holds the name 'id' twice, first at byte 1"]


def test_a_redirect_to_another_host_takes_no_secret_along(tmp_path: Path) -> None:
    with serving(lambda _: Reply.of(ITEMS)) as elsewhere:

        def answer(asked: Asked) -> Reply:
            if asked.path == "/here":
                return Reply.of(ITEMS)
            to = "/here" if asked.path == "/o" else f"{elsewhere.url}/away"
            return Reply(status=302, headers={"Location": to})

        for path in ("o", "p"):
            with rest(answer, tmp_path / path, {"path": path}, headers={"X-Key": "t0k3n"}) as (source, api):
                assert source.ids() == wanted()
                assert api.asked[-1].headers["X-Key"] == "t0k3n"
        assert [each.path for each in elsewhere.asked] == ["/away"]
        assert "X-Key" not in elsewhere.asked[0].headers


def test_links_to_another_host_are_followed_where_it_is_named_and_without_headers(tmp_path: Path) -> None:
    with serving(lambda _: Reply.of(ITEMS[10:])) as elsewhere:
        other = elsewhere.url.replace("127.0.0.1", "localhost")
        link = Reply.of(ITEMS[:10], headers={"Link": f'<{other}/more>; rel="next"'})
        with rest(lambda _: link, tmp_path, {"path": "o", "pages": {"by": "link"}}) as (source, api):
            with pytest.raises(SourceError, match="the next page is at another host: http://localhost"):
                source.ids()
            pages = {"by": "link", "hosts": ("localhost",)}
            named = Rest(api, tmp_path / "b", {"path": "o", "pages": pages}, headers={"X-Key": "t0k3n"})
            assert named.ids() == wanted()
        assert "X-Key" not in elsewhere.asked[0].headers


def oauth(lasts: float, *, form: bool = False) -> Answer:
    """An API whose tokens are good for so many pages, and the server that gives them."""
    given: list[str] = []
    used = [0]

    def answer(asked: Asked) -> Reply:
        if asked.path == "/token":
            basic = asked.headers.get("Authorization") == "Basic bWU6czNjcjN0"
            if form and basic:
                return Reply.of({"error": "invalid_client"}, status=401)
            assert basic or "client_id=me&client_secret=s3cr3t" in asked.body
            assert "grant_type=client_credentials&scope=read" in asked.body
            given.append(f"t{len(given)}")
            used[0] = 0
            return Reply.of({"access_token": given[-1], "token_type": "bearer", "expires_in": 3600})
        if asked.headers.get("Authorization") != f"Bearer {given[-1] if given else ''}" or used[0] >= lasts:
            return Reply.of({"error": "expired"}, status=401)
        used[0] += 1
        return PAGES(asked)

    return answer


@pytest.mark.parametrize("form", [False, True])
def test_a_token_is_fetched_and_renewed_when_it_is_refused(tmp_path: Path, form: bool) -> None:
    with serving(oauth(2, form=form)) as api:
        own = {"token_url": f"{api.url}/token", "client_id": "me", "client_secret": "s3cr3t", "scope": "read"}
        source = Rest(api, tmp_path, PAGE, oauth=own)
        assert source.ids() == wanted()
        asked = [each.query.get("page", "token") for each in api.asked]
        one = ["token"] * (2 if form else 1)
        assert asked == [*one, "1", "2", "3", *one, "3", "4"]
        assert "s3cr3t" not in secrets_of(tmp_path)


def test_a_token_that_is_never_good_is_an_error(tmp_path: Path) -> None:
    with serving(oauth(0)) as api:
        own = {"token_url": f"{api.url}/token", "client_id": "me", "client_secret": "s3cr3t", "scope": "read"}
        with pytest.raises(SourceError, match="HTTP 401 Unauthorized: expired") as raised:
            Rest(api, tmp_path, PAGE, oauth=own).ids()
        assert "Look at the token" in raised.value.hint


def test_requests_keep_to_a_pace(tmp_path: Path) -> None:
    with rest(PAGES, tmp_path, requests_per_second=4) as (source, _):
        source.ids()
        assert len(source.pauses) == 3
        assert 0.1 < min(source.pauses) <= max(source.pauses) <= 0.25


def certified(folder: Path) -> Path:
    """A key and a certificate for 127.0.0.1 that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "server.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    return file


def test_a_certificate_that_nobody_vouches_for_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem = certified(tmp_path)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)  # it goes before
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    with serving(PAGES, pem) as api:
        source = Rest(api, tmp_path, PAGE)
        with pytest.raises(SourceError, match="its certificate is not trusted") as raised:
            source.ids()
        assert "REQUESTS_CA_BUNDLE" in raised.value.hint
        assert source.pauses == []
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pem))
        assert Rest(api, tmp_path, PAGE).ids() == wanted()


@pytest.mark.parametrize("tls", [False, True])
def test_an_answer_that_takes_too_long_is_cut_and_the_next_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: bool
) -> None:
    pem = certified(tmp_path)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pem))
    begun = time.monotonic()
    with serving(lambda _: Reply.of([]), pem if tls else None) as api:
        client = Client(Access(api.url), lambda _: None, lambda _: None, 0.5, Bounds(silence=5, seconds=1))
        assert client.get(api.url).document == []
        api.answer = lambda _: Reply.of([], slow=0.2)
        for _ in range(2):
            with pytest.raises(RetryableError, match="no whole answer in 1 s"):
                client.get(api.url)
        api.answer = lambda _: Reply.of([])
        assert client.get(api.url).document == []
        client.close()
    assert time.monotonic() - begun < 8


def test_each_item_of_many_pages_has_one_fate_and_its_own_place(tmp_path: Path) -> None:
    items: list[Any] = [{"id": n} if n % 7 else {"id": f"no {n}"} for n in range(300)]
    own = {"fields": {"orders": {"id": "integer"}}}
    with rest(by_page(items, 10), tmp_path, **own) as (source, _):
        table = source.source.schema("orders")
        parts = list(source.source.partitions(table, rows=100, bytes=1 << 20))
        assert [part.rows for part in parts] == [100, 100, 100]
        seen: list[Any] = []
        for part in parts:
            [batch] = source.source.read(part, ["id"])
            bad = {reject.ordinal: reject for reject in batch.rejects}
            good = dict(zip(batch.ordinals.tolist(), batch.rows.column("id").to_pylist(), strict=True))
            assert sorted([*bad, *good]) == list(range(100))
            assert source.source.count(part) == 100  # type: ignore[attr-defined]
            for ordinal, origin in zip(range(99, -1, -1), batch.locate(range(99, -1, -1)), strict=True):
                item = json.loads(origin.raw)
                assert origin.locator["file"] == f"rec/orders/{(len(seen) + ordinal) // 10 + 1:06}.json"
                assert ordinal in bad if isinstance(item["id"], str) else good[ordinal] == item["id"]
            assert all(reject.origin.raw == batch.locate([at])[0].raw for at, reject in bad.items())
            seen += [json.loads(origin.raw) for origin in batch.locate(range(100))]
        assert seen == items
