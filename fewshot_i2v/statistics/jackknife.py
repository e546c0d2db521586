"""Jackknife estimate of the variance of a mean over other clips, groups or classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics.intervals import (
    FEW_DIFFER_NOTE,
    WILSON_BOUND,
    Interval,
    bounded_ends,
    constant_values_interval,
    has_too_few_differences,
    shift_on_logit,
    t_quantile,
)
from fewshot_i2v.statistics.leave_one_out import (
    ClusterAssignment,
    LeaveOneOutChanges,
    leave_out_classes,
    leave_out_clips,
)
from fewshot_i2v.statistics.predictions import FloatArray, IntArray, PredictionTable

ClusterKind = Literal["clips", "groups", "classes"]


GroupScope = Literal["class", "global"]


def prediction_scores(outcomes: PredictionTable, baseline: PredictionTable | None) -> FloatArray:
    """Score each prediction: 1 where it is right; minus that of the baseline, if there is one."""
    if not len(outcomes):
        raise UsageError(f"no episode succeeded ({outcomes.failed} failed): there is no accuracy")
    score = outcomes.correct.astype(np.float64)
    if baseline is None:
        return score
    for name in ("index", "query", "support_clip", "clips"):
        row_values, baseline_values = getattr(outcomes, name), getattr(baseline, name)
        if not np.array_equal(row_values, baseline_values):
            raise UsageError(
                f"a gain needs the same episodes of both runs, in both {name!r} of the outcomes; "
                "make them of the records of episodes that succeeded in both"
            )
    return np.asarray(score - baseline.correct)


def explain_stuck_clips(names: Sequence[str], stuck: IntArray) -> str:
    """Say which clip or group leaves no episode behind; empty where there is none."""
    if not len(stuck):
        return ""
    stuck_name = names[int(stuck[0])]
    return f"{stuck_name!r} is in every episode of its class: without it nothing is left."


def explain_stuck_classes(names: Sequence[str], stuck: IntArray) -> str:
    """Say which class leaves no episode behind; empty where there is none."""
    if not len(stuck):
        return ""
    if len(stuck) == len(names):
        return (
            f"All {len(names)} classes are in every episode, so one set of classes was seen and "
            "nothing tells how another would do."
        )
    return f"{names[int(stuck[0])]!r} is in every episode: without it nothing is left."


def check_cluster_options(by: str, groups: Mapping[str, str] | None, scope: str) -> None:
    """Refuse unknown clusters or scopes, and groups without `by="groups"` or the reverse."""
    if by not in ("clips", "groups", "classes"):
        raise UsageError(f'by is {by!r}; expected "clips", "groups" or "classes"')
    if scope not in ("class", "global"):
        raise UsageError(f'scope is {scope!r}; expected "class" or "global"')
    if (by == "groups") != (groups is not None):
        raise UsageError('groups: expected the group of every clip for by="groups", and only then')


def clusters_per_episode(outcomes: PredictionTable, by: ClusterKind) -> float:
    """Mean number of clusters in an episode; for groups the number of clips, an upper bound."""
    if by == "classes":
        return len(outcomes.member_class) / len(outcomes)
    return (len(outcomes.query) + len(outcomes.support_clip)) / len(outcomes)


def assign_clusters(
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


_COVERS = {
    "clips": "It covers other clips of these classes, drawn as these were, as support and as "
    "query; not new classes or another trained start.",
    "groups": "It covers other groups of clips of these classes, drawn as these were, as support "
    "and as query; not new classes or another trained start.",
    "classes": "It covers other classes with clips of their own, drawn as these were; not another "
    "trained start.",
}
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
    """Mean score of a run and its changes when clusters are left out.

    Attributes:
        mean: mean score over episodes: accuracy, or gain over another run.
        min_score: the lowest possible score: 0, or -1 for a gain. The highest is 1.
        scores: mean score of each episode, (T,).
        changes: of the mean when each cluster is left out.
        max_disjoint: how many episodes could have been drawn without a common cluster.
        covers: what an interval covers.
        stuck_reason: a sentence about clusters that nothing is left without; or empty.
        by: the kind of cluster that is left out.
        n: number of clusters.
        over_clips: the same over clips, for groups and classes.
    """

    mean: float
    min_score: int
    scores: FloatArray
    changes: LeaveOneOutChanges
    max_disjoint: int
    covers: str
    stuck_reason: str
    by: ClusterKind
    n: int
    over_clips: JackknifeEstimate | None = None

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
        """Check the options and leave each cluster out.

        Args:
            outcomes: as for `two_way_jackknife`, and so are `by` to `baseline`.
            by: the kind of cluster that is left out.
            groups: the group of every clip, or None.
            scope: "class" or "global".
            baseline: another run, or None.
            over_clips: the estimate for `by="clips"`, where it is there already.

        Raises:
            UsageError: as `two_way_jackknife` says.
        """
        check_cluster_options(by, groups, scope)
        score = prediction_scores(outcomes, baseline)
        cluster_names, assignment = assign_clusters(outcomes, groups, scope)
        if by == "classes":
            changes = leave_out_classes(outcomes, score)
            stuck_reason = explain_stuck_classes(outcomes.classes, changes.stuck)
        else:
            changes = leave_out_clips(outcomes, score, assignment)
            stuck_reason = explain_stuck_clips(cluster_names, changes.stuck)
        if by != "clips" and over_clips is None:
            over_clips = cls.from_outcomes(outcomes, "clips", baseline=baseline)
        sums = np.bincount(outcomes.episode, score) / outcomes.queries
        return cls(
            mean=float(sums.mean()),
            min_score=0 if baseline is None else -1,
            scores=sums,
            changes=changes,
            max_disjoint=int(
                min(len(changes.change) / clusters_per_episode(outcomes, by), len(outcomes))
            ),
            covers=_COVERS[by],
            stuck_reason=stuck_reason,
            by=by,
            n=len(changes.change),
            over_clips=over_clips,
        )

    def widen_to_clips(self, level: float) -> JackknifeEstimate:
        """Widen a group interval to at least the clip interval: new groups bring new clips."""
        if (
            self.by != "groups"
            or self.over_clips is None
            or not self._is_narrower_than_clips(level)
        ):
            return self
        covers = (
            f"{self.covers} Where groups show less than clips do, it is as wide as that for other "
            "clips, which other groups come with."
        )
        return replace(self, changes=self.over_clips.changes, covers=covers)

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
        """Degrees of freedom before the lower limit is applied."""
        variance_of_variance = (
            2 * self.episode_variance**2 / (len(self.scores) - 1)
            + self.changes.variance_of_variance
        )
        return 2 * self.variance**2 / variance_of_variance

    def degenerate_interval(self, level: float, method: str) -> Interval | None:
        """Interval where the records have no spread or allow none; None where they have."""
        low: float | None = None
        high: float | None = None
        reason = self._no_interval_reason(level)
        if not reason and self.variance > _ZERO_VARIANCE:
            return None
        if not reason:
            low, high = self.to_scores(
                *constant_values_interval(self.mean_share, self.max_disjoint, level)
            )
            method = f"{method}, {WILSON_BOUND}"
        covers = f"{self.covers} {reason}".rstrip()
        return Interval(self.mean, low, high, level, self.n, method, covers)

    def _no_interval_reason(self, level: float) -> str:
        """Reason why there is no interval; empty where there is one."""
        if self.stuck_reason:
            return f"{self.stuck_reason} No interval."
        if len(self.scores) < 2:
            return "One episode: no interval."
        if self.episode_variance <= _ZERO_VARIANCE and self.min_score < 0:
            return (
                "Where every episode shows the same gain, nothing tells how it would differ: no "
                "interval."
            )
        if self.min_score < 0 and has_too_few_differences(self.scores):
            return FEW_DIFFER_NOTE.format(unit="episode")
        if self._too_few_recurring_clips:
            return (
                f"With {len(self.scores)} episodes too few clips were in several of them to tell "
                f"how much they matter: no interval. {_ENOUGH_EPISODES} or more tell."
            )
        if self._clip_effect_in_noise:
            return (
                f"Chance in the draw of {len(self.scores)} episodes drowns how much clips matter: "
                "no interval. More episodes tell."
            )
        if self.by == "classes" and self._is_narrower_than_clips(level):
            return (
                "Where classes show no more spread than their clips do, there are too few of them "
                "to tell: no interval."
            )
        if self.variance <= _ZERO_VARIANCE and self.max_disjoint < 2:
            return "All episodes are alike and share clips: no interval."
        return ""

    @property
    def note(self) -> str:
        """Note to append to the text of an interval, with a space before it; or empty."""
        if self.changes.variance or not self.changes.clusters_shared:
            return ""
        return (
            f" Where chance in the draw of the episodes hides what {self.by} add, that counts as "
            "0; more episodes tell."
        )

    @property
    def mean_share(self) -> float:
        """Position of the mean between the lowest score and the highest, 0..1."""
        return (self.mean - self.min_score) / (1 - self.min_score)

    def to_scores(self, *shares: float) -> tuple[float, ...]:
        """Convert positions between the lowest score and the highest, 0..1, into scores."""
        return tuple(self.min_score + (1 - self.min_score) * share for share in shares)

    def student_t_ends(self, level: float) -> tuple[float, float, str]:
        """Low end, high end and name of the scale, by Student's t."""
        error = self.variance**0.5 / (1 - self.min_score)
        low, high, scale = bounded_ends(self.mean_share, error, self.dof, level)
        low, high = self.to_scores(low, high)
        return low, high, scale

    def percentile_ends(self, below: float, above: float) -> tuple[float, float, str]:
        """Low end, high end and name of the scale, from distances to the mean."""
        if self.mean + 2 * below >= self.min_score and self.mean + 2 * above <= 1:
            return self.mean + below, self.mean + above, "percentiles"
        width = 1 - self.min_score
        low, high = self.to_scores(
            *(shift_on_logit(self.mean_share, x / width) for x in (below, above))
        )
        return low, high, "percentiles on the logit scale"
