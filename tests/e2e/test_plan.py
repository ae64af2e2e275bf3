"""What is decided about a table that was loaded before, and what is refused rather than guessed."""

import json

import pytest

from e2e.rig import Rig

PROJECT = """\
migration: m
target: ${env:TARGET_URL}
sources:
  s: {files: {t: "t*.csv", u: u.csv}, encoding: utf-8, delimiter: comma}
tables:
  t:
    from: s.t
    mode: MODE
    columns: {id: id, v: v}
"""
DDL = "CREATE TABLE t (id int PRIMARY KEY, v text)"


@pytest.fixture(autouse=True)
def no_children(rig: Rig) -> None:
    rig.write("u.csv", "id,t\n")


def loaded(rig: Rig, mode: str, ddl: str = DDL) -> None:
    rig.write("migrate.yaml", PROJECT.replace("MODE", mode))
    rig.write("t.csv", "id,v\n1,a\n2,b\n")
    rig.sql(ddl)
    rig.migrate("run")


def actions(rig: Rig) -> dict[str, tuple[str, str]]:
    plan = json.loads(rig.migrate("plan", "--output", "json").out)
    return {t["table"]: (t["action"], t["why"]) for level in plan["levels"] for t in level}


def test_a_target_that_was_dropped_is_not_made_again_unasked(rig: Rig) -> None:
    loaded(rig, "replace")
    rig.sql("DROP TABLE t")
    assert "public.t was dropped since it was loaded" in rig.migrate("run", code=4).err
    rig.sql(DDL)
    assert "dropped and made anew" in rig.migrate("run", code=4).err
    rig.migrate("run", "--restart")
    assert rig.value("SELECT count(*) FROM t") == 2


def test_another_target_is_another_table(rig: Rig) -> None:
    loaded(rig, "replace")
    rig.sql("CREATE TABLE elsewhere (id int, v text)")
    rig.write("migrate.yaml", PROJECT.replace("MODE", "replace") + "    to: elsewhere\n")
    assert "its rows went to public.t, the project now says public.elsewhere" in rig.migrate("run", code=4).err


@pytest.mark.parametrize(("mode", "code"), [("replace", 0), ("upsert", 0), ("append", 4)])
def test_a_changed_mapping_is_a_new_load(rig: Rig, mode: str, code: int) -> None:
    loaded(rig, mode)
    rig.write("migrate.yaml", PROJECT.replace("MODE", mode).replace("v: v", "v: upper(v)"))
    ended = rig.migrate("run", code=code)
    if code:
        assert "the mapping changed since it was loaded: column v was v and is upper(v)" in ended.err
        rig.migrate("run", "--restart")
    assert rig.sql("SELECT v FROM t ORDER BY 1") == [("A",), ("B",)]
    rig.migrate("verify")


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("append", ("add", "the source has grown")),
        ("replace", ("add", "the source has grown")),
        ("upsert", ("redo", "the source has grown")),
    ],
)
def test_a_file_that_came_later_is_loaded_too(rig: Rig, mode: str, expected: tuple[str, str]) -> None:
    loaded(rig, mode)
    assert actions(rig) == {"t": ("done", "already loaded")}
    rig.write("t_2.csv", "id,v\n3,c\n")
    assert actions(rig) == {"t": expected}
    rig.migrate("run")
    assert rig.sql("SELECT id FROM t ORDER BY 1") == [(1,), (2,), (3,)]
    assert rig.fates("t") == (3, 3, 0, 0, 0)
    rig.migrate("verify")


@pytest.mark.parametrize(("mode", "code"), [("replace", 0), ("upsert", 0), ("append", 3)])
def test_a_file_that_changed_is_loaded_again_where_its_rows_can_be_replaced(rig: Rig, mode: str, code: int) -> None:
    loaded(rig, mode)
    rig.write("t.csv", "id,v\n1,x\n2,b\n")
    ended = rig.migrate("run", code=code)
    assert rig.value("SELECT v FROM t WHERE id = 1") == ("a" if code else "x")
    if code:
        assert "what was already loaded from s.t has changed: 1 of 1 slices (of t.csv)" in ended.err


def test_rows_appended_to_strangers_cannot_be_loaded_again(rig: Rig) -> None:
    rig.sql(DDL + "; INSERT INTO t VALUES (9, 'old')")
    loaded(rig, "append", "SELECT 1")
    ended = rig.migrate("run", "--restart", code=4)
    assert "already held 1 others" in ended.err
    assert "cannot be told from those" in ended.err
    assert rig.value("SELECT count(*) FROM t") == 3


CHILD = """\
  u:
    from: s.u
    mode: MODE
    columns: {id: id, t: t}
"""
FAMILY = "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE u (id int PRIMARY KEY, t int REFERENCES t)"


@pytest.mark.parametrize(("mode", "code"), [("replace", 0), ("append", 4)])
def test_emptying_a_parent_loads_its_children_again(rig: Rig, mode: str, code: int) -> None:
    rig.write("u.csv", "id,t\n7,1\n8,2\n")
    rig.sql(FAMILY)
    rig.write("migrate.yaml", PROJECT.replace("MODE", "replace") + CHILD.replace("MODE", mode))
    rig.write("t.csv", "id,v\n1,a\n2,b\n")
    if mode == "append":  # it cannot even be begun: the parent's first load empties it
        assert "t is to be emptied (first load), and u references it" in rig.migrate("run", code=4).err
        return
    rig.migrate("run")
    rig.write("t.csv", "id,v\n1,changed\n2,b\n")
    assert actions(rig) == {"t": ("redo", "the source changed since it was loaded"), "u": ("redo", "t is loaded again")}
    rig.migrate("run")
    assert rig.sql("SELECT u.id, v FROM u JOIN t ON t.id = u.t ORDER BY 1") == [(7, "changed"), (8, "b")]
    rig.migrate("verify")


def test_tables_that_reference_each_other_in_a_circle_are_loaded_and_constrained_again(rig: Rig) -> None:
    rig.sql(FAMILY + "; ALTER TABLE t ADD u int; ALTER TABLE t ADD CONSTRAINT round FOREIGN KEY (u) REFERENCES u")
    project = PROJECT.replace("MODE", "replace").replace("columns: {", "columns: {u: u, ")
    rig.write("migrate.yaml", project + CHILD.replace("MODE", "replace"))
    rig.write("t.csv", "id,v,u\n1,a,7\n2,b,8\n")
    rig.write("u.csv", "id,t\n7,1\n9,2\n")
    rig.migrate("run", "--batch-rows", "1", "--max-rejects", "9")
    assert rig.sql("SELECT id, u FROM t") == [(1, 7)]
    assert rig.sql("SELECT id, t FROM u") == [(7, 1)]
    assert rig.fates("t") == (2, 1, 0, 0, 1)
    assert rig.fates("u") == (2, 1, 0, 0, 1)
    assert rig.value("SELECT convalidated FROM pg_constraint WHERE conname = 'round'")
    rig.migrate("verify")


def test_a_table_that_references_itself_is_loaded_in_any_order(rig: Rig) -> None:
    rig.sql("CREATE TABLE t (id int PRIMARY KEY, v int REFERENCES t)")
    rig.write("migrate.yaml", PROJECT.replace("MODE", "append"))
    rig.write("t.csv", "id,v\n1,2\n2,\n3,1\n4,77\n5,4\n")
    rig.migrate("run", "--batch-rows", "1", "--max-rejects", "9")
    assert rig.sql("SELECT id FROM t ORDER BY 1") == [(1,), (2,), (3,)]
    assert rig.fates("t") == (5, 3, 0, 0, 2)
    rig.migrate("verify")


def test_an_upsert_into_a_table_that_references_itself_is_refused(rig: Rig) -> None:
    """An orphan is found when all is loaded, and the row that it has overwritten would be gone by then."""
    rig.sql("CREATE TABLE t (id int PRIMARY KEY, v int REFERENCES t)")
    rig.write("migrate.yaml", PROJECT.replace("MODE", "upsert"))
    rig.write("t.csv", "id,v\n1,2\n2,\n")
    assert "mode upsert, and t_v_fkey is a reference" in rig.migrate("run", code=4).err


def test_the_plan_says_what_a_person_should_know_before(rig: Rig) -> None:
    rig.sql(
        DDL + "; CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$; "
        "CREATE TRIGGER audit BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f(); "
        "ALTER TABLE t ADD CONSTRAINT odd CHECK (md5(v) <> 'x')"
    )
    rig.write("migrate.yaml", PROJECT.replace("MODE", "append"))
    rig.write("t.csv", "id,v\n1,a\n")
    for said in (rig.migrate("plan").out, rig.migrate("check").out):
        assert "user triggers will fire for each row: audit" in said
        assert "checked by the server only: odd" in said


@pytest.mark.parametrize(
    ("grants", "said"),
    [
        ("", "migrate_ledger is missing and may not be created"),
        ("GRANT CREATE ON DATABASE {db} TO poor", "missing privileges SELECT, INSERT"),
        ("GRANT CREATE ON DATABASE {db} TO poor; GRANT SELECT, INSERT ON t TO poor", "missing privileges TRUNCATE"),
    ],
)
def test_check_says_which_privilege_is_missing_and_how_to_grant_it(rig: Rig, grants: str, said: str) -> None:
    database = rig.url.rpartition("/")[2]
    rig.sql("DROP ROLE IF EXISTS poor")
    rig.sql(f"CREATE ROLE poor LOGIN; {DDL}; REVOKE TEMP ON DATABASE {database} FROM PUBLIC")
    rig.sql(f"GRANT TEMP ON DATABASE {database} TO poor; " + grants.format(db=database))
    rig.write("migrate.yaml", PROJECT.replace("MODE", "replace"))
    rig.write("t.csv", "id,v\n1,a\n")
    poor = Rig(rig.folder, rig.url.replace("postgres@", "poor@"))
    ended = poor.try_("check")
    rig.sql("DROP OWNED BY poor; DROP ROLE poor")
    assert ended.code not in (0, 12), ended.said
    assert said in ended.said
    assert "GRANT" in ended.said


def test_check_says_that_a_table_cannot_be_created(rig: Rig) -> None:
    database = rig.url.rpartition("/")[2]
    rig.sql("DROP ROLE IF EXISTS bare")
    rig.sql(f"CREATE ROLE bare LOGIN; GRANT CREATE, TEMP ON DATABASE {database} TO bare; CREATE SCHEMA taken")
    rig.write("t.csv", "id,v\n1,a\n")
    bare = Rig(rig.folder, rig.url.replace("postgres@", "bare@"))
    for schema, said in (("sales", 'CREATE SCHEMA "sales"; or mend'), ("taken", 'GRANT CREATE ON SCHEMA "taken" TO')):
        rig.write("migrate.yaml", PROJECT.replace("MODE", f"append\n    to: {schema}.t"))
        assert said in bare.migrate("check", code=3).said
    rig.sql("DROP OWNED BY bare; DROP ROLE bare")


def test_a_key_that_only_the_server_can_compare_is_told(rig: Rig) -> None:
    rig.sql("CREATE TABLE t (id int PRIMARY KEY, v jsonb UNIQUE)")
    rig.write("migrate.yaml", PROJECT.replace("MODE", "append"))
    rig.write("t.csv", 'id,v\n1,"{}"\n')
    said = rig.migrate("plan").out
    assert "which rows share the key (v) only the server can tell" in said
    assert "the key (id)" not in said
