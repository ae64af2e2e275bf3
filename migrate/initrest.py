"""`migrate init` for REST APIs: what URLs and headers say of a source, asked for its pages, and written with no secret in it."""

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from httpx import InvalidURL

from connectors.jsonfiles import open_files
from connectors.restapi import reading
from connectors.restclient import Access, Bounds, Client, origin
from connectors.restprobe import MOST, PATIENCE, probe
from connectors.secretnames import secret
from mappings.scaffold import unique
from mappings.texts import api_url, header
from migrate.core import Source
from migrate.errors import RetryableError, SourceError, UsageError, redact
from migrate.project import REFERENCE, resolved_texts, secrets_of_api

_SAYS_NOTHING = {"www", "api", "rest"}  # labels of a host


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for, as the project file has it: `tables` have their path and params.

    `kept` are the secrets that were given as they are, by the variables that take their place.
    """

    name: str
    rest: str
    headers: Mapping[str, str]
    tables: Mapping[str, Mapping[str, Any]]
    kept: Mapping[str, str]

    @property
    def options(self) -> dict[str, Any]:
        return {"rest": self.rest, **({"headers": self.headers} if self.headers else {}), "tables": self.tables}


@dataclass(frozen=True, slots=True)
class Found:
    """An API as a source. `options` are the keys of the project file's source, but for `fields`.

    `pages` are those that were seen, as the files of a source for each table; `notes` are for people, and `exported` are
    variables that they have to set.
    """

    options: Mapping[str, Any]
    pages: Sequence[Source]
    notes: Sequence[str]
    exported: Sequence[str]


def is_api(given: str) -> bool:
    return given.lower().startswith(("http://", "https://"))


def requests(urls: Sequence[str], headers: Sequence[str]) -> list[Request]:
    """A source for each scheme, host and port. Raises UsageError, which repeats no secret."""
    parts = [_parts(url) for url in urls]
    groups: dict[tuple[str, str, int | None], list[SplitResult]] = {}
    for each in parts:
        groups.setdefault(origin(f"{each.scheme}://{each.netloc}"), []).append(each)
    if headers and len(groups) != 1:
        hint = "Give --header with the URLs of one API: what authorises there is sent to no other."
        raise UsageError(f"There are {len(groups)} APIs, and --header is for one.", hint=hint)
    kept: dict[str, str] = {}
    return [_request(group, _headers(headers), kept) for group in groups.values()]


def secrets(asked: Sequence[Request], environ: Mapping[str, str]) -> set[str]:
    """What no message may have."""
    found = set[str]()
    for each in asked:
        found |= secrets_of_api({**each.options, "headers": _secret(each.headers)}, {**environ, **each.kept})
    return found


def look(asked: Request, environ: Mapping[str, str], folder: Path, patience: float = PATIENCE) -> Found:
    """Ask an API for the first pages of its tables. They are kept in a folder for as long as it is there.

    `patience`: seconds that it has for each.

    Raises UsageError, RetryableError and SourceError as `probe` does.
    """
    missing = [each for each in _references(asked.options) if each not in {**environ, **asked.kept}]
    if missing:
        message = f"The environment variable {missing[0]} is not set, and the API is asked with it."
        raise UsageError(message, hint=f"export {missing[0]}=… and run the command again.")
    options = resolved_texts(asked.options, {**environ, **asked.kept})
    wrong = [
        each for each, value in options.get("headers", {}).items() if not (value.isascii() and value.isprintable())
    ]
    if wrong:
        raise UsageError(f"--header {wrong[0]}: its value is no header once resolved.", hint="Use plain ASCII text.")
    access = Access(
        options["rest"],
        options.get("headers", {}),
        mask=partial(redact, secrets=secrets([asked], environ)),
    )
    tables, pages, notes = dict[str, Any](), list[Source](), list[str]()
    with closing(Client(access, time.sleep, lambda _: None, patience, Bounds(patience, patience, MOST))) as client:
        for table, given in options["tables"].items():
            try:
                found = probe(client, access, table, given["path"], given["params"])
            except RetryableError as error:
                hint = "Look at the URL, and whether the API is there; then run the same command again."
                raise RetryableError(error.message, hint=hint) from error
            except SourceError as error:
                if access.headers or not re.search("HTTP 40[13]", error.message):
                    raise
                hint = "Say who asks: --header 'Authorization: Bearer ${env:API_TOKEN}', or what the API's documentation says."
                raise SourceError(error.message, hint=hint) from error
            params = {each: asked.tables[table]["params"][each] for each in found.table.get("params", {})}
            tables[table] = {**found.table, **({"params": params} if params else {})}
            pages.append(_files(table, found.table, found.bodies, folder))
            notes += [f"{table}: {note}" for note in (*found.notes, _seen(found.items, len(found.bodies)))]
    exported = [each for each in _references(asked.options) if each in asked.kept]
    return Found({**asked.options, "tables": tables}, pages, notes, exported)


def _seen(items: int, pages: int) -> str:
    if not items:
        return "fields: none, for there is no item; all that comes goes to _rest"
    first = "the first page" if pages == 1 else f"the first {pages} pages"
    return (
        f"fields: found in {items} items of {first}; others go to _rest, and a value that does not fit rejects its row"
    )


def _files(table: str, found: Mapping[str, Any], bodies: Sequence[bytes], folder: Path) -> Source:
    """The pages that were seen, read as a run will read them."""
    place = folder / table
    place.mkdir(parents=True)
    for number, body in enumerate(bodies or [b"[]"]):
        (place / f"{number}.json").write_bytes(body)
    names = tuple(f"{table}/{path.name}" for path in sorted(place.iterdir()))
    read_as = reading({"tables": {table: found if bodies else {}}}, table)
    return open_files({table: names}, {**read_as, "form": "array"}, folder)


# ------------------------------------------------------------------------------------------------------ URLs and headers


def _parts(url: str) -> SplitResult:
    if "${" in url.partition("?")[0]:
        hint = "References to the environment may stand in its parameters, and in --header."
        raise UsageError("An API's URL has a reference in its host or path.", hint=hint)
    try:
        parts = urlsplit(url)
        usable = parts.hostname and (parts.port is None or parts.port > 0) and url.isascii() and url.isprintable()
    except ValueError:
        usable = None
    if not usable or " " in url:
        raise UsageError(
            "An API's URL is none that can be asked.", hint="Write https://host/path?name=value, in ASCII."
        )
    try:
        origin(f"{parts.scheme}://{parts.netloc}")
    except InvalidURL as error:
        raise UsageError(
            f"An API's URL has the host {parts.hostname}, which is none.", hint="Look at its name."
        ) from error
    if "@" in parts.netloc:
        hint = (
            "Send them as a header: --header 'Authorization: Basic ${env:API_LOGIN}', which is user:password in Base64."
        )
        raise UsageError(f"The URL of {parts.hostname} holds a user.", hint=hint)
    return parts


def _headers(given: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in given:
        name, colon, value = (part.strip() for part in each.partition(":"))
        if not colon or not value or header(name):
            example = "--header 'Authorization: Bearer ${env:API_TOKEN}'"
            raise UsageError("--header takes a name, a colon and a value.", hint=f"As in {example}.")
        if name.lower() in map(str.lower, found):
            raise UsageError(f"--header {name} is given twice.", hint="Give it once.")
        found[name] = value
    return found


def _request(group: Sequence[SplitResult], headers: Mapping[str, str], kept: dict[str, str]) -> Request:
    folders = [each.path.strip("/").split("/")[:-1] for each in group]
    common = [names[0] for names in takewhile(lambda names: len(set(names)) == 1, zip(*folders, strict=False))]
    rest = "/".join([f"{group[0].scheme}://{group[0].netloc}", *common])
    if wrong := api_url(rest):
        raise UsageError(f"The URL of {group[0].hostname}: what its paths begin with {wrong}.")
    name = _source_name(group[0])
    written = {each: _header(name, each, value, kept) for each, value in headers.items()}
    tables = {}
    for table, each in zip(unique(map(_table_name, group)), group, strict=True):
        params = _params(each)
        params = {key: _hidden(name, key, value, kept) if secret(key) else value for key, value in params.items()}
        tables[table] = {"path": each.path.removeprefix("/" + "/".join(common)).lstrip("/"), "params": params}
    return Request(name, rest, written, tables, kept)


def _source_name(url: SplitResult) -> str:
    """`api.example.com` is example."""
    labels = [label for label in (url.hostname or "").split(".") if label not in _SAYS_NOTHING]
    return labels[0] if labels and labels[0][:1].isalpha() else "api"


def _table_name(url: SplitResult) -> str:
    """The last part of the path that says something: `/v2/orders.json` and `/v2/orders/42` are orders."""
    names = [name.partition(".")[0] for name in url.path.split("/")]
    return next((name for name in reversed(names) if name[:1].isalpha()), "items")


def _params(url: SplitResult) -> dict[str, str]:
    pairs = parse_qsl(url.query, keep_blank_values=True)
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1 or not name.strip()), None)
    if twice is not None:
        message = f"The URL of {url.hostname} has the parameter {twice!r} more than once, or one without a name."
        raise UsageError(message, hint="A project file cannot ask so: see whether the API takes several values in one.")
    return dict(pairs)


def _header(source: str, name: str, value: str, kept: dict[str, str]) -> str:
    """The header as it is written: what authorises is taken from the environment, after its scheme."""
    authorises = "authorization" in name.lower()
    if REFERENCE.search(value):
        if secret(name) or authorises:
            scheme = r"[A-Za-z][\w.-]*" if authorises else "(?i:Bearer|Basic|Token)"
            _refuse_mixed(f"--header {name}", re.sub(rf"^{scheme} +", "", value))
        return value
    if not _secret({name: value}):
        return value
    scheme, blank, rest = value.partition(" ") if authorises else ("", "", value)
    return f"{scheme} {_hidden(source, name, rest, kept)}" if blank else _hidden(source, name, value, kept)


def _hidden(source: str, name: str, value: str, kept: dict[str, str]) -> str:
    """The variable in a secret's place; as it stands where it names some itself."""
    if REFERENCE.search(value) or not value:
        _refuse_mixed(f"the parameter {name}", value)
        return value
    stem = variable = re.sub(r"\W+", "_", f"{source}_{name}".upper(), flags=re.ASCII).strip("_")
    number = 1
    while kept.setdefault(variable, value) != value:
        number += 1
        variable = f"{stem}_{number}"
    return f"${{env:{variable}}}"


def _refuse_mixed(what: str, value: str) -> None:
    """Raise UsageError where there is text beside references, which would be written as it is, and may be a secret's part."""
    if re.search(r"\w", REFERENCE.sub("", value)):
        hint = "Put all of it into one variable, and write ${env:NAME} alone; a scheme may stand before it: Bearer ${env:NAME}."
        raise UsageError(f"{what} has text beside ${{env:…}}, which would stand in the project file.", hint=hint)


def _secret(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Those that authorise, or are made of variables."""
    return {
        name: value
        for name, value in headers.items()
        if secret(name) or "authorization" in name.lower() or REFERENCE.search(value)
    }


def _references(options: Any) -> list[str]:
    values = options.values() if isinstance(options, Mapping) else ()
    if isinstance(options, str):
        return REFERENCE.findall(options)
    return list(dict.fromkeys(name for each in values for name in _references(each)))
