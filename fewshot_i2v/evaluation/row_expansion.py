"""The rows of an evaluation, with their starting points and the names of their folders."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewshot_i2v.config.base import TuningConfig
from fewshot_i2v.config.evaluation import RowConfig, RowSettings, RunConfig
from fewshot_i2v.config.loading import expand, load_run_config
from fewshot_i2v.config.method import Choice, check_names
from fewshot_i2v.config.start_names import name_of_start
from fewshot_i2v.models.checkpoints.start_index import Place, fitting, starts_by_adapter


@dataclass(frozen=True)
class RowParts:
    """What tells a row from the others of its run."""

    adapter: Choice
    start: str
    place: Place | None
    head: Choice
    shot: int | str
    seed: int | None

    @property
    def text(self) -> str:
        """Readable; not always unique."""
        seed = "" if self.seed is None else f"-seed{self.seed}"
        text = f"{self.adapter.label}-{self.head.label}-{self.shot}shot{seed}"
        return text if self.place is None else f"{text}-from-{name_of_start(self.start)}"

    @property
    def digest(self) -> str:
        """Of what makes the row what it is."""
        text = f"{self.adapter.label} {self.head.label} {self.shot}"
        text += "" if self.seed is None else f" {self.seed}"
        return _digest(text if self.place is None else f"{text} {self.place.digest}")


def load_config(
    source: str | Path | Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> RunConfig:
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
    changed = expand(overrides or {})
    if "adapter" in changed and "start" not in changed:
        usable = fitting([choice.name for choice in config.adapter], config.start)
        config = config.model_copy(update={"start": usable})
    expand_rows(config)
    return config


def expand_rows(config: RunConfig) -> list[RowConfig]:
    """Lists one row per adapter, start, head, shot and training seed, the first outermost.

    Raises:
        UnknownNameError: for an adapter, head or starting point that does not exist.
        UsageError: when the starting points do not belong to the adapters.
    """
    check_names("adapters", [*(c.name for c in config.adapter), *config.recipes])
    check_names("heads", [c.name for c in config.head])
    heads = [_with_tokens(head, config.tokens) for head in config.head]
    starts = starts_by_adapter([c.name for c in config.adapter], config.start)
    parts = [
        RowParts(adapter, start, place, head, shot, seed)
        for adapter in config.adapter
        for start, place in starts[adapter.name].items()
        for head in heads
        for shot in config.shot
        for seed in (config.training_seeds or (None,))
    ]
    shared = {key: getattr(config, key) for key in RowSettings.model_fields if key != "tuning"}
    return [
        RowConfig(
            **shared,
            adapter=part.adapter,
            start=part.start,
            head=part.head,
            shot=part.shot,
            tuning=_tuning_of(config, part.adapter.name),
            slug=slug,
            training_seed=part.seed,
        )
        for part, slug in zip(parts, slugs(parts), strict=True)
    ]


def _with_tokens(head: Choice, tokens: str | None) -> Choice:
    """The head with the run's `tokens` among its options, unless it has its own."""
    if tokens is None or "tokens" in head.options:
        return head
    return head.model_copy(update={"options": {**head.options, "tokens": tokens}})


def _tuning_of(config: RunConfig, adapter: str) -> TuningConfig:
    """The run's tuning with the adapter's recipe on top."""
    recipe = config.recipes.get(adapter)
    if recipe is None:
        return config.tuning
    changed = {key: getattr(recipe, key) for key in recipe.model_fields_set}
    return config.tuning.model_copy(update=changed)


def slugs(parts: Sequence[RowParts]) -> list[str]:
    """File names of the rows: readable, and told apart by a digest where reading cannot."""
    found = []
    for text in (part.text for part in parts):
        safe = re.sub(r"[^A-Za-z0-9_.,=+-]", "_", text)
        whole = re.fullmatch(r"[A-Za-z0-9_.,=:+-]{1,100}", text)
        found.append(safe if whole else f"{safe[:88]}-{_digest(text)}")
    seen = Counter(slug.casefold() for slug in found)
    return [
        slug if seen[slug.casefold()] == 1 else f"{slug}-{part.digest}"
        for slug, part in zip(found, parts, strict=True)
    ]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
