"""Motions of generated objects: one function per motion, from random numbers to tracks.

Every motion is computed pointwise in time, so its opposite is the same function with the times
in reverse order: each frame of a clip of "moves-left" is a frame that "moves-right" can have.
Lengths are fractions of the frame's side; x points right and y points down; angles are in radians
and grow clockwise on the screen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from fewshot_i2v.data.synthetic.shapes import KeyedRandom
from fewshot_i2v.data.synthetic.world.body_track import TURN, Series, ramp, shift_into_frame


@dataclass(frozen=True)
class Track:
    """Position and look of one object at each of T times.

    Attributes:
        x: centre from the left edge (T,), fraction of the frame.
        y: centre from the top edge (T,), fraction of the frame.
        radius: size (T,), fraction of the frame.
        angle: rotation (T,), radians, clockwise.
        light: factor on the object's colours (T,), 0 to 1.
        opacity: 0 (hidden) to 1 (shown), (T,).
    """

    x: Series
    y: Series
    radius: Series
    angle: Series
    light: Series
    opacity: Series


_Span = tuple[float, float]
_Motion = Callable[[KeyedRandom, Series, float], Track | tuple[Track, Track]]


def static_track(rng: KeyedRandom, t: Series, radius: float) -> Track:
    """Return a track that stays at a random position with a random angle."""
    margin = 0.95 * radius
    x, y = rng.uniform(margin, 1 - margin), rng.uniform(margin, 1 - margin)
    ones = np.ones_like(t)
    return Track(x * ones, y * ones, radius * ones, rng.uniform(0, TURN) * ones, ones, ones)


def _track_along(rng: KeyedRandom, t: Series, radius: float, dx: Series, dy: Series) -> Track:
    """Return a track along this path, at a random position in the frame."""
    track, margin = static_track(rng, t, radius), 0.95 * radius
    return replace(track, x=shift_into_frame(rng, dx, margin), y=shift_into_frame(rng, dy, margin))


def _straight_track(
    rng: KeyedRandom,
    t: Series,
    radius: float,
    angle: float,
    progress: Series,
    distance: float,
) -> Track:
    """Return a straight track of length `distance`; `progress` is the fraction covered at `t`."""
    length = min(distance, 1 - 1.9 * radius)
    dx, dy = length * math.cos(angle) * progress, length * math.sin(angle) * progress
    return _track_along(rng, t, radius, dx, dy)


def _triangle_wave(phase: Series) -> Series:
    """Return a triangle wave of period 1 between -1 and 1."""
    return 4 * np.abs(phase - np.floor(phase) - 0.5) - 1


def _translate(rng: KeyedRandom, t: Series, radius: float, angle_degrees: float) -> Track:
    angle = math.radians(angle_degrees + rng.uniform(-9, 9))
    return _straight_track(rng, t, radius, angle, t, rng.uniform(0.4, 0.6))


def _bounce(rng: KeyedRandom, t: Series, radius: float, angle_degrees: float) -> Track:
    angle = math.radians(angle_degrees + rng.uniform(-9, 9))
    progress = _triangle_wave(rng.uniform(1.2, 1.9) * t + rng.uniform(0, 1)) / 2
    return _straight_track(rng, t, radius, angle, progress, rng.uniform(0.4, 0.6))


def _rotate(rng: KeyedRandom, t: Series, radius: float) -> Track:
    track = static_track(rng, t, radius)
    # under 15 degrees a frame: even at every second frame, five equal corners do not turn backwards
    return replace(track, angle=track.angle + math.radians(rng.uniform(150, 215)) * t)


def _growing_radii(radius: float, progress: Series) -> Series:
    """Return radii from small to large, the fraction `progress` of the way."""
    max_radius = min(1.35 * radius, 0.28)
    return max_radius * (0.4 + 0.6 * progress)


def _grow(rng: KeyedRandom, t: Series, radius: float) -> Track:
    radii = _growing_radii(radius, t)
    track = static_track(rng, t, _growing_radii(radius, np.ones(1))[0])
    return replace(track, radius=radii)


def _move_and_grow(rng: KeyedRandom, t: Series, radius: float, move: _Span, grow: _Span) -> Track:
    shift = rng.uniform(-0.06, 0.06)
    radii = _growing_radii(0.9 * radius, ramp(t, grow[0] + shift, grow[1] + shift))
    progress = ramp(t, move[0] + shift, move[1] + shift)
    distance, angle = rng.uniform(0.42, 0.6), rng.uniform(0, TURN)
    track = _straight_track(rng, t, float(radii.max()), angle, progress, distance)
    return replace(track, radius=radii)


def _zigzag(rng: KeyedRandom, t: Series, radius: float) -> Track:
    angle, distance = rng.uniform(0, TURN), rng.uniform(0.45, 0.58)
    amplitude = rng.uniform(0.1, 0.14)
    sideways = amplitude * _triangle_wave(rng.uniform(2.0, 2.6) * t + rng.uniform(0, 1))
    dx = distance * math.cos(angle) * t - sideways * math.sin(angle)
    dy = distance * math.sin(angle) * t + sideways * math.cos(angle)
    return _track_along(rng, t, radius, dx, dy)


def _circle(rng: KeyedRandom, t: Series, radius: float) -> Track:
    angle = TURN * (rng.uniform(0.9, 1.3) * t + rng.uniform(0, 1))
    path_radius = rng.uniform(0.19, 0.26)
    return _track_along(rng, t, radius, path_radius * np.cos(angle), path_radius * np.sin(angle))


def _square_path(rng: KeyedRandom, t: Series, radius: float) -> Track:
    phase = rng.uniform(0.95, 1.3) * t + rng.uniform(0, 1)
    half_side = rng.uniform(0.18, 0.25)
    # a triangle wave cut off at half its height: along one side, wait, back, wait
    dx = half_side * np.clip(2 * _triangle_wave(phase), -1, 1)
    dy = half_side * np.clip(2 * _triangle_wave(phase - 0.25), -1, 1)
    return _track_along(rng, t, radius, dx, dy)


def _spiral(rng: KeyedRandom, t: Series, radius: float) -> Track:
    direction = rng.choice((-1.0, 1.0))
    angle = TURN * (direction * rng.uniform(1.3, 1.7) * t + rng.uniform(0, 1))
    path_radius = rng.uniform(0.25, 0.3) * (0.08 + 0.92 * t)
    return _track_along(rng, t, radius, path_radius * np.cos(angle), path_radius * np.sin(angle))


def _swing(rng: KeyedRandom, t: Series, radius: float) -> Track:
    rope_length = rng.uniform(0.33, 0.42)
    max_angle = math.radians(rng.uniform(45, 60))
    current_angle = max_angle * np.sin(TURN * (rng.uniform(1.0, 1.5) * t + rng.uniform(0, 1)))
    track = _track_along(
        rng, t, radius, rope_length * np.sin(current_angle), rope_length * np.cos(current_angle)
    )
    return replace(track, angle=track.angle - current_angle)


def _shake(rng: KeyedRandom, t: Series, radius: float) -> Track:
    progress = _triangle_wave(rng.uniform(3.0, 3.6) * t + rng.uniform(0, 1)) / 2
    angle, distance = rng.uniform(0, TURN), rng.uniform(0.17, 0.22)
    return _straight_track(rng, t, radius, angle, progress, distance)


def _blink(rng: KeyedRandom, t: Series, radius: float, low: float, high: float) -> Track:
    wave = _triangle_wave(rng.uniform(low, high) * t + rng.uniform(0, 1))
    return replace(static_track(rng, t, radius), opacity=np.clip(0.5 + 3 * wave, 0, 1))


def _appear(rng: KeyedRandom, t: Series, radius: float, angle_degrees: float) -> Track:
    angle = math.radians(angle_degrees + rng.uniform(-9, 9))
    jump_time, half_gap = rng.uniform(0.42, 0.58), rng.uniform(0.04, 0.08)
    progress = np.where(t < jump_time, 0.0, 1.0)
    track = _straight_track(rng, t, radius, angle, progress, rng.uniform(0.4, 0.6))
    return replace(track, opacity=np.where(np.abs(t - jump_time) < half_gap, 0.0, 1.0))


def _stop_and_go(rng: KeyedRandom, t: Series, radius: float) -> Track:
    stop_time, start_time = rng.uniform(0.2, 0.3), rng.uniform(0.7, 0.8)
    progress = (ramp(t, 0, stop_time) + ramp(t, start_time, 1)) / 2
    distance = rng.uniform(0.55, 0.7)
    return _straight_track(rng, t, radius, rng.uniform(0, TURN), progress, distance)


def _accelerate(rng: KeyedRandom, t: Series, radius: float) -> Track:
    distance, angle = rng.uniform(0.5, 0.65), rng.uniform(0, TURN)
    return _straight_track(rng, t, radius, angle, t**3, distance)


def _darken(rng: KeyedRandom, t: Series, radius: float) -> Track:
    min_light = rng.uniform(0.25, 0.35)
    return replace(static_track(rng, t, radius), light=1 - (1 - min_light) * t)


def _two_tracks(
    rng: KeyedRandom,
    t: Series,
    radius: float,
    distances_a: Series,
    distances_b: Series,
    lateral_offset: float = 0,
) -> tuple[Track, Track]:
    """Return two objects on parallel lines of random direction, at distances along them (T,)."""
    angle, object_radius, n = rng.uniform(0, TURN), 0.7 * radius, len(t)
    along = np.concatenate([distances_a, distances_b])
    across = np.concatenate([0 * t, lateral_offset + 0 * t])
    x = shift_into_frame(
        rng, along * math.cos(angle) - across * math.sin(angle), 0.95 * object_radius
    )
    y = shift_into_frame(
        rng, along * math.sin(angle) + across * math.cos(angle), 0.95 * object_radius
    )
    track_a, track_b = static_track(rng, t, object_radius), static_track(rng, t, object_radius)
    return (replace(track_a, x=x[:n], y=y[:n]), replace(track_b, x=x[n:], y=y[n:]))


def _approach(rng: KeyedRandom, t: Series, radius: float) -> tuple[Track, Track]:
    end_distance, start_distance = 0.75 * radius, rng.uniform(0.3, 0.35)
    half_distance = start_distance + (end_distance - start_distance) * t
    return _two_tracks(rng, t, radius, -half_distance, half_distance)


def _chase(rng: KeyedRandom, t: Series, radius: float) -> tuple[Track, Track]:
    distance = rng.uniform(0.36, 0.44) * t
    return _two_tracks(rng, t, radius, distance, distance + 1.45 * radius + rng.uniform(0.0, 0.04))


def _pass_by(rng: KeyedRandom, t: Series, radius: float) -> tuple[Track, Track]:
    distance = rng.uniform(0.6, 0.72) * (t - 0.5)
    return _two_tracks(rng, t, radius, distance, 0 * t, rng.choice((-1.4, 1.4)) * radius)


_REVERSIBLE_MOTIONS: dict[tuple[str, str], _Motion] = {
    ("moves-right", "moves-left"): partial(_translate, angle_degrees=0),
    ("moves-down", "moves-up"): partial(_translate, angle_degrees=90),
    ("moves-down-right", "moves-up-left"): partial(_translate, angle_degrees=45),
    ("moves-down-left", "moves-up-right"): partial(_translate, angle_degrees=135),
    ("rotates-clockwise", "rotates-counterclockwise"): _rotate,
    ("grows", "shrinks"): _grow,
    ("circles-clockwise", "circles-counterclockwise"): _circle,
    ("squares-clockwise", "squares-counterclockwise"): _square_path,
    ("spirals-out", "spirals-in"): _spiral,
    ("moves-then-grows", "shrinks-then-moves"): partial(
        _move_and_grow, move=(0.08, 0.5), grow=(0.5, 0.92)
    ),
    ("grows-then-moves", "moves-then-shrinks"): partial(
        _move_and_grow, move=(0.5, 0.92), grow=(0.08, 0.5)
    ),
    ("appears-left-then-right", "appears-right-then-left"): partial(_appear, angle_degrees=0),
    ("appears-top-then-bottom", "appears-bottom-then-top"): partial(_appear, angle_degrees=90),
    ("accelerates", "decelerates"): _accelerate,
    ("darkens", "brightens"): _darken,
    ("come-together", "move-apart"): _approach,
}
_OTHER_MOTIONS: dict[str, _Motion] = {
    "bounces-horizontally": partial(_bounce, angle_degrees=0),
    "bounces-vertically": partial(_bounce, angle_degrees=90),
    "zigzags": _zigzag,
    "swings": _swing,
    "shakes": _shake,
    "blinks-slowly": partial(_blink, low=1.0, high=1.4),
    "blinks-quickly": partial(_blink, low=2.8, high=3.4),
    "stops-and-goes": _stop_and_go,
    "chases": _chase,
    "passes-by": _pass_by,
}
_FORWARD = _OTHER_MOTIONS | {first: motion for (first, _), motion in _REVERSIBLE_MOTIONS.items()}
_BACKWARD = {second: motion for (_, second), motion in _REVERSIBLE_MOTIONS.items()}

MOTIONS: tuple[str, ...] = tuple(sorted(_FORWARD | _BACKWARD))
"""Names of all motions, in alphabetical order."""

REVERSALS: dict[str, str] = {
    name: other for a, b in _REVERSIBLE_MOTIONS for name, other in ((a, b), (b, a))
}
"""The motion that each motion becomes when its clip is played backwards, where there is one."""

TWO_OBJECT_MOTIONS = frozenset({"come-together", "move-apart", "chases", "passes-by"})
"""Motions of two objects; all others are motions of one."""


def random_tracks(motion: str, rng: KeyedRandom, t: Series, radius: float) -> tuple[Track, ...]:
    """Return the tracks of the one or two objects of a clip.

    Args:
        motion: one of `MOTIONS`.
        rng: the source of randomness.
        t: times of the frames (T,), ascending from 0 to 1.
        radius: about the size of an object, fraction of the frame.
    """
    if motion in _FORWARD:
        tracks = _FORWARD[motion](rng, t, radius)
    else:
        tracks = _BACKWARD[motion](rng, t[::-1], radius)
    return tracks if isinstance(tracks, tuple) else (tracks,)
