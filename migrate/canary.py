"""A canary's sample: a source of which only chosen rows are seen, numbered as if there were no others."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from migrate.core import Batch, Ordinals, Origin, Partition, Source, Table
from migrate.errors import SourceError
from migrate.pipeline import only


def spread(partitions: Sequence[Partition], n: int) -> dict[int, Ordinals]:
    """About `n` rows to pick, the same each time, evenly over all partitions: by partition ordinal, in order.

    As even as the partitions' estimates of their rows are good. Where one is too high, its last picks are beyond its end
    and fewer rows come; one that has none (0) counts as its share of `n`.
    """
    if n <= 0 or not partitions:
        return {}
    share = -(-n // len(partitions))
    rows = np.array([p.rows or share for p in partitions], np.int64)
    total = int(rows.sum())
    if n >= total:
        # All of them: more than the estimate where that is too low.
        picked = {
            p.ordinal: np.arange(-(-int(r) * n // total), dtype=np.int64) for p, r in zip(partitions, rows, strict=True)
        }
        return {ordinal: picks for ordinal, picks in picked.items() if len(picks)}
    ends = np.cumsum(rows)
    places = np.arange(n, dtype=np.int64) * total // n
    where = np.searchsorted(ends, places, side="right")
    within = places - (ends - rows)[where]
    return {partitions[k].ordinal: within[where == k] for k in np.unique(where)}


@dataclass(frozen=True, slots=True)
class _Token:
    """The partition that the picks were made in, and the picks: all that reading them again needs."""

    inner: Partition
    picks: Ordinals

    def dump(self) -> str:
        p = self.inner
        return json.dumps(
            {"ordinal": p.ordinal, "token": p.token, "rows": p.rows, "bytes": p.bytes, "picks": self.picks.tolist()},
            separators=(",", ":"),
            ensure_ascii=False,
        )

    @staticmethod
    def load(table: str, text: str) -> "_Token":
        """Raises SourceError for the token of a run without a sample."""
        parts = json.loads(text)
        if not isinstance(parts, dict) or "picks" not in parts:
            raise SourceError(
                f"{table}: this partition was planned without a sample", hint="Run without --canary, or start over."
            )
        picks = np.array(parts.pop("picks"), np.int64)
        return _Token(Partition(table, **parts), picks)


class Sampled:
    """`Source` of the picked rows of one table of another source.

    `partitions` are the inner ones that the picks were made in: cut once, for picks mean nothing in another cut. Picks
    beyond the end of a partition are no rows. As safe to read from several threads as the inner source is.
    """

    def __init__(self, source: Source, partitions: Sequence[Partition], picks: Mapping[int, Ordinals]) -> None:
        self._source = source
        self._tokens = [_Token(p, np.unique(picks[p.ordinal])) for p in partitions if len(picks.get(p.ordinal, ()))]

    def tables(self) -> Sequence[str]:
        return self._source.tables()

    def schema(self, table: str, /) -> Table:
        return self._source.schema(table)

    def partitions(self, table: Table, /, *, rows: int, bytes: int) -> Iterator[Partition]:
        """The partitions that have picks, whatever the size asked for."""
        for ordinal, token in enumerate(t for t in self._tokens if t.inner.table == table.name):
            yield Partition(table.name, ordinal, token.dump(), len(token.picks), token.inner.bytes)

    def read(self, partition: Partition, /, columns: Sequence[str]) -> Iterator[Batch]:
        """The picked rows and rejects; the inner partition is read no further than the last of them."""
        token = _Token.load(partition.table, partition.token)
        left = len(token.picks)
        for batch in self._source.read(token.inner, columns):
            picked = _picked(batch, token.picks)
            left -= len(picked.ordinals) + len(picked.rejects)
            if len(picked.ordinals) or picked.rejects:
                yield picked
            if not left:
                return


def _picked(batch: Batch, picks: Ordinals) -> Batch:
    """The batch's rows that are among the picks (ascending), numbered by their place there; they are located as before.

    The picks that a partition lacks are beyond its end, so the numbers have no gap.
    """

    def locate(ordinals: Sequence[int]) -> Sequence[Origin]:
        return batch.locate([int(picks[o]) for o in ordinals])

    part = only(batch, picks)
    rejects = [replace(reject, ordinal=int(np.searchsorted(picks, reject.ordinal))) for reject in part.rejects]
    return replace(part, ordinals=np.searchsorted(picks, part.ordinals), locate=locate, rejects=tuple(rejects))
