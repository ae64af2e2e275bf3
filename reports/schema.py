"""The JSON form of a report, described and read: both by walking the model's own types.

`python -m reports.schema` writes docs/report.schema.json; `make docs` does.
"""

import json
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from reports.model import DERIVED, FORMAT, Report

_NAMES = {str: "string", bool: "boolean", int: "integer", float: "number"}


def json_schema() -> dict[str, Any]:
    """The JSON Schema of `migrate report --format json`: all fields are required, more may come."""
    definitions: dict[str, Any] = {}
    top = _described(Report, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Report of a migration by aurora-migrate",
        **top,
        "properties": {"format": {"const": FORMAT}, **top["properties"]},
        "required": ["format", *top["required"]],
        "$defs": dict(sorted(definitions.items())),
    }


def _described(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    derived = {name: get_type_hints(getattr(kind, name).fget)["return"] for name in DERIVED.get(kind, ())}
    properties = derived | {f.name: hints[f.name] for f in fields(kind)}
    return {
        "description": " ".join((kind.__doc__ or "").split()),
        "type": "object",
        "properties": {name: _schema(hint, definitions) for name, hint in properties.items()},
        "required": list(properties),
    }


def _schema(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in _NAMES:
        return {"type": _NAMES[hint]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is types.UnionType:
        inner = [_schema(a, definitions) for a in arguments if a is not types.NoneType]
        return {"anyOf": [*inner, {"type": "null"}]}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(arguments[1], definitions)}
    if origin is tuple and arguments[1:] == (...,):
        return {"type": "array", "items": _schema(arguments[0], definitions)}
    if origin is tuple:
        parts = [_schema(a, definitions) for a in arguments]
        return {"type": "array", "prefixItems": parts, "items": False, "minItems": len(parts)}
    if hint.__name__ not in definitions:
        definitions[hint.__name__] = {}  # a place, should it refer to itself
        definitions[hint.__name__] = _described(hint, definitions)
    return {"$ref": f"#/$defs/{hint.__name__}"}


def from_json(form: Any) -> Report:
    """The report of a JSON form, of this format. Raises ValueError that says where it is none."""
    if not isinstance(form, Mapping) or "format" not in form or "tables" not in form:
        raise ValueError("it is no report")
    if form["format"] != FORMAT:
        raise ValueError(f"it is of format {form['format']!r}, and this version reads format {FORMAT}")
    report: Report = _read(Report, form, "report")
    return report


def _read(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise ValueError(f"{where} is no object")
        hints = get_type_hints(kind)
        given = {n: _read(hints[n], value[n], f"{where}.{n}") for n in (f.name for f in fields(kind)) if n in value}
        try:
            return kind(**given)
        except TypeError as error:
            raise ValueError(f"{where}: {str(error).partition('() ')[2]}") from error
    if origin is types.UnionType:
        return None if value is None else _read(arguments[0], value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{where} is no array")
        kinds = [arguments[0]] * len(value) if arguments[1:] == (...,) else arguments
        if len(kinds) != len(value):
            raise ValueError(f"{where} has {len(value)} items and not {len(kinds)}")
        return tuple(_read(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
    fits = value in arguments if origin is Literal else isinstance(value, (int, float) if kind is float else kind)
    if not fits or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{where} is {value!r}, and not {_schema(kind, {})}")
    return value


def schema_text() -> str:
    """The schema as docs/report.schema.json has it."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")
