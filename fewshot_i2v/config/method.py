"""The name of an adapter or head with its options, as text or as a mapping."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic.config import JsonDict

from fewshot_i2v import registry
from fewshot_i2v.config.base import ConfigSection
from fewshot_i2v.errors import ConfigError, UsageError
from fewshot_i2v.utils.yaml import parse_yaml

# What a YAML reader would take for the same string without quotes.
_UNQUOTED_TEXT = re.compile(r"[A-Za-z_][A-Za-z0-9_./+-]*")
_YAML_KEYWORDS = {"true", "false", "null"}
_NAME_TEXT = "Name, as in `fewshot-i2v list adapters` or `list heads`."


def parse_value(text: str, origin: str) -> object:
    """Parse a YAML 1.2 scalar or flow list, as in `key=TEXT` on the command line.

    Args:
        text: "1e-3", "both", "[1, 2]", ...
        origin: where it was written, for messages.

    Raises:
        UsageError: when it is not YAML.
    """
    if "\n" in text:
        raise ConfigError(f"{origin}: {text!r} has a line break; expected one value")
    value: object = parse_yaml(f"value: {text}", origin)["value"]
    return value


def _split_options(text: str) -> Iterator[str]:
    """Split at commas outside quotes and brackets.

    As in YAML, a quotation mark counts where a value begins, and not inside a word.
    """
    depth, quote, start, previous = 0, "", 0, "="
    for i, character in enumerate(text):
        if quote:
            escaped = quote == '"' and previous == "\\"
            quote = "" if character == quote and not escaped else quote
            character = " " if escaped else character
        elif character in "\"'" and previous in "=[{,: ":
            quote = character
        elif character == "," and depth == 0:
            yield text[start:i]
            start = i + 1
        else:
            depth += (character in "[{") - (character in "]}")
        previous = character
    yield text[start:]


def _spec_from_text(text: str) -> dict[str, Any]:
    name, colon, option_list = text.partition(":")
    options: dict[str, Any] = {}
    for option in _split_options(option_list) if colon else ():
        key, equals, value = option.partition("=")
        key = key.strip()
        if not (equals and key and value.strip()):
            raise ValueError("expected NAME or NAME:key=value,key=value, as in st-adapter:width=64")
        if key in options:
            raise ValueError(f"the option {key!r} has two values")
        try:
            options[key] = parse_value(value.strip(), f"{name}: {key}")
        except UsageError as error:
            raise ValueError(_unreadable_value_message(key, value.strip(), error)) from error
    return {"name": name.strip(), "options": options}


def _unreadable_value_message(key: str, value: str, error: UsageError) -> str:
    """Say why an option's value is not YAML; unquoted braces are usually templates."""
    if not (value.startswith("[") and "{" in value):
        return str(error)
    example = '["a video of {}", "a clip of {}"]'
    return f"{key}={value} cannot be read as a list; quote each: {key}={example}"


def _spec_from_mapping(data: Mapping[str, Any]) -> dict[str, Any]:
    if data.keys() <= {"name", "options"} and isinstance(data.get("options", {}), Mapping):
        return dict(data)
    options = {key: value for key, value in data.items() if key != "name"}
    return {"options": options} | ({"name": data["name"]} if "name" in data else {})


def _extend_spec_schema(schema: JsonDict) -> None:
    """Also allow a string, or a mapping with options beside the name."""
    object_schema = dict(schema)
    schema.clear()
    flat_schema: JsonDict = {
        "type": "object",
        "properties": {"name": {"type": "string", "description": _NAME_TEXT}},
        "required": ["name"],
    }
    schema["title"] = object_schema.pop("title", "MethodSpec")
    schema["anyOf"] = [{"type": "string"}, flat_schema, object_schema]


class MethodSpec(ConfigSection):
    """An adapter or a head with its options.

    Written as text, `st-adapter` or `st-adapter:sites=both,width=64`, or as a mapping with the
    options beside the name, `{name: st-adapter, sites: both}`.
    """

    model_config = ConfigDict(json_schema_extra=_extend_spec_schema)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description=_NAME_TEXT)
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="Options by name; checked when the adapter or head is built.",
    )

    @model_validator(mode="before")
    @classmethod
    def _expand_short_forms(cls, data: object) -> object:
        if isinstance(data, str):
            return _spec_from_text(data)
        return _spec_from_mapping(data) if isinstance(data, Mapping) else data

    @classmethod
    def parse(cls, text: str) -> MethodSpec:
        """Parse the text form.

        Raises:
            ConfigError: when the text is not NAME or NAME:key=value,key=value.
        """
        try:
            return cls.model_validate(text)
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise ConfigError(f"{text!r}: {reason}") from error

    @property
    def label(self) -> str:
        """The text form with sorted options; equal specs have equal labels."""
        options = [f"{key}={format_value(value)}" for key, value in sorted(self.options.items())]
        return self.name + (":" + ",".join(options) if options else "")

    def __hash__(self) -> int:
        return hash(self.label)


def format_value(value: object) -> str:
    """Format a value as YAML that reads back as the same."""
    if isinstance(value, str):
        needs_no_quotes = _UNQUOTED_TEXT.fullmatch(value) and value.lower() not in _YAML_KEYWORDS
        return value if needs_no_quotes else json.dumps(value, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def check_method_names(kind: registry.MethodKind, names: Iterable[str]) -> None:
    """Check that all adapter or head names exist, without importing any.

    Raises:
        UnknownNameError: naming the nearest and all existing names.
    """
    existing_names = registry.method_names(kind)
    for name in names:
        if name not in existing_names:
            raise registry.unknown_method(kind, name)
