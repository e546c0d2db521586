"""The main process of an evaluation in several processes: it prepares, hands out, and sums up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from fewshot_i2v.errors import EngineError
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.engines.jobs import BatchJob, Outcome, WorkerPool, run_jobs
from fewshot_i2v.evaluation.row_execution import (
    ALL_EPISODES,
    RowExecution,
    accuracy_note,
)
from fewshot_i2v.evaluation.row_runner import RowRunner
from fewshot_i2v.runs.row_summary import RowSummary
from fewshot_i2v.runs.run_folder import RunFolder, wait_for_run
from fewshot_i2v.utils.patience import WAIT_SECONDS, Patience
from fewshot_i2v.utils.progress import OverallProgress
from fewshot_i2v.utils.text_table import count_text


@dataclass(eq=False)
class EngineRun:
    """Runs the rows of an evaluation on a pool of workers.

    Clips are decoded here, once, into the cache that all workers read. What is done stands in the
    record files of the workers: this process holds no results, and may end at any time.

    Attributes:
        context: of the evaluation.
        runners: of its rows.
        pool: the workers; they may still be starting.
    """

    context: EvaluationContext
    runners: Sequence[RowRunner]
    pool: WorkerPool
    _drawn: int | None = None
    _begun: list[Path] = field(default_factory=list)
    _accuracies: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))

    def run_rows(self, progress: OverallProgress, *, retry_failed: bool) -> list[RowSummary]:
        """Runs the missing episodes of all rows.

        Raises:
            TooManyFailuresError: when more episodes of a row fail than it allows.
            EngineError: when episodes were run and have no record.
            FewshotError: see `fewshot_i2v.errors`; finished episodes are on disk by then.
        """
        jobs = [
            job
            for runner in self.runners
            for job in self._prepare(runner, progress, retry_failed=retry_failed)
        ]
        if jobs:
            self._run(jobs, progress)
        summaries = []
        for runner in self.runners:
            with self._opened(runner) as execution:
                execution.check_failures()  # workers count their own
                _check_recorded(execution)
                summaries.append(execution.summarise())
        return summaries

    @contextmanager
    def _opened(self, runner: RowRunner, *, retry_failed: bool = False) -> Iterator[RowExecution]:
        facts, identity = runner.header()
        path, patience = self.context.config.output_folder / runner.row.slug, Patience(WAIT_SECONDS)
        if self._begun:  # else a row would be written where their disk belongs
            wait_for_run(path if path in self._begun else self._begun[0], patience)
        with RunFolder.open(path, facts, identity=identity, patience=patience) as folder:
            self._begun.append(path)
            yield RowExecution.plan(runner, folder, ALL_EPISODES, retry_failed=retry_failed)

    def _prepare(
        self, runner: RowRunner, progress: OverallProgress, *, retry_failed: bool
    ) -> list[BatchJob]:
        """Decodes the clips of a row, records what cannot run, and returns what remains."""
        with self._opened(runner, retry_failed=retry_failed) as execution:
            execution.prepare(progress)
            share = 1 - len(execution.pending) / len(runner.episodes)
            progress.advance(share, None, position=runner.position)
            pending = groupby(sorted(execution.pending), lambda i: i // runner.parallel_episodes)
            return [BatchJob(runner.position, batch, tuple(group)) for batch, group in pending]

    def _run(self, jobs: Sequence[BatchJob], progress: OverallProgress) -> None:
        pool = self.pool
        self._draw()
        # a batch that ends its workers may do so because of one episode: find it
        again = []
        for outcome in run_jobs(pool, jobs):
            if outcome.death is None:
                self._count(outcome, pool, progress)
            elif len(outcome.job.pending) == 1:
                self._record_death(outcome)
            else:
                job = outcome.job
                again += [BatchJob(job.row, job.batch, (i,), alone=True) for i in job.pending]
        for outcome in run_jobs(pool, again):
            if outcome.death is None:
                self._count(outcome, pool, progress)
            else:
                self._record_death(outcome)

    def _draw(self) -> None:
        """Gives the workers the episodes of this process, which grow in a run with `until`."""
        if self.context.config.until is not None:
            episodes = max(map(len, self.context.episodes.values()))
            if episodes != self._drawn:
                self.pool.draw(episodes)
                self._drawn = episodes

    def _count(self, outcome: Outcome, pool: WorkerPool, progress: OverallProgress) -> None:
        row, total = outcome.job.row, len(self.runners[outcome.job.row].episodes)
        self._accuracies[row] += outcome.accuracies
        self.runners[row].heard_from_worker(outcome.notes)
        progress.advance(
            len(outcome.job.pending) / total,
            outcome.seconds / pool.size,
            accuracy_note(self._accuracies[row]),
            position=row,
        )

    def _record_death(self, outcome: Outcome) -> None:
        """Records an episode that ended its workers as failed."""
        runner = self.runners[outcome.job.row]
        with self._opened(runner, retry_failed=True) as execution:
            (index,) = outcome.job.pending
            episode = next(e for e in runner.episodes if e.index == index)
            reason = f"its worker {outcome.death}, and so did those of two other attempts"
            if index in execution.pending:
                execution.record_failed([(episode, str(execution.folder.path), reason)])
            execution.pending.clear()
            execution.check_failures()


def _check_recorded(execution: RowExecution) -> None:
    """Raises EngineError when workers are done, and episodes of theirs have no record."""
    if execution.pending:
        raise EngineError(
            f"{execution.folder.path}: {count_text(len(execution.pending), 'episode')} were run "
            "and have no record: its disk may have been away, or files were removed. Look at the "
            "folder, and run the same command again"
        )
