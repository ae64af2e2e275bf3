"""A piece of an XML file before lxml: its elements, or what is wrong with it, in words that repeat nothing of the file."""

import re
from collections.abc import Mapping
from functools import lru_cache
from xml.sax.saxutils import quoteattr

from lxml import etree


class Pieces:
    """Parses pieces of one file. Not for sharing between threads."""

    def __init__(self) -> None:
        self._parser = etree.XMLParser(
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            remove_comments=True,
            remove_pis=True,
            collect_ids=False,
            huge_tree=True,  # a unit has a size of its own that it must not exceed
        )

    def parsed(self, data: bytes, scope: Mapping[str | None, str], line: int = 0) -> etree._Element | str:
        """What the bytes are as children of one element, in these namespaces; what is wrong with them otherwise.

        With the line that the bytes begin on the fault is told with its line.
        """
        opened = _opened(tuple(scope.items()))
        try:
            return etree.fromstring(opened + data + b"</r>", self._parser)
        except etree.XMLSyntaxError as error:
            message = _impersonal(re.sub(r", line \d+, column \d+$", "", str(error.msg)).strip())
            if not line:
                return message
            before = line - 1
            message = re.sub(r"(?<= line )\d+", lambda number: str(before + int(number[0])), message)
            return f"line {before + (error.lineno or 1)}: {message}"


@lru_cache(64)
def _opened(scope: tuple[tuple[str | None, str], ...]) -> bytes:
    """A start tag that declares these namespaces."""
    declared = "".join(f" xmlns{f':{prefix}' if prefix else ''}={quoteattr(uri)}" for prefix, uri in scope)
    return f"<r{declared}>".encode()


def _impersonal(message: str) -> str:
    """The parser's words without those of the file: what it takes for a tag or an entity may be somebody's name."""
    message = re.sub(r"tag mismatch: \S+ line (\d+) and \S+", r"tag mismatch, opened on line \1", message)
    message = re.sub(r"in tag \S+ line", "in the tag of line", message)
    return re.sub(r"'[^']*'", "…", message)
