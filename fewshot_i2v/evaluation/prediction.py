"""The prediction of a clip."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fewshot_i2v.errors import UsageError

NONE_OF_THESE = "none of these"
"""Why a clip that was read has no class."""


@dataclass(frozen=True)
class Prediction:
    """The predicted class of a clip.

    Attributes:
        path: of the clip.
        class_name: the most probable class; None where it is of none of them, or cannot be read.
        probabilities: of each class, by name; they add up to 1. Empty where it cannot be read.
        nearest: the most probable class also where the clip is of none of them.
        error: why it cannot be read, or None.
    """

    path: Path
    class_name: str | None
    probabilities: dict[str, float]
    nearest: str | None = None
    error: str | None = None

    @property
    def probability(self) -> float | None:
        """Probability of the most probable class; None where the clip cannot be read."""
        return max(self.probabilities.values(), default=None)

    def to_dict(self, top: int | None = None) -> dict[str, Any]:
        """Returns plain types, for JSON.

        Args:
            top: number of classes to list, the most probable first; None: all in their order.
        """
        if self.error is not None:
            return {"path": str(self.path), "error": self.error}
        ranked = sorted(self.probabilities.items(), key=lambda item: -item[1])
        shown = self.probabilities.items() if top is None else ranked[:top]
        plain: dict[str, Any] = {
            "path": str(self.path),
            "class": self.class_name,
            "probability": self.probability,
        }
        if self.class_name is None:
            plain |= {"reason": NONE_OF_THESE, "nearest": self.nearest}
        return plain | {"probabilities": dict(shown)}


class Predictions(list[Prediction]):
    """Predictions of clips, in order; as an array the names of their classes.

    In the array a clip of none of the classes has the name "none of these".
    """

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Returns the names, (R,), as functions of numpy and scikit-learn read them."""
        names = [NONE_OF_THESE if p.class_name is None else p.class_name for p in self]
        return np.array(names, dtype=np.str_ if dtype is None else dtype)


def rejection_scores(
    kind: str,
    logits: NDArray[np.float64],
    probabilities: NDArray[np.float64],
    nearest: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """Computes the score by which clips are of none of the classes, (R,).

    Args:
        kind: "probability" of the most probable class, calibrated; its raw "logit"; or "nearest",
            the similarity to the nearest labelled clip.
        logits: (R, C).
        probabilities: likewise.
        nearest: similarity to the nearest labelled clip of each class, likewise; None: it is not
            needed.

    Raises:
        UsageError: for another kind.
    """
    by_kind = {"probability": probabilities, "logit": logits, "nearest": nearest}
    values = by_kind.get(kind)
    if values is None:
        raise UsageError(
            f"none of these: got the score {kind!r}; expected one of {', '.join(by_kind)}"
        )
    scores: NDArray[np.float64] = values.max(1)
    return scores
