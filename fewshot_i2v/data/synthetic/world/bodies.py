"""Bodies of the generated world: shapes with a texture, creatures made of limbs, and persons."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewshot_i2v.data.synthetic.shapes import SHAPES, TEXTURES, DistanceField, KeyedRandom, Pixels
from fewshot_i2v.data.synthetic.world.body_track import Series
from fewshot_i2v.data.synthetic.world.figure_motions import THIGH

Rgb = NDArray[np.float32]

_HEXAGON_SIDE = np.float32(math.sqrt(0.75))
_MIN_CONTRAST = 0.6


def _hexagon(u: Pixels, v: Pixels) -> Pixels:
    x, y = np.abs(u), np.abs(v)
    return np.maximum(x * _HEXAGON_SIDE + y * np.float32(0.5), y) - np.float32(0.85)


def _half_disc(u: Pixels, v: Pixels) -> Pixels:
    return np.maximum(np.sqrt(u * u + v * v) - np.float32(1), -v - np.float32(0.1))


def _corner(u: Pixels, v: Pixels) -> Pixels:
    outer = np.maximum(np.abs(u), np.abs(v)) - np.float32(0.85)
    return np.maximum(outer, -np.maximum(-u - np.float32(0.15), v - np.float32(0.15)))


def _arrow(u: Pixels, v: Pixels) -> Pixels:
    shaft = np.maximum(np.abs(u) - np.float32(0.28), np.abs(v - np.float32(0.4)) - np.float32(0.55))
    tip = np.maximum(
        (np.abs(u) - np.float32(0.9) - v) * np.float32(math.sqrt(0.5)), v - np.float32(0.1)
    )
    return np.minimum(shaft, tip)


def _bar(u: Pixels, v: Pixels) -> Pixels:
    return np.maximum(np.abs(u) - np.float32(0.98), np.abs(v) - np.float32(0.4))


def _halves(u: Pixels, v: Pixels) -> Pixels:
    return u + np.zeros_like(v)


def _spot(u: Pixels, v: Pixels) -> Pixels:
    x, y = u - np.float32(0.3), v + np.float32(0.3)
    return np.float32(0.34) - np.sqrt(x * x + y * y)


WORLD_SHAPES: dict[str, DistanceField] = {
    **SHAPES,
    "hexagon": _hexagon,
    "half-disc": _half_disc,
    "corner": _corner,
    "arrow": _arrow,
    "bar": _bar,
}
"""Signed distance to the outline (negative inside), in units of the body's size."""

WORLD_TEXTURES: dict[str, DistanceField] = {
    **{name: texture for name, texture in TEXTURES.items() if name != "plain"},
    "halves": _halves,
    "spot": _spot,
}
"""Signed distance to the edge of where the second colour shows (above 0); all show a rotation."""

_SOLID_SHAPES = ("circle", "square", "hexagon")
_JOINTED = "person"


@dataclass(frozen=True)
class Body:
    """Appearance of one body.

    Attributes:
        kind: "shape", "creature" or "person".
        shape: a key of `WORLD_SHAPES`; "" where the body is made of limbs.
        texture: a key of `WORLD_TEXTURES`; "" where the body is made of limbs.
        colours: of a shape the main and the second colour, else one for each limb, (n, 3), 0 to 1.
        limbs: of a creature, (n, 5): start x and y, end x and y, and radius of each.
        lengths: of a person, by name, in units of half its height.
        rest_pose: of a person, angles of joints at rest, radians.
    """

    kind: str
    shape: str
    texture: str
    colours: Rgb
    limbs: Pixels
    lengths: Mapping[str, float]
    rest_pose: Mapping[str, float]


def random_body(rng: KeyedRandom, kind: str, ground: Rgb) -> Body:
    """Choose a random body.

    Args:
        rng: the source of randomness.
        kind: "any", "person" or "solid".
        ground: mean colour of the backdrop (3,), from which the body stands out.
    """
    main = _contrasting_colour(rng, ground)
    second = _shaded(rng, main, ground)
    no_limbs = np.zeros((0, 5), np.float32)
    if kind == "any":
        kind = rng.choice(("shape", "shape", "creature", "person"))
    if kind == "person":
        return Body(
            kind,
            "",
            "",
            _person_colours(rng, main, second),
            no_limbs,
            _lengths(rng),
            _resting_joints(rng),
        )
    if kind == "creature":
        limbs = _creature_limbs(rng)
        colours = np.stack([main if rng.chance(0.6) else second for _ in limbs])
        return Body(kind, "", "", colours, limbs, {}, {})
    shapes = _SOLID_SHAPES if kind == "solid" else tuple(WORLD_SHAPES)
    shape, texture = rng.choice(shapes), rng.choice(tuple(WORLD_TEXTURES))
    return Body("shape", shape, texture, np.stack([main, second]), no_limbs, {}, {})


def _random_colour(rng: KeyedRandom) -> Rgb:
    return np.array([rng.uniform(0, 1) for _ in range(3)], np.float32)


def _contrasting_colour(rng: KeyedRandom, ground: Rgb) -> Rgb:
    """Return a random colour far from that of the ground: of several, the first that is."""
    colours = [_random_colour(rng) for _ in range(12)]
    distances = [float(np.sqrt(((colour - ground) ** 2).sum())) for colour in colours]
    for colour, distance in zip(colours, distances, strict=True):
        if distance >= _MIN_CONTRAST:
            return colour
    return colours[int(np.argmax(distances))]


def _shaded(rng: KeyedRandom, colour: Rgb, ground: Rgb) -> Rgb:
    """Return a much darker or lighter colour, of the two the one farther from the ground."""
    share = np.float32(rng.uniform(0.5, 0.85))
    dark = colour * (1 - share)
    light = colour + share * (1 - colour)
    return max(dark, light, key=lambda shade: float(((shade - ground) ** 2).sum()))


def _person_colours(rng: KeyedRandom, main: Rgb, second: Rgb) -> Rgb:
    """Return the colours of trunk, head, two arms of two limbs, two legs of two limbs."""
    sleeves, legs, head = (main if rng.chance(0.5) else second for _ in range(3))
    return np.stack([main, head, sleeves, sleeves, sleeves, sleeves, legs, legs, legs, legs])


def _lengths(rng: KeyedRandom) -> dict[str, float]:
    return {
        "trunk": rng.uniform(0.5, 0.6),
        "head": rng.uniform(0.17, 0.25),
        "shoulder": rng.uniform(0.14, 0.24),
        "hip": rng.uniform(0.08, 0.14),
        "arm": rng.uniform(0.34, 0.42),
        "forearm": rng.uniform(0.32, 0.4),
        "thickness": rng.uniform(0.075, 0.12),
    }


def _resting_joints(rng: KeyedRandom) -> dict[str, float]:
    """Return joints at rest: hanging arms, or any, whatever the person then does."""
    widest_arm, widest_leg = (0.35, 0.14) if rng.chance(0.6) else (2.4, 0.3)
    return {
        "left_arm": -rng.uniform(0.15, widest_arm),
        "right_arm": rng.uniform(0.15, widest_arm),
        "left_leg": -rng.uniform(0.06, widest_leg),
        "right_leg": rng.uniform(0.06, widest_leg),
    }


def _creature_limbs(rng: KeyedRandom) -> Pixels:
    """Return a trunk with two to five limbs, (n, 5), that fits into a circle of radius 1."""
    half, thick = rng.uniform(0.2, 0.5), rng.uniform(0.2, 0.34)
    limbs = [(-half, 0.0, half, 0.0, thick)]
    for _ in range(2 + int(rng.uniform(0, 4))):
        start, angle = rng.uniform(-half, half), rng.uniform(0, 2 * math.pi)
        length = rng.uniform(0.5, 0.95)
        end = start + length * math.cos(angle), length * math.sin(angle)
        limbs.append((start, 0.0, *end, rng.uniform(0.07, 0.17)))
    array = np.asarray(limbs)
    reach = (np.sqrt((array[:, 2:4] ** 2).sum(-1)) + array[:, 4]).max()
    return (array / max(float(reach), 0.8)).astype(np.float32)


def limbs_over_time(body: Body, pose: Mapping[str, Series], n_frames: int) -> Pixels:
    """Return the limbs of a creature or person at each time, (T, n, 5), in units of its size.

    Args:
        body: a creature or person.
        pose: angles of joints (T,), in place of those at rest.
        n_frames: T.
    """
    if body.kind != _JOINTED:
        return np.repeat(body.limbs[None], n_frames, 0)
    lengths = body.lengths
    zeros = np.zeros(n_frames)
    joints = {name: angle + zeros for name, angle in body.rest_pose.items()} | dict(pose)
    torso, thick = joints.get("torso", zeros), lengths["thickness"]
    up = np.sin(torso), -np.cos(torso)
    hip = (zeros, zeros + 0.08)
    neck = hip[0] + lengths["trunk"] * up[0], hip[1] + lengths["trunk"] * up[1]
    limbs = [(*hip, *neck, zeros + 1.6 * thick), _head(body, joints, neck, torso)]
    for side, sign in (("left", -1.0), ("right", 1.0)):
        across = sign * lengths["shoulder"]
        # along the shoulders, a little below the neck
        start = (
            neck[0] - across * up[1] - 0.06 * up[0],
            neck[1] + across * up[0] - 0.06 * up[1],
        )
        upper = joints[f"{side}_arm"]
        lower = upper + joints.get(f"{side}_forearm", zeros)
        limbs += _two_limbs(start, (upper, lower), (lengths["arm"], lengths["forearm"]), thick)
    for side, sign in (("left", -1.0), ("right", 1.0)):
        start = hip[0] + sign * lengths["hip"], hip[1]
        upper = joints[f"{side}_leg"]
        lower = upper + joints.get(f"{side}_shin", zeros)
        limbs += _two_limbs(start, (upper, lower), (THIGH, THIGH), 1.15 * thick)
    return np.asarray(limbs, np.float32).transpose(2, 0, 1)


_Point = tuple[Series, Series]
_Limb = tuple[Series, Series, Series, Series, Series]


def _head(body: Body, joints: Mapping[str, Series], neck: _Point, torso: Series) -> _Limb:
    zeros, radius = np.zeros_like(torso), body.lengths["head"]
    angle = torso + joints.get("head", zeros)
    distance = radius * (1.2 - 1.7 * joints.get("nod", zeros))
    x, y = neck[0] + distance * np.sin(angle), neck[1] - distance * np.cos(angle)
    # longer than wide, so that its tilt is seen
    dx, dy = 0.35 * radius * np.sin(angle), -0.35 * radius * np.cos(angle)
    return (x, y, x + dx, y + dy, zeros + radius)


def _two_limbs(
    start: _Point, angles: tuple[Series, Series], lengths: tuple[float, float], thickness: float
) -> list[_Limb]:
    radius = np.zeros_like(angles[0]) + thickness
    limbs: list[_Limb] = []
    for angle, length in zip(angles, lengths, strict=True):
        end = start[0] + length * np.sin(angle), start[1] + length * np.cos(angle)
        limbs.append((*start, *end, radius))
        start = end
    return limbs
