"""Every adapter's block can be compiled as one graph: nothing in it falls back to Python."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fewshot_i2v import registry
from tests.models.tiny_adapters import make_adapter, make_tokens, perturb
from tests.tiny import tiny_tower

_IN_BLOCKS = [name for name in registry.method_names("adapters") if name != "m-adapter"]


@pytest.mark.slow
@pytest.mark.parametrize("name", _IN_BLOCKS)
def test_a_block_is_one_graph(name: str) -> None:
    tower = tiny_tower()
    adapter = perturb(make_adapter(name, tower, seeds=(1, 2)), (1, 2), std=0.1)
    x = make_tokens(2, 2)
    torch._dynamo.reset()
    explained = torch._dynamo.explain(lambda x: adapter.block(1, tower.blocks[1], x))(x)
    assert (explained.graph_count, explained.graph_break_count) == (1, 0), explained.break_reasons


@pytest.mark.slow
def test_a_break_is_noticed() -> None:
    def broken(x: Tensor) -> Tensor:
        x = nn.functional.relu(x)
        torch._dynamo.graph_break()
        return x + 1

    torch._dynamo.reset()
    assert torch._dynamo.explain(broken)(torch.ones(2)).graph_break_count == 1
