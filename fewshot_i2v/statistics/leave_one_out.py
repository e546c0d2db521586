"""Leave-one-out changes of the mean score of a run, by clips, groups or classes.

A cluster is a clip, a group of clips or a class. Leaving a cluster of clips out drops every
prediction that uses it, as query or as support, and keeps how often each class is asked;
leaving a class out drops every episode that has it. The change of the mean is a sum over episodes.
For clips it is that to first order: see `leave_out_clips`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewshot_i2v.statistics.predictions import FloatArray, IntArray, PredictionTable

# a cluster of each clip, from the clips and their classes in the episodes
ClusterAssignment = Callable[[IntArray, IntArray], IntArray]


@dataclass(frozen=True, eq=False)
class LeaveOneOutChanges:
    """Changes of the mean score when each of G clusters is left out.

    Attributes:
        change: A(-g) - A, (G,).
        cross: squared change without the noise from the draw of episodes, (G,): the products of the
            contributions of two different episodes. May be negative.
        stratum: clusters of one number are exchangeable, (G,): those of one class, or all.
        stuck: clusters without which nothing is left, although they are in several episodes.
        clusters_shared: whether any cluster is in several episodes.
    """

    change: FloatArray
    cross: FloatArray
    stratum: IntArray
    stuck: IntArray
    clusters_shared: bool

    @cached_property
    def factor(self) -> FloatArray:
        """(n - 1) / n of each cluster, n the number of clusters in its stratum, (G,)."""
        sizes = np.bincount(self.stratum)[self.stratum]
        return np.asarray((sizes - 1) / sizes, dtype=np.float64)

    @cached_property
    def dof(self) -> int:
        """Number of clusters minus number of strata."""
        return len(self.change) - len(np.unique(self.stratum))

    @cached_property
    def variance(self) -> float:
        """The jackknife variance without the noise of the draw of episodes; 0 or more.

        The jackknife variance itself is the sum of (n - 1) / n · change².
        """
        return max(float(np.sum(self.factor * self.cross)), 0.0)

    @cached_property
    def variance_of_variance(self) -> float:
        """Variance of `variance`, from its terms; at least that of normal changes."""
        terms = self.factor * self.cross
        spread = float(np.sum((terms - terms.mean()) ** 2))
        return max(spread, 2 * self.variance**2 / max(self.dof, 1))

    @cached_property
    def variance_dof(self) -> float:
        """Degrees of freedom of `variance` alone (Satterthwaite, 1946); 0 where it is 0."""
        if not self.variance:
            return 0.0
        return 2 * self.variance**2 / self.variance_of_variance


def leave_out_clips(
    outcomes: PredictionTable, score: FloatArray, assignment: ClusterAssignment
) -> LeaveOneOutChanges:
    """Leave out each cluster of clips, in both roles.

    With e = score - mean of the label's class, weights w and W their sum over a class, the change
    is -W / (W - W_g) · sum of w·e over the predictions for that class that use g, and the same for
    predictions for other classes in episodes where g is support.

    Dropping the predictions and taking the mean again, each class weighted as before, would
    also recompute the means of the classes; these sums leave them as they are.

    Args:
        outcomes: at least 2 episodes.
        score: of each prediction, (R,), such as 1 where it is right and 0 where it is not.
        assignment: the code of the cluster of clips, from their codes and classes.
    """
    class_sums = _ClassSums(outcomes, score)
    support = assignment(outcomes.support_clip, outcomes.support_class)
    query = assignment(outcomes.query, outcomes.label)
    # the sums are those of one cluster each, so a few clusters at a time give the same ones
    blocks = [
        _range_changes(outcomes, class_sums, support, query, start, stop)
        for start, stop in _cluster_ranges(support, query)
    ]
    change, cross, cluster_codes, strata, stuck, shared_flags = zip(*blocks, strict=True)
    spans_classes = any(
        len(range_classes) > len(range_codes)
        for range_codes, range_classes in zip(cluster_codes, strata, strict=True)
    )
    stratum = (
        np.zeros(sum(map(len, cluster_codes)), np.int64)
        if spans_classes
        else np.concatenate(strata)
    )
    return LeaveOneOutChanges(
        np.concatenate(change),
        np.concatenate(cross),
        stratum,
        np.concatenate(stuck),
        any(shared_flags),
    )


# entries of support and query clips that are in memory at a time, with several sums of each
_BLOCK = 1 << 18


def _cluster_ranges(support: IntArray, query: IntArray) -> list[tuple[int, int]]:
    """Split the codes of clusters into ranges, each of few entries or of one cluster."""
    bound = int(max(support.max(initial=0), query.max())) + 1
    ends = np.cumsum(np.bincount(support, minlength=bound) + np.bincount(query, minlength=bound))
    ranges, start = [], 0
    while start < bound:
        n_before = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, n_before + _BLOCK, side="right")), start + 1)
        ranges.append((start, stop))
        start = stop
    return ranges


def _range_changes(
    outcomes: PredictionTable,
    class_sums: _ClassSums,
    support: IntArray,
    query: IntArray,
    start: int,
    stop: int,
) -> tuple[FloatArray, FloatArray, IntArray, IntArray, IntArray, bool]:
    """Change, cross, cluster codes, classes of units, stuck and shared of a range of clusters."""
    n_classes, n_episodes = len(outcomes.classes), len(outcomes)
    cluster, group, episode, sums = _role_sums(outcomes, class_sums, support, query, start, stop)
    codes, unit = np.unique(cluster * n_classes + group, return_inverse=True)
    unit_class = codes % n_classes
    same_class = _RoleChange.from_sums(unit, sums[:2], class_sums.same_class_weight[unit_class])
    other_classes = _RoleChange.from_sums(unit, sums[2:], class_sums.other_class_weight[unit_class])
    cluster_codes, unit_cluster = np.unique(codes // n_classes, return_inverse=True)
    change, cross, clusters_shared = _change_and_cross(
        unit_cluster[unit],
        episode,
        same_class.value + other_classes.value,
        same_class.noise + other_classes.noise,
        n_episodes,
    )
    stuck = np.unique(unit_cluster[same_class.stuck | other_classes.stuck])
    return change, cross, cluster_codes, unit_class, cluster_codes[stuck], clusters_shared


def leave_out_classes(outcomes: PredictionTable, score: FloatArray) -> LeaveOneOutChanges:
    """Leave out each class; `stuck` are those that are in every episode.

    Leaving a class out among the labels only, with the same alternatives, does not avoid that:
    errors are mostly confusions of two classes, and with W classes in every episode the spread of
    their accuracies holds (W - 2) / (2 W - 2) of what such pairs add to the variance of the mean.

    Args:
        outcomes: at least 2 episodes.
        score: of each prediction, (R,).
    """
    n_episodes, n_classes = len(outcomes), len(outcomes.classes)
    excess = outcomes.weights * (score - outcomes.weights @ score)
    cluster, episode = outcomes.member_class, outcomes.member_episode
    values = np.bincount(outcomes.episode, excess)[episode]
    weights = np.full(len(episode), 1 / n_episodes)
    role_change = _RoleChange.from_sums(cluster, np.stack([values, weights]), np.ones(n_classes))
    change, cross, clusters_shared = _change_and_cross(
        cluster, episode, role_change.value, role_change.noise, n_episodes
    )
    stratum = np.zeros(n_classes, dtype=np.int64)
    return LeaveOneOutChanges(
        change, cross, stratum, np.flatnonzero(role_change.stuck), clusters_shared
    )


@dataclass(frozen=True, eq=False)
class _RoleChange:
    """Changes of a mean when each of G units is left out of it.

    Attributes:
        value: contribution of each entry to the change, (P,).
        noise: the same, shrunk so that its square is the noise in the squared change.
        stuck: whether nothing is left without a unit that has several entries, (G,).
    """

    value: FloatArray
    noise: FloatArray
    stuck: NDArray[np.bool_]

    @classmethod
    def from_sums(
        cls, unit: IntArray, sums: NDArray[np.float64], totals: FloatArray
    ) -> _RoleChange:
        """Build from the units, sums of w·e and of w of P entries, and the total of w per unit."""
        removed = np.bincount(unit, sums[1], minlength=len(totals))
        entries = np.bincount(unit, sums[1] > 0, minlength=len(totals))
        remaining = totals - removed
        emptied = (remaining <= 1e-9 * totals) & (removed > 0)
        scale = np.divide(
            totals, remaining, out=np.ones_like(totals), where=~emptied & (totals > 0)
        )
        value = -scale[unit] * sums[0]
        # deviations from a mean add up to 0, so a sum over a share of them varies less
        share = _safe_ratio(removed, totals)
        # rounding may put a share of all a little above 1
        shrink = np.maximum(1 - share, 0) / (1 - _safe_ratio(share, np.maximum(entries, 2)))
        shrink = np.where(entries > 1, np.sqrt(shrink), 1.0)
        return cls(value, shrink[unit] * value, emptied & (entries > 1))


class _ClassSums:
    """Sums over the predictions for a class, and over those for other classes of its episodes.

    Attributes:
        excess: w·e of each prediction, (R,).
        same_class: sums of w·e and of w over the predictions for a class in an episode, (T · C,).
        other_classes: the same over predictions for other classes, minus their mean beside this
            class.
        same_class_weight, other_class_weight: sums of w by class, (C,).
        n_episodes: number of episodes with each class, (C,).
    """

    def __init__(self, outcomes: PredictionTable, score: FloatArray) -> None:
        n_classes, n_episodes = len(outcomes.classes), len(outcomes)
        label, weights = outcomes.label, outcomes.weights
        self.same_class_weight = np.bincount(label, weights, minlength=n_classes)
        scores = np.bincount(label, weights * score, minlength=n_classes)
        means = _safe_ratio(scores, self.same_class_weight)
        self.excess = weights * (score - means[label])
        cell = outcomes.episode * n_classes + label
        self.same_class = (
            np.bincount(cell, self.excess, n_episodes * n_classes),
            np.bincount(cell, weights, n_episodes * n_classes),
        )
        member, episode = outcomes.member_class, outcomes.member_episode
        cell = episode * n_classes + member
        sums = np.bincount(outcomes.episode, self.excess)[episode] - self.same_class[0][cell]
        share = np.bincount(outcomes.episode, weights)[episode] - self.same_class[1][cell]
        self.other_class_weight = np.bincount(member, share, minlength=n_classes)
        mean = _safe_ratio(np.bincount(member, sums, n_classes), self.other_class_weight)
        self.other_classes = (
            np.bincount(cell, sums - mean[member] * share, n_episodes * n_classes),
            np.bincount(cell, share, n_episodes * n_classes),
        )
        self.n_episodes = np.bincount(member, minlength=n_classes)


def _role_sums(
    outcomes: PredictionTable,
    class_sums: _ClassSums,
    support: IntArray,
    query: IntArray,
    start: int,
    stop: int,
) -> tuple[IntArray, IntArray, IntArray, NDArray[np.float64]]:
    """Cluster, class, episode and the four sums (`same_class`, `other_classes`) of each entry.

    An entry is a cluster from `start` up to `stop` in a class of an episode. A prediction counts
    once, however many of its clips are of the cluster.
    """
    n_classes, n_episodes = len(outcomes.classes), len(outcomes)
    in_range = np.flatnonzero((support >= start) & (support < stop))
    cell = outcomes.support_episode[in_range] * n_classes + outcomes.support_class[in_range]
    support_cells = _sorted_unique(support[in_range] * (n_episodes * n_classes) + cell)
    in_range = np.flatnonzero((query >= start) & (query < stop))
    query_cells = query[in_range] * (n_episodes * n_classes) + (
        outcomes.episode[in_range] * n_classes + outcomes.label[in_range]
    )
    is_query_only = (
        np.append(support_cells, -1)[np.searchsorted(support_cells, query_cells)] != query_cells
    )
    in_range = in_range[is_query_only]
    query_cells, entry = np.unique(query_cells[is_query_only], return_inverse=True)
    cell = support_cells % (n_episodes * n_classes)
    sums_by_role = np.zeros((4, len(support_cells) + len(query_cells)))
    for row, sums in zip(
        sums_by_role, (*class_sums.same_class, *class_sums.other_classes), strict=True
    ):
        row[: len(support_cells)] = sums[cell]
    for row, x in zip(sums_by_role, (class_sums.excess, outcomes.weights), strict=False):
        row[len(support_cells) :] = np.bincount(entry, x[in_range])
    keys = np.concatenate([support_cells, query_cells])
    cell = keys % (n_episodes * n_classes)
    return keys // (n_episodes * n_classes), cell % n_classes, cell // n_classes, sums_by_role


def _sorted_unique(codes: IntArray) -> IntArray:
    """Sorted unique codes; several times as fast as numpy's `unique`, which hashes."""
    codes = np.sort(codes)
    return np.asarray(codes[np.diff(codes, prepend=-1) > 0])


def _change_and_cross(
    cluster: IntArray, episode: IntArray, value: FloatArray, noise: FloatArray, n_episodes: int
) -> tuple[FloatArray, FloatArray, bool]:
    """Change of each cluster, its square minus the noise, and whether any is in several episodes.

    The change and the noise are summed over episodes.
    """
    change: FloatArray = np.bincount(cluster, value).astype(np.float64)
    keys, cell = np.unique(cluster * n_episodes + episode, return_inverse=True)
    squares, owner = np.bincount(cell, noise) ** 2, keys // n_episodes
    clusters_shared = bool((np.bincount(owner) > 1).any())
    return change, change**2 - np.bincount(owner, squares, minlength=len(change)), clusters_shared


def _safe_ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> FloatArray:
    ratios: FloatArray = np.divide(
        numerator, denominator, out=np.zeros(len(denominator)), where=denominator > 0
    )
    return ratios
