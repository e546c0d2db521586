"""Decoding processes that can be killed.

A damaged video can make native code hang without letting go of Python's lock, or end the whole
process. So clips are decoded in processes of their own, with limits on time and memory: the worst a
clip can do is to be reported as unreadable.
"""

from __future__ import annotations

import importlib
import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fewshot_i2v.errors import FewshotError, VideoUnreadable
from fewshot_i2v.video._process import Job, Limits, WorkerProcess
from fewshot_i2v.video.frames import check_count

__all__ = ["Job", "Limits", "run_jobs"]


def run_jobs(
    jobs: Sequence[Job], workers: int, limits: Limits | None = None
) -> Iterator[tuple[Job, Any]]:
    """Run calls in worker processes.

    Args:
        jobs: the calls.
        workers: how many processes, 1 or more; no more are started than there are jobs. 0 runs
            everything in this process, where nothing is limited: for tests.
        limits: what each call may take; the defaults if None.

    Yields:
        Each job with what its function returned, or with a `VideoUnreadable` saying why there is
        nothing; in the order of finishing. No process is left when the iterator ends or is closed.

    Raises:
        FewshotError: if workers cannot be started, or a function raised it for a reason that is not
            the clip's.
        ConfigError: if the number of workers is none.
    """
    check_count("workers", workers, least=0)
    if workers == 0:
        for job in jobs:
            yield job, _run_here(job)
        return
    crew = _Crew(jobs, limits or Limits())
    try:
        crew.start(min(workers, len(jobs)))
        for _ in jobs:
            job, result = crew.done.get()
            if isinstance(result, Exception) and not isinstance(result, VideoUnreadable):
                raise result
            yield job, result
    finally:
        crew.stop()


def _run_here(job: Job) -> Any:  # noqa: ANN401 - whatever the function returns
    module, _, name = job.function.partition(":")
    try:
        return getattr(importlib.import_module(module), name)(*job.arguments)
    except VideoUnreadable as error:
        return error


@contextmanager
def _refusals() -> Iterator[None]:
    """Says what to do where the system gives no more threads or processes."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # threads raise the latter
        said = getattr(error, "strerror", None) or error
        raise FewshotError(
            f"a decoding process could not be started: {said}; end other programs, allow more "
            "processes (ulimit -u), or give fewer --workers"
        ) from error


class _Crew:
    """Threads that each look after one worker, fed from one queue."""

    def __init__(self, jobs: Sequence[Job], limits: Limits) -> None:
        self.done: queue.SimpleQueue[tuple[Job, Any]] = queue.SimpleQueue()
        self._todo: queue.SimpleQueue[Job] = queue.SimpleQueue()
        for job in jobs:
            self._todo.put(job)
        self._limits = limits
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._workers: set[WorkerProcess] = set()
        self._threads: list[threading.Thread] = []

    def start(self, count: int) -> None:
        """Begins the work with `count` processes."""
        for _ in range(count):
            thread = threading.Thread(target=self._look_after, daemon=True)
            with _refusals():
                thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End everything, finished or not, and wait until it has ended."""
        self._stopped.set()
        with self._lock:
            for worker in self._workers:
                worker.kill()
        for thread in self._threads:
            thread.join()

    def _look_after(self) -> None:
        worker: WorkerProcess | None = None
        try:
            while not self._stopped.is_set():
                try:
                    job = self._todo.get_nowait()
                except queue.Empty:
                    return
                worker, result = self._run(job, worker)
                self.done.put((job, result))
        finally:
            self._dismiss(worker)

    def _run(self, job: Job, worker: WorkerProcess | None) -> tuple[WorkerProcess | None, Any]:
        try:
            with _refusals():
                if worker is None or not worker.alive:
                    self._dismiss(worker)
                    worker = self._hire()
                result = worker.run(job)
                if worker.crashed and worker.served > 1:
                    # an earlier clip may have done the harm: this one gets a fresh process
                    self._dismiss(worker)
                    worker = self._hire()
                    result = worker.run(job)
        except Exception as error:  # noqa: BLE001 - raised again where the results are taken
            return worker, error
        return worker, result

    def _hire(self) -> WorkerProcess:
        worker = WorkerProcess(self._limits)
        with self._lock:
            self._workers.add(worker)
            if self._stopped.is_set():
                worker.kill()
        try:
            worker.wait_until_ready()
        except Exception:
            self._dismiss(worker)
            raise
        return worker

    def _dismiss(self, worker: WorkerProcess | None) -> None:
        if worker is not None:
            with self._lock:
                self._workers.discard(worker)
            worker.close()
