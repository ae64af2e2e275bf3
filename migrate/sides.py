"""The two sides of a loaded table, hashed alike: its rows as the source maps to them, and as the target stores them."""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mappings.compile import Mapping
from mappings.ddl import columns, quote
from migrate import checksum, ledger
from migrate.checksum import Hashes
from migrate.core import Chunk, Event, OnEvent, Partition
from migrate.engine import Session
from migrate.ledger import TableState
from migrate.pipeline import KeyChooser, Pipeline
from migrate.readback import BEYOND, PLACE, read_back
from migrate.settle import loaded
from migrate.target import Writer
from validators import rows as comparing

Mask = npt.NDArray[np.bool_]
Within = Callable[[Hashes], Mask]
"""Chooses rows by the hashes of their keys."""

_NOTED = 8 << 30  # bytes on disk in which the target's hashes are noted
_AT_ONCE = 5_000  # rows that are asked for by their places in one statement
_STAGE = "migrate_wanted"


class Sides:
    """Opened for one verification of one table. Not for sharing between threads."""

    def __init__(
        self,
        work: Session,
        mapping: Mapping,
        state: TableState,
        partitions: Sequence[Partition],
        key: tuple[str, ...],
        rows: int,
        on_event: OnEvent,
    ) -> None:
        """`key` are the columns that rows are found by; `rows` is how many there should be."""
        self.work = work
        self.mapping = mapping
        self.state = state
        self.partitions = partitions
        self.key = key
        self._on_event = on_event
        self._rows = rows
        self._hasher = checksum.Hasher(mapping.schema, mapping.wires, self.key)
        self._spread = _spread(work, mapping)
        self._notes: Notes | None = None

    def close(self) -> None:
        self._hasher.close()
        if self._notes is not None:
            self._notes.close()

    def shape(self, replayed: int = 0) -> comparing.Shape:
        strings = {
            f.name
            for f, w in zip(self.mapping.schema, self.mapping.wires, strict=True)
            if pa.types.is_string(f.type) and w.encoder != "text"
        }
        personal = frozenset(self.mapping.spec.personal)
        return comparing.Shape(self.state.name, self.key, frozenset(strings), personal, replayed)

    # ------------------------------------------------------------------------------------------------------- the source

    def mapped(
        self, partitions: Sequence[Partition] | None = None, within: Within | None = None
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """The source once more through the mapping, by chunk, without what the ledger says was rejected or merged.

        `within`: only rows whose keys' hashes are, and perhaps some more.
        """
        work, state = self.work, self.state
        of = Chunk(work.migration, state.name, state.generation, 0)
        source = work.source_of(self.mapping.spec)
        whole = Pipeline(self.mapping, work.context, source, of, work.keys, work.connect)
        chooser, done = None, 0
        if within is not None and self._key_is_mapped:
            chooser = KeyChooser(self.mapping, work.context, work.keys, self.key, within)
        try:
            for partition in self.partitions if partitions is None else partitions:
                chunk = Chunk(work.migration, state.name, state.generation, partition.ordinal)
                gone, nulls = np.array(ledger.rejected(work.conn, chunk), np.int64), ledger.nulled(work.conn, chunk)
                for step in whole.steps(partition, chooser):
                    rows, _ = loaded(step, gone, nulls)
                    if rows.num_rows:
                        yield partition.ordinal, rows
                done += partition.rows
                self._tell("reading the source", min(done, self._rows))
        finally:
            whole.close()
            if chooser is not None:
                chooser.close()

    @property
    def _key_is_mapped(self) -> bool:
        """Whether the mapping alone makes the key: else it is not known before the row is settled."""
        work, name = self.work, self.state.name
        changed = {column for table, column, _, _ in ledger.orphans(work.conn, work.migration) if table == name}
        changed |= ledger.overridden_columns(work.conn, work.migration, name, self.state.generation)
        return bool(self.key) and not changed & set(self.key)

    # ------------------------------------------------------------------------------------------------------- the target

    def stored(self, where: str = "") -> Iterator[pa.RecordBatch]:
        """The target's rows, with the columns PLACE and BEYOND."""
        place = "tableoid || ctid::text" if self._spread else "ctid::text"
        return read_back(self.work.conn, self.mapping.target, self.mapping.schema, self.mapping.wires, where, place)

    @property
    def nothing(self) -> pa.RecordBatch:
        """No row of the target."""
        return pa.RecordBatch.from_pylist([], self.mapping.schema.append(pa.field(BEYOND, pa.string())))

    def at(self, places: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows that stand at some places now, which may be others than did before."""
        for where in _standing_at(places):
            yield from self.stored(where)

    def delete(self, places: Sequence[str]) -> None:
        """Delete the rows at some places."""
        relation = quote(self.mapping.target.schema, self.mapping.target.name)
        for where in _standing_at(places):
            self.work.conn.execute(f"DELETE FROM {relation} {where}")

    def of_keys(self, rows: pa.RecordBatch) -> list[pa.RecordBatch]:
        """The target's rows with the keys of some others."""
        conn, key = self.work.conn, self.key
        indices = [self.mapping.schema.get_field_index(name) for name in key]
        schema = pa.schema([self.mapping.schema.field(i) for i in indices])
        writer = Writer(self.mapping.target, schema, [self.mapping.wires[i] for i in indices])
        stage = quote(_STAGE)
        try:
            with conn.transaction():
                writer.stage(conn, stage, rows.select(list(key)))
                alike = [_alike(key, nulls, stage) for nulls in sorted(_null_in(rows, key))]
                return list(self.stored(f"WHERE {' OR '.join(alike)}")) if alike else []
        finally:
            writer.close()

    def sums(self) -> checksum.Sums:
        """The sums of the target as it is now; each row's hashes and place are noted for `noted`."""
        self._notes = Notes()
        sums = checksum.zero()
        for batch in self._all_stored():
            keys, hashes = self.hashed(batch)
            sums += checksum.add(keys, hashes)
            self._notes.add(keys, hashes, batch[PLACE])
        return sums

    def _all_stored(self) -> Iterator[pa.RecordBatch]:
        done = 0
        for batch in self.stored():
            yield batch
            done += batch.num_rows
            self._tell("reading the target", done)

    def _tell(self, doing: str, done: int) -> None:
        self._on_event(Event("verifying", self.state.name, rows=max(self._rows, done), rows_done=done, state=doing))

    def noted(self, within: Within) -> Iterator[tuple[Hashes, Hashes, pa.Array]]:
        """Hashes of key and row, and the place, of the target's rows whose keys' hashes are `within`."""
        notes = self._notes
        read = notes if notes is not None and notes.whole else self._again()
        for keys, hashes, places in read:
            keep = within(keys)
            if keep.any():
                yield keys[keep], hashes[keep], places.filter(pa.array(keep))

    def _again(self) -> Iterator[tuple[Hashes, Hashes, pa.Array]]:
        for batch in self._all_stored():
            yield *self.hashed(batch), batch[PLACE]

    # ---------------------------------------------------------------------------------------------------------- of both

    def hashed(self, batch: pa.RecordBatch) -> tuple[Hashes, Hashes]:
        """Hashes of each row's key and of the row; one with values beyond the wire's types has one that no mapped row has."""
        keys, hashes = self._hasher(batch)
        beyond = _beyond(batch)
        if beyond:
            hashes = hashes.copy()
            for at, values in beyond.items():
                hashes[at] ^= np.uint64(
                    int.from_bytes(blake2b(repr(values).encode(), digest_size=8).digest(), "little")
                )
        return keys, hashes

    def shown(self, batch: pa.RecordBatch) -> pa.Table:
        """The rows' texts, as the validators want them."""
        texts = self._hasher.texts(batch)
        for at, values in _beyond(batch).items():
            for column, text in values.items():
                i = texts.schema.get_field_index(column)
                mended = [
                    texts.column(i)[:at].combine_chunks(),
                    pa.array([text]),
                    texts.column(i)[at + 1 :].combine_chunks(),
                ]
                texts = texts.set_column(i, column, pa.chunked_array(mended, pa.string()))
        return texts


def _null_in(rows: pa.RecordBatch, key: Sequence[str]) -> set[tuple[bool, ...]]:
    """Which columns of the key are NULL in a row, as often as there is such a row."""
    if not any(rows[name].null_count for name in key):
        return {(False,) * len(key)} if rows.num_rows else set()
    return set(zip(*(rows[name].is_null().to_pylist() for name in key), strict=True))


def _alike(key: Sequence[str], nulls: Sequence[bool], stage: str) -> str:
    """SQL: a row's key is one of the stage's, with NULLs in these columns, which IN alone finds equal to nothing."""
    null = [f"{quote(name)} IS NULL" for name, is_null in zip(key, nulls, strict=True) if is_null]
    rest = [name for name, is_null in zip(key, nulls, strict=True) if not is_null]
    if not rest:
        return f"({' AND '.join(null)})"
    within = f"WHERE {' AND '.join(null)}" if null else ""
    return f"({' AND '.join([*null, f'({columns(rest)}) IN (SELECT {columns(rest)} FROM {stage} {within})'])})"


def _standing_at(places: Sequence[str]) -> Iterator[str]:
    """SQL conditions for rows at some places, some at a time."""
    by_table: dict[str, list[str]] = {}
    for place in places:
        table, _, rest = place.partition("(")
        by_table.setdefault(table, []).append(f"({rest}")
    for table, tids in by_table.items():
        within = f"tableoid = {int(table)} AND " if table else ""
        for first in range(0, len(tids), _AT_ONCE):
            listed = ",".join(f'"{tid}"' for tid in tids[first : first + _AT_ONCE])
            yield f"WHERE {within}ctid = ANY ('{{{listed}}}'::tid[])"


def _spread(work: Session, mapping: Mapping) -> bool:
    """Whether the rows stand in several tables, so that a place within one does not tell which row."""
    target = mapping.target
    row = work.conn.execute(
        "SELECT relkind = 'p' OR relhassubclass FROM pg_class WHERE oid = to_regclass(%s)",
        [quote(target.schema, target.name)],
    ).fetchone()
    return row is not None and bool(row[0])


def _beyond(batch: pa.RecordBatch) -> dict[int, dict[str, str]]:
    """By row, the texts of the values that the wire types cannot hold."""
    if BEYOND not in batch.schema.names or batch[BEYOND].null_count == batch.num_rows:
        return {}
    texts = batch[BEYOND]
    return {int(at): json.loads(texts[int(at)].as_py()) for at in np.flatnonzero(texts.is_valid().to_numpy(False))}


class Notes:
    """Hashes and places of rows, on disk: about 30 bytes a row. `whole` is false where there was no room for all."""

    _SCHEMA = pa.schema([("keys", pa.uint64()), ("hashes", pa.uint64()), ("places", pa.string())])

    def __init__(self, room: int = _NOTED) -> None:
        self._room = room
        self._file: BinaryIO = tempfile.TemporaryFile(prefix="migrate-verify-")  # noqa: SIM115 - closed by close()
        self._stream = pa.ipc.new_stream(self._file, self._SCHEMA)
        self.whole = True

    def add(self, keys: Hashes, hashes: Hashes, places: pa.Array) -> None:
        if not self.whole:
            return
        batch = pa.record_batch([pa.array(keys), pa.array(hashes), places], schema=self._SCHEMA)
        try:
            self._stream.write_batch(batch)
        except OSError:  # the disk is full: the target is read again instead
            self.whole = False
        if not self.whole or self._file.tell() > self._room:
            self.whole = False
            with suppress(OSError):
                self._file.truncate(0)

    def __iter__(self) -> Iterator[tuple[Hashes, Hashes, pa.Array]]:
        """All of them; nothing can be added from here on."""
        self._stream.close()
        self._file.seek(0)
        for batch in pa.ipc.open_stream(self._file):
            yield batch.column(0).to_numpy(), batch.column(1).to_numpy(), batch.column(2)

    def close(self) -> None:
        self._file.close()
