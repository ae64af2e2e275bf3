"""REST APIs as a source: the pages of a documented GET are recorded once, and read as JSON files are from then on."""

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from threading import RLock
from typing import Any, Literal, cast
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import httpx
import msgspec
import numpy as np
import pyarrow as pa

from connectors.documents import numbered
from connectors.jsonfiles import open_files
from connectors.recording import Page, Position, Recorded, Writer, locked, recorded, refuse_another, verify
from connectors.restclient import PATIENCE, Access, Answer, Client, Doubled, Mask, Number, Pause, canonical, origin
from connectors.secretnames import secret
from migrate.core import Attended, Batch, Counted, Nested, Notice, Origin, Partition, Source, Table
from migrate.errors import MigrateError, RetryableError, SourceError, Stopped, UsageError

_TELL = 5.0  # seconds between two lines about one table
_LOOK = 10.0  # seconds that `check` waits for an API that does not answer
_AGAIN = 1.0  # seconds before a page is asked for again that was one before
_EMPTY = 50  # pages one after the other, each of which leads to another, and none of which holds anything
_MOST = 256  # pages in a slice: their places are kept in the ledger
_ABSENT = object()

Tell = Callable[[str], None]
By = Literal["page", "offset", "cursor", "link", "none"]


@dataclass(frozen=True, slots=True)
class Paging:
    """How an API gives its pages. `next`: path of the next cursor or URL; `hosts`: others that a link may lead to."""

    by: By = "none"
    param: str = ""
    size_param: str = ""
    size: int | None = None
    start: int | None = None
    next: str = ""
    hosts: tuple[str, ...] = ()

    def request(self) -> dict[str, Any]:
        """What says which pages are asked for, as the project file spells it."""
        names = ("by", "param", "size_param", "size", "start", "next")
        return {name: value for name in names if (value := getattr(self, name)) not in ("", None)}


@dataclass(frozen=True, slots=True)
class Resource:
    """One table of an API. `records` and `total` are paths in the body, names with / between; `key` are paths in an item."""

    name: str
    path: str
    records: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    paging: Paging = Paging()
    total: str = ""
    key: tuple[str, ...] = ()
    reading: Mapping[str, Any] = field(default_factory=dict)

    def request(self, access: Access) -> dict[str, Any]:
        """What a recording is one of; no secret is in it."""
        params = {name: "***" if secret(name) else value for name, value in self.params.items()}
        found = {"url": _joined(access.base, self.path), "params": params, "pages": self.paging.request()}
        return found | {"records": self.records, "total": self.total, "key": list(self.key)}


def open_api(options: Mapping[str, Any], base: Path, mask: Mask = str) -> Source:
    """An API as a source. `options` are the keys of the project file's source, resolved; `record` is a folder from `base`.

    `mask` hides what is secret in a text. Raises UsageError for what does not fit together.
    """
    access = Access(
        options["rest"].rstrip("/"),
        options.get("headers", {}),
        options.get("oauth"),
        options.get("requests_per_second"),
        mask,
    )
    resources = {name: _resource(name, given, reading(options, name)) for name, given in options["tables"].items()}
    return RestApi(access, resources, base, options["record"])


def reading(options: Mapping[str, Any], table: str) -> dict[str, Any]:
    """How the pages of a table are read, in the words of a source of JSON files."""
    fields = {name: given for name, given in options.get("fields", {}).items() if _root(name) == table}
    return {
        "records": options["tables"][table].get("records", ""),
        "fields": fields,
        "mixed": options.get("mixed", "reject"),
    }


class RestApi:
    """`Source`, `Counted` and `Nested` over recordings, made where there are none; `Preflight`. Safe for several threads."""

    def __init__(self, access: Access, resources: Mapping[str, Resource], base: Path, record: str) -> None:
        self._access = access
        self._resources = resources
        self._base = base
        self._record = record
        self._pause: Pause = time.sleep
        self._tell: Tell = lambda _: None
        self._lock = RLock()
        self._opened: dict[str, tuple[Recorded, Source]] = {}
        self._failed: dict[str, MigrateError] = {}

    def attended(self, pause: Pause, tell: Tell) -> None:
        """Who waits for it, and hears how far it is."""
        self._pause, self._tell = pause, tell

    def tables(self) -> Sequence[str]:
        return tuple(self._resources)

    def schema(self, table: str, /) -> Table:
        """The columns of what is recorded. Fetches it where it is not, which may take long."""
        found, files = self._recorded(table)
        read = files.schema(table)
        resource = self._resource_of(table)
        said, warned = (_once(told, self._shown(resource)) for told in (read.notes, read.warnings))
        notes = (*_notes(found, self._shown(resource)), *said)
        return replace(read, notes=notes, warnings=(*_warnings(found, resource), *warned))

    def partitions(self, table: Table, /, *, rows: int, bytes: int) -> Iterator[Partition]:
        """Slices of as many pages as both bounds allow: pages are small."""
        group: list[Partition] = []
        ordinal = 0
        for part in self._recorded(table.name)[1].partitions(table, rows=rows, bytes=bytes):
            full = sum(p.rows for p in group) + part.rows > rows or sum(p.bytes for p in group) + part.bytes > bytes
            if group and (full or len(group) == _MOST):
                yield _slice(group, ordinal)
                group, ordinal = [], ordinal + 1
            group.append(part)
        if group:
            yield _slice(group, ordinal)

    def read(self, partition: Partition, /, columns: Sequence[str]) -> Iterator[Batch]:
        """The slice as one batch. Raises SourceError if a page has changed since the plan."""
        files, parts = self._parts(partition)
        yield _joint([batch for part in parts for batch in files.read(part, columns)])

    def count(self, partition: Partition, /) -> int:
        files, parts = self._parts(partition)
        return sum(cast(Counted, files).count(part) for part in parts)

    def arrays(self, table: str, /) -> Sequence[str]:
        return cast(Nested, self._recorded(table)[1]).arrays(table)

    def fields(self, tables: Sequence[str], /) -> Mapping[str, Any]:
        return {name: cast(Nested, self._recorded(name)[1]).fields([name])[name] for name in tables}

    def kinds(self, table: str, /) -> Mapping[str, Mapping[str, int]]:
        return cast(Nested, self._recorded(table)[1]).kinds(table)

    def _parts(self, partition: Partition) -> tuple[Source, list[Partition]]:
        token = json.loads(partition.token)
        return self._recorded(token["table"])[1], [replace(partition, token=part) for part in token["parts"]]

    def preflight(self, tables: Sequence[str], /) -> Sequence[Notice]:
        """What is recorded, or what the API says to one request; and what nobody could notice."""
        return [
            notice for name in dict.fromkeys(map(_root, tables)) for notice in self._looked(self._resource_of(name))
        ]

    # ------------------------------------------------------------------------------------------------------- recordings

    def _recorded(self, table: str) -> tuple[Recorded, Source]:
        """The complete recording that a table is read from, as files; looked at once."""
        resource = self._resource_of(table)
        with self._lock:
            if resource.name in self._failed:
                raise self._failed[resource.name]
            if resource.name not in self._opened:
                folder, shown = self._folder(resource), self._shown(resource)
                found = recorded(folder, shown)
                refuse_another(found, resource.request(self._access), shown)
                if not found.complete:
                    found = self._fetched(resource)
                verify(folder, found, shown)
                names = [page.read_file for page in found.pages if page.rows] or [found.pages[0].read_file]
                files = {resource.name: tuple(f"{shown}/{name}" for name in names)}
                read = open_files(files, {**resource.reading, "form": "array"}, self._base)
                cast(Attended, read).attended(self._pause, self._tell)
                self._opened[resource.name] = found, read
            return self._opened[resource.name]

    def _fetched(self, resource: Resource) -> Recorded:
        shown = self._shown(resource)
        with locked(self._folder(resource), shown):
            found = recorded(self._folder(resource), shown)  # as whoever had the lock before left it
            if found.complete:
                return found
            client = self._client(resource)
            writer = Writer(self._folder(resource), found, resource.request(self._access), shown)
            try:
                _fetch(client, self._access, resource, writer, shown, self._tell)
            except KeyboardInterrupt as error:
                stopped = f"Stopped; {len(writer.pages)} pages of {resource.name} are recorded in {shown}."
                raise Stopped(stopped, hint="Run the same command again: it goes on with the next page.") from error
            except (SourceError, RetryableError) as error:
                message = f"{resource.name}, page {len(writer.pages) + 1}: {error.message}"
                if writer.pages:
                    message += f"; {len(writer.pages):,} pages with {writer.rows:,} rows are recorded in {shown}"
                raise type(error)(message, hint=error.hint) from error
            else:
                _refuse_incomplete(resource, writer, shown)
                writer.finish(_now(), _masked)
                self._tell(
                    f"{resource.name}: {len(writer.pages):,} pages, {writer.rows:,} rows fetched, recorded in {shown}"
                )
            finally:
                writer.close()
                client.close()
        return recorded(self._folder(resource), shown)

    def _looked(self, resource: Resource) -> Iterator[Notice]:
        what, shown = f"{resource.name}, API", self._shown(resource)
        try:
            found = recorded(self._folder(resource), shown)
            refuse_another(found, resource.request(self._access), shown)
            if found.complete:
                said = f"nothing is asked: {_notes(found, shown)[0]}"
            else:
                client = self._client(resource, _LOOK)
                try:
                    answer = client.get(*asked(self._access, resource, _first(resource.paging)))
                finally:
                    client.close()
                said = _described(answer, resource)
        except MigrateError as error:
            self._failed[resource.name] = error
            yield Notice("error", what, error.message, error.hint)
            return
        yield Notice("ok", what, said)
        if resource.paging.by in ("page", "offset") and not resource.total and not resource.key:
            yield Notice(
                "warning",
                f"{resource.name}, paging",
                f"pages by {resource.paging.by}, with neither `total` nor `key`: rows that are skipped or come twice, because "
                "others add or delete some meanwhile, cannot be noticed",
                "Name the API's `total`, and the items' `key`; or page by cursor or link, where the API can.",
            )

    def _client(self, resource: Resource, patience: float = PATIENCE) -> Client:
        return Client(self._access, self._pause, lambda said: self._tell(f"{resource.name}: {said}"), patience)

    def _resource_of(self, table: str) -> Resource:
        if _root(table) not in self._resources:
            raise UsageError(f"no table {table!r} in the API", hint=f"there are: {', '.join(self._resources)}")
        return self._resources[_root(table)]

    def _shown(self, resource: Resource) -> str:
        return f"{self._record}/{resource.name}"

    def _folder(self, resource: Resource) -> Path:
        return self._base / self._shown(resource)


def _resource(name: str, given: Mapping[str, Any], read_as: Mapping[str, Any]) -> Resource:
    pages = dict(given.get("pages", {"by": "none"}))
    pages.setdefault("param", pages["by"] if pages["by"] in ("page", "offset", "cursor") else "")
    return Resource(
        name,
        given["path"],
        given.get("records", ""),
        given.get("params", {}),
        Paging(**pages),
        given.get("total", ""),
        tuple(given.get("key", ())),
        read_as,
    )


def _slice(parts: Sequence[Partition], ordinal: int) -> Partition:
    """Slices of pages as one; people are told the first page."""
    file = json.loads(parts[0].token)["file"]
    token = {"file": file, "table": parts[0].table, "parts": [part.token for part in parts]}
    rows, size = sum(part.rows for part in parts), sum(part.bytes for part in parts)
    return Partition(parts[0].table, ordinal, json.dumps(token, ensure_ascii=False), rows, size)


def _joint(batches: Sequence[Batch]) -> Batch:
    """Batches one after the other as one, their rows numbered on."""
    sizes = [len(batch.ordinals) + len(batch.rejects) for batch in batches]
    begins = np.cumsum([0, *sizes[:-1]])
    parts = [numbered(batch, int(begin)) for batch, begin in zip(batches, begins, strict=True)]

    def locate(ordinals: Sequence[int]) -> Sequence[Origin]:
        within = np.searchsorted(begins, ordinals, side="right") - 1
        found: list[Origin] = []
        for at, pairs in groupby(zip(within.tolist(), ordinals, strict=True), key=itemgetter(0)):
            found += parts[at].locate([ordinal for _, ordinal in pairs])
        return found

    partial = [part.partial for part in parts if part.partial is not None]
    return Batch(
        pa.concat_batches([part.rows for part in parts]),
        np.concatenate([part.ordinals for part in parts]),
        locate,
        tuple(reject for part in parts for reject in part.rejects),
        pa.concat_batches(partial) if partial else None,
    )


def _root(table: str) -> str:
    """The table whose documents hold the rows: `orders/lines` are in `orders`."""
    return table.partition("/")[0]


# -------------------------------------------------------------------------------------------------------------- fetching


def _fetch(client: Client, access: Access, resource: Resource, writer: Writer, shown: str, tell: Tell) -> None:
    """Ask for page after page from where the recording ends, to the last one. Raises where it cannot be what it should be."""
    contents = {page.content: page.page for page in writer.pages if page.items}
    positions = {page.position: page.page for page in writer.pages}
    position = writer.pages[-1].next if writer.pages else _first(resource.paging)
    told, empty = time.monotonic(), 0
    if writer.pages and position is not None:
        tell(f"{resource.name}: goes on behind page {len(writer.pages)}, which is recorded in {shown}")
    while not writer.pages or position is not None:
        page, answer, items = _page(client, access, resource, writer, position)
        if (again := _repeated(page, contents, positions)) is not None:
            tell(f"{resource.name}, page {page.page}: {again}; asked again")
            client.rest(_AGAIN)
            page, answer, items = _page(client, access, resource, writer, position)
            if (again := _repeated(page, contents, positions)) is not None:
                raise SourceError(
                    f"{client.shown(page.url)}: {again}, also when asked again: it would go on for ever, or double rows",
                    hint="Look at `pages`: whether `param` is what the API calls it, and `next` where it says it.",
                )
        page, kept, seen = _told_apart(page, answer, items, resource, writer)
        writer.add(page, answer.body, kept, seen)
        if page.items:
            contents[page.content] = page.page
        positions[position] = page.page
        position = page.next
        empty = 0 if page.items else empty + 1  # of this fetch: one that goes on asks for as many again
        if position is not None and empty == _EMPTY:
            raise SourceError(
                f"{client.shown(page.url)}: the last {_EMPTY} pages hold no items, and each leads to another: that may never end",
                hint=f"If the API has empty pages before others, run the same command again: it goes on, for {_EMPTY} more. If "
                f"it names a next page behind its last one, remove the folder {shown}, and take the table's `pages` by page or "
                "offset, which end with an empty one.",
            )
        if time.monotonic() - told > _TELL:
            told = time.monotonic()
            of = f" of {page.total:,}" if page.total is not None else ""
            tell(f"{resource.name}: {len(writer.pages):,} pages, {writer.rows:,}{of} rows fetched")


def _page(
    client: Client, access: Access, resource: Resource, writer: Writer, position: Position
) -> tuple[Page, Answer, list[Any]]:
    """Ask for the page at a position."""
    answer = client.get(*asked(access, resource, position))
    items = items_of(answer, resource, client.shown(answer.url))
    total = total_of(answer, resource, client.shown(answer.url))
    following = position_behind(answer, resource, position, len(items), writer.distinct + len(items), total, access)
    page = Page(
        len(writer.pages) + 1,
        _now(),
        client.shown(answer.url),
        position,
        following,
        answer.status,
        len(answer.body),
        hashlib.sha256(answer.body).hexdigest(),
        _hash(items),
        len(items),
        total=total,
    )
    return page, answer, items


def _repeated(page: Page, contents: Mapping[str, int], positions: Mapping[Position, int]) -> str | None:
    """Whether a page is one that came before, or leads back to one: in words."""
    if page.items and page.content in contents:
        return f"its {page.items} items are those of page {contents[page.content]}"
    if page.next is not None and (page.next in positions or page.next == page.position):
        return f"the next page would be page {positions.get(page.next, page.page)} again"
    return None


def _told_apart(
    page: Page, answer: Answer, items: Sequence[Any], resource: Resource, writer: Writer
) -> tuple[Page, bytes | None, list[tuple[str, str]]]:
    """Which items came on an earlier page: with the same content they are repeats and no rows.

    With other content they stay: which of the two is right is not known here, and a unique key of the target or `dedupe` tells.
    """
    kept: list[int] = []
    seen: list[tuple[str, str]] = []
    changed = 0
    for at, item in enumerate(items):
        # One that holds a name twice has no key that could be told: it stays, and is rejected where it is read.
        values = [] if isinstance(item, Doubled) else [_at(item, path) for path in resource.key]
        if values and not any(value is None or value is _ABSENT for value in values):
            key, content = canonical(values), _hash(item)
            before = writer.before(key)
            if content in before:
                continue
            changed += bool(before)
            seen.append((key, content))
        kept.append(at)
    page = replace(page, repeats=len(items) - len(kept), changed=changed)
    if resource.paging.by in ("page", "offset") and items and page.next is None and page.total is not None:
        # Repeats were counted when it was looked whether all have come.
        distinct = writer.distinct + page.rows - page.changed
        page = replace(page, next=_counted_on(resource.paging, page.position, len(items), distinct, page.total))
    return page, _without(answer.body, resource.records, kept) if len(kept) < len(items) or not items else None, seen


def _without(body: bytes, path: str, kept: Sequence[int]) -> bytes:
    """The page with these items alone, each as it came."""
    raw = msgspec.Raw(body.removeprefix(b"\xef\xbb\xbf"))
    names = _names(path)
    for name in names:
        raw = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])[name]
    items = msgspec.json.decode(raw, type=list[msgspec.Raw] | None) or []
    text = b"[" + b",\n".join(bytes(items[at]) for at in kept) + b"]\n"
    for name in reversed(names):
        text = b"{" + json.dumps(name).encode() + b": " + text + b"}"
    return text


def _refuse_incomplete(resource: Resource, writer: Writer, shown: str) -> None:
    """Raise SourceError where there are not as many rows as the API says."""
    total, found = writer.pages[-1].total, writer.distinct
    if total is None or total == found:
        return
    fewer = "fewer" if found < total else "more"
    raise SourceError(
        f"{resource.name}: the API says {total:,} items, and its pages hold {found:,}: {fewer} than that",
        hint="Others added or deleted rows while the pages were read, and that moves rows past page and offset paging. "
        f"Remove the folder {shown}, and fetch again while nobody writes, sorted by a key, or by cursor or link.",
    )


# ---------------------------------------------------------------------------------------------------------------- paging


def _first(paging: Paging) -> Position:
    if paging.by == "page":
        return 1 if paging.start is None else paging.start
    return (paging.start or 0) if paging.by == "offset" else None


def asked(access: Access, resource: Resource, position: Position) -> tuple[str, list[tuple[str, str]]]:
    """URL and parameters of the page at a position."""
    paging = resource.paging
    if paging.by == "link" and position is not None:
        return _revealed(str(position), resource), []
    params = dict(resource.params)
    if paging.size_param and paging.size:
        params[paging.size_param] = str(paging.size)
    if position is not None:
        params[paging.param] = str(position)
    return _joined(access.base, resource.path), list(params.items())


def position_behind(
    answer: Answer,
    resource: Resource,
    position: Position,
    items: int,
    rows: int,
    total: int | None,
    access: Access,
) -> Position:
    """Where the next page begins; None behind the last."""
    paging = resource.paging
    if paging.by == "none":
        return None
    if paging.by in ("page", "offset"):
        return _counted_on(paging, position, items, rows, total)
    given: Any = _at(answer.document, paging.next) if paging.next else answer.links.get("next")
    if given is None or given is _ABSENT or given == "" or given is False:
        return None
    text = given.text if isinstance(given, Number) else given
    if not isinstance(text, str):
        raise SourceError(f"the next page stands at {paging.next}, and what is there is neither text nor number")
    if paging.by == "cursor":
        return text
    return _hidden(_linked(answer.url, text, access, paging), resource)


def _counted_on(paging: Paging, position: Position, items: int, rows: int, total: int | None) -> Position:
    """The next number or offset, until a page is empty, or as many rows have come as there are."""
    if not items or (total is not None and rows >= total):
        return None
    assert isinstance(position, int)
    return position + (1 if paging.by == "page" else items)


def _linked(url: str, link: str, access: Access, paging: Paging) -> str:
    """The URL that a link means. SourceError where it leads to a host that nobody named."""
    try:
        target = httpx.URL(url).join(link)
        there = origin(str(target))
    except httpx.InvalidURL as error:
        raise SourceError(f"the link to the next page is no URL: {error}") from error
    if there != origin(access.base) and target.host not in paging.hosts:
        raise SourceError(
            f"the next page is at another host: {target.scheme}://{target.host}",
            hint=f"If it is one of the API's own, name it: pages: {{by: link, hosts: [{target.host}]}}. It is sent no headers.",
        )
    return str(target)


def _hidden(url: str, resource: Resource) -> str:
    """A link to record: without the values of our own parameters that are secret."""
    return _with(url, lambda name, value: "***" if secret(name) and resource.params.get(name) == value else value)


def _masked(url: str) -> str:
    """A link without whatever in it is secret, once nobody has to follow it any more."""
    return _with(url, lambda name, value: "***" if secret(name) else value)


def _revealed(url: str, resource: Resource) -> str:
    return _with(url, lambda name, value: resource.params.get(name, value) if value == "***" else value)


def _with(url: str, change: Callable[[str, str], str]) -> str:
    """The URL with changed values in its query; as it is where nothing changes."""
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    changed = [(name, change(name, value)) for name, value in pairs]
    return url if changed == pairs else urlunsplit(parts._replace(query=urlencode(changed, safe="*")))


def _joined(base: str, path: str) -> str:
    return f"{base}/{quote(path.lstrip('/'), safe='/:@!$&,;=~*%')}" if path.strip("/") else base


# ------------------------------------------------------------------------------------------------------- within a page


def items_of(answer: Answer, resource: Resource, url: str) -> list[Any]:
    found = _at(answer.document, resource.records)
    if isinstance(found, list):
        return found
    if found is None and resource.records:  # as some write an empty list
        return []
    where = f"at {resource.records}" if resource.records else "in all"
    kind = "nothing" if found is _ABSENT else "an object" if isinstance(found, dict | Doubled) else "a single value"
    document = answer.document
    names = f"; it has: {', '.join(list(document)[:10])}" if isinstance(document, dict) else ""
    raise SourceError(
        f"{url}: the page holds {kind} where the list of items should be, {where}{names}",
        hint="Name the path of the list under `records`, as in records: data/items.",
    )


def total_of(answer: Answer, resource: Resource, url: str) -> int | None:
    if not resource.total:
        return None
    if resource.total == "header":
        found: Any = answer.headers.get("x-total-count", _ABSENT)
    else:
        found = _at(answer.document, resource.total)
    text = found.text if isinstance(found, Number) else found
    if isinstance(text, str) and re.fullmatch(r"\d{1,18}", text):
        return int(text)
    where = "in the header X-Total-Count" if resource.total == "header" else f"at {resource.total}"
    raise SourceError(f"{url}: the page says no total {where}", hint="Mend the table's `total`, or leave it out.")


def _at(value: Any, path: str) -> Any:
    """What stands at a path of names; _ABSENT where there is nothing."""
    for name in _names(path):
        if isinstance(value, Doubled):
            raise SourceError(f"an object of the page holds a name twice, and {path} is looked for in it")
        value = value.get(name, _ABSENT) if isinstance(value, dict) else _ABSENT
    return value


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name]


def _hash(value: Any) -> str:
    return hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


# ---------------------------------------------------------------------------------------------------------------- saying


def _notes(found: Recorded, shown: str) -> tuple[str, ...]:
    items = sum(page.items for page in found.pages)
    said = f"{len(found.pages):,} pages with {items:,} items, recorded until {found.complete} in {shown}"
    return (f"{said}; remove that folder to fetch again",)


def _warnings(found: Recorded, resource: Resource) -> Iterator[str]:
    repeats = {page.page: page.repeats for page in found.pages if page.repeats}
    if repeats:
        yield f"{sum(repeats.values()):,} items came again with the same content, on {_pages(repeats)}: they are no rows"
    changed = {page.page: page.changed for page in found.pages if page.changed}
    if changed:
        key = ", ".join(resource.key)
        yield f"{sum(changed.values()):,} items came again with other content, on {_pages(changed)}: rows with the same {key}"
    if len(found.totals) > 1:
        yield (
            f"while the pages were read, the API's total went from {found.totals[0]:,} to {found.totals[-1]:,}: others wrote, "
            "and where a row was deleted page and offset paging may have passed over another"
        )


def _once(told: Sequence[str], shown: str) -> Iterator[str]:
    """What is said of each page, once."""
    return iter(dict.fromkeys(line.partition(": ")[2] if line.startswith(f"{shown}/") else line for line in told))


def _pages(pages: Mapping[int, int]) -> str:
    shown = ", ".join(str(page) for page in list(pages)[:5])
    return f"page{'s' if len(pages) > 1 else ''} {shown}{' …' if len(pages) > 5 else ''}"


def _described(answer: Answer, resource: Resource) -> str:
    """What one request found."""
    items = items_of(answer, resource, resource.path)
    total = total_of(answer, resource, resource.path)
    parts = [f"HTTP {answer.status}, {len(items)} items on the first page"]
    parts += [f"{total:,} in all"] if total is not None else []
    parts.append("one page" if resource.paging.by == "none" else f"pages by {resource.paging.by}")
    return "; ".join(parts)
