"""Channels that move one frame along, as far as a learned gate lets them (after Lin et al., 2019).

The one module of a package that knows fewshot-i2v, while fewshot-i2v does not know it: the adapter
is found through the package's entry point.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewshot_i2v.models.adapters.base.adapter import Adapter, AdapterOptions
from fewshot_i2v.models.adapters.base.layers import broadcast_over_tokens
from fewshot_i2v.models.encoders.block import FrozenBlock
from fewshot_i2v.models.encoders.tower import Tower


class TemporalShift(Adapter):
    """`u + g * (shift(u) - u)` in place of u = ln_1(x), before every attention.

    Of tokens (E, clips, T, N + 1, D), `shift` takes the first quarter of the channels from the
    frame before and the second quarter from the frame after; outside the clip there are zeros. The
    gate g is learned per moving channel and starts at zero, so that nothing moves.

    Parameters of an episode: L D / 2; 4,608 for ViT-B/16.

    Source: Lin, Gan, Han, TSM: Temporal Shift Module for Efficient Video Understanding, ICCV 2019,
    https://arxiv.org/abs/1811.08383.
    """

    source = (
        "after Lin, Gan, Han, TSM: Temporal Shift Module for Efficient Video Understanding, "
        "ICCV 2019, https://arxiv.org/abs/1811.08383"
    )
    identity_at_init = True
    frame_order = "yes"

    def __init__(
        self, tower: Tower, options: AdapterOptions, *, frames: int, seeds: Sequence[int]
    ) -> None:
        super().__init__(tower, options, frames=frames, seeds=seeds)
        self._quarter = tower.width // 4
        shape = (self.episodes, 2 * self._quarter)
        self.gates = nn.ParameterList(nn.Parameter(torch.zeros(shape)) for _ in tower.blocks)

    @property
    def temporal_radius(self) -> int:
        """One frame before and one after."""
        return min(1, self.frames - 1)

    def block(self, i: int, frozen: FrozenBlock, x: Tensor) -> Tensor:
        """Block i with channels of neighbour frames in its attention."""
        u = frozen.ln_1(x)
        quarter = self._quarter
        moving, still = u[..., : 2 * quarter], u[..., 2 * quarter :]
        moved = torch.cat([_moved(u[..., :quarter], 1), _moved(moving[..., quarter:], -1)], -1)
        moving = torch.lerp(moving, moved, broadcast_over_tokens(self.gates[i], moving))
        x = x + frozen.self_attention(torch.cat([moving, still], -1))
        return x + frozen.mlp(frozen.ln_2(x))


def _moved(x: Tensor, by: int) -> Tensor:
    """Axis T of (E, clips, T, L, C) moved by one frame, zeros at the free end."""
    if by > 0:
        return functional.pad(x, (0, 0, 0, 0, 1, 0))[:, :, :-1]
    return functional.pad(x, (0, 0, 0, 0, 0, 1))[:, :, 1:]
