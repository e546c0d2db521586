"""Finds files with the same bytes, without reading all files completely."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewshot_i2v.data.video.clip_digest import clip_stamp, file_stamp
from fewshot_i2v.data.video.frame_folder import is_frame_folder, list_frame_files
from fewshot_i2v.errors import UsageError, VideoUnreadable
from fewshot_i2v.utils.files import write_atomic
from fewshot_i2v.utils.input_files import open_regular, read_regular

CACHE_VERSION = 2
"""Raised when what an older program noted must not be used any more."""
_MAX_CACHE_BYTES = 256 << 20
_SAMPLE_BYTES = 4096
_BLOCK_BYTES = 1 << 20
_N_THREADS = 4


@dataclass
class ClipDigest:
    """The cached values of one clip: a file, or a folder of frames.

    Attributes:
        size: bytes.
        change_token: changes when it is written to (`fewshot_i2v.data.video.clip_digest`).
        frames: number of frames, once read to its end.
        note: a description of oddities; no problem.
        sample: digest of some of its bytes, once computed.
        digest: digest of all of them, once computed.
    """

    size: int
    change_token: str
    frames: int | None = None
    sample: str | None = None
    digest: str | None = None
    note: str = ""


class DigestCache:
    """Caches values of the files of one root, in one JSON file per root.

    Clips that could not be read are not cached: the next check tries again. A damaged cache file
    counts as empty; all its values can be computed again.

    Args:
        folder: where the cache files of all roots are.
        root: the folder of the clips.
        options: how clips are read: entries with different options are not used.
        trust: whether to use the entries of earlier checks.
    """

    def __init__(self, folder: Path, root: Path, options: str, *, trust: bool = True) -> None:
        self._real_root = os.path.realpath(root)
        key = f"{CACHE_VERSION}\0{options}\0{self._real_root}".encode(errors="surrogateescape")
        self.file = folder / f"{hashlib.sha256(key).hexdigest()}.json"
        self._entries = self._load() if trust else {}
        self._changed = False

    def refresh(self, path: Path) -> ClipDigest:
        """Return the entry of a file in its present state; a new one if it has changed.

        Raises:
            OSError: if the file's status cannot be read.
            VideoUnreadable: if a folder is no clip.
        """
        current = clip_stamp(path) if is_frame_folder(path) else file_stamp(path, path.stat())
        entry = self._entries.get(str(path))
        if entry is None or entry.change_token != current.token:
            token = current.token if current.settled else ""
            entry = self._entries[str(path)] = ClipDigest(current.size, token)
        return entry

    def entry(self, path: Path) -> ClipDigest:
        """Return the entry of a file that `refresh` was called for."""
        return self._entries[str(path)]

    def update(self, path: Path, **changes: Any) -> None:
        """Change fields of a `ClipDigest` that has an entry."""
        self._entries[str(path)] = dataclasses.replace(self._entries[str(path)], **changes)
        self._changed = True

    def save(self) -> str:
        """Write new entries, merged with those that other processes have written since.

        Returns:
            Why it could not be written, or "". That is no error: the check has its results.
        """
        if not self._changed:
            return ""
        merged = self._load() | {
            path: entry for path, entry in self._entries.items() if entry.frames or entry.sample
        }
        values = {path: list(vars(entry).values()) for path, entry in merged.items()}
        try:
            write_atomic(
                self.file, json.dumps({"root": self._real_root, "files": values}), UsageError
            )
        except UsageError as error:
            return str(error)
        self._changed = False
        return ""

    def _load(self) -> dict[str, ClipDigest]:
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            data = json.loads(read_regular(self.file, _MAX_CACHE_BYTES))
            return {path: ClipDigest(*values) for path, values in data["files"].items()}
        return {}


def find_duplicates(files: Sequence[Path], digest_cache: DigestCache) -> list[list[Path]]:
    """Find groups of files with the same bytes.

    Sizes are compared first, then, if they are equal, some bytes of each, then all.

    Args:
        files: readable files; empty ones are left out.
        digest_cache: has an entry for each; stores the digests.

    Returns:
        Groups of two or more, in the order of `files`. A file that cannot be read is in none.
    """
    groups = _split_groups([list(files)], digest_cache, "size")
    for key, digest in (("sample", _partial_digest), ("digest", _full_digest)):
        undigested = [
            file
            for group in groups
            for file in group
            if getattr(digest_cache.entry(file), key) is None
        ]
        with ThreadPoolExecutor(_N_THREADS) as executor:
            for file, value in zip(undigested, executor.map(digest, undigested), strict=True):
                if value:
                    digest_cache.update(file, **{key: value})
        groups = _split_groups(groups, digest_cache, key)
    return groups


def _split_groups(
    groups: Iterable[Sequence[Path]], digest_cache: DigestCache, key: str
) -> list[list[Path]]:
    """Divide each group by a value of its files; drop single files and those without a value."""
    result = []
    for group in groups:
        files_by_value: dict[object, list[Path]] = defaultdict(list)
        for file in group:
            files_by_value[getattr(digest_cache.entry(file), key)].append(file)
        result += [
            same_files
            for value, same_files in files_by_value.items()
            if value and len(same_files) > 1
        ]
    return result


def _partial_digest(path: Path) -> str:
    """Digest the first, middle and last bytes of a clip; of frames, those of the middle frame."""
    digest = hashlib.sha256()
    # what cannot be read is no duplicate; it is reported where the clip is read
    with contextlib.suppress(OSError, VideoUnreadable):
        clip_files = _clip_files(path)
        with open_regular(clip_files[len(clip_files) // 2]) as file:
            size = file.seek(0, os.SEEK_END)
            for start in (0, max(0, size // 2), max(0, size - _SAMPLE_BYTES)):
                file.seek(start)
                digest.update(file.read(_SAMPLE_BYTES))
            return digest.hexdigest()
    return ""


def _full_digest(path: Path) -> str:
    """Digest all bytes of a clip; of frames, in their order."""
    digest = hashlib.sha256()
    with contextlib.suppress(OSError, VideoUnreadable):
        for frame in _clip_files(path):
            with open_regular(frame) as file:
                while block := file.read(_BLOCK_BYTES):
                    digest.update(block)
        return digest.hexdigest()
    return ""


def _clip_files(path: Path) -> list[Path]:
    return list_frame_files(path) if is_frame_folder(path) else [path]
