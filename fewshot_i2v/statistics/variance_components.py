"""Variance components of episode accuracies, estimated from a pilot or assumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, isfinite, sqrt
from statistics import fmean, harmonic_mean, variance

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics.intervals import constant_values_interval


@dataclass(frozen=True)
class VarianceComponents:
    """Variance components of the accuracies of episodes.

    Attributes:
        mean: over episodes.
        between: b, the variance that more queries do not remove; at least 0.
        within: w, the variance of one query about the mean of its class in its episode.
        queries: of an episode, M; the harmonic mean where they differ.
        episodes: of the pilot; 0 for assumed values.
        per_class: whether w was measured inside the classes of episodes. With one query per class
            it cannot be; then differences between the classes of an episode count as w, and b is
            too small.
        short: by how much the variance over episodes is below w / M, where it is and b is 0:
            episodes that use most of the clips of a class differ less than their queries suggest.
    """

    mean: float
    between: float
    within: float
    queries: float
    episodes: int = 0
    per_class: bool = True
    short: float = 0.0

    def deviation(self, queries: float | None = None) -> float:
        """Standard deviation over episodes with this many queries; None: as many as measured."""
        return sqrt(self.between + self.within / (self.queries if queries is None else queries))

    def episode_deviation(self, queries: float | None = None) -> float:
        """Standard deviation over episodes drawn as those of the pilot were.

        With as many queries as measured (also None) it is exactly that of the pilot: where
        episodes use most of the clips of a class, they differ less than `deviation` says.
        """
        # with `short` above 0, `between` is 0 and this is the measured variance
        within = max(0.0, self.within - self.short * self.queries)
        return sqrt(self.between + within / (self.queries if queries is None else queries))


def estimate_components(episodes: Sequence[Sequence[Sequence[float]]]) -> VarianceComponents:
    """Estimate variance components of a pilot run by one-way random-effects analysis of variance.

    The groups are the classes of the episodes: w is the pooled variance inside them, b what it
    leaves of the variance over episodes. (With complete episodes as groups, as usual, w would also
    hold the differences between the classes of an episode, which more queries do not remove.)

    Args:
        episodes: for each episode and each of its classes, one value per query: 1 where it was
            right and 0 where not, or the difference of two methods.

    Returns:
        The components. Where every class of every episode has one query, the groups are the
        episodes.

    Raises:
        UsageError: for fewer than two episodes, an episode without a query, or a value that is not
            finite; or where every episode has one query.

    Example:
        >>> pilot = estimate_components([[[1, 1], [1, 0]], [[0, 0], [1, 0]], [[1, 1], [1, 1]]])
        >>> f"{pilot.mean:.3f} {pilot.between:.3f} {pilot.within:.3f}"
        '0.667 0.104 0.167'
    """
    if len(episodes) < 2:
        raise UsageError(f"episodes: {len(episodes)}; expected at least 2 to see how they spread")
    flat = [[float(v) for group in episode for v in group] for episode in episodes]
    for i, values in enumerate(flat):
        if not values or not all(map(isfinite, values)):
            raise UsageError(f"episodes[{i}] is {values}; expected finite numbers, one per query")
    groups = [[float(v) for v in group] for episode in episodes for group in episode if group]
    per_class = any(len(group) > 1 for group in groups)
    within = _pooled_variance(groups if per_class else flat)
    means = [fmean(values) for values in flat]
    queries = harmonic_mean([len(values) for values in flat])
    excess = variance(means) - within / queries
    between, short = max(0.0, excess), max(0.0, -excess)
    return VarianceComponents(fmean(means), between, within, queries, len(flat), per_class, short)


def constant_values_deviation(mean: float, episodes: int, level: float = 0.95) -> float:
    """Upper bound of the standard deviation over episodes where all pilot episodes are equal.

    Values between 0 and 1 with a mean p have a variance of at most p · (1 - p). p is taken within
    Wilson's interval for this many equal values (`intervals.bounded_interval`). There are at least
    2 episodes.
    """
    low, high = constant_values_interval(mean, episodes, level)
    share = min(max(low, 0.5), high)
    return sqrt(share * (1 - share))


def constant_values_half_width(mean: float, episodes: int, level: float = 0.95) -> float:
    """Largest distance of the true mean from that of a pilot whose episodes are all equal."""
    low, high = constant_values_interval(mean, episodes, level)
    return max(mean - low, high - mean)


def _pooled_variance(groups: Sequence[Sequence[float]]) -> float:
    """Pooled variance inside groups."""
    freedom = sum(len(group) - 1 for group in groups)
    if not freedom:
        raise UsageError("every episode has one query; expected more, to see how queries spread")
    squares = 0.0
    for group in groups:
        mean = fsum(group) / len(group)
        squares += fsum((value - mean) ** 2 for value in group)
    return squares / freedom


def assumed_components(accuracy: float, queries: int, common: float = 0.05) -> VarianceComponents:
    """Variance components assumed without a pilot.

    Args:
        accuracy: above 0 and below 1.
        queries: of an episode.
        common: correlation of two answers of an episode, 0..1; b / (b + w) of the rows of the
            shipped quickstart was 0.01 to 0.18.

    Raises:
        UsageError: when a number is out of its range.
    """
    if not 0 < accuracy < 1:
        raise UsageError(f"accuracy is {accuracy}; expected a number above 0 and below 1, like 0.8")
    if not 0 <= common <= 1:
        raise UsageError(f"common is {common}; expected a correlation from 0 to 1, such as 0.05")
    if queries < 1:
        raise UsageError(f"queries is {queries}; expected at least 1")
    total = accuracy * (1 - accuracy)
    return VarianceComponents(accuracy, common * total, (1 - common) * total, queries)


def assumed_difference_components(
    row_components: VarianceComponents, pairing: float = 0.3
) -> VarianceComponents:
    """Components of the difference of two methods with the same components.

    Args:
        row_components: of either method.
        pairing: correlation of the two methods' accuracies over episodes, 0..1; adapters of the
            shipped quickstart and the frozen encoder had 0.14 to 0.40 where they differ at all, and
            more than 0.9 where they hardly do.

    Raises:
        UsageError: when `pairing` is not from 0 to 1.
    """
    if not 0 <= pairing <= 1:
        raise UsageError(f"pairing is {pairing}; expected a correlation from 0 to 1, such as 0.3")
    factor = 2 * (1 - pairing)
    return VarianceComponents(
        0.0, factor * row_components.between, factor * row_components.within, row_components.queries
    )
