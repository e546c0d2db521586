"""The first moments of the process, before anything slow is imported, and how signals end it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

from fewshot_i2v.utils.search_path import without_current_folder

WORDS = {signal.SIGINT: "interrupted"}
"""What is said of a signal; "terminated" of all others."""


class Terminated(BaseException):
    """The process was asked to end by a signal; like KeyboardInterrupt, no `Exception`.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def start() -> None:
    """Readies the process: signals end it without a traceback, and its streams are its own."""
    _set_handlers(_leave)
    sys.path[:] = without_current_folder()
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file that is opened would become it
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - stays open


@contextmanager
def signals_raise() -> Iterator[None]:
    """Within it, SIGTERM and SIGHUP raise `Terminated` and Ctrl-C raises KeyboardInterrupt.

    While a module is imported, they end the process at once.
    """
    before = _set_handlers(_raise)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _set_handlers(handler: Callable[[int, FrameType | None], Any]) -> dict[int, Any]:
    """Sets what handles the signals that end a process; the handlers before it.

    What is ignored stays so: nohup has the hang-up ignored, and a shell Ctrl-C in the background.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    numbers = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in heard}


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    """Ends the process where it has nothing to clean up yet, or no more."""
    os.write(2, f"{WORDS.get(signal.Signals(number), 'terminated')}\n".encode())
    os._exit(128 + number)


def _raise(number: int, frame: FrameType | None) -> NoReturn:
    while frame is not None:
        # native modules swallow what is raised while they are imported, and stay half made
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _leave(number, frame)
        frame = frame.f_back
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)
