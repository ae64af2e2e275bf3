"""How fast sources are read: a cap on rows per second, a limit to what else they have to do, a pause on request.

A worker asks before each chunk, when it holds neither a lock nor a transaction on either side.
"""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import cast

from migrate.core import Event, Loaded, OnEvent, Source

_LOOK = 1.0  # seconds between two looks at a source's load
_STEP = 0.1  # seconds that a waiting worker sleeps at once

Pause = Callable[[float], object]
"""Sleeps so many seconds; raises where a stop is asked for meanwhile."""


def _nobody(event: Event) -> None:
    """Whom nothing is told."""


@dataclass(slots=True)
class Governor:
    """One for a run, shared by its workers. `load`: so many statements of others may run at a source while it is read."""

    rows_per_second: int | None = None
    load: int | None = None
    on_event: OnEvent = _nobody
    _resumed: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _free_at: float = 0.0  # when the rows that were let in so far are within the cap
    _looked: float = 0.0
    _busy: str = ""
    _paused: bool = False
    _told: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._resumed.set()

    def hold(self) -> None:
        """Let no further chunk begin. For a signal's handler, which must not wait for a lock: a worker says it."""
        self._resumed.clear()

    def go_on(self) -> None:
        """Let chunks begin again."""
        self._resumed.set()

    def admit(self, sources: Iterable[tuple[str, Source]], rows: int, pause: Pause) -> None:
        """Wait until a chunk of about `rows` rows may be read from these sources, by their names."""
        named = tuple(sources)
        while self._held() or self._crowded(named):
            pause(_STEP)
        if self.rows_per_second is None:
            return
        with self._lock:
            start = max(time.monotonic(), self._free_at)
            self._free_at = start + rows / self.rows_per_second
        while (left := start - time.monotonic()) > 0:
            pause(min(left, _STEP))
        while self._held():
            pause(_STEP)

    def _held(self) -> bool:
        """Whether it is paused, said once when it begins and once when it ends."""
        held = not self._resumed.is_set()
        with self._lock:
            if held != self._paused:
                self._paused = held
                words = "Paused. kill -USR2 goes on; nothing is lost by Ctrl-C." if held else "Going on."
                self.on_event(Event("governed", message=words))
        return held

    def _crowded(self, sources: Iterable[tuple[str, Source]]) -> bool:
        """Whether a source has more to do than it should have; asked once a second, by whoever comes first."""
        if self.load is None:
            return False
        with self._lock:
            now = time.monotonic()
            if now - self._looked >= _LOOK:
                self._looked = now
                self._say(self._over(sources))
            return bool(self._busy)

    def _over(self, sources: Iterable[tuple[str, Source]]) -> str:
        assert self.load is not None
        for name, source in sources:
            running = cast(Loaded, source).load() if hasattr(source, "load") else None
            if running is None and name not in self._told:
                self._told.add(name)
                said = f"{name} does not say how busy it is: --max-source-load has no effect on it"
                self.on_event(Event("governed", message=said))
            if running is not None and running > self.load:
                return f"{name} runs {running} other statements, more than {self.load}: waiting"
        return ""

    def _say(self, busy: str) -> None:
        if bool(busy) != bool(self._busy):
            self.on_event(Event("governed", message=busy or "The source is quiet again: going on."))
        self._busy = busy
