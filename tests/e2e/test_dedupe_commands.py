"""`migrate dedupe …` as a user types it, and what becomes of duplicates and references over a project's life."""

import csv
import io

import pytest

from e2e.rig import Ended, Rig, state_of

HEAD = """\
migration: m
target: ${env:TARGET_URL}
defaults: {max_rejects: 100%}
sources:
  a: {files: {people: "people*.csv"}, delimiter: comma, encoding: utf-8}
  o: {files: {orders: "orders*.csv"}, delimiter: comma, encoding: utf-8}
  b: {files: {people: "others*.csv"}, delimiter: comma, encoding: utf-8}
tables:
"""
PEOPLE = """\
  people:
    from: a.people
    key: no
    primary_key: no
    columns: {no: {value: no, type: int}, email: lower(email), city: city}
    dedupe: {match: email, keep: last, columns: {city: filled}}
"""
PEOPLE_CSV = "no,email,city\n1,A@x,Bern\n2,b@x,\n3,a@X,\n4,,\n5,,\n6,b@x,Uri\n7,a@x,\n"
ORDERS = """\
  orders:
    from: o.orders
    key: id
    primary_key: id
    columns: {id: {value: id, type: int}, person: {references: people, by: person}}
"""
ORDERS_CSV = "id,person\n10,1\n11,3\n12,7\n13,2\n14,4\n"


def project(rig: Rig, *tables: str, **files: str) -> None:
    rig.write("migrate.yaml", HEAD + "".join(tables))
    for name, text in files.items():
        rig.write(f"{name}.csv", text)


def pairs(text: str) -> list[tuple[str, ...]]:
    """(table, fate, rule, loser, survivor) of CSV."""
    header, *rows = csv.reader(io.StringIO(text))
    assert header == ["table", "fate", "rule", "loser", "survivor", "chunk", "row", "by_chunk", "by_row"]
    assert all(all(cell.isdigit() for cell in row[5:]) for row in rows)
    return [tuple(row[:5]) for row in rows]


def untouched(rig: Rig) -> bool:
    state = state_of(rig.url)
    return state["rows"] == {} and "phases" not in state


FOUND = [
    ("people", "merged", "email", "no=1", "no=7"),
    ("people", "merged", "email", "no=2", "no=6"),
    ("people", "merged", "email", "no=3", "no=7"),
]


# ---------------------------------------------------------------------------------------------------------- the commands


def test_a_preview_says_what_would_be_merged_and_writes_nothing(rig: Rig) -> None:
    project(rig, PEOPLE, people=PEOPLE_CSV)
    ended = rig.migrate("dedupe", "preview")
    assert "people: 3 rows would be merged into 2 others" in ended.out
    assert "no=7 ← no=1, no=3   (email)" in ended.out
    assert "no=6 ← no=2   (email)" in ended.out
    assert rig.migrate("dedupe", "preview", "--output", "json").json() == [
        {
            "table": "people",
            "merged": 3,
            "clusters": 2,
            "by_rule": {"email": 3},
            "rejected": 0,
            "largest": [
                {"survivor": "no=7", "losers": ["no=1", "no=3"], "rule": "email"},
                {"survivor": "no=6", "losers": ["no=2"], "rule": "email"},
            ],
        }
    ]
    assert untouched(rig)


def test_a_preview_writes_its_pairs_to_a_file_or_here(rig: Rig) -> None:
    project(rig, PEOPLE, people=PEOPLE_CSV)
    ended = rig.migrate("dedupe", "preview", "-o", "pairs.csv")
    assert ended.out.endswith("Wrote pairs.csv.\n")
    assert "3 rows would be merged" in ended.out
    assert pairs((rig.folder / "pairs.csv").read_text()) == FOUND
    for format in ("table", "json"):
        here = rig.migrate("dedupe", "preview", "-o", "-", "--output", format)
        assert pairs(here.out) == FOUND, "standard output holds more than CSV"


def test_json_stays_json_where_a_file_is_written_besides(rig: Rig) -> None:
    project(rig, PEOPLE, people=PEOPLE_CSV)
    ended = rig.migrate("dedupe", "preview", "-o", "pairs.csv", "--output", "json")
    assert ended.json()[0]["merged"] == 3
    assert pairs((rig.folder / "pairs.csv").read_text()) == FOUND


def test_progress_is_told_on_standard_error_only(rig: Rig) -> None:
    project(rig, PEOPLE, people=PEOPLE_CSV)
    ended = rig.migrate("dedupe", "preview", "-o", "-", "--log-format", "json")
    assert pairs(ended.out) == FOUND
    assert {event["event"] for event in ended.events()} >= {"elected"}
    quiet = rig.migrate("dedupe", "preview", "-q", "-o", "-")
    assert (pairs(quiet.out), quiet.err) == (FOUND, "")


def test_a_preview_tells_rejects_from_merges_and_none_from_nothing_to_look_for(rig: Rig) -> None:
    plain = PEOPLE.split("    dedupe")[0]
    project(rig, plain, people="no,email,city\n1,a,\n1,b,\n2,c,\n")
    ended = rig.migrate("dedupe", "preview")
    assert "people: 1 rows would be rejected: another one has their key, and comes before them" in ended.out
    rig.write("people.csv", PEOPLE_CSV)
    assert rig.migrate("dedupe", "preview").out == "No duplicates.\n"
    assert rig.migrate("dedupe", "preview", "--output", "json").json()[0]["merged"] == 0
    project(rig, plain.replace("    primary_key: no\n", ""))
    assert rig.migrate("dedupe", "preview").out == "No table has `dedupe`, or a unique key.\n"
    assert rig.migrate("dedupe", "preview", "--output", "json").json() == []


def test_what_is_wrong_ends_with_the_exit_code_of_its_kind(rig: Rig) -> None:
    project(rig, PEOPLE.replace("match: email", "match: emial"), people=PEOPLE_CSV)
    ended = rig.migrate("dedupe", "preview", code=2)
    assert 'column "emial" is not in the source. Did you mean "email"?' in ended.err
    project(rig, PEOPLE)
    rig.migrate("dedupe", "preview", "-s", "peple", code=2)
    (rig.folder / "people.csv").unlink()
    assert "people" in rig.migrate("dedupe", "preview", code=6).err
    rig.write("people.csv", PEOPLE_CSV)
    said = rig.migrate("dedupe", "preview", "-o", "nowhere/pairs.csv", code=2).err
    assert "nowhere/pairs.csv cannot be written: No such file" in said
    assert untouched(rig)


def test_an_export_is_of_what_is_loaded(rig: Rig) -> None:
    project(rig, PEOPLE, people=PEOPLE_CSV)
    ended = rig.migrate("dedupe", "export", code=4)
    assert (ended.out.strip(), "Nothing has been loaded yet." in ended.err) == ("", True)
    assert "migrate dedupe preview -o FILE" in ended.err
    rig.migrate("run")
    assert pairs(rig.migrate("dedupe", "export").out) == FOUND
    assert rig.migrate("dedupe", "export", "-o", "crosswalk.csv").out == "Wrote crosswalk.csv.\n"
    rig.write("people.csv", "no,email,city\n")
    assert pairs((rig.folder / "crosswalk.csv").read_text()) == FOUND
    assert pairs(rig.migrate("dedupe", "export", "-s", "people").out) == FOUND, "it looked at the source"


def test_a_failed_export_leaves_a_file_alone_that_is_there(rig: Rig) -> None:
    project(rig, PEOPLE, people=PEOPLE_CSV)
    rig.write("crosswalk.csv", "precious")
    rig.migrate("dedupe", "export", "-o", "crosswalk.csv", code=4)
    assert (rig.folder / "crosswalk.csv").read_text() == "precious"


def shown(rig: Rig) -> list[Ended]:
    return [
        rig.migrate("dedupe", "preview"),
        rig.migrate("dedupe", "preview", "--output", "json"),
        rig.migrate("dedupe", "preview", "--log-format", "json", "-o", "pairs.csv"),
    ]


def test_a_preview_shows_no_personal_keys(rig: Rig) -> None:
    rows = "no,email,city\n1,anna@x,Bern\n2,ANNA@x,\n3,otto@x,Uri\n"
    project(rig, PEOPLE.replace("key: no\n    primary", "key: email\n    primary"), people=rows)
    assert all("ANNA@x" in ended.out for ended in shown(rig)[:2])
    personal = PEOPLE.replace("key: no\n    primary", "personal: email\n    key: email\n    primary")
    project(rig, personal)
    for ended in shown(rig):
        assert "anna@x" not in ended.said.lower()
        assert "(personal)" in ended.out
    rig.migrate("run")
    assert "anna@x" not in rig.migrate("status").said.lower()


# --------------------------------------------------------------------------------------------------- what becomes of rows


def test_two_sources_fill_one_table_and_duplicates_are_found_across_them(rig: Rig) -> None:
    both = PEOPLE.replace("from: a.people", "from: [a.people, b.people]").replace(
        "key: no\n    pri", "key: [_source, no]\n    pri"
    )
    project(
        rig,
        both.replace("primary_key: no", "primary_key: email").replace("keep: last", "keep: first"),
        people="no,email,city\n1,a@x,\n2,b@x,Uri\n",
        others="no,email,city\n1,A@x,Bern\n2,c@x,\n3,C@x,Zug\n",
    )
    assert "people: 2 rows would be merged into 2 others" in rig.migrate("dedupe", "preview").out
    rig.migrate("run", "--batch-bytes", "20")
    assert rig.sql("SELECT email, no, city FROM people ORDER BY 1") == [
        ("a@x", 1, "Bern"),
        ("b@x", 2, "Uri"),
        ("c@x", 2, "Zug"),
    ]
    assert rig.fates("people") == (5, 3, 2, 0, 0)
    found = pairs(rig.migrate("dedupe", "export").out)
    assert [(loser, survivor) for *_, loser, survivor in found] == [
        ("_source=b.people, no=1", "_source=a.people, no=1"),
        ("_source=b.people, no=3", "_source=b.people, no=2"),
    ]
    rig.migrate("verify")


def test_one_row_becomes_rows_of_several_tables_that_reference_each_other(rig: Rig) -> None:
    tables = """\
  cities:
    from: a.people
    key: city
    where: city IS NOT NULL
    primary_key: id
    columns: {id: uuid(city), name: city}
    dedupe: {match: name}
  people:
    from: a.people
    key: no
    primary_key: no
    columns: {no: {value: no, type: int}, email: email, city: {references: cities, by: city, orphans: "null"}}
"""
    project(rig, tables, people="no,email,city\n1,a,Bern\n2,b,\n3,c,Bern\n4,d,Uri\n")
    rig.migrate("run")
    assert rig.sql("SELECT p.no, c.name FROM people p LEFT JOIN cities c ON c.id = p.city ORDER BY 1") == [
        (1, "Bern"),
        (2, None),
        (3, "Bern"),
        (4, "Uri"),
    ]
    assert (rig.fates("cities"), rig.fates("people")) == ((4, 2, 1, 1, 0), (4, 4, 0, 0, 0))
    rig.migrate("verify")


def foreign_keys(rig: Rig) -> list[tuple[object, ...]]:
    return rig.sql(
        "SELECT pg_get_constraintdef(oid), convalidated FROM pg_constraint "
        "WHERE contype = 'f' AND connamespace = 'public'::regnamespace"
    )


def test_a_table_that_the_toolkit_makes_gets_its_foreign_keys_when_it_is_finalized(rig: Rig) -> None:
    project(rig, PEOPLE, ORDERS, people=PEOPLE_CSV, orders=ORDERS_CSV + "15,99\n16,\n")
    rig.migrate("run")
    assert rig.sql("SELECT id, person FROM orders ORDER BY 1") == [
        (10, 7),
        (11, 7),
        (12, 7),
        (13, 6),
        (14, 4),
        (16, None),
    ]
    assert rig.fates("orders") == (7, 6, 0, 0, 1)
    assert foreign_keys(rig) == [("FOREIGN KEY (person) REFERENCES people(no)", True)]
    [reject] = rig.migrate("rejects", "list", "--output", "json").json()
    assert (reject["table"], reject["rule"], reject["column"], reject["key"]) == (
        "orders",
        "foreign_key",
        "person",
        "id=15",
    )
    rig.migrate("verify")
    plan = rig.migrate("plan", "--output", "json").json()
    assert [t["action"] for level in plan["levels"] for t in level] == ["done", "done"], (
        "its own key is another mapping"
    )


def test_orphans_that_are_kept_get_no_foreign_key(rig: Rig) -> None:
    project(
        rig,
        PEOPLE,
        ORDERS.replace("by: person", "by: person, orphans: keep"),
        people=PEOPLE_CSV,
        orders="id,person\n1,99\n2,1\n",
    )
    rig.migrate("run")
    assert rig.sql("SELECT id, person FROM orders ORDER BY 1") == [(1, 99), (2, 7)]
    assert foreign_keys(rig) == []
    assert rig.fates("orders") == (2, 2, 0, 0, 0)
    assert [o[1:] for o in state_of(rig.url)["orphans"]] == [(0, 0, "person", "keep")]


def test_a_child_is_an_orphan_where_the_survivor_has_no_such_key(rig: Rig) -> None:
    """Not a NULL: the reference of the row would be lost, and nobody told."""
    people = PEOPLE.replace("city: city}", "city: city, code: code}").replace("columns: {city: filled}", "")
    orders = ORDERS.replace("by: person}", "by: person, column: code}")
    people = people.replace("key: no\n    pri", "key: code\n    pri")
    project(
        rig,
        people.replace("keep: last, ", "keep: last"),
        orders,
        people="no,email,city,code\n1,a@x,,K1\n2,a@x,,\n3,b@x,,K3\n",
        orders="id,person\n10,K1\n11,K3\n",
    )
    rig.migrate("run", "--yes")
    assert rig.sql("SELECT id, person FROM orders") == [(11, "K3")]
    assert rig.fates("orders") == (2, 1, 0, 0, 1)


@pytest.mark.parametrize("name", ["place", "pos", "cluster", "Members"])
def test_columns_of_any_name_are_merged_and_loaded(rig: Rig, name: str) -> None:
    people = PEOPLE.replace("city: city}", f"city: city, {name}: {{value: city, type: text}}, E: email, e: no}}")
    project(rig, people.replace("{city: filled}", f"{{{name}: filled, e: most_frequent}}"), people=PEOPLE_CSV)
    rig.migrate("run")
    assert rig.sql(f'SELECT no, "{name}", "E", e FROM people ORDER BY 1') == [
        (4, None, None, "4"),
        (5, None, None, "5"),
        (6, "Uri", "b@x", "6"),
        (7, "Bern", "a@x", "7"),
    ]
    rig.migrate("verify")
    rig.sql("UPDATE people SET e = 'damaged' WHERE no = 4")
    rig.migrate("verify", code=3)


# ------------------------------------------------------------------------------------------------------------ what changes


def replaced(*tables: str) -> list[str]:
    return [t.replace("    primary_key", "    mode: replace\n    primary_key") for t in tables]


def test_a_new_file_whose_row_is_a_duplicate_of_an_old_one_starts_over(rig: Rig) -> None:
    project(rig, *replaced(PEOPLE, ORDERS), people_1=PEOPLE_CSV, orders=ORDERS_CSV)
    rig.migrate("run")
    assert rig.sql("SELECT person FROM orders WHERE id = 10") == [(7,)]
    rig.write("people_2.csv", "no,email,city\n8,A@x,Zug\n9,z@x,\n")
    assert rig.migrate("dedupe", "preview", "--output", "json").json()[0]["merged"] == 4
    plan = {t["table"]: t for level in rig.migrate("plan", "--output", "json").json()["levels"] for t in level}
    assert (plan["people"]["action"], plan["people"]["why"]) == ("redo", "the source has grown")
    assert (plan["orders"]["action"], plan["orders"]["why"]) == ("redo", "people is loaded again")
    rig.migrate("run", "--yes")
    assert rig.sql("SELECT no, city FROM people ORDER BY 1") == [
        (4, None),
        (5, None),
        (6, "Uri"),
        (8, "Zug"),
        (9, None),
    ]
    assert rig.sql("SELECT id, person FROM orders ORDER BY 1") == [(10, 8), (11, 8), (12, 8), (13, 6), (14, 4)]
    assert rig.fates("people") == (9, 5, 4, 0, 0)
    assert ("people", "merged", "email", "no=7", "no=8") in pairs(rig.migrate("dedupe", "export").out)
    rig.migrate("verify")


def test_a_newcomer_to_a_table_with_unique_keys_only_is_rejected_for_the_key_of_an_old_row(rig: Rig) -> None:
    plain = PEOPLE.split("    dedupe")[0]
    project(rig, plain, people_1="no,email,city\n1,a,old\n2,b,old\n")
    rig.migrate("run")
    rig.write("people_2.csv", "no,email,city\n2,x,new\n3,c,new\n3,y,new\n")
    plan = rig.migrate("plan", "--output", "json").json()["levels"][0][0]
    assert plan["action"] == "add"
    rig.migrate("run")
    assert rig.sql("SELECT no, city FROM people ORDER BY 1") == [(1, "old"), (2, "old"), (3, "new")]
    assert rig.fates("people") == (5, 3, 0, 0, 2)
    rejects = rig.migrate("rejects", "list", "--output", "json").json()
    assert sorted((r["key"], r["rule"], r["value"]) for r in rejects)[0][:2] == ("no=2", "unique")
    assert [r["rule"] for r in rejects] == ["unique", "unique"]
    rig.migrate("verify")


def test_parents_that_are_merged_otherwise_take_their_children_along(rig: Rig) -> None:
    project(rig, *replaced(PEOPLE, ORDERS), people=PEOPLE_CSV, orders=ORDERS_CSV)
    rig.migrate("run")
    project(rig, *replaced(PEOPLE.replace("keep: last", "keep: first"), ORDERS))
    rig.migrate("run", "--yes")
    assert rig.sql("SELECT id, person FROM orders ORDER BY 1") == [(10, 1), (11, 1), (12, 1), (13, 2), (14, 4)]
    rig.migrate("verify")


def test_children_that_were_appended_keep_their_parents_from_being_merged_anew(rig: Rig) -> None:
    project(rig, *replaced(PEOPLE), ORDERS, people_1=PEOPLE_CSV, orders=ORDERS_CSV)
    rig.migrate("run")
    before = state_of(rig.url)
    rig.write("people_2.csv", "no,email,city\n8,A@x,Zug\n")
    ended = rig.migrate("run", "--yes", code=4)
    assert "orders references it" in ended.err
    assert state_of(rig.url) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE migrate_ledger.crosswalk SET hash = hash + 1 WHERE loser = 'no=3'", "another row than the one"),
        ("UPDATE migrate_ledger.crosswalk SET ordinal = 99 WHERE loser = 'no=3'", "of its rows are duplicates, and"),
    ],
)
def test_rows_that_are_not_those_of_the_election_fail_their_chunk_whole(rig: Rig, change: str, said: str) -> None:
    """As of a source that does not hold still: files are pinned, so that the crosswalk is changed instead."""
    project(rig, PEOPLE, people=PEOPLE_CSV)
    rig.killed_at("prepared", 1, "run")
    assert rig.value("SELECT count(*) FROM migrate_ledger.crosswalk") == 3
    rig.sql(change)
    ended = rig.migrate("run", code=4)
    assert "the source has changed since its duplicates were found" in ended.err
    assert said in ended.err
    assert "`migrate run --restart -s people` starts the table over." in ended.err
    assert rig.sql("SELECT * FROM people") == []
    rig.migrate("run", "--restart", "--yes")
    assert rig.fates("people") == (7, 4, 3, 0, 0)
    rig.migrate("verify")


def test_a_file_that_changes_between_election_and_load_loads_nothing(rig: Rig) -> None:
    project(rig, PEOPLE, people=PEOPLE_CSV)
    rig.killed_at("prepared", 1, "run")
    rig.write("people.csv", PEOPLE_CSV.replace("3,a@X", "3,q@X"))
    ended = rig.migrate("run", code=6)
    assert "people.csv has changed since the plan was made" in ended.err
    assert rig.sql("SELECT * FROM people") == []
    rig.migrate("run", "--restart", "--yes")
    assert rig.fates("people") == (7, 5, 2, 0, 0)
