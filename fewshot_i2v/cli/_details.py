"""What `fewshot-i2v list adapters NAME` and `list heads NAME` show: options, presets, source."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from fewshot_i2v import plugins
from fewshot_i2v._config_choice import value_text
from fewshot_i2v._config_errors import pattern_in_words
from fewshot_i2v.cli._common import echo_json

if TYPE_CHECKING:
    from pydantic import BaseModel

_WIDTH = 100
_FACTS = {
    "adapters": ("note", "order", "identity_at_start", "mergeable", "alone"),
    "heads": ("uses_names",),
}
_SAID = {
    "note": "note: {}",
    "order": "order of frames can matter: {}",
    "identity_at_start": "untrained, it leaves the frozen features as they are: {}",
    "mergeable": "can be merged into the frozen weights: {}",
    "alone": "episodes are tuned one at a time: {}",
    "uses_names": "reads the class names: {}",
}
_TYPES = {"integer": "whole number", "boolean": "true or false", "string": "text"}
_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}


def show_details(kind: plugins.Kind, name: str, *, as_json: bool) -> None:
    """Writes the options, presets and source of one adapter or head.

    Args:
        kind: "adapters" or "heads".
        name: of one of them.
        as_json: whether to write JSON.

    Raises:
        UnknownNameError: when there is none of that name.
        UsageError: when its file cannot be used.
    """
    details = _details(kind, name)
    if as_json:
        echo_json(details)
        return
    click.echo(f"{name}: {details['summary']}\n")
    click.echo(f"source: {details['source']}")
    click.echo(f"file: {details['origin']}")
    for key in _FACTS[kind]:
        value = details[key]
        if value != "":
            shown = ("yes" if value else "no") if isinstance(value, bool) else value
            click.echo(_SAID[key].format(shown))
    click.echo("\noptions" + (":" if details["options"] else ": none"))
    for option in details["options"]:
        default = "required" if option["required"] else f"default {value_text(option['default'])}"
        _echo_entry(f"{option['name']}: {option['type']}; {default}", option["description"])
    if details["presets"]:
        click.echo(f"\npresets, as {name}:preset=NAME:")
    for preset in details["presets"]:
        values = ", ".join(f"{key}={value_text(v)}" for key, v in preset["options"].items())
        _echo_entry(f"{preset['name']}: {values}", preset["source"])


def _echo_entry(head: str, text: str) -> None:
    click.echo(f"  {head}")
    if text:
        indent = " " * 6
        click.echo(
            textwrap.fill(
                text,
                _WIDTH,
                initial_indent=indent,
                subsequent_indent=indent,
                break_long_words=False,
                break_on_hyphens=False,
            )
        )


def _details(kind: plugins.Kind, name: str) -> dict[str, Any]:
    """The same as plain data."""
    cls = plugins.load(kind, name)
    row = next(row for row in plugins.found(kind) if row.name == name)
    presets = [
        {"name": key, "options": dict(preset.options), "source": preset.source}
        for key, preset in getattr(cls, "presets", {}).items()
    ]
    return {
        "name": name,
        "summary": row.summary,
        "origin": row.origin,
        "source": cls.source,
        **{key: getattr(cls, key) for key in _FACTS[kind]},
        "options": _options(cls.Options),
        "presets": presets,
    }


def _options(model: type[BaseModel]) -> list[dict[str, Any]]:
    """Name, type with range, default and description of each option."""
    try:
        schema = model.model_json_schema()
    except RuntimeError:  # pydantic's, where a plug-in's option is of a type that JSON has not
        schema = {}
    described = _described(model)
    rows = []
    for name, field in model.model_fields.items():
        found = schema.get("properties", {}).get(name)
        kind = str(field.annotation) if found is None else type_in_words(found, schema)
        default = field.get_default(call_default_factory=True)
        rows.append(
            {
                "name": name,
                "type": kind,
                "required": field.is_required(),
                "default": None if field.is_required() else value_of(default),
                "description": described.get(name, ""),
            }
        )
    return rows


def value_of(value: object) -> object:
    """A default as plain data."""
    return [value_of(item) for item in value] if isinstance(value, tuple) else value


def type_in_words(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> str:
    """A JSON schema as one would say it.

    >>> type_in_words({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}, {})
    'whole number, at least 1; or null'
    """
    if "$ref" in schema:
        return type_in_words(whole["$defs"][schema["$ref"].rpartition("/")[2]], whole)
    if "anyOf" in schema:
        parts = list(dict.fromkeys(type_in_words(part, whole) for part in schema["anyOf"]))
        return "; or ".join(parts)
    if "const" in schema or "enum" in schema:
        values = [value_text(value) for value in schema.get("enum", [schema.get("const")])]
        return " or ".join([", ".join(values[:-1]), values[-1]] if values[1:] else values)
    if "pattern" in schema:
        return pattern_in_words(schema["pattern"])
    kind = str(schema.get("type", "any value"))
    if kind == "array" and isinstance(schema.get("items"), dict):
        return f"list of: {type_in_words(schema['items'], whole)}"
    bounds = [f"{said} {schema[key]}" for key, said in _BOUNDS.items() if key in schema]
    return ", ".join([_TYPES.get(kind, kind), *bounds])


def _described(model: type[BaseModel]) -> dict[str, str]:
    """What the docstrings of a model and its bases say of each attribute."""
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        name, inside = "", False
        for line in inspect.cleandoc(cls.__dict__.get("__doc__") or "").splitlines():
            text = line.strip()
            indent = len(line) - len(line.lstrip())
            if text and indent == 0:
                inside = text == "Attributes:"
            elif inside and indent == 4 and ":" in text:
                name, _, found[name] = (part.strip() for part in text.partition(":"))
            elif inside and text and name:
                found[name] += f" {text}"
    return found
