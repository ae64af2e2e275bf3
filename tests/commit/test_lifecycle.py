"""What holds around the chunks: the session's contract, fencing of settle and finalize, rows that are not ours."""

from collections.abc import Callable

import pytest

from migrate import ledger, quarantine
from migrate.commit import enter
from migrate.errors import GateError
from migrate.settle import settle
from migrate.target import connect

from .conftest import Rig, batch, flow, step

MakeRig = Callable[..., Rig]


def test_text_arrives_as_it_is_whatever_the_role_would_have(rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    r = rig()
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    r.conn.execute("ALTER ROLE postgres SET client_encoding = 'LATIN1'")
    try:
        r.committer().commit(r.chunk(), flow(step(batch([1], ["é€ü"]))))
    finally:
        r.conn.execute("ALTER ROLE postgres RESET client_encoding")
    row = r.conn.execute("SELECT encode(convert_to(name, 'UTF8'), 'hex') FROM people").fetchone()
    assert row == ("é€ü".encode().hex(),)


def test_fencing_sees_what_others_committed_under_any_default_isolation(rig: MakeRig) -> None:
    r = rig()
    r.conn.execute("ALTER ROLE postgres SET default_transaction_isolation = 'repeatable read'")
    try:
        with connect(r.url) as conn, connect(r.url) as other, conn.transaction():
            conn.execute("SELECT 1")
            ledger.begin_run(other, "acme", "test", "0")
            with pytest.raises(GateError, match="taken over by run 2"):
                enter(conn, "acme", "people", 1, 1)
    finally:
        r.conn.execute("ALTER ROLE postgres RESET default_transaction_isolation")


@pytest.mark.parametrize("exclusive", [False, True])
def test_another_generation_is_refused(rig: MakeRig, exclusive: bool) -> None:
    r = rig()
    with r.conn.transaction(), pytest.raises(GateError, match="is at generation 1, this run was filling generation 7"):
        enter(r.conn, "acme", "people", 1, 7, exclusive=exclusive)


def test_a_lock_that_a_dead_session_holds_is_not_waited_for_for_ever(rig: MakeRig) -> None:
    r = rig()
    with r.conn.transaction():
        enter(r.conn, "acme", "people", 1, 1, exclusive=True)
        assert r.conn.execute("SHOW lock_timeout").fetchone() == ("1min",)
    assert r.conn.execute("SHOW lock_timeout").fetchone() == ("0",)


def test_settle_needs_every_chunk(rig: MakeRig) -> None:
    r = rig()
    r.conn.execute("INSERT INTO migrate_ledger.partition VALUES ('acme', 'people', 1, 0, 't', 1, 1)")
    plan = _Plan()

    def settled() -> None:
        settle(r.conn, "acme", [plan], 1, lambda _: None, lambda _: None)  # type: ignore[arg-type,list-item,return-value]

    with pytest.raises(GateError, match="1 chunks are not committed, chunk 0 among them"):
        settled()
    assert ledger.table_states(r.conn, "acme")["people"].phase == "loading"
    r.committer().commit(r.chunk(), flow(step(batch([1]))))
    settled()
    assert ledger.table_states(r.conn, "acme")["people"].phase == "loaded"


class _Plan:
    """As much of a table's plan as settle looks at."""

    name = "people"
    generation = 1
    inner = ()
    kept = ()


def test_a_row_that_raises_in_a_trigger_is_one_rows_fault(rig: MakeRig) -> None:
    r = rig(
        """
        CREATE TABLE people (id bigint PRIMARY KEY, name text);
        CREATE FUNCTION picky() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN IF new.id = 2 THEN RAISE EXCEPTION 'no twos'; END IF; RETURN new; END $$;
        CREATE TRIGGER picky BEFORE INSERT ON people FOR EACH ROW EXECUTE FUNCTION picky();
        """
    )
    e = r.committer().commit(r.chunk(), flow(step(batch([1, 2, 3])))).entry
    assert (e.loaded, e.rejected) == (2, 1)
    assert "no twos [P0001]" in quarantine.rows(r.conn, "acme")[0].reason
