"""`migrate init` of a REST API: how it gives its pages is found by asking, and what is written runs with no edit."""

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import yaml
from webserver import Answer, Api, Asked, Reply, by_cursor, by_link, first, serving

from e2e.rig import Ended, Rig

ITEMS: list[dict[str, Any]] = [
    {
        "id": n,
        "customer": {"name": f"Ünal {n}"},
        "total": n + 0.5,
        "lines": [{"sku": f"S{n}-{at}", "qty": at} for at in range(n % 3)],
    }
    for n in range(1, 48)
]
TOKEN = "t0k3n-of-the-api"


@pytest.fixture
def api() -> Iterator[Api]:
    with serving(lambda _: Reply(status=404)) as server:
        yield server


def paged(
    wrap: Callable[[list[Any]], Any],
    param: str = "page",
    size: int = 10,
    *,
    start: int = 1,
    size_param: str = "per_page",
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Pages by number, from `start` on, which is what comes without the parameter."""

    def answer(asked: Asked) -> Reply:
        many = int(asked.query.get(size_param, size))
        number = int(asked.query.get(param, start)) - start
        return Reply.of(wrap(ITEMS[number * many : (number + 1) * many] if number >= 0 else []), headers=headers or {})

    return answer


def offset(wrap: Callable[[list[Any]], Any], param: str = "offset", size: int = 10, *, start: int = 0) -> Answer:
    def answer(asked: Asked) -> Reply:
        at = max(int(asked.query.get(param, start)) - start, 0)
        return Reply.of(wrap(ITEMS[at : at + int(asked.query.get("limit", size))]))

    return answer


def told(items: list[Any]) -> Any:
    return {"orders": items, "meta": {"total": len(ITEMS), "tags": [{"a": 1}]}}


def written(rig: Rig) -> tuple[str, Any]:
    text = (rig.folder / "migrate.yaml").read_text(encoding="utf-8")
    return text, yaml.safe_load(text)


def orders(rig: Rig) -> Any:
    return written(rig)[1]["sources"]["api"]["tables"]["orders"]


def loads_all(rig: Rig) -> None:
    """What is written is checked and run as it stands, and each item of each page is in the target."""
    rig.migrate("check")
    rig.migrate("run")
    assert rig.sql("SELECT id, customer_name, total::float8 FROM orders ORDER BY 1") == [
        (item["id"], item["customer"]["name"], item["total"]) for item in ITEMS
    ]
    assert rig.value("SELECT count(*) FROM orders_lines") == sum(len(item["lines"]) for item in ITEMS)
    rig.migrate("verify")


def link_in_body(api: Api) -> Answer:
    return by_link(lambda: api.url, ITEMS, 10, header=False)


def link_in_header(api: Api) -> Answer:
    return by_link(lambda: api.url, ITEMS, 10, header=True)


def next_page_token(_: Api) -> Answer:
    """The parameter has another name than the field, and others are refused."""

    def answer(asked: Asked) -> Reply:
        if asked.query.keys() - {"pageToken", "pageSize"}:
            return Reply.of({"error": "unknown parameter"}, status=400)
        at = int(asked.query.get("pageToken", "t0")[1:])
        more = {"nextPageToken": f"t{at + 10}"} if at + 10 < len(ITEMS) else {}
        return Reply.of({"orders": ITEMS[at : at + 10], **more})

    return answer


PAGING = {
    "page": (
        lambda _: paged(lambda items: {"data": items}),
        "orders?page=1&per_page=10&status=all",
        {
            "path": "orders",
            "records": "data",
            "params": {"status": "all"},
            "pages": {"by": "page", "param": "page", "size_param": "per_page", "size": 10},
            "key": "id",
        },
    ),
    "page, from 0, as Spring has it": (
        lambda _: paged(
            lambda items: {
                "_embedded": {"orders": items},
                "page": {"size": 10, "totalElements": len(ITEMS), "totalPages": 5, "number": 0},
            },
            start=0,
        ),
        "orders",
        {
            "path": "orders",
            "records": "_embedded/orders",
            "pages": {"by": "page", "param": "page", "start": 0},
            "total": "page/totalElements",
            "key": "id",
        },
    ),
    "page, of an API that counts from 0 and was asked for 1": (
        lambda _: paged(lambda items: items, start=0),
        "orders?page=1",
        {"path": "orders", "pages": {"by": "page", "param": "page", "start": 0}, "key": "id"},
    ),
    "page, which is guessed": (
        lambda _: paged(told),
        "orders",
        {
            "path": "orders",
            "records": "orders",
            "pages": {"by": "page", "param": "page"},
            "total": "meta/total",
            "key": "id",
        },
    ),
    "offset": (
        lambda _: offset(lambda items: items),
        "orders?limit=7",
        {"path": "orders", "pages": {"by": "offset", "param": "offset", "size_param": "limit", "size": 7}, "key": "id"},
    ),
    "offset, from 1": (
        lambda _: offset(lambda items: {"Resources": items, "totalResults": len(ITEMS)}, "startIndex", start=1),
        "orders?startIndex=1",
        {
            "path": "orders",
            "records": "Resources",
            "pages": {"by": "offset", "param": "startIndex", "start": 1},
            "total": "totalResults",
            "key": "id",
        },
    ),
    "cursor": (
        lambda _: by_cursor(ITEMS, 10),
        "orders",
        {
            "path": "orders",
            "records": "data/items",
            "pages": {"by": "cursor", "param": "after", "next": "meta/next"},
            "key": "id",
        },
    ),
    "cursor by another name": (
        next_page_token,
        "orders?pageSize=10",
        {
            "path": "orders",
            "records": "orders",
            "pages": {
                "by": "cursor",
                "param": "pageToken",
                "size_param": "pageSize",
                "size": 10,
                "next": "nextPageToken",
            },
            "key": "id",
        },
    ),
    "link in the header": (link_in_header, "orders", {"path": "orders", "pages": {"by": "link"}, "key": "id"}),
    "link in the body": (
        link_in_body,
        "orders",
        {"path": "orders", "records": "value", "pages": {"by": "link", "next": "@next"}, "key": "id"},
    ),
    "none, for the total says so": (
        lambda _: lambda asked: Reply.of(told(ITEMS)),
        "orders",
        {"path": "orders", "records": "orders", "pages": {"by": "none"}, "total": "meta/total", "key": "id"},
    ),
}


@pytest.mark.parametrize("kind", PAGING)
def test_how_pages_are_given_is_found_and_all_of_them_are_loaded(rig: Rig, api: Api, kind: str) -> None:
    answer, url, found = PAGING[kind]
    api.answer = answer(api)
    said = rig.migrate("init", f"{api.url}/v2/{url}").said
    text, project = written(rig)
    assert project["sources"]["api"]["rest"] == f"{api.url}/v2"
    assert orders(rig) == found
    assert "not known" not in said + text
    assert project["sources"]["api"]["fields"]["orders"] == {
        "id": "integer",
        "customer": {"name": "text"},
        "total": "decimal",
        "lines": "json",
    }
    assert "# fields were found in" in text
    assert not (rig.folder / "recorded").exists()
    loads_all(rig)
