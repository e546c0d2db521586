"""Writes text files whole or not at all."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path

from fewshot_i2v.errors import SplitError


def write_whole(path: Path, text: str) -> None:
    """Writes a text file in UTF-8, in folders that are made where needed.

    Whenever this is stopped, the file is the old one or the new one; when it returns, the new one
    is on the disk.

    Raises:
        SplitError: when it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise SplitError(f"{path}: cannot be written: {error.strerror}") from error


def _sync(folder: Path) -> None:
    """Brings the new name to the disk; Windows does so by itself and cannot open folders."""
    if os.name == "nt":
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
