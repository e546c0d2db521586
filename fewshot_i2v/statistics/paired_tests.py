"""Paired comparison of two methods over the same episodes or clips, and its tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ldexp
from sys import float_info

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics.intervals import (
    EQUALITY_TOLERANCE,
    Interval,
    Unit,
    finite_values,
    paired_difference,
)
from fewshot_i2v.statistics.sample_size import check_error_rates, detectable_difference

FloatArray = NDArray[np.float64]

# with more differences off the grid all patterns are too many, so random ones are drawn
_MAX_ENUMERATED = 16
_RANDOM_PATTERNS, _SEED = 9_999, 0
# the finest step looked for is 1 / 2000 of the largest difference
_MAX_UNIT = 2000
_OFF_GRID = 1e-6
# length of the Fourier transform times its factors
_MAX_WORK = 1 << 24
# rounding of the transform makes smaller ones meaningless
_MIN_P = 1e-10
_SLACK = 1e-9
# random signs in memory at a time
_BLOCK = 1 << 22


@dataclass(frozen=True)
class SignFlip:
    """Result of the sign-flip test.

    Attributes:
        p: share of the ways to swap the two methods within episodes that give a mean difference at
            least as far from 0 as the observed one; above 0, at most 1.
        changed: number of episodes with a difference.
        exact: whether all ways were counted, and not a random choice of them.
        method: in words, how they were counted.
    """

    p: float
    changed: int
    exact: bool
    method: str


def sign_flip(differences: Sequence[float]) -> SignFlip:
    """Two-sided permutation test of "neither method is better" (Fisher, 1935).

    If neither is, each difference could as well have the other sign. All 2^k patterns of signs are
    counted where the k differences that are not 0 are integer multiples of a common step, as those
    of accuracies over equally many query clips are, and where k is at most 16. Otherwise random
    ones are drawn and p is (b + 1) / (m + 1) for b of m that reach the observed difference (Phipson
    and Smyth, 2010), so that it is never 0.

    Args:
        differences: one finite number per episode, in any unit, (T,).

    Returns:
        The test; a p below 1e-10 is reported as 1e-10.

    Raises:
        UsageError: when there is no difference, or one is not finite.
    """
    values = np.array(finite_values(differences, "differences"))
    values = values[np.abs(values) > EQUALITY_TOLERANCE]
    if not len(values):
        return SignFlip(1.0, 0, True, "no episode differs")
    changed = len(values)
    values /= np.abs(values).max()
    steps = _integer_steps(values)
    if steps is not None:
        p, exact = _exact_p(steps), True
    elif changed <= _MAX_ENUMERATED:
        p, exact = _enumerated_p(values), True
    else:
        p, exact = _sampled_p(values), False
    method = f"all 2^{changed} sign patterns"
    if not exact:
        method = f"{_RANDOM_PATTERNS:,} random signs, seed {_SEED}"
    # all signs as observed, and all turned, are two patterns that are always as extreme
    return SignFlip(min(1.0, max(p, _MIN_P, ldexp(1.0, 1 - changed))), changed, exact, method)


def _integer_steps(values: FloatArray) -> NDArray[np.int64] | None:
    """Express the values as integer multiples of a common step; None where no step fits."""
    distinct = np.unique(np.round(np.abs(values), 12))
    if len(distinct) > _MAX_UNIT:
        return None
    units = np.arange(1, _MAX_UNIT + 1)
    scaled = distinct * units[:, None]
    fits = np.flatnonzero(np.abs(scaled - np.rint(scaled)).max(axis=1) < _OFF_GRID)
    if not len(fits):
        return None
    steps = np.rint(values * units[fits[0]]).astype(np.int64)
    return steps if int(np.abs(steps).sum()) * len(distinct) <= _MAX_WORK else None


def _exact_p(steps: NDArray[np.int64]) -> float:
    """Share of all sign patterns that are as extreme, from the distribution of a sum of coins.

    With fair coins B_i the sum is 2 H - S for H = sum(|k_i| B_i) and S = sum(|k_i|). The Fourier
    transform of H's distribution is a product over the coins, since they are independent: each
    gives (1 + exp(-2i · k · angle)) / 2 = exp(-i · k · angle) · cos(k · angle). Equal sizes are one
    power, so 10,000 differences cost a few cosines, where listing 2^10,000 patterns is impossible.
    """
    sizes, counts = np.unique(np.abs(steps), return_counts=True)
    total, observed = int((sizes * counts).sum()), abs(int(steps.sum()))
    # a power of two above the largest sum, so that nothing wraps around
    length = 1 << total.bit_length()
    angles = np.pi * np.arange(length // 2 + 1) / length
    # the exponentials of all coins at once
    spectrum = np.exp(-1j * total * angles)
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        spectrum *= np.cos(size * angles) ** count
    shares = np.fft.irfft(spectrum, n=length)[: total + 1]
    as_extreme = np.abs(2 * np.arange(total + 1) - total) >= observed
    return float(shares[as_extreme].sum())


def _enumerated_p(values: FloatArray) -> float:
    """Share of all sign patterns that are as extreme, each one computed."""
    patterns = np.arange(1 << len(values))
    heads = ((patterns[:, None] >> np.arange(len(values))) & 1).astype(np.float64)
    sizes = np.abs(values)
    return float(_is_as_extreme(2 * (heads @ sizes) - sizes.sum(), values).mean())


def _sampled_p(values: FloatArray) -> float:
    """Estimate p as (b + 1) / (m + 1) for b of m random sign patterns."""
    generator = np.random.default_rng(_SEED)
    sizes, n_extreme = np.abs(values), 0
    rows = max(1, _BLOCK // len(values))
    for start in range(0, _RANDOM_PATTERNS, rows):
        shape = (min(rows, _RANDOM_PATTERNS - start), (len(values) + 7) // 8)
        bits = np.unpackbits(generator.integers(0, 256, shape, dtype=np.uint8), axis=1)
        heads = bits[:, : len(values)].astype(np.float64) @ sizes
        n_extreme += int(_is_as_extreme(2 * heads - sizes.sum(), values).sum())
    return (n_extreme + 1) / (_RANDOM_PATTERNS + 1)


def _is_as_extreme(sums: FloatArray, values: FloatArray) -> NDArray[np.bool_]:
    """Whether sums are as far from 0 as that of the values, with a tolerance for rounding."""
    near: NDArray[np.bool_] = np.abs(sums) >= abs(values.sum()) - _SLACK * np.abs(values).sum()
    return near


@dataclass(frozen=True)
class PairedComparison:
    """Method a against method b over the same episodes.

    Attributes:
        difference: mean of a - b with its interval.
        test: of "neither is better".
        wins: episodes in which a is better.
        ties: episodes in which both are equally good.
        losses: episodes in which b is better.
    """

    difference: Interval
    test: SignFlip
    wins: int
    ties: int
    losses: int


def compare_paired(
    a: Sequence[float],
    b: Sequence[float],
    level: float = 0.95,
    *,
    clips_shared: bool = True,
    unit: Unit = "episode",
) -> PairedComparison:
    """Compare two methods by their accuracies on the same episodes.

    Args:
        a: one accuracy per episode of method a, (T,).
        b: one of method b, in the same order of episodes, (T,).
        level: of the interval, above 0 and below 1.
        clips_shared: whether episodes have clips in common, which decides what the interval covers.
        unit: as for `paired_difference`.

    Returns:
        Differences are a - b: positive where `a` is better.

    Raises:
        UsageError: as for `paired_difference`.

    Example:
        >>> paired = compare_paired([0.8, 0.6, 0.9, 0.7], [0.6, 0.6, 0.5, 0.6])
        >>> f"{paired.difference.mean:.3f} {paired.test.p:.2f} {paired.wins}/{paired.ties}"
        '0.175 0.25 3/1'
    """
    difference = paired_difference(a, b, level, clips_shared=clips_shared, unit=unit)
    values = np.subtract(a, b, dtype=np.float64)
    wins = int((values > EQUALITY_TOLERANCE).sum())
    losses = int((values < -EQUALITY_TOLERANCE).sum())
    return PairedComparison(
        difference=difference,
        test=sign_flip(values.tolist()),
        wins=wins,
        ties=len(values) - wins - losses,
        losses=losses,
    )


def minimum_detectable_difference(
    differences: Sequence[float], level: float = 0.95, power: float = 0.8
) -> float | None:
    """Smallest true mean difference that a paired t test of this size would detect.

    Args:
        differences: one per episode, (T,); only their number and spread matter.
        level: one minus the risk of a false difference, 0..1.
        power: how often it is to be detected, above 1 - level and below 1.

    Returns:
        The difference, in the unit of the values; None where there is a single value or no spread.

    Raises:
        UsageError: for a level or power out of range, no value, or one that is not finite.
    """
    values = np.array(finite_values(differences, "differences"))
    check_error_rates(power, level)
    if len(values) == 1 or np.ptp(values) <= EQUALITY_TOLERANCE:
        return None
    return detectable_difference(float(values.std(ddof=1)), len(values), power=power, level=level)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values of a family of tests (Holm, 1979).

    Calling every adjusted p below 0.05 a difference is wrong anywhere in the family at most once in
    twenty times, however the tests depend on each other: rows of a table share their episodes and
    their baseline, so they do. It finds all that Bonferroni finds, and more: once the smallest p of
    n is a difference, only n - 1 tests remain that could be wrong.

    Args:
        p_values: each in [0, 1].

    Returns:
        As many, in the same order, none smaller than it was and none above 1.

    Raises:
        UsageError: when a value is not in [0, 1].
    """
    values = np.array(p_values, dtype=np.float64)
    for position in np.flatnonzero(~((values >= 0) & (values <= 1)))[:1].tolist():
        raise UsageError(f"p_values[{position}] is {values[position]}; expected 0 to 1")
    order = values.argsort(kind="stable")
    factors = np.arange(len(values), 0, -1)
    # a running maximum: no p is called a difference where a smaller one is not
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0)
    return [float(value) for value in adjusted]


@dataclass(frozen=True)
class McNemar:
    """Result of McNemar's test of two methods on the same clips.

    Attributes:
        p: two-sided, above 0, at most 1.
        only_a: clips that only method a got right.
        only_b: clips that only method b got right.
        clips: number of clips.
        method: in words, how p was computed.
    """

    p: float
    only_a: int
    only_b: int
    clips: int
    method: str


def mcnemar(
    clips_a: ArrayLike,
    correct_a: ArrayLike,
    clips_b: ArrayLike,
    correct_b: ArrayLike,
) -> McNemar:
    """Test whether one of two methods gets more clips right, clip by clip (McNemar, 1947).

    For runs in which each clip is a query once, such as a single all-way episode. The clips that
    only one of the methods gets right are taken for fair coins, and the binomial distribution is
    exact.

    Args:
        clips_a: name or number of each query clip of method a, (R,).
        correct_a: whether it was right, (R,).
        clips_b: of method b, in any order, (R,).
        correct_b: whether it was right, (R,).

    Raises:
        UsageError: when a clip is a query twice in a run, or of one of the methods only, or there
            are not as many answers as clips.
    """
    a, b = _sort_by_clip(clips_a, correct_a, "a"), _sort_by_clip(clips_b, correct_b, "b")
    unmatched = np.setxor1d(a[0], b[0])
    if len(unmatched) or not len(a[0]):
        problem = f"clip {unmatched[0]} in one of them only" if len(unmatched) else "no clips"
        raise UsageError(f"McNemar's test needs the same clips of both; got {problem}")
    # scipy takes longer to import than everything else here
    from scipy.special import bdtr

    only_a, only_b = int((a[1] & ~b[1]).sum()), int((~a[1] & b[1]).sum())
    p = 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5))
    p = min(1.0, max(p, float_info.min))
    return McNemar(p, only_a, only_b, len(a[0]), "McNemar, exact binomial")


def _sort_by_clip(
    clips: ArrayLike, correct: ArrayLike, name: str
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Sorted clips, each once, and whether each was right."""
    names, answers = np.asarray(clips), np.asarray(correct, dtype=np.bool_)
    if names.shape != answers.shape or names.ndim != 1:
        raise UsageError(
            f"method {name}: clips {names.shape}, answers {answers.shape}; expected one answer for "
            "each clip"
        )
    distinct, first_index, counts = np.unique(names, return_index=True, return_counts=True)
    if (counts > 1).any():
        repeated_clip = distinct[counts > 1][0]
        raise UsageError(
            f"method {name}: clip {repeated_clip} is there {counts.max()} times; McNemar's test "
            "needs each clip once. Compare by episodes instead"
        )
    return distinct, answers[first_index]
