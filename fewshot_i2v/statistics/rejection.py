"""A threshold below which a clip is of none of the classes, with the error rates to expect."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics.shares import Share, share_of


@dataclass(frozen=True)
class Rejection:
    """A threshold of a score; clips with a lower one are of none of the classes.

    Attributes:
        threshold: of the score.
        rejected_known: held-out clips of the classes that it rejects, wrongly.
        rejected_unknown: clips of classes that were left out which it rejects, rightly. Its
            `optimism` is what a model of one more class rejects less. The interval takes classes
            as independent, not clips.
        rejected_by_class: the same share of each class that was left out, not corrected, 0..1.
        auroc: probability that a clip of a class has a higher score than one of none, 0..1.
    """

    threshold: float
    rejected_known: Share
    rejected_unknown: Share
    rejected_by_class: dict[str, float]
    auroc: float


def auroc(known: ArrayLike, unknown: ArrayLike) -> float:
    """Computes the probability that a known clip has a higher score than an unknown one.

    Ties count half (Mann and Whitney, 1947).
    """
    from scipy.stats import rankdata

    a, b = np.asarray(known, dtype=np.float64), np.asarray(unknown, dtype=np.float64)
    ranks = rankdata(np.concatenate([a, b]))[: len(a)].sum()
    return float((ranks - len(a) * (len(a) + 1) / 2) / (len(a) * len(b)))


def choose_threshold(
    known: ArrayLike,
    unknown: ArrayLike,
    *,
    unknown_classes: Sequence[str],
    reject_known: float,
    known_groups: Sequence[Hashable] | None = None,
    unknown_scores_of_fewer: ArrayLike | None = None,
) -> Rejection:
    """Chooses the threshold that rejects at most a share of the clips of the classes.

    It is the score that leaves out floor(share * (R + 1)) of R held-out clips: then a new clip of a
    class is rejected with a probability of at most that share (Vovk, Gammerman and Shafer,
    "Algorithmic Learning in a Random World", 2005, conformal prediction), as far as new clips are
    like these.

    A class is left out of a model of C - 1 classes, and the threshold is for a model of C. The more
    classes, the likelier is an unknown clip near to one of them. From C - 2 to C - 1 classes the
    rate falls by a factor; it is multiplied by this factor once more (ours; exact where the classes
    accept an unknown clip independently of each other).

    Args:
        known: scores of held-out clips of the classes, (R,).
        unknown: scores of clips of classes that were left out, (U,).
        unknown_classes: class of each of these, (U,).
        reject_known: the share, above 0 and below 1.
        known_groups: group of each known clip, for the interval.
        unknown_scores_of_fewer: scores of unknown clips by models of C - 2 classes, of any shape;
            None: the rate is not corrected.

    Raises:
        UsageError: when there are too few clips for this share.
    """
    scores, others = np.sort(np.asarray(known, dtype=np.float64)), np.asarray(unknown)
    position = int(reject_known * (len(scores) + 1))
    if position < 1 or not len(others):
        raise UsageError(
            f"reject: held-out clips {len(scores)}, clips of other classes {len(others)}; "
            f"to reject at most {reject_known:.0%} needs {int(np.ceil(1 / reject_known)) - 1} and 1"
        )
    threshold = float(scores[position - 1])
    rejected = others < threshold
    optimism, rate = 0.0, float(rejected.mean())
    if unknown_scores_of_fewer is not None and rate:
        rate_of_fewer = float(np.less(unknown_scores_of_fewer, threshold).mean())
        # a rate that rises with the number of classes does so by chance
        optimism = rate * (1 - rate / max(rate_of_fewer, rate))
    names = np.asarray(unknown_classes)
    return Rejection(
        threshold,
        # with the clip that is the threshold: of new clips as many are expected below it
        share_of(np.asarray(known) <= threshold, known_groups),
        share_of(rejected, list(unknown_classes), optimism=optimism, clip_per_group=True),
        {str(name): float(rejected[names == name].mean()) for name in dict.fromkeys(names)},
        auroc(known, unknown),
    )
