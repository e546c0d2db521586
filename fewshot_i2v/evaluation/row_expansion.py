"""Folder names of the rows of an evaluation."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewshot_i2v import registry
from fewshot_i2v.config.base import FinetuneConfig
from fewshot_i2v.config.evaluation import EvaluationConfig, RowConfig, RowSettings
from fewshot_i2v.config.loading import load_run_config, nest_overrides
from fewshot_i2v.config.method import MethodSpec, check_method_names
from fewshot_i2v.config.recipes import find_recipe
from fewshot_i2v.config.start_names import FRESH, start_name_of
from fewshot_i2v.errors import ConfigError
from fewshot_i2v.models.checkpoints.start_index import (
    StartLocation,
    starts_by_adapter,
    usable_starts,
)

UNTUNED = FinetuneConfig(recipe="none", steps=0)
"""Tuning of rows that are not fine-tuned."""


@dataclass(frozen=True)
class RowKey:
    """What distinguishes a row in its evaluation."""

    adapter: MethodSpec
    start: str
    start_location: StartLocation | None
    head: MethodSpec
    shot: int | str
    seed: int | None
    untuned: bool = False

    @property
    def readable_name(self) -> str:
        """Readable; not always unique."""
        seed = "" if self.seed is None else f"-seed{self.seed}"
        untuned = "-untuned" if self.untuned else ""
        name = f"{self.adapter.label}-{self.head.label}-{self.shot}shot{seed}{untuned}"
        return name if self.start_location is None else f"{name}-from-{start_name_of(self.start)}"

    @property
    def digest(self) -> str:
        """Of what distinguishes the row."""
        content = f"{self.adapter.label} {self.head.label} {self.shot}"
        content += "" if self.seed is None else f" {self.seed}"
        content += " untuned" if self.untuned else ""
        return _digest(
            content if self.start_location is None else f"{content} {self.start_location.digest}"
        )


def load_config(
    source: str | Path | Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> EvaluationConfig:
    """Reads the configuration of an evaluation; overrides win over the file, it over the defaults.

    Starting points of the file that are not for the adapters or the encoder given as overrides are
    left out, unless overrides name starting points too. Without a source it is the shipped
    "quickstart"; where the overrides name another split than that, nothing of it is taken: they
    start from the defaults.

    Args:
        source: the name of a shipped configuration, the path of a YAML file (relative paths in it
            are relative to the file), a mapping, or None.
        overrides: by key, dotted ("tuning.lr") or nested; None as a value is a value.

    Raises:
        UnknownNameError: for a configuration, key, adapter or head that does not exist.
        ConfigError: listing every bad key with the value given and what was expected; or naming
            the command that the configuration belongs to.
        CheckpointError: for a starting point that is not there, or damaged.
    """
    config = load_run_config(source, overrides)
    changed = nest_overrides(overrides or {})
    if "adapter" in changed and "start" not in changed:
        usable = usable_starts([choice.name for choice in config.adapter], config.start)
        config = config.model_copy(update={"start": usable})
    expand_rows(config)
    return config


def expand_rows(config: EvaluationConfig) -> list[RowConfig]:
    """Expand to a row per adapter, start, head, shot and training seed, first outermost.

    With `untuned` a row of a trained start has one beside it that is not fine-tuned. Only rows
    whose heads read class names have texts of classes.

    Raises:
        UnknownNameError: for an adapter, head or starting point that does not exist.
        UsageError: when starting points do not belong to the adapters, or no head reads the texts
            of classes.
    """
    check_method_names("adapters", [*(spec.name for spec in config.adapter), *config.recipes])
    check_method_names("heads", [spec.name for spec in config.head])
    heads = [_with_tokens(head, config.tokens) for head in config.head]
    readers = _readers_of_texts(config)
    locations = starts_by_adapter([spec.name for spec in config.adapter], config.start)
    row_keys = [
        RowKey(adapter, start, location, head, shot, seed, untuned)
        for adapter in config.adapter
        for start, location in locations[adapter.name].items()
        for untuned in ((True, False) if config.untuned and location else (False,))
        for head in heads
        for shot in config.shot
        for seed in (config.training_seeds or (None,))
    ]
    tunings = [resolve_tuning(config, key.adapter.name, key.start, key.shot) for key in row_keys]
    common_values = {
        key: getattr(config, key)
        for key in RowSettings.model_fields.keys() - {"tuning", "class_texts"}
    }
    return [
        RowConfig(
            **common_values,
            adapter=row_key.adapter,
            start=row_key.start,
            head=row_key.head,
            shot=row_key.shot,
            tuning=UNTUNED if row_key.untuned else tuning,
            class_texts=config.class_texts if row_key.head.name in readers else None,
            slug=slug,
            training_seed=row_key.seed,
        )
        for row_key, tuning, slug in zip(row_keys, tunings, row_slugs(row_keys), strict=True)
        if tuning.steps or not row_key.untuned  # else its tuned row has no steps either
    ]


def _readers_of_texts(config: EvaluationConfig) -> set[str]:
    """Names of the heads that read the texts of classes; none where there are no texts."""
    if config.class_texts is None:
        return set()  # no head is imported
    names = {head.name for head in config.head}
    readers = {n for n in names if registry.load_method("heads", n).uses_class_names}
    if not readers:
        raise ConfigError(
            f"class_texts: got texts {config.class_texts}, and no head reads class names (heads: "
            f"{', '.join(sorted(names))}); give one that does, such as --head text-prototype, or "
            "leave class_texts out (--set class_texts=null where a file has it)"
        )
    return readers


def _with_tokens(head: MethodSpec, tokens: str | None) -> MethodSpec:
    """The head with the evaluation's `tokens`, unless its own options set them."""
    if {"tokens", "readouts"} <= head.options.keys():
        raise ConfigError(
            f"head {head.name}: got tokens={head.options['tokens']} and "
            f"readouts={head.options['readouts']}, two names of one option; give one of them"
        )
    # `readouts` is a second name of this option: rows under both names are the same
    options = {"tokens" if key == "readouts" else key: v for key, v in head.options.items()}
    if tokens is not None:
        options.setdefault("tokens", tokens)
    return head.model_copy(update={"options": options})


def resolve_tuning(
    config: EvaluationConfig, adapter: str, start: str, shot: int | str
) -> FinetuneConfig:
    """Resolves the tuning of a row: its recipe, then the run's keys, then the adapter's.

    Of a range of shots the smallest decides.

    Raises:
        ConfigError: when the recipe does not exist, or the keys do not fit together.
    """
    keys: dict[str, Any] = {}
    for section in [config.tuning, *filter(None, [config.recipes.get(adapter)])]:
        keys |= {key: getattr(section, key) for key in section.model_fields_set}
    # rates of a start are of its inner loop, which no recipe knows
    default_recipe = "none" if keys.get("optimizer") == "start-rates" else config.tuning.recipe
    recipe = find_recipe(
        keys.get("recipe", default_recipe),
        adapter,
        trained=start != FRESH,
        shots=int(str(shot).split("-")[0]),
    )
    if config.video.policy != "segment-center" and "temporal" in recipe:
        recipe["temporal"] = False  # other policies have no segments to choose frames in
    if not recipe.keys() - keys.keys():
        keys["recipe"] = "none"  # nothing is taken from it: rows of earlier versions are the same
    tuning = FinetuneConfig(**(recipe | keys))
    if tuning.views > 1 and not tuning.augments:
        raise ConfigError(
            f"tuning of {adapter}: views: got {tuning.views} without any augmentation, which makes "
            "equal views; give crop_scale, colour, temporal or flip, or views 1"
        )
    return tuning


def row_slugs(row_keys: Sequence[RowKey]) -> list[str]:
    """Build the rows' folder names: readable, with a digest where needed to be unique."""
    candidates = []
    for name in (row_key.readable_name for row_key in row_keys):
        safe_name = re.sub(r"[^A-Za-z0-9_.,=+-]", "_", name)
        is_safe = re.fullmatch(r"[A-Za-z0-9_.,=:+-]{1,100}", name)
        candidates.append(safe_name if is_safe else f"{safe_name[:88]}-{_digest(name)}")
    counts = Counter(slug.casefold() for slug in candidates)
    return [
        slug if counts[slug.casefold()] == 1 else f"{slug}-{row_key.digest}"
        for slug, row_key in zip(candidates, row_keys, strict=True)
    ]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
