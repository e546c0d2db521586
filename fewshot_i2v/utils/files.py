"""Writes files whole or not at all, durably, and removes what killed processes left of them."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import secrets
import shutil
import time
from pathlib import Path

from fewshot_i2v.errors import DiskError, FewshotError, SplitError, UsageError

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


def sync_folder_if_possible(folder: Path) -> None:
    """Make the names in a folder durable, where the system can."""
    # Windows cannot open folders, and does not need it
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


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


class RecordWriteError(FewshotError):
    """A file of the run folder that cannot be written, such as on a full disk.

    Args:
        path: the file.
        error: what the system said.
    """

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(
            f"{path}: cannot be written: {error.strerror or error} (errno {error.errno}). Finished "
            "episodes are kept: once the cause is gone, the same command continues after them"
        )
        self.path = path


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable (nothing to do where folders cannot be opened)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file by new content; at every moment it is either wholly old or wholly new.

    Args:
        path: the file; its folder must exist.
        data: the whole content.

    Raises:
        RecordWriteError: when it cannot be written; nothing is left behind then.
    """
    temporary = temporary_of(path)
    try:
        sweep(path)
        _write_new(temporary, data)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise RecordWriteError(path, error) from error
    finally:  # a signal may end the writing as well
        with contextlib.suppress(OSError):
            temporary.unlink()


def remove_temporaries(path: Path) -> None:
    """Remove what `write_atomically` left behind of this file when it was killed."""
    sweep(path)
    for leftover in path.parent.glob(f"{path.name}.tmp-*"):  # of version 0.1
        with contextlib.suppress(OSError):
            leftover.unlink()


def _write_new(path: Path, data: bytes, extra_flags: int = os.O_TRUNC) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | extra_flags, 0o644)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Write everything: one `write`, more only where the system took a part.

    Args:
        descriptor: of an open file.
        data: the bytes.
    """
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
