"""Aggregates of a collection, computed by its server: of a field the values that its type takes, as the column holds them.

Expressions are those of https://www.mongodb.com/docs/manual/reference/operator/aggregation/.
"""

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from bson import Decimal128, Int64

from connectors.docscan import Type
from migrate.core import Measure

Expression = Any

_EXACT = 2**53  # up to which a double holds every integer
_SAFE = 2**62  # up to which a double becomes an integer without an overflow
_LONGEST = Decimal128(str(2**63 - 1)), Decimal128(str(-(2**63)))


def at(path: Sequence[str], root: str = "") -> Expression:
    """What stands at a path from a variable or another path, else in the document; names with a dot or a dollar are no part
    of a path of MongoDB's own."""
    if path and all(plain(name) for name in path):
        return ".".join((root, *path)) if root else "$" + ".".join(path)
    found: Expression = root or "$$ROOT"
    for name in path:
        found = {"$getField": {"field": {"$literal": name}, "input": found}}
    return found


def plain(name: str) -> bool:
    return bool(name) and "." not in name and not name.startswith("$")


def unwound(paths: Sequence[Sequence[str]]) -> list[Expression]:
    """Stages that make a document of each element of arrays in arrays; what stands in the place of one is left out."""
    stages, reached = [], ""
    for path in paths:
        reached = at(path, reached)
        stages += [{"$match": {"$expr": {"$isArray": [reached]}}}, {"$unwind": reached}]
    return stages


def elements(paths: Sequence[Sequence[str]], root: str = "") -> Expression:
    """How many rows a document's arrays make: one for each element of the last, and for what stands in the place of an array."""
    held = at(paths[0], root)
    inner: Expression = {"$size": held}
    if len(paths) > 1:
        name = f"e{len(paths)}"
        each = {"$cond": [{"$eq": [{"$type": f"$${name}"}, "object"]}, elements(paths[1:], f"$${name}"), 0]}
        inner = {"$sum": {"$map": {"input": held, "as": name, "in": each}}}
    there = {"$cond": [{"$in": [{"$type": held}, ["missing", "null", "undefined"]]}, 0, 1]}
    return {"$cond": [{"$isArray": [held]}, inner, there]}


def accumulators(path: Sequence[str], type_: Type, measure: Measure, root: str = "") -> list[Expression] | None:
    """What a `$group` accumulates for one quantity, to be read by `result`; None where the server does not have it exactly."""
    value = _value(at(path, root), type_)
    if value is None:
        return None
    if measure.quantity == "values":
        present = {"$ne": [{"$type": value}, "missing"]} if type_ == "json" else {"$ne": [value, None]}
        return [{"$sum": {"$cond": [present, 1, 0]}}]
    if measure.kind == "text" and measure.quantity == "length" and type_ in ("text", "objectid"):
        text = value if type_ == "text" else {"$toString": value}
        return [{"$sum": _unless_null(value, {"$strLenCP": text})}, _count(value)]
    if measure.kind == "boolean" and measure.quantity == "sum" and type_ == "boolean":
        return [{"$sum": {"$cond": [value, 1, 0]}}, _count(value)]
    if measure.kind == "moment" and type_ == "moment":
        value = _unless_null(value, {"$multiply": [{"$toDecimal": {"$toLong": value}}, 1000]})
    elif measure.kind == "real" and type_ == "double":
        nan = {"$eq": [value, math.nan]}
        value = {"$cond": [nan, None, value]}
        most = "$max" if measure.quantity == "most" else "$min"
        return [{most: value}, {"$sum": {"$cond": [nan, 1, 0]}}] if measure.quantity in ("least", "most") else None
    elif measure.kind != "number" or type_ != "integer":
        return None
    if measure.quantity == "sum":
        return [{"$sum": _unless_null(value, {"$toDecimal": value})}, _count(value)]
    return (
        [{"$min" if measure.quantity == "least" else "$max": value}] if measure.quantity in ("least", "most") else None
    )


def result(measure: Measure, found: Sequence[Any]) -> Decimal | None:
    """The quantity. Sums of nothing are None, as SQL has them; NaN is the greatest number there, and here it was counted."""
    value, *beside = found
    if measure.quantity in ("least", "most"):
        if measure.kind == "real" and beside[0] and (measure.quantity == "most" or value is None):
            return Decimal("NaN")
        return None if value is None else _decimal(value)
    if beside and not beside[0]:
        return None
    return _decimal(value)


def _decimal(value: Any) -> Decimal:
    return value.to_decimal() if isinstance(value, Decimal128) else Decimal(str(value))


def _count(value: Expression) -> Expression:
    return {"$sum": {"$cond": [{"$ne": [value, None]}, 1, 0]}}


def _unless_null(value: Expression, then: Expression) -> Expression:
    return {"$cond": [{"$eq": [value, None]}, None, then]}


def _value(field: Expression, type_: Type) -> Expression | None:
    """The field's value where its type takes it, else null; of binary data no server tells the subtype."""
    if type_ == "json":
        return field
    kinds: Mapping[Type, list[str]] = {
        "text": ["string", "symbol"],
        "boolean": ["bool"],
        "moment": ["date"],
        "objectid": ["objectId"],
        "integer": ["int", "long"],
        "double": ["double", "int"],
        "decimal": ["decimal", "double", "int", "long"],
    }
    if type_ not in kinds:
        return None
    otherwise: Expression = None
    if type_ == "integer":
        whole = {"$eq": [field, {"$trunc": field}]}
        low, high = ({"$gte": [field, -_EXACT]}, {"$lte": [field, _EXACT]})  # not so NaN, which is less than all
        doubles = {"$cond": [{"$and": [low, high, whole]}, {"$toLong": field}, None]}
        high, low = ({"$lte": [field, _LONGEST[0]]}, {"$gte": [field, _LONGEST[1]]})
        decimals = {"$cond": [{"$and": [low, high, whole]}, {"$toLong": field}, None]}
        otherwise = _switch(field, {"double": doubles, "decimal": decimals})
    elif type_ == "double":
        low, high = {"$gte": [field, Int64(-_SAFE)]}, {"$lte": [field, Int64(_SAFE)]}
        same = {"$eq": [{"$toLong": {"$toDouble": field}}, field]}
        otherwise = _switch(field, {"long": {"$cond": [{"$and": [low, high, same]}, {"$toDouble": field}, None]}})
    return {"$cond": [{"$in": [{"$type": field}, kinds[type_]]}, field, otherwise]}


def _switch(field: Expression, of: Mapping[str, Expression]) -> Expression:
    found: Expression = None
    for name, then in of.items():
        found = {"$cond": [{"$eq": [{"$type": field}, name]}, then, found]}
    return found
