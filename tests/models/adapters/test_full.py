"""Full fine-tuning: the same as training the open_clip model itself, per episode."""

from __future__ import annotations

import pytest
import torch

from fewshot_i2v import registry
from fewshot_i2v.errors import AdapterError
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.frozen import Frozen
from tests.models.adapters.pretrained import (
    clip_features,
    frame_means,
    in_our_layout,
    loss_of,
    make_tower,
    make_visual,
    their_name,
)
from tests.models.tiny_adapters import (
    FRAMES,
    count,
    make_adapter,
    make_clips,
    perturb,
    tower_tensors,
    vit_b16,
    vit_l14,
)
from tests.tiny import tiny_tower

VARIANTS = pytest.mark.parametrize(
    "options",
    [
        pytest.param({"quick_gelu": True}, id="quick-gelu"),
        pytest.param({"quick_gelu": False}, id="gelu"),
        pytest.param({"quick_gelu": True, "no_ln_pre": True}, id="no-ln-pre"),
    ],
)


def test_it_is_shown_as_spatial_only() -> None:
    assert registry.load_method("adapters", "full").display_note == "spatial only"


def test_parameters_are_those_of_the_whole_tower() -> None:
    """On towers that have shapes and no values: nothing of full size is copied."""
    for tower, expected in ((vit_b16(), 85_799_424), (vit_l14(), 303_179_776)):
        adapter = make_adapter("full", tower.to("meta", torch.float32), seeds=(0, 1))
        assert count(adapter) == expected
        assert all(parameter.is_meta for parameter in adapter.parameters())
    pixel_constants = 6
    small = tiny_tower()
    held = sum(tensor.numel() for tensor in tower_tensors(small)) - pixel_constants
    assert count(make_adapter("full", small)) == held


@VARIANTS
def test_parameters_start_as_the_pretrained_ones_on_their_scale(options: dict[str, bool]) -> None:
    visual = make_visual(**options)
    theirs = dict(visual.named_parameters())
    adapter = make_adapter("full", make_tower(visual), seeds=(3, 4))
    ours = {their_name(name): parameter for name, parameter in adapter.named_parameters()}
    assert ours.keys() == theirs.keys()
    for name, parameter in ours.items():
        for row in parameter:
            torch.testing.assert_close(row, in_our_layout(name, theirs[name]), rtol=1e-6, atol=0)


@VARIANTS
def test_gradients_are_those_of_the_open_clip_model(options: dict[str, bool]) -> None:
    visual = make_visual(**options)
    tower = make_tower(visual)
    encoder = AdaptedEncoder(tower, make_adapter("full", tower, seeds=(0, 1)))
    pixels = make_clips(tower, 2)
    loss_of(frame_means(visual, pixels)).backward()
    loss_of(clip_features(encoder, pixels)).backward()
    theirs = dict(visual.named_parameters())
    for name, parameter in encoder.adapter.named_parameters():
        grad = theirs[their_name(name)].grad
        assert grad is not None
        assert parameter.grad is not None
        expected = in_our_layout(their_name(name), grad)
        for row in parameter.grad:
            assert (row - expected).norm() < 1e-4 * expected.norm(), name


def test_steps_of_adamw_are_those_of_ordinary_fine_tuning() -> None:
    """Weight decay and Adam depend on the scale of the parameters, not of the folded weights."""
    visual = make_visual(quick_gelu=True)
    tower = make_tower(visual)
    encoder = AdaptedEncoder(tower, make_adapter("full", tower))
    pixels = make_clips(tower, 2)
    for model in (visual, encoder.adapter):
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1.0)
        for _ in range(3):
            optimizer.zero_grad()
            ours = model is encoder.adapter
            clips = clip_features(encoder, pixels) if ours else frame_means(visual, pixels)
            loss_of(clips).backward()
            optimizer.step()
    expected = frame_means(visual, pixels)
    start = tower.encode(pixels).mean(1)
    assert (start - expected).abs().max() > 0.1
    torch.testing.assert_close(clip_features(encoder, pixels)[0], expected, rtol=0, atol=1e-3)


@VARIANTS
def test_merged_it_is_a_tower_with_the_trained_weights(options: dict[str, bool]) -> None:
    visual = make_visual(**options)
    tower = make_tower(visual)
    adapter = perturb(make_adapter("full", tower, seeds=(1, 2)), (1, 2), std=0.1)
    pixels = make_clips(tower, 2)
    expected = clip_features(AdaptedEncoder(tower, adapter), pixels)
    merged, rest = adapter.merge(tower, 1)
    assert isinstance(rest, Frozen)
    torch.testing.assert_close(merged.encode(pixels).mean(1), expected[1], rtol=1e-4, atol=1e-5)
    before = [tensor.clone() for tensor in tower_tensors(merged)]
    perturb(adapter, (3, 4))
    for tensor, old in zip(tower_tensors(merged), before, strict=True):
        assert torch.equal(tensor, old)


def test_nothing_is_kept_of_a_clip_but_its_pixels() -> None:
    tower = tiny_tower()
    encoder = AdaptedEncoder(tower, make_adapter("full", tower))
    pixels = make_clips(tower, 2)
    assert encoder.adapter.one_episode_at_a_time
    assert encoder.compute_prefix(pixels) is pixels
    assert encoder.adapter.prefix_spec().clip_shape(tower, FRAMES) == pixels.shape[1:]


def test_every_episode_has_a_stem_of_its_own() -> None:
    tower = tiny_tower()
    adapter = make_adapter("full", tower, seeds=(0, 1))
    perturb(adapter, (5, 6))
    pixels = make_clips(tower, 1, 2).expand(2, -1, -1, -1, -1, -1)
    together = adapter.patch_embed(tower, pixels)
    for episode in range(2):
        merged, _ = adapter.merge(tower, episode)
        torch.testing.assert_close(together[episode], merged.patch_embed(pixels[episode]))
    assert (together[0] - together[1]).abs().max() > 0.1


def test_pixels_beyond_the_last_whole_patch_are_not_seen() -> None:
    """As in the convolution of the tower: 30 pixels hold three patches of 8."""
    tower = tiny_tower(size=30)
    adapter = make_adapter("full", tower, seeds=(0, 1))
    pixels = make_clips(tower, 2, 2)
    assert pixels.shape[-1] == 30
    tokens = adapter.patch_embed(tower, pixels)
    assert tokens.shape[-2] == 3 * 3 + 1
    torch.testing.assert_close(tokens, tower.patch_embed(pixels), rtol=1e-5, atol=1e-5)


def test_frames_of_another_size_are_refused() -> None:
    tower = tiny_tower()
    adapter = make_adapter("full", tower)
    with pytest.raises(AdapterError, match=r"frames of \(24, 32\) pixels.*32 x 32"):
        adapter.patch_embed(tower, make_clips(tower, 1, 2)[..., :24, :])


def test_an_episode_that_is_not_there() -> None:
    tower = tiny_tower()
    adapter = make_adapter("full", tower, seeds=(0, 1))
    with pytest.raises(AdapterError, match="episode 2: this adapter holds 0 to 1"):
        adapter.merge(tower, 2)
