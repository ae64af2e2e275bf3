"""The keys of a table in the project file: columns, references, duplicates, policies."""

from typing import Any

import yaml

from mappings import texts
from mappings.expectkeys import CHECKS, TABLE_EXPECTATIONS
from mappings.nodes import Reader
from mappings.shapes import (
    Key,
    Section,
    Shape,
    boolean,
    choice,
    converted,
    either,
    keys_of,
    many,
    named,
    names,
    number,
    or_mapping,
    refuse,
    text,
    whole,
)
from mappings.sourcekeys import SOURCE_NAMES, TEXTS

_NAME_LIST = names(texts.identifier)
_EXPRESSION = text("an SQL expression", texts.not_empty)

COLUMN = Section(
    "A column",
    "A target column is an SQL expression over the source's columns; where more is to be said, a mapping.",
    (
        Key("value", _EXPRESSION, "The SQL expression.", required=True),
        Key(
            "type",
            text("a PostgreSQL type", texts.not_empty),
            "The PostgreSQL type, for a table that the toolkit makes: `numeric(10,2)`.",
            "from the expression",
        ),
        Key("null", boolean(), "Whether the column may be NULL, for a table that the toolkit makes.", "true"),
    ),
    words="a mapping with `value`",
)

REFERENCE = Section(
    "A reference",
    "A target column that names a row of another table of this project. How that table makes its key is never repeated: "
    "cast, normalisation and the survivors of duplicates all come from there.",
    (
        Key("references", text("a table of this project", texts.plain_name), "The parent's table.", required=True),
        Key(
            "by",
            many(_EXPRESSION, "an SQL expression or a list of them", unique=False),
            "What identifies the parent, as SQL expressions over this table's source: one for each column of the "
            "parent's `key`, in its order.",
            required=True,
        ),
        Key(
            "column",
            text("a column's name", texts.identifier),
            "The parent's target column that is meant.",
            "its primary key",
        ),
        Key(
            "orphans",
            choice("reject", "null", "keep"),
            "What becomes of a row whose parent does not exist: it is rejected, its reference becomes NULL, or it is kept "
            "as it is. Either is counted.",
            "reject",
        ),
        COLUMN.keys[1],
        COLUMN.keys[2],
    ),
    words="a mapping with `references`",
)


def _column_section(node: yaml.Node) -> Shape:
    if not isinstance(node, yaml.MappingNode):
        return _EXPRESSION
    return (REFERENCE if keys_of(node) & {"references", "by", "orphans"} else COLUMN).shape


_COLUMN = either(
    "an SQL expression",
    _column_section,
    _EXPRESSION,
    COLUMN.shape,
    REFERENCE.shape,
    null_hint='For SQL\'s NULL write "NULL" in quotes.',
)

_RULE = many(_EXPRESSION, "a column or a list of columns")
_RULES_WORDS = "a column, or a list of lists of columns"
_RULES_HINT = "[[a, b]] matches rows that agree in both, [[a], [b]] rows that agree in either."


def _read_rules(reader: Reader, node: yaml.Node) -> Any:
    """A list of one level could mean either, and the wrong one would merge rows that are not the same."""
    if isinstance(node, yaml.SequenceNode) and len(node.value) > 1:
        flat = next((each for each in node.value if not isinstance(each, yaml.SequenceNode)), None)
        if flat is not None:
            return refuse(reader, flat, "a list of columns", _RULES_HINT)
    if isinstance(node, yaml.SequenceNode) and node.value and isinstance(node.value[0], yaml.SequenceNode):
        rules = [_RULE.read(reader, each) for each in node.value]
        return None if None in rules else tuple(rules)
    rule = _RULE.read(reader, node)
    return None if rule is None else (rule,)


_RULES = Shape(
    _RULES_WORDS,
    {"anyOf": [_RULE.schema, {"type": "array", "minItems": 1, "items": _RULE.schema}]},
    _read_rules,
)

DEDUPE = Section(
    "Duplicates",
    "Which rows are the same thing, and what of them lives on. Columns are target columns as mapped, or SQL expressions "
    "over the source's. NULL and the empty text match nothing. The target's unique keys match too: of rows that share "
    "one, only one can be loaded.",
    (
        Key(
            "match",
            _RULES,
            "The rules: rows match that agree in all columns of any rule, and what they match in turn: "
            "`[[email], [phone, born]]`.",
            required=True,
        ),
        Key(
            "keep",
            many(text("a rule", texts.not_empty), "a rule or a list of rules", unique=False),
            "Which row survives: `first`, `last`, `latest(x)`, `earliest(x)` (or any other order), `most_complete`. "
            "A list breaks ties; those that are left, the source key breaks, then the order of the source.",
            "first",
        ),
        Key(
            "columns",
            named(text("a rule", texts.not_empty), "a mapping of target column to rule", texts.identifier, least=1),
            "Target columns whose value is chosen for itself, among all rows of the cluster: `filled` (the first that is "
            "not NULL, in the order of `keep`), `latest(x)`, `earliest(x)`, `most_complete` (the longest), `most_frequent`.",
            "the survivor's values",
        ),
    ),
    words="a mapping with `match`",
)

NUL = Section(
    "nul",
    "What a NUL character in a text becomes, where it is neither rejected nor stripped.",
    (Key("replace", text(), "The text to put in its place.", required=True),),
)
_NUL = or_mapping("reject, strip or {replace: text}", choice("reject", "strip"), NUL.shape)

MAX_REJECTS = Section(
    "max_rejects",
    "How many rows of a table may be rejected before the run stops: whichever is reached first.",
    (
        Key("rows", whole(), "A number of rows.", "10000"),
        Key("percent", number("a number from 0 to 100", 0, 100), "A share of the table's rows.", "no limit"),
    ),
)
_BUDGET = "a number of rows, a percentage as in 1%, or {rows: 500, percent: 1}"
_ROWS = whole(_BUDGET)
_PERCENT = converted(
    "a percentage from 0% to 100%", {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? ?%$"}, texts.percent
)


def _budget(node: yaml.Node) -> Shape:
    if isinstance(node, yaml.MappingNode):
        return MAX_REJECTS.shape
    return _PERCENT if isinstance(node, yaml.ScalarNode) and node.value.endswith("%") else _ROWS


_MAX_REJECTS = either(_BUDGET, _budget, _ROWS, _PERCENT, MAX_REJECTS.shape)

_SHARED = (
    Key(
        "mode",
        choice("append", "upsert", "replace"),
        "`append` adds rows; `upsert` overwrites rows with the same key; `replace` empties the table first.",
        "append",
    ),
    Key("nullif", TEXTS, "Texts that mean NULL, in every column.", "none"),
    Key("nul", _NUL, "What becomes of a row with a NUL character: `reject`, `strip` or `{replace: text}`.", "reject"),
    Key(
        "on_bad_row",
        choice("quarantine", "abort"),
        "`quarantine` keeps a bad row, with its reason, and goes on; `abort` stops the run at the first.",
        "quarantine",
    ),
    Key(
        "max_rejects",
        _MAX_REJECTS,
        "How many rejected rows stop the run: `500` (rows only), `1%` (and at most 10,000 rows), or both.",
        "1% and at most 10,000 rows",
    ),
)

TABLE = Section(
    "A table",
    "What one target table is filled from, and how.",
    (
        Key(
            "from",
            many(text("source.table", texts.source_table), "source.table or a list of them"),
            "The source and its table: `crm.customers`. A list of them is read as one table, in this order: with all "
            "their columns, NULL where a source table lacks one, and `_source`, which says where a row is from.",
            required=True,
        ),
        Key(
            "unnest",
            text("the path of an array, as in lines", texts.not_empty),
            "The array in the documents of `from` whose elements are the rows: `lines`, `cart.lines` in an object, `lines/taxes` "
            "in the elements of another. Each has `_position`, and its parent's columns as `_parent.…`; see json.md.",
            "the documents are the rows",
        ),
        Key(
            "to",
            text("table or schema.table", texts.target_table),
            "The target table.",
            "the table's name here, in schema public",
        ),
        Key(
            "key", SOURCE_NAMES, "The source columns that identify a row, for the quarantine and for messages.", "none"
        ),
        Key(
            "columns",
            named(_COLUMN, "a mapping of target column to SQL expression", texts.identifier, least=1),
            "The target columns, each with the SQL expression that makes it.",
            required=True,
        ),
        _SHARED[0],
        Key("on", _NAME_LIST, "With `mode: upsert`, the target columns that tell rows apart.", "the primary key"),
        Key(
            "where",
            text("an SQL condition", texts.not_empty),
            "Which source rows are wanted, as an SQL condition; the others are counted as filtered.",
            "all",
        ),
        Key(
            "primary_key",
            _NAME_LIST,
            "The target columns of the primary key, for a table that the toolkit makes.",
            "none",
        ),
        *_SHARED[1:],
        Key(
            "dedupe",
            DEDUPE.shape,
            "Duplicates among the rows, and which of them live on.",
            "no duplicates are looked for",
        ),
        Key(
            "personal",
            names(texts.identifier, least=0),
            "Target columns with personal data: reports and listings mask them.",
            "none",
        ),
        Key("expect", TABLE_EXPECTATIONS, "What the loaded table is expected to be, checked by `migrate verify`."),
        Key(
            "checks",
            CHECKS,
            "Queries in the target whose rows are findings of `migrate verify`, each by a name that you choose.",
            "none",
        ),
    ),
)

DEFAULTS = Section("Defaults", "What holds for every table that does not say otherwise.", _SHARED)
