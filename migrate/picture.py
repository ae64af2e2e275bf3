"""What PostgreSQL's catalogue says of tables that are to be cloned for a dry run: all of it that accepts or refuses a row.

Nothing is asked of the real tables but their definition, and no question takes more than ACCESS SHARE on them. A real
sequence that may be drawn from but not read is locked as nextval() locks it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from psycopg.rows import class_row

from migrate.target import Connection

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or a partition, however deep. `spelled` is schema.name as the server quotes it.

    `key` is the partition key of a partitioned table, `bound` a partition's FOR VALUES, `fence` its constraint in words,
    `root` the topmost table of its tree that is cloned.
    """

    oid: int
    root: int
    parent: int | None
    depth: int
    schema: str
    name: str
    spelled: str
    key: str | None
    bound: str | None
    fence: str | None

    @property
    def pair(self) -> tuple[str, str]:
        return self.schema, self.name

    @property
    def qualified(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Default:
    """What a column is given where nothing is. `writes` says that it may do more than compute: it is to be tried."""

    relation: int
    column: str
    expression: str
    sequences: Sequence[int]
    writes: bool
    category: str
    domain: bool


@dataclass(frozen=True, slots=True)
class Number:
    """A sequence that an identity column or a default draws from. `token` is how a default's text names it.

    `last` is asked for only where the sequence is not `readable`: the question locks it as nextval() would.
    """

    oid: int
    schema: str
    name: str
    spelled: str
    token: str
    options: str
    type: str
    relation: int | None
    column: str | None
    identity: str
    readable: bool
    last: int | None

    @property
    def pair(self) -> tuple[str, str]:
        return self.schema, self.name


@dataclass(frozen=True, slots=True)
class Constraint:
    """A CHECK, key, UNIQUE or EXCLUDE constraint of one relation; `definition` as pg_get_constraintdef writes it.

    `rank` orders it among the relation's indexes: the server asks them in that order, and the first one refuses.
    """

    relation: int
    rank: int
    name: str
    definition: str
    index_schema: str | None
    index_name: str | None

    @property
    def index(self) -> tuple[str, str] | None:
        if self.index_schema is None or self.index_name is None:
            return None
        return self.index_schema, self.index_name


@dataclass(frozen=True, slots=True)
class Index:
    """An index without a constraint. `definition` is its CREATE INDEX, which begins with `head`."""

    relation: int
    rank: int
    schema: str
    name: str
    unique: bool
    head: str
    definition: str

    @property
    def pair(self) -> tuple[str, str]:
        return self.schema, self.name


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key of a cloned relation."""

    relation: int
    name: str
    definition: str
    parent: int
    parent_schema: str
    parent_name: str
    parent_spelled: str
    columns: Sequence[str]
    parent_columns: Sequence[str]
    full: bool
    period: bool


@dataclass(frozen=True, slots=True)
class Picture:
    """All that is to be cloned, parents of a partition tree after its leaves."""

    relations: tuple[Relation, ...]
    defaults: tuple[Default, ...]
    numbers: tuple[Number, ...]
    constraints: tuple[Constraint, ...]
    indexes: tuple[Index, ...]
    references: tuple[Reference, ...]

    def names(self) -> Iterator[tuple[str, str]]:
        """Every name that needs a place in the shadow schema: tables, indexes and sequences share one namespace."""
        for part in (self.relations, self.numbers, self.indexes):
            yield from (thing.pair for thing in part)
        yield from (pair for c in self.constraints if (pair := c.index) is not None)


# A table that is a partition of another one in the list is cloned once, in the tree of the topmost.
_RELATIONS = """
WITH RECURSIVE tree AS (
    SELECT r AS oid, r AS root, NULL::oid AS parent, 0 AS depth FROM unnest(%(oids)s::oid[]) r
    UNION ALL
    SELECT i.inhrelid, tree.root, i.inhparent, depth + 1
    FROM tree JOIN pg_class p ON p.oid = tree.oid AND p.relkind = 'p' JOIN pg_inherits i ON i.inhparent = tree.oid
), once AS (
    SELECT DISTINCT ON (oid) * FROM tree ORDER BY oid, depth DESC
)
SELECT c.oid::bigint, once.root::bigint, once.parent::bigint, once.depth, n.nspname AS schema, c.relname AS name,
       format('%%I.%%I', n.nspname, c.relname) AS spelled, pg_get_partkeydef(c.oid) AS key,
       pg_get_expr(c.relpartbound, c.oid) AS bound,
       CASE WHEN c.relispartition THEN pg_get_partition_constraintdef(c.oid) END AS fence
FROM once JOIN pg_class c USING (oid) JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY once.depth DESC, n.nspname, c.relname
"""

# A domain's default is the column's where it has none of its own. Functions of the server itself have no entry in
# pg_depend; nextval('x'::text) names its sequence when it runs.
_DEFAULTS = """
WITH given AS (
    SELECT a.attrelid, a.attnum, a.attname, a.atttypid, pg_get_expr(d.adbin, d.adrelid) AS expression,
           'pg_attrdef'::regclass AS class, d.oid AS object, false AS domain
    FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
    WHERE a.attgenerated = ''
    UNION ALL
    SELECT a.attrelid, a.attnum, a.attname, a.atttypid, pg_get_expr(t.typdefaultbin, 0), 'pg_type'::regclass, t.oid, true
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE t.typtype = 'd' AND t.typdefaultbin IS NOT NULL AND a.attnum > 0 AND NOT a.attisdropped AND NOT a.atthasdef
      AND a.attidentity = ''
), needs AS (
    SELECT given.*,
           ARRAY(SELECT s.seqrelid::bigint FROM pg_depend d JOIN pg_sequence s ON s.seqrelid = d.refobjid
                 WHERE d.classid = class AND d.objid = object AND d.refclassid = 'pg_class'::regclass
                 GROUP BY 1 ORDER BY 1) AS sequences,
           EXISTS (SELECT FROM pg_depend d JOIN pg_proc p ON p.oid = d.refobjid AND p.provolatile = 'v'
                   WHERE d.classid = class AND d.objid = object AND d.refclassid = 'pg_proc'::regclass)
           OR expression ~ '\\)::regclass' AS writes
    FROM given WHERE attrelid = ANY(%(oids)s)
)
SELECT attrelid::bigint AS relation, attname AS column, expression, sequences, writes, t.typcategory::text AS category,
       domain
FROM needs JOIN pg_type t ON t.oid = atttypid
WHERE NOT domain OR writes OR cardinality(sequences) > 0
ORDER BY attrelid, attnum
"""

_NUMBERS = """
SELECT s.seqrelid::bigint AS oid, n.nspname AS schema, c.relname AS name,
       format('%%I.%%I', n.nspname, c.relname) AS spelled,
       quote_literal(s.seqrelid::regclass::text) || '::regclass' AS token,
       format('INCREMENT BY %%s MINVALUE %%s MAXVALUE %%s START WITH %%s CACHE %%s %%sCYCLE', s.seqincrement, s.seqmin,
              s.seqmax, s.seqstart, s.seqcache, CASE WHEN s.seqcycle THEN '' ELSE 'NO ' END) AS options,
       format_type(s.seqtypid, NULL) AS type, a.attrelid::bigint AS relation, a.attname AS column,
       coalesce(CASE WHEN d.deptype = 'i' THEN a.attidentity::text END, '') AS identity,
       has_sequence_privilege(s.seqrelid, 'SELECT') AS readable,
       CASE WHEN has_sequence_privilege(s.seqrelid, 'USAGE') AND NOT has_sequence_privilege(s.seqrelid, 'SELECT')
            THEN pg_sequence_last_value(s.seqrelid) END AS last
FROM pg_sequence s
JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = s.seqrelid AND d.deptype IN ('a', 'i')
      AND d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY(%(oids)s)
LEFT JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE s.seqrelid = ANY(%(sequences)s) OR d.objid IS NOT NULL
ORDER BY n.nspname, c.relname
"""

# A partitioned index that is not valid was made ON ONLY its table: the partitions' own indexes are what holds.
_KEYS = """
SELECT c.conrelid::bigint AS relation, coalesce(i.oid::bigint, 0) AS rank, c.conname AS name,
       pg_get_constraintdef(c.oid) AS definition,
       n.nspname AS index_schema, i.relname AS index_name
FROM pg_constraint c
LEFT JOIN pg_class i ON i.oid = c.conindid AND c.contype <> 'c' LEFT JOIN pg_namespace n ON n.oid = i.relnamespace
LEFT JOIN pg_index x ON x.indexrelid = i.oid
WHERE c.conrelid = ANY(%(oids)s) AND c.contype IN ('c', 'p', 'u', 'x')
  AND (i.oid IS NULL OR x.indisvalid OR i.relkind <> 'I')
ORDER BY c.conrelid, c.conname
"""

_INDEXES = """
SELECT x.indrelid::bigint AS relation, x.indexrelid::bigint AS rank, n.nspname AS schema, c.relname AS name,
       x.indisunique AS unique,
       format('CREATE %%sINDEX %%I ON %%s%%I.%%I ', CASE WHEN x.indisunique THEN 'UNIQUE ' ELSE '' END, c.relname,
              CASE WHEN c.relkind = 'I' THEN 'ONLY ' ELSE '' END, n.nspname, t.relname) AS head,
       pg_get_indexdef(x.indexrelid) AS definition
FROM pg_index x
JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class t ON t.oid = x.indrelid
WHERE x.indrelid = ANY(%(oids)s) AND x.indislive AND x.indisready AND (x.indisvalid OR c.relkind <> 'I')
  AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = x.indexrelid AND k.contype IN ('p', 'u', 'x'))
ORDER BY x.indexrelid
"""

_REFERENCES = """
SELECT c.conrelid::bigint AS relation, c.conname AS name, pg_get_constraintdef(c.oid) AS definition,
       c.confrelid::bigint AS parent, n.nspname AS parent_schema, p.relname AS parent_name,
       format('%%I.%%I', n.nspname, p.relname) AS parent_spelled,
       (SELECT array_agg(a.attname::text ORDER BY k.n) FROM unnest(c.conkey) WITH ORDINALITY k(attnum, n)
        JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum) AS columns,
       (SELECT array_agg(a.attname::text ORDER BY k.n) FROM unnest(c.confkey) WITH ORDINALITY k(attnum, n)
        JOIN pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k.attnum) AS parent_columns,
       c.confmatchtype = 'f' AS full, coalesce((to_jsonb(c) ->> 'conperiod')::boolean, false) AS period
FROM pg_constraint c JOIN pg_class p ON p.oid = c.confrelid JOIN pg_namespace n ON n.oid = p.relnamespace
WHERE c.conrelid = ANY(%(oids)s) AND c.contype = 'f' AND c.conparentid = 0
ORDER BY c.oid
"""


def picture(conn: Connection, oids: Sequence[int]) -> Picture:
    """Read the definition of tables, their partitions, and what hangs on them.

    The transaction's search_path must be pg_catalog alone, so that the server writes every other name in full.
    """
    relations = _rows(conn, Relation, _RELATIONS, {"oids": list(oids)})
    of_them = {"oids": [r.oid for r in relations]}
    defaults = _rows(conn, Default, _DEFAULTS, of_them)
    drawn = sorted({s for d in defaults for s in d.sequences})
    return Picture(
        relations,
        defaults,
        _rows(conn, Number, _NUMBERS, {**of_them, "sequences": drawn}),
        _rows(conn, Constraint, _KEYS, of_them),
        _rows(conn, Index, _INDEXES, of_them),
        _rows(conn, Reference, _REFERENCES, of_them),
    )


def _rows(conn: Connection, kind: type[T], question: str, parameters: dict[str, Any]) -> tuple[T, ...]:
    with conn.cursor(row_factory=class_row(kind)) as cursor:
        return tuple(cursor.execute(question, parameters).fetchall())
