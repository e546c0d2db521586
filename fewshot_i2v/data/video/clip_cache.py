"""The clip cache: each clip is decoded once, whatever the number of episodes.

One file per clip under `<folder>/<aa>/<key>.npy`. The key covers the clip's content, the options,
and the version of this format, so nothing ever needs to be invalidated: a clip that changed has a
new key, one that was moved, copied or touched has the same key. A clip that was not written to is
not read again for its key (`fewshot_i2v.video._identity`): `<folder>/digests.txt` stores it.
Entries are written atomically and never changed, so several processes, or machines with one file
system, may fill one cache without a lock; a clip that two of them miss at the same moment is
decoded by both, with the same result.
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
    CACHE_VERSION,
    ClipArray,
    ClipCacheError,
    DamagedEntryError,
    cache_key,
    cache_key_of_digest,
    decode_into_cache,
    entry_path,
    entry_size,
    read_entry,
)
from fewshot_i2v.data.video.clip_digest import ContentDigests, FileStamp
from fewshot_i2v.data.video.frame_sampling import check_count
from fewshot_i2v.data.video.reader import DecodeOptions
from fewshot_i2v.data.video.worker_pool import DecodeLimits, Job, run_jobs
from fewshot_i2v.errors import FewshotError, VideoUnreadable
from fewshot_i2v.utils.locked_files import remove_stale_files

__all__ = ["CACHE_VERSION", "ClipCache", "ClipCacheError", "DecodeOptions"]


class ClipCache:
    """Decoded clips, read from disk at each request.

    Args:
        folder: where the entries are; made when something is written.
        options: how clips are decoded. Caches with different options may share a folder.
        workers: decoding processes, at least 1; None: one per processor, at most 8. 0 decodes in
            this process, without any limit: for tests.
        limits: processor time and memory for each clip; the defaults if None.
        verify: read every clip once more, even if its digest is stored.

    Attributes:
        n_decoded: how many clips this object has decoded.
        n_repaired: how many damaged entries it has replaced.
    """

    def __init__(
        self,
        folder: Path,
        options: DecodeOptions,
        *,
        workers: int | None = None,
        limits: DecodeLimits | None = None,
        verify: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self.options = options
        self.workers = min(processor_count(), 8) if workers is None else workers
        check_count("workers", self.workers, minimum=0)
        self.limits = limits or DecodeLimits()
        self.n_decoded = 0
        self.n_repaired = 0
        self._digests = ContentDigests(self.folder, trust=not verify)
        self._stamps: dict[str, FileStamp | None] = {}
        self._cleaned_up = False

    def with_options(self, options: DecodeOptions) -> ClipCache:
        """Return a cache in the same folder for clips that are decoded with other options."""
        clone = copy.copy(self)
        clone.options, clone._stamps, clone.n_decoded, clone.n_repaired = options, {}, 0, 0
        return clone

    def prepare(
        self, paths: Sequence[Path], progress: Callable[[int], object] | None = None
    ) -> dict[Path, VideoUnreadable]:
        """Decode the clips that are not in the cache.

        Args:
            paths: the clips. A clip that is listed more than once is decoded once.
            progress: called with the number of paths that have been dealt with since the last call;
                these add up to `len(paths)`.

        Returns:
            The clips that cannot be read, in the order of `paths`, with the reasons; all others are
            ready. Failures are not stored: the next call tries again.

        Raises:
            ClipCacheError: if entries cannot be written, as on a full disk, or the decoding
                processes cannot be started.
        """
        self._remove_stale_files()
        report_progress = progress or (lambda _: None)
        failures: dict[Path, VideoUnreadable] = {}
        missing: dict[str, list[Path]] = {}
        for path in paths:
            try:
                digest = self._digests.lookup(path)
            except VideoUnreadable as error:
                failures[path] = error
                report_progress(1)
                continue
            key = digest and cache_key_of_digest(digest, self.options)
            if key and self._is_usable(key):
                self._stamps.setdefault(key)
                report_progress(1)
            else:
                missing.setdefault(os.path.realpath(path), []).append(path)
        for aliases, result in self._decode_missing(list(missing.values())):
            if isinstance(result, VideoUnreadable):
                failures |= {path: VideoUnreadable(path, result.reason) for path in aliases}
            else:
                self.n_decoded += result["decoded"]
                self._digests.add(result["digests"])
                self._stamps.setdefault(result["key"])
            report_progress(len(aliases))
        self._digests.save()
        # Workers finish in any order; a message must not depend on it.
        return {path: failures[path] for path in dict.fromkeys(paths) if path in failures}

    def get(self, path: Path) -> ClipArray:
        """Return the frames of a prepared clip.

        Args:
            path: a clip that `prepare` was called with, in this process or another.

        Returns:
            The frames (T, size, size, 3), uint8, read-only. The checksum of an entry is verified
            the first time, and after it was written to; a damaged entry is moved aside (`.damaged`)
            and made again.

        Raises:
            VideoUnreadable: if the clip was not prepared, has changed since, or can no longer be
                read.
            ClipCacheError: if its entry cannot be read.
        """
        key = cache_key(path, self.options, self._digests)
        try:
            return self._read_entry(key)
        except FileNotFoundError as error:
            if key not in self._stamps:
                reason = "is not prepared, or has changed since it was: call prepare first"
                raise VideoUnreadable(path, reason) from error
        except DamagedEntryError:
            self._move_aside(key)
        failures = self.prepare([path])
        if failures:
            raise failures[path]
        try:
            return self._read_entry(key)
        except (DamagedEntryError, OSError) as error:
            raise ClipCacheError(f"{self.folder} does not keep what is written: {error}") from error

    def digest(self, path: Path) -> str:
        """Return the SHA-256 of a clip's content; the clip is read only if it is not stored.

        Raises:
            VideoUnreadable: if it cannot be read.
        """
        return self._digests.get(path)

    def _entry_path(self, key: str) -> Path:
        return entry_path(self.folder, key)

    def _read_entry(self, key: str) -> ClipArray:
        target = self._entry_path(key)
        try:
            clip, stamp = read_entry(target, self.options.shape, key, self._stamps.get(key))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ClipCacheError(f"{target} cannot be read: {error.strerror}; delete it") from error
        self._stamps[key] = stamp
        return clip

    def _is_usable(self, key: str) -> bool:
        """Return whether there is an entry of the right size; `get` checks its content."""
        try:
            status = self._entry_path(key).stat()
        except OSError:
            return False
        if not stat.S_ISREG(status.st_mode) or status.st_size != entry_size(self.options.shape):
            self._move_aside(key)
            return False
        return True

    def _move_aside(self, key: str) -> None:
        self.n_repaired += 1
        target = self._entry_path(key)
        aside = target.with_suffix(".damaged")
        try:
            target.replace(aside)
        except OSError as error:
            if isinstance(error, FileNotFoundError):
                return  # another process moved it aside first
            raise ClipCacheError(
                f"{target} is damaged and cannot be moved to {aside}: {error.strerror}; delete both"
            ) from error

    def _decode_missing(self, missing: list[list[Path]]) -> Iterator[tuple[list[Path], Any]]:
        """Decode clips that have one or more paths; yields these paths with the result."""
        options = json.dumps(dataclasses.asdict(self.options))
        aliases_by_job: dict[Job, list[Path]] = {}
        temporaries: dict[Job, Path] = {}
        for aliases in missing:
            temporary = self.folder / f".{uuid.uuid4().hex}.tmp"
            arguments = (str(aliases[0]), options, str(self.folder), str(temporary))
            job = Job(
                aliases[0],
                f"{decode_into_cache.__module__}:{decode_into_cache.__name__}",
                arguments,
            )
            aliases_by_job[job], temporaries[job] = aliases, temporary
        try:
            for job, result in run_jobs(list(aliases_by_job), self.workers, self.limits):
                yield aliases_by_job[job], result
                temporary = temporaries.pop(job)
                if isinstance(result, VideoUnreadable):
                    _unlink_quietly(temporary)
        except FewshotError as error:
            # from a worker only its words arrive
            raise ClipCacheError(str(error)) from error
        finally:
            # processes that were stopped while writing clean up nothing
            for temporary in temporaries.values():
                _unlink_quietly(temporary)

    def _remove_stale_files(self) -> None:
        """Remove the temporary files of processes that were killed while writing."""
        if not self._cleaned_up:
            self._cleaned_up = True
            remove_stale_files([*self.folder.glob(".*.tmp"), *self.folder.glob("??/.*.tmp")])


def _unlink_quietly(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.unlink()


def processor_count() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
