"""Cross-validation of a method within labelled clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.evaluation.batching import group_by_shape
from fewshot_i2v.evaluation.row_runner import RowRunner

Logits = tuple[NDArray[np.float64], ...]
"""Of the query clips of each episode of a batch, (Q, C)."""
Advance = Callable[[int], object]
"""Called with the number of episodes that were finished since the last call."""


@dataclass(frozen=True, eq=False)
class HeldOutLogits:
    """Logits of clips by models that have not seen them.

    Attributes:
        names: of the clips, (R,).
        labels: class of each, (R,) int64; -1 where its class was left out.
        logits: (R, C) float64.
    """

    names: tuple[str, ...]
    labels: NDArray[np.int64]
    logits: NDArray[np.float64]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each clip is classified right, (R,)."""
        correct: NDArray[np.bool_] = self.logits.argmax(1) == self.labels
        return correct


def batches_of(runner: RowRunner, episodes: Sequence[Episode]) -> list[Sequence[Episode]]:
    """Divides episodes into batches that are tuned side by side, each of one shape."""
    size = runner.parallel_episodes
    return [
        group[first : first + size]
        for group in group_by_shape(episodes)
        for first in range(0, len(group), size)
    ]


def predict_batch(runner: RowRunner, batch: Sequence[Episode]) -> Logits:
    """Tunes and predicts a batch; returns the logits of the query clips of each episode, (Q, C)."""
    parts = runner.run_in_parts(len(batch), lambda part: runner.run_group(batch[part]).logits)
    return tuple(logits for part in parts for logits in part.double().numpy())


def join_batches(
    batches: Sequence[Sequence[Episode]], logits: Sequence[Logits], *, known: bool = True
) -> HeldOutLogits:
    """Joins what was predicted of batches.

    Args:
        batches: of folds, in any order.
        logits: of the query clips of each of their episodes.
        known: whether the classes of the query clips are among those of the episodes.
    """
    names: list[str] = []
    labels: list[int] = []
    rows: list[NDArray[np.float64]] = []
    for batch, values in zip(batches, logits, strict=True):
        for episode, episode_logits in zip(batch, values, strict=True):
            names += episode.query_clips
            labels += [c if known else -1 for c, clips in enumerate(episode.query) for _ in clips]
            rows.append(episode_logits)
    order = np.argsort(np.array(names), kind="stable")  # batches come by shape
    return HeldOutLogits(
        tuple(names[i] for i in order), np.array(labels)[order], np.concatenate(rows)[order]
    )
