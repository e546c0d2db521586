"""The frozen prefix: what the frozen tower computes once per clip, and is cached."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from fewshot_i2v.errors import AdapterError
from fewshot_i2v.models.encoders.tower import Tower

PREFIX_VERSION = 1
"""Raised by hand with every change of what `compute_prefix` or a tower computes, were it rounding
alone: prefixes on disk of another version are not read. `tests/models/test_prefix_version.py` holds
outputs of this version."""

GridSizes = tuple[int, ...]
"""Cells on a side of each grid of patch tokens, in increasing order; empty: no grid."""


@dataclass(frozen=True)
class PrefixSpec:
    """What is computed once per clip while an adapter is tuned; equal specs share a cache.

    Attributes:
        first_trained_block: index of the first block that is computed again at every step. -1: the
            patch embedding is trained too, and the prefix is the pixels; the number of blocks: none
            is computed again.
        levels: blocks whose outputs a side branch reads, in increasing order; empty for methods
            that work inside the blocks.
        summary_only: of the levels, only the summary token is read.
        grid_sizes: cells on a side of each grid of patch tokens that heads read, in increasing
            order.
    """

    first_trained_block: int
    levels: tuple[int, ...] = ()
    summary_only: bool = False
    grid_sizes: GridSizes = ()

    def is_fully_frozen(self, tower: Tower) -> bool:
        """Whether no block of the tower is computed again."""
        return self.first_trained_block >= tower.layers

    def is_complete(self, tower: Tower) -> bool:
        """Whether it is complete features of the frozen encoder, and not what a branch reads."""
        return self.is_fully_frozen(tower) and not self.levels

    def is_pooled(self, tower: Tower) -> bool:
        """Whether summary and cell means are cached in place of all tokens."""
        return self.is_fully_frozen(tower) and (self.summary_only or not self.levels)

    def cache_key(self, tower: Tower) -> PrefixSpec:
        """Returns the spec that caches are keyed by: grids count only if they are pooled early."""
        return self if self.is_pooled(tower) else replace(self, grid_sizes=())

    def clip_shape(self, tower: Tower, frames: int) -> tuple[int, ...]:
        """Axes of the output of `compute_prefix` for one clip of T = `frames`."""
        if self.first_trained_block < 0:
            return (frames, 3, tower.image_size, tower.image_size)
        tokens = tower.tokens
        if self.is_pooled(tower):
            tokens = 1 + count_cells(self.grid_sizes)
        if self.levels:
            return (len(self.levels), frames, tokens, tower.width)
        return (frames, tokens, tower.width)


class ClipPrefixes(NamedTuple):
    """Two prefixes of the same clips, for heads that read the frozen encoder as well.

    Attributes:
        adapted: of the adapter, (E, clips, ...).
        frozen: of the tower without it, as from `AdaptedEncoder.frozen_spec`, (E, clips, T,
            1 + cells, D), float32.
    """

    adapted: Tensor
    frozen: Tensor


ClipTokens = Tensor | ClipPrefixes
"""What an encoder reads of clips; of the prefix alone it computes what heads read of the tower."""


def select_clips(tokens: ClipTokens, part: slice) -> ClipTokens:
    """Selects clips, along axis 1."""
    if isinstance(tokens, ClipPrefixes):
        return ClipPrefixes(*(t[:, part] for t in tokens))
    return tokens[:, part]


def reads_class_token_only(tower: Tower, grid_sizes: GridSizes) -> bool:
    """Whether features read the class token alone of the last block's tokens."""
    return tower.pool == "tok" and not grid_sizes


def prefix_tower(tower: Tower, spec: PrefixSpec) -> Tower:
    """Returns the tower that computes a frozen prefix: of complete frozen features the exact one.

    Pixels are normalised by it, so that they have its type.
    """
    return tower.exact if spec.is_complete(tower) else tower


def compute_prefix(
    tower: Tower, spec: PrefixSpec, pixels: Tensor, *, all_tokens: bool = False
) -> Tensor:
    """Computes the frozen prefix of clips.

    Args:
        tower: the frozen tower.
        spec: what to compute.
        pixels: (..., T, 3, H, W), normalised by `prefix_tower`.
        all_tokens: whether the last block computes all tokens, also where the class token alone is
            read.

    Returns:
        For `first_trained_block` -1 the pixels; 0: the tokens of the patch embedding,
        (..., T, N + 1, D); up to the number of blocks: the input of that block. Where no block is
        trained, the summary token followed by the means of the cells of each grid,
        (..., T, 1 + cells, D). With `levels`, (..., levels, T, tokens, D): all N + 1 tokens,
        or with `summary_only` the same summary and cells of each level.

    Raises:
        AdapterError: when the tower has fewer patches on a side than a grid needs.
    """
    check_grids(tower, spec.grid_sizes)
    tower = prefix_tower(tower, spec)
    if spec.first_trained_block < 0:
        return pixels
    x = tower.patch_embed(pixels)
    if spec.first_trained_block == 0 and tower.layers:
        return x
    x = tower.ln_pre(x)
    level_outputs = []
    skips_patches = (
        spec.is_pooled(tower) and reads_class_token_only(tower, spec.grid_sizes) and not all_tokens
    )
    for i, block in enumerate(tower.blocks[: spec.first_trained_block]):
        is_last = i == tower.layers - 1
        x = block.forward(x, class_token_only=skips_patches and is_last)
        if i in spec.levels:
            level_outputs.append(
                _pool_frozen(tower, x, spec.grid_sizes) if spec.summary_only else x
            )
    if spec.levels:
        return torch.stack(level_outputs, -4)
    return _pool_frozen(tower, x, spec.grid_sizes) if spec.is_pooled(tower) else x


def first_missing_block(spec: PrefixSpec) -> int:
    """Returns the first block whose output the frozen prefix does not hold; -1: the embedding."""
    return spec.levels[-1] + 1 if spec.levels else spec.first_trained_block


def finish_prefix(
    tower: Tower, spec: PrefixSpec, prefix: Tensor, *, all_tokens: bool = False
) -> Tensor:
    """Computes from the frozen prefix what the tower gives without an adapter.

    Args:
        tower: the frozen tower.
        spec: of the prefix.
        prefix: output of `compute_prefix`, (..., T, tokens, D), with `levels` (..., levels, T,
            tokens, D), or pixels.
        all_tokens: as for `compute_prefix`.

    Returns:
        The output of the last block, (..., T, N + 1, D), or the class token alone where nothing
        else is read, or the summary token and the means of the cells where `PrefixSpec.is_pooled`.

    Raises:
        AdapterError: when the last level is pooled and is not the last block.
    """
    first, x = first_missing_block(spec), prefix
    if spec.levels:
        x = prefix[..., -1, :, :, :]
        if spec.summary_only and first < tower.layers:
            raise AdapterError(
                f"block {first - 1} is the last that the adapter reads, of {tower.layers}: nothing "
                "computes the frozen encoder's features; give readouts without frozen-"
            )
    if first < 0:
        x = tower.patch_embed(x)
    if first <= 0 < tower.layers:
        x = tower.ln_pre(x)
    skips_patches = reads_class_token_only(tower, spec.grid_sizes) and not all_tokens
    for i in range(max(first, 0), tower.layers):
        is_last = i == tower.layers - 1
        x = tower.blocks[i].forward(x, class_token_only=skips_patches and is_last)
    return x


def patches_per_side(tower: Tower) -> int:
    """Returns the patch tokens on a side of a frame; 0 for an encoder without patch tokens."""
    side: int = round((tower.tokens - 1) ** 0.5)
    return side


def count_cells(grid_sizes: GridSizes) -> int:
    """Returns the number of cells of all grids together."""
    return sum(size * size for size in grid_sizes)


def check_grids(tower: Tower, grid_sizes: GridSizes) -> None:
    """Refuses grids that a tower cannot give.

    Args:
        tower: the frozen tower.
        grid_sizes: cells on a side of each.

    Raises:
        AdapterError: when the tower has fewer patches on a side, or none.
    """
    side, size = patches_per_side(tower), max(grid_sizes, default=0)
    if size and not side:
        raise AdapterError(
            f"the head reads a grid of {size} x {size} cells, and this encoder has no patch "
            "tokens; use tokens=summary"
        )
    if side < size:
        raise AdapterError(
            f"the head reads a grid of {size} x {size} cells: this encoder has {side} x {side} "
            f"patches at this image size; give at most grid{side} or motion{side}, or a larger "
            "image size"
        )


def _pool_frozen(tower: Tower, x: Tensor, grid_sizes: GridSizes) -> Tensor:
    """Pools tokens to the summary and the cell means, (..., N + 1, D) -> (..., 1 + cells, D).

    In float32 whatever the tower's type, as where all tokens are cached.
    """
    x = x.float() if grid_sizes or tower.pool == "avg" else x[..., :1, :].float()
    summary = tower.pool_tokens(x).unsqueeze(-2)
    return torch.cat([summary, *(grid_means(x[..., 1:, :], size) for size in grid_sizes)], -2)


def split_cells(cells: Tensor, grid_sizes: GridSizes) -> dict[int, Tensor]:
    """Splits the cells of several grids, (..., cells, D), by the number of cells on a side."""
    counts = [size**2 for size in grid_sizes]
    return dict(zip(grid_sizes, torch.split(cells, counts, -2), strict=True))


def grid_means(patches: Tensor, grid_size: int) -> Tensor:
    """Averages patch tokens within the cells of a coarser grid.

    Args:
        patches: (..., N, D), row by row, N a square.
        grid_size: cells on a side, at most the patches on a side. If it does not divide them,
            neighbouring cells share the patches at their border, as in PyTorch's adaptive pooling
            (whose backward pass is not deterministic on a GPU; this is one matrix product).

    Returns:
        (..., grid_size^2, D), row by row.
    """
    side = round(patches.shape[-2] ** 0.5)
    if side == grid_size:
        return patches
    weights = _cell_weights(side, grid_size).to(patches.device, patches.dtype)
    return weights @ patches


@lru_cache(maxsize=16)
def _cell_weights(side: int, grid_size: int) -> Tensor:
    """Weight of each patch in the mean of each cell, (grid_size^2, side^2)."""
    with torch.inference_mode(False):  # it is kept, and training may be what asks for it next
        axis_weights = torch.zeros(grid_size, side, device="cpu")
        for cell in range(grid_size):
            start, stop = cell * side // grid_size, -(-(cell + 1) * side // grid_size)
            axis_weights[cell, start:stop] = 1 / (stop - start)
        return torch.kron(axis_weights, axis_weights)
