"""Filling one entry of the clip store: what a worker process does."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

from fewshot_i2v.errors import FewshotError, VideoUnreadable
from fewshot_i2v.video._content import regular_file
from fewshot_i2v.video._entry import entry_size, write_entry
from fewshot_i2v.video._worker import native_log
from fewshot_i2v.video.frame_folder import identity, is_folder
from fewshot_i2v.video.reader import READER_FAMILY, DecodeOptions, decode

STORE_VERSION = "1"
"""Part of every key: raised when entries of an older program must not be used any more."""


class StoreError(FewshotError):
    """A store that cannot be written or read."""


def entry_key(path: Path, options: DecodeOptions) -> str:
    """The name under which a clip's frames are stored.

    Args:
        path: the clip; symbolic links are followed.
        options: how it is decoded.

    Returns:
        64 hexadecimal digits: SHA-256 of the clip's real path, size and time of change (of a folder
        of frames those of all pictures), the options and the versions of the reader and the store.

    Raises:
        VideoUnreadable: if there is no such file, or a folder is no clip.
    """
    parts = (
        STORE_VERSION,
        READER_FAMILY,
        options.key(),
        *_state(path),
        os.path.realpath(path),
    )
    return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()


def _state(path: Path) -> tuple[str, ...]:
    if is_folder(path):
        return (identity(path).digest,)
    status = regular_file(path)
    return (str(status.st_size), str(status.st_mtime_ns))


def fill(path: str, options: str, key: str, target: str, temporary: str) -> bool:
    """Decode one clip into the store; called in the worker processes.

    Args:
        path: the clip.
        options: the fields of `DecodeOptions` as a JSON object.
        key: the entry's key.
        target: the entry's file.
        temporary: a name in the same folder to write to first.

    Returns:
        Whether it was decoded; False if another process had done so meanwhile.

    Raises:
        VideoUnreadable: if the clip cannot be read, or changed while it was.
        StoreError: if the entry cannot be written.
    """
    wanted = DecodeOptions(**json.loads(options))
    if Path(target).exists():
        return False
    clip = decode(Path(path), wanted, log=native_log())
    if entry_key(Path(path), wanted) != key:
        raise VideoUnreadable(path, "changed while it was read: run again")
    try:
        write_entry(Path(target), Path(temporary), clip, key)
    except OSError as error:
        reason = error.strerror or str(error)
        advice = "check that the folder may be written to"
        if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
            size = entry_size(wanted.shape) / 2**20
            advice = f"each clip takes {size:.2g} MiB: free space, or choose a folder elsewhere"
        folder = Path(target).parent.parent
        raise StoreError(
            f"decoded clips cannot be written to {folder}: {reason}; {advice}"
        ) from error
    return True
