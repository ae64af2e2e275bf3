"""The table of the project file's keys: the parser, the JSON Schema and docs/project-file.md all come from it."""

from mappings import texts
from mappings.expectkeys import BETWEEN, CHECK, ROWS, TABLE_EXPECT
from mappings.restkeys import OAUTH, PAGES, RESOURCE
from mappings.shapes import (
    Key,
    Section,
    choice,
    either,
    keys_of,
    many,
    named,
    text,
)
from mappings.sourcekeys import DATABASE, EXCEL, EXPECT, FILES, JSON, PACE, RECORDS, REST, SHEET, SOURCE, SPARED, XML
from mappings.tablekeys import COLUMN, DEDUPE, DEFAULTS, MAX_REJECTS, NUL, REFERENCE, TABLE

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
    "One file says what goes where. `${env:NAME}` in `target`, in a source's URL, in its `files`, in what an API is sent and in "
    "`notify` is replaced by the environment variable; a user or password in a URL is escaped, so set it as it is.",
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
            named(SOURCE, "a mapping of name to source", texts.plain_name, least=1),
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
    DATABASE,
    FILES,
    EXCEL,
    SHEET,
    XML,
    RECORDS,
    JSON,
    REST,
    RESOURCE,
    PAGES,
    OAUTH,
    EXPECT,
    ROWS,
    BETWEEN,
    SPARED,
    PACE,
    TABLE,
    COLUMN,
    REFERENCE,
    DEDUPE,
    TABLE_EXPECT,
    CHECK,
    DEFAULTS,
    NUL,
    MAX_REJECTS,
    LOOKUP,
    FUNCTION,
    NOTIFY,
)
