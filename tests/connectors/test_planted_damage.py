"""A thousand planted damages in twenty thousand rows: each is rejected under its lines, and every other row is read."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from connectors.delimited import open_files

ROWS, EVERY = 20_000, 20
Row = tuple[str, str, str, str, str]


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def written(row: Row) -> bytes:
    number, name, note, amount, city = row
    return ",".join([number, quoted(name), quoted(note), amount, city]).encode("cp1252")


def missing(line: bytes) -> bytes:
    return line.rpartition(b",")[0]


def extra(line: bytes) -> bytes:
    return line + b",more"


def bad_byte(line: bytes) -> bytes:
    return line.replace(b'"', b'"\x81', 1)


def runaway(line: bytes) -> bytes:
    """The closing quote of the second field is lost, so it runs on into what follows."""
    head, _, tail = line.partition(b'","')
    return head + b"," + tail.replace(b'"', b"")


def junk(line: bytes) -> bytes:
    return line.replace(b'","', b'" junk,"', 1)


def both(line: bytes) -> bytes:
    return extra(bad_byte(line))


def cut(line: bytes) -> bytes:
    """A bare carriage return in an unquoted value: what stands before it would still do as a row."""
    return line[:-1] + b"\r" + line[-1:]


def stuck(line: bytes) -> bytes:
    """Two rows with a bare carriage return between them: each would do as a row."""
    return line + b"\r" + line


def multiline(line: bytes) -> bytes:
    return cut(line).replace(b'","', b' \r\n1,2,3,4,5\n","', 1)


DAMAGES: dict[Callable[[bytes], bytes], tuple[str, str]] = {
    missing: ("fields", "expected 5 fields, found 4"),
    extra: ("fields", "expected 5 fields, found 6"),
    bad_byte: ("encoding", "is not valid cp1252"),
    runaway: ("structure", "the quote that opens field 2 is not closed"),
    junk: ("structure", "text follows the closing quote of field 2"),
    both: ("encoding", "byte 0x81"),
    cut: ("structure", "a carriage return stands inside the row"),
    stuck: ("structure", "a carriage return stands inside the row"),
    multiline: ("structure", "a carriage return stands inside the row"),
}


def make(random_: random.Random) -> tuple[bytes, list[Row], dict[tuple[int, int], tuple[str, str, bytes]]]:
    """The file; its sound rows; and for each damaged one its first and last physical line, rule, reason and bytes."""
    text, line_number = [b"number,name,note,amount,city\r\n"], 2
    sound: list[Row] = []
    planted: dict[tuple[int, int], tuple[str, str, bytes]] = {}
    for i in range(ROWS):
        name = random_.choice(["Müller, Söhne", 'the "Inn"', "O'Brien", "", "café", 'x""y'])
        several = random_.random() < 0.1 and i % EVERY not in (0, 1)
        note = (
            random_.choice(["one\r\ntwo", "a\n\nb", "c,\rd"])
            if several
            else random_.choice(["", "plain", "a,b", '5" pipe'])
        )
        row = (str(i), name, note, f"{i / 7:.2f}", random_.choice(["Köln", "5' 3\" N", "Málaga", "x y"]))
        line = written(row)
        inner = line.count(b"\n")
        ending = random_.choice([b"\n", b"\r\n"])
        if i % EVERY == 0:
            damage = random_.choice(list(DAMAGES))
            rule, reason = DAMAGES[damage]
            if damage is runaway:
                line = written((row[0], "runs", "on", row[3], "Ulm"))
            line = damage(line)
            inner = line.count(b"\n")
            planted[line_number, line_number + inner] = (rule, reason, line)
        elif i == ROWS - 1:
            line, ending = missing(line), b""
            reason = "expected 5 fields, found 4; the file ends here without a line end: it may be cut off"
            planted[line_number, line_number + inner] = ("fields", reason, line)
        else:
            sound.append(row)
        text.append(line + ending)
        line_number += 1 + inner
    return b"".join(text), sound, planted


@pytest.mark.parametrize("size", [1 << 10, 1 << 13, 1 << 30], ids=["1 KB", "8 KB", "one slice"])
def test_every_damage_is_rejected_and_every_other_row_is_read(tmp_path: Path, size: int) -> None:
    data, sound, planted = make(random.Random(7))
    assert len(planted) == 1001
    (tmp_path / "t.csv").write_bytes(data)
    source = open_files({"t": ["t.csv"]}, {"encoding": "cp1252", "nulls": []}, tmp_path)
    table = source.schema("t")
    rows: list[Row] = []
    rejects = []
    read = 0
    for partition in source.partitions(table, rows=1 << 40, bytes=size):
        for batch in source.read(partition, table.schema.names):
            read += len(batch.ordinals) + len(batch.rejects)
            rows += zip(*(column.to_pylist() for column in batch.rows.columns), strict=True)
            rejects += batch.rejects
    assert read == ROWS
    assert rows == sound
    found = {(reject.origin.locator["line"], reject.origin.locator["last_line"]): reject for reject in rejects}
    assert sorted(found) == sorted(planted)
    for lines, (rule, reason, line) in planted.items():
        reject = found[lines]
        assert (reject.rule, reject.origin.raw) == (rule, line)
        assert reason in reject.reason
        assert data[reject.origin.locator["start"] : reject.origin.locator["end"]] == line
