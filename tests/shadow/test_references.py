"""Foreign keys of a dry run: parents in the shadow, parents whose real rows stay, parents that are not mapped."""

import psycopg
import pytest

from migrate import shadow
from migrate.core import Column, ForeignKey, TargetTable
from migrate.target import Connection

from .rig import PARTITIONS, SHADOW, ZOO, attempt, both, cloned, table

SHOP = """
CREATE SCHEMA shop;
CREATE TABLE shop.parent (id int PRIMARY KEY, region text, UNIQUE (id, region));
CREATE TABLE shop.child (
    id int PRIMARY KEY, parent int DEFAULT 99 REFERENCES shop.parent, region text,
    CONSTRAINT whole FOREIGN KEY (parent, region) REFERENCES shop.parent (id, region) MATCH FULL
        ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED
);
CREATE TABLE shop.tree (id int PRIMARY KEY, up int CONSTRAINT above REFERENCES shop.tree);
INSERT INTO shop.parent VALUES (1, 'n'), (2, 's');
INSERT INTO shop.tree VALUES (1, NULL);
"""


def constraints(conn: Connection) -> dict[str, str]:
    return dict(
        conn.execute(
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'f' "
            "AND connamespace = %s::regnamespace ORDER BY 1",
            [SHADOW.schema],
        ).fetchall()
    )


def test_a_parent_that_is_replaced_is_the_clone_alone(conn: Connection) -> None:
    conn.execute(SHOP)
    clones = cloned(conn, "shop.parent", "shop.child", "shop.tree")
    s = SHADOW.schema
    assert constraints(conn) == {
        "above": f"FOREIGN KEY (up) REFERENCES {s}.tree(id)",
        "child_parent_fkey": f"FOREIGN KEY (parent) REFERENCES {s}.parent(id)",
        "whole": f"FOREIGN KEY (parent, region) REFERENCES {s}.parent(id, region) MATCH FULL ON UPDATE CASCADE "
        "DEFERRABLE INITIALLY DEFERRED",
    }
    child = clones.tables["shop.child"]
    assert child.foreign_keys == (
        ForeignKey("child_parent_fkey", ("parent",), s, "parent", ("id",)),
        ForeignKey("whole", ("parent", "region"), s, "parent", ("id", "region"), full=True),
    )
    assert child.triggers == ()
    # The real rows will be gone.
    assert attempt(conn, f"INSERT INTO {s}.child (id, parent) VALUES (1, 1)") == ("23503", "child_parent_fkey")


ROWS = [
    "child VALUES (1, 1, 'n')",
    "child VALUES (1, 1, NULL)",
    "child VALUES (1, NULL, NULL), (2, 2, 's')",
    "child VALUES (1, 1, 's')",
    "child VALUES (1, 3, 'n')",
    "child (id) VALUES (1)",
    "tree VALUES (2, 1), (3, 2)",
    "tree VALUES (3, 2), (2, 3)",
    "tree VALUES (2, 4), (3, 1)",
]


@pytest.mark.parametrize("rest", ROWS)
def test_a_parent_that_is_not_mapped_or_whose_rows_stay_may_be_a_real_row(conn: Connection, rest: str) -> None:
    """Appended to, or outside: the dry run refuses what the real run would, with the same state and constraint."""
    conn.execute(SHOP)
    name, _, rest = rest.partition(" ")
    names = ["shop.child", "shop.tree"]
    assert cloned(conn, *names, kept=names).notes == ()
    assert constraints(conn) == {}
    _same(conn, name, rest)
    shadow.sweep(conn, SHADOW)
    names.append("shop.parent")
    assert cloned(conn, *names, kept=names).notes == ()
    assert constraints(conn) == {}
    _same(conn, name, rest)


def _same(conn: Connection, name: str, rest: str) -> None:
    with conn.transaction(force_rollback=True):
        both(conn, f"shop.{name}", f"{SHADOW.schema}.{name}", rest)


def test_rows_of_the_dry_run_are_parents_beside_the_real_ones(conn: Connection) -> None:
    conn.execute(SHOP)
    clones = cloned(conn, "shop.parent", "shop.child", kept=["shop.parent"])
    s = SHADOW.schema
    assert clones.tables["shop.child"].foreign_keys[0] == ForeignKey(
        "child_parent_fkey", ("parent",), s, "parent", ("id",), (("shop", "parent"),)
    )
    conn.execute(f"INSERT INTO {s}.parent VALUES (50, 'w')")
    assert attempt(conn, f"INSERT INTO {s}.child VALUES (1, 1, 'n'), (2, 50, 'w') RETURNING id") == ((1,), (2,))
    assert attempt(conn, f"INSERT INTO {s}.child VALUES (3, 51, 'w')") == ("23503", "child_parent_fkey")
    assert attempt(
        conn,
        f"INSERT INTO {s}.child VALUES (1, 51, 'w') ON CONFLICT (id) DO UPDATE SET parent = EXCLUDED.parent",
    ) == ("23503", "child_parent_fkey")


def test_a_refused_reference_says_what_the_servers_own_says(conn: Connection) -> None:
    conn.execute(SHOP)
    cloned(conn, "shop.child")
    said = []
    for name in ("shop.child", f"{SHADOW.schema}.child"):
        with pytest.raises(psycopg.errors.ForeignKeyViolation) as caught:
            conn.execute(f"INSERT INTO {name} (id, parent) VALUES (1, 77)")
        said.append(
            (caught.value.diag.message_primary, caught.value.diag.table_name, caught.value.diag.constraint_name)
        )
    assert said[0] == said[1]


def test_partitioned_tables_keep_their_references(conn: Connection) -> None:
    conn.execute(
        ZOO + PARTITIONS + "ALTER TABLE shop.log ADD COLUMN by bigint CONSTRAINT by_whom REFERENCES shop.customers;"
        "ALTER TABLE shop.log_other ADD CONSTRAINT its_own FOREIGN KEY (n) REFERENCES shop.parent;"
        "INSERT INTO shop.customers (id, name) VALUES (10, 'a')"
    )
    names = ["shop.customers", "shop.log", "shop.refers", "shop.parent"]
    s = SHADOW.schema
    assert cloned(conn, *names).notes == ()
    insert = f"INSERT INTO {s}.log (id, at, kind, by, n) VALUES "
    assert attempt(conn, insert + "(1, '2024-05-01', 'a', 10, 1)")[1] == "by_whom"
    conn.execute(f"INSERT INTO {s}.customers (id, name) VALUES (10, 'a'); {insert} (1, '2024-05-01', 'a', 10, 1)")
    assert attempt(conn, insert + "(2, '2026-05-01', 'a', 10, 1)")[1] == "its_own"
    conn.execute(f"INSERT INTO {s}.refers VALUES (10, 1, '2024-05-01', 'a')")
    assert attempt(conn, f"INSERT INTO {s}.refers VALUES (10, 2, '2024-05-01', 'a')")[0] == "23503"
    shadow.sweep(conn, SHADOW)

    notes = cloned(conn, *names[:3], kept=["shop.customers", "shop.log"]).notes
    assert notes == (
        "shop.log_other: foreign key its_own: not exercised",
        "shop.customers: apart is not compared with the rows that are there already",
        "shop.customers: by name is not compared with the rows that are there already",
        "shop.customers: later is not compared with the rows that are there already",
        "shop.log_2024_a: only_there is not compared with the rows that are there already",
    )
    assert attempt(conn, insert + "(1, '2024-05-01', 'a', 11, 1)")[1] == "by_whom"
    conn.execute(insert + "(1, '2024-05-01', 'a', 10, 1)")


def test_a_reference_to_a_partition_leads_to_its_clone(conn: Connection) -> None:
    conn.execute(
        ZOO + PARTITIONS + "CREATE TABLE shop.leafy (id bigint, at timestamptz, kind text, "
        "FOREIGN KEY (id, at, kind) REFERENCES shop.log_2024_a)"
    )
    clones = cloned(conn, "shop.leafy", "shop.log")
    (key,) = clones.tables["shop.leafy"].foreign_keys
    assert (key.parent_schema, key.parent_name, key.elsewhere) == (SHADOW.schema, "log_2024_a", ())
    assert len(constraints(conn)) == 1
    shadow.sweep(conn, SHADOW)
    (key,) = cloned(conn, "shop.leafy", "shop.log", kept=["shop.log"]).tables["shop.leafy"].foreign_keys
    assert key.elsewhere == (("shop", "log_2024_a"),)
    assert constraints(conn) == {}


def test_tables_of_one_name_in_two_schemas_have_a_clone_each(conn: Connection) -> None:
    conn.execute(
        """CREATE SCHEMA a; CREATE SCHEMA b;
        CREATE TABLE a.t (id serial PRIMARY KEY); CREATE TABLE b.t (id int PRIMARY KEY REFERENCES a.t);
        CREATE TABLE a.b_t (id int); CREATE TABLE b.a_t (t int REFERENCES b.t)"""
    )
    clones = cloned(conn, "a.t", "b.t", "a.b_t", "b.a_t")
    assert clones.notes == ()
    names = {real: clone.name for real, clone in clones.tables.items()}
    assert (names["a.b_t"], names["b.a_t"]) == ("b_t", "a_t")
    assert len(set(names.values())) == 4
    assert clones.tables["b.t"].foreign_keys[0].parent_name == names["a.t"]
    assert attempt(conn, f'INSERT INTO {SHADOW.schema}."{names["b.t"]}" VALUES (1)')[0] == "23503"
    assert attempt(conn, f'INSERT INTO {SHADOW.schema}."{names["a.t"]}" DEFAULT VALUES RETURNING id') == ((1,),)


def test_names_at_their_longest_are_kept_apart(conn: Connection) -> None:
    long = "ü" * 31
    conn.execute(
        f"CREATE SCHEMA a; CREATE SCHEMA b; CREATE TABLE a.{long} (id int PRIMARY KEY); CREATE TABLE b.{long} (id int)"
    )
    clones = cloned(conn, f"a.{long}", f"b.{long}")
    assert len({c.name for c in clones.tables.values()}) == 2
    assert all(
        conn.execute("SELECT to_regclass(%s)", [f'{c.schema}."{c.name}"']).fetchone() for c in clones.tables.values()
    )


def test_a_table_that_the_mapping_makes_is_only_given_its_place(conn: Connection) -> None:
    conn.execute("CREATE SCHEMA a; CREATE TABLE a.t (id int)")
    new = TargetTable("public", "t", (Column("id", "integer", "int4"),), exists=False)
    clones = shadow.clone(conn, SHADOW, [new, table(conn, "a.t")], ())
    placed = clones.tables["public.t"]
    assert (placed.schema, placed.exists, placed.columns) == (SHADOW.schema, False, new.columns)
    assert placed.name != clones.tables["a.t"].name
    assert conn.execute("SELECT to_regclass(%s)", [f"{placed.schema}.{placed.name}"]).fetchone() == (None,)


def test_what_is_not_exercised_is_said(conn: Connection) -> None:
    conn.execute(
        """CREATE SCHEMA shop;
        CREATE TABLE shop.t (id int PRIMARY KEY, a text, CHECK (t.* IS NOT NULL));
        CREATE FUNCTION shop.valid(shop.t) RETURNS boolean IMMUTABLE LANGUAGE sql RETURN $1.id > 0;
        ALTER TABLE shop.t ADD CONSTRAINT seen CHECK (shop.valid(t.*));
        CREATE FUNCTION shop.stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
        CREATE TRIGGER stamped BEFORE INSERT ON shop.t FOR EACH ROW EXECUTE FUNCTION shop.stamp();
        CREATE TRIGGER idle BEFORE INSERT ON shop.t FOR EACH ROW EXECUTE FUNCTION shop.stamp();
        ALTER TABLE shop.t DISABLE TRIGGER idle; ALTER TABLE shop.t ENABLE ROW LEVEL SECURITY;
        CREATE RULE watch AS ON INSERT TO shop.t DO ALSO NOTIFY seen;
        CREATE FUNCTION shop.ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
        CREATE EVENT TRIGGER audited ON ddl_command_end EXECUTE FUNCTION shop.ddl()"""
    )
    notes = cloned(conn, "shop.t").notes
    assert sorted(n.partition(" (")[0] for n in notes) == [
        "event trigger audited: fires for the tables of the dry run too",
        "shop.t: constraint seen: not exercised",
        "shop.t: row security: not exercised",
        "shop.t: rule watch: not exercised",
        "shop.t: trigger stamped: not exercised",
    ]
    assert "function shop.valid(migrate_shadow_acme.t) does not exist" in next(n for n in notes if "seen" in n)
    # One statement that cannot be run does not take the others with it.
    assert attempt(conn, f"INSERT INTO {SHADOW.schema}.t VALUES (1, NULL)") == ("23514", "t_check")
    assert attempt(conn, f"INSERT INTO {SHADOW.schema}.t VALUES (1, 'a'), (1, 'a')") == ("23505", "t_pkey")


def test_a_default_that_writes_is_not_let_near_the_real_thing(conn: Connection) -> None:
    conn.execute(
        """CREATE SCHEMA shop; CREATE SEQUENCE shop.numbers; CREATE TABLE shop.drawn (n bigint);
        CREATE DOMAIN shop.drawn_id AS int DEFAULT nextval('shop.numbers');
        CREATE FUNCTION shop.draw() RETURNS bigint LANGUAGE sql VOLATILE AS $$ SELECT nextval('shop.numbers') $$;
        CREATE FUNCTION shop.noted() RETURNS uuid LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO shop.drawn VALUES (1); RETURN gen_random_uuid(); END $$;
        CREATE FUNCTION shop.dice() RETURNS float LANGUAGE sql VOLATILE AS $$ SELECT random() $$;
        CREATE TABLE shop.t (
            id bigint PRIMARY KEY DEFAULT shop.draw(), late int DEFAULT nextval(('shop.numbers'::text)::regclass),
            label text NOT NULL DEFAULT 'X-' || shop.draw(), token uuid NOT NULL DEFAULT shop.noted(),
            of_domain shop.drawn_id, mixed text NOT NULL DEFAULT nextval('shop.numbers') || '/' || shop.dice(),
            dice float NOT NULL DEFAULT shop.dice()
        )"""
    )
    notes = cloned(conn, "shop.t").notes
    assert sorted(notes) == [
        "shop.t.id: its default writes, so that the dry run puts numbers of its own in its place",
        "shop.t.label: its default writes, so that the dry run puts numbers of its own in its place",
        "shop.t.late: its default writes, so that the dry run puts numbers of its own in its place",
        "shop.t.token: its default writes, so that the dry run puts NULL in its place",
    ]
    rows = conn.execute(
        f"INSERT INTO {SHADOW.schema}.t SELECT FROM generate_series(1, 2) RETURNING id, late, token, of_domain, mixed, dice"
    ).fetchall()
    assert [row[:4] for row in rows] == [(1, 1, None, 1), (2, 2, None, 3)]
    assert [row[4][:2] for row in rows] == ["2/", "4/"]
    assert conn.execute("SELECT last_value, is_called FROM shop.numbers").fetchone() == (1, False)
    assert conn.execute("SELECT count(*) FROM shop.drawn").fetchone() == (0,)
