"""The pool of processes, of stubs: workers that end, have to end, or are taken from a job."""

from __future__ import annotations

from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, cast

import pytest
import torch

from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.errors import DeviceMemoryError, EngineError, RecordError
from fewshot_i2v.evaluation.engines import processes
from fewshot_i2v.evaluation.engines.jobs import MAX_DEATHS, BatchJob, Outcome
from fewshot_i2v.evaluation.engines.processes import ProcessPool
from fewshot_i2v.evaluation.engines.worker import Worker, run_job

JOBS = [BatchJob(0, batch, (batch,)) for batch in range(20)]


class StubProcess:
    """A process that this one plays: the other end of its connection is `there`."""

    def __init__(self, there: Connection) -> None:
        self.there, self.exitcode, self.signals = there, 0, list[str]()

    def join(self, _seconds: float | None = None) -> None: ...

    def is_alive(self) -> bool:
        return False

    def kill(self) -> None:
        self.signals.append("kill")

    def terminate(self) -> None:
        self.signals.append("terminate")


class StubPool(ProcessPool):
    """A pool whose processes are stubs, in the order of their start."""

    def __init__(self, count: int) -> None:
        self.started: list[StubProcess] = []
        super().__init__(cast(EvaluationConfig, None), count)

    def _start(self, number: int) -> Any:  # noqa: ANN401
        here, there = Pipe()
        self.started.append(StubProcess(there))
        there.send("ready")
        process = cast(Any, self.started[-1])
        return processes._Process(process, here, number)


def test_a_worker_whose_device_failed_is_replaced_and_never_used_again() -> None:
    pool = StubPool(1)
    pool.submit(JOBS[0])
    assert pool.started[0].there.recv() == JOBS[0]
    pool.started[0].there.send(Outcome(JOBS[0], death="ended (RuntimeError: CUDA error)"))
    (outcome,) = pool.wait()
    assert outcome.death == "ended (RuntimeError: CUDA error)"
    assert len(pool.started) == 2
    pool.submit(JOBS[1])
    with pytest.raises(EOFError):
        pool.started[0].there.recv()
    assert pool.started[1].there.recv() == JOBS[1]


def test_a_worker_that_fails_again_and_again_is_left_out_but_not_the_last() -> None:
    pool = StubPool(2)
    jobs = iter(JOBS)
    for deaths in range(1, MAX_DEATHS + 1):
        job = next(jobs)
        pool.submit(job)  # the first idle worker has the first number
        pool._workers[0].process.there.send(Outcome(job, death="ran out of device memory"))
        assert [o.death for o in pool.wait()] == ["ran out of device memory"]
        assert pool.size == (2 if deaths < MAX_DEATHS else 1)
    (last,) = pool._workers
    assert last.number == 1
    for _ in range(MAX_DEATHS + 2):
        job = next(jobs)
        pool.submit(job)
        pool._workers[0].process.there.send(Outcome(job, death="ran out of device memory"))
        assert pool.wait()
    assert (pool.size, pool.idle) == (1, 1)


def test_a_success_in_between_is_a_new_start() -> None:
    pool = StubPool(2)
    for number, job in enumerate(JOBS):
        pool.submit(job)
        death = None if number % MAX_DEATHS == 0 else "ended by SIGKILL"
        pool._workers[0].process.there.send(Outcome(job, death=death))
        assert pool.wait()
    assert pool.size == 2


def test_a_job_is_withdrawn_with_its_worker_unless_it_was_done() -> None:
    pool = StubPool(2)
    for job in JOBS[:2]:
        pool.submit(job)
    pool.started[1].there.recv()
    assert pool.wait(0.01) == []  # both are ready
    assert pool.withdraw(JOBS[0]) is None
    assert pool.started[0].signals == ["kill"]
    assert (pool.size, pool.idle, len(pool.started)) == (1, 0, 2)
    done = Outcome(JOBS[1], (1.0,))
    pool.started[1].there.send(done)
    assert pool.withdraw(JOBS[1]) == done
    assert (pool.size, pool.idle, pool.started[1].signals) == (1, 1, [])


def test_workers_that_are_still_starting_are_ended_at_once() -> None:
    pool = StubPool(2)
    pool.close()
    assert [process.signals for process in pool.started] == [["terminate"]] * 2


def test_workers_that_never_get_ready_end_the_run() -> None:
    pool = StubPool(1)
    for _ in range(2):
        assert pool._replace(pool._workers[0], None) is None
    with pytest.raises(EngineError, match=r"workers end before they are ready \(ended with status"):
        pool._replace(pool._workers[0], None)


@pytest.mark.parametrize(
    ("error", "death", "reason"),
    [
        (
            RuntimeError("CUDA error: device-side assert triggered\nmore"),
            "ended (RuntimeError: CUDA error: device-side assert triggered)",
            None,
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory."),
            "ended (OutOfMemoryError: CUDA out of memory.)",
            None,
        ),
        (DeviceMemoryError("give fewer frames"), "ran out of device memory", "give fewer frames"),
    ],
)
def test_errors_of_a_device_end_the_worker(
    error: Exception, death: str, reason: str | None, capfd: pytest.CaptureFixture[str]
) -> None:
    class Failing:
        def run(self, _job: BatchJob) -> Outcome:
            raise error

    outcome = run_job(cast(Worker, Failing()), JOBS[0])
    assert isinstance(outcome, Outcome)
    assert outcome.death == death
    assert (outcome.error and str(outcome.error)) == reason
    assert ("Traceback" in capfd.readouterr().err) == (reason is None)


def test_errors_of_data_leave_the_worker_alone() -> None:
    class Failing:
        def run(self, _job: BatchJob) -> Outcome:
            raise RecordError("damaged")

    error = run_job(cast(Worker, Failing()), JOBS[0])
    assert str(error) == "damaged"
    assert not isinstance(error, Outcome)
