"""The text of an XML file in UTF-8, whatever its encoding: as its mark, its declaration or its first bytes have it."""

import codecs
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from connectors.textfile import TextFile, copied, identity_of, open_text
from migrate.errors import SourceError

_MARKS = (  # the longer before the shorter
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (b"<\0\0\0", "utf-32-le"),
    (b"\0\0\0<", "utf-32-be"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)
_DECLARED = re.compile(rb"""\s*<\?xml[^>]*?\sencoding\s*=\s*["']([A-Za-z][A-Za-z0-9._-]*)["']""")
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class XmlText:
    """An open XML file. `exact`: its bytes are those of the file (decompressed), and not of a copy in UTF-8.

    `start` is where the text begins, behind a mark; `line_end` is the byte that ends lines.
    """

    file: TextFile
    start: int
    exact: bool
    encoding: str
    line_end: bytes

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def size(self) -> int:
        return self.file.size

    def read(self, start: int, end: int) -> bytes:
        return self.file.read(start, end)

    def lines(self, start: int, end: int) -> int:
        """How many lines end between two positions."""
        return sum(
            self.file.read(at, min(at + _PIECE, end)).count(self.line_end)
            for at in range(start, max(start, end), _PIECE)
        )


def identify(path: Path, name: str) -> tuple[int, int, int, int]:
    """What tells one state of a file from another without reading it. Raises SourceError if there is none."""
    try:
        return identity_of(os.stat(path))
    except OSError as error:
        raise SourceError(f"{name}: {(error.strerror or 'cannot be opened').lower()} ({path})") from error


@contextmanager
def open_xml(path: Path, name: str) -> Iterator[XmlText]:
    """Open a file to read; one that is not UTF-8 through a copy without a name that is.

    Bytes that its encoding does not have become bytes that UTF-8 does not have, so that no parser takes them for text.
    Raises SourceError for an encoding that is not known or evidently wrong.
    """
    with open_text(path, name, "XML", "give it to a source of its own kind") as file:
        head = file.read(0, 1024)
        encoding, mark = _encoding(head, name)
        if encoding != "utf-8":
            key = ("xml", encoding, *identify(path, name))
            file, mark = copied(key, lambda: _in_utf8(file, encoding, mark)), 0
        first = file.read(0, _PIECE)
        yield XmlText(
            file, mark, encoding == "utf-8", encoding, b"\r" if b"\r" in first and b"\n" not in first else b"\n"
        )


def _encoding(head: bytes, name: str) -> tuple[str, int]:
    """The encoding, and how many bytes of mark stand before the text."""
    marked, mark = next(((e, len(m)) for m, e in _MARKS if head.startswith(m)), ("", 0))
    if marked and marked != "utf-8":
        return marked, 0  # the decoder reads the mark
    declared = _DECLARED.match(head[mark:])
    if not declared:
        return "utf-8", mark
    word = declared[1].decode("ascii")
    try:
        codec = codecs.lookup(word)
    except LookupError:
        codec = None
    if codec is None or not codec._is_text_encoding:
        raise SourceError(
            f"{name} declares the encoding {word!r}, which is not known",
            hint="correct its first line, or convert it: iconv -f … -t utf-8",
        )
    if codec.name.startswith(("utf-16", "utf-32")):
        raise SourceError(
            f"{name} declares the encoding {word!r}, and its first bytes are not in it",
            hint="somebody converted it and left its first line: correct that",
        )
    return ("utf-8", mark) if codec.name in ("utf-8", "utf-8-sig", "ascii") else (codec.name, 0)


def _in_utf8(file: TextFile, encoding: str, start: int) -> TextFile:
    decoder = codecs.getincrementaldecoder(encoding)(_BROKEN)
    with tempfile.TemporaryFile(prefix="migrate-") as copy:
        try:
            for at in range(start, file.size, _PIECE):
                end = min(at + _PIECE, file.size)
                copy.write(decoder.decode(file.read(at, end), end == file.size).encode("utf-8", "surrogatepass"))
            copy.flush()
        except OSError as error:
            raise SourceError(
                f"{file.name}: cannot be converted to UTF-8 into {tempfile.gettempdir()}: {error.strerror or error}",
                hint="make room there, or point TMPDIR at a larger disk",
            ) from error
        return TextFile(file.name, os.dup(copy.fileno()), compressed=file.compressed)


def _broken(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\udcff", error.end


_BROKEN = "aurora_migrate.broken"
codecs.register_error(_BROKEN, _broken)
