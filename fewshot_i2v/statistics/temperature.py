"""The temperature that calibrates probabilities, from the logits of held-out clips."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fewshot_i2v.errors import UsageError

_LOG_RANGE = (-7.0, 7.0)


def softmax(logits: ArrayLike, temperature: float = 1.0) -> NDArray[np.float64]:
    """Computes probabilities over the last axis, float64."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    powers = np.exp(scaled - scaled.max(-1, keepdims=True))
    probabilities: NDArray[np.float64] = powers / powers.sum(-1, keepdims=True)
    return probabilities


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """Finds the temperature by which logits are divided so that probabilities are calibrated.

    It minimises the log loss of held-out clips (Guo et al., "On Calibration of Modern Neural
    Networks", ICML 2017, https://arxiv.org/abs/1706.04599). Where all clips are right, no finite
    temperature does: the targets are therefore (n + 1) / (n + 2) for the class, as Platt
    ("Probabilistic Outputs for Support Vector Machines", 1999) has them, and the remainder is
    shared by the others.

    Args:
        logits: of R held-out clips, (R, C); C at least 2.
        labels: class of each, (R,).

    Returns:
        Above 0.

    Raises:
        UsageError: when there is no clip, or one class alone.
    """
    values, classes = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    if values.ndim != 2 or not len(values) or values.shape[1] < 2:
        raise UsageError(
            f"temperature: got logits of shape {values.shape}; expected those of clips, and of two "
            "or more classes"
        )
    from scipy.optimize import minimize_scalar

    n, n_classes = values.shape
    targets = np.full(values.shape, 1 / (n + 2) / (n_classes - 1))
    targets[np.arange(n), classes] = (n + 1) / (n + 2)

    def _log_loss(log_temperature: float) -> float:
        probabilities = softmax(values, float(np.exp(log_temperature)))
        return float(-(targets * np.log(np.maximum(probabilities, 1e-300))).sum() / n)

    result = minimize_scalar(_log_loss, bounds=_LOG_RANGE, method="bounded")
    return float(np.exp(result.x))
