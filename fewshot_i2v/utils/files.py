"""Writes files whole or not at all, durably, and removes what killed processes left of them.

Two ways: `write_atomic` and `replace_file` are for a file with one writer, whose temporary file
carries the number of its process. `write_shared` is for a file that several processes, or machines
with one file system, may write at the same time: its temporary file is locked while it is written.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fewshot_i2v.errors import DiskError, SplitError, UsageError
from fewshot_i2v.utils.input_files import open_regular

_TEMPORARY_TAG = ".fewshot-i2v-"
_TEMPORARY_SUFFIX = re.compile(r"(\d+)-([0-9a-f]{4})?[0-9a-f]{8}\.tmp")
_OLD_SECONDS = 86_400.0
# what file systems say that have no hard links (FAT, exFAT, some network drives)
_NO_LINK_ERRORS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK}


def write_atomic(
    path: Path, content: str | bytes, error_type: type[UsageError] = SplitError
) -> None:
    """Writes a file atomically and durably, text in UTF-8; missing folders are made.

    Args:
        path: the file.
        content: its new content.
        error_type: raised when it cannot be written, as into a folder that is a file.

    Raises:
        DiskError: when the disk is full, broken or read-only.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, data, mode=0o666)
        sync_folder(path.parent)
    except OSError as error:
        raised_type = DiskError if DiskError.is_cause_of(error) else error_type
        raise raised_type(f"{path}: cannot be written: {error.strerror}") from error


def replace_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replaces a file: whenever this is interrupted, it is the old one or the new one.

    The new content is on the disk when this returns; `sync_folder` makes a new name durable.

    Args:
        path: the file; its folder must exist.
        data: its new content.
        mode: permissions, which the umask restricts.

    Raises:
        OSError: when it cannot be written; no temporary file stays then.
    """
    temporary = temporary_path(path)
    try:
        remove_leftovers(path)
        write_new_file(temporary, data, mode=mode)
        temporary.replace(path)
    finally:  # a signal may end the writing as well
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_new_file(path: Path, data: bytes, *, mode: int = 0o644, sync: bool = True) -> None:
    """Creates a file and brings its bytes to the disk.

    Args:
        path: the file.
        data: its content.
        mode: permissions, which the umask restricts.
        sync: whether to wait until the bytes survive a power cut.

    Raises:
        FileExistsError: when it exists.
        OSError: when it cannot be written; a part of it may be there then.
    """
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, mode)
    try:
        write_all(descriptor, data)
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Writes all bytes to an open file: one `os.write`, and more only after a partial one."""
    remaining = memoryview(data)
    while remaining:
        remaining = remaining[os.write(descriptor, remaining) :]


def sync_file(path: Path) -> None:
    """Brings the bytes of a written file to the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path, *, ignore_errors: bool = False) -> None:
    """Makes the names in a folder durable.

    Args:
        folder: it exists.
        ignore_errors: for files that can be made again, on systems that cannot do this.
    """
    if os.name == "nt":  # it does so by itself, and cannot open folders
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        if not ignore_errors:
            raise


def temporary_path(path: Path) -> Path:
    """Returns a unique hidden path beside a file or folder, to write to first."""
    token = f"{_host_tag()}{secrets.token_hex(4)}"
    return path.with_name(f".{path.name}{_TEMPORARY_TAG}{os.getpid()}-{token}.tmp")


def _host_tag() -> str:
    """Returns four digits for this host: only here can its processes be seen to be dead."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:4]


def remove_leftovers(path: Path) -> None:
    """Removes paths of `temporary_path` of dead processes of this host, or that are a day old."""
    prefix = f".{path.name}{_TEMPORARY_TAG}"
    for leftover in path.parent.glob(glob.escape(prefix) + "*"):
        match = _TEMPORARY_SUFFIX.fullmatch(leftover.name.removeprefix(prefix))
        with contextlib.suppress(OSError):
            is_ours = match and match[2] in (None, _host_tag())  # none: of earlier versions
            if match and (
                (is_ours and is_process_dead(int(match[1])))
                or time.time() - leftover.stat().st_mtime > _OLD_SECONDS
            ):
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def is_process_dead(pid: int) -> bool:
    """Whether there is no process of this number; on Windows always false."""
    return isinstance(_signal_error(pid), ProcessLookupError | OverflowError)


def is_process_of_another_user(pid: int) -> bool:
    """Whether a process of this number exists and belongs to another user; on Windows false."""
    return isinstance(_signal_error(pid), PermissionError)


def _signal_error(pid: int) -> Exception | None:
    """Returns why a process cannot be sent a signal; None where it can, and on Windows."""
    try:
        if os.name != "nt":  # there signal 0 is not a question but a Ctrl-C
            os.kill(pid, 0)
    except (OSError, OverflowError) as error:
        return error
    return None


def hard_link(path: Path, target: Path) -> bool | None:
    """Gives a file a second name, which only one of several processes gets.

    Args:
        path: the new name.
        target: the file.

    Returns:
        Whether it was free; None where the file system has no hard links.

    Raises:
        OSError: when the link cannot be made for another reason.
    """
    try:
        path.hardlink_to(target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINK_ERRORS:
            raise
        return None
    return True


def create_file(path: Path, data: bytes) -> bool:
    """Creates a file with its content, complete or not at all.

    Args:
        path: the file; its folder must exist.
        data: its content, which is on the disk when this returns; see `sync_folder` for its name.

    Returns:
        Whether it was created: only one of several processes does so.

    Raises:
        OSError: when it cannot be written; no temporary file stays then.
    """
    temporary = temporary_path(path)
    try:
        write_new_file(temporary, data)
        is_created = hard_link(path, temporary)
        if is_created is None:
            # without links the last of several writers wins, should they come between these lines
            is_created = not path.exists()
            if is_created:
                temporary.replace(path)
        return is_created
    finally:  # a signal may end the writing as well
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextmanager
def locked_temporary_file(path: Path) -> Iterator[BinaryIO]:
    """Creates a new file to write to, locked; its name is removed at the end.

    Args:
        path: a name that nobody else uses, and that is later passed to `remove_stale_files`.

    Raises:
        OSError: if it cannot be written.
    """
    try:
        while True:
            with path.open("xb") as file:
                _lock_file(file, wait=True)
                # a sweep may have taken it before the lock
                if path.exists():
                    yield file
                    return
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def write_shared(
    path: Path, data: bytes, temporary: Path, *, mode: int, replace: bool, sync: bool = True
) -> bool:
    """Writes a file that other processes may write at the same time: complete or not at all.

    Args:
        path: the file.
        data: its content.
        temporary: as for `locked_temporary_file`, in the same file system.
        mode: permissions.
        replace: whether an existing file is replaced.
        sync: whether to wait until the bytes survive a power cut.

    Returns:
        Whether it was written; False if there is one that is not replaced.

    Raises:
        OSError: if it cannot be written.
    """
    with locked_temporary_file(temporary) as file:
        file.write(data)
        file.flush()
        if sync:
            os.fsync(file.fileno())
        temporary.chmod(mode)
        if os.name == "nt":
            # an open file cannot be renamed there, and there was no lock to keep
            file.close()
        is_written = None if replace else hard_link(path, temporary)
        if is_written is None:
            # without links the last of several writers wins, should they come between these lines
            is_written = replace or not path.exists()
            if is_written:
                temporary.replace(path)
        return is_written


@contextmanager
def file_lock(path: Path, *, shared: bool) -> Iterator[None]:
    """Waits for the lock of a file, which is made where it is missing, and holds it.

    Args:
        path: the file; it stays. One that another user has made need not be writable.
        shared: whether several processes may hold it at the same time, if all ask for that.

    Raises:
        OSError: if the file cannot be made. Where a file system has no locks, none is held.
    """
    try:
        file: BinaryIO = path.open("ab")
    except PermissionError:
        file = path.open("rb")
    with file:
        _lock_file(file, wait=True, shared=shared)
        yield


def remove_stale_files(files: Iterable[Path]) -> list[Path]:
    """Removes the temporary files of processes that were killed while writing.

    A file stays while its writer lives, whose lock the system releases with the process. Where
    there are no locks, it stays for a day.

    Args:
        files: what `locked_temporary_file` may have been called with.

    Returns:
        The files that stay.
    """
    remaining = []
    for path in files:
        try:
            with open_regular(path) as file:
                locked = _lock_file(file, wait=False)
                age = time.time() - os.fstat(file.fileno()).st_mtime
                if locked or (locked is None and age > _OLD_SECONDS):
                    path.unlink()
                else:
                    remaining.append(path)
        except FileNotFoundError:
            continue
        except OSError:
            remaining.append(path)
    return remaining


def _lock_file(file: BinaryIO, *, wait: bool, shared: bool = False) -> bool | None:
    """Locks a file; returns whether this process has the lock, None if there are no locks."""
    try:
        import fcntl

        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(file, kind | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None
    return True
