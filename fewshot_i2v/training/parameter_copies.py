"""Copies of trained modules that share their parameters, or begin with the same ones."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

from torch import Tensor, nn

_Module = TypeVar("_Module", bound=nn.Module)


def shared_view(count: int) -> Callable[[Tensor], Tensor]:
    """Expands a parameter of one copy to `count`; the gradients of all copies add up in it."""
    return lambda parameter: parameter.expand(count, *parameter.shape[1:])


def independent_copies(count: int) -> Callable[[Tensor], Tensor]:
    """Makes `count` copies of a parameter, each with separate memory and gradients."""
    return lambda parameter: nn.Parameter(parameter.detach().repeat_interleave(count, 0))


def with_parameters(
    module: _Module, source: nn.Module, make: Callable[[Tensor], Tensor]
) -> _Module:
    """Returns a copy of the module with other parameters; it shares everything else.

    Args:
        module: not changed.
        source: has the same parameter names.
        make: from a parameter of `source` to its replacement, with or without an autograd graph.
    """
    module_copy = copy.copy(module)
    attributes = module_copy.__dict__
    attributes["_parameters"] = {
        key: None if value is None else make(value) for key, value in source._parameters.items()
    }
    attributes["_modules"] = {
        key: None if child is None else with_parameters(child, source.get_submodule(key), make)
        for key, child in module._modules.items()
    }
    return module_copy
