"""Conversion of predictions and errors into episode records."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.errors import VideoUnreadable
from fewshot_i2v.runs.episode_record import EpisodeRecord


def successful_record(
    episode: Episode, probabilities: Tensor, losses: list[float], seconds: float, peak_memory: float
) -> EpisodeRecord:
    """Makes the record of an episode that was predicted.

    Args:
        episode: the predicted episode.
        probabilities: (queries, way), on the CPU.
        losses: of each step.
        seconds: of tuning and prediction.
        peak_memory: in MiB.
    """
    labels = [c for c, clips in enumerate(episode.query) for _ in clips]
    predictions = probabilities.argmax(-1).tolist()
    correct = sum(p == label for p, label in zip(predictions, labels, strict=True))
    return EpisodeRecord(
        **_episode_fields(episode),
        status="ok",
        labels=labels,
        predictions=predictions,
        probabilities=probabilities.tolist(),
        accuracy=correct / len(labels),
        losses=losses,
        seconds=seconds,
        peak_memory_mb=peak_memory,
        error=None,
    )


def failed_record(episode: Episode, error: VideoUnreadable) -> EpisodeRecord:
    """Makes the record of an episode with a clip that cannot be read."""
    return EpisodeRecord(
        **_episode_fields(episode),
        status="failed",
        labels=[c for c, clips in enumerate(episode.query) for _ in clips],
        predictions=[],
        probabilities=[],
        accuracy=None,
        losses=[],
        seconds=0.0,
        peak_memory_mb=0.0,
        error={"path": error.path, "reason": error.reason},
    )


def _episode_fields(episode: Episode) -> dict[str, Any]:
    return {
        "index": episode.index,
        "classes": list(episode.classes),
        "support": [list(clips) for clips in episode.support],
        "query": [list(clips) for clips in episode.query],
    }
