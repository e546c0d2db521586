"""The options, presets and source of one adapter or head, for `list`."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from fewshot_i2v import registry
from fewshot_i2v.cli._common import echo_json
from fewshot_i2v.utils.text_table import wrap_text

if TYPE_CHECKING:
    from pydantic import BaseModel

_FACTS = {
    "adapters": {
        "note": ("display_note", "note"),
        "order": ("frame_order", "order of frames can matter"),
        "identity_at_start": (
            "identity_at_init",
            "untrained, it leaves the frozen features as they are",
        ),
        "mergeable": ("mergeable", "can be merged into the frozen weights"),
        "alone": ("one_episode_at_a_time", "episodes are tuned one at a time"),
    },
    "heads": {"uses_names": ("uses_class_names", "reads the class names")},
}
_TYPE_NAMES = {"integer": "whole number", "boolean": "true or false", "string": "text"}
_BOUND_PHRASES = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}


def show_details(kind: registry.MethodKind, name: str, *, as_json: bool) -> None:
    """Write the options, presets and source of one adapter or head.

    Raises:
        UnknownNameError: when there is none of that name.
        UsageError: when its file cannot be used.
    """
    details = _collect_details(kind, name)
    if as_json:
        echo_json(details)
        return
    from fewshot_i2v.config.method import format_value

    click.echo(f"{name}: {details['summary']}\n")
    click.echo(f"source: {details['source']}")
    click.echo(f"file: {details['origin']}")
    for key, (_, label) in _FACTS[kind].items():
        value = details[key]
        if value != "":
            shown = ("yes" if value else "no") if isinstance(value, bool) else value
            click.echo(f"{label}: {shown}")
    click.echo("\noptions" + (":" if details["options"] else ": none"))
    for option in details["options"]:
        default = "required" if option["required"] else f"default {format_value(option['default'])}"
        _echo_entry(f"{option['name']}: {option['type']}; {default}", option["description"])
    if details["presets"]:
        click.echo(f"\npresets, as {name}:preset=NAME:")
    for preset in details["presets"]:
        values = ", ".join(
            f"{key}={format_value(setting)}" for key, setting in preset["options"].items()
        )
        _echo_entry(f"{preset['name']}: {values}", preset["source"])
    if details["citation"]:
        click.echo(f"\nto cite it, in BibTeX:\n{textwrap.indent(details['citation'], '  ')}")


def _echo_entry(title: str, description: str) -> None:
    click.echo(f"  {title}")
    if description:
        click.echo("\n".join(wrap_text(description, first=" " * 6, hanging=" " * 6)))


def _collect_details(kind: registry.MethodKind, name: str) -> dict[str, Any]:
    """The same as plain data."""
    cls = registry.load_method(kind, name)
    info = next(info for info in registry.list_methods(kind) if info.name == name)
    presets = [
        {"name": key, "options": dict(preset.options), "source": preset.source}
        for key, preset in getattr(cls, "presets", {}).items()
    ]
    return {
        "name": name,
        "summary": info.summary,
        "origin": info.origin,
        "source": cls.source,
        "citation": inspect.cleandoc(str(cls.citation or "")),
        **{key: getattr(cls, member) for key, (member, _) in _FACTS[kind].items()},
        "options": _option_entries(cls.Options),
        "presets": presets,
    }


def _option_entries(model: type[BaseModel]) -> list[dict[str, Any]]:
    """Name, type with range, default and description of each option."""
    try:
        schema = model.model_json_schema()
    except RuntimeError:  # pydantic's, where a plug-in's option is of a type that JSON has not
        schema = {}
    descriptions = _attribute_docs(model)
    entries = []
    for name, field in model.model_fields.items():
        option_schema = schema.get("properties", {}).get(name)
        type_name = (
            str(field.annotation) if option_schema is None else describe_type(option_schema, schema)
        )
        default = field.get_default(call_default_factory=True)
        entries.append(
            {
                "name": name,
                "type": type_name,
                "required": field.is_required(),
                "default": None if field.is_required() else to_plain_default(default),
                "description": descriptions.get(name, ""),
            }
        )
    return entries


def to_plain_default(value: object) -> object:
    """A default as plain data."""
    return [to_plain_default(item) for item in value] if isinstance(value, tuple) else value


def describe_type(schema: Mapping[str, Any], root_schema: Mapping[str, Any]) -> str:
    """Describe a JSON schema in words.

    >>> describe_type({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}, {})
    'whole number, at least 1; or null'
    """
    from fewshot_i2v.config.error_messages import describe_pattern
    from fewshot_i2v.config.method import format_value

    if "$ref" in schema:
        return describe_type(root_schema["$defs"][schema["$ref"].rpartition("/")[2]], root_schema)
    if "anyOf" in schema:
        types = list(
            dict.fromkeys(
                describe_type(option_schema, root_schema) for option_schema in schema["anyOf"]
            )
        )
        return "; or ".join(types)
    if "const" in schema or "enum" in schema:
        values = [format_value(value) for value in schema.get("enum", [schema.get("const")])]
        return " or ".join([", ".join(values[:-1]), values[-1]] if values[1:] else values)
    if "pattern" in schema:
        return describe_pattern(schema["pattern"])
    kind = str(schema.get("type", "any value"))
    if kind == "array" and isinstance(schema.get("items"), dict):
        return f"list of: {describe_type(schema['items'], root_schema)}"
    bounds = [f"{phrase} {schema[key]}" for key, phrase in _BOUND_PHRASES.items() if key in schema]
    return ", ".join([_TYPE_NAMES.get(kind, kind), *bounds])


def _attribute_docs(model: type[BaseModel]) -> dict[str, str]:
    """Read attribute descriptions from docstrings of a model and its bases."""
    descriptions: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        name, in_attributes = "", False
        for line in inspect.cleandoc(cls.__dict__.get("__doc__") or "").splitlines():
            text = line.strip()
            indent = len(line) - len(line.lstrip())
            if text and indent == 0:
                in_attributes = text == "Attributes:"
            elif in_attributes and indent == 4 and ":" in text:
                name, _, descriptions[name] = (piece.strip() for piece in text.partition(":"))
            elif in_attributes and text and name:
                descriptions[name] += f" {text}"
    return descriptions
