"""From a YAML file and overrides to one plain mapping, before anything is validated."""

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
from fewshot_i2v.config.error_messages import Location, config_error, sections_with
from fewshot_i2v.config.evaluation import RunConfig
from fewshot_i2v.config.file_names import YAML_SUFFIXES, is_path, with_file
from fewshot_i2v.config.method import check_names
from fewshot_i2v.config.start_names import is_start_path
from fewshot_i2v.config.training import _FOLDER, _UNAUGMENTED, TrainConfig
from fewshot_i2v.errors import ConfigError, UsageError
from fewshot_i2v.utils import resources
from fewshot_i2v.utils.yaml import load_yaml

Plain = dict[str, Any]

SECTIONS = ("encoder", "video", "tuning", "validation", "augment", "inner")
_PATHS = (("root",), ("output",), ("cache",), ("encoder", "architecture"))
_NAMES_OR_PATHS = (("split",), ("trials",))
_WEIGHTS = ("encoder", "pretrained")
_DRAWING = (
    *("subset", "way", "shot", "query", "episodes", "until", "max_episodes", "sampling"),
    *("partitions", "disjoint_groups", "uneven_shots", "draws"),
)


def read_source(source: str | Path | Mapping[str, Any] | None) -> tuple[Plain, str, Path | None]:
    """Reads what a run is configured by.

    Args:
        source: None for the shipped "quickstart", the name of a shipped configuration, the path of
            a YAML file, or a mapping.

    Returns:
        The plain mapping, a name for messages, and the file if there is one.

    Raises:
        UsageError: when there is no such file or configuration, or it is not a mapping.
    """
    if isinstance(source, Mapping):
        return _without_empty(_normal(source, "the given mapping")), "the given mapping", None
    path = _find(source)
    data = load_yaml(path)
    if not isinstance(data, Mapping):
        raise ConfigError(f"{path}: expected a mapping of keys, got {type(data).__name__}")
    return _anchored(_without_empty(_normal(data, str(path))), path.parent), str(path), path


def is_of_other_clips(source: object, over: Plain) -> bool:
    """Whether no configuration is given, and a split that the shipped "quickstart" is not made for.

    Its settings (no crop, few steps and episodes) fit its own generated clips and nothing else.
    """
    if source is not None or "split" not in over:
        return False
    return bool(over["split"] != load_yaml(_find(None)).get("split"))


def _without_empty(data: Plain) -> Plain:
    """A section with nothing below its heading, which YAML reads as null, is not there."""
    return {
        key: value
        for key, value in data.items()
        if value is not None or key not in (*SECTIONS, "recipes")
    }


def _find(source: str | Path | None) -> Path:
    text = "quickstart" if source is None else str(source)
    path = Path(text).expanduser()
    if isinstance(source, Path) or text.lower().endswith(YAML_SUFFIXES) or path.is_file():
        if not path.is_file():
            known = ", ".join(resources.data_names("configs"))
            raise ConfigError(
                f"{path}: no such file; give the path of a YAML file or the name of a shipped "
                f"configuration ({known})"
            )
        return path
    return resources.data_file("configs", text)


def expand(overrides: Mapping[str, Any]) -> Plain:
    """Overrides as a nested mapping: {"tuning.lr": 1} and {"tuning": {"lr": 1}} are the same."""
    out: Plain = {}
    for key, value in overrides.items():
        inner = out
        *parents, leaf = key.split(".")
        for part in parents:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"override {key!r}: {part!r} is given as a single value too")
        if isinstance(value, Mapping) and isinstance(inner.get(leaf), Mapping):
            value = {**inner[leaf], **value}
        inner[leaf] = dict(value) if isinstance(value, Mapping) else value
    return _normal(out, "the overrides")


def merge(base: Plain, over: Plain) -> Plain:
    """`over` on top of `base`.

    Sections are merged key by key. An override of a tuning key also wins over the recipes of
    single adapters, and naming another encoder drops the other encoder keys of the file and its
    starting points, which belong to the encoder it names. Frozen episodes, or published draws, in
    `over` drop what the file says of the number of episodes, and frozen ones how they are drawn;
    `episodes` and `until` drop each other.
    """
    out = {**base, **{k: v for k, v in over.items() if k not in (*SECTIONS, "recipes")}}
    encoder = over.get("encoder", {})
    if isinstance(encoder, Mapping) and "name" in encoder:
        old = base.get("encoder", {})
        if isinstance(old, Mapping) and old.get("name", encoder["name"]) != encoder["name"]:
            out["encoder"] = {}
            if "start" not in over:
                out.pop("start", None)
    _of_another_kind(out, over)
    tuned = over.get("tuning", {})
    if isinstance(tuned, Mapping) and isinstance(base.get("recipes"), Mapping):
        out["recipes"] = {name: _without(recipe, tuned) for name, recipe in base["recipes"].items()}
    for section in SECTIONS:
        if section in over:
            out[section] = _on_top(out.get(section), over[section])
    if "recipes" in over:
        out["recipes"] = _recipes(out.get("recipes"), over["recipes"])
    return out


def _of_another_kind(out: Plain, over: Plain) -> None:
    """Drops what the file says of episodes where `over` names other ones."""
    for key in _DRAWING if over.get("trials") is not None else ():
        if key not in over:
            out.pop(key, None)
    if over.get("until") is not None and "episodes" not in over:
        out.pop("episodes", None)
    elif "episodes" in over and "until" not in over:
        out.pop("until", None)
        if "max_episodes" not in over:  # given beside episodes, it is refused
            out.pop("max_episodes", None)
    elif over.get("draws") is not None:
        out.pop("episodes", None)
    if out.get("draws") is not None and out.get("until") is None:
        out.setdefault("episodes", "all")


def _on_top(base: object, over: object) -> object:
    """Two mappings merged; anything else is kept, for validation to name it."""
    if base is None or not isinstance(over, Mapping):
        return over
    return {**base, **over} if isinstance(base, Mapping) else base


def _recipes(base: object, over: object) -> object:
    if not (isinstance(base, Mapping) and isinstance(over, Mapping)):
        return _on_top(base, over)
    return {**base, **{name: _on_top(base.get(name), recipe) for name, recipe in over.items()}}


def _without(recipe: object, keys: Mapping[str, Any]) -> object:
    if not isinstance(recipe, Mapping):
        return recipe
    return {key: value for key, value in recipe.items() if key not in keys}


def leaves(data: Mapping[str, Any], parents: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Locations of all values, sections taken apart."""
    for key, value in data.items():
        here = (*parents, key)
        if isinstance(value, Mapping) and here[0] in (*SECTIONS, "recipes"):
            yield from leaves(value, here)
        else:
            yield here


def _normal(data: Mapping[str, Any], origin: str) -> Plain:
    """The long forms of what may be written short, and only text as keys."""
    wrong = [key for key in data if not isinstance(key, str)]
    if wrong:
        raise ConfigError(f"{origin}: the key {wrong[0]!r} is not a text; see the list of keys")
    out = dict(data)
    if isinstance(out.get("encoder"), str):
        out["encoder"] = {"name": out["encoder"]}
    return out


def _anchored(data: Plain, folder: Path) -> Plain:
    """Relative paths made relative to the file they are written in."""
    out = {
        key: dict(value) if key in SECTIONS and isinstance(value, Mapping) else value
        for key, value in data.items()
    }
    for location in (*_PATHS, *_NAMES_OR_PATHS, _WEIGHTS):
        *parents, leaf = location
        section: object = out.get(parents[0]) if parents else out
        if not isinstance(section, dict):
            continue
        value = section.get(leaf)
        if not isinstance(value, str) or not value:
            continue
        if location == _WEIGHTS:
            section[leaf] = with_file(value, lambda file: _below(folder, file))
        elif location in _PATHS or is_path(value):
            section[leaf] = _below(folder, value)
    if "start" in out:
        out["start"] = _anchored_start(out["start"], folder)
    return out


def _anchored_start(value: object, folder: Path) -> object:
    """The paths among one or several starting points; names and "fresh" are kept."""
    if isinstance(value, list):
        return [_anchored_start(each, folder) for each in value]
    return (
        _below(folder, value) if isinstance(value, str) and is_start_path(value, folder) else value
    )


def _below(folder: Path, path: str) -> str:
    return str(folder / Path(path).expanduser())


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
    return TrainConfig if model is RunConfig else RunConfig


def _command(model: type[BaseModel]) -> str:
    return f"`fewshot-i2v {'evaluate' if model.__name__ == 'RunConfig' else 'train'}`"


def load_run_config(
    source: str | Path | Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> RunConfig:
    """Reads and validates the configuration of an evaluation, without looking at any data.

    Args:
        source: as for `fewshot_i2v.load_config`, which also looks at the starting points.
        overrides: by key, dotted ("tuning.lr") or nested; None as a value is a value.

    Raises:
        UnknownNameError: for a configuration or key that does not exist.
        ConfigError: listing every bad key with the value given and what was expected; or naming
            the command that the configuration belongs to.
    """
    data, origin, file = read_source(source)
    over = expand(overrides or {})
    if is_of_other_clips(source, over):
        data, origin, file = {}, "the defaults", Path(str(over["split"]))
    if file is not None:
        data.setdefault("name", re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).lstrip("._-") or "run")
    try:
        return RunConfig.model_validate(merge(data, over))
    except ValidationError as error:
        raise refusal(error, RunConfig, origin=origin, data=data, over=over) from error


def config_schema() -> dict[str, Any]:
    """The JSON schema of a run configuration, for editors that complete and check YAML files."""
    return RunConfig.model_json_schema()


def load_train_config(
    source: str | Path | Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> TrainConfig:
    """Reads the configuration of a training; overrides win over the file, it over the defaults.

    Args:
        source: the name of a shipped configuration ("train/motions" or "motions"), the path of a
            YAML file, or a mapping; None is the shipped "train/motions".
        overrides: by key, dotted ("validation.every") or nested.

    Raises:
        UnknownNameError: for a configuration, key, adapter or head that does not exist.
        ConfigError: listing every bad key with the value given and what was expected; or naming
            the command that the configuration belongs to.
    """
    data, origin, file = read_source(_shipped(source))
    over = expand(overrides or {})
    if file is not None:
        data.setdefault("name", re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).lstrip("._-") or "run")
    watched = over.get("validation")
    if isinstance(watched, dict) and watched.get("classes"):
        watched.setdefault("subset", None)  # classes held out take the place of the file's subset
    for plain in (data, over):
        if plain.get("augment") == "off":
            plain["augment"] = dict(_UNAUGMENTED)
    try:
        config = TrainConfig.model_validate(merge(data, over))
    except ValidationError as error:
        raise refusal(error, TrainConfig, origin=origin, data=data, over=over) from error
    check_names("adapters", [config.adapter.name])
    check_names("heads", [config.head.name, config.validation.head.name])
    if config.adapter.name == "frozen":
        raise ConfigError(f"{origin}: the adapter 'frozen' has nothing to train; name another")
    return config


def _shipped(source: str | Path | Mapping[str, Any] | None) -> str | Path | Mapping[str, Any]:
    """A shipped configuration of a training may be named without its folder."""
    if source is None:
        return f"{_FOLDER}/motions"
    names = resources.data_names("configs")
    if isinstance(source, str) and f"{_FOLDER}/{source}" in names and not Path(source).is_file():
        return f"{_FOLDER}/{source}"
    return source
