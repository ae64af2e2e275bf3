"""benchmarks/damage.py: what it says it planted is what it planted, and nothing else has changed."""

import csv
import importlib.util
import io
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "damage.py"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("damage", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["damage"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


damage = _load()
COMMENTS = st.text(st.characters(codec="cp1252", exclude_characters="\r\0"), max_size=20)


def write(path: Path, comments: list[str]) -> list[bytes]:
    """A file of id, date and comment; its records, the header first."""
    records = []
    for number, fields in enumerate(
        [["id", "born", "note"], *([f"{i}", "1996-03-13", c] for i, c in enumerate(comments))]
    ):
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\r\n", quoting=csv.QUOTE_ALL if number % 2 else csv.QUOTE_MINIMAL).writerow(
            fields
        )
        records.append(text.getvalue().encode("cp1252"))
    path.write_bytes(b"".join(records))
    return records


def planted(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.with_name(path.name + ".damage.jsonl").read_text().splitlines()]


@settings(max_examples=60, deadline=None)
@given(comments=st.lists(COMMENTS, min_size=1, max_size=60), percent=st.floats(0, 100), seed=st.integers(0, 9))
def test_only_listed_rows_change(tmp_path_factory: Any, comments: list[str], percent: float, seed: int) -> None:
    folder = tmp_path_factory.mktemp("damage")
    records = write(folder / "in.csv", comments)
    count = damage.damage(folder / "in.csv", folder / "out.csv", percent=percent, kinds=["date", "number"], seed=seed)
    listed = planted(folder / "out.csv")
    assert count == len(listed) == int(len(comments) * percent / 100)
    spoilt = {one["row"]: one for one in listed}
    rest = (folder / "out.csv").read_bytes()
    line = 1
    for row, record in enumerate(records):
        if row not in spoilt:
            assert rest.startswith(record)
            rest = rest[len(record) :]
        else:
            one = spoilt[row]
            assert one["line"] == line
            assert one["was"] != one["now"]
            fields = next(csv.reader([record.decode("latin-1")]))
            place = ["id", "born", "note"].index(one["column"])
            assert fields[place] == one["was"]
            fields[place] = one["now"]
            text = io.StringIO(newline="")
            csv.writer(text, lineterminator="\r\n").writerow(fields)
            expected = text.getvalue().encode("latin-1")
            assert rest.startswith(expected)
            rest = rest[len(expected) :]
        line += record.count(b"\n")
    assert rest == b""


def test_same_seed_same_file(tmp_path: Path) -> None:
    write(tmp_path / "in.csv", ["x"] * 500)
    for name in ("a.csv", "b.csv"):
        damage.damage(tmp_path / "in.csv", tmp_path / name, percent=10, kinds=list(damage.KINDS), seed=3)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert {one["kind"] for one in planted(tmp_path / "a.csv")} == set(damage.KINDS)


def test_field_counts_of_structural_damage(tmp_path: Path) -> None:
    write(tmp_path / "in.csv", ["x"] * 40)
    damage.damage(tmp_path / "in.csv", tmp_path / "out.csv", percent=50, kinds=["missing-field", "extra-field"])
    with (tmp_path / "out.csv").open(newline="") as lines:
        rows = list(csv.reader(lines))
    for one in planted(tmp_path / "out.csv"):
        assert len(rows[one["row"]]) == (2 if one["kind"] == "missing-field" else 4)


def test_a_file_without_dates_says_so(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("a\nx\n")
    with pytest.raises(ValueError, match="no date column"):
        damage.damage(tmp_path / "in.csv", tmp_path / "out.csv", percent=1, kinds=["date"])
