"""`migrate init`: a first project file that can be checked and run as it stands."""

import gzip

import pytest

from e2e.rig import Rig
from mappings.ddl import too_wide


def test_what_it_writes_runs(rig: Rig) -> None:
    rig.write("landing/customers.csv", "Nr;Name;Born\n1;Jürgen;01.02.1990\n2;Zoé;28.12.1991\n".encode("cp1252"))
    rig.write("landing/orders.tsv.gz", gzip.compress(b"id\tprice\n1\t2.50\n2\t13.75\n"))
    rig.write("landing/readme.md", "not data")
    said = rig.migrate("init", "landing", "--migration", "acme").out
    assert "landing/customers.csv: cp1252 (detected), delimiter ';' (detected), 3 columns" in said
    assert "2 tables" in said
    assert (rig.folder / "migrate.schema.json").exists()
    rig.migrate("check")
    rig.migrate("run")
    rig.migrate("verify")
    assert rig.sql("SELECT nr, name, born::text FROM customers ORDER BY 1") == [
        (1, "Jürgen", "1990-02-01"),
        (2, "Zoé", "1991-12-28"),
    ]
    assert rig.sql("SELECT id, price::text FROM orders ORDER BY 1") == [(1, "2.50"), (2, "13.75")]


def test_a_project_file_is_not_overwritten_unless_that_is_meant(rig: Rig) -> None:
    rig.write("a.csv", "x\n1\n")
    rig.write("migrate.yaml", "mine")
    assert "exists already" in rig.migrate("init", "a.csv", code=2).err
    assert (rig.folder / "migrate.yaml").read_text() == "mine"
    rig.migrate("init", "a.csv", "--yes")
    assert "from: files.a" in (rig.folder / "migrate.yaml").read_text()
    rig.migrate("init", "a.csv", "-o", "other.yaml")
    assert (rig.folder / "other.yaml").exists()


@pytest.mark.parametrize(
    ("files", "arguments", "code", "said"),
    [
        ({}, ["nothing.csv"], 2, "nothing.csv does not exist"),
        ({"folder/notes.md": "x"}, ["folder"], 2, "no files to read"),
        ({"empty.csv": ""}, ["empty.csv"], 6, "empty.csv is empty"),
        ({"a/t.csv": "x\n1\n", "b/t.csv": "x\n2\n"}, ["a/t.csv", "b/t.csv"], 2, "would both be the table 't'"),
    ],
)
def test_what_it_cannot_do_it_says(rig: Rig, files: dict[str, str], arguments: list[str], code: int, said: str) -> None:
    for name, content in files.items():
        rig.write(name, content)
    assert said in rig.migrate("init", *arguments, code=code).err
    assert not (rig.folder / "migrate.yaml").exists()


def test_a_table_with_more_columns_than_the_target_takes_is_named(rig: Rig) -> None:
    names = [f"c{n}" for n in range(1601)]
    rig.write("wide.csv", ",".join(names) + "\n1" + "," * 1600 + "\n")
    wrong = "1,601 columns, and PostgreSQL takes 1,600 at most"
    assert f"wide: {wrong}. Leave some out" in rig.migrate("init", "wide.csv").out
    written = (rig.folder / "migrate.yaml").read_text()
    assert f"# {wrong}" in written.partition("  wide:")[2]
    line = written.splitlines().index("  wide:") + 1
    for command, code in (("check", 3), ("run", 2)):
        assert (
            f'migrate.yaml:{line}:3: table "wide" has {wrong}. Leave some out' in rig.migrate(command, code=code).said
        )
    assert too_wide(1600) == ""


def test_a_file_with_a_header_only_is_a_table_without_rows(rig: Rig) -> None:
    rig.write("t.csv", "a;b\n")
    rig.migrate("init", "t.csv")
    rig.migrate("run")
    assert rig.value("SELECT count(*) FROM t") == 0
