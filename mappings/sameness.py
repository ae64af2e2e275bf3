"""Compiles what makes rows the same: the rules of `dedupe`, and the target's unique keys, which only one row can have."""

from collections.abc import Callable, Mapping

import pyarrow as pa

from mappings.cells import Cell
from mappings.convert import Conversion
from mappings.dedupe import Dedupe, KeyRule
from mappings.expression import Expression
from mappings.faults import Mark
from mappings.runtime import arrow_type
from mappings.spec import TableSpec, Written
from mappings.survivorship import CHOOSE, KEEP, Order, parse_rule
from mappings.typemap import TEXTS, comparable
from migrate.core import Column, Table, TargetTable, Wire

Compile = Callable[[str, Written], Expression | None]
Complain = Callable[[Mark, str, str], None]


def compile_dedupe(
    spec: TableSpec,
    target: TargetTable | None,
    source: Table,
    cells: tuple[Cell, ...],
    compiled: Compile,
    fault: Complain,
) -> tuple[Dedupe | None, tuple[Cell, ...], tuple[tuple[str, ...], ...]]:
    """A table's rules, the cells that they need besides the target's columns, and the keys that need no rule.

    With `dedupe`, unique keys merge as the match rules do: rows that share one cannot both be loaded, and it has been said
    what becomes of such. Under upsert the last row of a key wins. Else all but the first are rejected. A key that holds the
    source's own key as it stands needs none: no two rows share that.
    """
    return _Sameness(spec, target, source, {cell.column.name: cell for cell in cells}, compiled, fault).run()


class _Sameness:
    def __init__(
        self,
        spec: TableSpec,
        target: TargetTable | None,
        source: Table,
        cells: Mapping[str, Cell],
        compiled: Compile,
        fault: Complain,
    ) -> None:
        self._spec = spec
        self._source = source
        self._key = target.key if target is not None else spec.primary_key
        self._uniques = target.uniques if target is not None else ()
        self._cells = cells
        self._compiled = compiled
        self._fault = fault
        self._extra: dict[str, Cell] = {}

    def run(self) -> tuple[Dedupe | None, tuple[Cell, ...], tuple[tuple[str, ...], ...]]:
        spec = self._spec.dedupe
        decidable = dict.fromkeys(tuple(k) for k in (self._key, *self._uniques) if k and self._decidable(k))
        sure = tuple(k for k in decidable if self._sure(k))
        keys = [k for k in decidable if k not in sure]
        merging: set[tuple[str, ...]] = set()
        rules: list[KeyRule] = []
        keep: tuple[Order, ...] = (Order("first"),)
        columns: tuple[tuple[str, Order], ...] = ()
        if spec is not None:
            for parts in spec.match:
                names = tuple(self._value(part.text, part, as_text=True) for part in parts)
                rules.append(KeyRule(", ".join(part.text for part in parts), names, merges=True))
            keep = tuple(self._order(rule, KEEP, "keep") for rule in spec.keep) or keep
            columns = tuple((name, self._order(rule, CHOOSE, "columns")) for name, _, rule in spec.columns)
            merging = set(keys)
            for name, mark, _ in spec.columns:
                if name in self._key:
                    self._fault(
                        mark, f'dedupe.columns: "{name}" is in the primary key: that is always the survivor\'s', ""
                    )
        elif self._spec.mode == "upsert":
            keep = (Order("last"),)
            merging = {k for k in keys if set(k) == set(self._spec.on or self._key)}
        rules += [KeyRule(f"key {', '.join(k)}", k, merges=k in merging, blank_matches=True) for k in keys]
        return (Dedupe(tuple(rules), keep, columns) if rules else None), tuple(self._extra.values()), sure

    def _decidable(self, key: tuple[str, ...]) -> bool:
        """Whether it can be told here, and surely, that two rows share a key."""
        return all(name in self._cells and comparable(self._cells[name].column) for name in key)

    def _sure(self, key: tuple[str, ...]) -> bool:
        """Whether the source itself has no two rows that share a key: its own key is in it, unchanged."""
        kinds = {field.name: field.type for field in self._source.schema}
        held = {
            cell.expression.column
            for cell in (self._cells[name] for name in key)
            if cell.expression.column in self._source.key and self._unchanged(cell, kinds[cell.expression.column])
        }
        return bool(self._source.key) and held == set(self._source.key)

    def _unchanged(self, cell: Cell, kind: pa.DataType) -> bool:
        """Whether different values stay different. A policy for texts may make one of two, and char(n) strips blanks."""
        if kind == pa.string():
            policies = self._spec.nullif or self._spec.nul != "reject"
            return cell.column.base in ("text", "varchar") and not policies
        return cell.direct is not None

    def _value(self, text: str, written: Written, *, offset: int = 0, as_text: bool) -> str:
        """The name under which rows have a value: a target column's own, or that of an extra cell."""
        name = text.strip()
        if name in self._cells:
            return name
        place = Written(text, written.at(offset)) if offset else written
        expression = self._compiled(text, place)
        name = f"·{len(self._extra)}·{name}"
        if expression is not None:
            self._extra[name] = _extra(name, expression, as_text=as_text)
        return name

    def _order(self, rule: Written, allowed: tuple[str, ...], key: str) -> Order:
        read = parse_rule(rule.text, allowed)
        if read is None:
            known = ", ".join(f"{how}(x)" if how in ("latest", "earliest") else how for how in allowed)
            self._fault(rule.mark, f'"{rule.text}" is no rule of dedupe.{key}', f"There are: {known}.")
            return Order(allowed[0])
        if read.by is None:
            return Order(read.how, "·complete" if read.how == "most_complete" else "")
        name = self._value(read.by, rule, offset=read.at, as_text=False)
        cell = self._cells.get(name) or self._extra.get(name)
        if cell is not None and cell.column.base not in (*TEXTS, "") and cell.wire.arrow == pa.string():
            message = f"{rule.text}: a {cell.column.type} travels as text here, and texts have another order"
            self._fault(rule.mark, message, f"Order by a number or a time: {read.how}({read.by}::DECIMAL(38,10)).")
        elif cell is not None and cell.wire.arrow in (pa.string(), pa.binary()):
            message = f"{rule.text} would compare texts, in which 9 comes after 10, and 31.12.2019 after 01.01.2020"
            hint = f"Say what it is: {read.how}(parse_date({read.by}, 'DD.MM.YYYY')), {read.how}({read.by}::TIMESTAMP)."
            self._fault(rule.mark, message, hint)
        return Order(read.how, name)


def _extra(name: str, expression: Expression, *, as_text: bool) -> Cell:
    """A value that rules need and the target does not have: NULL where it cannot be computed, which matches nothing."""
    sql = f"TRY(CAST({expression.sql} AS VARCHAR))" if as_text else f"TRY({expression.sql})"
    kind = "VARCHAR" if as_text else expression.type
    quiet = Expression(expression.text, sql, kind, expression.reads, total=True, functions=expression.functions)
    wire = Wire(pa.string() if as_text else arrow_type(kind))
    return Cell(Column(name, "text", "text"), quiet, Conversion("{x}", "false", "NULL"), wire)
