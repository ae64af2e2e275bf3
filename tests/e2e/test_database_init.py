"""`migrate init` and `migrate check` on a database: a project file from a live source, and what a run over it needs."""

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from servers import MariaDB

from e2e.rig import Rig, state_of
from e2e.test_mysql import filled, project
from migrate.initialize import _without_secrets, secrets

LONG = "long " * 12 + "name"  # 64 characters

COMPANY = f"""
CREATE TABLE Countries (Code CHAR(2) PRIMARY KEY, name VARCHAR(40) NOT NULL);
CREATE TABLE `Customer Groups` (tenant INT, `group` VARCHAR(10), label VARCHAR(40) CHARACTER SET latin1,
  PRIMARY KEY (tenant, `group`));
CREATE TABLE CUSTOMERS (CustomerID BIGINT UNSIGNED PRIMARY KEY, Tenant INT, `Group` VARCHAR(10), country CHAR(2), born DATE,
  `E-Mail` VARCHAR(80) UNIQUE, `e mail` VARCHAR(80), FOREIGN KEY (Tenant, `Group`) REFERENCES `Customer Groups` (tenant, `group`),
  FOREIGN KEY (country) REFERENCES Countries (Code));
CREATE TABLE `say "hi"` (`it's` INT PRIMARY KEY, `a``b` VARCHAR(10), `{LONG}` INT, `{LONG[:-1]}x` INT);
CREATE TABLE employees (id INT PRIMARY KEY, boss INT, department INT, FOREIGN KEY (boss) REFERENCES employees (id));
CREATE TABLE departments (id INT PRIMARY KEY, head INT, FOREIGN KEY (head) REFERENCES employees (id));
ALTER TABLE employees ADD FOREIGN KEY (department) REFERENCES departments (id);
CREATE TABLE orders (year SMALLINT, no INT, customer BIGINT UNSIGNED NOT NULL, mail VARCHAR(80), took TIME, place POINT,
  PRIMARY KEY (year, no), FOREIGN KEY (customer) REFERENCES CUSTOMERS (CustomerID),
  FOREIGN KEY (mail) REFERENCES CUSTOMERS (`E-Mail`));
CREATE TABLE `lines` (no INT, year SMALLINT, line INT, sub INT, PRIMARY KEY (no, year, line),
  FOREIGN KEY (year, no) REFERENCES orders (year, no));
CREATE TABLE parts (id INT PRIMARY KEY, n INT, y SMALLINT, l INT, FOREIGN KEY (n, y, l) REFERENCES `lines` (no, year, line));
CREATE TABLE tree (tenant INT, id INT, up INT, PRIMARY KEY (tenant, id), FOREIGN KEY (tenant, up) REFERENCES tree (tenant, id));
CREATE TABLE log (said TEXT);
CREATE TABLE tmp_1 (a INT PRIMARY KEY);
CREATE VIEW v_customers AS SELECT CustomerID, born FROM CUSTOMERS;
CREATE VIEW v_other AS SELECT 1 AS one;
INSERT INTO Countries VALUES ('DE', 'geheimes Land'), ('FR', 'France');
INSERT INTO `Customer Groups` VALUES (1, 'A', CONVERT(X'4DC3BC6C6C6572' USING latin1)), (2, 'B', NULL);
INSERT INTO CUSTOMERS VALUES (18446744073709551615, 1, 'A', 'DE', '1999-01-02', 'a@b', 'x'),
  (2, NULL, NULL, NULL, NULL, NULL, NULL),
  (3, 2, 'B', 'FR', '2001-01-01', 'c@d', NULL);
INSERT INTO `say "hi"` VALUES (1, 'q', 2, 3);
SET foreign_key_checks = 0;
INSERT INTO employees VALUES (1, NULL, 10), (2, 1, 10), (3, 2, 11);
INSERT INTO departments VALUES (10, 1), (11, 3);
SET foreign_key_checks = 1;
INSERT INTO orders VALUES (2020, 1, 18446744073709551615, 'a@b', '10:00:00', POINT(1, 2)), (2021, 1, 2, NULL, '-800:00:00', NULL);
INSERT INTO `lines` VALUES (1, 2020, 1, 7), (1, 2020, 2, NULL), (1, 2021, 1, 0);
INSERT INTO parts VALUES (1, 1, 2020, 2), (2, NULL, NULL, NULL), (3, 1, 2021, 1);
INSERT INTO tree VALUES (1, 1, NULL), (1, 2, 1);
INSERT INTO log VALUES ('x');
"""


@pytest.fixture
def archive(mariadb: MariaDB, source_database: str) -> Iterator[str]:
    """A second database on the server, for a table that refers to one of the first."""
    name = f"{source_database}_old"
    mariadb.create(name)
    yield name
    mariadb.execute("mysql", f"DROP DATABASE `{name}`")


def company(rig: Rig, mariadb: MariaDB, database: str, archive: str) -> None:
    filled(mariadb, database, COMPANY)
    filled(
        mariadb,
        archive,
        "CREATE TABLE orders (id INT PRIMARY KEY, employee INT, "
        f"FOREIGN KEY (employee) REFERENCES `{database}`.employees (id));\n"
        "INSERT INTO orders VALUES (1, 3);\n",
    )
    rig.environment.update({f"{database.upper()}_USER": "tester", f"{database.upper()}_PASSWORD": "geheim@1"})


def test_a_company_is_drafted_checked_and_loaded(
    rig: Rig, mariadb: MariaDB, source_database: str, archive: str
) -> None:
    company(rig, mariadb, source_database, archive)
    said = rig.migrate("init", mariadb.url(source_database), "-s", "*", "-s", f"{archive}.*", "--exclude", "tmp_*").said
    written = (rig.folder / "migrate.yaml").read_text()
    assert "tester" not in said + written
    # Neither the password nor a value of the source is in the file.
    for value in ("geheim", "1999", "France", "Müller", "MÃ¼ller", "18446744073709551615", "a@b", "-800"):
        assert value not in said + written
    assert "# 1 tables of the source are left out by --select and --exclude" in written
    assert "# views are left out unless -s names them: v_customers, v_other" in written
    lines = {line.strip() for line in written.splitlines()}
    for line in (
        "key: [tenant, group]",
        "primary_key: [tenant, group]",
        "tenant: {references: customer_groups, column: tenant, by: [Tenant, '\"Group\"']}",
        "country: {references: countries, by: country}",
        "e_mail: '\"E-Mail\"'",
        "e_mail_2: '\"e mail\"'  # e mail: e_mail is taken",
        "boss: {references: employees, by: boss}",
        "head: {references: employees, by: head}",
        "department: {references: departments, by: department}",
        "mail: mail  # references customers by E-Mail, which is not its key (CustomerID)",
        "y: {references: lines, column: year, by: [n, y, l]}",
        "employee: {references: employees, by: employee}",
        "# took: time is read as text, for it reaches from -838:59:59 to 838:59:59",
        "# place: point is read as text (EWKT)",
        "# no key at the source: say `key:` if columns identify a row; without it only append is possible",
        f"from: {source_database}.{archive}.orders",
    ):
        assert line in lines
    assert "tree by tenant, id; written down, these keys would be made of each other" in written
    assert (
        "# 1 of 1 values with accents are UTF-8 in a column that says otherwise: fix_encoding(label) mends them"
        in written
    )
    short = LONG.replace(" ", "_")[:63]
    assert f"{short}: '\"{LONG}\"'  # {LONG}: cut to the 63 bytes that a name may have" in lines
    assert f"{short[:61]}_2: '\"{LONG[:-1]}x\"'  # {LONG[:-1]}x: cut to the 63 bytes that a name may have" in lines
    checked = rig.migrate("check").said
    assert "FAIL" not in checked
    rig.migrate("run")
    fates = state_of(rig.url)["fates"].values()
    assert (len(fates), sum(f[1] for f in fates), sum(f[4] for f in fates)) == (12, 25, 0)
    keys = rig.sql(
        "SELECT conrelid::regclass::text, array_length(conkey, 1) FROM pg_constraint WHERE contype = 'f' ORDER BY 1"
    )
    assert ("lines", 2) in keys
    assert ("parts", 3) in keys
    assert rig.sql("SELECT id, boss, department FROM employees ORDER BY id") == [(1, None, 10), (2, 1, 10), (3, 2, 11)]
    assert rig.sql("SELECT n, y, l FROM parts ORDER BY id") == [(1, 2020, 2), (None, None, None), (1, 2021, 1)]
    assert rig.sql("SELECT max(customer_id)::text FROM customers") == [("18446744073709551615",)]
    assert rig.migrate("verify").said.count("equal") == 12


def test_a_view_is_drafted_where_it_is_named_and_a_slip_of_the_pen_is_told(
    rig: Rig, mariadb: MariaDB, source_database: str
) -> None:
    filled(mariadb, source_database, "CREATE TABLE t (a INT PRIMARY KEY);\nCREATE VIEW vt AS SELECT a FROM t;\n")
    rig.migrate("init", mariadb.url(source_database), "-s", "t", "-s", "vt")
    written = (rig.folder / "migrate.yaml").read_text()
    assert f"from: {source_database}.vt" in written
    assert "views are left out" not in written
    rig.migrate("init", mariadb.url(source_database), "-s", "*", "--yes")
    assert f"from: {source_database}.vt" not in (rig.folder / "migrate.yaml").read_text()
    ended = rig.migrate("init", mariadb.url(source_database), "-s", "t", "-s", "vtt", "--yes", code=2)
    assert "No table of the source is selected by -s vtt." in ended.said
    assert "Did you mean vt?" in ended.said


@pytest.mark.parametrize("scheme", ["mysql", "postgresql"])
@pytest.mark.parametrize("password", ["s3c/ret9x", "12/ret9x", "12?ret9x", "12#ret9x", "12?ret9x=", "se@cret9x"])
def test_a_password_that_was_not_escaped_is_in_no_message_and_no_file(
    rig: Rig, mariadb: MariaDB, scheme: str, password: str
) -> None:
    url = f"{scheme}://tester:{password}@127.0.0.1:{mariadb.port}/mysql?connect_timeout=3"
    ended = rig.try_("init", url)
    assert ended.code in (2, 6, 75)
    assert "ret9x" not in ended.said
    assert not (rig.folder / "migrate.yaml").exists()
    project(rig, url, TABLES)
    checked = rig.try_("check")
    assert checked.code in (2, 3, 6)
    assert "ret9x" not in checked.said


def test_a_login_among_the_options_of_a_url_is_not_written(rig: Rig) -> None:
    rig.sql("CREATE TABLE a (id int PRIMARY KEY, b text)")
    url = rig.url.replace("postgres@", "") + "?user=postgres&password=geheim99"
    said = rig.migrate("init", url).said
    written = (rig.folder / "migrate.yaml").read_text()
    stem = url.partition("?")[0].rpartition("/")[2].upper()
    assert f"?user=${{env:{stem}_USER}}&password=${{env:{stem}_PASSWORD}}" in written
    assert f"export {stem}_PASSWORD=…" in said
    assert "geheim99" not in said + written


def test_every_password_of_a_url_is_taken_from_the_environment() -> None:
    given = "oracle://scott@erp/LEGACY?wallet=/w&wallet_password=tiger%201"
    written, exported = _without_secrets(given, "legacy")
    assert written == ("oracle://${env:LEGACY_USER}@erp/LEGACY?wallet=/w&wallet_password=${env:LEGACY_WALLET_PASSWORD}")
    assert exported == {"LEGACY_USER": "scott", "LEGACY_WALLET_PASSWORD": "tiger%201"}
    assert secrets([given]) == ("tiger 1", "tiger%201")


def test_a_slash_in_a_tables_name_is_part_of_it(rig: Rig) -> None:
    with sqlite3.connect(rig.folder / "sap.db") as sap:
        for name in ("/BIC/AX", "a/b", "a", "end/"):
            sap.execute(f'CREATE TABLE "{name}" (id INTEGER PRIMARY KEY, _position TEXT)')
            sap.execute(f'INSERT INTO "{name}" VALUES (1, ?)', [name])
    rig.migrate("init", "sqlite:///sap.db")
    rig.migrate("check")
    rig.migrate("run")
    assert rig.migrate("verify").said.count("equal") == 4
    assert rig.sql("SELECT position FROM bic_ax") == [("/BIC/AX",)]
    found = rig.migrate("assess", "--output", "json").json()
    assert {t["name"]: (t["rows"], t["refers"]) for t in found["sources"][0]["tables"]} == dict.fromkeys(
        ("/BIC/AX", "a/b", "a", "end/"), (1, [])
    )


def test_dates_that_are_none_are_told_before_they_reject_rows(rig: Rig, mariadb: MariaDB, source_database: str) -> None:
    filled(
        mariadb,
        source_database,
        "CREATE TABLE t (a INT PRIMARY KEY, d DATE, e DATETIME);\n"
        "INSERT INTO t VALUES (1, '0000-00-00', '2020-01-01'), (2, '2020-00-00', NULL), (3, '2020-01-01', NULL);\n",
    )
    said = rig.migrate("init", mariadb.url(source_database)).said
    told = "2 of the first 3 are dates such as 0000-00-00, which reject their row: the source's `zero_dates` says otherwise"
    assert f"t: d: {told}" in said
    written = (rig.folder / "migrate.yaml").read_text()
    assert f"d: d  # {told}" in written
    assert "e: e\n" in written
    name = source_database.upper()
    rig.environment.update({f"{name}_USER": "tester", f"{name}_PASSWORD": "geheim@1"})
    assert f"warn {source_database}, t: d: {told}" in rig.migrate("check").said


# ---------------------------------------------------------------------------------------------------------------- check


TABLES = "  t: {from: erp.t, key: a, primary_key: a, columns: {a: a}}\n"


def results(rig: Rig, code: int = 0) -> dict[str, tuple[str, str]]:
    """What was looked at → (level, what was said); those of one name one after the other."""
    found: dict[str, tuple[str, str]] = {}
    for each in rig.migrate("check", "--output", "json", code=code).json():
        level, said = found.get(each["what"], ("ok", ""))
        worst = max((level, each["level"]), key=["ok", "warning", "failed"].index)
        found[each["what"]] = (worst, said + each["said"] + "\n")
    return found


@pytest.fixture
def small(rig: Rig, mariadb: MariaDB, source_database: str) -> Rig:
    filled(
        mariadb,
        source_database,
        "CREATE TABLE t (a INT PRIMARY KEY, b INT, c VARCHAR(200));\n"
        "INSERT INTO t SELECT seq, 0, REPEAT('x', 200) FROM seq_1_to_3000;\n"
        "ANALYZE TABLE t;\nCREATE TABLE old (a INT PRIMARY KEY) ENGINE = MyISAM;\n",
    )
    project(rig, mariadb.url(source_database), TABLES)
    return rig


def user(mariadb: MariaDB, grants: str, options: str = "") -> None:
    mariadb.execute("mysql", f"CREATE OR REPLACE USER narrow@'127.0.0.1' IDENTIFIED BY 'eng' {options}")
    for grant in filter(None, grants.split(";")):
        mariadb.execute("mysql", f"GRANT {grant.strip()} TO narrow@'127.0.0.1'")


def test_check_of_a_source_that_has_all_it_needs(small: Rig) -> None:
    found = results(small)
    assert found["erp, privileges"][0] == "ok"
    assert "RELOAD: all connections get one snapshot" in found["erp, privileges"][1]
    assert found["erp, connections"][0] == "ok"
    assert re.match(r"\d+ of 80 free beside the 6 that a run takes", found["erp, connections"][1])
    assert found["erp, view"][0] == "ok"
    level, room = found["room"]
    assert level == "ok"
    assert re.search(r"about [23],\d{3} rows, [\d.]+ (kB|MB) by its own statistics", room)
    assert "look at its volume" in room


def test_check_says_what_the_lack_of_privileges_costs(small: Rig, mariadb: MariaDB, source_database: str) -> None:
    user(mariadb, f"SELECT (a, b) ON `{source_database}`.t")
    project(small, mariadb.url(source_database, "narrow", "eng"), TABLES)
    found = results(small)
    level, said = found["erp, privileges"]
    assert level == "warning"
    assert "all connections see one moment only if nothing is written" in said
    assert "GRANT RELOAD ON *.* TO the source's user" in said
    assert "PROCESS is not granted" in said
    level, said = found["erp, t"]
    assert level == "warning"
    assert "only 2 of its columns may be read; the others are not even seen" in said
    assert f"GRANT SELECT ON `{source_database}`.`t`" in said
    shown = small.migrate("check").said
    assert "warn erp, privileges: RELOAD is not granted" in shown
    assert "warning:" not in shown
    user(mariadb, f"RELOAD, PROCESS ON *.*; SELECT ON `{source_database}`.*")
    found = results(small)
    assert found["erp, privileges"] == (
        "ok",
        "RELOAD: all connections get one snapshot behind a lock of some milliseconds\n",
    )
    assert "erp, t" not in found


def test_check_names_a_table_that_may_not_be_read_beside_all_that_may(
    small: Rig, mariadb: MariaDB, source_database: str
) -> None:
    user(mariadb, f"SELECT ON `{source_database}`.t")
    both = TABLES + "  old: {from: erp.old, columns: {a: a}}\n"
    project(small, mariadb.url(source_database, "narrow", "eng"), both)
    found = results(small, code=3)
    assert found["erp, old"][0] == "failed"
    assert "no table 'old' at the source" in found["erp, old"][1]
    assert found["erp, version"][0] == "ok"
    assert found["t, source"][0] == "ok"


def test_check_counts_the_connections_of_the_source(small: Rig, mariadb: MariaDB, source_database: str) -> None:
    user(mariadb, f"SELECT ON `{source_database}`.*", "WITH MAX_USER_CONNECTIONS 5")
    project(small, mariadb.url(source_database, "narrow", "eng"), TABLES)
    level, said = results(small)["erp, connections"]
    assert level == "warning"
    assert "its user may have 5, and a run takes up to 6" in said
    assert "Lower `connections` of this source to 3" in said
    user(mariadb, f"SELECT ON `{source_database}`.*", "WITH MAX_USER_CONNECTIONS 3")
    found = results(small, code=3)
    assert found["erp, connection"][0] == "failed"
    assert "Lower `connections` of this source" in found["erp, connection"][1]


def test_check_warns_of_tables_that_no_snapshot_holds(small: Rig, mariadb: MariaDB, source_database: str) -> None:
    tables = "  old: {from: erp.old, columns: {a: a}}\n"
    project(small, mariadb.url(source_database), tables)
    level, said = results(small)["erp, old"]
    assert level == "warning"
    assert "its engine is MyISAM: no snapshot holds it still" in said
    small.write(
        "migrate.yaml",
        "migration: m\ntarget: ${env:TARGET_URL}\nsources:\n  erp: {url: '${env:SOURCE_URL}', quiesced: true}\n"
        f"tables:\n{tables}",
    )
    found = results(small)
    assert "erp, old" not in found
    assert found["erp, privileges"][0] == "ok"


def test_check_of_the_binary_log(small: Rig, mariadb: MariaDB) -> None:
    mariadb.execute("mysql", "SET GLOBAL binlog_format = 'MIXED', GLOBAL binlog_expire_logs_seconds = 90")
    try:
        level, said = results(small)["erp, binary log"]
    finally:
        mariadb.execute("mysql", "SET GLOBAL binlog_format = 'ROW', GLOBAL binlog_expire_logs_seconds = 0")
    assert level == "warning"
    assert "its format is MIXED: a change feed needs ROW" in said
    assert "takes about 2 min, at 100,000 rows a second" in said
    level, said = results(small)["erp, binary log"]
    assert level == "ok"
    assert "kept until it is purged" in said


def test_a_view_that_cannot_be_read_is_told_and_hides_nothing(rig: Rig, mariadb: MariaDB, source_database: str) -> None:
    filled(
        mariadb,
        source_database,
        "CREATE TABLE t (a INT PRIMARY KEY, d DATE);\n"
        "CREATE DEFINER = ghost@localhost SQL SECURITY DEFINER VIEW broken AS SELECT a, d FROM t;\n",
    )
    said = rig.migrate("init", mariadb.url(source_database), "-s", "t", "-s", "broken").said
    assert re.search(r"broken: .*ghost", said)
    assert f"from: {source_database}.t" in (rig.folder / "migrate.yaml").read_text()
    name = source_database.upper()
    rig.environment.update({f"{name}_USER": "tester", f"{name}_PASSWORD": "geheim@1"})
    checked = rig.migrate("check", code=3).said
    assert re.search(rf"FAIL {source_database}, broken: .*ghost", checked)
    assert "ok   t, source" in checked


def test_check_of_the_targets_limits(small: Rig, target_url: str) -> None:
    name = target_url.rpartition("/")[2]
    with psycopg.connect(target_url, autocommit=True) as conn:
        conn.execute(f"ALTER DATABASE \"{name}\" SET temp_file_limit = '64kB'")
        conn.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT 5')
        found = results_of_limits(small)
        conn.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT -1')
    assert found["connections"][0] == "failed"
    assert "raise the database's CONNECTION LIMIT, or run with fewer workers (-j)" in found["connections"][1]
    assert found["room"][0] == "warning"
    assert "temp_file_limit is 64 kB" in found["room"][1]


def results_of_limits(rig: Rig) -> dict[str, tuple[str, str]]:
    parts = rig.migrate("check", "-j", "2", "--output", "json", code=3).json()
    return {part["what"]: (part["level"], part["said"]) for part in parts}


def test_a_url_without_a_login_is_written_as_it_is(
    rig: Rig, mariadb: MariaDB, source_database: str, tmp_path: Path
) -> None:
    database = tmp_path / "shop@home.db"
    with sqlite3.connect(database) as made:
        made.execute("CREATE TABLE a (id INTEGER PRIMARY KEY, b TEXT)")
    rig.migrate("init", f"sqlite:///{database}")
    written = (rig.folder / "migrate.yaml").read_text()
    assert f"shop_home: sqlite:///{database}" in written
    assert "${env:TARGET_URL}" in written
    assert written.count("${env:") == 1
