"""A counter of the multiply-accumulates of PyTorch operations on the meta device.

`torch.utils.flop_counter` counts the same, but imports PyTorch's compiler when it does, and so do
many operations on the meta device; some import sympy. That takes longer than a short run. What the
counter does not know itself is left to PyTorch; tests hold both equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
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


# What PyTorch's own code computes on the meta device for these operations, with slow imports.
# None stands for arguments that are left to PyTorch, mostly to raise its error.


def _empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=_META)


def _like_broadcast(x: Tensor, *others: Any) -> Tensor | None:
    """Returns the result of an operation on each value of tensors and of numbers, if any."""
    tensors = [other for other in others if isinstance(other, Tensor)]
    dtype = torch.result_type(x, tensors[0]) if tensors else x.dtype
    mixed = any(other.dtype != tensors[0].dtype for other in tensors)
    if mixed or not dtype.is_floating_point:  # a quotient of integers has another type
        return None
    try:
        shape = np.broadcast_shapes(x.shape, *(other.shape for other in tensors))
    except ValueError:
        return None
    return _empty(shape, dtype)


def _in_place(x: Tensor, *others: Any) -> Tensor | None:
    """Returns x, which an operation on each value of tensors changes."""
    out = _like_broadcast(x, *others)
    return x if out is not None and (out.shape, out.dtype) == (x.shape, x.dtype) else None


def _like_first(x: Tensor, _dim: int) -> Tensor | None:
    """Returns the result of a softmax in the type of x."""
    return _empty(x.shape, x.dtype) if x.is_floating_point() else None


def _like_product(x: Tensor, y: Tensor) -> Tensor | None:
    """Returns the result of `mm` of (n, k) and (k, m), or of `bmm` with a leading axis."""
    if x.shape[:-2] != y.shape[:-2] or x.shape[-1] != y.shape[-2]:
        return None
    return _empty((*x.shape[:-1], y.shape[-1]), x.dtype)


def _like_added_product(added: Tensor, x: Tensor, y: Tensor) -> Tensor | None:
    """Returns the result of `addmm` or `baddbmm`, whose product is added to what fits it."""
    product = _like_product(x, y)
    if product is None or added.ndim > product.ndim:
        return None
    sizes = zip(added.shape[::-1], product.shape[::-1], strict=False)
    return product if all(size in (1, full) for size, full in sizes) else None


def _like_convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    _output_padding: Sequence[int],
    groups: int,
) -> Tensor | None:
    """Returns the result of a convolution without padding, as of patches."""
    plain = not transposed and {*padding, groups} == {0, 1} and {*dilation} == {1}
    if not plain or bias is not None or x.shape[1] != weight.shape[1]:
        return None
    sides = zip(x.shape[2:], weight.shape[2:], stride, strict=True)
    places = [(side - size) // step + 1 for side, size, step in sides]
    if min(places) < 1:
        return None
    return _empty((x.shape[0], weight.shape[0], *places), x.dtype)


def _like_normalised(x: Tensor, shape: Sequence[int], *_: object) -> tuple[Tensor, ...] | None:
    """Returns the results of a layer norm: normalised values, means and inverse deviations."""
    leading = x.shape[: x.ndim - len(shape)]
    if x.shape[len(leading) :] != tuple(shape):
        return None
    statistics = _empty((*leading, *[1] * len(shape)), x.dtype)
    return _empty(x.shape, x.dtype), statistics, statistics


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
    return _empty(shape, tensors[0].dtype)


def _like_stacked(tensors: Sequence[Tensor], dim: int = 0) -> Tensor | None:
    """Returns the result of `stack`."""
    shape = list(tensors[0].shape)
    if any(x.shape != tensors[0].shape or x.dtype != tensors[0].dtype for x in tensors):
        return None
    shape.insert(dim % (len(shape) + 1), len(tensors))
    return _empty(shape, tensors[0].dtype)


def _like_mean(x: Tensor, dims: Sequence[int] | None, keepdim: bool = False) -> Tensor | None:
    """Returns the result of `mean` over some axes."""
    if not dims or not x.is_floating_point():
        return None
    reduced = {dim % x.ndim for dim in dims}
    shape = [1 if i in reduced else n for i, n in enumerate(x.shape) if keepdim or i not in reduced]
    return _empty(shape, x.dtype)


_SHAPES: Mapping[Any, Callable[..., Any]] = {
    _ATEN.add.Tensor: _like_broadcast,
    _ATEN.mul.Tensor: _like_broadcast,
    _ATEN.mul.Scalar: _like_broadcast,
    _ATEN.div.Tensor: _like_broadcast,
    _ATEN.addcmul.default: _like_broadcast,
    _ATEN.addcmul_.default: _in_place,
    _ATEN.lerp.Tensor: _like_broadcast,
    _ATEN.gelu.default: _like_broadcast,
    _ATEN.relu.default: _like_broadcast,
    _ATEN.silu.default: _like_broadcast,
    _ATEN.sigmoid.default: _like_broadcast,
    _ATEN._safe_softmax.default: _like_first,
    _ATEN.mm.default: _like_product,
    _ATEN.bmm.default: _like_product,
    _ATEN.addmm.default: _like_added_product,
    _ATEN.baddbmm.default: _like_added_product,
    _ATEN.convolution.default: _like_convolution,
    _ATEN.native_layer_norm.default: _like_normalised,
    _ATEN.cat.default: _like_concatenated,
    _ATEN.stack.default: _like_stacked,
    _ATEN.mean.dim: _like_mean,
    _ATEN.sum.dim_IntList: _like_mean,
}
