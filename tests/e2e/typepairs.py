"""Pairs of source and target types with values, and the smallest changes of each target type, to plant differences with."""

from dataclasses import dataclass

TEXTS = ["Straße é", "a", "", " lead", "trail ", "Ünï", "x" * 60, "0", "null", "日本語 🎉"]


@dataclass(frozen=True)
class Kind:
    """A target type: as it is written in SQL, what fills it, and SQL of changed values of the column `{c}`."""

    sql: str
    values: tuple[str, ...]
    changes: tuple[str, ...]


_COUNT = ("{c} + 1", "{c} - 1", "-{c} - 7")
_TEXT = (
    "{c} || ' '",
    "' ' || {c}",
    "upper({c}) || 'Q'",
    "normalize({c} || U&'\\00e9', NFD)",
    "{c} || chr(160)",
    "{c} || U&'\\200b'",
    "'' || left({c}, 0) || 'other'",
)
_MOMENT = (
    "{c} + interval '1 microsecond'",
    "{c} - interval '1 second'",
    "{c} + interval '1 hour'",
    "{c} + interval '1 day'",
)

TARGETS = {
    "smallint": Kind("smallint", ("0", "-32767", "32000", "7"), _COUNT[:2]),
    "integer": Kind("integer", ("0", "-2147483647", "2147483000", "12"), _COUNT[:2]),
    "bigint": Kind("bigint", ("0", "9007199254740993", "-9223372036854775000", "5"), _COUNT[:2]),
    "numeric(12,4)": Kind(
        "numeric(12,4)", ("0.0000", "-12345678.1234", "0.0001", "99999999.9998"), ("{c} + 0.0001", "-{c} - 1")
    ),
    "numeric(38,10)": Kind(
        "numeric(38,10)", ("1.0000000001", "-9999999999999999999999999.5", "0.5"), ("{c} + 0.0000000001",)
    ),
    "numeric": Kind(
        "numeric", ("1.5", "-0.000000000000000001", "123456789012345678901234567890.5"), ("{c} + 1e-20", "{c} * 2 + 1")
    ),
    "real": Kind("real", ("0.1", "-3.4e38", "1e-30", "16777216"), ("{c} * 1.0000002 + 1e-30",)),
    "double precision": Kind(
        "double precision", ("0.1", "-1.7e308", "1e-300", "0.30000000000000004"), ("{c} * 1.000000000000001 + 1e-12",)
    ),
    "boolean": Kind("boolean", ("true", "false"), ("NOT {c}",)),
    "text": Kind("text", tuple(TEXTS), _TEXT),
    "varchar(80)": Kind("varchar(80)", tuple(TEXTS), _TEXT[:4]),
    "char(12)": Kind("char(12)", ("a", "Abc def", "éé", "x" * 12), ("'z' || left({c}, 11)", "upper({c}::text || 'q')")),
    "date": Kind("date", ("1970-01-01", "0001-01-01", "2024-02-29", "9999-12-31"), ("{c} - 1",)),
    "timestamp": Kind(
        "timestamp", ("1970-01-01 00:00:00.000001", "1900-01-01 23:59:59.999999", "2020-10-25 02:30:00"), _MOMENT
    ),
    "timestamptz": Kind(
        "timestamptz", ("1970-01-01 00:00:00.000001+00", "1900-06-01 12:00:00+00", "2020-10-25 01:30:00+00"), _MOMENT
    ),
    "time": Kind("time", ("00:00:00.000001", "23:59:59.999998", "12:30:00"), ("{c} + interval '1 microsecond'",)),
    "bytea": Kind("bytea", (r"\x00", r"\xdeadbeef", r"\x20"), (r"{c} || '\x00'", r"'\x01' || {c}")),
    "uuid": Kind(
        "uuid", ("6ba7b810-9dad-11d1-80b4-00c04fd430c8", "00000000-0000-0000-0000-000000000001"), ("gen_random_uuid()",)
    ),
    "jsonb": Kind(
        "jsonb",
        ('{"a": 1, "b": [1, 2.5, null]}', '"x"', "[]", '{"é": {"z": "y"}}'),
        ("jsonb_build_array({c}, 1)", "to_jsonb(1)"),
    ),
    "mood": Kind("mood", ("sad", "ok", "very glad"), ("CASE {c} WHEN 'ok' THEN 'sad' ELSE 'ok' END::mood",)),
    "text[]": Kind(
        "text[]",
        ('{a,"b c"}', "{}", '{NULL,""}'),
        ("{c} || NULL::text", "{c} || 'x'::text", "'{{{{a,b}},{{c,d}}}}'::text[]"),
    ),
    "integer[]": Kind("integer[]", ("{1,2}", "{}", "{NULL,0}"), ("{c} || 0", "{c} || NULL::int")),
}
"""The target types, by the names they have here."""

TYPED = {
    "smallint": ("smallint", "integer", "bigint", "numeric(12,4)", "numeric", "double precision", "text"),
    "integer": ("integer", "bigint", "numeric(38,10)", "numeric", "double precision", "varchar(80)"),
    "bigint": ("bigint", "numeric", "text"),
    "numeric(12,4)": ("numeric(12,4)", "numeric(38,10)", "numeric", "text"),
    "numeric": ("numeric", "text"),
    "real": ("real", "double precision"),
    "double precision": ("double precision",),
    "boolean": ("boolean", "text"),
    "text": ("text", "varchar(80)"),
    "varchar(80)": ("varchar(80)", "text"),
    "char(12)": ("char(12)", "text"),
    "date": ("date", "timestamp", "text"),
    "timestamp": ("timestamp", "text"),
    "timestamptz": ("timestamptz",),
    "time": ("time", "text"),
    "bytea": ("bytea",),
    "uuid": ("uuid", "text"),
    "jsonb": ("jsonb",),
    "mood": ("mood", "text"),
}
"""The target types that values of a source's type are taken into as they stand."""

PAIRS = [("text", target) for target in TARGETS] + [
    (source, target)
    for source, targets in TYPED.items()
    for target in targets
    if source != "text" or target not in TARGETS
]
"""(source, target); from "text", the target's own spellings are read."""


SPELLED = {
    "bytea": (("00", "deadbeef", "20"), "unhex({c})"),
    "text[]": (("a|b c", "x", "|"), "split({c}, '|')"),
    "integer[]": (("1,2", "0", "-5,7"), "CAST(split({c}, ',') AS INTEGER[])"),
}
"""What a text says where it is not spelled as PostgreSQL does, and the mapping that reads it."""


def values(source: str, target: str) -> tuple[str, ...]:
    """What fills a column of the source so that the target takes it."""
    if source == "text":
        return SPELLED[target][0] if target in SPELLED else TARGETS[target].values
    return TARGETS[source].values


def mapping(source: str, target: str, column: str) -> str:
    """The expression that takes a column over."""
    return SPELLED[target][1].format(c=column) if source == "text" and target in SPELLED else column
