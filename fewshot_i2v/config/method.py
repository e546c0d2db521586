"""The choice of an adapter or head with its options, as text or as a mapping."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import (
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic.config import JsonDict

from fewshot_i2v import registry
from fewshot_i2v.config.base import Section
from fewshot_i2v.config.error_messages import config_error
from fewshot_i2v.errors import ConfigError, UnknownNameError, UsageError
from fewshot_i2v.utils.yaml import parse_yaml

# What a YAML reader would take for the same string without quotes.
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./+-]*")
_NOT_STRINGS = {"true", "false", "null"}


def parse_value(text: str, origin: str) -> object:
    """The value of a YAML 1.2 scalar or flow list, as in `key=TEXT` on the command line.

    Args:
        text: "1e-3", "both", "[1, 2]", ...
        origin: where it was given, for messages.

    Raises:
        UsageError: when it is not YAML.
    """
    if "\n" in text:
        raise ConfigError(f"{origin}: {text!r} has a line break; expected one value")
    value: object = parse_yaml(f"value: {text}", origin)["value"]
    return value


def _split_options(text: str) -> Iterator[str]:
    """Parts between commas that stand outside quotes and brackets.

    As in YAML, a quotation mark counts where a value begins, and not inside a word.
    """
    depth, quote, start, before = 0, "", 0, "="
    for i, char in enumerate(text):
        if quote:
            escaped = quote == '"' and before == "\\"
            quote = "" if char == quote and not escaped else quote
            char = " " if escaped else char
        elif char in "\"'" and before in "=[{,: ":
            quote = char
        elif char == "," and depth == 0:
            yield text[start:i]
            start = i + 1
        else:
            depth += (char in "[{") - (char in "]}")
        before = char
    yield text[start:]


def _choice_from_text(text: str) -> dict[str, Any]:
    name, colon, rest = text.partition(":")
    options: dict[str, Any] = {}
    for part in _split_options(rest) if colon else ():
        key, equals, value = part.partition("=")
        key = key.strip()
        if not (equals and key and value.strip()):
            raise ValueError("expected NAME or NAME:key=value,key=value, as in st-adapter:width=64")
        if key in options:
            raise ValueError(f"the option {key!r} is given twice")
        try:
            options[key] = parse_value(value.strip(), f"{name}: {key}")
        except UsageError as error:
            raise ValueError(_unreadable(key, value.strip(), error)) from error
    return {"name": name.strip(), "options": options}


def _unreadable(key: str, value: str, error: UsageError) -> str:
    """Why an option's value is not YAML; braces outside quotes are most likely templates."""
    if not (value.startswith("[") and "{" in value):
        return str(error)
    example = '["a video of {}", "a clip of {}"]'
    return f"{key}={value} cannot be read as a list; quote each: {key}={example}"


def _choice_from_mapping(data: Mapping[str, Any]) -> dict[str, Any]:
    if data.keys() <= {"name", "options"} and isinstance(data.get("options", {}), Mapping):
        return dict(data)
    options = {key: value for key, value in data.items() if key != "name"}
    return {"options": options} | ({"name": data["name"]} if "name" in data else {})


def _choice_schema(schema: JsonDict) -> None:
    """A choice is also a string, or a mapping with its options beside the name."""
    whole = dict(schema)
    schema.clear()
    free: JsonDict = {
        "type": "object",
        "properties": {"name": {"type": "string"}},
        "required": ["name"],
    }
    schema["title"] = whole.pop("title", "Choice")
    schema["anyOf"] = [{"type": "string"}, free, whole]


class Choice(Section):
    """An adapter or a head with its options.

    Written as text, `st-adapter` or `st-adapter:sites=both,width=64`, or as a mapping with the
    options beside the name, `{name: st-adapter, sites: both}`.

    Attributes:
        name: as `fewshot-i2v list adapters` or `list heads` shows it.
        options: by name; checked when the adapter or head is built.
    """

    model_config = ConfigDict(json_schema_extra=_choice_schema)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_short_forms(cls, data: object) -> object:
        if isinstance(data, str):
            return _choice_from_text(data)
        return _choice_from_mapping(data) if isinstance(data, Mapping) else data

    @classmethod
    def parse(cls, text: str) -> Choice:
        """Reads the text form.

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
        """The text form with sorted options; equal choices have equal labels."""
        parts = [f"{key}={value_text(value)}" for key, value in sorted(self.options.items())]
        return self.name + (":" + ",".join(parts) if parts else "")

    def __hash__(self) -> int:
        return hash(self.label)


def value_text(value: object) -> str:
    """A value as YAML text that reads back as the same value."""
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and value.lower() not in _NOT_STRINGS
        return value if plain else json.dumps(value, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def options_of(choice: Choice, cls: type[Any], kind: str) -> Any:  # noqa: ANN401 - a plug-in's own
    """The validated options of an adapter or head, those of a preset resolved.

    Args:
        choice: name and options as they were given.
        cls: the class behind the name.
        kind: "adapter" or "head".

    Raises:
        UsageError: naming the option, the value and what was expected.
    """
    parse = cls.parse if kind == "adapter" else cls.Options.model_validate
    try:
        return parse(choice.options)
    except ValidationError as error:
        raise config_error(error, cls.Options, origin=f"{kind} {choice.name!r}") from error


def check_names(kind: registry.Kind, names: Iterable[str]) -> None:
    """Refuses names that no adapter or head has, without importing any.

    Raises:
        UnknownNameError: naming the nearest and all existing names.
    """
    known = registry.names(kind)
    for name in names:
        if name not in known:
            raise UnknownNameError(kind[:-1], name, known)
