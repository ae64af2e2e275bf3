"""A column that only PostgreSQL's own text input takes makes its table travel as text: all beside it still arrives."""

from e2e.rig import Rig

PROJECT = """\
migration: m
target: ${env:TARGET_URL}
sources:
  s: {files: {t: t.csv}, encoding: utf-8, delimiter: semicolon}
tables:
  t:
    from: s.t
    key: id
    columns:
      id: id
      price: price
      raw: unhex(raw)
      guid: CAST(guid AS UUID)
      tags: split(tags, '|')
      days: "CASE WHEN days IS NOT NULL THEN list_transform(split(days, '|'), lambda d: CAST(d AS DATE)) END"
      moments: >-
        CASE WHEN days IS NOT NULL
        THEN list_transform(split(days, '|'), lambda d: CAST(d || ' 10:00:00+02' AS TIMESTAMPTZ)) END
      said: said
      seen: CAST(seen AS TIMESTAMP)
      extra: extra
      code: code
"""
DDL = """
CREATE TABLE t (id int PRIMARY KEY, price money, raw bytea, guid uuid, tags text[], days date[], moments timestamptz[], said text,
                seen timestamp, extra jsonb, code char(3))
"""
ROWS = """\
id;price;raw;guid;tags;days;said;seen;extra;code
1;12.50;00ff5c;6ba7b810-9dad-11d1-80b4-00c04fd430c8;a "b"|c\\d|é,{};2020-01-01|0044-03-15;back\\slash, comma;\
2020-01-01 10:00:00.123456;"{""a"": [1, ""x""]}";a
2;;;;;;"";;;
3;-0.01;;;NULL|;1999-12-31;"line
break ""quoted"" \\N";1969-12-31 23:59:59;null;abc
"""


def test_every_type_beside_it_arrives(rig: Rig) -> None:
    rig.write("migrate.yaml", PROJECT)
    rig.write("t.csv", ROWS)
    rig.sql(DDL)
    rig.migrate("run")
    assert rig.fates("t") == (3, 3, 0, 0, 0)
    first, second, third = rig.sql(
        "SELECT price::numeric::text, encode(raw, 'hex'), guid::text, tags, days::text, said, seen::text, extra::text, code, "
        "array_to_json(moments)::text FROM t ORDER BY id"
    )
    assert first == (
        "12.50",
        "00ff5c",
        "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        ['a "b"', "c\\d", "é,{}"],
        "{2020-01-01,0044-03-15}",
        "back\\slash, comma",
        "2020-01-01 10:00:00.123456",
        '{"a": [1, "x"]}',
        "a  ",
        '["2020-01-01T08:00:00+00:00","0044-03-15T08:00:00+00:00"]',
    )
    assert second == (None, None, None, None, None, "", None, None, None, None)
    assert third[0] == "-0.01"
    assert third[3] == ["NULL", ""]
    assert third[5] == 'line\nbreak "quoted" \\N'
    assert (third[6], third[7], third[8]) == ("1969-12-31 23:59:59", "null", "abc")
    assert "equal" in rig.migrate("verify").out
    rig.sql("UPDATE t SET moments[1] = 'infinity' WHERE id = 1")
    assert "moments" in rig.migrate("verify", code=3).out
