"""From a YAML file and overrides to one plain mapping, before anything is validated."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fewshot_i2v import plugins
from fewshot_i2v._config_starts import is_start_path
from fewshot_i2v.errors import ConfigError
from fewshot_i2v.yaml_loader import load_yaml

Plain = dict[str, Any]

SECTIONS = ("encoder", "video", "tuning", "validation", "augment", "inner")
_PATHS = (("root",), ("output",), ("cache",), ("encoder", "architecture"))
_NAMES_OR_PATHS = (("split",), ("trials",))
_WEIGHTS = ("encoder", "pretrained")
_TAGGED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)@(.+)")
_DRAWING = (
    *("subset", "way", "shot", "query", "episodes", "until", "max_episodes", "sampling"),
    *("partitions", "disjoint_groups", "uneven_shots", "draws"),
)
_YAML = (".yaml", ".yml")
_FILES = (*_YAML, ".jsonl", ".jsonl.gz", ".safetensors", ".pt", ".pth", ".bin", ".ckpt")


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
    if isinstance(source, Path) or text.lower().endswith(_YAML) or path.is_file():
        if not path.is_file():
            known = ", ".join(plugins.data_names("configs"))
            raise ConfigError(
                f"{path}: no such file; give the path of a YAML file or the name of a shipped "
                f"configuration ({known})"
            )
        return path
    return plugins.data_file("configs", text)


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


def is_path(text: str) -> bool:
    """Whether a split or pretrained weights are given as a file and not by name."""
    if "://" in text or text.startswith("hf-hub:"):
        return False
    return text.lower().endswith(_FILES) or text.startswith(("/", "./", "../", "~"))


def split_weights(pretrained: str) -> tuple[str | None, str | None]:
    """Tag and file of what is given as `pretrained`; None for what it does not name.

    Args:
        pretrained: "TAG", a path, or "TAG@PATH": the tag's settings with the bytes of the file.
    """
    tagged = _TAGGED.fullmatch(pretrained)
    if tagged is not None:
        return tagged[1], str(Path(tagged[2]).expanduser())
    if is_path(pretrained):
        return None, str(Path(pretrained).expanduser())
    return pretrained, None


def with_file(pretrained: str, change: Callable[[str], str]) -> str:
    """The same choice of weights, with its file, if it names one, written in another way."""
    tag, file = split_weights(pretrained)
    if file is None:
        return pretrained
    return change(file) if tag is None else f"{tag}@{change(file)}"


def file_name(path: str) -> str:
    """The last part of a path: all of it that decides results."""
    return Path(path).name


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
