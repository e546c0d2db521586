"""What is written down of an episode."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fewshot_i2v.data.episodes.episode import EpisodeSpec
from fewshot_i2v.errors import VideoUnreadable
from fewshot_i2v.runs.episode_record import EpisodeRecord


def record_of(
    spec: EpisodeSpec, scores: Tensor, losses: list[float], seconds: float, memory: float
) -> EpisodeRecord:
    """The record of an episode that was predicted.

    Args:
        spec: the episode.
        scores: probabilities, (queries, way), on the CPU.
        losses: of each step.
        seconds: of tuning and prediction.
        memory: peak, in MiB.
    """
    labels = [c for c, clips in enumerate(spec.query) for _ in clips]
    predictions = scores.argmax(-1).tolist()
    right = sum(p == label for p, label in zip(predictions, labels, strict=True))
    return EpisodeRecord(
        **_names(spec),
        status="ok",
        labels=labels,
        predictions=predictions,
        probabilities=scores.tolist(),
        accuracy=right / len(labels),
        losses=losses,
        seconds=seconds,
        peak_memory_mb=memory,
        error=None,
    )


def failed_record(spec: EpisodeSpec, error: VideoUnreadable) -> EpisodeRecord:
    """The record of an episode whose clip cannot be read."""
    return EpisodeRecord(
        **_names(spec),
        status="failed",
        labels=[c for c, clips in enumerate(spec.query) for _ in clips],
        predictions=[],
        probabilities=[],
        accuracy=None,
        losses=[],
        seconds=0.0,
        peak_memory_mb=0.0,
        error={"path": error.path, "reason": error.reason},
    )


def _names(spec: EpisodeSpec) -> dict[str, Any]:
    return {
        "index": spec.index,
        "classes": list(spec.classes),
        "support": [list(clips) for clips in spec.support],
        "query": [list(clips) for clips in spec.query],
    }
