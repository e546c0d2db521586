"""Features of clips, as adapters give them to heads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Features:
    """What a head sees of clips.

    Attributes:
        frames: per frame, after the final layer norm, (E, clips, T, D), float32.
        clip: pooled over frames as the adapter's paper does, (E, clips, D), float32.
        grid: patch tokens averaged within cells, then through the final layer norm,
            (E, clips, T, cells^2, D), float32; None unless asked for.
    """

    frames: Tensor
    clip: Tensor
    grid: Tensor | None = None

    def __repr__(self) -> str:
        grid = None if self.grid is None else tuple(self.grid.shape)
        return (
            f"Features(frames={tuple(self.frames.shape)}, clip={tuple(self.clip.shape)}, {grid=})"
        )


def packed(features: Features) -> Tensor:
    """Features in one tensor, (E, clips, T + 1 + T * cells^2, D): frames, clip, grid if any."""
    parts = [features.frames, features.clip.unsqueeze(-2)]
    if features.grid is not None:
        parts.append(features.grid.flatten(2, 3))
    return torch.cat(parts, -2)


def unpacked(tensor: Tensor, frames: int) -> Features:
    """What `packed` gave, of clips of T = `frames`."""
    cells = (tensor.shape[-2] - 1) // frames - 1
    lead, width = tensor.shape[:-2], tensor.shape[-1]
    grid = tensor[..., frames + 1 :, :].reshape(*lead, frames, cells, width)
    return Features(tensor[..., :frames, :], tensor[..., frames, :], grid if cells else None)
