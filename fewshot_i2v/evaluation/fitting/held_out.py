"""Cross-validation of a method within labelled clips."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.evaluation.batching import group_by_shape
from fewshot_i2v.evaluation.row_runner import RowRunner, TunedGroup

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


def run_episodes(
    runner: RowRunner, episodes: Sequence[Episode], advance: Advance
) -> Iterator[tuple[Sequence[Episode], TunedGroup]]:
    """Tunes and predicts episodes, those of one shape side by side."""
    size = runner.parallel_episodes
    for group in group_by_shape(episodes):
        for first in range(0, len(group), size):
            batch = group[first : first + size]
            yield batch, runner.run_group(batch)
            advance(len(batch))


def predict_held_out(
    runner: RowRunner, episodes: Sequence[Episode], advance: Advance, *, known: bool = True
) -> HeldOutLogits:
    """Predicts the query clips of folds.

    `known`: whether the classes of the query clips are among those of the episodes.
    """
    names: list[str] = []
    labels: list[int] = []
    rows: list[NDArray[np.float64]] = []
    for batch, tuned in run_episodes(runner, episodes, advance):
        for episode, logits in zip(batch, tuned.logits.double().numpy(), strict=True):
            names += episode.query_clips
            labels += [c if known else -1 for c, clips in enumerate(episode.query) for _ in clips]
            rows.append(logits)
    order = np.argsort(np.array(names), kind="stable")  # batches come by shape
    return HeldOutLogits(
        tuple(names[i] for i in order), np.array(labels)[order], np.concatenate(rows)[order]
    )
