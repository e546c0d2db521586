"""Temporary files: published complete or not at all; those of killed writers are removed."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fewshot_i2v.utils.input_files import open_regular

_STALE_SECONDS = 24 * 3600.0
# what file systems say that have no hard links (FAT, exFAT, some network drives)
_NO_LINK_ERRORS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK}


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


def publish(file: BinaryIO, path: Path, *, mode: int, replace: bool) -> bool:
    """Give a written file its final name, once all of it is on the disk.

    Args:
        file: from `locked_temporary_file`.
        path: the name, in the same file system.
        mode: permissions.
        replace: whether an existing file of that name is replaced.

    Returns:
        Whether it has the name; False if such a file existed and was not replaced.

    Raises:
        OSError: if it cannot be written.
    """
    file.flush()
    os.fsync(file.fileno())
    temporary = Path(file.name)
    temporary.chmod(mode)
    if os.name == "nt":
        # an open file cannot be renamed there, and there was no lock to keep
        file.close()
    if not replace:
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINK_ERRORS:
                raise
            # without links the last of several writers wins, should they come between these lines
            if path.exists():
                return False
        else:
            return True
    temporary.replace(path)
    return True


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
