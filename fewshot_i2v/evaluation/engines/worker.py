"""A worker: loads an evaluation once, and runs jobs of it into record files of its own."""

from __future__ import annotations

import contextlib
import traceback
from time import perf_counter
from typing import TYPE_CHECKING

from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.errors import DeviceMemoryError, FewshotError
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.engines.jobs import BatchJob, JobWorker, Outcome, portable_error
from fewshot_i2v.evaluation.evaluate import build_row_runners
from fewshot_i2v.evaluation.row_execution import ALL_EPISODES, RowExecution, clip_names
from fewshot_i2v.runs.header import check_clip_digests
from fewshot_i2v.runs.run_folder import RunFolder, wait_for_run
from fewshot_i2v.runs.shards import Shard
from fewshot_i2v.utils.environment import reset_peak_memory
from fewshot_i2v.utils.patience import WAIT_SECONDS, Patience

if TYPE_CHECKING:
    from fewshot_i2v.evaluation.row_runner import RowRunner


def run_job(worker: JobWorker, job: BatchJob) -> Outcome | FewshotError:
    """Runs a job; an outcome with a death says that the process of the worker has to end.

    That is so where its device may be unusable from then on: after an error of a kernel it is, and
    where a single episode did not fit its memory, another device may have more.
    """
    try:
        return worker.run(job)
    except DeviceMemoryError as error:
        return Outcome(job, death="ran out of device memory", error=portable_error(error))
    except FewshotError as error:
        return portable_error(error)
    except RuntimeError as error:
        traceback.print_exc()
        reason = (str(error).strip() or "no reason").splitlines()[0]
        return Outcome(job, death=f"ended ({type(error).__name__}: {reason})")


class Worker:
    """Runs jobs of an evaluation.

    Args:
        config: of the evaluation.
        shard: names its record files.
        episodes: number of episodes of each shot; None: as the configuration says.
    """

    def __init__(self, config: EvaluationConfig, shard: Shard, episodes: int | None) -> None:
        self.config, self.shard = config, shard
        self.context = EvaluationContext.of(config)
        self.context.disk.wait_when_away(has_clips=True)
        if episodes is not None:
            self.draw(episodes)
        self._runners: list[RowRunner] = build_row_runners(self.context)
        self._resources = contextlib.ExitStack()
        self._execution: RowExecution | None = None

    def draw(self, episodes: int) -> None:
        """Makes the first `episodes` episodes of each shot those of the evaluation."""
        self.context.draw(episodes)

    def run(self, job: BatchJob) -> Outcome:
        """Runs a job and records its missing episodes, those with an unreadable clip as failed.

        Raises:
            FewshotError: see `fewshot_i2v.errors`.
        """
        start = perf_counter()
        execution = self._open(self._runners[job.row])
        execution.pending = set(job.pending)
        if job.is_retried:
            execution.folder.read_again()
            recorded = execution.folder.records
            execution.pending -= {i for i in job.pending if i in recorded} - recorded.failed
            if not execution.pending:
                return Outcome(job)
        episodes = execution.episodes_of({job.batch})
        if job.alone:
            episodes = [e for e in episodes if e.index in execution.pending]
        runner = execution.runner
        # they are in the cache: the main process has decoded what nobody has encoded
        context, spec = self.context, runner.sizes.prefix_spec
        cached = context.find_prefixes(clip_names(episodes), spec)
        context.decode_episodes(episodes, runner.row.tuning, progress=False, cached=cached)
        # the clips are those that the main process looked at, and stay so while they are read
        digests = context.content_digests(clip_names(episodes))
        header = execution.folder.header
        check_clip_digests(execution.folder.path / "run.json", header.get("clips", {}), digests)
        records = execution.run_episodes(episodes)
        accuracies = tuple(r.accuracy for r in records if r.accuracy is not None)
        notes = tuple(runner.memory_notes)
        return Outcome(job, accuracies, perf_counter() - start, notes=notes)

    def _open(self, runner: RowRunner) -> RowExecution:
        """Opens the folder of a row; that of the row before is closed, and its caches are freed."""
        if self._execution is not None and self._execution.runner is runner:
            return self._execution
        self.close()
        later = self._runners[runner.position :]
        self.context.caches.release(retain=[key for row in later for key in row.cache_keys])
        reset_peak_memory(self.context.encoder.tower.device)
        path = self.config.output_folder / runner.row.slug
        # the main process has made it, and written the facts
        wait_for_run(path, Patience(WAIT_SECONDS))
        facts = {"planned": len(runner.episodes)}
        identity = runner.identity()
        folder = RunFolder.open(path, facts, identity=identity, shard=self.shard)
        self._resources.callback(folder.close)
        folder.record_clips({})
        self._execution = RowExecution.plan(runner, folder, ALL_EPISODES, retry_failed=False)
        return self._execution

    def close(self) -> None:
        """Closes its record files."""
        self._execution = None
        self._resources.close()
