"""What stands in an XML file: its elements by their paths, which of them repeat, and which columns they would make."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lxml import etree

from connectors.xmlpath import XML, XSI, shown
from connectors.xmltext import XmlText

_KEY = re.compile(r"(id|nr|no|num|number|key|code)$", re.IGNORECASE)
_MOST = 1_000_000  # elements that an outline looks at


@dataclass(slots=True)
class Node:
    """An element of some path, all its occurrences together. `many`: it repeats in one parent; `text`: it has text."""

    attributes: dict[str, None] = field(default_factory=dict)  # sets that keep their order
    children: "dict[str, Node]" = field(default_factory=dict)
    count: int = 0
    many: bool = False
    text: bool = False


class _Stream:
    """An open file as lxml wants it."""

    def __init__(self, text: XmlText) -> None:
        self._text = text
        self._at = text.start

    def read(self, size: int = 1 << 16) -> bytes:
        data = self._text.read(self._at, self._at + min(size, 1 << 16))
        self._at += len(data)
        return data


def outline(text: XmlText) -> Node:
    """What is in the file, or in its first million elements, or before its first fault. For a file without a DTD only."""
    top = Node()
    open_: list[tuple[Node, set[Any]]] = [(top, set())]
    events = etree.iterparse(
        _Stream(text), events=("start", "end"), resolve_entities=False, no_network=True, remove_comments=True,
        remove_pis=True, huge_tree=True, encoding="utf-8",
    )  # fmt: skip
    seen = 0
    try:
        for event, element in events:
            if event == "end":
                node = open_.pop()[0]
                node.text = node.text or bool((element.text or "").strip())
                element.clear(keep_tail=False)
                while (done := element.getprevious()) is not None:
                    element.getparent().remove(done)
                continue
            above, names = open_[-1]
            node = above.children.setdefault(str(element.tag), Node())
            node.many = node.many or element.tag in names
            node.count += 1
            node.attributes.update(dict.fromkeys(map(str, element.keys())))
            names.add(element.tag)
            open_.append((node, set()))
            seen += 1
            if seen >= _MOST:
                break
    except etree.XMLSyntaxError:
        return top
    return top


def proposed(top: Node) -> dict[str, Any]:
    """Options for a source of this file: a table for each element that repeats, `namespaces` and `tables` as in a project.

    A repeated element inside another gets columns for what identifies the outer ones, and its place among its siblings.
    """
    namespaces = with_prefixes({}, top)
    found = list(_repeating(top, (), ())) or [_only(top)]
    tables: dict[str, Any] = {}
    for steps, node, around in found:
        columns: dict[str, str] = {}
        for depth, outer in around:
            up, name = "../" * (len(steps) - depth), _local(steps[depth - 1])
            for key in _identifying(outer):
                columns[f"{name}_{_local(key)}"] = (
                    up + ("@" if key in outer.attributes else "") + shown(key, namespaces)
                )
        if around:
            columns["position"] = "position()"
        own, _ = columns_of(node, namespaces)
        columns |= {(f"{name}_2" if name in columns else name): path for name, path in own.items()}
        unique = name = _local(steps[-1])
        number = 1
        while unique in tables:
            number += 1
            unique = f"{name}_{number}"
        record = "/" + "/".join(shown(step, namespaces) for step in steps)
        if columns:
            tables[unique] = {"record": record, "columns": columns}
    return ({"namespaces": namespaces} if namespaces else {}) | {"tables": tables}


Found = tuple[tuple[str, ...], Node, tuple[tuple[int, Node], ...]]


def _repeating(node: Node, steps: tuple[str, ...], around: tuple[tuple[int, Node], ...]) -> Iterator[Found]:
    """(steps, node, the repeated elements around it with their depths) of each element that repeats in its parent."""
    for tag, child in node.children.items():
        below = (*steps, tag)
        if child.many:
            yield below, child, around
        inner = (*around, (len(below), child)) if child.many else around
        yield from _repeating(child, below, inner)


def _only(top: Node) -> Found:
    """The record of a file in which nothing repeats: its root, or the one element with children that the root holds."""
    [(tag, root)] = top.children.items()
    inner = list(root.children.items())
    if len(inner) == 1 and (inner[0][1].children or inner[0][1].attributes):
        return (tag, inner[0][0]), inner[0][1], ()
    return (tag,), root, ()


def _identifying(node: Node) -> list[str]:
    """The attribute or child whose name says that it identifies the element; the first attribute otherwise."""
    leaves = [tag for tag, child in node.children.items() if not child.children and not child.many]
    keys = [name for name in (*node.attributes, *leaves) if _KEY.search(_local(name))]
    return (keys or list(node.attributes))[:1]


def note(element: etree._Element, node: Node) -> None:
    """Add one element and all that it holds to what is known of its path."""
    node.count += 1
    if element.keys():
        node.attributes.update(dict.fromkeys(map(str, element.keys())))
    if not node.text and (element.text or "").strip():
        node.text = True
    names: set[Any] = set()
    for child in element:
        below = node.children.setdefault(str(child.tag), Node())
        below.many = below.many or child.tag in names
        names.add(child.tag)
        note(child, below)
        node.text = node.text or bool((child.tail or "").strip())


def columns_of(node: Node, namespaces: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """A column for each attribute and each leaf of a record, name → path; and the paths that repeat and so are none."""
    found = list(_columns(node, "", "", namespaces))
    columns: dict[str, str] = {}
    for name, path in found:
        if path:
            unique, number = name, 1
            while unique.lower() in (taken.lower() for taken in columns):
                number += 1
                unique = f"{name}_{number}"
            columns[unique] = path
    return columns, [name for name, path in found if not path]


def _columns(node: Node, name: str, path: str, namespaces: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(name, path) of each column; (path, "") of each element that repeats."""
    for attribute in node.attributes:
        if not attribute.startswith(f"{{{XSI}}}"):
            yield f"{name}_{_local(attribute)}".lstrip("_"), f"{path}/@{shown(attribute, namespaces)}".lstrip("/")
    mixed = node.text and bool(node.children)
    if mixed or not node.children:
        if path or node.text:
            yield name or "text", path or "."
        if mixed and path:
            return
    for tag, child in node.children.items():
        below = f"{path}/{shown(tag, namespaces)}".lstrip("/")
        if child.many:
            yield below, ""
        else:
            yield from _columns(child, f"{name}_{_local(tag)}".lstrip("_"), below, namespaces)


def paths(node: Node, namespaces: Mapping[str, str], path: str = "") -> Iterator[str]:
    """The paths of all elements."""
    for tag, child in node.children.items():
        below = f"{path}/{shown(tag, namespaces)}"
        yield below
        yield from paths(child, namespaces, below)


def uris(node: Node) -> dict[str, None]:
    """The namespaces that are used, in the order in which they come."""
    found: dict[str, None] = {}
    for name in (*node.children, *node.attributes):
        if name.startswith("{"):
            found.setdefault(name[1:].partition("}")[0])
    for child in node.children.values():
        found.update(uris(child))
    return found


def with_prefixes(namespaces: Mapping[str, str], node: Node) -> dict[str, str]:
    """The namespaces, with a prefix made up for each that is used below the node and has none."""
    declared = dict(namespaces)
    for uri in uris(node):
        if uri not in (*declared.values(), XSI, XML):
            declared[next(f"ns{i}" for i in range(1, 1000) if f"ns{i}" not in declared)] = uri
    return declared


def _local(name: str) -> str:
    return name.rpartition("}")[2]
