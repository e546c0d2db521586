"""Scenes of the generated world: everything random about a clip."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fewshot_i2v.data.synthetic.shapes import KeyedRandom, Pixels
from fewshot_i2v.data.synthetic.world.backdrops import random_world_backdrop
from fewshot_i2v.data.synthetic.world.bodies import Body, random_body
from fewshot_i2v.data.synthetic.world.body_track import (
    TURN,
    BodyTrack,
    Series,
    Tracks,
    make_track,
    with_changes,
)
from fewshot_i2v.data.synthetic.world.camera import Camera, random_camera, random_light
from fewshot_i2v.data.synthetic.world.kinds import random_world_tracks

WORLD = "motion-world"
"""Name of the generator."""

WORLD_VERSION = 1
"""Raised with every change of the pixels that the generator gives."""

_BODY_COUNTS = (2, 3, 4)
_SIZES = (0.11, 0.18)


@dataclass(frozen=True)
class WorldScene:
    """What one clip shows.

    Attributes:
        backdrop: the picture behind the bodies, (3, C, C), 0 to 1.
        camera: how it is filmed.
        light: factors on the colours of each frame (T, 3).
        movers: the bodies that the clip is about, one or two, with their tracks.
        bystanders: more bodies, which rest or drift.
    """

    backdrop: Pixels
    camera: Camera
    light: Pixels
    movers: tuple[tuple[Body, BodyTrack], ...]
    bystanders: tuple[tuple[Body, BodyTrack], ...]


def random_world_scene(kind: str, number: int, seed: int, size: int, frames: int) -> WorldScene:
    """Choose everything random about a clip.

    Appearance, camera and motion are drawn from streams of their own, and nothing but the tracks of
    the movers depends on the kind of motion.

    Args:
        kind: one of `kinds.WORLD_MOTIONS`.
        number: which clip of the kind.
        seed: a different seed gives different clips throughout.
        size: side of the square frames, in pixels.
        frames: how many, 2 or more.
    """
    key = (WORLD, WORLD_VERSION, seed, kind, number)
    looks, ways, filming = (KeyedRandom(*key, stream) for stream in ("look", "way", "camera"))
    times = np.linspace(0, 1, frames)
    tracks = random_world_tracks(kind, ways, times, ways.uniform(*_SIZES))
    count = max(ways.choice(_BODY_COUNTS) - len(tracks), 0)
    resting = [_random_bystander(ways, times, tracks) for _ in range(count)]
    backdrop = random_world_backdrop(looks, size)
    ground = backdrop.mean((1, 2))
    movers = tuple((random_body(looks, track.body, ground), track) for track in tracks)
    bystanders = tuple((random_body(looks, "any", ground), track) for track in resting)
    camera, light = random_camera(filming, times), random_light(filming, times)
    return WorldScene(backdrop, camera, light, movers, bystanders)


def _random_bystander(rng: KeyedRandom, times: Series, movers: Tracks) -> BodyTrack:
    """Return a body that rests or drifts: of several random places the one farthest from movers."""
    size = rng.uniform(*_SIZES)
    drift, angle = (
        (0.0, 0.0) if rng.chance(0.5) else (rng.uniform(0.03, 0.09), rng.uniform(0, TURN))
    )
    way = drift * (times - 0.5)
    turned = rng.uniform(0, TURN) + (rng.uniform(-0.3, 0.3) if drift else 0.0) * times
    candidates = [
        make_track(rng, times, size, math.cos(angle) * way, math.sin(angle) * way) for _ in range(6)
    ]
    nearest = [
        min(float(((c.x - m.x) ** 2 + (c.y - m.y) ** 2).min()) for m in movers) for c in candidates
    ]
    return with_changes(candidates[int(np.argmax(nearest))], angle=turned)
