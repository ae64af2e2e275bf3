"""Notifications over real sockets and real processes: what arrives, what is tried again, what is said when it fails."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from servers import free_port

from migrate import notify
from migrate.project import Notify
from reports.model import Report

BODY = {"outcome": "ok", "exit": 0, "report": None, "migration": "acme", "text": "Köln"}


@dataclass
class Hook:
    """A webhook's server: what it was sent, and what it answers, one answer a request and the last for ever."""

    answers: list[int | None]
    got: list[tuple[dict[str, str], Any]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    server: ThreadingHTTPServer = field(init=False)

    def __post_init__(self) -> None:
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                hook.got.append((dict(self.headers), json.loads(data)))
                answer = hook.answers.pop(0) if len(hook.answers) > 1 else hook.answers[0]
                if answer is None:
                    hook.released.wait(20)
                    return
                self.send_response(answer)
                self.send_header("Content-Length", "0")
                if answer in (302, 307):
                    self.send_header("Location", f"http://127.0.0.1:{hook.server.server_port}/elsewhere")
                self.end_headers()

            do_GET = do_POST

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/hook?token=geheim"


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Hook]]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    made: list[Hook] = []

    def make(*answers: int | None) -> Hook:
        made.append(Hook(list(answers)))
        return made[-1]

    yield make
    for each in made:
        each.released.set()
        each.server.shutdown()
        each.server.server_close()


def post(url: str, **more: Any) -> str:
    return notify.post(url, {"Authorization": "Bearer t0k"}, json.dumps(BODY).encode(), **{"pauses": (0, 0), **more})


# ------------------------------------------------------------------------------------------------------------ the webhook


def test_a_webhook_gets_the_summary_as_json_with_the_headers(hook: Callable[..., Hook]) -> None:
    server = hook(204)
    assert post(server.url) == ""
    [(headers, body)] = server.got
    assert body == BODY
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert headers["Authorization"] == "Bearer t0k"
    assert headers["User-Agent"].startswith("aurora-migrate/")


def test_what_another_try_may_change_is_tried_three_times(hook: Callable[..., Hook]) -> None:
    server = hook(500, 429, 200)
    assert post(server.url) == ""
    assert len(server.got) == 3
    broken = hook(503)
    assert post(broken.url) == "it answered 503 Service Unavailable, 3 times"
    assert len(broken.got) == 3


@pytest.mark.parametrize("answer", [404, 302, 307])
def test_what_it_would_not_change_is_tried_once_and_redirects_are_not_followed(
    answer: int, hook: Callable[..., Hook]
) -> None:
    server = hook(answer)
    assert post(server.url).startswith(f"it answered {answer}")
    assert len(server.got) == 1


def test_a_server_that_hangs_or_is_not_there_ends_the_tries(hook: Callable[..., Hook]) -> None:
    server = hook(None)
    began = time.monotonic()
    assert post(server.url, seconds=0.2) == "no answer within 0.2 s, 3 times"
    assert time.monotonic() - began < 3
    assert post(f"http://127.0.0.1:{free_port()}/") == "Connection refused, 3 times"
    assert "3 times" in post("http://no-such-host.invalid/")


def test_the_pauses_between_tries_grow() -> None:
    assert list(notify.PAUSES) == sorted(notify.PAUSES)
    assert len(notify.PAUSES) == 2


# ------------------------------------------------------------------------------------------------------------ the command

TELL = """\
import json, os, sys
body = json.load(sys.stdin)
print("said on standard output")
json.dump({"body": body, "env": {k: v for k, v in os.environ.items() if k.startswith("MIGRATE_")}, "cwd": os.getcwd(),
           "arguments": sys.argv[1:]}, open("told.json", "w"))
"""


def test_a_command_gets_the_summary_on_its_input_and_in_its_environment(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tell.py").write_text(TELL)
    command = (sys.executable, "tell.py", "$HOME; rm -rf x", "*")
    who = Notify(command, None, {}, frozenset({"success"}))
    assert notify.tell(who, {**BODY, "report": "/tmp/x.html"}, tmp_path) == []
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["body"]["text"] == "Köln"
    assert told["env"] == {
        "MIGRATE_OUTCOME": "ok",
        "MIGRATE_EXIT": "0",
        "MIGRATE_REPORT": "/tmp/x.html",
        "MIGRATE_MIGRATION": "acme",
    }
    assert told["arguments"] == ["$HOME; rm -rf x", "*"], "there is no shell"
    assert Path(told["cwd"]) == tmp_path
    captured = capfd.readouterr()
    assert captured.out == "", "standard output is the report's"
    assert "said on standard output" in captured.err


def run(*command: str, seconds: float = 10, data: bytes = b"{}") -> str:
    return notify.run(command, data, {}, Path.cwd(), seconds)


def test_what_a_command_prints_is_heard_line_by_line() -> None:
    heard: list[str] = []
    script = "echo out; echo err >&2; printf 'K\\303\\266ln \\377 without an end'"
    assert notify.run(("sh", "-c", script), b"{}", {}, Path.cwd(), 10, heard.append) == ""
    assert heard == ["out", "err", "Köln � without an end"]


def test_what_a_command_leaves_running_is_not_waited_for() -> None:
    heard: list[str] = []
    began = time.monotonic()
    assert notify.run(("sh", "-c", "echo said; sleep 8 &"), b"{}", {}, Path.cwd(), 10, heard.append) == ""
    assert time.monotonic() - began < 5
    assert heard == ["said"]


def test_a_command_that_fails_says_how() -> None:
    assert run("sh", "-c", "exit 7") == "it ended with exit code 7"
    assert run("no-such-command") == "it does not start: No such file or directory"
    assert run("true", data=b"x" * (1 << 20)) == "", "a command need not read its input"


def test_a_command_that_hangs_is_killed_with_what_it_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    began = time.monotonic()
    assert "was killed" in run("sh", "-c", f"sleep 60 & echo $! > {pid}; wait", seconds=0.5)
    assert time.monotonic() - began < 5
    child = int(pid.read_text())
    for _ in range(100):
        try:
            state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":  # killed, and nobody has asked for its end
            return
        time.sleep(0.02)
    os.kill(child, 9)
    pytest.fail("the command's child lives on")


# ------------------------------------------------------------------------------------------------------------ both


def test_who_wants_failures_only_is_not_told_of_success(hook: Callable[..., Hook]) -> None:
    server = hook(200)
    for wanted, code in (("failure", 0), ("success", 3)):
        assert notify.tell(Notify((), server.url, {}, frozenset({wanted})), {**BODY, "exit": code}, Path.cwd()) == []
    assert server.got == []
    notify.tell(Notify((), server.url, {}, frozenset({"failure"})), {**BODY, "exit": 3}, Path.cwd())
    assert len(server.got) == 1


def test_a_failed_command_does_not_keep_the_webhook_from_being_told(hook: Callable[..., Hook]) -> None:
    server = hook(404)
    who = Notify(("false",), server.url, {}, frozenset({"success"}))
    first, second = notify.tell(who, BODY, Path.cwd())
    assert first == "The notification command false failed: it ended with exit code 1."
    assert second == "The webhook at 127.0.0.1 was not told: it answered 404 Not Found."
    assert "geheim" not in second


def test_the_summary_of_a_run_whose_ledger_cannot_be_read() -> None:
    body = notify.summary("acme", None, "failed", 75, ("cannot connect", "Is it up?"), None)
    assert body["text"] == "acme: The ledger could not be read. cannot connect"
    assert (body["tables"], body["next"]) == ([], None)
    nothing = notify.summary("acme", Report("acme", (), (), (), ("a",), "migrate run"), "ok", 0, ("", ""), None)
    assert (nothing["error"], nothing["not_started"]) == (None, ["a"])
