"""Combine a YAML file and overrides into one plain mapping, before validation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    ValidationError,
)

from fewshot_i2v.config.base import (
    LimitsConfig,
)
from fewshot_i2v.config.error_messages import Location, sections_with, translate_validation_error
from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.config.file_names import YAML_SUFFIXES, is_path, map_weights_file
from fewshot_i2v.config.method import check_method_names
from fewshot_i2v.config.start_names import is_start_path
from fewshot_i2v.config.training import _CONFIG_FOLDER, NO_AUGMENTATION, TrainingConfig
from fewshot_i2v.errors import ConfigError, UsageError
from fewshot_i2v.utils import resources
from fewshot_i2v.utils.yaml import load_yaml

PlainConfig = dict[str, Any]

SECTIONS = ("encoder", "video", "tuning", "validation", "augment", "inner")
_PATH_KEYS = (("root",), ("output",), ("cache",), ("encoder", "architecture"))
_NAME_OR_PATH_KEYS = (("split",), ("trials",))
_WEIGHTS_KEY = ("encoder", "pretrained")
_SAMPLING_KEYS = (
    *("subset", "way", "shot", "query", "episodes", "until", "max_episodes", "sampling"),
    *("partitions", "disjoint_groups", "uneven_shots", "draws"),
)


def read_config_source(
    source: str | Path | Mapping[str, Any] | None,
) -> tuple[PlainConfig, str, Path | None]:
    """Read a configuration.

    Args:
        source: None for the shipped "quickstart", the name of a shipped configuration, the path of
            a YAML file, or a mapping.

    Returns:
        The plain mapping, a name for messages, and the file if there is one.

    Raises:
        UsageError: when there is no such file or configuration, or it is not a mapping.
    """
    if isinstance(source, Mapping):
        return (
            _drop_empty_sections(_normalize(source, "the given mapping")),
            "the given mapping",
            None,
        )
    path = _find_config_file(source)
    data = load_yaml(path)
    if not isinstance(data, Mapping):
        raise ConfigError(f"{path}: expected a mapping of keys, got {type(data).__name__}")
    return (
        _resolve_relative_paths(_drop_empty_sections(_normalize(data, str(path))), path.parent),
        str(path),
        path,
    )


def replaces_quickstart_split(source: object, overrides: PlainConfig) -> bool:
    """Whether there is no source, and the overrides name another split than "quickstart" has.

    Its settings (no crop, few steps and episodes) fit only its own generated clips.
    """
    if source is not None or "split" not in overrides:
        return False
    return bool(overrides["split"] != load_yaml(_find_config_file(None)).get("split"))


def _drop_empty_sections(data: PlainConfig) -> PlainConfig:
    """Drop sections without content, which YAML reads as null."""
    return {
        key: value
        for key, value in data.items()
        if value is not None or key not in (*SECTIONS, "recipes")
    }


def _find_config_file(source: str | Path | None) -> Path:
    name = "quickstart" if source is None else str(source)
    path = Path(name).expanduser()
    if isinstance(source, Path) or name.lower().endswith(YAML_SUFFIXES) or path.is_file():
        if not path.is_file():
            config_names = ", ".join(resources.data_names("configs"))
            raise ConfigError(
                f"{path}: no such file; give the path of a YAML file or the name of a shipped "
                f"configuration ({config_names})"
            )
        return path
    return resources.data_file("configs", name)


def nest_overrides(overrides: Mapping[str, Any]) -> PlainConfig:
    """Nest dotted overrides: {"tuning.lr": 1} and {"tuning": {"lr": 1}} are the same."""
    nested: PlainConfig = {}
    for key, value in overrides.items():
        section = nested
        *parents, leaf = key.split(".")
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise ConfigError(f"override {key!r}: {parent!r} is given as a single value too")
        if isinstance(value, Mapping) and isinstance(section.get(leaf), Mapping):
            value = {**section[leaf], **value}
        section[leaf] = dict(value) if isinstance(value, Mapping) else value
    return _normalize(nested, "the overrides")


def apply_overrides(base: PlainConfig, overrides: PlainConfig) -> PlainConfig:
    """Apply overrides to a configuration.

    Sections are merged key by key. An override of a tuning key also wins over the recipes of
    single adapters. Another encoder name drops the file's other encoder keys and its starting
    points, which belong to the encoder it names. Frozen episodes or published draws in `overrides`
    drop the file's number of episodes, and frozen ones its sampling keys; `episodes` and `until`
    drop each other.
    """
    merged = {
        **base,
        **{key: value for key, value in overrides.items() if key not in (*SECTIONS, "recipes")},
    }
    encoder = overrides.get("encoder", {})
    if isinstance(encoder, Mapping) and "name" in encoder:
        base_encoder = base.get("encoder", {})
        if (
            isinstance(base_encoder, Mapping)
            and base_encoder.get("name", encoder["name"]) != encoder["name"]
        ):
            merged["encoder"] = {}
            if "start" not in overrides:
                merged.pop("start", None)
    _drop_conflicting_keys(merged, overrides)
    finetune_overrides = overrides.get("tuning", {})
    if isinstance(finetune_overrides, Mapping) and isinstance(base.get("recipes"), Mapping):
        merged["recipes"] = {
            name: _without_keys(recipe, finetune_overrides)
            for name, recipe in base["recipes"].items()
        }
    for section in SECTIONS:
        if section in overrides:
            merged[section] = _merge_section(merged.get(section), overrides[section])
    if "recipes" in overrides:
        merged["recipes"] = _merge_recipes(merged.get("recipes"), overrides["recipes"])
    return merged


def _drop_conflicting_keys(merged: PlainConfig, overrides: PlainConfig) -> None:
    """Drop the file's episode keys that conflict with those of `overrides`."""
    for key in _SAMPLING_KEYS if overrides.get("trials") is not None else ():
        if key not in overrides:
            merged.pop(key, None)
    if overrides.get("until") is not None and "episodes" not in overrides:
        merged.pop("episodes", None)
    elif "episodes" in overrides and "until" not in overrides:
        merged.pop("until", None)
        if "max_episodes" not in overrides:  # given beside episodes, it is refused
            merged.pop("max_episodes", None)
    elif overrides.get("draws") is not None:
        merged.pop("episodes", None)
    if merged.get("draws") is not None and merged.get("until") is None:
        merged.setdefault("episodes", "all")


def _merge_section(base: object, overrides: object) -> object:
    """Merge two mappings; keep anything else for validation to report."""
    if base is None or not isinstance(overrides, Mapping):
        return overrides
    return {**base, **overrides} if isinstance(base, Mapping) else base


def _merge_recipes(base: object, overrides: object) -> object:
    if not (isinstance(base, Mapping) and isinstance(overrides, Mapping)):
        return _merge_section(base, overrides)
    return {
        **base,
        **{name: _merge_section(base.get(name), recipe) for name, recipe in overrides.items()},
    }


def _without_keys(recipe: object, keys: Mapping[str, Any]) -> object:
    if not isinstance(recipe, Mapping):
        return recipe
    return {key: value for key, value in recipe.items() if key not in keys}


def leaf_keys(data: Mapping[str, Any], parents: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the keys of all values, in sections too."""
    for key, value in data.items():
        location = (*parents, key)
        if isinstance(value, Mapping) and location[0] in (*SECTIONS, "recipes"):
            yield from leaf_keys(value, location)
        else:
            yield location


def _normalize(data: Mapping[str, Any], origin: str) -> PlainConfig:
    """Expand short forms to long forms; refuse keys that are not text."""
    invalid_keys = [key for key in data if not isinstance(key, str)]
    if invalid_keys:
        raise ConfigError(
            f"{origin}: the key {invalid_keys[0]!r} is not a text; see the list of keys"
        )
    normalized = dict(data)
    if isinstance(normalized.get("encoder"), str):
        normalized["encoder"] = {"name": normalized["encoder"]}
    return normalized


def _resolve_relative_paths(data: PlainConfig, folder: Path) -> PlainConfig:
    """Resolve relative paths against the configuration's folder."""
    resolved = {
        key: dict(value) if key in SECTIONS and isinstance(value, Mapping) else value
        for key, value in data.items()
    }
    for location in (*_PATH_KEYS, *_NAME_OR_PATH_KEYS, _WEIGHTS_KEY):
        *parents, leaf = location
        section: object = resolved.get(parents[0]) if parents else resolved
        if not isinstance(section, dict):
            continue
        value = section.get(leaf)
        if not isinstance(value, str) or not value:
            continue
        if location == _WEIGHTS_KEY:
            section[leaf] = map_weights_file(value, lambda file: _join_path(folder, file))
        elif location in _PATH_KEYS or is_path(value):
            section[leaf] = _join_path(folder, value)
    if "start" in resolved:
        resolved["start"] = _resolve_start_paths(resolved["start"], folder)
    return resolved


def _resolve_start_paths(value: object, folder: Path) -> object:
    """Resolve the paths among starting points; names and "fresh" are unchanged."""
    if isinstance(value, list):
        return [_resolve_start_paths(start, folder) for start in value]
    return (
        _join_path(folder, value)
        if isinstance(value, str) and is_start_path(value, folder)
        else value
    )


def _join_path(folder: Path, path: str) -> str:
    return str(folder / Path(path).expanduser())


def config_error_for(
    error: ValidationError,
    model: type[BaseModel],
    *,
    origin: str,
    data: Mapping[str, Any],
    overrides: Mapping[str, Any],
) -> UsageError:
    """Build the error for a configuration of `evaluate` or `train` that does not validate.

    Args:
        error: pydantic's error.
        model: `EvaluationConfig` or `TrainingConfig`.
        origin: the file, or another name of the source of `data`.
        data: the configuration without the overrides.
        overrides: the overrides, nested.

    Returns:
        A ConfigError if `data` is the output of `--dry-run`, or belongs to the other command, which
        it names; else as `translate_validation_error`, which names the other command at its keys.
    """
    if _is_dry_run(model, data):
        return ConfigError(
            f"{origin}: this is the output of --dry-run; the configuration is what stands below "
            "its key config. Give a file with that alone"
        )
    other_model = _other_model(model)
    foreign_keys = [
        key for key in data if key in other_model.model_fields.keys() - model.model_fields.keys()
    ]
    if foreign_keys and _belongs_to(other_model, model, data, foreign_keys, error):
        return ConfigError(
            f"{origin}: a configuration of {_command_name(other_model)}; {_command_name(model)} "
            f"has no {', '.join(foreign_keys)}. Give it to {_command_name(other_model)}, or leave "
            "these keys out"
        )
    override_keys = set(leaf_keys(overrides))

    def _is_override(location: Location) -> bool:
        return any(tuple(map(str, location[: len(leaf)])) == leaf for leaf in override_keys)

    command_by_key = dict.fromkeys(
        other_model.model_fields.keys() - model.model_fields.keys(), _command_name(other_model)
    )
    return translate_validation_error(
        error, model, origin=origin, is_override=_is_override, command_by_key=command_by_key
    )


def parse_limits(overrides: Mapping[str, Any]) -> LimitsConfig:
    """Validate a clip's decoding limits, for commands without a configuration.

    Args:
        overrides: the flags, by dotted key.

    Raises:
        ConfigError: listing every bad value.
    """
    try:
        return LimitsConfig.model_validate(nest_overrides(overrides).get("limits", {}))
    except ValidationError as error:
        raise translate_validation_error(
            error, LimitsConfig, origin="limits (flags --max-...)"
        ) from error


def _is_dry_run(model: type[BaseModel], data: Mapping[str, Any]) -> bool:
    """Whether the data is a dry run: a configuration below `config`, none beside it."""
    config_keys = data.keys() & model.model_fields.keys() - {"name"}  # a file's name is filled in
    return isinstance(data.get("config"), Mapping) and not config_keys


def _belongs_to(
    other_model: type[BaseModel],
    model: type[BaseModel],
    data: Mapping[str, Any],
    foreign_keys: list[str],
    error: ValidationError,
) -> bool:
    """Whether a configuration with keys that only `other_model` has belongs to it.

    It does not if keys of both are mixed. If all foreign keys also exist in sections of `model`
    (`lr` in `tuning`), they may only be misplaced; then it belongs to `other_model` if that
    validates it, and `model` reports more than unknown keys.
    """
    if any(key in model.model_fields.keys() - other_model.model_fields.keys() for key in data):
        return False
    if not all(sections_with(key, model) for key in foreign_keys):
        return True
    if all(problem["type"] == "extra_forbidden" for problem in error.errors()):
        return False
    try:
        other_model.model_validate(dict(data))
    except ValidationError:
        return False
    return True


def _other_model(model: type[BaseModel]) -> type[BaseModel]:
    return TrainingConfig if model is EvaluationConfig else EvaluationConfig


def _command_name(model: type[BaseModel]) -> str:
    return f"`fewshot-i2v {'evaluate' if model.__name__ == 'EvaluationConfig' else 'train'}`"


def load_run_config(
    source: str | Path | Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> EvaluationConfig:
    """Reads and validates the configuration of an evaluation, without looking at any data.

    Args:
        source: as for `fewshot_i2v.load_config`, which also looks at the starting points.
        overrides: by key, dotted ("tuning.lr") or nested; None as a value is a value.

    Raises:
        UnknownNameError: for a configuration or key that does not exist.
        ConfigError: listing every bad key with the value given and what was expected; or naming
            the command that the configuration belongs to.
    """
    data, origin, file = read_config_source(source)
    over = nest_overrides(overrides or {})
    if replaces_quickstart_split(source, over):
        data, origin, file = {}, "the defaults", Path(str(over["split"]))
    if file is not None:
        data.setdefault("name", re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).lstrip("._-") or "run")
    try:
        return EvaluationConfig.model_validate(apply_overrides(data, over))
    except ValidationError as error:
        raise config_error_for(
            error, EvaluationConfig, origin=origin, data=data, overrides=over
        ) from error


def config_schema() -> dict[str, Any]:
    """The JSON schema of an evaluation's configuration, for editors of YAML files."""
    return EvaluationConfig.model_json_schema()


def load_train_config(
    source: str | Path | Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> TrainingConfig:
    """Read the configuration of a training: overrides win over the file, the file over defaults.

    Args:
        source: the name of a shipped configuration ("train/motions" or "motions"), the path of a
            YAML file, or a mapping; None is the shipped "train/motions".
        overrides: by key, dotted ("validation.every") or nested.

    Raises:
        UnknownNameError: for a configuration, key, adapter or head that does not exist.
        ConfigError: listing every bad key with its value and what was expected; or naming the
            command that the configuration belongs to.
    """
    data, origin, file = read_config_source(_resolve_source(source))
    nested_overrides = nest_overrides(overrides or {})
    if file is not None:
        data.setdefault("name", re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).lstrip("._-") or "run")
    validation = nested_overrides.get("validation")
    if isinstance(validation, dict) and validation.get("classes"):
        validation.setdefault(
            "subset", None
        )  # classes held out take the place of the file's subset
    for values in (data, nested_overrides):
        if values.get("augment") == "off":
            values["augment"] = dict(NO_AUGMENTATION)
    try:
        config = TrainingConfig.model_validate(apply_overrides(data, nested_overrides))
    except ValidationError as error:
        raise config_error_for(
            error, TrainingConfig, origin=origin, data=data, overrides=nested_overrides
        ) from error
    check_method_names("adapters", [config.adapter.name])
    check_method_names("heads", [config.head.name, config.validation.head.name])
    if config.adapter.name == "frozen":
        raise ConfigError(f"{origin}: the adapter 'frozen' has nothing to train; name another")
    return config


def _resolve_source(
    source: str | Path | Mapping[str, Any] | None,
) -> str | Path | Mapping[str, Any]:
    """Add the folder to the bare name of a shipped training configuration."""
    if source is None:
        return f"{_CONFIG_FOLDER}/motions"
    names = resources.data_names("configs")
    if (
        isinstance(source, str)
        and f"{_CONFIG_FOLDER}/{source}" in names
        and not Path(source).is_file()
    ):
        return f"{_CONFIG_FOLDER}/{source}"
    return source
