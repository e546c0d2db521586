"""LoRA: the published update of the pretrained weights, per episode."""

from __future__ import annotations

from typing import Any

import pydantic
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from fewshot_i2v import registry
from fewshot_i2v.errors import AdapterError
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.adapter import Adapter
from fewshot_i2v.models.adapters.frozen import Frozen
from fewshot_i2v.models.adapters.lora import LoRA, _BlockUpdates
from tests.counted import counting
from tests.models.adapters.pretrained import (
    LAYERS,
    WIDTH,
    clip_features,
    loss_of,
    make_tower,
    make_visual,
)
from tests.models.tiny_adapters import (
    make_adapter,
    make_clips,
    make_tokens,
    perturb,
    size,
    tower_tensors,
    vit_b16,
    vit_l14,
)
from tests.tiny import tiny_tower

ALL = ("q", "k", "v", "o", "fc", "proj")
CASES = [
    pytest.param({"quick_gelu": True}, {"rank": 3, "alpha": 6.0}, id="quick-gelu"),
    pytest.param({"quick_gelu": False}, {"rank": 3}, id="gelu"),
    pytest.param({"quick_gelu": True}, {"rank": 2, "targets": ["v", "proj", "q"]}, id="some"),
    pytest.param({"quick_gelu": True}, {"rank": 4, "alpha": 1.0, "targets": ["fc"]}, id="one"),
]
_THEIRS = {
    "o": "attn.out_proj.weight",
    "fc": "mlp.c_fc.weight",
    "proj": "mlp.c_proj.weight",
}


def _weights(visual: nn.Module, factors: dict[str, Tensor], options: dict[str, Any]) -> Any:  # noqa: ANN401
    """The model's weights with W + alpha / r (A B) in place of W, by its own names."""
    scale = options.get("alpha", options["rank"]) / options["rank"]
    weights: dict[str, Tensor] = {n: p.detach() for n, p in visual.named_parameters()}
    for block in range(LAYERS):
        start = f"transformer.resblocks.{block}."
        packed = []
        for target in ALL:
            where = f"maps.{block}.low_rank.{target}."
            update = 0 * weights[f"{start}attn.out_proj.weight"]
            if f"{where}down" in factors:
                update = scale * (factors[f"{where}down"] @ factors[f"{where}up"]).T
            if target in _THEIRS and f"{where}down" in factors:
                name = start + _THEIRS[target]
                weights[name] = weights[name] + update
            elif target not in _THEIRS:
                packed.append(update)
        weights[f"{start}attn.in_proj_weight"] = weights[f"{start}attn.in_proj_weight"] + torch.cat(
            packed
        )
    return weights


def _reference(
    visual: nn.Module, adapter: Adapter, options: dict[str, Any], pixels: Tensor, episode: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Clip features of the open_clip model with the updates of an episode, and A and B."""
    factors = {
        name: parameter.detach()[episode].clone().requires_grad_()
        for name, parameter in adapter.named_parameters()
    }
    weights = _weights(visual, factors, options)
    frames: Tensor = functional_call(visual, weights, (pixels.flatten(0, 1),))
    return frames.reshape(*pixels.shape[:2], -1).mean(1), factors


def test_it_is_shown_as_spatial_only() -> None:
    assert registry.load_method("adapters", "lora").display_note == "spatial only"


def test_parameters() -> None:
    assert size("lora", vit_b16()) == 12 * 8 * 18 * 768 == 1_327_104
    assert size("lora", vit_l14(), rank=4) == 24 * 4 * 18 * 1024
    assert size("lora", vit_b16(), preset="released-qv") == 12 * 8 * 4 * 768
    assert size("lora", vit_b16(), targets=("fc",), rank=1) == 12 * 5 * 768


@pytest.mark.parametrize(("model", "options"), CASES)
def test_features_and_gradients_are_those_of_updated_pretrained_weights(
    model: dict[str, bool], options: dict[str, Any]
) -> None:
    visual = make_visual(**model)
    tower = make_tower(visual)
    adapter = perturb(make_adapter("lora", tower, seeds=(1, 2), **options), (1, 2))
    pixels = make_clips(tower, 2)
    got = clip_features(AdaptedEncoder(tower, adapter), pixels)
    loss_of(got).backward()
    for episode in range(2):
        expected, factors = _reference(visual, adapter, options, pixels, episode)
        torch.testing.assert_close(got[episode], expected, rtol=1e-4, atol=1e-5)
        loss_of(expected).backward()
        for name, parameter in adapter.named_parameters():
            grad = factors[name].grad
            assert grad is not None
            assert parameter.grad is not None
            assert (parameter.grad[episode] - grad).norm() < 1e-4 * grad.norm(), name


def test_queries_keys_and_values_share_one_product_of_the_input() -> None:
    tower = make_tower(make_visual(quick_gelu=True))
    adapter = perturb(make_adapter("lora", tower, seeds=(1, 2)), (1, 2))
    assert isinstance(adapter, LoRA)
    maps, frozen = adapter.maps[0], tower.blocks[0]
    assert isinstance(maps, _BlockUpdates)
    width = tower.width
    u = torch.randn(2, 3, 4, 5, width, generator=torch.Generator().manual_seed(0))
    expected = [
        maps._add_update(target, y.flatten(-2), u).reshape(y.shape)
        for target, y in zip(("q", "k", "v"), frozen.qkv(u), strict=True)
    ]
    for ours, theirs in zip(maps.qkv(frozen, u), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    on_meta = frozen.to(torch.device("meta"), torch.float32)
    with counting() as count:
        maps.to("meta").qkv(on_meta, u.to("meta"))
    assert (count.by_operation["bmm"], count.by_operation["baddbmm"]) == (1, 3)


@pytest.mark.parametrize(("model", "options"), CASES)
def test_merged_it_is_a_tower_with_updated_weights(
    model: dict[str, bool], options: dict[str, Any]
) -> None:
    visual = make_visual(**model)
    tower = make_tower(visual)
    before = [tensor.clone() for tensor in tower_tensors(tower)]
    adapter = perturb(make_adapter("lora", tower, seeds=(1, 2), **options), (1, 2))
    pixels = make_clips(tower, 2)
    merged, rest = adapter.merge(tower, 1)
    assert isinstance(rest, Frozen)
    expected, _ = _reference(visual, adapter, options, pixels, 1)
    torch.testing.assert_close(merged.encode(pixels).mean(1), expected, rtol=1e-4, atol=1e-5)
    for tensor, old in zip(tower_tensors(tower), before, strict=True):
        assert torch.equal(tensor, old)


def test_merging_rounds_once() -> None:
    tower = make_tower(make_visual(quick_gelu=True))
    adapter = perturb(make_adapter("lora", tower, alpha=3.0), (1,))
    merged, _ = adapter.merge(tower)
    for target, name, factor in (("fc", "fc_weight", 1.702), ("proj", "proj_weight", 1 / 1.702)):
        down, up = (
            adapter.get_parameter(f"maps.1.low_rank.{target}.{part}").detach()[0].double()
            for part in ("down", "up")
        )
        exact = getattr(tower.blocks[1], name).double() + 3 / 8 * factor * (down @ up).T
        assert torch.equal(getattr(merged.blocks[1], name), exact.float())


def test_untrained_blocks_are_frozen_blocks_bit_for_bit() -> None:
    tower, x = tiny_tower(), make_tokens(2, 2)
    adapter = make_adapter("lora", tower, seeds=(1, 2))
    for i, block in enumerate(tower.blocks):
        assert torch.equal(adapter.block(i, block, x), block.forward(x))


def test_initial_values() -> None:
    adapter = make_adapter("lora", tiny_tower(), seeds=(1, 2))
    for name, parameter in adapter.named_parameters():
        if name.endswith("up"):
            assert not parameter.any()
        else:
            inputs = 4 * WIDTH if "proj" in name else WIDTH
            assert parameter.shape == (2, inputs, 8)
            assert 0.9 * inputs**-0.5 < parameter.abs().max() <= inputs**-0.5


@pytest.mark.parametrize(
    ("options", "scale"), [({}, 1.0), ({"rank": 4}, 1.0), ({"rank": 4, "alpha": 2.0}, 0.5)]
)
def test_scale_is_alpha_over_rank(options: dict[str, Any], scale: float) -> None:
    assert registry.load_method("adapters", "lora").parse(options).scale == scale


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank"),
        ({"alpha": 0.0}, "alpha"),
        ({"targets": []}, "targets"),
        ({"targets": ["q", "q"]}, "each target once"),
        ({"targets": ["qkv"]}, "targets"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=message):
        registry.load_method("adapters", "lora").parse(options)


def test_a_rank_above_the_width_is_refused() -> None:
    with pytest.raises(AdapterError, match=r"rank=33.*width 32"):
        make_adapter("lora", tiny_tower(), rank=33)
