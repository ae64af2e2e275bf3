"""What the columns of a table hold: counted by DuckDB over rows as a source yields them, whatever their number."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import pyarrow.types as is_

from reports.assessment import ColumnProfile


@dataclass(frozen=True, slots=True)
class Held:
    """A column's numbers, and of how many values PostgreSQL would take none for a NUL character that is in them."""

    profile: ColumnProfile
    nuls: int = 0


def profile(schema: pa.Schema, batches: Iterable[pa.RecordBatch], *, exact: bool) -> list[Held]:
    """Each column of the schema, over all rows of these batches. `exact`: different values are counted, else estimated.

    The types of the profiles are DuckDB's. Raises what the batches do.
    """
    texts = [i for i, field in enumerate(schema) if not _known(field.type)]
    asked = pa.schema([pa.field(f"c{i}", pa.string() if i in texts else f.type) for i, f in enumerate(schema)])
    raised: list[BaseException] = []

    def renamed() -> Iterator[pa.RecordBatch]:
        try:
            for batch in batches:
                columns = [c.cast(pa.string()) if i in texts else c for i, c in enumerate(batch.columns)]
                yield pa.RecordBatch.from_arrays(columns, schema=asked)
        except BaseException as error:  # DuckDB would tell of it in words of its own
            raised.append(error)
            raise

    with duckdb.connect(config={"threads": 1}) as connection:
        found = [_asked(f"c{i}", field.type, exact=exact) for i, field in enumerate(asked)]
        try:
            rows = connection.from_arrow(pa.RecordBatchReader.from_batches(asked, renamed()))
            types = [str(each) for each in rows.types]
            [values] = rows.aggregate(", ".join(each for several in found for each in several)).fetchall()
        except (duckdb.Error, RuntimeError) as error:
            if raised:
                raise raised[0] from None
            if "interrupted" in str(error):  # Ctrl-C, as it came while DuckDB was at work
                raise KeyboardInterrupt from error
            raise
    answers = iter(values)
    held = []
    for field, type_, several in zip(schema, types, found, strict=True):
        filled, blank, nuls, distinct, shortest, longest, least, most = (next(answers) for _ in several)
        numbers = ColumnProfile(field.name, type_, filled, blank, distinct, shortest, longest, least, most)
        held.append(Held(numbers, nuls))
    return held


def _known(type_: pa.DataType) -> bool:
    """Whether DuckDB has the type."""
    return not (is_.is_decimal256(type_) or is_.is_dictionary(type_))


def _asked(column: str, type_: pa.DataType, *, exact: bool) -> Sequence[str]:
    """What is asked of a column: filled, blank, with a NUL, different, shortest, longest, least, most."""
    none = "NULL::BIGINT"
    plain = not is_.is_nested(type_)
    distinct = f"count(DISTINCT {column})" if exact else f"approx_count_distinct({column})"
    counts = [f"count({column})", "0", "0", distinct if plain else none]
    if is_.is_string(type_) or is_.is_large_string(type_):
        counts[1:3] = (
            f"count(*) FILTER (WHERE {condition})"
            for condition in (f"trim({column}) = ''", f"contains({column}, chr(0))")
        )
        return [*counts, f"min(length({column}))", f"max(length({column}))", "NULL", "NULL"]
    if is_.is_binary(type_) or is_.is_large_binary(type_) or is_.is_fixed_size_binary(type_):
        return [*counts, f"min(octet_length({column}))", f"max(octet_length({column}))", "NULL", "NULL"]
    if not plain or is_.is_boolean(type_) or is_.is_null(type_):
        return [*counts, none, none, "NULL", "NULL"]
    return [*counts, none, none, f"min({column})::VARCHAR", f"max({column})::VARCHAR"]
