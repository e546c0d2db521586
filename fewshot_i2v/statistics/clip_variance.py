"""How far other clips would move a mean: the part of its uncertainty that no episode takes away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, inf, sqrt
from statistics import harmonic_mean
from typing import TYPE_CHECKING

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics.intervals import check_level
from fewshot_i2v.statistics.variance_components import Components

if TYPE_CHECKING:
    from fewshot_i2v.statistics.predictions import Outcomes

CLIP_SHARE = 0.75
"""Share of the variance left to the clips where clips and episodes are planned together."""
LEAST_DOF = 8
"""With fewer degrees of freedom a pilot does not tell how much clips matter."""


@dataclass(frozen=True)
class ClipSpread:
    """How the mean over very many episodes differs from one set of clips to another.

    Attributes:
        unit: its variance with one clip per class; n clips of each class leave unit / n.
        dof: degrees of freedom of `unit`; None where it is the most that it can be.
    """

    unit: float
    dof: float | None = None

    def deviation(self, clips: float) -> float:
        """Standard deviation of the mean with so many clips of each class."""
        return sqrt(self.unit / clips)


def clip_spread(
    outcomes: Outcomes, sizes: Sequence[int], against: Outcomes | None = None
) -> ClipSpread | None:
    """The spread over clips that a pilot with shared clips shows.

    Args:
        outcomes: of the pilot.
        sizes: clips of each class from which its episodes were drawn.
        against: another run of the same episodes; then it is about the gain over that run.

    Returns:
        By leaving each clip out, as support and as query, without the chance that the draw of the
        episodes adds (as in `two_way_jackknife`). None where that has too few degrees of freedom
        to be a guide: in a short pilot few clips are in several episodes.

    Raises:
        UsageError: when no episode succeeded, or `against` has other episodes.
    """
    from fewshot_i2v.statistics.jackknife import Found

    deletions = Found.of(outcomes, "clips", against=against).deletions
    if deletions.own_dof < LEAST_DOF:
        return None
    return ClipSpread(deletions.variance * harmonic_mean(sizes), deletions.own_dof)


def most_clip_spread(
    found: Components, way: int, shot: int, classes: int, *, clips: float | None = None
) -> ClipSpread:
    """The most that the spread over clips can be, given how episodes spread.

    A support clip moves an episode by no more than its share of b, a query clip by no more than its
    share of w. To first order the mean over all episodes on n clips of each of C classes is a mean
    of these moves, so its variance is at most (way · shot · b + w) / (C · n). It is less the more
    of b and w belongs to classes, to single pairs of clips, or to chance.

    Args:
        found: how episodes spread.
        way: classes of an episode.
        shot: support clips of each.
        classes: from which episodes are drawn, C.
        clips: of each class, from which the episodes of `found` were drawn again and again; such
            episodes are more alike than those on other clips. None where they share no clip.
    """
    share = 0.0 if clips is None else 1 / (classes * clips)
    # b on other clips is larger by the variance that is looked for
    between = (found.between - found.short * bool(clips) + share * found.within) / (
        1 - way * shot * share
    )
    return ClipSpread((way * shot * max(0.0, between) + found.within) / classes)


def over_other_clips(found: Components, spread: ClipSpread, clips: float) -> Components:
    """Components of episodes that share no clip, from those of episodes on the same clips.

    The variance over other clips is that on the same clips, and that of their means.

    Args:
        found: of episodes drawn again and again from the same clips.
        spread: over clips.
        clips: of each class.
    """
    return replace(
        found, between=max(0.0, found.between - found.short + spread.unit / clips), short=0.0
    )


def half_width_over_clips(spread: ClipSpread, clips: float, level: float = 0.95) -> float:
    """Half-width that so many clips of each class leave, however many the episodes."""
    return _normal(level) * spread.deviation(clips)


def visible_over_clips(
    spread: ClipSpread, clips: float, *, power: float = 0.8, level: float = 0.95
) -> float:
    """The smallest true difference over other clips that so many of them mostly show."""
    return _shift(power, level) * spread.deviation(clips)


def clips_for_half_width(spread: ClipSpread, target: float, level: float = 0.95) -> int:
    """Clips of each class to know the mean over other clips to ± `target`.

    They have `CLIP_SHARE` of the variance that allows; the episodes may have the rest.

    Raises:
        UsageError: when the target is not above 0.
    """
    return _clips(spread, target, _normal(level))


def clips_for_difference(
    spread: ClipSpread, difference: float, *, power: float = 0.8, level: float = 0.95
) -> int:
    """The same for a true difference over other clips, to be found in a share `power` of runs.

    Raises:
        UsageError: when the difference is not above 0.
    """
    return _clips(spread, difference, _shift(power, level))


def _clips(spread: ClipSpread, aim: float, quantile: float) -> int:
    if not 0 < aim < inf:
        raise UsageError(f"the aim is {aim}; expected a number above 0, such as 0.01")
    return max(1, ceil(quantile**2 * spread.unit / (CLIP_SHARE * aim**2)))


def _normal(level: float) -> float:
    """The normal quantile: clips of all classes together leave very many degrees of freedom."""
    check_level(level)
    from scipy.special import ndtri

    return float(ndtri((1 + level) / 2))


def _shift(power: float, level: float) -> float:
    from scipy.special import ndtri

    return _normal(level) + float(ndtri(power))
