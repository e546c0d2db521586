"""Find which settings differ from the defaults, and whether file or flags set them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from fewshot_i2v.config.base import CommonConfig
from fewshot_i2v.config.keys import form_of, value_text
from fewshot_i2v.config.loading import leaf_keys, nest_overrides

# They say where things are (or are from) and what they are called, and `split` has no default.
_LOCATION_KEYS = {
    *("name", "source", "citation", "split", "root", "output", "cache", "cache_limit", "workers"),
}


def find_setting_origins(
    config: CommonConfig,
    source: str,
    overrides: Mapping[str, Any],
    recipe_keys: Collection[str] = (),
) -> dict[str, dict[str, str]]:
    """Collect the settings that differ from the defaults, by origin.

    Args:
        config: the resolved configuration.
        source: the name of the configuration it was read from.
        overrides: the overrides of that, as for `load_config`.
        recipe_keys: dotted keys whose values are of a recipe.

    Returns:
        For `source`, for "flags" and for "recipe": dotted keys with their values as text.
    """
    override_keys = {".".join(leaf) for leaf in leaf_keys(nest_overrides(overrides))}
    model = type(config)
    required = {name for name, field in model.model_fields.items() if field.is_required()}
    default_config = model(**{name: getattr(config, name) for name in required})
    defaults = {
        key: value
        for key, value in _flatten_values(default_config).items()
        if key.split(".")[0] not in required
    }
    by_origin: dict[str, dict[str, str]] = {source: {}, "flags": {}, "recipe": {}}
    for key, value in _flatten_values(config).items():
        if value != defaults.get(key, ""):
            of_recipe = any(key == name or key.startswith(f"{name}.") for name in recipe_keys)
            origin = "recipe" if of_recipe else source
            by_origin["flags" if key in override_keys else origin][key] = value
    return {origin: settings for origin, settings in by_origin.items() if settings}


def _flatten_values(config: CommonConfig) -> dict[str, str]:
    """Format all settings, by dotted key."""
    nested = config.model_dump(exclude=_LOCATION_KEYS)
    values = {}
    for leaf in leaf_keys(nested):
        value, form = _value_and_form(config, leaf)
        values[".".join(leaf)] = value_text(value, form)
    return values


def _value_and_form(config: CommonConfig, leaf: Sequence[str]) -> tuple[object, str]:
    """Returns the value of a key, by its names from the outside, and how it is written."""
    value: Any = config
    form = ""
    for key in leaf:
        if isinstance(value, Mapping):
            value = value[key]
        else:
            form = form_of(type(value).model_fields[key])
            value = getattr(value, key)
    return value, form
