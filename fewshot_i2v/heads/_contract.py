"""What every head is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from fewshot_i2v.adapters._contract import Features
from fewshot_i2v.errors import HeadError


class HeadOptions(BaseModel):
    """Options of a head; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Head(nn.Module, ABC):
    """From features to class scores, for E episodes at once.

    A subclass is one file. Parameters, if any, carry the leading episode axis E and are drawn from
    `self.generators`, one per episode, so that an episode starts the same whether it is tuned alone
    or beside others. Scores are computed in float32 whatever the precision around the head.

    Args:
        options: an instance of the class's `Options`.
        width: channels D of the features.
        way: classes of an episode.
        frames: frames T of a clip.
        seeds: one seed per episode; E = len(seeds).

    Raises:
        HeadError: when a size is below one or there is no seed.
    """

    Options: ClassVar[type[HeadOptions]] = HeadOptions
    source: ClassVar[str]
    """Where the head comes from."""
    uses_names: ClassVar[bool] = False
    """Whether it reads the class names (such rows must not be ranked with those that do not)."""
    needs_grid: ClassVar[bool] = False
    """Whether it reads patch tokens."""

    def __init__(
        self, options: HeadOptions, *, width: int, way: int, frames: int, seeds: Sequence[int]
    ) -> None:
        super().__init__()
        if not seeds:
            raise HeadError("a head needs one seed per episode; got none")
        if min(width, way, frames) < 1:
            raise HeadError(
                "a head needs width, way and frames of at least 1; "
                f"got width={width}, way={way}, frames={frames}"
            )
        self.options, self.episodes = options, len(seeds)
        self.width, self.way, self.frames = width, way, frames
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    @abstractmethod
    def training_logits(self, support: Features, labels: Tensor) -> Tensor:
        """Scores of the support clips that fine-tuning minimises the cross-entropy of.

        Args:
            support: features of the S support clips, frames (E, S, T, D).
            labels: class of each, (E, S) int64 in 0..way-1.

        Returns:
            (E, S, way).
        """

    @abstractmethod
    def forward(self, query: Features, support: Features, labels: Tensor) -> Tensor:
        """Scores of the query clips.

        Args:
            query: features of the Q query clips, frames (E, Q, T, D).
            support: features of the S support clips.
            labels: class of each support clip, (E, S).

        Returns:
            (E, Q, way), logits of a softmax over the classes.
        """
