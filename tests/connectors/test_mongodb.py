"""MongoDB as a source, on a real server: what is in a collection is read exactly once, exactly, or rejected."""

import json
import math
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp, json_util
from bson.codec_options import CodecOptions, DatetimeConversion
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError
from servers import Mongo, Proxy, Secantus

from connectors.mongodb import Collections, open_url
from connectors.mongoserver import About
from migrate.core import Measure, Partition
from migrate.errors import RetryableError, SourceError, UsageError

VALUES: list[Any] = [
    1,
    -(2**31),
    Int64(2**60 + 1),
    2.5,
    -0.0,
    math.nan,
    math.inf,
    1e300,
    "x",
    "",
    "007",
    "ä\u0000b😀",
    None,
    True,
    False,
    Decimal128("1.50"),
    Decimal128("NaN"),
    Decimal128("1E+300"),
    datetime(1960, 1, 1, 0, 0, 0, 1000, tzinfo=UTC),
    datetime(2020, 2, 29, 23, 59, 59, 999000, tzinfo=UTC),
    ObjectId("65a000000000000000000001"),
    Binary(b"\x00\xff"),
    Binary(b"zip", 128),
    Binary.from_uuid(uuid.UUID(int=7)),
    Binary(b"0" * 16, 3),
    Regex("a+", "i"),
    DBRef("customers", 1),
    Timestamp(1, 2),
    Code("return 1"),
    MinKey(),
    MaxKey(),
    [],
    [1, "a", None, {"b": [2]}],
    {},
    {"a": {"b.c": 1, "$d": 2, "": 3}},
]
IDS: list[Any] = [
    *(v for v in VALUES if not isinstance(v, (list, Regex, DBRef, Code))),
    *range(2, 40),
    *(f"text {n}" for n in range(30)),
    *(ObjectId(f"65a0000000000000000001{n:02d}") for n in range(30)),
    *({"a": n} for n in range(20)),
    *(datetime(2000 + n, 1, 1, tzinfo=UTC) for n in range(20)),
    *(Binary(bytes([n])) for n in range(20)),
]
EXACT: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO)


@pytest.fixture
def shop(mongo: Mongo, mongo_database: str) -> Iterator["Database[dict[str, Any]]"]:
    with mongo.connect() as client:
        yield client.get_database(mongo_database, EXACT)


@pytest.fixture
def url(mongo: Mongo, mongo_database: str) -> str:
    return mongo.url(mongo_database)


SOURCES: list[Collections] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while SOURCES:
        SOURCES.pop().close()


def opened(url: str, **options: Any) -> Collections:
    source = open_url(url, options)
    assert isinstance(source, Collections)
    SOURCES.append(source)
    return source


def cut(source: Collections, table: str, rows: int) -> list[Partition]:
    return list(source.partitions(source.schema(table), rows=rows, bytes=1 << 30))


def read(
    source: Collections, table: str, part: Partition, columns: list[str] | None = None
) -> tuple[list[dict[str, Any]], list[int], list[tuple[Any, ...]]]:
    """Rows, their ordinals, and rejects."""
    rows, ordinals, rejects = [], [], []
    for batch in source.read(part, columns or source.schema(table).schema.names):
        rows += batch.rows.to_pylist()
        ordinals += batch.ordinals.tolist()
        rejects += [(r.ordinal, r.rule, r.column, r.reason, r.origin.locator, r.origin.raw) for r in batch.rejects]
    assert sorted([*ordinals, *(each[0] for each in rejects)]) == list(range(len(rows) + len(rejects)))
    return rows, ordinals, rejects


def text(value: Any) -> Any:
    return json.loads(json_util.dumps(value, json_options=json_util.RELAXED_JSON_OPTIONS))


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_slices_tile_a_collection_whatever_its_ids_are(shop: "Database[Any]", url: str, size: int) -> None:
    for n, each in enumerate(IDS):
        with suppress(DuplicateKeyError):  # numbers are alike whatever their types
            shop.t.insert_one({"_id": each, "n": n})
    numbers = sorted(each["n"] for each in shop.t.find())
    assert len(numbers) > 150
    source = opened(url)
    parts = cut(source, "t", size)
    found = [[row["n"] for row in read(source, "t", part, ["n"])[0]] for part in parts]
    assert sorted(n for some in found for n in some) == numbers
    assert [source.count(part) for part in parts] == [len(some) for some in found]
    assert len(parts) >= (len(numbers) - 10) // size  # the rarest types share a slice
    again = opened(url)  # in any order, by another process
    assert [[row["n"] for row in read(again, "t", part, ["n"])[0]] for part in parts[::-1]] == found[::-1]


def test_what_comes_in_meanwhile_falls_into_one_slice(shop: "Database[Any]", url: str) -> None:
    shop.t.insert_many([{"_id": n} for n in range(100)])
    source = opened(url, snapshot=False)
    parts = cut(source, "t", 10)
    late: list[Any] = [-1, 10.5, 1000, "text", ObjectId(), {"a": 1}, datetime(2020, 1, 1), math.nan, True]
    shop.t.insert_many([{"_id": each} for each in late])
    found = [read(source, "t", part) for part in parts]
    assert sum(len(rows) for rows, _, _ in found) == 102  # -1 and 1000 are whole numbers too
    assert sum(len(rejects) for _, _, rejects in found) == len(late) - 2


def test_a_collection_in_which_every_field_changes_its_type(shop: "Database[Any]", url: str) -> None:
    """Each document is accounted for; re-read and compared document by document, each value is exact, or told."""
    documents = [
        {"_id": n, **{f"f{at}": VALUES[(n * (at + 1) + at) % len(VALUES)] for at in range(9) if (n + at) % 11}}
        for n in range(4 * len(VALUES))
    ]
    shop.t.insert_many(documents)
    kept = {each["_id"]: each for each in shop.t.find()}  # as the server keeps them
    types = ["text", "integer", "double", "decimal", "boolean", "moment", "objectid", "binary", "json"]
    fields = {"t": {"_id": "integer", **{f"f{at}": type_ for at, type_ in enumerate(types)}}}

    source = opened(url, fields=fields)
    results = [read(source, "t", part) for part in cut(source, "t", 1000)]
    rows, rejects = ([each for result in results for each in result[at]] for at in (0, 2))
    assert len(rows) + len(rejects) == len(kept)
    for _, rule, column, reason, locator, raw in rejects:
        document = json_util.loads(raw, json_options=json_util.CANONICAL_JSON_OPTIONS)
        assert rule == "type"
        assert locator == {"table": "t", "key": f"_id={document['_id']}"}
        assert text(document) == text(kept[document["_id"]])
        assert column in document
        assert reason.startswith(f"{column}: ")

    source = opened(url, fields=fields, mixed="rest")
    rows = [row for part in cut(source, "t", 50) for row in read(source, "t", part)[0]]
    assert sorted(row["_id"] for row in rows) == sorted(kept)
    for row in rows:
        document, rest = kept[row["_id"]], json.loads(row["_rest"] or "{}")
        for name, type_ in fields["t"].items():
            if row[name] is None and name in rest:
                assert rest[name] == text(document[name]), (name, document[name])
            elif row[name] is None:
                assert document.get(name) is None
            else:
                assert same(document[name], row[name], type_), (name, document[name], row[name])
        assert rest.keys() <= document.keys()


def same(value: Any, found: Any, type_: str) -> bool:
    """Whether a column's value is exactly what the document holds."""
    if type_ == "json":
        return bool(json.loads(found) == text(value))
    if type_ == "decimal":
        if isinstance(value, Decimal128):
            return str(Decimal128(found)) == str(value) or Decimal128(found).to_decimal() == value.to_decimal()
        return float(found) == float(value) or (math.isnan(float(found)) and math.isnan(value))
    if type_ in ("double", "integer"):
        if isinstance(value, Decimal128):
            return bool(value.to_decimal() == found)
        return bool(found == value) or (math.isnan(found) and math.isnan(value))
    if type_ == "objectid":
        return found == str(value)
    if type_ == "binary":
        return isinstance(value, bytes) and bytes(value) == found
    return bool(value == found) and type(value) is type(found)


def test_elements_of_arrays_are_counted_at_the_server_too(shop: "Database[Any]", url: str) -> None:
    lines: list[Any] = [
        [{"sku": "a", "taxes": [{"rate": 1}, {"rate": 2}]}, {"sku": "b"}],
        [],
        None,
        [{"sku": "c", "taxes": []}, {"sku": "d", "taxes": None}],
    ]
    shop.orders.insert_many([{"_id": n, "no": f"O{n}", "lines": each} for n, each in enumerate(lines)])
    shop.orders.insert_many([{"_id": 4, "no": "O4"}, {"_id": 5, "no": "O5", "lines": "none"}])
    shop.orders.insert_one({"_id": 6, "no": "O6", "lines": [{"sku": "e", "taxes": "free"}, "rest"]})
    fields = {
        "orders": {"_id": "integer", "no": "text", "lines": "json"},
        "orders/lines": {"sku": "text", "taxes": "json"},
        "orders/lines/taxes": {"rate": "integer"},
    }
    source = opened(url, fields=fields)
    found = {}
    for table in fields:
        parts = cut(source, table, 2)
        results = [read(source, table, part) for part in parts]
        assert [source.count(part) for part in parts] == [len(r) + len(j) for r, _, j in results]
        found[table] = ([row for r, _, _ in results for row in r], [each for _, _, j in results for each in j])
    rows, rejects = found["orders/lines"]
    assert [(r["_parent._id"], r["_position"], r["sku"]) for r in rows] == [
        (0, 1, "a"),
        (0, 2, "b"),
        (3, 1, "c"),
        (3, 2, "d"),
        (6, 1, "e"),
    ]
    assert [locator["key"] for *_, locator, _ in rejects] == ["_id=5, lines", "_id=6, lines[2]"]
    rows, rejects = found["orders/lines/taxes"]
    assert [(r["_parent._parent._id"], r["_parent._position"], r["_position"], r["rate"]) for r in rows] == [
        (0, 1, 1, 1),
        (0, 1, 2, 2),
    ]
    assert [locator["key"] for *_, locator, _ in rejects] == ["_id=5, lines", "_id=6, lines[1].taxes"]


def test_fields_are_never_dropped(shop: "Database[Any]", url: str) -> None:
    strange = {"a.b": 1, "$c": 2, "": 3, "known": {"deep": 1, "more": [1]}}
    shop.t.insert_many([{"_id": 1, "known": {"deep": 5}}, {"_id": 2, **strange}])
    fields = {"t": {"_id": "integer", "known": {"deep": "integer"}}}
    source = opened(url, fields=fields)
    [part, *_] = cut(source, "t", 10)
    rows, _, _ = read(source, "t", part)
    assert rows[0]["_rest"] is None
    assert json.loads(rows[1]["_rest"]) == {"a.b": 1, "$c": 2, "": 3, "known": {"more": [1]}}
    rows, _, [reject] = read(source, "t", part, ["_id", "known.deep"])
    assert rows == [{"_id": 1, "known.deep": 5}]
    assert 'has fields that no column takes: a.b, $c, "", known.more' in reject[3]
    rows, _, _ = read(source, "t", part, ["_id", "_rest"])  # a column that is not asked for takes nothing
    assert json.loads(rows[0]["_rest"]) == {"known": {"deep": 5}}
    assert json.loads(rows[1]["_rest"]) == {"a.b": 1, "$c": 2, "": 3, "known": {"deep": 1, "more": [1]}}


def test_decimals_are_spelled_out(shop: "Database[Any]", url: str) -> None:
    values = ["0.0000001", "1E-7", "0E-8", "1E+3", "-1.50E+2", "1E+6000"]
    shop.t.insert_many([{"_id": n, "d": Decimal128(each)} for n, each in enumerate(values)])
    shop.t.insert_many([{"_id": 10, "d": 1e16}, {"_id": 11, "d": 5e-324}])
    source = opened(url, fields={"t": {"_id": "integer", "d": "decimal"}})
    rows = [row["d"] for part in cut(source, "t", 100) for row in read(source, "t", part)[0]]
    assert [Decimal(each) for each in rows[:6]] == [Decimal(each) for each in values]
    assert [float(each) for each in rows[6:]] == [1e16, 5e-324]
    assert not any(set("eE") & set(each) for each in rows)


def test_documents_of_sixteen_megabytes(shop: "Database[Any]", url: str) -> None:
    most = (16 << 20) - 100
    for n in range(3):
        shop.t.insert_one({"_id": n, "s": chr(97 + n) * most})
    source = opened(url, fields={"t": {"_id": "integer", "s": "text"}})
    assert [part.rows for part in source.partitions(source.schema("t"), rows=1000, bytes=32 << 20)][:1] <= [2]
    for part in cut(source, "t", 2):
        for row in read(source, "t", part)[0]:
            assert row["s"] == chr(97 + row["_id"]) * most


def test_views_and_time_series_are_read_in_one_go(shop: "Database[Any]", url: str) -> None:
    shop.t.insert_many([{"_id": n, "n": n} for n in range(100)])
    shop.command("create", "few", viewOn="t", pipeline=[{"$match": {"n": {"$lt": 10}}}])
    shop.create_collection("series", timeseries={"timeField": "at"})
    shop.series.insert_many([{"at": datetime(2020, 1, 1, n), "v": n} for n in range(24)])
    source = opened(url)
    assert source.tables() == ["series", "t"]
    assert source.offers() == [("few", "view")]
    for table, count in (("few", 10), ("series", 24)):
        [part] = cut(source, table, 5)
        assert "it is one slice" in source.schema(table).notes[0]
        assert len(read(source, table, part)[0]) == source.count(part) == count


def test_the_watermark_is_from_before_what_was_read(shop: "Database[Any]", url: str) -> None:
    shop.t.insert_one({"_id": 1})
    source = opened(url)
    mark = source.watermark()
    if mark is None:
        pytest.skip("the server of MIGRATE_TEST_MONGODB_URL is no replica set: it has no change streams")
    shop.t.insert_one({"_id": 2})
    with shop.watch(resume_after=json_util.loads(mark.value), max_await_time_ms=500) as changes:
        assert changes.try_next()["documentKey"] == {"_id": 2}  # type: ignore[index]


AGGREGATES = [
    ("n", "number", "sum", 2**60 + 6),
    ("n", "number", "least", -3),
    ("n", "number", "most", 2**60),
    ("n", "number", "values", 4),
    ("d", "real", "most", math.nan),
    ("d", "real", "least", -0.5),
    ("t", "text", "length", 3),
    ("t", "text", "values", 2),
    ("at", "moment", "least", -1000),
    ("at", "moment", "sum", 1_577_836_800_000_000 - 1000),
    ("b", "boolean", "sum", 1),
    ("j", "other", "values", 3),
    ("o.p", "number", "sum", 5),
]


@pytest.mark.parametrize(("column", "kind", "quantity", "value"), AGGREGATES)
def test_aggregates_are_the_servers_own(
    shop: "Database[Any]", url: str, column: str, kind: Any, quantity: Any, value: float
) -> None:
    shop.t.insert_many(
        [
            {"_id": 1, "n": 1, "d": 1.5, "t": "ä", "at": datetime(2020, 1, 1), "b": True, "j": None, "o": {"p": 5}},
            {"_id": 2, "n": Int64(2**60), "d": math.nan, "t": "😀x", "at": datetime(1969, 12, 31, 23, 59, 59, 999000)},
            {"_id": 3, "n": 8.0, "d": -0.5, "t": 7, "at": "never", "b": False, "j": [1], "o": "none"},
            {"_id": 4, "n": Decimal128("-3"), "d": "x", "j": {"a": 1}},
            {"_id": 5, "n": 2.5},
        ]
    )
    fields = {"_id": "integer", "n": "integer", "d": "double", "t": "text", "at": "moment", "b": "boolean", "j": "json"}
    source = opened(url, fields={"t": {**fields, "o": {"p": "integer"}}})
    measure = Measure(column, kind, quantity)
    assert source.computes("t", measure)
    [whole] = source.aggregates("t", [measure], None)
    assert whole is not None
    assert (whole.is_nan() and math.isnan(value)) or whole == value
    [some] = source.aggregates("t", [measure], [(5,), ({"$numberLong": "99"},)])
    assert some is None or some in (0, 2)


def test_a_closed_reader_leaves_no_cursor_open(shop: "Database[Any]", url: str) -> None:
    shop.t.insert_many([{"_id": n} for n in range(500)])
    source = opened(url, fields={"t": {"_id": "integer"}})
    source._abouts["t"] = About("t", "collection", 500, 100_000)  # so that one slice takes several answers
    [part, _] = cut(source, "t", 5000)
    reader = source.read(part, ["_id"])
    next(reader)
    admin = shop.client.admin

    def running() -> int:
        return int(admin.command("serverStatus")["metrics"]["cursor"]["open"]["total"])

    assert running() == 1
    reader.close()  # type: ignore[attr-defined]
    assert running() == 0


def test_memory_is_that_of_an_answer(shop: "Database[Any]", url: str) -> None:
    for n in range(0, 400, 20):
        shop.t.insert_many([{"_id": n + at, "s": "x" * 100_000} for at in range(20)])  # 40 MB
    source = opened(url, fields={"t": {"_id": "integer", "s": "text"}})
    [part, _] = cut(source, "t", 5000)
    before = pa.total_allocated_bytes()
    most = 0
    for _ in source.read(part, ["_id", "s"]):
        most = max(most, pa.total_allocated_bytes() - before)
    assert 0 < most < 20 << 20


def test_tls_is_what_the_url_says(mongo: Mongo, mongo_database: str, tmp_path: Path) -> None:
    if not isinstance(mongo, Secantus):
        pytest.skip("the server of MIGRATE_TEST_MONGODB_URL has a certificate of its own, or none")
    certificate, key = certified(tmp_path)
    mongo.stop()
    mongo.start(f"--tls-cert-file={certificate}", f"--tls-key-file={key}")
    try:
        login = f"mongodb://tester:geheim%401@127.0.0.1:{mongo.port}/{mongo_database}?authSource=admin"
        assert opened(f"{login}&tls=true&tlsCAFile={certificate}").tables() == []
        with pytest.raises(RetryableError, match="certificate verify failed"):
            opened(f"{login}&tls=true&serverSelectionTimeoutMS=500").tables()
        with pytest.raises(RetryableError):
            opened(f"{login}&serverSelectionTimeoutMS=500").tables()
    finally:
        mongo.stop()
        mongo.start()


def certified(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "c.pem", folder / "k.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, private


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("mongodb://127.0.0.1:1/x?serverSelectionTimeoutMS=200", "cannot list the collections"),
        ("mongodb://tester:wrong@{place}/x?authSource=admin", "Check user, password and authSource"),
        ("mongodb://tester:sécret@{place}/x", "Check user, password"),
        ("mongodb://tester:a@b:sécret@{place}/x", "escape special characters"),
        ("mongodb://{place}", "names no database"),
        ("mongodb://{place}/x?nonsense=1", "Unknown option"),
    ],
)
def test_a_url_that_does_not_work_is_explained_without_its_password(mongo: Mongo, made: str, said: str) -> None:
    if not isinstance(mongo, Secantus):
        pytest.skip("the server of MIGRATE_TEST_MONGODB_URL may need no password")
    with pytest.raises((SourceError, RetryableError, UsageError)) as caught:
        opened(made.format(place=f"127.0.0.1:{mongo.port}")).tables()
    told = caught.value.message + caught.value.hint
    assert said in told
    assert "wrong" not in told
    assert "sécret" not in told


def test_what_is_missing_hides_nothing_else_from_check(shop: "Database[Any]", url: str) -> None:
    shop.customers.insert_many([{"_id": n, "v": n, "w": n} for n in range(10)])
    source = opened(url, fields={"customers": {"_id": "integer", "v": "text"}})
    found = {(each.what, each.level): each.said for each in source.preflight(["custommers", "customers"])}
    assert "no table 'custommers'" in found["custommers", "error"]
    assert "v: 10 of 10 rows looked at hold a value that does not fit" in found["customers", "warning"]
    source = opened(url, fields={"customers": {"_id": "integer", "v": "integer"}})
    assert source.doubts("customers") == {"_rest": "10 of 10 rows looked at have fields that no column takes: w"}


def test_a_collection_that_is_not_there_is_named(shop: "Database[Any]", url: str) -> None:
    shop.customers.insert_one({"_id": 1})
    with pytest.raises(UsageError, match="no table 'custommers'") as caught:
        opened(url).schema("custommers")
    assert "customers" in caught.value.hint


def test_a_lost_connection_is_retryable_and_its_slice_alone_is_read_again(
    mongo: Mongo, mongo_database: str, shop: "Database[Any]"
) -> None:
    if not isinstance(mongo, Secantus):
        pytest.skip("a proxy stands only before a server of this machine")
    shop.t.insert_many([{"_id": n, "s": "x" * 1000} for n in range(3000)])
    proxy = Proxy(mongo.port, lambda sent: b"getMore" in sent)
    source = opened(mongo.url(mongo_database, port=proxy.port), fields={"t": {"_id": "integer", "s": "text"}})
    parts = cut(source, "t", 1000)
    # Small answers, so that one slice takes several of them.
    source._abouts["t"] = About("t", "collection", 3000, 100_000)
    rows = source.read(parts[0], ["_id"])
    next(rows)
    with pytest.raises(RetryableError) as lost:
        list(rows)
    assert "Run the same command again" in lost.value.hint
    proxy.close()
    direct = opened(mongo.url(mongo_database), fields={"t": {"_id": "integer", "s": "text"}})
    assert [row["_id"] for row in read(direct, "t", parts[0], ["_id"])[0]] == list(range(1000))


def test_readers_side_by_side_read_it_once(shop: "Database[Any]", url: str) -> None:
    shop.t.insert_many([{"_id": n} for n in range(5000)])
    source = opened(url, connections=2)
    parts = cut(source, "t", 500)
    found: list[int] = []

    def work(some: list[Partition]) -> None:
        for part in some:
            found.extend(row["_id"] for row in read(source, "t", part, ["_id"])[0])

    threads = [threading.Thread(target=work, args=(parts[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(5000))
