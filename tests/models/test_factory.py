"""Every parameter of an adapter or a head has one copy per episode."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fewshot_i2v import registry
from fewshot_i2v.errors import AdapterError, HeadError
from fewshot_i2v.models.adapters.base.adapter import Adapter
from fewshot_i2v.models.factory import check_episode_axis
from tests.models.tiny_adapters import make_adapter
from tests.tiny import tiny_tower


def _adapter() -> Adapter:
    return make_adapter("lora", tiny_tower(), frames=2, seeds=(1, 2))


def test_what_is_right_passes() -> None:
    check_episode_axis(_adapter(), "lora")


def test_a_parameter_without_the_episode_axis_is_named_with_its_shape() -> None:
    adapter = _adapter()
    adapter.scale = nn.Parameter(torch.ones(32, 3))
    said = r"adapter 'mine': the parameter scale has the shape \(32, 3\); .*E = 2: give it one copy"
    with pytest.raises(AdapterError, match=said):
        check_episode_axis(adapter, "mine")


def test_a_single_number_has_no_episode_axis() -> None:
    adapter = _adapter()
    adapter.scale = nn.Parameter(torch.tensor(1.0))
    with pytest.raises(AdapterError, match=r"scale has the shape \(\)"):
        check_episode_axis(adapter, "mine")


def test_a_buffer_that_is_saved_is_named_too() -> None:
    adapter = _adapter()
    adapter.register_buffer("mask", torch.ones(3), persistent=False)
    check_episode_axis(adapter, "mine")
    adapter.register_buffer("table", torch.ones(3))
    with pytest.raises(AdapterError, match=r"the buffer table .* or register it persistent=False"):
        check_episode_axis(adapter, "mine")


def test_heads_are_named_as_heads() -> None:
    cls = registry.load_method("heads", "linear")
    head = cls(cls.Options(), width=4, way=3, frames=2, seeds=[1, 2])
    check_episode_axis(head, "linear")
    head.bias = nn.Parameter(torch.zeros(3))
    with pytest.raises(HeadError, match=r"head 'linear': the parameter bias has the shape \(3,\)"):
        check_episode_axis(head, "linear")


def test_a_constructor_that_was_not_called_is_said() -> None:
    class Bare(Adapter):
        def __init__(self) -> None:
            nn.Module.__init__(self)

        def block(self, i: int, frozen: object, x: torch.Tensor) -> torch.Tensor:
            return x

    with pytest.raises(AdapterError, match=r"its __init__ does not call that of Adapter"):
        check_episode_axis(Bare(), "bare")
