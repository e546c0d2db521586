"""Optimizers of fine-tuning: AdamW, or plain gradient descent with a rate for every value."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


class RateDescent(torch.optim.Optimizer):
    """Plain gradient descent with a learned rate for every value, as in Meta-SGD.

    There is no momentum, no weight decay and no schedule: this is the inner loop that the rates
    were learned in. A rate may be negative.

    Source: Li, Zhou, Chen, Li: Meta-SGD: Learning to Learn Quickly for Few-Shot Learning, 2017,
    https://arxiv.org/abs/1707.09835

    Args:
        parameters: each (E, ...).
        rates: of each, (1, ...), for all episodes.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], rates: Sequence[Tensor]) -> None:
        # `base` as in the groups of AdamW; a schedule changes `lr`, which is not read here
        super().__init__([{"params": list(parameters), "lr": 1.0, "base": 1.0}], {})
        self._pairs = list(zip(parameters, rates, strict=True))

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Makes a step; parameters without a gradient stay as they are."""
        for parameter, rate in self._pairs:
            if parameter.grad is not None:
                parameter.sub_(rate * parameter.grad)
