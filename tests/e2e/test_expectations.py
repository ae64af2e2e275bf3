"""Expectations and checks, as users write them: what `check`, `plan` and `verify` say, and what the ledger keeps."""

from pathlib import Path

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
CREATE TABLE "Parents" ("the id" int PRIMARY KEY);
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
    parts = [f"    expect: {{{expect}}}"] if expect else []
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
    assert ended.out == "customers: equal\norders: equal\n"
    assert ended.err == ""
    assert shop.sql("SELECT name, level, findings FROM migrate_ledger.verification WHERE level = 'expectations'") == [
        ("customers", "expectations", 0)
    ]


UNMET = [
    ("not_null: [name]", ["id=4: name=NULL: expected not NULL"]),
    ("unique: [name]", ["id=1: name='Ann': expected unique", "id=5: name='Ann': expected unique"]),
    (
        "unique: [[name, born]]",
        [f"id={n}: name='Ann', born=1970-01-01: expected unique" for n in (1, 5)],
    ),
    ("accepted_values: {state: [open, paid]}", ["id=4: state='lost': expected one of open, paid"]),
    ("accepted_values: {id: [1, 2, 3, 4]}", ["id=5: id=5: expected one of 1, 2, 3, 4"]),
    (
        "between: {total: {least: 0, most: 99.99}}",
        ["id=2: total=-1.00: expected at least 0 and at most 99.99", "id=5: total=99999.00"],
    ),
    ("between: {born: {most: 2025-12-31}}", ["id=3: born=2030-01-01: expected at most 2025-12-31"]),
    # The text that Great Expectations offers spells this pattern with two backslashes, which finds other rows.
    (r"regex: {name: '^\w+$'}", [r'''id=3: name="O'Hara 3": expected matches ^\w+$''']),
    ("regex: {email: '@'}", ["id=2: email=(personal): expected matches @"]),
    ('regex: {name: "^[^\']*$"}', ['''id=3: name="O'Hara 3"''']),
    ("length: {name: 3}", ['''id=3: name="O'Hara 3": expected 3 characters''']),
    ("rows: {most: 3}", ["rows: expected at most 3 rows, and it is 5"]),
    ("foreign: {id: orders.customer}", [f"id={n}: id={n}: expected in orders.customer" for n in (2, 3, 4, 5)]),
    ("foreign: {id: public.Parents.the id}", [f"id={n}: id={n}" for n in (1, 2, 3, 4, 5)]),
    ("expect_column_values_to_match_like_pattern: {column: name, like_pattern: '%n%'}", ["id=2: name='Bob'"]),
    ("expect_column_max_to_be_between: {column: total, max_value: 10}", ["and it is 99999.0"]),
    ("expect_column_max_to_be_between: {column: email, max_value: 10}", []),
    ("expect_column_values_to_be_in_set: {column: born, value_set: [1970-01-01]}", ["id=2: born=1980-02-03"]),
]


@pytest.mark.parametrize(("expect", "found"), [pair for pair in UNMET if pair[1]], ids=lambda x: str(x)[:50])
def test_every_row_that_is_not_as_expected_is_named(shop: Rig, expect: str, found: list[str]) -> None:
    loaded(shop, expect)
    ended = shop.migrate("verify", code=3)
    assert "differences" not in ended.out
    lines = [line for line in ended.out.splitlines() if line.startswith("error: ")]
    for text in found:
        assert any(text in line for line in lines), ended.out
    if "id=" in found[0]:
        ids = {line.partition("id=")[2][0] for line in lines}
        assert ids == {text.partition("id=")[2][0] for text in found}
    assert "The target is not as expected." in ended.err
    assert "expectations" in shop.migrate("report", code=3).out
