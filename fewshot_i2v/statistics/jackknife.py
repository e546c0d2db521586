"""Intervals that cover other clips, groups or classes, although episodes share them.

The spread over episodes that share clips tells only how well their mean is known on these clips.
Other clips change the mean more. The records show how much: by the difference between the episodes
with a clip and those without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics.intervals import (
    MIN_DIFFERING,
    WILSON_BOUND,
    Interval,
    bounded_ends,
    check_level,
    constant_values_interval,
    has_too_few_differences,
    t_quantile,
)
from fewshot_i2v.statistics.leave_one_out import (
    ClusterAssignment,
    LeaveOneOutChanges,
    leave_out_classes,
    leave_out_clips,
)
from fewshot_i2v.statistics.predictions import FloatArray, IntArray, PredictionTable
from fewshot_i2v.statistics.wording import Caution, Covers, NoInterval

ClusterKind = Literal["clips", "groups", "classes"]
GroupScope = Literal["class", "global"]

_COVERS = {"clips": Covers.CLIPS, "groups": Covers.GROUPS, "classes": Covers.CLASSES}
# a variance that rounding alone leaves
_ZERO_VARIANCE = 1e-20
# by simulation: without, few episodes give far too wide intervals; 12 and 6 give too narrow ones
_MIN_DOF = {"clips": 8, "groups": 8, "classes": 3}
# by simulation: with these episodes or more, the interval over clips also holds where chance in
# their draw hides what clips add; with fewer it is then hardly another than that for these clips
_ENOUGH_EPISODES = 30
# by simulation: where episodes use most clips of their classes (5-shot of 8 or 14 clips) and their
# chance drowns what clips add, intervals with fewer degrees of freedom held in 87 to 92 %
_MIN_RAW_DOF = 0.5


@dataclass(frozen=True, eq=False)
class JackknifeEstimate:
    """Mean score of a run and its changes when clusters are left out, each in both its roles.

    The variance is (n - 1) / n · sum of (A(-i) - A)² over the n clips of a class, summed over the
    classes. A(-i) - A is, to first order, the change of the mean without the predictions that use
    clip i, as query or as support (`leave_one_out`). Each such change also holds chance from the
    draw of the episodes, once for every clip of an episode; that is taken out (only products of
    two different episodes count) and added once: s² / T of the episodes' accuracies. Where no clip
    is in two episodes it is the variance of Student's t.

    Attributes:
        mean: mean score over episodes: accuracy, or gain over another run.
        min_score: the lowest possible score: 0, or -1 for a gain. The highest is 1.
        scores: mean score of each episode, (T,).
        changes: of the mean when each cluster is left out.
        max_disjoint: how many episodes could have been drawn without a common cluster.
        stuck: names of the clusters that nothing is left without.
        by: the kind of cluster that is left out.
        n: number of clusters.
        over_clips: the same over clips, for groups and classes.
        widened: whether the changes are those of clips, since groups show less.
    """

    mean: float
    min_score: int
    scores: FloatArray
    changes: LeaveOneOutChanges
    max_disjoint: int
    stuck: tuple[str, ...]
    by: ClusterKind
    n: int
    over_clips: JackknifeEstimate | None = None
    widened: bool = False

    @classmethod
    def from_outcomes(
        cls,
        outcomes: PredictionTable,
        by: ClusterKind,
        groups: Mapping[str, str] | None = None,
        scope: GroupScope = "class",
        baseline: PredictionTable | None = None,
        over_clips: JackknifeEstimate | None = None,
    ) -> JackknifeEstimate:
        """Leave each cluster out of the mean of a run.

        Args:
            outcomes: of a run; at least 2 episodes for an interval.
            by: what is left out: clips, groups of clips, or classes.
            groups: the group of every clip, for `by="groups"`.
            scope: "class" where groups of one name in two classes are two groups, else "global".
            baseline: another run of the same episodes; then it is for the gain over that run.
            over_clips: the estimate for `by="clips"`, where it is there already.

        Raises:
            UsageError: when a clip has no group, no episode succeeded, or `baseline` has other
                episodes.
        """
        if (by == "groups") != (groups is not None):
            raise UsageError(
                'groups: expected the group of every clip for by="groups", and only then'
            )
        score = _prediction_scores(outcomes, baseline)
        cluster_names, assignment = _assign_clusters(outcomes, groups, scope)
        if by == "classes":
            cluster_names, changes = outcomes.classes, leave_out_classes(outcomes, score)
            clusters_per_episode = len(outcomes.member_class) / len(outcomes)
        else:
            changes = leave_out_clips(outcomes, score, assignment)
            # for groups that is an upper bound
            n_clips = len(outcomes.query) + len(outcomes.support_clip)
            clusters_per_episode = n_clips / len(outcomes)
        if by != "clips" and over_clips is None:
            over_clips = cls.from_outcomes(outcomes, "clips", baseline=baseline)
        scores = np.bincount(outcomes.episode, score) / outcomes.queries
        n = len(changes.change)
        return cls(
            mean=float(scores.mean()),
            min_score=0 if baseline is None else -1,
            scores=scores,
            changes=changes,
            max_disjoint=int(min(n / clusters_per_episode, len(outcomes))),
            stuck=tuple(cluster_names[code] for code in changes.stuck.tolist()),
            by=by,
            n=n,
            over_clips=over_clips,
        )

    def interval(self, level: float = 0.95) -> Interval:
        """Mean and its interval for other clips, groups or classes.

        Args:
            level: above 0 and below 1.

        Returns:
            The interval, inside 0 and 1 (-1 and 1 for a gain): Student's t with the degrees of
            freedom that match the variance of the variance; `n` is the number of clusters. Other
            groups come with other clips, so the interval for them is no narrower than that over
            clips. There is none, and `covers` says why, where a clip is in every episode of its
            class; where a class is in every episode, or classes show no more spread than their
            clips do; in fewer than 30 episodes of which too few share clips to estimate their
            effect, or where chance in their draw hides it, as it may where they use most clips of a
            class; and for a gain that is the same in every episode or 0 in nearly all of them, as
            `paired_difference` says.

        Raises:
            UsageError: when the level is none.
        """
        check_level(level)
        estimate = self.widen_to_clips(level)
        reason = estimate._missing_reason(level)
        mean, n, method, covers = self.mean, self.n, f"jackknife over {self.by}", estimate._covers
        if reason is not None:
            text = f"{covers} {estimate._explain(reason)}"
            return Interval(mean, None, None, level, n, method, text)
        if estimate.variance <= _ZERO_VARIANCE:
            shares = constant_values_interval(estimate.mean_share, estimate.max_disjoint, level)
            low, high = estimate.to_scores(*shares)
            return Interval(mean, low, high, level, n, f"{method}, {WILSON_BOUND}", str(covers))
        error = estimate.variance**0.5 / (1 - self.min_score)
        low, high, scale = bounded_ends(estimate.mean_share, error, estimate.dof, level)
        low, high = estimate.to_scores(low, high)
        if estimate.changes.clusters_shared and not estimate.changes.variance:
            covers = f"{covers} {Caution.HIDDEN_CLUSTERS.format(by=self.by)}"
        return Interval(mean, low, high, level, n, f"{method}, {scale}", str(covers))

    def widen_to_clips(self, level: float) -> JackknifeEstimate:
        """Widen a group interval to at least the clip interval: new groups bring new clips."""
        if (
            self.by != "groups"
            or self.over_clips is None
            or not self._is_narrower_than_clips(level)
        ):
            return self
        return replace(self, changes=self.over_clips.changes, widened=True)

    def _is_narrower_than_clips(self, level: float) -> bool:
        """Whether it is no wider than the interval for other clips; not where nothing varies."""
        if (
            self.over_clips is None
            or len(self.scores) < 2
            or self.over_clips.variance <= _ZERO_VARIANCE
        ):
            return False
        if self.changes.variance <= self.over_clips.changes.variance:
            return True
        half_width, clips_half_width = (
            t_quantile(level, estimate.dof) * estimate.variance**0.5
            for estimate in (self, self.over_clips)
        )
        return bool(half_width < clips_half_width)

    @property
    def _covers(self) -> str:
        return Covers.WIDENED_GROUPS if self.widened else _COVERS[self.by]

    @property
    def episode_variance(self) -> float:
        """Variance of the mean from the draw of episodes alone."""
        if self.scores.min() == self.scores.max():
            return 0.0
        return float(self.scores.var(ddof=1)) / len(self.scores)

    @property
    def variance(self) -> float:
        """Variance of the mean from the clusters and from the draw of episodes."""
        return self.changes.variance + self.episode_variance

    @property
    def dof(self) -> float:
        """Degrees of freedom of the variance (Satterthwaite, 1946).

        Where the noise of few episodes hides the variance of the clusters, they go to 0. The
        variance from the episodes is certain, though, so fewer than `_MIN_DOF` are not needed.
        """
        episodes = len(self.scores) - 1
        min_dof = min(_MIN_DOF[self.by], episodes, max(self.changes.dof, 1))
        return max(self._raw_dof, float(min_dof))

    @property
    def _raw_dof(self) -> float:
        """Degrees of freedom before the lower limit is applied.

        A variance with v degrees of freedom has itself the variance 2 · variance² / v. Solved for
        v, with the variances of both independent terms added.
        """
        variance_of_variance = (
            2 * self.episode_variance**2 / (len(self.scores) - 1)
            + self.changes.variance_of_variance
        )
        return 2 * self.variance**2 / variance_of_variance

    @property
    def mean_share(self) -> float:
        """Position of the mean between the lowest score and the highest, 0..1."""
        return (self.mean - self.min_score) / (1 - self.min_score)

    def to_scores(self, *shares: float) -> tuple[float, ...]:
        """Convert positions between the lowest score and the highest, 0..1, into scores."""
        return tuple(self.min_score + (1 - self.min_score) * share for share in shares)

    def _missing_reason(self, level: float) -> NoInterval | None:
        """Why there is no interval; None where there is one."""
        if self.stuck and self.by != "classes":
            return NoInterval.STUCK_CLUSTER
        if self.stuck:
            every_class = len(self.stuck) == self.n
            return NoInterval.ONE_SET_OF_CLASSES if every_class else NoInterval.STUCK_CLASS
        if len(self.scores) < 2:
            return NoInterval.ONE_EPISODE
        is_gain = self.min_score < 0
        if is_gain and self.episode_variance <= _ZERO_VARIANCE:
            return NoInterval.EQUAL_GAINS
        if is_gain and has_too_few_differences(self.scores):
            return NoInterval.FEW_DIFFERENCES
        if self._too_few_recurring_clips:
            return NoInterval.FEW_RECURRING_CLIPS
        if self._clip_effect_in_noise:
            return NoInterval.CLIPS_IN_NOISE
        if self.by == "classes" and self._is_narrower_than_clips(level):
            return NoInterval.CLASSES_LIKE_CLIPS
        if self.variance <= _ZERO_VARIANCE and self.max_disjoint < 2:
            return NoInterval.ALL_ALIKE
        return None

    def _explain(self, reason: NoInterval) -> str:
        return reason.format(
            name=self.stuck[0] if self.stuck else "",
            clusters=self.n,
            episodes=len(self.scores),
            enough=_ENOUGH_EPISODES,
            minimum=MIN_DIFFERING,
            unit="episode",
        )

    @property
    def _too_few_recurring_clips(self) -> bool:
        """Whether so few episodes share clips that the variance over clips cannot be seen."""
        if self.over_clips is not None and self.over_clips._too_few_recurring_clips:
            return True
        if self.by == "classes":
            return False
        too_few = (
            len(self.scores) < _ENOUGH_EPISODES and self.changes.variance_dof < _MIN_DOF["clips"]
        )
        return self.changes.clusters_shared and too_few and self.variance > _ZERO_VARIANCE

    @property
    def _clip_effect_in_noise(self) -> bool:
        """Whether sampling noise hides the variance over clips, so that it may be far larger."""
        if self.over_clips is not None and self.over_clips._clip_effect_in_noise:
            return True
        uncertain = (
            self.by != "classes" and self.changes.clusters_shared and self.variance > _ZERO_VARIANCE
        )
        return uncertain and self._raw_dof < _MIN_RAW_DOF


def _prediction_scores(outcomes: PredictionTable, baseline: PredictionTable | None) -> FloatArray:
    """Score each prediction: 1 where it is right; minus that of the baseline, if there is one."""
    if not len(outcomes):
        raise UsageError(f"no episode succeeded ({outcomes.failed} failed): there is no accuracy")
    score = outcomes.correct.astype(np.float64)
    if baseline is None:
        return score
    for name in ("index", "query", "support_clip", "clips"):
        if not np.array_equal(getattr(outcomes, name), getattr(baseline, name)):
            raise UsageError(
                f"a gain needs the same episodes of both runs, in both {name!r} of the outcomes; "
                "make them of the records of episodes that succeeded in both"
            )
    return np.asarray(score - baseline.correct)


def _assign_clusters(
    outcomes: PredictionTable, groups: Mapping[str, str] | None, scope: GroupScope
) -> tuple[tuple[str, ...], ClusterAssignment]:
    """Names of the clusters of clips, and a function from clips and classes to cluster codes."""
    if groups is None:
        return outcomes.clips, lambda clips, _: clips
    ungrouped = [clip for clip in outcomes.clips if groups.get(clip) is None]
    if ungrouped:
        raise UsageError(
            f"groups: {len(ungrouped)} of {len(outcomes.clips)} clips have none, such as "
            f"{ungrouped[0]!r}; expected the group of every clip"
        )
    names, codes = np.unique([groups[clip] for clip in outcomes.clips], return_inverse=True)
    if scope == "global":
        return tuple(names.tolist()), lambda clips, _: codes[clips]
    n_classes = len(outcomes.classes)

    def _group_in_class(clips: IntArray, classes: IntArray) -> IntArray:
        return np.asarray(codes[clips] * n_classes + classes)

    return tuple(f"{n} of {c}" for n in names.tolist() for c in outcomes.classes), _group_in_class
