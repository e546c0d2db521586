"""Pydantic's complaints in the words of this package: key, value given, what was expected."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError

from fewshot_i2v.config.base import Section
from fewshot_i2v.errors import ConfigError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Location = tuple[int | str, ...]

_SHOWN = 20
_WORDS = {
    "string_too_short": "expected a name, got an empty text",
    "path_type": "expected a path",
    "model_type": "expected a mapping of keys",
    "dict_type": "expected a mapping of keys",
}
_PATTERNS = {
    r"^[A-Za-z0-9][A-Za-z0-9._-]*$": "letters, digits, '.', '_' and '-', and no other sign",
    r"^(summary|grid[1-9]\d?)$": "'summary', or 'gridN' with N from 1 to 99",
}


def config_error(
    error: ValidationError,
    model: type[BaseModel],
    *,
    origin: str,
    given: Callable[[Location], bool] = lambda _: False,
    commands: Mapping[str, str] = MappingProxyType({}),
) -> UsageError:
    """The error to raise for a configuration that does not validate.

    Args:
        error: what pydantic found.
        model: the model that was validated.
        origin: the file, or another name of where the values are from.
        given: whether a key was given as an override and not in the file.
        commands: by key that the model does not have at the top, whose it is.

    Returns:
        UnknownNameError for a single unknown key, else a ConfigError that lists every bad key.
    """
    problems = error.errors(include_url=False)
    if len(problems) == 1 and problems[0]["type"] == "extra_forbidden":
        location = problems[0]["loc"]
        return _unknown_key(location, model, origin, given=given(location), commands=commands)
    lines = [_line(problem, model, given, commands) for problem in problems[:_SHOWN]]
    if len(lines) == 1:
        return ConfigError(f"{origin}: {lines[0]}")
    more = [f"... and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
    text = "\n  ".join([*lines, *more])
    return ConfigError(f"{origin}: {len(problems)} bad values\n  {text}")


def key_text(location: Sequence[int | str]) -> str:
    """A location as one writes it.

    >>> key_text(("adapter", 0, "name"))
    'adapter[0].name'
    """
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.lstrip(".")


def pattern_in_words(pattern: str) -> str:
    """What a text must be that a pattern (of a key or an option) is for.

    >>> pattern_in_words("^x+$")
    'text that matches ^x+$'
    """
    return _PATTERNS.get(pattern, f"text that matches {pattern}")


def _line(
    problem: ErrorDetails,
    model: type[BaseModel],
    given: Callable[[Location], bool],
    commands: Mapping[str, str],
) -> str:
    location, kind = problem["loc"], problem["type"]
    if kind == "extra_forbidden":
        return str(_unknown_key(location, model, "", given=given(location), commands=commands))
    if not location:
        return _together(_expected(problem), model, given)
    key = key_text(location)
    if kind == "missing":
        return f"{key}: missing, and has no default"
    source = " (given as an override)" if given(location) else ""
    shown = repr(problem["input"])
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return f"{key}: got {shown}{source}; {_expected(problem)}"


def _together(text: str, model: type[BaseModel], given: Callable[[Location], bool]) -> str:
    """What is wrong with several keys together, which `text` names: which of them are overrides."""
    named = [key for key in model.model_fields if re.search(rf"\b{key}\b", text)]
    over = [key for key in named if given((key,))]
    return f"{text}; given as overrides: {', '.join(over)}" if over else text


def _expected(problem: ErrorDetails) -> str:
    if problem["type"] == "string_pattern_mismatch":
        return "expected " + pattern_in_words(problem["ctx"]["pattern"])
    message: str = problem["msg"].removeprefix("Value error, ")
    message = _WORDS.get(problem["type"], message)
    message = message.replace("Input should be a valid", "expected a")
    message = message.replace("expected a integer", "expected an integer")
    for sign in ("greater than", "less than"):
        message = message.replace(f"Input should be {sign}", f"expected a number {sign}")
    return message.replace("Input should be", "expected")


def _unknown_key(
    location: Location,
    model: type[BaseModel],
    origin: str,
    *,
    given: bool,
    commands: Mapping[str, str],
) -> UnknownNameError:
    *parents, leaf = location
    section = key_text(parents)
    known = _model_at(model, parents).model_fields
    hints = []
    elsewhere = [repr(name) for name in sections_with(str(leaf), model)]
    if not parents and leaf in commands:
        elsewhere.append(commands[str(leaf)])
    if elsewhere and leaf not in known:
        hints.append(f"{leaf!r} is a key of {' and of '.join(elsewhere)}.")
    if given:
        hints.append("It was given as an override.")
    elif origin:
        hints.append(f"In {origin}.")
    prefix = f"{section}." if section else ""
    kind = "config key" if issubclass(model, Section) else "option"
    return UnknownNameError(
        kind, f"{prefix}{leaf}", [f"{prefix}{name}" for name in known], " ".join(hints)
    )


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models_in(part)]


def _model_at(model: type[BaseModel], location: Sequence[int | str]) -> type[BaseModel]:
    """The model whose keys stand at a location; indices and dict keys stay on the same one."""
    for part in location:
        field: Any = model.model_fields.get(str(part))
        nested = _models_in(field.annotation) if field is not None else []
        model = nested[0] if nested else model
    return model


def sections_with(leaf: str, model: type[BaseModel]) -> list[str]:
    """Names of the sections of a model that have a key of this name."""
    return [
        name
        for name, field in model.model_fields.items()
        if isinstance(field.annotation, type)
        and issubclass(field.annotation, BaseModel)
        and leaf in field.annotation.model_fields
    ]
