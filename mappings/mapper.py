"""Runs a compiled mapping over batches: wire batches for the good rows, a reject with its reason for each bad one.

The clean path makes no Python object per row. Texts that a whole batch proves exact go straight through Arrow; everything
else is one DuckDB query that also gives each row's fate. Only where that finds bad rows a second query asks, of those rows
alone, which columns failed and why.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Mapping as Dictionary
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mappings.cells import Cell, value_name
from mappings.compile import Context, Mapping
from mappings.direct import holds_nul
from mappings.doubt import Mask, buffers
from mappings.expression import Expression, plain
from mappings.runtime import connect
from mappings.sql import BETWEEN, ROW, identifier, literal
from migrate.core import Batch, Ordinals, Origin, Reject, Step
from migrate.errors import InternalError
from migrate.prepared import Prepared

_GOOD, _FILTERED, _BAD = 0, 1, 2
_SHOWN = 200  # characters of an offending value
_STATEMENTS = 64
_DOUBTFUL = 0.1  # of a column's rows: above it the whole column is looked at
_ASKED = 500  # rows of a batch whose expression is run once more, alone, for DuckDB's own words
_NONE: Ordinals = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class _Part:
    """The SQL of one expression and its conversion, stage by stage; `index` is -1 for the condition."""

    lets: tuple[str, ...]
    first: str
    second: str
    third: str
    bad: str
    broken: str
    why: str


class Mapper:
    """A mapping on a DuckDB connection of its own: use one in each thread."""

    def __init__(self, mapping: Mapping, context: Context) -> None:
        self._mapping = mapping
        self._connection = connect(context.lookups, context.functions)
        self._parts = [_part(i, cell) for i, cell in enumerate(mapping.cells)]
        self._where = _condition(mapping.where) if mapping.where is not None else None
        self._nullif = pa.array(sorted(set(mapping.spec.nullif)), pa.string())
        self._sizes = np.unique([len(text.encode()) for text in mapping.spec.nullif])
        self._statements: dict[object, Prepared] = {}
        self._said: dict[tuple[int, tuple[Any, ...]], str] = {}
        by_name = {name.lower(): name for name in reversed(mapping.source.schema.names)}
        self._reads = {cell.column.name: cell.expression.reads for cell in mapping.cells}
        self._key = [by_name[name.lower()] for name in mapping.spec.key]

    def close(self) -> None:
        self._connection.close()

    def __call__(self, batch: Batch) -> Step:
        """Map a batch. Every one of its ordinals is in exactly one of the step's four places."""
        read, unread = batch.rows.num_rows + len(batch.rejects), self._keyed(batch)
        locate = partial(self._located, batch)
        rows = self._prepared(batch.rows)
        arrays, doubtful = self._direct(rows)
        missing: Sequence[int] = [i for i in range(len(self._parts)) if i not in arrays]
        fates = self._query(rows, arrays, missing)
        if doubtful:
            self._look_closer(rows, arrays, doubtful, fates)
            missing = range(len(self._parts))
        good = fates == _GOOD
        columns = [arrays[i] for i in range(len(self._parts))]
        result = pa.RecordBatch.from_arrays(columns, schema=self._mapping.schema)
        if good.all():
            return Step(read, result, batch.ordinals, _NONE, _NONE, unread, locate)
        bad = np.flatnonzero(fates == _BAD)
        rejects = unread + (self._rejects(batch, rows, bad, self._suspected(missing)) if len(bad) else ())
        return Step(
            read,
            result.filter(pa.array(good)),
            batch.ordinals[good],
            _NONE,
            batch.ordinals[fates == _FILTERED],
            rejects,
            locate,
        )

    def misfits(self, rows: pa.RecordBatch) -> dict[str, Mask]:
        """For each target column that refuses any of these rows' values, which ones; `where` and constraints aside."""
        rows = self._prepared(rows)
        cells = enumerate(self._mapping.cells)
        asked = [i for i, c in cells if c.direct is None or c.direct.all(rows.column(c.expression.column)) is None]
        if not asked:
            return {}
        bad = ", ".join(f"coalesce({self._parts[i].bad}, false) AS f{i}" for i in asked)
        found = self._run(
            ("misfits", *asked),
            rows,
            lambda relation: f"SELECT {bad} FROM {self._staged(asked, relation)} ORDER BY {identifier(ROW)}",
        )
        names = [self._mapping.cells[i].column.name for i in asked]
        masks = zip(names, (column.to_numpy() for column in found.columns), strict=True)
        return {name: mask for name, mask in masks if mask.any()}

    def _located(self, batch: Batch, ordinals: Sequence[int]) -> Sequence[Origin]:
        """Where rows stand, with their source keys."""
        origins = batch.locate(ordinals)
        if not self._key:
            return origins
        keys = batch.rows.select(self._key).take(pa.array(np.searchsorted(batch.ordinals, ordinals)))
        return [
            Origin(origin.locator, origin.raw, key_text(self._key, row))
            for origin, row in zip(origins, keys.to_pylist(), strict=True)
        ]

    def _keyed(self, batch: Batch) -> tuple[Reject, ...]:
        """The rows that could not be read, with their source keys where those could be."""
        if batch.partial is None or not self._key:
            return batch.rejects
        keys = unread_keys(batch.partial, self._key)
        return tuple(
            each if key is None else replace(each, origin=replace(each.origin, key=key))
            for each, key in zip(batch.rejects, keys, strict=True)
        )

    # ---------------------------------------------------------------------------------------------------------- a batch

    def _prepared(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """The columns that are read, under the policies for NULL words and NUL characters, and each row's number."""
        arrays, names = [], []
        for name in self._mapping.reads:
            arrays.append(self._cleaned(rows.column(name)))
            names.append(name)
        arrays.append(pa.array(np.arange(rows.num_rows, dtype=np.int64)))
        return pa.RecordBatch.from_arrays(arrays, names=[*names, ROW])

    def _cleaned(self, values: pa.Array) -> pa.Array:
        if values.type != pa.string():
            return values
        policy = self._mapping.spec.nul
        if policy != "reject" and holds_nul(values):
            values = pc.replace_substring(values, "\0", policy.partition(":")[2])
        if len(self._sizes) and len(values):
            _, at = buffers(values)
            # few texts are as short as the words for NULL: only then are they compared
            if np.isin(np.diff(at), self._sizes).any():
                words = pc.is_in(values, self._nullif)
                if words.true_count:
                    values = pc.if_else(words, pa.scalar(None, pa.string()), values)
        return values

    def _direct(self, rows: pa.RecordBatch) -> tuple[dict[int, pa.Array], dict[int, Mask]]:
        """The columns that Arrow alone can make of this batch, and which rows of them are left NULL for a closer look."""
        made: dict[int, pa.Array] = {}
        doubtful: dict[int, Mask] = {}
        for index, cell in enumerate(self._mapping.cells):
            if cell.direct is None:
                continue
            texts = rows.column(cell.expression.column)
            array = cell.direct.all(texts)
            if array is not None:
                made[index] = array
                continue
            most = cell.direct.most(texts)
            if most is not None and np.count_nonzero(most[1]) <= _DOUBTFUL * len(texts):
                made[index], doubtful[index] = most
        return made, doubtful

    def _look_closer(
        self,
        rows: pa.RecordBatch,
        arrays: dict[int, pa.Array],
        doubtful: dict[int, Mask],
        fates: npt.NDArray[np.int8],
    ) -> None:
        """Give the doubtful rows, and them alone, the values and fates that DuckDB's screens give them.

        Of these few rows every column is made: which ones are in doubt differs from batch to batch, and each other set
        would be another statement to plan.
        """
        places = np.flatnonzero(np.logical_or.reduce(list(doubtful.values())))
        few = rows.take(pa.array(places))
        few = few.set_column(few.num_columns - 1, ROW, pa.array(np.arange(len(places), dtype=np.int64)))
        made: dict[int, pa.Array] = {}
        fates[places] = self._query(few, made, range(len(self._parts)))
        for index, mask in doubtful.items():
            if (fates[mask] == _GOOD).any():
                values = made[index].filter(pa.array(mask[places]))
                arrays[index] = pc.replace_with_mask(arrays[index], pa.array(mask), values)

    def _query(self, rows: pa.RecordBatch, arrays: dict[int, pa.Array], missing: Sequence[int]) -> npt.NDArray[np.int8]:
        """Make the columns that are still missing, and give each row's fate."""
        if not missing and self._where is None and not self._mapping.screens:
            return np.zeros(rows.num_rows, np.int8)
        checked = sorted({i for screen in self._mapping.screens for i in screen.columns if i in arrays})
        source = rows
        for index in checked:
            source = source.append_column(f"·v{index}", arrays[index])
        try:
            result = self._run(
                ("map", *missing), source, lambda relation: self._statement(missing, relation, fates=True)
            )
        except duckdb.Error as error:
            # what can fail runs inside TRY: an error out here is an expression that was held to be safe
            raise InternalError(
                f"the mapping of {self._mapping.spec.name} failed as a whole: {plain(str(error))}"
            ) from None
        numbers = result.column(0).to_numpy()
        if not np.array_equal(numbers, np.arange(rows.num_rows)):
            raise InternalError("the mapping's query returned other rows than it was given, or in another order")
        for place, index in enumerate(missing):
            arrays[index] = _exactly(result.column(place + 2), self._mapping.schema.field(index).type)
        fates: npt.NDArray[np.int8] = result.column(1).to_numpy().copy()  # Arrow's own is read-only
        return fates

    def _run(self, key: object, batch: pa.RecordBatch, statement: Callable[[str], str]) -> pa.Table:
        """Run a statement over a batch; it is planned once for each key."""
        if key not in self._statements:
            if len(self._statements) >= _STATEMENTS:
                for prepared in self._statements.values():
                    prepared.close()
                self._statements.clear()
            self._statements[key] = Prepared(self._connection, f"q{len(self._statements)}", batch, statement)
        return self._statements[key](batch)

    def _staged(self, wanted: Sequence[int], relation: str) -> str:
        """The relation with what is computed of it, in stages that each see the one before: arguments, expressions, values."""
        every = [*(self._parts[i] for i in wanted), *([self._where] if self._where is not None else [])]
        for stage in (
            [let for part in every for let in part.lets],
            [part.first for part in every if part.first],
            [part.second for part in every if part.second],
            [part.third for part in every if part.third],
        ):
            if stage:
                relation = f"(SELECT *, {', '.join(stage)} FROM {relation})"
        return relation

    def _statement(self, wanted: Sequence[int], relation: str, *, fates: bool) -> str:
        """The query: the columns' values and what is wrong with them."""
        parts = [self._parts[i] for i in wanted]
        relation = self._staged(wanted, relation)
        bad = [part.bad for part in parts if part.bad != "false"] + [s.broken for s in self._mapping.screens]
        any_bad = " OR ".join(f"coalesce({b}, false)" for b in bad) or "false"
        fate = f"CASE WHEN {any_bad} THEN {_BAD} ELSE {_GOOD} END"
        if self._where is not None:
            fate = f"CASE WHEN {self._where.broken} THEN {_BAD} WHEN ·k IS NOT TRUE THEN {_FILTERED} ELSE {fate} END"
            fate = fate.replace("·k", identifier("·k"))
        if fates:
            values = "".join(f", {value_name(i)}" for i in wanted)
            return f"SELECT {identifier(ROW)}, CAST({fate} AS TINYINT){values} FROM {relation}"
        found = [f"CASE WHEN coalesce({p.bad}, false) THEN {p.why} END" for p in parts]
        found += [f"coalesce({s.broken}, false)" for s in self._mapping.screens]
        found.append(self._where.broken if self._where is not None else "false")
        return f"SELECT {', '.join(f'{f} AS f{i}' for i, f in enumerate(found))} FROM {relation} ORDER BY {identifier(ROW)}"

    # ---------------------------------------------------------------------------------------------------------- rejects

    def _suspected(self, missing: Sequence[int]) -> list[int]:
        """The columns to ask about: what was proved good is needed only where a constraint compares it."""
        return sorted({*missing, *(i for screen in self._mapping.screens for i in screen.columns)})

    def _rejects(
        self, batch: Batch, rows: pa.RecordBatch, bad: npt.NDArray[np.intp], suspected: Sequence[int]
    ) -> tuple[Reject, ...]:
        """Which columns of the bad rows failed, and why; `suspected` are those that were not proved good."""
        suspects = rows.take(pa.array(bad))
        given = batch.rows.take(pa.array(bad)).to_pydict()
        found = self._run(
            ("why", *suspected), suspects, lambda relation: self._statement(suspected, relation, fates=False)
        )
        verdicts = zip(*(column.to_pylist() for column in found.columns), strict=True)
        asked = [0]
        origins = self._located(batch, [int(n) for n in batch.ordinals[bad]])
        rejects = []
        for place, verdict in enumerate(verdicts):
            column, rule, reason = self._verdict(suspects, place, suspected, verdict, asked)
            rejects.append(
                Reject(
                    ordinal=int(batch.ordinals[bad[place]]),
                    rule=rule,
                    reason=reason,
                    origin=origins[place],
                    column=column,
                    value=self._offending(given, place, column),
                )
            )
        return tuple(rejects)

    def _verdict(
        self,
        suspects: pa.RecordBatch,
        place: int,
        suspected: Sequence[int],
        verdict: tuple[Any, ...],
        asked: list[int],
    ) -> tuple[str | None, str, str]:
        """(column, rule, reason) of one bad row: the first failing column's, and the names of the others."""
        cells, screens = self._mapping.cells, self._mapping.screens
        if verdict[-1]:
            assert self._mapping.where is not None
            words = self._asked(-1, self._mapping.where, suspects, place, asked)
            return None, "where", f"where: {words.rpartition(BETWEEN)[2]}"
        words_of = dict(zip(suspected, verdict[: len(suspected)], strict=True))
        failing = [i for i in suspected if words_of[i] is not None]
        broken = [s for s, hit in zip(screens, verdict[len(suspected) : -1], strict=True) if hit]
        if not failing:
            if not broken:
                raise InternalError("a row was refused, and no column or constraint says why")
            names = [cells[i].column.name for i in broken[0].columns]
            column = names[0] if names else None
            return column, "check", "breaks the constraint " + " and ".join(s.name for s in broken)
        first = failing[0]
        words = words_of[first]
        if words == "?":
            words = self._asked(first, cells[first].expression, suspects, place, asked)
        rule, _, reason = words.rpartition(BETWEEN)
        others = ", ".join(cells[i].column.name for i in failing[1:])
        return cells[first].column.name, rule or "expression", reason + (f" (also failing: {others})" if others else "")

    def _asked(self, index: int, expression: Expression, suspects: pa.RecordBatch, place: int, asked: list[int]) -> str:
        """DuckDB's own words for one row's failure; equal values are asked once, and not more than some rows a batch."""
        key = (index, tuple(suspects.column(name)[place].as_py() for name in expression.reads))
        if key in self._said:
            return self._said[key]
        if asked[0] >= _ASKED:
            return f"the expression failed: {expression.text}"
        asked[0] += 1
        alone = suspects.slice(place, 1)
        try:
            self._run(("ask", index), alone, lambda relation: f"SELECT {expression.sql} AS v FROM {relation}")
        except duckdb.Error as error:
            words = plain(str(error))
        else:
            words = f"range{BETWEEN}the result is not a finite number"
        if len(self._said) < 10 * _ASKED:
            self._said[key] = words
        return words

    def _offending(self, given: Dictionary[str, list[Any]], place: int, column: str | None) -> str | None:
        """The source text that the column was made of."""
        if column is None:
            reads: Iterable[str] = self._mapping.where.reads if self._mapping.where is not None else ()
        else:
            reads = self._reads[column]
        values = [(name, given[name][place]) for name in reads]
        if not values:
            return None
        if len(values) == 1:
            return _shortened(values[0][1])
        return _shortened(", ".join(f"{name}={value}" for name, value in values))


def key_text(names: Sequence[str], row: Dictionary[str, Any]) -> str:
    """A source key as the quarantine spells it: `CustomerID=17`."""
    return ", ".join(f"{name}={_shortened(row[name])}" for name in names)


def unread_keys(partial: pa.RecordBatch, names: Sequence[str]) -> list[str | None]:
    """The source keys of rows that could not be read; None where a part of a key could not be, or is NULL and tells nothing."""
    rows = partial.select(names).to_pylist()
    return [None if None in row.values() else key_text(names, row) for row in rows]


def _shortened(value: Any) -> str | None:
    if value is None:
        return None
    text = str(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _part(index: int, cell: Cell) -> _Part:
    expression, e, v = cell.expression, identifier(f"·e{index}"), value_name(index)
    lets, first, second, broken, why = _evaluation(expression, index, f"·e{index}")
    if re.fullmatch(r"(DOUBLE|FLOAT)(\[\])?", expression.type) and not expression.total:
        endless = _endless(cell, e)
        why = f"CASE WHEN {broken} THEN {why} ELSE 'range{BETWEEN}the result is not a finite number' END"
        broken = f"({broken} OR {endless})" if broken != "false" else endless
    conversion = cell.conversion
    fails = [broken, conversion.failing(e, v)]
    whens = [f"WHEN coalesce({broken}, false) THEN {why}" if broken != "false" else ""]
    if not cell.column.nullable:
        fails.append(f"{e} IS NULL")
        whens.append(f"WHEN {e} IS NULL THEN 'not_null{BETWEEN}NULL in a column that is NOT NULL'")
    reason = (
        f"CASE {' '.join(w for w in whens if w)} ELSE {conversion.why(e, v)} END"
        if any(whens)
        else conversion.why(e, v)
    )
    tests = [f for f in fails if f != "false"]
    bad = " OR ".join(f"coalesce({t}, false)" for t in tests) if tests else "false"
    return _Part(lets, first, second, f"{conversion.of(e)} AS {v}", f"({bad})" if tests else "false", broken, reason)


def _endless(cell: Cell, e: str) -> str:
    """SQL of "the value {e} is, or holds, infinity or NaN" where no source text said so."""
    expression, listed = cell.expression, cell.expression.type.endswith("[]")
    word = r"(?i)(^|[^a-z])(inf|infinity|nan)([^a-z]|$)" if listed else r"(?i)^[ \t]*[+-]?(inf|infinity|nan)[ \t]*$"
    said = " OR ".join(f"regexp_matches(CAST({identifier(r)} AS VARCHAR), {literal(word)})" for r in expression.reads)
    kind = cell.wire.arrow.value_type if pa.types.is_list(cell.wire.arrow) else cell.wire.arrow
    unasked = f"NOT coalesce({said}, false)" if said and kind in (pa.float32(), pa.float64()) else "true"
    if listed:
        return f"(len(list_filter({e}, lambda n: NOT isfinite(n))) > 0 AND {unasked})"
    return f"CASE WHEN isfinite({e}) THEN false ELSE {e} IS NOT NULL AND {unasked} END"


def _condition(where: Expression) -> _Part:
    lets, first, second, broken, why = _evaluation(where, -1, "·k")
    return _Part(lets, first, second, "", broken, broken, why)


def _evaluation(expression: Expression, index: int, name: str) -> tuple[tuple[str, ...], str, str, str, str]:
    """(arguments, first stage, second stage, SQL of "it failed", SQL of why) of an expression, its value under `name`."""
    e = identifier(name)
    lets = tuple(f"{text} AS {identifier(let)}" for let, text in expression.lets)
    if expression.total:
        return lets, f"{expression.sql} AS {e}", "", "false", "NULL"
    if expression.quiet is not None:
        broken = f"({expression.given} AND {e} IS NULL)" if expression.given != "false" else "false"
        return lets, f"{expression.quiet} AS {e}", "", broken, expression.reason
    # a NULL struct is an error; a struct that holds NULL is a NULL
    tried = identifier(f"·t{index if index >= 0 else 'k'}")
    return lets, f"TRY({{'v': {expression.sql}}}) AS {tried}", f"{tried}.v AS {e}", f"({tried} IS NULL)", "'?'"


def _exactly(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    """The column as one array of exactly the wire's type."""
    array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], array.type)
    return array if array.type == kind else array.cast(kind)
