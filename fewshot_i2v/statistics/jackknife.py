"""What an interval over clips, groups or classes is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics.intervals import (
    _FEW_DIFFER,
    BOUND,
    Interval,
    equal_values,
    inside,
    shifted,
    t_quantile,
    too_few_differ,
)
from fewshot_i2v.statistics.leave_one_out import (
    ClusterOf,
    Deletions,
    without_classes,
    without_clips,
)
from fewshot_i2v.statistics.predictions import Codes, Numbers, Outcomes

By = Literal["clips", "groups", "classes"]


Scope = Literal["class", "global"]


def scores_of(outcomes: Outcomes, against: Outcomes | None) -> Numbers:
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


def stuck_clips(names: Sequence[str], stuck: Codes) -> str:
    """Why nothing is left without a clip or group; empty where something is."""
    if not len(stuck):
        return ""
    first = names[int(stuck[0])]
    return f"{first!r} is in every episode of its class: without it nothing is left."


def stuck_classes(names: Sequence[str], stuck: Codes) -> str:
    """Why nothing is left without a class; empty where something is."""
    if not len(stuck):
        return ""
    if len(stuck) == len(names):
        return (
            f"All {len(names)} classes are in every episode, so one set of classes was seen and "
            "nothing tells how another would do."
        )
    return f"{names[int(stuck[0])]!r} is in every episode: without it nothing is left."


def check_by(by: str, groups: Mapping[str, str] | None, scope: str) -> None:
    """Refuses what cannot be left out, and groups where none are asked for or none are given."""
    if by not in ("clips", "groups", "classes"):
        raise UsageError(f'by is {by!r}; expected "clips", "groups" or "classes"')
    if scope not in ("class", "global"):
        raise UsageError(f'scope is {scope!r}; expected "class" or "global"')
    if (by == "groups") != (groups is not None):
        raise UsageError('groups: expected the group of every clip for by="groups", and only then')


def per_episode(outcomes: Outcomes, by: By) -> float:
    """Mean number of clusters in an episode; of groups at most that of clips."""
    if by == "classes":
        return len(outcomes.member_class) / len(outcomes)
    return (len(outcomes.query) + len(outcomes.support_clip)) / len(outcomes)


def clusters_of(
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


_COVERS = {
    "clips": "It covers other clips of these classes, drawn as these were, as support and as "
    "query; not new classes or another trained start.",
    "groups": "It covers other groups of clips of these classes, drawn as these were, as support "
    "and as query; not new classes or another trained start.",
    "classes": "It covers other classes with clips of their own, drawn as these were; not another "
    "trained start.",
}
# a variance that rounding alone leaves
_NOTHING = 1e-20
# by simulation: without, few episodes give far too wide intervals; 12 and 6 give too narrow ones
_LEAST_DOF = {"clips": 8, "groups": 8, "classes": 3}
# by simulation: with these episodes or more, the interval over clips also holds where chance in
# their draw hides what clips add; with fewer it is then hardly another than that for these clips
_ENOUGH = 30
# by simulation: where episodes use most clips of their classes (5-shot of 8 or 14 clips) and their
# chance drowns what clips add, intervals with fewer degrees of freedom held in 87 to 92 %
_LEAST_KNOWN = 0.5


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
        by: what is left out.
        n: number of clusters.
        clips: the same over clips, which other groups and other classes come with.
    """

    mean: float
    lowest: int
    scores: Numbers
    deletions: Deletions
    apart: int
    covers: str
    stuck: str
    by: By
    n: int
    clips: Found | None = None

    @classmethod
    def of(
        cls,
        outcomes: Outcomes,
        by: By,
        groups: Mapping[str, str] | None = None,
        scope: Scope = "class",
        against: Outcomes | None = None,
        clips: Found | None = None,
    ) -> Found:
        """Checks what is asked for, and leaves the clusters out.

        Args:
            outcomes: as for `two_way_jackknife`, and so are `by` to `against`.
            by: what is left out.
            groups: the group of every clip, or None.
            scope: "class" or "global".
            against: another run, or None.
            clips: the answer for `by="clips"`, where it is there already.

        Raises:
            UsageError: as `two_way_jackknife` says.
        """
        check_by(by, groups, scope)
        score = scores_of(outcomes, against)
        names, cluster_of = clusters_of(outcomes, groups, scope)
        if by == "classes":
            deletions = without_classes(outcomes, score)
            stuck = stuck_classes(outcomes.classes, deletions.stuck)
        else:
            deletions = without_clips(outcomes, score, cluster_of)
            stuck = stuck_clips(names, deletions.stuck)
        if by != "clips" and clips is None:
            clips = cls.of(outcomes, "clips", against=against)
        sums = np.bincount(outcomes.episode, score) / outcomes.queries
        return cls(
            mean=float(sums.mean()),
            lowest=0 if against is None else -1,
            scores=sums,
            deletions=deletions,
            apart=int(min(len(deletions.change) / per_episode(outcomes, by), len(outcomes))),
            covers=_COVERS[by],
            stuck=stuck,
            by=by,
            n=len(deletions.change),
            clips=clips,
        )

    def widened(self, level: float) -> Found:
        """For groups no less than clips show: other groups come with other clips."""
        if self.by != "groups" or self.clips is None or not self._narrower(level):
            return self
        covers = (
            f"{self.covers} Where groups show less than clips do, it is as wide as that for other "
            "clips, which other groups come with."
        )
        return replace(self, deletions=self.clips.deletions, covers=covers)

    def _narrower(self, level: float) -> bool:
        """Whether it is no wider than the interval for other clips; not where nothing varies."""
        if self.clips is None or len(self.scores) < 2 or self.clips.variance <= _NOTHING:
            return False
        if self.deletions.variance <= self.clips.deletions.variance:
            return True
        own, clips = (
            t_quantile(level, found.dof) * found.variance**0.5 for found in (self, self.clips)
        )
        return bool(own < clips)

    @property
    def _hidden(self) -> bool:
        """Whether clips are shared, but in so few episodes that what they add does not show."""
        if self.clips is not None and self.clips._hidden:
            return True
        if self.by == "classes":
            return False
        few = len(self.scores) < _ENOUGH and self.deletions.own_dof < _LEAST_DOF["clips"]
        return self.deletions.shared and few and self.variance > _NOTHING

    @property
    def _drowned(self) -> bool:
        """Whether chance drowns what clips add, so that they may matter far more than it seems."""
        if self.clips is not None and self.clips._drowned:
            return True
        unknown = self.by != "classes" and self.deletions.shared and self.variance > _NOTHING
        return unknown and self._known < _LEAST_KNOWN

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
        the part of the episodes is known, so fewer than `_LEAST_DOF` are not needed.
        """
        episodes = len(self.scores) - 1
        least = min(_LEAST_DOF[self.by], episodes, max(self.deletions.dof, 1))
        return max(self._known, float(least))

    @property
    def _known(self) -> float:
        """Degrees of freedom without the least ones."""
        parts = 2 * self.closed**2 / (len(self.scores) - 1) + self.deletions.variance_of_variance
        return 2 * self.variance**2 / parts

    def no_interval(self, level: float, method: str) -> Interval | None:
        """The answer where the records show no spread or allow no interval; else None."""
        low: float | None = None
        high: float | None = None
        why = self._why_none(level)
        if not why and self.variance > _NOTHING:
            return None
        if not why:
            low, high = self.outwards(*equal_values(self.share, self.apart, level))
            method = f"{method}, {BOUND}"
        covers = f"{self.covers} {why}".rstrip()
        return Interval(self.mean, low, high, level, self.n, method, covers)

    def _why_none(self, level: float) -> str:
        """Why there is no interval; empty where there is one."""
        if self.stuck:
            return f"{self.stuck} No interval."
        if len(self.scores) < 2:
            return "One episode: no interval."
        if self.closed <= _NOTHING and self.lowest < 0:
            return (
                "Where every episode shows the same gain, nothing tells how it would differ: no "
                "interval."
            )
        if self.lowest < 0 and too_few_differ(self.scores):
            return _FEW_DIFFER.format(unit="episode")
        if self._hidden:
            return (
                f"With {len(self.scores)} episodes too few clips were in several of them to tell "
                f"how much they matter: no interval. {_ENOUGH} or more tell."
            )
        if self._drowned:
            return (
                f"Chance in the draw of {len(self.scores)} episodes drowns how much clips matter: "
                "no interval. More episodes tell."
            )
        if self.by == "classes" and self._narrower(level):
            return (
                "Where classes show no more spread than their clips do, there are too few of them "
                "to tell: no interval."
            )
        if self.variance <= _NOTHING and self.apart < 2:
            return "All episodes are alike and share clips: no interval."
        return ""

    @property
    def remark(self) -> str:
        """What is to be said of an interval, with a space before it; or empty."""
        if self.deletions.variance or not self.deletions.shared:
            return ""
        return (
            f" Where chance in the draw of the episodes hides what {self.by} add, that counts as "
            "0; more episodes tell."
        )

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
