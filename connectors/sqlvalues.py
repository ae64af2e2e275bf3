"""Python values of a database driver as Arrow columns: exactly of the column's type, or told to be none of it."""

from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

from connectors import typed
from connectors.relational import Field

_REFUSED = (pa.ArrowException, OverflowError, TypeError, ValueError, InvalidOperation)


def column(values: Sequence[Any], field: Field, *, loose: bool = False, server_texts: bool = False) -> pa.Array:
    """The values of a column, as `Session.stream` gives them.

    `loose`: the column holds whatever was put in, and is read as text. `server_texts`: a text is the server's own spelling of
    a value of the type, not a text that somebody stored in its place.
    """
    kinds = set(map(type, values)) - {type(None)}
    if not kinds:
        return pa.nulls(len(values), field.type)
    try:
        if kinds == {str} and _read_as_text(field, server_texts):
            return pa.array(values, pa.string())
        if kinds == {_native(field)} and _of_one_clock(values, field):
            return pa.array(values, field.type)
    except _REFUSED:
        pass
    pairs = [_one(value, field, loose, server_texts) for value in values]
    good = pa.array([value for value, _ in pairs], field.type)
    if all(wrong is None for _, wrong in pairs):
        return good
    return typed.telling(good, pa.array([wrong for _, wrong in pairs], pa.string()))


def _read_as_text(field: Field, server_texts: bool) -> bool:
    kind = field.type
    if pa.types.is_string(kind):
        return server_texts or not is_numeric_text(field)
    return server_texts or pa.types.is_date(kind) or (pa.types.is_timestamp(kind) and not kind.tz)


def is_numeric_text(field: Field) -> bool:
    """A number whose digits are not bounded: it is read as text."""
    return pa.types.is_string(field.type) and field.suggested.startswith("numeric")


def _native(field: Field) -> type | None:
    """The type of driver values that Arrow takes as they are."""
    ways: tuple[tuple[Callable[[pa.DataType], bool], type], ...] = (
        (pa.types.is_integer, int),
        (pa.types.is_boolean, bool),
        (pa.types.is_floating, float),
        (pa.types.is_decimal, Decimal),
        (pa.types.is_string, str),
        (pa.types.is_binary, bytes),
        (pa.types.is_date, date),
        (pa.types.is_timestamp, datetime),
    )
    return None if is_numeric_text(field) else next((native for test, native in ways if test(field.type)), None)


def _of_one_clock(values: Sequence[Any], field: Field) -> bool:
    """Arrow takes a moment of a zone for one without, and the other way round, and moves it."""
    if not pa.types.is_timestamp(field.type):
        return True
    zoned = {value.tzinfo is not None for value in values if value is not None}
    return zoned <= {bool(field.type.tz)}


def _one(value: Any, field: Field, loose: bool, server_texts: bool) -> tuple[Any, str | None]:
    """(value, None), or (None, its text) where it is none of the type."""
    if value is None:
        return None, None
    try:
        found = _fitted(value, field, loose, server_texts)
        if found is not None:
            return pa.scalar(found, field.type).as_py(), None
    except _REFUSED:
        pass
    return None, _told(value)


def _fitted(value: Any, field: Field, loose: bool, server_texts: bool) -> Any:
    """The value as Arrow takes it; None where it is of another type."""
    kind = field.type
    if isinstance(value, bytearray | memoryview):
        value = bytes(value)
    if isinstance(value, str) and not pa.types.is_string(kind) and _read_as_text(field, server_texts):
        return typed.cast(pa.array([value]), kind)[0][0].as_py()
    number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    if is_numeric_text(field) and (number or (server_texts and isinstance(value, str))):
        return _digits(value)
    if pa.types.is_string(kind):
        fits = isinstance(value, str) and not is_numeric_text(field)
        return value if fits else _digits(value) if loose and number else None
    if pa.types.is_boolean(kind):
        return bool(value) if isinstance(value, int) and value in (0, 1) else None
    if pa.types.is_integer(kind):
        return int(value) if number and not isinstance(value, float) and value == int(value) else None
    if pa.types.is_floating(kind):
        return float(value) if isinstance(value, float) or (number and Decimal(float(value)) == value) else None
    if pa.types.is_decimal(kind):
        return Decimal(_digits(value)) if number else None
    if pa.types.is_timestamp(kind):
        return value if isinstance(value, datetime) and _of_one_clock([value], field) else None
    return value if type(value) is _native(field) else None


def _digits(value: Any) -> str:
    """A number in decimal digits without an exponent: of a double the fewest that say which one it is."""
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    return str(number) if not number.is_finite() else format(number, "f")


def _told(value: Any) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    return str(value).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
