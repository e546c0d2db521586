"""Intervals that cover other clips, groups or classes, although episodes share them.

The spread over episodes that share clips tells only how well their mean is known on these clips.
Other clips change the mean more. The records show how much: by the difference between the episodes
with a clip and those without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics.intervals import (
    Interval,
    bounded_ends,
    check_level,
    check_repeats,
    finite_values,
    t_quantile,
)
from fewshot_i2v.statistics.jackknife import ClusterKind, GroupScope, JackknifeEstimate
from fewshot_i2v.statistics.predictions import FloatArray, PredictionTable

_SEEDS_COVER = (
    "It covers other training seeds on these episodes; not new clips, new classes or another "
    "training set."
)


def two_way_jackknife(
    outcomes: PredictionTable,
    level: float = 0.95,
    *,
    by: ClusterKind = "clips",
    groups: Mapping[str, str] | None = None,
    scope: GroupScope = "class",
    baseline: PredictionTable | None = None,
) -> Interval:
    """Mean accuracy and an interval for other clips, by leaving each clip out in both roles.

    The variance is (n - 1) / n · sum of (A(-i) - A)² over the n clips of a class, summed over the
    classes. A(-i) - A is, to first order, the change of the mean without the predictions that use
    clip i, as query or as support, every class asked as often as before: how far they are above or
    below the means of their classes, which themselves are not recomputed without them. Each such
    change also holds chance from the draw of the episodes, once for every clip of an episode; that
    is taken out (only products of two different episodes count) and added once: s² / T of the
    episodes' accuracies. Where no clip is in two episodes it is the interval of Student's t.

    Args:
        outcomes: of a run; at least 2 episodes for an interval.
        level: above 0 and below 1.
        by: what is left out: clips, groups of clips, or classes.
        groups: the group of every clip, for `by="groups"`.
        scope: "class" where groups of one name in two classes are two groups, else "global".
        baseline: another run of the same episodes; then it is for the gain over that run.

    Returns:
        The interval, inside 0 and 1 (-1 and 1 for a gain): Student's t with the degrees of freedom
        that match the variance of the variance (Satterthwaite, 1946); `n` is the number of
        clusters. Other groups come with other clips, so the interval for them is no narrower than
        that over clips. There is none, and `covers` says why, where a clip is in every episode of
        its class; where a class is in every episode, or classes show no more spread than their
        clips do; in fewer than 30 episodes of which too few share clips to estimate their effect,
        or where chance in their draw hides it, as it may where they use most clips of a class; and
        for a gain that is the same in every episode or 0 in nearly all of them, as
        `paired_difference` says.

    Raises:
        UsageError: when the level, `by` or `scope` is none, a clip has no group, no episode
            succeeded, or `baseline` has other episodes.
    """
    return jackknife_interval(
        JackknifeEstimate.from_outcomes(outcomes, by, groups, scope, baseline), level
    )


def jackknife_interval(estimate: JackknifeEstimate, level: float = 0.95) -> Interval:
    """Interval of `two_way_jackknife` from an estimate that is there already.

    Raises:
        UsageError: when the level is none.
    """
    check_level(level)
    estimate, method = estimate.widen_to_clips(level), f"jackknife over {estimate.by}"
    degenerate = estimate.degenerate_interval(level, method)
    if degenerate is not None:
        return degenerate
    low, high, scale = estimate.student_t_ends(level)
    covers = estimate.covers + estimate.note
    return Interval(estimate.mean, low, high, level, estimate.n, f"{method}, {scale}", covers)


def cluster_bootstrap(
    outcomes: PredictionTable,
    by: ClusterKind = "clips",
    *,
    groups: Mapping[str, str] | None = None,
    scope: GroupScope = "class",
    baseline: PredictionTable | None = None,
    level: float = 0.95,
    seed: int = 0,
    repeats: int = 2000,
) -> Interval:
    """Mean accuracy and a bootstrap interval for other clips, groups or classes.

    Clusters are drawn again with replacement, n - 1 of n within each class (Rao and Wu, 1988), and
    the mean moves by the sum of the changes from leaving each of them out: a prediction counts with
    the sum of how much more or less often its query clip and its support clips are drawn. With the
    product of these numbers nearly no episode is left, and chance dominates; with the query clip's
    number alone the choice of the support is not covered. As in `two_way_jackknife`, chance in the
    draw of the episodes is taken out of the changes and added once, by drawing episodes again.

    Args:
        outcomes: of a run; at least 2 episodes for an interval.
        by: what is drawn again: clips within their classes, groups of clips, or classes.
        groups: the group of every clip, for `by="groups"`.
        scope: "class" where groups of one name in two classes are two groups, else "global": then,
            as for classes, all clusters are drawn from together.
        baseline: as for `two_way_jackknife`.
        level: above 0 and below 1.
        seed: of the draws, 0 or more.
        repeats: number of draws, at least 100.

    Returns:
        The interval between two percentiles, stretched by the ratio of Student's t to the normal
        quantile, inside 0 and 1; `n` is the number of clusters.

    Raises:
        UsageError: as `two_way_jackknife`, or when there are too few repeats.
    """
    check_level(level)
    check_repeats(repeats)
    estimate = JackknifeEstimate.from_outcomes(
        outcomes, by, groups, scope, baseline
    ).widen_to_clips(level)
    method = f"bootstrap over {by}"
    degenerate = estimate.degenerate_interval(level, method)
    if degenerate is not None:
        return degenerate
    from scipy.special import ndtri

    shifts = _resampled_shifts(estimate, np.random.default_rng(seed), repeats)
    stretch = t_quantile(level, estimate.dof) / float(ndtri((1 + level) / 2))
    below, above = stretch * np.quantile(shifts, [(1 - level) / 2, (1 + level) / 2])
    low, high, scale = estimate.percentile_ends(float(below), float(above))
    return Interval(
        estimate.mean,
        low,
        high,
        level,
        estimate.n,
        f"{method}, {scale}",
        estimate.covers + estimate.note,
    )


@dataclass(frozen=True)
class SeedSpread:
    """Standard deviation of a method's accuracy over training seeds.

    Attributes:
        sd: standard deviation over seeds, in the unit of the means; None for a single seed.
        interval: for the mean over seeds.
    """

    sd: float | None
    interval: Interval


def seed_spread(means: Sequence[float], level: float = 0.95) -> SeedSpread:
    """Spread over training seeds, to show beside an interval over clips, not instead of it.

    Args:
        means: mean accuracy of each training seed on the same episodes, 0..1.
        level: above 0 and below 1.

    Returns:
        Standard deviation with n - 1, and the interval of Student's t, inside 0 and 1. Two seeds
        give a very wide one; equal means give one without width.

    Raises:
        UsageError: when there is no mean, one is not from 0 to 1, or the level is out of range.
    """
    check_level(level)
    values = np.array(finite_values(means, "means"))
    n, mean = len(values), float(values.mean())
    if values.min() < 0 or values.max() > 1:
        raise UsageError(f"means are {values.tolist()}; expected accuracies, 0 to 1")
    if n == 1:
        covers = f"{_SEEDS_COVER} One seed: no interval."
        return SeedSpread(None, Interval(mean, None, None, level, 1, "Student t", covers))
    sd = float(values.std(ddof=1))
    if values.min() == values.max():
        covers = f"{_SEEDS_COVER} All seeds gave the same, so the interval has no width."
        return SeedSpread(0.0, Interval(mean, mean, mean, level, n, "Student t", covers))
    low, high, method = bounded_ends(mean, sd / sqrt(n), n - 1, level)
    return SeedSpread(sd, Interval(mean, low, high, level, n, method, _SEEDS_COVER))


def _resampled_shifts(
    estimate: JackknifeEstimate, generator: np.random.Generator, repeats: int
) -> FloatArray:
    """Shifts of the mean in resamples of clusters and, independently, of episodes."""
    shifts, size = np.zeros(repeats), 0.0
    changes = estimate.changes
    for stratum in np.unique(changes.stratum):
        change = -changes.change[changes.stratum == stratum]
        n = len(change)
        change -= change.mean()
        size += (n - 1) / n * float(change @ change)
        shifts += generator.multinomial(n - 1, np.full(n, 1 / n), size=repeats) @ change
    shifts *= sqrt(changes.variance / size) if size > 0 else 0.0
    # episodes of equal score are drawn together: there are few values
    values, counts = np.unique(estimate.scores, return_counts=True)
    n_draws = len(estimate.scores) - 1
    resampled = generator.multinomial(n_draws, counts / len(estimate.scores), size=repeats)
    return np.asarray(shifts + resampled @ (values - estimate.mean) / n_draws)
