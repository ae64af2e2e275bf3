"""The governor's own arithmetic: what is charged, and when a busy source is read again. On servers: e2e/test_governor.py."""

import time
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import pyarrow as pa
import pytest

from mappings.spec import Limits
from migrate import governor as governing
from migrate.core import Batch, Event, Partition, Source
from migrate.errors import RetryableError
from migrate.governor import Governor


class Numbers:
    """A source of a hundred rows a partition, in batches of ten, with a load that is given."""

    def __init__(self, *loads: int | None) -> None:
        self.loads = list(loads)
        self.asked = 0

    def read(self, partition: Partition, /, columns: Sequence[str]) -> Iterator[Batch]:
        for first in range(0, 100, 10):
            ordinals = np.arange(first, first + 10)
            yield Batch(pa.RecordBatch.from_pydict({"n": ordinals}), ordinals, lambda _: [])

    def load(self) -> int | None:
        self.asked += 1
        value = self.loads.pop(0)
        if value == -1:
            raise RetryableError("lost")
        return value


def over(rows_per_second: int, source: Numbers) -> Source:
    return Governor({"s": Limits(rows_per_second)}).governed("s", cast(Source, source))


def seconds(source: Source, rows: int, reads: int, batches: int) -> float:
    """How long it takes to read some batches of so many partitions of about `rows` rows each."""
    began = time.monotonic()
    for ordinal in range(reads):
        for number, _ in enumerate(source.read(Partition("t", ordinal, "", rows), ["n"]), 1):
            if number == batches:
                break
    return time.monotonic() - began


@pytest.mark.parametrize("estimate", [0, 1, 100])
def test_what_was_read_is_charged_whatever_was_estimated(estimate: int) -> None:
    # Of 600 rows, half a second's worth and the last hundred need no waiting.
    assert 0.7 < seconds(over(400, Numbers()), estimate, 6, 10) < 2.5


def test_what_was_not_read_is_given_back() -> None:
    assert seconds(over(400, Numbers()), 100_000, 6, 1) < 0.5


def test_other_abilities_are_forwarded_and_those_that_are_lacking_are_not_made_up() -> None:
    source = over(400, Numbers(7))
    assert source.load() == 7  # type: ignore[attr-defined]
    assert not hasattr(source, "count")
    assert not hasattr(source, "view")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(governing, "_LOOK", 0.02)
    monkeypatch.setattr(governing, "_STEP", 0.005)


@pytest.mark.usefixtures("quick")
def test_a_load_that_comes_and_goes_does_not_make_it_stutter() -> None:
    # A look without an answer changes nothing.
    source, events = Numbers(5, 0, 0, 4, 0, -1, 0, 0), list[Event]()
    governor = Governor({"s": Limits(load=3)})
    governor.on_event = events.append
    governor.admit([("s", cast(Source, source))], 10)
    assert source.loads == []
    assert [e.message for e in events] == [
        "s runs 5 other statements, more than 3: waiting",
        "s is quiet again: going on.",
    ]
    assert [e.state for e in events] == ["waiting for s", ""]


def test_it_is_asked_once_a_second_at_most() -> None:
    source = Numbers(0, 0, 0)
    governor = Governor({"s": Limits(load=3)})
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        governor.admit([("s", cast(Source, source))], 1)
        time.sleep(0.01)
    assert source.asked == 2


@pytest.mark.usefixtures("quick")
def test_one_that_does_not_tell_is_asked_once() -> None:
    source, events = Numbers(None), list[Event]()
    governor = Governor(over=Limits(load=3))
    governor.on_event = events.append
    for _ in range(5):
        governor.admit([("s", cast(Source, source))], 1)
        time.sleep(0.03)
    assert [e.message for e in events] == ["s does not say how busy it is: the limit of its load is not applied"]
