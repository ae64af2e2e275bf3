"""Values: what the rows of a source are expected to be, held against them batch by batch by DuckDB, in bounded memory."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from migrate.core import Finding, Severity
from migrate.errors import MigrateError

SAMPLES = 5
"""Rows of an expectation that its finding shows."""

_MEMORY = "512MB"
_EXACT = "DECIMAL(38, 9)"

Place = tuple[int, int]
"""A row: the number of its partition, and its own within it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is expected of columns: not_null, unique, accepted_values, between, regex or length, with its arguments."""

    label: str
    kind: str
    columns: tuple[str, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    severity: Severity = "error"


@dataclass(slots=True)
class Seen:
    """How many rows are not as expected, and the first of them."""

    count: int = 0
    samples: list[Place] = field(default_factory=list)


class Held:
    """Use: `add` all batches in the order of their rows, then `seen`, then `close`.

    Raises ValueError at once for a regular expression that is none, and MigrateError where memory or room is used up.
    """

    def __init__(self, wanted: Sequence[Wanted]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="migrate-expect-")
        self._db = duckdb.connect(config={"memory_limit": _MEMORY, "temp_directory": self._folder.name})
        self._of_each = [(w, Seen(), *_condition(w)) for w in wanted if w.kind != "unique"]
        self._unique = [w for w in wanted if w.kind == "unique"]
        try:
            for w, _, _, given in self._of_each:
                if w.kind == "regex":
                    self._db.execute("SELECT regexp_matches('', ?)", given).fetchall()
        except duckdb.Error as error:
            self.close()
            raise ValueError(f"{w.label}: {str(error).partition(chr(10))[0]}") from None
        for i, _ in enumerate(self._unique):
            self._db.execute(f"CREATE TABLE keys{i} (part INTEGER, ordinal BIGINT, hash UHUGEINT)")

    def close(self) -> None:
        self._db.close()
        self._folder.cleanup()

    def add(self, part: int, rows: pa.RecordBatch, ordinals: npt.NDArray[np.int64]) -> None:
        """Look at some rows of a partition."""
        numbered = rows.append_column("·at", pa.array(ordinals))
        self._db.register("numbered", numbered)
        try:
            for i, w in enumerate(self._unique):
                parts = [f"CAST({_quoted(c)} AS VARCHAR)" for c in w.columns]
                spelled = " || ".join(f"length({text}) || ':' || {text}" for text in parts)
                self._db.execute(
                    f'INSERT INTO keys{i} SELECT {part}, "·at", md5_number({spelled}) FROM numbered '
                    f"WHERE {' AND '.join(f'{_quoted(c)} IS NOT NULL' for c in w.columns)}"
                )
            if self._of_each:
                bad = ", ".join(f"NOT coalesce({sql}, false)" for _, _, sql, _ in self._of_each)
                given = [value for *_, values in self._of_each for value in values]
                found = self._db.execute(f"SELECT {bad} FROM numbered", given).fetchnumpy()
                for (_, seen, *_), mask in zip(self._of_each, found.values(), strict=True):
                    at = np.flatnonzero(mask)
                    seen.count += len(at)
                    seen.samples += [(part, int(ordinals[k])) for k in at[: SAMPLES - len(seen.samples)]]
        except duckdb.OutOfMemoryException as error:
            raise _no_room(error) from error
        finally:
            self._db.unregister("numbered")

    def seen(self) -> list[tuple[Wanted, Seen]]:
        """What was found, of those of which anything was."""
        found = [(w, seen) for w, seen, *_ in self._of_each]
        try:
            for i, w in enumerate(self._unique):
                of = f"FROM keys{i} WHERE hash IN (SELECT hash FROM keys{i} GROUP BY hash HAVING count(*) > 1)"
                count = self._db.execute(f"SELECT count(*) {of}").fetchall()[0][0]
                first = self._db.execute(f"SELECT part, ordinal {of} ORDER BY ALL LIMIT {SAMPLES}").fetchall()
                found.append((w, Seen(count, first)))
        except duckdb.OutOfMemoryException as error:
            raise _no_room(error) from error
        return [(w, seen) for w, seen in found if seen.count]


def finding(table: str, wanted: Wanted, words: str, seen: Seen, samples: Sequence[str]) -> Finding:
    """What is said of an expectation that is not met; `samples` are some rows: where, and what stands there."""
    many = f"{seen.count:,} rows are" if seen.count != 1 else "1 row is"
    more = ", …" if seen.count > len(samples) else ""
    message = f"{wanted.label}: {many} not as expected ({words}): {', '.join(samples)}{more}"
    check = f"expect.{wanted.label}"
    return Finding(check, wanted.severity, table, message, None, words, str(seen.count))


def _condition(wanted: Wanted) -> tuple[str, list[Any]]:
    """SQL that is true where a row is as expected, and its parameters. NULL is as expected, but for not_null."""
    column, given = _quoted(wanted.columns[0]), wanted.arguments
    if wanted.kind == "not_null":
        return f"{column} IS NOT NULL", []
    text = f"CAST({column} AS VARCHAR)"
    if wanted.kind == "accepted_values":
        values = list(given["values"])
        return f"({column} IS NULL OR {text} IN ({', '.join('?' * len(values))}))", values
    if wanted.kind == "regex":
        return f"({column} IS NULL OR regexp_matches({text}, ?))", [given["regex"]]
    least, most = given["least"], given["most"]
    value, sort = f"length({text})", "BIGINT"
    if wanted.kind == "between":
        sort = "DATE" if isinstance(most if least is None else least, date) else _EXACT
        value = f"TRY_CAST({text} AS {sort})"
    bounds = [(sign, limit) for sign, limit in ((">=", least), ("<=", most)) if limit is not None]
    parts = " AND ".join(f"{value} {sign} CAST(? AS {sort})" for sign, _ in bounds)
    spelled = [format(limit, "f") if isinstance(limit, Decimal) else limit for _, limit in bounds]
    return f"({column} IS NULL OR {parts})", spelled


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _no_room(error: duckdb.Error) -> MigrateError:
    hint = "Make room there, or let TMPDIR name a folder with more of it."
    said = str(error).partition("\n")[0]
    return MigrateError(f"expectations of files took more memory or temporary space than there is: {said}", hint=hint)
