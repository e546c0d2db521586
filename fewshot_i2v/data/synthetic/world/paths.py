"""Motions of one body along a path: lines, arcs, closed figures, bounces, strokes of letters."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from fewshot_i2v.data.synthetic.shapes import KeyedRandom
from fewshot_i2v.data.synthetic.world.body_track import (
    TURN,
    BodyTrack,
    Points,
    Series,
    follow,
    make_track,
    ramp,
    rotate,
    sway,
    there_and_back,
)

_TILT = math.radians(8)
_LETTERS: dict[str, Points] = {
    "l": ((0, 0), (0, 1), (0.8, 1)),
    "n": ((0, 1), (0, 0), (0.8, 1), (0.8, 0)),
    "z": ((0, 0), (0.9, 0), (0, 1), (0.9, 1)),
    "u": ((0, 0), (0, 0.75), (0.08, 0.92), (0.25, 1), (0.42, 0.92), (0.5, 0.75), (0.5, 0)),
    "v": ((0, 0), (0.45, 1), (0.9, 0)),
    "caret": ((0, 1), (0.45, 0), (0.9, 1)),
    "w": ((0, 0), (0.25, 1), (0.5, 0.2), (0.75, 1), (1, 0)),
    "m": ((0, 1), (0.25, 0), (0.5, 0.8), (0.75, 0), (1, 1)),
}
_S: Points = (
    (0.9, 0.1), (0.55, 0), (0.15, 0.08), (0.05, 0.28), (0.4, 0.48),
    (0.8, 0.65), (0.9, 0.85), (0.5, 1), (0, 0.92),
)  # fmt: skip
_SQUARE: Points = ((0, 0), (1, 0), (1, 1), (0, 1), (0, 0))
_TRIANGLE: Points = ((0.5, 0), (1, 0.87), (0, 0.87), (0.5, 0))
_STAIRS: Points = ((0, 0), (1, 0), (1, -1), (2, -1), (2, -2))
_ZIGZAG: Points = ((0, 0), (1, 1), (3, -1), (5, 1), (6, 0))


def move(
    rng: KeyedRandom, p: Series, size: float, *, degrees: float, profile: str = "even"
) -> BodyTrack:
    """Move along a straight line.

    Args:
        rng: the source of randomness.
        p: progress (T,).
        size: of the body.
        degrees: direction, clockwise from the right.
        profile: of the speed: "even", "stop" (rests half way), "faster", "back" (and returns).
    """
    distance = rng.uniform(0.38, 0.62)
    if profile == "stop":
        stop, start = rng.uniform(0.22, 0.3), rng.uniform(0.7, 0.78)
        p = (ramp(p, 0, stop) + ramp(p, start, 1)) / 2
    elif profile == "faster":
        p = p ** rng.uniform(3.0, 3.6)
    elif profile == "back":
        p = there_and_back(p)
    angle = math.radians(degrees) + rng.uniform(-_TILT, _TILT)
    return make_track(rng, p, size, *rotate(distance * p, 0.0, angle))


def arc(rng: KeyedRandom, p: Series, size: float, *, degrees: float, side: float) -> BodyTrack:
    """Move along half an ellipse, to the left (-1) or the right (1) of the way of `degrees`."""
    distance, bulge = rng.uniform(0.5, 0.66), rng.uniform(0.2, 0.28)
    angle = math.pi * p
    dx, dy = -distance / 2 * np.cos(angle), side * bulge * np.sin(angle)
    tilted = math.radians(degrees) + rng.uniform(-_TILT, _TILT)
    return make_track(rng, p, size, *rotate(dx, dy, tilted))


def circle(rng: KeyedRandom, p: Series, size: float, *, turns: float) -> BodyTrack:
    """Move around a circle clockwise, about so many times."""
    angle = TURN * (turns * rng.uniform(0.92, 1.15) * p + rng.uniform(0, 1))
    radius = rng.uniform(0.18, 0.28)
    return make_track(rng, p, size, radius * np.cos(angle), radius * np.sin(angle))


def closed_path(rng: KeyedRandom, p: Series, size: float, *, points: Points) -> BodyTrack:
    """Move once around a closed line of equal sides, from anywhere on it, and linger at corners."""
    scale, sides = rng.uniform(0.38, 0.52), len(points) - 1
    way = ((rng.uniform(0.95, 1.1) * p + rng.uniform(0, 1)) % 1) * sides
    side = np.floor(way)
    dx, dy = follow(points, (side + ramp(way - side, 0.2, 0.8)) / sides)
    return make_track(
        rng, p, size, *rotate(scale * (dx - 0.5), scale * (dy - 0.5), rng.uniform(-_TILT, _TILT))
    )


def figure_eight(rng: KeyedRandom, p: Series, size: float, *, degrees: float) -> BodyTrack:
    """Move along an eight whose length lies along `degrees`."""
    phase = rng.choice((-1.0, 1.0)) * rng.uniform(0.95, 1.15) * p + rng.uniform(0, 1)
    length = rng.uniform(0.24, 0.3)
    dx, dy = length * np.sin(TURN * phase), 0.55 * length * np.sin(2 * TURN * phase)
    return make_track(rng, p, size, *rotate(dx, dy, math.radians(degrees)))


def spiral(rng: KeyedRandom, p: Series, size: float, *, direction: float) -> BodyTrack:
    """Move outwards on a spiral, clockwise (1) or not (-1)."""
    angle = TURN * (direction * rng.uniform(1.4, 1.8) * p + rng.uniform(0, 1))
    radius = rng.uniform(0.26, 0.32) * (0.06 + 0.94 * p)
    return make_track(rng, p, size, radius * np.cos(angle), radius * np.sin(angle))


def stroke(
    rng: KeyedRandom,
    p: Series,
    size: float,
    *,
    points: Points,
    degrees: float = 0.0,
    aspect: float = 1.0,
) -> BodyTrack:
    """Move along a line through points, scaled to a random extent.

    Args:
        rng: the source of randomness.
        p: progress (T,).
        size: of the body.
        points: the line.
        degrees: clockwise rotation of the line.
        aspect: factor on its second coordinate.
    """
    dx, dy = follow([(x, aspect * y) for x, y in points], p)
    scale = rng.uniform(0.46, 0.62) / float(np.ptp(np.asarray(points), axis=0).max())
    narrower = rng.uniform(0.9, 1.1)
    angle = math.radians(degrees) + rng.uniform(-_TILT, _TILT)
    return make_track(rng, p, size, *rotate(narrower * scale * dx, scale * dy, angle))


def bounce(rng: KeyedRandom, p: Series, size: float, *, distance: float) -> BodyTrack:
    """Bounce on the ground like a ball, moving so far to the right meanwhile."""
    hops = np.abs(np.sin(math.pi * (rng.uniform(2.2, 2.8) * p + rng.uniform(0, 1))))
    height = rng.uniform(0.22, 0.34)
    return make_track(rng, p, size, distance * rng.uniform(0.9, 1.1) * p, -height * hops)


def bounce_lower(rng: KeyedRandom, p: Series, size: float) -> BodyTrack:
    """Drop from a height and bounce lower each time."""
    height = rng.uniform(0.42, 0.55)
    hops = np.abs(np.cos(math.pi * 2.5 * p**0.85)) * (1 - p) ** 1.3
    return make_track(rng, p, size, 0.0, -height * hops)


def swing(rng: KeyedRandom, p: Series, size: float) -> BodyTrack:
    """Swing like a pendulum."""
    length, widest = rng.uniform(0.33, 0.45), math.radians(rng.uniform(42, 60))
    angle = widest * sway(p, rng.uniform(1.1, 1.6), rng.uniform(0, 1))
    return make_track(rng, p, size, length * np.sin(angle), length * np.cos(angle), angle=-angle)


def tremble(rng: KeyedRandom, p: Series, size: float) -> BodyTrack:
    """Move to and fro by a little, in any direction."""
    way = rng.uniform(0.05, 0.08) * sway(p, rng.uniform(2.9, 3.4), rng.uniform(0, 1))
    return make_track(rng, p, size, *rotate(way, 0.0, rng.uniform(0, TURN)))


def jump_across(rng: KeyedRandom, p: Series, size: float, *, degrees: float) -> BodyTrack:
    """Vanish, and appear at another place in the direction of `degrees`."""
    middle, gap = rng.uniform(0.4, 0.6), rng.uniform(0.03, 0.08)
    distance, angle = rng.uniform(0.4, 0.6), math.radians(degrees) + rng.uniform(-_TILT, _TILT)
    way = rotate(np.where(p >= middle, distance, 0.0), 0.0, angle)
    return make_track(rng, p, size, *way, opacity=np.abs(p - middle) >= gap)


def roll(rng: KeyedRandom, p: Series, size: float) -> BodyTrack:
    """Roll to the right: move and turn clockwise together."""
    distance = rng.uniform(0.45, 0.6)
    return make_track(
        rng, p, size, distance * p, 0.0, angle=rng.uniform(3.6, 4.8) * p + rng.uniform(0, TURN)
    )


REVERSIBLE = {
    ("moves-right", "moves-left"): partial(move, degrees=0),
    ("moves-down", "moves-up"): partial(move, degrees=90),
    ("moves-down-right", "moves-up-left"): partial(move, degrees=45),
    ("moves-down-left", "moves-up-right"): partial(move, degrees=135),
    ("moves-right-with-a-stop", "moves-left-with-a-stop"): partial(move, degrees=0, profile="stop"),
    ("moves-down-with-a-stop", "moves-up-with-a-stop"): partial(move, degrees=90, profile="stop"),
    ("speeds-up-to-the-right", "slows-down-to-the-left"): partial(
        move, degrees=0, profile="faster"
    ),
    ("speeds-up-to-the-left", "slows-down-to-the-right"): partial(
        move, degrees=180, profile="faster"
    ),
    ("speeds-up-downwards", "slows-down-upwards"): partial(move, degrees=90, profile="faster"),
    ("arcs-over-to-the-right", "arcs-over-to-the-left"): partial(arc, degrees=0, side=-1),
    ("arcs-under-to-the-right", "arcs-under-to-the-left"): partial(arc, degrees=0, side=1),
    ("arcs-down-around-the-right", "arcs-up-around-the-right"): partial(arc, degrees=90, side=-1),
    ("arcs-down-around-the-left", "arcs-up-around-the-left"): partial(arc, degrees=90, side=1),
    ("circles-clockwise", "circles-counterclockwise"): partial(circle, turns=1),
    ("circles-twice-clockwise", "circles-twice-counterclockwise"): partial(circle, turns=2),
    ("squares-clockwise", "squares-counterclockwise"): partial(closed_path, points=_SQUARE),
    ("triangles-clockwise", "triangles-counterclockwise"): partial(closed_path, points=_TRIANGLE),
    ("spirals-out-clockwise", "spirals-in-counterclockwise"): partial(spiral, direction=1),
    ("spirals-out-counterclockwise", "spirals-in-clockwise"): partial(spiral, direction=-1),
    ("zigzags-right", "zigzags-left"): partial(stroke, points=_ZIGZAG, aspect=1.7),
    ("zigzags-down", "zigzags-up"): partial(stroke, points=_ZIGZAG, aspect=1.7, degrees=90),
    ("climbs-stairs-to-the-right", "descends-stairs-to-the-left"): partial(stroke, points=_STAIRS),
    ("descends-stairs-to-the-right", "climbs-stairs-to-the-left"): partial(
        stroke, points=_STAIRS, aspect=-1
    ),
    ("bounces-to-the-right", "bounces-to-the-left"): partial(bounce, distance=0.5),
    ("bounces-lower-and-lower", "bounces-higher-and-higher"): bounce_lower,
    ("vanishes-left-appears-right", "vanishes-right-appears-left"): partial(jump_across, degrees=0),
    ("vanishes-above-appears-below", "vanishes-below-appears-above"): partial(
        jump_across, degrees=90
    ),
    ("rolls-right", "rolls-left"): roll,
    ("writes-s-from-the-right", "writes-s-from-the-left"): partial(stroke, points=_S),
} | {
    (f"writes-{name}-from-the-left", f"writes-{name}-from-the-right"): partial(
        stroke, points=points
    )
    for name, points in _LETTERS.items()
}
"""By the names of a motion and of its reverse: the motion."""

SYMMETRIC = {
    "goes-right-and-back": partial(move, degrees=0, profile="back"),
    "goes-left-and-back": partial(move, degrees=180, profile="back"),
    "goes-down-and-back": partial(move, degrees=90, profile="back"),
    "goes-up-and-back": partial(move, degrees=270, profile="back"),
    "follows-a-lying-eight": partial(figure_eight, degrees=0),
    "follows-a-standing-eight": partial(figure_eight, degrees=90),
    "bounces-on-the-spot": partial(bounce, distance=0),
    "swings": swing,
    "trembles": tremble,
}
"""By name: motions that are the same kind in reverse."""
