"""The bottleneck adapter that several methods put at different places of a block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewshot_i2v.adapters._layers import EpisodeLinear, Initialiser, trunc_normal, zeros
from fewshot_i2v.errors import AdapterError

Activation = Literal["gelu", "relu", "none"]


class Bottleneck(nn.Module):
    """Two linear maps through a narrow middle, one copy per episode.

    `A(u) = [u +] scale * (act(u W_down + b_down) W_up + b_up)`. `W_up` and both biases start at
    zero, so that an untrained adapter adds nothing. There is no layer norm and no dropout.

    Parameters of one episode: 2 D h + h + D.

    Args:
        generators: one per episode; E of them.
        width: channels D of the tokens.
        hidden: channels h of the middle.
        activation: "gelu" (exact, with the error function), "relu" or "none".
        skip: whether the input is added to the result.
        scale: constant factor of the branch.
        init: draws `W_down`.
    """

    def __init__(
        self,
        generators: Sequence[torch.Generator],
        width: int,
        hidden: int,
        *,
        activation: Activation,
        skip: bool = False,
        scale: float = 1.0,
        init: Initialiser = trunc_normal,
    ) -> None:
        super().__init__()
        self.activation, self.skip, self.scale = activation, skip, scale
        self.down = EpisodeLinear(generators, width, hidden, init)
        self.up = EpisodeLinear(generators, hidden, width, zeros)

    def forward(self, u: Tensor) -> Tensor:
        """The adapter of tokens (E, ..., D), in their shape and type."""
        hidden: Tensor = self.down(u)
        if self.activation == "gelu":
            hidden = functional.gelu(hidden)
        elif self.activation == "relu":
            hidden = functional.relu(hidden)
        branch: Tensor = self.up(hidden, self.scale)
        return u + branch if self.skip else branch

    @torch.no_grad()
    def linear_map(self, episode: int) -> tuple[Tensor, Tensor]:
        """The matrix M (D, D) and the vector c (D,) with `A(u) = M u + c`, in float64.

        Args:
            episode: which of the E copies.

        Raises:
            AdapterError: when an activation keeps it from being linear.
        """
        if self.activation != "none":
            raise AdapterError(f"a bottleneck with {self.activation} between is not a linear map")
        (w1, b1), (w2, b2) = (
            (layer.weight[episode].double(), layer.bias[episode].double())
            for layer in (self.down, self.up)
        )
        matrix = self.scale * (w1 @ w2).T
        if self.skip:
            matrix = matrix + torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
        return matrix, self.scale * (b1 @ w2 + b2)


def hidden_width(width: int, ratio: float) -> int:
    """Channels of a bottleneck: the whole part of `ratio * width`, at least 1."""
    return max(1, int(ratio * width))
