"""What has changed since a table was planned: its source, its target, its mapping; said before a row is moved."""

import re
from collections.abc import Collection, Iterable, Sequence

import pyarrow as pa

from mappings.compile import Mapping
from mappings.spec import TableSpec
from migrate import ledger
from migrate.core import Column, Described, Description, Finding, ForeignKey, Table, TargetTable, suggested
from migrate.errors import FindingsError
from migrate.ledger import TableState
from migrate.target import Connection
from validators import drift as comparing


def source(table: Table, rows: int) -> Description:
    """A source table as it stands; `rows`: its engine's estimate, 0 where it has none."""
    key = {"key": ", ".join(table.key)} if table.key else {}
    return Description({f.name: _field(f) for f in table.schema}, key, rows)


def _field(field: pa.Field) -> Described:
    kind = str(field.type)
    return Described(kind, suggested(field) or _SHOWN.get(kind, kind), field.nullable)


_SHOWN = {
    "string": "text",
    "binary": "bytes",
    "bool": "boolean",
    "int16": "smallint",
    "int32": "integer",
    "int64": "bigint",
    "float": "real",
    "double": "double precision",
    "date32[day]": "date",
}
"""What people call Arrow's types."""


def target(table: TargetTable) -> Description:
    """A target table as it stands."""
    rules = {"primary key": ", ".join(table.key)} if table.key else {}
    rules |= {f"unique key ({', '.join(key)})": "" for key in table.uniques if key != table.key}
    rules |= {_title(key): f"references {key.parent} ({', '.join(key.parent_columns)})" for key in table.foreign_keys}
    rules |= {f"check {check.name}": check.expression for check in table.checks}
    return Description({c.name: _column(c) for c in table.columns}, rules)


def _title(key: ForeignKey) -> str:
    return f"foreign key ({', '.join(key.columns)})"


def _column(column: Column) -> Described:
    labels = f" ({', '.join(column.labels)})" if column.labels else ""
    optional = column.nullable or column.has_default or column.generated
    return Described(column.type + labels, column.type + labels, column.nullable, optional)


def save(conn: Connection, migration: str, mapping: Mapping, generation: int, rows: int, made: TargetTable) -> None:
    """Keep what a filling is planned from. `made`: the target table as it is once it is prepared."""
    name = mapping.spec.name
    ledger.save_description(conn, migration, name, generation, "source", source(mapping.source, rows))
    ledger.save_description(conn, migration, name, generation, "target", target(made))
    ledger.save_description(conn, migration, name, generation, "mapping", mapping.parts)


def found(
    conn: Connection,
    migration: str,
    state: TableState,
    spec: TableSpec,
    mapping: Mapping | None,
    source_now: Description,
    target_now: TargetTable | None,
) -> list[Finding]:
    """What has changed at both sides since a table's filling was planned.

    `mapping` is None where it does not compile: then what its text names is taken for what it reads. Of a target that is
    gone, or another one, the plan tells.
    """
    then_source, then_target, _ = ledger.descriptions(conn, migration, state.name, state.generation)
    texts = [spec.where or "", *spec.key, *(c.expression for c in spec.columns)]
    texts += [by.text for c in spec.columns if c.reference is not None for by in c.reference.by]
    packs = any("pack_rest" in text.lower() for text in texts)
    reads: Collection[str] = mapping.reads if mapping is not None else _named(then_source.columns, texts)
    findings = list(comparing.of_source(state.name, spec.came_from, then_source, source_now, reads, packs=packs))
    if target_now is None or target_now.oid != state.oid:
        return findings
    references = mapping.references if mapping is not None and state.created else ()
    ours = {f"foreign key ({', '.join(r.columns)})" for r in references}
    mapped, loading = [c.name for c in spec.columns], state.phase != "finalized"
    return findings + list(
        comparing.of_target(
            state.name, state.target, then_target, target(target_now), mapped, loading=loading, ours=ours
        )
    )


def _named(columns: Iterable[str], texts: Sequence[str]) -> set[str]:
    """The columns whose names stand in some texts."""
    return {c for c in columns if any(re.search(rf"(?i)(?<!\w){re.escape(c)}(?!\w)", text) for text in texts)}


def refuse(findings: Sequence[Finding], faults: Sequence[str] = ()) -> None:
    """Raise FindingsError with all that has changed, and the mapping's faults that come of it, if some of it matters."""
    lost = list(dict.fromkeys(f.table for f in findings if f.severity == "error"))
    if lost:
        again = " ".join(f"-s {name}" for name in lost)
        raise FindingsError(
            "\n".join([*(f"{f.severity}: {f.message}" for f in findings if f.table in lost), *faults]),
            hint="Changed since it was planned; nothing was written. Put it back as it was; or let the mapping suit what is "
            f"there now, and load again: `migrate run --restart {again}`.",
        )


def of_mapping(conn: Connection, migration: str, state: TableState, mapping: Mapping) -> str:
    """The end of "…: the mapping changed since it was loaded", with what of it did."""
    *_, before = ledger.descriptions(conn, migration, state.name, state.generation)
    changed = comparing.of_mapping(before, mapping.parts)
    return "the mapping changed since it was loaded" + (f": {'; '.join(changed)}" if changed else "")
