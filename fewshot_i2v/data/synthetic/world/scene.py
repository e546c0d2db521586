"""Scenes of the generated world: everything random about a clip, and its frames."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewshot_i2v.data.synthetic.shapes import KeyedRandom, Pixels
from fewshot_i2v.data.synthetic.world.backdrops import random_world_backdrop
from fewshot_i2v.data.synthetic.world.bodies import (
    WORLD_SHAPES,
    WORLD_TEXTURES,
    Body,
    limbs_over_time,
    random_body,
)
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
_REACH = 1.35  # the farthest that a body reaches, in sizes
_PERSON_SCALE = 1.35
_THINNEST = 0.06


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
    looks, ways, filming = (KeyedRandom(*key, part) for part in ("look", "way", "camera"))
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


def render_world_scene(scene: WorldScene, size: int) -> NDArray[np.uint8]:
    """Paint the frames of a scene, (T, size, size, 3), red, green, blue, 0 to 255."""
    picture = scene.camera.film(scene.backdrop, size)
    # painted last, over the others: movers, and of these what hides another one
    for body, track in sorted((*scene.bystanders, *scene.movers), key=lambda pair: pair[1].depth):
        _paint_body(picture, body, track, scene.camera)
    picture *= scene.light[:, :, None, None] * np.float32(255)
    picture += np.float32(0.5)
    np.clip(picture, np.float32(0), np.float32(255), out=picture)
    return np.ascontiguousarray(picture.astype(np.uint8).transpose(0, 2, 3, 1))


def _paint_body(picture: Pixels, body: Body, track: BodyTrack, camera: Camera) -> None:
    """Paint one body into the frames (T, 3, S, S)."""
    x, y = camera.project(track.x, track.y)
    scale = _PERSON_SCALE if body.kind == "person" and track.body == "any" else 1.0
    sizes = track.size * camera.zoom * scale
    limbs = None if body.shape else limbs_over_time(body, track.pose, len(x))
    for i in np.flatnonzero(track.opacity > 0):
        pose = _Pose(track, int(i), float(x[i]), float(y[i]), float(sizes[i]))
        _paint_frame(picture[i], body, pose, None if limbs is None else limbs[i])


class _Pose:
    """Where and how one body is at one time, as a map from the frame to the body's own axes.

    Args:
        track: of the body.
        i: which of the T times.
        x: its centre in the frame.
        y: likewise.
        radius: its size in the frame.
    """

    def __init__(self, track: BodyTrack, i: int, x: float, y: float, radius: float) -> None:
        self.x, self.y, self.radius = x, y, radius
        self.width, self.height = (_at_least(float(f[i])) for f in (track.width, track.height))
        self.lean, self.angle = float(track.lean[i]), float(track.angle[i])
        self.light, self.opacity = np.float32(track.light[i]), np.float32(track.opacity[i])
        self.widest = max(abs(self.width), abs(self.height), 1.0)
        self.narrowest = min(abs(self.width), abs(self.height), 1.0)

    def box(self, limbs: Pixels | None, size: int) -> tuple[slice, slice]:
        """Return rows and columns of pixels that the body needs, of a frame of `size` pixels."""
        if limbs is None:
            reach = _REACH * self.radius * self.widest + abs(self.lean) * self.radius
            low_x = low_y = -reach
            high_x = high_y = reach
        else:
            u, v = limbs[:, (0, 2)] * self.width, limbs[:, (1, 3)] * self.height
            u = u - self.lean * v
            cosine, sine = self.radius * math.cos(self.angle), self.radius * math.sin(self.angle)
            dx, dy = u * cosine - v * sine, u * sine + v * cosine
            thickness = float(limbs[:, 4].max()) * self.radius * self.widest
            thickness = thickness * (1 + abs(self.lean)) + 1 / size
            low_x, high_x = float(dx.min()) - thickness, float(dx.max()) + thickness
            low_y, high_y = float(dy.min()) - thickness, float(dy.max()) + thickness
        return (
            _pixel_span(self.y + low_y, self.y + high_y, size),
            _pixel_span(self.x + low_x, self.x + high_x, size),
        )

    def coordinates(self, rows: slice, columns: slice, size: int) -> tuple[Pixels, Pixels]:
        """Return the body's own coordinates (h, w) of the pixels in a box."""
        dx = _centres(columns, size) - np.float32(self.x)
        dy = (_centres(rows, size) - np.float32(self.y))[:, None]
        cosine = np.float32(math.cos(self.angle) / self.radius)
        sine = np.float32(math.sin(self.angle) / self.radius)
        u, v = dx * cosine + dy * sine, dy * cosine - dx * sine
        if self.lean:
            u = u + np.float32(self.lean) * v
        return u * np.float32(1 / self.width), v * np.float32(1 / self.height)


def _paint_frame(frame: Pixels, body: Body, pose: _Pose, limbs: Pixels | None) -> None:
    """Paint one body into one frame (3, S, S), inside the box that it needs.

    Args:
        frame: changed in place.
        body: its appearance.
        pose: its pose at that time.
        limbs: of a body made of limbs, (n, 5).
    """
    size = frame.shape[-1]
    rows, columns = pose.box(limbs, size)
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    u, v = pose.coordinates(rows, columns, size)
    pixels = np.float32(pose.radius * size * pose.narrowest)
    outline, colour = _shape(body, u, v, pixels) if limbs is None else _limbs(body, u, v, limbs)
    coverage = np.clip(np.float32(0.5) - outline * pixels, np.float32(0), np.float32(1))
    coverage *= pose.opacity
    area = frame[:, rows, columns]
    area += coverage * (colour * pose.light - area)


def _at_least(factor: float) -> float:
    """Return a factor that is not too close to 0 to divide by."""
    return math.copysign(max(abs(factor), _THINNEST), factor)


def _pixel_span(low: float, high: float, size: int) -> slice:
    return slice(max(int(low * size), 0), min(int(high * size) + 2, size))


def _centres(span: slice, size: int) -> Pixels:
    centres: Pixels = ((np.arange(span.start, span.stop) + 0.5) / size).astype(np.float32)
    return centres


def _shape(body: Body, u: Pixels, v: Pixels, pixels: np.float32) -> tuple[Pixels, Pixels]:
    """Return distances to the outline (h, w) and colours (3, h, w) of a shape."""
    outline = WORLD_SHAPES[body.shape](u, v)
    # a rim of the first colour, so that the shape is seen whatever the second one is
    inner = np.minimum(WORLD_TEXTURES[body.texture](u, v), -outline - np.float32(0.1))
    share = np.clip(inner * pixels + np.float32(0.5), np.float32(0), np.float32(1))
    main, second = body.colours[:, :, None, None]
    return outline, main + (second - main) * share


def _limbs(body: Body, u: Pixels, v: Pixels, limbs: Pixels) -> tuple[Pixels, Pixels]:
    """Return distances to the outline (h, w) and colours (3, h, w) of a body made of limbs."""
    start_x, start_y, end_x, end_y, radius = limbs.T[:, :, None, None]
    along_x, along_y = end_x - start_x, end_y - start_y
    dx, dy = u - start_x, v - start_y
    squared = np.maximum(along_x * along_x + along_y * along_y, np.float32(1e-6))
    share = np.clip((dx * along_x + dy * along_y) / squared, np.float32(0), np.float32(1))
    dx, dy = dx - along_x * share, dy - along_y * share
    distances = np.sqrt(dx * dx + dy * dy) - radius
    nearest = distances.argmin(0)
    return distances.min(0), np.take(body.colours.T, nearest, axis=1)
