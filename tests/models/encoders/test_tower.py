"""The tower computes what open_clip's module computes, and never changes."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from fewshot_i2v.config.method import MethodSpec
from fewshot_i2v.errors import EncoderError
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.encoders.block import LayerNorm
from fewshot_i2v.models.encoders.deferred import DeferredTower, TowerSizes, values_beside_blocks
from fewshot_i2v.models.encoders.loading import load_encoder
from fewshot_i2v.models.encoders.opaque_tower import OpaqueTower
from fewshot_i2v.models.encoders.open_clip_conversion import tower_from_open_clip
from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.models.factory import build_head
from tests.tiny import tiny_tower

GOLDEN = Path(__file__).parents[2] / "golden" / "clip_t8.safetensors"
HALF = torch.full((3,), 0.5)
VARIANTS: dict[str, dict[str, Any]] = {
    "gelu": {},
    "quick-gelu": {"quick_gelu": True},
    "no-ln-pre": {"no_ln_pre": True},
    "layer-scale": {"ls_init_value": 0.1},
    "layer-scale-quick-gelu": {"ls_init_value": 0.1, "quick_gelu": True},
    "mean-pooled": {"pool_type": "avg", "final_ln_after_pool": True},
    "class-token-then-norm": {"final_ln_after_pool": True},
    "sin-cos": {"pos_embed_type": "sin_cos_2d"},
    "epsilon": {"norm_kwargs": {"eps": 1e-2}},
    "one-head": {"head_width": 32},
    "patch-dropout": {"patch_dropout": 0.5},
    "long": {"patch_size": 4},
    "two-outputs": {"output_tokens": True},
}
Visual = Callable[..., Any]
Random = Callable[..., Tensor]


def build(visual: Any) -> Tower:  # noqa: ANN401 - an open_clip module, which has no types
    return tower_from_open_clip(visual, mean=HALF, std=HALF)


def tensors(tower: Tower) -> dict[str, Tensor]:
    """Every tensor that a tower holds."""
    found: dict[str, Tensor] = {}
    parts: list[tuple[str, object]] = [("tower", tower)]
    parts += [(f"block {i}", block) for i, block in enumerate(tower.blocks)]
    for where, part in parts:
        for name, value in vars(part).items():
            if isinstance(value, Tensor):
                found[f"{where} {name}"] = value
            elif isinstance(value, LayerNorm):
                found[f"{where} {name} weight"], found[f"{where} {name} bias"] = (
                    value.weight,
                    value.bias,
                )
    return found


@pytest.mark.parametrize("variant", VARIANTS)
def test_features_equal_those_of_open_clip(
    variant: str, make_visual: Visual, random: Random
) -> None:
    visual = make_visual(**VARIANTS[variant])
    pixels = random((3, 3, 32, 32))
    tower = build(visual)
    assert not isinstance(tower, OpaqueTower)
    assert tower.projection is not None
    with torch.no_grad():
        expected = visual(pixels)
    expected = expected[0] if isinstance(expected, tuple) else expected
    torch.testing.assert_close(
        tower.encode(pixels) @ tower.projection, expected, atol=1e-5, rtol=1e-5
    )


def test_the_projected_readout_is_what_open_clip_gives(make_visual: Visual, random: Random) -> None:
    visual, pixels = make_visual(), random((2, 3, 4, 3, 32, 32))
    tower = build(visual)
    head = build_head(
        MethodSpec(name="prototype", options={"tokens": "projected"}),
        tower,
        way=2,
        frames=4,
        seeds=[0, 1],
    )
    frames = tower.encode(pixels.flatten(0, 2)).unflatten(0, (2, 3, 4))
    seen = head.select_tokens(Features(frames, frames.mean(-2))).frames
    with torch.no_grad():
        expected = visual(pixels.flatten(0, 2)).unflatten(0, (2, 3, 4))
    assert head.width == expected.shape[-1] != tower.width
    torch.testing.assert_close(seen, expected, rtol=1e-4, atol=1e-5)


def test_features_without_a_projection_equal_those_of_open_clip(
    make_visual: Visual, random: Random
) -> None:
    visual, pixels = make_visual(), random((2, 3, 32, 32))
    visual.proj = None
    tower = build(visual)
    assert tower.projection is None
    torch.testing.assert_close(tower.encode(pixels), visual(pixels).detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", ["quick-gelu", "layer-scale", "long"])
def test_tokens_after_each_block_equal_those_of_open_clip(
    variant: str, make_visual: Visual, random: Random
) -> None:
    visual, pixels = make_visual(**VARIANTS[variant]), random((2, 3, 32, 32))
    found = visual.forward_intermediates(pixels, output_fmt="NLC", output_extra_tokens=True)
    tower = build(visual)
    x = tower.ln_pre(tower.patch_embed(pixels))
    for i, block in enumerate(tower.blocks):
        x = block.forward(x)
        torch.testing.assert_close(x[:, 1:], found["image_intermediates"][i].detach())
        torch.testing.assert_close(x[:, :1], found["image_intermediates_prefix"][i].detach())


def golden_tower(golden: dict[str, Tensor], build_visual: Visual) -> Tower:
    visual = build_visual(quick_gelu=True, width=64, head_width=16, layers=3, mlp_ratio=4.0)
    weights = {name: golden[name] for name in visual.state_dict() if name in golden}
    assert set(visual.state_dict()) - set(weights) == {"proj"}
    visual.load_state_dict(weights, strict=False)
    return build(visual)


def test_tokens_equal_those_of_the_official_clip(make_visual: Visual) -> None:
    golden = load_file(GOLDEN)
    tower = golden_tower(golden, make_visual)
    x = tower.ln_pre(tower.patch_embed(golden["input"]))
    for i, block in enumerate(tower.blocks):
        x = block.forward(x)
        torch.testing.assert_close(x, golden[f"tokens.block.{i}"], atol=1e-4, rtol=0)
    frames = tower.ln_post(tower.pool_tokens(x))
    torch.testing.assert_close(frames, golden["frame_features"], atol=1e-5, rtol=0)
    torch.testing.assert_close(frames.mean(1), golden["feature"], atol=1e-5, rtol=0)


@pytest.mark.shared
def test_the_golden_file_is_the_one_of_the_shared_material(shared: Path) -> None:
    original = (shared / "golden" / GOLDEN.name).read_bytes()
    assert hashlib.sha256(GOLDEN.read_bytes()).digest() == hashlib.sha256(original).digest()


@pytest.mark.shared
def test_a_real_vision_transformer_equals_open_clip(shared: Path, random: Random) -> None:
    from fewshot_i2v.models.encoders import architectures

    stem = shared / "weights" / "vit_tiny_16_in1k"
    weights = stem.with_name(f"{stem.name}_visual.safetensors")
    encoder = load_encoder(
        "vit-ti", architecture=stem.with_suffix(".json"), pretrained=weights, mean=0.5, std=0.5
    )
    visual: Any = architectures.build_visual_tower(
        architectures.architecture_from_file(stem.with_suffix(".json")), in_memory=True
    )
    visual.load_state_dict(load_file(weights))
    pixels = encoder.tower.normalize((random((2, 224, 224, 3)) * 60 + 120).clamp(0, 255).byte())
    with torch.no_grad():
        expected = visual(pixels)
    assert encoder.tower.projection is not None
    found = encoder.tower.encode(pixels) @ encoder.tower.projection
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert (encoder.tower.layers, encoder.tower.width, encoder.tower.grid) == (12, 192, 14)


def test_leading_axes_change_nothing(make_visual: Visual, random: Random) -> None:
    tower, pixels = build(make_visual()), random((2, 1, 3, 3, 32, 32))
    found = tower.encode(pixels)
    assert found.shape == (2, 1, 3, 32)
    torch.testing.assert_close(found.flatten(0, 2), tower.encode(pixels.flatten(0, 2)))


@pytest.mark.parametrize("length", [5, 16, 17, 40])
def test_attention_of_short_and_long_sequences_equals_its_definition(
    length: int, make_visual: Visual, random: Random
) -> None:
    block = build(make_visual()).blocks[0]
    q, k, v = (random((2, 3, length, 4, 8), seed) for seed in range(3))
    weights = torch.einsum("...lhd,...mhd->...hlm", q, k).div(8**0.5).softmax(-1)
    mixed = torch.einsum("...hlm,...mhd->...lhd", weights, v).flatten(-2)
    expected = mixed @ block.out_weight.T + block.out_bias
    torch.testing.assert_close(block.attend_qkv(q, k, v), expected, atol=1e-5, rtol=1e-5)


def test_pixels_are_normalised_with_the_constants_of_the_weights(
    make_visual: Visual, random: Random
) -> None:
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.4, 0.5, 0.6])
    tower = tower_from_open_clip(make_visual(), mean=mean, std=std)
    frames = random((2, 4, 5, 3)).mul(60).add(120).clamp(0, 255).byte()
    expected = ((frames.double() / 255 - mean) / std).movedim(-1, -3).float()
    torch.testing.assert_close(tower.normalize(frames), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("size", [16, 40, 64])
def test_resized_positions_equal_those_of_open_clip(
    size: int, make_visual: Visual, random: Random
) -> None:
    from open_clip.model import resize_pos_embed

    visual = make_visual()
    state = {"visual.positional_embedding": visual.positional_embedding.detach().clone()}
    sides = (size // 8, size // 8)
    resize_pos_embed(state, SimpleNamespace(visual=SimpleNamespace(grid_size=sides)))
    tower = build(visual).resized(size)
    assert torch.equal(tower.positions, state["visual.positional_embedding"])
    assert (tower.image_size, tower.grid) == (size, size // 8)
    assert tower.encode(random((1, 3, size, size))).shape == (1, 32)


def test_sizes_that_do_not_fit_are_refused(make_visual: Visual, random: Random) -> None:
    tower = build(make_visual())
    assert tower.resized(32) is tower
    with pytest.raises(EncoderError, match=r"36 is not a multiple of the patch size 8.*: 32"):
        tower.resized(36)
    with pytest.raises(EncoderError, match="not a multiple"):
        tower.resized(0)
    with pytest.raises(EncoderError, match=r"\(32, 24\).*takes 32 x 32"):
        tower.patch_embed(random((1, 3, 32, 24)))


def test_bfloat16_stays_near_float32(make_visual: Visual, random: Random) -> None:
    tower, pixels = build(make_visual(quick_gelu=True)), random((4, 3, 32, 32))
    low = tower.to("cpu", torch.bfloat16)
    assert low.dtype is torch.bfloat16
    assert low.mean.dtype is low.std.dtype is torch.float32
    exact, rounded = tower.encode(pixels), low.encode(pixels.bfloat16()).float()
    assert (rounded - exact).norm() / exact.norm() < 3e-2


def test_nothing_in_the_tower_asks_for_gradients(make_visual: Visual, random: Random) -> None:
    tower = build(make_visual(ls_init_value=0.1))
    assert len(tensors(tower)) > 30
    assert not [name for name, tensor in tensors(tower).items() if tensor.requires_grad]
    pixels = random((1, 3, 32, 32)).requires_grad_()
    tower.encode(pixels).sum().backward()  # type: ignore[no-untyped-call]
    assert pixels.grad is not None


def test_the_module_is_not_touched_and_shares_no_memory(
    make_visual: Visual, random: Random
) -> None:
    visual, pixels = make_visual(quick_gelu=True, ls_init_value=0.1), random((1, 3, 32, 32))
    before = copy.deepcopy(visual.state_dict())
    tower = build(visual)
    features = tower.encode(pixels)
    assert all(torch.equal(before[name], value) for name, value in visual.state_dict().items())
    assert all(parameter.requires_grad for parameter in visual.parameters())
    with torch.no_grad():
        for parameter in visual.parameters():
            parameter.zero_()
    assert torch.equal(tower.encode(pixels), features)


def test_other_blocks_make_another_tower(make_visual: Visual, random: Random) -> None:
    tower, pixels = build(make_visual()), random((1, 3, 32, 32))
    block = tower.blocks[0]
    changed = tower.with_blocks([replace(block, fc_bias=block.fc_bias + 1), *tower.blocks[1:]])
    assert tower.blocks[0] is block
    assert not torch.allclose(changed.encode(pixels), tower.encode(pixels))
    assert {
        f.name for f in fields(tower) if getattr(changed, f.name) is getattr(tower, f.name)
    } == {f.name for f in fields(tower)} - {"blocks"}


def test_that_there_is_no_projection_is_known_without_the_weights() -> None:
    def refuse() -> Tower:
        raise AssertionError("nobody computes with it")

    plain = tiny_tower()
    placement: dict[str, Any] = {"device": plain.device, "dtype": plain.dtype}
    deferred = DeferredTower(TowerSizes.of(plain), values_beside_blocks(plain), refuse, **placement)
    assert plain.projection is None
    assert deferred.projection is None
    assert torch.equal(deferred.norm_post.weight, plain.norm_post.weight)
    with pytest.raises(AssertionError, match="nobody computes"):
        _ = deferred.blocks
