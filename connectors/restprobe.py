"""How a REST API gives a table's items, found by asking: where the list stands, what leads to the next page, and that it does."""

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from connectors.recording import Position
from connectors.restapi import Paging, Resource, asked, items_of, position_behind
from connectors.restclient import Access, Answer, Client, Doubled, Number, canonical
from migrate.errors import RetryableError, SourceError, UsageError

PATIENCE = 20.0
"""Seconds that an API has to answer one request, whole."""
MOST = 64 << 20
"""Bytes that a page may have."""

_FAILURES = 3  # guesses that an API fails to answer, before no more are made
_LISTS = ("data", "items", "results", "records", "value")
_PAGE = {"page", "p", "pagenumber", "pageno", "pageindex", "currentpage"}
_OFFSET = {"offset", "skip", "start", "startat", "startindex", "pageoffset", "firstresult"}
_SIZE = {
    "perpage",
    "pagesize",
    "limit",
    "size",
    "count",
    "top",
    "pagelimit",
    "maxresults",
    "rows",
    "itemsperpage",
    "take",
}
_GUESSES: Mapping[str, Sequence[Paging]] = {
    "$top": (Paging("offset", "$skip"),),
    "$limit": (Paging("offset", "$offset"),),
    "page[size]": (Paging("page", "page[number]"),),
    "page[limit]": (Paging("offset", "page[offset]"),),
    "maxResults": (Paging("offset", "startAt"),),
    "limit": (Paging("offset", "offset"), Paging("page", "page"), Paging("offset", "skip")),
    "take": (Paging("offset", "skip"),),
}
"""What is tried, by the parameter that has the page's size."""
_USUAL = (Paging("page", "page"), Paging("offset", "offset"))
_CURSORS = (
    *("cursor", "page_token", "pageToken", "after", "starting_after", "next", "next_token", "nextToken"),
    *("continuation_token", "continuationToken", "pagination_token", "token", "offset", "page"),
)
_TOTALS = {
    *("total", "totalcount", "totalitems", "totalresults", "totalelements", "totalrecords", "totalrows", "totalsize"),
    *("totalhits", "recordstotal", "odatacount", "numfound", "header"),
}
_PERHAPS_TOTALS = {"count", "recordcount", "resultcount", "itemcount"}  # of a page, in some APIs
_MORE = {"hasmore", "hasnext", "hasnextpage", "more", "moreresults"}
_NEXT = re.compile("next", re.IGNORECASE)
_ENDS = {
    *("next", "nextlink", "nextpage", "nextcursor", "nexttoken", "nexturl", "nexturi", "nexthref", "nextmarker"),
    *("nextpagetoken", "nextpagecursor", "nextpageurl", "nextpageuri", "nextpagelink", "nextrecordsurl"),
    *("nextcontinuationtoken", "odatanextlink"),
}
"""What the next page is called, and nothing else: `nextUpdate` is not."""
_CURSOR = re.compile("next|cursor|token|continu|after|scroll|marker|offset", re.IGNORECASE)
_BEFORE = re.compile("prev|before|self|first", re.IGNORECASE)
_ASK = "See in the API's documentation how it gives its pages, and in docs/rest.md how to write that"
_URL = re.compile(r"https?://|\?")
_LINK = re.compile(rf"{_URL.pattern}|/")  # or a cursor in Base64
_KEY = re.compile(r"(^|[\W_])(id|nr|no|number|key|code)$|[a-z](Id|ID|Nr|No|Number|Key|Code)$")


@dataclass(frozen=True, slots=True)
class Probed:
    """What was found of one table of an API.

    `table` has its keys as the project file spells them, `bodies` are those of the pages seen that hold items, and `items` says
    how many these are; `notes` are for people.
    """

    table: Mapping[str, Any]
    bodies: Sequence[bytes]
    items: int
    notes: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Page:
    answer: Answer
    items: Sequence[Any]
    texts: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Way:
    """How pages are come by: the first one and, if there is one, that behind it; what to say; whether that is certain."""

    paging: Paging
    pages: Sequence[_Page]
    said: str
    sure: bool = True


def probe(client: Client, access: Access, name: str, path: str, params: Mapping[str, str]) -> Probed:
    """Ask for the first page of a path, and for what could be the second.

    Raises UsageError where the parameters ask for a later page, RetryableError where the API does not answer, SourceError
    where it refuses or holds no list of objects.
    """
    later = [f"{name}={params[name]}" for name in _whole(params, _PAGE | _OFFSET) if int(params[name]) > 1]
    if later:
        hint = "Give the URL of the first page: pages are taken from there on."
        raise UsageError(f"{path}: the URL asks for {later[0]}", hint=hint)
    answer = client.get(*asked(access, Resource(name, path, params=params), None))
    records, others = _listed(answer.document, path, client.shown(answer.url))
    api = _Api(client, access, Resource(name, path, records, params), answer)
    way = _way(api)
    found = {
        "records": records,
        "params": dict(_kept(params, way.paging)),
        "pages": way.paging.request(),
        "total": _total(way),
        "key": _key(way.pages, path),
    }
    notes = [f"the items stand at {records}; lists are at {', '.join(others)}, too"] if others else []
    notes += [f"{'' if way.sure else 'warning: '}pages: {way.said}", *api.notes]
    if way.paging.by == "cursor" and params.get(way.paging.param, "*") not in ("", "*"):
        notes.append(
            f"warning: the URL has {way.paging.param}: if that leads to a later page, those before it are missing"
        )
    if (before := _before(answer)) and way.paging.by in ("link", "cursor", "none"):
        notes.append(f"warning: {before} leads to a page before it: if there is one, it is missing")
    table = {"path": path or "/", **{name: value for name, value in found.items() if value}}
    bodies = [page.answer.body for page in way.pages if page.items]
    items = sum(len(page.items) for page in way.pages)
    return Probed(table, bodies, items, notes)


class _Api:
    """A table's pages, asked for as a run asks for them, each once."""

    def __init__(self, client: Client, access: Access, resource: Resource, answer: Answer) -> None:
        self.access = access
        self.resource = resource
        self.notes: list[str] = []
        self._client = client
        self._failures = 0
        self.first = _page(answer, resource)
        self._seen: dict[tuple[str, frozenset[tuple[str, str]]], _Page | None] = {
            _request(access, resource, None): self.first
        }

    @property
    def params(self) -> Mapping[str, str]:
        return self.resource.params

    @property
    def total(self) -> tuple[int, bool]:
        """What the body says that there are in all, 0 if nothing; and whether that is no number of this page's."""
        told = [(number, _plain(path) in _TOTALS) for path, number in _totals(self.first.answer)]
        return max(
            (each for each in told if each[0] >= len(self.first.items)), key=lambda each: each[1], default=(0, False)
        )

    @property
    def more(self) -> bool:
        """Whether the API says that the first page is not all."""
        says = any(_plain(path) in _MORE and value is True for path, value in _walked(self.first.answer.document))
        return says or self.total[0] > len(self.first.items)

    @property
    def failed(self) -> bool:
        """Whether the API failed so often at what was guessed that it is asked no more."""
        return self._failures >= _FAILURES

    def at(self, paging: Paging, position: Position) -> _Page | None:
        """The page at a position; None where the API does not give it.

        Raises RetryableError where after many failures the first page, too, cannot be had any more.
        """
        resource = replace(self.resource, paging=paging, params=_kept(self.params, paging))
        request = _request(self.access, resource, position)
        if request not in self._seen and self.failed:
            return None
        if request not in self._seen:
            try:
                answer = self._client.get(*asked(self.access, resource, position))
                self._seen[request] = _page(answer, resource)
            except SourceError:
                self._seen[request] = None
            except RetryableError:
                self._seen[request] = None
                self._failures += 1
                if self.failed:
                    self._client.get(*asked(self.access, self.resource, None))
        return self._seen[request]

    def behind(self, paging: Paging) -> _Page | None:
        """The page that the first one leads to by a link or a cursor, if it is another one."""
        resource = replace(self.resource, paging=paging)
        try:
            position = position_behind(self.first.answer, resource, None, 0, 0, None, self.access)
        except SourceError as error:  # it leads to another host
            self.notes.append(self.access.mask(f"{error.message}. {error.hint}".strip(". ")))
            return None
        found = self.at(paging, position) if position is not None else None
        return found if found is not None and _others(self.first, found) else None


def _page(answer: Answer, resource: Resource) -> _Page:
    items = items_of(answer, resource, answer.url)
    return _Page(answer, items, [canonical(item) for item in items])


def _request(access: Access, resource: Resource, position: Position) -> tuple[str, frozenset[tuple[str, str]]]:
    url, params = asked(access, resource, position)
    return url, frozenset(params)


def _others(page: _Page, following: _Page) -> bool:
    return not set(page.texts) & set(following.texts)


# -------------------------------------------------------------------------------------------------------- the way to pages


def _way(api: _Api) -> _Way:
    """The first way that the API is seen to go. What it says itself comes before what is guessed, but for a next page that is

    nothing: that may be no pager's, so other pages are asked for before it is believed.
    """
    first, sized = api.first, _sized(api.params)
    for paging in _links(first.answer):
        if (second := api.behind(paging)) is not None:
            return _Way(paging, (first, second), f"by {_called(paging)}: the second page holds other items")
    for paging in _by_cursor(first.answer, api.params):
        paging = replace(paging, **sized)
        if (second := api.behind(paging)) is not None and second.items:
            return _Way(paging, (first, second), f"by {_called(paging)}: the second page holds other items")
    echoed = {path.rpartition("/")[2]: _text(value) for path, value in _walked(first.answer.document) if _is(value)}
    given = [
        *(Paging("page", name) for name in _whole({**api.params, **echoed}, _PAGE)),
        *(Paging("offset", name) for name in _whole({**api.params, **echoed}, _OFFSET)),
    ]
    total, sure = api.total
    all_there = bool(first.items) and total == len(first.items)
    guesses = _GUESSES.get(sized.get("size_param", ""), _USUAL) if not (all_there and sure) else ()
    for paging in (*given, *guesses):
        if (way := _counted(api, replace(paging, **sized))) is not None:
            return way
    if not api.more and (ends := _ended(first.answer, api.params)) is not None:
        said = f"by {_called(ends)}, which says that the first page is all; no other one was seen"
        told = (all_there and sure) or (ends.by == "link" and not ends.next)
        if not told:
            said += f": only the first is proved, with {len(first.items)} items. {_ASK}"
        return _Way(replace(ends, **(sized if ends.by == "cursor" else {})), (first,), said, sure=told)
    if all_there and sure:
        return _Way(Paging(), (first,), "there is one alone: it holds as many items as the API says that there are")
    more = ", though the API says that there are more" if api.more else ""
    more += f", for the API failed at {_FAILURES} ways that were tried, and no more were" if api.failed else ""
    said = f"it is not known whether there is a second one{more}: only the first is taken, with {len(first.items)} items. {_ASK}"
    return _Way(Paging(), (first,), said, sure=False)


def _called(paging: Paging) -> str:
    if paging.by == "link":
        return f"the link at {paging.next}" if paging.next else "the header Link"
    return f"the cursor at {paging.next}, sent as {paging.param}"


def _links(answer: Answer) -> Iterator[Paging]:
    """By the header, else by a URL in the body that is called the next one."""
    if "next" in answer.links:
        yield Paging("link")
    for path, value in _walked(answer.document):
        if isinstance(value, str) and _NEXT.search(path) and _LINK.match(value) and not _BEFORE.search(path):
            yield Paging("link", next=path)


def _by_cursor(answer: Answer, params: Mapping[str, str]) -> Iterator[Paging]:
    """By something in the body that is no URL, sent as each of the parameters that could take it."""
    there = [
        path
        for path, value in _walked(answer.document)
        if _is(value) and _CURSOR.search(path) and not _BEFORE.search(path) and not _URL.match(_text(value))
    ]
    for path in sorted(there, key=lambda path: _NEXT.search(path) is None)[:3]:
        for param in _takers(path, params):
            yield Paging("cursor", param, next=path)


def _takers(path: str, params: Mapping[str, str]) -> Sequence[str]:
    """What the parameter that takes the cursor at a path could be called: `nextPageToken` is sent as `pageToken`."""
    name = path.rpartition("/")[2]
    bare = re.sub("^(next|end)[_-]?", "", name, flags=re.IGNORECASE)
    given = [each for each in params if _CURSOR.search(each)]
    usual = _CURSORS if re.search("next|cursor", path, re.IGNORECASE) else ()
    return [each for each in dict.fromkeys([bare[:1].lower() + bare[1:], name, *given, *usual]) if each]


def _ended(answer: Answer, params: Mapping[str, str]) -> Paging | None:
    """By what the API says of the next page where there is none: null, nothing, or links to other pages alone."""
    for path, value in _walked(answer.document):
        called = {_plain(path), "next" if _plain(path.rpartition("/")[0]) == "next" else ""}
        if (value is None or value == "") and called & _ENDS:
            if re.search("cursor|token|marker|continu|after", path, re.IGNORECASE):
                return Paging("cursor", _takers(path, params)[0], next=path)
            return Paging("link", next=path)
    return Paging("link") if answer.links.keys() & {"first", "last", "prev"} else None


def _counted(api: _Api, paging: Paging) -> _Way | None:
    """By number or offset, if the page behind the first has other items, none of those, and nothing lies between them.

    Some APIs count from 0 where others do from 1: the first page has to be the one that is given without the parameter.
    """
    usual = 1 if paging.by == "page" else 0
    for start in (0, 1):
        tried = replace(paging, start=None if start == usual else start)
        here = api.at(tried, start)
        if here is None or not here.items or (paging.param not in api.params and here.texts != api.first.texts):
            continue
        step = 1 if paging.by == "page" else len(here.items)
        second = api.at(tried, start + step)
        if second is None or not _others(here, second) or (not second.items and api.more):
            continue
        if paging.by == "offset":
            last = api.at(tried, start + step - 1)
            if last is None or list(last.texts[:1]) != list(here.texts[-1:]):
                continue
        if not second.items:
            return _Way(tried, (here,), f"{paging.param}={start + step} gives none: all items are on the first page")
        said = f"{paging.param}={start + step} gives other items than {paging.param}={start}"
        return _Way(tried, (here, second), said)
    return None


def _whole(params: Mapping[str, str], called: set[str]) -> list[str]:
    return [name for name, value in params.items() if _plain(name) in called and re.fullmatch(r"\d{1,9}", value)]


def _sized(params: Mapping[str, str]) -> dict[str, Any]:
    """Which parameter has the page's size, and what it is."""
    names = [name for name in _whole(params, _SIZE) if int(params[name])]
    return {"size_param": names[0], "size": int(params[names[0]])} if names else {}


def _kept(params: Mapping[str, str], paging: Paging) -> Mapping[str, str]:
    """The parameters that are sent with every page, beside what the paging says. A first cursor is one: `cursor=*`."""
    gone = {paging.size_param, paging.param if paging.by in ("page", "offset") else ""}
    return {name: value for name, value in params.items() if name not in gone}


# ------------------------------------------------------------------------------------------------------- within a page


def _walked(document: Any) -> Iterator[tuple[str, Any]]:
    """What stands in the body's objects, by its path, breadth first; not within lists."""
    left = deque([("", document)])
    while left:
        path, value = left.popleft()
        if isinstance(value, dict):
            left += ((f"{path}/{name}".lstrip("/"), each) for name, each in value.items() if name and "/" not in name)
        else:
            yield path, value


def _listed(document: Any, path: str, shown: str) -> tuple[str, list[str]]:
    """Where the list of items stands, and where others do. Raises SourceError where there is none."""
    lists = {
        at: value
        for at, value in _walked(document)
        if isinstance(value, list) and (not value or any(isinstance(each, dict | Doubled) for each in value))
    }
    if not lists:
        kind = "a list of something else" if isinstance(document, list) else "a single value"
        if isinstance(document, dict):
            kind = f"an object with {', '.join(list(document)[:10]) or 'nothing in it'}"
        raise SourceError(
            f"{shown}: no list of objects is in the body, which is {kind}",
            hint="Give the URL of a list, not of one item; or write the source by hand, with the list's path under "
            "`records`: see docs/rest.md.",
        )
    preferred = [_plain(path.rstrip("/").rpartition("/")[2]), *_LISTS]

    def rank(at: str) -> tuple[int, bool, int, int]:
        name = _plain(at)
        named = preferred.index(name) if name in preferred else len(preferred)
        return named, not lists[at], at.count("/"), -len(lists[at])

    best, *others = sorted(lists, key=rank)
    return best, [at for at in others if lists[at]]


def _totals(answer: Answer) -> Iterator[tuple[str, int]]:
    """The whole numbers that could be that of all items, by their paths."""
    for path, value in _walked(answer.document):
        if (
            _plain(path) in _TOTALS | _PERHAPS_TOTALS
            and isinstance(value, Number | str)
            and re.fullmatch(r"\d{1,18}", _text(value))
        ):
            yield path, int(_text(value))
    if re.fullmatch(r"\d{1,18}", told := answer.headers.get("x-total-count", "")):
        yield "header", int(told)


def _total(way: _Way) -> str:
    """Where the number of all items stands: the same on each page, and more than came. As many as came are all only where that is
    certain: some APIs count the page, and a fetch would end with it."""
    came = sum(len(page.items) for page in way.pages)
    told = [dict(_totals(page.answer)) for page in way.pages]
    found = [
        path
        for path, total in told[0].items()
        if (total > came or (total == came and way.sure)) and all(each.get(path) == total for each in told)
    ]
    return min(found, key=lambda path: _plain(path) not in _TOTALS, default="")


def _key(pages: Sequence[_Page], path: str) -> str:
    """The field that identifies an item: there in all that were seen, other in each, and called like one."""
    items = [item for page in pages for item in page.items]
    if not items or not all(isinstance(item, dict) for item in items):
        return ""
    last = _plain(path.rstrip("/").rpartition("/")[2])
    first = ("id", *(f"{each}id" for each in (last, last.removesuffix("s"), last.removesuffix("es"))), "uuid")
    names = [name for name in items[0] if name and "/" not in name and (_plain(name) in first or _KEY.search(name))]
    for name in sorted(names, key=lambda name: first.index(_plain(name)) if _plain(name) in first else len(first)):
        values = [item.get(name) for item in items]
        told = all(map(_is, values))
        sure = len(values) > 1 or _plain(name) in first
        if told and sure and len({canonical(each) for each in values}) == len(values):
            return str(name)
    return ""


def _before(answer: Answer) -> str:
    """What leads to a page before this one."""
    if answer.links.keys() & {"prev", "previous"}:
        return "the header Link"
    there = (path for path, value in _walked(answer.document) if re.search("prev", path, re.IGNORECASE) and value)
    return next(there, "")


def _plain(path: str) -> str:
    """A path's last name, without what is no letter."""
    return re.sub("[^a-z]", "", path.rpartition("/")[2].lower())


def _is(value: Any) -> bool:
    """Whether it is a text or a number that says something."""
    return isinstance(value, str | Number) and bool(_text(value))


def _text(value: str | Number) -> str:
    return value.text if isinstance(value, Number) else value
