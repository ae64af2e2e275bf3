"""The commit protocol on a real server: the accounting cannot be made to lie."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import psycopg
import pytest
from servers import Postgres, Proxy

from migrate import checksum, ledger, quarantine
from migrate.core import Step
from migrate.errors import FindingsError, GateError, InternalError, RetryableError, TargetError

from .conftest import Rig, batch, flow, step

MakeRig = Callable[..., Rig]


def test_rows_rejects_and_entry_stand_together(rig: MakeRig) -> None:
    r = rig()
    receipt = r.committer().commit(
        r.chunk(), flow(step(batch([1, 2, 3]), [0, 1, 4], merged=[2], filtered=[5], rejected=[3]))
    )
    e = receipt.entry
    assert (e.read, e.loaded, e.merged, e.filtered, e.rejected) == (6, 3, 1, 1, 1)
    assert not receipt.again
    assert receipt.attempts == 1
    assert [row[0] for row in r.rows()] == [1, 2, 3]
    (reject,) = quarantine.rows(r.conn, "acme")
    assert (reject.ordinal, reject.rule, reject.raw, reject.locator["line"]) == (3, "type", b"row 3", 5)
    (fates,) = ledger.fates(r.conn, "acme")
    assert (fates.read, fates.loaded, fates.balanced) == (6, 3, True)
    expected = checksum.add(*checksum.Hasher(batch([]).schema, [*_wires()], ["id"])(batch([1, 2, 3])))
    assert (checksum.unpack(e.sums) == expected).all()


def _wires():  # type: ignore[no-untyped-def]
    from .conftest import WIRES

    return WIRES


def test_several_steps_make_one_chunk(rig: MakeRig) -> None:
    r = rig()
    e = r.committer().commit(r.chunk(), flow(step(batch([1, 2])), step(batch([3]), [2]), step(batch([]), []))).entry
    assert (e.read, e.loaded) == (3, 3)
    assert int(checksum.unpack(e.sums)[0].sum()) == 3


def test_an_empty_chunk_is_committed(rig: MakeRig) -> None:
    r = rig()
    assert r.committer().commit(r.chunk(), flow()).entry.read == 0
    assert r.count("entry") == 1


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        pytest.param(
            step(batch([1, 1]), [0, 0], read=2),
            r"1 source rows have no fate \(ordinals 1\); 1 source rows have more than one fate \(ordinals 0\)$",
            id="dropped-and-doubled",
        ),
        pytest.param(
            step(batch([1]), [6], read=7),
            r"balance: 6 source rows have no fate \(ordinals 0, 1, 2, 3, 4, …\)$",
            id="six-dropped",
        ),
        pytest.param(
            step(batch([1]), [5], read=6), r"5 source rows have no fate \(ordinals 0, 1, 2, 3, 4\)$", id="five-dropped"
        ),
        pytest.param(
            step(batch([1, 2, 3]), [0, 5, 6], read=1), "balance: 2 fates belong to no source row$", id="strange"
        ),
        pytest.param(step(batch([1]), [0], read=2), "have no fate .ordinals 1.", id="dropped"),
        pytest.param(step(batch([1, 2]), [0, 1], read=1), "belong to no source row", id="more-than-read"),
        pytest.param(step(batch([1]), [0], rejected=[0], read=2), "more than one fate", id="loaded-and-rejected"),
        pytest.param(step(batch([1]), [0], filtered=[0], read=2), "more than one fate", id="loaded-and-filtered"),
        pytest.param(step(batch([1]), [0], merged=[0], read=2), "more than one fate", id="loaded-and-merged"),
        pytest.param(step(batch([1]), [-1], read=1), "belong to no source row", id="negative"),
    ],
)
def test_an_accounting_that_does_not_partition_writes_nothing(rig: MakeRig, bad: object, says: str) -> None:
    r = rig("CREATE TABLE people (id bigint, name text)")
    with pytest.raises(InternalError, match=says):
        r.committer().commit(r.chunk(), flow(bad))  # type: ignore[arg-type]
    assert r.rows() == []
    assert r.count("claim") == r.count("entry") == r.count("reject") == 0


def test_rows_and_ordinals_of_a_step_must_agree(rig: MakeRig) -> None:
    r = rig()
    with pytest.raises(InternalError, match="2 rows and 1 ordinals"):
        r.committer().commit(r.chunk(), flow(step(batch([1, 2]), [0])))
    with pytest.raises(InternalError, match="1 rows and 2 ordinals"):
        r.committer().commit(r.chunk(), flow(step(batch([1]), [0, 1])))


def test_a_second_commit_of_a_chunk_answers_with_the_stored_entry(rig: MakeRig) -> None:
    r = rig()
    first = r.committer().commit(r.chunk(), flow(step(batch([1, 2]))))
    second = r.committer().commit(r.chunk(), flow(step(batch([7, 8, 9]))))
    assert second.again
    assert second.entry == first.entry
    assert [row[0] for row in r.rows()] == [1, 2]


def test_two_workers_on_one_chunk_load_it_once(rig: MakeRig) -> None:
    r = rig("CREATE TABLE people (id bigint, name text)")
    barrier = threading.Barrier(2)
    receipts = []

    def work() -> None:
        barrier.wait()
        receipts.append(r.committer().commit(r.chunk(), flow(step(batch(list(range(2000)))))))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(x.again for x in receipts) == [False, True]
    assert receipts[0].entry == receipts[1].entry
    assert len(r.rows()) == 2000


def test_two_chunks_of_a_table_are_loaded_side_by_side(rig: MakeRig) -> None:
    """A chunk's lock is shared: while one is in flight, the next is not kept waiting."""
    r = rig("CREATE TABLE people (id bigint, name text)")
    begun, done = threading.Event(), threading.Event()

    def waiting() -> Iterator[Step]:
        begun.set()
        assert done.wait(20), "the second chunk waited for the first one"
        yield step(batch([1]))

    thread = threading.Thread(target=lambda: r.committer().commit(r.chunk(0), waiting))
    thread.start()
    assert begun.wait(20)
    r.committer().commit(r.chunk(1), flow(step(batch([2]))))
    done.set()
    thread.join()
    assert [row[0] for row in r.rows()] == [1, 2]


@pytest.mark.parametrize("off", [-1, 1])
def test_a_writer_that_says_another_number_than_it_was_given_fails_the_chunk(rig: MakeRig, off: int) -> None:
    """The second line of defence: planted, for the writer compares the server's number itself."""
    r = rig("CREATE TABLE people (id bigint, name text)")
    committer = r.committer()
    write = committer._writer.write
    committer._writer.write = lambda *a, **k: replace(w := write(*a, **k), rows=w.rows + off)  # type: ignore[method-assign]
    with pytest.raises(InternalError, match=f"{3 + off} rows were stored, 3 were to be loaded"):
        committer.commit(r.chunk(), flow(step(batch([1, 2, 3]))))
    assert r.rows() == []


def test_a_bad_row_that_aborts_leaves_nothing_of_its_chunk(rig: MakeRig) -> None:
    r = rig("CREATE TABLE people (id bigint PRIMARY KEY, name text)")
    committer = r.committer(abort=True)
    with pytest.raises(FindingsError, match=r"people: a bad row.*: made bad") as caught:
        committer.commit(r.chunk(0), flow(step(batch([1, 2]), [0, 2], rejected=[1])))
    assert "--on-error quarantine" in caught.value.hint
    with pytest.raises(FindingsError, match="the server refused it"):
        committer.commit(r.chunk(1), flow(step(batch([3, 3]))))
    assert r.rows() == []
    assert r.count("claim") == r.count("entry") == r.count("reject") == 0
    assert committer.commit(r.chunk(2), flow(step(batch([4])))).entry.loaded == 1


def test_a_trigger_that_swallows_a_row_fails_the_chunk(rig: MakeRig) -> None:
    r = rig(
        """
        CREATE TABLE people (id bigint PRIMARY KEY, name text);
        CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN IF new.id = 2 THEN RETURN NULL; END IF; RETURN new; END $$;
        CREATE TRIGGER hungry BEFORE INSERT ON people FOR EACH ROW EXECUTE FUNCTION swallow();
        """
    )
    with pytest.raises(TargetError, match="3 rows were sent and the server stored 2") as caught:
        r.committer().commit(r.chunk(), flow(step(batch([1, 2, 3]))))
    assert "hungry" in caught.value.hint
    assert r.rows() == []
    assert r.count("claim") == 0


def test_refused_rows_are_isolated_and_the_rest_is_loaded(rig: MakeRig) -> None:
    r = rig("CREATE TABLE people (id bigint PRIMARY KEY CHECK (id <> 13), name text)")
    ids = [*range(1, 101), 50, 60]
    e = r.committer().commit(r.chunk(), flow(step(batch(ids)))).entry
    assert (e.read, e.loaded, e.rejected) == (102, 99, 3)
    rejects = {x.ordinal: x for x in quarantine.rows(r.conn, "acme")}
    assert {o: x.rule for o, x in rejects.items()} == {12: "check", 100: "unique", 101: "unique"}
    assert "23514" in rejects[12].reason
    assert rejects[100].key == "id=100"
    assert rejects[100].raw == b"row 100"
    # The sums are of the loaded rows only.
    hasher = checksum.Hasher(batch([]).schema, _wires(), ["id"])
    kept = batch([i for i in range(1, 101) if i != 13])
    assert (checksum.unpack(e.sums) == checksum.add(*hasher(kept))).all()


def test_a_deferred_constraint_is_checked_before_commit(rig: MakeRig) -> None:
    r = rig("CREATE TABLE people (id bigint UNIQUE DEFERRABLE INITIALLY DEFERRED, name text)")
    e = r.committer().commit(r.chunk(), flow(step(batch([1, 2, 2, 3])))).entry
    assert (e.loaded, e.rejected) == (3, 1)


def test_sixty_four_refusals_pass_and_one_more_fails_the_chunk(rig: MakeRig) -> None:
    r = rig("CREATE TABLE people (id bigint CHECK (id > 0), name text)")
    good = list(range(1, 50))
    e = r.committer().commit(r.chunk(0), flow(step(batch([*good, *range(-64, 0)])))).entry
    assert (e.loaded, e.rejected) == (49, 64)
    two = (step(batch([*good, *range(-40, 0)])), step(batch(list(range(-25, 0))), range(89, 114)))
    with pytest.raises(TargetError, match=r"more than 64 rows of one chunk: .* × 23514 people_id_check"):
        r.committer().commit(r.chunk(1), flow(*two))
    assert len(r.rows()) == 49
    assert r.count("entry") == 1


def test_refusals_are_counted_over_all_steps_of_a_chunk(rig: MakeRig) -> None:
    r = rig("CREATE TABLE people (id bigint CHECK (id > 0), name text)")
    steps = [step(batch(list(range(-20, 0))), range(20 * n, 20 * n + 20)) for n in range(3)]
    assert r.committer().commit(r.chunk(), flow(*steps)).entry.rejected == 60


def test_only_the_claim_means_that_a_chunk_is_done(rig: MakeRig) -> None:
    r = rig()
    r.conn.execute("CREATE UNIQUE INDEX once ON migrate_ledger.reject (rule)")
    with pytest.raises(TargetError, match=r"duplicate key value violates unique constraint .*once"):
        r.committer().commit(r.chunk(), flow(step(batch([1]), [0], rejected=[1, 2])))
    assert r.rows() == []


def test_a_missing_parent_is_found_without_the_servers_refusal(rig: MakeRig) -> None:
    r = rig(
        "CREATE TABLE parent (id bigint PRIMARY KEY); INSERT INTO parent SELECT generate_series(1, 50);"
        "CREATE TABLE people (id bigint REFERENCES parent, name text)"
    )
    e = r.committer().commit(r.chunk(), flow(step(batch(list(range(1, 501)))))).entry
    assert (e.loaded, e.rejected) == (50, 450)
    rejects = quarantine.rows(r.conn, "acme", limit=1)
    assert rejects[0].rule == "foreign_key"
    assert rejects[0].value == "51"
    assert "no row of public.parent has id = 51 (people_id_fkey)" in rejects[0].reason


def test_a_missing_composite_parent_is_named_with_all_its_columns(rig: MakeRig) -> None:
    r = rig(
        "CREATE TABLE parent (a bigint, b text, PRIMARY KEY (a, b)); INSERT INTO parent VALUES (1, 'n1'), (2, 'x');"
        "CREATE TABLE people (id bigint, name text, FOREIGN KEY (id, name) REFERENCES parent (a, b))"
    )
    e = r.committer().commit(r.chunk(), flow(step(batch([1, 2])))).entry
    assert (e.loaded, e.rejected) == (1, 1)
    (reject,) = quarantine.rows(r.conn, "acme")
    assert (reject.column, reject.value, reject.key) == ("id", "2", "id=1")
    assert reject.reason == "no row of public.parent has a = 2, b = n2 (people_id_name_fkey)"


def test_a_null_reference_asks_for_no_parent(rig: MakeRig) -> None:
    r = rig(
        "CREATE TABLE parent (name text PRIMARY KEY); INSERT INTO parent VALUES ('a');"
        "CREATE TABLE people (id bigint, name text REFERENCES parent)"
    )
    e = r.committer().commit(r.chunk(), flow(step(batch([1, 2, 3, 4], ["a", None, "b", "a"])))).entry
    assert (e.loaded, e.rejected) == (3, 1)
    assert [x.ordinal for x in quarantine.rows(r.conn, "acme")] == [2]


# ------------------------------------------------------------------------------------------------------------- fencing


def test_a_run_that_was_taken_over_writes_nothing(rig: MakeRig) -> None:
    r = rig()
    ledger.begin_run(r.conn, "acme", "test", "0")
    with pytest.raises(GateError, match="run 1 of acme was taken over by run 2"):
        r.committer(epoch=1).commit(r.chunk(), flow(step(batch([1]))))
    assert r.rows() == []
    assert r.count("claim") == 0


def test_a_truncate_for_a_new_generation_waits_for_the_chunk_in_flight_and_fences_the_next(rig: MakeRig) -> None:
    r = rig()
    reading, truncating = threading.Event(), threading.Event()

    def slow():  # type: ignore[no-untyped-def]
        reading.set()
        truncating.wait(5)
        yield step(batch([1, 2]))

    errors: list[BaseException] = []

    def worker() -> None:
        committer = r.committer()
        committer.commit(r.chunk(0), slow)
        try:
            committer.commit(r.chunk(1), flow(step(batch([3]))))
        except GateError as error:
            errors.append(error)

    thread = threading.Thread(target=worker)
    thread.start()
    reading.wait(5)
    threading.Timer(0.3, truncating.set).start()
    with r.conn.transaction():
        ledger.lock(r.conn, "acme", "people", exclusive=True)
        assert len(r.rows()) == 2  # the chunk in flight was let through first
        r.conn.execute("TRUNCATE people")
        r.conn.execute("UPDATE migrate_ledger.mapped_table SET generation = 2")
    thread.join()
    assert "is at generation 2, this run was filling generation 1" in str(errors[0])
    assert r.rows() == []


# ------------------------------------------------------------------------------------------------------ lost connections


def once(marker: bytes) -> Callable[[bytes], bool]:
    """Cut at the first data with this in them, and at no other."""
    left = [marker]
    return lambda data: bool(left) and left[0] in data and bool(left.pop())


def test_a_connection_lost_during_commit_is_tried_again_and_loads_once(rig: MakeRig, postgres: Postgres) -> None:
    r = rig("CREATE TABLE people (id bigint, name text)")
    proxy = Proxy(postgres.port, once(b"COMMIT\x00"))
    url = r.url.replace(f":{postgres.port}/", f":{proxy.port}/")
    receipt = r.committer(url=url).commit(r.chunk(), flow(step(batch([1, 2, 3]))))
    proxy.close()
    assert proxy.cuts == 1
    assert receipt.again
    assert receipt.attempts == 2
    assert receipt.entry.loaded == 3
    assert [row[0] for row in r.rows()] == [1, 2, 3]


def test_a_connection_lost_while_copying_is_tried_again(rig: MakeRig, postgres: Postgres) -> None:
    r = rig("CREATE TABLE people (id bigint, name text)")
    proxy = Proxy(postgres.port, once(b"PGCOPY"))
    url = r.url.replace(f":{postgres.port}/", f":{proxy.port}/")
    receipt = r.committer(url=url).commit(r.chunk(), flow(step(batch(list(range(50_000))))))
    proxy.close()
    assert (receipt.again, receipt.attempts, receipt.entry.loaded) == (False, 2, 50_000)
    assert len(r.rows()) == 50_000


def test_a_target_that_stays_away_is_retryable(rig: MakeRig, postgres: Postgres) -> None:
    r = rig()
    proxy = Proxy(postgres.port, lambda data: b"claim" in data)
    url = r.url.replace(f":{postgres.port}/", f":{proxy.port}/")
    with pytest.raises(RetryableError, match="tried 8 times") as caught:
        r.committer(url=url).commit(r.chunk(), flow(step(batch([1]))))
    proxy.close()
    assert caught.value.exit_code == 75
    assert r.rows() == []


def test_pauses_between_attempts_grow_and_outlast_a_failover(rig: MakeRig) -> None:
    r = rig()
    pauses: list[float] = []

    def away():  # type: ignore[no-untyped-def]
        raise psycopg.errors.AdminShutdown("made")
        yield

    with pytest.raises(RetryableError, match="tried 8 times"):
        r.committer(pause=pauses.append).commit(r.chunk(), away)
    assert pauses == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8])


def test_a_deadlock_is_tried_again_soon_over_the_same_connection(rig: MakeRig) -> None:
    r = rig()
    pauses: list[float] = []

    def deadlocking():  # type: ignore[no-untyped-def]
        raise psycopg.errors.DeadlockDetected("made")
        yield

    with pytest.raises(RetryableError):
        r.committer(pause=pauses.append).commit(r.chunk(), deadlocking)
    assert pauses == pytest.approx([0.05 * n for n in range(1, 8)])


def test_a_server_restart_between_and_within_chunks_is_survived(rig: MakeRig, postgres: Postgres) -> None:
    r = rig("CREATE TABLE people (id bigint, name text)")
    committer = r.committer()
    committer.commit(r.chunk(0), flow(step(batch([1]))))
    postgres.restart()
    committer.commit(r.chunk(1), flow(step(batch([2]))))
    left = [1]

    def restarting():  # type: ignore[no-untyped-def]
        yield step(batch([3]))
        if left.pop():
            left.append(0)
            postgres.restart()
        yield step(batch([4]), [1])

    receipt = committer.commit(r.chunk(2), restarting)
    assert receipt.attempts == 2
    with psycopg.connect(r.url) as fresh:
        assert [x[0] for x in fresh.execute("SELECT id FROM people ORDER BY 1")] == [1, 2, 3, 4]


def test_a_deadlock_is_retried(rig: MakeRig) -> None:
    r = rig("CREATE TABLE people (id bigint, name text)")
    left = [2]
    committer = r.committer()

    def deadlocking():  # type: ignore[no-untyped-def]
        if left[0]:
            left[0] -= 1
            raise psycopg.errors.DeadlockDetected("made")
        yield step(batch([1]))

    assert committer.commit(r.chunk(), deadlocking).attempts == 3


def test_an_error_that_no_row_causes_ends_at_once_and_says_why(rig: MakeRig) -> None:
    r = rig()
    r.conn.execute("ALTER TABLE people DROP COLUMN name")
    with pytest.raises(TargetError, match=r'cannot load people, chunk 0: column "name" of relation "people" does not'):
        r.committer().commit(r.chunk(), flow(step(batch([1]))))


def test_a_claim_without_an_entry_is_not_taken_for_an_answer(rig: MakeRig) -> None:
    r = rig()
    r.conn.execute("INSERT INTO migrate_ledger.claim VALUES ('acme', 'people', 1, 0, 1)")
    with pytest.raises(TargetError, match="the ledger was changed by hand"):
        r.committer().commit(r.chunk(), flow(step(batch([1]))))


# --------------------------------------------------------------------------------------------------------------- upsert


def test_upsert_overwrites_and_counts_what_is_new(rig: MakeRig) -> None:
    r = rig("CREATE TABLE people (id bigint PRIMARY KEY, name text, kept text NOT NULL DEFAULT 'k')")
    r.conn.execute("INSERT INTO people VALUES (1, 'old', 'mine'), (9, 'other', 'x')")
    e = r.committer(upsert_on=["id"]).commit(r.chunk(), flow(step(batch([1, 2])))).entry
    assert e.loaded == 2
    assert r.rows() == [(1, "n1"), (2, "n2"), (9, "other")]
    assert r.conn.execute("SELECT kept FROM people WHERE id = 1").fetchone() == ("mine",)
    assert ledger.fates(r.conn, "acme")[0].inserted == 1
