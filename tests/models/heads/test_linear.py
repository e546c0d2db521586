"""The linear head against a plain layer, and its options."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.heads.linear import LinearHead, LinearOptions

WIDTH, WAY, FRAMES = 24, 5, 4


def clips(episodes: int = 2, number: int = 6, seed: int = 0) -> Features:
    drawn = torch.randn(
        episodes, number, FRAMES, WIDTH, generator=torch.Generator().manual_seed(seed)
    )
    # not the mean of the frames, so that the two cannot be confused
    return Features(drawn, drawn[..., 0, :] + 1)


def head(options: LinearOptions | None = None, seeds: tuple[int, ...] = (3, 4)) -> LinearHead:
    chosen = options or LinearOptions()
    return LinearHead(chosen, width=WIDTH, way=WAY, frames=FRAMES, seeds=seeds)


def scores(given: LinearHead, features: Features) -> Tensor:
    labels = torch.arange(6).remainder(WAY).expand(2, -1)
    out = given(features, features, labels)
    assert torch.equal(out, given.compute_support_logits(features, labels))
    return out  # type: ignore[no-any-return]


@pytest.mark.parametrize("pooling", ["clip", "ordered"])
def test_each_episode_has_its_own_layer(pooling: str) -> None:
    built, features = head(LinearOptions.model_validate({"pooling": pooling})), clips()
    torch.nn.init.normal_(built.bias, generator=torch.Generator().manual_seed(1))
    out = scores(built, features)
    for e in range(2):
        x = features.clip[e] if pooling == "clip" else features.frames[e].reshape(6, -1)
        expected = torch.nn.functional.linear(x, built.weight[e].T, built.bias[e])
        torch.testing.assert_close(out[e], expected, atol=1e-6, rtol=1e-5)


def test_weights_start_small_and_random_and_biases_at_zero() -> None:
    built = LinearHead(LinearOptions(), width=4000, way=WAY, frames=1, seeds=(0, 1))
    for weight in built.weight:
        assert weight.std().item() == pytest.approx(0.01, rel=0.03)
        assert abs(weight.mean().item()) < 5e-4
    assert not built.bias.any()
    assert not torch.equal(built.weight[0], built.weight[1])


@pytest.mark.parametrize(("pooling", "inputs"), [("clip", WIDTH), ("ordered", WIDTH * FRAMES)])
def test_number_of_parameters_per_episode(pooling: str, inputs: int) -> None:
    built = head(LinearOptions.model_validate({"pooling": pooling}), seeds=(1,))
    assert sum(p.numel() for p in built.parameters()) == (inputs + 1) * WAY


def test_normalize_makes_scale_irrelevant_and_channels_of_unit_size() -> None:
    built, features = head(LinearOptions(normalize=True)), clips()
    larger = Features(37 * features.frames, 37 * features.clip)
    torch.testing.assert_close(scores(built, features), scores(built, larger))
    x = features.clip[0] / features.clip[0].norm(dim=-1, keepdim=True) * math.sqrt(WIDTH)
    torch.testing.assert_close(scores(built, features)[0], x @ built.weight[0])
    assert x.square().mean().item() == pytest.approx(1, abs=1e-5)


def test_only_ordered_pooling_sees_the_order_of_frames() -> None:
    features = clips()
    back = Features(features.frames.flip(-2), features.clip)
    ordered, plain = head(LinearOptions(pooling="ordered")), head()
    assert not torch.allclose(scores(ordered, features), scores(ordered, back))
    assert torch.equal(scores(plain, features), scores(plain, back))


def test_bad_options_name_the_allowed_values() -> None:
    with pytest.raises(ValidationError, match="'clip' or 'ordered'"):
        LinearOptions.model_validate({"pooling": "mean"})
