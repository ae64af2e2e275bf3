"""What a value of the project file may look like: in words, as JSON Schema, and as the function that reads it.

`read` returns None where the value is wrong, after a fault has said so; no right value is None. So reading goes on past
every fault, and the parser, the editor's schema and the reference cannot disagree: all three come from the same shape.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from mappings.faults import Mark, along, suggest
from mappings.nodes import Reader, Scalar, described, is_empty, is_null, mark_of, pairs, scalar

Read = Callable[[Reader, yaml.Node], Any]
Complaint = Callable[[str], str]
"""What is wrong with a text ("" where nothing is), as the end of the sentence "tables.x.y …"."""

_SPELLED = ["string", "number", "boolean"]  # what editors take `x`, `1` and `true` for, all texts to us


@dataclass(frozen=True, slots=True)
class Shape:
    """`words` say what is expected; `schema` says it to editors."""

    words: str
    schema: Mapping[str, Any]
    read: Read


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a section; `default` is how the reference states what happens without it."""

    name: str
    shape: Shape
    doc: str
    default: str = ""
    required: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """A section as read: the values of the keys that stand in it and are right, and the places of all its keys."""

    mark: Mark
    values: Mapping[str, Any]
    keys: Mapping[str, Mark]

    def get(self, name: str, default: Any = None) -> Any:
        return self.values.get(name, default)


@dataclass(frozen=True, slots=True)
class Section:
    """A mapping with fixed keys. `later` are keys that the format knows and this version does not."""

    title: str
    doc: str
    keys: tuple[Key, ...]
    later: tuple[str, ...] = ()
    words: str = field(default="a mapping", kw_only=True)

    @property
    def shape(self) -> Shape:
        required = [key.name for key in self.keys if key.required]
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {key.name: {"description": key.doc, **key.shape.schema} for key in self.keys},
            "additionalProperties": False,
        }
        return Shape(self.words, schema | ({"required": required} if required else {}), self.read)

    def read(self, reader: Reader, node: yaml.Node) -> Record | None:
        if not isinstance(node, yaml.MappingNode):
            refuse(reader, node, self.words)
            return None
        known = {key.name: key for key in self.keys}
        values: dict[str, Any] = {}
        marks: dict[str, Mark] = {}
        meant: set[str] = set()  # by a key that is misspelled
        for name, value in pairs(reader, node):
            marks[name.value] = name.mark
            if name.value in known:
                with reader.within(name.value):
                    read = known[name.value].shape.read(reader, value)
                if read is not None:
                    values[name.value] = read
            elif name.value in self.later:
                reader.fault(name.mark, f'"{name.value}" in {reader.place} is not supported in this version')
            else:
                hint = suggest(name.value, known)
                meant.update(key for key in known if f'"{key}"' in hint)
                if not hint and node.flow_style and is_null(value):
                    hint = "Inside { } a comma ends a value: put a text that holds commas in quotes."
                reader.fault(name.mark, f'unknown key "{name.value}" in {reader.place}', hint)
        for key in self.keys:
            if key.required and key.name not in marks and key.name not in meant:
                reader.fault(node, f'{reader.place} lacks the key "{key.name}"', key.doc)
        return Record(mark_of(node), values, marks)


def refuse(reader: Reader, node: yaml.Node, words: str, hint: str = "", *, secret: bool = False) -> Any:
    """The fault for a value of the wrong kind, and None for what was read. A secret is not repeated."""
    found = "what stands here" if secret and isinstance(node, yaml.ScalarNode) else described(node)
    reader.fault(node, f"{reader.place} must be {words}, not {found}", hint)


# -------------------------------------------------------------------------------------------------------------- scalars


def text(
    words: str = "a text",
    complain: Complaint = lambda _: "",
    *,
    pattern: str | None = None,
    secret: bool = False,
    references: bool = False,
    null: bool = False,
) -> Shape:
    """One text → Scalar.

    `references` allows `${env:NAME}` in it, `null` takes YAML's null for the word; a `secret` shows up in no fault.
    """

    def read(reader: Reader, node: yaml.Node) -> Scalar | None:
        before = len(reader.faults)
        found = None if is_null(node) and not null else scalar(reader, node)
        if found is None:
            if len(reader.faults) == before:
                refuse(reader, node, words, secret=secret)
            return None
        complaint = complain(found.value)
        if complaint:
            reader.fault(found.mark, f"{reader.place} {complaint}")
        if references:
            _note_references(reader, found)
        return found

    schema: dict[str, Any] = {"type": [*_SPELLED, *(["null"] if null else [])] if pattern is None else "string"}
    return Shape(words, schema | ({"pattern": pattern} if pattern else {}), read)


def choice(*names: str) -> Shape:
    """One of a few words → str."""
    words = f"{', '.join(names[:-1])} or {names[-1]}"

    def read(reader: Reader, node: yaml.Node) -> Any:
        if isinstance(node, yaml.ScalarNode) and node.value in names:
            return str(node.value)
        return refuse(reader, node, words, suggest(node.value, names) if isinstance(node, yaml.ScalarNode) else "")

    # editors read a plain null as YAML does
    return Shape(words, {"enum": [*names, *([None] if "null" in names else [])]}, read)


def boolean() -> Shape:
    """true or false → bool; YAML's yes, no, on and off are faults, for editors read them otherwise."""

    def read(reader: Reader, node: yaml.Node) -> Any:
        if isinstance(node, yaml.ScalarNode) and node.style is None and node.value in ("true", "false"):
            return bool(node.value == "true")
        return refuse(reader, node, "true or false")

    return Shape("true or false", {"type": "boolean"}, read)


def whole(words: str = "a whole number", least: int = 0) -> Shape:
    """A number of at least `least` → int."""

    def read(reader: Reader, node: yaml.Node) -> Any:
        if isinstance(node, yaml.ScalarNode) and re.fullmatch("[0-9]{1,18}", node.value) and int(node.value) >= least:
            return int(node.value)
        return refuse(reader, node, words)

    return Shape(words, {"type": "integer", "minimum": least}, read)


def number(words: str, lowest: float, highest: float) -> Shape:
    """A number between two others → float."""

    def read(reader: Reader, node: yaml.Node) -> Any:
        if isinstance(node, yaml.ScalarNode) and re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", node.value):
            found = float(node.value)
            if lowest <= found <= highest:
                return found
        return refuse(reader, node, words)

    return Shape(words, {"type": "number", "minimum": lowest, "maximum": highest}, read)


def converted(words: str, schema: Mapping[str, Any], convert: Callable[[str], Any], *, hint: str = "") -> Shape:
    """A text that means something → whatever `convert` makes of it; None from it is "not that"."""

    def read(reader: Reader, node: yaml.Node) -> Any:
        found = convert(node.value) if isinstance(node, yaml.ScalarNode) and not is_null(node) else None
        return refuse(reader, node, words, hint) if found is None else found

    return Shape(words, schema, read)


# ---------------------------------------------------------------------------------------------------------- composition


def many(item: Shape, words: str, *, least: int = 1, unique: bool = True) -> Shape:
    """One item or a list of them → tuple. A double is a fault."""

    def read(reader: Reader, node: yaml.Node) -> Any:
        if is_empty(node) or isinstance(node, yaml.MappingNode):
            return refuse(reader, node, words)
        nodes: Sequence[yaml.Node] = node.value if isinstance(node, yaml.SequenceNode) else [node]
        if len(nodes) < least:
            reader.fault(node, f"{reader.place} is empty", f"It must be {words}.")
            return None
        found = [item.read(reader, each) for each in nodes]
        whole_list = [each for each in found if each is not None]
        seen: set[str] = set()
        for each in whole_list if unique else ():
            if each.value in seen:
                reader.fault(each.mark, f'{reader.place} has "{each.value}" twice')
            seen.add(each.value)
        return tuple(whole_list) if len(whole_list) == len(found) else None

    several: dict[str, Any] = {"type": "array", "items": item.schema, "minItems": least}
    return Shape(words, {"anyOf": [item.schema, several | ({"uniqueItems": True} if unique else {})]}, read)


def named(item: Shape, words: str, complain: Complaint, *, pattern: str = "", least: int = 0) -> Shape:
    """A mapping whose keys the user chooses → tuple of (key, value), None for a value that is wrong."""

    def read(reader: Reader, node: yaml.Node) -> Any:
        if not isinstance(node, yaml.MappingNode):
            return refuse(reader, node, words)
        if len(node.value) < least:
            reader.fault(node, f"{reader.place} is empty", f"It must be {words}.")
            return None
        found = []
        for name, value in pairs(reader, node):
            complaint = complain(name.value)
            if complaint:
                reader.fault(name.mark, f'the name "{name.value}" in {reader.place} {complaint}')
            with reader.within(name.value):
                found.append((name, item.read(reader, value)))
        return tuple(found)

    schema: dict[str, Any] = {"type": "object", "additionalProperties": item.schema, "minProperties": least}
    return Shape(words, schema | ({"propertyNames": {"pattern": pattern}} if pattern else {}), read)


def either(words: str, pick: Callable[[yaml.Node], Shape], *shapes: Shape, null_hint: str = "") -> Shape:
    """One of several shapes, told apart by what `pick` sees of the node."""

    def read(reader: Reader, node: yaml.Node) -> Any:
        return refuse(reader, node, words, null_hint) if is_null(node) else pick(node).read(reader, node)

    return Shape(words, {"anyOf": [shape.schema for shape in shapes]}, read)


def or_mapping(words: str, plain: Shape, mapping: Shape) -> Shape:
    """One shape, and another where a mapping stands."""
    return either(words, lambda node: mapping if isinstance(node, yaml.MappingNode) else plain, plain, mapping)


def names(complain: Complaint, *, least: int = 1) -> Shape:
    """A name or a list of them → tuple of Scalar."""
    return many(text("a name", complain), "a name or a list of names", least=least)


def keys_of(node: yaml.Node) -> set[str]:
    """The texts of a mapping's keys; empty for anything else."""
    if not isinstance(node, yaml.MappingNode):
        return set()
    return {key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)}


def _note_references(reader: Reader, found: Scalar) -> None:
    for match in re.finditer(r"\$\{([^}]*)(\}?)", found.value):
        inner, mark = match[1], along(found.runs, match.start())
        if not match[2]:
            reader.fault(mark, f"{reader.place} has a reference that is not closed", "Write ${env:NAME}.")
        elif inner.startswith("secret:"):
            hint = "Set an environment variable from it and write ${env:NAME}."
            reader.fault(mark, "${secret:…} is not supported in this version", hint)
        elif name := re.fullmatch(r"env:([A-Za-z_][A-Za-z0-9_]*)", inner):
            reader.references.append((name[1], mark))
        else:
            wanted = inner if re.fullmatch("[A-Z_][A-Z0-9_]*", inner) else "NAME"
            reader.fault(mark, f"{reader.place} has a reference of no known kind", f"Write ${{env:{wanted}}}.")
