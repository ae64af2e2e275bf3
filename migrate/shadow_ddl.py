"""The statements that make the clones of a dry run, from the picture of the real tables: text only, run elsewhere."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from mappings.ddl import quote
from migrate.errors import InternalError
from migrate.picture import Constraint, Default, Index, Picture, Reference, Relation

NAME_BYTES = 63
"""PostgreSQL's NAMEDATALEN - 1: a longer name would be cut in silence."""


def fitted(name: str, *, room: int = NAME_BYTES) -> str:
    """The name, or where it is longer than `room` bytes its beginning and a hash of all of it."""
    spelled = name.encode()
    if len(spelled) <= room:
        return name
    tail = "_" + hashlib.sha256(spelled).hexdigest()[:8]
    return spelled[: room - len(tail)].decode(errors="ignore") + tail


def unambiguous(names: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """A name in one schema for each (schema, name): the plain one where it is the only one, else both joined."""
    pairs = sorted(set(names))
    often = Counter(name for _, name in pairs)
    given = {pair: pair[1] for pair in pairs if often[pair[1]] == 1}
    taken = set(given.values())
    for schema, name in (pair for pair in pairs if often[pair[1]] > 1):
        joined = fitted(f"{schema}_{name}")
        n = 1
        while joined in taken:
            n += 1
            joined = fitted(f"{schema}_{name}_{n}")
        given[schema, name] = joined
        taken.add(joined)
    return given


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@dataclass(frozen=True, slots=True)
class Statement:
    """`about` says what the dry run cannot exercise where the server refuses this one; "": the clone needs it."""

    sql: str
    about: str = ""


@dataclass(frozen=True, slots=True)
class Site:
    """Where in the shadow everything of a picture stands, and what the real run will find in the tables.

    `kept` are the qualified names of tables whose own rows stay: a parent may be one of those. `writing` are the
    (relation, column) whose default would write elsewhere; `deferred` the (qualified child, constraint) that settling decides.
    """

    picture: Picture
    schema: str
    names: Mapping[tuple[str, str], str]
    kept: Collection[str]
    writing: Collection[tuple[int, str]]
    deferred: Collection[tuple[str, str]] = ()

    def at(self, pair: tuple[str, str]) -> str:
        return quote(self.schema, self.names[pair])

    def relation(self, oid: int) -> Relation | None:
        return next((r for r in self.picture.relations if r.oid == oid), None)

    def keeps(self, relation: Relation) -> bool:
        """Whether rows of the real relation, or of the tree that it is in, stay."""
        root = self.relation(relation.root)
        return root is not None and root.qualified in self.kept

    def enforced(self, reference: Reference) -> bool:
        """Whether a real foreign key can stand in the shadow: only the clone's own rows can be parents."""
        parent = self.relation(reference.parent)
        return parent is not None and not self.keeps(parent)


def statements(site: Site, server_version: int) -> Iterator[Statement]:
    """Everything, in order. Partitions come before what they are attached to, foreign keys when all tables are there."""
    picture = site.picture
    for number in picture.numbers:
        if not number.identity:
            yield Statement(f"CREATE SEQUENCE {site.at(number.pair)} AS {number.type} {number.options}")
    logged = _logged(site)
    for relation in picture.relations:
        yield from _relation(site, relation, server_version, unlogged=relation.oid not in logged)
    for number in picture.numbers:
        owner = site.relation(number.relation) if number.relation is not None and not number.identity else None
        if owner is not None and number.column is not None:
            column = f"{site.at(owner.pair)}.{quote(number.column)}"
            yield Statement(f"ALTER SEQUENCE {site.at(number.pair)} OWNED BY {column}")
    for n, reference in enumerate(picture.references):
        if site.enforced(reference):
            yield _reference(site, reference)
        elif ((child := site.relation(reference.relation)) and child.qualified, reference.name) not in site.deferred:
            yield from _stand_in(site, reference, n)


def _logged(site: Site) -> set[int]:
    """Relations that cannot be UNLOGGED: partitioned ones never are, and what they reference must not be either."""
    logged = {r.oid for r in site.picture.relations if r.key is not None}
    while more := {
        f.parent
        for f in site.picture.references
        if site.enforced(f) and f.relation in logged and f.parent not in logged
    }:
        logged |= more
    return logged


def _relation(site: Site, relation: Relation, server_version: int, *, unlogged: bool) -> Iterator[Statement]:
    picture, table = site.picture, site.at(relation.pair)
    # Storage and compression decide which rows and index entries are too large.
    options = "INCLUDING GENERATED INCLUDING STORAGE" + (" INCLUDING COMPRESSION" if server_version >= 140000 else "")
    yield Statement(
        f"CREATE {'UNLOGGED ' if unlogged else ''}TABLE {table} (LIKE {relation.spelled} {options})"
        + (f" PARTITION BY {relation.key}" if relation.key is not None else "")
    )
    for default in picture.defaults:
        if default.relation == relation.oid:
            yield from _default(site, relation, default)
    for number in picture.numbers:
        if number.relation == relation.oid and number.identity and number.column is not None:
            how = "ALWAYS" if number.identity == "a" else "BY DEFAULT"
            yield Statement(
                f"ALTER TABLE {table} ALTER COLUMN {quote(number.column)} ADD GENERATED {how} AS IDENTITY "
                f"(SEQUENCE NAME {site.at(number.pair)} {number.options})"
            )
    for partition in picture.relations:
        if partition.parent == relation.oid:
            yield Statement(f"ALTER TABLE {table} ATTACH PARTITION {site.at(partition.pair)} {partition.bound}")
    if relation.parent is None and relation.fence:
        yield Statement(
            f"ALTER TABLE {table} ADD CONSTRAINT {quote('bounds of the partition')} CHECK ({relation.fence})",
            f"{relation.qualified}: its bounds as a partition",
        )
    ranked = [(c.rank, _constraint(site, relation, c)) for c in picture.constraints if c.relation == relation.oid]
    ranked += [(i.rank, _index(site, relation, i)) for i in picture.indexes if i.relation == relation.oid]
    yield from (statement for _, statement in sorted(ranked, key=lambda pair: pair[0]))


def _constraint(site: Site, relation: Relation, constraint: Constraint) -> Statement:
    name = constraint.name if constraint.index is None else site.names[constraint.index]
    return Statement(
        f"ALTER TABLE {site.at(relation.pair)} ADD CONSTRAINT {quote(name)} {constraint.definition}",
        f"{relation.qualified}: constraint {constraint.name}",
    )


def _index(site: Site, relation: Relation, index: Index) -> Statement:
    if not index.definition.startswith(index.head):
        raise InternalError(f"index {index.schema}.{index.name} is spelled in a way that is not known")
    rest = index.definition.removeprefix(index.head)
    unique = "UNIQUE " if index.unique else ""
    return Statement(
        f"CREATE {unique}INDEX {quote(site.names[index.pair])} ON {site.at(relation.pair)} {rest}",
        f"{relation.qualified}: index {index.name}",
    )


def _default(site: Site, relation: Relation, default: Default) -> Iterator[Statement]:
    column = f"ALTER TABLE {site.at(relation.pair)} ALTER COLUMN {quote(default.column)}"
    if (relation.oid, default.column) not in site.writing:
        yield Statement(f"{column} SET DEFAULT {rewritten(site, default)}")
    elif default.category in ("N", "S"):
        # It mostly is a key that a function draws: numbers of our own are as good for a dry run.
        sequence = site.at(made(relation, default))
        yield Statement(f"CREATE SEQUENCE {sequence}")
        yield Statement(f"{column} SET DEFAULT nextval({literal(sequence)}::regclass)")
    else:
        yield Statement(f"{column} SET DEFAULT NULL, ALTER COLUMN {quote(default.column)} DROP NOT NULL")


def made(relation: Relation, default: Default) -> tuple[str, str]:
    """The name of the sequence that stands in for a default that writes."""
    return relation.schema, fitted(f"{relation.name} {default.column} default")


def rewritten(site: Site, default: Default, *, tried: bool = False) -> str:
    """The default with the clones of its sequences; `tried`: with a number in their place, to see what else it does."""
    expression = default.expression
    for number in site.picture.numbers:
        if number.oid in default.sequences:
            if tried:
                expression = expression.replace(f"nextval({number.token})", "1::bigint")
            expression = expression.replace(number.token, f"{literal(site.at(number.pair))}::regclass")
    return expression


def _reference(site: Site, reference: Reference) -> Statement:
    child, parent = site.relation(reference.relation), site.relation(reference.parent)
    assert child is not None
    assert parent is not None
    before, _, after = reference.definition.rpartition(f" REFERENCES {reference.parent_spelled}(")
    return Statement(
        f"ALTER TABLE {site.at(child.pair)} ADD CONSTRAINT {quote(reference.name)} "
        f"{before} REFERENCES {site.at(parent.pair)}({after}",
        f"{child.qualified}: foreign key {reference.name}",
    )


def _stand_in(site: Site, reference: Reference, n: int) -> Iterator[Statement]:
    """A foreign key whose parent may be a real row: a constraint would lock the real table and leave triggers on it.

    A trigger of the clone asks instead, once a statement, and refuses as the foreign key would.
    """
    child, parent = site.relation(reference.relation), site.relation(reference.parent)
    assert child is not None
    about = f"{child.qualified}: foreign key {reference.name}"
    if child.parent is not None or reference.period:
        # Of a partition, such a trigger fires only for what is inserted into the partition itself.
        yield Statement("", about)
        return
    relations = [reference.parent_spelled] if parent is None else [reference.parent_spelled, site.at(parent.pair)]
    given = [f"n.{quote(c)}" for c in reference.columns]
    same = " AND ".join(f"p.{quote(p)} = {g}" for p, g in zip(reference.parent_columns, given, strict=True))
    lost = " AND ".join(
        [*(f"{g} IS NOT NULL" for g in given), *(f"NOT EXISTS (SELECT FROM {r} p WHERE {same})" for r in relations)]
    )
    if reference.full and len(given) > 1:
        lost += f" OR num_nulls({', '.join(given)}) BETWEEN 1 AND {len(given) - 1}"
    table = site.names[child.pair]
    message = f'insert or update on table "{table}" violates foreign key constraint "{reference.name}"'
    body = (
        f"BEGIN IF EXISTS (SELECT FROM migrate_new n WHERE {lost}) THEN RAISE foreign_key_violation USING "
        f"MESSAGE = {literal(message)}, SCHEMA = {literal(site.schema)}, TABLE = {literal(table)}, "
        f"CONSTRAINT = {literal(reference.name)}; END IF; RETURN NULL; END"
    )
    function = quote(site.schema, f"foreign key {n}")
    yield Statement(f"CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS {literal(body)}", about)
    for event in ("INSERT", "UPDATE"):
        yield Statement(
            f"CREATE TRIGGER {quote(f'foreign key {n} {event.lower()}')} AFTER {event} ON {site.at(child.pair)} "
            f"REFERENCING NEW TABLE AS migrate_new FOR EACH STATEMENT EXECUTE FUNCTION {function}()",
            about,
        )
