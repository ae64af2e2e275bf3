"""Cells of a worksheet as texts: numbers in their shortest exact form, dates by their number formats, and what is none."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Forms = npt.NDArray[np.uint8]

UNCALCULATED = "a formula that was never calculated"
"""The fault of a formula without a value, as programs write that cannot calculate; Excel itself always has one."""

PLAIN, DATE, DATETIME, TIME, DURATION = range(5)
"""What a number format makes of a number: a number, or one of these moments."""

_DAY = 86_400_000_000  # microseconds
_LAST = 2_958_465  # 9999-12-31 by the 1900 epoch, where Excel's dates end
_BUILT_IN = {
    **dict.fromkeys((14, 15, 16, 17, 27, 28, 29, 30, 31, 36, 50, 51, 52, 53, 54, 57, 58), DATE),
    **dict.fromkeys((18, 19, 20, 21, 32, 33, 34, 35, 45, 47, 55, 56), TIME),
    22: DATETIME,
    46: DURATION,
}
_DECORATION = re.compile(r'"[^"]*"|\\.|_.|\*.|general|e[+-]|am/pm|a/p', re.IGNORECASE | re.DOTALL)
_ELAPSED = re.compile(r"\[(h+|m+|s+)\]", re.IGNORECASE)
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"
_LONGER = r"^-?[0.]*[1-9](\.?[0-9]){17}"  # more than the 17 digits that tell any double from every other
_ESCAPED = re.compile("_x([0-9A-Fa-f]{4})_")


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of some whole rows that are not blank, by row and column; both ascend.

    `rows` count from 1 and `columns` from 0, as in `A1`; the text of each is at `places` in `pool`. `faults` are the
    cells that hold no value, by their place in the arrays: an error, a date that is none, a formula without its value.
    Their text is what stands there.
    """

    rows: Ints
    columns: Ints
    pool: pa.StringArray
    places: Ints
    faults: Mapping[int, str]

    def text(self, i: int) -> str:
        return str(self.pool[int(self.places[i])].as_py())

    def holding(self) -> npt.NDArray[np.bool_]:
        """Which cells hold something: an empty text is nothing."""
        lengths = pc.binary_length(self.pool).to_numpy(zero_copy_only=False)
        holds: npt.NDArray[np.bool_] = lengths[self.places] > 0
        if self.faults:
            holds[list(self.faults)] = True
        return holds


def form_of(number: int, code: str | None) -> int:
    """What the number format of this id makes of a number; `code` is its text, None where Excel has it built in."""
    if code is None:
        return _BUILT_IN.get(number, PLAIN)
    bare = _DECORATION.sub("", code).lower()
    section = next((part for part in bare.split(";") if part), "")
    if _ELAPSED.search(section):
        return DURATION
    section = re.sub(r"\[[^\]]*\]", "", section)
    clock = bool(re.search("[hs]", section))
    if re.search("[ydeb]", section) or ("m" in section and not clock):
        return DATETIME if clock else DATE
    return TIME if clock else PLAIN


def letters(column: int) -> str:
    """`A` for 0, `AA` for 26."""
    name = ""
    column += 1
    while column:
        column, rest = divmod(column - 1, 26)
        name = chr(65 + rest) + name
    return name


def column_of(name: str) -> int:
    """0 for `A`, 26 for `aa`."""
    number = 0
    for letter in name.upper():
        number = number * 26 + ord(letter) - 64
    return number - 1


def unescaped(text: str) -> str:
    """The text with `_x000D_` as the character that it stands for, as Excel writes what XML cannot hold."""
    return (
        _ESCAPED.sub(lambda code: chr(int(code[1], 16)), text)
        .encode("utf-16", "surrogatepass")
        .decode("utf-16", "replace")
    )


def unescape(texts: pa.StringArray) -> pa.StringArray:
    return rewritten(texts, pc.match_substring(texts, "_x"), unescaped)


def rewritten(texts: pa.StringArray, which: pa.BooleanArray, how: Callable[[str], str]) -> pa.StringArray:
    """The texts with some of them rewritten one by one: for the few."""
    if not pc.any(which).as_py():
        return texts
    return pc.replace_with_mask(
        texts, which, pa.array([how(text) for text in texts.filter(which).to_pylist()], pa.string())
    )


class Assembly:
    """The texts of so many cells, made kind by kind."""

    def __init__(self, size: int) -> None:
        self._pieces: list[pa.StringArray] = [pa.array([], pa.string())]
        self._places = np.zeros(size, np.int64)
        self._made = 0
        self._faults: dict[int, str] = {}

    def put(self, at: Ints, texts: pa.StringArray, faults: Mapping[int, str] | None = None) -> None:
        """`texts[i]` is of cell `at[i]`; `faults` are by i."""
        self._places[at] = self._made + np.arange(at.size)
        self._pieces.append(texts)
        self._made += at.size
        self._faults.update((int(at[i]), said) for i, said in (faults or {}).items())

    def texts(self) -> pa.StringArray:
        return pa.concat_arrays(self._pieces).take(pa.array(self._places))

    def cells(self, rows: Ints, columns: Ints) -> Cells:
        return Cells(rows, columns, pa.concat_arrays(self._pieces), self._places, self._faults)


class ErrorText(str):
    """The text of an error cell, among texts that are none."""

    __slots__ = ()


def from_values(found: Sequence[tuple[int, int, object, int]], *, epoch_1904: bool) -> Cells:
    """Cells from rows, columns, Python values and forms: for readers that have no other way than cell by cell."""
    rows, columns, values, forms = zip(*found, strict=True) if found else ((),) * 4
    made = Assembly(len(found))
    form = np.array(forms, np.uint8)
    number = np.array([type(v) is float for v in values], np.bool_)
    ways: Sequence[tuple[Any, Callable[[Sequence[Any], Any], tuple[pa.StringArray, Mapping[int, str]]]]] = (
        (number & (form == PLAIN), lambda some, _: (from_doubles(np.array(some)), {})),
        (number & (form != PLAIN), lambda some, at: moments(np.array(some), form[at], epoch_1904=epoch_1904)),
        (~number, lambda some, _: _words(some)),
    )
    for chosen, text_of in ways:
        at = np.flatnonzero(chosen)
        if at.size:
            made.put(at, *text_of([values[i] for i in at.tolist()], at))
    return made.cells(np.array(rows, np.int64), np.array(columns, np.int64))


def _words(values: Sequence[object]) -> tuple[pa.StringArray, dict[int, str]]:
    """Texts, truth values and errors."""
    texts = [str(value).lower() if isinstance(value, bool) else str(value) for value in values]
    return pa.array(texts, pa.string()), {i: str(v) for i, v in enumerate(values) if isinstance(v, ErrorText)}


# ------------------------------------------------------------------------------------------------------------- numbers


def numbers(texts: pa.StringArray) -> tuple[pa.StringArray, dict[int, str]]:
    """Numbers as a file spells them in their shortest exact form, without an exponent; and which are none.

    Up to 17 digits are those of a double, and the fewest that mean the same double replace them: Excel writes
    0.10000000000000001 for 0.1. Whole numbers, and digits that no double has, stay as they stand.
    """
    kept, double = _spellings(texts)
    if kept.all():
        return texts, {}
    rest = np.flatnonzero(~(kept | double))
    as_double = np.flatnonzero(double)
    pieces, places, faults = [texts], np.arange(len(texts)), dict[int, str]()
    if as_double.size:
        pieces.append(from_doubles(pc.cast(texts.take(pa.array(as_double)), pa.float64()).to_numpy()))
        places[as_double] = len(texts) + np.arange(as_double.size)
    if rest.size:
        made, faults = _respelled(texts.take(pa.array(rest)))
        places[rest] = len(texts) + as_double.size + np.arange(rest.size)
        pieces.append(made)
    return pa.concat_arrays(pieces).take(pa.array(places)), {int(rest[i]): said for i, said in faults.items()}


def _spellings(texts: pa.StringArray) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which texts are numbers in their shortest form already, and which are digits of a double around a point."""
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    begin, length = offsets[:-1], np.diff(offsets)
    if not len(texts) or not length.all():
        return np.zeros(len(texts), np.bool_), np.zeros(len(texts), np.bool_)
    data = np.frombuffer(texts.buffers()[2], np.uint8)[: offsets[-1]]
    other = (data < 48) | (data > 57)
    others = np.add.reduceat(other.view(np.uint8), begin, dtype=np.int64)
    points = np.add.reduceat((data == 46).view(np.uint8), begin, dtype=np.int64)
    first, last = data[begin], data[offsets[1:] - 1]
    second = data[np.minimum(begin + 1, data.size - 1)]
    led = (first != 48) | (length == 1) | (second == 46)  # by no zero that could be left out
    whole = (others == 0) & led
    pointed = (others == 1) & (points == 1) & led & (first != 46) & (last != 46)
    short = pointed & (last != 48) & (length <= 16)
    return whole | short, pointed & ~short & (length - 1 - (first == 48) <= 17)


def _respelled(texts: pa.StringArray) -> tuple[pa.StringArray, dict[int, str]]:
    """The same for whatever else a number may look like."""
    sound = pc.match_substring_regex(texts, _NUMBER)
    faults = {
        i: f"{texts[i].as_py()!r} is no number" for i in np.flatnonzero(~sound.to_numpy(zero_copy_only=False)).tolist()
    }
    spelled = pc.if_else(sound, texts, "0")
    exact = pc.or_(pc.match_substring_regex(spelled, "^-?[0-9]+$"), pc.match_substring_regex(spelled, _LONGER))
    made = from_doubles(pc.cast(spelled, pa.float64()).to_numpy())
    made = rewritten(pc.if_else(exact, spelled, made), exact, lambda text: _plain(Decimal(text)))
    return pc.if_else(sound, made, texts), faults


def from_doubles(values: Floats) -> pa.StringArray:
    """The fewest digits that mean these doubles, without an exponent."""
    texts = pc.cast(pa.array(values, pa.float64()), pa.string())
    made = rewritten(texts, pc.match_substring(texts, "e"), lambda text: _plain(Decimal(text)))
    return rewritten(made, pc.equal(made, "-0"), lambda _: "0")


def _plain(value: Decimal) -> str:
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


# ------------------------------------------------------------------------------------------------------------- moments


def moments(
    values: Floats, forms: Forms, *, epoch_1904: bool, digits: Ints | None = None
) -> tuple[pa.StringArray, dict[int, str]]:
    """Serial numbers under formats of dates and times as ISO texts; and those that are no day of any calendar.

    To the microsecond. What is nearer to a whole millisecond than can be told is that millisecond: by a double of its
    size, or by the `digits` behind its point.
    """
    days, clock = _split(values, digits)
    first = 0 if epoch_1904 else 1
    none = (
        (np.abs(days) > _LAST - (1462 if epoch_1904 else 0))
        | ((values < 0) & (forms != DURATION))
        | ~np.isfinite(values)
    )
    only_clock = (forms == TIME) & (days == 0)
    if not epoch_1904:
        none |= (forms != DURATION) & (days == 60)
        only_clock |= (days == 0) & (clock > 0) & (forms != DURATION)
    none |= (forms != DURATION) & ~only_clock & (days < first)
    only_day = (forms == DATE) & (clock == 0)
    lasting = (forms == DURATION) & ~none
    dated = days - 24_107 if epoch_1904 else days - 25_569 + (days < 60)
    dated = np.where(none | lasting, 0, dated)
    whole = clock % 1_000_000 == 0
    whole = clock % 1_000_000 == 0
    moment = ~(only_clock | only_day | lasting | none)
    ways: Sequence[tuple[Any, Callable[[Any], pa.Array]]] = (
        (only_day & ~none, lambda at: pa.array(dated[at].astype(np.int32)).cast(pa.date32())),
        (moment & whole, lambda at: pa.array(dated[at] * 86_400 + clock[at] // 1_000_000).cast(pa.timestamp("s"))),
        (moment & ~whole, lambda at: pa.array(dated[at] * _DAY + clock[at]).cast(pa.timestamp("us"))),
        (
            only_clock & whole & ~none,
            lambda at: pa.array((clock[at] // 1_000_000).astype(np.int32)).cast(pa.time32("s")),
        ),
        (only_clock & ~whole & ~none, lambda at: pa.array(clock[at]).cast(pa.time64("us"))),
        (lasting, lambda at: pa.array(_lasting(values[at]), pa.string())),
        (none, lambda at: from_doubles(values[at])),
    )
    made = Assembly(len(values))
    for chosen, array_of in ways:
        at = np.flatnonzero(chosen)
        if at.size:
            made.put(at, array_of(at).cast(pa.string()))
    texts = made.texts()
    return texts, {i: _no_day(values[i], epoch_1904=epoch_1904) for i in np.flatnonzero(none).tolist()}


def _split(values: Floats, digits: Ints | None = None) -> tuple[Ints, Ints]:
    """Whole days, and the microseconds beyond them."""
    finite = np.where(np.isfinite(values), values, -1.0)
    finite = np.clip(finite, -1e9, 1e9)
    days = np.floor(finite)
    clock = np.rint((finite - days) * _DAY)
    blur = np.ceil(np.spacing(np.abs(finite)) * _DAY)
    blur = blur if digits is None else np.maximum(blur, np.ceil(0.5 * _DAY * 10.0**-digits))
    near = np.rint(clock / 1000) * 1000
    clock = np.where(np.abs(clock - near) <= np.minimum(blur, 499), near, clock)
    over = clock >= _DAY
    return (days + over).astype(np.int64), np.where(over, 0, clock).astype(np.int64)


def _lasting(values: Floats) -> Iterable[str]:
    """Durations: hours, however many, minutes, seconds."""
    days, clock = _split(np.abs(values))
    for value, day, rest in zip(values.tolist(), days.tolist(), clock.tolist(), strict=True):
        seconds, fraction = divmod(day * _DAY + rest, 1_000_000)
        text = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}" + (
            f".{fraction:06}" if fraction else ""
        )
        yield f"-{text}" if value < 0 and (seconds or fraction) else text


def _no_day(value: Any, *, epoch_1904: bool) -> str:
    day = int(np.floor(value)) if np.isfinite(value) else -1
    if day == 60 and not epoch_1904:
        return "no date: 60, which Excel shows as 1900-02-29"
    if day == 0 and not epoch_1904:
        return "no date: 0, which Excel shows as day 0 of January 1900"
    return f"no date: {value:.17g}, which is outside Excel's calendar"
