"""JSON files: how they are recognised, which columns they have, what arrays hold, and that no byte of a broken one is lost."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.registry import open_source
from migrate.core import Attended, Batch, Counted, Nested, Source
from migrate.errors import SourceError, Stopped, UsageError


def source(folder: Path, text: str | bytes, name: str = "t.json", **options: Any) -> Source:
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return open_source("json", {"t": [name]}, options, folder)


def batches(of: Source, table: str = "t", columns: Sequence[str] | None = None, rows: int = 1000) -> list[Batch]:
    """All batches; each partition counts what its batch tells of."""
    schema = of.schema(table)
    counted: Counted = of  # type: ignore[assignment]
    found = []
    for part in of.partitions(schema, rows=rows, bytes=1 << 20):
        (batch,) = of.read(part, schema.schema.names if columns is None else columns)
        told = sorted([*batch.ordinals.tolist(), *(reject.ordinal for reject in batch.rejects)])
        assert told == list(range(counted.count(part)))
        found.append(batch)
    return found


def rows(of: Source, table: str = "t", columns: Sequence[str] | None = None, size: int = 1000) -> list[dict[str, Any]]:
    return [row for batch in batches(of, table, columns, size) for row in batch.rows.to_pylist()]


def rejects(
    of: Source, table: str = "t", columns: Sequence[str] | None = None, size: int = 1000
) -> list[tuple[str, str, bytes]]:
    found = [reject for batch in batches(of, table, columns, size) for reject in batch.rejects]
    return [(each.rule, each.reason, each.origin.raw) for each in found]


# ------------------------------------------------------------------------------------------------------------ the forms


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a":1}\n{"a":2}\n', "JSON Lines"),
        ('\ufeff{"a":1}\r\n\r\n  {"a":2}\r\n', "JSON Lines"),
        ('{"a":1}\n{"a":2}', "JSON Lines"),
        ('[{"a":1},{"a":2}]', "array"),
        ('\ufeff [\n  {"a":1},\n  {"a":2}\n]\n', "array"),
        ("[]", "array"),
        ("", "JSON Lines"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_forms_are_recognised_and_said(tmp_path: Path, text: str, said: str, packed: bool) -> None:
    data = gzip.compress(text.encode()) if packed else text.encode()
    of = source(tmp_path, data, "t.json.gz" if packed else "t.json")
    assert said in of.schema("t").notes[-1] or not text.strip("[]")
    assert [row["a"] for row in rows(of)] == ([1, 2] if text.strip("[]") else [])
    assert rejects(of) == []
    assert bool(of.schema("t").warnings) == (not text.strip("[]"))


def test_an_array_within_an_object_is_found_by_its_path(tmp_path: Path) -> None:
    text = '{"items": 5, "d\\u0061ta": {"x": [1, {"items": []}], "items": [{"a":1},\n{"a":2}], "n": 2}}\n'
    of = source(tmp_path, text, records="data/items")
    assert rows(of) == [{"a": 1, "_rest": None}, {"a": 2, "_rest": None}]
    assert rejects(of) == []
    with pytest.raises(SourceError, match="no array was found at data/rows"):
        source(tmp_path, text, records="data/rows").schema("t")


def test_what_is_neither_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        source(tmp_path, '{\n  "data": [\n    {"a": 1}\n  ]\n}\n').schema("t")
    assert "records: data/items" in caught.value.hint
    with pytest.raises(SourceError) as caught:
        source(tmp_path, '{"a":1}\n'.encode("utf-16")).schema("t")
    assert "iconv" in caught.value.hint


# -------------------------------------------------------------------------------------------------------------- columns


def test_columns_are_found_in_all_documents(tmp_path: Path) -> None:
    documents = [
        {"id": 1, "c": {"name": "x", "a": {"city": "Ulm"}}, "n": 1, "x": 1.5, "m": 1, "l": [1], "map": {"k1": 1}, "z": None},
        {"id": 2, "c": {"name": "y", "a": {"city": "Rom"}}, "n": 2.5, "x": 2, "m": "b", "l": [], "map": {"k2": 1}, "late": True},
        {"id": 3, "c": None, "n": 3, "map": {"k3": 3}, "a.b": "dot", "a": {"b": "nested"}},
    ]  # fmt: skip
    of = source(tmp_path, "\n".join(map(json.dumps, documents)))
    schema = of.schema("t").schema
    assert {field.name: str(field.type) for field in schema} == {
        "id": "int64", "c.name": "string", "c.a.city": "string", "n": "string", "x": "string", "m": "string", "l": "string",
        "map": "string", "z": "string", "late": "bool", "a.b": "string", "_rest": "string",
    }  # fmt: skip
    assert schema.names[-1] == "_rest"
    found = rows(of)
    assert [row["c.a.city"] for row in found] == ["Ulm", "Rom", None]
    assert [row["n"] for row in found] == ["1", "2.5", "3"]
    assert [row["m"] for row in found] == ["1", '"b"', None]
    assert [row["map"] for row in found] == ['{"k1": 1}', '{"k2": 1}', '{"k3": 3}']
    assert found[2]["a.b"] == "nested"
    assert json.loads(found[2]["_rest"]) == {"a.b": "dot"}


def test_extended_json_is_read_as_what_it_stands_for(tmp_path: Path) -> None:
    text = '{"_id": {"$oid": "0123456789abcdef01234567"}, "n": {"$numberLong": "5"}, "d": {"$date": "1970-01-01T00:00:01Z"}}\n'
    of = source(tmp_path, text)
    assert [str(field.type) for field in of.schema("t").schema][:3] == ["string", "int64", "timestamp[us, tz=UTC]"]
    assert [row["_id"] for row in rows(of)] == ["0123456789abcdef01234567"]
    assert [row["n"] for row in rows(of)] == [5]


DECLARED = {"t": {"id": "integer", "c": {"name": "text", "a": {"city": "text"}}}}


def test_what_no_column_takes_is_in_the_rest_or_rejects_its_row(tmp_path: Path) -> None:
    text = '{"id":1,"c":{"name":"x","a":{"city":"U","zip":[1]},"k":null},"o\\"":"\\u00e9"}\n{"id":2}\n'
    text += '{"id":3,"c":{"a":{"q":1}}}\n'
    of = source(tmp_path, text, fields=DECLARED)
    assert [row["_rest"] and json.loads(row["_rest"]) for row in rows(of)] == [
        {'o"': "é", "c": {"k": None, "a": {"zip": [1]}}},
        None,
        {"c": {"a": {"q": 1}}},
    ]
    assert [why for _, why, _ in rejects(of, columns=["id"])] == [
        'has fields that no column takes: c.a.zip, c.k, o"; map the column _rest, or declare them under fields:',
        "has fields that no column takes: c.a.q; map the column _rest, or declare them under fields:",
    ]
    assert rows(of, columns=["id"]) == [{"id": 2}]


def test_a_value_that_does_not_fit_rejects_its_row_or_stands_in_the_rest(tmp_path: Path) -> None:
    text = '{"id":"x","c":{"name":1}}\n{"id":2,"c":"none"}\n{"id":3,"c":{"a":[]}}\n{"id":4}\n'
    of = source(tmp_path, text, fields=DECLARED)
    found = [r for b in batches(of) for r in b.rejects]
    assert [(r.rule, r.column, r.value) for r in found] == [
        ("type", "id", '"x"'),
        ("type", "c", '"none"'),
        ("type", "c.a", "[]"),
    ]
    of = source(tmp_path, text, fields=DECLARED, mixed="rest")
    assert rejects(of) == []
    assert [(row["id"], row["_rest"] and json.loads(row["_rest"])) for row in rows(of)] == [
        (None, {"id": "x", "c": {"name": 1}}),
        (2, {"c": "none"}),
        (3, {"c": {"a": []}}),
        (4, None),
    ]
    assert len(rejects(of, columns=["id"])) == 3  # without _rest nothing holds them


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"t": {"a": "number"}}, "is no type"),
        ({"u": {"a": "text"}}, "no table 'u'"),
        ({"t": {"_rest": "json"}}, "made by the toolkit"),
        ({"t": {"a.b": "text", "a": {"b": "text"}}}, "would be the column 'a.b'"),
    ],
)
def test_wrong_fields_are_told(tmp_path: Path, fields: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        source(tmp_path, "", fields=fields)


# --------------------------------------------------------------------------------------------------------------- unnest

NESTED = """\
{"_id":1,"s":"x","lines":[{"sku":"A","taxes":[{"t":1},{"t":2}]},{"sku":"B"}],"tags":["r","g"],"o":{"in":[{"k":1}]}}
{"_id":2,"s":"y","lines":null,"tags":[]}
{"_id":3,"s":"z","lines":[{"sku":"C","taxes":[{"t":3}]},null],"tags":"none"}
{"_id":4,"s":"w","lines":{"sku":"D"}}
{"_id":5,
"""


def test_an_arrays_elements_are_rows_with_their_parents_columns(tmp_path: Path) -> None:
    of = source(tmp_path, NESTED)
    names = of.schema("t/lines").schema.names
    assert names == ["sku", "taxes", "_position", "_parent._id", "_parent.s", "_rest"]
    asked = ["sku", "_position", "_parent._id", "_parent.s", "taxes", "_rest"]
    for size in (1, 1000):
        assert [tuple(row.values())[:4] for row in rows(of, "t/lines", asked, size)] == [
            ("A", 1, 1, "x"),
            ("B", 2, 1, "x"),
            ("C", 1, 3, "z"),
            (None, 2, 3, "z"),
        ]
        assert [(rule, raw) for rule, _, raw in rejects(of, "t/lines", size=size)] == [
            ("type", b'{"sku":"D"}'),
            ("structure", b'{"_id":5,'),
        ]


def test_deeper_arrays_reach_further_up(tmp_path: Path) -> None:
    of = source(tmp_path, NESTED)
    asked = ["t", "_position", "_parent.sku", "_parent._position", "_parent._parent._id"]
    assert [tuple(row.values()) for row in rows(of, "t/lines/taxes", asked)] == [
        (1, 1, "A", 1, 1),
        (2, 2, "A", 1, 1),
        (3, 1, "C", 1, 3),
    ]
    assert [tuple(row.values()) for row in rows(of, "t/o.in", ["k", "_parent._id"])] == [(1, 1)]


def test_elements_that_are_no_objects_are_values(tmp_path: Path) -> None:
    of = source(tmp_path, NESTED)
    assert [tuple(row.values()) for row in rows(of, "t/tags", ["value", "_position", "_parent._id"])] == [
        ("r", 1, 1),
        ("g", 2, 1),
    ]
    assert [rule for rule, *_ in rejects(of, "t/tags")] == ["type", "structure"]
    with pytest.raises(SourceError, match="no array tgas"):
        of.schema("t/tgas")


# --------------------------------------------------------------------------------------------------------------- damage


def test_a_broken_document_takes_no_other_with_it(tmp_path: Path) -> None:
    text = '[{"a":1,"b":"x"},\n{"a":2,"b":"lost},\n{"a":3,"b":"y"},\n{"a":4,"b":{"c":"z"},\n{"a":5,"b":"q"}},\n{"a":6},7,{"a":8}]'
    of = source(tmp_path, text, fields={"t": {"a": "integer", "b": "json"}})
    assert [row["a"] for row in rows(of)] == [1, 3, 5, 6, 8]
    assert [raw for *_, raw in rejects(of)] == [b'{"a":2,"b":"lost}', b'{"a":4,"b":{"c":"z"}', b"}", b"7"]


@pytest.mark.parametrize(
    ("text", "said", "raw"),
    [
        ('[{"a":1},{"a":2', "does not end", b'{"a":2'),
        ('[{"a":1},{"a":2}', "the file ends before its array does", b""),
        ('[{"a":1},{"a":2},', "the file ends before its array does", b""),
        ('[{"a":1},{"a":2}] x', "behind the array's end", b" x"),
        ('[{"a":1},{"a":2}]\n[', "behind the array's end", b"\n["),
        ('[{"a":1}],\n{"a":2}]', "closes nothing", b"]"),
        ("[", "the file ends before its array does", b""),
    ],
)
def test_a_file_that_is_cut_off_or_goes_on_is_never_silent(tmp_path: Path, text: str, said: str, raw: bytes) -> None:
    found = rejects(source(tmp_path, text, fields={"t": {"a": "integer"}}))
    assert len(found) > 0
    assert said in found[0][1]
    assert found[0][2] == raw


def test_of_a_large_damage_the_beginning_is_kept(tmp_path: Path) -> None:
    text = '[{"a":1},{"a":"' + "x" * 100_000 + ',{"a":2}]'
    [(_, why, raw)] = rejects(source(tmp_path, text, fields={"t": {"a": "json"}}))
    assert "(the first 65536 of 100006 bytes are kept)" in why
    assert raw == text[9 : 9 + 65_536].encode()


def test_what_surrounds_the_array_must_end(tmp_path: Path) -> None:
    options: dict[str, Any] = {"records": "d", "fields": {"t": {"a": "integer"}}}
    assert rejects(source(tmp_path, '{"n": 1, "d": [{"a":1}], "m": [{"a": 2}]}', **options)) == []
    [(_, why, raw)] = rejects(source(tmp_path, '{"n": 1, "d": [{"a":1}], "m": [{"a": 2}', **options))
    assert "does not end the document" in why
    assert raw == b', "m": [{"a": 2}'


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_every_byte_of_a_broken_array_has_a_fate(tmp_path: Path, data: st.DataObject) -> None:
    """Whatever is changed: rows and rejects do not overlap, and nothing but separators lies between; however it is cut."""
    count = data.draw(st.integers(1, 30))
    lines = data.draw(st.booleans())
    documents = [
        json.dumps({"a": at, "b": data.draw(st.sampled_from(["x", '"', "}{", [{"a": 1}], {"a": [2]}]))})
        for at in range(count)
    ]
    text = bytearray(("[" + (",\n" if lines else ",").join(documents) + "]").encode())
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(1, len(text) - 1))
        change = data.draw(st.sampled_from([b"", b'"', b"\\", b"{", b"}", b"]", b"[", b"\xff", b",", b"\n"]))
        text[place : place + data.draw(st.integers(0, 2))] = change
    of = source(tmp_path, bytes(text), form="array", fields={"t": {"a": "json", "b": "json"}})
    size = data.draw(st.sampled_from([1, 3, 1000]))
    covered = bytearray(text)
    read = 0
    for batch in batches(of, rows=size):
        ordinals = [*batch.ordinals.tolist(), *(each.ordinal for each in batch.rejects)]
        read += batch.rows.num_rows
        for origin in batch.locate(ordinals):
            start, end = origin.locator["start"], origin.locator["end"]
            assert bytes(text[start:end]) == origin.raw
            assert b"\0" not in covered[start:end]
            covered[start:end] = b"\0" * (end - start)
    assert bytes(covered).strip(b"[]").replace(b"\0", b"").strip(b" \n,") == b"" or set(bytes(covered)) <= set(
        b"\0 \n,[]"
    )
    if bytes(text) == ("[" + (",\n" if lines else ",").join(documents) + "]").encode():
        assert read == count


def test_the_same_rows_however_small_the_slices(tmp_path: Path) -> None:
    documents = [json.dumps({"a": n, "b": "x" * (n % 97)}) for n in range(3_000)]
    for at in range(100, 3_000, 500):
        documents[at] = documents[at][:-2] + "}"
    text = "[" + ",\n".join(documents) + "]"
    of = source(tmp_path, text, fields={"t": {"a": "integer", "b": "text"}})
    whole = rows(of, size=1 << 20), rejects(of, size=1 << 20)
    assert len(whole[0]) == 3_000 - 6
    for size in (10, 333):
        assert (rows(of, size=size), rejects(of, size=size)) == whole


# --------------------------------------------------------------------------------------------------- looking for fields


def test_all_fields_and_arrays_are_found_in_one_look_that_tells_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.attention.EVERY", 0.0)
    of = source(tmp_path, json.dumps({"id": 1, "tags": ["x"], "lines": [{"sku": "a", "n": 1}], "more": [{"m": 1}]}))
    told: list[str] = []
    cast(Attended, of).attended(lambda _: None, told.append)
    nested = cast(Nested, of)
    assert of.schema("t").schema.names == ["id", "tags", "lines", "more", "_rest"]
    assert nested.arrays("t") == ["t/lines", "t/more"]
    assert nested.fields(["t/lines", "t/more"]) == {
        "t/lines": {"sku": "text", "n": "integer"},
        "t/more": {"m": "integer"},
    }
    assert rows(of, "t/tags", ["value"]) == [{"value": "x"}]
    assert told == ["t: t.json is looked through for fields, 100 %"]
    (tmp_path / "u.json").write_text('{"id": 2}')
    several = open_source("json", {"t": ["t.json", "u.json"]}, {}, tmp_path)
    cast(Attended, several).attended(lambda _: None, told.append)
    several.schema("t")
    assert told[-1] == "t: u.json is looked through for fields, 100 %, file 2 of 2"


def test_a_look_at_documents_stops_where_that_is_asked_for(tmp_path: Path) -> None:
    of = source(tmp_path, '{"id": 1}\n')

    def stop(_: float) -> None:
        raise Stopped("Stopped.")

    cast(Attended, of).attended(stop, lambda _: None)
    with pytest.raises(Stopped):
        of.schema("t")


def test_names_that_are_data_are_neither_columns_nor_tables_and_are_not_lost(tmp_path: Path) -> None:
    """An object of many names is JSON, also in an array's elements; of documents with too many the later ones are the rest."""
    documents = [
        {"id": n, "scores": {f"u{n}-{at}": [{"q": at}] for at in range(9)}, "lines": [{"by": {f"k{n}": {"x": n}}}]}
        for n in range(400)
    ]
    of = source(tmp_path, "\n".join(map(json.dumps, documents)))
    assert of.schema("t").schema.names == ["id", "scores", "lines", "_rest"]
    assert [json.loads(row["scores"]) for row in rows(of)] == [each["scores"] for each in documents]
    assert cast(Nested, of).arrays("t") == ["t/lines"]
    assert cast(Nested, of).fields(["t/lines"]) == {"t/lines": {"by": "json"}}
    (asked,) = rows(of, "t/scores.u7-3", ["q"])  # in a map of which nothing is kept
    assert asked == {"q": 3}
    wide = [{"id": n, **{f"w{n}-{at}": at for at in range(9)}} for n in range(300)]
    of = source(tmp_path, "\n".join(map(json.dumps, wide)))
    table = of.schema("t")
    assert len(table.schema.names) == 501
    assert any("t: it has more than 2,000 different fields" in note for note in table.notes)
    found = rows(of)
    told = [{name: value for name, value in row.items() if name != "_rest" and value is not None} for row in found]
    assert [{**columns, **json.loads(row["_rest"] or "{}")} for columns, row in zip(told, found, strict=True)] == wide


def test_all_fields_together_are_bounded_and_later_ones_are_not_lost(tmp_path: Path) -> None:
    documents = [
        {"id": n, **{f"a{at}": [{f"k{n}-{at}-{more}": n for more in range(19)}] for at in range(12)}, f"late{n}": n}
        for n in range(100)
    ]
    of = source(tmp_path, "\n".join(map(json.dumps, documents)))
    table = of.schema("t")
    assert any("t: it has with all that is in it, more than 20,000 different fields" in note for note in table.notes)
    assert len(table.schema.names) == 1 + 12 + 100 + 1  # those of the documents come first
    assert [json.loads(row["a11"]) for row in rows(of)] == [each["a11"] for each in documents]
    (last,) = rows(of, "t/a11", ["_parent.id", "_rest"])[-1:]
    assert last["_parent.id"] == 99
    assert json.loads(last["_rest"]) == documents[99]["a11"][0]


def test_objects_are_looked_into_to_a_depth_below_which_they_are_json(tmp_path: Path) -> None:
    deep = "1"
    for _ in range(120):
        deep = f'{{"a": {deep}}}'
    of = source(tmp_path, f'{{"id": 1, "deep": {deep}}}')
    (column,) = of.schema("t").schema.names[1:-1]
    assert column.count(".") == 49
    (row,) = rows(of)
    assert row[column].count('"a"') == 120 - 49
    assert row["_rest"] is None
