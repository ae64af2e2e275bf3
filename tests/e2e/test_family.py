"""Duplicates and references over eight tables: the same whatever the partitions and workers; nobody lost, nobody orphaned."""

from collections.abc import Callable

import pytest

from e2e import family
from e2e.rig import Rig

CUTS = [("8MB", "1"), ("2KB", "2"), ("700", "4")]


def test_any_partitioning_and_any_workers_give_the_same_crosswalk(rigs: Callable[[str], Rig]) -> None:
    states = []
    for size, jobs in CUTS:
        rig = rigs(size)
        family.make(rig, n=150)
        rig.migrate(*family.RUN, "--batch-bytes", size, "-j", jobs)
        assert family.orphans(rig) == []
        states.append(family.by_key(rig))
        verified = rig.migrate("verify")
        assert verified.out.count("equal") == 8, verified.out
    first = states[0]
    assert len(first["crosswalk"]) > 30  # type: ignore[arg-type]
    for state in states[1:]:
        assert {k for k in first if state[k] != first[k]} == set()
    rules = {(name, rule) for name, rule, *_ in first["rejects"]}  # type: ignore[attr-defined]
    assert {
        ("companies", "check"),
        ("companies", "survivor"),
        ("persons", "foreign_key"),
        ("departments", "foreign_key"),
        ("staff", "foreign_key"),
        ("staff", "unique"),
        ("regions", "unique"),
        ("lines", "unique"),
        ("lines", "foreign_key"),
    } <= rules


def test_every_child_is_with_its_parents_survivor_or_rejected(rig: Rig) -> None:
    """Told from the source files alone, by another way than the product's."""
    family.make(rig, n=120, seed=9)
    rig.migrate(*family.RUN, "--batch-bytes", "1KB")
    survivor = dict(
        rig.sql("SELECT loser, survivor FROM migrate_ledger.crosswalk WHERE name = 'persons' AND fate = 'merged'")
    )
    assert survivor
    rejected = {
        r[0] for r in rig.sql("SELECT convert_from(key, 'UTF8') FROM migrate_ledger.reject WHERE name = 'orders'")
    }
    lines = (rig.folder / "old/orders.csv").read_text().splitlines()[1:]
    emails = dict(rig.sql("SELECT o.no, p.email FROM orders o JOIN persons p ON p.id = o.person"))
    people = {
        line.split(",")[0]: line.split(",")[1] for line in (rig.folder / "old/persons.csv").read_text().splitlines()[1:]
    }
    followed = 0
    for line in lines:
        no, person = line.split(",")
        if f"no={no}" in rejected:
            continue
        lives_on = survivor.get(f"no={person}", f"no={person}").removeprefix("no=")
        followed += lives_on != person
        assert emails[int(no)] == people[lives_on].strip().lower()
    assert followed > 5
    assert len(emails) + len(rejected) == len(lines)


def test_a_rejected_survivor_takes_its_cluster_along_and_brings_it_back(rig: Rig) -> None:
    rig.write("a.csv", "no,email,name\n1,x@y,forbidden\n2,X@Y,b\n3,z@z,c\n")
    rig.write("b.csv", "no,person\n10,1\n11,2\n12,3\n")
    rig.write(
        "migrate.yaml",
        """\
migration: m
target: ${env:TARGET_URL}
defaults: {max_rejects: 100%}
sources: {f: {files: "*.csv", delimiter: comma}}
tables:
  people:
    from: f.a
    key: no
    columns: {no: no, email: lower(email), name: name}
    dedupe: {match: email}
  children:
    from: f.b
    key: no
    columns: {no: no, person: {references: people, by: person, orphans: reject}}
""",
    )
    rig.forget(
        "CREATE TABLE people (no int PRIMARY KEY, email text, name text CHECK (name !~ 'forbidden'));"
        "CREATE TABLE children (no int PRIMARY KEY, person int REFERENCES people)"
    )
    rig.migrate("run")
    assert rig.sql("SELECT no FROM people") == [(3,)]
    assert rig.sql("SELECT * FROM children") == [(12, 3)]
    reasons = [r["reason"] for r in rig.migrate("rejects", "list", "--output", "json", "-s", "people").json()]
    assert "it is the same as no=1 (by email), and that row, which was to live on, was rejected" in reasons
    assert "lives on in no=1" in rig.migrate("rejects", "replay", "2", code=3).said
    rig.write("fixed/a.csv", "no,email,name\n1,x@y,mended\n")
    rig.migrate("rejects", "replay", "-s", "people", "--from", "fixed/a.csv")
    assert rig.sql("SELECT no, name FROM people ORDER BY 1") == [(1, "mended"), (3, "c")]
    assert rig.fates("people") == (3, 2, 1, 0, 0)
    rig.migrate("rejects", "replay", "-s", "children")
    assert rig.sql("SELECT * FROM children ORDER BY 1") == [(10, 1), (11, 1), (12, 3)]
    rig.migrate("verify")


@pytest.mark.parametrize("mode", ["append", "replace"])
def test_of_rows_that_share_a_key_the_first_is_loaded_and_the_others_say_which(rig: Rig, mode: str) -> None:
    rows = "".join(f"{n},{'a' if n % 2 else n}\n" for n in range(1, 30))
    rig.write("a.csv", f"no,code\n{rows}")
    rig.write(
        "migrate.yaml",
        f"""\
migration: m
target: ${{env:TARGET_URL}}
defaults: {{max_rejects: 100%}}
sources: {{f: {{files: "*.csv", delimiter: comma}}}}
tables:
  t: {{from: f.a, key: no, mode: {mode}, columns: {{no: no, code: code}}}}
""",
    )
    rig.forget("CREATE TABLE t (no int, code text UNIQUE)")
    rig.migrate("run", "--batch-bytes", "30", "-j", "3")
    assert rig.sql("SELECT no FROM t WHERE code = 'a'") == [(1,)]
    reasons = {r["reason"] for r in rig.migrate("rejects", "list", "--output", "json").json()}
    assert reasons == {"another row has the same key code, and comes before it: no=1"}


def test_rows_that_were_there_before_keep_their_keys(rig: Rig) -> None:
    rig.write("a.csv", "no\n" + "".join(f"{n}\n" for n in range(500)))
    rig.write(
        "migrate.yaml",
        """\
migration: m
target: ${env:TARGET_URL}
defaults: {max_rejects: 100%}
sources: {f: {files: "*.csv", delimiter: comma}}
tables:
  t: {from: f.a, key: no, columns: {no: no}}
""",
    )
    rig.forget(
        "CREATE TABLE t (no int PRIMARY KEY, mine bool); INSERT INTO t SELECT n, true FROM generate_series(100, 399) n"
    )
    rig.migrate("run")
    assert rig.fates("t") == (500, 200, 0, 0, 300)
    assert rig.value("SELECT count(*) FROM t WHERE mine") == 300
    assert rig.value("SELECT convert_from(reason, 'UTF8') FROM migrate_ledger.reject LIMIT 1") == (
        "a row that was in public.t before has the same no"
    )
