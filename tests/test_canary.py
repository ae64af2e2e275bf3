"""A sample of a source: exactly the picked rows, numbered without a gap, located where they stand."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.delimited import open_files
from migrate.canary import Sampled, spread
from migrate.core import Ordinals, Origin, Partition, Source
from migrate.errors import SourceError

Found = list[tuple[int, str | None, Origin]]


def text(rows: int) -> bytes:
    """Lines of a table; every seventh is broken and rejected by the reader."""
    return b"id,name\n" + b"".join(b"%d\n" % i if i % 7 == 6 else b"%d,n%d\n" % (i, i) for i in range(rows))


def source(folder: Path, *sizes: int) -> Source:
    names = [f"{n}.csv" for n in range(len(sizes))]
    for name, size in zip(names, sizes, strict=True):
        (folder / name).write_bytes(text(size))
    return open_files({"t": names, "other": names[:1]}, {}, folder)


def cut(opened: Source, size: int = 400) -> list[Partition]:
    return list(opened.partitions(opened.schema("t"), rows=1 << 40, bytes=size))


def read(opened: Source, partition: Partition) -> Found:
    """(ordinal, id or None where it was rejected, origin) of each row; every one is located by its ordinal."""
    found: Found = []
    for batch in opened.read(partition, ["name", "id"]):
        ordinals = batch.ordinals.tolist()
        assert batch.rows.schema.names == ["name", "id"]
        found += zip(ordinals, batch.rows["id"].to_pylist(), batch.locate(ordinals), strict=True)
        found += [(r.ordinal, None, r.origin) for r in batch.rejects]
    return sorted(found, key=lambda row: row[0])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_picked_is_read_and_nothing_else(tmp_path: Path, data: st.DataObject) -> None:
    opened = source(tmp_path, *data.draw(st.lists(st.integers(1, 150), min_size=1, max_size=3)))
    whole = cut(opened)
    rows = {p.ordinal: read(opened, p) for p in whole}
    picks = {
        p.ordinal: np.array(data.draw(st.lists(st.integers(0, len(rows[p.ordinal]) + 3), max_size=20)), np.int64)
        for p in whole
    }
    sampled = Sampled(opened, whole, picks)
    chosen = [p for p in whole if len(picks[p.ordinal])]
    table = sampled.schema("t")
    parts = list(sampled.partitions(table, rows=3, bytes=5))
    assert [p.ordinal for p in parts] == list(range(len(chosen)))
    assert sampled.tables() == opened.tables()
    # Another process has the tokens only.
    reopened = Sampled(open_files({"t": [f.name for f in sorted(tmp_path.iterdir())]}, {}, tmp_path), [], {})
    for part, inner in zip(parts, chosen, strict=True):
        expected = [
            rows[inner.ordinal][o] for o in sorted({*picks[inner.ordinal].tolist()}) if o < len(rows[inner.ordinal])
        ]
        for opener in (sampled, reopened):
            found = read(opener, part)
            assert [row[0] for row in found] == list(range(len(expected)))
            assert [row[1:] for row in found] == [row[1:] for row in expected]
    assert list(sampled.partitions(opened.schema("other"), rows=3, bytes=5)) == []


def test_a_partition_planned_without_a_sample_is_refused(tmp_path: Path) -> None:
    opened = source(tmp_path, 20)
    with pytest.raises(SourceError, match="t: this partition was planned without a sample"):
        read(Sampled(opened, [], {}), cut(opened)[0])


def test_a_source_that_changed_is_refused(tmp_path: Path) -> None:
    opened = source(tmp_path, 20)
    whole = cut(opened)
    sampled = Sampled(opened, whole, spread(whole, 3))
    (part,) = sampled.partitions(opened.schema("t"), rows=1, bytes=1)
    (tmp_path / "0.csv").write_bytes(text(20).replace(b"n1,", b"n2,").replace(b"n3", b"n4"))
    with pytest.raises(SourceError, match="changed"):
        read(sampled, part)


def parts(*rows: int) -> list[Partition]:
    return [Partition("t", 10 + n, "", r) for n, r in enumerate(rows)]


def listed(picks: dict[int, Ordinals]) -> dict[int, Sequence[int]]:
    return {ordinal: rows.tolist() for ordinal, rows in picks.items()}


@pytest.mark.parametrize(
    ("rows", "n", "expected"),
    [
        ([10], 2, {10: [0, 5]}),
        ([4, 4], 4, {10: [0, 2], 11: [0, 2]}),
        ([2, 98], 10, {10: [0], 11: [8, 18, 28, 38, 48, 58, 68, 78, 88]}),
        ([1000, 1, 1000], 3, {10: [0, 667], 12: [333]}),
        ([3, 2], 5, {10: [0, 1, 2], 11: [0, 1]}),
        ([3, 2], 10, {10: [0, 1, 2, 3, 4, 5], 11: [0, 1, 2, 3]}),
        ([0, 0], 4, {10: [0, 1], 11: [0, 1]}),
        ([0, 0, 0], 1, {10: [0]}),
        ([5], 0, {}),
        ([], 5, {}),
    ],
)
def test_a_sample_is_spread_evenly(rows: list[int], n: int, expected: dict[int, list[int]]) -> None:
    assert listed(spread(parts(*rows), n)) == expected


@given(rows=st.lists(st.integers(0, 10**10), max_size=8), n=st.integers(0, 500))
def test_a_sample_is_as_large_as_was_asked_and_has_no_row_twice(rows: list[int], n: int) -> None:
    picks = spread(parts(*rows), n)
    total = sum(len(p) for p in picks.values())
    assert listed(picks) == listed(spread(parts(*rows), n))
    assert all(len(p) and (np.diff(p) > 0).all() for p in picks.values())
    if rows:
        assert n <= total <= n + len(rows)
    known = dict(zip((10 + k for k in range(len(rows))), rows, strict=True))
    if all(rows) and n <= sum(rows):
        assert total == n
        assert all(p[-1] < known[ordinal] for ordinal, p in picks.items())
