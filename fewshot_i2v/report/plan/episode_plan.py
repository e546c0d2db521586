"""Episodes that the rows and comparisons of `fewshot-i2v plan` need."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from fewshot_i2v.report.plan.basis import EpisodeSpread
from fewshot_i2v.statistics import sample_size
from fewshot_i2v.statistics.difference_spread import DifferenceSpread
from fewshot_i2v.statistics.variance_components import (
    VarianceComponents,
    constant_values_deviation,
    constant_values_half_width,
)

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
        episodes: for the target half-width; no more than the pilot has where `now` is within it.
        between: range of `episodes` that the pilot allows; or None.
        until: episodes that `--until` will draw, about: its rule adds a term for spread that is
            not observed yet.
    """

    name: str
    shot: int | str
    found: VarianceComponents
    deviation: float
    query_share: float
    now: float | None
    episodes: int
    between: CountRange | None
    until: int

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
        visible: minimum detectable difference of the pilot, all comparisons judged together; or
            None.
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
    deviation = components.episode_deviation(queries)
    needed = partial(sample_size.episodes_for_half_width, target=targets.half_width, level=level)
    n_planned = needed(deviation)
    now, between, share = None, None, 0.0
    if deviation:
        share = min(1.0, components.within / (queries or components.queries) / deviation**2)
    if n_episodes > 1:
        low, high = sample_size.deviation_range(deviation, n_episodes, level)
        now = sample_size.half_width(components.episode_deviation(), n_episodes, level)
        between = needed(low), needed(high)
        if not deviation:  # equal values are no certainty that others are the same
            now = constant_values_half_width(mean, n_episodes, level)
            n_planned = sample_size.equal_episodes_for_half_width(mean, targets.half_width, level)
            high = constant_values_deviation(mean, n_episodes, level)
            between = n_planned, max(n_planned, needed(high))
    return RowPlan(
        spread.name,
        spread.shot,
        components,
        deviation,
        share,
        now,
        n_planned,
        between,
        until=needed(deviation, max_distance=max(mean, 1 - mean)),
    )


def plan_comparison(
    spread: EpisodeSpread, queries: float | None, targets: PlanTargets, *, comparisons: int
) -> ComparisonPlan:
    """Plan the episodes of one comparison.

    `queries` as for `plan_row`; `comparisons` are judged together.
    """
    components, n_differing = spread.components, spread.n_differing
    n_pilot = components.episodes
    plan = ComparisonPlan(
        spread.name,
        spread.against or "",
        spread.shot,
        components.mean if n_pilot > 1 else None,
        n_differing,
        n_pilot,
    )
    measured = DifferenceSpread(
        components.episode_deviation(), components.queries, n_pilot, n_differing
    )
    if not measured.tells(targets.level):
        return plan
    planned = replace(
        measured,
        deviation=components.episode_deviation(queries),
        queries=queries or components.queries,
    )

    visible, between = None, None
    if n_pilot > 1:
        low, high = (
            replace(planned, deviation=end) for end in _deviation_ends(components, planned, targets)
        )
        between = _episodes_needed(low, targets), _episodes_needed(high, targets)
        visible = measured.detectable(
            power=targets.power, level=targets.level, comparisons=comparisons
        )
    deviation = planned.deviation_for(targets.difference)
    return replace(
        plan,
        found=components,
        deviation=deviation,
        visible=visible,
        episodes=_episodes_needed(planned, targets),
        between=between,
        together=_episodes_needed(planned, targets, comparisons),
        alike=planned.deviation < deviation,
        comparisons=comparisons,
    )


def _episodes_needed(spread: DifferenceSpread, targets: PlanTargets, comparisons: int = 1) -> int:
    n_episodes = spread.episodes_needed(
        targets.difference, power=targets.power, level=targets.level, comparisons=comparisons
    )
    if n_episodes is None:
        raise ValueError("a spread that tells nothing; expected one of enough episodes that differ")
    return n_episodes


def _deviation_ends(
    components: VarianceComponents, planned: DifferenceSpread, targets: PlanTargets
) -> tuple[float, float]:
    """Low and high end of the standard deviation that a pilot allows."""
    n_episodes, level = components.episodes, targets.level
    if components.episode_deviation():
        return sample_size.deviation_range(planned.deviation, n_episodes, level)
    # no spread was seen, which is no certainty that there is none
    share = (1 + components.mean) / 2
    return 0.0, 2 * constant_values_deviation(share, n_episodes, level)
