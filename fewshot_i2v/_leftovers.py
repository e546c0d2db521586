"""Files and folders in the making: what they are called, and what killed processes left of them."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import secrets
import shutil
import time
from pathlib import Path

_MARK = ".fewshot-i2v-"
_NAME = re.compile(r"(\d+)-[0-9a-f]{8}\.tmp")
_OLD_SECONDS = 86_400.0


def temporary_of(path: Path) -> Path:
    """A hidden name beside a file or folder, to write to first; nobody else has it."""
    return path.with_name(f".{path.name}{_MARK}{os.getpid()}-{secrets.token_hex(4)}.tmp")


def sweep(path: Path) -> None:
    """Removes what `temporary_of` named for a path, where its process is dead or it is a day old.

    A process of another machine seems dead here, too: one that writes the same file at the same
    time then says that it cannot.
    """
    start = f".{path.name}{_MARK}"
    for left in path.parent.glob(glob.escape(start) + "*"):
        found = _NAME.fullmatch(left.name.removeprefix(start))
        with contextlib.suppress(OSError):
            if found and (
                _dead(int(found[1])) or time.time() - left.stat().st_mtime > _OLD_SECONDS
            ):
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def _dead(process: int) -> bool:
    """Whether there is no such process; Windows cannot be asked without harm."""
    if os.name == "nt":
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # of another user
        return False
    return False
