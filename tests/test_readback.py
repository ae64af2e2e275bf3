"""Target rows read back: every value that PostgreSQL can hold arrives, exactly or named as beyond the wire type."""

import json
from typing import Any

import pyarrow as pa
import pytest

from mappings.typemap import wire_of
from migrate import checksum
from migrate.readback import BEYOND, read_back
from migrate.target import Connection, catalogue

VALUES: dict[str, dict[str, Any]] = {
    "date": {"12345-01-01": "12345-01-01", "0044-03-15 BC": "0044-03-15 BC", "infinity": "infinity"}
    | {"-infinity": "-infinity", "1969-12-31": "1969-12-31", "5874897-12-31": "5874897-12-31"},
    "timestamp": {"12345-01-01 00:00:00.000001": "12345-01-01 00:00:00.000001", "infinity": "infinity"}
    | {"0044-01-01 10:00:00 BC": "0044-01-01 10:00:00 BC", "294276-12-31 23:59:59": None}
    | {"1969-12-31 23:59:59.999999": "1969-12-31 23:59:59.999999", "4713-01-01 00:00:00 BC": "4713-01-01 00:00:00 BC"},
    "timestamptz": {"2020-01-01 00:00:00+05": "2019-12-31 19:00:00+00", "-infinity": "-infinity"}
    | {"0044-01-01 10:00:00+00 BC": "0044-01-01 10:00:00+00 BC", "294276-12-31 23:59:59+00": None},
    "time": {"24:00": "24:00:00", "23:59:59.999999": "23:59:59.999999", "0:00": "00:00:00"},
    "numeric(10,2)": {"NaN": None, "-0.01": "-0.01", "99999999.99": "99999999.99"},
    "numeric(38,0)": {"NaN": None, "-1": "-1", "9" * 38: "9" * 38},
    "numeric": {"NaN": "NaN", "1e100": "1" + "0" * 100, "1.50": "1.50"},
    "float8": {"NaN": "nan", "-Infinity": "-inf", "1e-300": "1e-300", "-0": "0.0"},
    "int[]": {"{{1,2},{3,4}}": None, "[0:1]={1,2}": None, "{}": "[]", "{NULL,1}": "[null,1]"},
    "text[]": {'{"a,b",NULL,"NULL","\\\\",""}': '["a,b",null,"NULL","\\\\",""]', "{{a},{b}}": None},
    "float8[]": {"{NaN,-Infinity,NULL,0.1}": "[NaN,-Infinity,null,0.1]"},
    "date[]": {
        "{0044-03-15 BC,infinity,12345-01-01,NULL}": '["0044-03-15 BC","infinity","12345-01-01",null]',
        "{}": "[]",
    },
    "timestamp[]": {"{2020-01-01,infinity}": '["2020-01-01 00:00:00","infinity"]', "{294276-12-31}": None},
    "timestamptz[]": {"{2020-01-01 00:00+05}": '["2019-12-31 19:00:00+00"]'},
    "bytea": {"\\x00ff": "00ff", "": ""},
    "uuid": {"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11": "a0eebc999c0b4ef8bb6d6bb9bd380a11"},
    "bool": {"t": "true", "f": "false"},
}


@pytest.mark.parametrize("spelled", VALUES)
def test_every_legal_value_is_read_and_shown(conn: Connection, spelled: str) -> None:
    conn.execute(f"""CREATE TABLE t ("x '1" {spelled}); SET timezone = 'Asia/Tokyo'; SET datestyle = 'German'""")
    table = catalogue(conn, "public", "t")
    assert table is not None
    column = table.columns[0]
    wire = wire_of(column)
    schema = pa.schema([(column.name, wire.arrow)])
    values = VALUES[spelled]
    for value in [*values, None]:
        conn.execute("INSERT INTO t VALUES (%s)", [value])
    batches = list(read_back(conn, table, schema, [wire]))
    assert [b.num_rows for b in batches] == [len(values) + 1]
    assert batches[0].schema == schema.append(pa.field(BEYOND, pa.string()))
    hasher = checksum.Hasher(schema, [wire], [])
    shown = hasher.texts(batches[0])[column.name].to_pylist()
    hasher.close()
    assert shown == [*values.values(), None]
    beyond = batches[0][BEYOND].to_pylist()
    assert [b is not None for b in beyond] == [v is None for v in values.values()] + [False]
    assert all(b is None or list(json.loads(b)) == [column.name] for b in beyond)


def test_what_mapped_batches_hold_hashes_as_what_is_read_back(conn: Connection) -> None:
    """Counted days and microseconds are the very integers that a mapped date or timestamp has."""
    conn.execute(
        "CREATE TABLE t (day date, stamp timestamp, moment timestamptz, clock time, days date[], moments timestamptz[])"
    )
    table = catalogue(conn, "public", "t")
    assert table is not None
    wires = [wire_of(c) for c in table.columns]
    schema = pa.schema([(c.name, w.arrow) for c, w in zip(table.columns, wires, strict=True)])
    conn.execute(
        "INSERT INTO t VALUES ('2020-10-25', '2020-10-25 02:30:00.000001', '2020-10-25 02:30:00.000001+02', '02:30:00.1', "
        "'{2020-10-25,NULL}', '{2020-10-25 02:30:00+02}'), ('0044-03-15 BC', '0044-03-15 BC', '0044-03-15 00:00+00 BC', "
        "'24:00', '{}', NULL)"
    )
    (read,) = read_back(conn, table, schema, wires)
    day, moment, old = 18560, 1603593000000001, -735160
    made = [
        [day, old],
        [moment, old * 86400000000],
        [moment - 7200000000, old * 86400000000],
        [9000100000, 86400000000],
    ]
    arrays = [
        pa.array(v, pa.int32() if f.type == pa.date32() else pa.int64()).cast(f.type)
        for v, f in zip(made, schema, strict=False)
    ]
    arrays += [
        pa.array([[day, None], []], pa.list_(pa.int32())).cast(schema.field("days").type),
        pa.array([[moment - 7200000001], None], pa.list_(pa.int64())).cast(schema.field("moments").type),
    ]
    hasher = checksum.Hasher(schema, wires, ["day"])
    ours, theirs = hasher(pa.RecordBatch.from_arrays(arrays, schema=schema)), hasher(read)
    hasher.close()
    assert (ours[0] == theirs[0]).all()
    assert (ours[1] == theirs[1]).all()
