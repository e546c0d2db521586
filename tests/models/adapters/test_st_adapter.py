"""ST-Adapter: what sets it apart, beyond the contract and the golden outputs."""

from __future__ import annotations

import pydantic
import pytest
import torch

from fewshot_i2v import registry
from fewshot_i2v.errors import UnknownNameError
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.st_adapter import STAdapter
from tests.models.tiny_adapters import (
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


def _adapter(*, moved: bool = True, sites: str = "both", frames: int = 9) -> STAdapter:
    adapter = make_adapter("st-adapter", tiny_tower(), frames=frames, seeds=(1,), sites=sites)
    assert isinstance(adapter, STAdapter)
    if moved:
        perturb(adapter, (1,))
    return adapter


@pytest.mark.parametrize(
    ("sites", "expected"), [("pre_mlp", 7_110_144), ("both", 14_220_288)], ids=str
)
def test_parameters_of_vit_b16(sites: str, expected: int) -> None:
    adapter = make_adapter("st-adapter", vit_b16(), frames=8, sites=sites)
    assert count(adapter) == expected
    d, c, s = 768, 384, 12 if sites == "pre_mlp" else 24
    assert expected == s * (2 * d * c + 5 * c + d)


@pytest.mark.parametrize(
    ("preset", "sites", "b16", "l14"),
    [
        ("12x384", "pre_mlp", 7_110_144, 18_945_024),
        ("24x384", "both", 14_220_288, 2 * 18_945_024),
        ("l14-24x384", "pre_mlp", 7_110_144, 18_945_024),
    ],
)
def test_presets(preset: str, sites: str, b16: int, l14: int) -> None:
    found = registry.load_method("adapters", "st-adapter")
    options = found.parse({"preset": preset})
    assert (options.width, options.sites) == (384, sites)
    assert size("st-adapter", vit_b16(), preset=preset) == b16
    assert size("st-adapter", vit_l14(), preset=preset) == l14
    assert "https://github.com/linziyi96/st-adapter" in found.presets[preset].source
    assert f'"{preset}"' in found.__doc__


def test_every_preset_is_tested_and_others_are_refused() -> None:
    found = registry.load_method("adapters", "st-adapter")
    assert list(found.presets) == ["12x384", "24x384", "l14-24x384"]
    with pytest.raises(UnknownNameError, match="preset of st-adapter '12x348'; did you mean"):
        found.parse({"preset": "12x348"})


def test_given_options_go_before_those_of_a_preset() -> None:
    options = registry.load_method("adapters", "st-adapter").parse(
        {"preset": "24x384", "width": 64}
    )
    assert (options.width, options.sites) == (64, "both")


@pytest.mark.parametrize(("given", "expected"), [(None, 16), (5, 5)])
def test_width(given: int | None, expected: int) -> None:
    adapter = make_adapter("st-adapter", tiny_tower(), width=given)
    assert adapter.get_parameter("pre_mlp.0.down.weight").shape == (1, 32, expected)
    with pytest.raises(pydantic.ValidationError, match="greater than or equal to 1"):
        registry.load_method("adapters", "st-adapter").Options(width=0)


def test_untrained_its_blocks_are_the_frozen_ones_bit_for_bit() -> None:
    tower, x = tiny_tower(), make_tokens(1, 2, frames=9)
    adapter = _adapter(moved=False)
    for i, block in enumerate(tower.blocks):
        assert torch.equal(adapter.block(i, block, x), block.forward(x))


def test_class_token_passes_a_site_bit_for_bit() -> None:
    site, x = _adapter().pre_mlp[0], make_tokens(1, 2, frames=9)
    changed = site(x) - x
    assert torch.equal(site(x)[..., 0, :], x[..., 0, :])
    assert (changed[..., 1:, :].abs().amax(-1) > 0).all()


def test_a_site_is_affine_in_its_input() -> None:
    site = _adapter().pre_mlp[0]
    x, y = make_tokens(1, 2, seed=1), make_tokens(1, 2, seed=2)
    mixed = site(0.25 * x + 0.75 * y)
    torch.testing.assert_close(mixed, 0.25 * site(x) + 0.75 * site(y), rtol=1e-4, atol=1e-4)


def test_a_delta_kernel_sees_its_own_frame_only() -> None:
    site, x = _adapter().pre_mlp[0], make_tokens(1, 2, frames=9)
    with torch.no_grad():
        site.get_parameter("conv.weight").copy_(torch.tensor([0.0, 1.0, 0.0]).expand(1, 16, 3))
        site.get_parameter("conv.bias").zero_()
    expected = x + site.get_submodule("up")(site.get_submodule("down")(x))
    torch.testing.assert_close(site(x)[..., 1:, :], expected[..., 1:, :])


@pytest.mark.parametrize(("sites", "per_block"), [("pre_mlp", 1), ("both", 2)])
def test_frames_reach_one_neighbour_per_site(sites: str, per_block: int) -> None:
    tower = tiny_tower()
    encoder = AdaptedEncoder(tower, _adapter(sites=sites, frames=17))
    pixels = make_clips(tower, 1, 1, frames=17)
    other = pixels.clone()
    other[:, :, 8] += 1
    walks = tokens_after_blocks(encoder, pixels), tokens_after_blocks(encoder, other)
    for block, (before, after) in enumerate(zip(*walks, strict=True), start=1):
        moved = (before - after).abs().amax((0, 1, 3, 4)).nonzero().flatten().tolist()
        reach = block * per_block
        assert moved == list(range(8 - reach, 9 + reach))


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_any_number_of_frames_is_right(frames: int) -> None:
    """Built for 9 frames it computes what the same parameters built for that number do."""
    tower, used, built = tiny_tower(), _adapter(), _adapter(moved=False, frames=frames)
    built.load_state_dict(used.state_dict())
    pixels = make_clips(tower, 1, 2, frames=frames)
    got, expected = (
        encoder(encoder.compute_prefix(pixels))
        for encoder in (AdaptedEncoder(tower, used), AdaptedEncoder(tower, built))
    )
    assert torch.equal(got.frames, expected.frames)
    assert torch.equal(got.clip, expected.clip)


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_convolution_against_frame_by_frame_sums(frames: int) -> None:
    """Frames outside the clip are zeros in the bottleneck, not copies of the first and last."""
    site, x = _adapter().pre_attn[0], make_tokens(1, 2, frames=frames)
    z, weight = site.get_submodule("down")(x), site.get_parameter("conv.weight")[0]
    mixed = site.get_parameter("conv.bias")[0].expand_as(z).clone()
    for t in range(frames):
        for tap, source in enumerate((t - 1, t, t + 1)):
            if 0 <= source < frames:
                mixed[:, :, t] += z[:, :, source] * weight[:, tap]
    expected = x + site.get_submodule("up")(mixed)
    torch.testing.assert_close(site(x)[..., 1:, :], expected[..., 1:, :], rtol=1e-4, atol=1e-4)


def test_the_last_adapter_before_an_mlp_changes_patch_tokens_only() -> None:
    """It is counted among the parameters and has no gradient from the class token."""
    tower = tiny_tower()
    encoder = AdaptedEncoder(tower, _adapter(sites="pre_mlp"))
    features = encoder(encoder.compute_prefix(make_clips(tower, 1, 2, frames=9)))
    (features.clip.square().sum() + features.frames.square().sum()).backward()
    for path, parameter in encoder.adapter.named_parameters():
        has_gradient = parameter.grad is not None and bool(parameter.grad.any())
        assert has_gradient == (not path.startswith("pre_mlp.2.")), path


def test_the_clip_is_averaged_before_the_last_norm() -> None:
    tower, summary = tiny_tower(), make_tokens(1, 2, frames=9)[..., 0, :]
    frames, clip = _adapter().pool_frames(tower, summary)
    assert torch.equal(frames, tower.ln_post(summary))
    assert torch.equal(clip, tower.ln_post(summary.mean(2)))
    assert (clip - frames.mean(2)).abs().max() > 1e-2


def test_gradients_of_the_first_step() -> None:
    """Only the convolution and the last bias; the others start one step later."""
    tower = tiny_tower()
    encoder = AdaptedEncoder(tower, _adapter(moved=False))
    encoder(
        encoder.compute_prefix(make_clips(tower, 1, 2, frames=9))
    ).clip.square().sum().backward()
    started = {
        path.split(".", 2)[2]
        for path, parameter in encoder.adapter.named_parameters()
        if parameter.grad is not None and parameter.grad.any()
    }
    assert started == {"conv.weight", "conv.bias", "up.bias"}
