"""Variance of a mean over other clips: the uncertainty that more episodes do not remove."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, inf, sqrt
from statistics import harmonic_mean

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics.intervals import check_level
from fewshot_i2v.statistics.jackknife import JackknifeEstimate
from fewshot_i2v.statistics.predictions import PredictionTable
from fewshot_i2v.statistics.variance_components import VarianceComponents

CLIP_SHARE = 0.75
"""Share of the variance left to the clips where clips and episodes are planned together."""
MIN_DOF = 8
"""With fewer degrees of freedom a pilot does not tell how much clips matter."""


@dataclass(frozen=True)
class ClipVariance:
    """Variance of the mean over very many episodes from one set of clips to another.

    Attributes:
        single_clip_variance: with one clip per class; n clips of each class divide it by n.
        dof: degrees of freedom of `single_clip_variance`; None where that is an upper bound.
    """

    single_clip_variance: float
    dof: float | None = None

    def deviation(self, clips: float) -> float:
        """Standard deviation of the mean with this many clips of each class."""
        return sqrt(self.single_clip_variance / clips)


def estimate_clip_variance(
    outcomes: PredictionTable, sizes: Sequence[int], baseline: PredictionTable | None = None
) -> ClipVariance | None:
    """Estimate the variance over clips from a pilot whose episodes share clips.

    Args:
        outcomes: of the pilot.
        sizes: clips of each class from which its episodes were drawn.
        baseline: another run of the same episodes; then it is about the gain over that run.

    Returns:
        By leaving each clip out, as support and as query, without the chance that the draw of the
        episodes adds (as `JackknifeEstimate` says). None where that has too few degrees of freedom
        to be a guide: in a short pilot few clips are in several episodes.

    Raises:
        UsageError: when no episode succeeded, or `baseline` has other episodes.
    """
    changes = JackknifeEstimate.from_outcomes(outcomes, "clips", baseline=baseline).changes
    if changes.variance_dof < MIN_DOF:
        return None
    return ClipVariance(changes.variance * harmonic_mean(sizes), changes.variance_dof)


def max_clip_variance(
    components: VarianceComponents, way: int, shot: int, classes: int, *, clips: float | None = None
) -> ClipVariance:
    """Upper bound of the variance over clips, from the variance components of episodes.

    A support clip moves an episode by no more than its share of b, a query clip by no more than its
    share of w. To first order the mean over all episodes on n clips of each of C classes is a mean
    of these moves, so its variance is at most (way · shot · b + w) / (C · n). It is less the more
    of b and w belongs to classes, to single pairs of clips, or to chance. Where the episodes of
    `components` were drawn repeatedly from `clips` of each class, they are more alike than those on
    other clips, which is allowed for.
    """
    share = 0.0 if clips is None else 1 / (classes * clips)
    # b on other clips is larger by the variance that is looked for
    between = (components.between - components.short * bool(clips) + share * components.within) / (
        1 - way * shot * share
    )
    return ClipVariance((way * shot * max(0.0, between) + components.within) / classes)


def components_over_clips(
    components: VarianceComponents, clip_variance: ClipVariance, clips: float
) -> VarianceComponents:
    """Components of episodes that share no clip, from those of episodes on the same clips.

    The variance over other clips is that on the same clips, plus that of their means.
    """
    return replace(
        components,
        between=max(
            0.0, components.between - components.short + clip_variance.single_clip_variance / clips
        ),
        short=0.0,
    )


def half_width_over_clips(clip_variance: ClipVariance, clips: float, level: float = 0.95) -> float:
    """Half-width that remains with this many clips of each class and endless episodes."""
    return _normal_quantile(level) * clip_variance.deviation(clips)


def detectable_over_clips(
    clip_variance: ClipVariance, clips: float, *, power: float = 0.8, level: float = 0.95
) -> float:
    """Smallest true difference over other clips that this many of them mostly show."""
    return _power_quantile(power, level) * clip_variance.deviation(clips)


def clips_for_half_width(clip_variance: ClipVariance, target: float, level: float = 0.95) -> int:
    """Clips of each class to know the mean over other clips to ± `target`.

    They get `CLIP_SHARE` of the variance that the target allows; the episodes may have the rest.

    Raises:
        UsageError: when the target is not above 0.
    """
    return _required_clips(clip_variance, target, _normal_quantile(level))


def clips_for_difference(
    clip_variance: ClipVariance, difference: float, *, power: float = 0.8, level: float = 0.95
) -> int:
    """Clips of each class to detect a true difference over other clips in a share `power` of runs.

    Raises:
        UsageError: when the difference is not above 0.
    """
    return _required_clips(clip_variance, difference, _power_quantile(power, level))


def _required_clips(clip_variance: ClipVariance, target: float, quantile: float) -> int:
    if not 0 < target < inf:
        raise UsageError(f"the aim is {target}; expected a number above 0, such as 0.01")
    return max(1, ceil(quantile**2 * clip_variance.single_clip_variance / (CLIP_SHARE * target**2)))


def _normal_quantile(level: float) -> float:
    """Normal quantile: clips of all classes together have very many degrees of freedom."""
    check_level(level)
    from scipy.special import ndtri

    return float(ndtri((1 + level) / 2))


def _power_quantile(power: float, level: float) -> float:
    from scipy.special import ndtri

    return _normal_quantile(level) + float(ndtri(power))
