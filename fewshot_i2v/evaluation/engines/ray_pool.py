"""Workers that are actors of a Ray cluster; Ray is an extra of the package."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.errors import EngineError, FewshotError, UsageError
from fewshot_i2v.evaluation.engines.jobs import MAX_DEATHS, BatchJob, Outcome, portable_error
from fewshot_i2v.runs.shards import Shard

_MAX_FAILED_STARTS = 2
_log = logging.getLogger(__name__)
LOCAL = "local"
"""Address of a cluster of this machine alone, started for the run."""


class _Actor:
    """Runs jobs in a process of the cluster; the class that Ray makes actors of."""

    def __init__(self, config: EvaluationConfig, shard: Shard, threads: int) -> None:
        import torch

        # fewer where OMP_NUM_THREADS says so
        torch.set_num_threads(min(threads, torch.get_num_threads()))
        self._config, self._shard = config, shard
        self._worker: Any = None

    def run(self, job: BatchJob, episodes: int | None) -> Outcome | FewshotError:
        """Runs a job of an evaluation with so many episodes of each shot."""
        from fewshot_i2v.evaluation.engines.worker import Worker, run_job

        try:
            if self._worker is None:
                self._worker = Worker(self._config, self._shard, episodes)
            elif episodes is not None:
                self._worker.draw(episodes)
        except FewshotError as error:
            return portable_error(error)
        return run_job(self._worker, job)


class RayPool:
    """Workers of a Ray cluster; see `jobs.WorkerPool`.

    Every machine of the cluster reads the clips and writes the records by the paths of the
    configuration: the folders are shared by all.

    Args:
        config: of the evaluation.
        count: number of workers; None: one per GPU of the cluster, or per CPU without GPUs.
        address: of the cluster, or `LOCAL`; None: the one that Ray's environment names, or `LOCAL`.

    Raises:
        UsageError: when Ray is not installed, or there is no cluster at the address.
    """

    def __init__(
        self,
        config: EvaluationConfig,
        count: int | None = None,
        *,
        address: str | None = None,
    ) -> None:
        self._ray = _import_ray()
        self._is_started = not self._ray.is_initialized()
        if self._is_started:
            try:
                self._ray.init(address=address, log_to_driver=False, configure_logging=False)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise UsageError(
                    f"ray: no cluster at {address!r}: {error}; expected the address of a running "
                    f"one, such as auto, or {LOCAL}"
                ) from error
        resources = self._ray.cluster_resources()
        gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
        self._has_gpus = gpus > 0 and config.device != "cpu"
        self._count = count or (gpus if self._has_gpus else cpus)
        self._threads = 1 if self._has_gpus else max(1, cpus // self._count)
        self._config = config.model_copy(update={"workers": 1})
        self._episodes: int | None = None  # as the configuration says
        self._failed_starts = 0
        self._actors = {number: self._start(number) for number in range(self._count)}
        self._deaths: Counter[int] = Counter()  # of each worker in a row
        self._running: dict[Any, tuple[int, BatchJob]] = {}
        self._ready: set[int] = set()

    @property
    def size(self) -> int:
        """Number of workers."""
        return len(self._actors)

    @property
    def idle(self) -> int:
        """Number of workers without a job."""
        return self.size - len(self._running)

    def submit(self, job: BatchJob) -> None:
        """Gives a job to an idle worker."""
        busy = {number for number, _ in self._running.values()}
        number = next(n for n in self._actors if n not in busy)
        reference = self._actors[number].run.remote(job, self._episodes)
        self._running[reference] = number, job

    def wait(self, seconds: float | None = None) -> Sequence[Outcome]:
        """Waits until a job ends; see `jobs.WorkerPool`."""
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        return [self._receive(reference) for reference in ready]

    def withdraw(self, job: BatchJob) -> Outcome | None:
        """Ends the worker of a job for good; returns what became of the job if it was done."""
        (reference,) = (r for r, (_, running) in self._running.items() if running == job)
        if self._ray.wait([reference], timeout=0)[0]:
            return self._receive(reference)
        number, _ = self._running.pop(reference)
        self._ray.kill(self._actors.pop(number))
        return None

    def _receive(self, reference: Any) -> Outcome:  # noqa: ANN401
        number, job = self._running.pop(reference)
        try:
            result = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return self._replace(number, job, error)
        self._ready.add(number)
        if isinstance(result, FewshotError):
            return Outcome(job, error=result)
        outcome: Outcome = result
        if outcome.death is not None:
            self._restart(number)
        else:
            self._deaths[number] = 0
        return outcome

    def _replace(self, number: int, job: BatchJob, error: Exception) -> Outcome:
        if number not in self._ready:
            self._failed_starts += 1
            if self._failed_starts > _MAX_FAILED_STARTS:
                raise EngineError(f"ray: workers end before their first job is done: {error}")
        self._restart(number)
        reason = str(error).strip().splitlines()[0]
        return Outcome(job, death=f"ended ({type(error).__name__}: {reason})")

    def _restart(self, number: int) -> None:
        """Starts a worker in place of one that ended or has to, if it has not too often."""
        self._ray.kill(self._actors[number])
        self._deaths[number] += 1
        if self._deaths[number] < MAX_DEATHS or self.size == 1:
            self._actors[number] = self._start(number)
        else:
            _log.warning("worker %d ended %d times; it is left out", number + 1, MAX_DEATHS)
            del self._actors[number]

    def draw(self, episodes: int) -> None:
        """Makes the first `episodes` episodes of each shot those of the evaluation."""
        self._episodes = episodes

    def close(self) -> None:
        """Ends the workers, and a cluster that was started for them."""
        while self._actors:
            self._ray.kill(self._actors.popitem()[1])
        if self._is_started:
            self._ray.shutdown()

    def _start(self, number: int) -> Any:  # noqa: ANN401 - Ray's handles have no public type
        needs = {"num_gpus": 1} if self._has_gpus else {"num_cpus": self._threads}
        actor = self._ray.remote(**needs, max_restarts=0)(_Actor)
        return actor.remote(self._config, Shard(number + 1, self._count), self._threads)


def _import_ray() -> Any:  # noqa: ANN401 - a module that may be absent
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            "engine ray: Ray is not installed; pip install 'fewshot-i2v[ray]', or use --engine "
            "processes"
        ) from error
    return ray
