"""Translate pydantic's errors into this package's words: key, value, and what was expected."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError

from fewshot_i2v.config.base import ConfigSection
from fewshot_i2v.config.readouts import READOUT_LIST
from fewshot_i2v.errors import ConfigError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Location = tuple[int | str, ...]

_MAX_LISTED = 20
_MESSAGES = {
    "string_too_short": "expected a name, got an empty text",
    "path_type": "expected a path",
    "model_type": "expected a mapping of keys",
    "dict_type": "expected a mapping of keys",
    "bool_type": "expected true or false",
    "too_short": "expected at least one",
}
SHOTS_PATTERN = r"^([1-9]\d*\+?|any)$"
"""Of the shots that a recipe is for."""
_PATTERN_DESCRIPTIONS = {
    SHOTS_PATTERN: "a number of clips such as 5, N+ for N and more, or any",
    r"^[A-Za-z0-9][A-Za-z0-9._-]*$": "letters, digits, '.', '_' and '-', and no other sign",
    READOUT_LIST.pattern: "'summary', 'projected', 'gridN', 'motion' or 'motionN' with N from 1 "
    "to 99, or several joined by '+'; 'frozen-' may stand before a name",
}


def translate_validation_error(
    error: ValidationError,
    model: type[BaseModel],
    *,
    origin: str,
    is_override: Callable[[Location], bool] = lambda _: False,
    command_by_key: Mapping[str, str] = MappingProxyType({}),
) -> UsageError:
    """Build the error for a configuration that does not validate.

    Args:
        error: pydantic's error.
        model: the model that was validated.
        origin: the file, or another name of the source of the values.
        is_override: whether a key comes from an override and not from the file.
        command_by_key: the command of each key the model lacks at the top.

    Returns:
        UnknownNameError for a single unknown key, else a ConfigError that lists every bad key.
    """
    problems = _without_consequences(error.errors(include_url=False))
    translator = _Translator(model, is_override, command_by_key)
    if len(problems) == 1 and problems[0]["type"] == "extra_forbidden":
        return translator.unknown_key(problems[0]["loc"], origin)
    lines = [translator.problem_line(problem) for problem in problems[:_MAX_LISTED]]
    if len(lines) == 1:
        # a bad flag is none of the file's
        return ConfigError(lines[0] if is_override(problems[0]["loc"]) else f"{origin}: {lines[0]}")
    if len(problems) > _MAX_LISTED:
        lines.append(f"... and {len(problems) - _MAX_LISTED} more")
    details = "\n  ".join(lines)
    return ConfigError(f"{origin}: {len(problems)} bad values\n  {details}")


def _without_consequences(problems: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out that a list is too short where that is so because its items are bad."""
    locations = [problem["loc"] for problem in problems]
    return [
        problem
        for problem in problems
        if problem["type"] != "too_short"
        or not any(loc[:-1][: len(problem["loc"])] == problem["loc"] for loc in locations)
    ]


def format_key(location: Sequence[int | str]) -> str:
    """Format a location as a key.

    >>> format_key(("adapter", 0, "name"))
    'adapter[0].name'
    """
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in location)
    return text.lstrip(".")


def describe_pattern(pattern: str) -> str:
    """Describe the text that a pattern (of a key or an option) matches.

    >>> describe_pattern("^x+$")
    'text that matches ^x+$'
    """
    return _PATTERN_DESCRIPTIONS.get(pattern, f"text that matches {pattern}")


@dataclass(frozen=True)
class _Translator:
    """Words the problems of one model; members as for `translate_validation_error`."""

    model: type[BaseModel]
    is_override: Callable[[Location], bool]
    command_by_key: Mapping[str, str]

    def problem_line(self, problem: ErrorDetails) -> str:
        """The line about a bad value, a missing or an unknown key."""
        location = problem["loc"]
        if problem["type"] == "extra_forbidden":
            unknown = self.unknown_key(location)
            return f"{unknown.short_text}. {unknown.hint}".rstrip(" .") + "." * bool(unknown.hint)
        expectation = _expectation(problem)
        if not location:
            # the text of a problem of several keys names them
            named = dict.fromkeys(re.findall(r"[a-z_]+(?:\.[a-z_]+)*", expectation))
            keys = [(field, key) for field in self.model.model_fields for key in named]
            overrides = ", ".join(
                key
                for field, key in keys
                if key.split(".")[0] == field and self.is_override(tuple(key.split(".")))
            )
            return (
                f"{expectation}; from flags or overrides: {overrides}" if overrides else expectation
            )
        key = format_key(location)
        if problem["type"] == "missing":
            return f"{key}: missing, and has no default"
        override_note = " (from a flag or override)" if self.is_override(location) else ""
        value = repr(problem["input"])
        value = value if len(value) <= 80 else value[:77] + "..."
        return f"{key}: got {value}{override_note}; {expectation}"

    def unknown_key(self, location: Location, origin: str = "") -> UnknownNameError:
        """The error for an unknown key, with the nearest and with where it would be known."""
        *parents, leaf = location
        model = _model_at(self.model, parents)
        hints = []
        owners = [repr(name) for name in sections_with(str(leaf), self.model)]
        if not parents and leaf in self.command_by_key:
            owners.append(self.command_by_key[str(leaf)])
        if owners and leaf not in model.model_fields:
            hints.append(f"{leaf!r} is a key of {' and of '.join(owners)}.")
        if self.is_override(location):
            hints.append("It is from a flag or override.")
        elif origin:
            hints.append(f"In {origin}.")
        prefix = f"{format_key(parents)}." if parents else ""
        kind = "config key" if issubclass(self.model, ConfigSection) else "option"
        names = [f"{prefix}{name}" for name in model.model_fields]
        return UnknownNameError(kind, f"{prefix}{leaf}", names, " ".join(hints))


def _expectation(problem: ErrorDetails) -> str:
    if problem["type"] == "string_pattern_mismatch":
        return "expected " + describe_pattern(problem["ctx"]["pattern"])
    message: str = problem["msg"].removeprefix("Value error, ")
    message = _MESSAGES.get(problem["type"], message)
    message = message.replace("Input should be a valid", "expected a")
    message = message.replace("expected a integer", "expected an integer")
    for sign in ("greater than", "less than"):
        message = message.replace(f"Input should be {sign}", f"expected a number {sign}")
    return message.replace("Input should be", "expected")


def _nested_models(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _nested_models(argument)]


def _model_at(model: type[BaseModel], location: Sequence[int | str]) -> type[BaseModel]:
    """The model at a location; indices and dict keys stay on the same model."""
    for key in location:
        field: Any = model.model_fields.get(str(key))
        nested_models = _nested_models(field.annotation) if field is not None else []
        model = nested_models[0] if nested_models else model
    return model


def sections_with(leaf: str, model: type[BaseModel]) -> list[str]:
    """Names of a model's sections that have this key."""
    return [
        name
        for name, field in model.model_fields.items()
        if isinstance(field.annotation, type)
        and issubclass(field.annotation, BaseModel)
        and leaf in field.annotation.model_fields
    ]
