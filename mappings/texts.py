"""What single texts of the project file must look like, and what some of them mean.

A check returns what is wrong with a text as the end of a sentence ("must be a-z …"), or "". A meaning is None for a
text that has none.
"""

import codecs
import re
import shlex
import zoneinfo

from mappings.faults import suggest

_ENCODINGS = (
    *("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "ascii", "cp437", "cp850", "mac-roman"),
    *("cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1257", "iso-8859-1", "iso-8859-2", "iso-8859-15"),
)
_DELIMITERS = {"tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " ", "\\t": "\t", "\\x01": "\x01"}
_UNITS = {"": 1, "b": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30}
_DUCKDB_TYPES = (
    *("BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL", "VARCHAR"),
    *("BLOB", "DATE", "TIME", "TIMESTAMP", "TIMESTAMPTZ", "INTERVAL", "UUID"),
)

# ------------------------------------------------------------------------------------------- what is wrong with a text


def migration(name: str) -> str:
    return "" if re.fullmatch("[a-z0-9_]{1,63}", name) else "must be 1 to 63 of a-z, 0-9 and _"


def plain_name(name: str) -> str:
    if not re.fullmatch(r"[^\W\d][\w-]*", name):
        return "must be letters, digits, _ and -, and begin with a letter"
    return identifier(name)


def function_name(name: str) -> str:
    return "" if re.fullmatch("[a-z_][a-z0-9_]{0,62}", name) else "must be a-z, 0-9 and _, and begin with a letter"


def identifier(name: str) -> str:
    if not name or not name.isprintable() or name != name.strip():
        return "must be a name: not empty, no control characters, no blanks around it"
    size = len(name.encode())
    return f"is {size} bytes long: PostgreSQL would cut it to 63" if size > 63 else ""


def source_table(name: str) -> str:
    source, dot, table = name.partition(".")
    return "" if source and dot and table else "must be source.table, as in crm.customers"


def target_table(name: str) -> str:
    parts = name.split(".")
    if len(parts) > 2:
        return "must be table or schema.table"
    return next((complaint for complaint in map(identifier, parts) if complaint), "")


def foreign(name: str) -> str:
    parts = name.split(".")
    return "" if len(parts) in (2, 3) and all(parts) else "must be table.column or schema.table.column"


def not_empty(value: str) -> str:
    return "" if value.strip() else "is empty"


def anything(_: str) -> str:
    return ""


def target_url(url: str) -> str:
    return "" if re.match(r"postgres(ql)?://|\$\{", url) else "must be a URL: postgresql://host:5432/database"


def source_url(url: str) -> str:
    return "" if re.match(r"[a-z][a-z0-9+]*://.|\$\{", url) else 'is no URL; for files write {files: "folder/*.csv"}'


def webhook(url: str) -> str:
    return "" if re.match(r"https?://.|\$\{", url) else "must be a URL that begins with https:// or http://"


def api_url(url: str) -> str:
    if not re.match(r"https?://.|\$\{", url):
        return "must be a URL that begins with https:// or http://"
    if "?" in url or "#" in url:
        return "must be a URL without parameters: they stand under the tables' `params`"
    return "must hold no user: send it as a header, `Authorization`" if "@" in url else ""


def resource(name: str) -> str:
    return "" if re.fullmatch(r"\w[\w.-]*", name) else "must be letters, digits, _, . and -: it names a folder"


def header(name: str) -> str:
    return "" if re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) else "is no name of an HTTP header"


def shell_words(line: str) -> str:
    try:
        return "" if shlex.split(line) else "is empty"
    except ValueError:
        return "has a quote that is not closed, or ends in a backslash"


def outcome(word: str) -> str:
    return "" if word in ("success", "failure") else f'must be success or failure, not "{word}"'


def encoding(name: str) -> str:
    try:
        text = codecs.lookup(name)._is_text_encoding  # base64 and rot13 are codecs too
    except (LookupError, ValueError):
        text = False
    return "" if text else f'is no encoding that Python knows: "{name}".{suggest(name, _ENCODINGS)}'


def timezone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        hint = suggest(name, zoneinfo.available_timezones())
        return f'is no IANA time zone, as in Europe/Berlin: "{name}".{hint}'
    return ""


def trailer(pattern: str) -> str:
    try:
        re.compile(f"(?:{pattern})")
    except re.error as error:
        return f"is no regular expression: {error.msg}. Write it as in '^TRL;(?P<rows>\\d+)', and flags as in (?i:…)."
    return "" if pattern.strip() else "is empty"


def column_type(written: str) -> str:
    from mappings.promise import promised  # needs DuckDB, for which only those wait who promise types

    try:
        promised(written)
    except ValueError as error:
        return str(error)
    return ""


def duckdb_type(name: str) -> str:
    base = re.fullmatch(r"([A-Za-z]+)(\([0-9 ,]+\))?(\[\])*", name.strip())
    if base and base[1].upper() in _DUCKDB_TYPES:
        return ""
    return f'is no type of DuckDB that a function can take: "{name}".{suggest(name, _DUCKDB_TYPES)}'


# --------------------------------------------------------------------------------------------- texts that mean a value


def character(value: str) -> str | None:
    return value if len(value) == 1 and value.isascii() and value not in "\r\n" else None


def delimiter(value: str) -> str | None:
    return _DELIMITERS.get(value.lower()) or character(value)


def sign_or_none(value: str) -> str | None:
    return "" if value == "none" else character(value)


def size(value: str) -> int | None:
    match = re.fullmatch(r"([0-9]{1,12}) ?([kmg]?b)?", value.lower())
    return int(match[1]) * _UNITS[match[2] or ""] or None if match else None


def percent(value: str) -> float | None:
    match = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) ?%", value)
    return float(match[1]) if match and float(match[1]) <= 100 else None
