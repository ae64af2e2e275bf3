"""Loads a CSV file with dlt, the way its documentation calls fastest: Arrow tables, parquet files, ADBC ingest.

    python load_with_dlt.py FILE.csv POSTGRES_URL SCHEMA TABLE column=type …
    python load_with_dlt.py mysql+pymysql://… POSTGRES_URL SCHEMA TABLE column=type …      through connectorx

Runs in dlt's own environment. The types given are the target's, so that dlt's table and its Arrow tables fit.
"""

import sys
from collections.abc import Iterator, Sequence

import dlt
import pyarrow as pa
import pyarrow.csv

ARROW_TYPES = {
    "bigint": pa.int64(),
    "integer": pa.int32(),
    "date": pa.date32(),
    "numeric(15,2)": pa.decimal128(15, 2),
}


def main(file: str, url: str, schema: str, table: str, columns: Sequence[str]) -> None:
    pairs = (column.split("=", 1) for column in columns)
    types = {name: ARROW_TYPES.get(type_, pa.string()) for name, type_ in pairs}

    @dlt.resource(name=table, write_disposition="replace", file_format="parquet")
    def rows() -> Iterator[pa.Table]:
        reading = pyarrow.csv.ReadOptions(block_size=16 << 20)
        converting = pyarrow.csv.ConvertOptions(column_types=types)
        with pyarrow.csv.open_csv(file, read_options=reading, convert_options=converting) as batches:
            for batch in batches:
                yield pa.Table.from_batches([batch])

    if "://" in file:
        from dlt.sources.sql_database import sql_table

        rows = lambda: sql_table(  # noqa: E731
            credentials=file, table=table, backend="connectorx", backend_kwargs={"return_type": "arrow"},
            write_disposition="replace",
        )  # fmt: skip
    pipeline = dlt.pipeline("benchmark", destination=dlt.destinations.postgres(url), dataset_name=schema)
    pipeline.run(rows()).raise_on_failed_jobs()


if __name__ == "__main__":
    main(*sys.argv[1:5], sys.argv[5:])
