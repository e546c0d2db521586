"""Blocks of an adapted tower as compiled code: fewer operations, after a time of compiling."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from fewshot_i2v.errors import AdapterError
from fewshot_i2v.models.encoders.block import FrozenBlock

BACKEND = "inductor"
"""PyTorch's compiler of the graph; it needs Triton on a GPU, and a C++ compiler on a CPU."""

BlockFunction = Callable[[int, FrozenBlock, Tensor], Tensor]

# Of one version for each block, shape of tokens and type: PyTorch allows 8 and 256.
_LIMITS: dict[str, Any] = {"recompile_limit": 10_000, "accumulated_recompile_limit": 10_000}


def run_compiled(block: BlockFunction, i: int, frozen: FrozenBlock, x: Tensor) -> Tensor:
    """Computes block i by compiled code, which is made when it is called with new shapes.

    Blocks of equal shapes share that code, in this process and, by PyTorch's cache on disk, in
    later ones. Adapters of other episodes are not compiled again: parameters are inputs.

    Args:
        block: `Adapter.block` or `Adapter.class_token_block` of an adapter.
        i: index of the block.
        frozen: the frozen layers of the block.
        x: tokens (E, clips, T, N + 1, D).

    Returns:
        What `block` returns, up to rounding: between fused operations nothing is rounded.

    Raises:
        AdapterError: when it cannot be compiled, with the compiler's reason.
    """
    from torch._dynamo import config, exc  # takes 1.6 s

    try:
        with config.patch(_LIMITS), warnings.catch_warnings():
            # PyTorch looks at the gradients of all inputs, the tokens of an earlier block too
            warnings.filterwarnings("ignore", r"The \.grad attribute", UserWarning)
            return _compiled(BACKEND)(block, i, frozen, x)
    except exc.TorchDynamoException as error:
        reason = getattr(error, "inner_exception", error)
        if isinstance(reason, torch.OutOfMemoryError):  # whoever runs the step makes it smaller
            raise reason from error
        lines = str(reason).strip().split("\n\n")[0].split()
        raise AdapterError(
            f"block {i} cannot be compiled: {' '.join(lines)}. Compiling needs Triton on a GPU, "
            "and a C++ compiler on a CPU; without: --no-compile"
        ) from error


@cache
def _compiled(backend: str) -> Callable[[BlockFunction, int, FrozenBlock, Tensor], Tensor]:
    return torch.compile(_run, backend=backend, dynamic=False, fullgraph=True)


def _run(block: BlockFunction, i: int, frozen: FrozenBlock, x: Tensor) -> Tensor:
    return block(i, frozen, x)
