"""Ways for these tests to map a few rows and look at what became of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from mappings import compile as compiling
from mappings.compile import Context, compile_table
from mappings.mapper import Mapper
from mappings.spec import ColumnSpec, Mark, TableSpec
from mappings.spelling import parse_type
from migrate.core import Batch, Check, Column, Origin, Step, Table, TargetTable


def context(
    lookups: Mapping[str, Mapping[str, str]] | None = None, functions=None, timezone: str | None = None, **kw
) -> Context:
    options = {"migration": "acme", "path": Path("migrate.yaml"), **kw}
    return Context(timezone=timezone, lookups=lookups or {}, functions=functions or {}, **options)


def column(name: str, written: str, *, nullable: bool = True, labels: tuple[str, ...] = (), **kw) -> Column:
    spelled, base, modifier = parse_type(written)
    return Column(name, spelled, base, modifier, nullable, labels=labels, **kw)


def target(*columns: Column, checks: Sequence[Check] = ()) -> TargetTable:
    return TargetTable("public", "t", columns, checks=tuple(checks))


def table_spec(columns: Mapping[str, str], **kw) -> TableSpec:
    """Column n stands in line 10 + n of the project file, its expression at column 9."""
    specs = tuple(ColumnSpec(name, text, Mark(10 + i, 9)) for i, (name, text) in enumerate(columns.items()))
    return TableSpec("t", (("crm", "t"),), "public", "t", specs, Mark(5, 3), **{"where_mark": Mark(7, 12), **kw})


def texts(**columns: Sequence[str | None]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({name: pa.array(values, pa.string()) for name, values in columns.items()})


def batch_of(rows: pa.RecordBatch, first: int = 0) -> Batch:
    def locate(ordinals: Sequence[int]) -> list[Origin]:
        return [Origin({"line": n}, f"row {n}".encode()) for n in ordinals]

    return Batch(rows, np.arange(first, first + rows.num_rows, dtype=np.int64), locate)


def compiled(rows: pa.RecordBatch | pa.Schema, columns: Mapping[str, str], to: TargetTable | None, ctx=None, **kw):
    schema = rows if isinstance(rows, pa.Schema) else rows.schema
    return compile_table(table_spec(columns, **kw), Table("t", schema), to, ctx or context())


def mapped(
    rows: pa.RecordBatch, columns: Mapping[str, str], to: TargetTable | None = None, ctx: Context | None = None, **kw
) -> Step:
    """Map one batch; the laws that hold for every step are checked on the way."""
    ctx = ctx or context()
    mapping = compiled(rows, columns, to, ctx, **kw)
    mapper = Mapper(mapping, ctx)
    try:
        step = mapper(batch_of(rows))
    finally:
        mapper.close()
    assert step.rows.schema.equals(mapping.schema)
    fates = [*step.ordinals, *step.filtered, *step.merged, *(r.ordinal for r in step.rejects)]
    assert sorted(fates) == list(range(rows.num_rows)), "the ordinals do not partition the batch"
    assert list(step.ordinals) == sorted(step.ordinals), "rows changed their order"
    assert step.read == rows.num_rows
    return step


def one(value: str | None, written: str, expression: str = "x", ctx: Context | None = None, **kw):
    """What a single text becomes in a column: ("row", value) or ("reject", rule)."""
    step = mapped(texts(x=[value]), {"c": expression}, target(column("c", written, **kw)), ctx)
    if step.rejects:
        return "reject", step.rejects[0].rule
    found = step.rows.column(0)
    if pa.types.is_temporal(found.type):  # Python's own dates end in the year 9999
        found = found.cast(pa.int32() if pa.types.is_date32(found.type) else pa.int64())
    return "row", found[0].as_py()


def slowly(monkeypatch) -> None:
    """Switch the Arrow short cuts off, so that every value goes through DuckDB's screens."""
    monkeypatch.setattr(compiling, "direct", lambda *_: None)
