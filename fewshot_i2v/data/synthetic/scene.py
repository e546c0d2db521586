"""How generated clips look: random objects and backgrounds, and their pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewshot_i2v.data.synthetic.motions import Track
from fewshot_i2v.data.synthetic.shapes import ROUND, SHAPES, TEXTURES, Draws, Pixels

Colour = tuple[float, float, float]

COLOURS: dict[str, Colour] = {
    "red": (0.90, 0.13, 0.13),
    "orange": (0.98, 0.52, 0.05),
    "yellow": (0.97, 0.92, 0.15),
    "green": (0.15, 0.75, 0.20),
    "cyan": (0.10, 0.85, 0.88),
    "blue": (0.18, 0.32, 0.98),
    "purple": (0.58, 0.20, 0.85),
    "pink": (0.99, 0.55, 0.75),
    "white": (0.95, 0.95, 0.95),
}
BACKGROUNDS: dict[str, Colour] = {
    "black": (0.05, 0.05, 0.05),
    "grey": (0.42, 0.42, 0.42),
    "dark blue": (0.06, 0.09, 0.34),
    "dark green": (0.05, 0.26, 0.10),
    "dark red": (0.34, 0.05, 0.07),
    "brown": (0.36, 0.22, 0.10),
    "beige": (0.80, 0.73, 0.60),
    "light blue": (0.60, 0.78, 0.93),
}
BACKDROPS = ("even", "gradient", "striped", "cloudy")
_LEAST_CONTRAST = 0.5
_RIM = np.float32(0.1)  # in radii


@dataclass(frozen=True)
class Look:
    """What one object looks like.

    Attributes:
        shape: a key of `SHAPES`.
        texture: a key of `TEXTURES`.
        colour: a key of `COLOURS`.
        first: its colour as drawn, red, green, blue, 0 to 1.
        second: the other colour of its texture.
    """

    shape: str
    texture: str
    colour: str
    first: Colour
    second: Colour


def _near(draws: Draws, colour: Colour, spread: float) -> Colour:
    red, green, blue = (min(1.0, max(0.0, c + draws.uniform(-spread, spread))) for c in colour)
    return (red, green, blue)


def _distance(a: Colour, b: Colour) -> float:
    return float(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5)


def _mix(a: Colour, b: Colour, share: float) -> Colour:
    red, green, blue = (x + share * (y - x) for x, y in zip(a, b, strict=True))
    return (red, green, blue)


def draw_background(draws: Draws) -> str:
    """A key of `BACKGROUNDS`."""
    return draws.pick(tuple(BACKGROUNDS))


def draw_look(draws: Draws, background: str, form: tuple[str, str] | None = None) -> Look:
    """A random look that stands out from the background.

    Args:
        draws: where the randomness comes from.
        background: a key of `BACKGROUNDS`.
        form: shape and texture; drawn when None, without those that show no rotation.
    """
    forms = tuple((s, t) for s in SHAPES for t in TEXTURES if (s, t) not in ROUND)
    shape, texture = form or draws.pick(forms)
    behind = BACKGROUNDS[background]
    names = [n for n, c in COLOURS.items() if _distance(c, behind) >= _LEAST_CONTRAST]
    name = draws.pick(names)
    first = _near(draws, COLOURS[name], 0.06)
    pale = name in ("white", "yellow", "cyan", "pink") or draws.chance(0.5)
    second = _mix(first, (0.0, 0.0, 0.0) if pale else (1.0, 1.0, 1.0), 0.72)
    return Look(shape, texture, name, first, second)


def draw_backdrop(draws: Draws, background: str, size: int) -> Pixels:
    """The picture behind the objects, (3, size, size), 0 to 1."""
    colour = _near(draws, BACKGROUNDS[background], 0.03)
    kind, strength = draws.pick(BACKDROPS), draws.uniform(0.05, 0.12)
    u, v = draws.uniform(-1, 1), draws.uniform(-1, 1)
    grid = draws.grid(5, 5)
    at = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    x, y = at[None, :], at[:, None]
    if kind == "gradient":
        change = np.float32(u) * (x - np.float32(0.5)) + np.float32(v) * (y - np.float32(0.5))
    elif kind == "striped":
        turns = np.float32(3 * u) * x + np.float32(3 * v) * y
        change = np.abs(turns - np.floor(turns) - np.float32(0.5)) * np.float32(2) - np.float32(0.5)
    elif kind == "cloudy":
        change = _smooth(grid.astype(np.float32), at)
    else:
        change = np.zeros((size, size), np.float32)
    base = np.asarray(colour, np.float32)[:, None, None]
    out: Pixels = np.clip(base + np.float32(2 * strength) * change, 0, 1).astype(np.float32)
    return out


def _smooth(grid: Pixels, at: Pixels) -> Pixels:
    """A coarse grid (n, n), interpolated between its values, at points 0 to 1 of both axes."""
    place = at * np.float32(len(grid) - 1)
    left = np.minimum(place.astype(np.int64), len(grid) - 2)
    share = place - left.astype(np.float32)
    rows = grid[left] + (grid[left + 1] - grid[left]) * share[:, None]
    full: Pixels = rows[:, left] + (rows[:, left + 1] - rows[:, left]) * share[None, :]
    return full - np.float32(0.5)


def paint(backdrop: Pixels, objects: list[tuple[Look, Track]]) -> NDArray[np.uint8]:
    """Draw objects over a backdrop, the last one on top.

    Args:
        backdrop: (3, S, S), 0 to 1.
        objects: looks with tracks of the same T times.

    Returns:
        Frames (T, S, S, 3), red, green, blue, 0 to 255.
    """
    frames, size = len(objects[0][1].x), backdrop.shape[-1]
    picture = np.repeat(backdrop[:, None], frames, axis=1)
    at = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    for look, track in objects:
        _paint_one(picture, at, look, track)
    picture *= np.float32(255)
    picture += np.float32(0.5)
    return np.ascontiguousarray(picture.astype(np.uint8).transpose(1, 2, 3, 0))


def _paint_one(picture: Pixels, at: Pixels, look: Look, track: Track) -> None:
    """Draw one object into `picture` (3, T, S, S), inside the box its track needs."""
    reach = 1.15 * track.radius + 2 / len(at)
    rows = _span(at, track.y, reach)
    columns = _span(at, track.x, reach)
    x = at[None, None, columns] - _column(track.x)
    y = at[None, rows, None] - _column(track.y)
    scale = 1 / track.radius
    cosine, sine = _column(np.cos(track.angle) * scale), _column(np.sin(track.angle) * scale)
    u, v = x * cosine + y * sine, y * cosine - x * sine
    # distances in pixels; one pixel of slope at the edges is the anti-aliasing
    pixels = _column(track.radius * len(at))
    outline = SHAPES[look.shape](u, v)
    cover = np.clip(np.float32(0.5) - outline * pixels, 0, 1) * _column(track.opacity)
    # a rim of the first colour, so that the shape is seen whatever the second one is
    inner = np.minimum(TEXTURES[look.texture](u, v), -outline - _RIM)
    other = np.clip(inner * pixels + np.float32(0.5), 0, 1)
    light = _column(track.light)
    for channel in range(3):
        first, second = np.float32(look.first[channel]), np.float32(look.second[channel])
        paint = (other * (second - first) + first) * light
        area = picture[channel][:, rows, columns]
        area += cover * (paint - area)


def _span(at: Pixels, centres: NDArray[np.float64], reach: NDArray[np.float64]) -> slice:
    low = int(np.searchsorted(at, float((centres - reach).min())))
    high = int(np.searchsorted(at, float((centres + reach).max())))
    return slice(low, max(high, low + 1))


def _column(values: NDArray[np.float64]) -> Pixels:
    """(T,) to (T, 1, 1) in 32 bits."""
    return values.astype(np.float32)[:, None, None]
