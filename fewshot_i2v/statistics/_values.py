"""Checks of what the intervals are given."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite

from fewshot_i2v.errors import UsageError

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
