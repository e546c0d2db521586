"""An adapter that is checked: how it is built, run and trained on a tiny encoder."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fewshot_i2v import registry
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.adapter import Adapter
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.tuning.contract.check import require_close
from fewshot_i2v.tuning.contract.tiny_encoder import FRAMES, make_clips, perturb, tiny_tower

CLIPS = 2
CELLS = 3
"""Cells on a side of the grid that is compared; they do not divide the tower's 4 x 4 patches."""


@functools.cache
def shared_tower() -> Tower:
    """One tiny tower for all checks; that it stays as it is, is itself checked."""
    return tiny_tower()


@functools.cache
def shared_pixels() -> Tensor:
    """Two clips for the shared tower, (2, T, 3, H, W)."""
    return make_clips(shared_tower(), CLIPS)


@dataclass(frozen=True)
class AdapterSubject:
    """An adapter with its default options.

    Attributes:
        name: on the command line.
        adapter_class: its class.
        summary: the first line of its file, as `list adapters` shows it.
    """

    name: str
    adapter_class: type[Adapter]
    summary: str = ""

    def create(
        self, tower: Tower, *, frames: int = FRAMES, seeds: Sequence[int] = (0,), **options: Any
    ) -> Adapter:
        """Create the adapter; `preset` is an option like all others."""
        parsed_options = self.adapter_class.parse(options)
        return self.adapter_class(tower, parsed_options, frames=frames, seeds=list(seeds))

    def build(self, *seeds: int, moved: bool = False, frames: int = FRAMES) -> AdaptedEncoder:
        """Build the shared tower with the adapter in it.

        Args:
            seeds: one per episode; one episode when there are none.
            moved: whether every parameter is moved away from its start.
            frames: frames T of a clip.
        """
        adapter = self.create(shared_tower(), frames=frames, seeds=seeds or (0,))
        if moved:
            perturb(adapter, seeds or (0,))
        return AdaptedEncoder(shared_tower(), adapter)

    @functools.cached_property
    def is_trained(self) -> bool:
        """Whether it has parameters."""
        return any(True for _ in self.build().adapter.parameters())

    def count_parameters(self, tower: Tower, *, frames: int = 8, **options: Any) -> int:
        """Count the trained values of an episode, without drawing one: for full-size encoders."""
        with torch.device("meta"):
            adapter = self.create(tower, frames=frames, **options)
        return sum(parameter[0].numel() for parameter in adapter.parameters())


def load_adapter_subject(name: str) -> AdapterSubject:
    """Load the adapter of a name.

    Raises:
        UsageError: as `registry.load_method`.
    """
    summaries = {info.name: info.summary for info in registry.list_methods("adapters")}
    return AdapterSubject(name, registry.load_method("adapters", name), summaries[name])


def run_encoder(encoder: AdaptedEncoder, pixels: Tensor, *, cells: int = 0) -> Features:
    """Compute the features of the same clips for every episode."""
    sizes = (cells,) if cells else ()
    prefix = encoder.compute_prefix(pixels, grid_sizes=sizes)
    features: Features = encoder(
        prefix.expand(encoder.adapter.episodes, *prefix.shape), grid_sizes=sizes
    )
    return features


def episode_losses(encoder: AdaptedEncoder, pixels: Tensor) -> Tensor:
    """Compute a loss per episode, (E,), that every feature enters, patch tokens too.

    An adapter may act on patch tokens alone, and after the last attention only a head that reads
    them can see it.
    """
    features = run_encoder(encoder, pixels, cells=encoder.tower.grid)
    parts = [features.frames, features.clip, *features.grids.values()]
    targets = torch.linspace(-1, 1, encoder.tower.width)
    return torch.stack([(part - targets).square().flatten(1).mean(1) for part in parts]).sum(0)


def train_encoder(encoder: AdaptedEncoder, steps: int) -> None:
    """Take some steps of AdamW on `episode_losses`."""
    optimizer = torch.optim.AdamW(encoder.adapter.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.autograd.backward(episode_losses(encoder, shared_pixels()).sum())
        optimizer.step()


def features_of_episode(features: Features, episode: int) -> Features:
    """Take the features of one episode, with an axis of one for it."""
    return features.map(lambda part: part[episode, None])


def require_same_features(
    actual: Features, expected: Features, problem: str, advice: str, *, limit: float = 1e-5
) -> None:
    """Raise a violation where frame features, clip features or grids differ."""
    pairs = [("frame", actual.frames, expected.frames), ("clip", actual.clip, expected.clip)]
    pairs += [("patch", grid, expected.grids[size]) for size, grid in actual.grids.items()]
    for kind, ours, theirs in pairs:
        require_close(ours, theirs, f"{problem} ({kind} features)", advice, limit=limit)
