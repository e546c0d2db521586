"""Writes files whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from fewshot_i2v._leftovers import sweep, temporary_of
from fewshot_i2v.errors import DiskError, SplitError, UsageError


def write_whole(path: Path, text: str | bytes, error: type[UsageError] = SplitError) -> None:
    """Writes a file, text in UTF-8, in folders that are made where needed.

    Whenever this is stopped, the file is the old one or the new one; when it returns, the new one
    is on the disk.

    Args:
        path: the file.
        text: what is in it.
        error: what is raised when it cannot be written, as to a folder that is none.

    Raises:
        DiskError: when the disk does not take it.
    """
    data = text.encode() if isinstance(text, str) else text
    temporary = temporary_of(path)
    try:
        sweep(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync(path.parent)
    except OSError as refusal:
        kind = DiskError if DiskError.is_behind(refusal) else error
        raise kind(f"{path}: cannot be written: {refusal.strerror}") from refusal
    finally:  # a signal may end the writing as well
        with contextlib.suppress(OSError):
            temporary.unlink()


def _sync(folder: Path) -> None:
    """Brings the new name to the disk; Windows does so by itself and cannot open folders."""
    if os.name == "nt":
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
