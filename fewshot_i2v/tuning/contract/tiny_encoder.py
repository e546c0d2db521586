"""Tiny random encoders and clips on which the contract is checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from fewshot_i2v.models.encoders.block import FrozenBlock, LayerNorm
from fewshot_i2v.models.encoders.tower import Tower

FRAMES = 5
"""Frames T of a clip, unless a check says otherwise."""
_Module = TypeVar("_Module", bound=nn.Module)


def tiny_tower(
    *, width: int = 32, layers: int = 3, heads: int = 4, size: int = 32, patch: int = 8
) -> Tower:
    """Build a vision transformer with random weights of a fixed seed.

    Args:
        width: channels D.
        layers: blocks.
        heads: attention heads of a block.
        size: side of a frame in pixels.
        patch: side of a patch in pixels.
    """
    generator = torch.Generator().manual_seed(0)

    def _normal(*shape: int, std: float = 0.1) -> Tensor:
        return torch.randn(*shape, generator=generator) * std

    def _norm() -> LayerNorm:
        return LayerNorm(1 + _normal(width), _normal(width))

    blocks = tuple(
        FrozenBlock(
            heads=heads,
            norm_1=_norm(),
            qkv_weight=_normal(3 * width, width, std=width**-0.5),
            qkv_bias=_normal(3 * width),
            out_weight=_normal(width, width, std=width**-0.5),
            out_bias=_normal(width),
            norm_2=_norm(),
            fc_weight=_normal(4 * width, width, std=width**-0.5),
            fc_bias=_normal(4 * width),
            proj_weight=_normal(width, 4 * width, std=0.5 * width**-0.5),
            proj_bias=_normal(width),
            activation="silu",
        )
        for _ in range(layers)
    )
    return Tower(
        image_size=size,
        patch_weight=_normal(width, 3, patch, patch),
        class_token=_normal(width, std=1.0),
        positions=_normal((size // patch) ** 2 + 1, width, std=0.5),
        norm_pre=_norm(),
        blocks=blocks,
        norm_post=_norm(),
        pool="tok",
        projection=None,
        mean=torch.full((3,), 0.5),
        std=torch.full((3,), 0.5),
    )


def hollow_tower(*, width: int, heads: int, layers: int, patch: int) -> Tower:
    """Build a tower for frames of 224 pixels in which every weight is one zero, expanded.

    It has the shapes of a full-size encoder without its memory; the arguments are those of
    `tiny_tower`.
    """
    zero = torch.zeros(())

    def _empty(*shape: int) -> Tensor:
        return zero.expand(shape)

    norm = LayerNorm(_empty(width), _empty(width))
    block = FrozenBlock(
        heads=heads,
        norm_1=norm,
        qkv_weight=_empty(3 * width, width),
        qkv_bias=_empty(3 * width),
        out_weight=_empty(width, width),
        out_bias=_empty(width),
        norm_2=norm,
        fc_weight=_empty(4 * width, width),
        fc_bias=_empty(4 * width),
        proj_weight=_empty(width, 4 * width),
        proj_bias=_empty(width),
    )
    return Tower(
        image_size=224,
        patch_weight=_empty(width, 3, patch, patch),
        class_token=_empty(width),
        positions=_empty((224 // patch) ** 2 + 1, width),
        norm_pre=norm,
        blocks=(block,) * layers,
        norm_post=norm,
        pool="tok",
        projection=None,
        mean=torch.zeros(3),
        std=torch.ones(3),
    )


def vit_b16() -> Tower:
    """Build a tower with the shapes of ViT-B/16, without its memory."""
    return hollow_tower(width=768, heads=12, layers=12, patch=16)


def vit_l14() -> Tower:
    """Build a tower with the shapes of ViT-L/14, without its memory."""
    return hollow_tower(width=1024, heads=16, layers=24, patch=14)


def make_clips(tower: Tower, *lead: int, frames: int = FRAMES, seed: int = 0) -> Tensor:
    """Draw normalised pixels of clips, (*lead, T, 3, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    size = tower.image_size
    return torch.randn(*lead, frames, 3, size, size, generator=generator)


def perturb(module: _Module, seeds: Sequence[int], std: float = 0.2) -> _Module:
    """Move every parameter of an adapter or head away from its start, episode e by `seeds[e]`."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    with torch.no_grad():
        for parameter in module.parameters():
            for row, generator in zip(parameter, generators, strict=True):
                row += torch.randn(row.shape, generator=generator) * std
    return module


def tower_tensors(tower: Tower) -> list[Tensor]:
    """List every tensor of a tower."""

    def _inside(part: object) -> Iterator[Tensor]:
        for value in vars(part).values():
            if isinstance(value, Tensor):
                yield value
            elif isinstance(value, LayerNorm):
                yield from _inside(value)
            elif isinstance(value, tuple):
                for block in value:
                    yield from _inside(block)

    return list(_inside(tower))
