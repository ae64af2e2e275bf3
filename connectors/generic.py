"""A database of which only SQLAlchemy knows the spelling: its catalogue, quoting and literals; each session sees what it sees."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy import exc, types
from sqlalchemy.pool import NullPool

from connectors.keyrange import Slice
from connectors.relational import Field, Opened, Relation, Select, Session, several, unknown_table
from connectors.sqlsession import Connection, Ways, explained
from migrate.core import Measure, View

_SYSTEM = (
    "information_schema",
    "pg_catalog",
    "sys",
    "syscat",
    "sysibm",
    "sysstat",
    "systools",
    "sysibmadm",
    "mysql",
    "performance_schema",
)
_WIDEST = 38  # digits of a decimal128


class Generic:
    """`Engine` over SQLAlchemy's inspector and compiler."""

    def __init__(self, url: sa.URL, *, quiesced: bool) -> None:
        self._engine = sa.create_engine(url, poolclass=NullPool)
        self._quiesced = quiesced
        preparer = self._engine.dialect.identifier_preparer
        self._quote: Callable[[str], str] = (
            preparer.quote if self._engine.dialect.requires_name_normalize else preparer.quote_identifier
        )

    # ------------------------------------------------------------------------------------------------------- catalogue

    def names(self) -> Sequence[str]:
        with self._inspector() as inspector:
            here = inspector.default_schema_name
            found = sorted({*inspector.get_table_names(), *inspector.get_view_names()})
            for schema in inspector.get_schema_names():
                if schema != here and schema.lower() not in _SYSTEM:
                    inside = {*inspector.get_table_names(schema), *inspector.get_view_names(schema)}
                    found += [f"{schema}.{table}" for table in sorted(inside)]
        return found

    def relation(self, name: str, /) -> Relation:
        with self._inspector() as inspector:
            schema, table = self._named(inspector, name)
            fields, notes = [], []
            comparable = {}
            for column in inspector.get_columns(table, schema):
                field, note = self._field(column)
                fields.append(field)
                notes += [note] if note else []
                if _comparable(column["type"]):
                    comparable[field.name] = bool(column.get("nullable", True))
            key, ranged, nullable = _keys(inspector, table, schema, comparable)
        if not ranged:
            notes.append(
                "it has no index to cut it by: it is one slice, read in one go, and resumed from its beginning"
            )
        elif not key:
            notes.append(f"it has no unique key: it is cut by the index on {ranged[0]}")
        names = [f.name.lower() for f in fields]
        if len(set(names)) < len(names):
            notes.append("some of its columns' names differ in case only")
        return Relation(name, schema or "", table, tuple(fields), key, ranged, nullable, notes=tuple(notes))

    def _named(self, inspector: sa.Inspector, name: str) -> tuple[str | None, str]:
        candidates: list[tuple[str | None, str]] = [(None, name)]
        candidates += [(name[:i], name[i + 1 :]) for i, letter in enumerate(name) if letter == "."]
        for schema, table in candidates:
            try:
                if table in inspector.get_table_names(schema) or table in inspector.get_view_names(schema):
                    return schema, table
            except exc.SQLAlchemyError:  # a part of the name that is no schema
                continue
        raise unknown_table(name, self.names())

    @contextmanager
    def _inspector(self) -> Iterator[sa.Inspector]:
        with warnings.catch_warnings(), explained(self._engine.url), self._engine.connect() as connection:
            warnings.simplefilter("ignore", exc.SAWarning)  # a type that it does not know is read as text
            yield sa.inspect(connection)

    def _field(self, column: Mapping[str, Any]) -> tuple[Field, str]:
        """A column, and what to tell people of it."""
        kind, name = column["type"], str(column["name"])
        try:
            native = kind.compile(self._engine.dialect)
        except exc.SQLAlchemyError:
            native = type(kind).__name__
        quoted = self._quote(name)
        arrow, suggested, known = _arrow(kind)
        note = ""
        if not known:
            note = f"{name}: {native} is read as the text that the database makes of it"
            quoted = self._compiled(sa.cast(sa.column(name), sa.Text() if self._long_texts else sa.String(4000)))
        return Field(name, native, arrow, quoted, bool(column.get("nullable", True)), suggested), note

    @property
    def _long_texts(self) -> bool:
        return self._engine.dialect.name not in ("db2", "ibm_db_sa", "firebird")

    # ------------------------------------------------------------------------------------------------------------- SQL

    def _compiled(self, element: sa.ClauseElement) -> str:
        """SQL with its values in it, as it stands: no parameters follow it, so no % is to be written twice."""
        text = str(element.compile(self._engine, compile_kwargs={"literal_binds": True}))
        return self._bare(text)

    def _bare(self, text: str) -> str:
        return (
            text.replace("%%", "%")
            if getattr(self._engine.dialect.identifier_preparer, "_double_percents", False)
            else text
        )

    def quoted(self, *names: str) -> str:
        return self._bare(".".join(self._quote(name) for name in names if name))

    def literal(self, field: Field, text: str, /) -> str:
        kind = field.type
        if pa.types.is_integer(kind):
            return str(int(text))
        if pa.types.is_decimal(kind) or field.suggested.startswith("numeric"):
            return format(Decimal(text), "f")
        value: Any = date.fromisoformat(text) if pa.types.is_date(kind) else text
        return self._compiled(sa.literal(value, types.Date() if pa.types.is_date(kind) else types.String()))

    def boundary(self, relation: Relation, where: str, rows: int, /) -> str:
        names = [self.quoted(name) for name in relation.ranged]
        statement = sa.select(*[_said(name) for name in names]).select_from(sa.text("§from§"))
        statement = statement.order_by(*[_said(name) for name in names]).limit(1).offset(rows - 1)
        if where:
            statement = statement.where(_said("§where§"))
        # What is SQL already stays as it is; only the way to say "the n-th row" is the dialect's.
        text = self._compiled(statement)
        return text.replace("§from§", self.quoted(relation.schema, relation.table)).replace("§where§", where)

    def slices(self, relation: Relation, session: Session, rows: int, /) -> Iterator[Slice]:
        yield Slice(own="all")

    def within(self, slice_: Slice, /) -> str:
        return ""

    def spell(self, select: Select) -> str:
        relation = select.relation
        order = [self.quoted(name) for name in relation.ranged]
        if not relation.key:
            order += [self.quoted(f.name) for f in relation.fields if _orders(f) and f.name not in relation.ranged]
        where = f" WHERE {select.where}" if select.where else ""
        by = f" ORDER BY {', '.join(order)}" if order else ""
        chosen = ", ".join(f.select for f in select.fields)
        return f"SELECT {chosen} FROM {self.quoted(relation.schema, relation.table)}{where}{by}"

    def measure(self, field: Field, measure: Measure, /) -> str | None:
        """Only how many values there are: what else an unknown engine means by a sum is not known."""
        return f"COUNT({self.quoted(field.name)})" if measure.quantity == "values" else None

    # -------------------------------------------------------------------------------------------------------- sessions

    def open(self, count: int, /) -> Opened:
        sessions = several(count, self.reopen)
        if self._quiesced:
            return Opened(sessions, "pinned", True, None, "pinned: declared as quiesced")
        view: View = "live"
        note = "live: each statement sees what is there when it runs; no way to one moment is known for this database"
        return Opened(sessions, view, False, None, note)

    def reopen(self) -> Session:
        return Connection(self._engine, Ways(lambda: (), self.spell))


def _said(sql: str) -> Any:
    return sa.literal_column(sql)


def _keys(
    inspector: sa.Inspector, table: str, schema: str | None, comparable: Mapping[str, bool]
) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """The columns that identify a row, those to cut by, and whether the latter may be NULL. `comparable`: those that may be."""
    unique = [tuple(inspector.get_pk_constraint(table, schema).get("constrained_columns") or ())]
    plain: list[tuple[str, ...]] = []
    for index in inspector.get_indexes(table, schema):
        columns = tuple(index["column_names"])
        partial = any(str(option).endswith("_where") for option in index.get("dialect_options", {}))
        if None not in columns and not partial:
            (unique if index["unique"] else plain).append(tuple(str(c) for c in columns))
    primary = unique[0]
    for columns in sorted((u for u in unique if u), key=lambda u: (u != primary, len(u))):
        if all(c in comparable and (columns == primary or not comparable[c]) for c in columns):
            return columns, columns, False
    for columns in (*unique, *plain):
        if columns and columns[0] in comparable:
            return (), (columns[0],), comparable[columns[0]]
    return (), (), False


# ------------------------------------------------------------------------------------------------------------- the types


def _arrow(kind: types.TypeEngine[Any]) -> tuple[pa.DataType, str, bool]:
    """(what it is read as, the PostgreSQL type that suits it, whether the driver's values are known to be exact)."""
    if isinstance(kind, types.Boolean):
        return pa.bool_(), "", True
    if isinstance(kind, types.SmallInteger | types.BigInteger | types.Integer):
        small = "smallint" if isinstance(kind, types.SmallInteger) else "integer"
        return pa.int64(), "bigint" if isinstance(kind, types.BigInteger) else small, True
    if isinstance(kind, types.Float):
        return pa.float64(), "", True
    if isinstance(kind, types.Numeric):
        digits, places = kind.precision, kind.scale
        if digits is None:
            return pa.string(), "numeric", True
        suggested = f"numeric({digits},{places or 0})"
        fits = digits <= _WIDEST and 0 <= (places or 0) <= digits
        return pa.decimal128(digits, places or 0) if fits else pa.string(), suggested, True
    if isinstance(kind, types.DateTime):
        zoned = bool(kind.timezone)
        return pa.timestamp("us", "UTC") if zoned else pa.timestamp("us"), "timestamptz" if zoned else "timestamp", True
    if isinstance(kind, types.Date):
        return pa.date32(), "", True
    if isinstance(kind, types.LargeBinary | types.BINARY | types.VARBINARY):
        return pa.binary(), "", True
    if isinstance(kind, types.Uuid):
        return pa.string(), "uuid", False
    if isinstance(kind, types.String):
        return pa.string(), f"varchar({kind.length})" if kind.length and not isinstance(kind, types.Enum) else "", True
    return pa.string(), "jsonb" if isinstance(kind, types.JSON) else "", False


def _comparable(kind: types.TypeEngine[Any]) -> bool:
    """Whether a value survives the way into a text and back into a literal."""
    if isinstance(kind, types.Float | types.Text | types.Enum | types.Boolean):
        return False
    return isinstance(kind, types.Integer | types.Numeric | types.String) or (
        isinstance(kind, types.Date) and not isinstance(kind, types.DateTime)
    )


def _orders(field: Field) -> bool:
    return not pa.types.is_binary(field.type) and not pa.types.is_string(field.type)
