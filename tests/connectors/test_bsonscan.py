"""BSON read vectorised is what bson.decode and json_util read document by document, or is told as a fault."""

import json
import math
import random
import struct
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import bson
import numpy as np
import psycopg
import pyarrow as pa
import pytest
from bson import json_util
from bson.binary import Binary
from bson.code import Code
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.regex import Regex
from bson.timestamp import Timestamp
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from connectors import bsonscan
from connectors.bsonscan import BSON, documents
from connectors.docscan import ABSENT, ARRAY, ARROW, OBJECT, Cells, Data, Offsets, Scan, Type, Wanted

FORM = BSON
OPTIONS = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)
RELAXED = json_util.RELAXED_JSON_OPTIONS

law = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=[0, 2, 64])
def few(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents go by steps, one by one, and first by steps."""
    monkeypatch.setattr(bsonscan, "_FEW", request.param)


class Pairs(list[tuple[str, Any]]):
    """A document, which may hold a name twice."""


class Raw(bytes):
    """A value that pymongo does not write: its type, and its bytes."""


def element(name: bytes, value: Any) -> bytes:
    kind, data = typed(value)
    return bytes([kind]) + name + b"\0" + data


def typed(value: Any) -> tuple[int, bytes]:
    if isinstance(value, Raw):
        return value[0], value[1:]
    if isinstance(value, Pairs):
        return OBJECT, document(value)
    if isinstance(value, list):
        return ARRAY, document(Pairs((str(i), each) for i, each in enumerate(value)))
    data = bson.encode({"": value})
    return data[4], data[6:-1]


def document(pairs: Pairs) -> bytes:
    body = b"".join(element(name.encode(), value) for name, value in pairs)
    return (len(body) + 5).to_bytes(4, "little") + body + b"\0"


def buffer(parts: Sequence[bytes]) -> tuple[Data, Offsets, Offsets]:
    data = b"".join(parts)
    starts, ends = documents(data)
    return np.frombuffer(data, np.uint8), starts, ends


def read(value: bytes, type_: Type, kind: int | None = None) -> tuple[Any, bool]:
    """One value through a document of one field: what is made of it, and whether it is wrong."""
    found, wrong = column([value if kind is None else Raw(bytes([kind]) + value)], type_)
    return found[0], wrong[0]


def column(given_: Sequence[Any], type_: Type) -> tuple[list[Any], list[bool]]:
    data, starts, ends = buffer([document(Pairs([("v", value)])) for value in given_])
    scan = FORM.scan(data, starts, ends, [Wanted("v", 0)])
    assert scan.faults == {}
    found, wrong = FORM.values(data, scan.cells[0], type_)
    found.validate(full=True)
    assert found.type == ARROW[type_]
    if type_ == "moment":
        found = found.cast(pa.int64())
    return found.to_pylist(), wrong.tolist()


# ------------------------------------------------------------------------------------------------------------- documents

NAMES = [
    "_id",
    "name",
    "",
    "a.b",
    "$ref",
    "$id",
    "$db",
    "größe",
    "n",
    "name2",
    "naïve-long-name-of-a-field",
    "seven77",
    "eight888",
]
names = st.sampled_from(NAMES) | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
int64s = st.integers(-(2**63), 2**63 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
decimals = st.builds(
    lambda sign, digits, exponent: Decimal128(Decimal((sign, tuple(map(int, str(digits))), exponent))),
    st.integers(0, 1),
    st.integers(0, 10**34 - 1) | st.integers(0, 10**6),
    st.integers(-20, 5) | st.integers(-6176, 6111 - 33),
) | st.sampled_from([Decimal128(text) for text in ("NaN", "Infinity", "-Infinity", "-0.00", "0E+6111", "1E-6176")])
scalars: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    int64s,
    int64s.map(Int64),
    st.integers(-3, 3),
    st.floats(),
    st.integers(-(2**60), 2**60).map(float),
    texts,
    decimals,
    st.binary(min_size=12, max_size=12).map(ObjectId),
    int64s.map(DatetimeMS),
    st.integers(-(10**14), 3 * 10**14).map(DatetimeMS),
    st.builds(Binary, st.binary(max_size=20), st.sampled_from([0, 1, 2, 3, 4, 5, 6, 128, 255])),
    st.builds(lambda data: Binary(data, 4), st.binary(min_size=16, max_size=16)),
    st.builds(Regex, st.sampled_from(["a.*", "", "ü"]), st.sampled_from([0, 2, 10])),
    st.builds(Code, texts),
    st.builds(Code, texts, st.just({"x": 1})),
    st.builds(Timestamp, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    int64s.map(lambda number: Pairs([("$ref", "other"), ("$id", number)])),
    st.just(MinKey()),
    st.just(MaxKey()),
    texts.map(lambda text: Raw(b"\x0e" + (len(text.encode()) + 1).to_bytes(4, "little") + text.encode() + b"\0")),
    st.just(Raw(b"\x06")),
    st.just(Raw(b"\x0c\x02\0\0\0x\0" + bytes(12))),
)
pairs = st.lists(st.tuples(names, scalars), max_size=4).map(Pairs)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.lists(st.tuples(names, inner), max_size=4).map(Pairs)
)
WANTED = [
    Wanted("_id", 0),
    Wanted("name", 1),
    Wanted("", 2),
    Wanted("a.b", 3),
    Wanted("größe", 4, (Wanted("n", 5), Wanted("eight888", 6, (Wanted("seven77", 7),)), Wanted("$ref", 8))),
    Wanted("naïve-long-name-of-a-field", 9),
    Wanted("n\0", 10),
    Wanted("\ud800", 11),
]
deep = st.lists(
    st.tuples(names, scalars | st.lists(st.tuples(names, scalars | pairs), max_size=5).map(Pairs) | values), max_size=8
).map(Pairs)
uniques = st.lists(
    st.tuples(names, scalars | st.lists(st.tuples(names, scalars | pairs), max_size=5).map(Pairs)),
    max_size=8,
    unique_by=lambda pair: pair[0],
).map(Pairs)


def looked_into(given_: Pairs, wanted: Sequence[Wanted], within: int) -> tuple[dict[int, Any], list[Any], bool]:
    """What a scan must find: wanted values by their place, others, and whether a name stands twice."""
    found: dict[int, Any] = {}
    others: list[Any] = []
    twice = len({name for name, _ in given_}) < len(given_)
    by_name = {each.name: each for each in wanted}
    for name, value in given_:
        each = by_name.get(name)
        if each is None:
            others.append((within, name, typed(value)))
            continue
        found[each.at] = value
        if each.fields and isinstance(value, Pairs):
            more, also, doubled = looked_into(value, each.fields, each.at)
            found, twice = found | more, twice or doubled
            others += also
    return found, others, twice


def cell(data: Data, cells: Cells, i: int) -> tuple[int, bytes]:
    return int(cells.kinds[i]), data[cells.starts[i] : cells.ends[i]].tobytes()


def others_of(data: Data, scan: Scan) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    others = scan.others
    said = FORM.names(data, others.name_starts, others.name_ends)
    for i, (of, within, name) in enumerate(zip(others.documents, others.within, said, strict=True)):
        found.setdefault(int(of), []).append((int(within), name, cell(data, others.cells, i)))
    return found


@pytest.mark.usefixtures("few")
@law
@given(st.lists(deep | uniques, max_size=30))
@example([])
@example([Pairs()])
@example([Pairs([("x", 1), ("x", 2)])])
def test_every_field_is_found_or_the_document_is_a_fault(batch: list[Pairs]) -> None:
    data, starts, ends = buffer([document(each) for each in batch])
    scan = FORM.scan(data, starts, ends, WANTED)
    others = others_of(data, scan)
    for i, each in enumerate(batch):
        found, rest, twice = looked_into(each, WANTED, -1)
        assert (i in scan.faults) == twice, scan.faults
        if twice:
            assert "twice" in scan.faults[i]
            found, rest = {}, []
        expected = {at: typed(value) for at, value in found.items()}
        assert {w: cell(data, c, i) for w, c in enumerate(scan.cells) if c.kinds[i] != ABSENT} == expected
        assert sorted(others.get(i, [])) == sorted(rest)


def test_documents_of_one_collection_in_every_order() -> None:
    dice = random.Random(5)
    batch = []
    for i in range(3000):
        fields = [(f"field number {k}", f"{i}/{k}") for k in range(90) if dice.random() < 0.9]
        if i % 3 == 0:
            dice.shuffle(fields)
        batch.append(Pairs([*fields, (f"key-{i}", i)]))  # more names than are learnt
    data, starts, ends = buffer([document(each) for each in batch])
    scan = FORM.scan(data, starts, ends, [Wanted(f"field number {k}", k) for k in range(90)])
    assert scan.faults == {}
    columns = [FORM.values(data, cells, "text")[0].to_pylist() for cells in scan.cells]
    for i, each in enumerate(batch):
        held = dict(each)
        assert [column[i] for column in columns] == [held.get(f"field number {k}") for k in range(90)]
    assert FORM.names(data, scan.others.name_starts, scan.others.name_ends) == [f"key-{i}" for i in range(3000)]


@pytest.mark.parametrize("count", [70, 2000])
@pytest.mark.parametrize("fields", [3, 100, 2000])
def test_a_name_that_stands_twice_is_found_among_many(count: int, fields: int) -> None:
    sound = Pairs((f"f{k}", k) for k in range(fields))
    batch = [sound] * (count - 1) + [Pairs([*sound, (f"f{fields - 1}", 1)])]
    data, starts, ends = buffer([document(each) for each in batch[-200:]])
    scan = FORM.scan(data, starts, ends, [Wanted("f0", 0)])
    assert scan.faults == {len(starts) - 1: f"it has the field 'f{fields - 1}' twice"}
    assert scan.cells[0].kinds[-1] == ABSENT
    assert not (scan.others.documents == len(starts) - 1).any()


# -------------------------------------------------------------------------------------------------------------- elements


@pytest.mark.usefixtures("few")
@law
@given(st.lists(st.lists(values, max_size=6) | scalars, max_size=25))
def test_elements_of_arrays(given_: list[Any]) -> None:
    data, starts, ends = buffer([document(Pairs([("v", value)])) for value in given_])
    scan = FORM.scan(data, starts, ends, [Wanted("v", 0)])
    of, cells, faults = FORM.elements(data, scan.cells[0])
    arrays = [value if isinstance(value, list) and not isinstance(value, Pairs) else [] for value in given_]
    expected = [(i, typed(each)) for i, array in enumerate(arrays) for each in array]
    assert [(int(of[k]), cell(data, cells, k)) for k in range(len(of))] == expected
    assert faults == {}


def test_elements_of_arrays_of_arrays_and_of_long_ones() -> None:
    long = [[i, [i]] for i in range(20_000)]
    data, starts, ends = buffer([document(Pairs([("v", value)])) for value in ([[[1, 2], []], [3]], long)])
    scan = FORM.scan(data, starts, ends, [Wanted("v", 0)])
    of, cells, _ = FORM.elements(data, scan.cells[0])
    assert np.bincount(of).tolist() == [2, 20_000]
    of, cells, _ = FORM.elements(data, cells)
    assert np.bincount(of)[:2].tolist() == [2, 1]
    found, wrong = FORM.values(data, cells, "json")
    assert not wrong.any()
    assert found.to_pylist()[:7] == ["[1,2]", "[]", "3", "0", "[0]", "1", "[1]"]


@pytest.mark.parametrize("count", [3, 300])
def test_objects_in_arrays_are_documents_of_their_own(count: int) -> None:
    orders = [{"lines": [{"no": k, "what": f"{i}/{k}"} for k in range(i % 4)]} for i in range(count)]
    data, starts, ends = buffer([bson.encode(order) for order in orders])
    scan = FORM.scan(data, starts, ends, [Wanted("lines", 0)])
    of, lines, _ = FORM.elements(data, scan.cells[0])
    inner = FORM.scan(data, lines.starts, lines.ends, [Wanted("what", 0), Wanted("no", 1)])
    assert inner.faults == {}
    assert of.tolist() == [i for i in range(count) for _ in range(i % 4)]
    assert FORM.values(data, inner.cells[0], "text")[0].to_pylist() == [
        f"{i}/{k}" for i in range(count) for k in range(i % 4)
    ]


def test_an_array_that_is_damaged_inside_is_told_and_the_others_are_read() -> None:
    sound = [document(Pairs([("v", [f"{i}", "b"])])) for i in range(60)]
    parts = [part.replace(b"\2\0\0\0b", b"\xff\0\0\0b") if i in (2, 59) else part for i, part in enumerate(sound)]
    data, starts, ends = buffer(parts)
    scan = FORM.scan(data, starts, ends, [Wanted("v", 0)])
    assert scan.faults == {}
    of, _, faults = FORM.elements(data, scan.cells[0])
    assert set(faults) == {2, 59}
    assert "longer than what holds it" in faults[2]
    assert set(of.tolist()) == set(range(60)) - {2, 59}
    assert FORM.values(data, scan.cells[0], "json")[1].nonzero()[0].tolist() == [2, 59]


# ---------------------------------------------------------------------------------------------------------------- values

WRONG = object()


def whole(value: Any) -> Any:
    if isinstance(value, bool):
        return WRONG
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return int(value) if math.isfinite(value) and value == int(value) and abs(value) <= 2**53 else WRONG
    if isinstance(value, Decimal128) and value.to_decimal().is_finite():
        number = value.to_decimal()
        if number and number.adjusted() > 20:
            return WRONG
        return int(number) if number == int(number) and -(2**63) <= int(number) < 2**63 else WRONG
    return WRONG


def expected(value: Any, type_: Type) -> Any:
    """What a column must hold, of the value as bson.decode has it; NaN is its text."""
    if value is None:
        return None
    match type_:
        case "text":
            return value if type(value) is str else WRONG
        case "integer":
            return whole(value)
        case "double":
            if isinstance(value, float):
                return repr(value)
            fits = isinstance(value, int) and not isinstance(value, bool) and int(float(value)) == value
            return repr(float(value)) if fits else WRONG
        case "decimal":
            if isinstance(value, Decimal128):
                return value.to_decimal()
            if isinstance(value, float):
                return Decimal(repr(value))
            return Decimal(int(value)) if isinstance(value, int) and not isinstance(value, bool) else WRONG
        case "boolean":
            return value if isinstance(value, bool) else WRONG
        case "moment":
            held = isinstance(value, DatetimeMS) and -210_866_803_200_000 <= int(value) <= (2**63 - 1) // 1000
            return int(value) * 1000 if held else WRONG
        case "objectid":
            return str(value) if isinstance(value, ObjectId) else WRONG
        case "binary":
            held = isinstance(value, bytes) and (
                not isinstance(value, Binary) or value.subtype in (0, 2, *range(128, 256))
            )
            return bytes(value) if held else WRONG
        case "uuid":
            held = isinstance(value, Binary) and value.subtype == 4 and len(value) == 16
            return str(value.as_uuid()) if held else WRONG
        case "json":
            return None


def same(found: Any, wanted_: Any, type_: Type) -> bool:
    if type_ == "double" and found is not None:
        return repr(found) == wanted_
    if type_ == "decimal" and found is not None:
        number = Decimal(found)
        if number.is_nan() or not number or not number.is_finite():
            return number.is_nan() == wanted_.is_nan() and (number.is_nan() or number == wanted_)
        # digits that a double has not written may be left out; those of a Decimal128 may not
        return number == wanted_ and number.as_tuple().exponent == wanted_.as_tuple().exponent
    return found is wanted_ if isinstance(wanted_, bool) else bool(found == wanted_)


@pytest.mark.parametrize("type_", [type_ for type_ in ARROW if type_ != "json"])
@law
@given(st.data())
def test_values_of_every_type(type_: Type, data: st.DataObject) -> None:
    given_ = data.draw(st.lists(scalars, min_size=1, max_size=25))
    found, wrong = column(given_, type_)
    for i, value in enumerate(given_):
        decoded = bson.decode(document(Pairs([("v", value)])), OPTIONS)["v"]
        right = expected(decoded, type_)
        assert wrong[i] == (right is WRONG), (decoded, found[i])
        if right is WRONG:
            assert found[i] is None
        elif isinstance(value, float) and type_ == "decimal" and math.isfinite(value):
            assert Decimal(found[i]) == Decimal(repr(value))
        else:
            assert same(found[i], right, type_), (decoded, found[i], right)


@pytest.mark.parametrize("type_", ARROW)
def test_what_is_absent_and_what_is_null(type_: Type) -> None:
    data, starts, ends = buffer([document(Pairs()), document(Pairs([("v", None)]))])
    scan = FORM.scan(data, starts, ends, [Wanted("v", 0)])
    found, wrong = FORM.values(data, scan.cells[0], type_)
    assert found.to_pylist() == [None, "null" if type_ == "json" else None]
    assert wrong.tolist() == [False, False]


@pytest.mark.parametrize("type_", ARROW)
def test_no_documents(type_: Type) -> None:
    data, starts, ends = buffer([])
    scan = FORM.scan(data, starts, ends, WANTED)
    assert len(scan.cells) == 12
    assert scan.faults == {}
    found, wrong = FORM.values(data, scan.cells[0], type_)
    assert (len(found), len(wrong), found.type) == (0, 0, ARROW[type_])
    assert len(FORM.elements(data, scan.cells[0])[0]) == 0


def test_every_exponent_of_decimals() -> None:
    given_ = [Decimal128(Decimal((0, (1, 2, 0), exponent))) for exponent in range(-6176, 6112 - 3)]
    found, wrong = column(given_, "decimal")
    assert not any(wrong)
    assert [Decimal(text).as_tuple() for text in found] == [each.to_decimal().as_tuple() for each in given_]


def test_decimals_as_postgresql_reads_them(target_url: str) -> None:
    greatest = "9" * 34
    given_ = [
        Decimal128(t) for t in (f"{greatest}E+6111", f"-{greatest}E-6176", "NaN", "Infinity", "-Infinity", "1.50")
    ]
    given_ += [
        Decimal128(f"-{greatest[:-10]}.0000000000"),
        1e22,
        5e-324,
        -1.7976931348623157e308,
        float("nan"),
        float("-inf"),
    ]
    found, wrong = column(given_, "decimal")
    assert not any(wrong)
    with psycopg.connect(target_url) as connection:
        for text, value in zip(found, given_, strict=True):
            row = connection.execute("SELECT %s::numeric::text", [text]).fetchone()
            assert row is not None
            right = value.to_decimal() if isinstance(value, Decimal128) else Decimal(repr(value))
            assert right.is_nan() == Decimal(row[0]).is_nan()
            assert right.is_nan() or Decimal(row[0]) == right
    assert found[5] == "1.50"


def test_the_first_moment_is_that_of_postgresql(target_url: str) -> None:
    first = -210_866_803_200_000
    found, wrong = column([DatetimeMS(first - 1), DatetimeMS(first)], "moment")
    assert (found[1], wrong) == (first * 1000, [True, False])
    with psycopg.connect(target_url) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        row = connection.execute("SELECT to_timestamp(%s)::text", [first // 1000]).fetchone()
        assert row == ("4714-11-24 00:00:00+00 BC",)
        with pytest.raises(psycopg.errors.DatetimeFieldOverflow):
            connection.execute("SELECT to_timestamp(%s)", [first // 1000 - 1])


def test_what_no_driver_writes() -> None:
    def decimal128(high: int, low: int) -> Raw:
        return Raw(b"\x13" + low.to_bytes(8, "little") + high.to_bytes(8, "little"))

    top, rest = divmod(10**34, 2**64)
    zero = 6176 << 49
    odd = [decimal128(zero | top, rest), decimal128(zero | (2**49 - 1), 0), decimal128(0b11 << 61 | 6176 << 47 | 5, 7)]
    found, wrong = column([*odd, decimal128(zero | top, rest - 1), decimal128(0x7E << 56, 0)], "decimal")
    assert wrong == [True, True, False, False, False]
    assert [Decimal(text) for text in found[2:4]] == [0, 10**34 - 1]
    assert found[4] == "NaN"
    assert column([*odd, decimal128(zero | top, rest - 1)], "integer") == (
        [None, None, 0, None],
        [True, True, False, True],
    )
    assert column([Raw(b"\x08\2"), Raw(b"\x08\1")], "boolean") == ([None, True], [True, False])
    assert column([Raw(b"\x08\2"), Raw(b"\x08\1")], "json") == ([None, "true"], [True, False])
    short, long = Raw(b"\x05\4\0\0\0\2\1\0\0\0"), Raw(b"\x05\5\0\0\0\2\1\0\0\0x")
    assert column([short, long, Raw(b"\x05\1\0\0\0\2x")], "binary") == ([None, b"x", None], [True, False, True])
    broken = Raw(b"\2\3\0\0\0\xc3\x28\0")
    for type_ in ("text", "json"):
        found, wrong = column(["ä", broken, "b", Raw(b"\2\4\0\0\0\xed\xa0\x80\0")], type_)  # type: ignore[arg-type]
        assert wrong == [False, True, False, True]
        assert found[0].strip('"') == "ä"


def test_a_text_of_sixteen_megabytes() -> None:
    long = "ö" * (8 << 20)
    for type_ in ("text", "json"):
        found, wrong = column(["a", long, [long]], type_)  # type: ignore[arg-type]
        assert found[1].strip('"') == long
        assert wrong == [False, False, type_ == "text"]


def test_spans_in_any_order() -> None:
    data, starts, ends = buffer([document(Pairs([("v", text)])) for text in ("a", "", "ccc")])
    cells = FORM.scan(data, starts, ends, [Wanted("v", 0)]).cells[0]
    order = np.array([2, 0, 1, 2, 2])
    again = Cells(cells.kinds[order], cells.starts[order], cells.ends[order])
    assert FORM.values(data, again, "text")[0].to_pylist() == ["ccc", "a", "", "ccc", "ccc"]
    assert FORM.values(data, again, "json")[0].to_pylist() == ['"ccc"', '"a"', '""', '"ccc"', '"ccc"']


# ------------------------------------------------------------------------------------------------------------------ JSON


def has_twice(value: Any) -> bool:
    if isinstance(value, Pairs):
        return len({name for name, _ in value}) < len(value) or any(has_twice(each) for _, each in value)
    return isinstance(value, list) and any(map(has_twice, value))


def exactly(text: str) -> Any:
    """What a JSON text says, with the order of its names and its numbers as written."""

    def constant(word: str) -> Any:
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, object_pairs_hook=Pairs, parse_float=str, parse_int=str, parse_constant=constant)


@law
@given(st.lists(values, min_size=1, max_size=25))
@example([float("nan")])
@example([[1e300, -0.0, float("inf")], -0.0])
@example([Pairs([("x", 1), ("x", 2)]), 1.5, [Pairs([("", Pairs([("x", "\x1e,"), ("x", 2)]))])]])
@example([[-(10**18)], [Code("x", {"y": [1]})], Pairs([("$ref", "c"), ("$id", 3)])])
def test_json_is_what_json_util_makes_of_it(given_: list[Any]) -> None:
    found, wrong = column(given_, "json")
    for text, is_wrong, value in zip(found, wrong, given_, strict=True):
        assert is_wrong == has_twice(value)
        if is_wrong:
            assert text is None
        else:
            decoded = bson.decode(document(Pairs([("v", value)])), OPTIONS)["v"]
            assert exactly(text) == exactly(json_util.dumps(decoded, json_options=RELAXED))


def test_json_of_many_values_one_of_which_is_damaged() -> None:
    given_ = [["a", i, {"b": 1.5}] for i in range(1000)]
    given_[700] = Raw(b"\x04" + document(Pairs([("0", "x")])).replace(b"x", b"\xff"))  # type: ignore[call-overload]
    found, wrong = column(given_, "json")
    assert np.flatnonzero(wrong).tolist() == [700]
    assert found[701] == '["a",701,{"b":1.5}]'


def test_a_hundred_levels() -> None:
    nested: Any = {"a": [1]}
    for _ in range(99):
        nested = {"a": [nested]}
    found, wrong = column([nested, 1], "json")
    assert not any(wrong)
    assert json.loads(found[0]) == nested


def test_more_levels_than_can_be_read_are_told() -> None:
    level = document(Pairs())
    for _ in range(5000):
        level = (len(level) + 8).to_bytes(4, "little") + b"\3a\0" + level + b"\0"
    found, wrong = column([Raw(b"\3" + level), [1]], "json")
    assert (found[1], wrong) == ("[1]", [True, False])


# ---------------------------------------------------------------------------------------------------------------- damage

SOUND = {
    "_id": ObjectId(b"123456789012"),
    "t": "tö",
    "i": 5,
    "l": Int64(7),
    "d": 1.5,
    "o": {"x": "y", "z": {"n": None}},
    "a": ["p", 1, {"q": True}],
    "b": Binary(b"zz", 2),
    "r": Regex("a", 2),
    "c": Code("f", {"s": 1}),
    "s": Decimal128("1.25"),
    "w": DatetimeMS(5),
    "u": Binary(bytes(16), 4),
    "g": True,
    "k": Timestamp(1, 2),
    "e": 3,  # nobody wants it
}
TYPES: dict[str, Type] = {"_id": "objectid", "t": "text", "i": "integer", "l": "integer", "d": "double", "a": "json"}
TYPES |= {
    "b": "binary",
    "r": "json",
    "c": "json",
    "s": "decimal",
    "w": "moment",
    "u": "uuid",
    "g": "boolean",
    "k": "json",
}
TOP = [*(Wanted(name, at) for at, name in enumerate(TYPES)), Wanted("o", 20, (Wanted("x", 21), Wanted("z", 22)))]


def check_against_decode(data: bytes, documents_before: int) -> None:
    """Read a damaged document behind sound ones: what bson.decode refuses is a fault or wrong, or in what nobody wants."""
    sound = bson.encode(SOUND)
    whole_ = sound * documents_before + data
    everything = np.frombuffer(whole_, np.uint8)
    starts = np.arange(documents_before + 1) * len(sound)
    ends = np.append(starts[1:], len(whole_))
    scan = FORM.scan(everything, starts, ends, TOP)
    assert set(scan.faults) <= {documents_before}
    if scan.faults:
        assert not any(cells.kinds[-1] for cells in scan.cells)
        return
    try:
        decoded = bson.decode(data, OPTIONS)
    except bson.errors.InvalidBSON:
        decoded = None
    for name, type_, at in [
        *((n, t, i) for i, (n, t) in enumerate(TYPES.items())),
        ("x", "text", 21),
        ("z", "json", 22),
    ]:
        found, wrong = FORM.values(everything, scan.cells[at], type_)  # type: ignore[arg-type]
        assert not wrong[:-1].any()
        if decoded is None or wrong[-1]:
            continue  # told, or the damage may be elsewhere; the value is checked below if it can be
        holder = decoded.get("o") if name in "xz" else decoded
        right = holder.get(name) if isinstance(holder, dict) else None
        value = found[-1].cast(pa.int64()).as_py() if type_ == "moment" else found[-1].as_py()
        if type_ == "json":
            absent = not isinstance(holder, dict) or name not in holder
            assert value == (None if absent else value)
            if not absent:
                assert exactly(value) == exactly(json_util.dumps(right, json_options=RELAXED))
        elif type_ == "decimal" and isinstance(right, float):
            assert value in ("NaN", "Infinity", "-Infinity") or Decimal(value) == Decimal(repr(right))
        else:
            assert same(value, expected(right, type_), type_), (name, value, right)  # type: ignore[arg-type]
    if decoded is None:
        # Sizes are right, so some value that is read, or one that is not wanted, is what bson.decode refuses.
        told = any(FORM.values(everything, scan.cells[at], type_)[1][-1] for at, type_ in enumerate(TYPES.values()))
        inner = any(FORM.values(everything, scan.cells[at], t)[1][-1] for at, t in ((21, "text"), (22, "json")))  # type: ignore[arg-type]
        assert told or inner or len(scan.others.documents) > documents_before or not names_are_sound(data)


def names_are_sound(data: bytes) -> bool:
    """Whether a scan of everything has only names in UTF-8."""
    array = np.frombuffer(data, np.uint8)
    scan = FORM.scan(array, np.array([0]), np.array([len(data)]), [])
    said = zip(scan.others.name_starts, scan.others.name_ends, strict=True)
    try:
        for start, end in said:
            data[start:end].decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize("before", [0, 80])
def test_each_byte_changed(before: int) -> None:
    sound = bson.encode(SOUND)
    for at in range(len(sound)):
        for change in (0x01, 0x80, 0xFF, sound[at]):  # the last makes it 0
            damaged = bytearray(sound)
            damaged[at] ^= change
            check_against_decode(bytes(damaged), before)


@pytest.mark.parametrize("before", [0, 80])
def test_cut_and_lengthened(before: int) -> None:
    sound = bson.encode(SOUND)
    for size in range(1, len(sound)):
        check_against_decode(sound[:size], before)
        inside = size.to_bytes(4, "little") + sound[4:size]
        check_against_decode(inside, before)
        check_against_decode(inside[:-1] + b"\0", before)
    check_against_decode(sound + b"\0", before)


@pytest.mark.usefixtures("few")
@law
@given(st.lists(uniques, min_size=1, max_size=20), st.data())
def test_damaged_at_random(batch: list[Pairs], data: st.DataObject) -> None:
    damaged = bytearray(b"".join(map(document, batch)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    starts, ends = documents(bytes(damaged))
    array = np.frombuffer(bytes(damaged), np.uint8)
    scan = FORM.scan(array, starts, ends, WANTED)
    for cells in (*scan.cells, scan.others.cells):
        for type_ in ARROW:
            found, wrong = FORM.values(array, cells, type_)
            found.validate(full=True)
            assert len(found) == len(wrong) == len(cells.kinds)
        FORM.elements(array, cells)
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        if i in scan.faults:
            continue
        found_, rest = {}, 0
        try:
            decoded = bson.decode(bytes(damaged[start:end]), OPTIONS)
        except bson.errors.InvalidBSON:
            continue
        found_ = {each.name for each in WANTED if scan.cells[each.at].kinds[i] != ABSENT}
        assert found_ == {each.name for each in WANTED if each.name in decoded}
        rest = int(((scan.others.documents == i) & (scan.others.within == -1)).sum())
        assert rest + len(found_) == len(decoded)


def test_where_documents_begin() -> None:
    one, two = bson.encode({"a": 1}), bson.encode({})
    starts, ends = documents(one + two + one)
    assert starts.tolist() == [0, len(one), len(one) + len(two)]
    assert ends.tolist() == [*starts.tolist()[1:], 2 * len(one) + len(two)]
    assert [each.tolist() for each in documents(b"")] == [[], []]
    for rest in (b"\0", b"\4\0\0\0\0", struct.pack("<i", -1) + b"abc", one[:-1]):
        starts, ends = documents(two + rest)
        assert (starts.tolist(), ends.tolist()) == ([0, 5], [5, 5 + len(rest)])
        scan = FORM.scan(np.frombuffer(two + rest, np.uint8), starts, ends, [Wanted("a", 0)])
        assert set(scan.faults) == {1}


def test_faults_say_what_and_where() -> None:
    sound = bson.encode({"first": "x", "second": 2})
    cases = {
        sound.replace(b"\2first", b"\x2afirst"): "a field has a type that BSON has not, at byte 4",
        sound.replace(b"\2\0\0\0x", b"\x3f\0\0\0x"): "a field's value is longer than what holds it, at byte 4",
        sound.replace(b"x\0\x10", b"xx\x10"): "a field's value does not end where its size says, at byte 4",
        sound.replace(b"second\0\2\0\0\0", b"second" + b"!" * 5): "a field's name has no end, at byte 17",
        sound[:-1] + b"!": "it has not the size that it says, or no end",
    }
    inner = bson.encode({"a": {"b": {"c": 1}}})
    deep_ = [Wanted("a", 0, (Wanted("b", 1, (Wanted("c", 2),)),))]
    data, starts, ends = buffer([inner, inner.replace(b"\x10c", b"\x2ac")])
    assert FORM.scan(data, starts, ends, deep_).faults == {1: "a: b: a field has a type that BSON has not, at byte 4"}
    for count in (1, 200):
        for damaged, why in cases.items():
            data, starts, ends = buffer([sound] * count + [damaged] + [sound] * count)
            assert FORM.scan(data, starts, ends, [Wanted("second", 0)]).faults == {count: why}


def test_a_kind_that_only_json_has_is_none_of_bson() -> None:
    data, starts, ends = buffer([document(Pairs([("v", Raw(b"\x14" + bytes(8)))]))])
    assert set(FORM.scan(data, starts, ends, [Wanted("v", 0)]).faults) == {0}
