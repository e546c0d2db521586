"""Threads that may wait for a camera or a network while the process ends."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

_MARK = "may wait: "


def start_waiting_thread(run: Callable[[], object], name: str) -> threading.Thread:
    """Start a thread that does not keep the process alive, see `end_process`."""
    thread = threading.Thread(target=run, name=f"{_MARK}{name}", daemon=True)
    thread.start()
    return thread


def end_process(status: int) -> None:
    """End the process at once if such a thread still waits; else return.

    A thread that wakes up in native code while the interpreter is taken down can crash it.
    """
    if any(thread.name.startswith(_MARK) for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
