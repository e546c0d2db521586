"""One file of the clip cache: an ordinary .npy file followed by a checksum.

The checksum covers the entry's key too, so an entry that holds another clip's frames is noticed.
`numpy.load` reads these files like any other and does not see the last 32 bytes.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fewshot_i2v.data.video.clip_digest import FileStamp, file_stamp
from fewshot_i2v.data.video.reader import READER_FAMILY, DecodeOptions
from fewshot_i2v.utils.files import sync_folder, write_shared
from fewshot_i2v.utils.input_files import open_regular

ClipArray = npt.NDArray[np.uint8]
"""A decoded clip, (T, H, W, 3), red-green-blue."""

CACHE_VERSION = "2"
"""Part of every key: raised when entries of an older program must not be used any more."""

_DIGEST_BYTES = hashlib.sha256().digest_size


class DamagedEntryError(Exception):
    """An entry whose content is not what was written to it."""


class CacheEntry:
    """The entry of one clip, which may be absent.

    Args:
        folder: of the cache.
        digest: SHA-256 of the clip's content.
        options: how the clip is decoded.

    Attributes:
        key: 64 hexadecimal digits: SHA-256 of the clip's content, the options and the versions of
            the reader and of the cache. A clip that is moved, copied or touched keeps its key.
        path: the file.
        size: bytes that the file must have.
    """

    def __init__(self, folder: Path, digest: str, options: DecodeOptions) -> None:
        components = (CACHE_VERSION, READER_FAMILY, options.settings_key(), digest)
        self.key = hashlib.sha256("\0".join(components).encode()).hexdigest()
        self.path = folder / self.key[:2] / f"{self.key}.npy"
        self._shape, self._header = options.shape, _npy_header(options.shape)
        self.size = len(self._header) + math.prod(self._shape) + _DIGEST_BYTES

    def write(self, clip: ClipArray, temporary: Path) -> None:
        """Write the entry atomically: at every moment the file is complete or absent.

        Args:
            clip: the frames (T, H, W, 3).
            temporary: a name in the same file system that nobody else uses.

        Raises:
            OSError: if it cannot be written; nothing is left behind then.
        """
        data = self._header + np.ascontiguousarray(clip).tobytes()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_shared(self.path, data + self._checksum(data), temporary, mode=0o444, replace=True)
        sync_folder(self.path.parent, ignore_errors=True)

    def read(self, verified_stamp: FileStamp | None = None) -> tuple[ClipArray, FileStamp]:
        """Read the entry into memory and check it.

        It is never mapped: shortening a mapped file ends the processes that read it.

        Args:
            verified_stamp: the file stamp when the checksum was last verified; it is verified again
                unless nothing was written since. None: always.

        Returns:
            The clip, read-only, and the file stamp of the entry.

        Raises:
            DamagedEntryError: if it is not what was written for this key and shape.
            FileNotFoundError: if there is no such entry.
            OSError: if it cannot be read.
        """
        with open_regular(self.path) as file:
            status = os.fstat(file.fileno())
            if status.st_size != self.size:
                raise DamagedEntryError(f"{self.path}: its size is wrong")
            content = file.read(self.size)
        stamp = file_stamp(self.path, status)
        if len(content) != self.size:
            raise DamagedEntryError(f"{self.path}: it was cut off while it was read")
        if (
            verified_stamp is None
            or not verified_stamp.settled
            or verified_stamp.token != stamp.token
        ):
            data = memoryview(content)[:-_DIGEST_BYTES]
            if self._checksum(data) != content[-_DIGEST_BYTES:]:
                raise DamagedEntryError(f"{self.path}: its checksum is wrong")
            if not content.startswith(self._header):
                raise DamagedEntryError(f"{self.path}: it holds an array of another shape or type")
        clip = np.frombuffer(content, np.uint8, math.prod(self._shape), len(self._header))
        return clip.reshape(self._shape), stamp

    def _checksum(self, data: bytes | memoryview) -> bytes:
        digest = hashlib.sha256(self.key.encode())
        digest.update(data)
        return digest.digest()


@cache
def _npy_header(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    description = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, description)
    return buffer.getvalue()
