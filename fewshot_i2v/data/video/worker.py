"""A decoding process: reads calls, one JSON line each, and answers each with one line.

It is started by `fewshot_i2v.data.video.worker_pool` with plain `subprocess`, not
`multiprocessing`: nothing is inherited by forking, and the caller's main script is not run a second
time.

A hanging decoder may hold Python's lock, so no Python code can be relied upon to end it. The
kernel ends this process when it has used its processor time. The caller kills it when it hangs
without using any; if the caller is gone, the kernel's alarm does.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

from fewshot_i2v.errors import FewshotError, VideoUnreadable
from fewshot_i2v.utils.limits import limit_hint

_LOG_LIMIT = 1 << 20
_GRACE_SECONDS = 5


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


def main() -> None:
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


def call_function(function: str, arguments: Iterable[Any]) -> Any:  # noqa: ANN401 - what it returns
    """Call the function "module:name" and return what it returns."""
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)(*arguments)


def _run_call(call: dict[str, Any], memory: int) -> dict[str, Any]:
    try:
        return {"value": call_function(call["function"], call["arguments"])}
    except VideoUnreadable as error:
        return {"unreadable": error.reason}
    except FewshotError as error:
        return {"failed": str(error)}
    except MemoryError:
        limit = f"the limit of {memory / 2**30:.3g} GiB"
        reason = f"needs more memory to decode than {limit}; {limit_hint('memory')}"
        return {"unreadable": reason}
    except Exception as error:  # noqa: BLE001 - one clip must not end the run, whatever it raises
        return {"unreadable": f"the decoder failed: {type(error).__name__}: {error}"}


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
