"""A report on a terminal or in a pipe."""

import io

from rich.console import Console
from samples import company, dry, hostile

from reports.model import Report
from reports.terminal import render


def said(report: Report) -> str:
    stream = io.StringIO()
    render(report, Console(file=stream, width=200))
    return stream.getvalue()


def test_samples_merged_rows_and_orphans_are_shown() -> None:
    text = said(company())
    for i in range(3):
        assert (
            f"export/kunden_2019.csv:{1046 + 977 * i} (KundenNr={31003 + 7 * i:06}): '31.02.1980' fits none of" in text
        )
    assert "email 1,610, telefon + geboren 236" in text
    assert "KundenNr=018822 ← KundenNr=018823, KundenNr=222104" in text
    assert "KundenNr=009004 and 13 more" in text
    [orphans] = [line for line in text.splitlines() if "vertreter_id" in line]
    assert orphans.split() == ["bestellungen", "118", "vertreter_id", "set", "to", "NULL"]


def test_a_dry_run_says_so_first_and_names_what_it_left_out() -> None:
    text = said(dry())
    assert text.splitlines()[0].strip() == "DRY RUN: nothing of this has happened"
    assert "nothing to do: société_régions" in text


def test_nothing_in_the_data_moves_the_cursor() -> None:
    text = said(hostile())
    assert "\x1b" not in text
    assert "\u202e" not in text
