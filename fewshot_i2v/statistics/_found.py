"""What an interval over clips, groups or classes is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics._ends import BOUND, equal_values, inside, shifted
from fewshot_i2v.statistics._leave_out import ClusterOf, Deletions, without_classes, without_clips
from fewshot_i2v.statistics.intervals import Interval
from fewshot_i2v.statistics.outcomes import Codes, Numbers, Outcomes

By = Literal["clips", "groups", "classes"]
Scope = Literal["class", "global"]

_COVERS = {
    "clips": "It covers other clips of these classes, drawn as these were, as support and as "
    "query; not new classes or another trained start.",
    "groups": "It covers other groups of clips of these classes, drawn as these were, as support "
    "and as query; not new classes or another trained start.",
    "classes": "It covers other classes with clips of their own, drawn as these were; not another "
    "trained start.",
    "labels": "It covers other classes to be recognised among the alternatives of these, since "
    "some class is in every episode; not other alternatives or another trained start.",
}
# a variance that rounding alone leaves
_NOTHING = 1e-20
# by simulation: without, few episodes give far too wide intervals; 12 and 6 give too narrow ones
_LEAST_DOF = {"clips": 8, "groups": 8, "classes": 3}


@dataclass(frozen=True, eq=False)
class Found:
    """The mean score of a run, and what leaving clusters out does to it.

    Attributes:
        mean: mean score over episodes: accuracy, or gain over another run.
        lowest: the lowest score there can be: 0, or -1 for a gain. The highest is 1.
        scores: mean score of each episode, (T,).
        deletions: what leaving clusters out changes.
        apart: how many episodes could have been drawn without a common cluster.
        covers: what an interval holds.
        stuck: a sentence about clusters that nothing is left without; or empty.
        least_dof: the least degrees of freedom.
    """

    mean: float
    lowest: int
    scores: Numbers
    deletions: Deletions
    apart: int
    covers: str
    stuck: str
    least_dof: int

    @classmethod
    def of(
        cls,
        outcomes: Outcomes,
        by: By,
        groups: Mapping[str, str] | None = None,
        scope: Scope = "class",
        against: Outcomes | None = None,
    ) -> Found:
        """Checks what is asked for, and leaves the clusters out.

        Raises:
            UsageError: as `two_way_jackknife` says.
        """
        _check_by(by, groups, scope)
        score = _scores(outcomes, against)
        covers, names = _COVERS[by], outcomes.classes
        if by == "classes":
            deletions, labels_only = without_classes(outcomes, score)
            covers = _COVERS["labels"] if labels_only else covers
        else:
            names, cluster_of = _clusters(outcomes, groups, scope)
            deletions = without_clips(outcomes, score, cluster_of)
        stuck = ""
        if len(deletions.stuck):
            first = names[int(deletions.stuck[0])]
            stuck = f"{first!r} is in every episode of its class: without it nothing is left."
            if by == "classes":
                stuck = f"All queries are of {first!r}."
        sums = np.bincount(outcomes.episode, score) / outcomes.queries
        return cls(
            mean=float(sums.mean()),
            lowest=0 if against is None else -1,
            scores=sums,
            deletions=deletions,
            apart=int(min(len(deletions.change) / _per_episode(outcomes, by), len(outcomes))),
            covers=covers,
            stuck=stuck,
            least_dof=_LEAST_DOF[by],
        )

    @property
    def n(self) -> int:
        """Number of clusters."""
        return len(self.deletions.change)

    @property
    def closed(self) -> float:
        """Variance of the mean from the draw of episodes alone."""
        if self.scores.min() == self.scores.max():
            return 0.0
        return float(self.scores.var(ddof=1)) / len(self.scores)

    @property
    def variance(self) -> float:
        """Variance of the mean from the clusters and from the draw of episodes."""
        return self.deletions.variance + self.closed

    @property
    def dof(self) -> float:
        """Degrees of freedom of the variance (Satterthwaite, 1946).

        Where the variance of the clusters drowns in the noise of few episodes, they go to 0; but
        the part of the episodes is known, so fewer than `least_dof` are not needed.
        """
        episodes = len(self.scores) - 1
        least = min(self.least_dof, episodes, max(self.deletions.dof, 1))
        parts = 2 * self.closed**2 / episodes + self.deletions.variance_of_variance
        return max(2 * self.variance**2 / parts, float(least))

    def no_interval(self, level: float, method: str) -> Interval | None:
        """The answer where the records show no spread or allow no interval; else None."""
        low: float | None = None
        high: float | None = None
        covers = self.covers
        if self.stuck:
            covers = f"{covers} {self.stuck} No interval."
        elif len(self.scores) < 2:
            covers = f"{covers} One episode: no interval."
        elif self.variance > _NOTHING:
            return None
        elif self.lowest < 0:
            low = high = self.mean
            covers = f"{covers} Every episode shows the same gain, so the interval has no width."
        elif self.apart < 2:
            covers = f"{covers} All episodes are alike and share clips: no interval."
        else:
            low, high = self.outwards(*equal_values(self.share, self.apart, level))
            method = f"{method}, {BOUND}"
        return Interval(self.mean, low, high, level, self.n, method, covers)

    @property
    def share(self) -> float:
        """How far the mean is on the way from the lowest score to the highest, 0..1."""
        return (self.mean - self.lowest) / (1 - self.lowest)

    def outwards(self, *shares: float) -> tuple[float, ...]:
        """Shares of the way from the lowest score to the highest as scores."""
        return tuple(self.lowest + (1 - self.lowest) * share for share in shares)

    def by_t(self, level: float) -> tuple[float, float, str]:
        """Low, high, and the scale, by Student's t."""
        error = self.variance**0.5 / (1 - self.lowest)
        low, high, scale = inside(self.share, error, self.dof, level)
        low, high = self.outwards(low, high)
        return low, high, scale

    def moved(self, below: float, above: float) -> tuple[float, float, str]:
        """Low, high, and the scale, by distances from the mean."""
        if self.mean + 2 * below >= self.lowest and self.mean + 2 * above <= 1:
            return self.mean + below, self.mean + above, "percentiles"
        width = 1 - self.lowest
        low, high = self.outwards(*(shifted(self.share, x / width) for x in (below, above)))
        return low, high, "percentiles on the logit scale"


def _scores(outcomes: Outcomes, against: Outcomes | None) -> Numbers:
    """Of each prediction: 1 where it is right, less 1 where that of the other run is."""
    if not len(outcomes):
        raise UsageError(f"no episode succeeded ({outcomes.failed} failed): there is no accuracy")
    score = outcomes.right.astype(np.float64)
    if against is None:
        return score
    for name in ("index", "query", "support_clip", "clips"):
        one, other = getattr(outcomes, name), getattr(against, name)
        if not np.array_equal(one, other):
            raise UsageError(
                f"a gain needs the same episodes of both runs, in both {name!r} of the outcomes; "
                "make them of the records of episodes that succeeded in both"
            )
    return np.asarray(score - against.right)


def _check_by(by: str, groups: Mapping[str, str] | None, scope: str) -> None:
    if by not in ("clips", "groups", "classes"):
        raise UsageError(f'by is {by!r}; expected "clips", "groups" or "classes"')
    if scope not in ("class", "global"):
        raise UsageError(f'scope is {scope!r}; expected "class" or "global"')
    if (by == "groups") != (groups is not None):
        raise UsageError('groups: expected the group of every clip for by="groups", and only then')


def _per_episode(outcomes: Outcomes, by: By) -> float:
    """Mean number of clusters in an episode; of groups at most that of clips."""
    if by == "classes":
        return len(outcomes.member_class) / len(outcomes)
    return (len(outcomes.query) + len(outcomes.support_clip)) / len(outcomes)


def _clusters(
    outcomes: Outcomes, groups: Mapping[str, str] | None, scope: Scope
) -> tuple[tuple[str, ...], ClusterOf]:
    """Names of the clusters of clips, and the code of each, given clip and class."""
    if groups is None:
        return outcomes.clips, lambda clips, _: clips
    without = [clip for clip in outcomes.clips if groups.get(clip) is None]
    if without:
        raise UsageError(
            f"groups: {len(without)} of {len(outcomes.clips)} clips have none, such as "
            f"{without[0]!r}; expected the group of every clip"
        )
    names, codes = np.unique([groups[clip] for clip in outcomes.clips], return_inverse=True)
    if scope == "global":
        return tuple(names.tolist()), lambda clips, _: codes[clips]
    several = len(outcomes.classes)

    def _within(clips: Codes, classes: Codes) -> Codes:
        return np.asarray(codes[clips] * several + classes)

    return tuple(f"{n} of {c}" for n in names.tolist() for c in outcomes.classes), _within
