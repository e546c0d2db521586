"""Ends of an interval from a mean and its standard error, inside the range of the values."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log, sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy.random import Generator

LOGIT = "Student t on the logit scale"
BOUND = "Wilson bound for equal values"


def t_quantile(level: float, dof: float) -> float:
    """Quantile of Student's t that leaves (1 - level) / 2 above it.

    Args:
        level: above 0 and below 1.
        dof: degrees of freedom, above 0; need not be whole.
    """
    # scipy takes longer to import than everything else here
    from scipy.special import stdtrit

    return float(stdtrit(dof, (1 + level) / 2))


def inside(mean: float, error: float, dof: float, level: float) -> tuple[float, float, str]:
    """Ends of an interval for a mean of numbers between 0 and 1.

    They are those of Student's t where an interval twice as wide still lies between 0 and 1. Nearer
    to an end they are those of Student's t for log(mean / (1 - mean)), by the delta method.

    Args:
        mean: above 0 and below 1.
        error: its standard error, above 0.
        dof: degrees of freedom of the error.
        level: above 0 and below 1.

    Returns:
        Low, high, and which of the two it is.
    """
    half = t_quantile(level, dof) * error
    if mean - 2 * half >= 0 and mean + 2 * half <= 1:
        return mean - half, mean + half, "Student t"
    return shifted(mean, -half), shifted(mean, half), LOGIT


def shifted(mean: float, shift: float) -> float:
    """The mean moved by `shift` as measured at the mean, but on the logit scale.

    Args:
        mean: above 0 and below 1.
        shift: any number.
    """
    logit = log(mean / (1 - mean)) + shift / (mean * (1 - mean))
    # the other branch overflows far out
    return 1 / (1 + exp(-logit)) if logit > 0 else exp(logit) / (1 + exp(logit))


def equal_values(mean: float, n: int, level: float) -> tuple[float, float]:
    """Ends for n equal numbers between 0 and 1, which show no spread.

    No numbers with a given mean spread more than zeros and ones, so Wilson's interval for n right
    or wrong answers, with Student's t for the normal quantile, is wide enough for them.

    Args:
        mean: the number, 0..1.
        n: at least 2.
        level: above 0 and below 1.
    """
    return wilson_ends(mean, n, t_quantile(level, n - 1))


def wilson_ends(share: float, n: float, quantile: float) -> tuple[float, float]:
    """Ends of the score interval of a share (Wilson, 1927, https://doi.org/10.2307/2276774).

    Args:
        share: 0..1.
        n: number of trials, above 0.
        quantile: of the standard normal distribution, or one that stands for it.
    """
    square = quantile * quantile
    centre = (share + square / (2 * n)) / (1 + square / n)
    half = quantile / (1 + square / n) * sqrt(share * (1 - share) / n + square / (4 * n * n))
    # exact at the ends, where rounding would leave a hair
    low = 0.0 if share == 0 else centre - half
    high = 1.0 if share == 1 else centre + half
    return low, high


def percentile_t(
    values: Sequence[float], level: float, generator: Generator, repeats: int
) -> tuple[float, float]:
    """Ends of the percentile-t bootstrap interval of a mean, cut at 0 and 1.

    Args:
        values: numbers between 0 and 1, not all equal.
        level: above 0 and below 1.
        generator: of the resamples.
        repeats: number of resamples.
    """
    import numpy as np

    # equal values are drawn together: accuracies have few
    distinct, counts = np.unique(values, return_counts=True)
    n = len(values)
    mean = float(distinct @ counts) / n
    away = distinct - mean
    error = sqrt(float(counts @ away**2)) / n
    draws = generator.multinomial(n, counts / n, size=repeats) / n
    shift = draws @ away
    spread = np.sqrt(np.maximum(draws @ away**2 - shift**2, 0)) / sqrt(n)
    # what rounding leaves is no spread
    flat = spread < 1e-9 * error
    ratios = np.where(flat, np.copysign(np.inf, shift), shift / np.where(flat, 1, spread))
    ratios = np.sort(ratios)
    cut = int((1 - level) / 2 * repeats)
    least, most = float(ratios[cut]), float(ratios[repeats - 1 - cut])
    return max(mean - error * most, 0.0), min(mean - error * least, 1.0)
