"""AIM: what sets it apart, beyond the contract and the golden outputs."""

from __future__ import annotations

import pydantic
import pytest
import torch
from torch import Tensor

from fewshot_i2v import registry
from fewshot_i2v.errors import AdapterError, UnknownNameError
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.features import Features
from tests.models.tiny_adapters import (
    FRAMES,
    count,
    make_adapter,
    make_clips,
    make_tokens,
    perturb,
    size,
    tokens_after_blocks,
    vit_b16,
    vit_l14,
)
from tests.tiny import tiny_tower

SECOND = pytest.mark.parametrize("temporal_adapters", [1, 2])


def _encoder(temporal_adapters: int, *, moved: bool = True) -> AdaptedEncoder:
    tower = tiny_tower()
    adapter = make_adapter("aim", tower, temporal_adapters=temporal_adapters)
    if moved:
        perturb(adapter, (1,))
    return AdaptedEncoder(tower, adapter)


def _features(encoder: AdaptedEncoder, pixels: Tensor) -> Features:
    features: Features = encoder(encoder.compute_prefix(pixels))
    return features


@pytest.mark.parametrize(("temporal_adapters", "expected"), [(1, 10_659_072), (2, 14_209_536)])
def test_parameters_of_vit_b16(temporal_adapters: int, expected: int) -> None:
    adapter = make_adapter("aim", vit_b16(), frames=8, temporal_adapters=temporal_adapters)
    assert count(adapter) == expected
    d, h, k = 768, 192, temporal_adapters + 2
    assert expected == k * 12 * (2 * d * h + h + d) + 8 * d + 2 * d


@pytest.mark.parametrize(
    ("preset", "b16", "l14"),
    [
        ("k400", 10_659_072, 37_851_136),
        ("diving48", 10_659_072, 37_851_136),
        ("ssv2", 14_209_536, 50_464_768),
    ],
)
def test_presets_have_the_published_size(preset: str, b16: int, l14: int) -> None:
    assert size("aim", vit_b16(), preset=preset) == b16
    assert size("aim", vit_l14(), preset=preset) == l14


def test_presets_are_the_published_choices() -> None:
    found = registry.load_method("adapters", "aim")
    chosen = {}
    for name, preset in found.presets.items():
        options = found.parse({"preset": name})
        chosen[name] = (options.temporal_adapters, options.scale, options.ratio)
        assert "https://github.com/taoyang1122/adapt-image-models" in preset.source
        assert f'"{name}"' in found.__doc__
    assert chosen == {"k400": (1, 0.5, 0.25), "diving48": (1, 0.5, 0.25), "ssv2": (2, 1.0, 0.25)}
    assert "vitclip_large_sthv2.py" in found.presets["ssv2"].source


def test_given_options_go_before_those_of_a_preset() -> None:
    options = registry.load_method("adapters", "aim").parse(
        {"preset": "ssv2", "temporal_adapters": 1}
    )
    assert (options.temporal_adapters, options.scale) == (1, 1.0)


def test_unknown_presets_are_refused() -> None:
    match = r"preset of aim 'ssv1'; did you mean 'ssv2'\?; known: diving48, k400, ssv2"
    with pytest.raises(UnknownNameError, match=match):
        make_adapter("aim", tiny_tower(), preset="ssv1")


@SECOND
def test_untrained_blocks_are_frozen_blocks_bit_for_bit(temporal_adapters: int) -> None:
    encoder = _encoder(temporal_adapters, moved=False)
    x = make_tokens(1, 2)
    for i, block in enumerate(encoder.tower.blocks):
        assert torch.equal(encoder.adapter.block(i, block, x), block.forward(x))


@SECOND
def test_order_of_frames_enters_through_the_temporal_embedding_alone(
    temporal_adapters: int,
) -> None:
    encoder = _encoder(temporal_adapters)
    pixels, order = make_clips(encoder.tower, 1, 2), [3, 0, 4, 1, 2]
    assert (_features(encoder, pixels).clip - _features(encoder, pixels[:, :, order]).clip).any()
    encoder.adapter.get_parameter("temporal_embedding.table").data.zero_()
    straight, shuffled = _features(encoder, pixels), _features(encoder, pixels[:, :, order])
    torch.testing.assert_close(shuffled.frames, straight.frames[:, :, order], rtol=0, atol=1e-4)
    torch.testing.assert_close(shuffled.clip, straight.clip, rtol=0, atol=1e-4)


@SECOND
def test_frames_of_a_static_clip_are_alike_without_temporal_embedding(
    temporal_adapters: int,
) -> None:
    encoder = _encoder(temporal_adapters)
    encoder.adapter.get_parameter("temporal_embedding.table").data.zero_()
    still = make_clips(encoder.tower, 1, 2)[:, :, :1].expand(-1, -1, FRAMES, -1, -1, -1)
    frames = _features(encoder, still).frames
    torch.testing.assert_close(frames, frames[:, :, :1].expand_as(frames), rtol=0, atol=1e-5)


def test_every_token_attends_over_frames() -> None:
    encoder = _encoder(1)
    x = make_tokens(1, 1)
    other = x.clone()
    other[:, :, 2] = x[:, :, 2].flip(-1)
    block = encoder.tower.blocks[0]
    moved = encoder.adapter.block(0, block, x) - encoder.adapter.block(0, block, other)
    assert (moved.abs().amax(-1) > 1e-6).all()


def test_patch_tokens_go_through_the_trained_norm_too() -> None:
    encoder = _encoder(1)
    pixels = make_clips(encoder.tower, 1, 2)
    *_, last = tokens_after_blocks(encoder, pixels)
    grid = encoder(encoder.compute_prefix(pixels, grid_sizes=(4,)), grid_sizes=(4,)).grids[4]
    torch.testing.assert_close(grid, encoder.adapter.final_norm(encoder.tower, last[..., 1:, :]))
    assert (grid - encoder.tower.ln_post(last[..., 1:, :])).abs().max() > 1e-2


@SECOND
def test_other_numbers_of_frames_are_refused(temporal_adapters: int) -> None:
    encoder = _encoder(temporal_adapters)
    with pytest.raises(AdapterError, match=r"clips of 7 frames.*built for 5"):
        _features(encoder, make_clips(encoder.tower, 1, 2, frames=7))


@SECOND
def test_one_frame_attends_to_itself(temporal_adapters: int) -> None:
    """The attention over a single frame is its values, through the output projection."""
    adapter = make_adapter("aim", tiny_tower(), frames=1, temporal_adapters=temporal_adapters)
    perturb(adapter, (1,))
    encoder = AdaptedEncoder(tiny_tower(), adapter)
    block, x = encoder.tower.blocks[0], make_tokens(1, 2, frames=1)
    u = adapter.get_submodule("temporal_in.0")(block.ln_1(x))
    values = torch.nn.functional.linear(u, block.qkv_weight[-32:], block.qkv_bias[-32:])
    own = torch.nn.functional.linear(values, block.out_weight, block.out_bias)
    x1 = x + adapter.get_submodule("temporal_out.0")(own)
    x2 = x1 + adapter.get_submodule("spatial.0")(block.self_attention(block.ln_1(x1)))
    u = block.ln_2(x2)
    expected = x2 + block.mlp(u) + adapter.get_submodule("joint.0")(u)
    torch.testing.assert_close(adapter.block(0, block, x), expected, rtol=1e-4, atol=1e-4)
    features = _features(encoder, make_clips(encoder.tower, 1, 2, frames=1))
    assert torch.equal(features.clip, features.frames[:, :, 0])
    assert adapter.temporal_radius == 0


def test_scale_is_that_of_the_adapter_beside_the_mlp() -> None:
    tower, x = tiny_tower(), make_tokens(1, 1)
    outputs = [
        perturb(make_adapter("aim", tower, scale=scale), (1,)).block(0, tower.blocks[0], x)
        for scale in (0.5, 1.0, 1.5)
    ]
    torch.testing.assert_close(outputs[2] - outputs[1], outputs[1] - outputs[0])
    assert (outputs[1] - outputs[0]).abs().max() > 1e-2


def test_gradients_start_at_the_outer_layers() -> None:
    """Zero-initialised layers let the gradient through only once they have moved."""
    encoder = _encoder(2, moved=False)
    pixels = make_clips(encoder.tower, 1, 2)
    optimizer = torch.optim.SGD(encoder.adapter.parameters(), lr=1.0)
    outer = {f"{site}.up" for site in ("temporal_out", "spatial", "joint")}
    inner = {f"{site}.down" for site in ("temporal_out", "spatial", "joint")}
    norm = {"temporal_embedding", "ln_post"}
    expected = [outer | norm, outer | inner | norm | {"temporal_in.up"}]
    expected.append(expected[-1] | {"temporal_in.down"})
    for names in expected:
        optimizer.zero_grad()
        _features(encoder, pixels).clip.square().sum().backward()
        started = set()
        for path, parameter in encoder.adapter.named_parameters():
            parts = path.split(".")
            site = parts[0] if len(parts) == 2 else f"{parts[0]}.{parts[2]}"
            if parameter.grad is not None and parameter.grad.any():
                started.add(site)
        assert started == names
        optimizer.step()


@pytest.mark.parametrize(
    "options", [{"temporal_adapters": 3}, {"scale": 0.0}, {"ratio": 1.5}, {"ratio": 0.0}]
)
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(pydantic.ValidationError, match=next(iter(options))):
        registry.load_method("adapters", "aim").Options(**options)
