"""Five hundred planted damages in ten thousand rows of a workbook: each is found in its cell, every other row is exact."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from workbooks import DATE, DATETIME, Book, Page, error, inline, letters, number, row, shared, truth

from connectors import sheetxml
from connectors.excel import open_files

ROWS, EVERY = 10_000, 20
NAMES = ("nr", "name", "born", "seen", "amount", "active", "note")
CITIES = ["Köln", "Zürich & Umland", "  Málaga", "", "<none>", "5' 3\" N", "#N/A", "2020-01-31", "007"]
Damage = tuple[Callable[[str], str], str]
"""What stands in a cell by its reference, and what is said of it."""

ANYWHERE: list[Damage] = [
    *(
        (lambda ref, text=text: error(ref, text), text)
        for text in ("#N/A", "#REF!", "#DIV/0!", "#VALUE!", "#NAME?", "#NULL!")
    ),
    (lambda ref: f'<c r="{ref}" t="e"><f>VLOOKUP(A1,B:C,2,0)</f><v>#N/A</v></c>', "#N/A"),
    (lambda ref: f'<c r="{ref}"><f>A1*2</f></c>', "a formula that was never calculated"),
    (lambda ref: f'<c r="{ref}"><f t="shared" si="0"/><v></v></c>', "a formula that was never calculated"),
    (lambda ref: number(ref, "12,5"), "'12,5' is no number"),
    (lambda ref: number(ref, "NaN"), "'NaN' is no number"),
    (lambda ref: number(ref, 0, DATE), "no date: 0, which Excel shows as day 0 of January 1900"),
    (lambda ref: number(ref, 60, DATE), "no date: 60, which Excel shows as 1900-02-29"),
    (lambda ref: number(ref, "-3.5", DATETIME), "no date: -3.5, which is outside Excel's calendar"),
    (lambda ref: number(ref, 2958466, DATE), "no date: 2958466, which is outside Excel's calendar"),
]


def cells(random_: random.Random, r: int) -> tuple[list[str], list[str | None]]:
    """A sound row, cell by cell, and its texts."""
    city = random_.randrange(len(CITIES))
    day, clock, cents = random_.randint(61, 60_000), random_.randint(0, 86_399), random_.randint(-(10**8), 10**8)
    import datetime as dt

    born = dt.date(1899, 12, 30) + dt.timedelta(days=day)
    seen = dt.datetime.combine(born, dt.time()) + dt.timedelta(seconds=clock)
    amount = f"{cents / 100:.2f}".rstrip("0").rstrip(".")
    made = [
        number(f"A{r}", r),
        inline(f"B{r}", f"Name {r}"),
        number(f"C{r}", day, DATE),
        number(f"D{r}", format(day + clock / 86_400, ".17g"), DATETIME),
        number(f"E{r}", format(cents / 100, ".17g")),
        truth(f"F{r}", r % 2 == 0),
        shared(f"G{r}", city),
    ]
    texts = [
        str(r),
        f"Name {r}",
        str(born),
        str(seen),
        "0" if amount == "-0" else amount,
        str(r % 2 == 0).lower(),
        CITIES[city],
    ]
    if random_.random() < 0.1:
        made[4], texts[4] = f'<c r="E{r}" s="1"/>', ""
    return made, [text if i != 4 or text else None for i, text in enumerate(texts)]


def make(random_: random.Random, folder: Path) -> tuple[list[tuple[str | None, ...]], dict[int, tuple[str, str, str]]]:
    """Writes the workbook; its sound rows, and for each damaged row: cell, rule and what is said."""
    sound: list[tuple[str | None, ...]] = []
    planted: dict[int, tuple[str, str, str]] = {}
    body = [row(3, *(inline(f"{letters(c)}3", name) for c, name in enumerate(NAMES)))]
    r = 3
    for i in range(ROWS):
        r += 1 + (random_.random() < 0.05)  # a blank row now and then
        made, texts = cells(random_, r)
        if i % EVERY == 0:
            if random_.random() < 0.15:
                column = random_.choice([7, 8, 30])
                made.append(inline(f"{letters(column)}{r}", "stray"))
                planted[r] = (f"{letters(column)}{r}", "fields", f"Kunden!{letters(column)}{r} holds something beside")
            else:
                column = random_.randrange(len(NAMES))
                write, said = random_.choice(ANYWHERE)
                made[column] = write(f"{letters(column)}{r}")
                planted[r] = (
                    f"{letters(column)}{r}",
                    "cell",
                    f"{said} in {NAMES[column]} (Kunden!{letters(column)}{r})",
                )
        else:
            sound.append(tuple(texts))
        body.append(row(r, *made))
    Book({"Kunden": Page("".join(body))}, strings=CITIES).write(folder / "t.xlsx")
    return sound, planted


@pytest.mark.parametrize(("plain", "rows"), [(True, 1 << 40), (True, 1_000), (False, 1 << 40)])
def test_every_damage_is_found_in_its_cell_and_every_other_row_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: bool, rows: int
) -> None:
    sound, planted = make(random.Random(11), tmp_path)
    assert len(planted) == 500
    if not plain:
        monkeypatch.setattr(sheetxml, "_plain_cells", lambda _: None)
    source = open_files({"": ["t.xlsx"]}, {}, tmp_path)
    table = source.schema("Kunden")
    found: list[tuple[str | None, ...]] = []
    rejects = []
    read = 0
    for partition in source.partitions(table, rows=rows, bytes=1 << 40):
        for batch in source.read(partition, table.schema.names):
            read += len(batch.ordinals) + len(batch.rejects)
            found += [tuple(each.values()) for each in batch.rows.to_pylist()]
            rejects += batch.rejects
    assert read == ROWS
    assert found == sound
    assert {reject.origin.locator["row"] for reject in rejects} == planted.keys()
    for reject in rejects:
        cell, rule, said = planted[reject.origin.locator["row"]]
        assert (reject.origin.locator["cell"], reject.rule) == (cell, rule)
        assert said in reject.reason
        assert json.loads(reject.origin.raw)["A"] is not None
