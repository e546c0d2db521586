"""The files of a clip cache on disk, by their names: no other file is ever taken for one."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from fewshot_i2v.utils.input_files import open_regular

DIGESTS_NAME = "digests.txt"
"""Name of the file of content digests in a clip cache."""

DAMAGED_SUFFIX = ".damaged"
"""Ending of the name of a damaged entry that was moved aside."""

FEATURES_SUFFIX = ".safetensors"
"""Ending of the name of features; decoded clips end in `.npy`."""

_MAX_HEADER_BYTES = 4096
_SUBFOLDER = re.compile(r"[0-9a-f]{2}")
_ENTRY = re.compile(r"([0-9a-f]{64})(\.npy|\.damaged|\.safetensors|\.safetensors\.damaged)")


CacheKind = Literal["decoded", "features", "generated", "checks"]
"""Decoded clips, features of clips, generated clips, results of `episodes check`."""


class CacheFile(NamedTuple):
    """A file of the cache.

    Attributes:
        path: the file.
        kind: what it is.
        size: bytes.
        last_used: when it was last used, of an entry to an hour; seconds since 1970.
        key: of an entry of the clip cache; "" of other files.
    """

    path: Path
    kind: CacheKind
    size: int
    last_used: float
    key: str = ""

    @property
    def is_damaged(self) -> bool:
        """Whether it is a damaged entry that was moved aside."""
        return self.path.suffix == DAMAGED_SUFFIX


def list_entries(folder: Path) -> Iterator[CacheFile]:
    """List the entries of the clip cache in `folder`; none where there is no such folder.

    Raises:
        OSError: when a folder cannot be listed.
    """
    for subfolder in list_names(folder, _SUBFOLDER):
        for path in list_names(subfolder, _ENTRY):
            status = regular_status(path)
            match = _ENTRY.fullmatch(path.name)
            if status is not None and match is not None:
                kind: CacheKind = "features" if match[2].startswith(FEATURES_SUFFIX) else "decoded"
                yield CacheFile(path, kind, status.st_size, status.st_mtime, match[1])


def list_names(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    """List what is in a folder under names of a pattern, sorted; nothing where there is none.

    Raises:
        OSError: when the folder cannot be listed.
    """
    try:
        return sorted(path for path in folder.iterdir() if pattern.fullmatch(path.name))
    except (FileNotFoundError, NotADirectoryError):
        return []


def regular_status(path: Path) -> os.stat_result | None:
    """Return the status of a regular file; None for links, for folders and where it is gone."""
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def entry_shape(path: Path) -> tuple[int, ...] | None:
    """Read the shape of an entry's clip, (T, H, W, 3); None where it cannot be read."""
    try:
        with open_regular(path) as file:
            if np.lib.format.read_magic(file) != (1, 0):
                return None
            shape, _, _ = np.lib.format.read_array_header_1_0(file)
    except (OSError, ValueError):
        return None
    return tuple(shape)


def features_shape(path: Path) -> tuple[int, ...] | None:
    """Read the shape of features, (T, tokens, D) or (levels, T, tokens, D); None if unreadable."""
    try:
        with open_regular(path) as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(size, _MAX_HEADER_BYTES)))
        shape = tuple(int(length) for length in header["features"]["shape"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return shape if len(shape) in (3, 4) else None
