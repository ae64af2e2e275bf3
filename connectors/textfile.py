"""The bytes of a text file, plain or gzipped, by position; and their characters, with what cannot be decoded."""

import codecs
import gzip
import os
import shutil
import tempfile
import threading
import weakref
import zlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import xxhash

from migrate.errors import SourceError, UsageError

_GZIP = b"\x1f\x8b"
_NOT_TEXT = {b"PK\x03\x04": "a zip archive or an Excel workbook", b"PAR1": "a Parquet file", b"%PDF": "a PDF"}
_SPOOLS = 8  # decompressed files kept at a time; each is a file descriptor and space in the temporary directory


class TextFile:
    """An open file. Positions are of the text: of the decompressed bytes if the file is compressed.

    `name` is what locators and messages call it. Safe to read from several threads.
    """

    def __init__(self, name: str, descriptor: int, *, compressed: bool) -> None:
        self.name = name
        self.compressed = compressed
        self._descriptor = descriptor
        self._close = weakref.finalize(self, os.close, descriptor)

    @property
    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    @property
    def modified(self) -> int:
        """When it was last written, in nanoseconds."""
        return os.fstat(self._descriptor).st_mtime_ns

    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`, or to the file's end if that comes first."""
        parts = []
        while start < end:
            try:
                part = os.pread(self._descriptor, end - start, start)
            except OSError as error:
                raise SourceError(f"{self.name}: cannot be read at byte {start}: {error.strerror}") from error
            if not part:
                break
            parts.append(part)
            start += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def fingerprint(self, start: int, end: int) -> str:
        """The xxh3_64 of these bytes in hexadecimal, read 8 MiB at a time."""
        digest = xxhash.xxh3_64()
        for at in range(start, end, 8 << 20):
            digest.update(self.read(at, min(at + (8 << 20), end)))
        return digest.hexdigest()

    def close(self) -> None:
        self._close()


@contextmanager
def open_text(
    path: Path, name: str, what: str = "delimited text", hint: str = "export it as CSV first"
) -> Iterator[TextFile]:
    """Open a file to read; a gzipped one (told by its first bytes) through a decompressed copy without a name.

    Raises SourceError if it is missing, unreadable, corrupt, or evidently not text.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise SourceError(f"{name}: {(error.strerror or 'cannot be opened').lower()} ({path})") from error
    file = TextFile(name, descriptor, compressed=False)
    try:
        magic = file.read(0, 4)
        if magic in _NOT_TEXT:
            raise SourceError(f"{name} is {_NOT_TEXT[magic]}, not {what}", hint=hint)
        yield _decompressed(path, name, os.fstat(descriptor)) if magic[:2] == _GZIP else file
    finally:
        file.close()


_spools: OrderedDict[Hashable, TextFile] = OrderedDict()
_spools_lock = threading.RLock()  # a copy may be made of a copy


def _decompressed(path: Path, name: str, status: os.stat_result) -> TextFile:
    """The file's text in an unlinked temporary file."""
    return copied(("gzip", *identity_of(status)), lambda: _decompress(path, name))


def identity_of(status: os.stat_result) -> tuple[int, int, int, int]:
    """What tells one state of a file from another without reading it."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def copied(key: Hashable, make: Callable[[], TextFile]) -> TextFile:
    """A file's copy in another form, made once a process; it vanishes with its last reader."""
    with _spools_lock:
        if key not in _spools:
            _spools[key] = make()
            if len(_spools) > _SPOOLS:
                _spools.popitem(last=False)
        _spools.move_to_end(key)
        return _spools[key]


def _decompress(path: Path, name: str) -> TextFile:
    with tempfile.TemporaryFile(prefix="migrate-") as spool:
        try:
            with gzip.open(path, "rb") as packed:
                shutil.copyfileobj(packed, spool, 1 << 20)
            spool.flush()
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise SourceError(
                f"{name}: the gzip data is cut off or damaged: {error}", hint="transfer the file again"
            ) from error
        except OSError as error:
            raise SourceError(
                f"{name}: cannot be decompressed into {tempfile.gettempdir()}: {error.strerror or error}",
                hint="make room there, or point TMPDIR at a larger disk",
            ) from error
        return TextFile(name, os.dup(spool.fileno()), compressed=True)


def fingerprint(data: bytes | memoryview) -> str:
    """The xxh3_64 of some bytes in hexadecimal."""
    return xxhash.xxh3_64_hexdigest(data)


# ----------------------------------------------------------------------------------------------------------- encodings


def resolve_encoding(name: str) -> str:
    """Python's own name of an encoding that can be scanned byte by byte, or UTF-16; UsageError for any other."""
    try:
        resolved = codecs.lookup(name).name
    except LookupError:
        raise UsageError(
            f"unknown encoding {name!r}",
            hint="use a name such as utf-8, utf-16, cp1252, cp1250, latin-1, cp850, mac_roman",
        ) from None
    if resolved == "utf-8-sig":
        return "utf-8"
    if resolved in ("utf-8", "utf-16", "utf-16-le", "utf-16-be"):
        return resolved
    every, ascii_only = bytes(range(256)), bytes(range(128)) + b"\\u0041"
    try:
        single = len(every.decode(resolved, "replace")) == 256 and ascii_only.decode(resolved) == ascii_only.decode()
    except (LookupError, UnicodeError):
        single = False
    if not single:
        raise UsageError(
            f"encoding {name!r} is not supported: a delimiter's byte can be part of another character in it",
            hint=f"convert the file first: iconv -f {resolved} -t utf-8",
        )
    return resolved


def unit_width(encoding: str) -> int:
    """Bytes in a unit of the scanner: 2 in UTF-16, otherwise 1."""
    return 2 if encoding.startswith("utf-16") else 1


def to_units(data: bytes, encoding: str) -> bytes:
    """One byte a unit for the scanner, which cares for ASCII only: in UTF-16 every other unit becomes 0xFF."""
    if unit_width(encoding) == 1:
        return data
    units = np.frombuffer(whole_units(data, encoding), "<u2" if encoding == "utf-16-le" else ">u2")
    narrow: bytes = np.minimum(units, 0xFF).astype(np.uint8).tobytes()
    return narrow


def whole_units(data: bytes, encoding: str) -> bytes:
    """UTF-16 that ends in half a unit, with that half made a lone surrogate: it stays one undecodable character."""
    if unit_width(encoding) == 1 or len(data) % 2 == 0:
        return data
    return data + b"\xdc" if encoding == "utf-16-le" else data[:-1] + b"\xdc" + data[-1:]


def to_utf8(data: bytes, encoding: str) -> bytes:
    """The same text in UTF-8. Raises UnicodeDecodeError."""
    if unit_width(encoding) == 1 and data.isascii():
        return data
    text = data.decode(encoding)
    return data if encoding == "utf-8" else text.encode()


def undecodable(data: bytes, encoding: str) -> list[int]:
    """The positions of the bytes that are not valid in this encoding, one for each fault, ascending."""
    positions: list[int] = []
    _faults.positions = positions
    data.decode(encoding, _COLLECT)
    return positions


class _Faults(threading.local):
    positions: list[int]


_faults = _Faults()
_COLLECT = "aurora_migrate.collect"


def _collect(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    _faults.positions.append(error.start)
    return "\ufffd", error.end


codecs.register_error(_COLLECT, _collect)
