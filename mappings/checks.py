"""CHECK constraints as DuckDB SQL, where it is certain that both databases agree; the rest is left to the server."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import duckdb

from mappings import sql
from mappings.sql import Node, literal
from migrate.core import Check, Column

_COMPARE = {
    "COMPARE_EQUAL": "=",
    "COMPARE_NOTEQUAL": "<>",
    "COMPARE_LESSTHAN": "<",
    "COMPARE_GREATERTHAN": ">",
    "COMPARE_LESSTHANOREQUALTO": "<=",
    "COMPARE_GREATERTHANOREQUALTO": ">=",
}
_KINDS = {
    **dict.fromkeys(("int2", "int4", "int8", "numeric"), "number"),
    **dict.fromkeys(("text", "varchar", "bpchar"), "text"),
    "date": "date",
    "timestamp": "timestamp",
    "bool": "bool",
}
_TEXT_CASTS = {"VARCHAR", "TEXT", "BPCHAR", "CHAR"}
_NUMBER_CASTS = {"DECIMAL", "NUMERIC"}


class _Unknown(Exception):
    """Something whose meaning in PostgreSQL is not certain to be DuckDB's."""


@dataclass(frozen=True, slots=True)
class _Term:
    sql: str
    kind: str  # number, text, date, timestamp, bool; "" for NULL


def screen(
    connection: duckdb.DuckDBPyConnection, check: Check, columns: Mapping[str, Column], value: Callable[[str], str]
) -> str | None:
    """SQL that is true where a row breaks the constraint (NULL passes, as in SQL); None if that is the server's to say.

    `columns` are those that are written, `value` gives the SQL of a column's value.
    """
    try:
        tree = sql.parse(connection, check.expression)
        translated = _Translation(columns, value, check.column).of(tree)
    except (sql.ParseError, _Unknown):
        return None
    return f"NOT ({translated.sql})" if translated.kind == "bool" else None


@dataclass(frozen=True, slots=True)
class _Translation:
    columns: Mapping[str, Column]
    value: Callable[[str], str]
    domain: str | None

    def of(self, node: Node) -> _Term:
        kind = node["class"]
        if kind == "COLUMN_REF":
            return self._column(node)
        if kind == "CONSTANT":
            return _constant(node)
        if kind == "CAST":
            return self._cast(node)
        if kind == "COMPARISON":
            return self._compare(self.of(node["left"]), _COMPARE.get(node["type"], ""), self.of(node["right"]))
        if kind == "CONJUNCTION":
            parts = [self._bool(child) for child in node["children"]]
            return _Term("(" + (" AND " if node["type"] == "CONJUNCTION_AND" else " OR ").join(parts) + ")", "bool")
        if kind == "BETWEEN":
            low = self._compare(self.of(node["input"]), ">=", self.of(node["lower"]))
            high = self._compare(self.of(node["input"]), "<=", self.of(node["upper"]))
            return _Term(f"({low.sql} AND {high.sql})", "bool")
        if kind == "OPERATOR":
            return self._operator(node)
        if kind == "FUNCTION" and node["function_name"] in ("length", "char_length", "character_length"):
            (argument,) = (self.of(a["expression"]) for a in node["arguments"])
            if argument.kind == "text":
                return _Term(f"length({argument.sql})", "number")
        if (
            kind == "SUBQUERY"
            and node["subquery_type"] == "ANY"
            and node["comparison_type"] in ("COMPARE_EQUAL", "EQUAL")
        ):
            return self._any(node)
        raise _Unknown

    def _bool(self, node: Node) -> str:
        term = self.of(node)
        if term.kind != "bool":
            raise _Unknown
        return term.sql

    def _column(self, node: Node) -> _Term:
        (name,) = node["column_names"] if len(node["column_names"]) == 1 else ("",)
        if name.lower() == "value" and self.domain is not None:
            name = self.domain
        column = self.columns.get(name)
        if column is None:
            raise _Unknown
        kind = "text" if column.labels else _KINDS.get(column.base, "")
        if not kind or (column.base == "numeric" and not column.modifier):
            raise _Unknown
        value = self.value(name)
        return _Term(f"rtrim({value}, ' ')" if column.base == "bpchar" else value, kind)

    def _cast(self, node: Node) -> _Term:
        child = node["child"]
        wanted = str(node["type_expr"]["type_name"]).upper()
        plain = not node["type_expr"]["children"]
        term = self.of(child)
        if child["class"] == "CONSTANT" and term.kind == "text":
            text = child["literal"]["text"]
            if wanted in ("DATE", "TIMESTAMP") and re.fullmatch(r"\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d)?", text):
                return _Term(f"{wanted} {literal(text)}", wanted.lower())
            if wanted in _NUMBER_CASTS | {"INTEGER", "BIGINT", "SMALLINT"} and re.fullmatch(r"-?\d+(\.\d+)?", text):
                return _Term(text, "number")
        if plain and term.kind == "text" and wanted in _TEXT_CASTS:
            return term
        if plain and term.kind == "number" and wanted in _NUMBER_CASTS:
            return term
        raise _Unknown

    def _compare(self, left: _Term, operator: str, right: _Term) -> _Term:
        kinds = {left.kind, right.kind}
        dates = kinds <= {"date", "timestamp"}
        if not operator or not (len(kinds) == 1 or dates) or kinds == {""}:
            raise _Unknown
        if kinds == {"text"} and operator not in ("=", "<>"):
            raise _Unknown  # its order depends on the collation
        return _Term(f"({left.sql} {operator} {right.sql})", "bool")

    def _operator(self, node: Node) -> _Term:
        kind, below = node["type"], node["children"]
        if kind == "OPERATOR_NOT":
            return _Term(f"(NOT {self._bool(below[0])})", "bool")
        if kind in ("OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL"):
            return _Term(
                f"({self.of(below[0]).sql} {'IS NULL' if kind.endswith('IS_NULL') else 'IS NOT NULL'})", "bool"
            )
        if kind in ("COMPARE_IN", "COMPARE_NOT_IN"):
            found = self._among(self.of(below[0]), below[1:])
            return found if kind == "COMPARE_IN" else _Term(f"(NOT {found.sql})", "bool")
        raise _Unknown

    def _any(self, node: Node) -> _Term:
        """x = ANY (ARRAY[…]), which is how pg_get_expr writes IN."""
        array = node["subquery"]["node"]["select_list"][0]["arguments"][0]["expression"]
        while array["class"] == "CAST":
            array = array["child"]
        if array["type"] != "ARRAY_CONSTRUCTOR":
            raise _Unknown
        return self._among(self.of(node["child"]), array["children"])

    def _among(self, term: _Term, members: list[Node]) -> _Term:
        tests = [self._compare(term, "=", self.of(member)).sql for member in members]
        return _Term("(" + " OR ".join(tests) + ")", "bool")


def _constant(node: Node) -> _Term:
    kind, text = node["literal"].get("kind"), str(node["literal"].get("text", ""))
    if kind == "STRING":
        return _Term(literal(text.rstrip(" ") if text.strip(" ") else text), "text")
    if kind in ("INTEGER", "NUMERIC") and re.fullmatch(r"-?\d+(\.\d+)?", text):
        return _Term(text, "number")
    if kind in ("BOOLEAN", "TRUE", "FALSE"):
        return _Term("true" if "TRUE" in (kind, text.upper()) else "false", "bool")
    raise _Unknown
