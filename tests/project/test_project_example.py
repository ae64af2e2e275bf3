"""The example, and what `migrate init` would write for its files, compile and give each row the fate that they say."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mappings.compile import Context, compile_table
from mappings.mapper import Mapper
from mappings.scaffold import Draft, scaffold
from migrate.core import Step
from migrate.project import Project, load, open_source

SHOP = Path(__file__).parent.parent.parent / "examples" / "shop"
ENVIRON = {"TARGET_URL": "postgresql://db/shop"}


def steps(project: Project, name: str) -> Iterator[Step]:
    spec = project.spec.tables[name]
    source = open_source(project, spec.origins[0][0])
    table = source.schema(spec.source_table)
    context = Context(
        project.spec.migration, project.spec.path, project.spec.timezone, project.lookups, project.functions
    )
    mapping = compile_table(spec, table, None, context)
    mapper = Mapper(mapping, context)
    for partition in source.partitions(table, rows=1000, bytes=1 << 20):
        for batch in source.read(partition, mapping.reads):
            yield mapper(batch)
    mapper.close()


def test_the_rows_of_the_example() -> None:
    project = load(SHOP, ENVIRON)
    (customers,) = steps(project, "customers")
    assert customers.rows.column("name").to_pylist() == ["Jürgen Weiß", "Zoé Martin"]
    assert customers.rows.column("legacy_id").to_pylist() == ["007", "008"]
    assert customers.rows.column("country").to_pylist() == ["Germany", "France"]
    assert customers.filtered.tolist() == [2]
    assert [(reject.ordinal, reject.column) for reject in customers.rejects] == [(3, "born")]
    (orders,) = steps(project, "orders")
    assert orders.rows.column("note").to_pylist() == ["BITTE KLINGELN", "NONE", "ZEILE EINS\r\nZEILE ZWEI"]
    assert [float(total) for total in orders.rows.column("total").to_pylist()] == [1234.5, 12.0, -3.1]


def test_what_init_writes_for_the_example_loads_it(tmp_path: Path) -> None:
    source = open_source(load(SHOP, ENVIRON), "crm")
    samples = []
    for name in source.tables():
        table = source.schema(name)
        partition = next(iter(source.partitions(table, rows=1000, bytes=1 << 20)))
        samples.append((name, table, next(iter(source.read(partition, table.schema.names))).rows))
    files = {name: [str(SHOP / "landing" / f"{name}.csv")] for name in source.tables()}
    (tmp_path / "migrate.yaml").write_text(scaffold("shop", [Draft("crm", "files", files, samples)]), encoding="utf-8")
    project = load(tmp_path, ENVIRON)
    (customers,) = steps(project, "customers")
    assert (customers.rows.num_rows, len(customers.rejects)) == (3, 1)
    (orders,) = steps(project, "orders")
    assert (orders.rows.num_rows, len(orders.rejects)) == (3, 0)


def test_a_fault_inside_an_expression_is_told_where_the_word_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (SHOP / "migrate.yaml").read_text(encoding="utf-8").replace("coalesce(Note,", "coalesce(Notes,")
    for file in ("countries.csv", "functions.py"):
        (tmp_path / file).write_bytes((SHOP / file).read_bytes())
    text = text.replace("landing/", f"{SHOP}/landing/")
    (tmp_path / "migrate.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    line = next(number for number, line in enumerate(text.splitlines(), 1) if "Notes" in line)
    column = text.splitlines()[line - 1].index("Notes") + 1
    with pytest.raises(Exception, match=rf'^migrate.yaml:{line}:{column}: .*Notes.*Did you mean "Note"\?'):
        list(steps(load(None, ENVIRON), "orders"))
