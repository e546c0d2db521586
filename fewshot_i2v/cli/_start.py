"""Set up the process before any slow import, and handle the signals that end it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

from fewshot_i2v.utils.garbage import postpone_garbage_collection
from fewshot_i2v.utils.search_path import without_current_folder

SIGNAL_MESSAGES = {signal.SIGINT: "interrupted"}
"""What is said of a signal; "terminated" of all others."""


class Terminated(BaseException):
    """A signal asked the process to end; like KeyboardInterrupt, no `Exception`.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def prepare_process() -> None:
    """Prepare the process: signals end it without a traceback, and its streams are open."""
    _set_handlers(_exit_on_signal)
    postpone_garbage_collection()
    sys.path[:] = without_current_folder()
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file that is opened would become it
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - stays open


@contextmanager
def signals_raise() -> Iterator[None]:
    """Within it, SIGTERM and SIGHUP raise `Terminated` and Ctrl-C raises KeyboardInterrupt.

    While a module is imported, they end the process at once.
    """
    previous_handlers = _set_handlers(_raise_on_signal)
    try:
        yield
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)


def _set_handlers(handler: Callable[[int, FrameType | None], Any]) -> dict[int, Any]:
    """Set the handler of the signals that end a process; return the previous ones.

    Ignored signals stay ignored: nohup ignores the hang-up, and a background shell Ctrl-C.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    signal_numbers = [
        getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
    ]
    handled = [
        signal_number
        for signal_number in signal_numbers
        if signal.getsignal(signal_number) is not signal.SIG_IGN
    ]
    return {signal_number: signal.signal(signal_number, handler) for signal_number in handled}


def _exit_on_signal(number: int, _frame: FrameType | None) -> NoReturn:
    """End the process when there is nothing to clean up."""
    os.write(2, f"{SIGNAL_MESSAGES.get(signal.Signals(number), 'terminated')}\n".encode())
    os._exit(128 + number)


def _raise_on_signal(number: int, frame: FrameType | None) -> NoReturn:
    while frame is not None:
        # native modules swallow what is raised while they are imported, and stay half made
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _exit_on_signal(number, frame)
        frame = frame.f_back
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)
