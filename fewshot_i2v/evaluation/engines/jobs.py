"""Jobs that workers run, and what becomes of them."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from time import monotonic
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from fewshot_i2v.errors import FewshotError
from fewshot_i2v.runs.shards import Shard

_LOOK_SECONDS = 1.0
_SLOW = "was slow"
_SLOW_FACTOR, _START_SECONDS = 3.0, 30.0
MAX_DEATHS = 3
"""Deaths of a worker in a row after which it is not replaced, where others are left."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchJob:
    """Episodes of a batch that one worker runs side by side.

    Attributes:
        row: position of the row.
        batch: number of the batch.
        pending: numbers of its episodes that are to be recorded.
        alone: whether only these are run, because the batch ended its worker; otherwise the batch
            is run completely, so that results do not depend on what is recorded already.
        is_retried: whether another worker has had the job, and may have recorded a part.
    """

    row: int
    batch: int
    pending: tuple[int, ...]
    alone: bool = False
    is_retried: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        job: the job.
        accuracies: of its new episodes that succeeded.
        seconds: that it took.
        death: why its worker ended, or has to; None: it lives.
        error: that the job raised because of its data or configuration, or that ends the run if
            other workers end as well; None: there is none.
        logits: of the query clips of its episodes, (Q, C) float64 each; those of a fit alone.
        notes: about the memory of its worker, for the user.
    """

    job: BatchJob
    accuracies: tuple[float, ...] = ()
    seconds: float = 0.0
    death: str | None = None
    error: FewshotError | None = None
    logits: tuple[NDArray[np.float64], ...] = field(default=(), compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)


class JobWorker(Protocol):
    """What a process of a pool runs jobs with."""

    def run(self, job: BatchJob) -> Outcome:
        """Runs a job."""

    def draw(self, episodes: int) -> None:
        """Makes the first `episodes` episodes of each shot those of the evaluation."""

    def close(self) -> None:
        """Closes its files."""


class WorkerSpec(Protocol):
    """What the workers of a pool run; it is sent to their processes."""

    def on_device(self, device: str) -> Self:
        """Returns the same for another device."""

    def start(self, shard: Shard, episodes: int | None) -> JobWorker:
        """Makes a worker, in its process.

        Args:
            shard: names its files.
            episodes: number of episodes of each shot; None: as configured.
        """


class WorkerPool(Protocol):
    """Workers that run jobs, one each at a time.

    A worker that ends is replaced by the pool, but not after several deaths in a row, where others
    are left: its device may be broken, or its memory in use by somebody else.
    """

    @property
    def size(self) -> int:
        """Number of workers."""

    @property
    def idle(self) -> int:
        """Number of workers without a job."""

    def submit(self, job: BatchJob) -> None:
        """Gives a job to an idle worker."""

    def wait(self, seconds: float | None = None) -> Sequence[Outcome]:
        """Waits until jobs end, and returns what became of them; none after so many seconds.

        Raises:
            FewshotError: when no worker can be started.
        """

    def withdraw(self, job: BatchJob) -> Outcome | None:
        """Ends the worker of a job for good; returns what became of the job if it was done."""

    def draw(self, episodes: int) -> None:
        """Makes the first `episodes` episodes of each shot those of the evaluation."""

    def close(self) -> None:
        """Ends the workers; a second call does nothing."""


def run_jobs(
    pool: WorkerPool,
    jobs: Sequence[BatchJob],
    *,
    max_attempts: int = 3,
    is_needed: Callable[[BatchJob], bool] = lambda _: True,
) -> Iterator[Outcome]:
    """Runs jobs on a pool, in their order as far as workers are idle.

    A job whose worker ends is run again, after all others: what ended it, such as a machine that is
    taken away or has no memory left, may be over then. Errors of data and configuration would come
    again, and end the run. In the end a job that takes much longer than others of its row is taken
    from its worker and given to an idle one. (It is never run twice at the same time: on a GPU two
    runs may differ in rounding, and a record has one result.)

    Args:
        pool: of workers.
        jobs: to run.
        max_attempts: how often a job may end its worker.
        is_needed: whether a job that waits is to be run (still).

    Yields:
        The outcomes of jobs that were done, and of those that ended their workers `max_attempts`
        times.

    Raises:
        FewshotError: of a job, when it is one of data or configuration, or when it says why the
            workers of the job ended.
    """
    waiting, attempts = list(reversed(jobs)), dict.fromkeys(jobs, 0)
    running = RunningJobs()
    while waiting or running.started:
        while waiting and pool.idle:
            job = waiting.pop()
            if is_needed(job):
                running.begin(job)
                pool.submit(job)
        if not waiting and not running.started:
            return
        is_ending = not waiting and pool.idle > 0
        outcomes = [*pool.wait(_LOOK_SECONDS if is_ending else None)]
        slow = running.slow(pool.idle) if is_ending and not outcomes else []
        outcomes += [pool.withdraw(job) or Outcome(job, death=_SLOW) for job in slow]
        for outcome in outcomes:
            job = outcome.job
            running.end(outcome)
            attempts[job] += outcome.death not in (None, _SLOW)
            if outcome.death is None or attempts[job] == max_attempts:
                if outcome.error is not None:
                    raise outcome.error
                yield outcome
            else:
                waiting.insert(0, replace(job, is_retried=True))


class RunningJobs:
    """Jobs that workers have now, and how long others of their rows took.

    Attributes:
        started: when each job was given to a worker.
    """

    def __init__(self) -> None:
        self.started: dict[BatchJob, float] = {}
        self._seconds: dict[int, list[float]] = defaultdict(list)
        self._moved: set[BatchJob] = set()

    def begin(self, job: BatchJob) -> None:
        """Notes that a worker has a job."""
        self.started[job] = monotonic()

    def end(self, outcome: Outcome) -> None:
        """Notes that a job was done, or that its worker ended."""
        del self.started[outcome.job]
        if outcome.death is None:
            self._seconds[outcome.job.row].append(outcome.seconds)

    def slow(self, count: int) -> list[BatchJob]:
        """Returns at most `count` jobs that take much longer than others of their rows, each once.

        Workers that are slow with all jobs of a row are not told from a row of long jobs.
        """
        now = monotonic()
        jobs: list[BatchJob] = []
        for job, start in self.started.items():
            done = self._seconds[job.row]
            is_slow = done and now - start > _SLOW_FACTOR * median(done) + _START_SECONDS
            if is_slow and job not in self._moved and len(jobs) < count:
                jobs.append(job)
        self._moved.update(jobs)
        if jobs:
            _log.warning("%d of the workers slow: others run their episodes", len(jobs))
        return jobs


def portable_error(error: FewshotError) -> FewshotError:
    """Returns an error with the same text and exit status that another process can read."""
    copy = FewshotError(str(error))
    copy.exit_code = error.exit_code
    return copy
