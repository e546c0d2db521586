"""Which settings of a run differ from the defaults, and where each of them came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fewshot_i2v.config.evaluation import RunConfig
from fewshot_i2v.config.loading import expand, leaves
from fewshot_i2v.config.method import Choice

# They say where things are and what they are called, and `split` has no default.
_PLACES = {"name", "source", "split", "root", "output", "cache", "workers"}


def origins(
    config: RunConfig, source: str, overrides: Mapping[str, Any]
) -> dict[str, dict[str, str]]:
    """Settings that are not at their defaults, by where they came from.

    Args:
        config: the resolved run.
        source: what to call the configuration that it was read from.
        overrides: what was given over that, as for `load_config`.

    Returns:
        For `source` and for "flags": dotted keys with their values as text.
    """
    given = {".".join(leaf) for leaf in leaves(expand(overrides))}
    usual = _values(RunConfig(split=config.split))
    found: dict[str, dict[str, str]] = {source: {}, "flags": {}}
    for key, value in _values(config).items():
        if value != usual.get(key, ""):
            found["flags" if key in given else source][key] = value
    return {origin: settings for origin, settings in found.items() if settings}


def _values(config: RunConfig) -> dict[str, str]:
    """All settings by dotted key, as text."""
    plain = config.model_dump(exclude=_PLACES)
    values = {}
    for leaf in leaves(plain):
        value: Any = config
        for part in leaf:
            value = value[part] if isinstance(value, Mapping) else getattr(value, part)
        values[".".join(leaf)] = _text(value)
    return values


def _text(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join(map(_text, value))
    return value.label if isinstance(value, Choice) else str(value)
