"""Elections: the same as plain Python finds them, whatever the cut, the order and the memory."""

import itertools
import random
import re
import resource
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mappings.dedupe import LOSERS, Ballot, Dedupe, KeyRule, Standing
from mappings.survivorship import Order
from migrate.errors import MigrateError

Row = dict[str, Any]

SCHEMA = pa.schema(
    [
        ("a", pa.string()),
        ("b", pa.string()),
        ("n", pa.int64()),
        ("d", pa.date32()),
        ("u", pa.binary(16)),
        ("m", pa.decimal128(9, 2)),
    ]
)
TEXTS = st.sampled_from([None, "", " ", "x", "X", "é", "e\u0301", "ñandú", "x:1", "1:x", "0", "ı", "𝄞"])
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "a": TEXTS,
            "b": TEXTS,
            "n": st.sampled_from([None, 0, 1, -1, 9, 10, 2**62]),
            "d": st.sampled_from([None, date(1, 1, 1), date(1999, 12, 31), date(2020, 2, 29)]),
            "u": st.sampled_from([None, b"\0" * 16, b"\0" * 15 + b"\\", b"x00\\" * 4, b"\xff" * 16]),
            "m": st.sampled_from([None, Decimal("0.00"), Decimal("-1.50"), Decimal("1.50")]),
        }
    ),
    max_size=14,
)
RULES = st.lists(
    st.builds(
        lambda columns, merges, blank: (tuple(columns), merges, blank),
        st.lists(st.sampled_from(SCHEMA.names), min_size=1, max_size=2, unique=True),
        st.booleans(),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
).map(lambda rules: tuple(KeyRule(f"rule {i}", *rule) for i, rule in enumerate(rules)))
KEEP = st.lists(
    st.sampled_from(
        [
            Order("first"),
            Order("last"),
            Order("most_complete", "·complete"),
            *(Order(how, column) for how in ("latest", "earliest") for column in ("n", "d", "m")),
        ]
    ),
    min_size=1,
    max_size=3,
).map(tuple)
CHOOSE = st.lists(
    st.tuples(
        st.sampled_from(SCHEMA.names),
        st.sampled_from(
            [
                Order("filled"),
                Order("most_complete", "·complete"),
                Order("most_frequent"),
                Order("latest", "n"),
                Order("earliest", "d"),
            ]
        ),
    ),
    max_size=3,
    unique_by=lambda choice: choice[0],
).map(tuple)


# ----------------------------------------------------------------------------------------- what is right, in plain Python


@dataclass(frozen=True)
class Result:
    """By row number: (survivor or keeper, fate) of each loser; (survivor, column) → the row whose value is taken."""

    losers: dict[int, tuple[int, str]]
    rules: dict[int, str]
    taken: dict[tuple[int, str], int]


def key_of(row: Row, rule: KeyRule) -> tuple[Any, ...] | None:
    values = tuple(row[c] for c in rule.columns)
    blank = [v is None or (not rule.blank_matches and isinstance(v, str) and v.strip(" ") == "") for v in values]
    return None if any(blank) else values


class Largest:
    """Turns an order around."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: "Largest") -> bool:
        return bool(other.value < self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Largest) and self.value == other.value


def rank(order: Order, rows: Sequence[Row], i: int) -> Any:
    if order.how == "first":
        return i
    if order.how == "last":
        return -i
    if order.how == "most_complete":
        return -sum(v is not None and v != "" for v in rows[i].values())
    value = rows[i][order.column]
    if value is None:
        return (1,)
    return (0, Largest(value) if order.how == "latest" else value)


def expected(rows: Sequence[Row], dedupe: Dedupe, source_keys: Sequence[str | None]) -> Result:
    n = len(rows)
    parent = list(range(n))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    for rule in dedupe.rules:
        seen: dict[Any, int] = {}
        for i, row in enumerate(rows):
            key = key_of(row, rule)
            if rule.merges and key is not None:
                parent[root(i)] = root(seen.setdefault(key, i))
    clusters: dict[int, list[int]] = {}
    for i in range(n):
        clusters.setdefault(root(i), []).append(i)

    def preference(i: int) -> Any:
        by_key = (source_keys[i] is None, (source_keys[i] or "").encode())
        return (*(rank(order, rows, i) for order in dedupe.keep), by_key, i)

    losers: dict[int, tuple[int, str]] = {}
    rules: dict[int, str] = {}
    taken: dict[tuple[int, str], int] = {}
    survivors = []
    for members in clusters.values():
        members.sort(key=preference)
        survivor = members[0]
        survivors.append(survivor)
        for i in members[1:]:
            losers[i] = (survivor, "merged")
            shared = [
                rule.name
                for rule in dedupe.rules
                if rule.merges and None is not key_of(rows[i], rule) == key_of(rows[survivor], rule)
            ]
            rules[i] = shared[0] if shared else "other duplicates"
        for column, order in dedupe.columns:
            chosen = choice(rows, members, column, order)
            if len(members) > 1 and chosen is not None and rows[chosen][column] != rows[survivor][column]:
                taken[survivor, column] = chosen
    held: dict[tuple[int, Any], int] = {}
    for i in sorted(survivors):
        keys = [(r, key_of(rows[i], rule)) for r, rule in enumerate(dedupe.rules) if not rule.merges]
        by = next(((held[k], k[0]) for k in keys if k[1] is not None and k in held), None)
        if by is not None:
            losers[i], rules[i] = (by[0], "rejected"), dedupe.rules[by[1]].name
        else:
            held |= {k: i for k in keys if k[1] is not None}
    return Result(losers, rules, taken)


def choice(rows: Sequence[Row], members: Sequence[int], column: str, order: Order) -> int | None:
    """The row whose value of a column lives on; `members` are in the order of preference, which breaks ties."""
    filled = [i for i in members if rows[i][column] is not None]
    if order.how == "filled":
        return filled[0] if filled else None
    if order.how == "most_frequent":
        values = [rows[i][column] for i in filled]
        return max(filled, key=lambda i: values.count(rows[i][column]), default=None)
    if order.how == "most_complete":
        return max(filled, key=lambda i: len(text(rows[i][column])), default=None)
    return min(filled, key=lambda i: rank(order, rows, i), default=None)


def text(value: Any) -> str:
    """A value as text, of the length that DuckDB's own has."""
    if isinstance(value, bytes):
        return "".join(chr(b) if 32 <= b < 127 and chr(b) not in "\\'\"" else f"\\x{b:02X}" for b in value)
    return str(value)


# ------------------------------------------------------------------------------------------------------- the real thing


@dataclass(frozen=True)
class Cut:
    """Ways to hold an election: the sizes of chunks, of batches, and the seed of the order in which these come."""

    chunk: int = 10**6
    batch: int = 10**6
    seed: int | None = None
    memory: str = "100MB"


def arrow(rows: Sequence[Row], schema: pa.Schema = SCHEMA) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(list(rows), schema)


def held(
    rows: pa.RecordBatch, dedupe: Dedupe, source_keys: Sequence[str | None] | None = None, cut: Cut | None = None
) -> "Ballot":
    """An election among all rows, of which row n is n. The caller closes it."""
    cut = cut or Cut()
    keys = source_keys or [None] * rows.num_rows
    ballot = Ballot(dedupe, rows.schema.names, cut.memory)
    parts = [
        (chunk, first, min(cut.batch, cut.chunk - (first - chunk * cut.chunk), rows.num_rows - first))
        for chunk in range(-(-rows.num_rows // cut.chunk))
        for first in range(chunk * cut.chunk, min((chunk + 1) * cut.chunk, rows.num_rows), cut.batch)
    ]
    if cut.seed is not None:
        random.Random(cut.seed).shuffle(parts)
    for chunk, first, n in parts:
        ballot.cast(chunk, rows.slice(first, n), np.arange(first, first + n) - chunk * cut.chunk)
    candidates = ballot.candidates()
    for chunk, first, n in parts:
        wanted = candidates.get(chunk, np.zeros(0, np.int64)) + chunk * cut.chunk
        here = wanted[(wanted >= first) & (wanted < first + n)]
        if len(here):
            standing = Standing(
                rows.take(pa.array(here)), here - chunk * cut.chunk, here.astype(np.uint64), [keys[i] for i in here]
            )
            ballot.stand(chunk, standing)
    ballot.elect()
    return ballot


def results(ballot: Ballot, rows: pa.RecordBatch, cut: Cut | None = None) -> Result:
    size = (cut or Cut()).chunk
    losers: dict[int, tuple[int, str]] = {}
    rules: dict[int, str] = {}
    order = []
    for batch in ballot.losers():
        assert batch.schema == LOSERS
        for row in batch.to_pylist():
            at = row["chunk"] * size + row["ordinal"]
            assert row["hash"] == at, "the hash of another row"
            order.append(at)
            losers[at] = (row["by_chunk"] * size + row["by_ordinal"], row["fate"])
            rules[at] = row["rule"]
    assert order == sorted(set(order)), "losers are not in the source's order, or named twice"
    fates = [fate for _, fate in losers.values()]
    assert ballot.tally() == (fates.count("merged"), fates.count("rejected"))
    taken: dict[tuple[int, str], int] = {}
    for column, found in ballot.overrides(rows.schema):
        for row in found.to_pylist():
            chosen = row["from_chunk"] * size + row["from_ordinal"]
            taken[row["chunk"] * size + row["ordinal"], column] = chosen
            assert row["value"] == rows[column][chosen].as_py()
    return Result(losers, rules, taken)


def elected(
    rows: pa.RecordBatch, dedupe: Dedupe, source_keys: Sequence[str | None] | None = None, cut: Cut | None = None
) -> Result:
    ballot = held(rows, dedupe, source_keys, cut)
    try:
        return results(ballot, rows, cut)
    finally:
        ballot.close()


def merging(*columns: str, **kw: Any) -> KeyRule:
    return KeyRule(", ".join(columns), columns, merges=True, **kw)


def unique(*columns: str) -> KeyRule:
    return KeyRule(f"key {', '.join(columns)}", columns, merges=False, blank_matches=True)


# ------------------------------------------------------------------------------------------------------------------ laws


@settings(max_examples=120, deadline=None)
@given(
    rows=ROWS,
    rules=RULES,
    keep=KEEP,
    columns=CHOOSE,
    keys=st.one_of(st.none(), st.permutations([f"no={n}" for n in range(14)])),
    cut=st.builds(Cut, st.integers(1, 6), st.integers(1, 4), st.integers(0, 99)),
)
def test_an_election_is_what_plain_python_finds_whatever_the_cut_and_the_order(
    rows: list[Row],
    rules: tuple[KeyRule, ...],
    keep: tuple[Order, ...],
    columns: tuple[tuple[str, Order], ...],
    keys: list[str] | None,
    cut: Cut,
) -> None:
    dedupe = Dedupe(rules, keep, columns)
    source_keys: list[str | None] = list(keys[: len(rows)]) if keys else [None] * len(rows)
    right = expected(rows, dedupe, source_keys)
    for way in (Cut(), cut):
        assert elected(arrow(rows), dedupe, source_keys, way) == right


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(
        st.fixed_dictionaries({"i": st.integers(0, 3), "t": st.sampled_from(["p", "q", "r", None])}), max_size=10
    ),
    orders=st.lists(st.permutations(range(10)), min_size=2, max_size=2),
)
def test_the_order_in_which_chunks_are_cast_and_stand_is_nothing(rows: list[Row], orders: list[list[int]]) -> None:
    """Each row is a chunk of its own, so that every order of rows is an order of chunks."""
    batch = arrow(rows, pa.schema([("i", pa.int64()), ("t", pa.string())]))
    dedupe = Dedupe((merging("t"), unique("i")), (Order("latest", "i"), Order("last")), (("t", Order("filled")),))
    found = []
    for order in orders:
        ballot = Ballot(dedupe, ["i", "t"])
        order = [n for n in order if n < len(rows)]
        for n in order:
            ballot.cast(n, batch.slice(n, 1), np.zeros(1, np.int64))
        candidates = ballot.candidates()
        for n in reversed(order):
            if n in candidates:
                assert candidates[n].tolist() == [0]
                ballot.stand(n, Standing(batch.slice(n, 1), np.zeros(1, np.int64), np.array([n], np.uint64), [None]))
        ballot.elect()
        found.append(results(ballot, batch, Cut(chunk=1)))
        ballot.close()
    assert found[0] == found[1] == expected(rows, dedupe, [None] * len(rows))


def test_little_memory_changes_nothing(tmp_path: Any) -> None:
    dice = random.Random(3)
    n = 60_000
    rows = pa.RecordBatch.from_pydict(
        {
            "email": [f"p{dice.randrange(n // 2)}@example.org" for _ in range(n)],
            "phone": [f"{dice.randrange(n):012}" if dice.random() < 0.8 else "" for _ in range(n)],
            "note": [f"{i:060}" for i in range(n)],
            "seen": [dice.randrange(1000) for _ in range(n)],
        }
    )
    dedupe = Dedupe(
        (merging("email"), merging("phone"), unique("seen", "note")),
        (Order("latest", "seen"), Order("most_complete", "·complete")),
        (("note", Order("most_frequent")), ("phone", Order("filled"))),
    )
    small = held(rows, dedupe, None, Cut(20_000, 5_000, 1, "40MB"))
    folder = small._folder
    try:
        assert results(small, rows, Cut(20_000)) == elected(rows, dedupe)
    finally:
        small.close()
    assert not folder.exists(), "what was spilled is left behind"


def crowd(n: int) -> tuple[Ballot, pa.RecordBatch]:
    rows = pa.RecordBatch.from_pydict({"k": [f"{i // 2}" for i in range(n)], "note": [f"{i:090}" for i in range(n)]})
    return Ballot(Dedupe((merging("k"),), (Order("first"),)), rows.schema.names, "40MB", table="people"), rows


def test_no_room_for_what_is_spilled_is_told_and_no_bug(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A disk that is full, as far as this process can tell."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ballot, rows = crowd(100_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def cast_until_full() -> None:
        for chunk in range(40):
            ballot.cast(chunk, rows, np.arange(rows.num_rows))

    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(MigrateError) as caught:
            cast_until_full()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        ballot.close()
    assert caught.value.exit_code == 1
    said = caught.value.message
    assert said.startswith("people: looking for its duplicates took more memory or temporary space than there is: ")
    assert "File too large. It had 40MB of memory and spilled" in said
    assert re.search(rf"into {tmp_path}, where [\d,]+ MB are free$", said)
    assert "TMPDIR" in caught.value.hint


def test_too_little_memory_is_told_while_results_are_read_too() -> None:
    ballot, rows = crowd(100_000)
    ballot.cast(0, rows, np.arange(rows.num_rows))
    (candidates,) = ballot.candidates().values()
    hashes = np.zeros(rows.num_rows, np.uint64)
    ballot.stand(0, Standing(rows, candidates, hashes, [f"{i:060}" for i in range(rows.num_rows)]))
    ballot._db.execute("SET memory_limit = '400MB'")
    ballot.elect()
    used = ballot._db.sql("SELECT sum(memory_usage_bytes)::BIGINT FROM duckdb_memory()").fetchall()[0][0]
    spilled = ballot._db.sql("SELECT coalesce(sum(size), 0)::BIGINT FROM duckdb_temporary_files()").fetchall()[0][0]
    ballot._db.execute(f"SET max_temp_directory_size = '{spilled + 1000}B'")
    ballot._db.execute(f"SET memory_limit = '{used + 1_000_000}B'")
    with pytest.raises(MigrateError, match="took more memory or temporary space"):
        list(ballot.losers())
    ballot.close()


# ------------------------------------------------------------------------------------------------------ keys that mislead


def matching(
    columns: Mapping[str, Sequence[Any]], rule: KeyRule, kinds: Mapping[str, pa.DataType] | None = None
) -> Any:
    """Sets of rows that are one by a rule."""
    arrays = {name: pa.array(values, (kinds or {}).get(name)) for name, values in columns.items()}
    found = elected(pa.RecordBatch.from_pydict(arrays), Dedupe((rule,), (Order("first"),)))
    sets: dict[int, set[int]] = {}
    for loser, (by, _) in found.losers.items():
        sets.setdefault(by, {by}).add(loser)
    return sorted(map(sorted, sets.values()))


PIECES = ["", "a", "b", ":", "1", "1:", "2:", "\0", "a\0", "é", "0:", "::"]


def test_no_text_runs_on_into_the_next_of_a_key() -> None:
    """All pairs of texts that look like a length, a separator or each other's end: as many keys as pairs."""
    pairs = [(x + y, z) for x, y, z in itertools.product(PIECES, repeat=3)]
    pairs = list(dict.fromkeys(pairs))
    first, second = map(list, zip(*pairs, strict=True))
    assert matching({"a": first, "b": second}, unique("a", "b")) == []
    assert matching({"a": [*first, "ab"], "b": [*second, "c"]}, unique("a", "b")) == []
    assert matching({"a": ["a", "ab", "a"], "b": ["bc", "c", "bc"]}, unique("a", "b")) == [[0, 2]]


@given(st.lists(st.tuples(st.text("a:1\0é", max_size=3), st.text("a:1\0é", max_size=3)), max_size=30, unique=True))
@settings(max_examples=40, deadline=None)
@example([("1:a", ""), ("1", ":a")])
def test_different_pairs_of_texts_are_different_keys(pairs: list[tuple[str, str]]) -> None:
    a, b = [p[0] for p in pairs], [p[1] for p in pairs]
    assert matching({"a": pa.array(a, pa.string()), "b": pa.array(b, pa.string())}, unique("a", "b")) == []


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.binary(16), [b"\0" * 16, b"\\x00" * 4, b"\\x5C" * 4, b"\xff" * 16, b"\\xFF" * 4]),
        (pa.binary(), [b"", b"\0", b"\\x00", b"\\\\x00", b"a"]),
        (
            pa.list_(pa.string()),
            [["a, b"], ["a", "b"], ["NULL"], [None], ["null"], [""], [], ["[a]"], ["'a'"], ["a\\"]],
        ),
        (pa.decimal128(38, 2), [Decimal("0.00"), Decimal("0.01"), Decimal(2**64), Decimal(-(2**64))]),
        (pa.int64(), [0, -1, 2**63 - 1, -(2**63)]),
        (pa.float64(), [0.1, 0.1 + 2**-56, 1e300, 5e-324, float("inf"), float("nan")]),
        (pa.timestamp("us", "UTC"), [0, 1, -1, 10**15, 999_999]),
        (pa.bool_(), [True, False]),
    ],
)
def test_values_of_a_type_are_one_where_they_are_equal_and_only_there(kind: pa.DataType, values: list[Any]) -> None:
    n = len(values)
    assert matching({"k": [*values, None, *values, None]}, unique("k"), {"k": kind}) == [
        [i, n + 1 + i] for i in range(n)
    ]


def test_both_zeros_are_one_key_as_they_are_to_the_server() -> None:
    assert matching({"k": [0.0, -0.0, 1.0]}, unique("k")) == [[0, 1]]
    assert matching({"k": ["0.0", "-0.0"]}, unique("k")) == []


def test_null_matches_nothing_and_the_empty_text_only_where_it_is_a_value() -> None:
    rows = {"a": [None, None, "", "", " ", " ", "x", "x"], "b": ["y"] * 8}
    assert matching(rows, merging("a", "b")) == [[6, 7]]
    assert matching(rows, merging("a")) == [[6, 7]]
    assert matching(rows, unique("a", "b")) == [[2, 3], [4, 5], [6, 7]]


# ---------------------------------------------------------------------------------------------------------------- names

OURS = (
    "pos",
    "place",
    "cluster",
    "members",
    "by_pos",
    "h0",
    "rule",
    "hash",
    "batch",
    "loser",
    "·key",
    "·hash",
    "·complete",
)


@pytest.mark.parametrize("name", OURS)
def test_a_column_may_have_any_name(name: str) -> None:
    rows = pa.RecordBatch.from_pydict({"email": ["a", "b", "a", "b"], name: pa.array([7, 7, 8, None], pa.int64())})
    dedupe = Dedupe((merging("email"),), (Order("latest", name),), ((name, Order("most_frequent")),))
    right = Result({0: (2, "merged"), 3: (1, "merged")}, {0: "email", 3: "email"}, {})
    ballot = held(rows, dedupe)
    try:
        found = results(ballot, rows)
        assert (found.losers, found.rules) == (right.losers, right.rules)
        assert [b.to_pydict() for b in ballot.keys([name], rows.schema)] == [
            {f"l·{name}": [7, None], f"s·{name}": [8, 7]}
        ]
    finally:
        ballot.close()


def test_names_that_differ_in_case_only_are_two_columns() -> None:
    rows = pa.RecordBatch.from_pydict({"Key": ["a", "a", "b"], "key": ["x", "y", "x"], "KEY": [1, 2, 3]})
    assert elected(rows, Dedupe((merging("key"),), (Order("latest", "KEY"),))).losers == {0: (2, "merged")}
    assert elected(rows, Dedupe((merging("Key"),), (Order("first"),))).losers == {1: (0, "merged")}
    assert elected(rows, Dedupe((merging("Key", "key"),), (Order("first"),))).losers == {}


# ------------------------------------------------------------------------------------------------------------------ size


@pytest.mark.parametrize("direction", ["along", "against", "shuffled"])
def test_a_chain_of_ten_thousand_rows_is_one_cluster_in_little_time(direction: str) -> None:
    """Row i shares a with i+1 where i is even, and b where it is odd."""
    n = 10_000
    places = list(range(n))
    if direction == "against":
        places.reverse()
    elif direction == "shuffled":
        random.Random(1).shuffle(places)
    rows = pa.RecordBatch.from_pydict(
        {"a": [f"a{i // 2}" for i in places], "b": [f"b{(i + 1) // 2}" for i in places], "i": places}
    )
    began = time.monotonic()
    found = elected(rows, Dedupe((merging("a"), merging("b")), (Order("earliest", "i"),)))
    took = time.monotonic() - began
    survivor = places.index(0)
    assert found.losers == {i: (survivor, "merged") for i in range(n) if i != survivor}
    assert sorted(found.rules.values()) == ["a", *["other duplicates"] * (n - 2)]
    assert took < 30, f"{took:.1f} s"


def test_a_cluster_of_a_hundred_thousand_rows() -> None:
    n = 100_000
    rows = pa.RecordBatch.from_pydict({"k": pa.array(["same"] * n), "i": np.arange(n), "v": np.arange(n) % 7})
    dedupe = Dedupe((merging("k"),), (Order("latest", "v"), Order("last")), (("v", Order("most_frequent")),))
    began = time.monotonic()
    ballot = held(rows, dedupe, None, Cut(9_999, 5_000))
    try:
        assert ballot.tally() == (n - 1, 0)
        survivor = max(i for i in range(n) if i % 7 == 6)
        [(name, losers, rule)] = ballot.summary().samples
        assert (name, len(losers), rule) == (f"chunk {survivor // 9_999}, row {survivor % 9_999}", 5, "k")
        assert sum(batch.num_rows for batch in ballot.losers()) == n - 1
    finally:
        ballot.close()
    assert time.monotonic() - began < 30


def test_unique_keys_in_a_long_alternation_are_refused_as_one_by_one() -> None:
    """Every second row of a chain lives: what the one before it loses, the next one wins."""
    n = 10_000
    rows = pa.RecordBatch.from_pydict({"a": [i // 2 for i in range(n)], "b": [(i + 1) // 2 for i in range(n)]})
    found = elected(rows, Dedupe((unique("a"), unique("b")), (Order("first"),)))
    assert found.losers == {i: (i - 1, "rejected") for i in range(1, n, 2)}


def test_no_rows_and_no_duplicates_are_nothing() -> None:
    empty = elected(arrow([]), Dedupe((merging("a"),), (Order("first"),)))
    assert empty == Result({}, {}, {})
    ballot = held(arrow([dict.fromkeys(SCHEMA.names)]), Dedupe((merging("a"),), (Order("first"),)))
    assert (ballot.tally(), ballot.summary().rows, list(ballot.keys(["a"], SCHEMA))) == ((0, 0), 0, [])
    ballot.close()


def test_children_do_not_follow_a_survivor_that_has_no_such_key() -> None:
    rows = pa.RecordBatch.from_pydict({"k": ["a", "a", "b", "b"], "code": ["1", None, None, "4"], "n": [1, 2, 1, 2]})
    ballot = held(rows, Dedupe((merging("k"),), (Order("latest", "n"),)))
    try:
        assert [batch.to_pylist() for batch in ballot.keys(["code"], rows.schema)] == [
            [{"l·code": None, "s·code": "4"}]
        ]
    finally:
        ballot.close()
