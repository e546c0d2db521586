"""Features of clips, as adapters give them to heads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor


@dataclass(frozen=True)
class Features:
    """Features of clips, as heads read them.

    Attributes:
        frames: per frame, after the final layer norm, (E, clips, T, D), float32.
        clip: pooled over frames as the adapter's paper does, (E, clips, D), float32.
        grid: patch tokens averaged within grid cells, then through the final layer norm,
            (E, clips, T, grid_size^2, D), float32; None unless requested.
    """

    frames: Tensor
    clip: Tensor
    grid: Tensor | None = None

    def __repr__(self) -> str:
        grid = None if self.grid is None else tuple(self.grid.shape)
        return (
            f"Features(frames={tuple(self.frames.shape)}, clip={tuple(self.clip.shape)}, {grid=})"
        )


def pack_features(features: Features) -> Tensor:
    """Packs features into one tensor, (E, clips, T + 1 + T * grid_size^2, D).

    The order along the third axis is frames, clip, grid (if present).
    """
    tensors = [features.frames, features.clip.unsqueeze(-2)]
    if features.grid is not None:
        tensors.append(rearrange(features.grid, "e clips t cell d -> e clips (t cell) d"))
    return torch.cat(tensors, -2)


def unpack_features(tensor: Tensor, frames: int) -> Features:
    """Unpacks the output of `pack_features` for clips of T = `frames`."""
    frame_features, clip, cells = tensor.tensor_split((frames, frames + 1), -2)
    grid = rearrange(cells, "... (t cell) d -> ... t cell d", t=frames)
    return Features(frame_features, clip.squeeze(-2), grid if grid.shape[-2] else None)
