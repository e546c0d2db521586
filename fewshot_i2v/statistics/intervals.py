"""Intervals of means, and of differences between methods on the same episodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import exp, fsum, isfinite, log, sqrt
from typing import Literal

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics.wording import Caution, Covers, NoInterval

LOGIT_STUDENT_T = "Student t on the logit scale"
WILSON_BOUND = "Wilson bound for equal values"
EQUALITY_TOLERANCE = 1e-12
"""Differences up to this are rounding, not differences."""
MIN_DIFFERING = 12
"""Episodes in which two methods have to differ for an interval of their difference, if not all do.

By simulation (`scripts/coverage_of_differences.py`): where losses are twice as large as gains and
half as frequent, it is the fewest from which on 93 % of the intervals at 95 % hold the mean,
whatever the number of episodes. With 5 to 11 they hold it in 90 to 93 %, since the large
differences are often not among so few; with 2 or 3 they hold 0 whatever the truth is. Where losses
are three times as large, 12 hold it in 90 % and 30 in 93 %.
"""
MIN_EPISODES = 6
"""Episodes of a run below which a table shows no interval.

Five or fewer allow no verdict at 5 %, however large the difference: the smallest p of a sign-flip
test of n episodes is 2^(1 - n). Six are also the fewest for which the coverage of the interval was
measured (`scripts/coverage_of_intervals.py`); Student's t of two episodes is 12.7 standard errors
to each side, which says nothing that the mean does not.
"""
Unit = Literal["episode", "clip"]
"""What values are of: whole episodes, or the query clips of a single one."""


@dataclass(frozen=True)
class Interval:
    """A mean with an interval.

    Attributes:
        mean: arithmetic mean of the values, in their unit.
        low: lower end, or None where a single value allows none. That of `mean_interval` may be
            below the lowest possible value.
        high: upper end, or None.
        level: share of repetitions in which such an interval holds what it covers, 0..1.
        n: number of values.
        method: how it was computed.
        covers: a sentence on what it covers and what not.
        equal: whether it is of several differences that are all the same.
    """

    mean: float
    low: float | None
    high: float | None
    level: float
    n: int
    method: str
    covers: str
    equal: bool = False

    @property
    def half_width(self) -> float | None:
        """Half of the interval's width, or None where there is none."""
        if self.low is None or self.high is None:
            return None
        return (self.high - self.low) / 2


def without_too_few_episodes(interval: Interval) -> Interval:
    """Drop the ends of an interval over fewer than `MIN_EPISODES` episodes.

    The `covers` of such an interval says why; any other stays as it is.
    """
    if not 1 < interval.n < MIN_EPISODES or interval.equal:
        return interval
    reason = str(NoInterval.FEW_EPISODES).format(minimum=MIN_EPISODES)
    return replace(interval, low=None, high=None, covers=reason)


def mean_interval(
    values: Sequence[float], level: float = 0.95, *, clips_shared: bool = True
) -> Interval:
    """Mean and Student t interval with n - 1 degrees of freedom.

    Args:
        values: one accuracy in [0, 1] (or any other finite number) per episode.
        level: above 0 and below 1.
        clips_shared: whether episodes have clips in common, which decides what the interval covers.

    Returns:
        The interval: mean ± t · s / sqrt(n), s with n - 1. A single value has no interval; equal
        values have one without width, and `covers` says what that means.

    Raises:
        UsageError: when there is no value, one is not finite, or the level is out of range.

    Example:
        >>> interval = mean_interval([0.4, 0.6, 0.8])
        >>> f"{interval.mean:.2f} [{interval.low:.3f}, {interval.high:.3f}]"
        '0.60 [0.103, 1.097]'
    """
    covers = Covers.EPISODES if clips_shared else Covers.DISJOINT_EPISODES
    return _student_t(finite_values(values, "values"), level, "Student t", covers)


def paired_difference(
    a: Sequence[float],
    b: Sequence[float],
    level: float = 0.95,
    *,
    clips_shared: bool = True,
    unit: Unit = "episode",
) -> Interval:
    """Mean of a - b over the same episodes, with its Student t interval.

    Episodes differ in difficulty, and both methods share it; the interval of the difference is
    therefore much narrower than the two separate ones. Whether those overlap is no test.

    Args:
        a: one accuracy per episode of method a.
        b: one of method b, in the same order of episodes.
        level: above 0 and below 1.
        clips_shared: as for `mean_interval`.
        unit: what the values are of; query clips are those of a single episode.

    Returns:
        The interval of the difference; positive where `a` is better. There is none, and `covers`
        says why, where all differences are the same, or where fewer than `MIN_DIFFERING` are not 0
        and others are: rare differences are skewed, and those that did not occur among so few may
        be large.

    Raises:
        UsageError: when the numbers of episodes differ, or as for `mean_interval`.
    """
    if len(a) != len(b):
        raise UsageError(
            f"a paired difference needs the same episodes of both; got {len(a)} and {len(b)} values"
        )
    pairs = zip(finite_values(a, "a"), finite_values(b, "b"), strict=True)
    differences = [x - y for x, y in pairs]
    n, method = len(differences), "paired Student t"
    covers = Covers.EPISODE_DIFFERENCES if clips_shared else Covers.DISJOINT_EPISODES
    if unit == "clip":
        covers = Covers.QUERY_CLIPS
    equal = n > 1 and max(differences) - min(differences) <= EQUALITY_TOLERANCE
    if n == 1 or not (equal or has_too_few_differences(differences)):
        return _student_t(differences, level, method, covers)
    check_level(level)
    reason = NoInterval.EQUAL_DIFFERENCES if equal else NoInterval.FEW_DIFFERENCES
    text = f"{covers} {reason.format(unit=unit, minimum=MIN_DIFFERING)}"
    return Interval(fsum(differences) / n, None, None, level, n, method, text, equal)


def _student_t(values: list[float], level: float, method: str, covers: Covers) -> Interval:
    check_level(level)
    n = len(values)
    if n == 1:
        text = f"{covers} {NoInterval.ONE_EPISODE}"
        return Interval(values[0], None, None, level, n, method, text)
    if min(values) == max(values):
        value, text = values[0], f"{covers} {Caution.EQUAL_VALUES}"
        return Interval(value, value, value, level, n, method, text)
    mean = fsum(values) / n
    deviation = sqrt(fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = t_quantile(level, n - 1) * deviation / sqrt(n)
    return Interval(mean, mean - half, mean + half, level, n, method, str(covers))


def bounded_interval(
    values: Sequence[float], level: float = 0.95, *, clips_shared: bool = True
) -> Interval:
    """Mean of accuracies and an interval that stays inside 0 and 1.

    It is Student's t where an interval twice as wide would still be inside: there the two scales
    agree. Nearer to a bound it is Student's t for the logit of the mean, which held means of 0.85
    to 0.99 in 92 to 99 % of simulated samples at 95 %, where Student's t held them in 28 to 96 %.

    Args:
        values: one accuracy per episode, 0..1.
        level: above 0 and below 1.
        clips_shared: as for `mean_interval`.

    Returns:
        The interval; `method` says which. A single value has none. Equal values, such as all 1,
        have that of as many right or wrong answers: no numbers with this mean need a wider one.

    Raises:
        UsageError: as for `mean_interval`, or when a value is out of range.
    """
    check_level(level)
    numbers = finite_values(values, "values")
    for position, value in enumerate(numbers):
        if not 0 <= value <= 1:
            raise UsageError(f"values[{position}] is {value}; expected 0.0 to 1.0")
    n, mean = len(numbers), fsum(numbers) / len(numbers)
    covers = Covers.EPISODES if clips_shared else Covers.DISJOINT_EPISODES
    if n == 1:
        text = f"{covers} {NoInterval.ONE_EPISODE}"
        return Interval(mean, None, None, level, n, "Student t", text)
    if min(numbers) == max(numbers):
        method, (low, high) = WILSON_BOUND, constant_values_interval(mean, n, level)
    else:
        error = sqrt(fsum((value - mean) ** 2 for value in numbers) / (n - 1) / n)
        low, high, method = bounded_ends(mean, error, n - 1, level)
    return Interval(mean, low, high, level, n, method, str(covers))


def seed_interval(means: Sequence[float], level: float = 0.95) -> Interval:
    """Mean over training seeds, to show beside an interval over clips, not instead of it.

    Args:
        means: mean accuracy of each training seed on the same episodes, 0..1.
        level: above 0 and below 1.

    Returns:
        The interval of Student's t, inside 0 and 1. A single seed has none, two give a very wide
        one; equal means give one without width.

    Raises:
        UsageError: when there is no mean, one is not from 0 to 1, or the level is out of range.
    """
    import numpy as np

    check_level(level)
    values = np.array(finite_values(means, "means"))
    n, mean, method = len(values), float(values.mean()), "Student t"
    if values.min() < 0 or values.max() > 1:
        raise UsageError(f"means are {values.tolist()}; expected accuracies, 0 to 1")
    if n == 1:
        covers = f"{Covers.SEEDS} {NoInterval.ONE_SEED}"
        return Interval(mean, None, None, level, n, method, covers)
    if values.min() == values.max():
        covers = f"{Covers.SEEDS} {Caution.EQUAL_SEEDS}"
        return Interval(mean, mean, mean, level, n, method, covers)
    error = float(values.std(ddof=1)) / sqrt(n)
    low, high, method = bounded_ends(mean, error, n - 1, level)
    return Interval(mean, low, high, level, n, method, str(Covers.SEEDS))


def t_quantile(level: float, dof: float) -> float:
    """Quantile of Student's t with (1 - level) / 2 above it; `dof` need not be an integer."""
    # scipy takes longer to import than everything else here
    from scipy.special import stdtrit

    return float(stdtrit(dof, (1 + level) / 2))


def bounded_ends(mean: float, error: float, dof: float, level: float) -> tuple[float, float, str]:
    """Ends of an interval for a mean of numbers between 0 and 1.

    They are those of Student's t where an interval twice as wide still lies between 0 and 1. Nearer
    to an end they are those of Student's t for log(mean / (1 - mean)), by the delta method.

    Args:
        mean: above 0 and below 1.
        error: its standard error, above 0.
        dof: degrees of freedom of the error.
        level: above 0 and below 1.

    Returns:
        Low, high, and the name of the method used.
    """
    # twice as wide: so near to an end the distribution of a mean is skewed, and the plain interval
    # is too short on the side towards the middle; farther away the two scales hardly differ
    half = t_quantile(level, dof) * error
    if mean - 2 * half >= 0 and mean + 2 * half <= 1:
        return mean - half, mean + half, "Student t"
    return shift_on_logit(mean, -half), shift_on_logit(mean, half), LOGIT_STUDENT_T


def shift_on_logit(mean: float, shift: float) -> float:
    """Move a mean above 0 and below 1 by `shift`, measured at the mean, along the logit scale."""
    # delta method: the logit's slope at the mean is 1 / (mean · (1 - mean))
    logit = log(mean / (1 - mean)) + shift / (mean * (1 - mean))
    # the other branch overflows far out
    return 1 / (1 + exp(-logit)) if logit > 0 else exp(logit) / (1 + exp(logit))


def constant_values_interval(mean: float, n: int, level: float) -> tuple[float, float]:
    """Ends for n equal numbers between 0 and 1, which show no spread.

    No numbers with a given mean spread more than zeros and ones, so Wilson's interval for n right
    or wrong answers, n at least 2, with Student's t for the normal quantile, is wide enough.
    """
    return wilson_ends(mean, n, t_quantile(level, n - 1))


def wilson_ends(share: float, n: float, quantile: float) -> tuple[float, float]:
    """Ends of the score interval of a share (Wilson, 1927, https://doi.org/10.2307/2276774).

    The share, 0..1, is of n trials, n above 0; `quantile` is that of the normal distribution, or
    one that stands for it.
    """
    square = quantile * quantile
    centre = (share + square / (2 * n)) / (1 + square / n)
    half = quantile / (1 + square / n) * sqrt(share * (1 - share) / n + square / (4 * n * n))
    # exact at the ends, where rounding would leave a hair
    low = 0.0 if share == 0 else centre - half
    high = 1.0 if share == 1 else centre + half
    return low, high


def finite_values(values: Iterable[float], name: str) -> list[float]:
    """Convert the values to finite floats; an error calls them `name`.

    Raises:
        UsageError: when there is none, or one is not finite.
    """
    numbers = [float(value) for value in values]
    if not numbers:
        raise UsageError(f"{name}: empty; an interval needs at least one value")
    for position, number in enumerate(numbers):
        if not isfinite(number):
            raise UsageError(f"{name}[{position}] is {number}; expected finite numbers")
    return numbers


def has_too_few_differences(differences: Iterable[float]) -> bool:
    """Whether two methods differ in too few episodes to estimate how much they differ in others."""
    changed = [abs(value) > EQUALITY_TOLERANCE for value in differences]
    return sum(changed) < min(MIN_DIFFERING, len(changed))


def check_level(level: float) -> None:
    """Refuse a level that is not above 0 and below 1.

    Raises:
        UsageError: for any other, also 95 for 95 %.
    """
    if not 0 < level < 1:
        raise UsageError(f"level is {level}; expected a number above 0 and below 1, such as 0.95")
