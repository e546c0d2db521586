"""Adapters, clips and walks for tests of adapters; towers come from `tests.tiny`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from fewshot_i2v import registry
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.adapter import Adapter
from fewshot_i2v.models.encoders.block import FrozenBlock, LayerNorm
from fewshot_i2v.models.encoders.tower import Tower

FRAMES = 5
_Method = TypeVar("_Method", bound=nn.Module)


def vit_b16() -> Tower:
    """The shapes of ViT-B/16 without its memory."""
    return _hollow(width=768, heads=12, layers=12, patch=16)


def vit_l14() -> Tower:
    """The shapes of ViT-L/14 without its memory."""
    return _hollow(width=1024, heads=16, layers=24, patch=14)


def _hollow(*, width: int, heads: int, layers: int, patch: int) -> Tower:
    """A tower for frames of 224 pixels in which every weight is one zero, expanded."""
    zero = torch.zeros(())

    def empty(*shape: int) -> Tensor:
        return zero.expand(shape)

    norm = LayerNorm(empty(width), empty(width))
    block = FrozenBlock(
        heads=heads,
        norm_1=norm,
        qkv_weight=empty(3 * width, width),
        qkv_bias=empty(3 * width),
        out_weight=empty(width, width),
        out_bias=empty(width),
        norm_2=norm,
        fc_weight=empty(4 * width, width),
        fc_bias=empty(4 * width),
        proj_weight=empty(width, 4 * width),
        proj_bias=empty(width),
    )
    return Tower(
        image_size=224,
        patch_weight=empty(width, 3, patch, patch),
        class_token=empty(width),
        positions=empty((224 // patch) ** 2 + 1, width),
        norm_pre=norm,
        blocks=(block,) * layers,
        norm_post=norm,
        pool="tok",
        projection=None,
        mean=torch.zeros(3),
        std=torch.ones(3),
    )


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


def perturb(adapter: _Method, seeds: Sequence[int], std: float = 0.2) -> _Method:
    """Moves every parameter of an adapter or head away from its start, episode e by `seeds[e]`."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    with torch.no_grad():
        for parameter in adapter.parameters():
            for row, generator in zip(parameter, generators, strict=True):
                row += torch.randn(row.shape, generator=generator) * std
    return adapter


def make_clips(tower: Tower, *lead: int, frames: int = FRAMES, seed: int = 0) -> Tensor:
    """Normalised pixels (*lead, T, 3, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    size = tower.image_size
    return torch.randn(*lead, frames, 3, size, size, generator=generator)


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


def tower_tensors(tower: Tower) -> list[Tensor]:
    """Every tensor of a tower."""

    def inside(part: object) -> Iterator[Tensor]:
        for value in vars(part).values():
            if isinstance(value, Tensor):
                yield value
            elif isinstance(value, LayerNorm):
                yield from inside(value)
            elif isinstance(value, tuple):
                for block in value:
                    yield from inside(block)

    return list(inside(tower))
