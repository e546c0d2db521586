"""Work of a row: passes of clips through the encoder, counted from its episodes and its recipe."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.evaluation.row_runner import RowRunner

# A backward pass computes two products where the forward pass computes one.
_STEP_PASSES = 3


@dataclass(frozen=True)
class RowWork:
    """Passes of clips through the encoder that a row takes.

    Attributes:
        episodes: number of episodes.
        first_clips: clips that are encoded once and then kept; without those of an earlier row
            that keeps the same.
        steps: fine-tuning steps of an episode.
        step_clips: clips of a step, each view counted; 0 where nothing is tuned.
        predicted_clips: support and query clips that an adapter encodes for the prediction, once
            tuned and, where these logits count, once before.
    """

    episodes: int
    first_clips: int
    steps: int
    step_clips: int
    predicted_clips: int

    @property
    def passes_per_episode(self) -> int:
        """Forward passes of an episode; a pass forth and back counts as three."""
        return self.steps * self.step_clips * _STEP_PASSES + self.predicted_clips


def count_work(
    runners: Sequence[RowRunner], episodes: Sequence[Episode] | None = None
) -> list[RowWork]:
    """Counts the work of all rows of an evaluation, in order, as if nothing were recorded yet.

    Args:
        runners: of the rows.
        episodes: that each of them runs; None: its own.
    """
    encoded_clips: dict[Hashable, set[str]] = defaultdict(set)
    works = []
    for runner in runners:
        own = runner.episodes if episodes is None else episodes
        clips = {name for episode in own for name in episode.clip_names()}
        encoded = encoded_clips[runner.cache_key]
        first_clips = len(clips - encoded)
        encoded |= clips
        works.append(_count_row(runner, own, first_clips))
    return works


def _count_row(runner: RowRunner, episodes: Sequence[Episode], first_clips: int) -> RowWork:
    tuning = runner.row.tuning
    if runner.is_static:
        return RowWork(len(episodes), first_clips, 0, 0, 0)
    _, n_support, n_query = max(episode.shape for episode in episodes)
    steps = tuning.steps if runner.parameters else 0
    step_clips = tuning.views * min(n_support, tuning.batch or n_support) if steps else 0
    predictions = 2 if runner.tuning.untuned_weight else 1
    predicted_clips = predictions * (n_support + n_query)
    return RowWork(len(episodes), first_clips, steps, step_clips, predicted_clips)
