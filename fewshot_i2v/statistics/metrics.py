"""Scores of probabilities: they reward being right, and being no surer than that."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import chain
from operator import getitem

import numpy as np

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics.predictions import Numbers, Outcomes, Recorded

LEAST = 5e-7
"""The largest probability that records, rounded to 6 decimals, have as 0."""


def log_loss(outcomes: Outcomes) -> float:
    """Negative log-likelihood of a run: mean of -ln(probability of the label) over predictions.

    Args:
        outcomes: of the run.

    Returns:
        In nats, 0 or more; guessing among w classes gives ln(w). Records have probabilities rounded
        to 6 decimals. One recorded as 0 counts as `LEAST`, the largest that it can have been: with
        any of them the value is a lower bound, and the true one is not in the records.

    Raises:
        UsageError: when no episode succeeded.
    """
    if not len(outcomes):
        raise UsageError(f"no episode succeeded ({outcomes.failed} failed): there is no likelihood")
    return float(-np.log(np.maximum(outcomes.probability, LEAST)).mean())


def brier_score(records: Iterable[Recorded]) -> float:
    """Brier score of a run: mean over predictions of the squared distance to the right answer.

    The distance is over all classes of the episode (Brier, "Verification of Forecasts Expressed in
    Terms of Probability", 1950). It takes records, since `Outcomes` has two of the probabilities of
    a query clip only; it is exact but for their rounding to 6 decimals.

    Args:
        records: as for `Outcomes.from_records`; those that failed are left out.

    Returns:
        0 (sure and right) to 2 (sure and wrong); guessing among w classes gives 1 - 1 / w.

    Raises:
        UsageError: when no episode succeeded.
    """
    label, every = array("d"), array("d")
    for record in records:
        if record.status == "ok":
            label.fromlist([*map(getitem, record.probabilities, record.labels)])
            every.fromlist([*chain.from_iterable(record.probabilities)])
    return brier_of(np.frombuffer(label), np.frombuffer(every))


def brier_of(label: Numbers, every: Numbers) -> float:
    """`brier_score` of probabilities that are arrays already.

    Args:
        label: probability of the label of each query clip, (R,).
        every: probabilities of all classes of each query clip, one clip after the other.

    Raises:
        UsageError: when there is none.
    """
    if not len(label):
        raise UsageError("no episode succeeded: there is no probability to score")
    return float(1 + (every @ every - 2 * label.sum()) / len(label))


def class_recalls(outcomes: Outcomes) -> dict[str, float]:
    """Share of the query clips of each class that were right, over all episodes.

    Args:
        outcomes: of a run.

    Returns:
        Recalls, 0..1, by class name; without the classes that no query clip is of.
    """
    count = len(outcomes.classes)
    asked = np.bincount(outcomes.label, minlength=count)
    right = np.bincount(outcomes.label, outcomes.right, minlength=count)
    return {
        name: float(right[code] / asked[code])
        for code, name in enumerate(outcomes.classes)
        if asked[code]
    }


def balanced_accuracy(outcomes: Outcomes) -> float:
    """Mean of the recalls of the classes (Brodersen et al., 2010).

    The accuracy counts a class as often as the sampler drew it; here each counts once, so a class
    that is rarely drawn and badly recognised weighs as much as the others. Where every class was
    asked equally often both are the same. "The balanced accuracy and its posterior distribution",
    ICPR 2010, https://doi.org/10.1109/ICPR.2010.764.

    Args:
        outcomes: of a run.

    Returns:
        The mean over the classes that query clips are of, 0..1. Guessing among the classes of an
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
