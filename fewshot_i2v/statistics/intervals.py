"""Means with intervals, and differences between methods on the same episodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, fsum, isfinite, log, sqrt
from typing import TYPE_CHECKING, Literal

from fewshot_i2v.errors import UsageError

if TYPE_CHECKING:
    from numpy.random import Generator

LOGIT = "Student t on the logit scale"
BOUND = "Wilson bound for equal values"


def t_quantile(level: float, dof: float) -> float:
    """Quantile of Student's t that leaves (1 - level) / 2 above it.

    Args:
        level: above 0 and below 1.
        dof: degrees of freedom, above 0; need not be whole.
    """
    # scipy takes longer to import than everything else here
    from scipy.special import stdtrit

    return float(stdtrit(dof, (1 + level) / 2))


def inside(mean: float, error: float, dof: float, level: float) -> tuple[float, float, str]:
    """Ends of an interval for a mean of numbers between 0 and 1.

    They are those of Student's t where an interval twice as wide still lies between 0 and 1. Nearer
    to an end they are those of Student's t for log(mean / (1 - mean)), by the delta method.

    Args:
        mean: above 0 and below 1.
        error: its standard error, above 0.
        dof: degrees of freedom of the error.
        level: above 0 and below 1.

    Returns:
        Low, high, and which of the two it is.
    """
    half = t_quantile(level, dof) * error
    if mean - 2 * half >= 0 and mean + 2 * half <= 1:
        return mean - half, mean + half, "Student t"
    return shifted(mean, -half), shifted(mean, half), LOGIT


def shifted(mean: float, shift: float) -> float:
    """The mean moved by `shift` as measured at the mean, but on the logit scale.

    Args:
        mean: above 0 and below 1.
        shift: any number.
    """
    logit = log(mean / (1 - mean)) + shift / (mean * (1 - mean))
    # the other branch overflows far out
    return 1 / (1 + exp(-logit)) if logit > 0 else exp(logit) / (1 + exp(logit))


def equal_values(mean: float, n: int, level: float) -> tuple[float, float]:
    """Ends for n equal numbers between 0 and 1, which show no spread.

    No numbers with a given mean spread more than zeros and ones, so Wilson's interval for n right
    or wrong answers, with Student's t for the normal quantile, is wide enough for them.

    Args:
        mean: the number, 0..1.
        n: at least 2.
        level: above 0 and below 1.
    """
    return wilson_ends(mean, n, t_quantile(level, n - 1))


def wilson_ends(share: float, n: float, quantile: float) -> tuple[float, float]:
    """Ends of the score interval of a share (Wilson, 1927, https://doi.org/10.2307/2276774).

    Args:
        share: 0..1.
        n: number of trials, above 0.
        quantile: of the standard normal distribution, or one that stands for it.
    """
    square = quantile * quantile
    centre = (share + square / (2 * n)) / (1 + square / n)
    half = quantile / (1 + square / n) * sqrt(share * (1 - share) / n + square / (4 * n * n))
    # exact at the ends, where rounding would leave a hair
    low = 0.0 if share == 0 else centre - half
    high = 1.0 if share == 1 else centre + half
    return low, high


def percentile_t(
    values: Sequence[float], level: float, generator: Generator, repeats: int
) -> tuple[float, float]:
    """Ends of the percentile-t bootstrap interval of a mean, cut at 0 and 1.

    Args:
        values: numbers between 0 and 1, not all equal.
        level: above 0 and below 1.
        generator: of the resamples.
        repeats: number of resamples.
    """
    import numpy as np

    # equal values are drawn together: accuracies have few
    distinct, counts = np.unique(values, return_counts=True)
    n = len(values)
    mean = float(distinct @ counts) / n
    away = distinct - mean
    error = sqrt(float(counts @ away**2)) / n
    draws = generator.multinomial(n, counts / n, size=repeats) / n
    shift = draws @ away
    spread = np.sqrt(np.maximum(draws @ away**2 - shift**2, 0)) / sqrt(n)
    # what rounding leaves is no spread
    flat = spread < 1e-9 * error
    ratios = np.where(flat, np.copysign(np.inf, shift), shift / np.where(flat, 1, spread))
    ratios = np.sort(ratios)
    cut = int((1 - level) / 2 * repeats)
    least, most = float(ratios[cut]), float(ratios[repeats - 1 - cut])
    return max(mean - error * most, 0.0), min(mean - error * least, 1.0)


EQUAL = 1e-12
"""Differences up to this are rounding, not differences."""
FEWEST_DIFFERING = 12
"""Episodes in which two methods have to differ for an interval of their difference, if not all do.

By simulation (`scripts/coverage_of_differences.py`): where losses are twice as large as gains and
half as frequent, it is the fewest from which on 93 % of the intervals at 95 % hold the mean,
whatever the number of episodes. With 5 to 11 they hold it in 90 to 93 %, since the large
differences are often not among so few; with 2 or 3 they hold 0 whatever the truth is. Where losses
are three times as large, 12 hold it in 90 % and 30 in 93 %.
"""


def checked(values: Iterable[float], name: str) -> list[float]:
    """The values as plain numbers.

    Args:
        values: any numbers.
        name: what an error calls them.

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


def too_few_differ(differences: Iterable[float]) -> bool:
    """Whether two methods differ in so few episodes that these do not show how much others do.

    Args:
        differences: one per episode, at least 2.
    """
    changed = [abs(value) > EQUAL for value in differences]
    return sum(changed) < min(FEWEST_DIFFERING, len(changed))


def check_level(level: float) -> None:
    """Refuses a level that is not above 0 and below 1.

    Raises:
        UsageError: for any other, also 95 for 95 %.
    """
    if not 0 < level < 1:
        raise UsageError(f"level is {level}; expected a number above 0 and below 1, such as 0.95")


def check_repeats(repeats: int) -> None:
    """Refuses too few resamples for the ends of an interval.

    Raises:
        UsageError: below 100.
    """
    if repeats < 100:
        raise UsageError(f"repeats is {repeats}; expected at least 100, such as 2000")


def in_range(values: list[float], low: float, high: float) -> list[float]:
    """The values as shares of the way from `low` to `high`.

    Raises:
        UsageError: when a value is not from `low` to `high`, or these are not in order.
    """
    if not (isfinite(low) and isfinite(high) and low < high):
        raise UsageError(f"low is {low} and high is {high}; expected finite numbers, low first")
    for position, value in enumerate(values):
        if not low <= value <= high:
            raise UsageError(f"values[{position}] is {value}; expected {low} to {high}")
    return [(value - low) / (high - low) for value in values]


Unit = Literal["episode", "clip"]

_MEAN_COVERS = (
    "It covers the mean accuracy that the episode sampler gives on these clips and classes; "
    "episodes share clips, so it does not cover new clips, new classes or another trained start."
)
_DIFFERENCE_COVERS = (
    "It covers the mean difference on the same episodes, drawn from these clips and classes; "
    "episodes share clips, so it does not cover new clips, new classes or another trained start."
)
_APART_COVERS = (
    "No clip is in two episodes, so it covers other clips of these classes, drawn as these were; "
    "not new classes or another trained start."
)
_CLIPS_COVER = (
    "One episode, so it is over query clips: it covers other query clips of these classes with "
    "these support clips; not other support clips, new classes or another trained start."
)
_WILSON_COVERS = (
    "It covers the share that such trials have, if they are independent; predictions of one "
    "episode, or of episodes that share clips, are not."
)
_PAIRED = "paired Student t"
_ONE = "One episode: no interval."
_NO_SPREAD = (
    "All values are equal, so the interval has no width; that is not certainty: these episodes do "
    "not show how much others would differ."
)
_FEW_DIFFER = (
    f"Where two rows differ in fewer than {FEWEST_DIFFERING} {{unit}}s, and not in all, these do "
    "not show how much others would differ: no interval."
)
_SAME = (
    "Where the difference is the same in all {unit}s, these do not show how others would differ: "
    "no interval."
)


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
        covers: in a sentence, what it holds and what not.
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


def mean_interval(values: Sequence[float], level: float = 0.95, *, shared: bool = True) -> Interval:
    """Mean and Student t interval with n - 1 degrees of freedom.

    Args:
        values: one accuracy in [0, 1] (or any other finite number) per episode.
        level: above 0 and below 1.
        shared: whether episodes have clips in common, which decides what the interval covers.

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
    covers = _MEAN_COVERS if shared else _APART_COVERS
    return _interval(checked(values, "values"), level, "Student t", covers)


def paired_difference(
    a: Sequence[float],
    b: Sequence[float],
    level: float = 0.95,
    *,
    shared: bool = True,
    unit: Unit = "episode",
) -> Interval:
    """Mean of a - b over the same episodes, with its Student t interval.

    Episodes differ in difficulty, and both methods share it; the interval of the difference is
    therefore much narrower than the two separate ones. Whether those overlap is no test.

    Args:
        a: one accuracy per episode of the one method.
        b: of the other, in the same order of episodes.
        level: above 0 and below 1.
        shared: as for `mean_interval`.
        unit: what the values are of; query clips are those of a single episode.

    Returns:
        The interval of the difference; positive where `a` is better. There is none, and `covers`
        says why, where all differences are the same, or where fewer than `FEWEST_DIFFERING` are
        not 0 and others are: rare differences are skewed, and what was not seen among so few may
        be large.

    Raises:
        UsageError: when the numbers of episodes differ, or as for `mean_interval`.
    """
    if len(a) != len(b):
        raise UsageError(
            f"a paired difference needs the same episodes of both; got {len(a)} and {len(b)} values"
        )
    pairs = zip(checked(a, "a"), checked(b, "b"), strict=True)
    differences = [x - y for x, y in pairs]
    covers = _DIFFERENCE_COVERS if shared else _APART_COVERS
    covers = _CLIPS_COVER if unit == "clip" else covers
    equal = len(differences) > 1 and max(differences) - min(differences) <= EQUAL
    if equal or too_few_differ(differences):
        check_level(level)
        why = (_SAME if equal else _FEW_DIFFER).format(unit=unit)
        mean, n = fsum(differences) / len(differences), len(differences)
        told = f"{covers} {why}" if n > 1 else f"{covers} {_ONE}"
        return Interval(mean, None, None, level, n, _PAIRED, told, equal)
    return _interval(differences, level, _PAIRED, covers)


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Share of successes and Wilson's score interval (1927, https://doi.org/10.2307/2276774).

    Args:
        successes: 0 to n.
        n: number of independent trials, at least 1. A single one has an interval too: what it can
            be is known.
        level: above 0 and below 1.

    Raises:
        UsageError: when a number is out of its range.
    """
    check_level(level)
    if n < 1 or not 0 <= successes <= n:
        raise UsageError(
            f"{successes} successes of {n}; expected at least 1 trial and from 0 to as many "
            "successes"
        )
    from scipy.special import ndtri

    low, high = wilson_ends(successes / n, n, float(ndtri((1 + level) / 2)))
    return Interval(successes / n, low, high, level, n, "Wilson", _WILSON_COVERS)


def bootstrap_mean(
    values: Sequence[float],
    level: float = 0.95,
    *,
    seed: int = 0,
    repeats: int = 2000,
    low: float = 0.0,
    high: float = 1.0,
    shared: bool = True,
) -> Interval:
    """Mean of bounded values and its percentile-t bootstrap interval, cut at the bounds.

    Of the bootstraps it is the one that keeps its level with few values and means near an end: for
    6 to 90 accuracies of episodes with means of 0.6 to 0.987 it held the mean in 94 to 100 % of
    simulated samples at 95 %, and BCa in 88 to 100 %. Where only three or four values differ from
    the others it says so by being very wide; `bounded_interval` is narrower there.

    Args:
        values: independent numbers from `low` to `high`.
        level: above 0 and below 1.
        seed: of the resamples, 0 or more.
        repeats: number of resamples, at least 100.
        low: lowest possible value.
        high: highest possible value.
        shared: as for `mean_interval`.

    Returns:
        The interval (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 12.5).
        A single value has none; equal values have that of `bounded_interval`.

    Raises:
        UsageError: as for `mean_interval`, or when a value is out of range or there are too few
            repeats.
    """
    check_level(level)
    check_repeats(repeats)
    numbers = in_range(checked(values, "values"), low, high)
    if len(numbers) < 2 or min(numbers) == max(numbers):
        return bounded_interval(values, level, low=low, high=high, shared=shared)
    import numpy as np

    mean = fsum(numbers) / len(numbers)
    ends = percentile_t(numbers, level, np.random.default_rng(seed), repeats)
    at, first, last = (low + (high - low) * x for x in (mean, *ends))
    covers = _MEAN_COVERS if shared else _APART_COVERS
    return Interval(at, first, last, level, len(numbers), "percentile-t bootstrap", covers)


def bounded_interval(
    values: Sequence[float],
    level: float = 0.95,
    *,
    low: float = 0.0,
    high: float = 1.0,
    shared: bool = True,
) -> Interval:
    """Mean of bounded values and an interval that stays inside the bounds.

    It is Student's t where an interval twice as wide would still be inside: there the two scales
    agree. Nearer to a bound it is Student's t for the logit of the mean, which held means of 0.85
    to 0.99 in 92 to 99 % of simulated samples at 95 %, where Student's t held them in 28 to 96 %.

    Args:
        values: numbers from `low` to `high`, such as one accuracy per episode.
        level: above 0 and below 1.
        low: lowest possible value.
        high: highest possible value.
        shared: as for `mean_interval`.

    Returns:
        The interval; `method` says which. A single value has none. Equal values, such as all 1,
        have that of as many right or wrong answers: no numbers with this mean need a wider one.

    Raises:
        UsageError: as for `mean_interval`, or when a value is out of range.
    """
    check_level(level)
    numbers = in_range(checked(values, "values"), low, high)
    n, mean = len(numbers), fsum(numbers) / len(numbers)
    covers = _MEAN_COVERS if shared else _APART_COVERS
    if n == 1:
        return Interval(float(values[0]), None, None, level, n, "Student t", f"{covers} {_ONE}")
    if min(numbers) == max(numbers):
        method, (first, last) = BOUND, equal_values(mean, n, level)
    else:
        error = sqrt(fsum((value - mean) ** 2 for value in numbers) / (n - 1) / n)
        first, last, method = inside(mean, error, n - 1, level)
    at, first, last = (low + (high - low) * x for x in (mean, first, last))
    return Interval(at, first, last, level, n, method, covers)


def _interval(values: list[float], level: float, method: str, covers: str) -> Interval:
    check_level(level)
    n = len(values)
    if n == 1:
        return Interval(values[0], None, None, level, n, method, f"{covers} {_ONE}")
    if min(values) == max(values):
        value = values[0]
        return Interval(value, value, value, level, n, method, f"{covers} {_NO_SPREAD}")
    # scipy takes longer to import than everything else here
    from scipy.special import stdtrit

    mean = fsum(values) / n
    deviation = sqrt(fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(stdtrit(n - 1, (1 + level) / 2)) * deviation / sqrt(n)
    return Interval(mean, mean - half, mean + half, level, n, method, covers)
