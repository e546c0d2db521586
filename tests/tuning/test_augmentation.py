"""Augmentation: one change per clip, never a flip that changes the class."""

from __future__ import annotations

import pytest
import torch

from fewshot_i2v.config.base import FinetuneConfig
from fewshot_i2v.tuning.augmentation import (
    SupportAugmenter,
    augmentation_enabled,
    mentions_left_or_right,
)


def _flips(flip: str, classes: list[str], clips: int = 40) -> int:
    recipe = FinetuneConfig(flip=flip)
    pixels = torch.arange(8.0).expand(1, clips, 2, 3, 8, 8)
    out = SupportAugmenter(recipe, [classes], [7])(pixels)
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
    out = SupportAugmenter(recipe, [["a"]], [3])(frame.expand(1, 6, 5, 3, 16, 16))
    torch.testing.assert_close(out, out[:, :, :1].expand_as(out))
    assert (out[:, :, 0] - frame[:, :, 0]).abs().amax((2, 3, 4)).min() > 0.05


def test_draws_of_an_episode_do_not_depend_on_the_others() -> None:
    recipe = FinetuneConfig(flip="on", crop_scale=(0.3, 0.8))
    pixels = torch.rand(3, 4, 2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    together = SupportAugmenter(recipe, [["a"]] * 3, [1, 2, 3])
    alone = SupportAugmenter(recipe, [["a"]], [2])
    for _ in range(2):  # the second draw differs from the first and still agrees
        torch.testing.assert_close(together(pixels)[1], alone(pixels[1:2])[0])


def test_a_recipe_without_changes_is_inactive() -> None:
    assert not augmentation_enabled(FinetuneConfig())
    assert augmentation_enabled(FinetuneConfig(flip="auto"))
    assert augmentation_enabled(FinetuneConfig(crop_scale=(0.5, 1.0)))
