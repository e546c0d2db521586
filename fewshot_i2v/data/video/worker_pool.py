"""Decoding processes that can be killed: the pool, and below it what runs in such a process.

A damaged video can make native code hang without releasing Python's lock, or end the entire
process. So clips are decoded in separate processes, with limits on time and memory: the worst
a clip can do is to be reported as unreadable.

A process reads calls, one JSON line each, and answers each with one line. It is started with plain
`subprocess`, not `multiprocessing`: nothing is inherited by forking, and the caller's main script
is not run a second time. A hanging decoder may hold Python's lock, so no Python code can be relied
upon to end it. The kernel ends the process when it has used its processor time. The caller kills it
when it hangs without using any; if the caller is gone, the kernel's alarm does.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import math
import os
import pkgutil
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from fewshot_i2v.data.video.clip_disk import check_disk_of, was_missing
from fewshot_i2v.data.video.frame_sampling import check_count
from fewshot_i2v.errors import ClipDiskError, FewshotError, VideoUnreadable
from fewshot_i2v.utils.environment import count_cores
from fewshot_i2v.utils.limits import DEFAULT_LIMITS, ClipLimits, limit_hint
from fewshot_i2v.utils.search_path import without_current_folder

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); "
    "from fewshot_i2v.data.video.worker_pool import serve_calls; serve_calls()"
)
_STARTUP_SECONDS = 120.0
_WALL_CLOCK_FACTOR = 4.0
_MAX_DEFAULT_WORKERS = 8
_LOG_LIMIT = 1 << 20
_GRACE_SECONDS = 5


class Job(NamedTuple):
    """One function call for one clip.

    Attributes:
        path: the clip, for messages.
        function: "module:name" of the function.
        arguments: its arguments; must be possible in JSON.
    """

    path: Path
    function: str
    arguments: tuple[Any, ...]


def run_jobs(
    jobs: Sequence[Job], workers: int | None = None, limits: ClipLimits = DEFAULT_LIMITS
) -> Iterator[tuple[Job, Any]]:
    """Run calls in worker processes.

    Args:
        jobs: the calls.
        workers: how many processes, 1 or more; None: one per processor, at most 8. No more are
            started than there are jobs. 0 runs everything in this process, where nothing is
            limited: for tests.
        limits: what each call may take.

    Yields:
        Each job with what its function returned, or with a `VideoUnreadable` that says why it
        failed; in the order of finishing. No process is left when the iterator ends or is closed.

    Raises:
        ClipDiskError: if a disk that a function reads does not answer.
        FewshotError: if workers cannot be started, or a function raised it for a reason that does
            not lie in the clip.
        ConfigError: if the number of workers is invalid.
    """
    if workers is None:
        workers = min(count_cores(), _MAX_DEFAULT_WORKERS)
    check_count("workers", workers, minimum=0)
    if workers == 0:
        for job in jobs:
            try:
                result = _call(job.function, job.arguments)
            except VideoUnreadable as error:
                result = error
            yield job, result
        return
    pool = _WorkerPool(jobs, limits)
    try:
        pool.start(min(workers, len(jobs)))
        for _ in jobs:
            job, result = pool.results.get()
            if isinstance(result, Exception) and not isinstance(result, VideoUnreadable):
                raise result
            yield job, result
    finally:
        pool.stop()


class _WorkerPool:
    """Threads with one worker process each, fed from one queue."""

    def __init__(self, jobs: Sequence[Job], limits: ClipLimits) -> None:
        self.results: queue.SimpleQueue[tuple[Job, Any]] = queue.SimpleQueue()
        self._pending: queue.SimpleQueue[Job] = queue.SimpleQueue()
        for job in jobs:
            self._pending.put(job)
        self._limits = limits
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._workers: set[_WorkerProcess] = set()
        self._threads: list[threading.Thread] = []

    def start(self, count: int) -> None:
        """Start the work with `count` processes."""
        for _ in range(count):
            thread = threading.Thread(target=self._serve_jobs, daemon=True)
            with _translate_start_errors():
                thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End all processes, finished or not, and wait until they have ended."""
        self._stopped.set()
        with self._lock:
            for worker in self._workers:
                worker.kill()
        for thread in self._threads:
            thread.join()

    def _serve_jobs(self) -> None:
        worker: _WorkerProcess | None = None
        try:
            while not self._stopped.is_set():
                try:
                    job = self._pending.get_nowait()
                except queue.Empty:
                    return
                try:
                    with _translate_start_errors():
                        worker = self._live_worker(worker)
                        result = worker.run(job)
                        if worker.crashed and worker.calls_made > 1:
                            # an earlier clip may have done the harm: this one gets a fresh process
                            worker = self._live_worker(worker)
                            result = worker.run(job)
                except Exception as error:  # noqa: BLE001 - raised again where results are taken
                    result = error
                self.results.put((job, result))
        finally:
            self._close_worker(worker)

    def _live_worker(self, worker: _WorkerProcess | None) -> _WorkerProcess:
        """Return the worker if it can take another call, else a new one in its stead."""
        if worker is not None and worker.alive:
            return worker
        self._close_worker(worker)
        worker = _WorkerProcess(self._limits)
        with self._lock:
            self._workers.add(worker)
            if self._stopped.is_set():
                worker.kill()
        try:
            worker.wait_until_ready()
        except Exception:
            self._close_worker(worker)
            raise
        return worker

    def _close_worker(self, worker: _WorkerProcess | None) -> None:
        if worker is not None:
            with self._lock:
                self._workers.discard(worker)
            worker.close()


@contextmanager
def _translate_start_errors() -> Iterator[None]:
    """Translate the system's refusal of more threads or processes into advice."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # threads raise the latter
        reason = getattr(error, "strerror", None) or error
        raise FewshotError(
            f"a decoding process could not be started: {reason}; end other programs, allow more "
            "processes (ulimit -u), or give fewer --workers"
        ) from error


class _WorkerProcess:
    """A process that runs one call after another, for one thread.

    Attributes:
        calls_made: how many calls have been made.
        crashed: whether the process ended by itself during a call.
    """

    def __init__(self, limits: ClipLimits) -> None:
        self._limits = limits
        self._wall_seconds = _WALL_CLOCK_FACTOR * limits.seconds
        self._expired = False
        self.calls_made = 0
        self.crashed = False
        environment = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        # an empty entry is the current folder
        python_path = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        environment["PYTHONPATH"] = os.pathsep.join(python_path)
        sys_path_json = json.dumps(without_current_folder())
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and text
            # -P: the text's own imports are not from the current folder either
            [sys.executable, "-P", "-c", _BOOT, sys_path_json],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **environment},
        )

    @property
    def alive(self) -> bool:
        """Whether another call can be made."""
        return not self._expired and self._process.poll() is None

    def wait_until_ready(self) -> None:
        """Wait until everything slow has been imported; FewshotError if the process ends."""
        memory = round(self._limits.memory * 2**30)
        setup = {"seconds": self._limits.seconds, "clock": self._wall_seconds, "memory": memory}
        if self._exchange(setup, _STARTUP_SECONDS) is None:
            code = self._kill_and_wait()
            raise FewshotError(
                f"a decoding process could not be started (exit status {code}): "
                f"check that {sys.executable} -P -c 'import av, numpy, PIL' works"
            )

    def run(self, job: Job) -> Any:  # noqa: ANN401 - whatever the function returns
        """Make one call; errors, whether of the clip or another, are returned and not raised."""
        self.calls_made += 1
        call = {"function": job.function, "arguments": job.arguments}
        answer = self._exchange(call, self._wall_seconds)
        if answer is None:
            return VideoUnreadable(job.path, self._exit_reason(self._kill_and_wait()))
        if "unreadable" in answer:
            error = VideoUnreadable(job.path, answer["unreadable"])
            if answer["missing"]:
                error.__cause__ = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            return error
        if "away" in answer:
            return ClipDiskError(answer["away"])
        return FewshotError(answer["failed"]) if "failed" in answer else answer["value"]

    def kill(self) -> None:
        """End the process at once, from any thread."""
        with contextlib.suppress(OSError):
            self._process.kill()

    def close(self) -> None:
        """Let the process exit, and kill it if it does not."""
        stdin, stdout = self._process.stdin, self._process.stdout
        with contextlib.suppress(OSError):
            if stdin:
                stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=2.0)
        self._kill_and_wait()
        if stdout:
            stdout.close()

    def _exchange(self, message: dict[str, Any], seconds: float) -> dict[str, Any] | None:
        """Send a line and wait for a line; None if the process ended instead."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            return None
        timer = threading.Timer(seconds, self._kill_on_timeout)
        timer.daemon = True
        timer.start()
        try:
            stdin.write(json.dumps(message).encode() + b"\n")
            stdin.flush()
            line = stdout.readline()
        except OSError:
            line = b""
        finally:
            timer.cancel()
        answer: dict[str, Any] | None = json.loads(line) if line.endswith(b"\n") else None
        return answer

    def _kill_on_timeout(self) -> None:
        self._expired = True
        self.kill()

    def _kill_and_wait(self) -> int:
        self.kill()
        return self._process.wait()

    def _exit_reason(self, code: int) -> str:
        advice = f"the decoder was stopped; {limit_hint('seconds')}"
        if hasattr(signal, "SIGPROF") and code == -signal.SIGPROF:
            return f"took more than {self._limits.seconds:g} s of processor time: {advice}"
        if self._expired or (hasattr(signal, "SIGALRM") and code == -signal.SIGALRM):
            return f"did not finish within {self._wall_seconds:g} s: {advice}"
        self.crashed = True
        return f"the decoder crashed ({f'signal {-code}' if code < 0 else f'exit status {code}'})"


class _WorkerState:
    """State of this process; `log` stays None outside a worker."""

    log: int | None = None


def native_log_reader() -> Callable[[], int] | None:
    """Return a function that counts the bytes native code has written to standard error so far.

    Returns:
        The function; None where they cannot be watched, which is everywhere but in a worker.
    """
    log = _WorkerState.log
    return None if log is None else lambda: os.fstat(log).st_size


def serve_calls() -> None:
    """Serve calls until the caller exits."""
    calls, answers = _redirect_streams()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's business
    threading.Thread(target=_exit_with_parent, args=(os.getppid(),), daemon=True).start()
    setup = json.loads(calls.readline() or b"null")
    if setup is None:
        return
    # slow to import: done before the clock of the first clip runs
    for module in ("numpy", "PIL.Image", "av", "fewshot_i2v.data.video.reader"):
        importlib.import_module(module)
    _limit_memory(setup["memory"])
    _send_answer(answers, {"ready": True})
    for line in calls:
        _limit_time(setup["seconds"], math.ceil(setup["clock"]) + _GRACE_SECONDS)
        answer = _run_call(json.loads(line), setup["memory"])
        _limit_time(0, 0)
        _send_answer(answers, answer)
        _truncate_log()


def _redirect_streams() -> tuple[BinaryIO, BinaryIO]:
    """Take the two pipes to the caller; native code gets a log and an empty input instead."""
    calls = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    with Path(os.devnull).open("rb") as devnull:
        os.dup2(devnull.fileno(), 0)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    _WorkerState.log = 2
    return calls, answers


def _exit_with_parent(parent_pid: int) -> None:
    while os.getppid() == parent_pid:
        time.sleep(0.5)
    os._exit(1)


def _limit_memory(size: int) -> None:
    """Limit the address space to bytes, 0 for no limit, and disable core files; not on Windows."""
    with contextlib.suppress(ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        hard_limit = resource.getrlimit(resource.RLIMIT_AS)[1]
        if size and (hard_limit == resource.RLIM_INFINITY or size < hard_limit):
            # some systems (macOS) know the limit but do not let it be set
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_AS, (size, hard_limit))


def _limit_time(cpu_seconds: float, wall_seconds: int) -> None:
    """Have the kernel end this process after so much processor time or wall-clock time."""
    if hasattr(signal, "alarm"):
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
        signal.alarm(wall_seconds)


def _run_call(call: dict[str, Any], memory: int) -> dict[str, Any]:
    try:
        return {"value": _call(call["function"], call["arguments"])}
    except VideoUnreadable as error:
        return {"unreadable": error.reason, "missing": was_missing(error)}
    except ClipDiskError as error:
        return {"away": str(error)}
    except FewshotError as error:
        return {"failed": str(error)}
    except MemoryError:
        limit = f"the limit of {memory / 2**30:.3g} GiB"
        reason = f"needs more memory to decode than {limit}; {limit_hint('memory')}"
        return {"unreadable": reason, "missing": False}
    except Exception as error:  # noqa: BLE001 - one clip must not end the run, whatever it raises
        reason = f"the decoder failed: {type(error).__name__}: {error}"
        return {"unreadable": reason, "missing": False}


def _call(function: str, arguments: Sequence[Any]) -> Any:  # noqa: ANN401 - of any function
    """Calls a function by its name; a clip is not blamed for a disk that does not answer."""
    try:
        return pkgutil.resolve_name(function)(*arguments)
    except OSError as error:
        check_disk_of(Path(str(error.filename or function)), error)
        raise


def _send_answer(answers: BinaryIO, answer: dict[str, Any]) -> None:
    try:
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()
    except BrokenPipeError:
        # the caller is gone; nobody is left to be told
        os._exit(1)


def _truncate_log() -> None:
    if _WorkerState.log is not None and os.fstat(_WorkerState.log).st_size > _LOG_LIMIT:
        sys.stderr.flush()
        os.ftruncate(_WorkerState.log, 0)
        os.lseek(_WorkerState.log, 0, os.SEEK_SET)
