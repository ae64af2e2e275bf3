"""Which foreign keys of a source a project file can say by `references`, and a comment on each of the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from migrate.core import Reference

At = tuple[str, str]
"""A table of the project file and one of its target columns."""


@dataclass(frozen=True, slots=True)
class Linked:
    """A table that is drafted: its name in the project file, its source's key, and source column → target column.

    `sure`: the key is not guessed, and the target's primary key is made of it.
    """

    name: str
    key: tuple[str, ...]
    targets: Mapping[str, str]
    sure: bool
    references: Sequence[Reference] = ()


@dataclass(frozen=True, slots=True)
class Link:
    """What a column references: a column of a table's target, whose row the source columns `by` name.

    `only`: it is all of the target's primary key, so that it need not be named.
    """

    table: str
    column: str
    by: tuple[str, ...]
    only: bool


@dataclass(frozen=True, slots=True)
class Links:
    """By (table, target column): the references that can be written, and comments on those that cannot."""

    links: dict[At, Link] = field(default_factory=dict)
    comments: dict[At, list[str]] = field(default_factory=dict)

    def comment(self, at: At) -> str:
        return "; ".join(self.comments.get(at, ()))


def linked(tables: Mapping[str, Linked]) -> Links:
    """The links of tables, by what their source calls them.

    A reference is written where it names its parent by the whole key, where no column of it is in another one already, and
    where no chain of references comes back to a table: then the keys would be made of each other.
    """
    found = Links()
    for child in tables.values():
        for reference in child.references:
            parent = tables.get(reference.table)
            columns = [_as_spelled(column, child.targets) for column in reference.columns]
            if parent is None:
                whom, why = "a table that is left out", ""
            else:
                new = _links(child, parent, columns, reference)
                why = _why_not(parent, new, found.links)
                if not why:
                    found.links.update(new)
                    continue
                whom = f"{parent.name} by {', '.join(reference.parent_columns)}"
            verb = f"{', '.join(columns)} together reference" if len(columns) > 1 else "references"
            for column in columns:
                at = child.name, child.targets.get(column, "")
                found.comments.setdefault(at, []).append(f"{verb} {whom}{why}")
    return found


def _links(child: Linked, parent: Linked, columns: Sequence[str], reference: Reference) -> dict[At, Link]:
    """The links of a reference; none where it does not name its parent by the whole key."""
    theirs = [_as_spelled(column, parent.targets) for column in reference.parent_columns]
    own = dict(zip(theirs, columns, strict=True))
    if set(own) != set(parent.key) or not set(columns) <= set(child.targets):
        return {}
    by = tuple(own[column] for column in parent.key)
    only = parent.sure and len(by) == 1
    return {(child.name, child.targets[c]): Link(parent.name, parent.targets[of], by, only) for of, c in own.items()}


def _why_not(parent: Linked, new: Mapping[At, Link], made: Mapping[At, Link]) -> str:
    """Why links cannot be written beside those that are made; "" where they can."""
    if not new:
        return f", which is not its key ({', '.join(parent.key)})" if parent.key else ", which has no key"
    if any(at in made for at in new):
        return "; a column of it is in another reference already"
    if _comes_back({**made, **new}):
        return "; written down, these keys would be made of each other"
    return ""


def _comes_back(links: Mapping[At, Link]) -> bool:
    for at in links:
        seen: set[str] = set()
        while at in links:
            link = links[at]
            if link.table in seen:
                return True
            seen.add(link.table)
            at = link.table, link.column
    return False


def _as_spelled(name: str, columns: Mapping[str, str]) -> str:
    """As the table spells the column: a foreign key may spell it in another case."""
    return name if name in columns else next((c for c in columns if c.lower() == name.lower()), name)
