"""The tags of XML as patterns over its bytes in UTF-8, and which end tag belongs to which start tag.

In well-formed text the patterns see every tag as it is. In broken text what they see is a proposal: whatever is cut by
them has to hold before a parser.
"""

import re
from functools import lru_cache

TOKEN = re.compile(
    rb"""<(?:(?P<start>[^\s<>/!?"'=&]++)(?P<attributes>(?:\s++[^\s<>"'=/]++\s*+=\s*+(?:"[^"<]*+"|'[^'<]*+'))*+)\s*+(?P<empty>/?)>
        |/(?P<end>[^\s<>/]++)\s*+>|(?P<doctype>!DOCTYPE)|(?P<section>!--|\?|!\[CDATA\[))""",
    re.DOTALL | re.VERBOSE,
)
SECTIONS = {b"<!--": b"-->", b"<![CDATA[": b"]]>", b"<?": b"?>"}
SLASH = ord("/")
BLANKS = b" \t\r\n"  # other controls that Python takes for blanks are no characters of XML


def balanced(data: bytes, raw: bytes) -> tuple[int, dict[int, int]]:
    """Behind the end of the element of this name that data begins with, 0 if it is not there; and the pairs within.

    Comments, sections and instructions are passed over, unless they are evidently not closed where they should be.
    """
    pairs: dict[int, int] = {}
    opened: list[int] = []
    at = 0
    pattern = ends_of(raw)
    while token := pattern.search(data, at):
        at = token.end()
        if token[0] in SECTIONS:
            at = section_end(data, token[0], at, len(data)) or at
        elif data[token.start() + 1] == SLASH:
            if opened:
                pairs[opened.pop()] = at
        elif data[at - 2] == SLASH:
            pairs[token.start()] = at
        else:
            opened.append(token.start())
        if not opened:
            return at, pairs
    return 0, pairs


def section_end(data: bytes, opener: bytes, at: int, stop: int) -> int:
    """Behind a comment, section or instruction whose text begins at `at`; 0 if it does not end before `stop`.

    One that seems to hold another opener of its kind is taken for one that was not closed.
    """
    if opener == b"<!--":
        end = data.find(b"--", at, stop)
        return end + 3 if end >= 0 and data[end + 2 : end + 3] == b">" else 0
    another = data.find(opener, at, stop)
    mark = SECTIONS[opener]
    end = data.find(mark, at, another if another >= 0 else stop)
    return end + len(mark) if end >= 0 else 0


def holds_itself(data: bytes, raw: bytes) -> bool:
    """Whether an element has another of its name in it, outside comments and sections."""
    _, pairs = balanced(data, raw)
    return len(pairs) > 1


def nests(data: bytes) -> bool:
    """Whether the tags of an element are what they should be, so that what is wrong with it is a matter of characters."""
    opened: list[bytes] = []
    at = 0
    while (at := data.find(b"<", at)) >= 0:
        token = TOKEN.match(data, at)
        if token is None:
            return False
        at = token.end()
        if token["section"]:
            at = section_end(data, token[0], at, len(data))
            if not at:
                return False
        elif token["end"] is not None:
            if not opened or opened.pop() != token["end"]:
                return False
        elif not token["empty"]:
            opened.append(token["start"] or b"")
    return not opened


@lru_cache(64)
def ends_of(raw: bytes) -> "re.Pattern[bytes]":
    name = re.escape(raw)
    attributes = rb"""(?:[^<>"']|"[^"<]*+"|'[^'<]*+')*+"""
    return re.compile(rb"<(?:!--|!\[CDATA\[|\?|/" + name + rb"\s*+>|" + name + rb"(?=[\s/>])" + attributes + rb">)")


@lru_cache(64)
def start_of(local: str) -> "re.Pattern[bytes]":
    return re.compile(rb"<(?:[^\s<>/!?:\"'=]++:)?" + re.escape(local.encode()) + rb"(?=[\s/>])")


@lru_cache(64)
def start_of_raw(raw: bytes) -> "re.Pattern[bytes]":
    return re.compile(rb"<" + re.escape(raw) + rb"(?=[\s/>])")


def text_of(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def local(name: str) -> str:
    return name.rpartition("}")[2]


def alike(name: str, other: str) -> bool:
    """Whether two names, `{uri}local` or not, differ in case or namespace at most."""
    return local(name).casefold() == local(other).casefold()


def same_local(raw: bytes, name: str) -> bool:
    return raw.rpartition(b":")[2] == local(name).encode()
