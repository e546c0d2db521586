"""Workers that are processes of this machine, one per GPU or sharing the cores."""

from __future__ import annotations

import logging
import os
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from fewshot_i2v.errors import EngineError, FewshotError
from fewshot_i2v.evaluation.engines.jobs import (
    MAX_DEATHS,
    BatchJob,
    Outcome,
    WorkerSpec,
    portable_error,
)
from fewshot_i2v.runs.shards import Shard
from fewshot_i2v.utils.garbage import leave_garbage, postpone_garbage_collection

_MAX_FAILED_STARTS = 2
_JOIN_SECONDS = 10
_log = logging.getLogger(__name__)


@dataclass
class _Process:
    process: BaseProcess
    connection: Connection
    number: int
    job: BatchJob | None = None
    is_ready: bool = False


class ProcessPool:
    """Worker processes; see `jobs.WorkerPool`.

    Args:
        spec: what the workers run.
        count: number of workers.
        gpus: number of the GPU of each worker; empty: as the specification says.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        count: int,
        *,
        gpus: Sequence[int] = (),
    ) -> None:
        self.spec, self.count, self.gpus = spec, len(gpus) or count, tuple(gpus)
        self._episodes: int | None = None  # as the configuration says
        self._failed_starts = 0
        self._deaths: Counter[int] = Counter()  # of each worker in a row
        self._workers = [self._start(number) for number in range(self.count)]

    @property
    def size(self) -> int:
        """Number of workers."""
        return len(self._workers)

    @property
    def idle(self) -> int:
        """Number of workers without a job."""
        return sum(worker.job is None for worker in self._workers)

    def submit(self, job: BatchJob) -> None:
        """Gives a job to an idle worker; its connection holds it until the worker is ready."""
        worker = next(worker for worker in self._workers if worker.job is None)
        worker.job = job
        try:
            worker.connection.send(job)
        except OSError:  # it ended: `wait` sees that
            return

    def wait(self, seconds: float | None = None) -> list[Outcome]:
        """Waits until jobs end; see `jobs.WorkerPool`."""
        outcomes: list[Outcome] = []
        while not outcomes:
            workers = {worker.connection: worker for worker in self._workers}
            ready = wait(list(workers), seconds)
            for connection in ready:
                outcome = self._receive(workers[connection])  # type: ignore[index]
                outcomes += [] if outcome is None else [outcome]
            if not ready:
                break
        return outcomes

    def withdraw(self, job: BatchJob) -> Outcome | None:
        """Ends the worker of a job for good; returns what became of the job if it was done."""
        (worker,) = (worker for worker in self._workers if worker.job == job)
        outcome = self._receive(worker) if worker.connection.poll() else None
        if outcome is None:
            worker.process.kill()
            worker.process.join()
            worker.connection.close()
            self._workers.remove(worker)
        return outcome

    def _receive(self, worker: _Process) -> Outcome | None:
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            return self._replace(worker, None)
        if message == "ready":
            worker.is_ready = True
            self._failed_starts = 0
            return None
        if isinstance(message, FewshotError):
            if worker.job is None:  # the worker could not be made: neither could the next
                raise message
            return Outcome(worker.job, error=message)
        outcome: Outcome = message
        if outcome.death is not None:
            return self._replace(worker, outcome)
        self._deaths[worker.number] = 0
        worker.job = None
        return outcome

    def _replace(self, worker: _Process, outcome: Outcome | None) -> Outcome | None:
        """Starts a worker in place of one that ended or has to; returns what became of its job."""
        worker.connection.close()
        _end(worker.process)
        death = _describe_exit(worker.process.exitcode)
        if not worker.is_ready:
            self._failed_starts += 1
            if self._failed_starts > _MAX_FAILED_STARTS:
                raise EngineError(
                    f"workers end before they are ready ({death}); run the command with fewer "
                    "processes, or without --engine to see the reason"
                )
        self._deaths[worker.number] += 1
        position = self._workers.index(worker)
        if self._deaths[worker.number] < MAX_DEATHS or self.size == 1:
            self._workers[position] = self._start(worker.number)
        else:
            _log.warning("worker %d ended %d times; it is left out", worker.number + 1, MAX_DEATHS)
            del self._workers[position]
        if outcome is None and worker.job is not None:
            outcome = Outcome(worker.job, death=death)
        return outcome

    def draw(self, episodes: int) -> None:
        """Makes the first `episodes` episodes of each shot those of the evaluation."""
        self._episodes = episodes
        for worker in self._workers:
            worker.connection.send(episodes)

    def close(self) -> None:
        """Ends the workers: those that are idle by themselves, the others by a signal."""
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.connection.close()
            if worker.job is not None or not worker.is_ready:
                worker.process.terminate()
        for worker in workers:
            _end(worker.process)

    def _start(self, number: int) -> _Process:
        context = get_context("spawn")  # neither CUDA nor threads survive a fork
        here, there = context.Pipe()
        spec = self.spec
        if self.gpus:
            spec = spec.on_device(f"cuda:{self.gpus[number]}")
        process = context.Process(
            target=_serve,
            args=(there, spec, Shard(number + 1, self.count), self._episodes),
        )
        process.start()
        there.close()
        return _Process(process, here, number)


def _end(process: BaseProcess) -> None:
    """Waits for a process that is about to end, and ends it if it does not."""
    process.join(_JOIN_SECONDS)
    if process.is_alive():
        process.kill()
        process.join()


def _serve(connection: Connection, spec: WorkerSpec, shard: Shard, episodes: int | None) -> None:
    """Runs jobs from a connection until it is closed, in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all: the main process decides
    postpone_garbage_collection()
    _take_cores(shard)
    from fewshot_i2v.evaluation.engines.worker import run_job

    try:
        worker = spec.start(shard, episodes)
    except FewshotError as error:
        connection.send(portable_error(error))
        return
    try:
        connection.send("ready")
        while True:
            message: Any = connection.recv()
            if isinstance(message, int):
                worker.draw(message)
                continue
            result = run_job(worker, message)
            connection.send(result)
            if isinstance(result, Outcome) and result.death is not None:
                return
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the main process has ended: what was done is recorded
    finally:
        worker.close()
        leave_garbage()  # the main process waits for the end of this one


def _take_cores(shard: Shard) -> None:
    """Gives this process its share of the cores, so that workers do not wait for each other."""
    import torch

    if not hasattr(os, "sched_getaffinity"):
        share = max(1, (os.cpu_count() or 1) // shard.count)
        torch.set_num_threads(min(share, torch.get_num_threads()))
        return
    cores = sorted(os.sched_getaffinity(0))
    share = max(1, len(cores) // shard.count)
    first = (shard.number - 1) * share % len(cores)
    # fewer where OMP_NUM_THREADS says so
    torch.set_num_threads(min(share, torch.get_num_threads()))
    os.sched_setaffinity(0, cores[first : first + share])


def _describe_exit(status: int | None) -> str:
    if status is not None and status < 0:
        try:
            return f"ended by {signal.Signals(-status).name}"
        except ValueError:
            return f"ended by signal {-status}"
    return f"ended with status {status}"
