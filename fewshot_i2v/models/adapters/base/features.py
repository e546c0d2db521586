"""Features of clips, as adapters give them to heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Features:
    """Features of clips, as heads read them.

    Attributes:
        frames: per frame, after the final layer norm, (E, clips, T, D), float32.
        clip: pooled over frames as the adapter's paper does, (E, clips, D), float32.
        grids: by the cells G on a side, patch tokens averaged within the cells, then through the
            final layer norm, each (E, clips, T, G^2, D), float32; empty unless requested.
        frozen: the same of the frozen encoder, without the adapter; None unless requested.
    """

    frames: Tensor
    clip: Tensor
    grids: Mapping[int, Tensor] = field(default_factory=dict)
    frozen: Features | None = None

    def __repr__(self) -> str:
        grids = {size: tuple(grid.shape) for size, grid in self.grids.items()}
        return (
            f"Features(frames={tuple(self.frames.shape)}, clip={tuple(self.clip.shape)}, {grids=})"
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        own = self.frames.nbytes + self.clip.nbytes + sum(g.nbytes for g in self.grids.values())
        return own + (0 if self.frozen is None else self.frozen.nbytes)

    def map(self, change: Callable[[Tensor], Tensor]) -> Features:
        """Applies the same change of the first two axes, (E, clips), to all features."""
        grids = {size: change(grid) for size, grid in self.grids.items()}
        frozen = None if self.frozen is None else self.frozen.map(change)
        return Features(change(self.frames), change(self.clip), grids, frozen)


def concat_features(chunks: Sequence[Features]) -> Features:
    """Joins features of chunks of clips along the clip axis."""
    if len(chunks) == 1:
        return chunks[0]
    frozen = [chunk.frozen for chunk in chunks if chunk.frozen is not None]
    return Features(
        torch.cat([chunk.frames for chunk in chunks], 1),
        torch.cat([chunk.clip for chunk in chunks], 1),
        {size: torch.cat([c.grids[size] for c in chunks], 1) for size in chunks[0].grids},
        concat_features(frozen) if frozen else None,
    )


def pack_features(features: Features) -> Tensor:
    """Packs frame and clip features into one tensor, (E, clips, T + 1, D)."""
    return torch.cat([features.frames, features.clip.unsqueeze(-2)], -2)


def unpack_features(tensor: Tensor, frames: int) -> Features:
    """Unpacks the output of `pack_features` for clips of T = `frames`."""
    return Features(tensor[..., :frames, :], tensor[..., frames, :])
