"""Who waits for long work that is done before a run, and hears how far it is."""

import time
from collections.abc import Callable
from dataclasses import dataclass

EVERY = 3.0  # seconds between two lines

Pause = Callable[[float], object]
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Attention:
    """`pause` sleeps so many seconds, and raises where a stop is asked for meanwhile; `tell` takes a line for people."""

    pause: Pause = time.sleep
    tell: Tell = lambda _: None

    def to(self, said: Callable[[], str]) -> Callable[[], None]:
        """To be called now and then while one thing is done: stops where that is asked for, and tells what is `said` by then."""
        told = time.monotonic()

        def now() -> None:
            nonlocal told
            self.pause(0)
            if time.monotonic() - told > EVERY:
                told = time.monotonic()
                self.tell(said())

        return now
