"""Scale and shift of the channels after each of the last blocks (after Lian et al., 2022).

An adapter that lies in a folder of the user's own: the contract must hold for it as it stands.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from fewshot_i2v.models.adapters import Adapter, AdapterOptions, FrozenBlock, Tower, layers


class ScaleShiftOptions(AdapterOptions):
    """Options of ScaleShift.

    Attributes:
        blocks: how many of the last blocks are followed by a scale and a shift, at least 1.
    """

    blocks: int = Field(default=2, ge=1)


class ScaleShift(Adapter):
    """`y = (1 + s) * block(x) + b` with s and b per channel, after each of the last n blocks.

    Tokens are (E, clips, T, N + 1, D); s and b start at zero. Frames never meet.

    Parameters of an episode: 2 n D; 3,072 for ViT-B/16 and n = 2.

    Source: Lian, Zhou, Feng, Wang, Scaling & Shifting Your Features: A New Baseline for Efficient
    Model Tuning, NeurIPS 2022, https://arxiv.org/abs/2210.08823.
    """

    Options = ScaleShiftOptions
    source = (
        "after Lian, Zhou, Feng, Wang, Scaling & Shifting Your Features: A New Baseline for "
        "Efficient Model Tuning, NeurIPS 2022, https://arxiv.org/abs/2210.08823"
    )
    identity_at_init = True
    frame_order = "no"

    def __init__(
        self, tower: Tower, options: ScaleShiftOptions, *, frames: int, seeds: Sequence[int]
    ) -> None:
        super().__init__(tower, options, frames=frames, seeds=seeds)
        self._first = max(0, tower.layers - options.blocks)

        def _rows() -> nn.ParameterList:
            shape = (self.episodes, tower.width)
            sites = range(self._first, tower.layers)
            return nn.ParameterList(nn.Parameter(torch.zeros(shape)) for _ in sites)

        self.scale, self.shift = _rows(), _rows()

    @property
    def first_trained_block(self) -> int:
        """The first block that a scale follows: what enters it never changes."""
        return self._first

    def block(self, i: int, frozen: FrozenBlock, x: Tensor) -> Tensor:
        """Block i, then its scale and shift."""
        y, site = frozen.forward(x), i - self._first
        return torch.addcmul(
            y + layers.broadcast_over_tokens(self.shift[site], y),
            y,
            layers.broadcast_over_tokens(self.scale[site], y),
        )
