"""Adapter and head as one module, and copies of it whose parameters come from another's."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from typing import TypeVar

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from fewshot_i2v.adapters._adapted import AdaptedEncoder
from fewshot_i2v.adapters._contract import Features
from fewshot_i2v.heads._contract import Head

_Module = TypeVar("_Module", bound=nn.Module)


class Learner(nn.Module):
    """The adapter and the head that are fine-tuned together, B copies of each.

    Args:
        encoder: a frozen tower with an adapter.
        head: of as many copies.
    """

    def __init__(self, encoder: AdaptedEncoder, head: Head) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, clips: Tensor) -> Features:
        """Features of clips from their prefix, (B, clips, ...)."""
        features: Features = self.encoder(clips, cells=self.head.cells)
        return features


def episode_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of each episode, (B,), of logits (B, clips, way)."""
    each = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return each.view(labels.shape).mean(1)


def twice_differentiable(wanted: bool) -> contextlib.AbstractContextManager[None]:
    """Attention in plain products where gradients are differentiated; fused kernels refuse it."""
    return sdpa_kernel(SDPBackend.MATH) if wanted else contextlib.nullcontext()


def seen(count: int) -> Callable[[Tensor], Tensor]:
    """A parameter of one copy seen as `count`: gradients of all of them add up in it."""
    return lambda parameter: parameter.expand(count, *parameter.shape[1:])


def own(count: int) -> Callable[[Tensor], Tensor]:
    """`count` copies with memory and gradients of their own."""
    return lambda parameter: nn.Parameter(parameter.detach().repeat_interleave(count, 0))


def detached(encoder: AdaptedEncoder) -> AdaptedEncoder:
    """The same values without their history."""
    return with_parameters(encoder, encoder, lambda parameter: nn.Parameter(parameter.detach()))


def with_parameters(
    module: _Module, source: nn.Module, make: Callable[[Tensor], Tensor]
) -> _Module:
    """The module with other parameters; everything else is shared with it.

    Args:
        module: not changed.
        source: has the same names of parameters.
        make: from a parameter of `source` to what stands in its place, with or without a history.
    """
    new = copy.copy(module)
    parts = new.__dict__
    parts["_parameters"] = {
        key: None if value is None else make(value) for key, value in source._parameters.items()
    }
    parts["_modules"] = {
        key: None if part is None else with_parameters(part, source.get_submodule(key), make)
        for key, part in module._modules.items()
    }
    return new
