"""A shadow has a beginning and an end: names, sweeping, holding, privileges, kills."""

import psycopg
import pytest

from migrate import ledger, shadow
from migrate.errors import GateError, RetryableError, TargetError
from migrate.target import Connection, connect

from .rig import SHADOW, attempt, cloned, schemas, table


def test_two_migrations_never_share_a_shadow() -> None:
    names = ["a", "a_ledger", "ledger_a", "shadow_a", "x" * 48, "x" * 49, "x" * 62 + "a", "x" * 62 + "b"]
    schemas = [s for n in names for s in (shadow.names(n).schema, shadow.names(n).ledger)]
    assert len(set(schemas)) == 2 * len(names)
    assert all(len(s.encode()) <= 63 for s in schemas)
    assert shadow.names("acme") == SHADOW


def test_a_sweep_drops_both_schemas_and_says_whether_there_was_one(conn: Connection) -> None:
    conn.execute("CREATE TABLE people (id int PRIMARY KEY)")
    assert not shadow.sweep(conn, SHADOW)
    cloned(conn, "people")
    conn.ledger = SHADOW.ledger
    ledger.create(conn)
    assert ledger.exists(conn)
    assert shadow.sweep(conn, SHADOW)
    assert not ledger.exists(conn)
    assert schemas(conn) == []
    assert not shadow.sweep(conn, SHADOW)
    cloned(conn, "people")


def test_a_schema_that_no_dry_run_made_is_not_dropped(conn: Connection) -> None:
    conn.execute(f"CREATE SCHEMA {SHADOW.schema}; CREATE TABLE {SHADOW.schema}.dear (id int)")
    with pytest.raises(GateError, match=r"migrate_shadow_acme .*no dry run made it") as caught:
        shadow.sweep(conn, SHADOW)
    assert "RENAME" in caught.value.hint
    assert conn.execute(f"SELECT count(*) FROM {SHADOW.schema}.dear").fetchone() == (0,)


def test_a_second_dry_run_neither_sweeps_nor_joins_the_first(
    conn: Connection, target_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow, "_PATIENCE", "SET LOCAL lock_timeout = '200ms'")
    conn.execute("CREATE TABLE people (id int)")
    with connect(target_url) as first, connect(target_url) as holder:
        cloned(first, "people")
        with (
            shadow.held(holder, SHADOW),
            pytest.raises(RetryableError, match=r"another dry run .* migrate_shadow_acme"),
        ):
            shadow.sweep(conn, SHADOW)
        with pytest.raises(GateError, match="has begun"):
            cloned(conn, "people")
        with first.transaction():
            first.execute(f"INSERT INTO {SHADOW.schema}.people VALUES (1)")
            with pytest.raises(RetryableError, match="lock"):
                shadow.sweep(conn, SHADOW)
    assert shadow.sweep(conn, SHADOW)


def test_whoever_holds_a_shadow_keeps_nothing_from_vacuum(conn: Connection, target_url: str) -> None:
    with connect(target_url) as holder, shadow.held(holder, SHADOW):
        row = conn.execute(
            "SELECT state, backend_xmin, backend_xid FROM pg_stat_activity WHERE pid = %s", [holder.info.backend_pid]
        ).fetchone()
    assert row == ("idle in transaction", None, None)


def test_a_dry_run_killed_while_it_clones_leaves_nothing(conn: Connection, target_url: str) -> None:
    conn.execute("CREATE TABLE people (id serial PRIMARY KEY); CREATE TABLE pets (owner int REFERENCES people)")
    victim = connect(target_url)
    with pytest.raises(psycopg.OperationalError):
        clone_and_die(conn, victim)
    victim.close()
    assert schemas(conn) == []
    assert not shadow.sweep(conn, SHADOW)


def kill(conn: Connection, *victims: Connection) -> None:
    for victim in victims:
        conn.execute("SELECT pg_terminate_backend(%s, 5000)", [victim.info.backend_pid])


def clone_and_die(conn: Connection, victim: Connection) -> None:
    with victim.transaction():
        cloned(victim, "people", "pets")
        kill(conn, victim)
        victim.execute("SELECT 1")


def test_a_dry_run_killed_later_is_swept_by_the_next(conn: Connection, target_url: str) -> None:
    conn.execute("CREATE TABLE people (id serial PRIMARY KEY)")
    victim, holder = connect(target_url), connect(target_url)
    cloned(victim, "people")
    with pytest.raises(RetryableError), shadow.held(holder, SHADOW):
        kill(conn, victim, holder)
    victim.close()
    holder.close()
    assert shadow.sweep(conn, SHADOW)
    assert schemas(conn) == []


# ----------------------------------------------------------------------------------------------------------- privileges


@pytest.fixture
def role(conn: Connection) -> str:
    """A role that owns nothing and is no superuser."""
    conn.execute("DROP ROLE IF EXISTS mover; CREATE ROLE mover LOGIN")
    return "mover"


def test_missing_privileges_are_named_with_the_grant(conn: Connection, target_url: str, role: str) -> None:
    database = conn.info.dbname
    conn.execute('CREATE TABLE "The people" (id int); CREATE TABLE pets (id int); GRANT SELECT ON pets TO mover')
    tables = [table(conn, "The people"), table(conn, "pets")]
    with connect(target_url.replace("postgres@", f"{role}@")) as poor:
        with pytest.raises(TargetError, match="may not make schemas") as caught:
            shadow.clone(poor, SHADOW, tables, ())
        assert caught.value.hint == f'GRANT CREATE ON DATABASE "{database}" TO "mover";'
        conn.execute(caught.value.hint)
        with pytest.raises(TargetError, match=r'mover may not read public."The people"') as caught:
            shadow.clone(poor, SHADOW, tables, ())
        conn.execute(caught.value.hint)
        assert len(shadow.clone(poor, SHADOW, tables, ()).tables) == 2
        assert shadow.sweep(poor, SHADOW)
    conn.execute(f'REVOKE CREATE ON DATABASE "{database}" FROM mover; DROP OWNED BY mover; DROP ROLE mover')


def test_a_role_that_owns_nothing_can_rehearse(conn: Connection, target_url: str, role: str) -> None:
    conn.execute(
        f"""GRANT CREATE ON DATABASE "{conn.info.dbname}" TO mover;
        CREATE TABLE people (id serial PRIMARY KEY, name text CHECK (name <> '') DEFAULT 'x');
        SELECT setval('people_id_seq', 41);
        GRANT SELECT, INSERT ON people TO mover; GRANT USAGE ON people_id_seq TO mover"""
    )
    with connect(target_url.replace("postgres@", f"{role}@")) as poor:
        cloned(poor, "people")
        assert attempt(poor, f"INSERT INTO {SHADOW.schema}.people DEFAULT VALUES RETURNING *") == ((42, "x"),)
        shadow.sweep(poor, SHADOW)
    conn.execute("DROP OWNED BY mover; DROP ROLE mover")
