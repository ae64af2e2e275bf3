"""How a collection is cut: into ranges of `_id`, a bracket of types at a time, whatever types there are.

MongoDB compares with $gt and $lt only within a bracket of types that it sorts among each other: a range of numbers never
holds a text. So each slice says of which bracket it is, and one more takes what no other does.
https://www.mongodb.com/docs/manual/reference/bson-type-comparison-order/
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bson import json_util

BRACKETS: Mapping[str, tuple[str, ...]] = {
    "number": ("int", "long", "double", "decimal"),
    "string": ("string", "symbol"),
    "object": ("object",),
    "binData": ("binData",),
    "objectId": ("objectId",),
    "date": ("date",),
    "timestamp": ("timestamp",),
}
"""Types that are compared with each other, by the bracket's name, in the order in which `_id` sorts them."""

WHOLE = "whole"
REST = "rest"

Filter = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Slice:
    """Documents whose `_id` is in a bracket, greater than `after` and at most `upto` (JSON; None: without an end).

    The bracket WHOLE is all of the collection; REST what is in none of `others`. `table` is the source's; `levels` what its
    documents are read as (`documents.dump`), `mixed` whether what does not fit goes into `_rest`: planned once, for the fields
    that are found may change.
    """

    bracket: str = WHOLE
    after: str | None = None
    upto: str | None = None
    others: tuple[str, ...] = ()
    table: str = ""
    levels: Any = ()
    mixed: bool = False

    def dump(self) -> str:
        parts = {name: part for name, part in asdict(self).items() if part}
        return json.dumps(parts, separators=(",", ":"), ensure_ascii=False)

    @staticmethod
    def load(token: str) -> "Slice":
        parts = json.loads(token)
        return Slice(**{**parts, "others": tuple(parts.get("others", ()))})

    def filter(self) -> Filter:
        """What the server finds them by. NaN is a number that is neither less nor greater than one: it is of REST."""
        if self.bracket == WHOLE:
            return {}
        if self.bracket == REST:
            known = [type_ for bracket in self.others for type_ in BRACKETS[bracket]]
            strangers: Filter = {"_id": {"$not": {"$type": known}}} if known else {}
            return {"$or": [strangers, {"_id": math.nan}]} if "number" in self.others else strangers
        found: Filter = {"$type": list(BRACKETS[self.bracket])}
        if self.after is not None:
            found["$gt"] = _value(self.after)
        if self.upto is not None:
            found["$lte"] = _value(self.upto)
        if self.bracket == "number" and self.after is None and self.upto is None:
            found["$ne"] = math.nan
        return {"_id": found}


def cut(last_of: Callable[[Filter], Any | None], any_of: Callable[[Filter], bool]) -> Iterator[Slice]:
    """All slices of a collection: `last_of` gives the `_id` that ends the first slice of what a filter finds, None if it is all.

    What comes in meanwhile falls into one of them, whatever its `_id` is.
    """
    present = [bracket for bracket in BRACKETS if any_of(Slice(bracket).filter())]
    for bracket in present:
        after: str | None = None
        while True:
            last = last_of(Slice(bracket, after).filter())
            upto = None if last is None else _text(last)
            yield Slice(bracket, after, upto)
            if upto is None:
                break
            after = upto
    yield Slice(REST, others=tuple(present))


def _text(value: Any) -> str:
    return json_util.dumps(value, json_options=json_util.CANONICAL_JSON_OPTIONS)


def _value(text: str) -> Any:
    return json_util.loads(text, json_options=json_util.CANONICAL_JSON_OPTIONS)
