"""Several source tables as one: what is read, told and refused."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.delimited import open_files
from connectors.union import Union
from migrate.core import Batch, Partition, Source, Table
from migrate.errors import SourceError, UsageError


def files(folder: Path, **texts: str) -> Source:
    for name, text in texts.items():
        (folder / f"{name}.csv").write_text(text)
    return open_files({name: [f"{name}.csv"] for name in texts}, {"delimiter": ","}, folder)


def union(source: Source, *tables: str) -> Union:
    return Union([(f"s.{table}", source, source.schema(table)) for table in tables])


def cut(source: Union, size: int = 1 << 20) -> list[Partition]:
    return list(source.partitions(source.schema(source.name), rows=1 << 40, bytes=size))


def read(source: Source, partitions: Sequence[Partition], columns: Sequence[str]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for partition in partitions:
        for batch in source.read(partition, columns):
            assert batch.rows.schema.names == list(columns)
            fates = sorted([*batch.ordinals.tolist(), *(r.ordinal for r in batch.rejects)])
            assert fates == list(range(source.count(partition)))  # type: ignore[attr-defined]
            rows += batch.rows.to_pylist()
    return rows


def test_columns_stand_side_by_side_and_rows_one_after_the_other(tmp_path: Path) -> None:
    both = union(files(tmp_path, a="id,Name\n1,x\n2,y\n", b="town,NAME\nKöln,z\n"), "a", "b")
    assert both.tables() == ("s.a + s.b",)
    table = both.schema("s.a + s.b")
    assert table.schema.names == ["id", "Name", "town", "_source"]
    assert any("s.b: without id: NULL there" in note for note in table.notes)
    assert any(note.startswith("s.a: a.csv: utf-8") for note in table.notes)
    assert read(both, cut(both), ["_source", "town", "Name", "id"]) == [
        {"_source": "s.a", "town": None, "Name": "x", "id": "1"},
        {"_source": "s.a", "town": None, "Name": "y", "id": "2"},
        {"_source": "s.b", "town": "Köln", "Name": "z", "id": None},
    ]
    assert read(both, cut(both), ["town"]) == [{"town": None}, {"town": None}, {"town": "Köln"}]
    assert read(both, cut(both), ["_source"])[2] == {"_source": "s.b"}


cells = st.text(st.sampled_from('x"\n, é'), max_size=4)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.tuples(cells, cells), max_size=6), min_size=2, max_size=3), st.integers(1, 60))
def test_the_partitions_tile_the_parts_and_read_the_same_again(
    tmp_path: Path, tables: list[list[tuple[str, str]]], size: int
) -> None:
    def text(rows: list[tuple[str, str]]) -> str:
        fields = [",".join('"' + value.replace('"', '""') + '"' for value in row) for row in rows]
        return "\n".join(["a,b", *fields, ""])

    names = [f"t{n}" for n in range(len(tables))]
    source = files(tmp_path, **dict(zip(names, map(text, tables), strict=True)))
    both = union(source, *names)
    partitions = cut(both, size)
    assert [p.ordinal for p in partitions] == list(range(len(partitions)))
    columns = ["a", "b", "_source"]
    expected = [
        dict(zip(columns, (*row, f"s.{name}"), strict=True))
        for name, rows in zip(names, tables, strict=True)
        for row in rows
    ]
    found = read(both, partitions, columns)
    assert found == expected
    again = union(files(tmp_path, **dict(zip(names, map(text, tables), strict=True))), *names)
    assert read(again, partitions[::-1], columns) == [row for p in partitions[::-1] for row in read(both, [p], columns)]
    assert [p.token for p in cut(again, size)] == [p.token for p in partitions]


def test_places_and_rejects_are_those_of_the_part(tmp_path: Path) -> None:
    both = union(files(tmp_path, a="id,n\n1,x\n", b="id,n\n1\n2,y\n"), "a", "b")
    second = cut(both)[1]
    [batch] = both.read(second, ["_source", "id"])
    assert [r.origin.locator["file"] for r in batch.rejects] == ["b.csv"]
    assert batch.locate([1])[0].locator["line"] == 3
    assert json.loads(second.token)["part"] == "s.b"


class Typed:
    """A source of one table of numbers, which cannot count."""

    def tables(self) -> Sequence[str]:
        return ("t",)

    def schema(self, table: str, /) -> Table:
        return Table(table, pa.schema([("n", pa.int64())]))

    def partitions(self, table: Table, /, *, rows: int, bytes: int) -> Iterator[Partition]:
        yield Partition(table.name, 0, "all")

    def read(self, partition: Partition, /, columns: Sequence[str]) -> Iterator[Batch]:
        assert (partition.table, partition.token) == ("t", "all")
        rows = pa.RecordBatch.from_pydict({"n": pa.array([7, 8], pa.int64())})
        yield Batch(rows.select(list(columns)), np.arange(2), lambda ordinals: [])


def test_parts_of_other_types_and_parts_that_cannot_count(tmp_path: Path) -> None:
    typed = Typed()
    source = files(tmp_path, a="id\nx\n", b="N\n1\n")
    both = Union([("db.t", typed, typed.schema("t")), ("s.a", source, source.schema("a"))])
    assert read(both, cut(both), ["n", "id"]) == [{"n": 7, "id": None}, {"n": 8, "id": None}, {"n": None, "id": "x"}]
    with pytest.raises(UsageError, match=r'"n" is int64 in db\.t and string in s\.b') as caught:
        Union([("db.t", typed, typed.schema("t")), ("s.b", source, source.schema("b"))])
    assert "tables of their own" in caught.value.hint


def test_a_part_with_the_column_that_says_where_a_row_is_from_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r's\.a has a column "_Source"'):
        union(files(tmp_path, a="id,_Source\n1,x\n", b="id\n1\n"), "a", "b")


def test_a_part_that_is_not_there_any_more_is_refused(tmp_path: Path) -> None:
    source = files(tmp_path, a="id\n1\n", b="id\n1\n", c="id\n1\n")
    partitions = cut(union(source, "a", "b"))
    with pytest.raises(SourceError, match=r"the plan reads s\.b, which is not among s\.a \+ s\.c"):
        list(union(source, "a", "c").read(partitions[1], ["id"]))


def test_a_column_that_one_part_must_not_read_is_refused_and_never_null(tmp_path: Path) -> None:
    source = files(tmp_path, a="id,Name\n1,x\n", b="id,NAME\n2,z\n")
    masked = replace(source.schema("b"), refused={"NAME": "it is masked"})
    both = Union([("s.a", source, source.schema("a")), ("s.b", source, masked)])
    assert both.schema("s.a + s.b").refused == {"Name": "s.b: it is masked"}
