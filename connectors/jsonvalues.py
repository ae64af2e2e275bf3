"""Values of JSON texts as Arrow arrays: exactly what stands there, or wrong. Also what extended JSON writes as objects.

https://github.com/mongodb/specifications/blob/master/source/extended-json/extended-json.md
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors.docscan import ABSENT, ARROW, BOOLEAN, NULL, NUMBER, OBJECT, STRING, Cells, Data, Mask, Offsets, Type

_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_PLAIN_INTEGER = r"^-?[0-9]{1,18}$"
_PLAIN_DOUBLE = r"^-?[0-9]{1,8}(\.[0-9]{1,7})?$"  # at most 15 digits: a double holds as many, whatever they are
_PRINTED_DOUBLE = r"^-?(0|[1-9][0-9]{0,14})\.[0-9]{1,17}$"
_MOMENT = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
_PLAIN_MOMENT = r"^(19|20)[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z$"
_UUID = r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
_NUMBERS = ("$numberInt", "$numberLong", "$numberDouble", "$numberDecimal")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INT64 = range(-(1 << 63), 1 << 63)
_STRINGS = msgspec.json.Decoder(type=list[str])


def spans(data: Data, starts: Offsets, ends: Offsets) -> pa.LargeBinaryArray:
    """What stands at `starts[i]:ends[i]`, which ascend and do not overlap, as large_binary."""
    edges = np.empty(2 * len(starts) + 1, np.int64)
    edges[:-1:2], edges[1::2] = starts, ends
    edges[-1] = data.size  # what lies between two spans is an entry too, and is not taken
    whole = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), 2 * len(starts), [None, pa.py_buffer(edges), pa.py_buffer(data)]
    )
    return whole.take(pa.array(np.arange(0, 2 * len(starts), 2)))


def read_values(data: Data, cells: Cells, type_: Type) -> tuple[pa.Array, Mask]:
    """The values of cells as `ARROW[type_]`; and which of them are none of that type, exactly. See `Form.values`."""
    arrow = ARROW[type_]
    absent = cells.kinds == ABSENT
    if type_ == "json":
        return _spread(len(absent), [_json(data, cells, np.flatnonzero(~absent))], arrow), np.zeros(
            len(absent), np.bool_
        )
    parts = list(_READERS[type_](data, cells))
    right = absent | (cells.kinds == NULL)
    for at, _ in parts:
        right[at] = True
    return _spread(len(absent), parts, arrow), ~right


Part = tuple[Offsets, pa.Array]
"""Some values, and which of the cells they are of."""


def _spread(count: int, parts: list[Part], type_: pa.DataType) -> pa.Array:
    """Values at their places among `count`, NULL elsewhere."""
    places = np.full(count, -1, np.int64)
    before = 0
    for at, values in parts:
        places[at] = np.arange(before, before + len(values))
        before += len(values)
    every = pa.concat_arrays([pa.array([], type_), *(values.cast(type_) for _, values in parts)])
    return every.take(pa.array(places, mask=places < 0))


def _taken(data: Data, cells: Cells, at: Offsets, edge: int = 0) -> pa.Array:
    """The bytes of some cells as large_string. `edge`: how many bytes are left out at each end."""
    found = spans(data, cells.starts[at] + edge, cells.ends[at] - edge)
    return found.view(pa.large_string())  # known to be UTF-8


def _json(data: Data, cells: Cells, at: Offsets) -> Part:
    return at, _taken(data, cells, at)


def _strings(data: Data, cells: Cells) -> list[Part]:
    """The strings, unescaped; not those that hold half of a surrogate pair."""
    at = np.flatnonzero(cells.kinds == STRING)
    raw = _taken(data, cells, at, 1)
    escaped = _mask(pc.match_substring(raw, "\\"))
    if not escaped.any():
        return [(at, raw)]
    plain = at[~escaped], raw.filter(pa.array(~escaped))
    at = at[escaped]
    quoted = spans(data, cells.starts[at], cells.ends[at])
    lists = pa.LargeListArray.from_arrays(pa.array([0, len(at)], pa.int64()), quoted)
    joined = pc.binary_join(lists, pa.scalar(b",", pa.large_binary()))[0].as_buffer()
    try:
        texts: list[str | None] = list(_STRINGS.decode(b"[" + memoryview(joined) + b"]"))
    except msgspec.DecodeError:
        texts = [_unescaped(each) for each in quoted.to_pylist()]
    whole = np.array([text is not None for text in texts], np.bool_)
    return [plain, (at[whole], pa.array([text for text in texts if text is not None], pa.large_string()))]


def _unescaped(quoted: bytes) -> str | None:
    text = str(json.loads(quoted))
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    return text


def _mask(flags: pa.Array) -> Mask:
    mask: Mask = flags.to_numpy(zero_copy_only=False).astype(np.bool_)
    return mask


def _one_by_one(at: Offsets, raw: pa.Array, read: Callable[[str], Any], type_: pa.DataType) -> Part:
    """What `read` makes of texts; None: it is wrong."""
    found = [read(each) for each in raw.to_pylist()]
    right = np.array([each is not None for each in found], np.bool_)
    return at[right], pa.array([each for each in found if each is not None], type_)


# ------------------------------------------------------------------------------------------------------------- numbers


def _numbers(plain: str | None, type_: pa.DataType, read: Callable[[str], Any]) -> Callable[[Data, Cells], list[Part]]:
    """A reader of numbers: Arrow reads those that match `plain`, `read` the others, and those of extended JSON."""

    def reader(data: Data, cells: Cells) -> list[Part]:
        at = np.flatnonzero(cells.kinds == NUMBER)
        raw = _taken(data, cells, at)
        easy = _mask(pc.match_substring_regex(raw, plain)) if plain else np.ones(len(at), np.bool_)
        simple = at[easy], raw.filter(pa.array(easy)).cast(type_)
        return [
            simple,
            _one_by_one(at[~easy], raw.filter(pa.array(~easy)), read, type_),
            _extended(data, cells, lambda value: _of_number(value, read), type_),
        ]

    return reader


def _of_number(value: Mapping[str, Any], read: Callable[[str], Any]) -> Any:
    if len(value) != 1:
        return None
    [(name, text)] = value.items()
    if name not in _NUMBERS or not isinstance(text, str):
        return None
    if name in ("$numberInt", "$numberLong") and not re.fullmatch(r"-?\d+", text, re.ASCII):
        return None
    if text in ("NaN", "Infinity", "-Infinity"):
        return read(text)
    return read(text) if _NUMBER.fullmatch(text.replace("E+", "E")) else None


def _doubles(data: Data, cells: Cells) -> list[Part]:
    """Most doubles are what Arrow prints of them; only the others are looked at one by one."""
    at = np.flatnonzero(cells.kinds == NUMBER)
    raw = _taken(data, cells, at)
    likely = np.flatnonzero(_mask(pc.match_substring_regex(raw, _PRINTED_DOUBLE)))
    values = raw.take(pa.array(likely)).cast(pa.float64())
    printed = likely[_mask(pc.equal(values.cast(pa.large_string()), raw.take(pa.array(likely))))]
    left = np.ones(len(cells.kinds), np.bool_)
    left[at[printed]] = False
    rest = Cells(np.where(left, cells.kinds, NULL).astype(np.uint8), cells.starts, cells.ends)
    exact = at[printed], raw.take(pa.array(printed)).cast(pa.float64())
    return [exact, *_other_doubles(data, rest)]


def _decimal(text: str) -> Decimal | None:
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent past what can be held
        return None


def _integer(text: str) -> int | None:
    value = _decimal(text)
    if value is None or not value.is_finite() or value.adjusted() > 19 or value != value.to_integral_value():
        return None
    return int(value) if int(value) in _INT64 else None


def _double(text: str) -> float | None:
    """What a double holds exactly, or prints: in its shortest form, or with 17 digits."""
    if text in ("NaN", "Infinity", "-Infinity"):
        return float(text)
    number, value = float(text), _decimal(text)
    if value is None or number in (float("inf"), -float("inf")):
        return None
    return number if value in (Decimal(number), Decimal(repr(number)), Decimal(f"{number:.17g}")) else None


_other_doubles = _numbers(_PLAIN_DOUBLE, pa.float64(), _double)


# ----------------------------------------------------------------------------------------------- booleans, other strings


def _booleans(data: Data, cells: Cells) -> list[Part]:
    at = np.flatnonzero(cells.kinds == BOOLEAN)
    return [(at, pa.array(data[cells.starts[at]] == ord("t")))]


def _moments(data: Data, cells: Cells) -> list[Part]:
    type_ = ARROW["moment"]
    parts = [_extended(data, cells, _of_date, type_)]
    for at, texts in _strings(data, cells):
        easy = _mask(pc.match_substring_regex(texts, _PLAIN_MOMENT))
        simple = texts.filter(pa.array(easy))
        try:
            parts.append((at[easy], simple.cast(type_)))
        except pa.ArrowInvalid:  # such as a 30th of February
            easy[:] = False
        parts.append(_one_by_one(at[~easy], texts.filter(pa.array(~easy)), _moment, type_))
    return parts


def _moment(text: str) -> int | None:
    """Microseconds since 1970 (UTC) of a moment in RFC 3339; None too where it is finer than that."""
    found = re.fullmatch(_MOMENT, text)
    if not found:
        return None
    fraction, zone = (found[1] or ".0")[1:], found[2].upper().replace("Z", "+00:00")
    if fraction[6:].strip("0"):
        return None
    try:
        moment = datetime.fromisoformat(f"{text[:10]}T{text[11:19]}{zone}")
    except ValueError:
        return None
    whole = moment - _EPOCH
    return (whole.days * 86_400 + whole.seconds) * 1_000_000 + int(fraction[:6].ljust(6, "0"))


def _of_date(value: Mapping[str, Any]) -> int | None:
    date = value.get("$date")
    if len(value) != 1 or date is None:
        return None
    if isinstance(date, str):
        return _moment(date)
    if isinstance(date, dict):
        date = _of_number(date, _integer)
    elif isinstance(date, Decimal):
        date = _integer(str(date))
    return date * 1000 if isinstance(date, int) and date * 1000 in _INT64 else None


def _objectids(data: Data, cells: Cells) -> list[Part]:
    return [_extended(data, cells, _of_oid, pa.string())]


def _of_oid(value: Mapping[str, Any]) -> str | None:
    oid = value.get("$oid")
    known = len(value) == 1 and isinstance(oid, str) and re.fullmatch("[0-9A-Fa-f]{24}", oid)
    return str(oid).lower() if known else None


def _binaries(data: Data, cells: Cells) -> list[Part]:
    return [_extended(data, cells, lambda value: _of_binary(value)[1], pa.binary())]


def _of_binary(value: Mapping[str, Any]) -> tuple[str, bytes | None]:
    """(subtype in hexadecimal, bytes), also as it was written before version 2 of extended JSON."""
    held = value.get("$binary")
    if isinstance(held, dict) and len(value) == 1 and held.keys() == {"base64", "subType"}:
        text, kind = held["base64"], held["subType"]
    elif value.keys() == {"$binary", "$type"}:
        text, kind = held, value["$type"]
    else:
        return "", None
    if not isinstance(text, str) or not isinstance(kind, str):
        return "", None
    try:
        return kind.lstrip("0"), base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return "", None


def _uuids(data: Data, cells: Cells) -> list[Part]:
    parts = [_extended(data, cells, _of_uuid, pa.string())]
    for at, texts in _strings(data, cells):
        known = _mask(pc.match_substring_regex(texts, f"^{_UUID}$"))
        parts.append((at[known], pc.utf8_lower(texts.filter(pa.array(known)))))
    return parts


def _of_uuid(value: Mapping[str, Any]) -> str | None:
    text = value.get("$uuid")
    if isinstance(text, str) and len(value) == 1:
        return text.lower() if re.fullmatch(_UUID, text) else None
    kind, held = _of_binary(value)
    return str(UUID(bytes=held)) if held is not None and kind == "4" and len(held) == 16 else None


def _extended(data: Data, cells: Cells, read: Callable[[Mapping[str, Any]], Any], type_: pa.DataType) -> Part:
    """The objects of extended JSON, whose first name begins with `$`, one by one."""
    at = np.flatnonzero(cells.kinds == OBJECT)
    raw = _taken(data, cells, at)
    likely = _mask(pc.match_substring_regex(raw, r'^\{[ \t\r\n]*"\$'))

    def of(text: str) -> Any:
        return read(json.loads(text, parse_float=Decimal, parse_int=Decimal))

    return _one_by_one(at[likely], raw.filter(pa.array(likely)), of, type_)


_READERS: Mapping[Type, Callable[[Data, Cells], list[Part]]] = {
    "text": _strings,
    "integer": _numbers(_PLAIN_INTEGER, pa.int64(), _integer),
    "double": _doubles,
    "decimal": _numbers(None, pa.string(), str),
    "boolean": _booleans,
    "moment": _moments,
    "objectid": _objectids,
    "binary": _binaries,
    "uuid": _uuids,
}
