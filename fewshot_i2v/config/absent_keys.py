"""What keys in identities of runs stand for: those that are left out, and nothing for "off".

Keys are left out since identities of earlier versions had no word of them.
"""

from __future__ import annotations

from typing import Any

from fewshot_i2v.config.base import FinetuneConfig, SupportLossConfig
from fewshot_i2v.config.episodes import DEFAULTS_OF_LATER_KEYS
from fewshot_i2v.config.evaluation import DEFAULTS_OF_LATER_TUNING_KEYS, RowConfig
from fewshot_i2v.config.keys import config_keys
from fewshot_i2v.config.start_names import FRESH
from fewshot_i2v.config.training import TrainingConfig


def values_of_absent_keys() -> dict[str, Any]:
    """Returns the value that an absent key stands for, by its place in an identity."""
    keys = {**DEFAULTS_OF_LATER_KEYS, "frame_order": "natural", "start": FRESH, "compile": False}
    keys |= {"precision": "fp32", "lr_by_width": {}}
    fields = FinetuneConfig.model_fields
    tuning = {key: fields[key].default for key in ("colour", "temporal", "views")}
    inner = {key: field.default for key, field in SupportLossConfig.model_fields.items()}
    sections = {"tuning": tuning | DEFAULTS_OF_LATER_TUNING_KEYS, "inner": inner}
    return {f"config.{key}": value for key, value in keys.items()} | {
        f"config.{section}.{key}": value
        for section, values in sections.items()
        for key, value in values.items()
    }


def keys_with_off() -> set[str]:
    """Returns the places of keys in an identity whose value None is written "off"."""
    models = (RowConfig, TrainingConfig)
    keys = {key: value for model in models for key, value in config_keys(model).items()}
    return {f"config.{key}" for key, value in keys.items() if value.has_off}
