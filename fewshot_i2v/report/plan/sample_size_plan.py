"""Sample sizes for `fewshot-i2v plan`, from the rows of a pilot run or from assumed values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from statistics import harmonic_mean

from fewshot_i2v.statistics import sample_size
from fewshot_i2v.statistics.clip_variance import ClipVariance
from fewshot_i2v.statistics.sample_size import DisjointPlan
from fewshot_i2v.statistics.variance_components import VarianceComponents
from fewshot_i2v.statistics.verdicts import per_comparison_level

EQUAL_TOLERANCE = 1e-9
"""Accuracies that differ by less are the same."""
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


def plan_row(
    name: str,
    shot: int | str,
    row_components: VarianceComponents,
    queries: float,
    targets: PlanTargets,
) -> RowPlan:
    """Plan one row.

    Args:
        name: its display name.
        shot: support clips per class.
        row_components: of its variance.
        queries: of an episode, to plan for.
        targets: to reach.
    """
    deviation, bound_distance = (
        row_components.deviation(queries),
        max(row_components.mean, 1 - row_components.mean),
    )

    def _episodes_needed(std: float) -> int:
        return sample_size.episodes_for_half_width(
            std, targets.half_width, targets.level, max_distance=bound_distance
        )

    has_pilot = row_components.episodes > 1
    half_width = None
    query_share = row_components.within / queries / deviation**2 if deviation else 0.0
    between = None
    if has_pilot:
        low, high = sample_size.deviation_range(deviation, row_components.episodes, targets.level)
        half_width = sample_size.half_width(
            row_components.deviation(), row_components.episodes, targets.level
        )
        if not deviation:
            high = sample_size.constant_values_deviation(
                row_components.mean, row_components.episodes, targets.level
            )
            half_width = sample_size.constant_values_half_width(
                row_components.mean, row_components.episodes, targets.level
            )
        between = _episodes_needed(low), _episodes_needed(high)
    return RowPlan(
        name,
        shot,
        row_components,
        deviation,
        query_share,
        half_width,
        _episodes_needed(deviation),
        between,
    )


def plan_comparison(
    names: tuple[str, str],
    shot: int | str,
    pair_components: VarianceComponents,
    queries: float,
    targets: PlanTargets,
    *,
    comparisons: int = 1,
    n_differing: int | None = None,
) -> ComparisonPlan:
    """Plan one comparison.

    Args:
        names: of the row and of the one it is compared with.
        shot: of both.
        pair_components: of their difference.
        queries: of an episode, to plan for.
        targets: to reach.
        comparisons: how many are judged together.
        n_differing: episodes of a pilot in which they differ.
    """
    has_pilot = pair_components.episodes > 1
    gain = pair_components.mean if has_pilot else None
    if n_differing is not None and n_differing < MIN_DIFFERING_EPISODES:
        return ComparisonPlan(*names, shot, gain, n_differing, pair_components.episodes)
    min_deviation = sample_size.min_difference_sd(targets.difference, queries)
    hardly_differs = pair_components.deviation(queries) < min_deviation
    deviation = max(pair_components.deviation(queries), min_deviation)

    def _episodes_needed(std: float, level: float = targets.level) -> int:
        return sample_size.episodes_for_difference(
            std, targets.difference, power=targets.power, level=level
        )

    visible, between = None, None
    if has_pilot:
        low, high, pilot_deviation = _pilot_spread(pair_components, queries, min_deviation, targets)
        between = (
            _episodes_needed(max(low, min_deviation)),
            _episodes_needed(max(high, min_deviation)),
        )
        visible = sample_size.detectable_difference(
            pilot_deviation, pair_components.episodes, power=targets.power, level=targets.level
        )
    return ComparisonPlan(
        *names,
        shot,
        gain,
        n_differing,
        pair_components.episodes,
        found=pair_components,
        deviation=deviation,
        visible=visible,
        episodes=_episodes_needed(deviation),
        between=between,
        together=_episodes_needed(deviation, per_comparison_level(targets.level, comparisons)),
        alike=hardly_differs,
        comparisons=comparisons,
    )


def _pilot_spread(
    pair_components: VarianceComponents, queries: float, min_deviation: float, targets: PlanTargets
) -> tuple[float, float, float]:
    """Low and high end of a pilot's standard deviation, and its value in the pilot."""
    low, high = sample_size.deviation_range(
        pair_components.deviation(queries), pair_components.episodes, targets.level
    )
    pilot_deviation = pair_components.deviation()
    if pilot_deviation:
        return low, high, pilot_deviation
    # no spread was seen, which is no certainty that there is none
    share = (1 + pair_components.mean) / 2
    return (
        low,
        2 * sample_size.constant_values_deviation(share, pair_components.episodes, targets.level),
        min_deviation,
    )


_MAX_QUERY_COUNT = 100
# what a half-width leaves to the episodes where the clips have their share of the variance
_EPISODE_HALF_WIDTH_SHARE = sqrt(1 - sample_size.CLIP_SHARE)
ComparisonKey = tuple[str, str | None, int | str]
ClipVariances = Mapping[ComparisonKey, ClipVariance]
"""By name of the row, of the one it is compared with (or None), and shot."""


@dataclass(frozen=True)
class ClipRequirement:
    """Clips that a question about other clips needs, where episodes may share clips.

    Attributes:
        name: the row.
        against: the row it is compared with; None for the row's own accuracy.
        shot: of both.
        left: uncertainty with the split's clips and unlimited episodes: the half-width, or the
            minimum detectable difference, all comparisons judged together.
        clips: of each class, to reach the target half-width or difference.
        episodes: on that many clips.
        between: range of `clips` that the pilot allows; None where `most`.
        most: whether `left` and `clips` are upper bounds from the spread of episodes, because the
            pilot is too short, or there is none.
    """

    name: str
    against: str | None
    shot: int | str
    left: float
    clips: int
    episodes: int
    between: CountRange | None
    most: bool


@dataclass(frozen=True)
class DisjointClipPlan:
    """What the clips of a split allow; all but `needs` is for episodes that share no clip.

    Attributes:
        shot: support clips per class.
        row: the row with the largest spread, which is planned for.
        classes: of the subset.
        sizes: clips of the smallest and of the largest class.
        star: the best number of query clips per class, if clips could be divided at will.
        asked: with the planned number of query clips; None where there are no two episodes.
        best: with the most informative number of query clips; None as `asked`.
        pair: names of the two rows whose difference spreads most, or None.
        visible: their minimum detectable difference with the episodes of `best`, or None.
        needed: clips that each class needs for the target half-width.
        use: the episodes made of them.
        needs: clips that each row and each comparison needs where episodes may share clips.
    """

    shot: int
    row: str
    classes: int
    sizes: CountRange
    star: float
    asked: DisjointPlan | None
    best: DisjointPlan | None
    pair: tuple[str, str] | None
    visible: float | None
    needed: int
    use: DisjointPlan
    needs: tuple[ClipRequirement, ...] = ()


def plan_clips(
    sizes: Sequence[int],
    way: int,
    query: int,
    rows: Sequence[RowPlan],
    pairs: Sequence[ComparisonPlan],
    targets: PlanTargets,
    variances: ClipVariances,
    *,
    pool: float | None = None,
) -> DisjointClipPlan:
    """Plan the clips of the rows of one shot, for shared and for disjoint clips.

    Args:
        sizes: clips of each class.
        way: classes of an episode, at most all.
        query: planned query clips per class.
        rows: of one shot, at least one.
        pairs: of the same shot.
        targets: the precision to reach.
        variances: over clips, of rows and pairs for which a pilot gives one.
        pool: clips of each class from which the episodes of the pilot were drawn repeatedly; None
            where there is no pilot, or its episodes share no clip.
    """
    from fewshot_i2v.data.splits.summary import max_disjoint_episodes

    widest = max(rows, key=lambda row: row.deviation)
    shot, design = int(widest.shot), _ClipDesign(sizes, way, variances, pool)
    row_components = design.disjoint_components((widest.name, None, shot), widest.found)
    max_query = min(max(sizes) - shot, _MAX_QUERY_COUNT)
    counts = {
        query_count: max_disjoint_episodes(sizes, way, shot, query_count)
        for query_count in range(1, max_query + 1)
    }
    planned_counts = {query: counts.get(query, max_disjoint_episodes(sizes, way, shot, query))}
    best = sample_size.best_disjoint_plan(row_components, way, counts, targets.level)
    min_clips, min_clips_plan = sample_size.min_clips_per_class(
        row_components,
        targets.half_width,
        classes=len(sizes),
        way=way,
        shot=shot,
        level=targets.level,
    )
    pair, visible = _hardest_comparison(pairs, design, best, targets)
    requirements = [_row_requirement(row, design, targets) for row in rows]
    requirements += [
        requirement
        for requirement in (_comparison_requirement(pair, design, targets) for pair in pairs)
        if requirement
    ]
    return DisjointClipPlan(
        shot=shot,
        row=widest.name,
        classes=len(sizes),
        sizes=(min(sizes), max(sizes)),
        star=sample_size.best_query_count(row_components, way, shot),
        asked=sample_size.best_disjoint_plan(row_components, way, planned_counts, targets.level),
        best=best,
        pair=pair,
        visible=visible,
        needed=min_clips,
        use=min_clips_plan,
        needs=tuple(requirements),
    )


@dataclass(frozen=True)
class _ClipDesign:
    """The clips of each class, and a pilot's sampling; as for `plan_clips`."""

    sizes: Sequence[int]
    way: int
    variances: ClipVariances
    pool: float | None

    @property
    def mean_class_size(self) -> float:
        """Harmonic mean of the class sizes, which decides the uncertainty."""
        return harmonic_mean(self.sizes)

    def clip_variance(
        self, key: ComparisonKey, episode_components: VarianceComponents
    ) -> ClipVariance:
        """Variance over clips: from the pilot, or its upper bound."""
        return self.variances.get(key) or sample_size.max_clip_variance(
            episode_components, self.way, int(key[2]), len(self.sizes), clips=self.pool
        )

    def disjoint_components(
        self, key: ComparisonKey, episode_components: VarianceComponents
    ) -> VarianceComponents:
        """For episodes that share no clip."""
        if self.pool is None:
            return episode_components
        return sample_size.components_over_clips(
            episode_components, self.clip_variance(key, episode_components), self.pool
        )


def _row_requirement(row: RowPlan, design: _ClipDesign, targets: PlanTargets) -> ClipRequirement:
    shot = int(row.shot)
    variance = design.clip_variance((row.name, None, shot), row.found)

    def _clips_needed(clip_variance: ClipVariance) -> int:
        return sample_size.clips_for_half_width(clip_variance, targets.half_width, targets.level)

    episodes = sample_size.episodes_for_half_width(
        row.deviation,
        targets.half_width * _EPISODE_HALF_WIDTH_SHARE,
        targets.level,
        max_distance=max(row.found.mean, 1 - row.found.mean),
    )
    return ClipRequirement(
        row.name,
        None,
        shot,
        left=sample_size.half_width_over_clips(variance, design.mean_class_size, targets.level),
        clips=max(_clips_needed(variance), shot + 1),
        episodes=episodes,
        between=_clip_count_range(variance, targets, _clips_needed),
        most=variance.dof is None,
    )


def _comparison_requirement(
    pair: ComparisonPlan, design: _ClipDesign, targets: PlanTargets
) -> ClipRequirement | None:
    """None where too few episodes of the pilot differ."""
    if pair.found is None or pair.deviation is None:
        return None
    shot, pair_components = int(pair.shot), pair.found
    if pair.alike:
        min_variance = targets.difference * (1 - targets.difference)
        max_components = replace(pair_components, between=0.0, within=min_variance, short=0.0)
        variance = sample_size.max_clip_variance(
            max_components, design.way, shot, len(design.sizes)
        )
    else:
        variance = design.clip_variance((pair.name, pair.against, shot), pair_components)
    # as `compare` decides on other clips: all comparisons judged together
    error_rates = {
        "power": targets.power,
        "level": per_comparison_level(targets.level, pair.comparisons),
    }

    def _clips_needed(clip_variance: ClipVariance) -> int:
        return sample_size.clips_for_difference(clip_variance, targets.difference, **error_rates)

    return ClipRequirement(
        pair.name,
        pair.against,
        shot,
        left=sample_size.detectable_over_clips(variance, design.mean_class_size, **error_rates),
        clips=max(_clips_needed(variance), shot + 1),
        episodes=sample_size.episodes_for_difference(
            pair.deviation, targets.difference * _EPISODE_HALF_WIDTH_SHARE, **error_rates
        ),
        between=_clip_count_range(variance, targets, _clips_needed),
        most=variance.dof is None,
    )


def _clip_count_range(
    variance: ClipVariance, targets: PlanTargets, clips_needed: Callable[[ClipVariance], int]
) -> CountRange | None:
    if variance.dof is None:
        return None
    low, high = sample_size.deviation_range(
        sqrt(variance.single_clip_variance), variance.dof + 1, targets.level
    )
    return clips_needed(ClipVariance(low**2)), clips_needed(ClipVariance(high**2))


def _hardest_comparison(
    pairs: Sequence[ComparisonPlan],
    design: _ClipDesign,
    disjoint_plan: DisjointPlan | None,
    targets: PlanTargets,
) -> tuple[tuple[str, str] | None, float | None]:
    """The pair whose difference spreads most, and its minimum detectable difference."""
    candidates = [(p, p.found, p.deviation) for p in pairs if p.found and p.deviation is not None]
    if disjoint_plan is None or not candidates:
        return None, None
    pair, pair_components, _ = max(candidates, key=lambda entry: entry[2])
    pair_components = design.disjoint_components(
        (pair.name, pair.against, pair.shot), pair_components
    )
    deviation = pair_components.deviation(design.way * disjoint_plan.query)
    visible = sample_size.detectable_difference(
        deviation, disjoint_plan.episodes, power=targets.power, level=targets.level
    )
    return (pair.name, pair.against), visible
