"""Files that several processes fill: locked while written, so that those of killed ones go."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fewshot_i2v.utils.files import hard_link
from fewshot_i2v.utils.input_files import open_regular

_STALE_SECONDS = 24 * 3600.0


@contextmanager
def locked_temporary_file(path: Path) -> Iterator[BinaryIO]:
    """Create a new file to write to, locked; its name is removed at the end.

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


def write_shared(path: Path, data: bytes, temporary: Path, *, mode: int, replace: bool) -> bool:
    """Writes a file that other processes may write at the same time: complete or not at all.

    Args:
        path: the file.
        data: its content.
        temporary: as for `locked_temporary_file`, in the same file system.
        mode: permissions.
        replace: whether an existing file is replaced.

    Returns:
        Whether it was written; False if there is one that is not replaced.

    Raises:
        OSError: if it cannot be written.
    """
    with locked_temporary_file(temporary) as file:
        file.write(data)
        file.flush()
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


def remove_stale_files(files: Iterable[Path]) -> None:
    """Remove the temporary files of processes that were killed while writing.

    A file stays while its writer lives, whose lock the system releases with the process. Where
    there are no locks, it stays for a day.

    Args:
        files: what `locked_temporary_file` may have been called with.
    """
    for path in files:
        with contextlib.suppress(OSError), open_regular(path) as file:
            locked = _lock_file(file, wait=False)
            age = time.time() - os.fstat(file.fileno()).st_mtime
            if locked or (locked is None and age > _STALE_SECONDS):
                path.unlink()


def _lock_file(file: BinaryIO, *, wait: bool) -> bool | None:
    """Lock a file; returns whether this process has the lock, None if there are no locks."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None
    return True
