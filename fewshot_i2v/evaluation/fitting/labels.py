"""What held-out predictions say about the labels: clips that look mislabelled, classes confused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewshot_i2v.evaluation.fitting.held_out import HeldOutLogits
from fewshot_i2v.statistics.temperature import softmax

_SUSPECT_PROBABILITY = 0.9
_MIN_CONFUSED = 2


@dataclass(frozen=True)
class SuspectLabel:
    """A clip whose label its held-out prediction contradicts.

    Attributes:
        clip: its name.
        label: its class as labelled.
        predicted: the class that it is taken for.
        probability: of that class, calibrated.
    """

    clip: str
    label: str
    predicted: str
    probability: float


@dataclass(frozen=True)
class ConfusedPair:
    """Two classes that are taken for each other.

    Attributes:
        classes: their names.
        confused: held-out clips of either that were taken for the other.
        clips: held-out clips of both.
    """

    classes: tuple[str, str]
    confused: int
    clips: int


def describe_labels(
    held_out: HeldOutLogits, temperature: float, classes: Sequence[str]
) -> dict[str, Any]:
    """Describes suspect labels, confused pairs and the mean confidence, in plain values."""
    probabilities = softmax(held_out.logits, temperature)
    suspects = find_suspects(held_out, probabilities, classes)
    pairs = confused_pairs(held_out, classes)
    return {
        "suspects": [vars(suspect) for suspect in suspects],
        "confused": [{**vars(pair), "classes": list(pair.classes)} for pair in pairs],
        "mean_confidence": float(probabilities.max(1).mean()),
        "untested_classes": [
            name for c, name in enumerate(classes) if c not in set(held_out.labels.tolist())
        ],
    }


def find_suspects(
    held_out: HeldOutLogits, probabilities: NDArray[np.float64], classes: Sequence[str]
) -> list[SuspectLabel]:
    """Finds clips that a model which has not seen them is sure to be of another class.

    A label is suspect where the calibrated probability of another class is at least 0.9: of 100
    such clips with right labels the model would be wrong about at most 10. Source: Northcutt, Jiang
    and Chuang, "Confident Learning", JAIR 2021, https://arxiv.org/abs/1911.00068, whose threshold
    is the mean confidence of the class instead. The probabilities are calibrated, (R, C). The
    surest come first.
    """
    predicted, sureness = probabilities.argmax(1), probabilities.max(1)
    suspects = [
        SuspectLabel(name, classes[label], classes[guess], float(probability))
        for name, label, guess, probability in zip(
            held_out.names, held_out.labels, predicted, sureness, strict=True
        )
        if guess != label and probability >= _SUSPECT_PROBABILITY
    ]
    return sorted(suspects, key=lambda suspect: -suspect.probability)


def confused_pairs(held_out: HeldOutLogits, classes: Sequence[str]) -> list[ConfusedPair]:
    """Finds pairs of classes of which at least two clips were taken for the other, most first."""
    n = len(classes)
    counts = np.zeros((n, n), dtype=int)
    np.add.at(counts, (held_out.labels, held_out.logits.argmax(1)), 1)
    totals = counts.sum(1)
    pairs = [
        ConfusedPair(
            (classes[a], classes[b]), int(counts[a, b] + counts[b, a]), int(totals[a] + totals[b])
        )
        for a in range(n)
        for b in range(a + 1, n)
        if counts[a, b] + counts[b, a] >= _MIN_CONFUSED
    ]
    return sorted(pairs, key=lambda pair: -pair.confused / pair.clips)
