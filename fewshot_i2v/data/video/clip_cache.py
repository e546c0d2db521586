"""Decoded clips on disk: each clip is decoded once, whatever the number of episodes.

One file per clip under `<folder>/<aa>/<key>.npy`. The key covers the clip's content, the options,
and the version of this format, so nothing ever needs to be invalidated: a clip that changed has
another key, one that was moved, copied or touched keeps its own. What was not written to since is
not read again for that (`fewshot_i2v.data.video.clip_digest`): `<folder>/digests.txt` remembers it.
Entries are written whole or not at all and never changed, so several processes, or machines with
one file system, may fill one store without a lock; a clip that two of them miss at the same moment
is decoded by both, with the same result.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import os
import stat
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fewshot_i2v.data.video.cache_entry import (
    STORE_VERSION,
    Clip,
    DamagedEntryError,
    StoreError,
    entry_file,
    entry_key,
    entry_size,
    fill,
    key_of,
    read_entry,
)
from fewshot_i2v.data.video.clip_digest import Digests, Look
from fewshot_i2v.data.video.frame_sampling import check_count
from fewshot_i2v.data.video.reader import DecodeOptions
from fewshot_i2v.data.video.worker_pool import Job, Limits, run_jobs
from fewshot_i2v.errors import FewshotError, VideoUnreadable
from fewshot_i2v.utils.locked_files import sweep

__all__ = ["STORE_VERSION", "ClipStore", "DecodeOptions", "StoreError"]


class ClipStore:
    """Decoded clips, read from disk each time they are asked for.

    Args:
        folder: where the entries are; made when something is written.
        options: how clips are decoded. Stores with different options may share a folder.
        workers: decoding processes, at least 1; None: one per processor, at most 8. 0 decodes in
            this process, without any limit: for tests.
        limits: processor time and memory for each clip; the defaults if None.
        verify: read every clip once more, whatever the store remembers of its content.

    Attributes:
        decoded: how many clips this object has had decoded.
        repaired: how many damaged entries it has found and had made again.
    """

    def __init__(
        self,
        folder: Path,
        options: DecodeOptions,
        *,
        workers: int | None = None,
        limits: Limits | None = None,
        verify: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self.options = options
        self.workers = min(_processors(), 8) if workers is None else workers
        check_count("workers", self.workers, least=0)
        self.limits = limits or Limits()
        self.decoded = 0
        self.repaired = 0
        self._digests = Digests(self.folder, trust=not verify)
        self._known: dict[str, Look | None] = {}
        self._swept = False

    def with_options(self, options: DecodeOptions) -> ClipStore:
        """A store like this one for clips that are decoded with other options."""
        other = copy.copy(self)
        other.options, other._known, other.decoded, other.repaired = options, {}, 0, 0
        return other

    def prepare(
        self, paths: Sequence[Path], progress: Callable[[int], object] | None = None
    ) -> dict[Path, VideoUnreadable]:
        """Decode what is missing.

        Args:
            paths: the clips. A clip that is there more than once is decoded once.
            progress: called with the number of paths that have been dealt with since the last call;
                these add up to `len(paths)`.

        Returns:
            The clips that cannot be read, with the reasons; all others are ready. Failures are not
            stored: the next call tries again.

        Raises:
            StoreError: if entries cannot be written, as on a full disk, or the decoding processes
                cannot be started.
        """
        self._sweep()
        tell = progress or (lambda _: None)
        failures: dict[Path, VideoUnreadable] = {}
        missing: dict[str, list[Path]] = {}
        for path in paths:
            try:
                digest = self._digests.known(path)
            except VideoUnreadable as error:
                failures[path] = error
                tell(1)
                continue
            key = digest and key_of(digest, self.options)
            if key and self._usable(key):
                self._known.setdefault(key)
                tell(1)
            else:
                missing.setdefault(os.path.realpath(path), []).append(path)
        for same, result in self._decode(list(missing.values())):
            if isinstance(result, VideoUnreadable):
                failures |= {path: VideoUnreadable(path, result.reason) for path in same}
            else:
                self.decoded += result["decoded"]
                self._digests.learn(result["digests"])
                self._known.setdefault(result["key"])
            tell(len(same))
        self._digests.save()
        return failures

    def get(self, path: Path) -> Clip:
        """The frames of a prepared clip.

        Args:
            path: a clip that `prepare` was called with, in this process or another.

        Returns:
            The frames (T, size, size, 3), uint8, read-only. The checksum of an entry is verified
            the first time, and where it was written to since; a damaged one is moved aside
            (`.damaged`) and made again.

        Raises:
            VideoUnreadable: if the clip was not prepared, has changed since, or can no longer be
                read.
            StoreError: if its entry cannot be read.
        """
        key = entry_key(path, self.options, self._digests)
        try:
            return self._open(key)
        except FileNotFoundError as error:
            if key not in self._known:
                reason = "is not prepared, or has changed since it was: call prepare first"
                raise VideoUnreadable(path, reason) from error
        except DamagedEntryError:
            self._move_aside(key)
        failures = self.prepare([path])
        if failures:
            raise failures[path]
        try:
            return self._open(key)
        except (DamagedEntryError, OSError) as error:
            raise StoreError(f"{self.folder} does not keep what is written: {error}") from error

    def digest(self, path: Path) -> str:
        """SHA-256 of a clip's content, read only if it is not remembered.

        Raises:
            VideoUnreadable: if it cannot be read.
        """
        return self._digests.of(path)

    def _target(self, key: str) -> Path:
        return entry_file(self.folder, key)

    def _open(self, key: str) -> Clip:
        target = self._target(key)
        try:
            clip, found = read_entry(target, self.options.shape, key, self._known.get(key))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StoreError(f"{target} cannot be read: {error.strerror}; delete it") from error
        self._known[key] = found
        return clip

    def _usable(self, key: str) -> bool:
        """Whether there is an entry of the right size; `get` looks at the rest."""
        try:
            status = self._target(key).stat()
        except OSError:
            return False
        if not stat.S_ISREG(status.st_mode) or status.st_size != entry_size(self.options.shape):
            self._move_aside(key)
            return False
        return True

    def _move_aside(self, key: str) -> None:
        self.repaired += 1
        target = self._target(key)
        aside = target.with_suffix(".damaged")
        try:
            target.replace(aside)
        except FileNotFoundError:
            pass  # another process may have done it already
        except OSError as error:
            raise StoreError(
                f"{target} is damaged and cannot be moved to {aside}: {error.strerror}; delete both"
            ) from error

    def _decode(self, missing: list[list[Path]]) -> Iterator[tuple[list[Path], Any]]:
        """Have clips decoded that have one or more names; gives the names with what came of it."""
        options = json.dumps(dataclasses.asdict(self.options))
        names: dict[Job, list[Path]] = {}
        temporaries: dict[Job, Path] = {}
        for same in missing:
            temporary = self.folder / f".{uuid.uuid4().hex}.tmp"
            given = (str(same[0]), options, str(self.folder), str(temporary))
            job = Job(same[0], f"{fill.__module__}:{fill.__name__}", given)
            names[job], temporaries[job] = same, temporary
        try:
            for job, result in run_jobs(list(names), self.workers, self.limits):
                yield names[job], result
                temporary = temporaries.pop(job)
                if isinstance(result, VideoUnreadable):
                    _remove(temporary)
        except FewshotError as error:
            # from a worker only its words arrive
            raise StoreError(str(error)) from error
        finally:
            # processes that were stopped while writing clean up nothing
            for temporary in temporaries.values():
                _remove(temporary)

    def _sweep(self) -> None:
        """Remove what processes that were killed while writing have left."""
        if not self._swept:
            self._swept = True
            sweep([*self.folder.glob(".*.tmp"), *self.folder.glob("??/.*.tmp")])


def _remove(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.unlink()


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
