"""How an API gives its pages is found as documentation of well-known ones has it; what could lose rows is not taken."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from webserver import Answer, Asked, Reply, by_link, by_offset, serving, zipped

from connectors.restclient import Access, Bounds, Client
from connectors.restprobe import Probed, probe
from migrate.errors import RetryableError, SourceError, UsageError

ITEMS = [{"id": n, "name": f"näme {n}"} for n in range(1, 26)]

FREE = Bounds()


def probed(
    answer: Answer, params: Mapping[str, str] | None = None, *, path: str = "orders", bounds: Bounds = FREE
) -> Probed:
    with serving(answer) as api:
        access = Access(api.url)
        client = Client(access, lambda _: None, lambda _: None, 1, bounds)
        try:
            return probe(client, access, "orders", path, params or {})
        finally:
            client.close()


def found(answer: Answer, params: Mapping[str, str] | None = None, **more: str) -> Mapping[str, Any]:
    table = dict(probed(answer, params, **more).table)
    assert table.pop("path") == more.get("path", "orders")
    return table


def number(asked: Asked, name: str, usual: int = 0) -> int:
    return int(asked.query.get(name, usual))


def slices(
    wrap: Callable[[list[Any], int, int], Any], position: Callable[[Asked], int], size: int = 10, **more: Any
) -> Answer:
    """`wrap` makes a body of the items at a position, which is that of the first, and of where the next ones begin."""

    def answer(asked: Asked) -> Reply:
        at = position(asked)
        return Reply.of(wrap(ITEMS[at : at + size], at, at + size), **more)

    return answer


KNOWN = {
    "HubSpot: a cursor and its URL": (
        slices(
            lambda items, _, end: {"results": items, "paging": {"next": {"after": str(end), "link": f"?after={end}"}}},
            lambda asked: number(asked, "after"),
        ),
        {"records": "results", "pages": {"by": "link", "next": "paging/next/link"}, "key": "id"},
    ),
    "Slack: the parameter is called as the field without next_": (
        slices(
            lambda items, _, end: {"ok": True, "channels": items, "response_metadata": {"next_cursor": f"c{end}="}},
            lambda asked: int(asked.query.get("cursor", "c0=")[1:-1]),
        ),
        {
            "records": "channels",
            "pages": {"by": "cursor", "param": "cursor", "next": "response_metadata/next_cursor"},
            "key": "id",
        },
    ),
    "Jira: what the body calls its own offset": (
        slices(
            lambda items, at, _: {"startAt": at, "maxResults": 10, "total": 25, "issues": items},
            lambda asked: number(asked, "startAt"),
        ),
        {"records": "issues", "pages": {"by": "offset", "param": "startAt"}, "total": "total", "key": "id"},
    ),
    "Intercom: a cursor within the object next, beside a number": (
        slices(
            lambda items, _, end: {"data": items, "pages": {"next": {"page": 2, "starting_after": f"s{end}"}}},
            lambda asked: int(asked.query.get("starting_after", "s0")[1:]),
        ),
        {
            "records": "data",
            "pages": {"by": "cursor", "param": "starting_after", "next": "pages/next/starting_after"},
            "key": "id",
        },
    ),
    "Graph, OData: a link with a strange name": (
        slices(
            lambda items, _, end: {"@odata.count": 25, "value": items, "@odata.nextLink": f"?$skiptoken={end}"},
            lambda asked: number(asked, "$skiptoken"),
        ),
        {
            "records": "value",
            "pages": {"by": "link", "next": "@odata.nextLink"},
            "total": "@odata.count",
            "key": "id",
        },
    ),
    "JSON:API: a list beside it, links to other pages too": (
        slices(
            lambda items, _, end: {
                "included": ITEMS[:20],
                "data": items,
                "links": {"self": "/orders", "first": "/orders", "next": f"/orders?page[offset]={end}"},
            },
            lambda asked: number(asked, "page[offset]"),
        ),
        {"records": "data", "pages": {"by": "link", "next": "links/next"}, "key": "id"},
    ),
    "a total in the header": (
        by_offset(ITEMS, 10),
        {"pages": {"by": "offset", "param": "offset"}, "total": "header", "key": "id"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("api", KNOWN)
def test_what_apis_do(api: str) -> None:
    answer, table = KNOWN[api]
    if api == "a total in the header":  # this server wants its parameter
        assert found(answer, {"offset": "0"}) == table
    else:
        assert found(answer) == table


def test_an_api_with_a_link_to_another_host_is_not_followed_there() -> None:
    answer = by_link(lambda: "http://elsewhere.example", ITEMS, 10, header=False)
    table = probed(answer)
    assert table.table["pages"] == {"by": "none"}
    assert "the next page is at another host: http://elsewhere.example" in "\n".join(table.notes)
    assert "hosts: [elsewhere.example]" in "\n".join(table.notes)
    assert any(note.startswith("warning: pages: it is not known") for note in table.notes)


def test_a_secret_parameter_is_sent_where_a_link_has_it_too() -> None:
    def answer(asked: Asked) -> Reply:
        if asked.query.get("api_key") != "k3y":
            return Reply(status=403)
        at = number(asked, "at")
        return Reply.of({"items": ITEMS[at : at + 10], "next_url": f"/orders?api_key=k3y&at={at + 10}"})

    table = found(answer, {"api_key": "k3y"})
    assert table["pages"] == {"by": "link", "next": "next_url"}


def test_a_cursor_that_looks_like_a_path_is_none() -> None:
    def answer(asked: Asked) -> Reply:
        at = int(asked.query.get("cursor", "/0").removeprefix("/"))
        return Reply.of(
            {"items": ITEMS[at : at + 10], "next_cursor": f"/{at + 10}"}, status=200 if asked.path == "/orders" else 404
        )

    assert found(answer)["pages"] == {"by": "cursor", "param": "cursor", "next": "next_cursor"}


def test_a_cursor_that_was_given_may_not_be_the_first() -> None:
    def answer(asked: Asked) -> Reply:
        at = number(asked, "cursor")
        return Reply.of({"items": ITEMS[at : at + 10], "next_cursor": str(at + 10)})

    warning = "warning: the URL has cursor: if that leads to a later page, those before it are missing"
    assert warning in probed(answer, {"cursor": "5"}).notes
    assert warning not in probed(answer).notes


def test_a_number_of_the_pages_own_items_is_no_total() -> None:
    def answer(asked: Asked) -> Reply:
        at = 10 * number(asked, "page", 1) - 10
        return Reply.of({"count": len(ITEMS[at : at + 10]), "items": ITEMS[at : at + 10]})

    assert found(answer) == {"records": "items", "pages": {"by": "page", "param": "page"}, "key": "id"}
    table = probed(lambda _: Reply.of({"count": 10, "items": ITEMS[:10]}))
    assert any(note.startswith("warning: pages: it is not known") for note in table.notes)


@pytest.mark.parametrize("name", ["nextUpdate", "next_run", "next", "nextPageToken"])
def test_a_next_that_is_null_hides_no_page(name: str) -> None:
    """It may be no pager's, whatever its name."""
    table = probed(
        slices(lambda items, *_: {"items": items, name: None}, lambda asked: 10 * number(asked, "page", 1) - 10)
    )
    assert table.table["pages"] == {"by": "page", "param": "page"}
    assert "pages: page=2 gives other items than page=1" in table.notes


@pytest.mark.parametrize(
    ("body", "pages"),
    [
        ({"next": None}, {"by": "link", "next": "next"}),
        ({"links": {"next": ""}}, {"by": "link", "next": "links/next"}),
        ({"_links": {"next": {"href": None}}}, {"by": "link", "next": "_links/next/href"}),
        ({"@odata.nextLink": None}, {"by": "link", "next": "@odata.nextLink"}),
        ({"next-page-token": ""}, {"by": "cursor", "param": "page-token", "next": "next-page-token"}),
        ({"nextUpdate": None}, {"by": "none"}),
        ({"contextual": ""}, {"by": "none"}),
    ],
)
def test_a_next_that_is_null_alone_is_not_proved(body: Any, pages: Any) -> None:
    table = probed(lambda _: Reply.of({"items": ITEMS[:20], **body}))
    assert table.table["pages"] == pages
    assert any(note.startswith("warning: pages: ") and "with 20 items" in note for note in table.notes)
    whole = probed(lambda _: Reply.of({"items": ITEMS[:20], "total": 20, **body}))
    assert whole.table["pages"] == pages
    assert not any(note.startswith("warning: pages: ") for note in whole.notes)


def test_an_offset_that_passes_over_items_is_not_taken() -> None:
    """Its offset is counted in pages of 5."""
    table = probed(lambda asked: Reply.of(ITEMS[(at := 5 * number(asked, "offset")) : at + 5]))
    assert table.table["pages"] == {"by": "none"}


def test_a_page_that_has_items_of_the_first_is_not_taken_for_the_second() -> None:
    table = probed(lambda asked: Reply.of(ITEMS[(at := 5 * number(asked, "page", 1)) : at + 10]))
    assert table.table["pages"] == {"by": "none"}


def test_a_parameter_that_selects_items_is_none_of_paging() -> None:
    """Without it all items come, and with it those on some page of a book."""
    table = probed(
        lambda asked: Reply.of(
            ITEMS if "page" not in asked.query else ITEMS[(at := 5 * number(asked, "page")) : at + 5]
        )
    )
    assert table.table["pages"] == {"by": "none"}


def test_an_empty_second_page_proves_that_the_parameter_is_understood() -> None:
    table = probed(lambda asked: Reply.of(ITEMS[:3] if number(asked, "page", 1) == 1 else []))
    assert table.table["pages"] == {"by": "page", "param": "page"}
    assert "pages: page=2 gives none: all items are on the first page" in table.notes
    more = probed(
        lambda asked: Reply.of({"has_more": True, "data": ITEMS[:3] if number(asked, "page", 1) == 1 else []})
    )
    assert more.table["pages"] == {"by": "none"}


def test_as_many_as_the_page_holds_are_no_total_where_the_paging_is_not_known() -> None:
    body = {"data": ITEMS[:10], "count": 10, "has_more": True}
    assert "total" not in found(lambda _: Reply.of(body))
    assert found(lambda _: Reply.of({"data": ITEMS, "total": 25}))["total"] == "total"


def test_a_number_that_is_another_on_the_second_page_is_no_total() -> None:
    """It is that of the items from there on."""

    def answer(asked: Asked) -> Reply:
        at = 10 * number(asked, "page", 1) - 10
        return Reply.of({"total": 25 - at, "items": ITEMS[at : at + 10]})

    assert "total" not in found(answer)


def test_guesses_that_the_api_fails_at_are_passed_over() -> None:
    def answer(asked: Asked) -> Reply:
        at = 10 * number(asked, "page", 1) - 10
        return Reply.of(ITEMS[at : at + 10]) if at >= 0 else Reply(status=500)  # an OFFSET below 0

    assert found(answer) == {"pages": {"by": "page", "param": "page"}, "key": "id"}


@pytest.mark.parametrize("body", [{}, {"next_page_token": "t1"}])
def test_an_api_that_fails_at_parameters_it_does_not_know_is_known_by_its_first_page(body: Any) -> None:
    table = probed(lambda asked: Reply(status=500) if asked.query else Reply.of({"items": ITEMS, **body}))
    assert table.table == {"path": "orders", "records": "items", "pages": {"by": "none"}, "key": "id"}
    assert table.items == 25
    [said] = [note for note in table.notes if note.startswith("warning: pages: it is not known")]
    assert "for the API failed at 3 ways that were tried" in said


def test_an_api_that_has_gone_behind_its_first_page_is_an_error_that_names_what_was_given() -> None:
    there = iter([Reply.of({"items": ITEMS, "next_page_token": "t1"})])
    with pytest.raises(RetryableError, match=r"/orders\?status=all: HTTP 503") as error:
        probed(lambda _: next(there, Reply(status=503)), {"status": "all"})
    assert "page_token" not in error.value.message


def test_an_api_that_is_slow_and_never_silent_is_not_waited_for() -> None:
    begun = time.monotonic()
    with pytest.raises(RetryableError, match="/orders: no whole answer in 1 s"):
        probed(lambda _: Reply(b"[]", slow=0.1), bounds=Bounds(silence=1, seconds=1))
    assert time.monotonic() - begun < 5


def test_a_page_that_is_larger_than_a_look_takes_is_refused() -> None:
    large = Reply.of([{"id": n, "name": "x" * 100} for n in range(1000)])
    bounds = Bounds(seconds=20, bytes=50_000)
    for answer in (large, zipped(large)):
        with pytest.raises(SourceError, match="/orders: the answer is larger than 50,000 bytes") as error:
            probed(lambda _, answer=answer: answer, bounds=bounds)
        assert "fewer items a page" in error.value.hint
    assert probed(lambda _: zipped(large), bounds=Bounds(seconds=20, bytes=len(large.body))).items == 1000


def test_a_later_page_is_refused_before_it_is_asked_for() -> None:
    with pytest.raises(UsageError, match="the URL asks for skip=20"):
        probed(lambda _: Reply.of(ITEMS), {"skip": "20"})
    table = probed(lambda _: Reply.of(ITEMS, headers={"Link": '</orders>; rel="prev"'}))
    assert "warning: the header Link leads to a page before it: if there is one, it is missing" in table.notes


@pytest.mark.parametrize(
    ("body", "path", "records", "others"),
    [
        ({"a": [{"x": 1}] * 3, "Orders": [{"x": 1}]}, "sales/orders", "Orders", "a"),
        ({"a": [{"x": 1}] * 3, "results": [{"x": 1}]}, "orders", "results", "a"),
        ({"a": [{"x": 1}], "b": [{"x": 1}] * 3, "c": {"d": [{"x": 1}] * 9}, "e": []}, "orders", "b", "a, c/d"),
        ({"aa": [], "b": [{"x": 1}]}, "orders", "b", ""),
        ({"meta": {"tags": [{"x": 1}]}, "orders": []}, "orders", "orders", "meta/tags"),
        ({"d/e": [{"x": 1}], "rows": {"of": [{"x": 1}]}, "ids": [1, 2, 3]}, "orders", "rows/of", ""),
    ],
)
def test_which_list_holds_the_items(body: Any, path: str, records: str, others: str) -> None:
    table = probed(lambda _: Reply.of(body), path=path)
    assert table.table["records"] == records
    said = [note for note in table.notes if note.startswith("the items stand at")]
    assert said == ([f"the items stand at {records}; lists are at {others}, too"] if others else [])


@pytest.mark.parametrize(
    ("items", "key"),
    [
        ([{"id": 1, "order_id": 1}, {"id": 1, "order_id": 2}], "order_id"),
        ([{"order_no": "a", "_id": {"$oid": "x"}}, {"order_no": "b", "_id": {"$oid": "y"}}], "order_no"),
        ([{"paid": "1", "grid": "a"}, {"paid": "2", "grid": "b"}], None),
        ([{"id": 1}, {"id": None}], None),
        ([{"id": 1}, {"name": "x"}], None),
        ([{"id": 1.0}, {"id": 1}], "id"),
        ([{"id": 7}], "id"),
    ],
)
def test_which_field_identifies_an_item(items: Any, key: str | None) -> None:
    assert found(lambda _: Reply.of({"items": items})).get("key") == key
