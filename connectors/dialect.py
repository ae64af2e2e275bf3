"""How a delimited file is written: the options a user may give, and the detection of what was not given."""

import io
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any, Literal

import pyarrow as pa
import pyarrow.csv as pa_csv

from connectors.encodings import guess_encoding
from connectors.scan import STRAY, Grammar, scan, split
from connectors.textfile import TextFile, resolve_encoding, to_units, to_utf8, unit_width
from connectors.trailer import compile_pattern, find_trailer, missing
from migrate.errors import SourceError, UsageError

_DELIMITERS = b",;\t|\x01^"
_NAMED = {
    "tab": "\t",
    "\\t": "\t",
    "comma": ",",
    "semicolon": ";",
    "pipe": "|",
    "space": " ",
    "\\x01": "\x01",
    "none": "",
}
_SAMPLE = 1 << 18  # units of text that the dialect is detected in,
_RECORDS = 1000  # and how many of the records in them
_PLAIN = re.compile(rb"(?<!\\)(?:\\\\)*+\\[^\"'\\,;\t|N]")  # a backslash that is text: before a letter, at a line's end
_LINE_ENDS = {"\n": re.compile(rb"\r?\n"), "\r": re.compile(rb"\r")}
_QUOTED = rb"(?<![^%b])%b(?:[^%b]++|%b)*+%b(?![^%b])"  # a field in quotes, however many lines it has
_BOMS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


@dataclass(frozen=True, slots=True)
class Options:
    """How to read the files of a source; every one may stand beside `files:` in the project file.

    | option           | type          | default  | meaning                                                            |
    |------------------|---------------|----------|--------------------------------------------------------------------|
    | encoding         | text          | detected | utf-8, utf-16, utf-16-le, cp1252 or another single-byte encoding   |
    | delimiter        | text          | detected | one ASCII character, or `tab`, `comma`, `semicolon`, `pipe`        |
    | quote            | text          | detected | one ASCII character; `none`: quotes are text                       |
    | escape           | text          | detected | one ASCII character; `none`. What follows it is taken literally    |
    | header           | true or false | true     | whether the first record names the columns                         |
    | columns          | list of text  | –        | column names, instead of the header's                              |
    | nulls            | list of text  | [""]     | unquoted fields that read as NULL; a quoted field never does       |
    | skip_lines       | whole number  | 0        | physical lines before the header                                   |
    | ragged           | text          | reject   | rows with missing fields: `reject`, or `pad` with NULL             |
    | max_record_bytes | whole number  | 16777216 | a longer record is broken                                          |
    | trailer          | text          | –        | a regular expression: the last lines that match are no records     |
    | partial          | true or false | false    | a part of a file: it may lack its trailer, whose count means naught |

    Escapes are literal (a backslash before a line end or a delimiter): letters such as `\\n` do not become control
    characters. Nor does `\\N` become NULL unless `nulls` says so.
    """

    encoding: str | None = None
    delimiter: str | None = None
    quote: str | None = None
    escape: str | None = None
    header: bool = True
    columns: tuple[str, ...] = ()
    nulls: tuple[str, ...] = ("",)
    skip_lines: int = 0
    ragged: Literal["reject", "pad"] = "reject"
    max_record_bytes: int = 16 << 20
    trailer: re.Pattern[str] | None = None
    partial: bool = False


OPTION_NAMES = tuple(option.name for option in fields(Options))


def parse_options(given: Mapping[str, Any]) -> Options:
    """The options as a user wrote them. Raises UsageError for an unknown name or a value that does not fit."""
    checked: dict[str, Any] = {}
    for name, value in given.items():
        if name not in OPTION_NAMES:
            near = get_close_matches(name, OPTION_NAMES, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(OPTION_NAMES)}"
            raise UsageError(f"unknown option {name!r} for delimited files", hint=hint)
        checked[name] = _checked(name, value)
    options = Options(**checked)
    signs = [sign for sign in (options.delimiter, options.quote, options.escape) if sign]
    if len(set(signs)) < len(signs):
        raise UsageError(
            "delimiter, quote and escape must be three different characters",
            hint="a quote that is doubled inside quotes needs no escape option",
        )
    if options.columns:
        folded = Counter(name.strip().casefold() for name in options.columns)
        repeated = [name for name, times in folded.items() if times > 1 or not name]
        if repeated:
            raise UsageError(f"option 'columns': {repeated[0]!r} is empty or stands there twice (case does not count)")
    return options


def _checked(name: str, value: Any) -> Any:
    def wrong(expected: str) -> UsageError:
        return UsageError(f"option {name!r} must be {expected}, not {value!r}")

    match name:
        case "encoding":
            if not isinstance(value, str):
                raise wrong("the name of an encoding")
            return resolve_encoding(value)
        case "delimiter" | "quote" | "escape":
            sign = _NAMED.get(value, value) if isinstance(value, str) else None
            if sign is None or len(sign) > 1 or not sign.isascii() or sign in ("\n", "\r", "\0"):
                raise wrong("one ASCII character")
            if name == "delimiter" and not sign:
                raise wrong("one ASCII character")
            return sign
        case "trailer":
            if not isinstance(value, str):
                raise wrong("a regular expression")
            return compile_pattern(value)
        case "header" | "partial":
            if not isinstance(value, bool):
                raise wrong("true or false")
            return value
        case "columns" | "nulls":
            if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
                raise wrong("a list of texts")
            return tuple(value)
        case "ragged":
            if value not in ("reject", "pad"):
                raise wrong("reject or pad")
            return value
        case _:
            least = 0 if name == "skip_lines" else 1
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise wrong(f"a whole number of at least {least}")
            return value


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one file is read: what was given, and what was found. JSON-able by `dataclasses.asdict`.

    The first record begins at byte `data_start` on physical line `data_line` (from 1). `quote` and `escape` are "" if
    there is none. `line_end` is LF, which stands for CR LF too, or CR. `notes` say what was detected or renamed, for
    people. Where the file has a trailer, the records end before byte `data_end`, and it says that they are `promised`.
    """

    encoding: str
    delimiter: str
    quote: str
    escape: str
    columns: tuple[str, ...]
    nulls: tuple[str, ...]
    ragged: str
    max_record_bytes: int
    data_start: int
    data_line: int
    line_end: str = "\n"
    notes: tuple[str, ...] = ()
    data_end: int | None = None
    promised: int | None = None

    @property
    def width(self) -> int:
        return unit_width(self.encoding)

    @property
    def grammar(self) -> Grammar:
        return Grammar(
            delimiter=ord(self.delimiter),
            quote=ord(self.quote) if self.quote else None,
            escape=ord(self.escape) if self.escape else None,
            fields=len(self.columns),
            max_record=max(self.max_record_bytes // self.width, 1),
            line_end=ord(self.line_end),
        )


def resolve_dialect(file: TextFile, options: Options) -> Dialect | None:
    """What the file's dialect is; None if it has no header and no row, so that nobody knows its columns.

    Raises SourceError if its header cannot be read, or if a trailer that it should have is missing.
    """
    encoding, bom, encoding_note = _encoding(file, options)
    width = unit_width(encoding)
    line_end = _line_end(file, bom, encoding, options)
    start, lines = _skip(file, bom, encoding, options.skip_lines, line_end)
    trailer = find_trailer(file, start, encoding, line_end, options.trailer) if options.trailer else None
    if trailer is not None:
        file = file.upto(trailer.start)
    elif options.trailer and not options.partial:
        raise missing(file, encoding, line_end)
    sample = to_units(file.read(start, start + _SAMPLE * width), encoding)
    whole = start + _SAMPLE * width >= file.size
    signs, sign_notes = _signs(sample, whole, options, line_end)
    dialect = Dialect(
        encoding, *signs, (), options.nulls, options.ragged, options.max_record_bytes, start, lines + 1, line_end
    )
    first, text = _first_record(file, dialect)
    if first is None and not options.columns:
        return None
    notes: list[str] = []
    names: Sequence[str] = options.columns
    if first is not None:
        record_start, record_end, line, after = first
        count = len(split(text, dialect.grammar))
        if options.header:
            header = _header(file, dialect, record_start, record_end, line, count)
            if not options.columns:
                names, notes = clean_names(header)
            elif len(header) != len(names):
                raise SourceError(
                    f"{file.name}:{line}: the header has {len(header)} fields, but 'columns' names {len(names)}",
                    hint="make the option 'columns' as long as the header",
                )
            header_units = to_units(file.read(record_start, after), encoding)
            next_line = line + len(_LINE_ENDS[line_end].findall(header_units))
            dialect = replace(dialect, data_start=after, data_line=next_line)
        elif not names:
            names = [f"column_{i}" for i in range(1, count + 1)]
    told = [encoding_note, *sign_notes, *(["lines end in CR (detected)"] if line_end == "\r" else [])]
    told += [f"{len(names)} column{'s' * (len(names) != 1)}"]
    told += ["blank lines are not rows"] if len(names) == 1 else []
    told += [f"header renamed: {', '.join(notes)}"] if notes else []
    dialect = replace(dialect, columns=tuple(names))
    if trailer is not None:
        told.append(f"a trailer of {trailer.lines} line{'s' * (trailer.lines != 1)}")
        told[-1] += f" that counts {trailer.rows} records" if trailer.rows is not None else ""
        dialect = replace(dialect, data_end=trailer.start, promised=None if options.partial else trailer.rows)
    return replace(dialect, notes=(f"{file.name}: {', '.join(told)}",))


def clean_names(header: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Column names that are trimmed, present and different whatever their case; and what was renamed."""
    taken = Counter(name.strip().casefold() for name in header if name.strip())
    used: set[str] = set()
    names, notes = [], []
    ordinals = {2: "second", 3: "third"}
    seen: Counter[str] = Counter()
    for position, original in enumerate(header, 1):
        name = original.strip()
        if not name:
            name = base = f"column_{position}"
            number, what = 2, f"field {position} without a name"
        else:
            base = name
            seen[name.casefold()] += 1
            number = seen[name.casefold()]
            what = f"'{name}' ({ordinals.get(number, f'{number}th')})"
            number = max(number, 2)
        while (
            name.casefold() in used
            or (name != base and name.casefold() in taken)
            or (not original.strip() and name.casefold() in taken)
        ):
            name, number = f"{base}_{number}", number + 1
        used.add(name.casefold())
        names.append(name)
        if name != original.strip():
            notes.append(f"{what} -> '{name}'")
    return tuple(names), notes


def _encoding(file: TextFile, options: Options) -> tuple[str, int, str]:
    """The encoding, the length of the byte order mark, and a note."""
    head = file.read(0, 3)
    mark = next((mark for mark in _BOMS if head.startswith(mark)), b"")
    marked = _BOMS.get(mark)
    given = options.encoding
    if given is None:
        if marked:
            return marked, len(mark), f"{marked} (byte order mark)"
        guess, why = guess_encoding(file)
        return guess, 0, f"{guess} ({why})"
    if given == "utf-16":
        if marked in ("utf-16-le", "utf-16-be"):
            return marked, 2, f"{marked} (byte order mark)"
        guess, _ = guess_encoding(file)
        encoding = guess if guess.startswith("utf-16") else "utf-16-le"
        return encoding, 0, f"{encoding} (given, no byte order mark)"
    return given, len(mark) if marked == given else 0, f"{given} (given)"


def _line_end(file: TextFile, start: int, encoding: str, options: Options) -> str:
    """CR if only CRs end lines outside quotes; otherwise LF, which is what CRs beside it are not."""
    end = start + _SAMPLE * unit_width(encoding)
    sample = to_units(file.read(start, end), encoding)
    if end < file.size:
        sample = sample.removesuffix(b"\r")  # its LF may follow
    if sample.count(b"\r") == sample.count(b"\r\n"):
        return "\n"
    edges = re.escape((options.delimiter.encode() if options.delimiter else _DELIMITERS) + b"\r\n")
    for quote in ['"', "'"] if options.quote is None else [options.quote] if options.quote else []:
        sign, escape = re.escape(quote.encode()), re.escape((options.escape or "").encode())
        literal = sign + sign + (rb"|%b[\s\S]" % escape if escape else b"")
        sample = re.sub(_QUOTED % (edges, sign, sign + escape, literal, sign, edges), b"", sample)
    return "\r" if b"\r" in sample and b"\n" not in sample else "\n"


def _skip(file: TextFile, start: int, encoding: str, lines: int, line_end: str) -> tuple[int, int]:
    """Where the text begins after so many physical lines; and how many those were."""
    width, skipped = unit_width(encoding), 0
    while skipped < lines and start < file.size:
        block = 1 << 16
        while True:
            units = to_units(file.read(start, start + block * width), encoding)
            final = start + block * width >= file.size
            found = _LINE_ENDS[line_end].search(units)
            if found or final:
                break
            block *= 2
        start += (found.end() if found else len(units)) * width
        skipped += 1
    return min(start, file.size), skipped


def _first_record(file: TextFile, dialect: Dialect) -> tuple[tuple[int, int, int, int] | None, bytes]:
    """Start, end, physical line and the start of what follows of the first record, in bytes; and its units."""
    start, line, width, block = dialect.data_start, dialect.data_line, dialect.width, 1 << 16
    while True:
        units = to_units(file.read(start, start + block * width), dialect.encoding)
        final = start + block * width >= file.size
        records = scan(units, dialect.grammar, final=final)
        if records.starts.size or final:
            break
        block *= 2
    if not records.starts.size:
        return None, b""
    begin, end = int(records.starts[0]), int(records.ends[0])
    number = line + records.line_count(begin)
    if 0 in records.broken:
        raise SourceError(
            f"{file.name}:{number}: the first record is broken: {records.broken[0]}",
            hint="give every line the same end, and put values with line breaks in quotes"
            if records.broken[0] in STRAY.values()
            else "mend the line, or give the options quote, escape or skip_lines",
        )
    after = _LINE_ENDS[dialect.line_end].match(units, end)
    following = after.end() if after else end
    return (start + begin * width, start + end * width, number, start + following * width), units[begin:end]


def _header(file: TextFile, dialect: Dialect, start: int, end: int, line: int, count: int) -> list[str]:
    try:
        text = to_utf8(file.read(start, end), dialect.encoding)
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{file.name}:{line}: the header is not valid {dialect.encoding}: byte 0x{error.object[error.start]:02x} "
            f"at byte {start + error.start}",
            hint="give the right encoding: in the source's options",
        ) from error
    names = [f"f{i}" for i in range(count)]
    table = pa_csv.read_csv(
        io.BytesIO(text),
        read_options=pa_csv.ReadOptions(use_threads=False, column_names=names, block_size=len(text) + 16),
        parse_options=arrow_parse_options(dialect),
        convert_options=pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
    )
    return [str(value) for value in table.to_pylist()[0].values()]


def _signs(sample: bytes, whole: bool, options: Options, line_end: str) -> tuple[tuple[str, str, str], list[str]]:
    """Delimiter, quote and escape: the given ones, and otherwise those under which the sample is most regular."""
    delimiters = [options.delimiter] if options.delimiter else [chr(c) for c in _DELIMITERS if c in sample] or [","]
    delimiters = [sign for sign in delimiters if sign not in (options.quote, options.escape)]
    best: _Fit | None = None
    for delimiter in delimiters:
        quotes = [options.quote or ""]
        if options.quote is None:
            single = _framed(sample, "'", delimiter) > _framed(sample, '"', delimiter)
            quotes = ['"', "'"] if single else ['"']
        for quote in quotes:
            if quote and quote in (delimiter, options.escape):
                continue
            fit = _fit(sample, whole, (delimiter, quote, options.escape or ""), line_end)
            if options.escape is None and "\\" not in (delimiter, quote) and _may_escape(sample, quote):
                escaped = _fit(sample, whole, (delimiter, quote, "\\"), line_end)
                # Only where it is needed: an escape that is none would take backslashes out of values.
                if escaped.broken < fit.broken and escaped.share > fit.share:
                    fit = escaped
            if best is None or fit.score > best.score:
                best = fit
    if best is None:
        raise UsageError("delimiter, quote and escape must be three different characters")
    signs = best.signs
    notes = [f"delimiter {_spell(signs[0])} ({'given' if options.delimiter else 'detected'})"]
    for name, sign, given in (("quote", signs[1], options.quote), ("escape", signs[2], options.escape)):
        if given is not None or sign != ('"' if name == "quote" else ""):
            notes.append(f"{name} {_spell(sign)} ({'given' if given is not None else 'detected'})")
    if best.fields > 1 and best.share < 0.9:
        notes.append(f"only {best.share:.0%} of the sampled rows are like the first")
    return signs, notes


def _spell(sign: str) -> str:
    return "none" if not sign else {"\t": "tab", "'": '"\'"'}.get(sign, repr(sign))


def _may_escape(sample: bytes, quote: str) -> bool:
    """Whether a backslash before this quote could be an escape: not if backslashes are text elsewhere."""
    return bool(quote) and b"\\" + quote.encode() in sample and not _PLAIN.search(sample)


@dataclass(frozen=True, slots=True)
class _Fit:
    """How well some signs explain a sample: the share of records that are like the first, and how many are broken."""

    signs: tuple[str, str, str]
    share: float
    fields: int
    broken: int

    @property
    def score(self) -> tuple[float, int]:
        """Better is greater."""
        return (round(self.share, 3), self.fields)


def _fit(sample: bytes, whole: bool, signs: tuple[str, str, str], line_end: str) -> _Fit:
    delimiter, quote, escape = signs
    codes = (ord(quote) if quote else None, ord(escape) if escape else None)
    grammar = Grammar(ord(delimiter), *codes, fields=0, max_record=1 << 30, line_end=ord(line_end))
    first = _LINE_ENDS[line_end].split(sample.lstrip(b"\r\n"), maxsplit=1)[0]
    grammar = replace(grammar, fields=len(split(first, grammar)))
    records = scan(sample, grammar, final=whole)
    spans = list(zip(records.starts[:_RECORDS].tolist(), records.ends[:_RECORDS].tolist(), strict=True))
    broken = [i for i in range(len(spans)) if i in records.broken]
    regular = sum(
        len(split(sample[start:end], grammar)) == grammar.fields
        for i, (start, end) in enumerate(spans)
        if i not in records.broken
    )
    share = regular / max(len(spans), 1) if grammar.fields > 1 else 0.0
    return _Fit(signs, share, grammar.fields, len(broken))


def _framed(sample: bytes, quote: str, delimiter: str) -> int:
    """How many fields begin and end with this quote."""
    sign, edge = re.escape(quote.encode()), re.escape(delimiter.encode()) + rb"\r\n"
    return len(re.findall(rb"(?<![^%b])%b[^%b%b]*+%b(?![^%b])" % (edge, sign, sign, edge, sign, edge), sample))


def arrow_parse_options(dialect: Dialect, invalid_row_handler: Callable[[Any], str] | None = None) -> Any:
    """pyarrow's parse options for this dialect."""
    return pa_csv.ParseOptions(
        delimiter=dialect.delimiter,
        quote_char=dialect.quote or False,
        double_quote=bool(dialect.quote),
        escape_char=dialect.escape or False,
        newlines_in_values=False,  # one block holds all of the text, so pyarrow need not look for a place to cut it
        invalid_row_handler=invalid_row_handler,
    )
