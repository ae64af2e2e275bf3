"""An Oracle connection without a server: statements are answered from a script, rows are genuine frames of the driver's."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import oracledb
import pyarrow as pa
from oracledb.errors import _Error

from connectors.dburl import DatabaseUrl, parse
from connectors.oracle import Options, Oracle
from connectors.oracledriver import URL_OPTIONS
from connectors.relational import Tables

URL = "oracle://reader:geheim1@db.example:1521/LEGACY"
Answer = list[tuple[Any, ...]] | Exception | Callable[[str], Any]


def ora(code: int, said: str = "something is wrong") -> oracledb.DatabaseError:
    """The driver's exception for an error of the server's."""
    text = f"ORA-{code:05}: {said}\nHelp: https://docs.oracle.com/error-help/db/ora-{code:05}/"
    return oracledb.DatabaseError(_Error(message=text, code=code))


def dpy(code: int, said: str = "something is wrong") -> oracledb.DatabaseError:
    return oracledb.DatabaseError(_Error(message=f"DPY-{code:04}: {said}"))


class Script:
    """Answers by what a statement contains, the first that fits; `asked` is everything that was asked, in order."""

    def __init__(self, answers: Mapping[str, Answer], rows: pa.Table | None = None) -> None:
        self.answers = answers
        self.rows = rows
        self.asked: list[str] = []
        self.sizes: list[int] = []
        self.connections: list[Connection] = []
        self.fail_at: dict[int, Exception] = {}
        """Instead of the frame of this number."""

    def connect(self, url: DatabaseUrl) -> "Connection":
        self.connections.append(Connection(self))
        return self.connections[-1]

    def answer(self, sql: str) -> list[tuple[Any, ...]]:
        self.asked.append(sql)
        for part, answer in self.answers.items():
            if part in sql:
                answer = answer(sql) if callable(answer) else answer
                if isinstance(answer, Exception):
                    raise answer
                return answer
        if sql.startswith(("ALTER SESSION", "SET TRANSACTION", "SELECT 1 FROM DUAL")):
            return [(1,)]
        raise ora(942, "table or view does not exist")

    def source(self, url: str = URL, connections: int = 1, **options: Any) -> Tables:
        return Tables(self.engine(url, **options), connections)

    def engine(self, url: str = URL, **options: Any) -> Oracle:
        return Oracle(parse(url, URL_OPTIONS), Options(**options), self.connect)


class Connection:
    def __init__(self, script: Script) -> None:
        self.script = script
        self.pings = 0
        self.open_statements = 0
        self.closed = False

    def cursor(self) -> "Cursor":
        return Cursor(self.script)

    def fetch_df_batches(self, statement: str, *, size: int, requested_schema: pa.Schema) -> Iterator[Any]:
        script = self.script
        script.asked.append(statement)
        script.sizes.append(size)
        assert script.rows is not None
        chosen = re.findall(r't\."([^"]+)"[^"]*? c\d+', statement.partition(" FROM ")[0])
        rows = script.rows.select([name.lower() for name in chosen])
        rows = rows.rename_columns(requested_schema.names).cast(requested_schema)
        self.open_statements += 1
        try:
            for number, start in enumerate(range(0, max(1, rows.num_rows), size)):
                if number in script.fail_at:
                    raise script.fail_at.pop(number)
                yield oracledb.DataFrame._from_arrow(rows.slice(start, size).combine_chunks())
        finally:
            self.open_statements -= 1

    def ping(self) -> None:
        self.pings += 1

    def close(self) -> None:
        self.closed = True


class Cursor:
    def __init__(self, script: Script) -> None:
        self.script = script
        self.found: list[tuple[Any, ...]] = []

    def __enter__(self) -> "Cursor":
        return self

    def __exit__(self, *_: object) -> None: ...

    def execute(self, sql: str) -> None:
        self.found = self.script.answer(sql)

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self.found


Column = tuple[Any, ...]


def column(name: str, kind: str, **more: Any) -> Column:
    """A row of ALL_TAB_COLS as the connector asks for it."""
    return (
        name,
        kind,
        more.get("owner"),
        more.get("precision"),
        more.get("scale"),
        more.get("length", 0),
        "Y" if more.get("nullable", True) else "N",
        "YES" if more.get("virtual") else "NO",
        "YES" if more.get("hidden") else "NO",
        more.get("distinct"),
    )


def catalogue(
    columns: list[Column],
    *,
    kind: str = "heap",
    primary: tuple[str, ...] = (),
    indexes: Mapping[str, tuple[bool, tuple[str, ...]]] | None = None,
    rows: int = 0,
    row_bytes: int = 0,
    moves: bool = False,
    links: int = 0,
    scn: int | None = 4711,
    names: list[tuple[str, str]] | None = None,
) -> dict[str, Answer]:
    """Answers about one table, OWN.T. `indexes`: name → (unique, columns)."""
    found = [("OWN", "T")] if names is None else names

    def relations(sql: str) -> list[tuple[Any, ...]]:
        if sql.startswith("SELECT owner, name, kind FROM"):
            return [(owner, name, kind) for owner, name in sorted(found)]
        asked = [p.split("'")[1] for p in sql.split("UPPER(")[2:] if p.startswith("'")]
        wanted = asked[-1].upper()
        owner = asked[0].upper() if len(asked) > 1 else "OWN"
        state = "ENABLED" if moves else "DISABLED"
        return [
            (o, n, kind, state, rows or None, row_bytes or None)
            for o, n in sorted(found)
            if n.upper() == wanted and o.upper() == owner
        ]

    return {
        "CURRENT_SCHEMA": [("OWN",)],
        "all_all_tables": relations,
        "all_tab_cols": columns,
        "all_constraints": [(name,) for name in primary],
        "all_indexes": [
            ("OWN", name, "UNIQUE" if unique else "NONUNIQUE", part)
            for name, (unique, parts) in sorted((indexes or {}).items())
            for part in parts
        ],
        "all_dependencies": [(links,)],
        "open_mode": ora(942),
        "GET_SYSTEM_CHANGE_NUMBER": [(str(scn),)]
        if scn is not None
        else ora(904, '"DBMS_FLASHBACK": invalid identifier'),
    }
