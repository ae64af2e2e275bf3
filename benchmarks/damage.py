"""Plants damage in a CSV file: a stated share of its rows, the same ones each time, and a list of what was done.

    python benchmarks/damage.py lineitem.csv dirty.csv --percent 1 [--kinds date,overflow,missing-field] [--seed 1]

Damaged rows are spread evenly. Beside the output, `dirty.csv.damage.jsonl` has a line for each: its row (from 1, the
header not counted), first physical line, kind, column, and the value before and after. Every planted row is one that a
table with types must refuse; all others keep their bytes.
"""

import argparse
import csv
import io
import itertools
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

SAMPLE = 1000  # rows looked at to tell which columns hold dates, numbers or text


@dataclass(frozen=True, slots=True)
class Damage:
    row: int
    line: int
    kind: str
    column: str
    was: str
    now: str


@dataclass(frozen=True, slots=True)
class _Kind:
    """A way to spoil a row: in a column of one sort, by changing its value; no value: the field itself goes wrong."""

    sort: str
    spoil: Callable[[str, random.Random], str] | None = None


KINDS = {
    "date": _Kind("date", lambda value, dice: f"{value[:4]}-{dice.choice(('13-01', '02-30', '00-10', '11-31'))}"),
    "number": _Kind("number", lambda value, dice: f"{value}{dice.choice('xO?')}"),
    "overflow": _Kind("number", lambda value, dice: "9" * dice.randint(22, 30)),
    "long-text": _Kind("text", lambda value, dice: f"{value} {'x' * 300}"),
    "nul": _Kind("text", lambda value, dice: f"{value}\0"),
    "missing-field": _Kind("any"),
    "extra-field": _Kind("any"),
}
DEFAULT_KINDS = ("date", "number", "overflow")


def damage(source: Path, target: Path, *, percent: float, kinds: Sequence[str] = DEFAULT_KINDS, seed: int = 1) -> int:
    """Copy a CSV file (comma, double quote, header) and spoil `percent` of its rows; how many those were."""
    if not 0 <= percent <= 100:
        raise ValueError(f"{percent} is not a percentage")
    dice = random.Random(seed)
    with source.open("rb") as lines:
        first = [_fields(record) for _, record in itertools.islice(_records(lines), SAMPLE + 1)]
    if not first:
        raise ValueError(f"{source} is empty")
    header, *sample = first
    columns = _sorts(header, sample)
    for kind in kinds:
        if not columns[KINDS[kind].sort]:
            raise ValueError(f"{source} has no {KINDS[kind].sort} column to damage: leave out {kind!r}")
    turn = itertools.cycle(kinds)
    planted = 0
    with source.open("rb") as lines, target.open("wb") as out, _beside(target).open("w") as log:
        records = _records(lines)
        out.write(next(records)[1])
        for row, (line, record) in enumerate(records, start=1):
            if int(row * percent / 100) == planted:
                out.write(record)
                continue
            planted += 1
            kind = next(turn)
            column = dice.choice(columns[KINDS[kind].sort])
            spoilt, was, now = _spoil(_fields(record), kind, column, dice)
            out.write(_record(spoilt, record))
            log.write(json.dumps(asdict(Damage(row, line, kind, header[column], was, now))) + "\n")
    return planted


def _beside(target: Path) -> Path:
    return target.with_name(target.name + ".damage.jsonl")


def _records(lines: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Records with their first physical line, from 1; a line feed inside quotes does not end one."""
    held, first = b"", 1
    for line, text in enumerate(lines, start=1):
        if not held:
            first = line
        held += text
        if held.count(b'"') % 2 == 0:
            yield first, held
            held = b""
    if held:
        yield first, held


def _fields(record: bytes) -> list[str]:
    # Latin-1 gives every byte a character and takes it back, whatever the file's encoding.
    return next(csv.reader([record.decode("latin-1")]))


def _record(fields: Sequence[str], like: bytes) -> bytes:
    ending = like[len(like.rstrip(b"\r\n")) :].decode()
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=ending).writerow(fields)
    return text.getvalue().encode("latin-1")


def _sorts(header: Sequence[str], sample: Sequence[Sequence[str]]) -> dict[str, list[int]]:
    patterns = {"date": re.compile(r"\d{4}-\d\d-\d\d"), "number": re.compile(r"-?\d+(\.\d+)?")}
    found: dict[str, list[int]] = {"date": [], "number": [], "text": [], "any": list(range(len(header)))}
    for column in range(len(header)):
        values = [row[column] for row in sample if column < len(row) and row[column]]
        sort = next((s for s, p in patterns.items() if values and all(map(p.fullmatch, values))), "text")
        found[sort].append(column)
    return found


def _spoil(fields: list[str], kind: str, column: int, dice: random.Random) -> tuple[list[str], str, str]:
    """The row's fields with one of them spoilt, and that one's value before and after."""
    spoil = KINDS[kind].spoil
    was = fields[column]
    if spoil is not None:
        now = spoil(was, dice)
        return [*fields[:column], now, *fields[column + 1 :]], was, now
    if kind == "missing-field":
        return [*fields[:column], *fields[column + 1 :]], was, ""
    return [*fields[:column], "stray", *fields[column:]], was, "stray"


def main() -> None:
    parser = argparse.ArgumentParser(description="Plant damaged rows in a CSV file, the same ones each time.")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--percent", type=float, default=1.0, help="share of rows to damage (default 1)")
    parser.add_argument("--kinds", default=",".join(DEFAULT_KINDS), help=f"from: {', '.join(KINDS)}")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    kinds = options.kinds.split(",")
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"no such kind of damage: {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    try:
        planted = damage(options.source, options.target, percent=options.percent, kinds=kinds, seed=options.seed)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f"{planted} rows damaged: {options.target}, listed in {_beside(options.target)}")


if __name__ == "__main__":
    main()
