"""Augmentation of training clips: what may change, what never does, and which draws decide it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from fewshot_i2v.config.training import AugmentConfig
from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.tuning.augmentation import TrainingAugmenter

CLIPS, FRAMES, SIZE = 6, 4, 16
MEAN, STD = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.25, 0.2, 0.3])
OFF: dict[str, Any] = {"flip": "off", "crop_scale": None, "colour": 0.0, "temporal": False}


def _augmenter(classes: tuple[str, ...] = ("a", "b"), **changes: Any) -> TrainingAugmenter:
    # the clips of these tests are normalised already
    tower = SimpleNamespace(mean=MEAN, std=STD, normalize=lambda pixels: pixels)
    return TrainingAugmenter(AugmentConfig(**(OFF | changes)), classes, cast("Tower", tower))


def _draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _pixels(frames: int = FRAMES, *, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Normalised clips of values in [low, high]."""
    raw = torch.rand(CLIPS, frames, 3, SIZE, SIZE, generator=_draws(9))
    return (low + (high - low) * raw - MEAN[:, None, None]) / STD[:, None, None]


def _raw(pixels: Tensor) -> Tensor:
    return pixels * STD[:, None, None] + MEAN[:, None, None]


def _numbered() -> Tensor:
    """Clips whose frames hold their own number."""
    number = torch.arange(3.0 * FRAMES)[:, None, None, None]
    return number.expand(CLIPS, 3 * FRAMES, 3, SIZE, SIZE)


def test_what_is_off_leaves_every_bit() -> None:
    augment = _augmenter()
    assert augment.frames_per_segment == 1
    pixels = _pixels()
    assert torch.equal(augment(pixels, _draws()), pixels)


def test_one_frame_of_each_segment_in_order_and_drawn_for_each_clip() -> None:
    augment = _augmenter(temporal=True)
    assert augment.frames_per_segment == 3
    numbers = torch.cat([augment(_numbered(), _draws(s))[:, :, 0, 0, 0] for s in range(20)])
    assert torch.equal(numbers // 3, torch.arange(FRAMES).expand(20 * CLIPS, FRAMES).float())
    counts = torch.stack([(numbers % 3 == place).sum(0) for place in range(3)])
    assert (counts > 20).all()  # of 120, a third expected; every place in every segment
    assert len(numbers.unique(dim=0)) > 50


def test_flips_half_of_the_clips_unless_a_class_says_a_side() -> None:
    pixels = _pixels().repeat(10, 1, 1, 1, 1)
    for flip, classes, least, most in (
        ("on", ("left", "b"), 15, 45),
        ("auto", ("a", "b"), 15, 45),
        ("auto", ("a", "moves-left"), 0, 0),
    ):
        out = _augmenter(classes, flip=flip)(pixels, _draws())
        mirrored = (out - pixels.flip(-1)).abs().amax((1, 2, 3, 4)) < 1e-4
        same = (out - pixels).abs().amax((1, 2, 3, 4)) < 1e-4
        assert (mirrored | same).all()
        assert least <= int(mirrored.sum()) <= most


def test_all_frames_of_a_clip_get_the_same_change() -> None:
    still = _pixels(1).expand(CLIPS, FRAMES, 3, SIZE, SIZE)
    out = _augmenter(flip="on", crop_scale=(0.3, 0.8), colour=0.5)(still, _draws())
    torch.testing.assert_close(out, out[:, :1].expand_as(out))
    assert (out - still).abs().amax((1, 2, 3, 4)).min() > 0.05
    assert len({round(float(value), 4) for value in out.mean((1, 2, 3, 4))}) == CLIPS


def test_colours_follow_their_definition() -> None:
    # far from black and white, so that nothing is cut off
    pixels, seed = _pixels(low=0.4, high=0.6), 4
    out = _raw(_augmenter(colour=0.2)(pixels, _draws(seed)))
    generator = _draws(seed)
    torch.rand(CLIPS, FRAMES, generator=generator)
    torch.rand(CLIPS, 4, generator=generator)
    factors = 0.8 + 0.4 * torch.rand(3, CLIPS, generator=generator)
    grey_of = torch.tensor([0.299, 0.587, 0.114])
    for clip in range(CLIPS):
        brightness, contrast, saturation = factors[:, clip]
        x = _raw(pixels)[clip] * brightness
        level = torch.einsum("tchw,c->thw", x, grey_of).mean()
        x = level + contrast * (x - level)
        grey = torch.einsum("tchw,c->thw", x, grey_of)[:, None]
        torch.testing.assert_close(out[clip], grey + saturation * (x - grey), atol=1e-5, rtol=1e-4)
    assert factors.min() < 0.9
    assert factors.max() > 1.1


def test_colours_stay_between_black_and_white() -> None:
    out = _raw(_augmenter(colour=1.0)(_pixels(), _draws()))
    assert out.min() > -1e-5
    assert out.max() < 1 + 1e-5


def test_grey_clips_stay_grey() -> None:
    grey = torch.rand(CLIPS, FRAMES, 1, SIZE, SIZE, generator=_draws()).expand(-1, -1, 3, -1, -1)
    pixels = (grey - MEAN[:, None, None]) / STD[:, None, None]
    out = _raw(_augmenter(colour=0.8)(pixels, _draws()))
    torch.testing.assert_close(out, out[:, :, :1].expand_as(out), atol=1e-5, rtol=1e-4)


def test_draws_depend_on_the_generator_alone() -> None:
    augment = _augmenter(flip="on", crop_scale=(0.3, 0.8), colour=0.5, temporal=True)
    pixels = _pixels(3 * FRAMES)
    first, again = augment(pixels, _draws(1)), augment(pixels, _draws(1))
    assert torch.equal(first, again)
    assert not torch.equal(first, augment(pixels, _draws(2)))


def test_switching_one_change_leaves_the_draws_of_the_others() -> None:
    pixels = _pixels(3 * FRAMES)
    frames = _augmenter(temporal=True)(pixels, _draws())
    coloured = _augmenter(temporal=True, colour=0.5)(pixels, _draws())
    alone = _augmenter(colour=0.5)(frames, _draws())
    torch.testing.assert_close(coloured, alone)


def test_the_type_of_the_pixels_is_kept() -> None:
    augment = _augmenter(flip="on", crop_scale=(0.5, 1.0), colour=0.3, temporal=True)
    out = augment(_pixels(3 * FRAMES).bfloat16(), _draws())
    assert (out.dtype, out.shape) == (torch.bfloat16, (CLIPS, FRAMES, 3, SIZE, SIZE))
    exact = augment(_pixels(3 * FRAMES), _draws())
    torch.testing.assert_close(out.float(), exact, atol=0.05, rtol=0.05)


@pytest.mark.gpu
def test_a_gpu_sees_the_same_change() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    augment = _augmenter(flip="on", crop_scale=(0.5, 1.0), colour=0.3, temporal=True)
    pixels = _pixels(3 * FRAMES)
    there = augment(pixels.cuda(), _draws())
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), augment(pixels, _draws()), atol=1e-4, rtol=1e-4)
