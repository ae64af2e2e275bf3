"""YAML text as nodes that know their place: nothing is turned into objects, so nothing is guessed, lost or renamed.

PyYAML's loaders keep the last of two equal keys, read `on:` as True and `012` as ten, all silently. Here the composer's
nodes are read as they are spelled, and whatever YAML would have done behind the user's back is a fault instead.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import yaml
from yaml.scanner import Scanner

from mappings.faults import Fault, Mark, Runs

_TAG = "tag:yaml.org,2002:"
_IMPLICIT = {
    _TAG + kind for kind in ("str", "int", "float", "bool", "null", "timestamp", "seq", "map", "merge", "value")
}

_WHOLE_IN_QUOTES = "An expression that begins with a quote needs quotes around the whole: '\"First Name\" || x'."
_PLAIN_WORDS = (  # what PyYAML says, what that means, what to do
    (
        "mapping values are not allowed here",
        'a ": " where no key can stand',
        "Check the indentation; put a text that holds a colon in quotes.",
    ),
    ("could not find expected ':'", 'a line without ": "', "Write `key: value`, and check the indentation."),
    ("found character '\\t'", "a tab where only spaces may indent", "Replace tabs by spaces."),
    ("found character", "a text cannot begin with this character", "Put the text in quotes."),
    (
        "expected <block end>, but found '<scalar>'",
        "text after a closing quote, or a line that is indented differently",
        _WHOLE_IN_QUOTES,
    ),
    (
        "expected chomping or indentation indicators",
        "text after a closing quote, or on the line of a | or >",
        _WHOLE_IN_QUOTES,
    ),
    ("expected <block end>", "this line's indentation matches no line above", "Indent the keys of one mapping alike."),
    (
        "expected ',' or '}'",
        'a "{" that is not closed before here',
        "Inside { } put a text that holds commas, quotes or brackets in quotes as a whole.",
    ),
    ("expected ',' or ']'", 'a "[" that is not closed before here', "Close it, or put the text in quotes."),
    ("found unexpected end of stream", "a quote that is opened here is never closed", "Close it."),
    ("but found another document", "a second document (---) begins here", "A project file is one document."),
    (
        "found unknown escape character",
        "this is no escape of YAML",
        "Use single quotes, or double the backslash.",
    ),
    ("found undefined alias", "an alias (*name) of something that has no anchor (&name) above", ""),
)


@dataclass(frozen=True, slots=True)
class Scalar:
    """A text of the file as it is spelled, `runs` saying where each of its characters stands."""

    value: str
    mark: Mark
    runs: Runs


@dataclass(slots=True)
class Reader:
    """What is read, what was wrong with it, and where in the file's tree the reading stands now."""

    text: str
    faults: list[Fault] = field(default_factory=list)
    references: list[tuple[str, Mark]] = field(default_factory=list)  # the ${env:NAME}s met
    path: tuple[str, ...] = ()

    def fault(self, at: yaml.Node | Mark, message: str, hint: str = "") -> None:
        self.faults.append(Fault(at if isinstance(at, Mark) else mark_of(at), message, hint))

    @contextmanager
    def within(self, name: str) -> Iterator[None]:
        outer, self.path = self.path, (*self.path, name)
        try:
            yield
        finally:
            self.path = outer

    @property
    def place(self) -> str:
        """Where the reading stands, in words: `tables.customers.mode`."""
        return ".".join(self.path) or "the project file"


def compose(reader: Reader) -> yaml.Node | None:
    """The root of the text's tree, or None where the text is no YAML: then the fault says where and why."""
    first = Mark(1, 1)
    try:
        root: yaml.Node | None = yaml.compose(reader.text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        reader.fault(*_syntax_fault(error))
        return None
    except yaml.reader.ReaderError as error:
        before = reader.text[: error.position]
        mark = Mark(before.count("\n") + 1, error.position - before.rfind("\n"))
        reader.fault(mark, f"a control character (U+{ord(reader.text[error.position]):04X})", "Remove it.")
        return None
    except RecursionError:
        reader.fault(first, "brackets or indentation nested too deep to be a project file")
        return None
    except (ValueError, OverflowError):  # PyYAML converts \U escapes and version numbers unguarded
        reader.fault(first, "an escape or a number in this file is out of range")
        return None
    if root is None:
        reader.fault(first, "the file is empty", "`migrate init` writes a first project file.")
    return root


def mark_of(node: yaml.Node) -> Mark:
    """Where the node begins; for a quoted text, after the quote."""
    mark = Mark(node.start_mark.line + 1, node.start_mark.column + 1)
    if isinstance(node, yaml.ScalarNode) and node.style in ("'", '"'):
        return Mark(mark.line, mark.column + 1)
    return mark


def is_null(node: yaml.Node) -> bool:
    """Whether YAML takes the node for null: nothing at all, ~, or the word."""
    return isinstance(node, yaml.ScalarNode) and node.tag == _TAG + "null"


def is_empty(node: yaml.Node) -> bool:
    """Whether nothing stands there; the word NULL is something, where texts are listed."""
    return is_null(node) and node.value in ("", "~")


def described(node: yaml.Node) -> str:
    """What stands there, for "must be …, not …"."""
    if is_null(node):
        return "nothing" if is_empty(node) else str(node.value)
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    text = " ".join(node.value.split())
    return f'"{text[:39]}…"' if len(text) > 40 else f'"{text}"'


def scalar(reader: Reader, node: yaml.Node) -> Scalar | None:
    """The node's text as it is spelled (`no`, `012` and `1_000` too), or None, with a fault only where YAML lost it."""
    if not _usable(reader, node) or not isinstance(node, yaml.ScalarNode) or is_empty(node):
        return None
    lost = next((c for c in node.value if c == "\0" or "\ud800" <= c <= "\udfff"), None)
    if lost is not None:
        reader.fault(node, f"{reader.place} holds U+{ord(lost):04X}, which is no text in PostgreSQL")
        return None
    runs = _runs(reader.text, node)
    return Scalar(node.value, runs[0][1], runs)


def pairs(reader: Reader, node: yaml.MappingNode) -> Iterator[tuple[Scalar, yaml.Node]]:
    """A mapping's keys and values; a key that is no text, or stands there twice, is a fault and left out."""
    if not _usable(reader, node):
        return
    seen: dict[str, Mark] = {}
    for key_node, value in node.value:
        if key_node.tag == _TAG + "merge":
            hint = "Write the keys out, or put what all tables share under `defaults`."
            reader.fault(key_node, "merge keys (<<) are not supported", hint)
            continue
        key = scalar(reader, key_node)
        if key is None:
            reader.fault(key_node, f"a key of {reader.place} must be a text, not {described(key_node)}")
        elif key.value in seen:
            first = seen[key.value]
            reader.fault(key.mark, f'the key "{key.value}" stands twice in {reader.place}, first on line {first.line}')
        else:
            seen[key.value] = key.mark
            yield key, value


def _usable(reader: Reader, node: yaml.Node) -> bool:
    if node.tag in _IMPLICIT:
        return True
    reader.fault(node, f"YAML tags are not supported: {node.tag.removeprefix(_TAG)}", "Write the plain value.")
    return False


def _syntax_fault(error: yaml.MarkedYAMLError) -> tuple[Mark, str, str]:
    problem = error.problem or "this is not YAML"
    mark = error.problem_mark or error.context_mark or yaml.Mark("", 0, 0, 0, "", 0)
    message, hint = next(((words, do) for said, words, do in _PLAIN_WORDS if said in problem), (problem, ""))
    if "never closed" in message:
        mark = error.context_mark or mark
    return Mark(mark.line + 1, mark.column + 1), message, hint


def _runs(source: str, node: yaml.ScalarNode) -> Runs:
    """Where the value's characters stand: exact but for blanks that YAML folds, which follow what is before them."""
    begin = node.start_mark.index + (node.style is not None)
    if node.style not in ("|", ">") and "\n" not in node.value and source.startswith(node.value, begin):
        return ((0, mark_of(node)),)  # nearly always
    visible = [offset for offset, character in enumerate(node.value) if not character.isspace()]
    runs: list[tuple[int, Mark]] = []
    for offset, mark in zip(visible, _visible(source, node), strict=False):  # the source has a closing quote
        if not runs or (mark.line, mark.column - offset) != (runs[-1][1].line, runs[-1][1].column - runs[-1][0]):
            runs.append((offset, mark))
    if not runs:
        return ((0, mark_of(node)),)
    offset, mark = runs[0]
    runs[0] = (0, Mark(mark.line, max(1, mark.column - offset)))  # blanks before the first character are kept blanks
    return tuple(runs)


def _visible(source: str, node: yaml.ScalarNode) -> Iterator[Mark]:
    """The places of all that spells something visible in a scalar's source; folding never adds or drops any of it."""
    at, end = node.start_mark.index, node.end_mark.index
    line, begin = node.start_mark.line + 1, node.start_mark.index - node.start_mark.column
    if node.style in ("|", ">"):
        at = source.find("\n", at) if "\n" in source[at:end] else end
    elif node.style:
        at += 1
    while at < end:
        character, length = source[at], 1
        if character == "\n":
            line, begin = line + 1, at + 1
        elif node.style == '"' and character == "\\":
            code = source[at + 1]
            length = 1 if code == "\n" else 2 + Scanner.ESCAPE_CODES.get(code, 0)
            spelled = source[at + 2 : at + length]
            character = chr(int(spelled, 16)) if spelled else Scanner.ESCAPE_REPLACEMENTS.get(code, " ")
        elif node.style == "'" and source.startswith("''", at):
            length = 2
        if not character.isspace():
            yield Mark(line, at - begin + 1)
        at += length
