"""Motions of one body that stays where it is: turns, growth, stretching, leaning, light."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from fewshot_i2v.data.synthetic.shapes import KeyedRandom
from fewshot_i2v.data.synthetic.world.body_track import (
    TURN,
    BodyTrack,
    Series,
    make_track,
    sway,
    there_and_back,
    with_changes,
)


def turn(rng: KeyedRandom, p: Series, size: float, *, degrees: tuple[float, float]) -> BodyTrack:
    """Turn clockwise by an angle from a range."""
    angle = math.radians(rng.uniform(*degrees)) * p + rng.uniform(0, TURN)
    return make_track(rng, p, 1.15 * size, angle=angle)


def rock(rng: KeyedRandom, p: Series, size: float) -> BodyTrack:
    """Rock to and fro."""
    widest = math.radians(rng.uniform(28, 45))
    return make_track(
        rng, p, 1.15 * size, angle=widest * sway(p, rng.uniform(1.4, 2.2), rng.uniform(0, 1))
    )


def _factors(rng: KeyedRandom, change: Series) -> Series:
    """Return factors from about 0.4 at a change of 0 to about 1.4 at 1."""
    low, high = rng.uniform(0.36, 0.48), rng.uniform(1.3, 1.55)
    return low + (high - low) * change


def grow(rng: KeyedRandom, p: Series, size: float) -> BodyTrack:
    """Grow."""
    return _resized(rng, p, size, p)


def swell(rng: KeyedRandom, p: Series, size: float) -> BodyTrack:
    """Grow and shrink again."""
    return _resized(rng, p, size, there_and_back(p))


def dwindle(rng: KeyedRandom, p: Series, size: float) -> BodyTrack:
    """Shrink and grow again."""
    return _resized(rng, p, size, 1 - there_and_back(p))


def pulse(rng: KeyedRandom, p: Series, size: float) -> BodyTrack:
    """Grow and shrink several times."""
    return _resized(rng, p, size, 0.5 + 0.5 * sway(p, rng.uniform(2.2, 2.8), rng.uniform(0, 1)))


def _resized(rng: KeyedRandom, p: Series, size: float, change: Series) -> BodyTrack:
    factors = _factors(rng, change)
    track = make_track(rng, p, size * float(factors.max()))
    return with_changes(track, size=size * factors)


def stretch(rng: KeyedRandom, p: Series, size: float, *, axis: str) -> BodyTrack:
    """Become wider (axis "width") or taller ("height")."""
    return make_track(rng, p, 1.3 * size, **{axis: 0.8 * _factors(rng, p)})


def squash(rng: KeyedRandom, p: Series, size: float) -> BodyTrack:
    """Become flat and wide, then tall and narrow, several times."""
    change = 0.42 * sway(p, rng.uniform(1.4, 2.0), rng.uniform(0, 1))
    return make_track(rng, p, 1.15 * size, width=1 + change, height=1 - change)


def lean(rng: KeyedRandom, p: Series, size: float, *, side: float) -> BodyTrack:
    """Lean over to the left (-1) or right (1)."""
    return make_track(rng, p, 1.1 * size, lean=side * rng.uniform(0.8, 1.1) * p)


def flip(rng: KeyedRandom, p: Series, size: float, *, axis: str) -> BodyTrack:
    """Turn over about an axis in the picture, so that it is seen mirrored; once or twice."""
    cosine = np.cos(TURN * (rng.uniform(0.8, 1.3) * p + rng.uniform(0, 1)))
    return make_track(rng, p, 1.15 * size, **{axis: cosine})


def fade(rng: KeyedRandom, p: Series, size: float) -> BodyTrack:
    """Fade in from nothing."""
    return make_track(rng, p, size, opacity=p)


def darken(rng: KeyedRandom, p: Series, size: float) -> BodyTrack:
    """Darken."""
    return make_track(rng, p, size, light=1 - rng.uniform(0.75, 0.9) * p)


def blink(rng: KeyedRandom, p: Series, size: float, *, cycles: tuple[float, float]) -> BodyTrack:
    """Vanish and appear again a number of times from a range."""
    wave = sway(p, rng.uniform(*cycles), rng.uniform(0, 1))
    return make_track(rng, p, size, opacity=np.clip(0.5 + 3 * wave, 0, 1))


REVERSIBLE = {
    ("turns-clockwise-a-quarter", "turns-counterclockwise-a-quarter"): partial(
        turn, degrees=(75, 105)
    ),
    ("turns-clockwise-halfway", "turns-counterclockwise-halfway"): partial(
        turn, degrees=(165, 195)
    ),
    ("turns-clockwise-all-around", "turns-counterclockwise-all-around"): partial(
        turn, degrees=(320, 370)
    ),
    ("grows", "shrinks"): grow,
    ("widens", "narrows"): partial(stretch, axis="width"),
    ("becomes-taller", "becomes-lower"): partial(stretch, axis="height"),
    ("leans-over-to-the-right", "straightens-from-the-right"): partial(lean, side=1),
    ("leans-over-to-the-left", "straightens-from-the-left"): partial(lean, side=-1),
    ("fades-in", "fades-out"): fade,
    ("darkens", "brightens"): darken,
}
"""By the names of a motion and of its reverse: the motion."""

SYMMETRIC = {
    "rocks": rock,
    "grows-then-shrinks": swell,
    "shrinks-then-grows": dwindle,
    "pulses": pulse,
    "squashes-and-stretches": squash,
    "flips-sideways": partial(flip, axis="width"),
    "flips-head-over": partial(flip, axis="height"),
    "blinks-slowly": partial(blink, cycles=(1.0, 1.4)),
    "blinks-quickly": partial(blink, cycles=(2.6, 3.1)),
}
"""By name: motions that are the same kind in reverse."""
