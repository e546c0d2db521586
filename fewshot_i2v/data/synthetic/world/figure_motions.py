"""Motions of a person with limbs: gestures, steps, falls, exercises.

Left and right are those of the picture. Angles of limbs are from hanging straight down, positive to
the right; those of forearms and shins are relative to the upper limb.
"""

from __future__ import annotations

from collections.abc import Mapping
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
)

THIGH = 0.45
"""Length of a thigh, as a fraction of half the person's height."""

_SCALE = 1.9
"""Half the height of a person who makes one of these motions, in sizes of other bodies."""

_SIDES = {"left": -1.0, "right": 1.0}


def _person(
    rng: KeyedRandom,
    p: Series,
    size: float,
    pose: Mapping[str, Series | float],
    dx: Series | float = 0.0,
    dy: Series | float = 0.0,
    angle: Series | float = 0.0,
    width: float = 1.0,
) -> BodyTrack:
    """Make the track of a person, who is larger than other bodies so that limbs can be seen."""
    zeros = np.zeros_like(p)
    return make_track(
        rng,
        p,
        _SCALE * size,
        dx,
        dy,
        angle=rng.uniform(-0.06, 0.06) + angle,
        width=width,
        pose={name: value + zeros for name, value in pose.items()},
        body="person",
    )


def _wave_between(
    rng: KeyedRandom, p: Series, low: float, high: float, cycles: tuple[float, float]
) -> Series:
    """Return values that go to and fro between two, a number of times from a range."""
    wave = sway(p, rng.uniform(*cycles), rng.uniform(0, 1))
    return low + (high - low) * (0.5 + 0.5 * wave)


def raise_arms(rng: KeyedRandom, p: Series, size: float, *, sides: tuple[str, ...]) -> BodyTrack:
    """Raise arms from hanging to above the head."""
    raised = 0.2 + rng.uniform(2.2, 2.6) * p
    return _person(rng, p, size, {f"{side}_arm": _SIDES[side] * raised for side in sides})


def wave_hands(rng: KeyedRandom, p: Series, size: float, *, sides: tuple[str, ...]) -> BodyTrack:
    """Wave raised hands."""
    upper, forearm = rng.uniform(1.7, 2.0), _wave_between(rng, p, -0.3, 1.4, (1.9, 2.5))
    pose: dict[str, Series | float] = {}
    for side in sides:
        pose |= {f"{side}_arm": _SIDES[side] * upper, f"{side}_forearm": _SIDES[side] * forearm}
    return _person(rng, p, size, pose)


def punch(rng: KeyedRandom, p: Series, size: float, *, side: str) -> BodyTrack:
    """Stretch a bent arm out to the side and bend it again."""
    out, sign = there_and_back(p), _SIDES[side]
    pose = {f"{side}_arm": sign * (0.3 + 1.25 * out), f"{side}_forearm": sign * 2.2 * (1 - out)}
    return _person(rng, p, size, pose, dx=sign * 0.04 * out)


def clap(rng: KeyedRandom, p: Series, size: float) -> BodyTrack:
    """Clap, with stretched arms in front of the body."""
    spread = _wave_between(rng, p, 0.0, 1.0, (1.6, 2.4))
    pose: dict[str, Series | float] = {}
    for side, sign in _SIDES.items():
        pose[f"{side}_arm"] = sign * (0.6 + 0.9 * spread)
        pose[f"{side}_forearm"] = -sign * 1.9 * (1 - spread)
    return _person(rng, p, size, pose)


def flap(rng: KeyedRandom, p: Series, size: float) -> BodyTrack:
    """Move both stretched arms up and down like wings."""
    lift = _wave_between(rng, p, 0.5, 2.2, (1.5, 2.2))
    return _person(rng, p, size, {"left_arm": -lift, "right_arm": lift})


def nod(rng: KeyedRandom, p: Series, size: float) -> BodyTrack:
    """Nod: the head goes down and up."""
    return _person(rng, p, size, {"nod": _wave_between(rng, p, 0.0, 1.0, (1.6, 2.3))})


def tilt_head(rng: KeyedRandom, p: Series, size: float) -> BodyTrack:
    """Tilt the head from side to side."""
    return _person(rng, p, size, {"head": _wave_between(rng, p, -1.0, 1.0, (1.4, 2.1))})


def kick(rng: KeyedRandom, p: Series, size: float, *, side: str) -> BodyTrack:
    """Kick to the side once."""
    lift = _SIDES[side] * rng.uniform(1.2, 1.5) * there_and_back(p)
    return _person(rng, p, size, {f"{side}_leg": lift, "torso": -0.15 * lift})


def _gait(rng: KeyedRandom, p: Series, cycles: tuple[float, float]) -> dict[str, Series | float]:
    swing = 0.62 * sway(p, rng.uniform(*cycles), rng.uniform(0, 1))
    return {
        "left_leg": swing,
        "right_leg": -swing,
        "left_arm": -0.9 * swing,
        "right_arm": 0.9 * swing,
    }


def walk(rng: KeyedRandom, p: Series, size: float, *, distance: float) -> BodyTrack:
    """Walk so far to the right, or on the spot; arms and legs swing against each other."""
    way = distance * rng.uniform(0.85, 1.1) * p
    return _person(rng, p, size, _gait(rng, p, (1.7, 2.3)), dx=way)


def sit_down(rng: KeyedRandom, p: Series, size: float) -> BodyTrack:
    """Sit down, seen from either side: thighs become level, shins stay upright."""
    bend = rng.uniform(1.35, 1.55) * p
    pose = {f"{side}_leg": bend for side in _SIDES} | {f"{side}_shin": -bend for side in _SIDES}
    drop = THIGH * _SCALE * size * (1 - np.cos(bend))
    return _person(rng, p, size, pose, dy=drop, width=rng.choice((-1.0, 1.0)))


def crouch(rng: KeyedRandom, p: Series, size: float) -> BodyTrack:
    """Bend both knees outwards and stretch them again, with level arms."""
    bend = rng.uniform(1.0, 1.3) * there_and_back(p)
    pose: dict[str, Series | float] = {"left_arm": -1.5, "right_arm": 1.5}
    for side, sign in _SIDES.items():
        pose |= {f"{side}_leg": sign * bend, f"{side}_shin": -1.8 * sign * bend}
    return _person(rng, p, size, pose, dy=THIGH * _SCALE * size * 1.6 * (1 - np.cos(bend)))


def bow(rng: KeyedRandom, p: Series, size: float) -> BodyTrack:
    """Bow to either side from the hips; the arms hang down."""
    bend = rng.uniform(1.2, 1.6) * p
    pose = {"torso": bend, "left_arm": 0.3 * p - 0.2, "right_arm": 0.2 - 0.1 * p}
    return _person(rng, p, size, pose, width=rng.choice((-1.0, 1.0)))


def sway_torso(rng: KeyedRandom, p: Series, size: float) -> BodyTrack:
    """Bend from side to side with the arms above the head."""
    bend = _wave_between(rng, p, -0.75, 0.75, (1.1, 1.6))
    return _person(rng, p, size, {"torso": bend, "left_arm": -2.8 + bend, "right_arm": 2.8 + bend})


def spread_legs(rng: KeyedRandom, p: Series, size: float) -> BodyTrack:
    """Slide the legs apart, so that the body sinks."""
    spread = 0.08 + rng.uniform(1.0, 1.25) * p
    drop = 2 * THIGH * _SCALE * size * (1 - np.cos(spread))
    return _person(rng, p, size, {"left_leg": -spread, "right_leg": spread}, dy=drop)


def jump(rng: KeyedRandom, p: Series, size: float) -> BodyTrack:
    """Jump up once, with knees bent and arms up in the air."""
    air = there_and_back(np.clip((p - 0.2) / 0.6, 0, 1))
    pose: dict[str, Series | float] = {}
    for side, sign in _SIDES.items():
        pose |= {
            f"{side}_leg": sign * 0.9 * air,
            f"{side}_shin": -sign * 1.5 * air,
            f"{side}_arm": sign * (0.2 + 2.0 * air),
        }
    return _person(rng, p, size, pose, dy=-rng.uniform(0.2, 0.28) * air)


def jumping_jack(rng: KeyedRandom, p: Series, size: float) -> BodyTrack:
    """Open and close arms and legs together."""
    spread = _wave_between(rng, p, 0.0, 1.0, (1.5, 2.2))
    pose: dict[str, Series | float] = {}
    for side, sign in _SIDES.items():
        pose |= {
            f"{side}_arm": sign * (0.25 + 2.3 * spread),
            f"{side}_leg": sign * (0.06 + 0.6 * spread),
        }
    return _person(rng, p, size, pose)


def fall(rng: KeyedRandom, p: Series, size: float, *, side: str) -> BodyTrack:
    """Fall over to a side like a tree, about the feet."""
    angle, length = _SIDES[side] * rng.uniform(1.35, 1.55) * p**1.4, 0.98 * _SCALE * size
    way = length * np.sin(angle), length * (1 - np.cos(angle))
    return _person(rng, p, size, {}, *way, angle=angle)


def cartwheel(rng: KeyedRandom, p: Series, size: float) -> BodyTrack:
    """Turn a cartwheel to the right with stretched limbs."""
    pose = {"left_arm": -2.4, "right_arm": 2.4, "left_leg": -0.55, "right_leg": 0.55}
    turned = TURN * rng.uniform(0.9, 1.05) * p
    return _person(rng, p, 0.8 * size, pose, dx=rng.uniform(0.36, 0.46) * p, angle=turned)


def swing_arm(rng: KeyedRandom, p: Series, size: float, *, side: str) -> BodyTrack:
    """Swing a stretched arm clockwise around, about once."""
    angle = TURN * rng.uniform(0.95, 1.25) * p + rng.uniform(0, TURN)
    return _person(rng, p, size, {f"{side}_arm": -angle})


REVERSIBLE = {
    ("raises-left-arm", "lowers-left-arm"): partial(raise_arms, sides=("left",)),
    ("raises-right-arm", "lowers-right-arm"): partial(raise_arms, sides=("right",)),
    ("raises-both-arms", "lowers-both-arms"): partial(raise_arms, sides=("left", "right")),
    ("swings-left-arm-clockwise", "swings-left-arm-counterclockwise"): partial(
        swing_arm, side="left"
    ),
    ("swings-right-arm-clockwise", "swings-right-arm-counterclockwise"): partial(
        swing_arm, side="right"
    ),
    ("walks-right", "walks-left"): partial(walk, distance=0.42),
    ("sits-down", "stands-up"): sit_down,
    ("bows", "rises-from-a-bow"): bow,
    ("spreads-legs", "closes-legs"): spread_legs,
    ("falls-over-to-the-right", "gets-up-from-the-right"): partial(fall, side="right"),
    ("falls-over-to-the-left", "gets-up-from-the-left"): partial(fall, side="left"),
    ("cartwheels-right", "cartwheels-left"): cartwheel,
}
"""By the names of a motion and of its reverse: the motion."""

SYMMETRIC = {
    "waves-left-hand": partial(wave_hands, sides=("left",)),
    "waves-right-hand": partial(wave_hands, sides=("right",)),
    "waves-both-hands": partial(wave_hands, sides=("left", "right")),
    "punches-left": partial(punch, side="left"),
    "punches-right": partial(punch, side="right"),
    "kicks-left": partial(kick, side="left"),
    "kicks-right": partial(kick, side="right"),
    "claps": clap,
    "flaps-arms": flap,
    "nods": nod,
    "tilts-head-to-and-fro": tilt_head,
    "walks-on-the-spot": partial(walk, distance=0.0),
    "crouches-and-rises": crouch,
    "bends-to-and-fro": sway_torso,
    "jumps-up": jump,
    "does-jumping-jacks": jumping_jack,
}
"""By name: motions that are the same kind in reverse."""
