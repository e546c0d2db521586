"""Folds of a fit in several processes: what is fine-tuned is predicted by workers."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.data.splits.builder.labelled_clips import LabelledClips
from fewshot_i2v.errors import EngineError
from fewshot_i2v.evaluation.engines.jobs import BatchJob, JobWorker, Outcome, run_jobs
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
        return Outcome(job, seconds=perf_counter() - start, logits=predict_batch(runner, episodes))

    def _open(self, job: BatchJob) -> tuple[RowRunner, list[Episode]]:
        if self._prepared is None:
            self._prepared = prepare_fit(self._spec.labelled, **self._spec.settings)
        fit_job, rows = self._prepared
        # folds have fewer clips of a class than the episodes that leave classes out
        is_fold = job.pending[0] < len(fit_job.folds)
        shot = fit_job.fold_shot if is_fold else fit_job.shot
        if (job.row, shot) not in self._runners:
            runner = fit_job.runner(rows[job.row], shot, job.row)
            self._runners = {(job.row, shot): runner}
            fit_job.context.release_caches(retain=runner.cache_keys)
            fit_job.decode(runner)
        episodes = fit_job.context.episodes[fit_job.shot]
        return self._runners[job.row, shot], [episodes[i] for i in job.pending]

    def draw(self, episodes: int) -> None:
        """Does nothing: the episodes of a fit are those of its clips."""

    def close(self) -> None:
        """Does nothing: it has no files."""


class PredictedBatches(NamedTuple):
    """The logits of each batch of a method, and the seconds that they took."""

    logits: list[Logits]
    seconds: float


def predict_batches(
    job: FitJob,
    work: Sequence[BatchesOfRunner],
    advance: Advance,
    *,
    retain: Sequence[Hashable] = (),
) -> list[PredictedBatches]:
    """Predicts batches of several methods, in the worker processes of the fit if it has some.

    Frozen features are compared here: they are computed once for all methods, and quickly.

    Args:
        job: the fit.
        work: methods with their batches.
        advance: of a progress bar.
        retain: keys of feature caches that later methods read.

    Raises:
        EngineError: when the workers of three attempts end with the same batch.
        FewshotError: of a worker.
    """
    seconds = [0.0] * len(work)
    logits: list[list[Logits]] = [[() for _ in batches] for _, batches in work]
    jobs: dict[BatchJob, tuple[int, int]] = {}
    for position, (runner, batches) in enumerate(work):
        if job.pool is not None and not runner.is_static:
            job.decode(runner)  # once, before all workers need it
            for number, batch in enumerate(batches):
                indices = tuple(episode.index for episode in batch)
                jobs[BatchJob(runner.position, number, indices)] = position, number
            continue
        start = perf_counter()
        job.decode(runner)
        for number, batch in enumerate(batches):
            logits[position][number] = predict_batch(runner, batch)
            advance(len(batch))
        if retain:
            job.context.release_caches(retain=retain)
        seconds[position] = perf_counter() - start
    for outcome in run_jobs(job.pool, list(jobs)) if job.pool is not None else ():
        position, number = jobs[outcome.job]
        if outcome.death is not None:
            raise EngineError(
                f"{work[position][0].row.slug}: a worker {outcome.death}, and so did those of two "
                "other attempts; run the command without --processes to see the reason"
            )
        logits[position][number] = outcome.logits
        seconds[position] += outcome.seconds
        advance(len(outcome.job.pending))
    return [PredictedBatches(*pair) for pair in zip(logits, seconds, strict=True)]
