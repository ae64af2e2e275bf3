"""JSON texts as documents, against Python's own reader: the same fields and values, and the same texts refused."""

import json
import struct
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.docscan import ABSENT, ARRAY, BOOLEAN, NULL, NUMBER, OBJECT, STRING, Cells, Scan, Type, Wanted
from connectors.jsonscan import JSON

WANTED = [Wanted("a", 0), Wanted("b", 1, (Wanted("a", 2), Wanted('ä\\"', 3, (Wanted("c", 4),)))), Wanted("c", 5)]
NAMES = st.sampled_from(["a", "b", "c", 'ä\\"', "d", "", "{", ":,", "\U0001f600"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
    | st.sampled_from(['"', "\\", "}", '\\"', "\\\\"])
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=6)


class Refused(Exception):
    pass


def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in found}) != len(found):
        raise Refused
    return dict(found)


def refuse(_: str) -> Any:
    raise Refused


def oracle(text: bytes) -> Any:
    """What Python reads; Refused of what is no object of RFC 8259, or holds a name twice."""
    try:
        value = json.loads(
            text.decode(), parse_float=Decimal, parse_int=Decimal, object_pairs_hook=pairs, parse_constant=refuse
        )
    except (ValueError, RecursionError):
        raise Refused from None
    if not isinstance(value, dict):
        raise Refused
    return value


def buffered(documents: list[bytes], between: bytes = b"") -> tuple[Any, Any, Any]:
    data = np.frombuffer(between.join(documents) + between, np.uint8)
    sizes = np.array([len(each) for each in documents], np.int64)
    starts = np.cumsum(sizes + len(between)) - sizes - len(between)
    return data, starts, starts + sizes


def bytes_of(data: Any, cells: Cells, at: int) -> bytes:
    return bytes(data[cells.starts[at] : cells.ends[at]])


def kind_of(value: Any) -> int:
    kinds = {dict: OBJECT, list: ARRAY, str: STRING, bool: BOOLEAN, type(None): NULL, Decimal: NUMBER}
    return kinds[type(value)]


def check(data: Any, scan: Scan, at: int, wanted: list[Wanted], value: dict[str, Any], within: int = -1) -> None:
    """Document `at` was found to hold what Python reads in it."""
    others = scan.others
    found = {}
    for other in np.flatnonzero((others.documents == at) & (others.within == within)).tolist():
        [name] = JSON.names(data, others.name_starts[[other]], others.name_ends[[other]])
        assert others.cells.kinds[other] == kind_of(value[name])
        found[name] = json.loads(bytes_of(data, others.cells, other), parse_float=Decimal, parse_int=Decimal)
    assert found == {name: each for name, each in value.items() if name not in {w.name for w in wanted}}
    for each in wanted:
        cells = scan.cells[each.at]
        if each.name not in value:
            assert cells.kinds[at] == ABSENT
            continue
        inner = value[each.name]
        assert cells.kinds[at] == kind_of(inner)
        assert json.loads(bytes_of(data, cells, at), parse_float=Decimal, parse_int=Decimal) == inner
        if isinstance(inner, dict) and each.fields:
            check(data, scan, at, list(each.fields), inner, each.at)


def spelled(value: Any, draw: Any) -> str:
    """JSON with whatever blanks and escapes."""

    def blank() -> str:
        return str(draw(st.sampled_from(["", "", "", " ", "\n", "\t \r", " " * 40])))

    if isinstance(value, dict):
        inner = ",".join(
            f"{blank()}{spelled(k, draw)}{blank()}:{blank()}{spelled(v, draw)}{blank()}" for k, v in value.items()
        )
        return "{" + (inner or blank()) + "}"
    if isinstance(value, list):
        return "[" + (",".join(f"{blank()}{spelled(v, draw)}{blank()}" for v in value) or blank()) + "]"
    if isinstance(value, Decimal):
        return str(value)
    return json.dumps(value, ensure_ascii=draw(st.booleans()))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_fields_are_found_as_python_reads_them(data: st.DataObject) -> None:
    values = data.draw(st.lists(OBJECTS, max_size=5))
    documents = [spelled(value, data.draw).encode() for value in values]
    between = data.draw(st.sampled_from([b"", b"\n", b",", b'"', b"\\", b"} {", b"  x"]))
    buffer, starts, ends = buffered(documents, between)
    scan = JSON.scan(buffer, starts, ends, WANTED)
    assert scan.faults == {}
    for at, document in enumerate(documents):
        check(buffer, scan, at, WANTED, oracle(document))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_what_is_no_json_is_a_fault_of_its_document_and_of_no_other(data: st.DataObject) -> None:
    documents = [spelled(value, data.draw).encode() for value in data.draw(st.lists(OBJECTS, min_size=1, max_size=4))]
    for at in range(len(documents)):
        for _ in range(data.draw(st.integers(0, 2))):
            text = bytearray(documents[at])
            place = data.draw(st.integers(0, len(text) - 1))
            change = data.draw(
                st.sampled_from([b"", b'"', b"\\", b"{", b"}", b",", b":", b"[", b"]", b"1", b"\xff", b"e"])
            )
            text[place : place + data.draw(st.integers(0, 1))] = change
            documents[at] = bytes(text) or b" "
    agree(documents)


def agree(documents: list[bytes]) -> None:
    buffer, starts, ends = buffered(documents, b"\n")
    scan = JSON.scan(buffer, starts, ends, WANTED)
    for at, document in enumerate(documents):
        try:
            value = oracle(document)
        except Refused:
            assert at in scan.faults, document
            assert (scan.others.documents != at).all()
            assert all(cells.kinds[at] == ABSENT for cells in scan.cells)
            continue
        assert at not in scan.faults, (document, scan.faults)
        check(buffer, scan, at, WANTED, value)


@pytest.mark.parametrize("by", [1, 2, 4, 8, 16, 32, 64, 128])
def test_each_bit_of_a_document_flipped(by: int) -> None:
    text = b'{"a": [1, -2.5e3, "x\\u00e9\\"y"], "b": {"a": true, "c": null}, "\\u0063": "\xc3\xa4"}'
    agree([text[:at] + bytes([text[at] ^ by]) + text[at + 1 :] for at in range(len(text))])
    for at in range(len(text)):  # between others that are whole
        agree([b'{"a":1}', text[:at] + bytes([text[at] ^ by]) + text[at + 1 :], b'{"c": "}"}'])


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b'{"a":NaN}', "at byte 5: NaN is no number"),
        (b'{"NaN":-Infinity}', "at byte 7: -Infinity is no number"),
        (b'{"a":1,}', "at byte 7"),
        (b"{'a':1}", "at byte 1"),
        (b'{"a":1} // x', "at byte 8: text follows"),
        (b'{"\xc3\xa4":01}', "at byte 7"),
        (b'{"a":"\xff"}', "byte 6 (0xff) is not valid UTF-8"),
        (b'{"a":1,"\\u0061":2}', "the name 'a' twice, first at byte 1"),
        (b'{"x":[{"a":1,"a":2}]}', "the name 'a' twice, first at byte 7"),
        (b"[1]", "is no object"),
        (b"5", "is no object"),
        (b'"x"', "is no object"),
        (b"", "is no valid JSON at byte 0"),
        (b'{"a":1}{"b":2}', "at byte 7: text follows"),
        (b'{"a":1},{"b":2}', "at byte 7: text follows"),
        (b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", "nested too deep"),
        (b'{"\\ud800":1}', "half of a surrogate pair"),
    ],
)
def test_a_fault_says_where(document: bytes, said: str) -> None:
    buffer, starts, ends = buffered([b'{"a":1}', document, b'{"a":2}'], b"\n")
    scan = JSON.scan(buffer, starts, ends, WANTED)
    assert list(scan.faults) == [1]
    assert said in scan.faults[1]
    assert [bytes_of(buffer, scan.cells[0], at) for at in (0, 2)] == [b"1", b"2"]


@pytest.mark.parametrize(
    "split",
    [
        [b'{"a":[1', b"2]}", b"{},{}"],
        [b'{"a":"x', b'y"}', b"{},{}"],
        [b'{"a":1', b'"b":2}', b"{},{}"],
        [b'{"a":"x\\', b'y"}'],
    ],
)
def test_documents_that_are_one_only_together_are_faults(split: list[bytes]) -> None:
    buffer, starts, ends = buffered(split, b",")
    assert list(JSON.scan(buffer, starts, ends, WANTED).faults) == list(range(len(split)))


def test_what_is_valid_is_no_fault_whatever_a_parser_can_hold() -> None:
    documents = [b'{"a":1e400}', b'{"a":%s}' % (b"9" * 9000), b'{"a":"\\ud800","c":5}', b'{"a":"\\u0000"}', b'{"":""}']
    buffer, starts, ends = buffered(documents)
    scan = JSON.scan(buffer, starts, ends, WANTED)
    assert scan.faults == {}
    values, wrong = JSON.values(buffer, scan.cells[0], "decimal")
    assert values.to_pylist() == ["1e400", "9" * 9000, None, None, None]
    assert wrong.tolist() == [False, False, True, True, False]
    values, wrong = JSON.values(buffer, scan.cells[0], "text")
    assert values.to_pylist() == [None, None, None, "\0", None]
    assert wrong.tolist() == [True, True, True, False, False]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.dictionaries(st.just("a"), VALUES, max_size=1), max_size=5), st.booleans())
def test_elements_are_those_of_the_arrays_in_order(values: list[dict[str, Any]], spaced: bool) -> None:
    separators = (" , ", " : ") if spaced else (",", ":")
    documents = [json.dumps(value, separators=separators, default=str).encode() for value in values]
    buffer, starts, ends = buffered(documents, b"\n")
    scan = JSON.scan(buffer, starts, ends, WANTED)
    of, cells = JSON.elements(buffer, scan.cells[0])
    found: list[list[Any]] = [[] for _ in documents]
    for at, document in enumerate(of.tolist()):
        found[document].append(json.loads(bytes_of(buffer, cells, at)))
        assert cells.kinds[at] == kind_of(
            json.loads(bytes_of(buffer, cells, at), parse_float=Decimal, parse_int=Decimal)
        )
    arrays = [json.loads(document).get("a") for document in documents]
    assert found == [each if isinstance(each, list) else [] for each in arrays]


# -------------------------------------------------------------------------------------------------------------- values

WRONG = object()
OID = "0123456789abcdef01234567"
UUID = "00112233-4455-6677-8899-aabbccddeeff"


def read(value: str, type_: Type) -> Any:
    buffer, starts, ends = buffered([b'{"a": 1 }', f'{{"a" : {value} }}'.encode(), b"{}", b'{"a":null}'])
    scan = JSON.scan(buffer, starts, ends, WANTED)
    assert scan.faults == {}
    values, wrong = JSON.values(buffer, scan.cells[0], type_)
    assert not wrong[2]
    assert not wrong[3]
    assert values[2].as_py() is None
    assert values[3].as_py() == ("null" if type_ == "json" else None)
    if wrong[1]:
        assert values[1].as_py() is None
        return WRONG
    return values.cast(pa.int64())[1].as_py() if type_ == "moment" else values[1].as_py()


@pytest.mark.parametrize(
    ("type_", "value", "expected"),
    [
        ("text", '"x"', "x"),
        ("text", r'"\u00e9\ud83d\ude00\n\/\"\\"', 'é😀\n/"\\'),
        ("text", '""', ""),
        ("text", r'"\udc00"', WRONG),
        ("text", "1", WRONG),
        ("text", '{"$oid": "x"}', WRONG),
        ("integer", "-0", 0),
        ("integer", "9223372036854775807", 2**63 - 1),
        ("integer", "-9223372036854775808", -(2**63)),
        ("integer", "9223372036854775808", WRONG),
        ("integer", "1.0", 1),
        ("integer", "1e3", 1000),
        ("integer", "12.5e1", 125),
        ("integer", "1.5", WRONG),
        ("integer", "1e-1", WRONG),
        ("integer", "1e99999999999999999999", WRONG),
        ("integer", "1.00000000000000000000000000000000001", WRONG),
        ("integer", "1" + "0" * 40 + "e-40", 1),
        ("integer", '"1"', WRONG),
        ("integer", "true", WRONG),
        ("integer", '{"$numberLong": "12"}', 12),
        ("integer", '{"$numberLong": "1.5"}', WRONG),
        ("integer", '{"$numberDouble": "1.0"}', 1),
        ("integer", '{"$numberDouble": "NaN"}', WRONG),
        ("integer", '{"$numberLong": "12", "x": 1}', WRONG),
        ("double", "0.1", 0.1),
        ("double", "123456789.12345678", 123456789.12345678),
        ("double", "0.10000000000000001", 0.1),
        ("double", "0.1000000000000000055511151231257827021181583404541015625", 0.1),
        ("double", "0.100000000000000001", WRONG),
        ("double", "9007199254740993", WRONG),
        ("double", "9007199254740992", 9007199254740992.0),
        ("double", "1e400", WRONG),
        ("double", "1e-400", WRONG),
        ("double", "5e-324", 5e-324),
        ("double", "1E5", 1e5),
        ("double", '{"$numberDouble": "-Infinity"}', float("-inf")),
        ("double", '{"$numberLong": "9007199254740993"}', WRONG),
        ("decimal", "1.10", "1.10"),
        ("decimal", "1E5", "1E5"),
        ("decimal", '{"$numberDecimal": "1.5E+3"}', "1.5E+3"),
        ("decimal", '{"$numberDecimal": "abc"}', WRONG),
        ("decimal", '"1"', WRONG),
        ("boolean", "true", True),
        ("boolean", "false", False),
        ("boolean", "0", WRONG),
        ("json", '{ "x" : [1, "\\u0041"] }', '{ "x" : [1, "\\u0041"] }'),
        ("json", "1.10", "1.10"),
        ("moment", '"1970-01-01T00:00:01Z"', 1_000_000),
        ("moment", '"1970-01-01T01:00:00.5+01:00"', 500_000),
        ("moment", '"1969-12-31t23:59:59.9999990z"', -1),
        ("moment", '"2023-02-30T00:00:00Z"', WRONG),
        ("moment", '"1970-01-01T00:00:00.0000001Z"', WRONG),
        ("moment", '"1970-01-01T00:00:00"', WRONG),
        ("moment", '"1970-01-01"', WRONG),
        ("moment", '{"$date": "1970-01-01T00:00:01Z"}', 1_000_000),
        ("moment", '{"$date": {"$numberLong": "-1"}}', -1000),
        ("moment", '{"$date": 1}', 1000),
        ("moment", '{"$date": {"$numberLong": "9223372036854775807"}}', WRONG),
        ("moment", "0", WRONG),
        ("objectid", f'{{"$oid": "{OID.upper()}"}}', OID),
        ("objectid", f'"{OID}"', WRONG),
        ("objectid", '{"$oid": "xyz"}', WRONG),
        ("binary", '{"$binary": {"base64": "AAE=", "subType": "00"}}', b"\0\1"),
        ("binary", '{"$binary": "AAE=", "$type": "00"}', b"\0\1"),
        ("binary", '{"$binary": {"base64": "A*E=", "subType": "00"}}', WRONG),
        ("binary", '"AAE="', WRONG),
        ("uuid", f'"{UUID.upper()}"', UUID),
        ("uuid", f'{{"$uuid": "{UUID}"}}', UUID),
        ("uuid", '{"$binary": {"base64": "ABEiM0RVZneImaq7zN3u/w==", "subType": "04"}}', UUID),
        ("uuid", '{"$binary": {"base64": "ABEiM0RVZneImaq7zN3u/w==", "subType": "00"}}', WRONG),
        ("uuid", '"00112233"', WRONG),
    ],
)
def test_a_value_is_read_exactly_or_is_wrong(type_: Type, value: str, expected: Any) -> None:
    found = read(value, type_)
    assert found == expected
    assert type(found) is type(expected)


@settings(max_examples=300, deadline=None)
@given(st.binary(min_size=8, max_size=8), st.sampled_from(["r", ".17g", ".16g", ".15g"]))
def test_what_a_double_prints_is_a_double(raw: bytes, form: str) -> None:
    [number] = struct.unpack("d", raw)
    if number != number or abs(number) == float("inf"):
        return
    text = repr(number) if form == "r" else format(number, form)
    found = read(text, "double")
    if form in ("r", ".17g"):
        assert found == number
    else:
        assert found is WRONG or Decimal(text) in (Decimal(found), Decimal(repr(found)), Decimal(f"{found:.17g}"))
