"""Scenes of the generated world: pure functions, in which nothing but the motion tells."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from numpy.typing import NDArray

from fewshot_i2v.data.splits.split import Generator
from fewshot_i2v.data.synthetic import generate
from fewshot_i2v.data.synthetic.shapes import KeyedRandom
from fewshot_i2v.data.synthetic.world.backdrops import PATTERNS, random_world_backdrop
from fewshot_i2v.data.synthetic.world.bodies import WORLD_SHAPES, limbs_over_time, random_body
from fewshot_i2v.data.synthetic.world.camera import Camera, random_camera
from fewshot_i2v.data.synthetic.world.kinds import WORLD_MOTIONS
from fewshot_i2v.data.synthetic.world.paint import render_world_scene
from fewshot_i2v.data.synthetic.world.scene import WORLD_VERSION, WorldScene, random_world_scene
from fewshot_i2v.errors import UnknownNameError

Frames = NDArray[np.uint8]
KINDS = WORLD_MOTIONS[::11]
CLIPS = 20
SIDE = 14
DIGEST = "5b4717a398fa4916d7ec95e5f7ea51027acf747fe36b33164be4997927adc7c6"


def render(kind: str, number: int, **settings: int) -> Frames:
    return generate.render_clip(
        "motion-world", kind, number, **({"size": 48, "frames": 8} | settings)
    )


def test_the_bytes_of_a_clip_never_change() -> None:
    # where these pixels change on purpose, WORLD_VERSION is raised and the digest is replaced
    assert WORLD_VERSION == 1
    clips = [render(kind, 3) for kind in ("walks-left", "spirals-in-clockwise", "hides-behind")]
    assert all(clip.shape == (8, 48, 48, 3) and clip.dtype == np.uint8 for clip in clips)
    digest = hashlib.sha256(b"".join(clip.tobytes() for clip in clips)).hexdigest()
    assert digest == DIGEST


@pytest.mark.parametrize("changed", [{"seed": 1}, {"number": 1}, {"kind": "grows"}])
def test_every_part_of_the_key_matters(changed: dict[str, int | str]) -> None:
    key: dict[str, int | str] = {"kind": "shrinks", "number": 0, "seed": 0}
    a = render(**key)  # type: ignore[arg-type]
    b = render(**{**key, **changed})  # type: ignore[arg-type]
    assert np.abs(a.astype(int) - b).mean() > 5
    assert np.array_equal(a, render(**key))  # type: ignore[arg-type]


def test_size_and_number_of_frames_are_as_requested_and_the_scene_is_the_same() -> None:
    for kind in ("claps", "moves-up", "seesaw"):
        assert render(kind, 0, size=40, frames=5).shape == (5, 40, 40, 3)
        large = render(kind, 0, size=96).reshape(8, 48, 2, 48, 2, 3).mean((2, 4))
        assert np.abs(large - render(kind, 0)).mean() < 6


@pytest.mark.parametrize("kind", WORLD_MOTIONS)
def test_every_kind_is_painted_and_changes(kind: str) -> None:
    clip = render(kind, 1, size=32, frames=6).astype(int)
    assert 10 < clip.mean() < 245
    assert clip.std() > 8
    moved = np.abs(clip - clip.mean(0)).max(-1) > 30
    assert moved.any((1, 2)).sum() > 1


def test_names_are_checked() -> None:
    with pytest.raises(UnknownNameError, match=r"class of generator 'motion-world'.*'moves-up'"):
        render("move-up", 0)
    with pytest.raises(UnknownNameError, match="generator of a `Scene`"):
        generate.random_scene("motion-world", "moves-up", 0, 0, 32, 4)


def test_the_split_generates_its_clips(tmp_path: object) -> None:
    names = [generate.clip_name("walks-left", 2)]
    generator = Generator("motion-world", size=32, frames=6)
    assert generate.write_missing_clips(generator, names, tmp_path) == 1  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def scenes() -> list[list[WorldScene]]:
    """Small scenes, some of each of several kinds."""
    return [
        [random_world_scene(kind, number, 0, SIDE, 4) for number in range(CLIPS)] for kind in KINDS
    ]


def _nearest_mean(features: NDArray[np.float64]) -> float:
    """Accuracy of the class with the nearest mean; features (classes, clips, D), half to learn."""
    spread = features.std((0, 1)) + 1e-9
    features = features / spread
    means, tests = features[:, : CLIPS // 2].mean(1), features[:, CLIPS // 2 :]
    guess = ((tests[:, :, None] - means) ** 2).sum(-1).argmin(-1)
    return float((guess == np.arange(len(features))[:, None]).mean())


def test_the_mean_picture_does_not_tell_the_kind(scenes: list[list[WorldScene]]) -> None:
    means = [
        [render_world_scene(scene, SIDE).mean(0).reshape(-1) for scene in row] for row in scenes
    ]
    # 17 kinds, 170 clips: chance is 0.059, and 0.13 is four standard errors above it
    assert len(KINDS) == 17
    assert _nearest_mean(np.array(means)) < 0.13


def test_camera_light_and_scene_do_not_tell_the_kind(scenes: list[list[WorldScene]]) -> None:
    features = [
        [
            [
                *scene.camera.x,
                *scene.camera.y,
                *scene.camera.zoom,
                *scene.light.reshape(-1),
                *scene.backdrop.mean((1, 2)),
                len(scene.movers) + len(scene.bystanders),
            ]
            for scene in row
        ]
        for row in scenes
    ]
    assert _nearest_mean(np.array(features, np.float64)) < 0.13


def test_half_of_the_clips_have_a_moving_camera_in_which_the_scene_shifts() -> None:
    times = np.linspace(0, 1, 8)
    cameras = [random_camera(KeyedRandom("camera", i), times) for i in range(400)]
    moving = [camera for camera in cameras if camera.moves]
    assert 0.42 < len(moving) / len(cameras) < 0.58
    backdrop = random_world_backdrop(KeyedRandom("backdrop", 3), 32)
    for camera in moving[:10]:
        film = np.stack([camera.film_frame(backdrop, 32, i) for i in range(8)])
        assert np.abs(film - film[0]).max() > 0.02
        assert 0 <= film.min() <= film.max() <= 1


def test_a_camera_shows_bodies_and_backdrop_in_step() -> None:
    size, places = 64, np.array([0.35, 0.6])
    backdrop = random_world_backdrop(KeyedRandom("even"), size) * 0
    side = backdrop.shape[-1]
    for x in places:
        column = round((x + 0.35) / 1.7 * side)
        backdrop[:, :, column - 2 : column + 2] = 1
    shift, zoom = np.array([0.0, 0.08]), np.array([1.0, 1.25])
    camera = Camera(shift, np.zeros(2), zoom, moves=True)
    for i in range(2):
        frame = camera.film_frame(backdrop, size, i)
        peaks = np.flatnonzero(frame[0, size // 2] > 0.5)
        expected, _ = camera.project(places[:, None] + np.zeros(2), np.zeros((2, 2)) + 0.5)
        assert abs(peaks.min() / size - expected[0, i]) < 0.06
        assert abs(peaks.max() / size - expected[1, i]) < 0.06


@pytest.mark.parametrize("name", WORLD_SHAPES)
def test_shapes_are_bounded_and_have_an_inside(name: str) -> None:
    axis = np.linspace(-2, 2, 81, dtype=np.float32)
    distance = WORLD_SHAPES[name](axis[None, :] + 0 * axis[:, None], axis[:, None] + 0 * axis[None])
    inside = np.abs(axis[None]) + np.abs(axis[:, None]) * 0 < 1.35
    assert (distance < 0).sum() > 100
    assert (distance[~inside & (np.abs(axis[:, None]) < 3)] > 0).all()


def test_a_raised_arm_ends_above_the_head_and_a_leg_below_the_hip() -> None:
    body = random_body(KeyedRandom("person"), "person", np.zeros(3, np.float32))
    raised = np.array([0.0, -2.8])
    limbs = limbs_over_time(body, {"left_arm": raised, "left_forearm": 0 * raised}, 2)
    assert limbs.shape == (2, 10, 5)
    head, left_forearm, left_shin = limbs[:, 1], limbs[:, 3], limbs[:, 7]
    assert left_forearm[0, 3] > 0 > left_forearm[1, 3]
    assert left_forearm[1, 3] < head[1, 1]
    assert (left_shin[:, 3] > 0.8).all()
    assert (left_shin[:, 2] < 0).all()


def test_backdrops_differ_and_bodies_stand_out() -> None:
    backdrops = [random_world_backdrop(KeyedRandom("b", i), 24) for i in range(40)]
    assert all(0 <= b.min() <= b.max() <= 1 and b.shape == (3, 41, 41) for b in backdrops)
    assert np.std([b.std((1, 2)).mean() for b in backdrops]) > 0.01
    assert len(PATTERNS) == 6
    for i, backdrop in enumerate(backdrops):
        ground = backdrop.mean((1, 2))
        body = random_body(KeyedRandom("body", i), "any", ground)
        assert np.linalg.norm(body.colours - ground, axis=1).max() > 0.5
