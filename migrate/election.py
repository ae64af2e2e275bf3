"""Elections: finds the duplicates of a table over all of its partitions, before a row of it is loaded."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from mappings.compile import Context, Mapping
from mappings.dedupe import Ballot, Standing
from mappings.mapper import Mapper, key_text
from mappings.references import Reference
from migrate import checksum
from migrate.core import Batch, Event, OnEvent, Partition, Source
from migrate.errors import UsageError
from migrate.pipeline import Follower, KeysOf, only


def refuse_undecidable(mapping: Mapping, knot: frozenset[str]) -> None:
    """Raise UsageError where rows match by a reference into the table's own cycle: whom it means is not known yet."""
    spec = mapping.spec.dedupe
    if spec is None:
        return
    inner = {c for r in mapping.references if r.table in knot for c in r.columns}
    for rule in spec.match:
        for part in rule:
            if part.text.strip() in inner:
                raise UsageError(
                    f"{mapping.spec.name}: dedupe.match: {part.text.strip()} references a table of the same cycle, whose "
                    f"duplicates are not known before those of {mapping.spec.name}",
                    hint="Match by the source's own column instead.",
                )


def elect(
    mapping: Mapping,
    context: Context,
    source: Source,
    partitions: Sequence[Partition],
    knot: frozenset[str],
    keys_of: KeysOf,
    *,
    jobs: int,
    asked: Callable[[], None],
    on_event: OnEvent,
) -> Ballot | None:
    """Elect among all rows of these partitions that pass `where` and the mapping; None where nothing makes rows the same.

    `asked` raises where a stop is asked for. The caller closes the ballot.
    """
    dedupe = mapping.dedupe
    if dedupe is None or not partitions:
        return None
    refuse_undecidable(mapping, knot)
    names = {name for rule in dedupe.rules for name in rule.columns}
    narrow = mapping.with_cells([c for c in (*mapping.cells, *mapping.extra) if c.column.name in names])
    whole = mapping.with_cells([*mapping.cells, *mapping.extra])
    ballot = Ballot(dedupe, mapping.columns, table=mapping.spec.name)
    lock = threading.Lock()
    outer = [r for r in mapping.references if r.table not in knot]
    done = 0

    def cast(tools: "_Tools", partition: Partition) -> None:
        nonlocal done
        for batch in source.read(partition, narrow.reads):
            step = tools.mapper(batch)
            rows = tools.follower(step.rows)
            with lock:
                ballot.cast(partition.ordinal, rows, step.ordinals)
        with lock:
            done += 1
            on_event(Event("electing", mapping.spec.name, "", chunks=len(partitions), chunks_done=done))

    def stand(tools: "_Tools", partition: Partition) -> None:
        wanted = candidates[partition.ordinal]
        for batch in source.read(partition, whole.reads):
            some = only(batch, wanted)
            if some.rows.num_rows:
                standing = tools.standing(some)
                with lock:
                    ballot.stand(partition.ordinal, standing)

    try:
        _each(partitions, cast, lambda: _Tools(narrow, mapping, context, outer, keys_of), jobs, asked)
        candidates = ballot.candidates()
        _each(
            [p for p in partitions if p.ordinal in candidates],
            stand,
            lambda: _Tools(whole, mapping, context, outer, keys_of),
            jobs,
            asked,
        )
        ballot.elect()
    except BaseException:
        ballot.close()
        raise
    return ballot


class _Tools:
    """What one thread needs to map rows for an election."""

    def __init__(
        self, mapping: Mapping, loaded: Mapping, context: Context, outer: Sequence[Reference], keys_of: KeysOf
    ) -> None:
        self.mapper = Mapper(mapping, context)
        self.follower = Follower(outer, keys_of)
        self._loaded = loaded
        self._hasher = checksum.Hasher(loaded.schema, loaded.wires, ())
        by_name = {name.lower(): name for name in mapping.source.schema.names}
        self._key = [by_name[k.lower()] for k in loaded.spec.key]

    def standing(self, batch: Batch) -> Standing:
        step = self.mapper(batch)
        _, hashes = self._hasher(step.rows.select(list(self._loaded.columns)))
        keys: list[str | None] = [None] * len(step.ordinals)
        if self._key:
            picked = batch.rows.select(self._key).filter(pa.array(np.isin(batch.ordinals, step.ordinals)))
            keys = [key_text(self._key, row) for row in picked.to_pylist()]
        return Standing(self.follower(step.rows), step.ordinals, hashes, keys)

    def close(self) -> None:
        self.mapper.close()
        self.follower.close()
        self._hasher.close()


def _each(
    partitions: Sequence[Partition],
    work: Callable[[_Tools, Partition], None],
    tools: Callable[[], _Tools],
    jobs: int,
    asked: Callable[[], None],
) -> None:
    """Do a piece of work for every partition, on some threads."""
    left = iter(partitions)
    lock = threading.Lock()
    failed = threading.Event()

    def worker() -> None:
        mine = tools()
        try:
            while not failed.is_set():
                with lock:
                    partition = next(left, None)
                if partition is None:
                    return
                work(mine, partition)
        except BaseException:
            failed.set()
            raise
        finally:
            mine.close()

    threads = min(jobs, len(partitions))
    if not threads:
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="election") as pool:
        workers = [pool.submit(worker) for _ in range(threads)]
        try:
            while not all(each.done() for each in workers):
                time.sleep(0.02)  # short waits on the main thread, so that signals reach it
                asked()
        except BaseException:
            failed.set()
            raise
        for each in workers:
            each.result()
