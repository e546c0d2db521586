"""AdaptFormer: what sets it apart, beyond the contract and the golden outputs."""

from __future__ import annotations

from typing import Any

import pydantic
import pytest
import torch
from torch.nn import functional

from fewshot_i2v import registry
from fewshot_i2v.errors import AdapterError
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.features import Features
from tests.models.tiny_adapters import (
    make_adapter,
    make_clips,
    make_tokens,
    perturb,
    size,
    vit_b16,
    vit_l14,
)
from tests.tiny import tiny_tower

LAYERNORM = pytest.mark.parametrize("layernorm", ["none", "in"])


def _encoder(*, moved: bool = True, **options: object) -> AdaptedEncoder:
    tower = tiny_tower()
    adapter = make_adapter("adaptformer", tower, seeds=(1, 2), hidden=6, **options)
    return AdaptedEncoder(tower, perturb(adapter, (1, 2)) if moved else adapter)


@pytest.mark.parametrize(
    ("hidden", "expected"),
    [
        (1, 27_660),
        (4, 82_992),
        (16, 304_320),
        (32, 599_424),
        (64, 1_189_632),
        (128, 2_370_048),
        (256, 4_730_880),
    ],
)
def test_parameters_of_vit_b16(hidden: int, expected: int) -> None:
    assert size("adaptformer", vit_b16(), hidden=hidden) == expected
    normed = size("adaptformer", vit_b16(), hidden=hidden, layernorm="in")
    assert normed == expected + 12 * 2 * 768


def test_published_defaults() -> None:
    adapters = registry.load_method("adapters", "adaptformer")
    assert adapters.parse({"preset": "released-64"}) == adapters.Options()
    assert size("adaptformer", vit_b16()) == 1_189_632
    assert size("adaptformer", vit_l14()) == 3_171_840
    assert adapters.display_note == "spatial only"


@LAYERNORM
def test_a_block_is_its_equation(layernorm: str) -> None:
    encoder = _encoder(layernorm=layernorm, scale=0.3)
    frozen, x = encoder.tower.blocks[1], make_tokens(2, 2)
    weights = dict(encoder.adapter.named_parameters())
    got = encoder.adapter.block(1, frozen, x)
    for episode in range(2):
        own = {name: parameter[episode] for name, parameter in weights.items()}
        middle = x[episode] + frozen.self_attention(frozen.ln_1(x[episode]))
        u = middle
        if layernorm == "in":
            norm = own["norm.1.weight"], own["norm.1.bias"]
            u = functional.layer_norm(middle, (32,), *norm, eps=1e-5)
        hidden = u @ own["parallel.1.down.weight"] + own["parallel.1.down.bias"]
        hidden = hidden.clamp(min=0)
        branch = 0.3 * (hidden @ own["parallel.1.up.weight"] + own["parallel.1.up.bias"])
        expected = middle + frozen.mlp(frozen.ln_2(middle)) + branch
        torch.testing.assert_close(got[episode], expected, rtol=1e-5, atol=1e-5)


@LAYERNORM
def test_untrained_it_is_the_frozen_encoder_bit_for_bit(layernorm: str) -> None:
    encoder, x = _encoder(moved=False, layernorm=layernorm), make_tokens(2, 2)
    for i, block in enumerate(encoder.tower.blocks):
        assert torch.equal(encoder.adapter.block(i, block, x), block.forward(x))


def test_the_norm_at_its_input_starts_fresh() -> None:
    adapter = _encoder(moved=False, layernorm="in").adapter
    assert (adapter.get_parameter("norm.0.weight") == 1).all()
    assert not adapter.get_parameter("norm.0.bias").any()


def test_initial_values_of_the_bottleneck() -> None:
    adapter = _encoder(moved=False).adapter
    down = adapter.get_parameter("parallel.0.down.weight")
    assert 0.9 * 32**-0.5 < down.abs().max() <= 32**-0.5
    for name in ("up.weight", "up.bias", "down.bias"):
        assert not adapter.get_parameter(f"parallel.0.{name}").any()


@LAYERNORM
def test_a_site_works_on_each_token_alone(layernorm: str) -> None:
    encoder, x = _encoder(layernorm=layernorm), make_tokens(2, 2)
    order = torch.randperm(17, generator=torch.Generator().manual_seed(0))
    straight = encoder.adapter.block(0, encoder.tower.blocks[0], x)
    turned = encoder.adapter.block(0, encoder.tower.blocks[0], x[..., order, :])
    torch.testing.assert_close(turned, straight[..., order, :], rtol=1e-5, atol=1e-5)


@LAYERNORM
def test_the_order_of_frames_never_matters_after_training_either(layernorm: str) -> None:
    encoder = _encoder(layernorm=layernorm, scale=1.0)
    pixels, shuffled = make_clips(encoder.tower, 2, 2), [3, 0, 4, 1, 2]
    optimizer = torch.optim.SGD(encoder.adapter.parameters(), lr=0.1)
    there = _features(encoder, pixels)
    there.clip.square().mean().backward()
    optimizer.step()
    there, back = _features(encoder, pixels), _features(encoder, pixels[:, :, shuffled])
    torch.testing.assert_close(back.clip, there.clip, rtol=0, atol=1e-5)
    torch.testing.assert_close(back.frames, there.frames[:, :, shuffled], rtol=0, atol=1e-5)


def _features(encoder: AdaptedEncoder, pixels: torch.Tensor) -> Features:
    features: Features = encoder(encoder.compute_prefix(pixels))
    return features


@pytest.mark.parametrize(
    "options", [{"hidden": 0}, {"scale": 0.0}, {"layernorm": "out"}], ids=lambda o: next(iter(o))
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError, match=next(iter(options))):
        registry.load_method("adapters", "adaptformer").parse(options)


def test_a_bottleneck_far_beyond_the_width_is_refused() -> None:
    with pytest.raises(AdapterError, match=r"hidden=513.*16 times the tower's 32"):
        make_adapter("adaptformer", tiny_tower(), hidden=513)
