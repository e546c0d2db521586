"""Filling one entry of the clip store: what a worker process does."""

from __future__ import annotations

import errno
import hashlib
import json
from pathlib import Path
from typing import Any

from fewshot_i2v.errors import FewshotError, VideoUnreadable
from fewshot_i2v.video._entry import Clip, entry_size, write_entry
from fewshot_i2v.video._identity import CHANGED, Digests
from fewshot_i2v.video._worker import native_log
from fewshot_i2v.video.reader import READER_FAMILY, DecodeOptions, decode

STORE_VERSION = "2"
"""Part of every key: raised when entries of an older program must not be used any more."""


class StoreError(FewshotError):
    """A store that cannot be written or read."""


def entry_key(path: Path, options: DecodeOptions, digests: Digests) -> str:
    """The name under which a clip's frames are stored.

    Args:
        path: the clip; symbolic links are followed.
        options: how it is decoded.
        digests: what is known of the content of clips; the clip is read if it is not.

    Returns:
        64 hexadecimal digits: SHA-256 of the clip's content, the options and the versions of the
        reader and of the store. A clip that is moved, copied or touched keeps its name.

    Raises:
        VideoUnreadable: if it cannot be read.
    """
    return key_of(digests.of(path), options)


def key_of(digest: str, options: DecodeOptions) -> str:
    """The name under which the frames of a clip with this content are stored."""
    parts = (STORE_VERSION, READER_FAMILY, options.key(), digest)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def entry_file(folder: Path, key: str) -> Path:
    """Where a store keeps an entry."""
    return folder / key[:2] / f"{key}.npy"


def fill(path: str, options: str, store: str, temporary: str) -> dict[str, Any]:
    """Decode one clip into the store; called in the worker processes.

    Args:
        path: the clip.
        options: the fields of `DecodeOptions` as a JSON object.
        store: the store's folder.
        temporary: a name in that folder to write to first.

    Returns:
        `key`: the entry's; `digests`: what was found out of the clip's content; `decoded`: False
        if the store had the entry already, from a clip of the same content or another process.

    Raises:
        VideoUnreadable: if the clip cannot be read, or changed while it was.
        StoreError: if the entry cannot be written.
    """
    clip, wanted, digests = Path(path), DecodeOptions(**json.loads(options)), Digests()
    key = entry_key(clip, wanted, digests)
    target = entry_file(Path(store), key)
    missing = not target.exists()
    if missing:
        frames = decode(clip, wanted, log=native_log())
        if entry_key(clip, wanted, digests) != key:
            raise VideoUnreadable(path, CHANGED)
        _write(target, Path(temporary), frames, key)
    return {"key": key, "digests": digests.new, "decoded": missing}


def _write(target: Path, temporary: Path, frames: Clip, key: str) -> None:
    try:
        write_entry(target, temporary, frames, key)
    except OSError as error:
        reason = error.strerror or str(error)
        advice = "check that the folder may be written to"
        if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
            size = entry_size(frames.shape) / 2**20
            advice = f"each clip takes {size:.2g} MiB: free space, or choose a folder elsewhere"
        folder = Path(target).parent.parent
        raise StoreError(
            f"decoded clips cannot be written to {folder}: {reason}; {advice}"
        ) from error
