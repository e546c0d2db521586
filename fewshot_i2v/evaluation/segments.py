"""Segments of a long video: what happens when, from the predictions of overlapping windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fewshot_i2v.data.video.windows import WindowPlan, plan_windows
from fewshot_i2v.evaluation.prediction import Prediction

if TYPE_CHECKING:
    from fewshot_i2v.evaluation.classifier import FewShotClassifier


@dataclass(frozen=True)
class Segment:
    """A part of a video in which one class is predicted.

    Attributes:
        start: seconds from the first frame.
        end: likewise.
        class_name: the class; None: none of them.
        probability: mean probability of the class, or of the nearest one, over its cells.
    """

    start: float
    end: float
    class_name: str | None
    probability: float

    def to_dict(self) -> dict[str, Any]:
        """Returns plain types, for JSON."""
        return {
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "class": self.class_name,
            "probability": self.probability,
        }


def find_segments(
    classifier: FewShotClassifier, path: str | Path, window: float, stride: float
) -> list[Segment]:
    """Finds what happens when in a long video.

    Args:
        classifier: a fitted model, or an export.
        path: a video file.
        window: length in seconds of the clips that are classified; about that of the clips which
            the model was fitted to.
        stride: seconds from one to the next.

    Returns:
        The segments from the first frame to the last, see `merge_windows`.

    Raises:
        VideoUnreadable: if the video cannot be read.
        ConfigError: for impossible lengths.
    """
    plan = plan_windows(Path(path), window, stride, classifier.scorer.limits)
    return merge_windows(list(classifier.scorer.predict_windows(path, plan)), plan)


def merge_windows(predictions: Sequence[Prediction], plan: WindowPlan) -> list[Segment]:
    """Merges the predictions of overlapping windows to segments.

    The video is cut into cells of one stride. Each cell has the class of the surest of the windows
    that cover it: a window that begins with the action is sure, those that cut it are not, and a
    mean over all of them would drown the first. Neighbours of the same class are one segment.

    Args:
        predictions: of the windows, in order.
        plan: where the windows are.

    Returns:
        The segments from the first frame to the last, without gaps.
    """
    if not predictions:
        return []
    classes = list(predictions[0].probabilities)
    probabilities = np.array([list(p.probabilities.values()) for p in predictions])
    is_none = np.array([p.class_name is None for p in predictions])
    segments: list[Segment] = []
    lengths: list[int] = []
    for cell in range(max(1, ceil(plan.duration / plan.stride - 1e-3))):
        middle = (cell + 0.5) * plan.stride
        covering = [
            k
            for k in range(_first_window(middle, plan), min(cell, len(predictions) - 1) + 1)
            if k * plan.stride <= middle
        ] or [len(predictions) - 1]
        surest = max(covering, key=lambda k: float(probabilities[k].max()))
        best = int(probabilities[surest].argmax())
        sureness = float(probabilities[surest, best])
        name = None if is_none[surest] else classes[best]
        end = min((cell + 1) * plan.stride, plan.duration)
        if segments and segments[-1].class_name == name:
            before, n = segments[-1], lengths[-1]
            probability = (before.probability * n + sureness) / (n + 1)
            segments[-1] = Segment(before.start, end, name, probability)
            lengths[-1] += 1
        else:
            segments.append(Segment(cell * plan.stride, end, name, sureness))
            lengths.append(1)
    return segments


def _first_window(time: float, plan: WindowPlan) -> int:
    """Number of the first window that has not ended at a time."""
    return max(0, int((time - plan.window) / plan.stride + 1))
