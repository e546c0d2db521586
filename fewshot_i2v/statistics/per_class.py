"""How well single classes are recognised, each class counting the same."""

from __future__ import annotations

import numpy as np

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics.outcomes import Outcomes


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
