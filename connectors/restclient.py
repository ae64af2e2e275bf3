"""One GET of an API, answered with JSON in the end or refused with why: retries, pace, tokens, redirects; no secret is told."""

import json
import os
import random
import re
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Event, Timer
from typing import Any, NoReturn
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import httpx

from connectors.secretnames import secret
from migrate.errors import RetryableError, SourceError

PATIENCE = 300.0
"""Seconds that one request is tried for, pauses counted, before it is given up."""

_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5
_LONGEST_PAUSE = 30.0
_CONNECT = 20.0
_AHEAD = 30.0  # seconds before its end that a token is renewed
_TEXT = 200  # characters of an answer that are repeated
_TRIED = 3  # times that an answer is asked for that is whole and no JSON

Mask = Callable[[str], str]
Pause = Callable[[float], object]
Params = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Number:
    """A number of a JSON text, as it is spelled."""

    text: str


@dataclass(frozen=True, slots=True)
class Doubled:
    """An object of a JSON text that holds a name twice."""

    pairs: tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` is what came, decompressed; `document` what it says; `links` those of its Link header by their `rel`."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    document: Any = field(repr=False)
    links: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Access:
    """How an API is reached. `oauth`: token_url, client_id, client_secret and perhaps scope. `mask` hides what is secret."""

    base: str
    headers: Params = field(default_factory=dict, repr=False)
    oauth: Params | None = field(default=None, repr=False)
    per_second: float | None = None
    mask: Mask = str


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one attempt may take: seconds without a byte, seconds and bytes in all (decompressed)."""

    silence: float = 60.0
    seconds: float | None = None
    bytes: int | None = None


class Client:
    """Asks an API, one request at a time. `pause` sleeps and raises where a stop is asked for; `tell` hears of retries."""

    def __init__(
        self,
        access: Access,
        pause: Pause,
        tell: Callable[[str], None],
        patience: float,
        bounds: Bounds = Bounds(),
    ) -> None:
        self._access = access
        self._pause = pause
        self._tell = tell
        self._patience = patience
        self._bounds = bounds
        self._sockets: list[socket.socket] = []
        self._client = httpx.Client(
            timeout=httpx.Timeout(bounds.silence, connect=min(bounds.silence, _CONNECT)),
            follow_redirects=False,
            verify=_certificates(),
        )
        self._token: str | None = None
        self._token_ends = 0.0
        self._due = 0.0

    def close(self) -> None:
        self._client.close()

    def get(self, url: str, params: Sequence[tuple[str, str]] = ()) -> Answer:
        """Ask until there is an answer that is JSON.

        Raises RetryableError where none comes for so long as it is worth waiting, SourceError for what no waiting mends.
        """
        spent, attempt, refused, unread = 0.0, 0, False, 0
        whole = f"{url}{'&' if '?' in url else '?'}{urlencode(list(params))}" if params else url
        while True:
            wait, asked_at = None, time.monotonic()
            try:
                response = self._followed(whole)
            except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
                raise SourceError(f"{self.shown(whole)} is no URL that can be asked: {error}") from error
            except TimeoutError as error:
                why = str(error)
            except httpx.HTTPError as error:
                why = self._explained(error, whole)
            else:
                if response.status_code == 200:
                    try:
                        return _answer(response, whole)
                    except EOFError as error:
                        why = f"the answer breaks off: {error}"
                    except ValueError as error:
                        unread += 1
                        why = f"the answer is no JSON: {error}"
                        if unread == _TRIED:
                            self._refuse(response, whole, why)
                elif response.status_code == 401 and self._access.oauth is not None and not refused:
                    refused, self._token = True, None
                    continue
                elif response.status_code in _TRANSIENT:
                    why = f"HTTP {response.status_code} {response.reason_phrase}".strip()
                    wait = _retry_after(response.headers.get("retry-after", ""))
                else:
                    self._refuse(response, whole)
            attempt += 1
            seconds = self._wait(attempt, wait)
            spent += time.monotonic() - asked_at
            if spent + seconds > self._patience:
                asked = f"; it asks to wait {wait:.0f} s" if wait is not None and wait > self._patience else ""
                times = "" if attempt == 1 else f", at each of {attempt} attempts in {spent:.0f} s"
                raise RetryableError(
                    f"{self.shown(whole)}: {why}{times}{asked}",
                    hint="Run the same command again: it goes on where it stopped.",
                )
            self._tell(f"{self.shown(whole)}: {why}; asked again in {seconds:.1f} s")
            self._pause(seconds)
            spent += seconds

    def rest(self, seconds: float) -> None:
        """Wait; raises where a stop is asked for."""
        self._pause(seconds)

    def shown(self, url: str) -> str:
        """The URL for people: what is secret in it is ***."""
        parts = urlsplit(url)
        pairs = [(name, "***" if secret(name) else value) for name, value in parse_qsl(parts.query, True)]
        query = "&".join(f"{quote(name)}={quote(value, safe='*')}" for name, value in pairs)
        netloc = parts.netloc.rpartition("@")[2]
        return self._masked(urlunsplit((parts.scheme, netloc, parts.path, query, "")))

    # ------------------------------------------------------------------------------------------------------------------

    def _wait(self, attempt: int, asked: float | None) -> float:
        """Twice as long each time, and never the same for two clients; no shorter than the API asks for."""
        pause = min(_LONGEST_PAUSE, 0.5 * 2.0 ** (attempt - 1))
        return max(pause * random.uniform(0.5, 1.0), asked or 0.0)

    def _masked(self, text: str) -> str:
        return self._access.mask(text.replace(self._token, "***") if self._token else text)

    def _followed(self, url: str) -> httpx.Response:
        """The answer at the end of redirects. What authorises goes to the API's own host alone."""
        for _ in range(_MOST_REDIRECTS + 1):
            response = self._once("GET", url, self._headers(url))
            location = response.headers.get("location")
            if response.status_code not in _REDIRECTS or not location:
                return response
            url = str(httpx.URL(url).join(location))
        raise SourceError(
            f"{self.shown(url)}: more than {_MOST_REDIRECTS} redirects", hint="Give the URL that they lead to."
        )

    def _headers(self, url: str) -> dict[str, str]:
        plain = {"Accept": "application/json", "Accept-Encoding": "gzip, deflate", "User-Agent": "aurora-migrate"}
        if origin(url) != origin(self._access.base):
            return plain
        headers = plain | dict(self._access.headers)
        if self._access.oauth is not None:
            headers["Authorization"] = f"Bearer {self._authorised(self._access.oauth)}"
        return headers

    def _once(self, method: str, url: str, headers: Mapping[str, str], **more: Any) -> httpx.Response:
        self._pause(max(0.0, self._due - time.monotonic()))
        if self._access.per_second:
            self._due = time.monotonic() + 1 / self._access.per_second
        self._client.cookies.clear()  # a session would make pages depend on those before
        if self._bounds.seconds is None:
            return self._whole(method, url, headers, more)
        late = Event()  # no timeout of a socket ends an API that is slow and never silent
        timer = Timer(self._bounds.seconds, self._cut, [late])
        timer.daemon = True
        timer.start()
        try:
            response = self._whole(method, url, headers, {**more, "extensions": {"trace": self._connected}})
        except httpx.HTTPError:
            if not late.is_set():
                raise
        finally:
            timer.cancel()
        if late.is_set():
            raise TimeoutError(f"no whole answer in {self._bounds.seconds:g} s")
        return response

    def _connected(self, event: str, info: Mapping[str, Any]) -> None:
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._sockets.append(info["return_value"].get_extra_info("socket"))

    def _cut(self, late: Event) -> None:
        late.set()
        for each in self._sockets:
            with suppress(OSError):  # it is closed already
                each.shutdown(socket.SHUT_RDWR)
        self._sockets.clear()

    def _whole(self, method: str, url: str, headers: Mapping[str, str], more: Mapping[str, Any]) -> httpx.Response:
        """The answer with its body, decompressed. Raises SourceError where that is larger than it may be."""
        most = self._bounds.bytes
        try:
            with self._client.stream(method, url, headers=headers, **more) as response:
                body = bytearray()
                for piece in response.iter_bytes():
                    body += piece
                    if most is not None and len(body) > most:
                        raise SourceError(
                            f"{self.shown(url)}: the answer is larger than {most:,} bytes",
                            hint="Ask for fewer items a page, by what the API calls that in the URL, as in ?limit=100.",
                        )
        except UnicodeError as error:  # of the host, or of that where a redirect leads
            raise httpx.InvalidURL(f"its host is no name of one: {error}") from error
        plain = [(name, value) for name, value in response.headers.multi_items() if name != "content-encoding"]
        status, extensions = response.status_code, response.extensions
        return httpx.Response(
            status, headers=plain, content=bytes(body), request=response.request, extensions=extensions
        )

    def _authorised(self, oauth: Params) -> str:
        """A token that is good for a while, by OAuth's client credentials (RFC 6749, 4.4)."""
        if self._token is not None and time.monotonic() < self._token_ends:
            return self._token
        self._token = None
        form = {"grant_type": "client_credentials"} | ({"scope": oauth["scope"]} if oauth.get("scope") else {})
        pair = {name: oauth[name] for name in ("client_id", "client_secret")}
        login = httpx.BasicAuth(quote(pair["client_id"], safe=""), quote(pair["client_secret"], safe=""))
        url = oauth["token_url"]
        response = self._once("POST", url, {"Accept": "application/json"}, data=form, auth=login)
        if response.status_code in (400, 401):  # servers have to take the first form, and some know this one only
            response = self._once("POST", url, {"Accept": "application/json"}, data=form | pair)
        if response.status_code in _TRANSIENT:
            raise httpx.ConnectError(f"the token's server says HTTP {response.status_code}")
        try:
            answer = response.json() if response.is_success else {}
            token, lasts = str(answer["access_token"]), float(answer.get("expires_in") or 3600)
        except (ValueError, TypeError, KeyError, AttributeError):
            hint = "Look at oauth: token_url, client_id, client_secret and scope."
            self._refuse(response, url, "it gives no access_token" if response.is_success else "", hint)
        self._token, self._token_ends = token, time.monotonic() + max(lasts - _AHEAD, lasts / 2)
        return token

    def _explained(self, error: httpx.HTTPError, url: str) -> str:
        """What went wrong on the way, for people. Raises SourceError for what stays wrong."""
        said = self._masked(str(error)) or type(error).__name__
        if "CERTIFICATE_VERIFY_FAILED" in said:
            raise SourceError(
                f"{self.shown(url)}: its certificate is not trusted: {said}",
                hint="Name the file with your organisation's certificates in SSL_CERT_FILE or REQUESTS_CA_BUNDLE.",
            ) from error
        if isinstance(error, httpx.TimeoutException):
            return "no answer in time"
        if isinstance(error, httpx.DecodingError | httpx.RemoteProtocolError | httpx.ReadError):
            return f"the answer breaks off: {said}"
        return f"cannot be reached: {said}"

    def _refuse(self, response: httpx.Response, url: str, why: str = "", hint: str = "") -> NoReturn:
        status = f"HTTP {response.status_code} {response.reason_phrase}".strip()
        said = " ".join(self._masked(_message(response)).split())[:_TEXT]
        if response.status_code in (401, 403):
            hint = hint or "Look at the token: the headers or oauth of the source, and what it may read."
        elif response.status_code == 404:
            hint = hint or (
                "Look at the source's URL and the table's path. An API that answers so behind its last page needs `total`, "
                "or pages by link."
            )
        raise SourceError(": ".join(part for part in (self.shown(url), status, why, said) if part), hint=hint)


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port: what answers to a URL. Raises httpx.InvalidURL where there can be no such host."""
    parts = httpx.URL(url)
    try:
        parts.raw_host.decode("ascii").encode("idna")  # as the resolver does
        host = parts.host
    except UnicodeError as error:
        raise httpx.InvalidURL(f"its host is no name of one: {error}") from error
    return parts.scheme, host, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def parsed(body: bytes) -> Any:
    """A JSON text, with its numbers as they are spelled.

    Raises EOFError where it ends before its end, ValueError where it is none.
    """
    try:
        text = body.decode("utf-8-sig")
        return _DECODER.decode(text)
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            raise EOFError(f"at byte {len(body)}, within a character") from error
        raise ValueError(f"byte {error.start} is not UTF-8") from error
    except json.JSONDecodeError as error:
        if error.msg.startswith("Unterminated string") or len(error.doc) - error.pos < _WORD:
            raise EOFError(f"at byte {len(body)}") from error
        raise ValueError(f"{error.msg} at character {error.pos}") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def canonical(value: Any) -> str:
    """A value that was parsed as one text: that of any other with the same content."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_plain)


_WORD = 8  # characters: a literal or an escape that is cut off is shorter


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _object(pairs: list[tuple[str, Any]]) -> Any:
    found = dict(pairs)
    return found if len(found) == len(pairs) else Doubled(tuple(pairs))


def _plain(value: Any) -> Any:
    return ["number", value.text] if isinstance(value, Number) else ["object", *value.pairs]


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=Number, parse_int=Number, parse_constant=_constant, strict=True
)


def _answer(response: httpx.Response, url: str) -> Answer:
    body = response.content
    links = {rel: link["url"] for rel, link in response.links.items() if rel and "url" in link}
    final = str(response.request.url) or url
    return Answer(final, response.status_code, response.headers, body, parsed(body), links)


def _retry_after(given: str) -> float | None:
    """Seconds, of seconds or of a date; None where nothing is asked for."""
    if re.fullmatch(r"\s*\d{1,9}\s*", given):
        return float(given)
    try:
        at = parsedate_to_datetime(given)
    except ValueError:
        return None
    return max(0.0, ((at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())


def _message(response: httpx.Response) -> str:
    """What an answer says of itself, as far as it can be told."""
    try:
        document = response.json()
    except ValueError:
        return re.sub(r"<[^>]*>", " ", response.text[: 4 * _TEXT])
    for name in ("error_description", "message", "detail", "error", "title"):
        found = document.get(name) if isinstance(document, dict) else None
        if isinstance(found, dict):
            found = found.get("message")
        if isinstance(found, str):
            return found
    return response.text[: 4 * _TEXT]


def _certificates() -> ssl.SSLContext | bool:
    """httpx looks at SSL_CERT_FILE and SSL_CERT_DIR by itself."""
    bundle = os.environ.get("REQUESTS_CA_BUNDLE")
    if not bundle or os.environ.get("SSL_CERT_FILE"):
        return True
    try:
        folder = os.path.isdir(bundle)
        return ssl.create_default_context(capath=bundle if folder else None, cafile=None if folder else bundle)
    except OSError as error:
        raise SourceError(f"REQUESTS_CA_BUNDLE: {bundle}: {error.strerror or error}") from error
