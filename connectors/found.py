"""Which files a source's globs stand for, each once, under the name of its table."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from migrate.errors import SourceError, UsageError


def find(files: Mapping[str, Sequence[str]], base: Path) -> dict[str, tuple[str, ...]]:
    """The files of each table, as paths relative to `base`; under the name "" each file is a table named by its stem.

    Raises SourceError if a glob matches no file, UsageError if two files would be the same table.
    """
    tables: dict[str, tuple[str, ...]] = {}
    for table, globs in files.items():
        found = match(globs, base)
        named = {table: found} if table else _by_stem(found, base)
        for name, paths in named.items():
            if name in tables:
                raise UsageError(
                    f"table {name!r} stands for both {tables[name][0]} and {paths[0]}",
                    hint=f"name the tables: files: {{{name}: …, another_name: …}}",
                )
            tables[name] = paths
    return tables


def match(globs: Sequence[str], base: Path) -> tuple[str, ...]:
    """The files that some globs stand for. Raises SourceError if one of them matches none."""
    found: dict[str, None] = {}
    for pattern in globs:
        matched = sorted(_matches(base, pattern))
        if not matched:
            raise SourceError(
                f"no file matches {pattern!r} in {base}", hint="check the path under files:, excel:, xml: or json:"
            )
        found.update(dict.fromkeys(matched))
    return tuple(found)


def once(paths: Iterable[str], base: Path) -> tuple[str, ...]:
    """The first name of each file: `t.csv`, `./t.csv` and a link to either would give every row three times."""
    first: dict[Path, str] = {}
    for path in paths:
        first.setdefault((base / path).resolve(), path)
    return tuple(first.values())


def aliases(paths: Sequence[str], unique: Sequence[str], base: Path) -> Iterator[str]:
    """A note for each file that stands among `paths` under other names than the one in `unique`."""
    names = {(base / name).resolve(): name for name in unique}
    others: dict[str, list[str]] = {}
    for path in paths:
        if path not in unique:
            others.setdefault(names[(base / path).resolve()], []).append(path)
    for name, also in others.items():
        yield f"{name}: read once, although it is listed as {', '.join(also)} too"


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
    for found in root.glob(relative):
        if found.is_file() and not found.name.startswith((".", "~$")):  # ~$ is Excel's sign of an open file
            yield str(found if path.is_absolute() else found.relative_to(base))


def _by_stem(paths: Iterable[str], base: Path) -> dict[str, tuple[str, ...]]:
    named: dict[str, tuple[str, ...]] = {}
    for path in paths:
        name = Path(path).name
        name = name[:-3] if name.lower().endswith(".gz") else name
        stem = Path(name).stem
        named[stem] = (*named.get(stem, ()), path)
        first, *others = once(named[stem], base)
        if others:
            raise UsageError(
                f"{first} and {path} would both be the table {stem!r}",
                hint=f"name the tables: files: {{{stem}: {first}, {stem}_2: {path}}}, or list both under one",
            )
    return named
