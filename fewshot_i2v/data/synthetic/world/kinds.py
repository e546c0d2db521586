"""Kinds of motion by name: the classes of the generated world."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fewshot_i2v.data.synthetic.shapes import KeyedRandom
from fewshot_i2v.data.synthetic.world import changes, figure_motions, pair_motions, paths
from fewshot_i2v.data.synthetic.world.body_track import BodyTrack, Series, Tracks

_Motion = Callable[[KeyedRandom, Series, float], BodyTrack | Tracks]

_ROOMS = (paths, changes, figure_motions, pair_motions)
_PAIRS: dict[tuple[str, str], _Motion] = {}
_FORWARD: dict[str, _Motion] = {}
for _room in _ROOMS:
    _PAIRS |= _room.REVERSIBLE
    _FORWARD |= _room.SYMMETRIC
_FORWARD |= {first: motion for (first, _), motion in _PAIRS.items()}
_BACKWARD = {second: motion for (_, second), motion in _PAIRS.items()}

WORLD_MOTIONS: tuple[str, ...] = tuple(sorted(_FORWARD | _BACKWARD))
"""Names of all kinds of motion, in alphabetical order."""

WORLD_REVERSALS: dict[str, str] = {
    name: reverse for a, b in _PAIRS for name, reverse in ((a, b), (b, a))
}
"""The kind that each kind becomes when its clip is played backwards, where it is another one."""


def random_world_tracks(kind: str, rng: KeyedRandom, times: Series, size: float) -> Tracks:
    """Return the tracks of the one or two bodies that a clip is about.

    Args:
        kind: one of `WORLD_MOTIONS`.
        rng: the source of randomness.
        times: of the frames (T,), ascending from 0 to 1.
        size: about half the extent of a body, fraction of the frame.
    """
    progress = _random_tempo(rng, times)
    if kind in _FORWARD:
        tracks = _FORWARD[kind](rng, progress, size)
    else:
        tracks = _BACKWARD[kind](rng, progress[::-1], size)
    return tracks if isinstance(tracks, tuple) else (tracks,)


def _random_tempo(rng: KeyedRandom, times: Series) -> Series:
    """Return progress: a rest of random length at both ends, and starts and stops of any softness.

    Its distribution is the same forwards and backwards, so that tempo does not tell a kind from its
    reverse.
    """
    start, end = rng.uniform(0.0, 0.1), rng.uniform(0.9, 1.0)
    linear = np.clip((times - start) / (end - start), 0, 1)
    softness = rng.uniform(0, 0.7)
    return linear + softness * (linear * linear * (3 - 2 * linear) - linear)
