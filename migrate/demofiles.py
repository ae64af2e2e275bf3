"""The demo's files: a small company's exports in CSV, Excel and XML, with the damage that such files have. The same each time."""

import gzip
import io
import random
import re
import zipfile
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

_FIRST = "Jürgen Zoé Anna Łukasz Björn Chloé Renée Max Søren Ana François Greta Ines Karl Mia Noël".replace(
    "Łukasz", "Lukas"
).split()
_LAST = [
    "Weiß",
    "Müller",
    "Martin",
    "Groß",
    "Nuñez",
    "Schäfer",
    "Dupont",
    "Öztürk",
    "O'Neil",
    "Zimmermann",
    "Brûlé",
    "Åkesson",
    "Hansen",
    "Vogel",
]
_STREETS = ["Hauptstraße", "Am", "Markt", "Rue", "de", "l'Église", "Größer", "Weg"]
_ARTICLES = ("Tisch", "Stuhl", 'Regal 19"', "Lampe; weiß", "Spiegel", "Kissen")
CUSTOMERS = 2_000
ORDERS = 12_000
NOTE_BYTES = 5 << 20
ARTICLES = 300
DELIVERIES = 600


def write(legacy: Path) -> None:
    """Write all files into a folder."""
    chance = random.Random(1789)
    customers = b"".join(_customers(chance))
    (legacy / "kunden.csv").write_bytes(customers)
    header = b"BestellNr;KundenNr;Datum;Betrag;Artikel;Kanal;Bearbeiter\r\n"
    orders = list(_orders(chance))
    for year, part in ((2019, orders[: ORDERS // 3]), (2020, orders[ORDERS // 3 :])):
        with gzip.GzipFile(legacy / f"bestellungen_{year}.csv.gz", "wb", mtime=0) as file:
            file.write(header + b"".join(part))
    (legacy / "notizen.csv").write_bytes(b"".join(_notes(chance)))
    (legacy / "stamm.xlsx").write_bytes(_workbook(chance))
    (legacy / "lieferungen.xml").write_text("".join(_deliveries(chance)), encoding="utf-8")


def _line(*fields: str) -> bytes:
    return ";".join(_quoted(f) for f in fields).encode("cp1252") + b"\r\n"


def _quoted(field: str) -> str:
    return '"' + field.replace('"', '""') + '"' if any(c in field for c in ';"\n') else field


def _date(chance: random.Random) -> str:
    day, month, year = chance.randint(1, 28), chance.randint(1, 12), chance.randint(1940, 2001)
    return chance.choice((f"{day:02}.{month:02}.{year}", f"{year}-{month:02}-{day:02}", f"{month:02}/{day:02}/{year}"))


def _money(chance: random.Random) -> str:
    cents = chance.randint(0, 99_999_99)
    whole, rest = divmod(cents, 100)
    grouped = f"{whole:,}".replace(",", ".")
    return chance.choice((f"{grouped},{rest:02} €", f"{grouped},{rest:02}", f"{whole},{rest:02}"))


def _customers(chance: random.Random) -> Iterator[bytes]:
    yield _line("KundenNr", "Name", "Email", "Geboren", "Land", "Saldo", "Aktiv", "Status", "Strasse")
    for n in range(1, CUSTOMERS + 1):
        name = f"{chance.choice(_FIRST)} {chance.choice(_LAST)}"
        if n % 40 == 7:  # mojibake: UTF-8 that once was read as cp1252
            name = name.encode().decode("cp1252", "replace").replace("�", "")
        email = chance.choice(("", "k.A.", f" Kunde{n}@Example.COM "))
        fields = [
            f"{n:06}", name, email, _date(chance), chance.choice("DDDDAF"), _money(chance),
            chance.choice(("ja", "nein", "J", "N", "1", "0")), "TEST" if n % 100 == 0 else "OK",
            f"{chance.choice(_STREETS)} {n % 90}",
        ]  # fmt: skip
        if n == 31:
            fields[3] = "31.02.1980"
        elif n == 77:
            fields[4] = "XX"
        elif n == 123:
            fields[5] = "viel"
        elif n == 200 + 1:
            fields[2] = "ganz-lang" * 9 + "@example.com"
        elif n == 345:
            fields[1] = "Nul\0Byte"
        elif n == 456:
            fields[3] = "01.01.1850"
        if n % 50 == 13 and n > 50:  # the same person once more, under another number
            fields[2] = f"kunde{n - 40}@example.com"
        line = _line(*fields)
        if n == 500:
            line = line.replace(b";", b';"', 1)  # a quote that is never closed
        elif n == 600:
            line = line.replace(b"\r\n", b";zu;viel\r\n")
        elif n == 700:
            line = b";".join(line.split(b";")[:4]) + b"\r\n"
        elif n == 800:
            line = line.replace(b";", b";\x81", 1)  # no character in cp1252
        yield line


def _orders(chance: random.Random) -> Iterator[bytes]:
    for n in range(1, ORDERS + 1):
        customer = chance.choice([*range(1, 30), *[chance.randint(31, CUSTOMERS - 1)] * 20])
        if customer % 100 == 0 or customer in (31, 77, 123, 201, 345, 456, 500, 600, 700, 800):
            customer += 1
        day = f"{chance.randint(1, 28):02}.{chance.randint(1, 12):02}.{2019 if n <= ORDERS // 3 else 2020}"
        time = f"{chance.randint(8, 19):02}:{chance.randint(0, 59):02}"
        total = _money(chance)
        if n == 4_444:
            day, time = "29.03.2020", "02:30"  # the hour that daylight saving skipped
        elif n == 5_555:
            total = "-12,00"
        elif n == 6_666:
            customer = 999_999
        articles = "|".join(chance.sample(_ARTICLES, chance.randint(1, 3)))
        yield _line(
            str(n),
            f"{customer:06}",
            f"{day} {time}",
            total,
            articles,
            chance.choice(("Web", "Telefon")),
            chance.choice(_CLERKS if n % 900 else ("weg",)),
        )


def _notes(chance: random.Random) -> Iterator[bytes]:
    yield _line("NotizNr", "KundenNr", "Text")
    for n in range(1, 301):
        body = f"Rückruf {n}\nwünscht „Angebot“; eilig" if n % 3 else "ok"
        if n == 150:
            body = "Protokoll: " + "größer, weiter; " * (NOTE_BYTES // 16)
        yield _line(str(n), f"{chance.randint(1, 29):06}", body)


# ------------------------------------------------------------------------------------------------------- Excel and XML

_CLERKS = ("kl", "mb", "sa", "tr", "uw", "zz")


def _workbook(chance: random.Random) -> bytes:
    """Articles under two rows of merged headers, with cells that hold errors; employees, who have bosses among them."""
    import openpyxl  # slow to import

    book = openpyxl.Workbook()
    del book["Sheet"]
    sheet = book.create_sheet("Artikel")
    sheet["A1"] = "Artikelstamm, Stand Dezember 2020"
    sheet.merge_cells("A1:E1")
    for cell, text in (
        ("A3", "Artikel"),
        ("C3", "Preis"),
        ("A4", "Nr"),
        ("B4", "Name"),
        ("C4", "Netto"),
        ("D4", "MwSt"),
    ):
        sheet[cell] = text
    sheet["E4"] = "Lieferbar ab"
    sheet.merge_cells("A3:B3")
    sheet.merge_cells("C3:D3")
    for n in range(1, ARTICLES + 1):
        net: object = round(chance.uniform(1, 400), 2)
        if n in (17, 203):
            net = "#N/A"
        elif n == 101:
            net = "auf Anfrage"
        sheet.append(
            [
                str(n) if n % 9 == 4 else n,  # numbers stored as text
                f"{chance.choice(_ARTICLES)} Nr. {n}",
                net,
                0.19 if n % 5 else 0.07,
                date(2020, 1, 1) + timedelta(days=n % 300) if n % 3 else None,
            ]
        )
    people = book.create_sheet("Mitarbeiter")
    people.append(["Kürzel", "Name", "Chef", "Eintritt"])
    for code, boss in zip(_CLERKS, ("tr", "kl", "kl", None, "xx", "sa"), strict=True):
        people.append([code, f"{chance.choice(_FIRST)} {chance.choice(_LAST)}", boss, date(2001, 4, 1 + len(code))])
    made, again = io.BytesIO(), io.BytesIO()
    book.save(made)
    with zipfile.ZipFile(made) as files, zipfile.ZipFile(again, "w", zipfile.ZIP_DEFLATED) as fixed:
        for name in files.namelist():  # both keep the time at which they were written
            content = re.sub(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", b"2020-12-31T00:00:00Z", files.read(name))
            fixed.writestr(zipfile.ZipInfo(name, (2020, 12, 31, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return again.getvalue()


def _deliveries(chance: random.Random) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="UTF-8"?>\n<lieferungen stand="2020-12-31">\n'
    for n in range(1, DELIVERIES + 1):
        order = n * 10 if n != 77 else 888_888
        day = f"2020-{n % 12 + 1:02}-{n % 27 + 1:02}" if n % 4 else f"{n % 27 + 1:02}.{n % 12 + 1:02}.2020"
        yield f'  <lieferung nr="{n}" bestellung="{order}">\n    <datum>{day}</datum>\n'
        yield f"    <fahrer>{chance.choice(_FIRST)} &amp; Söhne</fahrer>\n" if n % 7 else "    <fahrer/>\n"
        for item in range(chance.randint(1, 3)):
            article = chance.randint(1, ARTICLES)
            while article in (17, 101, 203):
                article += 1
            article = 9_999 if (n, item) == (33, 0) else article
            quantity = "-1" if (n, item) == (44, 0) else chance.randint(1, 20)
            yield f'    <position artikel="{article}">{quantity}</position>\n'
        # in number 150 an end tag is missing
        yield "  </lieferung>\n" if n != 150 else "  </leiferung>\n"
    yield "</lieferungen>\n"
