"""The row hash tells different rows apart, whatever their types, and says the same of equal ones."""

import math
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime
from datetime import time as clock
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrate import checksum
from migrate.core import Wire


def hashes(kind: pa.DataType, values: Sequence[Any], wire: Wire | None = None) -> list[int]:
    return rows([kind], [(v,) for v in values], wire)


def rows(kinds: Sequence[pa.DataType], values: Sequence[tuple[Any, ...]], wire: Wire | None = None) -> list[int]:
    schema = pa.schema([(f"c{i}", kind) for i, kind in enumerate(kinds)])
    columns = [pa.array([v[i] for v in values], kind) for i, kind in enumerate(kinds)]
    hasher = checksum.Hasher(schema, [wire or Wire(kind) for kind in kinds], [])
    _, found = hasher(pa.RecordBatch.from_arrays(columns, schema=schema))
    hasher.close()
    return [int(h) for h in found]


TEXTS = ["", " ", "0", "a", "a ", "A", "null", "NULL", "[]", "é", "e\u0301", "abcdefghijkl", "abcdefghijklm"]
STAMPS = [datetime(1970, 1, 1), datetime(1969, 12, 31, 23, 59, 59, 999999), datetime(2020, 10, 25, 2, 30)]
EDGES: dict[str, tuple[pa.DataType, list[Any]]] = {
    "bool": (pa.bool_(), [False, True]),
    "int16": (pa.int16(), [0, 1, -1, 32767, -32768]),
    "int32": (pa.int32(), [0, 1, -1, 2**31 - 1, -(2**31)]),
    "int64": (pa.int64(), [0, 1, -1, 2**63 - 1, -(2**63)]),
    "float32": (pa.float32(), [0.0, 1.0, -1.0, math.nan, math.inf, -math.inf, 1e-45]),
    "float64": (pa.float64(), [0.0, 1.0, -1.0, math.nan, math.inf, -math.inf, 5e-324, 0.1, math.nextafter(0.1, 1)]),
    "decimal(10,2)": (pa.decimal128(10, 2), [Decimal(n) / 100 for n in (0, 1, -1, 100)]),
    "decimal(38,2)": (pa.decimal128(38, 2), [Decimal(n) / 100 for n in (0, 1, -1, 2**64, -(2**64), 2**64 + 1, 10**20)]),
    "text": (pa.string(), TEXTS),
    "bytes": (pa.binary(), [b"\0" * n for n in range(20)]),
    "uuid": (pa.binary(16), [b"\0" * 16, b"\0" * 15 + b"\1", b"\1" + b"\0" * 15]),
    "date": (pa.date32(), [date(1970, 1, 1), date(1969, 12, 31), date(9999, 12, 31), date(1, 1, 1)]),
    "time": (pa.time64("us"), [clock(0), clock(0, 0, 0, 1), clock(23, 59, 59, 999999)]),
    "timestamp": (pa.timestamp("us"), STAMPS),
    "timestamptz": (pa.timestamp("us", "UTC"), [s.replace(tzinfo=UTC) for s in STAMPS]),
}
LISTED = ("bool", "int32", "int64", "float32", "float64", "text", "date", "timestamp", "timestamptz")


@pytest.mark.parametrize("name", EDGES)
def test_no_two_values_of_a_type_hash_alike(name: str) -> None:
    kind, values = EDGES[name]
    found = hashes(kind, [None, *values])
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("name", LISTED)
def test_no_two_lists_hash_alike(name: str) -> None:
    """NULL, [], [NULL], [0] and [0, 0] among them, which DuckDB's own hash takes for one."""
    kind, values = EDGES[name]
    first, second = values[0], values[1]
    lists = [None, [], [None], [None, None], [first], [first, first], [second], [second, second], [first, second]]
    lists += [[second, first], [first, None], [None, first], [first, None, second], [None, *values]]
    found = hashes(pa.list_(kind), lists)
    assert len(set(found)) == len(found)


def test_lists_side_by_side_do_not_run_into_each_other() -> None:
    kind = pa.list_(pa.string())
    found = rows(
        [kind, kind], [(["x"], ["y", "z"]), (["x", "y"], ["z"]), (["x", "y", "z"], []), (["x", "y", "z"], None)]
    )
    assert len(set(found)) == 4


def test_zero_has_one_hash_and_so_has_not_a_number() -> None:
    for kind in (pa.float32(), pa.float64()):
        assert len(set(hashes(kind, [0.0, -0.0]))) == 1
        assert len(set(hashes(pa.list_(kind), [[0.0, 1.0], [-0.0, 1.0]]))) == 1
        assert len(set(hashes(pa.list_(kind), [[math.nan], [-math.nan]]))) == 1


def test_json_is_hashed_by_value() -> None:
    jsonb = Wire(pa.string(), "jsonb")
    assert len(set(hashes(pa.string(), ['{"a":1,"b":[1.50]}', '{"b": [1.5], "a": 1.0}'], jsonb))) == 1
    different = [None, "null", '""', "0", "[]", "{}", "[null]", '"0"', "false", '{"a":null}']
    assert len(set(hashes(pa.string(), different, jsonb))) == len(different)


def test_the_machine_s_time_zone_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    kind, values = EDGES["timestamptz"]
    found = []
    for zone in ("UTC", "Asia/Tokyo"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        found.append((hashes(kind, values), hashes(pa.list_(kind), [values])))
    monkeypatch.undo()
    time.tzset()
    assert found[0] == found[1]


KINDS: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.bool_(), st.booleans()),
    (pa.int32(), st.integers(-3, 3)),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 2)),
    (pa.float64(), st.floats(allow_nan=False)),
    (pa.decimal128(10, 2), st.integers(-300, 300).map(lambda n: Decimal(n) / 100)),
    (
        pa.decimal128(38, 2),
        st.integers(-(2**120), 2**120).map(lambda n: Decimal(n).scaleb(-2)) | st.just(Decimal("-0.01")),
    ),
    (pa.string(), st.text(max_size=4)),
    (pa.binary(), st.binary(max_size=4)),
    (pa.date32(), st.dates()),
    (pa.timestamp("us"), st.datetimes()),
    (pa.list_(pa.int32()), st.lists(st.none() | st.integers(-1, 1), max_size=3)),
    (pa.list_(pa.string()), st.lists(st.none() | st.sampled_from(["", ",", '"', "\\", "null", "a"]), max_size=3)),
    (pa.list_(pa.float64()), st.lists(st.none() | st.floats(allow_nan=False), max_size=3)),
]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_rows_hash_alike_exactly_where_they_are_equal(data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4))
    values = data.draw(st.lists(st.tuples(*(st.none() | of for _, of in kinds)), min_size=2, max_size=12))
    found = rows([kind for kind, _ in kinds], values)
    for i, row in enumerate(values):
        for j in range(i):
            assert (found[i] == found[j]) == (row == values[j]), (row, values[j])


def test_sums_add_up_and_show_what_differs() -> None:
    schema = pa.schema([("id", pa.int64()), ("v", pa.list_(pa.string()))])
    hasher = checksum.Hasher(schema, [Wire(f.type) for f in schema], ["id"])

    def total(*values: tuple[int, list[str] | None]) -> checksum.Sums:
        return checksum.add(*hasher(pa.RecordBatch.from_pylist([{"id": i, "v": v} for i, v in values], schema)))

    both = total((1, ["a"]), (2, None))
    assert (checksum.unpack(checksum.pack(both)) == total((1, ["a"])) + total((2, None))).all()
    assert len(checksum.unequal(both, total((1, ["a"]), (2, [])))) == 1
    assert len(checksum.unequal(both, total((1, None), (2, ["a"])))) == 2
    hasher.close()


def test_columns_whose_names_differ_in_case_only_are_hashed_and_shown_as_two() -> None:
    batch = pa.RecordBatch.from_pydict({"Name": ["a", "a", "b"], "name": ["x", "y", "x"]})
    hasher = checksum.Hasher(batch.schema, [Wire(pa.string())] * 2, ["name"])
    keys, found = hasher(batch)
    texts = hasher.texts(batch)
    hasher.close()
    assert len(set(found.tolist())) == 3
    assert keys[0] == keys[2] != keys[1]
    assert texts.to_pydict() == batch.to_pydict()
