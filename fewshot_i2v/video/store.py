"""Decoded clips on disk: each clip is decoded once, whatever the number of episodes.

One file per clip under `<folder>/<aa>/<key>.npy`. The key covers the clip's path, size and time of
change, the options, and the version of this format, so nothing ever needs to be invalidated: a clip
that changed has another key. Entries are written whole or not at all and never changed, so several
processes, or machines with one file system, may fill one store without a lock; a clip that two of
them miss at the same moment is decoded by both, with the same result.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fewshot_i2v.errors import FewshotError, VideoUnreadable
from fewshot_i2v.video._entry import Clip, DamagedEntryError, entry_size, open_entry
from fewshot_i2v.video._fill import STORE_VERSION, StoreError, entry_key, fill
from fewshot_i2v.video.frames import check_count
from fewshot_i2v.video.pool import Job, Limits, run_jobs
from fewshot_i2v.video.reader import DecodeOptions

__all__ = ["STORE_VERSION", "ClipStore", "DecodeOptions", "StoreError"]

_FORGOTTEN = 24 * 3600.0


class ClipStore:
    """Decoded clips, memory-mapped.

    Args:
        folder: where the entries are; made when something is written.
        options: how clips are decoded. Stores with different options may share a folder.
        workers: decoding processes, at least 1; None: one per processor, at most 8. 0 decodes in
            this process, without any limit: for tests.
        limits: processor time and memory for each clip; the defaults if None.

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
    ) -> None:
        self.folder = Path(folder)
        self.options = options
        self.workers = min(_processors(), 8) if workers is None else workers
        check_count("workers", self.workers, least=0)
        self.limits = limits or Limits()
        self.decoded = 0
        self.repaired = 0
        self._known: dict[str, tuple[int, ...]] = {}
        self._swept = False

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
                key = entry_key(path, self.options)
            except VideoUnreadable as error:
                failures[path] = error
                tell(1)
                continue
            if key in missing or not self._usable(key):
                missing.setdefault(key, []).append(path)
            else:
                self._known.setdefault(key, ())
                tell(1)
        for key, result in self._decode(missing):
            same = missing[key]
            if isinstance(result, VideoUnreadable):
                failures |= {path: VideoUnreadable(path, result.reason) for path in same}
            else:
                self.decoded += bool(result)
                self._known.setdefault(key, ())
            tell(len(same))
        return failures

    def get(self, path: Path) -> Clip:
        """The frames of a prepared clip.

        Args:
            path: a clip that `prepare` was called with, in this process or another.

        Returns:
            The frames (T, size, size, 3), uint8, read-only, mapped from disk. The first time an
            entry is opened its checksum is verified; a damaged one is moved aside (`.damaged`) and
            made again.

        Raises:
            VideoUnreadable: if the clip was not prepared, has changed since, or can no longer be
                read.
            StoreError: if its entry cannot be read.
        """
        key = entry_key(path, self.options)
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

    def _target(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npy"

    def _open(self, key: str) -> Clip:
        target = self._target(key)
        try:
            found = _identity(target)
            verify = self._known.get(key) != found
            clip = open_entry(target, self.options.shape, key, verify=verify)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StoreError(f"{target} cannot be read: {error.strerror}") from error
        self._known[key] = found
        return clip

    def _usable(self, key: str) -> bool:
        """Whether there is an entry of the right size; `get` looks at the rest."""
        try:
            size = self._target(key).stat().st_size
        except OSError:
            return False
        if size != entry_size(self.options.shape):
            self._move_aside(key)
            return False
        return True

    def _move_aside(self, key: str) -> None:
        self.repaired += 1
        target = self._target(key)
        # another process may have done it already
        with contextlib.suppress(FileNotFoundError):
            target.replace(target.with_suffix(".damaged"))

    def _decode(self, missing: dict[str, list[Path]]) -> Iterator[tuple[str, Any]]:
        """Have one clip of each key decoded; gives each key with what came of it."""
        options = dataclasses.asdict(self.options)
        keys: dict[Job, str] = {}
        temporaries: dict[str, Path] = {}
        for key, paths in missing.items():
            target = self._target(key)
            temporaries[key] = target.with_name(f".{key}.{uuid.uuid4().hex}.tmp")
            given = (str(paths[0]), json.dumps(options), key, str(target), str(temporaries[key]))
            keys[Job(paths[0], f"{fill.__module__}:{fill.__name__}", given)] = key
        try:
            for job, result in run_jobs(list(keys), self.workers, self.limits):
                yield keys[job], result
                if isinstance(result, VideoUnreadable):
                    _remove(temporaries[keys[job]])
                del temporaries[keys[job]]
        except FewshotError as error:
            # from a worker only its words arrive
            raise StoreError(str(error)) from error
        finally:
            # processes that were stopped while writing clean up nothing
            for temporary in temporaries.values():
                _remove(temporary)

    def _sweep(self) -> None:
        """Remove what processes that were killed while writing have left."""
        if self._swept:
            return
        self._swept = True
        for left in self.folder.glob("??/.*.tmp"):
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > _FORGOTTEN:
                    left.unlink()


def _identity(target: Path) -> tuple[int, ...]:
    status = target.stat()
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def _remove(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.unlink()


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
