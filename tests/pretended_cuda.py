# ruff: noqa: ANN401 - what torch hands to a tensor subclass has no type
"""A pretended CUDA device: values on the CPU, strict about devices, with a log of what would wait.

A tensor "on the device" wraps one on the CPU and says that it is on `cuda:0`. Every operation is
looked at: it may not mix devices, and what would make the host wait for the device is counted. So
the code for CUDA runs on any machine, with the values of the CPU. It knows nothing of kernels, of
streams and of memory.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
_PACKAGE = "/fewshot_i2v/"
_READS_VALUES = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal"}
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
# of those without a deterministic kernel, the ones that a video model might use
_NOT_DETERMINISTIC = {
    *("cumsum", "kthvalue", "median", "histc", "scatter_reduce", "bincount", "nll_loss2d_forward"),
    *("grid_sampler_2d_backward", "reflection_pad2d_backward", "replication_pad2d_backward"),
    *("upsample_bilinear2d_backward", "upsample_bicubic2d_backward", "_ctc_loss_backward"),
    *("adaptive_max_pool2d_backward", "_adaptive_avg_pool2d_backward", "avg_pool3d_backward"),
}
_FACTORIES = {
    *("arange", "zeros", "ones", "empty", "full", "eye", "tensor", "rand", "randn", "linspace"),
    *("as_tensor", "zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like"),
    *("new_zeros", "new_empty", "new_ones", "new_full", "new_tensor", "scalar_tensor", "randperm"),
    "randint",
}


@dataclass
class Log:
    """What happened on the device.

    Attributes:
        waits: how often the host would wait, by operation and line of the package.
        faults: what a GPU would refuse, likewise.
    """

    waits: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)


_log = Log()


def _line() -> str:
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if _PACKAGE in name and "site-packages/torch" not in name:
            return f"{name.split(_PACKAGE)[-1]}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "torch"


def _wait(operation: str) -> None:
    _log.waits[f"{operation} at {_line()}"] += 1


def _fault(text: str) -> None:
    _log.faults[f"{text} at {_line()}"] += 1


class DeviceTensor(Tensor):
    """A tensor on the pretended device; `values` are on the CPU."""

    values: Tensor

    @staticmethod
    def __new__(cls: type[DeviceTensor], values: Tensor) -> DeviceTensor:
        wrapper: DeviceTensor = Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            layout=values.layout,
            device="meta",
            requires_grad=False,
        )
        wrapper.values = values
        return wrapper

    device = property(lambda self: CUDA)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)
    is_meta = property(lambda self: False)

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"DeviceTensor({tuple(self.shape)}, {self.dtype})"

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    __array__ = numpy

    def tolist(self) -> Any:
        _wait("tolist")
        return self.values.tolist()

    def __deepcopy__(self, memo: Any) -> Tensor:
        copy = DeviceTensor(self.values.detach().clone())
        if isinstance(self, nn.Parameter):
            return nn.Parameter(copy, self.requires_grad)
        return copy.requires_grad_(self.requires_grad)

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise RuntimeError("a tensor of the device is saved as it is")

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        return _run(func, args, kwargs or {})


def _is_device(value: Any) -> bool:
    # autograd makes its zeros on the device that the wrapper has in C++, "meta"
    return value is not None and torch.device(value).type in ("cuda", "meta")


def _values(value: Any) -> Any:
    return value.values if isinstance(value, DeviceTensor) else value


def _wrapped(value: Any) -> Any:
    is_plain = isinstance(value, Tensor) and not isinstance(value, DeviceTensor)
    return DeviceTensor(value) if is_plain else value


def _run(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:  # noqa: C901 - a table
    """Runs an operation of which a tensor is on the device, or whose result will be."""
    name = func._schema.name.split("::")[1]
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    ours = [t for t in tensors if isinstance(t, DeviceTensor)]
    others = [t for t in tensors if not isinstance(t, DeviceTensor)]
    device = kwargs.get("device")
    leaves_device = name == "_to_copy" and device is not None and not _is_device(device)
    if name in _READS_VALUES or leaves_device:
        _wait(name)
    if name in _NOT_DETERMINISTIC and any(t.dtype.is_floating_point for t in ours):
        _fault(f"{name} has no deterministic kernel")
    if name == "copy_":
        if isinstance(args[0], DeviceTensor) != isinstance(args[1], DeviceTensor):
            _wait(name)
        others = []
    elif name in _INDEXING:
        indices = [index for index in args[1] or () if index is not None]
        if any(index.dtype == torch.bool for index in indices):
            _wait(f"{name} with a mask")
        on_host = [index for index in indices if not isinstance(index, DeviceTensor)]
        if on_host and isinstance(args[0], DeviceTensor):
            _wait(f"{name} with an index on the host")
        others = [t for t in others if not any(t is index for index in on_host)]
    elif name == "_to_copy":
        others = []
    if ours and any(t.dim() > 0 for t in others):
        _fault(f"{name} mixes devices")
        raise RuntimeError(f"expected all tensors on one device: {func} at {_line()}")
    arguments = {**kwargs, "device": CPU} if _is_device(device) else kwargs
    result = func(*tree_map(_values, args), **tree_map(_values, arguments))
    if leaves_device:
        return result
    result = tree_map(_wrapped, result)
    if any(isinstance(t, DeviceTensor) for t in tree_leaves(args)):
        return return_and_correct_aliasing(func, args, kwargs, result)
    return result


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        has_ours = any(isinstance(t, DeviceTensor) for t in tree_leaves((args, kwargs)))
        if _is_device(kwargs.get("device")) or has_ours:
            return _run(func, args, kwargs)
        return func(*args, **kwargs)


def _names_cuda(value: Any) -> bool:
    return isinstance(value, str | torch.device) and torch.device(value).type == "cuda"


class _Send(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return DeviceTensor(x.detach().clone())

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Tensor:
        values: Tensor = grad.values
        return values


class _Calls(TorchFunctionMode):
    """Calls that name the device make wrappers, before torch looks for a driver."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        if name == "pin_memory":
            return args[0]
        named = [i for i, a in enumerate(args) if i and _names_cuda(a)]
        is_named = bool(named) or _names_cuda(kwargs.get("device"))
        if name == "__get__" or not is_named:
            return func(*args, **kwargs)
        if name == "to":
            return self._to([a for i, a in enumerate(args) if i not in named], kwargs)
        if name not in _FACTORIES:
            _fault(f"{name} is not known to the pretended device")
            return func(*args, **kwargs)
        generator = kwargs.get("generator")
        if generator is not None and generator.device.type == "cpu":
            _fault(f"{name} with a generator of the host")
        if name in ("tensor", "as_tensor", "new_tensor"):
            _wait(name)
        kwargs |= {"device": CPU}
        requires_grad = kwargs.pop("requires_grad", False)
        result = func(*map(_values, args), **kwargs)
        return DeviceTensor(result).requires_grad_(requires_grad)

    def _to(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
        x: Tensor = args[0]
        dtype = kwargs.get("dtype") or next((a for a in args if isinstance(a, torch.dtype)), None)
        if isinstance(x, DeviceTensor):
            moved: Tensor = x.clone() if kwargs.get("copy") else x
        else:
            if not kwargs.get("non_blocking"):
                _wait("to")
            has_graph = x.requires_grad and torch.is_grad_enabled() and not x.is_leaf
            moved = _Send.apply(x) if has_graph else DeviceTensor(x.detach().clone())
        return moved if dtype in (None, moved.dtype) else moved.to(dtype)


def _apply(
    module: nn.Module, function: Callable[[Tensor], Tensor], recurse: bool = True
) -> nn.Module:
    """`Module.to` puts wrappers in place of parameters, whose data it cannot swap."""
    if recurse:
        for child in module.children():
            _apply(child, function)
    for name, parameter in list(module._parameters.items()):
        if parameter is not None:
            with torch.no_grad():
                moved = function(parameter)
            if moved is not parameter:
                moved = moved.detach() if isinstance(moved, nn.Parameter) else moved
                module._parameters[name] = nn.Parameter(moved, parameter.requires_grad)
    for name, buffer in list(module._buffers.items()):
        if buffer is not None:
            module._buffers[name] = function(buffer)
    return module


def _enter_without_gradients(mode: Any) -> None:
    mode.gradients = torch.set_grad_enabled(torch.is_grad_enabled() and not mode.mode)
    mode.gradients.__enter__()


def _leave_without_gradients(mode: Any, *error: Any) -> None:
    mode.gradients.__exit__(*error)


@contextlib.contextmanager
def pretended_cuda() -> Iterator[Log]:
    """Makes a pretended device of the machine; yields the log of what happens on it."""
    global _log
    _log = Log()
    with pytest.MonkeyPatch.context() as patch:
        cuda = torch.cuda
        constants = {
            "is_available": True,
            "device_count": 1,
            "mem_get_info": (100 << 30, 139 << 30),
            "max_memory_allocated": 1 << 20,
            "get_device_name": "pretended",
            "current_device": 0,
            "reset_peak_memory_stats": None,
            "synchronize": None,
            "_lazy_init": None,
        }
        for name, value in constants.items():
            patch.setattr(cuda, name, lambda *_, value=value: value)
        # wrappers cannot be inference tensors
        patch.setattr(torch.inference_mode, "__enter__", _enter_without_gradients)
        patch.setattr(torch.inference_mode, "__exit__", _leave_without_gradients)
        patch.setattr(nn.Module, "_apply", _apply)
        # asks the stream whether a graph is being captured
        patch.setattr(
            torch.optim.Optimizer, "_accelerator_graph_capture_health_check", lambda _: None
        )
        # calls are seen in this thread alone, and adapters are built in another one
        patch.setattr(Tensor, "pin_memory", lambda tensor: tensor)
        with _Calls(), _Operations():
            yield _log
