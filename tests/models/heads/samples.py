"""Small random episodes for the tests of heads."""

from __future__ import annotations

import torch
from torch import Tensor

from fewshot_i2v.models.adapters.base.features import Features

EPISODES, WAY, FRAMES, WIDTH = 3, 3, 4, 10
# episodes with different, unbalanced and unsorted numbers of support clips per class
LABELS = torch.tensor([[0, 0, 1, 1, 1, 2], [2, 1, 0, 1, 2, 2], [0, 1, 2, 0, 1, 2]])
ONE_SHOT = torch.tensor([[2, 0, 1], [0, 1, 2], [1, 0, 2]])


def clips(number: int, seed: int, frames: int = FRAMES) -> Features:
    """Clips whose pooled feature is not the mean of the frames, so that the two differ."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(EPISODES, number, frames, WIDTH, generator=generator) + 0.5
    return Features(drawn, 2 * drawn[..., 0, :] - drawn[..., 1, :])


def of_class(labels: Tensor, e: int, c: int, without: int | None = None) -> list[int]:
    """Support clips of a class; without one of them, unless it is the only one."""
    all_clips = [i for i, label in enumerate(labels[e].tolist()) if label == c]
    return [i for i in all_clips if i != without] or all_clips
