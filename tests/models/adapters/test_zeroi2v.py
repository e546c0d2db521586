"""ZeroI2V: what sets it apart, beyond the contract and the golden outputs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fewshot_i2v import registry
from fewshot_i2v.errors import AdapterError, UnknownNameError
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.zeroi2v import ZeroI2V, default_offsets, shift_heads
from tests.counted import counting
from tests.models.tiny_adapters import (
    FRAMES,
    count,
    make_adapter,
    make_clips,
    perturb,
    size,
    tokens_after_blocks,
    tower_tensors,
    vit_b16,
    vit_l14,
)
from tests.tiny import tiny_tower

_BETWEEN = 4 * 12 * (2 * 768 * 192 + 192 + 768)
_BETWEEN_L = 4 * 24 * (2 * 1024 * 256 + 256 + 1024)


def _encoder(*, moved: bool = True, frames: int = FRAMES, **options: object) -> AdaptedEncoder:
    tower = tiny_tower()
    adapter = make_adapter("zeroi2v", tower, frames=frames, seeds=(1, 2), **options)
    if moved:
        perturb(adapter, (1, 2), std=0.1)
    return AdaptedEncoder(tower, adapter)


def _clip(encoder: AdaptedEncoder, pixels: Tensor) -> Tensor:
    tokens = encoder.compute_prefix(pixels)
    clip: Tensor = encoder(tokens.expand(encoder.adapter.episodes, *tokens.shape)).clip
    return clip


def test_parameters_of_vit_b16_before_and_after_merging() -> None:
    d, h = 768, 192
    for out_adapter, sites in ((True, 4), (False, 3)):
        adapter = make_adapter("zeroi2v", vit_b16(), frames=8, out_adapter=out_adapter)
        assert count(adapter) == sites * 12 * (2 * d * h + h + d) + 8 * d + 2 * d
    assert count(make_adapter("zeroi2v", vit_b16(), frames=8)) == 14_209_536
    rest = ZeroI2V(vit_b16(), ZeroI2V.Options(), frames=8, seeds=[0], merged=True)
    assert count(rest) == 7_680


@pytest.mark.parametrize(
    ("preset", "offsets", "scale", "parameters"),
    [
        ("b16-k400-8", (-1, 1), 0.5, 14_209_536),
        ("b16-hmdb51-ucf101-8", (-1, 1), 0.5, 14_209_536),
        ("b16-ssv2-16", (-1, 1, -2, 2), 1.0, 14_215_680),
        ("b16-hmdb51-ucf101-32", (-1, 1, -2, 2), 0.5, _BETWEEN + 34 * 768),
        ("l14-k400-8", (-1, -1, 1, 1), 0.5, 50_464_768),
        ("l14-k400-32", (-1, -1, 1, 1, -2, -2), 0.5, _BETWEEN_L + 34 * 1024),
        ("l14-ssv2-32", (-1, -1, 1, 1, -2, 2, -3), 1.0, _BETWEEN_L + 34 * 1024),
    ],
)
def test_presets(preset: str, offsets: tuple[int, ...], scale: float, parameters: int) -> None:
    tower = vit_b16() if preset.startswith("b16") else vit_l14()
    found = registry.load_method("adapters", "zeroi2v")
    frames = int(preset.rpartition("-")[2])
    options = found.parse({"preset": preset})
    assert options.offsets == offsets + (0,) * (tower.heads - len(offsets))
    assert (options.scale, options.ratio, options.out_adapter) == (scale, 0.25, True)
    assert size("zeroi2v", tower, frames=frames, preset=preset) == parameters
    assert "https://github.com/MCG-NJU/ZeroI2V" in found.presets[preset].source
    assert preset in found.__doc__
    with torch.device("meta"):
        rest = ZeroI2V(tower, options, frames=frames, seeds=[0], merged=True)
    assert count(rest) == (frames + 2) * tower.width
    assert rest.temporal_radius == max(map(abs, offsets))


def test_every_preset_is_tested_and_others_are_refused() -> None:
    found = registry.load_method("adapters", "zeroi2v")
    assert len(found.presets) == 7
    with pytest.raises(UnknownNameError, match=r"'b16-ssv2-8'; did you mean 'b16-ssv2-16'.*known:"):
        found.parse({"preset": "b16-ssv2-8"})


def test_given_options_go_before_those_of_a_preset() -> None:
    found = registry.load_method("adapters", "zeroi2v")
    options = found.parse({"preset": "b16-ssv2-16", "offsets": [0, 1, 0, -1], "ratio": 0.5})
    assert (options.offsets, options.scale, options.ratio) == ((0, 1, 0, -1), 1.0, 0.5)
    assert (
        make_adapter("zeroi2v", tiny_tower(), preset="b16-k400-8", offsets=None).temporal_radius
        == 1
    )


@pytest.mark.parametrize("preset", ["b16-k400-8", "l14-ssv2-32"])
def test_a_preset_for_another_number_of_heads_is_refused(preset: str) -> None:
    heads = 12 if preset.startswith("b16") else 16
    match = rf"got {heads} values; this encoder has 4 heads .*Presets b16-... have 12.*l14-... 16"
    with pytest.raises(AdapterError, match=match):
        make_adapter("zeroi2v", tiny_tower(), frames=8, preset=preset)


@pytest.mark.parametrize(
    ("preset", "frames", "match"),
    [
        ("b16-k400-8", 1, "-1 lies outside every clip of one frame;"),
        ("b16-ssv2-16", 2, "-2 lies outside every clip of 2 frames;"),
        ("l14-ssv2-32", 3, "-3 lies outside every clip of 3 frames;"),
    ],
)
def test_a_preset_for_longer_clips_is_refused(preset: str, frames: int, match: str) -> None:
    tower = vit_b16() if preset.startswith("b16") else vit_l14()
    with pytest.raises(AdapterError, match=match):
        size("zeroi2v", tower, frames=frames, preset=preset)
    assert size("zeroi2v", tower, frames=frames + 1, preset=preset) > 0


def test_with_one_frame_the_default_heads_have_nowhere_to_look() -> None:
    encoder = _encoder(moved=False, frames=1)
    pixels = make_clips(encoder.tower, 2, frames=1)
    expected = encoder.tower.encode(pixels)[:, 0]
    torch.testing.assert_close(_clip(encoder, pixels)[0], expected, rtol=0, atol=2e-6)
    assert encoder.adapter.temporal_radius == 0


def test_offsets_beyond_the_clip_are_refused() -> None:
    with pytest.raises(AdapterError, match="outside every clip of 4 frames"):
        make_adapter("zeroi2v", tiny_tower(), frames=4, offsets=[-4, 1, 0, 0])


@pytest.mark.parametrize(
    ("heads", "expected"),
    [(12, [-1, 1]), (16, [-1, -1, 1, 1]), (4, [-1, 1]), (3, [-1, 1]), (2, [-1, 1])],
)
def test_published_offsets(heads: int, expected: list[int]) -> None:
    offsets = list(default_offsets(heads))
    assert offsets == expected + [0] * (heads - len(expected))


def test_one_head_is_not_enough() -> None:
    with pytest.raises(AdapterError, match="1 attention head"):
        make_adapter("zeroi2v", tiny_tower(heads=1))


def test_offsets_of_another_number_of_heads_are_refused() -> None:
    with pytest.raises(AdapterError, match=r"got 3 values.*4 heads"):
        make_adapter("zeroi2v", tiny_tower(), offsets=[-1, 1, 0])


@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("offsets", [(-1, 1, 0, 0), (-1, 1, -2, 2), (3, 3, -4, 9), (0, 0, 0, 1)])
def test_shift_against_a_head_by_head_gather(offsets: tuple[int, ...], frames: int) -> None:
    x = torch.arange(2 * 3 * frames * 4 * 4 * 2).reshape(2, 3, frames, 4, 4, 2)
    expected = x.clone()
    for head, offset in enumerate(offsets):
        for t in range(frames):
            source = t + offset if 0 <= t + offset < frames else t
            expected[:, :, t, :, head] = x[:, :, source, :, head]
    assert torch.equal(shift_heads(x, offsets), expected)


def test_without_offsets_it_starts_as_the_frozen_encoder() -> None:
    encoder = _encoder(moved=False, offsets=[0, 0, 0, 0])
    pixels = make_clips(encoder.tower, 2)
    expected = encoder.tower.encode(pixels).mean(1)
    torch.testing.assert_close(_clip(encoder, pixels)[1], expected, rtol=0, atol=2e-6)
    shifting = _encoder(moved=False)
    assert (_clip(shifting, pixels)[1] - expected).abs().max() > 1e-2


def test_frames_reach_the_largest_offset_per_block() -> None:
    encoder = _encoder(frames=15)
    pixels = make_clips(encoder.tower, 2, 1, frames=15)
    other = pixels.clone()
    other[:, :, 7] += 1
    walks = tokens_after_blocks(encoder, pixels), tokens_after_blocks(encoder, other)
    for reach, (before, after) in enumerate(zip(*walks, strict=True), start=1):
        moved = (before - after).abs().amax((0, 1, 3, 4)).nonzero().flatten().tolist()
        assert moved == list(range(7 - reach, 8 + reach))


@pytest.mark.parametrize("scale", [0.5, 1.0])
@pytest.mark.parametrize("out_adapter", [True, False])
def test_merged_it_computes_the_same(scale: float, out_adapter: bool) -> None:
    encoder = _encoder(scale=scale, out_adapter=out_adapter, offsets=[-1, 1, -2, 2])
    before = [tensor.clone() for tensor in tower_tensors(encoder.tower)]
    pixels = make_clips(encoder.tower, 2)
    expected = _clip(encoder, pixels)
    for episode in range(2):
        tower, rest = encoder.adapter.merge(encoder.tower, episode)
        assert isinstance(rest, ZeroI2V)
        assert count(rest) == FRAMES * 32 + 2 * 32
        merged = AdaptedEncoder(tower, rest)
        torch.testing.assert_close(
            _clip(merged, pixels)[0], expected[episode], rtol=1e-4, atol=1e-5
        )
        assert (_clip(merged, pixels)[0] - expected[1 - episode]).abs().max() > 1e-2
    for tensor, old in zip(tower_tensors(encoder.tower), before, strict=True):
        assert torch.equal(tensor, old)


def test_merged_weights_need_the_same_heads() -> None:
    encoder = _encoder()
    pixels = make_clips(encoder.tower, 2)
    tower, rest = encoder.adapter.merge(encoder.tower, 0)
    options = ZeroI2V.Options(offsets=(0, 0, -1, 1))
    other = ZeroI2V(tower, options, frames=FRAMES, seeds=[0], merged=True)
    other.load_state_dict(rest.state_dict())
    wrong = _clip(AdaptedEncoder(tower, other), pixels)[0]
    assert (wrong - _clip(encoder, pixels)[0]).abs().max() > 1e-2


def test_merging_an_episode_that_is_not_there() -> None:
    encoder = _encoder()
    with pytest.raises(AdapterError, match="episode 2: this adapter holds 0 to 1"):
        encoder.adapter.merge(encoder.tower, 2)


def test_merging_twice_changes_nothing() -> None:
    encoder = _encoder()
    tower, rest = encoder.adapter.merge(encoder.tower, 0)
    again, _ = rest.merge(tower)
    for once, twice in zip(tower_tensors(tower), tower_tensors(again), strict=True):
        assert torch.equal(once, twice)


def test_other_numbers_of_frames_are_refused() -> None:
    encoder = _encoder()
    with pytest.raises(AdapterError, match=r"clips of 4 frames.*built for 5"):
        _clip(encoder, make_clips(encoder.tower, 2, frames=4))


_OFFSETS = [(-1, 1, 0, 0), (0, 2, 2, -3), (1, 0, -4, 9), (-2, -2, 1, 3)]


def _joined_slices(x: Tensor, offsets: tuple[int, ...]) -> Tensor:
    """The shift written with joined slices, as autograd differentiates it."""
    frames = x.shape[2]
    heads = []
    for head, offset in enumerate(offsets):
        times = [t + offset if 0 <= t + offset < frames else t for t in range(frames)]
        heads.append(torch.stack([x[:, :, t, :, head] for t in times], 2))
    return torch.stack(heads, 4)


@pytest.mark.parametrize("offsets", _OFFSETS, ids=str)
def test_gradients_of_the_shift(offsets: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(1, 2, 4, 2, 4, 2, generator=generator).double() for _ in range(2))
    x.requires_grad_()
    expected = _joined_slices(x, offsets)
    assert torch.equal(shift_heads(x, offsets), expected)
    ours, theirs = (
        torch.autograd.grad((y * weight).sum(), x)[0] for y in (shift_heads(x, offsets), expected)
    )
    torch.testing.assert_close(ours, theirs)
    assert torch.autograd.gradcheck(lambda x: shift_heads(x, offsets), x)
    assert torch.autograd.gradgradcheck(lambda x: shift_heads(x, offsets), x)


def test_gradients_of_the_shift_under_vmap() -> None:
    """Meta-training differentiates copies of a learner so."""
    x = torch.randn(3, 1, 2, 4, 2, 4, 2, generator=torch.Generator().manual_seed(0))

    def gradient(shift: Callable[..., Tensor]) -> Callable[[Tensor], Tensor]:
        gradients: Callable[[Tensor], Tensor] = torch.func.grad(
            lambda x: shift(x, (-1, 1, 0, 2)).pow(3).sum()
        )
        return gradients

    expected = torch.stack([gradient(_joined_slices)(row) for row in x])
    torch.testing.assert_close(torch.func.vmap(gradient(shift_heads))(x), expected)


def test_the_shift_writes_few_gradients() -> None:
    """One copy each way; two small operations for each group of heads that moves."""
    x = torch.empty(1, 2, 4, 2, 4, 2, device="meta", requires_grad=True)
    with counting() as count:
        y = shift_heads(x, (-1, 1, 0, 0))
        torch.autograd.backward(y, torch.empty_like(y))
    assert count.by_operation == {"clone": 2, "copy_": 2, "zero_": 2, "add_": 2}
