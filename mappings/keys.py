"""The table of the project file's keys: the parser, the JSON Schema and docs/project-file.md all come from it."""

import yaml

from mappings import texts
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
    ),
    words="a mapping with `files`",
)

SHEET = Section(
    "A table in a workbook",
    "Where in the workbook a table stands. Without `tables`, each visible sheet is a table of the sheet's name.",
    (
        Key("sheet", text("a sheet's name or number", texts.not_empty), "The sheet, by name or by number from 1.", "1"),
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
            "What an error cell (`#N/A`, `#REF!`) becomes: its row is rejected, or it is NULL.",
            "reject",
        ),
        Key(
            "merged",
            choice("first", "fill"),
            "Whether the value of merged cells stands in their first cell only, or in all of them.",
            "first",
        ),
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
    later=("references", "by", "orphans"),
)

_COLUMN = either(
    "an SQL expression",
    lambda node: COLUMN.shape if isinstance(node, yaml.MappingNode) else _EXPRESSION,
    _EXPRESSION,
    COLUMN.shape,
    null_hint='For SQL\'s NULL write "NULL" in quotes.',
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
            text("source.table", texts.source_table),
            "The source and its table: `crm.customers`.",
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
        Key("personal", _NAMES_OR_NONE, "Target columns with personal data: reports and listings mask them.", "none"),
    ),
    later=("dedupe", "expect"),
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

# ------------------------------------------------------------------------------------------------------------ the whole

PROJECT = Section(
    "The project file",
    "One file says what goes where. `${env:NAME}` in `target`, in a source's URL and in its `files` is replaced by the "
    "environment variable; a user or password in a URL is escaped, so set it as it is.",
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
    ),
    later=("notify",),
)

SECTIONS = (PROJECT, FILES, EXCEL, SHEET, XML, RECORDS, TABLE, COLUMN, DEFAULTS, NUL, MAX_REJECTS, LOOKUP, FUNCTION)
