"""The ways things move: one function per motion, from random draws and times to tracks.

Every motion is computed pointwise in time, so its opposite is the same function with the times
in reverse order: the frames of a clip of "moves-left" are, one by one, frames that "moves-right"
can have. Lengths are fractions of the frame's side; x points right and y points down; angles are
in radians and grow clockwise as seen on the screen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fewshot_i2v.data.synthetic.shapes import Draws

Values = NDArray[np.float64]
TURN = 2 * math.pi


@dataclass(frozen=True)
class Track:
    """Where one object is, and how it looks, at each of T times.

    Attributes:
        x: centre from the left edge (T,), fraction of the frame.
        y: centre from the top edge (T,), fraction of the frame.
        radius: size (T,), fraction of the frame.
        angle: rotation (T,), radians, clockwise.
        light: factor on the object's colours (T,), 0 to 1.
        opacity: 0 (hidden) to 1 (shown), (T,).
    """

    x: Values
    y: Values
    radius: Values
    angle: Values
    light: Values
    opacity: Values


Motion = Callable[[Draws, Values, float], tuple[Track, ...]]


def still_track(draws: Draws, t: Values, radius: float) -> Track:
    """A track that stays at one random place with one random angle."""
    margin = 0.95 * radius
    x, y = draws.uniform(margin, 1 - margin), draws.uniform(margin, 1 - margin)
    one = np.ones_like(t)
    return Track(x * one, y * one, radius * one, draws.uniform(0, TURN) * one, one, one)


def _within(draws: Draws, path: Values, margin: float) -> Values:
    """Shift one coordinate of a path to a random place where all of it lies inside the frame."""
    low, high = margin - float(path.min()), 1 - margin - float(path.max())
    if high < low:  # longer than the room there is: centred
        low = high = (low + high) / 2
    return path + draws.uniform(low, high)


def _along(draws: Draws, t: Values, radius: float, dx: Values, dy: Values) -> Track:
    """A track with the given path, put at a random place in the frame."""
    track, margin = still_track(draws, t, radius), 0.95 * radius
    return replace(track, x=_within(draws, dx, margin), y=_within(draws, dy, margin))


def _line(draws: Draws, t: Values, radius: float, angle: float, done: Values, far: float) -> Track:
    """A straight way of length `far` in direction `angle`, `done` of which is covered by `t`."""
    reach = min(far, 1 - 1.9 * radius)
    dx, dy = reach * math.cos(angle) * done, reach * math.sin(angle) * done
    return _along(draws, t, radius, dx, dy)


def _wave(phase: Values) -> Values:
    """Triangle wave of period 1 between -1 and 1."""
    return 4 * np.abs(phase - np.floor(phase) - 0.5) - 1


def _ramp(t: Values, start: float, end: float) -> Values:
    """0 until `start`, 1 from `end` on, straight in between."""
    return np.clip((t - start) / (end - start), 0, 1)


def _translate(angle_degrees: float) -> Motion:
    def _motion(draws: Draws, t: Values, radius: float) -> tuple[Track, ...]:
        angle = math.radians(angle_degrees + draws.uniform(-9, 9))
        return (_line(draws, t, radius, angle, t, draws.uniform(0.4, 0.6)),)

    return _motion


def _bounce(angle_degrees: float) -> Motion:
    def _motion(draws: Draws, t: Values, radius: float) -> tuple[Track, ...]:
        angle = math.radians(angle_degrees + draws.uniform(-9, 9))
        done = _wave(draws.uniform(1.2, 1.9) * t + draws.uniform(0, 1)) / 2
        return (_line(draws, t, radius, angle, done, draws.uniform(0.4, 0.6)),)

    return _motion


def _rotate(draws: Draws, t: Values, radius: float) -> tuple[Track, ...]:
    track = still_track(draws, t, radius)
    # under 15 degrees a frame: even at every second frame, five equal corners do not turn backwards
    return (replace(track, angle=track.angle + math.radians(draws.uniform(150, 215)) * t),)


def _sizes(radius: float, done: Values) -> Values:
    """Sizes from small to large, `done` of the way."""
    large = min(1.35 * radius, 0.28)
    return large * (0.4 + 0.6 * done)


def _grow(draws: Draws, t: Values, radius: float) -> tuple[Track, ...]:
    sizes = _sizes(radius, t)
    track = still_track(draws, t, _sizes(radius, np.ones(1))[0])
    return (replace(track, radius=sizes),)


def _move_and_grow(move: tuple[float, float], grow: tuple[float, float]) -> Motion:
    def _motion(draws: Draws, t: Values, radius: float) -> tuple[Track, ...]:
        shift = draws.uniform(-0.06, 0.06)
        sizes = _sizes(0.9 * radius, _ramp(t, grow[0] + shift, grow[1] + shift))
        done = _ramp(t, move[0] + shift, move[1] + shift)
        far, angle = draws.uniform(0.42, 0.6), draws.uniform(0, TURN)
        return (replace(_line(draws, t, float(sizes.max()), angle, done, far), radius=sizes),)

    return _motion


def _zigzag(draws: Draws, t: Values, radius: float) -> tuple[Track, ...]:
    angle, far = draws.uniform(0, TURN), draws.uniform(0.45, 0.58)
    wide = draws.uniform(0.1, 0.14)
    side = wide * _wave(draws.uniform(2.0, 2.6) * t + draws.uniform(0, 1))
    dx = far * math.cos(angle) * t - side * math.sin(angle)
    dy = far * math.sin(angle) * t + side * math.cos(angle)
    return (_along(draws, t, radius, dx, dy),)


def _circle(draws: Draws, t: Values, radius: float) -> tuple[Track, ...]:
    angle = TURN * (draws.uniform(0.9, 1.3) * t + draws.uniform(0, 1))
    wide = draws.uniform(0.19, 0.26)
    return (_along(draws, t, radius, wide * np.cos(angle), wide * np.sin(angle)),)


def _square_path(draws: Draws, t: Values, radius: float) -> tuple[Track, ...]:
    phase = draws.uniform(0.95, 1.3) * t + draws.uniform(0, 1)
    half = draws.uniform(0.18, 0.25)
    # a triangle wave cut off at half its height: along one side, wait, back, wait
    dx = half * np.clip(2 * _wave(phase), -1, 1)
    dy = half * np.clip(2 * _wave(phase - 0.25), -1, 1)
    return (_along(draws, t, radius, dx, dy),)


def _spiral(draws: Draws, t: Values, radius: float) -> tuple[Track, ...]:
    sense = draws.pick((-1.0, 1.0))
    angle = TURN * (sense * draws.uniform(1.3, 1.7) * t + draws.uniform(0, 1))
    wide = draws.uniform(0.25, 0.3) * (0.08 + 0.92 * t)
    return (_along(draws, t, radius, wide * np.cos(angle), wide * np.sin(angle)),)


def _swing(draws: Draws, t: Values, radius: float) -> tuple[Track, ...]:
    rope = draws.uniform(0.33, 0.42)
    swing = math.radians(draws.uniform(45, 60))
    swing_now = swing * np.sin(TURN * (draws.uniform(1.0, 1.5) * t + draws.uniform(0, 1)))
    track = _along(draws, t, radius, rope * np.sin(swing_now), rope * np.cos(swing_now))
    return (replace(track, angle=track.angle - swing_now),)


def _shake(draws: Draws, t: Values, radius: float) -> tuple[Track, ...]:
    done = _wave(draws.uniform(3.0, 3.6) * t + draws.uniform(0, 1)) / 2
    return (_line(draws, t, radius, draws.uniform(0, TURN), done, draws.uniform(0.17, 0.22)),)


def _blink(low: float, high: float) -> Motion:
    def _motion(draws: Draws, t: Values, radius: float) -> tuple[Track, ...]:
        wave = _wave(draws.uniform(low, high) * t + draws.uniform(0, 1))
        return (replace(still_track(draws, t, radius), opacity=np.clip(0.5 + 3 * wave, 0, 1)),)

    return _motion


def _appear(angle_degrees: float) -> Motion:
    def _motion(draws: Draws, t: Values, radius: float) -> tuple[Track, ...]:
        angle = math.radians(angle_degrees + draws.uniform(-9, 9))
        middle, gap = draws.uniform(0.42, 0.58), draws.uniform(0.04, 0.08)
        done = np.where(t < middle, 0.0, 1.0)
        track = _line(draws, t, radius, angle, done, draws.uniform(0.4, 0.6))
        return (replace(track, opacity=np.where(np.abs(t - middle) < gap, 0.0, 1.0)),)

    return _motion


def _stop_and_go(draws: Draws, t: Values, radius: float) -> tuple[Track, ...]:
    stop, go = draws.uniform(0.2, 0.3), draws.uniform(0.7, 0.8)
    done = (_ramp(t, 0, stop) + _ramp(t, go, 1)) / 2
    far = draws.uniform(0.55, 0.7)
    return (_line(draws, t, radius, draws.uniform(0, TURN), done, far),)


def _accelerate(draws: Draws, t: Values, radius: float) -> tuple[Track, ...]:
    far, angle = draws.uniform(0.5, 0.65), draws.uniform(0, TURN)
    return (_line(draws, t, radius, angle, t**3, far),)


def _darken(draws: Draws, t: Values, radius: float) -> tuple[Track, ...]:
    least = draws.uniform(0.25, 0.35)
    return (replace(still_track(draws, t, radius), light=1 - (1 - least) * t),)


def _two(
    draws: Draws, t: Values, radius: float, first: Values, second: Values, beside: float = 0
) -> tuple[Track, ...]:
    """Two objects on parallel lines of random direction, at distances along them (T,)."""
    angle, small, n = draws.uniform(0, TURN), 0.7 * radius, len(t)
    along = np.concatenate([first, second])
    across = np.concatenate([0 * t, beside + 0 * t])
    x = _within(draws, along * math.cos(angle) - across * math.sin(angle), 0.95 * small)
    y = _within(draws, along * math.sin(angle) + across * math.cos(angle), 0.95 * small)
    a, b = still_track(draws, t, small), still_track(draws, t, small)
    return (replace(a, x=x[:n], y=y[:n]), replace(b, x=x[n:], y=y[n:]))


def _approach(draws: Draws, t: Values, radius: float) -> tuple[Track, ...]:
    near, far = 0.75 * radius, draws.uniform(0.3, 0.35)
    half = far + (near - far) * t
    return _two(draws, t, radius, -half, half)


def _chase(draws: Draws, t: Values, radius: float) -> tuple[Track, ...]:
    way = draws.uniform(0.36, 0.44) * t
    return _two(draws, t, radius, way, way + 1.45 * radius + draws.uniform(0.0, 0.04))


def _pass_by(draws: Draws, t: Values, radius: float) -> tuple[Track, ...]:
    way = draws.uniform(0.6, 0.72) * (t - 0.5)
    return _two(draws, t, radius, way, 0 * t, draws.pick((-1.4, 1.4)) * radius)


def _reverse(motion: Motion) -> Motion:
    def _reversed_motion(draws: Draws, t: Values, radius: float) -> tuple[Track, ...]:
        return motion(draws, t[::-1], radius)

    return _reversed_motion


_PAIRS: dict[tuple[str, str], Motion] = {
    ("moves-right", "moves-left"): _translate(0),
    ("moves-down", "moves-up"): _translate(90),
    ("moves-down-right", "moves-up-left"): _translate(45),
    ("moves-down-left", "moves-up-right"): _translate(135),
    ("rotates-clockwise", "rotates-counterclockwise"): _rotate,
    ("grows", "shrinks"): _grow,
    ("circles-clockwise", "circles-counterclockwise"): _circle,
    ("squares-clockwise", "squares-counterclockwise"): _square_path,
    ("spirals-out", "spirals-in"): _spiral,
    ("moves-then-grows", "shrinks-then-moves"): _move_and_grow((0.08, 0.5), (0.5, 0.92)),
    ("grows-then-moves", "moves-then-shrinks"): _move_and_grow((0.5, 0.92), (0.08, 0.5)),
    ("appears-left-then-right", "appears-right-then-left"): _appear(0),
    ("appears-top-then-bottom", "appears-bottom-then-top"): _appear(90),
    ("accelerates", "decelerates"): _accelerate,
    ("darkens", "brightens"): _darken,
    ("come-together", "move-apart"): _approach,
}
_SINGLE: dict[str, Motion] = {
    "bounces-horizontally": _bounce(0),
    "bounces-vertically": _bounce(90),
    "zigzags": _zigzag,
    "swings": _swing,
    "shakes": _shake,
    "blinks-slowly": _blink(1.0, 1.4),
    "blinks-quickly": _blink(2.8, 3.4),
    "stops-and-goes": _stop_and_go,
    "chases": _chase,
    "passes-by": _pass_by,
}

MOTIONS: dict[str, Motion] = dict(
    sorted(
        {
            **_SINGLE,
            **{first: motion for (first, _), motion in _PAIRS.items()},
            **{second: _reverse(motion) for (_, second), motion in _PAIRS.items()},
        }.items()
    )
)
"""Every motion by name, in alphabetical order."""

REVERSALS: dict[str, str] = {name: other for a, b in _PAIRS for name, other in ((a, b), (b, a))}
"""The motion that each motion becomes when its clip is played backwards, where there is one."""

WITH_TWO_OBJECTS = frozenset({"come-together", "move-apart", "chases", "passes-by"})
"""Motions of two objects; all others are motions of one."""
