"""The project file's text: what it says, what is wrong with it, and where."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mappings.spec import Budget, Expected, Fault, Mark, ProjectSpec, faults_error, parse, suggest
from migrate.errors import UsageError

HERE = Path(__file__).parent
HEAD = """\
migration: acme
target: ${env:TARGET_URL}
sources: {crm: {files: "*.csv"}}
"""
CUSTOMERS = "tables:\n  customers:\n    from: crm.customers\n"


def project(text: str) -> ProjectSpec:
    return parse(text, Path("migrate.yaml"))


def faults(text: str) -> list[str]:
    with pytest.raises(UsageError) as caught:
        project(text)
    return caught.value.message.splitlines()


def table(body: str, *, head: str = HEAD) -> str:
    lines = body.splitlines()
    if not any(line.startswith("columns") for line in lines):
        lines.append("columns: {id: CustomerID}")
    return head + CUSTOMERS + "".join(f"    {line}\n" for line in lines)


def test_a_whole_file_says_what_it_says() -> None:
    spec = project(
        """\
migration: acme
target: postgresql://${env:USER}@db/acme
timezone: Europe/Berlin
defaults: {mode: replace, nullif: ["", NULL], max_rejects: 500}
sources:
  crm: {files: "landing/crm/*.csv", encoding: cp1252, delimiter: tab, quote: none, header: false,
        columns: [a, b], skip_lines: 2, ragged: pad, max_record_bytes: 4MB, nulls: ["", \\N]}
  pos: {files: {sales: [a.csv, b.csv], shops: shops.csv}}
  erp: mysql://${env:ERP_USER}:${env:ERP_PASSWORD}@erp/legacy
tables:
  customers:
    from: crm.customers
    to: sales.clients
    key: [a, b]
    mode: upsert
    on: id
    where: Status <> 'TEST'
    primary_key: id
    columns:
      id: uuid(a)
      total: {value: "parse_money(b, 'de')", type: "numeric(10,2)", null: false}
      one: 1
    nul: {replace: "?"}
    on_bad_row: abort
    max_rejects: {rows: 7, percent: 2.5}
    personal: [id]
  sales: {from: pos.sales, columns: {id: x}}
lookups:
  country: {DE: Germany, NO: Norway, 007: Bond, "": unknown}
  state: {file: states.csv, key: code, value: name}
functions:
  shout: {file: f.py, arguments: [VARCHAR, "DECIMAL(10, 2)"], style: arrow}
"""
    )
    assert (spec.migration, spec.timezone) == ("acme", "Europe/Berlin")
    crm, pos, erp = spec.sources.values()
    assert crm.files == {"": ("landing/crm/*.csv",)}
    assert crm.options == {
        "encoding": "cp1252",
        "delimiter": "\t",
        "quote": "",
        "header": False,
        "columns": ("a", "b"),
        "skip_lines": 2,
        "ragged": "pad",
        "max_record_bytes": 4 << 20,
        "nulls": ("", "\\N"),
    }
    assert pos.files == {"sales": ("a.csv", "b.csv"), "shops": ("shops.csv",)}
    assert erp.url == "mysql://${env:ERP_USER}:${env:ERP_PASSWORD}@erp/legacy"
    customers, sales = spec.tables.values()
    assert customers.origins == (("crm", "customers"),)
    assert (customers.target_schema, customers.target_name) == ("sales", "clients")
    assert (customers.key, customers.mode, customers.on) == (("a", "b"), "upsert", ("id",))
    assert (customers.where, customers.primary_key, customers.personal) == ("Status <> 'TEST'", ("id",), ("id",))
    assert (customers.nul, customers.on_bad_row, customers.max_rejects) == ("replace:?", "abort", Budget(7, 0.025))
    assert [(c.name, c.expression, c.type, c.nullable) for c in customers.columns] == [
        ("id", "uuid(a)", None, True),
        ("total", "parse_money(b, 'de')", "numeric(10,2)", False),
        ("one", "1", None, True),
    ]
    assert (sales.target_schema, sales.target_name, sales.mode) == ("public", "sales", "replace")
    assert (sales.nullif, sales.max_rejects) == (("", "NULL"), Budget(500, 1.0))
    assert spec.lookups["country"].entries == {"DE": "Germany", "NO": "Norway", "007": "Bond", "": "unknown"}
    assert (spec.lookups["state"].file, spec.lookups["state"].key) == ("states.csv", "code")
    shout = spec.functions["shout"]
    assert (shout.function, shout.arguments, shout.returns) == ("shout", ("VARCHAR", "DECIMAL(10, 2)"), "VARCHAR")
    assert [name for name, _ in spec.references] == ["USER", "ERP_USER", "ERP_PASSWORD"]


def test_every_fault_of_a_bad_file_is_told_at_once_in_the_order_of_the_file() -> None:
    text = (HERE / "faulty.yaml").read_text()
    assert "\n".join(faults(text)) + "\n" == (HERE / "faulty.txt").read_text()


def test_secrets_in_a_faulty_url_are_not_repeated() -> None:
    told = "\n".join(faults("target: mysql://admin:hunter2@db\nsources: {a: hunter2, b: [hunter2]}\n"))
    assert "hunter2" not in told
    told = "\n".join(faults("sources: {'mysql://u:hunter2@h/x': y}\n"))
    assert 'the name "mysql://***@h/x"' in told


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("", "1:1", "the file is empty"),
        ("# nothing\n", "1:1", "the file is empty"),
        ("- a\n", "1:1", "the project file must be a mapping, not a list"),
        ("just words", "1:1", "the project file must be a mapping"),
        ("a:\n\tb: 1\n", "2:1", "a tab where only spaces may indent"),
        ("a: 'x\n\n\n", "1:4", "a quote that is opened here is never closed"),
        ("a: [1, 2\n", "2:1", 'a "[" that is not closed before here'),
        ("a: @x\n", "1:4", "cannot begin with this character"),
        ("a: b: c\n", "1:5", "a text that holds a colon in quotes"),
        ('a: "First Name" || x\n', "1:18", "quotes around the whole"),
        ("a: 1\nb: *x\n", "2:4", "no anchor"),
        ("a: 1\n---\nb: 2\n", "2:1", "a second document"),
        ("a: 1\nb: \x07\n", "2:4", "a control character (U+0007)"),
        ('a: "\\UFFFFFFFF"\n', "1:1", "out of range"),
        ("[" * 5000, "1:1", "nested too deep"),
    ],
)
def test_what_is_no_yaml_is_told_in_plain_words(text: str, place: str, says: str) -> None:
    (told,) = faults(text)
    assert told.startswith(f"migrate.yaml:{place}: ")
    assert says in told


@pytest.mark.parametrize(
    ("body", "place", "says"),
    [
        ("mode: replace\nmode: append", "8:5", '"mode" stands twice in tables.customers, first on line 7'),
        ("columns: {id: a, id: b}", "7:22", '"id" stands twice in tables.customers.columns'),
        ("columns: {id: ~}", "7:19", "must be an SQL expression, not nothing"),
        ("columns: {id: [a]}", "7:19", "must be an SQL expression, not a list"),
        ("columns: {[a]: b}", "7:15", "must be a text, not a list"),
        ("columns: {id: '  '}", "7:20", "is empty"),
        ("columns: {id: !!binary aGk=}", "7:19", "YAML tags are not supported"),
        ("columns: {<<: {a: b}, id: x}", "7:15", "merge keys (<<) are not supported"),
        ('columns: {id: "a\\0"}', "7:20", "holds U+0000"),
        ('columns: {id: "\\uD800"}', "7:20", "holds U+D800"),
        (f"columns: {{{'é' * 32}: x}}", "7:15", "64 bytes long"),
        ("columns: {id: {value: a, references: b, by: c}}", "7:20", 'unknown key "value"'),
        ("columns: {id: {references: custmers, by: c}}", "7:32", 'Did you mean "customers"?'),
        ("columns: {id: {references: customers}}", "7:19", 'lacks the key "by"'),
        ("columns: {id: {references: customers, by: c, orphans: drop}}", "7:59", "reject, null or keep"),
        ("columns: {id: {value: uuid(a, b), type: x}}", "7:35", "a comma ends a value"),
        ("columns: {}", "7:14", "is empty"),
        ("dedupe: {keep: first}", "7:13", 'lacks the key "match"'),
        ("dedupe: {match: [a, b]}", "7:22", "[[a, b]] matches rows that agree in both"),
        ("dedupe: {match: a, columns: {emial: filled}}", "7:34", '"emial" is not among its columns'),
        ("on: id", "7:5", '"on" says nothing without'),
        ("mode: upsert\non: [id, emial]\ncolumns: {id: a, email: b}", "8:14", 'Did you mean "email"?'),
        ("primary_key: [id, id]", "7:23", '"id" twice'),
        ("where: [a]", "7:12", "an SQL condition, not a list"),
        ("to: a.b.c", "7:9", "table or schema.table"),
        ("max_rejects: 1.5", "7:18", "a number of rows, a percentage"),
        ("max_rejects: {percent: 200}", "7:28", "from 0 to 100"),
        ("max_rejects: no", "7:18", 'not "no"'),
        ("nul: drop", "7:10", "reject or strip"),
        ("key: []", "7:10", "is empty"),
    ],
)
def test_what_is_wrong_in_a_table_is_told_at_its_place(body: str, place: str, says: str) -> None:
    told = faults(table(body))
    assert any(line.startswith(f"migrate.yaml:{place}: ") and says in line for line in told), told


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("landing/*.csv", "is no URL; for files write"),
        ("{files: []}", "is empty"),
        ("{encoding: cp1252}", 'lacks the key "files"'),
        ("{files: a, encoding: base64}", "is no encoding"),
        ("{files: a, delimiter: ';;'}", "one ASCII character, or tab, comma"),
        ("{files: a, header: 'no'}", "true or false"),
        ("{files: a, header: on}", "true or false"),
        ("{files: a, max_record_bytes: 0}", "a size, as in 16MB"),
        ("{files: a, skip_lines: -1}", "a whole number"),
        ("{files: a, columns: [x, x]}", '"x" twice'),
        ("{files: a, trailer: '('}", "sources.crm.trailer is no regular expression"),
        ("{files: a, trailer: '(?i)^trl'}", "and flags as in (?i:…)"),
        (
            "{files: a, expect: {customrs: {rows: 1}}}",
            'no table of the project reads crm.customrs. Did you mean "customers"?',
        ),
        ("{files: a, expect: {other: {rows: 1}}}", "take it out, or map the table"),
        ("{files: a, expect: {customers: {}}}", "sources.crm.expect.customers expects nothing"),
        ("{files: a, expect: {customers: {any_order: true, rows: 1}}}", '"any_order" says nothing without `columns`'),
        ("{files: a, expect: {customers: {rows: -1}}}", "a number of rows, or {least: 1, most: 5000}"),
        ("{files: a, expect: {customers: {rows: {least: 2, most: 1}}}}", "`most` is less than `least`"),
        ("{files: a, expect: {customers: {columns: [a, A]}}}", '"A" and "a" differ in case only'),
        ("{files: a, expect: {customers: {columns: [a, a]}}}", '"a" twice'),
        ("{files: a, expect: {customers: {columns: {a: }}}}", "a type, as in integer, text"),
        ("{files: a, expect: {customers: {columns: {a: strng}}}}", 'has no type that is known: "strng"'),
        ("{files: a, expect: {customers: {columns: {a: decimal xy}}}}", 'has no known locale in "decimal xy"'),
        ("{files: a, expect: {customers: {columns: {a: date DD.MM}}}}", "has a format that cannot be read"),
        ("{files: a, expect: {customers: {columns: {a: date YYYY-MM-DD HH24:MI}}}}", "write timestamp"),
        ("{files: a, expect: {customers: {rows: 1, severity: info}}}", "error or warning"),
        ("{excel: a, expect: {customers: {rows: x}}}", "a number of rows, or"),
        ("{files: '${TARGET_URL}/x'}", "Write ${env:TARGET_URL}."),
        ("{files: '${env:X'}", "not closed"),
        ("'mysql://${secret:x}'", "${secret:…} is not supported"),
    ],
)
def test_what_is_wrong_in_a_source_is_told(source: str, says: str) -> None:
    assert any(says in line for line in faults(table("", head=HEAD.replace('{files: "*.csv"}', source))))


def test_an_unknown_source_or_table_of_it_is_met_with_what_was_meant() -> None:
    assert "Did you mean" in faults(table("").replace("crm.customers", "crn.customers"))[0]
    head = HEAD.replace('"*.csv"', "{customer: c.csv}")
    assert faults(table("", head=head)) == [
        'migrate.yaml:6:11: the source "crm" has no table "customers". Did you mean "customer"?'
    ]


def test_what_is_expected_of_a_source_says_what_it_says() -> None:
    head = HEAD.replace(
        '"*.csv"}',
        '"*.csv", expect: {customers: {columns: {Nr: integer, Geboren: date DD.MM.YYYY}, rows: 5}, '
        "b: {columns: [x, y], any_order: true, severity: warning}, c: {rows: {most: 7}}}}",
    )
    others = "".join(f"  {name}: {{from: crm.{name}, columns: {{id: x}}}}\n" for name in "bc")
    crm = project(table("", head=head) + others).sources["crm"]
    assert crm.options == {}
    assert crm.expect == {
        "customers": Expected("customers", (("Nr", "integer"), ("Geboren", "date DD.MM.YYYY")), least=5, most=5),
        "b": Expected("b", (("x", ""), ("y", "")), any_order=True, severity="warning"),
        "c": Expected("c", least=0, most=7),
    }


def test_several_sources_of_a_table_are_checked_each_at_its_place() -> None:
    spec = project(table("").replace("crm.customers", "[crm.customers, crm.old]")).tables["customers"]
    assert spec.origins == (("crm", "customers"), ("crm", "old"))
    assert spec.came_from == spec.source_table == "crm.customers + crm.old"
    told = faults(table("").replace("crm.customers", "[crm.customers, crn.old, crm]"))
    assert told[0].startswith('migrate.yaml:6:27: tables.customers reads from the source "crn", which is not declared.')
    assert told[1].startswith("migrate.yaml:6:36: tables.customers.from must be source.table")
    assert '"crm.a" twice' in faults(table("").replace("crm.customers", "[crm.a, crm.a]"))[0]


def test_two_tables_cannot_fill_one_target() -> None:
    text = table("") + "  clients: {from: crm.x, to: public.customers, columns: {id: a}}\n"
    assert "clients writes public.customers, as tables.customers does" in faults(text)[0]


def test_yaml_does_not_rename_or_renumber_anything() -> None:
    spec = project(table("mode: upsert\non: off\ncolumns: {off: no, n: 012, d: 2020-01-01, t: true, f: 1_000}"))
    customers = spec.tables["customers"]
    assert customers.on == ("off",)
    assert [c.expression for c in customers.columns] == ["no", "012", "2020-01-01", "true", "1_000"]


def test_anchors_save_typing() -> None:
    text = table("columns: &shared {id: a}") + "  clients: {from: crm.x, columns: *shared}\n"
    assert project(text).tables["clients"].columns[0].expression == "a"
    told = faults("migration: &a [*a]\ntables: &t {x: *t}\n")
    assert any("migration must be a name, not a list" in line for line in told)


def test_a_byte_order_mark_and_windows_line_ends_move_no_place() -> None:
    text = table("mode: apend")
    assert faults("\ufeff" + text.replace("\n", "\r\n")) == faults(text)


@pytest.mark.parametrize(
    ("written", "word", "place"),
    [
        ("id: lower(Emial)", "Emial", (8, 17)),
        ("id: 'x = ''a'' or Emial'", "Emial", (8, 25)),
        ('id: "x \\"y\\" \\u00e9 Emial"', "Emial", (8, 27)),
        ("id: |\n  case\n    when Emial\n  end", "Emial", (10, 16)),
        ("id: >-\n  a +\n  Emial\n\n  + b", "Emial", (10, 9)),
        ("id: a +\n  Emial", "Emial", (9, 9)),
        ('id: "a \\\n  Emial"', "Emial", (9, 9)),
        ("id: {type: text, value: a+Emial}", "Emial", (8, 33)),
        ("id: |2\n   a\n\n\n   Emial", "Emial", (12, 10)),
    ],
)
def test_a_word_inside_an_expression_is_found_where_it_stands(written: str, word: str, place: tuple[int, int]) -> None:
    text = table("columns:\n" + "".join(f"  {line}\n" for line in written.splitlines()))
    (column,) = project(text).tables["customers"].columns
    mark = column.at(column.expression.index(word))
    assert mark == Mark(*place)
    assert text.splitlines()[mark.line - 1][mark.column - 1 :].startswith(word)


def test_a_word_inside_a_condition_is_found_where_it_stands() -> None:
    spec = project(table("where: a <> Emial"))
    assert spec.tables["customers"].where_at(5) == Mark(7, 17)


WORDS = st.text(alphabet="aé\"'\\#:,[]{}|> \n\t0-&*", min_size=1, max_size=12).map(lambda text: f"x{text}x")


@settings(max_examples=150, deadline=None)
@given(WORDS, st.sampled_from(["'", '"', "|", ">", ""]))
def test_each_character_of_an_expression_stands_where_it_is_said_to(expression: str, style: str) -> None:
    dumped = yaml.dump({"tables": {"customers": {"from": "crm.customers", "columns": {"id": expression}}}},
                       default_style=style, allow_unicode=True)  # fmt: skip
    text = HEAD + dumped.replace("!!null", "")
    (column,) = project(text).tables["customers"].columns
    assert column.expression == expression
    lines = text.splitlines()
    for offset, character in enumerate(expression):
        mark = column.at(offset)
        if not character.isspace():
            assert lines[mark.line - 1][mark.column - 1] in (character, "\\")


KEYS = st.sampled_from(
    re.findall(
        r"\w+",
        "migration target sources tables files from to key on columns value type null lookups functions file defaults"
        " mode nul replace max_rejects rows percent nullif encoding crm customers id x",
    )
)
LEAVES = st.one_of(st.text(max_size=8), st.integers(), st.booleans(), st.none(), st.floats(), KEYS, st.just("crm.x"))
TREES = st.recursive(LEAVES, lambda tree: st.lists(tree, max_size=3) | st.dictionaries(KEYS, tree, max_size=5))


def refused_or_read(text: str) -> None:
    try:
        assert isinstance(project(text), ProjectSpec)
    except UsageError as error:
        assert all(line.startswith("migrate.yaml:") for line in error.message.split("\n"))  # noqa: PT017


@settings(max_examples=200, deadline=None)
@given(TREES)
def test_any_tree_is_read_or_refused(tree: object) -> None:
    refused_or_read(yaml.safe_dump(tree))


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab:{}[]'\"|>&*!%@`#,?-~ \n\t\r\\\0\x85\u2028\ufeff01<=$", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    refused_or_read(text)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_damage_to_a_good_file_is_read_or_refused(data: st.DataObject) -> None:
    good = (HERE.parent.parent / "examples" / "shop" / "migrate.yaml").read_text()
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(len(good), start + 20)))
    refused_or_read(good[:start] + data.draw(st.text(max_size=5)) + good[end:])


def test_faults_are_sorted_told_once_and_carry_their_hints() -> None:
    late, early = Fault(Mark(9, 1), "late"), Fault(Mark(2, 10), "early", suggest("emial", ["email", "phone"]))
    error = faults_error(Path("migrate.yaml"), [late, early, late])
    assert error.message == 'migrate.yaml:2:10: early. Did you mean "email"?\nmigrate.yaml:9:1: late'
    assert suggest("zzz", ["email"]) == ""


def test_the_path_in_a_fault_is_the_short_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    error = faults_error(tmp_path / "migrate.yaml", [Fault(Mark(1, 2), "x")])
    assert error.message == "../migrate.yaml:1:2: x"


@pytest.mark.parametrize(
    ("notify", "said"),
    [
        ("{}", "notify names neither a command nor a webhook"),
        ("{on: failure}", "notify names neither a command nor a webhook"),
        ("{command: x, headers: {A: b}}", "notify.headers says nothing without a webhook"),
        ("{command: 'a \"b'}", "notify.command has a quote that is not closed"),
        ("{command: ' '}", "notify.command is empty"),
        ("{webhook: 'mailto:s3cret@example.com'}", "notify.webhook must be a URL that begins with https:// or http://"),
        (
            "{webhook: 'https://x/', headers: {'A b': c}}",
            'the name "A b" in notify.headers is no name of an HTTP header',
        ),
        ("{command: x, on: always}", 'notify.on must be success or failure, not "always"'),
        ("{command: x, on: [failure, failure]}", 'notify.on has "failure" twice'),
        ("{comand: x}", 'unknown key "comand" in notify. Did you mean "command"?'),
    ],
)
def test_who_is_told_must_be_somebody(notify: str, said: str) -> None:
    found = faults(table("", head=HEAD + f"notify: {notify}\n"))
    assert any(said in fault for fault in found), found
    assert "s3cret" not in "".join(found)
