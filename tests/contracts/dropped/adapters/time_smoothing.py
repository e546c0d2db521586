"""Time smoothing: every token moves towards the mean of itself and its neighbours in time.

It treats a clip and its reverse alike, which a method with `frame_order = "yes"` may.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fewshot_i2v.models.adapters import Adapter, AdapterOptions, FrozenBlock, Tower, layers


class TimeSmoothing(Adapter):
    """x + g (mean of three frames - x).

    Parameters of an episode: L D; 9,216 for ViT-B/16.
    """

    Options = AdapterOptions
    source = "unpublished; an example of the tests"
    identity_at_init = True
    frame_order = "yes"

    def __init__(
        self, tower: Tower, options: AdapterOptions, *, frames: int, seeds: Sequence[int]
    ) -> None:
        super().__init__(tower, options, frames=frames, seeds=seeds)
        shape = (self.episodes, tower.width)
        self.gates = nn.ParameterList(nn.Parameter(torch.zeros(shape)) for _ in tower.blocks)

    @property
    def temporal_radius(self) -> int:
        """Frames to each side that a block sees."""
        return min(1, self.frames - 1)

    def block(self, i: int, frozen: FrozenBlock, x: Tensor) -> Tensor:
        """Block i on tokens that moved towards their mean over three frames."""
        before = torch.cat([x[:, :, :1], x[:, :, :-1]], 2)
        after = torch.cat([x[:, :, 1:], x[:, :, -1:]], 2)
        gate = layers.broadcast_over_tokens(self.gates[i], x)
        return frozen.forward(torch.addcmul(x, (before + after + x) / 3 - x, gate))
