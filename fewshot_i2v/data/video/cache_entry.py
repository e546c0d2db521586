"""One file of the clip cache: an ordinary .npy file followed by a checksum.

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

from fewshot_i2v.data.video.clip_digest import (
    CHANGED_WHILE_READ,
    ContentDigests,
    FileStamp,
    file_stamp,
)
from fewshot_i2v.data.video.reader import READER_FAMILY, DecodeOptions, decode
from fewshot_i2v.data.video.worker import native_log_reader
from fewshot_i2v.errors import FewshotError, VideoUnreadable
from fewshot_i2v.utils.files import sync_folder
from fewshot_i2v.utils.input_files import open_regular
from fewshot_i2v.utils.locked_files import write_shared

ClipArray = npt.NDArray[np.uint8]
"""A decoded clip, (T, H, W, 3), red-green-blue."""

_DIGEST_BYTES = hashlib.sha256().digest_size


class DamagedEntryError(Exception):
    """An entry whose content is not what was written to it."""


def write_entry(target: Path, temporary: Path, clip: ClipArray, key: str) -> None:
    """Write an entry atomically: at every moment the file is complete or absent.

    Args:
        target: path of the entry.
        temporary: a name in the same file system that nobody else uses.
        clip: the frames (T, H, W, 3).
        key: the name of the content.

    Raises:
        OSError: if it cannot be written; nothing is left behind then.
    """
    data = _npy_header(clip.shape) + np.ascontiguousarray(clip).tobytes()
    target.parent.mkdir(parents=True, exist_ok=True)
    data += hashlib.sha256(key.encode() + data).digest()
    write_shared(target, data, temporary, mode=0o444, replace=True)
    sync_folder(target.parent, ignore_errors=True)


def read_entry(
    path: Path, shape: tuple[int, ...], key: str, verified_stamp: FileStamp | None
) -> tuple[ClipArray, FileStamp]:
    """Read an entry into memory and check it.

    It is never mapped: shortening a mapped file ends the processes that read it.

    Args:
        path: the entry.
        shape: the shape it must have, (T, H, W, 3).
        key: the name of the content it must have.
        verified_stamp: the file stamp of this entry when its checksum was last verified; the
            checksum is verified again unless nothing was written since. None: always.

    Returns:
        The clip, read-only, and the file stamp of the entry.

    Raises:
        DamagedEntryError: if it is not what was written for this key and shape.
        FileNotFoundError: if there is no such entry.
        OSError: if it cannot be read.
    """
    header = _npy_header(shape)
    with open_regular(path) as file:
        status = os.fstat(file.fileno())
        if status.st_size != entry_size(shape):
            raise DamagedEntryError(f"{path}: its size is wrong")
        content = file.read(entry_size(shape))
    stamp = file_stamp(path, status)
    if len(content) != entry_size(shape):
        raise DamagedEntryError(f"{path}: it was cut off while it was read")
    if verified_stamp is None or not verified_stamp.settled or verified_stamp.token != stamp.token:
        _verify_checksum(content, path, header, key)
    clip = np.frombuffer(content, np.uint8, int(np.prod(shape)), len(header))
    return clip.reshape(shape), stamp


def entry_size(shape: tuple[int, ...]) -> int:
    """Return the size of an entry's file in bytes.

    Args:
        shape: of the clip in it.
    """
    return len(_npy_header(shape)) + int(np.prod(shape)) + _DIGEST_BYTES


def _verify_checksum(content: bytes, path: Path, header: bytes, key: str) -> None:
    digest = hashlib.sha256(key.encode())
    digest.update(memoryview(content)[:-_DIGEST_BYTES])
    if digest.digest() != content[-_DIGEST_BYTES:]:
        raise DamagedEntryError(f"{path}: its checksum is wrong")
    if not content.startswith(header):
        raise DamagedEntryError(f"{path}: it holds an array of another shape or type")


def _npy_header(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    description = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, description)
    return buffer.getvalue()


CACHE_VERSION = "2"
"""Part of every key: raised when entries of an older program must not be used any more."""


class ClipCacheError(FewshotError):
    """A clip cache that cannot be written or read."""


def cache_key(path: Path, options: DecodeOptions, digests: ContentDigests) -> str:
    """Return the key under which a clip's frames are cached.

    Args:
        path: the clip; symbolic links are followed.
        options: how it is decoded.
        digests: the content digests of clips; the clip is read if its digest is missing.

    Returns:
        64 hexadecimal digits: SHA-256 of the clip's content, the options and the versions of the
        reader and of the cache. A clip that is moved, copied or touched keeps its key.

    Raises:
        VideoUnreadable: if it cannot be read.
    """
    return cache_key_of_digest(digests.get(path), options)


def cache_key_of_digest(digest: str, options: DecodeOptions) -> str:
    """Return the cache key of the clip with this content digest."""
    components = (CACHE_VERSION, READER_FAMILY, options.settings_key(), digest)
    return hashlib.sha256("\0".join(components).encode()).hexdigest()


def entry_path(folder: Path, key: str) -> Path:
    """Return the path of an entry in a cache folder."""
    return folder / key[:2] / f"{key}.npy"


def decode_into_cache(
    path: str, options_json: str, cache_folder: str, temporary: str
) -> dict[str, Any]:
    """Decode one clip into the cache; called in the worker processes.

    Args:
        path: the clip.
        options_json: the fields of `DecodeOptions` as a JSON object.
        cache_folder: the folder of the cache.
        temporary: a name in that folder to write to first.

    Returns:
        `key`: the entry's; `digests`: content digests computed for the clip; `decoded`: False if
        the cache had the entry already, from a clip of the same content or another process.

    Raises:
        VideoUnreadable: if the clip cannot be read, or changed while it was read.
        ClipCacheError: if the entry cannot be written.
    """
    clip_path, decode_options, digests = (
        Path(path),
        DecodeOptions(**json.loads(options_json)),
        ContentDigests(),
    )
    key = cache_key(clip_path, decode_options, digests)
    target = entry_path(Path(cache_folder), key)
    is_missing = not target.exists()
    if is_missing:
        frames = decode(clip_path, decode_options, log=native_log_reader())
        if cache_key(clip_path, decode_options, digests) != key:
            raise VideoUnreadable(path, CHANGED_WHILE_READ)
        _write_frames(target, Path(temporary), frames, key)
    return {"key": key, "digests": digests.unsaved, "decoded": is_missing}


def _write_frames(target: Path, temporary: Path, frames: ClipArray, key: str) -> None:
    try:
        write_entry(target, temporary, frames, key)
    except OSError as error:
        reason = error.strerror or str(error)
        advice = "check that the folder may be written to"
        if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
            size = entry_size(frames.shape) / 2**20
            advice = f"each clip takes {size:.2g} MiB: free space, or choose a folder elsewhere"
        folder = Path(target).parent.parent
        raise ClipCacheError(
            f"decoded clips cannot be written to {folder}: {reason}; {advice}"
        ) from error
