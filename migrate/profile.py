"""What the columns of a table hold: counted by DuckDB over rows as a source yields them, whatever their number."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.types as is_

from migrate.core import suggested
from migrate.errors import SourceError
from reports.assessment import ColumnProfile

_TOGETHER = 50  # columns in one query: what DuckDB needs to plan it grows faster than their number


@dataclass(frozen=True, slots=True)
class Held:
    """A column's numbers, and of how many values PostgreSQL would take none for a NUL character that is in them."""

    profile: ColumnProfile
    nuls: int = 0


def profile(schema: pa.Schema, batches: Iterable[pa.RecordBatch], *, exact: bool) -> list[Held]:
    """Each column of the schema, over all rows of these batches. The types of the profiles are DuckDB's.

    `exact`: there are few rows, which are held, and different values are counted; else rows pass once, and these are estimated.
    Raises what the batches do, and SourceError for types that DuckDB cannot count.
    """
    texts = {f"c{i}" for i, field in enumerate(schema) if not _known(field.type)}
    asked = pa.schema(
        [
            pa.field(f"c{i}", pa.string() if f"c{i}" in texts else f.type, metadata=f.metadata)
            for i, f in enumerate(schema)
        ]
    )
    raised: list[BaseException] = []

    def renamed() -> Iterator[pa.RecordBatch]:
        try:
            for batch in batches:
                columns = [
                    c.cast(pa.string()) if name in texts else c
                    for name, c in zip(asked.names, batch.columns, strict=True)
                ]
                yield pa.RecordBatch.from_arrays(columns, schema=asked)
        except BaseException as error:  # DuckDB would tell of it in words of its own
            raised.append(error)
            raise

    with duckdb.connect(config={"threads": 1}) as connection:
        try:
            if not exact:
                passing = pa.RecordBatchReader.from_batches(asked, renamed())
                found = _counted(connection, passing, asked, exact=False)
            else:
                rows = pa.Table.from_batches(renamed(), asked)
                parts = [asked.names[at : at + _TOGETHER] for at in range(0, len(asked), _TOGETHER)]
                found = [
                    each
                    for names in parts
                    for each in _counted(
                        connection, rows.select(names), pa.schema([asked.field(n) for n in names]), exact=True
                    )
                ]
        except (duckdb.Error, RuntimeError) as error:
            if raised:
                raise raised[0] from None
            if "interrupted" in str(error):  # Ctrl-C, as it came while DuckDB was at work
                raise KeyboardInterrupt from error
            said = str(error).splitlines()[0]
            raise SourceError(f"its values cannot be counted: {said}", hint="They can be read all the same.") from error
    return [
        Held(ColumnProfile(field.name, type_, filled, blank, *numbers), nuls)
        for field, (type_, filled, blank, nuls, *numbers) in zip(schema, found, strict=True)
    ]


def _counted(
    connection: duckdb.DuckDBPyConnection, rows: pa.Table | pa.RecordBatchReader, schema: pa.Schema, *, exact: bool
) -> list[tuple[Any, ...]]:
    """Of each column its type and what `_asked` asks."""
    relation = connection.from_arrow(rows)
    types = [str(each) for each in relation.types]
    queries = [_asked(field.name, field.type, exact=exact, json=suggested(field) == "jsonb") for field in schema]
    [values] = relation.aggregate(", ".join(each for several in queries for each in several)).fetchall()
    answers = iter(values)
    return [(type_, *(next(answers) for _ in several)) for type_, several in zip(types, queries, strict=True)]


def _known(type_: pa.DataType) -> bool:
    """Whether DuckDB has the type."""
    return not (is_.is_decimal256(type_) or is_.is_dictionary(type_))


def _asked(column: str, type_: pa.DataType, *, exact: bool, json: bool) -> Sequence[str]:
    """What is asked of a column: filled, blank, with a NUL, different, shortest, longest, least, most.

    A null of JSON is blank, and a NUL is escaped there.
    """
    none = "NULL::BIGINT"
    plain = not is_.is_nested(type_)
    distinct = f"count(DISTINCT {column})" if exact else f"approx_count_distinct({column})"
    counts = [f"count({column})", "0", "0", distinct if plain else none]
    if is_.is_string(type_) or is_.is_large_string(type_):
        of_text = f"trim({column}) = ''", f"contains({column}, chr(0))"
        of_json = f"{column} = 'null'", rf"regexp_matches({column}, '(^|[^\\])(\\\\)*\\u0000')"
        counts[1:3] = (f"count(*) FILTER (WHERE {condition})" for condition in (of_json if json else of_text))
        return [*counts, f"min(length({column}))", f"max(length({column}))", "NULL", "NULL"]
    if is_.is_binary(type_) or is_.is_large_binary(type_) or is_.is_fixed_size_binary(type_):
        return [*counts, f"min(octet_length({column}))", f"max(octet_length({column}))", "NULL", "NULL"]
    if not plain or is_.is_boolean(type_) or is_.is_null(type_):
        return [*counts, none, none, "NULL", "NULL"]
    return [*counts, none, none, f"min({column})::VARCHAR", f"max({column})::VARCHAR"]
