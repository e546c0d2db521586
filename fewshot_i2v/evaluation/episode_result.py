"""Records of episodes from what was predicted."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.runs.episode_record import EpisodeRecord, accuracy_of


def record_of(
    episode: Episode, probabilities: Tensor, losses: list[float], seconds: float, memory: float
) -> EpisodeRecord:
    """Makes the record of an episode from its probabilities, (queries, way), on the CPU."""
    fields = episode_fields(episode)
    predictions = probabilities.argmax(-1).tolist()
    return EpisodeRecord(
        **fields,
        status="ok",
        predictions=predictions,
        probabilities=probabilities.tolist(),
        accuracy=accuracy_of(predictions, fields["labels"]),
        losses=losses,
        seconds=seconds,
        peak_memory_mb=memory,
    )


def episode_fields(episode: Episode) -> dict[str, Any]:
    """Returns the fields of a record that the episode alone decides."""
    labels = [c for c, clips in enumerate(episode.query) for _ in clips]
    return {**episode.to_dict(), "labels": labels}
