"""The canonical forms, one by one: a mapped text and a stored value hash alike exactly where they are equal."""

import pyarrow as pa
import pytest
from mapped import column, context, mapped, target, texts

from mappings.typemap import wire_of
from migrate import checksum
from migrate.checksum import FORMS
from migrate.readback import read_back
from migrate.target import Connection, catalogue

E1, E2 = "\u00e9", "e\u0301"  # é as one character, and as e with an accent

EXAMPLES: dict[str, list[tuple[str, list[tuple[str | None, str | None]], list[tuple[str | None, str | None]]]]] = {
    "jsonb": [
        ("jsonb", [('{"a": 1, "b": 2.50}', '{"b":2.5,"a":1.0}'), ('{"a":1,"a":2}', '{"a":2}'), ("null", "null"), (None, None)],
         [('{"a": 1}', '{"a": "1"}'), ("[1,2]", "[2,1]"), ("null", None), ('"x"', '"X"'), ('{"a":null}', "{}")]),
    ],
    "numeric without": [
        ("numeric", [("1.50", "1.50"), ("0", "0"), (None, None)], [("1.5", "1.50"), ("0", None)]),
    ],
    "numeric(p,s)": [
        ("numeric(12,4)", [("1.5", "1.5000"), ("-0", "0"), (" 7 ", "7.0"), (None, None)], [("1.5", "1.5001"), ("0", None)]),
        ("numeric(38,4)", [("1.5", "1.50")], [("0", "-0.0001"), ("18446744073709551616", "18446744073709551617")]),
    ],
    "real, double": [
        ("float8", [("0.1", "1e-1"), ("-0.0", "0"), ("0", "-0"), ("1e300", "1" + "0" * 300), ("nan", "NaN")],
         [("0.1", "0.10000000000000002"), ("1", "1.000000000001"), ("0", None), ("0", "5e-324")]),
        ("float4", [("0.1", "0.1"), ("-0", "0")], [("0.1", "0.10000001")]),
    ],
    "timestamptz": [
        ("timestamptz", [("2020-07-01 12:00:00+02", "2020-07-01 10:00:00+00"), ("2020-07-01 12:00:00.000001+05:30",
         "2020-07-01 06:30:00.000001Z")], [("2020-07-01 12:00:00+02", "2020-07-01 12:00:00+00"),
         ("2020-07-01 12:00:00+02", "2020-07-01 12:00:00.000001+02")]),
    ],
    "date, time": [
        ("timestamp", [("2020-07-01", "2020-07-01 00:00:00"), ("2020-07-01T12:00", "2020-07-01 12:00:00.000000")],
         [("2020-07-01 12:00:00", "2020-07-01 12:00:00.000001"), ("2020-07-01", None)]),
        ("date", [("0044-03-15", "0044-03-15")], [("2020-07-01", "2020-07-02")]),
        ("time", [("7:05", "07:05:00")], [("07:05", "07:05:00.000001")]),
    ],
    "bytea, uuid": [
        ("uuid", [("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "{a0eebc999c0b4ef8bb6d6bb9bd380a11}")],
         [("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12")]),
    ],
    "text, varchar": [
        ("text", [("a", "a"), ("", ""), (None, None), (E1, E1)],
         [("a", "A"), ("a", "a "), ("", None), (None, ""), (E1, E2), ("1", "01")]),
        ("varchar(5)", [("abc", "abc")], [("abc", "abc ")]),
        ("char(5)", [("abc", "abc"), ("abc  ", "abc"), ("abc", "abc     "), ("", " ")],
         [("abc", "abd"), ("", None), ("a", " a")]),
        ("json", [('{"a": 1}', '{"a": 1}')], [('{"a": 1}', '{"a":1}'), ('{"a":1,"b":2}', '{"b":2,"a":1}')]),
    ],
    "smallint, integer": [
        ("int", [("007", "7"), ("-0", "0"), ("12.0", "12")], [("0", None), ("1", "-1")]),
        ("bool", [("true", "t")], [("true", "f"), ("false", None)]),
    ],
}  # fmt: skip
"""By the beginning of the form's types: (type, pairs of source text and stored text that are equal, pairs that are not)."""

PAIRS = [
    pytest.param(written, there, here, same, id=f"{written}: {there!r} {'is' if same else 'is not'} {here!r}")
    for forms in EXAMPLES.values()
    for written, equal, different in forms
    for same, pairs in ((True, equal), (False, different))
    for there, here in pairs
]


def test_every_form_has_examples() -> None:
    """Those of arrays and of what is not compared are in tests of their own."""
    others = ("types that only", "arrays of these")
    missing = [f.types for f in FORMS if not any(f.types.startswith(name) for name in (*EXAMPLES, *others))]
    assert missing == []
    for name, examples in EXAMPLES.items():
        for written, _, _ in examples:
            made = column("c", written)
            assert checksum.form_of(wire_of(made).arrow, wire_of(made)).types.startswith(name), written


@pytest.mark.parametrize(("written", "there", "here", "same"), PAIRS)
def test_a_mapped_text_and_a_stored_value_hash_alike_exactly_where_they_are_equal(
    conn: Connection, written: str, there: str | None, here: str | None, same: bool
) -> None:
    assert (hash_of_mapped(written, there) == hash_of_stored(conn, written, here)) == same


def hash_of_mapped(written: str, text: str | None) -> int:
    step = mapped(texts(x=[text]), {"c": "x"}, target(column("c", written)), context(timezone="Europe/Berlin"))
    assert not step.rejects, step.rejects
    return hashed(step.rows, written)


def hash_of_stored(conn: Connection, written: str, text: str | None) -> int:
    conn.execute(f"CREATE TEMP TABLE stored (c {written}); SET timezone = 'Asia/Tokyo'")
    conn.execute("INSERT INTO stored VALUES (%s)", [text])
    schema = conn.execute("SELECT nspname FROM pg_namespace WHERE oid = pg_my_temp_schema()").fetchone()
    assert schema is not None
    table = catalogue(conn, schema[0], "stored")
    assert table is not None
    wire = wire_of(table.columns[0])
    (batch,) = read_back(conn, table, pa.schema([("c", wire.arrow)]), [wire])
    return hashed(batch, written)


def hashed(batch: pa.RecordBatch, written: str) -> int:
    wire = wire_of(column("c", written))
    hasher = checksum.Hasher(pa.schema([("c", wire.arrow)]), [wire], [])
    _, hashes = hasher(batch)
    hasher.close()
    return int(hashes[0])
