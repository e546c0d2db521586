"""One file of the clip store: an ordinary .npy file with a checksum behind it.

The checksum covers the entry's key too, so an entry that holds another clip's frames is noticed.
`numpy.load` reads these files like any other and does not see the last 32 bytes.
"""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fewshot_i2v._files import open_regular
from fewshot_i2v.video._durable import sync_folder
from fewshot_i2v.video._identity import Look, look_of
from fewshot_i2v.video._temporary import being_written, publish

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
    sync_folder(target.parent)


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
