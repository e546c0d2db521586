"""Jobs on workers that end: they are run again, and nothing is lost or done twice."""

from __future__ import annotations

import pickle
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fewshot_i2v.errors import RecordError, RecordWriteError
from fewshot_i2v.evaluation.engines.jobs import BatchJob, Outcome, portable_error, run_jobs

JOBS = [BatchJob(row, batch, (batch,)) for row in range(2) for batch in range(5)]


@dataclass
class FakePool:
    """Workers that end as `deaths` says: how often each job ends its worker."""

    size: int = 2
    deaths: Counter[BatchJob] = field(default_factory=Counter)
    error_at: BatchJob | None = None
    running: deque[BatchJob] = field(default_factory=deque)
    submitted: list[BatchJob] = field(default_factory=list)
    most: int = 0

    @property
    def idle(self) -> int:
        return self.size - len(self.running)

    def submit(self, job: BatchJob) -> None:
        assert self.idle
        self.running.append(job)
        self.submitted.append(job)
        self.most = max(self.most, len(self.running))

    def wait(self) -> list[Outcome]:
        job = self.running.popleft()
        if job == self.error_at:
            return [Outcome(job, error=RecordError("no such clip"))]
        if self.deaths[job] > 0:
            self.deaths[job] -= 1
            return [Outcome(job, death="ended by SIGKILL")]
        return [Outcome(job, (1.0,), 0.5)]

    def draw(self, episodes: int) -> None: ...

    def close(self) -> None: ...


def test_every_job_is_done_once_by_as_many_workers_as_there_are() -> None:
    pool = FakePool(size=3)
    done = [outcome.job for outcome in run_jobs(pool, JOBS)]
    assert sorted(done, key=JOBS.index) == JOBS
    assert pool.submitted == JOBS  # in their order: rows share caches
    assert pool.most == 3


def test_a_job_whose_worker_ends_is_run_again() -> None:
    pool = FakePool(deaths=Counter({JOBS[0]: 1, JOBS[7]: 1}))
    outcomes = list(run_jobs(pool, JOBS))
    assert sorted((o.job for o in outcomes), key=JOBS.index) == JOBS
    assert all(outcome.death is None for outcome in outcomes)
    assert Counter(pool.submitted)[JOBS[7]] == 2
    # after all others: machines that were taken away may be back by then
    assert pool.submitted[len(JOBS) :] == [JOBS[0], JOBS[7]]


def test_a_job_that_ends_every_worker_is_given_up() -> None:
    pool = FakePool(deaths=Counter({JOBS[3]: 99}))
    outcomes = {outcome.job: outcome.death for outcome in run_jobs(pool, JOBS)}
    assert outcomes.pop(JOBS[3]) == "ended by SIGKILL"
    assert set(outcomes.values()) == {None}
    assert Counter(pool.submitted)[JOBS[3]] == 3


def test_errors_of_data_are_not_tried_again() -> None:
    pool = FakePool(error_at=JOBS[2])
    with pytest.raises(RecordError, match="no such clip"):
        list(run_jobs(pool, JOBS))
    assert Counter(pool.submitted)[JOBS[2]] == 1


def test_no_jobs_need_no_workers() -> None:
    assert list(run_jobs(FakePool(size=0), [])) == []


def test_errors_go_from_process_to_process(tmp_path: Path) -> None:
    error = RecordWriteError(tmp_path / "a", OSError(28, "No space left on device"))
    copy = pickle.loads(pickle.dumps(portable_error(error)))  # noqa: S301 - made here
    assert str(copy) == str(error)
    assert copy.exit_code == error.exit_code
    copy = pickle.loads(pickle.dumps(portable_error(RecordError("damaged"))))  # noqa: S301
    assert (str(copy), copy.exit_code) == ("damaged", 2)
