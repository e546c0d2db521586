"""The clip cache: each clip is decoded once, whatever the number of episodes.

One file per clip under `<folder>/<aa>/<key>.npy`: an ordinary .npy file followed by a checksum,
which `numpy.load` does not see. The checksum covers the key too, so an entry that holds another
clip's frames is noticed. The key is made of the clip's content, the options, and the version of
this format, so nothing ever needs to be invalidated: a clip that changed has a new key, one that
was moved, copied or touched has the same key. A clip that was not written to is not read again for
its key: `<folder>/digests.txt` stores its digest (`fewshot_i2v.data.video.clip_digest`). Entries
are written atomically and never changed, so several processes, or machines with one file system,
may fill one cache without a lock; a clip that two of them miss at the same moment is decoded by
both, with the same result. The time of an entry is when it was last used, to an hour; those that
no running process uses may be removed (`fewshot_i2v.data.video.cache_use`).
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import errno
import hashlib
import io
import math
import os
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fewshot_i2v.data.video.cache_files import DAMAGED_SUFFIX
from fewshot_i2v.data.video.cache_use import CacheUse, SizeLimit, announce_use, mark_used
from fewshot_i2v.data.video.clip_digest import (
    CHANGED_WHILE_READ,
    ContentDigests,
    FileStamp,
    file_stamp,
)
from fewshot_i2v.data.video.clip_disk import check_disk_of
from fewshot_i2v.data.video.frame_sampling import check_count
from fewshot_i2v.data.video.reader import READER_FAMILY, DecodeOptions, decode
from fewshot_i2v.data.video.worker_pool import Job, run_jobs
from fewshot_i2v.errors import ClipDiskError, FewshotError, VideoUnreadable
from fewshot_i2v.utils.files import remove_stale_files, sync_folder, write_shared
from fewshot_i2v.utils.input_files import open_regular
from fewshot_i2v.utils.limits import DEFAULT_LIMITS, ClipLimits

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


class ClipCacheError(FewshotError):
    """A clip cache that cannot be written or read."""


class ClipCache:
    """Decoded clips, read from disk at each request.

    Args:
        folder: where the entries are; made when something is written.
        options: how clips are decoded. Caches with different options may share a folder.
        workers: as for `run_jobs`.
        limits: of each clip.
        verify: read every clip once more, even if its digest is stored.
        max_bytes: of all entries in the folder; the least recently used ones that no running
            process uses are removed when it is exceeded. None: no limit.

    Attributes:
        n_decoded: how many clips this object has decoded.
        n_repaired: how many damaged entries it has replaced.

    Raises:
        ConfigError: if the number of workers is invalid.
    """

    def __init__(
        self,
        folder: Path,
        options: DecodeOptions,
        *,
        workers: int | None = None,
        limits: ClipLimits = DEFAULT_LIMITS,
        verify: bool = False,
        max_bytes: int | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.options = options
        if workers is not None:
            check_count("workers", workers, minimum=0)
        self._workers, self.limits = workers, limits
        self.n_decoded = 0
        self.n_repaired = 0
        self._digests = ContentDigests(self.folder, trust=not verify)
        # of the entries that are ready, by key; the stamp is None until the checksum was verified
        self._stamps: dict[str, FileStamp | None] = {}
        self._cleaned_up = False
        self._use = CacheUse(self.folder)
        self._limit = None if max_bytes is None else SizeLimit(self.folder, max_bytes)

    @property
    def excess_bytes(self) -> int:
        """Bytes beyond the limit that entries in use took when they were last counted."""
        return 0 if self._limit is None else max(0, self._limit.size - self._limit.limit)

    def announce_use(self, keys: Iterable[str] = ()) -> None:
        """Let other processes know that this one uses the cache folder, and these entries."""
        self._use.add(keys)

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
            ClipDiskError: if the disk of clips or entries does not answer.
            ClipCacheError: if entries cannot be written, as on a full disk, or the decoding
                processes cannot be started.
        """
        if not self._cleaned_up:
            self._cleaned_up = True
            remove_stale_files([*self.folder.glob(".*.tmp"), *self.folder.glob("??/.*.tmp")])
        report_progress = progress or (lambda _: None)
        entries, failures = self._look_up(paths)
        report_progress(len(paths) - len(entries))
        self._use.add(entry.key for _, entry in entries if entry is not None)
        self.count_written(0)
        missing: dict[str, list[Path]] = {}
        for path, entry in entries:
            if entry is not None and self._is_usable(entry):
                self._stamps.setdefault(entry.key)
                report_progress(1)
            else:
                missing.setdefault(os.path.realpath(path), []).append(path)
        for aliases, result in self._decode_missing(missing.values()):
            if isinstance(result, VideoUnreadable):
                failures |= {path: _for_alias(path, result) for path in aliases}
            else:
                self.n_decoded += result["decoded"]
                self._digests.add(result["digests"])
                self._stamps.setdefault(result["key"])
                self.count_written(result["written"])
            report_progress(len(aliases))
        self._digests.save()
        # Workers finish in any order; a message must not depend on it.
        return {path: failures[path] for path in dict.fromkeys(paths) if path in failures}

    def _look_up(
        self, paths: Sequence[Path]
    ) -> tuple[list[tuple[Path, CacheEntry | None]], dict[Path, VideoUnreadable]]:
        """Pair each clip with its entry, None where its digest is not known; and failures."""
        entries: list[tuple[Path, CacheEntry | None]] = []
        failures: dict[Path, VideoUnreadable] = {}
        for path in paths:
            try:
                digest = self._digests.lookup(path)
            except VideoUnreadable as error:
                failures[path] = error
                continue
            entry = CacheEntry(self.folder, digest, self.options) if digest else None
            entries.append((path, entry))
        return entries, failures

    def count_written(self, size: int) -> None:
        """Keep the folder below its limit after so many bytes were written.

        Raises:
            ClipCacheError: if the folder cannot be listed or locked.
        """
        if self._limit is not None:
            try:
                self._limit.add(size)
            except OSError as error:
                check_disk_of(Path(error.filename or self.folder), error)
                raise ClipCacheError(
                    f"{error.filename or self.folder}: {error.strerror}; --cache-limit needs a "
                    "cache folder that can be written to"
                ) from error

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
            ClipDiskError: if the disk of the clip or of its entry does not answer.
            ClipCacheError: if its entry cannot be read.
        """
        entry = CacheEntry(self.folder, self._digests.get(path), self.options)
        try:
            return self._read(entry)
        except FileNotFoundError as error:
            if entry.key not in self._stamps:
                reason = "is not prepared, or has changed since it was: call prepare first"
                raise VideoUnreadable(path, reason) from error
        except DamagedEntryError:
            self._move_aside(entry)
        failures = self.prepare([path])
        if failures:
            raise failures[path]
        try:
            return self._read(entry)
        except (DamagedEntryError, OSError) as error:
            raise ClipCacheError(f"{self.folder} loses what is written: {error}") from error

    def digest(self, path: Path) -> str:
        """Return the SHA-256 of a clip's content; the clip is read only if it is not stored.

        Raises:
            VideoUnreadable: if it cannot be read.
        """
        return self._digests.get(path)

    def known_digest(self, path: Path) -> str | None:
        """Return the SHA-256 of a clip's content; None where the clip must be read for it.

        Raises:
            VideoUnreadable: if there is no such clip.
        """
        return self._digests.lookup(path)

    def save_digests(self) -> None:
        """Store the digests that were computed since they were last stored."""
        self._digests.save()

    def entry_key(self, digest: str) -> str:
        """Return the key of the entry of a clip with this digest, whether it is there or not."""
        return CacheEntry(self.folder, digest, self.options).key

    def _read(self, entry: CacheEntry) -> ClipArray:
        try:
            clip, self._stamps[entry.key] = entry.read(self._stamps.get(entry.key))
        except FileNotFoundError:
            raise
        except OSError as error:
            check_disk_of(entry.path, error)
            reason = f"cannot be read: {error.strerror}; delete it"
            raise ClipCacheError(f"{entry.path} {reason}") from error
        return clip

    def _is_usable(self, entry: CacheEntry) -> bool:
        """Return whether there is an entry of the right size; `get` checks its content."""
        try:
            status = entry.path.stat()
        except OSError:
            return False
        if stat.S_ISREG(status.st_mode) and status.st_size == entry.size:
            mark_used(entry.path, status)
            return True
        self._move_aside(entry)
        return False

    def _move_aside(self, entry: CacheEntry) -> None:
        self.n_repaired += 1
        aside = entry.path.with_suffix(DAMAGED_SUFFIX)
        try:
            entry.path.replace(aside)
        except FileNotFoundError:
            return  # another process moved it aside first
        except OSError as error:
            check_disk_of(entry.path, error)
            reason = f"is damaged and cannot be moved to {aside}: {error.strerror}; delete both"
            raise ClipCacheError(f"{entry.path} {reason}") from error

    def _decode_missing(self, missing: Iterable[list[Path]]) -> Iterator[tuple[list[Path], Any]]:
        """Decode clips that have one or more paths; yields these paths with the result."""
        function = f"{decode_into_cache.__module__}:{decode_into_cache.__name__}"
        settings = dataclasses.asdict(self.options), dataclasses.asdict(self.limits)
        folder, use_file = str(self.folder), self._use.file and str(self._use.file)
        aliases_by_path: dict[Path, list[Path]] = {}
        temporaries: dict[Path, Path] = {}
        jobs = []
        for aliases in missing:
            path = aliases[0]
            temporary = self.folder / f".{uuid.uuid4().hex}.tmp"
            jobs.append(
                Job(path, function, (str(path), *settings, folder, str(temporary), use_file))
            )
            aliases_by_path[path], temporaries[path] = aliases, temporary
        try:
            for job, result in run_jobs(jobs, self._workers, self.limits):
                yield aliases_by_path[job.path], result
                temporary = temporaries.pop(job.path)
                if isinstance(result, VideoUnreadable):
                    _unlink_quietly(temporary)
        except ClipDiskError:
            raise
        except FewshotError as error:
            # from a worker only its words arrive
            raise ClipCacheError(str(error)) from error
        finally:
            # processes that were stopped while writing clean up nothing
            for temporary in temporaries.values():
                _unlink_quietly(temporary)


def _for_alias(path: Path, error: VideoUnreadable) -> VideoUnreadable:
    """Returns the error of a clip under another path to the same file."""
    copy = VideoUnreadable(path, error.reason)
    copy.__cause__ = error.__cause__
    return copy


def _unlink_quietly(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.unlink()


def decode_into_cache(
    path: str,
    options: Mapping[str, Any],
    limits: Mapping[str, Any],
    cache_folder: str,
    temporary: str,
    use_file: str | None = None,
) -> dict[str, Any]:
    """Decode one clip into the cache; called in the worker processes.

    Args:
        path: the clip.
        options: the fields of `DecodeOptions`.
        limits: the fields of `ClipLimits`.
        cache_folder: the folder of the cache.
        temporary: a name in that folder to write to first.
        use_file: lists the entries that the calling process uses, see `CacheUse`.

    Returns:
        `key`: the entry's; `digests`: content digests computed for the clip; `decoded`: False if
        the cache had the entry already, from a clip of the same content or another process;
        `written`: bytes of the entry if it was written.

    Raises:
        VideoUnreadable: if the clip cannot be read, or changed while it was read.
        ClipCacheError: if the entry cannot be written.
    """
    clip_path, decode_options, digests = Path(path), DecodeOptions(**options), ContentDigests()
    digest = digests.get(clip_path)
    entry = CacheEntry(Path(cache_folder), digest, decode_options)
    if use_file is not None:
        with contextlib.suppress(OSError):  # writing the entry says what is wrong
            announce_use(Path(cache_folder), Path(use_file), [entry.key])
    is_missing = not entry.path.exists()
    if not is_missing:
        with contextlib.suppress(OSError):
            mark_used(entry.path, entry.path.stat())
    if is_missing:
        frames = decode(clip_path, decode_options, ClipLimits(**limits))
        if digests.get(clip_path) != digest:
            raise VideoUnreadable(path, CHANGED_WHILE_READ)
        try:
            entry.write(frames, Path(temporary))
        except OSError as error:
            check_disk_of(entry.path, error)
            reason, advice = error.strerror or str(error), _writing_advice(entry, error)
            raise ClipCacheError(
                f"decoded clips cannot be written to {cache_folder}: {reason}; {advice}"
            ) from error
    return {
        "key": entry.key,
        "digests": digests.unsaved,
        "decoded": is_missing,
        "written": entry.size * is_missing,
    }


def _writing_advice(entry: CacheEntry, error: OSError) -> str:
    """Returns what to do where an entry cannot be written."""
    folder = entry.path.parent
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        size = entry.size / 2**20
        return f"each clip takes {size:.2g} MiB: free space, or choose a folder elsewhere"
    if folder.exists() and not folder.is_dir():
        return f"{folder} is a file where a folder belongs: delete it"
    return "check that the folder may be written to"
