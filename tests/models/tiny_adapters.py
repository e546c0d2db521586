"""Adapters, clips and walks for tests of adapters; towers come from `tests.tiny`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from fewshot_i2v import registry
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.adapter import Adapter
from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.tuning.contract.tiny_encoder import FRAMES as FRAMES
from fewshot_i2v.tuning.contract.tiny_encoder import make_clips as make_clips
from fewshot_i2v.tuning.contract.tiny_encoder import perturb as perturb
from fewshot_i2v.tuning.contract.tiny_encoder import tower_tensors as tower_tensors
from fewshot_i2v.tuning.contract.tiny_encoder import vit_b16 as vit_b16
from fewshot_i2v.tuning.contract.tiny_encoder import vit_l14 as vit_l14


def make_adapter(
    name: str, tower: Tower, *, frames: int = FRAMES, seeds: Sequence[int] = (0,), **options: Any
) -> Adapter:
    """An adapter by name, fresh; `preset` is an option like the others."""
    found = registry.load_method("adapters", name)
    adapter: Adapter = found(tower, found.parse(options), frames=frames, seeds=list(seeds))
    return adapter


def count(adapter: Adapter) -> int:
    """Trained values of one episode."""
    return sum(parameter[0].numel() for parameter in adapter.parameters())


def size(name: str, tower: Tower, *, frames: int = 8, **options: Any) -> int:
    """What `count` gives, without drawing a value: for adapters of full size."""
    with torch.device("meta"):
        return count(make_adapter(name, tower, frames=frames, **options))


def make_tokens(*lead: int, frames: int = FRAMES, seed: int = 0) -> Tensor:
    """Random tokens (*lead, T, N + 1, D) for `tests.tiny.tiny_tower`."""
    return torch.randn(*lead, frames, 17, 32, generator=torch.Generator().manual_seed(seed))


def tokens_after_blocks(encoder: AdaptedEncoder, pixels: Tensor) -> Iterator[Tensor]:
    """Residual stream after each block, (E, clips, T, N + 1, D)."""
    tower, adapter = encoder.tower, encoder.adapter
    x = adapter.embed_tokens(tower, tower.patch_embed(pixels))
    for i, block in enumerate(tower.blocks):
        x = adapter.block(i, block, x)
        yield x
