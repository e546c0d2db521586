"""A race of methods: those that cannot be chosen any more do not predict the remaining clips.

Methods without fine-tuning take seconds and predict all held-out clips first. A tuned one takes
minutes for each part of them. It stops where it would not be ahead of the best of the others even
if all of its remaining clips were right: the choice is then the same as without a race.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.evaluation.fitting.candidates import (
    Candidate,
    candidates_to_finish,
    choose_candidate,
)
from fewshot_i2v.evaluation.fitting.forecast import estimate_methods, forecast_line
from fewshot_i2v.evaluation.fitting.held_out import Logits, batches_of, join_batches
from fewshot_i2v.evaluation.fitting.job import FitJob
from fewshot_i2v.evaluation.fitting.workers import IsEnough, PredictedBatches, predict_batches
from fewshot_i2v.evaluation.row_runner import RowRunner
from fewshot_i2v.statistics.method_choice import cannot_be_best
from fewshot_i2v.statistics.shares import Share, share_of
from fewshot_i2v.utils.progress import show_notes


class Race:
    """Methods that predict the held-out clips of a fit.

    Args:
        job: clips and folds.
        runners: the methods, in order.
        stops: whether a fine-tuned method stops where it cannot be chosen any more.
        rejects: whether "none of these" will be measured, for the forecast of the time.
    """

    def __init__(
        self, job: FitJob, runners: Sequence[RowRunner], *, stops: bool, rejects: bool = False
    ) -> None:
        self._job, self._stops, self._rejects = job, stops, rejects
        self._runners = {runner.position: runner for runner in runners}
        self._batches = {runner.position: batches_of(runner, job.folds) for runner in runners}
        self._predicted: dict[int, PredictedBatches] = {}

    def run(
        self, static_keys: Sequence[Hashable]
    ) -> tuple[list[Candidate], tuple[Candidate, Share | None]]:
        """Predicts the held-out clips, and chooses a method.

        Args:
            static_keys: keys of feature caches that methods without fine-tuning share.

        Returns:
            The methods in order, and the result of `choose_candidate`.
        """
        positions = list(self._runners)
        tuned = [p for p in positions if self._runners[p].is_tuned]
        simple = [p for p in positions if p not in tuned]
        self._predict(simple, "held-out clips", retain=static_keys)
        right = [sum(_count_right(*part) for part in self._parts(p)) for p in simple]
        if tuned and self._job.progress:
            self._show_forecast([self._runners[p] for p in tuned])
        self._predict(tuned, "fine-tune", right=max(right) if right and self._stops else None)
        while True:
            candidates = [self._candidate(position) for position in positions]
            seed = self._job.config.seed
            choice = choose_candidate(candidates, self._job.clips.groups, seed=seed)
            unfinished = candidates_to_finish(candidates, choice[0])
            if not unfinished:
                return candidates, choice
            self._predict([candidate.position for candidate in unfinished], "fine-tune")

    def _show_forecast(self, tuned: Sequence[RowRunner]) -> None:
        methods = estimate_methods(self._job, tuned, rejects=self._rejects)
        show_notes(self._job.progress, [forecast_line(methods, stops=self._stops)])

    def _predict(
        self,
        positions: Sequence[int],
        label: str,
        *,
        retain: Sequence[Hashable] = (),
        right: int | None = None,
    ) -> None:
        """Predicts what is missing of some methods.

        Args:
            positions: of the methods.
            label: of the progress bar.
            retain: keys of feature caches that are not released.
            right: clips that the best simpler method has right; None: no method stops.
        """
        earlier = {p: self._predicted.get(p, PredictedBatches([], 0.0)) for p in positions}
        work = [(self._runners[p], self._batches[p][len(earlier[p].logits) :]) for p in positions]
        episodes = sum(len(batch) for _, batches in work for batch in batches)
        is_enough: IsEnough = lambda _position, _logits: False  # noqa: E731 - typed by its name
        if right is not None:
            is_enough = _StopRule([batches for _, batches in work], right)
        with self._job.bar(episodes, label, "folds") as progress_bar:
            predicted = predict_batches(
                self._job, work, progress_bar.update, retain=retain, is_enough=is_enough
            )
        for position, (logits, seconds) in zip(positions, predicted, strict=True):
            before = earlier[position]
            joined = PredictedBatches([*before.logits, *logits], before.seconds + seconds)
            self._predicted[position] = joined

    def _parts(self, position: int) -> list[tuple[Sequence[Episode], Logits]]:
        """The predicted batches of a method, with their logits."""
        return list(zip(self._batches[position], self._predicted[position].logits, strict=False))

    def _candidate(self, position: int) -> Candidate:
        runner, predicted = self._runners[position], self._predicted[position]
        batches, groups = self._batches[position], self._job.clips.groups
        held_out = join_batches(batches[: len(predicted.logits)], predicted.logits)
        accuracy = share_of(held_out.correct, [groups[name] for name in held_out.names])
        return Candidate(
            runner.row,
            runner.parameters,
            held_out,
            accuracy,
            predicted.seconds,
            position,
            is_stopped=len(predicted.logits) < len(batches),
        )


class _StopRule:
    """Says which methods cannot be ahead of the best simpler one any more."""

    def __init__(self, batches: Sequence[Sequence[Sequence[Episode]]], right: int) -> None:
        self._batches, self._right = batches, right

    def __call__(self, position: int, logits: Sequence[Logits]) -> bool:
        """Whether a method may stop after its first batches."""
        batches = self._batches[position]
        right = sum(map(_count_right, batches, logits))
        remaining = sum(
            len(episode.query_clips) for batch in batches[len(logits) :] for episode in batch
        )
        return cannot_be_best(right, remaining, self._right)


def _count_right(batch: Sequence[Episode], logits: Logits) -> int:
    """Clips of a batch that are classified right."""
    return int(join_batches([batch], [logits]).correct.sum())
