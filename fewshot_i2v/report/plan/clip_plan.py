"""Clips that the rows and comparisons of `fewshot-i2v plan` need for other clips of the classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from statistics import harmonic_mean

from fewshot_i2v.data.splits.summary import max_disjoint_episodes
from fewshot_i2v.report.plan.basis import SpreadKey
from fewshot_i2v.report.plan.episode_plan import ComparisonPlan, CountRange, PlanTargets, RowPlan
from fewshot_i2v.statistics import sample_size
from fewshot_i2v.statistics.clip_variance import (
    CLIP_SHARE,
    ClipVariance,
    clips_for_difference,
    clips_for_half_width,
    components_over_clips,
    detectable_over_clips,
    half_width_over_clips,
    max_clip_variance,
)
from fewshot_i2v.statistics.sample_size import DisjointPlan
from fewshot_i2v.statistics.variance_components import VarianceComponents
from fewshot_i2v.statistics.verdicts import per_comparison_level

_MAX_QUERY_COUNT = 100
# what a half-width leaves to the episodes where the clips have their share of the variance
_EPISODE_HALF_WIDTH_SHARE = sqrt(1 - CLIP_SHARE)


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


@dataclass(frozen=True)
class ClipDesign:
    """The clips of a split and a pilot's sampling of them.

    Attributes:
        sizes: clips of each class.
        way: classes of an episode, at most all.
        query: planned query clips per class.
        targets: the precision to reach.
        variances: over clips, of rows and pairs for which a pilot gives one.
        pool: clips of each class from which the episodes of the pilot were drawn repeatedly; None
            where there is no pilot, or its episodes share no clip.
    """

    sizes: Sequence[int]
    way: int
    query: int
    targets: PlanTargets
    variances: Mapping[SpreadKey, ClipVariance]
    pool: float | None = None

    def plan(self, rows: Sequence[RowPlan], pairs: Sequence[ComparisonPlan]) -> DisjointClipPlan:
        """Plans the clips of the rows of one shot, for shared and for disjoint clips."""
        sizes, way, level = self.sizes, self.way, self.targets.level
        widest = max(rows, key=lambda row: row.deviation)
        shot = int(widest.shot)
        components = self._disjoint_components((widest.name, None, shot), widest.found)
        counts = {
            query: max_disjoint_episodes(sizes, way, shot, query)
            for query in range(1, min(max(sizes) - shot, _MAX_QUERY_COUNT) + 1)
        }
        best = sample_size.best_disjoint_plan(components, way, counts, level)
        planned_count = {self.query: max_disjoint_episodes(sizes, way, shot, self.query)}
        min_clips, min_clips_plan = sample_size.min_clips_per_class(
            components,
            self.targets.half_width,
            classes=len(sizes),
            way=way,
            shot=shot,
            level=level,
        )
        pair, visible = self._hardest_comparison(pairs, best)
        requirements = [self._row_requirement(row) for row in rows]
        requirements += filter(None, map(self._comparison_requirement, pairs))
        return DisjointClipPlan(
            shot=shot,
            row=widest.name,
            classes=len(sizes),
            sizes=(min(sizes), max(sizes)),
            star=sample_size.best_query_count(components, way, shot),
            asked=sample_size.best_disjoint_plan(components, way, planned_count, level),
            best=best,
            pair=pair,
            visible=visible,
            needed=min_clips,
            use=min_clips_plan,
            needs=tuple(requirements),
        )

    def _clip_variance(self, key: SpreadKey, components: VarianceComponents) -> ClipVariance:
        """Variance over clips: from the pilot, or its upper bound."""
        return self.variances.get(key) or max_clip_variance(
            components, self.way, int(key[2]), len(self.sizes), clips=self.pool
        )

    def _disjoint_components(
        self, key: SpreadKey, components: VarianceComponents
    ) -> VarianceComponents:
        """For episodes that share no clip."""
        if self.pool is None:
            return components
        variance = self._clip_variance(key, components)
        return components_over_clips(components, variance, self.pool)

    def _row_requirement(self, row: RowPlan) -> ClipRequirement:
        half_width, level = self.targets.half_width, self.targets.level
        key = row.name, None, int(row.shot)
        variance = self._clip_variance(key, row.found)
        return self._requirement(
            key,
            variance,
            lambda clips: clips_for_half_width(clips, half_width, level),
            # the harmonic mean of the class sizes decides the uncertainty
            half_width_over_clips(variance, harmonic_mean(self.sizes), level),
            sample_size.episodes_for_half_width(
                row.deviation, half_width * _EPISODE_HALF_WIDTH_SHARE, level
            ),
        )

    def _comparison_requirement(self, pair: ComparisonPlan) -> ClipRequirement | None:
        """None where too few episodes of the pilot differ."""
        if pair.found is None or pair.deviation is None:
            return None
        difference, key = self.targets.difference, (pair.name, pair.against, int(pair.shot))
        if pair.alike:
            components = replace(
                pair.found, between=0.0, within=difference * (1 - difference), short=0.0
            )
            variance = max_clip_variance(components, self.way, key[2], len(self.sizes))
        else:
            variance = self._clip_variance(key, pair.found)
        # as `compare` decides on other clips: all comparisons judged together
        error_rates = {
            "power": self.targets.power,
            "level": per_comparison_level(self.targets.level, pair.comparisons),
        }
        return self._requirement(
            key,
            variance,
            lambda clips: clips_for_difference(clips, difference, **error_rates),
            detectable_over_clips(variance, harmonic_mean(self.sizes), **error_rates),
            sample_size.episodes_for_difference(
                pair.deviation, difference * _EPISODE_HALF_WIDTH_SHARE, **error_rates
            ),
        )

    def _requirement(
        self,
        key: tuple[str, str | None, int],
        variance: ClipVariance,
        clips_needed: Callable[[ClipVariance], int],
        left: float,
        episodes: int,
    ) -> ClipRequirement:
        name, against, shot = key
        between = None
        if variance.dof is not None:
            low, high = sample_size.deviation_range(
                sqrt(variance.single_clip_variance), variance.dof + 1, self.targets.level
            )
            between = clips_needed(ClipVariance(low**2)), clips_needed(ClipVariance(high**2))
        clips, most = max(clips_needed(variance), shot + 1), variance.dof is None
        return ClipRequirement(name, against, shot, left, clips, episodes, between, most)

    def _hardest_comparison(
        self, pairs: Sequence[ComparisonPlan], disjoint_plan: DisjointPlan | None
    ) -> tuple[tuple[str, str] | None, float | None]:
        """The pair whose difference spreads most, and its minimum detectable difference."""
        planned = [(p, p.found, p.deviation) for p in pairs if p.found and p.deviation is not None]
        if disjoint_plan is None or not planned:
            return None, None
        pair, components, _ = max(planned, key=lambda entry: entry[2])
        key = pair.name, pair.against, pair.shot
        deviation = self._disjoint_components(key, components).deviation(
            self.way * disjoint_plan.query
        )
        visible = sample_size.detectable_difference(
            deviation,
            disjoint_plan.episodes,
            power=self.targets.power,
            level=self.targets.level,
        )
        return (pair.name, pair.against), visible
