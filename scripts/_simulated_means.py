"""Samples of accuracies near an end, and intervals for their mean, for `coverage_of_intervals.py`.

An episode's accuracy is a share of right answers among a few queries that hang together: binomial,
with a probability from a beta distribution.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import product

import numpy as np
import scipy.stats
from _comparators import bootstrap_mean

from fewshot_i2v.statistics import Interval, bounded_interval, mean_interval

Ends = tuple[float, float]
Held = list[tuple[bool, float]]

QUERIES = 5
TOGETHER = 0.1
"""Correlation of two answers of an episode."""
SIZES, MEANS = (6, 12, 25, 50, 90), (0.6, 0.85, 0.95, 0.987)


def bca(values: list[float], seed: int) -> Interval | Ends:
    """The bootstrap interval of scipy that the library does not have, to see why."""
    generator = np.random.default_rng(seed)
    if min(values) == max(values):
        return bounded_interval(values)
    with warnings.catch_warnings():
        # it says so where it finds none
        warnings.simplefilter("ignore")
        found = scipy.stats.bootstrap(
            (values,), np.mean, n_resamples=1000, method="BCa", rng=generator
        ).confidence_interval
    return float(found.low), float(found.high)


def means(
    times: int, seed: int, level: float, *, quick: bool
) -> Iterator[tuple[str, int, float, str, bool, Held]]:
    """Setting, number of values, mean, interval, whether it is claimed to hold, and what held."""
    generator = np.random.default_rng(seed)
    for n, mean in [(25, 0.95)] if quick else product(SIZES, MEANS):
        both = 1 / TOGETHER - 1
        shares = generator.beta(mean * both, (1 - mean) * both, size=(times, n))
        samples = (generator.binomial(QUERIES, shares) / QUERIES).tolist()
        found: dict[str, Held] = {}
        for number, values in enumerate(samples):
            made: dict[str, Interval | Ends] = {
                "Student t": mean_interval(values, level),
                "bounded": bounded_interval(values, level),
                "percentile-t": bootstrap_mean(values, level, seed=number, repeats=1000),
            }
            # a few hundred are enough to see it, and it is slow
            if number < times // 4:
                made["BCa"] = bca(values, number)
            for name, interval in made.items():
                found.setdefault(name, []).append(held(interval, mean))
        for name, all_of_them in found.items():
            claimed = name in ("bounded", "percentile-t")
            yield f"mean of {n} accuracies", n, mean, name, claimed, all_of_them


def held(found: Interval | Ends, truth: float) -> tuple[bool, float]:
    """Whether an interval holds a truth, and half of its width."""
    low, high = (found.low, found.high) if isinstance(found, Interval) else found
    if low is None or high is None:
        return False, 1.0
    return low <= truth <= high, (high - low) / 2
