"""Painting of the generated world: from a scene to the frames of its clip."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fewshot_i2v.data.synthetic.shapes import Pixels
from fewshot_i2v.data.synthetic.world.bodies import (
    WORLD_SHAPES,
    WORLD_TEXTURES,
    Body,
    limbs_over_time,
)
from fewshot_i2v.data.synthetic.world.body_track import BodyTrack
from fewshot_i2v.data.synthetic.world.camera import Camera
from fewshot_i2v.data.synthetic.world.scene import WorldScene

_REACH = 1.35  # the farthest that a shape reaches, in sizes
_PERSON_SCALE = 1.35
_THINNEST = 0.06


def render_world_scene(scene: WorldScene, size: int) -> NDArray[np.uint8]:
    """Paint the frames of a scene, (T, size, size, 3), red, green, blue, 0 to 255."""
    # painted last, over the others: movers, and of these what hides another one
    bodies = sorted((*scene.bystanders, *scene.movers), key=lambda pair: pair[1].depth)
    painters = [_BodyPainter(body, track, scene.camera) for body, track in bodies]
    clip = np.empty((len(scene.light), size, size, 3), np.uint8)
    # frame by frame, which stays in the processor's cache
    for i, factors in enumerate(scene.light * np.float32(255)):
        if scene.camera.moves or i == 0:
            ground = scene.camera.film_frame(scene.backdrop, size, i)
        frame = ground.copy()
        for painter in painters:
            painter.paint(frame, i)
        frame *= factors[:, None, None]
        frame += np.float32(0.5)
        np.clip(frame, np.float32(0), np.float32(255), out=frame)
        clip[i] = frame.transpose(1, 2, 0)
    return clip


class _BodyPainter:
    """Paints one body into the frames of a clip.

    Args:
        body: its appearance.
        track: what it does.
        camera: how it is filmed.
    """

    def __init__(self, body: Body, track: BodyTrack, camera: Camera) -> None:
        self.body, self.track = body, track
        self.x, self.y = camera.project(track.x, track.y)
        scale = _PERSON_SCALE if body.kind == "person" and track.body == "any" else 1.0
        self.sizes = track.size * camera.zoom * scale
        self.limbs = None if body.shape else limbs_over_time(body, track.pose, len(self.x))

    def paint(self, frame: Pixels, i: int) -> None:
        """Paint the body at time i into a frame (3, S, S), in place."""
        if self.track.opacity[i] > 0:
            centre_and_size = float(self.x[i]), float(self.y[i]), float(self.sizes[i])
            limbs = None if self.limbs is None else self.limbs[i]
            _paint_frame(frame, self.body, _Pose(self.track, i, *centre_and_size), limbs)


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
        dx = _centres(size)[columns] - np.float32(self.x)
        dy = (_centres(size)[rows] - np.float32(self.y))[:, None]
        cosine = np.float32(math.cos(self.angle) / self.radius)
        sine = np.float32(math.sin(self.angle) / self.radius)
        u, v = dx * cosine + dy * sine, dy * cosine - dx * sine
        if self.lean:
            u = u + np.float32(self.lean) * v
        return u * np.float32(1 / self.width), v * np.float32(1 / self.height)


def _paint_frame(frame: Pixels, body: Body, pose: _Pose, limbs: Pixels | None) -> None:
    """Paint one body into one frame (3, S, S), inside the box that it needs; limbs (n, 5)."""
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


@lru_cache(maxsize=8)
def _centres(size: int) -> Pixels:
    return ((np.arange(size) + 0.5) / size).astype(np.float32)


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
    # limb by limb: several times as fast as argmin over the first axis
    outline, nearest = distances[0], np.zeros(u.shape, np.intp)
    for k in range(1, len(distances)):
        nearest[distances[k] < outline] = k
        outline = np.minimum(outline, distances[k])
    return outline, np.take(body.colours.T, nearest, axis=1)
