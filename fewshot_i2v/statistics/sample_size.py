"""How many episodes, queries and clips it takes: from a pilot run, or from assumed values.

The variance of an episode's accuracy with M queries is b + w / M: b is what its queries have in
common (classes, support clips), w what each adds on its own. Half-widths and differences are in the
unit of the values: 0.01 is one point of accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil, inf, log2, sqrt

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics.clip_variance import (
    CLIP_SHARE,
    ClipSpread,
    clip_spread,
    clips_for_difference,
    clips_for_half_width,
    half_width_over_clips,
    most_clip_spread,
    over_other_clips,
    visible_over_clips,
)
from fewshot_i2v.statistics.intervals import check_level, t_quantile
from fewshot_i2v.statistics.variance_components import (
    Components,
    assumed,
    assumed_difference,
    components,
    equal_deviation,
    equal_half_width,
)

__all__ = [
    "CLIP_SHARE",
    "MOST",
    "Apart",
    "ClipSpread",
    "Components",
    "assumed",
    "assumed_difference",
    "best_apart",
    "best_query_count",
    "clip_spread",
    "clips_for_difference",
    "clips_for_half_width",
    "clips_per_class",
    "components",
    "deviation_range",
    "episodes_for_difference",
    "episodes_for_half_width",
    "equal_deviation",
    "equal_half_width",
    "fewest_clips",
    "half_width",
    "half_width_over_clips",
    "least_deviation",
    "most_clip_spread",
    "over_other_clips",
    "visible_difference",
    "visible_over_clips",
]

MOST = 10**9
"""No more episodes than these are looked for."""


def best_query_count(found: Components, way: int, shot: int) -> float:
    """Query clips per class with which a given number of clips says most.

    With episodes that share no clip, Q = sqrt(w · shot / (way · b)) makes the variance of the mean
    smallest (Lafargue et al., "Oops, I Sampled it Again", TMLR 2024,
    https://arxiv.org/abs/2409.02850, on the size of tasks).

    Returns:
        Q, not rounded, at least 1; infinite where b is 0: then as many as there are clips.
    """
    if not found.between:
        return inf
    return max(1.0, sqrt(found.within * shot / (way * found.between)))


def half_width(deviation: float, episodes: int, level: float = 0.95, *, away: float = 0.0) -> float:
    """Half-width to expect of the mean over some episodes, by Student's t.

    Args:
        deviation: standard deviation over episodes.
        episodes: at least 2.
        level: above 0 and below 1.
        away: how far an episode can be from the mean; adds the term of `stopping.decide`.
    """
    check_level(level)
    whole = deviation**2 + away**2 / episodes
    return t_quantile(level, episodes - 1) * sqrt(whole / episodes)


def episodes_for_half_width(
    deviation: float, target: float, level: float = 0.95, *, away: float = 0.0
) -> int:
    """Fewest episodes whose half-width is to be `target` or less; arguments as for `half_width`.

    Raises:
        UsageError: when a number is out of its range, or more than 10^9 episodes would be needed.
    """
    _check_aim("half-width", target, deviation)
    return _fewest(lambda n: half_width(deviation, n, level, away=away) <= target)


def visible_difference(
    deviation: float, episodes: int, *, power: float = 0.8, level: float = 0.95
) -> float:
    """The smallest true mean difference that a paired t test would find in a share of runs.

    Args:
        deviation: standard deviation of the difference over episodes.
        episodes: at least 2.
        power: that share, above 1 - level and below 1.
        level: one minus the risk of finding a difference where there is none.

    Raises:
        UsageError: when level or power are out of range.
    """
    check_level(level)
    if not 1 - level < power < 1:
        raise UsageError(
            f"power is {power}; expected a number above {1 - level:g} and below 1, such as 0.8"
        )
    from scipy.special import nctdtrinc

    shift = nctdtrinc(episodes - 1, 1 - power, t_quantile(level, episodes - 1))
    return float(shift) * deviation / sqrt(episodes)


def episodes_for_difference(
    deviation: float, difference: float, *, power: float = 0.8, level: float = 0.95
) -> int:
    """Fewest episodes with which `visible_difference` is `difference` or less.

    There are never so few that no pattern of signs could give the sign-flip test a p of 1 - level:
    the smallest p of n episodes is 2^(1 - n).

    Raises:
        UsageError: when a number is out of its range, or more than 10^9 episodes would be needed.
    """
    _check_aim("difference", difference, deviation)
    fewest = _fewest(
        lambda n: visible_difference(deviation, n, power=power, level=level) <= difference
    )
    return max(fewest, 1 + ceil(-log2(1 - level)))


def least_deviation(difference: float, queries: float) -> float:
    """The least spread over episodes of a difference of two methods that is truly so large.

    Answers must differ in a share `difference` of the queries at least. If the better method only
    wins, and each query on its own, that gives a variance of d · (1 - d) / M. A pilot in which two
    methods hardly differ shows less, but its spread is not that of two methods that do.

    Args:
        difference: true mean, above 0 and below 1.
        queries: of an episode, M.
    """
    return sqrt(difference * (1 - difference) / queries)


def deviation_range(deviation: float, episodes: float, level: float = 0.95) -> tuple[float, float]:
    """What the true standard deviation may be, by the chi-square distribution.

    Args:
        deviation: that of a pilot.
        episodes: of the pilot, at least 2; or degrees of freedom and one.
        level: above 0 and below 1.
    """
    check_level(level)
    from scipy.special import chdtri

    freedom, tail = episodes - 1, (1 - level) / 2
    low, high = (sqrt(freedom / chdtri(freedom, p)) for p in (tail, 1 - tail))
    return deviation * float(low), deviation * float(high)


def clips_per_class(episodes: int, classes: int, way: int, shot: int, query: int) -> int:
    """Clips that every class needs for so many episodes without a common clip.

    Args:
        episodes: at least 1.
        classes: from which `way` are drawn in turn, at least `way`.
        way: classes of an episode.
        shot: support clips of each.
        query: query clips of each.

    Raises:
        UsageError: when there are fewer classes than `way`.
    """
    if classes < way:
        raise UsageError(f"{classes} classes; expected at least {way}, the classes of an episode")
    return -(-episodes * way // classes) * (shot + query)


@dataclass(frozen=True)
class Apart:
    """Episodes that share no clip.

    Attributes:
        query: query clips of each class.
        episodes: how many there are.
        half_width: to expect of their mean.
    """

    query: int
    episodes: int
    half_width: float


def best_apart(
    found: Components, way: int, counts: Mapping[int, int], level: float = 0.95
) -> Apart | None:
    """The query count with which the clips there are say most.

    Args:
        found: how episodes spread.
        way: classes of an episode.
        counts: episodes without a common clip, for each number of query clips per class.
        level: of the interval.

    Returns:
        The one with the smallest half-width; None where no count allows two episodes.
    """
    tried = [
        Apart(query, count, half_width(found.deviation(way * query), count, level))
        for query, count in counts.items()
        if count > 1
    ]
    return min(tried, key=lambda apart: (apart.half_width, apart.query), default=None)


def fewest_clips(
    found: Components, target: float, *, classes: int, way: int, shot: int, level: float = 0.95
) -> tuple[int, Apart]:
    """Fewest clips per class that give the mean over other clips to ± `target`.

    Args:
        found: how episodes spread.
        target: half-width.
        classes: how many there are.
        way: classes of an episode.
        shot: support clips of each.
        level: of the interval.

    Returns:
        Clips of each class, and the episodes that they are used for.

    Raises:
        UsageError: as for `episodes_for_half_width` and `clips_per_class`.
    """
    best = best_query_count(found, way, shot)
    # beyond the best count clips only grow; without one, a single pair of episodes has the fewest
    most = 200 if best == inf else ceil(4 * best) + 1
    plans = []
    for query in range(1, most + 1):
        deviation = found.deviation(way * query)
        count = episodes_for_half_width(deviation, target, level)
        apart = Apart(query, count, half_width(deviation, count, level))
        plans.append((clips_per_class(count, classes, way, shot, query), apart))
    return min(plans, key=lambda plan: (plan[0], plan[1].query))


def _fewest(enough: Callable[[int], bool]) -> int:
    """The least number from 2 that is enough, where every larger one is too.

    Raises:
        UsageError: when none up to `MOST` is.
    """
    high = 2
    while not enough(high):
        if high >= MOST:
            raise UsageError(
                f"more than {MOST:,} episodes would be needed; expected a larger half-width or "
                "difference"
            )
        high *= 2
    low = high // 2
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _check_aim(name: str, value: float, deviation: float) -> None:
    if not (0 < value < inf and 0 <= deviation < inf):
        raise UsageError(
            f"{name} is {value} and the standard deviation {deviation}; expected a number above 0, "
            "such as 0.01 for one point of accuracy, and one of at least 0"
        )
