"""Expectations and checks, as users write them: what `check`, `plan` and `verify` say, and what the ledger keeps."""

import re
import shlex
import sys

import pytest

from e2e.rig import Rig

PROJECT = """\
migration: shop
target: ${{env:TARGET_URL}}
sources:
  crm:
    files: {{customers: customers.csv, orders: orders.csv}}
    encoding: utf-8
    delimiter: comma
{source}tables:
  customers:
    from: crm.customers
    key: id
    columns: {{id: id, name: name, email: email, born: born, total: total, state: state}}
    personal: [email]
{expect}
  orders:
    from: crm.orders
    columns: {{id: id, customer: customer}}
{orders}
"""
TABLES = """
CREATE TABLE customers (
    id int PRIMARY KEY, name text, email text, born date, total numeric(12, 2), state varchar(10), legacy text
);
CREATE TABLE orders (id int, customer int);
CREATE TABLE "Parents" ("the id" numeric PRIMARY KEY);
"""
CUSTOMERS = """\
id,name,email,born,total,state
1,Ann,ann@x.org,1970-01-01,10.50,open
2,Bob,bob,1980-02-03,-1,open
3,O'Hara 3,cid@x.org,2030-01-01,7,paid
4,,cid@x.org,1990-01-01,7,lost
5,Ann,ann5@x.org,1970-01-01,99999,paid
"""


@pytest.fixture
def shop(rig: Rig) -> Rig:
    rig.write("customers.csv", CUSTOMERS)
    rig.write("orders.csv", "id,customer\n1,1\n2,77\n3,\n")
    rig.sql(TABLES)
    return rig


def expecting(shop: Rig, expect: str = "", *, checks: str = "", orders: str = "", source: str = "") -> Rig:
    """Write the project; `expect` is the inside of its mapping."""
    written = expect if expect.startswith("\n") else f" {{{expect}}}"
    parts = [f"    expect:{written}"] if expect else []
    parts += [f"    checks:\n{checks}"] if checks else []
    shop.write("migrate.yaml", PROJECT.format(expect="\n".join(parts), orders=orders, source=source))
    return shop


def loaded(shop: Rig, *arguments: str, **more: str) -> Rig:
    expecting(shop, *arguments, **more)
    shop.migrate("run")
    return shop


def test_what_holds_is_equal_and_silent(shop: Rig) -> None:
    loaded(
        shop,
        "not_null: [id], unique: [id, [name, email]], length: {state: {least: 4, most: 4}}, rows: 5, "
        "accepted_values: {state: [open, paid, lost], id: [1, 2, 3, 4, 5]}, between: {born: {least: 1970-01-01}}, "
        "expect_column_mean_to_be_between: {column: total, min_value: 1}",
        checks="      none: SELECT id FROM customers WHERE id < 0\n",
    )
    ended = shop.migrate("verify")
    assert ended.out == "customers: equal; constraints: 2 guaranteed by the target\norders: equal\n"
    assert ended.err == ""
    assert shop.sql("SELECT name, level, findings FROM migrate_ledger.verification WHERE level = 'expectations'") == [
        ("customers", "expectations", 0)
    ]


UNMET = r"""
      not_null: [name]
      unique: [name, [name, born]]
      accepted_values: {state: [open, paid], id: [1, 2, 3, 4]}
      between: {total: {least: 0, most: 99.99}, born: {most: 2025-12-31}}
      regex: {name: '^\w+$', email: '@'}
      length: {name: {most: 7}}
      rows: {most: 3}
      foreign: {id: orders.customer, total: public.Parents.the id}
      expect_column_values_to_match_like_pattern: {column: name, like_pattern: "%'%"}
      expect_column_values_to_be_in_set: {column: born, value_set: [1970-01-01], severity: warning}
      expect_column_max_to_be_between:
        - {column: total, max_value: 10}
        - {column: born, max_value: 2000-01-01}
      expect_column_most_common_value_to_be_in_set: {column: email, value_set: [nobody]}
"""
FOUND = r"""
expect.accepted_values.id|id=5|5
expect.accepted_values.state|id=4|'lost'
expect.between.born|id=3|2030-01-01
expect.between.total|id=2|-1.00
expect.between.total|id=5|99999.00
expect.expect_column_max_to_be_between.born|None|2030-01-01
expect.expect_column_max_to_be_between.total|None|99999.0
expect.expect_column_most_common_value_to_be_in_set.email|None|(personal)
expect.expect_column_values_to_be_in_set.born|id=2|1980-02-03
expect.expect_column_values_to_be_in_set.born|id=3|2030-01-01
expect.expect_column_values_to_be_in_set.born|id=4|1990-01-01
expect.expect_column_values_to_match_like_pattern.name|id=1|'Ann'
expect.expect_column_values_to_match_like_pattern.name|id=2|'Bob'
expect.expect_column_values_to_match_like_pattern.name|id=5|'Ann'
expect.foreign.id|id=2|2
expect.foreign.id|id=3|3
expect.foreign.id|id=4|4
expect.foreign.id|id=5|5
expect.foreign.total|id=1|10.50
expect.foreign.total|id=2|-1.00
expect.foreign.total|id=3|7.00
expect.foreign.total|id=4|7.00
expect.foreign.total|id=5|99999.00
expect.length.name|id=3|"O'Hara 3"
expect.not_null.name|id=4|NULL
expect.regex.email|id=2|(personal)
expect.regex.name|id=3|"O'Hara 3"
expect.rows|None|5
expect.unique.name+born|id=1|'Ann', 1970-01-01
expect.unique.name+born|id=5|'Ann', 1970-01-01
expect.unique.name|id=1|'Ann'
expect.unique.name|id=5|'Ann'
"""


def test_every_row_that_is_not_as_expected_is_named(shop: Rig) -> None:
    """The text that Great Expectations offers for listing spells `\\w` with two backslashes, and dates as Python does."""
    loaded(shop)
    shop.sql("ALTER TABLE customers ADD COLUMN extra int")
    expecting(shop, UNMET)
    ended = shop.migrate("verify", "--output", "json", code=3)
    found = ended.json()
    told = [f for f in found["findings"] if not f["check"].startswith("drift.")]  # of the column that was added
    lines = sorted(f"{f['check']}|{f['key']}|{re.sub(r'[a-z]+=', '', f['actual'])}" for f in told)
    assert lines == FOUND.strip().splitlines()
    assert {f["severity"] for f in found["findings"] if "in_set.born" in f["check"]} == {"warning"}
    assert "bob" not in ended.out
    assert found["tables"][0]["unexpected"]["expect.foreign.id"] == 4
    assert ended.err.startswith("The target is not as expected.")
    report = shop.migrate("report", code=3).out
    assert "The target is not as expected: 29 findings of expectations and checks." in " ".join(report.split())
    assert "verified customers by expectations: 29 unexpected" in report
    assert "verified customers by rows: equal" in report


def test_warnings_are_shown_and_end_with_0(shop: Rig) -> None:
    loaded(
        shop,
        "severity: warning, not_null: [name]",
        checks="      old: {query: SELECT id FROM customers WHERE id > 4, severity: warning}\n",
    )
    ended = shop.migrate("verify", "--level", "counts")
    assert "customers: equal, 1 unexpected by expect.not_null.name, 1 unexpected by check.old" in ended.out
    assert "warning: customers: id=4: name=NULL: expected not NULL" in ended.out
    assert "warning: customers: check.old: id=5" in ended.out


def test_a_check_lists_its_rows_masked_and_writes_nothing(shop: Rig) -> None:
    checks = """\
      twice: |
        SELECT id, name, born, email AS who, lower(email) AS spelled, '%s' AS percent
        FROM customers WHERE name = 'Ann' ORDER BY id -- the oldest
      writes: "WITH gone AS (DELETE FROM customers RETURNING id) SELECT * FROM gone"
      several: SELECT 1; DROP TABLE customers
      wrong: SELECT nothing FROM customers
"""
    loaded(shop, checks=checks)
    ended = shop.migrate("verify", code=2)
    assert shop.value("SELECT count(*) FROM customers") == 5
    for name, why in (("writes", ""), ("several", "syntax error"), ("wrong", 'column "nothing" does not exist')):
        assert re.search(rf"migrate.yaml:\d+:\d+: .*tables.customers.checks.{name}.*{why}", ended.err), ended.err
    kept = shop.sql(
        'SELECT "check", key, actual FROM migrate_ledger.finding WHERE "check" = \'check.twice\' ORDER BY key'
    )
    shown = "who=(personal), spelled=(personal), percent=(personal)"
    assert kept == [("check.twice", f"id={n}, name='Ann', born=1970-01-01", shown) for n in (1, 5)]
    assert shop.migrate("report", code=3)


def test_a_check_that_takes_too_long_is_an_error_that_names_it(shop: Rig) -> None:
    loaded(shop, checks="      slow: SELECT pg_sleep(60) FROM customers\n")
    program = (
        "from migrate import expecting\nfrom migrate.cli import main\n"
        "expecting._PATIENCE = '300ms'\nmain(['verify', '--level', 'counts'])\n"
    )
    ended = shop.try_(command=(sys.executable, "-c", program))
    assert ended.code == 2
    assert "tables.customers.checks.slow took longer than 300ms and was stopped" in ended.err


def test_faults_are_told_with_their_place_before_anything_is_run(shop: Rig) -> None:
    """Nothing is loaded yet: names, arguments, columns and values are looked at without the table's rows."""
    expecting(
        shop,
        """
      not_null: [nam, name]
      accepted_values: {id: [one]}
      between: {total: {most: 9007199254740993}}
      expect_column_values_to_match_regx: {column: email, regex: a}
      expect_column_values_to_match_regex:
        - {column: email, regx: a}
        - {column: emial, regex: a}
      expect_column_values_to_be_between: {column: total, min_value: [1]}
      expect_column_values_to_be_increasing: {column: total}
""",
    )
    said = [
        'migrate.yaml:15:18: tables.customers.expect.not_null.nam: public.customers has no column "nam". Did you mean "name"?',
        'migrate.yaml:16:25: tables.customers.expect.accepted_values.id: "one" is no integer',
        "9007199254740993 is beyond what Great Expectations compares exactly",
        'there is no expectation "expect_column_values_to_match_regx". Did you mean "expect_column_values_to_match_regex"?',
        'expect_column_values_to_match_regex has no argument "regx". Did you mean "regex"?',
        'public.customers has no column "emial". Did you mean "email"?',
        "expect_column_values_to_be_between.total: min_value:",
        "expect_column_values_to_be_increasing.total cannot be evaluated in a database",
    ]
    ended = shop.migrate("plan", code=2)
    assert [text for text in said if text not in ended.err] == []
    assert ended.out == ""
    assert "no column" in shop.migrate("check", code=3).out


def test_what_cannot_be_evaluated_is_an_error_and_no_finding_of_rows(shop: Rig) -> None:
    loaded(shop, "regex: {name: '[a'}, not_null: [name]")
    ended = shop.migrate("verify", code=2)
    assert "migrate.yaml:14:22: tables.customers.expect.regex.name could not be evaluated" in ended.err
    assert "brackets [] not balanced" in ended.err
    assert "Traceback" not in ended.err
    # What was found is kept all the same, and the report does not call it proved.
    assert "name=NULL: expected not NULL" in shop.migrate("report", code=3).out


def test_past_the_limit_rows_are_counted_and_the_command_lists_them(shop: Rig) -> None:
    loaded(shop)
    shop.sql("ALTER TABLE customers DROP CONSTRAINT customers_pkey")
    shop.sql("INSERT INTO customers (id, name) SELECT n, 'it''s %' FROM generate_series(6, 100400) n")
    expecting(shop, r"regex: {name: '^\w+$'}, not_null: [email]")
    ended = shop.migrate("verify", "--level", "counts", code=3)
    assert "100,395 unexpected by expect.not_null.email" in ended.out
    assert "100,396 unexpected by expect.regex.name" in ended.out
    kept = shop.sql("SELECT message FROM migrate_ledger.finding WHERE \"check\" LIKE 'expect.%.more' ORDER BY 1")
    assert len(kept) == 2
    assert shop.value("SELECT count(*) FROM migrate_ledger.finding WHERE \"check\" ~ '^expect.*[a-z]$'") == 100_002
    for (message,), rows in zip(kept, (100_395, 100_396), strict=True):
        words = shlex.split(message.partition("all of them: ")[2])
        assert words[:2] == ["psql", "-c"]
        assert len(shop.sql(words[2])) == rows


def test_files_are_held_against_what_their_rows_are_expected_to_be(shop: Rig) -> None:
    source = r"""
    expect:
      customers:
        not_null: [name]
        unique: [email, [name, born]]
        accepted_values: {state: [open, paid]}
        between: {total: {least: 0, most: 99.99}, born: {most: 2025-12-31}}
        regex: {name: '^\w+$'}
        length: {id: 1}
"""
    expecting(shop, source=source.lstrip("\n"))
    ended = shop.migrate("run", code=3)
    assert shop.value("SELECT to_regclass('migrate_ledger.meta')") is None
    for line in (
        "not_null.name: 1 row is not as expected (not NULL): customers.csv:5 NULL",
        "unique.email: 2 rows are not as expected (unique): customers.csv:4 (personal), customers.csv:5 (personal)",
        "unique.name+born: 2 rows are not as expected (unique): customers.csv:2 'Ann', '1970-01-01', customers.csv:6",
        "accepted_values.state: 1 row is not as expected (one of open, paid): customers.csv:5 'lost'",
        "between.total: 2 rows are not as expected (at least 0 and at most 99.99): customers.csv:3 '-1', customers.csv:6",
        "between.born: 1 row is not as expected (at most 2025-12-31): customers.csv:4 '2030-01-01'",
        """regex.name: 1 row is not as expected (matches ^\\w+$): customers.csv:4 "O'Hara 3\"""",
    ):
        assert line in ended.err, ended.err
    assert "length" not in ended.err
    assert "unique.email: 2 rows" in shop.migrate("check", code=3).out
    expecting(shop, source=source.lstrip("\n").replace("customers:", "customers:\n        severity: warning"))
    assert "not_null.name: 1 row" in shop.migrate("run").err
    for was, now, said in (
        ("[name]", "[nmae]", '10:20: sources.crm.expect.customers.not_null: crm.customers has no column "nmae"'),
        (r"^\w+$", "[", "14:17: sources.crm.expect.customers.regex.name: Invalid Input Error: missing ]"),
    ):
        expecting(shop, source=source.lstrip("\n").replace(was, now))
        assert f"migrate.yaml:{said}" in shop.migrate("check", code=3).out


def test_only_those_who_expect_something_wait_for_great_expectations(shop: Rig) -> None:
    loaded(shop, checks="      none: SELECT 1 FROM customers WHERE false\n")
    program = (
        "import sys\nfrom migrate.cli import main\n"
        "try:\n    main(['verify'])\nfinally:\n    print('great_expectations' in sys.modules, file=sys.stderr)\n"
    )
    assert shop.try_(command=(sys.executable, "-c", program)).err == "False\n"


def test_nothing_is_written_beside_the_project_and_nothing_is_said(shop: Rig) -> None:
    loaded(shop, "not_null: [id]")
    shop.environment["HOME"] = str(shop.folder / "home")
    (shop.folder / "home").mkdir()
    before = sorted(path for path in shop.folder.rglob("*"))
    ended = shop.migrate("verify", "--level", "counts")
    assert (ended.out.count(": equal"), ended.out.count("\n"), ended.err) == (2, 2, "")
    assert sorted(path for path in shop.folder.rglob("*")) == before
