"""The keys of a source in the project file: files of all kinds, databases; what files promise, how hard all are worked."""

from dataclasses import replace
from typing import Any

import yaml

from mappings import texts
from mappings.expectkeys import COUNT, OF_ROWS
from mappings.nodes import Reader
from mappings.restkeys import API
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
    names,
    or_mapping,
    text,
    whole,
)

_ONE_CHARACTER = "Put the character in quotes."
_GLOBS = many(text("a glob", texts.not_empty, references=True), "a glob or a list of globs")
SOURCE_NAMES = names(texts.not_empty)
TEXTS = many(text(null=True), "a text or a list of texts", least=0)
_TABLES = named(_GLOBS, "a mapping of table to globs", texts.not_empty, least=1)
_FILES = or_mapping("a glob, a list of globs, or a mapping of table to globs", _GLOBS, _TABLES)

_TYPED = named(
    text("a type, as in integer, text, date DD.MM.YYYY or decimal de", texts.column_type),
    "a mapping of column to type",
    texts.not_empty,
    least=1,
)

EXPECT = Section(
    "What a table is expected to be",
    "What the files promise, checked by `migrate check` and before `migrate run` writes anything; see layout.md.",
    (
        Key(
            "columns",
            or_mapping("a list of names, or a mapping of column to type", SOURCE_NAMES, _TYPED),
            "The columns of each file: exactly these. With types, every value must fit its column's: `text`, a type of "
            "PostgreSQL, `boolean`, `date DD.MM.YYYY`, `timestamp DD.MM.YYYY HH24:MI` (several formats: `… or …`), "
            "`decimal de` or `decimal(10,2) de` (amounts as the locale writes them).",
            "any",
        ),
        Key("any_order", boolean(), "Whether the columns may stand in another order.", "false"),
        Key(
            "rows",
            COUNT,
            "How many rows all files of the table hold together.",
            "any number",
        ),
        *OF_ROWS,
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

_ROWS_PER_SECOND = Key(
    "rows_per_second",
    whole("a whole number of at least 1", least=1),
    "At most so many rows a second are read, by all workers together; --max-rows-per-second wins.",
    "no limit",
)
PACE = Section(
    "How hard files are worked",
    "Limits to how fast the files of a source are read, by `run`, `verify`, `check` and `dedupe preview`; see governing.md.",
    (_ROWS_PER_SECOND,),
)
SPARED = Section(
    "How hard a database is worked",
    "Limits to how a database is read, by `run`, `verify`, `check` and `dedupe preview`; see governing.md.",
    (
        _ROWS_PER_SECOND,
        Key(
            "load",
            whole(),
            "No slice is read while more than so many statements of others run there; --max-source-load wins.",
            "no limit",
        ),
    ),
)
_PACE = Key("limits", PACE.shape, "How hard it is worked.", "as hard as it goes")

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
        Key("columns", SOURCE_NAMES, "The columns' names, for files without a header or instead of it.", "the header"),
        Key(
            "nulls",
            TEXTS,
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
        _PACE,
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
        Key("columns", SOURCE_NAMES, "The columns' names, instead of the header's.", "the header"),
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
        _PACE,
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
        _PACE,
    ),
    words="a mapping with `xml`",
)

_FIELD_TYPES = ("text", "integer", "double", "decimal", "boolean", "moment", "objectid", "binary", "uuid", "json")
_FIELD_TYPE = choice(*_FIELD_TYPES)
_FIELD_WORDS = "a type or a mapping of field to type"


def _field(reader: Reader, node: yaml.Node) -> Any:
    return (_FIELDS if isinstance(node, yaml.MappingNode) else _FIELD_TYPE).read(reader, node)


_FIELD = Shape(_FIELD_WORDS, {"anyOf": [_FIELD_TYPE.schema, {"type": "object", "minProperties": 1}]}, _field)
_FIELDS = named(_FIELD, "a mapping of field to type", lambda _: "", least=1)

_DOCUMENT_FIELDS = Key(
    "fields",
    named(_FIELD, "a mapping of table to its fields", texts.not_empty, least=1),
    "For each table (`orders`, `orders/lines`) its fields with their types, the fields of objects in a mapping of "
    "their own: `{id: integer, customer: {name: text}, lines: json}`. For an array of values one type: "
    f"`{', '.join(_FIELD_TYPES)}`.",
    "found in all documents",
)

_MIXED = Key(
    "mixed",
    choice("reject", "rest"),
    "What becomes of a value that does not fit its field's type: its row is rejected, or it stands in `_rest`.",
    "reject",
)

_PATH = text("a path, as in data/items", texts.not_empty)
_PATHS = named(_PATH, "a mapping of table to path", texts.not_empty, least=1)

JSON = Section(
    "A source of JSON files",
    "JSON Lines, or an array of objects, in UTF-8; `.gz` is read too. Each object is a row. What the array `lines` in them holds "
    "is the table `orders/lines`. docs/json.md says more.",
    (
        Key(
            "json",
            _FILES,
            "Where the files are, from the project file's folder: globs. One glob or a list makes each file a table named after "
            "it; a mapping names the tables itself, each of one or more files.",
            required=True,
        ),
        Key(
            "form",
            choice("lines", "array"),
            "Whether each line is a document, or each element of an array.",
            "detected",
        ),
        Key(
            "records",
            or_mapping("a path, as in data/items, or a mapping of table to path", _PATH, _PATHS),
            "The path of the array that holds the rows, where a file is one object; where it holds several, that of each table: "
            "`json: {genres: all.json, albums: all.json}` with `records: {genres: Genre, albums: Album}`.",
            "the file is the array",
        ),
        _DOCUMENT_FIELDS,
        _MIXED,
        _EXPECT,
        _PACE,
    ),
    words="a mapping with `json`",
)

_AS_JSON = tuple(key for key in JSON.keys if key.name in ("fields", "mixed"))
REST = replace(API, keys=(*API.keys, *_AS_JSON, _EXPECT, _PACE))

_SOURCE_WORDS = "a URL or a mapping with `url`, `files`, `excel`, `xml`, `json` or `rest`"
_URL = text(_SOURCE_WORDS, texts.source_url, secret=True, references=True)

DATABASE = Section(
    "A source that is a database",
    "A database by its URL: `mysql://`, `mariadb://`, `mssql://`, `oracle://`, or any that SQLAlchemy knows. A bare URL is "
    "short for a mapping with `url` alone.",
    (
        Key(
            "url",
            text("a URL", texts.source_url, secret=True, references=True),
            "scheme://user:password@host:port/database. Take user and password from the environment: `${env:ERP_PASSWORD}`.",
            required=True,
        ),
        Key(
            "connections",
            whole("a whole number of at least 1", least=1),
            "At most so many connections to it at once.",
            "4",
        ),
        Key("limits", SPARED.shape, "How hard it is worked.", "as hard as `connections` go"),
        _DOCUMENT_FIELDS,
        _MIXED,
        Key(
            "profile",
            choice("ends", "all"),
            "MongoDB: where fields that are not declared are looked for in a large collection: in the documents at both of its "
            "ends, or in all.",
            "ends",
        ),
        Key(
            "snapshot",
            boolean(),
            "MongoDB: whether a replica set is read as of one moment, which the server keeps for a time; see mongodb.md.",
            "true",
        ),
        Key(
            "quiesced",
            boolean(),
            "Whether it is certain that nobody writes to it while it is migrated: then what is read twice is the same, and a "
            "load that was interrupted goes on where it stopped, whatever it found before.",
            "false",
        ),
        Key(
            "zero_dates",
            choice("reject", "null", "text"),
            "MySQL and MariaDB: what a date such as `0000-00-00` becomes. Its row is rejected; or it is NULL, and counted; or "
            "the column is read as text, and the mapping decides.",
            "reject",
        ),
        Key(
            "seventh_digit",
            choice("reject", "text", "cut"),
            "SQL Server: what a moment or a time finer than a microsecond becomes. Its row is rejected; or the column is read "
            "as text; or it is cut.",
            "reject",
        ),
    ),
    words="a mapping with `url`",
)


def _source_section(node: yaml.Node) -> Shape:
    if not isinstance(node, yaml.MappingNode):
        return _URL
    keys = keys_of(node)
    sections = {"url": DATABASE, "excel": EXCEL, "xml": XML, "json": JSON, "rest": REST}
    return next((section for key, section in sections.items() if key in keys), FILES).shape


SOURCE = either(
    _SOURCE_WORDS, _source_section, FILES.shape, EXCEL.shape, XML.shape, JSON.shape, REST.shape, DATABASE.shape, _URL
)
