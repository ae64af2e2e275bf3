"""The tags of XML as patterns over its bytes in UTF-8, and which end tag belongs to which start tag.

In well-formed text the patterns see every tag as it is. In broken text what they see is a proposal: whatever is cut by
them has to hold before a parser.
"""

import re
from functools import lru_cache

TOKEN = re.compile(
    rb"""<(?:(?P<start>[^\s<>/!?"'=&]++)(?P<attributes>(?:\s++[^\s<>"'=/]++\s*+=\s*+(?:"[^"<]*+"|'[^'<]*+'))*+)\s*+(?P<empty>/?)>
        |/(?P<end>[^\s<>/]++)\s*+>|(?P<doctype>!DOCTYPE)|!--(?:[^-]|-[^-])*+-->|\?.*?\?>|!\[CDATA\[.*?\]\]>)""",
    re.DOTALL | re.VERBOSE,
)
SECTIONS = {b"<!--": b"-->", b"<![CDATA[": b"]]>", b"<?": b"?>"}
SLASH = ord("/")


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
        if mark := SECTIONS.get(token[0]):
            end = data.find(mark, at)
            body = data[at:end] if end >= 0 else b""
            unclosed = b"--" in body if mark == b"-->" else token[0] in body and b"<" + raw in body
            if end >= 0 and not unclosed:
                at = end + len(mark)
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


def holds_itself(data: bytes, raw: bytes) -> bool:
    """Whether an element has another of its name in it, outside comments and sections."""
    _, pairs = balanced(data, raw)
    return len(pairs) > 1


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


def same_local(raw: bytes, name: str) -> bool:
    return raw.rpartition(b":")[2] == local(name).encode()
