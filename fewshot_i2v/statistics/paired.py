"""Two methods over the same episodes or clips: how much they differ, and whether that is chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from sys import float_info

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics._sign_flips import SignFlip, sign_flip
from fewshot_i2v.statistics._values import EQUAL, check_level, checked
from fewshot_i2v.statistics.intervals import Interval, Unit, paired_difference

__all__ = [
    "McNemar",
    "Paired",
    "SignFlip",
    "align",
    "compare_paired",
    "holm",
    "mcnemar",
    "sign_flip",
    "smallest_visible",
]


@dataclass(frozen=True)
class Paired:
    """Method a against method b over the same episodes.

    Attributes:
        difference: mean of a - b with its interval.
        test: of "neither is better".
        wins: episodes in which a is better.
        ties: episodes in which both are equally good.
        losses: episodes in which b is better.
        visible: as `smallest_visible` gives it, for a power of 0.8.
    """

    difference: Interval
    test: SignFlip
    wins: int
    ties: int
    losses: int
    visible: float | None


def compare_paired(
    a: Sequence[float],
    b: Sequence[float],
    level: float = 0.95,
    *,
    shared: bool = True,
    unit: Unit = "episode",
    draws: int = 9_999,
    seed: int = 0,
) -> Paired:
    """Everything that two methods' accuracies on the same episodes say about their difference.

    Args:
        a: one accuracy per episode of the one method, (T,).
        b: of the other, in the same order of episodes, (T,).
        level: of the interval, above 0 and below 1.
        shared: whether episodes have clips in common, which decides what the interval covers.
        unit: as for `paired_difference`.
        draws: as for `sign_flip`.
        seed: as for `sign_flip`.

    Returns:
        Differences are a - b: positive where `a` is better.

    Raises:
        UsageError: as for `paired_difference` and `sign_flip`.

    Example:
        >>> paired = compare_paired([0.8, 0.6, 0.9, 0.7], [0.6, 0.6, 0.5, 0.6])
        >>> f"{paired.difference.mean:.3f} {paired.test.p:.2f} {paired.wins}/{paired.ties}"
        '0.175 0.25 3/1'
    """
    difference = paired_difference(a, b, level, shared=shared, unit=unit)
    values = np.subtract(a, b, dtype=np.float64)
    wins, losses = int((values > EQUAL).sum()), int((values < -EQUAL).sum())
    return Paired(
        difference=difference,
        test=sign_flip(values.tolist(), draws=draws, seed=seed),
        wins=wins,
        ties=len(values) - wins - losses,
        losses=losses,
        visible=smallest_visible(values.tolist(), level),
    )


def smallest_visible(
    differences: Sequence[float], level: float = 0.95, power: float = 0.8
) -> float | None:
    """The smallest true mean difference that a paired t test of this size would mostly find.

    Args:
        differences: one per episode, (T,); only their number and spread matter.
        level: one minus the risk of finding a difference where there is none, 0..1.
        power: how often it is to be found, above 1 - level and below 1.

    Returns:
        The difference, in the unit of the values; None where there is a single value or no spread.

    Raises:
        UsageError: for a level or power out of range, no value, or one that is not finite.
    """
    values = np.array(checked(differences, "differences"))
    check_level(level)
    if not 1 - level < power < 1:
        raise UsageError(
            f"power is {power}; expected a number above {1 - level:g} and below 1, such as 0.8"
        )
    n = len(values)
    if n == 1 or np.ptp(values) <= EQUAL:
        return None
    # scipy takes longer to import than everything else here
    from scipy.special import nctdtrinc, stdtrit

    critical = stdtrit(n - 1, (1 + level) / 2)
    shift = nctdtrinc(n - 1, 1 - power, critical)
    return float(shift * values.std(ddof=1) / sqrt(n))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values of a family of tests (Holm, 1979).

    Calling what is below 0.05 a difference then errs anywhere in the family at most once in twenty
    times, whatever the tests have to do with each other.

    Args:
        p_values: each in [0, 1].

    Returns:
        As many, in the same order, none smaller than it was and none above 1.

    Raises:
        UsageError: when a value is not in [0, 1].
    """
    values = np.array(p_values, dtype=np.float64)
    for position in np.flatnonzero(~((values >= 0) & (values <= 1)))[:1].tolist():
        raise UsageError(f"p_values[{position}] is {values[position]}; expected 0 to 1")
    order = values.argsort(kind="stable")
    factors = np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0)
    return [float(value) for value in adjusted]


@dataclass(frozen=True)
class McNemar:
    """What McNemar's test says of two methods on the same clips.

    Attributes:
        p: two-sided, above 0, at most 1.
        only_a: clips that only method a got right.
        only_b: clips that only method b got right.
        clips: number of clips.
        method: in words, how p was computed.
    """

    p: float
    only_a: int
    only_b: int
    clips: int
    method: str


def mcnemar(
    clips_a: ArrayLike,
    right_a: ArrayLike,
    clips_b: ArrayLike,
    right_b: ArrayLike,
    *,
    mid_p: bool = False,
) -> McNemar:
    """Whether one of two methods gets more clips right, clip by clip (McNemar, 1947).

    For runs in which each clip is asked once, such as a single all-way episode. The clips that only
    one of the methods gets right are taken for fair coins, and the binomial distribution is exact.

    Args:
        clips_a: name or number of each clip asked of method a, (R,).
        right_a: whether it was right, (R,).
        clips_b: of method b, in any order, (R,).
        right_b: whether it was right, (R,).
        mid_p: count half of the probability of what was seen: less cautious, and closer to the
            level where few clips differ (Fagerland, Lydersen and Laake, 2013).

    Raises:
        UsageError: when a clip is asked twice in a run, or of one of the methods only, or there are
            not as many answers as clips.
    """
    a, b = _by_clip(clips_a, right_a, "a"), _by_clip(clips_b, right_b, "b")
    lonely = np.setxor1d(a[0], b[0])
    if len(lonely) or not len(a[0]):
        what = f"clip {lonely[0]} in one of them only" if len(lonely) else "no clips"
        raise UsageError(f"McNemar's test needs the same clips of both; got {what}")
    # scipy takes longer to import than everything else here
    from scipy.special import bdtr

    only_a, only_b = int((a[1] & ~b[1]).sum()), int((~a[1] & b[1]).sum())
    n, fewer = only_a + only_b, min(only_a, only_b)
    p = 2 * float(bdtr(fewer, n, 0.5))
    if mid_p:
        p -= float(bdtr(fewer, n, 0.5) - (bdtr(fewer - 1, n, 0.5) if fewer else 0.0))
    method = "McNemar, binomial with mid-p" if mid_p else "McNemar, exact binomial"
    p = min(1.0, max(p, float_info.min))
    return McNemar(p, only_a, only_b, len(a[0]), method)


def _by_clip(
    clips: ArrayLike, right: ArrayLike, name: str
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Clips in order, each once, and whether they were right."""
    names, answers = np.asarray(clips), np.asarray(right, dtype=np.bool_)
    if names.shape != answers.shape or names.ndim != 1:
        raise UsageError(
            f"method {name}: clips {names.shape}, answers {answers.shape}; expected one answer for "
            "each clip"
        )
    distinct, first, counts = np.unique(names, return_index=True, return_counts=True)
    if (counts > 1).any():
        twice = distinct[counts > 1][0]
        raise UsageError(
            f"method {name}: clip {twice} is asked {counts.max()} times; McNemar's test needs "
            "each clip once. Compare by episodes instead"
        )
    return distinct, answers[first]


def align(
    a: Mapping[int, float], b: Mapping[int, float]
) -> tuple[list[int], list[float], list[float]]:
    """The episodes that two runs have in common, and both runs' values in that order.

    Args:
        a: values of the one run, such as accuracies, by episode number.
        b: of the other.

    Returns:
        The episode numbers, ascending, and the values of `a` and of `b`.

    Raises:
        UsageError: when they have none in common.
    """
    common = sorted(a.keys() & b.keys())
    if not common:
        raise UsageError(
            f"no episode is in both: {len(a)} in the one, {len(b)} in the other; compare runs of "
            "the same episodes"
        )
    return common, [a[i] for i in common], [b[i] for i in common]
