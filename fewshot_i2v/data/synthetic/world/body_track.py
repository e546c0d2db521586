"""Tracks of bodies over time, and the helpers from which motions are made.

Lengths are fractions of the frame's side; x points right and y points down; angles are in radians
and grow clockwise on the screen. Progress is an array (T,) from 0 to 1. Every motion is computed
pointwise in time, so its reverse is the same motion with the progress in reverse order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewshot_i2v.data.synthetic.shapes import KeyedRandom

Series = NDArray[np.float64]
Points = Sequence[tuple[float, float]]
TURN = 2 * math.pi
_MARGIN = 1.0  # in sizes, between a body's centre and the edge of the frame


@dataclass(frozen=True)
class BodyTrack:
    """What one body does at each of T times.

    Attributes:
        x: centre from the left edge (T,), fraction of the frame.
        y: centre from the top edge (T,), fraction of the frame.
        size: half of its extent (T,), fraction of the frame.
        angle: rotation (T,), radians, clockwise.
        width: factor on its width (T,); below 0 it is mirrored.
        height: factor on its height (T,); below 0 it is mirrored.
        lean: shear (T,): how far the top is moved to the right, per unit of height.
        light: factor on its colours (T,), 0 to 1.
        opacity: 0 (hidden) to 1 (shown), (T,).
        pose: angles of joints by name, (T,) radians, of a person; a joint that is not named rests.
        body: "any", "person" (it has joints) or "solid" (it can hide what is behind it).
        depth: bodies of higher depth are painted over those of lower.
    """

    x: Series
    y: Series
    size: Series
    angle: Series
    width: Series
    height: Series
    lean: Series
    light: Series
    opacity: Series
    pose: Mapping[str, Series] = field(default_factory=dict)
    body: str = "any"
    depth: int = 1


Tracks = tuple[BodyTrack, ...]


def make_track(
    rng: KeyedRandom,
    progress: Series,
    size: float,
    dx: Series | float = 0.0,
    dy: Series | float = 0.0,
    **changes: Any,
) -> BodyTrack:
    """Make the track of one body at a random position where all of its path is in the frame.

    Args:
        rng: the source of randomness.
        progress: of the motion (T,).
        size: of the body, fraction of the frame.
        dx: path relative to its position (T,); a number: it stays.
        dy: likewise.
        changes: other fields of `BodyTrack`.
    """
    (track,) = place_together(rng, progress, size, [(dx, dy)])
    return with_changes(track, **changes)


def with_changes(track: BodyTrack, **changes: Any) -> BodyTrack:
    """Return the track with other values; numbers become constant series."""
    values = dict(vars(track))
    for name, value in changes.items():
        is_series = name not in ("pose", "body", "depth")
        values[name] = value + np.zeros_like(track.x) if is_series else value
    return BodyTrack(**values)


def place_together(
    rng: KeyedRandom,
    progress: Series,
    size: float,
    paths: Sequence[tuple[Series | float, Series | float]],
) -> list[BodyTrack]:
    """Make tracks of bodies whose paths belong together, all at one random position.

    Args:
        rng: the source of randomness.
        progress: of the motion (T,).
        size: of each body.
        paths: (dx, dy) of each, relative to the common position.
    """
    zeros = np.zeros_like(progress)
    x = shift_into_frame(rng, np.stack([dx + zeros for dx, _ in paths]), _MARGIN * size)
    y = shift_into_frame(rng, np.stack([dy + zeros for _, dy in paths]), _MARGIN * size)
    ones = np.ones_like(progress)
    return [
        BodyTrack(
            x=x[i],
            y=y[i],
            size=size * ones,
            angle=rng.uniform(-0.3, 0.3) * ones,
            width=rng.choice((-1.0, 1.0)) * ones,
            height=ones,
            lean=zeros,
            light=ones,
            opacity=ones,
        )
        for i in range(len(paths))
    ]


def shift_into_frame(rng: KeyedRandom, coordinates: Series, margin: float) -> Series:
    """Shift coordinates at random, so that all of them lie in the frame."""
    low, high = margin - float(coordinates.min()), 1 - margin - float(coordinates.max())
    if high < low:  # longer than the room there is: centred
        low = high = (low + high) / 2
    return coordinates + rng.uniform(low, high)


def rotate(dx: Series | float, dy: Series | float, angle: float) -> tuple[Series, Series]:
    """Rotate a path clockwise by an angle in radians."""
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.asarray(dx * cosine - dy * sine), np.asarray(dx * sine + dy * cosine)


def follow(points: Points, progress: Series) -> tuple[Series, Series]:
    """Follow a line through points at constant speed; returns x and y at each progress."""
    corners = np.asarray(points, np.float64)
    lengths = np.sqrt((np.diff(corners, axis=0) ** 2).sum(-1))
    reached = np.concatenate([[0.0], np.cumsum(lengths)]) / lengths.sum()
    return np.interp(progress, reached, corners[:, 0]), np.interp(progress, reached, corners[:, 1])


def sway(progress: Series, cycles: float, phase: float) -> Series:
    """Return a sine between -1 and 1, so many cycles over the clip."""
    return np.sin(TURN * (cycles * progress + phase))


def there_and_back(progress: Series) -> Series:
    """Return 0 at both ends and 1 in the middle."""
    return np.sin(math.pi * progress)


def ramp(progress: Series, start: float, end: float) -> Series:
    """Return 0 until `start`, 1 from `end` on, and a straight line in between."""
    return np.clip((progress - start) / (end - start), 0, 1)
