"""Appearance of generated clips: random objects and backgrounds, and their pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewshot_i2v.data.synthetic.motions import Track
from fewshot_i2v.data.synthetic.shapes import (
    ROTATION_INVARIANT,
    SHAPES,
    TEXTURES,
    KeyedRandom,
    Pixels,
)
from fewshot_i2v.data.synthetic.world.backdrops import interpolate

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
_MIN_CONTRAST = 0.5
_RIM_WIDTH = np.float32(0.1)  # in radii


@dataclass(frozen=True)
class Appearance:
    """Appearance of one object.

    Attributes:
        shape: a key of `SHAPES`.
        texture: a key of `TEXTURES`.
        colour: a key of `COLOURS`.
        main_colour: its main colour, a random variant of `colour`, red, green, blue, 0 to 1.
        second_colour: the second colour of its texture.
    """

    shape: str
    texture: str
    colour: str
    main_colour: Colour
    second_colour: Colour


def _jitter_colour(rng: KeyedRandom, colour: Colour, spread: float) -> Colour:
    red, green, blue = (
        min(1.0, max(0.0, channel + rng.uniform(-spread, spread))) for channel in colour
    )
    return (red, green, blue)


def _colour_distance(a: Colour, b: Colour) -> float:
    return float(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5)


def _mix_colours(a: Colour, b: Colour, weight: float) -> Colour:
    red, green, blue = (x + weight * (y - x) for x, y in zip(a, b, strict=True))
    return (red, green, blue)


def random_appearance(
    rng: KeyedRandom, background: str, shape_and_texture: tuple[str, str] | None = None
) -> Appearance:
    """Choose a random appearance that stands out from the background.

    Args:
        rng: the source of randomness.
        background: a key of `BACKGROUNDS`.
        shape_and_texture: keys of `SHAPES` and `TEXTURES`; random when None, without those that
            show no rotation.
    """
    combinations = tuple(
        (s, t) for s in SHAPES for t in TEXTURES if (s, t) not in ROTATION_INVARIANT
    )
    shape, texture = shape_and_texture or rng.choice(combinations)
    background_colour = BACKGROUNDS[background]
    contrasting = [
        n for n, c in COLOURS.items() if _colour_distance(c, background_colour) >= _MIN_CONTRAST
    ]
    colour_name = rng.choice(contrasting)
    main_colour = _jitter_colour(rng, COLOURS[colour_name], 0.06)
    is_pale = colour_name in ("white", "yellow", "cyan", "pink") or rng.chance(0.5)
    second_colour = _mix_colours(main_colour, (0.0, 0.0, 0.0) if is_pale else (1.0, 1.0, 1.0), 0.72)
    return Appearance(shape, texture, colour_name, main_colour, second_colour)


def random_backdrop(rng: KeyedRandom, background: str, size: int) -> Pixels:
    """Make a random picture behind the objects, (3, size, size), 0 to 1."""
    colour = _jitter_colour(rng, BACKGROUNDS[background], 0.03)
    pattern, strength = rng.choice(BACKDROPS), rng.uniform(0.05, 0.12)
    u, v = rng.uniform(-1, 1), rng.uniform(-1, 1)
    grid = rng.grid(5, 5)
    centres = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    x, y = centres[None, :], centres[:, None]
    if pattern == "gradient":
        variation = np.float32(u) * (x - np.float32(0.5)) + np.float32(v) * (y - np.float32(0.5))
    elif pattern == "striped":
        turns = np.float32(3 * u) * x + np.float32(3 * v) * y
        variation = np.abs(turns - np.floor(turns) - np.float32(0.5)) * np.float32(2) - np.float32(
            0.5
        )
    elif pattern == "cloudy":
        variation = interpolate(grid.astype(np.float32), centres) - np.float32(0.5)
    else:
        variation = np.zeros((size, size), np.float32)
    base = np.asarray(colour, np.float32)[:, None, None]
    return np.clip(base + np.float32(2 * strength) * variation, 0, 1).astype(np.float32)


def paint_frames(backdrop: Pixels, objects: list[tuple[Appearance, Track]]) -> NDArray[np.uint8]:
    """Paint objects over a backdrop, the last one on top.

    Args:
        backdrop: (3, S, S), 0 to 1.
        objects: appearances with tracks of the same T times.

    Returns:
        Frames (T, S, S, 3), red, green, blue, 0 to 255.
    """
    n_frames, size = len(objects[0][1].x), backdrop.shape[-1]
    picture = np.repeat(backdrop[:, None], n_frames, axis=1)
    centres = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    for appearance, track in objects:
        _paint_object(picture, centres, appearance, track)
    picture *= np.float32(255)
    picture += np.float32(0.5)
    return np.ascontiguousarray(picture.astype(np.uint8).transpose(1, 2, 3, 0))


def _paint_object(picture: Pixels, centres: Pixels, appearance: Appearance, track: Track) -> None:
    """Paint one object into `picture` (3, T, S, S), inside the box that its track needs."""
    half_extents = 1.15 * track.radius + 2 / len(centres)
    rows = _pixel_span(centres, track.y, half_extents)
    columns = _pixel_span(centres, track.x, half_extents)
    x = centres[None, None, columns] - _time_column(track.x)
    y = centres[None, rows, None] - _time_column(track.y)
    scale = 1 / track.radius
    cosine, sine = (
        _time_column(np.cos(track.angle) * scale),
        _time_column(np.sin(track.angle) * scale),
    )
    u, v = x * cosine + y * sine, y * cosine - x * sine
    # distances in pixels; one pixel of slope at the edges is the anti-aliasing
    pixels = _time_column(track.radius * len(centres))
    outline = SHAPES[appearance.shape](u, v)
    coverage = np.clip(np.float32(0.5) - outline * pixels, 0, 1) * _time_column(track.opacity)
    # a rim of the first colour, so that the shape is seen whatever the second one is
    inner = np.minimum(TEXTURES[appearance.texture](u, v), -outline - _RIM_WIDTH)
    second_coverage = np.clip(inner * pixels + np.float32(0.5), 0, 1)
    light = _time_column(track.light)
    for channel in range(3):
        main, accent = (
            np.float32(appearance.main_colour[channel]),
            np.float32(appearance.second_colour[channel]),
        )
        colour = (second_coverage * (accent - main) + main) * light
        area = picture[channel][:, rows, columns]
        area += coverage * (colour - area)


def _pixel_span(
    centres: Pixels, positions: NDArray[np.float64], half_extents: NDArray[np.float64]
) -> slice:
    low = int(np.searchsorted(centres, float((positions - half_extents).min())))
    high = int(np.searchsorted(centres, float((positions + half_extents).max())))
    return slice(low, max(high, low + 1))


def _time_column(values: NDArray[np.float64]) -> Pixels:
    """Reshape values (T,) to (T, 1, 1) in 32 bits."""
    return values.astype(np.float32)[:, None, None]
