"""The contract of every connector of files: each record has one fate, each time the same, and a file that changes is refused.

The same of databases stands in test_contract.py.
"""

import gc
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from contract import Told, slowly, told
from files import FORMS, Form
from texts import TEXTS

from migrate.core import Counted, Partition, Source
from migrate.errors import SourceError

DAMAGED = range(5, 9_000, 97)
ROWS = [(str(n), f"text {n} ä") for n in range(9_000)]


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Form:
    return FORMS[request.param]


Contents = tuple[list[tuple[str | None, ...]], list[int], list[Told]]


def partitions(source: Source, rows: int) -> list[Partition]:
    return list(source.partitions(source.schema("t"), rows=rows, bytes=1 << 20))


def contents(source: Source, part: Partition, columns: Sequence[str] = ("n", "v")) -> Contents:
    """A partition's rows, ordinals and rejects."""
    batches = list(source.read(part, columns))
    rows = [tuple(each.values()) for batch in batches for each in batch.rows.to_pylist()]
    return (
        rows,
        [int(o) for batch in batches for o in batch.ordinals],
        [told(reject) for batch in batches for reject in batch.rejects],
    )


@pytest.mark.parametrize("size", [7, 1_000, 5_000, 100_000])
def test_each_record_has_one_fate(form: Form, tmp_path: Path, size: int) -> None:
    form.made(tmp_path, ROWS, DAMAGED)
    source = form.open(tmp_path)
    counted: Counted = source  # type: ignore[assignment]
    parts = partitions(source, size)
    # Files that can only be read from their start are cut between batches of some thousand rows.
    assert len(parts) >= (2 if size < 9_000 else 1)
    read: list[str | None] = []
    rejected = 0
    for part in parts:
        rows, ordinals, rejects = contents(source, part)
        assert sorted([*ordinals, *(reject[0] for reject in rejects)]) == list(range(counted.count(part)))
        read += [n for n, _ in rows]
        rejected += len(rejects)
    assert read == [n for n, _ in ROWS if int(n) not in DAMAGED]
    assert rejected == len(DAMAGED)


def test_a_partition_read_again_gives_the_same_rows_and_rejects(form: Form, tmp_path: Path) -> None:
    """By another process's source too, from the token alone; in any order of the partitions and of the columns."""
    form.made(tmp_path, ROWS, DAMAGED)
    source = form.open(tmp_path)
    parts = partitions(source, 1_000)
    once = [contents(source, part) for part in parts]
    assert sum(len(rejects) for *_, rejects in once) == len(DAMAGED)
    another = form.open(tmp_path)
    assert [contents(another, part) for part in reversed(parts)] == once[::-1]
    for part, (rows, ordinals, rejects) in zip(parts, once, strict=True):
        turned = contents(another, part, ("v", "n"))
        assert ([row[::-1] for row in turned[0]], turned[1]) == (rows, ordinals)
        assert [reject[0] for reject in turned[2]] == [reject[0] for reject in rejects]


def test_values_arrive_exactly(form: Form, tmp_path: Path) -> None:
    wanted = [text for text in TEXTS if not any(sign in form.bare for sign in text)]
    form.made(tmp_path, [(str(n), text) for n, text in enumerate(wanted)])
    source = form.open(tmp_path)
    found = [row for part in partitions(source, 5) for row in contents(source, part)[0]]
    assert found == [(str(n), text) for n, text in enumerate(wanted)]


@pytest.mark.parametrize("changed", ["a value", "a row more", "a row less", "nothing left"])
def test_a_file_that_changes_is_refused_and_read_on_once_it_is_as_it_was(
    form: Form, tmp_path: Path, changed: str
) -> None:
    path = form.made(tmp_path, ROWS, DAMAGED)
    source = form.open(tmp_path)
    parts = partitions(source, 1_000)
    once = [contents(source, part) for part in parts]
    kept, stat = path.read_bytes(), path.stat()
    others = {
        "a value": [*ROWS[:-1], ("8999", "TEXT 8999 ä")],
        "a row more": [*ROWS, ("9000", "x")],
        "a row less": ROWS[:-1],
    }
    if changed in others:
        form.made(tmp_path, others[changed], DAMAGED)
    else:
        path.unlink()
    for of in (source, form.open(tmp_path)) if path.exists() else (source,):
        with pytest.raises(SourceError) as caught:
            contents(of, parts[-1])
        assert path.name in caught.value.message
    path.write_bytes(kept)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert [contents(source, part) for part in parts] == once


def test_a_reader_that_stops_early_leaves_nothing_open(form: Form, tmp_path: Path) -> None:
    form.made(tmp_path, ROWS, DAMAGED)
    source = form.open(tmp_path)
    parts = partitions(source, 100_000)
    contents(source, parts[0])
    gc.collect()
    before = sorted(os.listdir("/proc/self/fd"))
    reading = source.read(parts[0], ["n", "v"])
    next(reading)
    reading.close()  # type: ignore[attr-defined]
    gc.collect()
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_memory_stays_bounded_while_the_consumer_is_slow(form: Form, tmp_path: Path) -> None:
    """Of a process of its own: of 120 MB in chunks of 8 MB, a few chunks."""
    if form.name == "xls":
        pytest.skip(".xls is held in memory, as its documentation says: it has at most 65,536 rows a sheet")
    count, small = 60_000, tmp_path / "small"
    small.mkdir()
    form.made(small, ROWS[:3])
    form.made(tmp_path, [(str(n), chr(97 + n % 26) * 2_000) for n in range(count)])
    read = [{"files": form.place(folder), "table": "t"} for folder in (small, tmp_path)]
    told = slowly({"read": read, "columns": ["n", "v"]})
    assert told["rows"] == count
    assert told["parts"] > 5
    assert told["grown"] < 96 << 20, told
