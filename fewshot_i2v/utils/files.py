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

_TEMPORARY_TAG = ".fewshot-i2v-"
_TEMPORARY_SUFFIX = re.compile(r"(\d+)-[0-9a-f]{8}\.tmp")
_OLD_SECONDS = 86_400.0


def temporary_path(path: Path) -> Path:
    """Returns a unique hidden path beside a file or folder, to write to first."""
    return path.with_name(f".{path.name}{_TEMPORARY_TAG}{os.getpid()}-{secrets.token_hex(4)}.tmp")


def remove_leftovers(path: Path) -> None:
    """Removes paths of `temporary_path` whose process is dead or that are a day old.

    A process of another machine seems dead here, too: one that writes the same file at the same
    time then says that it cannot.
    """
    prefix = f".{path.name}{_TEMPORARY_TAG}"
    for leftover in path.parent.glob(glob.escape(prefix) + "*"):
        match = _TEMPORARY_SUFFIX.fullmatch(leftover.name.removeprefix(prefix))
        with contextlib.suppress(OSError):
            if match and (
                _is_dead(int(match[1])) or time.time() - leftover.stat().st_mtime > _OLD_SECONDS
            ):
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def _is_dead(pid: int) -> bool:
    """Whether there is no such process; on Windows, where a check does harm, always false."""
    if os.name == "nt":
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # of another user
        return False
    return False


def sync_folder_if_possible(folder: Path) -> None:
    """Make the names in a folder durable, where the system supports it."""
    # Windows cannot open folders, and does not need it
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_atomic(
    path: Path, content: str | bytes, error_type: type[UsageError] = SplitError
) -> None:
    """Write a file atomically, text in UTF-8; missing folders are made.

    If this is interrupted, the file is the old one or the new one; when it returns, the new one is
    on the disk.

    Args:
        path: the file.
        content: its new content.
        error_type: raised when it cannot be written, as into a folder that is a file.

    Raises:
        DiskError: when the disk is full, broken or read-only.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = temporary_path(path)
    try:
        remove_leftovers(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as os_error:
        raised_type = DiskError if DiskError.is_cause_of(os_error) else error_type
        raise raised_type(f"{path}: cannot be written: {os_error.strerror}") from os_error
    finally:  # a signal may end the writing as well
        with contextlib.suppress(OSError):
            temporary.unlink()


def _sync_folder(folder: Path) -> None:
    """Flush the new name to disk; Windows does so by itself and cannot open folders."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class RecordWriteError(FewshotError):
    """A file of the run folder cannot be written, such as on a full disk.

    Args:
        path: the file.
        error: the error of the operating system.
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
    """Replaces the content of a file atomically: it is completely old or completely new.

    Args:
        path: the file; its folder must exist.
        data: the complete content.

    Raises:
        RecordWriteError: when it cannot be written; no temporary file stays then.
    """
    temporary = temporary_path(path)
    try:
        remove_leftovers(path)
        write_new_file(temporary, data)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise RecordWriteError(path, error) from error
    finally:  # a signal may end the writing as well
        with contextlib.suppress(OSError):
            temporary.unlink()


def remove_temporaries(path: Path) -> None:
    """Removes the temporary files of a killed `write_atomically` of this file."""
    remove_leftovers(path)
    for leftover in path.parent.glob(f"{path.name}.tmp-*"):  # of version 0.1
        with contextlib.suppress(OSError):
            leftover.unlink()


def write_new_file(path: Path, data: bytes, extra_flags: int = os.O_TRUNC) -> None:
    """Writes a file and brings its bytes to the disk; `extra_flags` are of `os.open`."""
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | extra_flags, 0o644)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Writes all bytes: one `os.write`, and more only after a partial one.

    Args:
        descriptor: of an open file.
        data: the bytes.
    """
    remaining = memoryview(data)
    while remaining:
        remaining = remaining[os.write(descriptor, remaining) :]
