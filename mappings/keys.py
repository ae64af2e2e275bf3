"""The table of the project file's keys: the parser, the JSON Schema and docs/project-file.md all come from it."""

from typing import Any

import yaml

from mappings import texts
from mappings.nodes import Reader
from mappings.shapes import (
    Key,
    Section,
    Shape,
    boolean,
    choice,
    converted,
    either,
    keys_of,
    many,
    named,
    number,
    refuse,
    text,
    whole,
)

# ------------------------------------------------------------------------------------------------------------- sources

_TEXT = text()
_ONE_CHARACTER = "Put the character in quotes."
_GLOBS = many(text("a glob", texts.not_empty, references=True), "a glob or a list of globs")
_SOURCE_NAMES = many(text("a name", texts.not_empty), "a name or a list of names")
_NAME_LIST = many(text("a name", texts.identifier), "a name or a list of names")
_NAMES_OR_NONE = many(text("a name", texts.identifier), "a name or a list of names", least=0)
_TEXTS = many(text(null=True), "a text or a list of texts", least=0)
_TABLES = named(_GLOBS, "a mapping of table to globs", texts.not_empty, least=1)
_FILES = either(
    "a glob, a list of globs, or a mapping of table to globs",
    lambda node: _TABLES if isinstance(node, yaml.MappingNode) else _GLOBS,
    _GLOBS,
    _TABLES,
)

LIMITS = Section(
    "Expected rows",
    "How many rows a table must have.",
    (
        Key("least", whole(), "At least so many.", "0"),
        Key("most", whole(), "At most so many.", "no limit"),
    ),
)
_COUNT_WORDS = "a number of rows, or {least: 1, most: 5000}"
_COUNT = whole(_COUNT_WORDS)
_TYPED = named(
    text("a type, as in integer, text, date DD.MM.YYYY or decimal de", texts.column_type),
    "a mapping of column to type",
    texts.not_empty,
    least=1,
)
_LAYOUT_WORDS = "a list of names, or a mapping of column to type"

EXPECT = Section(
    "What a table is expected to be",
    "What the files promise, checked by `migrate check` and before `migrate run` writes anything; see layout.md.",
    (
        Key(
            "columns",
            either(
                _LAYOUT_WORDS,
                lambda node: _TYPED if isinstance(node, yaml.MappingNode) else _SOURCE_NAMES,
                _SOURCE_NAMES,
                _TYPED,
            ),
            "The columns of each file: exactly these. With types, every value must fit its column's: `text`, a type of "
            "PostgreSQL, `boolean`, `date DD.MM.YYYY`, `timestamp DD.MM.YYYY HH24:MI` (several formats: `… or …`), "
            "`decimal de` or `decimal(10,2) de` (amounts as the locale writes them).",
            "any",
        ),
        Key("any_order", boolean(), "Whether the columns may stand in another order.", "false"),
        Key(
            "rows",
            either(
                _COUNT_WORDS,
                lambda node: LIMITS.shape if isinstance(node, yaml.MappingNode) else _COUNT,
                _COUNT,
                LIMITS.shape,
            ),
            "How many rows all files of the table hold together.",
            "any number",
        ),
        Key(
            "severity",
            choice("error", "warning"),
            "`error` refuses the run where an expectation is not met; `warning` only says so.",
            "error",
        ),
    ),
)
_EXPECT = Key(
    "expect",
    named(EXPECT.shape, "a mapping of table to what it is expected to be", texts.not_empty, least=1),
    "What tables of this source are expected to be, by their names.",
    "nothing",
)

FILES = Section(
    "A source of files",
    "Delimited text files. What is not said here is detected from the files; `migrate check` shows what was detected.",
    (
        Key(
            "files",
            _FILES,
            "Where the files are, from the project file's folder: globs. One glob or a list makes each file a table "
            "named after it; a mapping names the tables itself, each of one or more files. `.gz` is read too.",
            required=True,
        ),
        Key("encoding", text("an encoding", texts.encoding), "The files' encoding, as Python names it.", "detected"),
        Key(
            "delimiter",
            converted(
                "one ASCII character, or tab, comma, semicolon, pipe or space",
                {"type": "string"},
                texts.delimiter,
                hint=_ONE_CHARACTER,
            ),
            "What stands between two fields: a character, or `tab`, `comma`, `semicolon`, `pipe`, `space`.",
            "detected",
        ),
        Key(
            "quote",
            converted("one ASCII character, or none", {"type": "string"}, texts.sign_or_none, hint=_ONE_CHARACTER),
            "What stands around a field: one character, or `none`.",
            "detected",
        ),
        Key(
            "escape",
            converted("one ASCII character, or none", {"type": "string"}, texts.sign_or_none, hint=_ONE_CHARACTER),
            "What makes the next character a plain one, or `none`.",
            "detected",
        ),
        Key("header", boolean(), "Whether the first line names the columns.", "true"),
        Key("columns", _SOURCE_NAMES, "The columns' names, for files without a header or instead of it.", "the header"),
        Key(
            "nulls",
            _TEXTS,
            'Unquoted texts that mean NULL. A quoted field is never NULL, so `""` is an empty text.',
            "the empty field",
        ),
        Key("skip_lines", whole(), "How many lines to skip before the header.", "0"),
        Key(
            "ragged",
            choice("reject", "pad"),
            "What becomes of a row with too few fields: rejected, or padded with NULLs.",
            "reject",
        ),
        Key(
            "max_record_bytes",
            converted("a size, as in 16MB", {"type": ["string", "integer"]}, texts.size),
            "The longest row that is believed: a longer one is taken for an unclosed quote and rejected. "
            "`KB`, `MB` and `GB` are powers of 1024.",
            "16MB",
        ),
        Key(
            "trailer",
            text("a regular expression", texts.trailer),
            "The last lines of each file that match this regular expression from their beginning are no rows. What its "
            "group `rows` matches is how many rows the file must hold: `^TRL;(?P<rows>\\d+)`.",
            "none",
        ),
        _EXPECT,
    ),
    words="a mapping with `files`",
)

SHEET = Section(
    "A table in a workbook",
    "Where in the workbook a table stands. Without `tables`, each visible sheet is a table of the sheet's name.",
    (
        Key(
            "sheet",
            text("a sheet's name or number", texts.not_empty),
            "The sheet, by its name, or by its number among the visible ones, from 1.",
            "that of the name in `range`, or 1",
        ),
        Key(
            "range",
            text("cells, as in B3:K500, or a name", texts.not_empty),
            "The cells of header and rows: `B3:K500`, `B:K`, or the name of a range or of a table in the workbook.",
            "all that is used",
        ),
        Key(
            "header",
            text("a row number, rows as in 3-4, or none", texts.not_empty),
            "The row with the columns' names, by its number in the sheet; `3-4` joins two rows, as under merged cells.",
            "the first row that is not blank",
        ),
        Key("columns", _SOURCE_NAMES, "The columns' names, instead of the header's.", "the header"),
    ),
    words="a mapping",
)

EXCEL = Section(
    "A source of workbooks",
    "Excel workbooks (`.xlsx`, `.xlsm`, `.xlsb`, `.xls`). Every cell is read as text: numbers in their shortest exact "
    "form, dates in ISO 8601, truth values as `true` and `false`.",
    (
        Key("excel", _GLOBS, "Where the workbooks are, from the project file's folder: globs.", required=True),
        Key(
            "tables",
            named(SHEET.shape, "a mapping of table to where it stands", texts.not_empty, least=1),
            "The tables in the workbooks, by a name that you choose.",
            "each visible sheet",
        ),
        Key("hidden", boolean(), "Whether hidden sheets are tables too, where `tables` does not name them.", "false"),
        Key(
            "errors",
            choice("reject", "null"),
            "What a cell with an error (`#N/A`, `#REF!`) or with a date that is none becomes: its row is rejected, or it is "
            "NULL.",
            "reject",
        ),
        Key(
            "merged",
            choice("first", "fill"),
            "Whether the value of merged cells stands in their first cell only, or in all of them.",
            "first",
        ),
        _EXPECT,
    ),
    words="a mapping with `excel`",
)

RECORDS = Section(
    "A table in an XML file",
    "Which elements are the rows. Repeated children are a table of their own, whose columns may reach up: `../@no`. "
    "docs/xml.md says more.",
    (
        Key(
            "record",
            text("a path, as in /orders/order", texts.not_empty),
            "The path of the elements: `/orders/order`, or `//order` at any depth.",
            required=True,
        ),
        Key(
            "columns",
            named(text("a path", texts.not_empty), "a mapping of column to path", texts.not_empty, least=1),
            "The columns, each with its path from the record: `@no`, `ship/city`, `ship/@code`, `../@date`, `../head/date`, "
            "`.` for its whole text, `position()` for its place among its siblings.",
            "its attributes, and what its children hold that do not repeat: `ship/city` is `ship_city`",
        ),
    ),
    words="a mapping with `record`",
)

XML = Section(
    "A source of XML files",
    "XML files, streamed; `.gz` is read too. Every table is read from all of them, every value as text. Files with a "
    "DOCTYPE are refused.",
    (
        Key("xml", _GLOBS, "Where the files are, from the project file's folder: globs.", required=True),
        Key(
            "namespaces",
            named(text("a URI", texts.not_empty), "a mapping of prefix to URI", texts.not_empty),
            "The prefixes that the paths use.",
            "none",
        ),
        Key(
            "tables",
            named(RECORDS.shape, "a mapping of table to its records", texts.not_empty, least=1),
            "The tables in the files, by a name that you choose.",
            required=True,
        ),
        _EXPECT,
    ),
    words="a mapping with `xml`",
)

_SOURCE_WORDS = "a URL or a mapping with `files`, `excel` or `xml`"
_URL = text(_SOURCE_WORDS, texts.source_url, secret=True, references=True)


def _source_section(node: yaml.Node) -> Shape:
    if not isinstance(node, yaml.MappingNode):
        return _URL
    keys = keys_of(node)
    return (EXCEL if "excel" in keys else XML if "xml" in keys else FILES).shape


_SOURCE = either(_SOURCE_WORDS, _source_section, FILES.shape, EXCEL.shape, XML.shape, _URL)

# -------------------------------------------------------------------------------------------------------------- tables

_EXPRESSION = text("an SQL expression", texts.not_empty)

COLUMN = Section(
    "A column",
    "A target column is an SQL expression over the source's columns; where more is to be said, a mapping.",
    (
        Key("value", _EXPRESSION, "The SQL expression.", required=True),
        Key(
            "type",
            text("a PostgreSQL type", texts.not_empty),
            "The PostgreSQL type, for a table that the toolkit makes: `numeric(10,2)`.",
            "from the expression",
        ),
        Key("null", boolean(), "Whether the column may be NULL, for a table that the toolkit makes.", "true"),
    ),
    words="a mapping with `value`",
)

REFERENCE = Section(
    "A reference",
    "A target column that names a row of another table of this project. How that table makes its key is never repeated: "
    "cast, normalisation and the survivors of duplicates all come from there.",
    (
        Key("references", text("a table of this project", texts.plain_name), "The parent's table.", required=True),
        Key(
            "by",
            many(_EXPRESSION, "an SQL expression or a list of them", unique=False),
            "What identifies the parent, as SQL expressions over this table's source: one for each column of the "
            "parent's `key`, in its order.",
            required=True,
        ),
        Key(
            "column",
            text("a column's name", texts.identifier),
            "The parent's target column that is meant.",
            "its primary key",
        ),
        Key(
            "orphans",
            choice("reject", "null", "keep"),
            "What becomes of a row whose parent does not exist: it is rejected, its reference becomes NULL, or it is kept "
            "as it is. Either is counted.",
            "reject",
        ),
        COLUMN.keys[1],
        COLUMN.keys[2],
    ),
    words="a mapping with `references`",
)


def _column_section(node: yaml.Node) -> Shape:
    if not isinstance(node, yaml.MappingNode):
        return _EXPRESSION
    return (REFERENCE if keys_of(node) & {"references", "by", "orphans"} else COLUMN).shape


_COLUMN = either(
    "an SQL expression",
    _column_section,
    _EXPRESSION,
    COLUMN.shape,
    REFERENCE.shape,
    null_hint='For SQL\'s NULL write "NULL" in quotes.',
)

_RULE = many(_EXPRESSION, "a column or a list of columns")
_RULES_WORDS = "a column, or a list of lists of columns"
_RULES_HINT = "[[a, b]] matches rows that agree in both, [[a], [b]] rows that agree in either."


def _read_rules(reader: Reader, node: yaml.Node) -> Any:
    """A list of one level could mean either, and the wrong one would merge rows that are not the same."""
    if isinstance(node, yaml.SequenceNode) and len(node.value) > 1:
        flat = next((each for each in node.value if not isinstance(each, yaml.SequenceNode)), None)
        if flat is not None:
            return refuse(reader, flat, "a list of columns", _RULES_HINT)
    if isinstance(node, yaml.SequenceNode) and node.value and isinstance(node.value[0], yaml.SequenceNode):
        rules = [_RULE.read(reader, each) for each in node.value]
        return None if None in rules else tuple(rules)
    rule = _RULE.read(reader, node)
    return None if rule is None else (rule,)


_RULES = Shape(
    _RULES_WORDS,
    {"anyOf": [_RULE.schema, {"type": "array", "minItems": 1, "items": _RULE.schema}]},
    _read_rules,
)

DEDUPE = Section(
    "Duplicates",
    "Which rows are the same thing, and what of them lives on. Columns are target columns as mapped, or SQL expressions "
    "over the source's. NULL and the empty text match nothing. The target's unique keys match too: of rows that share "
    "one, only one can be loaded.",
    (
        Key(
            "match",
            _RULES,
            "The rules: rows match that agree in all columns of any rule, and what they match in turn: "
            "`[[email], [phone, born]]`.",
            required=True,
        ),
        Key(
            "keep",
            many(text("a rule", texts.not_empty), "a rule or a list of rules", unique=False),
            "Which row survives: `first`, `last`, `latest(x)`, `earliest(x)` (or any other order), `most_complete`. "
            "A list breaks ties; those that are left, the source key breaks, then the order of the source.",
            "first",
        ),
        Key(
            "columns",
            named(text("a rule", texts.not_empty), "a mapping of target column to rule", texts.identifier, least=1),
            "Target columns whose value is chosen for itself, among all rows of the cluster: `filled` (the first that is "
            "not NULL, in the order of `keep`), `latest(x)`, `earliest(x)`, `most_complete` (the longest), `most_frequent`.",
            "the survivor's values",
        ),
    ),
    words="a mapping with `match`",
)

NUL = Section(
    "nul",
    "What a NUL character in a text becomes, where it is neither rejected nor stripped.",
    (Key("replace", _TEXT, "The text to put in its place.", required=True),),
)
_NUL_WORDS = choice("reject", "strip")
_NUL = either(
    "reject, strip or {replace: text}",
    lambda node: NUL.shape if isinstance(node, yaml.MappingNode) else _NUL_WORDS,
    _NUL_WORDS,
    NUL.shape,
)

MAX_REJECTS = Section(
    "max_rejects",
    "How many rows of a table may be rejected before the run stops: whichever is reached first.",
    (
        Key("rows", whole(), "A number of rows.", "10000"),
        Key("percent", number("a number from 0 to 100", 0, 100), "A share of the table's rows.", "no limit"),
    ),
)
_BUDGET = "a number of rows, a percentage as in 1%, or {rows: 500, percent: 1}"
_ROWS = whole(_BUDGET)
_PERCENT = converted(
    "a percentage from 0% to 100%", {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? ?%$"}, texts.percent
)


def _budget(node: yaml.Node) -> Shape:
    if isinstance(node, yaml.MappingNode):
        return MAX_REJECTS.shape
    return _PERCENT if isinstance(node, yaml.ScalarNode) and node.value.endswith("%") else _ROWS


_MAX_REJECTS = either(_BUDGET, _budget, _ROWS, _PERCENT, MAX_REJECTS.shape)

_SHARED = (
    Key(
        "mode",
        choice("append", "upsert", "replace"),
        "`append` adds rows; `upsert` overwrites rows with the same key; `replace` empties the table first.",
        "append",
    ),
    Key("nullif", _TEXTS, "Texts that mean NULL, in every column.", "none"),
    Key("nul", _NUL, "What becomes of a row with a NUL character: `reject`, `strip` or `{replace: text}`.", "reject"),
    Key(
        "on_bad_row",
        choice("quarantine", "abort"),
        "`quarantine` keeps a bad row, with its reason, and goes on; `abort` stops the run at the first.",
        "quarantine",
    ),
    Key(
        "max_rejects",
        _MAX_REJECTS,
        "How many rejected rows stop the run: `500` (rows only), `1%` (and at most 10,000 rows), or both.",
        "1% and at most 10,000 rows",
    ),
)

TABLE = Section(
    "A table",
    "What one target table is filled from, and how.",
    (
        Key(
            "from",
            many(text("source.table", texts.source_table), "source.table or a list of them"),
            "The source and its table: `crm.customers`. A list of them is read as one table, in this order: with all "
            "their columns, NULL where a source table lacks one, and `_source`, which says where a row is from.",
            required=True,
        ),
        Key(
            "to",
            text("table or schema.table", texts.target_table),
            "The target table.",
            "the table's name here, in schema public",
        ),
        Key(
            "key", _SOURCE_NAMES, "The source columns that identify a row, for the quarantine and for messages.", "none"
        ),
        Key(
            "columns",
            named(_COLUMN, "a mapping of target column to SQL expression", texts.identifier, least=1),
            "The target columns, each with the SQL expression that makes it.",
            required=True,
        ),
        _SHARED[0],
        Key("on", _NAME_LIST, "With `mode: upsert`, the target columns that tell rows apart.", "the primary key"),
        Key(
            "where",
            text("an SQL condition", texts.not_empty),
            "Which source rows are wanted, as an SQL condition; the others are counted as filtered.",
            "all",
        ),
        Key(
            "primary_key",
            _NAME_LIST,
            "The target columns of the primary key, for a table that the toolkit makes.",
            "none",
        ),
        *_SHARED[1:],
        Key(
            "dedupe",
            DEDUPE.shape,
            "Duplicates among the rows, and which of them live on.",
            "no duplicates are looked for",
        ),
        Key("personal", _NAMES_OR_NONE, "Target columns with personal data: reports and listings mask them.", "none"),
    ),
    later=("expect",),
)

DEFAULTS = Section("Defaults", "What holds for every table that does not say otherwise.", _SHARED)

# ----------------------------------------------------------------------------------------------- lookups and functions

LOOKUP = Section(
    "A code table in a file",
    "Two columns of a CSV file in UTF-8. A code table can also be written in place: `{DE: Germany, FR: France}`.",
    (
        Key("file", text("a path", texts.not_empty), "The file, from the project file's folder.", required=True),
        Key("key", text("a column's name", texts.not_empty), "The column with the codes, each once.", required=True),
        Key("value", text("a column's name", texts.not_empty), "The column with what they stand for.", required=True),
    ),
)
_CODES = named(
    text("a text; '' is the empty one"), "a mapping of code to text, or {file, key, value}", texts.anything, least=1
)
_LOOKUP = either(
    "a mapping of code to text, or {file, key, value}",
    lambda node: LOOKUP.shape if "file" in keys_of(node) or {"key", "value"} <= keys_of(node) else _CODES,
    LOOKUP.shape,
    _CODES,
)

_TYPE = text("a type of DuckDB", texts.duckdb_type)

FUNCTION = Section(
    "A function",
    "A function of your own, from a Python file: it takes whole columns and returns one of the same length.",
    (
        Key("file", text("a path", texts.not_empty), "The Python file, from the project file's folder.", required=True),
        Key("function", text("a name", texts.not_empty), "Its name in the file.", "the same name"),
        Key(
            "arguments",
            many(_TYPE, "a type of DuckDB or a list of them", unique=False),
            "The types of its arguments, as DuckDB names them.",
            "[VARCHAR]",
        ),
        Key("returns", _TYPE, "The type of what it returns.", "VARCHAR"),
        Key(
            "style",
            choice("pandas", "arrow"),
            "Whether it takes and returns pandas Series or Arrow arrays.",
            "pandas",
        ),
    ),
)

# ------------------------------------------------------------------------------------------------------- notifications

_OUTCOME = text("success or failure", texts.outcome, pattern="^(success|failure)$")

NOTIFY = Section(
    "Notifications",
    "Who is told how a `run` ended: a command, a webhook, or both; each gets a JSON summary, docs/reports.md says what is "
    "in it. `${env:NAME}` is replaced in all texts, and what replaces it is kept out of every message.",
    (
        Key(
            "command",
            text("a command", texts.shell_words, secret=True, references=True),
            "A command and its arguments, run without a shell in the project file's folder: `./tell.sh ops`. The summary "
            "comes on its standard input.",
        ),
        Key(
            "webhook",
            text("a URL", texts.webhook, secret=True, references=True),
            "Where the summary is posted: best kept in the environment, `${env:HOOK_URL}`. It is never shown in full.",
        ),
        Key(
            "on",
            many(_OUTCOME, "success, failure or both"),
            "Whether success is told, or failure: whatever does not end with exit code 0.",
            "both",
        ),
        Key(
            "headers",
            named(text("a text", secret=True, references=True), "a mapping of header to text", texts.header),
            'What is sent with the webhook besides: `{Authorization: "Bearer ${env:HOOK_TOKEN}"}`.',
        ),
    ),
    words="a mapping with `command` or `webhook`",
)

# ------------------------------------------------------------------------------------------------------------ the whole

PROJECT = Section(
    "The project file",
    "One file says what goes where. `${env:NAME}` in `target`, in a source's URL, in its `files` and in `notify` is "
    "replaced by the environment variable; a user or password in a URL is escaped, so set it as it is.",
    (
        Key(
            "migration",
            text("a name", texts.migration, pattern="^[a-z0-9_]{1,63}$"),
            "The migration's name, the namespace of every uuid that it makes. Never change it.",
            required=True,
        ),
        Key(
            "target",
            text("a URL", texts.target_url, secret=True, references=True),
            "The target database: `postgresql://host:5432/database`, best kept in the environment: "
            "`${env:TARGET_URL}`.",
            required=True,
        ),
        Key(
            "timezone",
            text("a time zone", texts.timezone),
            "The IANA zone of source times that name none: `Europe/Berlin`.",
            "none: such times are refused where a zone is needed",
        ),
        Key("defaults", DEFAULTS.shape, "What holds for every table that does not say otherwise."),
        Key(
            "sources",
            named(_SOURCE, "a mapping of name to source", texts.plain_name, least=1),
            "Where the data comes from, by a name that you choose: files, or a URL.",
            required=True,
        ),
        Key(
            "tables",
            named(TABLE.shape, "a mapping of name to table", texts.plain_name, least=1),
            "What is loaded, by a name that you choose.",
            required=True,
        ),
        Key(
            "lookups",
            named(_LOOKUP, "a mapping of name to code table", texts.plain_name),
            "Code tables, by the name that `lookup('name', Column)` uses.",
        ),
        Key(
            "functions",
            named(FUNCTION.shape, "a mapping of name to function", texts.function_name),
            "Functions of your own, by the name that expressions use.",
        ),
        Key("notify", NOTIFY.shape, "Who is told how a run ended.", "nobody"),
    ),
)

SECTIONS = (
    PROJECT,
    FILES,
    EXCEL,
    SHEET,
    XML,
    RECORDS,
    EXPECT,
    LIMITS,
    TABLE,
    COLUMN,
    REFERENCE,
    DEDUPE,
    DEFAULTS,
    NUL,
    MAX_REJECTS,
    LOOKUP,
    FUNCTION,
    NOTIFY,
)
