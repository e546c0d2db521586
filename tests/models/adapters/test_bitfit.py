"""BitFit: the same as training the biases of the open_clip model itself, per episode."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fewshot_i2v import registry
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.frozen import Frozen
from fewshot_i2v.models.encoders.tower import Tower
from tests.counted import SCRIPT
from tests.models.adapters.pretrained import (
    clip_features,
    frame_means,
    loss_of,
    make_tower,
    make_visual,
)
from tests.models.tiny_adapters import (
    count,
    make_adapter,
    make_clips,
    perturb,
    size,
    vit_b16,
    vit_l14,
)
from tests.tiny import tiny_tower

QUICK = pytest.mark.parametrize("quick_gelu", [True, False])
_ENDS = {"norm_pre.value": "ln_pre.bias", "norm_post.value": "ln_post.bias"}
_PARTS = {
    "norm_1": "ln_1.bias",
    "qkv_bias": "attn.in_proj_bias",
    "out_bias": "attn.out_proj.bias",
    "norm_2": "ln_2.bias",
    "fc_bias": "mlp.c_fc.bias",
    "proj_bias": "mlp.c_proj.bias",
}


def _their_name(ours: str) -> str:
    if ours in _ENDS:
        return _ENDS[ours]
    _, block, part, _ = ours.split(".")
    return f"transformer.resblocks.{block}.{_PARTS[part]}"


def _biases(visual: nn.Module) -> dict[str, nn.Parameter]:
    return {n: p for n, p in visual.named_parameters() if n.endswith("bias")}


def test_it_is_shown_as_spatial_only() -> None:
    assert registry.load_method("adapters", "bitfit").display_note == "spatial only"


def test_parameters() -> None:
    assert size("bitfit", vit_b16()) == 12 * 11 * 768 + 2 * 768 == 102_912
    assert size("bitfit", vit_l14()) == 24 * 11 * 1024 + 2 * 1024
    without = make_tower(make_visual(quick_gelu=True, no_ln_pre=True))
    assert count(make_adapter("bitfit", without)) == 3 * 11 * 32 + 32


@QUICK
def test_every_bias_of_the_pretrained_model_starts_on_its_own_scale(quick_gelu: bool) -> None:
    visual = make_visual(quick_gelu=quick_gelu)
    adapter = make_adapter("bitfit", make_tower(visual), seeds=(0, 1))
    ours = {_their_name(name): parameter for name, parameter in adapter.named_parameters()}
    theirs = _biases(visual)
    assert ours.keys() == theirs.keys()
    for name, parameter in ours.items():
        for row in parameter:
            torch.testing.assert_close(row, theirs[name].detach(), rtol=1e-6, atol=0)


@QUICK
def test_gradients_are_those_of_the_open_clip_model(quick_gelu: bool) -> None:
    visual = make_visual(quick_gelu=quick_gelu)
    tower = make_tower(visual)
    encoder = AdaptedEncoder(tower, make_adapter("bitfit", tower, seeds=(0, 1)))
    pixels = make_clips(tower, 2)
    loss_of(frame_means(visual, pixels)).backward()
    loss_of(clip_features(encoder, pixels)).backward()
    theirs = _biases(visual)
    for name, parameter in encoder.adapter.named_parameters():
        expected = theirs[_their_name(name)].grad
        assert expected is not None
        assert parameter.grad is not None
        for row in parameter.grad:
            assert (row - expected).norm() < 1e-4 * expected.norm(), name


@QUICK
def test_trained_biases_stand_where_the_pretrained_ones_stood(quick_gelu: bool) -> None:
    """In the blocks, and in the tower that merging gives."""
    visual = make_visual(quick_gelu=quick_gelu)
    tower = make_tower(visual)
    adapter = perturb(make_adapter("bitfit", tower, seeds=(1, 2)), (1, 2))
    pixels = make_clips(tower, 2)
    got = clip_features(AdaptedEncoder(tower, adapter), pixels)
    for episode in range(2):
        expected = _with_biases(visual, adapter, episode, pixels)
        torch.testing.assert_close(got[episode], expected, rtol=1e-4, atol=1e-5)
        merged, rest = adapter.merge(tower, episode)
        assert isinstance(rest, Frozen)
        torch.testing.assert_close(merged.encode(pixels).mean(1), expected, rtol=1e-4, atol=1e-5)
        _only_biases_differ(merged, tower)
    assert (got[0] - got[1]).abs().max() > 0.1


def _with_biases(visual: nn.Module, adapter: nn.Module, episode: int, pixels: Tensor) -> Tensor:
    theirs = _biases(visual)
    with torch.no_grad():
        for name, parameter in adapter.named_parameters():
            theirs[_their_name(name)].copy_(parameter[episode])
        return frame_means(visual, pixels)


def _only_biases_differ(merged: Tower, tower: Tower) -> None:
    assert torch.equal(merged.patch_weight, tower.patch_weight)
    assert torch.equal(merged.positions, tower.positions)
    assert torch.equal(merged.norm_post.weight, tower.norm_post.weight)
    for ours, frozen in zip(merged.blocks, tower.blocks, strict=True):
        for part in ("qkv", "out", "fc", "proj"):
            assert torch.equal(getattr(ours, f"{part}_weight"), getattr(frozen, f"{part}_weight"))
            assert not torch.equal(getattr(ours, f"{part}_bias"), getattr(frozen, f"{part}_bias"))
        assert torch.equal(ours.norm_1.weight, frozen.norm_1.weight)
        assert not torch.equal(ours.norm_1.bias, frozen.norm_1.bias)


def test_the_bias_of_the_keys_has_no_effect() -> None:
    """It adds one number to all scores of a query; it is counted all the same."""
    tower = make_tower(make_visual(quick_gelu=True))
    adapter = make_adapter("bitfit", tower)
    pixels = make_clips(tower, 2)
    encoder = AdaptedEncoder(tower, adapter)
    before = clip_features(encoder, pixels)
    bias = adapter.get_parameter("maps.0.qkv_bias.value")
    with torch.no_grad():
        bias[:, 32:64] += 1
    torch.testing.assert_close(clip_features(encoder, pixels), before, rtol=0, atol=1e-5)
    with torch.no_grad():
        bias[:, :32] += 1
    assert (clip_features(encoder, pixels) - before).abs().max() > 1e-2


def test_the_biases_of_one_episode_are_added_inside_of_the_maps() -> None:
    tower = tiny_tower()
    alone = perturb(make_adapter("bitfit", tower, seeds=(1,)), (1,))
    several = perturb(make_adapter("bitfit", tower, seeds=(2, 1)), (2, 1))
    pixels = make_clips(tower, 2)
    ours, theirs = (
        clip_features(AdaptedEncoder(tower, adapter), pixels) for adapter in (alone, several)
    )
    torch.testing.assert_close(ours[0], theirs[1], rtol=1e-4, atol=1e-5)
    adds = []
    for episodes in (1, 2):
        step = SCRIPT["count_step"](tower, "bitfit", episodes=episodes)
        adds.append(step.by_operation["add"])
    # six in each of three blocks, and the two outer norms
    assert adds[1] - adds[0] == 6 * 3 + 2
