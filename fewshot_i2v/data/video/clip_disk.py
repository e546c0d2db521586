"""Tells a clip that cannot be read from a disk of clips that is away.

A clip that is missing or damaged fails its episodes, which are recorded. Where the disk does not
answer, every clip looks like that, and failures of a minute would stay in the records.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from fewshot_i2v.errors import AWAY_ERRNOS, DiskError

_ADVICE = "Make it available again, and run the same command again: it goes on where it stopped"


def check_disk_of(path: Path, error: BaseException) -> None:
    """Refuses to blame a clip for an error of its disk.

    An input error (EIO) is that of a single damaged file where its folder can still be listed.

    Args:
        path: the clip, or a picture of it.
        error: of the operating system, when it was read.

    Raises:
        DiskError: naming the folder whose disk is away.
    """
    code = error.errno if isinstance(error, OSError) else None
    if code in AWAY_ERRNOS or (code == errno.EIO and not _can_list(path.parent)):
        reason = os.strerror(int(code or 0))
        raise DiskError(
            f"{path}: {reason} (errno {code}): the disk of {path.parent} is away or broken. "
            f"{_ADVICE}"
        ) from error


def check_root_of_clips(root: Path) -> None:
    """Refuses to blame clips that do not exist because the folder of all clips is away.

    Raises:
        DiskError: when there is no such folder, or it is empty, as where a disk is not mounted.
    """
    try:
        with os.scandir(root) as entries:
            is_empty = next(entries, None) is None
    except OSError as error:
        problem = "is absent" if error.errno == errno.ENOENT else f"{error.strerror}"
        raise DiskError(_root_message(root, problem)) from error
    if is_empty:
        raise DiskError(_root_message(root, "is empty"))


def _root_message(root: Path, problem: str) -> str:
    return f"{root}: {problem}: no clip of the split is there; its disk may be away. {_ADVICE}"


def _can_list(folder: Path) -> bool:
    try:
        os.scandir(folder).close()
    except OSError:
        return False
    return True
