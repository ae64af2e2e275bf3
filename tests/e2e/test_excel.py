"""Workbooks from the first project file to the verified table, with their rejects and a fixed file."""

import datetime as dt

import openpyxl

from e2e.rig import Rig

HEAD = ("Nr", "Name", "Geboren", "Umsatz", "Aktiv", "Seriell")


def workbook(rig: Rig, name: str, rows: list[tuple[object, ...]], sheet: str = "Kunden") -> None:
    book = openpyxl.Workbook()
    page = book.active
    page.title = sheet
    page.append(["Kundenliste"])
    page.append([])
    for values in (HEAD, *rows):
        page.append(list(values))
    hidden = book.create_sheet("Intern")
    hidden.append(["x"])
    hidden.sheet_state = "hidden"
    book.save(rig.folder / name)


ROWS: list[tuple[object, ...]] = [
    (1, "Jürgen & Söhne", dt.date(1990, 2, 1), 12.5, True, 43861),
    (2, "Zoé", dt.date(1991, 12, 28), "#N/A", False, "43861.5"),
    (3, "007", None, -0.1, None, None),
    (4, "Ann", dt.datetime(2000, 1, 1, 12, 30), 7, True, 60),
]

PROJECT = """
migration: acme
target: ${env:TARGET_URL}
sources:
  book:
    excel: "*.xlsx"
    tables:
      kunden: {sheet: Kunden, header: 3}
tables:
  customers:
    from: book.kunden
    key: Nr
    max_rejects: 5
    columns:
      nr: {value: Nr, type: bigint}
      name: Name
      born: {value: Geboren, type: timestamp}
      amount: {value: Umsatz, type: "numeric(10,2)"}
      active: parse_bool(Aktiv)
      seen: excel_date(Seriell)
"""


def test_a_sheet_that_no_table_reads_is_named_by_check_plan_and_run(rig: Rig) -> None:
    workbook(rig, "crm.xlsx", ROWS[:1])
    book = openpyxl.load_workbook(rig.folder / "crm.xlsx")
    book.create_sheet("Kunden 2").append(["not", "read"])
    book.save(rig.folder / "crm.xlsx")
    rig.write("migrate.yaml", PROJECT)
    for command in ("check", "plan", "run"):
        assert "crm.xlsx: no table reads sheet 'Kunden 2', where something stands" in rig.migrate(command).said


def test_a_workbook_is_loaded_verified_and_its_bad_rows_replayed(rig: Rig) -> None:
    workbook(rig, "crm.xlsx", ROWS)
    rig.write("migrate.yaml", PROJECT)
    said = rig.migrate("check").out
    assert "crm.xlsx: sheet 'Kunden', header in row 3, columns A to F (6)" in said
    rig.migrate("run")
    rig.migrate("verify")
    assert rig.fates("customers") == (4, 2, 0, 0, 2)
    assert rig.sql("SELECT nr, name, born::text, amount::text, active, seen::text FROM customers ORDER BY 1") == [
        (1, "Jürgen & Söhne", "1990-02-01 00:00:00", "12.50", True, "2020-01-31 00:00:00"),
        (3, "007", None, "-0.10", None, None),
    ]
    listed = rig.migrate("rejects", "list", "--output", "json").json()
    assert {(r["rule"], r["locator"].get("cell") or r["locator"]["cells"]) for r in listed} == {
        ("cell", "D5"),
        ("type", "A7:F7"),
    }
    shown = rig.migrate("rejects", "show", str(min(r["id"] for r in listed))).out
    assert "crm.xlsx[Kunden!D5]" in shown
    assert "#N/A in Umsatz (Kunden!D5)" in shown
    mended = [ROWS[0], (*ROWS[1][:3], 8, *ROWS[1][4:]), ROWS[2], (*ROWS[3][:5], 61)]
    (rig.folder / "fixed").mkdir()
    workbook(rig, "fixed/crm.xlsx", mended)
    rig.migrate("rejects", "replay", "--from", "fixed/crm.xlsx", "--yes")
    assert rig.sql("SELECT nr, amount::text, seen::text FROM customers WHERE nr IN (2, 4) ORDER BY 1") == [
        (2, "8.00", "2020-01-31 12:00:00"),
        (4, "7.00", "1900-03-01 00:00:00"),
    ]


def test_a_bad_row_of_a_table_without_a_key_is_replayed_by_its_row(rig: Rig) -> None:
    workbook(rig, "crm.xlsx", ROWS[:3])
    rig.write("migrate.yaml", PROJECT.replace("    key: Nr\n", ""))
    rig.migrate("run")
    (rig.folder / "fixed").mkdir()
    workbook(rig, "fixed/crm.xlsx", [ROWS[0], (*ROWS[1][:3], 8, *ROWS[1][4:]), ROWS[2]])
    rig.migrate("rejects", "replay", "--from", "fixed/crm.xlsx", "--yes")
    assert rig.sql("SELECT nr, amount::text FROM customers ORDER BY 1") == [(1, "12.50"), (2, "8.00"), (3, "-0.10")]


def test_a_workbook_that_changed_is_refused_and_a_restart_takes_it(rig: Rig) -> None:
    workbook(rig, "crm.xlsx", ROWS)
    rig.write("migrate.yaml", PROJECT)
    rig.migrate("plan")
    rig.migrate("run")
    workbook(rig, "crm.xlsx", ROWS[:3])
    ended = rig.try_("verify")
    assert "crm.xlsx" in ended.said
    assert ended.code != 0
    assert "Traceback" not in ended.said


def test_what_init_writes_for_workbooks_and_text_runs(rig: Rig) -> None:
    book = openpyxl.Workbook()
    book.active.title = "Kunden 2020"
    for values in (("Nr", "Name", "Geboren"), (1, "Jürgen", dt.date(1990, 2, 1)), (2, "Zoé", dt.date(1991, 12, 28))):
        book.active.append(values)
    other = book.create_sheet("Orte")
    other.append(["ort"])
    other.append(["Ulm"])
    (rig.folder / "landing").mkdir()
    book.save(rig.folder / "landing" / "crm.xlsx")
    rig.write("landing/orders.csv", "id,price\n1,2.50\n")
    said = rig.migrate("init", "landing", "--migration", "acme").out
    assert "landing/crm.xlsx: sheet 'Kunden 2020', header in row 1, columns A to C (3)" in said
    assert "3 tables" in said
    written = (rig.folder / "migrate.yaml").read_text()
    assert "  excel:\n    excel:\n      - landing/crm.xlsx\n" in written
    assert "from: excel.Kunden 2020" in written
    rig.migrate("check")
    rig.migrate("run")
    rig.migrate("verify")
    assert rig.sql("SELECT nr, name, geboren::text FROM kunden_2020 ORDER BY 1") == [
        (1, "Jürgen", "1990-02-01"),
        (2, "Zoé", "1991-12-28"),
    ]
    assert rig.sql("SELECT id, price::text FROM orders") == [(1, "2.50")]


def test_a_sheet_that_is_missing_is_said_with_those_there_are(rig: Rig) -> None:
    workbook(rig, "crm.xlsx", ROWS)
    rig.write("migrate.yaml", PROJECT.replace("sheet: Kunden", "sheet: Kundne"))
    ended = rig.migrate("check", code=3)
    assert "crm.xlsx has no sheet 'Kundne'" in ended.said
    assert "did you mean 'Kunden'? There are: 'Kunden', 'Intern' (hidden)" in ended.said
