"""The sign-flip test: could coins that swap two methods, one an episode, give such a difference?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ldexp

import numpy as np
from numpy.typing import NDArray

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics._values import EQUAL, checked

Numbers = NDArray[np.float64]

_LISTED = 16
_LARGEST_UNIT = 2000
_MOST_WORK = 1 << 24
_OFF_GRID = 1e-6
_LEAST = 1e-10
_SLACK = 1e-9
_BLOCK = 1 << 22


@dataclass(frozen=True)
class SignFlip:
    """What the sign-flip test says.

    Attributes:
        p: share of the ways to swap the two methods within episodes that give a mean difference at
            least as far from 0 as the one seen; above 0, at most 1.
        changed: number of episodes with a difference.
        exact: whether all ways were counted, and not a random choice of them.
        method: in words, how they were counted.
    """

    p: float
    changed: int
    exact: bool
    method: str


def sign_flip(differences: Sequence[float], *, draws: int = 9_999, seed: int = 0) -> SignFlip:
    """Two-sided permutation test of "neither method is better" (Fisher, 1935).

    If neither is, each difference could as well have the other sign. All 2^k patterns of signs are
    counted where the k differences that are not 0 are whole multiples of a common step, as those of
    accuracies over equally many query clips are, and where k is at most 16. Otherwise random ones
    are drawn and p is (b + 1) / (m + 1) for b of m that reach the difference seen (Phipson and
    Smyth, 2010), so that it is never 0.

    Args:
        differences: one finite number per episode, in any unit, (T,).
        draws: random patterns where not all are counted, at least 99.
        seed: of the random patterns, 0 or more.

    Returns:
        The test; a p below 1e-10 is given as 1e-10.

    Raises:
        UsageError: when there is no difference, one is not finite, or there are too few draws.
    """
    if draws < 99 or seed < 0:
        raise UsageError(
            f"got draws={draws}, seed={seed}; expected at least 99 draws, such as 9999, and a seed "
            "of 0 or more"
        )
    values = np.array(checked(differences, "differences"))
    values = values[np.abs(values) > EQUAL]
    if not len(values):
        return SignFlip(1.0, 0, True, "no episode differs")
    changed = len(values)
    values /= np.abs(values).max()
    steps = _whole_steps(values)
    if steps is not None:
        p, exact = _counted(steps), True
    elif changed <= _LISTED:
        p, exact = _listed(values), True
    else:
        p, exact = _drawn(values, draws, seed), False
    method = f"all 2^{changed} sign patterns" if exact else f"{draws:,} random signs, seed {seed}"
    return SignFlip(min(1.0, max(p, _LEAST, ldexp(1.0, 1 - changed))), changed, exact, method)


def _whole_steps(values: Numbers) -> NDArray[np.int64] | None:
    """The values as whole multiples of a common step; None where there is none of use."""
    distinct = np.unique(np.round(np.abs(values), 12))
    if len(distinct) > _LARGEST_UNIT:
        return None
    units = np.arange(1, _LARGEST_UNIT + 1)
    scaled = distinct * units[:, None]
    fits = np.flatnonzero(np.abs(scaled - np.rint(scaled)).max(axis=1) < _OFF_GRID)
    if not len(fits):
        return None
    steps = np.rint(values * units[fits[0]]).astype(np.int64)
    return steps if int(np.abs(steps).sum()) * len(distinct) <= _MOST_WORK else None


def _counted(steps: NDArray[np.int64]) -> float:
    """Share of all sign patterns, from the distribution of the sum over fair coins.

    With coins B_i the sum is 2 H - S for H = sum(|k_i| B_i) and S = sum(|k_i|). The Fourier
    transform of H's distribution is a product of cosines, equal ones as one power.
    """
    sizes, counts = np.unique(np.abs(steps), return_counts=True)
    total, seen = int((sizes * counts).sum()), abs(int(steps.sum()))
    length = 1 << total.bit_length()
    angles = np.pi * np.arange(length // 2 + 1) / length
    spectrum = np.exp(-1j * total * angles)
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        spectrum *= np.cos(size * angles) ** count
    shares = np.fft.irfft(spectrum, n=length)[: total + 1]
    reached = np.abs(2 * np.arange(total + 1) - total) >= seen
    return float(shares[reached].sum())


def _listed(values: Numbers) -> float:
    """Share of all sign patterns, each one computed."""
    patterns = np.arange(1 << len(values))
    heads = ((patterns[:, None] >> np.arange(len(values))) & 1).astype(np.float64)
    sizes = np.abs(values)
    return float(_reached(2 * (heads @ sizes) - sizes.sum(), values).mean())


def _drawn(values: Numbers, draws: int, seed: int) -> float:
    """(b + 1) / (m + 1) for b of m random sign patterns."""
    generator = np.random.default_rng(seed)
    sizes, reached = np.abs(values), 0
    rows = max(1, _BLOCK // len(values))
    for start in range(0, draws, rows):
        shape = (min(rows, draws - start), (len(values) + 7) // 8)
        bits = np.unpackbits(generator.integers(0, 256, shape, dtype=np.uint8), axis=1)
        heads = bits[:, : len(values)].astype(np.float64) @ sizes
        reached += int(_reached(2 * heads - sizes.sum(), values).sum())
    return (reached + 1) / (draws + 1)


def _reached(sums: Numbers, values: Numbers) -> NDArray[np.bool_]:
    """Whether sums are as far from 0 as that of the values; rounding does not decide."""
    near: NDArray[np.bool_] = np.abs(sums) >= abs(values.sum()) - _SLACK * np.abs(values).sum()
    return near
