"""Expectations: what a loaded table should be, asked of Great Expectations in the database that holds it.

Great Expectations takes seconds to import: only what is called here imports it, and it is kept quiet. Its answer says
whether an expectation holds; which rows do not meet it is read from the very statement that it sends. The text that it
offers for that (`unexpected_index_query`) is not used: it spells literals as Python does, so that `\\d` finds other rows.
"""

import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from migrate.core import Severity

ENGINE = "SqlAlchemyExecutionEngine"

_OURS = frozenset(
    {
        "id",
        "meta",
        "notes",
        "result_format",
        "description",
        "catch_exceptions",
        "rendered_content",
        "severity",
        "windows",
    }
    | {"batch_id", "column_index", "library_metadata"}
)
"""Arguments that say how an answer is given or kept; that is decided here."""

_ELSEWHERE = frozenset({"expect_query_results_to_match_comparison"})
"""Expectations that need more than the table."""

_LISTED = 1_000_003
"""The limit by which Great Expectations' listing of rows is told from what else it asks."""

_LIMIT = re.compile(r"\n LIMIT %\((\w+)\)s(::\w+)?\s*$")


@dataclass(frozen=True, slots=True)
class Expected:
    """An expectation by Great Expectations' name; `label` is what findings call it."""

    label: str
    name: str
    arguments: Mapping[str, Any]
    severity: Severity = "error"


@dataclass(frozen=True, slots=True)
class Place:
    """Where to look: a table, the columns by which its rows are named, and what opens a connection for reading."""

    schema: str
    table: str
    key: tuple[str, ...]
    connect: Callable[[], Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Unmet:
    """An expectation that does not hold. `statement` lists the rows: first the key's columns, then the expectation's own.

    Without a statement it is about the table as a whole, and `observed` is what was found. `limit` names the parameter
    that bounds the listing.
    """

    expected: Expected
    observed: str | None = None
    statement: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    limit: str = ""
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unanswered:
    """An expectation that could not be evaluated, and why: that is no answer. `cause` is the driver's class, or ""."""

    expected: Expected
    why: str
    cause: str = ""


def names() -> list[str]:
    """The names of all expectations that can be asked for."""
    with _quiet():
        from great_expectations.expectations import registry

        found = registry.list_registered_expectation_implementations()
        return sorted(name for name in found if name.startswith("expect_") and name not in _ELSEWHERE)


def arguments(name: str) -> list[str]:
    """The names of an expectation's arguments."""
    return sorted(set(_class(name).__fields__) - _OURS)


def faults(name: str, given: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(argument, what is wrong with it) of an expectation that is known; "" for what is wrong with all of them.

    Nothing is run. An argument that is not known is not told of here.
    """
    known = {key: value for key, value in given.items() if key in arguments(name)}
    with _quiet():
        from great_expectations.compatibility.pydantic import ValidationError
        from great_expectations.exceptions.exceptions import GreatExpectationsError

        if not _in_databases(name):
            return [("", "cannot be evaluated in a database")]
        try:
            _class(name)(**known)
        except ValidationError as error:
            told: dict[str, str] = {}
            for each in error.errors():
                told.setdefault("" if each["loc"][0] == "__root__" else str(each["loc"][0]), each["msg"])
            if len(told) > 1:
                told.pop("", None)  # follows from the others
            return list(told.items())
        except (GreatExpectationsError, ValueError, TypeError) as error:
            return [("", _sentence(str(error)))]
    return []


def examine(place: Place, expected: Sequence[Expected]) -> Iterator[Unmet | Unanswered]:
    """Ask for all of them, and yield those that do not hold or cannot be evaluated, in their order.

    All aggregates are computed by the database; one pass says what holds, another look at what does not says how.
    """
    opened: list[Any] = []
    with _quiet():
        try:
            batch, engine = _batch(place, opened)
            results = _results(batch, expected, "BOOLEAN_ONLY")
            for each, result in zip(expected, results, strict=True):
                if (broken := _broken(each, result)) is not None:
                    yield broken
                elif not result.success:
                    yield _unmet(place, batch, engine, each)
        finally:
            for connection in opened:
                connection.close()


# ----------------------------------------------------------------------------------------------------- how it is asked


@contextmanager
def _quiet() -> Iterator[None]:
    """Import and use Great Expectations without a word of it, and without one leaving this machine."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    logging.getLogger("great_expectations").setLevel(logging.CRITICAL + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _class(name: str) -> Any:
    with _quiet():
        from great_expectations.expectations import registry

        return registry.get_expectation_impl(name)


def _in_databases(name: str) -> bool:
    """Whether the metrics of an expectation of rows are there for SQL."""
    from great_expectations.expectations import registry

    metric = getattr(_class(name), "map_metric", None)
    if metric is None:
        return True
    known = registry._registered_metrics.get(f"{metric}.unexpected_count", {})
    return ENGINE in known.get("providers", {})


def _batch(place: Place, opened: list[Any]) -> tuple[Any, Any]:
    """The table as Great Expectations sees it, and its engine, over connections of ours, which are added to `opened`.

    So it never learns the URL with its password, and leaves no connection open: it has two pools.
    """
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from sqlalchemy.sql.elements import quoted_name

    def connect() -> Any:
        opened.append(place.connect())
        return opened[-1]

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    sources: Any = context.data_sources  # whose arguments its stub does not know
    source = sources.add_postgres(
        name="target", connection_string="postgresql+psycopg://user@host/database", kwargs={"creator": connect}
    )
    # Quoted, or a schema's name is folded to lower case, and another one of that name may be there.
    table, schema = (quoted_name(name, True) for name in (place.table, place.schema))
    asset = source.add_table_asset("table", table_name=table, schema_name=schema)
    batch = asset.add_batch_definition_whole_table("all").get_batch()
    return batch, source.get_execution_engine().engine


def _results(batch: Any, expected: Sequence[Expected], form: Any) -> list[Any]:
    """A result for each, in their order: Great Expectations gives them in one of its own."""
    import great_expectations as gx

    # Each is made by its class: a suite drops what it cannot make, and then is a success.
    asked = [_class(each.name)(**each.arguments, meta={"asked": i}) for i, each in enumerate(expected)]
    validated = batch.validate(gx.ExpectationSuite(name="expected", expectations=asked), result_format=form)
    by_place = {result.expectation_config.meta["asked"]: result for result in validated.results}
    return [by_place[i] for i in range(len(expected))]


def _broken(expected: Expected, result: Any) -> Unanswered | None:
    told = result.exception_info
    if "raised_exception" in told:
        told = {"": told}
    messages = [each["exception_message"] for each in told.values() if each.get("raised_exception")]
    if not messages:
        return None
    found = re.match(r"\(psycopg\.(?:errors\.)?(\w+)\)\s*", messages[0])
    text = messages[0][found.end() :] if found else messages[0]
    return Unanswered(expected, _sentence(text), found[1] if found else "")


def _sentence(text: str) -> str:
    """The first line of what a library says, for it goes on with statements, parameters and links."""
    return text.strip().partition("\n")[0].removeprefix("Error: ").rstrip(".")


def _unmet(place: Place, batch: Any, engine: Any, expected: Expected) -> Unmet:
    of_rows = getattr(_class(expected.name), "map_metric", None) is not None
    if not of_rows:
        [result] = _results(batch, [expected], {"result_format": "BASIC"})
        return Unmet(expected, _observed(result.result))
    columns = _columns(expected)
    if expected.name == "expect_compound_columns_to_be_unique":
        if "row_condition" in expected.arguments:
            return Unmet(expected)
        statement = _doubles(place, columns)
        return Unmet(expected, None, statement, {"listed": None}, "listed", columns)
    from sqlalchemy import event

    seen: list[tuple[str, Mapping[str, Any], str]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> tuple[str, Any]:
        if "pg_catalog." in statement:
            return statement, parameters
        found = _LIMIT.search(statement)
        if found and parameters.get(found[1]) == _LISTED:
            seen.append((statement, dict(parameters), found[1]))
        # Only its form is wanted: without a limit it fetches each unexpected value.
        return f"SELECT * FROM ({statement}) AS bounded LIMIT 1", parameters

    event.listen(engine, "before_cursor_execute", note, retval=True)
    try:
        form = {
            "result_format": "COMPLETE",
            "unexpected_index_column_names": list(place.key),
            "partial_unexpected_count": _LISTED,
            "return_unexpected_index_query": False,
        }
        _results(batch, [expected], form)
    finally:
        event.remove(engine, "before_cursor_execute", note)
    return Unmet(expected, None, *seen[-1], columns) if seen else Unmet(expected)


def _columns(expected: Expected) -> tuple[str, ...]:
    given = expected.arguments
    pair = [given[name] for name in ("column", "column_A", "column_B") if name in given]
    return tuple(pair or given.get("column_list", ()))


def _doubles(place: Place, columns: Sequence[str]) -> str:
    """The rows that share a combination of columns with another one, which Great Expectations counts and does not list.

    It joins them by equality: whatever it is told to ignore, a NULL is equal to nothing.
    """

    def quoted(names: Sequence[str]) -> str:
        # % is doubled for the driver, which looks for parameters
        return ", ".join('"' + name.replace('"', '""').replace("%", "%%") + '"' for name in names)

    filled = " AND ".join(f"{quoted([c])} IS NOT NULL" for c in columns)
    # Each is named anew, for a column may be in both.
    chosen = [f"{quoted([c])} AS c{i}" for i, c in enumerate((*place.key, *columns))]
    return (
        f"SELECT {', '.join(f'c{i}' for i in range(len(chosen)))} FROM (SELECT {', '.join(chosen)}, "
        f"count(*) OVER (PARTITION BY {quoted(columns)}) AS times FROM {quoted([place.schema])}.{quoted([place.table])}"
        f" WHERE {filled}) AS counted WHERE times > 1 LIMIT %(listed)s"
    )


def _observed(result: Mapping[str, Any]) -> str | None:
    """What was found, where it is one thing: a number, a type, some values."""
    if result.get("observed_value") is not None:
        found = result["observed_value"]
        return ", ".join(map(str, found)) if isinstance(found, list | tuple | set) else str(found)
    some = [*result.get("partial_unexpected_list", ()), *result.get("partial_missing_list", ())]
    return ", ".join(map(str, some)) or None
