"""Expectations: what Great Expectations is asked, and the rows of its own statements, on a real database."""

from typing import Any

import psycopg
import pytest

from migrate.target import Connection
from validators.expectations import Expected, Place, Unanswered, Unmet, arguments, examine, faults, names

DDL = """
CREATE SCHEMA "Odd %s";
CREATE TABLE "Odd %s"."The ""Table" ("a %" int PRIMARY KEY, "B" text, c date, d int DEFAULT 7);
INSERT INTO "Odd %s"."The ""Table"
VALUES (1, 'x\\y', '2020-01-01'), (2, 'it''s', '2020-01-01'), (3, 'it''s', '2030-01-01'), (4, NULL, NULL), (5, NULL, NULL);
"""


@pytest.fixture
def place(conn: Connection, target_url: str) -> Place:
    conn.execute(DDL.encode())

    def connect() -> psycopg.Connection[Any]:
        connection = psycopg.connect(target_url)
        connection.read_only = True
        return connection

    return Place("Odd %s", 'The "Table', ("a %",), connect)


def rows(conn: Connection, unmet: Unmet | Unanswered) -> list[Any]:
    """The keys that the statement lists."""
    assert isinstance(unmet, Unmet), unmet
    cursor = conn.execute(unmet.statement.encode(), {**unmet.parameters, unmet.limit: None})
    return sorted(row[0] for row in cursor.fetchall())


ASKED = [
    ("expect_column_values_to_not_be_null", {"column": "B"}, [4, 5]),
    ("expect_column_values_to_match_regex", {"column": "B", "regex": r"\\"}, [2, 3]),
    ("expect_column_values_to_not_match_regex", {"column": "B", "regex": "it's"}, [2, 3]),
    ("expect_column_values_to_be_in_set", {"column": "B", "value_set": ["it's", "%"]}, [1]),
    ("expect_column_values_to_be_between", {"column": "c", "max_value": "2025-01-01"}, [3]),
    ("expect_column_values_to_be_unique", {"column": "B"}, [2, 3]),
    ("expect_compound_columns_to_be_unique", {"column_list": ["B", "c"]}, []),
    ("expect_compound_columns_to_be_unique", {"column_list": ["c", "d"]}, [1, 2]),
    (
        "expect_compound_columns_to_be_unique",
        {"column_list": ["c", "d"], "ignore_row_if": "any_value_is_missing"},
        [1, 2],
    ),
    ("expect_compound_columns_to_be_unique", {"column_list": ["B", "c"], "ignore_row_if": "never"}, []),
    ("expect_select_column_values_to_be_unique_within_record", {"column_list": ["B", "B"]}, [1, 2, 3]),
]


def test_the_rows_listed_are_those_that_are_counted(place: Place, conn: Connection) -> None:
    """Names and values that SQL, Python and the driver would each spell in their own way."""
    asked = [Expected(str(i), name, given) for i, (name, given, _) in enumerate(ASKED)]
    found = {unmet.expected.label: rows(conn, unmet) for unmet in examine(place, asked)}
    # A NULL is no double, also where Great Expectations is told to ignore no row.
    assert found == {str(i): expected for i, (*_, expected) in enumerate(ASKED) if expected}


def test_answers_come_in_the_order_of_the_questions(place: Place) -> None:
    asked = [
        Expected("rows", "expect_table_row_count_to_equal", {"value": 4}),
        Expected("broken", "expect_column_values_to_match_regex", {"column": "B", "regex": "[a"}),
        Expected("missing", "expect_column_values_to_not_be_null", {"column": "nope"}),
        Expected("met", "expect_column_values_to_not_be_null", {"column": "a %"}),
        Expected("max", "expect_column_max_to_be_between", {"column": "a %", "max_value": 1}),
    ]
    rows, broken, missing, most = examine(place, asked)
    assert isinstance(rows, Unmet)
    assert (rows.expected.label, rows.observed, rows.statement) == ("rows", "5", "")
    assert isinstance(broken, Unanswered)
    assert (broken.why, broken.cause) == (
        "invalid regular expression: brackets [] not balanced",
        "InvalidRegularExpression",
    )
    assert isinstance(missing, Unanswered)
    assert 'column "nope"' in missing.why
    assert isinstance(most, Unmet)
    assert most.observed == "5"


def test_faults_are_known_without_a_database() -> None:
    between = "expect_column_values_to_be_between"
    assert between in names()
    assert "unexpected_rows_expectation" not in names()
    assert arguments(between)[:3] == ["column", "condition_parser", "max_value"]
    assert "meta" not in arguments(between)
    assert faults(between, {"column": "a", "min_value": 1, "mostly": 0.9}) == []
    assert faults(between, {"column": "a"}) == [("", "min_value and max_value cannot both be None")]
    [(argument, said)] = faults(between, {"column": "a", "min_value": 1, "mostly": 3})
    assert argument == "mostly"
    assert "less than or equal to 1" in said
    assert faults("expect_column_values_to_be_json_parseable", {"column": "a"}) == [
        ("", "cannot be evaluated in a database")
    ]
