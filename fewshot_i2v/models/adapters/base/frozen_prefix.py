"""What an adapter reads of the frozen tower: the part of a clip that is computed once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from fewshot_i2v.errors import AdapterError
from fewshot_i2v.models.encoders.tower import Tower


@dataclass(frozen=True)
class Reading:
    """What never changes about a clip while an adapter is tuned; equal readings share a cache.

    Attributes:
        first_block: index of the first block that is computed again at every step. -1: the stem
            is trained too, and what never changes is the pixels; the number of blocks: none is.
        levels: blocks whose outputs a side branch reads, in increasing order; empty for methods
            that work inside the blocks.
        summary_only: of the levels, the summary token alone is read.
        cells: cells on a side of the grid of patch tokens that the head reads; 0: none.
    """

    first_block: int
    levels: tuple[int, ...] = ()
    summary_only: bool = False
    cells: int = 0

    def frozen_throughout(self, tower: Tower) -> bool:
        """Whether no block of the tower is computed again."""
        return self.first_block >= tower.layers

    def condensed(self, tower: Tower) -> bool:
        """Whether summary and cell means are kept in place of all tokens."""
        return self.frozen_throughout(tower) and (self.summary_only or not self.levels)

    def key(self, tower: Tower) -> Reading:
        """The reading that gives the same of a clip: the grid matters where it is pooled early."""
        return self if self.condensed(tower) else replace(self, cells=0)

    def shape(self, tower: Tower, frames: int) -> tuple[int, ...]:
        """Axes of what `read` gives for one clip of T = `frames`."""
        if self.first_block < 0:
            return (frames, 3, tower.image_size, tower.image_size)
        tokens = tower.tokens
        if self.condensed(tower):
            tokens = 1 + self.cells**2
        if self.levels:
            return (len(self.levels), frames, tokens, tower.width)
        return (frames, tokens, tower.width)


def read(tower: Tower, reading: Reading, pixels: Tensor) -> Tensor:
    """What never changes about clips.

    Args:
        tower: the frozen tower.
        reading: what is wanted of it.
        pixels: (..., T, 3, H, W), normalised.

    Returns:
        For `first_block` -1 the pixels; 0: the stem's tokens, (..., T, N + 1, D); up to the number
        of blocks: what enters that block. Where no block is trained, the summary token and behind
        it the means of the cells, (..., T, 1 + cells^2, D). With `levels`, (..., levels, T, tokens,
        D): all N + 1 tokens, or with `summary_only` the same summary and cells of each level.

    Raises:
        AdapterError: when the tower has fewer patches on a side than `cells`.
    """
    check_cells(tower, reading.cells)
    if reading.first_block < 0:
        return pixels
    x = tower.stem(pixels)
    if reading.first_block == 0 and tower.layers:
        return x
    x = tower.ln_pre(x)
    seen = []
    for i, block in enumerate(tower.blocks[: reading.first_block]):
        x = block.forward(x)
        if i in reading.levels:
            seen.append(_condensed(tower, x, reading.cells) if reading.summary_only else x)
    if reading.levels:
        return torch.stack(seen, -4)
    return _condensed(tower, x, reading.cells) if reading.condensed(tower) else x


def check_cells(tower: Tower, cells: int) -> None:
    """Refuses a grid that a tower cannot give.

    Args:
        tower: the frozen tower.
        cells: cells on a side; 0: no grid.

    Raises:
        AdapterError: when the tower has fewer patches on a side, or none.
    """
    side = round((tower.tokens - 1) ** 0.5)
    if cells and not side:
        raise AdapterError(f"tokens=grid{cells}: this encoder has no patch tokens; use summary")
    if side < cells:
        raise AdapterError(
            f"tokens=grid{cells}: this encoder has {side} x {side} patches at this image size; "
            f"give at most grid{side}, or a larger image size"
        )


def _condensed(tower: Tower, x: Tensor, cells: int) -> Tensor:
    """The summary token and the means of the cells, (..., N + 1, D) -> (..., 1 + cells^2, D).

    In float32 whatever the tower's type, as they are where all tokens are kept.
    """
    x = x.float() if cells or tower.pool == "avg" else x[..., :1, :].float()
    summary = tower.summary(x).unsqueeze(-2)
    return torch.cat([summary, cell_means(x[..., 1:, :], cells)], -2) if cells else summary


def cell_means(patches: Tensor, cells: int) -> Tensor:
    """Patch tokens averaged within the cells of a coarser grid.

    Args:
        patches: (..., N, D), row by row, N a square.
        cells: cells on a side, at most those of the patches. Where it does not divide the patches
            on a side, cells share the patches at their limits, as in PyTorch's adaptive pooling
            (whose backward pass is not deterministic on a GPU; this is one matrix product).

    Returns:
        (..., cells^2, D), row by row.
    """
    side = round(patches.shape[-2] ** 0.5)
    if side == cells:
        return patches
    shares = _shares(side, cells).to(patches.device, patches.dtype)
    return shares @ patches


@lru_cache(maxsize=16)
def _shares(side: int, cells: int) -> Tensor:
    """What each patch counts in the mean of each cell, (cells^2, side^2)."""
    with torch.inference_mode(False):  # it is kept, and training may be what asks for it next
        along = torch.zeros(cells, side, device="cpu")
        for cell in range(cells):
            first, last = cell * side // cells, -(-(cell + 1) * side // cells)
            along[cell, first:last] = 1 / (last - first)
        return torch.kron(along, along)
