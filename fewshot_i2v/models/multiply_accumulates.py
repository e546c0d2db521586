"""A counter of the multiply-accumulates of PyTorch operations on the meta device.

`torch.utils.flop_counter` counts the same, but imports PyTorch's compiler when it does, and so do
many operations on the meta device. That takes longer than a short run. What the counter does not
know itself is left to PyTorch; tests hold both equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_ATEN = torch.ops.aten
_META = torch.device("meta")


class MultiplyAccumulateCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the multiply-accumulates of matrix products and convolutions while it is entered.

    Attention is two matrix products, as on PyTorch's meta device.

    Attributes:
        total: multiply-accumulates of all operations so far.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Whether PyTorch wraps the counter for its compiler, which that would import."""
        return False

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 - an operation, whose type PyTorch does not export
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - what the operation returns
        """Compute an operation, and count it."""
        options = kwargs or {}
        count, shape = _COUNTS.get(func.overloadpacket), _SHAPES.get(func)
        out = None
        if shape is not None and not options and all(x.device == _META for x in _tensors(args)):
            out = shape(*args)
        if out is None and count is None:
            with self:  # an operation may consist of others
                out = func.decompose(*args, **options)
        if out is None or out is NotImplemented:
            out = func(*args, **options)
        if count is not None:
            self.total += count(args, out)
        return out


def _tensors(args: Sequence[Any]) -> list[Tensor]:
    """Returns the tensors among arguments, those in lists too."""
    flat = [x for arg in args for x in (arg if isinstance(arg, list | tuple) else [arg])]
    return [x for x in flat if isinstance(x, Tensor)]


def _count_product(args: Sequence[Any], out: Tensor) -> int:
    """Counts (..., n, k) times (..., k, m)."""
    return out.numel() * int(args[0].shape[-1])


def _count_added_product(args: Sequence[Any], out: Tensor) -> int:
    """Counts a product that is added to a tensor."""
    return _count_product(args[1:], out)


def _count_convolution(args: Sequence[Any], out: Tensor) -> int:
    """Counts a convolution: every weight is used at each place of the output.

    A transposed one uses every weight at each place of the input.
    """
    x, weight, transposed = args[0], args[1], args[6]
    clips, _, *places = (x if transposed else out).shape
    return int(clips * prod(places) * weight.numel())


_COUNTS: Mapping[Any, Callable[[Sequence[Any], Tensor], int]] = {
    _ATEN.mm: _count_product,
    _ATEN.bmm: _count_product,
    _ATEN.addmm: _count_added_product,
    _ATEN.baddbmm: _count_added_product,
    _ATEN.convolution: _count_convolution,
}


# What PyTorch's own code computes on the meta device for these operations, which imports the
# compiler. None stands for arguments that are left to PyTorch, mostly to raise its error.


def _like_broadcast(x: Tensor, *others: Any) -> Tensor | None:
    """Returns the result of an operation on each value of x and of a tensor or number, if any."""
    if not others or not isinstance(others[0], Tensor):
        return torch.empty_like(x) if x.is_floating_point() else None
    dtype = torch.result_type(x, others[0])
    if not dtype.is_floating_point:  # a quotient has another type
        return None
    return torch.empty(torch.broadcast_shapes(x.shape, others[0].shape), dtype=dtype, device=_META)


def _like_comparison(x: Tensor, _number: float) -> Tensor:
    """Returns the result of a comparison of each value with a number."""
    return torch.empty_like(x, dtype=torch.bool)


def _like_first(x: Tensor, _dim: int) -> Tensor | None:
    """Returns the result of a softmax in the type of x."""
    return torch.empty_like(x) if x.is_floating_point() else None


def _like_added_product(added: Tensor, x: Tensor, weight: Tensor) -> Tensor | None:
    """Returns the result of `addmm` of a bias (m), x (n, k) and a weight (k, m)."""
    (n, k), m = x.shape, weight.shape[1]
    if added.shape != (m,) or len(weight) != k:
        return None
    return torch.empty((n, m), dtype=x.dtype, device=_META)


def _like_normalised(x: Tensor, shape: Sequence[int], *_: object) -> tuple[Tensor, ...] | None:
    """Returns the results of a layer norm: normalised values, means and inverse deviations."""
    leading = x.shape[: x.ndim - len(shape)]
    if x.shape[len(leading) :] != tuple(shape):
        return None
    statistics = x.new_empty((*leading, *[1] * len(shape)))
    return torch.empty_like(x, memory_format=torch.contiguous_format), statistics, statistics


def _like_concatenated(tensors: Sequence[Tensor], dim: int = 0) -> Tensor | None:
    """Returns the result of `cat`."""
    shapes = [list(x.shape) for x in tensors]
    sizes = [shape.pop(dim) for shape in shapes if shape]
    if len(sizes) < len(shapes) or any(shape != shapes[0] for shape in shapes):
        return None
    if len({x.dtype for x in tensors}) > 1:
        return None
    shape = shapes[0]
    shape.insert(dim % (len(shape) + 1), sum(sizes))
    return torch.empty(shape, dtype=tensors[0].dtype, device=_META)


def _like_stacked(tensors: Sequence[Tensor], dim: int = 0) -> Tensor | None:
    """Returns the result of `stack`."""
    shape = list(tensors[0].shape)
    if any(x.shape != tensors[0].shape or x.dtype != tensors[0].dtype for x in tensors):
        return None
    shape.insert(dim % (len(shape) + 1), len(tensors))
    return torch.empty(shape, dtype=tensors[0].dtype, device=_META)


def _like_mean(x: Tensor, dims: Sequence[int] | None, keepdim: bool = False) -> Tensor | None:
    """Returns the result of `mean` over some axes."""
    if not dims or not x.is_floating_point():
        return None
    reduced = {dim % x.ndim for dim in dims}
    shape = [1 if i in reduced else n for i, n in enumerate(x.shape) if keepdim or i not in reduced]
    return x.new_empty(shape)


_SHAPES: Mapping[Any, Callable[..., Any]] = {
    _ATEN.add.Tensor: _like_broadcast,
    _ATEN.mul.Tensor: _like_broadcast,
    _ATEN.mul.Scalar: _like_broadcast,
    _ATEN.div.Tensor: _like_broadcast,
    _ATEN.gt.Scalar: _like_comparison,
    _ATEN.gelu.default: _like_broadcast,
    _ATEN.relu.default: _like_broadcast,
    _ATEN._safe_softmax.default: _like_first,
    _ATEN.addmm.default: _like_added_product,
    _ATEN.native_layer_norm.default: _like_normalised,
    _ATEN.cat.default: _like_concatenated,
    _ATEN.stack.default: _like_stacked,
    _ATEN.mean.dim: _like_mean,
}
