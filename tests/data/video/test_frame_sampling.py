"""Which frames are chosen."""

from __future__ import annotations

import numpy as np
import pytest

from fewshot_i2v.data.video.frame_sampling import POLICIES, frame_indices
from fewshot_i2v.errors import ConfigError, UnknownNameError


@pytest.mark.parametrize(
    ("policy", "total", "frames", "stride", "expected"),
    [
        ("segment-center", 80, 8, 1, [5, 15, 25, 35, 45, 55, 65, 75]),
        ("segment-center", 10, 3, 1, [1, 5, 8]),
        ("segment-center", 4, 8, 1, [0, 1, 2, 3, 3, 3, 3, 3]),
        ("segment-center", 7, 1, 1, [3]),
        ("segment-center", 1, 4, 1, [0, 0, 0, 0]),
        ("uniform", 9, 3, 1, [0, 4, 8]),
        ("uniform", 8, 3, 1, [0, 4, 7]),  # 3.5 is rounded up
        ("uniform", 5, 1, 1, [0]),
        ("uniform", 2, 4, 1, [0, 1, 1, 1]),
        ("dense", 10, 4, 1, [3, 4, 5, 6]),
        ("dense", 11, 4, 2, [2, 4, 6, 8]),
        ("dense", 7, 4, 2, [0, 2, 4, 6]),
        ("dense", 5, 4, 2, [0, 2, 4, 4]),
        ("dense", 2, 4, 8, [0, 1, 1, 1]),
    ],
)
def test_chosen_frames(
    policy: str, total: int, frames: int, stride: int, expected: list[int]
) -> None:
    assert frame_indices(policy, total, frames, stride=stride).tolist() == expected


@pytest.mark.parametrize("policy", POLICIES)
def test_indices_are_in_order_and_inside_the_clip(policy: str) -> None:
    for total in (1, 2, 3, 7, 8, 9, 100, 10**12):
        for frames in (1, 2, 8, 33):
            chosen = frame_indices(policy, total, frames, stride=3)
            assert chosen.shape == (frames,)
            assert chosen.dtype == np.int64
            assert (np.diff(chosen) >= 0).all()
            assert chosen[0] >= 0
            assert chosen[-1] < total


@pytest.mark.parametrize(("total", "frames"), [(100, 8), (31, 7), (1000, 16), (5, 5)])
def test_policies_agree_with_their_formulas(total: int, frames: int) -> None:
    centres = [int((i + 0.5) * total / frames) for i in range(frames)]
    assert frame_indices("segment-center", total, frames).tolist() == centres
    spread = np.floor(np.linspace(0, total - 1, frames) + 0.5)
    assert frame_indices("uniform", total, frames).tolist() == spread.tolist()


@pytest.mark.parametrize(
    "wrong", [{"total": 0}, {"frames": 0}, {"stride": -1}, {"frames": 2.0}, {"frames": True}]
)
def test_wrong_numbers_are_named(wrong: dict[str, int]) -> None:
    values = {"total": 10, "frames": 4, "stride": 1} | wrong
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))} is {next(iter(wrong.values()))}"):
        frame_indices("dense", values["total"], values["frames"], stride=values["stride"])


def test_unknown_policy_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'uniform'"):
        frame_indices("unifrom", 10, 4)
