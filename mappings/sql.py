"""DuckDB's own parser for us: an expression's text to its syntax tree and back, and safe quoting.

A tree is the JSON that `json_serialize_sql` writes, kept as plain dicts so that it can be changed and written back.
"""

import json
from collections.abc import Iterator
from typing import Any

import duckdb

Node = dict[str, Any]

# What a rewritten call says when it fails, "OPEN rule BETWEEN reason CLOSE", so that it is found again in DuckDB's words.
OPEN, BETWEEN, CLOSE = "\x1e", "\x1f", "\x1d"

BATCH = "·batch"
"""The relation of source rows that expressions are bound to and run on."""

ROW = "·row"
"""Its column of row numbers."""

_HEAD = "SELECT "
_NOWHERE = 2**63


class ParseError(ValueError):
    """Text that DuckDB's parser refuses; `offset` counts characters from the expression's start."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def parse(connection: duckdb.DuckDBPyConnection, text: str) -> Node:
    """The tree of one scalar expression; ParseError if it is anything else."""
    result = _serialize(connection, _HEAD + text)
    if result.get("error"):
        at = int(result.get("position", len(_HEAD))) - len(_HEAD)
        if "SELECT statements" in result["error_message"]:
            raise ParseError("not one SQL expression", 0)
        raise ParseError(str(result["error_message"]), characters(text, at))
    statements = result["statements"]
    node = statements[0]["node"]
    plain = (
        node.get("type") == "SELECT_NODE" and node["from_table"]["type"] == "EMPTY" and len(node["select_list"]) == 1
    )
    empty = plain and not any(
        (node["modifiers"], node["where_clause"], node["group_expressions"], node["having"], node["qualify"])
    )
    if len(statements) != 1 or not empty:
        raise ParseError("not one SQL expression", 0)
    root: Node = node["select_list"][0]
    if root["alias"]:
        raise ParseError(f'ends with a name, "{root["alias"]}", which an expression does not have', 0)
    return root


def write(connection: duckdb.DuckDBPyConnection, node: Node) -> str:
    """The SQL text of a tree."""
    document = {
        "error": False,
        "statements": [
            {
                "node": {
                    "type": "SELECT_NODE",
                    "modifiers": [],
                    "cte_map": {"map": []},
                    "select_list": [node],
                    "from_table": {"type": "EMPTY", "alias": "", "sample": None},
                    "where_clause": None,
                    "group_expressions": [],
                    "group_sets": [],
                    "aggregate_handling": "STANDARD_HANDLING",
                    "having": None,
                    "sample": None,
                    "qualify": None,
                }
            }
        ],
    }
    row = connection.execute("SELECT json_deserialize_sql(?::JSON)", [json.dumps(document)]).fetchone()
    assert row is not None
    return str(row[0])[len(_HEAD) :]


def children(node: Node) -> Iterator[tuple[Any, Any, Node]]:
    """(container, key, child) of every expression directly below a node, so that a child can be replaced."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _expressions(node, key, value)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, dict):
                    yield from _expressions(value, index, item)


def columns_read(node: Node) -> list[str]:
    """The columns that a tree speaks of, in their order, as it spells them."""
    if node["class"] == "COLUMN_REF":
        return [node["column_names"][0]]
    return [name for _, _, child in children(node) for name in columns_read(child)]


def position(node: Node, text: str) -> int:
    """Where a node stands in its expression's text, in characters."""
    at = int(node.get("query_location", 0))
    return characters(text, at - len(_HEAD)) if at < _NOWHERE else 0


def characters(text: str, offset: int) -> int:
    """DuckDB counts bytes; people count characters."""
    return len(text.encode()[: max(offset, 0)].decode(errors="ignore"))


def _expressions(container: Any, key: Any, value: Node) -> Iterator[tuple[Any, Any, Node]]:
    if "class" in value:
        yield container, key, value
    else:
        yield from children(value)


def _serialize(connection: duckdb.DuckDBPyConnection, statement: str) -> Node:
    row = connection.execute("SELECT json_serialize_sql(?)", [statement]).fetchone()
    assert row is not None
    result: Node = json.loads(row[0])
    return result
