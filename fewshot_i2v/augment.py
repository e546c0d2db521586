"""Augmentation of support clips during fine-tuning: one flip and one crop per clip and step.

All frames of a clip get the same change, so that motion stays motion. Draws come from one
generator per episode, so that an episode sees the same whether it is tuned alone or beside others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from fewshot_i2v.config import TuningConfig

# A mirrored clip of such a class shows another class, or none.
_SIDED = frozenset(
    {"left", "right", "leftward", "rightward", "leftwards", "rightwards"}
    | {"clockwise", "counterclockwise", "anticlockwise", "cw", "ccw"}
)


def has_sides(class_name: str) -> bool:
    """Whether a class name says left or right, so that a mirrored clip would be another class.

    >>> has_sides("pushing_something_from_left_to_right"), has_sides("bright_light")
    (True, False)
    """
    words = re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", class_name).lower())
    joined = "".join(words)
    turning = "counterclockwise" in joined or "anticlockwise" in joined
    return turning or any(word in _SIDED for word in words)


def is_active(recipe: TuningConfig) -> bool:
    """Whether a recipe changes the support clips at all."""
    return recipe.flip != "off" or recipe.crop_scale is not None


class Augmenter:
    """Random flips and crops for E episodes.

    Args:
        recipe: `flip` "off", "on", or "auto" (not in an episode with a class name that says left
            or right); `crop_scale` range of the area kept, as fractions of the frame, or None.
        classes: class names of each episode.
        seeds: one per episode.
    """

    def __init__(
        self, recipe: TuningConfig, classes: Sequence[Sequence[str]], seeds: Sequence[int]
    ) -> None:
        self.scale = recipe.crop_scale
        self.flips = [
            recipe.flip == "on"
            or (recipe.flip == "auto" and not any(has_sides(name) for name in names))
            for names in classes
        ]
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def _boxes(self, clips: int) -> Tensor:
        """Horizontal scale, vertical scale and centre of each crop, (E, clips, 4)."""
        rows = []
        for flip, generator in zip(self.flips, self.generators, strict=True):
            u = torch.rand(clips, 4, generator=generator)
            low, high = self.scale or (1.0, 1.0)
            side = (low + (high - low) * u[:, 0]).sqrt()
            centre = (2 * u[:, 1:3] - 1) * (1 - side)[:, None]
            mirror = torch.where((u[:, 3] < 0.5) & flip, -1.0, 1.0)
            rows.append(torch.stack([side * mirror, side, centre[:, 0], centre[:, 1]], 1))
        return torch.stack(rows)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Draws anew and applies.

        Args:
            pixels: (E, S, T, 3, H, W), normalised.

        Returns:
            The same shape; bilinear where a crop is resized.
        """
        episodes, clips = pixels.shape[:2]
        box = self._boxes(clips).to(pixels.device)
        theta = torch.zeros(episodes, clips, 2, 3, device=pixels.device)
        theta[..., 0, 0], theta[..., 1, 1] = box[..., 0], box[..., 1]
        theta[..., 0, 2], theta[..., 1, 2] = box[..., 2], box[..., 3]
        size = [episodes * clips, 3, *pixels.shape[-2:]]
        grid = functional.affine_grid(theta.flatten(0, 1), size, align_corners=False)
        stacked = pixels.flatten(0, 1).flatten(1, 2).float()
        moved = functional.grid_sample(
            stacked, grid, padding_mode="reflection", align_corners=False
        )
        return moved.reshape(pixels.shape).to(pixels.dtype)
