"""What every adapter is, and the encoder that a frozen tower and an adapter make together.

Every parameter of an adapter carries a leading episode axis E: E independent copies that are
tuned side by side. E = 1 is the plain case.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from fewshot_i2v.encoders.tower import FrozenBlock, Tower
from fewshot_i2v.errors import AdapterError


class AdapterOptions(BaseModel):
    """Options of an adapter; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


@dataclass(frozen=True)
class Features:
    """What a head sees of clips.

    Attributes:
        frames: per frame, after the final layer norm, (E, clips, T, D), float32.
        clip: pooled over frames as the adapter's paper does, (E, clips, D), float32.
        grid: patch tokens after the final layer norm, (E, clips, T, N, D), or None.
    """

    frames: Tensor
    clip: Tensor
    grid: Tensor | None = None

    def __repr__(self) -> str:
        grid = None if self.grid is None else tuple(self.grid.shape)
        return (
            f"Features(frames={tuple(self.frames.shape)}, clip={tuple(self.clip.shape)}, {grid=})"
        )


class Adapter(nn.Module, ABC):
    """An image-to-video adapter for a frozen tower.

    A subclass is one file. It builds its parameters in `__init__` (after `super().__init__`) with
    the layers of `_layers.py`, drawing initial values from `self.generators`, one per episode, so
    that an episode starts the same whether it is tuned alone or beside others.

    Args:
        tower: the frozen tower; never changed, only its shapes and norms are read.
        options: an instance of the class's `Options`.
        frames: frames T of a clip.
        seeds: one seed per episode; E = len(seeds).

    Raises:
        AdapterError: when the tower has no blocks to adapt.
    """

    Options: ClassVar[type[AdapterOptions]] = AdapterOptions
    source: ClassVar[str]
    """Authors, title, year and address of the paper."""
    identity_at_start: ClassVar[bool]
    """Whether the untrained adapter leaves the frozen encoder's features as they are."""
    mergeable: ClassVar[bool] = False
    """Whether `merge` can fold the adapter into the tower's weights."""
    temporal: ClassVar[bool]
    """Whether any operator lets one frame see another."""

    def __init__(
        self, tower: Tower, options: AdapterOptions, *, frames: int, seeds: Sequence[int]
    ) -> None:
        super().__init__()
        if not seeds:
            raise AdapterError("an adapter needs one seed per episode; got none")
        if not tower.blocks and self.needs_blocks:
            raise AdapterError(
                f"{type(self).__name__} works inside transformer blocks and this encoder has "
                "none; use an open_clip ViT, or the adapter 'frozen'"
            )
        self.options, self.frames, self.episodes = options, frames, len(seeds)
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    @property
    def needs_blocks(self) -> bool:
        """Whether the tower must be a transformer whose blocks can be walked."""
        return True

    @property
    def first_block(self) -> int:
        """Index of the first block that must be computed again when a parameter changes.

        The tokens that enter it never change and are computed once per clip (for 0: the output of
        `Tower.stem`, before `ln_pre`).
        """
        return 0

    def embed(self, tower: Tower, x: Tensor) -> Tensor:
        """From the stem's tokens (E, clips, T, N + 1, D) to the input of block 0."""
        return tower.ln_pre(x)

    @abstractmethod
    def block(self, i: int, frozen: FrozenBlock, x: Tensor) -> Tensor:
        """Block i with the adapter in it.

        Args:
            i: index of the block, 0 first.
            frozen: its frozen parts.
            x: tokens (E, clips, T, N + 1, D); not modified.

        Returns:
            Tokens of the same shape.
        """

    def final_norm(self, tower: Tower, x: Tensor) -> Tensor:
        """The layer norm after the last block, (E, ..., D), or the copy of it that is trained.

        In float32 whatever the type of `x`, so that pooling never rounds to the tower's type.
        """
        return tower.ln_post_exact(x)

    def pool(self, tower: Tower, summary: Tensor) -> tuple[Tensor, Tensor]:
        """Frame and clip features from each frame's summary token.

        Args:
            tower: the frozen tower.
            summary: (E, clips, T, D), before the final layer norm.

        Returns:
            Frame features (E, clips, T, D) and clip features (E, clips, D).
        """
        frames = self.final_norm(tower, summary)
        return frames, frames.mean(-2)

    def merge(self, tower: Tower, episode: int = 0) -> tuple[Tower, Adapter]:
        """The tower with this adapter's linear maps folded in, and what remains of the adapter.

        Args:
            tower: the frozen tower; a new one is returned.
            episode: which of the E copies.

        Raises:
            AdapterError: for methods that cannot be merged.
        """
        raise AdapterError(f"{type(self).__name__} cannot be merged into the frozen weights")


class AdaptedEncoder(nn.Module):
    """A frozen tower walked by an adapter.

    Args:
        tower: the frozen tower.
        adapter: built for it.
    """

    def __init__(self, tower: Tower, adapter: Adapter) -> None:
        super().__init__()
        self.tower, self.adapter = tower, adapter

    @property
    def frozen_throughout(self) -> bool:
        """Whether no block depends on the adapter: features are then computed once per clip."""
        return self.adapter.first_block >= self.tower.layers

    def prefix(self, pixels: Tensor, *, grid: bool = False) -> Tensor:
        """What never changes while the adapter is tuned; computed once per clip.

        Args:
            pixels: (..., T, 3, H, W), normalised.
            grid: whether patch tokens will be asked for.

        Returns:
            Tokens that enter the first trained block, (..., T, N + 1, D); where every block is
            frozen and no grid is wanted, the summary token alone, (..., T, 1, D).
        """
        return prefix(self.tower, self.adapter.first_block, pixels, grid=grid)

    def forward(self, tokens: Tensor, *, grid: bool = False) -> Features:
        """Features of clips from their prefix.

        Args:
            tokens: output of `prefix` with the episode axis, (E, clips, T, N + 1, D).
            grid: whether to give the patch tokens too.

        Returns:
            The features, float32.

        Raises:
            AdapterError: when trained blocks get tokens of another number of episodes.
        """
        tower, adapter = self.tower, self.adapter
        if tokens.shape[0] != adapter.episodes and not self.frozen_throughout:
            raise AdapterError(
                f"got tokens of {tokens.shape[0]} episodes, {tuple(tokens.shape)}; this adapter "
                f"holds {adapter.episodes}: give tokens (E, clips, T, N + 1, D) with that E"
            )
        x = tokens
        if adapter.first_block == 0 and tower.layers:
            x = adapter.embed(tower, x)
        for i in range(adapter.first_block, tower.layers):
            x = adapter.block(i, tower.blocks[i], x)
        alone = x.shape[-2] == 1
        frames, clip = adapter.pool(tower, x[..., 0, :] if alone else tower.summary(x))
        patches = adapter.final_norm(tower, x[..., 1:, :]).float() if grid else None
        return Features(frames.float(), clip.float(), patches)


def prefix(tower: Tower, first_block: int, pixels: Tensor, *, grid: bool) -> Tensor:
    """What enters a tower's first trained block; see `AdaptedEncoder.prefix`."""
    x = tower.stem(pixels)
    if first_block == 0 and tower.layers:
        return x
    x = tower.ln_pre(x)
    for block in tower.blocks[:first_block]:
        x = block.forward(x)
    if first_block >= tower.layers and not grid:
        return tower.summary(x).unsqueeze(-2)
    return x
