"""How the rules of `keep` and `columns` are read, and what of a cluster they choose."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mappings.dedupe import Ballot, Dedupe, KeyRule, Standing
from mappings.survivorship import CHOOSE, KEEP, Order, Rule, held, parse_rule


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("first", Rule("first")),
        (" last ", Rule("last")),
        ("latest(ChangedAt)", Rule("latest", "ChangedAt", 7)),
        ("latest ( a )", Rule("latest", " a ", 8)),
        ("earliest(f(a, ')'))", Rule("earliest", "f(a, ')')", 9)),
        ("latest(a\n  + b)", Rule("latest", "a\n  + b", 7)),
        ("most_complete", Rule("most_complete")),
        ("most_complete()", Rule("most_complete")),
        ("latest", None),
        ("latest()", None),
        ("latest( )", None),
        ("first(a)", None),
        ("newest", None),
        ("filled", None),
        ("first, last", None),
        ("latest(a) DESC", None),
        ("FIRST", None),
        ("", None),
    ],
)
def test_a_rule_of_keep_as_it_is_written(text: str, rule: Rule | None) -> None:
    found = parse_rule(text, KEEP)
    assert (found and (found.how, found.by or None)) == (rule and (rule.how, rule.by))
    if rule is not None and rule.by is not None:
        assert found is not None
        assert text[found.at :].startswith(rule.by), "a fault in it would be told at another place"


@given(st.sampled_from(["latest", "earliest"]), st.text(min_size=1).filter(lambda by: by.strip() != ""))
def test_the_expression_of_a_rule_is_what_stands_between_its_brackets(how: str, by: str) -> None:
    for allowed in (KEEP, CHOOSE):
        assert parse_rule(f"{how}({by})", allowed) == Rule(how, by, len(how) + 1)


@given(st.text(), st.text())
def test_columns_are_held_under_names_that_no_case_makes_alike(a: str, b: str) -> None:
    a, b = (each.encode("utf-8", "replace").decode() for each in (a, b))
    assert (held(a).lower() == held(b).lower()) == (a == b)


ROWS = pa.RecordBatch.from_pydict(
    {
        "k": ["same"] * 5,
        "n": [3, None, 9, 9, 1],
        "t": ["bb", "a", None, "", "bb"],
        "u": ["é", "zz", None, None, "y"],
    }
)


def survivor(*keep: Order, keys: list[str | None] | None = None) -> int:
    return decided(keep, (), keys)[0]


def decided(
    keep: tuple[Order, ...], columns: tuple[tuple[str, Order], ...], keys: list[str | None] | None = None
) -> tuple[int, dict[str, object]]:
    """The survivor among the rows, and the values that it takes from others."""
    ballot = Ballot(Dedupe((KeyRule("k", ("k",), merges=True),), keep, columns), ["n", "t", "u"])
    places = pa.array(range(5)).to_numpy()
    try:
        ballot.cast(0, ROWS, places)
        ballot.stand(0, Standing(ROWS, places, places.astype("uint64"), keys or [None] * 5))
        ballot.elect()
        [losers] = ballot.losers()
        taken = {column: rows["value"][0].as_py() for column, rows in ballot.overrides(ROWS.schema)}
        return losers["by_ordinal"][0].as_py(), taken
    finally:
        ballot.close()


@pytest.mark.parametrize(
    ("keep", "lives"),
    [
        ((Order("first"),), 0),
        ((Order("last"),), 4),
        ((Order("latest", "n"),), 2),
        ((Order("latest", "n"), Order("last")), 3),
        ((Order("earliest", "n"),), 4),
        ((Order("most_complete", "·complete"),), 0),
        ((Order("most_complete", "·complete"), Order("latest", "n"), Order("first")), 0),
        ((Order("most_complete", "·complete"), Order("earliest", "n")), 4),
    ],
)
def test_keep_orders_and_what_one_rule_leaves_equal_the_next_decides(keep: tuple[Order, ...], lives: int) -> None:
    assert survivor(*keep) == lives


def test_what_all_rules_leave_equal_the_source_key_decides_then_the_order() -> None:
    assert survivor(Order("latest", "n"), keys=["a", "b", "no=9", "no=10", "c"]) == 3
    assert survivor(Order("latest", "n"), keys=["a", "b", None, "z", "c"]) == 3
    assert survivor(Order("latest", "n"), keys=["a", "b", "z", "z", "c"]) == 2


@pytest.mark.parametrize(
    ("column", "order", "value"),
    [
        ("u", Order("filled"), "é"),
        ("u", Order("most_frequent"), "é"),
        ("u", Order("most_complete", "·complete"), "zz"),
        ("u", Order("latest", "n"), "é"),
        ("u", Order("earliest", "n"), "y"),
        ("t", Order("filled"), None),
        ("t", Order("most_complete", "·complete"), "bb"),
        ("t", Order("most_frequent"), "bb"),
        ("n", Order("earliest", "n"), 1),
    ],
)
def test_a_column_chooses_for_itself_among_values_that_are_there(column: str, order: Order, value: object) -> None:
    """The survivor is row 3, whose u is NULL and whose t is empty; None: it keeps its own."""
    lives, taken = decided((Order("latest", "n"), Order("last")), ((column, order),))
    assert lives == 3
    assert taken == ({} if value is None else {column: value})
