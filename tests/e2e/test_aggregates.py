"""What `verify --level aggregates` finds in texts: one digest of all of a row's texts is compared first, then that of each."""

from collections.abc import Iterable, Iterator

import psycopg
import pytest
from servers import MariaDB, Postgres

from e2e.rig import Rig

TABLE = """\
  t:
    from: s.t
    key: id
    primary_key: id
    max_rejects: 100%
    where: "kept = 1"
    columns: {id: id, a: a, b: b, c: c, d: d, born: born}
"""
SAME = "t: equal"


class Source:
    """A database of either engine, and its URL."""

    def __init__(self, url: str, server: MariaDB | None, database: str) -> None:
        self.url, self._server, self._database = url, server, database

    def run(self, *statements: str) -> None:
        if self._server is not None:
            self._server.execute(self._database, *statements)
            return
        with psycopg.connect(self.url, autocommit=True) as conn:
            for statement in statements:
                conn.execute(statement.encode())


@pytest.fixture(params=["postgresql", "mariadb"])
def source(request: pytest.FixtureRequest, rig: Rig) -> Iterator[Source]:
    name = f"{rig.url.rpartition('/')[2]}_s"
    if request.param == "mariadb":
        mariadb: MariaDB = request.getfixturevalue("mariadb")
        yield Source(mariadb.create(name), mariadb, name)
        mariadb.execute("mysql", f"DROP DATABASE `{name}`")
    else:
        postgres: Postgres = request.getfixturevalue("postgres")
        postgres.drop(name)
        yield Source(postgres.create(name), None, name)
        postgres.drop(name)


def project(rig: Rig, source: Source, tables: str) -> None:
    rig.environment["SOURCE_URL"] = source.url
    rig.write(
        "migrate.yaml",
        "migration: m\ntarget: ${env:TARGET_URL}\nsources:\n  s: ${env:SOURCE_URL}\ntables:\n" + tables,
    )


@pytest.fixture
def loaded(rig: Rig, source: Source) -> Rig:
    """Texts of every kind, NULL and '' among them, filled char(n); rows 8 and 9 are not loaded."""
    source.run(
        "CREATE TABLE t (id int PRIMARY KEY, a varchar(20), b varchar(20), c char(5), d text, born varchar(10), "
        "kept int NOT NULL)",
        "INSERT INTO t VALUES (1, 'ann', 'bob', 'x', 'ä😁', '2020-01-01', 1), (2, 'bob', 'ann', 'x ', '', '2020-01-02', 1), "
        "(3, NULL, '', NULL, NULL, NULL, 1), (4, '', NULL, '', 'long', '2020-01-03', 1), (5, ' z ', ' z ', ' y', 'w ', NULL, 1), "
        "(6, 'eve', 'ivo', 'q', 'one', NULL, 1), (7, 'ivo', 'eve', 'r', 'two', NULL, 1), "
        "(8, 'gone', 'away', 'out', 'filtered', '2020-01-04', 0), (9, 'not', NULL, 'in', 'rejected', 'never', 1)",
    )
    project(rig, source, TABLE.replace("born: born", "born: \"parse_date(born, 'YYYY-MM-DD')\""))
    rig.migrate("run")
    assert rig.fates("t") == (9, 7, 0, 1, 1)
    return rig


def test_texts_that_are_equal_are_so_whatever_was_not_loaded(loaded: Rig) -> None:
    assert SAME in loaded.migrate("verify", "--level", "aggregates").said


PLANTS = {
    "a = 'anN' WHERE id = 1": {"a": "the sum of digests"},
    "b = 'ivO' WHERE id = 6": {"b": "the sum of digests"},
    "c = 'X' WHERE id = 1": {"c": "the sum of digests"},
    "d = 'ä😂' WHERE id = 1": {"d": "the sum of digests"},
    "d = 'w' WHERE id = 5": {"d": "the sum of lengths"},
    "b = NULL WHERE id = 3": {"b": "values that are not NULL"},
    "d = '' WHERE id = 3": {"d": "values that are not NULL"},
    "a = b, b = a WHERE id = 1": {"a": "the sum of digests", "b": "the sum of digests"},
    "a = b, b = a WHERE id = 3": {"a": "values that are not NULL", "b": "values that are not NULL"},
}
"""What changes in the target, and what is to be said of which columns."""
MOVES = (
    "a = b, b = a WHERE id IN (6, 7)",  # between columns, and back again in another row
    "a = CASE id WHEN 3 THEN '' END WHERE id IN (3, 4)",  # NULL and ''
    "d = CASE id WHEN 6 THEN 'two' ELSE 'one' END WHERE id IN (6, 7)",
)


def damaged(rig: Rig, changes: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Each change, and the errors that are found while it stands."""
    rig.sql("CREATE TABLE kept AS TABLE t")
    for change in changes:
        rig.sql(f"UPDATE t SET {change}")
        ended = rig.migrate("verify", "--level", "aggregates", "--output", "json", code=3)
        yield change, [f["message"] for f in ended.json()["findings"] if f["severity"] == "error"]
        rig.sql("TRUNCATE t")
        rig.sql("INSERT INTO t TABLE kept")


def test_the_text_that_differs_is_named_and_no_other(loaded: Rig) -> None:
    for change, found in damaged(loaded, PLANTS):
        starts = [f"t: {column}: {said}" for column, said in PLANTS[change].items()]
        assert len(found) == len(starts), (change, found)
        assert all(map(str.startswith, found, starts)), (change, found)


def test_texts_that_stand_in_other_rows_are_found(loaded: Rig) -> None:
    for change, found in damaged(loaded, MOVES):
        [said] = found
        assert said.startswith("t: a, b, c, d: each column holds the source's texts, but not in the same rows"), change


def test_more_texts_than_one_digest_can_take(rig: Rig, source: Source) -> None:
    names = [f"t{n}" for n in range(120)]
    source.run(
        f"CREATE TABLE t (id int PRIMARY KEY, {', '.join(f'{n} varchar(9)' for n in names)})",
        f"INSERT INTO t VALUES (1, {', '.join(repr(n) for n in names)})",
    )
    project(rig, source, f"  t: {{from: s.t, key: id, columns: {{id: id, {', '.join(f'{n}: {n}' for n in names)}}}}}\n")
    rig.migrate("run")
    assert SAME in rig.migrate("verify", "--level", "aggregates").said
    rig.sql("UPDATE t SET t1 = 'T1', t119 = 'T119'")
    found = rig.migrate("verify", "--level", "aggregates", code=3).said
    assert "t: t1: the sum of digests" in found
    assert "t: t119: the sum of digests" in found


def test_texts_that_are_longer_together_than_a_packet_of_the_server(
    rig: Rig, mariadb: MariaDB, source_database: str
) -> None:
    """Of those the server makes NULL; each alone it can take."""
    source = Source(mariadb.url(source_database), mariadb, source_database)
    source.run(
        "CREATE TABLE t (id INT PRIMARY KEY, a LONGTEXT, b LONGTEXT, c VARCHAR(9), d VARCHAR(9))",
        "INSERT INTO t SELECT seq, REPEAT('x', 9000000), REPEAT('y', 9000000), 'c', 'd' FROM seq_1_to_2",
    )
    project(rig, source, "  t: {from: s.t, key: id, columns: {id: id, a: a, b: b, c: c, d: d}}\n")
    rig.migrate("run")
    assert SAME in rig.migrate("verify", "--level", "aggregates").said
    rig.sql("UPDATE t SET b = 'z' || substr(b, 2), d = 'D' WHERE id = 2")
    found = rig.migrate("verify", "--level", "aggregates", code=3).said
    assert "t: b: the sum of digests" in found
    assert "t: d: the sum of digests" in found
