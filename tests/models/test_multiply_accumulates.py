"""The counter of multiply-accumulates: equal to PyTorch's, without the import of its compiler."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from fewshot_i2v import registry
from fewshot_i2v.models import cost
from fewshot_i2v.models.multiply_accumulates import MultiplyAccumulateCounter
from tests.tiny import tiny_tower


class PytorchCounter(FlopCounterMode):
    """PyTorch's counter, which takes a multiplication and an addition for two operations."""

    def __init__(self) -> None:
        super().__init__(display=False)

    @property
    def total(self) -> int:
        return int(self.get_total_flops()) // 2


def t(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


OPERATIONS: dict[str, Callable[[], Any]] = {
    "mm": lambda: t(3, 4) @ t(4, 5),
    "bmm": lambda: t(2, 3, 4) @ t(2, 4, 5),
    "addmm": lambda: functional.linear(t(2, 3, 4), t(5, 4), t(5)),
    "baddbmm": lambda: torch.baddbmm(t(2, 3, 5), t(2, 3, 4), t(2, 4, 5)),
    "addmm of a matrix": lambda: torch.addmm(t(3, 5), t(3, 4), t(4, 5)),
    "einsum": lambda: torch.einsum("eqtd,esud->eqstu", t(2, 3, 4, 5), t(2, 6, 7, 5)),
    "groups and stride": lambda: functional.conv2d(
        t(2, 6, 9, 9), t(8, 3, 3, 3), stride=2, groups=2
    ),
    "depthwise": lambda: functional.conv1d(t(2, 6, 9), t(6, 1, 3), groups=6),
    "over time": lambda: functional.conv3d(t(2, 6, 9, 5, 5), t(8, 6, 3, 1, 1)),
    "transposed": lambda: functional.conv_transpose2d(t(2, 6, 9, 9), t(6, 4, 3, 3), stride=2),
    "attention": lambda: functional.scaled_dot_product_attention(
        t(2, 3, 7, 8), t(2, 3, 9, 8), t(2, 3, 9, 8)
    ),
    "layer": lambda: torch.nn.TransformerEncoderLayer(8, 2, batch_first=True, device="meta")(
        t(2, 5, 8)
    ),
    "recurrent": lambda: torch.nn.GRU(4, 5, device="meta")(t(3, 2, 4)),
}


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_count_as_with_pytorch(name: str, mode: Callable[[], Any]) -> None:
    with mode(), MultiplyAccumulateCounter() as counter:
        OPERATIONS[name]()
    with mode(), PytorchCounter() as expected:
        OPERATIONS[name]()
    assert counter.total == expected.total > 0


SHAPES: dict[str, Callable[[], Any]] = {
    "add broadcast": lambda: t(2, 1, 4) + t(3, 1),
    "add types": lambda: t(2, 4).half() + t(2, 4),
    "add scaled": lambda: torch.add(t(3, 4), t(3, 4), alpha=2),
    "add number": lambda: t(3, 4).bfloat16() + 1.5,
    "multiply integers": lambda: torch.empty(3, dtype=torch.int64, device="meta") * 0.5,
    "divide integers": lambda: (
        torch.empty(3, dtype=torch.int64, device="meta")
        / torch.empty(3, dtype=torch.int64, device="meta")
    ),
    "add products": lambda: torch.addcmul(t(2, 3), t(3), t(2, 1)),
    "add products in place": lambda: t(2, 3).addcmul_(t(3), t(2, 1)),
    "add products of types": lambda: torch.addcmul(t(2, 3).half(), t(3).half(), t(3)),
    "between": lambda: torch.lerp(t(2, 3), t(2, 3), t(3)),
    "silu": lambda: functional.silu(t(2, 3).bfloat16().T),
    "sum": lambda: t(2, 3, 4).sum(1),
    "gelu": lambda: functional.gelu(t(2, 3), approximate="tanh"),
    "relu of integers": lambda: torch.empty(3, dtype=torch.int64, device="meta").relu(),
    "concatenate": lambda: torch.cat([t(2, 3, 4), t(2, 5, 4)], -2),
    "concatenate nothing": lambda: torch.cat([t(0), t(2, 5)]),
    "concatenate types": lambda: torch.cat([t(2, 3).half(), t(2, 3)]),
    "stack": lambda: torch.stack([t(2, 3), t(2, 3), t(2, 3)], -1),
    "mean": lambda: t(2, 3, 4).mean((0, -1)),
    "mean of all": lambda: t(2, 3, 4).mean(()),
    "mean keeps axes": lambda: t(2, 3, 4).half().mean(1, keepdim=True),
    "mean in another type": lambda: t(2, 3).half().mean(1, dtype=torch.float32),
    "softmax": lambda: functional.scaled_dot_product_attention(t(1, 2, 3), t(1, 2, 3), t(1, 2, 3)),
    "norm": lambda: functional.layer_norm(t(2, 3, 4).bfloat16(), (4,), eps=1e-5),
    "norm with mean": lambda: torch.native_layer_norm(t(2, 3, 4), (3, 4), None, None, 1e-5)[1],
    "added": lambda: torch.baddbmm(t(2, 1, 5), t(2, 3, 4), t(2, 4, 5)),
    "products": lambda: torch.bmm(t(2, 3, 4).half(), t(2, 4, 5).half()),
    "patches": lambda: functional.conv2d(t(2, 3, 33, 35).half(), t(8, 3, 16, 16).half(), stride=16),
    "overlapping patches": lambda: functional.conv2d(t(2, 3, 33, 35), t(8, 3, 16, 16), stride=5),
    "padded": lambda: functional.conv2d(t(2, 3, 9, 9), t(8, 3, 3, 3), padding=1),
    "dilated": lambda: functional.conv2d(t(2, 3, 9, 9), t(8, 3, 3, 3), dilation=2),
    "transposed": lambda: functional.conv_transpose2d(t(2, 3, 9, 9), t(3, 8, 3, 3)),
    "convolution with bias": lambda: functional.conv2d(t(2, 3, 9, 9), t(8, 3, 3, 3), t(8)),
    "bias": lambda: functional.linear(t(2, 4).half(), t(3, 4).half(), t(3).half()),
}


@pytest.mark.parametrize("name", SHAPES)
def test_results_are_shaped_as_without_the_counter(name: str) -> None:
    with torch.no_grad():
        expected = SHAPES[name]()
        with MultiplyAccumulateCounter():
            shaped = SHAPES[name]()
    assert (shaped.shape, shaped.dtype, shaped.device) == (
        expected.shape,
        expected.dtype,
        expected.device,
    )


WRONG: dict[str, Callable[[], Any]] = {
    "bias": lambda: torch.addmm(t(4), t(3, 4), t(4, 5)),
    "in place": lambda: t(3).addcmul_(t(2, 3), t(2, 3)),
    "matrices": lambda: t(3, 4) @ t(5, 6),
    "batches": lambda: torch.bmm(t(2, 3, 4), t(3, 4, 5)),
    "added": lambda: torch.baddbmm(t(2, 2, 5), t(2, 3, 4), t(2, 4, 5)),
    "product": lambda: torch.addmm(t(5), t(3, 4), t(6, 5)),
    "broadcast": lambda: t(2, 3) + t(2, 4),
    "concatenate": lambda: torch.cat([t(2, 3), t(3, 4)]),
    "stack": lambda: torch.stack([t(2, 3), t(3, 3)]),
    "norm": lambda: functional.layer_norm(t(2, 3), (4,)),
    "channels": lambda: functional.conv2d(t(2, 4, 9, 9), t(8, 3, 3, 3)),
    "small image": lambda: functional.conv2d(t(2, 3, 2, 9), t(8, 3, 3, 3)),
}


@pytest.mark.parametrize("name", WRONG)
def test_shapes_that_do_not_fit_are_refused(name: str) -> None:
    with torch.no_grad(), MultiplyAccumulateCounter(), pytest.raises(RuntimeError):
        WRONG[name]()


def test_other_devices_are_computed() -> None:
    with torch.no_grad(), MultiplyAccumulateCounter() as counter:
        sums = torch.ones(2, 3) + torch.ones(3)
        means = torch.cat([sums, sums]).mean(0)
        products = torch.addmm(torch.ones(2), torch.ones(4, 3), torch.ones(3, 2))
    assert (sums.tolist(), means.tolist()) == ([[2.0] * 3] * 2, [2.0] * 3)
    assert (products.tolist(), counter.total) == ([[4.0] * 2] * 4, 4 * 3 * 2)


@pytest.mark.parametrize("adapter", registry.method_names("adapters"))
def test_adapters_count_as_with_pytorch(adapter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = cost.count_adapter_cost(tiny_tower(), adapter, frames=3)
    monkeypatch.setattr(cost, "MultiplyAccumulateCounter", PytorchCounter)
    assert counted == cost.count_adapter_cost(tiny_tower(), adapter, frames=3)


def test_counting_imports_nothing_slow() -> None:
    program = (
        "import sys\n"
        "from fewshot_i2v import registry\n"
        "from fewshot_i2v.models.cost import macs_per_clip\n"
        "from fewshot_i2v.tuning.contract.tiny_encoder import tiny_tower\n"
        "for name in registry.method_names('adapters'):\n"
        "    assert macs_per_clip(tiny_tower(), name, {}, frames=3) > 0\n"
        "    assert not {'torch._dynamo', 'sympy'} & sys.modules.keys(), name\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
