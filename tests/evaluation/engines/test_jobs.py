"""Jobs on workers that end: they are run again, and nothing is lost or done twice."""

from __future__ import annotations

import pickle
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fewshot_i2v.errors import RecordError, RecordWriteError
from fewshot_i2v.evaluation.engines import jobs as jobs_module
from fewshot_i2v.evaluation.engines.jobs import BatchJob, Outcome, portable_error, run_jobs

JOBS = [BatchJob(row, batch, (batch,)) for row in range(2) for batch in range(5)]


@dataclass
class FakePool:
    """Workers that end as `deaths` says: how often each job ends its worker."""

    size: int = 2
    deaths: Counter[BatchJob] = field(default_factory=Counter)
    error_at: BatchJob | None = None
    reason: RecordError | None = None
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

    def wait(self, seconds: float | None = None) -> list[Outcome]:
        del seconds
        job = self.running.popleft()
        if job == self.error_at:
            return [Outcome(job, error=RecordError("no such clip"))]
        if self.deaths[job] > 0:
            self.deaths[job] -= 1
            return [Outcome(job, death="ended by SIGKILL", error=self.reason)]
        return [Outcome(job, (1.0,), 0.5)]

    def withdraw(self, job: BatchJob) -> Outcome | None:
        raise AssertionError(job)

    def draw(self, episodes: int) -> None: ...

    def close(self) -> None: ...


class SimulatedPool(FakePool):
    """Workers of different speeds on a clock of their own; a job takes 50 s at speed 1."""

    def __init__(self, speeds: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.speeds, self.now = dict(enumerate(speeds)), 0.0
        self.ends: dict[int, tuple[float, BatchJob]] = {}
        self.withdrawn: list[BatchJob] = []
        monkeypatch.setattr(jobs_module, "monotonic", lambda: self.now)

    @property
    def idle(self) -> int:
        return len(self.speeds) - len(self.ends)

    def submit(self, job: BatchJob) -> None:
        number = next(n for n in self.speeds if n not in self.ends)
        self.ends[number] = self.now + 50 / self.speeds[number], job
        self.submitted.append(job)

    def wait(self, seconds: float | None = None) -> list[Outcome]:
        number, (end, job) = min(self.ends.items(), key=lambda item: item[1][0])
        if seconds is not None and end > self.now + seconds:
            self.now += seconds
            return []
        self.now = max(self.now, end)
        del self.ends[number]
        return [Outcome(job, (1.0,), 50 / self.speeds[number])]

    def withdraw(self, job: BatchJob) -> Outcome | None:
        (number,) = (n for n, (_, running) in self.ends.items() if running == job)
        del self.ends[number], self.speeds[number]
        self.withdrawn.append(job)
        return None


@pytest.mark.parametrize("at", range(4))
def test_a_slow_worker_does_not_delay_the_end(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = [1.0] * 4
    speeds[at] = 0.1
    jobs = [BatchJob(0, batch, (batch,)) for batch in range(41)]
    pool = SimulatedPool(speeds, monkeypatch)
    done = [outcome.job for outcome in run_jobs(pool, jobs)]
    assert sorted(done, key=jobs.index) == jobs
    ideal = len(jobs) * 50 / sum(speeds)
    assert pool.now <= 1.3 * ideal
    # it was taken from its job, which another one was given as one that may be recorded in part
    assert len(pool.withdrawn) == 1
    (moved,) = [job for job in pool.submitted if job.is_retried]
    assert moved == pool.withdrawn[0]
    monkeypatch.setattr(jobs_module, "_SLOW_FACTOR", 1e9)
    waiting = SimulatedPool(speeds, monkeypatch)
    assert len(list(run_jobs(waiting, jobs))) == len(jobs)
    assert waiting.now > 1.3 * ideal


def test_long_jobs_of_a_row_are_left_to_their_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing tells a slow worker from long jobs before one of its row is done."""
    pool = SimulatedPool([1.0, 0.01], monkeypatch)
    jobs = [BatchJob(0, 0, (0,)), BatchJob(1, 0, (0,))]
    assert len(list(run_jobs(pool, jobs))) == 2
    assert not pool.withdrawn


def test_what_a_slow_worker_had_done_after_all_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Done(SimulatedPool):
        def withdraw(self, job: BatchJob) -> Outcome | None:
            super().withdraw(job)
            return Outcome(job, (0.5,), 200.0)

    pool = Done([1.0, 0.1], monkeypatch)
    jobs = [BatchJob(0, batch, (batch,)) for batch in range(4)]
    outcomes = list(run_jobs(pool, jobs))
    assert sorted((o.job for o in outcomes), key=jobs.index) == jobs
    assert sum(o.accuracies == (0.5,) for o in outcomes) == 1


def test_a_job_too_large_for_every_device_ends_the_run_with_its_reason() -> None:
    reason = RecordError("out of memory with one episode at a time; give fewer frames")
    pool = FakePool(deaths=Counter({JOBS[3]: 2}), reason=reason)
    assert len(list(run_jobs(pool, JOBS))) == len(JOBS)  # another device has room
    pool = FakePool(deaths=Counter({JOBS[3]: 9}), reason=reason)
    with pytest.raises(RecordError, match="give fewer frames"):
        list(run_jobs(pool, JOBS))
    assert Counter(pool.submitted)[JOBS[3]] == 3


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


def test_an_error_of_data_after_a_death_ends_the_run() -> None:
    class Pool(FakePool):
        def wait(self, seconds: float | None = None) -> list[Outcome]:
            (outcome,) = super().wait(seconds)
            if outcome.job.is_retried:
                return [Outcome(outcome.job, error=RecordError("another version"))]
            return [outcome]

    with pytest.raises(RecordError, match="another version"):
        list(run_jobs(Pool(deaths=Counter({JOBS[2]: 1})), JOBS))


def test_no_jobs_need_no_workers() -> None:
    assert list(run_jobs(FakePool(size=0), [])) == []


def test_errors_go_from_process_to_process(tmp_path: Path) -> None:
    error = RecordWriteError(tmp_path / "a", OSError(28, "No space left on device"))
    copy = pickle.loads(pickle.dumps(portable_error(error)))  # noqa: S301 - made here
    assert str(copy) == str(error)
    assert copy.exit_code == error.exit_code
    copy = pickle.loads(pickle.dumps(portable_error(RecordError("damaged"))))  # noqa: S301
    assert (str(copy), copy.exit_code) == ("damaged", 2)
