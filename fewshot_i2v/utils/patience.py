"""Waiting for a disk that is full, read-only or away, as a shared one may be for a minute."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fewshot_i2v.errors import AWAY_ERRNOS, ClipDiskError, RecordError

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

    def run(
        self, path: Path, attempt: Callable[[], R], recover: Callable[[], None] = lambda: None
    ) -> R:
        """Writes or reads a file, if necessary several times.

        Args:
            path: the file, for the log.
            attempt: writes or reads; it leaves nothing half done, or `recover` mends it.
            recover: called before each further attempt; it may raise OSError as well.

        Raises:
            OSError: of the last attempt, or one that waiting does not help against.
            RecordError: likewise, as raised from it.
        """
        return self._run(path, attempt, recover, _why_refused)

    def read_clips(self, path: Path, read: Callable[[], R]) -> R:
        """Reads clips, if necessary several times.

        Args:
            path: what is read, for the log.
            read: reads; it may be called again.

        Raises:
            ClipDiskError: of the last attempt.
        """
        return self._run(path, read, lambda: None, _why_away)

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


def _why_refused(error: Exception) -> str | None:
    cause = error.__cause__ if isinstance(error, RecordError) else error
    if not isinstance(cause, OSError) or cause.errno not in _ERRNOS:
        return None
    return cause.strerror or str(cause)


def _why_away(error: Exception) -> str | None:
    return "its disk is away" if isinstance(error, ClipDiskError) else None
