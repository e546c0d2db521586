"""One file of the clip store: an ordinary .npy file with a checksum behind it.

The checksum covers the entry's key too, so an entry that holds another clip's frames is noticed.
`numpy.load` reads these files like any other and does not see the last 32 bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from fewshot_i2v.video._durable import sync_folder

Clip = npt.NDArray[np.uint8]
"""A decoded clip, (T, H, W, 3), red-green-blue."""

_DIGEST = hashlib.sha256().digest_size


class DamagedEntryError(Exception):
    """An entry that does not hold what was once written to it."""


def write_entry(target: Path, temporary: Path, clip: Clip, key: str) -> None:
    """Write an entry so that at every moment there is either all of it or nothing.

    Args:
        target: where it is to be.
        temporary: a name in the same folder that nobody else uses.
        clip: the frames (T, H, W, 3).
        key: the name of what is in it.

    Raises:
        OSError: if it cannot be written; nothing is left behind then.
    """
    data = _header(clip.shape) + np.ascontiguousarray(clip).tobytes()
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("wb") as file:
            file.write(data + hashlib.sha256(key.encode() + data).digest())
            file.flush()
            os.fsync(file.fileno())
        # an entry is never changed in place: others may have it mapped
        temporary.chmod(0o444)
        temporary.replace(target)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(target.parent)


def open_entry(path: Path, shape: tuple[int, ...], key: str, *, verify: bool) -> Clip:
    """Map an entry into memory, read-only.

    Args:
        path: the entry.
        shape: what it must hold, (T, H, W, 3).
        key: the name of what must be in it.
        verify: whether to read all of it and check the checksum first. The size is always checked,
            since touching a mapping beyond the end of its file ends the process.

    Returns:
        The clip.

    Raises:
        DamagedEntryError: if it is not what was written for this key and shape.
        FileNotFoundError: if there is no such entry.
        OSError: if it cannot be read.
    """
    header = _header(shape)
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size != entry_size(shape):
            raise DamagedEntryError(f"{path}: its size is wrong")
        if verify:
            _verify(file, path, header, key)
        return np.memmap(file, dtype=np.uint8, mode="r", offset=len(header), shape=shape)


def entry_size(shape: tuple[int, ...]) -> int:
    """How many bytes an entry takes.

    Args:
        shape: of the clip in it.

    Returns:
        The size of the file.
    """
    return len(_header(shape)) + int(np.prod(shape)) + _DIGEST


def _verify(file: BinaryIO, path: Path, header: bytes, key: str) -> None:
    content = file.read()
    data, digest = content[:-_DIGEST], content[-_DIGEST:]
    if hashlib.sha256(key.encode() + data).digest() != digest:
        raise DamagedEntryError(f"{path}: its checksum is wrong")
    if not data.startswith(header):
        raise DamagedEntryError(f"{path}: it holds an array of another shape or type")


def _header(shape: tuple[int, ...]) -> bytes:
    text = io.BytesIO()
    description = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(text, description)
    return text.getvalue()
