"""Shapes and textures of generated objects, as functions of pixel coordinates.

Only sums, products, square roots and comparisons of 32-bit numbers: these are rounded identically
on all machines, so the same clip has the same bytes everywhere.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]
DistanceField = Callable[[Pixels, Pixels], Pixels]


def _length(u: Pixels, v: Pixels) -> Pixels:
    return np.sqrt(u * u + v * v)


def _circle(u: Pixels, v: Pixels) -> Pixels:
    return _length(u, v) - np.float32(0.95)


def _square(u: Pixels, v: Pixels) -> Pixels:
    return np.maximum(np.abs(u), np.abs(v)) - np.float32(0.82)


def _triangle(u: Pixels, v: Pixels) -> Pixels:
    side = np.abs(u) * np.float32(math.cos(math.pi / 6)) - v * np.float32(0.5)
    return np.maximum(side - np.float32(0.58), v - np.float32(0.58))


def _star(u: Pixels, v: Pixels) -> Pixels:
    """Distance to a five-pointed star: folded into half of one point, whose edge is straight."""
    x, y = np.abs(u), -v
    nx, ny = np.float32(math.cos(math.pi / 5)), np.float32(math.sin(math.pi / 5))
    for _ in range(2):
        # mirror what lies beyond the line between two points, 36 degrees from the vertical
        beyond = np.maximum(x * nx - y * ny, np.float32(0)) * np.float32(2)
        x, y = np.abs(x - beyond * nx), y + beyond * ny
    tip, notch = 1.12, 0.5
    ex, ey = notch * math.sin(math.pi / 5), notch * math.cos(math.pi / 5)
    length = math.hypot(ex, tip - ey)
    a, b = np.float32((tip - ey) / length), np.float32(ex / length)
    return x * a + (y - np.float32(tip)) * b


def _ring(u: Pixels, v: Pixels) -> Pixels:
    return np.abs(_length(u, v) - np.float32(0.72)) - np.float32(0.25)


def _cross(u: Pixels, v: Pixels) -> Pixels:
    x, y = np.abs(u), np.abs(v)
    half_width = np.float32(0.34)
    return np.maximum(np.maximum(x, y) - np.float32(1), np.minimum(x, y) - half_width)


def _heart(u: Pixels, v: Pixels) -> Pixels:
    """A square standing on its corner, with a half circle on each of its upper sides."""
    x, y = np.abs(u), v - np.float32(0.12)
    square = (x + np.abs(y)) * np.float32(math.sqrt(0.5)) - np.float32(0.57)
    lobe = _length(x - np.float32(0.4), y + np.float32(0.4)) - np.float32(0.57)
    return np.minimum(square, lobe)


def _crescent(u: Pixels, v: Pixels) -> Pixels:
    bite = np.float32(0.74) - _length(u - np.float32(0.5), v)
    return np.maximum(_length(u, v) - np.float32(0.98), bite)


SHAPES: dict[str, DistanceField] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "ring": _ring,
    "cross": _cross,
    "heart": _heart,
    "crescent": _crescent,
}
"""Signed distance to the outline (negative inside), in units of the object's radius."""


def _stripe_distance(u: Pixels, period: float) -> Pixels:
    """Signed distance to the edges of stripes that are half a period wide."""
    turns = u * np.float32(1 / period)
    from_centre = np.abs(turns - np.floor(turns) - np.float32(0.5))
    return (from_centre * np.float32(4) - np.float32(1)) * np.float32(period / 4)


def _plain(u: Pixels, v: Pixels) -> Pixels:
    return np.full_like(u, -1)


def _striped(u: Pixels, v: Pixels) -> Pixels:
    return _stripe_distance(u, 0.72)


def _checked(u: Pixels, v: Pixels) -> Pixels:
    x, y = _stripe_distance(u + np.float32(0.25), 1.0), _stripe_distance(v + np.float32(0.25), 1.0)
    # the distance to the nearest edge of either, with the sign of their product
    return np.sign(x * y) * np.minimum(np.abs(x), np.abs(y))


def _dotted(u: Pixels, v: Pixels) -> Pixels:
    period = np.float32(0.78)
    x, y = u / period, v / period
    x, y = x - np.floor(x) - np.float32(0.5), y - np.floor(y) - np.float32(0.5)
    return np.float32(0.25) - _length(x, y) * period


TEXTURES: dict[str, DistanceField] = {
    "plain": _plain,
    "striped": _striped,
    "checked": _checked,
    "dotted": _dotted,
}
"""Signed distance to the edge of where the second colour shows (above 0), in radii."""

ROTATION_INVARIANT = frozenset({("circle", "plain"), ("ring", "plain")})
"""Shapes with textures that look the same at every angle."""


T = TypeVar("T")


class KeyedRandom:
    """A stream of random numbers that is a pure function of its key.

    Only uniform doubles are taken from numpy: their construction from the bits of the Philox
    counter is the only part of numpy's generators that has never changed between versions.

    Args:
        key: what the stream is for, from general to particular, such as
            ("motions", 1, 0, "moves-up", 3, "look").
    """

    def __init__(self, *key: str | int) -> None:
        joined = "\x1f".join(str(component) for component in key)
        digest = hashlib.blake2b(joined.encode("utf-8"), digest_size=16).digest()
        words = np.frombuffer(digest, dtype="<u8").astype(np.uint64)
        self._generator = np.random.Generator(np.random.Philox(key=words))

    def uniform(self, low: float, high: float) -> float:
        """Return a number from [low, high)."""
        return low + (high - low) * self._generator.random()

    def choice(self, options: Sequence[T]) -> T:
        """Return a random element of `options`, all equally likely."""
        return options[int(self._generator.random() * len(options))]

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return self._generator.random() < probability

    def grid(self, rows: int, columns: int) -> NDArray[np.float64]:
        """Return numbers from [0, 1) in an array (rows, columns)."""
        return self._generator.random((rows, columns))
