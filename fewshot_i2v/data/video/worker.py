"""A decoding process: takes calls, one JSON line each, and answers each with one line.

`fewshot_i2v.data.video.worker_pool` starts it with plain `subprocess`, not `multiprocessing`:
nothing is inherited by forking, and the caller's main script is not run a second time.

A hanging decoder may keep Python's lock, so nothing written in Python can be relied upon to end it.
The kernel ends this process when it has used its processor time. The caller kills it when it hangs
without using any; should the caller be gone, the kernel's alarm does.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from fewshot_i2v.errors import FewshotError, VideoUnreadable
from fewshot_i2v.utils.limits import raising

_LOG_LIMIT = 1 << 20
_GRACE = 5


class _State:
    """What this process knows of itself; `log` stays None outside a worker."""

    log: int | None = None


def native_log() -> Callable[[], int] | None:
    """How to see whether native code has complained in this process.

    Returns:
        A function giving the bytes written to standard error so far, or None where they cannot be
        watched, which is everywhere but in a worker.
    """
    log = _State.log
    return None if log is None else lambda: os.fstat(log).st_size


def main() -> None:
    """Serve calls until the caller is gone."""
    calls, answers = _take_over_streams()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's business
    threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()
    setup = json.loads(calls.readline() or b"null")
    if setup is None:
        return
    # slow to import: done before the clock of the first clip runs
    for module in ("numpy", "PIL.Image", "av", "fewshot_i2v.data.video.reader"):
        importlib.import_module(module)
    limit_memory(setup["memory"])
    _answer(answers, {"ready": True})
    for line in calls:
        _limit_time(setup["seconds"], math.ceil(setup["clock"]) + _GRACE)
        answer = _serve(json.loads(line), setup["memory"])
        _limit_time(0, 0)
        _answer(answers, answer)
        _shorten_log()


def _take_over_streams() -> tuple[BinaryIO, BinaryIO]:
    """Keep the two pipes to the caller, and give native code a log and an empty input instead."""
    calls = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    _State.log = 2
    return calls, answers


def _leave_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def limit_memory(size: int) -> None:
    """Limit the address space of this process, and let it leave no core file.

    Args:
        size: bytes; 0 sets no limit. Nothing happens on Windows, which has no such limits.
    """
    with contextlib.suppress(ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        if size and (hard == resource.RLIM_INFINITY or size < hard):
            # some systems (macOS) know the limit but do not let it be set
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_AS, (size, hard))


def _limit_time(seconds: float, clock: int) -> None:
    """Have the kernel end this process after so much processor time, and so long by the clock."""
    if hasattr(signal, "alarm"):
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.alarm(clock)


def _serve(call: dict[str, Any], memory: int) -> dict[str, Any]:
    module, _, name = call["function"].partition(":")
    try:
        return {"value": getattr(importlib.import_module(module), name)(*call["arguments"])}
    except VideoUnreadable as error:
        return {"unreadable": error.reason}
    except FewshotError as error:
        return {"failed": str(error)}
    except MemoryError:
        limit = f"the limit of {memory / 2**30:.3g} GiB"
        reason = f"needs more memory to decode than {limit}; {raising('memory')}"
        return {"unreadable": reason}
    except Exception as error:  # noqa: BLE001 - one clip must not end the run, whatever it raises
        return {"unreadable": f"the decoder failed: {type(error).__name__}: {error}"}


def _answer(answers: BinaryIO, answer: dict[str, Any]) -> None:
    try:
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()
    except BrokenPipeError:
        # the caller is gone; nobody is left to be told
        os._exit(1)


def _shorten_log() -> None:
    if _State.log is not None and os.fstat(_State.log).st_size > _LOG_LIMIT:
        sys.stderr.flush()
        os.ftruncate(_State.log, 0)
        os.lseek(_State.log, 0, os.SEEK_SET)
