"""Learning curves: how accuracy goes on growing with the number of labelled clips per class.

The log-odds of the accuracy grow about in proportion to the logarithm of the number of clips, and
later more slowly, where something else than clips is missing. So the growth over the last numbers
of clips is carried on for what is expected, and the range reaches from no further change to one
that is `FASTEST` times as fast. A few rows fall, such as class means where clips of a scene are in
several classes; so does then what is expected. `scripts/coverage_of_learning_curves.py` measured
how often that holds. The form is ours; extrapolating such curves by several laws is studied by
Mahmood et al., How Much More Data Do I Need?, CVPR 2022, https://arxiv.org/abs/2207.01725.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics.intervals import check_level

WINDOW = 3
"""Numbers of clips, the last ones, whose growth is carried on."""
FASTEST = 1.5
"""Of the growth that is carried on, the fastest that the range allows for."""
MAX_FACTOR = 4
"""Times the largest number of clips up to which anything is said."""


@dataclass(frozen=True)
class ExpectedAccuracy:
    """What is expected of a number of clips that was not measured.

    Attributes:
        shot: labelled clips per class.
        mean: expected accuracy, 0..1.
        low: accuracy without further growth (where the row falls: with the fastest fall), less what
            few episodes leave open, 0..1.
        high: accuracy with the fastest growth (where the row falls: without further fall), and what
            few episodes leave open, 0..1.
    """

    shot: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class NeededShots:
    """Labelled clips per class for an accuracy, beyond those that were measured.

    Attributes:
        expected: with the growth carried on; None where it is more than `limit`.
        least: with the fastest growth; None where it is more than `limit`.
        limit: largest number of clips of which anything is said.
    """

    expected: int | None
    least: int | None
    limit: int


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """Mean accuracies over numbers of labelled clips per class, and their growth.

    Attributes:
        shots: labelled clips per class, ascending, (P,), at least `WINDOW` of them.
        log_odds: of the mean accuracies, (P,).
        covariance: of `log_odds`, (P, P).
        level: of the ranges, above 0 and below 1.
    """

    shots: tuple[int, ...]
    log_odds: NDArray[np.float64]
    covariance: NDArray[np.float64]
    level: float = 0.95

    @property
    def slope(self) -> float:
        """Growth of the log-odds for each unit of the logarithm of clips; below 0 for a fall."""
        return float(self._slope_weights() @ self.log_odds)

    @property
    def limit(self) -> int:
        """Largest number of clips of which anything is said."""
        return MAX_FACTOR * self.shots[-1]

    def expect(self, shot: int) -> ExpectedAccuracy:
        """Carries the growth on to a number of clips beyond those measured.

        Raises:
            UsageError: when it is below the largest one measured, or above `limit`.
        """
        if not self.shots[-1] <= shot <= self.limit:
            raise UsageError(
                f"shot: got {shot}; expected {self.shots[-1]} to {self.limit}, the most that were "
                f"measured to {MAX_FACTOR} times as many"
            )
        last, distance = float(self.log_odds[-1]), log(shot / self.shots[-1])
        # without further change, and with the fastest one
        ends = [
            (last + reach * self.slope, self._error(reach)) for reach in (0.0, FASTEST * distance)
        ]
        return ExpectedAccuracy(
            shot,
            _accuracy(last + self.slope * distance),
            _accuracy(min(value - error for value, error in ends)),
            _accuracy(max(value + error for value, error in ends)),
        )

    def shots_for(self, accuracy: float) -> NeededShots:
        """Counts the clips per class for an accuracy, 0..1, that none of those measured reaches."""
        expected = least = None
        for shot in range(self.shots[-1] + 1, self.limit + 1):
            values = self.expect(shot)
            if least is None and values.high >= accuracy:
                least = shot
            if values.mean >= accuracy:
                expected = shot
                break
        return NeededShots(expected, least, self.limit)

    def _slope_weights(self) -> NDArray[np.float64]:
        """Weights of `log_odds` in the least-squares slope over the last numbers of clips, (P,)."""
        x = np.log(self.shots[-WINDOW:])
        centered = x - x.mean()
        weights = np.zeros(len(self.shots))
        weights[-WINDOW:] = centered / (centered @ centered)
        return weights

    def _error(self, distance: float) -> float:
        """Half-width of the log-odds that the growth over `distance` leads to."""
        weights = distance * self._slope_weights()
        weights[-1] += 1
        variance = float(weights @ self.covariance @ weights)
        return NormalDist().inv_cdf(0.5 + self.level / 2) * sqrt(max(0.0, variance))


def fit_learning_curve(
    accuracies: Mapping[int, Mapping[int, float]],
    answers: Mapping[int, int],
    level: float = 0.95,
) -> LearningCurve:
    """Fits the learning curve of a row.

    Args:
        accuracies: of each number of labelled clips per class, at least three, the accuracy of
            each episode, 0..1, by its number, at least two episodes. Episodes of equal numbers may
            be correlated.
        answers: query clips answered with each number of labelled clips, over all episodes: an
            accuracy of 0 or 1 counts as half an answer away from it.
        level: of the ranges, above 0 and below 1.

    Raises:
        UsageError: when there are too few numbers of clips or episodes.
    """
    check_level(level)
    shots = tuple(sorted(accuracies))
    if len(shots) < WINDOW:
        raise UsageError(
            f"shots {', '.join(map(str, shots))}: expected at least {WINDOW} numbers of labelled "
            "clips per class"
        )
    few = [shot for shot in shots if len(accuracies[shot]) < 2]
    if few:
        raise UsageError(f"shot {few[0]}: expected at least 2 episodes that succeeded")
    edges = np.array([0.5 / answers[shot] for shot in shots])
    means = np.array([np.mean([*accuracies[shot].values()]) for shot in shots])
    means = np.clip(means, edges, 1 - edges)
    gradient = 1 / (means * (1 - means))
    covariance = np.outer(gradient, gradient) * _covariance([accuracies[shot] for shot in shots])
    return LearningCurve(shots, np.log(means / (1 - means)), covariance, level)


def _covariance(rows: Sequence[Mapping[int, float]]) -> NDArray[np.float64]:
    """Covariance of the means of rows, from the episodes that two of them have in common."""
    covariance = np.zeros((len(rows), len(rows)))
    for i, row in enumerate(rows):
        for j, other in enumerate(rows[: i + 1]):
            common = sorted(row.keys() & other.keys())
            if len(common) < 2:
                continue
            pair = np.cov([row[k] for k in common], [other[k] for k in common])[0, 1]
            share = len(common) / (len(row) * len(other))
            covariance[i, j] = covariance[j, i] = pair * share
    return covariance


def _accuracy(log_odds: float) -> float:
    """Accuracy of log-odds, without overflow."""
    return 1 / (1 + exp(-log_odds)) if log_odds > 0 else exp(log_odds) / (1 + exp(log_odds))
