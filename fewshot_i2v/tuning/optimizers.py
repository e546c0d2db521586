"""Optimizers of fine-tuning: AdamW, or plain gradient descent with a rate for every value.

Those of `torch.optim` import PyTorch's compiler in their first step, which takes longer than some
episodes and is of no use here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

_BETAS, _EPS = (0.9, 0.999), 1e-8


class TuningOptimizer(ABC):
    """Changes parameters by their gradients.

    Attributes:
        param_groups: as those of `torch.optim`: each with its `params` and its learning rate `lr`.
    """

    def __init__(self, param_groups: Iterable[dict[str, Any]]) -> None:
        self.param_groups = list(param_groups)

    def zero_grad(self) -> None:
        """Removes all gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @abstractmethod
    def step(self) -> None:
        """Makes a step; parameters without a gradient stay as they are."""


class AdamW(TuningOptimizer):
    """AdamW with the kernel and the defaults of `torch.optim.AdamW(..., fused=True)`.

    Source: Loshchilov, Hutter: Decoupled Weight Decay Regularization, 2019,
    https://arxiv.org/abs/1711.05101

    Args:
        param_groups: with the keys `params`, `lr` and `weight_decay`.
    """

    def __init__(self, param_groups: Iterable[dict[str, Any]]) -> None:
        super().__init__(param_groups)
        self._state: dict[nn.Parameter, tuple[Tensor, Tensor, Tensor]] = {}

    @torch.no_grad()
    def step(self) -> None:
        """Makes a step; parameters without a gradient stay as they are."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            states = [self._state_of(parameter) for parameter in parameters]
            adamw(
                parameters,
                [p.grad for p in parameters],
                [means for means, _, _ in states],
                [squares for _, squares, _ in states],
                [],
                [steps for _, _, steps in states],
                fused=True,
                amsgrad=False,
                beta1=_BETAS[0],
                beta2=_BETAS[1],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=_EPS,
                maximize=False,
            )

    def _state_of(self, parameter: nn.Parameter) -> tuple[Tensor, Tensor, Tensor]:
        """Returns running means of gradients and of their squares, and the number of steps."""
        if parameter not in self._state:
            means, squares = torch.zeros_like(parameter), torch.zeros_like(parameter)
            steps = torch.zeros((), dtype=torch.float32, device=parameter.device)
            self._state[parameter] = means, squares, steps
        return self._state[parameter]


class RateDescent(TuningOptimizer):
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
        super().__init__([{"params": list(parameters), "lr": 1.0, "base": 1.0}])
        self._pairs = list(zip(parameters, rates, strict=True))

    @torch.no_grad()
    def step(self) -> None:
        """Makes a step; parameters without a gradient stay as they are."""
        for parameter, rate in self._pairs:
            if parameter.grad is not None:
                parameter.sub_(rate * parameter.grad)
