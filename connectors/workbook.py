"""A workbook as its readers show it, whatever its format: sheets, names, cells, and the parts of its archive."""

import os
import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import xxhash
from lxml import etree

from connectors.cells import Cells, column_of
from connectors.sheetxml import DOCTYPE
from migrate.errors import SourceError

AGAIN = "transfer the file again, or open it in Excel and save it anew"


@dataclass(frozen=True, slots=True)
class Sheet:
    """A worksheet; `place` is the reader's own word for where it is."""

    name: str
    visible: bool
    place: str


@dataclass(frozen=True, slots=True)
class Area:
    """A rectangle of cells, all edges included; rows from 1, columns from 0. None is an edge that the sheet sets."""

    left: int | None
    top: int | None
    right: int | None
    bottom: int | None


@dataclass(frozen=True, slots=True)
class Merge:
    """Merged cells: the edges of their rectangle, all included; rows from 1, columns from 0."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True, slots=True)
class Named:
    """A name of the workbook for cells of a sheet. For a table: its own columns if no row heads it, and its totals."""

    sheet: str
    area: Area
    columns: tuple[str, ...] = ()
    totals: int = 0


class Workbook(Protocol):
    """An open workbook. Cells come in row order, whole rows at a time; what cannot be read raises SourceError."""

    epoch_1904: bool

    def sheets(self) -> Sequence[Sheet]: ...

    def names(self) -> Mapping[str, Named]: ...

    def cells(self, sheet: Sheet, /) -> Iterator[Cells]: ...

    def merged(self, sheet: Sheet, /) -> Sequence[Merge]: ...

    def size(self, sheet: Sheet, /) -> int:
        """How many bytes have to be read to know what is merged."""
        ...


def parse_area(text: str) -> Area | None:
    """`B3:K500`, `B:K`, `3:500` or `B3`, with or without `$`, as an area; None if it is none of them."""
    found = re.fullmatch(r"([A-Za-z]{0,3})([0-9]{0,7})(?::([A-Za-z]{0,3})([0-9]{0,7}))?", text.replace("$", "").strip())
    if found is None:
        return None
    a, b, c, d = found.groups()
    single = c is None
    if (single and not (a and b)) or (not single and (bool(a), bool(b)) != (bool(c), bool(d))) or not (a or b):
        return None
    columns = [column_of(name) if name else None for name in (a, a if single else c)]
    rows = [int(number) if number else None for number in (b, b if single else d)]
    if any(column is not None and column > 16_383 for column in columns) or any(row == 0 for row in rows):
        return None
    left, right = columns if None in columns else sorted(columns)  # type: ignore[type-var]
    top, bottom = rows if None in rows else sorted(rows)  # type: ignore[type-var]
    return Area(left, top, right, bottom)


def parse_merge(text: str) -> Merge | None:
    """`A1:B2` as merged cells; None if it is not that."""
    area = parse_area(text)
    if area is None or area.left is None or area.top is None or area.right is None or area.bottom is None:
        return None
    return Merge(area.left, area.top, area.right, area.bottom)


def parse_reference(formula: str) -> tuple[str, Area] | None:
    """`'Kunden 2020'!$A$3:$K$500` as a sheet and an area; None for what a name may stand for besides."""
    found = re.fullmatch(r"(?:'((?:[^']|'')+)'|([^'!\[\]]+))!([$A-Za-z0-9:]+)", formula.strip().removeprefix("="))
    area = parse_area(found[3]) if found else None
    if found is None or area is None:
        return None
    return (found[1].replace("''", "'") if found[1] else found[2]), area


class File:
    """An open file with its state, so that it can be told whether it is still the same. `name` is for messages."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self.stream = stream
        self.name = name

    @property
    def state(self) -> tuple[int, int, int, int]:
        status = os.fstat(self.stream.fileno())
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    @property
    def size(self) -> int:
        return self.state[2]

    def fingerprint(self) -> str:
        """The xxh3_64 of the whole file in hexadecimal."""
        digest = xxhash.xxh3_64()
        self.stream.seek(0)
        while data := self.stream.read(8 << 20):
            digest.update(data)
        return digest.hexdigest()


@contextmanager
def open_file(path: Path, name: str) -> Iterator[File]:
    """Open a file to read. Raises SourceError if that cannot be."""
    try:
        stream = path.open("rb")
    except OSError as error:
        raise SourceError(f"{name}: {(error.strerror or 'cannot be opened').lower()} ({path})") from error
    with stream:
        yield File(stream, name)


@contextmanager
def part_of(archive: zipfile.ZipFile, path: str, name: str) -> Iterator[IO[bytes]]:
    """A part of an archive, to be read. Raises SourceError if it is not there, or damaged."""
    if path not in archive.NameToInfo:
        raise SourceError(f"{name} is damaged: it has no {path}", hint=AGAIN)
    with readable(name), archive.open(path) as part:
        yield part


def xml_part(archive: zipfile.ZipFile, path: str, name: str) -> Any:
    """The root element of a small part. Raises SourceError if it is not there, or no XML."""
    with part_of(archive, path, name) as part:
        data = part.read()
    try:
        root = etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True))
    except etree.XMLSyntaxError as error:
        raise damaged(name, f"{path}: {error}") from error
    if root.getroottree().docinfo.internalDTD is not None:  # references to what it declares would be left out
        raise damaged(name, f"{path}: {DOCTYPE}")
    return root


def relations(archive: zipfile.ZipFile, part: str, name: str) -> dict[str, tuple[str, str]]:
    """What a part refers to: id → the last word of its type, and the target's path."""
    folder, own = posixpath.split(part)
    path = posixpath.join(folder, "_rels", f"{own}.rels")
    if path not in archive.NameToInfo:
        return {}
    return {
        each.get("Id", ""): (
            each.get("Type", "").rpartition("/")[2],
            posixpath.normpath(posixpath.join("/", folder, each.get("Target", ""))).lstrip("/"),
        )
        for each in xml_part(archive, path, name).iter("{*}Relationship")
        if each.get("TargetMode") != "External"
    }


def damaged(name: str, said: str) -> SourceError:
    return SourceError(f"{name} is damaged: {said}", hint="open it in Excel and save it anew")


@contextmanager
def readable(name: str) -> Iterator[None]:
    """What reading an archive's parts raises, as SourceError."""
    try:
        yield
    except zipfile.BadZipFile as error:
        raise SourceError(f"{name} is cut off or damaged: {error}", hint=AGAIN) from error
    except (EOFError, zlib.error) as error:
        raise SourceError(f"{name} is damaged: {error or 'it ends too early'}", hint=AGAIN) from error
    except (RuntimeError, NotImplementedError) as error:  # an encrypted archive, or a method that nobody uses
        raise SourceError(f"{name} cannot be read: {error}", hint=AGAIN) from error
