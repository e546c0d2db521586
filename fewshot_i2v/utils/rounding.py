"""Rounding of many numbers to decimals, with the results of Python's `round`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice

_MAX_SCALED = 2.0**40
"""Up to here a float64 holds a scaled number with more than ten digits behind the point."""
_DOUBT = 2.0**-10
"""Nearer to a half than this, the product with a power of ten may be on the wrong side of it."""


def round_rows(rows: Sequence[Sequence[float]], decimals: int) -> list[list[float]]:
    """Rounds numbers as `round` does, many at once: an episode has hundreds of probabilities.

    Args:
        rows: of numbers, of any lengths; integers, too.
        decimals: digits behind the point, 0 to 15.

    Returns:
        The same rows of floats, each equal to `round(float(number), decimals)`.
    """
    # imported here: whoever only reads records needs no numpy
    import numpy as np

    values = np.array(list(chain.from_iterable(rows)), dtype=np.float64)
    scale = 10.0**decimals
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = values * scale
        rounded = np.rint(scaled) / scale
        near_half = np.abs(np.abs(scaled - np.trunc(scaled)) - 0.5) < _DOUBT
    # NaN and infinity are not below the limit either
    is_sure = ~near_half & (np.abs(scaled) < _MAX_SCALED)
    for i in np.flatnonzero(~is_sure).tolist():
        rounded[i] = round(float(values[i]), decimals)
    flat = iter(rounded.tolist())
    return [list(islice(flat, len(row))) for row in rows]
