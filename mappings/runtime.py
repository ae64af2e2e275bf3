"""A DuckDB connection that knows what mapped expressions may call: one a worker thread, its zone UTC, its rows in order."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mappings.sql import BETWEEN
from migrate.errors import UsageError

DEEPEST = 500
"""Levels of a JSON value, so that whatever reads it again, recursively, can."""

Arrow = Any  # a pa.Array or a pa.ChunkedArray, neither of which mypy can see


class UserFunction(Protocol):
    """A function from the user's Python file. `arguments` and `returns` are DuckDB's type names."""

    @property
    def name(self) -> str: ...
    @property
    def source_text(self) -> str: ...
    @property
    def callable(self) -> Callable[..., Any]: ...
    @property
    def arguments(self) -> Sequence[str]: ...
    @property
    def returns(self) -> str: ...
    @property
    def style(self) -> str: ...


def connect(
    lookups: Mapping[str, Mapping[str, str]], functions: Mapping[str, UserFunction]
) -> duckdb.DuckDBPyConnection:
    """Open it. UsageError if a user's function cannot be registered."""
    connection = duckdb.connect(config={"threads": 1})
    connection.execute("SET TimeZone = 'UTC'")
    # it takes what stands twice inside a TRY out of it, and one bad row then fails its whole batch
    connection.execute("SET disabled_optimizers = 'common_subexpressions'")
    _register(connection, "mend_encoding", _mend, ["VARCHAR"], "VARCHAR")
    _register(connection, "json_fault", _json_faults, ["VARCHAR"], "VARCHAR")
    _register(connection, "refuse", _refuse, ["VARCHAR"], "BOOLEAN")
    _register(connection, "look_up", _looker(lookups), ["VARCHAR", "VARCHAR"], "VARCHAR")
    for name, function in functions.items():
        try:
            types = [duckdb.type(t) for t in function.arguments]
            _register(connection, registered(name), _user(function), types, duckdb.type(function.returns))
        except duckdb.Error as error:
            raise UsageError(f'function "{name}" cannot be registered: {str(error).splitlines()[0]}') from None
    return connection


def registered(name: str) -> str:
    """A user's function under a name that hides none of DuckDB's."""
    return f"user_{name.lower()}"


def _register(
    connection: duckdb.DuckDBPyConnection, name: str, function: Callable[..., Any], arguments: list[Any], returns: Any
) -> None:
    options: dict[str, Any] = {"type": "arrow", "null_handling": "special"}
    connection.create_function(name, function, arguments, returns, **options)


def _refuse(reasons: Arrow) -> pa.Array:
    """Fails for any row at all. (DuckDB's own error() is volatile, and TRY refuses volatile functions.)"""
    if len(reasons):
        raise ValueError(reasons[0].as_py())
    return pa.array([], pa.bool_())


def _mend(texts: Arrow) -> pa.Array:
    """Each distinct text that is not plain ASCII, where nothing can be mended, is mended once."""
    import ftfy  # only mappings that call it pay for it

    whole = _whole(texts)
    strange = pc.invert(pc.fill_null(pc.string_is_ascii(whole), True))
    encoded = whole.filter(strange).dictionary_encode()
    mended = pa.array([ftfy.fix_encoding(t) for t in encoded.dictionary.to_pylist()], pa.string())
    return pc.replace_with_mask(whole, strange, mended.take(encoded.indices))


def _json_faults(texts: Arrow) -> pa.Array:
    """Why PostgreSQL would refuse each JSON text; NULL where it would not."""
    return pa.array([None if t is None else _json_fault(t) for t in texts.to_pylist()], pa.string())


def _json_fault(text: str) -> str | None:
    try:
        value = json.loads(text, parse_constant=_no_constant, parse_float=str, parse_int=str)
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return f"type{BETWEEN}JSON with half of a Unicode surrogate pair"
    except RecursionError:
        return f"type{BETWEEN}JSON nested more than {DEEPEST} levels deep"
    except ValueError:
        return f"type{BETWEEN}not JSON"
    if _depth(value) > DEEPEST:
        return f"type{BETWEEN}JSON nested more than {DEEPEST} levels deep"
    if "\\u0000" in text and _holds_nul(value):
        return f"nul{BETWEEN}contains \\u0000, which PostgreSQL's JSON cannot hold"
    return None


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level := [v for v in level if isinstance(v, dict | list)]:
        depth += 1
        level = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer)]
    return depth


def _no_constant(word: str) -> None:
    raise ValueError(word)


def _holds_nul(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_holds_nul(key) or _holds_nul(item) for key, item in value.items())
    if isinstance(value, list):
        return any(map(_holds_nul, value))
    return isinstance(value, str) and "\0" in value


def _looker(lookups: Mapping[str, Mapping[str, str]]) -> Callable[[Arrow, Arrow], pa.Array]:
    tables = {
        name: (pa.array(entries.keys(), pa.string()), pa.array(entries.values(), pa.string()))
        for name, entries in lookups.items()
    }

    def look_up(table: Arrow, codes: Arrow) -> pa.Array:
        if len(codes) == 0:
            return pa.array([], pa.string())
        keys, values = tables[table[0].as_py()]
        return values.take(pc.index_in(_whole(codes), keys, skip_nulls=True))

    return look_up


def _user(function: UserFunction) -> Callable[..., pa.Array]:
    """The user's function on Arrow arrays; what it returns must have a value for each row."""
    wanted = arrow_type(function.returns)

    def call(*arrays: Arrow) -> pa.Array:
        import pandas as pd  # slow to import, and most mappings have no function of the user's

        whole = [_whole(a) for a in arrays]
        given = [a.to_pandas() for a in whole] if function.style == "pandas" else whole
        result = function.callable(*given)
        if isinstance(result, pa.ChunkedArray):
            result = result.combine_chunks()
        if not isinstance(result, pa.Array | pd.Series | np.ndarray | list):
            raise TypeError(f"{function.name} returned {type(result).__name__}, not a column")
        if len(result) != len(whole[0]):
            raise ValueError(f"{function.name} returned {len(result)} values for {len(whole[0])} rows")
        if isinstance(result, pa.Array):
            return result.cast(wanted)
        return pa.array(result, wanted, from_pandas=True)

    return call


def arrow_type(name: str) -> pa.DataType:
    """The Arrow type in which DuckDB gives values of one of its own types."""
    with duckdb.connect() as connection:
        return connection.sql(f"SELECT CAST(NULL AS {duckdb.type(name)}) AS v").to_arrow_table().schema[0].type


def _whole(array: Arrow) -> pa.Array:
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
