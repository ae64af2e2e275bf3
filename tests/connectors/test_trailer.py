"""Trailers of delimited files: never read as rows, anywhere else refused, and believed only where the count is right."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.delimited import open_files
from migrate.core import Partition, Source
from migrate.errors import SourceError, UsageError

TRAILER = r"^TRL;(?P<rows>\d+)"


def source_of(folder: Path, data: bytes, name: str = "t.csv", **options: Any) -> Source:
    (folder / name).write_bytes(data)
    return open_files({"t": [name]}, {"delimiter": ";", **options}, folder)


def slices(source: Source, size: int = 1 << 23) -> list[Partition]:
    return list(source.partitions(source.schema("t"), rows=1 << 40, bytes=size))


def read(source: Source, partitions: list[Partition]) -> list[tuple[object, ...]]:
    """Rows and rejects with their places, as one list."""
    found: list[tuple[object, ...]] = []
    for partition in partitions:
        for batch in source.read(partition, source.schema("t").schema.names):
            origins = batch.locate(batch.ordinals.tolist())
            rows = zip(batch.ordinals.tolist(), batch.rows.to_pylist(), origins, strict=True)
            found += [(partition.ordinal, ordinal, row, origin.locator["line"]) for ordinal, row, origin in rows]
            found += [(partition.ordinal, r.ordinal, r.rule, r.origin.locator["line"]) for r in batch.rejects]
            assert source.count(partition) == batch.rows.num_rows + len(batch.rejects)  # type: ignore[attr-defined]
    return found


def refused(folder: Path, data: bytes, trailer: str = TRAILER, **options: Any) -> str:
    source = source_of(folder, data, trailer=trailer, **options)
    with pytest.raises(SourceError) as caught:
        slices(source)
    assert caught.value.hint
    return caught.value.message


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_trailer_is_no_row(tmp_path: Path, line_end: str, encoding: str, packed: bool) -> None:
    text = line_end.join(["id;name", "1;Jürgen", '2;"zwei', 'Zeilen"', "3;x", "ENDE Ü 3", ""])
    data = text.encode(encoding)
    source = source_of(
        tmp_path, gzip.compress(data) if packed else data, encoding=encoding, trailer=r"ENDE Ü\s+(?P<rows>\d+)$"
    )
    table = source.schema("t")
    assert any("a trailer of 1 line that counts 3 records" in note for note in table.notes)
    for size in (1, 1 << 20):
        rows = read(source, slices(source, size))
        assert [row[2] for row in rows] == [
            {"id": "1", "name": "Jürgen"},
            {"id": "2", "name": f"zwei{line_end}Zeilen"},
            {"id": "3", "name": "x"},
        ]


field = st.text(st.sampled_from('aT;RL"\n\r5 é'), max_size=6)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(field, field, st.booleans()), max_size=12),
    st.sampled_from(["\n", "\r\n"]),
    st.integers(1, 80),
    st.booleans(),
    st.integers(0, 2),
)
def test_a_trailer_never_changes_the_records_read(
    tmp_path: Path, rows: list[tuple[str, str, bool]], line_end: str, size: int, ended: bool, blank: int
) -> None:
    """Whatever the fields hold, wherever the slices are cut: with the trailer or without it the same is read."""

    def spelled(value: str, quoted: bool) -> str:
        quoted = quoted or any(c in value for c in ';"\n\r') or not value
        return '"' + value.replace('"', '""') + '"' if quoted else value

    lines = ["a;b", *(";".join((spelled(a, quoted), spelled(b, quoted))) for a, b, quoted in rows)]
    plain = "".join(line + line_end for line in lines).encode()
    options = {"encoding": "utf-8", "quote": '"', "escape": ""}
    bare = source_of(tmp_path, plain, **options)
    trailer = f"TRL;{len(rows)}" + (line_end if ended else "") + line_end * blank * ended
    trailed = source_of(tmp_path, plain + trailer.encode(), "u.csv", trailer=TRAILER, **options)
    bare_slices, trailed_slices = slices(bare, size), slices(trailed, size)
    assert read(bare, bare_slices) == read(trailed, trailed_slices)
    places = [
        [(t["start"], t["end"]) for p in part for t in [json.loads(p.token)]] for part in (bare_slices, trailed_slices)
    ]
    assert places[0] == places[1]


def test_several_lines_are_one_trailer_and_blank_lines_behind_it_are_nothing(tmp_path: Path) -> None:
    data = b"a;b\n1;2\nSUM;17\n\nTRL;1\n\n\n"
    source = source_of(tmp_path, data, trailer=r"SUM;|TRL;(?P<rows>\d+)")
    assert len(read(source, slices(source))) == 1
    assert any("a trailer of 2 lines that counts 1 records" in note for note in source.schema("t").notes)


def test_a_trailer_without_a_number_is_only_left_out(tmp_path: Path) -> None:
    source = source_of(tmp_path, b"a;b\n1;2\n-- end of file --", trailer="-- end")
    assert len(read(source, slices(source))) == 1


def test_a_pattern_that_matches_rows_takes_none_of_them_in_silence(tmp_path: Path) -> None:
    """Without a number that proves them to be trailers, more than the last line may be none."""
    data = b"a;b\n1;2\nT1;2\nT2;2\n"
    assert refused(tmp_path, data, trailer="^T") == "t.csv:3: a trailer stands here, before the file's end"
    assert refused(tmp_path, data, trailer=r"^T|END (?P<rows>\d+)") == (
        "t.csv: the trailer does not say how many records there are"
    )
    assert refused(tmp_path, data + b"END 3\n", trailer=r"^T|END (?P<rows>\d+)") == (
        "t.csv:3: the trailer says 3 records, and the file holds 1"
    )


def test_a_file_of_a_header_and_a_trailer_is_an_empty_one(tmp_path: Path) -> None:
    source = source_of(tmp_path, b"a;b\nTRL;0\n", trailer=TRAILER)
    assert slices(source) == []
    assert refused(tmp_path, b"a;b\nTRL;2\n") == "t.csv:2: the trailer says 2 records, and the file holds 0"


def test_a_long_trailer_is_found_whole(tmp_path: Path) -> None:
    long = b"TRL;2;" + b"x" * 200_000
    source = source_of(tmp_path, b"a;b\n1;2\n3;4\n" + long, trailer=TRAILER)
    assert len(read(source, slices(source))) == 2
    rows = b"".join(b"%d;x\n" % n for n in range(40_000))
    source = source_of(tmp_path, b"a;b\n" + rows + b"TRL;40000\n", trailer=TRAILER)
    assert sum(p.rows for p in slices(source)) == 40_000


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_a_missing_trailer_is_refused(tmp_path: Path, line_end: str) -> None:
    data = line_end.join(["a;b", "1;2", "3;4", ""]).encode()
    assert refused(tmp_path, data) == "t.csv:3: the file ends without the trailer that it should have"
    assert refused(tmp_path, b"") == "t.csv:1: the file ends without the trailer that it should have"
    text = data.decode().encode("utf-16")
    assert refused(tmp_path, text, encoding="utf-16").startswith("t.csv:3: the file ends without")


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, 20, 1 << 20])
def test_a_trailer_in_the_middle_is_refused(tmp_path: Path, line_end: str, size: int) -> None:
    data = line_end.join(["a;b", "1;2", '3;"x', 'y"', "TRL;2", "a;b", "5;6", "TRL;1"]).encode()
    source = source_of(tmp_path, data, trailer=TRAILER + "$")
    with pytest.raises(SourceError, match=re.escape("t.csv:5: a trailer stands here, before the file's end")):
        slices(source, size)


def test_what_looks_like_a_trailer_within_a_value_is_none(tmp_path: Path) -> None:
    source = source_of(tmp_path, b'a;b\n1;"x\nTRL;7\ny"\n"TRL;8";2\nTRL;2\n', trailer=TRAILER)
    assert [row[2] for row in read(source, slices(source))] == [
        {"a": "1", "b": "x\nTRL;7\ny"},
        {"a": "TRL;8", "b": "2"},
    ]


@pytest.mark.parametrize(("count", "rows"), [(2, 1), (1, 2), (0, 3)])
def test_another_number_of_records_is_refused_with_both_numbers(tmp_path: Path, count: int, rows: int) -> None:
    data = b"a;b\n" + b"1;2\n\n" * rows + b"TRL;%d\n" % count
    line = 2 + 2 * rows
    assert refused(tmp_path, data) == f"t.csv:{line}: the trailer says {count} records, and the file holds {rows}"


def test_rows_that_cannot_be_read_count_too(tmp_path: Path) -> None:
    source = source_of(tmp_path, b"a;b\n1;2;3\n1\n1;2\nTRL;3\n", trailer=TRAILER)
    assert [row[2] if isinstance(row[2], str) else "row" for row in read(source, slices(source))] == [
        "row",
        "fields",
        "fields",
    ]


def test_trailers_that_contradict_each_other_or_count_nothing_are_refused(tmp_path: Path) -> None:
    assert "they say 1 and 2 records" in refused(tmp_path, b"a;b\n1;2\nTRL;1\nTRL;2\n")
    assert "'1.2', which is no whole number" in refused(tmp_path, b"a;b\n1;2\nTRL;1.2\n", trailer="TRL;(?P<rows>.+)")


@pytest.mark.parametrize("pattern", ["(", "(?i)^trl", "[a"])
def test_a_pattern_that_is_none_is_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(UsageError, match="trailer"):
        source_of(tmp_path, b"a;b\n", trailer=pattern)


def test_a_part_of_a_file_needs_no_trailer_and_believes_none(tmp_path: Path) -> None:
    for data in (b"a;b\n1;2\n", b"a;b\n1;2\nTRL;17\n"):
        source = source_of(tmp_path, data, trailer=TRAILER, partial=True)
        assert len(read(source, slices(source))) == 1


def test_slices_that_were_cut_before_a_restart_are_read_by_another_source(tmp_path: Path) -> None:
    data = b"a;b\n" + b"".join(b"%d;x\n" % n for n in range(50)) + b"TRL;50\n"
    source = source_of(tmp_path, data, trailer=TRAILER)
    cut = slices(source, 40)
    # A trailer adds nothing to a token: plans that were pinned by earlier versions stay what they were.
    assert json.loads(cut[0].token)["dialect"].keys() == {
        *("encoding", "delimiter", "quote", "escape", "columns", "nulls", "ragged", "max_record_bytes"),
        *("data_start", "data_line", "line_end"),
    }
    other = open_files({"t": ["t.csv"]}, {"delimiter": ";"}, tmp_path)
    assert len(read(other, cut)) == 50
    (tmp_path / "t.csv").write_bytes(data + b"51;x\n")
    with pytest.raises(SourceError, match="has changed since the plan"):
        read(other, cut)
