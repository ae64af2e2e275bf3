"""Replays that must not double, overwrite or block a row: shared keys, upsert, sequences."""

import json

import pytest

from e2e.rig import Rig

PROJECT = """\
migration: m
target: ${env:TARGET_URL}
defaults: {max_rejects: 100%%}
sources:
  s: {files: {t: t.csv}, encoding: utf-8, delimiter: comma}
tables:
  t:
    from: s.t
    %s
"""
REPLAY = ("rejects", "replay", "-s", "t")


def load(rig: Rig, mapping: str, ddl: str, text: str) -> None:
    rig.write("migrate.yaml", PROJECT % mapping.replace("\n", "\n    "))
    rig.write("t.csv", text)
    rig.sql(ddl)
    rig.migrate("run")


def stored(rig: Rig, columns: str = "*") -> list[tuple[object, ...]]:
    return rig.sql(f"SELECT {columns} FROM t ORDER BY t")


def test_a_key_that_a_loaded_row_shares_is_not_what_a_reject_is_found_by(rig: Rig) -> None:
    load(rig, "key: k\ncolumns: {k: k, n: n}", "CREATE TABLE t (k int, n int)", "k,n\n1,10\n1,x\n2,20\n3,y\n")
    # Not a copy of the source: nothing tells which of the two is the mended one. The other reject's key does.
    rig.write("mended.csv", "k,n\n2,20\n1,11\n1,10\n3,30\n")
    ended = rig.migrate(*REPLAY, "--from", "mended.csv", "--output", "json", code=3)
    [bad] = json.loads(ended.out)["still_bad"]
    assert "its key k=1 stands 2 times in mended.csv" in bad["reason"]
    assert stored(rig) == [(1, 10), (2, 20), (3, 30)]
    # A copy of the source: the line tells it.
    rig.write("mended.csv", "k,n\n1,10\n1,11\n2,20\n3,30\n")
    rig.migrate(*REPLAY, "--from", "mended.csv")
    assert stored(rig) == [(1, 10), (1, 11), (2, 20), (3, 30)]
    assert rig.fates("t") == (4, 4, 0, 0, 0)
    assert "2 rows share k=1: the source's key k lets one have it" in rig.migrate("verify", code=3).out


def test_a_loaded_row_is_not_taken_for_the_mended_one_that_was_left_out(rig: Rig) -> None:
    """The rejected row is gone from the fixed file, and no unique key would refuse its namesake a second time."""
    load(rig, "key: k\ncolumns: {k: k, n: n}", "CREATE TABLE t (k int, n int)", "k,n\n1,10\n1,x\n2,20\n3,y\n")
    rig.write("mended.csv", "k,n\n1,10\n2,20\n3,30\n")
    ended = rig.migrate(*REPLAY, "--from", "mended.csv", "--output", "json", code=3)
    [bad] = json.loads(ended.out)["still_bad"]
    assert "its key k=1 stands on another row too" in bad["reason"]
    assert stored(rig) == [(1, 10), (2, 20), (3, 30)]


def test_an_older_row_does_not_overwrite_a_newer_one(rig: Rig) -> None:
    load(
        rig,
        "mode: upsert\nkey: id\ncolumns: {id: id, v: v, n: n}",
        "CREATE TABLE t (id int PRIMARY KEY, v text, n int)",
        "id,v,n\n1,old,x\n1,new,2\n2,only,y\n",
    )
    rig.write("mended.csv", "id,v,n\n1,old,1\n2,only,3\n")
    ended = rig.migrate(*REPLAY, "--from", "mended.csv", code=3)
    assert "duplicate key" in ended.out
    assert stored(rig) == [(1, "new", 2), (2, "only", 3)]
    assert rig.fates("t") == (3, 2, 0, 0, 1)


@pytest.mark.parametrize("size", ["1MB", "20B"])
def test_of_several_rejects_with_one_key_the_last_one_lives(rig: Rig, size: str) -> None:
    """Also where they are in several chunks; the others live on in it, as they would have at the load."""
    rig.write("migrate.yaml", PROJECT % "mode: upsert\n    columns: {id: id, v: v}")
    rig.write("t.csv", "id,v\n1,first\n2,bad\n1,second\n1,bad\n3,third\n")
    rig.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
    rig.sql(
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF new.v = 'bad' THEN RAISE check_violation; END IF; RETURN new; END $$"
    )
    rig.sql("CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()")
    rig.migrate("run", "--batch-bytes", size)
    assert stored(rig) == [(3, "third")]
    assert rig.fates("t") == (5, 1, 0, 0, 4)
    rig.sql("DROP TRIGGER g ON t")
    for _ in range(2):
        rig.migrate(*REPLAY)
        assert stored(rig) == [(1, "bad"), (2, "bad"), (3, "third")]
        assert rig.fates("t") == (5, 3, 2, 0, 0)
    rig.migrate("verify")


def test_a_region_mended_into_several_rows_goes_in_as_a_whole(rig: Rig) -> None:
    """One of its rows is refused, so none goes in, and none of them stands in the way of another reject."""
    load(
        rig,
        "columns: {id: id, v: v}",
        "CREATE TABLE t (id int PRIMARY KEY, v text)",
        'id,v\n1,a\n2,"b\nc"x\n4,d\n5,"e"x\n6,f\n',
    )
    assert stored(rig, "id") == [(1,), (4,), (6,)]
    rig.write("mended.csv", "id,v\n1,a\n5,b\n4,c\n4,d\n5,e\n6,f\n")
    assert "1 of 2" in rig.migrate(*REPLAY, "--from", "mended.csv", code=3).out
    assert stored(rig) == [(1, "a"), (4, "d"), (5, "e"), (6, "f")]
    rig.write("mended.csv", "id,v\n1,a\n2,b\n3,c\n4,d\n5,e\n6,f\n")
    rig.migrate(*REPLAY, "--from", "mended.csv")
    assert stored(rig, "id") == [(n,) for n in range(1, 7)]
    assert rig.fates("t") == (6, 6, 0, 0, 0)


@pytest.mark.parametrize("name", ["id", "id%x"])
def test_sequences_move_past_what_was_replayed(rig: Rig, name: str) -> None:
    load(
        rig,
        f"key: id\ncolumns: {{'{name}': id, v: v}}",
        f'CREATE TABLE t ("{name}" serial PRIMARY KEY, v int)',
        "id,v\n1,1\n2,2\n3,x\n4,y\n",
    )
    rig.write("mended.csv", "id,v\n3,3\n4,4\n")
    rig.migrate(*REPLAY, "--from", "mended.csv")
    assert rig.sql(f'INSERT INTO t (v) VALUES (9) RETURNING "{name}"') == [(5,)]


def test_a_sequence_that_was_never_used_is_not_set_down(rig: Rig) -> None:
    """START 1000 keeps new ids clear of the old ones; what was loaded below it must not change that."""
    ddl = (
        "CREATE TABLE t (id int GENERATED BY DEFAULT AS IDENTITY (START 1000) PRIMARY KEY, "
        "other int GENERATED BY DEFAULT AS IDENTITY (START 3), v int)"
    )
    load(rig, "columns: {id: id, other: id, v: v}", ddl, "id,v\n1,1\n2,2\n3,3\n")
    assert rig.sql("INSERT INTO t (v) VALUES (9) RETURNING id, other") == [(1000, 4)]


def test_a_sequence_is_not_set_back_to_where_it_was_restarted_before(rig: Rig) -> None:
    """RESTART keeps new ids clear as START does, and no value was given since; one that falls is moved down."""
    ddl = (
        "CREATE TABLE t (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, "
        "other int GENERATED BY DEFAULT AS IDENTITY (INCREMENT -1 MINVALUE -99 MAXVALUE 99 START 3), v int); "
        "ALTER TABLE t ALTER id RESTART WITH 1000"
    )
    load(rig, "columns: {id: id, other: id, v: v}", ddl, "id,v\n1,1\n2,2\n3,3\n")
    assert rig.sql("INSERT INTO t (v) VALUES (9) RETURNING id, other") == [(1000, 0)]


def test_a_row_taken_out_before_the_last_one_is_not_mended_by_that(rig: Rig) -> None:
    load(rig, "columns: {k: k, n: n}", "CREATE TABLE t (k int, n int)", "k,n\n1,1\n2,x\n3,3\n")
    rig.write("mended.csv", "k,n\n1,1\n3,3\n")
    assert "not found" in rig.migrate(*REPLAY, "--from", "mended.csv", code=3).out
    assert stored(rig) == [(1, 1), (3, 3)]


def test_a_row_taken_out_at_a_chunks_end_is_not_mended_by_the_next_ones(rig: Rig) -> None:
    """Only the next chunk's rows show that the fixed file is no copy of the source from there on."""
    rig.write("migrate.yaml", PROJECT % "columns: {k: k, n: n}")
    rig.write("t.csv", "k,n\n1,1\n2,2\n3,3\n4,x\n5,5\n6,6\n7,7\n8,8\n")
    rig.sql("CREATE TABLE t (k int, n int)")
    rig.migrate("run", "--batch-bytes", "16")
    assert rig.value("SELECT count(*) FROM migrate_ledger.claim") == 2
    rig.write("mended.csv", "k,n\n1,1\n2,2\n3,3\n5,5\n6,6\n7,7\n8,8\n")
    assert "not found" in rig.migrate(*REPLAY, "--from", "mended.csv", code=3).out
    assert stored(rig) == [(n, n) for n in (1, 2, 3, 5, 6, 7, 8)]
    rig.write("mended.csv", "k,n\n1,1\n2,2\n3,3\n4,4\n5,5\n6,6\n7,7\n8,8\n")
    rig.migrate(*REPLAY, "--from", "mended.csv")
    assert stored(rig) == [(n, n) for n in range(1, 9)]
    rig.migrate("verify")
