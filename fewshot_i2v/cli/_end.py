"""End the process of a command without taking the interpreter down."""

from __future__ import annotations

import atexit
import os
import sys


class QuickEnd:
    """The end of a process after its exit functions, for a program that has its result.

    Python would then free each object and module, which for torch and matplotlib takes a tenth of
    a command's time, and the system frees the memory anyway. Made before other modules register
    exit functions, since the last one that was registered is run first.

    Attributes:
        status: the exit status; while it is None the interpreter is taken down as usual.
    """

    def __init__(self) -> None:
        self.status: int | None = None
        atexit.register(self._end)

    def _end(self) -> None:
        # profilers and tracers, started before, write their results in exit functions of their own
        if self.status is None or sys.gettrace() or sys.getprofile():
            return
        try:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
        except (OSError, ValueError):  # the interpreter knows how to end then
            return
        os._exit(self.status)
