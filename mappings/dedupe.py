"""Duplicates of one table: found by key hashes, out of core and in bounded memory; survivors elected, losers named.

First every row casts its key hashes (`Ballot.cast`): that needs the key columns alone. Only rows that share a key with
another are candidates; these are then mapped whole, and those that the mapping would load stand for election
(`Ballot.stand`). Nothing depends on how the source was cut or in which order its parts came.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mappings.sql import identifier, literal
from mappings.survivorship import Order, chosen, held, preferred
from migrate.errors import MigrateError

P = ParamSpec("P")
R = TypeVar("R")

MEMORY = "480MB"
"""What DuckDB may use before it spills; with all that surrounds it, a process stays below 1 GB."""

_BITS = 32  # of a row's position that are its ordinal: pos = chunk << 32 | ordinal
_LOW = (1 << _BITS) - 1
_BATCH = 100_000

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class KeyRule:
    """Rows that agree in all of these columns of a batch are one. `merges` them, or else all but one are rejected.

    `name` is what reports call it; `blank_matches`: whether the empty text is a value like any other.
    """

    name: str
    columns: tuple[str, ...]
    merges: bool
    blank_matches: bool = False


@dataclass(frozen=True, slots=True)
class Dedupe:
    """A table's rules, compiled. `keep` orders a cluster's rows; `columns` choose their values for themselves."""

    rules: tuple[KeyRule, ...]
    keep: tuple[Order, ...]
    columns: tuple[tuple[str, Order], ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """Candidates as the mapping would load them: `rows` has the target columns and the rules' own ones.

    `hashes[i]` is of row i's target columns; `keys[i]` its source key as people write it.
    """

    rows: pa.RecordBatch
    ordinals: Positions
    hashes: npt.NDArray[np.uint64]
    keys: Sequence[str | None]


@dataclass(frozen=True, slots=True)
class Summary:
    """The merged rows of one table: how many, in how many clusters, by which rules; of the largest clusters
    (survivor, some losers, rule)."""

    rows: int
    clusters: int
    by_rule: tuple[tuple[str, int], ...]
    samples: tuple[tuple[str, tuple[str, ...], str], ...]


LOSERS = pa.schema(
    [
        ("chunk", pa.int32()),
        ("ordinal", pa.int64()),
        ("by_chunk", pa.int32()),
        ("by_ordinal", pa.int64()),
        ("fate", pa.string()),
        ("rule", pa.string()),
        ("hash", pa.int64()),
        ("loser", pa.string()),
        ("survivor", pa.string()),
    ]
)
"""A row that is not loaded (`chunk`, `ordinal`), because of which (`by_…`), and by which rule.

`fate` is merged or rejected; `hash` is of its target columns, as 64 bits with a sign; `loser` and `survivor` are source
keys as people write them.
"""


_FOLDER = "migrate-ballot-"


def _sweep() -> None:
    """Remove what elections of killed processes have spilled: it holds values of rows."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
        pid = folder.name.removeprefix(_FOLDER).partition("-")[0]
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (ValueError, PermissionError):  # not ours, or another user's who is at work
            continue


def _spilling(method: Callable[Concatenate["Ballot", P], R]) -> Callable[Concatenate["Ballot", P], R]:
    """A method of a ballot that may need more room than there is, which is nobody's bug."""

    @wraps(method)
    def spilling(self: "Ballot", /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self._room():
            return method(self, *args, **kwargs)

    return spilling


class Ballot:
    """One election. Use: cast all rows, ask for the candidates, let them stand, `elect`, read the results, close.

    All of it raises MigrateError where memory, or the room for what is spilled, is used up.
    """

    def __init__(self, dedupe: Dedupe, columns: Sequence[str], memory: str = MEMORY, *, table: str = "rows") -> None:
        """`columns` are the target columns that most_complete counts; `table` is whose rows they are, for messages."""
        self._dedupe = dedupe
        self._table = table
        self._memory = memory
        self._counted = columns
        _sweep()
        self._folder = Path(tempfile.mkdtemp(prefix=f"{_FOLDER}{os.getpid()}-"))
        self._db = duckdb.connect(config={"memory_limit": memory, "temp_directory": str(self._folder)})
        self._db.execute("SET TimeZone = 'UTC'")
        self._db.execute("SET preserve_insertion_order = false")
        hashes = ", ".join(f"h{i} UHUGEINT" for i in range(len(dedupe.rules)))
        self._db.execute(f"CREATE TABLE ballot (pos BIGINT, {hashes})")
        self._stood = False

    def close(self) -> None:
        self._db.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextmanager
    def _room(self) -> Iterator[None]:
        try:
            yield
        except (
            duckdb.Error,
            pa.ArrowException,
            OSError,
        ) as error:  # Arrow's are DuckDB's, of a result that is streamed
            kind, _, said = str(error).partition("\n")[0].rpartition("Error: ")
            if not kind.endswith(("Out of Memory ", "IO ")):
                raise
            said = said.rstrip(".")
            spilled = sum(file.stat().st_size for file in self._folder.glob("*"))
            raise MigrateError(
                f"{self._table}: looking for its duplicates took more memory or temporary space than there is: {said}. It had "
                f"{self._memory} of memory and spilled {_size(spilled)} into {self._folder.parent}, where "
                f"{_size(shutil.disk_usage(self._folder.parent).free)} are free",
                hint="Make room there, or let TMPDIR name a folder with more of it; -j 1 takes less memory. Nothing of the table "
                "was loaded: then run the same command again.",
            ) from error

    # ------------------------------------------------------------------------------------------------------ two passes

    @_spilling
    def cast(self, chunk: int, rows: pa.RecordBatch, ordinals: Positions) -> None:
        """Take note of the keys of some rows."""
        some = " OR ".join(f"h{i} IS NOT NULL" for i in range(len(self._dedupe.rules)))
        hashes = ", ".join(f"{_hash(rule)} AS h{i}" for i, rule in enumerate(self._dedupe.rules))
        self._db.register("batch", _positioned(rows, chunk, ordinals))
        self._db.execute(f"INSERT INTO ballot SELECT * FROM (SELECT pos, {hashes} FROM batch) WHERE {some}")
        self._db.unregister("batch")

    @_spilling
    def candidates(self) -> dict[int, Positions]:
        """The ordinals, sorted, of all rows that share a key with another, by chunk."""
        parts = []
        for i in range(len(self._dedupe.rules)):
            self._db.execute(
                f"CREATE TABLE shared{i} AS SELECT h{i} AS h FROM ballot WHERE h{i} IS NOT NULL "
                f"GROUP BY h{i} HAVING count(*) > 1"
            )
            parts.append(f"SELECT pos FROM ballot SEMI JOIN shared{i} ON h{i} = h")
        found = self._db.sql(f"SELECT pos FROM ({' UNION '.join(parts)}) ORDER BY pos").to_arrow_reader(_BATCH)
        positions: Positions = np.concatenate([np.zeros(0, np.int64), *(batch["pos"].to_numpy() for batch in found)])
        for i in range(len(self._dedupe.rules)):
            self._db.execute(f"DROP TABLE shared{i}")
        self._db.execute("DROP TABLE ballot")
        if not len(positions):
            return {}
        chunks, starts = np.unique(positions >> _BITS, return_index=True)
        return {int(c): p & _LOW for c, p in zip(chunks, np.split(positions, starts[1:]), strict=True)}

    @_spilling
    def stand(self, chunk: int, standing: Standing) -> None:
        """Let candidates stand that the mapping would load."""
        batch = _positioned(standing.rows, chunk, standing.ordinals)
        batch = batch.append_column("·hash", pa.array(standing.hashes.view(np.int64)))
        batch = batch.append_column("·key", pa.array(standing.keys, pa.string()))
        hashes = ", ".join(f"{_hash(rule)} AS h{i}" for i, rule in enumerate(self._dedupe.rules))
        complete = " + ".join(
            f"(CASE WHEN coalesce(CAST({identifier(held(c))} AS VARCHAR), '') = '' THEN 0 ELSE 1 END)"
            for c in self._counted
        )
        self._db.register("batch", batch)
        select = f'SELECT *, {hashes}, {complete or "0"} AS "·complete" FROM batch'
        self._db.execute(f"INSERT INTO standing {select}" if self._stood else f"CREATE TABLE standing AS {select}")
        self._db.unregister("batch")
        self._stood = True

    # ---------------------------------------------------------------------------------------------------------- election

    @property
    def _survivors(self) -> str:
        """ORDER BY terms of `keep`, made total by the source key and the source's order."""
        terms = [preferred(order) for order in self._dedupe.keep]
        return ", ".join([*terms, '"·key" NULLS LAST', "pos"])

    @_spilling
    def elect(self) -> None:
        """Decide. Then `losers`, `keys` and `overrides` tell the results."""
        if not self._stood:
            return
        self._cluster()
        self._db.execute(
            f"CREATE TABLE elected AS SELECT *, row_number() OVER w AS place, first_value(pos) OVER w AS by_pos, "
            f"count(*) OVER (PARTITION BY cluster) AS members "
            f"FROM standing JOIN label USING (pos) WINDOW w AS (PARTITION BY cluster ORDER BY {self._survivors} "
            f"ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)"
        )
        self._refuse()

    def _cluster(self) -> None:
        """label(pos, cluster): the smallest pos of all that a row is connected with by merging rules.

        Labels are pointers to rows of the same cluster, and only become less. Each round a row takes the least label among
        its neighbours, hooks the row that it pointed to there as well, and then all take their label's label: so whole
        trees are joined at once, and the rounds are about the logarithm of the longest chain.
        """
        merging = [i for i, rule in enumerate(self._dedupe.rules) if rule.merges]
        self._db.execute("CREATE TABLE label AS SELECT pos, pos AS cluster FROM standing")
        if not merging:
            return
        members = " UNION ALL ".join(
            f"SELECT pos, {n} AS rule, h{n} AS h FROM standing WHERE h{n} IS NOT NULL" for n in merging
        )
        self._db.execute(
            f"CREATE TABLE member AS SELECT pos, rule, h FROM ({members}) "
            f"QUALIFY count(*) OVER (PARTITION BY rule, h) > 1"
        )
        while True:
            self._db.execute(
                "CREATE OR REPLACE TABLE least AS SELECT rule, h, min(cluster) AS cluster "
                "FROM member JOIN label USING (pos) GROUP BY rule, h"
            )
            self._db.execute(
                "CREATE OR REPLACE TABLE nearer AS SELECT pos, min(least.cluster) AS cluster "
                "FROM member JOIN least USING (rule, h) GROUP BY pos"
            )
            changed = self._db.execute(
                "SELECT count(*) FROM nearer JOIN label USING (pos) WHERE nearer.cluster <> label.cluster"
            ).fetchone()
            if not changed or not changed[0]:
                break
            self._db.execute(
                "CREATE OR REPLACE TABLE hooked AS SELECT label.pos, least(label.cluster, min(n.cluster)) AS cluster "
                "FROM label LEFT JOIN (SELECT pos, cluster FROM nearer UNION ALL "
                "SELECT label.cluster, nearer.cluster FROM nearer JOIN label USING (pos)) n USING (pos) "
                "GROUP BY label.pos, label.cluster"
            )
            self._db.execute(
                "CREATE OR REPLACE TABLE label AS SELECT h.pos, of.cluster FROM hooked h JOIN hooked of ON of.pos = h.cluster"
            )

    def _refuse(self) -> None:
        """refused(pos, by_pos, rule): rows that share a unique key with one that is loaded.

        As a server does that takes the rows one by one in the source's order: a row is refused if one before it that was
        not refused has its key.
        """
        unique = [i for i, rule in enumerate(self._dedupe.rules) if not rule.merges]
        self._db.execute("CREATE TABLE refused (pos BIGINT, by_pos BIGINT, rule INTEGER)")
        if not unique:
            return
        codes = ", ".join(
            f"CASE WHEN count(*) OVER (PARTITION BY h{i}) > 1 AND h{i} IS NOT NULL "
            f"THEN dense_rank() OVER (ORDER BY h{i}) - 1 ELSE -1 END AS c{i}"
            for i in unique
        )
        some = " OR ".join(f"c{i} >= 0" for i in unique)
        found = self._db.execute(
            f"SELECT * FROM (SELECT pos, {codes} FROM elected WHERE place = 1) WHERE {some} ORDER BY pos"
        ).fetchnumpy()
        positions = np.asarray(found["pos"], np.int64)
        if not len(positions):
            return
        by, rule = _one_by_one([np.asarray(found[f"c{i}"], np.int64) for i in unique])
        lost = np.flatnonzero(by >= 0)
        columns = {
            "pos": positions[lost],
            "by_pos": positions[by[lost]],
            "rule": np.array(unique, np.int32)[rule[lost]],
        }
        self._db.register("batch", pa.table(columns))
        self._db.execute("INSERT INTO refused SELECT pos, by_pos, rule FROM batch")
        self._db.unregister("batch")

    # ----------------------------------------------------------------------------------------------------------- results

    @_spilling
    def tally(self) -> tuple[int, int]:
        """How many rows are merged, and how many are rejected for a key that another one has."""
        if not self._stood:
            return 0, 0
        row = self._db.execute(
            "SELECT (SELECT count(*) FROM elected WHERE place > 1), (SELECT count(*) FROM refused)"
        ).fetchone()
        return (int(row[0]), int(row[1])) if row else (0, 0)

    def losers(self) -> Iterator[pa.RecordBatch]:
        """All rows that are not loaded, in the source's order, as batches of LOSERS."""
        if self._stood:
            yield from self._batches(f"{self._losers()} ORDER BY chunk, ordinal", LOSERS)

    @_spilling
    def summary(self, *, samples: int = 10, losers_each: int = 5) -> Summary:
        """The merged rows in short."""
        if not self._stood:
            return Summary(0, 0, (), ())
        merged = f"(SELECT * FROM ({self._losers()}) WHERE fate = 'merged')"
        rules = self._db.execute(f"SELECT rule, count(*) FROM {merged} GROUP BY 1 ORDER BY 2 DESC, 1").fetchall()
        clusters = self._db.execute(f"SELECT count(DISTINCT (by_chunk, by_ordinal)) FROM {merged}").fetchone()
        name = "coalesce({0}, concat('chunk ', {1}chunk, ', row ', {1}ordinal))"
        shown = self._db.execute(
            f"SELECT any_value({name.format('survivor', 'by_')}), "
            f"list({name.format('loser', '')} ORDER BY chunk, ordinal)[1:{losers_each}], min(rule) "
            f"FROM {merged} GROUP BY by_chunk, by_ordinal ORDER BY count(*) DESC, by_chunk, by_ordinal LIMIT {samples}"
        ).fetchall()
        return Summary(
            sum(n for _, n in rules),
            clusters[0] if clusters else 0,
            tuple(rules),
            tuple((survivor, tuple(losers), rule) for survivor, losers, rule in shown),
        )

    def _losers(self) -> str:
        merging = [i for i, rule in enumerate(self._dedupe.rules) if rule.merges]
        named = "".join(f"WHEN l.h{i} = s.h{i} THEN {literal(self._dedupe.rules[i].name)} " for i in merging)
        named = f"CASE {named}ELSE 'other duplicates' END" if named else "''"
        unique = "".join(f"WHEN {i} THEN {literal(rule.name)} " for i, rule in enumerate(self._dedupe.rules))
        return f"""
            SELECT (pos >> {_BITS})::INTEGER AS chunk, pos & {_LOW} AS ordinal, (by_pos >> {_BITS})::INTEGER AS by_chunk,
                   by_pos & {_LOW} AS by_ordinal, fate, rule, hash, loser, survivor
            FROM (SELECT l.pos, l.by_pos, 'merged' AS fate, {named} AS rule, l."·hash" AS hash, l."·key" AS loser,
                         s."·key" AS survivor
                  FROM elected l JOIN elected s ON s.pos = l.by_pos WHERE l.place > 1
                  UNION ALL
                  SELECT r.pos, r.by_pos, 'rejected', CASE r.rule {unique}END, l."·hash", l."·key", s."·key"
                  FROM refused r JOIN elected l ON l.pos = r.pos JOIN elected s ON s.pos = r.by_pos)
        """

    def keys(self, columns: Sequence[str], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """For rows that live on under another key: the target columns of both, as `schema` has them, loser's then survivor's.

        A survivor without the key is left out: its children are orphans, and would otherwise silently lose their reference.
        """
        if not self._stood:
            return
        names = [identifier(held(c)) for c in columns]
        pairs = [f"{side}.{name}" for side in ("l", "s") for name in names]
        differ = " OR ".join(f"l.{name} IS DISTINCT FROM s.{name}" for name in names)
        whole = " AND ".join(f"s.{name} IS NOT NULL" for name in names)
        sql = (
            f"SELECT {', '.join(pairs)} FROM elected l JOIN elected s ON s.pos = l.by_pos "
            f"WHERE l.place > 1 AND ({differ}) AND {whole} ORDER BY l.pos"
        )
        fields = [schema.field(c) for c in columns]
        named = [f.with_name(f"{side}·{f.name}") for side in ("l", "s") for f in fields]
        yield from self._batches(sql, pa.schema(named))

    def overrides(self, schema: pa.Schema) -> Iterator[tuple[str, pa.Table]]:
        """(column, rows) where a survivor takes another row's value: chunk, ordinal, from_chunk, from_ordinal, value."""
        if not self._stood:
            return
        for column, order in self._dedupe.columns:
            window, aggregate = chosen(column, order, self._survivors)
            relation = f"(SELECT *, {window} FROM elected WHERE members > 1)" if window else "elected"
            value = identifier(held(column))
            sql = f"""
                SELECT (s.pos >> {_BITS})::INTEGER AS chunk, s.pos & {_LOW} AS ordinal,
                       (o.pos >> {_BITS})::INTEGER AS from_chunk, o.pos & {_LOW} AS from_ordinal, o.{value} AS value
                FROM (SELECT cluster, {aggregate} AS pos FROM {relation} WHERE members > 1 GROUP BY cluster) c
                JOIN elected o ON o.pos = c.pos
                JOIN elected s ON s.cluster = c.cluster AND s.place = 1
                WHERE o.{value} IS DISTINCT FROM s.{value} ORDER BY s.pos
            """
            fields = [LOSERS.field("chunk"), LOSERS.field("ordinal")]
            fields += [LOSERS.field("chunk").with_name("from_chunk"), LOSERS.field("ordinal").with_name("from_ordinal")]
            wanted = pa.schema([*fields, schema.field(column).with_name("value")])
            for batch in self._batches(sql, wanted):
                yield column, pa.Table.from_batches([batch])

    def _batches(self, sql: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        with self._room():
            batches = self._db.cursor().sql(sql).to_arrow_reader(_BATCH)
        while True:
            with self._room():
                batch = next(batches, None)
            if batch is None:
                return
            if batch.num_rows:
                arrays = [column.cast(f.type) for column, f in zip(batch.columns, schema, strict=True)]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _size(count: int) -> str:
    return f"{count / (1 << 20):,.0f} MB"


def _positioned(rows: pa.RecordBatch, chunk: int, ordinals: Positions) -> pa.RecordBatch:
    return rows.rename_columns([held(name) for name in rows.schema.names]).append_column(
        "pos", pa.array((np.int64(chunk) << _BITS) | ordinals)
    )


def _hash(rule: KeyRule) -> str:
    """SQL of 128 bits of a row's key; NULL where it has none. Each text is preceded by its length, so that none runs on."""
    texts = [_text(identifier(held(c))) for c in rule.columns]
    missing = " OR ".join(f"{t} IS NULL" if rule.blank_matches else f"coalesce(trim({t}), '') = ''" for t in texts)
    joined = texts[0] if len(texts) == 1 else f"concat({', '.join(f'strlen({t}), chr(58), {t}' for t in texts)})"
    return f"CASE WHEN {missing} THEN NULL ELSE md5_number({joined}) END"


def _text(value: str) -> str:
    """SQL of a value's text, the same for values that are equal: of floating numbers, 0 and -0 are."""
    text = f"CAST({value} AS VARCHAR)"
    return f"CASE WHEN typeof({value}) IN ('FLOAT', 'DOUBLE') AND {text} = '-0.0' THEN '0.0' ELSE {text} END"


def _one_by_one(codes: Sequence[Positions]) -> tuple[Positions, Positions]:
    """For rows in order, and the keys of each by several rules (-1: none): (row that refuses it or -1, by which rule)."""
    n = len(codes[0])
    by, rule = np.full(n, -1, np.int64), np.full(n, -1, np.int64)
    taken = [np.full(int(c.max(initial=0)) + 1, -1, np.int64) for c in codes]
    undecided = np.arange(n)
    while len(undecided):
        first = np.ones(len(undecided), np.bool_)
        for c in codes:
            key = c[undecided]
            keyed = np.flatnonzero(key >= 0)
            _, starts = np.unique(key[keyed], return_index=True)
            leads = np.zeros(len(undecided), np.bool_)
            leads[keyed[starts]] = True
            first &= leads | (key < 0)
        loaded = undecided[first]
        for r, c in enumerate(codes):
            keyed = loaded[c[loaded] >= 0]
            taken[r][c[keyed]] = keyed
        undecided = undecided[~first]
        for r, c in enumerate(codes):
            key = c[undecided]
            holder = np.where(key >= 0, taken[r][np.maximum(key, 0)], -1)
            new = (holder >= 0) & (by[undecided] < 0)
            by[undecided[new]], rule[undecided[new]] = holder[new], r
        undecided = undecided[by[undecided] < 0]
    return by, rule
