"""Intervals of a row's accuracy for other clips, groups, classes and training seeds.

The interval of a table says how well the mean over episodes of these clips is known. Accuracy with
other clips, other classes or another training seed are other questions, and intervals for them are
wider: with 10,000 episodes of few clips by far.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from fewshot_i2v.statistics import (
    Interval,
    bounded_interval,
    paired_difference,
    seed_interval,
)
from fewshot_i2v.statistics.jackknife import GroupScope, JackknifeEstimate
from fewshot_i2v.statistics.predictions import PredictionTable

THESE_CLIPS, OTHER_CLIPS, OTHER_GROUPS = "these clips", "other clips", "other groups"
OTHER_CLASSES, OTHER_SEEDS = "other classes", "other seeds"
QUESTIONS = (THESE_CLIPS, OTHER_CLIPS, OTHER_GROUPS, OTHER_CLASSES, OTHER_SEEDS)
_SEEDS_AGREE_NOTE = (
    "All training seeds gave the same answers: nothing that they draw takes part in such a row, so "
    "there is no interval over them."
)


@dataclass(frozen=True)
class ClipGroups:
    """Groups of clips, such as the scenes of one video.

    Attributes:
        group_of_clip: the group of every clip.
        scope: "class" where groups of one name in two classes are two groups, else "global".
    """

    group_of_clip: Mapping[str, str] = field(repr=False)
    scope: GroupScope = "class"


@dataclass(frozen=True)
class GeneralizationIntervals:
    """Intervals of one row, or of its gain over another, by question.

    Attributes:
        name: of the row.
        shot: support clips per class.
        mean: 0..1; of a gain -1..1.
        intervals: by question; only those that can be answered.
        head: short name of its head, where rows differ in it; or empty.
    """

    name: str
    shot: int | str
    mean: float
    intervals: Mapping[str, Interval]
    head: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        intervals = {question: asdict(interval) for question, interval in self.intervals.items()}
        return {"row": self.name, "shot": self.shot, "mean": self.mean, "intervals": intervals}


def answered_questions(rows: Iterable[GeneralizationIntervals]) -> list[str]:
    """Questions that any of the rows has an interval for, in the order to show them."""
    answered = {question for row in rows for question in row.intervals}
    return [question for question in QUESTIONS if question in answered]


def generalization_intervals(
    name: str,
    shot: int | str,
    seeds: Sequence[PredictionTable],
    *,
    baseline: Sequence[PredictionTable] = (),
    groups: ClipGroups | None = None,
    clips_shared: bool = True,
    level: float = 0.95,
) -> GeneralizationIntervals:
    """Compute the intervals of a row.

    Args:
        name: of the row.
        shot: support clips per class.
        seeds: its outcomes, one for each training seed, of the same episodes.
        baseline: those of another row with the same episodes; then all is about the gain over it.
        groups: of the clips, where they have any.
        clips_shared: whether episodes have clips in common; see `mean_interval`.
        level: above 0 and below 1.

    Raises:
        UsageError: when no episode succeeded, or episodes differ.
    """
    outcomes, baseline_outcomes = _pool_seeds(seeds, baseline)
    values = outcomes.accuracies.tolist()
    if baseline_outcomes is None:
        intervals = {THESE_CLIPS: bounded_interval(values, level, clips_shared=clips_shared)}
    else:
        intervals = {
            THESE_CLIPS: paired_difference(
                values, baseline_outcomes.accuracies.tolist(), level, clips_shared=clips_shared
            )
        }
    over_clips = JackknifeEstimate.from_outcomes(outcomes, "clips", baseline=baseline_outcomes)
    intervals[OTHER_CLIPS] = over_clips.interval(level)
    if groups is not None:
        over_groups = JackknifeEstimate.from_outcomes(
            outcomes, "groups", groups.group_of_clip, groups.scope, baseline_outcomes, over_clips
        )
        intervals[OTHER_GROUPS] = over_groups.interval(level)
    over_classes = JackknifeEstimate.from_outcomes(
        outcomes, "classes", baseline=baseline_outcomes, over_clips=over_clips
    )
    intervals[OTHER_CLASSES] = over_classes.interval(level)
    if len(seeds) > 1 and baseline_outcomes is None:
        intervals[OTHER_SEEDS] = _seed_interval(seeds, level)
    return GeneralizationIntervals(name, shot, intervals[THESE_CLIPS].mean, intervals)


def jackknife_gain(
    seeds: Sequence[PredictionTable], baseline: Sequence[PredictionTable]
) -> JackknifeEstimate:
    """Jackknife the gain of one row over another by leaving clips out.

    Raises:
        UsageError: when no episode succeeded, or episodes differ.
    """
    outcomes, baseline_outcomes = _pool_seeds(seeds, baseline)
    return JackknifeEstimate.from_outcomes(outcomes, "clips", baseline=baseline_outcomes)


def _seed_interval(seeds: Sequence[PredictionTable], level: float) -> Interval:
    """Interval over training seeds; none where they cannot have changed anything."""
    spread = seed_interval([outcomes.mean for outcomes in seeds], level)
    first_predictions = seeds[0].predicted.tolist()
    if any(outcomes.predicted.tolist() != first_predictions for outcomes in seeds[1:]):
        return spread
    return replace(spread, low=None, high=None, covers=_SEEDS_AGREE_NOTE)


def _pool_seeds(
    seeds: Sequence[PredictionTable], baseline: Sequence[PredictionTable]
) -> tuple[PredictionTable, PredictionTable | None]:
    """Pool all seeds, and those of the baseline so that each prediction has its counterpart."""
    if not baseline:
        return PredictionTable.pooled(seeds), None
    if len(seeds) == len(baseline):
        return PredictionTable.pooled(seeds), PredictionTable.pooled(baseline)
    pairs = [
        (row_outcomes, baseline_outcomes)
        for row_outcomes in seeds
        for baseline_outcomes in baseline
    ]
    return PredictionTable.pooled(
        [row_outcomes for row_outcomes, _ in pairs]
    ), PredictionTable.pooled([row_outcomes for _, row_outcomes in pairs])
