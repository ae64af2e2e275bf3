"""What a person, a log or a program sees while a run goes on: bars on a terminal, plain lines or JSON lines elsewhere."""

import json
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeRemainingColumn

from migrate.core import Event

_INTERVAL = 5.0  # seconds between plain lines about one table


class Watcher(Protocol):
    """A context in which events are shown."""

    def __call__(self, event: Event) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


def watcher(log_format: str, *, quiet: bool, stream: TextIO | None = None, transient: bool = False) -> "Watcher":
    """Bars on a terminal, lines elsewhere, JSON lines where asked for; on standard error, so that output pipes.

    `transient`: bars are wiped at the end.
    """
    stream = stream or sys.stderr
    if log_format == "json":
        return JsonLines(stream)
    if stream.isatty() and not quiet:
        return Bars(Console(file=stream), transient=transient)
    return Lines(stream, quiet=quiet)


def rate(rows: int, seconds: float) -> str:
    per_second = rows / seconds if seconds > 0 else 0.0
    return f"{per_second / 1000:,.0f}k rows/s" if per_second >= 10_000 else f"{per_second:,.0f} rows/s"


class Bars:
    """A bar a table: rows, rate, time left."""

    def __init__(self, console: Console, *, transient: bool = False) -> None:
        self._lock = threading.Lock()
        self._tasks: dict[str, TaskID] = {}
        self._began: dict[str, tuple[float, int]] = {}
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[rows]}", markup=False),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=transient,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        with self._lock:
            if event.kind in ("table", "chunk") and event.chunks:
                self._advance(event)
            if event.kind == "electing":
                self._pass(f"{event.table}, looking for duplicates", event.chunks_done, event.chunks)
            if event.kind == "verifying":
                self._pass(f"{event.table}, {event.state}", event.rows_done, event.rows, f"{event.rows_done:,} rows")
            if event.kind == "finalized" and event.table in self._tasks:
                self._progress.update(self._tasks[event.table], completed=1, total=1)
            if event.kind == "governed":
                # A bar that stands still says why.
                for task in self._progress.tasks:
                    if not task.finished:
                        self._progress.update(task.id, rate=event.state)
            if event.message:
                self._progress.console.print(
                    f"{event.table}: {event.message}" if event.table else event.message, markup=False
                )

    def _pass(self, name: str, done: int, total: int, rows: str = "") -> None:
        """A pass over a table: its bar goes when it is at its end."""
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total, rows="", rate="")
        self._progress.update(self._tasks[name], completed=done, rows=rows, visible=done < total)

    def _advance(self, event: Event) -> None:
        if event.table not in self._tasks:
            self._tasks[event.table] = self._progress.add_task(event.table, total=event.chunks, rows="", rate="")
            self._began[event.table] = (time.monotonic(), event.rows_done)
        began, before = self._began[event.table]
        rejected = f", {event.entry.rejected} rejected" if event.entry and event.entry.rejected else ""
        self._progress.update(
            self._tasks[event.table],
            completed=event.chunks_done,
            rows=f"{event.rows_done:,} rows{rejected}",
            rate=rate(event.rows_done - before, time.monotonic() - began),
        )


@dataclass(slots=True)
class Lines:
    """Plain lines, at most one in five seconds about one table, and always the last."""

    stream: TextIO
    quiet: bool = False
    _said: dict[str, float] = field(default_factory=dict)
    _began: dict[str, tuple[float, int]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.flush()

    def __call__(self, event: Event) -> None:
        if self.quiet and event.kind != "governed":  # a run that stands still says why in any case
            return
        now = time.monotonic()
        with self._lock:
            if event.kind in ("chunk", "electing", "verifying"):
                last = event.chunks_done == event.chunks and event.kind == "chunk"
                first = 0.0 if event.kind == "chunk" else now
                if not last and now - self._said.setdefault(event.table, first) < _INTERVAL:
                    return
                self._said[event.table] = now
            if event.kind == "electing":
                text = f"{event.table}: looking for duplicates, {event.chunks_done}/{event.chunks} chunks"
            elif event.kind == "verifying":
                text = f"{event.table}: {event.state}, {event.rows_done:,} of {event.rows:,} rows"
            elif event.kind == "chunk":
                began, before = self._began.setdefault(event.table, (now, 0))
                text = (
                    f"{event.table}: {event.chunks_done}/{event.chunks} chunks, {event.rows_done:,} rows, "
                    f"{rate(event.rows_done - before, now - began)}"
                )
            else:
                if event.kind == "table":
                    self._began[event.table] = (now, event.rows_done)
                text = ": ".join(part for part in (event.table, event.message or event.kind) if part)
            self.stream.write(text + "\n")
            self.stream.flush()


@dataclass(slots=True)
class JsonLines:
    """One JSON object a line and event, for programs."""

    stream: TextIO
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.flush()

    def __call__(self, event: Event) -> None:
        line: dict[str, object] = {"at": datetime.now(UTC).isoformat(), "event": event.kind, "table": event.table}
        if event.message:
            line["message"] = event.message
        if event.state or event.kind == "governed":
            line["state"] = event.state
        if event.kind == "verifying":
            line |= {"rows": event.rows, "rows_done": event.rows_done}
        if event.chunks:
            line |= {"chunks": event.chunks, "chunks_done": event.chunks_done, "rows_done": event.rows_done}
        if event.entry is not None:
            e = event.entry
            line |= {"chunk": e.chunk.ordinal, "read": e.read, "loaded": e.loaded, "merged": e.merged}
            line |= {"filtered": e.filtered, "rejected": e.rejected, "attempts": event.attempts}
        with self._lock:
            self.stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            self.stream.flush()
