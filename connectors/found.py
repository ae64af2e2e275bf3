"""The files of a source: what globs match, each file once whatever it is called; and what files of a table share."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from migrate.errors import SourceError

CHANGED = "put the file back as it was, or start over with: migrate run --restart"
"""The hint where a file is not what it was when the plan was made."""


def matching(globs: Iterable[str], base: Path) -> tuple[str, ...]:
    """The files that the globs match, in their order and each name once, as paths relative to `base` where they are in it.

    Raises SourceError if a glob matches no file.
    """
    found: dict[str, None] = {}
    for pattern in globs:
        matched = sorted(_matches(base, pattern))
        if not matched:
            raise SourceError(
                f"no file matches {pattern!r} in {base}", hint="check the path under files: (or excel:, xml:)"
            )
        found.update(dict.fromkeys(matched))
    return tuple(found)


def distinct(paths: Iterable[str], base: Path) -> tuple[str, ...]:
    """The first name of each file: `t.csv`, `./t.csv` and a link to either would give every row three times."""
    first: dict[Path, str] = {}
    for path in paths:
        first.setdefault((base / path).resolve(), path)
    return tuple(first.values())


def aliases(paths: Sequence[str], once: Sequence[str], base: Path) -> Iterator[str]:
    """A note for each file that stands among `paths` under other names than the one in `once`."""
    names = {(base / name).resolve(): name for name in once}
    others: dict[str, list[str]] = {}
    for path in paths:
        if path not in once:
            others.setdefault(names[(base / path).resolve()], []).append(path)
    for name, aliases in others.items():
        yield f"{name}: read once, although it is listed as {', '.join(aliases)} too"


def same_columns(expected: Sequence[str], found: Sequence[str], name: str, first: str) -> None:
    """Raise SourceError unless a file has the columns of its table's first file, in whatever order."""
    missing, extra = ([c for c in a if c not in b] for a, b in ((expected, found), (found, expected)))
    if missing or extra:
        faults = [f"no column {column!r}" for column in missing] + [f"an extra column {column!r}" for column in extra]
        raise SourceError(
            f"{name} has {' and '.join(faults)}; its table's first file is {first}",
            hint="files of one table need the same column names; make it a table of its own otherwise",
        )


def _matches(base: Path, pattern: str) -> Iterator[str]:
    path = Path(pattern)
    root, relative = (Path(path.anchor), str(path.relative_to(path.anchor))) if path.is_absolute() else (base, pattern)
    if (root / relative).is_file():  # also if its name holds a glob's characters
        yield pattern
        return
    if not path.name:  # "." and "./" are a folder, and glob will not have them
        return
    for match in root.glob(relative):
        if match.is_file() and not match.name.startswith((".", "~$")):  # ~$ is Excel's mark on an open file
            yield str(match if path.is_absolute() else match.relative_to(base))
