"""Episodes that the rows and comparisons of `fewshot-i2v plan` need."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fewshot_i2v.report.plan.basis import EpisodeSpread
from fewshot_i2v.statistics import sample_size
from fewshot_i2v.statistics.variance_components import (
    VarianceComponents,
    constant_values_deviation,
    constant_values_half_width,
)
from fewshot_i2v.statistics.verdicts import per_comparison_level

MIN_DIFFERING_EPISODES = 5
"""With fewer episodes in which two rows differ, their spread is no guide."""
CountRange = tuple[int, int]


@dataclass(frozen=True)
class PlanTargets:
    """The precision to reach, as shares: 0.01 for a point.

    Attributes:
        half_width: of every row's mean.
        difference: between rows, to be found.
        power: in what share of runs.
        level: of intervals and tests.
    """

    half_width: float
    difference: float
    power: float
    level: float


@dataclass(frozen=True)
class RowPlan:
    """Episodes that one row needs.

    Attributes:
        name: its display name.
        shot: support clips per class.
        found: variance components of its episodes.
        deviation: standard deviation over episodes with the planned number of queries.
        query_share: share of their variance that is chance of the queries.
        now: half-width with the episodes of the pilot, the longer half where it is asymmetric; or
            None.
        episodes: for the target half-width, as `--until` will draw them.
        between: range of `episodes` that the pilot allows; or None.
    """

    name: str
    shot: int | str
    found: VarianceComponents
    deviation: float
    query_share: float
    now: float | None
    episodes: int
    between: CountRange | None

    @property
    def max_distance(self) -> float:
        """How far an episode can be from the mean."""
        return max(self.found.mean, 1 - self.found.mean)

    @property
    def shows_no_spread(self) -> bool:
        """Whether accuracy never varies in the pilot, as when every answer was right."""
        return not self.deviation


@dataclass(frozen=True)
class ComparisonPlan:
    """Episodes that one comparison needs.

    Attributes:
        name: the row.
        against: the row it is compared with.
        shot: of both.
        gain: mean difference in the pilot, or None.
        differ: episodes of the pilot in which the two differ, or None.
        common: episodes of the pilot that both have.
        found: components of the difference; None where too few episodes of the pilot differ.
        deviation: standard deviation of the difference over episodes; None as `found`.
        visible: minimum detectable difference of the pilot, or None.
        episodes: for the target difference and power, or None as `found`.
        between: as in `RowPlan`.
        together: the same where all comparisons are judged together (Bonferroni).
        comparisons: number of these comparisons.
        alike: whether the two differ so little in the pilot that the minimum spread of two methods
            with the target difference was taken.
    """

    name: str
    against: str
    shot: int | str
    gain: float | None
    differ: int | None
    common: int
    found: VarianceComponents | None = None
    deviation: float | None = None
    visible: float | None = None
    episodes: int | None = None
    between: CountRange | None = None
    together: int | None = None
    alike: bool = False
    comparisons: int = 1


def plan_row(spread: EpisodeSpread, queries: float | None, targets: PlanTargets) -> RowPlan:
    """Plan the episodes of one row.

    `queries` of an episode are planned for; None: as many as the spread is of.
    """
    components, level = spread.components, targets.level
    mean, n_episodes = components.mean, components.episodes
    deviation = components.deviation(queries)

    def _episodes_needed(std: float) -> int:
        return sample_size.episodes_for_half_width(
            std, targets.half_width, level, max_distance=max(mean, 1 - mean)
        )

    now, between, share = None, None, 0.0
    if deviation:
        share = components.within / (queries or components.queries) / deviation**2
    if n_episodes > 1:
        low, high = sample_size.deviation_range(deviation, n_episodes, level)
        now = sample_size.half_width(components.deviation(), n_episodes, level)
        if not deviation:  # equal values are no certainty that others are the same
            high = constant_values_deviation(mean, n_episodes, level)
            now = constant_values_half_width(mean, n_episodes, level)
        between = _episodes_needed(low), _episodes_needed(high)
    return RowPlan(
        spread.name,
        spread.shot,
        components,
        deviation,
        share,
        now,
        _episodes_needed(deviation),
        between,
    )


def plan_comparison(
    spread: EpisodeSpread, queries: float | None, targets: PlanTargets, *, comparisons: int
) -> ComparisonPlan:
    """Plan the episodes of one comparison.

    `queries` as for `plan_row`; `comparisons` are judged together.
    """
    components, n_differing = spread.components, spread.n_differing
    has_pilot = components.episodes > 1
    plan = ComparisonPlan(
        spread.name,
        spread.against or "",
        spread.shot,
        components.mean if has_pilot else None,
        n_differing,
        components.episodes,
    )
    if n_differing is not None and n_differing < MIN_DIFFERING_EPISODES:
        return plan
    queries = queries or components.queries
    min_deviation = sample_size.min_difference_sd(targets.difference, queries)
    deviation = max(components.deviation(queries), min_deviation)

    def _episodes_needed(std: float, level: float = targets.level) -> int:
        return sample_size.episodes_for_difference(
            max(std, min_deviation), targets.difference, power=targets.power, level=level
        )

    visible, between = None, None
    if has_pilot:
        low, high, pilot_deviation = _pilot_spread(components, queries, min_deviation, targets)
        between = _episodes_needed(low), _episodes_needed(high)
        visible = sample_size.detectable_difference(
            pilot_deviation, components.episodes, power=targets.power, level=targets.level
        )
    return replace(
        plan,
        found=components,
        deviation=deviation,
        visible=visible,
        episodes=_episodes_needed(deviation),
        between=between,
        together=_episodes_needed(deviation, per_comparison_level(targets.level, comparisons)),
        alike=components.deviation(queries) < min_deviation,
        comparisons=comparisons,
    )


def _pilot_spread(
    components: VarianceComponents, queries: float, min_deviation: float, targets: PlanTargets
) -> tuple[float, float, float]:
    """Low and high end of a pilot's standard deviation, and its value in the pilot."""
    low, high = sample_size.deviation_range(
        components.deviation(queries), components.episodes, targets.level
    )
    pilot_deviation = components.deviation()
    if pilot_deviation:
        return low, high, pilot_deviation
    # no spread was seen, which is no certainty that there is none
    share = (1 + components.mean) / 2
    return (
        low,
        2 * constant_values_deviation(share, components.episodes, targets.level),
        min_deviation,
    )
