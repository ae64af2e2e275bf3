"""How hard sources are worked: a cap on rows per second, a limit to what else they have to do, a pause on request.

Whoever wants to read a slice asks first. A worker that reads within a transaction at the target takes its `turn` before it
begins that, so that nobody waits who holds a lock; for all others the source itself asks (`Governed`). What is charged
against a cap is what was really read, for the sizes of slices are estimates.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

from mappings.spec import Limits
from migrate.core import Attended, Batch, Event, Loaded, OnEvent, Partition, Source
from migrate.errors import RetryableError, SourceError, Stopped

_LOOK = 1.0  # seconds between two looks at a source's load
_QUIET = 3  # looks in a row that find a source quiet, before it is read again
_STEP = 0.1  # seconds that a waiting worker sleeps at once
_CREDIT = 0.5  # seconds of the cap that may be caught up with, for sleeps are never exact
_WORTH = 10  # seconds of the cap that a slice may be worth: a larger one would be read in one go, and then long nothing

_Named = Collection[tuple[str, Source]]


class _Cap:
    """Rows per second; guarded by the governor's lock. `due` is when what was read so far is within the cap."""

    def __init__(self, rows_per_second: int) -> None:
        self.rows_per_second = rows_per_second
        self.due = 0.0

    def charge(self, rows: int) -> None:
        self.due = max(self.due, time.monotonic() - _CREDIT) + rows / self.rows_per_second


class _Load:
    """How busy one source is, looked at once a second by whoever comes first, and whether it is left alone for that."""

    def __init__(self, name: str, limit: int) -> None:
        self.name = name
        self.limit = limit
        self.over = False
        self.told = True  # by the source; else there is nothing to hold it against
        self._looked = -_LOOK
        self._quiet = 0
        self._lock = threading.Lock()

    def crowded(self, source: Source, say: Callable[[str], None]) -> bool:
        with self._lock:
            now = time.monotonic()
            if self.told and now - self._looked >= _LOOK:
                self._looked = now
                self._look(source, say)
            return self.over

    def _look(self, source: Source, say: Callable[[str], None]) -> None:
        why = ""
        try:
            running = cast(Loaded, source).load() if hasattr(source, "load") else None
        except RetryableError:
            return  # it does not answer: whoever reads it next finds that out, and tries again
        except SourceError as error:
            running, why = None, f" ({error.message})"
        if running is None:
            self.told = self.over = False
            say(f"{self.name} does not say how busy it is: the limit of its load is not applied{why}")
            return
        crowded = running > self.limit
        self._quiet = 0 if crowded else self._quiet + 1
        if crowded and not self.over:
            self.over = True
            say(f"{self.name} runs {running} other statements, more than {self.limit}: waiting")
        elif self.over and self._quiet >= _QUIET:
            self.over = False
            say(f"{self.name} is quiet again: going on.")


class Turn:
    """Leave to read; `prepaid` are the rows that were charged for it beforehand."""

    def __init__(self, governor: "Governor", caps: Sequence[_Cap], rows: int) -> None:
        self._governor = governor
        self._prepaid = dict.fromkeys(caps, rows)

    def charge(self, cap: _Cap | None, rows: int) -> None:
        """These were read: what was not paid for is charged."""
        if cap is not None:
            with self._governor.lock:
                paid = min(rows, self._prepaid.get(cap, 0))
                self._prepaid[cap] = self._prepaid.get(cap, 0) - paid
                cap.charge(rows - paid)

    def close(self) -> None:
        """Give back what was paid for and not read."""
        with self._governor.lock:
            for cap, rows in self._prepaid.items():
                cap.due -= rows / cap.rows_per_second
            self._prepaid.clear()


class Governor:
    """One for a command, shared by its threads.

    `limits` are those of the sources by their names, `over` those of the command line: a cap there holds for all sources
    together, in place of their own. `pause` sleeps so many seconds, and raises where a stop is asked for meanwhile.
    """

    def __init__(self, limits: Mapping[str, Limits] | None = None, over: Limits | None = None) -> None:
        over = over or Limits()
        self.on_event: OnEvent = lambda event: None
        self.lock = threading.RLock()
        self._ended = threading.Event()
        self.pause: Callable[[float], object] = self._ended.wait
        self._resumed = threading.Event()
        self._resumed.set()
        self._paused = False
        self._mine = threading.local()
        self._together = _Cap(over.rows_per_second) if over.rows_per_second else None
        self._caps: dict[str, _Cap] = {}
        self._loads: dict[str, _Load] = {}
        self._over = over
        self._limits = limits or {}

    # ------------------------------------------------------------------------------------------------------ on request

    def hold(self) -> None:
        """Let no further slice be begun. For a signal's handler, which must not wait for a lock: a worker says it."""
        self._resumed.clear()

    def go_on(self) -> None:
        """Let slices be begun again."""
        self._resumed.set()

    def end(self) -> None:
        """Let nobody wait any longer: they raise Stopped."""
        self._ended.set()

    # --------------------------------------------------------------------------------------------------------- reading

    def governed(self, name: str, source: Source) -> Source:
        if hasattr(source, "attended"):
            told = lambda said: self.on_event(Event("fetching", message=f"{name}.{said}"))  # noqa: E731
            cast(Attended, source).attended(self._sleep, told)
        return cast(Source, Governed(name, source, self))

    def rows(self, names: Collection[str], rows: int) -> int:
        """How many rows a slice of these sources may hold, where `rows` are asked for."""
        caps = (self.cap(name) for name in names)
        return min([rows, *(max(1, _WORTH * cap.rows_per_second) for cap in caps if cap is not None)])

    @contextmanager
    def turn(self, sources: _Named, rows: int) -> Iterator[None]:
        """Wait until about `rows` rows may be read from these sources; what this thread reads inside need not wait again."""
        self._mine.turn = turn = self.admit(sources, rows)
        try:
            yield
        finally:
            self._mine.turn = None
            turn.close()

    @property
    def taken(self) -> Turn | None:
        """This thread's turn."""
        turn: Turn | None = getattr(self._mine, "turn", None)
        return turn

    def rest(self) -> None:
        """Wait while it is paused."""
        self.admit((), 0)

    def admit(self, sources: _Named, rows: int) -> Turn:
        """Wait until about `rows` rows may be read from these sources. Whoever gets the turn closes it.

        Raises what `pause` does where a stop is asked for.
        """
        self._sleep(0)
        caps = list(dict.fromkeys(cap for name, _ in sources if (cap := self.cap(name)) is not None)) if rows else []
        while True:
            if self._held():
                self._sleep(_STEP)
            elif (left := self._due(caps)) > 0:
                self._sleep(min(left, _STEP))
            elif self._crowded(sources):
                self._sleep(_STEP)
            elif (turn := self._begin(caps, rows)) is not None:
                return turn

    def cap(self, name: str) -> _Cap | None:
        with self.lock:
            most = self._limits.get(name, Limits()).rows_per_second
            if self._together is not None or not most:
                return self._together
            return self._caps.setdefault(name, _Cap(most))

    def _sleep(self, seconds: float) -> None:
        self.pause(seconds)
        if self._ended.is_set():
            raise Stopped("Stopped.")

    def _due(self, caps: Sequence[_Cap]) -> float:
        """Seconds until these caps let anything be read."""
        with self.lock:
            return max((cap.due for cap in caps), default=0.0) - time.monotonic()

    def _begin(self, caps: Sequence[_Cap], rows: int) -> Turn | None:
        """The turn, charged; None where others came first, or a pause."""
        with self.lock:
            if self._due(caps) > 0 or not self._resumed.is_set():
                return None
            for cap in caps:
                cap.charge(rows)
            return Turn(self, caps, rows)

    def _held(self) -> bool:
        """Whether it is paused, said once when it begins and once when it ends."""
        with self.lock:
            held = not self._resumed.is_set()
            if held != self._paused:
                self._paused = held
                hint = "kill -USR2 goes on; nothing is lost by Ctrl-C. What is in hand is finished first."
                self._say(f"Paused. {hint}" if held else "Going on.")
            return held

    def _crowded(self, sources: _Named) -> bool:
        """Whether one of the sources has more to do than it should have."""
        found = False
        for name, source in sources:
            load = self._load(name)
            if load is not None and load.crowded(source, self._say):
                found = True
        return found

    def _load(self, name: str) -> _Load | None:
        with self.lock:
            own = self._limits.get(name, Limits()).load
            limit = own if self._over.load is None else self._over.load
            return None if limit is None else self._loads.setdefault(name, _Load(name, limit))

    def _say(self, message: str) -> None:
        waiting = [load.name for load in list(self._loads.values()) if load.over]
        state = "paused" if self._paused else f"waiting for {', '.join(waiting)}" if waiting else ""
        self.on_event(Event("governed", message=message, state=state))


class Governed:
    """A source that asks the governor before each slice is read, counted or aggregated, and charges what was read.

    All that the source is able to do besides it is able to do as well.
    """

    def __init__(self, name: str, source: Source, governor: Governor) -> None:
        self._name = name
        self._source = source
        self._governor = governor

    def read(self, partition: Partition, /, columns: Sequence[str]) -> Iterator[Batch]:
        governor = self._governor
        taken = governor.taken
        turn = taken or governor.admit(((self._name, self._source),), max(1, partition.rows))
        cap = governor.cap(self._name)
        try:
            for batch in self._source.read(partition, columns):
                turn.charge(cap, len(batch.ordinals) + len(batch.rejects))
                yield batch
        finally:
            if taken is None:
                turn.close()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # of an object that is only being made, as a copy is
            raise AttributeError(name)
        ability = getattr(self._source, name)
        return self._asking(ability) if name in ("count", "aggregates") else ability

    def _asking(self, ability: Callable[..., Any]) -> Callable[..., Any]:
        def asked(*arguments: Any) -> Any:
            if self._governor.taken is None:
                self._governor.admit(((self._name, self._source),), 0).close()
            return ability(*arguments)

        return asked
