"""Tells those whom the project file names how a run ended. What fails here comes back as a sentence and changes nothing."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPException, responses
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from migrate.project import Notify
from reports.model import FATES, Report

FORMAT = 1
"""The version of the summary."""

COMMAND_SECONDS = 60.0
WEBHOOK_SECONDS = 10.0
PAUSES = (1.0, 4.0)
"""Seconds between the tries of a webhook, which are one more."""

_LONGEST = 1 << 16  # bytes of a line that a command prints, in one piece

_AGAIN = (408, 429)  # besides 5xx: answers that another try may change


def summary(
    migration: str, report: Report | None, outcome: str, exit_code: int, said: tuple[str, str], page: Path | None
) -> dict[str, Any]:
    """What is told about a run: counts and sentences, no row's values. `said` is the error and its hint, or ("", "").

    `report` is None where the ledger could not be read. `text` is what chat webhooks show.
    """
    error, hint = said
    sentence = report.sentence if report else "The ledger could not be read."
    tables = report.tables if report else ()
    return {
        "format": FORMAT,
        "text": f"{migration}: {sentence} {error}".rstrip(),
        "migration": migration,
        "outcome": outcome,
        "exit": exit_code,
        "sentence": sentence,
        "error": {"message": error, "hint": hint} if error else None,
        "dry_run": report.dry_run if report else False,
        "tables": [
            {"name": t.name, **{fate: getattr(t, fate) for fate in ("read", *FATES)}, "complete": t.complete}
            for t in tables
        ],
        "not_started": list(report.not_started) if report else [],
        "next": report.next_command if report else None,
        "report": None if page is None else str(page),
    }


def tell(
    notify: Notify, body: Mapping[str, Any], base: Path, heard: Callable[[str], object] | None = None
) -> list[str]:
    """Run the command, post to the webhook; a sentence for each that failed, in which secrets are not yet masked.

    `heard` gets each line that the command prints; without it they go to our standard error.
    """
    wanted = "success" if body["exit"] == 0 else "failure"
    if wanted not in notify.on:
        return []
    data = json.dumps(body, ensure_ascii=False).encode("utf-8", "backslashreplace")
    failed = []
    if notify.command and (problem := run(notify.command, data, _environment(body), base, heard=heard)):
        failed.append(f"The notification command {notify.command[0]} failed: {problem}.")
    if notify.webhook and (problem := post(notify.webhook, notify.headers, data)):
        failed.append(f"The webhook at {urlsplit(notify.webhook).hostname} was not told: {problem}.")
    return failed


def _environment(body: Mapping[str, Any]) -> dict[str, str]:
    return {
        "MIGRATE_OUTCOME": body["outcome"],
        "MIGRATE_EXIT": str(body["exit"]),
        "MIGRATE_REPORT": body["report"] or "",
        "MIGRATE_MIGRATION": body["migration"],
    }


def run(
    command: Sequence[str],
    data: bytes,
    environment: Mapping[str, str],
    base: Path,
    seconds: float = COMMAND_SECONDS,
    heard: Callable[[str], object] | None = None,
) -> str:
    """Run a command in a folder with `data` on its standard input; what was wrong with that, or ""."""
    with _printing(heard) as out:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                cwd=base,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        except OSError as error:
            return f"it does not start: {error.strerror or error}"
        with process:
            try:
                process.communicate(data, seconds)
            except subprocess.TimeoutExpired:
                _kill(process)
                return f"it did not end within {seconds:g} s and was killed"
            except BaseException:
                _kill(process)
                raise
    return f"it ended with exit code {process.returncode}" if process.returncode else ""


@contextmanager
def _printing(heard: Callable[[str], object] | None) -> Iterator[int]:
    """Where a command prints to: our standard error, for standard output is the report's; or a pipe that is listened to."""
    if heard is None:
        yield 2
        return
    read, write = os.pipe()
    listener = threading.Thread(target=_listen, args=(read, heard), daemon=True)
    listener.start()
    try:
        yield write
    finally:
        os.close(write)
        listener.join(1.0)  # for no longer: what the command has left running may hold the pipe


def _listen(read: int, heard: Callable[[str], object]) -> None:
    with os.fdopen(read, "rb") as pipe:
        while line := pipe.readline(_LONGEST):
            heard(line.decode("utf-8", "replace").rstrip("\r\n"))


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End it with all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class _NoRedirect(HTTPRedirectHandler):
    """A redirect would send the headers' secrets to another place, and a POST on as a GET."""

    def redirect_request(self, *_: Any) -> None:
        return None


def post(
    url: str,
    headers: Mapping[str, str],
    data: bytes,
    seconds: float = WEBHOOK_SECONDS,
    pauses: Sequence[float] = PAUSES,
) -> str:
    """POST JSON, trying again where that may help; what was wrong at last, or ""."""
    agent = f"aurora-migrate/{installed_version('aurora-migrate')}"
    sent = {"Content-Type": "application/json; charset=utf-8", "User-Agent": agent, **headers}
    opener = build_opener(_NoRedirect)
    tries = 0
    for pause in (*pauses, None):
        tries += 1
        try:
            with opener.open(Request(url, data, sent, method="POST"), timeout=seconds):
                return ""
        except HTTPError as error:
            error.close()
            problem = f"it answered {error.code} {responses.get(error.code, '')}".rstrip()
            if error.code < 500 and error.code not in _AGAIN:
                break
        except URLError as error:
            problem = _reason(error.reason, seconds)
        except (OSError, HTTPException) as error:
            problem = _reason(error, seconds)
        if pause is not None:
            time.sleep(pause)
    return problem + (f", {tries} times" if tries > 1 else "")


def _reason(error: object, seconds: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {seconds:g} s"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return str(error) if isinstance(error, str) else type(error).__name__
