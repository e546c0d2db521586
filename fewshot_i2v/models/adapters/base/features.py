"""Features of clips, as adapters give them to heads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
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
        tensors.append(features.grid.flatten(2, 3))
    return torch.cat(tensors, -2)


def unpack_features(tensor: Tensor, frames: int) -> Features:
    """Unpacks the output of `pack_features` for clips of T = `frames`."""
    n_cells = (tensor.shape[-2] - 1) // frames - 1
    batch_shape, width = tensor.shape[:-2], tensor.shape[-1]
    grid = tensor[..., frames + 1 :, :].reshape(*batch_shape, frames, n_cells, width)
    return Features(tensor[..., :frames, :], tensor[..., frames, :], grid if n_cells else None)
