"""What becomes of a chunk's rows before they are committed: read, mapped, references rewritten, losers taken out.

Everything that reads a source's rows as they were, or are to be, loaded goes through here: the load itself, settling, and
verification.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import compress

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mappings.compile import Context
from mappings.compile import Mapping as CompiledMapping
from mappings.mapper import Mapper
from mappings.references import Reference
from migrate import checksum, crosswalk
from migrate.core import Batch, Chunk, Ordinals, Partition, Reject, Source, Step
from migrate.crosswalk import Keys, Trail
from migrate.errors import GateError
from migrate.target import Connection

KeysOf = Callable[[str, tuple[str, ...]], Keys]
"""(table, target columns) → the keys of its losers and survivors."""


class Follower:
    """Rewrites references to rows that were merged, so that children follow their parents. For one thread."""

    def __init__(self, references: Sequence[Reference], keys_of: KeysOf) -> None:
        self._followed: list[tuple[Reference, Trail]] = []
        for r in references:
            keys = keys_of(r.table, r.parent_columns)
            if len(keys):
                trail = Trail(keys, r.columns, padded=r.padded, widths=r.widths, numbers=r.numbers)
                self._followed.append((r, trail))

    def __call__(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """The rows with every reference that they have whole."""
        for reference, trail in self._followed:
            if rows.num_rows and set(reference.columns) <= set(rows.schema.names):
                rows = trail(rows)
        return rows

    def close(self) -> None:
        for _, trail in self._followed:
            trail.close()


class Pipeline:
    """The rows of one table's generation, chunk by chunk, as the mapping and the crosswalks make them. For one thread."""

    def __init__(
        self,
        mapping: CompiledMapping,
        context: Context,
        source: Source,
        of: Chunk,
        keys_of: KeysOf,
        connect: Callable[[], Connection],
    ) -> None:
        """`of` names the generation, whatever its ordinal."""
        self._mapping = mapping
        self._source = source
        self._of = of
        self._connect = connect
        self._connection: Connection | None = None
        self._mapper = Mapper(mapping, context)
        self._follower = Follower(mapping.references, keys_of)
        self._losers, self._overrides = crosswalk.is_there(self._conn, of)
        self._hasher = checksum.Hasher(mapping.schema, mapping.wires, ()) if self._losers else None

    @property
    def _conn(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._hasher is not None:
            self._hasher.close()
        self._follower.close()
        self._mapper.close()

    def steps(self, partition: Partition, chosen: Callable[[Batch], Batch] | None = None) -> Iterator[Step]:
        """The chunk of a partition, afresh, or the rows of it that are `chosen`.

        Raises SourceError, and GateError where the source is not what was elected.
        """
        chunk = Chunk(self._of.migration, self._of.table, self._of.generation, partition.ordinal)
        losers = crosswalk.losers(self._conn, chunk) if self._losers else None
        values = crosswalk.overrides(self._conn, chunk) if self._overrides else {}
        met = 0
        for read in self._source.read(partition, self._mapping.reads):
            batch = read if chosen is None else chosen(read)
            step = self._mapper(batch)
            if losers is not None and len(losers.ordinals):
                met += int(np.isin(step.ordinals, losers.ordinals).sum())
                step = self._without(step, losers, batch)
            rows = crosswalk.overridden(step.rows, step.ordinals, values)
            yield replace(step, rows=self._follower(rows))
        if chosen is None and losers is not None and met != len(losers.ordinals):
            raise self._changed(
                chunk, f"{len(losers.ordinals)} of its rows are duplicates, and {met} of those are there"
            )

    def _without(self, step: Step, losers: crosswalk.Losers, batch: Batch) -> Step:
        """The step without the rows that live on in others, or that another one's key keeps out."""
        lost = np.flatnonzero(np.isin(step.ordinals, losers.ordinals))
        if not len(lost):
            return step
        assert self._hasher is not None
        places = np.searchsorted(losers.ordinals, step.ordinals[lost])
        _, hashes = self._hasher(step.rows.take(pa.array(lost)))
        if not np.array_equal(hashes, losers.hashes[places]):
            raise self._changed(self._of, "a duplicate is another row than the one that was elected")
        merged = losers.merged[places]
        refused, at = step.ordinals[lost[~merged]], places[~merged]
        origins = step.locate([int(o) for o in refused]) if len(refused) else []
        rejects = tuple(
            Reject(
                int(ordinal),
                "unique",
                f"another row has the same {losers.rules[p]}, and comes before it: {losers.survivors[p]}",
                origin,
            )
            for ordinal, p, origin in zip(refused, at, origins, strict=True)
        )
        keep = np.ones(len(step.ordinals), np.bool_)
        keep[lost] = False
        return Step(
            step.read,
            step.rows.filter(pa.array(keep)),
            step.ordinals[keep],
            np.concatenate((step.merged, step.ordinals[lost[merged]])),
            step.filtered,
            (*step.rejects, *rejects),
            step.locate,
        )

    def _changed(self, chunk: Chunk, what: str) -> GateError:
        return GateError(
            f"{chunk.table}: the source has changed since its duplicates were found: {what}",
            hint=f"Nothing of this chunk was loaded. `migrate run --restart -s {chunk.table}` starts the table over.",
        )


class KeyChooser:
    """Chooses rows by the hashes of their target keys, before anything else of them is mapped. For one thread."""

    def __init__(
        self,
        mapping: CompiledMapping,
        context: Context,
        keys_of: KeysOf,
        key: Sequence[str],
        within: Callable[[checksum.Hashes], npt.NDArray[np.bool_]],
    ) -> None:
        """`key` are the target columns that choose the bucket, all of them mapped."""
        cells = {cell.column.name: cell for cell in mapping.cells}
        narrow = replace(mapping.with_cells([cells[name] for name in key]), where=None)
        self._mapper = Mapper(narrow, context)
        self._follower = Follower(mapping.references, keys_of)
        self._hasher = checksum.Hasher(narrow.schema, narrow.wires, key)
        self._within = within

    def __call__(self, batch: Batch) -> Batch:
        """The batch with only those rows. A row whose key cannot be mapped was rejected, and is none of them."""
        step = self._mapper(batch)
        keys, _ = self._hasher(self._follower(step.rows))
        return only(batch, step.ordinals[self._within(keys)])

    def close(self) -> None:
        self._hasher.close()
        self._follower.close()
        self._mapper.close()


def only(batch: Batch, ordinals: Ordinals) -> Batch:
    """Some rows of a batch, those that could not be read included."""
    keep = np.isin(batch.ordinals, ordinals)
    lost = np.isin([r.ordinal for r in batch.rejects], ordinals)
    rejects = tuple(compress(batch.rejects, lost))
    partial = None if batch.partial is None else batch.partial.filter(pa.array(lost))
    return Batch(batch.rows.filter(pa.array(keep)), batch.ordinals[keep], batch.locate, rejects, partial)
