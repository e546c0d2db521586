"""One file of the clip store: an ordinary .npy file with a checksum behind it.

The checksum covers the entry's key too, so an entry that holds another clip's frames is noticed.
`numpy.load` reads these files like any other and does not see the last 32 bytes.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fewshot_i2v.data.video.clip_digest import CHANGED, Digests, Look, look_of
from fewshot_i2v.data.video.reader import READER_FAMILY, DecodeOptions, decode
from fewshot_i2v.data.video.worker import native_log
from fewshot_i2v.errors import FewshotError, VideoUnreadable
from fewshot_i2v.utils.files import sync_folder_if_possible
from fewshot_i2v.utils.input_files import open_regular
from fewshot_i2v.utils.locked_files import being_written, publish

Clip = npt.NDArray[np.uint8]
"""A decoded clip, (T, H, W, 3), red-green-blue."""

_DIGEST = hashlib.sha256().digest_size


class DamagedEntryError(Exception):
    """An entry that does not hold what was once written to it."""


def write_entry(target: Path, temporary: Path, clip: Clip, key: str) -> None:
    """Write an entry so that at every moment there is either all of it or nothing.

    Args:
        target: where it is to be.
        temporary: a name in the same file system that nobody else uses.
        clip: the frames (T, H, W, 3).
        key: the name of what is in it.

    Raises:
        OSError: if it cannot be written; nothing is left behind then.
    """
    data = _header(clip.shape) + np.ascontiguousarray(clip).tobytes()
    target.parent.mkdir(parents=True, exist_ok=True)
    with being_written(temporary) as file:
        file.write(data + hashlib.sha256(key.encode() + data).digest())
        publish(file, target, mode=0o444, replace=True)
    sync_folder_if_possible(target.parent)


def read_entry(
    path: Path, shape: tuple[int, ...], key: str, seen: Look | None
) -> tuple[Clip, Look]:
    """Read an entry into memory.

    It is never mapped: whoever shortens a mapped file ends the processes that look at it.

    Args:
        path: the entry.
        shape: what it must hold, (T, H, W, 3).
        key: the name of what must be in it.
        seen: the look of this entry when its checksum was right; the checksum is taken again unless
            nothing was written since. None: always.

    Returns:
        The clip, read-only, and the look of the entry.

    Raises:
        DamagedEntryError: if it is not what was written for this key and shape.
        FileNotFoundError: if there is no such entry.
        OSError: if it cannot be read.
    """
    header = _header(shape)
    with open_regular(path) as file:
        status = os.fstat(file.fileno())
        if status.st_size != entry_size(shape):
            raise DamagedEntryError(f"{path}: its size is wrong")
        content = file.read(entry_size(shape))
    found = look_of(path, status)
    if len(content) != entry_size(shape):
        raise DamagedEntryError(f"{path}: it was cut off while it was read")
    if seen is None or not seen.settled or seen.token != found.token:
        _verify(content, path, header, key)
    clip = np.frombuffer(content, np.uint8, int(np.prod(shape)), len(header))
    return clip.reshape(shape), found


def entry_size(shape: tuple[int, ...]) -> int:
    """How many bytes an entry takes.

    Args:
        shape: of the clip in it.

    Returns:
        The size of the file.
    """
    return len(_header(shape)) + int(np.prod(shape)) + _DIGEST


def _verify(content: bytes, path: Path, header: bytes, key: str) -> None:
    digest = hashlib.sha256(key.encode())
    digest.update(memoryview(content)[:-_DIGEST])
    if digest.digest() != content[-_DIGEST:]:
        raise DamagedEntryError(f"{path}: its checksum is wrong")
    if not content.startswith(header):
        raise DamagedEntryError(f"{path}: it holds an array of another shape or type")


def _header(shape: tuple[int, ...]) -> bytes:
    text = io.BytesIO()
    description = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(text, description)
    return text.getvalue()


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
