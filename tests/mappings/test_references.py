"""What is refused about references and duplicates, each with its place in the project file and what to do; and what is made."""

import dataclasses
from pathlib import Path

import pyarrow as pa
import pytest
from mapped import column, context

from mappings.compile import Mapping, compile_table
from mappings.references import Parent
from mappings.spec import parse
from migrate.core import ForeignKey, Table, TargetTable
from migrate.errors import UsageError

PATH = Path("migrate.yaml")
SOURCES = {
    "parents": ["no", "code", "part", "name"],
    "pairs": ["a", "b"],
    "children": ["nr", "parent", "half", "changed", "email"],
}
PROJECT = """\
migration: m
target: postgresql://localhost/x
timezone: UTC
sources: {f: {files: "*.csv"}}
tables:
  parents:
    from: f.parents
    key: no
    columns:
      id: uuid(no)
      code: lower(trim(no))
      name: name
      both: no || part
      rest: pack_rest()
%(parents)s
  pairs:
    from: f.pairs
    key: [a, b]
    primary_key: [x, y]
    columns: {x: a, y: lower(b)}
  children:
    from: f.children
    key: nr
    columns:
      nr: nr
%(children)s
"""


def text_of(children: str, parents: str = "    primary_key: id") -> str:
    indented = "\n".join(f"      {line}" if not line.startswith("^") else line[1:] for line in children.splitlines())
    return PROJECT % {"children": indented, "parents": parents}


def compiled(text: str, targets: dict[str, TargetTable] | None = None, table: str = "children") -> Mapping:
    spec = parse(text, PATH)
    targets = targets or {}
    parents = {name: Parent(t, targets.get(name)) for name, t in spec.tables.items()}
    of_project = context(timezone=spec.timezone, tables=tuple(spec.tables), parents=parents, path=PATH)
    schema = pa.schema([(name, pa.string()) for name in SOURCES[table]])
    return compile_table(spec.tables[table], Table(table, schema), targets.get(table), of_project)


def refusal(text: str, targets: dict[str, TargetTable] | None = None, table: str = "children") -> str:
    with pytest.raises(UsageError) as caught:
        compiled(text, targets, table)
    return caught.value.message


def place(text: str, needle: str) -> str:
    """Where `needle` begins, as an error says it; it is marked in the text by being there once, or last."""
    at = text.rindex(needle)
    return f"migrate.yaml:{text.count(chr(10), 0, at) + 1}:{at - text.rfind(chr(10), 0, at)}"


CHILDREN = TargetTable(
    "public",
    "children",
    (
        column("nr", "text", nullable=False),
        column("parent_id", "uuid", nullable=False),
        column("other_id", "uuid"),
    ),
    key=("nr",),
)


def with_key(
    *columns: str, parent: str = "parents", of: tuple[str, ...] = ("id",), schema: str = "public"
) -> TargetTable:
    key = ForeignKey("children_fkey", columns, schema, parent, of)
    return dataclasses.replace(CHILDREN, foreign_keys=(key,))


# ------------------------------------------------------------------------------------------------------------- references


@pytest.mark.parametrize(
    ("children", "at", "said"),
    [
        (
            "parent_id: {references: parnts, by: parent}",
            "parnts",
            'tables.children.columns.parent_id references the table "parnts", which is not declared. Did you mean "parents"?',
        ),
        (
            "pair: {references: pairs, by: [parent, half]}",
            "pairs, by",
            'column "pair": "pairs" has a key of 2 columns. Say which column is meant: column: x or y.',
        ),
        (
            "both: {references: parents, by: parent, column: both}",
            "parents, by",
            'column "both": parents.both is made of part, and not of its key alone. '
            "Its key is [no]: add part to it, or make both of the key.",
        ),
        (
            "rest: {references: parents, by: parent, column: rest}",
            "parents, by",
            'column "rest": parents.rest is made of other columns, and not of its key alone. '
            "Its key is [no]: add them to it, or make rest of the key.",
        ),
        (
            "parent_id: {references: parents, by: [parent, half]}",
            "parents, by",
            'column "parent_id": "by" has 2 expressions, and the key of "parents" has 1 columns. Its key is [no].',
        ),
        (
            "x: {references: pairs, by: parent, column: x}",
            "pairs, by",
            'column "x": "by" has 1 expressions, and the key of "pairs" has 2 columns. Its key is [a, b].',
        ),
        (
            "code: {references: parents, by: parent, column: cod}",
            "parents, by",
            'column "code": the column "cod" of "parents" is not mapped. Did you mean "code"?',
        ),
        (
            "parent_id: {references: parents, by: 'trim(parrent)'}",
            "parrent",
            'column "parrent" is not in the source. Did you mean "parent"?',
        ),
        (
            "y: {references: pairs, by: [parent, lowr(half)], column: y}",
            "lowr",
            'there is no function "lowr". Did you mean "lower"?',
        ),
        (
            "self: {references: children, by: half, column: self}",
            "children, by",
            'column "self": the keys of children are made of each other. Map one of them to a source column.',
        ),
    ],
)
def test_a_reference_that_cannot_be_made(children: str, at: str, said: str) -> None:
    text = text_of(children)
    assert refusal(text).splitlines() == [f"{place(text, at)}: {said}"]


def test_a_parent_without_a_primary_key() -> None:
    text = text_of("parent_id: {references: parents, by: parent}", parents="")
    said = 'column "parent_id": "parents" has no primary key. Say which column is meant: column: ….'
    assert refusal(text).splitlines() == [f"{place(text, 'parents, by')}: {said}"]
    compiled(text_of("parent_id: {references: parents, by: parent, column: code}", parents=""))


@pytest.mark.parametrize("policy", ["null", '"null"'])
def test_an_orphan_cannot_become_null_where_the_column_is_not_null(policy: str) -> None:
    text = text_of(f"parent_id: {{references: parents, by: parent, orphans: {policy}}}")
    said = 'column "parent_id" is NOT NULL: it cannot become NULL for orphans'
    assert refusal(text, {"children": CHILDREN}).splitlines() == [f"{place(text, 'parents, by')}: {said}"]
    made = text_of(f"parent_id: {{references: parents, by: parent, orphans: {policy}, null: false}}")
    assert refusal(made).splitlines() == [f"{place(made, 'parents, by')}: {said}"]


def test_an_orphan_cannot_be_kept_against_a_foreign_key() -> None:
    text = text_of("parent_id: {references: parents, by: parent, orphans: keep}")
    said = (
        'column "parent_id": orphans cannot be kept, the foreign key children_fkey refuses them. '
        "Say orphans: reject, or drop the foreign key."
    )
    assert refusal(text, {"children": with_key("parent_id")}).splitlines() == [f"{place(text, 'parents, by')}: {said}"]
    assert compiled(text, {"children": CHILDREN}).references[0].orphans == "keep"


@pytest.mark.parametrize(
    ("parent", "of", "schema", "there"),
    [
        ("elsewhere", ("id",), "public", "public.elsewhere (id)"),
        ("parents", ("code",), "public", "public.parents (code)"),
        ("parents", ("id",), "old", "old.parents (id)"),
    ],
)
def test_a_foreign_key_that_leads_elsewhere(parent: str, of: tuple[str, ...], schema: str, there: str) -> None:
    text = text_of("parent_id: {references: parents, by: parent}")
    said = f'column "parent_id": the target\'s foreign key children_fkey references {there}'
    to = {"children": with_key("parent_id", parent=parent, of=of, schema=schema)}
    assert refusal(text, to).splitlines() == [f"{place(text, 'parents, by')}: {said}"]


def test_a_reference_is_made_as_the_parent_makes_its_key() -> None:
    text = text_of(
        "parent_id: {references: parents, by: \"replace(parent, '-', '')\"}\n"
        "code: {references: parents, by: parent, column: code, orphans: keep}\n"
        "x: {references: pairs, by: [parent, half], column: x}\n"
        "y: {references: pairs, by: [parent, half], column: y}"
    )
    mapping = compiled(text)
    made = {cell.column.name: cell.expression.text for cell in mapping.cells}
    assert made["code"] == 'lower("trim"(parent))'
    assert made["y"] == "lower(half)"
    assert [(r.columns, r.table, r.parent_columns, r.orphans) for r in mapping.references] == [
        (("parent_id",), "parents", ("id",), "reject"),
        (("code",), "parents", ("code",), "keep"),
        (("x", "y"), "pairs", ("x", "y"), "reject"),
    ]
    assert mapping.reads == ("nr", "parent", "half")
    declared = {"children": with_key("parent_id")}
    only = text_of("parent_id: {references: parents, by: parent}")
    assert compiled(only, declared).references[0].foreign_key == "children_fkey"


def test_a_reference_to_a_value_that_duplicates_may_change_is_refused() -> None:
    text = text_of(
        "code: {references: parents, by: parent, column: code}",
        parents="    primary_key: id\n    dedupe: {match: [[name]], columns: {code: filled}}",
    )
    said = (
        'column "code" references parents.code, whose value duplicates may change. '
        "Take code out of dedupe.columns of parents."
    )
    assert refusal(text).splitlines() == [f"{place(text, 'parents, by')}: {said}"]


# ------------------------------------------------------------------------------------------------------------- duplicates


def deduped(rules: str, columns: str = "email: lower(email)\nchanged: changed") -> str:
    return text_of(
        f"{columns}\n^    primary_key: nr\n^    dedupe:\n" + "\n".join(f"^      {r}" for r in rules.splitlines())
    )


@pytest.mark.parametrize(
    ("rules", "at", "said"),
    [
        ("match: [[emial]]", "emial", 'column "emial" is not in the source. Did you mean "email"?'),
        ("match: [[email], ['lower(emial)']]", "emial", 'column "emial" is not in the source. Did you mean "email"?'),
        ('match:\n  - - email\n    - "lowr(half)"', "lowr", 'there is no function "lowr". Did you mean "lower"?'),
        (
            "match: [[email]]\nkeep: latest(changed)",
            "latest",
            "latest(changed) would compare texts, in which 9 comes after 10, and 31.12.2019 after 01.01.2020. Say what it "
            "is: latest(parse_date(changed, 'DD.MM.YYYY')), latest(changed::TIMESTAMP).",
        ),
        (
            "match: [[email]]\nkeep: [first, earliest(half)]",
            "earliest",
            "earliest(half) would compare texts, in which 9 comes after 10, and 31.12.2019 after 01.01.2020. Say what it "
            "is: earliest(parse_date(half, 'DD.MM.YYYY')), earliest(half::TIMESTAMP).",
        ),
        (
            "match: [[email]]\nkeep: [first, 'latest(half::TIMESTMP)']",
            "::TIMESTMP",
            'Type with name TIMESTMP does not exist! Did you mean "JSON"?',
        ),
        (
            "match: [[email]]\nkeep: latest(chnged::DATE)",
            "chnged",
            'column "chnged" is not in the source. Did you mean "changed"?',
        ),
        (
            "match: [[email]]\ncolumns: {email: 'latest( chnged::DATE)'}",
            "chnged",
            'column "chnged" is not in the source. Did you mean "changed"?',
        ),
        (
            "match: [[email]]\nkeep: newest",
            "newest",
            '"newest" is no rule of dedupe.keep. There are: first, last, latest(x), earliest(x), most_complete.',
        ),
        (
            "match: [[email]]\nkeep: most_frequent",
            "most_frequent",
            '"most_frequent" is no rule of dedupe.keep. There are: first, last, latest(x), earliest(x), most_complete.',
        ),
        (
            "match: [[email]]\nkeep: latest",
            "latest",
            '"latest" is no rule of dedupe.keep. There are: first, last, latest(x), earliest(x), most_complete.',
        ),
        (
            "match: [[email]]\nkeep: latest()",
            "latest()",
            '"latest()" is no rule of dedupe.keep. There are: first, last, latest(x), earliest(x), most_complete.',
        ),
        (
            "match: [[email]]\ncolumns: {email: first}",
            "first",
            '"first" is no rule of dedupe.columns. There are: filled, latest(x), earliest(x), most_complete, most_frequent.',
        ),
        (
            "match: [[email]]\ncolumns: {nr: filled}",
            "nr: filled",
            'dedupe.columns: "nr" is in the primary key: that is always the survivor\'s',
        ),
        (
            "match: [[email]]\ncolumns: {emial: filled}",
            "emial",
            'tables.children.dedupe.columns: the column "emial" is not among its columns. Did you mean "email"?',
        ),
        (
            "match: [email, changed]",
            "email, changed",
            'tables.children.dedupe.match must be a list of columns, not "email". '
            "[[a, b]] matches rows that agree in both, [[a], [b]] rows that agree in either.",
        ),
        ("match: []", "[]", "tables.children.dedupe.match is empty. It must be a column or a list of columns."),
        ("match: [[]]", "[]", "tables.children.dedupe.match is empty. It must be a column or a list of columns."),
        (
            "keep: first",
            "keep",
            'tables.children.dedupe lacks the key "match". The rules: rows match that agree in all columns of any rule, and '
            "what they match in turn: `[[email], [phone, born]]`.",
        ),
    ],
)
def test_what_is_refused_about_duplicates(rules: str, at: str, said: str) -> None:
    text = deduped(rules)
    assert refusal(text).splitlines() == [f"{place(text, at)}: {said}"]


def test_a_rule_finds_its_columns_and_what_it_computes_besides() -> None:
    dedupe = compiled(
        deduped(
            "match: [[email], ['trim(half)', changed]]\nkeep: [latest(changed::TIMESTAMP), most_complete]\n"
            "columns: {email: most_frequent, changed: filled}"
        )
    ).dedupe
    assert dedupe is not None
    assert [(rule.name, rule.merges, rule.blank_matches) for rule in dedupe.rules] == [
        ("email", True, False),
        ("trim(half), changed", True, False),
        ("key nr", True, True),
    ]
    assert dedupe.rules[0].columns == ("email",)
    assert dedupe.rules[1].columns[1] == "changed"
    assert [order.how for order in dedupe.keep] == ["latest", "most_complete"]
    assert [(name, order.how) for name, order in dedupe.columns] == [("email", "most_frequent"), ("changed", "filled")]


def test_without_dedupe_unique_keys_reject_and_under_upsert_the_last_one_wins() -> None:
    keyed = "email: lower(email)\n^    primary_key: nr"
    dedupe = compiled(text_of(keyed)).dedupe
    assert dedupe is not None
    assert [(r.name, r.merges) for r in dedupe.rules] == [("key nr", False)]
    assert [order.how for order in dedupe.keep] == ["first"]
    dedupe = compiled(text_of(f"{keyed}\n^    mode: upsert")).dedupe
    assert dedupe is not None
    assert [(r.name, r.merges) for r in dedupe.rules] == [("key nr", True)]
    assert [order.how for order in dedupe.keep] == ["last"]
    assert compiled(text_of("email: email")).dedupe is None


@pytest.mark.parametrize("kind", ["citext", "jsonb", "numeric", "interval"])
def test_keys_whose_equality_only_the_server_knows_are_left_to_it(kind: str) -> None:
    value = "pack(nr)" if kind == "jsonb" else "nr"
    to = TargetTable("public", "children", (column("nr", kind, nullable=False),), key=("nr",))
    spec = parse(text_of("").replace("      nr: nr", f"      nr: {value}"), PATH).tables["children"]
    schema = pa.schema([(name, pa.string()) for name in SOURCES["children"]])
    assert compile_table(spec, Table("children", schema), to, context()).dedupe is None


def test_a_reference_of_a_made_table_has_the_type_of_what_it_refers_to() -> None:
    typed = PROJECT.replace("code: lower(trim(no))", "code: {value: no, type: varchar(6)}")
    text = typed % {
        "parents": "    primary_key: code",
        "children": "      parent: {references: parents, by: parent}\n"
        "      own: {references: parents, by: parent, column: id, type: text}",
    }
    assert {c.name: c.type for c in compiled(text).target.columns} == {
        "nr": "text",
        "parent": "character varying(6)",
        "own": "text",
    }
    there = TargetTable("public", "parents", (column("code", "bigint", nullable=False),), key=("code",))
    assert compiled(text, {"parents": there}).target.columns[1].type == "bigint"


def test_the_constraint_that_says_what_a_reference_says_is_no_other_mapping() -> None:
    text = text_of("parent_id: {references: parents, by: parent}")
    assert compiled(text, {"children": CHILDREN}).digest == compiled(text, {"children": with_key("parent_id")}).digest
    other = text.replace("by: parent}", "by: parent, column: id, orphans: keep}")
    assert compiled(other, {"children": CHILDREN}).digest != compiled(text, {"children": CHILDREN}).digest
