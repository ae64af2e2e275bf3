"""What is seen while a run goes on."""

import io
import json

import pytest
from rich.console import Console

from migrate.core import Event
from reports.progress import Bars, JsonLines, Lines

PAUSED = Event("governed", message="Paused.", state="paused")


def test_a_bar_that_stands_still_says_why() -> None:
    stream = io.StringIO()
    with Bars(Console(file=stream, width=120, force_terminal=True)) as watch:
        watch(Event("table", "orders", chunks=4, rows=400))
        watch(Event("chunk", "orders", chunks=4, chunks_done=1, rows=400, rows_done=100))
        watch(PAUSED)
    lines = stream.getvalue().splitlines()
    assert any("Paused." in line for line in lines)
    assert any("100 rows" in line and " paused " in line for line in lines)


@pytest.mark.parametrize("quiet", [False, True])
def test_lines_say_it_even_where_they_are_quiet(quiet: bool) -> None:
    stream = io.StringIO()
    watch = Lines(stream, quiet=quiet)
    watch(Event("table", "orders", "first load", chunks=4))
    watch(PAUSED)
    assert stream.getvalue().splitlines() == [*([] if quiet else ["orders: first load"]), "Paused."]


def test_programs_are_told_the_state() -> None:
    stream = io.StringIO()
    watch = JsonLines(stream)
    watch(PAUSED)
    watch(Event("governed", message="Going on."))
    assert [json.loads(line)["state"] for line in stream.getvalue().splitlines()] == ["paused", ""]
