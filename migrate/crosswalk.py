"""Crosswalks: who was merged into whom, as published in the ledger; and batches that follow it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mappings.dedupe import Ballot, Summary
from migrate import checksum
from migrate.core import Chunk, Ordinals, TargetTable, Wire
from migrate.target import Connection, Writer

_COPIED = pa.schema(
    [
        *((name, pa.string()) for name in ("migration", "name")),
        ("generation", pa.int32()),
        ("chunk", pa.int32()),
        ("ordinal", pa.int64()),
        ("by_chunk", pa.int32()),
        ("by_ordinal", pa.int64()),
        *((name, pa.string()) for name in ("fate", "rule")),
        ("hash", pa.int64()),
        *((name, pa.string()) for name in ("loser", "survivor")),
    ]
)


# ------------------------------------------------------------------------------------------------------------ publishing


def publish(
    conn: Connection,
    of: Chunk,
    ballot: Ballot,
    keys: Iterable[tuple[Sequence[str], Iterable[pa.RecordBatch]]],
    schema: pa.Schema,
) -> None:
    """Write an election's results, of chunks from `of.ordinal` on, in the caller's transaction."""
    where = [of.migration, of.table, of.generation]
    writer = Writer(TargetTable(conn.ledger, "crosswalk", ()), _COPIED, [Wire(f.type) for f in _COPIED])
    for batch in ballot.losers():
        batch = batch.filter(pc.greater_equal(batch["chunk"], of.ordinal))
        same = [pa.repeat(pa.scalar(v, t), batch.num_rows) for v, t in zip(where, _COPIED.types[:3], strict=True)]
        texts = [pc.replace_substring(batch[name], "\0", "␀") for name in ("loser", "survivor")]
        rows = pa.RecordBatch.from_arrays([*same, *batch.columns[:-2], *texts], schema=_COPIED)
        if rows.num_rows:
            writer.copy_into(conn, f"{conn.ledger}.crosswalk", rows)
    for columns, batches in keys:
        for part, batch in enumerate(batches):
            conn.execute(
                f"INSERT INTO {conn.ledger}.crosswalk_key VALUES (%s, %s, %s, %s, %s, %s)",
                [*where, list(columns), part, _packed(batch)],
            )
    part = 0
    for column, rows in ballot.overrides(schema):
        for chunk in pc.unique(rows["chunk"]).to_pylist():
            part += 1
            conn.execute(
                f"INSERT INTO {conn.ledger}.override VALUES (%s, %s, %s, %s, %s, %s, %s)",
                [*where, chunk, column, part, _packed(rows.filter(pc.equal(rows["chunk"], chunk)))],
            )


def _packed(rows: pa.RecordBatch | pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write(rows)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def _unpacked(packed: bytes) -> pa.Table:
    return pa.ipc.open_stream(packed).read_all()


# --------------------------------------------------------------------------------------------------------------- losers


@dataclass(frozen=True, slots=True)
class Losers:
    """The rows of one chunk that are not loaded because of others, by ordinal; `hashes` are of their target columns."""

    ordinals: Ordinals
    merged: npt.NDArray[np.bool_]
    hashes: npt.NDArray[np.uint64]
    rules: Sequence[str]
    survivors: Sequence[str]


def losers(conn: Connection, chunk: Chunk) -> Losers:
    """What the election says of a chunk's rows; `survivors` are source keys, or places where there is none."""
    rows = conn.execute(
        f"SELECT ordinal, fate = 'merged', hash, rule, coalesce(survivor, format('chunk %%s, row %%s', by_chunk, by_ordinal)) "
        f"FROM {conn.ledger}.crosswalk WHERE migration = %s AND name = %s AND generation = %s AND chunk = %s ORDER BY 1",
        [chunk.migration, chunk.table, chunk.generation, chunk.ordinal],
    ).fetchall()
    ordinals, merged, hashes, rules, survivors = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    return Losers(
        np.array(ordinals, np.int64),
        np.array(merged, np.bool_),
        np.array(hashes, np.int64).view(np.uint64),
        rules,
        survivors,
    )


def losers_of_rejected(conn: Connection, of: Chunk) -> list[tuple[int, int, str, str]]:
    """(chunk, ordinal, rule, survivor) of rows that were merged into one that is rejected, and are not rejected yet."""
    return conn.execute(
        f"""
        SELECT s.chunk, s.ordinal, s.rule, coalesce(s.survivor, format('chunk %%s, row %%s', s.by_chunk, s.by_ordinal))
        FROM {conn.ledger}.crosswalk s
        JOIN {conn.ledger}.reject r
            ON (r.migration, r.name, r.generation, r.chunk, r.ordinal)
             = (s.migration, s.name, s.generation, s.by_chunk, s.by_ordinal)
        WHERE s.migration = %s AND s.name = %s AND s.generation = %s AND s.fate = 'merged'
          AND NOT EXISTS (
              SELECT FROM {conn.ledger}.reject d
              WHERE (d.migration, d.name, d.generation, d.chunk, d.ordinal)
                  = (s.migration, s.name, s.generation, s.chunk, s.ordinal))
        ORDER BY 1, 2
        """,
        [of.migration, of.table, of.generation],
    ).fetchall()


def rejected_survivors(conn: Connection, chunk: Chunk) -> dict[int, str]:
    """By ordinal, the survivors of a chunk's merged rows that are in quarantine and were not replayed."""
    rows = conn.execute(
        f"""
        SELECT s.ordinal, coalesce(s.survivor, format('chunk %%s, row %%s', s.by_chunk, s.by_ordinal))
        FROM {conn.ledger}.crosswalk s
        JOIN {conn.ledger}.reject r
            ON (r.migration, r.name, r.generation, r.chunk, r.ordinal)
             = (s.migration, s.name, s.generation, s.by_chunk, s.by_ordinal)
        WHERE s.migration = %s AND s.name = %s AND s.generation = %s AND s.chunk = %s AND s.fate = 'merged'
          AND r.state <> 'replayed'
        """,
        [chunk.migration, chunk.table, chunk.generation, chunk.ordinal],
    ).fetchall()
    return dict(rows)


def summaries(conn: Connection, migration: str, *, samples: int = 10, losers_each: int = 5) -> dict[str, Summary]:
    """The merged rows of the current generations, by table; of each sample (survivor, losers, rule)."""
    current = f"{conn.ledger}.crosswalk s JOIN {conn.ledger}.mapped_table t USING (migration, name, generation)"
    merged = "WHERE s.migration = %(m)s AND s.fate = 'merged'"
    given = {"m": migration, "n": samples, "e": losers_each}
    by_rule: dict[str, list[tuple[str, int]]] = {}
    for name, rule, rows in conn.execute(
        f"SELECT s.name, s.rule, count(*) FROM {current} {merged} GROUP BY 1, 2 ORDER BY 1, 3 DESC, 2", given
    ).fetchall():
        by_rule.setdefault(name, []).append((rule, rows))
    clusters = dict(
        conn.execute(
            f"SELECT s.name, count(DISTINCT (by_chunk, by_ordinal)) FROM {current} {merged} GROUP BY 1", given
        ).fetchall()
    )
    shown: dict[str, list[tuple[str, tuple[str, ...], str]]] = {}
    place = "format('chunk %%s, row %%s', {}chunk, {}ordinal)"
    for name, survivor, losers_, rule in conn.execute(
        f"""
        SELECT name, survivor, losers, rule FROM (
            SELECT s.name, coalesce(s.survivor, {place.format("by_", "by_")}) AS survivor, min(s.rule) AS rule,
                   (array_agg(coalesce(s.loser, {place.format("", "")}) ORDER BY s.chunk, s.ordinal))[1:%(e)s] AS losers,
                   row_number() OVER (PARTITION BY s.name ORDER BY count(*) DESC, s.by_chunk, s.by_ordinal) AS n
            FROM {current} {merged} GROUP BY s.name, s.survivor, s.by_chunk, s.by_ordinal) c
        WHERE n <= %(n)s ORDER BY name, n
        """,
        given,
    ).fetchall():
        shown.setdefault(name, []).append((survivor, tuple(losers_), rule))
    return {
        name: Summary(sum(n for _, n in rules), clusters[name], tuple(rules), tuple(shown[name]))
        for name, rules in by_rule.items()
    }


def pairs(conn: Connection, migration: str, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """(table, fate, rule, loser, survivor, chunk, row, by chunk, by row) of the current generations."""
    with conn.cursor() as cursor:
        yield from cursor.stream(
            f"SELECT s.name, s.fate, s.rule, s.loser, s.survivor, s.chunk, s.ordinal, s.by_chunk, s.by_ordinal "
            f"FROM {conn.ledger}.crosswalk s JOIN {conn.ledger}.mapped_table t USING (migration, name, generation) "
            f"WHERE s.migration = %s AND s.name = ANY(%s) ORDER BY s.name, s.chunk, s.ordinal",
            [migration, list(names)],
        )


def is_there(conn: Connection, of: Chunk) -> tuple[bool, bool]:
    """Whether a generation has losers, and whether it has overrides."""
    where = "WHERE migration = %(m)s AND name = %(n)s AND generation = %(g)s"
    row = conn.execute(
        f"SELECT EXISTS (SELECT FROM {conn.ledger}.crosswalk {where}), EXISTS (SELECT FROM {conn.ledger}.override {where})",
        {"m": of.migration, "n": of.table, "g": of.generation},
    ).fetchone()
    return (bool(row[0]), bool(row[1])) if row else (False, False)


# ------------------------------------------------------------------------------------------------------------ overrides


def overrides(conn: Connection, chunk: Chunk) -> dict[str, tuple[Ordinals, pa.Array]]:
    """By column, the ordinals, sorted, of a chunk's rows that take another row's value, and the values."""
    found: dict[str, list[pa.Table]] = {}
    for column, packed in conn.execute(
        f'SELECT "column", rows FROM {conn.ledger}.override '
        f'WHERE migration = %s AND name = %s AND generation = %s AND chunk = %s ORDER BY "column", part',
        [chunk.migration, chunk.table, chunk.generation, chunk.ordinal],
    ).fetchall():
        found.setdefault(column, []).append(_unpacked(packed))
    whole = {column: pa.concat_tables(parts).combine_chunks() for column, parts in found.items()}
    return {
        column: (rows["ordinal"].to_numpy(), rows["value"].combine_chunks())
        for column, rows in whole.items()
        if rows.num_rows
    }


def overridden(
    rows: pa.RecordBatch, ordinals: Ordinals, values: dict[str, tuple[Ordinals, pa.Array]]
) -> pa.RecordBatch:
    """Rows with the values that their clusters chose."""
    for column, (of, chosen) in values.items():
        places = np.searchsorted(of, ordinals)
        mask = (places < len(of)) & (of[np.minimum(places, len(of) - 1)] == ordinals)
        if mask.any():
            index = rows.schema.get_field_index(column)
            taken = chosen.take(pa.array(places[mask]))
            rows = rows.set_column(index, rows.schema.field(index), replaced(rows.column(index), mask, taken))
    return rows


def replaced(values: pa.Array, mask: npt.NDArray[np.bool_], by: pa.Array) -> pa.Array:
    """The values with those under the mask replaced, in order; Arrow's own replace_with_mask knows no lists."""
    places = np.arange(len(values))
    places[mask] = len(values) + np.arange(len(by))
    return pa.concat_arrays([values, by.cast(values.type)]).take(pa.array(places))


# ----------------------------------------------------------------------------------------------------------- references


class Keys:
    """The target keys of a table's losers and survivors, to be looked up by the loser's; safe to share between threads."""

    def __init__(self, columns: Sequence[str], batches: Iterable[pa.RecordBatch | pa.Table]) -> None:
        """`batches` have the loser's key columns, then the survivor's."""
        tables = [b if isinstance(b, pa.Table) else pa.Table.from_batches([b]) for b in batches]
        self.columns = tuple(columns)
        self.rows = pa.concat_tables(tables).combine_chunks() if tables else None
        self.hashes: npt.NDArray[np.uint64] = np.zeros(0, np.uint64)
        if self.rows is not None:
            hasher = self.hasher()
            order = [np.zeros(0, np.uint64)]
            order += [hasher(self._losers(batch))[1] for batch in self.rows.to_batches(max_chunksize=100_000)]
            hasher.close()
            hashes = np.concatenate(order)
            sorted_by = np.argsort(hashes, kind="stable")
            self.hashes, self.rows = hashes[sorted_by], self.rows.take(pa.array(sorted_by))

    def __len__(self) -> int:
        return len(self.hashes)

    @property
    def schema(self) -> pa.Schema:
        """Of a key, as the loser's columns are named in the parent."""
        assert self.rows is not None
        fields = [self.rows.schema.field(i).with_name(c) for i, c in enumerate(self.columns)]
        return pa.schema(fields)

    def hasher(self) -> checksum.Hasher:
        """Hashes keys; for one thread."""
        return checksum.Hasher(self.schema, [Wire(t) for t in self.schema.types], ())

    def _losers(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays(batch.columns[: len(self.columns)], schema=self.schema)

    def spelled(self, spell: Callable[[int, pa.Array | pa.ChunkedArray], pa.Array | pa.ChunkedArray]) -> "Keys":
        """The same keys, each column of the losers' in one spelling of what PostgreSQL calls equal."""
        assert self.rows is not None
        losers = [spell(i, c) for i, c in enumerate(self.rows.columns[: len(self.columns)])]
        return Keys(self.columns, [pa.table([*losers, *self.rows.columns[len(losers) :]], schema=self.rows.schema)])


class Trail:
    """Follows one reference to the survivors of its parent's losers; for one thread."""

    def __init__(
        self,
        keys: Keys,
        columns: Sequence[str],
        *,
        padded: bool = False,
        widths: Sequence[int] = (),
        numbers: Sequence[bool] = (),
    ) -> None:
        """`columns` of the child hold a key of the parent.

        Where either side is `padded`, blanks at the end mean nothing, and what is stored has as many as its own column's
        width asks for. Of a column of `numbers`, a text is a number, and 1.0 is 1.
        """
        self._columns = tuple(columns)
        self._padded = padded
        self._widths = widths
        self._numbers = tuple(numbers) or (False,) * len(columns)
        texts = [pa.types.is_string(kind) for kind in keys.schema.types]
        misspelled = any(text and (padded or n) for text, n in zip(texts, self._numbers, strict=True))
        self._keys = keys.spelled(self._spelled) if misspelled else keys
        self._hasher = self._keys.hasher()
        self._fit = Fit()

    def close(self) -> None:
        self._hasher.close()
        self._fit.close()

    def _spelled(self, i: int, values: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
        if not pa.types.is_string(values.type):
            return values
        if self._numbers[i]:
            return _plain(values)
        return _trimmed(values) if self._padded else values

    def _held(self, i: int, values: pa.Array) -> pa.Array:
        """A child's column as the parent's, spelled as the keys are."""
        spelled, kind = self._spelled(i, values), self._keys.schema.types[i]
        return spelled if spelled.type == kind else self._spelled(i, self._fit(spelled, kind))

    def __call__(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Rows in which the columns hold the survivor's key where they held a loser's.

        What has no value in the other column's type is no key of it.
        """
        keys, at = self._keys, [rows.schema.get_field_index(column) for column in self._columns]
        held = [self._held(i, rows.column(place)) for i, place in enumerate(at)]
        hashes = self._hasher(pa.RecordBatch.from_arrays(held, schema=keys.schema))[1]
        places = np.searchsorted(keys.hashes, hashes)
        mask = np.zeros(rows.num_rows, np.bool_)
        found = np.zeros(rows.num_rows, np.int64)
        assert keys.rows is not None
        # Equal hashes stand side by side: nearly always there is one, and the keys themselves decide.
        while True:
            inside = places < len(keys)
            same = inside & (keys.hashes[np.minimum(places, len(keys) - 1)] == hashes) & ~mask
            here = np.flatnonzero(same)
            if not len(here):
                break
            equal = np.ones(len(here), np.bool_)
            for i, column in enumerate(held):
                mine, theirs = column.take(pa.array(here)), keys.rows.column(i).take(pa.array(places[here]))
                equal &= pc.fill_null(pc.equal(mine, theirs.combine_chunks()), False).to_numpy(zero_copy_only=False)
            mask[here[equal]] = True
            found[here[equal]] = places[here[equal]]
            places[here[~equal]] += 1
        return self._rewritten(rows, at, mask, found[mask]) if mask.any() else rows

    def _rewritten(
        self, rows: pa.RecordBatch, at: Sequence[int], mask: npt.NDArray[np.bool_], found: Ordinals
    ) -> pa.RecordBatch:
        """Rows with the survivors' keys, by their places, in those under the mask."""
        assert self._keys.rows is not None
        for i, place in enumerate(at):
            theirs = self._keys.rows.column(len(at) + i).take(pa.array(found)).combine_chunks()
            kind = rows.column(place).type
            chosen = theirs if theirs.type == kind else self._fit(self._spelled(i, theirs), kind)
            if self._padded:
                chosen = _padded(chosen, self._widths[i])
            # A survivor's key that the child cannot hold leaves the loser's there, which then has no parent.
            held_by_child = chosen.is_valid()
            fits = mask.copy()
            fits[mask] = held_by_child.to_numpy(zero_copy_only=False)
            made = replaced(rows.column(place), fits, chosen.filter(held_by_child))
            rows = rows.set_column(place, rows.schema.field(place), made)
        return rows


class Fit:
    """Gives values in another type, NULL where it has none that is equal: 1.5 is no integer, 3000000000 no int."""

    def __init__(self) -> None:
        self._db: duckdb.DuckDBPyConnection | None = None

    def close(self) -> None:
        if self._db is not None:
            self._db.close()

    def __call__(self, values: pa.Array, kind: pa.DataType) -> pa.Array:
        if self._db is None:
            self._db = duckdb.connect(config={"threads": 1})
        self._db.register("given", pa.table({"x": values}))
        of = self._db.table("given").types[0]
        to = self._db.from_arrow(pa.table({"x": pa.array([], kind)})).types[0]
        there = f"TRY_CAST(x AS {to})"
        back = f"TRY_CAST({there} AS {of})"
        if pa.types.is_string(values.type) and (pa.types.is_decimal(kind) or pa.types.is_floating(kind)):
            back = _PLAIN.format(back)  # as the text is: numbers with a fraction are written with zeros at its end
        made = self._db.sql(f"SELECT CASE WHEN {back} = x THEN {there} END AS x FROM given").to_arrow_table()
        self._db.unregister("given")
        return made["x"].combine_chunks().cast(kind)


_PLAIN = "CASE WHEN contains({0}, '.') THEN rtrim(rtrim({0}, '0'), '.') ELSE {0} END"


def _plain(values: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Numbers as text without the zeros at the end of a fraction, which PostgreSQL keeps and calls equal."""
    return pc.replace_substring_regex(values, r"^(-?\d+)(?:\.0*|(\.\d*[1-9])0*)$", r"\1\2")


def _trimmed(values: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    return pc.utf8_rtrim(values, characters=" ") if pa.types.is_string(values.type) else values


def _padded(values: pa.Array, width: int) -> pa.Array:
    return pc.utf8_rpad(_trimmed(values), width, padding=" ") if pa.types.is_string(values.type) else values


def stored_keys(conn: Connection, migration: str, name: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The published keys of a table's current generation."""
    rows = conn.execute(
        f"SELECT k.keys FROM {conn.ledger}.crosswalk_key k "
        f"JOIN {conn.ledger}.mapped_table t USING (migration, name, generation) "
        f"WHERE k.migration = %s AND k.name = %s AND k.columns = %s ORDER BY k.part",
        [migration, name, list(columns)],
    ).fetchall()
    for (packed,) in rows:
        yield _unpacked(packed)
