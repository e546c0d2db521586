"""The part of JSON Schema (draft 2020-12) that the schema of split files uses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "null": lambda value: value is None,
}
_APPLICATORS = {"anyOf", "not", "if", "then", "$ref", "properties", "additionalProperties"}
_APPLICATORS |= {"propertyNames", "items"}
_LIMITS: dict[str, Callable[[Any, Any], bool]] = {
    "type": lambda value, types: any(
        _TYPES[t](value) for t in (types if isinstance(types, list) else [types])
    ),
    "enum": lambda value, options: value in options,
    "required": lambda value, keys: not isinstance(value, dict) or all(k in value for k in keys),
    "minProperties": lambda value, least: not isinstance(value, dict) or len(value) >= least,
    "minItems": lambda value, least: not isinstance(value, list) or len(value) >= least,
    "uniqueItems": lambda value, _: (
        not isinstance(value, list) or len(set(map(repr, value))) == len(value)
    ),
    "minLength": lambda value, least: not isinstance(value, str) or len(value) >= least,
    "pattern": lambda value, regex: (
        not isinstance(value, str) or re.search(regex, value) is not None
    ),
    "minimum": lambda value, least: not _TYPES["integer"](value) or value >= least,
    "maximum": lambda value, most: not _TYPES["integer"](value) or value <= most,
}
KEYWORDS = _APPLICATORS | set(_LIMITS) | {"$schema", "$defs", "title", "description"} | {"default"}


def subschemas(schema: object) -> Iterator[dict[str, Any]]:
    """The schema and all schemas inside it."""
    if not isinstance(schema, dict):
        return
    yield schema
    for key, value in schema.items():
        if key in {"properties", "$defs"}:
            for inner in value.values():
                yield from subschemas(inner)
        elif key == "anyOf":
            for inner in value:
                yield from subschemas(inner)
        elif key in _APPLICATORS:
            yield from subschemas(value)


def fits(value: object, schema: bool | dict[str, Any], whole: dict[str, Any]) -> bool:
    """Whether a value has the form that a schema asks for.

    Args:
        value: plain data.
        schema: the schema, or True or False.
        whole: the schema that references are looked up in.
    """
    if isinstance(schema, bool):
        return schema
    if not all(check(value, schema[key]) for key, check in _LIMITS.items() if key in schema):
        return False
    return _composed(value, schema, whole) and _parts(value, schema, whole)


def _composed(value: object, schema: dict[str, Any], whole: dict[str, Any]) -> bool:
    if "$ref" in schema:
        kept = whole["$defs"][schema["$ref"].removeprefix("#/$defs/")]
        if not fits(value, kept, whole):
            return False
    if "anyOf" in schema and not any(fits(value, inner, whole) for inner in schema["anyOf"]):
        return False
    if "not" in schema and fits(value, schema["not"], whole):
        return False
    applies = "if" in schema and fits(value, schema["if"], whole)
    return not applies or fits(value, schema["then"], whole)


def _parts(value: object, schema: dict[str, Any], whole: dict[str, Any]) -> bool:
    if isinstance(value, list):
        return all(fits(item, schema.get("items", True), whole) for item in value)
    if not isinstance(value, dict):
        return True
    known = schema.get("properties", {})
    other = schema.get("additionalProperties", True)
    return all(
        fits(key, schema.get("propertyNames", True), whole)
        and fits(item, known.get(key, other), whole)
        for key, item in value.items()
    )
