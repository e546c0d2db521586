"""Make the configuration of a run from a YAML file and overrides: these win over it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from fewshot_i2v.config.base import CommonConfig, LimitsConfig
from fewshot_i2v.config.episodes import SAMPLING_KEYS
from fewshot_i2v.config.error_messages import Location, sections_with, translate_validation_error
from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.config.file_names import YAML_SUFFIXES, RelativeToFile
from fewshot_i2v.config.keys import config_keys, section_model
from fewshot_i2v.config.method import MethodSpec, check_method_names
from fewshot_i2v.config.training import NO_AUGMENTATION, TrainingConfig
from fewshot_i2v.config.training_recipes import without_recipe_keys
from fewshot_i2v.errors import ConfigError, UsageError, suggest_names
from fewshot_i2v.utils import resources
from fewshot_i2v.utils.misplaced_paths import TRAIN_FLAGS, explain_file, explain_folder
from fewshot_i2v.utils.yaml import load_yaml

Source = str | Path | Mapping[str, Any] | None
PlainConfig = dict[str, Any]
Config = TypeVar("Config", bound=CommonConfig)

_DEFAULTS = "the defaults"
"""What messages call the source of values where no configuration is read."""

MERGED_SECTIONS = tuple(
    dict.fromkeys(
        name
        for model in (EvaluationConfig, TrainingConfig)
        for name, field in model.model_fields.items()
        if section_model(field) and name != "limits"  # these are replaced together
    )
)
"""Sections that overrides change key by key."""


def load_run_config(
    source: Source = None, overrides: Mapping[str, Any] | None = None
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
    nested_overrides = nest_overrides(overrides or {})
    data, origin = _read_source_or_defaults(
        source, EvaluationConfig, nested_overrides, usual="quickstart"
    )
    return _validate(EvaluationConfig, data, nested_overrides, origin)


def load_train_config(
    source: Source = None, overrides: Mapping[str, Any] | None = None
) -> TrainingConfig:
    """Read the configuration of a training: overrides win over the file, the file over defaults.

    The recipe of the adapter, which the training takes for keys that are not set, wins over a
    shipped file in one case: where the overrides name another adapter than the file, whose
    settings were chosen for the one that it names.

    Args:
        source: the name of a shipped configuration ("train/motions" or "motions"), the path of a
            YAML file, or a mapping; None is the shipped "train/motions", or the defaults where the
            overrides name a split of other clips.
        overrides: by key, dotted ("validation.every") or nested.

    Raises:
        UnknownNameError: for a configuration, key, adapter or head that does not exist.
        ConfigError: listing every bad key with its value and what was expected; or naming the
            command that the configuration belongs to.
    """
    if isinstance(source, str) and not Path(source).is_file():
        shipped_name = f"train/{source}"
        source = shipped_name if shipped_name in resources.data_names("configs") else source
    nested_overrides = nest_overrides(overrides or {})
    data, origin = _read_source_or_defaults(
        source, TrainingConfig, nested_overrides, usual="train/motions"
    )
    if origin == _DEFAULTS and "adapter" not in nested_overrides:
        raise ConfigError(
            f"{_DEFAULTS}: adapter: missing, and has no default; expected --adapter NAME, one of "
            "`fewshot-i2v list adapters`"
        )
    validation = nested_overrides.get("validation")
    if isinstance(validation, dict) and validation.get("classes"):
        # classes held out take the place of the file's subset
        validation.setdefault("subset", None)
    for values in (data, nested_overrides):
        if values.get("augment") == "off":
            values["augment"] = dict(NO_AUGMENTATION)
    config = _validate(TrainingConfig, data, nested_overrides, origin)
    if _has_another_adapter(config, data, origin):
        data = without_recipe_keys(data, config)
        config = _validate(TrainingConfig, data, nested_overrides, origin)
    check_method_names("adapters", [config.adapter.name])
    check_method_names("heads", [config.head.name, config.validation.head.name])
    if config.adapter.name == "frozen":
        source = "--adapter" if "adapter" in nested_overrides else f"{origin}: adapter"
        raise ConfigError(
            f"{source}: got 'frozen', which has nothing to train; expected another of "
            "`fewshot-i2v list adapters`"
        )
    return config


def _has_another_adapter(config: TrainingConfig, data: PlainConfig, origin: str) -> bool:
    """Whether it is a shipped file, trained with another adapter than it names."""
    path, folder = Path(origin).resolve(), resources.data_folder("configs").resolve()
    if not (path.is_file() and path.is_relative_to(folder)):
        return False  # a mapping, or a file of the user
    return config.adapter.name != MethodSpec.model_validate(data["adapter"]).name


def command_of(source: str | Path) -> str:
    """Returns the command that a configuration is for, "evaluate" or "train", by its keys.

    Args:
        source: the name of a shipped configuration, or the path of a YAML file.

    Raises:
        UsageError: when there is no such file or configuration, or it is not a mapping.
    """
    data, _ = _read_source(_training_name(source), EvaluationConfig)
    evaluation_keys, training_keys = (
        model.model_fields.keys() for model in (EvaluationConfig, TrainingConfig)
    )
    is_training = data.keys() & (training_keys - evaluation_keys)
    return (
        "train"
        if is_training and not data.keys() & (evaluation_keys - training_keys)
        else ("evaluate")
    )


def _training_name(source: str | Path) -> str | Path:
    """Returns the full name of a shipped training configuration that is named in short."""
    name = f"train/{source}"
    is_short = name in resources.data_names("configs") and not Path(source).is_file()
    return name if is_short and str(source) not in resources.data_names("configs") else source


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


def config_schema() -> dict[str, Any]:
    """The JSON schema of an evaluation's configuration, for editors of YAML files."""
    return EvaluationConfig.model_json_schema()


def _read_source(
    source: str | Path | Mapping[str, Any], model: type[CommonConfig]
) -> tuple[PlainConfig, str]:
    """Read a configuration as a plain mapping, and return it with a name for messages.

    `model` says which keys of a file are paths, relative to it.
    """
    if isinstance(source, Mapping):
        origin = "the mapping"
        return _drop_empty_sections(_expand_short_forms(source, origin)), origin
    command = "train" if model is TrainingConfig else "evaluate"
    path = _find_config_file(source, command)
    data = load_yaml(path)
    if not isinstance(data, Mapping):
        raise ConfigError(
            f"{path}: {'is empty' if data is None else f'got {type(data).__name__}'}; expected a "
            f"mapping of keys. Write a file to edit with `fewshot-i2v init {command}.yaml`"
        )
    if "subsets" in data and "split" not in data:
        root = "" if {"generator", "root"} & data.keys() else " --root CLIPS"
        root += TRAIN_FLAGS if command == "train" else ""
        raise ConfigError(
            f"{path}: is a split; expected a configuration. Use the split with "
            f"`fewshot-i2v {command} --split {shlex.quote(str(path))}{root}`"
        )
    values = _drop_empty_sections(_expand_short_forms(data, str(path)))
    _resolve_relative_paths(values, path.parent, model)
    values.setdefault("name", _name_from_file(path))
    return values, str(path)


def _read_source_or_defaults(
    source: Source, model: type[CommonConfig], overrides: Mapping[str, Any], *, usual: str
) -> tuple[PlainConfig, str]:
    """Read a configuration, as `_read_source`; without a source the usual one of the command.

    Its settings (crop, steps, rates, episodes) fit only its own clips: where the overrides name
    another split, there are the defaults alone.
    """
    data, origin = _read_source(usual if source is None else source, model)
    split = overrides.get("split", data.get("split"))
    if source is None and split != data.get("split"):
        return {"name": _name_from_file(Path(str(split)))}, _DEFAULTS
    return data, origin


def _find_config_file(source: str | Path, command: str) -> Path:
    name = str(source)
    path = Path(name).expanduser()
    if path.is_file():
        if explanation := explain_file(path, command):
            raise ConfigError(f"{path}: {explanation}")
        return path
    if path.is_dir() and name not in resources.data_names("configs"):
        raise ConfigError(f"{path}: {explain_folder(path, command)}")
    if isinstance(source, Path) or name.lower().endswith(YAML_SUFFIXES):
        neighbours = [str(path.with_name(other.name)) for other in path.parent.glob("*.y*ml")]
        names = [*neighbours, *resources.data_names("configs")]
        problem = " ".join(filter(None, ("no such file;", suggest_names(name, names))))
        raise ConfigError(
            f"{path}: {problem} expected a YAML file, or a name from `fewshot-i2v list configs`. "
            f"Write a new file with `fewshot-i2v init {shlex.quote(str(path))}`"
        )
    is_training = command == "train" or name.startswith("train/")
    names = [n for n in resources.data_names("configs") if n.startswith("train/") == is_training]
    return resources.data_file("configs", name, names)


def _name_from_file(path: Path) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).lstrip("._-") or "run"


def _expand_short_forms(data: Mapping[str, Any], origin: str) -> PlainConfig:
    """Expand an encoder's name to its section; refuse keys that are not text."""
    invalid_keys = [key for key in data if not isinstance(key, str)]
    if invalid_keys:
        raise ConfigError(
            f"{origin}: got the key {invalid_keys[0]!r}; expected text, as in configs/README.md"
        )
    expanded = dict(data)
    if isinstance(expanded.get("encoder"), str):
        expanded["encoder"] = {"name": expanded["encoder"]}
    return expanded


def _drop_empty_sections(data: PlainConfig) -> PlainConfig:
    """Drop sections without content, which YAML reads as null."""
    sections = (*MERGED_SECTIONS, "recipes")
    return {key: value for key, value in data.items() if value is not None or key not in sections}


def _resolve_relative_paths(data: PlainConfig, folder: Path, model: type[BaseModel]) -> None:
    """Resolve relative paths against the configuration's folder."""
    for name, key in config_keys(model).items():
        *parents, leaf = name.split(".")
        section = data.get(parents[0]) if parents else data
        if key.relative is not None and isinstance(section, dict) and leaf in section:
            section[leaf] = _resolve_values(section[leaf], folder, key.relative, key.several)


def _resolve_values(value: object, folder: Path, mark: RelativeToFile, several: bool) -> object:
    if isinstance(value, list) and several:
        return [_resolve_values(item, folder, mark, several) for item in value]
    return mark.resolve(value, folder) if isinstance(value, str) else value


def nest_overrides(overrides: Mapping[str, Any]) -> PlainConfig:
    """Nest dotted overrides: {"tuning.lr": 1} and {"tuning": {"lr": 1}} are the same."""
    nested: PlainConfig = {}
    for key, value in overrides.items():
        section = nested
        if not isinstance(key, str):
            raise ConfigError(f"override {key!r}: expected a key such as 'tuning.steps'")
        *parents, leaf = key.split(".")
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise ConfigError(f"override {key!r}: {parent!r} has a single value too")
        if isinstance(value, Mapping) and isinstance(section.get(leaf), Mapping):
            value = {**section[leaf], **value}
        section[leaf] = dict(value) if isinstance(value, Mapping) else value
    return _expand_short_forms(nested, "the overrides")


def leaf_keys(data: Mapping[str, Any], parents: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the keys of all values, in sections too."""
    for key, value in data.items():
        location = (*parents, key)
        if isinstance(value, Mapping) and location[0] in (*MERGED_SECTIONS, "recipes"):
            yield from leaf_keys(value, location)
        else:
            yield location


def _apply_overrides(base: PlainConfig, overrides: PlainConfig) -> PlainConfig:
    """Apply overrides to a configuration.

    Sections are merged key by key. An override of a tuning key also wins over the recipes of
    single adapters. Another encoder name drops the file's other encoder keys and its starting
    points, which belong to the encoder it names. Frozen episodes or published draws in `overrides`
    drop the file's number of episodes, and frozen ones its sampling keys; `episodes` and `until`
    drop each other.
    """
    sections = (*MERGED_SECTIONS, "recipes")
    merged = {**base, **{key: overrides[key] for key in overrides if key not in sections}}
    if _names_another_encoder(base.get("encoder", {}), overrides.get("encoder", {})):
        merged["encoder"] = {}
        if "start" not in overrides:
            merged.pop("start", None)
    _drop_conflicting_keys(merged, overrides)
    tuning, recipes = overrides.get("tuning", {}), base.get("recipes")
    if isinstance(tuning, Mapping) and isinstance(recipes, Mapping):
        merged["recipes"] = {
            name: {key: recipe[key] for key in recipe if key not in tuning}
            if isinstance(recipe, Mapping)
            else recipe
            for name, recipe in recipes.items()
        }
    for section in sections:
        if section in overrides:
            levels = 2 if section == "recipes" else 1
            merged[section] = _merge_section(merged.get(section), overrides[section], levels)
    return merged


def _names_another_encoder(base: object, overrides: object) -> bool:
    if not (isinstance(base, Mapping) and isinstance(overrides, Mapping) and "name" in overrides):
        return False
    return bool(base.get("name", overrides["name"]) != overrides["name"])


def _drop_conflicting_keys(merged: PlainConfig, overrides: PlainConfig) -> None:
    """Drop the file's episode keys that conflict with those of `overrides`."""
    for key in SAMPLING_KEYS if overrides.get("trials") is not None else ():
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


def _merge_section(base: object, overrides: object, levels: int) -> object:
    """Merge two mappings, and those in them; keep anything else for validation to report."""
    if base is None or levels == 0 or not isinstance(overrides, Mapping):
        return overrides
    if not isinstance(base, Mapping):
        return base
    merged = {key: _merge_section(base.get(key), overrides[key], levels - 1) for key in overrides}
    return {**base, **merged}


def _validate(
    model: type[Config], data: PlainConfig, overrides: PlainConfig, origin: str
) -> Config:
    """Validate a configuration with its overrides; a ConfigError names the command it is for."""
    try:
        return model.model_validate(_apply_overrides(data, overrides))
    except ValidationError as error:
        raise _config_error(error, model, data, overrides, origin) from error


def _config_error(
    error: ValidationError,
    model: type[CommonConfig],
    data: PlainConfig,
    overrides: PlainConfig,
    origin: str,
) -> UsageError:
    config_keys_present = data.keys() & model.model_fields.keys() - {"name"}  # it is filled in
    if isinstance(data.get("config"), Mapping) and not config_keys_present:
        return ConfigError(
            f"{origin}: is the output of --dry-run; expected a configuration. It is what stands "
            "below the key config: put that into a file of its own"
        )
    command, other_command = "`fewshot-i2v evaluate`", "`fewshot-i2v train`"
    other_model: type[CommonConfig] = TrainingConfig
    if model is TrainingConfig:
        command, other_command, other_model = other_command, command, EvaluationConfig
    only_there = other_model.model_fields.keys() - model.model_fields.keys()
    foreign_keys = [key for key in data if key in only_there]
    if foreign_keys and _belongs_to(other_model, model, data, foreign_keys, error):
        return ConfigError(
            f"{origin}: a configuration of {other_command}; {command} has no "
            f"{', '.join(foreign_keys)}. Give it to {other_command}, or remove these keys"
        )
    override_keys = set(leaf_keys(overrides))

    def _is_override(location: Location) -> bool:
        return any(tuple(map(str, location[: len(leaf)])) == leaf for leaf in override_keys)

    return translate_validation_error(
        error,
        model,
        origin=origin,
        is_override=_is_override,
        command_by_key=dict.fromkeys(only_there, other_command),
    )


def _belongs_to(
    other_model: type[BaseModel],
    model: type[BaseModel],
    data: PlainConfig,
    foreign_keys: list[str],
    error: ValidationError,
) -> bool:
    """Whether a configuration with keys that only `other_model` has belongs to it.

    It does not if keys of both are mixed. If all foreign keys also exist in sections of `model`
    (`lr` in `tuning`), they may only be misplaced; then it belongs to `other_model` if that
    validates it, and `model` reports more than unknown keys.
    """
    if data.keys() & (model.model_fields.keys() - other_model.model_fields.keys()):
        return False
    if not all(sections_with(key, model) for key in foreign_keys):
        return True
    if all(problem["type"] == "extra_forbidden" for problem in error.errors()):
        return False
    try:
        other_model.model_validate(data)
    except ValidationError:
        return False
    return True
