"""Waiting for a disk that is full, read-only or away, as a shared one may be for a minute."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fewshot_i2v.errors import AWAY_ERRNOS, ClipDiskError

R = TypeVar("R")

WAIT_SECONDS = 300.0
"""How long a process of several waits for the disk that they share."""
_MAX_PAUSE = 30.0
# ENOENT: a folder that was there; its disk is away
_NAMES = ("ENOSPC", "EDQUOT", "EROFS", "EIO", "ENOENT")
_ERRNOS = AWAY_ERRNOS | {getattr(errno, name) for name in _NAMES if hasattr(errno, name)}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """Tries again, at growing intervals, what a disk refuses.

    Attributes:
        seconds: how long; 0: not at all.
    """

    seconds: float = 0.0

    def write(
        self, path: Path, write: Callable[[], R], recover: Callable[[], None] = lambda: None
    ) -> R:
        """Writes, if necessary several times.

        Args:
            path: what is written, for the log.
            write: writes; it leaves nothing half done, or `recover` mends it.
            recover: called before each further attempt; it may raise OSError as well.

        Raises:
            OSError: of the last attempt, or one that waiting does not help against.
        """
        return self._run(path, write, recover, _why_not_written)

    def read(self, path: Path, read: Callable[[], R]) -> R:
        """Reads clips, if necessary several times.

        Args:
            path: what is read, for the log.
            read: reads; it may be called again.

        Raises:
            ClipDiskError: of the last attempt.
        """
        return self._run(path, read, lambda: None, _why_not_read)

    def _run(
        self,
        path: Path,
        attempt: Callable[[], R],
        recover: Callable[[], None],
        why: Callable[[Exception], str | None],
    ) -> R:
        """Returns what an attempt returns; `why` says in words what may pass, else None."""
        start, pause, failed = time.monotonic(), 1.0, False
        while True:
            try:
                if failed:
                    recover()
                result = attempt()
            except Exception as error:
                reason, left = why(error), start + self.seconds - time.monotonic()
                if reason is None or left <= 0:
                    raise
                if not failed:
                    _log.warning("%s: %s; trying again for %.0f s", path, reason, left)
                failed = True
            else:
                if failed:
                    _log.warning("%s: goes on after %.0f s", path, time.monotonic() - start)
                return result
            time.sleep(min(pause, left))
            pause = min(2 * pause, _MAX_PAUSE)


def _why_not_written(error: Exception) -> str | None:
    is_refused = isinstance(error, OSError) and error.errno in _ERRNOS
    return getattr(error, "strerror", None) or str(error) if is_refused else None


def _why_not_read(error: Exception) -> str | None:
    return "its disk is away" if isinstance(error, ClipDiskError) else None
