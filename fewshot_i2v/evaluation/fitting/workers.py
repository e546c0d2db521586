"""Folds of a fit in several processes: what is fine-tuned is predicted by workers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.data.splits.builder.labelled_clips import LabelledClips
from fewshot_i2v.errors import EngineError
from fewshot_i2v.evaluation.engines.jobs import (
    BatchJob,
    JobWorker,
    Outcome,
    WorkerPool,
    run_jobs,
)
from fewshot_i2v.evaluation.fitting.held_out import Advance, Logits, predict_batch
from fewshot_i2v.evaluation.fitting.job import FitJob
from fewshot_i2v.evaluation.fitting.preparation import prepare_fit
from fewshot_i2v.evaluation.row_runner import RowRunner
from fewshot_i2v.runs.shards import Shard

if TYPE_CHECKING:
    from fewshot_i2v.config.evaluation import RowConfig

BatchesOfRunner = tuple[RowRunner, Sequence[Sequence[Episode]]]
"""A method, and batches of episodes that it is to predict."""


@dataclass(frozen=True)
class FitWorkers:
    """Workers of a fit; see `engines.jobs.WorkerSpec`.

    Attributes:
        labelled: the clips.
        settings: of the fit, as for `prepare_fit`.
    """

    labelled: LabelledClips
    settings: Mapping[str, Any]

    def on_device(self, device: str) -> FitWorkers:
        """Returns the same for another device."""
        return replace(self, settings={**self.settings, "device": device})

    def start(self, shard: Shard, episodes: int | None) -> JobWorker:
        """Makes a worker, in its process."""
        del shard, episodes  # it writes no files
        return FoldWorker(self)


class FoldWorker:
    """Predicts batches of episodes of a fit.

    The clips are read at the first job: by then the main process has decoded them.
    """

    def __init__(self, spec: FitWorkers) -> None:
        self._spec = spec
        self._prepared: tuple[FitJob, list[RowConfig]] | None = None
        self._runners: dict[tuple[int, int], RowRunner] = {}

    def run(self, job: BatchJob) -> Outcome:
        """Predicts the episodes of a job; `row` is that of the rows to try."""
        start = perf_counter()
        runner, episodes = self._open(job)
        logits = predict_batch(runner, episodes)
        notes = tuple(runner.memory_notes)
        return Outcome(job, seconds=perf_counter() - start, logits=logits, notes=notes)

    def _open(self, job: BatchJob) -> tuple[RowRunner, list[Episode]]:
        if self._prepared is None:
            self._prepared = prepare_fit(self._spec.labelled, is_shared=True, **self._spec.settings)
        fit_job, rows = self._prepared
        # folds have fewer clips of a class than the episodes that leave classes out
        is_fold = job.pending[0] < len(fit_job.folds)
        shot = fit_job.fold_shot if is_fold else fit_job.shot
        if (job.row, shot) not in self._runners:
            runner = fit_job.runner(rows[job.row], shot, job.row)
            self._runners = {(job.row, shot): runner}
            fit_job.context.caches.release(retain=runner.cache_keys)
            fit_job.decode(runner)
        episodes = fit_job.context.episodes[fit_job.shot]
        return self._runners[job.row, shot], [episodes[i] for i in job.pending]

    def draw(self, episodes: int) -> None:
        """Does nothing: the episodes of a fit are those of its clips."""

    def close(self) -> None:
        """Does nothing: it has no files."""


IsEnough = Callable[[int, Sequence[Logits]], bool]
"""Says, by the position of a method and the logits of its first batches, whether it may stop."""


class PredictedBatches(NamedTuple):
    """The logits of the batches of a method up to where it stopped, and the seconds they took."""

    logits: list[Logits]
    seconds: float


def predict_batches(
    job: FitJob,
    work: Sequence[BatchesOfRunner],
    advance: Advance,
    *,
    retain: Sequence[Hashable] = (),
    is_enough: IsEnough = lambda _position, _logits: False,
) -> list[PredictedBatches]:
    """Predicts batches of several methods, in the worker processes of the fit if it has some.

    Frozen features are compared here: they are computed once for all methods, and quickly. Where a
    method stops depends on its batches in their order alone, not on which worker was first: what
    was predicted beyond is dropped.

    Args:
        job: the fit.
        work: methods with their batches.
        advance: of a progress bar.
        retain: keys of feature caches that later methods read.
        is_enough: is asked after each batch whether the rest of a method may be left out.

    Raises:
        EngineError: when the workers of three attempts end with the same batch.
        FewshotError: of a worker.
    """
    runs = [_MethodRun(position, *item, is_enough) for position, item in enumerate(work)]
    in_workers: list[_MethodRun] = []
    for run in runs:
        start = perf_counter()
        job.decode(run.runner)  # once, before workers need it
        if job.pool is not None and not run.runner.is_static:
            in_workers.append(run)
            continue
        for number, batch in enumerate(run.batches):
            advance(run.add(number, predict_batch(run.runner, batch)))
            if run.is_over:
                break
        if retain:
            job.context.caches.release(retain=retain)
        run.seconds = perf_counter() - start
    if job.pool is not None and in_workers:
        _predict_in_workers(job.pool, in_workers, advance)
    return [PredictedBatches(run.finished, run.seconds) for run in runs]


class _MethodRun:
    """A method, and what was predicted of its batches.

    Attributes:
        finished: logits of its first batches, in order, up to where it stopped.
        seconds: that its batches took.
        is_over: whether it needs no further batch.
    """

    def __init__(
        self,
        position: int,
        runner: RowRunner,
        batches: Sequence[Sequence[Episode]],
        is_enough: IsEnough,
    ) -> None:
        self.runner, self.batches = runner, batches
        self.finished: list[Logits] = []
        self.seconds = 0.0
        self.is_over = not batches
        self._position, self._is_enough = position, is_enough
        self._ahead: dict[int, Logits] = {}

    def add(self, number: int, logits: Logits) -> int:
        """Adds the logits of a batch; returns for how many episodes more nothing is left to do."""
        if self.is_over:
            return 0
        self._ahead[number] = logits
        episodes = len(self.batches[number])
        while not self.is_over and len(self.finished) in self._ahead:
            self.finished.append(self._ahead.pop(len(self.finished)))
            is_last = len(self.finished) == len(self.batches)
            self.is_over = is_last or self._is_enough(self._position, self.finished)
        if self.is_over:
            rest = range(len(self.finished), len(self.batches))
            episodes += sum(len(self.batches[i]) for i in rest if i not in self._ahead)
        return episodes


def _predict_in_workers(pool: WorkerPool, runs: Sequence[_MethodRun], advance: Advance) -> None:
    """Predicts batches in workers, the first of each method first."""
    jobs: dict[BatchJob, tuple[_MethodRun, int]] = {}
    for number in range(max(len(run.batches) for run in runs)):
        for run in runs:
            if number < len(run.batches):
                indices = tuple(episode.index for episode in run.batches[number])
                jobs[BatchJob(run.runner.position, number, indices)] = run, number
    outcomes = run_jobs(pool, list(jobs), is_needed=lambda job: not jobs[job][0].is_over)
    for outcome in outcomes:
        run, number = jobs[outcome.job]
        if run.is_over:
            continue
        if outcome.death is not None:
            raise EngineError(
                f"{run.runner.row.slug}: a worker {outcome.death}, and so did those of two "
                "other attempts; run the command without --processes to see the reason"
            )
        run.runner.heard_from_worker(outcome.notes)
        run.seconds += outcome.seconds
        advance(run.add(number, outcome.logits))
