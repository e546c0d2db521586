"""Shares of right answers of held-out clips, and how many of new clips to expect."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import floor

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics.intervals import check_level

_MIN_GROUPS = 5
"""Fewer say nothing about how groups differ: each of them then counts as one clip."""


@dataclass(frozen=True)
class Share:
    """A share of clips, such as those that were classified right, with its interval.

    Attributes:
        count: clips of this kind.
        clips: all clips.
        effective: clips that would tell as much if all were from different groups.
        low: lower end of the interval, 0..1.
        high: upper end, 0..1.
        level: of the interval.
        optimism: how much `count` of `clips` is too high, such as because the method was chosen
            by it.
    """

    count: int
    clips: int
    effective: float
    low: float
    high: float
    level: float
    optimism: float = 0.0

    @property
    def mean(self) -> float:
        """The share, 0..1."""
        return self.count / self.clips - self.optimism

    def expected_count(self, clips: int, effective: float | None = None) -> tuple[int, int]:
        """Returns between how many of a number of new clips are of this kind, at `level`.

        The share itself is uncertain (beta distribution after `effective` clips, Jeffreys' prior),
        and new clips scatter around it: the quantiles are those of the beta-binomial distribution.
        Clips that come in groups scatter as fewer independent ones do.

        Args:
            clips: number of new clips, 1 or more.
            effective: new clips that would scatter as much if all were from different groups, at
                most `clips`; None: they are.
        """
        from scipy.stats import betabinom

        hits = self.mean * self.effective
        n_independent = clips if effective is None else max(1, min(clips, floor(effective)))
        known = betabinom(n_independent, hits + 0.5, self.effective - hits + 0.5)
        tail = (1 - self.level) / 2
        few, many = int(known.ppf(tail)), int(known.ppf(1 - tail))
        return few * clips // n_independent, -(-many * clips // n_independent)


def share_of(
    hits: ArrayLike,
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
    *,
    optimism: float = 0.0,
    clip_per_group: bool = False,
) -> Share:
    """Computes a share of clips with an interval.

    Without groups it is the exact interval (Clopper and Pearson, "The Use of Confidence or Fiducial
    Limits", Biometrika 1934), which never holds less often than it says. Clips of
    one group are alike and tell less than as many of different groups: with groups the number of
    clips is divided by the design effect, the variance of the mean between groups over that of
    independent clips, at least 1 (Kish, "Survey Sampling", 1965). Fewer than five groups, or clips
    that are all alike, count as many clips as there are groups.

    Args:
        hits: whether each clip is of this kind, (R,).
        groups: the group of each clip, (R,); None: all are of different groups.
        level: above 0 and below 1.
        optimism: is taken off the share, see `Share`; the interval moves with it.
        clip_per_group: each group counts as one clip. That is the least it can tell, and right
            where a few groups are too few to see how they differ.

    Raises:
        UsageError: when there is no clip, or the level is out of range.
    """
    check_level(level)
    values = np.asarray(hits, dtype=np.float64)
    if not values.size:
        raise UsageError("share of clips: got no clip; expected at least one")
    effective = len(values) / _design_effect(values, groups)
    if clip_per_group and groups is not None:
        effective = float(len(set(groups)))
    low, high = _exact_ends((values.mean() - optimism) * effective, effective, level)
    return Share(int(values.sum()), len(values), effective, low, high, level, optimism)


def _design_effect(values: NDArray[np.float64], groups: Sequence[Hashable] | None) -> float:
    numbers: dict[Hashable, int] = {}
    codes = np.array([numbers.setdefault(group, len(numbers)) for group in groups or ()])
    n, n_groups = len(values), len(numbers)
    share = values.mean()
    if n_groups in (0, n):
        return 1.0
    if n_groups < _MIN_GROUPS or share in (0, 1):  # their spread cannot be seen
        return n / n_groups
    residuals = np.bincount(codes, values - share)
    between = n_groups / (n_groups - 1) * (residuals**2).sum() / n**2
    return float(max(1.0, between / (share * (1 - share) / n)))


def _exact_ends(hits: float, clips: float, level: float) -> tuple[float, float]:
    from scipy.special import betaincinv

    tail = (1 - level) / 2
    low = 0.0 if hits <= 0 else float(betaincinv(hits, clips - hits + 1, tail))
    high = 1.0 if hits >= clips else float(betaincinv(hits + 1, clips - hits, 1 - tail))
    return low, high
