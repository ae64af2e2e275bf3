"""One SQL expression of the project file: analysed with DuckDB's parser, rewritten to be exact, bound to the source.

The rewriting replaces named functions by SQL, casts of text by exact ones, and divisions by ones that fail at zero, so that
what is left either gives the right value or throws.
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import duckdb

from mappings import sql
from mappings.convert import convert, listed, offset_text
from mappings.faults import not_there, suggest
from mappings.functions import FUNCTIONS, Argument, Call, CallError, Once, Rendered, Scope
from mappings.runtime import UserFunction, registered
from mappings.sql import BATCH, CLOSE, OPEN, ROW, Node, identifier, literal
from migrate.core import Column


class ExpressionError(ValueError):
    """What is wrong in an expression: (offset in characters, message, hint) of each fault."""

    def __init__(self, faults: list[tuple[int, str, str]]) -> None:
        super().__init__("; ".join(message for _, message, _ in faults))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression as SQL over the source's columns.

    `sql` throws where the value cannot be computed. Where `quiet` is given it is NULL there instead, `broken` says so of its
    value {v}, and `reason` why; both may use the `lets`, which are computed before. `total`: it cannot fail at all.
    """

    text: str
    sql: str
    type: str
    reads: tuple[str, ...]
    column: str | None = None
    total: bool = False
    lets: tuple[tuple[str, str], ...] = ()
    quiet: str | None = None
    given: str = "false"
    reason: str = "NULL"
    functions: tuple[str, ...] = ()


_CLASSES = {
    "SUBQUERY": "a subquery",
    "WINDOW": "a window function",
    "STAR": "a star",
    "PARAMETER": "a parameter",
    "POSITIONAL_REFERENCE": "a positional reference",
    "DEFAULT": "DEFAULT",
}
_PLAIN = {"COLUMN_REF", "CONSTANT", "FUNCTION", "CAST", "CASE", "COMPARISON", "CONJUNCTION", "OPERATOR", "BETWEEN"}
_PLAIN |= {"LAMBDA", "LAMBDA_REF", "TYPE"}
_CLOCKS = {"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp", "today"}
_CLOCKS |= {"current_user", "session_user", "user", "current_role", "current_catalog", "current_schema"}
_FORBIDDEN = re.compile(
    r"(pg_|has_|inet_|current_|__|txid_|get_block|col_desc|obj_desc|shobj_|json_(de)?serialize|json_execute|format_pg)"
    r"|(ago|version|in_search_path|hive_partition_component|index_key|stats|alias|write_log|getvariable|getenv|sleep_ms)$"
    r"|(generate_subscripts|create_sort_key|is_histogram_other_bin|parse_duckdb_log_message|vector_type|combine|finalize)$"
)
# cannot fail, whatever the text
# DuckDB gives infinity for some of these at zero, and NULL for others if the zero is a constant
_DIVISIONS = ("/", "//", "%", "divide", "mod", "fdiv", "fmod")
_SAFE_NAMES = """
    lower upper lcase ucase trim ltrim rtrim replace nullif if coalesce concat concat_ws length len char_length strlen
    starts_with ends_with prefix suffix contains split_part reverse translate strip_accents left right substr substring
    || ~~ !~~ ~~* !~~* string_split md5 sha256 list_value struct_pack json_object ascii bit_length octet_length
"""
_SAFE = set(_SAFE_NAMES.split())
_SAFE_OPERATORS = {"OPERATOR_NOT", "OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL", "OPERATOR_COALESCE", "COMPARE_IN"}
_SAFE_OPERATORS |= {"COMPARE_NOT_IN", "OPERATOR_NULLIF"}
_NUMBERS = re.compile(r"U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|DECIMAL|FLOAT|DOUBLE|BIGNUM|INTEGER_LITERAL")
_CAST_BASES = {
    "SMALLINT": "int2",
    "INTEGER": "int4",
    "BIGINT": "int8",
    "FLOAT": "float4",
    "DOUBLE": "float8",
    "DATE": "date",
    "TIME": "time",
    "TIMESTAMP": "timestamp",
    "TIMESTAMP WITH TIME ZONE": "timestamptz",
    "BOOLEAN": "bool",
}


_WHOLE = (38, 0)  # stands for the integers that are no PostgreSQL types


@functools.cache
def catalogue() -> Mapping[str, tuple[str, bool]]:
    """DuckDB's functions: name → (scalar, aggregate, table …; whether the same arguments always give the same)."""
    with duckdb.connect() as connection:
        rows = connection.execute(
            "SELECT lower(function_name), min(function_type), "
            "bool_and(coalesce(stability, 'CONSISTENT') = 'CONSISTENT') "
            "FROM duckdb_functions() WHERE function_type IN ('scalar', 'macro', 'aggregate', 'table', 'table_macro') "
            "GROUP BY ALL ORDER BY 1"
        ).fetchall()
    kinds: dict[str, tuple[str, bool]] = {}
    scalars = {name for name, kind, _ in rows if kind in ("scalar", "macro")}
    for name, kind, stable in rows:
        kinds[name] = ("scalar" if name in scalars else kind, bool(stable))
    return kinds


def throwing(reason: str, value: str) -> str:
    """SQL of the type of `value` that fails with a reason.

    The reason depends on the row, or it would be computed, and fail, before any row is read; and the value is named, or the
    optimizer would see that nothing else than NULL can come of it, and drop the failure.
    """
    message = f"concat({literal(OPEN)}, {reason}, {literal(CLOSE)}, left(CAST({identifier(ROW)} AS VARCHAR), 0))"
    return f"CASE WHEN refuse({message}) THEN {value} END"


def twin(name: str, known: str, columns: Sequence[str]) -> bool:
    """Whether a name means another column than `known`, which is what DuckDB takes for it: case tells no columns apart there."""
    return name != known and sum(column.lower() == name.lower() for column in columns) > 1


def unlike(name: str, known: str) -> tuple[str, str]:
    """What is wrong with such a name, and what to do."""
    return (
        f'column "{name}" cannot be told from "{known}", for their names differ in case only',
        "Read a view of the source that calls it otherwise, or leave it out.",
    )


@dataclass
class Compiler:
    """Compiles the expressions of one table against its source's columns, on a connection that has BATCH, empty."""

    connection: duckdb.DuckDBPyConnection
    columns: tuple[str, ...]
    scope: Scope
    functions: Mapping[str, UserFunction]
    _names: dict[str, str] = field(init=False)
    _lets: int = 0

    def __post_init__(self) -> None:
        self._names = {name.lower(): name for name in reversed(self.columns)}

    def _reserved(self, text: str) -> str:
        """What to do about a text that does not parse: a column's name may be one of SQL's own words, or not plain."""
        words = {word.lower() for word in re.findall(r"\w+", text)}
        for name in self.columns:
            if name.lower() in words and not _parses(self.connection, name):
                return f"{name} is a word of SQL's own: write '{identifier(name)}', with both quotes."
            if name in text and not re.fullmatch(r"\w+", name):
                return f"{name} is not a plain word: write '{identifier(name)}', with both quotes."
        return ""

    def compile(self, text: str) -> Expression:
        """ExpressionError lists all faults of the text."""
        try:
            root = sql.parse(self.connection, _named_table(text))
        except sql.ParseError as error:
            raise ExpressionError([(error.offset, error.message, self._reserved(text))]) from None
        work = _Work(self, text, root)
        work.check(root, frozenset())
        if work.faults:
            raise ExpressionError(work.faults)
        column = self._names.get(root["column_names"][0].lower()) if _bare(root) else None
        holder = {"root": root}
        rendered, total, lets = work.root(holder)
        if work.faults:
            raise ExpressionError(work.faults)
        strict = sql.write(self.connection, holder["root"])
        try:
            kind = self.bind(strict)
            rows = identifier(BATCH) if work.reads else f"(SELECT 0 AS {identifier(ROW)})"
            self.connection.execute(f"SELECT {strict} FROM {rows}").fetchall()
        except duckdb.Error as error:
            raise ExpressionError([(0, plain(str(error)), "")]) from None
        made = Expression(
            text, strict, kind, tuple(sorted(work.reads)), column, total, functions=tuple(sorted(work.called))
        )
        if rendered is None:
            return made
        return Expression(
            text,
            strict,
            kind,
            made.reads,
            column,
            False,
            tuple(lets),
            f"CAST({rendered.value} AS {kind})" if kind == '"NULL"' else rendered.value,
            rendered.given,
            rendered.reason,
            made.functions,
        )

    def bind(self, expression: str) -> str:
        """The DuckDB type of an expression; duckdb.Error if it has none."""
        row = self.connection.execute(f"DESCRIBE SELECT {expression} AS v FROM {identifier(BATCH)}").fetchone()
        assert row is not None
        return str(row[1])

    def let(self, expression: str) -> tuple[str, str]:
        self._lets += 1
        return f"·a{self._lets}", expression


@dataclass
class _Work:
    """One expression in the making."""

    compiler: Compiler
    text: str
    tree: Node
    faults: list[tuple[int, str, str]] = field(default_factory=list)
    reads: set[str] = field(default_factory=set)
    called: set[str] = field(default_factory=set)

    def fault(self, node: Node, message: str, hint: str = "") -> None:
        found = (sql.position(node, self.text), message, hint)
        if found not in self.faults:
            self.faults.append(found)

    # ------------------------------------------------------------------------------------------------------- analysis

    def check(self, node: Node, bound: frozenset[str]) -> None:
        """Collect what is read and what is wrong; `bound` are the names that lambdas around have bound."""
        kind = node["class"]
        if kind in _CLASSES:
            return self.fault(node, f"{_CLASSES[kind]} cannot be used: one source row gives one target row")
        if kind not in _PLAIN and kind != "COLLATE":
            return self.fault(node, f"{kind.lower()} cannot be used in a mapping")
        if kind == "COLUMN_REF":
            return self._check_column(node, bound)
        if kind == "FUNCTION":
            self._check_function(node)
        if kind == "LAMBDA":
            bound |= {n.lower() for n in _parameters(node["lhs"])}
            return self.check(node["expr"], bound)
        for _, _, child in sql.children(node):
            if child["class"] != "TYPE":
                self.check(child, bound)
        return None

    def _check_column(self, node: Node, bound: frozenset[str]) -> None:
        first, *rest = node["column_names"]
        if first.lower() in bound:
            return
        known = self.compiler._names.get(first.lower())
        if known is not None:
            if twin(first, known, self.compiler.columns):
                self.fault(node, *unlike(first, known))
            self.reads.add(known)
        elif first.lower() in _CLOCKS and not rest:
            self.fault(node, f"{first} differs from run to run: a mapping's result must not", "Write the value itself.")
        else:
            self.fault(node, not_there(first, self.compiler.columns))

    def _check_function(self, node: Node) -> None:
        name = node["function_name"].lower()
        if node.get("filter") or node.get("distinct") or node["order_bys"]["orders"]:
            return self.fault(node, "aggregates cannot be used: one source row gives one target row")
        if name in FUNCTIONS or name in self.compiler.functions:
            self.called.add(name)
            return None
        known = catalogue().get(name)
        if name == "unnest":
            return self.fault(node, "unnest cannot be used: one source row gives one target row")
        if known is None:
            names = [*FUNCTIONS, *self.compiler.functions, *(n for n, (k, _) in catalogue().items() if k == "scalar")]
            return self.fault(node, f'there is no function "{node["function_name"]}".{suggest(name, names)}')
        kind, stable = known
        if kind == "aggregate":
            return self.fault(node, f"{name} is an aggregate: one source row gives one target row")
        if kind != "scalar" or _FORBIDDEN.match(name):
            return self.fault(node, f"{name} cannot be used in a mapping: it reads what is not in the source row")
        if not stable or (name == "age" and len(_arguments(node)) == 1):
            return self.fault(node, f"{name} differs from run to run: a mapping's result must not")
        return None

    # ------------------------------------------------------------------------------------------------------ rewriting

    def root(self, holder: dict[str, Node]) -> tuple[Rendered | None, bool, list[tuple[str, str]]]:
        """Rewrite the whole; a call of ours at the top whose arguments cannot fail also gets a form that does not throw."""
        node = holder["root"]
        self._below(node, False)
        if self.faults:
            return None, False, []
        safe = all(_total(child) for _, _, child in sql.children(node) if child["class"] != "TYPE")
        lets: list[tuple[str, str]] = []
        quiet: Rendered | None = None
        if safe:
            quiet = self._render(node, False, lets)
        total = _total(node) and quiet is None
        strict = self._render(node, False, None)
        if strict is not None:
            holder["root"] = self._strict(strict)
            if strict.given == "false" and safe:
                return None, True, []
        else:
            self._replace(holder, "root", node, False)
        return quiet, total, lets

    def _below(self, node: Node, inside: bool) -> None:
        for container, key, child in list(sql.children(node)):
            if child["class"] == "TYPE":
                continue
            self._below(child, inside or node["class"] == "LAMBDA")
            if not self.faults:
                self._replace(container, key, child, inside or node["class"] == "LAMBDA")

    def _replace(self, container: Any, key: Any, node: Node, inside: bool) -> None:
        rendered = self._render(node, inside, None)
        if rendered is not None:
            alias = node.get("alias", "")
            container[key] = self._strict(rendered)
            container[key]["alias"] = alias
        elif (
            node["class"] in ("COMPARISON", "BETWEEN")
            or node["type"] in ("COMPARE_IN", "COMPARE_NOT_IN")
            or _compares(node)
        ):
            self._check_comparison(node, inside)
        elif node["class"] == "FUNCTION" and node["function_name"] in _DIVISIONS and not _nonzero(node):
            right = self._write(_arguments(node)[1])
            whole = self._write(node)
            reason = literal("expression" + sql.BETWEEN + "division by zero")
            guarded = f"CASE WHEN ({right}) = 0 THEN {throwing(reason, whole)} ELSE {whole} END"
            container[key] = sql.parse(self.compiler.connection, guarded)

    def _strict(self, rendered: Rendered) -> Node:
        text = rendered.value
        if rendered.given != "false":
            failing = throwing(rendered.reason, rendered.value)
            text = f"CASE WHEN {rendered.given} THEN coalesce({rendered.value}, {failing}) END"
        return sql.parse(self.compiler.connection, text)

    def _render(self, node: Node, inside: bool, lets: list[tuple[str, str]] | None) -> Rendered | None:
        """A call of a named function, or a cast of text, as SQL; None for anything else. Its children are rewritten."""
        if node["class"] == "CAST" and not node["try_cast"]:
            return self._render_cast(node, inside, lets)
        if node["class"] != "FUNCTION":
            return None
        name = node["function_name"].lower()
        if name in self.compiler.functions:
            node["function_name"] = registered(name)
            node["qualified_name"] = {"path": [registered(name)]}
            return None
        function = FUNCTIONS.get(name)
        if function is None:
            return None
        named: dict[str, Argument] = {}
        plain_arguments: list[Argument] = []
        for given in node["arguments"]:
            made = self._argument(given["expression"], inside, lets)
            label = given["name"].lower().replace("tabl_", "table")
            if not label:
                plain_arguments.append(made)
            elif label in function.options:
                named[label] = made
            else:
                self.fault(node, f"{name} has no option {given['name']!r}.{suggest(label, function.options)}")
                return None
        least, most = function.arity
        if len(plain_arguments) < least or (most is not None and len(plain_arguments) > most):
            self.fault(node, f"{name} is used as {function.signature}")
            return None
        try:
            rendered = function.render(Call(tuple(plain_arguments), named, self.compiler.scope, self._once(lets)))
        except CallError as error:
            self.fault(node, f"{name}: {error}")
            return None
        self.reads.update(rendered.reads)
        return rendered

    def _once(self, lets: list[tuple[str, str]] | None) -> Once:
        def once(value: str, body: Callable[[str], str]) -> str:
            if lets is None:
                return f"list_transform([{value}], lambda t: {body('t')})[1]"
            let = self.compiler.let(value)
            lets.append(let)
            return body(identifier(let[0]))

        return once

    def _render_cast(self, node: Node, inside: bool, lets: list[tuple[str, str]] | None) -> Rendered | None:
        child = node["child"]
        if child["class"] == "CONSTANT":
            return None
        wanted = self._bound(f"CAST(NULL AS {self._type(node)})", node)
        if wanted is None:
            return None
        kind = "" if inside else self._kind(child)
        if re.search(r"\[|\(.* ", wanted) and not wanted.startswith("VARCHAR["):
            item = _cast_column(wanted.removesuffix("[]"))
            if kind != "VARCHAR[]" or item is None or item.modifier == _WHOLE:
                if inside or "VARCHAR" in kind or kind == "JSON":
                    hint = "Cast its elements: list_transform(split(x, ','), lambda e: CAST(e AS INTEGER))."
                    self.fault(node, f"a cast to {wanted} reads text as it sees fit, and may round it", hint)
                return None
            made = listed("VARCHAR[]", replace(item, base=f"_{item.base}", type=wanted), None)
        else:
            if not inside and kind not in ("VARCHAR", "JSON"):
                return None
            column = _cast_column(wanted)
            if column is None:
                return None
            made = offset_text(None) if column.base == "timestamptz" else convert("VARCHAR", column)
        if isinstance(made, str):
            return None
        x = self._argument(child, inside, lets)
        texts = {"VARCHAR": x.sql, "VARCHAR[]": x.sql, "JSON": f"json_extract_string({x.sql}, '$')"}
        text = texts.get(x.type, f"CAST({x.sql} AS VARCHAR)")

        def exact(c: str) -> str:
            value = made.of(c)
            return (
                f"CASE WHEN coalesce({made.failing(c, value)}, false) THEN NULL ELSE TRY_CAST({value} AS {wanted}) END"
            )

        def why(c: str) -> str:
            return made.why(c, made.of(c))

        if x.column is not None or lets is not None:
            return Rendered(exact(text), f"{text} IS NOT NULL", why(text))
        once = self._once(None)
        return Rendered(once(text, exact), f"{text} IS NOT NULL", once(text, why))

    def _argument(self, node: Node, inside: bool, lets: list[tuple[str, str]] | None) -> Argument:
        written = self._write(node)
        if node["class"] == "CONSTANT" and node["literal"].get("kind") == "STRING":
            return Argument(written, "VARCHAR", constant=node["literal"]["text"])
        kind = "" if inside else self._kind(node)
        column = self.compiler._names.get(node["column_names"][0].lower()) if _bare(node) else None
        if (
            lets is not None
            and column is None
            and node["class"] != "CONSTANT"
            and node.get("function_name") != "list_value"
        ):
            name, _ = let = self.compiler.let(written)
            lets.append(let)
            return Argument(identifier(name), kind)
        return Argument(written, kind, column=column)

    def _check_comparison(self, node: Node, inside: bool) -> None:
        """Text beside a number: DuckDB would cast the text as it sees fit, so the mapping must say what is meant."""
        if inside:
            return
        sides = [child for _, _, child in sql.children(node)]
        kinds = [self._kind(side) for side in sides]
        texts = [s for s, k in zip(sides, kinds, strict=True) if k == "VARCHAR" and s["class"] != "CONSTANT"]
        others = [k for k in kinds if k not in ("VARCHAR", '"NULL"', "")]
        if texts and any(map(_NUMBERS.match, others)):
            written = self._write(texts[0])
            self.fault(
                node,
                "compares text with a number",
                f"Say how to read the text: CAST({written} AS DECIMAL(18,4)) or CAST({written} AS INTEGER); or quote the number.",
            )

    def _kind(self, node: Node) -> str:
        return self._bound(self._write(node), node) or ""

    def _bound(self, expression: str, node: Node) -> str | None:
        try:
            return self.compiler.bind(expression)
        except duckdb.Error as error:
            self.fault(node, plain(str(error)))
            return None

    def _write(self, node: Node) -> str:
        return sql.write(self.compiler.connection, node)

    def _type(self, node: Node) -> str:
        cast = {
            **node,
            "child": {"class": "CONSTANT", "type": "VALUE_CONSTANT", "alias": "", "literal": {"kind": "NULL"}},
        }
        written = self._write({**cast, "child": node["child"]})
        return written[len("CAST(" + self._write(node["child"]) + " AS ") : -1]


def _parses(connection: duckdb.DuckDBPyConnection, text: str) -> bool:
    try:
        sql.parse(connection, text)
    except sql.ParseError:
        return False
    return True


def plain(message: str) -> str:
    """DuckDB's message without its class, its copy of the statement and its stack; ours where one was thrown."""
    if found := re.search(f"{OPEN}(.*?){CLOSE}", message, re.DOTALL):
        return found[1]
    first = re.split(r"\n\s*\nLINE \d|\n\s*Candidate|\nCandidate|, at position \d", message)[0]
    first = re.sub(r"^(\w+ )*(Error|Exception): ", "", first.strip())
    first = re.sub(r"^Python exception occurred while executing the UDF: (\w+: )?", "", first)
    first = re.sub(r" when casting from source column .*", "", first, flags=re.DOTALL)
    first = re.sub(r"You might need to add explicit type casts\.?|\s*Use TRY\(.*", "", first, flags=re.DOTALL)
    return " ".join(first.replace("INTEGER_LITERAL", "INTEGER").split()).rstrip(".")


def _cast_column(wanted: str) -> Column | None:
    """The column whose exact conversion from text is that of a cast to a DuckDB type; None where any text will do."""
    if found := re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", wanted):
        return Column("", wanted, "numeric", (int(found[1]), int(found[2])))
    if wanted in _CAST_BASES:
        return Column("", wanted, _CAST_BASES[wanted])
    if wanted.endswith(("INT", "INTEGER")):
        return Column("", wanted, "numeric", _WHOLE)
    return None


def _bare(node: Node) -> bool:
    return node["class"] == "COLUMN_REF" and len(node["column_names"]) == 1


def _arguments(node: Node) -> list[Node]:
    return [a["expression"] for a in node["arguments"]]


def _compares(node: Node) -> bool:
    return node["class"] == "FUNCTION" and str(node["function_name"]).lower() == "nullif"


def _nonzero(node: Node) -> bool:
    right = _arguments(node)[-1]
    return right["class"] == "CONSTANT" and bool(re.search("[1-9]", str(right["literal"].get("text", "0"))))


def _parameters(node: Node) -> list[str]:
    """The names that a lambda binds: one, or a row of them."""
    if node["class"] == "COLUMN_REF":
        return [str(node["column_names"][0])]
    return [name for _, _, child in sql.children(node) for name in _parameters(child)]


def _total(node: Node) -> bool:
    kind = node["class"]
    below = [child for _, _, child in sql.children(node) if child["class"] != "TYPE"]
    if kind in ("COLUMN_REF", "CONSTANT"):
        return kind == "CONSTANT" or len(node["column_names"]) == 1
    if kind == "FUNCTION":
        return node["function_name"].lower() in _SAFE and all(map(_total, below))
    if kind == "OPERATOR":
        return node["type"] in _SAFE_OPERATORS and all(map(_total, below))
    if kind == "CAST":
        return bool(node["try_cast"]) and all(map(_total, below))
    return kind in ("CASE", "COMPARISON", "CONJUNCTION", "BETWEEN") and all(map(_total, below))


def _named_table(text: str) -> str:
    """`table :=` with a word that the parser lets name an argument; as long, so that places stay what they are."""
    written = text.encode()  # the lexer counts bytes
    for at, kind in duckdb.tokenize(text):
        if kind == duckdb.token_type.keyword and re.match(rb"(?i)table\s*:=", written[at:]):
            written = written[:at] + b"tabl_" + written[at + 5 :]
    return written.decode()
