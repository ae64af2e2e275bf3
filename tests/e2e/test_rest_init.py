"""`migrate init` of a REST API: how it gives its pages is found by asking, and what is written runs with no edit."""

import base64
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from webserver import Answer, Api, Asked, Reply, by_cursor, by_link, serving

from e2e.rig import Rig
from migrate.errors import RetryableError
from migrate.initrest import look, requests

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
    assert "# orders: fields: found in" in text
    assert not (rig.folder / "recorded").exists()
    loads_all(rig)


def test_several_lists_of_an_api_are_one_source_and_secrets_are_nowhere(rig: Rig, api: Api) -> None:
    pages = paged(lambda items: items)
    customers = [{"customer_id": f"c{n}", "email": None} for n in range(12)]

    def answer(asked: Asked) -> Reply:
        if asked.headers.get("Authorization") != f"Bearer {TOKEN}" or asked.headers.get("X-Tenant") != "acme":
            return Reply.of({"error": f"bad token {asked.headers.get('Authorization')}"}, status=401)
        if asked.path == "/v2/orders" and asked.query["api_key"] == "k3y-of-the-api":
            return pages(asked)
        return Reply.of({"count": 12, "next": None, "results": customers} if asked.path == "/v2/crm/customers/" else {})

    api.answer = answer
    urls = (f"{api.url}/v2/orders?api_key=k3y-of-the-api&sort=", f"{api.url}/v2/crm/customers/")
    headers = ("--header", f"Authorization: Bearer {TOKEN}", "--header", "X-Tenant: acme")
    said = rig.migrate("init", *urls, *headers).said
    text, project = written(rig)
    source = project["sources"]["api"]
    assert source["rest"] == f"{api.url}/v2"
    assert source["headers"] == {"Authorization": "Bearer ${env:API_AUTHORIZATION}", "X-Tenant": "acme"}
    assert source["tables"]["orders"]["params"] == {"api_key": "${env:API_API_KEY}", "sort": ""}
    assert source["tables"]["customers"] == {
        "path": "crm/customers/",
        "records": "results",
        "pages": {"by": "link", "next": "next"},
        "key": "customer_id",
    }
    assert "email: email  # no value was seen: text is a guess" in text
    assert "export API_AUTHORIZATION=… before the next command." in said
    assert "export API_API_KEY=… before the next command." in said
    secrets = (TOKEN, "k3y-of-the-api")
    assert not [secret for secret in secrets if secret in text + said]
    rig.environment.update(API_AUTHORIZATION=TOKEN, API_API_KEY="k3y-of-the-api")
    loads_all(rig)
    assert rig.value("SELECT count(*) FROM customers") == 12
    rig.migrate("verify")
    for wrong in (("--header", "Authorization: Bearer wr0ng-token"), ("--header", f"X-Api-Key: {TOKEN}")):
        ended = rig.try_("init", "-v", "--yes", *urls, *wrong)
        assert ended.code == 6
        assert f"{api.url}/v2/orders?api_key=***&sort=: HTTP 401 Unauthorized: bad token" in ended.err
        assert not [secret for secret in (*secrets, "wr0ng-token") if secret in ended.said]
    assert written(rig)[0] == text  # nothing was written


def test_a_header_may_name_variables(rig: Rig, api: Api) -> None:
    login = base64.b64encode(b"reader:geheim99").decode()
    api.answer = lambda asked: (
        Reply.of({"total": 2, "items": [{"id": 1}, {"id": 2}]})
        if asked.headers.get("Authorization") == f"Basic {login}" and asked.query == {"key": "k1"}
        else Reply.of({"detail": asked.headers["Authorization"]}, status=403)
    )
    arguments = ("init", f"{api.url}/orders?key=${{env:KEY}}", "--header", "Authorization: Basic ${env:LOGIN}")
    ended = rig.migrate(*arguments, code=2)
    assert "The environment variable LOGIN is not set" in ended.err
    assert "export LOGIN=…" in ended.err
    assert api.asked == []
    rig.environment.update(LOGIN="wr0ng-login", KEY="k1")
    assert "HTTP 403 Forbidden: ***" in rig.migrate(*arguments, code=6).err
    rig.environment["LOGIN"] = login
    said = rig.migrate(*arguments).said
    text, project = written(rig)
    assert project["sources"]["api"]["headers"] == {"Authorization": "Basic ${env:LOGIN}"}
    assert orders(rig)["params"] == {"key": "${env:KEY}"}
    assert login not in text + said
    assert "before the next command" not in said
    rig.migrate("check")


@pytest.mark.parametrize(
    "given",
    [
        "Authorization: ${env:KEY}",
        "Authorization: GenieKey ${env:KEY}:${env:KEY}",
        "X-Auth-Token: Bearer ${env:KEY}",
        "X-Tenant: a-${env:KEY}",
    ],
)
def test_a_scheme_may_stand_before_variables(rig: Rig, api: Api, given: str) -> None:
    rig.environment["KEY"] = "k3y-of-the-api"
    api.answer = lambda _: Reply.of({"total": 1, "items": [{"id": 1}]})
    rig.migrate("init", f"{api.url}/orders", "--header", given)
    name, _, value = given.partition(": ")
    assert written(rig)[1]["sources"]["api"]["headers"] == {name: value}
    assert api.asked[0].headers[name] == value.replace("${env:KEY}", "k3y-of-the-api")


def test_what_is_not_proved_is_told_and_not_made_up(rig: Rig, api: Api) -> None:
    """The API knows none of the parameters, and says that there are more."""
    api.answer = lambda _: Reply.of({"object": "list", "has_more": True, "data": ITEMS[:10], "other": [{"a": 1}]})
    said = rig.migrate("init", f"{api.url}/orders").said
    warning = (
        "orders: warning: pages: it is not known whether there is a second one, though the API says that there are more"
    )
    assert warning in said
    assert f"# {warning}" in written(rig)[0]
    assert "# orders: the items stand at data; lists are at other, too" in written(rig)[0]
    assert orders(rig)["pages"] == {"by": "none"}
    rig.migrate("check")


def test_more_than_the_first_page_is_missed_by_the_total(rig: Rig, api: Api) -> None:
    api.answer = lambda _: Reply.of(told(ITEMS[:10]))
    assert "though the API says that there are more" in rig.migrate("init", f"{api.url}/orders").said
    assert "the API says 47 items, and its pages hold 10: fewer than that" in rig.migrate("run", code=6).err


def test_fields_that_come_on_later_pages_are_not_lost(rig: Rig, api: Api) -> None:
    items = [*ITEMS[:30], {**ITEMS[30], "note": "later"}, {**ITEMS[31], "total": "n/a"}, *ITEMS[32:]]
    api.answer = lambda asked: Reply.of(items[(n := 10 * int(asked.query.get("page", 1))) - 10 : n])
    rig.migrate("init", f"{api.url}/orders")
    text, _ = written(rig)
    rig.write("migrate.yaml", text + "defaults: {max_rejects: 10%}\n")
    rig.migrate("run")
    assert rig.value("SELECT rest FROM orders WHERE id = 31") == {"note": "later"}
    assert rig.fates("orders") == (47, 46, 0, 0, 1)


def test_an_api_with_no_items_is_a_table_without_rows(rig: Rig, api: Api) -> None:
    api.answer = lambda _: Reply.of({"total": 0, "items": []})
    assert "orders: fields: none, for there is no item" in rig.migrate("init", f"{api.url}/orders").said
    rig.migrate("check")
    rig.migrate("run")
    assert rig.value("SELECT count(*) FROM orders") == 0


@pytest.mark.parametrize(
    ("reply", "code", "said", "hint"),
    [
        (Reply(status=404), 6, "/v2/orders: HTTP 404 Not Found", "Look at the source's URL"),
        (Reply(status=401), 6, "/v2/orders: HTTP 401 Unauthorized", "--header 'Authorization: Bearer ${env:API_TOKEN}'"),
        (Reply(b"<html>sign in</html>"), 6, "/v2/orders: HTTP 200 OK: the answer is no JSON", ""),
        (Reply.of({"id": 1, "name": "x"}), 6, "no list of objects is in the body, which is an object with id, name", "records"),
        (Reply.of(["a", "b"]), 6, "no list of objects is in the body, which is a list of something else", "records"),
        (Reply.of({}), 6, "no list of objects is in the body, which is an object with nothing in it", "records"),
        (Reply(status=429, headers={"Retry-After": "60"}), 75, "HTTP 429 Too Many Requests; it asks to wait 60 s", "is there"),
    ],
)  # fmt: skip
def test_what_an_api_answers_instead_of_a_list_is_said(
    rig: Rig, api: Api, reply: Reply, code: int, said: str, hint: str
) -> None:
    api.answer = lambda asked: reply if asked.path == "/v2/orders" else Reply.of([{"id": 1}])
    ended = rig.migrate("init", f"{api.url}/v2/customers", f"{api.url}/v2/orders", code=code)
    assert said in ended.err
    assert hint in ended.err
    assert not (rig.folder / "migrate.yaml").exists()


def test_an_api_that_does_not_answer_is_not_waited_for_long(api: Api, tmp_path: Path) -> None:
    done = threading.Event()
    api.answer = lambda _: Reply.of([]) if done.wait(30) else Reply(status=500)
    [request] = requests([f"{api.url}/orders"], [])
    begun = time.monotonic()
    with pytest.raises(RetryableError, match=r"/orders: no (whole )?answer in") as error:
        look(request, {}, tmp_path, patience=1)
    assert time.monotonic() - begun < 10
    assert "whether the API is there" in error.value.hint
    done.set()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["http://reader:geheim99@127.0.0.1:1/v2"], "holds a user"),
        (["http://127.0.0.1:1/v2?x=1&x=2"], "has the parameter 'x' more than once"),
        (["http://127.0.0.1:1/v2/orders?page=3"], "the URL asks for page=3"),
        (["http://127.0.0.1:99999/v2"], "is none that can be asked"),
        (["https://xn--zzzzzz--.com/x"], "the host xn--zzzzzz--.com, which is none"),
        (["https://xn--/x"], "the host xn--, which is none"),
        (["https://a..b/x?api_key=geheim99"], "the host a..b, which is none"),
        (["http://127.0.0.999/v2"], "the host 127.0.0.999, which is none"),
        (["http://${env:HOST}/v2"], "has a reference in its host or path"),
        (["http://127.0.0.1:1/v2", "--header", "geheim99"], "--header takes a name, a colon and a value"),
        (["http://127.0.0.1:1/v2", "--header", "X-Key: geheim99", "--header", "x-key: a"], "--header x-key is given twice"),
        (["http://127.0.0.1:1/v2", "http://127.0.0.1:2/v2", "--header", "X-Key: geheim99"], "There are 2 APIs, and"),
        (["http://127.0.0.1:1/v2", "--header", "X-Api-Key: geheim99-${env:TERM}"], "--header X-Api-Key has text beside"),
        (["http://127.0.0.1:1/v2", "--header", "X-Api-Key: geheim99 ${env:TERM}"], "--header X-Api-Key has text beside"),
        (["http://127.0.0.1:1/v2", "--header", "Authorization: Bearer geheim99${env:TERM}"], "--header Authorization has text"),
        (["http://127.0.0.1:1/v2?api_key=geheim99${env:TERM}"], "the parameter api_key has text beside ${env:…}"),
        (["a.csv", "--header", "X-Key: geheim99"], "There are 0 APIs, and --header is for one"),
        (["http://127.0.0.1:1/v2", "--header", "X-Key: geheim99ü"], "its value is no header"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused(rig: Rig, arguments: list[str], said: str) -> None:
    rig.write("a.csv", "x\n1\n")
    assert said in rig.migrate("init", *arguments, code=2).err
    ended = rig.try_("init", "-v", *arguments)
    assert "geheim" not in ended.said
    assert not (rig.folder / "migrate.yaml").exists()
