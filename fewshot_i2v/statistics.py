"""Means with intervals, and differences between methods on the same episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, isfinite, sqrt

from fewshot_i2v.errors import UsageError

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
_ONE = "One episode: no interval."
_NO_SPREAD = (
    "All values are equal, so the interval has no width; that is not certainty: these episodes do "
    "not show how much others would differ."
)


@dataclass(frozen=True)
class Interval:
    """A mean with an interval.

    Attributes:
        mean: arithmetic mean of the values, in their unit.
        low: lower end, or None where a single value allows none. Not cut at 0 or 1.
        high: upper end, or None.
        level: share of repetitions in which such an interval holds what it covers, 0..1.
        n: number of values.
        method: how it was computed.
        covers: in a sentence, what it holds and what not.
    """

    mean: float
    low: float | None
    high: float | None
    level: float
    n: int
    method: str
    covers: str

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
    return _interval(_checked(values, "values"), level, "Student t", covers)


def paired_difference(
    a: Sequence[float], b: Sequence[float], level: float = 0.95, *, shared: bool = True
) -> Interval:
    """Mean of a - b over the same episodes, with its Student t interval.

    Episodes differ in difficulty, and both methods share it; the interval of the difference is
    therefore much narrower than the two separate ones. Whether those overlap is no test.

    Args:
        a: one accuracy per episode of the one method.
        b: of the other, in the same order of episodes.
        level: above 0 and below 1.
        shared: as for `mean_interval`.

    Returns:
        The interval of the difference; positive where `a` is better.

    Raises:
        UsageError: when the numbers of episodes differ, or as for `mean_interval`.
    """
    if len(a) != len(b):
        raise UsageError(
            f"a paired difference needs the same episodes of both; got {len(a)} and {len(b)} values"
        )
    pairs = zip(_checked(a, "a"), _checked(b, "b"), strict=True)
    covers = _DIFFERENCE_COVERS if shared else _APART_COVERS
    return _interval([x - y for x, y in pairs], level, "paired Student t", covers)


def _checked(values: Sequence[float], name: str) -> list[float]:
    numbers = [float(value) for value in values]
    if not numbers:
        raise UsageError(f"{name}: empty; an interval needs at least one value")
    for position, number in enumerate(numbers):
        if not isfinite(number):
            raise UsageError(f"{name}[{position}] is {number}; expected finite numbers")
    return numbers


def _interval(values: list[float], level: float, method: str, covers: str) -> Interval:
    if not 0 < level < 1:
        raise UsageError(f"level is {level}; expected a number above 0 and below 1, such as 0.95")
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
