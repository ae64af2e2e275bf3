"""What files promise is held against them before a row is moved; and several source tables make one target table."""

import gzip

import pytest

from e2e.rig import Rig

HEAD = """\
migration: m
target: ${env:TARGET_URL}
defaults: {max_rejects: 100%}
"""
CUSTOMERS = """\
tables:
  customers:
    from: crm.customers
    columns: {id: KundenNr, name: Name}
    personal: [name]
"""


def project(rig: Rig, source: str, tables: str = CUSTOMERS) -> None:
    rig.write(
        "migrate.yaml", f"{HEAD}sources:\n  crm:\n    {source.strip().replace(chr(10), chr(10) + '    ')}\n{tables}"
    )


def nothing_written(rig: Rig) -> None:
    assert rig.sql("SELECT 1 FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')") == []
    assert rig.sql("SELECT 1 FROM pg_namespace WHERE nspname = 'migrate_ledger'") == []


def lines(rig: Rig, code: int = 0) -> dict[str, tuple[bool, str]]:
    return {r["what"]: (r["ok"], r["said"]) for r in rig.migrate("check", "--output", "json", code=code).json()}


def test_a_trailer_is_held_against_the_rows_before_anything_is_written(rig: Rig) -> None:
    project(rig, r"files: {customers: 'c_*.csv'}" + "\ntrailer: '^TRL;(?P<rows>\\d+)'")
    rig.write("c_1.csv", gzip.compress("KundenNr;Name\n1;Weiß\n2;Groß\nTRL;2\n".encode("cp1252")))
    rig.write("c_2.csv", "KundenNr;Name\n3;x\nTRL;2\n")
    wrong = "c_2.csv:3: the trailer says 2 records, and the file holds 1"
    assert lines(rig, 3)["customers, layout of crm.customers"][1].startswith(wrong)
    assert wrong in rig.migrate("run", code=6).err
    nothing_written(rig)
    rig.write("c_2.csv", "KundenNr;Name\n3;x\nTRL;1\n")
    assert lines(rig)["customers, layout of crm.customers"] == (True, "trailers as declared")
    rig.migrate("run")
    assert rig.fates("customers") == (3, 3, 0, 0, 0)
    assert [row[0] for row in rig.sql("SELECT name FROM customers ORDER BY id")] == ["Weiß", "Groß", "x"]
    rig.migrate("verify")
    assert rig.migrate("run").code == 0


def test_a_fixed_file_needs_no_trailer(rig: Rig) -> None:
    tables = "tables: {t: {from: crm.t, key: a, columns: {a: {value: a, type: int}, b: {value: b, type: int}}}}"
    project(rig, "files: {t: t.csv}\ntrailer: '^TRL;(?P<rows>\\d+)'", tables)
    rig.write("t.csv", "a;b\n1;1\n2;x\nTRL;2\n")
    rig.migrate("run")
    rig.write("mended.csv", "a;b\n2;2\n")
    rig.migrate("rejects", "replay", "-s", "t", "--from", "mended.csv")
    assert rig.sql("SELECT a, b FROM t ORDER BY a") == [(1, 1), (2, 2)]
    rig.migrate("verify")


def test_all_faults_of_the_columns_of_all_files_are_told_at_once(rig: Rig) -> None:
    expected = "files: {customers: 'c_*.csv'}\nexpect: {customers: {columns: [KundenNr, Name, Geboren, Ort]}}"
    project(rig, expected)
    rig.write("c_1.csv", "KundenNr;Name;Geboren;Ort\n1;a;b;c\n")
    rig.write("c_2.csv", "KundenNr;NAME;Geborn;Ort;Alter\n1;a;b;c;7\n")
    rig.write("c_3.csv", "Name;KundenNr;Geboren\n1;a;b\n")
    told = rig.migrate("run", code=3).err
    assert 'c_2.csv: the column "Name" is spelled "NAME" there' in told
    assert 'no column "Geboren", but "Geborn", which is not expected: was it renamed?' in told
    assert 'a column "Alter" that is not expected' in told
    assert 'c_3.csv: no column "Ort"; another order of columns: "Name" stands where "KundenNr" should' in told
    assert "c_1.csv" not in told
    nothing_written(rig)
    ok, said = lines(rig, 3)["customers, layout of crm.customers"]
    assert not ok
    assert said.count("\n") == 1
    for name in ("c_2.csv", "c_3.csv"):
        rig.write(name, "Name;KundenNr;Geboren;Ort\n1;2;3;4\n")
    assert "another order" in rig.migrate("run", code=3).err
    project(rig, expected.replace("Ort]", "Ort], any_order: true"))
    assert lines(rig)["customers, layout of crm.customers"] == (True, "4 columns as expected")
    rig.migrate("run")
    assert rig.fates("customers") == (3, 3, 0, 0, 0)


TYPED = """\
files: {customers: 'c_*.csv'}
encoding: utf-8
expect:
  customers:
    columns: {KundenNr: integer, Name: varchar(4), Geboren: date DD.MM.YYYY, Saldo: decimal de, Rest: text}
"""


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_every_value_is_held_against_its_type(rig: Rig, jobs: str) -> None:
    project(rig, TYPED)
    rows = [f"{n};abcd;01.02.19{n % 90 + 10};1.234,50 €;" for n in range(100)]
    rig.write("c_1.csv", "\n".join(["KundenNr;Name;Geboren;Saldo;Rest", *rows]) + "\n")
    assert lines(rig)["customers, layout of crm.customers"] == (
        True,
        "5 columns as expected; 100 rows; 400 values fit their types",
    )
    rows[7] = "x7;abcd;31.02.1990;1.23,4;"
    rows[8] = ";Müller;;;"
    rows[50:57] = [f"{n};abcd;1990-01-01;1;" for n in range(7)]
    rows[90] = "1;2"
    rig.write("c_1.csv", "\n".join(["KundenNr;Name;Geboren;Saldo;Rest", *rows]) + "\n")
    rig.write("c_2.csv", "KundenNr;Name;Geboren;Saldo;Rest\n1.0;abcd;;;\n")
    told = rig.migrate("run", "-j", jobs, code=3).err
    assert "crm.customers: column KundenNr: 1 value is not integer: c_1.csv:9 'x7'" in told
    assert "column Name: 1 value is not varchar(4): c_1.csv:10 (personal)" in told
    assert "Müller" not in told
    assert "column Geboren: 8 values are not date DD.MM.YYYY: c_1.csv:9 '31.02.1990', c_1.csv:52 '1990-01-01'" in told
    assert "c_1.csv:55 '1990-01-01', …" in told
    assert "column Saldo: 1 value is not decimal de: c_1.csv:9 '1.23,4'" in told
    nothing_written(rig)
    project(rig, TYPED + "    severity: warning\n")
    assert "column Geboren: 8 values" in rig.migrate("run").err
    assert rig.fates("customers")[0] == 101
    # What is loaded already is not looked at again.
    assert "Geboren" not in rig.migrate("run").err


def test_rows_are_counted_in_all_files_together(rig: Rig) -> None:
    def expecting(rows: str) -> None:
        project(rig, f"files: {{customers: 'c_*.csv'}}\nexpect: {{customers: {{rows: {rows}}}}}")

    rig.write("c_1.csv", 'KundenNr;Name\n1;a\n2;"b\nc"\n')
    rig.write("c_2.csv", "KundenNr;Name\n\n3;c;broken\n")
    expecting("4")
    assert "crm.customers: 3 rows, and 4 are expected" in rig.migrate("run", code=3).err
    nothing_written(rig)
    expecting("{least: 3, most: 3}")
    assert lines(rig)["customers, layout of crm.customers"] == (True, "3 rows")


def test_a_source_that_grew_is_looked_at_again(rig: Rig) -> None:
    project(rig, "files: {customers: 'c_*.csv'}\nexpect: {customers: {rows: {most: 2}}}")
    rig.write("c_1.csv", "KundenNr;Name\n1;a\n")
    rig.migrate("run")
    rig.write("c_2.csv", "KundenNr;Name\n2;a\n3;a\n")
    assert "3 rows, and at most 2 are expected" in rig.migrate("run", code=3).err
    assert rig.fates("customers") == (1, 1, 0, 0, 0)


# ---------------------------------------------------------------------------------------------------- several sources

UNION = """\
migration: m
target: ${env:TARGET_URL}
defaults: {max_rejects: 100%}
sources:
  crm: {files: {customers: "c_*.csv"}, delimiter: ";"}
  erp: {files: {kunden: k.csv}, delimiter: ",", encoding: cp1252}
tables:
  customers:
    from: [crm.customers, erp.kunden]
    key: nr
    columns:
      id: {value: nr, type: int, null: false}
      name: name
      city: town
      origin: _source
"""


def test_several_source_tables_make_one_target_table(rig: Rig) -> None:
    rig.write("migrate.yaml", UNION)
    rig.write("c_1.csv", "nr;name\n1;a\n2;b\nx;c\n")
    rig.write("k.csv", "Name,town,nr\nWeiß,Köln,10\n,Bonn,y\nGroß,,11\n".encode("cp1252"))
    plan = rig.migrate("plan", "--output", "json").json()
    assert plan["levels"][0][0]["source"] == "crm.customers + erp.kunden"
    assert "erp.kunden: k.csv: cp1252 (given)" in lines(rig)["customers, source"][1]
    rig.migrate("run", "--batch-bytes", "10B")
    assert rig.fates("customers") == (6, 4, 0, 0, 2)
    assert rig.sql("SELECT id, name, city, origin FROM customers ORDER BY id") == [
        (1, "a", None, "crm.customers"),
        (2, "b", None, "crm.customers"),
        (10, "Weiß", "Köln", "erp.kunden"),
        (11, "Groß", None, "erp.kunden"),
    ]
    listed = rig.migrate("rejects", "list", "--output", "json").json()
    assert [(r["locator"]["file"], r["locator"]["line"], r["key"]) for r in listed] == [
        ("c_1.csv", 4, "nr=x"),
        ("k.csv", 3, "nr=y"),
    ]
    rig.migrate("verify")
    # A new file of the first source comes after what is loaded already.
    rig.write("c_2.csv", "nr;name\n3;later\n")
    rig.migrate("run")
    assert rig.fates("customers") == (7, 5, 0, 0, 2)
    rig.migrate("verify")


def test_how_any_of_the_sources_is_read_is_part_of_what_was_loaded(rig: Rig) -> None:
    rig.write("migrate.yaml", UNION)
    rig.write("c_1.csv", "nr;name\n1;a\n")
    rig.write("k.csv", "Name,town,nr\nWeiß,Köln,10\n".encode("cp1252"))
    rig.migrate("run")
    for change in (("cp1252", "latin-1"), ("[crm.customers, erp.kunden]", "[erp.kunden, crm.customers]")):
        rig.write("migrate.yaml", UNION.replace(*change))
        assert "changed since it was loaded" in rig.migrate("run", code=4).err


def test_a_killed_run_over_several_sources_goes_on_where_it_stopped(rig: Rig) -> None:
    rig.write("migrate.yaml", UNION)
    rig.write("c_1.csv", "nr;name\n" + "".join(f"{n};a\n" for n in range(100)))
    rig.write("k.csv", "name,town,nr\n" + "".join(f"a,b,{n}\n" for n in range(100, 200)))
    killed = rig.killed_at("committed", 4, "run", "--batch-bytes", "200B", "-j", "1")
    assert killed.code == -9, killed.said
    assert 0 < rig.fates("customers")[1] < 200
    rig.migrate("run")
    assert rig.fates("customers") == (200, 200, 0, 0, 0)
    rig.migrate("verify")


def test_rejects_of_several_sources_are_replayed_where_they_stood(rig: Rig) -> None:
    rig.write("migrate.yaml", UNION)
    rig.write("c_1.csv", "nr;name\n1;a\n")
    rig.write("k.csv", "name,town,nr\nb,,2\n")
    rig.sql("CREATE TABLE cities (town text PRIMARY KEY)")
    rig.sql("CREATE TABLE customers (id int NOT NULL, name text, city text, origin text REFERENCES cities)")
    rig.sql("INSERT INTO cities VALUES ('crm.customers')")
    rig.migrate("run")
    assert rig.fates("customers") == (2, 1, 0, 0, 1)
    rig.sql("INSERT INTO cities VALUES ('erp.kunden')")
    rig.migrate("rejects", "replay", "-s", "customers")
    assert rig.fates("customers") == (2, 2, 0, 0, 0)
    rig.migrate("verify")


def test_a_fixed_file_mends_the_rows_of_one_of_the_sources(rig: Rig) -> None:
    """Also where a loaded row of the other one has the same key, or stands on the same line."""
    rig.write(
        "migrate.yaml",
        UNION.replace("      id: {value: nr, type: int, null: false}", "      id: nr\n      n: town::int"),
    )
    rig.write("c_1.csv", "nr;name;town\n1;a;x\n2;b;7\n")
    rig.write("k.csv", "name,town,nr\nc,8,1\nd,y,2\ne,z,3\n")
    rig.migrate("run")
    assert rig.fates("customers") == (5, 2, 0, 0, 3)
    rig.write("mended.csv", "NAME,town,nr\nd,12,2\ne,13,3\n")
    replay = ("rejects", "replay", "-s", "customers", "--from", "mended.csv")
    told = rig.migrate(*replay, code=2).err
    assert "customers is read from 2 source tables, and mended.csv does not say which of them it mends" in told
    assert "--source crm.customers or --source erp.kunden" in told
    assert "It is read from crm.customers and erp.kunden." in rig.migrate(*replay, "--source", "erp.k", code=2).err
    assert "Name the file" in rig.migrate(*replay[:-2], "--source", "erp.kunden", code=2).err
    rig.write("lacking.csv", "name,nr\nd,2\n")
    lacking = (*replay[:-1], "lacking.csv", "--source", "erp.kunden")
    assert "lacking.csv: column town is missing" in rig.migrate(*lacking, code=2).err
    assert "2 of 3 open rejects replayed" in rig.migrate(*replay, "--source", "erp.kunden").out
    assert rig.sql("SELECT id, n, origin FROM customers ORDER BY n") == [
        ("2", 7, "crm.customers"),
        ("1", 8, "erp.kunden"),
        ("2", 12, "erp.kunden"),
        ("3", 13, "erp.kunden"),
    ]
    assert rig.fates("customers") == (5, 4, 0, 0, 1)
    rig.migrate("verify")


def test_expectations_are_held_against_each_of_the_sources(rig: Rig) -> None:
    expect = "encoding: cp1252, expect: {kunden: {rows: 5, columns: {name: text, town: text, nr: integer}}}"
    rig.write("migrate.yaml", UNION.replace("encoding: cp1252", expect))
    rig.write("c_1.csv", "nr;name\nx;a\n")
    rig.write("k.csv", "name,town,nr\nb,,z\n")
    told = rig.migrate("run", code=3).err
    assert "erp.kunden: 1 row, and 5 are expected" in told
    assert "erp.kunden: column nr: 1 value is not integer: k.csv:2 'z'" in told
