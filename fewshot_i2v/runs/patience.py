"""Waiting for a disk that is full, read-only or away, as a shared one may be for a minute."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fewshot_i2v.errors import AWAY_ERRNOS

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
        end, pause, failed = time.monotonic() + self.seconds, 1.0, False
        while True:
            try:
                if failed:
                    recover()
                return write()
            except OSError as error:
                left = end - time.monotonic()
                if error.errno not in _ERRNOS or left <= 0:
                    raise
                if not failed:
                    _log.warning(
                        "%s: %s; trying again for %.0f s", path, error.strerror or error, left
                    )
                failed = True
            time.sleep(min(pause, left))
            pause = min(2 * pause, _MAX_PAUSE)
