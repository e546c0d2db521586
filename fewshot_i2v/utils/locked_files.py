"""Files that are being written: seen whole or not at all, and swept if the writer was killed."""

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

_FORGOTTEN = 24 * 3600.0
# what file systems say that have no hard links (FAT, exFAT, some network drives)
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK}


@contextmanager
def being_written(path: Path) -> Iterator[BinaryIO]:
    """Give a new file to write to, locked; in the end the name is removed.

    Args:
        path: a name that nobody else uses, and that `sweep` will be given.

    Raises:
        OSError: if it cannot be written.
    """
    try:
        while True:
            with path.open("xb") as file:
                _lock(file, wait=True)
                # a sweep may have taken it before the lock
                if path.exists():
                    yield file
                    return
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def publish(file: BinaryIO, path: Path, *, mode: int, replace: bool) -> bool:
    """Give a file that was written a name, once all of it is on the disk.

    Args:
        file: from `being_written`.
        path: the name, in the same file system.
        mode: permissions.
        replace: whether it takes the place of a file of that name.

    Returns:
        Whether it has the name; False where there is such a file already, and it stays.

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
            if error.errno not in _NO_LINKS:
                raise
            # without links the last of several writers wins, should they come between these lines
            if path.exists():
                return False
        else:
            return True
    temporary.replace(path)
    return True


def sweep(files: Iterable[Path]) -> None:
    """Remove what processes that were killed while writing have left.

    A file is left alone while its writer lives, whose lock the system takes away with the process.
    Where there are no locks, it is left alone for a day.

    Args:
        files: what `being_written` may have been given.
    """
    for left in files:
        with contextlib.suppress(OSError), open_regular(left) as file:
            locked = _lock(file, wait=False)
            age = time.time() - os.fstat(file.fileno()).st_mtime
            if locked or (locked is None and age > _FORGOTTEN):
                left.unlink()


def _lock(file: BinaryIO, *, wait: bool) -> bool | None:
    """Whether this process has the lock now; None where the system has no locks."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None
    return True
