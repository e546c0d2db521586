"""Camera and light of the generated world: the same distribution whatever the motion."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fewshot_i2v.data.synthetic.shapes import KeyedRandom, Pixels
from fewshot_i2v.data.synthetic.world.backdrops import MARGIN
from fewshot_i2v.data.synthetic.world.body_track import TURN, Series, sway

MOVING_SHARE = 0.5
"""Share of the clips whose camera moves."""

_LIGHT_SHARE = 0.5


@dataclass(frozen=True)
class Camera:
    """What a camera does at each of T times.

    Attributes:
        x: how far it looks to the right of the middle of the scene (T,), fraction of the frame.
        y: how far below (T,).
        zoom: factor on all sizes (T,).
        moves: whether any of these changes.
    """

    x: Series
    y: Series
    zoom: Series
    moves: bool

    def project(self, x: Series, y: Series) -> tuple[Series, Series]:
        """Return where in the frame places of the scene are seen."""
        return (x - 0.5 - self.x) * self.zoom + 0.5, (y - 0.5 - self.y) * self.zoom + 0.5

    def film_frame(self, backdrop: Pixels, size: int, i: int) -> Pixels:
        """Return the backdrop as the camera sees it at time i, (3, size, size)."""
        rows, row_weights = self._positions(backdrop, size, i, self.y)
        columns, column_weights = self._positions(backdrop, size, i, self.x)
        first = columns[0]
        needed = backdrop[:, :, first : columns[-1] + 2]
        lines = needed.take(rows, 1)
        lines += (needed.take(rows + 1, 1) - lines) * row_weights[:, None]
        columns = columns - first
        picture: Pixels = lines.take(columns, 2)
        picture += (lines.take(columns + 1, 2) - picture) * column_weights
        return picture

    def _positions(
        self, backdrop: Pixels, size: int, i: int, shift: Series
    ) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], Pixels]:
        """Return for each pixel of an axis the sample below it and the weight of the next one."""
        side = backdrop.shape[-1]
        centres = (np.arange(size) + 0.5) / size
        scene = (centres - 0.5) / self.zoom[i] + 0.5 + shift[i]
        position = np.clip((scene + MARGIN) / (1 + 2 * MARGIN) * side - 0.5, 0, side - 1.001)
        lower = position.astype(np.int64)
        return lower, (position - lower).astype(np.float32)


def random_camera(rng: KeyedRandom, times: Series) -> Camera:
    """Choose a camera: still, or with a random mixture of pan, zoom and shake.

    Args:
        rng: the source of randomness.
        times: of the frames (T,), ascending from 0 to 1.
    """
    zeros = np.zeros_like(times)
    if not rng.chance(MOVING_SHARE):
        return Camera(zeros, zeros, zeros + 1, moves=False)
    pans, zooms, shakes = _some_of_three(rng)
    x, y, zoom = zeros, zeros, zeros + 1
    if pans:
        distance, angle = rng.uniform(0.06, 0.26), rng.uniform(0, TURN)
        way = distance * (times - 0.5)
        x, y = x + math.cos(angle) * way, y + math.sin(angle) * way
    if zooms:
        amount = rng.choice((-1.0, 1.0)) * rng.uniform(0.08, 0.3)
        zoom = zoom + amount * (times - 0.5)
    if shakes:
        strength = rng.uniform(0.004, 0.016)
        x, y = x + strength * _jitter(rng, times), y + strength * _jitter(rng, times)
    return Camera(x, y, zoom, moves=True)


def _some_of_three(rng: KeyedRandom) -> tuple[bool, bool, bool]:
    """Return three choices of which at least one is true."""
    first, second, third = (rng.chance(0.55) for _ in range(3))
    if not (first or second or third):
        last = int(rng.uniform(0, 3))
        first, second, third = last == 0, last == 1, last == 2
    return first, second, third


def _jitter(rng: KeyedRandom, times: Series) -> Series:
    """Return an irregular movement of size about 1: three sines."""
    waves = [sway(times, rng.uniform(3, 11), rng.uniform(0, 1)) for _ in range(3)]
    return np.asarray(sum(waves) / 1.7)


def random_light(rng: KeyedRandom, times: Series) -> Pixels:
    """Choose factors on the colours of each frame, (T, 3): a cast, and in some clips a change."""
    cast = np.array([rng.uniform(0.88, 1.06) for _ in range(3)])
    gain = np.ones_like(times)
    if rng.chance(_LIGHT_SHARE):
        strength = rng.uniform(0.08, 0.3)
        wave = sway(times, rng.uniform(0.3, 1.6), rng.uniform(0, 1))
        gain = gain - strength * (0.5 + 0.5 * wave)
    return (gain[:, None] * cast).astype(np.float32)
