"""Values of BSON as extended JSON, relaxed: what json_util makes of them, thousands at once."""

import decimal
import json
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

import bson
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from bson import json_util
from bson.code import Code
from bson.codec_options import CodecOptions, DatetimeConversion, TypeDecoder, TypeRegistry
from bson.errors import BSONError

from connectors.bytespans import Part, fours, placed, spans
from connectors.docscan import ABSENT, BOOLEAN, INT32, NULL, STRING, Cells, Data, Kinds, Mask, Offsets

_FEW = 8  # of so many values that cannot be read together each is read alone
_OPTIONS = json_util.RELAXED_JSON_OPTIONS
_SEPARATOR, _CUT = ",\x1e", "\x1f"  # JSON has no such characters, in texts neither
_BETWEEN = -(10**30)  # no integer of BSON
_SPECIAL = r'["\\\x00-\x1f]'


class _NoCode(TypeDecoder):
    """Code is a str in Python, and would be written as one."""

    bson_type = Code

    def transform_bson(self, value: object) -> NoReturn:
        raise ValueError("code")


class _Once(dict[str, Any]):
    """An object of which no field is lost. Raises ValueError for a name that it has already."""

    def __setitem__(self, name: str, value: object) -> None:
        if name in self:
            raise ValueError(f"the field {name!r} twice")
        super().__setitem__(name, value)


_TOGETHER: CodecOptions[dict[str, Any]] = CodecOptions(
    type_registry=TypeRegistry([_NoCode()]), datetime_conversion=DatetimeConversion.DATETIME_MS
)
_ALONE = CodecOptions(document_class=_Once, datetime_conversion=DatetimeConversion.DATETIME_MS)
_ENCODER = json.JSONEncoder(
    ensure_ascii=False,
    allow_nan=False,
    check_circular=False,
    separators=(_SEPARATOR, ":"),
    default=partial(json_util.default, json_options=_OPTIONS),
)
_REFUSALS = (BSONError, ValueError, TypeError, OverflowError, RecursionError, decimal.DecimalException)


def texts(data: Data, cells: Cells) -> tuple[pa.Array, Mask]:
    """The values as JSON, and which of them cannot be read. Null is `null`, an absent value NULL."""
    parts: list[Part] = []
    easy = cells.kinds == ABSENT
    for kind, read in ((NULL, _null), (BOOLEAN, _boolean), (INT32, _integer), (STRING, _text)):
        rows = np.flatnonzero(cells.kinds == kind)
        if len(rows):
            found = read(data, cells.starts[rows], cells.ends[rows])
            rows, found = rows[found.is_valid().to_numpy(zero_copy_only=False)], found.drop_null()
            easy[rows] = True
            parts.append((rows, found))
    rows = np.flatnonzero(~easy)
    if len(rows):
        raw = spans(data, cells.starts[rows], cells.ends[rows])
        parts.append((rows, pa.array(_written(cells.kinds[rows], raw), pa.string())))
    found = placed(len(easy), parts, pa.string())
    return found, found.is_null().to_numpy(zero_copy_only=False) & (cells.kinds != ABSENT)


# Each gives NULL for what it leaves to the others.


def _null(data: Data, starts: Offsets, ends: Offsets) -> pa.Array:
    return pa.array(np.full(len(starts), "null"), pa.string())


def _boolean(data: Data, starts: Offsets, ends: Offsets) -> pa.Array:
    found = data[starts]
    return pc.if_else(pa.array(found == 1, mask=found > 1), "true", "false")


def _integer(data: Data, starts: Offsets, ends: Offsets) -> pa.Array:
    return pc.cast(pa.array(fours(data, starts)), pa.string())


def _text(data: Data, starts: Offsets, ends: Offsets) -> pa.Array:
    found = spans(data, starts + 4, ends - 1)
    try:
        found = pc.cast(found, pa.string())
    except pa.ArrowInvalid:
        return pa.nulls(len(starts), pa.string())
    quoted = pc.binary_join_element_wise('"', found, '"', "")
    return pc.if_else(pc.match_substring_regex(found, _SPECIAL), pa.scalar(None, pa.string()), quoted)


def _written(kinds: Kinds, raw: pa.Array) -> Sequence[str | None]:
    """The JSON of values, None for those that cannot be read; halved until what is left is read at once, or alone."""
    found = _together(kinds, raw)
    if found is not None:
        return found
    if len(kinds) <= _FEW:
        return [_alone(int(kind), value.as_py()) for kind, value in zip(kinds, raw, strict=True)]
    half = len(kinds) // 2
    return [*_written(kinds[:half], raw[:half]), *_written(kinds[half:], raw[half:])]


def _together(kinds: Kinds, raw: pa.Array) -> Sequence[str] | None:
    """The JSON of values, read as the elements of one array. None where one is damaged or needs care.

    That nothing is lost shows in that the same bytes come of them again: a field that an object holds twice would be missing.
    """
    keys = pc.cast(pc.cast(pa.array(np.arange(len(kinds))), pa.string()), pa.binary())
    types = spans(kinds, np.arange(len(kinds)), np.arange(1, len(kinds) + 1))
    body = pc.binary_join_element_wise(types, keys, b"\0", raw, b"")
    _, offsets, joined = body.buffers()
    cuts = np.frombuffer(offsets, np.int32)
    elements = joined[int(cuts[body.offset]) : int(cuts[body.offset + len(body)])].to_pybytes()
    size = len(elements) + 5
    document = b"".join(((size + 8).to_bytes(4, "little"), b"\4v\0", size.to_bytes(4, "little"), elements, b"\0\0"))
    try:
        values = bson.decode(document, _TOGETHER)
        if bson.encode(values) != document:
            return None
        between: list[Any] = [_BETWEEN] * (2 * len(kinds) - 1)
        between[::2] = values["v"]
        text = _ENCODER.encode(between)[1:-1]
    except _REFUSALS:
        return None
    return text.replace(f"{_SEPARATOR}{_BETWEEN}{_SEPARATOR}", _CUT).replace(_SEPARATOR, ",").split(_CUT)


def _alone(kind: int, raw: bytes) -> str | None:
    document = (len(raw) + 7).to_bytes(4, "little") + bytes([kind]) + b"\0" + raw + b"\0"
    try:
        value = bson.decode(document, _ALONE)[""]
        return json_util.dumps(value, json_options=_OPTIONS, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except _REFUSALS:
        return None
