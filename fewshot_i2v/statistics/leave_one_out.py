"""What leaving out clips or classes does to the mean score of a run.

A cluster is a clip, a group of clips or a class. Leaving a cluster of clips out drops every
prediction that it is part of, as query or as support, and keeps how often each class is asked;
leaving a class out drops every episode that has it. The change of the mean is a sum over episodes.
For clips it is that to first order: see `without_clips`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewshot_i2v.statistics.predictions import Codes, Numbers, Outcomes

# a cluster of each clip, from the clips and their classes in the episodes
ClusterOf = Callable[[Codes, Codes], Codes]


@dataclass(frozen=True, eq=False)
class Deletions:
    """Changes of the mean score when each of G clusters is left out.

    Attributes:
        change: A(-g) - A, (G,).
        cross: squared change without the part that chance in the draw of episodes adds, (G,): the
            products of what two different episodes contribute. May be negative.
        stratum: clusters of one number are exchangeable, (G,): those of one class, or all.
        stuck: clusters that nothing is left without, although they are in several episodes.
        shared: whether any cluster is in several episodes.
    """

    change: Numbers
    cross: Numbers
    stratum: Codes
    stuck: Codes
    shared: bool

    @cached_property
    def factor(self) -> Numbers:
        """(n - 1) / n of each cluster, n the clusters of its stratum, (G,)."""
        sizes = np.bincount(self.stratum)[self.stratum]
        return np.asarray((sizes - 1) / sizes, dtype=np.float64)

    @cached_property
    def dof(self) -> int:
        """Clusters less strata."""
        return len(self.change) - len(np.unique(self.stratum))

    @cached_property
    def jackknife(self) -> float:
        """The jackknife variance: sum of (n - 1) / n · change²."""
        return float(np.sum(self.factor * self.change**2))

    @cached_property
    def variance(self) -> float:
        """The jackknife variance without the noise of the draw of episodes; 0 or more."""
        return max(float(np.sum(self.factor * self.cross)), 0.0)

    @cached_property
    def variance_of_variance(self) -> float:
        """How uncertain `variance` is, from its parts; not less than for normal changes."""
        parts = self.factor * self.cross
        spread = float(np.sum((parts - parts.mean()) ** 2))
        return max(spread, 2 * self.variance**2 / max(self.dof, 1))

    @cached_property
    def own_dof(self) -> float:
        """Degrees of freedom of `variance` alone (Satterthwaite, 1946); 0 where it is 0."""
        if not self.variance:
            return 0.0
        return 2 * self.variance**2 / self.variance_of_variance


def without_clips(outcomes: Outcomes, score: Numbers, cluster_of: ClusterOf) -> Deletions:
    """Leaves out each cluster of clips, in both roles.

    With e = score - mean of the label's class, weights w and W their sum over a class, the change
    is -W / (W - W_g) · sum of w·e over the predictions for that class that g is part of, and the
    same for predictions for other classes in episodes where g is support.

    Dropping the predictions and taking the mean again, each class weighted as before, would take
    the means of the classes anew, too; these sums leave them as they are.

    Args:
        outcomes: at least 2 episodes.
        score: of each prediction, (R,), such as 1 where it is right and 0 where it is not.
        cluster_of: the code of the cluster of clips, given their codes and classes.
    """
    table = _ByClass(outcomes, score)
    support = cluster_of(outcomes.support_clip, outcomes.support_class)
    query = cluster_of(outcomes.query, outcomes.label)
    # the sums are those of one cluster each, so a few clusters at a time give the same ones
    blocks = [
        _without(outcomes, table, support, query, start, stop)
        for start, stop in _blocks(support, query)
    ]
    change, cross, names, strata, stuck, shared = zip(*blocks, strict=True)
    spans = any(len(of_class) > len(these) for these, of_class in zip(names, strata, strict=True))
    stratum = np.zeros(sum(map(len, names)), np.int64) if spans else np.concatenate(strata)
    return Deletions(
        np.concatenate(change), np.concatenate(cross), stratum, np.concatenate(stuck), any(shared)
    )


# entries of support and query clips that are in memory at a time, with several sums of each
_BLOCK = 1 << 18


def _blocks(support: Codes, query: Codes) -> list[tuple[int, int]]:
    """Ranges of codes of clusters, each of few entries or of one cluster."""
    bound = int(max(support.max(initial=0), query.max())) + 1
    ends = np.cumsum(np.bincount(support, minlength=bound) + np.bincount(query, minlength=bound))
    ranges, start = [], 0
    while start < bound:
        before = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, before + _BLOCK, side="right")), start + 1)
        ranges.append((start, stop))
        start = stop
    return ranges


def _without(
    outcomes: Outcomes, table: _ByClass, support: Codes, query: Codes, start: int, stop: int
) -> tuple[Numbers, Numbers, Codes, Codes, Codes, bool]:
    """Change, cross, names, class of each class's part, stuck and shared of a range of clusters."""
    classes, episodes = len(outcomes.classes), len(outcomes)
    cluster, group, episode, parts = _joined(outcomes, table, support, query, start, stop)
    codes, unit = np.unique(cluster * classes + group, return_inverse=True)
    of_class = codes % classes
    own = _Part.of(unit, parts[:2], table.own_weight[of_class])
    other = _Part.of(unit, parts[2:], table.other_weight[of_class])
    names, of_unit = np.unique(codes // classes, return_inverse=True)
    change, cross, shared = _squares(
        of_unit[unit], episode, own.value + other.value, own.noise + other.noise, episodes
    )
    stuck = np.unique(of_unit[own.stuck | other.stuck])
    return change, cross, names, of_class, names[stuck], shared


def without_classes(outcomes: Outcomes, score: Numbers) -> Deletions:
    """Leaves out each class; `stuck` are those that are in every episode.

    Leaving a class out among the labels only, with the same alternatives, is no way round that:
    errors are mostly confusions of two classes, and with W classes in every episode the spread of
    their accuracies holds (W - 2) / (2 W - 2) of what such pairs add to the variance of the mean.

    Args:
        outcomes: at least 2 episodes.
        score: of each prediction, (R,).
    """
    episodes, classes = len(outcomes), len(outcomes.classes)
    excess = outcomes.weights * (score - outcomes.weights @ score)
    cluster, episode = outcomes.member_class, outcomes.member_episode
    values = np.bincount(outcomes.episode, excess)[episode]
    weights = np.full(len(episode), 1 / episodes)
    part = _Part.of(cluster, np.stack([values, weights]), np.ones(classes))
    change, cross, shared = _squares(cluster, episode, part.value, part.noise, episodes)
    stratum = np.zeros(classes, dtype=np.int64)
    return Deletions(change, cross, stratum, np.flatnonzero(part.stuck), shared)


@dataclass(frozen=True, eq=False)
class _Part:
    """Changes of a mean when each of G units is left out of it.

    Attributes:
        value: what each entry adds to the change, (P,).
        noise: the same, shrunk to what its square adds to the noise of the squared change.
        stuck: whether nothing is left without a unit that has several entries, (G,).
    """

    value: Numbers
    noise: Numbers
    stuck: NDArray[np.bool_]

    @classmethod
    def of(cls, unit: Codes, sums: NDArray[np.float64], whole: Numbers) -> _Part:
        """From the units, sums of w·e and of w of P entries, and the sum of w of each whole."""
        gone = np.bincount(unit, sums[1], minlength=len(whole))
        entries = np.bincount(unit, sums[1] > 0, minlength=len(whole))
        left = whole - gone
        lost = (left <= 1e-9 * whole) & (gone > 0)
        scale = np.divide(whole, left, out=np.ones_like(whole), where=~lost & (whole > 0))
        value = -scale[unit] * sums[0]
        # deviations from a mean add up to 0, so a sum over a share of them varies less
        share = _ratio(gone, whole)
        # rounding may put a share of all a little above 1
        shrink = np.maximum(1 - share, 0) / (1 - _ratio(share, np.maximum(entries, 2)))
        shrink = np.where(entries > 1, np.sqrt(shrink), 1.0)
        return cls(value, shrink[unit] * value, lost & (entries > 1))


class _ByClass:
    """Sums over the predictions for a class, and over those beside it in its episodes.

    Attributes:
        excess: w·e of each prediction, (R,).
        own: sums of w·e and of w over the predictions for a class in an episode, (T · C,).
        other: the same over predictions for other classes, less their mean beside this class.
        own_weight, other_weight: sums of w by class, (C,).
        episodes: number of episodes with each class, (C,).
    """

    def __init__(self, outcomes: Outcomes, score: Numbers) -> None:
        classes, episodes = len(outcomes.classes), len(outcomes)
        label, weights = outcomes.label, outcomes.weights
        self.own_weight = np.bincount(label, weights, minlength=classes)
        scores = np.bincount(label, weights * score, minlength=classes)
        means = _ratio(scores, self.own_weight)
        self.excess = weights * (score - means[label])
        cell = outcomes.episode * classes + label
        self.own = (
            np.bincount(cell, self.excess, episodes * classes),
            np.bincount(cell, weights, episodes * classes),
        )
        member, episode = outcomes.member_class, outcomes.member_episode
        cell = episode * classes + member
        sums = np.bincount(outcomes.episode, self.excess)[episode] - self.own[0][cell]
        share = np.bincount(outcomes.episode, weights)[episode] - self.own[1][cell]
        self.other_weight = np.bincount(member, share, minlength=classes)
        mean = _ratio(np.bincount(member, sums, classes), self.other_weight)
        self.other = (
            np.bincount(cell, sums - mean[member] * share, episodes * classes),
            np.bincount(cell, share, episodes * classes),
        )
        self.episodes = np.bincount(member, minlength=classes)


def _joined(
    outcomes: Outcomes, table: _ByClass, support: Codes, query: Codes, start: int, stop: int
) -> tuple[Codes, Codes, Codes, NDArray[np.float64]]:
    """Cluster, class, episode and the four sums (`own`, `other`) of each part that a cluster has.

    Of the clusters from `start` up to `stop`. A prediction counts once, however many of its clips
    are of the cluster.
    """
    classes, episodes = len(outcomes.classes), len(outcomes)
    inside = np.flatnonzero((support >= start) & (support < stop))
    cell = outcomes.support_episode[inside] * classes + outcomes.support_class[inside]
    given = _distinct(support[inside] * (episodes * classes) + cell)
    inside = np.flatnonzero((query >= start) & (query < stop))
    asked = query[inside] * (episodes * classes) + (
        outcomes.episode[inside] * classes + outcomes.label[inside]
    )
    alone = np.append(given, -1)[np.searchsorted(given, asked)] != asked
    inside = inside[alone]
    asked, entry = np.unique(asked[alone], return_inverse=True)
    cell = given % (episodes * classes)
    parts = np.zeros((4, len(given) + len(asked)))
    for row, sums in zip(parts, (*table.own, *table.other), strict=True):
        row[: len(given)] = sums[cell]
    for row, x in zip(parts, (table.excess, outcomes.weights), strict=False):
        row[len(given) :] = np.bincount(entry, x[inside])
    keys = np.concatenate([given, asked])
    cell = keys % (episodes * classes)
    return keys // (episodes * classes), cell % classes, cell // classes, parts


def _distinct(codes: Codes) -> Codes:
    """Each code once, ascending; several times as fast as numpy's `unique`, which hashes."""
    codes = np.sort(codes)
    return np.asarray(codes[np.diff(codes, prepend=-1) > 0])


def _squares(
    cluster: Codes, episode: Codes, value: Numbers, noise: Numbers, episodes: int
) -> tuple[Numbers, Numbers, bool]:
    """Sum over episodes of each cluster, its square less the squared noise, and if any has two.

    The noise is that of the episodes.
    """
    change: Numbers = np.bincount(cluster, value).astype(np.float64)
    keys, cell = np.unique(cluster * episodes + episode, return_inverse=True)
    squares, owner = np.bincount(cell, noise) ** 2, keys // episodes
    shared = bool((np.bincount(owner) > 1).any())
    return change, change**2 - np.bincount(owner, squares, minlength=len(change)), shared


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> Numbers:
    ratios: Numbers = np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)
    return ratios
