"""Proper scores of predicted probabilities: log loss and Brier score."""

from __future__ import annotations

import numpy as np

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics.predictions import FloatArray, PredictionTable

MIN_PROBABILITY = 5e-7
"""The largest probability that records, rounded to 6 decimals, have as 0."""


def log_loss(outcomes: PredictionTable) -> float:
    """Negative log-likelihood of a run: mean of -ln(probability of the label) over predictions.

    Args:
        outcomes: of the run.

    Returns:
        In nats, 0 or more; guessing among w classes gives ln(w). Records have probabilities rounded
        to 6 decimals. One recorded as 0 counts as `MIN_PROBABILITY`, the largest that it can have
        been: with any of them the value is a lower bound, and the true one is not in the records.

    Raises:
        UsageError: when no episode succeeded.
    """
    if not len(outcomes):
        raise UsageError(f"no episode succeeded ({outcomes.failed} failed): there is no likelihood")
    return float(-np.log(np.maximum(outcomes.probability, MIN_PROBABILITY)).mean())


def brier_score(label_probabilities: FloatArray, all_probabilities: FloatArray) -> float:
    """Brier score of a run: mean over predictions of the squared distance to the right answer.

    The distance is over all classes of the episode (Brier, "Verification of Forecasts Expressed in
    Terms of Probability", 1950); it is exact but for the rounding of records to 6 decimals.

    Args:
        label_probabilities: probability of the label of each query clip, (R,).
        all_probabilities: of all classes of each query clip, one clip after the other.

    Returns:
        0 (sure and right) to 2 (sure and wrong); guessing among w classes gives 1 - 1 / w.

    Raises:
        UsageError: when there is none.
    """
    if not len(label_probabilities):
        raise UsageError("no episode succeeded: there is no probability to score")
    return float(
        1
        + (all_probabilities @ all_probabilities - 2 * label_probabilities.sum())
        / len(label_probabilities)
    )
