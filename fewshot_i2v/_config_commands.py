"""Refusing a configuration of `evaluate` or `train`, and saying when it is one of the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from fewshot_i2v._config_errors import Location, config_error, sections_with
from fewshot_i2v._config_merge import expand, leaves
from fewshot_i2v._config_models import LimitsConfig
from fewshot_i2v.errors import ConfigError, UsageError


def refusal(
    error: ValidationError,
    model: type[BaseModel],
    *,
    origin: str,
    data: Mapping[str, Any],
    over: Mapping[str, Any],
) -> UsageError:
    """The error to raise for the configuration of a run or a training that does not validate.

    Args:
        error: what pydantic found.
        model: `RunConfig` or `TrainConfig`.
        origin: the file, or another name of where `data` is from.
        data: the configuration without the overrides.
        over: the overrides, nested.

    Returns:
        A ConfigError that says so where it is what `--dry-run` writes, or that names the other
        command where the configuration is one of that; else what `config_error` returns, with the
        other command at keys that it has.
    """
    if _is_dry_run(model, data):
        return ConfigError(
            f"{origin}: this is the output of --dry-run; the configuration is what stands below "
            "its key config. Give a file with that alone"
        )
    other = _other(model)
    foreign = [key for key in data if key in other.model_fields.keys() - model.model_fields.keys()]
    if foreign and _is_of(other, model, data, foreign, error):
        return ConfigError(
            f"{origin}: a configuration of {_command(other)}; {_command(model)} has no "
            f"{', '.join(foreign)}. Give it to {_command(other)}, or leave these keys out"
        )
    given = set(leaves(over))

    def _is_given(location: Location) -> bool:
        return any(tuple(map(str, location[: len(leaf)])) == leaf for leaf in given)

    commands = dict.fromkeys(other.model_fields.keys() - model.model_fields.keys(), _command(other))
    return config_error(error, model, origin=origin, given=_is_given, commands=commands)


def limits_of(over: Mapping[str, Any]) -> LimitsConfig:
    """What a clip may take, for a command that has flags for it and no configuration.

    Args:
        over: the flags given, by dotted key.

    Raises:
        ConfigError: listing every bad value.
    """
    try:
        return LimitsConfig.model_validate(expand(over).get("limits", {}))
    except ValidationError as error:
        raise config_error(error, LimitsConfig, origin="limits (flags --max-...)") from error


def _is_dry_run(model: type[BaseModel], data: Mapping[str, Any]) -> bool:
    """Whether a configuration stands below a key and none beside it, as in a plan of a run."""
    beside = data.keys() & model.model_fields.keys() - {"name"}  # a file's name is filled in
    return isinstance(data.get("config"), Mapping) and not beside


def _is_of(
    other: type[BaseModel],
    model: type[BaseModel],
    data: Mapping[str, Any],
    foreign: list[str],
    error: ValidationError,
) -> bool:
    """Whether a configuration with keys that `model` lacks and `other` has is one of `other`.

    It is not where keys of both are mixed. Where all of those keys also stand in sections of
    `model` (`lr` in `tuning`), they may only be in the wrong place; then it is one of `other` if
    that takes it as it is, and `model` finds more than unknown keys.
    """
    if any(key in model.model_fields.keys() - other.model_fields.keys() for key in data):
        return False
    if not all(sections_with(key, model) for key in foreign):
        return True
    if all(problem["type"] == "extra_forbidden" for problem in error.errors()):
        return False
    try:
        other.model_validate(dict(data))
    except ValidationError:
        return False
    return True


def _other(model: type[BaseModel]) -> type[BaseModel]:
    # both modules import this one
    from fewshot_i2v.config import RunConfig
    from fewshot_i2v.train_config import TrainConfig

    return TrainConfig if model is RunConfig else RunConfig


def _command(model: type[BaseModel]) -> str:
    return f"`fewshot-i2v {'evaluate' if model.__name__ == 'RunConfig' else 'train'}`"
