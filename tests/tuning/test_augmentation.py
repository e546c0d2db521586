"""Augmentation: one change per clip, never a flip that changes the class."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
import torch
from torch import Tensor

from fewshot_i2v.config.base import FinetuneConfig
from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.tuning.augmentation import (
    SupportAugmenter,
    mentions_left_or_right,
)

MEAN, STD = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.25, 0.2, 0.3])


def _augmenter(
    recipe: FinetuneConfig, classes: list[list[str]], seeds: list[int]
) -> SupportAugmenter:
    # the clips of these tests are normalised already
    tower = SimpleNamespace(mean=MEAN, std=STD, normalize=lambda pixels: pixels)
    return SupportAugmenter(recipe, classes, seeds, cast("Tower", tower))


def _flips(flip: str, classes: list[str], clips: int = 40) -> int:
    recipe = FinetuneConfig(flip=flip)
    pixels = torch.arange(8.0).expand(1, clips, 2, 3, 8, 8)
    out = _augmenter(recipe, [classes], [7])(pixels)
    mirrored = (out - pixels.flip(-1)).abs().amax((2, 3, 4, 5)) < 1e-4
    same = (out - pixels).abs().amax((2, 3, 4, 5)) < 1e-4
    assert (mirrored | same).all()
    return int(mirrored.sum())


@pytest.mark.parametrize(
    ("name", "sided"),
    [
        ("left", True),
        ("Pushing something from left to right", True),
        ("rotate_clockwise", True),
        ("counter-clockwise", True),
        ("turnRight", True),
        ("bright light", False),
        ("leftover", False),
        ("swipeleft", True),
        ("RIGHTHAND", True),
        ("lefthanded_wave", True),
        ("copyright", False),
        ("cleft", False),
        ("stand upright", False),
        ("up", False),
    ],
)
def test_names_that_say_left_or_right(name: str, sided: bool) -> None:
    assert mentions_left_or_right(name) is sided


def test_flips_only_where_no_class_says_a_side() -> None:
    assert 10 < _flips("auto", ["up", "down"]) < 30
    assert _flips("auto", ["up", "move_left"]) == 0
    assert _flips("on", ["up", "move_left"]) > 10
    assert _flips("off", ["up"]) == 0


def test_all_frames_of_a_clip_get_the_same_change() -> None:
    recipe = FinetuneConfig(flip="on", crop_scale=(0.3, 0.8))
    generator = torch.Generator().manual_seed(0)
    frame = torch.rand(1, 6, 1, 3, 16, 16, generator=generator)
    out = _augmenter(recipe, [["a"]], [3])(frame.expand(1, 6, 5, 3, 16, 16))
    torch.testing.assert_close(out, out[:, :, :1].expand_as(out))
    assert (out[:, :, 0] - frame[:, :, 0]).abs().amax((2, 3, 4)).min() > 0.05


def test_draws_of_an_episode_do_not_depend_on_the_others() -> None:
    recipe = FinetuneConfig(flip="on", crop_scale=(0.3, 0.8), colour=0.4, temporal=True)
    pixels = torch.rand(3, 4, 6, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    together = _augmenter(recipe, [["a"]] * 3, [1, 2, 3])
    alone = _augmenter(recipe, [["a"]], [2])
    for _ in range(2):  # the second draw differs from the first and still agrees
        torch.testing.assert_close(together(pixels)[1], alone(pixels[1:2])[0])


def test_one_frame_of_each_segment_sampled_for_each_clip_of_each_episode() -> None:
    numbers = torch.arange(12.0)[:, None, None, None].expand(2, 30, 12, 3, 8, 8)
    frames = _augmenter(FinetuneConfig(temporal=True), [["a"]] * 2, [1, 2])(numbers)[..., 0, 0, 0]
    assert torch.equal(frames // 3, torch.arange(4.0).expand(2, 30, 4))
    for episode in frames:
        assert len(episode.unique(dim=0)) > 15
        assert set((episode % 3).flatten().tolist()) == {0, 1, 2}
    assert not torch.equal(*frames)


def test_colours_change_alike_in_all_frames_and_otherwise_in_each_clip() -> None:
    still = torch.rand(1, 5, 1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) - 0.5
    still = still.expand(-1, -1, 4, -1, -1, -1)
    out: Tensor = _augmenter(FinetuneConfig(colour=0.4), [["a"]], [3])(still)
    torch.testing.assert_close(out, out[:, :, :1].expand_as(out))
    assert (out - still).abs().amax((0, 2, 3, 4, 5)).min() > 0.02
    assert len({round(float(value), 4) for value in (out - still).mean((0, 2, 3, 4, 5))}) == 5


def test_switching_one_change_leaves_the_others() -> None:
    """The random values of crops are the same with and without jitter of frames and colours."""
    still = torch.rand(1, 5, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) - 0.5
    crops = FinetuneConfig(crop_scale=(0.3, 0.8))
    alone = _augmenter(crops, [["a"]], [3])(still.expand(-1, -1, 2, -1, -1, -1))
    jittered = _augmenter(crops.model_copy(update={"temporal": True}), [["a"]], [3])(
        still.expand(-1, -1, 6, -1, -1, -1)
    )
    assert torch.equal(alone, jittered)


def test_a_recipe_without_changes_is_inactive() -> None:
    assert not FinetuneConfig().augments
    assert FinetuneConfig(flip="auto").augments
    assert FinetuneConfig(crop_scale=(0.5, 1.0)).augments
    assert FinetuneConfig(colour=0.1).augments
    assert FinetuneConfig(temporal=True).augments
    assert not FinetuneConfig(label_smoothing=0.1).augments
