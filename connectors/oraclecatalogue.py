"""Oracle's catalogue: which relations there are, which of them a name means, their columns and keys."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from connectors.oracletypes import Column, text_literal
from migrate.errors import SourceError, UsageError

Ask = Callable[[str], list[tuple[Any, ...]]]
Kind = Literal["heap", "index", "external", "view"]
"""heap: its rows have places (ROWID) that can be compared. index: an index-organized table."""

_SELECTIVE = 100  # rows for each value of an index's leading column, at most, that it be worth cutting by


@dataclass(frozen=True, slots=True)
class Named:
    """A relation. `rows` and `row_bytes` are the statistics' (0: none); `twins` have names that differ in case only.

    `moves`: ENABLE ROW MOVEMENT.
    """

    schema: str
    table: str
    kind: Kind
    moves: bool
    rows: int
    row_bytes: int
    twins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Keys:
    """`key` identifies a row, `ranged` is what to cut by, of which a single one may be `nullable`."""

    key: tuple[str, ...] = ()
    ranged: tuple[str, ...] = ()
    nullable: bool = False


def own_schema(ask: Ask, asked: str) -> str:
    """The schema of tables that are named without one: the URL's, or the user's. Raises UsageError where there is none."""
    if not asked:
        [(user,)] = ask("SELECT SYS_CONTEXT('USERENV', 'CURRENT_SCHEMA') FROM DUAL")
        return str(user)
    found = ask(f"SELECT username FROM all_users WHERE {_alike('username', asked)} ORDER BY username")
    schema = chosen(asked, [str(name) for (name,) in found])
    if schema is None:
        raise UsageError(f"no schema {asked!r} at the source", hint="Check `schema` in the source's URL.")
    return schema


def listed(ask: Ask, own: str) -> list[tuple[str, str, Kind]]:
    """(schema, name, kind) in people's schemas; logs of materialized views are not listed, though they can be named."""
    rows = ask(
        f"SELECT owner, name, kind FROM ({_RELATIONS}) WHERE owner IN "
        f"(SELECT username FROM all_users WHERE oracle_maintained = 'N' OR username = {text_literal(own)}) "
        "AND name NOT LIKE 'MLOG$\\_%' ESCAPE '\\' AND name NOT LIKE 'RUPD$\\_%' ESCAPE '\\' ORDER BY owner, name"
    )
    return [(str(owner), str(name), kind) for owner, name, kind in rows]


def named(ask: Ask, name: str, own: str) -> Named | None:
    """What a name of the project file means. Raises UsageError where nobody can tell."""
    for at, (schema, table) in enumerate(candidates(name, own)):
        owner = f"owner = {text_literal(own)}" if at == 0 else _alike("owner", schema)
        rows = ask(
            f"SELECT owner, name, kind, moves, num_rows, avg_row_len FROM ({_RELATIONS}) "
            f"WHERE {owner} AND {_alike('name', table)} ORDER BY owner, name"
        )
        schemas = list(dict.fromkeys(str(row[0]) for row in rows))
        within = own if at == 0 else chosen(schema, schemas)
        tables = [row for row in rows if row[0] == within]
        found = chosen(table, [str(row[1]) for row in tables])
        for row in tables:
            if row[1] == found:
                twins = tuple(str(other[1]) for other in tables if other[1] != found)
                return Named(row[0], row[1], row[2], row[3] == "ENABLED", int(row[4] or 0), int(row[5] or 0), twins)
    return None


def columns(ask: Ask, schema: str, table: str) -> list[Column]:
    """Its columns, also those that are computed or invisible; not those that the server made for itself."""
    rows = ask(
        "SELECT column_name, data_type, data_type_owner, data_precision, data_scale, "
        "CASE WHEN char_length > 0 THEN char_length ELSE data_length END, "
        "nullable, virtual_column, hidden_column, num_distinct "
        f"FROM all_tab_cols WHERE owner = {text_literal(schema)} AND table_name = {text_literal(table)} "
        "AND (hidden_column = 'NO' OR user_generated = 'YES') ORDER BY column_id NULLS LAST, internal_column_id"
    )
    return [
        Column(name, kind, owner, _whole(digits), _whole(scale), int(length or 0), *flags, _whole(distinct))
        for name, kind, owner, digits, scale, length, nullable, virtual, hidden, distinct in rows
        for flags in [(nullable != "N", virtual == "YES", hidden == "YES")]
    ]


def keys(ask: Ask, of: Named, found: Sequence[Column], comparable: set[str]) -> Keys:
    """By the primary key, else a unique index over columns that are never NULL, else the leading column of an index.

    `comparable` are the columns that slices may be cut by. An index with few values is passed over: its slices were huge.
    """
    nullable = {column.name: column.nullable for column in found}
    distinct = {column.name: column.distinct for column in found}
    place = f"= {text_literal(of.schema)} AND {{}}.table_name = {text_literal(of.table)}"
    primary = ask(
        "SELECT p.column_name FROM all_constraints c JOIN all_cons_columns p "
        "ON p.owner = c.owner AND p.constraint_name = c.constraint_name AND p.table_name = c.table_name "
        f"WHERE c.owner {place.format('c')} AND c.constraint_type = 'P' "
        "AND c.status = 'ENABLED' AND c.validated = 'VALIDATED' ORDER BY p.position"
    )
    indexes: dict[tuple[bool, str, str], list[str]] = {}
    for owner, index, uniqueness, column in ask(
        "SELECT i.owner, i.index_name, i.uniqueness, c.column_name FROM all_indexes i JOIN all_ind_columns c "
        "ON c.index_owner = i.owner AND c.index_name = i.index_name "
        f"WHERE i.table_owner {place.format('i')} AND i.index_type IN ('NORMAL', 'IOT - TOP') "
        "AND i.status IN ('VALID', 'N/A') AND i.visibility = 'VISIBLE' "
        "ORDER BY i.owner, i.index_name, c.column_position"
    ):
        indexes.setdefault((uniqueness != "UNIQUE", owner, index), []).append(str(column))
    sure = [[str(name) for (name,) in primary]] if primary else []
    unique = [names for (repeats, _, _), names in indexes.items() if not repeats]
    sure += sorted((n for n in unique if not any(nullable.get(c, True) for c in n)), key=lambda n: (len(n), n))
    sure = [names for names in sure if nullable.keys() >= set(names)]
    for names in sure:
        if comparable.issuperset(names):
            return Keys(tuple(names), tuple(names))
    key = tuple(sure[0]) if sure else ()
    for (repeats, _, _), (leading, *_) in sorted(indexes.items()):
        some = distinct.get(leading)
        if leading in comparable and (not repeats or some is None or some * _SELECTIVE >= of.rows):
            return Keys(key, (leading,), nullable[leading])
    return Keys(key)


def is_remote(ask: Ask, schema: str, view: str) -> bool:
    """Whether a view reads another database, which has SCNs of its own."""
    [(links,)] = ask(
        f"SELECT COUNT(*) FROM all_dependencies WHERE owner = {text_literal(schema)} AND name = {text_literal(view)} "
        "AND referenced_link_name IS NOT NULL"
    )
    return bool(links)


def references(ask: Ask, schema: str, table: str) -> list[tuple[Any, ...]]:
    """(constraint, column, schema, table, column there) of the foreign keys that are enforced."""
    return ask(
        "SELECT c.constraint_name, p.column_name, r.owner, r.table_name, q.column_name FROM all_constraints c "
        "JOIN all_constraints r ON r.owner = c.r_owner AND r.constraint_name = c.r_constraint_name "
        "JOIN all_cons_columns p ON p.owner = c.owner AND p.constraint_name = c.constraint_name "
        "JOIN all_cons_columns q ON q.owner = r.owner AND q.constraint_name = r.constraint_name AND q.position = p.position "
        f"WHERE c.constraint_type = 'R' AND c.status = 'ENABLED' AND c.owner = {text_literal(schema)} "
        f"AND c.table_name = {text_literal(table)} ORDER BY c.constraint_name, p.position"
    )


REDACTED = "redaction_columns"
"""The view of columns for which some users get made-up values."""


def exemptions(ask: Ask) -> set[str]:
    """The privileges by which no policy holds for the user."""
    rows = _told(ask, "SELECT privilege FROM session_privs WHERE privilege LIKE 'EXEMPT %'")
    return {str(privilege) for (privilege,) in rows}


def guards(ask: Ask, schema: str, table: str, exempt: Collection[str]) -> Iterator[str]:
    """What hides rows of a table, or makes up values, for users who have no exemption: counts would be right without them."""
    of = f"object_owner = {text_literal(schema)} AND object_name = {text_literal(table)}"
    if "EXEMPT ACCESS POLICY" not in exempt:
        rows = _told(ask, f"SELECT policy_name FROM all_policies WHERE {of} AND sel = 'YES' AND enable = 'YES'")
        for (policy,) in rows:
            yield (
                f"the policy {policy} may hide rows from the source's user, which are then missing without a word: "
                "GRANT EXEMPT ACCESS POLICY to the user"
            )
    if "EXEMPT REDACTION POLICY" not in exempt:
        for (column,) in _told(ask, f"SELECT column_name FROM {REDACTED} WHERE {of}"):
            yield (
                f"{column}: redacted for users who have no exemption, who get made-up values: "
                "GRANT EXEMPT REDACTION POLICY to the source's user"
            )


def _told(ask: Ask, sql: str) -> list[tuple[Any, ...]]:
    """Nothing where the user may not ask."""
    try:
        return ask(sql)
    except SourceError:
        return []


def candidates(name: str, own: str) -> Iterator[tuple[str, str]]:
    """A table of the own schema, or schema.table: dots may be part of either."""
    yield own, name
    quoted = False
    for at, letter in enumerate(name):
        quoted ^= letter == '"'
        if letter == "." and not quoted:
            yield name[:at], name[at + 1 :]


def chosen(asked: str, found: Sequence[str]) -> str | None:
    """Which of some names, alike but for case, is meant: the very one, else the upper-case one, else the only one.

    In double quotes only the very one is. Raises UsageError where nobody can tell.
    """
    exact = _bare(asked)
    if exact in found:
        return exact
    if exact != asked:
        return None
    if asked.upper() in found:
        return asked.upper()
    if len(found) > 1:
        raise UsageError(
            f"{asked!r} may be any of {', '.join(found)}, whose names differ in case only",
            hint="Write the one that you mean as it stands at the source.",
        )
    return found[0] if found else None


def _bare(asked: str) -> str:
    return asked[1:-1] if len(asked) > 2 and asked[0] == asked[-1] == '"' else asked


def _alike(column: str, asked: str) -> str:
    return f"UPPER({column}) = UPPER({text_literal(_bare(asked))})"


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


_RELATIONS = """
SELECT a.owner, a.table_name name,
 CASE WHEN x.table_name IS NOT NULL THEN 'external' WHEN a.iot_type = 'IOT' THEN 'index' ELSE 'heap' END kind,
 a.row_movement moves, a.num_rows, a.avg_row_len
FROM all_all_tables a LEFT JOIN all_external_tables x ON x.owner = a.owner AND x.table_name = a.table_name
WHERE a.nested = 'NO' AND a.secondary = 'N' AND a.dropped = 'NO' AND (a.iot_type IS NULL OR a.iot_type = 'IOT')
UNION ALL SELECT owner, view_name, 'view', NULL, NULL, NULL FROM all_views""".strip()
"""Tables, materialized views among them, and views. Not: stores of nested tables, overflows of indexes, the recycle bin."""
