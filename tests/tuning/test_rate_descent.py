"""Plain gradient descent with a rate for every value."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fewshot_i2v.config.base import FinetuneConfig
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.heads.linear import LinearHead, LinearOptions
from fewshot_i2v.tuning.finetune import EpisodeInputs, finetune
from fewshot_i2v.tuning.optimizers import RateDescent
from tests.models.made_starts import made_rates
from tests.models.tiny_adapters import make_adapter
from tests.tiny import tiny_tower

RECIPE = FinetuneConfig(steps=3, optimizer="start-rates", clip_norm=1e-3, warmup=0.5)


def test_a_step_is_the_rate_times_the_gradient() -> None:
    parameters = [nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(2, 1))]
    rates = [torch.tensor([[0.1, -0.2, 0.0]]), torch.ones(1, 1)]
    (parameters[0] * torch.tensor([[1.0], [2.0]])).sum().backward()  # type: ignore[no-untyped-call]
    RateDescent(parameters, rates).step()
    expected = torch.tensor([[0.9, 1.2, 1.0], [0.8, 1.4, 1.0]])
    torch.testing.assert_close(parameters[0].data, expected)
    assert torch.equal(parameters[1].data, torch.ones(2, 1)), "no gradient, no step"


def _tuned(episodes: list[int], recipe: FinetuneConfig = RECIPE) -> dict[str, torch.Tensor]:
    tower = tiny_tower(layers=2)
    adapter = make_adapter("st-adapter", tower, frames=4, seeds=episodes)
    encoder = AdaptedEncoder(tower, adapter)
    head = LinearHead(LinearOptions(), width=tower.width, way=2, frames=4, seeds=episodes)
    pixels = torch.stack(
        [torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(e)) for e in episodes]
    )
    tokens = encoder.compute_prefix(pixels)
    labels = torch.arange(2).expand(len(episodes), -1)
    named = made_rates(adapter, head, 0.05)
    inputs = EpisodeInputs(lambda _step: tokens, labels, tokens)
    finetune(encoder, head, inputs, recipe, list(named.values()))
    states = {"adapter": adapter.state_dict(), "head": head.state_dict()}
    return {f"{kind}.{n}": t for kind, state in states.items() for n, t in state.items()}


def test_episodes_together_equal_each_alone() -> None:
    together = _tuned([1, 2, 3])
    for e in range(3):
        for name, alone in _tuned([e + 1]).items():
            torch.testing.assert_close(together[name][e, None], alone, atol=1e-6, rtol=1e-4)


def test_nothing_else_of_the_recipe_changes_a_step() -> None:
    """As in the inner loop: no schedule, no clipping, no decay, and no other rate."""
    other = FinetuneConfig(
        steps=3,
        optimizer="start-rates",
        lr=0.5,
        head_lr=0.5,
        weight_decay=0.5,
        schedule="constant",
        clip_norm=None,
        warmup=0.0,
    )
    one, two = _tuned([1]), _tuned([1], other)
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("optimizer", ["adamw", "start-rates"])
def test_optimizer_and_rates_belong_together(optimizer: str) -> None:
    tower = tiny_tower(layers=2)
    encoder = AdaptedEncoder(tower, make_adapter("st-adapter", tower, frames=4))
    head = LinearHead(LinearOptions(), width=tower.width, way=2, frames=4, seeds=[0])
    tokens = encoder.compute_prefix(torch.zeros(1, 2, 4, 3, 32, 32))
    inputs = EpisodeInputs(lambda _step: tokens, torch.tensor([[0, 1]]), tokens)
    recipe = FinetuneConfig.model_validate({"optimizer": optimizer})
    rates = [torch.ones(1)] if optimizer == "adamw" else None
    with pytest.raises(ValueError, match=f"optimizer {optimizer} with"):
        finetune(encoder, head, inputs, recipe, rates)
