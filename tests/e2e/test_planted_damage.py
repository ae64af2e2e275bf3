"""A thousand planted damages in thirty thousand rows: each in quarantine under its place with its reason, all others loaded.

What the table has to hold is computed here, from the values that the file is written from, and not by the product.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal

import pytest

from e2e.rig import Rig, differences, state_of

ROWS, EVERY = 30_000, 30

PROJECT = """\
migration: damaged
target: ${env:TARGET_URL}
defaults: {max_rejects: 5%}
sources:
  crm: {files: {customers: customers.csv}, encoding: cp1252, delimiter: semicolon}
tables:
  customers:
    from: crm.customers
    key: No
    columns:
      id: No
      name: Name
      born: parse_date(Born, 'DD.MM.YYYY', 'YYYY-MM-DD')
      country: lookup('countries', Country)
      balance: parse_money(Balance, 'de')
      level: Level
      points: Points
      rate: Rate
      note: Note
lookups:
  countries: {D: Germany, A: Austria, CH: Switzerland}
"""

TABLE = """
CREATE TYPE level AS ENUM ('basic', 'silver', 'gold');
CREATE TABLE customers (
    id int PRIMARY KEY, name varchar(30) NOT NULL, born date CHECK (born > '1900-01-01'), country text NOT NULL,
    balance numeric(9, 2) NOT NULL, level level, points smallint, rate numeric(5, 3), note text CHECK (note !~ 'forbidden')
);
"""

HEADER = b"No;Name;Born;Country;Balance;Level;Points;Rate;Note\r\n"
COUNTRIES = {"D": "Germany", "A": "Austria", "CH": "Switzerland"}
Loaded = tuple[int, str, date | None, str, Decimal, str | None, int | None, Decimal | None, str | None]


@dataclass(frozen=True)
class Customer:
    """A row as it should be: its fields as they are written, and what the target makes of them."""

    fields: tuple[str, ...]
    loaded: Loaded

    def with_field(self, name: str, text: str) -> "Customer":
        at = HEADER.decode().rstrip().split(";").index(name)
        return replace(self, fields=(*self.fields[:at], text, *self.fields[at + 1 :]))

    def written(self) -> bytes:
        quoted = (f'"{f.replace(chr(34), chr(34) * 2)}"' if set(f) & set(';"\n\r') else f for f in self.fields)
        return ";".join(quoted).encode("cp1252")


Spoil = Callable[[Customer], bytes]


def field_(name: str, text: str) -> Spoil:
    return lambda customer: customer.with_field(name, text).written()


def missing(customer: Customer) -> bytes:
    return replace(customer, fields=customer.fields[:-1]).written()


def extra(customer: Customer) -> bytes:
    return customer.written() + b";more"


def undecodable(customer: Customer) -> bytes:
    return customer.written().replace(b";", b";\x81", 1)


def runaway(customer: Customer) -> bytes:
    """The second field begins with a quote, and no quote follows it on this line."""
    return customer.with_field("Name", "runs on").with_field("Note", "").written().replace(b";", b';"', 1)


def junk(customer: Customer) -> bytes:
    return customer.written().replace(b";", b';"quoted" and more', 1)


def same_key(customer: Customer) -> bytes:
    """The key of the row before, which has gone in."""
    return customer.with_field("No", str(int(customer.fields[0]) - 1)).written()


# kind → (how a row is spoilt, rule, column, words of the reason)
DAMAGES: dict[str, tuple[Spoil, str, str | None, str]] = {
    "no such day": (field_("Born", "31.02.1980"), "type", "born", "not a date"),
    "no date": (field_("Born", "soon"), "type", "born", "not a date"),
    "too old": (field_("Born", "01.01.1850"), "check", "born", "customers_born_check"),
    "too long": (field_("Name", "x" * 31), "length", "name", "31 characters are too long for character varying(30)"),
    "no name": (field_("Name", ""), "not_null", "name", ""),
    "NUL": (field_("Note", "nul\0nul"), "nul", "note", "NUL"),
    "no such country": (field_("Country", "XX"), "lookup", "country", "no such code"),
    "no amount": (field_("Balance", "viel"), "type", "balance", "not an amount"),
    "amount too large": (field_("Balance", "123.456.789,00"), "range", "balance", "out of range"),
    "amount too fine": (field_("Balance", "1.234,567"), "precision", "balance", "round"),
    "no such level": (field_("Level", "platinum"), "enum", "level", "not one of the labels"),
    "out of range": (field_("Points", "32768"), "range", "points", "out of range"),
    "no whole number": (field_("Points", "1.5"), "precision", "points", "round"),
    "no number": (field_("Points", "many"), "type", "points", "not a"),
    "too fine": (field_("Rate", "1.2345"), "precision", "rate", "round"),
    "too large": (field_("Rate", "100"), "range", "rate", "out of range"),
    "a byte that is no character": (undecodable, "encoding", "Name", "byte 0x81"),
    "field missing": (missing, "fields", None, "expected 9 fields, found 8"),
    "field too many": (extra, "fields", None, "expected 9 fields, found 10"),
    "runaway quote": (runaway, "structure", None, "the quote that opens field 2 is not closed"),
    "text after a quote": (junk, "structure", None, "text follows the closing quote of field 2"),
}
# Only the server can tell these; a chunk may hold a few of them.
FEW: dict[str, tuple[Spoil, str, str | None, str]] = {
    "same key": (same_key, "unique", None, "another row has the same key id"),
    "forbidden": (field_("Note", "a forbidden word"), "check", None, "customers_note_check"),
}


@dataclass(frozen=True)
class Planted:
    """One spoilt row: its physical lines, its bytes, and what has to be said about it."""

    kind: str
    line: int
    last_line: int
    start: int
    end: int
    raw: bytes
    rule: str
    column: str | None
    reason: str


@dataclass
class Made:
    damaged: bytes = b""
    fixed: bytes = b""
    every: list[Loaded] = field(default_factory=list)
    sound: list[Loaded] = field(default_factory=list)
    planted: list[Planted] = field(default_factory=list)


def customer(number: int, dice: random.Random, *, one_line: bool) -> Customer:
    name = dice.choice(("Müller; Söhne", 'Gasthof "Zum Bären"', "O'Brien", "Žižka", "Ann €")) + f" {number % 97}"
    day = None if dice.random() < 0.1 else date(dice.randint(1901, 2020), dice.randint(1, 12), dice.randint(1, 28))
    born = "" if day is None else dice.choice((f"{day:%d.%m.%Y}", f"{day:%Y-%m-%d}"))
    code = dice.choice("DDDA") if number % 9 else "CH"
    cents = dice.randint(-99_999_999, 999_999_999)
    sign, (whole, rest) = "-" if cents < 0 else "", divmod(abs(cents), 100)
    level = dice.choice(("basic", "silver", "gold", ""))
    points, rate = dice.randint(-32768, 32767), dice.randint(0, 99999)
    notes = ["", "plain", "a;b", '5" pipe'] + ([] if one_line else ["two\r\nlines", "a\n\nb"])
    note = dice.choice(notes)
    return Customer(
        (
            str(number), name, born, code,
            sign + f"{whole:,}".replace(",", ".") + f",{rest:02}" + dice.choice(("", " €")),
            level, str(points), f"{rate // 1000}.{rate % 1000:03}", note,
        ),
        (
            number, name, day, COUNTRIES[code], Decimal(cents).scaleb(-2),
            level or None, points, Decimal(rate).scaleb(-3), note or None,
        ),
    )  # fmt: skip


def make(dice: random.Random) -> Made:
    made = Made()
    damaged, fixed = [HEADER], [HEADER]
    line, at = 2, len(HEADER)
    several = [kind for kind in DAMAGES for _ in range(ROWS // EVERY // len(DAMAGES) + 1)]
    kinds = [*(kind for kind in FEW for _ in range(12)), *several][: ROWS // EVERY]
    dice.shuffle(kinds)
    for number in range(1, ROWS + 1):
        last = number == ROWS
        spoilt = number % EVERY == 0
        row = customer(number, dice, one_line=spoilt or number % EVERY == EVERY - 1 or number % EVERY == 1)
        good = row.written()
        kind = "cut off" if last else kinds[number // EVERY] if spoilt else ""
        spoil, rule, column, reason = (
            (missing, "fields", None, "it may be cut off")
            if last
            else {**DAMAGES, **FEW}.get(kind, (None, "", None, ""))
        )
        text = good if spoil is None else spoil(row)
        made.every.append(row.loaded)
        inner = text.count(b"\n")
        if spoil is None:
            made.sound.append(row.loaded)
        else:
            assert inner == good.count(b"\n") == 0, "a mended row stands on the line of the spoilt one"
            made.planted.append(Planted(kind, line, line, at, at + len(text), text, rule, column, reason))
        ending = b"" if last else dice.choice((b"\n", b"\r\n"))
        damaged.append(text + ending)
        fixed.append(good + ending)
        line, at = line + 1 + inner, at + len(text) + len(ending)
    made.damaged, made.fixed = b"".join(damaged), b"".join(fixed)
    return made


@pytest.fixture(scope="module")
def made() -> Made:
    made = make(random.Random(1905))
    assert len(made.planted) == 1000
    assert {p.kind for p in made.planted} == {*DAMAGES, *FEW, "cut off"}
    return made


def table(rig: Rig) -> list[tuple[object, ...]]:
    return rig.sql(
        "SELECT id, name, born, country, balance, level::text, points, rate, note FROM customers ORDER BY id"
    )


@pytest.mark.parametrize(("size", "jobs"), [("50KB", "2"), ("333KB", "2"), ("8MB", "1")])
def test_every_damage_is_quarantined_and_every_other_row_is_loaded(rig: Rig, made: Made, size: str, jobs: str) -> None:
    rig.write("migrate.yaml", PROJECT)
    rig.write("customers.csv", made.damaged)
    rig.sql(TABLE)
    rig.migrate("run", "-j", jobs, "--batch-bytes", size)
    assert rig.fates("customers") == (ROWS, ROWS - 1000, 0, 0, 1000)
    assert table(rig) == made.sound

    listed = rig.migrate("rejects", "list", "--output", "json", "--limit", "2000").json()
    places = {r["locator"]["line"]: r for r in listed}
    assert sorted(places) == [p.line for p in made.planted]
    wrong = []
    raws = dict(rig.sql("SELECT (locator ->> 'line')::int, raw FROM migrate_ledger.reject"))
    for p in made.planted:
        r, at = places[p.line], places[p.line]["locator"]
        assert (at["file"], at["last_line"], at["start"], at["end"]) == (
            "customers.csv",
            p.last_line,
            p.start,
            p.end,
        ), p
        assert raws[p.line] == p.raw == made.damaged[p.start : p.end], p
        if (r["rule"], r["column"]) != (p.rule, p.column) or p.reason not in r["reason"]:
            wrong.append((p.kind, p.rule, p.column, p.reason, "but said:", r["rule"], r["column"], r["reason"]))
    assert Counter(wrong) == Counter()
    rig.migrate("verify")


def test_a_fixed_file_replays_into_the_table_of_a_clean_load(rigs: Callable[[str], Rig], made: Made) -> None:
    rig = rigs("damaged")
    rig.write("migrate.yaml", PROJECT)
    rig.write("customers.csv", made.damaged)
    rig.write("mended/customers.csv", made.fixed)
    rig.sql(TABLE)
    rig.migrate("run", "--batch-bytes", "700KB")
    ended = rig.try_("rejects", "replay", "-s", "customers", "--from", "mended/customers.csv")
    assert ended.code == 0, ended.said
    assert table(rig) == made.every
    assert rig.fates("customers") == (ROWS, ROWS, 0, 0, 0)
    assert rig.migrate("rejects", "list", "--output", "json").json() == []
    rig.migrate("verify")
    rig.migrate("run")
    assert table(rig) == made.every, "a run after a replay has changed the table"
    again = rig.migrate("rejects", "replay", "-s", "customers", "--from", "mended/customers.csv")
    assert "0 of 0" in again.out

    clean = rigs("clean")
    clean.write("customers.csv", made.fixed)
    clean.sql(TABLE)
    clean.migrate("run", "--batch-bytes", "700KB")
    ours, theirs = state_of(rig.url), state_of(clean.url)
    assert (
        differences({"rows": ours["rows"], "sums": ours["sums"]}, {"rows": theirs["rows"], "sums": theirs["sums"]})
        == []
    )
