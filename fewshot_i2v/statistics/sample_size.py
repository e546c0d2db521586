"""Numbers of episodes, queries and clips to run, from a pilot run or from assumed values.

The variance of an episode's accuracy with M queries is b + w / M: b is what its queries have in
common (classes, support clips), w what each adds independently. Half-widths and differences are in
the unit of the values: 0.01 is one point of accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil, inf, log2, sqrt

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics.intervals import check_level, t_quantile
from fewshot_i2v.statistics.variance_components import (
    VarianceComponents,
    constant_values_half_width,
)

MAX_EPISODES = 10**9
"""No more episodes than these are looked for."""
_LOG_ROUNDING = 1e-9


def best_query_count(components: VarianceComponents, way: int, shot: int) -> float:
    """Number of query clips per class that gives the smallest variance from the same clips.

    With episodes that share no clip, Q = sqrt(w · shot / (way · b)) makes the variance of the mean
    smallest (Lafargue et al., "Oops, I Sampled it Again", TMLR 2024,
    https://arxiv.org/abs/2409.02850, on the size of tasks).

    Returns:
        Q, not rounded, at least 1; infinite where b is 0: then as many as there are clips.
    """
    if not components.between:
        return inf
    return max(1.0, sqrt(components.within * shot / (way * components.between)))


def half_width(
    deviation: float, episodes: int, level: float = 0.95, *, max_distance: float = 0.0
) -> float:
    """Expected half-width of the mean over at least 2 episodes, by Student's t.

    `max_distance`, how far an episode can be from the mean, adds the term of
    `sequential_stopping.decide_stopping`.
    """
    check_level(level)
    variance = deviation**2 + max_distance**2 / episodes
    return t_quantile(level, episodes - 1) * sqrt(variance / episodes)


def episodes_for_half_width(
    deviation: float, target: float, level: float = 0.95, *, max_distance: float = 0.0
) -> int:
    """Fewest episodes whose expected half-width is `target` or less; arguments as for `half_width`.

    Raises:
        UsageError: when a number is out of its range, or more than 10^9 episodes would be needed.
    """
    _check_target("half-width", target, deviation)
    return _smallest_sufficient(
        lambda n: half_width(deviation, n, level, max_distance=max_distance) <= target
    )


def equal_episodes_for_half_width(mean: float, target: float, level: float = 0.95) -> int:
    """Fewest episodes, all equal to a mean from 0 to 1, whose interval is ± `target` or less.

    The interval is the one that tables show for equal accuracies; it is longest to one side.

    Raises:
        UsageError: as for `episodes_for_half_width`.
    """
    _check_target("half-width", target, 0.0)
    return _smallest_sufficient(lambda n: constant_values_half_width(mean, n, level) <= target)


def detectable_difference(
    deviation: float, episodes: int, *, power: float = 0.8, level: float = 0.95
) -> float:
    """Smallest true mean difference that a paired t test would detect in a share of runs.

    `power` is that share, above 1 - level; there are at least 2 episodes.

    Raises:
        UsageError: when level or power are out of range.
    """
    check_error_rates(power, level)
    # scipy takes longer to import than everything else here
    from scipy.special import nctdtrinc

    # the noncentrality with which t stays below its critical value in a share 1 - power

    shift = nctdtrinc(episodes - 1, 1 - power, t_quantile(level, episodes - 1))
    return float(shift) * deviation / sqrt(episodes)


def check_error_rates(power: float, level: float) -> None:
    """Refuse a level that is none, and a power that chance alone gives.

    Raises:
        UsageError: for these.
    """
    check_level(level)
    if not 1 - level < power < 1:
        raise UsageError(
            f"power is {power}; expected a number above {1 - level:g} and below 1, such as 0.8"
        )


def episodes_for_difference(
    deviation: float, difference: float, *, power: float = 0.8, level: float = 0.95
) -> int:
    """Fewest episodes with which `detectable_difference` is `difference` or less.

    There are never so few that no pattern of signs could give the sign-flip test a p of 1 - level:
    the smallest p of n episodes is 2^(1 - n).

    Raises:
        UsageError: when a number is out of its range, or more than 10^9 episodes would be needed.
    """
    _check_target("difference", difference, deviation)
    n_episodes = _smallest_sufficient(
        lambda n: detectable_difference(deviation, n, power=power, level=level) <= difference
    )
    return max(n_episodes, fewest_decisive_episodes(level))


def fewest_decisive_episodes(level: float = 0.95, comparisons: int = 1) -> int:
    """Fewest episodes with which a sign-flip test can decide so many comparisons together.

    They are those in which the two methods differ, since the smallest p of n such episodes is
    2^(1 - n): with fewer nothing is decided, however large the difference. `level` is above 0 and
    below 1, `comparisons` at least 1.
    """
    return max(1, ceil(1 + log2(comparisons / (1 - level)) - _LOG_ROUNDING))


def min_difference_sd(difference: float, queries: float) -> float:
    """Lower bound of the spread over episodes of a true difference of this size.

    Answers must differ in a share `difference` of the queries at least. If the better method only
    wins, and each query independently, that gives a variance of d · (1 - d) / M. A pilot in which
    two methods hardly differ shows less, but its spread is not that of two methods that do. M is
    the number of queries of an episode; d is above 0 and below 1.
    """
    return sqrt(difference * (1 - difference) / queries)


def deviation_range(deviation: float, episodes: float, level: float = 0.95) -> tuple[float, float]:
    """Interval of the true standard deviation, by the chi-square distribution.

    `episodes` are those of the pilot, at least 2; or degrees of freedom plus one.
    """
    check_level(level)
    from scipy.special import chdtri

    dof, tail = episodes - 1, (1 - level) / 2
    low, high = (sqrt(dof / chdtri(dof, p)) for p in (tail, 1 - tail))
    return deviation * float(low), deviation * float(high)


def clips_per_class(episodes: int, classes: int, way: int, shot: int, query: int) -> int:
    """Clips that every class needs for this many episodes without a common clip.

    `way` of the classes are drawn in turn.

    Raises:
        UsageError: when there are fewer classes than `way`.
    """
    if classes < way:
        raise UsageError(
            f"way: got {way}; expected at most {classes}, the number of classes that there are"
        )
    return -(-episodes * way // classes) * (shot + query)


@dataclass(frozen=True)
class DisjointPlan:
    """Plan of episodes that share no clip.

    Attributes:
        query: query clips of each class.
        episodes: how many there are.
        half_width: expected half-width of their mean.
    """

    query: int
    episodes: int
    half_width: float


def best_disjoint_plan(
    components: VarianceComponents, way: int, counts: Mapping[int, int], level: float = 0.95
) -> DisjointPlan | None:
    """Plan of disjoint episodes with the smallest half-width from the clips of a split.

    `counts` has the episodes without a common clip for each number of query clips per class. None
    where no count allows two episodes.
    """
    plans = [
        DisjointPlan(query, count, half_width(components.deviation(way * query), count, level))
        for query, count in counts.items()
        if count > 1
    ]
    return min(plans, key=lambda plan: (plan.half_width, plan.query), default=None)


def min_clips_per_class(
    components: VarianceComponents,
    target: float,
    *,
    classes: int,
    way: int,
    shot: int,
    level: float = 0.95,
) -> tuple[int, DisjointPlan]:
    """Fewest clips per class that estimate the mean over other clips to ± `target`.

    The clips of each class are returned with the episodes that they are used for.

    Raises:
        UsageError: as for `episodes_for_half_width` and `clips_per_class`.
    """
    best_count = best_query_count(components, way, shot)
    # beyond the best count clips only grow; without one, a single pair of episodes has the fewest
    max_query = 200 if best_count == inf else ceil(4 * best_count) + 1
    plans = []
    for query in range(1, max_query + 1):
        deviation = components.deviation(way * query)
        count = episodes_for_half_width(deviation, target, level)
        disjoint_plan = DisjointPlan(query, count, half_width(deviation, count, level))
        plans.append((clips_per_class(count, classes, way, shot, query), disjoint_plan))
    return min(plans, key=lambda plan: (plan[0], plan[1].query))


def _smallest_sufficient(is_enough: Callable[[int], bool]) -> int:
    """Smallest number from 2 that is enough, where every larger one is too."""
    high = 2
    while not is_enough(high):
        if high >= MAX_EPISODES:
            raise UsageError(
                f"more than {MAX_EPISODES:,} episodes would be needed; expected a larger "
                "half-width or difference"
            )
        high *= 2
    low = high // 2
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _check_target(name: str, value: float, deviation: float) -> None:
    if not (0 < value < inf and 0 <= deviation < inf):
        raise UsageError(
            f"{name} is {value} and the standard deviation {deviation}; expected a number above 0, "
            "such as 0.01 for one point of accuracy, and one of at least 0"
        )
