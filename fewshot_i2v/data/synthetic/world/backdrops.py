"""Backdrops of the generated world: textured and cluttered pictures, larger than a frame."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fewshot_i2v.data.synthetic.shapes import KeyedRandom, Pixels

MARGIN = 0.35
"""How far the backdrop reaches beyond each side of the frame, as a fraction of its side."""

_Grid = Callable[[KeyedRandom, Pixels], Pixels]


def random_world_backdrop(rng: KeyedRandom, size: int) -> Pixels:
    """Make a random picture, (3, C, C), 0 to 1, with C = size * (1 + 2 MARGIN) rounded up.

    Args:
        rng: the source of randomness.
        size: side of a frame, in pixels.
    """
    side = math.ceil(size * (1 + 2 * MARGIN))
    centres = (np.arange(side, dtype=np.float32) + np.float32(0.5)) / np.float32(side)
    first, second = (_random_colour(rng) for _ in range(2))
    # the pattern goes part of the way to the second colour: bodies must stand out
    second = first + np.float32(rng.uniform(0.15, 0.55)) * (second - first)
    pattern = PATTERNS[rng.choice(tuple(PATTERNS))](rng, centres)
    backdrop: Pixels = first + (second - first) * pattern
    grain = _octaves(rng, centres, (5, 11, 23)) - np.float32(0.5)
    backdrop = backdrop + np.float32(rng.uniform(0.05, 0.3)) * grain
    if rng.chance(0.4):
        _add_clutter(rng, backdrop)
    return np.clip(backdrop, np.float32(0), np.float32(1))


def _random_colour(rng: KeyedRandom) -> Pixels:
    return np.array([rng.uniform(0.05, 0.95) for _ in range(3)], np.float32)[:, None, None]


def _even(rng: KeyedRandom, centres: Pixels) -> Pixels:
    return np.zeros((len(centres), len(centres)), np.float32)


def _along(rng: KeyedRandom, centres: Pixels) -> Pixels:
    """Return the distance along a random direction, -0.7 to 0.7."""
    angle = rng.uniform(0, 2 * math.pi)
    x, y = centres - np.float32(0.5), centres[:, None] - np.float32(0.5)
    return np.float32(math.cos(angle)) * x + np.float32(math.sin(angle)) * y


def _gradient(rng: KeyedRandom, centres: Pixels) -> Pixels:
    return _along(rng, centres) * np.float32(0.7) + np.float32(0.5)


def _stripes(rng: KeyedRandom, centres: Pixels) -> Pixels:
    turns = _along(rng, centres) * np.float32(rng.uniform(4, 14))
    wave = np.abs(turns - np.floor(turns) - np.float32(0.5)) * np.float32(2)
    sharpness = np.float32(rng.uniform(1, 6))
    return np.clip((wave - np.float32(0.5)) * sharpness + np.float32(0.5), 0, 1)


def _tiles(rng: KeyedRandom, centres: Pixels) -> Pixels:
    """Tiles of random brightness with joints between them."""
    count = 4 + int(rng.uniform(0, 8))
    position = centres * np.float32(count)
    cell = np.minimum(position.astype(np.int64), count - 1)
    shades = rng.grid(count, count).astype(np.float32)[cell][:, cell]
    offset = np.abs(position - np.floor(position) - np.float32(0.5))
    joint = np.maximum(offset, offset[:, None]) > np.float32(0.46)
    return np.where(joint, np.float32(1), shades * np.float32(rng.uniform(0.2, 0.8)))


def _checks(rng: KeyedRandom, centres: Pixels) -> Pixels:
    cell = (centres * np.float32(rng.uniform(4, 12))).astype(np.int64)
    return ((cell + cell[:, None]) % 2).astype(np.float32)


def _clouds(rng: KeyedRandom, centres: Pixels) -> Pixels:
    """Noise of many octaves, as in photographs."""
    return _octaves(rng, centres, (4, 7, 13, 25, 49)) * np.float32(1.6) - np.float32(0.3)


def _octaves(rng: KeyedRandom, centres: Pixels, counts: tuple[int, ...]) -> Pixels:
    """Sum noise of finer and finer grids, each weaker than the one before; about 0 to 1."""
    out, weight, total = np.zeros((len(centres), len(centres)), np.float32), 1.0, 0.0
    for count in counts:
        out += np.float32(weight) * interpolate(rng.grid(count, count).astype(np.float32), centres)
        total, weight = total + weight, 0.6 * weight
    return out / np.float32(total)


def interpolate(grid: Pixels, points: Pixels) -> Pixels:
    """Interpolate a grid (n, n) at points 0 to 1 of both axes."""
    position = points * np.float32(len(grid) - 1)
    lower = np.minimum(position.astype(np.int64), len(grid) - 2)
    fraction = position - lower.astype(np.float32)
    rows = grid[lower] + (grid[lower + 1] - grid[lower]) * fraction[:, None]
    left = rows[:, lower]
    return left + (rows[:, lower + 1] - left) * fraction


PATTERNS: dict[str, _Grid] = {
    "even": _even,
    "gradient": _gradient,
    "stripes": _stripes,
    "tiles": _tiles,
    "checks": _checks,
    "clouds": _clouds,
}
"""Patterns by name: from points of both axes, 0 to 1, to weights of the second colour, (C, C)."""


def _add_clutter(rng: KeyedRandom, backdrop: Pixels) -> None:
    """Paint rectangles and discs of colours near that of the backdrop, in place."""
    side = backdrop.shape[-1]
    mean = backdrop.mean((1, 2), keepdims=True)
    strength = np.float32(rng.uniform(0.2, 0.5))
    for _ in range(8 + int(rng.uniform(0, 22))):
        half_width, half_height = rng.uniform(0.02, 0.09) * side, rng.uniform(0.02, 0.09) * side
        x, y = rng.uniform(0, side), rng.uniform(0, side)
        rows = slice(max(int(y - half_height), 0), int(y + half_height) + 1)
        columns = slice(max(int(x - half_width), 0), int(x + half_width) + 1)
        colour = mean + strength * (_random_colour(rng) - mean)
        area = backdrop[:, rows, columns]
        if rng.chance(0.5):
            area[...] = colour
            continue
        v = (np.arange(rows.start, rows.start + area.shape[1]) - y) / half_height
        u = (np.arange(columns.start, columns.start + area.shape[2]) - x) / half_width
        inside = (u * u + (v * v)[:, None] < 1).astype(np.float32)
        area += inside * (colour - area)
