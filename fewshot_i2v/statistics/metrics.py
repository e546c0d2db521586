"""Proper scores of predicted probabilities: log loss and Brier score."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import chain
from operator import getitem

import numpy as np

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics.predictions import FloatArray, PredictionTable, RecordLike

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


def brier_score(records: Iterable[RecordLike]) -> float:
    """Brier score of a run: mean over predictions of the squared distance to the right answer.

    The distance is over all classes of the episode (Brier, "Verification of Forecasts Expressed in
    Terms of Probability", 1950). It takes records, since `PredictionTable` has only two of the
    probabilities of a query clip; it is exact but for their rounding to 6 decimals.

    Args:
        records: as for `PredictionTable.from_records`; those that failed are skipped.

    Returns:
        0 (sure and right) to 2 (sure and wrong); guessing among w classes gives 1 - 1 / w.

    Raises:
        UsageError: when no episode succeeded.
    """
    label_probabilities, all_probabilities = array("d"), array("d")
    for record in records:
        if record.status == "ok":
            label_probabilities.fromlist([*map(getitem, record.probabilities, record.labels)])
            all_probabilities.fromlist([*chain.from_iterable(record.probabilities)])
    return brier_from_arrays(np.frombuffer(label_probabilities), np.frombuffer(all_probabilities))


def brier_from_arrays(label_probabilities: FloatArray, all_probabilities: FloatArray) -> float:
    """Compute `brier_score` from arrays of probabilities.

    Args:
        label_probabilities: probability of the label of each query clip, (R,).
        all_probabilities: of all classes of each query clip, one clip after the other.

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


def class_recalls(outcomes: PredictionTable) -> dict[str, float]:
    """Share of the query clips of each class that were right, over all episodes.

    Args:
        outcomes: of a run.

    Returns:
        Recalls, 0..1, by class name; without the classes that have no query clip.
    """
    count = len(outcomes.classes)
    queries = np.bincount(outcomes.label, minlength=count)
    correct = np.bincount(outcomes.label, outcomes.correct, minlength=count)
    return {
        name: float(correct[code] / queries[code])
        for code, name in enumerate(outcomes.classes)
        if queries[code]
    }


def balanced_accuracy(outcomes: PredictionTable) -> float:
    """Mean of the recalls of the classes (Brodersen et al., 2010).

    The accuracy counts a class as often as the sampler drew it; here each counts once, so a class
    that is rarely drawn and badly recognised weighs as much as the others. Where every class has
    equally many query clips both are the same. "The balanced accuracy and its posterior
    distribution", ICPR 2010, https://doi.org/10.1109/ICPR.2010.764.

    Args:
        outcomes: of a run.

    Returns:
        The mean over the classes that have query clips, 0..1. Guessing among the classes of an
        episode gives the same as for the accuracy, 1 / way.

    Raises:
        UsageError: when no episode succeeded.
    """
    recalls = class_recalls(outcomes)
    if not recalls:
        raise UsageError(
            f"no episode succeeded ({outcomes.failed} failed): there is no recall of any class"
        )
    return float(np.mean(list(recalls.values())))
