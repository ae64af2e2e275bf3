"""What strangers found in databases as sources: each as it was reported."""

import sqlite3
from collections.abc import Iterator

import psycopg
import pytest
from servers import MariaDB, Postgres

from e2e.rig import Rig
from e2e.test_mysql import filled, project


def test_columns_that_the_target_has_already_get_other_names(rig: Rig, mariadb: MariaDB, source_database: str) -> None:
    filled(mariadb, source_database, "CREATE TABLE t (id INT PRIMARY KEY, ctid INT);\nINSERT INTO t VALUES (1, 2);\n")
    rig.migrate("init", mariadb.url(source_database))
    rig.environment.update(_exported(rig))
    rig.migrate("run")
    assert rig.sql("SELECT id, ctid_2 FROM t") == [(1, 2)]


def _exported(rig: Rig) -> dict[str, str]:
    text = (rig.folder / "migrate.yaml").read_text(encoding="utf-8")
    names = [part.partition("}")[0] for part in text.split("${env:")[1:]]
    ends = {"USER": "tester", "PASSWORD": "geheim@1"}
    return {n: ends[n.rpartition("_")[2]] for n in names if n.rpartition("_")[2] in ends}


@pytest.fixture
def old(rig: Rig, postgres: Postgres) -> Iterator[psycopg.Connection]:
    url = postgres.create(f"old{abs(hash(rig.url)) % 10**9}")
    rig.environment["SOURCE_URL"] = url
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection
    postgres.drop(url.rpartition("/")[2])


def test_a_column_is_not_taken_for_its_twin(rig: Rig, old: psycopg.Connection) -> None:
    old.execute('CREATE TABLE t (id int PRIMARY KEY, "ID" int)')
    old.execute("INSERT INTO t VALUES (1, 2)")
    project(rig, rig.environment["SOURCE_URL"], "  t: {from: erp.t, key: id, columns: {id: id, other: '\"ID\"'}}\n")
    assert 'column "ID" cannot be told from "id"' in rig.migrate("run", code=2).said
    project(rig, rig.environment["SOURCE_URL"], "  t: {from: erp.t, key: ID, columns: {id: id}}\n")
    assert 'key: column "ID" cannot be told from "id"' in rig.migrate("run", code=2).said
    project(rig, rig.environment["SOURCE_URL"], "  t: {from: erp.t, key: id, columns: {id: id}}\n")
    rig.migrate("run")
    assert rig.sql("SELECT * FROM t") == [(1,)]


def test_init_leaves_out_what_has_no_columns_and_tells_of_heirs(rig: Rig, old: psycopg.Connection) -> None:
    old.execute("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b () INHERITS (a); CREATE TABLE c ()")
    rig.migrate("init", rig.environment["SOURCE_URL"])
    text = (rig.folder / "migrate.yaml").read_text(encoding="utf-8")
    assert "c is left out: it has no columns" in text
    assert "its rows are also those of b, which inherit from it" in text


def test_aggregates_of_oids_and_of_what_is_no_number(rig: Rig, old: psycopg.Connection) -> None:
    old.execute("CREATE TABLE t (id int PRIMARY KEY, o oid, f float8, d date)")
    old.execute("INSERT INTO t VALUES (1, 4294967295, 'NaN', NULL), (2, 1, 1, 'infinity'), (3, 1, 'NaN', 'infinity')")
    columns = "{id: id, o: o, f: f, d: d}"
    tables = f"  t: {{from: erp.t, key: id, primary_key: id, max_rejects: 100%, columns: {columns}}}\n"
    project(rig, rig.environment["SOURCE_URL"], tables)
    rig.migrate("run")
    assert "t: equal" in rig.migrate("verify").said


def test_what_a_sqlite_file_may_hold(rig: Rig) -> None:
    with sqlite3.connect(rig.folder / "old.db") as file:
        file.executescript(
            "CREATE TABLE k (k REAL PRIMARY KEY) WITHOUT ROWID; INSERT INTO k VALUES (-9e999), (0.5), (9e999), (1e300);"
            "CREATE TABLE n (id INTEGER PRIMARY KEY, a INT); INSERT INTO n VALUES (1, 5), (2, 'abc'), (3, 1.5);"
            "CREATE VIEW broken AS SELECT * FROM gone;"
        )
    file.close()
    assert "views are left out unless -s names them: broken" in rig.migrate("init", "sqlite:///old.db").said
    rig.migrate("run", "--batch-rows", "1", "--max-rejects", "100%")
    assert rig.sql("SELECT k::text FROM k ORDER BY k") == [("-Infinity",), ("0.5",), ("1e+300",), ("Infinity",)]
    assert rig.sql("SELECT * FROM n") == [(1, 5)]
    assert rig.migrate("verify").said.count("equal") == 2


def test_a_sqlite_sum_may_be_greater_than_its_integers(rig: Rig) -> None:
    most = 2**63 - 1
    with sqlite3.connect(rig.folder / "old.db") as file:
        file.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, less INTEGER)")
        file.executemany("INSERT INTO t VALUES (?, ?, ?)", [(i, most, -most - 1) for i in range(1, 6)])
    file.close()
    project(rig, "sqlite:///old.db", "  t: {from: erp.t, key: id, columns: {id: id, n: n, less: less}}\n")
    rig.migrate("run")
    assert "t: equal" in rig.migrate("verify").said
    rig.sql("UPDATE t SET less = less + 1 WHERE id = 5")
    said = rig.migrate("verify", "--level", "aggregates", code=3).said
    assert f"less: the sum should be {5 * (-most - 1)} by the source, and is {5 * (-most - 1) + 1}" in said


def test_sums_of_more_digits_than_python_adds(rig: Rig, old: psycopg.Connection) -> None:
    old.execute("CREATE TABLE t (id int PRIMARY KEY, v numeric(30, 10))")
    old.execute("INSERT INTO t VALUES (1, 12345678901234567890.1234567891), (2, -1)")
    columns = "{id: id, v: v}"
    tables = f"  t: {{from: erp.t, key: id, where: id <> 2, primary_key: id, columns: {columns}}}\n"
    project(rig, rig.environment["SOURCE_URL"], tables)
    rig.migrate("run")
    assert "t: equal" in rig.migrate("verify", "--level", "aggregates").said
    rig.sql("UPDATE t SET v = v + 0.0000000001")
    said = rig.migrate("verify", "--level", "aggregates", code=3).said
    assert (
        "v: the sum should be 12345678901234567890.1234567891 by the source, and is 12345678901234567890.1234567892"
        in said
    )


def test_numbers_that_are_none_are_in_no_sum(rig: Rig, old: psycopg.Connection) -> None:
    old.execute("CREATE TABLE t (id int PRIMARY KEY, v numeric(6, 2))")
    old.execute("INSERT INTO t VALUES (1, 1.50), (2, 'NaN'), (3, -9999.99)")
    tables = "  t: {from: erp.t, key: id, primary_key: id, max_rejects: 100%, columns: {id: id, v: v}}\n"
    project(rig, rig.environment["SOURCE_URL"], tables)
    rig.migrate("run")
    assert rig.fates("t") == (3, 2, 0, 0, 1)
    assert "t: equal" in rig.migrate("verify").said
    rig.sql("UPDATE t SET v = 'NaN' WHERE id = 1")
    said = rig.migrate("verify", "--level", "aggregates", code=3).said
    assert "v: the sum should be -9998.49 by the source, and is NaN in the target" in said


FAMILY = """
CREATE TABLE staff (id int PRIMARY KEY, boss int REFERENCES staff);
CREATE TABLE pay (id int PRIMARY KEY, staff int REFERENCES staff);
"""
FAMILY_TABLES = """\
  staff: {from: erp.staff, key: id, columns: {id: id, boss: boss}}
  pay: {from: erp.pay, key: id, columns: {id: id, staff: staff}}
"""


def _family(rig: Rig, old: psycopg.Connection) -> None:
    """Two tables, of which one references itself, and the source moves after 100 rows of it were loaded."""
    old.execute(FAMILY)
    old.execute("INSERT INTO staff SELECT n, nullif(n / 2, 0) FROM generate_series(1, 300) n")
    old.execute("INSERT INTO pay SELECT n, n FROM generate_series(1, 300) n")
    rig.sql(FAMILY)
    project(rig, rig.environment["SOURCE_URL"], FAMILY_TABLES)


def test_what_references_itself_starts_over_where_its_source_moved(rig: Rig, old: psycopg.Connection) -> None:
    _family(rig, old)
    assert rig.killed_at("committed", 1, "run", "--batch-rows", "100", "-j", "1").code == -9
    old.execute("UPDATE staff SET boss = 7 WHERE id = 3")
    old.execute("DELETE FROM pay WHERE id = 5")
    said = rig.migrate("run").said
    assert "interrupted in a cycle of references, and the source has moved since" in said
    assert rig.sql("SELECT boss FROM staff WHERE id = 3") == [(7,)]
    assert (rig.value("SELECT count(*) FROM staff"), rig.value("SELECT count(*) FROM pay")) == (300, 299)
    assert rig.migrate("verify").said.count("equal") == 2


def test_what_references_itself_goes_on_where_nothing_was_loaded(rig: Rig, old: psycopg.Connection) -> None:
    _family(rig, old)
    rig.sql("INSERT INTO staff VALUES (1000, NULL)")
    assert rig.killed_at("prepared", 1, "run").code == -9
    old.execute("UPDATE staff SET boss = 7 WHERE id = 3")
    assert "resumed where it stopped" in rig.migrate("run").said
    assert rig.value("SELECT count(*) FROM staff") == 301


def test_what_cannot_start_over_says_how_all_else_is_loaded(rig: Rig, old: psycopg.Connection) -> None:
    _family(rig, old)
    rig.sql("INSERT INTO staff VALUES (1000, NULL)")
    rig.killed_at("committed", 1, "run", "--batch-rows", "100", "-j", "1")
    said = rig.migrate("run", code=4).said
    assert "but its rows were appended to a table that already held 1 others" in said
    assert "`migrate run --exclude staff`" in said
    text = (rig.folder / "migrate.yaml").read_text(encoding="utf-8")
    rig.write("migrate.yaml", text.replace("erp: ${env:SOURCE_URL}", 'erp: {url: "${env:SOURCE_URL}", quiesced: true}'))
    rig.migrate("run")
    assert rig.value("SELECT count(*) FROM staff") == 301


def test_a_chunk_that_both_gained_and_lost_a_row_is_repaired(rig: Rig, old: psycopg.Connection) -> None:
    old.execute("CREATE TABLE t (id int PRIMARY KEY)")
    old.execute("INSERT INTO t SELECT 2 * n FROM generate_series(1, 400) n")
    tables = "  t: {from: erp.t, key: id, primary_key: id, columns: {id: id}}\n"
    project(rig, rig.environment["SOURCE_URL"], tables)
    rig.migrate("run", "--batch-rows", "100")
    old.execute("DELETE FROM t WHERE id IN (700, 300, 302)")
    old.execute("INSERT INTO t VALUES (701), (303), (3)")
    repaired = rig.migrate("verify", "--against", "source", "--fixup", "-y").said
    assert "3 inserted, 3 deleted" in repaired
    assert "t: equal" in rig.migrate("verify", "--against", "source").said


def test_the_year_zero_is_a_zero_date(rig: Rig, mariadb: MariaDB, source_database: str) -> None:
    filled(
        mariadb,
        source_database,
        "CREATE TABLE t (id INT PRIMARY KEY, d DATE, m DATETIME);\n"
        "INSERT INTO t VALUES (1, '0000-02-28', NULL), (2, NULL, '0000-01-01 01:00:00'), (3, '0001-01-01', '2020-01-01');\n",
    )
    tables = "  t: {from: erp.t, key: id, primary_key: id, max_rejects: 100%, columns: {id: id, d: d, m: m}}\n"
    project(rig, mariadb.url(source_database), tables)
    assert "d: 1 of the first 3 are dates such as 0000-00-00" in rig.migrate("check").said
    rig.migrate("run")
    assert rig.sql("SELECT id, d::text FROM t") == [(3, "0001-01-01")]
    assert "'0000-02-28' of the source's date is no date" in rig.migrate("rejects", "list").said
    assert "t: equal" in rig.migrate("verify").said
    text = (rig.folder / "migrate.yaml").read_text()
    rig.write("migrate.yaml", text.replace("${env:SOURCE_URL}", "{url: '${env:SOURCE_URL}', zero_dates: text}"))
    rig.sql("DROP TABLE t; DROP SCHEMA migrate_ledger CASCADE")
    rig.migrate("run")
    assert rig.sql("SELECT d FROM t WHERE id = 1") == [("0000-02-28",)]


def test_rows_of_sqlite_are_found_by_keys_of_any_kind(rig: Rig) -> None:
    with sqlite3.connect(rig.folder / "old.db") as file:
        file.execute("CREATE TABLE t (k PRIMARY KEY, n INT) WITHOUT ROWID")
        file.execute("INSERT INTO t VALUES (x'6162', 1), (5, 2), (1.5, 4), ('it''s', 8), ('ok', 16), (x'', 32)")
        file.execute("CREATE TABLE u (k INT NOT NULL PRIMARY KEY, n INT)")
        file.execute("INSERT INTO u VALUES (x'ff', 1), ('abc', 2), (3, 4)")
    file.close()
    tables = "  t: {from: erp.t, key: k, where: n >= 16, max_rejects: 100%, columns: {k: k, n: n}}\n"
    tables += "  u: {from: erp.u, key: k, max_rejects: 100%, columns: {k: k, n: n}}\n"
    project(rig, "sqlite:///old.db", tables)
    rig.migrate("run")
    assert (rig.fates("t"), rig.fates("u")) == ((6, 1, 0, 3, 2), (3, 1, 0, 0, 2))
    assert rig.migrate("verify").said.count("equal") == 2


def test_a_sqlite_table_of_very_many_columns_is_read(rig: Rig) -> None:
    names = [f"c{n}" for n in range(1200)]
    with sqlite3.connect(rig.folder / "old.db") as file:
        file.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, {', '.join(f'{name} INT' for name in names)})")
        file.execute("INSERT INTO t (id, c1199) VALUES (1, 7)")
    file.close()
    rig.migrate("init", "sqlite:///old.db")
    rig.migrate("run")
    assert rig.sql("SELECT c1199 FROM t") == [(7,)]
    assert "t: equal" in rig.migrate("verify").said


def test_a_port_that_speaks_something_else_is_named(
    rig: Rig, mariadb: MariaDB, source_database: str, old: psycopg.Connection
) -> None:
    where = old.info
    said = rig.migrate("init", f"mysql://u:pw@{where.host}:{where.port}/d?connect_timeout=1", code=6).said
    assert f"{where.host}:{where.port}: nothing there speaks MySQL: no answer within 1 s" in said
    there = mariadb.url(source_database).rpartition("@")[2]
    assert "That port does not speak PostgreSQL" in rig.migrate("init", f"postgresql://u:pw@{there}", code=6).said


def test_a_key_that_cannot_be_cut_by_is_named(rig: Rig, mariadb: MariaDB, source_database: str) -> None:
    filled(
        mariadb,
        source_database,
        "CREATE TABLE a (e ENUM('x', 'y') PRIMARY KEY);\nCREATE TABLE b (t TEXT, UNIQUE KEY (t(5)));\n"
        "CREATE TABLE c (n INT, e ENUM('x', 'y'), PRIMARY KEY (n, e));\n"
        "INSERT INTO c SELECT seq, 'x' FROM seq_1_to_20;\nINSERT INTO c SELECT seq, 'y' FROM seq_1_to_20;\n"
        "CREATE TABLE d (n INT, FULLTEXT KEY (s), s TEXT);\n",
    )
    tables = "".join(f"  {t}: {{from: erp.{t}, columns: {{v: {c}}}}}\n" for t, c in zip("abd", "etn", strict=True))
    project(rig, mariadb.url(source_database), tables + "  c: {from: erp.c, columns: {n: n, e: e}}\n")
    plan = rig.migrate("plan", "--batch-rows", "5").said
    assert "its key cannot be cut by: column e is an enum: it is one slice" in plan
    assert "its key cannot be cut by: it holds only the beginning of column t: it is one slice" in plan
    assert "its key cannot be cut by: column e is an enum: it is cut by the index on n" in plan
    assert "d: it has no index to cut it by" in plan
    rig.migrate("run", "--batch-rows", "5")
    assert rig.fates("c") == (40, 40, 0, 0, 0)
    assert rig.value("SELECT count(*) FROM migrate_ledger.entry WHERE name = 'c'") > 4
    assert "c: equal" in rig.migrate("verify").said


def test_views_of_other_databases_are_no_news(rig: Rig, mariadb: MariaDB, source_database: str) -> None:
    filled(mariadb, source_database, "CREATE TABLE t (id INT PRIMARY KEY);\nCREATE VIEW mine AS SELECT 1 AS id;\n")
    mariadb.execute("mysql", f"CREATE DATABASE {source_database}_2")
    try:
        mariadb.execute("mysql", f"CREATE VIEW {source_database}_2.yours AS SELECT 1 AS id")
        said = rig.migrate("init", mariadb.url(source_database)).said
    finally:
        mariadb.execute("mysql", f"DROP DATABASE {source_database}_2")
    assert "views are left out unless -s names them: mine\n" in said
    assert "yours" not in said


def test_how_a_source_is_read_is_said_once(rig: Rig, old: psycopg.Connection) -> None:
    _family(rig, old)
    plan = rig.migrate("plan").said
    assert (plan.count("erp is live"), plan.count("(staff, pay)")) == (1, 0)
    assert rig.migrate("run").said.count("erp was read live") == 1


def test_arrays_are_what_the_documentation_says(rig: Rig, old: psycopg.Connection) -> None:
    texts = ("int[]", "text[]", "timestamptz[]", "numeric(5,2)[]", "boolean[]")
    kept = ("bytea[]", "numeric[]", "uuid[]", "inet[]")
    columns = ", ".join(f"c{n} {kind}" for n, kind in enumerate((*texts, *kept)))
    old.execute(f"CREATE TABLE t (id int PRIMARY KEY, {columns})")
    old.execute("INSERT INTO t (id, c0, c1, c6) VALUES (1, '{1,NULL}', '{\"a,b\",NULL}', '{1.50,NULL}')")
    rig.migrate("init", rig.environment["SOURCE_URL"])
    rig.environment.update(dict.fromkeys(_exported(rig), "postgres"))
    rig.migrate("run")
    ask = "SELECT format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 1 ORDER BY attnum"
    assert [kind for (kind,) in rig.sql(ask)] == ["text"] * len(texts) + list(kept)
    assert rig.sql("SELECT c0::int[], c1::text[], c6 FROM t") == old.execute("SELECT c0, c1, c6 FROM t").fetchall()
    assert "t: equal" in rig.migrate("verify").said


def test_what_a_scheme_and_a_missing_column_say(rig: Rig, mariadb: MariaDB, source_database: str) -> None:
    filled(mariadb, source_database, "CREATE TABLE t (id INT PRIMARY KEY, v INT);\n")
    url = mariadb.url(source_database)
    project(rig, url.replace("mysql://", "MYSQL://"), "  t: {from: erp.t, key: id, columns: {id: id, w: salary}}\n")
    said = rig.migrate("run", code=2).said
    assert 'column "salary" is not in the source' in said
    assert "A column that the source's user may not read is not seen either" in said
    rig.migrate("init", "-o", "other.yaml", url.replace("mysql://", "MYSQL://"))
    said = rig.migrate("init", "-o", "third.yaml", f"{url}?ssl=true&ssl_verify_identity=false", code=6).said
    assert "Take ssl out of the source's URL" in said


def test_options_of_a_url_that_are_another_engines(rig: Rig, old: psycopg.Connection) -> None:
    url = rig.environment["SOURCE_URL"]
    assert "for TLS it is sslmode=require" in rig.migrate("init", f"{url}?ssl=true", code=6).said
    assert "Take sslmode out of the source's URL" in rig.migrate("init", f"{url}?sslmode=require", code=6).said
