"""A real HTTP server in a thread that answers as a test says, and counts what it was asked and what it sent."""

import gzip
import io
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Asked:
    """A request."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: str = ""


@dataclass(frozen=True)
class Reply:
    """An answer; with `cut`, the connection ends after so many bytes of its body. `chunked`: without a Content-Length.

    `slow`: seconds between each of its bytes, those of its head, too.
    """

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    chunked: bool = False
    slow: float = 0

    @staticmethod
    def of(document: Any, **more: Any) -> "Reply":
        return Reply(json.dumps(document).encode(), **more)


Answer = Callable[[Asked], Reply]


class Api:
    """`answer` may be changed while it runs. `asked` are all requests in their order."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self.url = ""

    def pages(self, name: str) -> list[str]:
        """What a parameter was in each request."""
        return [each.query.get(name, "") for each in self.asked]


@contextmanager
def serving(answer: Answer, tls: Path | None = None) -> Iterator[Api]:
    """`tls`: a file with a key and a certificate of 127.0.0.1."""
    api = Api(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # head and body in one piece, or the client waits for the second

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
            body = self.rfile.read(length).decode()
            asked = Asked(self.command, parts.path, query, dict(self.headers.items()), body)
            api.asked.append(asked)
            reply = api.answer(asked)
            try:
                if reply.slow:
                    self._trickle(reply)
                else:
                    self._send(reply)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # a client that was killed

        do_POST = do_GET

        def _trickle(self, reply: Reply) -> None:
            wire, self.wfile = self.wfile, io.BytesIO()
            self._send(reply)
            sent, self.wfile = self.wfile.getvalue(), wire
            for byte in sent:
                wire.write(bytes([byte]))
                wire.flush()
                time.sleep(reply.slow)

        def _send(self, reply: Reply) -> None:
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if reply.chunked:
                self.send_header("Transfer-Encoding", "chunked")
            else:
                self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            data = reply.body[: reply.cut]
            if reply.chunked:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                if reply.cut is None:
                    self.wfile.write(b"0\r\n\r\n")
            else:
                self.wfile.write(data)
            self.close_connection = reply.cut is not None

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    api.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# ------------------------------------------------------------------------------------------------------ kinds of paging


def by_page(items: Sequence[Any], size: int, *, total: bool = False) -> Answer:
    def answer(asked: Asked) -> Reply:
        at = (int(asked.query["page"]) - 1) * size
        return Reply.of({"items": items[at : at + size], **({"total": len(items)} if total else {})})

    return answer


def by_offset(items: Sequence[Any], size: int) -> Answer:
    def answer(asked: Asked) -> Reply:
        at, limit = int(asked.query["offset"]), int(asked.query.get("limit", size))
        return Reply.of(items[at : at + limit], headers={"X-Total-Count": str(len(items))})

    return answer


def by_cursor(items: Sequence[Any], size: int) -> Answer:
    def answer(asked: Asked) -> Reply:
        at = int(asked.query.get("after", "c0")[1:])
        following = f"c{at + size}" if at + size < len(items) else None
        return Reply.of({"data": {"items": items[at : at + size]}, "meta": {"next": following}})

    return answer


def by_link(api: Callable[[], str], items: Sequence[Any], size: int, *, header: bool) -> Answer:
    def answer(asked: Asked) -> Reply:
        at = int(asked.query.get("at", "0"))
        following = f"{api()}{asked.path}?at={at + size}" if at + size < len(items) else None
        if header:
            links = f'<{api()}/x>; rel="first", <{following}>; rel="next"' if following else ""
            return Reply.of(items[at : at + size], headers={"Link": links} if links else {})
        return Reply.of({"value": items[at : at + size], "@next": following})

    return answer


def first(faults: Sequence[Reply], answer: Answer, when: Callable[[Asked], bool] = lambda _: True) -> Answer:
    """These replies to the first requests that are so, then the right ones."""
    left = list(faults)

    def faulty(asked: Asked) -> Reply:
        return left.pop(0) if left and when(asked) else answer(asked)

    return faulty


def zipped(reply: Reply, **more: Any) -> Reply:
    return Reply(gzip.compress(reply.body), reply.status, {**reply.headers, "Content-Encoding": "gzip"}, **more)
