"""Jobs that workers run, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from fewshot_i2v.errors import FewshotError


@dataclass(frozen=True)
class BatchJob:
    """Episodes of a batch that one worker runs side by side.

    Attributes:
        row: position of the row.
        batch: number of the batch.
        pending: numbers of its episodes that are to be recorded.
        alone: whether only these are run, because the batch ended its worker; otherwise the batch
            is run completely, so that results do not depend on what is recorded already.
    """

    row: int
    batch: int
    pending: tuple[int, ...]
    alone: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        job: the job.
        accuracies: of its new episodes that succeeded.
        seconds: that it took.
        death: why its worker ended; None: it lives.
        error: that the job raised because of its data or configuration; None: there is none.
    """

    job: BatchJob
    accuracies: tuple[float, ...] = ()
    seconds: float = 0.0
    death: str | None = None
    error: FewshotError | None = None


class WorkerPool(Protocol):
    """Workers that run jobs, one each at a time.

    A worker that ends is replaced by the pool.
    """

    @property
    def size(self) -> int:
        """Number of workers."""

    @property
    def idle(self) -> int:
        """Number of workers without a job."""

    def submit(self, job: BatchJob) -> None:
        """Gives a job to an idle worker."""

    def wait(self) -> Sequence[Outcome]:
        """Waits until jobs end, and returns what became of them.

        Raises:
            FewshotError: when no worker can be started.
        """

    def draw(self, episodes: int) -> None:
        """Makes the first `episodes` episodes of each shot those of the evaluation."""

    def close(self) -> None:
        """Ends the workers."""


def run_jobs(
    pool: WorkerPool, jobs: Sequence[BatchJob], *, max_attempts: int = 2
) -> Iterator[Outcome]:
    """Runs jobs on a pool, in their order as far as workers are idle.

    A job whose worker ends is run again, once by default: an error of the machine, such as one of
    its memory, may pass. Errors of data and configuration would come again, and end the run. Those
    that ended their workers `max_attempts` times have an outcome too.

    Raises:
        FewshotError: of a job, when it is one of data or configuration.
    """
    waiting, attempts, running = list(reversed(jobs)), dict.fromkeys(jobs, 0), 0
    while waiting or running:
        while waiting and pool.idle:
            pool.submit(waiting.pop())
            running += 1
        for outcome in pool.wait():
            running -= 1
            if outcome.error is not None:
                raise outcome.error
            if outcome.death is None:
                yield outcome
                continue
            attempts[outcome.job] += 1
            if attempts[outcome.job] < max_attempts:
                waiting.append(outcome.job)
            else:
                yield outcome


def portable_error(error: FewshotError) -> FewshotError:
    """Returns an error with the same text and exit status that another process can read."""
    copy = FewshotError(str(error))
    copy.exit_code = error.exit_code
    return copy
