"""The editors' schema and the reference: they say what the parser does, and are what stands in the tree."""

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from mappings.keys import SECTIONS
from mappings.schema import json_schema, reference, schema_text
from mappings.spec import parse
from migrate.errors import UsageError

ROOT = Path(__file__).parent.parent.parent
GOOD = (ROOT / "examples" / "shop" / "migrate.yaml").read_text()


class Loader(yaml.SafeLoader):
    """YAML 1.2's reading, as editors have it: `on` is a text, and so is a date."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":bool", ":timestamp", ":merge"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(true|false)$"), list("tf"))


def keyed(tree: Any) -> Any:
    """The tree with texts for keys, as JSON has it: `null: false` has the key "null"."""
    if isinstance(tree, dict):
        return {"null" if key is None else str(key): keyed(value) for key, value in tree.items()}
    return [keyed(item) for item in tree] if isinstance(tree, list) else tree


def valid(text: str) -> bool:
    return bool(jsonschema.Draft202012Validator(json_schema()).is_valid(keyed(yaml.load(text, Loader))))


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


def test_the_example_and_its_variants_are_valid() -> None:
    assert valid(GOOD)
    for old, new in [
        ("max_rejects: 1%", "max_rejects: 500"),
        ("max_rejects: 1%", "max_rejects: {rows: 5, percent: 1.5}"),
        ("mode: replace", "nul: {replace: x}"),
        ("mode: replace", "dedupe: {match: [[email], [name, born]], keep: last}"),
        ("mode: replace", "dedupe: {match: email}"),
        ("landing/orders.csv", "[a.csv, b.csv]"),
        ("encoding: cp1252", "max_record_bytes: 16MB"),
        ("id: uuid(CustomerID)", "id: 1"),
        ("id: uuid(CustomerID)", "id: true"),
    ]:
        assert old in GOOD
        assert valid(GOOD.replace(old, new, 1)), new
        parse(GOOD.replace(old, new, 1), Path("migrate.yaml"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("migration: shop", "migration: The Shop"),
        ("migration: shop", ""),
        ("mode: replace", "mode: apend"),
        ("mode: replace", "mod: replace"),
        ("encoding:", "encodng:"),
        ("encoding: cp1252", "header: 'no'"),
        ("encoding: cp1252", "skip_lines: -1"),
        ("max_rejects: 1%", "max_rejects: 1.5"),
        ("max_rejects: 1%", "max_rejects: {percent: 200}"),
        ("id: uuid(CustomerID)", "id: [a]"),
        ("id: uuid(CustomerID)", "id:"),
        ("mode: replace", "dedupe: {keep: first}"),
        ("mode: replace", "dedupe: {match: {a: b}}"),
        ("key: CustomerID", "key: []"),
        ("key: CustomerID", "key: [a, a]"),
        ("mode: replace", "nul: drop"),
        ("from: crm.customers", ""),
    ],
)
def test_editor_and_parser_refuse_the_same(old: str, new: str) -> None:
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    assert not valid(text)
    with pytest.raises(UsageError):
        parse(text, Path("migrate.yaml"))


def test_every_key_has_a_description_for_the_editor() -> None:
    keys = [key for section in SECTIONS for key in section.keys]
    assert all(key.doc and key.shape.words for key in keys)
    assert all("description" in each for each in json_schema()["properties"].values())


def test_the_reference_in_docs_is_the_one_that_the_code_writes() -> None:
    written = (ROOT / "docs" / "project-file.md").read_text()
    assert written == reference(), "run: python -m mappings.schema > docs/project-file.md"


def test_the_schema_beside_the_example_is_the_one_that_the_code_writes() -> None:
    written = (ROOT / "examples" / "shop" / "migrate.schema.json").read_text()
    assert written == schema_text(), "run: python -m mappings.schema --json > examples/shop/migrate.schema.json"
