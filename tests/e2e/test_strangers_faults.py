"""What strangers found in duplicates, references and settling: each as it was reported."""

from collections.abc import Callable

import pytest

from e2e.rig import Rig

HEAD = """\
migration: m
target: ${env:TARGET_URL}
defaults: {max_rejects: 100%}
sources: {f: {files: "*.csv", delimiter: comma}}
tables:
"""


def project(rig: Rig, tables: str, ddl: str, **files: str) -> None:
    for name, text in files.items():
        rig.write(f"{name}.csv", text)
    rig.write("migrate.yaml", HEAD + tables)
    rig.forget(ddl)


def test_a_replayed_survivor_keeps_what_it_took_over_from_its_cluster(rig: Rig) -> None:
    project(
        rig,
        """\
  g: {from: f.g, key: id, columns: {id: id}}
  p:
    from: f.p
    key: no
    columns: {id: no, email: email, ph: ph, g: {references: g, by: g}}
    nullif: ""
    dedupe: {match: email, keep: first, columns: {ph: filled}}
""",
        "CREATE TABLE g (id int PRIMARY KEY);"
        "CREATE TABLE p (id int PRIMARY KEY, email text, ph text, g int REFERENCES g)",
        g="id\n1\n",
        p="no,email,ph,g\n1,a,,7\n2,a,555,1\n",
    )
    rig.migrate("run")
    assert rig.sql("SELECT * FROM p") == []
    rig.sql("INSERT INTO g VALUES (7)")
    rig.migrate("rejects", "replay", "-s", "p")
    assert rig.sql("SELECT id, ph, g FROM p") == [(1, "555", 7)]


CYCLE = """\
  d:
    from: f.d
    key: id
    mode: replace
    columns: {id: id, head: {references: s, by: head}}
  s:
    from: f.s
    key: id
    mode: replace
    columns: {id: id, dep: {references: d, by: dep}}
"""
CYCLE_TABLES = "CREATE TABLE d (id int PRIMARY KEY, head int); CREATE TABLE s (id int PRIMARY KEY, dep int)"


@pytest.mark.parametrize("declared", [False, True])
def test_half_a_cycle_is_not_settled_alone(rig: Rig, declared: bool) -> None:
    keys = (
        "; ALTER TABLE d ADD FOREIGN KEY (head) REFERENCES s; ALTER TABLE s ADD FOREIGN KEY (dep) REFERENCES d"
        if declared
        else ""
    )
    project(rig, CYCLE, CYCLE_TABLES + keys, d="id,head\n10,30\n20,77\n", s="id,dep\n30,10\n31,20\n")
    refused = rig.migrate("run", "-s", "d", code=4).err
    assert declared or "-s d -s s" in refused
    assert rig.killed_at("settle", 1, "run").code == -9
    assert "reference each other in a cycle" in rig.migrate("run", "-s", "d", code=4).err
    rig.migrate("run")
    assert rig.sql("SELECT id FROM d") == [(10,)]
    assert rig.sql("SELECT id FROM s") == [(30,)]
    rig.migrate("verify")


PAIR = """\
  p:
    from: f.p
    key: id
    mode: replace
    columns: {{id: id, email: email}}
    {dedupe}
  c:
    from: f.c
    key: id
    mode: replace
    columns: {{id: id, p: {{references: p, by: p, orphans: {orphans}}}}}
"""
PAIR_TABLES = "CREATE TABLE p (id int PRIMARY KEY, email text); CREATE TABLE c (id int PRIMARY KEY, p int)"


def test_children_follow_a_parent_that_was_loaded_again(rig: Rig) -> None:
    """Though no foreign key is declared, and though the parent was loaded by a command of its own."""
    project(
        rig,
        PAIR.format(dedupe="dedupe: {match: email, keep: last}", orphans="reject"),
        PAIR_TABLES,
        p="id,email\n1,a\n2,a\n3,b\n",
        c="id,p\n10,1\n11,2\n12,3\n13,4\n",
    )
    rig.migrate("run")
    assert rig.sql("SELECT id, p FROM c ORDER BY 1") == [(10, 2), (11, 2), (12, 3)]
    rig.write("p.csv", "id,email\n2,a\n1,a\n4,b\n")
    rig.migrate("run", "-s", "p")
    assert "p is loaded again" in rig.migrate("plan").out
    rig.migrate("run")
    assert rig.sql("SELECT id, p FROM c ORDER BY 1") == [(10, 1), (11, 1), (13, 4)]
    assert "nothing to do" in rig.migrate("run", "--dry-run").out


def test_a_child_that_was_loaded_before_its_parent_follows_it_afterwards(rig: Rig) -> None:
    project(
        rig,
        PAIR.format(dedupe="dedupe: {match: email, keep: last}", orphans="keep"),
        PAIR_TABLES,
        p="id,email\n1,a\n2,a\n",
        c="id,p\n10,1\n11,2\n",
    )
    rig.migrate("run", "-s", "c")
    assert rig.value("SELECT count(*) FROM migrate_ledger.orphan") == 2
    rig.migrate("run")
    assert rig.sql("SELECT id, p FROM c ORDER BY 1") == [(10, 2), (11, 2)]


def test_orphans_that_are_kept_within_a_cycle_are_counted(rig: Rig) -> None:
    project(
        rig,
        """\
  t:
    from: f.t
    key: id
    columns: {id: id, boss: {references: t, by: boss, orphans: keep}}
    nullif: ""
""",
        "CREATE TABLE t (id text PRIMARY KEY, boss text)",
        t="id,boss\na,b\nb,\nc,zz\n",
    )
    said = rig.migrate("run", "--batch-rows", "1")
    assert "1 references to missing parents kept" in said.err
    assert rig.sql('SELECT "column", policy FROM migrate_ledger.orphan') == [("boss", "keep")]
    assert rig.sql("SELECT boss FROM t WHERE id = 'c'") == [("zz",)]
    rig.migrate("verify")


@pytest.mark.parametrize("policy", ["keep", "null", "reject"])
def test_a_table_that_references_itself_grows(rig: Rig, policy: str) -> None:
    project(
        rig,
        f"""\
  t:
    from: f.t
    key: id
    columns: {{id: id, boss: {{references: t, by: boss, orphans: "{policy}"}}}}
    nullif: ""
""",
        "CREATE TABLE t (id text PRIMARY KEY, boss text)",
        t="id,boss\na,b\nb,\nc,zz\n",
    )
    rig.write(
        "migrate.yaml", (rig.folder / "migrate.yaml").read_text().replace('files: "*.csv"', 'files: {t: "t*.csv"}')
    )
    rig.migrate("run", "--batch-rows", "1")
    rig.write("t2.csv", "id,boss\nd,yy\ne,a\n")
    rig.migrate("run", "--batch-rows", "1")
    loaded = 5 if policy != "reject" else 3
    assert rig.fates("t") == (5, loaded, 0, 0, 5 - loaded)
    assert rig.value("SELECT count(*) FROM migrate_ledger.orphan") == (2 if policy != "reject" else 0)
    rig.migrate("verify")


def test_an_upsert_says_that_former_survivors_would_stay(rig: Rig) -> None:
    project(
        rig,
        """\
  p:
    from: f.p
    key: id
    mode: upsert
    columns: {id: id, email: email}
    dedupe: {match: email, keep: last}
""",
        "CREATE TABLE p (id int PRIMARY KEY, email text)",
        p="id,email\n1,a\n2,a\n",
    )
    rig.migrate("run")
    rig.write("p.csv", "id,email\n1,a\n2,a\n8,a\n")
    assert "would stay beside those that survive now" in rig.migrate("run", code=4).err


@pytest.mark.parametrize(
    ("kind", "orphan"), [("numeric", "99"), ("numeric(6,2)", "99.5"), ("double precision", "1e300")]
)
def test_orphans_of_a_table_that_references_itself_are_found_whatever_the_keys_type(
    rig: Rig, kind: str, orphan: str
) -> None:
    project(
        rig,
        "  t: {from: f.t, key: id, columns: {id: id, boss: boss}, nullif: ''}\n",
        f"CREATE TABLE t (id {kind} PRIMARY KEY, boss {kind} REFERENCES t)",
        t=f"id,boss\n1,\n2,1\n3,{orphan}\n",
    )
    rig.migrate("run")
    assert rig.fates("t") == (3, 2, 0, 0, 1)
    rig.migrate("verify")


def test_a_cycle_by_a_key_that_only_postgresql_spells_is_refused(rig: Rig) -> None:
    project(
        rig,
        "  t: {from: f.t, key: id, columns: {id: id, boss: boss}, nullif: ''}\n",
        "CREATE TABLE t (id inet PRIMARY KEY, boss inet REFERENCES t)",
        t="id,boss\n10.0.0.1,\n10.0.0.2,10.9.9.9\n",
    )
    assert "boss is inet" in rig.migrate("run", code=4).err


@pytest.mark.parametrize(
    ("parent", "child", "values", "followed"),
    [
        ("int", "bigint", ("3000000000", "1"), 1),
        ("smallint", "int", ("99999", "1"), 1),
        ("bigint", "numeric(10)", ("1", "3"), 2),
        ("bigint", "numeric(10,2)", ("1.5", "1"), 1),
        ("varchar(5)", "char(5)", ("1", "3"), 2),
        ("char(5)", "varchar(5)", ("1", "9"), 1),
    ],
)
def test_children_follow_by_keys_of_kindred_types(
    rig: Rig, parent: str, child: str, values: tuple[str, str], followed: int
) -> None:
    project(
        rig,
        PAIR.format(dedupe="dedupe: {match: email, keep: last}", orphans="reject"),
        f"CREATE TABLE p (id {parent} PRIMARY KEY, email text); CREATE TABLE c (id int PRIMARY KEY, p {child})",
        p="id,email\n1,a\n2,a\n3,b\n",
        c="id,p\n" + "".join(f"{n},{v}\n" for n, v in enumerate(values)),
    )
    rig.migrate("run")
    assert rig.fates("c") == (2, followed, 0, 0, 2 - followed)
    assert {str(p).strip() for (p,) in rig.sql("SELECT p FROM c")} <= {"2", "3", "2.00"}
    rig.migrate("verify")


def test_keys_that_the_server_compares_with_none_are_refused_before_a_row_is_read(rig: Rig) -> None:
    project(
        rig,
        PAIR.format(dedupe="", orphans="reject"),
        "CREATE TABLE p (id text PRIMARY KEY, email text); CREATE TABLE c (id int PRIMARY KEY, p int)",
        p="id,email\n1,a\n",
        c="id,p\n1,1\n",
    )
    assert "the server compares no such two" in rig.migrate("run", code=2).err


def test_both_zeros_are_one_key(rig: Rig) -> None:
    project(
        rig,
        "  t: {from: f.t, mode: upsert, columns: {a: a}}\n",
        "CREATE TABLE t (a double precision PRIMARY KEY)",
        t="a\n0\n-0.0\n",
    )
    rig.migrate("run")
    assert rig.fates("t") == (2, 1, 1, 0, 0)


def test_made_tables_with_references_are_verified_and_run_again(rigs: Callable[[str], Rig]) -> None:
    rig = rigs("made")
    project(
        rig,
        """\
  d:
    from: f.d
    key: id
    primary_key: id
    columns: {id: {value: id, type: int, null: false}}
  s:
    from: f.s
    key: id
    primary_key: id
    columns: {id: {value: id, type: int, null: false}, dep: {references: d, by: dep}}
""",
        "",
        d="id\n1\n",
        s="id,dep\n1,1\n2,9\n",
    )
    rig.migrate("run")
    rig.migrate("verify")
    assert "already loaded" in rig.migrate("run").err
    assert rig.value(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 's'::regclass AND contype = 'f'"
    ) == ("FOREIGN KEY (dep) REFERENCES d(id)")


FULL = """\
  p:
    from: f.p
    key: [a, b]
    mode: replace
    nullif: ""
    columns:
      a: {value: a, type: int}
      b: {value: b, type: int}
      pa: {references: p, by: [pa, pb], column: a, orphans: ORPHANS}
      pb: {references: p, by: [pa, pb], column: b, orphans: ORPHANS}
  c: {from: f.c, key: id, mode: replace, nullif: "", columns: {id: id, a: a, b: b}}
"""
FULL_TABLES = """
CREATE TABLE p (a int, b int, pa int, pb int, PRIMARY KEY (a, b), CONSTRAINT whole FOREIGN KEY (pa, pb) REFERENCES p MATCH FULL);
CREATE TABLE c (id int PRIMARY KEY, a int, b int, CONSTRAINT of_p FOREIGN KEY (a, b) REFERENCES p MATCH FULL)
"""
FULL_FILES = {
    # The third and fourth name a parent by a part, the fifth one of those, the sixth nobody that is there.
    "p": "a,b,pa,pb\n1,1,,\n2,2,1,1\n3,3,1,\n4,4,,1\n5,5,3,3\n6,6,9,9\n",
    "c": "id,a,b\n" + "1,1,1\n2,,\n3,9,9\n" + "".join(f"{n},{n},\n" for n in range(10, 90)),
}


@pytest.mark.parametrize("killed", [False, True])
def test_match_full_takes_a_key_that_is_null_in_part_for_an_orphans(rig: Rig, killed: bool) -> None:
    """Within a table, where settling decides, and between tables, where more than isolating is for are screened."""
    project(rig, FULL.replace("ORPHANS", "reject"), FULL_TABLES, **FULL_FILES)
    dry = rig.migrate("run", "--dry-run", "--output", "json").json()["tables"]
    if killed:  # the foreign key is off then, and known by its definition only
        assert rig.killed_at("settle", 1, "run").code == -9
    rig.migrate("run")
    assert [t["rejected"] for t in dry] == [4, 81]
    assert rig.sql("SELECT a FROM p ORDER BY 1") == [(1,), (2,)]
    assert rig.sql("SELECT id FROM c ORDER BY 1") == [(1,), (2,)]
    told = rig.sql("SELECT name, key, reason FROM migrate_ledger.reject WHERE rule = 'foreign_key'")
    why = {(name, bytes(key).decode()): bytes(reason).decode() for name, key, reason in told}
    assert len(why) == 85
    partly = "is NULL, and the rest of what names its parent is not: MATCH FULL refuses that"
    assert why["p", "a=3, b=3"] == f"pb {partly} (whole)"
    assert why["p", "a=4, b=4"] == f"pa {partly} (whole)"
    assert "no row of public.p has" in why["p", "a=5, b=5"]
    assert why["c", "id=10"].startswith(f"b {partly} (of_p")
    assert rig.value("SELECT count(*) FROM pg_constraint WHERE conname = 'whole' AND convalidated") == 1
    rig.migrate("verify")


def test_a_key_that_is_null_in_part_becomes_null_where_that_is_said_of_orphans(rig: Rig) -> None:
    project(rig, FULL.replace("ORPHANS", '"null"'), FULL_TABLES, **FULL_FILES)
    rig.migrate("run")
    assert rig.sql("SELECT a, pa, pb FROM p WHERE pa IS NOT NULL ORDER BY 1") == [(2, 1, 1), (5, 3, 3)]
    assert rig.value("SELECT count(DISTINCT ordinal) FROM migrate_ledger.orphan") == 3
    rig.migrate("verify")


def test_children_follow_by_numbers_that_are_spelled_otherwise(rig: Rig) -> None:
    """For PostgreSQL 1 is 1.0, and numeric keeps the zeros."""
    project(
        rig,
        PAIR.format(dedupe="dedupe: {match: email, keep: last}", orphans="reject"),
        "CREATE TABLE p (id numeric PRIMARY KEY, email text); CREATE TABLE c (id int PRIMARY KEY, p numeric REFERENCES p)",
        p="id,email\n1,a\n2.50,a\n3,b\n",
        c="id,p\n10,1.0\n11,1\n12,2.5\n13,01.000\n14,3.0\n15,4\n",
    )
    rig.migrate("run")
    assert rig.sql("SELECT id, p::float FROM c ORDER BY 1") == [(10, 2.5), (11, 2.5), (12, 2.5), (13, 2.5), (14, 3.0)]
