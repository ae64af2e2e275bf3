"""What a walk over an XML file finds: units, sound ones, and damage; the elements around and beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lxml import etree

from connectors.xmlform import Plain


@dataclass(slots=True, eq=False)
class Frame:
    """An open element around the units. `element` is its start tag and, once captured, the children that are wanted.

    `units` counts the units in it so far; `doubt` is the line of a damage in it after which it is not sure that what
    follows belongs to this element, nor which place it has in it.
    """

    raw: bytes
    element: etree._Element
    number: int
    line: int
    units: int = 0
    doubt: int = 0


@dataclass(slots=True)
class Sibling:
    """Elements of one name beside those that are looked for: the line of the first, and whether one parent holds several.

    `parent` is the number of the parent that the last one was in.
    """

    line: int
    parent: int
    many: bool = False


@dataclass(frozen=True, slots=True)
class Units:
    """Sound units, one after the other in the same element: where each begins, how many bytes belong to it, its line.

    Blanks and comments behind a unit may be counted to it. `before` is how many units precede them in their element.
    Where there are `plain` values there are no elements.
    """

    elements: Sequence[etree._Element]
    starts: Sequence[int]
    sizes: Sequence[int]
    lines: Sequence[int]
    frames: tuple[Frame, ...]
    before: int
    plain: Plain | None = None


@dataclass(frozen=True, slots=True)
class Damage:
    """A range of bytes that is no XML, and its lines. `fault` is the line that is wrong, where that is known better."""

    start: int
    end: int
    line: int
    last: int
    reason: str
    rule: str = "structure"


@dataclass(frozen=True, slots=True)
class Cut:
    """Which elements are units: at the end of `path`, or, with `anywhere`, all that have its only name.

    `wanted[i]` are the names of the children of the i-th element of the path that have to be captured.
    """

    path: tuple[str, ...]
    anywhere: bool
    wanted: Mapping[int, frozenset[str]] = field(default_factory=dict)
