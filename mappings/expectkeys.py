"""The keys of what rows are expected to be, of tables and of sources, and of checks in SQL."""

import re
from collections.abc import Sequence
from typing import Any

import yaml

from mappings import texts
from mappings.nodes import Reader, Scalar, is_null, mark_of, pairs, scalar
from mappings.shapes import Key, Record, Section, Shape, choice, many, named, names, or_mapping, refuse, text, whole

OWN = "expect_"
"""What Great Expectations' own names begin with."""

_TEXTS = many(text(), "a text or a list of texts")
_BOUND = text("a number, or a date as in 2024-12-31", texts.not_empty)

ROWS = Section(
    "Expected rows",
    "How many rows a table must have, or how many characters a text.",
    (
        Key("least", whole(), "At least so many.", "0"),
        Key("most", whole(), "At most so many.", "no limit"),
    ),
)
COUNT_WORDS = "a number of rows, or {least: 1, most: 5000}"
COUNT = or_mapping(COUNT_WORDS, whole(COUNT_WORDS), ROWS.shape)
_LENGTH_WORDS = "a number of characters, or {least: 1, most: 20}"

BETWEEN = Section(
    "Bounds",
    "Between what values lie, both included.",
    (
        Key("least", _BOUND, "The least: a number, or a date (`2024-12-31`).", "no limit"),
        Key("most", _BOUND, "The greatest.", "no limit"),
    ),
    words="a mapping with `least`, `most` or both",
)

SEVERITY = Key(
    "severity",
    choice("error", "warning"),
    "`error` ends `migrate verify` with exit code 3 where something is not as expected; `warning` only says so.",
    "error",
)

_COMBINATION = names(texts.not_empty)
_UNIQUE_WORDS = "a column or a list; a list within it is a combination of columns: [email, [first, last]]"


def _read_unique(reader: Reader, node: yaml.Node) -> Any:
    """Each item stands for itself, as in `not_null`."""
    items: Sequence[yaml.Node] = node.value if isinstance(node, yaml.SequenceNode) else [node]
    if not items or isinstance(node, yaml.MappingNode):
        return refuse(reader, node, _UNIQUE_WORDS)
    read = [_COMBINATION.read(reader, each) for each in items]
    return None if None in read else tuple(read)


_UNIQUE = Shape(
    _UNIQUE_WORDS,
    {"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": _COMBINATION.schema}]},
    _read_unique,
)


def _by_column(item: Shape, what: str) -> Shape:
    return named(item, f"a mapping of column to {what}", texts.not_empty, least=1)


OF_ROWS = (
    Key("not_null", names(texts.not_empty), "Columns that are never NULL."),
    Key(
        "unique",
        _UNIQUE,
        "Columns in which no value stands twice; combinations of columns as lists: `[email, [first, last, born]]`. NULL is "
        "no value.",
    ),
    Key(
        "accepted_values",
        _by_column(_TEXTS, "values"),
        "By column, the only values that it may have: `{state: [open, paid]}`.",
    ),
    Key(
        "between",
        _by_column(BETWEEN.shape, "bounds"),
        "By column, between what its values lie: `{total: {least: 0, most: 9999.99}}`.",
    ),
    Key(
        "regex",
        _by_column(text("a regular expression", texts.not_empty), "regular expression"),
        "By column, a regular expression that each value matches somewhere; `^` and `$` make it the whole: "
        "`{email: '@'}`.",
    ),
    Key(
        "length",
        _by_column(or_mapping(_LENGTH_WORDS, whole(_LENGTH_WORDS), ROWS.shape), "length"),
        "By column, how many characters a value has: `{zip: 5, name: {least: 2, most: 80}}`.",
    ),
)
"""What can be expected of tables and of the files of a source alike."""

TABLE_EXPECT = Section(
    "What a loaded table is expected to be",
    "Checked by `migrate verify` in the target, with Great Expectations; see expectations.md. Columns are target columns. "
    "Besides these keys, any expectation by its own name, with its arguments and `severity`, or a list of such: "
    "`expect_column_mean_to_be_between: {column: total, min_value: 10, severity: warning}`.",
    (
        *OF_ROWS,
        Key(
            "foreign",
            _by_column(text("table.column or schema.table.column", texts.foreign), "another table's column"),
            "By column, the column of another table in which each value stands: `{customer: customers.id}`.",
        ),
        Key("rows", COUNT, "How many rows the table has, those included that were there before."),
        SEVERITY,
    ),
)


def _read_table(reader: Reader, node: yaml.Node) -> Any:
    """The fixed keys as a Record; under OWN each expectation by its own name, as (name, arguments)."""
    if not isinstance(node, yaml.MappingNode):
        return refuse(reader, node, TABLE_EXPECT.words)

    def own(key: yaml.Node) -> bool:
        return isinstance(key, yaml.ScalarNode) and key.value.startswith(OWN)

    def part(kept: bool) -> yaml.MappingNode:
        return yaml.MappingNode(
            node.tag,
            [pair for pair in node.value if own(pair[0]) is kept],
            node.start_mark,
            node.end_mark,
            node.flow_style,
        )

    fixed = TABLE_EXPECT.read(reader, part(False))
    found: list[tuple[Scalar, Record]] = []
    for name, value in pairs(reader, part(True)):
        with reader.within(name.value):
            items = value.value if isinstance(value, yaml.SequenceNode) else [value]
            found += [(name, arguments) for each in items if (arguments := _arguments(reader, each)) is not None]
    if fixed is None:
        return None
    if not node.value:
        reader.fault(node, f"{reader.place} expects nothing", "Say what, as in `not_null: [id]`.")
    return Record(fixed.mark, {**fixed.values, OWN: tuple(found)}, fixed.keys)


def _arguments(reader: Reader, node: yaml.Node) -> Record | None:
    """An expectation's arguments, as they are; nothing at all is none of them."""
    if is_null(node):
        return Record(mark_of(node), {}, {})
    if not isinstance(node, yaml.MappingNode):
        refuse(reader, node, "a mapping of its arguments, or a list of such")
        return None
    values: dict[str, Any] = {}
    marks = {}
    for name, value in pairs(reader, node):
        marks[name.value] = mark_of(value)
        with reader.within(name.value):
            # `value_set` holds what columns hold, whose types say what is a number.
            shape = {"severity": SEVERITY.shape, "value_set": _TEXTS}.get(name.value)
            values[name.value] = _value(reader, value) if shape is None else shape.read(reader, value)
    return Record(mark_of(node), values, marks)


def _value(reader: Reader, node: yaml.Node) -> Any:
    """Numbers, truth values and null where they stand plain, as JSON spells them; all else is text."""
    if isinstance(node, yaml.SequenceNode):
        return [_value(reader, each) for each in node.value]
    if isinstance(node, yaml.MappingNode):
        return {name.value: _value(reader, each) for name, each in pairs(reader, node)}
    found = scalar(reader, node)
    if isinstance(node, yaml.ScalarNode) and node.style is None:
        if is_null(node):
            return None
        if node.value in ("true", "false"):
            return node.value == "true"
        if re.fullmatch(r"-?(0|[1-9][0-9]*)", node.value):
            return int(node.value)
        if re.fullmatch(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", node.value):
            return float(node.value)
    return "" if found is None else found.value


_SCHEMA = dict(TABLE_EXPECT.shape.schema) | {"patternProperties": {f"^{OWN}": {"type": ["object", "array", "null"]}}}
TABLE_EXPECTATIONS = Shape("a mapping of what is expected", _SCHEMA, _read_table)

CHECK = Section(
    "A check",
    "A query whose rows are findings: run by `migrate verify` in the target, read-only, for five minutes at most.",
    (
        Key(
            "query", text("an SQL query", texts.not_empty), "The query; its first columns name each row.", required=True
        ),
        SEVERITY,
    ),
    words="a mapping with `query`",
)
_QUERY = text("an SQL query", texts.not_empty)
CHECKS = named(
    or_mapping("an SQL query, or {query, severity}", _QUERY, CHECK.shape),
    "a mapping of name to SQL query",
    texts.plain_name,
    least=1,
)
