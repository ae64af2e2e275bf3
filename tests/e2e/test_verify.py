"""`migrate verify` finds every planted difference by key and column, and cries wolf over none."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import Postgres

from e2e.rig import Rig
from validators.rows import LIMIT

PROJECT = """\
migration: proof
target: ${env:TARGET_URL}
timezone: Europe/Berlin
defaults: {max_rejects: 10%}
sources:
  crm: {files: {things: things.csv, log: log.csv}, encoding: utf-8, delimiter: comma, nulls: ["NULL"]}
tables:
  things:
    from: crm.things
    key: id
    columns:
      id: id
      label: label
      code: code
      amount: amount
      rate: rate
      small: small
      big: big
      day: day
      seen: seen
      moment: moment
      clock: clock
      active: parse_bool(active)
      level: level
      tags: split(tags, '|')
      extra: extra
      raw: encode(raw)
      guid: uuid(id)
    personal: [code]
  log:
    from: crm.log
    columns: {line: line, said: said}
"""

TABLES = """
CREATE TYPE level AS ENUM ('low', 'high');
CREATE TABLE things (
    id bigint PRIMARY KEY, label text, code varchar(20), amount numeric(12, 4), rate double precision, small smallint,
    big bigint, day date, seen timestamp, moment timestamptz, clock time, active boolean, level level, tags text[],
    extra jsonb, raw bytea, guid uuid
);
CREATE TABLE log (line int, said text);
"""

ROWS = 3000
LINES = 500


@pytest.fixture(scope="module")
def rig(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A loaded migration that the tests damage and mend, in one database for all of them."""
    rig = Rig(tmp_path_factory.mktemp("proof"), postgres.create("e2e_proof"))
    lines = ["id,label,code,amount,rate,small,big,day,seen,moment,clock,active,level,tags,extra,raw"]
    for n in range(1, ROWS + 1):
        label = "NULL" if n % 17 == 0 else "" if n % 13 == 0 else f"Label {n} é"
        day = f"{1900 + n % 120}-{n % 12 + 1:02}-{n % 28 + 1:02}"
        stamp = f"{day} {n % 24:02}:{n % 60:02}:{n % 60:02}.{n % 1000000:06}"
        lines.append(
            f"{n},{label},C{n},{n % 1000}.{n % 10000:04},{n / 7!r},{n % 30000 - 15000},{n * 10**14},{day},{stamp},"
            f"{stamp[:10]} 12:00:00,{stamp[11:]},{'yes' if n % 2 else 'no'},{'low' if n % 3 else 'high'},a|b{n},"
            f'"{{""n"": {n}}}",raw{n}' + (",more" if n % 100 == 50 else "")
        )
    rig.write("things.csv", "\n".join(lines) + "\n")
    rig.write("log.csv", "line,said\n" + "".join(f"{n},line {n}\n" for n in range(1, LINES + 1)))
    rig.write("migrate.yaml", PROJECT)
    rig.sql(TABLES)
    rig.migrate("run", "--batch-rows", "400")
    rig.migrate("verify")
    rig.sql("CREATE TABLE kept AS TABLE things")
    yield rig
    postgres.drop("e2e_proof")


def differences(rig: Rig, damage: str) -> set[tuple[str, str | None, str]]:
    """(check, key, column) of every finding after an SQL statement has damaged the target; the damage is mended."""
    rig.sql(damage)
    ended = rig.try_("verify", "--output", "json")
    assert "Traceback" not in ended.said
    rig.sql("TRUNCATE things; INSERT INTO things TABLE kept")
    findings = ended.json()["findings"]
    errors = [f for f in findings if f["severity"] == "error"]
    assert ended.code == (3 if errors else 0)
    assert all(f["expected"] != f["actual"] or f["expected"] == "(personal)" for f in errors)
    return {(f["check"], f["key"], _column(f["message"])) for f in errors}


def _column(message: str) -> str:
    """The column that a message of differing rows names: `table: key: column should be …`."""
    return message.partition(" should be ")[0].rpartition(": ")[2] if " should be " in message else ""


CHANGES = {
    "label": "label || ' '",
    "code": "lower(code)",
    "amount": "amount + 0.0001",
    "rate": "rate + 1e-12",
    "small": "small + 1",
    "big": "big + 1",
    "day": "day + 1",
    "seen": "seen + interval '1 microsecond'",
    "moment": "moment + interval '1 microsecond'",
    "clock": "clock + interval '1 microsecond'",
    "active": "NOT active",
    "level": "CASE level WHEN 'low' THEN 'high' ELSE 'low' END::level",
    "tags": "array_reverse(tags)",
    "extra": "extra || '{\"m\": 1}'",
    "raw": r"raw || '\x00'",
    "guid": "gen_random_uuid()",
}


def test_an_update_of_each_type_is_found_by_key_and_column(rig: Rig) -> None:
    """One update of each column, each in a row of its own; no other row or column is blamed."""
    damage = ";".join(f"UPDATE things SET {c} = {to} WHERE id = {100 + n}" for n, (c, to) in enumerate(CHANGES.items()))
    found = differences(rig, damage)
    assert found == {("rows.differ", f"id={100 + n}", column) for n, column in enumerate(CHANGES)}


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("UPDATE things SET label = '' WHERE id = 17", {("rows.differ", "id=17", "label")}),
        ("UPDATE things SET label = NULL WHERE id = 13", {("rows.differ", "id=13", "label")}),
        ("UPDATE things SET label = upper(label) WHERE id = 1", {("rows.differ", "id=1", "label")}),
        ("UPDATE things SET label = replace(label, 'é', 'e' || U&'\\0301') WHERE id = 1", {("rows.differ", "id=1", "label")}),
        (
            "UPDATE things t SET (big, label) = (SELECT big, label FROM kept k WHERE k.id = 2003 - t.id) "
            "WHERE id IN (1001, 1002)",
            {("rows.differ", f"id={i}", c) for i in (1001, 1002) for c in ("big", "label")},
        ),
        (
            "UPDATE things SET id = id + 1000000 WHERE id = 7",
            {("rows.missing", "id=7", ""), ("rows.extra", "id=1000007", "")},
        ),
        (
            "DELETE FROM things WHERE id IN (5, 6)",
            {("counts.target", None, ""), ("rows.missing", "id=5", ""), ("rows.missing", "id=6", "")},
        ),
        ("INSERT INTO things (id) VALUES (-1)", {("counts.target", None, ""), ("rows.extra", "id=-1", "")}),
        (
            "DELETE FROM things WHERE id = 5; INSERT INTO things (id) VALUES (-1)",
            {("rows.missing", "id=5", ""), ("rows.extra", "id=-1", "")},
        ),
        ("UPDATE things SET label = label", set()),
        ("SET timezone = 'Asia/Tokyo'; UPDATE things SET moment = moment", set()),
    ],
    ids=[
        "NULL to empty", "empty to NULL", "case", "composed and not", "two rows swap values", "another key", "delete",
        "insert", "delete and insert", "nothing", "nothing, rewritten",
    ],
)  # fmt: skip
def test_each_kind_of_difference_is_found_by_key_and_column(
    rig: Rig, damage: str, expected: set[tuple[str, str | None, str]]
) -> None:
    assert differences(rig, damage) == expected


def test_a_table_without_a_key_is_compared_too(rig: Rig) -> None:
    rig.sql("UPDATE log SET said = 'changed' WHERE line = 3")
    findings = rig.migrate("verify", "-s", "log", "--output", "json", code=3).json()["findings"]
    assert {(f["check"], "line=3" in f["key"]) for f in findings} == {("rows.missing", True), ("rows.extra", True)}
    rig.sql("UPDATE log SET said = 'line 3' WHERE line = 3; UPDATE log SET line = 4 WHERE line = 5")
    assert len(rig.migrate("verify", "-s", "log", "--output", "json", code=3).json()["findings"]) == 2
    rig.sql("UPDATE log SET line = 5 WHERE said = 'line 5'")
    rig.migrate("verify", "-s", "log")


def test_values_of_personal_columns_are_not_shown(rig: Rig) -> None:
    rig.sql("UPDATE things SET code = 'spy' WHERE id = 100")
    ended = rig.migrate("verify", code=3)
    rig.sql("UPDATE things SET code = 'C100' WHERE id = 100")
    assert "id=100" in ended.out
    assert "C100" not in ended.said
    assert "spy" not in ended.said
    assert not rig.sql("SELECT 1 FROM migrate_ledger.finding f WHERE f::text LIKE '%spy%'")
    rig.migrate("verify")


def test_counts_alone_find_a_lost_row(rig: Rig) -> None:
    rig.sql("DELETE FROM things WHERE id = 9")
    ended = rig.migrate("verify", "--level", "counts", "--output", "json", code=3)
    rig.sql("INSERT INTO things SELECT * FROM kept WHERE id = 9")
    (finding,) = ended.json()["findings"]
    loaded = ROWS - ROWS // 100
    assert (finding["check"], finding["expected"], finding["actual"]) == ("counts.target", str(loaded), str(loaded - 1))
    status = rig.migrate("status").out
    assert "differences" in status or "difference" in status
    rig.migrate("verify", "--level", "counts")


@pytest.mark.parametrize(
    ("tampering", "check"),
    [
        ("UPDATE migrate_ledger.entry SET read = read + 1, loaded = loaded + 1 WHERE chunk = 2", "counts.source"),
        ("UPDATE migrate_ledger.entry SET loaded = loaded + 1, rejected = rejected - 1 WHERE chunk = 2", "counts.quarantine"),
        ("DELETE FROM migrate_ledger.reject WHERE ctid = (SELECT min(ctid) FROM migrate_ledger.reject)", "counts.quarantine"),
        ("DELETE FROM migrate_ledger.entry WHERE chunk = 2", "counts.source"),
        ("DELETE FROM migrate_ledger.partition WHERE chunk = 2", "counts.ledger"),
        ("UPDATE migrate_ledger.entry SET sums = (SELECT sums FROM migrate_ledger.entry e WHERE chunk = 1 AND e.name = 'things') "
         "WHERE chunk = 2", "rows.sums"),
    ],
    ids=["an entry counts more", "a reject called loaded", "a reject is gone", "an entry is gone", "a part of the plan is gone",
         "other sums"],
)  # fmt: skip
def test_tampering_with_the_ledger_is_found(rig: Rig, tampering: str, check: str) -> None:
    rig.sql("CREATE SCHEMA safe")
    for table in ("entry", "reject", "partition"):
        rig.sql(f"CREATE TABLE safe.{table} AS TABLE migrate_ledger.{table}")
    rig.sql(tampering)
    ended = rig.try_("verify", "-s", "things", "--output", "json")
    for table in ("reject", "entry", "partition"):
        rig.sql(
            f"DELETE FROM migrate_ledger.{table}; INSERT INTO migrate_ledger.{table} OVERRIDING SYSTEM VALUE TABLE safe.{table}"
        )
    rig.sql("DROP SCHEMA safe CASCADE")
    assert ended.code == 3, ended.said
    assert check in {f["check"] for f in ended.json()["findings"]}
    rig.migrate("verify", "-s", "things")


def test_a_source_that_has_changed_since_cannot_prove_anything(rig: Rig) -> None:
    things = rig.folder / "things.csv"
    kept = things.read_bytes()
    things.write_bytes(kept.replace(b"Label 1 ", b"Label X "))
    said = rig.migrate("verify", code=6).err
    things.write_bytes(kept)
    assert "things.csv has changed" in said
    rig.migrate("verify")


SMALL = """\
migration: small
target: ${env:TARGET_URL}
defaults: {max_rejects: 99%}
sources:
  s: {files: {t: t.csv}, encoding: utf-8, delimiter: comma}
tables:
  t:
    from: s.t
    columns: {COLUMNS}
"""


def loaded(rig: Rig, columns: str, table: str, lines: str, *, more: str = "") -> None:
    """Load one table of a few rows. `columns` are the mapping's, `table` those of the target."""
    rig.write("t.csv", lines)
    rig.write("migrate.yaml", SMALL.replace("COLUMNS", columns) + more)
    rig.sql(f"CREATE TABLE t ({table})")
    rig.migrate("run")


@pytest.fixture
def small(target_url: str, tmp_path: Path) -> Rig:
    return Rig(tmp_path, target_url)


def found(rig: Rig) -> list[str]:
    """The messages of the errors that verify finds, without the table's name."""
    ended = rig.try_("verify", "--output", "json")
    errors = [f["message"].removeprefix("t: ") for f in ended.json()["findings"] if f["severity"] == "error"]
    assert ended.code == (3 if errors else 0), ended.said
    return errors


def test_one_reject_that_replays_as_two_rows_is_not_a_difference(small: Rig) -> None:
    """The source still has one row there; it is the ledger's equation that counts two."""
    loaded(small, "id: id, v: v", "id int PRIMARY KEY, v text", 'id,v\n1,a\n3,c\n4,"d\ne"x\n5,f\n6,g\n')
    small.write("fix.csv", "id,v\n1,a\n3,c\n4,d\n44,e\n5,f\n6,g\n")
    small.migrate("rejects", "replay", "--from", "fix.csv")
    assert small.value("SELECT count(*) FROM t") == 6
    assert found(small) == []


def test_dates_that_python_has_no_word_for_are_loaded_and_verified(small: Rig) -> None:
    lines = "id,d,t\n1,12345-01-01,12345-01-01 10:00:00\n2,0044-03-15 (BC),0044-03-15 (BC) 10:00:00\n3,2020-01-01,2020-01-01\n"
    loaded(small, "id: id, d: d, t: t", "id int PRIMARY KEY, d date, t timestamp", lines)
    assert found(small) == []
    small.sql("UPDATE t SET d = '0044-03-16 BC', t = t + interval '1 day' WHERE id < 3")
    assert set(found(small)) == {
        "id=1: d should be 12345-01-01 and is 0044-03-16 BC",
        "id=1: t should be 12345-01-01 10:00:00 and is 12345-01-02 10:00:00",
        "id=2: d should be 0044-03-15 BC and is 0044-03-16 BC",
        "id=2: t should be 0044-03-15 10:00:00 BC and is 0044-03-16 10:00:00 BC",
    }


def test_every_value_that_the_target_may_hold_is_a_difference_and_no_crash(small: Rig) -> None:
    columns = "id: id, d: d, t: t, z: CAST(z AS TIMESTAMPTZ), c: c, n: n, f: f, a: \"split(a, '|')\""
    table = "id int PRIMARY KEY, d date, t timestamp, z timestamptz, c time, n numeric(10,2), f float8, a text[]"
    loaded(small, columns, table, "id,d,t,z,c,n,f,a\n1,2020-01-01,2020-01-01,2020-01-01 00:00Z,10:00,1,1,a|b\n")
    small.sql(
        "UPDATE t SET d = 'infinity', t = '-infinity', z = '294276-12-31 23:59:59+00', c = '24:00', n = 'NaN', f = 'NaN', "
        "a = '{{a},{b}}'"
    )
    assert found(small) == [
        "id=1: d should be 2020-01-01 and is infinity",
        "id=1: t should be 2020-01-01 00:00:00 and is -infinity",
        "id=1: z should be 2020-01-01 00:00:00+00 and is 294276-12-31 23:59:59+00",
        "id=1: c should be 10:00:00 and is 24:00:00",
        "id=1: n should be 1.00 and is NaN",
        "id=1: f should be 1.0 and is nan",
        'id=1: a should be ["a","b"] and is {{a},{b}}',
    ]


def test_tables_that_travel_as_text_keep_their_dates(small: Rig) -> None:
    """A numeric without precision makes a table travel as CSV, where years before 1 are written as PostgreSQL reads them."""
    small.sql(f"ALTER DATABASE {small.value('SELECT current_database()')} SET timezone = 'Asia/Tokyo'")
    columns = "id: id, u: u, d: d, t: t, w: CAST(w AS TIMESTAMPTZ), c: c"
    table = "id int PRIMARY KEY, u numeric, d date, t timestamp, w timestamptz, c time"
    lines = (
        "id,u,d,t,w,c\n1,1.5,0044-03-15 (BC),0044-03-15 (BC) 01:02:03,2020-01-01 00:00+00,24:00\n2,1,12345-01-01,,,\n"
    )
    loaded(small, columns, table, lines)
    small.sql("SET timezone = 'UTC'")
    assert small.sql("SELECT id, d::text, t::text, (w AT TIME ZONE 'UTC')::text, c::text FROM t ORDER BY id") == [
        (1, "0044-03-15 BC", "0044-03-15 01:02:03 BC", "2020-01-01 00:00:00", "24:00:00"),
        (2, "12345-01-01", None, None, None),
    ]
    assert found(small) == []


def test_arrays_that_differ_only_in_their_nulls_and_bounds_are_found(small: Rig) -> None:
    columns = "id: id, a: \"split(a, '|')\", b: \"split(b, '|')\""
    loaded(small, columns, "id int PRIMARY KEY, a text[], b text[]", "id,a,b\n1,x,y|z\n2,,\n3,x,y\n")
    small.sql("UPDATE t SET a = '{x,y}', b = '{z}' WHERE id = 1; UPDATE t SET a = '{}' WHERE id = 2")
    assert {message.partition(" should")[0] for message in found(small)} == {"id=1: a", "id=1: b", "id=2: a"}


def test_only_what_differs_is_named_beside_replayed_rows(small: Rig) -> None:
    """A replayed row is there by right; JSON differs by value only; what is not compared is not blamed."""
    lines = 'id,v,j,i\n1,a,"{""a"":1}",90 minutes\n2,,"{}",1 day\n3,,"{}",1 day\n4,d,"[1]",\n'
    table = "id int PRIMARY KEY, v text NOT NULL, j jsonb, i interval"
    loaded(small, "id: id, v: v, j: j, i: i", table, lines, more="    key: id\n")
    small.write("fix.csv", 'id,v,j,i\n2,zz,"{}",1 day\n3,yy,"{}",1 day\n')
    small.migrate("rejects", "replay", "--from", "fix.csv")
    assert found(small) == []
    # Every bucket that may hold one of the replayed rows is looked into.
    small.sql(
        "UPDATE t SET v = 'changed' WHERE id = 1; INSERT INTO t SELECT n, 'more' FROM generate_series(10, 4000) n"
    )
    messages = found(small)
    assert [m for m in messages if "changed" in m] == ["id=1: v should be 'a' and is 'changed'"]
    named = {m.rpartition("id=")[2] for m in messages if "one of the" in m or "was not loaded" in m}
    assert named == {str(n) for n in range(10, 4001)}
    small.sql("DELETE FROM t WHERE id >= 10; UPDATE t SET v = 'a' WHERE id = 1; UPDATE t SET v = 'other' WHERE id = 2")
    messages = found(small)
    assert len(messages) == 2
    assert "loaded are not in the target as it loaded them" in messages[0]
    assert messages[1] == "a row of the target is not the source's; it may be one of the 1 replayed here: id=2"


def test_rows_that_came_after_a_verification_are_not_proved_by_it(small: Rig) -> None:
    loaded(small, "id: id, v: v", "id int PRIMARY KEY, v text NOT NULL", "id,v\n1,a\n2,\n", more="    key: id\n")
    small.migrate("verify")
    assert "Proved: source and target are equal row by row." in small.migrate("report").out
    small.write("fix.csv", "id,v\n2,b\n")
    small.migrate("rejects", "replay", "--from", "fix.csv")
    said = small.migrate("report").out
    assert "Not proved yet: t: not compared row by row since the load." in said
    small.migrate("verify")
    assert "Proved: source and target are equal row by row" in small.migrate("report").out
    # The row is lost: live or not, what a replay loaded cannot be looked at again in the source.
    small.sql("DELETE FROM t WHERE id = 2; UPDATE t SET v = 'x' WHERE id = 1")
    lost = "1 rows that `migrate rejects replay` loaded are not in the target as it loaded them"
    assert lost in small.migrate("verify", "--live", "1", code=3).out
    assert lost in small.migrate("verify", code=3).out


def test_rows_among_others_are_found_by_a_key_without_nulls_only(small: Rig) -> None:
    """Where a unique key may be NULL, its NULL rows cannot be told apart: said, not reported as missing."""
    small.sql("CREATE TABLE t (id serial PRIMARY KEY, email text UNIQUE, v text); INSERT INTO t (email) VALUES ('old')")
    small.write("t.csv", "email,v\na@x,1\n,2\n,3\n")
    small.write("migrate.yaml", SMALL.replace("COLUMNS", "email: email, v: v"))
    small.migrate("run")
    assert "unique one that is NOT NULL" in small.migrate("verify", code=4).err
    small.migrate("verify", "--level", "counts")


def test_an_emptied_table_is_told_within_bounded_memory(small: Rig) -> None:
    rows = 200_000
    lines = "".join(f"{i},name {i},street {i},2020-01-01\n" for i in range(rows))
    loaded(small, "id: id, a: a, b: b, c: c", "id int PRIMARY KEY, a text, b text, c date", f"id,a,b,c\n{lines}")
    small.sql("TRUNCATE t")
    peak = (
        # not ru_maxrss: it counts the process that started this one
        "import re, sys\nfrom pathlib import Path\nfrom migrate import cli\n"
        "try: cli.main(['verify'])\n"
        "finally: print(int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) >> 10, file=sys.stderr)"
    )
    ended = small.try_(command=(sys.executable, "-c", peak))
    assert ended.code == 3, ended.err
    missing = small.value("SELECT count(*) FROM migrate_ledger.finding WHERE \"check\" = 'rows.missing'")
    assert missing == LIMIT
    assert "besides these 100,000 differences 100,000 more rows differ, in buckets " in ended.out
    assert int(ended.err.split()[-1]) < 320, "MB"


def test_a_wide_row_without_a_key_does_not_fill_the_terminal(small: Rig) -> None:
    names = [f"column_{n}" for n in range(300)]
    small.sql(f"CREATE TABLE t ({', '.join(f'{n} text' for n in names)})")
    small.write("t.csv", f"{','.join(names)}\n{','.join(names)}\n")
    small.write("migrate.yaml", SMALL.replace("COLUMNS", ", ".join(f"{n}: {n}" for n in names)))
    small.migrate("run")
    small.sql("UPDATE t SET column_7 = 'changed'")
    ended = small.migrate("verify", code=3)
    assert max(map(len, ended.out.splitlines())) < 500
    assert "column_299" in small.migrate("report", "--format", "json", code=3).out
