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


READ = [Event("verifying", "orders", rows=400, rows_done=n, state="reading the target") for n in (100, 400)]


def test_a_pass_over_a_table_has_a_bar_of_its_own_while_it_goes_on() -> None:
    stream = io.StringIO()
    with Bars(Console(file=stream, width=120, force_terminal=True), transient=True) as watch:
        watch(READ[0])
        watch._progress.refresh()
        assert "orders, reading the target" in stream.getvalue()
        assert "100 rows" in stream.getvalue()
        before = stream.tell()
        watch(READ[1])
        watch._progress.refresh()
    assert "reading" not in stream.getvalue()[before:]


def test_a_short_pass_is_no_line_and_a_long_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, now = io.StringIO(), [100.0]
    monkeypatch.setattr("reports.progress.time.monotonic", lambda: now[0])
    watch = Lines(stream)
    for event in READ:
        watch(event)
    assert stream.getvalue() == ""
    now[0] += 6
    watch(READ[0])
    assert stream.getvalue() == "orders: reading the target, 100 of 400 rows\n"


def test_programs_are_told_how_far_a_pass_is() -> None:
    stream = io.StringIO()
    JsonLines(stream)(READ[0])
    line = json.loads(stream.getvalue())
    assert (line["event"], line["state"], line["rows"], line["rows_done"]) == (
        "verifying",
        "reading the target",
        400,
        100,
    )
