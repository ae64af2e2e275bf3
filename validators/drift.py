"""Drift: what a source or target table is now beside what it was when it was planned, and how much of it matters."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import partial

from migrate.core import Described, Description, Finding, Severity

_FACTOR, _MANY = 2, 1000
"""A table that grew or shrank by more than this factor, and by more than so many rows, is not what it was."""


def of_source(
    table: str, where: str, before: Description, now: Description, reads: Collection[str], *, packs: bool = False
) -> Iterator[Finding]:
    """What changed in a source table.

    Only what the mapping `reads` is an error, and a new column where it `packs` all that is left; a number of rows, an
    estimate, never is. That a column may be NULL now is judged row by row.
    """

    finding = partial(_finding, table, where)
    for name, old, new in _pairs(before, now):
        read = name in reads
        if new is None and old is not None:
            told = f"the column {_q(name)} ({old.shown}) is gone{_renamed(name, before, now)}"
            yield finding("column", read, f"{told}{_unread(read)}", name, old.shown, None)
        elif old is None and new is not None:
            told = f"a new column {_q(name)} ({new.shown}){'' if read else ', which the mapping does not read'}"
            packed = packs and read
            yield finding("column", packed, f"{told}{', which it packs' if packed else ''}", name, None, new.shown)
        elif old is not None and new is not None:
            if old.type != new.type or old.shown != new.shown:
                told = f"the column {_q(name)} was {old.shown} and is {new.shown}"
                yield finding(
                    "type", read and old.type != new.type, f"{told}{_unread(read)}", name, old.shown, new.shown
                )
            if old.nullable != new.nullable:
                yield finding("null", False, _nullability(name, new), name, *_nulls(old, new))
    yield from _rules(finding, before, now, lambda _: True)
    least, most = sorted((before.rows, now.rows))
    if least and most > least * _FACTOR and most - least > _MANY:
        told = f"about {before.rows:,} rows when it was planned, and about {now.rows:,} now, by its own statistics"
        yield finding("rows", False, told, "rows", str(before.rows), str(now.rows))


def of_target(
    table: str,
    where: str,
    before: Description,
    now: Description,
    mapped: Collection[str],
    *,
    loading: bool,
    ours: Collection[str],
) -> Iterator[Finding]:
    """What changed in a target table.

    Errors are: a mapped column that is another one now, a new one that rows cannot leave out, other checks; and while the
    table is `loading`, other keys and foreign keys, of which the rows before were not told. `ours` are rules that the
    toolkit has made itself since.
    """

    finding = partial(_finding, table, where)
    for name, old, new in _pairs(before, now):
        ruled = name in mapped
        if new is None and old is not None:
            told = f"the column {_q(name)} ({old.shown}) is gone{_renamed(name, before, now)}"
            yield finding("column", ruled, told, name, old.shown, None)
        elif old is None and new is not None:
            needed = not new.optional and not ruled
            told = f"a new column {_q(name)} ({new.shown}), which is {'NOT NULL' if needed else 'not mapped'}"
            yield finding("column", needed, told, name, None, new.shown)
        elif old is not None and new is not None:
            if old.type != new.type:
                told = f"the column {_q(name)} was {old.shown} and is {new.shown}"
                yield finding("type", ruled, told, name, old.shown, new.shown)
            if old.nullable != new.nullable:
                yield finding("null", ruled, _nullability(name, new), name, *_nulls(old, new))
    yield from _rules(finding, before, now, lambda title: loading or title.startswith("check "), ours)


def of_mapping(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """In words, the parts in which two mappings differ."""
    said = []
    for part in dict.fromkeys((*before, *now)):
        old, new = before.get(part), now.get(part)
        if old != new:
            hashed = any(text and text.startswith("#") for text in (old, new))
            said.append(f"{part} was changed" if hashed else f"{part} was {old or 'none'} and is {new or 'none'}")
    return said


# ---------------------------------------------------------------------------------------------------------------- parts

_Finding = Callable[[str, bool, str, str, str | None, str | None], Finding]


def _finding(
    table: str, where: str, what: str, matters: bool, told: str, key: str, was: str | None, is_: str | None
) -> Finding:
    severity: Severity = "error" if matters else "warning"
    return Finding(f"drift.{what}", severity, table, f"{table}: {where}: {told}", key, was, is_)


def _pairs(before: Description, now: Description) -> Iterator[tuple[str, Described | None, Described | None]]:
    for name in dict.fromkeys((*before.columns, *now.columns)):
        yield name, before.columns.get(name), now.columns.get(name)


def _rules(
    finding: _Finding, before: Description, now: Description, matters: Callable[[str], bool], ours: Collection[str] = ()
) -> Iterator[Finding]:
    for title in dict.fromkeys((*before.rules, *now.rules)):
        old, new = before.rules.get(title), now.rules.get(title)
        if old == new or (old is None and title in ours):
            continue
        told = (
            f"no {title} any more"
            if new is None
            else f"a new {title}"
            if old is None
            else f"the {title} was {old} and is {new}"
        )
        text = f": {new or old}" if (new or old) and (old is None or new is None) else ""
        yield finding("rule", matters(title), told + text, title, old, new)


def _renamed(name: str, before: Description, now: Description) -> str:
    """Which new column it may be now: one that is spelled much like it, or one of its type in its place."""
    new = [n for n in now.columns if n not in before.columns]
    folded: dict[str, str] = {n.strip().casefold(): n for n in new}
    near: Sequence[str] = get_close_matches(name.strip().casefold(), folded, n=1, cutoff=0.6)
    place = list(before.columns).index(name)
    there = list(now.columns)[place] if place < len(now.columns) else None
    same = there in new and there is not None and now.columns[there].type == before.columns[name].type
    guess = folded[near[0]] if near else there if same else None
    return "" if guess is None else f": was it renamed to {_q(guess)}?"


def _unread(read: bool) -> str:
    return "" if read else "; the mapping does not read it"


def _nullability(name: str, new: Described) -> str:
    return f"the column {_q(name)} {'may be NULL now' if new.nullable else 'is NOT NULL now'}"


def _nulls(old: Described, new: Described) -> tuple[str, str]:
    before, now = ("NULL" if each.nullable else "NOT NULL" for each in (old, new))
    return before, now


def _q(name: str) -> str:
    return f'"{name}"'
