"""Kinds of motion of the generated world: distinguishable, reversible, and named honestly."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from fewshot_i2v.data.synthetic.shapes import KeyedRandom
from fewshot_i2v.data.synthetic.world.body_track import BodyTrack, Tracks
from fewshot_i2v.data.synthetic.world.kinds import (
    WORLD_MOTIONS,
    WORLD_REVERSALS,
    random_world_tracks,
)
from fewshot_i2v.tuning.augmentation import mentions_left_or_right
from fewshot_i2v.utils.resources import data_file

TIMES = np.linspace(0, 1, 24)
SAMPLED = np.arange(8) * 3 + 1
"""The eight frames that an encoder sees of 24."""
_SERIES = ("x", "y", "size", "angle", "width", "height", "lean", "light", "opacity")
_LIMBS = ("arm", "forearm", "leg", "shin")
_JOINTS = (
    *(f"{side}_{limb}" for side in ("left", "right") for limb in _LIMBS),
    "torso",
    "head",
    "nod",
)
_MIRROR = {
    "left": "right",
    "right": "left",
    "clockwise": "counterclockwise",
    "counterclockwise": "clockwise",
}


def tracks_of(kind: str, *key: int | str) -> Tracks:
    return random_world_tracks(kind, KeyedRandom(*key), TIMES, 0.14)


def series_of(track: BodyTrack) -> dict[str, NDArray[np.float64]]:
    return {name: getattr(track, name) for name in _SERIES} | dict(track.pose)


def test_there_are_far_more_than_a_hundred_kinds() -> None:
    assert len(WORLD_MOTIONS) == len(set(WORLD_MOTIONS)) == 181
    assert len(WORLD_REVERSALS) == 136
    assert all(WORLD_REVERSALS[reverse] == name for name, reverse in WORLD_REVERSALS.items())


def test_no_kind_is_in_two_subsets_or_apart_from_its_reverse() -> None:
    split = yaml.safe_load(data_file("episodes", "motion-world").read_text())
    subsets = [set(names) for names in split["subsets"].values()]
    assert sum(map(len, subsets)) == len(set.union(*subsets)) == len(WORLD_MOTIONS)
    assert len(split["subsets"]["base"]) > 100
    for names in subsets:
        assert {WORLD_REVERSALS.get(name, name) for name in names} == names


def test_starts_from_either_split_of_motions_can_be_evaluated_on_the_next() -> None:
    splits = [
        yaml.safe_load(data_file("episodes", name).read_text())["subsets"]
        for name in ("motions", "motion-world")
    ]
    for trained, evaluated in (splits, splits[::-1]):
        trained_names = {name for subset in ("base", "val") for name in trained[subset]}
        assert not trained_names & set(evaluated["novel"])
        assert not set(trained["base"]) & set(evaluated["val"])


@pytest.mark.parametrize("name", sorted(n for n in WORLD_REVERSALS if n < WORLD_REVERSALS[n]))
def test_a_kind_and_its_reverse_are_each_other_backwards(name: str) -> None:
    pairs = zip(tracks_of(name, "a"), tracks_of(WORLD_REVERSALS[name], "a"), strict=True)
    same_forwards = []
    for track, reverse in pairs:
        series, reversed_series = series_of(track), series_of(reverse)
        assert series.keys() == reversed_series.keys()
        assert (track.body, track.depth) == (reverse.body, reverse.depth)
        for key, values in series.items():
            np.testing.assert_allclose(values, reversed_series[key][::-1], atol=1e-12)
            same_forwards.append(np.allclose(values, reversed_series[key], atol=0.01))
    assert not all(same_forwards)


def test_a_name_says_left_and_right_where_its_mirror_image_is_another_kind() -> None:
    for name in WORLD_MOTIONS:
        mirrored = "-".join(_MIRROR.get(word, word) for word in name.split("-"))
        assert mirrored in WORLD_MOTIONS
        assert (mirrored != name) == mentions_left_or_right(name)


@pytest.mark.parametrize("kind", WORLD_MOTIONS)
def test_every_motion_is_plain_to_see_and_in_the_frame(kind: str) -> None:
    for number in range(4):
        tracks = tracks_of(kind, kind, number)
        changes = [
            max(
                np.hypot(np.ptp(track.x), np.ptp(track.y)) / 0.09,
                np.ptp(track.angle) / 0.7,
                np.ptp(track.size) / track.size.mean() / 0.5,
                max(np.ptp(track.width), np.ptp(track.height), np.ptp(track.lean)) / 0.5,
                max(np.ptp(track.light), np.ptp(track.opacity)) / 0.5,
                max((float(np.ptp(angle)) for angle in track.pose.values()), default=0) / 0.7,
            )
            for track in tracks
        ]
        assert max(changes) > 1
        for track in tracks:
            assert min(track.x.min(), track.y.min()) > 0
            assert max(track.x.max(), track.y.max()) < 1
            assert track.size.min() > 0


def _signature(tracks: Tracks) -> NDArray[np.float64]:
    """What is where at eight times, without its place: a vector of fixed length."""
    first, second = tracks[0], tracks[-1]
    zeros, is_pair = np.zeros_like(TIMES), len(tracks) - 1
    rows = [
        *(4 * (values - values.mean()) for values in (first.x, first.y)),
        *(4 * is_pair * (values - values.mean()) for values in (second.x, second.y)),
        3 * is_pair * np.hypot(first.x - second.x, first.y - second.y),
        is_pair * (3 + 2 * second.depth + 2 * second.opacity + 3 * np.log(second.size)),
        first.angle - first.angle.mean(),
        2 * np.log(first.size / first.size.mean()),
        1.5 * first.width * np.sign(first.width[0] if np.ptp(first.width) == 0 else 1),
        1.5 * first.height,
        *(2 * values for values in (first.lean, first.light, first.opacity)),
        zeros + 4 * (first.body == "person"),
        *(first.pose.get(joint, zeros) for joint in _JOINTS),
    ]
    return np.concatenate([row[SAMPLED] for row in rows])


def test_every_kind_can_be_told_from_its_tracks_at_eight_times() -> None:
    known, queried = 12, 2
    vectors = np.array(
        [
            [_signature(tracks_of(kind, kind, number)) for number in range(known + queried)]
            for kind in WORLD_MOTIONS
        ]
    )
    memory = vectors[:, :known].reshape(-1, vectors.shape[-1])
    queries = vectors[:, known:].reshape(-1, vectors.shape[-1])
    distances = (memory**2).sum(1) - 2 * queries @ memory.T
    guesses = distances.argmin(1).reshape(len(WORLD_MOTIONS), queried) // known
    correct = guesses == np.arange(len(WORLD_MOTIONS))[:, None]
    assert correct.mean() > 0.93
    assert correct.any(1).mean() > 0.98
