"""The recorded copy of what an API's pages held: a folder with each page as it came, and a manifest that is written page by page.

    orders/manifest.jsonl   the request; a line a page; at last a line that says that the recording is complete
    orders/000001.json      the first page's body, byte for byte
    orders/000002.kept.json what is read in its place: without the items that an earlier page held already

A page is on disk before its line is, and a line before the next page is asked for: what was broken off goes on there.
"""

import fcntl
import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from migrate.errors import GateError, SourceError

MANIFEST = "manifest.jsonl"
_LOCK, _KEYS = ".lock", "keys.sqlite"
_FORMAT = 1
_PIECE = 1 << 20

Position = str | int | None
"""Where a page begins: its number, the offset of its first item, a cursor or a URL; None before the first, or behind the last."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page as its line in the manifest has it.

    `items` came in it, `repeats` of them were on earlier pages, `changed` were so with other content; `content` is the hash of
    all items. `total` is what the API said that there are in all. `kept` has the SHA-256 of what is read in the page's place.
    """

    page: int
    at: str
    url: str
    position: Position
    next: Position
    status: int
    bytes: int
    sha256: str
    content: str
    items: int
    repeats: int = 0
    changed: int = 0
    total: int | None = None
    kept: str = ""

    @property
    def file(self) -> str:
        return f"{self.page:06}.json"

    @property
    def read_file(self) -> str:
        """The file to read, which holds its rows and nothing else."""
        return f"{self.page:06}.kept.json" if self.kept else self.file

    @property
    def rows(self) -> int:
        return self.items - self.repeats


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a manifest says. `request` is what was asked for, {} where nothing is recorded; `complete`: when that was said."""

    request: Mapping[str, Any] = field(default_factory=dict)
    pages: Sequence[Page] = ()
    complete: str = ""

    @property
    def rows(self) -> int:
        return sum(page.rows for page in self.pages)

    @property
    def totals(self) -> tuple[int, ...]:
        """The totals that the API told on the way, each once, in their order."""
        return tuple(dict.fromkeys(page.total for page in self.pages if page.total is not None))


def recorded(folder: Path, shown: str) -> Recorded:
    """Read a manifest. A last line that was broken off is passed over. SourceError where it is none."""
    try:
        lines = (folder / MANIFEST).read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return Recorded()
    except OSError as error:
        raise SourceError(f"{shown}/{MANIFEST}: {error.strerror or error}") from error
    try:
        parts = [json.loads(line) for line in lines]
        head, *rest = parts or [{"format": _FORMAT, "request": {}}]
        if head["format"] != _FORMAT:
            raise ValueError(head["format"])
        pages = tuple(Page(**part) for part in rest if "page" in part)
        complete = rest[-1].get("complete", "") if rest else ""
        if [page.page for page in pages] != list(range(1, len(pages) + 1)) or len(rest) - len(pages) > 1:
            raise ValueError("pages are missing")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SourceError(
            f"{shown}/{MANIFEST} is no manifest of this version: it was altered", hint=_anew(shown)
        ) from error
    return Recorded(head["request"], pages, complete)


def refuse_another(found: Recorded, request: Mapping[str, Any], shown: str) -> None:
    """Raise SourceError where a recording is of another request than the project's."""
    if not found.request or found.request == request:
        return
    names = [name for name in {**found.request, **request} if found.request.get(name) != request.get(name)]
    was, now = (
        json.dumps({name: each.get(name) for name in names}, ensure_ascii=False) for each in (found.request, request)
    )
    raise SourceError(
        f"{shown} is the recording of another request: it has {was}, and the project file {now}",
        hint=f"{_anew(shown)} Or give the source another `record`, or put the project file back.",
    )


def verify(folder: Path, found: Recorded, shown: str) -> None:
    """Read every page, and raise SourceError where one is not as it was recorded."""
    for page in found.pages:
        for name, digest in ((page.file, page.sha256), *([(page.read_file, page.kept)] if page.kept else [])):
            try:
                with (folder / name).open("rb") as file:
                    sha256 = hashlib.sha256()
                    while piece := file.read(_PIECE):
                        sha256.update(piece)
            except OSError as error:
                raise SourceError(f"{shown}/{name}: {error.strerror or error}", hint=_back(shown)) from error
            if sha256.hexdigest() != digest:
                raise SourceError(f"{shown}/{name} has changed since it was recorded", hint=_back(shown))


class Writer:
    """A recording in the making: pages are added to what is there. For one process and thread at a time, see `locked`."""

    def __init__(self, folder: Path, found: Recorded, request: Mapping[str, Any], shown: str) -> None:
        self.pages = list(found.pages)
        self.rows = found.rows
        self.distinct = sum(page.rows - page.changed for page in found.pages)  # as far as keys tell
        self._folder = folder
        self._shown = shown
        self._keys: sqlite3.Connection | None = None
        manifest = folder / MANIFEST
        if manifest.exists():
            with manifest.open("r+b") as file:  # a line that was broken off would spoil the next one
                file.truncate(file.read().rfind(b"\n") + 1)
        if not found.request:
            self._line({"format": _FORMAT, "request": request})

    def add(self, page: Page, body: bytes, kept: bytes | None, seen: Sequence[tuple[str, str]]) -> None:
        """Put a page on disk. `kept`: what is read in its place; `seen`: keys of its rows, each with the hash of its content."""
        self._write(page.file, body)
        if kept is not None:
            page = replace(page, kept=hashlib.sha256(kept).hexdigest())
            self._write(page.read_file, kept)
        if seen:
            keys = self._opened()
            with keys:
                rows = [(key, content, page.page) for key, content in seen]
                keys.executemany("INSERT INTO key VALUES (?, ?, ?) ON CONFLICT DO NOTHING", rows)
        self._line(asdict(page))
        self.pages.append(page)
        self.rows += page.rows
        self.distinct += page.rows - page.changed

    def before(self, key: str) -> set[str]:
        """The hashes of earlier pages' items with this key."""
        return {content for (content,) in self._opened().execute("SELECT content FROM key WHERE key = ?", [key])}

    def finish(self, at: str, mask: Callable[[str], str]) -> None:
        """Say that the recording is complete. `mask`: a link without what is secret in it, for none is followed any more."""
        items, repeats = sum(page.items for page in self.pages), sum(page.repeats for page in self.pages)
        lines = (self._folder / MANIFEST).read_bytes().split(b"\n")
        written = [lines[0]]
        for page in self.pages:
            places = [mask(each) if isinstance(each, str) else each for each in (page.position, page.next)]
            written.append(_written(asdict(replace(page, position=places[0], next=places[1]))))
        written.append(_written({"complete": at, "pages": len(self.pages), "items": items, "repeats": repeats}))
        self._write(MANIFEST, b"\n".join(written) + b"\n")
        self.close()
        (self._folder / _KEYS).unlink(missing_ok=True)

    def close(self) -> None:
        if self._keys is not None:
            self._keys.close()
            self._keys = None

    def _opened(self) -> sqlite3.Connection:
        """The keys of earlier pages: on disk, for there may be more than the memory holds."""
        if self._keys is None:
            pages = len(self.pages)
            path = self._folder / _KEYS
            if pages and not path.exists():
                raise SourceError(f"{self._shown}/{_KEYS} is missing: it has the keys so far", hint=_anew(self._shown))
            self._keys = sqlite3.connect(path)
            with self._keys as keys:
                keys.execute(
                    "CREATE TABLE IF NOT EXISTS key (key TEXT, content TEXT, page INTEGER, PRIMARY KEY (key, content)) "
                    "WITHOUT ROWID"
                )
                keys.execute("DELETE FROM key WHERE page > ?", [pages])  # of a page that has no line
        return self._keys

    def _write(self, name: str, data: bytes) -> None:
        """The whole file or none of it, under its name."""
        path = self._folder / name
        part = path.with_name(f"{name}.part")
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _line(self, parts: Mapping[str, Any]) -> None:
        with open(self._folder / MANIFEST, "ab", opener=partial(os.open, mode=0o600)) as file:
            file.write(_written(parts) + b"\n")
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def locked(folder: Path, shown: str) -> Iterator[None]:
    """Make the folder, and be the only one who writes to it. GateError while another process does; its end frees it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise GateError(
                f"{shown} is being fetched by another process ({file.read().strip() or 'unknown'})",
                hint="Wait until it is done, then run the same command again: it reads what was fetched.",
            ) from error
        file.truncate(0)
        file.write(f"pid {os.getpid()}")
        file.flush()
        yield


def _written(parts: Mapping[str, Any]) -> bytes:
    return json.dumps(parts, ensure_ascii=False).encode()


def _anew(shown: str) -> str:
    return f"Remove the folder {shown}, and it is fetched again."


def _back(shown: str) -> str:
    return f"Put the recording back as it was. {_anew(shown)}"
